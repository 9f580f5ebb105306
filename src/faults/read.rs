//! Faults as they are written: read from a table or from flags, checked, printed as they are read.

use std::fmt::{self, Write as _};
use std::path::Path;

use serde_json::{Map, Value};

use super::config::*;
use crate::faults::pattern;
use crate::units::{Nanos, SECOND, Span};

/// The longest stall, service time or delay.
const LONGEST: Span = Span(3600 * SECOND);

fn wrong<T>(key: &str, message: impl Into<String>, hint: impl Into<String>) -> Result<T, FaultsError> {
    Err(FaultsError { key: key.into(), message: message.into(), hint: hint.into() })
}

impl Faults {
    /// Reads what the flags `--fault NAME=ITEM:VALUE,...` say, on top of what is there:
    /// `drop=every:7`, `stall=at:2s,for:100ms`,
    /// `service=mixture.short:1ms,mixture.long:9ms,mixture.share:0.1`, `seed=3`.
    ///
    /// # Errors
    /// When a flag does not have this form, names something unknown, or makes no sense.
    pub fn with_flags(self, flags: &[String]) -> Result<Self, FaultsError> {
        let form = "write NAME=ITEM:VALUE,ITEM:VALUE, such as drop=every:7 or stall=at:2s,for:100ms";
        let mut all = match serde_json::to_value(&self) {
            Ok(Value::Object(map)) => map,
            _ => Map::new(),
        };
        for flag in flags {
            let Some((name, value)) = flag.split_once('=') else {
                return wrong("", format!("`{flag}` is no fault"), form);
            };
            let value = match value.contains(':') {
                false => scalar(value),
                true => {
                    let mut items = Map::new();
                    for item in value.split(',') {
                        let Some((path, value)) = item.split_once(':') else {
                            return wrong(name, format!("`{item}` has no value"), form);
                        };
                        match path.split_once('.') {
                            None => items.insert(path.into(), scalar(value)),
                            Some((outer, inner)) => {
                                let nested = items.entry(outer).or_insert_with(|| Value::Object(Map::new()));
                                nested.as_object_mut().and_then(|map| map.insert(inner.into(), scalar(value)))
                            }
                        };
                    }
                    Value::Object(items)
                }
            };
            all.insert(name.into(), value);
        }
        let faults: Self = serde_json::from_value(Value::Object(all))
            .or_else(|e| wrong("", e.to_string(), "`msgbench broker --help` has examples"))?;
        faults.check()?;
        Ok(faults)
    }

    /// Reads a file: JSON when it begins with a brace, otherwise TOML; with the keys of a
    /// `[faults]` table.
    ///
    /// # Errors
    /// When it cannot be read, is neither, or makes no sense.
    pub fn read(path: &Path) -> Result<Self, FaultsError> {
        let file = path.display();
        let hint = "it has the keys of a [faults] table, as TOML or JSON";
        let text = std::fs::read_to_string(path).or_else(|e| wrong("", format!("cannot read {file}: {e}"), hint))?;
        let bad = |e: String| wrong("", format!("{file}: {}", e.trim_end()), hint);
        let faults: Self = match text.trim_start().starts_with('{') {
            true => serde_json::from_str(&text).or_else(|e| bad(e.to_string()))?,
            false => toml::from_str(&text).or_else(|e| bad(e.to_string()))?,
        };
        faults.check()?;
        Ok(faults)
    }

    /// Whether there is any fault at all.
    pub fn any(&self) -> bool {
        *self != Self { seed: self.seed, subjects: self.subjects.clone(), ..Self::default() }
    }

