//! What the intervals of a trial say about the trial itself, once it is over: how well each
//! percentile is known, and the checks of steadiness and noise. Works on what was recorded, so that
//! an old record can be judged again.

use hdrhistogram::Histogram;

use super::steadiness::{self, BlockLatencies};
use super::{coincidence, episodes, noise};
use crate::measure::summary::PRINTABLE;
use crate::plan::{Case, Load};
use crate::record::{Check, ClockDoubt, Interval, LatencySummary, Percentile, TaggedInterval, Trial};
use crate::stats::quantile::{MIN_BLOCKS, TimeBlock, block_interval, effective_exceedances};

/// The fewest blocks from which an interval is computed at all; below [`MIN_BLOCKS`] it is marked
/// as unreliable.
const FEWEST_BLOCKS: usize = 5;

/// Fills in the interval of each percentile, and appends the checks V7, V8, V10, V13, V14 and V17.
pub(super) fn judge(trial: &mut Trial, case: &Case, intervals: &[Interval], log: &[TaggedInterval]) {
    let several = case.workloads.len() > 1;
    let mut checks = Vec::new();
    for (workload, plan) in trial.workloads.iter_mut().zip(&case.workloads) {
        let prefix = if several { format!("{}/", workload.name) } else { String::new() };
        for (kind, summary) in &mut workload.latency {
            let tag = format!("{prefix}{kind}");
            let blocks: Vec<&TaggedInterval> = log.iter().filter(|i| i.tag == tag && i.start_s > -1e-9).collect();
            bound(summary, &blocks);
        }
        let of: Vec<&Interval> =
            intervals.iter().filter(|i| i.workload == workload.name && i.start_s > -1e-9).collect();
        checks.extend(steady(&plan.load, &of));
        if let Some((kind, summary)) = workload.response() {
            let tag = format!("{prefix}{kind}");
            let blocks: Vec<_> = log.iter().filter(|i| i.tag == tag && i.start_s > -1e-9).collect();
            checks.extend(coincidence::tail(summary, &of, &blocks));
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

fn bound(summary: &mut LatencySummary, blocks: &[&TaggedInterval]) {
    // Where messages were lost it is not known in which block: the exceedances cannot be counted.
    if summary.lost > 0 || blocks.len() < FEWEST_BLOCKS {
        return;
    }
    let mut all = blocks[0].histogram.open();
    all.auto(true);
    if blocks[1..].iter().any(|b| all.add(b.histogram.open()).is_err()) || all.len() != summary.count {
        return;
    }
    let typical = 3 * all.value_at_quantile(0.5);
    // Each block is unpacked once, for all percentiles.
    let mut counts: Vec<Vec<episodes::TailInterval>> = vec![Vec::new(); summary.percentiles.len()];
    for block in blocks {
        let h = block.histogram.open();
        for (counts, p) in counts.iter_mut().zip(&summary.percentiles) {
            counts.extend(p.value_ns.map(|value| episodes::TailInterval {
                start_s: block.start_s,
                length_s: block.length_s,
                count: h.len(),
                above: h.len() - h.count_between(0, h.highest_equivalent(value)),
                late: h.len() - h.count_between(0, typical),
                longest: h.max(),
            }));
        }
    }
    let clocks = summary.clocks;
    for (p, counts) in summary.percentiles.iter_mut().zip(counts) {
        percentile(p, &all, &counts, clocks);
    }
}

fn percentile(p: &mut Percentile, all: &Histogram<u64>, blocks: &[episodes::TailInterval], clocks: Option<ClockDoubt>) {
    if p.value_ns.is_none() {
        return;
    }
    let counts: Vec<TimeBlock> = blocks.iter().map(|b| TimeBlock { count: b.count, above: b.above }).collect();
    let Some(found) = block_interval(&counts, p.quantile, 0.05) else { return };
    let n = all.len();
    let at = |rank: u64| all.value_at_quantile(((rank as f64 - 0.5) / n as f64).clamp(0.0, 1.0)).min(all.max());
    let samples = (found.ranks.0.map_or(all.min(), at), found.ranks.1.map(at));
    p.ci95_ns = match clocks.map(|doubt| doubt.bound_ns) {
        None => Some(samples),
        // Each sample is wrong by so much at most, and so is each percentile.
        Some(Some(bound)) => Some((samples.0.saturating_sub(bound), samples.1.map(|high| high.saturating_add(bound)))),
        Some(None) => None,
    };
    p.phi = Some(found.phi);
    p.reliable = Some(found.reliable);
    let effective = effective_exceedances(n, p.quantile, found.phi);
    p.effective = Some(effective);
    if p.printable && effective < PRINTABLE - 1e-9 {
        // The value is right and known: it is shown, with what it hangs on. With few blocks phi is
        // itself too uncertain to raise a doubt, but an event is one.
        let doubt = episodes::of(blocks, p.quantile, all.value_at_quantile(0.5));
        p.doubt = Some(doubt).filter(|d| counts.len() >= MIN_BLOCKS || d.decides());
    }
}

fn steady(load: &Load, of: &[&Interval]) -> Vec<Check> {
    let Load::Open { profile, .. } = load else { return Vec::new() };
    let constant = profile.segments.iter().all(|s| s.from == profile.peak() && s.to == profile.peak());
    // A load that changes by design changes its latencies by design.
    if !constant {
        return Vec::new();
    }
    let ns =
        |f: fn(&Interval) -> Option<u64>| of.iter().filter_map(|i| f(i)).map(|v| v.max(1) as f64).collect::<Vec<_>>();
    let seconds = of.first().map_or(0.0, |i| i.length_s);
    let blocks = BlockLatencies { p50: ns(|i| i.p50_ns), p99: ns(|i| i.p99_ns), seconds };
    vec![steadiness::stationary(&blocks), steadiness::steps(&blocks)]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::Packed;
    use crate::record::sample;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    /// A trial of 30 blocks of a second, 1000 messages each; `scale` is the mean latency of a block
    /// in microseconds.
    fn judged(scale: impl Fn(u64) -> f64) -> Trial {
        judged_with(scale, None)
    }

    /// The same, of agents whose clocks are known so well.
    fn judged_with(scale: impl Fn(u64) -> f64, clocks: Option<ClockDoubt>) -> Trial {
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
        let summary = LatencySummary { clocks, ..summary };
        trial.workloads[0].latency = BTreeMap::from([("e2e".to_string(), summary)]);
        trial.workloads[0].ledger.lost = 0;
        trial.validity.clear();
        judge(&mut trial, &case, &intervals, &log);
        trial
    }
    fn status(trial: &Trial, id: &str) -> crate::record::Status {
        trial.validity.iter().find(|c| c.id == id).unwrap_or_else(|| panic!("{id}: {:?}", trial.validity)).status
    }

    fn steady_firm(trial: &Trial) -> bool {
        trial.workloads[0].latency["e2e"].percentiles.iter().all(|p| p.firm() == p.printable)
    }

    /// `blocks` seconds of `rate` messages, 100 us each; from `at` on nothing moves for `stall`
    /// seconds.
    fn stalled(blocks: u64, rate: u64, at: f64, stall: f64) -> (LatencySummary, Vec<f64>) {
        let (mut all, mut log, mut truth) = (crate::measure::recorder::histogram(), Vec::new(), Vec::new());
        for b in 0..blocks {
            let mut h = crate::measure::recorder::histogram();
            for k in 0..rate {
                let due = b as f64 + k as f64 / rate as f64;
                let waits = if due >= at && due < at + stall { at + stall - due } else { 0.0 };
                truth.push(waits * 1e9 + 100_000.0);
                h.record((waits * 1e9) as u64 + 100_000).unwrap();
            }
            all.add(&h).unwrap();
            log.push(TaggedInterval { tag: "e2e".into(), start_s: b as f64, length_s: 1.0, histogram: Packed::of(&h) });
        }
        let mut summary = crate::measure::summary::summarise(&all, 0, 0, 0, &[0.5, 0.9, 0.99, 0.999]);
        bound(&mut summary, &log.iter().collect::<Vec<_>>());
        truth.sort_unstable_by(f64::total_cmp);
        (summary, truth)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn a_stall_hides_no_percentile_and_is_named(
            blocks in 10u64..40, rate in 50u64..500, at in 0.0f64..8.0, stall in 0.2f64..1.5,
        ) {
            let (summary, truth) = stalled(blocks, rate, at, stall);
            for p in summary.percentiles.iter().filter(|p| p.exceedances >= 10.0) {
                prop_assert!(p.printable, "{:?}", p);
                let exact = truth[(p.quantile * truth.len() as f64).ceil() as usize - 1];
                let value = p.value_ns.unwrap() as f64;
                prop_assert!((value / exact - 1.0).abs() < 0.002, "{} instead of {}", value, exact);
                if p.quantile > 1.0 - stall / blocks as f64 && p.effective.unwrap() < 10.0 {
                    prop_assert!(p.doubt.is_some(), "no doubt: {:?}", p);
                    let doubt = p.doubt.unwrap();
                    prop_assert!(doubt.episodes == 1 && doubt.stall && doubt.share > 0.5, "{:?}", doubt);
                    prop_assert!((doubt.longest_ns as f64 / 1e9 / stall - 1.0).abs() < 0.1, "{:?}", doubt);
                    prop_assert!((doubt.at_s - at.floor()).abs() <= 1.0, "{:?}", doubt);
                }
            }
        }
    }

    #[test]
    fn one_stall_of_a_second_in_twenty_is_named_at_each_percentile_it_decides() {
        let (summary, _) = stalled(20, 1_000, 10.0, 1.0);
        let shown: Vec<_> = summary.percentiles.iter().map(|p| (p.value_ns.map(|v| v / 10_000_000), p.doubt)).collect();
        // p of 0.99: 1 s - 0.01 x 20 s.
        assert_eq!(shown.iter().map(|s| s.0).collect::<Vec<_>>(), [Some(0), Some(0), Some(80), Some(98)]);
        for (_, doubt) in &shown[2..] {
            let doubt = doubt.unwrap();
            assert!(doubt.stall && doubt.episodes == 1 && doubt.at_s == 10.0 && doubt.share == 1.0, "{doubt:?}");
        }
    }

    #[test]
    fn what_needs_more_intervals_is_not_judged() {
        let record = sample::record();
        let (mut trial, case) = (record.trials[1].clone(), &record.plan.cases[0]);
        judge(&mut trial, case, &sample::intervals()[2..6], &[]);
        assert_eq!(["V7", "V8"].map(|id| status(&trial, id)), [crate::record::Status::NotJudged; 2]);
    }

    /// What the clocks of two agents may be wrong by is on both sides of each interval.
    #[test]
    fn clocks_are_in_the_interval_of_a_percentile() {
        let interval = |clocks| {
            let trial = judged_with(|_| 100.0, clocks);
            trial.workloads[0].latency["e2e"].at(0.5).unwrap().ci95_ns
        };
        let (low, high) = interval(None).unwrap();
        let known = |bound_ns| Some(ClockDoubt { bound_ns });
        assert_eq!(interval(known(Some(7_000))), Some((low - 7_000, Some(high.unwrap() + 7_000))));
        assert_eq!(interval(known(Some(10 * low))), Some((0, Some(high.unwrap() + 10 * low))), "none is below zero");
        assert_eq!(interval(known(None)), None);
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
        for id in ["V7", "V8", "V10", "V14"] {
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
        let doubt = p999.doubt.unwrap();
        assert!(p999.phi.unwrap() > 5.0 && p999.printable && !p999.firm(), "{p999:?}");
        assert!(doubt.episodes == 2 && doubt.share > 0.9 && !doubt.stall, "{doubt:?}");
        assert!(steady_firm(&judged(|_| 100.0)), "no doubt where there is nothing");
        assert_eq!(status(&burst, "V10"), Warn);
    }
}
