//! Apache Kafka, or what speaks its protocol, through librdkafka.
//!
//! # Background
//! A workload is one topic, its channels are the partitions. Each group of consumers of the
//! topology is a consumer group; request/reply is a second topic with a partition for each
//! requester. A service of others has its two topics already, and each requester reads all of the
//! second one.
//! # Design
//! rdkafka builds librdkafka and administers topics; the measured path calls librdkafka directly
//! (see `native`): the message's token is its opaque, delivery reports and messages are taken in
//! batches, a full client is waited for by its delivery reports, and all waiting is for an eventfd.
//! Every default is librdkafka's or the broker's own unless an option says otherwise, and is read
//! back.
//! # Scope
//! Single messages are redelivered by retry topics (`retry`), because a group has one committed
//! offset for each partition. librdkafka has no share groups (KIP-932): `share` is a consumer of
//! our own for them. Where librdkafka is the limit, `wire` is a producer and `fetch` a consumer in
//! Kafka's own protocol.
//! # Rejected
//! `FutureProducer`: a oneshot for each message, and a sleep of 100 ms on a full queue.
//! `StreamConsumer`: a message a poll.

mod access;
mod admin;
mod choices;
mod connect;
mod consumer;
mod expected;
mod facts;
mod fetch;
mod fit;
mod health;
mod intrude;
mod native;
mod options;
mod partitions;
mod producer;
mod reader;
mod retry;
mod scalar;
mod service;
mod set_up;
mod share;
mod share_groups;
mod streams;
mod transform;
mod wire;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant};

pub use consumer::{KafkaConsumer, PartitionConsumer};
pub use producer::{KafkaProducer, LibraryProducer};

use self::admin::{Admin, TopicFacts};
use self::consumer::ReplyWriter;
use self::expected::ExpectedMembers;
use self::fetch::FetchRules;
use self::health::ConnectionHealth;
use self::native::{ClientKind, NativeClient, QueueSignal};
use self::options::{
    Acks, CommitMode, KafkaOptions, PartitionAssignment, ProducerClient, Transform, without_credentials,
};
use self::partitions::Partitions;
use self::producer::TopicWriter;
use self::reader::BatchReader;
use self::retry::Retries;
use self::service::Correlation;
use self::share_groups::ShareSetUp;
use self::streams::StreamsHop;
use self::transform::Transformer;
use super::{
    ClientSlot, ConnectAttempt, ConnectSteps, Driver, DriverError, Facts, IdleConnection, Incidents, Intrusion,
    IntrusionOutcome, Start, Target,
};
use crate::plan::options::OptionSet;
use crate::plan::{ServiceTarget, Workload};

/// Pause between two looks whether a group has settled.
const POLL: Duration = Duration::from_millis(5);

pub struct KafkaDriver {
    target: Target,
    workloads: Vec<Workload>,
    options: KafkaOptions,
    admin: Admin,
    topics: Vec<TopicFacts>,
    /// Partitions of the topic that the service of a workload answers to.
    answered: BTreeMap<usize, i32>,
    created: Vec<String>,
    groups: Mutex<BTreeMap<(usize, u32), ConsumerGroup>>,
    transformers: Vec<Transformer>,
    streams: Vec<StreamsHop>,
    /// Where consumers are members of share groups.
    share: Option<ShareSetUp>,
    /// Where they are msgbench's own: how they fetch.
    fetches: Option<FetchRules>,
    facts: Facts,
    incidents: Incidents,
}

/// A consumer group as its members come.
#[derive(Default)]
struct ConsumerGroup {
    offsets: Vec<(i32, i64)>,
    members: Vec<Weak<NativeClient>>,
}

/// Where a group began to read, and whether somebody has read since.
struct StartOffsets {
    first: Vec<(i32, i64)>,
    again: bool,
}

impl KafkaDriver {
    fn topic(&self, workload: usize) -> String {
        if let Some(ServiceTarget::Topic { topic, .. }) = &self.workloads[workload].target {
            return topic.clone();
        }
        self.options.existing_topic.clone().unwrap_or_else(|| format!("mb-{:08x}-{workload}", self.target.run))
    }

