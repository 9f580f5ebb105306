//! What a scenario may ask of streams and their consumers, and which of it fits together.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::plan::facts::{Delivery, Stated};
use crate::plan::options::{SystemOptions, read};
use crate::plan::{Pattern, Role, Workload};
use crate::units::{Bytes, Span};

/// Acknowledgements that may be outstanding for one producer: the engine keeps the stamps of so
/// many.
const MAX_IN_FLIGHT: u32 = 1 << 18;
/// Bytes of a second that a server can be told to keep to.
const MIN_RATE: u64 = 1 << 10;
const MAX_RATE: u64 = 1 << 40;
/// The server refuses shorter ones, and a pull ends before it would see a longer one twice.
const MIN_HEARTBEAT: Span = Span::millis(100);
const MAX_HEARTBEAT: Span = Span::secs(15);
/// Messages of a batch that is published, by the server's own limit.
const MAX_PUBLISH_BATCH: u32 = 1000;
/// Messages of one pull.
const MAX_BATCH: u32 = 100_000;

/// The options of the `jetstream` driver, all under these names in `system.options`.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct JetstreamOptions {
    /// The domain of JetStream that has the streams. Default: that of the server where a client is;
    /// "hub" where leaf nodes are launched.
    #[schemars(extend("secret" = "none"))]
    pub domain: Option<String>,
    /// Where messages are kept. Default: "file".
    pub storage: Storage,
    /// Servers that keep each message. Default: 1.
    pub replicas: u32,
    /// When messages go. Default: "limits".
    pub retention: Retention,
    /// What happens at a limit. Default: "old".
    pub discard: Discard,
    /// Messages that a stream keeps. Default: without limit.
    pub max_messages: Option<u64>,
    /// Bytes that a stream keeps. Default: without limit.
    pub max_bytes: Option<Bytes>,
    /// How long a stream keeps a message. Default: without limit.
    pub max_age: Option<Span>,
    /// Messages that a stream keeps of each key. Default: as the workload says, or without limit.
    pub max_messages_per_key: Option<u32>,
    /// How long a message identifier is remembered. Default: the server's, 2 minutes.
    pub duplicate_window: Option<Span>,
    /// How messages are published. Default: "async".
    pub publish: PublishMode,
    /// Messages of a producer that may be unacknowledged, but with "sync". Default: 4096.
    pub in_flight: u32,
    /// With "atomic-batch" and "fast-batch": messages of a batch. Default: 100.
    pub publish_batch: u32,
    /// With "atomic-batch" and "fast-batch": how long a batch that is not full is open at most.
    /// Default: 5ms.
    pub publish_linger: Span,
    /// Who copies messages to another stream, which consumers read. Default: nobody.
    pub transform: Option<StreamTransform>,
    /// Which stream consumers read. Default: "stream".
    pub read_from: ReadFrom,
    /// How messages are consumed. Default: "pull"; "ordered" for the watchers of key-value.
    pub consumer: Option<ConsumeMode>,
    /// Messages that a consumer asks for at once, with "pull" and "fetch". Default: 512.
    pub batch: u32,
    /// How consumers acknowledge. Default: "explicit"; "double" with `exactly-once`; "none" for an
    /// ordered consumer.
    pub ack: Option<AckMode>,
    /// How long a producer that may have no more on their way waits for an acknowledgement, before
    /// it gives up what is on its way and goes on. Default: `run.connect`.
    pub ack_timeout: Option<Span>,
    /// How long the server waits for an acknowledgement. Default: the server's, 30 seconds.
    pub ack_wait: Option<Span>,
    /// Deliveries that a consumer may leave unacknowledged. Default: the server's, 1000.
    pub max_ack_pending: Option<u32>,
    /// With "pull" and "fetch": which consumer of a group is served first. Server 2.11 or later.
    /// Default: none.
    pub priority_policy: Option<PriorityPolicy>,
    /// With "pinned-client": after how long without a request of the pinned consumer another one is
    /// pinned. Default: the server's, 2 minutes.
    pub priority_timeout: Option<Span>,
    /// With "overflow": messages that wait before all but the first consumer of a group are served.
    /// Default: none.
    pub min_pending: Option<u64>,
    /// With "overflow": unacknowledged messages before all but the first consumer of a group are
    /// served. Default: none.
    pub min_ack_pending: Option<u64>,
    /// With "push" and "ordered": bytes per second that the server sends to a consumer. Default:
    /// without limit.
    pub rate_limit: Option<Bytes>,
    /// With "push": whether the server waits for a client that does not keep up. Default: true,
    /// where no group shares the consumer.
    pub flow_control: Option<bool>,
    /// How often the server says that it is there while it has no message. Default: 5s.
    pub idle_heartbeat: Option<Span>,
    /// Waits before the first, second... redelivery; the last one holds for all that follow.
    /// Default: none.
    pub backoff: Vec<Span>,
    /// How long each message is kept, in whole seconds: a header says so (Nats-TTL). Server 2.11 or
    /// later. Default: as `max-age` says.
    pub message_ttl: Option<Span>,
    /// What consumers ask for. Default: "stream".
    pub filter: Filter,
    /// How long consumers are paused when the measured phase begins. Server 2.11 or later. Default:
    /// not at all.
    pub pause_consumers: Option<Span>,
    /// Who says that a message has used up its deliveries. Default: "server".
    pub dead_letters: DeadLetterMode,
    /// Messages carry an identifier that the stream knows again, and acknowledgements are
    /// acknowledged.
    pub exactly_once: bool,
}

