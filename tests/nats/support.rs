//! Drivers opened on a nats-server, and what is sent, heard and accounted for.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Command, Output};
use std::time::Duration;

use msgbench::driver::{Confirmation, Consumer, Disposition, Incoming, MessageSink, Outgoing, Producer, Target};
use msgbench::plan::Workload;
use msgbench::scenario::{Overrides, parse};
use serde_json::Value;

pub use crate::server::Server;

/// Bound on every wait; a busy machine takes long.
pub const TIMEOUT: Duration = Duration::from_secs(60);

/// The monitoring port of a launched server, from the configuration that it was started with.
pub fn monitor(pid: u32) -> String {
    let words = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap();
    let words: Vec<&str> = std::str::from_utf8(&words).unwrap().split('\0').collect();
    let file = words[words.iter().position(|w| *w == "-c").unwrap() + 1];
    let text = std::fs::read_to_string(file).unwrap();
    let address = text.lines().find_map(|line| line.trim().strip_prefix("http: ")).unwrap();
    address.trim_matches('"').to_owned()
}

pub fn varz(address: &str) -> Value {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.write_all(format!("GET /varz HTTP/1.0\r\nHost: {address}\r\n\r\n").as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    serde_json::from_str(answer.split_once("\r\n\r\n").unwrap().1).unwrap()
}

/// A count of a launched server, from its monitoring page.
pub fn monitored(server: &Server, key: &str) -> u64 {
    varz(&monitor(server.running.pids[0]))[key].as_u64().unwrap()
}

fn map(options: Value) -> serde_json::Map<String, Value> {
    options.as_object().unwrap().clone()
}

impl Server {
    /// What a driver is opened with: what the server gave its clients, and over it `options`.
    pub fn target(&self, options: Value) -> Target {
        let mut all = self.running.client.clone();
        all.extend(map(options));
        Target {
            url: self.running.url.clone(),
            timeout: TIMEOUT,
            run: 0xabcd_0123,
            options: all,
            places: self.running.places.clone(),
            pinned: false,
            intruders: self.running.intruders.clone(),
            ..Target::default()
        }
    }

    /// Kills it as a crash would.
    pub fn kill(&self) {
        for pid in &self.running.pids {
            // SAFETY: kill touches no memory; the process is a child of this one and not yet
            // reaped.
            assert_eq!(unsafe { libc::kill(*pid as libc::pid_t, libc::SIGKILL) }, 0);
        }
    }

    /// An answer of the JetStream API, asked by a client of the test's own.
    pub async fn api(&self, verb: &str, body: &str) -> Value {
        let urls: Vec<&str> = self.running.url.split(',').collect();
        let client = async_nats::connect(urls).await.unwrap();
        let answer = client.request(format!("$JS.API.{verb}"), body.to_owned().into()).await.unwrap();
        serde_json::from_slice(&answer.payload).unwrap()
    }
}

/// The workload of `pattern` with `rest` written below it. It may name servers of any topology.
pub fn workloads(pattern: &str, rest: &str) -> Vec<Workload> {
    // Only some systems have it, and a scenario that suits none of its systems is refused.
    let driver = if matches!(pattern, "stream" | "key-value") { "jetstream" } else { "nats" };
    let system = match rest.contains("at = ") {
        true => format!("[[system]]\ndriver = \"{driver}\"\noptions = {{ nodes = 2, clusters = 2, leaf-nodes = 5 }}\n"),
        false if pattern == "key-value" => format!("[[system]]\ndriver = \"{driver}\"\n"),
        false => String::new(),
    };
    let text = format!(
        "name = \"test\"\nquestion = \"test?\"\n{system}[[workload]]\npattern = \"{pattern}\"\nload = {{ rate = \"1k/s\" }}\n{rest}\n"
    );
    parse(Path::new("test.toml"), text, &Overrides::default(), &msgbench::engine::Register::built_in().types())
        .unwrap()
        .plan
        .cases[0]
        .workloads
        .clone()
}

/// Message `token`.
pub fn message(token: u64) -> String {
    format!("message {token}")
}

/// Sends `from..to` on channel 0.
pub async fn send(producer: &mut impl Producer, tokens: std::ops::Range<u64>) {
    for token in tokens {
        let payload = message(token);
        producer.send(Outgoing { channel: 0, key: None, payload: payload.as_bytes(), token }).await.unwrap();
    }
    producer.flush().await.unwrap();
}

/// Waits until `n` messages are acknowledged or refused: the tokens of both.
pub async fn confirmations(producer: &mut impl Producer, n: usize) -> (Vec<u64>, Vec<u64>) {
    let (mut acked, mut failed) = (Vec::new(), Vec::new());
    while acked.len() + failed.len() < n {
        let mut sink = |c: Confirmation<'_>| match c {
            Confirmation::Acked { token, .. } => acked.push(token),
            Confirmation::Failed { token } => failed.push(token),
            other => panic!("{other:?}"),
        };
        let more = tokio::time::timeout(TIMEOUT, producer.confirmed(&mut sink)).await;
        if more.is_err() {
            panic!("{} acknowledged and {} refused of {n} within {TIMEOUT:?}", acked.len(), failed.len());
        }
        more.unwrap().unwrap();
    }
    (acked, failed)
}

