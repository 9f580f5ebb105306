//! What came within the measured phase, each message once for each group, and block by block what
//! was due and came at all.

use std::borrow::Cow;

use crate::measure::first_arrivals::{ArrivalPhase, repeated};
use crate::measure::ledger::SequenceSet;
use crate::plan::{Load, Role, Workload};
use crate::units::{Nanos, SECOND};
use crate::validity::BlockFlow;

use super::consume::Received;
use super::produce::Sent;
use super::raw::RawTrial;

/// Silence after the last arrival, at the end of a drain that lasted so long, says that nothing
/// more was coming.
const SETTLED: Nanos = 500_000_000;

/// Deliveries within the measured phase; acknowledgements where nobody receives.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DeliveryCounts {
    /// Messages and bytes that came for the first time, in each group.
    pub first: (u64, u64),
    /// Messages and bytes that came at all, duplicates included; `None` where nobody receives.
    pub received: Option<(u64, u64)>,
    /// First deliveries in each block.
    pub by_block: Vec<u64>,
    /// The same to groups whose latency is the headline.
    headline: Vec<u64>,
}

fn add(to: &mut Vec<u64>, from: &[u64]) {
    to.resize(to.len().max(from.len()), 0);
    to.iter_mut().zip(from).for_each(|(to, from)| *to += from);
}

fn members(raw: &RawTrial, i: usize, group: u32) -> Vec<&Received> {
    raw.received[i].iter().filter(|(g, _)| *g == group).map(|(_, r)| r).collect()
}

impl DeliveryCounts {
    /// Of workload `i`: to consumers, to requesters, or else as acknowledged.
    pub fn of(raw: &RawTrial, i: usize, w: &Workload, consumed: bool, answered: bool) -> Self {
        let mut all = Self::default();
        if !consumed {
            for (_, s) in &raw.sent[i] {
                add(&mut all.by_block, &s.confirmed_by_interval);
                all.first.0 += if answered { s.answered_in_time.0 } else { s.confirmed_by_interval.iter().sum() };
                all.first.1 += s.answered_in_time.1;
                let received = all.received.get_or_insert_default();
                received.0 += s.received_in_time.0;
                received.1 += s.received_in_time.1;
            }
            all.received = all.received.filter(|_| answered);
            all.headline.clone_from(&all.by_block);
            return all;
        }
        for group in 0..w.topology.groups {
            let members = members(raw, i, group);
            let (first, by_block) = first_arrivals(&members, &raw.sent[i]);
            let received = all.received.get_or_insert_default();
            for m in &members {
                received.0 += m.arrived_in_time.0;
                received.1 += m.arrived_in_time.1;
            }
            all.first.0 += first.0;
            all.first.1 += first.1;
            add(&mut all.by_block, &by_block);
            if w.role(group) == Role::Tail {
                add(&mut all.headline, &by_block);
            }
        }
        all
    }

    /// What was due, came at all, and had come, block by block; `None` where there is no schedule,
    /// or nobody who receives or acknowledges.
    pub fn flow(
        &self,
        raw: &RawTrial,
        i: usize,
        w: &Workload,
        consumed: bool,
        answered: bool,
        block: Nanos,
    ) -> Option<BlockFlow> {
        let Load::Open { profile, .. } = &w.load else { return None };
        let tails: Vec<u32> = (0..w.topology.groups).filter(|g| w.role(*g) == Role::Tail).collect();
        let copies = if consumed { tails.len() as u64 } else { 1 };
        let sent = || raw.sent[i].iter().map(|(_, s)| s);
        if copies == 0 || !(consumed || answered || sent().any(|s| s.acknowledged)) {
            return None;
        }
        let n = (raw.measured / block.max(1)) as usize;
        let at = |counts: &[u64], k: usize| counts.get(k).copied().unwrap_or(0);
        let mut flow = BlockFlow {
            due: vec![0; n],
            owed: vec![0; n],
            done: (0..n).map(|k| at(&self.headline, k)).collect(),
            unsent: 0,
            seconds: block as f64 / SECOND as f64,
            disturbed: false,
            constant: profile.segments.iter().all(|s| s.from == profile.peak() && s.to == profile.peak()),
        };
        // While messages were arriving at the end of the drain, those after the last one that came
        // may be on their way.
        let open = raw.arriving || raw.drained < SETTLED;
        let groups: Vec<_> = tails.iter().map(|g| members(raw, i, *g)).collect();
        for (producer, s) in &raw.sent[i] {
            let seen: Vec<Cow<'_, SequenceSet>> = match (consumed, answered) {
                (true, _) => groups.iter().map(|all| merged(all, *producer as usize)).collect(),
                (false, true) => vec![Cow::Borrowed(&s.answers)],
                (false, false) => vec![Cow::Borrowed(&s.acks)],
            };
            let seen: Vec<_> = seen.into_iter().map(|seen| (seen.end(), seen)).collect();
            let mut from = s.base;
            for k in 0..n {
                let to = from + at(&s.scheduled_by_interval, k);
                if to == from {
                    continue;
                }
                flow.due[k] += copies * (to - from);
                for (end, seen) in &seen {
                    let coming = to.min(s.range.1).saturating_sub(from.max(*end));
                    flow.owed[k] += seen.count(from, to) + if open { coming } else { 0 };
                }
                from = to;
            }
        }
        let total = |f: &dyn Fn(&Sent) -> u64| sent().map(f).sum::<u64>();
        let due = total(&|s| s.scheduled_by_interval.iter().sum());
        flow.unsent = copies * due.saturating_sub(total(&|s| s.sent_by_interval.iter().sum()));
        Some(flow)
    }
}

