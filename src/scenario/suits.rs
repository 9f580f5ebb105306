//! What a system cannot do of what a scenario asks: features that its type lacks, and options that
//! stand against a workload.

use crate::plan::options::{OptionError, SystemOptions, misfits};
use crate::plan::problem::{KEPT_DOT, Problem, Problems};
use crate::plan::{BringUp, Case, DeliverySpec, Keys, Places, Plan, SystemSpec, SystemType, SystemTypes, Workload};

/// A system that a run leaves out, and where the scenario asks for what it lacks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unsuited {
    /// Index into the systems of the plan.
    pub system: usize,
    /// What it lacks.
    pub lack: &'static str,
    /// The key that asks for it.
    pub path: String,
}

/// The systems of a plan that lack what it asks for.
pub fn unsuited(plan: &Plan, types: &SystemTypes) -> Vec<Unsuited> {
    lacking(&plan.systems, &plan.cases, types)
}

fn lacking(systems: &[SystemSpec], cases: &[Case], types: &SystemTypes) -> Vec<Unsuited> {
    let of = |(i, spec): (usize, &SystemSpec)| {
        let workloads = cases.iter().filter(|c| c.system == i).flat_map(|c| c.workloads.iter().enumerate());
        let mut lacks = workloads.filter_map(|(n, w)| Some((n, w, types.lacks(&spec.driver, w)?)));
        lacks.next().map(|(n, w, lack)| {
            let path = format!("workload.{n}.{}", asked_by(w, |w| types.lacks(&spec.driver, w)));
            Unsuited { system: i, lack, path }
        })
    };
    systems.iter().enumerate().filter_map(of).collect()
}

/// The key without which a workload would not ask for what is lacking.
fn asked_by(w: &Workload, lacks: impl Fn(&Workload) -> Option<&'static str>) -> &'static str {
    let lack = lacks(w);
    let other = |change: &dyn Fn(&mut Workload)| {
        let mut other = w.clone();
        change(&mut other);
        lacks(&other) != lack
    };
    let without = |change: &dyn Fn(&mut DeliverySpec)| other(&|w| change(&mut w.delivery));
    // A stream is stored because it is one.
    let stored = w.pattern.stored();
    match () {
        () if other(&|w| w.target = None) => "target",
        () if other(&|w| w.at = Places::default()) => "at",
        () if other(&|w| w.intruders = 0) => "intruders",
        () if other(&|w| w.idle_connections = 0) => "idle-connections",
        () if without(&|d| d.dead_every = 0) => "delivery.dead-every",
        () if without(&|d| d.reject_every = 0) => "delivery.reject-every",
        () if without(&|d| d.keep = None) => "delivery.keep",
        () if without(&|d| d.slow = None) => "delivery.slow",
        () if without(&|d| d.keys = Keys::None) => "delivery.keys",
        () if !stored && without(&|d| d.durable = false) => "delivery.durable",
        () => "pattern",
    }
}

/// Refuses a scenario that no system, or not one that is required, is suited to; and options that
/// stand against a workload.
pub(super) fn check(systems: &[SystemSpec], cases: &[Case], types: &SystemTypes, problems: &mut Problems) {
    let lacking = lacking(systems, cases, types);
    let none_left = lacking.len() == systems.len();
    for it in lacking.iter().filter(|it| none_left || systems[it.system].require) {
        let spec = &systems[it.system];
        let message = format!("{} cannot do this: {}", spec.name, it.lack);
        problems.add(Problem::new(&it.path, message).hint(instead(it, cases, types)));
    }
    for (i, spec) in systems.iter().enumerate() {
        // Options that do not fit have been told, and a system that is left out is not asked.
        let external = matches!(spec.bring_up, BringUp::External { .. });
        if lacking.iter().any(|it| it.system == i) || types.check(&spec.driver, &spec.options, external).is_err() {
            continue;
        }
        for case in cases.iter().filter(|c| c.system == i) {
            let check = |options: &_| types.suits(&spec.driver, options, &case.workloads);
            option_problems(i, case.changed.as_ref().unwrap_or(spec), check, problems);
        }
    }
}

/// What to write instead: the drivers that can do it, or what not to ask for.
fn instead(it: &Unsuited, cases: &[Case], types: &SystemTypes) -> String {
    let asked = cases.iter().filter(|c| c.system == it.system).flat_map(|c| &c.workloads);
    let asked: Vec<&Workload> = asked.collect();
    let one = |t: &SystemType| t.parts.as_ref().is_none_or(|p| p.of(&SystemOptions::new()).is_ok_and(|p| p.is_empty()));
    let able = types.0.iter().filter(|t| t.external && t.present && one(t));
    let able = able.filter(|t| asked.iter().all(|w| t.lacking(w).is_none()));
    let able: Vec<String> = able.map(|t| format!("\"{}\"", t.name)).collect();
    let key = it.path.splitn(3, '.').nth(2).unwrap_or_default();
    let otherwise = if key == "pattern" { "use another pattern".to_owned() } else { format!("remove `{key}`") };
    match able.as_slice() {
        [] => otherwise,
        _ => format!("write driver = {}, or {otherwise}", able.join(" or ")),
    }
}

/// Checks the options of a system, each mistake at its key.
pub(super) fn check_options(i: usize, spec: &SystemSpec, types: &SystemTypes, problems: &mut Problems) {
    let external = matches!(spec.bring_up, BringUp::External { .. });
    option_problems(i, spec, |options| types.check(&spec.driver, options, external), problems);
}

fn option_problems(
    i: usize,
    spec: &SystemSpec,
    check: impl Fn(&SystemOptions) -> Result<(), OptionError>,
    problems: &mut Problems,
) {
    for (path, error) in misfits(&spec.options, check) {
        let path = path.iter().map(|key| format!(".{}", key.replace('.', KEPT_DOT))).collect::<String>();
        let message = format!("{}: {}", spec.name, error.words);
        problems.add(Problem {
            path: format!("system.{i}.options{path}"),
            message,
            hint: error.hint,
            beside: Vec::new(),
        });
    }
}
