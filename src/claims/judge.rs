//! Holds one rule to the records: what was found, on which side of the rule it lies, and how sure
//! that is.
//!
//! Three kinds of rules have three kinds of certainty. A limit is held against the exact interval
//! of the median over rounds, with the sign test. Two systems are held against each other by the
//! interval of their ratio, with the test that belongs to it (Mann-Whitney). Of a count that is 0
//! or not, and of a limit that each round must keep, one counterexample decides; where there is
//! none, the rule of three bounds how many there can be.

use std::collections::BTreeMap;

use serde::{Serialize, Serializer};

use super::rule::{Bound, Operand, Rule};
use crate::compare::{AskedValue, NamedRecord, OneSide, TwoSides, of_one, of_two};
use crate::plan::gate::Comparator;
use crate::plan::metric::Unit;
use crate::record::Record;
use crate::stats::ranks;
use crate::units::plural;

/// Which side of its rule a figure lies on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum RuleFinding {
    /// The whole interval keeps the rule.
    Holds,
    /// The whole interval breaks it.
    Fails,
    /// Neither.
    Open,
}

/// What a rule was held against.
/// JSON has no infinite number, and null would read as one that was not measured: it is `"inf"`.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub enum Figure {
    /// Nothing was measured.
    None,
    /// The median over runs of one system, and its 95 % interval.
    Median {
        #[serde(serialize_with = "finite_or_inf")]
        value: f64,
        #[serde(serialize_with = "both_finite_or_inf")]
        ci95: Option<(f64, f64)>,
        unit: UnitName,
        runs: usize,
    },
    /// How many times the right side the left side is, and its 95 % interval; the medians of both.
    Ratio {
        #[serde(serialize_with = "finite_or_inf")]
        value: f64,
        #[serde(serialize_with = "both_finite_or_inf")]
        ci95: Option<(f64, f64)>,
        #[serde(serialize_with = "finite_or_inf")]
        left: f64,
        #[serde(serialize_with = "finite_or_inf")]
        right: f64,
        unit: UnitName,
        runs: (usize, usize),
    },
    /// The difference of both sides, where a value is zero.
    Difference {
        #[serde(serialize_with = "finite_or_inf")]
        value: f64,
        #[serde(serialize_with = "both_finite_or_inf")]
        ci95: Option<(f64, f64)>,
        #[serde(serialize_with = "finite_or_inf")]
        left: f64,
        #[serde(serialize_with = "finite_or_inf")]
        right: f64,
        unit: UnitName,
        runs: (usize, usize),
    },
    /// A count over all runs, and of how many messages where it is one of these.
    Count { value: f64, of: Option<u64>, runs: usize },
    /// The round that keeps a limit worst, and how many break it.
    Worst {
        #[serde(serialize_with = "finite_or_inf")]
        value: f64,
        broken: usize,
        unit: UnitName,
        runs: usize,
    },
}

/// A number as JSON has it, and in words one that it has not.
#[derive(Serialize)]
#[serde(untagged)]
enum FigureNumber {
    Finite(f64),
    Infinite(&'static str),
}

impl From<f64> for FigureNumber {
    fn from(v: f64) -> Self {
        match v.is_infinite() {
            true => Self::Infinite(if v > 0.0 { "inf" } else { "-inf" }),
            false => Self::Finite(v),
        }
    }
}

fn finite_or_inf<S: Serializer>(v: &f64, s: S) -> Result<S::Ok, S::Error> {
    FigureNumber::from(*v).serialize(s)
}

fn both_finite_or_inf<S: Serializer>(ends: &Option<(f64, f64)>, s: S) -> Result<S::Ok, S::Error> {
    ends.map(|(low, high)| (FigureNumber::from(low), FigureNumber::from(high))).serialize(s)
}

/// The sign of a unit, which is all that a file of results keeps of it.
pub type UnitName = &'static str;

/// One rule, held to the records.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct RuleResult {
    /// As typed.
    pub that: String,
    /// What was looked at: `e2e.p50 of nats`.
    pub left: String,
    /// The other system, where it is a ratio.
    pub right: Option<String>,
    pub finding: RuleFinding,
    pub figure: Figure,
    /// The unit as a type, for words.
    #[serde(skip)]
    pub kind: Option<Unit>,
    /// Two-sided p-value of the border of the rule, where there is a test.
    pub p: Option<f64>,
    /// The same, corrected for all tests of the report.
    pub p_adjusted: Option<f64>,
    /// Why it is open, or what is missing.
    pub open_because: Option<String>,
    /// Whether it is open because the interval holds the border: more rounds make that narrower.
    #[serde(skip)]
    pub within: bool,
    /// In what bears on the fate of messages the two systems differ.
    pub unlike: Vec<String>,
    /// How many rounds were left out, and why the first was.
    pub left_out: Option<(usize, String)>,
}

