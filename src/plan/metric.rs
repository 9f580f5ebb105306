//! The names of metrics: `e2e.p99`, `ack.p99.9`, `throughput.delivered`, `ledger.lost`,
//! `broker.cpu_us_per_msg`; with the workload in front where a case has several: `orders.e2e.p99`.
//!
//! A name is parsed once, so that a misspelt one is an error where it was written and not an empty
//! column later.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::outage::{OutageField, OutageMetric};
use super::problem::suggest;
use super::share::Share;
use crate::units::{Bytes, ParseError, Rate, Span};

/// The latencies that can be asked for.
const KINDS: [&str; 5] = ["e2e", "rtt", "ack", "lag", "hiccup"];
/// What stands between the latency and the statistic: the uncorrected twin, slow consumers, phases
/// around a backlog, steps of a client that connects, messages that stay at their agent.
const PARTS: [&str; 9] = [
    "service",
    "slow",
    "before-replay",
    "during-replay",
    "after-replay",
    "connected",
    "subscribed",
    "first-message",
    "same-agent",
];
const STATISTICS: [&str; 5] = ["p50", "p99", "min", "mean", "max"];
const THROUGHPUT: [&str; 5] = ["sent", "delivered", "delivered_bytes", "received", "received_bytes"];
const LEDGER: [&str; 22] = [
    "scheduled",
    "sent",
    "sent_late",
    "refused",
    "acked",
    "unanswered",
    "expected",
    "delivered",
    "lost",
    "acked_lost",
    "client_dropped",
    "duplicated",
    "reordered",
    "rejected",
    "redelivered",
    "dead_lettered",
    "superseded",
    "corrupted",
    "foreign",
    "intrusions",
    "intrusions_refused",
    "let_in",
];
const REPLAY: [&str; 3] = ["first_s", "catch_up_s", "rate"];
const KEPT: [&str; 7] = ["owed", "missing", "read", "beyond", "beyond_bytes", "reordered", "settled_s"];
const RESOURCES: [&str; 8] = [
    "cpu_us_per_msg",
    "cpu_seconds",
    "rss_peak_bytes",
    "rss_mean_bytes",
    "disk_written_bytes",
    "threads",
    "voluntary_switches",
    "involuntary_switches",
];
/// What is known of the broker besides: seconds from the start of its processes until it took
/// clients.
const START: &str = "start_s";
/// How many processes it runs in, and how many settings its first server was given in its file.
const SET_UP: [&str; 2] = ["processes", "settings"];

/// What a search finds.
const CAPACITY: &str = "capacity";

/// A statistic of a distribution.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Statistic {
    /// The quantile in (0, 1).
    Quantile(f64),
    /// The smallest.
    Min,
    /// The arithmetic mean of what arrived.
    Mean,
    /// The largest.
    Max,
}

/// What is measured.
#[derive(Debug, Clone, PartialEq)]
pub enum Quantity {
    /// A latency: `e2e`, `e2e.service`, `rtt`, `ack`, `lag`, ...
    Latency(String, Statistic),
    /// Pauses of the host.
    Hiccup(Statistic),
    /// A rate over the measured phase.
    Throughput(String),
    /// A count of the books.
    Ledger(String),
    /// How a backlog was read.
    Replay(String),
    /// What was kept when the load was over.
    Kept(String),
    /// What the faults of a trial did.
    Outage(OutageMetric),
    /// What the broker's processes used.
    Broker(String),
    /// What the generator used.
    Generator(String),
    /// What a stream processor beside the broker used.
    Application(String),
    /// The highest rate that keeps the limits of a search.
    Capacity,
}

/// A quantity, of one workload where it is named.
#[derive(Debug, Clone, PartialEq)]
pub struct Metric {
    /// The workload; the only one, or each, where absent.
    pub workload: Option<String>,
    /// What is measured.
    pub quantity: Quantity,
}

/// What a value of a metric counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    /// Nanoseconds.
    Nanos,
    /// Microseconds of CPU for each message.
    Micros,
    /// Seconds of CPU.
    Seconds,
    /// Messages per second.
    Rate,
    /// Bytes per second.
    ByteRate,
    Bytes,
    Count,
    /// A share of all.
    Share,
}

