//! The plan: a scenario as resolved. Every default is filled in, every name is bound, every number is checked.
//!
//! A plan is plain data: the engine executes it, `check` prints it, and the record stores it beside the scenario
//! as typed, so that a result says exactly what was done.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::gate::{Expectation, Gate};
use crate::units::{Bytes, Rate, SECOND, Span};

/// Bytes of the envelope that every message begins with; no payload can be smaller.
pub const ENVELOPE_BYTES: u32 = 44;

/// What a run will do: all cases, and how often and in which order they are tried.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Plan {
    /// Short name; the folder of the results is called so.
    pub name: String,
    /// The question that the scenario answers.
    pub question: String,
    /// The systems under measurement, in the order they were written.
    pub systems: Vec<SystemSpec>,
    /// System x load point; `Case::system` indexes `systems`.
    pub cases: Vec<Case>,
    /// Trials of each case: the number of rounds.
    pub trials: u32,
    /// Seed of everything random: order of cases, arrivals, sizes, contents. Recorded, so that a run can be repeated.
    pub seed: u64,
    /// The quantiles to report, each in (0, 1), ascending.
    pub percentiles: Vec<f64>,
    /// When a change against a baseline counts as a regression; the defaults where the scenario says nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gate: Option<Gate>,
    /// Absolute limits that the result must keep.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub expect: Vec<Expectation>,
    /// Whether a promise that is not kept is what the scenario expects; otherwise it makes the run fail with exit code 6.
    #[serde(default)]
    pub may_break: bool,
    /// What is done to the processes of launched systems in each trial, by time.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub events: Vec<PlannedEvent>,
}

/// Something that is done to a process of a launched system.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PlannedEvent {
    /// When, since the measured phase began.
    pub at: Span,
    /// What.
    pub action: Action,
    /// To which of its processes, from 0.
    pub node: u32,
}

/// What can be done to a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Action {
    /// It stands still (SIGSTOP).
    Pause,
    /// It goes on (SIGCONT).
    Resume,
    /// It is killed (SIGKILL).
    Kill,
    /// It is asked to end (SIGTERM).
    Terminate,
    /// It is killed, unless it has ended already, and started again on the same port and with the same files.
    Restart,
}

impl Action {
    /// The name in a scenario.
    pub fn name(self) -> &'static str {
        match self {
            Self::Pause => "pause",
            Self::Resume => "resume",
            Self::Kill => "kill",
            Self::Terminate => "terminate",
            Self::Restart => "restart",
        }
    }
    /// Whether the process that was there is gone afterwards.
    pub fn ends(self) -> bool {
        matches!(self, Self::Kill | Self::Terminate | Self::Restart)
    }
}

/// One system under measurement.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct SystemSpec {
    /// Its name in every table; unique within the plan.
    pub name: String,
    /// The adapter that talks to it.
    pub driver: DriverKind,
    /// How it comes up.
    pub bring_up: BringUp,
    /// Whether its absence makes the run fail with exit code 6 rather than be listed as skipped.
    pub require: bool,
    /// Settings of the launched server or of the client, as written; each driver and system documents its own.
    #[serde(default, skip_serializing_if = "serde_json::Map::is_empty")]
    pub options: serde_json::Map<String, serde_json::Value>,
}

/// The drivers there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum DriverKind {
    /// The built-in reference broker: over the NATS protocol, or, where messages are to be stored, over the Kafka protocol.
    Reference,
    /// A NATS server, core messaging.
    Nats,
    /// A NATS server, streams of JetStream.
    Jetstream,
    /// Apache Kafka, or what speaks its protocol.
    Kafka,
    /// One system that is published to, Kafka that is read from, and a forwarder between them.
    Bridge,
    /// Takes and returns every message at once, in process: the floor of the harness.
    Null,
}

impl DriverKind {
    /// The name in a scenario.
    pub fn name(self) -> &'static str {
        match self {
            Self::Reference => "reference",
            Self::Nats => "nats",
            Self::Jetstream => "jetstream",
            Self::Kafka => "kafka",
            Self::Bridge => "bridge",
            Self::Null => "null",
        }
    }

    /// What the workload asks for and systems of this kind do not have, if there is such a thing.
    pub fn lacks(self, w: &Workload) -> Option<&'static str> {
        let d = &w.delivery;
        match self {
            Self::Nats if d.durable => Some("messages are not stored"),
            Self::Nats | Self::Reference if d.reject_every > 0 || d.dead_every > 0 => Some("no redelivery"),
            Self::Jetstream if w.topology.reply => Some("no request/reply on streams"),
            Self::Kafka if d.reject_every > 0 || d.dead_every > 0 => {
                Some("no redelivery of single messages: a consumer group has one committed offset")
            }
            Self::Bridge if w.topology.reply => Some("a bridge brings no answers back"),
            Self::Bridge if d.backlog > 0 => Some("a backlog would have to cross the bridge first"),
            Self::Bridge if d.reject_every > 0 || d.dead_every > 0 => Some("no redelivery of single messages"),
            Self::Null if w.topology.reply || d.backlog > 0 => Some("the null driver delivers nothing"),
            _ => None,
        }
    }
}

