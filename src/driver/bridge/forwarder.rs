//! What a bridge's thread does: it takes over, sends on, and acknowledges what Kafka has.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::Ordering;
use std::time::Duration;

use hdrhistogram::Histogram;

use super::{BridgeShared, histogram};
use crate::driver::{Confirmation, Consumer, Disposition, DriverError, Incoming, MessageSink, Outgoing, Producer};
use crate::load::message::open;
use crate::units::Nanos;

/// Taken over from the first system at a time.
const BATCH: usize = 1024;
/// Messages on their way to Kafka; beyond, the bridge takes nothing over.
const IN_FLIGHT: usize = 100_000;
/// A stop is noticed at least so often.
const TICK: Duration = Duration::from_millis(20);

/// Forwards messages between two systems, on one thread.
pub(super) struct Forwarder<'a, P> {
    middle: &'a BridgeShared,
    channels: u32,
    pub(super) producer: P,
    /// Taken over, not yet acknowledged by Kafka.
    pending: HashMap<u64, UnackedMessage>,
    token: u64,
    /// Whether Kafka has each message taken over, from the oldest that it has not; `first` is the
    /// number of that one.
    stored: VecDeque<bool>,
    first: u64,
    pub(super) hop: Histogram<u64>,
}

/// A message on its way to Kafka.
struct UnackedMessage {
    channel: u32,
    message: Vec<u8>,
    /// Its number in the order in which messages were taken over.
    number: u64,
}

/// Copies what is received, so that it can be sent when the sink is done.
#[derive(Default)]
struct MessageCopies(Vec<(Nanos, Vec<u8>)>);

impl MessageSink for MessageCopies {
    fn take(&mut self, message: Incoming<'_>) -> Disposition {
        self.0.push((message.at, message.payload.to_vec()));
        Disposition::Hold
    }
    fn dead_letter(&mut self, _: Incoming<'_>) {}
}

impl<'a, P: Producer> Forwarder<'a, P> {
    pub(super) fn new(middle: &'a BridgeShared, channels: u32, producer: P) -> Self {
        let (pending, stored) = (HashMap::new(), VecDeque::new());
        Self { middle, channels, producer, pending, token: 0, stored, first: 0, hop: histogram() }
    }

    pub(super) async fn run<C: Consumer>(&mut self, consumer: &mut C) -> Result<(), DriverError> {
        let mut intake = MessageCopies::default();
        loop {
            let mut settled: Vec<(u64, bool)> = Vec::new();
            let mut acks = |c: Confirmation<'_>| match c {
                Confirmation::Acked { token, .. } => settled.push((token, true)),
                Confirmation::Failed { token } => settled.push((token, false)),
                Confirmation::Answered { .. } | Confirmation::Served { .. } | Confirmation::Unanswered => {}
            };
            let open = self.pending.len() < IN_FLIGHT;
            tokio::select! {
                done = self.producer.confirmed(&mut acks) => done?,
                done = consumer.receive(&mut intake, BATCH), if open => done?,
                () = tokio::time::sleep(TICK) => {
                    if self.middle.stop.load(Ordering::Acquire) {
                        return Ok(());
                    }
                }
            }
            for (token, acked) in settled {
                let Some(unacked) = self.pending.remove(&token) else { continue };
                if acked {
                    self.store(unacked.number);
                } else {
                    self.send(unacked).await?;
                }
            }
            for (at, message) in intake.0.drain(..) {
                let channel = self.note(at, &message);
                let number = self.first + self.stored.len() as u64;
                self.stored.push_back(false);
                self.send(UnackedMessage { channel, message, number }).await?;
            }
            self.producer.flush().await?;
            consumer.settle(self.through())?;
        }
    }

    /// Notes when a message was here; returns its channel, so that what shared a channel shares a
    /// partition.
    fn note(&mut self, at: Nanos, message: &[u8]) -> u32 {
        let Ok(e) = open(message, self.middle.run) else { return 0 };
        let (slot, key) = self.middle.slot(e.producer, e.sequence);
        slot.1.store(at, Ordering::Relaxed);
        slot.0.store(key, Ordering::Release);
        if e.intended >= self.middle.origin.load(Ordering::Relaxed) {
            self.hop.saturating_record(at.saturating_sub(e.intended));
        }
        (e.sequence % u64::from(self.channels)) as u32
    }

    async fn send(&mut self, unacked: UnackedMessage) -> Result<(), DriverError> {
        let out = Outgoing { channel: unacked.channel, key: None, payload: &unacked.message, token: self.token };
        self.producer.send(out).await?;
        if self.producer.confirms() {
            self.pending.insert(self.token, unacked);
        } else {
            self.store(unacked.number);
        }
        self.token += 1;
        Ok(())
    }

