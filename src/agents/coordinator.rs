//! The coordinator's connection to the control server: hears hellos, reports and results, asks the
//! clocks of agents, and carries commands. It has a thread of its own; who conducts a trial looks
//! at what it has heard.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_nats::Client;
use async_nats::connection::State;
use bytes::Bytes;
use futures_util::StreamExt;
use tokio::sync::mpsc::UnboundedReceiver;

use crate::engine::{AgentAccounts, ToldSets};
use crate::units::{Nanos, now};

use super::chosen::ChosenAgent;
use super::delivery::{piece, unpacked};
use super::link::{ask, bytes, exchange};
use super::messages::{AgentAnswer, AgentRequest, ControlSubjects, Hello, PieceKind, Refusal, Report};

/// A command that is not answered within it was not heard.
const HEARD: Duration = Duration::from_secs(10);
/// Exchanges with a clock before a trial come so soon one after another, and later so often.
const CLOCK_SOON: Duration = Duration::from_millis(5);
const CLOCK_LATER: Duration = Duration::from_millis(200);
/// So many of them are soon.
const SOON: usize = 40;

/// What an agent said of itself, and when it last did.
#[derive(Debug, Clone)]
pub struct SeenAgent {
    pub hello: Hello,
    pub at: Nanos,
}

/// All that was heard.
#[derive(Debug, Default)]
pub struct FleetState {
    /// Agents that have said hello, by their ids.
    pub seen: BTreeMap<String, SeenAgent>,
    /// Those of the run, by number.
    pub chosen: Vec<ChosenAgent>,
    /// The number of the trial that is going on.
    pub trial: u64,
    /// Since when there is no connection to the control server.
    pub away: Option<Nanos>,
    /// When it came back last.
    pub back: Nanos,
}

impl FleetState {
    fn agent(&mut self, id: &str) -> Option<&mut ChosenAgent> {
        self.chosen.iter_mut().find(|a| a.hello.id == id)
    }
}

/// What was heard, for both threads.
#[derive(Debug, Clone, Default)]
pub struct SharedState(Arc<Mutex<FleetState>>);

impl SharedState {
    pub fn lock(&self) -> MutexGuard<'_, FleetState> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A command for one agent; what becomes of it is noted with that agent, where it is chosen.
pub struct Sending {
    pub id: String,
    pub command: AgentRequest,
    /// Where the answer goes, where somebody waits for it.
    pub answer: Option<std::sync::mpsc::Sender<Result<AgentAnswer, String>>>,
}

/// What the network thread works with.
pub struct Network {
    pub client: Client,
    pub subjects: ControlSubjects,
    pub run: String,
    pub state: SharedState,
}

impl Network {
    /// Serves until nobody sends commands any more.
    pub async fn serve(self, mut commands: UnboundedReceiver<Sending>) -> Result<(), String> {
        let lost = |e: &dyn std::fmt::Display| format!("the control server does not take subscriptions: {e}");
        let subscribe = |subject: String| self.client.subscribe(subject);
        let mut hellos = subscribe(self.subjects.hello()).await.map_err(|e| lost(&e))?;
        let mut reports = subscribe(self.subjects.report(&self.run)).await.map_err(|e| lost(&e))?;
        let mut pieces = subscribe(self.subjects.piece(&self.run)).await.map_err(|e| lost(&e))?;
        let _ = self.client.flush().await;
        let mut second = tokio::time::interval(Duration::from_secs(1));
        second.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut clocks = tokio::time::interval(CLOCK_SOON);
        clocks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut asked: BTreeMap<String, Nanos> = BTreeMap::new();
        loop {
            tokio::select! {
                sending = commands.recv() => match sending {
                    Some(sending) => self.send(sending),
                    None => break,
                },
                Some(message) = reports.next() => self.report(&message.payload),
                Some(message) = pieces.next() => {
                    let answer = self.piece(&message.payload).map_or_else(|why| AgentAnswer::No { why }, |()| AgentAnswer::Yes);
                    if let Some(to) = message.reply {
                        let _ = self.client.publish(to, bytes(&answer)).await;
                    }
                }
                Some(message) = hellos.next() => self.hello(&message.payload),
                _ = second.tick() => self.each_second().await,
                _ = clocks.tick() => self.ask_clocks(&mut asked),
            }
        }
        let _ = tokio::time::timeout(Duration::from_secs(1), self.client.flush()).await;
        Ok(())
    }

    async fn each_second(&self) {
        let there = self.client.connection_state() == State::Connected;
        {
            let mut state = self.state.lock();
            match there {
                true if state.away.take().is_some() => state.back = now(),
                true => {}
                false => drop(state.away.get_or_insert(now())),
            }
        }
        let _ = self.client.publish(self.subjects.alive(&self.run), Bytes::new()).await;
        let _ = self.client.publish(self.subjects.roll(), Bytes::new()).await;
    }

