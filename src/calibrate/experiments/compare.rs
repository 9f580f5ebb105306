//! Experiment 12: how often a comparison is wrong. The broker against itself must raise no alarm
//! beyond what chance allows, and against a slower self it must raise one.
//!
//! Two pools of real trials are measured in turn: A, and B with a delay that is longer by 10 %.
//! Comparisons are made of random halves of the pools. Of pool A alone every split is an A/A
//! comparison whose sides differ by chance only, whatever the host did to single trials, so that
//! the share of small p-values is known. Splits of one pool share their trials: the bounds are four
//! standard deviations of independent ones.

use rand::SeedableRng;
use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use std::path::Path;

use super::experiment;
use crate::calibrate::CalibrateError;
use crate::calibrate::certificate::{ClaimLine, Experiment, FigureUnit, HostNoise, Thoroughness};
use crate::calibrate::context::ExperimentContext;
use crate::calibrate::keep_awake::KeepAwake;
use crate::compare::{self, ComparisonRow, NamedRecord, Verdict};
use crate::plan::SystemTypes;
use crate::plan::gate::Gate;
use crate::record::{Completion, Host, Record, SCHEMA, ScenarioSource, Tool, Trial};
use crate::scenario::{Overrides, parse};
use crate::units::Nanos;

/// Trials of A, and of B.
const POOLS: (usize, usize) = (40, 20);
/// Trials of a side of a comparison.
const SIDE: usize = 10;
/// Comparisons of each kind.
const COMPARISONS: u32 = 200;
/// The delay of A, and how much longer that of B is.
const DELAY: Nanos = 5_000_000;
const MORE: Nanos = 500_000;
/// The level at which p-values are counted.
const LEVEL: f64 = 0.05;

fn scenario(delay: Nanos) -> String {
    format!(
        "name = \"compare\"\nquestion = \"Is a comparison right?\"\n\
         [[workload]]\npattern = \"fan-out\"\nconsumers = 1\nload.rate = \"500/s\"\n\
         [faults]\ndelay = {{ fixed = \"{}us\" }}\n\
         [gate]\nprimary = [\"e2e.p50\"]\n\
         [run]\nwarmup = \"50ms\"\nduration = \"300ms\"\ntrials = 1\ndrain = \"2s\"\npercentiles = [0.5]\n",
        delay / 1000
    )
}

/// A record of these trials of the scenario of A, as a run would have written it.
fn record(trials: Vec<Trial>, host: &Host, types: &SystemTypes) -> Result<Record, CalibrateError> {
    let scenario = parse(Path::new("calibrate.toml"), scenario(DELAY), &Overrides::default(), types)?;
    Ok(Record {
        schema: SCHEMA.into(),
        tool: Tool { version: env!("CARGO_PKG_VERSION").into(), profile: "calibration".into(), command: Vec::new() },
        scenario: ScenarioSource {
            path: "calibrate.toml".into(),
            sha256: scenario.sha256,
            text: scenario.text,
            overrides: Vec::new(),
        },
        plan: scenario.plan,
        host: host.clone(),
        calibration: None,
        started_at: trials.first().map(|t| t.started_at.clone()).unwrap_or_default(),
        ended_at: None,
        clock_step_s: None,
        completion: Completion::Complete,
        order: Vec::new(),
        skipped: Vec::new(),
        trials,
        searches: Vec::new(),
    })
}

/// The row of the primary metric; `None` when there was nothing to compare.
fn compared(a: &[Trial], b: &[Trial], blank: &Record) -> Option<ComparisonRow> {
    let side = |trials: &[Trial]| {
        let number = |(i, t): (usize, &Trial)| Trial { round: i as u32 + 1, ..t.clone() };
        Record { trials: trials.iter().enumerate().map(number).collect(), ..blank.clone() }
    };
    let (a, b) = (side(a), side(b));
    let gate: Gate = blank.plan.gate.clone().unwrap_or_default();
    let named = |label, record| NamedRecord { label, record };
    let found = compare::records(named("A", &a), named("B", &b), &gate, compare::CompareOptions::default()).ok()?;
    found.rows.into_iter().find(|row| row.primary)
}

/// A/A and A/B, in the full form only: it takes a minute.
pub fn comparisons(context: &ExperimentContext<'_>) -> Result<Vec<Experiment>, CalibrateError> {
    if context.form == Thoroughness::Quick {
        return Ok(Vec::new());
    }
    let awake = KeepAwake::keep();
    let (mut a, mut b, mut host_noise) = (Vec::new(), Vec::new(), HostNoise::default());
    for i in 0..POOLS.0 + POOLS.1 {
        // A B A, A B A, ...: a drift of the host hits both.
        let (pool, delay) = if i % 3 == 1 { (&mut b, DELAY + MORE) } else { (&mut a, DELAY) };
        let ran = context.one("comparison", scenario(delay))?;
        host_noise = host_noise.worse(ran.host_noise());
        let mut trial = ran.trial;
        for latency in trial.workloads.iter_mut().flat_map(|w| w.latency.values_mut()) {
            latency.curve.clear();
        }
        pool.push(trial);
    }
    drop(awake);
    let blank = record(Vec::new(), &crate::host::machine::read(), &context.register.types())?;
    let lines = judge(&mut a, &mut b, &blank, &host_noise);
    let claim = "Of 200 comparisons of the broker with itself no more raise an alarm than chance allows, and p-values are as small as they \
                 say they are; of 200 with a broker that is 10 % slower nearly all do, and give the difference.";
    Ok(vec![experiment(12, "comparisons", claim, lines, Some(host_noise))])
}

