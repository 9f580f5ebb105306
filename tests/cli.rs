//! The command line as a script sees it: exit codes, JSON, and messages that name what failed and
//! what to do.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails here")]

#[path = "common/needs.rs"]
mod needs;

use assert_cmd::Command;
use predicates::prelude::PredicateBooleanExt;
use predicates::str::contains;
use serde_json::Value;

fn msgbench() -> Command {
    Command::new(env!("CARGO_BIN_EXE_msgbench"))
}

fn json(command: &mut Command) -> Value {
    let output = command.output().unwrap();
    serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|e| panic!("{e}: {}", String::from_utf8_lossy(&output.stderr)))
}

#[test]
fn every_shipped_scenario_is_valid_and_opens_with_its_question() {
    let mut scenarios = 0;
    for file in std::fs::read_dir("scenarios").unwrap().map(|e| e.unwrap().path()) {
        if file.extension().is_none_or(|e| e != "toml") {
            continue;
        }
        scenarios += 1;
        let text = std::fs::read_to_string(&file).unwrap();
        assert!(text.starts_with("# Question: "), "{}", file.display());
        let checked = msgbench().args(["check", file.to_str().unwrap(), "--format", "json"]).output().unwrap();
        let said = String::from_utf8_lossy(&checked.stderr);
        if !needs::own_network(checked.status.code(), &said) {
            continue;
        }
        let plan: Value = serde_json::from_slice(&checked.stdout).unwrap_or_else(|e| panic!("{e}: {said}"));
        let question = plan["question"].as_str().unwrap();
        assert_eq!(text.lines().next().unwrap().trim_start_matches("# Question: "), question);
        assert_eq!(plan["name"], file.file_stem().unwrap().to_str().unwrap());
        assert!(!plan["cases"].as_array().unwrap().is_empty());
    }
    assert!(scenarios >= 6, "{scenarios}");
}

#[test]
fn check_says_what_would_be_done() {
    msgbench()
        .args(["check", "scenarios/fanout.toml", "--set", "workload.payload.size=1KiB"])
        .assert()
        .success()
        .stdout(contains("fanout").and(contains("1KiB")).and(contains("p99.9")));
}

#[test]
fn a_system_that_is_not_there_is_skipped_or_asked_for() {
    let out = tempfile::tempdir().unwrap();
    let run = |extra: &[&str]| {
        let mut command = msgbench();
        command.env("MSGBENCH_NATS_SERVER", "/nowhere/nats-server");
        command.args(["run", "scenarios/burst.toml", "--quick", "--out", out.path().to_str().unwrap()]).args(extra);
        command
    };
    let record = json(run(&["--format", "record"]).args(["--duration", "500ms"]));
    assert_eq!(record["skipped"][0]["system"], "nats");
    assert!(record["skipped"][0]["remedy"].as_str().unwrap().contains("nats-server"), "{}", record["skipped"]);
    assert!(record["trials"].as_array().unwrap().iter().all(|t| t["case"] == "reference"));
    run(&["--system", "nats"]).assert().code(6).stderr(contains("nats-server").and(contains("MSGBENCH_NATS_SERVER")));
}

#[test]
fn an_address_where_nobody_listens_is_the_systems_failure_and_names_the_remedy() {
    let out = tempfile::tempdir().unwrap();
    // No free port is ever this low, so that no other test can listen there.
    msgbench()
        .args(["run", "scenarios/fanout.toml", "--quick", "--system", "nats"])
        .args(["--set", "system.nats.url=nats://127.0.0.1:1", "--out", out.path().to_str().unwrap()])
        .assert()
        .code(6)
        .stdout(contains("FAILED").and(contains("refused")).and(contains("correct its url in the")));
}

#[test]
fn usage_errors_exit_with_2() {
    msgbench().args(["run", "no-such-file.toml"]).assert().code(2).stderr(contains("no-such-file.toml"));
    msgbench().args(["run"]).assert().code(2);
    msgbench()
        .args(["run", "scenarios/fanout.toml", "--set", "workload.payload.sise=1KiB"])
        .assert()
        .code(2)
        .stderr(contains("did you mean `size`"));
    msgbench()
        .args(["run", "scenarios/fanout.toml", "--system", "nat"])
        .assert()
        .code(2)
        .stderr(contains("did you mean `nats`"));
}

#[test]
fn systems_tells_what_is_found_and_how_to_get_the_rest() {
    let systems = json(msgbench().args(["systems", "--format", "json"]));
    let systems = systems.as_array().unwrap();
    assert!(systems.iter().any(|s| s["system"] == "reference" && s["available"] == true), "{systems:?}");
    msgbench()
        .arg("systems")
        .env("MSGBENCH_NATS_SERVER", "/nowhere/nats-server")
        .assert()
        .success()
        .stdout(contains("reference").and(contains("nats-server")));
}

#[test]
fn schemas_and_completions_are_printed() {
    let schema = json(msgbench().args(["schema"]));
    assert!(schema["properties"]["workload"].is_object());
    msgbench().args(["completions", "bash"]).assert().success().stdout(contains("msgbench"));
}

#[test]
fn quiet_prints_nothing() {
    let out = tempfile::tempdir().unwrap();
    let mut command = msgbench();
    command.args(["run", "scenarios/floor.toml", "--quick", "--duration", "200ms", "--quiet", "--out"]);
    let output = command.arg(out.path()).output().unwrap();
    assert!(output.stdout.is_empty() && output.stderr.is_empty(), "{output:?}");
}
