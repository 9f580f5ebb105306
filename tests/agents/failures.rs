//! What happens to an agent, to the coordinator or to the control server ends with a sentence of
//! its own; nothing hangs, and nothing that was recorded is lost.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use serde_json::json;

use crate::support::{
    BOUND, Bench, Control, Listener, PROGRAM, agent, agents, assignment, came, check, record, states, trial, words,
};

/// Four producers and three consumers, for so many seconds.
fn bench(seconds: f64) -> Bench {
    Bench::new("pattern = \"m-to-n\"\nproducers = 4\nconsumers = 3\nload.rate = \"2000/s\"", seconds)
}

#[test]
fn an_agent_that_is_killed_leaves_a_hole_that_is_told() {
    let control = Control::start();
    let spool = tempfile::tempdir().unwrap();
    let mut all = agents(&control.url, 4, spool.path());
    let (bench, listener) = (bench(3.0), Listener::at(&control.url));
    let run = bench.with(&control.url, 4).spawn().unwrap();
    listener.all_send(4);
    drop(all.remove(2));
    let output = run.wait_with_output().unwrap();
    let it = trial(&output);
    assert_eq!(output.status.code(), Some(4), "{}", words(&output));
    assert_eq!(came(&it), ["delivered", "delivered", "lost", "delivered"]);
    let all = check(&it, "V19");
    assert_eq!(all["status"], "INVALID");
    let observed = all["observed"].as_str().unwrap();
    assert!(observed.contains("75.0 % of the plan offered") && observed.ends_with("a2"), "{observed}");
    // What it owed is known without it; the figures of the others are there.
    let ledger = &it["workloads"][0]["ledger"];
    assert_eq!(ledger["scheduled"], 6000);
    assert_eq!(ledger["sent"], 4500);
    assert_eq!(ledger["lost"], 0, "what its consumers had, nobody knows");
    assert!(it["workloads"][0]["latency"]["e2e"]["count"].as_u64() > Some(4500));
}

#[test]
fn an_agent_that_stands_still_is_waited_for_and_told() {
    let control = Control::start();
    let spool = tempfile::tempdir().unwrap();
    let all = agents(&control.url, 4, spool.path());
    let (bench, listener) = (bench(2.0), Listener::at(&control.url));
    let run = bench.with(&control.url, 4).spawn().unwrap();
    listener.all_send(4);
    all[1].signal(libc::SIGSTOP);
    std::thread::sleep(Duration::from_secs(5));
    all[1].signal(libc::SIGCONT);
    let output = run.wait_with_output().unwrap();
    let it = trial(&output);
    assert_eq!(came(&it), ["delivered"; 4], "{}", words(&output));
    assert_eq!(states(&it)[1], "silent", "{}", words(&output));
    assert_eq!(check(&it, "V19")["status"], "WARN");
    // Its messages and those to its consumers are late, and no loss of the system.
    let ledger = &it["workloads"][0]["ledger"];
    assert_eq!(
        (&ledger["scheduled"], &ledger["sent"], &ledger["lost"]),
        (&json!(4000), &json!(4000), &json!(0)),
        "{it:#}"
    );
}

#[test]
fn a_control_server_that_is_started_again_costs_nothing_that_was_recorded() {
    let mut control = Control::start();
    let spool = tempfile::tempdir().unwrap();
    let _agents = agents(&control.url, 4, spool.path());
    let (bench, listener) = (bench(3.0), Listener::at(&control.url));
    let run = bench.with(&control.url, 4).spawn().unwrap();
    listener.all_send(4);
    control.kill();
    std::thread::sleep(Duration::from_millis(1500));
    control.again();
    let output = run.wait_with_output().unwrap();
    let it = trial(&output);
    assert_eq!(it["outcome"]["status"], "complete", "{}", words(&output));
    assert_eq!(came(&it), ["delivered"; 4]);
    let ledger = &it["workloads"][0]["ledger"];
    assert_eq!((&ledger["scheduled"], &ledger["lost"]), (&json!(6000), &json!(0)), "{it:#}");
}

