//! What limits the claim that a report makes, filled in from what is known of the run: nobody has
//! to remember to say it.

use std::collections::BTreeSet;

use crate::compare::foreign;
use crate::plan::{BringUp, Load};
use crate::record::{Outcome, Record, Status};
use crate::units::{SECOND, Span};

/// Fewer cores than this are shared by broker and generator at their cost.
const FEW_CORES: u32 = 8;
/// Shorter than this, what happens once a minute is seen by chance.
const LONG: Span = Span(60 * SECOND);
/// Fewer runs a side give no interval of a median at 95 %.
const FEW_RUNS: u32 = 6;

/// The threats as (term, text), for one record or several that are compared.
pub fn of(records: &[&Record]) -> Vec<(String, String)> {
    let mut list = Vec::new();
    let mut add = |term: &str, text: String| list.push((term.to_string(), text));
    let any = |f: &dyn Fn(&Record) -> bool| records.iter().any(|r| f(r));
    let loopback = |r: &Record| {
        let local = ["127.0.0.1", "localhost", "[::1]"];
        r.trials.iter().any(|t| local.iter().any(|l| t.system.url.contains(l)))
    };
    let launched = |r: &Record| r.plan.systems.iter().any(|s| s.bring_up == BringUp::Launch);
    if any(&|r| r.tool.profile == "debug") {
        add("Debug build", "The generator was not optimised: figures show its cost and are not to be compared.".into());
    }
    if any(&foreign::is_foreign) {
        add(
            "Another tool",
            "Figures of another tool have no validity checks, no intended times and no known machine, load and guarantees: they are service latencies, and a difference may come from any of these.".into(),
        );
    }
    if any(&|r| loopback(r) || launched(r)) {
        add(
            "Co-located generator",
            "Generator and broker share one machine and its loopback interface: they compete for cores and caches, and no network delay, loss or bandwidth limit is in the figures.".into(),
        );
    }
    if let Some(r) = records.iter().find(|r| (1..FEW_CORES).contains(&r.host.cpus)) {
        add(
            "Few cores",
            format!(
                "The machine has {} CPUs. A system that gains by many cores cannot show it here, and one that needs few looks better than it would elsewhere.",
                r.host.cpus
            ),
        );
    }
    if any(&|r| r.host.virtualised) {
        add(
            "Virtual machine",
            "The hypervisor may take the cores away, and waking an idle core costs more than on bare metal: tails and idle latencies are partly its own.".into(),
        );
    }
    let shortest = records.iter().flat_map(|r| &r.plan.cases).map(|c| c.phases.measure).min();
    if let Some(short) = shortest.filter(|s| *s < LONG && s.0 > 0) {
        add(
            "Short runs",
            format!(
                "A run measures {short}. What comes once a minute or less often (compaction, retention, write-back of the page cache, growing state) is not in it, or by chance."
            ),
        );
    }
    let fewest = records.iter().map(|r| r.plan.trials).min().unwrap_or(0);
    if (1..FEW_RUNS).contains(&fewest) {
        add(
            "Few runs",
            format!(
                "{fewest} run{} of a case: how much runs differ is hardly known.",
                if fewest == 1 { "" } else { "s" }
            ),
        );
    }
    loads_and_trials(records, &mut add);
    add(
        "Scope",
        "One machine, one version of each system, one configuration, this workload: it says nothing of other payloads, rates, topologies, clusters or hardware.".into(),
    );
    list
}

/// Threats that lie in how the systems were loaded, and in which trials count.
fn loads_and_trials(records: &[&Record], add: &mut impl FnMut(&str, String)) {
    let loads: Vec<&Load> =
        records.iter().flat_map(|r| &r.plan.cases).flat_map(|c| &c.workloads).map(|w| &w.load).collect();
    if loads.iter().any(|l| matches!(l, Load::Closed { .. })) {
        add("Closed loop", "What a stall delays is not sent: latencies omit it by construction.".into());
    }
    if !records.iter().any(|r| foreign::is_foreign(r)) && loads.iter().any(|l| matches!(l, Load::Unthrottled { .. })) {
        add(
            "Saturation",
            "Without a rate the latencies are those of a full queue: only the throughput says much.".into(),
        );
    }
    for told in records
        .iter()
        .flat_map(|r| &r.trials)
        .filter_map(|t| t.system.guarantees.get("faults"))
        .collect::<BTreeSet<_>>()
    {
        add("Faults", format!("The broker ran with injected faults ({told})."));
    }
    let trials = || records.iter().flat_map(|r| &r.trials);
    let out = trials().filter(|t| t.outcome != Outcome::Complete || t.validity_status() == Status::Invalid).count();
    if out > 0 {
        add(
            "Trials left out",
            format!(
                "{out} of {} failed, were interrupted or are INVALID. If a system makes its own trials fail, the rest flatters it.",
                trials().count()
            ),
        );
    }
    let warned: BTreeSet<String> = trials()
        .flat_map(|t| &t.validity)
        .filter(|c| c.status == Status::Warn)
        .map(|c| format!("{} {}", c.id, c.name))
        .collect();
    if !warned.is_empty() {
        let warned: Vec<String> = warned.into_iter().collect();
        add("Checks that warn", format!("{}: see the validity section.", warned.join(", ")));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::sample;

    #[test]
    fn what_is_known_is_said_and_nothing_else() {
        let mut record = sample::record();
        let terms = |r: &Record| of(&[r]).into_iter().map(|t| t.0).collect::<Vec<_>>();
        assert_eq!(
            terms(&record),
            [
                "Debug build",
                "Co-located generator",
                "Few cores",
                "Virtual machine",
                "Short runs",
                "Few runs",
                "Trials left out",
                "Checks that warn",
                "Scope"
            ]
        );
        record.tool.profile = "release".into();
        record.host.cpus = 64;
        record.host.virtualised = false;
        record.plan.trials = 10;
        record.plan.cases.iter_mut().for_each(|c| c.phases.measure = Span::secs(120));
        record
            .plan
            .systems
            .iter_mut()
            .for_each(|s| s.bring_up = BringUp::External { url: "nats://10.0.0.1:4222".into() });
        record.trials.iter_mut().for_each(|t| {
            t.validity.clear();
            t.system.url = "nats://10.0.0.1:4222".into();
        });
        assert_eq!(terms(&record), ["Scope"]);
    }
}
