//! Searches in a scenario: misspelt keys, and settings of a system that are swept around them.

use std::path::Path;

use super::{Overrides, Scenario, ScenarioError, parse};
use crate::plan::search::Parameter;

const GOOD: &str = r#"name = "s"
question = "How much?"
[[system]]
driver = "reference"
[[workload]]
pattern = "fan-out"
load.rate = "1k/s"
"#;

const BY_RATE: &str = "limits = [\"e2e.p99 < 20ms\"]\nwidth = \"5%\"\nsearches = 5\nneed = \"2k/s\"\n";

fn read(text: &str) -> Result<Scenario, ScenarioError> {
    let types = crate::engine::Register::built_in().types();
    parse(Path::new("s.toml"), text.to_string(), &Overrides::default(), &types)
}

fn searched(systems: &str, more: &str) -> Result<Scenario, ScenarioError> {
    let system = "[[system]]\ndriver = \"reference\"\n";
    read(&format!("{}[search]\n{BY_RATE}{more}", GOOD.replace(system, systems)))
}

/// Every key of a search over the rate, one letter left out at every place: told once, as misspelt,
/// and not that it is missing as well.
#[test]
fn a_misspelt_key_of_a_search_is_told_once() {
    let whole = format!("{GOOD}[search]\n{BY_RATE}");
    read(&whole).unwrap();
    for key in BY_RATE.lines().filter_map(|line| line.split_once(" = ")).map(|(key, _)| key) {
        for at in 1..key.len() {
            let wrong = format!("{}{}", &key[..at], &key[at + 1..]);
            let text = whole.replacen(&format!("\n{key} = "), &format!("\n{wrong} = "), 1);
            let said = read(&text).unwrap_err().to_string();
            assert_eq!(said.matches("s.toml:").count(), 1, "{said}");
            assert!(said.contains(&format!("unknown key `{wrong}`")), "{said}");
            let hint = format!("did you mean `{key}`");
            assert!(said.contains(&hint), "{hint}: {said}");
        }
    }
}

/// Rates have three digits: 100k/s and 101k/s are 1 % apart, and so no answer is closer.
#[test]
fn a_width_that_three_digits_cannot_keep_is_refused() {
    let wide = |width: &str| read(&format!("{GOOD}[search]\n{BY_RATE}").replace("5%", width));
    wide("1%").unwrap();
    for width in ["0.9%", "0%", "101%"] {
        let said = wide(width).unwrap_err().to_string();
        assert!(said.contains("is not between 1% and 100%") && said.contains("three digits"), "{said}");
    }
}

/// Each system is tried at each value of its own settings, and not at those of another one.
#[test]
fn settings_of_a_system_are_swept() {
    let one = "[[system]]\ndriver = \"reference\"\n";
    let scenario = searched(one, "[sweep]\n\"system.cpus\" = [0.5, 1]\n\"system.options.workers\" = [1, 2]\n").unwrap();
    let plan = &scenario.plan;
    let seen: Vec<(Option<f64>, u64)> =
        plan.cases.iter().map(|c| (plan.spec(c).cpus, plan.spec(c).options["workers"].as_u64().unwrap())).collect();
    assert_eq!(seen, [(Some(0.5), 1), (Some(0.5), 2), (Some(1.0), 1), (Some(1.0), 2)]);
    assert_eq!(plan.cases[3].id, "reference-cpus-1-workers-2");
    assert_eq!(plan.cases[0].point[0], ("system.cpus".to_owned(), "0.5".to_owned()));
    assert!(matches!(plan.search.as_ref().unwrap().parameter, Parameter::Rate { .. }));
    let two = format!("{one}[[system]]\ndriver = \"nats\"\n");
    let sweep = "[sweep]\n\"system.reference.cpus\" = [1, 2]\n\"system.nats.cpus\" = [1, 2]\n";
    let scenario = searched(&two, sweep).unwrap();
    let ids: Vec<&str> = scenario.plan.cases.iter().map(|c| c.id.as_str()).collect();
    assert_eq!(ids, ["reference-cpus-1", "nats-cpus-1", "reference-cpus-2", "nats-cpus-2"].map(|i| i).to_vec());
    // Alike, so that they can stand beside each other.
    assert_eq!(scenario.plan.cases[0].point, scenario.plan.cases[1].point);
}

#[test]
fn what_cannot_be_bound_or_swept_is_refused_where_it_is_written() {
    let one = "[[system]]\ndriver = \"reference\"\n";
    let said = |systems: &str, more: &str| searched(systems, more).unwrap_err().to_string();
    let sweep = "[sweep]\n\"system.cpus\" = [1, 0]\n";
    let words = said(one, sweep);
    assert!(words.contains("s.toml:14:21") && words.contains("0 processors are not between"), "{words}");
    let words = said(&format!("{one}cpus = -1\n"), "");
    assert!(words.contains("s.toml:5:8") && words.contains("-1 processors"), "{words}");
    let words = said(&format!("{one}url = \"nats://127.0.0.1:4222\"\ncpus = 1\n"), "");
    assert!(words.contains("s.toml:6:8") && words.contains("is not bound by msgbench"), "{words}");
    let words = said("[[system]]\ndriver = \"null\"\ncpus = 1\n", "");
    assert!(words.contains("starts no process"), "{words}");
    let words = said(one, "[sweep]\n\"system.options.wrokers\" = [1]\n");
    assert!(words.contains("s.toml:14:") && words.contains("wrokers"), "{words}");
    let words = said(one, "[sweep]\n\"system.driver\" = [\"nats\"]\n");
    assert!(words.contains("cannot be swept") && words.contains("`cpus` and `options` of a system"), "{words}");
    let listed =
        "[search]\nlimits = [\"e2e.p99 < 20ms\"]\nparameter = \"system.nats.options.nodes\"\nvalues = [3, 1]\n";
    let two = GOOD.replace(one, &format!("{one}[[system]]\ndriver = \"nats\"\n"));
    let words = read(&format!("{two}{listed}")).unwrap_err().to_string();
    assert!(words.contains("s.toml:") && words.contains("is a setting of one system, and there are 2"), "{words}");
}
