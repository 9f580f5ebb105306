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
    assert!(near.starts_with("t.toml:5:") && near.contains("msgbench has no driver `mailbix`"), "{near}");
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

/// Options, addresses and workloads in any combination: what `check` accepts, no later step before
/// a connection refuses; what it refuses has a place, and the words of who would refuse it.
mod what_run_refuses_check_refuses {
    use super::*;
    use msgbench::engine::Register;
    use msgbench::plan::{BringUp, SystemTypes};
    use msgbench::system::{SystemContext, SystemError};
    use proptest::prelude::*;

    const OPTIONS: [&str; 27] = [
        "max-payload = \"8MiB\"",
        "max-payload = 8",
        "nodes = 3",
        "nodes = 99",
        "acks = \"all\"",
        "acks = 7",
        "ack = \"none\"",
        "linger = \"5ms\"",
        "linger = 0",
        "headers = 65",
        "user = \"me\"",
        "password = \"pw\"",
        "token = \"t\"",
        "client = \"wire\"",
        "creds = \"/x\"",
        "exactly-once = true",
        "exactly-once = \"transactional\"",
        "retention = \"workqueue\"",
        "consumer = \"ordered\"",
        "broker = { nodes = 3 }",
        "broker = { nodez = 3 }",
        "kafka = { acks = 1 }",
        "kafka = { transform = \"streams\" }",
        "raw = { \"linger.mz\" = 1 }",
        "speed = 3",
        "transform = \"client\"",
        "transform = \"streams\"",
    ];
    const URLS: [&str; 7] = [
        "",
        "nats://127.0.0.1:1",
        "kafka://127.0.0.1:1",
        "http://127.0.0.1:1",
        "tls://h",
        "",
        "nats://a:1 kafka://b:1",
    ];
    const WORKLOADS: [&str; 9] = [
        "pattern = \"fan-out\"",
        "pattern = \"fan-out\"\ndelivery.durable = true",
        "pattern = \"queue-group\"",
        "pattern = \"request-reply\"",
        "pattern = \"stream\"",
        "pattern = \"stream\"\ndelivery.reject-every = 9",
        "pattern = \"stream\"\ndelivery.dead-every = 9",
        "pattern = \"replay\"",
        "pattern = \"fan-in\"\ndelivery.slow = { consumers = 1, think = \"1ms\" }",
    ];

    fn text(driver: &str, options: &[&str], url: &str, workload: &str) -> String {
        let url = if url.is_empty() { String::new() } else { format!("url = \"{url}\"\n") };
        let options = options.join(", ");
        format!(
            "name = \"t\"\nquestion = \"?\"\n[[system]]\ndriver = \"{driver}\"\n{url}options = {{ {options} }}\n\
             [[workload]]\n{workload}\nload.rate = 1000\n"
        )
    }

    /// The plan with options that nobody has checked.
    fn unchecked(driver: &str, options: &str, url: &str, types: &SystemTypes) -> Option<Plan> {
        let good = text(driver, &[], url, WORKLOADS[0]);
        let mut plan = parse(Path::new("t.toml"), good, &Overrides::default(), types).ok()?.plan;
        let table: toml::Table = toml::from_str(options).ok()?;
        let options = serde_json::to_value(table).ok()?;
        plan.systems[0].options = options.as_object()?.clone();
        Some(plan)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(300))]
        #[test]
        fn and_what_it_accepts_nobody_refuses(
            driver in prop::sample::select(&["reference", "nats", "jetstream", "kafka", "bridge", "null"][..]),
            options in prop::sample::subsequence(&OPTIONS[..], 0..3),
            url in prop::sample::select(&URLS[..]),
            workload in prop::sample::select(&WORKLOADS[..]),
        ) {
            let register = Register::built_in();
            let types = register.types();
            let text = text(driver, &options, url, workload);
            match parse(Path::new("t.toml"), text.clone(), &Overrides::default(), &types) {
                Ok(scenario) => {
                    register.check(&scenario.plan).unwrap();
                    let context = SystemContext { dir: std::env::temp_dir(), timeout: std::time::Duration::from_millis(50), cpus: None };
                    for case in &scenario.plan.cases {
                        let lacks = case.workloads.iter().find_map(|w| types.lacks(driver, w));
                        prop_assert!(lacks.is_none(), "{text}: {lacks:?}");
                    }
                    let spec = &scenario.plan.systems[0];
                    let made = register.create(spec, context);
                    prop_assert!(!matches!(made, Err(SystemError::Option { .. })), "{text}: {:?}", made.err());
                    // An address that can be read is one that can be tried.
                    if let (BringUp::External { .. }, Ok(mut system)) = (&spec.bring_up, made) {
                        let told = system.start().err().map(|e| e.to_string()).unwrap_or_default();
                        prop_assert!(!told.contains("write nats://") && !told.contains("write kafka://"), "{text}: {told}");
                    }
                }
                Err(e) => {
                    let told = e.to_string();
                    for mistake in told.split("\n\n").filter(|m| !m.ends_with(" mistakes")) {
                        let line = mistake.strip_prefix("t.toml:").and_then(|m| m.split(':').next()?.parse::<usize>().ok());
                        prop_assert!(line.is_some_and(|line| line >= 3), "{text}: {mistake}");
                    }
                }
            }
        }

        /// The second line of defence says what the first has said.
        #[test]
        fn in_the_same_words(
            driver in prop::sample::select(&["reference", "nats", "jetstream", "kafka", "null"][..]),
            option in prop::sample::select(&OPTIONS[..]),
            url in prop::sample::select(&["", "nats://127.0.0.1:1", "kafka://127.0.0.1:1"][..]),
        ) {
            let register = Register::built_in();
            let types = register.types();
            prop_assume!(unchecked(driver, option, url, &types).is_some());
            let plan = unchecked(driver, option, url, &types).unwrap();
            let checked = parse(Path::new("t.toml"), text(driver, &[option], url, WORKLOADS[0]), &Overrides::default(), &types);
            match register.check(&plan) {
                Ok(()) => prop_assert!(checked.is_ok(), "{:?}", checked.err()),
                Err(e) => {
                    let words = e.to_string();
                    let first = words.split("; ").next().unwrap();
                    let told = checked.unwrap_err().to_string();
                    prop_assert!(told.contains(first), "{words}\n{told}");
                }
            }
        }
    }
}
