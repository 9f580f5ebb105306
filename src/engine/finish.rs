//! From what a trial left behind to a finished trial: folded, judged, and with its outcome.

use std::time::SystemTime;

use crate::driver::Durability;
use crate::measure::hiccup;
use crate::plan::Case;
use crate::record::{
    Calibration, Finding, Interval, Kept, Ledger, Outcome, RunClock, SystemFacts, TaggedInterval, Trial, rfc3339,
};
use crate::system::Running;
use crate::validity::{self, Evidence, LimitsHeld, VoteCast};

use super::fold::{FoldContext, Folded, fold};
use super::power::excuses;
use super::raw::RawTrial;

/// A finished trial and what belongs into files of its own.
pub struct TrialFiles {
    /// For `run.json`; every check that can be made is made.
    pub trial: Trial,
    /// For `intervals.csv`.
    pub intervals: Vec<Interval>,
    /// For the interval log.
    pub hlog: Vec<TaggedInterval>,
    /// When the measured phase began.
    pub measured_at: SystemTime,
    /// The server's log, where the trial failed.
    pub server_log: Option<Vec<u8>>,
    /// The log of the faults that were injected, one JSON object a line.
    pub fault_log: Option<Vec<u8>>,
    /// Whether it kept the limits of the search that it is of.
    pub vote: Option<VoteCast>,
}

impl TrialFiles {
    /// Of a run that was told to stop: a signal to all processes reaches the server as well, and
    /// whoever connects then is refused. What failed so was cut: it casts no vote, and is made
    /// again when the run goes on.
    pub fn cut(&mut self) {
        if matches!(self.trial.outcome, Outcome::Failed { .. }) {
            self.trial.outcome = Outcome::Partial;
            self.vote = None;
        }
    }
}

/// What is known of a trial beside what it measured.
pub struct About<'a> {
    pub case: &'a Case,
    pub seed: u64,
    pub started: SystemTime,
    pub clock: &'a RunClock,
    pub frame: FoldContext<'a>,
    /// The newest calibration of this host by this build.
    pub calibration: Option<&'a Calibration>,
    /// The system as it came up; nothing is known of one that did not.
    pub running: Running,
    /// Whether the system was told to misbehave: that nothing comes is then no failure.
    pub told_to_fail: bool,
    /// What disturbed the host meanwhile.
    pub disturbance: Vec<Finding>,
    /// What a search holds it to.
    pub held: Option<LimitsHeld<'a>>,
}

/// Folds and judges a trial; the logs of server and faults are the caller's to add.
pub fn finish(raw: &RawTrial, hiccups: Vec<hiccup::HiccupInterval>, about: About<'_>) -> TrialFiles {
    let About { case, clock, frame, running, .. } = about;
    let mut folded = fold(raw, case, hiccups, &frame);
    let mut facts = raw.facts.clone();
    // What is kept in memory, or not at all, has no file to be synced.
    let filed = !matches!(facts.guarantees.durability.level, Durability::Memory);
    if let Some(durability) = running.durability.filter(|_| filed) {
        facts.guarantees.durability = durability;
    }
    for w in &mut folded.workloads {
        let judged = w.kept.as_ref().filter(|kept| !(kept.only_missing() && excuses(frame.events, &facts)));
        w.promises.extend(judged.map(Kept::as_promise));
    }
    if let Some(version) = running.version {
        facts.version = version;
    }
    let mut guarantees = facts.words();
    guarantees.extend(running.settings);
    let began = raw.origin > 0;
    let mut trial = Trial {
        case: case.id.clone(),
        round: frame.round,
        seed: about.seed,
        started_at: rfc3339(about.started),
        outcome: outcome(raw, &folded, about.told_to_fail),
        system: SystemFacts {
            version: facts.version,
            url: running.url,
            client: facts.client,
            promised: facts.guarantees.levels(),
            guarantees,
        },
        pacing: if frame.spin { "spin" } else { "sleep" }.into(),
        start_ns: running.start,
        processes: running.start.map(|_| running.pids.len() as u32),
        settings: running.written,
        measured_ns: raw.measured,
        drained_ns: raw.drained,
        workloads: folded.workloads,
        broker: folded.broker,
        generator: folded.generator,
        application: folded.application,
        disturbance: about.disturbance,
        hiccup: folded.hiccup,
        validity: Vec::new(),
        events: folded.events,
        faults: raw.faults.clone(),
        agents: raw.agents.clone(),
        hlog: None,
        server_log: None,
    };
    let (observed, intervals, log) = (&folded.observed, &folded.intervals, &folded.hlog);
    let evidence = Evidence { observed, intervals, log, calibration: about.calibration };
    // A load that never began leaves nothing to judge.
    if began {
        validity::judge(&mut trial, case, &evidence);
    }
    let vote = about.held.map(|held| validity::vote(&trial, case, &evidence, held));
    TrialFiles {
        measured_at: if began { clock.at(raw.origin) } else { about.started },
        trial,
        intervals: folded.intervals,
        hlog: folded.hlog,
        server_log: None,
        fault_log: None,
        vote,
    }
}

fn outcome(raw: &RawTrial, folded: &Folded, told_to_fail: bool) -> Outcome {
    // What ended the run may have ended the server, too.
    if raw.interrupted {
        return Outcome::Partial;
    }
    if let Some((phase, error)) = &raw.failed {
        return Outcome::Failed { phase: (*phase).into(), error: error.clone() };
    }
    let silent = nothing_came(folded, raw).filter(|_| !raw.end_expected && !raw.arriving && !told_to_fail);
    silent.map_or(Outcome::Complete, |error| Outcome::Failed { phase: "measure".into(), error })
}

/// Why a system that took messages and gave nothing back has failed: a full disk, say, or a limit.
fn nothing_came(folded: &Folded, raw: &RawTrial) -> Option<String> {
    let nothing = |l: &Ledger| l.expected > 0 && l.delivered == 0 && l.acked == 0;
    if folded.workloads.is_empty() || !folded.workloads.iter().all(|w| nothing(&w.ledger)) {
        return None;
    }
    let sent: u64 = folded.workloads.iter().map(|w| w.ledger.sent).sum();
    let words = raw.log.last().map(|(.., words)| format!(" (last words: {words})")).unwrap_or_default();
    Some(format!(
        "none of {sent} messages was acknowledged or arrived before the drain ended{words}; see the server's log, its disk and its limits"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::tests::folded;
    use crate::record::sample;

    /// A signal to all processes ends the server before the run hears of it.
    #[test]
    fn what_fails_while_the_user_stops_the_run_was_cut() {
        let case = &sample::record().plan.cases[0];
        let failed = || Some(("measure", "the server ended: killed by SIGTERM".to_owned()));
        let outcome = |interrupted| {
            let raw = RawTrial { failed: failed(), interrupted, ..RawTrial::of(case) };
            super::outcome(&raw, &folded(&raw, case), false)
        };
        assert_eq!(outcome(true), Outcome::Partial);
        assert!(matches!(outcome(false), Outcome::Failed { phase, .. } if phase == "measure"));
    }
}
