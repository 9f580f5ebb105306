//! How the parts of all agents become one trial, and what an agent owed that brought nothing.

use crate::load::schedule::ScheduleShare;
use crate::measure::process::Usage;
use crate::plan::{AgentShare, Case, Load, Workload};
use crate::record::AgentState;

use super::accounts::{AgentAccounts, AgentHistograms, AgentReturn};
use super::one_way::{OneWayEnds, doubt};
use super::pieces::schedule;
use super::produce::Sent;
use super::raw::RawTrial;
use super::send_state::SendState;
use super::worker::{block, key_chooser};

/// Adds the parts of all agents to a trial that a coordinator has conducted. What an agent owed
/// that brought nothing is due and not sent; unless no more than `may_lose` are lost: then the
/// books are those of the others, and what was owed stands with the agent alone.
pub(super) fn join_all(raw: &mut RawTrial, case: &Case, seed: u64, all: Vec<AgentReturn>, may_lose: u32) {
    raw.generator = Usage::default();
    let (mut ends, mut histograms) = (Vec::new(), AgentHistograms::default());
    let brought = |r: &&AgentReturn| r.accounts.as_ref().is_some_and(|accounts| accounts.fits(case));
    let lost = all.len() - all.iter().filter(brought).count();
    let excused = lost <= may_lose as usize;
    raw.agent_lost = lost > 0;
    let of = |w: &Workload| key_chooser(w.delivery.keys, seed).filter(|_| w.delivery.history > 0);
    let keys: Vec<_> = case.workloads.iter().map(of).collect();
    for AgentReturn { share, mut agent, shift, accounts } in all {
        (agent.producers, agent.consumers) = share.clients(case);
        let accounts = accounts.filter(|accounts| accounts.fits(case));
        ends.push(accounts.as_ref().map_or_else(|| OneWayEnds::of_lost(case), AgentAccounts::ends));
        match accounts {
            Some(accounts) => {
                accounts.describe(&mut agent);
                histograms.extend(accounts.join(raw, shift, &keys));
            }
            None => {
                let listening = agent.consumers > 0;
                if let AgentState::Lost { allowed, .. } = &mut agent.state {
                    *allowed = excused;
                }
                for (workload, sent) in owed(case, &share, seed) {
                    agent.scheduled += sent.1.scheduled;
                    if !excused {
                        raw.sent[workload].push(sent);
                    }
                }
                // What its consumers have had, nobody knows: nothing is said to be lost.
                raw.abandoned |= listening;
            }
        }
        raw.agents.push(agent);
    }
    histograms.add_to(raw);
    raw.log.sort_by_key(|(at, ..)| *at);
    raw.one_way = (0..case.workloads.len()).map(|w| doubt(&raw.agents, &ends, w)).collect();
}

/// What the plan asks of the producers of an agent in the measured phase: due, and not sent.
fn owed(case: &Case, share: &AgentShare, seed: u64) -> Vec<(usize, (u32, Sent))> {
    let (warmup, whole) = (case.phases.warmup.0, case.phases.warmup.0 + case.phases.measure.0);
    let mut all = Vec::new();
    for (workload, w) in case.workloads.iter().enumerate() {
        let Load::Open { arrivals, profile } = &w.load else { continue };
        for index in (0..w.topology.producers).filter(|index| share.publishes(w, *index)) {
            let mut state = SendState::default();
            let part = ScheduleShare { index, of: w.topology.producers };
            for due in schedule((*arrivals, profile), warmup, seed, part).take_while(|due| *due < whole) {
                state.due(due, warmup, block(&case.phases));
            }
            all.push((workload, (index, state.sent)));
        }
    }
    all
}

#[cfg(test)]
pub mod tests {
    use std::collections::BTreeSet;
    use std::path::Path;

    use proptest::prelude::*;

    use super::*;
    use crate::engine::Register;
    use crate::plan::{AgentRoles, AgentsPlan, LabelledAgents, divide};
    use crate::scenario::{Overrides, parse};
    use crate::units::Nanos;

    /// A plan of one open workload.
    pub fn plan(producers: u32, rate: u32, arrivals: &str) -> crate::plan::Plan {
        let text = format!(
            "name = \"t\"\nquestion = \"?\"\n[[system]]\ndriver = \"nats\"\n[[workload]]\npattern = \"m-to-n\"\n\
             producers = {producers}\nconsumers = 3\nload.rate = \"{rate}/s\"\nload.arrivals = \"{arrivals}\"\n\
             [run]\nwarmup = \"100ms\"\nduration = \"400ms\"\ntrials = 1\n"
        );
        parse(Path::new("t.toml"), text, &Overrides::default(), &Register::built_in().types()).unwrap().plan
    }

    /// The plan, divided over these agents.
    pub fn divided(plan: &crate::plan::Plan, agents: AgentsPlan) -> crate::plan::Plan {
        let mut divided = crate::plan::Plan { agents: Some(agents), ..plan.clone() };
        divide(&mut divided).unwrap();
        divided
    }

