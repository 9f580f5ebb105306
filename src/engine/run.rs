//! Rounds of trials, in seeded random order, each on a fresh system.

use std::io;
use std::path::Path;
use std::time::SystemTime;

use rand::SeedableRng;
use rand::rngs::StdRng;
use rand::seq::SliceRandom;

use crate::driver::jetstream::Jetstream;
use crate::driver::nats::Nats;
use crate::driver::null::Null;
use crate::driver::wire::Wire;
use crate::driver::{self, Driver};
#[cfg(feature = "kafka")]
use crate::driver::{bridge::Bridge, kafka::Kafka};
use crate::measure::doctor::{Disturbance, Root};
use crate::measure::hiccup::HiccupMeter;
use crate::record::{
    Interval, Ledger, Outcome, RunClock, Secrets, Skipped, SystemFacts, TaggedInterval, Trial, rfc3339,
};
use crate::scenario::options::{Options, unknown};
use crate::scenario::plan::{Address, BringUp, Case, DriverKind, Pacing, Plan, SystemSpec};
use crate::system::{self, Context, Running, System, SystemError};
use crate::units::now;

use super::fold::{Folded, Frame, fold};
use super::trial::{Raw, Setup, execute};
use super::{Interrupt, Tick};

/// Takes what a run produces, as it is produced.
pub trait Sink: Sync {
    /// A trial begins: its case, its round, its number and how many there are.
    fn begin(&self, case: &Case, round: u32, number: usize, of: usize);
    /// A sign of life.
    fn tick(&self, tick: Tick);
    /// A system is not put to the test.
    fn skip(&self, skipped: Skipped);
    /// A trial is over. An error ends the run.
    fn trial(&self, trial: TrialFiles) -> io::Result<()>;
}

