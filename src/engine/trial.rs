//! One trial: connect, warm up, measure, drain, on threads of their own.
//!
//! Publishers and consumers live on threads with a single-threaded runtime each, so that a
//! connection's I/O, its pacer and its books share a core and nothing is handed between threads for
//! a message. The control thread only watches: the system's processes, the user's interrupt, the
//! bounds.

use std::sync::mpsc::{Receiver, channel};

use hdrhistogram::Histogram;

use crate::driver::{ClientSlot, Driver, Facts, Incident, Noted, Target};
use crate::measure::process::Usage;
use crate::measure::recorder::{LatencyKind, SampleBatch};
use crate::plan::{Case, PlannedEvent};
use crate::record::HistogramStore;
use crate::system::{Running, System};
use crate::units::{Nanos, now};

use super::consume::Received;
use super::control::TrialControl;
use super::produce::Sent;
use super::shared::Shared;
use super::worker::ThreadContext;
use super::{Interrupt, Tick};

/// What a trial needs.
pub struct TrialSetup<'a> {
    pub case: &'a Case,
    /// Seed of the trial.
    pub seed: u64,
    /// Client options of the system.
    pub options: &'a serde_json::Map<String, serde_json::Value>,
    /// Whether the pacer spins.
    pub spin: bool,
    /// The system, up.
    pub running: &'a Running,
    /// The user's wish to stop.
    pub interrupt: &'a Interrupt,
    /// What is done to the system, by time.
    pub events: &'a [PlannedEvent],
    /// Shows progress.
    pub tick: &'a (dyn Fn(Tick) + Sync),
    /// Is told the instant from which is measured, as soon as it is known.
    pub measured_from: &'a (dyn Fn(Nanos) + Sync),
}

/// What a trial came to, before it is folded into the record.
#[derive(Default)]
pub struct RawTrial {
    /// The server's and client's promises.
    pub facts: Facts,
    /// Start of the measured phase.
    pub origin: Nanos,
    /// Its length as executed.
    pub measured: Nanos,
    /// Length of the drain phase.
    pub drained: Nanos,
    /// Whether messages were still arriving when the bound of the drain was reached: what is
    /// missing may be on its way.
    pub arriving: bool,
    /// Whether the user cut the drain, too: what is missing may be on its way.
    pub abandoned: bool,
    /// Phase and error, where the system failed.
    pub failed: Option<(&'static str, String)>,
    /// Whether the scenario has ended a process of the system: what fails then is no surprise.
    pub end_expected: bool,
    /// Whether the user cut the trial.
    pub interrupted: bool,
    /// One entry for each producer of each workload, with its number.
    pub sent: Vec<Vec<(u32, Sent)>>,
    /// One entry for each consumer of each workload, with its group.
    pub received: Vec<Vec<(u32, Received)>>,
    /// All samples, by workload, kind and interval.
    pub samples: HistogramStore<(usize, LatencyKind, u64)>,
    /// Clipped and negative samples by workload.
    pub clipped: Vec<u64>,
    pub negative: Vec<u64>,
    /// Largest share of wall time a generator thread computed, and waited for a core.
    pub busiest: f64,
    pub waiting: f64,
    /// Usage of the broker and of the generator over the measured phase, and of the broker by
    /// interval.
    pub broker: Option<Usage>,
    pub generator: Usage,
    /// CPU nanoseconds and resident bytes of the broker in each interval.
    pub broker_intervals: Vec<(u64, u64)>,
    /// Latencies of parts of the way.
    pub hops: Vec<(String, Histogram<u64>)>,
    /// Incidents, with their instants.
    pub log: Vec<Noted>,
    /// Dropped by the client library in the whole trial, by workload.
    pub client_dropped: Vec<u64>,
    /// Sends that met a full client buffer.
    pub backpressure: u64,
}

/// What a thread reports when it is done.
pub enum ThreadReport {
    /// The books of a producer.
    Publisher {
        slot: ClientSlot,
        /// Its books.
        sent: Box<Sent>,
    },
    /// The books of a consumer.
    Consumer {
        slot: ClientSlot,
        /// Its books.
        received: Box<Received>,
    },
    /// Samples of a workload that did not fit.
    Samples {
        /// Index of the workload.
        workload: usize,
        /// Above the range.
        clipped: u64,
        /// Below zero.
        negative: u64,
    },
    /// How a thread spent its time: shares of wall time computing, and waiting for a core.
    Thread {
        /// Computing.
        busy: f64,
        waiting: f64,
    },
    /// The system failed.
    Failed {
        /// In which phase.
        phase: &'static str,
        error: String,
    },
}

impl RawTrial {
    /// Notes that the system failed; that is only an event after the scenario itself has ended a
    /// process of it.
    pub fn fail(&mut self, phase: &'static str, error: String) {
        if self.end_expected {
            self.log.push((now(), Incident::Planned, error));
        } else {
            self.failed.get_or_insert((phase, error));
        }
    }

