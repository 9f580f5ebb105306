//! `msgbench broker --kafka` as a process: beside the router and instead of it, its lines, its directory.

// A test fails by panicking.
#![allow(clippy::unwrap_used)]

mod log_support;

use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};

use log_support::{Client, batch_of};
use serde_json::Value;

struct Process {
    child: Child,
    out: BufReader<ChildStdout>,
    ready: Value,
}

impl Drop for Process {
    fn drop(&mut self) {
        // It has mostly ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn start(args: &[&str]) -> Process {
    let mut child = Command::new(env!("CARGO_BIN_EXE_msgbench"))
        .args(["broker", "--format", "json"])
        .args(args)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut out = BufReader::new(child.stdout.take().unwrap());
    let mut line = String::new();
    out.read_line(&mut line).unwrap();
    Process { child, out, ready: serde_json::from_str(&line).unwrap() }
}

impl Process {
    fn client(&self) -> Client {
        let url = self.ready["policy"]["kafka"].as_str().unwrap();
        Client::connect(url.strip_prefix("kafka://").unwrap().parse().unwrap())
    }

    /// Ends it with SIGTERM; its closing line.
    fn end(mut self) -> Value {
        let pid = i32::try_from(self.child.id()).unwrap();
        // SAFETY: the process is this test's own child and has not been waited for.
        assert_eq!(unsafe { libc::kill(pid, libc::SIGTERM) }, 0);
        let mut rest = String::new();
        self.out.read_to_string(&mut rest).unwrap();
        assert!(self.child.wait().unwrap().success());
        serde_json::from_str(&rest).unwrap()
    }
}

#[test]
fn both_halves_run_in_one_process_and_say_so() {
    let broker = start(&["--listen", "127.0.0.1:0", "--kafka", "127.0.0.1:0", "--sync", "group"]);
    assert!(broker.ready["url"].as_str().unwrap().starts_with("nats://127.0.0.1:"));
    let policy = &broker.ready["policy"];
    assert_eq!((&policy["sync"], &policy["storage_kept"]), (&"group".into(), &false.into()));
    let storage = policy["storage"].as_str().unwrap().to_owned();
    assert!(Path::new(&storage).is_dir());
    let mut client = broker.client();
    client.create("t", 1, &[]);
    assert_eq!(client.produce("t", 0, batch_of(&[("k", "v")])), (0, 0));
    let closed = broker.end();
    assert_eq!((&closed["kafka"]["records_in"], &closed["counters"]["connections"]), (&1.into(), &0.into()));
    assert!(!Path::new(&storage).exists(), "a directory nobody asked for is removed");
}

#[test]
fn the_log_alone_keeps_its_directory_and_what_is_in_it() {
    let dir = tempfile::tempdir().unwrap();
    let args = ["--kafka", "127.0.0.1:0", "--data", dir.path().to_str().unwrap(), "--partitions", "3"];
    let broker = start(&args);
    assert_eq!(broker.ready["url"], broker.ready["policy"]["kafka"]);
    let mut client = broker.client();
    client.create("t", -1, &[]);
    for n in 0..10 {
        assert_eq!(client.produce("t", 2, batch_of(&[("k", "v")])), (0, n));
    }
    // Nobody else may have the directory meanwhile.
    let second = Command::new(env!("CARGO_BIN_EXE_msgbench")).arg("broker").args(args).output().unwrap();
    assert!(!second.status.success());
    assert!(String::from_utf8_lossy(&second.stderr).contains("is in use by another broker"));
    assert_eq!(broker.end()["kafka"]["batches_in"], 10);
    let broker = start(&args);
    assert_eq!(broker.ready["policy"]["recovered_cut_bytes"], 0);
    assert_eq!(broker.client().read_all("t", 2, 0).len(), 10);
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
