//! Whatever a scenario can say is run by agents, or is refused before anything is started, with a
//! sentence that says why and what to do: nothing is done by halves.

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::Value;

use crate::needs;
use crate::support::{Control, PROGRAM, agents, came, words};

/// All names of a kind that scenarios may say, by the schema.
fn names(kind: &str) -> Vec<String> {
    let output = Command::new(PROGRAM).args(["schema", "scenario"]).output().unwrap();
    let schema: Value = serde_json::from_slice(&output.stdout).unwrap();
    let definition = schema.pointer(&format!("/$defs/{kind}")).unwrap_or_else(|| panic!("no {kind} in the schema"));
    let mut all = Vec::new();
    said(definition, &mut all);
    assert!(all.len() > 5, "{kind}: {all:?}");
    all
}

fn said(of: &Value, all: &mut Vec<String>) {
    match of {
        Value::Object(map) => {
            for (key, value) in map {
                match (key.as_str(), value) {
                    ("const", Value::String(name)) => all.push(name.clone()),
                    ("enum", Value::Array(several)) => {
                        all.extend(several.iter().map(|name| name.as_str().unwrap().to_owned()));
                    }
                    _ => said(value, all),
                }
            }
        }
        Value::Array(several) => several.iter().for_each(|one| said(one, all)),
        _ => {}
    }
}

/// A scenario as it is put to the program.
struct Case {
    name: String,
    file: PathBuf,
    arguments: Vec<String>,
}

fn program(command: &str, case: &Case, more: &[&str]) -> Command {
    let mut it = Command::new(PROGRAM);
    it.arg(command).arg(&case.file).args(&case.arguments).args(more);
    it.stdin(Stdio::null());
    it
}

/// Whether `check` takes it with agents; what it refuses it refuses for a reason of agents, at a
/// line, and says what to do.
fn taken(case: &Case) -> bool {
    let with = ["--set", "agents.count=2", "--set", "agents.control=\"nats://127.0.0.1:1\""];
    let output: Output = program("check", case, &with).output().unwrap();
    if output.status.success() {
        return true;
    }
    let said = words(&output);
    assert_eq!(output.status.code(), Some(2), "{}: {said}", case.name);
    assert!(said.contains("--agents 0") && said.contains("agents"), "{}: {said}", case.name);
    let place = case.file.file_name().unwrap().to_string_lossy().into_owned();
    assert!(said.contains(&format!("{place}:")), "{}: at a line: {said}", case.name);
    // And so does `run`, at once.
    let ran = program("run", case, &["--agents", "2", "--control", "nats://127.0.0.1:1"]).output().unwrap();
    assert!(ran.status.code() == Some(2) && words(&ran).contains("--agents 0"), "{}: {}", case.name, words(&ran));
    false
}

/// Runs all cases that are taken, by two agents each, a few at a time; the others are refused. How
/// many were run.
fn run_or_refuse(cases: &[Case]) -> usize {
    let (next, ran, wrong) = (AtomicUsize::new(0), AtomicUsize::new(0), Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                let (control, spool) = (Control::start(), tempfile::tempdir().unwrap());
                let _agents = agents(&control.url, 2, spool.path());
                while let Some(case) = cases.get(next.fetch_add(1, Ordering::Relaxed)) {
                    if !taken(case) {
                        continue;
                    }
                    ran.fetch_add(1, Ordering::Relaxed);
                    let out = tempfile::tempdir().unwrap();
                    let with = ["--agents", "2", "--control", &control.url, "--format", "record", "--out"];
                    let output = program("run", case, &with).arg(out.path()).output().unwrap();
                    if let Some(words) = fault(&output) {
                        wrong.lock().unwrap().push(format!("{}: {words}", case.name));
                    }
                }
            });
        }
    });
    let wrong = wrong.into_inner().unwrap();
    assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
    ran.into_inner()
}

/// What is wrong with a run: a trial that did not come to its end, or an agent that did not bring
/// its part.
fn fault(output: &Output) -> Option<String> {
    let said = words(output);
    let Ok(record) = serde_json::from_slice::<Value>(&output.stdout) else { return Some(said) };
    let trials = record["trials"].as_array().cloned().unwrap_or_default();
    let whole = |it: &Value| it["outcome"]["status"] == "complete" && came(it) == ["delivered"; 2];
    let sends = |it: &Value| it["workloads"][0]["ledger"]["sent"].as_u64() > Some(0);
    let bad: Vec<String> = trials
        .iter()
        .filter(|it| !whole(it) || !sends(it))
        .map(|it| format!("{} {} {:?}", it["case"], it["outcome"], came(it)))
        .collect();
    (trials.is_empty() || !bad.is_empty()).then(|| format!("{} {} {said}", bad.join(", "), record["skipped"]))
}

fn scenario(dir: &Path, name: &str, system: &str, workload: &str, more: &str) -> Case {
    let text = format!(
        "name = \"t\"\nquestion = \"?\"\n[[system]]\n{system}\n[[workload]]\n{workload}\n{more}\n\
         [run]\nwarmup = \"200ms\"\nduration = \"2s\"\ndrain = \"20s\"\nconnect = \"60s\"\ntrials = 1\n"
    );
    let file = dir.join(format!("{name}.toml"));
    std::fs::write(&file, text).unwrap();
    Case { name: name.into(), file, arguments: Vec::new() }
}

