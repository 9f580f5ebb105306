//! How wrong a time from one agent to another may be.

use crate::plan::Case;
use crate::record::{AgentResult, ClockDoubt};

/// In which workloads an agent sent, and in which it received.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct OneWayEnds {
    pub sends: Vec<bool>,
    pub receives: Vec<bool>,
}

impl OneWayEnds {
    /// Of an agent that brought nothing: what it sent before it was lost may have arrived.
    pub fn of_lost(case: &Case) -> Self {
        let all = vec![true; case.workloads.len()];
        Self { sends: all.clone(), receives: all }
    }
}

/// How wrong a latency of a workload may be whose sender and receiver are on different agents;
/// `None` where there are no such two, or all have one clock. `ends` are those of the agents.
pub(super) fn doubt(agents: &[AgentResult], ends: &[OneWayEnds], workload: usize) -> Option<ClockDoubt> {
    let all = || agents.iter().zip(ends);
    let senders = all().filter(|(_, e)| e.sends.get(workload) == Some(&true));
    let pairs = senders.flat_map(|(from, _)| {
        let receivers = all().filter(move |(to, e)| to.index != from.index && e.receives.get(workload) == Some(&true));
        receivers.map(move |(to, _)| from.one_way_bound(to))
    });
    // A bound that is not known is above all others.
    let widest = pairs.reduce(|a, b| Some(a?.max(b?)))?;
    (widest != Some(0)).then_some(ClockDoubt { bound_ns: widest })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::record::{ClockOffset, PeerClock};

    fn agent(index: u32, bound_ns: Option<u64>) -> AgentResult {
        let clock = ClockOffset { bound_ns, ..ClockOffset::default() };
        AgentResult { index, clock, ..AgentResult::default() }
    }

    fn ends(sends: bool, receives: bool) -> OneWayEnds {
        OneWayEnds { sends: vec![sends], receives: vec![receives] }
    }

    #[test]
    fn the_two_that_are_known_least_count_and_only_where_messages_go() {
        let agents = [agent(0, Some(10)), agent(1, Some(200)), agent(2, Some(3_000))];
        let with = |all: [(bool, bool); 3]| doubt(&agents, &all.map(|(s, r)| ends(s, r)), 0).map(|d| d.bound_ns);
        assert_eq!(with([(true, true); 3]), Some(Some(3_200)));
        assert_eq!(with([(true, false), (false, true), (false, false)]), Some(Some(210)));
        assert_eq!(with([(true, false), (true, true), (false, false)]), Some(Some(210)));
        assert_eq!(with([(false, false), (true, true), (false, false)]), None, "from one agent to itself");
        let mut unknown = agents.clone();
        unknown[2].clock.bound_ns = None;
        let doubt_of = |all: &[AgentResult]| doubt(all, &[ends(true, true), ends(true, true), ends(true, true)], 0);
        assert_eq!(doubt_of(&unknown), Some(ClockDoubt { bound_ns: None }));
        let one_clock = agents.clone().map(|a| AgentResult { clock: ClockOffset { same_as: Some(0), ..a.clock }, ..a });
        assert_eq!(doubt_of(&one_clock), None);
    }

    #[test]
    fn what_two_agents_found_themselves_counts_where_it_is_less() {
        let (mut a, b) = (agent(0, Some(500)), agent(1, Some(700)));
        let peer = |bound_ns| PeerClock { with: 1, exchanges: 9, bound_ns, apart_ns: None };
        let both = |a: &AgentResult| (a.one_way_bound(&b), b.one_way_bound(a));
        for (direct, bound) in [(Some(90), 90), (Some(5_000), 1_200), (None, 1_200)] {
            a.peers = vec![peer(direct)];
            assert_eq!(both(&a), (Some(bound), Some(bound)));
        }
    }

    proptest! {
        /// Whatever the clocks of two agents show within their bounds, what is recorded is the true
        /// latency, but for the bound that is stated.
        #[test]
        fn the_true_latency_is_within_the_stated_interval(
            offsets in prop::array::uniform2(-10i64.pow(15)..10i64.pow(15)),
            wrong in prop::array::uniform2((0u64..50_000_000, -1.0f64..=1.0)),
            sent in 2 * 10u64.pow(15)..3 * 10u64.pow(15), latency in 0u64..10u64.pow(10),
        ) {
            // What is reckoned with is wrong by a part of the bound.
            let shift = |i: usize| offsets[i] + (wrong[i].0 as f64 * wrong[i].1) as i64;
            let here = |there: u64, i: usize| there.wrapping_add_signed(-shift(i));
            let stamped = here(sent.wrapping_add_signed(offsets[0]), 0);
            let arrived = here((sent + latency).wrapping_add_signed(offsets[1]), 1);
            let recorded = i128::from(arrived) - i128::from(stamped);
            let agents = [agent(0, Some(wrong[0].0)), agent(1, Some(wrong[1].0))];
            let stated = doubt(&agents, &[ends(true, false), ends(false, true)], 0).map_or(0, |d| d.bound_ns.unwrap());
            prop_assert!((recorded - i128::from(latency)).unsigned_abs() <= u128::from(stated));
        }
    }
}
