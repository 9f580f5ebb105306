//! Result files of the OpenMessaging Benchmark (`TestResult`, written with `--output`).
//!
//! Units, from its source: publish and end-to-end latencies are milliseconds, publish delays microseconds; rates are
//! messages a second in periods of ten seconds. End-to-end stamps are two readings of the time of day in whole
//! milliseconds, whatever decimals the file has.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::{ForeignError, Found, Stream};
use crate::record::{LatencySummary, Ledger, Percentile, Throughput};
use crate::scenario::plan::Topology;
use crate::stats::mean;

/// Length of a period of its statistics.
const PERIOD_S: f64 = 10.0;
const QUANTILES: [(f64, &str); 7] = [
    (0.5, "50pct"),
    (0.75, "75pct"),
    (0.95, "95pct"),
    (0.99, "99pct"),
    (0.999, "999pct"),
    (0.9999, "9999pct"),
    (0.99999, "99999pct"),
];

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Result_ {
    workload: String,
    driver: String,
    message_size: u64,
    topics: u32,
    producers_per_topic: u32,
    consumers_per_topic: u32,
    publish_rate: Vec<f64>,
    publish_error_rate: Vec<f64>,
    consume_rate: Vec<f64>,
    backlog: Vec<f64>,
    #[serde(flatten)]
    rest: BTreeMap<String, serde_json::Value>,
}

impl Default for Result_ {
    fn default() -> Self {
        Self {
            workload: "not known".into(),
            driver: "not known".into(),
            message_size: 0,
            topics: 1,
            producers_per_topic: 1,
            consumers_per_topic: 1,
            publish_rate: Vec::new(),
            publish_error_rate: Vec::new(),
            consume_rate: Vec::new(),
            backlog: Vec::new(),
            rest: BTreeMap::new(),
        }
    }
}

fn bad(problem: impl ToString) -> ForeignError {
    ForeignError::Format { what: "a result of the OpenMessaging Benchmark", problem: problem.to_string() }
}

pub(super) fn read(json: serde_json::Value) -> Result<Found, ForeignError> {
    if json.get("publishRate").is_none() || json.get("aggregatedEndToEndLatency50pct").is_none() {
        return Err(ForeignError::Unknown);
    }
    let r: Result_ = serde_json::from_value(json).map_err(bad)?;
    let messages = |rates: &[f64]| (rates.iter().filter(|v| **v > 0.0).sum::<f64>() * PERIOD_S).round() as u64;
    let (sent, received) = (messages(&r.publish_rate), messages(&r.consume_rate));
    let mut latency = BTreeMap::new();
    for (kind, name, nanos, count) in [
        ("e2e.service", "EndToEnd", 1e6, received),
        ("ack.service", "Publish", 1e6, sent),
        ("lag", "PublishDelay", 1e3, sent),
    ] {
        if let Some(summary) = summary(&r.rest, name, nanos, count)? {
            latency.insert(kind.to_string(), summary);
        }
    }
    let silent = r.publish_rate.iter().zip(&r.consume_rate).filter(|(p, c)| **p == 0.0 && **c == 0.0).count();
    let errors = r.publish_error_rate.iter().filter(|e| **e > 0.0).count();
    let mut doubts = vec!["end-to-end latencies are differences of two times of day in whole milliseconds".to_string()];
    if silent > 0 {
        doubts.push(format!("{silent} of {} intervals without a message", r.publish_rate.len()));
    }
    if errors > 0 {
        doubts.push(format!("publish errors in {errors} intervals"));
    }
    if r.backlog.iter().rev().take(3).any(|b| *b > r.publish_rate.last().copied().unwrap_or(0.0) && *b > 0.0) {
        doubts.push("a backlog at the end".into());
    }
    let rate = |rates: &[f64]| if rates.is_empty() { 0.0 } else { mean(rates) };
    Ok(Found {
        tool: "OpenMessaging Benchmark",
        system: r.driver,
        question: format!("Foreign result: {}", r.workload),
        client: "the driver of the OpenMessaging Benchmark, version not known".into(),
        quantiles: QUANTILES.iter().map(|q| q.0).filter(|q| latency.values().any(|l| l.at(*q).is_some())).collect(),
        seconds: PERIOD_S * r.publish_rate.len() as f64,
        payload: r.message_size,
        topology: Topology {
            producers: r.topics.saturating_mul(r.producers_per_topic),
            channels: r.topics,
            groups: 1,
            members: r.topics.saturating_mul(r.consumers_per_topic),
            reply: false,
        },
        streams: vec![Stream {
            name: r.workload,
            latency,
            throughput: Throughput {
                offered: None,
                sent: rate(&r.publish_rate),
                delivered: rate(&r.consume_rate),
                delivered_bytes: rate(&r.consume_rate) * r.message_size as f64,
                ..Throughput::default()
            },
            ledger: Ledger { sent, delivered: received, ..Ledger::default() },
        }],
        doubts,
    })
}

type Fields = BTreeMap<String, serde_json::Value>;

/// The aggregated figures of one kind; `None` where the file has none.
fn summary(rest: &Fields, name: &str, nanos: f64, count: u64) -> Result<Option<LatencySummary>, ForeignError> {
    let field = |suffix: &str| -> Result<Option<f64>, ForeignError> {
        let key = format!("aggregated{name}Latency{suffix}");
        match rest.get(&key) {
            None | Some(serde_json::Value::Null) => Ok(None),
            Some(v) => match v.as_f64().filter(|v| v.is_finite() && *v >= 0.0) {
                Some(v) => Ok(Some(v * nanos)),
                None => Err(bad(format!("`{key}` is {v} and no number"))),
            },
        }
    };
    let mut percentiles = Vec::new();
    for (quantile, suffix) in QUANTILES {
        if let Some(v) = field(suffix)? {
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
    let curve = match rest.get(&format!("aggregated{name}LatencyQuantiles")).and_then(|v| v.as_object()) {
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

/// The curve at the percentiles of msgbench's own: at each the smallest listed value that reaches it.
fn curve(points: &serde_json::Map<String, serde_json::Value>, nanos: f64, count: u64) -> Vec<(f64, u64)> {
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
