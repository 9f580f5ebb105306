//! What a scenario does to the processes of a system while it is measured, at the time it says.
//!
//! # Design
//! The control thread does it, and looks what is due, or to be undone, whenever it wakes. Nothing
//! here waits: who has a role is asked on a thread of its own (`question`), when an event is due
//! and for it alone, and the event fires when the answer is there. A node that is to start again
//! does so when the kernel has taken the old process away.

mod occurrences;
mod question;

use std::collections::VecDeque;
use std::sync::Arc;

use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};

use crate::plan::facts::Incident;
use crate::plan::{Action, ClusterRole, NodeChoice, PlannedEvent};
use crate::record::FaultRecord;
use crate::system::{ClusterView, System};
use crate::units::{Nanos, SECOND, now};

use super::network;
use super::raw::RawTrial;
use occurrences::{Occurrence, occurrences};
use question::{RoleQuestion, SettleWatch};

/// A repetition waits so long for the cluster to settle; then the trial has failed.
const SETTLE_BOUND: Nanos = 60 * SECOND;
/// While an answer is waited for, it is looked for so often.
const SOON: Nanos = 2_000_000;
/// While the cluster settles, it is looked for so often.
const LATER: Nanos = 20_000_000;

/// The stream or topic of a workload, in words and by name.
pub type StoredIn = Option<(&'static str, String)>;

/// Where a trial's events are done to.
pub struct EventScene<'a> {
    pub events: &'a [PlannedEvent],
    /// The processes by node.
    pub pids: &'a [u32],
    /// The seed of the trial.
    pub seed: u64,
    /// Start of the measured phase.
    pub origin: Nanos,
    /// Who can be asked about the nodes.
    pub view: Option<Arc<dyn ClusterView>>,
    /// Name of each workload, and where its messages are stored.
    pub stored: Vec<(String, StoredIn)>,
}

/// A fault that is to be undone.
struct Lasting {
    at: Occurrence,
    action: Action,
    /// The nodes on which it is not undone yet.
    nodes: Vec<u32>,
    until: Nanos,
}

/// The events of a trial that are still to come, and what lasts of those that were done.
pub struct PendingEvents<'a> {
    scene: EventScene<'a>,
    left: VecDeque<Occurrence>,
    /// The processes by node; a restart gives a node another one.
    pids: Vec<u32>,
    paused: Vec<u32>,
    /// Whether the network is not as it was.
    unmended: bool,
    lasting: Vec<Lasting>,
    /// What is asked for the event that is next.
    question: Option<RoleQuestion>,
    watch: Option<SettleWatch>,
    /// Chooses one of several followers.
    random: StdRng,
}

impl<'a> PendingEvents<'a> {
    /// All events of a trial.
    pub fn new(scene: EventScene<'a>) -> Self {
        Self {
            left: occurrences(scene.events, scene.seed),
            pids: scene.pids.to_vec(),
            random: StdRng::seed_from_u64(scene.seed),
            scene,
            paused: Vec::new(),
            unmended: false,
            lasting: Vec::new(),
            question: None,
            watch: None,
        }
    }

    /// The processes of the system as they are now.
    pub fn pids(&self) -> &[u32] {
        &self.pids
    }

    /// When there is something to do, or to look for, next.
    pub fn next(&self) -> Nanos {
        let due = self.left.front().map(|o| self.scene.origin + o.due);
        let undo = self.lasting.iter().map(|l| l.until).min();
        let soon = |at: Nanos| if at > now() { at } else { now() + LATER };
        let looks = self.question.as_ref().map(|_| now() + SOON).or_else(|| self.watch.as_ref().map(|_| now() + LATER));
        [due.map(soon), undo.map(soon), looks].into_iter().flatten().min().unwrap_or(Nanos::MAX)
    }

    /// Whether something that was done is being undone: a process that was started again is not
    /// ready yet.
    pub fn recovering(&self, raw: &RawTrial) -> bool {
        let open = |f: &FaultRecord| f.undone_ns.is_some() && f.settled_ns.is_none() && f.consumer.is_none();
        !self.lasting.is_empty() || raw.faults.iter().any(open)
    }

