//! What the names in `[gate]` and `[[expect]]` may refer to. A name that nothing answers to is a
//! mistake where it was written: a limit that applies to nothing would be kept by everything.

use crate::plan::metric::{Metric, Quantity, Statistic, quantile_name};
use crate::plan::problem::{Problem, suggest};
use crate::plan::search::Parameter;
use crate::plan::{BringUp, Case, Load, Plan, SystemSpec, SystemType, SystemTypes, Workload};

/// What there is in a plan.
#[derive(Debug, Clone, Copy)]
pub(super) struct KnownNames<'a> {
    pub types: &'a SystemTypes,
    /// The systems that are run.
    pub systems: &'a [SystemSpec],
    /// Systems that the scenario has and this run does not, because the command line chooses
    /// others.
    pub left_out: &'a [String],
    pub cases: &'a [Case],
    pub percentiles: &'a [f64],
    pub search: Searched,
    /// Whether anything is done to the systems.
    pub events: bool,
    /// Whether the cases say what is measured. Those of another tool's result do not.
    pub by_pattern: bool,
}

/// What a plan searches for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Searched {
    Nothing,
    Rate,
    /// Another setting, whose values are listed.
    Listed,
}

impl Searched {
    fn of(plan: &Plan) -> Self {
        match plan.search.as_ref().map(|s| &s.parameter) {
            None => Self::Nothing,
            Some(Parameter::Rate { .. }) => Self::Rate,
            Some(Parameter::Listed { .. }) => Self::Listed,
        }
    }
}

/// How many of the cases that a metric applies to must have it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum CaseScope {
    /// Each: it decides there.
    Each,
    /// At least one: it only says how much matters.
    Any,
}

impl<'a> KnownNames<'a> {
    pub fn of(plan: &'a Plan, types: &'a SystemTypes, by_pattern: bool) -> Self {
        Self {
            types,
            systems: &plan.systems,
            left_out: &[],
            cases: &plan.cases,
            percentiles: &plan.percentiles,
            search: Searched::of(plan),
            events: !plan.events.is_empty(),
            by_pattern,
        }
    }

    /// Whether there is a system of this name.
    pub fn system(&self, path: String, name: &str) -> Result<(), Problem> {
        let names: Vec<&str> =
            self.systems.iter().map(|s| s.name.as_str()).chain(self.left_out.iter().map(String::as_str)).collect();
        if names.contains(&name) {
            return Ok(());
        }
        Err(hinted(Problem::new(path, format!("there is no system `{}`", name.escape_debug())), name, &names))
    }

    /// Whether the metric is measured where it applies: at all systems, or at the one that is
    /// named.
    pub fn metric(&self, path: &str, metric: &Metric, system: Option<&str>, of: CaseScope) -> Result<(), Problem> {
        if metric.quantity == Quantity::Capacity {
            return self.capacity(path, metric);
        }
        if let Some(wanted) = metric.workload.as_deref() {
            let mut names: Vec<&str> = self.cases.iter().flat_map(|c| &c.workloads).map(|w| w.name.as_str()).collect();
            names.sort_unstable();
            names.dedup();
            if !names.contains(&wanted) {
                let problem = Problem::new(path, format!("there is no workload `{}`", wanted.escape_debug()));
                return Err(hinted(problem, wanted, &names));
            }
        }
        if let Some(q) = metric.quantity.quantile().filter(|q| !self.percentiles.iter().any(|p| (p - q).abs() < 1e-9)) {
            let list: Vec<String> = self.percentiles.iter().map(|p| quantile_name(*p)).collect();
            return Err(Problem::new(
                path,
                format!("{} is not among the percentiles of the run, {}", quantile_name(q), list.join(", ")),
            )
            .hint(format!("add {q} to run.percentiles")));
        }
        if self.by_pattern { self.measured(path, metric, system, of) } else { Ok(()) }
    }

    /// Whether there is a search that finds a capacity.
    fn capacity(&self, path: &str, metric: &Metric) -> Result<(), Problem> {
        let problem = |why: &str, hint: &str| Err(Problem::new(path, why.to_owned()).hint(hint));
        match self.search {
            _ if metric.workload.is_some() => {
                problem("the capacity is one of all workloads together", "write `capacity` without a workload")
            }
            // Where a part could not be read, nobody knows what is searched.
            Searched::Nothing if self.by_pattern => problem(
                "nothing is searched, so that no `capacity` is found",
                "add `[search]` with its limits, or remove it",
            ),
            Searched::Listed => problem(
                "the search varies a listed setting, and `capacity` is a rate",
                "search the rate (no `search.parameter`), or remove it",
            ),
            Searched::Nothing | Searched::Rate => Ok(()),
        }
    }

    fn measured(&self, path: &str, metric: &Metric, system: Option<&str>, of: CaseScope) -> Result<(), Problem> {
        let mut first = None;
        let mut some = false;
        for case in self.cases {
            let Some(spec) = self.systems.get(case.system).filter(|s| system.is_none_or(|name| s.name == name)) else {
                continue;
            };
            // A record may name a type that this build does not have: nothing is ruled out then.
            let of_type = self.types.get(&spec.driver).cloned().unwrap_or(SystemType::new("", ""));
            // What a driver cannot do at all is said when the run skips it.
            let streams = case.workloads.iter().filter(|w| self.types.lacks(&spec.driver, w).is_none());
            for w in streams.filter(|w| metric.workload.as_ref().is_none_or(|name| *name == w.name)) {
                match lack(&metric.quantity, w, spec, (&of_type, self.events)) {
                    None => some = true,
                    Some(found) => first = first.or(Some((found, spec, w, case.workloads.len() > 1))),
                }
            }
        }
        match first {
            Some((why, spec, w, several)) if of == CaseScope::Each || !some => {
                let at = if several { format!("{} of {}", w.name, spec.name) } else { spec.name.clone() };
                Err(Problem::new(path, format!("`{metric}` is never measured at {at}: {}", why.0)).hint(why.1))
            }
            _ => Ok(()),
        }
    }
}