/// A result that is there while nobody can take it is offered until somebody does.
#[test]
fn results_are_offered_until_the_control_server_is_there_again() {
    let mut control = Control::start();
    let spool = tempfile::tempdir().unwrap();
    let _agents = agents(&control.url, 2, spool.path());
    let (bench, listener) = (bench(1.5), Listener::at(&control.url));
    let run = bench.with(&control.url, 2).args(["--set", "run.drain=1s"]).spawn().unwrap();
    listener.all_send(2);
    control.kill();
    let kept = || std::fs::read_dir(spool.path()).unwrap().flatten().count();
    let until = |files: usize| {
        let end = Instant::now() + BOUND;
        while kept() != files {
            assert!(Instant::now() < end, "{files} results are in a file, and not {}", kept());
            std::thread::sleep(Duration::from_millis(50));
        }
    };
    until(2);
    // Longer than an agent waits for one answer.
    std::thread::sleep(Duration::from_secs(4));
    control.again();
    let output = run.wait_with_output().unwrap();
    let it = trial(&output);
    assert_eq!(came(&it), ["delivered"; 2], "{}", words(&output));
    let ledger = &it["workloads"][0]["ledger"];
    assert_eq!((&ledger["scheduled"], &ledger["lost"]), (&json!(3000), &json!(0)), "{}", words(&output));
    until(0);
}

#[test]
fn agents_that_another_run_has_are_not_used() {
    let control = Control::start();
    let spool = tempfile::tempdir().unwrap();
    let _agents = agents(&control.url, 2, spool.path());
    let (bench, listener) = (bench(8.0), Listener::at(&control.url));
    let first = bench.with(&control.url, 2).spawn().unwrap();
    listener.all_send(2);
    let second = bench.with(&control.url, 2).args(["--agents-wait", "2s"]).output().unwrap();
    assert_eq!(second.status.code(), Some(2));
    let said = words(&second);
    assert!(
        said.contains("0 of 2 agents are there") && said.contains("a0 is not used: it is taken by the run of process"),
        "{said}"
    );
    let first = first.wait_with_output().unwrap();
    assert_eq!(came(&trial(&first)), ["delivered"; 2], "{}", words(&first));
    // And then they are free.
    let third = bench.with(&control.url, 2).args(["--duration", "1s"]).output().unwrap();
    assert_eq!(came(&trial(&third)), ["delivered"; 2], "{}", words(&third));
}

#[test]
fn another_version_and_another_plan_are_refused() {
    let control = Control::start();
    let spool = tempfile::tempdir().unwrap();
    let listener = Listener::at(&control.url);
    let case = case();
    let it = agent(&control.url, "a0", spool.path());
    let hello = listener.hello();
    let (id, version) = (hello["id"].as_str().unwrap(), hello["version"].as_str().unwrap());
    assert_eq!((hello["name"].as_str(), hello["labels"]["zone"].as_str()), (Some("a0"), Some("a")));
    // The agent refuses a coordinator of another version, by number and by messages.
    for other in [assignment("0.0.1", 1, "p"), assignment(version, 99, "p")] {
        let answer = listener.ask(id, &other);
        assert_eq!(answer["why"]["refusal"], "version", "{answer}");
    }
    // What cannot be read at all is of another version, too, if it says so.
    let answer = listener.ask(id, &json!({ "command": "sing", "version": "9.9.9" }));
    assert_eq!((&answer["why"]["refusal"], &answer["why"]["yours"]), (&json!("version"), &json!("9.9.9")));
    let protocol = hello["protocol"].as_u64().unwrap() as u32;
    assert_eq!(listener.ask(id, &assignment(version, protocol, "p"))["answer"], "yes");
    // It was given the plan `p`.
    let order = json!({ "number": 1, "round": 1, "case": case, "system": { "name": "nats", "driver": "nats",
        "bring_up": "launch", "require": false }, "reconnect": "usual", "seed": 1, "url": "nats://127.0.0.1:1", "places": {}, "client": {} });
    let begin = json!({ "command": "begin", "run": "r", "plan": "q", "trial": 1, "order": order });
    assert_eq!(listener.ask(id, &begin)["why"]["refusal"], "plan");
    assert_eq!(listener.ask(id, &json!({ "command": "release", "run": "r" }))["answer"], "yes");
    drop(it);
    // The coordinator does not use an agent of another version, though that one would take part.
    let old = json!({ "id": "old", "name": "old", "protocol": protocol, "version": "0.0.1", "pid": 1, "host": hello["host"] });
    let bench = bench(1.0);
    let run = bench.with(&control.url, 1).args(["--agents-wait", "3s"]).spawn().unwrap();
    let output = listener.obey_and_do_nothing(&old, run);
    assert_eq!(output.status.code(), Some(2));
    assert!(words(&output).contains("old is not used: it is msgbench 0.0.1 and this is"), "{}", words(&output));
}