    /// Whether every number is within its bounds and everything belongs together.
    ///
    /// # Errors
    /// The first setting that is not, with what to write instead.
    pub fn check(&self) -> Result<(), FaultsError> {
        if let Some(subjects) = &self.subjects
            && (!pattern::valid(subjects.as_bytes()) || subjects.contains(char::is_whitespace))
        {
            return wrong(
                "subjects",
                format!("`{subjects}` matches nothing"),
                "write it like \"orders.>\" or \"a.*.b\"",
            );
        }
        if let Some(stall) = &self.stall {
            check_stall(stall)?;
        }
        for (key, law) in [("service", &self.service), ("delay", &self.delay)] {
            if let Some(law) = law {
                check_law(key, law)?;
            }
        }
        for (key, cap) in [("rate-cap", self.rate_cap), ("slow-subscriber", self.slow_subscriber)] {
            let Some(cap) = cap else { continue };
            if !(cap.rate.0 > 0.0 && cap.rate.0 <= 1e8) {
                let message = format!("{} lets nothing pass, or all", cap.rate);
                return wrong(&format!("{key}.rate"), message, "write it like \"5k/s\"");
            }
            if cap.burst == 0 {
                let hint = "write at least 1";
                return wrong(&format!("{key}.burst"), "a bucket without room gives no token", hint);
            }
        }
        let mut picks: Vec<(String, Option<HitRule>)> = self.picks().map(|(key, pick)| (key.into(), pick)).into();
        if let Some(delivery) = &self.delivery {
            if *delivery == DeliveryFaults::default() {
                return wrong("delivery", "there is no fault in it", "write one, such as drop = { every = 7 }");
            }
            picks.extend(delivery.picks().map(|(key, pick)| (format!("delivery.{key}"), pick)));
        }
        for (key, pick) in picks {
            match pick {
                Some(HitRule::Every(0)) => {
                    return wrong(&format!("{key}.every"), "every 0th is none", "write 1 for all, 2 for half");
                }
                Some(HitRule::Probability(p)) => check_share(&format!("{key}.probability"), p)?,
                Some(HitRule::Every(_)) | None => {}
            }
        }
        let after = [
            ("disconnect", self.disconnect.map(|d| d.after)),
            ("half-open", self.half_open.map(|d| d.after)),
            ("stop-reading", self.stop_reading.map(|s| s.after)),
        ];
        if let Some((key, _)) = after.iter().find(|(_, after)| *after == Some(0)) {
            return wrong(&format!("{key}.after"), "messages are numbered from 1", "write at least 1");
        }
        if let Some(stop) = &self.stop_reading {
            check_span("stop-reading.for", stop.length)?;
        }
        if let Some(refuse) = &self.refuse {
            check_span("refuse.for", refuse.length)?;
        }
        Ok(())
    }

