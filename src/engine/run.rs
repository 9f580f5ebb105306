//! Rounds of trials, in seeded random order, each on a fresh system.

use std::io;
use std::path::Path;

use rand::SeedableRng;
use rand::rngs::StdRng;
use rand::seq::SliceRandom;

use crate::host::doctor::{Disturbance, FileSystemRoot};
use crate::host::machine;
use crate::measure::hiccup::HiccupMeter;
use crate::plan::{BringUp, Case, Pacing, Plan, SystemSpec, SystemTypes};
use crate::record::{Calibration, Outcome, RunClock, Skipped};
use crate::system::scratch::Scratch;
use crate::system::{Running, System, SystemContext, SystemError};
use crate::units::now;
use crate::validity;

use super::finish::{About, TrialFiles, finish};
use super::fold::FoldContext;
use super::raw::RawTrial;
use super::register::{Choice, Register};
use super::setup::TrialSetup;
use super::{Interrupt, Tick};

/// Takes what a run produces, as it is produced.
pub trait RunSink: Sync {
    /// A trial begins: its case, its round, its number and how many there are.
    fn begin(&self, case: &Case, round: u32, number: usize, of: usize);
    fn tick(&self, tick: Tick);
    /// A system is not put to the test.
    fn skip(&self, skipped: Skipped);
    /// A trial is over. An error ends the run.
    fn trial(&self, trial: TrialFiles) -> io::Result<()>;
}

/// Why a run ended early.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// A system that was asked for is not there.
    #[error("{0}")]
    Required(SystemError),
    /// Something of this machine failed.
    #[error("cannot {action}: {source}")]
    Io {
        /// What was tried.
        action: &'static str,
        /// Why it failed.
        source: io::Error,
    },
}

/// Under what conditions a plan is executed.
#[derive(Debug, Clone, Copy)]
pub struct Conditions<'a> {
    /// The types of systems there are.
    pub register: &'a Register,
    /// A folder for the systems' files; each trial's is removed after it.
    pub scratch: &'a Path,
    /// What the kernel tells the time with; recorded.
    pub clocksource: &'a str,
    /// The newest calibration of this host by this build, where there is one: each trial is held
    /// against it.
    pub calibration: Option<&'a Calibration>,
    /// The user's wish to stop.
    pub interrupt: &'a Interrupt,
}

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
        let context = SystemContext { dir: scratch.to_path_buf(), timeout: std::time::Duration::from_secs(10) };
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
        let spec = &plan.systems[case.system];
        if let Some(lack) = lacking(&types, spec, case).filter(|_| !absent[case.system]) {
            absent[case.system] = true;
            let reason = format!("has no such feature: {lack}");
            sink.skip(Skipped { system: spec.name.clone(), reason, remedy: "use another system".into() });
        }
    }
    let cases: Vec<&Case> = plan.cases.iter().filter(|c| !absent[c.system]).collect();
    let mut random = StdRng::seed_from_u64(plan.seed);
    let clock = RunClock::start();
    let run_context = RunContext { conditions, clock: &clock, sink };
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
            sink.begin(case, round, number, of);
            let dir = scratch.join(format!("{number}"));
            std::fs::create_dir_all(&dir)
                .map_err(|source| RunError::Io { action: "make a folder for the server", source })?;
            let mut files = trial(plan, case, round, &dir, &run_context);
            // What is left of the folder is of no use to anybody; the caller removes the scratch
            // folder too.
            let _ = std::fs::remove_dir_all(&dir);
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

/// The phase in which a system is brought up, or looked for.
const PREPARE: &str = "prepare";

/// What all trials of a run share.
struct RunContext<'a> {
    conditions: &'a Conditions<'a>,
    clock: &'a RunClock,
    sink: &'a dyn RunSink,
}

/// What a case asks for and its system does not have.
fn lacking(types: &SystemTypes, spec: &SystemSpec, case: &Case) -> Option<&'static str> {
    case.workloads.iter().find_map(|w| types.lacks(&spec.driver, w))
}

