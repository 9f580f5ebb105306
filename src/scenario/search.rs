//! `[search]`: the highest load that keeps limits, found trial by trial.

use schemars::JsonSchema;
use serde::Deserialize;

use super::edit;
use super::gate;
use super::known::{KnownNames, Searched};
use super::sweep::{self, plain};
use crate::plan::gate::Share;
use crate::plan::problem::{Problem, Problems};
use crate::plan::search::{Parameter, SearchPlan, SearchRules, offered};
use crate::units::Rate;

/// `[search]` as typed.
#[derive(Debug, Clone, PartialEq, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct SearchTable {
    /// What a trial must keep to pass, each as in `[[expect]]`: "e2e.p99 < 20ms", "ledger.lost ==
    /// 0", "broker.cpu_us_per_msg < 30".
    pub limits: Vec<String>,
    /// What is varied: rate, or a setting of `workload`, such as workload.consumers, whose values
    /// are listed. Default: rate.
    pub parameter: Option<String>,
    /// The values of the setting, each harder to bear than the one before; the first is expected to
    /// keep the limits.
    #[schemars(with = "Option<Vec<serde_json::Value>>")]
    pub values: Option<Vec<toml::Value>>,
    /// How far the two rates that are left may be apart, 1% or more. Default: 5%.
    pub width: Option<Share>,
    /// Confidence at which a trial proves that a percentile keeps its limit or breaks it. Default:
    /// 0.95.
    pub confidence: Option<f64>,
    /// The lowest rate that is tried, of all open workloads together. Default: a thousandth of the
    /// first.
    pub min: Option<Rate>,
    /// The highest rate that is tried. Default: 10M/s.
    pub max: Option<Rate>,
    /// The rate that is needed: where settings are swept, the smallest value of each that holds it
    /// is named.
    pub need: Option<Rate>,
    /// Trials by which a verdict leads at the two rates that are left. Default: 3.
    pub lead: Option<u32>,
    /// Trials after which a search ends with what it knows. Default: 100.
    pub most_trials: Option<u32>,
    /// How often each search is made. Five give the median an interval. Default: 1.
    pub searches: Option<u32>,
}

/// The highest rate that is tried where nothing is said.
const HIGHEST: Rate = Rate(10e6);
/// By what the first rate is divided where no lowest one is said.
const BELOW: f64 = 1000.0;
/// What a search varies where nothing is said.
const BY_RATE: &str = "rate";

/// The setting that a search lists values of, as a sweep has it: its loads are load points.
pub(super) fn swept(search: &SearchTable) -> Option<(String, Vec<toml::Value>)> {
    let parameter = search.parameter.clone().filter(|p| p != BY_RATE)?;
    Some((parameter, search.values.clone().unwrap_or_default()))
}

/// What a table searches for.
pub(super) fn searched(search: &SearchTable) -> Searched {
    if swept(search).is_some() { Searched::Listed } else { Searched::Rate }
}

/// Resolves `[search]` for the cases of a plan.
pub(super) fn resolve(
    table: &SearchTable,
    document: &toml::Table,
    known: KnownNames<'_>,
    problems: &mut Problems,
) -> Option<SearchPlan> {
    let limits = limits(table, known, problems);
    let width = table.width.unwrap_or(Share(0.05));
    if !(0.01..=1.0).contains(&width.0) {
        problems.add(
            Problem::new("search.width", format!("{width} is not between 1% and 100%"))
                .hint("a rate is tried with three digits, of which two are up to 1 % apart: 100k/s, 101k/s"),
        );
        return None;
    }
    let confidence = table.confidence.unwrap_or(0.95);
    if !(0.5..1.0).contains(&confidence) {
        problems
            .add(Problem::new("search.confidence", format!("{confidence} is not from 0.5 to 1")).hint("usual is 0.95"));
    }
    let rules = SearchRules::default();
    let lead = table.lead.unwrap_or(rules.lead);
    if !(1..=rules.most_votes / 2).contains(&lead) {
        let most = rules.most_votes / 2;
        problems.add(Problem::new("search.lead", format!("{lead} is not between 1 and {most}")));
    }
    let most_trials = table.most_trials.unwrap_or(rules.most_trials);
    if most_trials < 2 * lead + 1 {
        problems.add(
            Problem::new("search.most-trials", format!("{most_trials} trials cannot lead by {lead} at two loads"))
                .hint("leave it out, or write 40 or more"),
        );
    }
    let searches = table.searches.unwrap_or(1);
    if searches == 0 {
        problems.add(Problem::new("search.searches", "no search is made").hint("write 1 or more"));
    }
    let parameter = match table.parameter.as_deref() {
        None | Some(BY_RATE) => by_rate(table, known, problems)?,
        Some(path) => listed(path, table, document, known.systems.len(), problems)?,
    };
    Some(SearchPlan { limits, parameter, width, confidence, lead, most_trials, searches, need: table.need })
}

