//! The results of many agents, put together by one coordinator: how long it takes, and how much
//! memory.
//!
//!     cargo bench --bench agents
//!
//! Each result is as a real agent brings it: 10 s, a histogram of each second and kind, books by
//! producer and message. Each layout runs in a process of its own, so that the most memory is that
//! of the layout. What a result costs on its way is measured by `examples/control_scale`.

#![allow(clippy::unwrap_used, reason = "a bench that cannot go on fails here")]

use std::path::Path;
use std::time::{Duration, Instant};

use msgbench::engine::Register;
use msgbench::engine::merging::{merge, simulated_result};
use msgbench::plan::{AgentsPlan, divide};
use msgbench::scenario::{self, Overrides};

/// Agents, producers, groups, members of each, messages of a producer.
const LAYOUTS: [(&str, [u32; 5]); 6] = [
    ("100 agents: a producer each, 1 group of 100", [100, 100, 1, 100, 10_000]),
    ("300 agents: a producer each, 1 group of 300", [300, 300, 1, 300, 10_000]),
    ("1,000 agents: a producer each, 1 group of 1,000", [1_000, 1_000, 1, 1_000, 10_000]),
    ("1,000 agents: a producer each, 100 consumers of all", [1_000, 1_000, 100, 1, 1_000]),
    ("1,000 agents: a producer each, 1,000 consumers of all", [1_000, 1_000, 1_000, 1, 10]),
    ("1,000 agents: a producer each, 10 consumers of all", [1_000, 1_000, 10, 1, 10_000]),
];

/// Resident memory of this process, now and at most, MB.
fn memory() -> (u64, u64) {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let of = |key: &str| {
        let line = status.lines().find(|line| line.starts_with(key)).unwrap();
        line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() / 1000
    };
    (of("VmRSS:"), of("VmHWM:"))
}

/// Resets what is the most so far.
fn forget() {
    // Without the right to it the most of all is shown.
    let _ = std::fs::write("/proc/self/clear_refs", "5");
}

fn one(name: &str, [agents, producers, groups, members, each]: [u32; 5]) {
    let text = format!(
        "name = \"t\"\nquestion = \"?\"\n[[system]]\ndriver = \"nats\"\n[[workload]]\npattern = \"m-to-n\"\n\
         producers = {producers}\nconsumers = {groups}\nload.rate = \"{}/s\"\n\
         [run]\nwarmup = \"0s\"\nduration = \"10s\"\ntrials = 1\n",
        producers * each / 10
    );
    let types = Register::built_in().types();
    let mut plan = scenario::parse(Path::new("t.toml"), text, &Overrides::default(), &types).unwrap().plan;
    let layout = AgentsPlan::any(agents);
    plan.cases[0].workloads[0].topology.members = members;
    plan.agents = Some(layout.clone());
    divide(&mut plan).unwrap();
    let case = &plan.cases[0];
    let brought: Vec<Vec<u8>> =
        (0..agents).map(|index| simulated_result(case, &layout, index, u64::from(each))).collect();
    let bytes = brought.iter().map(Vec::len).sum::<usize>();
    forget();
    let (before, _) = memory();
    let begun = Instant::now();
    let it = merge(case, &layout, brought);
    let (took, (_, most)) = (begun.elapsed(), memory());
    let sent = u64::from(producers) * u64::from(each);
    assert_eq!((it.ledger.sent, it.ledger.delivered), (sent, sent * u64::from(groups)));
    assert_eq!((it.ledger.lost, it.ledger.duplicated, it.agents), (0, 0, agents as usize));
    let seconds = |d: Duration| d.as_secs_f64();
    println!(
        "| {name} | {:.1} | {:.2} | {:.2} | {:.2} | {:.2} | {} |",
        bytes as f64 / 1e6,
        seconds(it.read),
        seconds(it.joined),
        seconds(it.folded),
        seconds(took),
        most.saturating_sub(before),
    );
}

fn main() {
    if let Some(number) = std::env::var("MSGBENCH_BENCH_LAYOUT").ok().and_then(|n| n.parse::<usize>().ok()) {
        let (name, layout) = LAYOUTS[number];
        return one(name, layout);
    }
    println!(
        "| results | brought, MB | read, s | joined, s | books closed, s | in all, s | memory beside what was brought, MB |"
    );
    println!("|---|---:|---:|---:|---:|---:|---:|");
    for (number, (name, _)) in LAYOUTS.iter().enumerate() {
        let mut command = std::process::Command::new(std::env::current_exe().unwrap());
        let done = command.arg("--bench").env("MSGBENCH_BENCH_LAYOUT", number.to_string()).status().unwrap();
        assert!(done.success(), "{name}: {done}");
    }
}
