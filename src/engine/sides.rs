//! A trial in several processes: who has which part of the load, when all are ready, at which
//! instant they begin, and when it is over.
//!
//! # Design
//! The trial of one process, of a coordinator and of an agent go through the same phases, in the
//! same code (`control`). What differs is asked here. A coordinator brings the system up, prepares
//! it, runs no load, and closes the accounts of all; an agent runs its part of the load on a system
//! that is up. How they talk to each other is not known here: two small traits are.
//! # Invariants
//! No call waits for another process: each says what is known now. Waits are the control thread's,
//! and have its bounds.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;

use serde::{Deserialize, Serialize};

use crate::measure::ledger::SequenceSet;
use crate::plan::{AgentShare, Case, Intruder, PlannedEvent, ReconnectPace, SystemSpec, Workload};
use crate::record::AGENTS;
use crate::units::Nanos;

use super::accounts::AgentReturn;
use super::shared::{Shared, WorkloadCounters};

/// One trial, as an agent needs it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct TrialOrder {
    /// Its number in the run.
    pub number: u64,
    pub round: u32,
    pub case: Case,
    pub system: SystemSpec,
    pub reconnect: ReconnectPace,
    pub seed: u64,
    /// Where the system answers, and what its clients need besides the options of the scenario.
    pub url: String,
    pub places: BTreeMap<String, String>,
    pub client: serde_json::Map<String, serde_json::Value>,
    /// What is done meanwhile: the coordinator does it, but what is done to a consumer.
    #[serde(default)]
    pub events: Vec<PlannedEvent>,
    /// What is in time, where outages are noted.
    #[serde(default)]
    pub deadline: Option<Nanos>,
    /// Who is to try to get in.
    #[serde(default)]
    pub intruders: Vec<Intruder>,
}

/// What all processes must have come to before any goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TrialStage {
    /// Backlogs are stored.
    Stored,
    /// Consumers listen.
    Listening,
    /// Producers are connected.
    Connected,
}

/// When load starts, in the clock of this process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LoadStart {
    pub at: Nanos,
    /// What is added to an instant of the coordinator's clock to have that of this one.
    pub shift: i64,
}

/// What an agent has counted of a workload so far, the warm-up included.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AgentCounts {
    pub sent: u64,
    pub acked: u64,
    pub arrived: u64,
    #[serde(default)]
    pub stored: u64,
}

/// Which messages there are.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ToldSets {
    /// The consumers of a group have these, a set for each producer.
    Held { workload: usize, group: u32, sets: Vec<SequenceSet> },
    /// These were acknowledged to a producer.
    Acked { workload: usize, producer: u32, set: SequenceSet },
}

impl ToldSets {
    fn add(&self, shared: &Shared) {
        let of = |workload: usize| shared.counters.get(workload).map(|c| &c.distinct);
        match self {
            Self::Held { workload, group, sets } => of(*workload).iter().for_each(|d| d.add(*group, sets.iter())),
            Self::Acked { workload, producer, set } => of(*workload).iter().for_each(|d| d.owe(*producer, set)),
        }
    }
}

/// How far an agent has come.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct AgentProgress {
    /// One for each workload.
    pub counts: Vec<AgentCounts>,
    /// Whether its measured phase is over.
    pub draining: bool,
    /// Whether its producers have ended.
    pub sent_all: bool,
    /// In which phase it failed, and how.
    pub failed: Option<(String, String)>,
}

/// What the coordinator has told an agent.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Instructions {
    /// The drain is over: end.
    pub over: bool,
    /// The measured phase ends now.
    pub cut: bool,
    /// Say which messages you have.
    pub asked: bool,
}

/// What all agents have told.
#[derive(Debug, Default)]
pub struct AgentReports {
    /// Sums, one for each workload.
    pub counts: Vec<AgentCounts>,
    /// Whether the producers of all agents that live have ended.
    pub sent_all: bool,
    /// Until when it is known of all of these what they have.
    pub known: Nanos,
    /// Sets that came since the last time.
    pub sets: Vec<ToldSets>,
    /// An agent whose part failed: in which phase, and how.
    pub failed: Option<(String, String)>,
}

/// Why a part of a trial cannot be run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PartFailure {
    /// In which phase: that of the system's failure, or [`AGENTS`].
    pub phase: String,
    pub words: String,
}

