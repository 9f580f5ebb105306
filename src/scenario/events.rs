//! The `[[event]]` entries of a scenario: what is to be done while it is measured, when, and to
//! whom.

use std::collections::BTreeSet;

use super::file::{EventTable, ScenarioFile};
use crate::plan::problem::{Problem, Problems};
use crate::plan::{
    Action, BringUp, Case, ClusterRole, NodeChoice, PlannedEvent, Repeat, SystemSpec, SystemType, SystemTypes,
};
use crate::units::Span;

/// From the time that one repetition is undone until the next is due, at least: to see that the
/// cluster has settled takes a second.
const REST: Span = Span::secs(2);

/// The events by time. Those of a smoke test are as near to each other as they must.
pub(super) fn events(
    file: &ScenarioFile,
    systems: &[SystemSpec],
    types: &SystemTypes,
    quick: bool,
    problems: &mut Problems,
) -> Vec<PlannedEvent> {
    let mut events = Vec::new();
    for (i, e) in file.event.iter().enumerate() {
        let at = format!("event.{i}");
        whom(e, &at, problems);
        repeats(e, &at, quick, problems);
        let repeat = e.every.map(|every| Repeat { every, count: e.count.unwrap_or(1) });
        let event = PlannedEvent {
            at: e.at,
            action: e.action,
            node: of_role(e),
            alone: e.action.of_network() && e.node.is_some(),
            workload: e.workload.clone(),
            consumer: e.consumer,
            qdisc: e.qdisc.clone(),
            repeat,
            within: e.within,
            lasts: e.lasts,
        };
        within_run(&event, &at, file.run.duration, problems);
        events.push(event);
    }
    of_launched(&events, systems, types, problems);
    isolated(&events, systems, types, problems);
    for (i, e) in file.event.iter().enumerate() {
        if e.action == Action::Power {
            powered(&format!("event.{i}.action"), systems, types, problems);
        }
        if let NodeChoice::Role(role) = of_role(e) {
            played(role, &format!("event.{i}.node"), systems, types, problems);
        }
    }
    events.sort_by_key(|e| e.at);
    events
}

/// The nodes of an event; some actions are always about the same ones.
fn of_role(e: &EventTable) -> NodeChoice {
    match e.action {
        Action::Transfer => NodeChoice::Role(ClusterRole::Leader),
        Action::RollingRestart => NodeChoice::Role(ClusterRole::All),
        _ => e.node.unwrap_or(NodeChoice::Number(0)),
    }
}

/// Whether it says to whom it is done, and no more.
fn whom(e: &EventTable, at: &str, problems: &mut Problems) {
    let (name, key) = (e.action.name(), |key: &str| format!("{at}.{key}"));
    match (e.action == Action::Shape, &e.qdisc) {
        (true, None) => problems.add(
            Problem::new(at, "it does not say how the network is shaped")
                .hint("write a queueing discipline: qdisc = \"netem delay 10ms loss 1%\""),
        ),
        (false, Some(_)) => problems.add(
            Problem::new(key("qdisc"), "only `shape` has one").hint("write action = \"shape\", or leave qdisc out"),
        ),
        _ => {}
    }
    match (e.action.of_consumer(), e.consumer) {
        (true, None) => problems.add(
            Problem::new(at, "it does not say which consumer")
                .hint("write consumer = 0 for the first member of the first group"),
        ),
        (false, Some(_)) => problems.add(
            Problem::new(key("consumer"), format!("`{name}` is done to no consumer"))
                .hint("leave it out, or write action = \"consumer-leave\" or the like"),
        ),
        _ => {}
    }
    let always = of_role(e);
    if e.node.is_some_and(|node| node != always) {
        let whom = always.role().map_or("", ClusterRole::name);
        problems.add(Problem::new(key("node"), format!("`{name}` is always about: {whom}")).hint("leave it out"));
    }
    let of_nodes = e.action.of_process() || e.action.of_network();
    if e.node.is_some() && !of_nodes {
        problems.add(Problem::new(key("node"), format!("`{name}` is done to no node")).hint("leave it out"));
    }
    if matches!(e.action, Action::Resume | Action::Mend)
        && e.node.and_then(NodeChoice::role).is_some_and(|role| role != ClusterRole::All)
    {
        problems.add(
            Problem::new(key("node"), "who stands still, or is cut off, has no role")
                .hint("write `for` with the fault: it is undone on the same node"),
        );
    }
    if e.workload.is_some() && !always.role().is_some_and(ClusterRole::of_workload) {
        problems.add(
            Problem::new(key("workload"), "only a leader and a follower are of a workload")
                .hint("write node = \"leader\", or leave it out"),
        );
    }
}

