//! What is kept between runs of `claims run`, and what of it stands when something has changed.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use super::{OBJECTIVES, SCENARIO, calm, claims, file, records, starts, text, verdicts};

/// One short measurement.
fn short() -> String {
    OBJECTIVES.replace("\"run.trials\" = 8", "\"run.trials\" = 1")
}

fn program(program: &Path, dir: &Path, args: &[&str]) -> (Command, tempfile::TempDir) {
    let mut command = Command::new(program);
    let root = calm::calm(&mut command);
    command.args(args).current_dir(dir);
    (command, root)
}

fn until(what: &str, mut is: impl FnMut() -> bool) {
    let end = Instant::now() + Duration::from_secs(90);
    while !is() {
        assert!(Instant::now() < end, "{what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn started(command: &mut Command) -> Child {
    command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
}

/// A result that has a system which cannot be launched any more is not replaced by one without it;
/// that its settings are others by now stands beside it.
#[test]
fn a_result_outlives_its_server() {
    let dir = tempfile::tempdir().unwrap();
    file(dir.path(), &short());
    let first = claims(dir.path(), &["run", "--only", "1"]);
    let before = (verdicts(dir.path()), records(dir.path()).len());
    assert_eq!(before.1, 1, "{}", text(&first.stderr));
    file(dir.path(), &short().replace("\"1k/s\"", "\"900/s\""));
    let run = |more: &[&str]| {
        let args = [&["claims", "run", "objectives.toml", "--only", "1"], more].concat();
        let (mut command, _root) = program(Path::new(env!("CARGO_BIN_EXE_msgbench")), dir.path(), &args);
        command.env("MSGBENCH_BIN", "/no/such/msgbench").output().unwrap()
    };
    let second = run(&[]);
    let said = text(&second.stderr);
    assert!(said.contains("stands: reference cannot be launched here"), "{said}");
    assert!(said.contains("`stream-1k` was measured before the settings changed"), "{said}");
    assert_eq!((verdicts(dir.path()), records(dir.path()).len()), before, "{said}");
    let markdown = std::fs::read_to_string(dir.path().join("results/claims/orders/claims.md")).unwrap();
    assert!(markdown.contains("was measured before the settings changed."), "{markdown}");
    let report = claims(dir.path(), &["report", "--only", "1"]);
    assert!(text(&report.stderr).contains("measured before the settings changed"), "{}", text(&report.stderr));
    // Whoever asks for it gets what can be measured here: nothing.
    let again = text(&run(&["--again"]).stderr);
    assert!(again.contains("reference cannot be launched here: the msgbench program cannot be found"), "{again}");
}

/// Where `claims run` is killed, what it runs ends in order.
#[test]
fn a_run_ends_with_the_command_that_began_it() {
    let dir = tempfile::tempdir().unwrap();
    file(dir.path(), &OBJECTIVES.replace("\"run.trials\" = 8", "\"run.trials\" = 8, \"run.duration\" = \"700ms\""));
    let args = ["claims", "run", "objectives.toml", "--only", "1"];
    let (mut command, _root) = program(Path::new(env!("CARGO_BIN_EXE_msgbench")), dir.path(), &args);
    let mut first = started(&mut command);
    until("no round", || records(dir.path()).first().is_some_and(|r| !starts(r).is_empty()));
    first.kill().unwrap();
    first.wait().unwrap();
    let completion = || records(dir.path())[0]["completion"].as_str().map(str::to_owned);
    until("it goes on", || completion().is_some_and(|c| c != "running"));
    assert_eq!(completion().as_deref(), Some("interrupted"));
}

/// A program that is built anew while its measurements are made goes on with the old one.
#[test]
fn a_program_that_is_replaced_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    let two = short().replace(
        "[[claim]]\nid = 4",
        "[[measure]]\nname = \"more\"\nscenario = \"small.toml\"\ntier = \"page-cache\"\n\
         set = { \"run.trials\" = 1 }\n[[claim]]\nid = 2\nsays = \"none lost\"\nplace = \"p\"\nmeasure = \"more\"\n\
         holds = [\"ledger.lost of reference == 0\"]\n[[claim]]\nid = 4",
    );
    file(dir.path(), &two);
    let own = dir.path().join("msgbench-own");
    std::fs::copy(env!("CARGO_BIN_EXE_msgbench"), &own).unwrap();
    let (mut command, _root) = program(&own, dir.path(), &["claims", "run", "objectives.toml", "--only", "1,2"]);
    // The broker is the program that stays.
    let mut run = started(command.env("MSGBENCH_BIN", env!("CARGO_BIN_EXE_msgbench")));
    until("no result", || !records(dir.path()).is_empty());
    std::fs::remove_file(&own).unwrap();
    assert_eq!(run.wait().unwrap().code(), Some(0));
    let kept = |name: &str| dir.path().join("results/claims/orders/full").join(name).join("kept.json").is_file();
    assert!(kept("stream-1k") && kept("more"));
}

/// Nothing is left of a run that is refused.
#[test]
fn a_refused_resume_leaves_no_folder() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("small.toml"), SCENARIO).unwrap();
    let args = ["run", "small.toml", "--out", "out", "--resume", "nothing"];
    let (mut command, _root) = program(Path::new(env!("CARGO_BIN_EXE_msgbench")), dir.path(), &args);
    let output = command.output().unwrap();
    assert_eq!(output.status.code(), Some(2), "{}", text(&output.stderr));
    assert!(!dir.path().join("out").exists(), "{}", text(&output.stderr));
}
