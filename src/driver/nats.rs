//! NATS core messaging through async-nats; also the client of the reference broker's router.
//!
//! Every producer and every consumer has a connection of its own: async-nats reads until the socket is empty before it
//! writes, so that a connection that does both starves its writes. Payloads are cut from slabs, one allocation for many
//! messages. Requests carry one constant inbox for each producer; the answer brings the envelope back, so that no table
//! of outstanding requests is needed.

use std::collections::BTreeMap;
use std::future::Future;
use std::time::Duration;

use async_nats::{Client, ConnectOptions, Event, StatusCode, Subject, Subscriber};
use bytes::{Bytes, BytesMut};
use futures_util::{FutureExt, StreamExt};

use super::{
    Confirmation, Consumer, Disposition, Driver, DriverError, Facts, Incidents, Incoming, Outgoing, Producer, Seat,
    Sink, Start, Target,
};
use crate::scenario::plan::Workload;
use crate::units::now;

/// Messages that a subscription may hold before async-nats drops them; its default of 65,536 is 0.1 s at high rates.
const SUBSCRIPTION_CAPACITY: usize = 1 << 20;
/// Payloads are cut from allocations of this size.
const SLAB: usize = 256 * 1024;

/// See the module.
#[derive(Debug)]
pub struct Nats {
    target: Target,
    workloads: Vec<Workload>,
    facts: Facts,
    incidents: Incidents,
}

impl Nats {
    async fn connect(&self, name: &str) -> Result<Client, DriverError> {
        connect(&self.target, &self.incidents, name).await
    }
    fn subject(&self, seat: Seat, channel: u32) -> Subject {
        Subject::from(format!("mb.{:08x}.{}.{channel}", self.target.run, seat.workload))
    }
    async fn within<T>(&self, action: &str, work: impl Future<Output = T>) -> Result<T, DriverError> {
        let timeout = self.target.timeout;
        tokio::time::timeout(timeout, work).await.map_err(|_| DriverError::Timeout {
            action: action.into(),
            url: self.target.url.clone(),
            seconds: timeout.as_secs_f64(),
        })
    }
    /// Subscribes, and returns when the server routes to the subscription: a request that nobody answers is a barrier,
    /// because a server treats the commands of one connection in order.
    async fn subscribe(
        &self,
        client: &Client,
        subject: Subject,
        group: Option<String>,
    ) -> Result<Subscriber, DriverError> {
        let failed = |words: String| DriverError::Admin {
            action: "subscribe".into(),
            url: self.target.url.clone(),
            words,
            remedy: "check the permissions of the user".into(),
        };
        let subscriber = match group {
            None => client.subscribe(subject).await.map_err(|e| failed(e.to_string()))?,
            Some(group) => client.queue_subscribe(subject, group).await.map_err(|e| failed(e.to_string()))?,
        };
        let barrier = format!("mb.{:08x}.barrier", self.target.run);
        // "No responders" is the expected answer.
        let _ = self.within("wait for the subscription", client.request(barrier, Bytes::new())).await?;
        Ok(subscriber)
    }
}

