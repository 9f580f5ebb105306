//! Results of other tools as records, to be compared: result files of the OpenMessaging Benchmark,
//! and HdrHistogram interval logs.
//!
//! Background: such a file has latencies and rates, and nothing of what makes them believable.
//! Invariant: what it does not say is not made up. Latencies are service latencies (`e2e.service`,
//! `ack.service`), because the files count from the moment of sending; the machine, the guarantees
//! and the load are "not known"; every trial has a WARN that says so. Each file is one trial.
//! Rejected: guessing a response latency from publish delays (percentiles do not add up).

mod hdr;
mod json;
mod omb;

use std::collections::BTreeMap;

use crate::plan::facts::Levels;
use crate::plan::gate::Gate;
use crate::plan::metric::{Metric, Quantity, Statistic};
use crate::plan::{
    BringUp, Case, Content, DeliverySpec, Load, Pacing, Pattern, Payload, PayloadSize, Phases, Plan, SystemSpec,
    Threads, Topology, Workload,
};
use crate::record::{
    Check, Completion, Host, LatencySummary, Ledger, Outcome, Record, Resources, SCHEMA, ScenarioSource, Status,
    SystemFacts, Throughput, Tool, Trial, WorkloadResult, headline,
};
use crate::units::{Bytes, Nanos, Span};

pub use hdr::LogUnit;

/// What stands where a file says nothing.
const UNKNOWN: &str = "not known";
/// `Tool::profile` of a record that another tool measured.
pub const PROFILE: &str = "foreign";

/// Why a file is no result of another tool.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ForeignError {
    /// Neither of the formats.
    #[error(
        "it is none of what can be read: a result of msgbench (its folder, or run.json in it), one of the OpenMessaging Benchmark and its forks (JSON with `publishRate` and `aggregatedEndToEndLatency50pct` or the like), an HdrHistogram interval log (lines start,length,max,histogram)"
    )]
    Unknown,
    /// One of them, and damaged.
    #[error("{what}: {problem}")]
    Format {
        /// Which format.
        what: &'static str,
        /// What is wrong.
        problem: String,
    },
}

/// What a file of another tool says.
struct ForeignResult {
    tool: &'static str,
    system: String,
    question: String,
    client: String,
    quantiles: Vec<f64>,
    seconds: f64,
    payload: u64,
    topology: Topology,
    streams: Vec<ForeignStream>,
    /// What is known to be doubtful, beside that nothing was checked.
    doubts: Vec<String>,
    /// V3, where the file shows that the system did not keep up.
    overload: Option<Check>,
}

/// One workload of it.
struct ForeignStream {
    name: String,
    latency: BTreeMap<String, LatencySummary>,
    throughput: Throughput,
    ledger: Ledger,
}

/// Whether a record was measured by another tool.
pub fn is_foreign(record: &Record) -> bool {
    record.tool.profile == PROFILE
}

/// Whether a record was an interval log of another tool.
pub fn is_log(record: &Record) -> bool {
    is_foreign(record) && record.tool.version == hdr::TOOL
}

/// Reads a file of another tool; `name` is what it is called, `unit` what the values of an interval
/// log count, where that was said.
///
/// # Errors
/// When it is in none of the known formats, or damaged.
pub fn read(name: &str, bytes: &[u8], unit: Option<LogUnit>) -> Result<Record, ForeignError> {
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    let found = if json::looks_like(bytes) {
        match json::object(bytes)?.filter(omb::is) {
            Some(json) => omb::read(&json, bytes)?,
            None => return Err(ForeignError::Unknown),
        }
    } else {
        hdr::read(bytes, unit)?
    };
    Ok(record(name, found))
}