/// How a system comes up.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum BringUp {
    /// msgbench starts it, fresh for each trial, and stops it.
    Launch,
    /// It is already running at this URL.
    External {
        /// Where to connect to.
        url: String,
    },
}

/// One system at one load point.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Case {
    /// Unique within the plan and fit for a file name: `nats`, `nats-rate-20k`.
    pub id: String,
    /// Index into `Plan::systems`.
    pub system: usize,
    /// The swept settings that make this load point, as (path, value); empty when nothing is swept.
    pub point: Vec<(String, String)>,
    /// What is driven, all at once.
    pub workloads: Vec<Workload>,
    /// How long each phase lasts.
    pub phases: Phases,
    /// How the generator waits for the next instant.
    pub pacing: Pacing,
    /// Threads of the generator.
    pub threads: Threads,
}

/// The lengths of the phases of a trial.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Phases {
    /// Load is driven and discarded.
    pub warmup: Span,
    /// Load is driven and measured.
    pub measure: Span,
    /// At most so long are outstanding messages waited for afterwards.
    pub drain: Span,
    /// At most so long may a connection, or the start of a server, take.
    pub connect: Span,
    /// Length of one interval of the time series.
    pub interval: Span,
}

/// How the pacer waits for the next intended instant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Pacing {
    /// Spins only where every spinning thread and the broker have a core of their own, otherwise sleeps.
    Auto,
    /// Sleeps on a timerfd until the instant: costs no core, pays the wake-up.
    Sleep,
    /// Never sleeps: exact, and costs one core for each publishing thread.
    Spin,
}

/// Threads of the generator.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Threads {
    /// Threads that publish; producers are dealt out to them.
    pub publish: u32,
    /// Threads that consume; consumers are dealt out to them.
    pub consume: u32,
}

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
    pub delivery: Delivery,
}

impl Workload {
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
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// They read what is being published, as it comes.
    Tail,
    /// The same, but they take their time over each message.
    Slow,
    /// They read what was stored from the first message on, while publishing goes on.
    CatchUp,
}

/// What a workload asks of the system beyond passing its messages on.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub struct Delivery {
    /// Messages are stored by the broker, which acknowledges each to its producer; consumers can read them again.
    pub durable: bool,
    /// Messages stored before the measured phase; the last group reads them from the first on. 0: there is none.
    pub backlog: u64,
    /// From the start of the measured phase until the backlog begins to be read.
    pub replay_after: Span,
    /// What messages are keyed with; messages of one key keep their order.
    pub keys: Keys,
    /// Every so many-th message is rejected at its first delivery. 0: none.
    pub reject_every: u64,
    /// Every so many-th message is rejected whenever it is delivered, until it is a dead letter. 0: none.
    pub dead_every: u64,
    /// Deliveries of one message before it is a dead letter. 0: without limit.
    pub max_deliver: u32,
    /// Consumers that take their time.
    pub slow: Option<Slow>,
}

/// Consumers that take their time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Slow {
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
    /// A stream with a backlog, that one more consumer reads from the first message on while publishing continues.
    Replay,
}

impl Pattern {
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
        }
    }
}

/// Who sends and who receives: every pattern is `producers` writing to `channels`, read by `groups` of `members`.
///
/// Each group receives every message once; the members of a group share them. Fan-out to four is four groups of one,
/// four competing consumers are one group of four. Responders are one group of `members`.
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
    /// All consumers of all groups.
    pub fn consumers(&self) -> u32 {
        self.groups * self.members
    }
}

/// When messages are due.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", tag = "mode")]
pub enum Load {
    /// On an absolute schedule, whatever the system does.
    Open {
        /// The process that places messages along the profile.
        arrivals: Arrivals,
        /// The rate over time, of all producers of the workload together.
        profile: Profile,
    },
    /// As fast as the client takes them. Latencies have no intended time and are service latencies.
    Unthrottled {
        /// Messages that may be on their way, sent and not yet received by all; 0 is without limit. An at-most-once system
        /// without a limit throws away what its consumers cannot take.
        #[serde(default)]
        window: u64,
    },
    /// Each producer keeps so many messages outstanding. Omits what a stall delays, by construction; labelled so.
    Closed {
        /// Messages in flight for each producer.
        outstanding: u32,
        /// Pause between an answer and the next message.
        think: Span,
    },
}

