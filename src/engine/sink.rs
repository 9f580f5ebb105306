//! What a run is given and whom it tells.

use std::io;
use std::path::Path;

use crate::plan::Case;
use crate::record::{Calibration, SearchResult, Skipped};
use crate::system::SystemError;

use super::finish::TrialFiles;
use super::register::Register;
use super::sides::TrialSide;
use super::{Interrupt, Tick};

/// Takes what a run produces, as it is produced.
pub trait RunSink: Sync {
    /// A trial begins: its case, its round, its number and how many there are.
    fn begin(&self, case: &Case, round: u32, number: usize, of: usize);
    fn tick(&self, tick: Tick);
    /// A system is not put to the test.
    fn skip(&self, skipped: Skipped);
    /// A trial is over. An error ends the run.
    fn trial(&self, trial: TrialFiles) -> io::Result<()>;
    /// A search has counted a trial, that of this case; it was given to `trial` before.
    ///
    /// # Errors
    /// As `trial`.
    fn search(&self, _progress: &SearchProgress<'_>) -> io::Result<()> {
        Ok(())
    }
}

/// How far a search has come.
pub struct SearchProgress<'a> {
    pub result: &'a SearchResult,
    /// Trials that are still to be expected, of all searches of the run.
    pub left: u32,
}

/// Why a run ended early.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// An agent is not there any more.
    #[error("{0}")]
    Agents(String),
    /// A system that was asked for is not there.
    #[error("{0}")]
    Required(SystemError),
    /// Something of this machine failed.
    #[error("cannot {action}: {source}")]
    Io {
        /// What was tried.
        action: &'static str,
        /// Why it failed.
        source: io::Error,
    },
}

/// Under what conditions a plan is executed.
#[derive(Debug, Clone, Copy)]
pub struct Conditions<'a> {
    /// The types of systems there are.
    pub register: &'a Register,
    /// A folder for the systems' files; each trial's is removed after it.
    pub scratch: &'a Path,
    /// What the kernel tells the time with; recorded.
    pub clocksource: &'a str,
    /// The newest calibration of this host by this build, where there is one: each trial is held
    /// against it.
    pub calibration: Option<&'a Calibration>,
    /// The user's wish to stop.
    pub interrupt: &'a Interrupt,
    /// Searches of the same plan that were interrupted: they go on where they were.
    pub taken_up: &'a [SearchResult],
    /// Trials of an interrupted run of the same plan, by round and case: they are not made again.
    pub done: &'a [(u32, String)],
    /// Whether agents run the load.
    pub side: TrialSide<'a>,
}