/// Whether the times of an event fit to each other.
fn repeats(e: &EventTable, at: &str, quick: bool, problems: &mut Problems) {
    let (name, key) = (e.action.name(), |key: &str| format!("{at}.{key}"));
    if e.lasts.is_some() && e.action.undone_by().is_none() && e.action != Action::ProducerKill {
        problems.add(
            Problem::new(key("for"), format!("`{name}` is not undone after a while"))
                .hint("it is for pause, kill, terminate, cut, shape and producer-kill"),
        );
    }
    for (word, span) in [("for", e.lasts), ("every", e.every)] {
        if span.is_some_and(|s| s.0 == 0) {
            problems.add(Problem::new(key(word), "it is zero").hint("write a time, such as \"5s\""));
        }
    }
    if e.action.of_consumer() && (e.every.is_some() || e.within.is_some()) {
        let word = if e.every.is_some() { "every" } else { "within" };
        problems.add(
            Problem::new(key(word), format!("`{name}` is done once, at its time"))
                .hint("write an [[event]] for each time"),
        );
        return;
    }
    let Some(every) = e.every else {
        if e.count.is_some() {
            problems.add(Problem::new(key("count"), "it does not say when it comes again").hint("add every = \"30s\""));
        }
        return;
    };
    match e.count {
        None => problems.add(Problem::new(key("every"), "it does not say how often").hint("add count = 20")),
        Some(0) => problems.add(Problem::new(key("count"), "it never happens").hint("write 1 or more")),
        Some(_) => {}
    }
    match (e.action, e.action.undone_by()) {
        (action, _) if action.passes() => {}
        (_, None) => problems
            .add(Problem::new(key("every"), format!("`{name}` does not come again")).hint("repeat what it undoes")),
        (_, Some(undo)) if e.lasts.is_none() => problems.add(
            Problem::new(key("every"), format!("nothing undoes it before it comes again ({})", undo.name()))
                .hint("add for = \"5s\""),
        ),
        _ => {}
    }
    let (lasts, within) = (e.lasts.map_or(0, |s| s.0), e.within.map_or(0, |s| s.0));
    let least = Span(lasts.saturating_add(within).saturating_add(if quick { 0 } else { REST.0 }));
    if every < least {
        problems.add(
            Problem::new(key("every"), format!("{every} is too short for what is to happen in it"))
                .hint(format!("write {least} or more: `for`, `within`, and {REST} to settle")),
        );
    }
}

/// Whether it is over when the measured phase is.
fn within_run(event: &PlannedEvent, at: &str, duration: Span, problems: &mut Problems) {
    if duration.0 == 0 {
        return;
    }
    if event.at >= duration {
        problems.add(
            Problem::new(format!("{at}.at"), format!("the measured phase ends after {duration}"))
                .hint("make it earlier, or the duration longer")
                .beside("run.duration"),
        );
        return;
    }
    let end = event.end();
    if end > duration {
        let word = match (event.repeat, event.lasts) {
            (Some(_), _) => "every",
            (None, Some(_)) => "for",
            (None, None) => "within",
        };
        problems.add(
            Problem::new(
                format!("{at}.{word}"),
                format!("it is over after {end}, the measured phase after {duration}"),
            )
            .hint("make it earlier, fewer or shorter, or the duration longer")
            .beside("run.duration"),
        );
    }
}

/// Whether the systems have processes of ours, where something is done to them.
fn of_launched(events: &[PlannedEvent], systems: &[SystemSpec], types: &SystemTypes, problems: &mut Problems) {
    let of_systems = events.iter().any(|e| e.action.of_process() || e.action.of_network());
    let processes = |s: &SystemSpec| types.get(&s.driver).is_none_or(|t| t.processes);
    let others = systems.iter().enumerate().filter(|(_, s)| s.bring_up != BringUp::Launch || !processes(s));
    for (i, system) in others.filter(|_| of_systems) {
        problems.add(
            Problem::new(format!("system.{i}"), format!("{} has no process of ours", system.name))
                .hint("events need systems that msgbench starts itself"),
        );
    }
}

