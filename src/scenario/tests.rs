//! Shipped scenarios, every class of typing error as it reads, and mutations that must not panic.

use std::path::Path;

use proptest::prelude::*;

use super::{Overrides, Scenario, ScenarioError, describe, load, parse, schema};
use crate::plan::{BringUp, Content, Load, PayloadSize};
use crate::units::{Bytes, Rate, Span};

const GOOD: &str = r#"name = "fanout"
question = "How late?"
[[system]]
driver = "reference"
[[system]]
driver = "nats"
[[workload]]
pattern = "fan-out"
[workload.load]
rate = "20k/s"
[workload.payload]
size = "128B"
[run]
duration = "10s"
percentiles = [0.5, 0.99]
[sweep]
"workload.load.rate" = ["1k/s", "10k/s"]
"#;

fn types() -> crate::plan::SystemTypes {
    crate::engine::Register::built_in().types()
}

fn read(text: &str, o: &Overrides) -> Result<Scenario, ScenarioError> {
    parse(Path::new("s.toml"), text.to_string(), o, &types())
}

/// What is said when `from` is written as `to`.
fn said(from: &str, to: &str) -> String {
    assert!(GOOD.contains(from), "{from}");
    read(&GOOD.replacen(from, to, 1), &Overrides::default()).unwrap_err().to_string()
}

fn set(path: &str, value: &str) -> Overrides {
    Overrides { set: vec![(path.into(), value.into())], ..Overrides::default() }
}

fn rate(s: &Scenario, case: usize) -> Rate {
    match &s.plan.cases[case].workloads[0].load {
        Load::Open { profile, .. } => profile.peak(),
        other => panic!("not open: {other:?}"),
    }
}

#[test]
fn shipped_scenarios_load_and_are_quick() {
    let mut seen = 0;
    for entry in std::fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("scenarios")).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|e| e != "toml") {
            continue;
        }
        let full = load(&path, &Overrides::default(), &types()).unwrap_or_else(|e| panic!("{e}"));
        assert!(full.text.starts_with("# Question: "), "{}", path.display());
        assert_eq!(path.file_stem().unwrap().to_str(), Some(full.plan.name.as_str()));
        assert!(full.plan.trials >= 3, "{}", path.display());
        let quick = load(&path, &Overrides { quick: true, ..Overrides::default() }, &types()).unwrap();
        let load = quick.plan.cases.iter().map(|c| c.phases.warmup.0 + c.phases.measure.0).sum::<u64>();
        assert_eq!(quick.plan.trials, 1);
        assert!(load <= Span::secs(10).0, "{}", path.display());
        assert!(describe(&full.plan, &types()).contains(&full.plan.question));
        seen += 1;
    }
    assert!(seen >= 6, "{seen}");
}

#[test]
fn a_sweep_makes_cases_and_options_end_it() {
    let s = read(GOOD, &Overrides::default()).unwrap();
    let ids: Vec<&str> = s.plan.cases.iter().map(|c| c.id.as_str()).collect();
    assert_eq!(ids, ["reference-rate-1k", "nats-rate-1k", "reference-rate-10k", "nats-rate-10k"]);
    assert_eq!((rate(&s, 0), rate(&s, 2)), (Rate(1e3), Rate(1e4)));
    let s = read(GOOD, &Overrides { rate: Some(Rate(5e3)), ..Overrides::default() }).unwrap();
    assert_eq!((s.plan.cases.len(), rate(&s, 0)), (2, Rate(5e3)));
    assert_eq!(s.overrides, [("workload.0.load.rate".to_string(), "5k/s".to_string())]);
    let s = read(GOOD, &set("workload.fan-out.payload.size", "1KiB")).unwrap();
    assert_eq!(s.plan.cases[0].workloads[0].payload.size, PayloadSize::Fixed(Bytes(1024)));
}

