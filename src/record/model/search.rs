//! What a search for the highest load came to.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::plan::search::{Bracket, Purpose, Tally, Vote};

/// A search at one system and load point.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct SearchResult {
    /// The case where it began, without the load that was varied; no case of the plan is called so.
    pub case: String,
    /// Index into the systems of the plan.
    pub system: usize,
    /// Which search of this case it is, from 1.
    pub number: u32,
    /// Where the limit is, as far as it is known.
    pub bracket: Bracket,
    /// Its trials, in order.
    pub trials: Vec<SearchTrial>,
    /// Votes for each load, by load; those of the confirmation where there are any.
    pub votes: Vec<(f64, Tally)>,
    /// Why the system could not be tried any more, in words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub broken: Option<String>,
}

/// A trial of a search.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct SearchTrial {
    /// Its case, and its round there.
    pub case: String,
    pub round: u32,
    /// The load that was tried; of listed values its number, from 0.
    pub load: f64,
    pub purpose: Purpose,
    pub vote: Vote,
    /// The limits that were broken, as numbers into those of the search; none where the system did
    /// not keep up, or a trial was spoiled.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub broken: Vec<usize>,
    /// Why it is no pass.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub why: String,
}

impl SearchResult {
    /// Loads above the answer that more trials passed than failed: the limit is not one load.
    pub fn inversions(&self) -> Vec<f64> {
        let Some(upper) = self.bracket.upper else { return Vec::new() };
        let held = |(load, t): &&(f64, Tally)| *load > upper && t.passed > t.failed;
        self.votes.iter().filter(held).map(|(load, _)| *load).collect()
    }

    /// Trials that said nothing of the system.
    pub fn spoiled(&self) -> usize {
        self.trials.iter().filter(|t| t.vote == Vote::Spoiled && t.purpose != Purpose::WarmUp).count()
    }

    /// What was broken at the lowest load that breaks a limit, most often: a limit of the search,
    /// or that the system did not keep up (`None` inside).
    pub fn binding(&self) -> Option<Option<usize>> {
        let upper = self.bracket.upper?;
        let failed = self.trials.iter().filter(|t| t.load == upper && t.vote == Vote::Fail);
        let mut counts: std::collections::BTreeMap<Option<usize>, usize> = std::collections::BTreeMap::new();
        for t in failed {
            *counts.entry(t.broken.first().copied()).or_default() += 1;
        }
        counts.into_iter().max_by_key(|(_, n)| *n).map(|(what, _)| what)
    }
}
