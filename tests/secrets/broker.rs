//! The reference broker of these tests.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use serde_json::Value;

/// A reference broker that wants a password, for NATS and Kafka clients; stopped when it is dropped.
pub struct Broker {
    child: Child,
    pub nats: String,
    pub kafka: String,
    _dir: tempfile::TempDir,
}

impl Drop for Broker {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Starts it on free ports of its own choice.
pub fn broker(user: &str, password: &str) -> Broker {
    let dir = tempfile::tempdir().unwrap();
    let any = "127.0.0.1:0";
    let mut child = Command::new(env!("CARGO_BIN_EXE_msgbench"))
        .args(["broker", "--listen", any, "--kafka", any, "--data", "log", "--format", "json"])
        .args(["--user", user, "--pass", password])
        .current_dir(dir.path())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut broker = Broker { child, nats: String::new(), kafka: String::new(), _dir: dir };
    let (sender, receiver) = mpsc::channel();
    // To the end of its output, so that it is never kept from writing.
    std::thread::spawn(move || lines.map_while(Result::ok).for_each(|line| drop(sender.send(line))));
    let ready: Value = serde_json::from_str(&receiver.recv_timeout(Duration::from_secs(30)).unwrap()).unwrap();
    let address = |url: &Value| url.as_str().unwrap().split_once("://").unwrap().1.to_owned();
    (broker.nats, broker.kafka) = (address(&ready["url"]), address(&ready["policy"]["kafka"]));
    broker
}
