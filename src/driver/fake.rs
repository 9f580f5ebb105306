//! A broker in a few lines that misbehaves as told, so that the engine's books can be checked
//! against what was done.
//!
//! Faults hit every n-th message of each producer by sequence number: from the measured range
//! follows how often each was injected.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, LazyLock, Mutex, PoisonError};
use std::time::Duration;

use tokio::runtime::Runtime;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use super::{
    ClientSlot, Confirmation, ConnectAttempt, ConnectSteps, Consumer, Delivery, Disposition, Driver, DriverError,
    Facts, Guarantees, Incidents, Incoming, MessageSink, Order, Outgoing, Producer, Start, Stated, Target,
};
use crate::plan::Workload;
use crate::units::{Nanos, now};

/// Faults of every n-th message; 0 is none.
#[derive(Debug, Clone, Copy, Default)]
struct FakeFaults {
    drop: u64,
    duplicate: u64,
    /// Held back until the next one was delivered.
    swap: u64,
    corrupt: u64,
    refuse: u64,
    /// Acknowledged, and dropped all the same.
    lose_acked: u64,
    /// Acknowledged 200 ms late.
    late: u64,
    /// Acknowledged twice.
    again: u64,
    /// With it an acknowledgement of a message that was never sent.
    stray: u64,
}

/// Delivers what is held back: the runtime of a producer ends with the load.
static LATER: LazyLock<Runtime> = LazyLock::new(|| {
    tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_time().build().expect("a thread")
});

/// See [`FakeFaults::late`].
const LATE: Duration = Duration::from_millis(200);

impl FakeFaults {
    /// Read from the options of the system, so that the engine passes them through as it does for
    /// others.
    fn of(target: &Target) -> Self {
        let every = |key: &str| target.options.get(key).and_then(serde_json::Value::as_u64).unwrap_or(0);
        Self {
            drop: every("drop"),
            duplicate: every("duplicate"),
            swap: every("swap"),
            corrupt: every("corrupt"),
            refuse: every("refuse"),
            lose_acked: every("lie"),
            late: every("late"),
            again: every("again"),
            stray: every("stray"),
        }
    }
}

fn hits(every: u64, sequence: u64) -> bool {
    every > 0 && sequence % every == every - 1
}

type Mailbox = (Vec<u8>, u32);

#[derive(Debug, Default)]
struct FakeStore {
    /// (workload, group, member) and where its messages go.
    mailboxes: Vec<(ClientSlot, UnboundedSender<Mailbox>)>,
    /// All that was sent, for those who read from the first message.
    stored: BTreeMap<usize, Vec<Vec<u8>>>,
    turn: usize,
}

/// Channels that take nothing for a while, and pass on at its end what came meanwhile: channel, and
/// from when until when since the measured phase began, ms.
type AwayTimes = Arc<Vec<(u32, u64, u64)>>;

#[derive(Debug)]
pub struct FakeDriver {
    faults: FakeFaults,
    away: AwayTimes,
    /// So many consumers are still turned away.
    shut: AtomicU64,
    /// When the measured phase began; 0 before that is known.
    origin: Arc<AtomicU64>,
    workloads: Vec<Workload>,
    room: Arc<Mutex<FakeStore>>,
    facts: Facts,
    incidents: Incidents,
}

impl Driver for FakeDriver {
    type Producer = FakeProducer;
    type Consumer = FakeConsumer;

