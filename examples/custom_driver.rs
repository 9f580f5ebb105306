//! A system of your own, measured by msgbench from outside of its crate.
//!
//! `cargo run --example custom_driver` registers the type of system `mailbox`, runs an open-loop
//! trial against it and prints the percentiles. Three things are needed: a [`Provider`] (what
//! scenarios may ask, how it comes up), a [`Driver`] (how messages go in and out), and one line
//! that joins them in a [`Register`]. The guide is the documentation of `msgbench::driver`.

use std::io::Write;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use msgbench::driver::{
    ClientSlot, Confirmation, Consumer, Delivery, Disposition, Driver, DriverError, Facts, Guarantees, Incidents,
    Incoming, MessageSink, Outgoing, Producer, Start, Stated, Target,
};
use msgbench::engine::{Clients, Register, Tick, TrialFiles, run_with};
use msgbench::plan::options::{OptionSet, SystemOptions, read};
use msgbench::plan::{Case, SystemSpec, SystemType, Workload};
use msgbench::record::{Outcome, Skipped};
use msgbench::scenario::{Overrides, parse};
use msgbench::system::{Availability, CreateRequest, Provider, Running, System, SystemError};
use msgbench::units::now;
use schemars::JsonSchema;
use serde::Deserialize;
use tokio::sync::mpsc::{Receiver, Sender, channel};

/// The options of a mailbox, in `[system.options]`.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct Settings {
    /// Messages that a mailbox holds; a producer waits when it is full. Default: 1024.
    pub capacity: Option<usize>,
    /// A password that this toy does not need; it shows that no record holds it.
    #[schemars(extend("secret" = "value"))]
    pub key: Option<String>,
}

impl Settings {
    fn check(options: &SystemOptions) -> Result<(), String> {
        match read::<Self>(options)?.capacity {
            Some(0) => Err("option `capacity`: must be at least 1".to_owned()),
            _ => Ok(()),
        }
    }
}

/// The type of system: what a scenario may ask of it, and how it comes up.
pub struct Mailboxes;

impl Provider for Mailboxes {
    fn describe(&self) -> SystemType {
        SystemType {
            lacks: |w| match () {
                () if w.delivery.durable => Some("messages are not stored"),
                () if w.topology.reply => Some("no answers"),
                () if w.delivery.reject_every > 0 || w.delivery.dead_every > 0 => Some("no redelivery"),
                () => None,
            },
            external: false,
            processes: false,
            acks_unstored: false,
            options: vec![OptionSet::of::<Settings>(Settings::check)],
            ..SystemType::new("mailbox", "Channels within this process: a toy.")
        }
    }
    fn availability(&self) -> Availability {
        // Whoever starts a server looks for its program here, and says how to get it.
        Availability::Found { program: "mailbox".into(), version: "1".to_owned() }
    }
    fn create(&self, _: &SystemSpec, _: CreateRequest<'_>) -> Result<Box<dyn System>, SystemError> {
        Ok(Box::new(Nothing))
    }
}

/// It has no process that would have to come up.
struct Nothing;

impl System for Nothing {
    fn start(&mut self) -> Result<Running, SystemError> {
        Ok(Running { url: "mailbox:".to_owned(), ..Running::default() })
    }
}

/// The mailboxes of one trial: every member of every group has its own.
pub struct Mailbox {
    capacity: usize,
    workloads: Vec<Workload>,
    boxes: Mutex<Vec<(ClientSlot, Sender<Vec<u8>>)>>,
    facts: Facts,
    incidents: Incidents,
}

impl Driver for Mailbox {
    type Producer = Writer;
    type Consumer = Reader;

    async fn prepare(target: Target, workloads: &[Workload]) -> Result<Self, DriverError> {
        let settings: Settings = read(&target.options).map_err(|words| DriverError::Option { words })?;
        let delivery = Stated::new(Delivery::AtMostOnce, "at most once");
        let guarantees = Guarantees { delivery, ..Guarantees::default() };
        Ok(Self {
            capacity: settings.capacity.unwrap_or(1024),
            workloads: workloads.to_vec(),
            boxes: Mutex::default(),
            facts: Facts { version: "mailbox 1".into(), client: "in process".into(), guarantees, ..Facts::default() },
            incidents: Incidents::default(),
        })
    }
    fn facts(&self) -> &Facts {
        &self.facts
    }
    fn incidents(&self) -> &Incidents {
        &self.incidents
    }
    async fn producer(&self, slot: ClientSlot) -> Result<Writer, DriverError> {
        // Consumers are opened first: all are there.
        let boxes = self.boxes.lock().unwrap_or_else(PoisonError::into_inner);
        let mut groups = vec![Vec::new(); self.workloads[slot.workload].topology.groups as usize];
        for (of, sender) in boxes.iter().filter(|(of, _)| of.workload == slot.workload) {
            groups[of.group as usize].push(sender.clone());
        }
        Ok(Writer { groups, turn: 0, incidents: self.incidents.clone() })
    }
    async fn consumer(&self, slot: ClientSlot, _: Start) -> Result<Reader, DriverError> {
        let (sender, receiver) = channel(self.capacity);
        self.boxes.lock().unwrap_or_else(PoisonError::into_inner).push((slot, sender));
        Ok(Reader { receiver })
    }
    async fn cleanup(self) -> Result<(), DriverError> {
        Ok(())
    }
}

