//! Two limits that a reader would notice.
//!
//!     cargo bench --bench compare
//!
//! `compare` of two large results, 20 cases x 10 trials x 60 s each: synthetic ones (run.json with
//! percentile curves, intervals.csv with one line a second) are read, compared, and rendered in
//! every format, in less than a second.
//!
//! The report of a run of an hour, two systems with one trial of half an hour each, one histogram a
//! second of every kind of latency in the interval logs: read, rendered with its charts and
//! written, in less than 3 s; the page is smaller than 5 MB.
//!
//! Prints each figure beside its limit, and ends with an error when one is missed; a build that is
//! not optimised only prints.

#![allow(clippy::unwrap_used, reason = "a bench that cannot go on fails here")]

use std::collections::BTreeMap;
use std::path::Path;
use std::process::ExitCode;
use std::time::Instant;

use hdrhistogram::Histogram;
use msgbench::compare::{self, CompareOptions, NamedRecord};
use msgbench::engine::Register;
use msgbench::record::{
    Completion, Host, Interval, LatencySummary, Ledger, Outcome, Packed, Percentile, Record, Resources, SCHEMA,
    ScenarioSource, Store, SystemFacts, TaggedInterval, Throughput, Tool, Trial, WorkloadResult, store,
};
use msgbench::report::charts::series::RunSeries;
use msgbench::report::pages::comparison as render;
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
    let plan =
        scenario::parse(Path::new("large.toml"), SCENARIO.into(), &Overrides::default(), &Register::built_in().types())
            .unwrap()
            .plan;
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
                start_ns: None,
                processes: None,
                settings: None,
                outcome: Outcome::Complete,
                system: SystemFacts::default(),
                pacing: "sleep".into(),
                measured_ns: 60_000_000_000,
                drained_ns: 1_000,
                workloads: vec![WorkloadResult {
                    name: case.workloads[0].name.clone(),
                    ledger: Ledger::default(),
                    throughput: Throughput {
                        offered: Some(1e4),
                        sent: 1e4,
                        delivered: 4e4,
                        delivered_bytes: 5e6,
                        ..Throughput::default()
                    },
                    promises: Vec::new(),
                    groups: Vec::new(),
                    replay: None,
                    kept: None,
                    membership: Vec::new(),
                    outages: Vec::new(),
                    intrusions: Vec::new(),
                    latency: kinds.map(|k| (k.to_string(), summary(ns))).into_iter().collect::<BTreeMap<_, _>>(),
                }],
                broker: Some(Resources { cpu_us_per_msg: Some(2.0), rss_peak_bytes: 1 << 24, ..Resources::default() }),
                application: None,
                generator: Resources::default(),
                hiccup: summary(5_000.0),
                validity: Vec::new(),
                disturbance: Vec::new(),
                events: Vec::new(),
                faults: Vec::new(),
                agents: Vec::new(),
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
        clock_step_s: None,
        completion: Completion::Complete,
        order: Vec::new(),
        skipped: Vec::new(),
        searches: Vec::new(),
        trials,
    };
    store.write(&record).unwrap();
    store.append_intervals(&intervals).unwrap();
}

/// A limit, what was found, and whether it was kept.
fn held(what: &str, found: f64, limit: f64, unit: &str) -> bool {
    let kept = found < limit;
    println!("{} {what}: {found:.2} {unit}, limit {limit} {unit}", if kept { "kept  " } else { "MISSED" });
    kept
}

fn comparison(root: &Path) -> bool {
    let (a, b) = (root.join("a"), root.join("b"));
    write(&a, 1.0);
    write(&b, 1.08);
    let start = Instant::now();
    let (x, y) = (store::load(&a).unwrap(), store::load(&b).unwrap());
    let read = start.elapsed();
    let gate = msgbench::plan::gate::Gate::default();
    let of = |label, record| NamedRecord { label, record };
    let named = [of("a", &x.record), of("b", &y.record)];
    let c = compare::records(named[0], named[1], &gate, CompareOptions::default()).unwrap();
    let compared = start.elapsed();
    let none = |_: &str| None;
    let series = [&x, &y].map(|l| RunSeries { intervals: &l.intervals, read: &none });
    let bytes = render::text::page(&c).len()
        + render::markdown::page(&c).len()
        + render::html::page(&c, &named, &series, "msgbench compare a b").len()
        + msgbench::report::export::junit::page(&c).map_or(0, |xml| xml.len())
        + msgbench::report::export::csv::page(&c).unwrap().len()
        + serde_json::to_vec(&c).unwrap().len();
    let all = start.elapsed();
    println!("{} rows, {}", c.rows.len(), c.overall.sentence);
    println!("read {read:.0?}, compared {:.0?}, rendered {bytes} bytes in {:.0?}", compared - read, all - compared);
    held("compare, 2 x 20 cases x 10 trials x 60 s", all.as_secs_f64(), 1.0, "s")
}

