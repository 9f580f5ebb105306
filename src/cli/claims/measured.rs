//! Runs a measurement: `msgbench run` as a process of its own, so that each starts on a clean
//! machine, and its command can be repeated by hand.

use std::collections::BTreeSet;
use std::io;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::claims::{Form, Measure};
use crate::cli::results;
use crate::engine::{Interrupt, Register};
use crate::plan::SystemSpec;
use crate::record::{Completion, Outcome, Record, Skipped, store};
use crate::system::scratch::Scratch;
use crate::system::{SystemContext, SystemError};

use super::kept::{KeptRuns, THIS_PROGRAM};

/// What a trial takes beyond its phases: servers start and end, last messages are waited for.
const BEYOND_S: u64 = 1;
/// How much longer a server in a Java virtual machine takes for that, and each one more; several
/// start together.
const OF_JAVA_S: u64 = 4;
const OF_EACH_MORE_S: u64 = 1;
const OF_EACH_MORE_OF_JAVA_S: u64 = 3;
/// How much longer one takes in which something is done to a server: what nobody has acknowledged
/// is waited for.
const DISTURBED_S: u64 = 10;
/// Trials of a search, on the average.
const SEARCHED: u64 = 25;

/// About how many seconds a measurement takes.
pub(super) fn expected(measure: &Measure, form: Form) -> u64 {
    let plan = &measure.scenario(form).plan;
    let disturbed = if plan.events.is_empty() { 0 } else { DISTURBED_S };
    let trial = |c: &crate::plan::Case| {
        (c.phases.warmup.0 + c.phases.measure.0) / 1_000_000_000 + beyond(plan.spec(c)) + disturbed
    };
    let rounds = match &plan.search {
        Some(search) => SEARCHED * u64::from(search.searches),
        None => u64::from(plan.trials),
    };
    plan.cases.iter().map(|c| rounds * trial(c)).sum()
}

/// What a trial of a system takes beyond its phases.
fn beyond(spec: &SystemSpec) -> u64 {
    let java = ["kafka", "bridge"].contains(&spec.driver.as_str());
    let broker = spec.options.get("broker").and_then(|b| b.get("nodes"));
    let nodes = broker.or(spec.options.get("nodes")).and_then(serde_json::Value::as_u64).unwrap_or(1);
    let (first, more) = if java { (OF_JAVA_S, OF_EACH_MORE_OF_JAVA_S) } else { (0, OF_EACH_MORE_S) };
    BEYOND_S + first + nodes.saturating_sub(1) * more
}

/// How long the rest takes, corrected by what was seen.
#[derive(Debug)]
pub(super) struct TimeLeft {
    expected: Vec<u64>,
    done: usize,
    began: Instant,
}

impl TimeLeft {
    pub(super) fn of(expected: Vec<u64>) -> Self {
        Self { expected, done: 0, began: Instant::now() }
    }

    fn factor(&self) -> f64 {
        let planned: u64 = self.expected[..self.done].iter().sum();
        if planned == 0 { 1.0 } else { self.began.elapsed().as_secs_f64() / planned as f64 }
    }

    /// Seconds of the next one.
    pub(super) fn next(&self) -> u64 {
        (self.factor() * self.expected.get(self.done).copied().unwrap_or(0) as f64) as u64
    }

    /// Seconds of all that is left.
    pub(super) fn left(&self) -> u64 {
        (self.factor() * self.expected[self.done..].iter().sum::<u64>() as f64) as u64
    }

    pub(super) fn done(&mut self) {
        self.done = (self.done + 1).min(self.expected.len());
    }
}

/// Runs a measurement and keeps its result. One that was cut is gone on with, unless it is to be
/// measured again.
///
/// # Errors
/// Why there is none.
pub(super) fn run(
    measure: &Measure,
    form: Form,
    again: bool,
    (runs, register): (&KeptRuns, &Register),
    interrupt: &Interrupt,
) -> Result<Record, String> {
    let absent = absent(measure, form, register)?;
    let here = without(measure, form, &absent)?;
    let place = runs.place(measure, form);
    std::fs::create_dir_all(&place).map_err(|e| format!("cannot create {}: {e}", place.display()))?;
    let before: BTreeSet<PathBuf> = found(&place).into_iter().collect();
    let before_it = if again { None } else { runs.interrupted(measure, form) };
    let resume = before_it.iter().flat_map(|place| [std::ffi::OsStr::new("--resume"), place.as_os_str()]);
    if interrupt.count() > 0 {
        return Err(format!("`{}` was not run: interrupted", measure.name));
    }
    // The program may be built anew while this goes on for hours.
    let mut command = Command::new(THIS_PROGRAM);
    end_with_parent(&mut command);
    let child = command
        .arg0(std::env::args_os().next().unwrap_or_else(|| "msgbench".into()))
        .arg("run")
        .arg(&here.argument)
        .args(here.options(form))
        .arg("--out")
        .arg(&place)
        .args(resume)
        // The verdicts are what is printed here.
        .stdout(Stdio::null())
        .stdin(Stdio::null())
        // A wish to stop is passed on once, also where a terminal would tell all of them.
        .process_group(0)
        .spawn()
        .map_err(|e| format!("cannot run msgbench: {e}"))?;
    let code = wait(child, interrupt)?;
    let new = found(&place).into_iter().find(|path| !before.contains(path));
    let Some(path) = new else {
        return Err(format!("the run left no result (exit code {})", code.unwrap_or(-1)));
    };
    let mut record = store::record(&path).map_err(|e| e.to_string())?;
    // Also where it was interrupted: the next one goes on from there.
    runs.keep(measure, form, (&path, &record), &absent)?;
    record.skipped.extend(absent);
    match record.completion {
        Completion::Complete => Ok(record),
        _ => Err(format!("the run was interrupted; what it had is in {}", path.display())),
    }
}

