//! The built-in reference broker as a process of its own, so that its CPU is counted as the
//! broker's and not as ours.
//!
//! It is this very program, started as `broker`. It chooses its port itself and says so in one line
//! of JSON on its standard output, so no port can be lost in between. What it prints after that
//! goes to its log.

mod access;

use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{ChildStdout, Command};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::Value;

use self::access::Access;
use super::nats::external::{ExternalNats, NO_TOPICS};
use super::own_program::{PROGRAM_VARIABLE, own_program};
use super::power::{PowerLoss, PowerSupply};
use super::process::{Child, Output, open_log, tail};
use super::settings::plain;
use super::{Availability, CreateRequest, Provider, Running, System, SystemContext, SystemError};
use crate::plan::address::NATS;
use crate::plan::facts::{Durability, Stated};
use crate::plan::options::OptionSet;
use crate::plan::{BringUp, ServiceTarget, SystemSpec, SystemType};

/// The options of a scenario that become flags of the broker.
const FLAGS: [&str; 4] = ["max-payload", "max-pending", "workers", "slow-consumer"];

/// The option that holds the `[faults]` of a scenario, and the files in the broker's folder that go
/// with them.
const FAULTS: &str = "faults";
const FAULTS_FILE: &str = "faults.json";
const FAULT_LOG: &str = "faults.jsonl";

/// The folder of what is stored, in that of the broker.
const STORED: &str = "stored";

/// The subjects of faults where a scenario says nothing: what the NATS driver publishes on.
const ALL_PUBLISHED: &str = "mb.*.*.*";
/// The same of the driver for streams.
const ALL_STORED: &str = "mbs.>";

/// Those of its log half, which is started where messages are to be stored.
const LOG_FLAGS: [&str; 6] =
    ["sync", "segment-size", "retention-time", "retention-size", "retention-records", "housekeeping"];

/// What stores messages that are to be stored.
pub const STORED_BY: &str = "stored-by";

/// Says that messages are to be stored: the broker then serves the Kafka protocol, too, and clients
/// are sent there.
pub const LOG: &str = "log";

/// Says that messages are to be stored in streams: the broker then serves JetStream.
pub const STREAMS: &str = "streams";

/// The options of a launched broker; docs/broker.md says what each may be. The broker checks them
/// itself.
#[derive(JsonSchema)]
#[schemars(rename_all = "kebab-case")]
#[expect(dead_code, reason = "only its schema is used")]
struct BrokerFlags {
    /// Largest message.
    max_payload: Value,
    /// Bytes that are held for one slow connection.
    max_pending: Value,
    /// Threads that serve connections.
    workers: Value,
    /// What happens to a consumer that is too slow.
    slow_consumer: Value,
    /// How clients log in: none, or password, with one made for the trial.
    auth: Value,
    /// Whether connections are encrypted, with certificates made for the trial: none, server or
    /// mutual.
    tls: Value,
    /// When the log half syncs: never, group, or after a duration.
    sync: Value,
    /// Bytes of one file of the log half.
    segment_size: Value,
    /// How long the log half keeps messages.
    retention_time: Value,
    /// Bytes that the log half keeps of a partition.
    retention_size: Value,
    /// Messages that the log half keeps of a partition.
    retention_records: Value,
    /// How often the log half removes what is too old.
    housekeeping: Value,
    /// Whether messages are stored. Default: where the workload asks for it.
    log: Value,
    /// Whether messages are stored in streams. Default: where the workload asks for storage, and
    /// `stored-by` is "streams".
    streams: Value,
    /// What stores messages: "log", the log half, where they are to be stored; or "streams",
    /// streams of the router, all but requests and answers. Default: "log".
    stored_by: Value,
    /// The `[faults]` of the scenario; written there.
    faults: Value,
}

/// `driver = "reference"`: the built-in broker.
#[derive(Debug, Clone, Copy)]
pub struct ReferenceType;