async fn connect(target: &Target, incidents: &Incidents, name: &str) -> Result<Client, DriverError> {
    let log = incidents.clone();
    let capacity = target.options.get("subscription-capacity").and_then(|v| v.as_u64());
    let mut options = ConnectOptions::new()
        .name(name)
        .connection_timeout(target.timeout)
        .subscription_capacity(capacity.map_or(SUBSCRIPTION_CAPACITY, |n| n as usize))
        .event_callback(move |event| {
            match event {
                Event::Connected => log.connected(),
                Event::Disconnected => log.disconnected("client disconnected"),
                Event::SlowConsumer(_) => log.client_dropped(1),
                Event::Closed | Event::Draining => {}
                other => log.note(other.to_string()),
            }
            std::future::ready(())
        });
    let text = |key: &str| target.options.get(key).and_then(|v| v.as_str()).map(str::to_owned);
    if let (Some(user), Some(password)) = (text("user"), text("password")) {
        options = options.user_and_password(user, password);
    }
    if let Some(token) = text("token") {
        options = options.token(token);
    }
    if let Some(seed) = text("nkey") {
        options = options.nkey(seed);
    }
    if let Some(ca) = text("ca") {
        options = options.add_root_certificates(ca.into()).require_tls(true);
    }
    let failed = |words: String| DriverError::Connect {
        url: target.url.clone(),
        words,
        remedy: "check that the server runs there and that `system.options` has the right credentials".into(),
    };
    match tokio::time::timeout(target.timeout + Duration::from_secs(1), options.connect(&target.url)).await {
        Ok(Ok(client)) => Ok(client),
        Ok(Err(error)) => {
            let cause = std::error::Error::source(&error).map(|s| format!(": {s}")).unwrap_or_default();
            Err(failed(format!("{error}{cause}")))
        }
        Err(_) => Err(failed(format!("no answer within {} s", target.timeout.as_secs_f64()))),
    }
}

impl Driver for Nats {
    type Producer = NatsProducer;
    type Consumer = NatsConsumer;

    async fn prepare(target: Target, workloads: &[Workload]) -> Result<Self, DriverError> {
        let incidents = Incidents::default();
        let client = connect(&target, &incidents, "msgbench-admin").await?;
        let info = client.server_info();
        let guarantees = BTreeMap::from([
            ("delivery".into(), "at most once".into()),
            ("acknowledgement".into(), "none".into()),
            ("durability".into(), "none: messages are kept in memory until delivered".into()),
            ("order".into(), "per producer and subscription".into()),
            ("max_payload".into(), format!("{} B", info.max_payload)),
            ("tls".into(), info.tls_required.to_string()),
        ]);
        let name = if info.server_name == "msgbench" || info.go.is_empty() { "NATS protocol" } else { "nats-server" };
        let facts = Facts { version: format!("{name} {}", info.version), client: "async-nats 0.51".into(), guarantees };
        let largest = workloads.iter().map(|w| w.payload.size.largest().0).max().unwrap_or(0);
        if largest > info.max_payload as u64 {
            return Err(DriverError::Admin {
                action: format!("send messages of {largest} B"),
                url: target.url,
                words: format!("the server's max_payload is {} B", info.max_payload),
                remedy: "make the payload smaller or raise max_payload of the server".into(),
            });
        }
        Ok(Self { target, workloads: workloads.to_vec(), facts, incidents })
    }
    fn facts(&self) -> &Facts {
        &self.facts
    }
    fn incidents(&self) -> &Incidents {
        &self.incidents
    }

    async fn producer(&self, seat: Seat) -> Result<NatsProducer, DriverError> {
        let client = self.connect("msgbench-producer").await?;
        let topology = self.workloads[seat.workload].topology;
        let mut inbox = None;
        if topology.reply {
            let subject = Subject::from(format!("mbr.{:08x}.{}.{}", self.target.run, seat.workload, seat.index));
            inbox = Some((self.subscribe(&client, subject.clone(), None).await?, subject));
        }
        let subjects = (0..topology.channels).map(|channel| self.subject(seat, channel)).collect();
        let url = self.target.url.clone();
        Ok(NatsProducer {
            client,
            subjects,
            inbox,
            slab: BytesMut::with_capacity(SLAB),
            url,
            incidents: self.incidents.clone(),
        })
    }

    async fn consumer(&self, seat: Seat, _: Start) -> Result<NatsConsumer, DriverError> {
        let client = self.connect("msgbench-consumer").await?;
        let topology = self.workloads[seat.workload].topology;
        let subject = Subject::from(format!("mb.{:08x}.{}.*", self.target.run, seat.workload));
        let group = (topology.members > 1 || topology.reply).then(|| format!("g{}", seat.group));
        let subscriber = self.subscribe(&client, subject, group).await?;
        Ok(NatsConsumer { client, subscriber, url: self.target.url.clone() })
    }

