//! What a script asks first: the verdict, and a few figures of each case. Schema
//! `msgbench.summary/1`: fields may be added, none is removed or changes its meaning.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Serialize;

use crate::compare::{Comparison, ExpectResult};
use crate::plan::search::{Ending, SearchPlan, Tally};
use crate::record::{ClockDoubt, Headlines, LatencySummary, Ledger, Record, Status, Trial};
use crate::report::words::view::{clocks_words, trials, usable, widest_clocks};
use crate::report::words::{answer, demand};
use crate::units::{Nanos, latency};

/// The schema this program writes.
pub const SCHEMA: &str = "msgbench.summary/1";

/// The output of `run --format json`.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct RunOutcome {
    pub summary: RunSummary,
}

/// The outcome of a run.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct RunSummary {
    /// Always `msgbench.summary/1`.
    pub schema: String,
    /// `OK`, `WARN`, `UNMET`, `INVALID`, `BROKEN` or `FAILED`: the gravest thing that there is to
    /// say; `EMPTY` where nothing was measured.
    pub verdict: String,
    /// What the command exits with.
    pub exit_code: u8,
    /// Name of the scenario.
    pub scenario: String,
    /// Whether it was a smoke test (`--quick`), which is no measurement.
    pub quick: bool,
    /// Path of run.json, which has everything; null where it could not be written.
    pub record: Option<String>,
    /// One for each case and workload that was tried.
    pub cases: Vec<CaseSummary>,
    /// Systems that were not put to the test, and why.
    pub skipped: BTreeMap<String, String>,
    /// The limits of the scenario.
    pub limits: Vec<LimitSummary>,
    /// What each search for the highest load has found; empty where none was made.
    pub capacity: Vec<CapacitySummary>,
}

/// What a search for the highest load has found.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct CapacitySummary {
    pub system: String,
    /// Where the search began, in a word.
    pub case: String,
    /// The swept settings that make its load point, without what was searched.
    pub point: BTreeMap<String, String>,
    /// Which search of it, from 1.
    pub search: u32,
    /// The highest load that keeps the limits; of a listed setting the number of its value, from 0.
    pub lower: Option<f64>,
    /// The lowest load above it that breaks one; null where none was found, or only the generator
    /// stopped there.
    pub upper: Option<f64>,
    /// Both for people.
    pub keeps: Option<String>,
    pub breaks: Option<String>,
    /// Why the search ended.
    pub ending: Ending,
    /// What breaks at `upper`: a limit of the search as typed, or `keeps up` where the backlog
    /// grew; null where no trial there failed.
    pub binding: Option<String>,
    /// Votes for each load; at `lower` and `upper` those of the confirmation, where there was one.
    pub votes: Vec<LoadVotes>,
    pub trials: usize,
    /// Of these, how many have no vote, as the host or the generator spoiled them.
    pub spoiled: usize,
    /// The error of a system that did not come up; null of any other.
    pub error: Option<String>,
}

/// What became of the trials at one load.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct LoadVotes {
    /// Messages a second; of a listed setting the number of its value, from 0.
    pub load: f64,
    /// The same for people.
    pub shown: String,
    pub kept: u32,
    pub broke: u32,
    pub undecided: u32,
}

/// One workload of one case.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct CaseSummary {
    /// System and load point in a word.
    pub case: String,
    pub system: String,
    /// The swept settings that make the load point: path to value; empty when nothing is swept.
    pub point: BTreeMap<String, String>,
    pub workload: String,
    /// The kind of latency: `e2e`, `rtt`, `ack`, or the same with `.service` where messages have no
    /// intended time; `e2e.same-agent` where the clocks of agents blur `e2e`; null where none was
    /// measured.
    pub latency: Option<String>,
    /// The median over the valid trials, the lower of two; null where it is infinite or unknown:
    /// see `p50`.
    pub p50_ns: Option<Nanos>,
    pub p99_ns: Option<Nanos>,
    /// The same for people; `inf` where so many messages never arrived, `-` where too few samples
    /// stand behind it.
    pub p50: String,
    pub p99: String,
    /// By how much both may be wrong because sender and receiver have different clocks; null
    /// where one clock is enough.
    pub clocks: Option<ClockDoubt>,
    /// Deliveries owed, and what became of them, over the valid trials; over all that ended, where
    /// none is valid.
    pub expected: u64,
    pub lost: u64,
    pub duplicated: u64,
    pub reordered: u64,
    pub trials: usize,
    pub trials_valid: usize,
    /// The worst of the checks of all trials.
    pub validity: Status,
}

/// A limit of the scenario.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct LimitSummary {
    pub case: String,
    /// `MET`, `UNMET`, `INCONCLUSIVE`, `INVALID` or `NOT JUDGED`.
    pub verdict: String,
    pub sentence: String,
}

