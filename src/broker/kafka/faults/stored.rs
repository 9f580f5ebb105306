//! Faults of a log: the one server that every hit batch passes, in order, before it is appended.
//!
//! **Meaning.** A batch is what a producer sends to one partition at a time; with no batching it is one message. `stall`, `service`,
//! `rate-cap` and `delay` append it later, and so acknowledge it later. `drop` acknowledges it and stores nothing, as a broker does that loses what
//! it has promised. `duplicate` stores it twice. `corrupt` turns a bit of its last value over and makes its checksum right again. `disconnect` of
//! the publisher stores it and closes the connection in place of the acknowledgement. A log has no subscribers to be cut
//! off and no order other than that of its offsets: `disconnect` of subscribers and `swap` are refused.
//!
//! **Design.** As for the router (`server`): numbers, fates, stalls, tokens and the log of events are the same. What a batch is, and how it is
//! stored, is an [`Errand`]'s business: this knows no log and no protocol.
//!
//! **Invariants.** As for the router: without faults nothing is different but one test of an `Option` for each batch; what waits
//! is bounded by whoever asks [`Line::crowded`]; batches keep their order.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use crate::broker::faults::{
    Bucket, Fate, Journal, MAX_WAITING, Met, Misbehaviour, Parcel, Script, Stalls, Took, wait,
};
use crate::broker::shared::error::BrokerError;
use crate::faults::pattern;
use crate::faults::{Faults, FaultsError, Peer};
use crate::units::{Nanos, now};

/// A wait longer than this is a sleep that a new batch ends.
const LONG: Nanos = 200_000;

/// A batch on its way into the log.
pub(in crate::broker::kafka) trait Errand: Send + 'static {
    /// Where it goes to: faults are limited to some.
    fn subject(&self) -> &[u8];

    /// Its first message, by which it is known in the log of events.
    fn payload(&self) -> &[u8];

    /// Bytes that it takes while it waits.
    fn weight(&self) -> usize;

    /// Turns a bit over; `false` when that cannot be done.
    fn corrupt(&mut self) -> bool;

    /// Does what it came for.
    fn settle(self, how: Settled);
}

/// What becomes of a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::broker::kafka) struct Settled {
    /// How often it is stored; whatever that is, it is acknowledged.
    pub(in crate::broker::kafka) copies: u32,
    /// Whether its connection is closed instead.
    pub(in crate::broker::kafka) cut: bool,
}

enum Item<E> {
    Errand(Parcel, E),
    Stop,
}

/// The way that hit batches take.
pub(in crate::broker::kafka) struct Line<E> {
    pattern: Option<Box<[u8]>>,
    into: Sender<Item<E>>,
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

impl<E: Errand> Line<E> {
    /// Starts the server of a log that misbehaves; `None` for one that does not.
    pub(in crate::broker::kafka) fn start(m: &Misbehaviour) -> Result<Option<Self>, BrokerError> {
        if !m.faults.any() {
            return Ok(None);
        }
        check(&m.faults)?;
        let journal = Journal::create(m.log.as_deref())
            .map_err(|source| BrokerError::System { what: "make the log of faults", source })?;
        let (into, queue) = channel();
        let (waiting, stop) = (Arc::<AtomicUsize>::default(), Arc::<AtomicBool>::default());
        let server = Server {
            queue,
            waiting: Arc::clone(&waiting),
            stop: Arc::clone(&stop),
            journal,
            script: Script::new(&m.faults),
            stalls: Stalls::new(&m.faults),
            bucket: m.faults.rate_cap.map(|cap| Bucket::new(cap.rate.0, cap.burst)),
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
    pub(in crate::broker::kafka) fn send(&self, errand: E) {
        let parcel = Parcel::new(0, [errand.subject(), b"", b"", b"", errand.payload()], 0);
        self.waiting.fetch_add(errand.weight(), Ordering::AcqRel);
        // After the end of the server nobody is left to append.
        let _ = self.into.send(Item::Errand(parcel, errand));
    }

    /// Whether so much waits that producers are not to be read.
    pub(in crate::broker::kafka) fn crowded(&self) -> bool {
        self.waiting.load(Ordering::Acquire) > MAX_WAITING && !self.stop.load(Ordering::Acquire)
    }

    /// Ends the server; what waits is neither stored nor acknowledged.
    pub(in crate::broker::kafka) fn stop(&self) {
        self.stop.store(true, Ordering::Release);
        let _ = self.into.send(Item::Stop);
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        // A thread that has panicked has said so on standard error.
        let _ = thread.map(JoinHandle::join);
    }
}

impl<E> Drop for Line<E> {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Release);
        let _ = self.into.send(Item::Stop);
    }
}

/// A batch whose work is done, and that waits for its delay.
struct Leaving<E> {
    parcel: Parcel,
    errand: E,
    n: u64,
    fate: Fate,
    done: Nanos,
    release: Nanos,
}

struct Server<E> {
    queue: Receiver<Item<E>>,
    waiting: Arc<AtomicUsize>,
    stop: Arc<AtomicBool>,
    journal: Journal,
    faults: Faults,
    script: Script,
    stalls: Stalls,
    bucket: Option<Bucket>,
    begun: bool,
    /// When the previous batch was done.
    free: Nanos,
    line: VecDeque<Leaving<E>>,
    last_release: Nanos,
}

impl<E: Errand> Server<E> {
    /// Serves until it is told to stop.
    fn run(mut self) {
        wait::exact_timers();
        while let Some(item) = self.next() {
            let Item::Errand(parcel, errand) = item else { break };
            if !self.serve(parcel, errand) {
                break;
            }
        }
        self.journal.flush();
    }

