//! The plan: a scenario as resolved. Every default is filled in, every name is bound, every number is checked.
//!
//! A plan is plain data: the engine executes it, `check` prints it, and the record stores it beside the scenario
//! as typed, so that a result says exactly what was done.

mod address;
mod load;
mod workload;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use address::{Address, AddressError, Server};
pub use load::*;
pub use workload::*;

use super::gate::{Expectation, Gate};
use crate::units::Span;

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

/// Something that is done to a process of a launched system, or to the network.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PlannedEvent {
    /// When, since the measured phase began.
    pub at: Span,
    /// What.
    pub action: Action,
    /// To which of its processes, from 0.
    pub node: u32,
    /// How the network is shaped, in the words of tc(8).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub qdisc: Option<String>,
}

/// What can be done to a process, or to the network of the trial.
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
    /// The network between all processes of the trial is gone; connections are not closed.
    Cut,
    /// The network is shaped by a queueing discipline of the kernel: delay, loss, rate.
    Shape,
    /// The network is there again, and as it was.
    Mend,
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
            Self::Cut => "cut",
            Self::Shape => "shape",
            Self::Mend => "mend",
        }
    }
    /// Whether it is done to the network, and to no process.
    pub fn of_network(self) -> bool {
        matches!(self, Self::Cut | Self::Shape | Self::Mend)
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
            Self::Nats if d.reject_every > 0 || d.dead_every > 0 => Some("no redelivery"),
            Self::Reference if !d.durable && (d.reject_every > 0 || d.dead_every > 0) => {
                Some("no redelivery of messages that are not stored")
            }
            Self::Jetstream if w.topology.reply => Some("no request/reply on streams"),
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
