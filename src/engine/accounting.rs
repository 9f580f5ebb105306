//! The books of one workload, closed: what was owed, what came, and whether the system kept what it
//! promised.

use std::collections::{BTreeMap, BTreeSet};

use crate::driver::{Delivery, Guarantees, Order};
use crate::measure::ledger::SequenceSet;
use crate::plan::{Role, Workload};
use crate::record::{GroupResult, IntrusionResult, Ledger, Promise, Replay};
use crate::units::{Nanos, SECOND};

use super::consume::Received;
use super::flow::DeliveryCounts;
use super::lost::{LostSpan, lost_spans};
use super::produce::Sent;
use super::raw::RawTrial;

pub struct Accounting {
    /// All groups together.
    pub ledger: Ledger,
    /// Who tried to get in, and what came of it.
    pub intrusions: Vec<IntrusionResult>,
    /// Each group, where groups are there for different things.
    pub groups: Vec<GroupResult>,
    /// How the backlog was read.
    pub replay: Option<Replay>,
    /// Messages that the client library dropped in the whole trial, the warm-up included.
    pub dropped: u64,
    /// How often each message is owed to those whose latency is the headline.
    pub copies: u64,
    /// Acknowledged messages that were lost, by when they were sent, where that is noted.
    pub lost_spans: Vec<LostSpan>,
    /// Whether the broker acknowledges messages: then it owes those alone.
    acknowledged: bool,
    /// Whether somebody else's service answers: what it leaves unanswered, or answers twice, is no
    /// promise of the system's.
    service: bool,
    /// What came within the measured phase.
    pub within: DeliveryCounts,
    /// Whether consumers receive the messages, and whether requesters have them answered.
    pub consumed: bool,
    pub answered: bool,
    /// Sum over all owed deliveries of intended - origin.
    pub intended_sum: i128,
    /// Sum over all deliveries of received - origin.
    pub received_sum: i128,
}

impl Accounting {
    /// Closes the books of workload `i`.
    pub fn close(raw: &RawTrial, i: usize, w: &Workload, delivers: bool) -> Self {
        let (sent, received) = (&raw.sent[i], &raw.received[i]);
        let answered = w.topology.reply && delivers;
        let consumed = delivers && !answered;
        let total = |f: &dyn Fn(&Sent) -> u64| sent.iter().map(|(_, s)| f(s)).sum::<u64>();
        let heard = |f: &dyn Fn(&Received) -> u64| received.iter().map(|(_, r)| f(r)).sum::<u64>();
        let mut ledger = Ledger {
            scheduled: total(&|s| s.scheduled),
            sent: total(&|s| s.sent),
            sent_late: total(&|s| s.sent_late),
            refused: total(&|s| s.refused),
            acked: total(&|s| s.acked),
            unanswered: total(&|s| s.unanswered),
            duplicated: total(&|s| s.duplicated) + heard(&|r| r.duplicated),
            reordered: heard(&|r| r.reordered),
            corrupted: total(&|s| s.corrupted) + heard(&|r| r.corrupted),
            foreign: total(&|s| s.foreign) + heard(&|r| r.foreign),
            rejected: heard(&|r| r.rejected),
            redelivered: heard(&|r| r.redelivered),
            ..Ledger::default()
        };
        let intrusions = close_intrusions(raw, i, &mut ledger);
        let mut groups = Vec::new();
        // Never delivered, the warm-up included.
        let (mut missing, mut lost_spans) = (0, Vec::new());
        if consumed {
            for group in 0..w.topology.groups {
                groups.push(close_group(group, raw, i, w, (&mut ledger, &mut missing, &mut lost_spans)));
            }
        } else if answered {
            ledger.expected = ledger.sent;
            ledger.delivered = total(&|s| s.answered);
            ledger.lost = ledger.expected.saturating_sub(ledger.delivered);
            // Which requests of the warm-up were answered is not kept: none, at worst.
            missing = ledger.lost + total(&|s| s.range.0);
        }
        let dropped = raw.client_dropped[i];
        // What is delivered more than once is not lost by being dropped once.
        if raw.facts.guarantees.delivery.level == Delivery::AtMostOnce && ledger.duplicated == 0 {
            ledger.client_dropped = surely_dropped(ledger.lost, missing, dropped);
        }
        let tails = (0..w.topology.groups).filter(|g| w.role(*g) == Role::Tail).count() as u64;
        let heard_sum: i128 = received.iter().map(|(_, r)| r.received_sum).sum();
        let confirmed: i128 = sent.iter().map(|(_, s)| s.confirmed_sum).sum();
        let copies = if consumed { tails } else { 1 };
        groups.retain(|_| consumed && tails < u64::from(w.topology.groups));
        if raw.abandoned {
            // What the client itself has dropped is on no way.
            let known = ledger.client_dropped.min(ledger.lost);
            (ledger.in_flight, ledger.lost, ledger.acked_lost) = (ledger.lost - known, known, 0);
            groups.iter_mut().for_each(|g| g.lost = 0);
            lost_spans.clear();
        }
        Self {
            replay: replay(raw, i, w),
            lost_spans,
            copies,
            dropped,
            groups,
            acknowledged: sent.iter().any(|(_, s)| s.acknowledged),
            service: w.target.is_some(),
            within: DeliveryCounts::of(raw, i, w, consumed, answered),
            consumed,
            answered,
            intended_sum: sent.iter().map(|(_, s)| s.intended_sum).sum::<i128>() * i128::from(copies.max(1)),
            received_sum: if consumed { heard_sum } else { confirmed },
            ledger,
            intrusions,
        }
    }

