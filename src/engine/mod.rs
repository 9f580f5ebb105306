//! Executes a plan: rounds of trials in seeded random order, each on a fresh system; folds each
//! into the record.
//!
//! Only this module sees drivers, systems, load and measurement together. The order of cases within
//! a round is a random permutation, so that drift of the host falls on all alike (Abedi and Brecht
//! 2017, randomised multiple interleaved trials).

mod accounting;
mod accounts;
pub mod arrival;
mod backlog;
mod batch_arrival;
mod burst;
mod connect;
mod consume;
mod control;
pub mod cost;
mod distinct;
mod drain;
mod events;
mod execute;
mod finish;
mod flow;
mod fold;
mod idle;
mod intrude;
mod join;
mod kept;
mod lanes;
mod lost;
mod membership;
pub mod merging;
mod namespaces;
mod network;
mod observe;
mod one_way;
mod outages;
#[cfg(test)]
mod outages_tests;
mod part;
mod payload;
mod pieces;
mod power;
mod produce;
mod raw;
mod ready_watch;
mod register;
mod run;
mod search;
mod send_state;
mod setup;
mod shared;
mod sides;
mod sink;
mod stamps;
mod superseded;
#[cfg(test)]
mod tests;
mod threads;
mod trial;
mod watch;
mod worker;

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

pub use accounts::{AgentAccounts, AgentReturn};
pub use finish::TrialFiles;
pub use namespaces::enter;
pub use part::take_part;
pub use register::{Client, Clients, Register};
pub use run::{run, run_with, trusts};
pub use sides::{
    AgentCounts, AgentProgress, AgentReports, AgentSide, CoordinatorSide, Instructions, LoadStart, PartFailure,
    ToldSets, TrialOrder, TrialSide, TrialStage,
};
pub use sink::{Conditions, RunError, RunSink, SearchProgress};

/// A request of the user to stop: once to end the trial and keep what is recorded, twice to give up
/// at once.
#[derive(Debug, Clone, Default)]
pub struct Interrupt(Arc<AtomicU32>);

impl Interrupt {
    /// Asks to stop.
    pub fn raise(&self) -> u32 {
        self.0.fetch_add(1, Ordering::SeqCst) + 1
    }
    /// How often it was asked.
    pub fn count(&self) -> u32 {
        self.0.load(Ordering::SeqCst)
    }
}

/// Progress of a trial, for the display.
#[derive(Debug, Clone, Copy)]
pub struct Tick {
    /// `warm-up` or `measure`.
    pub phase: &'static str,
    /// Until the end of the measured phase.
    pub left: Duration,
    /// Messages handed over since the trial began.
    pub sent: u64,
    /// Messages received since the trial began.
    pub received: u64,
    /// Deliveries still to come: on their way, or lost.
    pub missing: u64,
    /// p50 and p99 of the last finished interval.
    pub last: Option<(u64, u64)>,
}
