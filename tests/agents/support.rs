//! Control servers, agents and runs as processes of a test, and somebody who listens to what they
//! say to each other.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use futures_util::StreamExt;
use serde_json::{Value, json};
use tempfile::TempDir;

pub const PROGRAM: &str = env!("CARGO_BIN_EXE_msgbench");
/// Bound on every wait; a busy machine takes long.
pub const BOUND: Duration = Duration::from_secs(60);

/// A process that is killed when dropped.
pub struct Process(pub Child);

impl Process {
    pub fn signal(&self, signal: i32) {
        // SAFETY: the process is this test's own child and has not been waited for.
        assert_eq!(unsafe { libc::kill(self.0.id() as i32, signal) }, 0);
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It has mostly ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A control server: the reference broker, at this address, or at one that is free.
pub struct Control {
    process: Option<Process>,
    pub url: String,
}

impl Control {
    pub fn start() -> Self {
        let (process, url) = broker("127.0.0.1:0");
        Self { process: Some(process), url }
    }

    /// Kills it.
    pub fn kill(&mut self) {
        self.process = None;
    }

    /// Starts it again where it was.
    pub fn again(&mut self) {
        let (process, url) = broker(self.url.trim_start_matches("nats://"));
        assert_eq!(url, self.url);
        self.process = Some(process);
    }
}

fn broker(listen: &str) -> (Process, String) {
    let mut child = Command::new(PROGRAM)
        .args(["broker", "--listen", listen, "--format", "json"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let ready: Value = serde_json::from_str(&line).unwrap();
    (Process(child), ready["url"].as_str().unwrap().into())
}

/// An agent of this name.
pub fn agent(control: &str, name: &str, spool: &Path) -> Process {
    labelled(control, name, "zone=a", spool)
}

/// An agent of this name and label.
pub fn labelled(control: &str, name: &str, label: &str, spool: &Path) -> Process {
    let spool = spool.to_str().unwrap();
    let child = Command::new(PROGRAM)
        .args(["agent", "--control", control, "--name", name, "--spool", spool, "--label", label])
        .stderr(Stdio::null())
        .spawn();
    Process(child.unwrap())
}

/// The same, with a clock that the kernel has put ahead by so many seconds.
pub fn shifted_agent(control: &str, name: &str, ahead: u64, spool: &Path) -> Process {
    let mut command = Command::new("unshare");
    command.args(["--time", "--monotonic", &ahead.to_string(), "--fork", "--kill-child", "--", PROGRAM]);
    command.args(["agent", "--control", control, "--name", name, "--spool", spool.to_str().unwrap()]);
    Process(command.stderr(Stdio::null()).spawn().unwrap())
}

/// So many agents, `a0` to `a9`.
pub fn agents(control: &str, n: u32, spool: &Path) -> Vec<Process> {
    (0..n).map(|i| agent(control, &format!("a{i}"), spool)).collect()
}

/// A scenario with this workload, and a folder for what comes of it.
pub struct Bench {
    pub dir: TempDir,
}

impl Bench {
    pub fn new(workload: &str, seconds: f64) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let text = format!(
            "name = \"t\"\nquestion = \"is it the same?\"\n[[system]]\ndriver = \"reference\"\n[[workload]]\n{workload}\n\
             [run]\nwarmup = \"200ms\"\nduration = \"{}ms\"\ninterval = \"250ms\"\ndrain = \"20s\"\nconnect = \"30s\"\ntrials = 1\n",
            (seconds * 1e3) as u64
        );
        std::fs::write(dir.path().join("t.toml"), text).unwrap();
        Self { dir }
    }

    /// Puts it to another system, with this line.
    pub fn system(&self, driver: &str, line: &str) {
        let path = self.dir.path().join("t.toml");
        let before = std::fs::read_to_string(&path).unwrap();
        let system = format!("driver = \"{driver}\"\n{line}");
        std::fs::write(path, before.replace("driver = \"reference\"", &system)).unwrap();
    }

    /// Adds to the scenario.
    pub fn add(&self, text: &str) {
        let path = self.dir.path().join("t.toml");
        let before = std::fs::read_to_string(&path).unwrap();
        std::fs::write(path, before + text).unwrap();
    }

    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(PROGRAM);
        command.arg("run").arg(self.dir.path().join("t.toml")).args(args);
        command.args(["--format", "record", "--out"]).arg(self.dir.path().join("out"));
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    pub fn run(&self, args: &[&str]) -> Output {
        self.command(args).output().unwrap()
    }

    /// Runs it by these agents' control server.
    pub fn with(&self, control: &str, agents: u32) -> Command {
        self.command(&["--agents", &agents.to_string(), "--control", control])
    }
}

pub fn words(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

pub fn record(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout).unwrap_or_else(|e| panic!("{e}: {}", words(output)))
}

/// The only trial of a run.
pub fn trial(output: &Output) -> Value {
    record(output)["trials"][0].clone()
}

/// The check of this id.
pub fn check(trial: &Value, id: &str) -> Value {
    let all = trial["validity"].as_array().unwrap();
    all.iter().find(|c| c["id"] == id).cloned().unwrap_or_else(|| panic!("no {id} in {all:?}"))
}

/// What became of each agent.
pub fn states(trial: &Value) -> Vec<String> {
    let of = |agent: &Value| agent["state"]["status"].as_str().unwrap().to_owned();
    trial["agents"].as_array().unwrap().iter().map(of).collect()
}

/// The same, where it does not matter whether one was silent for a while: on a busy machine each
/// may be.
pub fn came(trial: &Value) -> Vec<String> {
    states(trial).into_iter().map(|s| if s == "silent" { "delivered".into() } else { s }).collect()
}

/// A client of the control server that is neither agent nor coordinator.
pub struct Listener {
    runtime: tokio::runtime::Runtime,
    client: async_nats::Client,
}

impl Listener {
    pub fn at(control: &str) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let client = runtime.block_on(async_nats::connect(control)).unwrap();
        Self { runtime, client }
    }

    /// Starts a run, and waits until a trial begins: at which address its system is.
    pub fn begun<T>(&self, start: impl FnOnce() -> T) -> (T, String) {
        self.runtime.block_on(async {
            let mut told = self.client.subscribe("msgbench.default.agent.*").await.unwrap();
            self.client.flush().await.unwrap();
            let run = start();
            let end = Instant::now() + BOUND;
            loop {
                let left = end.saturating_duration_since(Instant::now());
                let message = tokio::time::timeout(left, told.next()).await.expect("a trial begins").unwrap();
                let command: Value = serde_json::from_slice(&message.payload).unwrap();
                if command["command"] == "begin" {
                    return (run, command["order"]["url"].as_str().unwrap().to_owned());
                }
            }
        })
    }

    /// How many messages are in the streams of a server.
    pub fn stored_in_streams(&self) -> u64 {
        self.runtime.block_on(async {
            let ask = async |subject: String| -> Value {
                let answer = self.client.request(subject, "".into()).await.unwrap();
                serde_json::from_slice(&answer.payload).unwrap()
            };
            let mut all = 0;
            for name in ask("$JS.API.STREAM.NAMES".into()).await["streams"].as_array().unwrap() {
                let info = ask(format!("$JS.API.STREAM.INFO.{}", name.as_str().unwrap())).await;
                all += info["state"]["messages"].as_u64().unwrap();
            }
            all
        })
    }

    /// Waits until all of so many agents have sent messages.
    pub fn all_send(&self, agents: usize) {
        self.runtime.block_on(async {
            let mut reports = self.client.subscribe("msgbench.default.run.*.report").await.unwrap();
            let mut sending = std::collections::BTreeSet::new();
            let end = Instant::now() + BOUND;
            while sending.len() < agents {
                let left = end.saturating_duration_since(Instant::now());
                let report = tokio::time::timeout(left, reports.next()).await.expect("agents send").unwrap();
                let report: Value = serde_json::from_slice(&report.payload).unwrap();
                let counts = report["progress"]["counts"].as_array().unwrap();
                if counts.iter().any(|c| c["sent"].as_u64() > Some(0)) {
                    sending.insert(report["id"].as_str().unwrap().to_owned());
                }
            }
        });
    }

    /// Waits until an agent says hello, and gives that.
    pub fn hello(&self) -> Value {
        self.runtime.block_on(async {
            let mut hellos = self.client.subscribe("msgbench.default.hello").await.unwrap();
            let end = Instant::now() + BOUND;
            loop {
                assert!(Instant::now() < end, "an agent says hello");
                self.client.publish("msgbench.default.roll", "".into()).await.unwrap();
                if let Ok(Some(hello)) = tokio::time::timeout(Duration::from_millis(200), hellos.next()).await {
                    return serde_json::from_slice(&hello.payload).unwrap();
                }
            }
        })
    }

    /// Is an agent that says hello, agrees to everything and does nothing, until a run has ended.
    /// It reports for the first seconds of a trial, and is waited for as long.
    pub fn obey_and_do_nothing(&self, hello: &Value, run: Child) -> Output {
        let id = hello["id"].as_str().unwrap().to_owned();
        let client = self.client.clone();
        let say = serde_json::to_vec(hello).unwrap();
        let obeys = self.runtime.spawn(async move {
            let mut told = client.subscribe(format!("msgbench.default.agent.{id}")).await.unwrap();
            let mut often = tokio::time::interval(Duration::from_millis(200));
            let (mut run, mut begun) = (String::new(), None);
            loop {
                tokio::select! {
                    Some(message) = told.next() => {
                        let command: Value = serde_json::from_slice(&message.payload).unwrap_or_default();
                        run = command["run"].as_str().unwrap_or(&run).to_owned();
                        if command["command"] == "begin" {
                            begun.get_or_insert_with(Instant::now);
                        }
                        if let Some(to) = message.reply {
                            client.publish(to, "{\"answer\":\"yes\"}".into()).await.unwrap();
                        }
                    }
                    _ = often.tick() => {
                        client.publish("msgbench.default.hello", say.clone().into()).await.unwrap();
                        if begun.is_some_and(|begun: Instant| begun.elapsed() > Duration::from_secs(6)) {
                            continue;
                        }
                        let progress = json!({ "counts": [], "draining": false, "sent_all": false, "failed": null });
                        let report = json!({ "id": id, "trial": 1, "stage": null, "progress": progress });
                        let report = serde_json::to_vec(&report).unwrap();
                        client.publish(format!("msgbench.default.run.{run}.report"), report.into()).await.unwrap();
                    }
                }
            }
        });
        let output = run.wait_with_output().unwrap();
        obeys.abort();
        output
    }

    /// Tells an agent something, and gives its answer.
    pub fn ask(&self, id: &str, command: &Value) -> Value {
        let (subject, payload) = (format!("msgbench.default.agent.{id}"), serde_json::to_vec(command).unwrap());
        let answer = self.runtime.block_on(self.client.request(subject, payload.into())).unwrap();
        serde_json::from_slice(&answer.payload).unwrap()
    }
}

/// Makes an agent part of a run.
pub fn assignment(version: &str, protocol: u32, plan: &str) -> Value {
    json!({ "command": "assign", "protocol": protocol, "version": version, "run": "r", "by": "a test",
        "plan": plan, "share": { "index": 0, "of": 1 } })
}
