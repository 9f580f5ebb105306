//! How a run was made and on which machine, as terms and texts.

use crate::plan::{Load, PayloadSize, Workload};
use crate::record::Record;
use crate::units::three_digits;

/// A workload in one line.
pub fn describe(workload: &Workload) -> String {
    let load = match &workload.load {
        Load::Open { arrivals, profile } => {
            let steady = profile.segments.iter().all(|s| s.from == profile.peak() && s.to == profile.peak());
            let word = if steady { "" } else { "up to " };
            format!("{word}{}, {} arrivals, open loop", profile.peak(), format!("{arrivals:?}").to_lowercase())
        }
        Load::Unthrottled { window: 0 } => "as fast as the client takes them".into(),
        Load::Unthrottled { window } => format!("as fast as the client takes them, at most {window} on their way"),
        Load::Closed { outstanding, .. } => format!("closed loop, {outstanding} outstanding for each producer"),
    };
    let size = match workload.payload.size {
        PayloadSize::Fixed(size) => size.to_string(),
        PayloadSize::Uniform { min, max } => format!("{min} to {max}"),
        PayloadSize::LogNormal { median, p99, .. } => format!("log-normal, median {median}, p99 {p99}"),
    };
    let t = &workload.topology;
    format!(
        "{}, {} to {} ({} of {}), {load}, payload {size}",
        workload.pattern.name(),
        plural(t.producers, "producer"),
        plural(t.consumers(), "consumer"),
        plural(t.groups, "group"),
        t.members
    )
}

fn plural(n: u32, word: &str) -> String {
    format!("{n} {word}{}", if n == 1 { "" } else { "s" })
}

/// How the run was made, as (term, text).
pub fn method(record: &Record) -> Vec<(String, String)> {
    let plan = &record.plan;
    let mut list: Vec<(String, String)> = Vec::new();
    let mut add = |term: &str, text: String| list.push((term.into(), text));
    let mut workloads: Vec<String> = plan.cases.iter().flat_map(|c| &c.workloads).map(describe).collect();
    workloads.dedup();
    add("Workload", workloads.join("; "));
    if let Some(case) = plan.cases.first() {
        let p = &case.phases;
        add("Phases", format!("{} warm-up, {} measured, at most {} drain", p.warmup, p.measure, p.drain));
    }
    add(
        "Trials",
        format!("{} of each case, on a fresh system where msgbench launches it, in random order", plan.trials),
    );
    add("Seed", plan.seed.to_string());
    add(
        "Order",
        record.order.iter().map(|(round, case)| format!("{case} (round {round})")).collect::<Vec<_>>().join(", "),
    );
    add("Scenario", format!("{} (SHA-256 {})", record.scenario.path, record.scenario.sha256));
    if !record.scenario.overrides.is_empty() {
        add(
            "Overrides",
            record.scenario.overrides.iter().map(|(k, v)| format!("{k}={v}")).collect::<Vec<_>>().join(", "),
        );
    }
    add("Command", record.tool.command.join(" "));
    add("Program", format!("msgbench {} ({} build)", record.tool.version, record.tool.profile));
    add("Time", format!("{} to {}", record.started_at, record.ended_at.as_deref().unwrap_or("(not ended)")));
    list
}

/// The machine, as (term, text).
pub fn host(record: &Record) -> Vec<(String, String)> {
    let h = &record.host;
    let text = |s: &str| s.to_string();
    let mut list = vec![
        (text("CPU"), format!("{}, {} usable", h.cpu, plural(h.cpus, "CPU"))),
        (text("Memory"), format!("{:.1} GiB", h.memory_bytes as f64 / f64::from(1 << 30))),
        (text("Kernel"), h.kernel.clone()),
        (text("Clock"), format!("{}, {} ns a read", h.clocksource, three_digits(h.clock_read_ns))),
        (text("Virtualised"), text(if h.virtualised { "yes" } else { "no" })),
        (text("Governor"), h.governor.clone().unwrap_or_else(|| "not visible".into())),
        (text("Load average before"), three_digits(h.load_average)),
    ];
    let graded = |f: &crate::record::Finding| {
        let grade = if f.grade == crate::record::Grade::Bad { "BAD" } else { "WARN" };
        (f.item.clone(), format!("{grade}: {}; {}. Mend: {}", f.observed, f.why, f.remedy))
    };
    list.extend(h.findings.iter().map(graded));
    list
}
