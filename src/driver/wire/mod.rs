//! NATS core messaging without a client library: the protocol written and read by hand, one buffer
//! each way.
//!
//! # Background
//! A client library costs more for a message than a good broker does. With `client = "wire"` a user
//! can saturate a large server from a small machine, and, by running the same scenario with both
//! clients, see what the library costs.
//! # Design
//! The messages of a producer stand in memory as they go out, are stamped in place and written from
//! there, when there are enough of them or when nothing more is due; where that would take too much
//! room they are gathered in one buffer. What arrives is parsed where it was read and given to the
//! sink without a copy. Nothing is allocated for a message.
//! # Rejected
//! A task for reading and a channel between (as async-nats has): a wake-up and a copy for each
//! message.
//!
//! Speaks plain TCP with user and password, or a token. No TLS, NKeys, headers or reconnecting: a
//! lost connection ends the trial, as it should where every message is counted.

mod connection;
mod frames;

use std::collections::BTreeMap;

use connection::{ServerFrame, WireConnection};
use frames::{FULL, FrameRing, append};

use super::nats::core;
use super::nats::interest::InterestBarrier;
use super::nats::intrude::intrude;
use super::nats::link::without_secrets;
use super::nats::options::ConnectionOptions;
use super::{
    ClientSlot, Confirmation, ConnectAttempt, ConnectSteps, Consumer, Disposition, Driver, DriverError, Facts,
    IdleConnection, Incidents, Incoming, Intrusion, IntrusionOutcome, MessageSink, Outgoing, Producer, Start, Target,
};
use crate::plan::options::OptionSet;
use crate::plan::{Load, Workload};
use crate::units::{Nanos, SECOND, now};

/// A connection that only publishes looks for the server's PING so often; a server waits minutes
/// for the answer.
const LOOK: Nanos = SECOND;

#[derive(Debug)]
pub struct WireDriver {
    target: Target,
    workloads: Vec<Workload>,
    facts: Facts,
    incidents: Incidents,
    interest: InterestBarrier,
}

impl WireDriver {
    async fn open(&self, name: &str, place: Option<&str>) -> Result<WireConnection, DriverError> {
        let target = self.target.at(place)?;
        Ok(WireConnection::open(&target, &self.incidents, name).await?.0)
    }
    fn subject(&self, slot: ClientSlot, channel: u32) -> Vec<u8> {
        format!("mb.{:08x}.{}.{channel}", self.target.run, slot.workload).into_bytes()
    }
}

impl Driver for WireDriver {
    type Producer = WireProducer;
    type Consumer = WireConsumer;

