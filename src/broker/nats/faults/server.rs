//! The one server that every hit message passes, in order: it stalls, works, waits and misroutes as
//! told.
//!
//! A thread of its own with a router of its own. What is due next is the end of the present
//! message's work or the release of the first delayed one; the thread sleeps until shortly before
//! that instant and spins the rest, so that a fault happens when it should (measured lateness 0.1
//! us, a pause of the host aside). While nothing is due it sleeps on its queue. Everything that is
//! to be delivered is handed to the kernel before any wait.
//!
//! Work begins when a message has arrived and the previous one is done (as it really was), so
//! lateness of the server delays what follows, as it would in a real broker; the log has the real
//! times.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, TryRecvError};
use std::time::Duration;

use super::MessageJob;
use super::deliveries::SingleDeliveries;
use crate::broker::faults::{FaultDecision, FaultScript, StallHit, StallSchedule, TokenBucket};
use crate::broker::faults::{Journal, StageTimes};
use crate::broker::faults::{OwnedMessage, wait};
use crate::broker::nats::hub::NatsHub;
use crate::broker::nats::index::MatchedSubscriptions;
use crate::broker::nats::outlet::Outlet;
use crate::broker::nats::router::Router;
use crate::faults::{Disconnect, Faults, Peer};
use crate::units::{Nanos, now};

/// Messages passed on together at most.
const BATCH: u32 = 64;
/// A message that is to change places with the next one is delivered alone when none has come for
/// so long.
pub(super) const ALONE: Nanos = 250_000_000;

/// The message that is being worked on.
struct MessageInService {
    owned: OwnedMessage,
    n: u64,
    decision: FaultDecision,
    /// When its token was there, and when work began.
    from: Nanos,
    end: Nanos,
    stalls: Vec<StallHit>,
}

/// A message on its way out.
pub(super) struct DelayedMessage {
    pub(super) owned: OwnedMessage,
    pub(super) n: u64,
    pub(super) decision: FaultDecision,
    /// When its work was done.
    done: Nanos,
    release: Nanos,
}

pub(super) struct MessageFaultServer {
    pub(super) hub: Arc<NatsHub>,
    pub(super) queue: Receiver<MessageJob>,
    pub(super) waiting: Arc<AtomicUsize>,
    pub(super) stop: Arc<AtomicBool>,
    pub(super) journal: Journal,
    pub(super) faults: Faults,
    pub(super) router: Router,
    script: FaultScript,
    stalls: StallSchedule,
    bucket: Option<TokenBucket>,
    begun: bool,
    /// When the previous message was done.
    free: Nanos,
    work: Option<MessageInService>,
    line: VecDeque<DelayedMessage>,
    /// When the last of the line is released.
    last_release: Nanos,
    /// Waits for the message it changes places with, and until when.
    held: Option<(DelayedMessage, Nanos)>,
    found: MatchedSubscriptions,
    pub(super) staged: u32,
    /// Deliveries one by one, where those have faults.
    pub(super) single: SingleDeliveries,
}

impl MessageFaultServer {
    pub(super) fn new(
        hub: Arc<NatsHub>,
        faults: Faults,
        queue: Receiver<MessageJob>,
        waiting: Arc<AtomicUsize>,
        stop: Arc<AtomicBool>,
        journal: Journal,
    ) -> Self {
        // Connections are numbered from 1: the server's own outlet, which nothing is sent to, is
        // nobody's.
        let own = Arc::new(Outlet::new(0, Arc::clone(&hub.rules), None));
        Self {
            router: Router::new(Arc::clone(&hub), own),
            script: FaultScript::new(&faults),
            stalls: StallSchedule::new(&faults),
            bucket: faults.rate_cap.map(|cap| TokenBucket::new(cap.rate.0, cap.burst)),
            begun: false,
            free: 0,
            work: None,
            line: VecDeque::new(),
            last_release: 0,
            held: None,
            found: MatchedSubscriptions::default(),
            staged: 0,
            single: SingleDeliveries::new(&faults, 0),
            hub,
            queue,
            waiting,
            stop,
            journal,
            faults,
        }
    }

    /// Serves until it is told to stop.
    pub(super) fn run(mut self) {
        wait::exact_timers();
        while !self.stop.load(Ordering::Acquire) {
            if self.work.is_none() {
                match self.queue.try_recv() {
                    Ok(MessageJob::Stop) | Err(TryRecvError::Disconnected) => break,
                    Ok(item) => self.take(item),
                    Err(TryRecvError::Empty) => {}
                }
            }
            let Some(due) = self.due() else {
                self.commit();
                self.journal.flush();
                let held = self.held.as_ref().map(|(_, until)| *until);
                match self.receive(held.into_iter().chain(self.single.patience()).min()) {
                    Some(MessageJob::Stop) => break,
                    Some(item) => self.take(item),
                    None => self.deliver_alone(),
                }
                continue;
            };
            if due > now() {
                self.commit();
                // What waits for the slow subscriber holds up nobody else.
                if self.work.is_none() && self.single.due().is_some() {
                    match self.receive(Some(due)) {
                        Some(MessageJob::Stop) => break,
                        Some(job) => {
                            self.take(job);
                            continue;
                        }
                        None => {}
                    }
                }
                if !wait::until(due, &self.stop) {
                    break;
                }
            }
            self.run_due(due);
        }
        self.commit();
        self.journal.flush();
    }

