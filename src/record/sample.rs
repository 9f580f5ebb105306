//! A record for the tests: two systems, two trials each, one of them INVALID, one lost message, one
//! system skipped.

use std::collections::BTreeMap;

use hdrhistogram::Histogram;

use crate::plan::*;
use crate::record::*;
use crate::units::{Bytes, Rate, Span};

const QUANTILES: [f64; 5] = [0.5, 0.9, 0.99, 0.999, 0.9999];
const SAMPLES: u64 = 20_000;

/// Exponential latencies by inversion, so that the sample is the same every time.
fn latencies(scale_us: f64, lost: u64) -> LatencySummary {
    let mut h = Histogram::<u64>::new(3).unwrap();
    let mut sum = 0.0;
    for k in 0..SAMPLES - lost {
        let u = (k as f64 + 0.5) / SAMPLES as f64;
        let ns = (60_000.0 - scale_us * 1e3 * (1.0 - u).ln()) as u64;
        sum += ns as f64;
        h.record(ns).unwrap();
    }
    let percentile = |q: f64| {
        let exceedances = SAMPLES as f64 * (1.0 - q);
        let infinite = (lost as f64) > exceedances;
        let value = h.value_at_quantile(q * SAMPLES as f64 / (SAMPLES - lost) as f64);
        Percentile {
            quantile: q,
            value_ns: (!infinite).then_some(value),
            exceedances,
            printable: exceedances >= 10.0,
            ..Percentile::default()
        }
    };
    let curve = (0..400).map(|i| 1.0 - 10f64.powf(-f64::from(i) / 80.0)).map(|q| (q, h.value_at_quantile(q)));
    LatencySummary {
        count: SAMPLES,
        lost,
        min_ns: h.min(),
        max_ns: (lost == 0).then(|| h.max()),
        mean_ns: sum / SAMPLES as f64,
        percentiles: QUANTILES.map(percentile).to_vec(),
        curve: curve.collect(),
        ..LatencySummary::default()
    }
}

fn check(id: &str, status: Status) -> Check {
    let (observed, message) = match status {
        Status::Ok => ("0.1 %", ""),
        Status::NotJudged => ("-", "too few messages: measure longer"),
        Status::Warn => ("3 %", "the tail may belong to the host: close other programs"),
        Status::Invalid => ("31 %", "the generator did not keep its schedule: lower the rate or add threads"),
    };
    let name = if id == "V1" { "schedule kept" } else { "host quiet" };
    Check {
        id: id.into(),
        name: name.into(),
        status,
        observed: observed.into(),
        threshold: "<= 1 %".into(),
        message: message.into(),
    }
}

fn trial(case: &str, round: u32, scale_us: f64, lost: u64, validity: Vec<Check>) -> Trial {
    let words =
        [("delivery", "at most once"), ("durability", if case == "nats" { "none" } else { "none, in process" })];
    let latency = BTreeMap::from([
        ("e2e".to_string(), latencies(scale_us, lost)),
        ("e2e.service".to_string(), latencies(scale_us * if case == "nats" { 0.5 } else { 1.0 }, lost)),
        ("lag".to_string(), latencies(2.0, 0)),
    ]);
    Trial {
        case: case.into(),
        round,
        seed: 42 + u64::from(round),
        started_at: "2026-11-23T11:50:00Z".into(),
        outcome: Outcome::Complete,
        system: SystemFacts {
            version: format!("{case} 1.2.3"),
            url: "nats://127.0.0.1:4222".into(),
            client: "async-nats 0.51.0".into(),
            promised: facts::Levels { delivery: facts::Delivery::AtMostOnce, ..Default::default() },
            guarantees: words.map(|(k, v)| (k.to_string(), v.to_string())).into(),
        },
        pacing: "sleep".into(),
        start_ns: None,
        processes: None,
        settings: None,
        measured_ns: 20_000_000_000,
        drained_ns: 12_000_000,
        workloads: vec![WorkloadResult {
            name: "main".into(),
            promises: Vec::new(),
            groups: Vec::new(),
            replay: None,
            kept: None,
            membership: Vec::new(),
            outages: Vec::new(),
            intrusions: Vec::new(),
            ledger: Ledger {
                scheduled: SAMPLES,
                sent: SAMPLES,
                expected: SAMPLES,
                delivered: SAMPLES - lost,
                lost,
                ..Ledger::default()
            },
            throughput: Throughput {
                offered: Some(1000.0),
                sent: 1000.0,
                delivered: (SAMPLES - lost) as f64 / 20.0,
                delivered_bytes: (SAMPLES - lost) as f64 / 20.0 * 128.0,
                received: Some((SAMPLES - lost) as f64 / 20.0),
                received_bytes: Some((SAMPLES - lost) as f64 / 20.0 * 128.0),
            },
            latency,
        }],
        broker: Some(Resources {
            cpu_seconds: 0.4,
            cpu_us_per_msg: Some(20.0),
            rss_peak_bytes: 12 << 20,
            rss_mean_bytes: Some(11 << 20),
            disk_written_bytes: 0,
            threads: 4,
            ..Resources::default()
        }),
        generator: Resources {
            cpu_seconds: 0.9,
            cpu_us_per_msg: Some(45.0),
            voluntary_switches: 40_000,
            ..Resources::default()
        },
        application: None,
        disturbance: Vec::new(),
        hiccup: latencies(20.0, 0),
        validity,
        events: vec![Event {
            at_s: 3.5,
            kind: facts::Incident::Disconnected,
            text: "disconnected, <back> after 20 ms".into(),
        }],
        faults: Vec::new(),
        agents: Vec::new(),
        hlog: Some(format!("{case}-{round}.hlog")),
        server_log: None,
    }
}

