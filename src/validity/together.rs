//! The checks of a trial whose load was run by agents: V18 to V20, and those of each agent's part
//! alone (V1, V6, V15): a figure of all agents together hides the one that was not fit.

use super::outcome::{check, grade};
use crate::plan::Case;
use crate::record::{AgentResult, AgentState, CLOCK_SHARE, Check, Status, Trial};
use crate::units::Nanos;

/// A pause of an agent's process that no scheduler on a fit host makes, ns.
const HELD: Nanos = 50_000_000;

/// Makes the checks, where there are agents.
pub(super) fn judge(trial: &mut Trial, case: &Case) {
    if trial.agents.is_empty() {
        return;
    }
    let mut all = vec![present(&trial.agents)];
    all.extend(together(&trial.agents, case));
    all.extend(clocks(trial));
    for agent in &mut trial.agents {
        agent.validity = alone(agent, &trial.pacing);
        let named = |check: &Check| Check { name: format!("{} (agent {})", check.name, agent.name), ..check.clone() };
        all.extend(agent.validity.iter().filter(|check| check.status > Status::Ok).map(named));
    }
    trial.validity.extend(all);
}

/// V19: whether the load was that of the plan: each agent has delivered its part.
fn present(agents: &[AgentResult]) -> Check {
    let of = |agents: &mut dyn Iterator<Item = &AgentResult>| agents.map(|a| a.scheduled).sum::<u64>();
    let whole = of(&mut agents.iter());
    let offered = of(&mut agents.iter().filter(|a| a.delivered()));
    let named = |which: &dyn Fn(&AgentState) -> bool| -> Vec<&str> {
        agents.iter().filter(|a| which(&a.state)).map(|a| a.name.as_str()).collect()
    };
    let lost = named(&|s| matches!(s, AgentState::Lost { .. }));
    let allowed = named(&|s| matches!(s, AgentState::Lost { allowed: true, .. })).len() == lost.len();
    let silent = named(&|s| matches!(s, AgentState::Silent { .. }));
    // What an agent owes of a load without a schedule nobody knows.
    let share = match whole {
        0 => "less than the plan offered".to_owned(),
        _ => format!("{:.1} % of the plan offered", 100.0 * offered as f64 / whole as f64),
    };
    let (status, observed) = match (lost.is_empty(), silent.is_empty()) {
        (true, true) => {
            let took = agents.iter().filter_map(|a| Some(format!("{} in place of {}", a.name, a.replaces.as_ref()?)));
            let took: String = took.map(|one| format!("; {one}, which was lost")).collect();
            (Status::Ok, format!("{} agents delivered what they measured{took}", agents.len()))
        }
        (true, false) => (Status::Warn, format!("not heard of for a while, and then again: {}", silent.join(", "))),
        (false, _) => {
            let n = agents.len();
            (
                if allowed { Status::Warn } else { Status::Invalid },
                format!("{share}: of {n} agents nothing came from {}", lost.join(", ")),
            )
        }
    };
    check(
        "V19",
        "all agents",
        status,
        observed,
        "WARN when an agent was silent for 3 s, or as many did not deliver as `may-lose` allows, INVALID when more did not",
        match (lost.is_empty(), allowed) {
            (true, _) => {
                "an agent, or its way to the control server, stood still for a while: see its lag and its pauses"
            }
            (false, true) => {
                "the load was less than the plan asked for, and the books are those of the other agents; what the lost \
                 ones owed stands with them, and no other agent took it over"
            }
            (false, false) => {
                "the load was less than the plan asked for; the figures are those of the other agents. What the lost ones \
                 owed is in `scheduled`, and no other agent took it over"
            }
        },
    )
}

/// V18: whether all began at the same instant, as far as their clocks tell.
fn together(agents: &[AgentResult], case: &Case) -> Option<Check> {
    let began: Vec<&AgentResult> = agents.iter().filter(|a| a.late_start_ns.is_some() && a.producers > 0).collect();
    if began.len() < 2 {
        return None;
    }
    let late = || began.iter().filter_map(|a| a.late_start_ns);
    let spread = late().max().unwrap_or(0) - late().min().unwrap_or(0);
    let mut bounds: Vec<Nanos> = began.iter().filter_map(|a| a.clock.bound_ns).collect();
    bounds.sort_unstable();
    let known = bounds.len() == began.len();
    // Two clocks may be wrong in opposite directions.
    let bound: Nanos = bounds.iter().rev().take(2).sum();
    let most = (case.phases.measure.0 / 100).min(case.phases.interval.0);
    let millis = |ns: Nanos| ns as f64 / 1e6;
    Some(check(
        "V18",
        "agents start together",
        if !known || spread + bound > most { Status::Warn } else { Status::Ok },
        match known {
            true => format!("began within {:.3} ms of each other, known to {:.3} ms", millis(spread), millis(bound)),
            false => format!(
                "began within {:.3} ms of each other by their own clocks, whose offset is not known",
                millis(spread)
            ),
        },
        "WARN above 1 % of the measured phase, or one interval",
        "agents began at different times: the first and the last moments of the trial are not the load of the plan",
    ))
}

