//! Runs a scenario as a user would and keeps what came of it in memory.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use hdrhistogram::Histogram;

use crate::engine::{self, Conditions, Interrupt, Register, RunSink, SearchProgress, Tick, TrialFiles, TrialSide};
use crate::measure::recorder::histogram;
use crate::plan::Case;
use crate::record::{Disturbed, LatencySummary, Outcome, SearchResult, Skipped, TaggedInterval, Trial, WorkloadResult};
use crate::scenario::{Overrides, parse};
use crate::units::Nanos;

use super::CalibrateError;
use super::certificate::{HostNoise, Pauses, Thoroughness};
use super::truth::{self, FaultEvent};

/// Where experiments are run.
pub struct ExperimentContext<'a> {
    /// How thorough.
    pub form: Thoroughness,
    /// The types of systems there are.
    pub register: &'a Register,
    /// A folder for files.
    pub scratch: &'a Path,
    /// The kernel's clock source.
    pub clocksource: &'a str,
    /// The user's wish to stop.
    pub interrupt: &'a Interrupt,
    /// msgbench itself.
    pub program: PathBuf,
}

/// The result of a trial.
pub struct TrialResult {
    pub trial: Trial,
    /// All samples by tag, as in the interval log: `hit/e2e`, or `e2e` where there is one workload.
    pub samples: BTreeMap<String, Histogram<u64>>,
    /// The same, interval by interval, and the pauses of the host as `hiccup`.
    pub intervals: Vec<TaggedInterval>,
    /// What was injected.
    pub injected: Vec<FaultEvent>,
}

impl TrialResult {
    /// A workload by its place in the scenario.
    pub fn workload(&self, i: usize) -> &WorkloadResult {
        &self.trial.workloads[i]
    }
    /// A latency of a workload; an empty one where nothing was recorded.
    pub fn latency(&self, i: usize, kind: &str) -> LatencySummary {
        self.workload(i).latency.get(kind).cloned().unwrap_or_default()
    }
    /// What the host did meanwhile.
    pub fn host_noise(&self) -> HostNoise {
        let mut late: Vec<Nanos> = self.injected.iter().filter(|e| e.from > 0).map(|e| e.late).collect();
        late.sort_unstable();
        let at = |p| truth::rank(&late, p).unwrap_or(0);
        HostNoise {
            late: Pauses { p90: at(0.9), p99: at(0.99), p999: at(0.999), max: at(1.0) },
            ..host_noise(&self.trial)
        }
    }
    /// What the host did between two instants, in seconds since the measured phase began: the
    /// longest pauses, which stand for every quantile. Lateness of the fault server is left out,
    /// because its log is what is expected.
    pub fn noise_between(&self, from: f64, to: f64) -> HostNoise {
        let longest = |what: &dyn Fn(&str) -> bool| {
            let inside =
                self.intervals.iter().filter(|i| what(&i.tag) && i.start_s < to && i.start_s + i.length_s > from);
            let max = inside.map(|i| i.histogram.open().max()).max().unwrap_or(0);
            Pauses { p90: max, p99: max, p999: max, max }
        };
        HostNoise {
            hiccup: longest(&|tag| tag == "hiccup"),
            lag: longest(&|tag| tag.ends_with("lag")),
            ..HostNoise::default()
        }
    }
    /// Events of a kind.
    pub fn events<'s>(&'s self, event: &'s str) -> impl Iterator<Item = &'s FaultEvent> {
        self.injected.iter().filter(move |e| e.event == event)
    }
}

/// A quantile in ns; `None` is +infinity, or not measured.
pub fn at(l: &LatencySummary, quantile: f64) -> Option<f64> {
    l.at(quantile)?.value_ns.map(|v| v as f64)
}

/// What the host did during a trial.
pub fn host_noise(trial: &Trial) -> HostNoise {
    let amounts = trial.disturbance.iter().filter_map(|f| f.amount);
    let steal = amounts.filter(|a| a.of == Disturbed::StolenTime).map(|a| a.value).sum();
    // The curve has points whatever the quantiles of the plan; the last one before a quantile is
    // the nearest.
    let at = |l: &LatencySummary, q: f64| l.curve.iter().rev().find(|(p, _)| *p <= q).map_or(0, |(_, ns)| *ns);
    let pauses = |l: &LatencySummary| Pauses {
        p90: at(l, 0.9),
        p99: at(l, 0.99),
        p999: at(l, 0.999),
        max: l.max_ns.unwrap_or(0),
    };
    let lags = trial.workloads.iter().filter_map(|w| w.latency.get("lag")).map(pauses);
    let lag = lags.fold(HostNoise::default(), |u, lag| u.worse(HostNoise { lag, ..HostNoise::default() })).lag;
    HostNoise { hiccup: pauses(&trial.hiccup), lag, steal, ..HostNoise::default() }
}

