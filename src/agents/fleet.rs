//! The agents of a run, gathered and conducted.

use std::collections::BTreeMap;
use std::sync::mpsc::channel;
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::sync::mpsc::UnboundedSender;

use crate::engine::{
    AgentReports, AgentReturn, CoordinatorSide, Instructions, Interrupt, PartFailure, TrialOrder, TrialStage,
};
use crate::plan::AgentsPlan;
use crate::record::AgentResult;
use crate::units::{Nanos, SECOND, now};

use super::chosen::{ChosenAgent, sums};
use super::coordinator::{FleetState, Sending, SharedState};
use super::link::ControlServer;
use super::messages::{AgentAnswer, AgentRequest, Beginning};
use super::peers::{asked_by, compared};

/// How often it is looked whether something has come.
pub const LOOK: Duration = Duration::from_millis(5);
/// Load starts so long after all are ready, or twenty round trips, whichever is longer.
const LEAD: Nanos = SECOND;
/// While a trial is prepared, an agent that is silent for so long is gone.
const GONE: Nanos = 10 * SECOND;
/// The end of an agent's drain and its result are waited for as long as it is heard of, and for so
/// long afterwards.
const LOST: Nanos = 12 * SECOND;
/// But no longer than this in all.
const MOST: Nanos = 120 * SECOND;

/// What a run asks for.
#[derive(Debug, Clone)]
pub struct FleetOptions {
    pub control: ControlServer,
    pub fleet: String,
    pub agents: AgentsPlan,
    /// How long agents are waited for.
    pub wait: Duration,
}

/// The agents of a run. Dropped, it lets them go.
pub struct Fleet {
    pub(super) state: SharedState,
    pub(super) commands: Option<UnboundedSender<Sending>>,
    pub(super) thread: Option<JoinHandle<()>>,
    pub(super) run: String,
    pub(super) plan: String,
    pub(super) options: FleetOptions,
    pub(super) interrupt: Interrupt,
    pub(super) told: std::sync::Mutex<Told>,
}

/// What agents were told in a trial.
#[derive(Debug, Default)]
pub struct Told {
    passed: Option<TrialStage>,
    started: Option<Nanos>,
    instructions: Instructions,
}

impl Fleet {
    pub(super) fn send(
        &self,
        id: &str,
        command: AgentRequest,
        answer: Option<std::sync::mpsc::Sender<Result<AgentAnswer, String>>>,
    ) {
        if let Some(commands) = &self.commands {
            let _ = commands.send(Sending { id: id.to_owned(), command, answer });
        }
    }

    /// Sends a command to all agents.
    fn send_all(&self, command: impl Fn(usize, &ChosenAgent) -> AgentRequest) {
        let commands: Vec<(String, AgentRequest)> = {
            let state = self.state.lock();
            state.chosen.iter().enumerate().map(|(i, a)| (a.hello.id.clone(), command(i, a))).collect()
        };
        for (id, command) in commands {
            self.send(&id, command, None);
        }
    }

    fn told(&self) -> std::sync::MutexGuard<'_, Told> {
        self.told.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    fn instruct(&self, told: Instructions) {
        let (run, trial) = (self.run.clone(), self.state.lock().trial);
        let Instructions { over, cut, asked } = told;
        self.send_all(|_, _| AgentRequest::Instruct { run: run.clone(), trial, over, cut, asked });
    }
}

impl Drop for Fleet {
    fn drop(&mut self) {
        let (to, answer) = channel();
        let ids: Vec<String> = self.state.lock().chosen.iter().map(|a| a.hello.id.clone()).collect();
        for id in &ids {
            self.send(id, AgentRequest::Release { run: self.run.clone() }, Some(to.clone()));
        }
        drop(to);
        let until = now() + 2 * SECOND;
        for _ in ids {
            let left = Duration::from_nanos(until.saturating_sub(now()));
            if answer.recv_timeout(left).is_err() {
                break;
            }
        }
        self.commands = None;
        if let Some(thread) = self.thread.take() {
            // It ends when no command can come any more.
            let _ = thread.join();
        }
    }
}

/// Whether an agent is gone, in words.
pub(super) fn gone(state: &FleetState, agent: &ChosenAgent, at: Nanos) -> Option<String> {
    let name = &agent.hello.name;
    let silent = at.saturating_sub(agent.heard.max(state.back));
    match &agent.refused {
        Some(why) if agent.unreachable => Some(format!("agent {name} does not take part: {why}")),
        _ if state.away.is_none() && silent > GONE => {
            Some(format!("agent {name} is gone: nothing was heard of it for {} s", silent / SECOND))
        }
        _ => None,
    }
}