    fn picks(&self) -> [(&'static str, Option<HitRule>); 4] {
        [("drop", self.drop), ("duplicate", self.duplicate), ("swap", self.swap), ("corrupt", self.corrupt)]
    }
}

fn check_stall(stall: &Stall) -> Result<(), FaultsError> {
    check_span("stall.for", stall.length)?;
    let times = [("stall.at", stall.at), ("stall.every", stall.every), ("stall.mean-gap", stall.mean_gap)];
    let given: Vec<_> = times.iter().filter_map(|(key, span)| Some((*key, (*span)?))).collect();
    let [(key, span)] = given[..] else {
        let hint = "write exactly one of `at`, `every` and `mean-gap`";
        return wrong("stall", "it does not say when to stall", hint);
    };
    if key != "stall.at" {
        check_span(key, span)?;
    }
    if key == "stall.every" && span <= stall.length {
        return wrong(key, format!("a stall of {} never ends", stall.length), "make it longer than `for`");
    }
    Ok(())
}

fn check_law(key: &str, law: &DurationLaw) -> Result<(), FaultsError> {
    match law {
        DurationLaw::Fixed(span) => check_span(&format!("{key}.fixed"), *span),
        DurationLaw::Exponential(span) => check_span(&format!("{key}.exponential"), *span),
        DurationLaw::Mixture(m) => {
            check_span(&format!("{key}.mixture.long"), m.long)?;
            if m.short >= m.long {
                let hint = "make it shorter than `long`";
                return wrong(&format!("{key}.mixture.short"), format!("{} is not short", m.short), hint);
            }
            check_share(&format!("{key}.mixture.share"), m.share)
        }
    }
}

fn check_span(key: &str, span: Span) -> Result<(), FaultsError> {
    match span {
        Span(0) => wrong(key, "the duration is zero", "write a duration such as \"100ms\""),
        span if span > LONGEST => wrong(key, format!("{span} is longer than an hour"), "make it shorter"),
        _ => Ok(()),
    }
}

fn check_share(key: &str, share: f64) -> Result<(), FaultsError> {
    if share > 0.0 && share <= 1.0 {
        return Ok(());
    }
    wrong(key, format!("{share} is no share"), "write a number above 0, at most 1")
}

fn scalar(text: &str) -> Value {
    if let Ok(n) = text.parse::<u64>() {
        return n.into();
    }
    text.parse::<f64>().map_or_else(|_| text.into(), Value::from)
}

/// In one line, as it stands in results: `drop every 7; service exponential 500us; seed 1`.
impl fmt::Display for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut parts = Vec::new();
        if let Some(s) = &self.stall {
            let mut text = format!("stall for {}", s.length);
            for (word, span) in [("at", s.at), ("every", s.every), ("at random with mean gap", s.mean_gap)] {
                if let Some(span) = span {
                    let _ = write!(text, " {word} {span}");
                }
            }
            parts.push(text);
        }
        for (word, law) in [("service time", &self.service), ("delay", &self.delay)] {
            parts.extend(law.map(|law| format!("{word} {law}")));
        }
        parts.extend(self.rate_cap.map(|c| format!("at most {} (burst {})", c.rate, c.burst)));
        let picked = |word: &str, pick: HitRule| match pick {
            HitRule::Every(n) => format!("{word} every {n}"),
            HitRule::Probability(p) => format!("{word} with probability {p}"),
        };
        parts.extend(self.picks().into_iter().filter_map(|(word, pick)| Some(picked(word, pick?))));
        if let Some(delivery) = &self.delivery {
            let words = delivery.picks().into_iter();
            parts.extend(words.filter_map(|(word, pick)| Some(format!("of deliveries {}", picked(word, pick?)))));
        }
        parts.extend(
            self.slow_subscriber.map(|c| format!("the first subscriber at most {} (burst {})", c.rate, c.burst)),
        );
        let whose = |d: Disconnect| if d.who == Peer::Publisher { "its publisher" } else { "its subscribers" };
        parts.extend(self.disconnect.map(|d| format!("disconnect {} after message {}", whose(d), d.after)));
        parts.extend(self.half_open.map(|d| format!("half-open to {} after message {}", whose(d), d.after)));
        parts.extend(self.stop_reading.map(|s| format!("stop reading after message {} for {}", s.after, s.length)));
        parts.extend(self.refuse.map(|w| format!("refuse connections at {} for {}", w.at, w.length)));
        parts.push(format!("seed {}", self.seed));
        parts.extend(self.subjects.as_ref().map(|s| format!("subjects {s}")));
        f.write_str(&parts.join("; "))
    }
}

impl fmt::Display for DurationLaw {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fixed(span) => write!(f, "{span}"),
            Self::Exponential(mean) => write!(f, "exponential with mean {mean}"),
            Self::Mixture(m) => write!(f, "{} or {} ({} of messages)", m.short, m.long, m.share),
        }
    }
}

