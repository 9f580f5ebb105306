//! One trial: a system is brought up, driven, and taken down again.

use std::path::Path;

use crate::host::doctor::{Disturbance, FileSystemRoot};
use crate::measure::hiccup::{HiccupInterval, HiccupMeter};
use crate::plan::{Action, Case, Pacing, Plan};
use crate::record::{Outcome, RunClock};
use crate::system::{CpuLimit, Running, System, SystemContext, cpus};
use crate::units::now;
use crate::validity::LimitsHeld;

use super::finish::{About, TrialFiles, finish};
use super::fold::FoldContext;
use super::network;
use super::raw::RawTrial;
use super::register::Choice;
use super::setup::TrialSetup;
use super::sides::{TrialOrder, TrialSide};
use super::sink::{Conditions, RunError, RunSink};

/// The phase in which a system is brought up, or looked for.
pub(super) const PREPARE: &str = "prepare";

/// What all trials of a run share.
pub(super) struct RunContext<'a> {
    pub conditions: &'a Conditions<'a>,
    pub clock: &'a RunClock,
    pub sink: &'a dyn RunSink,
    /// What a search holds each trial to.
    pub held: Option<LimitsHeld<'a>>,
}

/// Makes a trial in a folder of its own, which is removed after it.
pub(super) fn in_folder(
    plan: &Plan,
    case: &Case,
    round: u32,
    number: usize,
    around: &RunContext<'_>,
) -> Result<TrialFiles, RunError> {
    if let TrialSide::Coordinator(coordinator) = around.conditions.side {
        coordinator.fit().map_err(RunError::Agents)?;
    }
    let dir = around.conditions.scratch.join(format!("{number}"));
    std::fs::create_dir_all(&dir).map_err(|source| RunError::Io { action: "make a folder for the server", source })?;
    let mut files = trial(plan, case, round, &dir, around);
    if around.conditions.interrupt.count() > 0 {
        files.cut();
    }
    // What is left of the folder is of no use to anybody; the caller removes the scratch folder
    // too.
    let _ = std::fs::remove_dir_all(&dir);
    Ok(files)
}