/// A finished trial and what belongs into files of its own.
pub struct TrialFiles {
    /// For `run.json`.
    pub trial: Trial,
    /// For `intervals.csv`.
    pub intervals: Vec<Interval>,
    /// For the interval log.
    pub hlog: Vec<TaggedInterval>,
    /// Whether load was put on the system at all.
    pub began: bool,
    /// When the measured phase began.
    pub measured_at: SystemTime,
    /// The server's log, where the trial failed.
    pub server_log: Option<Vec<u8>>,
    /// The log of the faults that were injected, one JSON object a line.
    pub fault_log: Option<Vec<u8>>,
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

/// Checks the options of every system, before anything is started.
///
/// # Errors
/// The system and its option that does not fit, or that nobody reads, and what is allowed.
pub fn check(plan: &Plan) -> Result<(), SystemError> {
    for spec in &plan.systems {
        check_options(spec.driver, &spec.options)
            .map_err(|words| SystemError::Option { system: spec.name.clone(), words })?;
    }
    Ok(())
}

fn check_options(kind: DriverKind, options: &Options) -> Result<(), String> {
    for (part, own) in system::parts(kind, options)? {
        check_options(part, &own).map_err(|words| format!("`{}`: {words}", part.name()))?;
    }
    let launched = system::options(kind, options)?;
    let Some(mut known) = driver::options(kind, options)? else { return Ok(()) };
    known.extend(launched);
    unknown(options, kind.name(), &known).map_or(Ok(()), Err)
}

/// What must not be shown of a plan: the secrets in the options and addresses of its systems.
pub fn secrets(plan: &Plan) -> Secrets {
    fn of(kind: DriverKind, options: &Options, found: &mut Vec<String>) {
        // Options that do not fit are refused elsewhere.
        for (part, own) in system::parts(kind, options).unwrap_or_default() {
            of(part, &own, found);
        }
        found.extend(driver::secrets(kind, options));
        found.extend(system::secrets(kind, options));
    }
    let mut found = Vec::new();
    for spec in &plan.systems {
        of(spec.driver, &spec.options, &mut found);
        let BringUp::External { url } = &spec.bring_up else { continue };
        if spec.driver != DriverKind::Bridge {
            found.extend(Address::read(spec.driver, url).map(|a| a.secrets()).unwrap_or_default());
            continue;
        }
        for (kind, url) in [DriverKind::Nats, DriverKind::Kafka].into_iter().zip(url.split_whitespace()) {
            found.extend(Address::read(kind, url).map(|a| a.secrets()).unwrap_or_default());
        }
    }
    Secrets::new(found)
}

/// Executes every trial of a plan. `scratch` is a folder for the systems' files; each trial's is removed after it.
///
/// # Errors
/// When a required system cannot be launched, or this machine fails.
pub fn run(
    plan: &Plan,
    scratch: &Path,
    clocksource: &str,
    interrupt: &Interrupt,
    sink: &dyn Sink,
) -> Result<(), RunError> {
    let mut absent = vec![false; plan.systems.len()];
    let mut executed = vec![0; plan.systems.len()];
    for (i, spec) in plan.systems.iter().enumerate() {
        let context = Context { dir: scratch.to_path_buf(), timeout: std::time::Duration::from_secs(10) };
        if let Err(e) = system::create(spec, context) {
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
        if let Some(lack) = case.workloads.iter().find_map(|w| spec.driver.lacks(w)).filter(|_| !absent[case.system]) {
            absent[case.system] = true;
            let reason = format!("has no such feature: {lack}");
            sink.skip(Skipped { system: spec.name.clone(), reason, remedy: "use another system".into() });
        }
    }
    let cases: Vec<&Case> = plan.cases.iter().filter(|c| !absent[c.system]).collect();
    let mut random = StdRng::seed_from_u64(plan.seed);
    let clock = RunClock::start();
    let surroundings = Surroundings { clocksource, clock: &clock, interrupt, sink };
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
            let mut files = trial(plan, case, round, &dir, &surroundings);
            // What is left of the folder is of no use to anybody; the caller removes the scratch folder too.
            let _ = std::fs::remove_dir_all(&dir);
            executed[case.system] += 1;
            if let Outcome::Failed { phase, error } = &mut files.trial.outcome
                && phase == PREPARE
                && matches!(plan.systems[case.system].bring_up, BringUp::External { .. })
            {
                // Somebody else's system that is not there now is not there for the next trial either.
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

/// What is the same for all trials of a run.
struct Surroundings<'a> {
    clocksource: &'a str,
    clock: &'a RunClock,
    interrupt: &'a Interrupt,
    sink: &'a dyn Sink,
}

/// Whether the scenario asks for the bare protocol.
pub(super) fn by_wire(spec: &SystemSpec) -> bool {
    spec.options.get("client").and_then(|v| v.as_str()) == Some("wire")
}

fn spins(case: &Case, kind: DriverKind) -> bool {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let others = if kind == DriverKind::Null { 1 } else { case.threads.consume as usize + 2 };
    match case.pacing {
        Pacing::Spin => true,
        Pacing::Sleep => false,
        Pacing::Auto => cores >= case.threads.publish as usize + others,
    }
}

/// FNV-1a over the case and round, so that a trial's seed depends on the plan's seed and on nothing else.
fn seed_of(plan: &Plan, case: &Case, round: u32) -> u64 {
    let bytes = case.id.bytes().chain(round.to_le_bytes()).chain(plan.seed.to_le_bytes());
    bytes.fold(0xcbf2_9ce4_8422_2325, |h, b| (h ^ u64::from(b)).wrapping_mul(0x100_0000_01b3))
}

fn trial(plan: &Plan, case: &Case, round: u32, dir: &Path, around: &Surroundings<'_>) -> TrialFiles {
    let Surroundings { clocksource, clock, interrupt, sink } = *around;
    let mut spec: SystemSpec = plan.systems[case.system].clone();
    let stored = spec.driver == DriverKind::Reference && case.workloads.iter().any(|w| w.delivery.durable);
    if stored {
        spec.options.insert(system::reference::LOG.into(), true.into());
    }
    let spec = &spec;
    let started = clock.at(now());
    let seed = seed_of(plan, case, round);
    let spin = spins(case, spec.driver);
    let context = Context { dir: dir.to_path_buf(), timeout: case.phases.connect.duration() };
    let failed = |phase, error: String| (Raw { failed: Some((phase, error)), ..Raw::of(case) }, Vec::new());
    let mut running = Running::default();
    let mut logs = Vec::new();
    let mut fault_log = None;
    let (quiet, host) = (Root::host(), Disturbance::read(&Root::host()));
    let (raw, hiccups) = match system::create(spec, context) {
        Err(e) => failed(PREPARE, e.to_string()),
        Ok(mut system) => {
            let outcome = match system.start() {
                Err(e) => failed(PREPARE, e.to_string()),
                Ok(up) => {
                    running = up;
                    let tick = |t| sink.tick(t);
                    // The clients of the log half have a table of their own.
                    let of_log = spec.options.get("kafka").and_then(|v| v.as_object()).cloned().unwrap_or_default();
                    let options = if stored { &of_log } else { &spec.options };
                    let meter = HiccupMeter::start(case.phases.interval.0).ok();
                    let measured_from = |origin| {
                        if let Some(meter) = &meter {
                            meter.record_from(origin);
                        }
                    };
                    let setup = Setup {
                        case,
                        seed,
                        options,
                        spin,
                        running: &running,
                        interrupt,
                        events: &plan.events,
                        tick: &tick,
                        measured_from: &measured_from,
                    };
                    let raw = match spec.driver {
                        DriverKind::Null => execute::<Null>(&setup, system.as_mut()),
                        DriverKind::Jetstream => execute::<Jetstream>(&setup, system.as_mut()),
                        #[cfg(feature = "kafka")]
                        DriverKind::Reference if stored => execute::<Kafka>(&setup, system.as_mut()),
                        #[cfg(not(feature = "kafka"))]
                        DriverKind::Reference if stored => {
                            failed(PREPARE, "this build has no Kafka driver, which the log half needs".into()).0
                        }
                        DriverKind::Nats | DriverKind::Reference if by_wire(spec) => {
                            execute::<Wire>(&setup, system.as_mut())
                        }
                        DriverKind::Nats | DriverKind::Reference => execute::<Nats>(&setup, system.as_mut()),
                        #[cfg(feature = "kafka")]
                        DriverKind::Kafka => execute::<Kafka>(&setup, system.as_mut()),
                        #[cfg(feature = "kafka")]
                        DriverKind::Bridge if spec.options.get("from").is_some_and(|v| v == "jetstream") => {
                            execute::<Bridge<Jetstream>>(&setup, system.as_mut())
                        }
                        #[cfg(feature = "kafka")]
                        DriverKind::Bridge => execute::<Bridge<Nats>>(&setup, system.as_mut()),
                        #[cfg(not(feature = "kafka"))]
                        DriverKind::Kafka | DriverKind::Bridge => {
                            failed(PREPARE, "this build has no Kafka driver".into()).0
                        }
                    };
                    let hiccups = meter.map(HiccupMeter::stop).unwrap_or_default();
                    (raw, hiccups)
                }
            };
            let outcome = stop(system.as_mut(), outcome, &mut logs);
            fault_log = system.fault_log().and_then(|path| std::fs::read(path).ok());
            outcome
        }
    };
    let delivers = match spec.driver {
        DriverKind::Null => Null::DELIVERS,
        DriverKind::Jetstream | DriverKind::Nats | DriverKind::Reference | DriverKind::Kafka | DriverKind::Bridge => {
            true
        }
    };
    let frame = Frame { round, delivers, spin, clocksource, quantiles: &plan.percentiles };
    let folded = fold(&raw, case, hiccups, &frame);
    let mut guarantees = raw.facts.guarantees.clone();
    guarantees.extend(running.settings.iter().map(|(k, v)| (k.clone(), v.clone())));
    let outcome = match &raw.failed {
        Some((phase, error)) => Outcome::Failed { phase: (*phase).into(), error: error.clone() },
        None if raw.interrupted => Outcome::Partial,
        None if !raw.end_expected && !raw.arriving && !spec.options.contains_key("faults") => {
            nothing_came(&folded, &raw)
                .map_or(Outcome::Complete, |error| Outcome::Failed { phase: "measure".into(), error })
        }
        None => Outcome::Complete,
    };
    let failed = matches!(outcome, Outcome::Failed { .. });
    let server_log = if failed && !logs.is_empty() { Some(logs.concat()) } else { None };
    TrialFiles {
        began: raw.origin > 0,
        measured_at: if raw.origin > 0 { clock.at(raw.origin) } else { started },
        trial: Trial {
            case: case.id.clone(),
            round,
            seed,
            started_at: rfc3339(started),
            outcome,
            system: SystemFacts {
                version: raw.facts.version.clone(),
                url: running.url,
                client: raw.facts.client.clone(),
                guarantees,
            },
            pacing: if spin { "spin" } else { "sleep" }.into(),
            measured_ns: raw.measured,
            drained_ns: raw.drained,
            workloads: folded.workloads,
            broker: folded.broker,
            generator: folded.generator,
            disturbance: Disturbance::read(&quiet).since(&host),
            hiccup: folded.hiccup,
            // A load that never began leaves nothing to judge.
            validity: if raw.origin > 0 { folded.validity } else { Vec::new() },
            events: folded.events,
            hlog: None,
            server_log: None,
        },
        intervals: folded.intervals,
        hlog: folded.hlog,
        server_log,
        fault_log,
    }
}

/// Why a system that took messages and gave nothing back has failed: a full disk, say, or a limit.
fn nothing_came(folded: &Folded, raw: &Raw) -> Option<String> {
    let nothing = |l: &Ledger| l.expected > 0 && l.delivered == 0 && l.acked == 0;
    if folded.workloads.is_empty() || !folded.workloads.iter().all(|w| nothing(&w.ledger)) {
        return None;
    }
    let sent: u64 = folded.workloads.iter().map(|w| w.ledger.sent).sum();
    let words = raw.log.last().map(|(_, words)| format!(" (last words: {words})")).unwrap_or_default();
    Some(format!(
        "none of {sent} messages was acknowledged or arrived before the drain ended{words}; see the server's log, its disk and its limits"
    ))
}

type Outcomes = (Raw, Vec<crate::measure::hiccup::Interval>);

fn stop(system: &mut dyn System, (mut raw, hiccups): Outcomes, logs: &mut Vec<Vec<u8>>) -> Outcomes {
    if let Err(e) = system.stop() {
        raw.failed.get_or_insert(("tear-down", e.to_string()));
    }
    logs.extend(system.logs().iter().filter_map(|path| std::fs::read(path).ok()));
    (raw, hiccups)
}

#[cfg(test)]
mod tests {
    use super::*;
    use DriverKind::{Jetstream as Streams, Nats as Core, Reference};

    /// What `check` accepts has a schema, from which tests/secrets plants; the few names without one take no text
    /// that could be secret.
    #[test]
    fn every_option_that_is_accepted_has_a_schema() {
        for kind in [Core, Streams, Reference] {
            let none = Options::new();
            let mut known = driver::options(kind, &none).unwrap().unwrap();
            known.extend(system::options(kind, &none).unwrap());
            for shape in [driver::shape(kind), system::shape(kind)] {
                known.retain(|name| shape["properties"].get(name).is_none());
            }
            let flags = if kind == Reference { system::options(kind, &none).unwrap() } else { Vec::new() };
            assert!(known.iter().all(|name| flags.contains(name)), "{kind:?}: {known:?}");
        }
    }
}
