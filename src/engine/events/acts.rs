//! What is done to nodes and the network, and undone again.

use std::time::Duration;

use crate::plan::Action;
use crate::plan::facts::Incident;
use crate::record::FaultRecord;
use crate::system::System;
use crate::units::{SECOND, Span, now};

use super::super::network;
use super::super::raw::RawTrial;
use super::occurrences::Occurrence;
use super::question::{SettleWatch, Transfer, Transferred};
use super::{Lasting, PendingEvents, SETTLE_BOUND};

impl PendingEvents<'_> {
    /// Does an event to these nodes.
    pub(super) fn fire(&mut self, next: &Occurrence, nodes: &[u32], system: &mut dyn System, raw: &mut RawTrial) {
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
                Action::Terminate | Action::RollingRestart if self.paused.contains(pid) => signal(*pid, Action::Resume),
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
            None if event.action.starts_again() || event.action == Action::RollingRestart => 0,
            None => return,
        };
        done.extend(gone.iter().map(|(node, pid, _)| (*node, *pid)));
        self.lasting.push(Lasting { at: *next, action: event.action, nodes: done, until });
        self.undo_due(system, raw);
    }

    /// Lets the producers that have transactions die; their threads do it, and note it.
    pub(super) fn kill_producers(&self, next: &Occurrence, raw: &mut RawTrial) {
        let begun = self.since_origin();
        let away = self.scene.events[next.event as usize].lasts;
        if (self.scene.kill_producers)(away.map_or(Duration::ZERO, Span::duration)) == 0 {
            let words = "producer-kill: no producer of this system has transactions; with Kafka's clients, set \
                         exactly-once = \"transactional\"";
            raw.failed.get_or_insert(("measure", words.into()));
            return;
        }
        let away = away.map(|away| format!(", for {away}")).unwrap_or_default();
        let words = format!("producer-kill in the next transaction{away}{}", self.asked(next, begun));
        raw.log.push((now(), Incident::Planned, words));
        raw.add_fault(self.fault(next, &[], begun));
    }

    /// Asks a leader to hand over, on a thread of its own.
    pub(super) fn begin_transfer(&mut self, next: &Occurrence, raw: &mut RawTrial) {
        let event = &self.scene.events[next.event as usize];
        let Some(view) = self.scene.view.clone() else {
            raw.failed.get_or_insert(("measure", "transfer: nobody leads in this system".into()));
            return;
        };
        let named = |(name, _): &(String, super::StoredIn)| Some(name) == event.workload.as_ref();
        let request = self.scene.stored.iter().position(named).and_then(|workload| (self.scene.hand_over)(workload));
        let stored = self.stored(event).map(|(_, name)| name.clone());
        self.transfer = Some((*next, Transfer::begin(view, stored, request)));
    }

    /// Notes that a leader has handed over.
    pub(super) fn note_transfer(&mut self, raw: &mut RawTrial) {
        let Some((next, answer)) = self.transfer.as_ref().and_then(|(next, t)| Some((*next, t.answer()?))) else {
            return;
        };
        self.transfer = None;
        let event = &self.scene.events[next.event as usize];
        match answer {
            Ok(Transferred { at, done, from, to }) => {
                let begun = at.saturating_sub(self.scene.origin);
                let took = (done - at) as f64 / 1e6;
                let (role, asked) = (self.role(event), self.asked(&next, begun));
                let words = format!("transfer from node {from}{role} to node {to}{asked}; it took {took:.0} ms");
                raw.log.push((at, Incident::Planned, words));
                raw.add_fault(self.fault(&next, &[from], begun));
                let undone = done.saturating_sub(self.scene.origin);
                raw.undo_fault(undone, |f| (f.event, f.occurrence) == (next.event, next.number));
                self.watch = self.scene.view.clone().map(SettleWatch::start);
            }
            Err(words) => drop(raw.failed.get_or_insert(("measure", format!("transfer {}: {words}", event.whom())))),
        }
    }

    /// Goes on with nodes that are restarted in turn, when the one before has settled.
    pub(super) fn roll_on(&mut self, system: &mut dyn System, raw: &mut RawTrial) {
        let Some((next, node, since)) = self.rolling else { return };
        if self.lasting.is_empty() && self.watch.is_none() {
            if (node as usize) < self.pids.len() {
                self.rolling = Some((next, node + 1, now()));
                self.fire(&next, &[node], system, raw);
            } else {
                self.rolling = None;
            }
        } else if now() - since > SETTLE_BOUND {
            let before = node.saturating_sub(1);
            let missing = self.watch.as_ref().map_or_else(|| "it has not ended".into(), SettleWatch::missing);
            let bound = SETTLE_BOUND / SECOND;
            let words = format!("rolling-restart: node {before} is not back within {bound} s: {missing}");
            raw.failed.get_or_insert(("measure", words));
        }
    }

    /// Notes that faults are undone, and looks from now on whether all is well again.
    pub(super) fn undone(&mut self, raw: &mut RawTrial, which: impl Fn(&FaultRecord) -> bool) {
        raw.undo_fault(self.since_origin(), which);
        self.watch = self.scene.view.clone().map(SettleWatch::start);
    }

    /// Notes when all was well again.
    pub(super) fn note_settled(&mut self, system: &mut dyn System, raw: &mut RawTrial) {
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
    pub(super) fn undo_due(&mut self, system: &mut dyn System, raw: &mut RawTrial) {
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
            match std::mem::take(&mut lasting.nodes) {
                none if none.is_empty() => self.mend(raw),
                nodes => {
                    let nodes: Vec<u32> = nodes.into_iter().map(|(node, _)| node).collect();
                    self.mend_nodes(&nodes, system, raw);
                }
            }
            return;
        }
        let mut waiting = Vec::new();
        for (node, pid) in std::mem::take(&mut lasting.nodes) {
            // Another event has started it again: what was done to that process is over.
            if self.pids[node as usize] != pid {
                continue;
            }
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
                (_, None) => waiting.push((node, pid)),
                (_, Some(how)) => self.start_again(&at, node, &how, system, raw),
            }
        }
        let own = |f: &FaultRecord| (f.event, f.occurrence) == (at.event, at.number) && f.consumer.is_none();
        if waiting.is_empty() && raw.faults.iter().any(|f| f.undone_ns.is_none() && own(f)) {
            self.undone(raw, own);
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

    pub(super) fn network(&mut self, next: &Occurrence, raw: &mut RawTrial) {
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
            // From now on nothing passes: until then some messages still did.
            raw.add_fault(self.fault(next, &[], self.since_origin()));
        }
        if let Some(lasts) = event.lasts {
            let until = now() + lasts.0;
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
        if let Some((_, node, _)) = self.rolling.take().filter(|(_, node, _)| (*node as usize) < self.pids.len()) {
            let words = format!("rolling-restart from node {node} on was not done: the trial ended before");
            raw.log.push((now(), Incident::Planned, words));
        }
        if let Some((next, _)) = self.transfer.take() {
            let words = format!("transfer{} was not over when the trial ended", self.of_several(&next));
            raw.log.push((now(), Incident::Planned, words));
        }
        for next in &self.left {
            let at = next.due as f64 / SECOND as f64;
            let what = self.scene.events[next.event as usize].action.name();
            let words = format!("{what}{} at {at} s was not done: the trial ended before", self.of_several(next));
            raw.log.push((now(), Incident::Planned, words));
        }
        let disturbed = std::mem::take(&mut self.disturbed);
        if !disturbed.is_empty() {
            self.mend_nodes(&disturbed, system, raw);
            self.watch = None;
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
        Action::Terminate | Action::RollingRestart => libc::SIGTERM,
        // Nothing of a process.
        _ => return,
    };
    // SAFETY: kill touches no memory; the process is a child of ours that is not reaped, so the
    // number is still its own.
    unsafe { libc::kill(pid as libc::pid_t, signal) };
}
