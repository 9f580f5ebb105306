//! An agent that is lost between two trials, that never gets ready, or that ends with a result that
//! nobody took.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::time::Instant;

use serde_json::{Value, json};

use crate::owed;
use crate::support::{
    BOUND, Bench, Control, Listener, PROGRAM, Process, agents, came, check, labelled, record, states, trial, words,
};

fn bench(seconds: f64) -> Bench {
    Bench::new("pattern = \"m-to-n\"\nproducers = 3\nconsumers = 3\nload.rate = \"900/s\"", seconds)
}

fn names(trial: &Value) -> Vec<&str> {
    trial["agents"].as_array().unwrap().iter().map(|a| a["name"].as_str().unwrap()).collect()
}

/// Who is lost in a trial makes that one INVALID. In the next one another agent has its part: the
/// first by name that is free and has the label.
#[test]
fn another_agent_takes_the_place_of_one_that_was_lost() {
    let control = Control::start();
    let spool = tempfile::tempdir().unwrap();
    let of = |name: &str, label: &str| labelled(&control.url, name, label, spool.path());
    let mut all = ["a0", "a1", "a2"].map(|name| Some(of(name, "zone=a")));
    // It has not the label.
    let _other = of("a9", "zone=b");
    let bench = bench(2.0);
    bench.add("[agents]\ncount = 3\npublish = \"zone=a\"\nconsume = \"zone=a\"\n");
    let listener = Listener::at(&control.url);
    let run = bench.command(&["--control", &control.url, "--trials", "3"]).spawn().unwrap();
    listener.all_send(3);
    drop(all[1].take());
    let _new = of("b0", "zone=a");
    let output = run.wait_with_output().unwrap();
    let record = record(&output);
    let trials = record["trials"].as_array().unwrap();
    assert_eq!(trials.len(), 3, "{}", words(&output));
    assert_eq!(came(&trials[0]), ["delivered", "lost", "delivered"], "{}", words(&output));
    assert_eq!(check(&trials[0], "V19")["status"], "INVALID");
    for it in &trials[1..] {
        assert_eq!(it["outcome"]["status"], "complete", "{}", words(&output));
        assert_eq!((names(it), came(it)), (vec!["a0", "b0", "a2"], vec!["delivered".to_owned(); 3]));
        assert_eq!((&it["agents"][1]["replaces"], &it["agents"][0]["replaces"]), (&json!("a1"), &Value::Null));
        let [scheduled, sent, expected, delivered, lost] = owed(it)[..5] else { panic!("{:?}", owed(it)) };
        assert_eq!((scheduled, sent, expected, delivered, lost), (1800, 1800, 5400, 5400, 0));
        assert!(check(it, "V19")["observed"].as_str().unwrap().contains("b0 in place of a1"), "{}", check(it, "V19"));
    }
    assert!(words(&output).contains("agent b0 takes the place of a1, which is lost (2 of 3)"), "{}", words(&output));
}

/// Where nobody takes its place within the bound, the run ends and says so.
#[test]
fn a_place_that_nobody_takes_ends_the_run() {
    let control = Control::start();
    let spool = tempfile::tempdir().unwrap();
    let mut all = agents(&control.url, 2, spool.path());
    let (bench, listener) = (bench(1.5), Listener::at(&control.url));
    let run = bench.with(&control.url, 2).args(["--trials", "2", "--agents-wait", "3s"]).spawn().unwrap();
    listener.all_send(2);
    drop(all.remove(1));
    let output = run.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(4), "{}", words(&output));
    let said = words(&output);
    assert!(said.contains("agent a1 is gone: nothing was heard of it for"), "{said}");
    assert!(said.contains("waiting for another agent"), "{said}");
    assert!(said.contains("and no other agent took the place within 3 s"), "{said}");
    assert_eq!(states(&trial(&output)), ["delivered", "lost"], "what was measured is kept");
}

