//! The consume loop: takes what one consumer receives, verifies it, records it and counts it.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::rc::Rc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::driver::{Consumer, Disposition, DriverError, Incoming, MessageSink};
use crate::load::keys::KeyChooser;
use crate::load::message::{Envelope, EnvelopeError, open};
use crate::measure::event_windows::EventWindows;
use crate::measure::first_arrivals::{ArrivalPhase, FirstArrivals};
use crate::measure::ledger::{LaneOrder, SequenceSet};
use crate::measure::outage::Mishap;
use crate::measure::recorder::{LatencyKind, Recorder};
use crate::plan::Role;
use crate::units::{Nanos, now};

use super::intrude::INTRUDERS;
use super::lanes::Lanes;
use super::shared::{Shared, WorkloadCounters};
use super::superseded::GapLog;

/// Longer than any trial: a sleep of it never ends.
const FAR: Nanos = 1_000_000_000_000_000;
/// A reader of a backlog has caught up with the first message that it gets within so long of its
/// publication.
const CAUGHT_UP: Nanos = 100_000_000;

/// Counts of what one consumer received.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Received {
    /// For each producer, the numbers it saw; the last of them is the producer of the backlog,
    /// where there is one.
    pub seen: Vec<SequenceSet>,
    /// For each producer, the numbers that became dead letters.
    pub dead: Vec<SequenceSet>,
    /// For each producer what it missed, where a store may have replaced it, and which key a
    /// message has; otherwise empty.
    pub gaps: Vec<GapLog>,
    #[serde(skip)]
    pub keys: Option<KeyChooser>,
    /// Deliveries of a number it had before, in the measured phase.
    pub duplicated: u64,
    /// Deliveries after a later one of the same producer and channel, or key, in the measured
    /// phase.
    pub reordered: u64,
    /// Deliveries that it rejected, in the measured phase, and messages that it took after a
    /// rejection.
    pub rejected: u64,
    pub redelivered: u64,
    /// Messages of another run.
    pub foreign: u64,
    /// Messages of intruders, by intruder and number.
    pub intruded: BTreeSet<(u32, u64)>,
    /// Messages whose checksum did not hold.
    pub corrupted: u64,
    /// Messages that arrived for the first time within the measured phase, and their bytes.
    pub in_time: (u64, u64),
    /// Everything that arrived within the measured phase, duplicates included, and its bytes.
    pub arrived_in_time: (u64, u64),
    /// Sum of received - origin over first deliveries of the measured phase.
    pub received_sum: i128,
    /// First deliveries in each block of the measured phase.
    pub by_block: Vec<u64>,
    /// For each producer when its messages came first, where other members of the group may get
    /// them, too; otherwise empty.
    pub first_arrivals: Vec<FirstArrivals>,
    /// How the backlog was read.
    pub replay: ReplayTimes,
    /// Its number within its group.
    pub member: u32,
    /// What it noted of the events of consumers.
    pub windows: EventWindows,
    /// How long its own events took: when they were due since the measured phase began, and the
    /// time.
    pub took: Vec<(Nanos, Nanos)>,
}

/// How a backlog was read.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReplayTimes {
    /// When the reader asked for the first message.
    pub begun: Nanos,
    /// When it got the first.
    pub first: Nanos,
    /// When it got its latest message of the backlog.
    pub last: Nanos,
    /// When it had caught up with the publishers, and what it had read by then.
    pub caught_up: Option<(Nanos, u64)>,
    /// Messages read so far.
    pub read: u64,
}

impl ReplayTimes {
    /// Puts its instants into another clock.
    pub fn shift(&mut self, here: impl Fn(Nanos) -> Nanos) {
        let known = [&mut self.begun, &mut self.first, &mut self.last].into_iter().filter(|at| **at > 0);
        known.chain(self.caught_up.as_mut().map(|(at, _)| at)).for_each(|at| *at = here(*at));
    }
}

/// What is rejected: every n-th message; 0 is none.
#[derive(Debug, Clone, Copy, Default)]
pub struct RejectRule {
    /// At the first delivery.
    pub once: u64,
    /// At each delivery.
    pub always: u64,
}

impl RejectRule {
    fn hits(every: u64, sequence: u64) -> bool {
        every > 0 && sequence % every == every - 1
    }
}

