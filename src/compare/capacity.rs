//! Capacities: what the searches of a record have found, held to a limit and taken as the values of
//! a side.
//!
//! A search encloses the capacity between the load that keeps the limits and the next one, which
//! breaks one. So a limit is kept only by the lower end and broken only by the upper end, and a
//! ratio of two capacities is known no better than both intervals are wide, however many searches
//! agree.

use super::model::{ExcludedTrial, ExpectResult, ExpectVerdict};
use super::side::{CaseSide, Fault, FoundCapacity};
use crate::plan::Case;
use crate::plan::gate::{Comparator, Expectation};
use crate::plan::metric::Unit;
use crate::plan::search::{Ending, Parameter, SearchPlan, offered};
use crate::record::{Record, SearchResult};
use crate::units::plural;

/// The searches of one system at one load point.
#[derive(Debug)]
pub(super) struct SearchedCase<'a> {
    /// The case of the first trial.
    pub case: &'a Case,
    pub results: Vec<&'a SearchResult>,
}

impl SearchedCase<'_> {
    /// The capacities that were found.
    pub fn found(&self) -> Vec<FoundCapacity> {
        self.results.iter().filter_map(|r| found(r).ok()).collect()
    }
}

/// The search of a record, where it is over the rate.
pub(super) fn by_rate(record: &Record) -> Option<&SearchPlan> {
    record.plan.search.as_ref().filter(|s| matches!(s.parameter, Parameter::Rate { .. }) && !record.searches.is_empty())
}

/// The searches of a record, each system and load point once.
pub(super) fn searched(record: &Record) -> Vec<SearchedCase<'_>> {
    let mut list: Vec<SearchedCase<'_>> = Vec::new();
    for result in &record.searches {
        let there = |s: &&mut SearchedCase<'_>| s.results[0].case == result.case;
        if let Some(there) = list.iter_mut().find(there) {
            there.results.push(result);
            continue;
        }
        let of = |id: &str| record.plan.cases.iter().find(|c| c.id == id);
        if let Some(case) = result.trials.first().and_then(|t| of(&t.case)) {
            list.push(SearchedCase { case, results: vec![result] });
        }
    }
    list
}

/// A case without the rate that was searched, so that two searches of the same are alike: the
/// workloads keep their shares of the rate.
pub(super) fn without_rate(case: &Case) -> Case {
    let mut bare = case.clone();
    bare.point.pop();
    let all = offered(case);
    for workload in &mut bare.workloads {
        if let crate::plan::Load::Open { profile, .. } = &mut workload.load {
            for s in &mut profile.segments {
                let share = |rate: f64| crate::units::Rate((1e6 * rate / all).round());
                (s.from, s.to) = (share(s.from.0), share(s.to.0));
            }
        }
    }
    bare
}

/// The capacity of a search that has enclosed it.
///
/// # Errors
/// Why it has not, and what to do.
fn found(result: &SearchResult) -> Result<FoundCapacity, String> {
    let bracket = result.bracket;
    let shown = |load: Option<f64>| load.map_or_else(|| "-".into(), |l| Unit::Rate.show(l));
    if let Some(error) = &result.broken {
        return Err(format!("the system failed: {error}"));
    }
    match (bracket.ending, bracket.lower, bracket.upper) {
        (Ending::Found, Some(lower), Some(upper)) => Ok(FoundCapacity { number: result.number, lower, upper }),
        (Ending::AboveMax, lower, _) => {
            Err(format!("even {}, the most that was tried, keeps the limits: raise search.max", shown(lower)))
        }
        (Ending::GeneratorLimited, Some(_), _) => {
            Err(format!("above {} the generator is the limit", shown(bracket.lower)))
        }
        (Ending::GeneratorLimited, None, _) => Err("the generator is the limit at every load".into()),
        (Ending::Undecided, Some(_), _) => {
            Err(format!("above {} it stayed undecided: raise search.max", shown(bracket.lower)))
        }
        (Ending::OutOfTrials, ..) => {
            Err(format!("it did not end within {}", plural(result.trials.len() as u64, "trial")))
        }
        (Ending::Unfinished, ..) => {
            Err(format!("it was not finished after {}: --resume goes on", plural(result.trials.len() as u64, "trial")))
        }
        _ => Err("no load that was tried keeps the limits for sure: lower search.min".into()),
    }
}

