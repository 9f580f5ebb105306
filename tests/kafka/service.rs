//! A service of others is driven through its two topics: its requests are the payload alone, its
//! answers are counted by the header that they bring back.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;

use serde_json::Value;

use crate::needs;
use crate::support::{BOUND, shared};

/// The service of `tests/python/kafka_service.py`; killed when it is dropped.
struct Service {
    child: Child,
    lines: mpsc::Receiver<String>,
}

impl Drop for Service {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Service {
    fn start(python: &str, arguments: [&str; 4]) -> Self {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/python/kafka_service.py");
        let mut command = Command::new(python);
        let mut child = command.arg(script).args(arguments).stdout(Stdio::piped()).spawn().unwrap();
        let output = BufReader::new(child.stdout.take().unwrap()).lines();
        let (sender, lines) = mpsc::channel();
        std::thread::spawn(move || output.map_while(Result::ok).for_each(|line| drop(sender.send(line))));
        let service = Self { child, lines };
        let first = service.lines.recv_timeout(4 * BOUND).expect("the service comes up");
        assert_eq!(first, "ready");
        service
    }

    /// How many requests it has seen, once it has seen `sent`.
    fn seen(&self, sent: u64) -> u64 {
        let mut seen = 0;
        while seen < sent {
            let line = self.lines.recv_timeout(BOUND).unwrap_or_else(|e| panic!("{seen} of {sent}: {e}"));
            seen = line.parse().unwrap();
        }
        seen
    }
}

fn scenario(url: &str, target: &str) -> String {
    format!(
        "name = \"gateway\"\nquestion = \"test?\"\n[[system]]\ndriver = \"kafka\"\nurl = \"{url}\"\n\
         [[workload]]\npattern = \"request-reply\"\nproducers = 2\ntarget = {target}\n\
         load.rate = \"200/s\"\npayload.file = \"orders.jsonl\"\n\
         [run]\nwarmup = \"0s\"\nduration = \"1s\"\ndrain = \"20s\"\ntrials = 1\nconnect = \"30s\"\n"
    )
}

fn run(text: &str) -> (Value, String) {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("orders.jsonl"), "{\"order\":1}\n{\"order\":\"two\"}\n").unwrap();
    std::fs::write(dir.path().join("s.toml"), text).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_msgbench"));
    command.current_dir(dir.path()).args(["run", "s.toml", "--format", "record", "--quiet"]);
    let output = command.output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    (serde_json::from_slice(&output.stdout).unwrap_or_else(|e| panic!("{e}: {said}")), said)
}

#[test]
fn answers_of_a_service_are_counted_and_timed() {
    let Some(url) = shared() else { return };
    let Some(python) = needs::python("confluent_kafka", "confluent-kafka") else { return };
    let (topic, replies) = ("orders", "orders-answers");
    let service = Service::start(&python, [url.trim_start_matches("kafka://"), topic, replies, "order-id"]);
    let target = format!("{{ topic = \"{topic}\", reply-topic = \"{replies}\", correlation-header = \"order-id\" }}");
    let (record, said) = run(&scenario(url, &target));
    let trial = &record["trials"][0];
    assert_eq!(trial["outcome"]["status"], "complete", "{trial} {said}");
    let workload = &trial["workloads"][0];
    let count = |name: &str| workload["ledger"][name].as_u64().unwrap();
    let seen = service.seen(count("sent"));
    assert!((190..=201).contains(&seen), "{workload}");
    assert_eq!(count("sent"), seen, "all requests are there, and no other");
    assert_eq!(count("lost"), seen / 25);
    assert_eq!(count("delivered"), seen - seen / 25);
    // Of those that are answered twice, every fifth is not answered at all.
    assert_eq!(count("duplicated"), seen / 10 - seen / 50);
    assert_eq!((count("corrupted"), count("foreign")), (0, 1), "one answer has no header");
    assert_eq!(workload["latency"]["rtt"]["count"].as_u64().unwrap(), count("delivered"), "{workload}");
    // What the service leaves unanswered is no promise of the broker's.
    assert_eq!(workload["promises"].as_array().map_or(0, Vec::len), 0, "{workload}");
    let facts = trial["system"].to_string();
    assert!(facts.contains("asked in orders, answers in orders-answers, header order-id"), "{facts}");
}

#[test]
fn a_topic_that_is_not_there_is_told() {
    let Some(url) = shared() else { return };
    let text = scenario(url, "{ topic = \"no-such\", reply-topic = \"no-such-answers\" }");
    let (record, said) = run(&text.replace("connect = \"30s\"", "connect = \"3s\""));
    let outcome = &record["trials"][0]["outcome"];
    let error = outcome["error"].as_str().unwrap_or_else(|| panic!("{outcome} {said}"));
    assert!(error.contains("use the topic no-such") && error.contains("create it"), "{error}");
}
