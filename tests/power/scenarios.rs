//! The shipped scenarios of a loss of power and of a restart, in short, and what is refused.

use std::path::Path;
use std::process::{Command, Output};

use serde_json::Value;

use crate::{PROGRAM, needs};

fn run(dir: &Path, file: &str, args: &[&str]) -> Output {
    let mut command = Command::new(PROGRAM);
    command.args(["run", file, "--format", "record", "--out"]).arg(dir.join("results")).args(args);
    // The bound on the start of a system: on a busy machine Java alone takes a minute.
    command.args(["--set", "run.connect=180s"]);
    command.output().unwrap()
}

fn trials(output: &Output) -> Vec<Value> {
    let said = String::from_utf8_lossy(&output.stderr);
    let record: Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|e| panic!("{e}: {said}"));
    record["trials"].as_array().unwrap().clone()
}

/// The arguments that leave out systems that are not here.
fn systems<'a>(all: &[(&'a str, &str)]) -> Vec<&'a str> {
    let here = all.iter().filter(|(_, driver)| needs::system(driver).is_some());
    here.flat_map(|(name, _)| ["--system", *name]).collect()
}

/// What the log says that begins with these words.
fn said(trial: &Value, begins: &str) -> Vec<String> {
    let all = trial["events"].as_array().unwrap().iter().filter_map(|e| e["text"].as_str());
    all.filter(|text| text.starts_with(begins)).map(str::to_owned).collect()
}

/// Who syncs before each acknowledgement loses nothing; who does not loses what it has not synced.
/// The load of each takes so long, and the power goes so long after its start.
fn power_loss_is_counted(of: [&str; 2], driver: &str, duration: &str, cut: &str) {
    if needs::power(PROGRAM).is_none() || needs::system(driver).is_none() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let (duration, cut) = (format!("run.duration={duration}"), format!("event.0.at={cut}"));
    let quick = ["--quick", "--set", &duration, "--set", &cut, "--set", "run.drain=10s"];
    let args = [&quick[..], &["--system", of[0], "--system", of[1]]].concat();
    let output = run(dir.path(), "scenarios/power-loss.toml", &args);
    let trials = trials(&output);
    assert_eq!(trials.len(), 2, "{}", String::from_utf8_lossy(&output.stderr));
    for trial in &trials {
        let case = trial["case"].as_str().unwrap();
        let cut = said(trial, "restart node 0 ");
        assert!(cut.iter().any(|words| words.contains("not synced, and lost: ")), "{case}: {}", trial["events"]);
        let kept = &trial["workloads"][0]["kept"];
        let missing = kept["missing"].as_u64().unwrap_or_else(|| panic!("{case}: {trial}"));
        assert!(kept["owed"].as_u64().unwrap() > 100, "{case}: {kept}");
        let synced = case.contains("synced");
        assert_eq!(missing > 0, !synced, "{case}: {kept}; {cut:?}");
        // Who does not sync first has promised no more.
        let level = &trial["system"]["promised"]["durability"];
        assert_eq!(level == "synced-first", synced, "{case}: {level}");
        let promises = trial["workloads"][0]["promises"].as_array().unwrap();
        let broken: Vec<_> = promises.iter().filter(|p| p["kept"] == false).collect();
        assert!(broken.is_empty(), "{case}: {broken:?}");
        let invalid = trial["validity"].as_array().unwrap().iter().filter(|c| c["status"] == "INVALID");
        let ids: Vec<_> = invalid.map(|c| c["id"].clone()).collect();
        assert!(!ids.contains(&"V5".into()), "{case}: the books do not balance");
    }
}

#[test]
fn power_loss_of_the_reference_log_is_counted() {
    power_loss_is_counted(["reference", "reference-synced"], "reference", "5s", "4s");
}

#[test]
fn power_loss_of_jetstream_is_counted() {
    power_loss_is_counted(["jetstream", "jetstream-synced"], "jetstream", "5s", "4s");
}

/// Long enough for a fresh Java virtual machine to have acknowledged something before the cut.
#[test]
fn power_loss_of_kafka_is_counted() {
    power_loss_is_counted(["kafka", "kafka-synced"], "kafka", "6s", "4s");
}

/// A system without such files is refused with its place, before anything is started.
#[test]
fn a_system_whose_files_cannot_lose_their_power_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("s.toml");
    let text = "name = \"s\"\nquestion = \"q?\"\n[[system]]\ndriver = \"redis\"\n[[workload]]\npattern = \"stream\"\nload.rate = \"1k/s\"\n\
                [[event]]\nat = \"1s\"\naction = \"power\"\n[run]\nduration = \"3s\"\n";
    std::fs::write(&file, text).unwrap();
    let output = Command::new(PROGRAM).arg("check").arg(&file).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert!(said.contains("s.toml:10:") && said.contains("the files of redis cannot lose their power"), "{said}");
}

/// Where no such file system can be mounted, the scenario is refused in words.
#[test]
fn where_it_cannot_be_tested_that_is_said() {
    if needs::power(PROGRAM).is_none() {
        return;
    }
    // Without the right to mount anything, and without user namespaces inside this one.
    let script = "echo 0 > /proc/sys/user/max_mnt_namespaces && exec \"$0\" check scenarios/power-loss.toml";
    let output = Command::new("unshare").args(["--user", "--map-root-user", "sh", "-c", script, PROGRAM]).output();
    let output = output.unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("not testable here: a loss of power needs"), "{said}");
    assert_eq!(output.status.code(), Some(2), "{said}");
}

#[test]
fn recovery_of_a_full_log_is_run_in_short() {
    let args = systems(&[("reference", "reference"), ("jetstream", "jetstream"), ("kafka", "kafka")]);
    let dir = tempfile::tempdir().unwrap();
    let output = run(dir.path(), "scenarios/recovery.toml", &[&["--quick"], &args[..]].concat());
    let trials = trials(&output);
    assert_eq!(trials.len(), args.len() / 2, "{}", String::from_utf8_lossy(&output.stderr));
    for trial in &trials {
        assert_eq!(trial["outcome"]["status"], "complete", "{}: {}", trial["outcome"], trial["events"]);
        let ledger = &trial["workloads"][0]["ledger"];
        assert_eq!(ledger["acked_lost"], 0, "{}: {ledger}", trial["case"]);
        assert!(!said(trial, "restart node 0 ").is_empty(), "{}: {}", trial["case"], trial["events"]);
    }
}
