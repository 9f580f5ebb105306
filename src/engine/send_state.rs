//! What one producer has sent, and what came of it: the accounts of the publish loop.

use serde::{Deserialize, Serialize};

use crate::driver::Confirmation;
use crate::load::message::{EnvelopeError, open};
use crate::measure::ledger::SequenceSet;
use crate::measure::outage::Mishap;
use crate::measure::recorder::{LatencyKind, Recorder};
use crate::units::{Nanos, SECOND, now};

use super::lanes::ProducerLanes;
use super::shared::WorkloadCounters;
use super::stamps::{OpenStamps, Stamp};

/// Gaps between sends that the arrival process is judged by.
pub const GAPS: usize = 1000;

/// What one producer did in the measured phase.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Sent {
    /// How long after load was to start its loop began.
    pub late_start: Nanos,
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
    /// Numbers of the measured phase with the instants at which they were handed over, [`TIMES`]
    /// apart or more: as many as there is room for.
    pub times: Vec<(u64, Nanos)>,
    /// Messages due, and messages handed over, in each block of the measured phase
    /// ([`super::shared::parts`] of an interval): by wall time, so that those of the warm-up that
    /// were late are here, and those sent afterwards are not.
    pub scheduled_by_interval: Vec<u64>,
    /// See above.
    pub sent_by_interval: Vec<u64>,
    /// Confirmations, each once, by the block in which they arrived.
    pub confirmed_by_interval: Vec<u64>,
}

/// What one producer has sent, and what is open.
#[derive(Debug, Default)]
pub struct SendState {
    /// Of the measured phase.
    pub sent: Sent,
    pub(super) sequence: u64,
    /// Sent and arrived, not yet added to the shared counters.
    pub(super) unshared: (u64, u64),
    /// The same of acknowledged.
    unshared_acks: u64,
    pub(super) stamps: OpenStamps,
    /// When the latest confirmed or refused message was handed over; kept in a closed loop.
    pub(super) latest: Nanos,
    /// Where outages are noted: the partition or subject of each message.
    pub(super) lanes: Option<ProducerLanes>,
}

/// Messages that share an instant, from the number `first` to the latest one.
#[derive(Debug, Clone, Copy)]
pub(super) struct Burst {
    pub(super) first: u64,
    /// How many were handed over, and the first and the end of their numbers.
    pub(super) sent: u64,
    pub(super) range: (u64, u64),
}

/// What a confirmation is measured against.
#[derive(Clone, Copy)]
pub(super) struct ConfirmContext {
    pub(super) run: u32,
    pub(super) reply: bool,
    pub(super) open_loop: bool,
    pub(super) origin: Nanos,
    pub(super) interval: Nanos,
    pub(super) end: Nanos,
    /// What is added to instants in messages to have those of this clock.
    pub(super) shift: i64,
}

/// Between two of the times at which messages were handed over that are kept.
const TIMES: Nanos = 10_000_000;

fn bump(counts: &mut Vec<u64>, at: Nanos, origin: Nanos, interval: Nanos) {
    add(counts, 1, at, origin, interval);
}

fn add(counts: &mut Vec<u64>, n: u64, at: Nanos, origin: Nanos, interval: Nanos) {
    let index = (at.saturating_sub(origin) / interval) as usize;
    if index >= counts.len() {
        counts.resize(index + 1, 0);
    }
    counts[index] += n;
}

impl SendState {
    pub(super) fn due(&mut self, due: Nanos, origin: Nanos, interval: Nanos) {
        if due >= origin {
            if self.sent.scheduled == 0 {
                self.sent.base = self.sequence;
            }
            self.sent.scheduled += 1;
            bump(&mut self.sent.scheduled_by_interval, due, origin, interval);
        }
    }

    /// The same as [`SendState::due`] and [`SendState::handed_over`] for messages that share an
    /// instant.
    pub(super) fn burst(&mut self, burst: Burst, at: Nanos, origin: Nanos, interval: Nanos) {
        if at < origin {
            return;
        }
        let (due, sent) = (self.sequence - burst.first, burst.sent);
        let all = &mut self.sent;
        if all.scheduled == 0 {
            all.base = burst.first;
        }
        all.scheduled += due;
        add(&mut all.scheduled_by_interval, due, at, origin, interval);
        if sent == 0 {
            return;
        }
        add(&mut all.sent_by_interval, sent, at, origin, interval);
        all.sent += sent;
        all.range = (all.range.0.min(burst.range.0), burst.range.1);
        all.intended_sum += i128::from(sent) * i128::from(at - origin);
        let room = all.first.capacity() - all.first.len();
        all.first.extend(std::iter::repeat_n(at, room.min(sent as usize)));
        self.note_time(burst.range.1 - 1, at);
    }

    /// A message that was due at `intended` was handed over at `at`.
    #[inline]
    pub(super) fn handed_over(
        &mut self,
        sequence: u64,
        (intended, at): (Nanos, Nanos),
        origin: Nanos,
        interval: Nanos,
        end: Nanos,
    ) {
        let (all, in_time) = (&mut self.sent, at < end);
        if in_time && at >= origin {
            bump(&mut all.sent_by_interval, at, origin, interval);
        }
        if intended < origin {
            return;
        }
        all.sent += 1;
        all.sent_late += u64::from(!in_time);
        all.range = (all.range.0.min(sequence), sequence + 1);
        all.intended_sum += i128::from(intended - origin);
        if all.first.len() < all.first.capacity() {
            all.first.push(at);
        }
        self.note_time(sequence, at);
    }

