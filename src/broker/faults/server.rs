//! The one server that every hit message passes, in order: it stalls, works, waits and misroutes as told.
//!
//! A thread of its own with a router of its own. What is due next is the end of the present message's work or the
//! release of the first delayed one; the thread sleeps until shortly before that instant and spins the rest, so that a
//! fault happens when it should (measured lateness 0.1 us, a pause of the host aside). While nothing is due it sleeps on
//! its queue. Everything that is to be delivered is handed to the kernel before any wait.
//!
//! Work begins when a message has arrived and the previous one is done (as it really was), so lateness of the server
//! delays what follows, as it would in a real broker; the log has the real times.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, TryRecvError};
use std::time::Duration;

use super::config::{Disconnect, Faults, Peer};
use super::deliveries::OneByOne;
use super::journal::{Journal, Took};
use super::script::{Bucket, Fate, Met, Script, Stalls};
use super::{Item, Parcel, wait};
use crate::broker::hub::Hub;
use crate::broker::index::Interest;
use crate::broker::outlet::Outlet;
use crate::broker::router::Router;
use crate::units::{Nanos, now};

/// Messages passed on together at most.
const BATCH: u32 = 64;
/// A message that is to change places with the next one is delivered alone when none has come for so long.
pub(super) const ALONE: Nanos = 250_000_000;

/// The message that is being worked on.
struct Work {
    parcel: Parcel,
    n: u64,
    fate: Fate,
    /// When its token was there, and when work began.
    from: Nanos,
    end: Nanos,
    stalls: Vec<Met>,
}

/// A message on its way out.
pub(super) struct Leaving {
    pub(super) parcel: Parcel,
    pub(super) n: u64,
    pub(super) fate: Fate,
    /// When its work was done.
    done: Nanos,
    release: Nanos,
}

/// See the module.
pub(super) struct Server {
    pub(super) hub: Arc<Hub>,
    pub(super) queue: Receiver<Item>,
    pub(super) waiting: Arc<AtomicUsize>,
    pub(super) stop: Arc<AtomicBool>,
    pub(super) journal: Journal,
    pub(super) faults: Faults,
    pub(super) router: Router,
    script: Script,
    stalls: Stalls,
    bucket: Option<Bucket>,
    begun: bool,
    /// When the previous message was done.
    free: Nanos,
    work: Option<Work>,
    line: VecDeque<Leaving>,
    /// When the last of the line is released.
    last_release: Nanos,
    /// Waits for the message it changes places with, and until when.
    held: Option<(Leaving, Nanos)>,
    found: Interest,
    pub(super) staged: u32,
    /// Deliveries one by one, where those have faults.
    pub(super) single: OneByOne,
}