/// Puts each message into one mailbox of each group, in turn.
pub struct Writer {
    groups: Vec<Vec<Sender<Vec<u8>>>>,
    turn: usize,
    incidents: Incidents,
}

impl Producer for Writer {
    fn confirms(&self) -> bool {
        false
    }
    async fn send(&mut self, message: Outgoing<'_>) -> Result<(), DriverError> {
        self.turn += 1;
        for members in &self.groups {
            let member = &members[self.turn % members.len()];
            if member.capacity() == 0 {
                self.incidents.backpressure();
            }
            let gone = |_| DriverError::Lost { url: "mailbox:".into(), words: "nobody reads it".into() };
            member.send(message.payload.to_vec()).await.map_err(gone)?;
        }
        Ok(())
    }
    async fn flush(&mut self) -> Result<(), DriverError> {
        Ok(())
    }
    async fn confirmed(&mut self, _: &mut impl FnMut(Confirmation<'_>)) -> Result<(), DriverError> {
        std::future::pending().await
    }
    async fn close(self) -> Result<(), DriverError> {
        Ok(())
    }
}

/// Reads one mailbox.
pub struct Reader {
    receiver: Receiver<Vec<u8>>,
}

impl Consumer for Reader {
    async fn receive(&mut self, sink: &mut impl MessageSink, limit: usize) -> Result<(), DriverError> {
        // The only wait: whoever drops this future has lost nothing.
        let Some(first) = self.receiver.recv().await else { return std::future::pending().await };
        // One instant for the batch, before anything is done with a message of it. What arrives
        // meanwhile from other threads is left for the next call.
        let here = self.receiver.len().min(limit.saturating_sub(1));
        let at = now();
        let rest = (0..here).map_while(|_| self.receiver.try_recv().ok());
        for payload in std::iter::once(first).chain(rest) {
            let disposition = sink.take(Incoming { payload: &payload, at, attempt: 1 });
            debug_assert!(matches!(disposition, Disposition::Accept | Disposition::Leave | Disposition::Hold));
        }
        Ok(())
    }
}

/// Keeps what a run produces.
#[derive(Default)]
pub struct Results {
    /// The trials that are over.
    pub trials: Mutex<Vec<TrialFiles>>,
    /// What was not put to the test.
    pub skipped: Mutex<Vec<Skipped>>,
}

impl msgbench::engine::RunSink for Results {
    fn begin(&self, _: &Case, _: u32, _: usize, _: usize) {}
    fn tick(&self, _: Tick) {}
    fn skip(&self, skipped: Skipped) {
        self.skipped.lock().unwrap_or_else(PoisonError::into_inner).push(skipped);
    }
    fn trial(&self, files: TrialFiles) -> std::io::Result<()> {
        self.trials.lock().unwrap_or_else(PoisonError::into_inner).push(files);
        Ok(())
    }
}

/// Everything that msgbench brings with it, and the mailbox.
pub fn register() -> Register {
    Register::built_in().add(Mailboxes, Clients::of::<Mailbox>())
}

/// One trial of one second: messages are due whether or not the mailbox keeps up.
pub const SCENARIO: &str = r#"
name = "mailbox"
question = "How late is a message through a channel?"
[[system]]
driver = "mailbox"
options = { capacity = 4096, key = "s3cret" }
[[workload]]
pattern = "fan-out"
consumers = 2
load.rate = "2k/s"
[run]
warmup = "200ms"
duration = "1s"
drain = "1s"
trials = 1
"#;

/// Runs the trial and writes what came of it.
///
/// # Errors
/// When the scenario is wrong, the run or a trial failed, or `out` takes no more.
pub fn measure(out: &mut dyn Write) -> Result<(), Box<dyn std::error::Error>> {
    let register = register();
    let scenario = parse(Path::new("mailbox.toml"), SCENARIO.into(), &Overrides::default(), &register.types())?;
    let results = Arc::new(Results::default());
    run_with(&scenario.plan, &register, results.as_ref())?;
    for files in results.trials.lock().unwrap_or_else(PoisonError::into_inner).iter() {
        let trial = &files.trial;
        if let Outcome::Failed { phase, error } = &trial.outcome {
            return Err(format!("{phase}: {error}").into());
        }
        for workload in &trial.workloads {
            let ledger = &workload.ledger;
            writeln!(
                out,
                "{}: {} sent, {} delivered, {} lost",
                trial.case, ledger.sent, ledger.delivered, ledger.lost
            )?;
            for p in workload.latency.get("e2e").into_iter().flat_map(|l| &l.percentiles) {
                let value = p.value_ns.map_or("lost".to_owned(), |ns| format!("{:.1} us", ns as f64 / 1e3));
                writeln!(out, "  p{:<6} {value}", 100.0 * p.quantile)?;
            }
        }
    }
    Ok(())
}

/// As [`measure`], to standard output.
///
/// # Errors
/// Those of [`measure`].
pub fn main() -> Result<(), Box<dyn std::error::Error>> {
    measure(&mut std::io::stdout())
}
