//! A search for the highest load that keeps limits: what is varied, and how sure the answer is to
//! be.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::gate::{Expectation, Share};
use super::{Case, Load};
use crate::units::{Rate, Span};

pub use crate::stats::search::{Bracket, Ending, Ladder, Probe, Purpose, Search, SearchRules, Tally, Vote};

/// A search for the highest load that keeps limits, at each system and load point of the plan.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub struct SearchPlan {
    /// What every trial is held to; a trial passes when all are kept.
    pub limits: Vec<Expectation>,
    /// What is varied.
    pub parameter: Parameter,
    /// The two loads that are left are at most so far apart.
    pub width: Share,
    /// Confidence at which a trial proves that a percentile keeps its limit, or breaks it.
    pub confidence: f64,
    /// Trials by which a verdict leads at the two loads that are left.
    pub lead: u32,
    /// Trials after which a search ends with what it knows.
    pub most_trials: u32,
    /// How often each search is made, from its start.
    pub searches: u32,
    /// The rate that is needed of the systems, where one is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub need: Option<Rate>,
}

/// What a search varies.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Parameter {
    /// Messages per second of all open workloads together, each in its share.
    Rate {
        /// The lowest that is tried.
        min: Rate,
        /// The highest that is tried.
        max: Rate,
        /// The first that is tried.
        start: Rate,
    },
    /// Load points of the plan, in the order in which they are harder to bear.
    Listed {
        /// The setting: `workload.0.consumers`.
        path: String,
        /// Its values, as typed.
        values: Vec<String>,
    },
}

impl SearchPlan {
    pub fn rules(&self) -> SearchRules {
        SearchRules { lead: self.lead, most_trials: self.most_trials, ..SearchRules::default() }
    }

    /// The loads that may be tried; of listed values their numbers, from 0.
    pub fn ladder(&self) -> Ladder {
        match &self.parameter {
            Parameter::Rate { min, max, start } => Ladder::rates(min.0, max.0, start.0, self.width.0),
            Parameter::Listed { values, .. } => Ladder::listed(values.len(), 0),
        }
    }

    /// A load in words: `61.2k/s`, or the value as typed.
    pub fn shown(&self, load: f64) -> String {
        match &self.parameter {
            Parameter::Rate { .. } => Rate(load).to_string(),
            Parameter::Listed { values, .. } => values.get(load as usize).cloned().unwrap_or_default(),
        }
    }
}

/// Messages per second that the open workloads of a case offer at most, together.
pub fn offered(case: &Case) -> f64 {
    case.workloads
        .iter()
        .filter_map(|w| match &w.load {
            Load::Open { profile, .. } => Some(profile.peak().0),
            Load::Unthrottled { .. } | Load::Closed { .. } => None,
        })
        .sum()
}

/// A case as it is at another rate: its open workloads keep their shares. `base` is its name
/// without a rate.
pub fn at_rate(case: &Case, rate: f64) -> Case {
    let factor = rate / offered(case);
    let mut at = case.clone();
    for workload in &mut at.workloads {
        if let Load::Open { profile, .. } = &mut workload.load {
            for s in &mut profile.segments {
                (s.from, s.to) = (Rate(s.from.0 * factor), Rate(s.to.0 * factor));
            }
        }
    }
    let shown = Rate(rate).to_string();
    at.point.push((RATE.into(), shown.clone()));
    at.id = format!("{}-rate-{}", case.id, shown.trim_end_matches("/s"));
    at
}

/// The setting that a search over the rate varies, as in a load point.
pub const RATE: &str = "workload.load.rate";

/// The measured phase of a trial that is made longer.
pub fn stretched(case: &Case, times: u32) -> Case {
    let mut longer = case.clone();
    longer.phases.measure = Span(case.phases.measure.0 * u64::from(times));
    longer
}
