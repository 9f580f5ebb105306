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
//! - *Roles.* A scenario may say which agents run producers and which run consumers, by a label,
//!   and how many agents have it. Numbers of agents are laid out by label, so that the agents of a
//!   role are a range of them, and clients are divided over that range. How many have a label
//!   stands in the plan: it is not left to who happens to be there, because the number of producers
//!   depends on it.
//! # Rejected
//! A part of the rate for each agent: the union is another schedule, with agents in step or out of
//! it by chance. Moving load away from an agent that is silent: what was asked for would change.
//! Taking whoever has a label, however many: the same scenario would be another load each time.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::problem::Problem;
use super::{Case, Load, Plan, Workload};

/// The agents that run the load of a plan.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub struct AgentsPlan {
    /// How many there are.
    pub count: u32,
    /// So many of them may be lost in the whole run before a trial without them is INVALID.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub may_lose: u32,
    /// How many have a label, in the order of their numbers; those after them need none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub labels: Vec<LabelledAgents>,
    /// Where they are met, where the scenario says it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub control: Option<String>,
}

fn is_zero(n: &u32) -> bool {
    *n == 0
}

impl AgentsPlan {
    /// So many agents of any kind.
    pub fn any(count: u32) -> Self {
        Self { count, may_lose: 0, labels: Vec::new(), control: None }
    }

    /// The part of one of them.
    pub fn share(&self, index: u32) -> AgentShare {
        AgentShare { index, of: self.count, labels: self.labels.clone() }
    }

    /// The label that an agent must have to be one of this number.
    pub fn label(&self, index: u32) -> Option<&str> {
        let mut first = 0;
        self.labels.iter().find_map(|l| {
            first += l.agents;
            (index < first).then_some(l.label.as_str())
        })
    }
}

/// Agents with a label.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct LabelledAgents {
    /// `zone=a`.
    pub label: String,
    pub agents: u32,
}

/// The labels of the agents that run the clients of a workload; any agent where there is none.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", default)]
pub struct AgentRoles {
    /// Of its producers (requesters, for request/reply).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub publish: Option<String>,
    /// Of its consumers (responders).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub consume: Option<String>,
}

impl AgentRoles {
    /// Whether any agent is fit for any client.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// The part of an agent: clients of these numbers.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct AgentShare {
    /// Its number, from 0.
    pub index: u32,
    /// How many agents there are.
    pub of: u32,
    /// How many of them have a label, in the order of their numbers.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub labels: Vec<LabelledAgents>,
}

impl AgentShare {
    /// The numbers of the agents with a label: the first, and how many. None: all.
    fn range(&self, label: Option<&str>) -> (u32, u32) {
        let Some(label) = label else { return (0, self.of) };
        let mut first = 0;
        for labelled in &self.labels {
            if labelled.label == label {
                return (first, labelled.agents);
            }
            first += labelled.agents;
        }
        (first, 0)
    }

    /// Whether a client of this number, among those of its kind in a workload, runs here, where
    /// agents with this label run that kind.
    pub fn has(&self, label: Option<&str>, number: u32) -> bool {
        let (first, agents) = self.range(label);
        agents > 0 && first + number % agents == self.index
    }

    /// Whether a producer runs here.
    pub fn publishes(&self, w: &Workload, number: u32) -> bool {
        self.has(w.agents.publish.as_deref(), number)
    }

    /// Whether a consumer runs here; they are numbered by group and member.
    pub fn consumes(&self, w: &Workload, number: u32) -> bool {
        self.has(w.agents.consume.as_deref(), number)
    }

    /// Producers and consumers of a case that run here.
    pub fn clients(&self, case: &Case) -> (u32, u32) {
        let count = |n: u32, mine: &dyn Fn(u32) -> bool| (0..n).filter(|number| mine(*number)).count() as u32;
        case.workloads.iter().fold((0, 0), |(p, c), w| {
            let t = w.topology;
            (p + count(t.producers, &|n| self.publishes(w, n)), c + count(t.consumers(), &|n| self.consumes(w, n)))
        })
    }
}

