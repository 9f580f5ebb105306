//! Faults of single deliveries: a message may be lost for one subscriber and not for another.
//!
//! Only a broker with such faults delivers one by one; each delivery has a number of its own, so
//! that the log says which one of whom was hit. A swapped delivery waits for the next one to the
//! same subscription.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::server::{ALONE, DelayedMessage, MessageFaultServer};
use crate::broker::faults::OwnedMessage;
use crate::broker::faults::{DeliveryScript, TokenBucket};
use crate::broker::faults::{DeliveryTarget, StageTimes};
use crate::broker::nats::index::Subscription;
use crate::faults::Faults;
use crate::units::{Nanos, now};

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
}

impl MessageFaultServer {
    /// Delivers a message to each of its subscribers, with the faults of each delivery.
    pub(super) fn deliver_each(&mut self, leaving: &DelayedMessage) {
        let mut targets = std::mem::take(&mut self.single.targets);
        self.router.targets(leaving.owned.subject(), &mut targets);
        let first = targets.iter().map(|sub| sub.outlet.id).min();
        for sub in &targets {
            let slow = self.single.bucket.is_some() && first == Some(sub.outlet.id);
            for _ in 0..=u32::from(leaving.decision.duplicate) {
                self.delivery(sub, leaving.n, &leaving.owned, slow);
            }
        }
        targets.clear();
        self.single.targets = targets;
    }

    fn delivery(&mut self, sub: &Arc<Subscription>, n: u64, owned: &OwnedMessage, slow: bool) {
        let (number, decision) = self.single.script.next();
        let to = DeliveryTarget { delivery: number, connection: sub.outlet.id };
        if decision.drop {
            self.journal.delivery(now(), "delivery-drop", n, None, owned, to);
            return;
        }
        let mut changed = None;
        if decision.corrupt {
            let mut copy = owned.clone();
            if copy.corrupt() {
                self.journal.delivery(now(), "delivery-corrupt", n, None, owned, to);
                changed = Some(copy);
            }
        }
        if decision.duplicate {
            self.journal.delivery(now(), "delivery-duplicate", n, None, owned, to);
        }
        let (owned, at) = (changed.as_ref().unwrap_or(owned), now());
        let copies = 1 + u32::from(decision.duplicate);
        let waiting =
            |until| HeldDelivery { owned: owned.clone(), n, to, sub: Arc::clone(sub), copies, from: at, until };
        let key = || (sub.outlet.id, Arc::clone(&sub.sid));
        if decision.swap && !self.single.held.contains_key(&key()) {
            let held = waiting(at + ALONE);
            self.keep(&held);
            self.single.held.insert(key(), held);
            return;
        }
        match self.single.bucket.as_mut().filter(|_| slow) {
            Some(bucket) => {
                let later = waiting(bucket.take(at));
                self.keep(&later);
                self.single.lane.push_back(later);
            }
            None => self.send(sub, owned, copies),
        }
        if !self.single.held.is_empty()
            && let Some(held) = self.single.held.remove(&key())
        {
            self.release(held, "delivery-swap");
        }
    }

    fn send(&mut self, sub: &Arc<Subscription>, owned: &OwnedMessage, copies: u32) {
        for _ in 0..copies {
            self.router.deliver(sub, &super::message(owned));
            self.staged += 1;
        }
    }

    /// What waits counts among what publishers are held back for.
    fn keep(&self, waiting: &HeldDelivery) {
        self.waiting.fetch_add(waiting.owned.memory_bytes(), Ordering::AcqRel);
    }

    /// A swapped delivery leaves after the one that it changed places with, in the lane of the slow
    /// subscriber where it is in one.
    fn release(&mut self, held: HeldDelivery, event: &str) {
        self.journal.delivery(now(), event, held.n, None, &held.owned, held.to);
        let lane =
            self.single.lane.back().filter(|last| last.sub.outlet.id == held.sub.outlet.id).map(|last| last.until);
        if let Some(until) = lane {
            self.single.lane.push_back(HeldDelivery { until, ..held });
            return;
        }
        self.send(&held.sub, &held.owned, held.copies);
        self.settled(&held.owned);
    }

    /// The slow subscriber gets what is due.
    pub(super) fn serve_slow(&mut self, due: Nanos) {
        while self.single.lane.front().is_some_and(|w| w.until <= due) {
            let Some(w) = self.single.lane.pop_front() else { break };
            let at = now();
            self.send(&w.sub, &w.owned, w.copies);
            let took = StageTimes { from: w.from, ns: at - w.from, late: at.saturating_sub(w.until) };
            self.journal.delivery(at, "slow-subscriber", w.n, Some(took), &w.owned, w.to);
            self.settled(&w.owned);
        }
    }

    /// Swapped deliveries for which no other has come leave alone; all of them at once where `all`.
    pub(super) fn release_held(&mut self, all: bool) {
        let at = now();
        let over: Vec<SubscriptionKey> =
            self.single.held.iter().filter(|(_, w)| all || w.until <= at).map(|(key, _)| key.clone()).collect();
        for key in over {
            if let Some(held) = self.single.held.remove(&key) {
                self.release(held, "delivery-released");
            }
        }
    }

    /// Faults have changed: what waits because of the old ones leaves now.
    pub(super) fn deliver_all(&mut self) {
        self.release_held(true);
        self.serve_slow(Nanos::MAX);
    }
}