    /// Waits for the next item, at most until the given instant.
    fn receive(&self, until: Option<Nanos>) -> Option<MessageJob> {
        match until {
            None => Some(self.queue.recv().unwrap_or(MessageJob::Stop)),
            Some(until) => self.queue.recv_timeout(Duration::from_nanos(until.saturating_sub(now()))).ok(),
        }
    }

    /// The next instant at which something happens to a message that is here.
    fn due(&self) -> Option<Nanos> {
        let work = self.work.as_ref().map(|w| w.end);
        let line = self.line.front().map(|l| l.release);
        work.into_iter().chain(line).chain(self.single.due()).min()
    }

    fn take(&mut self, item: MessageJob) {
        match item {
            MessageJob::Message(owned) => self.begin(owned),
            MessageJob::Change(faults) => self.change(*faults),
            MessageJob::Refused(at, peer) => self.journal.other(at, "refuse", &peer.to_string()),
            // The loop ends before it comes here.
            MessageJob::Stop => {}
        }
    }

    /// Other faults from now on; what waits because of the old ones is not held back any longer,
    /// except for delays that run.
    fn change(&mut self, faults: Faults) {
        let at = now();
        self.journal.other(at, "control", &faults.to_string());
        self.deliver_all();
        self.script = FaultScript::after(&faults, self.script.number());
        self.stalls = StallSchedule::new(&faults);
        self.stalls.begin(at);
        self.begun = true;
        self.bucket = faults.rate_cap.map(|cap| TokenBucket::new(cap.rate.0, cap.burst));
        self.single = SingleDeliveries::new(&faults, self.single.script.number());
        self.faults = faults;
    }

    /// No other message has come for the one that is to change places.
    fn deliver_alone(&mut self) {
        self.release_held(false);
        if let Some((held, _)) = self.held.take_if(|(_, until)| *until <= now()) {
            self.journal.note(now(), "released", held.n, None, &held.owned);
            self.deliver(&held);
            self.settled(&held.owned);
        }
    }

    fn run_due(&mut self, due: Nanos) {
        if let Some(work) = self.work.take_if(|w| w.end <= due) {
            self.done(work);
        }
        self.serve_slow(due);
        while self.line.front().is_some_and(|l| l.release <= due) {
            let Some(leaving) = self.line.pop_front() else { break };
            let at = now();
            // Waiting for the message before it is lateness too: the order is kept.
            let late = at - leaving.done - leaving.decision.delay;
            let took = StageTimes { from: leaving.done, ns: at - leaving.done, late };
            self.leave(leaving, Some((at, took)));
        }
    }

    fn begin(&mut self, owned: OwnedMessage) {
        let (n, decision) = self.script.next();
        if !self.begun {
            self.begun = true;
            self.stalls.begin(owned.arrived);
        }
        let ready = owned.arrived.max(self.free);
        let from = self.bucket.as_mut().map_or(ready, |bucket| bucket.take(ready));
        let (end, stalls) = self.stalls.pass(from, decision.service);
        if self.bucket.is_some() || self.faults.service.is_some() || !stalls.is_empty() {
            self.work = Some(MessageInService { owned, n, decision, from, end, stalls });
        } else {
            self.free = end;
            self.route(owned, n, decision, end);
        }
    }

    fn done(&mut self, work: MessageInService) {
        let MessageInService { owned, n, decision, from, end, stalls } = work;
        let at = now();
        let late = at - end;
        if from > owned.arrived && self.bucket.is_some() {
            let ready = owned.arrived.max(self.free);
            self.journal.note(from, "rate-cap", n, Some(StageTimes { from: ready, ns: from - ready, late: 0 }), &owned);
        }
        let held: Nanos = stalls.iter().map(|met| met.held).sum();
        for met in &stalls {
            // What is worked on afterwards begins when the stall is really over.
            let late = if self.faults.service.is_none() { late } else { 0 };
            let over = met.over + late;
            self.journal.note(
                over,
                "stall",
                n,
                Some(StageTimes { from: met.begin, ns: over - met.begin, late }),
                &owned,
            );
        }
        if self.faults.service.is_some() {
            self.journal.note(at, "service", n, Some(StageTimes { from, ns: at - from - held, late }), &owned);
            self.free = at;
        } else {
            self.free = end;
        }
        self.route(owned, n, decision, self.free);
    }