impl Provider for ReferenceType {
    fn describe(&self) -> SystemType {
        SystemType {
            lacks: |w| match &w.delivery {
                d if !d.durable && (d.reject_every > 0 || d.dead_every > 0) => {
                    Some("no redelivery of messages that are not stored")
                }
                d if d.keep.and_then(|keep| keep.per_key).is_some_and(|values| values > 1) => {
                    Some("compaction keeps one value of each key")
                }
                _ if matches!(w.target, Some(ServiceTarget::Topic { .. })) => Some(NO_TOPICS),
                _ => None,
            },
            acks_unstored: false,
            keeps: true,
            power: true,
            faults: true,
            connects: true,
            by_default: true,
            protocol: Some(NATS),
            options: vec![OptionSet::of::<BrokerFlags>(check)],
            ..SystemType::new(
                "reference",
                "The built-in broker: over the NATS protocol, or, where messages are to be stored, over the Kafka protocol.",
            )
        }
    }
    fn availability(&self) -> Availability {
        itself(std::env::var_os(PROGRAM_VARIABLE).as_deref().map(Path::new))
    }
    fn create(&self, spec: &SystemSpec, order: CreateRequest<'_>) -> Result<Box<dyn System>, SystemError> {
        let CreateRequest { program, context, .. } = order;
        if let BringUp::External { url } = &spec.bring_up {
            return Ok(Box::new(ExternalNats::of(spec, url, context.timeout)));
        }
        let wrong = |words: String| SystemError::Option { system: spec.name.clone(), words };
        let access = Access::of(&spec.options).map_err(wrong)?;
        let system = ReferenceSystem::new(&spec.name, program, &spec.options, context);
        Ok(Box::new(ReferenceSystem { access, ..system }))
    }
}

fn check(options: &crate::plan::options::SystemOptions) -> Result<(), String> {
    Access::of(options)?;
    if options.get("kafka").and_then(|own| own.get("transform")).is_some_and(|word| word == "streams") {
        return Err("option `kafka`: `transform`: the application of \"streams\" runs beside a launched Kafka; use \
                    \"client\""
            .to_owned());
    }
    match options.get(STORED_BY).map(plain).as_deref() {
        None | Some("log" | "streams") => Ok(()),
        Some(other) => Err(format!("option `{STORED_BY}`: there is no `{other}`; write \"log\" or \"streams\"")),
    }
}

/// This program, which is the broker and the null system, too.
pub(super) fn itself(explicit: Option<&Path>) -> Availability {
    match own_program(explicit) {
        Ok(program) => Availability::Found { program, version: env!("CARGO_PKG_VERSION").to_owned() },
        Err(error) => Availability::Missing {
            reason: format!("the msgbench program cannot be found: {error}"),
            remedy: format!("set {PROGRAM_VARIABLE} to the path of msgbench, or unset it"),
        },
    }
}

/// Lines of the log that an error carries.
const TAIL_LINES: usize = 10;

/// Bound on the end of a broker that closed its output without being ready, to learn how it ended.
const END_BOUND: Duration = Duration::from_secs(1);

/// The line the broker prints when it takes connections.
#[derive(Debug, Deserialize)]
struct ReadyLine {
    event: String,
    url: String,
    version: String,
    #[serde(default)]
    policy: serde_json::Map<String, serde_json::Value>,
}

/// A reference broker of our own.
#[derive(Debug)]
pub struct ReferenceSystem {
    name: String,
    program: PathBuf,
    flags: Vec<String>,
    faults: Option<serde_json::Value>,
    log_half: bool,
    access: Access,
    /// How streams are synced, where messages are stored in them.
    streams: Option<String>,
    context: SystemContext,
    child: Option<Child>,
    /// Where it listens since it was first started: for NATS clients, and for Kafka clients.
    addresses: Option<(String, Option<String>)>,
    /// How often it has been started.
    starts: usize,
    power: PowerSupply,
}

impl ReferenceSystem {
    /// `name` and `options` as in the plan. `program` is msgbench itself, by an absolute path: the
    /// broker is started in its own folder.
    pub fn new(
        name: &str,
        program: PathBuf,
        options: &serde_json::Map<String, serde_json::Value>,
        context: SystemContext,
    ) -> Self {
        let log_half = options.get(LOG) == Some(&true.into());
        let flag = |&key: &&str| Some([format!("--{key}"), plain(options.get(key)?)]);
        let mut flags: Vec<String> = FLAGS.iter().filter_map(flag).flatten().collect();
        if log_half {
            flags.extend(["--data".to_owned(), format!("{STORED}/log")]);
            flags.extend(LOG_FLAGS.iter().filter_map(flag).flatten());
        }
        let streams = (options.get(STREAMS) == Some(&true.into()))
            .then(|| options.get("sync").map_or_else(|| "never".to_owned(), plain));
        if let Some(sync) = &streams {
            let streams = format!("{STORED}/streams");
            flags.extend(["--jetstream", &streams, "--jetstream-sync", sync].map(str::to_owned));
        }
        let mut faults = options.get(FAULTS).cloned();
        if streams.is_some()
            && let Some(serde_json::Value::Object(faults)) = &mut faults
            && faults.get("subjects").and_then(|s| s.as_str()) == Some(ALL_PUBLISHED)
        {
            // Those of streams have other names.
            faults.insert("subjects".to_owned(), ALL_STORED.into());
        }
        if log_half
            && let Some(serde_json::Value::Object(faults)) = &mut faults
            && faults.get("subjects").and_then(|s| s.as_str()) == Some(ALL_PUBLISHED)
        {
            // Topics have other names than what is published on the router; all of them are meant.
            faults.remove("subjects");
        }
        Self {
            name: name.to_owned(),
            program,
            flags,
            faults,
            log_half,
            access: Access::default(),
            streams,
            context,
            child: None,
            addresses: None,
            starts: 0,
            power: PowerSupply::default(),
        }
    }

