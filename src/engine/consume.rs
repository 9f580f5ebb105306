//! The consume loop: takes what one consumer receives, verifies it, records it and keeps the books.

use std::sync::atomic::Ordering;
use std::time::Duration;

use crate::driver::{Consumer, Disposition, DriverError, Incoming, Sink};
use crate::load::message::{Flaw, open};
use crate::measure::ledger::{Order, Seen};
use crate::measure::recorder::{Kind, Recorder};
use crate::units::{Nanos, now};

use super::shared::Shared;

/// A stop is noticed at least so often.
const TICK: Duration = Duration::from_millis(50);

/// What one consumer saw.
#[derive(Debug, Default)]
pub struct Received {
    /// For each producer, the numbers it saw.
    pub seen: Vec<Seen>,
    /// Deliveries of a number it had before, in the measured phase.
    pub duplicated: u64,
    /// Deliveries after a later one of the same producer and channel, in the measured phase.
    pub reordered: u64,
    /// Messages of another run.
    pub foreign: u64,
    /// Messages whose checksum did not hold.
    pub corrupted: u64,
    /// Messages that arrived within the measured phase, and their bytes.
    pub in_time: (u64, u64),
    /// Sum of received - origin over first deliveries of the measured phase.
    pub received_sum: i128,
    /// Messages received in each interval.
    pub by_interval: Vec<u64>,
}

/// The sink of one consumer.
pub struct Ear<'a> {
    /// Names the trial.
    pub run: u32,
    /// Channels of the workload.
    pub channels: u64,
    /// Whether messages are answered, and accounted for by the requester.
    pub answer: bool,
    /// Whether the load has intended times.
    pub open_loop: bool,
    /// Shared with the other threads.
    pub shared: &'a Shared,
    /// Fills histograms.
    pub recorder: Recorder,
    /// Start of the measured phase.
    pub origin: Nanos,
    /// Length of an interval.
    pub interval: Nanos,
    /// For each producer and channel.
    pub order: Vec<Order>,
    /// The books.
    pub received: Received,
}

impl Sink for Ear<'_> {
    #[inline]
    fn take(&mut self, message: Incoming<'_>) -> Disposition {
        if self.answer {
            return Disposition::Answer;
        }
        let at = message.at.unwrap_or_else(now);
        let e = match open(message.payload, self.run) {
            Ok(e) if (e.producer as usize) < self.received.seen.len() => e,
            Err(Flaw::Corrupted) => {
                self.received.corrupted += 1;
                return Disposition::Accept;
            }
            _ => {
                self.received.foreign += 1;
                return Disposition::Accept;
            }
        };
        let measured = e.intended >= self.origin;
        self.shared.received.fetch_add(1, Ordering::Relaxed);
        if at >= self.origin && at < self.shared.end() {
            self.received.in_time.0 += 1;
            self.received.in_time.1 += message.payload.len() as u64;
            let index = ((at - self.origin) / self.interval) as usize;
            if index >= self.received.by_interval.len() {
                self.received.by_interval.resize(index + 1, 0);
            }
            self.received.by_interval[index] += 1;
        }
        if !self.received.seen[e.producer as usize].insert(e.sequence) {
            self.received.duplicated += u64::from(measured);
            return Disposition::Accept;
        }
        let lane = e.producer as usize * self.channels as usize + (e.sequence % self.channels) as usize;
        let late = self.order[lane].late(e.sequence);
        if measured {
            self.received.reordered += u64::from(late);
            self.received.received_sum += i128::from(at) - i128::from(self.origin);
            self.shared.delivered.fetch_add(1, Ordering::Relaxed);
            if self.open_loop {
                self.recorder.record(Kind::Response, e.intended, e.intended, at);
            }
            self.recorder.record(Kind::Service, e.intended, e.sent, at);
        }
        Disposition::Accept
    }

    fn dead_letter(&mut self, _: Incoming<'_>) {}
}

/// Receives until the trial stops.
pub async fn consume<C: Consumer>(consumer: &mut C, ear: &mut Ear<'_>) -> Result<(), DriverError> {
    let mut tick = tokio::time::interval(TICK);
    while !ear.shared.stopped() {
        tokio::select! {
            biased;
            done = consumer.receive(ear, usize::MAX) => done?,
            _ = tick.tick() => {}
        }
    }
    Ok(())
}