impl Server {
    pub(super) fn new(
        hub: Arc<Hub>,
        faults: Faults,
        queue: Receiver<Item>,
        waiting: Arc<AtomicUsize>,
        stop: Arc<AtomicBool>,
        journal: Journal,
    ) -> Self {
        // Connections are numbered from 1: the server's own outlet, which nothing is sent to, is nobody's.
        let own = Arc::new(Outlet::new(0, Arc::clone(&hub.rules), None));
        Self {
            router: Router::new(Arc::clone(&hub), own),
            script: Script::new(&faults),
            stalls: Stalls::new(&faults),
            bucket: faults.rate_cap.map(|cap| Bucket::new(cap.rate.0, cap.burst)),
            begun: false,
            free: 0,
            work: None,
            line: VecDeque::new(),
            last_release: 0,
            held: None,
            found: Interest::default(),
            staged: 0,
            single: OneByOne::new(&faults, 0),
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
                    Ok(Item::Stop) | Err(TryRecvError::Disconnected) => break,
                    Ok(item) => self.take(item),
                    Err(TryRecvError::Empty) => {}
                }
            }
            let Some(due) = self.due() else {
                self.commit();
                self.journal.flush();
                let held = self.held.as_ref().map(|(_, until)| *until);
                match self.receive(held.into_iter().chain(self.single.patience()).min()) {
                    Some(Item::Stop) => break,
                    Some(item) => self.take(item),
                    None => self.alone(),
                }
                continue;
            };
            if due > now() {
                self.commit();
                // What waits for the slow subscriber holds up nobody else.
                if self.work.is_none() && self.single.due().is_some() {
                    match self.receive(Some(due)) {
                        Some(Item::Stop) => break,
                        Some(item) => {
                            self.take(item);
                            continue;
                        }
                        None => {}
                    }
                }
                if !wait::until(due, &self.stop) {
                    break;
                }
            }
            self.happen(due);
        }
        self.commit();
        self.journal.flush();
    }

    /// Waits for the next item, at most until the given instant.
    fn receive(&self, until: Option<Nanos>) -> Option<Item> {
        match until {
            None => Some(self.queue.recv().unwrap_or(Item::Stop)),
            Some(until) => self.queue.recv_timeout(Duration::from_nanos(until.saturating_sub(now()))).ok(),
        }
    }

    /// The next instant at which something happens to a message that is here.
    fn due(&self) -> Option<Nanos> {
        let work = self.work.as_ref().map(|w| w.end);
        let line = self.line.front().map(|l| l.release);
        work.into_iter().chain(line).chain(self.single.due()).min()
    }

    fn take(&mut self, item: Item) {
        match item {
            Item::Message(parcel) => self.begin(parcel),
            Item::Change(faults) => self.change(*faults),
            Item::Refused(at, peer) => self.journal.other(at, "refuse", &peer.to_string()),
            // The loop ends before it comes here.
            Item::Stop => {}
        }
    }

    /// Other faults from now on; what waits because of the old ones is not held back any longer, except for delays that run.
    fn change(&mut self, faults: Faults) {
        let at = now();
        self.journal.other(at, "control", &faults.to_string());
        self.deliver_all();
        self.script = Script::after(&faults, self.script.number());
        self.stalls = Stalls::new(&faults);
        self.stalls.begin(at);
        self.begun = true;
        self.bucket = faults.rate_cap.map(|cap| Bucket::new(cap.rate.0, cap.burst));
        self.single = OneByOne::new(&faults, self.single.script.number());
        self.faults = faults;
    }

    /// No other message has come for the one that is to change places.
    fn alone(&mut self) {
        self.release_held(false);
        if let Some((held, _)) = self.held.take_if(|(_, until)| *until <= now()) {
            self.journal.note(now(), "released", held.n, None, &held.parcel);
            self.deliver(&held);
            self.settled(&held.parcel);
        }
    }

    fn happen(&mut self, due: Nanos) {
        if let Some(work) = self.work.take_if(|w| w.end <= due) {
            self.done(work);
        }
        self.serve_slow(due);
        while self.line.front().is_some_and(|l| l.release <= due) {
            let Some(leaving) = self.line.pop_front() else { break };
            let at = now();
            // Waiting for the message before it is lateness too: the order is kept.
            let late = at - leaving.done - leaving.fate.delay;
            let took = Took { from: leaving.done, ns: at - leaving.done, late };
            self.leave(leaving, Some((at, took)));
        }
    }

    fn begin(&mut self, parcel: Parcel) {
        let (n, fate) = self.script.next();
        if !self.begun {
            self.begun = true;
            self.stalls.begin(parcel.arrived);
        }
        let ready = parcel.arrived.max(self.free);
        let from = self.bucket.as_mut().map_or(ready, |bucket| bucket.take(ready));
        let (end, stalls) = self.stalls.pass(from, fate.service);
        if self.bucket.is_some() || self.faults.service.is_some() || !stalls.is_empty() {
            self.work = Some(Work { parcel, n, fate, from, end, stalls });
        } else {
            self.free = end;
            self.route(parcel, n, fate, end);
        }
    }

    fn done(&mut self, work: Work) {
        let Work { parcel, n, fate, from, end, stalls } = work;
        let at = now();
        let late = at - end;
        if from > parcel.arrived && self.bucket.is_some() {
            let ready = parcel.arrived.max(self.free);
            self.journal.note(from, "rate-cap", n, Some(Took { from: ready, ns: from - ready, late: 0 }), &parcel);
        }
        let held: Nanos = stalls.iter().map(|met| met.held).sum();
        for met in &stalls {
            // What is worked on afterwards begins when the stall is really over.
            let late = if self.faults.service.is_none() { late } else { 0 };
            let over = met.over + late;
            self.journal.note(over, "stall", n, Some(Took { from: met.begin, ns: over - met.begin, late }), &parcel);
        }
        if self.faults.service.is_some() {
            self.journal.note(at, "service", n, Some(Took { from, ns: at - from - held, late }), &parcel);
            self.free = at;
        } else {
            self.free = end;
        }
        self.route(parcel, n, fate, self.free);
    }

    /// The broker has done its work on a message at `done`; now it is delivered, or is not.
    fn route(&mut self, mut parcel: Parcel, n: u64, fate: Fate, done: Nanos) {
        if fate.drop {
            self.journal.note(now(), "drop", n, None, &parcel);
            self.settled(&parcel);
            return;
        }
        if fate.corrupt {
            let head = self.journal_head(&parcel);
            if parcel.corrupt() {
                self.journal.note(now(), "corrupt", n, None, head.as_ref().unwrap_or(&parcel));
            }
        }
        if fate.duplicate {
            self.journal.note(now(), "duplicate", n, None, &parcel);
        }
        let release = (done + fate.delay).max(self.last_release);
        let leaving = Leaving { parcel, n, fate, done, release };
        if self.faults.delay.is_some() {
            self.last_release = release;
            self.line.push_back(leaving);
        } else {
            self.leave(leaving, None);
        }
    }

    /// The message as it was, where the bit that is turned over lies in what is logged of it.
    fn journal_head(&self, parcel: &Parcel) -> Option<Parcel> {
        (parcel.message().payload.len() <= 44).then(|| parcel.clone())
    }

    /// Delivers what was due; its delay is logged when it is on its way, so that logging does not make it later.
    fn leave(&mut self, leaving: Leaving, delay: Option<(Nanos, Took)>) {
        let swapped = leaving.fate.swap && self.held.is_none();
        if !swapped {
            self.deliver(&leaving);
        }
        if let Some((at, took)) = delay {
            if self.line.front().is_none_or(|next| next.release > at) {
                self.commit();
            }
            self.journal.note(at, "delay", leaving.n, Some(took), &leaving.parcel);
        }
        if swapped {
            self.held = Some((leaving, now() + ALONE));
            return;
        }
        self.settled(&leaving.parcel);
        if let Some((held, _)) = self.held.take() {
            self.journal.note(now(), "swap", held.n, None, &held.parcel);
            self.deliver(&held);
            self.settled(&held.parcel);
        }
    }

    fn deliver(&mut self, leaving: &Leaving) {
        let message = leaving.parcel.message();
        if self.faults.delivery.is_some() || self.faults.slow_subscriber.is_some() {
            self.deliver_each(leaving);
        } else {
            for _ in 0..=u32::from(leaving.fate.duplicate) {
                self.router.publish(&message, true);
                self.staged += 1;
            }
        }
        if self.staged >= BATCH {
            self.commit();
        }
        self.connections(leaving);
    }

    /// What befalls connections after this message.
    fn connections(&mut self, leaving: &Leaving) {
        let now_due = |d: &Disconnect| d.after == leaving.n;
        if let Some(Disconnect { who, .. }) = self.faults.disconnect.filter(now_due) {
            self.commit();
            self.journal.note(now(), "disconnect", leaving.n, None, &leaving.parcel);
            self.peers(leaving, who, Outlet::close);
        }
        if let Some(Disconnect { who, .. }) = self.faults.half_open.filter(now_due) {
            self.commit();
            self.journal.note(now(), "half-open", leaving.n, None, &leaving.parcel);
            self.peers(leaving, who, |outlet| {
                outlet.mute.store(true, Ordering::Relaxed);
                outlet.deaf_until.store(Nanos::MAX, Ordering::Relaxed);
            });
        }
        if let Some(stop) = self.faults.stop_reading.filter(|s| s.after == leaving.n) {
            let at = now();
            let took = Took { from: at, ns: stop.length.0, late: 0 };
            self.journal.note(at, "stop-reading", leaving.n, Some(took), &leaving.parcel);
            let until = at + stop.length.0;
            self.peers(leaving, Peer::Publisher, |outlet| outlet.deaf_until.store(until, Ordering::Relaxed));
        }
    }

    fn peers(&mut self, leaving: &Leaving, who: Peer, act: impl Fn(&Outlet)) {
        match who {
            Peer::Publisher => {
                let publisher = leaving.parcel.publisher;
                if let Some(member) = self.hub.members().iter().find(|m| m.outlet.id == publisher) {
                    act(&member.outlet);
                }
            }
            Peer::Subscribers => {
                self.hub.index.search(leaving.parcel.message().subject, &mut self.found);
                for sub in self.found.plain.iter().chain(&self.found.queued) {
                    act(&sub.outlet);
                }
                self.found.clear();
            }
        }
    }

    /// A message has left the server for good.
    pub(super) fn settled(&self, parcel: &Parcel) {
        self.waiting.fetch_sub(parcel.weight(), Ordering::AcqRel);
    }

    fn commit(&mut self) {
        if self.staged > 0 {
            self.staged = 0;
            self.router.end_batch();
            // Publishers are held back by the queue; a subscriber that is too slow is the policy's business.
            drop(self.router.take_pressed());
        }
    }
}
