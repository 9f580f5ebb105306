//! How far the answer may be relied on, why, and what would raise it.

use super::AnswerContext;
use super::side::AnswerSide;
use crate::compare::Verdict;
use crate::plan::search::{Ending, SearchPlan};
use crate::record::{Record, SearchResult, Status};
use crate::units::plural;

/// From nothing to what an independent run would most likely confirm.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum ConfidenceLevel {
    None,
    Low,
    Medium,
    High,
}

impl ConfidenceLevel {
    pub fn word(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Low => "low",
            Self::Medium => "medium",
            Self::High => "high",
        }
    }
}

/// How far the answer may be relied on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Confidence {
    pub level: ConfidenceLevel,
    /// What holds it down, or, where nothing does, what it stands on.
    pub why: String,
    /// What would raise it; empty where nothing is missing.
    pub raise: String,
}

impl Confidence {
    /// `Confidence: low – 2 runs each, 6 needed`.
    pub fn words(&self) -> String {
        let raise = if self.raise.is_empty() { String::new() } else { format!("; {}", self.raise) };
        format!("Confidence: {} – {}{raise}", self.level.word(), self.why)
    }
}

/// Runs from which on the median has a 95 % interval.
const FOR_AN_INTERVAL: usize = 6;
/// Fewer than these say hardly how much runs differ.
const FEW: usize = 4;

/// Checks that say that the machine was not left alone.
pub(super) const MACHINE: [&str; 6] = ["V2", "V6", "V9", "V13", "V15", "V17"];

/// Of a search: how sure the two loads are that enclose the limit.
pub(super) fn of_search(record: &Record, search: &SearchPlan) -> Confidence {
    let make = |level, why: String, raise: &str| Confidence { level, why, raise: raise.into() };
    let enclosed = |s: &&SearchResult| s.bracket.ending == Ending::Found;
    let all = record.searches.len();
    let found = record.searches.iter().filter(enclosed).count();
    if record.searches.iter().all(|s| s.bracket.lower.is_none()) {
        return make(ConfidenceLevel::None, "no load keeps the limits for sure".into(), "");
    }
    if record.tool.profile == "debug" {
        return make(ConfidenceLevel::Low, "a debug build".into(), "measure with a release build");
    }
    if record.quick() || search.lead < 2 {
        return make(ConfidenceLevel::Low, "one trial decides each load".into(), "search without --quick");
    }
    let odds = format!("each of the two loads leads by {} trials", search.lead);
    match found {
        n if n < all => make(
            ConfidenceLevel::Low,
            format!(
                "{} of {} ended at two neighbouring loads",
                n,
                if all == 1 { "1 search".to_owned() } else { format!("{all} searches") }
            ),
            "",
        ),
        _ if search.searches < 5 => make(ConfidenceLevel::Medium, odds, "5 searches (--searches 5) would raise it"),
        _ => make(ConfidenceLevel::High, format!("{odds}, in {} searches", search.searches), ""),
    }
}

pub(super) fn confidence(context: &AnswerContext<'_>) -> Confidence {
    let make = |level, why: String, raise: String| Confidence { level, why, raise };
    let record = context.record;
    let used: Vec<&AnswerSide<'_>> = context.sides.iter().filter(|s| !s.used.is_empty() && !s.partial).collect();
    let n = used.iter().map(|s| s.used.len()).min().unwrap_or(0);
    if n == 0 {
        return make(ConfidenceLevel::None, "no trial counts".into(), String::new());
    }
    let most = used.iter().map(|s| s.used.len()).max().unwrap_or(0);
    let runs = match used.len() {
        1 => plural(n as u64, "run"),
        _ if most > n => format!("{n} to {} each", plural(most as u64, "run")),
        _ => format!("{} each", plural(n as u64, "run")),
    };
    if record.tool.profile == "debug" {
        let why = format!("{runs} of a debug build");
        return make(ConfidenceLevel::Low, why, "measure with a release build".into());
    }
    let open = undecided(context, &used);
    if n < FEW {
        let needed = FOR_AN_INTERVAL.max(open.iter().filter_map(|(_, needed)| *needed).max().unwrap_or(0) as usize);
        return make(ConfidenceLevel::Low, runs, format!("{needed} runs each would raise it"));
    }
    if let Some((pair, needed)) = open.first() {
        let raise = needed.map_or_else(String::new, |n| format!("{n} runs each would decide it"));
        return make(ConfidenceLevel::Medium, format!("{runs}; {pair} is not decided"), raise);
    }
    if busy(&used) > 0.5 {
        let raise = "a machine of its own for the broker, or more processors, would raise it".into();
        return make(ConfidenceLevel::Medium, format!("{runs}, but the machine was busy"), raise);
    }
    if used.iter().any(|s| s.tail.as_ref().is_some_and(|f| f.doubtful)) {
        let why = format!("{runs}, but a few slow spells decide the slowest messages");
        return make(ConfidenceLevel::Medium, why, "longer runs would raise it (--duration)".into());
    }
    if n < FOR_AN_INTERVAL {
        let raise = format!("{FOR_AN_INTERVAL} runs each would raise it");
        return make(ConfidenceLevel::Medium, runs, raise);
    }
    make(ConfidenceLevel::High, format!("{runs}, and they agree"), String::new())
}

/// Pairs of which it is not decided which is better, each with the runs that would.
fn undecided(context: &AnswerContext<'_>, used: &[&AnswerSide<'_>]) -> Vec<(String, Option<u64>)> {
    let mut list = Vec::new();
    for (i, x) in used.iter().enumerate() {
        for y in &used[i + 1..] {
            let Some(row) = context.row(x, y).filter(|r| r.verdict == Verdict::NotDecided) else { continue };
            let needed = row.runs_needed_seen.or(row.runs_needed);
            list.push((format!("which of {} and {} is better", x.name(), y.name()), needed));
        }
    }
    list
}

/// The share of trials in which the machine had a part.
pub(super) fn busy(used: &[&AnswerSide<'_>]) -> f64 {
    let trials: Vec<_> = used.iter().flat_map(|s| &s.used).collect();
    let hit = trials
        .iter()
        .filter(|t| t.validity.iter().any(|c| c.status == Status::Warn && MACHINE.contains(&c.id.as_str())))
        .count();
    if trials.is_empty() { 0.0 } else { hit as f64 / trials.len() as f64 }
}
