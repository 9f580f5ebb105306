//! The step of the GitHub action as a runner runs it, in a repository of two commits: of a broker,
//! and of a service.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails here")]

#[path = "common/needs.rs"]
mod needs;

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use serde_json::Value;

const PROGRAM: &str = env!("CARGO_BIN_EXE_msgbench");

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn project() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn git(repository: &Path, args: &[&str]) {
    let who = ["-c", "user.name=t", "-c", "user.email=t@example.org", "-c", "commit.gpgsign=false"];
    let output = Command::new("git").args(who).args(args).current_dir(repository).output().unwrap();
    assert!(output.status.success(), "{args:?}: {}", text(&output.stderr));
}

/// A repository of two commits whose programs are the reference broker, the second with a delay of
/// 20 ms.
fn two_commits(repository: &Path) {
    git(repository, &["init", "-q"]);
    for fault in ["", "--fault delay=fixed:20ms"] {
        std::fs::write(repository.join("source"), format!("#!/bin/sh\nexec {PROGRAM} \"$@\" {fault}\n")).unwrap();
        git(repository, &["add", "-A"]);
        git(repository, &["commit", "-q", "-m", "a broker"]);
    }
}

/// The step of `scripts/ci/action.yml` as a runner sees it: its script, and its environment with
/// the inputs filled in.
fn step(inputs: &[(&str, &str)]) -> (String, Vec<(String, String)>) {
    let action = std::fs::read_to_string(project().join("scripts/ci/action.yml")).unwrap();
    assert!(action.lines().all(|l| !l.contains('\t')), "YAML is indented by blanks");
    let part = |from: &str, to: &str| action.split(from).nth(1).unwrap().split(to).next().unwrap().to_string();
    // Name and default of each input: two levels of indentation below `inputs:`.
    let mut known: Vec<(String, Option<String>)> = Vec::new();
    for line in part("\ninputs:\n", "\noutputs:\n").lines() {
        let (depth, text) = (line.len() - line.trim_start().len(), line.trim());
        match (depth, text.split_once(':').unwrap()) {
            (2, (name, "")) => known.push((name.to_string(), None)),
            (4, ("default", value)) => known.last_mut().unwrap().1 = Some(value.trim().trim_matches('"').to_string()),
            (4, ("required" | "description", value)) => assert!(!value.trim().is_empty(), "{line}"),
            other => panic!("{other:?} is not what an input has"),
        }
    }
    for (name, _) in inputs {
        assert!(known.iter().any(|k| k.0 == *name), "no input `{name}`");
    }
    let value = |name: &str| {
        let given = inputs.iter().find(|i| i.0 == name).map(|i| i.1.to_string());
        given
            .or_else(|| known.iter().find(|k| k.0 == name)?.1.clone())
            .unwrap_or_else(|| panic!("`{name}` has no value"))
    };
    let env = part("\n      env:\n", "\n      run: |\n");
    let env: Vec<(String, String)> = env
        .lines()
        .filter(|l| !l.trim_start().starts_with('#'))
        .map(|l| {
            let (name, expression) = l.trim().split_once(": ").unwrap();
            let input = expression.strip_prefix("${{ inputs.").and_then(|e| e.strip_suffix(" }}")).unwrap();
            (name.to_string(), value(input))
        })
        .collect();
    assert_eq!(env.len(), known.len(), "every input reaches the script");
    let script: String = part("\n      run: |\n", "\n\n")
        .lines()
        .map(|l| format!("{}\n", l.strip_prefix("        ").unwrap()))
        .collect();
    assert!(!script.contains("${{"), "no input is text of the script");
    assert!(action.contains("using: composite") && action.contains("shell: bash"));
    (script, env)
}

/// The step as a runner calls `shell: bash`.
fn as_a_runner(run: &str, env: &[(String, String)], repository: &Path, (summary, outputs): (&Path, &Path)) -> Command {
    let mut command = Command::new("bash");
    command
        .args(["--noprofile", "--norc", "-e", "-o", "pipefail", "-c", run])
        .envs(env.iter().cloned())
        .env("GITHUB_ACTION_PATH", project().join("scripts/ci"))
        .env("GITHUB_ACTIONS", "true")
        .env("GITHUB_STEP_SUMMARY", summary)
        .env("GITHUB_OUTPUT", outputs)
        .current_dir(repository);
    command
}