    fn joins(_: &Workload) -> Result<(), &'static str> {
        Ok(())
    }

    fn options() -> Vec<OptionSet> {
        vec![OptionSet::of::<ConnectionOptions>(ConnectionOptions::check)]
    }

    async fn prepare(target: Target, workloads: &[Workload]) -> Result<Self, DriverError> {
        let incidents = Incidents::default();
        let (_, info) = WireConnection::open(&target, &incidents, "msgbench-admin").await?;
        let largest = workloads.iter().map(|w| w.payload.size.largest().0).max().unwrap_or(0);
        if largest > info.max_payload {
            return Err(DriverError::Admin {
                action: format!("send messages of {largest} B"),
                url: without_secrets(&target.url),
                words: format!("the server's max_payload is {} B", info.max_payload),
                remedy:
                    "make the payload smaller, or raise max_payload of the server (option `max-payload` where it is \
                         launched)"
                        .into(),
            });
        }
        let name = if info.server_name == "msgbench" || info.go.is_empty() { "NATS protocol" } else { "nats-server" };
        let settings = BTreeMap::from([
            ("client_reconnect".into(), "never".into()),
            ("protocol".into(), format!("NATS {}", info.proto)),
            ("max_payload".into(), format!("{} B", info.max_payload)),
            ("tls".into(), "off".into()),
        ]);
        let client = concat!("msgbench wire ", env!("CARGO_PKG_VERSION")).into();
        let facts = Facts {
            version: format!("{name} {}", info.version),
            client,
            guarantees: core(),
            settings,
            ..Facts::default()
        };
        Ok(Self { target, workloads: workloads.to_vec(), facts, incidents, interest: InterestBarrier::default() })
    }
    fn facts(&self) -> &Facts {
        &self.facts
    }
    fn incidents(&self) -> &Incidents {
        &self.incidents
    }

    async fn producer(&self, slot: ClientSlot) -> Result<WireProducer, DriverError> {
        let w = &self.workloads[slot.workload];
        let topology = w.topology;
        let options = ConnectionOptions::of(&self.target).map_err(|words| DriverError::Option { words })?;
        self.interest.pass(&self.target, &options, &self.incidents, (slot.workload, w)).await?;
        let mut pipe = self.open("msgbench-producer", w.producer_at(slot.index)).await?;
        let mut reply = Vec::new();
        if topology.reply {
            reply = format!("mbr.{:08x}.{}.{}", self.target.run, slot.workload, slot.index).into_bytes();
            pipe.subscribe(&reply, None).await?;
        }
        // `PUB <subject> [reply] `: what follows is the size.
        let head = |channel| {
            let mut head = b"PUB ".to_vec();
            head.extend(self.subject(slot, channel));
            head.push(b' ');
            if topology.reply {
                head.extend(&reply);
                head.push(b' ');
            }
            head
        };
        let heads = (0..topology.channels).map(head).collect();
        let room = frames::ALL / topology.producers.max(1) as usize;
        Ok(WireProducer {
            pipe,
            heads,
            ring: FrameRing::default(),
            room,
            unthrottled: matches!(w.load, Load::Unthrottled { .. }),
            replies: topology.reply,
            looked: now(),
        })
    }

    async fn consumer(&self, slot: ClientSlot, _: Start) -> Result<WireConsumer, DriverError> {
        let w = &self.workloads[slot.workload];
        let topology = w.topology;
        let mut pipe = self.open("msgbench-consumer", w.consumer_at(slot.group, slot.index)).await?;
        let subject = format!("mb.{:08x}.{}.*", self.target.run, slot.workload);
        let group = (topology.members > 1 || topology.reply).then(|| format!("g{}", slot.group));
        pipe.subscribe(subject.as_bytes(), group.as_deref()).await?;
        Ok(WireConsumer { pipe })
    }

    async fn intrude(&self, workload: usize, attempt: Intrusion<'_>) -> Result<IntrusionOutcome, DriverError> {
        let base = format!("mb.{:08x}.{workload}", self.target.run);
        intrude(&self.target, (&format!("{base}.0"), &format!("{base}.*")), attempt).await
    }

    async fn connect_once(&self, attempt: ConnectAttempt<'_>) -> Result<ConnectSteps, DriverError> {
        let ConnectAttempt { workload, producer, number, payload } = attempt;
        let mut pipe = self.open("msgbench-client", self.workloads[workload].producer_at(producer)).await?;
        let connected = now();
        let subject = format!("mbc.{:08x}.{workload}.{producer}.{number}", self.target.run);
        pipe.subscribe(subject.as_bytes(), None).await?;
        let subscribed = now();
        pipe.out.extend(format!("PUB {subject} ").bytes());
        append(&mut pipe.out, payload);
        pipe.write().await?;
        loop {
            match pipe.next()? {
                ServerFrame::Message { payload: (from, to), .. } => {
                    let message = pipe.input[from..to].to_vec();
                    return Ok(ConnectSteps { connected, subscribed, received: pipe.at, message });
                }
                ServerFrame::Need(n) => pipe.fill(n).await?,
                ServerFrame::Other | ServerFrame::Pong => pipe.write().await?,
            }
        }
    }

    async fn idle(&self, slot: ClientSlot) -> Result<IdleConnection, DriverError> {
        let mut pipe = self.open("msgbench-idle", self.workloads[slot.workload].producer_at(slot.index)).await?;
        let subject = format!("mbx.{:08x}.{}.{}", self.target.run, slot.workload, slot.index);
        pipe.subscribe(subject.as_bytes(), None).await?;
        pipe.shrink();
        Ok(Box::pin(async move {
            loop {
                // A PING of the server wants its answer.
                let turn = async {
                    match pipe.next()? {
                        ServerFrame::Need(n) => pipe.fill(n).await,
                        _ => pipe.write().await,
                    }
                };
                if let Err(error) = turn.await {
                    return error;
                }
            }
        }))
    }

    async fn cleanup(self) -> Result<(), DriverError> {
        Ok(())
    }
}

