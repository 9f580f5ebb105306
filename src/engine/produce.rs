//! The publish loop: walks the schedule of one producer.
//!
//! A late message is sent at once with its own intended time; none is skipped, none is re-timed.
//! The loop allocates nothing for a message, takes no lock, and reads the clock once for each
//! message that is not waited for.

use std::cell::RefCell;
use std::rc::Rc;

use crate::driver::{Confirmation, DriverError, Outgoing, Producer};
use crate::load::keys::KeyChooser;
use crate::load::message::{Envelope, EnvelopeError, Template, open};
use crate::load::pacer::Pacer;
use crate::load::schedule::Schedule;
use crate::measure::ledger::SequenceSet;
use crate::measure::recorder::{LatencyKind, Recorder};
use crate::units::{Nanos, SECOND, now};

use super::shared::{Shared, WorkloadCounters};
use super::stamps::{OpenStamps, Stamp};

/// No wait in the loop is longer, so that a stop is noticed.
const SLICE: Nanos = 50_000_000;
/// A full window is looked at again after so long.
const WINDOW_POLL: Nanos = 20_000;
/// The shared counters are a batch behind at most.
const BATCH: u64 = 256;

/// When the next message is due.
#[derive(Debug)]
pub enum Pace {
    /// By the schedule.
    Open(Schedule),
    /// At once, or as soon as fewer than so many deliveries are still to come.
    Unthrottled {
        /// Deliveries; 0 is without limit.
        window: u64,
        /// Deliveries of one message.
        copies: u64,
    },
    /// When fewer than `outstanding` are unanswered, after a pause.
    Closed {
        /// Messages in flight.
        outstanding: u64,
        /// The pause.
        think: Nanos,
        /// A message is given up as lost, and is in flight no more, when one that was sent so much
        /// later is answered, or when nothing is answered for so long. A broker that is slow gives
        /// up nothing.
        patience: Nanos,
    },
}

/// Gaps between sends that the arrival process is judged by.
pub const GAPS: usize = 1000;

/// What one producer did in the measured phase.
#[derive(Debug, Default)]
pub struct Sent {
    /// Messages due.
    pub scheduled: u64,
    /// Messages handed over.
    pub sent: u64,
    /// Of these, handed over after the measured phase had ended.
    pub sent_late: u64,
    /// Messages refused by the client, or by the broker afterwards.
    pub refused: u64,
    /// Sequence numbers of the measured phase: from, to (exclusive).
    pub range: (u64, u64),
    /// Sequence number of the first message that was due in the measured phase: the n-th that was
    /// due has n more.
    pub base: u64,
    /// Bytes of the messages, which are sent in turn.
    pub sizes: Vec<u32>,
    /// Sum of intended - origin.
    pub intended_sum: i128,
    /// Whether the broker acknowledges messages.
    pub acknowledged: bool,
    /// Acknowledgements of measured messages, and which numbers they were.
    pub acked: u64,
    pub acks: SequenceSet,
    /// Requests to which nobody was there to answer.
    pub unanswered: u64,
    /// Answers to measured messages, each once.
    pub answered: u64,
    /// Which numbers were answered.
    pub answers: SequenceSet,
    /// Answers that arrived within the measured phase, each once, and their bytes.
    pub answered_in_time: (u64, u64),
    /// The same with duplicates.
    pub received_in_time: (u64, u64),
    /// Sum of arrival - origin of answers (of acknowledgements, where nothing is answered).
    pub confirmed_sum: i128,
    /// Answers and acknowledgements that came twice.
    pub duplicated: u64,
    /// Answers of another run and answers whose checksum did not hold.
    pub foreign: u64,
    pub corrupted: u64,
    /// When the first messages of the measured phase were handed over: as many as there is room
    /// for.
    pub first: Vec<Nanos>,
    /// Messages due, and messages handed over, in each block of the measured phase
    /// ([`super::shared::parts`] of an interval): by wall time, so that those of the warm-up that
    /// were late are here, and those sent afterwards are not.
    pub scheduled_by_interval: Vec<u64>,
    /// See above.
    pub sent_by_interval: Vec<u64>,
    /// Confirmations, each once, by the block in which they arrived.
    pub confirmed_by_interval: Vec<u64>,
}

/// One producer with all it needs.
pub struct Publisher<'a, P> {
    /// The driver's side.
    pub producer: P,
    /// Its number in the workload.
    pub index: u32,
    /// Index of its workload.
    pub workload: usize,
    /// Which key a message has.
    pub keys: Option<KeyChooser>,
    /// Whether it is answered, and not only acknowledged.
    pub reply: bool,
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
    pub recorder: Rc<RefCell<Recorder>>,
    /// Start of the measured phase, and length of an interval.
    pub origin: Nanos,
    pub interval: Nanos,
    /// What it has received so far.
    pub send_state: SendState,
    /// No wait lasts beyond it; see [`Publisher::slice`].
    pub look: Nanos,
}

