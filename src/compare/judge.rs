//! From the values of two sides to a verdict on one metric (stats.md A7).

use super::clocks;
use super::foreign;
use super::model::{ComparisonRow, Effect, Question, SideSample, Verdict};
use super::observe::{self, ObservedValue};
use super::pairing::CasePair;
use super::sentence;
use super::side::CaseSide;
use super::verdict::{SIDE_BY_SIDE, by_figures, side_by_side};
use crate::plan::gate::Gate;
use crate::plan::metric::{Metric, Quantity};
use crate::record::{Headlines, RESPONSES, WorkloadResult};
use crate::stats::quantile::{PercentileUse, may};
use crate::stats::{decide, median, multiple, ranks, sample_variance, shift};

/// The power that `runs_needed` is computed for.
const POWER: f64 = 0.8;

/// A row without its verdict.
pub(super) struct DraftRow {
    row: ComparisonRow,
    /// How far apart the two ends of a value are at most, as a share; of a search only.
    wide: f64,
    /// Ratio and difference as they would be if the clocks were known.
    sharp: (Option<Effect>, Option<Effect>),
    /// What the samples behind a percentile allow.
    may: PercentileUse,
    /// Why they do not allow more.
    thin: String,
    /// Why nothing can be decided whatever the figures are.
    undecidable: Option<String>,
    /// Why the first trial of each side that is left out is left out.
    left_out: [Option<String>; 2],
}

/// How many runs of each side are looked at.
enum RunsLookedAt {
    All,
    First { runs: usize, number: u32 },
    Early { wanted: u32 },
}

fn runs_looked_at(gate: &Gate, n: usize) -> RunsLookedAt {
    match gate.looks {
        None => RunsLookedAt::All,
        Some((_, second)) if n >= second as usize => RunsLookedAt::First { runs: second as usize, number: 2 },
        Some((first, _)) if n >= first as usize => RunsLookedAt::First { runs: first as usize, number: 1 },
        Some((first, _)) => RunsLookedAt::Early { wanted: first },
    }
}

/// All metrics of a contest, measured and tested.
pub(super) fn drafts(pair: &CasePair<'_>, gate: &Gate) -> Vec<DraftRow> {
    let (a, b) = (&pair.a, &pair.b);
    let several = a.case.workloads.len() > 1;
    let quantiles: Vec<f64> = a
        .record
        .plan
        .percentiles
        .iter()
        .copied()
        .filter(|q| b.record.plan.percentiles.iter().any(|p| (p - q).abs() < 1e-9))
        .collect();
    let n = a.runs().min(b.runs());
    let look = runs_looked_at(gate, n);
    let mut list = Vec::new();
    let heads = Headlines::of([a.record, b.record]);
    if a.capacities.is_some() {
        // A load that was tried on the way is no result.
        return vec![draft(pair, 0, Metric { workload: None, quantity: Quantity::Capacity }, true, gate, &look)];
    }
    for index in 0..a.case.workloads.len() {
        let Some(template) = template(a, b, index) else {
            let quantity = Quantity::Throughput("delivered".into());
            let metric = Metric { workload: several.then(|| a.case.workloads[index].name.clone()), quantity };
            list.push(draft(pair, index, metric, true, gate, &look));
            continue;
        };
        let response = heads.latency(index, template).map(|(kind, _)| kind).filter(|kind| RESPONSES.contains(kind));
        // Another tool's file does not say what was lost: nothing must not read as none.
        let foreign = [a, b].iter().any(|s| foreign::is_foreign(s.record));
        let unknown = |m: &Metric| match &m.quantity {
            Quantity::Ledger(_) => true,
            Quantity::Throughput(_) => [a, b]
                .iter()
                .flat_map(|s| &s.trials)
                .filter_map(|t| observe::value(t, index, &m.quantity))
                .any(|o| o.value == 0.0),
            _ => false,
        };
        let known = |m: &Metric| !foreign || !unknown(m);
        for metric in observe::metrics(template, several, &quantiles).into_iter().filter(known) {
            let named =
                |m: &Metric| m.quantity == metric.quantity && m.workload.as_ref().is_none_or(|w| *w == template.name);
            let primary = if gate.primary.is_empty() {
                observe::default_primary(response, &metric.quantity)
            } else {
                gate.primary.iter().any(named)
            };
            list.push(draft(pair, index, metric, primary, gate, &look));
        }
        // A declared metric that is not among the usual ones.
        for declared in &gate.primary {
            let here = declared.workload.as_ref().is_none_or(|w| *w == template.name);
            if here && !list.iter().any(|d| d.row.primary && d.row.metric.quantity == declared.quantity) {
                let metric =
                    Metric { workload: several.then(|| template.name.clone()), quantity: declared.quantity.clone() };
                list.push(draft(pair, index, metric, true, gate, &look));
            }
        }
    }
    // What may not be printed is not compared; what was declared is said to be missing.
    list.retain(|d| d.row.primary || (d.may >= PercentileUse::Print && d.row.a.n > 0 && d.row.b.n > 0));
    list
}

