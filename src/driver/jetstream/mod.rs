//! NATS JetStream through async-nats: stored messages, acknowledged to producers, acknowledged by
//! consumers.
//!
//! # Scope
//! Each workload has a stream of its own, made in `prepare`, read back, and removed in `cleanup`;
//! one with a limit of deliveries has a second for its dead letters. A group of consumers is one
//! durable consumer that its members share. Ordered consumers belong to their connection alone.
//! # Design
//! Administration is JSON on `$JS.API` (`api`); what moves messages (`produce`, `consume`) is plain
//! publish and subscribe of the client, because its JetStream layer allocates a future, an inbox or
//! a timer for each message.
//! # Rejected
//! Reading configurations into a client's types: fields that they do not know would not be in the
//! record.

mod answer;
mod api;
mod batch;
mod connect;
mod consume;
mod copy;
mod dead;
mod domain;
mod facts;
mod flow;
mod interest;
mod options;
mod priority;
mod produce;
mod setup;
mod stream;
mod transform;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, PoisonError};

use async_nats::Subject;
use tokio::task::AbortHandle;

use super::nats::intrude::intrude;
use super::nats::link::{BufferArena, NatsLink, headers};
use super::nats::listener::{Listener, MessageCount};
use super::nats::options::ConnectionOptions;
use super::nats::outbox::Outbox;
use super::nats::{CLIENT, basics, fits};
use super::{
    ClientSlot, ConnectAttempt, ConnectSteps, Driver, DriverError, Facts, Guarantees, HandOver, IdleConnection,
    Incidents, Intrusion, IntrusionOutcome, Keeping, Order, Start, Stated, Target,
};
use crate::plan::Workload;
use crate::plan::options::OptionSet;
use crate::units::Nanos;
use api::{ConsumerName, ConsumerRequest, call};
use consume::{Acknowledger, StreamConsumer, SubscriptionRole};
use dead::DeadLetters;
use facts::acknowledgement;
use flow::ConsumeFlow;
use interest::{await_stream, refused_by_all};
pub(super) use options::JetstreamOptions;
use options::{ConsumeMode, DeadLetterMode, PublishMode, Retention};
use produce::{AckTracker, StreamProducer};
use stream::WorkloadStream;
use transform::StreamTransformer;

#[derive(Debug)]
pub struct JetstreamDriver {
    target: Target,
    connection: ConnectionOptions,
    workloads: Vec<Workload>,
    /// The stream of each workload.
    streams: Vec<WorkloadStream>,
    link: NatsLink,
    facts: Facts,
    incidents: Incidents,
    /// Workloads and groups whose consumer exists.
    made: tokio::sync::Mutex<BTreeSet<(usize, u32)>>,
    /// What runs on the control thread while load runs.
    tasks: Mutex<Vec<AbortHandle>>,
    /// Those that copy messages to the streams that consumers read.
    transformers: Vec<StreamTransformer>,
    /// How often what is kept was read.
    rereads: AtomicU32,
}

impl JetstreamDriver {
    fn dead_subject(&self, workload: usize, group: u32) -> String {
        format!("mbd.{:08x}.{workload}.{group}", self.target.run)
    }

