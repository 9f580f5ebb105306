//! One agent of a run, as the coordinator knows it.

use std::collections::BTreeMap;

use crate::clocks::{ClockError, ClockLimits, ClockTimeline, Exchange};
use crate::engine::{AgentAccounts, AgentCounts, AgentProgress, AgentReturn, ToldSets, TrialStage};
use crate::plan::AgentShare;
use crate::record::{AgentResult, AgentState, ClockOffset};
use crate::units::{Nanos, SECOND, now};

use super::delivery::Assembly;
use super::messages::{Hello, Report, clock_name};

/// An agent is silent when nothing was heard of it for so long.
pub const SILENT: Nanos = 3 * SECOND;
/// The drift of a clock is taken to be constant for so long.
pub(super) const WINDOW: Nanos = 20 * SECOND;

/// One agent of a run.
#[derive(Debug)]
pub struct ChosenAgent {
    pub hello: Hello,
    pub share: AgentShare,
    /// Whose place it took, where that agent was lost.
    pub replaces: Option<String>,
    /// Whether its clock is that of this host, so that nothing is to be exchanged.
    pub here: bool,
    /// When it was last heard of, and the longest silence of the trial.
    pub heard: Nanos,
    pub longest: Nanos,
    /// When its latest two reports came.
    reported: [Nanos; 2],
    /// Why it does not take part in the trial, and whether that is because it does not answer.
    pub refused: Option<String>,
    pub unreachable: bool,
    pub stage: Option<TrialStage>,
    pub progress: AgentProgress,
    /// Sets that came since they were last asked for.
    pub sets: Vec<ToldSets>,
    pub parts: [Assembly; 2],
    pub accounts: Option<AgentAccounts>,
    /// Exchanges with its clock; none where it is the clock of this host.
    exchanges: Vec<Exchange>,
    /// Its own exchanges with the clocks of others, by their ids.
    pub peers: BTreeMap<String, Vec<Exchange>>,
    /// The first agent that has the same clock, whose offset it is given.
    same_as: Option<u32>,
    /// What is added to an instant here to have that of its clock, and when load started.
    pub shift: i64,
    pub started: Option<Nanos>,
}

impl ChosenAgent {
    pub fn new(hello: Hello, share: AgentShare) -> Self {
        Self {
            here: hello.clock == clock_name(),
            hello,
            share,
            replaces: None,
            heard: now(),
            longest: 0,
            reported: [0; 2],
            refused: None,
            unreachable: false,
            stage: None,
            progress: AgentProgress::default(),
            sets: Vec::new(),
            parts: Default::default(),
            accounts: None,
            exchanges: Vec::new(),
            peers: BTreeMap::new(),
            same_as: None,
            shift: 0,
            started: None,
        }
    }

    /// A trial begins.
    pub fn begin(&mut self) {
        *self = Self {
            heard: self.heard,
            replaces: self.replaces.take(),
            exchanges: std::mem::take(&mut self.exchanges),
            peers: std::mem::take(&mut self.peers),
            ..Self::new(self.hello.clone(), self.share.clone())
        };
    }

    /// Something was heard of it.
    pub fn hear(&mut self, at: Nanos) {
        self.longest = self.longest.max(at.saturating_sub(self.heard));
        self.heard = at;
    }

    pub fn report(&mut self, report: Report, at: Nanos) {
        self.hear(at);
        self.reported = [self.reported[1], at];
        self.stage = self.stage.max(report.stage);
        self.progress = report.progress;
    }

    /// Takes what it found of the clock of another.
    pub fn read_peer(&mut self, id: String, exchange: Exchange) {
        keep(self.peers.entry(id).or_default(), exchange);
    }

    /// Until when it is known what it has. What it says first after it stood still is from before.
    pub fn known(&self) -> Nanos {
        self.reported[0]
    }

    pub fn read_clock(&mut self, exchange: Exchange) {
        keep(&mut self.exchanges, exchange);
    }

    /// How many exchanges there are.
    pub fn exchanges(&self) -> usize {
        self.exchanges.len()
    }

    /// The round trip of the median exchange.
    pub fn round_trip(&self) -> Nanos {
        let mut all: Vec<Nanos> = self.exchanges.iter().map(|e| e.round_trip().max(0) as Nanos).collect();
        all.sort_unstable();
        all.get(all.len() / 2).copied().unwrap_or(0)
    }

    /// Load starts at this instant of the clock here: what its own will be then. `same` is the
    /// number and the offset of an agent that has the same clock.
    pub fn start(&mut self, at: Nanos, same: Option<(u32, i64)>) -> Nanos {
        self.started = Some(at);
        match same {
            Some((number, shift)) => (self.same_as, self.shift) = (Some(number), shift),
            None if self.here => {}
            None => self.shift = self.timeline().map_or(0, |t| t.offset_at(at).middle()),
        }
        at.wrapping_add_signed(self.shift)
    }