/// An agent that takes part and never gets ready is named.
#[test]
fn an_agent_that_does_not_get_ready_is_named() {
    let control = Control::start();
    let spool = tempfile::tempdir().unwrap();
    let _real = agents(&control.url, 1, spool.path());
    let listener = Listener::at(&control.url);
    let hello = listener.hello();
    let hello = json!({ "id": "still", "name": "z9", "protocol": hello["protocol"], "version": hello["version"],
        "pid": 1, "host": hello["host"], "clock": hello["clock"] });
    let bench = bench(1.0);
    let run = bench.with(&control.url, 2).args(["--set", "run.connect=4s"]).spawn().unwrap();
    let output = listener.obey_and_do_nothing(&hello, run);
    let it = trial(&output);
    assert_eq!(output.status.code(), Some(4), "{}", words(&output));
    assert_eq!(it["outcome"]["phase"], "agents", "{}", it["outcome"]);
    let error = it["outcome"]["error"].as_str().unwrap();
    assert!(error.contains("not ready within the bound `run.connect`: waiting for z9"), "{error}");
}

/// An agent whose result nobody takes says in which file it is before it ends.
#[test]
fn an_agent_that_ends_with_a_result_says_where_it_is() {
    let control = Control::start();
    let spool = tempfile::tempdir().unwrap();
    let arguments = ["agent", "--control", &control.url, "--name", "a0", "--spool", spool.path().to_str().unwrap()];
    let child = Command::new(PROGRAM).args(arguments).stderr(Stdio::piped()).spawn().unwrap();
    let mut agent = Process(child);
    let lines = BufReader::new(agent.0.stderr.take().unwrap());
    let (bench, listener) = (bench(1.0), Listener::at(&control.url));
    let run = bench.with(&control.url, 1).args(["--set", "run.drain=1s"]).spawn().unwrap();
    listener.all_send(1);
    drop(Process(run));
    let end = Instant::now() + BOUND;
    while std::fs::read_dir(spool.path()).unwrap().flatten().next().is_none() {
        assert!(Instant::now() < end, "its result is in a file");
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
    agent.signal(libc::SIGINT);
    let said: Vec<String> = lines.lines().map_while(Result::ok).collect();
    let file = std::fs::read_dir(spool.path()).unwrap().flatten().next().unwrap().path();
    let named =
        said.iter().any(|line| line.contains("nobody took the result") && line.contains(file.to_str().unwrap()));
    assert!(named, "{said:?}");
    assert!(said.iter().any(|line| line.contains("taken by the run of process")), "{said:?}");
}

/// `agents local` gives each of its agents the labels, and ends them with itself.
#[test]
fn local_agents_have_the_labels_that_are_given() {
    let control = Control::start();
    let local = |n: &str, label: &str| {
        let arguments = ["agents", "local", n, "--control", &control.url, "--label", label];
        Process(Command::new(PROGRAM).args(arguments).stderr(Stdio::null()).spawn().unwrap())
    };
    let (near, _far) = (local("2", "zone=a"), local("1", "zone=b"));
    let bench = bench(1.5);
    bench.add("[agents]\ncount = 3\npublish = \"zone=a\"\nconsume = \"zone=b\"\nlabels = { \"zone=a\" = 2, \"zone=b\" = 1 }\n");
    let output = bench.command(&["--control", &control.url]).output().unwrap();
    let it = trial(&output);
    assert_eq!(came(&it), ["delivered"; 3], "{}", words(&output));
    let zones: Vec<(&str, u64, u64)> = it["agents"]
        .as_array()
        .unwrap()
        .iter()
        .map(|a| {
            let count = |key: &str| a[key].as_u64().unwrap();
            (a["labels"]["zone"].as_str().unwrap(), count("producers"), count("consumers"))
        })
        .collect();
    // Of three producers two agents have two each.
    assert_eq!(zones, [("a", 2, 0), ("a", 2, 0), ("b", 0, 3)]);
    let prefix = format!("local-{}-", near.0.id());
    assert!(names(&it)[..2].iter().all(|name| name.starts_with(&prefix)), "{:?}", names(&it));
    assert_eq!(owed(&it)[4], 0);
    let pid = it["agents"][0]["pid"].as_u64().unwrap();
    let there = || std::path::Path::new(&format!("/proc/{pid}")).exists();
    assert!(there());
    drop(near);
    let end = Instant::now() + BOUND;
    while there() {
        assert!(Instant::now() < end, "it ends with the command that started it");
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
}