    fn log(&self) -> PathBuf {
        self.context.dir.join("broker.log")
    }

    fn failed(&self, words: String) -> SystemError {
        SystemError::Start { system: self.name.clone(), words, log: tail(&self.log(), TAIL_LINES) }
    }

    fn await_ready(
        &self,
        child: &mut Child,
        ready: &Receiver<ReadyLine>,
        deadline: Instant,
    ) -> Result<ReadyLine, SystemError> {
        let left = deadline.saturating_duration_since(Instant::now());
        ready.recv_timeout(left).map_err(|error| match error {
            RecvTimeoutError::Timeout => self.failed(format!("not ready within {:?}", self.context.timeout)),
            RecvTimeoutError::Disconnected => {
                child.wait(END_BOUND);
                let end = child.ended().unwrap_or_else(|| "it closed its output".to_owned());
                self.failed(format!("{end} before it was ready"))
            }
        })
    }
}

/// Copies every line of the broker to its log and hands over the ready line. Ends with the output
/// of the broker.
fn drain(stdout: ChildStdout, mut log: File, ready: mpsc::SyncSender<ReadyLine>) {
    // Dropped at the end of the output at the latest, which tells a waiting caller that nothing
    // will come.
    let mut ready = Some(ready);
    let mut lines = BufReader::new(stdout);
    let mut line = Vec::new();
    while matches!(lines.read_until(b'\n', &mut line), Ok(count) if count > 0) {
        // A log that cannot be written must not stop the draining: a full pipe would stall what is
        // being measured.
        let _ = log.write_all(&line);
        if ready.is_some()
            && let Ok(said) = serde_json::from_slice::<ReadyLine>(&line)
            && said.event == "ready"
            && let Some(sender) = ready.take()
        {
            // The one slot is empty; a caller that has given up needs no answer.
            let _ = sender.try_send(said);
        }
        line.clear();
    }
}

impl ReferenceSystem {
    /// The log of faults of its `n`-th start.
    fn fault_log_of(n: usize) -> String {
        if n <= 1 { FAULT_LOG.to_owned() } else { format!("{n}-{FAULT_LOG}") }
    }

    /// Starts it, on free ports the first time and on the same ones afterwards; what it says when
    /// it is ready comes through the receiver.
    fn spawn(&mut self) -> Result<(Child, Receiver<ReadyLine>), SystemError> {
        self.starts += 1;
        let cannot = |error: std::io::Error| self.failed(format!("{}: {error}", self.program.display()));
        let any = || "127.0.0.1:0".to_owned();
        let (nats, kafka) = self.addresses.clone().unwrap_or_else(|| (any(), self.log_half.then(any)));
        let mut command = Command::new(&self.program);
        command.args(["broker", "--listen", &nats, "--format", "json"]);
        if let Some(kafka) = &kafka {
            command.args(["--kafka", kafka]);
        }
        command.args(&self.flags).current_dir(&self.context.dir);
        if let Some(faults) = &self.faults {
            std::fs::write(self.context.dir.join(FAULTS_FILE), faults.to_string()).map_err(cannot)?;
            command.args(["--faults", FAULTS_FILE, "--fault-log", &Self::fault_log_of(self.starts)]);
        }
        let log = self.log();
        let copy = open_log(&log).map_err(cannot)?;
        let mut child = Child::spawn(command, &log, Output::Piped, self.context.cpus.as_deref()).map_err(cannot)?;
        let (sender, receiver) = mpsc::sync_channel(1);
        let stdout = child.take_stdout().ok_or_else(|| self.failed("its output is not to be had".to_owned()))?;
        std::thread::Builder::new()
            .name("broker-log".to_owned())
            .spawn(move || drain(stdout, copy, sender))
            .map_err(cannot)?;
        Ok((child, receiver))
    }