    /// Undoes what has lasted, and notes when all was well again.
    pub fn look(&mut self, system: &mut dyn System, raw: &mut RawTrial) {
        self.undo_due(system, raw);
        self.note_settled(system, raw);
    }

    /// Does what is due, and undoes what has lasted.
    pub fn act(&mut self, system: &mut dyn System, raw: &mut RawTrial) {
        self.look(system, raw);
        while let Some(next) = self.left.front().copied().filter(|o| self.scene.origin + o.due <= now()) {
            if raw.failed.is_some() || !self.ready(&next, raw) {
                return;
            }
            let event = &self.scene.events[next.event as usize];
            if !event.action.of_process() {
                self.left.pop_front();
                self.network(&next, raw);
                continue;
            }
            let nodes = match self.choose(&next, raw) {
                None => return,
                Some(nodes) => nodes,
            };
            self.left.pop_front();
            self.fire(&next, &nodes, system, raw);
        }
    }

    /// Whether a repetition may be done: nothing lasts any more, and the cluster has settled.
    fn ready(&self, next: &Occurrence, raw: &mut RawTrial) -> bool {
        let event = &self.scene.events[next.event as usize];
        if event.repeat.is_none() || (self.lasting.is_empty() && self.watch.is_none()) {
            return true;
        }
        let waited = now() - (self.scene.origin + next.due);
        if waited > SETTLE_BOUND {
            let missing =
                self.watch.as_ref().map_or_else(|| "the fault before still lasts".into(), SettleWatch::missing);
            let words = format!(
                "{}{}: the cluster has not settled from the fault before within {} s: {missing}",
                event.action.name(),
                self.of_several(next),
                SETTLE_BOUND / SECOND
            );
            raw.failed.get_or_insert(("measure", words));
        }
        false
    }

    /// The nodes that an event is about, once they are known.
    fn choose(&mut self, next: &Occurrence, raw: &mut RawTrial) -> Option<Vec<u32>> {
        let event = &self.scene.events[next.event as usize];
        let role = match event.node {
            NodeChoice::Number(node) => return Some(vec![node]),
            NodeChoice::Role(ClusterRole::All) => return Some((0..self.pids.len() as u32).collect()),
            NodeChoice::Role(role) => role,
        };
        let answer = match (&self.question, &self.scene.view) {
            (Some(question), _) => question.answer()?,
            (None, Some(view)) => {
                let stored = self.stored(event).map(|(_, name)| name.clone());
                self.question = Some(RoleQuestion::ask(Arc::clone(view), role, stored));
                return None;
            }
            (None, None) => Err("its nodes have no roles".to_owned()),
        };
        self.question = None;
        match answer {
            Ok(nodes) if role == ClusterRole::Follower && nodes.len() > 1 => {
                Some(vec![nodes[self.random.random_range(0..nodes.len())]])
            }
            Ok(nodes) if !nodes.is_empty() => Some(nodes),
            other => {
                let why = other.err().unwrap_or_else(|| "nobody has the role".into());
                let words = format!("{} {}: {why}", event.action.name(), event.whom());
                raw.failed.get_or_insert(("measure", words));
                None
            }
        }
    }

    fn stored(&self, event: &PlannedEvent) -> Option<&(&'static str, String)> {
        let name = event.workload.as_deref()?;
        self.scene.stored.iter().find(|(workload, _)| workload == name)?.1.as_ref()
    }

    /// `, the leader of stream S`, where the event is about a role.
    fn role(&self, event: &PlannedEvent) -> String {
        match event.node {
            NodeChoice::Role(role) if role != ClusterRole::All => {
                let of = self.stored(event).filter(|_| role.of_workload());
                let of = of.map(|(what, name)| format!(" of {what} {name}")).unwrap_or_default();
                let article = if role == ClusterRole::Follower { "a" } else { "the" };
                format!(", {article} {}{of}", role.name())
            }
            _ => String::new(),
        }
    }

