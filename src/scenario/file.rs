//! The scenario file as typed: what may be written, before any default is filled in.
//!
//! Every key that is unknown here is an error, so that a misspelt setting is never silently
//! ignored. What the keys mean together is decided in `resolve`.

use std::collections::BTreeMap;
use std::fmt;

use schemars::JsonSchema;
use serde::de::value::MapAccessDeserializer;
use serde::de::{Deserializer, Error, IntoDeserializer, MapAccess, Visitor};
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::gate::{ExpectTable, GateTable};
use super::places::PlacesEntry;
use super::search::SearchTable;
use crate::faults::Faults;
use crate::plan::{
    Action, Arrivals, Keep, Keys, NodeChoice, Pacing, Pattern, ReconnectPace, SlowConsumers, SystemType, SystemTypes,
};
use crate::units::{Bytes, Rate, Span};

/// A scenario: one question, the load that answers it, and the systems it is put to.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct ScenarioFile {
    /// Short name, fit for a file name; the folder of the results is called so.
    pub name: String,
    /// The question that the scenario answers.
    pub question: String,
    /// The systems under measurement; the reference broker and a NATS server when there is none.
    #[serde(default)]
    pub system: Vec<SystemTable>,
    /// What is driven, all at once.
    pub workload: Vec<WorkloadTable>,
    /// What is done to the processes of launched systems while it is measured.
    #[serde(default)]
    pub event: Vec<EventTable>,
    /// How outages are measured, where something is done to a system.
    #[serde(default)]
    pub outage: OutageTable,
    /// How the launched reference broker misbehaves; then it is the only system.
    pub faults: Option<Faults>,
    /// How long, how often and how.
    #[serde(default)]
    pub run: RunTable,
    /// Settings to vary: path to list of values. The cases are the systems times the cross product
    /// of the values.
    #[serde(default)]
    #[schemars(with = "BTreeMap<String, Vec<serde_json::Value>>")]
    pub sweep: BTreeMap<String, Vec<toml::Value>>,
    /// When a change against a baseline counts as a regression.
    #[serde(default)]
    pub gate: Option<GateTable>,
    /// Absolute limits that the result must keep.
    #[serde(default)]
    pub expect: Vec<ExpectTable>,
    /// The highest load that keeps limits is searched, trial by trial; the scenario's own load is
    /// where the search begins.
    #[serde(default)]
    pub search: Option<SearchTable>,
    /// Agents run the load, on this host or on others (`msgbench agent`).
    #[serde(default)]
    pub agents: Option<AgentsTable>,
}

/// One system under measurement.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct SystemTable {
    /// Its name in every table; the driver's when absent.
    pub name: Option<String>,
    /// Its type: the adapter that talks to it. `msgbench systems` lists those there are.
    pub driver: String,
    /// Where it is already running; msgbench starts it when absent.
    pub url: Option<String>,
    /// Whether its absence makes the run fail rather than be listed as skipped.
    #[serde(default)]
    pub require: bool,
    /// Processors that the system may use where msgbench starts it, all its processes together: a
    /// whole number binds them to so many, a fraction such as 0.5 is a quota of a control group,
    /// where the host allows one. Default: all.
    #[serde(default)]
    pub cpus: Option<f64>,
    /// Settings of the server or the client.
    #[serde(default)]
    pub options: serde_json::Map<String, serde_json::Value>,
}

/// Something that is done to a process of every launched system, to the network, or to a consumer.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct EventTable {
    /// When, since the measured phase began.
    pub at: Span,
    pub action: Action,
    /// To which of its processes: a number from 0, or the role that it has when the event fires:
    /// `leader` or `follower` (of the stream, or of partition 0 of the topic, of `workload`),
    /// `controller` (Kafka), `meta-leader` (JetStream), `all`. With `cut`, `shape` and `mend`:
    /// that node alone, which then has a network of its own; without it the network between all.
    pub node: Option<NodeChoice>,
    /// With `leader` and `follower`: of which workload. Default: the first.
    pub workload: Option<String>,
    /// With `consumer-join`, `consumer-leave` and `consumer-kill`: which member of the first group
    /// of each workload, from 0.
    pub consumer: Option<u32>,
    /// With `shape`: a queueing discipline in the words of tc(8), such as
    /// `netem delay 10ms loss 1%` or `tbf rate 10mbit burst 128kb latency 1s`.
    pub qdisc: Option<String>,
    /// It comes again after each such time, `count` times in all. A time that comes before the
    /// cluster has settled from the one before waits, 60s at most: each node answers, and every
    /// replica is up to date.
    pub every: Option<Span>,
    /// With `every`: how often in all.
    pub count: Option<u32>,
    /// Each time is later by a random part of this, by the seed.
    pub within: Option<Span>,
    /// So long after it began it is undone, on the same nodes: who was paused goes on, who was
    /// ended starts again, the network is mended. With `producer-kill`: so long nobody takes the
    /// place of the dead producer.
    #[serde(rename = "for")]
    pub lasts: Option<Span>,
}