    /// What was promised and what came of it.
    ///
    /// While messages are still `arriving`, what is missing breaks no promise yet, and keeps none.
    /// Where the scenario `disturbed` the system, requests were sent again.
    pub fn promises(&self, guarantees: &Guarantees, arriving: bool, disturbed: bool) -> Vec<Promise> {
        let l = &self.ledger;
        let mut all = Vec::new();
        if self.service {
            return all;
        }
        let mut add = |promised: &str, kept: bool, observed: String| {
            all.push(Promise { promised: promised.into(), kept, observed });
        };
        if l.intrusions > 0 {
            let Ledger { intrusions: tries, intrusions_refused: refused, let_in, .. } = l;
            add("intruders stay out", *let_in == 0, format!("{tries} tries, {refused} refused, {let_in} let in"));
        }
        let delivery = guarantees.delivery.level;
        // `None` while it is not decided.
        let none_lost = || {
            let owed = if self.acknowledged { "acknowledged messages" } else { "messages" };
            let lost = if self.acknowledged { l.acked_lost } else { l.lost };
            let decided = l.in_flight == 0 && (lost == 0 || !arriving);
            let more = if l.superseded > 0 { format!(", {} superseded", l.superseded) } else { String::new() };
            (decided.then_some(lost == 0), format!("{lost} {owed} lost{more}"))
        };
        match delivery {
            Delivery::AtMostOnce => add("at most once", l.duplicated == 0, format!("{} duplicated", l.duplicated)),
            Delivery::AtLeastOnce => {
                if let (Some(kept), observed) = none_lost() {
                    add("at least once", kept, observed);
                }
            }
            Delivery::ExactlyOnce => {
                let (kept, observed) = none_lost();
                // What came twice has broken it, whatever is still to come.
                if let Some(kept) = if l.duplicated > 0 { Some(false) } else { kept } {
                    add("exactly once", kept, format!("{observed}, {} duplicated", l.duplicated));
                }
            }
            Delivery::Unstated | Delivery::Nothing | Delivery::Unpromised => {}
        }
        let order = &guarantees.order;
        let resent = order.level == Order::PartitionUnlessResent && disturbed && l.reordered > 0;
        if order.level.promised() && !resent {
            add(&format!("order {}", order.words), l.reordered == 0, format!("{} reordered", l.reordered));
        }
        if l.rejected > 0 && delivery != Delivery::AtMostOnce {
            let again = l.redelivered > 0 || l.dead_lettered > 0;
            let observed =
                format!("{} rejected, {} taken later, {} dead letters", l.rejected, l.redelivered, l.dead_lettered);
            if again || l.in_flight == 0 {
                add("redelivery after a rejection", again && (l.lost == 0 || arriving), observed);
            }
        }
        all
    }
}

