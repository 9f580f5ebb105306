//! When the drain is over: everything that was sent is here, or nothing more is coming.

use crate::plan::{Case, PlannedEvent};
use crate::units::{Nanos, now};

use super::shared::{Shared, copies};

/// Nothing more is coming when nothing has arrived for so long after everything was sent, unless
/// something was rejected or the broker stores messages: nats-server was silent for 3 s while it
/// still stored what a flood had left it.
const QUIET: Nanos = 500_000_000;
/// The same where the scenario disturbs the network: TCP waits before it sends again, each time
/// twice as long. And where it disturbs a broker that stores messages: acknowledgements may never
/// come, and of what has none nobody knows whether it was stored. A new leader is found within
/// 10 s.
const QUIET_DISTURBED: Nanos = 10_000_000_000;
/// Where the members of a group share a stream, a message that two of them got counts as two
/// arrivals: then everything is here only when nothing more has come for so long.
const SETTLE: Nanos = 100_000_000;

/// Looks whether the drain is over.
pub struct DrainWatch {
    copies: Vec<u64>,
    rejecting: bool,
    /// Whether members of a group share messages.
    divided: bool,
    stores: bool,
    /// Whether the scenario disturbs the network; or the system.
    network: bool,
    system: bool,
    /// What has arrived, and was acknowledged; and since when it has not become more.
    last: (u64, u64),
    since: Nanos,
    begun: Nanos,
}

impl DrainWatch {
    /// Of a drain that begins now; the driver delivers, and stores, or not.
    pub fn of(case: &Case, events: &[PlannedEvent], (delivers, stores): (bool, bool), shared: &Shared) -> Self {
        Self {
            copies: case.workloads.iter().map(|w| copies(w, delivers)).collect(),
            rejecting: case.workloads.iter().any(|w| w.delivery.reject_every > 0 || w.delivery.dead_every > 0),
            divided: case.workloads.iter().any(|w| w.topology.members > 1 && !w.topology.reply),
            stores,
            network: events.iter().any(|e| e.action.of_network()),
            system: events.iter().any(|e| !e.action.of_consumer()),
            last: (shared.arrived(), shared.acked()),
            since: now(),
            begun: now(),
        }
    }

    /// Whether it is over; `sent_all` where every producer has ended.
    pub fn over(&mut self, shared: &Shared, sent_all: bool) -> bool {
        let here = (shared.arrived(), shared.acked());
        if here != self.last {
            (self.last, self.since) = (here, now());
        }
        let silent = now() - self.since;
        let complete = shared.complete(&self.copies) && (!self.divided || silent > SETTLE);
        let bound = if self.network { QUIET_DISTURBED } else { QUIET };
        let quiet = !self.rejecting && !self.stores && silent > bound;
        let given_up = self.system && silent > QUIET_DISTURBED && shared.owed_is_here(&self.copies);
        sent_all && (complete || quiet) || given_up && !self.rejecting
    }

    /// Whether something has come in the drain, and a moment ago.
    pub fn moving(&self) -> bool {
        self.since > self.begun && now() - self.since < QUIET
    }
}