    /// Keeps when a message was handed over, where there is room for that.
    #[inline]
    fn note_time(&mut self, sequence: u64, at: Nanos) {
        let times = &mut self.sent.times;
        if times.len() < times.capacity() && times.last().is_none_or(|(_, last)| at - last >= TIMES) {
            times.push((sequence, at));
        }
    }

    /// Keeps the stamps of a message until it is confirmed or refused.
    #[inline]
    pub(super) fn stamp(&mut self, sequence: u64, intended: Nanos, at: Nanos) {
        self.stamps.put(Stamp { sequence, intended, sent: at });
    }

    /// Messages that are in flight, as far as is known.
    #[inline]
    pub(super) fn outstanding(&self) -> u64 {
        self.stamps.outstanding()
    }

    pub(super) fn share(&mut self, counters: &WorkloadCounters) {
        WorkloadCounters::add(&counters.sent, &mut self.unshared.0);
        WorkloadCounters::add(&counters.arrived, &mut self.unshared.1);
        WorkloadCounters::add(&counters.acked, &mut self.unshared_acks);
    }

    #[inline]
    pub(super) fn confirm(&mut self, c: Confirmation<'_>, recorder: &mut Recorder, f: ConfirmContext) {
        match c {
            Confirmation::Failed { token } => match self.settle(token, f) {
                Some(stamp) => self.refused(stamp.intended, recorder, f),
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
            Confirmation::Served { token, bytes, at } => match self.stamps.get(token) {
                Some(stamp) => self.answer(stamp, bytes, at, recorder, f),
                // Of another trial, answered before, or forgotten: then it is lost already.
                None if !self.stamps.sent(token) => self.sent.foreign += 1,
                None => self.sent.duplicated += self.sent.answers.count(token, token + 1),
            },
        }
    }

    /// Counts a message that the broker refused.
    #[cold]
    fn refused(&mut self, intended: Nanos, recorder: &mut Recorder, f: ConfirmContext) {
        self.sent.refused += u64::from(intended >= f.origin);
        if let Some(log) = recorder.outages() {
            log.note(Mishap::Refused, now());
        }
    }

    /// A message is due by the schedule: noted where outages are.
    pub(super) fn note_due(&mut self, due: Nanos, recorder: &mut Recorder) {
        if let (Some(lanes), Some(log)) = (&mut self.lanes, recorder.outages()) {
            log.due(lanes.next_due(), due);
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
        self.unshared_acks += 1;
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
        if let (Some(lanes), Some(log)) = (&self.lanes, recorder.outages()) {
            log.acked(lanes.of(token), intended, at);
        }
        recorder.record(LatencyKind::AckService, intended, sent, at);
    }

    fn answered(&mut self, message: &[u8], at: Nanos, recorder: &mut Recorder, f: ConfirmContext) {
        let e = match open(message, f.run) {
            Ok(e) => e.shifted(f.shift),
            Err(EnvelopeError::Foreign) => {
                self.sent.foreign += 1;
                return;
            }
            Err(EnvelopeError::Corrupted) => {
                self.sent.corrupted += 1;
                return;
            }
        };
        let stamp = Stamp { sequence: e.sequence, intended: e.intended, sent: e.sent };
        self.answer(stamp, message.len() as u64, at, recorder, f);
    }

    /// Counts an answer to the message with this stamp.
    fn answer(&mut self, e: Stamp, bytes: u64, at: Nanos, recorder: &mut Recorder, f: ConfirmContext) {
        let in_time = at >= f.origin && at < f.end;
        if in_time {
            self.sent.received_in_time.0 += 1;
            self.sent.received_in_time.1 += bytes;
        }
        if !self.sent.answers.insert(e.sequence) {
            self.sent.duplicated += 1;
            return;
        }
        self.settle(e.sequence, f);
        self.unshared.1 += 1;
        if in_time {
            self.sent.answered_in_time.0 += 1;
            self.sent.answered_in_time.1 += bytes;
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
        if let (Some(lanes), Some(log)) = (&self.lanes, recorder.outages()) {
            log.delivered(0, lanes.of(e.sequence), e.intended, at);
        }
        recorder.record(LatencyKind::Service, e.intended, e.sent, at);
    }
}

/// Room for the intervals of a trial, so that the loops do not grow anything; `sizes` are those of
/// the messages. With `timed` also for the times at which messages were handed over.
pub fn send_state(measure: Nanos, interval: Nanos, sizes: Vec<u32>, timed: bool) -> SendState {
    let room = (measure / interval.max(1) + 2).min(SECOND) as usize;
    let mut send_state = SendState::default();
    send_state.sent.sizes = sizes;
    send_state.sent.first.reserve_exact(GAPS + 1);
    if timed {
        send_state.sent.times.reserve_exact((2 * measure / TIMES + 2).min(SECOND) as usize);
    }
    send_state.sent.scheduled_by_interval.reserve(room);
    send_state.sent.sent_by_interval.reserve(room);
    send_state.sent.confirmed_by_interval.reserve(room);
    send_state
}
