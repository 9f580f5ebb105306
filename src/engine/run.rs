//! Rounds of trials, in seeded random order, each on a fresh system.

use rand::SeedableRng;
use rand::rngs::StdRng;
use rand::seq::SliceRandom;

use crate::host::machine;
use crate::plan::{BringUp, Case, Plan, SystemSpec, SystemTypes};
use crate::record::{Calibration, Outcome, RunClock, Skipped};
use crate::system::scratch::Scratch;
use crate::system::{SystemContext, SystemError};
use crate::validity::{self, LimitsHeld};

use super::Interrupt;
use super::execute::{PREPARE, RunContext, in_folder};
use super::register::Register;
use super::search;
use super::sides::TrialSide;
use super::sink::{Conditions, RunError, RunSink};

/// Executes every trial of a plan with the systems of a register, in a temporary folder.
///
/// # Errors
/// When an option does not fit, a required system cannot be launched, or this machine fails.
pub fn run_with(plan: &Plan, register: &Register, sink: &dyn RunSink) -> Result<(), RunError> {
    register.check(plan).map_err(RunError::Required)?;
    let scratch = Scratch::new().map_err(|source| RunError::Io { action: "make a temporary folder", source })?;
    let host = machine::read();
    let interrupt = Interrupt::default();
    let conditions = Conditions {
        register,
        scratch: scratch.path(),
        clocksource: &host.clocksource,
        calibration: None,
        interrupt: &interrupt,
        taken_up: &[],
        done: &[],
        side: TrialSide::Alone,
    };
    run(plan, &conditions, sink)
}

/// Whether the calibration of this host trusts the generator with the schedules of a plan.
///
/// # Errors
/// The case whose schedule is above the highest trustworthy rate, and what to do.
pub fn trusts(plan: &Plan, calibration: &Calibration) -> Result<(), String> {
    validity::excess(&plan.cases, calibration).map_or(Ok(()), Err)
}

/// Executes every trial of a plan, and gives each to `sink` finished: folded, and judged by every
/// check.
///
/// # Errors
/// When a required system cannot be launched, or this machine fails.
pub fn run(plan: &Plan, conditions: &Conditions<'_>, sink: &dyn RunSink) -> Result<(), RunError> {
    let Conditions { register, scratch, interrupt, .. } = *conditions;
    let types = register.types();
    let mut absent = vec![false; plan.systems.len()];
    let mut executed = vec![0; plan.systems.len()];
    for (i, spec) in plan.systems.iter().enumerate() {
        let context =
            SystemContext { dir: scratch.to_path_buf(), timeout: std::time::Duration::from_secs(10), cpus: None };
        if let Err(e) = register.create(spec, context) {
            let SystemError::Unavailable { system, reason, remedy } = e.clone() else {
                return Err(RunError::Required(e));
            };
            if spec.require {
                return Err(RunError::Required(e));
            }
            absent[i] = true;
            sink.skip(Skipped { system, reason, remedy });
        }
    }
    for case in &plan.cases {
        let spec = plan.spec(case);
        if let Some(lack) = lacking(&types, spec, case).filter(|_| !absent[case.system]) {
            absent[case.system] = true;
            let reason = format!("has no such feature: {lack}");
            sink.skip(Skipped { system: spec.name.clone(), reason, remedy: "use another system".into() });
        }
    }
    let cases: Vec<&Case> = plan.cases.iter().filter(|c| !absent[c.system]).collect();
    let mut random = StdRng::seed_from_u64(plan.seed);
    let clock = RunClock::start();
    let held = plan.search.as_ref().map(|s| LimitsHeld { limits: &s.limits, confidence: s.confidence });
    let run_context = RunContext { conditions, clock: &clock, sink, held };
    if let Some(wanted) = &plan.search {
        return search::run(plan, wanted, &cases, &run_context, &mut random);
    }
    let mut of = cases.len() * plan.trials as usize;
    let mut number = 0;
    for round in 1..=plan.trials {
        let mut order = cases.clone();
        order.shuffle(&mut random);
        for case in order {
            if interrupt.count() > 0 {
                return Ok(());
            }
            if absent[case.system] {
                continue;
            }
            number += 1;
            if conditions.done.iter().any(|(r, id)| *r == round && *id == case.id) {
                executed[case.system] += 1;
                continue;
            }
            sink.begin(case, round, number, of);
            let mut files = in_folder(plan, case, round, number, &run_context)?;
            executed[case.system] += 1;
            if let Outcome::Failed { phase, error } = &mut files.trial.outcome
                && phase == PREPARE
                && matches!(plan.systems[case.system].bring_up, BringUp::External { .. })
            {
                // Somebody else's system that is not there now is not there for the next trial
                // either.
                absent[case.system] = true;
                let planned = cases.iter().filter(|c| c.system == case.system).count() * plan.trials as usize;
                let left = planned - executed[case.system];
                of -= left;
                error.push_str(&match left {
                    0 => String::new(),
                    1 => "; its other trial is skipped".to_owned(),
                    n => format!("; its other {n} trials are skipped"),
                });
            }
            sink.trial(files).map_err(|source| RunError::Io { action: "write the result", source })?;
        }
    }
    Ok(())
}

/// What a case asks for and its system does not have.
fn lacking(types: &SystemTypes, spec: &SystemSpec, case: &Case) -> Option<&'static str> {
    case.workloads.iter().find_map(|w| types.lacks(&spec.driver, w))
}
