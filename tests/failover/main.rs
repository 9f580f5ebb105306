//! Faults of a cluster: who has a role is known when the fault is due, what was done is on record,
//! and the scenarios that disturb a cluster run on the real servers.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails here")]

mod cut;
mod faults;
#[path = "../common/needs.rs"]
mod needs;
mod scenarios;
mod views;

use std::path::Path;
use std::process::{Command, Output};

use serde_json::Value;

const PROGRAM: &str = env!("CARGO_BIN_EXE_msgbench");

/// `msgbench run` of a scenario file with `args`; results go to `dir`.
fn run(dir: &Path, file: &str, args: &[&str]) -> Output {
    let mut command = Command::new(PROGRAM);
    command.args(["run", file, "--format", "record", "--out"]).arg(dir.join("results")).args(args);
    // The bound on the start of a system: on a busy machine Java alone takes a minute.
    command.args(["--set", "run.connect=180s"]);
    command.output().unwrap()
}

/// The trials of a run, by system.
fn trials(output: &Output) -> Vec<Value> {
    let said = String::from_utf8_lossy(&output.stderr);
    let record: Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|e| panic!("{e}: {said}"));
    record["trials"].as_array().unwrap().clone()
}

/// A trial that ran to its end.
fn complete(trial: &Value) {
    assert_eq!(trial["outcome"]["status"], "complete", "{}: {}", trial["outcome"], trial["events"]);
}

/// What the log says that begins with these words.
fn said(trial: &Value, begins: &str) -> Vec<String> {
    let all = trial["events"].as_array().unwrap().iter().filter_map(|e| e["text"].as_str());
    all.filter(|text| text.starts_with(begins)).map(str::to_owned).collect()
}

/// The faults of a trial.
fn faults(trial: &Value) -> Vec<Value> {
    trial["faults"].as_array().cloned().unwrap_or_default()
}
