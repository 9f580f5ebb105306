//! A Kafka for all tests of this binary, and the little it takes to send and receive through the
//! driver.

use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError, mpsc};
use std::time::Duration;

use msgbench::driver::kafka::{KafkaConsumer, KafkaDriver, KafkaProducer};
use msgbench::driver::{
    ClientSlot, Confirmation, Consumer, Disposition, Driver, DriverError, Incoming, MessageSink, Outgoing, Producer,
    Start, Target,
};
use msgbench::engine::Register;
use msgbench::load::message::{Envelope, Template, open};
use msgbench::plan::{
    BringUp, Content, DeliverySpec, Load, Pattern, Payload, PayloadSize, SystemSpec, Topology, Workload,
};
use msgbench::system::{Running, System, SystemContext};
use msgbench::units::{Bytes, now};
use serde_json::Value;

/// Bound on everything a test waits for.
pub const BOUND: Duration = Duration::from_secs(60);

/// Bound on the start of a broker: on a busy machine Java alone takes a minute.
const START: Duration = Duration::from_secs(180);

/// Whether there is a Kafka to test against; where there is none, the test is skipped.
pub fn there() -> bool {
    crate::needs::system("kafka").is_some()
}

/// A Kafka of one test's own. One at a time: several on two cores only wait for each other.
pub struct Launched {
    pub system: Box<dyn System>,
    pub running: Running,
    _dir: Option<tempfile::TempDir>,
    _turn: Option<MutexGuard<'static, ()>>,
}

/// The right to start brokers.
pub fn turn() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::new(());
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}

pub fn spec(options: &Value) -> SystemSpec {
    let options = options.as_object().unwrap().clone();
    SystemSpec {
        name: "kafka".into(),
        driver: "kafka".into(),
        bring_up: BringUp::Launch,
        require: false,
        cpus: None,
        options,
    }
}

fn launch_in(dir: PathBuf, kept: Option<tempfile::TempDir>, options: &Value) -> Launched {
    let mut system =
        Register::built_in().create(&spec(options), SystemContext { dir, timeout: START, cpus: None }).unwrap();
    let running = system.start().unwrap_or_else(|e| panic!("{e}"));
    Launched { system, running, _dir: kept, _turn: None }
}

pub fn launch(options: Value) -> Launched {
    let turn = turn();
    let dir = tempfile::tempdir().unwrap();
    Launched { _turn: Some(turn), ..launch_in(dir.path().to_owned(), Some(dir), &options) }
}

/// A folder that no other process has: what a killed one left is used again, and two runs of the
/// tests at the same time do not take each other's. It is free again when the file is dropped.
fn free_folder() -> (PathBuf, std::fs::File) {
    let base = PathBuf::from(env!("CARGO_TARGET_TMPDIR"));
    for n in 0.. {
        let lock = std::fs::File::create(base.join(format!("kafka-shared-{n}.lock"))).unwrap();
        if lock.try_lock().is_ok() {
            let dir = base.join(format!("kafka-shared-{n}"));
            let _ = std::fs::remove_dir_all(&dir);
            std::fs::create_dir_all(&dir).unwrap();
            return (dir, lock);
        }
    }
    unreachable!("there is always another number")
}

/// The URL of the broker that the tests of this binary share. It goes with the process: the kernel
/// kills it. Every test asks for itself, so that each one that is skipped is counted.
pub fn shared() -> Option<&'static str> {
    static URL: OnceLock<String> = OnceLock::new();
    if !there() {
        return None;
    }
    let url = URL.get_or_init(|| {
        let (url_in, url) = mpsc::channel();
        // The thread that starts a child must live as long as the child.
        std::thread::spawn(move || {
            let (dir, _held) = free_folder();
            let launched = launch_in(dir, None, &serde_json::json!({ "broker": { "heap": "512MiB" } }));
            url_in.send(launched.running.url.clone()).unwrap();
            loop {
                std::thread::park();
            }
        });
        url.recv_timeout(START + BOUND).expect("the shared broker comes up")
    });
    Some(url)
}