/// What a side is to be: below the border, or above it.
fn wants_less(c: Comparator) -> bool {
    matches!(c, Comparator::Less | Comparator::AtMost | Comparator::Equal)
}

/// Where an interval lies, seen from a border; `open` where its upper end is not in it.
fn side(comparator: Comparator, (low, high): (f64, f64), open: bool, border: f64) -> RuleFinding {
    let under = high < border || open && high == border;
    let (below, above) = match comparator {
        Comparator::Less => (under, low >= border),
        Comparator::AtMost | Comparator::Equal => (high <= border, low > border),
        Comparator::Greater => (high <= border, low > border),
        Comparator::AtLeast => (under, low >= border),
    };
    match (below, above, wants_less(comparator)) {
        (true, _, true) | (_, true, false) => RuleFinding::Holds,
        (_, true, true) | (true, _, false) => RuleFinding::Fails,
        _ => RuleFinding::Open,
    }
}

impl RuleResult {
    /// Of a rule that nothing was measured for.
    pub(super) fn open(rule: &Rule, why: String) -> Self {
        let kind = Some(rule.left.metric.quantity.unit());
        Self {
            that: rule.that.clone(),
            left: rule.left.to_string(),
            right: match &rule.right {
                Bound::Measured { operand, .. } => Some(operand.place()),
                Bound::Limit(_) => None,
            },
            finding: RuleFinding::Open,
            figure: Figure::None,
            kind,
            p: None,
            p_adjusted: None,
            open_because: Some(why),
            within: false,
            unlike: Vec::new(),
            left_out: None,
        }
    }
}

/// How many rounds of these sides were left out, and why the first of them was.
fn left_out(sides: &[&OneSide]) -> Option<(usize, String)> {
    let why = sides.iter().find_map(|s| s.sample.why_excluded.clone())?;
    Some((sides.iter().map(|s| s.sample.excluded).sum(), why))
}

/// Whether so many rounds of a side were left out that those which count may be the lucky ones.
fn picked(sides: &[&OneSide]) -> bool {
    sides.iter().any(|s| s.sample.excluded > s.sample.n)
}

impl RuleResult {
    /// Leaves it open where most rounds of a side were left out.
    fn of_rounds(mut self, sides: &[&OneSide], fails_by_one: bool) -> Self {
        self.left_out = left_out(sides);
        if picked(sides) && self.finding != RuleFinding::Open && !fails_by_one {
            self.finding = RuleFinding::Open;
            self.open_because = Some("more rounds were left out than count".into());
        }
        self
    }
}

/// Why too few samples leave a rule open. What is known too low then does not keep a rule that
/// wants less, nor break one that wants more.
fn too_thin(comparator: Comparator, finding: RuleFinding, thin: Option<&String>) -> Option<String> {
    let low = if wants_less(comparator) { RuleFinding::Holds } else { RuleFinding::Fails };
    thin.filter(|_| finding == low).cloned()
}

/// Holds a rule to what was measured; `records` has the result of each measurement that there is.
pub fn held(rule: &Rule, records: &BTreeMap<String, Record>) -> RuleResult {
    let result = match &rule.right {
        Bound::Limit(limit) if rule.each => in_each(rule, *limit, records),
        Bound::Limit(_) if rule.by_counterexample() => counted(rule, records),
        Bound::Limit(limit) => limited(rule, *limit, records),
        Bound::Measured { factor, operand } => compared(rule, *factor, operand, records),
    };
    result.unwrap_or_else(|why| RuleResult::open(rule, why))
}

