//! NATS core messaging through async-nats; also the client of the reference broker's router.
//!
//! Every producer and every consumer has a connection of its own: async-nats reads until the socket
//! is empty before it writes, so that a connection that does both starves its writes. Payloads are
//! cut from slabs, one allocation for many messages. Requests carry one constant inbox for each
//! producer; the answer brings the envelope back, so that no table of outstanding requests is
//! needed.

pub(super) mod interest;
pub(super) mod intrude;
pub(super) mod link;
pub(super) mod listener;
pub(super) mod options;
pub(super) mod outbox;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use async_nats::{HeaderMap, Message, StatusCode, Subject};
use bytes::Bytes;
use futures_util::StreamExt;

use super::{
    Acknowledgement, ClientSlot, Confirmation, ConnectAttempt, ConnectSteps, Consumer, Delivery, Disposition, Driver,
    DriverError, Durability, Facts, Guarantees, IdleConnection, Incidents, Incoming, Intrusion, IntrusionOutcome,
    MessageSink, Order, Outgoing, Producer, Start, Stated, Target,
};
use crate::plan::options::OptionSet;
use crate::plan::{ServiceTarget, Workload};
use crate::units::now;
use interest::InterestBarrier;
use intrude::intrude;
use link::{BufferArena, NatsLink, header_bytes, headers};
use listener::Listener;
use options::ConnectionOptions;
use outbox::Outbox;

/// The client library, as facts name it.
pub(super) const CLIENT: &str = "async-nats 0.51";

#[derive(Debug)]
pub struct NatsDriver {
    target: Target,
    options: ConnectionOptions,
    workloads: Vec<Workload>,
    facts: Facts,
    incidents: Incidents,
    interest: InterestBarrier,
}

impl NatsDriver {
    async fn connect(&self, name: &str, place: Option<&str>) -> Result<NatsLink, DriverError> {
        let target = self.target.at(place)?;
        NatsLink::open(&target, &self.options, &self.incidents, name).await
    }
    fn subject(&self, slot: ClientSlot, channel: u32) -> Subject {
        if let Some(ServiceTarget::Subject { subject }) = &self.workloads[slot.workload].target {
            return Subject::from(subject.as_str());
        }
        Subject::from(format!("mb.{:08x}.{}.{channel}", self.target.run, slot.workload))
    }
}

/// What messaging without storage promises, whoever speaks its protocol.
pub(super) fn core() -> Guarantees {
    Guarantees {
        delivery: Stated::new(Delivery::AtMostOnce, "at most once"),
        order: Stated::new(Order::Subscription, "per producer and subscription"),
        acknowledgement: Stated::new(Acknowledgement::None, "none"),
        durability: Stated::new(Durability::None, "none: messages are kept in memory until delivered"),
    }
}

/// What the server says of itself when a client connects, and how the client came in: its version,
/// and settings.
pub(super) fn basics(
    link: &NatsLink,
    options: &ConnectionOptions,
    target: &Target,
) -> (String, BTreeMap<String, String>) {
    let info = link.client.server_info();
    let settings = BTreeMap::from([
        ("protocol".into(), format!("NATS {}", info.proto)),
        ("max_payload".into(), format!("{} B", info.max_payload)),
        ("tls".into(), tls(info.tls_required, options).into()),
        ("client_reconnect".into(), link::pace(target).into()),
        ("authentication".into(), options.authentication().into()),
        ("message_headers".into(), options.headers.to_string()),
    ]);
    let name = if info.server_name == "msgbench" || info.go.is_empty() { "NATS protocol" } else { "nats-server" };
    (format!("{name} {}", info.version), settings)
}

fn tls(required: bool, options: &ConnectionOptions) -> &'static str {
    match (required || options.ca.is_some(), options.cert.is_some()) {
        (false, _) => "off",
        (true, false) => "on: the client verifies the server",
        (true, true) => "on: client and server verify each other",
    }
}

/// Whether the largest message, headers included, is one that the server takes.
pub(super) fn fits(link: &NatsLink, options: &ConnectionOptions, workloads: &[Workload]) -> Result<(), DriverError> {
    let max = link.client.server_info().max_payload as u64;
    let largest = workloads.iter().map(|w| w.payload.size.largest().0).max().unwrap_or(0);
    let headers = header_bytes(headers(options.headers).as_ref());
    if largest + headers <= max {
        return Ok(());
    }
    let with = if headers > 0 { format!(" and {headers} B of headers") } else { String::new() };
    let words = format!("the server's max_payload is {max} B");
    let remedy =
        "make the payload smaller, or raise max_payload of the server (option `max-payload` where it is launched)";
    Err(link.refused(&format!("send messages of {largest} B{with}"), words, remedy))
}