impl PartFailure {
    /// Of an agent, and not of the system.
    pub fn agent(words: String) -> Self {
        Self { phase: AGENTS.into(), words }
    }
}

/// An agent's side of a trial.
pub trait AgentSide: Sync {
    fn share(&self) -> &AgentShare;
    /// Says that this process has come to a stage; true when all have.
    ///
    /// # Errors
    /// When the trial was given up elsewhere.
    fn all_at(&self, stage: TrialStage) -> Result<bool, String>;
    /// When load starts; none while that is not known.
    ///
    /// # Errors
    /// When the trial was given up elsewhere.
    fn load_start(&self) -> Result<Option<LoadStart>, String>;
    /// Says how far it has come, and gives what it was told.
    fn report(&self, progress: AgentProgress) -> Instructions;
    /// Says which messages its consumers have.
    fn tell(&self, sets: Vec<ToldSets>);
    /// After how long without a word that the drain is over it ends by itself.
    fn patience(&self) -> Nanos;
}

/// The coordinator's side of a trial.
pub trait CoordinatorSide: Sync {
    /// How many agents may be lost.
    fn may_lose(&self) -> u32;
    /// Before a trial: whether as many agents are there as are needed. Others take the place of
    /// those that are lost, and are waited for.
    ///
    /// # Errors
    /// Who is not there.
    fn fit(&self) -> Result<(), String>;
    /// Gives a trial to all agents.
    ///
    /// # Errors
    /// When it cannot be sent.
    fn begin(&self, order: &TrialOrder) -> Result<(), String>;
    /// Whether all agents have come to a stage that are not lost.
    ///
    /// # Errors
    /// The agent that refused, or failed, or is gone where none may be lost.
    fn all_at(&self, stage: TrialStage) -> Result<bool, PartFailure>;
    /// Who has not come to a stage, in words.
    fn missing(&self, stage: TrialStage) -> String;
    /// Lets all begin at an instant that is far enough away, and gives it.
    fn start_load(&self) -> Nanos;
    /// Tells all, and gives what they have told.
    fn exchange(&self, told: Instructions) -> AgentReports;
    /// Waits, within bounds, for the accounts of all; ends the trial for them.
    fn collect(&self) -> Vec<AgentReturn>;
}

/// Which part of a trial this process has.
#[derive(Clone, Copy)]
pub enum TrialSide<'a> {
    Alone,
    Coordinator(&'a dyn CoordinatorSide),
    Agent(&'a dyn AgentSide),
}

impl std::fmt::Debug for TrialSide<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Alone => "Alone",
            Self::Coordinator(_) => "Coordinator",
            Self::Agent(_) => "Agent",
        })
    }
}

impl TrialSide<'_> {
    /// Whether a producer of a workload runs here.
    pub fn publishes(&self, w: &Workload, number: u32) -> bool {
        match self {
            Self::Alone => true,
            Self::Coordinator(_) => false,
            Self::Agent(agent) => agent.share().publishes(w, number),
        }
    }

    /// Whether a consumer of a workload runs here; they are numbered by group and member.
    pub fn consumes(&self, w: &Workload, number: u32) -> bool {
        match self {
            Self::Alone => true,
            Self::Coordinator(_) => false,
            Self::Agent(agent) => agent.share().consumes(w, number),
        }
    }

    /// Which producers of a workload run here, where others run elsewhere; otherwise empty.
    pub fn near(&self, w: &Workload) -> Vec<bool> {
        match self {
            Self::Agent(agent) if agent.share().of > 1 => {
                (0..w.topology.producers).map(|number| agent.share().publishes(w, number)).collect()
            }
            _ => Vec::new(),
        }
    }

    /// Whether the others have prepared the system, and take away what they made.
    pub fn joins(&self) -> bool {
        matches!(self, Self::Agent(_))
    }

    /// Whether all have come to a stage.
    pub fn all_at(&self, stage: TrialStage) -> Result<bool, PartFailure> {
        match self {
            Self::Alone => Ok(true),
            Self::Coordinator(coordinator) => coordinator.all_at(stage),
            Self::Agent(agent) => agent.all_at(stage).map_err(PartFailure::agent),
        }
    }

    /// Who has not come to a stage, in words.
    pub fn missing(&self, stage: TrialStage) -> String {
        match self {
            Self::Alone => String::new(),
            Self::Coordinator(coordinator) => coordinator.missing(stage),
            Self::Agent(_) => "the coordinator said nothing within the bound".into(),
        }
    }

    /// When load starts, `lead` from now where nobody else is there.
    pub fn load_start(&self, now: Nanos, lead: Nanos) -> Result<Option<LoadStart>, PartFailure> {
        match self {
            Self::Alone => Ok(Some(LoadStart { at: now + lead, shift: 0 })),
            Self::Coordinator(coordinator) => Ok(Some(LoadStart { at: coordinator.start_load(), shift: 0 })),
            Self::Agent(agent) => agent.load_start().map_err(PartFailure::agent),
        }
    }
}