    /// A consumer of a stream, which is that of the workload, with options of its own.
    async fn consumer_of(
        &self,
        stream: &WorkloadStream,
        slot: ClientSlot,
        start: Start,
    ) -> Result<StreamConsumer, DriverError> {
        let (run, ClientSlot { workload, group, index }) = (self.target.run, slot);
        let w = &self.workloads[workload];
        let (options, filter) = (&stream.options, stream.filter());
        let target = self.target.at(w.consumer_at(group, index))?;
        let link = NatsLink::open(&target, &self.connection, &self.incidents, "msgbench-consumer").await?;
        let inbox = format!("mbi.{run:08x}.{workload}.{group}.{index}.");
        let mut sources = vec![(SubscriptionRole::Inbox, link.subscribe(format!("{inbox}>"), None).await?)];
        let name = ConsumerName { stream: stream.read(), consumer: format!("g{group}") };
        let shared = w.topology.members > 1 && options.consumer() != ConsumeMode::Ordered;
        // The server looks for a subscription to this very subject: one with a wildcard would not
        // do.
        let own = if shared { String::new() } else { format!(".{index}") };
        let deliver = format!("mbp.{run:08x}.{workload}.{group}{own}");
        if matches!(options.consumer(), ConsumeMode::Push | ConsumeMode::Ordered) {
            let subscriber = link.subscribe(deliver.clone(), shared.then(|| name.consumer.clone())).await?;
            sources.insert(0, (SubscriptionRole::Deliver, subscriber));
        }
        let max_deliver = w.delivery.max_deliver;
        let dead = (max_deliver > 0).then(|| DeadLetters {
            stream: name.stream.clone(),
            api: stream.api.clone(),
            subject: Subject::from(self.dead_subject(workload, group)),
            terminate: (options.dead_letters == DeadLetterMode::Term).then_some(max_deliver),
            remove: options.retention == Retention::WorkQueue,
            open: BTreeMap::new(),
        });
        if dead.is_some() {
            let advisory = format!("$JS.EVENT.ADVISORY.{}", name.verb("CONSUMER.MAX_DELIVERIES"));
            sources.push((SubscriptionRole::Advisory, link.subscribe(advisory, Some("dead".into())).await?));
        }
        let mut flow = ConsumeFlow::new(&name, &inbox, &deliver, stream, (index, shared), link.again());
        let start = setup::start(stream, start);
        if let Some(name) = flow.ordered() {
            let request = ConsumerRequest {
                deliver: Some((&deliver, None)),
                filter: filter.as_ref(),
                ..ConsumerRequest::new(&name, options, start)
            };
            let made =
                call(&link, &stream.api, "make a consumer", &name.verb("CONSUMER.CREATE"), &request.body()).await?;
            flow.begun(&made);
        } else {
            let mut made = self.made.lock().await;
            if !made.contains(&(workload, group)) {
                let request = ConsumerRequest {
                    max_deliver,
                    deliver: (options.consumer() == ConsumeMode::Push)
                        .then(|| (deliver.as_str(), shared.then_some(name.consumer.as_str()))),
                    filter: filter.as_ref(),
                    ..ConsumerRequest::new(&name, options, start)
                };
                call(&link, &stream.api, "make a consumer", &name.verb("CONSUMER.CREATE"), &request.body()).await?;
                made.insert((workload, group));
            }
        }
        let acks = Acknowledger::new(options.ack(), &options.backoff);
        let (out, account) = (Outbox::default(), MessageCount::open(&link, workload));
        Ok(StreamConsumer { link, sources, inbox, flow, acks, dead, out, account })
    }
}

impl Driver for JetstreamDriver {
    type Producer = StreamProducer;
    type Consumer = StreamConsumer;
    const STORES: bool = true;

