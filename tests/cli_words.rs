//! What may be typed: scenarios without a file, built-in and past results by name, files to begin
//! with, and what the help says.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails here")]

#[path = "common/needs.rs"]
mod needs;

use std::path::{Path, PathBuf};
use std::process::Output;

use assert_cmd::Command;
use predicates::prelude::PredicateBooleanExt;
use predicates::str::contains;
use serde_json::Value;

/// The program in a folder of its own, without systems of this machine.
fn msgbench(dir: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_msgbench"));
    command.current_dir(dir).env("MSGBENCH_CERTIFICATE", "");
    command.env("MSGBENCH_NATS_SERVER", "/nowhere/nats-server").env("MSGBENCH_KAFKA_HOME", "/nowhere/kafka");
    command
}

fn folder() -> tempfile::TempDir {
    tempfile::tempdir().unwrap()
}

fn json(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|e| panic!("{e}: {}", String::from_utf8_lossy(&output.stderr)))
}

fn plan(dir: &Path, args: &[&str]) -> Value {
    json(&msgbench(dir).arg("check").args(args).args(["--format", "json"]).output().unwrap())
}

#[test]
fn options_alone_are_a_scenario() {
    let dir = folder();
    let plan = plan(
        dir.path(),
        &[
            "--system",
            "nats",
            "--system",
            "kafka",
            "--pattern",
            "fan-out",
            "--consumers",
            "4",
            "--producers",
            "2",
            "--rate",
            "10k",
            "--size",
            "1KiB",
            "--duration",
            "10s",
            "--trials",
            "2",
        ],
    );
    let names: Vec<&str> = plan["systems"].as_array().unwrap().iter().map(|s| s["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["nats", "kafka"]);
    let case = &plan["cases"][0];
    assert_eq!(case["phases"]["measure"], "10s");
    assert_eq!(plan["trials"], 2);
    let text = case.to_string();
    for part in ["10k/s", "1KiB", "\"groups\":4", "\"producers\":2"] {
        assert!(text.contains(part), "{part} is not in {text}");
    }
    // A system alone, and a pattern alone.
    for least in [&["--system", "reference"][..], &["--pattern", "request-reply"]] {
        msgbench(dir.path()).arg("check").args(least).assert().success();
    }
}

/// However options are put together: what `--save` writes means what they meant.
#[test]
fn what_is_saved_gives_the_same_plan() {
    let dir = folder();
    let tries: &[&[&str]] = &[
        &["--system", "reference"],
        &[
            "--system",
            "reference",
            "--pattern",
            "stream",
            "--rate",
            "1000",
            "--set",
            "workload.delivery.keys.uniform=10",
        ],
        &["--system", "nats", "--url", "nats://u:${USER_SECRET}@127.0.0.1:4222", "--size", "2KB"],
        &["--system", "nats", "--system", "kafka", "--url", "kafka=127.0.0.1:9092", "--duration", "90s"],
        &["--pattern", "queue-group", "--consumers", "3", "--set", "workload.load.mode=unthrottled"],
        &["--system", "kafka", "--set", "system.kafka.options.linger=1ms", "--trials", "7"],
        &["--pattern", "replay", "--set", "workload.delivery.backlog=1000", "--set", "run.percentiles=[0.5, 0.999]"],
    ];
    for (i, args) in tries.iter().enumerate() {
        let name = format!("s{i}.toml");
        let check = |args: &[&str]| {
            let mut command = msgbench(dir.path());
            command.env("USER_SECRET", "hidden").arg("check").args(args).args(["--format", "json"]);
            json(&command.output().unwrap())
        };
        let made = check(&[args, &["--save", &name][..]].concat());
        assert_eq!(check(&[&name]), made, "{args:?}");
        let text = std::fs::read_to_string(dir.path().join(&name)).unwrap();
        assert!(text.starts_with("# Question: "), "{text}");
        assert!(!text.contains("hidden"), "a variable stays a variable: {text}");
        // Not over what is there.
        let again = [args, &["--save", &name][..]].concat();
        msgbench(dir.path())
            .env("USER_SECRET", "x")
            .arg("check")
            .args(again)
            .assert()
            .code(2)
            .stderr(contains("is there already"));
    }
}

#[test]
fn a_mistake_in_an_option_names_the_option() {
    let dir = folder();
    for (args, words) in [
        (&["--system", "nat"][..], &["--system nat", "did you mean `nats`"][..]),
        (&["--system", "reference", "--size", "4B"], &["--size 4B", "envelope"]),
        (&["--system", "reference", "--consumers", "900000"], &["--consumers 900000"]),
        (&["--system", "reference", "--trials", "0"], &["--trials 0"]),
        (&["--system", "nats", "--url", "http://x"], &["--url: "]),
        (&["--system", "nats", "--system", "kafka", "--url", "x:1"], &["--url: of which", "--url nats=URL"]),
        (&["--system", "nats", "--set", "workload.payload.sise=1KiB"], &["did you mean `size`"]),
        (&["--pattern", "fanout"], &["fan-out"]),
        (&["--url", "nats://x"], &["--system"]),
        (&[], &["msgbench scenarios", "--system"]),
        (&["--system", "reference", "--rate", "fast"], &["messages per second"]),
        (&["fanuot"], &["fanuot", "did you mean `fanout`"]),
        (&["scenarios/fanout.toml"], &["scenarios/fanout.toml", "`fanout` is built in"]),
        (&["replay-file"], &["data/orders.jsonl", "scenarios show replay-file --out"]),
        (&["--json", "fanout"], &["--format json"]),
    ] {
        for command in ["check", "run"] {
            let output = msgbench(dir.path()).arg(command).args(args).output().unwrap();
            let said = String::from_utf8_lossy(&output.stderr);
            assert_eq!(output.status.code(), Some(2), "{args:?}: {said}");
            words.iter().for_each(|w| assert!(said.contains(w), "{command} {args:?}: {said}"));
        }
    }
}

#[test]
fn a_scenario_has_a_name_a_file_or_standard_input() {
    let dir = folder();
    assert_eq!(plan(dir.path(), &["fanout"])["name"], "fanout");
    let text = std::fs::read_to_string("scenarios/burst.toml").unwrap();
    let piped =
        msgbench(dir.path()).args(["check", "-", "--format", "json"]).write_stdin(text.clone()).output().unwrap();
    assert_eq!(json(&piped)["name"], "burst");
    let wrong = text.replace("trials = 3", "trails = 3");
    let piped = msgbench(dir.path()).args(["check", "-"]).write_stdin(wrong).output().unwrap();
    let said = String::from_utf8_lossy(&piped.stderr).into_owned();
    assert!(said.contains("(standard input):") && said.contains("did you mean `trials`"), "{said}");
    // A folder of that name is no scenario, a file of that name is.
    std::fs::create_dir(dir.path().join("fanout")).unwrap();
    assert_eq!(plan(dir.path(), &["fanout"])["name"], "fanout");
    std::fs::remove_dir(dir.path().join("fanout")).unwrap();
    std::fs::write(dir.path().join("fanout"), text).unwrap();
    assert_eq!(plan(dir.path(), &["fanout"])["name"], "burst");
}

#[test]
fn every_built_in_scenario_is_listed_shown_and_checked() {
    let dir = folder();
    let list = json(&msgbench(dir.path()).args(["scenarios", "--format", "json"]).output().unwrap());
    for entry in list.as_array().unwrap() {
        let name = entry["name"].as_str().unwrap();
        let shown = msgbench(dir.path()).args(["scenarios", "show", name]).output().unwrap();
        let file = std::fs::read_to_string(format!("scenarios/{name}.toml")).unwrap();
        assert_eq!(String::from_utf8_lossy(&shown.stdout).trim_end(), file.trim_end());
        assert!(file.starts_with(&format!("# Question: {}", entry["question"].as_str().unwrap())));
        msgbench(dir.path()).args(["scenarios", "show", name, "--out", "all"]).assert().success();
        let checked = msgbench(dir.path()).args(["check", &format!("all/{name}.toml")]).output().unwrap();
        let said = String::from_utf8_lossy(&checked.stderr);
        assert!(!needs::own_network(checked.status.code(), &said) || checked.status.success(), "{name}: {said}");
    }
    msgbench(dir.path()).args(["scenarios", "show", "fanuot"]).assert().code(2).stderr(contains("`fanout`"));
    msgbench(dir.path())
        .args(["scenarios", "show", "fanout", "--out", "all"])
        .assert()
        .code(2)
        .stderr(contains("--force"));
}

#[test]
fn init_writes_what_runs_and_nothing_over_what_is_there() {
    let dir = folder();
    for kind in ["orders", "telemetry", "rpc", "stream", "ci"] {
        let file = format!("{kind}.toml");
        msgbench(dir.path()).args(["init", kind]).assert().success().stdout(contains(&file));
        msgbench(dir.path()).args(["check", &file]).assert().success();
        let mut run = msgbench(dir.path());
        // The checks of a slow machine are not what is asked here.
        run.args(["run", &file, "--quick", "--system", "reference", "--duration", "500ms"]);
        run.args(["--set", "run.warmup=200ms", "--format", "json"]);
        let output = run.output().unwrap();
        let summary = &json(&output)["summary"];
        assert!(matches!(output.status.code(), Some(0 | 3 | 4)), "{kind}: {summary}");
        assert!(summary["cases"][0]["expected"].as_u64().unwrap() > 0, "{kind}: {summary}");
        let before = std::fs::read(dir.path().join(&file)).unwrap();
        std::fs::write(dir.path().join(&file), "mine").unwrap();
        msgbench(dir.path()).args(["init", kind]).assert().code(2).stderr(contains("--force"));
        assert_eq!(std::fs::read(dir.path().join(&file)).unwrap(), b"mine");
        msgbench(dir.path()).args(["init", kind, "--force"]).assert().success();
        assert_eq!(std::fs::read(dir.path().join(&file)).unwrap(), before);
    }
    // Nothing is asked where nobody can answer.
    let other = folder();
    msgbench(other.path()).arg("init").assert().success().stdout(contains("telemetry.toml"));
}

/// Results of scenario `quiet`, oldest first: whole, whole, quick; then one of another scenario,
/// and two damaged ones.
fn results(dir: &Path) -> Vec<PathBuf> {
    let mut paths = Vec::new();
    let run = |name: &str, extra: &[&str]| {
        let before: Vec<_> = found(dir);
        let args = [
            "--pattern",
            "fan-out",
            "--system",
            "null",
            "--system",
            "reference",
            "--consumers",
            "1",
            "--duration",
            "200ms",
            "--trials",
            "1",
        ];
        let mut command = msgbench(dir);
        command.arg("run").args(args).args(["--set", "run.warmup=0s", "--set", &format!("name={name}"), "--quiet"]);
        command.args(extra).assert().code(predicates::ord::lt(5));
        found(dir).into_iter().find(|p| !before.contains(p)).unwrap()
    };
    paths.push(run("quiet", &[]));
    paths.push(run("quiet", &[]));
    paths.push(run("quiet", &["--quick"]));
    paths.push(run("other", &[]));
    let damaged = dir.join("results/quiet/2020-01-01T00-00-00Z");
    std::fs::create_dir_all(&damaged).unwrap();
    let half = dir.join("results/other/2020-01-02T00-00-00Z");
    std::fs::create_dir_all(&half).unwrap();
    std::fs::write(half.join("run.json"), "{\"schema\": \"msgbench.run/1\", ").unwrap();
    paths
}

fn found(dir: &Path) -> Vec<PathBuf> {
    let folders = |path: &Path| -> Vec<PathBuf> {
        std::fs::read_dir(path).map(|all| all.map(|e| e.unwrap().path()).collect()).unwrap_or_default()
    };
    folders(&dir.join("results")).iter().flat_map(|scenario| folders(scenario)).collect()
}

fn name(path: &Path) -> &str {
    path.file_name().unwrap().to_str().unwrap()
}

#[test]
fn past_results_have_names() {
    let dir = folder();
    let paths = results(dir.path());
    let list = json(&msgbench(dir.path()).args(["list", "--format", "json"]).output().unwrap());
    let list = list.as_array().unwrap();
    let order: Vec<&str> = list.iter().map(|e| name(Path::new(e["path"].as_str().unwrap()))).collect();
    let newest = [3, 2, 1, 0].map(|i| name(&paths[i]));
    assert_eq!(order[..4], newest);
    assert_eq!(order[4..], ["2020-01-02T00-00-00Z", "2020-01-01T00-00-00Z"]);
    assert_eq!(list.iter().filter(|e| e["quick"] == true).count(), 1);
    assert!(list[4..].iter().all(|e| e["verdict"] == "DAMAGED" && e["problem"].is_string()), "{list:?}");
    let text = msgbench(dir.path()).arg("list").output().unwrap();
    let text = String::from_utf8_lossy(&text.stdout).into_owned();
    assert!(text.contains("quick") && text.contains("DAMAGED") && text.contains("null"), "{text}");

    let said = |args: &[&str]| {
        let output = msgbench(dir.path()).args(args).output().unwrap();
        assert_ne!(output.status.code(), Some(2), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stderr).into_owned()
    };
    // By the name of a scenario: the newest but the quick one, which is said.
    let words = said(&["compare", "quiet"]);
    assert!(
        words.contains(name(&paths[1])) && words.contains("1 quick result left out; name one to have it"),
        "{words}"
    );
    assert!(said(&["compare", "latest"]).contains(name(&paths[3])));
    // The older one is the baseline.
    std::fs::rename(paths[3].parent().unwrap(), dir.path().join("elsewhere")).unwrap();
    for order in [["latest", "previous"], ["previous", "latest"]] {
        let words = said(&["compare", order[0], order[1]]);
        let (base, candidate) = words.split_once(", candidate ").unwrap();
        assert!(base.contains(name(&paths[0])) && candidate.contains(name(&paths[1])), "{words}");
    }
    // A folder: without the quick one, which is taken where it is named itself.
    assert!(said(&["compare", "results/quiet"]).contains("1 quick result left out"));
    let quick = paths[2].to_str().unwrap();
    assert!(!said(&["compare", quick]).contains("left out"));
    assert!(said(&["report", "latest"]).is_empty());
    assert!(paths[2].join("report.html").exists());

    let words = said(&["history", "h.jsonl", "--add", "results/quiet"]);
    assert!(words.contains("1 quick result left out"), "{words}");
    msgbench(dir.path()).args(["compare", "quite"]).assert().code(2).stderr(contains("did you mean `quiet`"));
    msgbench(dir.path()).args(["compare", "results/none"]).assert().code(2).stderr(contains("results/none"));
}

#[test]
fn a_summary_for_scripts_has_its_schema() {
    let dir = folder();
    let args =
        ["run", "--system", "null", "--system", "reference", "--quick", "--duration", "200ms", "--format", "json"];
    let output = msgbench(dir.path()).args(args).output().unwrap();
    let value = json(&output);
    let summary = &value["summary"];
    assert_eq!(value.as_object().unwrap().len(), 1);
    assert_eq!(summary["schema"], "msgbench.summary/1");
    assert_eq!(summary["exit_code"].as_i64(), output.status.code().map(i64::from));
    assert_eq!((&summary["quick"], &summary["cases"][0]["system"]), (&Value::Bool(true), &Value::from("null")));
    let record: Value =
        serde_json::from_slice(&std::fs::read(dir.path().join(summary["record"].as_str().unwrap())).unwrap()).unwrap();
    assert_eq!(record["schema"], "msgbench.run/1");
    let schema = json(&msgbench(dir.path()).args(["schema", "summary"]).output().unwrap());
    let declared = |name: &str| -> Vec<String> {
        schema["$defs"][name]["properties"].as_object().unwrap().keys().cloned().collect()
    };
    let keys = |value: &Value| -> Vec<String> { value.as_object().unwrap().keys().cloned().collect() };
    let sorted = |mut list: Vec<String>| {
        list.sort();
        list
    };
    assert_eq!(sorted(keys(summary)), sorted(declared("RunSummary")));
    assert_eq!(sorted(keys(&summary["cases"][0])), sorted(declared("CaseSummary")));
    // Every field is explained where scripts are explained.
    let docs = std::fs::read_to_string("docs/cli.md").unwrap();
    for field in declared("RunSummary").iter().chain(&declared("CaseSummary")) {
        assert!(docs.contains(&format!("`{field}`")), "docs/cli.md does not name `{field}`");
    }
    // Named by its path, a quick result is compared.
    let path = Path::new(summary["record"].as_str().unwrap());
    let compared = msgbench(dir.path()).args(["compare", path.to_str().unwrap(), "--format", "json"]).output().unwrap();
    let compared = json(&compared);
    assert!(compared["summary"]["verdict"].is_string() && compared["rows"].is_array());
}

#[test]
fn colours_are_as_asked_for() {
    let dir = folder();
    let args = ["run", "floor", "--quick", "--duration", "200ms", "--set", "sweep={}"];
    for (color, codes) in [("always", true), ("never", false), ("auto", false)] {
        let output = msgbench(dir.path()).args(args).args(["--color", color]).output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert_eq!(text.contains('\x1b'), codes, "{color}: {text}");
        assert!(text.contains("report: file:///"), "{text}");
    }
}

#[test]
fn help_names_variables_and_manual_pages_are_written() {
    let dir = folder();
    msgbench(dir.path())
        .arg("--help")
        .assert()
        .success()
        .stdout(contains("MSGBENCH_NATS_SERVER").and(contains("NO_COLOR")).and(contains("130 interrupted")));
    msgbench(dir.path()).args(["man", "pages"]).assert().success();
    for page in ["msgbench.1", "msgbench-run.1", "msgbench-scenarios-show.1"] {
        let text = std::fs::read_to_string(dir.path().join("pages").join(page)).unwrap();
        assert!(text.contains(".SH NAME"), "{page}");
    }
}

/// Each command and each long option of the page is one that the program has.
#[test]
fn the_page_of_the_command_line_is_current() {
    let dir = folder();
    let docs = std::fs::read_to_string("docs/cli.md").unwrap();
    let help = |args: &[&str]| {
        let output = msgbench(dir.path()).args(args).arg("--help").output().unwrap();
        assert!(output.status.success(), "{args:?} is no command");
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    let mut lines = 0;
    for line in docs.lines().filter_map(|l| l.trim_start().strip_prefix("msgbench ")) {
        let line = line.split("   ").next().unwrap();
        let command = line.split_whitespace().next().unwrap();
        let known = match line.contains(" show ") {
            true => help(&[command, "show"]),
            false => help(&[command]),
        };
        for option in line.split_whitespace().filter(|w| w.starts_with("--")) {
            assert!(known.contains(option), "msgbench {command} has no {option}");
        }
        lines += 1;
    }
    assert!(lines >= 15, "{lines}");
}
