//! `msgbench run`: executes a scenario, writes its record after every trial, prints the summary, renders the report.

use std::io;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};
use std::time::SystemTime;

use crate::calibrate::keep;
use crate::engine::{self, Interrupt, RunError, Tick, TrialFiles};
use crate::measure::{host, trust};
use crate::record::{
    Calibration, Completion, Host, Interval, Outcome, Record, SCHEMA, ScenarioSource, Secrets, Skipped, Status, Store,
    Tool, rfc3339,
};
use crate::scenario::Scenario;
use crate::scenario::plan::Case;
use crate::units::say;

use super::progress::Progress;
use super::scenario_args::ScenarioArgs;
use super::{Exit, Failure, Format, pretty, print};

/// Arguments of `run`.
#[derive(Debug, clap::Args)]
pub struct RunArgs {
    #[command(flatten)]
    scenario: ScenarioArgs,
    /// Folder that gets <scenario>/<time>/ with the results
    #[arg(long, value_name = "DIR", default_value = "results")]
    out: PathBuf,
    /// Run although a schedule is above the rate that the calibration of this host trusts; the record says so
    #[arg(long)]
    force: bool,
    /// Print nothing but errors
    #[arg(long, short)]
    quiet: bool,
    /// What to print at the end: the summary for people, or the record for scripts
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

pub(super) fn run(args: &RunArgs) -> Result<Exit, Failure> {
    let scenario = args.scenario.load()?;
    let secrets = engine::secrets(&scenario.plan);
    engine::check(&scenario.plan).map_err(|e| Failure::usage(secrets.text(&e.to_string())))?;
    let first = record(&scenario);
    if let Some(calibration) = first.calibration.as_ref().filter(|_| !args.force)
        && let Some(words) = trust::excess(&scenario.plan.cases, calibration)
    {
        return Err(Failure::usage(words));
    }
    engine::network::enter(&scenario.plan).map_err(Failure::usage)?;
    let interrupt = Interrupt::default();
    listen(&interrupt)?;
    let store = Store::create(&args.out, &scenario.plan.name).map_err(Failure::internal)?;
    let keeper = Keeper {
        progress: Progress::new(args.quiet || args.format == Format::Json),
        cases: scenario.plan.cases.clone(),
        kept: Mutex::new((first, Vec::new())),
        store,
        secrets,
    };
    keeper.write().map_err(Failure::internal)?;
    let clocksource = keeper.lock().0.host.clocksource.clone();
    let scratch = Scratch::new().map_err(|e| Failure::internal(format!("cannot make a temporary folder: {e}")))?;
    let ran = engine::run(&scenario.plan, &scratch.0, &clocksource, &interrupt, &keeper);
    keeper.progress.finish();
    let interrupted = interrupt.count() > 0;
    {
        let mut kept = keeper.lock();
        kept.0.completion = if interrupted { Completion::Interrupted } else { Completion::Complete };
        kept.0.ended_at = Some(rfc3339(SystemTime::now()));
    }
    keeper.write().map_err(Failure::internal)?;
    let (record, intervals) = &*keeper.lock();
    let read = |name: &str| std::fs::read(keeper.store.dir.join(name)).ok();
    let series = crate::report::series::Series { intervals, read: &read };
    for (name, bytes) in crate::report::files(record, &series).map_err(Failure::internal)? {
        keeper.store.write_file(&name, &bytes).map_err(Failure::internal)?;
    }
    match ran {
        Err(e @ RunError::Required(_)) => return Err(Failure::system(keeper.secrets.text(&e.to_string()))),
        Err(e) => return Err(Failure::internal(keeper.secrets.text(&e.to_string()))),
        Ok(()) => {}
    }
    let limits = crate::compare::expectations(record, &record.plan.expect);
    if args.format == Format::Json {
        print(&pretty(record))?;
    } else if !args.quiet {
        let summary = crate::report::text::summary(record, false);
        let limits: String =
            limits.iter().map(|l| format!("{:<12} {}: {}\n", l.verdict.word(), l.case, l.sentence)).collect();
        print(&format!("{summary}{limits}\nresults: {}", keeper.store.dir.join("report.html").display()))?;
    }
    Ok(match exit(record, interrupted) {
        Exit::Passed => super::expected(&limits),
        other => other,
    })
}

/// The exit code of a finished run; the gravest that applies.
fn exit(record: &Record, interrupted: bool) -> Exit {
    let failed = record.trials.iter().any(|t| matches!(t.outcome, Outcome::Failed { .. }));
    let broken = |t: &crate::record::Trial| t.workloads.iter().any(|w| w.promises.iter().any(|p| !p.kept));
    let may_break = record.plan.may_break;
    let failed = failed || (!may_break && record.trials.iter().any(broken));
    let invalid = record.trials.iter().any(|t| t.validity_status() == Status::Invalid);
    match () {
        () if interrupted => Exit::Interrupted,
        () if failed || record.trials.is_empty() => Exit::SystemFailed,
        () if invalid => Exit::Invalid,
        () => Exit::Passed,
    }
}

/// The newest calibration of this host by this build; what is there and cannot be read is said and not cited.
fn calibration(host: &Host, profile: &str) -> Option<Calibration> {
    let place = keep::place(host, profile, |name| std::env::var_os(name))?;
    keep::read(host, profile, &place).unwrap_or_else(|words| {
        say(format_args!("msgbench: the calibration of this host is not cited: {words}"));
        None
    })
}

fn record(scenario: &Scenario) -> Record {
    let (host, profile) = (host::read(), if cfg!(debug_assertions) { "debug" } else { "release" });
    engine::secrets(&scenario.plan).clean(Record {
        schema: SCHEMA.into(),
        tool: Tool {
            version: env!("CARGO_PKG_VERSION").into(),
            profile: profile.into(),
            command: std::env::args().collect(),
        },
        scenario: ScenarioSource {
            path: scenario.source_path.to_string_lossy().into_owned(),
            sha256: scenario.sha256.clone(),
            text: scenario.text.clone(),
            overrides: scenario.overrides.clone(),
        },
        plan: scenario.plan.clone(),
        calibration: calibration(&host, profile),
        host,
        started_at: rfc3339(SystemTime::now()),
        ended_at: None,
        completion: Completion::Running,
        order: Vec::new(),
        skipped: Vec::new(),
        trials: Vec::new(),
    })
}

/// Turns SIGINT and SIGTERM into a wish to stop. The thread ends with the process.
pub(super) fn listen(interrupt: &Interrupt) -> Result<(), Failure> {
    use tokio::signal::unix::{SignalKind, signal};
    let interrupt = interrupt.clone();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(Failure::internal)?;
    let signals = {
        let _inside = runtime.enter();
        signal(SignalKind::interrupt()).and_then(|int| signal(SignalKind::terminate()).map(|term| (int, term)))
    };
    let (mut int, mut term) = signals.map_err(Failure::internal)?;
    let listener = move || {
        runtime.block_on(async {
            loop {
                tokio::select! { _ = int.recv() => {}, _ = term.recv() => {} }
                match interrupt.raise() {
                    1 => say("\nmsgbench: ending this trial, keeping what is recorded; again to give up at once"),
                    _ => say("\nmsgbench: giving up"),
                }
            }
        });
    };
    std::thread::Builder::new().name("signals".into()).spawn(listener).map_err(Failure::internal)?;
    Ok(())
}

/// A temporary folder, removed at the end.
pub(super) struct Scratch(PathBuf);

impl Scratch {
    pub(super) fn path(&self) -> &std::path::Path {
        &self.0
    }
    pub(super) fn new() -> io::Result<Self> {
        let dir = std::env::temp_dir().join(format!("msgbench-{}-{}", std::process::id(), crate::units::now()));
        std::fs::create_dir(&dir)?;
        Ok(Self(dir))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // What cannot be removed stays in the temporary folder; there is nobody left to tell.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Keeps the record, and writes it after every trial.
struct Keeper {
    progress: Progress,
    store: Store,
    /// Taken out of all that is kept and shown.
    secrets: Secrets,
    /// What each trial was to do.
    cases: Vec<Case>,
    kept: Mutex<(Record, Vec<Interval>)>,
}

impl Keeper {
    fn lock(&self) -> std::sync::MutexGuard<'_, (Record, Vec<Interval>)> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
    fn write(&self) -> io::Result<()> {
        self.store.write(&self.lock().0).map_err(io::Error::other)
    }
}

impl engine::Sink for Keeper {
    fn begin(&self, case: &Case, round: u32, number: usize, of: usize) {
        self.progress.begin(format!("[{number}/{of}] {} (round {round})", case.id));
    }
    fn tick(&self, tick: Tick) {
        self.progress.tick(tick);
    }
    fn skip(&self, skipped: Skipped) {
        let text = |words: &str| self.secrets.text(words);
        let skipped = Skipped { reason: text(&skipped.reason), remedy: text(&skipped.remedy), system: skipped.system };
        self.progress.say(&format!("{} is skipped: {}; {}", skipped.system, skipped.reason, skipped.remedy));
        self.lock().0.skipped.push(skipped);
    }
    fn trial(&self, mut files: TrialFiles) -> io::Result<()> {
        files.trial = self.secrets.clean(files.trial);
        files.server_log = files.server_log.map(|log| self.secrets.bytes(log));
        files.fault_log = files.fault_log.map(|log| self.secrets.bytes(log));
        let label = format!("{}-{}", files.trial.case, files.trial.round);
        if let Some(case) = self.cases.iter().find(|c| c.id == files.trial.case) {
            crate::measure::within::judge(&mut files.trial, case, &files.intervals, &files.hlog);
            if let Some(calibration) = &self.lock().0.calibration {
                trust::judge(&mut files.trial, case, calibration);
            }
        }
        let hlog = self.store.write_hlog(&label, &files.hlog, files.measured_at).map_err(io::Error::other)?;
        files.trial.hlog = Some(hlog);
        if let Some(log) = files.server_log {
            let name = format!("{label}.server.log");
            self.store.write_file(&name, &log).map_err(io::Error::other)?;
            files.trial.server_log = Some(name);
        }
        if let Some(log) = files.fault_log {
            self.store.write_file(&format!("{label}.faults.jsonl"), &log).map_err(io::Error::other)?;
        }
        if let Outcome::Failed { phase, error } = &files.trial.outcome {
            self.progress.say(&format!("{label} failed in phase {phase}: {error}"));
        }
        self.store.append_intervals(&files.intervals).map_err(io::Error::other)?;
        let mut kept = self.lock();
        kept.0.order.push((files.trial.round, files.trial.case.clone()));
        kept.0.trials.push(files.trial);
        kept.1.extend(files.intervals);
        drop(kept);
        self.write()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scenario::{Overrides, parse};

    #[test]
    fn secrets_do_not_stand_in_a_record() {
        let text = "name = \"t\"\nquestion = \"?\"\n[[system]]\ndriver = \"nats\"\noptions = { user = \"me\", password = \"s3cret\" }\n\
                    [[workload]]\npattern = \"fan-out\"\nload.rate = \"1/s\"\n";
        let scenario = parse(std::path::Path::new("t.toml"), text.into(), &Overrides::default()).unwrap();
        let kept = serde_json::to_string(&record(&scenario)).unwrap();
        assert!(!kept.contains("s3cret") && kept.contains("(redacted)"), "{kept}");
        assert_eq!(scenario.plan.systems[0].options["password"], "s3cret", "the run itself needs it");
        for url in ["nats://me:s3cret@a:1", "nats://a:1,nats://s3cret@b:2", "nats://a:1 kafka://me:s3cret@b:2/"] {
            let text = text.replace(
                "\"nats\"\noptions = { user = \"me\", password = \"s3cret\" }",
                &format!("\"{}\"\nurl = \"{url}\"", if url.contains(' ') { "bridge" } else { "nats" }),
            );
            let scenario = parse(std::path::Path::new("t.toml"), text, &Overrides::default()).unwrap();
            let kept = serde_json::to_string(&record(&scenario)).unwrap();
            assert!(!kept.contains("s3cret") && kept.contains("(redacted)@"), "{kept}");
        }
    }
}