/// The sink of one consumer.
pub struct ConsumerRecorder<'a> {
    /// Names the trial.
    pub run: u32,
    /// Index of its workload.
    pub workload: usize,
    /// What it is there for.
    pub role: Role,
    /// What a slow consumer does with each message, as time.
    pub think: Duration,
    /// Its group.
    pub group: u32,
    /// Which channel or key a message has.
    pub lanes: Lanes,
    /// What is rejected.
    pub rule: RejectRule,
    /// Whether messages are answered, and accounted for by the requester.
    pub answer: bool,
    /// Whether intruders try to publish to the workload.
    pub watched: bool,
    /// Whether the load has intended times.
    pub open_loop: bool,
    /// Shared with the other threads.
    pub shared: &'a Shared,
    /// Fills histograms; shared with the other consumers of the thread.
    pub recorder: Rc<RefCell<Recorder>>,
    /// Start of the measured phase.
    pub origin: Nanos,
    /// What is added to instants in messages to have those of this clock.
    pub shift: i64,
    /// Which producers run in this process, where others run elsewhere; otherwise empty.
    pub near: Vec<bool>,
    /// Length of a block of counts.
    pub block: Nanos,
    /// For each producer and channel, or key.
    pub order: LaneOrder,
    /// What it has received so far.
    pub received: Received,
    /// Arrivals not yet added to the shared counter.
    pub arrived: u64,
    /// Whether the other members of the group know what it has.
    pub told: bool,
    /// How often it looks at the connection while nothing comes.
    pub look: Duration,
    /// The latest instant of arrival, and its block where it is within the measured phase.
    pub instant: (Nanos, Option<usize>),
}

impl MessageSink for ConsumerRecorder<'_> {
    #[inline]
    fn take(&mut self, message: Incoming<'_>) -> Disposition {
        if self.answer && !(self.watched && self.is_intrusion(message.payload)) {
            return Disposition::Answer;
        }
        // What a client reads ahead for a slow consumer waits for that: it arrives when it is
        // taken.
        let at = if self.role == Role::Slow { now() } else { message.at };
        let e = match open(message.payload, self.run) {
            Ok(e) if (e.producer as usize) < self.received.seen.len() => e.shifted(self.shift),
            Ok(e) if e.producer >= INTRUDERS => {
                self.received.intruded.insert((e.producer, e.sequence));
                return Disposition::Accept;
            }
            Err(EnvelopeError::Corrupted) => {
                self.received.corrupted += 1;
                return Disposition::Accept;
            }
            _ => {
                self.received.foreign += 1;
                return Disposition::Accept;
            }
        };
        let producer = e.producer as usize;
        let measured = e.intended >= self.origin;
        if RejectRule::hits(self.rule.always, e.sequence) {
            self.received.rejected += u64::from(measured);
            return Disposition::Reject;
        }
        if RejectRule::hits(self.rule.once, e.sequence) {
            if message.attempt <= 1 {
                self.received.rejected += u64::from(measured);
                return Disposition::Reject;
            }
            self.received.redelivered += u64::from(measured);
        }
        let block = self.block_of(at);
        let in_time = block.is_some();
        let bytes = message.payload.len() as u64;
        if in_time {
            self.received.arrived_in_time.0 += 1;
            self.received.arrived_in_time.1 += bytes;
        }
        if !self.received.seen[producer].insert(e.sequence) {
            self.received.duplicated += u64::from(measured);
            self.note(Mishap::Duplicated, at);
            return Disposition::Accept;
        }
        if let Some(gaps) = self.received.gaps.get_mut(producer) {
            gaps.note(e.sequence, e.sent, at);
        }
        self.arrived += 1;
        self.first(producer, e.sequence, at, block.map(|block| (block, bytes)));
        self.received.windows.note(at, e.intended, self.shared.end());
        if self.role == Role::CatchUp {
            self.catch_up(at, e.sent, producer + 1 == self.received.seen.len());
        }
        let lane = self.lanes.of(e.producer, e.sequence);
        // What is delivered again has no place in the order, and says nothing of that of others.
        let late = message.attempt <= 1 && self.order.late(e.producer.into(), lane, e.sequence);
        if measured {
            if late && !RejectRule::hits(self.rule.once, e.sequence) {
                self.received.reordered += 1;
                self.note(Mishap::Reordered, at);
            }
            self.record(&e, lane, at);
        }
        Disposition::Accept
    }

    fn dead_letter(&mut self, message: Incoming<'_>) {
        match open(message.payload, self.run) {
            Ok(e) if (e.producer as usize) < self.received.dead.len() => {
                if self.received.dead[e.producer as usize].insert(e.sequence) {
                    self.arrived += 1;
                } else {
                    self.received.duplicated += u64::from(e.shifted(self.shift).intended >= self.origin);
                }
            }
            Err(EnvelopeError::Corrupted) => self.received.corrupted += 1,
            _ => self.received.foreign += 1,
        }
    }
}