impl ExperimentContext<'_> {
    /// The first or the second, by form.
    pub fn pick<T>(&self, quick: T, full: T) -> T {
        if self.form == Thoroughness::Quick { quick } else { full }
    }

    /// Runs a scenario to its end.
    fn collect(&self, text: String) -> Result<TrialCollector, CalibrateError> {
        let plan = parse(Path::new("calibrate.toml"), text, &Overrides::default(), &self.register.types())?.plan;
        let collector = TrialCollector::default();
        // What is being calibrated is not judged by an earlier calibration.
        let ExperimentContext { register, scratch, clocksource, interrupt, .. } = *self;
        engine::run(
            &plan,
            &Conditions {
                register,
                scratch,
                clocksource,
                calibration: None,
                interrupt,
                taken_up: &[],
                done: &[],
                side: TrialSide::Alone,
            },
            &collector,
        )?;
        if self.interrupt.count() > 0 {
            return Err(CalibrateError::Interrupted);
        }
        Ok(collector)
    }

    /// Runs a scenario of one trial for each case.
    pub fn run(&self, experiment: &'static str, text: String) -> Result<Vec<TrialResult>, CalibrateError> {
        let collector = self.collect(text)?;
        let failed = |phase: &str, error: String| CalibrateError::Trial { experiment, phase: phase.into(), error };
        let mut all = Vec::new();
        for files in collector.0.into_inner().unwrap_or_else(PoisonError::into_inner) {
            if let Outcome::Failed { phase, error } = &files.trial.outcome {
                return Err(failed(phase, error.clone()));
            }
            let mut samples = BTreeMap::new();
            for interval in &files.hlog {
                let into = samples.entry(interval.tag.clone()).or_insert_with(histogram);
                // Equal bounds always add.
                let _ = into.add(interval.histogram.open());
            }
            let log = files.fault_log.unwrap_or_default();
            let injected = truth::read(&log).map_err(|e| failed("the log of faults", e))?;
            all.push(TrialResult { trial: files.trial, samples, intervals: files.hlog, injected });
        }
        if all.is_empty() {
            return Err(failed("prepare", "the reference broker could not be started".into()));
        }
        Ok(all)
    }

    /// Searches for the highest load of a scenario, and what the host did in the trials.
    pub fn searches(&self, experiment: &'static str, text: String) -> Result<SearchesRun, CalibrateError> {
        let collector = self.collect(text)?;
        let trials = collector.0.into_inner().unwrap_or_else(PoisonError::into_inner);
        let noise = trials.iter().fold(HostNoise::default(), |n, files| n.worse(host_noise(&files.trial)));
        let results = collector.1.into_inner().unwrap_or_else(PoisonError::into_inner);
        match results.iter().find_map(|r| r.broken.clone()) {
            Some(error) => Err(CalibrateError::Trial { experiment, phase: "prepare".into(), error }),
            None => Ok(SearchesRun { results, noise }),
        }
    }

    /// As [`run`](Self::run), of a single case.
    pub fn one(&self, experiment: &'static str, text: String) -> Result<TrialResult, CalibrateError> {
        let last = self.run(experiment, text)?.pop();
        last.ok_or(CalibrateError::Interrupted)
    }
}

/// How much medians of such messages scatter on this host: half the interquartile range of the
/// workload that the faults do not hit, at most 50 us.
pub fn scatter(ran: &TrialResult, i: usize) -> f64 {
    unsteady(ran, i).min(50_000.0)
}

/// The same without a bound: how far the median of the control may be from that of other messages
/// on a busy host.
pub fn unsteady(ran: &TrialResult, i: usize) -> f64 {
    let l = ran.latency(i, "e2e");
    at(&l, 0.75).zip(at(&l, 0.25)).map_or(0.0, |(high, low)| (high - low) / 2.0)
}

/// The latency of the way to the broker and back: the median of the workload that the faults do not
/// hit.
pub fn control(ran: &TrialResult, i: usize) -> f64 {
    at(&ran.latency(i, "e2e"), 0.5).unwrap_or(0.0)
}

impl HostNoise {
    /// With what happened to workload `i` of the same trial, which the faults do not hit.
    pub fn with_noise_of(self, ran: &TrialResult, i: usize) -> Self {
        let l = ran.latency(i, "e2e");
        let Some(median) = at(&l, 0.5).map(|v| v as Nanos) else { return self };
        let above = |q| {
            let at = l.curve.iter().rev().find(|(p, _)| *p <= q).map_or(median, |(_, ns)| *ns);
            at.saturating_sub(median)
        };
        let max = l.max_ns.map_or(0, |max| max.saturating_sub(median));
        Self { way: Pauses { p90: above(0.9), p99: above(0.99), p999: above(0.999), max }, ..self }
    }
}

/// A share of `value`, enlarged by what the control shows as spread, but at most doubled: a loud
/// host must not make every result right.
pub fn with_floor(tolerance: f64, spread: f64) -> f64 {
    tolerance + spread.min(tolerance)
}

/// Milliseconds as a duration of a scenario.
pub fn ms(nanos: Nanos) -> String {
    format!("{}us", nanos / 1000)
}

/// What searches have found.
pub struct SearchesRun {
    pub results: Vec<SearchResult>,
    /// The worst of all trials.
    pub noise: HostNoise,
}

/// Trials, and searches as they stood last.
#[derive(Default)]
struct TrialCollector(Mutex<Vec<TrialFiles>>, Mutex<Vec<SearchResult>>);

impl RunSink for TrialCollector {
    fn begin(&self, _: &Case, _: u32, _: usize, _: usize) {}
    fn tick(&self, _: Tick) {}
    fn skip(&self, _: Skipped) {}
    fn trial(&self, files: TrialFiles) -> io::Result<()> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(files);
        Ok(())
    }
    fn search(&self, progress: &SearchProgress<'_>) -> io::Result<()> {
        let mut all = self.1.lock().unwrap_or_else(PoisonError::into_inner);
        let now = progress.result.clone();
        match all.iter_mut().find(|r| r.case == now.case && r.number == now.number) {
            Some(there) => *there = now,
            None => all.push(now),
        }
        Ok(())
    }
}