pub(super) fn asked<'a>(operand: &'a Operand, records: &'a BTreeMap<String, Record>) -> Result<AskedValue<'a>, String> {
    let name = operand.measure.as_deref().unwrap_or_default();
    let record = records.get(name).ok_or_else(|| format!("`{name}` was not run"))?;
    let of = NamedRecord { label: name, record };
    Ok(AskedValue { of, system: &operand.system, at: &operand.at, metric: &operand.metric })
}

fn counted(rule: &Rule, records: &BTreeMap<String, Record>) -> Result<RuleResult, String> {
    let one = of_one(&asked(&rule.left, records)?)?;
    let sum: f64 = one.sample.values.iter().sum();
    let finding = match rule.comparator {
        Comparator::Equal | Comparator::AtMost if sum > 0.0 => RuleFinding::Fails,
        Comparator::Equal | Comparator::AtMost => RuleFinding::Holds,
        Comparator::Greater if sum > 0.0 => RuleFinding::Holds,
        _ => RuleFinding::Open,
    };
    let open =
        (finding == RuleFinding::Open).then(|| "none was seen, which does not mean that there are none".to_owned());
    let figure = Figure::Count { value: sum, of: one.owed, runs: one.sample.n };
    // A counterexample is one, however few rounds count.
    let seen = sum > 0.0;
    let result = RuleResult { finding, figure, ..RuleResult::open(rule, String::new()) }.because(open);
    Ok(result.of_rounds(&[&one], seen))
}

/// A limit that each round must keep.
fn in_each(rule: &Rule, limit: f64, records: &BTreeMap<String, Record>) -> Result<RuleResult, String> {
    let one = of_one(&asked(&rule.left, records)?)?;
    let OneSide { sample, thin, .. } = &one;
    // The end of a searched value that keeps the limit worse.
    let worst = match wants_less(rule.comparator) {
        true => one.upper().iter().copied().reduce(f64::max),
        false => sample.values.iter().copied().reduce(f64::min),
    };
    let Some(worst) = worst else {
        return Err(format!("no valid round says {}", rule.left));
    };
    let against = one.against(rule.comparator, limit);
    let count = |of: Option<bool>| against.iter().filter(|a| **a == of).count();
    let (broken, between) = (count(Some(false)), count(None));
    let finding = match (broken, between) {
        (1.., _) => RuleFinding::Fails,
        (0, 0) => RuleFinding::Holds,
        _ => RuleFinding::Open,
    };
    let open = (finding == RuleFinding::Open).then(|| {
        let all = plural(sample.n as u64, "search");
        format!("the limit lies within what {between} of {all} found: search with a smaller width")
    });
    let thin = too_thin(rule.comparator, finding, thin.as_ref());
    let finding = if thin.is_some() { RuleFinding::Open } else { finding };
    let figure = Figure::Worst { value: worst, broken, unit: rule.left.metric.quantity.unit().name(), runs: sample.n };
    let result = RuleResult { finding, figure, ..RuleResult::open(rule, String::new()) }.because(thin.or(open));
    Ok(result.of_rounds(&[&one], broken > 0))
}

/// Where the median lies, seen from a limit, by its interval, and the p-value of the sign test that
/// this interval inverts. A value whose ends do not say on which side of the limit it is speaks
/// against the side of most.
fn of_median(one: &OneSide, comparator: Comparator, limit: f64) -> (RuleFinding, Option<f64>) {
    let searched = one.below.is_some();
    let finding = one.median_ci95().map_or(RuleFinding::Open, |ci| side(comparator, ci, searched, limit));
    let against = one.against(comparator, limit);
    let count = |of: bool| against.iter().filter(|a| **a == Some(of)).count();
    (finding, ranks::sign_test(count(true).max(count(false)), against.len()))
}

