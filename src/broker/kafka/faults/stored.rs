//! Faults of a log: the one server that every hit batch passes, in order, before it is appended.
//!
//! **Meaning.** A batch is what a producer sends to one partition at a time; with no batching it is
//! one message. `stall`, `service`, `rate-cap` and `delay` append it later, and so acknowledge it
//! later. `drop` acknowledges it and stores nothing, as a broker does that loses what it has
//! promised. `duplicate` stores it twice. `corrupt` turns a bit of its last value over and makes
//! its checksum right again. `disconnect` of the publisher stores it and closes the connection in
//! place of the acknowledgement. A log has no subscribers to be cut off and no order other than
//! that of its offsets: `disconnect` of subscribers and `swap` are refused.
//!
//! **Design.** As for the router (`server`): numbers, fates, stalls, tokens and the log of events
//! are the same. What a batch is, and how it is stored, is up to the [`StoredBatch`]: this file
//! knows no log and no protocol.
//!
//! **Invariants.** As for the router: without faults nothing is different but one test of an
//! `Option` for each batch; what waits is bounded by callers that check
//! [`BatchFaultQueue::is_full`]; batches keep their order.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use crate::broker::faults::{
    FaultDecision, FaultOptions, FaultScript, Journal, MAX_WAITING, OwnedMessage, StageTimes, StallHit, StallSchedule,
    TokenBucket, wait,
};
use crate::broker::shared::error::BrokerError;
use crate::faults::pattern;
use crate::faults::{Faults, FaultsError, Peer};
use crate::units::{Nanos, now};

/// A wait longer than this is a sleep that a new batch ends.
const LONG: Nanos = 200_000;

/// A batch on its way into the log.
pub(in crate::broker::kafka) trait StoredBatch: Send + 'static {
    /// Where it goes to: faults are limited to some.
    fn subject(&self) -> &[u8];

    /// Its first message, by which it is known in the log of events.
    fn payload(&self) -> &[u8];

    /// Bytes of memory that it holds while it waits.
    fn memory_bytes(&self) -> usize;

    /// Turns a bit over; `false` when that cannot be done.
    fn corrupt(&mut self) -> bool;

    /// Stores and acknowledges it as decided.
    fn settle(self, how: StoreAction);
}

/// What becomes of a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::broker::kafka) struct StoreAction {
    /// How often it is stored; whatever that is, it is acknowledged.
    pub(in crate::broker::kafka) copies: u32,
    /// Whether its connection is closed instead.
    pub(in crate::broker::kafka) cut: bool,
}

enum BatchJob<E> {
    Batch(OwnedMessage, E),
    Stop,
}

