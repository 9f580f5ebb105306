//! Absolute limits: does a result keep "e2e.p99 < 5ms"?
//!
//! Each valid trial counts once. The limit is MET when all of them keep it; UNMET when the median
//! does not, which is what a reader of the summary sees; INCONCLUSIVE when the median keeps it and
//! a run does not: then the limit lies within the spread of the runs, and neither "kept" nor
//! "broken" would be true of the next one. One run alone has no spread: then the interval of its
//! percentile must keep the limit too. Percentiles with fewer than 30 samples above them decide
//! nothing. Lost messages are infinitely late and so break every latency limit.

use super::model::{Comparison, ExpectResult, ExpectVerdict};
use super::observe;
use super::overall;
use crate::plan::gate::{Expectation, Policy};
use crate::plan::metric::Quantity;
use crate::record::{Outcome, Record, Status};
use crate::stats::median;
use crate::stats::quantile::{PercentileUse, may};

impl ExpectResult {
    /// 0, 3 (unmet), 4 (no valid run) or 5 (inconclusive, where the policy says that fails).
    pub fn exit_code(&self) -> u8 {
        match self.verdict {
            ExpectVerdict::Met => 0,
            ExpectVerdict::Unmet => 3,
            ExpectVerdict::Invalid => 4,
            ExpectVerdict::Inconclusive | ExpectVerdict::NotJudged if self.on_inconclusive == Policy::Fail => 5,
            ExpectVerdict::Inconclusive | ExpectVerdict::NotJudged => 0,
        }
    }
}

/// Holds a record to its limits: each at every case it applies to. A limit that applies to no case
/// is in the list as well: it must not look kept.
pub fn expectations(record: &Record, expect: &[Expectation]) -> Vec<ExpectResult> {
    let mut list = Vec::new();
    for e in expect {
        let before = list.len();
        if e.metric.quantity == Quantity::Capacity {
            list.extend(super::capacity::expectations(record, e));
            if list.len() == before {
                list.push(no_case(record, e));
            }
            continue;
        }
        for case in &record.plan.cases {
            let system = record.plan.systems.get(case.system).map_or("", |s| s.name.as_str());
            if e.system.as_deref().is_some_and(|s| s != system) || record.skipped.iter().any(|s| s.system == system) {
                continue;
            }
            let streams = case.workloads.iter().enumerate();
            let asked = streams.filter(|(_, w)| e.metric.workload.as_ref().is_none_or(|name| *name == w.name));
            for (index, workload) in asked {
                let name =
                    if case.workloads.len() > 1 { format!("{} / {}", case.id, workload.name) } else { case.id.clone() };
                list.push(one(record, &case.id, name, index, e));
            }
        }
        if list.len() == before {
            list.push(no_case(record, e));
        }
    }
    list
}

/// A limit that no case of the record could be held to, and why.
fn no_case(record: &Record, e: &Expectation) -> ExpectResult {
    let skipped = record.skipped.iter().find(|s| e.system.as_ref().is_none_or(|name| s.system == *name));
    let there = |name: &String| record.plan.systems.iter().any(|s| s.name == *name);
    let (verdict, sentence, on_inconclusive) = match (skipped, &e.system) {
        (Some(s), _) => {
            let sentence = format!("`{}` is not judged: {} was not measured, {}", e.that, s.system, s.reason);
            (ExpectVerdict::NotJudged, sentence, e.on_inconclusive)
        }
        // The names were checked when the scenario was read: the command line has chosen other
        // systems.
        (None, Some(name)) if !there(name) => {
            let sentence = format!("`{}` is not judged: this run does not have the system {name}", e.that);
            (ExpectVerdict::NotJudged, sentence, Policy::Warn)
        }
        _ => {
            let sentence = format!("`{}` applies to nothing that was measured", e.that);
            (ExpectVerdict::Invalid, sentence, e.on_inconclusive)
        }
    };
    let case = e.system.clone().unwrap_or_else(|| "each system".into());
    let (that, metric) = (e.that.clone(), e.metric.clone());
    ExpectResult { case, that, metric, verdict, values: Vec::new(), sentence, on_inconclusive }
}