/// What a job with this exit code says. A machine too busy for the schedule makes runs INVALID, and
/// that is then what it says.
fn verdict(code: Option<i32>, said: &str) -> &'static str {
    match code {
        Some(3) => "REGRESSED",
        Some(4) => "INVALID",
        Some(0) => "INCONCLUSIVE",
        other => panic!("{other:?}: {said}"),
    }
}

#[test]
fn a_job_builds_both_commits_runs_them_in_turn_and_reports() {
    let root = tempfile::tempdir().unwrap();
    let dir = root.path();
    let repository = dir.join("repository");
    std::fs::create_dir(&repository).unwrap();
    two_commits(&repository);
    let scenario = "name = \"floor\"\nquestion = \"What does the harness itself cost?\"\n".to_owned()
        + "[[system]]\ndriver = \"reference\"\n[[workload]]\npattern = \"fan-out\"\nload.rate = \"500/s\"\n[run]\n"
        + "warmup = \"100ms\"\nduration = \"400ms\"\npercentiles = [0.5]\n[gate]\nprimary = [\"e2e.p50\"]\n";
    std::fs::write(dir.join("floor.toml"), scenario).unwrap();
    let script = project().join("scripts/ci/regression.sh");
    let (summary, outputs) = (dir.join("summary.md"), dir.join("outputs"));
    let (run, env) = step(&[
        ("scenario", dir.join("floor.toml").to_str().unwrap()),
        ("rounds", "5"),
        ("baseline", "HEAD~1"),
        ("build", "cp source program && chmod +x program"),
        ("program", "program"),
        ("variable", "MSGBENCH_BIN"),
        ("msgbench", PROGRAM),
        ("out", dir.join("out").to_str().unwrap()),
    ]);
    let output = as_a_runner(&run, &env, &repository, (&summary, &outputs)).output().unwrap();
    let said = text(&output.stdout) + &text(&output.stderr);
    let verdict = verdict(output.status.code(), &said);
    let outputs = std::fs::read_to_string(outputs).unwrap();
    assert!(outputs.starts_with(&format!("verdict={verdict}\nreport=")), "{outputs} {said}");
    let summary = std::fs::read_to_string(summary).unwrap();
    assert!(summary.starts_with("## ") && summary.contains(verdict), "{summary}");
    assert!(said.contains("::error title=msgbench%3A ") || verdict == "INCONCLUSIVE", "{said}");
    for file in ["report.html", "report.md", "report.txt", "junit.xml", "compare.json"] {
        assert!(std::fs::metadata(dir.join("out").join(file)).unwrap().len() > 100, "{file}");
    }
    let json: Value = serde_json::from_slice(&std::fs::read(dir.join("out/compare.json")).unwrap()).unwrap();
    let of = |k: &str| json["rows"][0][k]["n"].as_u64().unwrap() + json["rows"][0][k]["excluded"].as_u64().unwrap();
    assert_eq!((of("a"), of("b")), (5, 5), "{said}");
    assert!(json["design"]["words"].as_str().unwrap().contains("alternate") || verdict != "REGRESSED", "{said}");
    let trees = Command::new("git").args(["worktree", "list"]).current_dir(&repository).output().unwrap();
    assert_eq!(text(&trees.stdout).lines().count(), 1, "nothing is left behind");
    // Reports name the commits.
    let head = Command::new("git").args(["rev-parse", "--short", "HEAD"]).current_dir(&repository).output().unwrap();
    let label = json["candidate"]["label"].as_str().unwrap();
    assert_eq!(label, format!("candidate-{}", text(&head.stdout).trim()), "{said}");
    let help = Command::new(&script).arg("--help").output().unwrap();
    assert_eq!(help.status.code(), Some(0));
    assert!(text(&help.stdout).starts_with("Is the candidate slower") && text(&help.stdout).contains("--rounds N"));
    // What cannot be done is said before anything runs.
    let output = Command::new(&script).args(["--scenario", "nowhere.toml"]).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(text(&output.stderr).contains("--scenario names no file"));
}