fn limited(rule: &Rule, limit: f64, records: &BTreeMap<String, Record>) -> Result<RuleResult, String> {
    let one = of_one(&asked(&rule.left, records)?)?;
    let OneSide { sample, thin, .. } = &one;
    let kind = rule.left.metric.quantity.unit();
    let value = sample.median.unwrap_or(f64::NAN);
    let figure = Figure::Median { value, ci95: one.median_ci95(), unit: kind.name(), runs: sample.n };
    let (finding, p) = of_median(&one, rule.comparator, limit);
    let few = sample
        .median_ci95
        .is_none()
        .then(|| format!("{} valid rounds are fewer than the 6 that a 95 % interval of a median needs", sample.n));
    let thin = too_thin(rule.comparator, finding, thin.as_ref());
    let finding = if thin.is_some() { RuleFinding::Open } else { finding };
    let within = thin.is_none() && few.is_none() && finding == RuleFinding::Open;
    let open = thin.or(few).or_else(|| within.then(|| "the interval holds the limit".into()));
    let result = RuleResult { finding, figure, p, within, ..RuleResult::open(rule, String::new()) }.because(open);
    Ok(result.of_rounds(&[&one], false))
}

/// Whether each value of b is `factor` times each value of a.
fn tied(a: &[f64], b: &[f64], factor: f64) -> bool {
    b.first().is_some_and(|first| a.iter().all(|v| v * factor == *first) && b.iter().all(|v| v == first))
}

fn compared(
    rule: &Rule,
    factor: f64,
    right: &Operand,
    records: &BTreeMap<String, Record>,
) -> Result<RuleResult, String> {
    // The right side is the baseline: the ratio is left by right.
    let two = of_two(&asked(right, records)?, &asked(&rule.left, records)?)?;
    let p = two.p(factor);
    let TwoSides { a, b, ratio, shift, unlike } = two;
    let unit = rule.left.metric.quantity.unit().name();
    let runs = (b.sample.n, a.sample.n);
    let [left, right] = [&b, &a].map(|s| s.sample.median.unwrap_or(f64::NAN));
    let (figure, interval, border) = match (ratio, shift) {
        (Some(r), _) => (Figure::Ratio { value: r.value, ci95: r.ci95, left, right, unit, runs }, r.ci95, Some(factor)),
        // Without a ratio there is no multiple of nothing to compare with.
        (None, Some(s)) => {
            let figure = Figure::Difference { value: s.value, ci95: s.ci95, left, right, unit, runs };
            (figure, s.ci95, (factor == 1.0).then_some(0.0))
        }
        (None, None) => (Figure::None, None, None),
    };
    let finding = match (interval, border) {
        (Some(ci), Some(border)) => side(rule.comparator, ci, false, border),
        _ => RuleFinding::Open,
    };
    // Counts that are the same in every round of both are compared like any two numbers: a test of
    // them would say nothing, and no number of rounds would change that.
    let counted = rule.left.metric.quantity.unit() == Unit::Count;
    let p = p.filter(|_| !(counted && tied(&a.sample.values, &b.sample.values, factor)));
    // Both sides must be known: which one is too low decides on which side the ratio is wrong.
    let thin = a.thin.clone().or_else(|| b.thin.clone()).filter(|_| finding != RuleFinding::Open);
    let finding = if thin.is_some() { RuleFinding::Open } else { finding };
    let within = thin.is_none() && finding == RuleFinding::Open && interval.is_some() && border.is_some();
    let open = thin.or_else(|| {
        (finding == RuleFinding::Open).then(|| match (interval, border) {
            (None, _) => format!("{} and {} valid rounds are too few for a 95 % interval", runs.0, runs.1),
            (_, None) => "a value is 0, so that there is no ratio".into(),
            _ => "the interval holds both answers".into(),
        })
    });
    let result =
        RuleResult { finding, figure, p, within, unlike, ..RuleResult::open(rule, String::new()) }.because(open);
    Ok(result.of_rounds(&[&b, &a], false))
}

