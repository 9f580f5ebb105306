//! How a case is divided over agents, which are processes on one host or on many.
//!
//! # Design
//! The plan is divided, not the rate. The producers of a case are numbered, and producer `p` runs
//! at agent `p mod N`; consumers are numbered by group and member, and consumer `c` runs at agent
//! `c mod N`. Every agent is given the whole case, and takes its part of it: so what an agent owes
//! is known without asking it.
//!
//! - *Schedule.* Producer `p` of `P` sends the messages `k = p mod P` of the absolute schedule. `P`
//!   is raised to the next multiple of `N`: then agent `j` sends the messages `k = j mod N`, and
//!   all agents together the schedule of one host, to the message. Of a Poisson process each
//!   producer has an independent stream of rate/P from a derived seed; together they are the
//!   process.
//! - *Ledger.* What was sent and what was seen is kept by producer and sequence number, as on one
//!   host; the coordinator puts the sets of all agents side by side and closes the books once. What
//!   was lost between two agents is counted exactly.
//! - *Drain.* Each agent tells how many messages it has sent, had acknowledged and received. The
//!   coordinator adds them up, decides when the drain is over, and tells all.
//! - *Not raised.* Producers of a closed loop keep their number: more of them would be more load.
//! # Rejected
//! A part of the rate for each agent: the union is another schedule, with agents in step or out of
//! it by chance. Moving load away from an agent that is silent: what was asked for would change.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Case, Load, Plan};

/// The part of an agent: clients of these numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct AgentShare {
    /// Its number, from 0.
    pub index: u32,
    /// How many agents there are.
    pub of: u32,
}

impl AgentShare {
    /// Whether a client of this number, among those of its kind in a workload, runs here.
    pub fn has(&self, number: u32) -> bool {
        number % self.of.max(1) == self.index
    }

    /// Producers and consumers of a case that run here.
    pub fn clients(&self, case: &Case) -> (u32, u32) {
        let mine = |n: u32| (0..n).filter(|number| self.has(*number)).count() as u32;
        let each = case.workloads.iter().map(|w| w.topology);
        each.fold((0, 0), |(p, c), t| (p + mine(t.producers), c + mine(t.groups * t.members)))
    }
}

/// Divides a plan: producers of open loads are raised to a multiple of the number of agents.
///
/// # Errors
/// What agents cannot do yet, in words.
pub fn divide(plan: &mut Plan, agents: u32) -> Result<(), String> {
    if !plan.events.is_empty() {
        return Err("events are not done while agents run the load: leave out the `[[event]]`s or the agents".into());
    }
    for case in &mut plan.cases {
        divide_case(case, agents)?;
    }
    Ok(())
}

fn divide_case(case: &mut Case, agents: u32) -> Result<(), String> {
    for w in &mut case.workloads {
        let d = &w.delivery;
        let lacks = [
            (d.backlog > 0, "a backlog that is read again"),
            (d.keep.is_some(), "a look at what is kept"),
            (d.history > 0, "a key-value store"),
            (w.intruders > 0, "intruders"),
            (w.idle_connections > 0, "idle connections"),
            (matches!(w.load, Load::Unthrottled { .. }), "an unthrottled load, whose window is of one process"),
        ];
        if let Some((_, what)) = lacks.iter().find(|(there, _)| *there) {
            return Err(format!("workload `{}` has {what}: agents cannot do that yet, run it without them", w.name));
        }
        if matches!(w.load, Load::Open { .. }) {
            w.topology.producers = w.topology.producers.div_ceil(agents.max(1)) * agents.max(1);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn each_client_is_at_one_agent(of in 1u32..40, number in 0u32..10_000) {
            let at: Vec<u32> = (0..of).filter(|index| AgentShare { index: *index, of }.has(number)).collect();
            prop_assert_eq!(at, [number % of]);
        }
    }
}