/// What one producer has sent, and what is open.
#[derive(Debug, Default)]
pub struct SendState {
    /// Of the measured phase.
    pub sent: Sent,
    sequence: u64,
    /// Sent and arrived, not yet added to the shared counters.
    unshared: (u64, u64),
    stamps: OpenStamps,
    /// When the latest confirmed or refused message was handed over; kept in a closed loop.
    latest: Nanos,
}

/// What a confirmation is measured against.
#[derive(Clone, Copy)]
struct ConfirmContext {
    run: u32,
    reply: bool,
    open_loop: bool,
    origin: Nanos,
    interval: Nanos,
    end: Nanos,
}

impl<P: Producer> Publisher<'_, P> {
    /// Drives the load that begins at `start` until the end of the measured phase, then waits for
    /// what is outstanding.
    pub async fn run(&mut self, start: Nanos) -> Result<(), DriverError> {
        self.send_state.sent.range = (u64::MAX, 0);
        self.send_state.sent.acknowledged = self.producer.confirms() && !self.reply;
        self.send_state.sent.sizes = self.templates.iter().map(|t| t.len() as u32).collect();
        let mut unthrottled = 0u32;
        self.wait(start).await?;
        loop {
            let due = match &mut self.pace {
                Pace::Open(schedule) => match schedule.next().map(|offset| start + offset) {
                    Some(due) if due < self.shared.end() => Some(due),
                    _ => break,
                },
                Pace::Unthrottled { window, copies } => {
                    let (window, copies) = (*window, *copies);
                    unthrottled += 1;
                    if unthrottled.is_multiple_of(64) {
                        tokio::task::yield_now().await;
                        self.poll_confirmations().await?;
                        while window > 0 && self.shared.on_the_way(self.workload, copies) >= window && !self.over() {
                            self.producer.flush().await?;
                            self.wait_or_confirmation(now() + WINDOW_POLL).await?;
                        }
                    }
                    None
                }
                Pace::Closed { outstanding, think, patience } => {
                    let (outstanding, think, patience) = (*outstanding, *think, *patience);
                    self.wait_for_answers(outstanding, patience).await?;
                    if think > 0 {
                        self.wait(now() + think).await?;
                    }
                    None
                }
            };
            let mut at = now();
            if let Some(due) = due {
                self.send_state.due(due, self.origin, self.interval);
                if at < due {
                    self.producer.flush().await?;
                    self.wait(due).await?;
                    at = now();
                } else if self.send_state.sequence.is_multiple_of(64) {
                    // Late: the client's own tasks run on this thread and must get their turn.
                    tokio::task::yield_now().await;
                    self.poll_confirmations().await?;
                    at = now();
                }
            } else if at >= self.shared.end() {
                break;
            } else {
                self.send_state.due(at, self.origin, self.interval);
            }
            while self.send_state.stamps.full() && !self.over() {
                if self.reply || matches!(self.pace, Pace::Closed { .. }) {
                    self.send_state.stamps.forget();
                    break;
                }
                // The stamps of what is not acknowledged must be kept: wait, and let it show as
                // lag.
                let slice = self.slice();
                self.wait_or_confirmation(slice).await?;
                at = now();
            }
            if self.shared.stopped() {
                break;
            }
            self.send(due.unwrap_or(at), at).await?;
        }
        self.producer.flush().await?;
        while self.send_state.outstanding() > 0 && !self.shared.stopped() {
            let slice = self.slice();
            self.wait_or_confirmation(slice).await?;
        }
        self.send_state.share(&self.shared.counters[self.workload]);
        Ok(())
    }

    /// Counts what the schedule still holds when the loop was cut off while the client took nothing
    /// more.
    pub fn count_unsent(&mut self, start: Nanos) {
        if let Pace::Open(schedule) = &mut self.pace {
            for due in schedule.map(|offset| start + offset).take_while(|due| *due < self.shared.end()) {
                self.send_state.due(due, self.origin, self.interval);
            }
        }
    }

    /// Waits until fewer than `outstanding` are in flight.
    async fn wait_for_answers(&mut self, outstanding: u64, patience: Nanos) -> Result<(), DriverError> {
        let (mut seen, mut since) = (self.send_state.stamps.settled(), now());
        while self.send_state.outstanding() >= outstanding && !self.over() {
            let slice = self.slice();
            self.wait_or_confirmation(slice).await?;
            let settled = self.send_state.stamps.settled();
            if settled != seen {
                (seen, since) = (settled, now());
                self.send_state.stamps.give_up(self.send_state.latest.saturating_sub(patience));
            } else if now() - since > patience {
                self.send_state.stamps.give_up(Nanos::MAX);
            }
        }
        Ok(())
    }

    fn over(&self) -> bool {
        self.shared.stopped() || now() >= self.shared.end()
    }

    #[inline]
    async fn send(&mut self, intended: Nanos, at: Nanos) -> Result<(), DriverError> {
        let sequence = self.send_state.sequence;
        let key = self.keys.as_ref().map(|keys| keys.of(self.index, sequence));
        let template = (sequence % self.templates.len() as u64) as usize;
        let channel = (sequence % u64::from(self.channels)) as u32;
        let envelope = Envelope { run: self.run, producer: self.index, sequence, intended, sent: at };
        let message = self.templates[template].stamp(&envelope);
        if self.producer.confirms() {
            self.send_state.stamp(sequence, intended, at);
        }
        self.send_state.sequence += 1;
        match self.producer.send(Outgoing { channel, key, payload: message, token: sequence }).await {
            Ok(()) => {}
            Err(DriverError::Refused { .. }) => {
                self.send_state.sent.refused += u64::from(intended >= self.origin);
                self.send_state.stamps.take(sequence);
                return Ok(());
            }
            Err(other) => return Err(other),
        }
        self.send_state.unshared.0 += 1;
        if self.send_state.unshared.0 >= BATCH {
            self.send_state.share(&self.shared.counters[self.workload]);
        }
        let in_time = at < self.shared.end();
        if in_time && at >= self.origin {
            bump(&mut self.send_state.sent.sent_by_interval, at, self.origin, self.interval);
        }
        if intended >= self.origin {
            self.send_state.handed_over(sequence, intended, at, self.origin);
            self.send_state.sent.sent_late += u64::from(!in_time);
            if matches!(self.pace, Pace::Open(_)) {
                self.recorder.borrow_mut().record(LatencyKind::Lag, intended, intended, at);
            }
        }
        Ok(())
    }

    async fn wait(&mut self, until: Nanos) -> Result<(), DriverError> {
        loop {
            let slice = until.min(self.slice());
            self.wait_or_confirmation(slice).await?;
            // Confirmations may come without a pause: they do not hold up what is due.
            if now() >= until || self.shared.stopped() {
                return Ok(());
            }
        }
    }

    /// Until when a wait may last, so that a stop is noticed. The same instant for many waits, so
    /// that the timer is set once for all of them.
    fn slice(&mut self) -> Nanos {
        let at = now();
        if at >= self.look {
            self.look = at + SLICE;
        }
        self.look
    }

    /// Waits until `slice` or for confirmations, whichever comes first.
    async fn wait_or_confirmation(&mut self, slice: Nanos) -> Result<(), DriverError> {
        self.send_state.share(&self.shared.counters[self.workload]);
        let timer = |e: std::io::Error| DriverError::Lost { url: "timer".into(), words: e.to_string() };
        if !self.producer.confirms() {
            return self.pacer.until(slice).await.map_err(timer);
        }
        let frame = ConfirmContext {
            run: self.run,
            reply: self.reply,
            open_loop: matches!(self.pace, Pace::Open(_)),
            origin: self.origin,
            interval: self.interval,
            end: self.shared.end(),
        };
        let (send_state, recorder) = (&mut self.send_state, &self.recorder);
        let mut sink = |c: Confirmation<'_>| send_state.confirm(c, &mut recorder.borrow_mut(), frame);
        // Confirmations first: their stamps are from when they are taken. The waiting code reads
        // the clock after each turn.
        tokio::select! {
            biased;
            done = self.producer.confirmed(&mut sink) => done,
            done = self.pacer.until(slice) => done.map_err(timer),
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

impl SendState {
    fn due(&mut self, due: Nanos, origin: Nanos, interval: Nanos) {
        if due >= origin {
            if self.sent.scheduled == 0 {
                self.sent.base = self.sequence;
            }
            self.sent.scheduled += 1;
            bump(&mut self.sent.scheduled_by_interval, due, origin, interval);
        }
    }

    fn handed_over(&mut self, sequence: u64, intended: Nanos, at: Nanos, origin: Nanos) {
        self.sent.sent += 1;
        self.sent.range = (self.sent.range.0.min(sequence), sequence + 1);
        self.sent.intended_sum += i128::from(intended - origin);
        if self.sent.first.len() < self.sent.first.capacity() {
            self.sent.first.push(at);
        }
    }

    /// Keeps the stamps of a message until it is confirmed or refused.
    #[inline]
    fn stamp(&mut self, sequence: u64, intended: Nanos, at: Nanos) {
        self.stamps.put(Stamp { sequence, intended, sent: at });
    }

    /// Messages that are in flight, as far as is known.
    #[inline]
    fn outstanding(&self) -> u64 {
        self.stamps.outstanding()
    }

    fn share(&mut self, counters: &WorkloadCounters) {
        WorkloadCounters::add(&counters.sent, &mut self.unshared.0);
        WorkloadCounters::add(&counters.arrived, &mut self.unshared.1);
    }

    #[inline]
    fn confirm(&mut self, c: Confirmation<'_>, recorder: &mut Recorder, f: ConfirmContext) {
        match c {
            Confirmation::Failed { token } => match self.settle(token, f) {
                Some(stamp) => self.sent.refused += u64::from(stamp.intended >= f.origin),
                None if !self.stamps.sent(token) => self.sent.foreign += 1,
                None => self.sent.duplicated += self.sent.acks.count(token, token + 1),
            },
            Confirmation::Unanswered => {
                self.sent.unanswered += 1;
                // It does not say which. If it was another one, the answer to this one finds
                // nothing to settle.
                if let Some(oldest) = self.stamps.oldest() {
                    self.settle(oldest.sequence, f);
                }
            }
            Confirmation::Acked { token, at } => self.acked(token, at, recorder, f),
            Confirmation::Answered { message, at } => self.answered(message, at, recorder, f),
        }
    }

    /// Closes a message that was confirmed or refused.
    #[inline]
    fn settle(&mut self, token: u64, f: ConfirmContext) -> Option<Stamp> {
        let stamp = self.stamps.take(token)?;
        if !f.open_loop {
            self.latest = self.latest.max(stamp.sent);
        }
        Some(stamp)
    }

    fn acked(&mut self, token: u64, at: Nanos, recorder: &mut Recorder, f: ConfirmContext) {
        // A request is settled by its answer.
        let stamp = if f.reply { self.stamps.get(token) } else { self.settle(token, f) };
        if !self.stamps.sent(token) {
            self.sent.foreign += 1;
            return;
        }
        if !self.sent.acks.insert(token) {
            self.sent.duplicated += 1;
            return;
        }
        if at >= f.origin && at < f.end {
            bump(&mut self.sent.confirmed_by_interval, at, f.origin, f.interval);
        }
        // Without stamps it was refused before, or forgotten: it is lost already.
        let Some(Stamp { intended, sent, .. }) = stamp.filter(|s| s.intended >= f.origin) else { return };
        self.sent.acked += 1;
        if !f.reply {
            self.sent.confirmed_sum += i128::from(at) - i128::from(f.origin);
        }
        if f.open_loop {
            recorder.record(LatencyKind::Ack, intended, intended, at);
        }
        recorder.record(LatencyKind::AckService, intended, sent, at);
    }

    fn answered(&mut self, message: &[u8], at: Nanos, recorder: &mut Recorder, f: ConfirmContext) {
        let e = match open(message, f.run) {
            Ok(e) => e,
            Err(EnvelopeError::Foreign) => {
                self.sent.foreign += 1;
                return;
            }
            Err(EnvelopeError::Corrupted) => {
                self.sent.corrupted += 1;
                return;
            }
        };
        let in_time = at >= f.origin && at < f.end;
        if in_time {
            self.sent.received_in_time.0 += 1;
            self.sent.received_in_time.1 += message.len() as u64;
        }
        if !self.sent.answers.insert(e.sequence) {
            self.sent.duplicated += 1;
            return;
        }
        self.settle(e.sequence, f);
        self.unshared.1 += 1;
        if in_time {
            self.sent.answered_in_time.0 += 1;
            self.sent.answered_in_time.1 += message.len() as u64;
            bump(&mut self.sent.confirmed_by_interval, at, f.origin, f.interval);
        }
        if e.intended < f.origin {
            return;
        }
        self.sent.answered += 1;
        self.sent.confirmed_sum += i128::from(at) - i128::from(f.origin);
        if f.open_loop {
            recorder.record(LatencyKind::Response, e.intended, e.intended, at);
        }
        recorder.record(LatencyKind::Service, e.intended, e.sent, at);
    }
}

/// Room for the intervals of a trial, so that the loops do not grow anything.
pub fn send_state(measure: Nanos, interval: Nanos) -> SendState {
    let room = (measure / interval.max(1) + 2).min(SECOND) as usize;
    let mut send_state = SendState::default();
    send_state.sent.first.reserve_exact(GAPS + 1);
    send_state.sent.scheduled_by_interval.reserve(room);
    send_state.sent.sent_by_interval.reserve(room);
    send_state.sent.confirmed_by_interval.reserve(room);
    send_state
}

#[cfg(test)]
#[path = "produce_tests.rs"]
mod tests;
