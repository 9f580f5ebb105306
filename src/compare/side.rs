//! One side of a comparison, before anything is compared.

use crate::plan::Case;
use crate::record::{Host, Record, Trial};

/// The capacity that one search has found.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct FoundCapacity {
    /// Which search of its case it is, from 1.
    pub number: u32,
    /// Messages per second that keep the limits.
    pub lower: f64,
    /// The next load, which does not.
    pub upper: f64,
}

/// One side of a contest.
#[derive(Debug)]
pub(super) struct CaseSide<'a> {
    pub label: String,
    pub case: &'a Case,
    pub record: &'a Record,
    /// Valid trials, by round.
    pub trials: Vec<&'a Trial>,
    /// What its searches have found, where searches are compared.
    pub capacities: Option<Vec<FoundCapacity>>,
    pub excluded: usize,
    /// Why the first of them was left out.
    pub why_excluded: Option<Fault>,
}

impl CaseSide<'_> {
    /// How many values it has at most: its searches, or its valid trials.
    pub fn runs(&self) -> usize {
        self.capacities.as_ref().map_or(self.trials.len(), Vec::len)
    }
}

/// Why a trial is not compared.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Fault {
    pub reason: String,
    /// The same where the trial itself is shown as well.
    pub short: String,
    /// The checks that it did not pass.
    pub checks: Vec<String>,
}

pub(super) fn host_line(h: &Host) -> String {
    format!("{}, {} CPUs, {:.1} GiB, kernel {}", h.cpu, h.cpus, h.memory_bytes as f64 / f64::from(1 << 30), h.kernel)
}
