//! Result files of the OpenMessaging Benchmark (`TestResult`, written with `--output`), and of its
//! forks.
//!
//! Units, from its source: publish and end-to-end latencies are milliseconds, publish delays
//! microseconds; rates are messages a second in samples of ten seconds. Forks say another length of
//! a sample (`sampleRateMillis`), count messages beside the rates (`sent`, `consumed`), and call
//! errors by other names. End-to-end stamps are two readings of the time of day in whole
//! milliseconds, whatever decimals the file has.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::json::{JsonObject, bad_json};
use super::{ForeignError, ForeignResult, ForeignStream};
use crate::plan::Topology;
use crate::record::{Check, LatencySummary, Ledger, Percentile, Status, Throughput};
use crate::stats::{mean, series};

const WHAT: &str = "a result of the OpenMessaging Benchmark";
/// Length of a sample of its statistics, where the file does not say another one.
const PERIOD_S: f64 = 10.0;
/// Receiving less than this share of what is sent, where no backlog is told, is overload.
const KEEPS_UP: f64 = 0.95;
const QUANTILES: [(f64, &str); 7] = [
    (0.5, "50pct"),
    (0.75, "75pct"),
    (0.95, "95pct"),
    (0.99, "99pct"),
    (0.999, "999pct"),
    (0.9999, "9999pct"),
    (0.99999, "99999pct"),
];

/// Whether an object is such a result.
pub(super) fn is(json: &Map<String, Value>) -> bool {
    json.contains_key("publishRate")
        && json.keys().any(|k| k.starts_with("aggregatedEndToEndLatency") || k.starts_with("aggregatedPublishLatency"))
}

/// How long a sample is, and what is to be said of it.
fn period(k: &JsonObject<'_>, rates: &[f64], counted: &[f64]) -> Result<(f64, Option<String>), ForeignError> {
    if let Some(millis) = k.number("sampleRateMillis")? {
        if millis == 0.0 {
            return Err(k.wrong("sampleRateMillis", "is 0, and a sample has a length"));
        }
        return Ok((millis / 1e3, None));
    }
    let (messages, per_second) = (counted.iter().sum::<f64>(), rates.iter().sum::<f64>());
    if counted.len() == rates.len() && messages > 0.0 && per_second > 0.0 {
        return Ok((messages / per_second, None));
    }
    Ok((PERIOD_S, Some(format!("samples are taken for {PERIOD_S:.0} s long: the file does not say"))))
}

/// Errors of any name: lists and numbers whose key speaks of errors or failures.
fn errors(k: &JsonObject<'_>) -> Result<Vec<String>, ForeignError> {
    let mut said = Vec::new();
    for key in k.keys() {
        let lower = key.to_lowercase();
        if !(lower.contains("error") || lower.contains("fail")) || lower.contains("latency") {
            continue;
        }
        match k.value(key) {
            Some(Value::Array(_)) => {
                let n = k.list(key)?.iter().filter(|e| **e > 0.0).count();
                if n > 0 {
                    said.push(format!("{key} is not zero in {n} intervals"));
                }
            }
            Some(Value::Number(_)) => {
                let n = k.number(key)?.unwrap_or(0.0);
                if n > 0.0 {
                    said.push(format!("{key} is {n}"));
                }
            }
            _ => {}
        }
    }
    Ok(said)
}

/// By how many messages a backlog grew over the run, where it grows without end: Mann-Kendall at 1
/// %, and Theil-Sen's slope times the length above 5 % of a second's messages.
fn growth(backlog: &[f64], rate: f64) -> Option<f64> {
    let trend = series::trend(backlog).filter(|_| backlog.len() >= series::FEWEST)?;
    let growth = trend.slope * (backlog.len() - 1) as f64;
    (trend.p < 0.01 && growth > 0.05 * rate).then_some(growth)
}

/// V3 for samples of rates: a backlog that grows, or, where none is told, less received than sent.
fn overload(sent: &[f64], received: &[f64], backlog: &[f64]) -> Option<Check> {
    let (p, c) = (mean(sent), mean(received));
    if sent.is_empty() || received.is_empty() || p <= 0.0 {
        return None;
    }
    let rates = format!("{p:.0}/s sent and {c:.0}/s received");
    let more = match (growth(backlog, p), backlog) {
        (Some(growth), _) => format!("the backlog grew by {growth:.0} messages"),
        // Too few samples for a trend: every one of them more than the one before, by more than a
        // second's messages.
        (None, [first, .., last])
            if backlog.len() < series::FEWEST && backlog.windows(2).all(|w| w[1] > w[0]) && last - first > 0.05 * p =>
        {
            format!("the backlog grew by {:.0} messages", last - first)
        }
        (None, []) if c < KEEPS_UP * p => format!("{:.0} % of it was received", 100.0 * c / p),
        _ => return None,
    };
    Some(Check {
        id: "V3".into(),
        name: "keeps up".into(),
        status: Status::Invalid,
        observed: format!("{rates}: {more}"),
        threshold: "INVALID when the backlog grows, or less is received than sent".into(),
        message: "OVERLOADED: latencies grow as long as the run lasts and say nothing but its length; lower the rate"
            .into(),
    })
}