    async fn cleanup(self) -> Result<(), DriverError> {
        Ok(())
    }
}

/// Publishes on a connection of its own.
#[derive(Debug)]
pub struct NatsProducer {
    client: Client,
    subjects: Vec<Subject>,
    inbox: Option<(Subscriber, Subject)>,
    slab: BytesMut,
    url: String,
    incidents: Incidents,
}

impl NatsProducer {
    fn cut(&mut self, message: &[u8]) -> Bytes {
        if self.slab.capacity() - self.slab.len() < message.len() && !self.slab.try_reclaim(SLAB.max(message.len())) {
            self.slab = BytesMut::with_capacity(SLAB.max(message.len()));
        }
        self.slab.extend_from_slice(message);
        self.slab.split().freeze()
    }
}

impl Producer for NatsProducer {
    fn confirms(&self) -> bool {
        self.inbox.is_some()
    }

    async fn send(&mut self, message: Outgoing<'_>) -> Result<(), DriverError> {
        let payload = self.cut(message.payload);
        let subject = self.subjects[message.channel as usize].clone();
        let publish = async {
            match &self.inbox {
                None => self.client.publish(subject, payload).await,
                Some((_, reply)) => self.client.publish_with_reply(subject, reply.clone(), payload).await,
            }
        };
        let mut publish = std::pin::pin!(publish);
        // The first poll succeeds unless the client's queue is full; only then is the wait worth counting.
        let done = match publish.as_mut().now_or_never() {
            Some(done) => done,
            None => {
                self.incidents.backpressure();
                publish.await
            }
        };
        done.map_err(|e| match e.kind() {
            async_nats::PublishErrorKind::Send => DriverError::Lost { url: self.url.clone(), words: e.to_string() },
            _ => DriverError::Refused { words: e.to_string() },
        })
    }

    async fn flush(&mut self) -> Result<(), DriverError> {
        // The connection's task writes whenever it has nothing to read: there is nothing to push.
        Ok(())
    }

    async fn confirmed(&mut self, sink: &mut impl FnMut(Confirmation<'_>)) -> Result<(), DriverError> {
        let Some((inbox, _)) = &mut self.inbox else {
            return std::future::pending().await;
        };
        let mut next = inbox.next().await;
        loop {
            match next {
                Some(m) if m.status == Some(StatusCode::NO_RESPONDERS) => sink(Confirmation::Unanswered),
                Some(m) => sink(Confirmation::Answered { message: &m.payload, at: now() }),
                None => return Err(DriverError::Lost { url: self.url.clone(), words: "the inbox ended".into() }),
            }
            match inbox.next().now_or_never() {
                Some(more) => next = more,
                None => return Ok(()),
            }
        }
    }

    async fn close(self) -> Result<(), DriverError> {
        self.client.flush().await.map_err(|e| DriverError::Lost { url: self.url, words: e.to_string() })
    }
}

/// Subscribes on a connection of its own.
#[derive(Debug)]
pub struct NatsConsumer {
    client: Client,
    subscriber: Subscriber,
    url: String,
}

impl Consumer for NatsConsumer {
    async fn receive(&mut self, sink: &mut impl Sink, limit: usize) -> Result<(), DriverError> {
        let mut next = self.subscriber.next().await;
        for left in (0..limit).rev() {
            let Some(message) = next else {
                return Err(DriverError::Lost { url: self.url.clone(), words: "the subscription ended".into() });
            };
            let disposition = sink.take(Incoming { payload: &message.payload, at: None, attempt: 0 });
            if let (Disposition::Answer, Some(reply)) = (disposition, message.reply) {
                self.client
                    .publish(reply, message.payload)
                    .await
                    .map_err(|e| DriverError::Lost { url: self.url.clone(), words: e.to_string() })?;
            }
            if left == 0 {
                break;
            }
            match self.subscriber.next().now_or_never() {
                Some(more) => next = more,
                None => break,
            }
        }
        Ok(())
    }
}
