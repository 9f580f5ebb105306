//! Systems: how what is measured comes up, is watched and goes away.
//!
//! A [`System`] is one server or cluster for the length of one trial: launched fresh on free ports in a temporary folder,
//! or already running at a URL. It knows nothing of clients or load; the engine passes its URL to a driver and its
//! process ids to the resource meter. Whatever it started is gone when it is dropped, also when msgbench itself is
//! killed (each child is told by the kernel when its parent dies).

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

/// What a system needs to come up.
#[derive(Debug, Clone)]
pub struct Context {
    /// A folder of its own, removed by the caller after the trial.
    pub dir: PathBuf,
    /// Bound on coming up and on going away.
    pub timeout: Duration,
}

/// A system that is up.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Running {
    /// Where clients connect to.
    pub url: String,
    /// Its processes on this host; empty when it runs elsewhere.
    pub pids: Vec<u32>,
    /// Settings it was started with, or that were read back, that bear on guarantees or speed.
    pub settings: BTreeMap<String, String>,
}

/// A system under measurement.
pub trait System: Send {
    /// Starts it, waits until it answers, and reads back what it is.
    ///
    /// # Errors
    /// When it does not answer within the bound; the error holds the last lines of its log.
    fn start(&mut self) -> Result<Running, SystemError>;

    /// The way it ended, if a process of it has ended by itself.
    fn ended(&mut self) -> Option<String>;

    /// Stops it and waits until it is gone; kills it when it does not go within the bound. Does nothing twice.
    fn stop(&mut self) -> Result<(), SystemError>;

    /// Files worth keeping when a trial failed: its logs.
    fn logs(&self) -> Vec<PathBuf>;
}

/// Whether a system can be launched here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Availability {
    /// It can.
    Found {
        /// The program.
        program: PathBuf,
        /// What it says of its version.
        version: String,
    },
    /// It cannot.
    Missing {
        /// Why.
        reason: String,
        /// What would make it available.
        remedy: String,
    },
}

/// Why a system did not come up, or did not go away.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SystemError {
    /// It is not installed, or cannot be reached.
    #[error("{system} is not available: {reason}; {remedy}")]
    Unavailable {
        /// Name in the plan.
        system: String,
        /// Why.
        reason: String,
        /// What would make it available.
        remedy: String,
    },
    /// It was started and did not become ready.
    #[error("{system} did not come up: {words}{log}")]
    Start {
        /// Name in the plan.
        system: String,
        /// What was seen.
        words: String,
        /// The last lines of its log, each on a line of its own, or nothing.
        log: String,
    },
    /// It did not go away.
    #[error("{system} did not stop: {words}")]
    Stop {
        /// Name in the plan.
        system: String,
        /// What was seen.
        words: String,
    },
}
