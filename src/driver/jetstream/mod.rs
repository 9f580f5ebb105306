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

mod api;
mod consume;
mod dead;
mod flow;
mod options;
mod produce;

use std::collections::{BTreeMap, BTreeSet};

use async_nats::Subject;
use serde_json::Value;

use super::nats::intrude::intrude;
use super::nats::link::{BufferArena, NatsLink, headers};
use super::nats::listener::{Listener, MessageCount};
use super::nats::options::ConnectionOptions;
use super::nats::outbox::Outbox;
use super::nats::{CLIENT, basics, fits};
use super::{
    Acknowledgement, ClientSlot, Driver, DriverError, Durability, Facts, Guarantees, Incidents, Intrusion,
    IntrusionOutcome, Order, Start, Stated, Target,
};
use crate::plan::Workload;
use crate::plan::options::OptionSet;
use api::{ConsumerName, call, limit};
use consume::{Acknowledger, StreamConsumer, SubscriptionRole};
use dead::DeadLetters;
use flow::ConsumeFlow;
pub(super) use options::JetstreamOptions;
use options::{ConsumeMode, PublishMode, Retention};
use produce::{AckTracker, StreamProducer};

#[derive(Debug)]
pub struct JetstreamDriver {
    target: Target,
    connection: ConnectionOptions,
    options: JetstreamOptions,
    workloads: Vec<Workload>,
    link: NatsLink,
    facts: Facts,
    incidents: Incidents,
    /// Workloads and groups whose consumer exists.
    made: tokio::sync::Mutex<BTreeSet<(usize, u32)>>,
}

impl JetstreamDriver {
    fn stream(&self, workload: usize) -> String {
        stream(self.target.run, workload)
    }

    fn dead_subject(&self, workload: usize, group: u32) -> String {
        format!("mbd.{:08x}.{workload}.{group}", self.target.run)
    }

    /// Makes streams and reads back what they became.
    async fn set_up(&mut self) -> Result<(), DriverError> {
        for (i, w) in self.workloads.iter().enumerate() {
            let name = self.stream(i);
            let subjects = format!("mbs.{:08x}.{i}.>", self.target.run);
            let made = create(&self.link, &api::stream(&name, &subjects, &self.options)).await?;
            if w.delivery.max_deliver > 0 {
                let dead = JetstreamOptions {
                    storage: self.options.storage,
                    replicas: self.options.replicas,
                    ..JetstreamOptions::default()
                };
                let subjects = format!("mbd.{:08x}.{i}.>", self.target.run);
                create(&self.link, &api::stream(&format!("{name}_DEAD"), &subjects, &dead)).await?;
            }
            if i == 0 {
                let (durability, settings) = stream_facts(&made["config"]);
                self.facts.guarantees.durability = durability;
                self.facts.settings.extend(settings);
                let probed = self.probe(&name, w).await?;
                self.facts.settings.extend(probed);
            }
        }
        Ok(())
    }

    /// Makes a consumer as those to come, to read back what the server makes of it, and removes it.
    async fn probe(&self, stream: &str, w: &Workload) -> Result<BTreeMap<String, String>, DriverError> {
        let name = ConsumerName { stream: stream.to_owned(), consumer: "probe".into() };
        let pushed = matches!(self.options.consumer, ConsumeMode::Push | ConsumeMode::Ordered);
        let deliver = format!("mbi.{:08x}.probe", self.target.run);
        let deliver = pushed.then_some((deliver.as_str(), None));
        let start = self.start(Start::Tail);
        let request = api::consumer(&name, &self.options, w.delivery.max_deliver, start, deliver);
        let made = call(&self.link, "make a consumer", &name.verb("CONSUMER.CREATE"), &request).await?;
        call(&self.link, "remove a consumer", &name.verb("CONSUMER.DELETE"), &Value::Null).await?;
        let c = &made["config"];
        Ok(BTreeMap::from([
            ("consumer".into(), format!("{:?}", self.options.consumer).to_lowercase()),
            ("ack_policy".into(), c["ack_policy"].as_str().unwrap_or("unknown").into()),
            ("ack_wait".into(), limit(&c["ack_wait"], true)),
            ("max_deliver".into(), limit(&c["max_deliver"], false)),
            ("max_ack_pending".into(), limit(&c["max_ack_pending"], false)),
        ]))
    }

