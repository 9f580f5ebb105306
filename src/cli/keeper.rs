//! Keeps the record of a run that is going on, and writes it after every trial.

use std::io;
use std::sync::{Mutex, PoisonError};
use std::time::SystemTime;

use crate::engine::{self, Tick, TrialFiles};
use crate::measure::trust;
use crate::record::store::interval_log;
use crate::record::{Completion, Folder, Interval, Outcome, Record, RunClock, Secrets, Skipped, rfc3339};
use crate::report::series::Series;
use crate::scenario::plan::Case;
use crate::units::now;

use super::progress::Progress;

/// What a run has come to.
pub(super) struct Kept {
    pub(super) record: Record,
    pub(super) intervals: Vec<Interval>,
    pub(super) folder: Folder,
}

impl Kept {
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
        let series = Series { intervals: &self.intervals, read: &read };
        let files = crate::report::files(&self.record, &series).map_err(|e| e.to_string())?;
        for (name, bytes) in files {
            self.folder.add(&name, bytes);
        }
        self.keep(progress);
        Ok(())
    }
}

/// See the module.
pub(super) struct Keeper {
    progress: Progress,
    /// What each trial was to do.
    cases: Vec<Case>,
    /// Taken out of all that is kept and shown.
    secrets: Secrets,
    kept: Mutex<Kept>,
}

impl Keeper {
    /// Writes what there is at the start.
    pub(super) fn new(progress: Progress, cases: Vec<Case>, record: Record, folder: Folder, secrets: Secrets) -> Self {
        let mut kept = Kept { record, intervals: Vec::new(), folder };
        kept.keep(&progress);
        Self { progress, cases, secrets, kept: Mutex::new(kept) }
    }

    /// Ends the record and renders the reports; the second value says what of them could not be rendered.
    pub(super) fn finish(self, completion: Completion, clock: &RunClock) -> (Kept, Result<(), String>) {
        self.progress.finish();
        let mut kept = self.kept.into_inner().unwrap_or_else(PoisonError::into_inner);
        let at = now();
        kept.record.completion = completion;
        kept.record.ended_at = Some(rfc3339(clock.at(at)));
        kept.record.clock_step_s = clock.step(SystemTime::now(), at);
        kept.keep(&self.progress);
        let rendered = kept.render(&self.progress);
        (kept, rendered)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Says that a trial failed; the words of one that failed alike before are not repeated.
    fn failed(&self, label: &str, phase: &str, error: &str) {
        let alike = self.lock().record.trials.iter().find_map(|t| match &t.outcome {
            Outcome::Failed { error: before, .. } if crate::report::notes::alike(before, error) => {
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

impl engine::Sink for Keeper {
    fn begin(&self, case: &Case, round: u32, number: usize, of: usize) {
        self.progress.begin(format!("[{number}/{of}] {} (round {round})", case.id));
    }
    fn tick(&self, tick: Tick) {
        self.progress.tick(tick);
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
        // Of a load that never began there is nothing to judge.
        let case = self.cases.iter().find(|c| c.id == files.trial.case).filter(|_| files.began);
        if let Some(case) = case {
            crate::measure::within::judge(&mut files.trial, case, &files.intervals, &files.hlog);
            if let Some(calibration) = &self.lock().record.calibration {
                trust::judge(&mut files.trial, case, calibration);
            }
        }
        if let Outcome::Failed { phase, error } = &files.trial.outcome {
            self.failed(&label, phase, error);
        }
        let (name, log) = interval_log(&label, &files.hlog, files.measured_at).map_err(io::Error::other)?;
        let mut kept = self.lock();
        kept.folder.add(&name, log);
        files.trial.hlog = Some(name);
        if let Some(log) = files.server_log {
            let name = format!("{label}.server.log");
            kept.folder.add(&name, log);
            files.trial.server_log = Some(name);
        }
        if let Some(log) = files.fault_log {
            kept.folder.add(&format!("{label}.faults.jsonl"), log);
        }
        kept.record.order.push((files.trial.round, files.trial.case.clone()));
        kept.record.trials.push(files.trial);
        kept.intervals.extend(files.intervals);
        kept.keep(&self.progress);
        Ok(())
    }
}