/// How outages are measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct OutageTable {
    /// A message that is acknowledged, or delivered, at most so long after it was due is in time.
    /// An outage is a run of messages that are not. Default: 1s.
    pub deadline: Option<Span>,
    /// How soon a client that has lost its connection tries again: `usual`, as its library does, or
    /// `fast`, every 10 ms and through every client alike. Default: usual.
    pub reconnect: ReconnectPace,
}

/// One stream of messages.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct WorkloadTable {
    /// Its name; the pattern's when absent.
    pub name: Option<String>,
    /// Who receives what.
    pub pattern: Pattern,
    /// Connections that publish. Default: 4 for fan-in and m-to-n, otherwise 1.
    pub producers: Option<u32>,
    /// Connections that consume. Default: 1 for fan-in and request-reply, otherwise 4. With 0
    /// (fan-out, fan-in, m-to-n and stream) nobody listens: publishing alone is measured.
    pub consumers: Option<u32>,
    /// Subjects that the messages are spread over. Default: 1.
    pub channels: Option<u32>,
    /// When messages are due.
    #[serde(default)]
    pub load: LoadTable,
    /// What is in them.
    #[serde(default)]
    pub payload: PayloadTable,
    /// What is asked of the system beyond passing them on.
    #[serde(default)]
    pub delivery: DeliveryTable,
    /// With request-reply: the service of yours that answers, instead of consumers of msgbench. Its
    /// system has a `url`. Messages are the payload alone, without envelope; answers are counted,
    /// and what is in them is not checked.
    pub target: Option<TargetTable>,
    /// The servers of a launched system that clients connect to, where it has several: a name for
    /// all clients, or `{ producers, consumers }`, each a name or a list that clients take in turn.
    /// Default: any.
    pub at: Option<PlacesEntry>,
    /// Clients that have no right to these messages and try all the while to publish some and to
    /// read them: without credentials, with wrong ones, with those of somebody else. What comes of
    /// it stands in the ledger; one that gets in breaks a promise. Default: 0.
    pub intruders: Option<u32>,
    /// Connections to the system that are open all the while and carry nothing: what they cost the
    /// broker shows beside a case without them. Default: 0.
    pub idle_connections: Option<u32>,
    /// Which agents run its clients, where that is not what `[agents]` says of all workloads.
    pub agents: Option<RolesTable>,
}

/// Agents that run the load, each a process on a host of its own or on this one.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct AgentsTable {
    /// How many; `--agents` says it, too. 0: this process runs the load, whatever else stands here.
    pub count: Option<u32>,
    /// Where they are met, as `--control` says: a server that speaks the NATS protocol, and not one
    /// that is measured.
    pub control: Option<String>,
    /// How many agents may be lost in the whole run: trials without them warn of it and show what
    /// share of the plan was offered. When more are lost the trial is INVALID, and others take
    /// their places before the next one. Default: 0.
    pub may_lose: u32,
    /// The label of the agents that run producers, such as "zone=a". Default: all agents.
    pub publish: Option<String>,
    /// The label of the agents that run consumers, such as "zone=b". Default: all agents.
    pub consume: Option<String>,
    /// How many of the agents have a label. Default: as many of each label that is named, where one
    /// is named for all clients.
    pub labels: Option<BTreeMap<String, u32>>,
}

/// The labels of the agents that run the clients of a workload.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct RolesTable {
    /// Of its producers. Default: as `[agents]` says.
    pub publish: Option<String>,
    /// Of its consumers. Default: as `[agents]` says.
    pub consume: Option<String>,
}

/// The service of yours that answers.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct TargetTable {
    /// Instead of a service: the name of the workload of pattern key-value whose keys are got.
    pub bucket: Option<String>,
    /// At NATS: the subject that it answers requests on.
    pub subject: Option<String>,
    /// At Kafka: the topic that it reads requests from. It is there already, as is `reply-topic`.
    pub topic: Option<String>,
    /// At Kafka: the topic that it answers to. Each producer reads the whole of it.
    pub reply_topic: Option<String>,
    /// At Kafka: the header of a request that the service copies into its answer. Default:
    /// correlation-id.
    pub correlation_header: Option<String>,
}