/// V20: how much of a latency from one agent to another is the error of their clocks, and whether
/// what is known of the clocks agrees with itself.
fn clocks(trial: &Trial) -> Option<Check> {
    let agents = &trial.agents;
    let stepped: Vec<&str> = agents.iter().filter(|a| a.clock.stepped_ns.is_some()).map(|a| a.name.as_str()).collect();
    let apart = contradictions(agents);
    // From one agent to another are one-way latencies alone.
    let one_way = || trial.workloads.iter().filter_map(|w| w.latency.get("e2e"));
    one_way().next()?;
    let unknown = one_way().any(|l| l.clocks.is_some_and(|doubt| doubt.bound_ns.is_none()));
    let shares = one_way().filter_map(|l| Some((l.clocks?.bound_ns?, l.at(0.5)?.value_ns?)));
    let share = |(error, p50): &(Nanos, Nanos)| *error as f64 / (*p50).max(1) as f64;
    let worst = shares.max_by(|a, b| share(a).total_cmp(&share(b)));
    let (status, observed) = match () {
        () if !stepped.is_empty() => {
            (Status::Invalid, format!("a clock stepped, or changed its rate: {}", stepped.join(", ")))
        }
        () if !apart.is_empty() => (Status::Invalid, apart.join("; ")),
        () if unknown => (Status::Warn, "the offset of a clock is not known".to_owned()),
        () => match worst {
            None => (Status::Ok, "each message is timed by one clock".to_owned()),
            Some(worst) => {
                let (millis, share) = (worst.0 as f64 / 1e6, share(&worst));
                (
                    grade(share, CLOCK_SHARE, f64::INFINITY),
                    format!("off by {millis:.3} ms at most, {:.1} % of the p50", 100.0 * share),
                )
            }
        },
    };
    Some(check(
        "V20",
        "clocks of agents",
        status,
        observed,
        "WARN above 5 % of the p50 of one-way latencies, INVALID when a clock stepped, or three clocks contradict each other",
        "latencies from one agent to another have this error, which no number of samples makes smaller; round trips have none",
    ))
}

/// Which agents found another difference of their clocks than the coordinator did: of three bounds
/// that hold, none contradicts the two others.
fn contradictions(agents: &[AgentResult]) -> Vec<String> {
    let name = |index: u32| agents.iter().find(|a| a.index == index).map_or("?", |a| a.name.as_str());
    let each = agents.iter().flat_map(|a| a.peers.iter().map(move |p| (a, p)));
    let open = each.filter_map(|(a, p)| {
        let millis = p.apart_ns? as f64 / 1e6;
        let other = name(p.with);
        Some(format!("{} and {other} differ by {millis:.3} ms from what the coordinator found of both", a.name))
    });
    open.collect()
}

