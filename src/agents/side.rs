//! An agent's side of one trial: what stands between the engine's control thread and the connection
//! to the control server.

use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;
use tokio::sync::mpsc::UnboundedSender;

use crate::engine::{AgentProgress, AgentSide, Instructions, LoadStart, ToldSets, TrialStage};
use crate::plan::AgentShare;
use crate::units::{Nanos, SECOND, now};

use super::messages::Report;

/// While it waits for the end of the drain an agent reports so often what has come.
const OFTEN: Nanos = 50_000_000;
/// And so often that nothing has come.
const NOTHING: Nanos = 200_000_000;
/// How much longer than the drain an agent waits for word that it is over.
const PATIENCE: Nanos = 10 * SECOND;

/// What is known of the trial.
#[derive(Debug, Default)]
struct TrialState {
    stage: Option<TrialStage>,
    passed: Option<TrialStage>,
    start: Option<LoadStart>,
    instructions: Instructions,
    given_up: Option<String>,
    progress: AgentProgress,
    reported: Nanos,
}

/// An agent's side of one trial.
#[derive(Debug)]
pub struct TrialLink {
    id: String,
    pub run: String,
    pub trial: u64,
    share: AgentShare,
    state: Mutex<TrialState>,
    /// There is something to report.
    changed: Notify,
    sets: UnboundedSender<(u64, Vec<ToldSets>)>,
}

impl TrialLink {
    pub fn new(
        (id, run, trial): (String, String, u64),
        share: AgentShare,
        sets: UnboundedSender<(u64, Vec<ToldSets>)>,
    ) -> Self {
        Self { id, run, trial, share, state: Mutex::default(), changed: Notify::new(), sets }
    }

    fn lock(&self) -> MutexGuard<'_, TrialState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// All have come to a stage.
    pub fn pass(&self, stage: TrialStage) {
        let mut state = self.lock();
        state.passed = state.passed.max(Some(stage));
    }

    /// Load starts then.
    pub fn start(&self, start: LoadStart) {
        self.lock().start = Some(start);
    }

    pub fn instruct(&self, told: Instructions) {
        let mut state = self.lock();
        let all = &mut state.instructions;
        *all = Instructions { over: all.over | told.over, cut: all.cut | told.cut, asked: all.asked | told.asked };
    }

    /// Gives the trial up, unless load runs: then it runs to its end.
    pub fn give_up(&self, why: &str) {
        let mut state = self.lock();
        if state.start.is_none() {
            state.given_up.get_or_insert_with(|| why.to_owned());
        }
    }

    /// What is to be reported now.
    pub fn latest(&self) -> Report {
        let mut state = self.lock();
        state.reported = now();
        let (id, progress) = (self.id.clone(), state.progress.clone());
        Report { id, trial: self.trial, stage: state.stage, progress, peers: Vec::new() }
    }

    /// Ends when there is something to report.
    pub async fn changed(&self) {
        self.changed.notified().await;
    }
}

impl AgentSide for TrialLink {
    fn share(&self) -> &AgentShare {
        &self.share
    }

    fn all_at(&self, stage: TrialStage) -> Result<bool, String> {
        let mut state = self.lock();
        if state.stage < Some(stage) {
            state.stage = Some(stage);
            self.changed.notify_one();
        }
        match &state.given_up {
            Some(why) => Err(why.clone()),
            None if state.instructions.cut => Err("the trial was given up elsewhere".into()),
            None => Ok(state.passed >= Some(stage)),
        }
    }

    fn load_start(&self) -> Result<Option<LoadStart>, String> {
        let state = self.lock();
        match &state.given_up {
            Some(why) => Err(why.clone()),
            None if state.instructions.cut => Err("the trial was given up elsewhere".into()),
            None => Ok(state.start),
        }
    }

    fn report(&self, progress: AgentProgress) -> Instructions {
        let mut state = self.lock();
        let flags = |p: &AgentProgress| (p.draining, p.sent_all, p.failed.is_some());
        let turned = flags(&state.progress) != flags(&progress);
        let pause = if state.progress == progress { NOTHING } else { OFTEN };
        let due = progress.draining && now() - state.reported > pause;
        state.progress = progress;
        if turned || due {
            self.changed.notify_one();
        }
        state.instructions
    }

    fn tell(&self, sets: Vec<ToldSets>) {
        // The network thread lives as long as the trial.
        let _ = self.sets.send((self.trial, sets));
    }

    fn patience(&self) -> Nanos {
        PATIENCE
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn link() -> TrialLink {
        let (sets, _) = tokio::sync::mpsc::unbounded_channel();
        TrialLink::new(("a".into(), "r".into(), 1), AgentShare { index: 0, of: 2, labels: Vec::new() }, sets)
    }

    #[test]
    fn a_stage_is_passed_when_all_are_there_and_a_lost_coordinator_ends_the_wait() {
        let link = link();
        assert_eq!(link.all_at(TrialStage::Listening), Ok(false));
        assert_eq!(link.latest().stage, Some(TrialStage::Listening));
        link.pass(TrialStage::Listening);
        assert_eq!(link.all_at(TrialStage::Listening), Ok(true));
        assert_eq!(link.all_at(TrialStage::Connected), Ok(false));
        link.give_up("nobody is there");
        assert_eq!(link.all_at(TrialStage::Connected), Err("nobody is there".into()));
    }

    #[test]
    fn load_that_runs_is_not_given_up() {
        let link = link();
        let start = LoadStart { at: 7, shift: 3 };
        link.start(start);
        link.give_up("nobody is there");
        assert_eq!(link.load_start(), Ok(Some(start)));
    }
}