pub(super) fn read(json: &Map<String, Value>, bytes: &[u8]) -> Result<ForeignResult, ForeignError> {
    let k = JsonObject { json, bytes, what: WHAT };
    let (publish, consume, backlog) = (k.list("publishRate")?, k.list("consumeRate")?, k.list("backlog")?);
    let (sent_by, received_by) = (k.list("sent")?, k.list("consumed")?);
    let (period_s, unsaid) = period(&k, &publish, &sent_by)?;
    // What was counted is exact; a rate times the length of a sample is not.
    let messages = |rates: &[f64], counted: &[f64]| match counted.len() == rates.len() && !counted.is_empty() {
        true => counted.iter().sum::<f64>().round() as u64,
        false => (rates.iter().sum::<f64>() * period_s).round() as u64,
    };
    let (sent, received) = (messages(&publish, &sent_by), messages(&consume, &received_by));
    let mut latency = BTreeMap::new();
    for (kind, name, nanos, count) in [
        ("e2e.service", "EndToEnd", 1e6, received),
        ("ack.service", "Publish", 1e6, sent),
        ("lag", "PublishDelay", 1e3, sent),
    ] {
        if let Some(summary) = summary(&k, name, nanos, count)? {
            latency.insert(kind.to_string(), summary);
        }
    }
    if latency.is_empty() {
        return Err(bad_json(WHAT, "it has no latency: keys such as `aggregatedEndToEndLatency99pct` are read"));
    }
    let silent = publish.iter().zip(&consume).filter(|(p, c)| **p == 0.0 && **c == 0.0).count();
    let mut doubts = vec!["end-to-end latencies are differences of two times of day in whole milliseconds".to_string()];
    doubts.extend(unsaid);
    if silent > 0 {
        doubts.push(format!("{silent} of {} intervals without a message", publish.len()));
    }
    doubts.extend(errors(&k)?);
    let overload = overload(&publish, &consume, &backlog);
    if overload.is_none()
        && backlog.iter().rev().take(3).any(|b| *b > publish.last().copied().unwrap_or(0.0) && *b > 0.0)
    {
        doubts.push("a backlog at the end".into());
    }
    let rate = |rates: &[f64]| if rates.is_empty() { 0.0 } else { mean(rates) };
    let count = |key: &str| Ok::<_, ForeignError>(k.whole(key)?.unwrap_or(1).min(u64::from(u32::MAX)) as u32);
    let (topics, payload) = (count("topics")?, k.whole("messageSize")?.unwrap_or(0));
    let workload = k.text("workload")?.unwrap_or_else(|| super::UNKNOWN.into());
    Ok(ForeignResult {
        tool: "OpenMessaging Benchmark",
        system: k.text("driver")?.unwrap_or_else(|| super::UNKNOWN.into()),
        question: format!("Foreign result: {workload}"),
        client: "the driver of the OpenMessaging Benchmark, version not known".into(),
        quantiles: QUANTILES.iter().map(|q| q.0).filter(|q| latency.values().any(|l| l.at(*q).is_some())).collect(),
        seconds: period_s * publish.len() as f64,
        payload,
        topology: Topology {
            producers: topics.saturating_mul(count("producersPerTopic")?),
            channels: topics,
            groups: 1,
            members: topics.saturating_mul(count("consumersPerTopic")?),
            reply: false,
        },
        streams: vec![ForeignStream {
            name: workload,
            latency,
            throughput: Throughput {
                offered: None,
                sent: rate(&publish),
                delivered: rate(&consume),
                delivered_bytes: rate(&consume) * payload as f64,
                ..Throughput::default()
            },
            ledger: Ledger { sent, delivered: received, ..Ledger::default() },
        }],
        doubts,
        overload,
    })
}

/// The aggregated figures of one kind; `None` where the file has none.
fn summary(k: &JsonObject<'_>, name: &str, nanos: f64, count: u64) -> Result<Option<LatencySummary>, ForeignError> {
    let field = |suffix: &str| -> Result<Option<f64>, ForeignError> {
        Ok(k.number(&format!("aggregated{name}Latency{suffix}"))?.map(|v| v * nanos))
    };
    let mut percentiles: Vec<Percentile> = Vec::new();
    for (quantile, suffix) in QUANTILES {
        if let Some(v) = field(suffix)? {
            let key = format!("aggregated{name}Latency{suffix}");
            if percentiles.last().is_some_and(|p: &Percentile| p.value_ns > Some(v.round() as u64)) {
                return Err(k.wrong(&key, "is below a lower percentile"));
            }
            let exceedances = count as f64 * (1.0 - quantile);
            percentiles.push(Percentile {
                quantile,
                value_ns: Some(v.round() as u64),
                exceedances,
                printable: exceedances >= 10.0,
                ..Percentile::default()
            });
        }
    }
    if percentiles.is_empty() {
        return Ok(None);
    }
    let curve = match k.value(&format!("aggregated{name}LatencyQuantiles")).and_then(Value::as_object) {
        Some(points) => curve(points, nanos, count),
        None => Vec::new(),
    };
    Ok(Some(LatencySummary {
        count,
        max_ns: field("Max")?.map(|v| v.round() as u64),
        mean_ns: field("Avg")?.unwrap_or(0.0),
        percentiles,
        curve,
        ..LatencySummary::default()
    }))
}

/// The curve at the percentiles of msgbench's own: at each the smallest listed value that reaches
/// it.
fn curve(points: &Map<String, Value>, nanos: f64, count: u64) -> Vec<(f64, u64)> {
    let mut known: Vec<(f64, f64)> = points
        .iter()
        .filter_map(|(q, v)| Some((q.parse::<f64>().ok()? / 100.0, v.as_f64()? * nanos)))
        .filter(|(q, v)| q.is_finite() && v.is_finite() && *v >= 0.0)
        .collect();
    known.sort_by(|a, b| a.0.total_cmp(&b.0));
    let steps = (0..8 * 64).map(|step| 1.0 - 0.5f64.powf(f64::from(step) / 8.0));
    steps
        .take_while(|q| count as f64 * (1.0 - q) >= 1.0)
        .map_while(|q| known.iter().find(|(k, _)| *k >= q - 1e-12).map(|(_, v)| (q, v.round() as u64)))
        .collect()
}
