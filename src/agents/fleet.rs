//! The agents of a run, gathered and conducted.

use std::collections::BTreeMap;
use std::sync::mpsc::channel;
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};

use crate::engine::{
    AgentReports, AgentReturn, CoordinatorSide, Instructions, Interrupt, PartFailure, TrialOrder, TrialStage,
};
use crate::plan::{AgentShare, Plan};
use crate::record::AgentResult;
use crate::units::{Nanos, SECOND, now};

use super::chosen::{ChosenAgent, sums};
use super::coordinator::{FleetState, Network, Sending, SharedState};
use super::link::ControlServer;
use super::messages::{
    AgentAnswer, AgentAssignment, AgentRequest, Beginning, ControlSubjects, Hello, PROTOCOL, VERSION, sha256,
};
use super::peers::{asked_by, compared};

/// How often it is looked whether something has come.
const LOOK: Duration = Duration::from_millis(5);
/// After the first look it is waited so long for more agents than are needed, so that the same ones
/// are taken each time: the first by name.
const SETTLE: Nanos = SECOND / 2;
/// Load starts so long after all are ready, or twenty round trips, whichever is longer.
const LEAD: Nanos = SECOND;
/// While a trial is prepared, an agent that is silent for so long is gone.
const GONE: Nanos = 10 * SECOND;
/// A result is waited for as long as its agent is heard of, and for so long afterwards.
const LOST: Nanos = 12 * SECOND;
/// But no longer than this in all.
const MOST: Nanos = 120 * SECOND;

/// What a run asks for.
#[derive(Debug, Clone)]
pub struct FleetOptions {
    pub control: ControlServer,
    pub fleet: String,
    pub agents: u32,
    /// How long agents are waited for.
    pub wait: Duration,
}

/// Why there are no agents.
#[derive(Debug, thiserror::Error)]
pub enum FleetError {
    /// There is no control server, or it refuses.
    #[error("{0}")]
    Control(String),
    /// Too few are there.
    #[error("{0}")]
    TooFew(String),
    #[error("interrupted")]
    Interrupted,
    #[error("no thread: {0}")]
    Thread(std::io::Error),
}

/// The agents of a run. Dropped, it lets them go.
pub struct Fleet {
    state: SharedState,
    commands: Option<UnboundedSender<Sending>>,
    thread: Option<JoinHandle<()>>,
    run: String,
    plan: String,
    told: std::sync::Mutex<Told>,
}

/// What agents were told in a trial.
#[derive(Debug, Default)]
struct Told {
    passed: Option<TrialStage>,
    started: Option<Nanos>,
    instructions: Instructions,
}