impl ConsumerRecorder<'_> {
    #[cold]
    fn is_intrusion(&self, payload: &[u8]) -> bool {
        open(payload, self.run).is_ok_and(|e| e.producer >= INTRUDERS)
    }

    /// Records the latencies of a message of the measured phase.
    #[inline]
    fn record(&mut self, e: &Envelope, lane: u64, at: Nanos) {
        let mut recorder = self.recorder.borrow_mut();
        match self.role {
            Role::Tail => {
                self.received.received_sum += i128::from(at) - i128::from(self.origin);
                if self.open_loop {
                    recorder.record(LatencyKind::Response, e.intended, e.intended, at);
                    if self.near.get(e.producer as usize) == Some(&true) {
                        recorder.record(LatencyKind::SameAgent, e.intended, e.intended, at);
                    }
                    if let Some(log) = recorder.outages() {
                        log.delivered(self.group, lane, e.intended, at);
                    }
                }
                recorder.record(LatencyKind::Service, e.intended, e.sent, at);
            }
            Role::Slow => recorder.record(LatencyKind::Slow, e.intended, e.intended, at),
            Role::CatchUp => {}
        }
    }

    /// Notes what went wrong with a message, where outages are noted.
    #[cold]
    fn note(&self, mishap: Mishap, at: Nanos) {
        if let Some(log) = self.recorder.borrow_mut().outages() {
            log.note(mishap, at);
        }
    }

    /// The block of an instant of the measured phase; messages of a batch share it.
    #[inline]
    fn block_of(&mut self, at: Nanos) -> Option<usize> {
        if self.instant.0 != at {
            let in_time = at >= self.origin && at < self.shared.end();
            self.instant = (at, in_time.then(|| ((at - self.origin) / self.block) as usize));
        }
        self.instant.1
    }

    /// Counts a first delivery to this consumer; with its block and bytes where it came within the
    /// measured phase.
    #[inline]
    fn first(&mut self, producer: usize, sequence: u64, at: Nanos, in_time: Option<(usize, u64)>) {
        let received = &mut self.received;
        let mut when = if at < self.origin { ArrivalPhase::Before } else { ArrivalPhase::After };
        if let Some((block, bytes)) = in_time {
            received.in_time.0 += 1;
            received.in_time.1 += bytes;
            if block >= received.by_block.len() {
                received.by_block.resize(block + 1, 0);
            }
            received.by_block[block] += 1;
            when = ArrivalPhase::Block(block as u32);
        }
        if let Some(first_arrivals) = received.first_arrivals.get_mut(producer) {
            first_arrivals.note(when, sequence);
        }
    }

    fn catch_up(&mut self, at: Nanos, sent: Nanos, of_backlog: bool) {
        let replay = &mut self.received.replay;
        replay.read += 1;
        if replay.first == 0 {
            replay.first = at;
        }
        if of_backlog {
            replay.last = at;
        } else if replay.caught_up.is_none() && at.saturating_sub(sent) < CAUGHT_UP {
            replay.caught_up = Some((at, replay.read));
        }
    }

    fn publish_count(&mut self) {
        self.told &= self.arrived == 0;
        WorkloadCounters::add(&self.shared.counters[self.workload].arrived, &mut self.arrived);
    }
}

impl ConsumerRecorder<'_> {
    /// Puts what it has together with what the other members of its group have, when that is asked
    /// for.
    pub fn tell(&mut self) {
        if !self.told && self.shared.asked() {
            let all = self.received.seen.iter().chain(&self.received.dead);
            self.shared.counters[self.workload].distinct.add(self.group, all);
            self.told = true;
        }
    }
}

/// Receives until the trial stops, or until this instant.
pub async fn consume<C: Consumer>(
    consumer: &mut C,
    consumer_recorder: &mut ConsumerRecorder<'_>,
    until: Nanos,
) -> Result<(), DriverError> {
    // Who has no end pays for none: neither a reading of the clock nor a timer in each turn.
    let ends = until != Nanos::MAX;
    let end = tokio::time::sleep(Duration::from_nanos(until.saturating_sub(now()).min(FAR)));
    tokio::pin!(end);
    let mut tick = tokio::time::interval(consumer_recorder.look);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let shared = consumer_recorder.shared;
    let mut stopping = std::pin::pin!(shared.stopping());
    stopping.as_mut().enable();
    let limit = if consumer_recorder.role == Role::Slow { 1 } else { usize::MAX };
    while !consumer_recorder.shared.stopped() && (!ends || now() < until) {
        tokio::select! {
            biased;
            () = &mut end, if ends => {}
            done = consumer.receive(consumer_recorder, limit) => done?,
            () = &mut stopping => {}
            _ = tick.tick() => consumer_recorder.tell(),
        }
        let taken = consumer_recorder.arrived > 0;
        consumer_recorder.publish_count();
        if consumer_recorder.role == Role::Slow && taken {
            tokio::time::sleep(consumer_recorder.think).await;
        }
    }
    Ok(())
}