    /// ` (3 of 20)`, where the event comes again.
    fn of_several(&self, next: &Occurrence) -> String {
        match self.scene.events[next.event as usize].repeat {
            Some(repeat) if repeat.count > 1 => format!(" ({} of {})", next.number, repeat.count),
            _ => String::new(),
        }
    }

    /// What is said at the end of a line: that it was asked for, which time it is, whether it
    /// waited.
    fn asked(&self, next: &Occurrence, begun: Nanos) -> String {
        let mut words = format!(", as the scenario asks{}", self.of_several(next));
        let late = begun.saturating_sub(next.due);
        // Who has a role is asked for first, which takes a moment.
        if self.scene.events[next.event as usize].repeat.is_some() && late > SECOND {
            words += &format!("; it waited {:.1} s for the cluster to settle", late as f64 / SECOND as f64);
        }
        words
    }

    fn since_origin(&self) -> Nanos {
        now().saturating_sub(self.scene.origin)
    }

    /// A fault that begins now.
    fn fault(&self, next: &Occurrence, nodes: &[u32], at_ns: Nanos) -> FaultRecord {
        let event = &self.scene.events[next.event as usize];
        FaultRecord {
            event: next.event,
            occurrence: next.number,
            action: event.action,
            nodes: nodes.to_vec(),
            role: event.node.role().filter(|_| event.action.of_process()),
            consumer: None,
            due_ns: next.due,
            at_ns,
            undone_ns: None,
            settled_ns: None,
        }
    }

    /// Does an event to these nodes.
    fn fire(&mut self, next: &Occurrence, nodes: &[u32], system: &mut dyn System, raw: &mut RawTrial) {
        let event = &self.scene.events[next.event as usize];
        let (what, begun) = (event.action.name(), self.since_origin());
        let (mut done, mut gone) = (Vec::new(), Vec::new());
        for &node in nodes {
            let Some(&pid) = self.pids.get(node as usize) else {
                let words = format!("{what}: there is no node {node}, the system has {}", self.pids.len());
                raw.failed.get_or_insert(("measure", words));
                return;
            };
            // A process that has ended may be reaped, and its number be somebody else's.
            match system.node_ended(node as usize) {
                Some(how) => gone.push((node, pid, how)),
                None => {
                    signal(pid, event.action);
                    done.push((node, pid));
                }
            }
        }
        raw.end_expected |= event.action.ends();
        let (role, asked) = (self.role(event), self.asked(next, begun));
        for (node, pid, how) in &gone {
            if !event.action.starts_again() {
                let words = format!("{what} node {node} (process {pid}): it has ended already, {how}");
                raw.log.push((now(), Incident::Planned, words));
            }
        }
        for (node, pid) in &done {
            // What is started again is told of when it is.
            if !event.action.starts_again() || !role.is_empty() || event.repeat.is_some() {
                raw.log.push((now(), Incident::Planned, format!("{what} node {node} (process {pid}){role}{asked}")));
            }
            match event.action {
                Action::Pause => self.paused.push(*pid),
                // A process that stands still does not see that it is to end.
                Action::Terminate if self.paused.contains(pid) => signal(*pid, Action::Resume),
                _ => self.paused.retain(|p| p != pid),
            }
        }
        let nodes: Vec<u32> = done.iter().map(|(node, _)| *node).collect();
        if event.action == Action::Resume {
            self.undone(raw, |f| f.action == Action::Pause && f.nodes.iter().all(|n| nodes.contains(n)));
        } else if !nodes.is_empty() {
            self.watch = None;
            raw.add_fault(self.fault(next, &nodes, begun));
        }
        let until = match event.lasts {
            Some(lasts) => self.scene.origin + begun + lasts.0,
            None if event.action.starts_again() => 0,
            None => return,
        };
        let all = nodes.into_iter().chain(gone.iter().map(|(node, ..)| *node));
        self.lasting.push(Lasting { at: *next, action: event.action, nodes: all.collect(), until });
        self.undo_due(system, raw);
    }