/// The queue of the batches that faults hit, before they are appended.
pub(in crate::broker::kafka) struct BatchFaultQueue<E> {
    pattern: Option<Box<[u8]>>,
    into: Sender<BatchJob<E>>,
    waiting: Arc<AtomicUsize>,
    stop: Arc<AtomicBool>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

/// Whether a log can have these faults.
fn check(faults: &Faults) -> Result<(), FaultsError> {
    let wrong = |key: &str, message: &str, hint: &str| {
        Err(FaultsError { key: key.into(), message: message.into(), hint: hint.into() })
    };
    faults.check()?;
    // All are named: a new kind of fault is to be thought of here.
    #[rustfmt::skip]
    let Faults {
        seed: _, subjects: _, stall: _, service: _, delay: _, rate_cap: _, drop: _, duplicate: _, corrupt: _,
        swap, delivery, slow_subscriber, disconnect, half_open, stop_reading, refuse,
    } = faults;
    if swap.is_some() {
        let message = "a log gives offsets in the order in which batches arrive, and readers follow them";
        return wrong("swap", message, "only messages of the router change places");
    }
    if disconnect.is_some_and(|d| d.who == Peer::Subscribers) {
        let message = "a log has no subscribers: consumers ask for what they want";
        return wrong("disconnect.who", message, "write \"publisher\"");
    }
    let of_subscribers = [("delivery", delivery.is_some()), ("slow-subscriber", slow_subscriber.is_some())];
    if let Some((key, _)) = of_subscribers.iter().find(|(_, there)| *there) {
        return wrong(
            key,
            "a log delivers nothing: consumers ask for what they want",
            "only the router has such faults",
        );
    }
    let of_connections =
        [("half-open", half_open.is_some()), ("stop-reading", stop_reading.is_some()), ("refuse", refuse.is_some())];
    if let Some((key, _)) = of_connections.iter().find(|(_, there)| *there) {
        let hint = "stall holds up acknowledgements, and disconnect of the publisher cuts a connection";
        return wrong(key, "the connections of the log have no such fault", hint);
    }
    Ok(())
}

impl<E: StoredBatch> BatchFaultQueue<E> {
    /// Starts the server of a log with faults; `None` for one without.
    pub(in crate::broker::kafka) fn start(m: &FaultOptions) -> Result<Option<Self>, BrokerError> {
        if !m.faults.any() {
            return Ok(None);
        }
        check(&m.faults)?;
        let journal = Journal::create(m.log.as_deref())
            .map_err(|source| BrokerError::System { what: "make the log of faults", source })?;
        let (into, queue) = channel();
        let (waiting, stop) = (Arc::<AtomicUsize>::default(), Arc::<AtomicBool>::default());
        let server = BatchFaultServer {
            queue,
            waiting: Arc::clone(&waiting),
            stop: Arc::clone(&stop),
            journal,
            script: FaultScript::new(&m.faults),
            stalls: StallSchedule::new(&m.faults),
            bucket: m.faults.rate_cap.map(|cap| TokenBucket::new(cap.rate.0, cap.burst)),
            faults: m.faults.clone(),
            begun: false,
            free: 0,
            line: VecDeque::new(),
            last_release: 0,
        };
        let thread = std::thread::Builder::new()
            .name("faults".into())
            .spawn(|| server.run())
            .map_err(|source| BrokerError::System { what: "start the thread of the faults", source })?;
        let pattern = m.faults.subjects.as_deref().filter(|p| *p != ">").map(|p| p.as_bytes().into());
        Ok(Some(Self { pattern, into, waiting, stop, thread: Mutex::new(Some(thread)) }))
    }

    /// Whether batches for this topic are hit.
    pub(in crate::broker::kafka) fn takes(&self, subject: &[u8]) -> bool {
        self.pattern.as_deref().is_none_or(|pattern| pattern::matches(pattern, subject))
    }

    /// Takes a batch that has arrived now.
    pub(in crate::broker::kafka) fn send(&self, stored_batch: E) {
        let owned = OwnedMessage::new(0, [stored_batch.subject(), b"", b"", b"", stored_batch.payload()], 0);
        self.waiting.fetch_add(stored_batch.memory_bytes(), Ordering::AcqRel);
        // After the end of the server nobody is left to append.
        let _ = self.into.send(BatchJob::Batch(owned, stored_batch));
    }

    /// Whether so much waits that producers are not to be read.
    pub(in crate::broker::kafka) fn is_full(&self) -> bool {
        self.waiting.load(Ordering::Acquire) > MAX_WAITING && !self.stop.load(Ordering::Acquire)
    }

    /// Ends the server; what waits is neither stored nor acknowledged.
    pub(in crate::broker::kafka) fn stop(&self) {
        self.stop.store(true, Ordering::Release);
        let _ = self.into.send(BatchJob::Stop);
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        // A thread that has panicked has said so on standard error.
        let _ = thread.map(JoinHandle::join);
    }
}

impl<E> Drop for BatchFaultQueue<E> {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Release);
        let _ = self.into.send(BatchJob::Stop);
    }
}

/// A batch whose work is done, and that waits for its delay.
struct DelayedBatch<E> {
    owned: OwnedMessage,
    stored_batch: E,
    n: u64,
    decision: FaultDecision,
    done: Nanos,
    release: Nanos,
}

struct BatchFaultServer<E> {
    queue: Receiver<BatchJob<E>>,
    waiting: Arc<AtomicUsize>,
    stop: Arc<AtomicBool>,
    journal: Journal,
    faults: Faults,
    script: FaultScript,
    stalls: StallSchedule,
    bucket: Option<TokenBucket>,
    begun: bool,
    /// When the previous batch was done.
    free: Nanos,
    line: VecDeque<DelayedBatch<E>>,
    last_release: Nanos,
}

