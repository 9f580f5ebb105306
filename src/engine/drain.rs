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
/// 10 s. A broker that starts again takes its own time: it is silent, and has not given up. What
/// was acknowledged and is not here is waited for as long as the drain lasts: a broker may wait
/// longer than this before it delivers a message again (JetStream: 30 s).
const QUIET_DISTURBED: Nanos = 10_000_000_000;

/// Looks whether the drain is over.
pub struct DrainWatch {
    expected: Vec<Expected>,
    rejecting: bool,
    stores: bool,
    /// Whether the scenario disturbs the network.
    network: bool,
    /// What has arrived, and was acknowledged; and since when it has not become more.
    last: (u64, u64),
    since: Nanos,
    /// Since when nothing that was done to the system is on its way to be undone.
    well: Nanos,
    begun: Nanos,
}

impl DrainWatch {
    /// Of a drain that begins now; the driver delivers, and stores, or not.
    pub fn of(case: &Case, events: &[PlannedEvent], (delivers, stores): (bool, bool), shared: &Shared) -> Self {
        let expected = |w: &Workload| Expected {
            copies: copies(w, delivers),
            groups: if delivers && !w.topology.reply { w.topology.groups } else { 0 },
            divided: w.topology.members > 1 && !w.topology.reply,
        };
        let begun = now();
        Self {
            expected: case.workloads.iter().map(expected).collect(),
            rejecting: case.workloads.iter().any(|w| w.delivery.reject_every > 0 || w.delivery.dead_every > 0),
            stores,
            network: events.iter().any(|e| e.action.of_network()),
            last: (shared.arrived(), shared.acked()),
            since: begun,
            well: begun,
            begun,
        }
    }

    /// Whether it is over at an instant; `sent_all` where every producer has ended, `recovering`
    /// while what was done to the system is being undone. What other processes have is known until
    /// `known`: who says nothing is not quiet.
    pub fn over(&mut self, shared: &Shared, (sent_all, recovering): (bool, bool), (at, known): (Nanos, Nanos)) -> bool {
        let here = (shared.arrived(), shared.acked());
        if here != self.last {
            (self.last, self.since) = (here, at);
        }
        if recovering {
            self.well = at;
        }
        let known = at.min(known);
        let silent = known.saturating_sub(self.since);
        let complete = shared.complete(&self.expected);
        let bound = if self.network { QUIET_DISTURBED } else { QUIET };
        let quiet = !self.rejecting && !self.stores && silent > bound;
        let waited = known.saturating_sub(self.since.max(self.well));
        let given_up = shared.disturbed && !self.rejecting && waited > QUIET && shared.owed_is_here(&self.expected);
        sent_all && (complete || quiet) || given_up && waited > QUIET_DISTURBED
    }

    /// Whether something has come in the drain, and a moment ago.
    pub fn moving(&self) -> bool {
        self.since > self.begun && now() - self.since < QUIET
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::measure::ledger::SequenceSet;
    use crate::units::SECOND;

    /// In one process all is known.
    fn both(at: Nanos) -> (Nanos, Nanos) {
        (at, Nanos::MAX)
    }

    fn numbers(numbers: std::ops::Range<u64>) -> SequenceSet {
        let mut set = SequenceSet::default();
        numbers.for_each(|n| assert!(set.insert(n)));
        set
    }

    /// All that was acknowledged is here, of most of the messages nobody knows yet.
    fn half_acknowledged() -> (Shared, DrainWatch) {
        let mut shared = Shared::new(1);
        shared.disturbed = true;
        let counters = &shared.counters[0];
        for (counter, n) in [(&counters.sent, 1200), (&counters.acked, 199), (&counters.arrived, 199)] {
            counter.store(n, std::sync::atomic::Ordering::Relaxed);
        }
        counters.distinct.owe(0, &numbers(0..199));
        counters.distinct.add(0, [numbers(0..199)].iter());
        let watch = DrainWatch {
            expected: vec![Expected { copies: 1, groups: 1, divided: false }],
            rejecting: false,
            stores: true,
            network: false,
            last: (199, 199),
            since: 0,
            well: 0,
            begun: 0,
        };
        (shared, watch)
    }

    #[test]
    fn what_has_no_acknowledgement_is_given_up_after_a_silence() {
        let (shared, mut watch) = half_acknowledged();
        assert!(!watch.over(&shared, (false, false), both(10 * SECOND)));
        assert!(watch.over(&shared, (false, false), both(10 * SECOND + 1)));
    }

    /// Of a process that stands still nobody knows what it has: it may have more than it told.
    #[test]
    fn who_says_nothing_is_not_quiet() {
        let (shared, mut watch) = half_acknowledged();
        watch.stores = false;
        let told = |known| (60 * SECOND, known);
        assert!(!watch.over(&shared, (true, false), told(QUIET)));
        assert!(watch.over(&shared, (true, false), told(QUIET + 1)));
        // What comes after that is counted from when it is heard of.
        shared.counters[0].arrived.store(200, std::sync::atomic::Ordering::Relaxed);
        assert!(!watch.over(&shared, (true, false), told(59 * SECOND)));
        assert!(!watch.over(&shared, (true, false), (70 * SECOND, 60 * SECOND + QUIET)));
        assert!(watch.over(&shared, (true, false), (70 * SECOND, 61 * SECOND)));
        watch.stores = true;
        assert!(!watch.over(&shared, (false, false), (100 * SECOND, 70 * SECOND)), "given up by nobody's word");
    }

    /// A new leader delivers what was not acknowledged, and waits before it delivers again what a
    /// consumer had not confirmed to the old one.
    #[test]
    fn what_was_acknowledged_is_waited_for_though_as_many_are_here() {
        let (shared, mut watch) = half_acknowledged();
        shared.counters[0].distinct.owe(0, &numbers(199..200));
        shared.counters[0].distinct.add(0, [numbers(600..1000)].iter());
        for second in 0..60 {
            assert!(!watch.over(&shared, (false, false), both(second * SECOND)), "{second} s");
        }
        assert!(shared.asked(), "so that members and producers tell");
        shared.counters[0].distinct.add(0, [numbers(199..200)].iter());
        assert!(watch.over(&shared, (false, false), both(60 * SECOND)));
    }

    #[test]
    fn a_broker_that_starts_again_is_waited_for() {
        let (shared, mut watch) = half_acknowledged();
        for second in 0..60 {
            assert!(!watch.over(&shared, (false, true), both(second * SECOND)), "{second} s");
        }
        assert!(!watch.over(&shared, (false, false), both(69 * SECOND)));
        assert!(watch.over(&shared, (false, false), both(69 * SECOND + 1)));
    }
}
