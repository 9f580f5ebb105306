//! Results of other tools as records, to be compared: result files of the OpenMessaging Benchmark, and HdrHistogram interval
//! logs.
//!
//! Background: such a file has latencies and rates, and nothing of what makes them believable. Invariant: what it does not
//! say is not made up. Latencies are service latencies (`e2e.service`, `ack.service`), because the files count from the
//! moment of sending; the machine, the guarantees and the load are "not known"; every trial has a WARN that says so.
//! Each file is one trial. Rejected: guessing a response latency from publish delays (percentiles do not add up).

mod hdr;
mod omb;

use std::collections::BTreeMap;

use crate::record::{
    Check, Completion, Host, LatencySummary, Ledger, Outcome, Record, Resources, SCHEMA, ScenarioSource, Status,
    SystemFacts, Throughput, Tool, Trial, WorkloadResult,
};
use crate::scenario::gate::Gate;
use crate::scenario::metric::{Metric, Quantity, Statistic};
use crate::scenario::plan::{
    BringUp, Case, Content, Delivery, DriverKind, Load, Pacing, Pattern, Payload, PayloadSize, Phases, Plan,
    SystemSpec, Threads, Topology, Workload,
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
        "it is neither a result of msgbench, nor one of the OpenMessaging Benchmark (JSON with `publishRate` and `aggregatedEndToEndLatency50pct`), nor an HdrHistogram interval log"
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
struct Found {
    tool: &'static str,
    system: String,
    question: String,
    client: String,
    quantiles: Vec<f64>,
    seconds: f64,
    payload: u64,
    topology: Topology,
    streams: Vec<Stream>,
    /// What is known to be doubtful, beside that nothing was checked.
    doubts: Vec<String>,
}

/// One workload of it.
struct Stream {
    name: String,
    latency: BTreeMap<String, LatencySummary>,
    throughput: Throughput,
    ledger: Ledger,
}

/// Whether a record was measured by another tool.
pub fn is_foreign(record: &Record) -> bool {
    record.tool.profile == PROFILE
}

/// Reads a file of another tool; `name` is what it is called, `unit` what the values of an interval log count.
///
/// # Errors
/// When it is in none of the known formats, or damaged.
pub fn read(name: &str, bytes: &[u8], unit: LogUnit) -> Result<Record, ForeignError> {
    let found = match serde_json::from_slice::<serde_json::Value>(bytes) {
        Ok(json) => omb::read(json)?,
        Err(_) => hdr::read(bytes, unit)?,
    };
    Ok(record(name, found))
}

fn record(name: &str, found: Found) -> Record {
    let kind = |text: &str| text.to_lowercase();
    // The nearest there is; nothing is driven by it. What it was stands in the options and in the facts.
    let driver = match kind(&found.system) {
        s if s.contains("kafka") || s.contains("redpanda") => DriverKind::Kafka,
        s if s.contains("jetstream") => DriverKind::Jetstream,
        s if s.contains("nats") => DriverKind::Nats,
        _ => DriverKind::Null,
    };
    let workload = |s: &Stream| Workload {
        name: s.name.clone(),
        pattern: Pattern::Stream,
        topology: found.topology,
        load: Load::Unthrottled { window: 0 },
        payload: Payload { size: PayloadSize::Fixed(Bytes(found.payload)), content: Content::Random },
        delivery: Delivery::default(),
    };
    let measure = Span((found.seconds * 1e9) as Nanos);
    let nothing = Span(0);
    let case = Case {
        id: "foreign".into(),
        system: 0,
        point: Vec::new(),
        workloads: found.streams.iter().map(workload).collect(),
        phases: Phases { warmup: nothing, measure, drain: nothing, connect: nothing, interval: nothing },
        pacing: Pacing::Auto,
        threads: Threads { publish: 0, consume: 0 },
    };
    let primary = primary(&found);
    let doubts = found.doubts.iter().fold(String::new(), |all, d| format!("{all}; {d}"));
    let check = Check {
        id: "V0".into(),
        name: "measured by another tool".into(),
        status: Status::Warn,
        observed: format!("{}: validity not known{doubts}", found.tool),
        threshold: "a run of msgbench, which checks itself".into(),
        message: "service latency, from the moment of sending: what a late generator or a stall held back is not in it; offered rate, losses, machine and guarantees were not checked".into(),
    };
    let trial = Trial {
        case: case.id.clone(),
        round: 1,
        seed: 0,
        started_at: String::new(),
        outcome: Outcome::Complete,
        system: SystemFacts {
            version: UNKNOWN.into(),
            url: UNKNOWN.into(),
            client: found.client.clone(),
            guarantees: ["delivery", "durability", "acknowledgement"].map(|k| (k.into(), UNKNOWN.into())).into(),
        },
        pacing: UNKNOWN.into(),
        measured_ns: measure.0,
        drained_ns: 0,
        workloads: found
            .streams
            .into_iter()
            .map(|s| WorkloadResult {
                name: s.name,
                ledger: s.ledger,
                throughput: s.throughput,
                latency: s.latency,
                promises: Vec::new(),
                groups: Vec::new(),
                replay: None,
            })
            .collect(),
        broker: None,
        generator: Resources::default(),
        disturbance: Vec::new(),
        hiccup: LatencySummary::default(),
        validity: vec![check],
        events: Vec::new(),
        hlog: None,
        server_log: None,
    };
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
        },
        host: Host { cpu: UNKNOWN.into(), kernel: UNKNOWN.into(), clocksource: UNKNOWN.into(), ..Host::default() },
        started_at: String::new(),
        ended_at: None,
        clock_step_s: None,
        completion: Completion::Complete,
        order: vec![(1, "foreign".into())],
        skipped: Vec::new(),
        trials: vec![trial],
    }
}