fn limits(table: &SearchTable, known: KnownNames<'_>, problems: &mut Problems) -> Vec<crate::plan::gate::Expectation> {
    if table.limits.is_empty() {
        problems.add(
            Problem::new("search.limits", "a search needs a limit that a trial keeps or breaks")
                .hint("write limits = [\"e2e.p99 < 20ms\"], or give --limit 'e2e.p99 < 20ms'"),
        );
    }
    // What a trial is held to cannot be what all of them find.
    let known = KnownNames { search: Searched::Nothing, ..known };
    let each = table.limits.iter().enumerate();
    each.filter_map(|(i, that)| problems.take(gate::limit(&format!("search.limits.{i}"), that, None, known))).collect()
}

fn by_rate(table: &SearchTable, known: KnownNames<'_>, problems: &mut Problems) -> Option<Parameter> {
    if table.values.is_some() {
        problems.add(
            Problem::new("search.values", "values are listed, and the rate is varied")
                .hint("name the setting: parameter = \"workload.consumers\""),
        );
    }
    let first = known.cases.iter().map(offered).fold(f64::INFINITY, f64::min);
    if known.cases.iter().any(|c| offered(c) <= 0.0) || !first.is_finite() {
        problems.add(
            Problem::new("search", "no workload has a rate to vary")
                .hint("give one workload an open load: load.rate = \"1k/s\" is where the search begins"),
        );
        return None;
    }
    let max = table.max.unwrap_or(HIGHEST);
    let min = table.min.unwrap_or(Rate((first.min(max.0) / BELOW).max(1.0)));
    if min.0 < 1.0 || min.0 * 1.5 > max.0 {
        problems.add(
            Problem::new("search.max", format!("from {min} to {max} there is nothing to search"))
                .hint("the highest rate is at least half as high again as the lowest, which is 1/s or more"),
        );
        return None;
    }
    Some(Parameter::Rate { min, max, start: Rate(first.clamp(min.0, max.0)) })
}

fn listed(
    path: &str,
    table: &SearchTable,
    document: &toml::Table,
    systems: usize,
    problems: &mut Problems,
) -> Option<Parameter> {
    let values = table.values.as_deref().unwrap_or_default();
    if values.len() < 2 {
        problems.add(
            Problem::new("search.values", format!("a search over `{path}` needs the values that may be tried"))
                .hint("list two or more, each harder to bear than the one before: values = [1, 2, 4, 8]"),
        );
        return None;
    }
    for (key, given) in [("min", table.min), ("max", table.max), ("need", table.need)] {
        if given.is_some() {
            problems.add(
                Problem::new(format!("search.{key}"), "it is for a search over the rate")
                    .hint("the ends of `values` say it"),
            );
        }
    }
    // What it means in the document; a path that means nothing was said where cases are made.
    let normal = edit::normalise(document, path).ok()?;
    if normal[0] == "system" && systems > 1 {
        problems.add(
            Problem::new("search.parameter", format!("`{path}` is a setting of one system, and there are {systems}"))
                .hint("search with one system (--system NAME), or over the rate with the setting in [sweep]"),
        );
        return None;
    }
    let path = sweep::path(&normal);
    Some(Parameter::Listed { path, values: values.iter().map(plain).collect() })
}
