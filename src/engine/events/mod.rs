//! What a scenario does to the processes of a system while it is measured, at the time it says.
//!
//! # Design
//! The control thread does it, and looks what is due, or to be undone, whenever it wakes. Nothing
//! here waits: who has a role is asked on a thread of its own (`question`), when an event is due
//! and for it alone, and the event fires when the answer is there. A node that is to start again
//! does so when the kernel has taken the old process away.

mod acts;
mod links;
mod occurrences;
mod question;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};

use crate::driver::HandOver;
use crate::plan::{Action, ClusterRole, NodeChoice, PlannedEvent};
use crate::record::FaultRecord;
use crate::system::{ClusterView, System};
use crate::units::{Nanos, SECOND, now};

use super::raw::RawTrial;
use occurrences::{Occurrence, occurrences};
use question::{RoleQuestion, SettleWatch, Transfer};

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
    /// The client's request that another node leads what stores a workload.
    pub hand_over: Box<dyn Fn(usize) -> Option<HandOver> + 'a>,
    /// Lets the producers that have transactions die in one, and others come so long after; how
    /// many there are.
    pub kill_producers: Box<dyn Fn(Duration) -> usize + 'a>,
}

/// A fault that is to be undone.
struct Lasting {
    at: Occurrence,
    action: Action,
    /// The nodes on which it is not undone yet, each with the process that it was done to.
    nodes: Vec<(u32, u32)>,
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
    /// Nodes that are cut off from all others, or whose networks are shaped.
    disturbed: Vec<u32>,
    lasting: Vec<Lasting>,
    /// What is asked for the event that is next.
    question: Option<RoleQuestion>,
    watch: Option<SettleWatch>,
    /// A leader is handing over.
    transfer: Option<(Occurrence, Transfer)>,
    /// Nodes are restarted in turn: for which event, which one is next, and since when the one
    /// before is awaited.
    rolling: Option<(Occurrence, u32, Nanos)>,
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
            disturbed: Vec::new(),
            lasting: Vec::new(),
            question: None,
            watch: None,
            transfer: None,
            rolling: None,
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
        let asks = self.question.is_some() || self.transfer.is_some();
        let waits = self.watch.is_some() || self.rolling.is_some();
        let looks = if asks { Some(now() + SOON) } else { waits.then(|| now() + LATER) };
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
        self.note_transfer(raw);
    }

    /// Does what is due, and undoes what has lasted.
    pub fn act(&mut self, system: &mut dyn System, raw: &mut RawTrial) {
        self.look(system, raw);
        self.roll_on(system, raw);
        while let Some(next) = self.left.front().copied().filter(|o| self.scene.origin + o.due <= now()) {
            if raw.failed.is_some() || !self.ready(&next, raw) {
                return;
            }
            let event = &self.scene.events[next.event as usize];
            match event.action {
                Action::ProducerKill => self.kill_producers(&next, raw),
                Action::Transfer => self.begin_transfer(&next, raw),
                Action::RollingRestart => {
                    self.rolling = Some((next, 0, now()));
                    self.roll_on(system, raw);
                }
                action if action.of_network() && self.isolated() => {
                    let all = || Some((0..self.pids.len() as u32).collect());
                    let Some(nodes) = (if event.alone { self.choose(&next, raw) } else { all() }) else { return };
                    self.of_nodes(&next, &nodes, system, raw);
                }
                action if action.of_network() => self.network(&next, raw),
                _ => {
                    let Some(nodes) = self.choose(&next, raw) else { return };
                    self.fire(&next, &nodes, system, raw);
                }
            }
            self.left.pop_front();
        }
    }

    /// Whether a repetition may be done: nothing lasts any more, and the cluster has settled.
    fn ready(&self, next: &Occurrence, raw: &mut RawTrial) -> bool {
        let event = &self.scene.events[next.event as usize];
        let busy = self.rolling.is_some() || self.transfer.is_some();
        let settled = self.lasting.is_empty() && self.watch.is_none() && !busy;
        // Two of a kind at a time would be one.
        if settled || event.repeat.is_none() && !(event.action.passes() && busy) {
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

    /// Whether each node has a network of its own.
    fn isolated(&self) -> bool {
        self.scene.events.iter().any(|e| e.alone)
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
            role: event.node.role().filter(|_| event.action.of_process() || event.alone),
            consumer: None,
            due_ns: next.due,
            at_ns,
            undone_ns: None,
            settled_ns: None,
        }
    }
}

#[cfg(test)]
mod tests;
