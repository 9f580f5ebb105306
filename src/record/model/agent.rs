//! The agents of a trial: which part of the load each had, and what became of it.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Check, Host};
use crate::units::Nanos;

/// The phase of a trial that failed for want of an agent: that is no failure of the system.
pub const AGENTS: &str = "agents";

/// What one agent came to in a trial.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct AgentResult {
    /// What it is called.
    pub name: String,
    /// Its number among the agents of the run, from 0: among those of its role it has the producers
    /// and the consumers whose number leaves this remainder.
    pub index: u32,
    /// What it was labelled with.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// The agent whose place it took before this trial, as that one was lost.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replaces: Option<String>,
    /// Version of msgbench.
    pub version: String,
    /// Its process.
    pub pid: u32,
    /// Its machine.
    pub host: Host,
    /// What became of its part.
    pub state: AgentState,
    /// Its clock beside that of the coordinator.
    pub clock: ClockOffset,
    /// Its clock beside those of other agents, as far as it has exchanged readings with them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub peers: Vec<PeerClock>,
    /// Producers and consumers that it ran.
    pub producers: u32,
    pub consumers: u32,
    /// Messages of the measured phase that the plan asked of it, and what became of them. What an
    /// agent owed that has told nothing is known from the plan.
    pub scheduled: u64,
    pub sent: u64,
    pub acked: u64,
    /// First deliveries to its consumers, and answers to its requests.
    pub received: u64,
    /// How long after the common instant its first producer began, by its own clock.
    pub late_start_ns: Option<Nanos>,
    /// p99 of the lag of its producers, and of the response as its clients saw it.
    pub lag_p99_ns: Option<Nanos>,
    pub response_p99_ns: Option<Nanos>,
    /// Largest share of wall time that one of its threads computed, and waited for a core.
    pub busiest: f64,
    pub waiting: f64,
    /// The longest pause that its hiccup meter saw.
    pub pause_ns: Option<Nanos>,
    /// The checks of its part alone.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub validity: Vec<Check>,
}

/// What became of an agent's part of a trial.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", tag = "status")]
pub enum AgentState {
    /// It has delivered its result.
    #[default]
    Delivered,
    /// It has delivered its result, and was not heard of for a while before: the longest time,
    /// seconds.
    Silent { longest_s: f64 },
    /// Nothing was heard of it for so long at the end of the trial, seconds, and its result never
    /// came. So many were lost as the scenario allows, or more.
    Lost {
        silent_s: f64,
        #[serde(default)]
        allowed: bool,
    },
    /// Its part failed: in which phase, and how.
    Failed { phase: String, error: String },
}

/// What is added to an instant of the coordinator's clock to have that of an agent's.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ClockOffset {
    pub offset_ns: i64,
    /// The offset was wrong by so much at most, from the start of load to the end of the trial, by
    /// every exchange that was made (`clocks`); 0 where both have the same clock, null where it is
    /// not known.
    pub bound_ns: Option<Nanos>,
    /// Exchanges that it is from.
    pub exchanges: u32,
    /// A clock stepped, or changed its rate: by so much at least.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stepped_ns: Option<Nanos>,
    /// The first agent that has the same clock, as both run on one host: both have its offset.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub same_as: Option<u32>,
}

/// What an agent's own exchanges with another one say of their clocks.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct PeerClock {
    /// `AgentResult::index` of the other.
    pub with: u32,
    pub exchanges: u32,
    /// The difference of the two offsets was wrong by so much at most, from the start of load to
    /// the end of the trial, by these exchanges alone; null where they say nothing.
    pub bound_ns: Option<Nanos>,
    /// By so much these exchanges contradict those of the coordinator with both; absent where the
    /// three agree.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub apart_ns: Option<Nanos>,
}

impl AgentResult {
    /// By how much a time from this agent to another may be wrong, ns: by what the coordinator's
    /// exchanges with both leave open, or those between the two, whichever is less; `None` where
    /// neither is known.
    pub fn one_way_bound(&self, other: &Self) -> Option<Nanos> {
        let clock = |a: &Self| a.clock.same_as.unwrap_or(a.index);
        if clock(self) == clock(other) {
            return Some(0);
        }
        let through = self.clock.bound_ns.zip(other.clock.bound_ns).map(|(a, b)| a.saturating_add(b));
        let of = |a: &Self, b: &Self| a.peers.iter().find(|p| p.with == b.index).and_then(|p| p.bound_ns);
        [through, of(self, other), of(other, self)].into_iter().flatten().min()
    }

    /// Whether its part of the result is there.
    pub fn delivered(&self) -> bool {
        !matches!(self.state, AgentState::Lost { .. })
    }
}
