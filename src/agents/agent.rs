//! `msgbench agent`: dials out, says what it is, and runs its part of the trials that it is given.

use std::collections::{BTreeMap, VecDeque};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_nats::{Client, Message, Subscriber};
use bytes::Bytes;
use futures_util::StreamExt;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use crate::clocks::Exchange;
use crate::engine::{AgentAccounts, AgentProgress, Instructions, Interrupt, LoadStart, Register, ToldSets, take_part};
use crate::host::machine;
use crate::plan::AgentShare;
use crate::units::{Nanos, SECOND, now};

use super::delivery::{Sender, deliver, packed};
use super::link::{ControlServer, bytes, exchange};
use super::messages::{
    AgentAnswer, AgentAssignment, AgentRequest, Beginning, ControlSubjects, Hello, PROTOCOL, PieceKind, Refusal,
    Report, VERSION, clock_name,
};
use super::side::TrialLink;

/// An agent that has not heard of its coordinator for so long is free again, unless load runs.
const GONE: Nanos = 15 * SECOND;
/// A result is offered for so long.
const OFFERED: Duration = Duration::from_secs(300);
/// And by an agent that is to end for so long.
const OFFERED_AT_END: Duration = Duration::from_secs(20);

/// What an agent is.
#[derive(Debug, Clone, Default)]
pub struct AgentOptions {
    pub control: ControlServer,
    /// Agents and coordinators of the same fleet hear of each other.
    pub fleet: String,
    pub name: Option<String>,
    pub labels: BTreeMap<String, String>,
    /// The folder in which results lie until the coordinator has them.
    pub spool: Option<PathBuf>,
    /// It ends when its first run has.
    pub once: bool,
}

/// Whose this agent is.
struct Owner {
    run: String,
    by: String,
    plan: String,
    share: AgentShare,
    heard: Nanos,
    /// Ends with this.
    alive: Subscriber,
    trial: Option<Arc<TrialLink>>,
    /// Whose clocks are asked, one after another.
    peers: VecDeque<String>,
}

/// Exchanges with others, by their ids.
type Readings = Arc<Mutex<Vec<(String, Exchange)>>>;

/// A trial that is over: its link, and what it came to.
type Ended = (Arc<TrialLink>, AgentAccounts);

struct Agent<'a> {
    hello: Hello,
    subjects: ControlSubjects,
    client: Client,
    owner: Option<Owner>,
    register: Arc<Register>,
    interrupt: &'a Interrupt,
    ended: UnboundedSender<Ended>,
    sets: UnboundedSender<(u64, Vec<ToldSets>)>,
    spool: PathBuf,
    say: &'a dyn Fn(&str),
    /// Results that are under way to the coordinator, and the files that they are in.
    offered: Vec<(tokio::task::JoinHandle<()>, PathBuf)>,
    /// What was found of the clocks of others, and is not yet told.
    found: Readings,
    /// It ends when its first run has, and that has.
    once: bool,
    over: bool,
}

/// Serves as an agent until it is told to stop.
///
/// # Errors
/// In words, when there is no control server.
pub fn serve(
    options: &AgentOptions,
    register: Register,
    interrupt: &Interrupt,
    say: &dyn Fn(&str),
) -> Result<(), String> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|e| format!("no runtime: {e}"))?;
    runtime.block_on(async {
        let id = format!("{:016x}", rand::random::<u64>());
        let pid = std::process::id();
        let name = options.name.clone().unwrap_or_else(|| format!("agent-{pid}"));
        let client = options.control.connect(&format!("msgbench-{name}")).await?;
        let hello = Hello {
            id,
            name,
            protocol: PROTOCOL,
            version: VERSION.into(),
            pid,
            labels: options.labels.clone(),
            host: machine::read(),
            clock: clock_name(),
            taken: None,
        };
        let subjects = ControlSubjects::of(&options.fleet);
        let (ended, trials) = unbounded_channel();
        let (sets, told) = unbounded_channel();
        let spool = options.spool.clone().unwrap_or_else(std::env::temp_dir);
        let agent = Agent {
            hello,
            subjects,
            client,
            owner: None,
            register: Arc::new(register),
            interrupt,
            ended,
            sets,
            spool,
            say,
            offered: Vec::new(),
            found: Readings::default(),
            once: options.once,
            over: false,
        };
        agent.run(trials, told).await
    })
}