    fn reply_topic(&self, workload: usize) -> String {
        format!("mb-{:08x}-{workload}-reply", self.target.run)
    }

    /// What consumers read: the topic that is published to, or what a transformer makes of it.
    fn source(&self, workload: usize) -> String {
        let topic = self.topic(workload);
        if self.options.transform().is_some() { format!("{topic}-out") } else { topic }
    }

    fn group(&self, slot: ClientSlot) -> String {
        format!("mb-{:08x}-{}-g{}", self.target.run, slot.workload, slot.group)
    }

    fn health(&self) -> ConnectionHealth {
        ConnectionHealth::new(&without_credentials(&self.target.url), self.target.timeout, &self.incidents)
    }

    fn client(
        &self,
        kind: ClientKind,
        workload: usize,
        more: &[(&str, String)],
    ) -> Result<Arc<NativeClient>, DriverError> {
        let mut settings = self.options.settings(kind, &self.target, &self.workloads[workload])?;
        settings.extend(more.iter().map(|(key, value)| ((*key).to_owned(), value.clone())));
        NativeClient::new(kind, &settings, self.health()).map_err(|words| DriverError::Connect {
            url: without_credentials(&self.target.url),
            words,
            remedy: "correct `system.options`".into(),
        })
    }

    /// A client that reads given partitions and belongs to no group.
    fn alone(&self, workload: usize, group: String, instance: &[(&str, String)]) -> Result<BatchReader, DriverError> {
        let mut more = vec![("group.id", group)];
        more.extend_from_slice(instance);
        Ok(BatchReader::new(self.client(ClientKind::Consumer, workload, &more)?))
    }

    /// Where the group of `slot` begins to read, told to the broker unless it was before.
    fn place(&self, slot: ClientSlot, start: Start) -> Result<StartOffsets, DriverError> {
        let mut groups = self.groups.lock().unwrap_or_else(PoisonError::into_inner);
        let group = groups.entry((slot.workload, slot.group)).or_default();
        let again = !group.offsets.is_empty();
        if !again {
            let topic = self.source(slot.workload);
            group.offsets = self.admin.resolve(&topic, self.topics[slot.workload].partitions, start)?;
            self.admin.position(&self.group(slot), &topic, &group.offsets, self.target.joins())?;
        }
        Ok(StartOffsets { first: group.offsets.clone(), again })
    }

    /// How many members of the group of `slot` are opened here before load starts, and how many
    /// there are then in all.
    fn expected(&self, slot: ClientSlot) -> ExpectedMembers {
        let w = &self.workloads[slot.workload];
        let members = w.topology.members;
        // Those that come later are not waited for.
        let late = if slot.group == 0 { w.delivery.late_members.min(members) } else { 0 };
        let all = (members - late) as usize;
        let here = match &self.target.part {
            None => all,
            // Which ones are late is not known here.
            Some(_) if late > 0 => usize::MAX,
            Some(part) => (0..members).filter(|m| part.consumes(w, slot.group * members + m)).count(),
        };
        ExpectedMembers { here, all }
    }