pub(super) fn spins(case: &Case, delivers: bool) -> bool {
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

/// Starts a system, on files that can lose their power where that is to happen, and each of its
/// nodes in a network of its own where one is to be cut off alone. Notes how long the start took.
fn start(plan: &Plan, system: &mut dyn System) -> Result<Running, String> {
    if plan.events.iter().any(|e| e.action == Action::Power) {
        system.on_power()?;
    }
    if plan.events.iter().any(|e| e.alone) {
        network::separated()?;
        system.isolate()?;
    }
    let began = now();
    let up = system.start().map_err(|e| e.to_string())?;
    let start = (!up.pids.is_empty()).then(|| now().saturating_sub(began));
    Ok(Running { start, ..up })
}

fn trial(plan: &Plan, case: &Case, round: u32, dir: &Path, around: &RunContext<'_>) -> TrialFiles {
    let RunContext { conditions, clock, sink, held } = *around;
    let Conditions { register, clocksource, calibration, interrupt, .. } = *conditions;
    let spec = plan.spec(case);
    let cpus = cpus::limit(spec);
    let choice = register.choose(spec, &case.workloads);
    let delivers = choice.as_ref().map_or(true, |c| c.client.delivers);
    let started = clock.at(now());
    let seed = seed_of(plan, case, round);
    let spin = spins(case, delivers);
    let context = SystemContext {
        dir: dir.to_path_buf(),
        timeout: case.phases.connect.duration(),
        cpus: cpus.clone().ok().flatten(),
    };
    let failed = |phase, error: String| (RawTrial { failed: Some((phase, error)), ..RawTrial::of(case) }, Vec::new());
    let mut running = Running::default();
    let mut logs = Vec::new();
    let mut fault_log = None;
    let (quiet, host) = (FileSystemRoot::host(), Disturbance::read(&FileSystemRoot::host()));
    let made = cpus.clone().and(choice).and_then(|choice| {
        let system = register.create(&choice.spec, context).map_err(|e| e.to_string())?;
        Ok((choice, system))
    });
    let (mut raw, hiccups) = match made {
        Err(words) => failed(PREPARE, words),
        Ok((Choice { client, options, .. }, mut system)) => {
            let bound = |up| bound(up, cpus.as_ref().ok().and_then(|c| c.as_deref()));
            let outcome = match start(plan, system.as_mut()).and_then(bound) {
                Err(e) => failed(PREPARE, e),
                Ok(up) => {
                    running = up;
                    let tick = |t| sink.tick(t);
                    let meter = HiccupMeter::start(case.phases.interval.0).ok();
                    let measured_from = |origin| meter.iter().for_each(|m| m.record_from(origin));
                    let setup = TrialSetup {
                        case,
                        seed,
                        options: &options,
                        spin,
                        running: &running,
                        interrupt,
                        events: &plan.events,
                        reconnect: plan.outage.reconnect,
                        deadline: plan.outage_deadline().map(|deadline| deadline.0),
                        side: conditions.side,
                        order: matches!(conditions.side, TrialSide::Coordinator(_))
                            .then(|| order(plan, case, (round, seed), &running)),
                        tick: &tick,
                        measured_from: &measured_from,
                    };
                    let raw = (client.execute)(&setup, system.as_mut());
                    where_load_ran(conditions.side, raw, meter.map(HiccupMeter::stop).unwrap_or_default())
                }
            };
            let outcome = stop(system.as_mut(), outcome, &mut logs);
            fault_log = system.fault_log().and_then(|path| std::fs::read(path).ok());
            outcome
        }
    };
    let disturbance = [Disturbance::read(&quiet).since(&host), std::mem::take(&mut raw.agent_disturbance)].concat();
    let spin = if raw.agents.is_empty() { spin } else { raw.agents_spun };
    let about = About {
        case,
        seed,
        started,
        clock,
        frame: FoldContext { round, delivers, spin, clocksource, quantiles: &plan.percentiles, events: &plan.events },
        calibration,
        running,
        told_to_fail: spec.options.contains_key("faults"),
        disturbance,
        held,
    };
    let mut files = finish(&raw, hiccups, about);
    let failed = matches!(files.trial.outcome, Outcome::Failed { .. });
    files.server_log = (failed && !logs.is_empty()).then(|| logs.concat());
    files.fault_log = fault_log;
    files
}

/// Pauses where load ran: only there they are in the figures.
fn where_load_ran(side: TrialSide<'_>, mut raw: RawTrial, own: Vec<HiccupInterval>) -> TrialOutcomes {
    let hiccups = match side {
        TrialSide::Coordinator(_) => std::mem::take(&mut raw.agent_hiccups).into_all().into_iter().collect(),
        TrialSide::Alone | TrialSide::Agent(_) => own,
    };
    (raw, hiccups)
}

/// What agents need for a trial.
fn order(plan: &Plan, case: &Case, (round, seed): (u32, u64), running: &Running) -> TrialOrder {
    TrialOrder {
        number: 0,
        round,
        case: case.clone(),
        system: plan.spec(case).clone(),
        reconnect: plan.outage.reconnect,
        seed,
        url: running.url.clone(),
        places: running.places.clone(),
        client: running.client.clone(),
        events: plan.events.clone(),
        deadline: plan.outage_deadline().map(|deadline| deadline.0),
        intruders: running.intruders.clone(),
    }
}

/// Of a system whose processor time is bounded, what the kernel says of that.
fn bound(mut up: Running, cpus: Option<&CpuLimit>) -> Result<Running, String> {
    if let Some(limit) = cpus {
        let pids: Vec<u32> = up.pids.iter().copied().chain(up.application).collect();
        up.settings.insert("cpus".to_owned(), limit.read_back(&pids)?);
    }
    Ok(up)
}

type TrialOutcomes = (RawTrial, Vec<HiccupInterval>);

fn stop(system: &mut dyn System, (mut raw, hiccups): TrialOutcomes, logs: &mut Vec<Vec<u8>>) -> TrialOutcomes {
    if let Err(e) = system.stop() {
        raw.failed.get_or_insert(("tear-down", e.to_string()));
    }
    logs.extend(system.logs().iter().filter_map(|path| std::fs::read(path).ok()));
    (raw, hiccups)
}