/// Who tried to get in. A try succeeded when the system took it, or when its message arrived,
/// whatever the intruder was told.
fn close_intrusions(raw: &RawTrial, i: usize, ledger: &mut Ledger) -> Vec<IntrusionResult> {
    let (mut tried, mut let_in) = (BTreeSet::new(), BTreeSet::new());
    let mut by: BTreeMap<&str, IntrusionResult> = BTreeMap::new();
    for one in &raw.intruded[i] {
        tried.extend(&one.decided);
        let_in.extend(&one.let_in);
        for (who, counts) in &one.by {
            let all = by.entry(who).or_insert_with(|| IntrusionResult { tries: 0, let_in: 0, ..counts.clone() });
            all.tries += counts.tries;
            all.let_in += counts.let_in;
            if all.let_in == counts.let_in && counts.let_in > 0 {
                all.said.clone_from(&counts.said);
            }
        }
    }
    let_in.extend(raw.received[i].iter().flat_map(|(_, r)| &r.intruded));
    tried.extend(&let_in);
    let count = |set: &BTreeSet<&(u32, u64)>| set.len() as u64;
    (ledger.intrusions, ledger.let_in) = (count(&tried), count(&let_in));
    ledger.intrusions_refused = ledger.intrusions - ledger.let_in;
    by.into_values().collect()
}

/// Of `lost` messages of the measured phase, those that the client library must have dropped, where
/// `missing` of the whole trial were never delivered and it dropped `dropped` of them: no more than
/// the others can be lost elsewhere.
fn surely_dropped(lost: u64, missing: u64, dropped: u64) -> u64 {
    lost.saturating_sub(missing.saturating_sub(dropped))
}

/// First deliveries of measured messages to one group; what two members both had is a duplicate.
fn close_group(
    group: u32,
    raw: &RawTrial,
    i: usize,
    w: &Workload,
    (ledger, missing, spans): (&mut Ledger, &mut u64, &mut Vec<LostSpan>),
) -> GroupResult {
    let members: Vec<&Received> = raw.received[i].iter().filter(|(g, _)| *g == group).map(|(_, r)| r).collect();
    let mut result = GroupResult { group, role: w.role(group), expected: 0, delivered: 0, lost: 0 };
    for (producer, s) in &raw.sent[i] {
        let (from, to) = (s.range.0.min(s.range.1), s.range.1);
        let [mut seen, mut dead, mut replaced] = <[SequenceSet; 3]>::default();
        for m in &members {
            ledger.duplicated += seen.merge(&m.seen[*producer as usize]);
            dead.merge(&m.dead[*producer as usize]);
            if let (Some(gaps), Some(keys)) = (m.gaps.get(*producer as usize), &m.keys) {
                let of = |number| keys.of(*producer, number);
                let had = &m.seen[*producer as usize];
                replaced.merge(&gaps.superseded(had, to, (of, keys.count()), w.delivery.history));
            }
        }
        let (delivered, buried) = (seen.count(from, to), dead.count_without(&seen, from, to));
        seen.merge(&dead);
        let superseded = replaced.count_without(&seen, from, to);
        seen.merge(&replaced);
        *missing += to.saturating_sub(seen.count(0, to));
        result.expected += s.sent;
        result.delivered += delivered;
        result.lost += s.sent.saturating_sub(delivered + buried + superseded);
        ledger.dead_lettered += buried;
        ledger.superseded += superseded;
        // What a slow consumer has not come to by the end of the drain is late, not lost by the
        // system.
        if w.role(group) != Role::Slow {
            let lost = s.acks.count_without(&seen, from, to);
            ledger.acked_lost += lost;
            if lost > 0 {
                spans.extend(lost_spans(s, &seen, (from, to)));
            }
        }
    }
    ledger.expected += result.expected;
    ledger.delivered += result.delivered;
    ledger.lost += result.lost;
    result
}