fn one(record: &Record, case: &str, name: String, workload: usize, e: &Expectation) -> ExpectResult {
    let usable = |t: &&crate::record::Trial| {
        t.case == case && t.outcome == Outcome::Complete && t.validity_status() != Status::Invalid
    };
    let trials: Vec<_> = record.trials.iter().filter(usable).collect();
    let found: Vec<_> = trials.iter().filter_map(|t| observe::value(t, workload, &e.metric.quantity)).collect();
    let values: Vec<f64> = found.iter().map(|o| o.value).collect();
    let unit = e.metric.quantity.unit();
    let kept = values.iter().filter(|v| e.comparator.holds(**v, e.limit)).count();
    let thin = found
        .iter()
        .filter(|o| o.exceedances.is_some_and(|k| may(k) < PercentileUse::Gate))
        .min_by(|a, b| a.exceedances.unwrap_or(0.0).total_cmp(&b.exceedances.unwrap_or(0.0)));
    // What every single message keeps, every percentile keeps, however few messages there are.
    let ends: Vec<(f64, f64)> = found.iter().filter_map(|o| o.ends).collect();
    let within = |v: f64| e.comparator.holds(v, e.limit);
    let all_within =
        !found.is_empty() && ends.len() == found.len() && ends.iter().all(|(l, h)| within(*l) && within(*h));
    let straddles = found.iter().filter_map(|o| o.ci95).any(|(low, high)| !within(low) || !within(high));
    // How wrong the median may be that clocks are in.
    let blur = found.iter().filter_map(|o| o.clocks).fold(0.0, f64::max);
    let (verdict, sentence) = match median(&values) {
        None if trials.is_empty() => (ExpectVerdict::Invalid, format!("`{}` has no valid run to hold it to", e.that)),
        None => (ExpectVerdict::Invalid, format!("`{}` was not measured", e.metric)),
        Some(middle) => {
            let n = values.len();
            let found = format!("{kept} of {n} runs keep `{}`, the median is {}", e.that, unit.show(middle));
            match () {
                () if within(middle - blur) != within(middle + blur) => (
                    ExpectVerdict::Inconclusive,
                    format!("{found}, but the clocks' bound, +/- {}, leaves it open", unit.show(blur)),
                ),
                // A broken limit is broken however few samples there are.
                () if !e.comparator.holds(middle, e.limit) => (ExpectVerdict::Unmet, found),
                () if all_within => {
                    let largest = ends.iter().map(|e| e.1).fold(0.0, f64::max);
                    let few = if thin.is_some() || straddles {
                        format!(", and so does every message: the largest is {}", unit.show(largest))
                    } else {
                        String::new()
                    };
                    (ExpectVerdict::Met, format!("{found}{few}"))
                }
                () if thin.is_some() => {
                    let why = thin.map_or_else(String::new, |o| observe::thin(None, o.counted, o.exceedances));
                    (ExpectVerdict::Inconclusive, format!("{found}, but {why}"))
                }
                () if n == 1 && straddles => (
                    ExpectVerdict::Inconclusive,
                    format!("{found}, but its 95 % interval does not: repeat it, or measure longer"),
                ),
                () if kept == n => (ExpectVerdict::Met, found),
                () => (ExpectVerdict::Inconclusive, format!("{found}: the limit lies within the spread of the runs")),
            }
        }
    };
    let (that, metric, on_inconclusive) = (e.that.clone(), e.metric.clone(), e.on_inconclusive);
    ExpectResult { case: name, that, metric, verdict, values, sentence, on_inconclusive }
}

impl Comparison {
    /// Adds the limits that the candidate was held to, and what they lead to.
    pub fn with_expectations(mut self, results: Vec<ExpectResult>) -> Self {
        overall::with_expectations(&mut self.overall, &results);
        self.expectations = results;
        self
    }
}