fn record(name: &str, found: ForeignResult) -> Record {
    // What the other tool calls it; nothing is driven by it.
    let driver = match found.system.to_lowercase() {
        s if s.is_empty() => "unknown".to_owned(),
        s => s,
    };
    let workload = |s: &ForeignStream| Workload {
        name: s.name.clone(),
        pattern: Pattern::Stream,
        topology: found.topology,
        load: Load::Unthrottled { window: 0 },
        payload: Payload { size: PayloadSize::Fixed(Bytes(found.payload)), content: Content::Random },
        delivery: DeliverySpec::default(),
        target: None,
        at: crate::plan::Places::default(),
        intruders: 0,
        idle_connections: 0,
        agents: Default::default(),
    };
    let measure = Span((found.seconds * 1e9) as Nanos);
    let nothing = Span(0);
    let case = Case {
        id: "foreign".into(),
        system: 0,
        changed: None,
        point: Vec::new(),
        workloads: found.streams.iter().map(workload).collect(),
        phases: Phases { warmup: nothing, measure, drain: nothing, connect: nothing, interval: nothing },
        pacing: Pacing::Auto,
        threads: Threads { publish: 0, consume: 0 },
    };
    let primary = primary(&found);
    let trial = trial(&case.id, &found, measure.0);
    let mut options = serde_json::Map::new();
    options.insert("measured by".into(), found.tool.into());
    Record {
        schema: SCHEMA.into(),
        calibration: None,
        tool: Tool { version: found.tool.into(), profile: PROFILE.into(), command: Vec::new() },
        scenario: ScenarioSource {
            path: name.into(),
            sha256: UNKNOWN.into(),
            text: String::new(),
            overrides: Vec::new(),
        },
        plan: Plan {
            name: "foreign".into(),
            question: found.question,
            systems: vec![SystemSpec {
                name: found.system,
                driver,
                bring_up: BringUp::External { url: UNKNOWN.into() },
                require: false,
                cpus: None,
                options,
            }],
            cases: vec![case],
            trials: 1,
            seed: 0,
            percentiles: found.quantiles,
            gate: Some(Gate { primary, ..Gate::default() }),
            expect: Vec::new(),
            may_break: false,
            events: Vec::new(),
            outage: crate::plan::OutageSpec::default(),
            search: None,
            agents: None,
        },
        host: Host { cpu: UNKNOWN.into(), kernel: UNKNOWN.into(), clocksource: UNKNOWN.into(), ..Host::default() },
        started_at: String::new(),
        ended_at: None,
        clock_step_s: None,
        completion: Completion::Complete,
        order: vec![(1, "foreign".into())],
        skipped: Vec::new(),
        trials: vec![trial],
        searches: Vec::new(),
    }
}

/// What was measured, as one trial. Its check V0 says that nothing was checked.
fn trial(case: &str, found: &ForeignResult, measured: Nanos) -> Trial {
    let doubts = found.doubts.iter().fold(String::new(), |all, d| format!("{all}; {d}"));
    let check = Check {
        id: "V0".into(),
        name: "measured by another tool".into(),
        status: Status::Warn,
        observed: format!("{}: validity not known{doubts}", found.tool),
        threshold: "a run of msgbench, which checks itself".into(),
        message: "service latency, from the moment of sending: what a late generator or a stall held back is not in it; offered rate, losses, machine and guarantees were not checked".into(),
    };
    Trial {
        case: case.into(),
        round: 1,
        seed: 0,
        started_at: String::new(),
        outcome: Outcome::Complete,
        system: SystemFacts {
            version: UNKNOWN.into(),
            url: UNKNOWN.into(),
            client: found.client.clone(),
            promised: Levels::default(),
            guarantees: ["delivery", "durability", "acknowledgement"].map(|k| (k.into(), UNKNOWN.into())).into(),
        },
        pacing: UNKNOWN.into(),
        start_ns: None,
        processes: None,
        settings: None,
        measured_ns: measured,
        drained_ns: 0,
        workloads: found
            .streams
            .iter()
            .map(|s| WorkloadResult {
                name: s.name.clone(),
                ledger: s.ledger.clone(),
                throughput: s.throughput.clone(),
                latency: s.latency.clone(),
                promises: Vec::new(),
                groups: Vec::new(),
                replay: None,
                kept: None,
                membership: Vec::new(),
                outages: Vec::new(),
                intrusions: Vec::new(),
            })
            .collect(),
        broker: None,
        generator: Resources::default(),
        application: None,
        disturbance: Vec::new(),
        hiccup: LatencySummary::default(),
        validity: std::iter::once(check).chain(found.overload.clone()).collect(),
        events: Vec::new(),
        faults: Vec::new(),
        agents: Vec::new(),
        hlog: None,
        server_log: None,
    }
}

/// The metrics that decide: p50 and p99 of the latency that heads each stream, and the rate where
/// there is one.
fn primary(found: &ForeignResult) -> Vec<Metric> {
    let mut list: Vec<Metric> = Vec::new();
    let mut add = |quantity: Quantity| {
        let metric = Metric { workload: None, quantity };
        if !list.contains(&metric) && list.len() < 5 {
            list.push(metric);
        }
    };
    for s in &found.streams {
        if let Some((kind, _)) = headline(&s.latency) {
            for q in [0.5, 0.99] {
                add(Quantity::Latency(kind.into(), Statistic::Quantile(q)));
            }
        }
        if s.throughput.delivered > 0.0 {
            add(Quantity::Throughput("delivered".into()));
        }
    }
    list
}

#[cfg(test)]
mod tests;
