//! The article's hybrid: publish to one system, a bridge forwards to Kafka, consumers read there.
//!
//! # Design
//! The driver is made of two others: producers are those of the first system, consumers those of
//! Kafka, and between them one thread for each workload that msgbench runs: it receives as any
//! consumer, sends as any producer, keeps each message until Kafka has acknowledged it and sends it
//! again when Kafka refuses it. Envelopes pass unchanged, so that the latency of the whole way and
//! the books are those of any other driver. The hops are told apart by when a message was at the
//! bridge: the bridge notes it in a ring by producer and number, the consumer looks it up.
//! # Promise
//! From the bridge on at least once. Before it what the first system promises: core NATS may lose
//! what the bridge does not take in time; a stream is acknowledged only when Kafka has the message,
//! so that a bridge that ends loses nothing.

mod forwarder;

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use hdrhistogram::Histogram;

use forwarder::Forwarder;

use super::{
    ClientSlot, Consumer, Delivery, Disposition, Driver, DriverError, Facts, Guarantees, Incident, Incidents, Incoming,
    MessageSink, Producer, Start, Stated, Target,
};
use crate::load::message::open;
use crate::plan::Workload;
use crate::units::{Nanos, SECOND};

/// Messages whose time at the bridge is remembered, and those in flight from it.
const RING: usize = 1 << 20;

/// From `F`, which is published to, to `T`, which is read from.
pub struct BridgeDriver<F, T> {
    first: Arc<F>,
    second: Arc<T>,
    facts: Facts,
    incidents: Incidents,
    middle: Arc<BridgeShared>,
    threads: Vec<JoinHandle<()>>,
    timeout: Duration,
}

/// What the bridge's threads share with the consumers.
#[derive(Debug)]
struct BridgeShared {
    run: u32,
    /// Start of the measured phase; all ones before it is known.
    origin: AtomicU64,
    stop: AtomicBool,
    /// (producer and sequence, when at the bridge).
    ring: Box<[(AtomicU64, AtomicU64)]>,
    /// Due until at the bridge, and from there until received.
    hops: Mutex<[Histogram<u64>; 2]>,
}

impl BridgeShared {
    fn slot(&self, producer: u32, sequence: u64) -> (&(AtomicU64, AtomicU64), u64) {
        let key = u64::from(producer) << 44 | sequence;
        // Fibonacci hashing: consecutive numbers of one producer never meet.
        let at = (sequence as usize).wrapping_add((producer as usize).wrapping_mul(0x9e37_79b1)) % RING;
        (&self.ring[at], key)
    }
    fn add(&self, hop: usize, histogram: &Histogram<u64>) {
        let mut hops = self.hops.lock().unwrap_or_else(PoisonError::into_inner);
        // Equal bounds always add.
        let _ = hops[hop].add(histogram);
    }
}

fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, 3600 * SECOND, 3).expect("1 ns to 1 h at 3 digits are valid bounds")
}

/// The part of a pair of addresses or option tables that belongs to one side.
fn side(target: &Target, index: usize, name: &str) -> Target {
    let mut options = target.options.get(name).and_then(|v| v.as_object()).cloned().unwrap_or_default();
    // What the launched system gave its clients lies under `launched`.
    let given = target.options.get("launched").and_then(|v| v.get(name)).and_then(|v| v.as_object());
    for (key, value) in given.into_iter().flatten() {
        options.entry(key.clone()).or_insert_with(|| value.clone());
    }
    let url = target.url.split_whitespace().nth(index).unwrap_or_default().to_owned();
    Target { url, options, ..target.clone() }
}

/// What is promised of the whole way; producers are acknowledged by the first system, and order is
/// judged by it.
fn joined((from, first): (&str, &Guarantees), (to, second): (&str, &Guarantees)) -> Guarantees {
    fn then<T: Copy>(level: T, first: &Stated<T>, second: &Stated<T>) -> Stated<T> {
        Stated::new(level, format!("{}, then {}", first.shown(), second.shown()))
    }
    let delivery = match first.delivery.level {
        Delivery::AtLeastOnce | Delivery::ExactlyOnce => {
            let words = format!("at least once: {from} is acknowledged when {to} has the message");
            Stated::new(Delivery::AtLeastOnce, words)
        }
        _ => {
            let words = format!("to the bridge {}, from it at least once", first.delivery.words);
            Stated::new(Delivery::Unpromised, words)
        }
    };
    Guarantees {
        delivery,
        order: then(first.order.level, &first.order, &second.order),
        acknowledgement: then(first.acknowledgement.level, &first.acknowledgement, &second.acknowledgement),
        durability: then(second.durability.level, &first.durability, &second.durability),
    }
}

