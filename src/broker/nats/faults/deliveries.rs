//! Faults of single deliveries: a message may be lost for one subscriber and not for another.
//!
//! Only a broker with such faults delivers one by one; each delivery has a number of its own, so
//! that the log says which one of whom was hit. A swapped delivery waits for the next one to the
//! same subscription.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use super::output::FaultOutput;
use crate::broker::faults::{DeliveryScript, DeliveryTarget, OwnedMessage, StageTimes, TokenBucket};
use crate::broker::nats::index::Subscription;
use crate::faults::Faults;
use crate::units::{Nanos, now};

/// A message that is to change places with the next one is delivered alone when none has come for
/// so long.
pub(super) const ALONE: Nanos = 250_000_000;

/// A subscription: the connection and its sid there.
type SubscriptionKey = (u64, Arc<[u8]>);

/// A delivery that waits.
struct HeldDelivery {
    owned: OwnedMessage,
    n: u64,
    to: DeliveryTarget,
    sub: Arc<Subscription>,
    copies: u32,
    /// Since when, and until when.
    from: Nanos,
    until: Nanos,
}

/// The state of deliveries one by one.
pub(super) struct SingleDeliveries {
    pub(super) script: DeliveryScript,
    held: HashMap<SubscriptionKey, HeldDelivery>,
    /// What the slow subscriber has still to get.
    lane: VecDeque<HeldDelivery>,
    bucket: Option<TokenBucket>,
    targets: Vec<Arc<Subscription>>,
}

impl SingleDeliveries {
    /// Of these faults, after so many deliveries.
    pub(super) fn new(f: &Faults, number: u64) -> Self {
        Self {
            script: DeliveryScript::after(f, number),
            held: HashMap::new(),
            lane: VecDeque::new(),
            bucket: f.slow_subscriber.map(|cap| TokenBucket::new(cap.rate.0, cap.burst)),
            targets: Vec::new(),
        }
    }

    /// When the slow subscriber gets its next message.
    pub(super) fn due(&self) -> Option<Nanos> {
        self.lane.front().map(|w| w.until)
    }

    /// Until when a swapped delivery waits at most.
    pub(super) fn patience(&self) -> Option<Nanos> {
        self.held.values().map(|w| w.until).min()
    }

    /// Delivers message `n` to each of its subscribers, with the faults of each delivery.
    pub(super) fn deliver_each(&mut self, n: u64, owned: &OwnedMessage, copies: u32, output: &mut FaultOutput) {
        let mut targets = std::mem::take(&mut self.targets);
        output.router.targets(owned.subject(), &mut targets);
        let first = targets.iter().map(|sub| sub.outlet.id).min();
        for sub in &targets {
            let slow = self.bucket.is_some() && first == Some(sub.outlet.id);
            for _ in 0..copies {
                self.delivery(sub, n, owned, slow, output);
            }
        }
        targets.clear();
        self.targets = targets;
    }

    fn delivery(
        &mut self,
        sub: &Arc<Subscription>,
        n: u64,
        owned: &OwnedMessage,
        slow: bool,
        output: &mut FaultOutput,
    ) {
        let (number, decision) = self.script.next();
        let to = DeliveryTarget { delivery: number, connection: sub.outlet.id };
        if decision.drop {
            output.journal.delivery(now(), "delivery-drop", n, None, owned, to);
            return;
        }
        let mut changed = None;
        if decision.corrupt {
            let mut copy = owned.clone();
            if copy.corrupt() {
                output.journal.delivery(now(), "delivery-corrupt", n, None, owned, to);
                changed = Some(copy);
            }
        }
        if decision.duplicate {
            output.journal.delivery(now(), "delivery-duplicate", n, None, owned, to);
        }
        let (owned, at) = (changed.as_ref().unwrap_or(owned), now());
        let copies = 1 + u32::from(decision.duplicate);
        let waiting =
            |until| HeldDelivery { owned: owned.clone(), n, to, sub: Arc::clone(sub), copies, from: at, until };
        let key = || (sub.outlet.id, Arc::clone(&sub.sid));
        if decision.swap && !self.held.contains_key(&key()) {
            let held = waiting(at + ALONE);
            output.keep(&held.owned);
            self.held.insert(key(), held);
            return;
        }
        match self.bucket.as_mut().filter(|_| slow) {
            Some(bucket) => {
                let later = waiting(bucket.take(at));
                output.keep(&later.owned);
                self.lane.push_back(later);
            }
            None => output.send(sub, owned, copies),
        }
        if !self.held.is_empty()
            && let Some(held) = self.held.remove(&key())
        {
            self.release(held, "delivery-swap", output);
        }
    }

    /// A swapped delivery leaves after the one that it changed places with, in the lane of the slow
    /// subscriber where it is in one.
    fn release(&mut self, held: HeldDelivery, event: &str, output: &mut FaultOutput) {
        output.journal.delivery(now(), event, held.n, None, &held.owned, held.to);
        let lane = self.lane.back().filter(|last| last.sub.outlet.id == held.sub.outlet.id).map(|last| last.until);
        if let Some(until) = lane {
            self.lane.push_back(HeldDelivery { until, ..held });
            return;
        }
        output.send(&held.sub, &held.owned, held.copies);
        output.settled(&held.owned);
    }

    /// The slow subscriber gets what is due.
    pub(super) fn serve_slow(&mut self, due: Nanos, output: &mut FaultOutput) {
        while self.lane.front().is_some_and(|w| w.until <= due) {
            let Some(w) = self.lane.pop_front() else { break };
            let at = now();
            output.send(&w.sub, &w.owned, w.copies);
            let took = StageTimes { from: w.from, ns: at - w.from, late: at.saturating_sub(w.until) };
            output.journal.delivery(at, "slow-subscriber", w.n, Some(took), &w.owned, w.to);
            output.settled(&w.owned);
        }
    }

    /// Swapped deliveries for which no other has come leave alone; all of them at once where `all`.
    pub(super) fn release_held(&mut self, all: bool, output: &mut FaultOutput) {
        let at = now();
        let over: Vec<SubscriptionKey> =
            self.held.iter().filter(|(_, w)| all || w.until <= at).map(|(key, _)| key.clone()).collect();
        for key in over {
            if let Some(held) = self.held.remove(&key) {
                self.release(held, "delivery-released", output);
            }
        }
    }

    /// Faults have changed: what waits because of the old ones leaves now.
    pub(super) fn deliver_all(&mut self, output: &mut FaultOutput) {
        self.release_held(true, output);
        self.serve_slow(Nanos::MAX, output);
    }
}