    /// Of a trial that has not begun.
    pub fn of(case: &Case) -> Self {
        let n = case.workloads.len();
        let mut raw = Self { clipped: vec![0; n], negative: vec![0; n], client_dropped: vec![0; n], ..Self::default() };
        raw.sent.resize_with(n, Vec::new);
        raw.received.resize_with(n, Vec::new);
        raw
    }
}

/// Runs the load of a case through driver `D`.
pub fn execute<D: Driver>(setup: &TrialSetup<'_>, system: &mut dyn System) -> RawTrial {
    let case = setup.case;
    let mut raw = RawTrial::of(case);
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(e) => return RawTrial { failed: Some(("prepare", format!("no runtime: {e}"))), ..raw },
    };
    let target = Target {
        url: setup.running.url.clone(),
        timeout: case.phases.connect.duration(),
        run: (setup.seed ^ setup.seed >> 32) as u32,
        options: client_options(setup),
    };
    // The control thread's own waits are this runtime's, too.
    let _inside = runtime.enter();
    let mut driver = match runtime.block_on(D::prepare(target.clone(), &case.workloads)) {
        Ok(driver) => driver,
        Err(e) => return RawTrial { failed: Some(("connect", e.to_string())), ..raw },
    };
    raw.facts = driver.facts().clone();
    let shared = Shared::new(case.workloads.len());
    let (samples_in, samples) = channel();
    let (done_in, done) = channel();
    std::thread::scope(|scope| {
        // However this ends, the threads are told: the scope waits for them.
        let _stop = StopOnDrop(&shared);
        let threads = ThreadContext {
            setup,
            driver: &driver,
            shared: &shared,
            run: target.run,
            samples: samples_in,
            done: done_in,
        };
        let control = TrialControl {
            setup,
            shared: &shared,
            runtime: &runtime,
            done: &done,
            samples: &samples,
            delivers: D::DELIVERS,
        };
        control.run_phases(scope, threads, system, &mut raw);
    });
    collect(&done, &mut raw);
    gather(&samples, &mut raw);
    driver.halt();
    raw.hops = driver.hops();
    raw.client_dropped = (0..case.workloads.len()).map(|i| driver.client_dropped(i)).collect();
    raw.backpressure = driver.incidents().backpressure_total();
    // Closing the connections is no incident: only what came before the end of the drain counts.
    let over = raw.origin + raw.measured + raw.drained;
    raw.log.extend(driver.incidents().take_log().into_iter().filter(|(at, ..)| raw.origin == 0 || *at <= over));
    if let Err(e) = runtime.block_on(driver.cleanup()) {
        raw.fail("tear-down", e.to_string());
    }
    raw
}

/// What the launched system gave its clients, and over it what the scenario says.
fn client_options(setup: &TrialSetup<'_>) -> serde_json::Map<String, serde_json::Value> {
    let mut options = setup.running.client.clone();
    options.extend(setup.options.clone());
    options
}

struct StopOnDrop<'a>(&'a Shared);

impl Drop for StopOnDrop<'_> {
    fn drop(&mut self) {
        self.0.stop();
    }
}

/// Adds what threads brought home.
pub fn collect(done: &Receiver<ThreadReport>, raw: &mut RawTrial) {
    for d in done.try_iter() {
        match d {
            ThreadReport::Publisher { slot, sent } => raw.sent[slot.workload].push((slot.index, *sent)),
            ThreadReport::Consumer { slot, received } => raw.received[slot.workload].push((slot.group, *received)),
            ThreadReport::Samples { workload, clipped, negative } => {
                raw.clipped[workload] += clipped;
                raw.negative[workload] += negative;
            }
            ThreadReport::Thread { busy, waiting } => {
                raw.busiest = raw.busiest.max(busy);
                raw.waiting = raw.waiting.max(waiting);
            }
            ThreadReport::Failed { phase, error } => raw.fail(phase, error),
        }
    }
}

/// Adds the samples that have come.
pub fn gather(samples: &Receiver<SampleBatch>, raw: &mut RawTrial) {
    for s in samples.try_iter() {
        for (interval, histogram) in s.samples.by_interval() {
            raw.samples.add((s.workload, s.kind, interval), histogram);
        }
    }
}