    /// Kafka has message `number`, or was never to say so.
    fn store(&mut self, number: u64) {
        if let Some(stored) = self.stored.get_mut((number - self.first) as usize) {
            *stored = true;
        }
    }

    /// How many more of the oldest messages Kafka has, without a gap.
    fn through(&mut self) -> usize {
        let all = self.stored.iter().take_while(|stored| **stored).count();
        self.stored.drain(..all);
        self.first += all as u64;
        all
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;
    use std::sync::atomic::{AtomicBool, AtomicU64};

    use super::*;
    use crate::units::now;

    /// Gives ten messages, then none.
    #[derive(Default)]
    struct TenMessages {
        given: bool,
        settled: Vec<usize>,
    }

    impl Consumer for TenMessages {
        async fn receive(&mut self, sink: &mut impl MessageSink, _: usize) -> Result<(), DriverError> {
            if self.given {
                return std::future::pending().await;
            }
            self.given = true;
            for n in 0..10_u8 {
                let message = Incoming { payload: &[n], at: 1000 + u64::from(n), attempt: 1 };
                assert_eq!(sink.take(message), Disposition::Hold);
            }
            Ok(())
        }
        fn settle(&mut self, messages: usize) -> Result<(), DriverError> {
            self.settled.push(messages);
            Ok(())
        }
    }

    /// What became of single messages, one step after the other, and then the end.
    struct ScriptedProducer<'a> {
        sent: Vec<(u64, u8)>,
        steps: VecDeque<Vec<(u64, bool)>>,
        stop: &'a AtomicBool,
    }

    impl Producer for ScriptedProducer<'_> {
        fn confirms(&self) -> bool {
            true
        }
        async fn send(&mut self, message: Outgoing<'_>) -> Result<(), DriverError> {
            self.sent.push((message.token, message.payload[0]));
            Ok(())
        }
        async fn flush(&mut self) -> Result<(), DriverError> {
            Ok(())
        }
        async fn confirmed(&mut self, sink: &mut impl FnMut(Confirmation<'_>)) -> Result<(), DriverError> {
            if self.sent.is_empty() {
                return std::future::pending().await;
            }
            let Some(step) = self.steps.pop_front() else {
                self.stop.store(true, Ordering::Release);
                return std::future::pending().await;
            };
            for (token, acked) in step {
                sink(if acked { Confirmation::Acked { token, at: now() } } else { Confirmation::Failed { token } });
            }
            Ok(())
        }
        async fn close(self) -> Result<(), DriverError> {
            Ok(())
        }
    }

    #[test]
    fn a_message_is_taken_over_when_it_arrived_and_not_when_it_is_copied() {
        let mut intake = MessageCopies::default();
        for at in [7, 7, 9] {
            intake.take(Incoming { payload: &[1], at, attempt: 0 });
        }
        assert_eq!(intake.0.iter().map(|(at, _)| *at).collect::<Vec<_>>(), [7, 7, 9]);
    }

    #[tokio::test]
    async fn a_stream_is_acknowledged_when_kafka_has_the_message() {
        let middle = BridgeShared {
            run: 1,
            origin: AtomicU64::new(0),
            stop: AtomicBool::new(false),
            ring: Box::new([]),
            hops: Mutex::new([histogram(), histogram()]),
        };
        // Message 0 is refused once, and sent again as number 10; until then nothing behind it is
        // acknowledged.
        let acked = |tokens: std::ops::Range<u64>| tokens.map(|t| (t, true)).collect::<Vec<_>>();
        let steps = VecDeque::from([acked(1..4), vec![(0, false)], acked(5..9), vec![(10, true)], acked(4..5)]);
        let log = ScriptedProducer { sent: Vec::new(), steps, stop: &middle.stop };
        let mut stream = TenMessages::default();
        let mut forwarder = Forwarder::new(&middle, 1, log);
        tokio::time::timeout(Duration::from_secs(20), forwarder.run(&mut stream)).await.unwrap().unwrap();
        let sent: Vec<u64> = forwarder.producer.sent.iter().map(|(token, _)| *token).collect();
        assert_eq!(sent, (0..11).collect::<Vec<_>>());
        assert_eq!(forwarder.producer.sent[10].1, 0, "the refused message again");
        stream.settled.retain(|n| *n > 0);
        assert_eq!(stream.settled, [4, 5], "0 to 3 when 0 is there at last; 4 to 8 when 4 is; 9 never");
    }
}
