//! Single nodes that are cut off from all others, where each has a network of its own.

use crate::plan::Action;
use crate::plan::facts::Incident;
use crate::system::System;
use crate::units::now;

use super::super::raw::RawTrial;
use super::occurrences::Occurrence;
use super::{Lasting, PendingEvents};

impl PendingEvents<'_> {
    /// Cuts these nodes off, or joins them to the others again.
    pub(super) fn cut_or_mend(
        &mut self,
        next: &Occurrence,
        nodes: &[u32],
        system: &mut dyn System,
        raw: &mut RawTrial,
    ) {
        let event = &self.scene.events[next.event as usize];
        if event.action == Action::Mend {
            return self.mend_nodes(nodes, system, raw);
        }
        let begun = self.since_origin();
        let (role, asked) = (self.role(event), self.asked(next, begun));
        for &node in nodes {
            if let Err(words) = system.cut(node as usize, true) {
                raw.failed.get_or_insert(("measure", format!("cut node {node}: {words}")));
                return;
            }
            self.cut_off.push(node);
            let words = format!("cut node {node}{role} off from all others{asked}");
            raw.log.push((now(), Incident::Planned, words));
        }
        // A client may give up while nothing passes.
        raw.end_expected = true;
        self.watch = None;
        raw.add_fault(self.fault(next, nodes, begun));
        if let Some(lasts) = event.lasts {
            let until = self.scene.origin + begun + lasts.0;
            self.lasting.push(Lasting { at: *next, action: event.action, nodes: nodes.to_vec(), until });
        }
    }

    /// Joins these nodes to the others again.
    pub(super) fn mend_nodes(&mut self, nodes: &[u32], system: &mut dyn System, raw: &mut RawTrial) {
        for &node in nodes {
            let words = match system.cut(node as usize, false) {
                Ok(()) => format!("mend the network of node {node}, as the scenario asks"),
                Err(words) => {
                    let words = format!("mend the network of node {node}: {words}");
                    raw.failed.get_or_insert(("measure", words.clone()));
                    words
                }
            };
            raw.log.push((now(), Incident::Planned, words));
        }
        self.cut_off.retain(|node| !nodes.contains(node));
        let cut_off = self.cut_off.clone();
        self.undone(raw, |f| f.action == Action::Cut && f.nodes.iter().all(|node| !cut_off.contains(node)));
    }
}
