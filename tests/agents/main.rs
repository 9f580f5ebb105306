//! Agents and a coordinator as processes: what they measure together is what one process measures,
//! and whatever happens to one of them ends with its own sentence.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails here")]

mod all;
mod clocks;
mod failures;
mod loads;
#[path = "../common/needs.rs"]
mod needs;
mod placement;
mod places;
mod support;
mod systems;

use serde_json::Value;
use support::{Bench, Control, agents, came, check, record, trial, words};

/// The parts of a ledger that depend on the load and not on the moment.
fn owed(trial: &Value) -> Vec<u64> {
    let ledger = &trial["workloads"][0]["ledger"];
    ["scheduled", "sent", "expected", "delivered", "lost", "duplicated", "corrupted", "foreign", "reordered"]
        .map(|key| ledger[key].as_u64().unwrap())
        .to_vec()
}

/// Samples of the latency that heads the workload.
fn samples(trial: &Value, name: &str) -> u64 {
    trial["workloads"][0]["latency"][name]["count"].as_u64().unwrap()
}

#[test]
fn agents_together_account_for_what_one_process_does() {
    let control = Control::start();
    let spool = tempfile::tempdir().unwrap();
    let _agents = agents(&control.url, 4, spool.path());
    let workloads = [
        ("pattern = \"m-to-n\"\nproducers = 4\nconsumers = 3\nload.rate = \"2000/s\"", "e2e"),
        ("pattern = \"queue-group\"\nproducers = 4\nconsumers = 4\nload.rate = \"2000/s\"", "e2e"),
        ("pattern = \"request-reply\"\nproducers = 4\nconsumers = 2\nload.rate = \"1000/s\"", "rtt"),
        (
            "pattern = \"m-to-n\"\nproducers = 4\nconsumers = 2\nload.rate = \"2000/s\"\nload.arrivals = \"poisson\"",
            "e2e",
        ),
    ];
    for (workload, headline) in workloads {
        let bench = Bench::new(workload, 1.5);
        let alone = trial(&bench.run(&[]));
        let output = bench.with(&control.url, 4).output().unwrap();
        let together = trial(&output);
        assert_eq!(together["outcome"]["status"], "complete", "{workload}: {}", words(&output));
        assert_eq!(owed(&together), owed(&alone), "{workload}");
        assert!(owed(&alone)[0] > 1000 && owed(&alone)[4] == 0, "{workload}: {:?}", owed(&alone));
        assert_eq!(samples(&together, headline), samples(&alone, headline), "{workload}");
        assert_eq!(came(&together), ["delivered"; 4], "{workload}");
        assert_ne!(check(&together, "V19")["status"], "INVALID", "{workload}");
        assert!(check(&together, "V18")["observed"].as_str().unwrap().starts_with("began within"), "{workload}");
        let parts = together["agents"].as_array().unwrap();
        let scheduled: Vec<u64> = parts.iter().map(|a| a["scheduled"].as_u64().unwrap()).collect();
        assert_eq!(scheduled.iter().sum::<u64>(), owed(&alone)[0], "{workload}: {scheduled:?}");
        assert!(parts.iter().all(|a| a["clock"]["bound_ns"] == 0), "{workload}: they have the same clock");
    }
    let left: Vec<_> = std::fs::read_dir(spool.path()).unwrap().flatten().map(|f| f.path()).collect();
    assert!(left.is_empty(), "results that were taken are removed: {left:?}");
}

#[test]
fn one_producer_is_divided_over_all_agents() {
    let control = Control::start();
    let spool = tempfile::tempdir().unwrap();
    let _agents = agents(&control.url, 3, spool.path());
    let bench = Bench::new("pattern = \"fan-out\"\nconsumers = 2\nload.rate = \"1500/s\"", 1.0);
    let alone = trial(&bench.run(&[]));
    let output = bench.with(&control.url, 3).output().unwrap();
    let together = trial(&output);
    assert_eq!(owed(&together), owed(&alone), "{}", words(&output));
    assert_eq!(samples(&together, "e2e"), samples(&alone, "e2e"), "of the messages of each agent");
    let parts = together["agents"].as_array().unwrap();
    let shares: Vec<u64> = parts.iter().map(|a| a["scheduled"].as_u64().unwrap()).collect();
    assert!(shares.iter().max().unwrap() - shares.iter().min().unwrap() <= 1, "{shares:?}");
    assert_eq!(record(&output)["plan"]["cases"][0]["workloads"][0]["topology"]["producers"], 3);
}

#[test]
fn a_real_nats_server_serves_as_control_server() {
    let Some((program, _)) = needs::nats_server() else { return };
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    drop(listener);
    let mut server = std::process::Command::new(program);
    server.args(["-a", "127.0.0.1", "-p", &port.to_string()]).stderr(std::process::Stdio::null());
    let _server = support::Process(server.spawn().unwrap());
    let end = std::time::Instant::now() + support::BOUND;
    while std::net::TcpStream::connect(("127.0.0.1", port)).is_err() {
        assert!(std::time::Instant::now() < end, "nats-server listens");
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    let (url, spool) = (format!("nats://127.0.0.1:{port}"), tempfile::tempdir().unwrap());
    let _agents = agents(&url, 2, spool.path());
    let bench = Bench::new("pattern = \"m-to-n\"\nproducers = 2\nconsumers = 2\nload.rate = \"1000/s\"", 1.0);
    let output = bench.with(&url, 2).output().unwrap();
    let it = trial(&output);
    assert_eq!((came(&it), owed(&it)[4]), (vec!["delivered".to_owned(); 2], 0), "{}", words(&output));
}