/// A side whose values are the capacities of its searches.
pub(super) fn side<'a>(
    label: String,
    of: super::NamedRecord<'a>,
    searched: &SearchedCase<'a>,
    excluded: &mut Vec<ExcludedTrial>,
) -> CaseSide<'a> {
    let mine = |case: &str, round: u32| {
        searched.results.iter().flat_map(|r| &r.trials).any(|t| t.case == case && t.round == round)
    };
    let trials = of.record.trials.iter().filter(|t| mine(&t.case, t.round)).collect();
    let mut side = CaseSide {
        label,
        case: searched.case,
        record: of.record,
        trials,
        capacities: Some(Vec::new()),
        excluded: 0,
        why_excluded: None,
    };
    for result in &searched.results {
        match found(result) {
            Ok(capacity) => side.capacities.get_or_insert_default().push(capacity),
            Err(why) => {
                side.excluded += 1;
                side.why_excluded.get_or_insert_with(|| Fault {
                    reason: why.clone(),
                    short: why.clone(),
                    checks: Vec::new(),
                });
                let entry = ExcludedTrial {
                    of: of.label.into(),
                    case: result.case.clone(),
                    round: result.number,
                    reason: format!("search {}: {why}", result.number),
                    checks: Vec::new(),
                };
                if !excluded.contains(&entry) {
                    excluded.push(entry);
                }
            }
        }
    }
    side
}

/// Whether a search shows that the capacity keeps a limit, or breaks it; `None` where the limit
/// lies within its interval, or it did not end.
fn held(result: &SearchResult, e: &Expectation) -> Option<bool> {
    let bracket = result.bracket;
    let (low, high) = match bracket.ending {
        Ending::OutOfTrials | Ending::Unfinished => return None,
        Ending::Undecided => (bracket.lower.unwrap_or(0.0), bracket.upper.unwrap_or(f64::INFINITY)),
        Ending::BelowMin => (0.0, bracket.upper?),
        // What breaks there is the generator.
        Ending::GeneratorLimited => (bracket.lower?, f64::INFINITY),
        Ending::Found | Ending::AboveMax => (bracket.lower?, bracket.upper.unwrap_or(f64::INFINITY)),
    };
    let limit = e.limit;
    // The capacity is at least `low` and below `high`.
    let (kept, broken) = match e.comparator {
        Comparator::AtLeast => (low >= limit, high <= limit),
        Comparator::Greater => (low > limit, high <= limit),
        Comparator::AtMost => (high <= limit, low > limit),
        Comparator::Less => (high <= limit, low >= limit),
        Comparator::Equal => (false, low > limit || high <= limit),
    };
    (kept || broken).then_some(kept)
}

/// Holds the searches of a record to a limit of the capacity: one answer for each system and load
/// point.
pub(super) fn expectations(record: &Record, e: &Expectation) -> Vec<ExpectResult> {
    if by_rate(record).is_none() {
        return Vec::new();
    }
    let mut cases: Vec<&SearchResult> = Vec::new();
    for result in &record.searches {
        let name = record.plan.systems.get(result.system).map_or("", |s| s.name.as_str());
        if e.system.as_deref().is_none_or(|s| s == name) && !cases.iter().any(|c| c.case == result.case) {
            cases.push(result);
        }
    }
    cases.into_iter().map(|of| expectation(record, &of.case, e)).collect()
}

fn expectation(record: &Record, case: &str, e: &Expectation) -> ExpectResult {
    let all: Vec<&SearchResult> = record.searches.iter().filter(|s| s.case == case).collect();
    let known = |s: &&&SearchResult| {
        s.broken.is_none() && (s.bracket.lower.is_some() || s.bracket.upper.is_some_and(|_| below_all(s)))
    };
    let usable: Vec<&SearchResult> = all.iter().filter(known).copied().collect();
    let answers: Vec<Option<bool>> = usable.iter().map(|s| held(s, e)).collect();
    let count = |of: Option<bool>| answers.iter().filter(|a| **a == of).count();
    let (n, kept, broken) = (usable.len(), count(Some(true)), count(Some(false)));
    let intervals: Vec<String> = usable.iter().map(|s| interval(s)).collect();
    let searches = if n == 1 { "search".to_owned() } else { format!("{n} searches") };
    let shown = intervals.join(", ");
    let (verdict, sentence) = match () {
        () if n == 0 => {
            let why = all.iter().find_map(|s| found(s).err()).unwrap_or_default();
            (ExpectVerdict::Invalid, format!("`{}` has no search to hold it to: {why}", e.that))
        }
        () if 2 * broken > n => {
            let which = if n == 1 { "the search".to_owned() } else { format!("{broken} of {n} searches") };
            let verb = if broken == 1 { "breaks" } else { "break" };
            (ExpectVerdict::Unmet, format!("{which} {verb} `{}`: {shown}", e.that))
        }
        () if kept == n => {
            let which = if n == 1 { "the search keeps".to_owned() } else { format!("all {n} searches keep") };
            (ExpectVerdict::Met, format!("{which} `{}`: {shown}", e.that))
        }
        () => {
            let words = format!("the limit of `{}` lies within what the {searches} found: {shown}", e.that);
            (ExpectVerdict::Inconclusive, words)
        }
    };
    ExpectResult {
        case: case.into(),
        that: e.that.clone(),
        metric: e.metric.clone(),
        verdict,
        values: usable.iter().filter_map(|s| s.bracket.lower).collect(),
        sentence,
        on_inconclusive: e.on_inconclusive,
    }
}

