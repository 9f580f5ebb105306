//! What Kafka promises with these settings, read back from the broker and from the client.

use std::collections::BTreeMap;

use super::KafkaDriver;
use super::admin::TopicFacts;
use super::fetch::FetchRules;
use super::native::ClientKind;
use super::options::{
    Acks, CommitMode, ExactlyOnce, PartitionAssignment, ProducerClient, Transform, without_credentials,
};
use super::{retry, wire};
use crate::driver::{Acknowledgement, Delivery, DriverError, Durability, Facts, Guarantees, Keeping, Order, Stated};
use crate::plan::{ServiceTarget, Workload};

/// The topic's settings that bear on guarantees or speed.
const TOPIC: [&str; 9] = [
    "min.insync.replicas",
    "flush.messages",
    "flush.ms",
    "retention.ms",
    "retention.bytes",
    "segment.bytes",
    "cleanup.policy",
    "max.message.bytes",
    "unclean.leader.election.enable",
];
/// The producer's, and the consumer's.
const PRODUCER: [&str; 16] = [
    "acks",
    "enable.idempotence",
    "compression.type",
    "linger.ms",
    "batch.size",
    "batch.num.messages",
    "queue.buffering.max.messages",
    "max.in.flight",
    "partitioner",
    "reconnect.backoff.ms",
    "reconnect.backoff.max.ms",
    "retry.backoff.ms",
    "topic.metadata.refresh.fast.interval.ms",
    "socket.connection.setup.timeout.ms",
    "socket.timeout.ms",
    "request.timeout.ms",
];
const CONSUMER: [&str; 7] = [
    "group.protocol",
    "isolation.level",
    "fetch.wait.max.ms",
    "fetch.min.bytes",
    "queued.min.messages",
    "partition.assignment.strategy",
    "session.timeout.ms",
];
/// Bytes of a record beside key and value (format 2): its lengths and deltas, at least; and with a
/// key of 8 bytes and the head of a batch of its own, at most.
const OVERHEAD: (u64, u64) = (7, 100);
/// Kafka's way of writing "never".
const NEVER: &str = "9223372036854775807";

impl KafkaDriver {
    /// Refuses what the topic cannot take, before any load.
    pub(super) fn admissible(&self, name: &str, w: &Workload, found: &TopicFacts) -> Result<(), DriverError> {
        let refuse = |action: String, words: String, remedy: &str| DriverError::Admin {
            action,
            url: without_credentials(&self.target.url),
            words,
            remedy: remedy.into(),
        };
        let channels = w.topology.channels;
        if found.partitions < channels as i32 {
            return Err(refuse(
                format!("use {channels} partitions of {name}"),
                format!("it has {}", found.partitions),
                "lower `channels`, or give the topic more partitions",
            ));
        }
        let largest = w.payload.size.largest().0;
        if let Some(limit) = found.settings.get("max.message.bytes").and_then(|v| v.parse::<u64>().ok())
            && largest > limit
        {
            return Err(refuse(
                format!("send messages of {largest} B to {name}"),
                format!("its max.message.bytes is {limit}"),
                "make the payload smaller, or raise max.message.bytes of the topic",
            ));
        }
        Ok(())
    }

    /// What is promised, and with which settings.
    pub(super) fn read_back(&self) -> Result<Facts, DriverError> {
        let topic = self.topics.first().cloned().unwrap_or_default();
        let mut all = BTreeMap::new();
        let mut say = |key: &str, value: String| drop(all.insert(key.to_owned(), value));
        self.of_topic(&topic, &mut say);
        say("brokers", self.admin.brokers()?.to_string());
        self.of_consumers(&topic, &mut say);
        for (key, value) in self.share.iter().flat_map(|s| &s.settings) {
            say(&format!("group {key}"), value.clone());
        }
        self.of_clients(&mut say)?;
        let (_, library) = rdkafka::util::get_rdkafka_version();
        Ok(Facts {
            version: "Apache Kafka protocol".to_owned(),
            client: self.client_words(&library),
            guarantees: self.guarantees(&topic),
            settings: all,
            keeping: Keeping {
                segment: topic.settings.get("segment.bytes").and_then(|v| v.parse().ok()).unwrap_or_default(),
                overhead: OVERHEAD,
            },
        })
    }

