//! What a trial came to before it is folded, and how the reports of its threads are added to it.

use std::collections::BTreeMap;
use std::sync::mpsc::Receiver;

use hdrhistogram::Histogram;

use crate::driver::{ClientSlot, Facts, Incident, Noted};
use crate::measure::outage::OutageLog;
use crate::measure::process::Usage;
use crate::measure::recorder::{LatencyKind, SampleBatch, histogram};
use crate::plan::Case;
use crate::record::{AgentResult, ClockDoubt, FaultRecord, Finding, HistogramStore, Kept};
use crate::units::{Nanos, now};

use super::consume::Received;
use super::intrude::Intruded;
use super::lost::LostSpan;
use super::produce::Sent;

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
    /// Whether the drain was cut, by the user or because the trial failed: what is missing may be
    /// on its way.
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
    /// One entry for each intruder of each workload.
    pub intruded: Vec<Vec<Intruded>>,
    /// What was kept of each workload that says what is to be.
    pub kept: Vec<Option<Kept>>,
    /// Of what has to be there and is not, by workload.
    pub kept_lost: Vec<Vec<LostSpan>>,
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
    /// Usage of a stream processor beside the broker over the measured phase.
    pub application: Option<Usage>,
    /// CPU nanoseconds and resident bytes of the broker in each interval.
    pub broker_intervals: Vec<(u64, u64)>,
    /// Bytes that the broker had written to disks so far, by instant, about once a second.
    pub broker_written: Vec<(Nanos, u64)>,
    /// Latencies of parts of the way, by workload and name.
    pub hops: BTreeMap<(usize, String), Histogram<u64>>,
    /// Incidents, with their instants.
    pub log: Vec<Noted>,
    /// What the scenario did, in order of time; instants count from `origin`.
    pub faults: Vec<FaultRecord>,
    /// When the system itself was ready again after a fault, by when that was, where it was seen.
    pub ready: BTreeMap<Nanos, Nanos>,
    /// What was noted of outages, by workload.
    pub outages: Vec<Option<OutageLog>>,
    /// Dropped by the client library in the whole trial, by workload.
    pub client_dropped: Vec<u64>,
    /// Sends that met a full client buffer.
    pub backpressure: u64,
    /// The agents that ran the load, where there were any, what their hosts paused, by interval,
    /// and what disturbed them; whether their pacers spun.
    pub agents: Vec<AgentResult>,
    /// By workload, how wrong a time from one agent to another may be; empty without agents.
    pub one_way: Vec<Option<ClockDoubt>>,
    /// Whether one of them brought nothing: of its messages some arrived, and nobody knows which it
    /// has sent.
    pub agent_lost: bool,
    pub agent_hiccups: HistogramStore<u64>,
    pub agent_disturbance: Vec<Finding>,
    pub agents_spun: bool,
}

