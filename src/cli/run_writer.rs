//! Keeps the record of a run that is going on, and writes it after every trial.

use std::io;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use crate::engine::{self, SearchProgress, Tick, TrialFiles};
use crate::plan::Case;
use crate::record::store::interval_log;
use crate::record::{Completion, Folder, Interval, Outcome, Record, RunClock, SearchResult, Secrets, Skipped, rfc3339};
use crate::report::charts::series::RunSeries;
use crate::report::words;
use crate::units::now;

use super::progress::Progress;

/// What a run has come to.
pub(super) struct RunOutput {
    pub(super) record: Record,
    pub(super) intervals: Vec<Interval>,
    pub(super) folder: Folder,
}

impl RunOutput {
    /// Brings the folder up to date, and says what of it failed.
    fn keep(&mut self, progress: &Progress) {
        self.folder.keep(&self.record, &self.intervals);
        for words in self.folder.words() {
            progress.warn(&format!("msgbench: {words}"));
        }
    }

    /// Renders the reports, and writes them beside the record.
    fn render(&mut self, progress: &Progress) -> Result<(), String> {
        let read = |name: &str| self.folder.read(name);
        let series = RunSeries { intervals: &self.intervals, read: &read };
        let source = self.folder.place().join("run.json").display().to_string();
        let files = crate::report::files(&self.record, &series, &source).map_err(|e| e.to_string())?;
        for (name, bytes) in files {
            self.folder.add(&name, bytes);
        }
        self.keep(progress);
        Ok(())
    }
}

pub(super) struct RunWriter {
    progress: Progress,
    /// Taken out of all that is kept and shown.
    secrets: Secrets,
    output: Mutex<RunOutput>,
}

impl RunWriter {
    /// Writes what there is at the start.
    pub(super) fn new(progress: Progress, mut output: RunOutput, secrets: Secrets) -> Self {
        output.keep(&progress);
        Self { progress, secrets, output: Mutex::new(output) }
    }

    /// Ends the record and renders the reports; the second value says what of them could not be
    /// rendered.
    pub(super) fn finish(self, completion: Completion, clock: &RunClock) -> (RunOutput, Result<(), String>) {
        self.progress.finish();
        let mut output = self.output.into_inner().unwrap_or_else(PoisonError::into_inner);
        let at = now();
        output.record.completion = completion;
        output.record.ended_at = Some(rfc3339(clock.at(at)));
        output.record.clock_step_s = clock.step(SystemTime::now(), at);
        output.keep(&self.progress);
        let rendered = output.render(&self.progress);
        (output, rendered)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, RunOutput> {
        self.output.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Says that a trial failed; the words of one that failed alike before are not repeated.
    fn failed(&self, label: &str, phase: &str, error: &str) {
        let alike = self.lock().record.trials.iter().find_map(|t| match &t.outcome {
            Outcome::Failed { error: before, .. } if words::notes::alike(before, error) => {
                Some(format!("{}-{}", t.case, t.round))
            }
            _ => None,
        });
        self.progress.say(&match alike {
            Some(before) => format!("{label} failed in phase {phase}, as {before} did"),
            None => format!("{label} failed in phase {phase}: {error}"),
        });
    }
}

impl engine::RunSink for RunWriter {
    fn begin(&self, case: &Case, round: u32, number: usize, of: usize) {
        let mut output = self.lock();
        // A search makes its load points as it goes.
        if output.record.plan.search.is_some() && !output.record.plan.cases.iter().any(|c| c.id == case.id) {
            let cases = &mut output.record.plan.cases;
            let offered = crate::plan::search::offered;
            // By system and rising load, as a sweep has them.
            let after = |c: &Case| (c.system, offered(c)) > (case.system, offered(case));
            let at = cases.iter().position(after).unwrap_or(cases.len());
            cases.insert(at, case.clone());
        }
        drop(output);
        self.progress.begin(format!("{}, round {round}", case.id), number, of, phases(case));
    }
    fn tick(&self, tick: Tick) {
        self.progress.tick(tick);
    }
    fn search(&self, progress: &SearchProgress<'_>) -> io::Result<()> {
        let result = progress.result;
        let mut output = self.lock();
        let output = &mut *output;
        let wanted = output.record.plan.search.clone();
        if let (Some(wanted), Some(last)) = (&wanted, result.trials.last()) {
            let trial = output.record.trials.last();
            let case = output.record.plan.cases.iter().find(|c| c.id == last.case);
            let figures = trial.map(|t| words::trial::figures(t, case, &wanted.limits));
            self.progress.end(&words::capacity::step(result, last, wanted, &figures.unwrap_or_default()));
        }
        let same = |s: &&mut SearchResult| s.case == result.case && s.number == result.number;
        match output.record.searches.iter_mut().find(same) {
            Some(there) => *there = result.clone(),
            None => output.record.searches.push(result.clone()),
        }
        output.keep(&self.progress);
        Ok(())
    }
    fn skip(&self, skipped: Skipped) {
        let text = |words: &str| self.secrets.text(words);
        let skipped = Skipped { reason: text(&skipped.reason), remedy: text(&skipped.remedy), system: skipped.system };
        self.progress.say(&format!("{} is skipped: {}; {}", skipped.system, skipped.reason, skipped.remedy));
        self.lock().record.skipped.push(skipped);
    }
    fn trial(&self, mut files: TrialFiles) -> io::Result<()> {
        files.trial = self.secrets.clean(files.trial);
        files.server_log = files.server_log.map(|log| self.secrets.bytes(log));
        files.fault_log = files.fault_log.map(|log| self.secrets.bytes(log));
        let label = format!("{}-{}", files.trial.case, files.trial.round);
        let line = {
            let output = self.lock();
            let case = output.record.plan.cases.iter().find(|c| c.id == files.trial.case);
            // A search says what it made of the trial when it has counted it.
            let alone = output.record.plan.search.is_none() || files.trial.outcome != Outcome::Complete;
            alone.then(|| words::trial::line(&files.trial, case))
        };
        if let Some(line) = line {
            self.progress.end(&line);
        }
        if let Outcome::Failed { phase, error } = &files.trial.outcome {
            self.failed(&label, phase, error);
        }
        let (name, log) = interval_log(&label, &files.hlog, files.measured_at).map_err(io::Error::other)?;
        let mut output = self.lock();
        output.folder.add(&name, log);
        files.trial.hlog = Some(name);
        if let Some(log) = files.server_log {
            let name = format!("{label}.server.log");
            output.folder.add(&name, log);
            files.trial.server_log = Some(name);
        }
        if let Some(log) = files.fault_log {
            output.folder.add(&fault_log(&files.trial.case, files.trial.round), log);
        }
        output.record.order.push((files.trial.round, files.trial.case.clone()));
        output.record.trials.push(files.trial);
        output.intervals.extend(files.intervals);
        output.keep(&self.progress);
        Ok(())
    }
}

/// What the log of the faults of a trial is called.
pub(super) fn fault_log(case: &str, round: u32) -> String {
    format!("{case}-{round}.faults.jsonl")
}

/// How long load is driven in a trial.
fn phases(case: &Case) -> Duration {
    Duration::from_nanos(case.phases.warmup.0.saturating_add(case.phases.measure.0))
}

/// The mean of the planned phases of all cases.
pub(super) fn mean_phases(cases: &[Case]) -> Duration {
    let n = u32::try_from(cases.len()).unwrap_or(u32::MAX).max(1);
    cases.iter().map(phases).sum::<Duration>() / n
}