fn system(name: &str, driver: &str) -> SystemSpec {
    SystemSpec {
        name: name.into(),
        driver: driver.into(),
        bring_up: BringUp::Launch,
        require: false,
        cpus: None,
        options: serde_json::Map::new(),
    }
}

fn case(id: &str, system: usize) -> Case {
    Case {
        id: id.into(),
        system,
        changed: None,
        point: vec![],
        workloads: vec![Workload {
            name: "main".into(),
            pattern: Pattern::FanOut,
            topology: Topology { producers: 1, channels: 1, groups: 1, members: 1, reply: false },
            load: Load::Open { arrivals: Arrivals::Poisson, profile: Profile::constant(Rate(1000.0)) },
            delivery: crate::plan::DeliverySpec::default(),
            payload: Payload { size: PayloadSize::Fixed(Bytes(128)), content: Content::Random },
            target: None,
            at: crate::plan::Places::default(),
            intruders: 0,
            idle_connections: 0,
            agents: Default::default(),
        }],
        phases: Phases {
            warmup: Span::secs(2),
            measure: Span::secs(20),
            drain: Span::secs(5),
            connect: Span::secs(5),
            interval: Span::secs(1),
        },
        pacing: Pacing::Auto,
        threads: Threads { publish: 1, consume: 1 },
    }
}

pub fn record() -> Record {
    let ok = || vec![check("V1", Status::Ok), check("V6", Status::Ok)];
    let order = [(1, "nats"), (1, "reference"), (2, "reference"), (2, "nats")];
    Record {
        schema: SCHEMA.into(),
        tool: Tool {
            version: "0.1.0".into(),
            profile: "debug".into(),
            command: ["msgbench", "run", "fan-out.toml"].map(String::from).to_vec(),
        },
        scenario: ScenarioSource {
            path: "fan-out.toml".into(),
            sha256: "ab12".into(),
            text: "name = \"fan-out\"\n".into(),
            overrides: vec![("trials".into(), "2".into())],
        },
        plan: Plan {
            name: "fan-out".into(),
            question: "Which broker delivers <1 kB> sooner & loses nothing?".into(),
            systems: vec![system("reference", "reference"), system("nats", "nats"), system("other", "nats")],
            cases: vec![case("reference", 0), case("nats", 1), case("other", 2)],
            trials: 2,
            seed: 42,
            percentiles: QUANTILES.to_vec(),
            gate: None,
            expect: Vec::new(),
            may_break: false,
            events: Vec::new(),
            outage: crate::plan::OutageSpec::default(),
            search: None,
            agents: None,
        },
        host: Host {
            kernel: "6.18".into(),
            cpu: "Some CPU".into(),
            cpus: 2,
            memory_bytes: 8 << 30,
            clocksource: "tsc".into(),
            clock_read_ns: 25.0,
            virtualised: true,
            load_average: 0.2,
            governor: None,
            findings: Vec::new(),
        },
        calibration: None,
        started_at: "2026-11-23T11:50:00Z".into(),
        ended_at: Some("2026-11-23T11:52:00Z".into()),
        clock_step_s: None,
        completion: Completion::Complete,
        order: order.map(|(r, c)| (r, c.to_string())).to_vec(),
        skipped: vec![Skipped {
            system: "other".into(),
            reason: "no `nats-server` on PATH".into(),
            remedy: "install nats-server 2.10 or later".into(),
        }],
        searches: Vec::new(),
        trials: vec![
            trial("nats", 1, 80.0, 25, vec![check("V1", Status::Ok), check("V6", Status::Warn)]),
            trial("reference", 1, 20.0, 0, ok()),
            trial("reference", 2, 900.0, 0, vec![check("V1", Status::Invalid), check("V6", Status::Ok)]),
            trial("nats", 2, 90.0, 25, ok()),
        ],
    }
}

pub fn intervals() -> Vec<Interval> {
    let mut list = Vec::new();
    for t in record().trials {
        for i in -2..20i64 {
            let bump = if t.case == "nats" && i == 9 { 30 } else { 1 };
            list.push(Interval {
                case: t.case.clone(),
                round: t.round,
                workload: "main".into(),
                start_s: i as f64,
                length_s: 1.0,
                scheduled: 1000,
                sent: 1000,
                delivered: if bump > 1 { 700 } else { 1000 },
                p50_ns: Some(70_000 + 900 * (i + 3) as u64),
                p99_ns: Some(210_000 * bump),
                p999_ns: Some(400_000 * bump),
                max_ns: (i != 5).then_some(600_000 * bump),
                lag_max_ns: Some(9_000),
                hiccup_max_ns: None,
                broker_cpu_s: Some(0.02),
                broker_rss_bytes: Some(12 << 20),
            });
        }
    }
    list
}