fn hinted(problem: Problem, wrong: &str, valid: &[&str]) -> Problem {
    match suggest(wrong, valid) {
        Some(hint) => problem.hint(hint),
        None => problem,
    }
}

/// Why a quantity is never measured for a workload of a system, and what to write instead; `None`
/// where it can be.
fn lack(
    quantity: &Quantity,
    w: &Workload,
    spec: &SystemSpec,
    (of_type, events): (&SystemType, bool),
) -> Option<(String, String)> {
    let because = |why: String, hint: &str| Some((why, hint.to_string()));
    let pattern = w.pattern.name();
    match quantity {
        Quantity::Latency(kind, statistic) => latency(kind, *statistic, w, of_type),
        Quantity::Replay(_) if w.delivery.backlog == 0 => {
            because(format!("{pattern} reads no backlog"), "use `pattern = \"replay\"`, or remove it")
        }
        Quantity::Kept(_) if w.delivery.keep.is_none() => {
            because(format!("nothing says what is to be kept of this {pattern}"), "set `delivery.keep`, or remove it")
        }
        Quantity::Outage(_) if !events => {
            because("nothing is done to the system".into(), "write an [[event]], or remove it")
        }
        Quantity::Outage(_) if !matches!(w.load, Load::Open { .. }) => because(
            "without a schedule no message is late".into(),
            "give the workload a rate instead of a `load.mode`, or remove it",
        ),
        Quantity::Broker(_) if matches!(spec.bring_up, BringUp::External { .. }) => because(
            "a system that is already running has no process of ours to look at".into(),
            "remove it, or let msgbench start the system (no `url`)",
        ),
        Quantity::Broker(_) if !of_type.processes => {
            because(format!("the {} driver has no broker", of_type.name), "remove it, or name another `system`")
        }
        Quantity::Ledger(field) => match field.as_str() {
            "rejected" | "dead_lettered" if w.delivery.reject_every == 0 && w.delivery.dead_every == 0 => because(
                format!("no message of this {pattern} is rejected"),
                "set `delivery.reject-every` or `delivery.dead-every`, or remove it",
            ),
            "superseded" if w.delivery.history == 0 => {
                because(format!("{pattern} has no key-value store"), "use `pattern = \"key-value\"`, or remove it")
            }
            "intrusions" | "intrusions_refused" | "let_in" if w.intruders == 0 => {
                because(format!("nobody tries to get into this {pattern}"), "set `intruders`, or remove it")
            }
            "redelivered" | "acked_lost" if !w.delivery.durable && !of_type.acks_unstored => {
                because("nothing is stored or acknowledged".into(), "set `delivery.durable = true`, or remove it")
            }
            _ => None,
        },
        _ => None,
    }
}

fn latency(kind: &str, statistic: Statistic, w: &Workload, of_type: &SystemType) -> Option<(String, String)> {
    let (family, part) = kind.split_once('.').map_or((kind, None), |(family, part)| (family, Some(part)));
    let pattern = w.pattern.name();
    let headline = w.topology.latency_name(of_type.delivers);
    let because = |why: String, hint: String| Some((why, hint));
    let instead = |what: &str| format!("write `{what}.{statistic}`");
    match family {
        "rtt" | "e2e" if family != headline => {
            let why = match headline {
                "rtt" => format!("{pattern} waits for answers"),
                "e2e" => format!("{pattern} has no answers"),
                _ => "nothing is delivered".into(),
            };
            return because(why, instead(headline));
        }
        "ack" if headline != "ack" && w.topology.reply => {
            return because(format!("{pattern} waits for answers, which are `rtt`"), instead("rtt"));
        }
        "ack" if !of_type.acks_unstored && !w.delivery.durable => {
            return because(
                format!("{} acknowledges nothing that it does not store", of_type.name),
                format!("{}, or set `delivery.durable = true`", instead(headline)),
            );
        }
        _ => {}
    }
    let open = matches!(w.load, Load::Open { .. });
    match part {
        None if !open && matches!(family, "e2e" | "rtt" | "ack" | "lag") && of_type.delivers => because(
            "the load has no schedule, so no message is due at an instant".into(),
            if family == "lag" {
                "remove it, or set `mode = \"open\"`".into()
            } else {
                instead(&format!("{family}.service"))
            },
        ),
        Some("slow") if w.delivery.slow.is_none() || family != headline => {
            because("no consumer is slow".into(), "set `delivery.slow`, or remove it".into())
        }
        Some(window)
            if window.ends_with("-replay") && (w.delivery.backlog == 0 || !matches!(family, "e2e" | "ack")) =>
        {
            because(format!("{pattern} reads no backlog"), "use `pattern = \"replay\"`, or remove it".into())
        }
        Some("same-agent") if family != "e2e" => because(
            format!("each `{family}` is read off one clock, whatever the agent"),
            format!("write `{family}.{statistic}`"),
        ),
        Some("service") if family == "lag" || family == "hiccup" => {
            because(format!("`{family}` has no uncorrected twin"), format!("write `{family}.{statistic}`"))
        }
        _ => None,
    }
}