    /// Notes that faults are undone, and looks from now on whether all is well again.
    fn undone(&mut self, raw: &mut RawTrial, which: impl Fn(&FaultRecord) -> bool) {
        raw.undo_fault(self.since_origin(), which);
        self.watch = self.scene.view.clone().map(SettleWatch::start);
    }

    /// Notes when all was well again.
    fn note_settled(&mut self, system: &mut dyn System, raw: &mut RawTrial) {
        let at = match &self.watch {
            Some(watch) => watch.settled(),
            // Where nobody can be asked, all that can be said is that all run.
            None if self.scene.view.is_none() && self.lasting.is_empty() => {
                let open = raw.faults.iter().any(|f| f.undone_ns.is_some() && f.settled_ns.is_none());
                let runs = open && (0..self.pids.len()).all(|node| system.node_ended(node).is_none());
                runs.then(now)
            }
            None => None,
        };
        let Some(at) = at else { return };
        self.watch = None;
        let at = at.saturating_sub(self.scene.origin);
        let open = raw.faults.iter_mut().filter(|f| f.settled_ns.is_none() && f.consumer.is_none());
        for fault in open {
            fault.settled_ns = fault.undone_ns.map(|undone| undone.max(at));
        }
    }

    /// Undoes what has lasted as long as it should.
    fn undo_due(&mut self, system: &mut dyn System, raw: &mut RawTrial) {
        for mut lasting in std::mem::take(&mut self.lasting) {
            if lasting.until > now() || raw.failed.is_some() {
                self.lasting.push(lasting);
                continue;
            }
            self.undo(&mut lasting, system, raw);
            if !lasting.nodes.is_empty() && raw.failed.is_none() {
                self.lasting.push(lasting);
            }
        }
    }

    /// Undoes a fault on the nodes on which that can be done now; those that are left have not
    /// ended yet.
    fn undo(&mut self, lasting: &mut Lasting, system: &mut dyn System, raw: &mut RawTrial) {
        let (at, action) = (lasting.at, lasting.action);
        if action.of_network() {
            lasting.nodes.clear();
            self.mend(raw);
            return;
        }
        let mut waiting = Vec::new();
        for node in std::mem::take(&mut lasting.nodes) {
            let pid = self.pids[node as usize];
            match (action, system.node_ended(node as usize)) {
                (Action::Pause, None) => {
                    signal(pid, Action::Resume);
                    self.paused.retain(|p| *p != pid);
                    let words =
                        format!("resume node {node} (process {pid}), as the scenario asks{}", self.of_several(&at));
                    raw.log.push((now(), Incident::Planned, words));
                }
                // It is no longer there to go on.
                (Action::Pause, Some(_)) => {}
                (_, None) => waiting.push(node),
                (_, Some(how)) => self.start_again(&at, node, &how, system, raw),
            }
        }
        if waiting.is_empty() {
            self.undone(raw, |f| (f.event, f.occurrence) == (at.event, at.number) && f.consumer.is_none());
        }
        lasting.nodes = waiting;
    }

    fn start_again(&mut self, at: &Occurrence, node: u32, how: &str, system: &mut dyn System, raw: &mut RawTrial) {
        let pid = self.pids[node as usize];
        let own =
            raw.faults.iter().any(|f| (f.event, f.occurrence) == (at.event, at.number) && f.nodes.contains(&node));
        let action = self.scene.events[at.event as usize].action;
        let before = match (own, action) {
            (true, action) if action.starts_again() => "killed".to_owned(),
            (true, _) => how.to_owned(),
            (false, _) => format!("it has ended already, {how}"),
        };
        // What fails from here on is the scenario's doing.
        raw.end_expected = true;
        let again = match action {
            Action::Power => system.power(node as usize).map(|(new, loss)| (new, format!("; {loss}"))),
            _ => system.restart(node as usize).map(|new| (new, String::new())),
        };
        match again {
            Ok((new, lost)) => {
                self.pids[node as usize] = new;
                let words = format!(
                    "restart node {node} (process {pid}): {before}{lost}; started again as process {new}, as the scenario asks{}",
                    self.of_several(at)
                );
                raw.log.push((now(), Incident::Planned, words));
                // Also what an event before did to it alone.
                self.undone(raw, |f| f.action.of_process() && f.nodes == [node]);
            }
            Err(words) => {
                let words = format!("restart node {node} (process {pid}): {words}");
                raw.failed.get_or_insert(("measure", words));
            }
        }
        self.paused.retain(|p| *p != pid);
    }

