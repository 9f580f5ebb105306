//! What it costs to put the results of many agents together: for the benchmark (`cargo bench
//! --bench agents`), and for the proof that nothing is lost on the way.

use std::io::Read;
use std::time::{Duration, Instant};

use crate::measure::ledger::SequenceSet;
use crate::measure::recorder::{LatencyKind, histogram};
use crate::plan::{AgentsPlan, Case};
use crate::record::{AgentResult, AgentState, Ledger, Packed};
use crate::units::SECOND;

use super::accounts::{AgentAccounts, AgentReturn};
use super::consume::Received;
use super::fold::{FoldContext, fold};
use super::join::join_all;
use super::produce::Sent;
use super::raw::RawTrial;

/// What putting results together came to, and what it took.
#[derive(Debug, Clone)]
pub struct Merged {
    /// Of the first workload.
    pub ledger: Ledger,
    /// Samples of the delivery time.
    pub samples: u64,
    pub agents: usize,
    /// To read what came, to put it side by side, and to close the books.
    pub read: Duration,
    pub joined: Duration,
    pub folded: Duration,
}

/// What an agent brings of a trial in which all its messages arrived, as it is sent: each producer
/// sent so many, and each group has all of them. Its clients are those of its share.
pub fn simulated_result(case: &Case, layout: &AgentsPlan, index: u32, each: u64) -> Vec<u8> {
    let (share, w) = (layout.share(index), &case.workloads[0]);
    let (producers, members) = (w.topology.producers, u64::from(w.topology.members));
    let seconds = (case.phases.measure.0 / SECOND).max(1);
    let mut raw = RawTrial::of(case);
    let mut samples = vec![(LatencyKind::Lag, 0)];
    for p in (0..producers).filter(|p| share.publishes(w, *p)) {
        let mut sent = Sent { scheduled: each, sent: each, range: (0, each), ..Sent::default() };
        sent.sent_by_interval = vec![each / seconds; seconds as usize];
        sent.scheduled_by_interval = sent.sent_by_interval.clone();
        raw.sent[0].push((p, sent));
        samples[0].1 += each;
    }
    for c in (0..w.topology.consumers()).filter(|c| share.consumes(w, *c)) {
        // The members of a group have the messages in turn.
        let (group, member) = (c / w.topology.members, u64::from(c) % members);
        let mut seen = vec![SequenceSet::default(); producers as usize];
        let mine = || (member..each).step_by(members as usize);
        for set in &mut seen {
            mine().for_each(|n| {
                set.insert(n);
            });
        }
        let dead = vec![SequenceSet::default(); producers as usize];
        let member = member as u32;
        raw.received[0].push((group, Received { seen, dead, member, ..Received::default() }));
        let arrived = mine().count() as u64 * u64::from(producers);
        samples.extend([(LatencyKind::Response, arrived), (LatencyKind::Service, arrived)]);
    }
    // A few hundred values, from 50 us to 3 ms.
    let value = |n: u64| 50_000 + (n.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ u64::from(index)) % 3_000_000;
    for second in 0..seconds {
        for (kind, all) in samples.iter().filter(|(_, all)| *all > 0) {
            let mut latencies = histogram();
            let n = all / seconds + u64::from(second < all % seconds);
            // So many values are drawn; those that are left over are the last one's.
            let drawn = n.min(2_000);
            (0..drawn).for_each(|k| latencies.saturating_record(value(k + second)));
            latencies.saturating_record_n(value(second), n - drawn);
            raw.samples.add((0, *kind, second), latencies);
        }
    }
    let mut pauses = histogram();
    (0..1_000).for_each(|n| pauses.saturating_record(value(n) / 10));
    let hiccups = (0..seconds).map(|second| (second, Packed::of(&pauses))).collect();
    let accounts = AgentAccounts::of(raw, hiccups, (Vec::new(), false));
    let mut to = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::fast());
    // Memory takes every byte.
    serde_json::to_writer(&mut to, &accounts).ok().and_then(|()| to.finish().ok()).unwrap_or_default()
}

/// Puts results together, in the order of the agents' numbers.
pub fn merge(case: &Case, layout: &AgentsPlan, brought: Vec<Vec<u8>>) -> Merged {
    let begun = Instant::now();
    let read = |bytes: Vec<u8>| {
        let mut text = Vec::new();
        flate2::read::ZlibDecoder::new(&bytes[..]).read_to_end(&mut text).ok()?;
        serde_json::from_slice(&text).ok()
    };
    let of = |(index, bytes)| {
        let accounts = read(bytes);
        let state = match &accounts {
            Some(_) => AgentState::Delivered,
            None => AgentState::Lost { silent_s: 0.0, allowed: false },
        };
        let agent = AgentResult { index, state, ..AgentResult::default() };
        AgentReturn { share: layout.share(index), agent, shift: 0, accounts }
    };
    let all: Vec<AgentReturn> = (0..).zip(brought).map(of).collect();
    let (was_read, begun) = (begun.elapsed(), Instant::now());
    let mut raw = RawTrial::of(case);
    raw.measured = case.phases.measure.0;
    join_all(&mut raw, case, 1, all, 0);
    let (joined, begun) = (begun.elapsed(), Instant::now());
    let frame =
        FoldContext { round: 1, delivers: true, spin: false, clocksource: "", quantiles: &[0.5, 0.99], events: &[] };
    let folded = fold(&raw, case, raw.agent_hiccups.iter().map(|(k, h)| (*k, h.clone())).collect(), &frame);
    let w = &folded.workloads[0];
    Merged {
        ledger: w.ledger.clone(),
        samples: w.latency.get("e2e").map_or(0, |l| l.count),
        agents: raw.agents.iter().filter(|a| a.delivered()).count(),
        read: was_read,
        joined,
        folded: begun.elapsed(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::join::tests::{divided, plan};

    /// Of each kind of layout: all agents have both, or some one and some the other; groups of one
    /// and of several.
    #[test]
    fn the_results_of_many_agents_are_put_together() {
        for (agents, producers, groups, members) in [(12, 12, 12, 1), (12, 24, 2, 1), (5, 5, 2, 10), (3, 3, 1, 1)] {
            let mut plan = plan(producers, 1000, "constant");
            plan.cases[0].phases.measure = crate::units::Span::secs(2);
            let topology = &mut plan.cases[0].workloads[0].topology;
            (topology.groups, topology.members) = (groups, members);
            let layout = AgentsPlan::any(agents);
            let divided = divided(&plan, layout.clone());
            let case = &divided.cases[0];
            let brought: Vec<Vec<u8>> = (0..agents).map(|i| simulated_result(case, &layout, i, 700)).collect();
            let it = merge(case, &layout, brought.clone());
            let (sent, copies) = (700 * u64::from(producers), u64::from(groups));
            let Ledger { scheduled, sent: was_sent, expected, delivered, lost, duplicated, .. } = it.ledger;
            assert_eq!((it.agents, scheduled, was_sent), (agents as usize, sent, sent));
            assert_eq!((expected, delivered, lost, duplicated), (copies * sent, copies * sent, 0, 0));
            assert_eq!(it.samples, copies * sent);
            // One agent's result is missing: what its producers sent and its consumers had is.
            let mut fewer = brought;
            fewer[0] = Vec::new();
            let it = merge(case, &layout, fewer);
            assert_eq!((it.agents, it.ledger.scheduled), (agents as usize - 1, it.ledger.scheduled));
            assert!(it.ledger.sent < sent && it.samples < copies * sent);
        }
    }
}
