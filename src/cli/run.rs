//! `msgbench run`: executes a scenario, writes its record after every trial, prints the summary,
//! renders the report.

use std::path::PathBuf;

use crate::calibrate::keep;
use crate::compare::ExpectResult;
use crate::engine::{self, Conditions, Interrupt, Register, RunError, TrialSide};
use crate::host::machine as host;
use crate::record::{
    Calibration, Completion, Folder, Gravest, Host, Record, RunClock, SCHEMA, ScenarioSource, Secrets, Tool, rfc3339,
};
use crate::report::export::summary;
use crate::scenario::{OptionEdit, Scenario};
use crate::system::scratch::Scratch;
use crate::units::{now, say};

use super::control_args::AgentsOfRun;
use super::interrupt::listen;
use super::progress::Progress;
use super::run_writer::{RunOutput, RunWriter};
use super::scenario_args::ScenarioArgs;
use super::{Exit, Failure, page, pretty, print, resume, source};

/// Arguments of `run`.
#[derive(Debug, clap::Args)]
pub struct RunArgs {
    #[command(flatten)]
    scenario: ScenarioArgs,
    /// Folder that gets <scenario>/<time>/ with the results
    #[arg(long, value_name = "DIR", default_value = "results")]
    out: PathBuf,
    /// Run although a schedule is above the rate that the calibration of this host trusts; the
    /// record says so
    #[arg(long)]
    force: bool,
    /// Print nothing but errors
    #[arg(long, short)]
    quiet: bool,
    /// What to print at the end
    #[arg(long, value_enum, default_value_t)]
    format: RunFormat,
    /// Open the report at the end
    #[arg(long)]
    open: bool,
    /// Print every percentile, every check that did not hold, and all remarks
    #[arg(long)]
    why: bool,
    #[command(flatten)]
    agents: AgentsOfRun,
    /// Go on with a run or search that was interrupted: the folder of its results. The other
    /// arguments are those that it was begun with; the results go to a new folder
    #[arg(long, value_name = "DIR")]
    resume: Option<PathBuf>,
}

/// How a run prints its result.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
enum RunFormat {
    /// The summary, for people
    #[default]
    Text,
    /// The summary, for scripts: verdict, figures of each case, path of run.json
    Json,
    /// The whole record, as in run.json
    Record,
}

impl RunArgs {
    /// Makes it a search for the highest load, with these changes.
    pub(super) fn search(&mut self, edits: Vec<OptionEdit>) {
        self.scenario.search = Some(edits);
    }
}