/// The summary of a run that ends with this exit code and is kept at this path.
pub fn of_run(record: &Record, limits: &[ExpectResult], exit_code: u8, path: Option<String>) -> RunOutcome {
    let limits = limits
        .iter()
        .map(|l| LimitSummary { case: l.case.clone(), verdict: l.verdict.word().into(), sentence: l.sentence.clone() })
        .collect();
    let summary = RunSummary {
        schema: SCHEMA.into(),
        verdict: answer::of(record).map_or("EMPTY", |said| said.word).into(),
        exit_code,
        scenario: record.plan.name.clone(),
        quick: record.quick(),
        record: path,
        cases: cases(record),
        skipped: record.skipped.iter().map(|s| (s.system.clone(), s.reason.clone())).collect(),
        limits,
        capacity: record.plan.search.iter().flat_map(|s| searches(record, s)).collect(),
    };
    RunOutcome { summary }
}

fn searches<'r>(record: &'r Record, search: &'r SearchPlan) -> impl Iterator<Item = CapacitySummary> + 'r {
    let shown = |load: Option<f64>| load.map(|l| search.shown(l));
    let binding = |of: Option<usize>| of.and_then(|i| search.limits.get(i)).map_or("keeps up", |l| &l.that).to_owned();
    let votes = |(load, tally): &(f64, Tally)| LoadVotes {
        load: *load,
        shown: search.shown(*load),
        kept: tally.passed,
        broke: tally.failed,
        undecided: tally.undecided,
    };
    record.searches.iter().map(move |s| CapacitySummary {
        system: record.plan.systems.get(s.system).map_or_else(String::new, |of| of.name.clone()),
        case: s.case.clone(),
        point: demand::point_of(record, s).into_iter().cloned().collect(),
        search: s.number,
        lower: s.bracket.lower,
        upper: s.bracket.breaks(),
        keeps: shown(s.bracket.lower),
        breaks: shown(s.bracket.breaks()),
        ending: s.bracket.ending,
        binding: s.bracket.breaks().and_then(|_| s.binding()).map(binding),
        votes: s.votes.iter().map(votes).collect(),
        trials: s.trials.len(),
        spoiled: s.spoiled(),
        error: s.broken.clone(),
    })
}

fn cases(record: &Record) -> Vec<CaseSummary> {
    let (mut out, heads) = (Vec::new(), Headlines::of([record]));
    for case in &record.plan.cases {
        let all: Vec<&Trial> = trials(record, &case.id).collect();
        if all.is_empty() {
            continue;
        }
        let valid: Vec<&Trial> = all.iter().copied().filter(|t| usable(t)).collect();
        let counted = if valid.is_empty() { &all } else { &valid };
        for (index, workload) in case.workloads.iter().enumerate() {
            let found: Vec<Option<(&str, &LatencySummary)>> =
                counted.iter().map(|t| heads.latency(index, t.workloads.get(index)?)).collect();
            let clocks = widest_clocks(found.iter().flatten().map(|(_, l)| *l));
            let sum = |field: fn(&Ledger) -> u64| {
                counted.iter().filter_map(|t| t.workloads.get(index)).map(|w| field(&w.ledger)).sum()
            };
            let of_valid: Vec<_> = if valid.is_empty() { Vec::new() } else { found.clone() };
            let (p50, p99) = (middle(&of_valid, 0.5), middle(&of_valid, 0.99));
            out.push(CaseSummary {
                case: case.id.clone(),
                system: record.plan.systems.get(case.system).map_or_else(String::new, |s| s.name.clone()),
                point: case.point.iter().cloned().collect(),
                workload: workload.name.clone(),
                latency: found.iter().flatten().next().map(|(kind, _)| (*kind).to_owned()),
                p50_ns: p50.flatten(),
                p99_ns: p99.flatten(),
                p50: shown(p50, clocks),
                p99: shown(p99, clocks),
                clocks,
                expected: sum(|l| l.expected),
                lost: sum(|l| l.lost),
                duplicated: sum(|l| l.duplicated),
                reordered: sum(|l| l.reordered),
                trials: all.len(),
                trials_valid: valid.len(),
                validity: all.iter().map(|t| t.validity_status()).max().unwrap_or(Status::NotJudged),
            });
        }
    }
    out
}

/// The middle of a percentile over trials: `None` where one of them has too few samples for it,
/// `Some(None)` where it is infinite.
fn middle(trials: &[Option<(&str, &LatencySummary)>], quantile: f64) -> Option<Option<Nanos>> {
    let value = |found: &Option<(&str, &LatencySummary)>| {
        let (_, latency) = (*found)?;
        latency.at(quantile).filter(|p| p.printable).map(|p| p.value_ns)
    };
    let mut values: Vec<Option<Nanos>> = trials.iter().map(value).collect::<Option<_>>()?;
    values.sort_by_key(|v| v.unwrap_or(Nanos::MAX));
    values.get(values.len().saturating_sub(1) / 2).copied()
}

/// `1.00us`, `1.00us +/- 20 ns` where two clocks are in it.
fn shown(value: Option<Option<Nanos>>, clocks: Option<ClockDoubt>) -> String {
    match value {
        None => "-".into(),
        Some(None) => "inf".into(),
        Some(Some(ns)) => format!("{} {}", latency(ns), clocks_words(clocks)).trim_end().to_owned(),
    }
}