impl Load {
    /// Messages scheduled within a span, or None where the system decides.
    pub fn messages(&self, span: Span) -> Option<f64> {
        match self {
            Self::Open { profile, .. } => Some(profile.messages(span)),
            Self::Unthrottled { .. } | Self::Closed { .. } => None,
        }
    }
}

/// The process that places messages in time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Arrivals {
    /// Evenly spaced (D/...): gap = 1 / rate.
    Constant,
    /// A Poisson process (M/...): independent exponential gaps of mean 1 / rate.
    Poisson,
}

/// The rate over time: linear pieces one after another.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Profile {
    /// The pieces, in order; never empty.
    pub segments: Vec<Segment>,
    /// Whether the pieces start again when they end; otherwise the last rate holds.
    pub repeat: bool,
}

/// A piece of a profile: the rate moves linearly from `from` to `to` during `span`.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Segment {
    /// How long it lasts.
    pub span: Span,
    /// Rate at its start.
    pub from: Rate,
    /// Rate at its end.
    pub to: Rate,
}

impl Segment {
    /// Messages in the first `seconds` of the piece: the integral of a linear rate.
    pub fn messages(&self, seconds: f64) -> f64 {
        let slope = (self.to.0 - self.from.0) / self.span.as_secs_f64().max(f64::MIN_POSITIVE);
        let slope = if self.span.0 == 0 { 0.0 } else { slope };
        self.from.0 * seconds + slope * seconds * seconds / 2.0
    }
}

impl Profile {
    /// A constant rate for ever.
    pub fn constant(rate: Rate) -> Self {
        Self { segments: vec![Segment { span: Span(SECOND), from: rate, to: rate }], repeat: false }
    }

    /// Messages scheduled from 0 until `span`.
    pub fn messages(&self, span: Span) -> f64 {
        let cycle: u64 = self.segments.iter().map(|s| s.span.0).sum();
        let per_cycle: f64 = self.segments.iter().map(|s| s.messages(s.span.as_secs_f64())).sum();
        let (mut total, mut left) = (0.0, span.0);
        if self.repeat && cycle > 0 {
            total += (left / cycle) as f64 * per_cycle;
            left %= cycle;
        }
        for s in &self.segments {
            let part = left.min(s.span.0);
            total += s.messages(Span(part).as_secs_f64());
            left -= part;
        }
        let last = self.segments.last().map_or(0.0, |s| s.to.0);
        total + last * Span(left).as_secs_f64()
    }

    /// The highest rate of the profile.
    pub fn peak(&self) -> Rate {
        Rate(self.segments.iter().flat_map(|s| [s.from.0, s.to.0]).fold(0.0, f64::max))
    }
}

/// What is in a message. Every message begins with the 44-byte envelope of `load::message`; the rest is the body.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Payload {
    /// Bytes on the wire of one message, envelope included. For a file, the lines decide and this is their summary.
    pub size: PayloadSize,
    /// What the body consists of.
    pub content: Content,
}

/// The distribution of message sizes, envelope included.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum PayloadSize {
    /// Always so many bytes.
    Fixed(Bytes),
    /// Uniform between both, inclusive.
    Uniform {
        /// The smallest.
        min: Bytes,
        /// The largest.
        max: Bytes,
    },
    /// Log-normal, cut off at `max`: most messages near the median, few that are large.
    LogNormal {
        /// Half of the messages are smaller.
        median: Bytes,
        /// 99 % of the messages are smaller.
        p99: Bytes,
        /// None is larger.
        max: Bytes,
    },
}

impl PayloadSize {
    /// The largest size that may occur.
    pub fn largest(&self) -> Bytes {
        match *self {
            Self::Fixed(size) => size,
            Self::Uniform { max, .. } | Self::LogNormal { max, .. } => max,
        }
    }
    /// The smallest size that may occur.
    pub fn smallest(&self) -> Bytes {
        match *self {
            Self::Fixed(size) => size,
            Self::Uniform { min, .. } => min,
            Self::LogNormal { .. } => Bytes(0),
        }
    }
}

/// What the body of a message consists of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Content {
    /// Bytes that no compressor makes smaller.
    Random,
    /// English-like words, about 3:1 under common compressors.
    Text,
    /// Zero bytes.
    Zero,
    /// Real messages: the lines of a file, or the files of a directory, in turn.
    File {
        /// Path as resolved against the scenario's folder.
        path: String,
        /// SHA-256 of all messages in order, so that a result names its input.
        sha256: String,
        /// How many messages it holds.
        messages: u64,
    },
}
