//! Experiment 9: a generator that stalls itself must not hide it.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use super::experiment;
use crate::calibrate::certificate::{ClaimLine, Experiment, FigureUnit};
use crate::calibrate::context::{ExperimentContext, host_noise};
use crate::calibrate::{CalibrateError, keep};
use crate::record::{Record, Status};
use crate::units::{Nanos, SECOND, latency};

/// How long the generator is held.
const HELD: u64 = 300_000_000;
/// From the start of the trial until it is in the middle of its load.
const LEAD: Duration = Duration::from_millis(600);
/// Until a thread that goes on has had its processor.
const SETTLED: Duration = Duration::from_millis(100);
/// Bound on the start of msgbench.
const PATIENCE: Duration = Duration::from_secs(10);

const SCENARIO: &str = "name = \"self\"\nquestion = \"Does a stalled generator say so?\"\n\
    [[system]]\ndriver = \"null\"\n[[workload]]\npattern = \"fan-out\"\nconsumers = 1\nload.rate = \"1k/s\"\n\
    [run]\nwarmup = \"0s\"\nduration = \"1500ms\"\ntrials = 1\ndrain = \"1s\"\npacing = \"sleep\"\n";

/// Kills what is still there when something has gone wrong.
struct ChildGuard(Child);

impl Drop for ChildGuard {
    fn drop(&mut self) {
        // It has ended in the usual case, and then there is nothing to kill.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A msgbench of its own is stopped by the kernel for 300 ms, with no broker in the way.
pub fn stall(context: &ExperimentContext<'_>) -> Result<Vec<Experiment>, CalibrateError> {
    let io = |action| move |source| CalibrateError::Io { action, source };
    let file = context.scratch.join("self.toml");
    std::fs::write(&file, SCENARIO).map_err(io("write a scenario"))?;
    let (out, results) = (context.scratch.join("self.json"), context.scratch.join("self"));
    let sink = std::fs::File::create(&out).map_err(io("make a file for the record"))?;
    let child = Command::new(&context.program)
        .arg("run")
        .arg(&file)
        .arg("--out")
        .arg(&results)
        .args(["--format", "record"])
        // Its rate is not to be judged by an earlier calibration.
        .env(keep::VARIABLE, "")
        .stdout(sink)
        .stderr(Stdio::null())
        .process_group_of_its_own()
        .spawn()
        .map_err(io("start msgbench"))?;
    let mut child = ChildGuard(child);
    // The record is first written right before the trial begins.
    let started = Instant::now();
    while !begun(&results) && started.elapsed() < PATIENCE {
        std::thread::sleep(Duration::from_millis(5));
    }
    std::thread::sleep(LEAD);
    let waits = waits(child.0.id());
    let before = crate::units::now();
    signal(&child.0, libc::SIGSTOP);
    std::thread::sleep(Duration::from_nanos(HELD));
    signal(&child.0, libc::SIGCONT);
    let held = (crate::units::now() - before) as f64;
    std::thread::sleep(SETTLED);
    let waited = longest_wait(&waits, &self::waits(child.0.id())) as f64;
    child.0.wait().map_err(io("wait for msgbench"))?;
    let text = std::fs::read(&out).map_err(io("read the record"))?;
    let record: Record = serde_json::from_slice(&text).map_err(|e| CalibrateError::Trial {
        experiment: "generator",
        phase: "self-stall".into(),
        error: format!("the record cannot be read: {e}"),
    })?;
    let Some(trial) = record.trials.first() else { return Err(CalibrateError::Interrupted) };
    let w = &trial.workloads[0];
    let max = |kind: &str| w.latency.get(kind).and_then(|l| l.max_ns).map(|v| v as f64);
    let invalid = trial.validity.iter().any(|c| c.id == "V15" && c.status == Status::Invalid);
    let sees = host_noise(trial);
    // The pause began between two messages, a millisecond apart.
    let tolerance = 0.02 * held + SECOND as f64 / 1000.0;
    // Whoever lets it go on does not put it on a processor: it was held for longer by what it
    // waited for one.
    let longer = |what: &str, measured: Option<f64>| {
        let late = measured.is_some_and(|m| m > held && m - held <= tolerance + waited);
        ClaimLine::judged(what.into(), held, measured, tolerance, FigureUnit::Ns).excused(late)
    };
    let lines = vec![
        longer("longest lag", max("lag")),
        longer("longest response", max("ack")),
        ClaimLine::judged(
            "longest pause that the hiccup meter saw".into(),
            held,
            Some(sees.hiccup.max as f64),
            tolerance,
            FigureUnit::Ns,
        ),
        ClaimLine::exact("messages sent of those due", w.ledger.scheduled, w.ledger.sent),
        ClaimLine::exact("the trial is INVALID for it (V15)", 1, u64::from(invalid)),
    ];
    let claim = "A generator that is itself held for 300 ms shows it as lag and as response, sends everything all the same, and calls the trial INVALID.";
    let mut all = experiment(9, "self-stall", claim, lines, None);
    all.host = format!("a thread of the generator waited {} for a processor", latency(waited as Nanos));
    Ok(vec![all])
}

/// How long each thread of a process has been ready and waited for a processor so far, ns
/// (`/proc/PID/task/*/schedstat`).
fn waits(pid: u32) -> BTreeMap<OsString, Nanos> {
    let tasks = std::fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    let wait = |task: std::fs::DirEntry| {
        let schedstat = std::fs::read_to_string(task.path().join("schedstat")).ok()?;
        Some((task.file_name(), schedstat.split_whitespace().nth(1)?.parse().ok()?))
    };
    tasks.filter_map(wait).collect()
}

/// The longest that one thread has waited between two looks.
fn longest_wait(before: &BTreeMap<OsString, Nanos>, after: &BTreeMap<OsString, Nanos>) -> Nanos {
    let wait = |(thread, after): (&OsString, &Nanos)| Some(after.saturating_sub(*before.get(thread)?));
    after.iter().filter_map(wait).max().unwrap_or(0)
}

/// Whether there is a record somewhere below.
fn begun(results: &Path) -> bool {
    let folders = |path: &Path| std::fs::read_dir(path).into_iter().flatten().flatten().map(|e| e.path());
    folders(results).any(|scenario| folders(&scenario).any(|run| run.join("run.json").exists()))
}

fn signal(child: &Child, signal: i32) {
    // SAFETY: kill touches no memory; the child is ours and not yet waited for, so the number is
    // its own.
    unsafe { libc::kill(child.id() as libc::pid_t, signal) };
}

/// A stop that is meant for the child must not reach us, nor ours it.
trait OwnGroup {
    fn process_group_of_its_own(&mut self) -> &mut Self;
}

impl OwnGroup for Command {
    fn process_group_of_its_own(&mut self) -> &mut Self {
        use std::os::unix::process::CommandExt as _;
        self.process_group(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_wait_is_that_of_one_thread() {
        let look = |all: &[(&str, Nanos)]| all.iter().map(|(t, w)| (OsString::from(t), *w)).collect();
        let before: BTreeMap<_, _> = look(&[("1", 5), ("2", 100)]);
        // A thread that is new has not waited for what was held.
        assert_eq!(longest_wait(&before, &look(&[("1", 12), ("2", 103), ("3", 50)])), 7);
        assert_eq!(longest_wait(&before, &BTreeMap::new()), 0);
        assert!(!waits(std::process::id()).is_empty(), "this process has a thread");
    }
}