/// What a thread reports when it is done.
pub enum ThreadReport {
    /// The books of a producer.
    Publisher {
        slot: ClientSlot,
        /// Its books.
        sent: Box<Sent>,
        /// Latencies of the steps of its messages.
        steps: Vec<(&'static str, Histogram<u64>)>,
    },
    /// The books of a consumer.
    Consumer {
        slot: ClientSlot,
        /// Its books.
        received: Box<Received>,
    },
    /// What an intruder came to.
    Intruder { workload: usize, intruded: Box<Intruded> },
    /// Samples of a workload that did not fit.
    Samples {
        /// Index of the workload.
        workload: usize,
        /// Above the range.
        clipped: u64,
        /// Below zero.
        negative: u64,
    },
    /// What was noted of the outages of a workload.
    Outages { workload: usize, outages: Box<OutageLog> },
    /// How a thread spent its time: shares of wall time computing, and waiting for a core.
    Thread {
        /// Computing.
        busy: f64,
        waiting: f64,
    },
    /// Something happened that goes into the log.
    Event { at: Nanos, kind: Incident, words: String },
    /// A fault that the scenario asks for was done.
    Fault(FaultRecord),
    /// A consumer is there again that was made to leave.
    Rejoined { consumer: u32, at_ns: Nanos },
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

    /// Fails a trial in which an intruder was to try and nothing was decided: it would say that
    /// nobody got in.
    pub fn note_undecided(&mut self, case: &Case) {
        let all = case.workloads.iter().zip(&self.intruded).filter(|(w, _)| w.intruders > 0);
        let idle = all.flat_map(|(_, tried)| tried).find(|tried| tried.decided.is_empty());
        if let (Some(idle), false) = (idle, self.interrupted || self.failed.is_some()) {
            let why = idle.failed.clone().unwrap_or_else(|| "the measured phase was too short".to_owned());
            self.fail("measure", format!("no try of an intruder was decided: {why}"));
        }
    }

    /// Adds a fault, by time; what is done to the same member of several workloads is one.
    pub fn add_fault(&mut self, mut fault: FaultRecord) {
        let same =
            |f: &FaultRecord| fault.consumer.is_some() && (f.event, f.occurrence) == (fault.event, fault.occurrence);
        if let Some(known) = self.faults.iter().position(same).map(|known| self.faults.remove(known)) {
            fault = FaultRecord { at_ns: known.at_ns.min(fault.at_ns), ..known };
        }
        let place = self.faults.partition_point(|f| f.at_ns <= fault.at_ns);
        self.faults.insert(place, fault);
    }

    /// Notes when faults of this kind were undone, as far as they still lasted.
    pub fn undo_fault(&mut self, at_ns: Nanos, which: impl Fn(&FaultRecord) -> bool) {
        let lasting = self.faults.iter_mut().filter(|f| f.undone_ns.is_none() && which(f));
        lasting.for_each(|f| f.undone_ns = Some(at_ns));
    }

    /// Adds latencies of a part of the way.
    pub fn add_hop(&mut self, workload: usize, name: &str, latencies: &Histogram<u64>) {
        let all = self.hops.entry((workload, name.to_owned())).or_insert_with(histogram);
        // Bounds are the same everywhere.
        let _ = all.add(latencies);
    }

    /// Of a trial that has not begun.
    pub fn of(case: &Case) -> Self {
        let n = case.workloads.len();
        let mut raw = Self { clipped: vec![0; n], negative: vec![0; n], client_dropped: vec![0; n], ..Self::default() };
        raw.sent.resize_with(n, Vec::new);
        raw.received.resize_with(n, Vec::new);
        raw.intruded.resize_with(n, Vec::new);
        raw.outages.resize_with(n, || None);
        raw
    }
}

/// Adds what threads brought home.
pub fn collect(done: &Receiver<ThreadReport>, raw: &mut RawTrial) {
    for d in done.try_iter() {
        match d {
            ThreadReport::Publisher { slot, sent, steps } => {
                raw.sent[slot.workload].push((slot.index, *sent));
                for (name, h) in steps {
                    raw.add_hop(slot.workload, name, &h);
                }
            }
            ThreadReport::Consumer { slot, received } => raw.received[slot.workload].push((slot.group, *received)),
            ThreadReport::Intruder { workload, intruded } => raw.intruded[workload].push(*intruded),
            ThreadReport::Samples { workload, clipped, negative } => {
                raw.clipped[workload] += clipped;
                raw.negative[workload] += negative;
            }
            ThreadReport::Outages { workload, outages } => match &mut raw.outages[workload] {
                Some(all) => all.merge(*outages),
                none => *none = Some(*outages),
            },
            ThreadReport::Thread { busy, waiting } => {
                raw.busiest = raw.busiest.max(busy);
                raw.waiting = raw.waiting.max(waiting);
            }
            ThreadReport::Event { at, kind, words } => raw.log.push((at, kind, words)),
            ThreadReport::Fault(fault) => raw.add_fault(fault),
            ThreadReport::Rejoined { consumer, at_ns } => {
                raw.undo_fault(at_ns, |f| f.consumer == Some(consumer));
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