impl<F: Driver + 'static, T: Driver + 'static> Driver for BridgeDriver<F, T> {
    type Producer = F::Producer;
    type Consumer = BridgeConsumer<T::Consumer>;
    const STORES: bool = true;

    fn joins(w: &Workload) -> Result<(), &'static str> {
        F::joins(w).and_then(|()| T::joins(w))
    }

    async fn prepare(target: Target, workloads: &[Workload]) -> Result<Self, DriverError> {
        // The system says what it is made of.
        let names = target.options.get("parts").and_then(|v| v.as_array()).cloned().unwrap_or_default();
        let name = |i: usize| names.get(i).and_then(|v| v.as_str()).unwrap_or_default().to_owned();
        let (from, to) = (name(0), name(1));
        let first = Arc::new(F::prepare(side(&target, 0, &from), workloads).await?);
        let second = Arc::new(T::prepare(side(&target, 1, &to), workloads).await?);
        let mut facts = Facts {
            version: format!("{} to {}", first.facts().version, second.facts().version),
            client: format!("{}, {}", first.facts().client, second.facts().client),
            ..Facts::default()
        };
        for (name, of) in [(from.as_str(), first.facts()), (to.as_str(), second.facts())] {
            facts.settings.extend(of.words().into_iter().map(|(k, v)| (format!("{name}: {k}"), v)));
        }
        let tls = |of: &Facts| of.settings.get("tls").cloned().unwrap_or_else(|| "not stated".into());
        facts.settings.insert("tls".into(), format!("{}, then {}", tls(first.facts()), tls(second.facts())));
        facts.guarantees = joined((&from, &first.facts().guarantees), (&to, &second.facts().guarantees));
        let ring = (0..RING).map(|_| (AtomicU64::new(u64::MAX), AtomicU64::new(0))).collect();
        let middle = Arc::new(BridgeShared {
            run: target.run,
            origin: AtomicU64::new(u64::MAX),
            stop: AtomicBool::new(false),
            ring,
            hops: Mutex::new([histogram(), histogram()]),
        });
        let incidents = Incidents::default();
        let mut bridge = Self { first, second, facts, incidents, middle, threads: Vec::new(), timeout: target.timeout };
        // Where several processes run the load, the one that prepares the systems forwards.
        for (workload, w) in workloads.iter().enumerate().filter(|_| !target.joins()) {
            bridge.span(workload, w.topology.channels).await?;
        }
        Ok(bridge)
    }

    fn facts(&self) -> &Facts {
        &self.facts
    }
    fn incidents(&self) -> &Incidents {
        &self.incidents
    }
    fn client_dropped(&self, workload: usize) -> u64 {
        self.first.client_dropped(workload) + self.second.client_dropped(workload)
    }
    async fn producer(&self, client: ClientSlot) -> Result<F::Producer, DriverError> {
        self.first.producer(client).await
    }
    async fn consumer(&self, client: ClientSlot, start: Start) -> Result<Self::Consumer, DriverError> {
        let inner = self.second.consumer(client, start).await?;
        Ok(BridgeConsumer { inner, middle: Arc::clone(&self.middle), hop: histogram() })
    }
    fn measured_from(&self, origin: Nanos) {
        self.middle.origin.store(origin, Ordering::Relaxed);
    }
    fn hops(&self) -> Vec<(String, Histogram<u64>)> {
        let hops = self.middle.hops.lock().unwrap_or_else(PoisonError::into_inner);
        vec![("to-bridge".into(), hops[0].clone()), ("from-bridge".into(), hops[1].clone())]
    }

    async fn cleanup(mut self) -> Result<(), DriverError> {
        self.halt();
        let of_first = match Arc::into_inner(self.first) {
            Some(first) => first.cleanup().await,
            None => Ok(()),
        };
        let of_second = match Arc::into_inner(self.second) {
            Some(second) => second.cleanup().await,
            None => Ok(()),
        };
        of_first.and(of_second)
    }

    fn halt(&mut self) {
        self.middle.stop.store(true, Ordering::Release);
        for thread in self.threads.drain(..) {
            // It notices within a tick, and its waits are bounded.
            let _ = thread.join();
        }
    }
}