impl Unit {
    fn of_outage(field: OutageField) -> Self {
        use OutageField as F;
        match field {
            F::LateShare | F::Blast => Self::Share,
            F::CatchUpCpu => Self::Seconds,
            F::CatchUpBytes => Self::Bytes,
            F::Backlog | F::LostAcked | F::Duplicated | F::Reordered | F::Refused | F::Disconnects => Self::Count,
            _ => Self::Nanos,
        }
    }
    /// Its sign in a table or a file.
    pub fn name(self) -> &'static str {
        match self {
            Self::Nanos => "ns",
            Self::Micros => "us",
            Self::Seconds => "s",
            Self::Rate => "msg/s",
            Self::ByteRate => "B/s",
            Self::Bytes => "B",
            Self::Count | Self::Share => "",
        }
    }
    /// A value for people.
    pub fn show(self, value: f64) -> String {
        use crate::units::{count, latency, three_digits};
        match self {
            _ if value.is_nan() => "-".into(),
            _ if value.is_infinite() => "inf".into(),
            Self::Nanos => latency(value.max(0.0).round() as u64),
            Self::Micros => format!("{}us", three_digits(value)),
            Self::Seconds => format!("{}s", three_digits(value)),
            Self::Rate => format!("{}/s", count(value)),
            Self::ByteRate => format!("{}B/s", count(value)),
            Self::Bytes => format!("{}B", count(value)),
            Self::Count => count(value),
            Self::Share => format!("{} %", three_digits(100.0 * value)),
        }
    }
}

impl Quantity {
    /// What its values count.
    pub fn unit(&self) -> Unit {
        match self {
            Self::Latency(..) | Self::Hiccup(_) => Unit::Nanos,
            Self::Throughput(field) if field.ends_with("_bytes") => Unit::ByteRate,
            Self::Throughput(_) | Self::Capacity => Unit::Rate,
            Self::Ledger(_) => Unit::Count,
            Self::Replay(field) if field == "rate" => Unit::Rate,
            Self::Replay(_) => Unit::Seconds,
            Self::Kept(field) => match field.as_str() {
                "settled_s" => Unit::Seconds,
                "beyond_bytes" => Unit::Bytes,
                _ => Unit::Count,
            },
            Self::Outage(metric) => Unit::of_outage(metric.field),
            Self::Broker(field) | Self::Generator(field) | Self::Application(field) => match field.as_str() {
                "cpu_us_per_msg" => Unit::Micros,
                "cpu_seconds" | START => Unit::Seconds,
                "rss_peak_bytes" | "rss_mean_bytes" | "disk_written_bytes" => Unit::Bytes,
                _ => Unit::Count,
            },
        }
    }
    /// Whether a smaller value is the better one.
    pub fn lower_is_better(&self) -> bool {
        match self {
            Self::Throughput(_) | Self::Capacity => false,
            Self::Replay(field) => field != "rate",
            Self::Kept(field) => !matches!(field.as_str(), "owed" | "read"),
            Self::Ledger(field) => !matches!(field.as_str(), "scheduled" | "sent" | "acked" | "expected" | "delivered"),
            _ => true,
        }
    }
    pub fn quantile(&self) -> Option<f64> {
        match self {
            Self::Latency(_, Statistic::Quantile(q)) | Self::Hiccup(Statistic::Quantile(q)) => Some(*q),
            _ => None,
        }
    }
    /// A value as typed in a limit, in the unit of the metric: `5ms`, `20k/s`, `10`.
    ///
    /// # Errors
    /// What was expected instead.
    pub fn read(&self, text: &str) -> Result<f64, ParseError> {
        let plain = || {
            let number: f64 =
                text.trim().replace('_', "").parse().map_err(|_| ParseError(format!("`{text}` is not a number")))?;
            if number.is_finite() && number >= 0.0 {
                Ok(number)
            } else {
                Err(ParseError(format!("`{text}` is not a number")))
            }
        };
        match self.unit() {
            Unit::Nanos => text.parse::<Span>().map(|s| s.0 as f64),
            Unit::Rate => text.parse::<Rate>().map(|r| r.0),
            Unit::Share => text.parse::<Share>().map(|s| s.0),
            Unit::Bytes => text.parse::<Bytes>().map(|b| b.0 as f64).or_else(|_| plain()),
            _ => plain(),
        }
    }
}