impl Default for JetstreamOptions {
    fn default() -> Self {
        Self {
            domain: None,
            storage: Storage::File,
            replicas: 1,
            retention: Retention::Limits,
            discard: Discard::Old,
            max_messages: None,
            max_bytes: None,
            max_age: None,
            max_messages_per_key: None,
            duplicate_window: None,
            publish: PublishMode::Async,
            in_flight: 4096,
            publish_batch: 100,
            publish_linger: Span::millis(5),
            transform: None,
            read_from: ReadFrom::Stream,
            consumer: None,
            batch: 512,
            ack: None,
            ack_timeout: None,
            ack_wait: None,
            max_ack_pending: None,
            priority_policy: None,
            priority_timeout: None,
            min_pending: None,
            min_ack_pending: None,
            rate_limit: None,
            flow_control: None,
            idle_heartbeat: None,
            backoff: Vec::new(),
            message_ttl: None,
            filter: Filter::Stream,
            pause_consumers: None,
            dead_letters: DeadLetterMode::Server,
            exactly_once: false,
        }
    }
}

/// Where messages are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Storage {
    File,
    Memory,
}

/// When messages go.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Retention {
    /// When a limit is reached.
    Limits,
    /// When every consumer has acknowledged them.
    Interest,
    /// When a consumer has acknowledged them.
    WorkQueue,
}

/// What happens at a limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Discard {
    /// The oldest messages go.
    Old,
    /// New messages are refused.
    New,
}

/// How messages are published.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum PublishMode {
    /// Acknowledgements are awaited while others are sent, up to `in-flight`.
    Async,
    /// Each acknowledgement is awaited before the next message is sent.
    Sync,
    /// None is asked for.
    FireAndForget,
    /// In batches that are stored whole or not at all. Server 2.12 or later.
    AtomicBatch,
    /// In batches of which one acknowledgement stands for many messages. Server 2.14 or later.
    FastBatch,
}

/// What consumers ask for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Filter {
    /// All of the stream.
    Stream,
    /// The subjects of the workload, each by its name.
    Subjects,
}

/// Who says that a message has used up its deliveries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum DeadLetterMode {
    /// The server, in an advisory.
    Server,
    /// The consumer, which terminates the message (AckTerm) at its last delivery.
    Term,
}

/// Who copies messages from the stream that is published to into the one that consumers read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum StreamTransform {
    /// A durable consumer of msgbench's own that publishes each message again.
    Client,
}

/// Which stream consumers read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum ReadFrom {
    /// The one that is published to.
    Stream,
    /// A mirror of it.
    Mirror,
    /// A stream that has it as its source.
    Source,
}

/// How messages are consumed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum ConsumeMode {
    /// Asked for ahead of time, so that there is always something asked for.
    Pull,
    /// Asked for batch by batch.
    Fetch,
    /// Sent by the server as it sees fit.
    Push,
    /// Sent by the server without acknowledgement; the client sees gaps and starts again from
    /// there.
    Ordered,
}

