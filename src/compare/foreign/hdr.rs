//! HdrHistogram interval logs of other tools. The format does not say what its values count; only
//! its writer knows.
//!
//! Tags that end in `-rt`, `-st` and `-wt` are response time, service time and the wait before it,
//! as cassandra-stress and the programs that write the same log mean them. Every other tag is taken
//! for service time.

use std::collections::BTreeMap;

use hdrhistogram::Histogram;

use super::{ForeignError, ForeignResult, ForeignStream};
use crate::measure::summary::summarise;
use crate::plan::Topology;
use crate::record::{Ledger, TaggedInterval, Throughput, hlog};

const QUANTILES: [f64; 5] = [0.5, 0.9, 0.99, 0.999, 0.9999];
/// What such a record says measured it.
pub(super) const TOOL: &str = "HdrHistogram log";
const WHAT: &str = "an HdrHistogram interval log";

/// What the values of a log count.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub enum LogUnit {
    /// Nanoseconds.
    #[default]
    #[value(name = "ns")]
    Nanos,
    /// Microseconds.
    #[value(name = "us")]
    Micros,
    /// Milliseconds.
    #[value(name = "ms")]
    Millis,
}

impl LogUnit {
    fn nanos(self) -> (u64, &'static str) {
        match self {
            Self::Nanos => (1, "nanoseconds"),
            Self::Micros => (1_000, "microseconds"),
            Self::Millis => (1_000_000, "milliseconds"),
        }
    }
    fn read(word: &str) -> Option<Self> {
        match word {
            "ns" | "nanos" | "nanosecond" | "nanoseconds" => Some(Self::Nanos),
            "us" | "µs" | "usec" | "micros" | "microsecond" | "microseconds" => Some(Self::Micros),
            "ms" | "msec" | "millis" | "millisecond" | "milliseconds" => Some(Self::Millis),
            _ => None,
        }
    }
}

fn bad(problem: impl ToString) -> ForeignError {
    ForeignError::Format { what: WHAT, problem: problem.to_string() }
}

/// The unit that a comment names: `#UNITS: us`, `#[Units = microseconds]`. (line, unit).
fn stated(bytes: &[u8]) -> Result<Option<(usize, LogUnit)>, ForeignError> {
    for (line, text) in hlog::lines(bytes) {
        let Some(comment) = text.ok().and_then(|t| t.strip_prefix('#')) else { continue };
        let lower = comment.to_lowercase();
        let words = lower.split(|c: char| !c.is_alphanumeric()).filter(|w| !w.is_empty());
        let words: Vec<&str> = words.collect();
        if !matches!(words.first(), Some(&("unit" | "units"))) {
            continue;
        }
        let unit = words[1..].iter().find_map(|w| LogUnit::read(w));
        let said: String = comment.chars().take(40).collect();
        return match unit {
            Some(unit) => Ok(Some((line, unit))),
            None => {
                Err(bad(format!("line {line}: the unit in `#{}` is not known: ns, us and ms are", said.escape_debug())))
            }
        };
    }
    Ok(None)
}

/// Whether a text has something of a log; one that has nothing of it is none, rather than a damaged
/// one.
fn resembles(bytes: &[u8]) -> bool {
    hlog::lines(bytes).filter_map(|(_, t)| t.ok()).any(|t| {
        t.starts_with("\"StartTimestamp\"")
            || t.starts_with("#[Histogram log format")
            || t.starts_with("Tag=")
            || t.rsplit(',').next().is_some_and(|f| f.trim().starts_with("HIST") && t.contains(','))
    })
}

/// Where the samples of a tag go: (stream, kind of latency).
fn place(tag: &str) -> (&str, &'static str) {
    for (suffix, kind) in [("-rt", "e2e"), ("-st", "e2e.service"), ("-wt", "lag")] {
        if let Some(name) = tag.strip_suffix(suffix) {
            return (name, kind);
        }
    }
    (tag, "e2e.service")
}