    /// Work queues must be read from the first message on; theirs are empty when they are.
    fn start(&self, start: Start) -> Start {
        if self.options.retention == Retention::WorkQueue { Start::First } else { start }
    }

    async fn remove(&self) -> Result<(), DriverError> {
        let mut result = Ok(());
        for (i, w) in self.workloads.iter().enumerate() {
            let name = self.stream(i);
            let dead = (w.delivery.max_deliver > 0).then(|| format!("{name}_DEAD"));
            for name in [Some(name), dead].into_iter().flatten() {
                let removed = call(&self.link, "remove a stream", &format!("STREAM.DELETE.{name}"), &Value::Null).await;
                // Every stream is tried, and the first failure told.
                result = result.and(removed.map(|_| ()));
            }
        }
        result
    }

    /// The number of messages that a consumer may leave unacknowledged decides how it is told apart
    /// in the record.
    fn acknowledgement(&self) -> Stated<Acknowledgement> {
        let publish = match self.options.publish {
            PublishMode::Async => format!("publish async, at most {} in flight", self.options.in_flight()),
            PublishMode::Sync => "publish sync".into(),
            PublishMode::FireAndForget => "publish without".into(),
        };
        let level = match self.options.publish {
            PublishMode::FireAndForget => Acknowledgement::None,
            // A stream of several replicas acknowledges what a majority has.
            PublishMode::Async | PublishMode::Sync if self.options.replicas > 1 => Acknowledgement::Replicas,
            PublishMode::Async | PublishMode::Sync => Acknowledgement::Leader,
        };
        Stated::new(level, format!("{publish}; consume {}", format!("{:?}", self.options.ack()).to_lowercase()))
    }
}

fn stream(run: u32, workload: usize) -> String {
    format!("MSGBENCH_{run:08x}_{workload}")
}

async fn create(link: &NatsLink, config: &Value) -> Result<Value, DriverError> {
    let name = config["name"].as_str().unwrap_or_default();
    call(link, "make a stream", &format!("STREAM.CREATE.{name}"), config).await
}

/// Where the stream keeps messages, and its settings. How often nats-server syncs files is a
/// setting of its own.
fn stream_facts(c: &Value) -> (Stated<Durability>, BTreeMap<String, String>) {
    let word = |key: &str| c[key].as_str().unwrap_or("unknown").to_owned();
    let replicas = c["num_replicas"].to_string();
    let copies = if replicas == "1" { "1 server".into() } else { format!("{replicas} servers") };
    let level = match c["storage"].as_str() {
        Some("file") => Durability::File,
        Some("memory") => Durability::Memory,
        _ => Durability::Unstated,
    };
    let settings = BTreeMap::from([
        ("storage".into(), word("storage")),
        ("replicas".into(), replicas),
        ("retention".into(), word("retention")),
        ("discard".into(), word("discard")),
        ("max_messages".into(), limit(&c["max_msgs"], false)),
        ("max_bytes".into(), limit(&c["max_bytes"], false)),
        ("max_age".into(), limit(&c["max_age"], true)),
        ("duplicate_window".into(), limit(&c["duplicate_window"], true)),
    ]);
    (Stated::new(level, format!("{} of {copies}", word("storage"))), settings)
}

impl Driver for JetstreamDriver {
    type Producer = StreamProducer;
    type Consumer = StreamConsumer;
    const STORES: bool = true;

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
        let (version, settings) = basics(&link, &connection);
        let facts = Facts { version, client: CLIENT.into(), settings, ..Facts::default() };
        let made = tokio::sync::Mutex::default();
        let workloads = workloads.to_vec();
        let mut it = Self { target, connection, options, workloads, link, facts, incidents, made };
        it.facts.guarantees = Guarantees {
            delivery: it.options.delivery(),
            order: Stated::new(Order::Stream, "per stream, but for redelivery"),
            acknowledgement: it.acknowledgement(),
            durability: Stated::default(),
        };
        let unknown = "unknown: give the server's monitoring port as option `monitor`";
        it.facts.settings.insert("sync_interval".into(), unknown.into());
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

