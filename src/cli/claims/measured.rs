//! Runs a measurement: `msgbench run` as a process of its own, so that each starts on a clean
//! machine, and its command can be repeated by hand.

use std::collections::BTreeSet;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::claims::{Form, Measure};
use crate::cli::results;
use crate::engine::{Interrupt, Register};
use crate::plan::SystemSpec;
use crate::record::{Completion, Record, store};
use crate::system::scratch::Scratch;
use crate::system::{SystemContext, SystemError};

use super::kept::KeptRuns;

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

/// Runs a measurement and keeps its result.
///
/// # Errors
/// Why there is none.
pub(super) fn run(
    measure: &Measure,
    form: Form,
    (runs, register): (&KeptRuns, &Register),
    interrupt: &Interrupt,
) -> Result<Record, String> {
    let here = launchable(measure, form, register)?;
    let place = runs.place(measure, form);
    std::fs::create_dir_all(&place).map_err(|e| format!("cannot create {}: {e}", place.display()))?;
    let before: BTreeSet<PathBuf> = found(&place).into_iter().collect();
    let program = std::env::current_exe().map_err(|e| format!("cannot find this program: {e}"))?;
    let before_it = runs.interrupted(measure, form);
    let resume = before_it.iter().flat_map(|place| [std::ffi::OsStr::new("--resume"), place.as_os_str()]);
    let child = Command::new(program)
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
    let record = store::record(&path).map_err(|e| e.to_string())?;
    // Also where it was interrupted: the next one goes on from there.
    runs.keep(measure, form, &path)?;
    match record.completion {
        Completion::Complete => Ok(record),
        _ => Err(format!("the run was interrupted; what it had is in {}", path.display())),
    }
}

/// The measurement without the systems that cannot be launched here, by a program that is missing
/// or by what this build has not; their claims stay open.
fn launchable(measure: &Measure, form: Form, register: &Register) -> Result<Measure, String> {
    let scratch = Scratch::new().map_err(|e| e.to_string())?;
    let mut here = measure.clone();
    let (mut there, mut why) = (Vec::new(), Vec::new());
    for spec in &measure.scenario(form).plan.systems {
        if !measure.systems.is_empty() && !measure.systems.contains(&spec.name) {
            continue;
        }
        let context = SystemContext { dir: scratch.path().to_path_buf(), timeout: Duration::from_secs(10), cpus: None };
        match register.create(spec, context) {
            Err(SystemError::Unavailable { reason, remedy, .. }) => {
                why.push(format!("{} cannot be launched here: {reason}; {remedy}", spec.name));
            }
            // The run says what else is wrong.
            _ => there.push(spec.name.clone()),
        }
    }
    if there.is_empty() && !why.is_empty() {
        return Err(why.join("; "));
    }
    if !why.is_empty() {
        here.systems = there;
    }
    Ok(here)
}

/// The folders of results, newest first.
fn found(place: &std::path::Path) -> Vec<PathBuf> {
    results::all(place).map(|all| all.into_iter().map(|r| r.path).collect()).unwrap_or_default()
}

/// Waits for a run, and passes a wish to stop on to it.
fn wait(mut child: Child, interrupt: &Interrupt) -> Result<Option<i32>, String> {
    let mut told = interrupt.count();
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
