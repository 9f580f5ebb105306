//! The plan: a scenario as resolved. Every default is filled in, every name is bound, every number
//! is checked.
//!
//! A plan is plain data: the engine executes it, `check` prints it, and the record stores it beside
//! the scenario as typed, so that a result says exactly what was done.

pub mod address;
mod division;
mod event;
pub mod facts;
pub mod gate;
mod label;
mod load;
pub mod messages;
pub mod metric;
pub mod options;
mod outage;
pub mod problem;
pub mod search;
pub mod secrets;
mod share;
mod types;
mod workload;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use address::{Address, AddressError, Protocol, Server};
pub use division::{AgentRoles, AgentShare, AgentsPlan, LabelledAgents, divide};
pub use event::*;
use gate::{Expectation, Gate};
pub use label::{AgentLabel, LabelError};
pub use load::*;
pub use outage::{OfFaults, OutageField, OutageMetric, OutageSpec, ReconnectPace};
pub use types::{Parts, SystemType, SystemTypes};
pub use workload::*;

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
    /// Seed of everything random: order of cases, arrivals, sizes, contents. Recorded, so that a
    /// run can be repeated.
    pub seed: u64,
    /// The quantiles to report, each in (0, 1), ascending.
    pub percentiles: Vec<f64>,
    /// When a change against a baseline counts as a regression; the defaults where the scenario
    /// says nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gate: Option<Gate>,
    /// Absolute limits that the result must keep.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub expect: Vec<Expectation>,
    /// Whether a promise that is not kept is what the scenario expects; otherwise it makes the run
    /// fail with exit code 6.
    #[serde(default)]
    pub may_break: bool,
    /// What is done to the processes of launched systems in each trial, by time.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub events: Vec<PlannedEvent>,
    /// How outages are measured.
    #[serde(default, skip_serializing_if = "OutageSpec::is_usual")]
    pub outage: OutageSpec,
    /// The search for the highest load that keeps limits; each case is then where one begins.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub search: Option<search::SearchPlan>,
    /// The agents that run the load; this process runs it where there are none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agents: Option<AgentsPlan>,
}

impl Plan {
    /// What is in time, where outages are measured: where something is done to a system.
    pub fn outage_deadline(&self) -> Option<Span> {
        (!self.events.is_empty()).then_some(self.outage.deadline)
    }

    /// The system of a case, as it is at its load point.
    ///
    /// # Panics
    /// When the case is of another plan.
    pub fn spec<'p>(&'p self, case: &'p Case) -> &'p SystemSpec {
        case.changed.as_ref().unwrap_or(&self.systems[case.system])
    }
}

/// One system under measurement.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct SystemSpec {
    /// Its name in every table; unique within the plan.
    pub name: String,
    /// The name of its type: the adapter that talks to it.
    pub driver: String,
    /// How it comes up.
    pub bring_up: BringUp,
    /// Whether its absence makes the run fail with exit code 6 rather than be listed as skipped.
    pub require: bool,
    /// Processors that a launched one may use, all its processes together; no bound where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpus: Option<f64>,
    /// Settings of the launched server or of the client, as written; each driver and system
    /// documents its own.
    #[serde(default, skip_serializing_if = "serde_json::Map::is_empty")]
    pub options: serde_json::Map<String, serde_json::Value>,
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
    /// The system as it is at this load point, where a setting of it is swept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub changed: Option<SystemSpec>,
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
    /// Spins only where every spinning thread and the broker have a core of their own, otherwise
    /// sleeps.
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
