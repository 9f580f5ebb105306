//! What the checks look at of one workload: taken from its books, its latencies and the trial
//! around it.

use std::collections::BTreeMap;

use crate::plan::{Arrivals, Case, Load, Workload};
use crate::record::{LatencySummary, Packed};
use crate::units::{Nanos, SECOND};
use crate::validity::{BlockFlow, CheckInput, Sends};

use super::accounting::Accounting;
use super::produce::{GAPS, Sent};
use super::raw::RawTrial;
use super::shared::parts;

/// Where a workload stands in its trial.
pub struct Place<'a> {
    pub raw: &'a RawTrial,
    pub case: &'a Case,
    /// Index of the workload, and what it is.
    pub index: usize,
    pub workload: &'a Workload,
    /// What the latency that heads it is called.
    pub headline: &'static str,
    /// Pauses of the host by interval.
    pub hiccups: &'a BTreeMap<u64, Packed>,
    /// Whether something is done to the system, or to a consumer.
    pub disturbed: bool,
    /// Whether the pacer spun.
    pub spin: bool,
    /// The kernel's clock source.
    pub clocksource: &'a str,
}

/// What was observed of the workload.
pub fn observe(at: &Place<'_>, accounting: &Accounting, latency: &BTreeMap<String, LatencySummary>) -> CheckInput {
    let Place { raw, case, index, workload: w, headline, hiccups, disturbed, spin, clocksource } = *at;
    let open = matches!(w.load, Load::Open { .. });
    let tail = |key: &str| {
        let s = latency.get(key)?;
        s.percentiles.iter().rev().find(|p| p.printable).map(|p| p.value_ns)
    };
    let l = &accounting.ledger;
    let recorded = latency.get(headline).filter(|_| open).or_else(|| latency.get(&format!("{headline}.service")));
    let whole = l.lost + l.duplicated + l.dead_lettered == 0 && raw.failed.is_none() && !raw.interrupted;
    let whole = whole && !raw.agent_lost;
    // What was never acknowledged has no second stamp.
    let whole = whole && (headline != "ack" || l.acked >= l.sent);
    let balance = whole && recorded.is_some_and(|s| s.count > 0);
    let longest = |key: &str| latency.get(key).and_then(|l| l.max_ns);
    let pause = hiccups.values().map(|h| h.open().max()).max();
    let block = case.phases.interval.0 / parts(case.phases.measure.0, case.phases.interval.0);
    CheckInput {
        scheduled: open.then_some(l.scheduled).filter(|_| !raw.abandoned),
        sent: l.sent.saturating_sub(l.sent_late),
        seconds: (raw.measured as f64 / SECOND as f64).max(1e-9),
        paced: raw.measured > 0 && open,
        flow: (!raw.agent_lost)
            .then(|| accounting.within.flow(raw, index, w, accounting.consumed, accounting.answered, block))
            .flatten()
            .map(|flow| BlockFlow { disturbed, ..flow }),
        sends: sends(at),
        // The null driver has no response of its own to hold the lag against.
        lag_tail: tail("lag").flatten().filter(|_| headline != "ack"),
        response_tail: tail(headline),
        backpressure: raw.backpressure,
        expected: l.expected,
        lost: l.lost,
        arriving: raw.arriving,
        in_flight: l.in_flight,
        client_dropped: l.client_dropped,
        dropped: accounting.dropped,
        corrupted: l.corrupted,
        foreign: l.foreign,
        sojourn_from_stamps: balance.then_some((accounting.received_sum - accounting.intended_sum) as f64),
        sojourn_from_histogram: recorded.map_or(0.0, |s| s.mean_ns * s.count as f64),
        busiest: raw.busiest,
        waiting: raw.waiting,
        spinning: spin,
        unthrottled: !open,
        clipped: raw.clipped.iter().sum(),
        negative: raw.negative.iter().sum(),
        two_clocks: raw.one_way.iter().any(Option::is_some),
        longest: pause.zip(longest("lag")).zip(longest(headline)).map(|((p, l), r)| (p, l, r)),
        clocksource: clocksource.into(),
    }
}

/// When the first messages were sent, all producers together, where the rate is constant.
fn sends(at: &Place<'_>) -> Option<Sends> {
    let Place { raw, case, index, workload, .. } = *at;
    let Load::Open { arrivals, profile } = &workload.load else { return None };
    let rate = profile.peak().0;
    if raw.agent_lost || profile.segments.iter().any(|s| s.from.0 != rate || s.to.0 != rate) {
        return None;
    }
    // After the last of a producer whose room is full, the others would be alone.
    let full = |s: &&Sent| s.first.len() > GAPS;
    let sent = || raw.sent[index].iter().map(|(_, s)| s);
    let end = sent().filter(full).filter_map(|s| s.first.last()).min().copied().unwrap_or(Nanos::MAX);
    let mut all: Vec<Nanos> = sent().flat_map(|s| &s.first).copied().filter(|t| *t <= end).collect();
    all.sort_unstable();
    let (interval, parts) = (case.phases.interval.0, parts(case.phases.measure.0, case.phases.interval.0));
    let whole = raw.measured / interval.max(1);
    let count = |k: u64| sent().map(|s| of_interval(&s.sent_by_interval, k, parts)).sum::<u64>() as f64;
    Some(Sends {
        gaps: all.windows(2).take(GAPS).map(|t| (t[1] - t[0]) as f64).collect(),
        counts: (0..whole).map(count).collect(),
        expected: SECOND as f64 / rate,
        poisson: *arrivals == Arrivals::Poisson,
    })
}

/// The count of an interval that is counted in `parts`.
pub fn of_interval(blocks: &[u64], interval: u64, parts: u64) -> u64 {
    blocks.iter().skip((interval * parts) as usize).take(parts as usize).sum()
}