/// Whether nodes can have networks of their own, where one is to be cut off.
fn isolated(events: &[PlannedEvent], systems: &[SystemSpec], types: &SystemTypes, problems: &mut Problems) {
    if !events.iter().any(|e| e.alone) {
        return;
    }
    let isolates = |s: &SystemSpec| types.get(&s.driver).is_none_or(|t| t.isolates);
    for (i, system) in systems.iter().enumerate().filter(|(_, s)| !isolates(s)) {
        let message = format!("a node of {} cannot be cut off alone", system.name);
        problems.add(
            Problem::new(format!("system.{i}"), message).hint("leave `node` out: then the network between all is cut"),
        );
    }
    if events.iter().any(|e| e.action == Action::Shape && !e.alone) {
        problems.add(
            Problem::new("event", "the network between all is shaped, and each node has one of its own")
                .hint("write node = \"all\" there"),
        );
    }
}

/// Whether the files of every system can lose their power.
fn powered(at: &str, systems: &[SystemSpec], types: &SystemTypes, problems: &mut Problems) {
    if let Some(system) = systems.iter().find(|s| types.get(&s.driver).is_some_and(|t| !t.power)) {
        let able: Vec<&str> = types.0.iter().filter(|t| t.power).map(|t| t.name).collect();
        problems.add(
            Problem::new(at, format!("the files of {} cannot lose their power", system.name))
                .hint(format!("it is for launched systems of driver {}", able.join(", "))),
        );
    }
}

/// Whether every system has nodes of this role.
fn played(role: ClusterRole, at: &str, systems: &[SystemSpec], types: &SystemTypes, problems: &mut Problems) {
    let roles = |s: &SystemSpec| types.get(&s.driver).map_or(&[][..], |t: &SystemType| t.roles);
    let without = systems.iter().find(|s| role != ClusterRole::All && !roles(s).contains(&role));
    if let Some(system) = without {
        let names: Vec<&str> = roles(system).iter().map(|r| r.name()).chain(["all"]).collect();
        problems.add(
            Problem::new(at, format!("{} has no {}", system.name, role.name()))
                .hint(format!("write a number, or one of its roles: {}", names.join(", "))),
        );
    }
}

/// The workload that each role is about: the first where the event does not say.
pub(super) fn of_workloads(events: &mut [PlannedEvent], cases: &[Case], problems: &mut Problems) {
    let names: Vec<&str> = cases.first().map_or(&[][..], |c| &c.workloads).iter().map(|w| w.name.as_str()).collect();
    for event in events.iter_mut().filter(|e| e.node.role().is_some_and(ClusterRole::of_workload)) {
        match &event.workload {
            None => event.workload = names.first().map(|name| (*name).to_owned()),
            Some(name) if !names.contains(&name.as_str()) && !names.is_empty() => {
                let message = format!("{} at {}: there is no workload `{name}`", event.action.name(), event.at);
                problems.add(Problem::new("event", message).hint(format!("there are: {}", names.join(", "))));
            }
            Some(_) => {}
        }
    }
}