/// A histogram as an interval of a busy system leaves it: 10 000 samples from 50 us up, a few of
/// them slow.
fn interval(second: u64, kind: u64) -> Packed {
    let mut h = Histogram::<u64>::new(3).unwrap();
    let mut noise = 1 + second * 7 + kind;
    for _ in 0..10_000 {
        noise = noise * 48271 % 2_147_483_647;
        let u = noise as f64 / 2_147_483_647.0;
        let stall = if second % 300 == 17 { 40.0 } else { 1.0 };
        h.record((50_000.0 - 80_000.0 * stall * u.ln()) as u64).unwrap();
    }
    Packed::of(&h)
}

/// One trial of half an hour of each of two systems, with their logs.
fn hour(dir: &Path) {
    const SECONDS: u64 = 1800;
    let text = SCENARIO.split("[sweep]").next().unwrap().replace("60s", "30m").replace("trials = 10", "trials = 1");
    let plan =
        scenario::parse(Path::new("hour.toml"), text.clone(), &Overrides::default(), &Register::built_in().types())
            .unwrap()
            .plan;
    write(dir, 1.0);
    let mut record = store::load(dir).unwrap().record;
    let template = record.trials[0].clone();
    let store = Store { dir: dir.to_path_buf() };
    std::fs::remove_file(dir.join("intervals.csv")).unwrap();
    record.scenario.text = text;
    record.trials.clear();
    for case in &plan.cases {
        let kinds = ["e2e", "e2e.service", "ack", "ack.service", "lag", "hiccup"];
        let mut log = Vec::new();
        for (k, tag) in kinds.iter().enumerate() {
            // Sixty that differ are as good as 1800, and are made in a thirtieth of the time.
            let pool: Vec<Packed> = (0..60).map(|s| interval(s, k as u64)).collect();
            log.extend((0..SECONDS).map(|s| TaggedInterval {
                tag: (*tag).into(),
                start_s: s as f64,
                length_s: 1.0,
                histogram: pool[(s % 60) as usize].clone(),
            }));
        }
        let hlog = store.write_hlog(&case.id, &log, std::time::SystemTime::now()).unwrap();
        let trial =
            Trial { case: case.id.clone(), measured_ns: SECONDS * 1_000_000_000, hlog: Some(hlog), ..template.clone() };
        let line = |s: u64| Interval {
            case: case.id.clone(),
            round: 1,
            workload: case.workloads[0].name.clone(),
            start_s: s as f64,
            length_s: 1.0,
            scheduled: 10_000,
            sent: 10_000,
            delivered: 10_000 - s % 7,
            p50_ns: Some(105_000 + s),
            p99_ns: Some(420_000 + 10 * s),
            p999_ns: Some(600_000 + 10 * s),
            max_ns: Some(900_000 + s * 100),
            lag_max_ns: Some(9_000),
            hiccup_max_ns: Some(9_000 + 100 * (s % 90)),
            broker_cpu_s: Some(0.1),
            broker_rss_bytes: Some(1 << 24),
        };
        store.append_intervals(&(0..SECONDS).map(line).collect::<Vec<_>>()).unwrap();
        record.trials.push(trial);
    }
    record.plan = plan;
    store.write(&record).unwrap();
}

fn report(root: &Path) -> bool {
    let dir = root.join("hour");
    hour(&dir);
    let start = Instant::now();
    let loaded = store::load(&dir).unwrap();
    let read = |name: &str| std::fs::read(dir.join(name)).ok();
    let series = RunSeries { intervals: &loaded.intervals, read: &read };
    let files = msgbench::report::files(&loaded.record, &series, "run.json").unwrap();
    let store = Store { dir: dir.clone() };
    for (name, bytes) in &files {
        store.write_file(name, bytes).unwrap();
    }
    let took = start.elapsed().as_secs_f64();
    let page = files.iter().find(|f| f.0 == "report.html").unwrap();
    let maps = String::from_utf8_lossy(&page.1).matches("messages in a cell:").count();
    assert_eq!(maps, 2, "both logs are read");
    let quick = held("report of an hour, 2 systems x 1800 s", took, 3.0, "s");
    held("its page", page.1.len() as f64 / 1e6, 5.0, "MB") && quick
}

fn main() -> ExitCode {
    let root = std::env::temp_dir().join(format!("msgbench-compare-{}", std::process::id()));
    let kept = [comparison(&root), report(&root)];
    std::fs::remove_dir_all(&root).unwrap();
    if kept.iter().all(|k| *k) || cfg!(debug_assertions) { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