impl RuleResult {
    fn because(mut self, why: Option<String>) -> Self {
        self.open_because = why;
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compare::sample::{A, B, record, searched};
    use crate::plan::search::{Bracket, Ending};
    use proptest::prelude::*;

    fn held_by(that: &str, records: &BTreeMap<String, Record>) -> RuleResult {
        let mut rule = Rule::read(that).unwrap();
        rule.left.measure = Some("m".into());
        if let Bound::Measured { operand, .. } = &mut rule.right {
            operand.measure = Some("m".into());
        }
        held(&rule, records)
    }

    fn of(record: Record) -> BTreeMap<String, Record> {
        BTreeMap::from([("m".to_owned(), record)])
    }

    /// A is about 807 us and B 847 us; the whole interval must be on one side.
    #[test]
    fn a_limit_is_decided_by_the_interval_of_the_median() {
        let records = of(record(&A, &B));
        let found = |that: &str| held_by(that, &records).finding;
        assert_eq!(found("e2e.p99 of reference < 1ms"), RuleFinding::Holds);
        assert_eq!(found("e2e.p99 of reference > 1ms"), RuleFinding::Fails);
        assert_eq!(found("e2e.p99 of reference < 700us"), RuleFinding::Fails);
        assert_eq!(found("e2e.p99 of reference >= 700us"), RuleFinding::Holds);
        assert_eq!(found("e2e.p99 of reference < 808us"), RuleFinding::Open, "within the interval");
        assert_eq!(found("e2e.p99 of reference > 808us"), RuleFinding::Open);
        let result = held_by("e2e.p99 of reference < 1ms", &records);
        let Figure::Median { value, ci95: Some((low, high)), runs: 10, .. } = result.figure else {
            panic!("{result:?}")
        };
        assert!(low < value && value < high && (795e3..830e3).contains(&low), "{low} {value} {high}");
        assert!((result.p.unwrap() - 2.0 / 1024.0).abs() < 1e-9, "{:?}", result.p);
    }

    const FOUND: Bracket = Bracket { lower: Some(95e3), upper: Some(105e3), ending: Ending::Found };
    const ABOVE: Bracket = Bracket { lower: Some(200e3), upper: None, ending: Ending::AboveMax };

    /// A search knows a capacity between two ends: a limit between them is open, however many
    /// searches agree.
    #[test]
    fn a_limit_within_what_the_searches_found_is_open() {
        let records = of(searched(&[FOUND; 12], &[FOUND; 12], 0.1));
        let held = |that: &str| {
            let found = held_by(&format!("capacity of reference {that}"), &records);
            (found.finding, found.p.is_none_or(|p| p < 0.05))
        };
        for each in ["", " in each round"] {
            let finding = |that: &str| held(&format!("{that}{each}")).0;
            for that in [">= 100k/s", "< 100k/s", "> 100k/s", "<= 100k/s"] {
                assert_eq!(finding(that), RuleFinding::Open, "{that}{each}");
            }
            assert_eq!(finding(">= 95k/s"), RuleFinding::Holds, "{each}");
            assert_eq!(finding("< 105k/s"), RuleFinding::Holds, "{each}");
            assert_eq!(finding("<= 94k/s"), RuleFinding::Fails, "{each}");
            assert_eq!(finding("> 105k/s"), RuleFinding::Fails, "{each}");
        }
        assert_eq!((held("< 100k/s").1, held("< 105k/s").1, held("> 105k/s").1), (false, true, true));
        let result = held_by("capacity of reference < 100k/s", &records);
        let Figure::Median { ci95, .. } = result.figure else { panic!("{result:?}") };
        assert_eq!(ci95, Some((95e3, 105e3)));
        // Systems that found the same are not told apart by the lower ends alone.
        let two = held_by("capacity of reference <= capacity of nats", &records);
        assert_eq!((two.finding, two.p), (RuleFinding::Open, Some(1.0)), "{two:?}");
    }

    /// Five of twelve that keep the limits at every load are five that are above.
    #[test]
    fn searches_that_found_no_end_count() {
        let mut all = [Bracket { lower: Some(150e3), upper: Some(157e3), ..FOUND }; 12];
        all[7..].fill(ABOVE);
        let records = of(searched(&all, &[ABOVE; 12], 0.05));
        let found = |that: &str| held_by(that, &records).finding;
        assert_eq!(found("capacity of reference < 180k/s"), RuleFinding::Open);
        assert_eq!(found("capacity of reference < 180k/s in each round"), RuleFinding::Fails);
        assert_eq!(found("capacity of reference >= 150k/s"), RuleFinding::Holds);
        assert_eq!(found("capacity of nats > 180k/s"), RuleFinding::Holds);
        assert_eq!(found("capacity of nats < 300k/s"), RuleFinding::Open);
        assert_eq!(found("capacity of nats >= capacity of reference"), RuleFinding::Open, "five may be as fast");
        assert_eq!(found("capacity of nats > 0.9 * capacity of reference"), RuleFinding::Open);
    }

    /// A side with these values.
    fn of_values(values: &[f64]) -> OneSide {
        static BASE: std::sync::OnceLock<OneSide> = std::sync::OnceLock::new();
        let base = || {
            let mut rule = Rule::read("ledger.sent of reference > 0").unwrap();
            rule.left.measure = Some("m".into());
            of_one(&asked(&rule.left, &of(record(&A, &B))).unwrap()).unwrap()
        };
        let mut one = BASE.get_or_init(base).clone();
        one.sample.median_ci95 = crate::stats::shift::median_interval(values, 0.95);
        (one.sample.n, one.sample.values) = (values.len(), values.to_vec());
        one
    }

    /// Rounds at the limit keep `<=` and break `<`: they count, in the interval and in the test.
    #[test]
    fn rounds_at_the_limit_count() {
        let of = |low: usize, high: usize| [vec![11.0; low], vec![12.0; high]].concat();
        let p = |values: &[f64], comparator| of_median(&of_values(values), comparator, 12.0).1.unwrap();
        assert!((p(&of(10, 2), Comparator::Less) - 158.0 / 4096.0).abs() < 1e-12);
        assert!((p(&of(3, 9), Comparator::AtMost) - 2.0 / 4096.0).abs() < 1e-12);
        assert!((p(&of(0, 12), Comparator::Less) - 2.0 / 4096.0).abs() < 1e-12);
        assert_eq!(of_median(&of_values(&of(0, 12)), Comparator::Less, 12.0).0, RuleFinding::Fails);
    }

    proptest! {
        /// The interval decides exactly where the test is below 5 %.
        #[test]
        fn interval_and_test_agree(values in prop::collection::vec(0u8..4, 6..40), limit in 0u8..4, sign in 0usize..4) {
            use Comparator::{AtLeast, AtMost, Greater, Less};
            let values: Vec<f64> = values.into_iter().map(f64::from).collect();
            let (finding, p) = of_median(&of_values(&values), [Less, AtMost, Greater, AtLeast][sign], f64::from(limit));
            prop_assert_eq!(finding != RuleFinding::Open, p.unwrap() <= 0.05, "{:?} {:?}", finding, p);
        }
    }

    #[test]
    fn five_rounds_decide_no_limit() {
        let result = held_by("e2e.p99 of reference < 1ms", &of(record(&A[..5], &B[..5])));
        assert_eq!(result.finding, RuleFinding::Open);
        assert!(result.open_because.unwrap().contains("5 valid rounds are fewer than the 6"));
    }

    #[test]
    fn two_systems_are_decided_by_the_interval_of_their_ratio() {
        let records = of(record(&A, &B));
        let found = |that: &str| held_by(that, &records).finding;
        assert_eq!(found("e2e.p99 of reference < e2e.p99 of nats"), RuleFinding::Holds);
        assert_eq!(found("e2e.p99 of nats < e2e.p99 of reference"), RuleFinding::Fails);
        assert_eq!(found("e2e.p99 of nats < 1.1 * e2e.p99 of reference"), RuleFinding::Holds);
        assert_eq!(found("e2e.p99 of nats < 1.05 * e2e.p99 of reference"), RuleFinding::Open);
        assert_eq!(found("e2e.p99 of nats > 1.02 * e2e.p99 of reference"), RuleFinding::Holds);
        let result = held_by("e2e.p99 of nats < e2e.p99 of reference", &records);
        let Figure::Ratio { value, runs: (10, 10), .. } = result.figure else { panic!("{result:?}") };
        // As `compare` says of the same samples.
        assert!((value - 1.049).abs() < 0.003, "{value}");
        let three = held_by("e2e.p99 of nats < e2e.p99 of reference", &of(record(&A[..3], &B[..3])));
        assert!(three.open_because.unwrap().contains("3 and 3 valid rounds are too few"));
    }

    /// One process and one process are as many: no test says that better.
    #[test]
    fn counts_that_never_differ_need_no_test() {
        let mut record = record(&A, &B);
        record.trials.iter_mut().for_each(|t| t.processes = Some(1));
        let held = |that: &str, record: &Record| {
            let found = held_by(that, &of(record.clone()));
            (found.finding, found.p)
        };
        let (more, most) = ("broker.processes of nats > broker.processes of reference", "broker.processes of nats <=");
        assert_eq!(held(more, &record), (RuleFinding::Fails, None));
        let twice = format!("{most} 2 * broker.processes of reference");
        let (finding, p) = held(&twice, &record);
        assert!(finding == RuleFinding::Holds && p.unwrap() < 1e-4, "{p:?}");
        // One that differs makes it a matter of chance again.
        record.trials[0].processes = Some(2);
        assert!(held(more, &record).1.is_some());
    }

    #[test]
    fn one_counterexample_decides_and_none_bounds() {
        let mut lossy = record(&A, &B);
        let clean = held_by("ledger.lost of nats == 0", &of(lossy.clone()));
        assert_eq!((clean.finding, clean.p), (RuleFinding::Holds, None));
        assert_eq!(clean.figure, Figure::Count { value: 0.0, of: Some(200_000), runs: 10 });
        assert_eq!(
            held_by("ledger.lost of nats > 0", &of(lossy.clone())).finding,
            RuleFinding::Open,
            "not seen is not never"
        );
        let one = lossy.trials.iter_mut().find(|t| t.case == "nats").unwrap();
        one.workloads[0].ledger.lost = 1;
        assert_eq!(held_by("ledger.lost of nats == 0", &of(lossy.clone())).finding, RuleFinding::Fails);
        assert_eq!(held_by("ledger.lost of nats > 0", &of(lossy.clone())).finding, RuleFinding::Holds);
        assert_eq!(held_by("ledger.lost of reference == 0", &of(lossy)).finding, RuleFinding::Holds);
    }

    /// A limit that each round must keep needs no number of rounds, and one that breaks it decides.
    #[test]
    fn one_round_breaks_what_each_must_keep() {
        let few = of(record(&A[..2], &B[..2]));
        let keeps = held_by("e2e.p99 of reference < 1ms in each round", &few);
        assert_eq!((keeps.finding, keeps.p), (RuleFinding::Holds, None), "{keeps:?}");
        let Figure::Worst { value, broken: 0, runs: 2, .. } = keeps.figure else { panic!("{keeps:?}") };
        assert!((790e3..840e3).contains(&value), "{value}");
        // The median keeps it, and the slowest of ten rounds does not.
        let records = of(record(&A, &B));
        let Figure::Worst { value: worst, .. } = held_by("e2e.p99 of reference < 1s in each round", &records).figure
        else {
            panic!("no figure")
        };
        let within = format!("e2e.p99 of reference < {}ns in each round", worst as u64 - 1000);
        let breaks = held_by(&within, &records);
        assert_eq!(breaks.finding, RuleFinding::Fails, "{breaks:?}");
        let Figure::Worst { broken: 1.., runs: 10, .. } = breaks.figure else { panic!("{breaks:?}") };
        let Figure::Worst { value: least, .. } = held_by("e2e.p99 of reference > 1us in each round", &records).figure
        else {
            panic!("no figure")
        };
        assert!(least < worst, "{least} {worst}");
    }

    /// With too few samples above it a percentile is known too low: then it is not surely low
    /// enough, and is surely too high where it is; and no ratio of it decides.
    #[test]
    fn a_thin_percentile_decides_only_what_it_can() {
        let mut thin = record(&A, &B);
        for trial in &mut thin.trials {
            let latency = trial.workloads[0].latency.values_mut();
            latency.flat_map(|l| &mut l.percentiles).for_each(|p| (p.exceedances, p.effective) = (5.0, Some(5.0)));
        }
        let records = of(thin);
        let found = |that: &str| held_by(that, &records).finding;
        assert_eq!(found("e2e.p99 of reference < 1ms"), RuleFinding::Open);
        assert_eq!(found("e2e.p99 of reference < 700us"), RuleFinding::Fails);
        assert_eq!(found("e2e.p99 of reference > 700us"), RuleFinding::Holds);
        assert_eq!(found("e2e.p99 of reference > 1ms"), RuleFinding::Open);
        let two = held_by("e2e.p99 of reference < e2e.p99 of nats", &records);
        assert_eq!(two.finding, RuleFinding::Open);
        assert!(two.open_because.unwrap().contains("samples"));
    }

    /// Where most rounds failed, the few that did not may be the lucky ones; a loss is a loss.
    #[test]
    fn rounds_that_are_left_out_are_told_and_may_leave_it_open() {
        let with = |failed: u32| {
            let mut record = record(&A, &B);
            for trial in record.trials.iter_mut().filter(|t| t.case == "nats" && t.round <= failed) {
                trial.outcome = crate::record::Outcome::Failed { phase: "measure".into(), error: "it died".into() };
            }
            record
        };
        let two = held_by("ledger.lost of nats == 0", &of(with(2)));
        assert_eq!(two.finding, RuleFinding::Holds);
        assert!(two.left_out.as_ref().is_some_and(|(n, why)| *n == 2 && why.contains("it died")), "{two:?}");
        let seven = held_by("ledger.lost of nats == 0", &of(with(7)));
        assert_eq!(seven.finding, RuleFinding::Open);
        assert!(seven.open_because.unwrap().contains("more rounds were left out than count"));
        let mut lossy = with(7);
        lossy.trials.iter_mut().rfind(|t| t.case == "nats").unwrap().workloads[0].ledger.lost = 1;
        assert_eq!(held_by("ledger.lost of nats == 0", &of(lossy)).finding, RuleFinding::Fails);
    }

    /// Lost messages are infinitely late, which is not unknown.
    #[test]
    fn an_infinite_figure_is_not_a_missing_one() {
        let lost = record(&[f64::INFINITY; 6], &B[..6]);
        let result = held_by("e2e.p99 of reference < 1ms", &of(lost));
        let json = serde_json::to_value(&result.figure).unwrap();
        assert_eq!(json["Median"]["value"], "inf", "{json}");
        assert_eq!(json["Median"]["ci95"], serde_json::json!(["inf", "inf"]), "{json}");
        assert_eq!(serde_json::to_value(Figure::None).unwrap(), "None");
        let json = serde_json::to_value(held_by("e2e.p99 of nats < 1ms", &of(record(&A, &B))).figure).unwrap();
        assert!(json["Median"]["value"].is_f64(), "{json}");
    }

    /// What may not be believed, and what is not there, decides nothing.
    #[test]
    fn invalid_and_missing_runs_leave_it_open() {
        let mut broken = record(&A, &B);
        for trial in broken.trials.iter_mut().filter(|t| t.case == "nats") {
            trial.outcome = crate::record::Outcome::Failed { phase: "measure".into(), error: "it died".into() };
        }
        let why = |that: &str, records: &BTreeMap<String, Record>| held_by(that, records).open_because.unwrap();
        let records = of(broken);
        assert!(why("ledger.lost of nats == 0", &records).contains("it died"));
        assert!(why("e2e.p99 of nats < 1ms", &records).contains("no valid run of nats"));
        assert!(why("e2e.p99 of kafka < 1ms", &records).contains("kafka is not in the result"));
        assert!(why("e2e.p99 of nats < 1ms", &BTreeMap::new()).contains("`m` was not run"));
    }
}