/// A result of the workload that says which metrics there are.
fn template<'a>(a: &CaseSide<'a>, b: &CaseSide<'a>, index: usize) -> Option<&'a WorkloadResult> {
    let valid = a.trials.iter().chain(&b.trials).copied().find_map(|t| t.workloads.get(index));
    let of_case =
        |s: &CaseSide<'a>| s.record.trials.iter().filter(|t| t.case == s.case.id).find_map(|t| t.workloads.get(index));
    valid.or_else(|| of_case(a)).or_else(|| of_case(b))
}

/// What stands behind a percentile in a typical run of one side: the median over its runs. The
/// over-dispersion of one run comes from a handful of blocks and differs tenfold between runs of
/// one case; the least of all would only fall as runs are added.
pub(super) fn median_exceedances(runs: &[(u32, ObservedValue)], of: fn(&ObservedValue) -> Option<f64>) -> Option<f64> {
    let mut all: Vec<f64> = runs.iter().filter_map(|(_, o)| of(o)).collect();
    all.sort_by(f64::total_cmp);
    all.get((all.len().max(1) - 1) / 2).copied()
}

pub(super) fn sample(side: &CaseSide<'_>, v: &[f64]) -> SideSample {
    SideSample {
        label: side.label.clone(),
        case: side.case.id.clone(),
        n: v.len(),
        excluded: side.excluded,
        why_excluded: side.why_excluded.as_ref().map(|f| f.reason.clone()),
        median: median(v),
        median_ci95: shift::median_interval(v, 0.95),
        clocks_ns: None,
        values: v.to_vec(),
    }
}

/// Upper by lower end of the widest interval that a search has left; 1 where values are exact.
pub(super) fn wide(side: &CaseSide<'_>) -> f64 {
    side.capacities.iter().flatten().map(|c| c.upper / c.lower).fold(1.0, f64::max)
}

/// An estimate with both intervals, from what gives it at a confidence.
pub(super) fn effect(of: &dyn Fn(f64) -> Option<shift::Estimate>) -> Option<Effect> {
    let e = of(0.95)?;
    Some(Effect { value: e.value, ci95: e.interval, ci90: of(0.90).and_then(|e| e.interval) })
}

/// The upper ends of the values of a side, of which these are the lower ones; the values themselves
/// where they are exact.
pub(super) fn upper_ends(side: &CaseSide<'_>, lower: &[f64]) -> Vec<f64> {
    match &side.capacities {
        Some(found) => found.iter().map(|c| c.upper).take(lower.len()).collect(),
        None => lower.to_vec(),
    }
}