/// A case as it stands in a plan.
fn case() -> serde_json::Value {
    let bench = bench(1.0);
    let mut check = std::process::Command::new(PROGRAM);
    check.arg("run").arg(bench.dir.path().join("t.toml")).args(["--format", "record", "--duration", "100ms", "--out"]);
    let output = check.arg(bench.dir.path().join("out")).output().unwrap();
    record(&output)["plan"]["cases"][0].clone()
}

#[test]
fn without_a_control_server_both_end_with_a_sentence() {
    // No free port is ever this low, so that no other test can listen there.
    let url = "nats://127.0.0.1:1";
    let begun = Instant::now();
    let run = bench(1.0).with(url, 2).output().unwrap();
    let alone = std::process::Command::new(PROGRAM).args(["agent", "--control", url]).output().unwrap();
    for output in [&run, &alone] {
        assert_eq!(output.status.code(), Some(2));
        assert!(words(output).contains("no connection to the control server at"), "{}", words(output));
    }
    assert!(begun.elapsed() < BOUND);
}

/// What agents cannot do is said before anything is started.
#[test]
fn what_cannot_be_divided_is_refused() {
    let bench = Bench::new("pattern = \"fan-out\"\nload = { mode = \"unthrottled\", window = 100 }", 1.0);
    let output = bench.with("nats://127.0.0.1:1", 2).output().unwrap();
    assert_eq!(output.status.code(), Some(2), "{}", words(&output));
    assert!(words(&output).contains("without agents: --agents 0"), "{}", words(&output));
    assert!(words(&output).contains("t.toml:7:41"), "{}", words(&output));
}

/// A way to the control server that can be cut.
struct Way {
    url: String,
    cut: Arc<AtomicBool>,
}

impl Way {
    fn to(control: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("nats://{}", listener.local_addr().unwrap());
        let (to, cut) = (control.trim_start_matches("nats://").to_owned(), Arc::new(AtomicBool::new(false)));
        let is_cut = Arc::clone(&cut);
        // Both threads of a connection end with it, and the listener with the test.
        std::thread::spawn(move || {
            for from in listener.incoming().flatten() {
                let Ok(server) = TcpStream::connect(&to) else { continue };
                if is_cut.load(Ordering::Relaxed) {
                    continue;
                }
                for (mut a, mut b) in [(from.try_clone().unwrap(), server.try_clone().unwrap()), (server, from)] {
                    let is_cut = Arc::clone(&is_cut);
                    a.set_read_timeout(Some(Duration::from_millis(20))).unwrap();
                    std::thread::spawn(move || {
                        let mut bytes = [0; 65536];
                        while !is_cut.load(Ordering::Relaxed) {
                            match a.read(&mut bytes) {
                                Ok(0) => break,
                                Ok(n) => {
                                    if b.write_all(&bytes[..n]).is_err() {
                                        break;
                                    }
                                }
                                Err(e)
                                    if matches!(
                                        e.kind(),
                                        std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut
                                    ) => {}
                                Err(_) => break,
                            }
                        }
                        let _ = b.shutdown(std::net::Shutdown::Both);
                    });
                }
            }
        });
        Self { url, cut }
    }
}

