//! Which instants a client gives to messages that came together, while each of them takes its time.
//!
//! # Design
//! One consumer is held up with a first message until a whole batch is behind it: a second
//! consumer, on a connection of its own, has received all of it by then. So one read brings the
//! batch, and how far its stamps are apart is the driver's doing alone.
//! # Rejected
//! Showing it in the latencies of a trial: there the batches are of the host's making.

use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use crate::driver::{
    ClientSlot, Consumer, Disposition, Driver, DriverError, Incoming, MessageSink, Outgoing, Producer, Start, Target,
};
use crate::plan::Workload;
use crate::units::{Nanos, now};

/// What the second consumer has received is given so long to reach the first one as well.
const SETTLE: Duration = Duration::from_millis(2);
/// Number of the message that holds the consumer up.
const FIRST: u64 = u64::MAX;
/// Bytes of a message.
const SIZE: usize = 44;

/// What is tried.
#[derive(Debug, Clone, Copy)]
pub struct ArrivalTrials<'a> {
    /// Messages of a batch.
    pub batches: &'a [usize],
    /// How often each.
    pub repeats: usize,
    /// What each message takes, ns.
    pub work: Nanos,
}

/// What was seen of batches of one length through one client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ArrivalResult {
    /// Name of the system in the plan.
    pub system: String,
    /// Messages of a batch.
    pub batch: usize,
    /// Different stamps within each of the batches.
    pub stamps: Vec<usize>,
    /// From the first stamp to the last one of each, ns.
    pub spread: Vec<Nanos>,
}

/// What the consumer tells.
enum ConsumerEvent {
    Ready,
    HeldUp,
    Batch(Vec<Nanos>),
}

/// Takes its time with each message, and stops at the first until it is told that the others are
/// there.
struct BusySink<'a> {
    work: Nanos,
    bound: Duration,
    tell: &'a UnboundedSender<ConsumerEvent>,
    loaded: &'a Receiver<()>,
    stamps: Vec<Nanos>,
}

impl MessageSink for BusySink<'_> {
    fn take(&mut self, message: Incoming<'_>) -> Disposition {
        if message.payload.first_chunk() == Some(&FIRST.to_le_bytes()) {
            let _ = self.tell.send(ConsumerEvent::HeldUp);
            // Where nobody tells, the other side has failed and says so.
            let _ = self.loaded.recv_timeout(self.bound);
        } else {
            self.stamps.push(message.at);
            let begun = now();
            while now() - begun < self.work {
                std::hint::spin_loop();
            }
        }
        Disposition::Accept
    }
    fn dead_letter(&mut self, _: Incoming<'_>) {}
}

struct CountingSink(usize);

impl MessageSink for CountingSink {
    fn take(&mut self, _: Incoming<'_>) -> Disposition {
        self.0 += 1;
        Disposition::Accept
    }
    fn dead_letter(&mut self, _: Incoming<'_>) {}
}

fn runtime() -> Result<tokio::runtime::Runtime, DriverError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.map_err(|e| failed(&format!("no runtime: {e}")))
}

/// Tries a client. The workload has two groups of one consumer each.
pub(super) fn drive<D: Driver>(
    target: Target,
    workloads: &[Workload],
    trials: ArrivalTrials<'_>,
) -> Result<Vec<ArrivalResult>, DriverError> {
    let bound = target.timeout;
    let here = runtime()?;
    let driver = here.block_on(D::prepare(target, workloads))?;
    let (tell, events) = unbounded_channel();
    let (loaded_in, loaded) = channel();
    let seen = std::thread::scope(|scope| {
        let driver = &driver;
        // Its ends of the channels go with its thread: then the other side waits for nothing.
        let reader = scope.spawn(move || runtime()?.block_on(read(driver, trials, bound, &tell, &loaded)));
        let seen = here.block_on(write(driver, trials, bound, events, &loaded_in));
        drop(loaded_in);
        let read = reader.join().unwrap_or_else(|_| Err(failed("the consumer's thread ended")));
        // Where both failed, the consumer knows why.
        read.and(seen)
    })?;
    here.block_on(driver.cleanup())?;
    Ok(seen)
}

fn failed(words: &str) -> DriverError {
    DriverError::Refused { words: words.into() }
}

/// The consumer that is held up.
async fn read<D: Driver>(
    driver: &D,
    trials: ArrivalTrials<'_>,
    bound: Duration,
    tell: &UnboundedSender<ConsumerEvent>,
    loaded: &Receiver<()>,
) -> Result<(), DriverError> {
    let mut consumer = driver.consumer(ClientSlot { workload: 0, group: 0, index: 0 }, Start::Tail).await?;
    let _ = tell.send(ConsumerEvent::Ready);
    for &batch in trials.batches {
        for _ in 0..trials.repeats {
            let mut busy = BusySink { work: trials.work, bound, tell, loaded, stamps: Vec::with_capacity(batch) };
            while busy.stamps.len() < batch {
                let more = tokio::time::timeout(2 * bound, consumer.receive(&mut busy, usize::MAX)).await;
                more.map_err(|_| failed("a batch did not come within the bound"))??;
            }
            let _ = tell.send(ConsumerEvent::Batch(busy.stamps));
        }
    }
    Ok(())
}