/// A workload of one kind; its topology may be changed afterwards.
pub fn workload(channels: u32, groups: u32, members: u32) -> Workload {
    Workload {
        name: "w".into(),
        pattern: Pattern::FanOut,
        topology: Topology { producers: 1, channels, groups, members, reply: false },
        load: Load::Unthrottled { window: 0 },
        payload: Payload { size: PayloadSize::Fixed(Bytes(128)), content: Content::Text },
        delivery: DeliverySpec { durable: true, ..DeliverySpec::default() },
        target: None,
        at: msgbench::plan::Places::default(),
        intruders: 0,
        idle_connections: 0,
        agents: Default::default(),
    }
}

/// The driver with one workload, opened at a URL.
pub struct Bench {
    pub runtime: tokio::runtime::Runtime,
    pub driver: KafkaDriver,
    pub run: u32,
}

pub fn target(url: &str, options: &Value) -> Target {
    static RUN: AtomicU32 = AtomicU32::new(1);
    let run = std::process::id() << 12 | RUN.fetch_add(1, Ordering::Relaxed);
    let options = options.as_object().unwrap().clone();
    Target { url: url.into(), timeout: BOUND, run, options, ..Target::default() }
}

/// The same for a Kafka of one's own: its clients need what was made for them.
pub fn target_of(running: &Running, options: &Value) -> Target {
    let mut to = target(&running.url, options);
    let mut all = running.client.clone();
    all.append(&mut to.options);
    Target { options: all, intruders: running.intruders.clone(), ..to }
}

pub fn open_in(running: &Running, options: Value, workload: &Workload) -> Bench {
    try_open(target_of(running, &options), workload).unwrap_or_else(|e| panic!("{e}"))
}

pub fn try_open(target: Target, workload: &Workload) -> Result<Bench, DriverError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let run = target.run;
    let driver = runtime.block_on(KafkaDriver::prepare(target, std::slice::from_ref(workload)))?;
    Ok(Bench { runtime, driver, run })
}

pub fn open_at(url: &str, options: Value, workload: &Workload) -> Bench {
    try_open(target(url, &options), workload).unwrap_or_else(|e| panic!("{e}"))
}

pub fn slot(group: u32, index: u32) -> ClientSlot {
    ClientSlot { workload: 0, group, index }
}

/// What was confirmed of what was sent.
#[derive(Debug, Default)]
pub struct Confirmed {
    pub acked: Vec<u64>,
    pub failed: Vec<u64>,
    pub answered: Vec<u64>,
}

impl Confirmed {
    fn count(&self) -> usize {
        self.acked.len() + self.failed.len() + self.answered.len()
    }
}

impl Bench {
    pub fn producer(&self, index: u32) -> KafkaProducer {
        self.runtime.block_on(self.driver.producer(slot(0, index))).unwrap_or_else(|e| panic!("{e}"))
    }

    pub fn consumer(&self, group: u32, index: u32, start: Start) -> KafkaConsumer {
        self.runtime.block_on(self.driver.consumer(slot(group, index), start)).unwrap_or_else(|e| panic!("{e}"))
    }

    pub fn guarantee(&self, key: &str) -> String {
        let all = &self.driver.facts().words();
        all.get(key).unwrap_or_else(|| panic!("no {key} in {all:#?}")).clone()
    }