fn replay(raw: &RawTrial, i: usize, w: &Workload) -> Option<Replay> {
    if w.delivery.backlog == 0 {
        return None;
    }
    let seconds = |from: Nanos, to: Nanos| to.saturating_sub(from) as f64 / SECOND as f64;
    let (_, reader) = raw.received[i].iter().find(|(g, _)| w.role(*g) == Role::CatchUp)?;
    let r = reader.replay;
    let until = r.caught_up.or((r.last > 0).then_some((r.last, r.read)));
    let rate = until.map(|(at, read)| read as f64 / seconds(r.begun, at).max(1e-9));
    Some(Replay {
        backlog: w.delivery.backlog,
        delivered: reader.seen.last().map_or(0, |s| s.count(0, w.delivery.backlog)),
        begun_s: seconds(raw.origin, r.begun),
        first_s: (r.first > 0).then(|| seconds(r.begun, r.first)),
        catch_up_s: r.caught_up.map(|(at, _)| seconds(r.begun, at)),
        rate,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::driver::Stated;
    use proptest::prelude::*;

    proptest! {
        /// Each message of a trial is delivered, dropped by the client, or lost elsewhere.
        #[test]
        fn what_is_said_to_be_dropped_was_dropped(warm in prop::collection::vec(0u8..3, 0..40), measured in prop::collection::vec(0u8..3, 0..40)) {
            let count = |all: &[u8], outcome: u8| all.iter().filter(|f| **f == outcome).count() as u64;
            let (dropped, elsewhere) = (count(&measured, 1), count(&measured, 2));
            let in_all = dropped + count(&warm, 1);
            let missing = in_all + elsewhere + count(&warm, 2);
            let said = surely_dropped(dropped + elsewhere, missing, in_all);
            prop_assert!(said <= dropped, "{said} of {dropped}");
            if elsewhere + count(&warm, 2) == 0 {
                prop_assert_eq!(said, dropped, "nothing else can have lost them");
            }
        }
    }

    fn of_ledger(ledger: Ledger) -> Accounting {
        Accounting {
            ledger,
            intrusions: Vec::new(),
            groups: Vec::new(),
            replay: None,
            lost_spans: Vec::new(),
            copies: 1,
            dropped: 0,
            acknowledged: true,
            service: false,
            within: DeliveryCounts::default(),
            consumed: true,
            answered: false,
            intended_sum: 0,
            received_sum: 0,
        }
    }

    #[test]
    fn what_is_still_on_its_way_breaks_no_promise() {
        let of = |delivery: Delivery, acked_lost: u64, duplicated: u64, arriving: bool| {
            let ledger = Ledger { acked: 10, lost: acked_lost, acked_lost, duplicated, ..Ledger::default() };
            let accounting = of_ledger(ledger);
            let guarantees = Guarantees { delivery: Stated::new(delivery, ""), ..Guarantees::default() };
            accounting.promises(&guarantees, arriving, false).into_iter().map(|p| p.kept).collect::<Vec<_>>()
        };
        assert_eq!(of(Delivery::AtLeastOnce, 3, 0, false), [false]);
        assert!(of(Delivery::AtLeastOnce, 3, 0, true).is_empty(), "neither kept nor broken");
        assert_eq!(of(Delivery::AtLeastOnce, 0, 0, true), [true]);
        assert_eq!(of(Delivery::ExactlyOnce, 3, 0, false), [false]);
        assert!(of(Delivery::ExactlyOnce, 3, 0, true).is_empty());
        assert_eq!(of(Delivery::ExactlyOnce, 0, 1, true), [false]);
    }

    /// Kafka without idempotence: of five requests on their way the second fails and is sent again.
    #[test]
    fn an_order_that_holds_until_a_request_is_sent_again_is_held_to_that() {
        let of = |order: Order, reordered: u64, disturbed: bool| {
            let accounting = of_ledger(Ledger { reordered, ..Ledger::default() });
            let guarantees = Guarantees { order: Stated::new(order, ""), ..Guarantees::default() };
            accounting.promises(&guarantees, false, disturbed).into_iter().map(|p| p.kept).collect::<Vec<_>>()
        };
        assert_eq!(of(Order::PartitionUnlessResent, 7, false), [false]);
        assert!(of(Order::PartitionUnlessResent, 7, true).is_empty());
        assert_eq!(of(Order::PartitionUnlessResent, 0, true), [true]);
        assert_eq!(of(Order::Partition, 7, true), [false]);
    }

    #[test]
    fn what_was_given_up_breaks_no_promise_and_keeps_none() {
        let of = |delivery: Delivery, duplicated: u64| {
            let ledger = Ledger { acked: 10, in_flight: 3, duplicated, ..Ledger::default() };
            let accounting = of_ledger(ledger);
            let guarantees = Guarantees { delivery: Stated::new(delivery, ""), ..Guarantees::default() };
            accounting.promises(&guarantees, false, false).into_iter().map(|p| p.kept).collect::<Vec<_>>()
        };
        assert!(of(Delivery::AtLeastOnce, 0).is_empty() && of(Delivery::ExactlyOnce, 0).is_empty());
        assert_eq!(of(Delivery::ExactlyOnce, 1), [false]);
        assert_eq!(of(Delivery::AtMostOnce, 0), [true]);
    }
}
