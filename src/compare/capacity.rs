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

/// Stands for 0 where no load that was tried keeps the limits: a ratio needs what is above it.
const NONE: f64 = f64::MIN_POSITIVE;

/// Between what the capacity of a search lies. One that keeps the limits at every load, or as far
/// as the generator goes, is known from below; one that breaks them at every load, from above. To
/// leave these out would leave out the fastest and the slowest. A search that did not end has ends
/// that were not looked at twice: it is left out, as is one whose system failed.
///
/// # Errors
/// Why nothing is known of it.
fn enclosed(result: &SearchResult) -> Result<FoundCapacity, String> {
    let (number, bracket) = (result.number, result.bracket);
    let why = match found(result) {
        Ok(capacity) => return Ok(capacity),
        Err(why) => why,
    };
    match (bracket.ending, bracket.lower, bracket.upper) {
        _ if result.broken.is_some() => Err(why),
        (Ending::AboveMax | Ending::GeneratorLimited | Ending::Undecided, Some(lower), _) => {
            Ok(FoundCapacity { number, lower, upper: f64::INFINITY })
        }
        (Ending::BelowMin | Ending::Undecided, _, Some(upper)) => Ok(FoundCapacity { number, lower: NONE, upper }),
        _ => Err(why),
    }
}

/// Whether a capacity keeps a limit, or breaks it, that is at least `low` and below `high`; `None`
/// where the limit lies between.
pub(super) fn against(comparator: Comparator, (low, high): (f64, f64), limit: f64) -> Option<bool> {
    let (kept, broken) = match comparator {
        Comparator::AtLeast => (low >= limit, high <= limit),
        Comparator::Greater => (low > limit, high <= limit),
        Comparator::AtMost => (high <= limit, low > limit),
        Comparator::Less => (high <= limit, low >= limit),
        Comparator::Equal => (false, low > limit || high <= limit),
    };
    (kept || broken).then_some(kept)
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
        match enclosed(result) {
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
    against(e.comparator, (low, high), e.limit)
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
        () if kept == all.len() => {
            let which = if n == 1 { "the search keeps".to_owned() } else { format!("all {n} searches keep") };
            (ExpectVerdict::Met, format!("{which} `{}`: {shown}", e.that))
        }
        () => (ExpectVerdict::Inconclusive, open(&all, (&usable, &answers), e)),
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

/// Why searches neither keep a limit nor break it: those that say nothing of it, by their number.
fn open(all: &[&SearchResult], (usable, answers): (&[&SearchResult], &[Option<bool>]), e: &Expectation) -> String {
    let named = |s: &SearchResult, why: String| format!("search {} has no answer: {why}", s.number);
    let gone = all.iter().filter(|s| !usable.iter().any(|u| u.number == s.number));
    let endless = |s: &SearchResult| !s.bracket.ending.ended();
    let unended = usable.iter().filter(|s| endless(s));
    let why = |s: &SearchResult| found(s).err().unwrap_or_default();
    let without: Vec<String> = gone.chain(unended).map(|s| named(s, why(s))).collect();
    let between = usable.iter().zip(answers).filter(|(s, a)| a.is_none() && !endless(s)).count();
    let broken = answers.iter().filter(|a| **a == Some(false)).count();
    let n = usable.len();
    let searches = if n == 1 { "search".to_owned() } else { format!("{n} searches") };
    let mut parts = Vec::new();
    if between > 0 || broken > 0 {
        parts.push(format!("the limit of `{}` lies within what the {searches} found", e.that));
    }
    match without.is_empty() {
        true => {}
        false if parts.is_empty() => parts.push(format!("`{}` is not decided, {}", e.that, without.join("; "))),
        false => parts.push(without.join("; ")),
    }
    let intervals: Vec<String> = usable.iter().map(|s| interval(s)).collect();
    format!("{}: {}", parts.join("; "), intervals.join(", "))
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
    use super::super::sample::searched;
    use super::super::{CompareOptions, NamedRecord, systems};
    use super::*;
    use crate::plan::gate::{Gate, Policy};
    use crate::plan::search::Bracket;

    /// Searches of two systems that found these rates, each so wide.
    pub(in crate::compare) fn searched_record(reference: &[f64], nats: &[f64], width: f64) -> Record {
        let found =
            |lower: &f64| Bracket { lower: Some(*lower), upper: Some(lower * (1.0 + width)), ending: Ending::Found };
        let [reference, nats] = [reference, nats].map(|all| all.iter().map(found).collect::<Vec<_>>());
        searched(&reference, &nats, width)
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
        let but = |v: f64| v * (1.0 + 1e-12);
        assert!(low <= but(1250.0 / (1045.0 * 1.045)) && but(high) >= 1300.0 * 1.045 / 1000.0, "{ratio:?}");
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
    const FOUND: Bracket = Bracket { lower: Some(150e3), upper: Some(157e3), ending: Ending::Found };
    const ABOVE: Bracket = Bracket { lower: Some(200e3), upper: None, ending: Ending::AboveMax };
    const BELOW: Bracket = Bracket { lower: None, upper: Some(100.0), ending: Ending::BelowMin };
    const ENDLESS: Bracket = Bracket { lower: Some(150e3), upper: Some(190e3), ending: Ending::OutOfTrials };

    /// A search that has found one end alone is a value: without the fastest, or the slowest, the
    /// others are no sample.
    #[test]
    fn searches_with_one_end_are_not_left_out() {
        let of = |reference: &[Bracket], nats: &[Bracket]| {
            let record = searched(reference, nats, 0.05);
            let of = NamedRecord { label: "result", record: &record };
            let c = systems(of, Some("reference"), &Gate::default(), CompareOptions::default()).unwrap();
            let row = only(&c);
            (row.verdict, row.reason.clone(), (row.a.n, row.b.n))
        };
        // More than all, whatever more it is.
        assert_eq!(of(&[FOUND; 4], &[ABOVE; 4]).0, Verdict::Faster);
        assert_eq!(of(&[BELOW; 4], &[FOUND; 4]).0, Verdict::Faster);
        assert_eq!(of(&[FOUND; 4], &[BELOW; 4]).0, Verdict::Slower);
        for one in [ABOVE, BELOW] {
            let (verdict, why, n) = of(&[one; 4], &[one; 4]);
            assert_eq!((verdict, n), (Verdict::NotDecided, (4, 4)), "{why}");
            assert!(why.contains("raise search.max, or lower search.min"), "{why}");
        }
        // As many are fast as are slow.
        let mixed = [FOUND, FOUND, FOUND, ABOVE, ABOVE, ABOVE];
        let (verdict, why, n) = of(&mixed, &[Bracket { lower: Some(170e3), upper: Some(178e3), ..FOUND }; 6]);
        assert_eq!((verdict, n), (Verdict::NotDecided, (6, 6)), "{why}");
        assert_eq!(of(&[ENDLESS, FOUND, FOUND, FOUND, FOUND], &[FOUND; 5]).2, (4, 5));
    }

    fn promised(all: &[Bracket], limit: f64) -> ExpectResult {
        let record = searched(all, &[], 0.05);
        let (that, metric) = ("capacity >= limit".to_owned(), "capacity".parse().unwrap());
        let e = Expectation {
            that,
            metric,
            comparator: Comparator::AtLeast,
            limit,
            system: Some("reference".into()),
            on_inconclusive: Policy::Warn,
        };
        expectations(&record, &e).remove(0)
    }

    /// A search without an answer keeps no promise.
    #[test]
    fn all_searches_must_keep_a_promise() {
        const NOTHING: Bracket = Bracket { lower: None, upper: None, ending: Ending::GeneratorLimited };
        assert_eq!(promised(&[FOUND, FOUND, FOUND, ABOVE], 50e3).verdict, ExpectVerdict::Met);
        let one = promised(&[FOUND, NOTHING, ENDLESS, FOUND], 50e3);
        assert_eq!(one.verdict, ExpectVerdict::Inconclusive, "{}", one.sentence);
        let words = "`capacity >= limit` is not decided, search 2 has no answer: the generator is the limit at every load; \
                     search 3 has no answer: it did not end within 1 trial: ";
        assert!(one.sentence.starts_with(words), "{}", one.sentence);
        assert_eq!(promised(&[FOUND, NOTHING], 155e3).verdict, ExpectVerdict::Inconclusive);
        assert_eq!(promised(&[NOTHING], 50e3).verdict, ExpectVerdict::Invalid);
        assert_eq!(promised(&[FOUND, FOUND, NOTHING], 1e6).verdict, ExpectVerdict::Unmet);
    }

    /// Where a search did not end, the limit is not within what it found.
    #[test]
    fn a_search_that_did_not_end_is_told_so() {
        let one = promised(&[ENDLESS], 50e3);
        assert_eq!(one.verdict, ExpectVerdict::Inconclusive);
        assert!(
            one.sentence.contains("it did not end within 1 trial: 150k/s to 190k/s (not ended)"),
            "{}",
            one.sentence
        );
        assert!(!one.sentence.contains("lies within"), "{}", one.sentence);
        let within = promised(&[FOUND], 155e3).sentence;
        assert!(within.starts_with("the limit of `capacity >= limit` lies within what the search found"), "{within}");
    }
}