/// Keeps what it is given and does with it what `judge` says.
pub struct Collector<F> {
    pub heard: Vec<(String, u32)>,
    pub dead: Vec<(String, u32)>,
    pub judge: F,
}

impl<F: FnMut(&str, u32) -> Disposition> Collector<F> {
    pub fn new(judge: F) -> Self {
        Self { heard: Vec::new(), dead: Vec::new(), judge }
    }
    /// The texts in the order they came.
    pub fn texts(&self) -> Vec<&str> {
        self.heard.iter().map(|(text, _)| text.as_str()).collect()
    }
}

impl<F: FnMut(&str, u32) -> Disposition> MessageSink for Collector<F> {
    fn take(&mut self, message: Incoming<'_>) -> Disposition {
        let text = String::from_utf8(message.payload.to_vec()).unwrap();
        let disposition = (self.judge)(&text, message.attempt);
        self.heard.push((text, message.attempt));
        disposition
    }
    fn dead_letter(&mut self, message: Incoming<'_>) {
        self.dead.push((String::from_utf8(message.payload.to_vec()).unwrap(), message.attempt));
    }
}

pub fn accept(_: &str, _: u32) -> Disposition {
    Disposition::Accept
}

/// Receives until `n` messages and `dead` dead letters are here.
pub async fn hear<F: FnMut(&str, u32) -> Disposition>(
    consumer: &mut impl Consumer,
    collector: &mut Collector<F>,
    n: usize,
    dead: usize,
) {
    let all = async {
        while collector.heard.len() < n || collector.dead.len() < dead {
            consumer.receive(collector, usize::MAX).await.unwrap();
        }
    };
    if tokio::time::timeout(TIMEOUT, all).await.is_err() {
        panic!(
            "{} of {n} messages and {} of {dead} dead letters within {TIMEOUT:?}",
            collector.heard.len(),
            collector.dead.len()
        );
    }
}

/// Receives for `time` and no longer.
pub async fn hear_for<F: FnMut(&str, u32) -> Disposition>(
    consumer: &mut impl Consumer,
    collector: &mut Collector<F>,
    time: Duration,
) {
    let all = async {
        loop {
            consumer.receive(collector, usize::MAX).await.unwrap();
        }
    };
    let _ = tokio::time::timeout(time, all).await;
}

/// Receives until `done` holds: only receiving drives the connection, with what was handed over
/// before.
pub async fn hear_until<F: FnMut(&str, u32) -> Disposition, D: Future<Output = bool>>(
    consumer: &mut impl Consumer,
    collector: &mut Collector<F>,
    mut done: impl FnMut() -> D,
    what: &str,
) {
    let until = std::time::Instant::now() + TIMEOUT;
    while !done().await {
        assert!(std::time::Instant::now() < until, "not within {TIMEOUT:?}: {what}");
        hear_for(consumer, collector, Duration::from_millis(50)).await;
    }
}

/// `msgbench run` of the scenario `text` with its record.
pub fn run(text: &str) -> (Output, Value) {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("scenario.toml");
    std::fs::write(&file, text).unwrap();
    run_file(&file, &[])
}

/// `msgbench run` of a scenario file with its record.
pub fn run_file(file: &Path, args: &[&str]) -> (Output, Value) {
    let out = tempfile::tempdir().unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_msgbench"))
        .arg("run")
        .arg(file)
        .args(["--quick", "--format", "record", "--out"])
        .arg(out.path())
        .args(args)
        .output()
        .unwrap();
    let record = serde_json::from_slice(&output.stdout).unwrap_or(Value::Null);
    (output, record)
}

/// The ledger of the first workload of trial `i`, after checking that the trial is whole.
pub fn ledger(record: &Value, i: usize) -> &Value {
    let trial = &record["trials"][i];
    assert_eq!(trial["outcome"]["status"], "complete", "{}", trial["outcome"]);
    let ledger = &trial["workloads"][0]["ledger"];
    assert!(ledger["sent"].as_u64().unwrap() > 100, "{ledger}");
    assert_eq!(ledger["scheduled"], ledger["sent"], "{ledger}");
    for fault in ["lost", "duplicated", "corrupted", "foreign", "refused", "client_dropped"] {
        assert_eq!(ledger[fault], 0, "{fault}: {ledger}");
    }
    ledger
}

/// The exit code of a run that the system did not spoil, or the reason why it is none.
///
/// 4: a busy machine makes a trial invalid, and says so; the books must balance all the same.
pub fn ran((output, record): &(Output, Value), what: &str) {
    let code = output.status.code().unwrap();
    let trial = &record["trials"][0];
    let (outcome, w) = (&trial["outcome"], &trial["workloads"][0]);
    assert!(
        code == 0 || code == 4,
        "{what}: exit {code}: {}\n{outcome}\n{}\n{}\n{}",
        String::from_utf8_lossy(&output.stderr),
        w["ledger"],
        w["promises"],
        trial["events"],
    );
}

/// What each trial promised and whether it was kept: all must be.
pub fn promises_are_kept(record: &Value, i: usize) {
    let promises = record["trials"][i]["workloads"][0]["promises"].as_array().unwrap();
    assert!(!promises.is_empty());
    for promise in promises {
        assert_eq!(promise["kept"], true, "{promise}");
    }
}