    /// Appends the logs of faults of later starts to that of the first.
    fn join_fault_logs(&self) -> std::io::Result<()> {
        let dir = &self.context.dir;
        for n in 2..=self.starts {
            let later = std::fs::read(dir.join(Self::fault_log_of(n)))?;
            open_log(&dir.join(FAULT_LOG))?.write_all(&later)?;
        }
        Ok(())
    }
}

impl System for ReferenceSystem {
    fn start(&mut self) -> Result<Running, SystemError> {
        if self.child.is_some() {
            return Err(self.failed("it was started already".to_owned()));
        }
        let deadline = Instant::now() + self.context.timeout;
        let made = self.access.make(&self.context.dir, self.log_half);
        let (flags, client) = made.map_err(|e| self.failed(format!("cannot make certificates: {e}")))?;
        self.flags.extend(flags);
        if self.log_half || self.streams.is_some() {
            let place = self.context.dir.join(STORED);
            self.power.put_at(&[place]).map_err(|words| self.failed(words))?;
        }
        let (mut child, receiver) = self.spawn()?;
        let ready = self.await_ready(&mut child, &receiver, deadline)?;
        let mut settings: std::collections::BTreeMap<String, String> =
            ready.policy.iter().map(|(key, value)| (key.clone(), plain(value))).collect();
        let version = Some(format!("msgbench's own broker {}", ready.version));
        settings.insert("version".to_owned(), ready.version);
        if let Some(tls) = settings.get_mut("tls") {
            *tls = if tls == "true" { "on" } else { "off" }.to_owned();
        }
        let mut url = ready.url;
        let nats = bare(&url);
        let mut stored = self.streams.as_deref().map(durability);
        if self.log_half {
            let Some(kafka) = settings.remove("kafka") else {
                return Err(self.failed("it does not say where its log half listens".to_owned()));
            };
            url = kafka;
            let sync = settings.get("sync").map_or("never", String::as_str);
            stored = Some(durability(sync));
        }
        self.addresses = Some((nats, self.log_half.then(|| bare(&url))));
        let pids = vec![child.pid()];
        let running = Running { url, pids, version, durability: stored, settings, client, ..Running::default() };
        self.child = Some(child);
        Ok(running)
    }

    fn ended(&mut self) -> Option<String> {
        self.child.as_mut()?.ended()
    }

    fn restart(&mut self, node: usize) -> Result<u32, String> {
        let child = self.child.as_mut().filter(|_| node == 0).ok_or_else(|| format!("there is no node {node}"))?;
        child.kill()?;
        // Nobody waits for the ready line: clients find out by themselves when it answers again.
        let (child, _) = self.spawn().map_err(|e| e.to_string())?;
        let pid = child.pid();
        self.child = Some(child);
        Ok(pid)
    }

    fn on_power(&mut self) -> Result<(), String> {
        self.power.want()
    }

    fn power(&mut self, node: usize) -> Result<(u32, PowerLoss), String> {
        let child = self.child.as_mut().filter(|_| node == 0).ok_or_else(|| format!("there is no node {node}"))?;
        child.kill()?;
        let loss = self.power.cut(node)?;
        Ok((self.restart(node)?, loss))
    }

    fn stop(&mut self) -> Result<(), SystemError> {
        let Some(mut child) = self.child.take() else { return Ok(()) };
        let failed = |words: String| SystemError::Stop { system: self.name.clone(), words };
        child.stop(self.context.timeout).map_err(failed)?;
        match &self.faults {
            Some(_) => self.join_fault_logs().map_err(|e| failed(format!("its logs of faults: {e}"))),
            None => Ok(()),
        }
    }

    fn logs(&self) -> Vec<PathBuf> {
        vec![self.log()]
    }

    fn fault_log(&self) -> Option<PathBuf> {
        self.faults.as_ref().map(|_| self.context.dir.join(FAULT_LOG))
    }
}

/// Host and port of a URL.
fn bare(url: &str) -> String {
    url.split_once("://").map_or(url, |(_, rest)| rest).trim_end_matches('/').to_owned()
}