/// Who of the consumers comes late, by the events by time; and whether each event finds its
/// consumer there, or not there.
pub(super) fn members(events: &[PlannedEvent], cases: &mut [Case], problems: &mut Problems) {
    let of_consumers = || events.iter().filter(|e| e.action.of_consumer());
    let numbers: BTreeSet<u32> = of_consumers().filter_map(|e| e.consumer).collect();
    for &number in &numbers {
        let mut there = None;
        for event in of_consumers().filter(|e| e.consumer == Some(number)) {
            let joins = event.action == Action::ConsumerJoin;
            if there == Some(joins) {
                let state = if joins { "there already" } else { "not there any more" };
                let message = format!("{} at {}: consumer {number} is {state}", event.action.name(), event.at);
                problems.add(Problem::new("event", message).hint("a consumer joins and leaves by turns"));
            }
            there = Some(joins);
        }
    }
    let late = |number: u32| {
        let first = of_consumers().find(|e| e.consumer == Some(number));
        first.is_some_and(|e| e.action == Action::ConsumerJoin)
    };
    let mut most = 0;
    for w in cases.iter_mut().flat_map(|c| &mut c.workloads) {
        let members = if w.topology.groups > 0 { w.topology.members } else { 0 };
        most = most.max(members);
        w.delivery.late_members = numbers.iter().filter(|n| **n < members && late(**n)).count() as u32;
    }
    if let Some(number) = numbers.iter().find(|n| **n >= most) {
        let message = format!("there is no consumer {number}: the largest group has {most}");
        problems.add(Problem::new("event", message).hint("they are counted from 0, within the first group"));
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::plan::Plan;
    use crate::scenario::{Overrides, ScenarioError, parse};

    fn read(text: &str, quick: bool) -> Result<Plan, ScenarioError> {
        let overrides = Overrides { quick, ..Overrides::default() };
        parse(Path::new("s.toml"), text.to_owned(), &overrides, &crate::engine::Register::built_in().types())
            .map(|s| s.plan)
    }

    /// A queue group of three under `events`.
    fn group(events: &str) -> Result<Plan, ScenarioError> {
        let text = format!(
            "name = \"t\"\nquestion = \"q?\"\n[[workload]]\npattern = \"queue-group\"\nconsumers = 3\nload.rate = \"1k/s\"\n{events}[run]\nduration = \"10s\"\n"
        );
        read(&text, false)
    }

    #[test]
    fn a_consumer_that_joins_first_is_late_and_the_others_are_there() {
        let event = |at: u32, action: &str, n: u32| {
            format!("[[event]]\nat = \"{at}s\"\naction = \"consumer-{action}\"\nconsumer = {n}\n")
        };
        let plan =
            group(&[event(2, "join", 2), event(4, "leave", 1), event(6, "join", 1), event(8, "kill", 0)].concat())
                .unwrap();
        assert_eq!(plan.cases[0].workloads[0].delivery.late_members, 1);
        assert_eq!(plan.events.iter().map(|e| e.consumer).collect::<Vec<_>>(), [Some(2), Some(1), Some(1), Some(0)]);
        for (events, says) in [
            (event(2, "join", 3), "there is no consumer 3"),
            ([event(2, "leave", 1), event(4, "kill", 1)].concat(), "consumer 1 is not there any more"),
            ([event(2, "join", 1), event(4, "join", 1)].concat(), "consumer 1 is there already"),
            ("[[event]]\nat = \"1s\"\naction = \"consumer-kill\"\n".into(), "it does not say which consumer"),
            ("[[event]]\nat = \"1s\"\naction = \"pause\"\nconsumer = 1\n".into(), "`pause` is done to no consumer"),
        ] {
            let told = group(&events).unwrap_err().to_string();
            assert!(told.contains(says), "{told}");
        }
    }

    /// Two streams on two clusters under an event, for ten minutes.
    fn clusters(event: &str) -> String {
        format!(
            "name = \"t\"\nquestion = \"q?\"\n[[system]]\ndriver = \"jetstream\"\noptions = {{ nodes = 3 }}\n\
             [[system]]\ndriver = \"kafka\"\noptions = {{ broker = {{ nodes = 3 }} }}\n\
             [[workload]]\nname = \"zeta\"\npattern = \"stream\"\nload.rate = \"1k/s\"\n\
             [[workload]]\nname = \"alpha\"\npattern = \"stream\"\nload.rate = \"1k/s\"\n\
             [[event]]\n{event}\n[run]\nduration = \"10m\"\n"
        )
    }

    const FAILOVER: &str = "at = \"20s\"\naction = \"kill\"\nnode = \"leader\"\nevery = \"28s\"\ncount = 20\nwithin = \"3s\"\nfor = \"5s\"";

    #[test]
    fn a_leader_is_of_the_first_workload_of_the_file_unless_the_event_says() {
        let plan = read(&clusters(FAILOVER), false).unwrap();
        let event = &plan.events[0];
        assert_eq!((event.workload.as_deref(), event.count()), (Some("zeta"), 20));
        assert_eq!(event.when(), "at 20s to 23s, every 28s, 20 times, each for 5s");
        let other = read(&clusters(&format!("{FAILOVER}\nworkload = \"alpha\"")), false).unwrap();
        assert_eq!(other.events[0].workload.as_deref(), Some("alpha"));
        let json = serde_json::to_value(&plan).unwrap();
        assert_eq!(serde_json::from_value::<Plan>(json).unwrap(), plan);
    }

    #[test]
    fn mistakes_of_roles_and_repetitions_are_told() {
        let one = "at = \"20s\"\naction = \"kill\"";
        for (event, says) in [
            (format!("{one}\nnode = \"leeder\""), "leeder"),
            (format!("{one}\nnode = -1"), "node"),
            (format!("{one}\nnode = \"controller\""), "jetstream has no controller"),
            (format!("{one}\nnode = \"meta-leader\""), "kafka has no meta-leader"),
            (format!("{one}\nnode = \"leader\"\nworkload = \"beta\""), "there is no workload `beta`"),
            (format!("{one}\nworkload = \"alpha\""), "only a leader and a follower are of a workload"),
            (format!("{one}\ncount = 3"), "it does not say when it comes again"),
            (format!("{one}\nevery = \"30s\"\nfor = \"5s\""), "it does not say how often"),
            (format!("{one}\nevery = \"30s\"\nfor = \"5s\"\ncount = 0"), "it never happens"),
            (format!("{one}\nevery = \"30s\"\ncount = 3"), "nothing undoes it before it comes again (restart)"),
            (format!("{one}\nevery = \"6s\"\ncount = 3\nfor = \"5s\""), "write 7s or more"),
            (format!("{one}\nevery = \"60s\"\ncount = 11\nfor = \"5s\""), "it is over after 625s"),
            (format!("{one}\nfor = \"581s\""), "it is over after 601s"),
            (format!("{one}\nwithin = \"581s\""), "it is over after 601s"),
            (format!("{one}\nfor = \"0s\""), "it is zero"),
            ("at = \"1s\"\naction = \"transfer\"\nnode = 1".into(), "`transfer` is always about: leader"),
            ("at = \"1s\"\naction = \"rolling-restart\"\nfor = \"9s\"".into(), "is not undone after a while"),
            ("at = \"1s\"\naction = \"resume\"\nfor = \"1s\"".into(), "`resume` is not undone after a while"),
            ("at = \"1s\"\naction = \"resume\"\nevery = \"9s\"\ncount = 2".into(), "`resume` does not come again"),
            ("at = \"1s\"\naction = \"resume\"\nnode = \"leader\"".into(), "has no role"),
            (
                "at = \"1s\"\naction = \"shape\"\nqdisc = \"netem\"\n[[event]]\nat = \"2s\"\naction = \"cut\"\nnode = 1"
                    .into(),
                "the network between all is shaped",
            ),
            ("at = \"1s\"\naction = \"mend\"\nnode = \"leader\"".into(), "has no role"),
            ("at = \"1s\"\naction = \"consumer-kill\"\nconsumer = 0\nwithin = \"2s\"".into(), "is done once"),
        ] {
            let told = read(&clusters(&event), false).unwrap_err().to_string();
            assert!(told.contains(says), "{event}: {told}");
        }
    }

    /// Nobody knows how long the measured phase was to be, so nothing is too late for it.
    #[test]
    fn a_duration_that_cannot_be_read_is_the_only_mistake() {
        for duration in ["duration = \"10 minutes\"", "duraton = \"10m\""] {
            let text = clusters(FAILOVER).replace("duration = \"10m\"", duration);
            let told = read(&text, false).unwrap_err().to_string();
            let places = told.lines().filter(|line| line.starts_with("s.toml:")).count();
            assert!(places == 1 && told.contains("durat"), "{told}");
        }
    }

    /// Whatever is valid in full is valid with `--quick`, and fits into it.
    #[test]
    fn quick_runs_do_everything_once_and_in_time() {
        let restart = "at = \"9m\"\naction = \"restart\"\nnode = \"all\"";
        let pause = "at = \"1s\"\naction = \"pause\"\nevery = \"10s\"\ncount = 59\nfor = \"4s\"\nwithin = \"4s\"";
        for event in [FAILOVER, restart, pause, "at = \"599s\"\naction = \"kill\"\nfor = \"1s\""] {
            read(&clusters(event), false).unwrap();
            let plan = read(&clusters(event), true).unwrap();
            let (event, phases) = (&plan.events[0], plan.cases[0].phases);
            assert_eq!((event.count(), phases.measure), (1, Span::secs(4)));
            assert!(event.end() <= phases.measure && event.at.0 > 0, "{event:?}");
            assert_eq!(event.lasts.is_some(), plan.events[0].action != Action::Restart);
        }
    }
}