/// Whether something of an agent may still come. Nothing is heard of anybody while the control
/// server is away, and a while after.
fn awaited(state: &FleetState, agent: &ChosenAgent, at: Nanos) -> bool {
    let heard = if state.away.is_some() { at } else { agent.heard.max(state.back) };
    agent.accounts.is_none() && agent.refused.is_none() && at.saturating_sub(heard) < LOST
}

impl Fleet {
    /// Those that are there.
    ///
    /// # Errors
    /// Who is gone, where more are than may be.
    fn there<'s>(&self, state: &'s FleetState) -> Result<Vec<&'s ChosenAgent>, String> {
        let (mut there, mut lost, at) = (Vec::new(), Vec::new(), now());
        for agent in &state.chosen {
            match gone(state, agent, at) {
                Some(words) => lost.push(words),
                None => there.push(agent),
            }
        }
        match lost.len() > self.may_lose() as usize {
            true => Err(lost.join("; ")),
            false => Ok(there),
        }
    }
}

impl CoordinatorSide for Fleet {
    fn may_lose(&self) -> u32 {
        self.options.agents.may_lose
    }

    fn fit(&self) -> Result<(), String> {
        self.fill()
    }

    fn begin(&self, order: &TrialOrder) -> Result<(), String> {
        let trial = {
            let mut state = self.state.lock();
            state.trial += 1;
            state.chosen.iter_mut().for_each(ChosenAgent::begin);
            state.trial
        };
        *self.told() = Told::default();
        let (run, plan) = (self.run.clone(), self.plan.clone());
        let order = TrialOrder { number: trial, ..order.clone() };
        let asked: Vec<Vec<String>> = {
            let state = self.state.lock();
            (0..state.chosen.len()).map(|number| asked_by(number, &state.chosen)).collect()
        };
        self.send_all(|number, _| {
            let (run, plan, order, peers) = (run.clone(), plan.clone(), order.clone(), asked[number].clone());
            AgentRequest::Begin(Box::new(Beginning { run, plan, trial, order, peers }))
        });
        Ok(())
    }

    fn all_at(&self, stage: TrialStage) -> Result<bool, PartFailure> {
        let (run, trial) = (self.run.clone(), self.state.lock().trial);
        {
            let state = self.state.lock();
            let there = self.there(&state).map_err(PartFailure::agent)?;
            for agent in &there {
                let name = &agent.hello.name;
                if let Some(why) = &agent.refused {
                    return Err(PartFailure::agent(format!("agent {name} does not take part: {why}")));
                }
                if let Some((phase, error)) = &agent.progress.failed {
                    return Err(PartFailure { phase: phase.clone(), words: format!("agent {name}: {error}") });
                }
            }
            if there.iter().any(|a| a.stage < Some(stage)) {
                return Ok(false);
            }
        }
        if self.told().passed < Some(stage) {
            self.told().passed = Some(stage);
            self.send_all(|_, _| AgentRequest::Pass { run: run.clone(), trial, stage });
        }
        Ok(true)
    }

    fn missing(&self, stage: TrialStage) -> String {
        let state = self.state.lock();
        let not_yet = state.chosen.iter().filter(|a| a.stage < Some(stage));
        let names: Vec<&str> = not_yet.map(|a| a.hello.name.as_str()).collect();
        let away = if state.away.is_some() { "; the control server cannot be reached" } else { "" };
        format!("waiting for {}{away}", names.join(", "))
    }

    fn start_load(&self) -> Nanos {
        if let Some(at) = self.told().started {
            return at;
        }
        let (run, trial) = (self.run.clone(), self.state.lock().trial);
        let slowest = self.state.lock().chosen.iter().map(ChosenAgent::round_trip).max().unwrap_or(0);
        let at = now() + LEAD.max(20 * slowest);
        let theirs = start_all(&mut self.state.lock().chosen, at);
        self.send_all(|i, a| AgentRequest::Start { run: run.clone(), trial, at: theirs[i], shift: a.shift });
        self.told().started = Some(at);
        at
    }

