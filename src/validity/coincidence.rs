//! V17: a tail that comes when the host pauses is the host's, until the opposite is shown
//! (stats.md, part (d)).
//!
//! The samples above a percentile are joined with the pauses that the hiccup meter saw in the same
//! interval or in one beside it, because a latency is booked where its message was due and a pause
//! where it ended. A pause counts when it is at least half as long as that percentile: shorter ones
//! cannot have made it.

use super::outcome::{check, grade};
use crate::record::{Check, Interval, LatencySummary, TaggedInterval};
use crate::units::{Nanos, latency};

/// Above this share of the tail the trial warns.
const HALF: f64 = 0.5;
/// Percentiles that have a tail to speak of, the highest that is printed is judged.
const TAIL: f64 = 0.99;
/// Intervals that are named.
const NAMED: usize = 3;

/// An interval: its start in seconds, samples above the percentile in it, and the longest pause of
/// the host.
struct PauseInterval {
    start_s: f64,
    above: u64,
    longest: Nanos,
    pause: Nanos,
}

/// Joins the tail of a response latency with pauses. `intervals` are those of its workload in the
/// measured phase, `log` its histograms in the same phase.
pub(super) fn tail(summary: &LatencySummary, intervals: &[&Interval], log: &[&TaggedInterval]) -> Option<Check> {
    let printed = summary.percentiles.iter().filter(|p| p.printable && p.quantile >= TAIL);
    let (quantile, value) = printed.filter_map(|p| Some((p.quantile, p.value_ns?))).next_back()?;
    let blocks: Vec<PauseInterval> = intervals
        .iter()
        .map(|i| {
            let h = log.iter().find(|t| (t.start_s - i.start_s).abs() < 1e-6).map(|t| t.histogram.open());
            PauseInterval {
                start_s: i.start_s,
                above: h.map_or(0, |h| h.len() - h.count_between(0, h.highest_equivalent(value))),
                longest: i.max_ns.unwrap_or(0),
                pause: i.hiccup_max_ns.unwrap_or(0),
            }
        })
        .collect();
    let all: u64 = blocks.iter().map(|b| b.above).sum();
    if all == 0 {
        return None;
    }
    let nearby = |i: usize| blocks[i.saturating_sub(1)..(i + 2).min(blocks.len())].iter().map(|b| b.pause).max();
    let hits: Vec<(&PauseInterval, Nanos)> = blocks
        .iter()
        .enumerate()
        .filter_map(|(i, b)| Some((b, nearby(i).filter(|pause| b.above > 0 && 2 * pause >= value)?)))
        .collect();
    let share = hits.iter().map(|(b, _)| b.above).sum::<u64>() as f64 / all as f64;
    let name = crate::plan::metric::quantile_name(quantile);
    let mut worst = hits;
    worst.sort_by_key(|(b, _)| std::cmp::Reverse(b.longest));
    let named: Vec<String> = worst
        .iter()
        .take(NAMED)
        .map(|(b, pause)| format!("{:.1} s (response {}, pause {})", b.start_s, latency(b.longest), latency(*pause)))
        .collect();
    let at = if named.is_empty() { String::new() } else { format!("; the worst at {}", named.join(", ")) };
    Some(check(
        "V17",
        "tail and pauses of the host",
        grade(share, HALF, f64::INFINITY),
        format!(
            "{:.0} % of the {all} samples above {name} ({}) came while the host paused for at least half of that{at}",
            100.0 * share,
            latency(value)
        ),
        "WARN above 50 %",
        "the tail coincides with pauses of the host, which hit generator and broker alike: the system may not be the cause; use a quieter host",
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::measure::recorder::histogram;
    use crate::measure::summary::summarise;
    use crate::record::sample;
    use crate::record::{Packed, Status};

    /// Twenty intervals of 1000 samples of 100 us; in `slow` ones twenty of 10 ms instead; pauses
    /// as given.
    fn judged(slow: &[usize], pauses: &[(usize, Nanos)]) -> Option<Check> {
        let template = sample::intervals().swap_remove(5);
        let (mut intervals, mut log, mut all) = (Vec::new(), Vec::new(), histogram());
        for i in 0..20usize {
            let (mut h, bad) = (histogram(), if slow.contains(&i) { 20 } else { 0 });
            h.record_n(100_000, 1000 - bad).unwrap();
            h.record_n(10_000_000, bad).unwrap();
            all.add(&h).unwrap();
            let pause = pauses.iter().find(|(at, _)| *at == i).map(|(_, ns)| *ns);
            let (max_ns, hiccup_max_ns) = (Some(h.max()), Some(pause.unwrap_or(50_000)));
            intervals.push(Interval { start_s: i as f64, max_ns, hiccup_max_ns, ..template.clone() });
            let histogram = Packed::of(&h);
            log.push(TaggedInterval { tag: "e2e".into(), start_s: i as f64, length_s: 1.0, histogram });
        }
        let summary = summarise(&all, 0, 0, 0, &[0.5, 0.99, 0.997]);
        tail(&summary, &intervals.iter().collect::<Vec<_>>(), &log.iter().collect::<Vec<_>>())
    }

    #[test]
    fn a_tail_is_the_hosts_where_it_comes_with_its_pauses() {
        // Above p99.7, which is 100 us: sixty samples of 10 ms in three intervals.
        let slow = [3, 9, 15];
        let with = judged(&slow, &[(3, 9_000_000), (10, 9_500_000), (14, 8_000_000)]).unwrap();
        assert_eq!(with.status, Status::Warn, "{}", with.observed);
        assert!(with.observed.starts_with("100 % of the 60 samples above p99.7"), "{}", with.observed);
        let elsewhere = judged(&slow, &[(6, 9_000_000), (12, 9_500_000), (18, 8_000_000)]).unwrap();
        assert_eq!(elsewhere.status, Status::Ok, "{}", elsewhere.observed);
        let short = judged(&slow, &[(3, 40_000), (9, 40_000), (15, 40_000)]).unwrap();
        assert_eq!(short.status, Status::Ok, "{}", short.observed);
        assert!(judged(&[], &[]).is_none(), "no tail, no check");
    }
}