    /// What the exchanges with its clock allow.
    pub fn timeline(&self) -> Result<ClockTimeline, ClockError> {
        ClockTimeline::of(&self.exchanges, ClockLimits::default(), WINDOW)
    }

    /// What is known of its clock from the start of load until now.
    fn clock(&self, at: Nanos) -> ClockOffset {
        let exchanges = self.exchanges.len() as u32;
        let known = ClockOffset { offset_ns: self.shift, exchanges, same_as: self.same_as, ..ClockOffset::default() };
        if self.here {
            return ClockOffset { bound_ns: Some(0), ..known };
        }
        match self.timeline() {
            Ok(timeline) => {
                let over = timeline.offset_over(self.started.unwrap_or(at), at);
                ClockOffset { bound_ns: Some(over.farthest(self.shift)), ..known }
            }
            Err(ClockError::Stepped(step)) => ClockOffset { stepped_ns: Some(step.at_least), ..known },
            Err(ClockError::NoExchange) => known,
        }
    }

    /// What it came to in a trial that is over now.
    pub fn returned(&mut self, at: Nanos) -> AgentReturn {
        let accounts = self.accounts.take();
        let seconds = |ns: Nanos| ns as f64 / SECOND as f64;
        let state = match (&accounts, self.longest > SILENT) {
            (None, _) => AgentState::Lost { silent_s: seconds(at.saturating_sub(self.heard)), allowed: false },
            (Some(_), true) => AgentState::Silent { longest_s: seconds(self.longest) },
            (Some(_), false) => AgentState::Delivered,
        };
        let agent = AgentResult {
            name: self.hello.name.clone(),
            index: self.share.index,
            labels: self.hello.labels.clone(),
            replaces: self.replaces.clone(),
            version: self.hello.version.clone(),
            pid: self.hello.pid,
            host: self.hello.host.clone(),
            state,
            clock: self.clock(at),
            ..AgentResult::default()
        };
        AgentReturn { share: self.share.clone(), agent, shift: self.shift, accounts }
    }
}

/// An hour of exchanges at five a second.
const MOST: usize = 18_000;

/// Keeps an exchange, and forgets the oldest half where there are too many.
fn keep(all: &mut Vec<Exchange>, exchange: Exchange) {
    if all.len() >= MOST {
        all.drain(..MOST / 2);
    }
    all.push(exchange);
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
            sum.stored += mine.stored;
        }
    }
    total
}

#[cfg(test)]
pub mod tests {
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
            clock: "another".into(),
            taken: None,
        };
        ChosenAgent::new(hello, AgentShare { index: 0, of: 1, labels: Vec::new() })
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
                let t1 = here;
                let t2 = (here + there).wrapping_add_signed(offset);
                let t3 = t2 + within;
                let t4 = here + there + within + back;
                it.read_clock(Exchange { t1, t2, t3, t4 });
                here = t4 + 1_000;
            }
            let theirs = it.start(here, None);
            let told = it.clock(here);
            prop_assert_eq!(theirs, here.wrapping_add_signed(it.shift));
            prop_assert!(told.offset_ns.abs_diff(offset) <= told.bound_ns.unwrap(), "{told:?} of {offset}");
        }
    }

    #[test]
    fn the_clock_of_this_host_needs_no_exchange() {
        let mut it = agent();
        it = ChosenAgent::new(Hello { clock: clock_name(), ..it.hello }, it.share);
        assert_eq!((it.start(1_000, None), it.clock(2_000).bound_ns), (1_000, Some(0)));
        it = ChosenAgent::new(Hello { clock: "another".into(), ..it.hello }, it.share);
        assert_eq!(it.clock(2_000).bound_ns, None, "nothing is known");
    }

    #[test]
    fn agents_of_one_clock_have_one_offset() {
        let mut it = agent();
        assert_eq!(it.start(1_000, Some((3, -40))), 960);
        assert_eq!((it.clock(2_000).same_as, it.clock(2_000).offset_ns), (Some(3), -40));
    }

    #[test]
    fn what_is_said_first_after_a_pause_is_from_before() {
        let mut it = agent();
        let from = it.heard;
        let mut report = |at| {
            let (id, progress) = (String::new(), AgentProgress::default());
            it.report(Report { id, trial: 1, stage: None, progress, peers: Vec::new() }, from + at * SECOND);
            it.known()
        };
        assert_eq!([report(1), report(5), report(6)], [0, from + SECOND, from + 5 * SECOND]);
    }

    #[test]
    fn a_silence_is_remembered_and_an_agent_without_a_result_is_lost() {
        let mut it = agent();
        let from = it.heard;
        it.hear(from + 4 * SECOND);
        it.hear(from + 5 * SECOND);
        assert_eq!(it.returned(from + 9 * SECOND).agent.state, AgentState::Lost { silent_s: 4.0, allowed: false });
    }
}