impl Driver for NatsDriver {
    type Producer = NatsProducer;
    type Consumer = NatsConsumer;

    fn joins(_: &Workload) -> Result<(), &'static str> {
        Ok(())
    }

    fn options() -> Vec<OptionSet> {
        vec![OptionSet::of::<ConnectionOptions>(ConnectionOptions::check).suiting(ConnectionOptions::suit)]
    }

    async fn prepare(target: Target, workloads: &[Workload]) -> Result<Self, DriverError> {
        let incidents = Incidents::default();
        let options = ConnectionOptions::of(&target).map_err(|words| DriverError::Option { words })?;
        let link = NatsLink::open(&target, &options, &incidents, "msgbench-admin").await?;
        let (version, settings) = basics(&link, &options, &target);
        fits(&link, &options, workloads)?;
        let facts = Facts { version, client: CLIENT.into(), guarantees: core(), settings, ..Facts::default() };
        Ok(Self {
            target,
            options,
            workloads: workloads.to_vec(),
            facts,
            incidents,
            interest: InterestBarrier::default(),
        })
    }
    fn facts(&self) -> &Facts {
        &self.facts
    }
    fn incidents(&self) -> &Incidents {
        &self.incidents
    }

    async fn producer(&self, slot: ClientSlot) -> Result<NatsProducer, DriverError> {
        let w = &self.workloads[slot.workload];
        self.interest.pass(&self.target, &self.options, &self.incidents, (slot.workload, w)).await?;
        let link = self.connect("msgbench-producer", w.producer_at(slot.index)).await?;
        let topology = w.topology;
        let (mut inbox, mut tokens) = (None, None);
        if w.target.is_some() {
            // Users of a service are often allowed these inboxes only.
            let prefix = format!("_INBOX.mb{:08x}.{}.{}.", self.target.run, slot.workload, slot.index);
            let subscriber = link.subscribe(format!("{prefix}*"), None).await?;
            inbox = Some((Listener::new(&link, subscriber, slot.workload), Subject::from(prefix.as_str())));
            tokens = Some(prefix);
        } else if topology.reply {
            let subject = format!("mbr.{:08x}.{}.{}", self.target.run, slot.workload, slot.index);
            let subscriber = link.subscribe(subject.clone(), None).await?;
            inbox = Some((Listener::new(&link, subscriber, slot.workload), Subject::from(subject)));
        }
        let subjects = (0..topology.channels).map(|channel| self.subject(slot, channel)).collect();
        Ok(NatsProducer {
            link,
            subjects,
            inbox,
            tokens,
            headers: headers(self.options.headers),
            arena: BufferArena::default(),
        })
    }

    async fn consumer(&self, slot: ClientSlot, _: Start) -> Result<NatsConsumer, DriverError> {
        let w = &self.workloads[slot.workload];
        let topology = w.topology;
        let link = self.connect("msgbench-consumer", w.consumer_at(slot.group, slot.index)).await?;
        let subject = format!("mb.{:08x}.{}.*", self.target.run, slot.workload);
        let group = (topology.members > 1 || topology.reply).then(|| format!("g{}", slot.group));
        let subscriber = link.subscribe(subject, group).await?;
        let listener = Listener::new(&link, subscriber, slot.workload);
        Ok(NatsConsumer { link, listener, answers: Outbox::default() })
    }

    async fn intrude(&self, workload: usize, attempt: Intrusion<'_>) -> Result<IntrusionOutcome, DriverError> {
        let base = format!("mb.{:08x}.{workload}", self.target.run);
        intrude(&self.target, (&format!("{base}.0"), &format!("{base}.*")), attempt).await
    }

    async fn connect_once(&self, attempt: ConnectAttempt<'_>) -> Result<ConnectSteps, DriverError> {
        let ConnectAttempt { workload, producer, number, payload } = attempt;
        let link = self.connect("msgbench-client", self.workloads[workload].producer_at(producer)).await?;
        let connected = now();
        let subject = format!("mbc.{:08x}.{workload}.{producer}.{number}", self.target.run);
        let mut own = link.subscribe(subject.clone(), None).await?;
        let subscribed = now();
        let payload = Bytes::copy_from_slice(payload);
        link.publish(Subject::from(subject), None, headers(self.options.headers).as_ref(), payload).await?;
        let message = link.within("receive its own message", own.next()).await?;
        let message = message.ok_or_else(|| link.lost("the subscription ended"))?;
        Ok(ConnectSteps { connected, subscribed, received: now(), message: message.payload.to_vec() })
    }

    async fn idle(&self, slot: ClientSlot) -> Result<IdleConnection, DriverError> {
        let place = self.workloads[slot.workload].producer_at(slot.index);
        let link = self.connect("msgbench-idle", place).await?;
        link.idle(format!("mbi.{:08x}.{}.{}", self.target.run, slot.workload, slot.index)).await
    }

    async fn cleanup(self) -> Result<(), DriverError> {
        Ok(())
    }
}

