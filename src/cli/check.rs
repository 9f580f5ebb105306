//! `msgbench check`: says what `run` would refuse, and prints the plan; starts no server.

use crate::engine::{self, Register};
use crate::host::machine;
use crate::plan::BringUp;
use crate::record::Secrets;
use crate::scenario::Scenario;
use crate::system::scratch::Scratch;
use crate::system::{SystemContext, SystemError};
use crate::units::Span;

use super::control_args::can_be_divided;
use super::run::{calibration, profile};
use super::scenario_args::ScenarioArgs;
use super::{Exit, Failure, OutputFormat, pretty, print, source};

/// Arguments of `check`.
#[derive(Debug, clap::Args)]
pub struct CheckArgs {
    #[command(flatten)]
    scenario: ScenarioArgs,
    /// Try the address of each system that is already running, and say what answers
    #[arg(long)]
    connect: bool,
    /// How to print the plan
    #[arg(long, value_enum, default_value_t)]
    format: OutputFormat,
}

pub(super) fn run(args: &CheckArgs) -> Result<Exit, Failure> {
    let register = Register::built_in();
    let types = register.types();
    let mut scenario = source::load(&args.scenario, &[], &types)?;
    let secrets = register.secrets(&scenario.plan);
    register.check(&scenario.plan).map_err(|e| Failure::usage(secrets.text(&e.to_string())))?;
    can_be_divided(&scenario, &register)?;
    if let Some(calibration) = calibration(&machine::read(), profile()) {
        engine::trusts(&scenario.plan, &calibration).map_err(Failure::usage)?;
    }
    let mut notes = systems(&scenario, &register, &secrets, args.connect)?;
    if args.connect {
        notes.extend(connect(&scenario, &register, &secrets)?);
    }
    engine::enter(&scenario.plan).map_err(Failure::usage)?;
    scenario.plan = secrets.clean(scenario.plan);
    match args.format {
        OutputFormat::Text => {
            let notes: String = notes.iter().map(|(key, text)| format!("{key:<12}{text}\n")).collect();
            print(&format!("{}{notes}", crate::scenario::describe(&scenario.plan, &types)))
        }
        OutputFormat::Json => print(&pretty(&scenario.plan)),
    }
}

/// What a command says of a system: a key, and text.
type Notes = Vec<(&'static str, String)>;

fn context(scratch: &Scratch, timeout: Span) -> SystemContext {
    SystemContext { dir: scratch.path().to_path_buf(), timeout: timeout.duration(), cpus: None }
}

/// Whether each system can be launched here. A scenario is right wherever it is checked: what this
/// machine lacks is said, and refused only where systems are to be tried.
fn systems(scenario: &Scenario, register: &Register, secrets: &Secrets, tried: bool) -> Result<Notes, Failure> {
    let scratch = Scratch::new().map_err(Failure::internal)?;
    let mut notes = Notes::new();
    let mut refused = Vec::new();
    for (i, spec) in scenario.plan.systems.iter().enumerate() {
        let Err(error) = register.create(spec, context(&scratch, Span::secs(10))) else { continue };
        let words = secrets.text(&error.to_string());
        match error {
            SystemError::Unavailable { reason, remedy, .. } if !spec.require => {
                notes.push(("not here", format!("{}, which a run leaves out: {reason}; {remedy}", spec.name)));
            }
            SystemError::Unavailable { reason, remedy, .. } if !tried => {
                notes.push(("not here", format!("{}, without which a run ends: {reason}; {remedy}", spec.name)));
            }
            _ => refused.push(scenario.about_system(i, "driver", words, None).to_string()),
        }
    }
    if let Err((i, words)) = crate::system::cpus::possible(&scenario.plan) {
        match tried {
            true => refused.push(scenario.about_system(i, "cpus", words, None).to_string()),
            false => notes.push(("not here", format!("what {} is bound to: {words}", scenario.plan.systems[i].name))),
        }
    }
    if refused.is_empty() { Ok(notes) } else { Err(Failure::system(refused.join("\n\n"))) }
}

/// Tries the address of each system that is already running, each within the bound of a connection.
fn connect(scenario: &Scenario, register: &Register, secrets: &Secrets) -> Result<Notes, Failure> {
    let scratch = Scratch::new().map_err(Failure::internal)?;
    let bound = scenario.plan.cases.first().map_or(Span::secs(10), |c| c.phases.connect);
    let mut notes = Notes::new();
    let mut silent = Vec::new();
    for (i, spec) in scenario.plan.systems.iter().enumerate() {
        let BringUp::External { url } = &spec.bring_up else { continue };
        let answer = register.create(spec, context(&scratch, bound)).and_then(|mut system| {
            let running = system.start()?;
            system.stop().map(|()| running)
        });
        match answer {
            Ok(running) => {
                let version = running.settings.get("version").map(|v| format!(", version {v}"));
                let told = version.unwrap_or(", which accepts connections".into());
                notes.push(("answers", secrets.text(&format!("{} at {url}{told}", spec.name))));
            }
            Err(SystemError::Unavailable { reason, remedy, .. }) => {
                let words = secrets.text(&format!("{} does not answer: {reason}", spec.name));
                silent.push(scenario.about_system(i, "url", words, Some(remedy)).to_string());
            }
            Err(e) => silent.push(scenario.about_system(i, "url", secrets.text(&e.to_string()), None).to_string()),
        }
    }
    if silent.is_empty() {
        return Ok(notes);
    }
    silent.extend(notes.iter().map(|(key, text)| format!("{key}: {text}")));
    Err(Failure::system(silent.join("\n\n")))
}