impl Agent<'_> {
    async fn run(
        mut self,
        mut trials: UnboundedReceiver<Ended>,
        mut told: UnboundedReceiver<(u64, Vec<ToldSets>)>,
    ) -> Result<(), String> {
        let lost = |e: &dyn std::fmt::Display| format!("the control server does not take subscriptions: {e}");
        let subscribe = |subject: String| self.client.subscribe(subject);
        let mut commands = subscribe(self.subjects.agent(&self.hello.id)).await.map_err(|e| lost(&e))?;
        let mut roll = subscribe(self.subjects.roll()).await.map_err(|e| lost(&e))?;
        let clock = subscribe(self.subjects.clock(&self.hello.id)).await.map_err(|e| lost(&e))?;
        let clock = tokio::spawn(answer_clock(self.client.clone(), clock));
        self.client.flush().await.map_err(|e| lost(&e))?;
        self.say_hello().await;
        (self.say)(&format!("agent {} is there, and waits for a run", self.hello.name));
        let mut second = tokio::time::interval(Duration::from_secs(1));
        second.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut look = tokio::time::interval(Duration::from_millis(100));
        look.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            let trial = self.owner.as_ref().and_then(|o| o.trial.clone());
            let alive = self.owner.as_mut().map(|o| &mut o.alive);
            tokio::select! {
                Some(message) = commands.next() => self.command(message).await,
                Some(_) = roll.next() => self.say_hello().await,
                Some(_) = next_of(alive) => self.owner.iter_mut().for_each(|o| o.heard = now()),
                () = changed(trial.as_deref()) => self.report().await,
                Some((trial, sets)) = told.recv() => self.tell(trial, &sets),
                Some((link, accounts)) = trials.recv() => self.offer(&link, &accounts),
                _ = second.tick() => self.each_second().await,
                _ = look.tick() => self.ask_clock(),
            }
            if self.over || self.interrupt.count() > 0 && self.owner.as_ref().is_none_or(|o| o.trial.is_none()) {
                break;
            }
        }
        clock.abort();
        let bound = tokio::time::Instant::now() + OFFERED_AT_END;
        for (offered, file) in self.offered {
            if tokio::time::timeout_at(bound, offered).await.is_err() {
                (self.say)(&format!("nobody took the result before this agent ended: it is in {}", file.display()));
            }
        }
        Ok(())
    }

    async fn say_hello(&self) {
        let hello = Hello { taken: self.owner.as_ref().map(|o| o.by.clone()), ..self.hello.clone() };
        // Who is not connected says it when asked.
        let _ = self.client.publish(self.subjects.hello(), bytes(&hello)).await;
    }

    async fn report(&self) {
        let Some(owner) = &self.owner else { return };
        // Between trials, too: a system may take a minute to come up, and a silent agent is gone.
        let (id, progress) = (self.hello.id.clone(), AgentProgress::default());
        let idle = || Report { id, trial: 0, stage: None, progress, peers: Vec::new() };
        let mut report = owner.trial.as_ref().map_or_else(idle, |trial| trial.latest());
        report.peers = std::mem::take(&mut *self.found.lock().unwrap_or_else(PoisonError::into_inner));
        let _ = self.client.publish(self.subjects.report(&owner.run), bytes(&report)).await;
    }

    /// Asks the clock of the next one whose turn it is.
    fn ask_clock(&mut self) {
        let Some(owner) = &mut self.owner else { return };
        owner.peers.rotate_left(usize::from(!owner.peers.is_empty()));
        let Some(id) = owner.peers.back().cloned() else { return };
        let (client, subject, found) = (self.client.clone(), self.subjects.clock(&id), Arc::clone(&self.found));
        tokio::spawn(async move {
            if let Some(it) = exchange(&client, subject).await {
                found.lock().unwrap_or_else(PoisonError::into_inner).push((id, it));
            }
        });
    }

    async fn each_second(&mut self) {
        self.report().await;
        self.offered.retain(|(task, _)| !task.is_finished());
        let gone = self.owner.as_ref().is_some_and(|o| now() - o.heard > GONE);
        if gone {
            let why = format!("nothing was heard of the coordinator for {} s", GONE / SECOND);
            match self.owner.as_ref().and_then(|o| o.trial.clone()) {
                Some(trial) => trial.give_up(&why),
                None => {
                    (self.say)(&format!("{why}: free again"));
                    self.owner = None;
                    self.over = self.once;
                    self.say_hello().await;
                }
            }
        }
    }

    async fn command(&mut self, message: Message) {
        let answer = match serde_json::from_slice::<AgentRequest>(&message.payload) {
            Ok(command) => self.apply(command).await.map_or_else(|why| AgentAnswer::No { why }, |()| AgentAnswer::Yes),
            Err(e) => AgentAnswer::No { why: self.unreadable(&message.payload, &e) },
        };
        if let Some(to) = message.reply {
            let _ = self.client.publish(to, bytes(&answer)).await;
        }
    }

    /// Why a command cannot be read: of another version, most likely.
    fn unreadable(&self, payload: &Bytes, error: &serde_json::Error) -> Refusal {
        let value: serde_json::Value = serde_json::from_slice(payload).unwrap_or_default();
        match value.get("version").and_then(|v| v.as_str()).filter(|v| *v != VERSION) {
            Some(yours) => Refusal::Version { mine: VERSION.into(), yours: yours.into() },
            None => Refusal::Unreadable { words: error.to_string() },
        }
    }

    async fn apply(&mut self, command: AgentRequest) -> Result<(), Refusal> {
        match command {
            AgentRequest::Assign(assignment) => self.assign(assignment).await,
            AgentRequest::Begin(beginning) => self.begin(*beginning),
            AgentRequest::Pass { run, trial, stage } => self.of(&run, trial).map(|link| link.pass(stage)),
            AgentRequest::Start { run, trial, at, shift } => {
                self.of(&run, trial).map(|link| link.start(LoadStart { at, shift }))
            }
            AgentRequest::Instruct { run, trial, over, cut, asked } => {
                self.of(&run, trial).map(|link| link.instruct(Instructions { over, cut, asked }))
            }
            AgentRequest::Release { run } => {
                let mine = self.owner.as_ref().is_some_and(|o| o.run == run);
                if mine {
                    if let Some(trial) = self.owner.take().and_then(|o| o.trial) {
                        trial.give_up("the run has ended");
                        trial.instruct(Instructions { over: true, cut: true, asked: false });
                    }
                    self.over = self.once;
                    self.say_hello().await;
                }
                Ok(())
            }
        }
    }

    /// The trial that a command is of.
    fn of(&self, run: &str, trial: u64) -> Result<&TrialLink, Refusal> {
        let owner = self.owner.as_ref().filter(|o| o.run == run).ok_or(Refusal::Unknown)?;
        owner.trial.as_deref().filter(|link| link.trial == trial).ok_or(Refusal::Unknown)
    }

    async fn assign(&mut self, it: AgentAssignment) -> Result<(), Refusal> {
        if (it.protocol, it.version.as_str()) != (PROTOCOL, VERSION) {
            let named = |version: &str, protocol| format!("{version} (messages {protocol})");
            let (mine, yours) = (named(VERSION, PROTOCOL), named(&it.version, it.protocol));
            return Err(Refusal::Version { mine, yours });
        }
        match &self.owner {
            // Asked again, because the answer was lost.
            Some(owner) if owner.run == it.run => return Ok(()),
            Some(owner) => return Err(Refusal::Taken { by: owner.by.clone() }),
            None => {}
        }
        let alive = self.client.subscribe(self.subjects.alive(&it.run)).await;
        let alive = alive.map_err(|e| Refusal::Unreadable { words: e.to_string() })?;
        (self.say)(&format!("taken by {}, as {} of {}", it.by, it.share.index + 1, it.share.of));
        let AgentAssignment { run, by, plan, share, .. } = it;
        self.owner = Some(Owner { run, by, plan, share, heard: now(), alive, trial: None, peers: VecDeque::new() });
        Ok(())
    }

    fn begin(&mut self, it: Beginning) -> Result<(), Refusal> {
        let owner = self.owner.as_mut().filter(|o| o.run == it.run).ok_or(Refusal::Unknown)?;
        if owner.plan != it.plan {
            return Err(Refusal::Plan);
        }
        match &owner.trial {
            Some(link) if link.trial == it.trial => return Ok(()),
            Some(_) => return Err(Refusal::Busy),
            None => {}
        }
        let names = (self.hello.id.clone(), it.run, it.trial);
        let link = Arc::new(TrialLink::new(names, owner.share.clone(), self.sets.clone()));
        owner.trial = Some(Arc::clone(&link));
        owner.peers = it.peers.into();
        let (register, interrupt) = (Arc::clone(&self.register), self.interrupt.clone());
        let (ended, order) = (self.ended.clone(), it.order);
        let thread = std::thread::Builder::new().name("trial".into()).spawn(move || {
            let accounts = take_part(&order, &register, &interrupt, link.as_ref(), &|_| ());
            // Who hears of it lives as long as the process.
            let _ = ended.send((link, accounts));
        });
        thread.map(|_| ()).map_err(|e| Refusal::Unreadable { words: format!("no thread: {e}") })
    }

    /// Says which messages its consumers have.
    fn tell(&self, trial: u64, sets: &[ToldSets]) {
        let Some(owner) = &self.owner else { return };
        let (client, subject) = (self.client.clone(), self.subjects.piece(&owner.run));
        let from = Sender { id: self.hello.id.clone(), trial, kind: PieceKind::Sets };
        let whole = packed(&sets);
        // What has become old meanwhile is told again.
        tokio::spawn(async move { deliver(&client, &subject, &from, &whole, Duration::from_secs(5)).await });
    }

    /// Keeps a result in a file, and offers it to the coordinator until that has it.
    fn offer(&mut self, link: &Arc<TrialLink>, accounts: &AgentAccounts) {
        if let Some(owner) = self.owner.as_mut().filter(|o| o.run == link.run) {
            owner.trial = None;
        }
        let whole = packed(accounts);
        let file = self.spool.join(format!("msgbench-{}-{}-{}.json.z", self.hello.name, link.run, link.trial));
        let (kept, path) = (std::fs::write(&file, &whole), file.clone());
        let (client, subject) = (self.client.clone(), self.subjects.piece(&link.run));
        let from = Sender { id: self.hello.id.clone(), trial: link.trial, kind: PieceKind::Accounts };
        let task = tokio::spawn(async move {
            let given = deliver(&client, &subject, &from, &whole, OFFERED).await;
            if let Some(words) = after(given, kept, &file) {
                crate::units::say(format_args!("msgbench: {words}"));
            }
        });
        self.offered.push((task, path));
    }
}