/// What the members of a group saw of a producer.
fn merged<'a>(members: &[&'a Received], producer: usize) -> Cow<'a, SequenceSet> {
    let mut all = members.iter().filter_map(|m| m.seen.get(producer));
    let Some(first) = all.next() else { return Cow::Owned(SequenceSet::default()) };
    all.fold(Cow::Borrowed(first), |mut seen, more| {
        seen.to_mut().merge(more);
        seen
    })
}

/// First deliveries to a group within the measured phase, messages and bytes, and by block: what a
/// member had that another had before is taken off where it was counted.
fn first_arrivals(members: &[&Received], sent: &[(u32, Sent)]) -> ((u64, u64), Vec<u64>) {
    let (mut messages, mut bytes, mut by_block) = (0, 0, Vec::new());
    for m in members {
        messages += m.in_time.0;
        bytes += m.in_time.1;
        add(&mut by_block, &m.by_block);
    }
    let producers = members.iter().map(|m| m.first_arrivals.len()).min().unwrap_or(0);
    let mean = bytes.checked_div(messages).unwrap_or(0);
    for producer in 0..producers {
        let sizes = sent.iter().find(|(p, _)| *p as usize == producer).map_or(&[][..], |(_, s)| &s.sizes);
        let size = |n: u64| match sizes.len() as u64 {
            // Those of a backlog are not known here.
            0 => mean,
            len => u64::from(sizes[(n % len) as usize]),
        };
        let of: Vec<_> = members.iter().map(|m| &m.first_arrivals[producer]).collect();
        repeated(&of, |_, when, sequence| {
            if let ArrivalPhase::Block(k) = when {
                messages -= 1;
                bytes = bytes.saturating_sub(size(sequence));
                by_block[k as usize] -= 1;
            }
        });
    }
    ((messages, bytes), by_block)
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::collections::BTreeSet;
    use std::rc::Rc;
    use std::time::Duration;

    use proptest::prelude::*;

    use super::super::consume::{ConsumerRecorder, RejectRule};
    use super::super::lanes::Lanes;
    use super::super::shared::Shared;
    use super::*;
    use crate::driver::{Incoming, MessageSink};
    use crate::load::message::{ENVELOPE, Envelope, Template};
    use crate::measure::first_arrivals::FirstArrivals;
    use crate::measure::ledger::LaneOrder;
    use crate::measure::recorder::Recorder;
    use crate::record::sample;

    /// Made once: the record of the sample takes a while.
    static WORKLOAD: std::sync::LazyLock<Workload> =
        std::sync::LazyLock::new(|| sample::record().plan.cases[0].workloads[0].clone());
    const PRODUCERS: usize = 2;
    const ORIGIN: Nanos = SECOND;
    const END: Nanos = 3 * SECOND;
    const BLOCK: Nanos = SECOND / 10;
    /// Bytes of the messages of a producer, in turn.
    const SIZES: [usize; 3] = [100, 60, 300];

    fn consumer_recorder<'a>(
        shared: &'a Shared,
        recorder: &Rc<RefCell<Recorder>>,
        members: usize,
    ) -> ConsumerRecorder<'a> {
        let first_arrivals = vec![FirstArrivals::default(); if members > 1 { PRODUCERS } else { 0 }];
        let (seen, dead) = (vec![SequenceSet::default(); PRODUCERS], vec![SequenceSet::default(); PRODUCERS]);
        ConsumerRecorder {
            run: 1,
            workload: 0,
            role: Role::Tail,
            think: Duration::ZERO,
            group: 0,
            lanes: Lanes { channels: 1, keys: None },
            rule: RejectRule::default(),
            answer: false,
            watched: false,
            open_loop: true,
            shared,
            recorder: Rc::clone(recorder),
            origin: ORIGIN,
            shift: 0,
            near: Vec::new(),
            block: BLOCK,
            order: LaneOrder::new(PRODUCERS as u64, 1),
            received: Received { seen, dead, first_arrivals, ..Received::default() },
            arrived: 0,
            told: false,
            look: Duration::from_secs(1),
            instant: (Nanos::MAX, None),
        }
    }

    /// Rates as counts, by a set of what the group had: first deliveries, everything, and first
    /// deliveries by block.
    fn naive(deliveries: &[(usize, usize, u64, Nanos)]) -> ((u64, u64), (u64, u64), Vec<u64>) {
        let (mut had, mut first, mut all, mut blocks) = (BTreeSet::new(), (0, 0), (0, 0), vec![0; 20]);
        for (_, producer, number, at) in deliveries {
            let new = had.insert((*producer, *number));
            if (ORIGIN..END).contains(at) {
                let bytes = SIZES[*number as usize % SIZES.len()] as u64;
                all = (all.0 + 1, all.1 + bytes);
                if new {
                    first = (first.0 + 1, first.1 + bytes);
                    blocks[((at - ORIGIN) / BLOCK) as usize] += 1;
                }
            }
        }
        (first, all, blocks)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn rates_are_of_first_deliveries_within_the_measured_phase(
            members in 1usize..4,
            mut deliveries in prop::collection::vec((0usize..3, 0..PRODUCERS, 0u64..80, 0..4 * SECOND), 0..300),
        ) {
            deliveries.sort_by_key(|d| d.3);
            let shared = Shared::new(1);
            shared.go(1, ORIGIN, END);
            let (out, _shipped) = std::sync::mpsc::channel();
            let recorder = Rc::new(RefCell::new(Recorder::new(0, ORIGIN, SECOND, out)));
            let mut consumers: Vec<ConsumerRecorder<'_>> = (0..members).map(|_| consumer_recorder(&shared, &recorder, members)).collect();
            let mut pool = SIZES.map(|size| Template::new(&vec![7; size - ENVELOPE]));
            for (member, producer, sequence, at) in &deliveries {
                let due = at.saturating_sub(SECOND / 7);
                let e = Envelope { run: 1, producer: *producer as u32, sequence: *sequence, intended: due, sent: due };
                let payload = pool[*sequence as usize % SIZES.len()].stamp(&e);
                consumers[*member % members].take(Incoming { payload, at: *at, attempt: 0 });
            }
            let mut w = WORKLOAD.clone();
            (w.topology.groups, w.topology.members) = (1, members as u32);
            let sizes = pool.iter().map(|t| t.len() as u32).collect::<Vec<_>>();
            let sent = (0..PRODUCERS as u32).map(|p| (p, Sent { sizes: sizes.clone(), ..Sent::default() })).collect();
            let received = consumers.into_iter().map(|consumer_recorder| (0, consumer_recorder.received)).collect();
            let raw = RawTrial { sent: vec![sent], received: vec![received], ..RawTrial::default() };
            let mut found = DeliveryCounts::of(&raw, 0, &w, true, false);
            found.by_block.resize(20, 0);
            prop_assert_eq!((found.first, found.received.unwrap(), found.by_block), naive(&deliveries));
        }

        #[test]
        fn what_is_lost_is_no_backlog(
            lost in prop::collection::btree_set(0u64..1_000, 0..400), late in 0u64..300, open in any::<bool>(),
        ) {
            // A hundred due in each of ten blocks, after seven of the warm-up; the last `late` ones
            // come in the drain.
            let mut s = Sent { base: 7, range: (7, 1_007), scheduled_by_interval: vec![100; 10], ..Sent::default() };
            s.sent_by_interval = vec![100; 10];
            let mut r = Received { seen: vec![SequenceSet::default()], by_block: vec![0; 10], ..Received::default() };
            for n in (0..1_000).filter(|n| !lost.contains(n)) {
                r.seen[0].insert(n + 7);
                r.by_block[n as usize / 100] += u64::from(n < 1_000 - late);
            }
            let last = (0..1_000).rev().find(|n| !lost.contains(n)).unwrap();
            let w = WORKLOAD.clone();
            let (sent, received) = (vec![vec![(0, s)]], vec![vec![(0, r)]]);
            let raw = RawTrial { sent, received, measured: SECOND, drained: SECOND, arriving: open, ..RawTrial::default() };
            let flow = DeliveryCounts::of(&raw, 0, &w, true, false).flow(&raw, 0, &w, true, false, BLOCK).unwrap();
            let backlog = flow.owed.iter().sum::<u64>() - flow.done.iter().sum::<u64>();
            let owed = (1_000 - late..1_000).filter(|n| !lost.contains(n)).count() as u64;
            prop_assert_eq!(backlog, owed + if open { 999 - last } else { 0 }, "what may be on its way is owed");
            prop_assert_eq!((flow.due.iter().sum::<u64>(), flow.unsent), (1_000, 0));
        }
    }
}
