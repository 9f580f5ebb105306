//! Votes for a load, and which verdict leads.

use serde::{Deserialize, Serialize};

/// How a trial ended, as the search counts it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Vote {
    /// The limits were kept, and that is proved.
    Pass,
    /// One was broken, and that is proved; or the system did not keep up.
    Fail,
    /// Neither is proved.
    Undecided,
    /// The host or the generator spoiled the trial: it says nothing of the system.
    Spoiled,
}

/// Votes for one load.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Tally {
    pub passed: u32,
    pub failed: u32,
    pub undecided: u32,
}

impl Tally {
    pub(super) fn add(&mut self, vote: Vote) {
        match vote {
            Vote::Pass => self.passed += 1,
            Vote::Fail => self.failed += 1,
            Vote::Undecided => self.undecided += 1,
            Vote::Spoiled => {}
        }
    }
    pub(super) fn all(self) -> u32 {
        self.passed + self.failed + self.undecided
    }
    /// The verdict, once it leads by so many; at the cap nothing more is expected.
    pub(super) fn verdict(self, pass_lead: u32, fail_lead: u32, cap: u32) -> Lead {
        if self.passed >= self.failed + pass_lead {
            Lead::Keeps
        } else if self.failed >= self.passed + fail_lead {
            Lead::Breaks
        } else if self.all() >= cap {
            Lead::Between
        } else {
            Lead::Open
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Lead {
    Keeps,
    Breaks,
    /// The most votes are cast, and none leads.
    Between,
    Open,
}