    /// The broker has done its work on a message at `done`; now it is delivered, or is not.
    fn route(&mut self, mut owned: OwnedMessage, n: u64, decision: FaultDecision, done: Nanos) {
        if decision.drop {
            self.journal.note(now(), "drop", n, None, &owned);
            self.settled(&owned);
            return;
        }
        if decision.corrupt {
            let head = self.journal_head(&owned);
            if owned.corrupt() {
                self.journal.note(now(), "corrupt", n, None, head.as_ref().unwrap_or(&owned));
            }
        }
        if decision.duplicate {
            self.journal.note(now(), "duplicate", n, None, &owned);
        }
        let release = (done + decision.delay).max(self.last_release);
        let leaving = DelayedMessage { owned, n, decision, done, release };
        if self.faults.delay.is_some() {
            self.last_release = release;
            self.line.push_back(leaving);
        } else {
            self.leave(leaving, None);
        }
    }

    /// The message as it was, where the bit that is turned over lies in what is logged of it.
    fn journal_head(&self, owned: &OwnedMessage) -> Option<OwnedMessage> {
        (owned.payload().len() <= 44).then(|| owned.clone())
    }

    /// Delivers what was due; its delay is logged when it is on its way, so that logging does not
    /// make it later.
    fn leave(&mut self, leaving: DelayedMessage, delay: Option<(Nanos, StageTimes)>) {
        let swapped = leaving.decision.swap && self.held.is_none();
        if !swapped {
            self.deliver(&leaving);
        }
        if let Some((at, took)) = delay {
            if self.line.front().is_none_or(|next| next.release > at) {
                self.commit();
            }
            self.journal.note(at, "delay", leaving.n, Some(took), &leaving.owned);
        }
        if swapped {
            self.held = Some((leaving, now() + ALONE));
            return;
        }
        self.settled(&leaving.owned);
        if let Some((held, _)) = self.held.take() {
            self.journal.note(now(), "swap", held.n, None, &held.owned);
            self.deliver(&held);
            self.settled(&held.owned);
        }
    }

    fn deliver(&mut self, leaving: &DelayedMessage) {
        let message = super::message(&leaving.owned);
        if self.faults.delivery.is_some() || self.faults.slow_subscriber.is_some() {
            self.deliver_each(leaving);
        } else {
            for _ in 0..=u32::from(leaving.decision.duplicate) {
                self.router.publish(&message, true);
                self.staged += 1;
            }
        }
        if self.staged >= BATCH {
            self.commit();
        }
        self.connections(leaving);
    }

    /// Applies the faults of connections that follow this message.
    fn connections(&mut self, leaving: &DelayedMessage) {
        let now_due = |d: &Disconnect| d.after == leaving.n;
        if let Some(Disconnect { who, .. }) = self.faults.disconnect.filter(now_due) {
            self.commit();
            self.journal.note(now(), "disconnect", leaving.n, None, &leaving.owned);
            self.peers(leaving, who, Outlet::close);
        }
        if let Some(Disconnect { who, .. }) = self.faults.half_open.filter(now_due) {
            self.commit();
            self.journal.note(now(), "half-open", leaving.n, None, &leaving.owned);
            self.peers(leaving, who, |outlet| {
                outlet.discards_writes.store(true, Ordering::Relaxed);
                outlet.read_paused_until.store(Nanos::MAX, Ordering::Relaxed);
            });
        }
        if let Some(stop) = self.faults.stop_reading.filter(|s| s.after == leaving.n) {
            let at = now();
            let took = StageTimes { from: at, ns: stop.length.0, late: 0 };
            self.journal.note(at, "stop-reading", leaving.n, Some(took), &leaving.owned);
            let until = at + stop.length.0;
            self.peers(leaving, Peer::Publisher, |outlet| outlet.read_paused_until.store(until, Ordering::Relaxed));
        }
    }

    fn peers(&mut self, leaving: &DelayedMessage, who: Peer, act: impl Fn(&Outlet)) {
        match who {
            Peer::Publisher => {
                let publisher = leaving.owned.publisher;
                if let Some(member) = self.hub.members().iter().find(|m| m.outlet.id == publisher) {
                    act(&member.outlet);
                }
            }
            Peer::Subscribers => {
                self.hub.index.search(leaving.owned.subject(), &mut self.found);
                for sub in self.found.plain.iter().chain(&self.found.queued) {
                    act(&sub.outlet);
                }
                self.found.clear();
            }
        }
    }

    /// A message has left the server for good.
    pub(super) fn settled(&self, owned: &OwnedMessage) {
        self.waiting.fetch_sub(owned.memory_bytes(), Ordering::AcqRel);
    }

    fn commit(&mut self) {
        if self.staged > 0 {
            self.staged = 0;
            self.router.end_batch();
            // Publishers are held back by the queue; a subscriber that is too slow is the policy's
            // business.
            drop(self.router.take_pressed());
        }
    }
}