    /// Joins the group of `slot`; the last member to come waits until all partitions are dealt out.
    /// Where others are members, too, until each of ours has as many as it will have in the end:
    /// who comes last has them when all have.
    async fn join(&self, slot: ClientSlot, start: Start) -> Result<BatchReader, DriverError> {
        let name = self.group(slot);
        let topic = self.source(slot.workload);
        let partitions = self.topics[slot.workload].partitions;
        let expected = self.expected(slot);
        self.place(slot, start)?;
        let instance: Vec<_> =
            self.options.instance(slot.index).map(|i| ("group.instance.id", i)).into_iter().collect();
        let reader = self.alone(slot.workload, name.clone(), &instance)?;
        reader.subscribe(&topic)?;
        let all = {
            let mut groups = self.groups.lock().unwrap_or_else(PoisonError::into_inner);
            let group = groups.entry((slot.workload, slot.group)).or_default();
            group.members.push(Arc::downgrade(reader.client()));
            (group.members.len() == expected.here).then(|| group.members.clone())
        };
        let Some(all) = all else { return Ok(reader) };
        let deadline = Instant::now() + self.target.timeout;
        loop {
            let clients: Vec<_> = all.iter().filter_map(Weak::upgrade).collect();
            let dealt: Vec<usize> = clients.iter().map(|c| BatchReader::assigned(c)).collect();
            let settled = expected.settled(&dealt, partitions as usize);
            // Of a group whose broker deals out the partitions nobody tells how many it has.
            let asks = expected.may_be_early(partitions as usize) && !self.options.broker_deals();
            if settled
                && clients.iter().all(|c| BatchReader::joined(c))
                && (!asks || self.admin.settled_members(&name) == Some(expected.all))
            {
                return Ok(reader);
            }
            for client in &clients {
                client.health().check()?;
            }
            if Instant::now() >= deadline {
                let note_error = reader.client().health().last().map(|w| format!("; {w}")).unwrap_or_default();
                return Err(DriverError::Admin {
                    action: format!("join the group {name}"),
                    url: without_credentials(&self.target.url),
                    words: format!(
                        "{} of {partitions} partitions were dealt out to {} of {} members within {} s{note_error}",
                        dealt.iter().sum::<usize>(),
                        dealt.iter().filter(|n| **n > 0).count(),
                        expected.here,
                        self.target.timeout.as_secs_f64()
                    ),
                    remedy: "raise `run.connect`, or lower the broker's group.initial.rebalance.delay.ms".into(),
                });
            }
            tokio::time::sleep(POLL).await;
        }
    }

    /// Reads this member's share of the partitions, dealt out in turn.
    fn deal(&self, slot: ClientSlot, start: Start) -> Result<BatchReader, DriverError> {
        let topic = self.source(slot.workload);
        let members = self.workloads[slot.workload].topology.members as i32;
        let all = self.admin.resolve(&topic, self.topics[slot.workload].partitions, start)?;
        let mine = all.into_iter().filter(|(p, _)| p % members == slot.index as i32);
        let reader = self.alone(slot.workload, self.group(slot), &[])?;
        reader.assign(&Partitions::of(&topic, mine))?;
        Ok(reader)
    }

    /// The topics that a group tries again from, and gives up into.
    fn retry_topics(&self, workload: usize, group: u32) -> (String, String) {
        let name = format!("mb-{:08x}-{workload}-g{group}", self.target.run);
        (format!("{name}-retry"), format!("{name}-dead"))
    }

    fn retries(&self, slot: ClientSlot) -> Result<Retries, DriverError> {
        let w = &self.workloads[slot.workload];
        let (again, dead) = self.retry_topics(slot.workload, slot.group);
        let members = w.topology.members;
        let alone = [("enable.auto.commit", "false".into())];
        let reader = self.alone(slot.workload, format!("{again}-{}", slot.index), &alone)?;
        let mine = (0..retry::levels(w)).map(|level| ((level * members + slot.index) as i32, 0));
        reader.assign(&Partitions::of(&again, mine))?;
        let client = self.client(ClientKind::Producer, slot.workload, &[])?;
        Retries::new(reader, &client, (&again, &dead), (slot.index, members), w, &self.incidents)
    }

    /// Has a group removed at the end.
    fn note_group(&self, slot: ClientSlot) {
        let mut groups = self.groups.lock().unwrap_or_else(PoisonError::into_inner);
        groups.entry((slot.workload, slot.group)).or_default();
    }

    fn signal(&self) -> Result<QueueSignal, DriverError> {
        QueueSignal::new().map_err(|e| DriverError::Lost { url: "eventfd".into(), words: e.to_string() })
    }
}

impl Driver for KafkaDriver {
    type Producer = KafkaProducer;
    type Consumer = KafkaConsumer;

    const STORES: bool = true;

