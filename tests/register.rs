//! A type of system is known everywhere by being registered, and nowhere else by its name.

#![allow(clippy::unwrap_used, missing_docs, reason = "a test that cannot go on fails here; helpers need no docs")]

#[path = "../examples/custom_driver.rs"]
mod custom_driver;

use std::path::Path;
use std::sync::PoisonError;

use msgbench::engine::{Clients, Register, run_with};
use msgbench::plan::{Plan, SystemSpec, SystemType};
use msgbench::record::{Outcome, Skipped};
use msgbench::scenario::{Overrides, parse, schema};
use msgbench::system::{Availability, CreateRequest, Provider, System, SystemError};

fn plan(text: &str, overrides: &Overrides) -> Result<Plan, String> {
    let types = custom_driver::register().types();
    parse(Path::new("t.toml"), text.to_owned(), overrides, &types).map(|s| s.plan).map_err(|e| e.to_string())
}

fn said(from: &str, to: &str) -> String {
    plan(&custom_driver::SCENARIO.replace(from, to), &Overrides::default()).unwrap_err()
}

#[test]
fn the_example_runs_and_prints_percentiles() {
    let mut out = Vec::new();
    custom_driver::measure(&mut out).unwrap();
    // As `cargo run --example custom_driver` has it.
    custom_driver::main().unwrap();
    let text = String::from_utf8(out).unwrap();
    let first = text.lines().next().unwrap();
    let number = |word: &str| -> u64 {
        let before = first.split(&format!(" {word}")).next().unwrap();
        before.rsplit(' ').next().unwrap().parse().unwrap()
    };
    // The schedule decides how many are due in a second; a busy host may send the last ones late.
    let sent = number("sent");
    assert!((1900..=2001).contains(&sent), "{text}");
    assert_eq!((number("delivered"), number("lost")), (2 * sent, 0), "{text}");
    assert!(text.lines().any(|l| l.trim_start().starts_with("p99 ") && l.ends_with(" us")), "{text}");
}

#[test]
fn a_scenario_knows_a_type_that_is_registered() {
    let near = said("driver = \"mailbox\"", "driver = \"mailbix\"");
    assert!(near.starts_with("t.toml:5:") && near.contains("there is no driver `mailbix`"), "{near}");
    assert!(near.contains("did you mean `mailbox`?") && near.contains("reference, nats"), "{near}");
    let url = said("driver = \"mailbox\"", "driver = \"mailbox\"\nurl = \"x\"");
    assert!(url.contains("the mailbox driver connects to nothing"), "{url}");
    let systems = |name: &str| Overrides { systems: vec![name.into()], ..Overrides::default() };
    let text = custom_driver::SCENARIO.replace("driver = \"mailbox\"", "driver = \"null\"").replace("options", "#");
    assert_eq!(plan(&text, &systems("mailbox")).unwrap().systems[0].driver, "mailbox");
    let near = plan(&text, &systems("mailbax")).unwrap_err();
    assert!(near.contains("did you mean `mailbox`?"), "{near}");
    let expect = format!("{}[[expect]]\nthat = \"ack.p99 < 1s\"\n", custom_driver::SCENARIO);
    let words = plan(&expect, &Overrides::default()).unwrap_err();
    assert!(words.contains("mailbox acknowledges nothing that it does not store"), "{words}");
}

#[test]
fn its_options_are_checked_shown_to_editors_and_searched_for_secrets() {
    let register = custom_driver::register();
    let mut plan = plan(custom_driver::SCENARIO, &Overrides::default()).unwrap();
    register.check(&plan).unwrap();
    let shown = serde_json::to_string(&register.secrets(&plan).clean(plan.clone())).unwrap();
    assert!(!shown.contains("s3cret") && shown.contains("(redacted)"), "{shown}");
    plan.systems[0].options.insert("capacity".into(), 0.into());
    let words = register.check(&plan).unwrap_err().to_string();
    assert_eq!(words, "mailbox: option `capacity`: must be at least 1");
    plan.systems[0].options.remove("capacity");
    plan.systems[0].options.insert("capasity".into(), 1.into());
    let words = register.check(&plan).unwrap_err().to_string();
    assert!(words.contains("mailbox has no such option; did you mean `capacity`?"), "{words}");

    let schema = schema(&register.types());
    let system = &schema["$defs"]["SystemTable"];
    let all = system["properties"]["driver"]["oneOf"].as_array().unwrap();
    assert!(all.iter().any(|d| d["const"] == "mailbox" && d["description"].as_str().unwrap().contains("toy")));
    let rules = system["allOf"].as_array().unwrap();
    let own = rules.iter().find(|r| r["if"]["properties"]["driver"]["const"] == "mailbox").unwrap();
    assert!(own["then"]["properties"]["options"]["properties"]["capacity"].is_object(), "{own}");
}

/// A type whose server is not here.
struct Gone;

impl Provider for Gone {
    fn describe(&self) -> SystemType {
        SystemType::new("gone", "A server that is not installed.")
    }
    fn availability(&self) -> Availability {
        Availability::Missing { reason: "no gone-server".into(), remedy: "install it".into() }
    }
    fn create(&self, _: &SystemSpec, _: CreateRequest<'_>) -> Result<Box<dyn System>, SystemError> {
        panic!("made although it is not here");
    }
}

fn skipped(driver: &str, register: &Register, change: impl Fn(&mut Plan)) -> Vec<Skipped> {
    let text = custom_driver::SCENARIO.replace("driver = \"mailbox\"\noptions", &format!("driver = \"{driver}\"\n#"));
    let mut plan = parse(Path::new("t.toml"), text, &Overrides::default(), &register.types()).map(|s| s.plan).unwrap();
    change(&mut plan);
    let results = custom_driver::Results::default();
    run_with(&plan, register, &results).unwrap();
    assert!(results.trials.lock().unwrap_or_else(PoisonError::into_inner).is_empty());
    results.skipped.into_inner().unwrap_or_else(PoisonError::into_inner)
}

#[test]
fn what_is_not_here_or_lacks_a_feature_is_skipped_with_the_reason() {
    let register = custom_driver::register().add(Gone, Clients::of::<custom_driver::Mailbox>());
    let found: Vec<_> =
        register.available().into_iter().filter(|(name, _)| ["mailbox", "gone"].contains(name)).collect();
    assert!(matches!(&found[..], [("mailbox", Availability::Found { .. }), ("gone", Availability::Missing { .. })]));
    let gone = skipped("gone", &register, |_| {});
    assert_eq!((gone[0].reason.as_str(), gone[0].remedy.as_str()), ("no gone-server", "install it"));
    let lacks = skipped("mailbox", &register, |plan| plan.cases[0].workloads[0].delivery.durable = true);
    assert_eq!(lacks[0].reason, "has no such feature: messages are not stored");
}

/// A plan of another build: the name is kept, and the run says what is missing.
#[test]
fn a_plan_with_a_type_that_is_not_registered_is_read_and_its_system_skipped() {
    let plan = plan(custom_driver::SCENARIO, &Overrides::default()).unwrap();
    let kept = serde_json::to_string(&plan).unwrap();
    let again: Plan = serde_json::from_str(&kept).unwrap();
    assert_eq!(again, plan);
    let results = custom_driver::Results::default();
    run_with(&again, &Register::built_in(), &results).unwrap();
    let skipped = results.skipped.into_inner().unwrap();
    assert!(skipped[0].reason.contains("no driver `mailbox`"), "{skipped:?}");
    let trials = results.trials.into_inner().unwrap();
    assert!(trials.iter().all(|t| !matches!(t.trial.outcome, Outcome::Complete)));
}