    fn network(&mut self, next: &Occurrence, raw: &mut RawTrial) {
        let event = &self.scene.events[next.event as usize];
        let what = event.action.name();
        let how = event.qdisc.as_ref().map(|q| format!(" by {q}")).unwrap_or_default();
        let begun = self.since_origin();
        if let Err(words) = network::act(event.action, event.qdisc.as_deref()) {
            raw.failed.get_or_insert(("measure", format!("{what} the network{how}: {words}")));
            return;
        }
        let words = format!("{what} the network{how}{}", self.asked(next, begun));
        raw.log.push((now(), Incident::Planned, words));
        // A network that is shaped anew was as it should be at no moment.
        self.undone(raw, |f| f.action.of_network());
        self.unmended = event.action != Action::Mend;
        if self.unmended {
            self.watch = None;
            raw.add_fault(self.fault(next, &[], begun));
        }
        if let Some(lasts) = event.lasts {
            let until = self.scene.origin + begun + lasts.0;
            self.lasting.push(Lasting { at: *next, action: event.action, nodes: Vec::new(), until });
        }
        // A client may give up while nothing passes.
        raw.end_expected |= event.action == Action::Cut;
    }

    fn mend(&mut self, raw: &mut RawTrial) {
        match network::act(Action::Mend, None) {
            Ok(()) => {
                raw.log.push((now(), Incident::Planned, "mend the network, as the scenario asks".to_owned()));
                self.undone(raw, |f| f.action.of_network());
            }
            Err(words) => drop(raw.failed.get_or_insert(("measure", format!("mend the network: {words}")))),
        }
        self.unmended = false;
    }

    /// Lets everything go on that still stands still, so that it can end in order.
    pub fn close(&mut self, system: &mut dyn System, raw: &mut RawTrial) {
        self.note_settled(system, raw);
        self.watch = None;
        for next in &self.left {
            let at = next.due as f64 / SECOND as f64;
            let what = self.scene.events[next.event as usize].action.name();
            let words = format!("{what}{} at {at} s was not done: the trial ended before", self.of_several(next));
            raw.log.push((now(), Incident::Planned, words));
        }
        if std::mem::take(&mut self.unmended) {
            let words = match network::act(Action::Mend, None) {
                Ok(()) => "mend the network at the end of the trial".to_owned(),
                Err(words) => format!("mend the network at the end of the trial: {words}"),
            };
            raw.log.push((now(), Incident::Planned, words));
        }
        for pid in std::mem::take(&mut self.paused) {
            let node = self.pids.iter().position(|p| *p == pid);
            if node.is_some_and(|node| system.node_ended(node).is_none()) {
                signal(pid, Action::Resume);
                raw.log.push((now(), Incident::Planned, format!("resume process {pid} at the end of the trial")));
            }
        }
    }
}

fn signal(pid: u32, action: Action) {
    let signal = match action {
        Action::Pause => libc::SIGSTOP,
        Action::Resume => libc::SIGCONT,
        Action::Kill | Action::Restart | Action::Power => libc::SIGKILL,
        Action::Terminate => libc::SIGTERM,
        // Nothing of a process.
        _ => return,
    };
    // SAFETY: kill touches no memory; the process is a child of ours that is not reaped, so the
    // number is still its own.
    unsafe { libc::kill(pid as libc::pid_t, signal) };
}

#[cfg(test)]
mod tests;
