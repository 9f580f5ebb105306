//! What the intervals of a trial say about the trial itself, once it is over: how well each percentile is known, and the
//! checks of steadiness and noise. Works on what was recorded, so that an old record can be judged again.

use hdrhistogram::Histogram;

use super::steadiness::{self, Blocks};
use super::{coincidence, noise, summary::PRINTABLE};
use crate::record::{Check, Interval, LatencySummary, Packed, Percentile, TaggedInterval, Trial, WorkloadResult};
use crate::scenario::plan::{Case, Load};
use crate::stats::quantile::{Block, MIN_BLOCKS, block_interval, effective_exceedances};

/// The fewest blocks from which an interval is computed at all; below [`MIN_BLOCKS`] it is marked as unreliable.
const FEWEST_BLOCKS: usize = 5;

/// Fills in the interval of each percentile, and appends the checks V3, V7, V8, V10, V13, V14 and V17.
pub fn judge(trial: &mut Trial, case: &Case, intervals: &[Interval], log: &[TaggedInterval]) {
    let several = case.workloads.len() > 1;
    let mut checks = Vec::new();
    for (workload, plan) in trial.workloads.iter_mut().zip(&case.workloads) {
        let prefix = if several { format!("{}/", workload.name) } else { String::new() };
        for (kind, summary) in &mut workload.latency {
            let tag = format!("{prefix}{kind}");
            let blocks: Vec<&Packed> =
                log.iter().filter(|i| i.tag == tag && i.start_s > -1e-9).map(|i| &i.histogram).collect();
            bound(summary, &blocks);
        }
        let of: Vec<&Interval> =
            intervals.iter().filter(|i| i.workload == workload.name && i.start_s > -1e-9).collect();
        checks.extend(steady(workload, &plan.load, &of));
        if let Some(kind) = ["e2e", "rtt", "ack"].into_iter().find(|kind| workload.latency.contains_key(*kind)) {
            let tag = format!("{prefix}{kind}");
            let blocks: Vec<_> = log.iter().filter(|i| i.tag == tag && i.start_s > -1e-9).collect();
            checks.extend(coincidence::tail(&workload.latency[kind], &of, &blocks));
        }
        checks.extend(noise::dependence(workload).into_iter().chain(noise::errors(workload, &trial.events)));
    }
    checks.extend(noise::host(trial));
    // A case with several workloads has each check once, the gravest.
    for check in checks {
        match trial.validity.iter_mut().find(|c| c.id == check.id) {
            Some(there) if there.status >= check.status => {}
            Some(there) => *there = check,
            None => trial.validity.push(check),
        }
    }
}

fn bound(summary: &mut LatencySummary, blocks: &[&Packed]) {
    // Where messages were lost it is not known in which block: the exceedances cannot be counted.
    if summary.lost > 0 || blocks.len() < FEWEST_BLOCKS {
        return;
    }
    let mut all = blocks[0].open();
    all.auto(true);
    if blocks[1..].iter().any(|h| all.add(h.open()).is_err()) || all.len() != summary.count {
        return;
    }
    let above = |h: &Histogram<u64>, value| Block {
        count: h.len(),
        above: h.len() - h.count_between(0, h.highest_equivalent(value)),
    };
    // Each block is unpacked once, for all percentiles.
    let mut counts: Vec<Vec<Block>> = vec![Vec::new(); summary.percentiles.len()];
    for block in blocks {
        let h = block.open();
        for (counts, p) in counts.iter_mut().zip(&summary.percentiles) {
            counts.extend(p.value_ns.map(|value| above(&h, value)));
        }
    }
    for (p, counts) in summary.percentiles.iter_mut().zip(counts) {
        percentile(p, &all, &counts);
    }
}

fn percentile(p: &mut Percentile, all: &Histogram<u64>, counts: &[Block]) {
    if p.value_ns.is_none() {
        return;
    }
    let Some(found) = block_interval(counts, p.quantile, 0.05) else { return };
    let n = all.len();
    let at = |rank: u64| all.value_at_quantile(((rank as f64 - 0.5) / n as f64).clamp(0.0, 1.0)).min(all.max());
    p.ci95_ns = Some((found.ranks.0.map_or(all.min(), at), found.ranks.1.map(at)));
    p.phi = Some(found.phi);
    p.reliable = Some(found.reliable);
    let effective = effective_exceedances(n, p.quantile, found.phi);
    p.effective = Some(effective);
    // With few blocks phi is itself too uncertain to suppress anything.
    if counts.len() >= MIN_BLOCKS {
        p.printable &= effective >= PRINTABLE - 1e-9;
    }
}