/// Publishes on a connection of its own.
#[derive(Debug)]
pub struct NatsProducer {
    link: NatsLink,
    subjects: Vec<Subject>,
    inbox: Option<(Listener, Subject)>,
    /// What inboxes begin with where each request has its own, because its answer does not bring
    /// the envelope back.
    tokens: Option<String>,
    headers: Option<HeaderMap>,
    arena: BufferArena,
}

impl Producer for NatsProducer {
    fn confirms(&self) -> bool {
        self.inbox.is_some()
    }

    async fn send(&mut self, message: Outgoing<'_>) -> Result<(), DriverError> {
        let payload = self.arena.cut(message.payload);
        let subject = self.subjects[message.channel as usize].clone();
        let reply = match &self.tokens {
            Some(prefix) => Some(Subject::from(format!("{prefix}{}", message.token))),
            None => self.inbox.as_ref().map(|(_, reply)| reply.clone()),
        };
        self.link.publish(subject, reply, self.headers.as_ref(), payload).await
    }

    async fn flush(&mut self) -> Result<(), DriverError> {
        // The connection's task writes whenever it has nothing to read: there is nothing to push.
        Ok(())
    }

    async fn confirmed(&mut self, sink: &mut impl FnMut(Confirmation<'_>)) -> Result<(), DriverError> {
        let Some((inbox, _)) = &mut self.inbox else {
            return std::future::pending().await;
        };
        self.link.check()?;
        let tokens = self.tokens.as_deref();
        let token = |m: &Message| m.subject.strip_prefix(tokens?)?.parse::<u64>().ok();
        let mut next = inbox.next().await;
        let at = now();
        loop {
            match next {
                Some(m) if m.status == Some(StatusCode::NO_RESPONDERS) => sink(Confirmation::Unanswered),
                Some(m) => match token(&m) {
                    Some(token) => sink(Confirmation::Served { token, bytes: m.payload.len() as u64, at }),
                    None => sink(Confirmation::Answered { message: &m.payload, at }),
                },
                None => return Err(self.link.lost("the inbox ended")),
            }
            match inbox.more() {
                Some(more) => next = more,
                None => return Ok(()),
            }
        }
    }

    async fn close(self) -> Result<(), DriverError> {
        self.link.check()?;
        self.link.client.flush().await.map_err(|e| self.link.lost(e))
    }
}

/// Subscribes on a connection of its own.
#[derive(Debug)]
pub struct NatsConsumer {
    link: NatsLink,
    listener: Listener,
    /// Answers that the client has not taken yet: they outlive the future that made them.
    answers: Outbox,
}

impl Consumer for NatsConsumer {
    async fn receive(&mut self, sink: &mut impl MessageSink, limit: usize) -> Result<(), DriverError> {
        self.link.check()?;
        self.answers.flush(&self.link).await?;
        let mut next = self.listener.next().await;
        let mut at = now();
        for left in (0..limit).rev() {
            let Some(message) = next else { return Err(self.link.lost("the subscription ended")) };
            let disposition = sink.take(Incoming { payload: &message.payload, at, attempt: 0 });
            if let (Disposition::Answer, Some(reply)) = (disposition, message.reply) {
                self.answers.offer(&self.link, reply, None, message.payload)?;
                self.answers.flush(&self.link).await?;
                // It may have waited, and the connection been read meanwhile.
                at = now();
            }
            if left == 0 {
                break;
            }
            match self.listener.more() {
                Some(more) => next = more,
                None => break,
            }
        }
        Ok(())
    }
}