    fn exchange(&self, mut told: Instructions) -> AgentReports {
        let before = self.told().instructions;
        told = Instructions { over: false, cut: told.cut | before.cut, asked: told.asked | before.asked };
        if told != before {
            self.told().instructions = told;
            self.instruct(told);
        }
        let (mut state, at) = (self.state.lock(), now());
        let failed = |a: &ChosenAgent| {
            let (phase, error) = a.progress.failed.as_ref()?;
            Some((phase.clone(), format!("agent {}: {error}", a.hello.name)))
        };
        AgentReports {
            counts: sums(&state.chosen),
            sent_all: state.chosen.iter().all(|a| a.progress.sent_all || !awaited(&state, a, at)),
            known: state.chosen.iter().filter(|a| awaited(&state, a, at)).map(ChosenAgent::known).min().unwrap_or(at),
            failed: state.chosen.iter().find_map(failed),
            sets: state.chosen.iter_mut().flat_map(|a| std::mem::take(&mut a.sets)).collect(),
        }
    }

    fn collect(&self) -> Vec<AgentReturn> {
        let before = self.told().instructions;
        let started = self.told().started.is_some();
        // Who was never let go is told to give up.
        self.instruct(Instructions { over: true, cut: before.cut || !started, asked: before.asked });
        let until = now() + MOST;
        loop {
            let (state, at) = (self.state.lock(), now());
            if at > until || !state.chosen.iter().any(|a| awaited(&state, a, at)) {
                break;
            }
            drop(state);
            std::thread::sleep(LOOK);
        }
        let (mut state, at) = (self.state.lock(), now());
        let peers = compared(&state.chosen, at);
        let returned = state.chosen.iter_mut().zip(peers).map(|(a, peers)| {
            let back = a.returned(at);
            AgentReturn { agent: AgentResult { peers, ..back.agent }, ..back }
        });
        returned.collect()
    }
}

/// Load starts at this instant of the clock here: what that of each agent will be then. Agents of
/// one host have one clock, and so one offset.
fn start_all(all: &mut [ChosenAgent], at: Nanos) -> Vec<Nanos> {
    let mut first: BTreeMap<String, (u32, i64)> = BTreeMap::new();
    let start = |a: &mut ChosenAgent| {
        let same = first.get(&a.hello.clock).copied();
        let theirs = a.start(at, same);
        first.entry(a.hello.clock.clone()).or_insert((a.share.index, a.shift));
        theirs
    };
    all.iter_mut().map(start).collect()
}

#[cfg(test)]
pub mod tests {
    use super::super::chosen::tests::agent;
    use super::super::messages::Report;
    use super::*;
    use crate::engine::AgentProgress;

    /// Without a connection.
    pub fn fleet(agents: AgentsPlan) -> Fleet {
        let options =
            FleetOptions { control: ControlServer::default(), fleet: String::new(), agents, wait: Duration::ZERO };
        Fleet {
            state: SharedState::default(),
            commands: None,
            thread: None,
            run: String::new(),
            plan: String::new(),
            options,
            interrupt: Interrupt::default(),
            told: std::sync::Mutex::default(),
        }
    }

    /// An agent that reported at these instants.
    fn reported(sent_all: bool, at: [Nanos; 2]) -> ChosenAgent {
        let mut it = agent();
        it.heard = 0;
        for at in at {
            let progress = AgentProgress { draining: sent_all, sent_all, ..AgentProgress::default() };
            it.report(Report { id: String::new(), trial: 1, stage: None, progress, peers: Vec::new() }, at);
        }
        it
    }

    #[test]
    fn an_agent_that_stands_still_is_neither_done_nor_quiet_until_it_is_lost() {
        let (fleet, at) = (fleet(AgentsPlan::any(2)), now());
        let heard = |still: [Nanos; 2]| {
            let before = [2 * SECOND, SECOND].map(|ago| at - ago);
            fleet.state.lock().chosen = vec![reported(true, before), reported(false, still.map(|ago| at - ago))];
            let all = fleet.exchange(Instructions::default());
            (all.sent_all, all.known)
        };
        assert_eq!(heard([6 * SECOND, 5 * SECOND]), (false, at - 6 * SECOND));
        // It went on a moment ago.
        assert_eq!(heard([9 * SECOND, SECOND]), (false, at - 9 * SECOND));
        assert_eq!(heard([LOST + SECOND, LOST]), (true, at - 2 * SECOND), "of those that live");
        fleet.state.lock().away = Some(at);
        assert_eq!(heard([LOST + SECOND, LOST]), (false, at - LOST - SECOND), "nothing can be heard of it");
    }
}
