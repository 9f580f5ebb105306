//! The value of a metric in one trial.

use super::outage;
use super::{LatencySummary, Ledger, Resources, Throughput, Trial};
use crate::plan::metric::{Quantity, Statistic};

/// A value, and how many samples stand behind it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ObservedValue {
    /// In the unit of the metric; +infinity where the message never arrived.
    pub value: f64,
    /// Samples expected above a percentile, effective ones where they are known; absent for what is
    /// not one.
    pub exceedances: Option<f64>,
    /// The same by their mere number, as if messages did not depend on each other.
    pub counted: Option<f64>,
    /// The smallest and the largest sample that stand behind a value of a latency; +infinity where
    /// one never arrived.
    pub ends: Option<(f64, f64)>,
    /// 95 % interval of this run's percentile, where it is known.
    pub ci95: Option<(f64, f64)>,
    /// By how much the value of a latency may be wrong because of clocks; +infinity where that is
    /// not known, absent where one clock is enough.
    pub clocks: Option<f64>,
}

/// A value that no samples stand behind.
pub fn exact(value: f64) -> ObservedValue {
    ObservedValue { value, exceedances: None, counted: None, ends: None, ci95: None, clocks: None }
}

fn plain(value: f64) -> Option<ObservedValue> {
    Some(exact(value))
}

fn latency(summary: &LatencySummary, statistic: Statistic) -> Option<ObservedValue> {
    if summary.count + summary.lost == 0 {
        return None;
    }
    let or_infinite = |ns: Option<u64>| ns.map_or(f64::INFINITY, |ns| ns as f64);
    let largest = if summary.lost > 0 { f64::INFINITY } else { or_infinite(summary.max_ns) };
    let smallest = if summary.count > 0 { summary.min_ns as f64 } else { f64::INFINITY };
    let found = match statistic {
        Statistic::Quantile(q) => summary.at(q).map(|p| ObservedValue {
            value: or_infinite(p.value_ns),
            exceedances: Some(p.effective.unwrap_or(p.exceedances)),
            counted: Some(p.exceedances),
            ends: None,
            ci95: p.ci95_ns.map(|(low, high)| (low as f64, or_infinite(high))),
            clocks: None,
        }),
        Statistic::Min => (summary.count > 0).then_some(summary.min_ns as f64).and_then(plain),
        Statistic::Mean => plain(if summary.lost > 0 { f64::INFINITY } else { summary.mean_ns }),
        Statistic::Max => plain(or_infinite(summary.max_ns)),
    };
    let clocks = summary.clocks.map(|doubt| or_infinite(doubt.bound_ns));
    found.map(|o| ObservedValue { ends: Some((smallest, largest)), clocks, ..o })
}

fn throughput(t: &Throughput, field: &str) -> Option<f64> {
    match field {
        "sent" => Some(t.sent),
        "delivered" => Some(t.delivered),
        "delivered_bytes" => Some(t.delivered_bytes),
        "received" => t.received,
        "received_bytes" => t.received_bytes,
        _ => None,
    }
}

fn ledger(l: &Ledger, field: &str) -> Option<f64> {
    let count = match field {
        "scheduled" => l.scheduled,
        "sent" => l.sent,
        "sent_late" => l.sent_late,
        "refused" => l.refused,
        "acked" => l.acked,
        "unanswered" => l.unanswered,
        "acked_lost" => l.acked_lost,
        "rejected" => l.rejected,
        "redelivered" => l.redelivered,
        "dead_lettered" => l.dead_lettered,
        "superseded" => l.superseded,
        "expected" => l.expected,
        "delivered" => l.delivered,
        "lost" => l.lost,
        "client_dropped" => l.client_dropped,
        "duplicated" => l.duplicated,
        "reordered" => l.reordered,
        "corrupted" => l.corrupted,
        "foreign" => l.foreign,
        "intrusions" => l.intrusions,
        "intrusions_refused" => l.intrusions_refused,
        "let_in" => l.let_in,
        _ => return None,
    };
    Some(count as f64)
}

fn resources(r: &Resources, field: &str) -> Option<f64> {
    match field {
        "cpu_us_per_msg" => r.cpu_us_per_msg,
        "cpu_seconds" => Some(r.cpu_seconds),
        "rss_peak_bytes" => Some(r.rss_peak_bytes as f64),
        "rss_mean_bytes" => r.rss_mean_bytes.map(|b| b as f64),
        "disk_written_bytes" => Some(r.disk_written_bytes as f64),
        "threads" => Some(f64::from(r.threads)),
        "voluntary_switches" => Some(r.voluntary_switches as f64),
        "involuntary_switches" => Some(r.involuntary_switches as f64),
        _ => None,
    }
}

/// The value of a quantity in a trial; of the workload at an index, where it belongs to one. `None`
/// where not measured.
pub fn value(trial: &Trial, workload: usize, quantity: &Quantity) -> Option<ObservedValue> {
    let of = || trial.workloads.get(workload);
    match quantity {
        Quantity::Latency(kind, statistic) => latency(of()?.latency.get(kind)?, *statistic),
        Quantity::Hiccup(statistic) => latency(&trial.hiccup, *statistic),
        Quantity::Throughput(field) => plain(throughput(&of()?.throughput, field)?),
        Quantity::Ledger(field) => plain(ledger(&of()?.ledger, field)?),
        Quantity::Replay(field) => {
            let replay = of()?.replay.as_ref()?;
            match field.as_str() {
                "first_s" => plain(replay.first_s.unwrap_or(f64::INFINITY)),
                "catch_up_s" => plain(replay.catch_up_s.unwrap_or(f64::INFINITY)),
                "rate" => plain(replay.rate?),
                _ => None,
            }
        }
        Quantity::Kept(field) => {
            let kept = of()?.kept.as_ref()?;
            match field.as_str() {
                "owed" => plain(kept.owed as f64),
                "missing" => plain(kept.missing as f64),
                "read" => plain(kept.read as f64),
                "beyond" => plain(kept.beyond as f64),
                "beyond_bytes" => plain(kept.beyond_bytes as f64),
                "reordered" => plain(kept.reordered as f64),
                "settled_s" => plain(kept.settled_s.unwrap_or(f64::INFINITY)),
                _ => None,
            }
        }
        Quantity::Outage(metric) => plain(outage::value(trial, of()?, *metric)?),
        Quantity::Broker(field) if field == "start_s" => plain(trial.start_ns? as f64 / 1e9),
        Quantity::Broker(field) if field == "processes" => plain(f64::from(trial.processes?)),
        Quantity::Broker(field) if field == "settings" => plain(f64::from(trial.settings?)),
        Quantity::Broker(field) => plain(resources(trial.broker.as_ref()?, field)?),
        Quantity::Generator(field) => plain(resources(&trial.generator, field)?),
        Quantity::Application(field) => plain(resources(trial.application.as_ref()?, field)?),
        // It is of all trials of a search together.
        Quantity::Capacity => None,
    }
}
