//! Experiment: how often does the gate cry wolf, and how often does it see what is there?
//!
//!     cargo build --release && cargo run --release --example gate [-- ROUNDS]
//!
//! Measures the reference broker with an injected service time in short trials on fresh brokers: in
//! each round once as arm A, once more as A (the same again), and once as B with a service time 10
//! % longer, in random order. Then draws 200 times ten rounds and compares A with A (which of the
//! two is called baseline is drawn for each round), and 200 times ten rounds of A with B, at the
//! gate's defaults (changes up to 5 % do not matter, alpha 0.01), e2e.p50 deciding.
//!
//! Ends with an error when A against A is REGRESSED more often than the 95 % bound of a binomial of
//! rate alpha allows, or A against B less often than in 90 %. The comparisons share the measured
//! rounds (40 by default, three trials each, about five minutes), as 4000 fresh trials would take
//! hours: they are drawn anew, not independent. `compare::tests` makes the same experiment with
//! independent simulated runs.

#![allow(clippy::unwrap_used, reason = "an experiment that cannot go on fails here")]

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use msgbench::compare::{self, CompareOptions, NamedRecord, Verdict};
use msgbench::plan::gate::Gate;
use msgbench::record::{Loaded, Outcome, Record, Status, store};
use rand::seq::SliceRandom;
use rand::{RngExt, SeedableRng};

const SCENARIO: &str = r#"name = "gate"
question = "Is the gate's verdict true?"
[[system]]
driver = "reference"
[[workload]]
pattern = "fan-out"
consumers = 1
[workload.load]
rate = "50/s"
arrivals = "constant"
[faults]
service = { fixed = "10ms" }
[run]
warmup = "200ms"
duration = "1400ms"
trials = 1
percentiles = [0.5]
"#;
/// Service times of the arms.
const ARMS: [&str; 3] = ["10ms", "10ms", "11ms"];
const COMPARISONS: u32 = 200;
const RUNS: usize = 10;

/// One trial in a fresh folder; `None` where it is INVALID.
fn trial(program: &Path, dir: &Path, service: &str, number: u32) -> Option<Record> {
    let out = dir.join(number.to_string());
    let status = Command::new(program)
        .arg("run")
        .arg(dir.join("gate.toml"))
        .args(["--quiet", "--set", &format!("faults.service.fixed={service}"), "--out"])
        .arg(&out)
        .status()
        .unwrap();
    assert!(matches!(status.code(), Some(0 | 4)), "msgbench run: {status}");
    let folder = std::fs::read_dir(out.join("gate")).unwrap().next().unwrap().unwrap().path();
    let record = store::load(&folder).unwrap().record;
    std::fs::remove_dir_all(out).unwrap();
    let valid = |t: &msgbench::record::Trial| t.outcome == Outcome::Complete && t.validity_status() != Status::Invalid;
    record.trials.iter().all(valid).then_some(record)
}

fn p50(record: &Record) -> f64 {
    let latency = &record.trials[0].workloads[0].latency["e2e"];
    latency.at(0.5).and_then(|p| p.value_ns).map_or(f64::INFINITY, |ns| ns as f64)
}

/// The trials of some records as rounds of one.
fn pooled<'a>(of: impl Iterator<Item = &'a Record>) -> Record {
    let results = of.map(|r| Loaded { record: r.clone(), intervals: Vec::new() });
    compare::pool(results.collect()).unwrap().record
}

/// The most that a binomial of this rate shows in 95 % of experiments.
fn bound(n: u32, rate: f64) -> u32 {
    let mut term = (1.0 - rate).powi(n as i32);
    let mut sum = term;
    let mut k = 0;
    while sum < 0.95 {
        term *= f64::from(n - k) / f64::from(k + 1) * rate / (1.0 - rate);
        sum += term;
        k += 1;
    }
    k
}

fn program() -> PathBuf {
    // target/PROFILE/examples/gate -> target/PROFILE/msgbench
    let own = std::env::current_exe().unwrap();
    own.parent().unwrap().parent().unwrap().join("msgbench")
}