/// What is asked of the system beyond passing messages on.
#[derive(Debug, Clone, Copy, PartialEq, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct DeliveryTable {
    /// Messages are stored by the broker, which acknowledges each. Default: true for stream, replay
    /// and key-value.
    pub durable: Option<bool>,
    /// Messages stored before the measured phase, read while publishing goes on. Default: 100000
    /// for replay.
    pub backlog: Option<u64>,
    /// From the start of the measured phase until the backlog begins to be read. Default: a quarter
    /// of the duration.
    pub replay_after: Option<Span>,
    /// What messages are keyed with: "none", { round-robin = 10 }, { uniform = 10 } or { zipf = {
    /// n = 10, exponent = 1.0 } }. Default: none, with key-value { round-robin = 100 }.
    pub keys: Keys,
    /// With key-value: values that the store keeps of each key. Default: 1.
    pub history: Option<u32>,
    /// Every n-th message is rejected at its first delivery.
    pub reject_every: Option<u64>,
    /// Every n-th message is rejected at every delivery, until it is a dead letter.
    pub dead_every: Option<u64>,
    /// Deliveries of one message before it is a dead letter. Default: 3 with `dead-every`.
    pub max_deliver: Option<u32>,
    /// What the broker is to keep of the messages: one of `age`, `bytes`, `messages` and `per-key`,
    /// or `{}` for all of them. The driver sets up the stream or topic so, unless its own options
    /// say otherwise. What it has kept when the load is over is read, and is held against it.
    pub keep: Option<Keep>,
    /// Consumers that take their time.
    pub slow: Option<SlowConsumers>,
}

/// Who decides when a message is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum LoadMode {
    /// The schedule.
    #[default]
    Open,
    /// The client: as fast as it takes them.
    Unthrottled,
    /// The answers: the next message waits for one.
    Closed,
}

/// When messages are due.
#[derive(Debug, Clone, PartialEq, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct LoadTable {
    /// Who decides when a message is sent. Default: open.
    pub mode: LoadMode,
    /// The process that places messages in time. Default: constant.
    pub arrivals: Option<Arrivals>,
    /// Messages per second of all producers of the workload together.
    pub rate: Option<Rate>,
    /// Instead of `rate`: messages per second of each producer.
    pub rate_per_producer: Option<Rate>,
    /// Bursts on top of the rate, or load that goes on and off.
    pub burst: Option<BurstTable>,
    /// Load that moves linearly from one rate to another, and stays there.
    pub ramp: Option<RampTable>,
    /// Rates one after another; the last one stays.
    pub steps: Option<Vec<StepTable>>,
    /// Closed loop: messages in flight for each producer. Default: 1.
    pub outstanding: Option<u32>,
    /// Unthrottled: messages that may be on their way, sent and not yet received by all. Default:
    /// no limit.
    pub window: Option<u64>,
    /// Closed loop: pause between an answer and the next message. Default: none.
    pub think: Option<Span>,
}

/// Bursts: `{ every, length, rate }` on top of the rate, or `{ on, off }`, the rate and silence by
/// turns.
#[derive(Debug, Clone, Copy, PartialEq, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct BurstTable {
    /// From the start of one burst to the start of the next.
    pub every: Option<Span>,
    /// How long a burst lasts.
    pub length: Option<Span>,
    /// Messages per second during a burst, the rate between bursts included; of all producers
    /// together, or of each, as that rate is.
    pub rate: Option<Rate>,
    /// How long the rate is offered.
    pub on: Option<Span>,
    /// How long nothing is.
    pub off: Option<Span>,
}

/// A linear change of the rate.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct RampTable {
    /// Rate at the start.
    pub from: Rate,
    /// Rate at the end, and afterwards.
    pub to: Rate,
    /// How long the change takes.
    pub over: Span,
}

/// A rate for some time.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct StepTable {
    /// The rate; zero is a pause.
    pub rate: Rate,
    /// For how long.
    #[serde(rename = "for")]
    pub span: Span,
}

/// What is in a message.
#[derive(Debug, Clone, PartialEq, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct PayloadTable {
    /// Bytes of a message, envelope included. Default: 128B.
    pub size: Option<Size>,
    /// What the body consists of. Default: random.
    pub content: Option<Filler>,
    /// Real messages instead: a file with one per line, or a folder with one per file; relative to
    /// the scenario.
    pub file: Option<String>,
}

