//! One metric of two systems, wherever they were measured: at two load points of one result, or in
//! two results. And of one system by itself.
//!
//! For those who ask for a certain pair and say what would answer them, as a claim does. The values
//! and the statistics are those of every other comparison; what makes no like pair is said, and
//! decided by who asked.

use super::NamedRecord;
use super::capacity;
use super::differences::facts;
use super::judge;
use super::model::{Effect, SideSample};
use super::observe;
use super::pair;
use super::pairing::system_of;
use super::side::CaseSide;
use crate::plan::gate::Comparator;
use crate::plan::metric::{Metric, Quantity};
use crate::record::{Outcome, WorkloadResult};
use crate::stats::quantile::{PercentileUse, may};
use crate::stats::{ranks, shift};
use crate::units::plural;

/// A metric of a system at a load point of a result.
#[derive(Debug, Clone, Copy)]
pub struct AskedValue<'a> {
    pub of: NamedRecord<'a>,
    pub system: &'a str,
    /// Settings that were swept, by their path or its last word, and their values.
    pub at: &'a [(String, String)],
    pub metric: &'a Metric,
}

/// The values of one system.
#[derive(Debug, Clone)]
pub struct OneSide {
    pub sample: SideSample,
    /// The upper ends of its values where these are searched: each value is below its own. `None`
    /// where values are exact.
    pub below: Option<Vec<f64>>,
    /// Why too few samples stand behind a percentile to decide anything, where they do.
    pub thin: Option<String>,
    /// What a count is one of, in its valid trials together: deliveries owed, messages that had to
    /// be kept, attempts to get in. Nothing of other counts.
    pub owed: Option<u64>,
}

impl OneSide {
    /// The upper ends of the values; the values themselves where they are exact.
    pub fn upper(&self) -> &[f64] {
        self.below.as_ref().unwrap_or(&self.sample.values)
    }

    /// The 95 % interval of the median, from the lower ends to the upper ones.
    pub fn median_ci95(&self) -> Option<(f64, f64)> {
        let most = shift::median_interval(self.upper(), 0.95);
        self.sample.median_ci95.zip(most).map(|((low, _), (_, high))| (low, high))
    }

    /// Whether each value keeps a limit; `None` where the limit lies between its ends.
    pub fn against(&self, comparator: Comparator, limit: f64) -> Vec<Option<bool>> {
        let ends = self.sample.values.iter().copied().zip(self.upper().iter().copied());
        let one = |(low, high)| match self.below {
            Some(_) => capacity::against(comparator, (low, high), limit),
            None => Some(comparator.holds(low, limit)),
        };
        ends.map(one).collect()
    }
}

/// The values of two systems, and what they say of each other.
#[derive(Debug, Clone)]
pub struct TwoSides {
    pub a: OneSide,
    pub b: OneSide,
    /// b / a; absent where a value is zero.
    pub ratio: Option<Effect>,
    /// b - a, in the unit.
    pub shift: Option<Effect>,
    /// How they differ in what bears on whether a message arrives and survives: `durability: ...
    /// and ...`.
    pub unlike: Vec<String>,
}

impl TwoSides {
    /// The two-sided p-value of b being `factor` times a: exact Mann-Whitney. Of searched values it
    /// is that of the ends which are nearest to each other: 1 where they do not say which is more.
    pub fn p(&self, factor: f64) -> Option<f64> {
        let test = |a: &[f64], b: &[f64]| {
            let scaled: Vec<f64> = a.iter().map(|v| v * factor).collect();
            ranks::mann_whitney(&scaled, b)
        };
        let (a, b) = (&self.a, &self.b);
        let half = (a.sample.n * b.sample.n) as f64 / 2.0;
        // The statistic counts the pairs in which a is more.
        let (less, more) = (test(&a.sample.values, b.upper())?, test(a.upper(), &b.sample.values)?);
        Some(match () {
            () if less.statistic > half => less.p,
            () if more.statistic < half => more.p,
            () => 1.0,
        })
    }
}

/// Whether a load point is the one that is asked for.
fn there(point: &[(String, String)], at: &[(String, String)]) -> bool {
    at.iter().all(|(key, value)| {
        let named = |path: &str| path == key || path.rsplit('.').next() == Some(key);
        point.iter().any(|(path, found)| named(path) && found == value)
    })
}

/// `nats at rate=2k/s`.
fn named(asked: &AskedValue<'_>) -> String {
    let at: Vec<String> = asked.at.iter().map(|(k, v)| format!("{k}={v}")).collect();
    if at.is_empty() { asked.system.into() } else { format!("{} at {}", asked.system, at.join(", ")) }
}