/// The metrics that decide: p50 and p99 of the latency that heads each stream, and the rate where there is one.
fn primary(found: &Found) -> Vec<Metric> {
    let mut list: Vec<Metric> = Vec::new();
    let mut add = |quantity: Quantity| {
        let metric = Metric { workload: None, quantity };
        if !list.contains(&metric) && list.len() < 5 {
            list.push(metric);
        }
    };
    for s in &found.streams {
        if let Some(kind) = ["e2e.service", "ack.service"].into_iter().find(|k| s.latency.contains_key(*k)) {
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
mod tests {
    use super::*;
    use crate::compare::{Named, Options, Verdict, pool, records};

    fn omb(driver: &str, p99: f64) -> Vec<u8> {
        let json = serde_json::json!({
            "workload": "1 topic / 1 partition / 1Kb", "driver": driver, "messageSize": 1024,
            "topics": 1, "partitions": 1, "producersPerTopic": 1, "consumersPerTopic": 1,
            "publishRate": [1000.0, 1010.0, 0.0], "consumeRate": [1000.0, 1010.0, 0.0], "backlog": [0, 0, 0],
            "publishErrorRate": [0.0, 0.1, 0.0],
            "aggregatedPublishLatencyAvg": 3.0, "aggregatedPublishLatency50pct": 2.5,
            "aggregatedPublishLatency99pct": p99 / 2.0, "aggregatedPublishLatencyMax": 40.0,
            "aggregatedPublishDelayLatency99pct": 3366,
            "aggregatedEndToEndLatencyAvg": 4.0, "aggregatedEndToEndLatency50pct": 3.0,
            "aggregatedEndToEndLatency99pct": p99, "aggregatedEndToEndLatency999pct": 2.0 * p99,
            "aggregatedEndToEndLatencyMax": 90.0,
            "aggregatedEndToEndLatencyQuantiles": { "0.0": 1.0, "50.0": 3.0, "99.0": p99, "100.0": 90.0 }
        });
        serde_json::to_vec(&json).unwrap()
    }

    fn side(driver: &str, values: &[f64]) -> Record {
        let one = |(i, p99): (usize, &f64)| {
            let mut r = read("omb.json", &omb(driver, *p99), LogUnit::Nanos).unwrap();
            r.started_at = format!("2026-11-23T12:{i:02}:00Z");
            r
        };
        let loaded = |record| crate::record::Loaded { record, intervals: Vec::new() };
        pool(values.iter().enumerate().map(one).map(loaded).collect()).unwrap().record
    }

    #[test]
    fn an_omb_result_is_a_trial_of_service_latencies_whose_validity_is_not_known() {
        let r = side("Kafka", &[10.0]);
        let w = &r.trials[0].workloads[0];
        let e2e = &w.latency["e2e.service"];
        assert_eq!(e2e.at(0.99).unwrap().value_ns, Some(10_000_000));
        // 2010 messages of ten seconds each: 20 above p99.9.
        assert_eq!((e2e.count, e2e.at(0.999).unwrap().printable), (20_100, true));
        assert_eq!(w.latency["ack.service"].at(0.5).unwrap().value_ns, Some(2_500_000));
        assert_eq!(w.latency["lag"].at(0.99).unwrap().value_ns, Some(3_366_000), "publish delays are microseconds");
        assert!(!w.latency.contains_key("e2e"), "it is no response latency");
        let check = &r.trials[0].validity[0];
        assert!(check.observed.contains("validity not known"), "{}", check.observed);
        assert!(check.observed.contains("1 of 3 intervals without a message"), "{}", check.observed);
        assert!(check.observed.contains("whole milliseconds"), "{}", check.observed);
        assert!(e2e.curve.windows(2).all(|p| p[0].0 < p[1].0 && p[0].1 <= p[1].1) && e2e.curve.len() > 10);
    }

    #[test]
    fn omb_results_are_compared_as_runs() {
        let a = [10.0, 10.1, 9.9, 10.2, 10.0, 9.8, 10.1, 10.0];
        let (x, y) = (side("Kafka", &a), side("Pulsar", &a.map(|v| v * 1.5)));
        let gate = x.plan.gate.clone().unwrap();
        let of = |label, record| Named { label, record };
        let c = records(of("a", &x), of("b", &y), &gate, Options::default()).unwrap();
        let row = c.rows.iter().find(|r| r.metric.to_string() == "e2e.service.p99").unwrap();
        assert_eq!((row.verdict, row.primary, row.a.n), (Verdict::Regressed, true, 8), "{}", row.reason);
        assert!(c.overall.sentence.contains("Pulsar is 50.0 % slower than Kafka"), "{}", c.overall.sentence);
        assert!(c.rows.iter().all(|r| !r.metric.to_string().starts_with("ledger")), "what was lost is not known");
        assert!(!c.design.interleaved && c.design.words.contains("not known"), "{}", c.design.words);
        // Another machine, another tool: only when that is asked for.
        let own = crate::compare::sample::record(&a, &a);
        assert!(records(of("a", &own), of("b", &y), &gate, Options::default()).is_err());
    }

    #[test]
    fn an_interval_log_is_read_in_the_unit_that_is_said() {
        let mut h = hdrhistogram::Histogram::<u64>::new(3).unwrap();
        (1..=10_000u64).for_each(|v| h.record(v).unwrap());
        let dir = tempfile::tempdir().unwrap();
        let store = crate::record::Store { dir: dir.path().into() };
        let log = ["", "slow"].map(|tag| crate::record::TaggedInterval {
            tag: if tag.is_empty() { "x".into() } else { tag.into() },
            start_s: 0.0,
            length_s: 5.0,
            histogram: crate::record::Packed::of(&h),
        });
        let name = store.write_hlog("a", &log, std::time::SystemTime::now()).unwrap();
        let bytes = std::fs::read(dir.path().join(name)).unwrap();
        let r = read("a.hlog", &bytes, LogUnit::Micros).unwrap();
        let t = &r.trials[0];
        assert_eq!(t.workloads.iter().map(|w| w.name.as_str()).collect::<Vec<_>>(), ["slow", "x"]);
        let p50 = t.workloads[0].latency["e2e.service"].at(0.5).unwrap().value_ns.unwrap();
        assert!((4_990_000..5_020_000).contains(&p50), "{p50}");
        assert_eq!(t.workloads[0].throughput.delivered, 2_000.0);
        assert!(t.validity[0].observed.contains("microseconds, as was said"), "{}", t.validity[0].observed);
    }

    #[test]
    fn what_it_is_not_is_said() {
        assert_eq!(read("x", b"{}", LogUnit::Nanos), Err(ForeignError::Unknown));
        assert_eq!(read("x", b"hello", LogUnit::Nanos), Err(ForeignError::Unknown));
        let bad = read("x", b"Tag=a,0.0,1.0,2.0,!!!\n", LogUnit::Nanos).unwrap_err();
        assert!(matches!(bad, ForeignError::Unknown | ForeignError::Format { .. }), "{bad}");
        let half = br#"{"publishRate": [1], "aggregatedEndToEndLatency50pct": "fast"}"#;
        assert!(matches!(read("x", half, LogUnit::Nanos), Err(ForeignError::Format { .. })));
    }
}