impl<E: StoredBatch> BatchFaultServer<E> {
    /// Serves until it is told to stop.
    fn run(mut self) {
        wait::exact_timers();
        while let Some(item) = self.next() {
            let BatchJob::Batch(owned, stored_batch) = item else { break };
            if !self.serve(owned, stored_batch) {
                break;
            }
        }
        self.journal.flush();
    }

    /// The next item; what is due meanwhile leaves.
    fn next(&mut self) -> Option<BatchJob<E>> {
        loop {
            let Some(release) = self.line.front().map(|first| first.release) else {
                if let Ok(item) = self.queue.try_recv() {
                    return Some(item);
                }
                self.journal.flush();
                return self.queue.recv().ok();
            };
            match release.saturating_sub(now()) {
                left if left > LONG => match self.queue.recv_timeout(Duration::from_nanos(left - LONG / 2)) {
                    Ok(item) => return Some(item),
                    Err(RecvTimeoutError::Timeout) => {}
                    Err(RecvTimeoutError::Disconnected) => return None,
                },
                _ if !self.pass(release) => return None,
                _ => {}
            }
        }
    }

    /// Lets time pass until then; what is due by then leaves. `false` when it is told to stop.
    fn pass(&mut self, until: Nanos) -> bool {
        loop {
            let due = self.line.front().map_or(until, |first| first.release.min(until));
            if !wait::until(due, &self.stop) {
                return false;
            }
            let leaving = self.line.front().is_some_and(|first| first.release <= due).then(|| self.line.pop_front());
            match leaving.flatten() {
                Some(leaving) => {
                    let at = now();
                    // Waiting for the batch before it is lateness too: the order is kept.
                    let late = at - leaving.done - leaving.decision.delay;
                    let took = StageTimes { from: leaving.done, ns: at - leaving.done, late };
                    self.journal.note(at, "delay", leaving.n, Some(took), &leaving.owned);
                    self.leave(leaving);
                }
                None => return true,
            }
        }
    }

    fn serve(&mut self, owned: OwnedMessage, stored_batch: E) -> bool {
        let (n, decision) = self.script.next();
        if !self.begun {
            self.begun = true;
            self.stalls.begin(owned.arrived);
        }
        let ready = owned.arrived.max(self.free);
        let from = self.bucket.as_mut().map_or(ready, |bucket| bucket.take(ready));
        let (end, stalls) = self.stalls.pass(from, decision.service);
        self.free = end;
        if self.bucket.is_some() || self.faults.service.is_some() || !stalls.is_empty() {
            if !self.pass(end) {
                return false;
            }
            self.log_work(&owned, n, [ready, from, end], &stalls);
        }
        self.route(owned, stored_batch, n, decision);
        true
    }

    /// Notes what the work on a batch was: it was ready, got its token, and was to be done at these
    /// instants.
    fn log_work(&mut self, owned: &OwnedMessage, n: u64, [ready, from, end]: [Nanos; 3], stalls: &[StallHit]) {
        let at = now();
        let late = at - end;
        if from > ready {
            self.journal.note(from, "rate-cap", n, Some(StageTimes { from: ready, ns: from - ready, late: 0 }), owned);
        }
        let service = self.faults.service.is_some();
        for met in stalls {
            // What is worked on afterwards begins when the stall is really over.
            let late = if service { 0 } else { late };
            let over = met.over + late;
            self.journal.note(
                over,
                "stall",
                n,
                Some(StageTimes { from: met.begin, ns: over - met.begin, late }),
                owned,
            );
        }
        if service {
            let held: Nanos = stalls.iter().map(|met| met.held).sum();
            self.journal.note(at, "service", n, Some(StageTimes { from, ns: at - from - held, late }), owned);
            self.free = at;
        }
    }

    fn route(&mut self, owned: OwnedMessage, mut stored_batch: E, n: u64, decision: FaultDecision) {
        if decision.drop {
            self.journal.note(now(), "drop", n, None, &owned);
        } else {
            if decision.corrupt && stored_batch.corrupt() {
                self.journal.note(now(), "corrupt", n, None, &owned);
            }
            if decision.duplicate {
                self.journal.note(now(), "duplicate", n, None, &owned);
            }
        }
        let done = self.free;
        let release = (done + decision.delay).max(self.last_release);
        let leaving = DelayedBatch { owned, stored_batch, n, decision, done, release };
        if self.faults.delay.is_some() {
            self.last_release = release;
            self.line.push_back(leaving);
        } else {
            self.leave(leaving);
        }
    }