/// Which client of a group is served first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum PriorityPolicy {
    /// The first consumer of each group always; the others only above a number of messages.
    Overflow,
    /// One of them until it asks for nothing for `priority-timeout`, then another one.
    PinnedClient,
    /// Of those that wait the first one of the group, then the second one... Server 2.12 or later.
    Prioritized,
}

/// How consumers acknowledge.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum AckMode {
    /// They do not.
    None,
    /// One acknowledgement stands for all messages before it.
    All,
    /// Each message.
    Explicit,
    /// Each message, and the server confirms that it knows.
    Double,
}

impl JetstreamOptions {
    /// Checks the options.
    ///
    /// # Errors
    /// As [`from_options`](Self::from_options).
    pub fn check(options: &SystemOptions) -> Result<(), String> {
        Self::from_options(options).map(drop)
    }

    /// Reads and checks the options. Those of the connection and the server are left alone.
    ///
    /// # Errors
    /// The option that does not fit, and what is allowed.
    pub fn from_options(options: &SystemOptions) -> Result<Self, String> {
        let it: Self = read(options)?;
        for (name, value, max) in [
            ("replicas", it.replicas, 5),
            ("in-flight", it.in_flight, MAX_IN_FLIGHT),
            ("batch", it.batch, MAX_BATCH),
            ("publish-batch", it.publish_batch, MAX_PUBLISH_BATCH),
            ("max-ack-pending", it.max_ack_pending.unwrap_or(1), u32::MAX),
        ] {
            if !(1..=max).contains(&value) {
                return Err(format!("option `{name}`: {value} is not between 1 and {max}"));
            }
        }
        if !(Span::millis(1)..=Span::secs(5)).contains(&it.publish_linger) {
            return Err("option `publish-linger`: must be between 1ms and 5s".to_owned());
        }
        if it.message_ttl.is_some_and(|ttl| ttl.0 < Span::secs(1).0 || ttl.0 % Span::secs(1).0 != 0) {
            return Err("option `message-ttl`: the server knows whole seconds only, from 1s on".to_owned());
        }
        if it.rate_limit.is_some_and(|limit| !(MIN_RATE..=MAX_RATE).contains(&limit.0)) {
            return Err("option `rate-limit`: must be between 1KiB and 1TiB, of a second".to_owned());
        }
        if it.idle_heartbeat.is_some_and(|span| !(MIN_HEARTBEAT..=MAX_HEARTBEAT).contains(&span)) {
            return Err(format!("option `idle-heartbeat`: must be between {MIN_HEARTBEAT} and {MAX_HEARTBEAT}"));
        }
        it.check_domain()?;
        it.check_consumer()?;
        if it.exactly_once {
            if it.publish == PublishMode::FireAndForget {
                return Err(
                    "option `publish`: `exactly-once` needs acknowledged messages; use async or sync".to_owned()
                );
            }
            if it.ack() != AckMode::Double {
                return Err("option `ack`: `exactly-once` needs double; remove it".to_owned());
            }
        }
        Ok(it)
    }

    /// Whether the options fit the way of consuming.
    fn check_consumer(&self) -> Result<(), String> {
        if self.pause_consumers.is_some() && self.consumer() == ConsumeMode::Ordered {
            return Err(
                "option `pause-consumers`: an ordered consumer is not paused; use pull, fetch or push".to_owned()
            );
        }
        let pushed = matches!(self.consumer(), ConsumeMode::Push | ConsumeMode::Ordered);
        if self.rate_limit.is_some() && !pushed {
            return Err("option `rate-limit`: who asks for messages sets the pace; use consumer = push".to_owned());
        }
        if self.flow_control.is_some() && self.consumer() != ConsumeMode::Push {
            return Err("option `flow-control`: only a consumer that is pushed to has the choice; remove it".to_owned());
        }
        if self.consumer() == ConsumeMode::Ordered && self.ack.is_some_and(|ack| ack != AckMode::None) {
            return Err("option `ack`: an ordered consumer acknowledges nothing; remove it".to_owned());
        }
        self.check_priority()
    }