#[test]
fn an_agent_that_is_cut_off_brings_its_result_when_the_way_is_there_again() {
    let control = Control::start();
    let spool = tempfile::tempdir().unwrap();
    let way = Way::to(&control.url);
    let mut all = agents(&control.url, 3, spool.path());
    all.push(agent(&way.url, "a3", spool.path()));
    let (bench, listener) = (bench(2.0), Listener::at(&control.url));
    let run = bench.with(&control.url, 4).spawn().unwrap();
    listener.all_send(4);
    way.cut.store(true, Ordering::Relaxed);
    std::thread::sleep(Duration::from_secs(6));
    way.cut.store(false, Ordering::Relaxed);
    let output = run.wait_with_output().unwrap();
    let it = trial(&output);
    assert_eq!(came(&it)[..3], ["delivered"; 3], "{}", words(&output));
    assert_eq!(states(&it)[3], "silent", "{}", words(&output));
    let ledger = &it["workloads"][0]["ledger"];
    assert_eq!((&ledger["scheduled"], &ledger["lost"]), (&json!(4000), &json!(0)), "{it:#}");
}

#[test]
fn an_agent_that_is_slow_is_told_by_name() {
    let control = Control::start();
    let spool = tempfile::tempdir().unwrap();
    let all = agents(&control.url, 4, spool.path());
    let (bench, listener) = (bench(3.0), Listener::at(&control.url));
    let run = bench.with(&control.url, 4).spawn().unwrap();
    listener.all_send(4);
    let ended = std::sync::atomic::AtomicBool::new(false);
    let output = std::thread::scope(|scope| {
        scope.spawn(|| {
            // Most of the time it stands still, and never for so long that it is silent.
            while !ended.load(std::sync::atomic::Ordering::Relaxed) {
                all[1].signal(libc::SIGSTOP);
                std::thread::sleep(Duration::from_millis(150));
                all[1].signal(libc::SIGCONT);
                std::thread::sleep(Duration::from_millis(50));
            }
        });
        // Its output is read meanwhile: the record does not fit into a pipe.
        let output = run.wait_with_output();
        ended.store(true, std::sync::atomic::Ordering::Relaxed);
        output.unwrap()
    });
    let it = trial(&output);
    assert_eq!(came(&it), ["delivered"; 4], "{}", words(&output));
    let held: Vec<&str> = it["validity"].as_array().unwrap().iter().map(|c| c["name"].as_str().unwrap()).collect();
    assert!(held.contains(&"generator held still (agent a1)"), "{held:?}");
    assert_eq!(output.status.code(), Some(4));
}

#[test]
fn agents_whose_coordinator_dies_keep_what_they_have_and_are_free_again() {
    let control = Control::start();
    let spool = tempfile::tempdir().unwrap();
    let _agents = agents(&control.url, 2, spool.path());
    let (bench, listener) = (bench(2.0), Listener::at(&control.url));
    let run = bench.with(&control.url, 2).args(["--set", "run.drain=1s"]).spawn().unwrap();
    listener.all_send(2);
    drop(crate::support::Process(run));
    let kept = || std::fs::read_dir(spool.path()).unwrap().flatten().count();
    let end = Instant::now() + BOUND;
    while kept() < 2 {
        assert!(Instant::now() < end, "both results are in a file");
        std::thread::sleep(Duration::from_millis(50));
    }
    let again = bench.with(&control.url, 2).output().unwrap();
    assert_eq!(came(&trial(&again)), ["delivered"; 2], "{}", words(&again));
}