/// The producer, and the second consumer beside it.
async fn write<D: Driver>(
    driver: &D,
    trials: ArrivalTrials<'_>,
    bound: Duration,
    mut events: UnboundedReceiver<ConsumerEvent>,
    loaded: &Sender<()>,
) -> Result<Vec<ArrivalResult>, DriverError> {
    let mut counting = driver.consumer(ClientSlot { workload: 0, group: 1, index: 0 }, Start::Tail).await?;
    let mut producer = driver.producer(ClientSlot { workload: 0, group: 0, index: 0 }).await?;
    let mut token = 0;
    let mut payload = [0; SIZE];
    let mut all = Vec::new();
    next_event(&mut events, bound).await?;
    for &batch in trials.batches {
        let mut seen = ArrivalResult { system: String::new(), batch, stamps: Vec::new(), spread: Vec::new() };
        for _ in 0..trials.repeats {
            let mut got = CountingSink(0);
            for (numbers, n) in [(FIRST..=FIRST, 1), (0..=batch as u64 - 1, 1 + batch)] {
                for number in numbers {
                    payload[..8].copy_from_slice(&number.to_le_bytes());
                    producer.send(Outgoing { channel: 0, key: None, payload: &payload, token }).await?;
                    token += 1;
                }
                producer.flush().await?;
                while got.0 < n {
                    let more = tokio::time::timeout(bound, counting.receive(&mut got, usize::MAX)).await;
                    more.map_err(|_| failed("the second consumer did not get a batch within the bound"))??;
                }
                if n == 1 {
                    next_event(&mut events, bound).await?;
                }
            }
            tokio::time::sleep(SETTLE).await;
            let _ = loaded.send(());
            let ConsumerEvent::Batch(mut stamps) = next_event(&mut events, bound).await? else {
                return Err(failed("the consumer was not held up"));
            };
            seen.spread.push(stamps.iter().max().zip(stamps.iter().min()).map_or(0, |(last, first)| last - first));
            stamps.dedup();
            seen.stamps.push(stamps.len());
        }
        all.push(seen);
    }
    producer.close().await?;
    Ok(all)
}

async fn next_event(
    events: &mut UnboundedReceiver<ConsumerEvent>,
    bound: Duration,
) -> Result<ConsumerEvent, DriverError> {
    match tokio::time::timeout(bound, events.recv()).await {
        Ok(Some(events)) => Ok(events),
        Ok(None) => Err(failed("the consumer has ended")),
        Err(_) => Err(failed("the consumer said nothing within the bound")),
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::super::register::Register;
    use super::*;
    use crate::driver::fake::FakeDriver;
    use crate::driver::{Facts, Incidents};
    use crate::scenario::{Overrides, parse};

    const TRIES: ArrivalTrials<'_> = ArrivalTrials { batches: &[1, 100, 1000], repeats: 3, work: 2_000 };

    fn workloads() -> Vec<Workload> {
        let text =
            "name = \"t\"\nquestion = \"?\"\n[[workload]]\npattern = \"fan-out\"\nconsumers = 2\nload.rate = \"1/s\"\n";
        let plan =
            parse(Path::new("t.toml"), text.into(), &Overrides::default(), &Register::built_in().types()).unwrap().plan;
        plan.cases[0].workloads.clone()
    }

    fn target() -> Target {
        Target { timeout: Duration::from_secs(20), run: 1, ..Target::default() }
    }

    /// Stamps each message when the sink comes to it.
    struct LateStamping<C>(C);
    struct RestampingSink<'a, S>(&'a mut S);

    impl<S: MessageSink> MessageSink for RestampingSink<'_, S> {
        fn take(&mut self, message: Incoming<'_>) -> Disposition {
            self.0.take(Incoming { at: now(), ..message })
        }
        fn dead_letter(&mut self, message: Incoming<'_>) {
            self.0.dead_letter(message);
        }
    }

    impl<C: Consumer> Consumer for LateStamping<C> {
        async fn receive(&mut self, sink: &mut impl MessageSink, limit: usize) -> Result<(), DriverError> {
            self.0.receive(&mut RestampingSink(sink), limit).await
        }
    }

    impl Driver for LateStamping<FakeDriver> {
        type Producer = <FakeDriver as Driver>::Producer;
        type Consumer = LateStamping<<FakeDriver as Driver>::Consumer>;
        async fn prepare(target: Target, workloads: &[Workload]) -> Result<Self, DriverError> {
            FakeDriver::prepare(target, workloads).await.map(LateStamping)
        }
        fn facts(&self) -> &Facts {
            self.0.facts()
        }
        fn incidents(&self) -> &Incidents {
            self.0.incidents()
        }
        async fn producer(&self, slot: ClientSlot) -> Result<Self::Producer, DriverError> {
            self.0.producer(slot).await
        }
        async fn consumer(&self, slot: ClientSlot, start: Start) -> Result<Self::Consumer, DriverError> {
            self.0.consumer(slot, start).await.map(LateStamping)
        }
        async fn cleanup(self) -> Result<(), DriverError> {
            self.0.cleanup().await
        }
    }

    #[test]
    fn a_driver_that_stamps_when_the_sink_comes_to_a_message_is_seen() {
        let right = drive::<FakeDriver>(target(), &workloads(), TRIES).unwrap();
        let late = drive::<LateStamping<FakeDriver>>(target(), &workloads(), TRIES).unwrap();
        for (right, late) in right.iter().zip(&late) {
            assert_eq!((&right.stamps, &right.spread), (&vec![1; 3], &vec![0; 3]), "{right:?}");
            assert_eq!(late.stamps, [late.batch; 3]);
            assert!(late.spread.iter().all(|s| *s >= (late.batch as u64 - 1) * TRIES.work), "{late:?}");
        }
    }
}