/// Divides a plan over its agents: producers of open loads are raised to a multiple of the number
/// of agents that run them. Nothing happens to a plan without agents.
///
/// # Errors
/// What agents cannot do yet.
pub fn divide(plan: &mut Plan) -> Result<(), Problem> {
    let Some(agents) = plan.agents.clone() else { return Ok(()) };
    for (number, event) in plan.events.iter().enumerate() {
        if !event.action.of_network() {
            continue;
        }
        // The run moves into a network namespace, where no agent and no control server is.
        let name = event.action.name();
        let message =
            format!("`{name}` puts the systems into a network of this run's own, which agents are outside of");
        return Err(Problem::new(format!("event.{number}.action"), message)
            .hint("leave it out (`pause` stops a system without it), or run it without agents: --agents 0")
            .beside("agents"));
    }
    for case in &mut plan.cases {
        for (number, w) in case.workloads.iter_mut().enumerate() {
            divide_workload(number, w, &agents)?;
        }
    }
    Ok(())
}

fn divide_workload(number: usize, w: &mut Workload, agents: &AgentsPlan) -> Result<(), Problem> {
    if matches!(w.load, Load::Unthrottled { window } if window > 0) {
        // Who sends waits for what arrives at other agents, and would learn of it a second later.
        let message = format!(
            "the window of workload `{}` is of messages that arrive where they were sent: agents have none",
            w.name
        );
        return Err(Problem::new(format!("workload.{number}.load.window"), message)
            .hint("write a `rate`, or leave the window out, or run it without agents: --agents 0")
            .beside("agents"));
    }
    if matches!(w.load, Load::Open { .. }) {
        let (_, publishers) = agents.share(0).range(w.agents.publish.as_deref());
        w.topology.producers = w.topology.producers.div_ceil(publishers.max(1)) * publishers.max(1);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Agents of these labels, and so many without.
    fn agents(labelled: &[u32], others: u32) -> AgentsPlan {
        let labels: Vec<LabelledAgents> = labelled
            .iter()
            .enumerate()
            .map(|(n, agents)| LabelledAgents { label: format!("zone={n}"), agents: *agents })
            .collect();
        AgentsPlan { count: labelled.iter().sum::<u32>() + others, labels, ..AgentsPlan::any(0) }
    }

    proptest! {
        #[test]
        fn each_client_is_at_one_agent(of in 1u32..40, number in 0u32..10_000) {
            let plan = AgentsPlan::any(of);
            let at: Vec<u32> = (0..of).filter(|index| plan.share(*index).has(None, number)).collect();
            prop_assert_eq!(at, [number % of]);
        }

        /// A client with a label is at one agent, which has that label; and each agent of a label
        /// has as many of its clients as every other, but for one.
        #[test]
        fn a_client_is_at_one_agent_of_its_role(
            labelled in prop::collection::vec(1u32..6, 1..4), others in 0u32..4, clients in 1u32..200, role: prop::sample::Index,
        ) {
            let plan = agents(&labelled, others);
            let label = plan.labels[role.index(labelled.len())].label.clone();
            let mut each = vec![0u32; plan.count as usize];
            for number in 0..clients {
                let at: Vec<u32> = (0..plan.count).filter(|i| plan.share(*i).has(Some(&label), number)).collect();
                prop_assert_eq!(at.len(), 1, "client {} of {}", number, clients);
                prop_assert_eq!(plan.label(at[0]), Some(label.as_str()));
                each[at[0] as usize] += 1;
            }
            let of_role = || (0..plan.count).filter(|i| plan.label(*i) == Some(&label)).map(|i| each[i as usize]);
            prop_assert!(of_role().max().unwrap() - of_role().min().unwrap() <= 1, "{:?}", each);
            let without = (0..plan.count).filter(|i| plan.label(*i).is_none()).count() as u32;
            prop_assert_eq!(without, others);
        }
    }

    #[test]
    fn a_label_that_nobody_has_runs_nothing() {
        let plan = agents(&[2], 1);
        assert!((0..3).all(|i| !plan.share(i).has(Some("zone=9"), 0)));
    }
}
