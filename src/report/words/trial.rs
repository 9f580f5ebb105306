//! What came of one trial, in a line.

use crate::plan::Case;
use crate::plan::gate::Expectation;
use crate::plan::metric::{Quantity, Statistic};
use crate::record::{Outcome, Status, Trial, WorkloadResult};
use crate::report::words::answer::without_schedule;
use crate::report::words::checks;
use crate::report::words::view::{ShownLatency, clocks_words};
use crate::units::{count, digits, time_words};

/// Of a search, with the latencies that its limits are about where these head nothing: `p50 145 µs,
/// p99 0.82 ms, lost 0, ack.p99 1.2 ms`.
pub fn figures(trial: &Trial, case: Option<&Case>, limits: &[Expectation]) -> String {
    let mut parts = figure_parts(trial, case);
    for metric in limits.iter().map(|limit| &limit.metric) {
        let Quantity::Latency(kind, Statistic::Quantile(q)) = &metric.quantity else { continue };
        let of = metric.workload.as_ref();
        let Some(w) = trial.workloads.iter().find(|w| of.is_none_or(|name| *name == w.name)) else { continue };
        let shown = trial.workloads.first().is_some_and(|first| first.name == w.name)
            && w.headline().is_some_and(|(headline, _)| headline == kind && (*q == 0.5 || *q == 0.99));
        if !shown && let ShownLatency::Finite(ns) = ShownLatency::of(w.latency.get(kind).and_then(|l| l.at(*q))) {
            parts.push(format!("{metric} {}", time_words(ns)));
        }
    }
    parts.join(", ")
}

fn figure_parts(trial: &Trial, case: Option<&Case>) -> Vec<String> {
    let mut parts = Vec::new();
    let rate = case.and_then(|c| c.workloads.first()).is_some_and(without_schedule);
    if let Some(w) = trial.workloads.first() {
        if rate {
            parts.push(format!("{}/s", count(w.rate())));
        }
        for (q, name) in [(0.5, "p50"), (0.99, "p99")] {
            let found = w.headline().filter(|_| !rate).map(|(_, l)| l);
            let clocks = clocks_words(found.and_then(|l| l.clocks));
            match ShownLatency::of(found.and_then(|l| l.at(q))) {
                ShownLatency::Finite(ns) => {
                    parts.push(format!("{name} {} {clocks}", time_words(ns)).trim_end().to_owned());
                }
                ShownLatency::Infinite => parts.push(format!("{name} never")),
                ShownLatency::Thin | ShownLatency::Absent => {}
            }
        }
    }
    if trial.workloads.iter().any(|w| !w.only_sends()) {
        let lost: u64 = trial.workloads.iter().map(WorkloadResult::lost).sum();
        parts.push(format!("lost {}", digits(lost)));
    }
    parts
}

/// `nats, round 1: p50 145 µs, p99 0.82 ms, lost 0`; what follows says why it does not count.
pub fn line(trial: &Trial, case: Option<&Case>) -> String {
    let mut parts = figure_parts(trial, case);
    match &trial.outcome {
        Outcome::Failed { phase, .. } => parts.push(format!("failed in {phase}")),
        Outcome::Partial => parts.push("interrupted, does not count".into()),
        Outcome::Complete => {
            let why: Vec<&str> =
                trial.validity.iter().filter(|c| c.status == Status::Invalid).map(checks::plain).collect();
            parts.push(if why.is_empty() { "valid".into() } else { format!("does not count: {}", why.join("; ")) });
        }
    }
    format!("{}, round {}: {}", trial.case, trial.round, parts.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::gate::{Comparator, Policy};
    use crate::record::sample;

    #[test]
    fn a_line_says_what_came_of_a_trial_and_why_it_does_not_count() {
        let mut record = sample::record();
        let mut lines: Vec<String> = record.trials.iter().map(|t| line(t, record.plan.cases.first())).collect();
        record.trials[0].outcome = Outcome::Failed { phase: "prepare".into(), error: "it did not start".into() };
        record.trials[0].workloads.clear();
        record.trials[1].outcome = Outcome::Partial;
        lines.extend(record.trials[..2].iter().map(|t| line(t, None)));
        insta::assert_snapshot!("trial_lines", lines.join("\n"));
    }
    #[test]
    fn a_search_shows_what_its_limits_are_about() {
        let record = sample::record();
        let of = |that: &str| {
            let limit = Expectation {
                that: that.into(),
                metric: that.split_whitespace().next().unwrap().parse().unwrap(),
                comparator: Comparator::Less,
                limit: 20e6,
                system: None,
                on_inconclusive: Policy::Warn,
            };
            figures(&record.trials[0], record.plan.cases.first(), &[limit])
        };
        let plain = figures(&record.trials[0], record.plan.cases.first(), &[]);
        assert_eq!(of("e2e.p99 < 20ms"), plain);
        assert_eq!(of("ledger.lost == 0"), plain);
        assert!(of("e2e.service.p99 < 20ms").starts_with(&format!("{plain}, e2e.service.p99 ")));
        assert!(of("e2e.p90 < 20ms").starts_with(&format!("{plain}, e2e.p90 ")));
        assert_eq!(of("rtt.p99 < 20ms"), plain, "what was not measured is not shown");
    }
}
