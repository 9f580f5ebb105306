//! What somebody says of messaging systems, put to the test: a file of claims, what of it is run,
//! and a verdict for each.
//!
//! Background: an article, a vendor's page or a team's own objectives consist of statements that a
//! measurement can support or refute, of facts that can be read, and of opinions. A reader wants to
//! know which is which, and what of it holds on her machines with today's versions. Scope: pure; a
//! text and records in, verdicts out. `cli::claims` runs what is missing, `report` makes pages.
//! Invariants: the decision rule stands in the file before anything is measured; a verdict never
//! contradicts its own interval; what was not measured is UNDECIDED and never passes. Design:
//! [mod@file] is what is typed, [`rule`] the words of a decision rule, [`read()`] gives what a file
//! means ([`set`]), [`judge`] holds one rule to the records (the statistics are those of
//! `compare`), [`verdict`] corrects all tests of a report together (Holm) and makes one word of the
//! rules and conditions of a claim, [`sentence`] says it; [`ClaimChanges`] says in what two results
//! differ. One measurement serves several claims, as runs are what costs. Rejected: a claim as a
//! scenario with `[[expect]]` (a limit is kept by every run or not; a statement about two systems
//! is none); one scenario for each claim (hours more, and claims about the same thing would be
//! tested on different runs); settings matched to share runs by themselves (the reader of the file
//! should see what is run).

mod changes;
pub mod file;
pub mod judge;
mod read;
pub mod result;
pub mod rule;
#[cfg(test)]
pub(crate) mod sample;
mod second;
pub mod sentence;
pub mod set;
mod share;
pub mod verdict;

pub use changes::{ClaimChanges, SavedOutcomes};
pub use read::read;
pub use result::{ClaimResult, ClaimWord, ConditionResult, Outcomes, SecondResult};
pub use second::{SecondFound, SecondMethod, SecondRule};
pub use set::{Claim, ClaimBody, ClaimSet, Condition, Form, Measure, ScenarioText};
pub use share::RateShare;
pub use verdict::{ClaimFindings, judge as judge_all};