    async fn producer(&self, slot: ClientSlot) -> Result<StreamProducer, DriverError> {
        let (run, workload, index) = (self.target.run, slot.workload, slot.index);
        let target = self.target.at(self.workloads[workload].producer_at(index))?;
        let link = NatsLink::open(&target, &self.connection, &self.incidents, "msgbench-producer").await?;
        let base = format!("mbs.{run:08x}.{workload}.");
        let channels = self.workloads[workload].topology.channels;
        let acks = if self.options.publish == PublishMode::FireAndForget {
            None
        } else {
            let prefix = format!("mba.{run:08x}.{workload}.{index}.");
            let inbox = link.subscribe(format!("{prefix}*"), None).await?;
            Some(AckTracker::new(Listener::new(&link, inbox, workload), prefix, self.options.in_flight()))
        };
        Ok(StreamProducer {
            link,
            subjects: (0..channels).map(|channel| Subject::from(format!("{base}{channel}"))).collect(),
            keyed: format!("{base}key.").into_bytes(),
            acks,
            headers: headers(self.connection.headers),
            identity: if self.options.exactly_once { format!("{run:08x}.{index}.") } else { String::new() },
            arena: BufferArena::default(),
        })
    }

    async fn consumer(&self, slot: ClientSlot, start: Start) -> Result<StreamConsumer, DriverError> {
        let (run, ClientSlot { workload, group, index }) = (self.target.run, slot);
        let w = &self.workloads[workload];
        let target = self.target.at(w.consumer_at(group, index))?;
        let link = NatsLink::open(&target, &self.connection, &self.incidents, "msgbench-consumer").await?;
        let inbox = format!("mbi.{run:08x}.{workload}.{group}.{index}.");
        let mut sources = vec![(SubscriptionRole::Inbox, link.subscribe(format!("{inbox}>"), None).await?)];
        let name = ConsumerName { stream: self.stream(workload), consumer: format!("g{group}") };
        let shared = w.topology.members > 1;
        // The server looks for a subscription to this very subject: one with a wildcard would not
        // do.
        let own = if shared { String::new() } else { format!(".{index}") };
        let deliver = format!("mbp.{run:08x}.{workload}.{group}{own}");
        if matches!(self.options.consumer, ConsumeMode::Push | ConsumeMode::Ordered) {
            let subscriber = link.subscribe(deliver.clone(), shared.then(|| name.consumer.clone())).await?;
            sources.insert(0, (SubscriptionRole::Deliver, subscriber));
        }
        let max_deliver = w.delivery.max_deliver;
        let dead = (max_deliver > 0).then(|| DeadLetters {
            stream: name.stream.clone(),
            subject: Subject::from(self.dead_subject(workload, group)),
            remove: self.options.retention == Retention::WorkQueue,
            open: BTreeMap::new(),
        });
        if dead.is_some() {
            let advisory = format!("$JS.EVENT.ADVISORY.{}", name.verb("CONSUMER.MAX_DELIVERIES"));
            sources.push((SubscriptionRole::Advisory, link.subscribe(advisory, Some("dead".into())).await?));
        }
        let flow = ConsumeFlow::new(&name, &inbox, &deliver, &self.options);
        let start = self.start(start);
        if let Some(name) = flow.ordered() {
            let request = api::consumer(&name, &self.options, 1, start, Some((&deliver, None)));
            call(&link, "make a consumer", &name.verb("CONSUMER.CREATE"), &request).await?;
        } else {
            let mut made = self.made.lock().await;
            if !made.contains(&(workload, group)) {
                let to = (self.options.consumer == ConsumeMode::Push)
                    .then(|| (deliver.as_str(), shared.then_some(name.consumer.as_str())));
                let request = api::consumer(&name, &self.options, max_deliver, start, to);
                call(&link, "make a consumer", &name.verb("CONSUMER.CREATE"), &request).await?;
                made.insert((workload, group));
            }
        }
        let acks = Acknowledger::new(self.options.ack(), &self.options.backoff);
        let (out, account) = (Outbox::default(), MessageCount::open(&link, workload));
        Ok(StreamConsumer { link, sources, inbox, flow, acks, dead, out, account })
    }

    async fn intrude(&self, workload: usize, attempt: Intrusion<'_>) -> Result<IntrusionOutcome, DriverError> {
        let base = format!("mbs.{:08x}.{workload}", self.target.run);
        intrude(&self.target, (&format!("{base}.0"), &format!("{base}.>")), attempt).await
    }

    async fn cleanup(self) -> Result<(), DriverError> {
        self.remove().await
    }
}
