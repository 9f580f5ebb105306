//! The `[faults]` table and the `[[event]]` entries of a scenario: what is to go wrong, and to
//! whom.
//!
//! Faults become an option of the launched reference broker, so that every result shows them with
//! its settings.

use std::collections::BTreeSet;

use super::bounds::check_span;
use super::file::ScenarioFile;
use crate::plan::problem::{Problem, Problems};
use crate::plan::{Action, BringUp, Case, OutageSpec, PlannedEvent, SystemSpec, SystemType, SystemTypes};

/// What the NATS driver publishes on: barriers and answers are not hit.
const SUBJECTS: &str = "mb.*.*.*";
/// The option of the reference broker that holds its faults.
const OPTION: &str = "faults";

/// Gives the reference broker its faults.
pub(super) fn apply_to_systems(
    file: &ScenarioFile,
    systems: &mut [SystemSpec],
    types: &SystemTypes,
    problems: &mut Problems,
) {
    for (i, _) in file.system.iter().enumerate().filter(|(_, s)| s.options.contains_key(OPTION)) {
        let path = format!("system.{i}.options.{OPTION}");
        problems.add(Problem::new(path, "faults are no option of a system").hint("write a [faults] table"));
    }
    let Some(faults) = &file.faults else { return };
    if let Err(e) = faults.check() {
        let key = if e.key.is_empty() { "faults".to_owned() } else { format!("faults.{}", e.key) };
        problems.add(Problem::new(key, e.message).hint(e.hint));
    } else if !faults.any() {
        let hint = "write one, such as drop = { every = 7 }";
        problems.add(Problem::new("faults", "there is no fault in it").hint(hint));
    }
    for (i, system) in systems.iter_mut().enumerate() {
        if !types.get(&system.driver).is_none_or(|t| t.faults) {
            let message = format!("{} cannot have injected faults", system.name);
            problems.add(
                Problem::new(format!("system.{i}.driver"), message)
                    .hint(format!("{}; any launched system takes an [[event]]", takers(types))),
            );
        } else if system.bring_up != BringUp::Launch {
            problems.add(
                Problem::new(format!("system.{i}.url"), "a broker that is already running has its own faults")
                    .hint("remove `url`, or start that broker with --fault"),
            );
        } else {
            let mut faults = faults.clone();
            faults.subjects.get_or_insert_with(|| SUBJECTS.to_owned());
            match serde_json::to_value(&faults) {
                Ok(value) => drop(system.options.insert(OPTION.into(), value)),
                Err(e) => problems.add(Problem::new("faults", e.to_string())),
            }
        }
    }
}

/// Who can have injected faults.
fn takers(types: &SystemTypes) -> String {
    let names: Vec<&str> = types.0.iter().filter(|t| t.faults).map(|t: &SystemType| t.name).collect();
    format!("faults need driver = \"{}\"", names.join("\" or \""))
}

/// The events by time.
pub(super) fn events(
    file: &ScenarioFile,
    systems: &[SystemSpec],
    types: &SystemTypes,
    problems: &mut Problems,
) -> Vec<PlannedEvent> {
    let mut events = Vec::new();
    for (i, e) in file.event.iter().enumerate() {
        let end = file.run.duration;
        if e.at >= end && end.0 > 0 {
            problems.add(
                Problem::new(format!("event.{i}.at"), format!("the measured phase ends after {end}"))
                    .hint("make it earlier, or the duration longer"),
            );
        }
        match (e.action == Action::Shape, &e.qdisc) {
            (true, None) => problems.add(
                Problem::new(format!("event.{i}"), "it does not say how the network is shaped")
                    .hint("write a queueing discipline: qdisc = \"netem delay 10ms loss 1%\""),
            ),
            (false, Some(_)) => problems.add(
                Problem::new(format!("event.{i}.qdisc"), "only `shape` has one")
                    .hint("write action = \"shape\", or leave qdisc out"),
            ),
            _ => {}
        }
        match (e.action.of_consumer(), e.consumer) {
            (true, None) => problems.add(
                Problem::new(format!("event.{i}"), "it does not say which consumer")
                    .hint("write consumer = 0 for the first member of the first group"),
            ),
            (false, Some(_)) => problems.add(
                Problem::new(format!("event.{i}.consumer"), format!("`{}` is done to no consumer", e.action.name()))
                    .hint("leave it out, or write action = \"consumer-leave\" or the like"),
            ),
            _ => {}
        }
        let (node, consumer) = (e.node, e.consumer);
        events.push(PlannedEvent { at: e.at, action: e.action, node, consumer, qdisc: e.qdisc.clone() });
    }
    let of_systems = events.iter().any(|e| !e.action.of_consumer());
    let processes = |s: &SystemSpec| types.get(&s.driver).is_none_or(|t| t.processes);
    let others = systems.iter().enumerate().filter(|(_, s)| s.bring_up != BringUp::Launch || !processes(s));
    for (i, system) in others.filter(|_| of_systems) {
        problems.add(
            Problem::new(format!("system.{i}"), format!("{} has no process of ours", system.name))
                .hint("events need systems that msgbench starts itself"),
        );
    }
    events.sort_by_key(|e| e.at);
    events
}