/// The side that is asked for.
fn side<'a>(asked: &AskedValue<'a>) -> Result<CaseSide<'a>, String> {
    let record = asked.of.record;
    if let Some(skipped) = record.skipped.iter().find(|s| s.system == asked.system) {
        return Err(format!("{} was not measured: {}", asked.system, skipped.reason));
    }
    let mut excluded = Vec::new();
    let label = named(asked);
    if asked.metric.quantity == Quantity::Capacity {
        let all = capacity::searched(record);
        let wanted = |s: &&capacity::SearchedCase<'_>| {
            system_of(record, s.case) == asked.system && there(&capacity::without_rate(s.case).point, asked.at)
        };
        let found = all.iter().find(wanted).ok_or_else(|| format!("nothing was searched for {label}"))?;
        return Ok(capacity::side(label, asked.of, found, &mut excluded));
    }
    let mut found =
        record.plan.cases.iter().filter(|c| system_of(record, c) == asked.system && there(&c.point, asked.at));
    match (found.next(), found.next()) {
        (Some(case), None) => Ok(pair::side(label, asked.of, case, &mut excluded)),
        (Some(_), Some(_)) => Err(format!("{label} was measured at several load points, and none is named")),
        (None, _) => Err(format!("{label} is not in the result")),
    }
}

/// The values of a side, and what stands behind them.
fn observed(asked: &AskedValue<'_>, side: &CaseSide<'_>) -> Result<OneSide, String> {
    let name = asked.metric.workload.as_deref();
    let index = match name {
        None => 0,
        Some(name) => side
            .case
            .workloads
            .iter()
            .position(|w| w.name == name)
            .ok_or_else(|| format!("{} has no workload `{name}`", side.label))?,
    };
    let values = judge::values_of(side, index, &asked.metric.quantity, usize::MAX);
    let lower: Vec<f64> = values.iter().map(|(_, o)| o.value).collect();
    let sample = judge::sample(side, &lower);
    let below = side.capacities.is_some().then(|| judge::upper_ends(side, &lower));
    if sample.n == 0 {
        return Err(nothing(side, asked));
    }
    let (worth, counted) =
        (judge::median_exceedances(&values, |o| o.exceedances), judge::median_exceedances(&values, |o| o.counted));
    let too_few = worth.is_some_and(|k| may(k) < PercentileUse::Gate);
    let thin = too_few.then(|| observe::thin(asked.metric.quantity.quantile(), counted, worth));
    let owed = side.trials.iter().filter_map(|t| t.workloads.get(index)).map(|w| owed(w, &asked.metric.quantity)).sum();
    Ok(OneSide { sample, below, thin, owed })
}

/// What a count of a trial is one of.
fn owed(w: &WorkloadResult, quantity: &Quantity) -> Option<u64> {
    match quantity {
        Quantity::Ledger(field) if field == "let_in" || field.starts_with("intrusions") => Some(w.ledger.intrusions),
        Quantity::Ledger(_) => Some(w.ledger.expected),
        Quantity::Kept(_) => w.kept.as_ref().map(|k| k.owed),
        _ => None,
    }
}

/// Why a side has no values.
fn nothing(side: &CaseSide<'_>, asked: &AskedValue<'_>) -> String {
    let tried = side.record.trials.iter().filter(|t| t.case == side.case.id);
    let partial = tried.clone().any(|t| t.outcome == Outcome::Partial);
    match &side.why_excluded {
        Some(fault) => {
            format!(
                "no valid run of {}: {} left out, {}",
                side.label,
                plural(side.excluded as u64, "run"),
                fault.reason
            )
        }
        None if partial => format!("the run of {} was interrupted", side.label),
        None if tried.count() == 0 => format!("{} was not run", side.label),
        None => format!("`{}` was not measured at {}", asked.metric, side.label),
    }
}

/// The values of one system.
///
/// # Errors
/// Why there are none.
pub fn of_one(asked: &AskedValue<'_>) -> Result<OneSide, String> {
    observed(asked, &side(asked)?)
}

/// The values of two systems, or of one at two load points.
///
/// # Errors
/// Why one of them has none.
pub fn of_two(a: &AskedValue<'_>, b: &AskedValue<'_>) -> Result<TwoSides, String> {
    let (side_a, side_b) = (side(a)?, side(b)?);
    let (one_a, one_b) = (observed(a, &side_a)?, observed(b, &side_b)?);
    let (x, y) = (&one_a.sample.values, &one_b.sample.values);
    let ratio = judge::ratio((x, one_a.upper()), (y, one_b.upper()));
    let shifted = judge::effect(&|c| shift::shift(x, y, c));
    let promises = facts("", &side_a, &side_b).into_iter().filter(|d| d.promise);
    let unlike = promises.map(|d| format!("{}: {} and {}", d.what, d.baseline, d.candidate)).collect();
    Ok(TwoSides { a: one_a, b: one_b, ratio, shift: shifted, unlike })
}