    fn hello(&self, payload: &[u8]) {
        // What cannot be read as a hello is not of an agent that could be used; a hello of another
        // version can be read as far as it says so.
        if let Ok(hello) = serde_json::from_slice::<Hello>(payload) {
            self.state.lock().seen.insert(hello.id.clone(), SeenAgent { hello, at: now() });
        }
    }

    fn report(&self, payload: &[u8]) {
        let Ok(mut report) = serde_json::from_slice::<Report>(payload) else { return };
        let mut state = self.state.lock();
        let trial = state.trial;
        if let Some(agent) = state.agent(&report.id) {
            std::mem::take(&mut report.peers).into_iter().for_each(|(id, found)| agent.read_peer(id, found));
            match report.trial == trial {
                true => agent.report(report, now()),
                false => agent.hear(now()),
            }
        }
    }

    fn piece(&self, payload: &Bytes) -> Result<(), Refusal> {
        let (header, part) = piece(payload)?;
        let whole = {
            let mut state = self.state.lock();
            let trial = state.trial;
            let agent = state.agent(&header.id).ok_or(Refusal::Unknown)?;
            agent.hear(now());
            if header.trial != trial {
                return Err(Refusal::Unknown);
            }
            let kind = usize::from(header.kind == PieceKind::Sets);
            agent.parts[kind].add(&header, part)
        };
        let Some(whole) = whole else { return Ok(()) };
        // It takes a while to read; who conducts the trial does not wait for it.
        let taken = Taken::read(header.kind, &whole).map_err(|words| Refusal::Unreadable { words })?;
        let mut state = self.state.lock();
        let trial = state.trial;
        let agent = state.agent(&header.id).filter(|_| header.trial == trial).ok_or(Refusal::Unknown)?;
        match taken {
            Taken::Accounts(accounts) => agent.accounts = Some(*accounts),
            Taken::Sets(sets) => agent.sets.extend(sets),
        }
        Ok(())
    }

    /// Carries a command until it is answered.
    fn send(&self, sending: Sending) {
        let Sending { id, command, answer } = sending;
        let (client, subject, state) = (self.client.clone(), self.subjects.agent(&id), self.state.clone());
        tokio::spawn(async move {
            let binding = matches!(command, AgentRequest::Begin(_) | AgentRequest::Start { .. });
            let got = ask::<AgentAnswer>(&client, &subject, bytes(&command), HEARD).await;
            if let Some(agent) = state.lock().agent(&id) {
                match &got {
                    Ok(AgentAnswer::Yes) => agent.hear(now()),
                    Ok(AgentAnswer::No { why }) if binding => agent.refused = Some(why.to_string()),
                    // What is over for it needs no word that it is.
                    Ok(AgentAnswer::No { .. }) => agent.hear(now()),
                    Err(words) if binding => {
                        (agent.refused, agent.unreachable) = (Some(format!("it does not answer: {words}")), true);
                    }
                    Err(_) => {}
                }
            }
            if let Some(to) = answer {
                let _ = to.send(got);
            }
        });
    }

    /// Asks the clocks of all agents whose turn it is.
    fn ask_clocks(&self, asked: &mut BTreeMap<String, Nanos>) {
        let at = now();
        let due: Vec<String> = {
            let state = self.state.lock();
            let turn = |a: &&ChosenAgent| {
                let every = if a.exchanges() < SOON { CLOCK_SOON } else { CLOCK_LATER };
                asked.get(&a.hello.id).is_none_or(|last| at - last >= every.as_nanos() as Nanos)
            };
            state.chosen.iter().filter(|a| !a.here).filter(turn).map(|a| a.hello.id.clone()).collect()
        };
        for id in due {
            asked.insert(id.clone(), at);
            let (client, subject, state) = (self.client.clone(), self.subjects.clock(&id), self.state.clone());
            tokio::spawn(async move {
                let Some(found) = exchange(&client, subject).await else { return };
                if let Some(agent) = state.lock().agent(&id) {
                    agent.read_clock(found);
                }
            });
        }
    }
}

/// What has come whole.
enum Taken {
    Accounts(Box<AgentAccounts>),
    Sets(Vec<ToldSets>),
}

impl Taken {
    fn read(kind: PieceKind, whole: &[u8]) -> Result<Self, String> {
        match kind {
            PieceKind::Accounts => unpacked(whole).map(|accounts| Self::Accounts(Box::new(accounts))),
            PieceKind::Sets => unpacked(whole).map(Self::Sets),
        }
    }
}