/// The output of `compare --format json`: the summary, then all of the comparison.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct CompareOutcome {
    pub summary: CompareSummary,
    #[serde(flatten)]
    pub comparison: Comparison,
}

/// The outcome of a comparison.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct CompareSummary {
    /// Always `msgbench.summary/1`.
    pub schema: String,
    /// The gravest verdict of the metrics that decide.
    pub verdict: String,
    /// What the command exits with, unless `--exit-zero` says 0.
    pub exit_code: u8,
    /// The answer in a sentence.
    pub sentence: String,
    pub baseline: String,
    pub candidate: String,
    /// One for each metric that decides, of each pair and load point.
    pub metrics: Vec<MetricSummary>,
}

/// A metric that decides.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct MetricSummary {
    /// Scenario and load point.
    pub scenario: String,
    pub metric: String,
    /// What its values count: `ns`, `msg/s`, ...
    pub unit: String,
    /// The sides as they are called in sentences.
    pub baseline: String,
    pub candidate: String,
    /// Medians over the valid trials; null where there is none, or it is infinite.
    pub baseline_median: Option<f64>,
    pub candidate_median: Option<f64>,
    /// Candidate to baseline, and its 95 % interval where there are enough trials for one.
    pub ratio: Option<f64>,
    pub ratio_ci95: Option<(f64, f64)>,
    pub verdict: String,
}

/// The summary of a comparison, with it.
pub fn of_comparison(comparison: Comparison) -> CompareOutcome {
    let metrics = comparison
        .rows
        .iter()
        .filter(|row| row.primary)
        .map(|row| MetricSummary {
            scenario: row.scenario.clone(),
            metric: row.metric.to_string(),
            unit: row.unit.clone(),
            baseline: row.a.label.clone(),
            candidate: row.b.label.clone(),
            baseline_median: row.a.median,
            candidate_median: row.b.median,
            ratio: row.ratio.map(|r| r.value),
            ratio_ci95: row.ratio.and_then(|r| r.ci95),
            verdict: row.word().into(),
        })
        .collect();
    let summary = CompareSummary {
        schema: SCHEMA.into(),
        verdict: comparison.overall.verdict.word().into(),
        exit_code: comparison.overall.exit_code,
        sentence: comparison.overall.sentence.clone(),
        baseline: comparison.baseline.label.clone(),
        candidate: comparison.candidate.label.clone(),
        metrics,
    };
    CompareOutcome { summary, comparison }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::sample;

    #[test]
    fn every_figure_of_the_summary_is_in_the_record() {
        let record = sample::record();
        let outcome = of_run(&record, &[], 4, Some("results/run.json".into()));
        let value = serde_json::to_value(&outcome).unwrap();
        assert_eq!(value["summary"]["schema"], SCHEMA);
        assert_eq!(value["summary"]["verdict"], answer::of(&record).unwrap().word);
        let tried = record.plan.cases.iter().filter(|c| record.trials.iter().any(|t| t.case == c.id));
        assert_eq!(outcome.summary.cases.len(), tried.map(|c| c.workloads.len()).sum::<usize>());
        for case in &outcome.summary.cases {
            let of: Vec<&Trial> = record.trials.iter().filter(|t| t.case == case.case).collect();
            let valid: Vec<_> = of.iter().copied().filter(|t| usable(t)).collect();
            assert_eq!((case.trials, case.trials_valid), (of.len(), valid.len()));
            let index = valid.iter().find_map(|t| t.workloads.iter().position(|w| w.name == case.workload));
            if let (Some(ns), Some(index)) = (case.p99_ns, index) {
                let all: Vec<_> = valid.iter().filter_map(|t| t.workloads[index].headline()?.1.at(0.99)).collect();
                assert!(all.iter().any(|p| p.value_ns == Some(ns)), "{case:?}");
                assert_eq!(case.p99, latency(ns));
            }
        }
    }

    #[test]
    fn clocks_of_agents_stand_with_the_times() {
        let case = |bound_us| {
            let record = crate::compare::sample::by_agents(Some(bound_us), true);
            serde_json::to_value(of_run(&record, &[], 0, None)).unwrap()["summary"]["cases"][0].clone()
        };
        let (known, blurred) = (case(12), case(90));
        assert_eq!((&known["clocks"]["bound_ns"], known["latency"].as_str()), (&12_000.into(), Some("e2e")));
        assert!(known["p50"].as_str().unwrap().ends_with("us +/- 12 µs"), "{known}");
        assert_eq!(
            (&blurred["clocks"], blurred["latency"].as_str()),
            (&serde_json::Value::Null, Some("e2e.same-agent"))
        );
    }

    #[test]
    fn what_is_lost_is_infinite_and_what_has_too_few_samples_is_unknown() {
        assert_eq!(
            (shown(None, None), shown(Some(None), None), shown(Some(Some(1000)), None)),
            ("-".into(), "inf".into(), "1.00us".into())
        );
        let doubt = Some(ClockDoubt { bound_ns: Some(20) });
        assert_eq!(shown(Some(Some(1000)), doubt), "1.00us +/- 20 ns");
    }
}
