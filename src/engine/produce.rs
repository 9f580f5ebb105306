//! The publish loop: walks the schedule of one producer.
//!
//! A late message is sent at once with its own intended time; none is skipped, none is re-timed. The loop allocates
//! nothing for a message, takes no lock, and reads the clock once for each message that is not waited for.

use std::sync::atomic::Ordering;

use crate::driver::{Confirmation, DriverError, Outgoing, Producer};
use crate::load::message::{Envelope, Template, open};
use crate::load::pacer::Pacer;
use crate::load::schedule::Schedule;
use crate::measure::ledger::Seen;
use crate::measure::recorder::{Kind, Recorder};
use crate::units::{Nanos, SECOND, now};

use super::shared::Shared;

/// No wait in the loop is longer, so that a stop is noticed.
const SLICE: Nanos = 50_000_000;
/// Confirmations that may be outstanding with their stamps known.
const RING: usize = 1 << 16;

/// When the next message is due.
#[derive(Debug)]
pub enum Pace {
    /// By the schedule.
    Open(Schedule),
    /// At once.
    Unthrottled,
    /// When fewer than `outstanding` are unanswered, after a pause.
    Closed {
        /// Messages in flight.
        outstanding: u64,
        /// The pause.
        think: Nanos,
    },
}

/// What one producer did in the measured phase.
#[derive(Debug, Default)]
pub struct Sent {
    /// Messages due.
    pub scheduled: u64,
    /// Messages handed over.
    pub sent: u64,
    /// Messages refused.
    pub refused: u64,
    /// Sequence numbers of the measured phase: from, to (exclusive).
    pub range: (u64, u64),
    /// Sum of intended - origin.
    pub intended_sum: i128,
    /// Acknowledgements of measured messages.
    pub acked: u64,
    /// Answers to measured messages, each once.
    pub answered: u64,
    /// Of those, arrived within the measured phase, and their bytes.
    pub answered_in_time: (u64, u64),
    /// Sum of arrival - origin of confirmations.
    pub confirmed_sum: i128,
    /// Answers that came twice, out of order is not counted for answers.
    pub duplicated: u64,
    /// Answers of another run and answers whose checksum did not hold.
    pub foreign: u64,
    /// See `foreign`.
    pub corrupted: u64,
    /// Messages due and messages sent in each interval.
    pub scheduled_by_interval: Vec<u64>,
    /// See above.
    pub sent_by_interval: Vec<u64>,
    /// Confirmations by the interval in which they arrived.
    pub confirmed_by_interval: Vec<u64>,
}

/// One producer with all it needs.
pub struct Publisher<'a, P> {
    /// The driver's side.
    pub producer: P,
    /// Its number in the workload.
    pub index: u32,
    /// Names the trial.
    pub run: u32,
    /// Channels in turn.
    pub channels: u32,
    /// Messages in turn.
    pub templates: Vec<Template>,
    /// Waits.
    pub pacer: Pacer,
    /// When.
    pub pace: Pace,
    /// Shared with the other threads.
    pub shared: &'a Shared,
    /// Fills histograms.
    pub recorder: Recorder,
    /// Start of the measured phase, and length of an interval.
    pub origin: Nanos,
    /// See `origin`.
    pub interval: Nanos,
    /// The books.
    pub books: Books,
}

/// The books of one producer.
#[derive(Debug, Default)]
pub struct Books {
    /// Of the measured phase.
    pub sent: Sent,
    sequence: u64,
    confirmed: u64,
    stamps: Vec<(u64, Nanos, Nanos)>,
    answers: Seen,
}

