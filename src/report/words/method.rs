//! How a run was made and on which machine, as terms and texts.

use crate::plan::{Arrivals, Load, PayloadSize, Workload};
use crate::record::Record;
use crate::units::three_digits;

/// A workload in one line, for somebody who does not know the words of the trade.
pub fn describe(workload: &Workload) -> String {
    let load = match &workload.load {
        Load::Open { arrivals, profile } => {
            let steady = profile.segments.iter().all(|s| s.from == profile.peak() && s.to == profile.peak());
            let word = if steady { "" } else { "up to " };
            let gaps = match arrivals {
                Arrivals::Constant => "evenly spaced",
                Arrivals::Poisson => "at random moments (Poisson)",
            };
            format!("{word}{} {gaps}, on schedule whatever the system does (open loop)", profile.peak())
        }
        Load::Unthrottled { window: 0 } => "as fast as the client takes them".into(),
        Load::Unthrottled { window } => format!("as fast as the client takes them, at most {window} on their way"),
        Load::Closed { outstanding, .. } => {
            format!("each producer sends when one of its {outstanding} is answered (closed loop)")
        }
    };
    let from = plural(workload.topology.producers, "producer");
    format!("{}: {from}, {}; {load}; payload {}", workload.pattern.name(), reach(workload), size(workload))
}

/// The same of a workload whose load is searched.
pub fn described_without_load(workload: &Workload) -> String {
    let from = plural(workload.topology.producers, "producer");
    format!("{}: {from}, {}; payload {}", workload.pattern.name(), reach(workload), size(workload))
}

fn size(workload: &Workload) -> String {
    match workload.payload.size {
        PayloadSize::Fixed(size) => size.to_string(),
        PayloadSize::Uniform { min, max } => format!("{min} to {max}"),
        PayloadSize::LogNormal { median, p99, .. } => format!("log-normal, median {median}, p99 {p99}"),
    }
}

/// Who gets a message.
fn reach(workload: &Workload) -> String {
    let t = &workload.topology;
    if let Some(target) = &workload.target {
        return match workload.gets() {
            true => format!("each request gets a key of {target}"),
            false => format!("each request answered by the service at {target}"),
        };
    }
    match (t.groups, t.members) {
        _ if workload.connects() => "each message is a client that connects, subscribes and receives it".into(),
        (_, 1) if t.reply => "each request answered by the one responder".into(),
        (_, m) if t.reply => format!("each request answered by one of {m} responders"),
        (0, _) => "no consumer".into(),
        (1, 1) => "each message to one consumer".into(),
        (1, m) => format!("each message to one of {m} consumers"),
        (g, 1) => format!("each message to all {g} consumers"),
        (g, m) => format!("each message to one of {m} consumers in each of {g} groups"),
    }
}

fn plural(n: u32, word: &str) -> String {
    format!("{n} {word}{}", if n == 1 { "" } else { "s" })
}

/// How the run was made, as (term, text).
pub fn method(record: &Record) -> Vec<(String, String)> {
    let plan = &record.plan;
    let mut list: Vec<(String, String)> = Vec::new();
    let mut add = |term: &str, text: String| list.push((term.into(), text));
    if let Some(search) = &plan.search {
        add("Search", super::capacity::method(search));
    }
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::{Pattern, ServiceTarget, Topology};

    /// Who gets a message is said in words that need no knowledge of the patterns' names.
    #[test]
    fn who_gets_a_message_is_said() {
        let mut w = crate::record::sample::record().plan.cases[0].workloads[0].clone();
        let mut said = |groups: u32, members: u32, reply: bool| {
            w.topology = Topology { groups, members, reply, ..w.topology };
            reach(&w)
        };
        assert_eq!(said(4, 1, false), "each message to all 4 consumers");
        assert_eq!(said(1, 4, false), "each message to one of 4 consumers");
        assert_eq!(said(2, 3, false), "each message to one of 3 consumers in each of 2 groups");
        assert_eq!(said(1, 1, false), "each message to one consumer");
        assert_eq!(said(0, 1, false), "no consumer");
        assert_eq!(said(1, 1, true), "each request answered by the one responder");
        assert_eq!(said(1, 2, true), "each request answered by one of 2 responders");
        w.pattern = Pattern::RequestReply;
        w.target = Some(ServiceTarget::Subject { subject: "orders.create".into() });
        assert!(describe(&w).contains("1 producer, each request answered by the service at orders.create; 1k/s"));
    }
}
