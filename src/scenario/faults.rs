//! The `[faults]` table of a scenario: how the reference broker is to misbehave.
//!
//! Faults become an option of the launched reference broker, so that every result shows them with
//! its settings.

use super::file::ScenarioFile;
use crate::plan::problem::{Problem, Problems};
use crate::plan::{BringUp, SystemSpec, SystemType, SystemTypes};

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

#[cfg(test)]
mod tests {
    use std::path::Path;

    use crate::plan::{Action, NodeChoice, Plan};
    use crate::scenario::{Overrides, ScenarioError, parse};
    use crate::units::Span;

    const FIRST: NodeChoice = NodeChoice::Number(0);
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
        assert_eq!(events, [(Span::secs(1), Action::Pause, FIRST), (Span::secs(3), Action::Resume, FIRST)]);
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
