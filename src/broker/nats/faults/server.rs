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
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, TryRecvError};
use std::time::Duration;

use super::MessageJob;
use super::deliveries::{ALONE, SingleDeliveries};
use super::output::FaultOutput;
use crate::broker::faults::{FaultDecision, FaultScript, StallHit, StallSchedule, TokenBucket};
use crate::broker::faults::{OwnedMessage, StageTimes, wait};
use crate::broker::nats::connection_table::ConnectionTable;
use crate::broker::nats::index::{MatchedSubscriptions, SubscriptionIndex};
use crate::broker::nats::outlet::Outlet;
use crate::faults::{Disconnect, Faults, Peer};
use crate::units::{Nanos, now};

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
struct DelayedMessage {
    owned: OwnedMessage,
    n: u64,
    decision: FaultDecision,
    /// When its work was done.
    done: Nanos,
    release: Nanos,
}

pub(super) struct MessageFaultServer {
    index: Arc<SubscriptionIndex>,
    connections: Arc<ConnectionTable>,
    queue: Receiver<MessageJob>,
    stop: Arc<AtomicBool>,
    faults: Faults,
    output: FaultOutput,
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
    /// Deliveries one by one, where those have faults.
    single: SingleDeliveries,
}

impl MessageFaultServer {
    pub(super) fn new(
        index: Arc<SubscriptionIndex>,
        connections: Arc<ConnectionTable>,
        faults: Faults,
        queue: Receiver<MessageJob>,
        stop: Arc<AtomicBool>,
        output: FaultOutput,
    ) -> Self {
        Self {
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
            single: SingleDeliveries::new(&faults, 0),
            index,
            connections,
            queue,
            stop,
            faults,
            output,
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
                self.output.commit();
                self.output.journal.flush();
                let held = self.held.as_ref().map(|(_, until)| *until);
                match self.receive(held.into_iter().chain(self.single.patience()).min()) {
                    Some(MessageJob::Stop) => break,
                    Some(item) => self.take(item),
                    None => self.deliver_alone(),
                }
                continue;
            };
            if due > now() {
                self.output.commit();
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
        self.output.commit();
        self.output.journal.flush();
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
            MessageJob::Refused(at, peer) => self.output.journal.other(at, "refuse", &peer.to_string()),
            // The loop ends before it comes here.
            MessageJob::Stop => {}
        }
    }

    /// Other faults from now on; what waits because of the old ones is not held back any longer,
    /// except for delays that run.
    fn change(&mut self, faults: Faults) {
        let at = now();
        self.output.journal.other(at, "control", &faults.to_string());
        self.single.deliver_all(&mut self.output);
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
        self.single.release_held(false, &mut self.output);
        if let Some((held, _)) = self.held.take_if(|(_, until)| *until <= now()) {
            self.output.journal.note(now(), "released", held.n, None, &held.owned);
            self.deliver(&held);
            self.output.settled(&held.owned);
        }
    }

    fn run_due(&mut self, due: Nanos) {
        if let Some(work) = self.work.take_if(|w| w.end <= due) {
            self.done(work);
        }
        self.single.serve_slow(due, &mut self.output);
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
            self.output.journal.note(
                from,
                "rate-cap",
                n,
                Some(StageTimes { from: ready, ns: from - ready, late: 0 }),
                &owned,
            );
        }
        let held: Nanos = stalls.iter().map(|met| met.held).sum();
        for met in &stalls {
            // What is worked on afterwards begins when the stall is really over.
            let late = if self.faults.service.is_none() { late } else { 0 };
            let over = met.over + late;
            self.output.journal.note(
                over,
                "stall",
                n,
                Some(StageTimes { from: met.begin, ns: over - met.begin, late }),
                &owned,
            );
        }
        if self.faults.service.is_some() {
            self.output.journal.note(at, "service", n, Some(StageTimes { from, ns: at - from - held, late }), &owned);
            self.free = at;
        } else {
            self.free = end;
        }
        self.route(owned, n, decision, self.free);
    }

    /// The broker has done its work on a message at `done`; now it is delivered, or is not.
    fn route(&mut self, mut owned: OwnedMessage, n: u64, decision: FaultDecision, done: Nanos) {
        if decision.drop {
            self.output.journal.note(now(), "drop", n, None, &owned);
            self.output.settled(&owned);
            return;
        }
        if decision.corrupt {
            let head = self.journal_head(&owned);
            if owned.corrupt() {
                self.output.journal.note(now(), "corrupt", n, None, head.as_ref().unwrap_or(&owned));
            }
        }
        if decision.duplicate {
            self.output.journal.note(now(), "duplicate", n, None, &owned);
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
                self.output.commit();
            }
            self.output.journal.note(at, "delay", leaving.n, Some(took), &leaving.owned);
        }
        if swapped {
            self.held = Some((leaving, now() + ALONE));
            return;
        }
        self.output.settled(&leaving.owned);
        if let Some((held, _)) = self.held.take() {
            self.output.journal.note(now(), "swap", held.n, None, &held.owned);
            self.deliver(&held);
            self.output.settled(&held.owned);
        }
    }

    fn deliver(&mut self, leaving: &DelayedMessage) {
        let copies = 1 + u32::from(leaving.decision.duplicate);
        if self.faults.delivery.is_some() || self.faults.slow_subscriber.is_some() {
            self.single.deliver_each(leaving.n, &leaving.owned, copies, &mut self.output);
        } else {
            self.output.publish(&leaving.owned, copies);
        }
        self.output.commit_if_full();
        self.connections(leaving);
    }

    /// Applies the faults of connections that follow this message.
    fn connections(&mut self, leaving: &DelayedMessage) {
        let now_due = |d: &Disconnect| d.after == leaving.n;
        if let Some(Disconnect { who, .. }) = self.faults.disconnect.filter(now_due) {
            self.output.commit();
            self.output.journal.note(now(), "disconnect", leaving.n, None, &leaving.owned);
            self.peers(leaving, who, Outlet::close);
        }
        if let Some(Disconnect { who, .. }) = self.faults.half_open.filter(now_due) {
            self.output.commit();
            self.output.journal.note(now(), "half-open", leaving.n, None, &leaving.owned);
            self.peers(leaving, who, |outlet| {
                outlet.discards_writes.store(true, Ordering::Relaxed);
                outlet.read_paused_until.store(Nanos::MAX, Ordering::Relaxed);
            });
        }
        if let Some(stop) = self.faults.stop_reading.filter(|s| s.after == leaving.n) {
            let at = now();
            let took = StageTimes { from: at, ns: stop.length.0, late: 0 };
            self.output.journal.note(at, "stop-reading", leaving.n, Some(took), &leaving.owned);
            let until = at + stop.length.0;
            self.peers(leaving, Peer::Publisher, |outlet| outlet.read_paused_until.store(until, Ordering::Relaxed));
        }
    }

    fn peers(&mut self, leaving: &DelayedMessage, who: Peer, act: impl Fn(&Outlet)) {
        match who {
            Peer::Publisher => {
                let publisher = leaving.owned.publisher;
                if let Some(member) = self.connections.members().iter().find(|m| m.outlet.id == publisher) {
                    act(&member.outlet);
                }
            }
            Peer::Subscribers => {
                self.index.search(leaving.owned.subject(), &mut self.found);
                for sub in self.found.plain.iter().chain(&self.found.queued) {
                    act(&sub.outlet);
                }
                self.found.clear();
            }
        }
    }
}