impl<P: Producer> Publisher<'_, P> {
    /// Drives the load that begins at `start` until the end of the measured phase, then waits for what is outstanding.
    pub async fn run(&mut self, start: Nanos) -> Result<(), DriverError> {
        if self.producer.confirms() {
            self.books.stamps = vec![(u64::MAX, 0, 0); RING];
        }
        self.books.sent.range = (u64::MAX, 0);
        let mut unthrottled = 0u32;
        self.wait(start).await?;
        loop {
            let due = match &mut self.pace {
                Pace::Open(schedule) => match schedule.next().map(|offset| start + offset) {
                    Some(due) if due < self.shared.end() => Some(due),
                    _ => break,
                },
                Pace::Unthrottled => {
                    unthrottled += 1;
                    if unthrottled.is_multiple_of(64) {
                        tokio::task::yield_now().await;
                        self.poll_confirmations().await?;
                    }
                    None
                }
                Pace::Closed { outstanding, think } => {
                    let (outstanding, think) = (*outstanding, *think);
                    while self.books.sequence - self.books.confirmed >= outstanding && !self.over() {
                        let slice = now() + SLICE;
                        self.wait_or_confirmation(slice).await?;
                    }
                    if think > 0 {
                        self.wait(now() + think).await?;
                    }
                    None
                }
            };
            let mut at = now();
            if let Some(due) = due {
                self.books.due(due, self.origin, self.interval);
                if at < due {
                    self.producer.flush().await?;
                    self.wait(due).await?;
                    at = now();
                } else if self.books.sequence.is_multiple_of(64) {
                    // Late: the client's own tasks run on this thread and must get their turn.
                    tokio::task::yield_now().await;
                    self.poll_confirmations().await?;
                }
            } else if at >= self.shared.end() {
                break;
            } else {
                self.books.due(at, self.origin, self.interval);
            }
            if self.shared.stopped() {
                break;
            }
            self.send(due.unwrap_or(at), at).await?;
        }
        self.producer.flush().await?;
        while self.producer.confirms() && self.books.confirmed < self.books.sequence && !self.shared.stopped() {
            self.wait_or_confirmation(now() + SLICE).await?;
        }
        Ok(())
    }

    /// Counts what the schedule still holds when the loop was cut off while the client took nothing more.
    pub fn count_unsent(&mut self, start: Nanos) {
        if let Pace::Open(schedule) = &mut self.pace {
            for due in schedule.map(|offset| start + offset).take_while(|due| *due < self.shared.end()) {
                self.books.due(due, self.origin, self.interval);
            }
        }
    }

    fn over(&self) -> bool {
        self.shared.stopped() || now() >= self.shared.end()
    }

    #[inline]
    async fn send(&mut self, intended: Nanos, at: Nanos) -> Result<(), DriverError> {
        let sequence = self.books.sequence;
        let template = (sequence % self.templates.len() as u64) as usize;
        let channel = (sequence % u64::from(self.channels)) as u32;
        let envelope = Envelope { run: self.run, producer: self.index, sequence, intended, sent: at };
        let message = self.templates[template].stamp(&envelope);
        if self.producer.confirms() {
            self.books.stamps[sequence as usize % RING] = (sequence, intended, at);
        }
        self.books.sequence += 1;
        match self.producer.send(Outgoing { channel, key: None, payload: message, token: sequence }).await {
            Ok(()) => {}
            Err(DriverError::Refused { .. }) => {
                self.books.sent.refused += u64::from(intended >= self.origin);
                self.books.confirmed += 1;
                return Ok(());
            }
            Err(other) => return Err(other),
        }
        self.shared.sent.fetch_add(1, Ordering::Relaxed);
        if intended >= self.origin {
            self.books.handed_over(sequence, intended, at, self.origin, self.interval);
            if matches!(self.pace, Pace::Open(_)) {
                self.recorder.record(Kind::Lag, intended, intended, at);
            }
        }
        Ok(())
    }

    async fn wait(&mut self, until: Nanos) -> Result<(), DriverError> {
        loop {
            let slice = until.min(now() + SLICE);
            if self.wait_or_confirmation(slice).await? && (slice == until || self.shared.stopped()) {
                return Ok(());
            }
        }
    }

    /// Waits until `slice` or for confirmations; true when it was the time.
    async fn wait_or_confirmation(&mut self, slice: Nanos) -> Result<bool, DriverError> {
        let timer = |e: std::io::Error| DriverError::Lost { url: "timer".into(), words: e.to_string() };
        if !self.producer.confirms() {
            self.pacer.until(slice).await.map_err(timer)?;
            return Ok(true);
        }
        let open_loop = matches!(self.pace, Pace::Open(_));
        let (books, recorder, shared) = (&mut self.books, &mut self.recorder, self.shared);
        let context = (self.run, self.origin, self.interval, shared.end(), open_loop);
        let mut sink = |c: Confirmation<'_>| books.confirm(c, recorder, shared, context);
        tokio::select! {
            biased;
            done = self.producer.confirmed(&mut sink) => done.map(|()| false),
            done = self.pacer.until(slice) => done.map(|()| true).map_err(timer),
        }
    }

    async fn poll_confirmations(&mut self) -> Result<(), DriverError> {
        if self.producer.confirms() {
            self.wait_or_confirmation(0).await?;
        }
        Ok(())
    }
}

