//! Single nodes that are cut off from all others, or whose network is shaped, where each has one of
//! its own.

use crate::plan::Action;
use crate::plan::facts::Incident;
use crate::system::{NodeLink, System};
use crate::units::now;

use super::super::raw::RawTrial;
use super::occurrences::Occurrence;
use super::{Lasting, PendingEvents};

impl PendingEvents<'_> {
    /// Cuts these nodes off, shapes their networks, or makes them whole again.
    pub(super) fn of_nodes(&mut self, next: &Occurrence, nodes: &[u32], system: &mut dyn System, raw: &mut RawTrial) {
        let event = &self.scene.events[next.event as usize];
        if event.action == Action::Mend {
            return self.mend_nodes(nodes, system, raw);
        }
        let begun = self.since_origin();
        let (role, asked) = (self.role(event), self.asked(next, begun));
        let link = event.qdisc.as_deref().map_or(NodeLink::Cut, NodeLink::Shaped);
        for &node in nodes {
            if let Err(words) = system.link(node as usize, link) {
                let what = event.action.name();
                raw.failed.get_or_insert(("measure", format!("{what} the network of node {node}: {words}")));
                return;
            }
            self.disturbed.push(node);
            let words = match link {
                NodeLink::Shaped(qdisc) => format!("shape the network of node {node}{role} by {qdisc}{asked}"),
                _ => format!("cut node {node}{role} off from all others{asked}"),
            };
            raw.log.push((now(), Incident::Planned, words));
        }
        // A client may give up while nothing passes.
        raw.end_expected |= event.action == Action::Cut;
        self.watch = None;
        // From now on nothing passes: until then some messages still did.
        let cut = self.since_origin();
        raw.add_fault(self.fault(next, nodes, cut));
        if let Some(lasts) = event.lasts {
            let until = self.scene.origin + cut + lasts.0;
            let nodes = nodes.iter().map(|node| (*node, self.pids.get(*node as usize).copied().unwrap_or(0))).collect();
            self.lasting.push(Lasting { at: *next, action: event.action, nodes, until });
        }
    }

    /// Makes the networks of these nodes as they were.
    pub(super) fn mend_nodes(&mut self, nodes: &[u32], system: &mut dyn System, raw: &mut RawTrial) {
        for &node in nodes {
            let words = match system.link(node as usize, NodeLink::Whole) {
                Ok(()) => format!("mend the network of node {node}, as the scenario asks"),
                Err(words) => {
                    let words = format!("mend the network of node {node}: {words}");
                    raw.failed.get_or_insert(("measure", words.clone()));
                    words
                }
            };
            raw.log.push((now(), Incident::Planned, words));
        }
        self.disturbed.retain(|node| !nodes.contains(node));
        let left = self.disturbed.clone();
        self.undone(raw, |f| f.action.of_network() && f.nodes.iter().all(|node| !left.contains(node)));
    }
}