    async fn prepare(target: Target, workloads: &[Workload]) -> Result<Self, DriverError> {
        let away = target.options.get("away").and_then(|v| serde_json::from_value(v.clone()).ok());
        let shut = target.options.get("shut").and_then(serde_json::Value::as_u64).unwrap_or(0);
        let delivery = target.options.get("delivery").and_then(|v| serde_json::from_value(v.clone()).ok());
        let delivery = delivery.unwrap_or(Delivery::AtLeastOnce);
        let guarantees = Guarantees {
            delivery: Stated::new(delivery, format!("{delivery:?}")),
            order: Stated::new(Order::Producer, "per producer"),
            ..Guarantees::default()
        };
        Ok(Self {
            faults: FakeFaults::of(&target),
            away: Arc::new(away.unwrap_or_default()),
            shut: AtomicU64::new(shut),
            origin: Arc::default(),
            workloads: workloads.to_vec(),
            room: Arc::default(),
            facts: Facts { guarantees, ..Facts::default() },
            incidents: Incidents::default(),
        })
    }
    fn facts(&self) -> &Facts {
        &self.facts
    }
    fn incidents(&self) -> &Incidents {
        &self.incidents
    }
    async fn producer(&self, slot: ClientSlot) -> Result<FakeProducer, DriverError> {
        let durable = self.workloads[slot.workload].delivery.durable;
        let (acks_in, acks) = unbounded_channel();
        let room = Arc::clone(&self.room);
        let way = FakeWay { faults: self.faults, slot, durable, room, held: None, acks_in };
        let (away, origin) = (Arc::clone(&self.away), Arc::clone(&self.origin));
        Ok(FakeProducer { way, acks, away, origin })
    }
    async fn consumer(&self, slot: ClientSlot, start: Start) -> Result<FakeConsumer, DriverError> {
        let one_less = |n: u64| n.checked_sub(1);
        if self.shut.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_less).is_ok() {
            return Err(DriverError::Lost { url: "fake".into(), words: "it starts again".into() });
        }
        let (send, mailbox) = unbounded_channel();
        let mut room = self.room.lock().unwrap_or_else(PoisonError::into_inner);
        if start == Start::First {
            for message in room.stored.get(&slot.workload).into_iter().flatten() {
                let _ = send.send((message.clone(), 1));
            }
        }
        room.mailboxes.push((slot, send.clone()));
        let limit = self.workloads[slot.workload].delivery.max_deliver;
        Ok(FakeConsumer { again: send, mailbox, limit })
    }
    fn measured_from(&self, origin: Nanos) {
        self.origin.store(origin, Ordering::Relaxed);
    }
    /// Each step takes a millisecond.
    async fn connect_once(&self, attempt: ConnectAttempt<'_>) -> Result<ConnectSteps, DriverError> {
        let step = Duration::from_millis(1);
        let (faults, number, begun) = (self.faults, attempt.number, now());
        tokio::time::sleep(3 * step + if hits(faults.late, number) { LATE } else { Duration::ZERO }).await;
        if hits(faults.refuse, number) {
            return Err(DriverError::Refused { words: "too many clients".into() });
        }
        let mut message = attempt.payload.to_vec();
        if hits(faults.corrupt, number) {
            message[20] ^= 1;
        }
        let step = step.as_nanos() as Nanos;
        Ok(ConnectSteps { connected: begun + step, subscribed: begun + 2 * step, received: now(), message })
    }
    async fn cleanup(self) -> Result<(), DriverError> {
        Ok(())
    }
}

/// Its sending side.
#[derive(Debug)]
pub struct FakeProducer {
    way: FakeWay,
    acks: UnboundedReceiver<u64>,
    away: AwayTimes,
    origin: Arc<AtomicU64>,
}

impl FakeProducer {
    /// How long a channel takes nothing from now on.
    fn away(&self, channel: u32) -> Option<Duration> {
        let origin = self.origin.load(Ordering::Relaxed);
        let since = now().checked_sub(origin).filter(|_| origin > 0)?;
        let of = self.away.iter().find(|(of, from, to)| *of == channel && (from * MS..to * MS).contains(&since))?;
        Some(Duration::from_nanos(of.2 * MS - since))
    }
}

const MS: Nanos = 1_000_000;

/// What a message meets on its way.
#[derive(Debug, Clone)]
struct FakeWay {
    faults: FakeFaults,
    slot: ClientSlot,
    durable: bool,
    room: Arc<Mutex<FakeStore>>,
    held: Option<Vec<u8>>,
    acks_in: UnboundedSender<u64>,
}