    fn joins(_: &Workload) -> Result<(), &'static str> {
        Ok(())
    }

    fn options() -> Vec<OptionSet> {
        vec![OptionSet::of::<KafkaOptions>(KafkaOptions::check).suiting(KafkaOptions::suit)]
    }

    async fn prepare(target: Target, workloads: &[Workload]) -> Result<Self, DriverError> {
        let options = KafkaOptions::read(&target)?;
        let incidents = Incidents::default();
        let url = without_credentials(&target.url);
        let health = ConnectionHealth::new(&url, target.timeout, &Incidents::default());
        let admin = Admin::connect(&options.common(&target)?, health, target.timeout)?;
        let mut kafka = Self {
            target,
            workloads: workloads.to_vec(),
            options,
            admin,
            topics: Vec::new(),
            answered: BTreeMap::new(),
            created: Vec::new(),
            groups: Mutex::default(),
            transformers: Vec::new(),
            streams: Vec::new(),
            share: None,
            fetches: None,
            facts: Facts::default(),
            incidents,
        };
        match kafka.set_up().await {
            Ok(()) => Ok(kafka),
            Err(error) => {
                // What came about before the failure is removed; the failure is what the user is
                // told.
                let _ = kafka.admin.remove(&kafka.created, &[]).await;
                Err(error)
            }
        }
    }

    fn facts(&self) -> &Facts {
        &self.facts
    }

    fn incidents(&self) -> &Incidents {
        &self.incidents
    }

    fn kill_producers(&self, away: Duration) -> usize {
        self.transformers.iter().filter(|transformer| transformer.kill(away)).count()
    }

    fn stored_in(&self, workload: usize) -> Option<(&'static str, String)> {
        Some(("topic", self.topic(workload)))
    }

    async fn producer(&self, slot: ClientSlot) -> Result<KafkaProducer, DriverError> {
        if self.options.producers == ProducerClient::Wire {
            return connect::producer(self, slot).await;
        }
        let w = &self.workloads[slot.workload];
        let signal = self.signal()?;
        let (mut replies, mut service) = (None, None);
        if let Some(ServiceTarget::Topic { reply_topic, correlation_header, .. }) = &w.target {
            let partitions = self.answered.get(&slot.workload).copied().unwrap_or_default();
            let group = format!("mb-{:08x}-{}-{}", self.target.run, slot.workload, slot.index);
            let reader = self.alone(slot.workload, group, &[("enable.auto.commit", "false".into())])?;
            // Before the first request: what was answered until now is nobody's of ours.
            let from = self.admin.resolve(reply_topic, partitions, Start::Tail)?;
            reader.assign(&Partitions::of(reply_topic, from))?;
            reader.attach(&signal);
            replies = Some(reader);
            service = Some(Correlation::new(correlation_header, self.target.run, slot.workload, slot.index)?);
        } else if w.topology.reply {
            let topic = self.reply_topic(slot.workload);
            let group = format!("{topic}-{}", slot.index);
            let reader = self.alone(slot.workload, group, &[("enable.auto.commit", "false".into())])?;
            // Nothing is in it yet: a fresh topic starts at 0.
            reader.assign(&Partitions::of(&topic, [(slot.index as i32, 0)]))?;
            reader.attach(&signal);
            replies = Some(reader);
        }
        let client = self.client(ClientKind::Producer, slot.workload, &[])?;
        let writer = TopicWriter::new(client, &self.topic(slot.workload), &self.incidents)?;
        writer.attach(&signal);
        let acknowledged = replies.is_none() && self.options.acks != Acks::None;
        let producer = LibraryProducer { writer, replies, service, acknowledged, unlooked: 0, signal };
        Ok(KafkaProducer::Library(Box::new(producer)))
    }

    async fn consumer(&self, slot: ClientSlot, start: Start) -> Result<KafkaConsumer, DriverError> {
        if let Some(share) = &self.share {
            return self.member(share, slot, start).await;
        }
        if let Some(rules) = &self.fetches {
            return connect::consumer(self, rules, slot, start).await;
        }
        let w = &self.workloads[slot.workload];
        let signal = self.signal()?;
        let grouped = self.options.consumers == PartitionAssignment::Group;
        let reader = if grouped { self.join(slot, start).await? } else { self.deal(slot, start)? };
        reader.attach(&signal);
        let commits = reader.client().new_queue();
        signal.attach(&commits);
        let mut answers = None;
        if w.topology.reply {
            let client = self.client(ClientKind::Producer, slot.workload, &[])?;
            let writer = TopicWriter::new(client, &self.reply_topic(slot.workload), &self.incidents)?;
            writer.attach(&signal);
            answers = Some(ReplyWriter { writer, run: self.target.run, requesters: w.topology.producers, owed: None });
        }
        let retries = if retry::wanted(w) { Some(self.retries(slot)?) } else { None };
        if let Some(retries) = &retries {
            retries.attach(&signal);
        }
        let commit = if grouped { self.options.commit } else { CommitMode::None };
        let incidents = self.incidents.clone();
        let consumer =
            PartitionConsumer { reader, answers, retries, commit, commits, committing: 0, grouped, incidents, signal };
        Ok(KafkaConsumer::Partitions(Box::new(consumer)))
    }

    async fn idle(&self, slot: ClientSlot) -> Result<IdleConnection, DriverError> {
        connect::idle(self, slot).await
    }

    async fn connect_once(&self, attempt: ConnectAttempt<'_>) -> Result<ConnectSteps, DriverError> {
        connect::connect_once(self, attempt).await
    }

    async fn reread(&self, workload: usize) -> Result<KafkaConsumer, DriverError> {
        let topic = self.source(workload);
        let from = self.admin.resolve(&topic, self.topics[workload].partitions, Start::First)?;
        let alone = [("enable.auto.commit", "false".into())];
        let reader = self.alone(workload, format!("{topic}-kept"), &alone)?;
        reader.assign(&Partitions::of(&topic, from))?;
        let signal = self.signal()?;
        reader.attach(&signal);
        let commits = reader.client().new_queue();
        let consumer = PartitionConsumer {
            reader,
            answers: None,
            retries: None,
            commit: CommitMode::None,
            commits,
            committing: 0,
            grouped: false,
            incidents: self.incidents.clone(),
            signal,
        };
        Ok(KafkaConsumer::Partitions(Box::new(consumer)))
    }

    async fn intrude(&self, workload: usize, attempt: Intrusion<'_>) -> Result<IntrusionOutcome, DriverError> {
        intrude::intrude(&self.target, &self.topic(workload), attempt).await
    }

    async fn cleanup(mut self) -> Result<(), DriverError> {
        self.transformers.clear();
        self.streams.clear();
        if self.target.joins() {
            return Ok(());
        }
        let groups = std::mem::take(&mut *self.groups.lock().unwrap_or_else(PoisonError::into_inner));
        let name = |(workload, group)| self.group(ClientSlot { workload, group, index: 0 });
        let mut names: Vec<String> = match groups.is_empty() && self.options.consumers != PartitionAssignment::Assign {
            false => groups.into_keys().map(name).collect(),
            // Their members were elsewhere, if there were any.
            true => {
                let of = |(i, w): (usize, &Workload)| (0..w.topology.groups).map(move |group| (i, group));
                self.workloads.iter().enumerate().flat_map(of).map(name).collect()
            }
        };
        // Members of Kafka Streams do not leave their group; it goes with the broker of the trial.
        if self.options.transform() == Some(Transform::Client) {
            names.extend((0..self.workloads.len()).map(|workload| self.transform_group(workload)));
        }
        // Groups first: a share group whose topic is gone is deleted only after a minute of retries
        // (Kafka 4.4.0).
        let removed = self.admin.remove(&[], &names).await.and(self.admin.remove(&self.created, &[]).await);
        match &self.share {
            Some(share) => removed.and(share.forget().await),
            None => removed,
        }
    }
}

#[cfg(test)]
mod tests;