#[test]
fn every_pattern_is_run_by_agents() {
    let dir = tempfile::tempdir().unwrap();
    let mut cases = Vec::new();
    for pattern in names("Pattern") {
        let open = format!("pattern = \"{pattern}\"\nload.rate = \"200/s\"");
        let more = if pattern == "replay" { "\ndelivery = { backlog = 500, replay-after = \"300ms\" }" } else { "" };
        let mut system = "driver = \"reference\"";
        if pattern == "key-value" {
            system = "driver = \"jetstream\"";
            if needs::nats_server().is_none() {
                continue;
            }
        }
        cases.push(scenario(dir.path(), &pattern, system, &(open + more), ""));
        let free = format!("pattern = \"{pattern}\"\nload = {{ mode = \"unthrottled\", window = 100 }}");
        let windowed = scenario(dir.path(), &format!("{pattern}-window"), system, &free, "");
        // Some patterns have no window, with or without agents.
        if program("check", &windowed, &[]).output().unwrap().status.success() {
            assert!(!taken(&windowed), "{pattern}: a window is of one process");
        }
    }
    let patterns = cases.len();
    assert_eq!(run_or_refuse(&cases), patterns);
}

#[test]
fn every_action_is_done_by_the_coordinator_or_refused() {
    let dir = tempfile::tempdir().unwrap();
    let once = "driver = \"reference\"\noptions = { kafka = { exactly-once = \"transactional\" } }";
    let cluster = "driver = \"jetstream\"\noptions = { nodes = 3, replicas = 3 }";
    let (fan_out, stream) = ("pattern = \"fan-out\"", "pattern = \"stream\"\nproducers = 2");
    let group = "pattern = \"queue-group\"\nconsumers = 3";
    let mut cases = Vec::new();
    for action in names("Action") {
        let (system, workload, before, more) = match action.as_str() {
            "pause" | "kill" | "terminate" => ("driver = \"reference\"", fan_out, "", "for = \"300ms\""),
            "restart" => ("driver = \"reference\"", fan_out, "", ""),
            "power" => ("driver = \"reference\"", stream, "", "for = \"300ms\""),
            "resume" => ("driver = \"reference\"", fan_out, "pause", ""),
            "transfer" | "rolling-restart" => (cluster, stream, "", ""),
            "cut" => ("driver = \"reference\"", fan_out, "", "for = \"300ms\""),
            "shape" => (
                "driver = \"reference\"",
                fan_out,
                "",
                "for = \"300ms\"\nqdisc = \"tbf rate 100mbit burst 64kb latency 50ms\"",
            ),
            "mend" => ("driver = \"reference\"", fan_out, "cut", ""),
            "producer-kill" => (once, stream, "", ""),
            "consumer-join" | "consumer-leave" | "consumer-kill" => {
                ("driver = \"reference\"", group, "", "consumer = 1")
            }
            other => panic!("say here how `{other}` is done"),
        };
        if system == cluster && needs::nats_server().is_none() || action == "power" && needs::power(PROGRAM).is_none() {
            continue;
        }
        let before = match before {
            "" => String::new(),
            before => format!("[[event]]\nat = \"500ms\"\naction = \"{before}\"\n"),
        };
        let event = format!("{before}[[event]]\nat = \"1s\"\naction = \"{action}\"\n{more}\n");
        let workload = format!("{workload}\nload.rate = \"200/s\"");
        cases.push(scenario(dir.path(), &action, system, &workload, &event));
    }
    // What is of the network is refused, and all else is done.
    let network = |case: &Case| ["cut", "shape", "mend"].contains(&case.name.as_str());
    let refused = cases.iter().filter(|case| network(case)).count();
    assert_eq!((refused, run_or_refuse(&cases)), (3, cases.len() - 3));
}

/// The scenarios that come with msgbench: each is run on the reference broker, where it is put to
/// that, or is refused.
#[test]
fn every_shipped_scenario_is_run_by_agents_or_refused() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("scenarios");
    let mut files: Vec<PathBuf> = Vec::new();
    for folder in [folder.clone(), folder.join("cookbook")] {
        let all = std::fs::read_dir(folder).unwrap().flatten().map(|f| f.path());
        files.extend(all.filter(|f| f.extension().is_some_and(|e| e == "toml")));
    }
    files.sort();
    assert!(files.len() > 40, "{}", files.len());
    let case = |file: &PathBuf, arguments: &[&str]| Case {
        name: file.file_stem().unwrap().to_string_lossy().into_owned(),
        file: file.clone(),
        arguments: arguments.iter().map(|a| (*a).to_owned()).collect(),
    };
    let (mut here, mut elsewhere) = (Vec::new(), Vec::new());
    for file in &files {
        let text = std::fs::read_to_string(file).unwrap();
        // A search has a command of its own.
        let searches = text.contains("[search]");
        match text.contains("driver = \"reference\"") && !searches {
            true => here.push(case(file, &["--quick", "--system", "reference", "--set", "run.connect=120s"])),
            false => elsewhere.push(case(file, &[])),
        }
    }
    let taken = elsewhere.iter().filter(|case| taken(case)).count();
    let ran = run_or_refuse(&here);
    assert!(ran > 15 && taken > 5, "{ran} of {} were run, {taken} of {} taken", here.len(), elsewhere.len());
}