    /// Sends the messages of `numbers` to channel and key of each, and waits for all confirmations
    /// where there are any.
    pub fn send(
        &self,
        producer: &mut KafkaProducer,
        index: u32,
        numbers: std::ops::Range<u64>,
        place: impl Fn(u64) -> (u32, Option<u64>),
    ) -> Confirmed {
        let mut template = Template::new(&[b'x'; 84]);
        let total = (numbers.end - numbers.start) as usize;
        self.runtime.block_on(async {
            for sequence in numbers {
                let envelope = Envelope { run: self.run, producer: index, sequence, intended: now(), sent: now() };
                let payload = template.stamp(&envelope);
                let (channel, key) = place(sequence);
                let sent = producer.send(Outgoing { channel, key, payload, token: sequence });
                tokio::time::timeout(BOUND, sent).await.expect("a full client makes room").unwrap();
            }
            let mut all = Confirmed::default();
            while producer.confirms() && all.count() < total {
                let run = self.run;
                let mut sink = |c: Confirmation<'_>| match c {
                    Confirmation::Acked { token, .. } => all.acked.push(token),
                    Confirmation::Failed { token } => all.failed.push(token),
                    Confirmation::Answered { message, .. } => all.answered.push(open(message, run).unwrap().sequence),
                    Confirmation::Served { .. } | Confirmation::Unanswered => {
                        panic!("Kafka does not know who is there")
                    }
                };
                let waited = tokio::time::timeout(BOUND, producer.confirmed(&mut sink)).await;
                waited.unwrap_or_else(|_| panic!("confirmations are missing")).unwrap();
            }
            all
        })
    }

    /// Receives until `count` messages are here, or nothing comes within the bound.
    pub fn receive(&self, consumer: &mut KafkaConsumer, count: usize) -> Vec<Envelope> {
        let mut collector = ConsumerRecorder { run: self.run, heard: Vec::new() };
        self.runtime.block_on(async {
            while collector.heard.len() < count {
                match tokio::time::timeout(BOUND, consumer.receive(&mut collector, usize::MAX)).await {
                    Ok(done) => done.unwrap(),
                    Err(_) => break,
                }
            }
        });
        collector.heard
    }

    /// Receives until `count` messages of this run are here, and nothing comes after them; keeps
    /// those alone.
    pub fn receive_own(&self, consumer: &mut KafkaConsumer, count: usize) -> Vec<Envelope> {
        let mut collector = OwnCollector(ConsumerRecorder { run: self.run, heard: Vec::new() });
        self.runtime.block_on(async {
            loop {
                let wait = if collector.0.heard.len() < count { BOUND } else { Duration::from_secs(1) };
                match tokio::time::timeout(wait, consumer.receive(&mut collector, usize::MAX)).await {
                    Ok(done) => done.unwrap(),
                    Err(_) => break,
                }
            }
        });
        collector.0.heard
    }

    /// Adds the numbers of what comes within half a second; false when nothing does.
    pub fn more(&self, consumer: &mut KafkaConsumer, numbers: &mut Vec<u64>) -> bool {
        let mut collector = ConsumerRecorder { run: self.run, heard: Vec::new() };
        let receive = async {
            tokio::time::timeout(Duration::from_millis(500), consumer.receive(&mut collector, usize::MAX)).await
        };
        let came = self.runtime.block_on(receive).is_ok();
        numbers.extend(collector.heard.iter().map(|e| e.sequence));
        came
    }

    /// Whether nothing more comes within `span`.
    pub fn silent(&self, consumer: &mut KafkaConsumer, span: Duration) -> bool {
        let mut collector = ConsumerRecorder { run: self.run, heard: Vec::new() };
        self.runtime.block_on(async { tokio::time::timeout(span, consumer.receive(&mut collector, 1)).await }).is_err()
    }

    pub fn close(&self, producer: KafkaProducer) {
        self.runtime.block_on(async { tokio::time::timeout(BOUND, producer.close()).await }).unwrap().unwrap();
    }

    pub fn cleanup(self) {
        let Self { runtime, driver, .. } = self;
        runtime.block_on(driver.cleanup()).unwrap_or_else(|e| panic!("{e}"));
    }
}

/// Keeps the envelopes of what it hears.
pub struct ConsumerRecorder {
    pub run: u32,
    pub heard: Vec<Envelope>,
}

impl MessageSink for ConsumerRecorder {
    fn take(&mut self, message: Incoming<'_>) -> Disposition {
        assert!(message.at <= now());
        self.heard.push(open(message.payload, self.run).unwrap());
        Disposition::Accept
    }
    fn dead_letter(&mut self, _: Incoming<'_>) {
        panic!("Kafka has no dead letters");
    }
}

/// Passes over what other runs have sent.
struct OwnCollector(ConsumerRecorder);

impl MessageSink for OwnCollector {
    fn take(&mut self, message: Incoming<'_>) -> Disposition {
        if open(message.payload, self.0.run).is_ok() {
            return self.0.take(message);
        }
        Disposition::Accept
    }
    fn dead_letter(&mut self, message: Incoming<'_>) {
        self.0.dead_letter(message);
    }
}

/// The numbers of the messages, sorted.
pub fn numbers(heard: &[Envelope]) -> Vec<u64> {
    let mut all: Vec<u64> = heard.iter().map(|e| e.sequence).collect();
    all.sort_unstable();
    all
}
