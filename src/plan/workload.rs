//! One stream of messages: who sends, who receives, what is promised of each message.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{AgentRoles, Load, Payload};
use crate::units::{Bytes, Span};

/// One stream of messages with its producers and consumers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Workload {
    /// Unique within the case; prefixes its metrics when a case has several.
    pub name: String,
    /// The pattern asked for; `topology` is what it means.
    pub pattern: Pattern,
    /// Who sends and who receives.
    pub topology: Topology,
    /// When messages are due.
    pub load: Load,
    /// What is in them.
    pub payload: Payload,
    /// What is asked of the system beyond passing them on.
    #[serde(default)]
    pub delivery: DeliverySpec,
    /// The service that it drives. Messages are the bytes of the payload alone, and its answers are
    /// counted; what is in them is not checked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<ServiceTarget>,
    /// To which servers of the system its clients connect; any where nothing is said.
    #[serde(default, skip_serializing_if = "Places::is_empty")]
    pub at: Places,
    /// Clients without rights that try all the while to publish to it and to read from it.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub intruders: u32,
    /// Connections to its system that are open all the while and carry nothing.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub idle_connections: u32,
    /// Which agents run its clients, where agents do.
    #[serde(default, skip_serializing_if = "AgentRoles::is_empty")]
    pub agents: AgentRoles,
}

fn is_zero(n: &u32) -> bool {
    *n == 0
}

/// Somebody who has no right to the messages of a trial, and how he connects.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Intruder {
    /// What he lacks, in a few words; shown.
    pub name: String,
    /// The options that he connects with, instead of those of the trial's clients.
    pub client: serde_json::Map<String, serde_json::Value>,
    /// Whether he may connect, publish and subscribe, in a place of his own: then only a message
    /// that crosses over counts.
    pub isolated: bool,
}

/// Names of servers of a system that clients connect to. Clients take them in turn; none: any
/// server.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", default)]
pub struct Places {
    /// Those of producers (requesters, for request/reply).
    pub producers: Vec<String>,
    /// Those of consumers (responders), by group and member.
    pub consumers: Vec<String>,
}

impl Places {
    /// Whether clients connect to any server.
    pub fn is_empty(&self) -> bool {
        self.producers.is_empty() && self.consumers.is_empty()
    }
}

fn in_turn(places: &[String], index: u32) -> Option<&str> {
    let turn = (index as usize).checked_rem(places.len())?;
    places.get(turn).map(String::as_str)
}

/// A service that somebody else runs, and how it is asked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged, rename_all_fields = "kebab-case")]
pub enum ServiceTarget {
    /// It is the key-value store of another workload of the case, and requests get its keys.
    Bucket {
        /// The name of that workload.
        bucket: String,
    },
    /// It answers requests on a subject of NATS.
    Subject {
        /// The subject.
        subject: String,
    },
    /// It reads requests from a topic of Kafka and answers to another.
    Topic {
        /// The topic of the requests.
        topic: String,
        /// The topic of the answers.
        reply_topic: String,
        /// The header of a request that its answer brings back unchanged.
        correlation_header: String,
    },
}

impl std::fmt::Display for ServiceTarget {
    /// Where it is asked: the subject, or the topic.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Subject { subject: place } | Self::Topic { topic: place, .. } | Self::Bucket { bucket: place } => {
                f.write_str(place)
            }
        }
    }
}

impl Workload {
    /// Whether each of its messages is a client that comes and goes.
    pub fn connects(&self) -> bool {
        self.pattern == Pattern::Connect
    }

    /// Whether its requests get keys of a key-value store.
    pub fn gets(&self) -> bool {
        matches!(self.target, Some(ServiceTarget::Bucket { .. }))
    }

    /// The service that somebody else runs and that it drives.
    pub fn service(&self) -> Option<&ServiceTarget> {
        self.target.as_ref().filter(|_| !self.gets())
    }

    /// The place that a producer connects to.
    pub fn producer_at(&self, index: u32) -> Option<&str> {
        in_turn(&self.at.producers, index)
    }

    /// The place that a member of a group of consumers connects to.
    pub fn consumer_at(&self, group: u32, index: u32) -> Option<&str> {
        in_turn(&self.at.consumers, group.wrapping_mul(self.topology.members).wrapping_add(index))
    }

    /// What the consumers of a group are there for.
    pub fn role(&self, group: u32) -> Role {
        let slow = self.delivery.slow.map_or(0, |s| s.consumers);
        match () {
            () if self.delivery.backlog > 0 && group + 1 == self.topology.groups => Role::CatchUp,
            () if group < slow => Role::Slow,
            () => Role::Tail,
        }
    }
}

/// What the consumers of a group are there for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Role {
    /// They read what is being published, as it comes.
    Tail,
    /// The same, but they take their time over each message.
    Slow,
    /// They read what was stored from the first message on, while publishing goes on.
    CatchUp,
}

impl Role {
    /// The name in a record.
    pub fn name(self) -> &'static str {
        match self {
            Self::Tail => "tail",
            Self::Slow => "slow",
            Self::CatchUp => "catch-up",
        }
    }
}

/// What a workload asks of the system beyond passing its messages on.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub struct DeliverySpec {
    /// Messages are stored by the broker, which acknowledges each to its producer; consumers can
    /// read them again.
    pub durable: bool,
    /// Messages stored before the measured phase; the last group reads them from the first on. 0:
    /// there is none.
    pub backlog: u64,
    /// From the start of the measured phase until the backlog begins to be read.
    pub replay_after: Span,
    /// What messages are keyed with; messages of one key keep their order.
    pub keys: Keys,
    /// Every n-th message is rejected at its first delivery. 0: none.
    pub reject_every: u64,
    /// Every n-th message is rejected whenever it is delivered, until it is a dead letter. 0: none.
    pub dead_every: u64,
    /// Deliveries of one message before it is a dead letter. 0: without limit.
    pub max_deliver: u32,
    /// Consumers that take their time.
    pub slow: Option<SlowConsumers>,
    /// Values that the store keeps of each key, where it is a key-value store: an update that a
    /// watcher misses because so many later ones of its key came first is superseded, not lost. 0:
    /// there is none.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub history: u32,
    /// What the broker is to keep of the messages; what it has kept when the load is over is read
    /// and held against it. None: nothing is said, and nothing looked at.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keep: Option<Keep>,
    /// Members of the first group that events bring, and that are not there before.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub late_members: u32,
}