    /// The next item; what is due meanwhile leaves.
    fn next(&mut self) -> Option<Item<E>> {
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
                    let late = at - leaving.done - leaving.fate.delay;
                    let took = Took { from: leaving.done, ns: at - leaving.done, late };
                    self.journal.note(at, "delay", leaving.n, Some(took), &leaving.parcel);
                    self.leave(leaving);
                }
                None => return true,
            }
        }
    }

    fn serve(&mut self, parcel: Parcel, errand: E) -> bool {
        let (n, fate) = self.script.next();
        if !self.begun {
            self.begun = true;
            self.stalls.begin(parcel.arrived);
        }
        let ready = parcel.arrived.max(self.free);
        let from = self.bucket.as_mut().map_or(ready, |bucket| bucket.take(ready));
        let (end, stalls) = self.stalls.pass(from, fate.service);
        self.free = end;
        if self.bucket.is_some() || self.faults.service.is_some() || !stalls.is_empty() {
            if !self.pass(end) {
                return false;
            }
            self.worked(&parcel, n, [ready, from, end], &stalls);
        }
        self.route(parcel, errand, n, fate);
        true
    }

    /// Notes what the work on a batch was: it was ready, got its token, and was to be done at these instants.
    fn worked(&mut self, parcel: &Parcel, n: u64, [ready, from, end]: [Nanos; 3], stalls: &[Met]) {
        let at = now();
        let late = at - end;
        if from > ready {
            self.journal.note(from, "rate-cap", n, Some(Took { from: ready, ns: from - ready, late: 0 }), parcel);
        }
        let service = self.faults.service.is_some();
        for met in stalls {
            // What is worked on afterwards begins when the stall is really over.
            let late = if service { 0 } else { late };
            let over = met.over + late;
            self.journal.note(over, "stall", n, Some(Took { from: met.begin, ns: over - met.begin, late }), parcel);
        }
        if service {
            let held: Nanos = stalls.iter().map(|met| met.held).sum();
            self.journal.note(at, "service", n, Some(Took { from, ns: at - from - held, late }), parcel);
            self.free = at;
        }
    }

    fn route(&mut self, parcel: Parcel, mut errand: E, n: u64, fate: Fate) {
        if fate.drop {
            self.journal.note(now(), "drop", n, None, &parcel);
        } else {
            if fate.corrupt && errand.corrupt() {
                self.journal.note(now(), "corrupt", n, None, &parcel);
            }
            if fate.duplicate {
                self.journal.note(now(), "duplicate", n, None, &parcel);
            }
        }
        let done = self.free;
        let release = (done + fate.delay).max(self.last_release);
        let leaving = Leaving { parcel, errand, n, fate, done, release };
        if self.faults.delay.is_some() {
            self.last_release = release;
            self.line.push_back(leaving);
        } else {
            self.leave(leaving);
        }
    }

    fn leave(&mut self, leaving: Leaving<E>) {
        let Leaving { parcel, errand, n, fate, .. } = leaving;
        let cut = self.faults.disconnect.is_some_and(|d| d.after == n);
        if cut {
            self.journal.note(now(), "disconnect", n, None, &parcel);
        }
        let copies = match (fate.drop, fate.duplicate) {
            (true, _) => 0,
            (false, twice) => 1 + u32::from(twice),
        };
        let weight = errand.weight();
        errand.settle(Settled { copies, cut });
        self.waiting.fetch_sub(weight, Ordering::AcqRel);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::faults::{Disconnect, Pick};
    use crate::units::Span;
    use std::sync::mpsc;

    /// Tells what became of it, and when.
    struct Told(u8, mpsc::Sender<(u8, bool, Settled, Nanos)>, bool);

    impl Errand for Told {
        fn subject(&self) -> &[u8] {
            b"topic"
        }
        fn payload(&self) -> &[u8] {
            std::slice::from_ref(&self.0)
        }
        fn weight(&self) -> usize {
            100
        }
        fn corrupt(&mut self) -> bool {
            self.2 = true;
            true
        }
        fn settle(self, how: Settled) {
            let _ = self.1.send((self.0, self.2, how, now()));
        }
    }

    fn settled(faults: Faults, count: u8) -> Vec<(u8, bool, Settled, Nanos)> {
        let line = Line::start(&Misbehaviour { faults, ..Misbehaviour::default() }).unwrap().unwrap();
        assert!(line.takes(b"topic") && !line.crowded());
        let (tell, told) = mpsc::channel();
        (0..count).for_each(|n| line.send(Told(n, tell.clone(), false)));
        let all = (0..count).map(|_| told.recv_timeout(Duration::from_secs(10)).unwrap()).collect();
        line.stop();
        assert_eq!(line.waiting.load(Ordering::Acquire), 0);
        all
    }

    #[test]
    fn each_kind_of_fault_befalls_the_batches_it_names() {
        let faults = Faults {
            drop: Some(Pick::Every(2)),
            duplicate: Some(Pick::Every(3)),
            corrupt: Some(Pick::Every(5)),
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
        let law = |ms| Some(crate::faults::Law::Fixed(Span::millis(ms)));
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
            let error =
                Line::<Told>::start(&Misbehaviour { faults, ..Misbehaviour::default() }).err().unwrap().to_string();
            assert!(error.contains(words), "{error}");
        }
        assert!(Line::<Told>::start(&Misbehaviour::default()).unwrap().is_none());
    }
}