    /// Whether what the workloads ask for can be had with these options.
    ///
    /// # Errors
    /// The option that stands against it.
    pub fn suit(&self, workloads: &[Workload]) -> Result<(), String> {
        for w in workloads {
            let bucket = w.pattern == Pattern::KeyValue;
            if self.transform.is_some() {
                self.suit_transform(w)?;
            }
            if self.read_from != ReadFrom::Stream && (bucket || w.gets()) {
                return Err(format!("option `read-from`: {} is a bucket, which is read itself", w.name));
            }
            if w.delivery.keep.is_some() && (self.read_from != ReadFrom::Stream || self.retention != Retention::Limits)
            {
                let option = if self.read_from != ReadFrom::Stream { "read-from" } else { "retention" };
                return Err(format!("option `{option}`: {} says what its stream is to keep; remove it", w.name));
            }
            if self.read_from != ReadFrom::Stream && self.retention != Retention::Limits {
                return Err("option `retention`: acknowledging a copy removes nothing; use limits".to_owned());
            }
            if bucket && (self.message_ttl.is_some() || self.filter != Filter::Stream) {
                let option = if self.message_ttl.is_some() { "message-ttl" } else { "filter" };
                return Err(format!("option `{option}`: {} is a bucket, of which all keys are watched", w.name));
            }
            if bucket && self.consumer.is_none() {
                let watched = Self { consumer: Some(ConsumeMode::Ordered), ..self.clone() };
                let because = |words| format!("{words}; the watchers of {} are ordered consumers", w.name);
                watched.check_consumer().map_err(because)?;
            }
            if bucket && self.retention != Retention::Limits {
                return Err(format!("option `retention`: {} is a bucket, which has limits; remove it", w.name));
            }
            let rejects = w.delivery.reject_every > 0 || w.delivery.dead_every > 0;
            if rejects && !matches!(self.ack(), AckMode::Explicit | AckMode::Double) {
                return Err(format!("option `ack`: the messages that {} rejects need explicit or double", w.name));
            }
            if w.topology.members > 1 && self.consumer() == ConsumeMode::Ordered {
                return Err(format!(
                    "option `consumer`: the consumers of {} share messages; ordered ones cannot",
                    w.name
                ));
            }
            let readers = (0..w.topology.groups).any(|g| w.role(g) == Role::CatchUp);
            if readers && self.retention != Retention::Limits {
                return Err(format!("option `retention`: {} reads messages again; only limits keeps them", w.name));
            }
            if w.topology.groups > 1 && self.retention == Retention::WorkQueue {
                return Err(format!(
                    "option `retention`: {} has {} groups that each get every message; a work queue has one",
                    w.name, w.topology.groups
                ));
            }
            if self.retention == Retention::WorkQueue && self.ack() == AckMode::None {
                return Err("option `ack`: a work queue needs acknowledgements".to_owned());
            }
            let shared = w.topology.members > 1 && self.consumer() == ConsumeMode::Push;
            if shared && (self.flow_control == Some(true) || self.idle_heartbeat.is_some()) {
                let option = if self.idle_heartbeat.is_some() { "idle-heartbeat" } else { "flow-control" };
                return Err(format!(
                    "option `{option}`: the consumers of {} share what is pushed; the server knows no one of them to ask",
                    w.name
                ));
            }
            let deliveries = w.delivery.max_deliver as usize;
            if deliveries > 0 && self.backoff.len() >= deliveries {
                return Err(format!(
                    "option `backoff`: {} waits are too many for {deliveries} deliveries; give at most {}",
                    self.backoff.len(),
                    deliveries - 1
                ));
            }
        }
        Ok(())
    }

    /// Whether messages of a workload can be copied to another stream.
    fn suit_transform(&self, w: &Workload) -> Result<(), String> {
        let batches = matches!(self.publish, PublishMode::AtomicBatch | PublishMode::FastBatch);
        let against = [
            (w.pattern == Pattern::KeyValue || w.gets(), "is a bucket, which is read itself"),
            (w.delivery.keep.is_some(), "says what is to be kept, and consumers read another stream"),
            (w.connects(), "has clients that publish and read by themselves"),
        ];
        if let Some((_, why)) = against.iter().find(|(is, _)| *is) {
            return Err(format!("option `transform`: {} {why}; remove it", w.name));
        }
        if self.read_from != ReadFrom::Stream || batches {
            let option = if batches { "publish" } else { "read-from" };
            return Err(format!("option `{option}`: it does not go with `transform`; remove one of the two"));
        }
        Ok(())
    }

    /// How messages are consumed, the default filled in.
    pub fn consumer(&self) -> ConsumeMode {
        self.consumer.unwrap_or(ConsumeMode::Pull)
    }