/// What a broker is to keep of what it has stored: all of it where no limit is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct Keep {
    /// Messages that are younger.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub age: Option<Span>,
    /// The newest so many bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bytes: Option<Bytes>,
    /// The newest so many messages.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub messages: Option<u64>,
    /// The newest so many values of each key.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub per_key: Option<u32>,
    /// How soon the rest must be gone when the load is over. Default: 10s.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub within: Option<Span>,
}

impl Keep {
    /// How soon the rest must be gone.
    pub fn within(&self) -> Span {
        self.within.unwrap_or(Span::secs(10))
    }

    /// How many limits are written.
    pub fn limits(&self) -> usize {
        let all = [self.age.is_some(), self.bytes.is_some(), self.messages.is_some(), self.per_key.is_some()];
        all.into_iter().filter(|written| *written).count()
    }
}

impl std::fmt::Display for Keep {
    /// `messages of the last 5s`, `the newest 4MiB`, ...
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match *self {
            Self { age: Some(age), .. } => write!(f, "messages of the last {age}"),
            Self { bytes: Some(bytes), .. } => write!(f, "the newest {bytes}"),
            Self { messages: Some(n), .. } => write!(f, "the newest {n} messages"),
            Self { per_key: Some(1), .. } => f.write_str("the last value of each key"),
            Self { per_key: Some(n), .. } => write!(f, "the last {n} values of each key"),
            _ => f.write_str("every message"),
        }
    }
}

/// Consumers that take their time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct SlowConsumers {
    /// How many of the consumers (groups) are slow.
    pub consumers: u32,
    /// What each of them does with a message, as time.
    pub think: Span,
}

/// What messages are keyed with.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Keys {
    /// Nothing: messages are spread over the channels in turn.
    #[default]
    None,
    /// So many keys, in turn.
    RoundRobin(u32),
    /// So many keys, each equally likely.
    Uniform(u32),
    /// Keys of unequal weight: key k of n has weight 1 / k^exponent.
    Zipf {
        /// How many keys.
        n: u32,
        /// 0 is uniform, 1 is the classical law.
        exponent: f64,
    },
}

impl Keys {
    /// How many keys there are; 0 when messages have none.
    pub fn count(&self) -> u32 {
        match *self {
            Self::None => 0,
            Self::RoundRobin(n) | Self::Uniform(n) | Self::Zipf { n, .. } => n,
        }
    }
}

/// The messaging patterns by their usual names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Pattern {
    /// One producer (by default), every consumer receives every message.
    FanOut,
    /// Several producers, one consumer (by default).
    FanIn,
    /// Several producers, every consumer receives every message.
    MToN,
    /// Consumers compete: each message goes to one of them.
    QueueGroup,
    /// Requesters wait for the answer of one responder.
    RequestReply,
    /// Messages are stored and acknowledged, every consumer follows the end of the stream.
    Stream,
    /// A stream with a backlog, that one more consumer reads from the first message on while
    /// publishing continues.
    Replay,
    /// Producers put values of keys into a store, every consumer watches all keys and sees each
    /// update.
    KeyValue,
    /// Clients come and go: each message is one client that connects, subscribes, publishes it,
    /// receives it, and is gone.
    Connect,
}

impl Pattern {
    /// Whether its messages are always stored by the broker, which acknowledges each.
    pub fn stored(self) -> bool {
        matches!(self, Self::Stream | Self::Replay | Self::KeyValue)
    }
    /// The name in a scenario.
    pub fn name(self) -> &'static str {
        match self {
            Self::FanOut => "fan-out",
            Self::FanIn => "fan-in",
            Self::MToN => "m-to-n",
            Self::QueueGroup => "queue-group",
            Self::RequestReply => "request-reply",
            Self::Stream => "stream",
            Self::Replay => "replay",
            Self::KeyValue => "key-value",
            Self::Connect => "connect",
        }
    }
}

/// Who sends and who receives: every pattern is `producers` writing to `channels`, read by `groups`
/// of `members`.
///
/// Each group receives every message once; the members of a group share them. Fan-out to four is
/// four groups of one, four competing consumers are one group of four. Responders are one group of
/// `members`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Topology {
    /// Connections that publish (requesters, for request/reply).
    pub producers: u32,
    /// Subjects, topics or partitions that messages are spread over in turn.
    pub channels: u32,
    /// Independent sets of consumers, each of which receives everything.
    pub groups: u32,
    /// Consumers that share the messages of a group.
    pub members: u32,
    /// Whether consumers answer each message and the producer waits for the answer.
    pub reply: bool,
}

impl Topology {
    /// What the latency of its messages is called, where the system delivers them to consumers or
    /// does not: that of an answer, of an arrival, or of an acknowledgement where nobody receives.
    pub fn latency_name(&self, delivers: bool) -> &'static str {
        match (delivers && (self.groups > 0 || self.reply), self.reply) {
            (false, _) => "ack",
            (true, true) => "rtt",
            (true, false) => "e2e",
        }
    }
    /// All consumers of all groups.
    pub fn consumers(&self) -> u32 {
        self.groups * self.members
    }
}
