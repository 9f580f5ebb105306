//! One agent of a run, as the coordinator knows it.

use crate::engine::{AgentAccounts, AgentCounts, AgentProgress, AgentReturn, HeldSets, TrialStage};
use crate::plan::AgentShare;
use crate::record::{AgentResult, AgentState, ClockOffset};
use crate::units::{Nanos, SECOND, now};

use super::delivery::Assembly;
use super::messages::{Hello, Report};

/// An agent is silent when nothing was heard of it for so long.
pub const SILENT: Nanos = 3 * SECOND;

/// Two readings of the clock here around two of the agent's.
#[derive(Debug, Clone, Copy)]
pub struct ClockReadings {
    /// Asked, and answered, by the clock here.
    pub asked: Nanos,
    pub answered: Nanos,
    /// Heard, and said, by the agent's clock.
    pub heard: Nanos,
    pub said: Nanos,
}

impl ClockReadings {
    /// The time on the way, there and back.
    fn round_trip(&self) -> Nanos {
        (self.answered - self.asked).saturating_sub(self.said.saturating_sub(self.heard))
    }

    /// Agent's clock less the clock here: wrong by half of the round trip at most.
    fn offset(&self) -> i64 {
        let difference = |a: Nanos, b: Nanos| i128::from(a) - i128::from(b);
        let twice = difference(self.heard, self.asked) + difference(self.said, self.answered);
        (twice / 2) as i64
    }
}

/// One agent of a run.
#[derive(Debug)]
pub struct ChosenAgent {
    pub hello: Hello,
    pub share: AgentShare,
    /// When it was last heard of, and the longest silence of the trial.
    pub heard: Nanos,
    pub longest: Nanos,
    /// Why it does not take part in the trial.
    pub refused: Option<String>,
    pub stage: Option<TrialStage>,
    pub progress: AgentProgress,
    /// Sets that came since they were last asked for.
    pub sets: Vec<HeldSets>,
    pub parts: [Assembly; 2],
    pub accounts: Option<AgentAccounts>,
    readings: Vec<ClockReadings>,
}

impl ChosenAgent {
    pub fn new(hello: Hello, share: AgentShare) -> Self {
        Self {
            hello,
            share,
            heard: now(),
            longest: 0,
            refused: None,
            stage: None,
            progress: AgentProgress::default(),
            sets: Vec::new(),
            parts: Default::default(),
            accounts: None,
            readings: Vec::new(),
        }
    }

    /// A trial begins.
    pub fn begin(&mut self) {
        *self = Self {
            heard: self.heard,
            readings: std::mem::take(&mut self.readings),
            ..Self::new(self.hello.clone(), self.share)
        };
    }

    /// Something was heard of it.
    pub fn hear(&mut self, at: Nanos) {
        self.longest = self.longest.max(at.saturating_sub(self.heard));
        self.heard = at;
    }

    pub fn report(&mut self, report: Report, at: Nanos) {
        self.hear(at);
        self.stage = self.stage.max(report.stage);
        self.progress = report.progress;
    }

    pub fn silent(&self, at: Nanos) -> bool {
        at.saturating_sub(self.heard) > SILENT
    }

    pub fn read_clock(&mut self, readings: ClockReadings) {
        // Of many the tightest are enough; none is older than an hour at ten a second.
        if self.readings.len() >= 36_000 {
            self.readings.drain(..18_000);
        }
        self.readings.push(readings);
    }

    /// How many exchanges there are.
    pub fn exchanges(&self) -> usize {
        self.readings.len()
    }

    /// The longest round trip that is still one of the tightest: of the median exchange.
    pub fn round_trip(&self) -> Nanos {
        let mut all: Vec<Nanos> = self.readings.iter().map(ClockReadings::round_trip).collect();
        all.sort_unstable();
        all.get(all.len() / 2).copied().unwrap_or(0)
    }

    /// What is known of its clock: from the exchange that was on the way for the shortest time.
    pub fn clock(&self) -> ClockOffset {
        let best = self.readings.iter().min_by_key(|r| r.round_trip());
        ClockOffset {
            offset_ns: best.map_or(0, ClockReadings::offset),
            bound_ns: best.map(|r| r.round_trip().div_ceil(2)),
            exchanges: self.readings.len() as u32,
        }
    }

    /// What it came to in a trial; `shift` is what it was given at the start.
    pub fn returned(&mut self, shift: i64, at: Nanos) -> AgentReturn {
        let accounts = self.accounts.take();
        let seconds = |ns: Nanos| ns as f64 / SECOND as f64;
        let state = match (&accounts, self.longest > SILENT) {
            (None, _) => AgentState::Lost { silent_s: seconds(at.saturating_sub(self.heard)) },
            (Some(_), true) => AgentState::Silent { longest_s: seconds(self.longest) },
            (Some(_), false) => AgentState::Delivered,
        };
        let agent = AgentResult {
            name: self.hello.name.clone(),
            index: self.share.index,
            labels: self.hello.labels.clone(),
            version: self.hello.version.clone(),
            pid: self.hello.pid,
            host: self.hello.host.clone(),
            state,
            clock: self.clock(),
            ..AgentResult::default()
        };
        AgentReturn { share: self.share, agent, shift, accounts }
    }
}

/// Sums over all agents, one for each workload.
pub fn sums(all: &[ChosenAgent]) -> Vec<AgentCounts> {
    let mut total: Vec<AgentCounts> = Vec::new();
    for counts in all.iter().map(|a| &a.progress.counts) {
        if total.len() < counts.len() {
            total.resize(counts.len(), AgentCounts::default());
        }
        for (sum, mine) in total.iter_mut().zip(counts) {
            sum.sent += mine.sent;
            sum.acked += mine.acked;
            sum.arrived += mine.arrived;
        }
    }
    total
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::record::Host;

    pub fn agent() -> ChosenAgent {
        let hello = Hello {
            id: "a".into(),
            name: "a".into(),
            protocol: 1,
            version: "1".into(),
            pid: 1,
            labels: std::collections::BTreeMap::new(),
            host: Host::default(),
            taken: None,
        };
        ChosenAgent::new(hello, AgentShare { index: 0, of: 1 })
    }

    proptest! {
        /// Whatever the ways take, the true offset is within the bound of what is told.
        #[test]
        fn the_offset_is_within_its_bound(
            offset in -10i64.pow(15)..10i64.pow(15), ways in prop::collection::vec((1u64..5_000_000, 0u64..1_000_000, 1u64..5_000_000), 1..40),
        ) {
            let mut it = agent();
            let mut here: Nanos = 2 * 10u64.pow(15);
            for (there, within, back) in ways {
                let asked = here;
                let heard = (here + there).wrapping_add_signed(offset);
                let said = heard + within;
                let answered = here + there + within + back;
                it.read_clock(ClockReadings { asked, answered, heard, said });
                here = answered + 1_000;
            }
            let told = it.clock();
            prop_assert!(told.offset_ns.abs_diff(offset) <= told.bound_ns.unwrap(), "{told:?} of {offset}");
        }
    }

    #[test]
    fn a_silence_is_remembered_and_an_agent_without_a_result_is_lost() {
        let mut it = agent();
        let from = it.heard;
        it.hear(from + 4 * SECOND);
        it.hear(from + 5 * SECOND);
        assert!(!it.silent(from + 6 * SECOND) && it.silent(from + 9 * SECOND));
        assert_eq!(it.returned(0, from + 9 * SECOND).agent.state, AgentState::Lost { silent_s: 4.0 });
    }
}