/// The ratio b / a of values that lie between a lower and an upper end each. It is that of the
/// lower ends; its intervals go from the least that the values can be to the most.
pub(super) fn ratio(a: (&[f64], &[f64]), b: (&[f64], &[f64])) -> Option<Effect> {
    effect(&|c| {
        let (least, most) = (shift::ratio(a.1, b.0, c)?.interval, shift::ratio(a.0, b.1, c)?.interval);
        let interval = least.zip(most).map(|((low, _), (_, high))| (low, high));
        Some(shift::Estimate { value: shift::ratio(a.0, b.0, c)?.value, interval })
    })
}

/// The first values of a side, each with the number of its trial or search.
pub(super) fn values_of(
    side: &CaseSide<'_>,
    index: usize,
    quantity: &Quantity,
    limit: usize,
) -> Vec<(u32, ObservedValue)> {
    if *quantity == Quantity::Capacity {
        let found = side.capacities.iter().flatten();
        return found.map(|c| (c.number, observe::exact(c.lower))).take(limit).collect();
    }
    let all = side.trials.iter();
    all.filter_map(|t| Some((t.round, observe::value(t, index, quantity)?))).take(limit).collect()
}

fn draft(
    pair: &CasePair<'_>,
    index: usize,
    metric: Metric,
    primary: bool,
    gate: &Gate,
    look: &RunsLookedAt,
) -> DraftRow {
    let limit = if let RunsLookedAt::First { runs, .. } = look { *runs } else { usize::MAX };
    let [xa, xb] = [&pair.a, &pair.b].map(|side| values_of(side, index, &metric.quantity, limit));
    let values = |x: &[(u32, ObservedValue)]| x.iter().map(|(_, o)| o.value).collect::<Vec<_>>();
    let (a, b) = (values(&xa), values(&xb));
    let weakest = |of: fn(&ObservedValue) -> Option<f64>| {
        [&xa, &xb].into_iter().filter_map(|x| median_exceedances(x, of)).min_by(f64::total_cmp)
    };
    let (worth, counted) = (weakest(|o| o.exceedances), weakest(|o| o.counted));
    let thin = observe::thin(metric.quantity.quantile(), counted, worth);
    let pairs: Vec<(f64, f64)> = if pair.shared_rounds {
        xa.iter().filter_map(|(r, o)| Some((o.value, xb.iter().find(|(s, _)| s == r)?.1.value))).collect()
    } else {
        Vec::new()
    };
    let (most_a, most_b) = (upper_ends(&pair.a, &a), upper_ends(&pair.b, &b));
    let ratio = ratio((&a, &most_a), (&b, &most_b));
    let sharp = (ratio, effect(&|c| shift::shift(&a, &b, c)));
    let side = |side: &CaseSide<'_>, v: &[f64], x: &[(u32, ObservedValue)]| SideSample {
        clocks_ns: x.iter().filter_map(|(_, o)| o.clocks).reduce(f64::max),
        ..sample(side, v)
    };
    let (of_a, of_b) = (side(&pair.a, &a, &xa), side(&pair.b, &b, &xb));
    let (ratio, difference) = clocks::blurred(sharp, &of_a, &of_b);
    let differences: Vec<f64> = match ratio {
        Some(_) => pairs.iter().map(|(x, y)| y.ln() - x.ln()).collect(),
        None => pairs.iter().map(|(x, y)| y - x).collect(),
    };
    let p_paired = ranks::sign_flip(&differences).map(|f| f.p);
    let test = ranks::mann_whitney(&a, &b);
    let (name, p_raw) = match p_paired {
        Some(p) if gate.paired => (format!("exact sign-flip over {} rounds", pairs.len()), Some(p)),
        _ => ("exact Mann-Whitney".to_string(), test.map(|t| t.p)),
    };
    let max_change = gate.max_change(&metric, pair.a.case.workloads.get(index).map_or("", |w| w.name.as_str()));
    let undecidable = match look {
        RunsLookedAt::Early { wanted } => Some(format!("the first look is at {wanted} + {wanted} runs")),
        _ => None,
    };
    let row = ComparisonRow {
        scenario: pair.scenario.clone(),
        unit: metric.quantity.unit().name().into(),
        kind: Some(metric.quantity.unit()),
        lower_is_better: metric.quantity.lower_is_better(),
        primary,
        a: of_a,
        b: of_b,
        ratio,
        shift: difference,
        test: name,
        p_raw,
        p_adjusted: None,
        correction: String::new(),
        p_paired,
        cliffs_delta: (!a.is_empty() && !b.is_empty()).then(|| ranks::cliffs_delta(&a, &b)),
        max_change,
        metric,
        verdict: Verdict::Invalid,
        gate: Verdict::Invalid,
        reason: if let RunsLookedAt::First { runs, number } = look {
            format!("look {number} of 2, at the first {runs} runs of each side")
        } else {
            String::new()
        },
        blurred: false,
        runs_needed: None,
        runs_needed_seen: None,
        sentence: if pair.interleaved { "interleaved ".into() } else { String::new() },
    };
    let left_out = [&pair.a, &pair.b].map(|s| s.why_excluded.as_ref().map(|f| f.short.clone()));
    let wide = wide(&pair.a).max(wide(&pair.b)) - 1.0;
    DraftRow { wide, sharp, row, may: worth.map_or(PercentileUse::Gate, may), thin, undecidable, left_out }
}