impl DurationLaw {
    /// The mean in nanoseconds.
    pub fn mean(&self) -> Nanos {
        match self {
            Self::Fixed(span) | Self::Exponential(span) => span.0,
            Self::Mixture(m) => (m.short.0 as f64 * (1.0 - m.share) + m.long.0 as f64 * m.share).round() as Nanos,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flags(flags: &[&str]) -> Result<Faults, String> {
        let flags: Vec<String> = flags.iter().map(|f| (*f).to_owned()).collect();
        Faults::default().with_flags(&flags).map_err(|e| e.to_string())
    }

    #[test]
    fn flags_a_file_and_a_table_say_the_same() {
        let typed = flags(&[
            "drop=every:7",
            "stall=at:2s,for:100ms",
            "service=mixture.short:100us,mixture.long:5ms,mixture.share:0.01",
            "rate-cap=rate:5k/s,burst:3",
            "corrupt=probability:0.5",
            "disconnect=after:9,who:subscribers",
            "half-open=after:8,who:publisher",
            "stop-reading=after:7,for:2s",
            "refuse=at:1s,for:500ms",
            "delivery=drop.every:5,swap.probability:0.1",
            "slow-subscriber=rate:100/s",
            "subjects=a.>",
            "seed=3",
        ])
        .unwrap();
        let toml = r#"
            seed = 3
            subjects = "a.>"
            drop = { every = 7 }
            stall = { at = "2s", for = "100ms" }
            service = { mixture = { short = "100us", long = "5ms", share = 0.01 } }
            rate-cap = { rate = "5k/s", burst = 3 }
            corrupt = { probability = 0.5 }
            disconnect = { after = 9, who = "subscribers" }
            half-open = { after = 8, who = "publisher" }
            stop-reading = { after = 7, for = "2s" }
            refuse = { at = "1s", for = "500ms" }
            delivery = { drop = { every = 5 }, swap = { probability = 0.1 } }
            slow-subscriber = { rate = "100/s" }
        "#;
        assert_eq!(toml::from_str::<Faults>(toml).unwrap(), typed);
        let json = serde_json::to_string(&typed).unwrap();
        let dir = tempfile::tempdir().unwrap();
        for (name, text) in [("faults.json", json.as_str()), ("faults.toml", toml)] {
            std::fs::write(dir.path().join(name), text).unwrap();
            assert_eq!(Faults::read(&dir.path().join(name)).unwrap(), typed, "{name}");
        }
        insta::assert_snapshot!(typed, @"stall for 100ms at 2s; service time 100us or 5ms (0.01 of messages); at most 5k/s (burst 3); drop every 7; corrupt with probability 0.5; of deliveries drop every 5; of deliveries swap with probability 0.1; the first subscriber at most 100/s (burst 1); disconnect its subscribers after message 9; half-open to its publisher after message 8; stop reading after message 7 for 2s; refuse connections at 1s for 500ms; seed 3; subjects a.>");
        assert!(typed.any() && !flags(&["seed=3"]).unwrap().any());
    }

    #[test]
    fn what_makes_no_sense_is_refused_with_what_would() {
        for (flag, words) in [
            ("drop", "`drop` is no fault"),
            ("drop=every:0", "drop.every"),
            ("drop=every:7,x", "`x` has no value"),
            ("drop=probability:1.5", "1.5 is no share"),
            ("dorp=every:7", "unknown field `dorp`"),
            ("stall=for:1s", "does not say when"),
            ("stall=for:1s,at:1s,every:2s", "does not say when"),
            ("stall=for:1s,every:1s", "never ends"),
            ("stall=for:1s,every:2", "2 has no unit of time"),
            ("service=fixed:0s", "zero"),
            ("service=mixture.short:2ms,mixture.long:1ms,mixture.share:0.1", "is not short"),
            ("delay=fixed:2h", "longer than an hour"),
            ("rate-cap=rate:0/s", "rate-cap.rate"),
            ("rate-cap=rate:1/s,burst:0", "rate-cap.burst"),
            ("disconnect=after:0,who:publisher", "numbered from 1"),
            ("half-open=after:0,who:publisher", "half-open.after"),
            ("stop-reading=after:1,for:0s", "stop-reading.for"),
            ("refuse=at:1s,for:0s", "refuse.for"),
            ("delivery=drop.every:0", "delivery.drop.every"),
            ("slow-subscriber=rate:0/s", "slow-subscriber.rate"),
            ("subjects=a..b", "matches nothing"),
        ] {
            let said = flags(&[flag]).unwrap_err();
            assert!(said.contains(words), "{flag}: {said}");
        }
    }
}
