//! Which metrics are compared, and when too few samples stand behind one.

use crate::plan::metric::{Metric, Quantity, Statistic};
use crate::plan::{OfFaults, OutageField, OutageMetric};
use crate::record::WorkloadResult;
pub use crate::record::value::{ObservedValue, exact, value};
use crate::stats::quantile::GATE_AT;
use crate::units::{count, three_digits};

/// What is compared of outages.
const OUTAGE: [OutageField; 7] = [
    OutageField::Write,
    OutageField::Read,
    OutageField::FirstAck,
    OutageField::Recovery,
    OutageField::LateShare,
    OutageField::Redundancy,
    OutageField::LostAcked,
];

/// Why too few samples stand behind a percentile to decide anything, and what to do: there are too
/// few of them, or enough that depend on each other. `counted` is their mere number above it in a
/// typical run, `effective` what it is worth.
pub fn thin(quantile: Option<f64>, counted: Option<f64>, effective: Option<f64>) -> String {
    match (counted, effective) {
        (Some(n), Some(k)) if n >= GATE_AT => format!(
            "the {} samples above this percentile in a typical run come in bursts and are worth only {}, and a verdict needs {GATE_AT:.0}: measure longer, or remove what disturbs the run",
            count(n.round()),
            three_digits(k)
        ),
        _ => {
            let lower = if quantile.is_some_and(|q| q > 0.5) { ", or gate on a lower one" } else { "" };
            format!(
                "fewer than {GATE_AT:.0} samples are expected above this percentile in a typical run: measure longer{lower}"
            )
        }
    }
}

/// The metrics of a workload that are compared: percentiles and maximum of each latency but the
/// lag, throughput, what went wrong with messages, how a backlog was read, and the broker's cost.
pub fn metrics(result: &WorkloadResult, several: bool, quantiles: &[f64]) -> Vec<Metric> {
    let mut list = Vec::new();
    let mut add = |quantity| list.push(Metric { workload: several.then(|| result.name.clone()), quantity });
    for (kind, _) in result.latency.iter().filter(|(k, l)| *k != "lag" && l.count + l.lost > 0) {
        for q in quantiles {
            add(Quantity::Latency(kind.clone(), Statistic::Quantile(*q)));
        }
        if !kind.ends_with(".service") {
            add(Quantity::Latency(kind.clone(), Statistic::Max));
        }
    }
    add(Quantity::Throughput(if result.only_sends() { "sent" } else { "delivered" }.into()));
    for field in ["lost", "duplicated", "reordered", "unanswered", "dead_lettered"] {
        add(Quantity::Ledger(field.into()));
    }
    if result.ledger.intrusions > 0 {
        add(Quantity::Ledger("let_in".into()));
    }
    if result.replay.is_some() {
        for field in ["catch_up_s", "rate"] {
            add(Quantity::Replay(field.into()));
        }
    }
    if result.kept.is_some() {
        for field in ["missing", "settled_s"] {
            add(Quantity::Kept(field.into()));
        }
    }
    if !result.outages.is_empty() {
        for field in OUTAGE {
            add(Quantity::Outage(OutageMetric { field, of: OfFaults::Typical }));
        }
    }
    add(Quantity::Broker("cpu_us_per_msg".into()));
    add(Quantity::Broker("rss_peak_bytes".into()));
    list
}

/// The metrics that decide where the gate names none: p50 and p99 of the response latency that
/// heads the workload, and throughput.
pub fn default_primary(heads: Option<&'static str>, quantity: &Quantity) -> bool {
    match quantity {
        Quantity::Latency(kind, Statistic::Quantile(q)) => {
            heads.is_some_and(|name| name == kind) && [0.5, 0.99].iter().any(|d| (d - q).abs() < 1e-9)
        }
        Quantity::Throughput(field) => field == "delivered" || field == "sent",
        _ => false,
    }
}