    fn joins(_: &Workload) -> Result<(), &'static str> {
        Ok(())
    }

    fn options() -> Vec<OptionSet> {
        vec![
            OptionSet::of::<ConnectionOptions>(ConnectionOptions::check),
            OptionSet::of::<JetstreamOptions>(JetstreamOptions::check)
                .suiting(|options, workloads| JetstreamOptions::from_options(options)?.suit(workloads)),
        ]
    }

    async fn prepare(target: Target, workloads: &[Workload]) -> Result<Self, DriverError> {
        let incidents = Incidents::default();
        let wrong = |words| DriverError::Option { words };
        let connection = ConnectionOptions::of(&target).map_err(wrong)?;
        let options = JetstreamOptions::from_options(&target.options).map_err(wrong)?;
        options.suit(workloads).map_err(wrong)?;
        let link = NatsLink::open(&target, &connection, &incidents, "msgbench-admin").await?;
        fits(&link, &connection, workloads)?;
        let (version, settings) = basics(&link, &connection, &target);
        let facts = Facts { version, client: CLIENT.into(), settings, ..Facts::default() };
        let made = tokio::sync::Mutex::default();
        let streams = WorkloadStream::all(target.run, workloads, &options);
        let workloads = workloads.to_vec();
        let (tasks, transformers, rereads) = (Mutex::default(), Vec::new(), AtomicU32::new(0));
        let mut it =
            Self { target, connection, workloads, streams, link, facts, incidents, made, tasks, transformers, rereads };
        // All have the same options, but for what a bucket has by default.
        let options = it.streams.first().map_or(options, |s| s.options.clone());
        it.facts.guarantees = Guarantees {
            delivery: options.delivery(),
            order: Stated::new(Order::Stream, "per stream, but for redelivery"),
            acknowledgement: acknowledgement(&options),
            durability: Stated::default(),
        };
        let unknown = "unknown: give the server's monitoring port as option `monitor`";
        if let (Some(stream), Some(w)) = (it.streams.first(), it.workloads.first()) {
            let headers = it.connection.headers > 0 || options.message_ttl.is_some() || options.exactly_once;
            let keyed = w.delivery.keys.count() > 0;
            it.facts.keeping = Keeping { segment: 0, overhead: stream.overhead(keyed, headers) };
        }
        it.facts.settings.insert("sync_interval".into(), unknown.into());
        it.facts.settings.extend(options.domain.clone().map(|domain| ("domain".to_owned(), domain)));
        if let Err(error) = it.set_up().await {
            // What was made before the error goes; that this may fail as well adds nothing to the
            // error.
            let _ = it.remove().await;
            return Err(error);
        }
        Ok(it)
    }
    fn facts(&self) -> &Facts {
        &self.facts
    }
    fn incidents(&self) -> &Incidents {
        &self.incidents
    }

    fn hand_over(&self, workload: usize) -> Option<HandOver> {
        let (link, stream) = (self.link.clone(), self.streams.get(workload)?);
        let (api, verb) = (stream.api.clone(), format!("STREAM.LEADER.STEPDOWN.{}", stream.name));
        let nothing = serde_json::Value::Null;
        Some(Box::pin(async move { call(&link, &api, "hand over the stream", &verb, &nothing).await.map(drop) }))
    }

    fn stored_in(&self, workload: usize) -> Option<(&'static str, String)> {
        Some(("stream", self.streams.get(workload)?.name.clone()))
    }

    fn measured_from(&self, origin: Nanos) {
        // What is done to a stream, and watched of it, is done once.
        if self.target.joins() {
            return;
        }
        let copied = self.streams.iter().filter_map(|s| s.copy().map(|_| (s.read(), s.api.clone())));
        let mut tasks = self.tasks.lock().unwrap_or_else(PoisonError::into_inner);
        tasks.extend(self.pause(origin));
        tasks.extend(copied.map(|copy| copy::follow(self.link.clone(), copy, origin)));
    }

    fn halt(&mut self) {
        let tasks = self.tasks.get_mut().unwrap_or_else(PoisonError::into_inner);
        tasks.drain(..).for_each(|task| task.abort());
        self.transformers.clear();
    }

    async fn producer(&self, slot: ClientSlot) -> Result<StreamProducer, DriverError> {
        let (run, workload, index) = (self.target.run, slot.workload, slot.index);
        let stream = &self.streams[workload];
        let options = &stream.options;
        let target = self.target.at(self.workloads[workload].producer_at(index))?;
        let link = NatsLink::open(&target, &self.connection, &self.incidents, "msgbench-producer").await?;
        let channels = self.workloads[workload].topology.channels;
        let reads = self.reads(workload);
        let prefix = format!("mba.{run:08x}.{workload}.{index}.");
        let mut inbox = link.subscribe(format!("{prefix}>"), None).await?;
        let keyed = stream.puts(index);
        let (asked, unwanted) = match &reads {
            Some(reads) => (reads.first(), None),
            None => (Subject::from(format!("{keyed}0")), Some(refused_by_all())),
        };
        await_stream(&link, &mut inbox, (&asked, &format!("{prefix}open").into()), unwanted.as_ref()).await?;
        let acks = if options.publish == PublishMode::FireAndForget && reads.is_none() {
            None
        } else {
            let batches = stream.batches(index).filter(|_| reads.is_none());
            let patience = options.ack_timeout.map_or(link.timeout, |span| span.duration());
            let limits = (options.in_flight(), patience);
            Some(AckTracker::new(Listener::new(&link, inbox, workload), prefix, limits, batches))
        };
        Ok(StreamProducer {
            link,
            subjects: (0..channels).map(|channel| Subject::from(format!("{}{channel}", stream.prefix))).collect(),
            keyed: keyed.into_bytes(),
            acks,
            reads,
            headers: stream.headers(headers(self.connection.headers)),
            identity: if options.exactly_once { format!("{run:08x}.{index}.") } else { String::new() },
            arena: BufferArena::default(),
        })
    }

    async fn consumer(&self, slot: ClientSlot, start: Start) -> Result<StreamConsumer, DriverError> {
        self.consumer_of(&self.streams[slot.workload], slot, start).await
    }

    async fn reread(&self, workload: usize) -> Result<StreamConsumer, DriverError> {
        let mut stream = self.streams[workload].clone();
        (stream.options.consumer, stream.options.ack) = (Some(ConsumeMode::Ordered), None);
        // A group that there is not otherwise, and a name that was not used before.
        let index = self.rereads.fetch_add(1, Ordering::Relaxed);
        let slot = ClientSlot { workload, group: self.workloads[workload].topology.groups, index };
        self.consumer_of(&stream, slot, Start::First).await.map_err(|error| api::gone(error, &stream.read()))
    }

    async fn intrude(&self, workload: usize, attempt: Intrusion<'_>) -> Result<IntrusionOutcome, DriverError> {
        let prefix = &self.streams[workload].prefix;
        intrude(&self.target, (&format!("{prefix}0"), &format!("{prefix}>")), attempt).await
    }

    async fn connect_once(&self, attempt: ConnectAttempt<'_>) -> Result<ConnectSteps, DriverError> {
        connect::connect_once(self, attempt).await
    }

    async fn idle(&self, slot: ClientSlot) -> Result<IdleConnection, DriverError> {
        let target = self.target.at(self.workloads[slot.workload].producer_at(slot.index))?;
        let link = NatsLink::open(&target, &self.connection, &self.incidents, "msgbench-idle").await?;
        link.idle(format!("mbx.{:08x}.{}.{}", self.target.run, slot.workload, slot.index)).await
    }

    async fn cleanup(mut self) -> Result<(), DriverError> {
        self.transformers.clear();
        self.remove().await
    }
}