#[test]
fn named_systems_are_required_and_known_drivers_are_added() {
    let o = Overrides { systems: vec!["nats".into(), "null".into()], ..Overrides::default() };
    let s = read(GOOD, &o).unwrap();
    let kinds: Vec<_> = s.plan.systems.iter().map(|s| (s.driver.as_str(), s.require)).collect();
    assert_eq!(kinds, [("nats", true), ("null", true)]);
    let s = read(GOOD, &set("system.nats.url", "nats://127.0.0.1:4222")).unwrap();
    assert!(matches!(&s.plan.systems[1].bring_up, BringUp::External { url } if url.ends_with(":4222")));
    let none = GOOD.replace("[[system]]\ndriver = \"reference\"\n[[system]]\ndriver = \"nats\"\n", "");
    assert_eq!(read(&none, &Overrides::default()).unwrap().plan.systems.len(), 2);
}

#[test]
fn quick_shortens_steps_in_proportion() {
    let text = GOOD.replace("rate = \"20k/s\"", "steps = [{rate=\"1k/s\",for=\"5s\"},{rate=\"2k/s\",for=\"5s\"}]");
    let text = &text[..text.find("[sweep]").unwrap()];
    let s = read(text, &Overrides { quick: true, ..Overrides::default() }).unwrap();
    let Load::Open { profile, .. } = &s.plan.cases[0].workloads[0].load else { panic!("not open") };
    assert_eq!(profile.segments.iter().map(|s| s.span).collect::<Vec<_>>(), [Span::secs(1), Span::secs(1)]);
    assert_eq!((s.plan.trials, s.plan.cases[0].phases.measure), (1, Span::secs(2)));
    assert_eq!(s.overrides, [("quick".to_string(), "true".to_string())]);
    let s = read(text, &Overrides { quick: true, ..set("run.duration", "5s") }).unwrap();
    assert_eq!((s.plan.trials, s.plan.cases[0].phases.measure), (1, Span::secs(5)));
}

