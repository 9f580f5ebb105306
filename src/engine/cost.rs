//! What the harness itself costs: the two hot loops without a client and without a network, for the
//! benchmark and for the proof that they allocate nothing for a message.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use crate::driver::{Confirmation, Consumer, DriverError, Incoming, MessageSink, Outgoing, Producer};
use crate::load::message::{Envelope, Template};
use crate::load::pacer::Pacer;
use crate::load::schedule::{ArrivalProcess, RatePiece, Schedule, ScheduleShare};
use crate::measure::ledger::{LaneOrder, SequenceSet};
use crate::measure::recorder::{Recorder, SampleBatch};
use crate::plan::Role;
use crate::units::{Nanos, SECOND, now};

use super::consume::{ConsumerRecorder, Received, RejectRule};
use super::lanes::Lanes;
use super::produce::{Pace, Publisher, send_state};
use super::shared::Shared;

/// Messages given to the sink at a time, as a client library would.
const BATCH: u64 = 64;

/// Delivers stamped messages from memory, 1 us of schedule apart.
struct MemoryConsumer {
    /// Whether the clock is read for each message, and not once for a batch.
    each: bool,
    template: Template,
    sequence: u64,
    origin: Nanos,
}

impl Consumer for MemoryConsumer {
    async fn receive(&mut self, sink: &mut impl MessageSink, _: usize) -> Result<(), DriverError> {
        let batch = now();
        for _ in 0..BATCH {
            let intended = self.origin + 1000 * self.sequence;
            let e = Envelope { run: 1, producer: 0, sequence: self.sequence, intended, sent: intended };
            let payload = self.template.stamp(&e);
            let at = if self.each { now() } else { batch };
            sink.take(Incoming { payload, at, attempt: 0 });
            self.sequence += 1;
        }
        Ok(())
    }
}

/// Takes everything at once and acknowledges it.
struct DiscardingProducer {
    acks: Vec<(u64, Nanos)>,
}