/// What a generated body consists of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Filler {
    /// Bytes that no compressor makes smaller.
    Random,
    /// English-like words.
    Text,
    /// Zero bytes.
    Zero,
}

/// One size, or a distribution of sizes.
#[derive(Debug, Clone, Copy, PartialEq, JsonSchema)]
#[schemars(untagged)]
pub enum Size {
    /// Always so many bytes.
    Fixed(Bytes),
    /// `{ min, max }` is uniform, `{ median, p99, max }` is log-normal.
    Spread(SpreadTable),
}

/// The parameters of a distribution of sizes.
#[derive(Debug, Clone, Copy, PartialEq, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct SpreadTable {
    /// The smallest (uniform).
    pub min: Option<Bytes>,
    /// The largest.
    pub max: Option<Bytes>,
    /// Half of the messages are smaller (log-normal).
    pub median: Option<Bytes>,
    /// 99 % of the messages are smaller (log-normal).
    pub p99: Option<Bytes>,
}

impl<'de> Deserialize<'de> for Size {
    // By hand, because an untagged enum would forget where in the file the mistake is.
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        struct SizeVisitor;
        impl<'de> Visitor<'de> for SizeVisitor {
            type Value = Size;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a size such as \"128B\", { min, max } or { median, p99, max }")
            }
            fn visit_str<E: Error>(self, text: &str) -> Result<Size, E> {
                text.parse().map(Size::Fixed).map_err(E::custom)
            }
            fn visit_i64<E: Error>(self, bytes: i64) -> Result<Size, E> {
                Bytes::deserialize(bytes.into_deserializer()).map(Size::Fixed)
            }
            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Size, A::Error> {
                SpreadTable::deserialize(MapAccessDeserializer::new(map)).map(Size::Spread)
            }
        }
        d.deserialize_any(SizeVisitor)
    }
}

/// How long, how often and how the load is driven.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct RunTable {
    /// Load is driven and discarded.
    pub warmup: Span,
    /// Load is driven and measured.
    pub duration: Span,
    /// At most so long are outstanding messages waited for afterwards.
    pub drain: Span,
    /// At most so long may a connection, or the start of a server, take.
    pub connect: Span,
    /// Length of one interval of the time series. Default: a quarter of the shortest burst, 1s at
    /// most; without bursts 1s for each 10m of the run.
    pub interval: Option<Span>,
    /// Trials of each case.
    pub trials: u32,
    /// Seed of everything random.
    pub seed: u64,
    /// The quantiles to report, each between 0 and 1.
    pub percentiles: Vec<f64>,
    /// How the generator waits for the next instant.
    pub pacing: Pacing,
    /// Threads of the generator.
    pub threads: ThreadsTable,
    /// Whether a promise of a system that is not kept is expected, and no failure. Default: false.
    pub may_break: bool,
}

impl Default for RunTable {
    fn default() -> Self {
        Self {
            warmup: Span::secs(2),
            duration: Span::secs(30),
            drain: Span::secs(5),
            connect: Span::secs(10),
            interval: None,
            trials: 3,
            seed: 42,
            percentiles: vec![0.5, 0.9, 0.99, 0.999],
            pacing: Pacing::Auto,
            threads: ThreadsTable::default(),
            may_break: false,
        }
    }
}

/// Threads of the generator.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct ThreadsTable {
    /// Threads that publish.
    pub publish: u32,
    /// Threads that consume.
    pub consume: u32,
}

impl Default for ThreadsTable {
    fn default() -> Self {
        Self { publish: 1, consume: 1 }
    }
}

/// The JSON schema of a scenario file with these types of systems, for editors that complete and
/// check TOML.
pub fn schema(types: &SystemTypes) -> serde_json::Value {
    let mut schema: serde_json::Value = schemars::schema_for!(ScenarioFile).into();
    let options = |t: &SystemType| {
        json!({
            "if": { "properties": { "driver": { "const": t.name } } },
            "then": { "properties": { "options": t.schema() } },
        })
    };
    let each: Vec<_> = types.0.iter().map(options).collect();
    let drivers: Vec<_> = types.0.iter().map(|t| json!({ "const": t.name, "description": t.about })).collect();
    if let Some(system) = schema.get_mut("$defs").and_then(|defs| defs.get_mut("SystemTable")) {
        system["properties"]["driver"]["oneOf"] = drivers.into();
        system["allOf"] = each.into();
    }
    schema
}
