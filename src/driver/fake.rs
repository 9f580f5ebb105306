//! A broker in a few lines that misbehaves as told, so that the engine's books can be checked against what was done.
//!
//! Faults hit every so many-th message of each producer by sequence number: who knows the range that was measured knows
//! how often each was injected.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use super::{
    Confirmation, Consumer, Delivery, Disposition, Driver, DriverError, Facts, Guarantees, Incidents, Incoming, Order,
    Outgoing, Producer, Seat, Sink, Start, Stated, Target,
};
use crate::plan::Workload;
use crate::units::now;

/// What is done to every so many-th message; 0 is nothing.
#[derive(Debug, Clone, Copy, Default)]
struct Faults {
    drop: u64,
    duplicate: u64,
    /// Held back until the next one was delivered.
    swap: u64,
    corrupt: u64,
    refuse: u64,
    /// Acknowledged, and dropped all the same.
    lie: u64,
    /// Acknowledged 200 ms late.
    late: u64,
    /// Acknowledged twice.
    again: u64,
    /// With it an acknowledgement of a message that was never sent.
    stray: u64,
}

/// See [`Faults::late`].
const LATE: Duration = Duration::from_millis(200);

impl Faults {
    /// Read from the options of the system, so that the engine passes them through as it does for others.
    fn of(target: &Target) -> Self {
        let every = |key: &str| target.options.get(key).and_then(serde_json::Value::as_u64).unwrap_or(0);
        Self {
            drop: every("drop"),
            duplicate: every("duplicate"),
            swap: every("swap"),
            corrupt: every("corrupt"),
            refuse: every("refuse"),
            lie: every("lie"),
            late: every("late"),
            again: every("again"),
            stray: every("stray"),
        }
    }
}

fn hits(every: u64, sequence: u64) -> bool {
    every > 0 && sequence % every == every - 1
}

type Mail = (Vec<u8>, u32);

#[derive(Debug, Default)]
struct Room {
    /// (workload, group, member) and where its messages go.
    ears: Vec<(Seat, UnboundedSender<Mail>)>,
    /// All that was sent, for those who read from the first message.
    stored: BTreeMap<usize, Vec<Vec<u8>>>,
    turn: usize,
}

/// See the module.
#[derive(Debug)]
pub struct Fake {
    faults: Faults,
    workloads: Vec<Workload>,
    room: Arc<Mutex<Room>>,
    facts: Facts,
    incidents: Incidents,
}

impl Driver for Fake {
    type Producer = FakeProducer;
    type Consumer = FakeConsumer;

    async fn prepare(target: Target, workloads: &[Workload]) -> Result<Self, DriverError> {
        let delivery = target.options.get("delivery").and_then(|v| serde_json::from_value(v.clone()).ok());
        let delivery = delivery.unwrap_or(Delivery::AtLeastOnce);
        let guarantees = Guarantees {
            delivery: Stated::new(delivery, format!("{delivery:?}")),
            order: Stated::new(Order::Producer, "per producer"),
            ..Guarantees::default()
        };
        Ok(Self {
            faults: Faults::of(&target),
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
    async fn producer(&self, seat: Seat) -> Result<FakeProducer, DriverError> {
        let durable = self.workloads[seat.workload].delivery.durable;
        let (acks_in, acks) = unbounded_channel();
        let room = Arc::clone(&self.room);
        Ok(FakeProducer { faults: self.faults, seat, durable, room, held: None, acks_in, acks })
    }
    async fn consumer(&self, seat: Seat, start: Start) -> Result<FakeConsumer, DriverError> {
        let (send, mail) = unbounded_channel();
        let mut room = self.room.lock().unwrap_or_else(PoisonError::into_inner);
        if start == Start::First {
            for message in room.stored.get(&seat.workload).into_iter().flatten() {
                let _ = send.send((message.clone(), 1));
            }
        }
        room.ears.push((seat, send.clone()));
        let limit = self.workloads[seat.workload].delivery.max_deliver;
        Ok(FakeConsumer { again: send, mail, limit })
    }
    async fn cleanup(self) -> Result<(), DriverError> {
        Ok(())
    }
}

/// Its sending side.
#[derive(Debug)]
pub struct FakeProducer {
    faults: Faults,
    seat: Seat,
    durable: bool,
    room: Arc<Mutex<Room>>,
    held: Option<Vec<u8>>,
    acks_in: UnboundedSender<u64>,
    acks: UnboundedReceiver<u64>,
}

impl FakeProducer {
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

    fn deliver(&self, message: &[u8]) {
        let mut room = self.room.lock().unwrap_or_else(PoisonError::into_inner);
        if self.durable {
            room.stored.entry(self.seat.workload).or_default().push(message.to_vec());
        }
        room.turn += 1;
        let turn = room.turn;
        let mut groups: BTreeMap<u32, Vec<&UnboundedSender<Mail>>> = BTreeMap::new();
        for (seat, ear) in room.ears.iter().filter(|(seat, _)| seat.workload == self.seat.workload) {
            groups.entry(seat.group).or_default().push(ear);
        }
        for members in groups.values() {
            let _ = members[turn % members.len()].send((message.to_vec(), 1));
        }
    }
}

impl Producer for FakeProducer {
    fn confirms(&self) -> bool {
        self.durable
    }
    async fn send(&mut self, out: Outgoing<'_>) -> Result<(), DriverError> {
        let f = self.faults;
        if hits(f.refuse, out.token) {
            return Err(DriverError::Refused { words: "as told".into() });
        }
        if self.durable && !hits(f.drop, out.token) {
            self.acknowledge(out.token);
        }
        if hits(f.drop, out.token) || hits(f.lie, out.token) {
            return Ok(());
        }
        let mut message = out.payload.to_vec();
        if hits(f.corrupt, out.token) {
            let last = message.len() - 1;
            message[last] ^= 1;
        }
        if hits(f.swap, out.token) {
            self.held = Some(message);
            return Ok(());
        }
        self.deliver(&message);
        if hits(f.duplicate, out.token) {
            self.deliver(&message);
        }
        if let Some(held) = self.held.take() {
            self.deliver(&held);
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
        if let Some(held) = &self.held {
            self.deliver(held);
        }
        Ok(())
    }
}

/// Its receiving side.
#[derive(Debug)]
pub struct FakeConsumer {
    again: UnboundedSender<Mail>,
    mail: UnboundedReceiver<Mail>,
    limit: u32,
}

impl Consumer for FakeConsumer {
    async fn receive(&mut self, sink: &mut impl Sink, limit: usize) -> Result<(), DriverError> {
        let first = self.mail.recv().await;
        // Other threads send meanwhile: what comes after the stamp is left for the next call.
        let here = self.mail.len();
        let at = now();
        let rest = (0..here.min(limit.saturating_sub(1))).map_while(|_| self.mail.try_recv().ok());
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
