//! Agents on other hosts: by ssh, which is a fake one that runs the command here, and by manifests,
//! which are checked against the published schema of Kubernetes.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails here")]

#[path = "common/needs.rs"]
mod needs;

use std::io::Write as _;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

const BOUND: Duration = Duration::from_secs(60);
const CONTROL: &str = "nats://control.example.org:4222";

/// Notes its arguments, and runs what the other host would run.
const FAKE_SSH: &str = r#"#!/bin/sh
printf '%s\n' "$@" >> "$FAKE/arguments"
while [ "$1" != -- ]; do shift; done
[ "$2" = unreachable ] && exit 255
shift 2
exec sh -c "$*"
"#;

/// Says how it was started; then it ends as it is told, or waits until it is to end.
const FAKE_AGENT: &str = r#"#!/bin/sh
echo "started: $*"
case "$5" in
    fails*) exit 3 ;;
    short*) exit 0 ;;
esac
trap 'touch "$FAKE/$5.ended"; exit 0' TERM
touch "$FAKE/$5.waits"
while :; do sleep 0.05; done
"#;

/// A folder with the two fakes, which is on the path.
struct FakeHosts(TempDir);

impl FakeHosts {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        for (name, text) in [("ssh", FAKE_SSH), ("fake agent", FAKE_AGENT)] {
            let path = dir.path().join(name);
            std::fs::write(&path, text).unwrap();
            std::fs::set_permissions(&path, PermissionsExt::from_mode(0o755)).unwrap();
        }
        Self(dir)
    }

    fn file(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_msgbench"));
        let path = std::env::var("PATH").unwrap();
        command.args(["agents", "ssh", "--control", CONTROL, "--program"]).arg(self.file("fake agent")).args(args);
        command.env("PATH", format!("{}:{path}", self.0.path().display())).env("FAKE", self.0.path());
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    fn run(&self, args: &[&str]) -> Output {
        self.command(args).output().unwrap()
    }

    fn wait_for(&self, name: &str) {
        let until = Instant::now() + BOUND;
        while !self.file(name).exists() {
            assert!(Instant::now() < until, "there is no {name}");
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn signal(child: &Child, signal: libc::c_int) {
    // SAFETY: the process is our child and has not been waited for.
    assert_eq!(unsafe { libc::kill(child.id() as libc::pid_t, signal) }, 0);
}

#[test]
fn an_agent_is_started_on_each_host_and_its_command_line_is_printed() {
    let hosts = FakeHosts::new();
    let output =
        hosts.run(&["--label", "zone=a", "--key", "/k/a b.nk", "--ssh-option", "Port=2222", "short1", "me@short2"]);
    let said = stderr(&output);
    assert_eq!(output.status.code(), Some(0), "{said}");
    for name in ["short1", "short2"] {
        let started =
            format!("{name}: started: agent --control {CONTROL} --name {name} --label zone=a --key /k/a b.nk");
        assert!(said.lines().any(|line| line == started), "{said}");
    }
    assert!(said.contains("msgbench: ssh -o Port=2222 -- me@short2 'sh -c "), "{said}");
    let arguments = std::fs::read_to_string(hosts.file("arguments")).unwrap();
    assert!(arguments.contains("-o\nPort=2222\n--\nshort1\n"), "{arguments}");
}

/// What is printed is what a shell can run.
#[test]
fn the_printed_lines_start_the_agents() {
    let hosts = FakeHosts::new();
    let printed = hosts.run(&["--print", "short", "short"]);
    assert_eq!(printed.status.code(), Some(0), "{}", stderr(&printed));
    assert!(!hosts.file("arguments").exists(), "--print started something");
    let path = format!("{}:{}", hosts.0.path().display(), std::env::var("PATH").unwrap());
    let mut shell = Command::new("sh");
    shell.arg("-c").arg(String::from_utf8(printed.stdout).unwrap()).env("PATH", path).env("FAKE", hosts.0.path());
    let mut shell = shell.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    // An agent ends with the input of its shell.
    let input = shell.stdin.take();
    let ran = shell.wait_with_output().unwrap();
    drop(input);
    let said = String::from_utf8_lossy(&ran.stdout).into_owned();
    let started = |name: &str| format!("started: agent --control {CONTROL} --name {name}\n");
    assert_eq!(said, started("short") + &started("short-2"), "{}", stderr(&ran));
}

#[test]
fn agents_that_fail_are_named() {
    let hosts = FakeHosts::new();
    let output = hosts.run(&["short", "fails", "unreachable"]);
    assert_eq!(output.status.code(), Some(6), "{}", stderr(&output));
    let said = stderr(&output);
    assert!(said.contains("fails ended with 3"), "{said}");
    assert!(said.contains("unreachable: ssh could not reach it, or lost it"), "{said}");
    assert!(!said.contains("short ended"), "{said}");
    let refused = hosts.run(&["--", "-oProxyCommand=x"]);
    assert_eq!(refused.status.code(), Some(2), "{}", stderr(&refused));
}

#[test]
fn who_stops_it_stops_the_agents() {
    let hosts = FakeHosts::new();
    let child = hosts.command(&["one", "two"]).spawn().unwrap();
    ["one.waits", "two.waits"].iter().for_each(|name| hosts.wait_for(name));
    signal(&child, libc::SIGTERM);
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(130), "{}", stderr(&output));
    ["one.ended", "two.ended"].iter().for_each(|name| assert!(hosts.file(name).exists(), "{name}"));
}

/// Nobody told the agent: the connection ended, as when a laptop is closed.
#[test]
fn an_agent_ends_when_its_ssh_is_gone() {
    let hosts = FakeHosts::new();
    let mut child = hosts.command(&["one"]).spawn().unwrap();
    hosts.wait_for("one.waits");
    signal(&child, libc::SIGKILL);
    child.wait().unwrap();
    hosts.wait_for("one.ended");
}

/// Reads pairs of a version of Kubernetes and documents of YAML, and checks each document against
/// the schema of that version, in which nothing may stand that it does not know. Prints a line for
/// each pair: the kinds of the documents, or what is wrong.
const VALIDATE: &str = r#"
import sys, json, yaml, kubernetes_validate
for version, text in json.load(sys.stdin):
    try:
        documents = list(yaml.safe_load_all(text))
        for document in documents:
            kubernetes_validate.validate(document, version, strict=True)
        print(" ".join(document["kind"] for document in documents))
    except kubernetes_validate.ValidationError as error:
        print("wrong:", str(error).replace("\n", " "))
"#;

fn manifest(args: &[&str]) -> String {
    let mut command = Command::new(env!("CARGO_BIN_EXE_msgbench"));
    let output = command.args(["agents", "manifest", "--control", CONTROL]).args(args).output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    String::from_utf8(output.stdout).unwrap()
}

/// What is said of each pair.
fn validate(python: &str, pairs: &[(&str, String)]) -> Vec<String> {
    let mut command = Command::new(python);
    command.args(["-c", VALIDATE]).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let pairs = serde_json::to_vec(pairs).unwrap();
    child.stdin.take().unwrap().write_all(&pairs).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{}", stderr(&output));
    String::from_utf8_lossy(&output.stdout).lines().map(str::to_owned).collect()
}

fn key_file(dir: &Path) -> String {
    let file = dir.join("agent.nk");
    std::fs::write(&file, "SUANOTREALLYAKEY\n").unwrap();
    file.display().to_string()
}

/// Versions that have all that is used: podFailurePolicy is stable since 1.31.
const VERSIONS: [&str; 2] = ["1.31", "1.34"];

#[test]
fn manifests_are_valid_objects_of_kubernetes() {
    let Some(python) = needs::python("kubernetes_validate", "kubernetes-validate") else { return };
    let dir = tempfile::tempdir().unwrap();
    let key = key_file(dir.path());
    let all = [
        "--label",
        "zone=a",
        "--node",
        "topology.kubernetes.io/zone=a",
        "--service",
        "--spread",
        "one-each",
        "--namespace",
        "bench",
        "--cpu",
        "500m",
        "--memory",
        "512Mi",
        "--deadline",
        "90m",
    ];
    let with_key = [&["--count", "8", "--key", key.as_str()][..], &all].concat();
    let asked: [(&[&str], &str); 3] =
        [(&["--count", "1"], "Job"), (&["--count", "8", "--secret", "mine"], "Job"), (&with_key, "Secret Service Job")];
    let mut pairs = Vec::new();
    for version in VERSIONS {
        pairs.extend(asked.iter().map(|(args, _)| (version, manifest(args))));
    }
    // The check finds what is wrong.
    let good = manifest(&["--count", "8"]);
    for (right, wrong) in [
        ("completionMode:", "completionmode:"),
        ("backoffLimit: 0", "backoffLimit: \"0\""),
        ("restartPolicy: \"Never\"", "restartPolicy: 1"),
        ("operator: \"NotIn\"", "operators: \"NotIn\""),
    ] {
        assert!(good.contains(right), "{good}");
        pairs.push((VERSIONS[0], good.replace(right, wrong)));
    }
    let said = validate(&python, &pairs);
    let kinds: Vec<&str> = VERSIONS.iter().flat_map(|_| asked.iter().map(|(_, kinds)| *kinds)).collect();
    assert_eq!(said[..kinds.len()], kinds);
    assert_eq!(said.len(), pairs.len());
    assert!(said[kinds.len()..].iter().all(|line| line.starts_with("wrong:")), "{said:?}");
}

/// What is printed, to be read by whoever changes it.
#[test]
fn a_manifest_is_as_it_is_reviewed() {
    let text = manifest(&[
        "--count",
        "8",
        "--image",
        "registry.example.org/msgbench:1",
        "--secret",
        "control",
        "--label",
        "zone=a",
    ]);
    insta::assert_snapshot!(text);
}

#[test]
fn a_key_is_in_its_secret_and_nowhere_else() {
    let dir = tempfile::tempdir().unwrap();
    let text = manifest(&["--count", "2", "--key", &key_file(dir.path())]);
    assert!(text.contains("agent.nk: \"U1VBTk9UUkVBTExZQUtFWQo=\""), "{text}");
    assert!(!text.contains("SUANOT"), "{text}");
    let refused = Command::new(env!("CARGO_BIN_EXE_msgbench"))
        .args(["agents", "manifest", "--count", "2", "--control", "nats://me:secret@h:4222"])
        .output()
        .unwrap();
    assert_eq!(refused.status.code(), Some(2), "{}", stderr(&refused));
    assert!(!stderr(&refused).contains("secret@"), "{}", stderr(&refused));
}