fn bump(counts: &mut Vec<u64>, at: Nanos, origin: Nanos, interval: Nanos) {
    let index = (at.saturating_sub(origin) / interval) as usize;
    if index >= counts.len() {
        counts.resize(index + 1, 0);
    }
    counts[index] += 1;
}

impl Books {
    fn due(&mut self, due: Nanos, origin: Nanos, interval: Nanos) {
        if due >= origin {
            self.sent.scheduled += 1;
            bump(&mut self.sent.scheduled_by_interval, due, origin, interval);
        }
    }

    fn handed_over(&mut self, sequence: u64, intended: Nanos, at: Nanos, origin: Nanos, interval: Nanos) {
        self.sent.sent += 1;
        self.sent.range = (self.sent.range.0.min(sequence), sequence + 1);
        self.sent.intended_sum += i128::from(intended - origin);
        bump(&mut self.sent.sent_by_interval, at, origin, interval);
    }

    fn confirm(
        &mut self,
        c: Confirmation<'_>,
        recorder: &mut Recorder,
        shared: &Shared,
        (run, origin, interval, end, open_loop): (u32, Nanos, Nanos, Nanos, bool),
    ) {
        let (sequence, intended, sent, at, bytes) = match c {
            Confirmation::Failed { .. } | Confirmation::Unanswered => {
                self.confirmed += 1;
                return;
            }
            Confirmation::Acked { token, at } => match self.stamps[token as usize % RING] {
                (sequence, intended, sent) if sequence == token => (sequence, intended, sent, at, 0),
                _ => {
                    self.sent.foreign += 1;
                    return;
                }
            },
            Confirmation::Answered { message, at } => match open(message, run) {
                Ok(e) => (e.sequence, e.intended, e.sent, at, message.len() as u64),
                Err(crate::load::message::Flaw::Foreign) => {
                    self.sent.foreign += 1;
                    return;
                }
                Err(crate::load::message::Flaw::Corrupted) => {
                    self.sent.corrupted += 1;
                    return;
                }
            },
        };
        if !self.answers.insert(sequence) {
            self.sent.duplicated += 1;
            return;
        }
        self.confirmed += 1;
        shared.received.fetch_add(1, Ordering::Relaxed);
        if at >= origin && at < end {
            self.sent.answered_in_time.0 += 1;
            self.sent.answered_in_time.1 += bytes;
            bump(&mut self.sent.confirmed_by_interval, at, origin, interval);
        }
        if intended < origin {
            return;
        }
        match c {
            Confirmation::Answered { .. } => self.sent.answered += 1,
            _ => self.sent.acked += 1,
        }
        self.sent.confirmed_sum += i128::from(at) - i128::from(origin);
        if open_loop {
            recorder.record(Kind::Response, intended, intended, at);
        }
        recorder.record(Kind::Service, intended, sent, at);
    }
}

/// Room for the intervals of a trial, so that the loops do not grow anything.
pub fn books(measure: Nanos, interval: Nanos) -> Books {
    let room = (measure / interval.max(1) + 2).min(SECOND) as usize;
    let mut books = Books::default();
    books.sent.scheduled_by_interval.reserve(room);
    books.sent.sent_by_interval.reserve(room);
    books.sent.confirmed_by_interval.reserve(room);
    books
}