pub(super) fn run(args: &RunArgs, color: bool) -> Result<Exit, Failure> {
    let register = Register::built_in();
    let scenario = source::load(&args.scenario, &args.agents.edits(), &register.types())?;
    if args.scenario.search.is_some() && scenario.plan.search.is_none() {
        return Err(Failure::usage(format!(
            "{} does not say what a system must keep: give a limit, such as --limit 'e2e.p99 < 20ms'",
            scenario.source_path.display()
        )));
    }
    let secrets = register.secrets(&scenario.plan);
    checked(&scenario, &register, &secrets)?;
    args.agents.check(&scenario, &register)?;
    let clock = RunClock::start();
    let mut first = record(&scenario, &register, &clock);
    // Of other hosts nothing is known from this one's.
    first.calibration = first.calibration.filter(|_| scenario.plan.agents.is_none());
    if let Some(calibration) = first.calibration.as_ref().filter(|_| !args.force) {
        engine::trusts(&scenario.plan, calibration).map_err(Failure::usage)?;
    }
    // What cannot be gone on with leaves no folder behind, and asks no agents.
    let before = args.resume.as_deref().map(|place| resume::load(place, &first)).transpose()?;
    engine::enter(&scenario.plan).map_err(Failure::usage)?;
    let interrupt = Interrupt::default();
    listen(&interrupt)?;
    let fleet = args.agents.gather(&scenario, &interrupt)?;
    let side = fleet.as_ref().map_or(TrialSide::Alone, |fleet| TrialSide::Coordinator(fleet));
    let scratch = Scratch::new().map_err(Failure::internal)?;
    let mut folder = Folder::new(&args.out, &scenario.plan.name).map_err(Failure::usage)?;
    let taken_up = before.as_ref().map(|b| b.record.searches.clone()).unwrap_or_default();
    let done = before.as_ref().map(resume::done).unwrap_or_default();
    let planned = super::run_writer::mean_phases(&scenario.plan.cases);
    let progress = Progress::new(args.quiet || args.format != RunFormat::Text, planned);
    swept(&progress, &scratch);
    let (clocksource, calibration) = (first.host.clocksource.clone(), first.calibration.clone());
    let intervals = match before {
        Some(before) => resume::into(&mut first, before, args.resume.as_deref(), &mut folder),
        None => Vec::new(),
    };
    if args.resume.is_none() && first.plan.search.is_some() {
        // A search makes its load points as it goes; of those that it begins at none is tried as it
        // stands.
        first.plan.cases.clear();
    }
    let run_writer = RunWriter::new(progress, RunOutput { record: first, intervals, folder }, secrets.clone());
    let conditions = Conditions {
        register: &register,
        scratch: scratch.path(),
        clocksource: &clocksource,
        calibration: calibration.as_ref(),
        interrupt: &interrupt,
        taken_up: &taken_up,
        done: &done,
        side,
    };
    let ran = engine::run(&scenario.plan, &conditions, &run_writer);
    let interrupted = interrupt.count() > 0;
    let whole = if interrupted || ran.is_err() { Completion::Interrupted } else { Completion::Complete };
    let (kept, rendered) = run_writer.finish(whole, &clock);
    if let Err(e @ RunError::Required(_)) = &ran
        && kept.record.trials.is_empty()
    {
        return Err(Failure::system(secrets.text(&e.to_string())));
    }
    let limits = crate::compare::expectations(&kept.record, &kept.record.plan.expect);
    let code = code(&kept, ran.as_ref().err(), rendered.as_ref().err().is_some(), interrupted, &limits);
    let printed = show(args, &kept, &limits, code, color);
    conclude(args, (&kept, code), (ran, rendered, printed), &secrets)
}

/// Says what else went wrong, and opens the page.
fn conclude<E: std::fmt::Display>(
    args: &RunArgs,
    (kept, code): (&RunOutput, Exit),
    (ran, rendered, printed): (Result<(), RunError>, Result<(), E>, Result<Exit, Failure>),
    secrets: &Secrets,
) -> Result<Exit, Failure> {
    if let Some(words) = kept.folder.missing_because() {
        return Err(Failure::unwritten(words));
    }
    if let Err(e) = ran {
        return Err(Failure::new(code, secrets.text(&e.to_string())));
    }
    rendered.map_err(Failure::internal)?;
    // Whoever hung up reads no output.
    if code != Exit::Interrupted {
        printed?;
    }
    if args.open && kept.folder.has(PAGE) {
        page::open(&kept.folder.place().join(PAGE)).unwrap_or_else(|words| say(format_args!("msgbench: {words}")));
    }
    Ok(code)
}

/// Checks what is asked of systems, before anything is started.
fn checked(scenario: &Scenario, register: &Register, secrets: &Secrets) -> Result<(), Failure> {
    register.check(&scenario.plan).map_err(|e| Failure::usage(secrets.text(&e.to_string())))?;
    crate::system::cpus::possible(&scenario.plan).map_err(|(system, words)| {
        Failure::usage(scenario.about_system(system, "cpus", secrets.text(&words), None).to_string())
    })
}

/// What the command exits with, unless the output cannot be printed.
fn code(
    kept: &RunOutput,
    failed: Option<&RunError>,
    unrendered: bool,
    interrupted: bool,
    limits: &[ExpectResult],
) -> Exit {
    match failed {
        _ if kept.folder.missing_because().is_some() => Exit::Unwritten,
        Some(RunError::Required(_)) => Exit::SystemFailed,
        Some(RunError::Agents(_)) => Exit::Invalid,
        Some(_) => Exit::Internal,
        None if unrendered => Exit::Internal,
        None => match exit(&kept.record, interrupted) {
            Exit::Passed => super::expected(limits),
            other => other,
        },
    }
}

/// Says that others left something behind.
fn swept(progress: &Progress, scratch: &Scratch) {
    match scratch.swept {
        0 => {}
        1 => progress.say("removed 1 temporary folder of a run that was killed"),
        n => progress.say(&format!("removed {n} temporary folders of runs that were killed")),
    }
}