fn main() -> ExitCode {
    let wanted: usize = std::env::args().nth(1).map_or(40, |n| n.parse().unwrap());
    assert!(wanted >= RUNS, "at least {RUNS} rounds");
    let (program, dir) = (program(), std::env::temp_dir().join(format!("msgbench-gate-{}", std::process::id())));
    std::fs::create_dir_all(&dir).unwrap();
    std::fs::write(dir.join("gate.toml"), SCENARIO).unwrap();
    let mut rng = rand::rngs::StdRng::seed_from_u64(2026);
    let (mut rounds, mut tried, mut number) = (Vec::new(), 0, 0);
    while rounds.len() < wanted && tried < 2 * wanted {
        tried += 1;
        let mut order = [0, 1, 2];
        order.shuffle(&mut rng);
        let mut round: [Option<Record>; 3] = [None, None, None];
        for arm in order {
            number += 1;
            round[arm] = trial(&program, &dir, ARMS[arm], number);
        }
        if let [Some(a), Some(again), Some(b)] = round {
            rounds.push([a, again, b]);
        }
    }
    std::fs::remove_dir_all(&dir).unwrap();
    println!("{} of {tried} rounds are valid", rounds.len());
    if rounds.len() < RUNS {
        println!("FAILED: this machine is too busy");
        return ExitCode::FAILURE;
    }
    for (arm, service) in ARMS.iter().enumerate() {
        let logs: Vec<f64> = rounds.iter().map(|r| p50(&r[arm]).ln()).collect();
        let middle = msgbench::stats::median(&logs).unwrap().exp() / 1e6;
        let spread = msgbench::stats::sample_variance(&logs).sqrt();
        println!("service {service}: median p50 {middle:.3} ms, runs differ by {:.1} %", spread * 100.0);
    }
    let gate = Gate { primary: vec!["e2e.p50".parse().unwrap()], ..Gate::default() };
    let verdict = |a: &Record, b: &Record| {
        let of = |label, record| NamedRecord { label, record };
        compare::records(of("baseline", a), of("candidate", b), &gate, CompareOptions::default())
            .unwrap()
            .overall
            .verdict
    };
    let (mut same, mut longer) = (Vec::new(), Vec::new());
    for _ in 0..COMPARISONS {
        let mut chosen: Vec<usize> = (0..rounds.len()).collect();
        chosen.shuffle(&mut rng);
        chosen.truncate(RUNS);
        let swap: Vec<usize> = chosen.iter().map(|_| usize::from(rng.random::<bool>())).collect();
        let side = |flip: usize| pooled(chosen.iter().zip(&swap).map(|(r, s)| &rounds[*r][*s ^ flip]));
        same.push(verdict(&side(0), &side(1)));
        longer.push(verdict(&side(0), &pooled(chosen.iter().map(|r| &rounds[*r][2]))));
    }
    let count = |of: &[Verdict], v: Verdict| of.iter().filter(|x| **x == v).count() as u32;
    for (name, of) in [("A against A", &same), ("A against B, +10 % service time", &longer)] {
        let words =
            [Verdict::Regressed, Verdict::Improved, Verdict::Changed, Verdict::Equivalent, Verdict::Inconclusive];
        let each: Vec<String> = words.iter().map(|v| format!("{} {}", count(of, *v), v.word())).collect();
        println!("{name}, {COMPARISONS} comparisons of {RUNS} + {RUNS} runs: {}", each.join(", "));
    }
    let (wolf, seen) = (count(&same, Verdict::Regressed), count(&longer, Verdict::Regressed));
    let most = bound(COMPARISONS, gate.alpha);
    let passed = wolf <= most && seen >= COMPARISONS * 9 / 10;
    println!(
        "{}: {wolf} false regressions (at most {most} at alpha {}), {seen} of {COMPARISONS} found (at least 90 %)",
        if passed { "passed" } else { "FAILED" },
        gate.alpha
    );
    if passed { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