/// Whether a load breaks a limit for sure and none is known that keeps them.
fn below_all(s: &SearchResult) -> bool {
    matches!(s.bracket.ending, Ending::BelowMin | Ending::Undecided)
}

/// `48.7k/s to 53.1k/s`, as far as a search knows.
fn interval(s: &SearchResult) -> String {
    let show = |v: f64| Unit::Rate.show(v);
    let unsure = if s.bracket.ending.ended() { "" } else { " (not ended)" };
    match (s.bracket.ending, s.bracket.lower, s.bracket.upper) {
        (Ending::GeneratorLimited, Some(low), _) => {
            format!("at least {}, above which the generator is the limit", show(low))
        }
        (_, Some(low), Some(high)) => format!("{} to {}{unsure}", show(low), show(high)),
        (_, Some(low), None) => format!("at least {}{unsure}", show(low)),
        (_, None, Some(high)) => format!("below {}{unsure}", show(high)),
        (_, None, None) => "nothing known".into(),
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::super::model::{Comparison, ComparisonRow, Verdict};
    use super::super::sample::{A, B};
    use super::super::{CompareOptions, NamedRecord, systems};
    use super::*;
    use crate::plan::gate::{Gate, Share};
    use crate::plan::search::{Bracket, Purpose, Vote};
    use crate::record::SearchTrial;
    use crate::units::Rate;

    /// Searches of two systems that found these rates, each so wide.
    pub(in crate::compare) fn searched_record(reference: &[f64], nats: &[f64], width: f64) -> Record {
        let mut record = super::super::sample::record(&A, &B);
        let (min, max, start) = (Rate(1.0), Rate(1e9), Rate(1e3));
        record.plan.search = Some(SearchPlan {
            limits: Vec::new(),
            parameter: Parameter::Rate { min, max, start },
            width: Share(width),
            confidence: 0.95,
            lead: 3,
            most_trials: 100,
            searches: 4,
            need: None,
        });
        for (system, found) in [reference, nats].into_iter().enumerate() {
            let case = record.plan.cases[system].id.clone();
            for (i, lower) in found.iter().enumerate() {
                let round = i as u32 + 1;
                let trial = SearchTrial {
                    case: case.clone(),
                    round,
                    load: *lower,
                    purpose: Purpose::Climb,
                    vote: Vote::Pass,
                    broken: Vec::new(),
                    why: String::new(),
                };
                let upper = Some(lower * (1.0 + width));
                record.searches.push(SearchResult {
                    case: format!("search-{case}"),
                    system,
                    number: round,
                    bracket: Bracket { lower: Some(*lower), upper, ending: Ending::Found },
                    trials: vec![trial],
                    votes: Vec::new(),
                    broken: None,
                });
            }
        }
        record
    }

    fn compared(reference: &[f64], nats: &[f64], width: f64) -> Comparison {
        let record = searched_record(reference, nats, width);
        let of = NamedRecord { label: "result", record: &record };
        systems(of, Some("reference"), &Gate::default(), CompareOptions::default()).unwrap()
    }

    fn only(c: &Comparison) -> &ComparisonRow {
        let [row] = c.rows.as_slice() else { panic!("{:?}", c.rows) };
        assert_eq!(row.metric.to_string(), "capacity");
        row
    }

    #[test]
    fn a_difference_beyond_both_intervals_is_one() {
        let (slow, fast) = ([1000.0, 1045.0, 1000.0, 1000.0], [1300.0, 1250.0, 1250.0, 1300.0]);
        let c = compared(&slow, &fast, 0.045);
        let row = only(&c);
        assert_eq!(row.verdict, Verdict::Faster, "{}", row.reason);
        let ratio = row.ratio.unwrap();
        let (low, high) = ratio.ci95.unwrap();
        // Of every true capacity that the searches allow.
        assert!(low <= 1250.0 / (1045.0 * 1.045) && high >= 1300.0 * 1.045 / 1000.0, "{ratio:?}");
        assert_eq!(only(&compared(&fast, &slow, 0.045)).verdict, Verdict::Slower);
    }

    #[test]
    fn what_the_searches_leave_open_is_not_decided() {
        let same = [1000.0; 4];
        let c = compared(&same, &same, 0.06);
        let row = only(&c);
        assert_eq!(row.verdict, Verdict::NotDecided);
        assert!(row.reason.contains("search with a smaller width"), "{}", row.reason);
        assert_eq!(only(&compared(&same, &same, 0.045)).verdict, Verdict::Same);
        let c = compared(&same[..3], &same[..3], 0.045);
        assert!(only(&c).reason.contains("3 + 3 searches are too few for an interval"), "{}", only(&c).reason);
    }
}
