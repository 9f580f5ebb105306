//! `msgbench check`: validates a scenario and prints the plan; starts nothing.

use crate::engine::Register;

use super::scenario_args::ScenarioArgs;
use super::{Exit, Failure, OutputFormat, pretty, print, source};

/// Arguments of `check`.
#[derive(Debug, clap::Args)]
pub struct CheckArgs {
    #[command(flatten)]
    scenario: ScenarioArgs,
    /// How to print the plan
    #[arg(long, value_enum, default_value_t)]
    format: OutputFormat,
}

pub(super) fn run(args: &CheckArgs) -> Result<Exit, Failure> {
    let register = Register::built_in();
    let scenario = source::load(&args.scenario, &register.types())?;
    let secrets = register.secrets(&scenario.plan);
    register.check(&scenario.plan).map_err(|e| Failure::usage(secrets.text(&e.to_string())))?;
    let plan = secrets.clean(scenario.plan);
    match args.format {
        OutputFormat::Text => print(&crate::scenario::describe(&plan)),
        OutputFormat::Json => print(&pretty(&plan)),
    }
}