/// The inputs of the step of a workflow that uses the action, and the variables of the workflow.
fn workflow(text: &str) -> [Vec<(String, String)>; 2] {
    let pairs = |block: &str, depth: usize| {
        let lines = block.lines().map_while(|l| l.strip_prefix(&" ".repeat(depth)).filter(|l| !l.starts_with(' ')));
        let pair = |line: &str| line.split_once(": ").map(|(k, v)| (k.to_owned(), v.trim_matches('"').to_owned()));
        lines.map(|line| pair(line).unwrap()).collect::<Vec<_>>()
    };
    let step = text.split("uses: OWNER/msgbench/scripts/ci@VERSION\n        with:\n").nth(1).unwrap();
    [pairs(step, 10), pairs(text.split("\nenv:\n").nth(1).unwrap(), 2)]
}

/// A nats-server on a port of its own choice; killed when it is dropped.
struct Nats {
    child: Child,
    url: String,
    _dir: tempfile::TempDir,
}

impl Drop for Nats {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Nats {
    fn start(program: &Path) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let ports = dir.path().join("ports");
        std::fs::create_dir(&ports).unwrap();
        let mut command = Command::new(program);
        command.args(["-a", "127.0.0.1", "-p", "-1", "--ports_file_dir", ports.to_str().unwrap()]);
        let child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let mut nats = Self { child, url: String::new(), _dir: dir };
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(60);
        while nats.url.is_empty() {
            assert!(std::time::Instant::now() < deadline, "the nats-server tells no port");
            std::thread::sleep(std::time::Duration::from_millis(10));
            let file = std::fs::read_dir(&ports).unwrap().filter_map(|e| std::fs::read(e.unwrap().path()).ok()).next();
            let told = file.and_then(|bytes| serde_json::from_slice::<Value>(&bytes).ok());
            nats.url = told.and_then(|t| Some(t["nats"][0].as_str()?.to_owned())).unwrap_or_default();
        }
        nats
    }
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let to = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &to);
        } else {
            std::fs::copy(entry.path(), to).unwrap();
        }
    }
}

/// The example repository: its second commit takes 20 ms for each order.
fn service_of_two_commits(repository: &Path) {
    copy(&project().join("examples/service-gate"), repository);
    let edit = |file: &str, from: &str, to: &str| {
        let path = repository.join(file);
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(text.contains(from), "{file}: {from}");
        std::fs::write(path, text.replacen(from, to, 1)).unwrap();
    };
    // The same, in less time.
    edit("msgbench/gateway.toml", "duration = \"5s\"", "duration = \"1s\"");
    edit("msgbench/gateway.toml", "warmup = \"1s\"", "warmup = \"200ms\"");
    git(repository, &["init", "-q"]);
    git(repository, &["add", "-A"]);
    git(repository, &["commit", "-q", "-m", "a service"]);
    edit("service.py", "WORK = 0.0", "WORK = 0.02");
    git(repository, &["commit", "-q", "-a", "-m", "a slower service"]);
}