    /// Which client does what.
    fn client_words(&self, library: &str) -> String {
        let own = [
            (self.share.is_some(), "share groups"),
            (self.options.producers == ProducerClient::Wire, "producers"),
            (self.options.consumers == PartitionAssignment::Wire, "consumers"),
        ];
        let own: Vec<&str> = own.into_iter().filter(|(is, _)| *is).map(|(_, what)| what).collect();
        match own.as_slice() {
            [] => format!("librdkafka {library}"),
            own => format!("librdkafka {library}; {} by msgbench {}", own.join(" and "), env!("CARGO_PKG_VERSION")),
        }
    }

    /// What producers of msgbench's own are set to.
    fn of_wire(&self, say: &mut impl FnMut(&str, String)) {
        let rules = self.options.batch_rules();
        let settings = [
            ("acks", rules.acks.to_string()),
            ("enable.idempotence", "false".into()),
            ("compression.type", "none".into()),
            ("linger.ms", (rules.linger as f64 / 1e6).to_string()),
            ("batch.size", rules.size.to_string()),
            ("queue.buffering.max.messages", wire::MOST.to_string()),
            ("max.in.flight", wire::IN_FLIGHT.to_string()),
        ];
        settings.into_iter().for_each(|(key, value)| say(&format!("producer {key}"), value));
    }

    fn guarantees(&self, topic: &TopicFacts) -> Guarantees {
        let o = &self.options;
        let delivery = match (o.exactly_once, o.acks) {
            (Some(ExactlyOnce::Transactional), _) => {
                Stated::new(Delivery::ExactlyOnce, "exactly once from input to output topic, by transactions")
            }
            (None, Acks::None) => Stated::new(Delivery::AtMostOnce, "at most once"),
            (None, _) if o.idempotence => {
                Stated::new(Delivery::AtLeastOnce, "at least once; the log of a partition has each message once")
            }
            (None, _) => Stated::new(Delivery::AtLeastOnce, "at least once"),
        };
        let acknowledgement = match o.acks {
            Acks::None => Stated::new(Acknowledgement::None, "none (acks=0)"),
            Acks::Leader => Stated::new(Acknowledgement::Leader, "by the leader of the partition (acks=1)"),
            Acks::All => {
                let least = topic.settings.get("min.insync.replicas").map_or("?", String::as_str);
                let words = format!("by all in-sync replicas, at least {least} (acks=all)");
                Stated::new(Acknowledgement::Replicas, words)
            }
        };
        let flush = |key: &str| topic.settings.get(key).map_or("?", String::as_str);
        let durability = match (flush("flush.messages"), flush("flush.ms")) {
            (NEVER, NEVER) => {
                let words = "page cache: the broker syncs when it likes, replicas stand in for the disk";
                Stated::new(Durability::File, words)
            }
            ("?", _) | (_, "?") => Stated::new(Durability::Unstated, "not told by the broker"),
            ("1", NEVER) => Stated::new(Durability::SyncedFirst, "synced every 1 messages"),
            (messages, NEVER) => Stated::new(Durability::Synced, format!("synced every {messages} messages")),
            (NEVER, ms) => Stated::new(Durability::Synced, format!("synced every {ms} ms")),
            (messages, ms) => {
                let level = if messages == "1" { Durability::SyncedFirst } else { Durability::Synced };
                Stated::new(level, format!("synced every {messages} messages or {ms} ms"))
            }
        };
        let order = match self.share {
            None if o.keeps_order() => Stated::new(Order::Partition, "per producer and partition"),
            None => Stated::new(
                Order::PartitionUnlessResent,
                "per producer and partition, unless a request is sent again (no idempotence)",
            ),
            Some(_) => Stated::new(Order::Unpromised, "none: members take messages of one partition in turn"),
        };
        Guarantees { delivery, order, acknowledgement, durability }
    }