/// `p99.9` for 0.999.
pub fn quantile_name(quantile: f64) -> String {
    let text = format!("{:.6}", quantile * 100.0);
    format!("p{}", text.trim_end_matches('0').trim_end_matches('.'))
}

impl fmt::Display for Statistic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Quantile(q) => f.write_str(&quantile_name(*q)),
            Self::Min => f.write_str("min"),
            Self::Mean => f.write_str("mean"),
            Self::Max => f.write_str("max"),
        }
    }
}

impl fmt::Display for Quantity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Latency(kind, statistic) => write!(f, "{kind}.{statistic}"),
            Self::Hiccup(statistic) => write!(f, "hiccup.{statistic}"),
            Self::Throughput(field) => write!(f, "throughput.{field}"),
            Self::Ledger(field) => write!(f, "ledger.{field}"),
            Self::Replay(field) => write!(f, "replay.{field}"),
            Self::Kept(field) => write!(f, "kept.{field}"),
            Self::Outage(metric) => write!(f, "outage.{metric}"),
            Self::Broker(field) => write!(f, "broker.{field}"),
            Self::Generator(field) => write!(f, "generator.{field}"),
            Self::Application(field) => write!(f, "application.{field}"),
            Self::Capacity => f.write_str(CAPACITY),
        }
    }
}

impl fmt::Display for Metric {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.workload {
            Some(workload) => write!(f, "{workload}.{}", self.quantity),
            None => self.quantity.fmt(f),
        }
    }
}

fn one_of(word: &str, valid: &[&str], what: &str) -> Result<String, ParseError> {
    if valid.contains(&word) {
        return Ok(word.into());
    }
    let hint = suggest(word, valid).unwrap_or_default();
    Err(ParseError(format!("`{word}` is not {what}: {hint}")))
}

impl FromStr for Statistic {
    type Err = ParseError;
    fn from_str(text: &str) -> Result<Self, ParseError> {
        let percent = text.strip_prefix('p').and_then(|p| p.parse::<f64>().ok());
        match (text, percent) {
            ("min", _) => Ok(Self::Min),
            ("mean", _) => Ok(Self::Mean),
            ("max", _) => Ok(Self::Max),
            // Through billionths, so that p99.9 is the double that 0.999 is.
            (_, Some(p)) if p > 0.0 && p < 100.0 => Ok(Self::Quantile((p * 1e7).round() / 1e9)),
            (_, Some(_)) => Err(ParseError(format!("`{text}` is not a percentile between p0 and p100"))),
            _ => one_of(text, &STATISTICS, "a statistic").map(|_| Self::Mean),
        }
    }
}