/// Corrects the p-values of all rows, then decides each.
pub(super) fn verdicts(drafts: Vec<DraftRow>, gate: &Gate, question: Question) -> Vec<ComparisonRow> {
    let alpha = if gate.looks.is_some() { decide::two_looks(gate.alpha) } else { gate.alpha };
    let mut drafts = drafts;
    for primary in [true, false] {
        let of: Vec<usize> =
            (0..drafts.len()).filter(|i| drafts[*i].row.primary == primary && drafts[*i].row.p_raw.is_some()).collect();
        let p: Vec<f64> = of.iter().filter_map(|i| drafts[*i].row.p_raw).collect();
        let adjusted = if primary { multiple::holm(&p) } else { multiple::benjamini_hochberg(&p) };
        let name = if primary { "Holm" } else { "Benjamini-Hochberg" };
        for (i, q) in of.into_iter().zip(adjusted) {
            drafts[i].row.p_adjusted = Some(q);
            drafts[i].row.correction = format!("{name}, {} tests", p.len());
        }
    }
    let family = drafts.iter().filter(|d| d.row.primary).count().max(1);
    drafts.into_iter().map(|d| decide(d, gate, alpha, family, question)).collect()
}

fn decide(draft: DraftRow, gate: &Gate, alpha: f64, family: usize, question: Question) -> ComparisonRow {
    let DraftRow { mut row, wide, sharp, may, thin, undecidable, left_out: [of_a, of_b] } = draft;
    let interleaved = !row.sentence.is_empty();
    let (n, m) = (row.a.n, row.b.n);
    let look = std::mem::take(&mut row.reason);
    // Where a run is too short to know the percentile, that is what must change first.
    let thin = (row.primary && may < PercentileUse::Gate).then_some(thin);
    let by_runs = undecidable.is_none() && (thin.is_none() || question == Question::Systems);
    let why_not = undecidable.or(thin);
    let judged = |row: &ComparisonRow| match question {
        Question::Systems => side_by_side(row),
        Question::Change => by_figures(row, gate, alpha, family, why_not.clone()),
    };
    let (verdict, reason) = if n == 0 || m == 0 {
        // How a trial failed stands with the trial; here it would be said once more for each
        // metric.
        let (side, why) = if n == 0 { (&row.a, of_a) } else { (&row.b, of_b) };
        let why = match (why, side.excluded) {
            (Some(why), 1) => format!("the one there is is left out, {why}"),
            (Some(why), n) => format!("all {n} are left out, the first: {why}"),
            (None, _) => "it was not measured".into(),
        };
        row.gate = Verdict::Invalid;
        (Verdict::Invalid, format!("no valid {} of {}: {why}", row.one(), side.label))
    } else {
        row.gate = by_figures(&row, gate, alpha, family, why_not.clone()).0;
        judged(&row)
    };
    row.verdict = verdict;
    row.reason = match look.is_empty() || question == Question::Systems {
        true => reason,
        false => format!("{reason}; {look}"),
    };
    let open = verdict.open();
    let blur = if open && n > 0 && m > 0 { clocks::blur(&row, sharp, &judged) } else { None };
    if let Some(why) = &blur {
        (row.reason, row.blurred) = (why.words.clone(), true);
    }
    let enough = if question == Question::Systems { FOR_AN_INTERVAL } else { u64::from(gate.min_runs) };
    // More searches do not tell apart what each of them leaves open.
    let too_wide = wide >= row.max_change && n.min(m) as u64 >= enough;
    if open && too_wide {
        // A search that has found one end alone leaves the other one where it may.
        let what = match wide < ONE_END {
            true => format!(
                "each capacity is known to within {} only: search with a smaller width",
                sentence::percent(wide)
            ),
            false => "a search has found one end of its capacity alone: raise search.max, or lower search.min".into(),
        };
        row.reason = format!("{}; {what}", row.reason);
    }
    // No number of runs makes a clock better known.
    if open && by_runs && !too_wide && !blur.is_some_and(|why| why.for_good) {
        let level = match question {
            Question::Systems => SIDE_BY_SIDE,
            Question::Change if row.primary => alpha / family as f64,
            Question::Change => alpha,
        };
        runs_needed(&mut row, level, question);
    }
    row.sentence = sentence::sentence(&row, interleaved, question);
    row
}