impl FakeWay {
    fn acknowledge(&self, token: u64) {
        let acks = self.acks_in.clone();
        if hits(self.faults.late, token) {
            tokio::spawn(async move {
                tokio::time::sleep(LATE).await;
                let _ = acks.send(token);
            });
            return;
        }
        let _ = acks.send(token);
        if hits(self.faults.again, token) {
            let _ = acks.send(token);
        }
        if hits(self.faults.stray, token) {
            let _ = acks.send(token + (1 << 40));
        }
    }

    fn pass(&mut self, token: u64, mut message: Vec<u8>) {
        let f = self.faults;
        if self.durable && !hits(f.drop, token) {
            self.acknowledge(token);
        }
        if hits(f.drop, token) || hits(f.lose_acked, token) {
            return;
        }
        if hits(f.corrupt, token) {
            let last = message.len() - 1;
            message[last] ^= 1;
        }
        if hits(f.swap, token) {
            self.held = Some(message);
            return;
        }
        self.deliver(&message);
        if hits(f.duplicate, token) {
            self.deliver(&message);
        }
        if let Some(held) = self.held.take() {
            self.deliver(&held);
        }
    }

    fn deliver(&self, message: &[u8]) {
        let mut room = self.room.lock().unwrap_or_else(PoisonError::into_inner);
        if self.durable {
            room.stored.entry(self.slot.workload).or_default().push(message.to_vec());
        }
        room.turn += 1;
        let turn = room.turn;
        let mut groups: BTreeMap<u32, Vec<&UnboundedSender<Mailbox>>> = BTreeMap::new();
        for (slot, mailbox) in room.mailboxes.iter().filter(|(slot, _)| slot.workload == self.slot.workload) {
            groups.entry(slot.group).or_default().push(mailbox);
        }
        for members in groups.values() {
            let _ = members[turn % members.len()].send((message.to_vec(), 1));
        }
    }
}

impl Producer for FakeProducer {
    fn confirms(&self) -> bool {
        self.way.durable
    }
    async fn send(&mut self, out: Outgoing<'_>) -> Result<(), DriverError> {
        if hits(self.way.faults.refuse, out.token) {
            return Err(DriverError::Refused { words: "as told".into() });
        }
        let message = out.payload.to_vec();
        match self.away(out.channel) {
            None => self.way.pass(out.token, message),
            Some(wait) => {
                let (mut later, token) = (self.way.clone(), out.token);
                LATER.spawn(async move {
                    tokio::time::sleep(wait).await;
                    later.pass(token, message);
                });
            }
        }
        Ok(())
    }
    async fn flush(&mut self) -> Result<(), DriverError> {
        Ok(())
    }
    async fn confirmed(&mut self, sink: &mut impl FnMut(Confirmation<'_>)) -> Result<(), DriverError> {
        let first = self.acks.recv().await;
        let here = self.acks.len();
        let at = now();
        for token in first.into_iter().chain((0..here).map_while(|_| self.acks.try_recv().ok())) {
            sink(Confirmation::Acked { token, at });
        }
        Ok(())
    }
    async fn close(self) -> Result<(), DriverError> {
        if let Some(held) = &self.way.held {
            self.way.deliver(held);
        }
        Ok(())
    }
}

/// Its receiving side.
#[derive(Debug)]
pub struct FakeConsumer {
    again: UnboundedSender<Mailbox>,
    mailbox: UnboundedReceiver<Mailbox>,
    limit: u32,
}

impl Consumer for FakeConsumer {
    async fn receive(&mut self, sink: &mut impl MessageSink, limit: usize) -> Result<(), DriverError> {
        let first = self.mailbox.recv().await;
        // Other threads send meanwhile: what comes after the stamp is left for the next call.
        let here = self.mailbox.len();
        let at = now();
        let rest = (0..here.min(limit.saturating_sub(1))).map_while(|_| self.mailbox.try_recv().ok());
        for (message, attempt) in first.into_iter().chain(rest) {
            let incoming = Incoming { payload: &message, at, attempt };
            if sink.take(incoming) == Disposition::Reject {
                if self.limit > 0 && attempt >= self.limit {
                    sink.dead_letter(incoming);
                } else {
                    let _ = self.again.send((message, attempt + 1));
                }
            }
        }
        Ok(())
    }
}