/// Where an acknowledged message is under a policy of `--sync`.
fn durability(sync: &str) -> Stated<Durability> {
    match sync {
        "never" => Stated::new(Durability::File, "page cache: the kernel writes when it likes"),
        "group" => Stated::new(Durability::SyncedFirst, "on disk before it is acknowledged"),
        every => Stated::new(Durability::Synced, format!("page cache, on disk after {every} at the latest")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A system whose program is the shell, started in `dir` with the arguments
    /// `broker --listen ...`: it runs `script`.
    fn scripted(dir: &Path, script: &str, options: serde_json::Value, timeout: Duration) -> ReferenceSystem {
        std::fs::write(dir.join("broker"), script).unwrap();
        let context = SystemContext { dir: dir.to_owned(), timeout, cpus: None };
        ReferenceSystem::new("reference", PathBuf::from("/bin/sh"), options.as_object().unwrap(), context)
    }

    #[test]
    fn the_ready_line_becomes_url_and_settings_and_later_lines_the_log() {
        let dir = tempfile::tempdir().unwrap();
        let script = r#"echo "$@"
echo 'noise {"event":"not yet"}'
echo '{"event":"ready","url":"nats://127.0.0.1:7","pid":1,"version":"0.1","policy":{"fsync":"never","max_pending":5}}'
echo later
exec sleep 60"#;
        let options = serde_json::json!({ "max-payload": "8MiB", "max-pending": 1024, "slow-consumer": "drop", "client-only": true });
        let mut system = scripted(dir.path(), script, options, Duration::from_secs(60));
        let running = system.start().unwrap();
        assert_eq!(running.url, "nats://127.0.0.1:7");
        assert_eq!(running.pids.len(), 1);
        assert_eq!(running.settings["fsync"], "never");
        assert_eq!(running.settings["max_pending"], "5");
        assert_eq!(running.settings["version"], "0.1");
        assert_eq!(system.ended(), None);
        let deadline = Instant::now() + Duration::from_secs(60);
        let log = || std::fs::read_to_string(&system.logs()[0]).unwrap();
        while !log().contains("later") && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(5));
        }
        assert!(log().starts_with(
            "--listen 127.0.0.1:0 --format json --max-payload 8MiB --max-pending 1024 --slow-consumer drop\n"
        ));
        assert!(log().contains("later"));
        system.stop().unwrap();
        system.stop().unwrap();
        assert!(!Path::new(&format!("/proc/{}", running.pids[0])).exists());
    }

    #[test]
    fn a_broker_that_ends_early_is_quoted() {
        let dir = tempfile::tempdir().unwrap();
        let script = "echo 'error: bad flag' >&2; exit 2";
        let mut system = scripted(dir.path(), script, serde_json::json!({}), Duration::from_secs(60));
        let words = system.start().unwrap_err().to_string();
        assert_eq!(words, "reference did not come up: exited with code 2 before it was ready\n  error: bad flag");
    }

    #[test]
    fn a_broker_that_never_gets_ready_is_given_up_and_killed() {
        let dir = tempfile::tempdir().unwrap();
        let script = "echo $$ > pid; exec sleep 60";
        let mut system = scripted(dir.path(), script, serde_json::json!({}), Duration::from_secs(2));
        assert!(system.start().unwrap_err().to_string().contains("not ready within 2s"));
        let pid = std::fs::read_to_string(dir.path().join("pid")).unwrap();
        assert!(!Path::new(&format!("/proc/{}", pid.trim())).exists());
    }

    #[test]
    fn availability_names_the_program_or_the_remedy() {
        assert!(matches!(itself(None), Availability::Found { program, .. } if program.is_absolute()));
        let Availability::Missing { remedy, .. } = itself(Some(Path::new("/no/such/msgbench"))) else {
            panic!("found what is not there");
        };
        assert!(remedy.contains("MSGBENCH_BIN"));
    }

    #[test]
    fn every_flag_is_an_option() {
        let mut names = [&FLAGS[..], &LOG_FLAGS, &[LOG, FAULTS, STREAMS, STORED_BY, "auth", "tls"]].concat();
        names.sort_unstable();
        assert_eq!(ReferenceType.describe().options[0].names(), names);
    }

    #[test]
    fn the_program_is_absolute() {
        assert!(own_program(None).unwrap().is_absolute());
        assert!(own_program(Some(Path::new("/no/such/msgbench"))).is_err());
    }
}