impl<F: Driver + 'static, T: Driver + 'static> BridgeDriver<F, T> {
    /// Starts the thread of one workload and waits until it listens.
    async fn span(&mut self, workload: usize, channels: u32) -> Result<(), DriverError> {
        let (ready_in, ready) = tokio::sync::oneshot::channel();
        let (first, second, middle) = (Arc::clone(&self.first), Arc::clone(&self.second), Arc::clone(&self.middle));
        let (incidents, timeout) = (self.incidents.clone(), self.timeout);
        let failed = |action: &str, words: String| DriverError::Admin {
            action: action.into(),
            url: "the bridge".into(),
            words,
            remedy: "look at both systems' logs".into(),
        };
        let body = move || {
            let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
                Ok(runtime) => runtime,
                Err(e) => {
                    let _ = ready_in.send(Err(DriverError::Refused { words: format!("no runtime: {e}") }));
                    return;
                }
            };
            runtime.block_on(async {
                let client = ClientSlot { workload, group: u32::MAX, index: 0 };
                let ends = async {
                    let consumer = first.consumer(client, Start::Tail).await?;
                    Ok((consumer, second.producer(ClientSlot { group: 0, ..client }).await?))
                };
                match ends.await {
                    Err(e) => drop(ready_in.send(Err(e))),
                    Ok((mut consumer, producer)) => {
                        let _ = ready_in.send(Ok(()));
                        let mut forwarder = Forwarder::new(&middle, channels, producer);
                        if let Err(e) = forwarder.run(&mut consumer).await {
                            incidents.note(Incident::Client, format!("the bridge ended: {e}"));
                        }
                        middle.add(0, &forwarder.hop);
                        // What Kafka has not acknowledged by now is lost, and the ledger says so.
                        let _ = tokio::time::timeout(timeout, forwarder.producer.close()).await;
                    }
                }
            });
        };
        let thread = std::thread::Builder::new().name("bridge".into()).spawn(body);
        self.threads.push(thread.map_err(|e| failed("start a thread", e.to_string()))?);
        match tokio::time::timeout(2 * timeout, ready).await {
            Ok(Ok(result)) => result,
            Ok(Err(_)) => Err(failed("open both ends", "the thread ended".into())),
            Err(_) => Err(failed("open both ends", format!("not within {} s", 2.0 * timeout.as_secs_f64()))),
        }
    }
}

/// Reads from Kafka, and tells the second hop from the first.
#[derive(Debug)]
pub struct BridgeConsumer<C> {
    inner: C,
    middle: Arc<BridgeShared>,
    hop: Histogram<u64>,
}

impl<C> Drop for BridgeConsumer<C> {
    fn drop(&mut self) {
        self.middle.add(1, &self.hop);
    }
}

struct HopSink<'a, S> {
    sink: &'a mut S,
    middle: &'a BridgeShared,
    hop: &'a mut Histogram<u64>,
}

impl<S: MessageSink> MessageSink for HopSink<'_, S> {
    fn take(&mut self, message: Incoming<'_>) -> Disposition {
        let at = message.at;
        if let Ok(e) = open(message.payload, self.middle.run)
            && e.intended >= self.middle.origin.load(Ordering::Relaxed)
        {
            let (slot, key) = self.middle.slot(e.producer, e.sequence);
            if slot.0.load(Ordering::Acquire) == key {
                self.hop.saturating_record(at.saturating_sub(slot.1.load(Ordering::Relaxed)));
            }
        }
        self.sink.take(message)
    }
    fn dead_letter(&mut self, message: Incoming<'_>) {
        self.sink.dead_letter(message);
    }
}

impl<C: Consumer> Consumer for BridgeConsumer<C> {
    async fn receive(&mut self, sink: &mut impl MessageSink, limit: usize) -> Result<(), DriverError> {
        let mut hop_sink = HopSink { sink, middle: &self.middle, hop: &mut self.hop };
        self.inner.receive(&mut hop_sink, limit).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::driver::{Acknowledgement, Durability, Order};

    fn stated(delivery: Delivery, words: &str, durability: Durability) -> Guarantees {
        Guarantees {
            delivery: Stated::new(delivery, words),
            order: Stated::new(Order::Partition, "per producer and partition"),
            acknowledgement: Stated::new(Acknowledgement::Leader, "by the leader"),
            durability: Stated::new(durability, "somewhere"),
        }
    }

    #[test]
    fn the_whole_way_promises_what_its_weaker_part_does() {
        let kafka = stated(Delivery::AtLeastOnce, "at least once", Durability::Synced);
        let of = |delivery, words: &str| {
            let first = stated(delivery, words, Durability::Memory);
            joined(("first", &first), ("second", &kafka))
        };
        let lossy = of(Delivery::AtMostOnce, "at most once");
        assert_eq!(lossy.delivery.level, Delivery::Unpromised, "it may be lost before, and come twice after");
        assert_eq!(lossy.delivery.words, "to the bridge at most once, from it at least once");
        assert_eq!(of(Delivery::ExactlyOnce, "exactly once: so").delivery.level, Delivery::AtLeastOnce);
        assert_eq!(lossy.durability.level, Durability::Synced, "that of the system that is read from");
        let unstated = joined(("first", &Guarantees::default()), ("second", &kafka));
        assert_eq!(unstated.order.words, "not stated, then per producer and partition");
        assert!(!unstated.order.level.promised());
    }
}
