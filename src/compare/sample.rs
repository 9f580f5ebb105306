//! Records for the tests: two systems, any number of rounds, values that are given.

use std::collections::BTreeMap;

use crate::plan::gate::Share;
use crate::plan::search::{Bracket, Parameter, Purpose, SearchPlan, Vote};
use crate::record::sample;
use crate::record::*;
use crate::units::Rate;

/// A record of the systems `reference` and `nats`: p99 values in microseconds for each, round by
/// round, interleaved. p50 is half of p99; throughput is the schedule's.
pub(crate) fn record(reference: &[f64], nats: &[f64]) -> Record {
    // Made once: its histograms take a second in a debug build.
    static BASE: std::sync::OnceLock<Record> = std::sync::OnceLock::new();
    let mut record = BASE.get_or_init(sample::record).clone();
    record.plan.systems.truncate(2);
    record.plan.cases.truncate(2);
    record.skipped.clear();
    record.tool.profile = "release".into();
    record.plan.trials = reference.len().max(nats.len()) as u32;
    record.plan.percentiles = vec![0.5, 0.99, 0.999];
    let template = record.trials[1].clone();
    record.trials.clear();
    record.order.clear();
    for round in 0..record.plan.trials as usize {
        // Every other round in the other order.
        let mut sides = [("reference", reference), ("nats", nats)];
        if round % 2 == 1 {
            sides.reverse();
        }
        for (k, (case, values)) in sides.into_iter().enumerate() {
            let Some(p99) = values.get(round) else { continue };
            let mut trial = template.clone();
            trial.case = case.into();
            trial.round = round as u32 + 1;
            trial.started_at = format!("2026-11-23T11:{:02}:{:02}Z", round, 30 * k);
            trial.system.version = format!("{case} 1.2.3");
            trial.system.guarantees = BTreeMap::from([("delivery".into(), "at most once".into())]);
            trial.workloads[0].ledger =
                Ledger { scheduled: 20_000, sent: 20_000, expected: 20_000, delivered: 20_000, ..Ledger::default() };
            trial.workloads[0].latency = BTreeMap::from([("e2e".to_string(), summary(*p99))]);
            record.order.push((trial.round, case.into()));
            record.trials.push(trial);
        }
    }
    record
}

/// Searches of both systems that ended so, at a width.
pub(crate) fn searched(reference: &[Bracket], nats: &[Bracket], width: f64) -> Record {
    let mut record = record(&A, &B);
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
        for (i, bracket) in found.iter().enumerate() {
            let round = i as u32 + 1;
            let trial = SearchTrial {
                case: case.clone(),
                round,
                load: bracket.lower.or(bracket.upper).unwrap_or(1.0),
                purpose: Purpose::Climb,
                vote: Vote::Pass,
                broken: Vec::new(),
                why: String::new(),
            };
            record.searches.push(SearchResult {
                case: format!("search-{case}"),
                system,
                number: round,
                bracket: *bracket,
                trials: vec![trial],
                votes: Vec::new(),
                broken: None,
            });
        }
    }
    record
}

/// The same values, measured another time: no copy.
pub(crate) fn again(mut record: Record) -> Record {
    record.trials.iter_mut().for_each(|t| t.seed += 1);
    record
}

/// One system, A, driven by agents whose clocks are known to so many microseconds.
pub(crate) fn by_agents(bound_us: Option<u64>, same_agent: bool) -> Record {
    let mut r = record(&A, &[]);
    (r.plan.systems, r.plan.cases) = (r.plan.systems[..1].to_vec(), r.plan.cases[..1].to_vec());
    for trial in &mut r.trials {
        trial.agents = vec![AgentResult::default(); 2];
        let latency = &mut trial.workloads[0].latency;
        let e2e = latency.get_mut("e2e").unwrap();
        e2e.clocks = Some(ClockDoubt { bound_ns: bound_us.map(|us| us * 1_000) });
        let one_clock = LatencySummary { clocks: None, ..e2e.clone() };
        latency.insert(if same_agent { "e2e.same-agent" } else { "ack" }.into(), one_clock);
    }
    r
}

fn summary(p99_us: f64) -> LatencySummary {
    let at = |quantile: f64, us: f64| Percentile {
        quantile,
        value_ns: us.is_finite().then_some((us * 1e3).round() as u64),
        exceedances: 20_000.0 * (1.0 - quantile),
        printable: true,
        ..Percentile::default()
    };
    LatencySummary {
        count: 20_000,
        min_ns: 20_000,
        max_ns: p99_us.is_finite().then_some((p99_us * 3e3) as u64),
        mean_ns: p99_us * 500.0,
        percentiles: vec![
            at(0.5, if p99_us.is_finite() { p99_us / 2.0 } else { 100.0 }),
            at(0.99, p99_us),
            at(0.999, p99_us * 2.0),
        ],
        ..LatencySummary::default()
    }
}

/// The samples A, B and C of stats.md A7: p99 of ten runs in microseconds.
pub(crate) const A: [f64; 10] = [812., 798., 805., 821., 809., 795., 830., 803., 811., 800.];
/// 4.9 % more.
pub(crate) const B: [f64; 10] = [846., 861., 839., 828., 870., 852., 841., 835., 858., 849.];
/// No difference.
pub(crate) const C: [f64; 10] = [815., 801., 807., 796., 824., 808., 799., 833., 804., 813.];