    fn of_topic(&self, topic: &TopicFacts, say: &mut impl FnMut(&str, String)) {
        let o = &self.options;
        let by = match o.transform() {
            Some(Transform::Client) => Some("by msgbench with librdkafka, one thread"),
            Some(Transform::Streams) => Some("by Kafka Streams, one thread, a process of its own"),
            None => None,
        };
        if let Some(by) = by {
            say("transform", by.into());
        }
        if o.exactly_once.is_some() {
            let (size, interval) = (o.transaction_size, o.transaction_interval);
            let each = match o.transform() {
                Some(Transform::Streams) => format!("exactly_once_v2, {interval} each"),
                _ => format!("up to {size} messages or {interval} each"),
            };
            say("transactions", format!("{each}; consumers read {}", o.isolation.setting()));
        }
        if let Some(w) = self.workloads.iter().find(|w| retry::wanted(w)) {
            let limit = match w.delivery.max_deliver {
                0 => String::new(),
                n => format!(", {n} deliveries, then a dead-letter topic"),
            };
            let words = match &self.share {
                None => format!("by consumers, from a retry topic of their group{limit}"),
                Some(share) if share.writes_dead_letters() => format!("by the broker{limit} of the group"),
                Some(_) => format!("by the broker{}", limit.replace("then a dead-letter topic", "then archived")),
            };
            say("redelivery", words);
        }
        if let Some(ServiceTarget::Topic { topic, reply_topic, correlation_header }) =
            self.workloads.iter().find_map(|w| w.target.as_ref())
        {
            say("service", format!("asked in {topic}, answers in {reply_topic}, header {correlation_header}"));
        }
        say("partitions", topic.partitions.to_string());
        say("replicas", topic.replicas.to_string());
        say("in-sync replicas", topic.in_sync.to_string());
        for key in TOPIC {
            if let Some(value) = topic.settings.get(key) {
                let value = if value == NEVER { "never" } else { value };
                say(&format!("topic {key}"), value.to_owned());
            }
        }
        if let Some(codec) = topic.settings.get("compression.type") {
            say("topic compression.type", codec.clone());
        }
    }

    fn of_consumers(&self, topic: &TopicFacts, say: &mut impl FnMut(&str, String)) {
        let o = &self.options;
        let consumers = match o.consumers {
            PartitionAssignment::Assign => "partitions assigned by msgbench",
            PartitionAssignment::Group => "in consumer groups",
            PartitionAssignment::Share => "in share groups",
            PartitionAssignment::Wire => "one in a group, all partitions, without the group protocol",
        };
        say("consumers", consumers.into());
        let members = self.workloads[0].topology.members;
        if members as i32 > topic.partitions && o.consumers != PartitionAssignment::Share {
            let (idle, busy) = (members as i32 - topic.partitions, topic.partitions);
            say("idle consumers", format!("{idle} of {members} in a group: there are {busy} partitions"));
        }
        let commit = match o.commit {
            _ if o.consumers == PartitionAssignment::Assign => "none",
            _ if o.consumers == PartitionAssignment::Share => "each message is acknowledged, with the next fetch",
            CommitMode::Auto => "automatic",
            CommitMode::Sync => "after each batch, waited for",
            CommitMode::Async => "after each batch, not waited for",
            CommitMode::None => "none",
        };
        say("commit", commit.into());
    }

    /// What the client library itself says of its settings; those that the scenario gives it raw
    /// come last.
    fn of_clients(&self, say: &mut impl FnMut(&str, String)) -> Result<(), DriverError> {
        if let Some(protocol) = self.options.common(&self.target)?.get("security.protocol") {
            say("tls", if protocol.contains("ssl") { "on" } else { "off" }.into());
            say("security.protocol", protocol.clone());
        }
        let clients =
            [(ClientKind::Producer, "producer", PRODUCER.as_slice()), (ClientKind::Consumer, "consumer", &CONSUMER)];
        let wire = self.options.producers == ProducerClient::Wire;
        if wire {
            self.of_wire(say);
        }
        for (kind, name, mut keys) in clients {
            if wire && kind == ClientKind::Producer {
                continue;
            }
            if self.options.consumers == PartitionAssignment::Wire && kind == ClientKind::Consumer {
                keys = &FetchRules::SETTINGS;
            }
            let client = self.client(kind, 0, &[("group.id", "mb-read-back".into())])?;
            for key in keys {
                if let Some(value) = client.setting(key) {
                    say(&format!("{name} {key}"), value);
                }
            }
        }
        self.options.raw().for_each(|(key, value)| say(&key, value));
        Ok(())
    }
}