/// The checks of one agent's part.
fn alone(agent: &AgentResult, pacing: &str) -> Vec<Check> {
    if !agent.delivered() {
        return Vec::new();
    }
    let mut all = Vec::new();
    if agent.scheduled > 0 {
        let missing = 1.0 - agent.sent as f64 / agent.scheduled as f64;
        all.push(check(
            "V1",
            "offered rate achieved",
            grade(missing, 0.001, 0.01),
            format!("{:.2} % of {} sent", 100.0 * (1.0 - missing), agent.scheduled),
            "WARN below 99.9 %, INVALID below 99 %",
            "this agent did not send its part of the schedule: its host is too slow, or the system took no more from it",
        ));
    }
    let busy = if pacing == "spin" { Status::Ok } else { grade(agent.busiest, 0.80, 0.95) };
    all.push(check(
        "V6",
        "generator CPU",
        busy.max(grade(agent.waiting, 0.005, 0.02).min(Status::Warn)),
        format!(
            "busiest thread {:.0} %, waited for a core {:.2} % of the time",
            100.0 * agent.busiest,
            100.0 * agent.waiting
        ),
        "WARN above 80 % busy or 0.5 % waiting, INVALID above 95 % busy",
        "this agent competes for cores: its own lateness is in the figures",
    ));
    if let (Some(pause), Some(lag)) = (agent.pause_ns, agent.lag_p99_ns) {
        let held = pause >= HELD && 2 * lag >= pause;
        all.push(check(
            "V15",
            "generator held still",
            if held { Status::Invalid } else { Status::Ok },
            format!("longest pause {:.2} ms, p99 of lag {:.2} ms", pause as f64 / 1e6, lag as f64 / 1e6),
            "INVALID when a pause of 50 ms or more is in the p99 of its lag",
            "the host of this agent held it still: the tail is its own and not the system's",
        ));
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::{ClockDoubt, ClockOffset, PeerClock};

    fn agents() -> Vec<AgentResult> {
        let of = |index: u32| AgentResult {
            name: format!("agent-{index}"),
            index,
            clock: ClockOffset { offset_ns: 5, bound_ns: Some(100_000), exchanges: 20, ..ClockOffset::default() },
            producers: 1,
            scheduled: 1_000,
            sent: 1_000,
            late_start_ns: Some(200_000 + u64::from(index) * 50_000),
            ..AgentResult::default()
        };
        (0..8).map(of).collect()
    }

    #[test]
    fn an_agent_that_brought_nothing_makes_the_load_another_one() {
        assert_eq!(present(&agents()).status, Status::Ok);
        let mut silent = agents();
        silent[3].state = AgentState::Silent { longest_s: 4.0 };
        assert_eq!(present(&silent).status, Status::Warn);
        let mut lost = agents();
        lost[3].state = AgentState::Lost { silent_s: 4.0, allowed: false };
        let it = present(&lost);
        assert_eq!(it.status, Status::Invalid);
        assert!(it.observed.starts_with("87.5 % of the plan offered") && it.observed.ends_with("agent-3"), "{it:?}");
        lost[3].state = AgentState::Lost { silent_s: 4.0, allowed: true };
        let it = present(&lost);
        assert_eq!((it.status, it.observed.starts_with("87.5 % of the plan offered")), (Status::Warn, true));
    }

    #[test]
    fn what_clocks_differ_by_is_in_one_way_latencies() {
        let mut trial = crate::record::sample::record().trials.swap_remove(0);
        let p50 = trial.workloads[0].latency["e2e"].at(0.5).unwrap().value_ns.unwrap();
        let mut with = |clocks: Option<ClockDoubt>, stepped_ns: Option<Nanos>, apart_ns: Option<Nanos>| {
            trial.agents = agents();
            trial.agents[1].clock.stepped_ns = stepped_ns;
            trial.agents[1].peers = vec![PeerClock { with: 2, exchanges: 9, bound_ns: Some(5), apart_ns }];
            trial.workloads[0].latency.get_mut("e2e").unwrap().clocks = clocks;
            clocks_of(&trial)
        };
        let bound = |ns| Some(ClockDoubt { bound_ns: Some(ns) });
        assert_eq!(with(None, None, None).0, Status::Ok);
        assert_eq!(with(bound(p50 / 30), None, None).0, Status::Ok);
        assert_eq!(with(bound(p50 / 10), None, None).0, Status::Warn);
        assert_eq!(with(Some(ClockDoubt { bound_ns: None }), None, None).0, Status::Warn);
        assert_eq!(with(None, Some(1_000_000), None).0, Status::Invalid);
        let (status, words) = with(bound(p50 / 30), None, Some(2_500_000));
        assert_eq!(status, Status::Invalid);
        assert_eq!(words, "agent-1 and agent-2 differ by 2.500 ms from what the coordinator found of both");
    }

    fn clocks_of(trial: &Trial) -> (Status, String) {
        clocks(trial).map(|c| (c.status, c.observed)).unwrap()
    }

    #[test]
    fn agents_that_begin_apart_are_seen_with_the_error_of_their_clocks() {
        let record = crate::record::sample::record();
        let case = &record.plan.cases[0];
        let most = (case.phases.measure.0 / 100).min(case.phases.interval.0);
        let with = |late: Nanos, bound: Option<Nanos>| {
            let mut all = agents();
            all.iter_mut().for_each(|a| (a.late_start_ns, a.clock.bound_ns) = (Some(1_000), Some(0)));
            (all[2].late_start_ns, all[2].clock.bound_ns) = (Some(1_000 + late), bound);
            together(&all, case).map(|c| c.status)
        };
        assert_eq!(with(most / 2, Some(most / 4)), Some(Status::Ok));
        assert_eq!(with(most / 2, Some(most)), Some(Status::Warn));
        assert_eq!(with(2 * most, Some(0)), Some(Status::Warn));
        assert_eq!(with(0, None), Some(Status::Warn));
    }

    #[test]
    fn one_agent_that_is_not_fit_is_seen_among_many() {
        let with = |f: &dyn Fn(&mut AgentResult)| {
            let mut agent = agents().swap_remove(0);
            f(&mut agent);
            alone(&agent, "sleep").into_iter().map(|c| c.status).max()
        };
        assert_eq!(with(&|_| ()), Some(Status::Ok));
        assert_eq!(with(&|a| a.sent = 980), Some(Status::Invalid));
        assert_eq!(with(&|a| a.busiest = 0.97), Some(Status::Invalid));
        assert_eq!(with(&|a| (a.pause_ns, a.lag_p99_ns) = (Some(60_000_000), Some(40_000_000))), Some(Status::Invalid));
        assert_eq!(with(&|a| (a.pause_ns, a.lag_p99_ns) = (Some(60_000_000), Some(1_000))), Some(Status::Ok));
    }
}