/// What becomes of the file of a result, and what is to be said of it.
fn after(given: Result<(), String>, kept: std::io::Result<()>, file: &Path) -> Option<String> {
    let name = file.display();
    match (given, kept) {
        // A file that cannot be removed is in nobody's way.
        (Ok(()), Ok(())) => {
            let _ = std::fs::remove_file(file);
            None
        }
        (Ok(()), Err(_)) => None,
        (Err(words), Ok(())) => Some(format!("nobody took the result ({words}): it is in {name}")),
        (Err(words), Err(e)) => {
            Some(format!("a result is lost: nobody took it ({words}), nor could {name} be written ({e})"))
        }
    }
}

/// The next message of a subscription; never, where there is none.
async fn next_of(subscriber: Option<&mut Subscriber>) -> Option<Message> {
    match subscriber {
        Some(subscriber) => subscriber.next().await,
        None => std::future::pending().await,
    }
}

/// Ends when a trial has something to report; never, where there is none.
async fn changed(trial: Option<&TrialLink>) {
    match trial {
        Some(trial) => trial.changed().await,
        None => std::future::pending().await,
    }
}

/// Answers questions for the clock: when the question came, and when the answer went.
async fn answer_clock(client: Client, mut questions: Subscriber) {
    while let Some(question) = questions.next().await {
        let came = now();
        let Some(to) = question.reply else { continue };
        let mut answer = [0; 16];
        answer[..8].copy_from_slice(&came.to_le_bytes());
        answer[8..].copy_from_slice(&now().to_le_bytes());
        if client.publish(to, Bytes::copy_from_slice(&answer)).await.is_err() {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_result_that_nobody_takes_is_in_a_file_that_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("result.json.z");
        let refused = || Err("no answer within 300 s".to_owned());
        let full = || Err(std::io::Error::other("no space"));
        std::fs::write(&file, "x").unwrap();
        let said = after(refused(), Ok(()), &file).unwrap();
        assert!(said.contains("nobody took the result (no answer") && said.ends_with("result.json.z"), "{said}");
        assert!(file.exists());
        let said = after(refused(), full(), &file).unwrap();
        assert!(said.starts_with("a result is lost") && said.contains("no space"), "{said}");
        assert_eq!((after(Ok(()), full(), &file), file.exists()), (None, true));
        assert_eq!((after(Ok(()), Ok(()), &file), file.exists()), (None, false), "what was taken is removed");
    }
}
