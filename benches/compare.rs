//! How long does `compare` take on two large results: 20 cases x 10 trials x 60 s each?
//!
//!     cargo bench --bench compare
//!
//! Writes two synthetic results (run.json with percentile curves, intervals.csv with one line a second), then measures
//! reading both, comparing them and rendering every format. Ends with an error above one second.

#![allow(clippy::unwrap_used, reason = "a bench that cannot go on fails here")]

use std::collections::BTreeMap;
use std::path::Path;
use std::process::ExitCode;
use std::time::Instant;

use msgbench::compare::{self, Named, Options};
use msgbench::record::{
    Completion, Host, Interval, LatencySummary, Ledger, Outcome, Percentile, Record, Resources, SCHEMA, ScenarioSource,
    Store, SystemFacts, Throughput, Tool, Trial, WorkloadResult, store,
};
use msgbench::report::comparison as render;
use msgbench::scenario::{self, Overrides};

const SCENARIO: &str = r#"name = "large"
question = "How long does a comparison take?"
[[system]]
driver = "reference"
[[system]]
driver = "nats"
[[workload]]
pattern = "fan-out"
[workload.load]
rate = "10k/s"
[run]
duration = "60s"
trials = 10
percentiles = [0.5, 0.9, 0.99, 0.999]
[sweep]
"workload.load.rate" = ["1k/s", "2k/s", "3k/s", "4k/s", "5k/s", "6k/s", "7k/s", "8k/s", "9k/s", "10k/s"]
"#;

fn summary(ns: f64) -> LatencySummary {
    let n = 600_000;
    LatencySummary {
        count: n,
        min_ns: 20_000,
        max_ns: Some((ns * 9.0) as u64),
        mean_ns: ns,
        percentiles: [0.5, 0.9, 0.99, 0.999]
            .map(|quantile: f64| Percentile {
                quantile,
                value_ns: Some((ns * -(1.0 - quantile).ln()) as u64),
                exceedances: n as f64 * (1.0 - quantile),
                printable: true,
                ..Percentile::default()
            })
            .to_vec(),
        curve: (0..150)
            .map(|i| 1.0 - 0.5f64.powf(f64::from(i) / 8.0))
            .map(|q| (q, (ns * -(1.0 - q).ln()) as u64))
            .collect(),
        ..LatencySummary::default()
    }
}

/// A result whose latencies differ by `factor` from the other one's.
fn write(dir: &Path, factor: f64) {
    let plan = scenario::parse(Path::new("large.toml"), SCENARIO.into(), &Overrides::default()).unwrap().plan;
    assert_eq!(plan.cases.len(), 20);
    let store = Store { dir: dir.to_path_buf() };
    std::fs::create_dir_all(dir).unwrap();
    let mut trials = Vec::new();
    let mut intervals = Vec::new();
    let mut noise = 1u64;
    for round in 1..=10 {
        for case in &plan.cases {
            noise = noise * 48271 % 2_147_483_647;
            let ns = 100_000.0 * factor * (1.0 + 0.05 * noise as f64 / 2_147_483_647.0);
            let kinds = ["e2e", "e2e.service", "ack", "ack.service", "lag"];
            trials.push(Trial {
                case: case.id.clone(),
                round,
                seed: noise,
                started_at: format!("2026-11-23T11:{round:02}:00Z"),
                outcome: Outcome::Complete,
                system: SystemFacts::default(),
                pacing: "sleep".into(),
                measured_ns: 60_000_000_000,
                drained_ns: 1_000,
                workloads: vec![WorkloadResult {
                    name: case.workloads[0].name.clone(),
                    ledger: Ledger::default(),
                    throughput: Throughput { offered: Some(1e4), sent: 1e4, delivered: 4e4, delivered_bytes: 5e6 },
                    promises: Vec::new(),
                    groups: Vec::new(),
                    replay: None,
                    latency: kinds.map(|k| (k.to_string(), summary(ns))).into_iter().collect::<BTreeMap<_, _>>(),
                }],
                broker: Some(Resources { cpu_us_per_msg: Some(2.0), rss_peak_bytes: 1 << 24, ..Resources::default() }),
                generator: Resources::default(),
                hiccup: summary(5_000.0),
                validity: Vec::new(),
                disturbance: Vec::new(),
                events: Vec::new(),
                hlog: None,
                server_log: None,
            });
            intervals.extend((0..60).map(|s| Interval {
                case: case.id.clone(),
                round,
                workload: case.workloads[0].name.clone(),
                start_s: f64::from(s),
                length_s: 1.0,
                scheduled: 10_000,
                sent: 10_000,
                delivered: 40_000,
                p50_ns: Some(ns as u64),
                p99_ns: Some(ns as u64 * 4),
                p999_ns: Some(ns as u64 * 7),
                max_ns: Some(ns as u64 * 9),
                lag_max_ns: Some(9_000),
                hiccup_max_ns: Some(9_000),
                broker_cpu_s: Some(0.1),
                broker_rss_bytes: Some(1 << 24),
            }));
        }
    }
    let record = Record {
        schema: SCHEMA.into(),
        tool: Tool { version: "0.1.0".into(), profile: "release".into(), command: vec!["msgbench".into()] },
        scenario: ScenarioSource {
            path: "large.toml".into(),
            sha256: "ab".into(),
            text: SCENARIO.into(),
            overrides: Vec::new(),
        },
        plan,
        host: Host::default(),
        calibration: None,
        started_at: "2026-11-23T11:00:00Z".into(),
        ended_at: None,
        completion: Completion::Complete,
        order: Vec::new(),
        skipped: Vec::new(),
        trials,
    };
    store.write(&record).unwrap();
    store.append_intervals(&intervals).unwrap();
}

fn main() -> ExitCode {
    let root = std::env::temp_dir().join(format!("msgbench-compare-{}", std::process::id()));
    let (a, b) = (root.join("a"), root.join("b"));
    write(&a, 1.0);
    write(&b, 1.08);
    let start = Instant::now();
    let (x, y) = (store::load(&a).unwrap(), store::load(&b).unwrap());
    let read = start.elapsed();
    let gate = scenario::gate::Gate::default();
    let of = |label, record| Named { label, record };
    let c = compare::records(of("a", &x.record), of("b", &y.record), &gate, Options::default()).unwrap();
    let compared = start.elapsed();
    let bytes = render::text::page(&c).len()
        + render::markdown::page(&c).len()
        + render::html::page(&c, &[of("a", &x.record), of("b", &y.record)], "msgbench compare a b").len()
        + render::junit::page(&c).len()
        + render::csv::page(&c).unwrap().len()
        + serde_json::to_vec(&c).unwrap().len();
    let all = start.elapsed();
    std::fs::remove_dir_all(&root).unwrap();
    println!("{} rows, {}", c.rows.len(), c.overall.sentence);
    println!(
        "read {read:.0?}, compared {:.0?}, rendered {bytes} bytes in {:.0?}, total {all:.0?}",
        compared - read,
        all - compared
    );
    if all.as_secs_f64() < 1.0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