/// Publishes on a connection of its own.
#[derive(Debug)]
pub struct WireProducer {
    pipe: WireConnection,
    heads: Vec<Vec<u8>>,
    ring: FrameRing,
    /// Bytes that the ring may take.
    room: usize,
    unthrottled: bool,
    replies: bool,
    looked: Nanos,
}

impl WireProducer {
    /// Answers the server's PING on a connection that otherwise only publishes.
    fn look(&mut self) -> Result<(), DriverError> {
        let at = now();
        if self.replies || at - self.looked < LOOK {
            return Ok(());
        }
        self.looked = at;
        if self.pipe.take(1)? {
            while !matches!(self.pipe.next()?, ServerFrame::Need(_)) {}
        }
        Ok(())
    }

    async fn write(&mut self) -> Result<(), DriverError> {
        self.look()?;
        self.pipe.write_frames(&mut self.ring).await
    }
}

impl Producer for WireProducer {
    fn confirms(&self) -> bool {
        self.replies
    }

    #[inline]
    async fn send(&mut self, message: Outgoing<'_>) -> Result<(), DriverError> {
        self.pipe.out.extend_from_slice(&self.heads[message.channel as usize]);
        append(&mut self.pipe.out, message.payload);
        if self.pipe.out.len() >= FULL { self.write().await } else { Ok(()) }
    }

    fn keep(&mut self, messages: &[&[u8]]) -> bool {
        let Some(ring) = FrameRing::of(&self.heads, messages, self.room, self.unthrottled) else { return false };
        self.ring = ring;
        true
    }

    #[inline]
    fn kept(&mut self) -> &mut [u8] {
        self.ring.payload()
    }

    #[inline]
    fn send_kept(&mut self) -> bool {
        self.ring.take()
    }

    async fn flush(&mut self) -> Result<(), DriverError> {
        if self.pipe.out.is_empty() && self.ring.is_empty() {
            return Ok(());
        }
        self.write().await
    }

    async fn confirmed(&mut self, sink: &mut impl FnMut(Confirmation<'_>)) -> Result<(), DriverError> {
        if !self.replies {
            return std::future::pending().await;
        }
        let mut given = false;
        loop {
            match self.pipe.next()? {
                ServerFrame::Message { no_responders: true, .. } => sink(Confirmation::Unanswered),
                ServerFrame::Message { payload: (from, to), .. } => {
                    sink(Confirmation::Answered { message: &self.pipe.input[from..to], at: self.pipe.at });
                }
                ServerFrame::Other | ServerFrame::Pong => continue,
                ServerFrame::Need(_) if given => return Ok(()),
                ServerFrame::Need(n) => {
                    self.pipe.write_frames(&mut self.ring).await?;
                    self.pipe.fill(n).await?;
                    continue;
                }
            }
            given = true;
        }
    }

    async fn close(mut self) -> Result<(), DriverError> {
        self.write().await?;
        self.pipe.barrier().await
    }
}

/// Subscribes on a connection of its own.
#[derive(Debug)]
pub struct WireConsumer {
    pipe: WireConnection,
}

impl Consumer for WireConsumer {
    async fn receive(&mut self, sink: &mut impl MessageSink, limit: usize) -> Result<(), DriverError> {
        let mut given = 0;
        while given < limit {
            match self.pipe.next()? {
                ServerFrame::Message { payload: (from, to), reply, .. } => {
                    given += 1;
                    let incoming = Incoming { payload: &self.pipe.input[from..to], at: self.pipe.at, attempt: 0 };
                    if sink.take(incoming) == Disposition::Answer && reply.0 < reply.1 {
                        let pipe = &mut self.pipe;
                        pipe.out.extend_from_slice(b"PUB ");
                        pipe.out.extend_from_slice(&pipe.input[reply.0..reply.1]);
                        pipe.out.push(b' ');
                        append(&mut pipe.out, &pipe.input[from..to]);
                    }
                }
                ServerFrame::Other | ServerFrame::Pong => {}
                ServerFrame::Need(_) if given > 0 => break,
                ServerFrame::Need(n) => {
                    self.pipe.write().await?;
                    self.pipe.fill(n).await?;
                }
            }
        }
        self.pipe.write().await
    }
}