/// The report, and the record.
const PAGE: &str = "report.html";
const RUN: &str = "run.json";

/// Prints what the user asked for, in spite of whatever could not be written.
fn show(args: &RunArgs, kept: &RunOutput, limits: &[ExpectResult], code: Exit, color: bool) -> Result<Exit, Failure> {
    match args.format {
        RunFormat::Record => return print(&pretty(&kept.record)),
        RunFormat::Json => {
            let path = Some(kept.folder.place().join(RUN)).filter(|path| path.exists());
            let path = path.map(|path| path.display().to_string());
            return print(&pretty(&summary::of_run(&kept.record, limits, code as u8, path)));
        }
        RunFormat::Text if args.quiet => return Ok(Exit::Passed),
        RunFormat::Text => {}
    }
    let summary = crate::report::pages::text::summary(&kept.record, super::text_style(color, args.why));
    let limits: String =
        limits.iter().map(|l| format!("{:<12} {}: {}\n", l.verdict.word(), l.case, l.sentence)).collect();
    let place = match kept.folder.has(PAGE) {
        true => format!("\nreport: {}", page::link(&kept.folder.place().join(PAGE))),
        false => String::new(),
    };
    print(&format!("{summary}{limits}{place}"))
}

/// The exit code of a finished run; the gravest that applies.
fn exit(record: &Record, interrupted: bool) -> Exit {
    match record.gravest() {
        _ if interrupted => Exit::Interrupted,
        Some(Gravest::Failed | Gravest::Broken) => Exit::SystemFailed,
        Some(Gravest::Invalid) => Exit::Invalid,
        None if record.trials.is_empty() => Exit::SystemFailed,
        None => Exit::Passed,
    }
}

/// How this program was built.
pub(super) fn profile() -> &'static str {
    if cfg!(debug_assertions) { "debug" } else { "release" }
}

/// The newest calibration of this host by this build; what is there and cannot be read is said and
/// not cited.
pub(super) fn calibration(host: &Host, profile: &str) -> Option<Calibration> {
    let place = keep::place(host, profile, |name| std::env::var_os(name))?;
    keep::read(host, profile, &place).unwrap_or_else(|words| {
        say(format_args!("msgbench: the calibration of this host is not cited: {words}"));
        None
    })
}

fn record(scenario: &Scenario, register: &Register, clock: &RunClock) -> Record {
    let (host, profile) = (host::read(), profile());
    register.secrets(&scenario.plan).clean(Record {
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
        started_at: rfc3339(clock.at(now())),
        clock_step_s: None,
        ended_at: None,
        completion: Completion::Running,
        order: Vec::new(),
        skipped: Vec::new(),
        trials: Vec::new(),
        searches: Vec::new(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scenario::{Overrides, parse};

    #[test]
    fn secrets_do_not_stand_in_a_record() {
        let text = "name = \"t\"\nquestion = \"?\"\n[[system]]\ndriver = \"nats\"\noptions = { user = \"me\", password = \"s3cret\" }\n\
                    [[workload]]\npattern = \"fan-out\"\nload.rate = \"1/s\"\n";
        let scenario =
            parse(std::path::Path::new("t.toml"), text.into(), &Overrides::default(), &Register::built_in().types())
                .unwrap();
        let kept = serde_json::to_string(&record(&scenario, &Register::built_in(), &RunClock::start())).unwrap();
        assert!(!kept.contains("s3cret") && kept.contains("(redacted)"), "{kept}");
        assert_eq!(scenario.plan.systems[0].options["password"], "s3cret", "the run itself needs it");
        for url in ["nats://me:s3cret@a:1", "nats://a:1,nats://s3cret@b:2", "nats://a:1 kafka://me:s3cret@b:2/"] {
            let text = text.replace(
                "\"nats\"\noptions = { user = \"me\", password = \"s3cret\" }",
                &format!("\"{}\"\nurl = \"{url}\"", if url.contains(' ') { "bridge" } else { "nats" }),
            );
            let register = Register::built_in();
            let scenario =
                parse(std::path::Path::new("t.toml"), text, &Overrides::default(), &register.types()).unwrap();
            let kept = serde_json::to_string(&record(&scenario, &register, &RunClock::start())).unwrap();
            assert!(!kept.contains("s3cret") && kept.contains("(redacted)@"), "{kept}");
        }
    }
}
