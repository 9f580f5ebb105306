//! What coordinator and agents say to each other: JSON, on subjects below `msgbench.<fleet>`.
//!
//! | subject | who says it | what |
//! |---|---|---|
//! | `hello` | agent | [`Hello`]: when it comes, when it is asked to, when it is free again |
//! | `roll` | coordinator | all say hello |
//! | `agent.<id>` | coordinator, request | [`AgentRequest`], answered in the same way |
//! | `agent.<id>.clock` | coordinator or agent, request | answered by two readings of the agent's clock |
//! | `run.<run>.alive` | coordinator, each second | it is there |
//! | `run.<run>.report` | agent, each second | [`Report`] |
//! | `run.<run>.piece` | agent, request | a [`PieceHeader`] and bytes, answered by an [`AgentAnswer`] |

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::clocks::Exchange;
use crate::engine::{AgentProgress, TrialOrder, TrialStage};
use crate::plan::AgentShare;
use crate::record::Host;
use crate::units::Nanos;

/// The version of these messages. Agents of another one are not used.
pub const PROTOCOL: u32 = 3;

/// The version of this program.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

/// The subjects of one fleet.
#[derive(Debug, Clone)]
pub struct ControlSubjects(String);

impl ControlSubjects {
    pub fn of(fleet: &str) -> Self {
        Self(format!("msgbench.{fleet}"))
    }
    pub fn hello(&self) -> String {
        format!("{}.hello", self.0)
    }
    pub fn roll(&self) -> String {
        format!("{}.roll", self.0)
    }
    pub fn agent(&self, id: &str) -> String {
        format!("{}.agent.{id}", self.0)
    }
    pub fn clock(&self, id: &str) -> String {
        format!("{}.agent.{id}.clock", self.0)
    }
    pub fn alive(&self, run: &str) -> String {
        format!("{}.run.{run}.alive", self.0)
    }
    pub fn report(&self, run: &str) -> String {
        format!("{}.run.{run}.report", self.0)
    }
    pub fn piece(&self, run: &str) -> String {
        format!("{}.run.{run}.piece", self.0)
    }
}

/// An agent says what it is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Hello {
    /// Of this process; nobody else has it.
    pub id: String,
    pub name: String,
    pub protocol: u32,
    pub version: String,
    pub pid: u32,
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    pub host: Host,
    /// Names its clock: processes that name the same one have the same instants.
    #[serde(default)]
    pub clock: String,
    /// Whose it is, where somebody has it.
    #[serde(default)]
    pub taken: Option<String>,
}

/// The coordinator tells one agent.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "command")]
pub enum AgentRequest {
    /// It is part of a run from now on.
    Assign(AgentAssignment),
    /// A trial begins.
    Begin(Box<Beginning>),
    /// All have come to a stage.
    Pass { run: String, trial: u64, stage: TrialStage },
    /// When load starts, in the agent's clock, and what is added to an instant of the coordinator's
    /// to have that of the agent's.
    Start { run: String, trial: u64, at: Nanos, shift: i64 },
    /// Told while load runs.
    Instruct { run: String, trial: u64, over: bool, cut: bool, asked: bool },
    /// It is free again.
    Release { run: String },
}

/// What an agent is part of.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct AgentAssignment {
    pub protocol: u32,
    pub version: String,
    /// Names the run; nobody else has it.
    pub run: String,
    /// Who runs it, in words.
    pub by: String,
    /// SHA-256 of the plan.
    pub plan: String,
    pub share: AgentShare,
}

/// A trial begins.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Beginning {
    pub run: String,
    /// SHA-256 of the plan that the trial is of.
    pub plan: String,
    pub trial: u64,
    pub order: TrialOrder,
    /// Whose clocks it asks from now on, by their ids.
    #[serde(default)]
    pub peers: Vec<String>,
}

/// What is answered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "answer")]
pub enum AgentAnswer {
    Yes,
    No { why: Refusal },
}

/// Why an agent does not do as it is told, or a coordinator does not take what it is brought.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[serde(rename_all = "kebab-case", tag = "refusal")]
pub enum Refusal {
    #[error("it is msgbench {mine} and this is {yours}: use the same program everywhere")]
    Version { mine: String, yours: String },
    #[error("it is taken by {by}")]
    Taken { by: String },
    #[error("it was given another plan than this one: start the run again")]
    Plan,
    #[error("it does not know this run: it was started again, or let go")]
    Unknown,
    #[error("it is still in another trial")]
    Busy,
    #[error("it cannot read what it was told: {words}")]
    Unreadable { words: String },
}

/// How far an agent has come.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Report {
    pub id: String,
    pub trial: u64,
    pub stage: Option<TrialStage>,
    pub progress: AgentProgress,
    /// Exchanges with the clocks of others since the last report, by their ids.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub peers: Vec<(String, Exchange)>,
}

/// What pieces are of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PieceKind {
    /// What it measured in a trial.
    Accounts,
    /// Which messages its consumers have, so far.
    Sets,
}

/// The first line of a piece; its bytes follow.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PieceHeader {
    pub id: String,
    pub trial: u64,
    pub kind: PieceKind,
    /// Its number, from 0, and how many there are.
    pub number: u32,
    pub of: u32,
    /// SHA-256 of the whole.
    pub sha256: String,
}

/// A name for the monotonic clock of this process: that of its kernel since it came up, and of its
/// time namespace, which may have shifted it.
pub fn clock_name() -> String {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let shift: Vec<String> = read("/proc/self/timens_offsets").split_whitespace().map(str::to_owned).collect();
    match read("/proc/sys/kernel/random/boot_id").trim() {
        // Nobody else's either.
        "" => format!("unknown-{}", std::process::id()),
        boot => format!("{boot} {}", shift.join(" ")),
    }
}

/// SHA-256 in hexadecimal.
pub fn sha256(bytes: &[u8]) -> String {
    use sha2::{Digest, Sha256};
    Sha256::digest(bytes).iter().map(|b| format!("{b:02x}")).collect()
}