/// The newest result of a measurement and what is said of it, where it has a system that cannot be
/// launched now: a run without that one would answer less.
pub(super) fn richer(
    measure: &Measure,
    form: Form,
    (runs, register): (&KeptRuns, &Register),
) -> Option<(Record, String)> {
    let record = runs.newest(measure, form).ok()?;
    let gone = absent(measure, form, register).ok()?.into_iter().find(|s| has(&record, &s.system))?;
    let words = format!("its result of {} stands: {}", record.started_at, cannot(&gone));
    Some((record, words))
}

/// Whether a result has anything of a system.
fn has(record: &Record, system: &str) -> bool {
    let of = |case: &str| record.plan.cases.iter().find(|c| c.id == case).map(|c| &record.plan.spec(c).name);
    let mut all = record.trials.iter().filter(|t| !matches!(t.outcome, Outcome::Failed { .. }));
    all.any(|t| of(&t.case).is_some_and(|name| name == system))
}

/// The systems that are asked of a measurement.
fn asked(measure: &Measure, form: Form) -> impl Iterator<Item = &SystemSpec> {
    let all = measure.scenario(form).plan.systems.iter();
    all.filter(|s| measure.systems.is_empty() || measure.systems.contains(&s.name))
}

fn cannot(system: &Skipped) -> String {
    format!("{} cannot be launched here: {}", system.system, system.reason)
}

/// The systems of a measurement that cannot be launched here, by a program that is missing or by
/// what this build has not; the reason says the remedy, too.
fn absent(measure: &Measure, form: Form, register: &Register) -> Result<Vec<Skipped>, String> {
    let scratch = Scratch::new().map_err(|e| e.to_string())?;
    let one = |spec: &SystemSpec| {
        let context = SystemContext { dir: scratch.path().to_path_buf(), timeout: Duration::from_secs(10), cpus: None };
        match register.create(spec, context) {
            Err(SystemError::Unavailable { reason, remedy, .. }) => {
                Some(Skipped { system: spec.name.clone(), reason: format!("{reason}; {remedy}"), remedy })
            }
            // The run says what else is wrong.
            _ => None,
        }
    };
    Ok(asked(measure, form).filter_map(one).collect())
}

/// The measurement without these systems, whose claims stay open.
fn without(measure: &Measure, form: Form, absent: &[Skipped]) -> Result<Measure, String> {
    let mut here = measure.clone();
    if absent.is_empty() {
        return Ok(here);
    }
    let there = |s: &&SystemSpec| !absent.iter().any(|gone| gone.system == s.name);
    here.systems = asked(measure, form).filter(there).map(|s| s.name.clone()).collect();
    match here.systems.is_empty() {
        true => Err(absent.iter().map(cannot).collect::<Vec<_>>().join("; ")),
        false => Ok(here),
    }
}

/// Lets the kernel tell a run to stop when this process is killed: it would go on with its servers.
fn end_with_parent(command: &mut Command) {
    let parent = std::process::id();
    // SAFETY: between fork and exec the closure makes only the system calls prctl and getppid, both
    // async-signal-safe, and allocates nothing.
    unsafe {
        command.pre_exec(move || {
            if libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGINT as libc::c_ulong) != 0 {
                return Err(io::Error::last_os_error());
            }
            // The parent may have died before the request was in place.
            if libc::getppid() as u32 != parent {
                return Err(io::Error::from_raw_os_error(libc::ESRCH));
            }
            Ok(())
        });
    }
}

/// The folders of results, newest first.
fn found(place: &std::path::Path) -> Vec<PathBuf> {
    results::all(place).map(|all| all.into_iter().map(|r| r.path).collect()).unwrap_or_default()
}

/// Waits for a run, and passes a wish to stop on to it.
fn wait(mut child: Child, interrupt: &Interrupt) -> Result<Option<i32>, String> {
    // One of before it was started is passed on as well.
    let mut told = 0;
    loop {
        if let Some(status) = child.try_wait().map_err(|e| format!("cannot wait for msgbench: {e}"))? {
            return Ok(status.code());
        }
        let wished = interrupt.count();
        if wished > told {
            told = wished;
            if let Ok(pid) = libc::pid_t::try_from(child.id()) {
                // SAFETY: kill touches no memory; the child is not reaped, so the number is its
                // own.
                unsafe { libc::kill(pid, libc::SIGINT) };
            }
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::sample;

    /// Ctrl-C between the last look and the start of a run.
    #[test]
    fn a_wish_of_before_the_start_is_passed_on() {
        let interrupt = Interrupt::default();
        interrupt.raise();
        let mut sleep = Command::new("sleep");
        sleep.arg("20").process_group(0);
        // SAFETY: signal is async-signal-safe. A shell lets what it starts in the background ignore
        // SIGINT.
        unsafe {
            sleep.pre_exec(|| {
                libc::signal(libc::SIGINT, libc::SIG_DFL);
                Ok(())
            });
        }
        assert_eq!(wait(sleep.spawn().unwrap(), &interrupt), Ok(None), "ended by the signal, and not by itself");
    }

    #[test]
    fn a_result_has_the_systems_that_were_measured() {
        let mut record = sample::record();
        assert!(has(&record, "nats") && has(&record, "reference") && !has(&record, "other"));
        for trial in record.trials.iter_mut().filter(|t| t.case == "nats") {
            trial.outcome = Outcome::Failed { phase: "prepare".into(), error: "?".into() };
        }
        assert!(!has(&record, "nats"));
    }
}