fn spins(case: &Case, delivers: bool) -> bool {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let others = if delivers { case.threads.consume as usize + 2 } else { 1 };
    match case.pacing {
        Pacing::Spin => true,
        Pacing::Sleep => false,
        Pacing::Auto => cores >= case.threads.publish as usize + others,
    }
}

/// FNV-1a over the case and round, so that a trial's seed depends on the plan's seed and on nothing
/// else.
fn seed_of(plan: &Plan, case: &Case, round: u32) -> u64 {
    let bytes = case.id.bytes().chain(round.to_le_bytes()).chain(plan.seed.to_le_bytes());
    bytes.fold(0xcbf2_9ce4_8422_2325, |h, b| (h ^ u64::from(b)).wrapping_mul(0x100_0000_01b3))
}

fn trial(plan: &Plan, case: &Case, round: u32, dir: &Path, around: &RunContext<'_>) -> TrialFiles {
    let RunContext { conditions, clock, sink } = *around;
    let Conditions { register, clocksource, calibration, interrupt, .. } = *conditions;
    let spec = &plan.systems[case.system];
    let choice = register.choose(spec, &case.workloads);
    let delivers = choice.as_ref().map_or(true, |c| c.client.delivers);
    let started = clock.at(now());
    let seed = seed_of(plan, case, round);
    let spin = spins(case, delivers);
    let context = SystemContext { dir: dir.to_path_buf(), timeout: case.phases.connect.duration() };
    let failed = |phase, error: String| (RawTrial { failed: Some((phase, error)), ..RawTrial::of(case) }, Vec::new());
    let mut running = Running::default();
    let mut logs = Vec::new();
    let mut fault_log = None;
    let (quiet, host) = (FileSystemRoot::host(), Disturbance::read(&FileSystemRoot::host()));
    let made = choice.and_then(|choice| {
        let system = register.create(&choice.spec, context).map_err(|e| e.to_string())?;
        Ok((choice, system))
    });
    let (raw, hiccups) = match made {
        Err(words) => failed(PREPARE, words),
        Ok((Choice { client, options, .. }, mut system)) => {
            let outcome = match system.start() {
                Err(e) => failed(PREPARE, e.to_string()),
                Ok(up) => {
                    running = up;
                    let tick = |t| sink.tick(t);
                    let meter = HiccupMeter::start(case.phases.interval.0).ok();
                    let measured_from = |origin| {
                        if let Some(meter) = &meter {
                            meter.record_from(origin);
                        }
                    };
                    let setup = TrialSetup {
                        case,
                        seed,
                        options: &options,
                        spin,
                        running: &running,
                        interrupt,
                        events: &plan.events,
                        tick: &tick,
                        measured_from: &measured_from,
                    };
                    let raw = (client.execute)(&setup, system.as_mut());
                    let hiccups = meter.map(HiccupMeter::stop).unwrap_or_default();
                    (raw, hiccups)
                }
            };
            let outcome = stop(system.as_mut(), outcome, &mut logs);
            fault_log = system.fault_log().and_then(|path| std::fs::read(path).ok());
            outcome
        }
    };
    let about = About {
        case,
        seed,
        started,
        clock,
        frame: FoldContext { round, delivers, spin, clocksource, quantiles: &plan.percentiles, events: &plan.events },
        calibration,
        running,
        told_to_fail: spec.options.contains_key("faults"),
        disturbance: Disturbance::read(&quiet).since(&host),
    };
    let mut files = finish(&raw, hiccups, about);
    let failed = matches!(files.trial.outcome, Outcome::Failed { .. });
    files.server_log = (failed && !logs.is_empty()).then(|| logs.concat());
    files.fault_log = fault_log;
    files
}

type TrialOutcomes = (RawTrial, Vec<crate::measure::hiccup::HiccupInterval>);

fn stop(system: &mut dyn System, (mut raw, hiccups): TrialOutcomes, logs: &mut Vec<Vec<u8>>) -> TrialOutcomes {
    if let Err(e) = system.stop() {
        raw.failed.get_or_insert(("tear-down", e.to_string()));
    }
    logs.extend(system.logs().iter().filter_map(|path| std::fs::read(path).ok()));
    (raw, hiccups)
}