    /// The instants at which messages of these producers are due in the whole trial.
    fn due(case: &Case, seed: u64, producers: impl Iterator<Item = u32>) -> Vec<Nanos> {
        let w = &case.workloads[0];
        let Load::Open { arrivals, profile } = &w.load else { unreachable!("an open load") };
        let whole = case.phases.warmup.0 + case.phases.measure.0;
        let of = |index| {
            let part = ScheduleShare { index, of: w.topology.producers };
            schedule((*arrivals, profile), case.phases.warmup.0, seed, part).take_while(|at| *at < whole)
        };
        let mut all: Vec<Nanos> = producers.flat_map(of).collect();
        all.sort_unstable();
        all
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]
        /// Agents together send the schedule of one host, to the message; each has the messages
        /// whose number leaves its remainder.
        #[test]
        fn the_parts_of_all_agents_are_the_schedule_of_one_host(
            agents in 1u32..9, producers in 1u32..7, rate in 500u32..20_000, seed: u64,
        ) {
            let alone = plan(producers, rate, "constant");
            let layout = AgentsPlan::any(agents);
            let divided = divided(&alone, layout.clone());
            let case = &divided.cases[0];
            let whole = due(&alone.cases[0], seed, 0..producers);
            let of = |index| {
                let (share, w) = (layout.share(index), &case.workloads[0]);
                due(case, seed, (0..w.topology.producers).filter(move |p| share.publishes(w, *p)))
            };
            let parts: Vec<Vec<Nanos>> = (0..agents).map(of).collect();
            for (index, part) in parts.iter().enumerate() {
                let each: Vec<Nanos> = whole.iter().copied().skip(index).step_by(agents as usize).collect();
                prop_assert_eq!(part, &each, "agent {} of {}", index, agents);
            }
            let mut union = parts.concat();
            union.sort_unstable();
            prop_assert_eq!(&union, &whole);
            // What each owes is what it would have counted.
            let owed: u64 = (0..agents)
                .flat_map(|index| owed(case, &layout.share(index), seed))
                .map(|(_, (_, sent))| sent.scheduled)
                .sum();
            let measured = whole.iter().filter(|at| **at >= case.phases.warmup.0).count() as u64;
            prop_assert_eq!(owed, measured);
        }

        /// Where some agents alone have producers, they together send the schedule of one host, and
        /// the others owe nothing.
        #[test]
        fn the_schedule_is_divided_over_those_that_publish(
            publish in 1u32..6, consume in 1u32..6, producers in 1u32..5, rate in 500u32..10_000, seed: u64,
        ) {
            let mut alone = plan(producers, rate, "constant");
            let whole = due(&alone.cases[0], seed, 0..producers);
            let of = |label: &str, agents| LabelledAgents { label: label.into(), agents };
            let labels = vec![of("zone=a", consume), of("zone=b", publish)];
            let layout = AgentsPlan { count: publish + consume, labels, ..AgentsPlan::any(0) };
            alone.cases[0].workloads[0].agents =
                AgentRoles { publish: Some("zone=b".into()), consume: Some("zone=a".into()) };
            let divided = divided(&alone, layout.clone());
            let (case, w) = (&divided.cases[0], &divided.cases[0].workloads[0]);
            for index in 0..layout.count {
                let share = layout.share(index);
                let part = due(case, seed, (0..w.topology.producers).filter(|p| share.publishes(w, *p)));
                let (skip, there) = (index.wrapping_sub(consume) as usize, index >= consume);
                let each: Vec<Nanos> =
                    whole.iter().copied().skip(if there { skip } else { whole.len() }).step_by(publish as usize).collect();
                prop_assert_eq!(&part, &each, "agent {}", index);
                let (produces, consumes) = share.clients(case);
                prop_assert!(if there { produces > 0 && consumes == 0 } else { produces == 0 }, "agent {}", index);
                prop_assert_eq!(owed(case, &share, seed).is_empty(), !there);
            }
            let consumers: u32 = (0..layout.count).map(|index| layout.share(index).clients(case).1).sum();
            prop_assert_eq!(consumers, w.topology.consumers());
        }

        /// Of a Poisson process the parts are independent streams: those of the case with as many
        /// producers on one host.
        #[test]
        fn poisson_parts_are_streams_of_their_own(agents in 2u32..6, seed: u64) {
            let divided = divided(&plan(1, 5_000, "poisson"), AgentsPlan::any(agents));
            let case = &divided.cases[0];
            prop_assert_eq!(case.workloads[0].topology.producers, agents);
            let parts: Vec<Vec<Nanos>> = (0..agents).map(|p| due(case, seed, p..p + 1)).collect();
            let distinct: BTreeSet<&Vec<Nanos>> = parts.iter().collect();
            prop_assert_eq!(distinct.len(), agents as usize);
            let mut union = parts.concat();
            union.sort_unstable();
            prop_assert_eq!(union.len(), due(case, seed, 0..agents).len());
            // 2,500 messages are expected; six standard deviations are 300.
            prop_assert!((2_200..2_800).contains(&union.len()), "{} messages", union.len());
        }
    }
}