#[test]
fn typing_errors_show_the_line() {
    insta::assert_snapshot!(said("[workload.payload]", "[workload.paylod]"), @r#"
s.toml:11:11: unknown key `paylod`
 11 | [workload.paylod]
    |           ^^^^^^
hint: did you mean `payload`?
"#);
    insta::assert_snapshot!(said("\"fan-out\"", "\"fanout\""), @r#"
s.toml:8:11: unknown value `fanout`
 8 | pattern = "fanout"
   |           ^^^^^^^^
hint: did you mean `fan-out`?
"#);
    insta::assert_snapshot!(said("size = \"128B\"", "size = 128"), @r#"
s.toml:12:8: 128 has no unit of size: write "128B", "128KiB" or "128MiB"
 12 | size = 128
    |        ^^^
"#);
    insta::assert_snapshot!(said("size = \"128B\"", "size = \"128\""), @r#"
s.toml:12:8: `128` is not a size: write a number and a unit, such as "128B", "1KiB", "2MB"
 12 | size = "128"
    |        ^^^^^
"#);
    insta::assert_snapshot!(said("size = \"128B\"", "size = "), @r#"
s.toml:12:8: string values must be quoted, expected literal string
 12 | size = 
    |        ^
hint: write text in quotes, such as "10s" or "nats"
"#);
    insta::assert_snapshot!(said("pattern = \"fan-out\"\n", ""), @r#"
s.toml:7:1: the key `pattern` is missing
 7 | [[workload]]
   | ^^^^^^^^^^^^
hint: add `pattern = ...` to this table
"#);
    insta::assert_snapshot!(said("\"10s\"", "\"-10s\""), @r#"
s.toml:14:12: `-10s` is not a duration: write a number and a unit, such as "250us", "1.5s", "2m"
 14 | duration = "-10s"
    |            ^^^^^^
"#);
}

#[test]
fn errors_of_meaning_show_the_line() {
    insta::assert_snapshot!(said("\"10s\"", "\"0s\""), @r#"
s.toml:14:12: the duration is zero
 14 | duration = "0s"
    |            ^^^^
hint: write a duration such as "10s"
"#);
    insta::assert_snapshot!(said("\"128B\"", "\"16B\""), @r#"
s.toml:12:8: 16B is smaller than the 44B envelope of every message
 12 | size = "16B"
    |        ^^^^^
hint: the smallest payload is "44B"
"#);
    insta::assert_snapshot!(said("\"128B\"", "{ min = \"2KiB\", max = \"1KiB\" }"), @r#"
s.toml:12:16: `min` is 2KiB, above the 1KiB of `max`
 12 | size = { min = "2KiB", max = "1KiB" }
    |                ^^^^^^
hint: exchange the two
"#);
    insta::assert_snapshot!(said("0.99]", "99]"), @r#"
s.toml:15:21: 99 is not between 0 and 1
 15 | percentiles = [0.5, 99]
    |                     ^^
hint: p99 is written 0.99
"#);
    insta::assert_snapshot!(said("\"10k/s\"]", "\"0/s\"]"), @r#"
s.toml:17:33: the rate is zero, so no message would be sent
 17 | "workload.load.rate" = ["1k/s", "0/s"]
    |                                 ^^^^^
hint: write messages per second, such as "1k/s"
"#);
    insta::assert_snapshot!(said("workload.load.rate", "workload.load.rtae"), @r#"
s.toml:17:25: unknown key `rtae`
 17 | "workload.load.rtae" = ["1k/s", "10k/s"]
    |                         ^^^^^^
hint: did you mean `rate`?
"#);
    insta::assert_snapshot!(said("\"nats\"", "\"reference\""), @r#"
s.toml:5:1: two systems are called `reference`
 5 | [[system]]
   | ^^^^^^^^^^
hint: give one of them another `name`
"#);
    insta::assert_snapshot!(said("\"fanout\"", "\"fan/out\""), @r#"
s.toml:1:8: `fan/out` is not fit for a file name
 1 | name = "fan/out"
   |        ^^^^^^^^^
hint: use 1 to 64 letters, digits, `-` and `_`
"#);
    insta::assert_snapshot!(said("rate = \"20k/s\"", "mode = \"closed\""), @r#"
s.toml:17:25: `rate` has no meaning in this mode
 17 | "workload.load.rate" = ["1k/s", "10k/s"]
    |                         ^^^^^^
hint: remove it, or set `mode = "open"`
"#);
    insta::assert_snapshot!(said("rate = \"20k/s\"", "rate = \"1k/s\"\nburst = { on = \"1s\", off = \"1s\" }\nramp = { from = \"1/s\", to = \"2/s\", over = \"1s\" }"), @r#"
s.toml:12:8: `ramp` and `burst` exclude each other
 12 | ramp = { from = "1/s", to = "2/s", over = "1s" }
    |        ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^
hint: a load has one shape; remove one of them
"#);
    insta::assert_snapshot!(said("size = \"128B\"", "file = \"data/none.jsonl\""), @r#"
s.toml:12:8: cannot use data/none.jsonl as messages: No such file or directory (os error 2)
 12 | file = "data/none.jsonl"
    |        ^^^^^^^^^^^^^^^^^
hint: give a file with one message per line, or a folder, relative to the scenario
"#);
}

#[test]
fn a_closed_loop_needs_answers() {
    let text = GOOD[..GOOD.find("[sweep]").unwrap()].replace("rate = \"20k/s\"", "mode = \"closed\"\noutstanding = 8");
    let error = read(&text, &Overrides::default()).unwrap_err().to_string();
    assert!(error.starts_with("s.toml:10:8: a closed loop waits for answers, and fan-out has none"), "{error}");
    let s = read(&text, &set("workload.pattern", "request-reply")).unwrap();
    assert_eq!(s.plan.cases[0].workloads[0].load, Load::Closed { outstanding: 8, think: Span(0) });
    assert!(s.plan.cases[0].workloads[0].topology.reply);
}

#[test]
fn a_file_payload_is_summarised_and_hashed() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("m.txt"), "abc\nabcdef\n").unwrap();
    std::fs::write(folder.path().join("s.toml"), GOOD.replace("size = \"128B\"", "file = \"m.txt\"")).unwrap();
    let s = load(&folder.path().join("s.toml"), &Overrides::default(), &types()).unwrap();
    let payload = &s.plan.cases[0].workloads[0].payload;
    assert_eq!(payload.size, PayloadSize::Uniform { min: Bytes(47), max: Bytes(50) });
    let Content::File { messages, sha256, .. } = &payload.content else { panic!("{payload:?}") };
    assert_eq!((*messages, sha256.len()), (2, 64));
    std::fs::write(folder.path().join("m.txt"), "\n\n").unwrap();
    let error = load(&folder.path().join("s.toml"), &Overrides::default(), &types()).unwrap_err().to_string();
    assert!(error.contains("it holds no message"), "{error}");
}

#[test]
fn errors_of_options_name_the_option() {
    let wrong = |o: &Overrides| read(GOOD, o).unwrap_err().to_string();
    insta::assert_snapshot!(wrong(&set("workload.load.rate", "0/s")), @r#"
--set workload.load.rate=0/s: the rate is zero, so no message would be sent
hint: write messages per second, such as "1k/s"
"#);
    insta::assert_snapshot!(wrong(&set("workload.load.rtae", "1/s")), @r#"
--set workload.load.rtae=1/s: unknown key `rtae`
hint: did you mean `rate`?
"#);
    insta::assert_snapshot!(wrong(&set("workload.3.load.rate", "1/s")), @r#"
--set workload.3.load.rate=1/s: `workload` has no element 3
hint: it has 1, counted from 0
"#);
    insta::assert_snapshot!(wrong(&Overrides { trials: Some(0), ..Overrides::default() }), @"--trials 0: must be at least 1");
    insta::assert_snapshot!(wrong(&Overrides { systems: vec!["nat".into()], ..Overrides::default() }), @r#"
--system nat: there is no system called `nat`
hint: did you mean `nats`? the systems are reference, nats, jetstream, kafka, bridge, redis, null
"#);
}

#[test]
fn the_plan_reads_well() {
    insta::assert_snapshot!(describe(&read(GOOD, &Overrides { rate: Some(Rate(9.0)), ..Overrides::default() }).unwrap().plan, &types()), @r#"
scenario    fanout
question    How late?
systems     reference (reference, started for each trial)
            nats (nats, started for each trial)
workload    fan-out (fan-out)
  topology  1 producers, 1 channels, 4 groups of 1 consumers
  load      open, constant, 9/s
  payload   128B, random
  messages  90 per trial, 360 samples
  supported p50
  too few   p99: fewer than 10 samples above
phases      warm-up 2s, measure 10s, drain at most 5s

cases       2 (2 systems x 1 points)
trials      3 of each case, seed 42
time        at most 102s once connected
"#);
}

#[test]
fn the_schema_knows_every_table() {
    let schema = schema(&types());
    for key in ["name", "question", "system", "workload", "run", "sweep"] {
        assert!(schema["properties"].get(key).is_some(), "{key}");
    }
    assert_eq!(schema["additionalProperties"], serde_json::Value::Bool(false));
}

proptest! {
    #[test]
    fn mutations_never_panic(at in 0usize..400, drop in 0usize..12, put in "[ -~\né]{0,6}", quick: bool) {
        let floor = |i: usize| i.min(GOOD.len());
        let text = format!("{}{put}{}", &GOOD[..floor(at)], &GOOD[floor(at + drop)..]);
        if let Err(e) = read(&text, &Overrides { quick, ..Overrides::default() }) {
            prop_assert!(e.to_string().starts_with("s.toml:"), "{}", e);
        }
    }
    #[test]
    fn settings_never_panic(path in "(workload|system|run|sweep|name)(\\.(0|1|load|rate|steps|nats|x|duration)){0,4}",
        value in "[ -~]{0,8}|[0-9]{1,20}[kM]?/s|[0-9]{1,20}(s|h)|\\[\\]|\\{\\}") {
        if let Err(e) = read(GOOD, &set(&path, &value)) {
            prop_assert!(!e.to_string().is_empty());
        }
    }
}

/// The same schedule in every way to say it.
#[test]
fn a_rate_is_of_all_producers_or_of_each() {
    let of = |load: &str| {
        let text = GOOD[..GOOD.find("[sweep]").unwrap()].replace("rate = \"20k/s\"", load);
        read(&text, &set("workload.producers", "200")).map(|s| s.plan.cases[0].workloads[0].load.clone())
    };
    let all = of("rate = \"5/s\"").unwrap();
    for load in ["rate-per-producer = \"0.025/s\"", "rate-per-producer = \"1/40s\"", "rate-per-producer = 0.025"] {
        assert_eq!(of(load).unwrap(), all, "{load}");
    }
    let told = of("rate = 5\nrate-per-producer = 1").unwrap_err().to_string();
    assert!(told.starts_with("s.toml:11:21: `rate` and `rate-per-producer` exclude each other"), "{told}");
    assert!(told.contains("`rate` is of all producers together"), "{told}");
    let s = read(GOOD, &Overrides { rate: Some(Rate(9.0)), ..set("workload.producers", "3") }).unwrap();
    assert!(describe(&s.plan, &types()).contains("open, constant, 9/s of all 3 producers, 3/s each\n"));
    // The command line says the rate of all.
    let text = GOOD[..GOOD.find("[sweep]").unwrap()].replace("rate = \"20k/s\"", "rate-per-producer = 7");
    let s = read(&text, &Overrides { rate: Some(Rate(9.0)), ..Overrides::default() }).unwrap();
    assert_eq!(rate(&s, 0), Rate(9.0));
}

#[test]
fn a_long_run_has_no_more_intervals_than_are_looked_at() {
    for (duration, interval) in [("5s", 1), ("10m", 1), ("601s", 2), ("1h", 6), ("24h", 144)] {
        let plan = read(GOOD, &set("run.duration", duration)).unwrap().plan;
        assert_eq!(plan.cases[0].phases.interval, Span::secs(interval), "{duration}");
    }
}

#[test]
fn bursts_are_on_top_of_a_rate_and_several_intervals_long() {
    let of = |burst: &str, o: &Overrides| {
        let load = format!("rate = \"3k/s\"\nburst = {burst}");
        read(&GOOD[..GOOD.find("[sweep]").unwrap()].replace("rate = \"20k/s\"", &load), o)
    };
    let case = |burst: &str, o: &Overrides| {
        let case = of(burst, o).unwrap().plan.cases.remove(0);
        let Load::Open { profile, .. } = &case.workloads[0].load else { panic!("not open") };
        let pieces: Vec<_> = profile.segments.iter().map(|s| (s.span, s.from.0, s.to.0)).collect();
        assert!(profile.repeat);
        (pieces, case.phases.interval)
    };
    let top = "{ every = \"10s\", length = \"1s\", rate = \"10k/s\" }";
    let (pieces, interval) = case(top, &Overrides::default());
    assert_eq!(pieces, [(Span::secs(9), 3e3, 3e3), (Span::secs(1), 1e4, 1e4)]);
    assert_eq!(interval, Span::millis(250));
    let (pieces, interval) = case("{ on = \"200ms\", off = \"2s\" }", &Overrides::default());
    assert_eq!(pieces, [(Span::millis(200), 3e3, 3e3), (Span::secs(2), 0.0, 0.0)]);
    assert_eq!(interval, Span::millis(50));
    assert_eq!(case(top, &set("run.interval", "2s")).1, Span::secs(2));
    assert_eq!(case("{ on = \"1h\", off = \"1h\" }", &Overrides::default()).1, Span::secs(1));
    // A quick run sees whole bursts.
    let (pieces, interval) = case(top, &Overrides { quick: true, ..Overrides::default() });
    assert_eq!(pieces[0].0.0 + pieces[1].0.0, Span::secs(2).0);
    assert!(interval.0 * 4 <= pieces[1].0.0, "{interval}");
    for (burst, words) in [
        ("{ every = \"1s\", length = \"1s\", rate = \"10k/s\" }", "s.toml:11:34: a burst of 1s every 1s never ends"),
        ("{ every = \"2s\", length = \"1s\", rate = \"2k/s\" }", "s.toml:11:47: 2k/s is no more than the 3k/s"),
        ("{ every = \"2s\", on = \"1s\" }", "s.toml:11:9: it does not say when a burst begins and ends"),
        ("{}", "s.toml:11:9: it does not say when a burst begins and ends"),
    ] {
        let told = of(burst, &Overrides::default()).unwrap_err().to_string();
        assert!(told.starts_with(words), "{told}");
    }
}

#[test]
fn a_place_is_refused_where_it_is_named_and_a_system_without_places_is_left_out() {
    let text = |systems: &str, at: &str| {
        format!(
            "name = \"t\"\nquestion = \"?\"\n{systems}[[workload]]\npattern = \"fan-out\"\nload.rate = \"1k/s\"\nat = {at}\n"
        )
    };
    let nats = "[[system]]\ndriver = \"nats\"\noptions = { nodes = 2, leaf-nodes = 1 }\n";
    let said = |systems: &str, at: &str| read(&text(systems, at), &Overrides::default()).unwrap_err().to_string();
    for at in
        ["\"node-2\"", "{ producers = \"leaf-1\" }", "{ producers = \"node-1\", consumers = [\"node-2\", \"leaf-1\"] }"]
    {
        let plan = read(&text(nats, at), &Overrides::default()).unwrap().plan;
        assert!(!plan.cases[0].workloads[0].at.is_empty(), "{at}");
    }
    let wrong = said(nats, "{ producers = \"node-1\", consumers = [\"node-2\", \"leaf-2\"] }");
    assert!(wrong.starts_with("s.toml:9:42: "), "{wrong}");
    assert!(wrong.contains("nats has no server `leaf-2`") && wrong.contains("did you mean `leaf-1`?"), "{wrong}");
    let wrong = said(nats, "\"east\"");
    assert!(wrong.contains("nats has no server `east`") && wrong.contains("node-1, node-2, leaf-1"), "{wrong}");
    assert!(said(nats, "{ consumers = [] }").contains("the list is empty"));
    let external = "[[system]]\ndriver = \"nats\"\nurl = \"nats://127.0.0.1:4222\"\n";
    assert!(said(external, "\"node-1\"").contains("nats has a url"));
    // Alone it cannot do it; beside one that can it is left out.
    let reference = "[[system]]\ndriver = \"reference\"\n";
    let wrong = said(reference, "\"node-1\"");
    assert!(wrong.contains("reference cannot do this: its clients cannot be told"), "{wrong}");
    assert!(wrong.starts_with("s.toml:8:6: "), "{wrong}");
    assert!(read(&text(&format!("{nats}{reference}"), "\"node-1\""), &Overrides::default()).is_ok());
    // A swept place is refused in the sweep.
    let swept = format!("{}[sweep]\n\"workload.at.consumers\" = [\"node-1\", \"leaf-9\"]\n", text(nats, "\"node-1\""));
    let swept = swept.replace("at = \"node-1\"\n", "at = { producers = \"node-1\" }\n");
    let wrong = read(&swept, &Overrides::default()).unwrap_err().to_string();
    assert!(wrong.starts_with("s.toml:11:38: ") && wrong.contains("`leaf-9`"), "{wrong}");
}