/// Carries counts between the threads of this process and the other processes.
#[derive(Default)]
pub struct CountExchange {
    /// The sets that were told last, by how many messages they hold.
    told: Vec<u64>,
    /// Whether the agents' producers have ended; true where there are no agents.
    pub others_sent_all: bool,
    /// Until when it is known what the agents have; for ever where there are none.
    pub known: Nanos,
    /// Whether the coordinator has ended the drain.
    pub over: bool,
    /// Whether the measured phase ends now.
    pub cut: bool,
    /// An agent whose part failed.
    pub failed: Option<(String, String)>,
}

impl CountExchange {
    /// For a trial in which this process has that part.
    pub fn of(side: &TrialSide<'_>) -> Self {
        match side {
            TrialSide::Coordinator(_) => Self::default(),
            TrialSide::Alone | TrialSide::Agent(_) => {
                Self { others_sent_all: true, known: Nanos::MAX, ..Self::default() }
            }
        }
    }

    /// Tells and hears. `own` is how far this process has come, but for its counts.
    pub fn exchange(&mut self, side: &TrialSide<'_>, shared: &Shared, own: AgentProgress, cut: bool) {
        match side {
            TrialSide::Alone => {}
            TrialSide::Coordinator(coordinator) => {
                let heard = coordinator.exchange(Instructions { over: false, cut, asked: shared.asked() });
                for (counters, counts) in shared.counters.iter().zip(&heard.counts) {
                    counters.sent.store(counts.sent, Ordering::Relaxed);
                    counters.acked.store(counts.acked, Ordering::Relaxed);
                    counters.arrived.store(counts.arrived, Ordering::Relaxed);
                    counters.stored.store(counts.stored, Ordering::Relaxed);
                }
                heard.sets.iter().for_each(|sets| sets.add(shared));
                (self.others_sent_all, self.known) = (heard.sent_all, heard.known);
                self.failed = heard.failed;
            }
            TrialSide::Agent(agent) => {
                let counts = shared.counters.iter().map(counted).collect();
                let told = agent.report(AgentProgress { counts, ..own });
                self.over |= told.over;
                self.cut |= told.cut;
                if told.asked {
                    shared.ask();
                    self.tell(*agent, shared);
                }
            }
        }
    }

    /// Says which messages there are, where they have become more.
    fn tell(&mut self, agent: &dyn AgentSide, shared: &Shared) {
        // Sets are copied where one has grown, and not at each look.
        let counts = |c: &WorkloadCounters| [c.distinct.count(), c.distinct.owed()];
        let counts: Vec<u64> = shared.counters.iter().flat_map(counts).collect();
        if counts == self.told {
            return;
        }
        let mut all = Vec::new();
        for (workload, counters) in shared.counters.iter().enumerate() {
            let held = counters.distinct.all().into_iter();
            all.extend(held.map(|(group, sets)| ToldSets::Held { workload, group, sets }));
            let acked = counters.distinct.acked().into_iter();
            all.extend(acked.map(|(producer, set)| ToldSets::Acked { workload, producer, set }));
        }
        agent.tell(all);
        self.told = counts;
    }
}

fn counted(counters: &WorkloadCounters) -> AgentCounts {
    let get = |counter: &std::sync::atomic::AtomicU64| counter.load(Ordering::Relaxed);
    AgentCounts {
        sent: get(&counters.sent),
        acked: get(&counters.acked),
        arrived: get(&counters.arrived),
        stored: get(&counters.stored),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn where_nobody_else_is_nobody_is_waited_for() {
        let it = CountExchange::of(&TrialSide::Alone);
        assert_eq!((it.others_sent_all, it.known), (true, Nanos::MAX));
    }
}