impl FromStr for Quantity {
    type Err = ParseError;
    fn from_str(text: &str) -> Result<Self, ParseError> {
        const FAMILIES: [&str; 14] = [
            "e2e",
            "rtt",
            "ack",
            "lag",
            "hiccup",
            "throughput",
            "ledger",
            "replay",
            "kept",
            "outage",
            "broker",
            "generator",
            "application",
            CAPACITY,
        ];
        if text == CAPACITY {
            return Ok(Self::Capacity);
        }
        let (family, rest) = text.split_once('.').unwrap_or((text, ""));
        let field = |valid: &[&str]| one_of(rest, valid, &format!("a metric of `{family}`"));
        match family {
            "throughput" => field(&THROUGHPUT).map(Self::Throughput),
            "ledger" => field(&LEDGER).map(Self::Ledger),
            "replay" => field(&REPLAY).map(Self::Replay),
            "kept" => field(&KEPT).map(Self::Kept),
            "outage" => match OutageMetric::read(rest) {
                Some(metric) => Ok(Self::Outage(metric)),
                None => field(&OutageField::ALL.map(OutageField::name)).and_then(|_| Err(ParseError(text.into()))),
            },
            "broker" if rest == START || SET_UP.contains(&rest) => Ok(Self::Broker(rest.into())),
            "broker" => field(&RESOURCES).map(Self::Broker),
            "generator" => field(&RESOURCES).map(Self::Generator),
            "application" => field(&RESOURCES).map(Self::Application),
            "hiccup" => rest.parse().map(Self::Hiccup),
            kind if KINDS.contains(&kind) => match rest.split_once('.').filter(|(part, _)| PARTS.contains(part)) {
                Some((part, statistic)) => Ok(Self::Latency(format!("{kind}.{part}"), statistic.parse()?)),
                None => Ok(Self::Latency(kind.into(), rest.parse()?)),
            },
            _ => Err(one_of(family, &FAMILIES, "a metric").err().unwrap_or_else(|| ParseError(text.into()))),
        }
    }
}

impl FromStr for Metric {
    type Err = ParseError;
    fn from_str(text: &str) -> Result<Self, ParseError> {
        let text = text.trim();
        let alone = text.parse::<Quantity>();
        if let (Err(_), Some((workload, rest))) = (&alone, text.split_once('.'))
            && let Ok(quantity) = rest.parse()
        {
            return Ok(Self { workload: Some(workload.into()), quantity });
        }
        alone.map(|quantity| Self { workload: None, quantity })
    }
}

impl Serialize for Metric {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Metric {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        <Cow<'de, str>>::deserialize(d)?.parse().map_err(serde::de::Error::custom)
    }
}

impl JsonSchema for Metric {
    fn schema_name() -> Cow<'static, str> {
        "Metric".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "description": "A metric, such as \"e2e.p99\", \"throughput.delivered\" or \"ledger.lost\"." })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_read_and_print_the_same() {
        for text in [
            "e2e.p99",
            "ack.p99.9",
            "rtt.p50",
            "lag.max",
            "throughput.delivered",
            "throughput.received",
            "ledger.lost",
            "broker.cpu_us_per_msg",
            "broker.start_s",
            "broker.settings",
            "broker.disk_written_bytes",
            "application.cpu_us_per_msg",
            "e2e.service.p99",
            "orders.e2e.p99.99",
            "ack.during-replay.p99",
            "replay.catch_up_s",
            "hiccup.p99",
            "outage.write",
            "orders.outage.read.max",
            "outage.lost_acked",
            "capacity",
            "orders.ledger.duplicated",
        ] {
            assert_eq!(text.parse::<Metric>().unwrap().to_string(), text);
        }
        let metric: Metric = "ack.p99.9".parse().unwrap();
        assert_eq!(metric.quantity.quantile(), Some(0.999));
        assert!(metric.quantity.lower_is_better());
        assert!(!"throughput.delivered".parse::<Metric>().unwrap().quantity.lower_is_better());
    }

    #[test]
    fn mistakes_are_answered() {
        let said = |text: &str| text.parse::<Metric>().unwrap_err().to_string();
        insta::assert_snapshot!(
            ["e2e.p100", "e2f.p99", "ledger.losst", "e2e.", "throughput", "a.b.c.d", "", "outage.writes"]
                .map(said)
                .join("\n")
        );
    }

    #[test]
    fn values_have_the_unit_of_their_metric() {
        let read = |metric: &str, value: &str| metric.parse::<Metric>().unwrap().quantity.read(value);
        assert_eq!(read("e2e.p99", "5ms").unwrap(), 5e6);
        assert_eq!(read("throughput.delivered", "20k/s").unwrap(), 20e3);
        assert_eq!(read("ledger.lost", "0").unwrap(), 0.0);
        assert_eq!(read("outage.write", "5s").unwrap(), 5e9);
        assert_eq!(read("outage.late_share.max", "1%").unwrap(), 0.01);
        assert!(read("e2e.p99", "5").is_err() && read("ledger.lost", "-1").is_err());
    }
}
