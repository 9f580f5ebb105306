//! The fields of `run.json`, schema `msgbench.run/1`.
//!
//! Durations and latencies are nanoseconds and say so in their name; rates are per second. A
//! latency of `null` is +infinity: the message never arrived. New fields may be added within
//! version 1; none changes its meaning.

mod agent;
mod fault;
mod headlines;
mod outage;
mod result;
mod search;

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use agent::*;
pub use fault::*;
pub use headlines::*;
pub use outage::*;
pub use result::*;
pub use search::*;

use super::Calibration;
use crate::plan::Plan;
use crate::plan::facts::Levels;
use crate::units::Nanos;

/// The schema this program writes and reads.
pub const SCHEMA: &str = "msgbench.run/1";

/// The outcome of one `msgbench run`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Record {
    /// Always `msgbench.run/1`.
    pub schema: String,
    /// Program that wrote it.
    pub tool: Tool,
    /// The scenario as typed.
    pub scenario: ScenarioSource,
    /// The scenario as resolved.
    pub plan: Plan,
    /// The machine of the generator (and, for launched systems, of the broker).
    pub host: Host,
    /// The newest calibration of this host by this build, where there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub calibration: Option<Calibration>,
    /// Start of the run, UTC, RFC 3339.
    pub started_at: String,
    /// End of the run, UTC, RFC 3339; absent while it goes on and after a crash.
    pub ended_at: Option<String>,
    /// By how many seconds the wall clock was set (or the machine slept) while the run went on,
    /// where it was: all times here are those of the clock as it was at the start.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub clock_step_s: Option<f64>,
    /// Whether all planned trials were executed.
    pub completion: Completion,
    /// The order in which trials were executed, as (round, case id).
    pub order: Vec<(u32, String)>,
    /// Systems that were not put to the test, and why.
    pub skipped: Vec<Skipped>,
    /// One entry for each executed trial, in order of execution.
    pub trials: Vec<Trial>,
    /// Searches for the highest load that keeps limits, in the order in which they began.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub searches: Vec<SearchResult>,
}

/// Whether all planned trials were executed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Completion {
    /// The run is going on, or it crashed: what is here is what there was.
    Running,
    /// Every planned trial was executed.
    Complete,
    /// The user interrupted the run.
    Interrupted,
}

/// The program that wrote a record.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Tool {
    pub version: String,
    /// Build profile: `release` or `debug`. Figures of a debug build are not to be compared.
    pub profile: String,
    /// The command line, so that the run can be repeated.
    pub command: Vec<String>,
}

/// The scenario as typed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ScenarioSource {
    /// File it was read from.
    pub path: String,
    /// SHA-256 of the text, before overrides.
    pub sha256: String,
    /// The text itself.
    pub text: String,
    /// `--set path=value` and its short forms, in order.
    pub overrides: Vec<(String, String)>,
}

/// The machine of the generator.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Host {
    /// Kernel release.
    pub kernel: String,
    /// CPU model name.
    pub cpu: String,
    /// CPUs this process may run on.
    pub cpus: u32,
    /// Physical memory in bytes.
    pub memory_bytes: u64,
    /// `clocksource` in use.
    pub clocksource: String,
    /// Cost of one clock read.
    pub clock_read_ns: f64,
    /// Whether a hypervisor is present.
    pub virtualised: bool,
    /// 1-minute load average before the run.
    pub load_average: f64,
    /// Frequency governor, where one is visible.
    pub governor: Option<String>,
    /// The audit of the host before the run (`msgbench doctor`): what is not as it should be.
    #[serde(default)]
    pub findings: Vec<Finding>,
}

/// How an item stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "UPPERCASE")]
pub enum Grade {
    /// As it should be.
    Ok,
    /// It cannot be read here.
    Unknown,
    /// It makes figures noisier, or must be said beside them.
    Warn,
    /// It makes figures wrong, or not repeatable.
    Bad,
}

/// What disturbed a host while a trial ran.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Disturbed {
    /// CPU time given to other guests, in percent of all.
    StolenTime,
    /// Times that the CPU quota held msgbench back.
    Quota,
    /// Times that the processor slowed down for heat.
    Heat,
    /// Pages swapped in and out.
    Swap,
    /// Packets that the kernel dropped before a socket saw them.
    Dropped,
    /// TCP segments sent again.
    Retransmitted,
    /// Connections dropped because an accept queue was full.
    Refused,
}

/// How much of it there was.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Amount {
    /// Of what.
    pub of: Disturbed,
    /// How much, in its unit.
    pub value: f64,
}

/// One item of the audit.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Finding {
    /// What was looked at.
    pub item: String,
    /// How it stands.
    pub grade: Grade,
    /// What was read.
    pub observed: String,
    /// Why it matters for a latency; empty when all is well.
    pub why: String,
    /// The command or setting that corrects it; empty when nothing is wrong.
    pub remedy: String,
    /// The figure, of a disturbance; absent in an audit, and in records of before figures were
    /// kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub amount: Option<Amount>,
}

/// A system that was not put to the test.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Skipped {
    /// Its name in the plan.
    pub system: String,
    /// Why.
    pub reason: String,
    /// What would make it available.
    pub remedy: String,
}