fn judge(a: &mut [Trial], b: &mut [Trial], blank: &Record, host_noise: &HostNoise) -> Vec<ClaimLine> {
    // Where what the host does to medians reaches half of what is to be found, it may hide it.
    let hidden = |line: ClaimLine| line.excused(host_noise.explains(MORE as f64 / 2.0, 0.5));
    let count = |what: &str, expected: f64, found: u32, tolerance: f64| {
        ClaimLine::judged(what.into(), expected, Some(f64::from(found)), tolerance, FigureUnit::Count)
    };
    let mut lines = Vec::new();
    let all = compared(a, b, blank);
    let shift = all.as_ref().and_then(|row| row.shift).map(|shift| shift.value);
    let what = format!("A/B: difference of {} and {} trials", a.len(), b.len());
    lines.push(ClaimLine::difference(what, MORE as f64, shift, 0.05 * MORE as f64, host_noise));
    let (mut random, mut alarms, mut small, mut found, mut back, mut made) = (StdRng::seed_from_u64(12), 0, 0, 0, 0, 0);
    for _ in 0..COMPARISONS {
        a.shuffle(&mut random);
        b.shuffle(&mut random);
        let same = compared(&a[..SIDE], &a[SIDE..2 * SIDE], blank);
        let slower = compared(&a[..SIDE], &b[..SIDE], blank);
        let faster = compared(&b[..SIDE], &a[..SIDE], blank);
        made += u32::from(same.is_some() && slower.is_some());
        if let Some(row) = same {
            alarms += u32::from(matches!(row.verdict, Verdict::Regressed | Verdict::Improved | Verdict::Changed));
            small += u32::from(row.p_raw.is_some_and(|p| p < LEVEL));
        }
        found += u32::from(slower.is_some_and(|row| row.verdict == Verdict::Regressed));
        back += u32::from(faster.is_some_and(|row| row.verdict == Verdict::Improved));
    }
    let n = f64::from(COMPARISONS);
    let bound = |p: f64| 4.0 * (n * p * (1.0 - p)).sqrt();
    let alpha = blank.plan.gate.as_ref().map_or(0.01, |gate| gate.alpha);
    lines.push(hidden(count("comparisons with enough valid trials", n, made, 0.0)));
    lines.push(count(&format!("A/A: alarms (alpha {alpha})"), n * alpha, alarms, bound(alpha)));
    lines.push(count(&format!("A/A: p below {LEVEL}"), n * LEVEL, small, bound(LEVEL)));
    lines.push(hidden(count("A/B, 10 % slower: REGRESSED", n, found, 0.05 * n)));
    lines.push(hidden(count("B/A, 10 % faster: IMPROVED", n, back, 0.05 * n)));
    lines
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::calibrate::certificate::ClaimVerdict as Judged;
    use crate::compare::sample;
    use crate::units::SECOND;

    /// Pools of trials whose p50 is given in microseconds, and a record of their scenario.
    fn pools(of: impl Fn(usize, bool) -> f64) -> (Vec<Trial>, Vec<Trial>, Record) {
        // The sample's p50 is half of the p99 that it is given.
        let values = |n, slower| (0..n).map(|i| 2.0 * of(i, slower)).collect::<Vec<f64>>();
        let made = sample::record(&values(POOLS.0, false), &values(POOLS.1, true));
        let trials = |case: &str| made.trials.iter().filter(|t| t.case == case).cloned().collect::<Vec<_>>();
        let as_a = |t: Trial| Trial { case: "reference".into(), ..t };
        let mut blank = Record { trials: Vec::new(), ..made.clone() };
        blank.plan.systems.truncate(1);
        blank.plan.cases.truncate(1);
        blank.plan.gate = Some(Gate { primary: vec!["e2e.p50".parse().unwrap()], ..Gate::default() });
        (trials("reference"), trials("nats").into_iter().map(as_a).collect(), blank)
    }

    fn verdicts(of: impl Fn(usize, bool) -> f64) -> Vec<(String, Judged)> {
        let (mut a, mut b, blank) = pools(of);
        let quiet = HostNoise::default();
        judge(&mut a, &mut b, &blank, &quiet).into_iter().map(|l| (l.what, l.verdict)).collect()
    }

    #[test]
    fn ten_per_cent_are_found_and_nothing_is_found_where_there_is_nothing() {
        assert_eq!(DELAY / 1000, SECOND / 200_000);
        // Scattered by 1 %, in an order that has nothing to do with the side.
        let scatter = |i: usize| 1.0 + 0.01 * ((i * 7919 % 101) as f64 / 50.0 - 1.0);
        let found = verdicts(|i, slower| if slower { 5_500.0 } else { 5_000.0 } * scatter(i));
        assert!(found.iter().all(|(_, v)| *v == Judged::Pass), "{found:?}");
        let same = verdicts(|i, _| 5_000.0 * scatter(i));
        let failed: Vec<&str> =
            same.iter().filter(|(_, v)| *v == Judged::Fail).map(|(what, _)| what.as_str()).collect();
        assert_eq!(failed.len(), 3, "without a difference none is found: {failed:?}");
        assert!(failed.iter().all(|what| what.starts_with("A/B") || what.starts_with("B/A")), "{failed:?}");
    }
}
