//! `msgbench broker --kafka` as a process: beside the router and instead of it, its lines, its
//! directory.

use std::path::Path;
use std::process::Command;

use crate::log_support::{Client, batch_of};
use crate::process::Process;
use serde_json::Value;

/// Starts a broker, and the ready line it says.
fn start(args: &[&str]) -> (Process, Value) {
    let process = crate::process::start(&[&["--format", "json"], args].concat());
    let ready = process.json();
    (process, ready)
}

/// Ends it with SIGTERM; its closing line.
fn end(process: Process) -> Value {
    process.signal(libc::SIGTERM);
    serde_json::from_str(&process.ended()).unwrap()
}

#[test]
fn both_halves_run_in_one_process_and_say_so() {
    let (broker, ready) = start(&["--listen", "127.0.0.1:0", "--kafka", "127.0.0.1:0", "--sync", "group"]);
    assert!(ready["url"].as_str().unwrap().starts_with("nats://127.0.0.1:"));
    let policy = &ready["policy"];
    assert_eq!((&policy["sync"], &policy["storage_kept"]), (&"group".into(), &false.into()));
    let storage = policy["storage"].as_str().unwrap().to_owned();
    assert!(Path::new(&storage).is_dir());
    let mut client = Client::connect(broker.kafka());
    client.create("t", 1, &[]);
    assert_eq!(client.produce("t", 0, batch_of(&[("k", "v")])), (0, 0));
    let closed = end(broker);
    assert_eq!((&closed["kafka"]["records_in"], &closed["counters"]["connections"]), (&1.into(), &0.into()));
    assert!(!Path::new(&storage).exists(), "a directory nobody asked for is removed");
}

#[test]
fn the_log_alone_keeps_its_directory_and_what_is_in_it() {
    let dir = tempfile::tempdir().unwrap();
    let args = ["--kafka", "127.0.0.1:0", "--data", dir.path().to_str().unwrap(), "--partitions", "3"];
    let (broker, ready) = start(&args);
    assert_eq!(ready["url"], ready["policy"]["kafka"]);
    let mut client = Client::connect(broker.kafka());
    client.create("t", -1, &[]);
    for n in 0..10 {
        assert_eq!(client.produce("t", 2, batch_of(&[("k", "v")])), (0, n));
    }
    // Nobody else may have the directory meanwhile.
    let second = Command::new(env!("CARGO_BIN_EXE_msgbench")).arg("broker").args(args).output().unwrap();
    assert!(!second.status.success());
    assert!(String::from_utf8_lossy(&second.stderr).contains("is in use by another broker"));
    assert_eq!(end(broker)["kafka"]["batches_in"], 10);
    let (broker, ready) = start(&args);
    assert_eq!(ready["policy"]["recovered_cut_bytes"], 0);
    assert_eq!(Client::connect(broker.kafka()).read_all("t", 2, 0).len(), 10);
}

#[test]
fn the_largest_payload_is_that_of_both_halves() {
    let both = ["--listen", "127.0.0.1:0", "--kafka", "127.0.0.1:0"];
    for (limit, taken, refused) in
        [("1MiB", 1_048_000, 1_048_600), ("4MiB", 4 << 20, 4_200_000), ("64KiB", 65_536, 70_000)]
    {
        let (broker, ready) = start(&[&both[..], &["--max-payload", limit]].concat());
        let mut client = Client::connect(broker.kafka());
        client.create("t", 1, &[]);
        assert_eq!(client.produce("t", 0, batch_of(&[("k", &"x".repeat(taken))])), (0, 0), "{limit}");
        assert_eq!(client.produce("t", 0, batch_of(&[("k", &"x".repeat(refused))])), (10, -1), "{limit}");
        let said = ready["policy"]["max_payload"].as_u64().unwrap();
        let of_log = ready["policy"]["max_message_bytes"].as_u64().unwrap();
        assert!((said..said + 5000).contains(&of_log), "{ready}");
        let address = ready["url"].as_str().unwrap().strip_prefix("nats://").unwrap().parse().unwrap();
        assert_eq!(crate::real::Bare::open(address).info["max_payload"], said);
        end(broker);
    }
}

#[test]
fn flags_of_the_log_need_the_log() {
    let output = Command::new(env!("CARGO_BIN_EXE_msgbench")).args(["broker", "--sync", "group"]).output().unwrap();
    assert!(!output.status.success());
    assert!(String::from_utf8_lossy(&output.stderr).contains("--kafka"));
    let wrong = ["broker", "--kafka", "127.0.0.1:0", "--sync", "always"];
    let output = Command::new(env!("CARGO_BIN_EXE_msgbench")).args(wrong).output().unwrap();
    assert!(String::from_utf8_lossy(&output.stderr).contains("write never, group"));
}