fn steady(workload: &WorkloadResult, load: &Load, of: &[&Interval]) -> Vec<Check> {
    let Load::Open { profile, .. } = load else { return Vec::new() };
    let constant = profile.segments.iter().all(|s| s.from == profile.peak() && s.to == profile.peak());
    // A load that changes by design changes its latencies by design.
    if !constant || of.len() < steadiness::FEWEST_BLOCKS {
        return Vec::new();
    }
    let groups = workload.ledger.expected as f64 / workload.ledger.sent.max(1) as f64;
    let mut backlog = 0.0;
    let backlog: Vec<f64> = of
        .iter()
        .map(|i| {
            let done = if groups > 0.0 { i.delivered as f64 / groups } else { i.sent as f64 };
            backlog += i.scheduled as f64 - done;
            backlog
        })
        .collect();
    let ns =
        |f: fn(&Interval) -> Option<u64>| of.iter().filter_map(|i| f(i)).map(|v| v.max(1) as f64).collect::<Vec<_>>();
    let blocks = Blocks { p50: ns(|i| i.p50_ns), p99: ns(|i| i.p99_ns), seconds: of[0].length_s };
    // Retries, rejections and dead letters are deliveries that the ledger counts elsewhere.
    let plain = workload.ledger.rejected == 0 && workload.ledger.lost == 0 && workload.replay.is_none();
    let divergence = plain.then(|| steadiness::divergence(&backlog, profile.peak().0)).flatten();
    divergence.into_iter().chain(steadiness::stationary(&blocks)).chain(steadiness::steps(&blocks)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::sample;
    use std::collections::BTreeMap;

    /// A trial of 30 blocks of a second, 1000 messages each; `scale` is the mean latency of a block in microseconds.
    fn judged(scale: impl Fn(u64) -> f64) -> Trial {
        let record = sample::record();
        let (mut trial, case) = (record.trials[1].clone(), record.plan.cases[0].clone());
        let (mut log, mut intervals, mut all) = (Vec::new(), Vec::new(), Histogram::<u64>::new(3).unwrap());
        let mut seed = 1u64;
        let template = sample::intervals().swap_remove(5);
        for b in 0..30u64 {
            let mut h = Histogram::<u64>::new(3).unwrap();
            for _ in 0..1000 {
                seed = seed * 48271 % 2_147_483_647;
                let u = seed as f64 / 2_147_483_647.0;
                h.record((1_000.0 - scale(b) * 1e3 * u.ln()) as u64).unwrap();
            }
            all.add(&h).unwrap();
            let mut i = template.clone();
            (i.workload, i.start_s) = ("main".into(), b as f64);
            (i.scheduled, i.sent, i.delivered) = (1000, 1000, 1000);
            (i.p50_ns, i.p99_ns) = (Some(h.value_at_quantile(0.5)), Some(h.value_at_quantile(0.99)));
            intervals.push(i);
            log.push(TaggedInterval { tag: "e2e".into(), start_s: b as f64, length_s: 1.0, histogram: Packed::of(&h) });
        }
        let summary = crate::measure::summary::summarise(&all, 0, 0, 0, &[0.5, 0.99, 0.999]);
        trial.workloads[0].latency = BTreeMap::from([("e2e".to_string(), summary)]);
        trial.workloads[0].ledger.lost = 0;
        trial.validity.clear();
        judge(&mut trial, &case, &intervals, &log);
        trial
    }
    fn status(trial: &Trial, id: &str) -> crate::record::Status {
        trial.validity.iter().find(|c| c.id == id).unwrap_or_else(|| panic!("{id}: {:?}", trial.validity)).status
    }

    #[test]
    fn a_steady_trial_knows_its_percentiles() {
        use crate::record::Status::Ok;
        let trial = judged(|_| 100.0);
        let p99 = *trial.workloads[0].latency["e2e"].at(0.99).unwrap();
        let (low, high) = p99.ci95_ns.unwrap();
        // The truth: 1 us and 100 us times ln 100.
        let truth = 1_000.0 + 100_000.0 * 100f64.ln();
        assert!((low as f64) < truth && truth < high.unwrap() as f64, "{low} {high:?} {truth}");
        assert!(p99.phi.unwrap() < 2.0 && p99.reliable == Some(true) && p99.printable, "{p99:?}");
        assert!((p99.effective.unwrap() - 300.0 / p99.phi.unwrap()).abs() < 1e-9);
        for id in ["V3", "V7", "V8", "V10", "V14"] {
            assert_eq!(status(&trial, id), Ok, "{:?}", trial.validity);
        }
    }

    #[test]
    fn a_step_a_drift_and_a_burst_are_seen() {
        use crate::record::Status::Warn;
        assert_eq!(status(&judged(|b| if b < 15 { 100.0 } else { 130.0 }), "V8"), Warn);
        assert_eq!(status(&judged(|b| 100.0 + 2.0 * b as f64), "V7"), Warn);
        // One block in ten is ten times slower: the samples above p99.9 come together.
        let burst = judged(|b| if b % 15 == 7 { 3000.0 } else { 100.0 });
        let p999 = *burst.workloads[0].latency["e2e"].at(0.999).unwrap();
        assert!(p999.phi.unwrap() > 5.0 && !p999.printable, "{p999:?}");
        assert_eq!(status(&burst, "V10"), Warn);
    }
}