#[test]
fn a_job_gates_a_service_of_two_commits() {
    let Some((program, _)) = needs::nats_server() else { return };
    let Some(python) = needs::python("nats.aio.client", "nats-py") else { return };
    let nats = Nats::start(&program);
    let dir = tempfile::tempdir().unwrap();
    let (repository, bin) = (dir.path().join("repository"), dir.path().join("bin"));
    service_of_two_commits(&repository);
    // The workflow says python3.
    std::fs::create_dir(&bin).unwrap();
    std::fs::write(bin.join("python3"), format!("#!/bin/sh\nexec '{python}' \"$@\"\n")).unwrap();
    let chmod = Command::new("chmod").arg("+x").arg(bin.join("python3")).status().unwrap();
    assert!(chmod.success());
    let path = format!("{}:{}", bin.display(), std::env::var("PATH").unwrap());
    let out = dir.path().join("out");
    let file = repository.join(".github/workflows/msgbench.yml");
    let [mut inputs, variables] = workflow(&std::fs::read_to_string(file).unwrap());
    assert_eq!(variables, [("NATS_URL".to_owned(), "nats://127.0.0.1:4222".to_owned())]);
    inputs.retain(|(name, _)| name != "rounds");
    let mut inputs: Vec<(&str, &str)> = inputs.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    inputs.extend([("rounds", "6"), ("baseline", "HEAD~1"), ("msgbench", PROGRAM), ("out", out.to_str().unwrap())]);
    let (run, env) = step(&inputs);
    let (summary, outputs) = (dir.path().join("summary.md"), dir.path().join("outputs"));
    let job = |env: &[(String, String)]| {
        let mut command = as_a_runner(&run, env, &repository, (&summary, &outputs));
        command.env("NATS_URL", &nats.url).env("PATH", &path).env("MSGBENCH_CERTIFICATE", "");
        let output = command.output().unwrap();
        (output.status.code(), text(&output.stdout) + &text(&output.stderr))
    };
    let (code, said) = job(&env);
    let verdict = verdict(code, &said);
    let told = std::fs::read_to_string(&outputs).unwrap();
    assert!(told.starts_with(&format!("verdict={verdict}\n")), "{told} {said}");
    let json: Value = serde_json::from_slice(&std::fs::read(out.join("compare.json")).unwrap()).unwrap();
    let row =
        json["rows"].as_array().unwrap().iter().find(|r| r["metric"] == "rtt.p50").unwrap_or_else(|| panic!("{json}"));
    let of = |k: &str| row[k]["n"].as_u64().unwrap() + row[k]["excluded"].as_u64().unwrap();
    assert_eq!((of("a"), of("b")), (6, 6), "{said}");
    // Every trial was answered by the service of its side: the second one's takes 20 ms.
    let mut trials = 0;
    for (side, at_least) in [("baseline", 0), ("candidate", 20_000_000)] {
        let found = std::fs::read_dir(&out).unwrap().map(|e| e.unwrap().path());
        let folder =
            found.into_iter().find(|p| p.file_name().unwrap().to_str().unwrap().starts_with(&format!("{side}-")));
        for result in std::fs::read_dir(folder.unwrap().join("gateway")).unwrap() {
            let record = std::fs::read(result.unwrap().path().join("run.json")).unwrap();
            let record: Value = serde_json::from_slice(&record).unwrap();
            let workload = &record["trials"][0]["workloads"][0];
            let ledger = &workload["ledger"];
            assert!(ledger["delivered"].as_u64().unwrap() > 150 && ledger["unanswered"] == 0, "{side}: {workload}");
            let quickest = workload["latency"]["rtt"]["min_ns"].as_u64().unwrap_or_else(|| panic!("{workload}"));
            assert!(quickest >= at_least, "{side}: {quickest}");
            trials += 1;
        }
        assert!(text(&std::fs::read(out.join(format!("service-{side}.log"))).unwrap()).contains("ready"), "{side}");
    }
    assert_eq!(trials, 12);
    assert_eq!(services(&nats), 0, "no service is left behind");

    // A service that does not come up is told with its own words.
    let broken: Vec<_> = env
        .iter()
        .map(|(k, v)| (k.clone(), if k == "SERVE" { "echo no such table >&2; exit 3".to_owned() } else { v.clone() }))
        .collect();
    let (code, said) = job(&broken);
    assert_eq!(code, Some(6), "{said}");
    assert!(said.contains("no such table") && said.contains("has ended"), "{said}");
    let trees = Command::new("git").args(["worktree", "list"]).current_dir(&repository).output().unwrap();
    assert_eq!(text(&trees.stdout).lines().count(), 1, "nothing is left behind");
}

/// Processes that run the service of this test.
fn services(nats: &Nats) -> usize {
    let own = format!("NATS_URL={}", nats.url);
    let environments =
        std::fs::read_dir("/proc").unwrap().filter_map(|e| std::fs::read(e.ok()?.path().join("environ")).ok());
    environments.filter(|e| e.split(|b| *b == 0).any(|v| v == own.as_bytes())).count()
}