    /// How consumers acknowledge, the default filled in.
    pub fn ack(&self) -> AckMode {
        let default = match (self.consumer(), self.exactly_once) {
            (ConsumeMode::Ordered, _) => AckMode::None,
            (_, true) => AckMode::Double,
            _ => AckMode::Explicit,
        };
        self.ack.unwrap_or(default)
    }

    /// How often the server says at least that it is there.
    pub fn heartbeat(&self) -> Span {
        self.idle_heartbeat.unwrap_or(Span::secs(5))
    }

    /// Messages of a producer that may be unacknowledged.
    pub fn in_flight(&self) -> u64 {
        if self.publish == PublishMode::Sync { 1 } else { self.in_flight.into() }
    }

    /// How often a message arrives: what the ledger is held against.
    pub fn delivery(&self) -> Stated<Delivery> {
        use Delivery::{AtLeastOnce, AtMostOnce, ExactlyOnce};
        let (level, words) = match () {
            () if self.exactly_once => {
                (ExactlyOnce, "exactly once: identifiers in the duplicate window, confirmed acknowledgements")
            }
            () if self.publish == PublishMode::FireAndForget => {
                (AtMostOnce, "at most once: publishers ask for no acknowledgement")
            }
            () if self.consumer() == ConsumeMode::Ordered => {
                (AtLeastOnce, "at least once: acknowledged by the stream, read again from a gap")
            }
            () if self.ack() == AckMode::None => (AtMostOnce, "at most once: consumers do not acknowledge"),
            () => (AtLeastOnce, "at least once: acknowledged by the stream and by consumers"),
        };
        Stated::new(level, words)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn read(value: serde_json::Value) -> Result<JetstreamOptions, String> {
        JetstreamOptions::from_options(value.as_object().unwrap())
    }

    #[test]
    fn defaults_depend_on_what_is_asked_for() {
        let of = |value| read(value).unwrap();
        assert_eq!((of(json!({})).ack(), of(json!({})).in_flight()), (AckMode::Explicit, 4096));
        assert_eq!(of(json!({ "publish": "sync" })).in_flight(), 1);
        assert_eq!(of(json!({ "exactly-once": true })).ack(), AckMode::Double);
        assert_eq!(of(json!({ "consumer": "ordered" })).ack(), AckMode::None);
        assert_eq!(of(json!({ "publish": "fire-and-forget" })).delivery().level, Delivery::AtMostOnce);
        assert_eq!(of(json!({ "ack": "none" })).delivery().level, Delivery::AtMostOnce);
        assert_eq!(of(json!({ "backoff": ["100ms", "1s"] })).delivery().level, Delivery::AtLeastOnce);
    }

    #[test]
    fn mistakes_name_the_option_and_what_is_allowed() {
        for (value, words) in [
            (json!({ "storage": "disk" }), "option `storage`: unknown variant `disk`, expected `file` or `memory`"),
            (json!({ "replicas": 0 }), "option `replicas`: 0 is not between 1 and 5"),
            (
                json!({ "retention": "queue" }),
                "option `retention`: unknown variant `queue`, expected one of `limits`, `interest`, `workqueue`",
            ),
            (
                json!({ "consumer": "ordered", "ack": "all" }),
                "option `ack`: an ordered consumer acknowledges nothing; remove it",
            ),
            (
                json!({ "exactly-once": true, "publish": "fire-and-forget" }),
                "option `publish`: `exactly-once` needs acknowledged messages; use async or sync",
            ),
            (
                json!({ "rate-limit": "1MiB" }),
                "option `rate-limit`: who asks for messages sets the pace; use consumer = push",
            ),
            (
                json!({ "consumer": "push", "rate-limit": "1B" }),
                "option `rate-limit`: must be between 1KiB and 1TiB, of a second",
            ),
            (
                json!({ "consumer": "ordered", "flow-control": false }),
                "option `flow-control`: only a consumer that is pushed to has the choice; remove it",
            ),
            (json!({ "idle-heartbeat": "1ms" }), "option `idle-heartbeat`: must be between 100ms and 15s"),
            (json!({ "exactly-once": true, "ack": "all" }), "option `ack`: `exactly-once` needs double; remove it"),
        ] {
            assert_eq!(read(value).unwrap_err(), words);
        }
    }
}