    fn leave(&mut self, leaving: DelayedBatch<E>) {
        let DelayedBatch { owned, stored_batch, n, decision, .. } = leaving;
        let cut = self.faults.disconnect.is_some_and(|d| d.after == n);
        if cut {
            self.journal.note(now(), "disconnect", n, None, &owned);
        }
        let copies = match (decision.drop, decision.duplicate) {
            (true, _) => 0,
            (false, twice) => 1 + u32::from(twice),
        };
        let memory_bytes = stored_batch.memory_bytes();
        stored_batch.settle(StoreAction { copies, cut });
        self.waiting.fetch_sub(memory_bytes, Ordering::AcqRel);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::faults::{Disconnect, HitRule};
    use crate::units::Span;
    use std::sync::mpsc;

    /// Tells what became of it, and when.
    struct TestBatch(u8, mpsc::Sender<(u8, bool, StoreAction, Nanos)>, bool);

    impl StoredBatch for TestBatch {
        fn subject(&self) -> &[u8] {
            b"topic"
        }
        fn payload(&self) -> &[u8] {
            std::slice::from_ref(&self.0)
        }
        fn memory_bytes(&self) -> usize {
            100
        }
        fn corrupt(&mut self) -> bool {
            self.2 = true;
            true
        }
        fn settle(self, how: StoreAction) {
            let _ = self.1.send((self.0, self.2, how, now()));
        }
    }

    fn settled(faults: Faults, count: u8) -> Vec<(u8, bool, StoreAction, Nanos)> {
        let line = BatchFaultQueue::start(&FaultOptions { faults, ..FaultOptions::default() }).unwrap().unwrap();
        assert!(line.takes(b"topic") && !line.is_full());
        let (tell, told) = mpsc::channel();
        (0..count).for_each(|n| line.send(TestBatch(n, tell.clone(), false)));
        let all = (0..count).map(|_| told.recv_timeout(Duration::from_secs(60)).unwrap()).collect();
        line.stop();
        assert_eq!(line.waiting.load(Ordering::Acquire), 0);
        all
    }

    #[test]
    fn each_kind_of_fault_befalls_the_batches_it_names() {
        let faults = Faults {
            drop: Some(HitRule::Every(2)),
            duplicate: Some(HitRule::Every(3)),
            corrupt: Some(HitRule::Every(5)),
            disconnect: Some(Disconnect { after: 4, who: Peer::Publisher }),
            ..Faults::default()
        };
        for (n, corrupt, how, _) in settled(faults, 60) {
            let number = u32::from(n) + 1;
            let dropped = number.is_multiple_of(2);
            let copies = if dropped { 0 } else { 1 + u32::from(number.is_multiple_of(3)) };
            assert_eq!((how.copies, how.cut), (copies, number == 4), "{number}");
            assert_eq!(corrupt, !dropped && number.is_multiple_of(5), "{number}");
        }
    }

    #[test]
    fn delays_and_service_times_are_never_short_and_keep_the_order() {
        let law = |ms| Some(crate::faults::DurationLaw::Fixed(Span::millis(ms)));
        let began = now();
        let all = settled(Faults { service: law(2), delay: law(30), ..Faults::default() }, 20);
        for (n, (told, _, _, at)) in all.iter().enumerate() {
            assert_eq!(usize::from(*told), n);
            assert!(at - began >= (n as u64 + 1) * 2_000_000 + 30_000_000, "{n}: {}", at - began);
        }
    }

    #[test]
    fn what_makes_no_sense_for_a_log_is_refused_in_words() {
        for (flag, words) in [
            ("swap=every:2", "order in which"),
            ("disconnect=after:1,who:subscribers", "no subscribers"),
            ("slow-subscriber=rate:5/s", "delivers nothing"),
            ("half-open=after:1,who:publisher", "no such fault"),
        ] {
            let faults = Faults::default().with_flags(&[flag.to_owned()]).unwrap();
            let error = BatchFaultQueue::<TestBatch>::start(&FaultOptions { faults, ..FaultOptions::default() })
                .err()
                .unwrap()
                .to_string();
            assert!(error.contains(words), "{error}");
        }
        assert!(BatchFaultQueue::<TestBatch>::start(&FaultOptions::default()).unwrap().is_none());
    }
}