pub(super) fn read(bytes: &[u8], asked: Option<LogUnit>) -> Result<ForeignResult, ForeignError> {
    if !resembles(bytes) {
        return Err(ForeignError::Unknown);
    }
    let log = hlog::read(bytes).map_err(bad)?;
    if log.is_empty() {
        return Err(bad("it has no interval"));
    }
    let stated = stated(bytes)?;
    let unit = match (asked, stated) {
        (Some(asked), Some((line, unit))) if asked != unit => {
            let (a, b) = (asked.nanos().1, unit.nanos().1);
            return Err(bad(format!("line {line} says that its values are {b}, and --log-unit says {a}")));
        }
        (asked, stated) => asked.or(stated.map(|s| s.1)),
    };
    let (factor, word) = unit.unwrap_or_default().nanos();
    let mut doubts = vec![match (stated, asked) {
        (Some(_), _) => format!("values are {word}, as a comment of the log says"),
        (None, Some(_)) => format!("values are {word}, as was said; the log does not say"),
        (None, None) => format!("values are taken for {word}: the log does not say, and --log-unit was not given"),
    }];
    let tags: std::collections::BTreeSet<&str> = log.iter().map(|i| i.tag.as_str()).collect();
    let known = tags.iter().any(|t| place(t).0.len() < t.len());
    doubts.push(match known {
        true => "tags that end in -rt, -st and -wt are taken for response time, service time and wait".into(),
        false => "what they measure is not known: taken for service latency".into(),
    });
    let mut streams: Vec<ForeignStream> = Vec::new();
    for tag in &tags {
        let (name, kind) = place(tag);
        let name = if name.is_empty() { "all" } else { name };
        let h = in_nanos(&log, tag, factor)?;
        let seconds = span(log.iter().filter(|i| i.tag == *tag));
        let summary = summarise(&h, 0, 0, 0, &QUANTILES);
        let at = streams.iter().position(|s| s.name == name).unwrap_or_else(|| {
            let (throughput, ledger) = (Throughput::default(), Ledger::default());
            streams.push(ForeignStream { name: name.into(), latency: BTreeMap::new(), throughput, ledger });
            streams.len() - 1
        });
        let stream = &mut streams[at];
        if stream.latency.insert(kind.into(), summary).is_some() {
            return Err(bad(format!("the tags `{name}` and `{name}-st` would be the same latency")));
        }
        if kind != "lag" {
            stream.throughput.delivered = if seconds > 0.0 { h.len() as f64 / seconds } else { 0.0 };
            stream.ledger.delivered = h.len();
        }
    }
    if streams.iter().any(|s| s.throughput.delivered == 0.0 && s.ledger.delivered > 0) {
        doubts.push("its intervals have no length, so no rate is known".into());
    }
    Ok(ForeignResult {
        tool: TOOL,
        system: "log".into(),
        question: "Foreign interval log".into(),
        client: super::UNKNOWN.into(),
        quantiles: QUANTILES.to_vec(),
        seconds: span(log.iter()).round(),
        payload: 0,
        topology: Topology { producers: 1, channels: 1, groups: 1, members: 1, reply: false },
        streams,
        doubts,
        overload: None,
    })
}

/// From the start of the first interval to the end of the last one, in seconds.
fn span<'a>(of: impl Iterator<Item = &'a TaggedInterval> + Clone) -> f64 {
    let first = of.clone().map(|i| i.start_s).fold(f64::INFINITY, f64::min);
    let last = of.map(|i| i.start_s + i.length_s).fold(0.0, f64::max);
    (last - first).max(0.0)
}

/// All intervals with a tag, in nanoseconds.
fn in_nanos(log: &[TaggedInterval], tag: &str, factor: u64) -> Result<Histogram<u64>, ForeignError> {
    let merged = hlog::merged(log, tag).ok_or_else(|| bad(format!("the intervals of `{tag}` do not fit together")))?;
    let mut h = Histogram::<u64>::new(3).map_err(bad)?;
    for v in merged.iter_recorded() {
        let value = v.value_iterated_to().saturating_mul(factor);
        h.record_n(value, v.count_at_value()).map_err(bad)?;
    }
    Ok(h)
}
