//! What a scenario does to the processes of a system while it is measured, at the time it says.

use crate::plan::facts::Incident;
use crate::plan::{Action, PlannedEvent};
use crate::record::FaultRecord;
use crate::system::System;
use crate::units::{Nanos, SECOND, now};

use super::network;
use super::raw::RawTrial;

/// The events of a trial that are still to come.
pub struct PendingEvents<'a> {
    left: &'a [PlannedEvent],
    /// Which of the plan's events is the next one.
    number: u32,
    /// The processes by node; a restart gives a node another one.
    pids: Vec<u32>,
    paused: Vec<u32>,
    /// Whether the network is not as it was.
    unmended: bool,
}

impl<'a> PendingEvents<'a> {
    /// Of a system with these processes.
    pub fn new(events: &'a [PlannedEvent], pids: &'a [u32]) -> Self {
        Self { left: events, number: 0, pids: pids.to_vec(), paused: Vec::new(), unmended: false }
    }

    /// The processes of the system as they are now.
    pub fn pids(&self) -> &[u32] {
        &self.pids
    }

    /// When the next one is due, given the start of the measured phase.
    pub fn next(&self, origin: Nanos) -> Nanos {
        self.left.first().map_or(Nanos::MAX, |e| origin + e.at.0)
    }

    /// Does what is due.
    pub fn act(&mut self, origin: Nanos, system: &mut dyn System, raw: &mut RawTrial) {
        while let Some((event, rest)) = self.left.split_first().filter(|(e, _)| origin + e.at.0 <= now()) {
            self.left = rest;
            self.number += 1;
            let what = event.action.name();
            if event.action.of_consumer() {
                // The thread of the consumer does it.
                continue;
            }
            if event.action.of_network() {
                self.network(event, origin, raw);
                continue;
            }
            let Some(&pid) = self.pids.get(event.node as usize) else {
                let words = format!("{what}: there is no node {}, the system has {}", event.node, self.pids.len());
                raw.failed.get_or_insert(("measure", words));
                return;
            };
            if event.action == Action::Restart {
                self.restart(event, pid, origin, system, raw);
                continue;
            }
            // A process that has ended may be reaped, and its number be somebody else's.
            if let Some(how) = system.node_ended(event.node as usize) {
                raw.log.push((
                    now(),
                    Incident::Planned,
                    format!("{what} node {} (process {pid}): it has ended already, {how}", event.node),
                ));
                continue;
            }
            let begun = now() - origin;
            signal(pid, event.action);
            match event.action {
                Action::Resume => {
                    raw.undo_fault(now() - origin, |f| f.action == Action::Pause && f.nodes == [event.node])
                }
                _ => raw.add_fault(self.fault(event, begun)),
            }
            raw.log.push((
                now(),
                Incident::Planned,
                format!("{what} node {} (process {pid}), as the scenario asks", event.node),
            ));
            raw.end_expected |= event.action.ends();
            match event.action {
                Action::Pause => self.paused.push(pid),
                // A process that stands still does not see that it is to end.
                Action::Terminate if self.paused.contains(&pid) => signal(pid, Action::Resume),
                _ => self.paused.retain(|p| *p != pid),
            }
        }
    }

    /// The event that is done now, begun at this instant of the measured phase.
    fn fault(&self, event: &PlannedEvent, at_ns: Nanos) -> FaultRecord {
        FaultRecord {
            event: self.number.saturating_sub(1),
            occurrence: 1,
            action: event.action,
            nodes: if event.action.of_network() { Vec::new() } else { vec![event.node] },
            role: None,
            consumer: None,
            due_ns: event.at.0,
            at_ns,
            undone_ns: None,
            settled_ns: None,
        }
    }

    fn network(&mut self, event: &PlannedEvent, origin: Nanos, raw: &mut RawTrial) {
        let what = event.action.name();
        let how = event.qdisc.as_ref().map(|q| format!(" by {q}")).unwrap_or_default();
        let begun = now() - origin;
        match network::act(event.action, event.qdisc.as_deref()) {
            Ok(()) => {
                // A network that is shaped anew is as it was before in no moment.
                raw.undo_fault(now() - origin, |f| f.action.of_network());
                if event.action != Action::Mend {
                    raw.add_fault(self.fault(event, begun));
                }
                raw.log.push((now(), Incident::Planned, format!("{what} the network{how}, as the scenario asks")))
            }
            Err(words) => drop(raw.failed.get_or_insert(("measure", format!("{what} the network{how}: {words}")))),
        }
        self.unmended = event.action != Action::Mend;
        // A client may give up while nothing passes.
        raw.end_expected |= event.action == Action::Cut;
    }

    fn restart(&mut self, event: &PlannedEvent, pid: u32, origin: Nanos, system: &mut dyn System, raw: &mut RawTrial) {
        let (node, begun) = (event.node as usize, now() - origin);
        let running = system.node_ended(node).is_none();
        let before = system.node_ended(node).map_or("killed".to_owned(), |how| format!("it has ended already, {how}"));
        // What fails from here on is the scenario's doing.
        raw.end_expected = true;
        match system.restart(node) {
            Ok(new) => {
                self.pids[node] = new;
                if running {
                    raw.add_fault(self.fault(event, begun));
                }
                raw.undo_fault(now() - origin, |f| f.action.of_process() && f.nodes == [event.node]);
                let words = format!(
                    "restart node {node} (process {pid}): {before}; started again as process {new}, as the scenario asks"
                );
                raw.log.push((now(), Incident::Planned, words));
            }
            Err(words) => {
                let words = format!("restart node {node} (process {pid}): {words}");
                raw.failed.get_or_insert(("measure", words));
            }
        }
        self.paused.retain(|p| *p != pid);
    }

    /// Lets everything go on that still stands still, so that it can end in order.
    pub fn close(&mut self, system: &mut dyn System, raw: &mut RawTrial) {
        for event in self.left.iter().filter(|e| !e.action.of_consumer()) {
            let at = event.at.0 as f64 / SECOND as f64;
            raw.log.push((
                now(),
                Incident::Planned,
                format!("{} at {at} s was not done: the trial ended before", event.action.name()),
            ));
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
        Action::Kill | Action::Restart => libc::SIGKILL,
        Action::Terminate => libc::SIGTERM,
        // Nothing of a process.
        _ => return,
    };
    // SAFETY: kill touches no memory; the process is a child of ours that is not reaped, so the
    // number is still its own.
    unsafe { libc::kill(pid as libc::pid_t, signal) };
}