impl Fleet {
    /// Connects to the control server, and takes so many agents.
    ///
    /// # Errors
    /// When there is no server, or there are not enough agents within the bound: who is there, and
    /// why others are not used.
    pub fn gather(options: &FleetOptions, plan: &Plan, interrupt: &Interrupt) -> Result<Self, FleetError> {
        let run = format!("{:016x}", rand::random::<u64>());
        let (state, (commands, sendings)) = (SharedState::default(), unbounded_channel());
        let (ready_in, ready) = channel();
        let (control, subjects) = (options.control.clone(), ControlSubjects::of(&options.fleet));
        let (shared, name) = (state.clone(), run.clone());
        let thread = std::thread::Builder::new().name("agents".into()).spawn(move || {
            let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
                Ok(runtime) => runtime,
                Err(e) => return drop(ready_in.send(Err(format!("no runtime: {e}")))),
            };
            runtime.block_on(async {
                match control.connect("msgbench-coordinator").await {
                    Err(words) => drop(ready_in.send(Err(words))),
                    Ok(client) => {
                        let _ = ready_in.send(Ok(()));
                        let network = Network { client, subjects, run: name, state: shared };
                        // Its failure shows as agents that are not there.
                        let _ = network.serve(sendings).await;
                    }
                }
            });
        });
        let thread = Some(thread.map_err(FleetError::Thread)?);
        let plan = sha256(serde_json::to_string(plan).unwrap_or_default().as_bytes());
        let fleet = Self { state, commands: Some(commands), thread, run, plan, told: Default::default() };
        match ready.recv() {
            Ok(Ok(())) => {}
            Ok(Err(words)) => return Err(FleetError::Control(words)),
            Err(_) => return Err(FleetError::Control("the connection to the control server was given up".into())),
        }
        fleet.take(options, interrupt)?;
        Ok(fleet)
    }

    /// Takes the first agents by name that are free and of this version.
    fn take(&self, options: &FleetOptions, interrupt: &Interrupt) -> Result<(), FleetError> {
        let (begun, of) = (now(), options.agents);
        let until = begun + options.wait.as_nanos() as Nanos;
        let mut refused: Vec<(String, String)> = Vec::new();
        loop {
            if interrupt.count() > 0 {
                return Err(FleetError::Interrupted);
            }
            let (free, here) = self.free(&refused);
            let here = here as u32;
            if here + free.len() as u32 >= of && now() > begun + SETTLE {
                for hello in free {
                    let index = self.state.lock().chosen.len() as u32;
                    if index == of {
                        break;
                    }
                    let share = AgentShare { index, of };
                    match self.assign(&hello, share) {
                        Ok(AgentAnswer::Yes) => self.state.lock().chosen.push(ChosenAgent::new(hello, share)),
                        Ok(AgentAnswer::No { why }) => refused.push((hello.id, why.to_string())),
                        Err(words) => refused.push((hello.id, format!("it does not answer: {words}"))),
                    }
                }
                if self.state.lock().chosen.len() as u32 == of {
                    return Ok(());
                }
            }
            if now() > until {
                return Err(FleetError::TooFew(self.too_few(options, &refused)));
            }
            std::thread::sleep(LOOK);
        }
    }

    /// Agents that can be taken, by name, and how many are taken already.
    fn free(&self, refused: &[(String, String)]) -> (Vec<Hello>, usize) {
        let state = self.state.lock();
        let usable = |h: &&Hello| {
            (h.protocol, h.version.as_str()) == (PROTOCOL, VERSION)
                && h.taken.is_none()
                && refused.iter().all(|(id, _)| *id != h.id)
                && state.chosen.iter().all(|a| a.hello.id != h.id)
        };
        let mut free: Vec<Hello> = state.seen.values().filter(usable).cloned().collect();
        free.sort_by(|a, b| (&a.name, &a.id).cmp(&(&b.name, &b.id)));
        (free, state.chosen.len())
    }

    fn assign(&self, hello: &Hello, share: AgentShare) -> Result<AgentAnswer, String> {
        let by = format!("the run of process {} on {}", std::process::id(), host_name());
        let command = AgentRequest::Assign(AgentAssignment {
            protocol: PROTOCOL,
            version: VERSION.into(),
            run: self.run.clone(),
            by,
            plan: self.plan.clone(),
            share,
        });
        let (to, answer) = channel();
        self.send(&hello.id, command, Some(to));
        answer.recv().unwrap_or_else(|_| Err("the connection was given up".into()))
    }

    /// Who is there and who is not used, in words.
    fn too_few(&self, options: &FleetOptions, refused: &[(String, String)]) -> String {
        let (free, here) = self.free(refused);
        let state = self.state.lock();
        let mut names: Vec<&str> = state.chosen.iter().map(|a| a.hello.name.as_str()).collect();
        names.extend(free.iter().map(|h| h.name.as_str()));
        let mut words =
            format!("{} of {} agents are there after {} s", here + free.len(), options.agents, options.wait.as_secs());
        if !names.is_empty() {
            words += &format!(": {}", names.join(", "));
        }
        for hello in state.seen.values() {
            let why = refused.iter().find(|(id, _)| *id == hello.id).map(|(_, why)| why.clone());
            let other = (hello.protocol, hello.version.as_str()) != (PROTOCOL, VERSION);
            let why = match why {
                _ if other => Some(format!("it is msgbench {} and this is {VERSION}", hello.version)),
                None => hello.taken.as_ref().map(|by| format!("it is taken by {by}")),
                known => known,
            };
            if let Some(why) = why.filter(|_| !names.contains(&hello.name.as_str()) || other) {
                words += &format!("; {} is not used: {why}", hello.name);
            }
        }
        let fleet = if options.fleet == "default" { String::new() } else { format!(" --fleet {}", options.fleet) };
        format!("{words}. Start more, such as `msgbench agent --control {}{fleet}`", options.control.shown())
    }

    fn send(
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

/// Which agent is gone, in words.
fn gone(state: &FleetState, at: Nanos) -> Option<String> {
    let since = |a: &ChosenAgent| at.saturating_sub(a.heard.max(state.back));
    let one = state.chosen.iter().find(|a| state.away.is_none() && since(a) > GONE)?;
    Some(format!("agent {} is gone: nothing was heard of it for {} s", one.hello.name, since(one) / SECOND))
}

impl CoordinatorSide for Fleet {
    fn fit(&self) -> Result<(), String> {
        gone(&self.state.lock(), now()).map_or(Ok(()), Err)
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
            let (state, at) = (self.state.lock(), now());
            for agent in &state.chosen {
                let name = &agent.hello.name;
                if let Some(why) = &agent.refused {
                    return Err(PartFailure::agent(format!("agent {name} does not take part: {why}")));
                }
                if let Some((phase, error)) = &agent.progress.failed {
                    return Err(PartFailure { phase: phase.clone(), words: format!("agent {name}: {error}") });
                }
            }
            if let Some(words) = gone(&state, at) {
                return Err(PartFailure::agent(words));
            }
            if state.chosen.iter().any(|a| a.stage < Some(stage)) {
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
            sent_all: state.chosen.iter().all(|a| a.progress.sent_all || a.silent(at)),
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
            let waits = |a: &ChosenAgent| {
                // Nothing is heard of anybody while the control server is away, and a while after.
                let heard = if state.away.is_some() { at } else { a.heard.max(state.back) };
                a.accounts.is_none() && a.refused.is_none() && at.saturating_sub(heard) < LOST
            };
            if at > until || !state.chosen.iter().any(waits) {
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

/// The name of this host.
fn host_name() -> String {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    if name.trim().is_empty() { "this host".into() } else { name.trim().to_owned() }
}