/// How outages are measured.
pub(super) fn outage(file: &ScenarioFile, problems: &mut Problems) -> OutageSpec {
    let mut outage = OutageSpec::default();
    if let Some(deadline) = file.outage.deadline {
        problems.take(check_span("outage.deadline", deadline, false));
        outage.deadline = deadline;
    }
    outage
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

    use crate::plan::{Action, Plan};
    use crate::scenario::{Overrides, ScenarioError, parse};
    use crate::units::Span;

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

    const GOOD: &str = r#"name = "t"
question = "q?"
[[workload]]
pattern = "fan-out"
load.rate = "1k/s"
[faults]
drop = { every = 7 }
stall = { at = "2s", for = "100ms" }
[[event]]
at = "3s"
action = "resume"
[[event]]
at = "1s"
action = "pause"
[run]
duration = "10s"
"#;

    fn read(text: &str, quick: bool) -> Result<Plan, ScenarioError> {
        let overrides = Overrides { quick, ..Overrides::default() };
        parse(Path::new("s.toml"), text.to_owned(), &overrides, &crate::engine::Register::built_in().types())
            .map(|s| s.plan)
    }

    fn said(from: &str, to: &str) -> String {
        assert!(GOOD.contains(from), "{from}");
        read(&GOOD.replacen(from, to, 1), false).unwrap_err().to_string()
    }

    #[test]
    fn faults_go_to_the_reference_broker_alone_and_events_are_in_order() {
        let plan = read(GOOD, false).unwrap();
        let names: Vec<&str> = plan.systems.iter().map(|s| s.name.as_str()).collect();
        assert_eq!(names, ["reference"]);
        let faults = &plan.systems[0].options["faults"];
        assert_eq!((faults["subjects"].as_str(), faults["drop"]["every"].as_u64()), (Some("mb.*.*.*"), Some(7)));
        let events: Vec<_> = plan.events.iter().map(|e| (e.at, e.action, e.node)).collect();
        assert_eq!(events, [(Span::secs(1), Action::Pause, 0), (Span::secs(3), Action::Resume, 0)]);
        let json = serde_json::to_value(&plan).unwrap();
        assert_eq!(serde_json::from_value::<Plan>(json).unwrap(), plan);
    }

    #[test]
    fn quick_runs_keep_faults_and_events_within_the_run() {
        let plan = read(GOOD, true).unwrap();
        let end = plan.cases[0].phases.measure;
        assert!(end < Span::secs(10) && plan.events.iter().all(|e| e.at < end), "{:?}", plan.events);
        let at: Span = plan.systems[0].options["faults"]["stall"]["at"].as_str().unwrap().parse().unwrap();
        assert!(at < end, "{at}");
    }

    #[test]
    fn mistakes_name_their_place() {
        let external = "[[system]]\ndriver = \"reference\"\nurl = \"nats://127.0.0.1:1\"\n[[workload]]";
        let option = "[[system]]\ndriver = \"reference\"\noptions = { faults = 1 }\n[[workload]]";
        let none = "drop = { every = 7 }\nstall = { at = \"2s\", for = \"100ms\" }";
        let all = [
            said("every = 7", "every = 0"),
            said("every = 7", "evry = 7"),
            said("at = \"2s\", for", "for"),
            said(none, "seed = 1"),
            said("[[workload]]", "[[system]]\ndriver = \"nats\"\n[[workload]]"),
            said("[[workload]]", external),
            said("[[workload]]", option),
            said("at = \"3s\"", "at = \"10s\""),
            said("\"pause\"", "\"puase\""),
        ];
        insta::assert_snapshot!(all.join("\n\n"));
    }
}
