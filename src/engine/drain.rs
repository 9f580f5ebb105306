//! When the drain is over: everything that was sent is here, or nothing more is coming.

use crate::plan::{Case, PlannedEvent, Workload};
use crate::units::{Nanos, now};

use super::shared::{Expected, Shared, copies};

/// Nothing more is coming when nothing has arrived for so long after everything was sent, unless
/// something was rejected or the broker stores messages: nats-server was silent for 3 s while it
/// still stored what a flood had left it.
const QUIET: Nanos = 500_000_000;
/// The same where the scenario disturbs the network: TCP waits before it sends again, each time
/// twice as long. And where it disturbs a broker that stores messages: acknowledgements may never
/// come, and of what has none nobody knows whether it was stored. A new leader is found within
/// 10 s.
const QUIET_DISTURBED: Nanos = 10_000_000_000;

/// Looks whether the drain is over.
pub struct DrainWatch {
    expected: Vec<Expected>,
    rejecting: bool,
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
        let expected = |w: &Workload| Expected {
            copies: copies(w, delivers),
            divided: w.topology.members > 1 && !w.topology.reply,
        };
        Self {
            expected: case.workloads.iter().map(expected).collect(),
            rejecting: case.workloads.iter().any(|w| w.delivery.reject_every > 0 || w.delivery.dead_every > 0),
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
        let complete = shared.complete(&self.expected);
        let bound = if self.network { QUIET_DISTURBED } else { QUIET };
        let quiet = !self.rejecting && !self.stores && silent > bound;
        let given_up = self.system && silent > QUIET_DISTURBED && shared.owed_is_here(&self.expected);
        sent_all && (complete || quiet) || given_up && !self.rejecting
    }

    /// Whether something has come in the drain, and a moment ago.
    pub fn moving(&self) -> bool {
        self.since > self.begun && now() - self.since < QUIET
    }
}