/// Above this the ends of a capacity are not both known.
const ONE_END: f64 = 1e12;

/// The fewest runs of each side that an exact 95 % interval of their ratio can be had of.
const FOR_AN_INTERVAL: u64 = 4;

/// How many runs of each side would decide.
fn runs_needed(row: &mut ComparisonRow, level: f64, question: Question) {
    let n = row.a.n.min(row.b.n) as u64;
    let least = if question == Question::Systems { FOR_AN_INTERVAL } else { 0 };
    let for_a = |change: f64| {
        let cv = spread(row)?;
        Some(decide::runs_needed(change, cv, level, POWER)?.max(least)).filter(|needed| *needed > n)
    };
    let threshold = for_a(row.max_change);
    // The threshold is the smallest change that matters; a larger one that is really there needs
    // fewer runs.
    let seen = row.ratio.map(|r| r.value.max(1.0 / r.value) - 1.0).filter(|c| c.is_finite() && *c > row.max_change);
    let seen = seen.and_then(for_a).filter(|needed| threshold.is_none_or(|all| *needed < all));
    (row.runs_needed, row.runs_needed_seen) = (threshold, seen);
    // Of one run each nothing is known but that an interval needs more.
    if question == Question::Systems && row.runs_needed_seen.is_none() && n < FOR_AN_INTERVAL {
        row.runs_needed_seen = Some(FOR_AN_INTERVAL);
    }
}

/// The standard deviation of logarithms within the sides, pooled.
fn spread(row: &ComparisonRow) -> Option<f64> {
    let ln = |v: &[f64]| v.iter().map(|x| x.ln()).collect::<Vec<_>>();
    let (a, b) = (ln(&row.a.values), ln(&row.b.values));
    if a.len() < 2 || b.len() < 2 {
        return None;
    }
    let (n, m) = (a.len() as f64, b.len() as f64);
    let pooled = ((n - 1.0) * sample_variance(&a) + (m - 1.0) * sample_variance(&b)) / (n + m - 2.0);
    pooled.is_finite().then(|| pooled.sqrt())
}