impl Producer for DiscardingProducer {
    fn confirms(&self) -> bool {
        true
    }
    async fn send(&mut self, out: Outgoing<'_>) -> Result<(), DriverError> {
        std::hint::black_box(out.payload);
        self.acks.push((out.token, now()));
        Ok(())
    }
    async fn flush(&mut self) -> Result<(), DriverError> {
        Ok(())
    }
    async fn confirmed(&mut self, sink: &mut impl FnMut(Confirmation<'_>)) -> Result<(), DriverError> {
        if self.acks.is_empty() {
            return std::future::pending().await;
        }
        self.acks.drain(..).for_each(|(token, at)| sink(Confirmation::Acked { token, at }));
        Ok(())
    }
    async fn close(self) -> Result<(), DriverError> {
        Ok(())
    }
}

fn block_on<F: Future>(work: F) -> F::Output {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.expect("a runtime for one thread needs nothing but memory and an epoll descriptor").block_on(work)
}

/// Drains shipments, as the control thread does.
fn drain(samples: &Receiver<SampleBatch>) -> u64 {
    samples.try_iter().map(|s| s.samples.len()).sum()
}

/// Nanoseconds for each received message: verification, books, order, both latencies, the turn of
/// intervals, and a clock read for a batch or for `each` message; and beside it what making and
/// delivering the message from memory costs by itself. Both over `messages`.
pub fn receiving(messages: u64, payload: usize, each: bool) -> (f64, f64) {
    let (shared, (out, samples)) = (Shared::new(1), channel());
    let origin = now();
    shared.go(origin, origin, Nanos::MAX);
    let mut consumer_recorder = consumer_recorder(&shared, origin, messages, Recorder::new(0, origin, SECOND, out));
    let mut memory =
        MemoryConsumer { each, template: Template::new(&vec![7; payload.saturating_sub(44)]), sequence: 0, origin };
    let begun = now();
    let mut recorded = 0;
    block_on(async {
        while memory.sequence < messages {
            // From memory it cannot fail.
            let _ = memory.receive(&mut consumer_recorder, usize::MAX).await;
            if memory.sequence.is_multiple_of(1 << 20) {
                recorded += drain(&samples);
            }
        }
    });
    let all = (now() - begun) as f64 / memory.sequence as f64;
    assert_eq!(consumer_recorder.received.seen[0].count(0, messages), messages, "every message is in the books");
    let mut nothing = IgnoringSink(0);
    (memory.sequence, memory.each) = (0, false);
    let begun = now();
    block_on(async {
        while memory.sequence < messages {
            let _ = memory.receive(&mut nothing, usize::MAX).await;
        }
    });
    (all, (now() - begun) as f64 / memory.sequence as f64)
}

struct IgnoringSink(u64);

impl MessageSink for IgnoringSink {
    fn take(&mut self, message: Incoming<'_>) -> crate::driver::Disposition {
        self.0 += std::hint::black_box(message.payload).len() as u64;
        crate::driver::Disposition::Accept
    }
    fn dead_letter(&mut self, _: Incoming<'_>) {}
}

fn consumer_recorder(shared: &Shared, origin: Nanos, messages: u64, recorder: Recorder) -> ConsumerRecorder<'_> {
    ConsumerRecorder {
        run: 1,
        workload: 0,
        role: Role::Tail,
        think: Duration::ZERO,
        group: 0,
        lanes: Lanes { channels: 1, keys: None },
        rule: RejectRule::default(),
        answer: false,
        watched: false,
        open_loop: true,
        shared,
        recorder: Rc::new(RefCell::new(recorder)),
        origin,
        shift: 0,
        near: Vec::new(),
        block: SECOND,
        order: LaneOrder::new(1, 1),
        received: Received {
            seen: vec![SequenceSet::with_capacity(messages)],
            dead: vec![SequenceSet::default()],
            ..Received::default()
        },
        arrived: 0,
        told: false,
        look: Duration::from_secs(1),
        instant: (Nanos::MAX, None),
    }
}

/// Nanoseconds for each published message of 128 bytes whose time has come: schedule, stamp, books,
/// lag, acknowledgement.
pub fn publishing(messages: u64) -> f64 {
    let (shared, (out, samples)) = (Shared::new(1), channel());
    // A schedule that lies in the past is walked as fast as the loop goes.
    let rate = 1e6;
    let length = messages * 1000;
    let origin = now() - 2 * length;
    shared.go(origin, origin, origin + length);
    let pieces = vec![RatePiece { span: length, from: rate, to: rate }];
    let mut publisher = Publisher {
        producer: DiscardingProducer { acks: Vec::with_capacity(1024) },
        index: 0,
        workload: 0,
        keys: None,
        reply: false,
        run: 1,
        channels: 1,
        templates: vec![Template::new(&[7; 84])],
        kept: false,
        pacer: Pacer::spinning(),
        pace: Pace::Open(Schedule::new(pieces, false, &ArrivalProcess::Constant, ScheduleShare { index: 0, of: 1 })),
        shared: &shared,
        recorder: Rc::new(RefCell::new(Recorder::new(0, origin, SECOND, out))),
        origin,
        interval: SECOND,
        send_state: send_state(length, SECOND, vec![128], false),
        shift: 0,
        longest: SECOND / 20,
        look: 0,
    };
    let begun = now();
    // To nowhere it cannot fail.
    let _ = block_on(publisher.run(origin));
    let each = (now() - begun) as f64 / messages as f64;
    drain(&samples);
    assert!(publisher.send_state.sent.acked.abs_diff(messages) <= 1, "every message is in the books");
    each
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::allocations::count;

    /// Allocations that ten times as many messages add, within one interval of a second.
    fn added(loops: impl Fn(u64)) -> u64 {
        loops(1_000);
        let counted = |messages| {
            let before = count();
            loops(messages);
            count() - before
        };
        counted(500_000).saturating_sub(counted(50_000))
    }

    #[test]
    fn the_consume_loop_allocates_nothing_for_a_message() {
        let added = added(|messages| {
            receiving(messages, 128, false);
        });
        assert!(added <= 20, "450,000 more messages made {added} more allocations");
    }

    #[test]
    fn the_publish_loop_allocates_nothing_for_a_message() {
        let added = added(|messages| {
            publishing(messages);
        });
        // The set of acknowledged numbers doubles a few times.
        assert!(added <= 20, "450,000 more messages made {added} more allocations");
    }
}