/// One execution of one case.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Trial {
    /// `Case::id`.
    pub case: String,
    /// Round, from 1.
    pub round: u32,
    /// Seed of the trial, derived from the plan's seed, case and round.
    pub seed: u64,
    /// Start, UTC, RFC 3339.
    pub started_at: String,
    /// How it ended.
    pub outcome: Outcome,
    /// The system as it was found: version, effective guarantees.
    pub system: SystemFacts,
    /// How the generator waited: `sleep` or `spin`.
    pub pacing: String,
    /// From the start of the system's processes until it took clients; absent where it ran already,
    /// and in records of before it was kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start_ns: Option<Nanos>,
    /// Processes that it runs in; absent as above.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub processes: Option<u32>,
    /// Settings in the file that its first server was started with; absent as above, and where it
    /// has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub settings: Option<u32>,
    /// Length of the measured phase as executed; shorter than planned when the trial was cut.
    pub measured_ns: Nanos,
    /// Length of the drain phase.
    pub drained_ns: Nanos,
    /// One entry for each workload, in the plan's order.
    pub workloads: Vec<WorkloadResult>,
    /// CPU, memory and context switches of the broker's processes; absent when it is not on this
    /// host.
    pub broker: Option<Resources>,
    /// The same of the generator.
    pub generator: Resources,
    /// The same of a stream processor that the system runs beside the broker; absent where there is
    /// none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub application: Option<Resources>,
    /// What disturbed the host while the trial ran: stolen time, throttling, swap, network drops.
    #[serde(default)]
    pub disturbance: Vec<Finding>,
    /// Pauses of the host as seen by the hiccup meter.
    pub hiccup: LatencySummary,
    /// The checks that say whether the trial may be believed.
    pub validity: Vec<Check>,
    /// What happened on the way: disconnects, server errors, events; with the offset from the start
    /// of measurement.
    pub events: Vec<Event>,
    /// What the scenario did to the system, to the network and to consumers, in order of time.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub faults: Vec<FaultRecord>,
    /// The agents that ran the load, where it was not this process.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub agents: Vec<AgentResult>,
    /// Interval log of the trial, relative to `run.json`.
    pub hlog: Option<String>,
    /// The server's log, kept when the trial failed.
    pub server_log: Option<String>,
}

/// The gravest thing that a run has to answer for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Gravest {
    /// A system failed.
    Failed,
    /// A system did not keep what it promises, and the scenario did not expect that.
    Broken,
    /// Of a case no trial may be believed.
    Invalid,
}

impl Record {
    /// Whether it was a smoke test (`--quick`): one short trial of each case.
    pub fn quick(&self) -> bool {
        self.scenario.overrides.iter().any(|(key, value)| key == "quick" && value == "true")
    }

    /// Of what its trials came to, the gravest; `None` where nothing is wrong with them.
    pub fn gravest(&self) -> Option<Gravest> {
        let any = |wrong: &dyn Fn(&Trial) -> bool| self.trials.iter().any(wrong);
        match () {
            // A search drives systems beyond what they take: that trials fail is what it is for.
            () if self.plan.search.is_some() => match () {
                () if self.searches.iter().any(|s| s.broken.is_some()) => Some(Gravest::Failed),
                () if self.searches.iter().any(|s| s.bracket.lower.is_none()) => Some(Gravest::Invalid),
                () => None,
            },
            () if any(&|t| t.outcome.of_system()) => Some(Gravest::Failed),
            () if !self.plan.may_break && any(&|t| !t.kept()) => Some(Gravest::Broken),
            () if any(&|t| matches!(t.outcome, Outcome::Failed { .. })) => Some(Gravest::Invalid),
            () if self.plan.cases.iter().any(|c| self.nothing_valid_of(&c.id)) => Some(Gravest::Invalid),
            () => None,
        }
    }
}

impl Record {
    /// Whether a case was tried and no trial of it may be believed.
    fn nothing_valid_of(&self, case: &str) -> bool {
        let mut of = self.trials.iter().filter(|t| t.case == case).peekable();
        of.peek().is_some() && of.all(|t| t.validity_status() == Status::Invalid)
    }
}

impl Trial {
    /// Whether every promise that was judged was kept.
    pub fn kept(&self) -> bool {
        self.workloads.iter().flat_map(|w| &w.promises).all(|p| p.kept)
    }

    /// The worst of the validity checks.
    pub fn validity_status(&self) -> Status {
        self.validity.iter().map(|c| c.status).max().unwrap_or(Status::Ok)
    }
}

/// How a trial ended.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", tag = "status")]
pub enum Outcome {
    /// All phases ran to their end.
    Complete,
    /// Interrupted by the user; what was measured until then is kept.
    Partial,
    /// The system failed under test; what was measured until then is kept.
    Failed {
        /// Phase in which it failed: `prepare`, `connect`, `warm-up`, `measure`, `drain`,
        /// `tear-down`; `agents`, where it was no failure of the system but of an agent.
        phase: String,
        /// What failed, with the server's own words.
        error: String,
    },
}

impl Outcome {
    /// Whether it was the system that failed, and not an agent.
    pub fn of_system(&self) -> bool {
        matches!(self, Self::Failed { phase, .. } if phase != AGENTS)
    }
}

/// The system as it was found.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct SystemFacts {
    /// Product and version as the server reports it.
    pub version: String,
    /// Where it was reached.
    pub url: String,
    /// Client library and version.
    pub client: String,
    /// What is promised of messages, in levels; `unstated` in records of before levels were kept.
    #[serde(default)]
    pub promised: Levels,
    /// Effective guarantees and settings, read back, in words: `delivery`, `durability`,
    /// `acknowledgement`, ...
    pub guarantees: BTreeMap<String, String>,
}
