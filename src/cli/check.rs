//! `msgbench check`: validates a scenario and prints the plan; starts nothing.

use super::scenario_args::ScenarioArgs;
use super::{Exit, Failure, Format, pretty, print};

/// Arguments of `check`.
#[derive(Debug, clap::Args)]
pub struct CheckArgs {
    #[command(flatten)]
    scenario: ScenarioArgs,
    /// How to print the plan
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

pub(super) fn run(args: &CheckArgs) -> Result<Exit, Failure> {
    let scenario = args.scenario.load()?;
    let secrets = crate::engine::secrets(&scenario.plan);
    crate::engine::check(&scenario.plan).map_err(|e| Failure::usage(secrets.text(&e.to_string())))?;
    let plan = secrets.clean(scenario.plan);
    match args.format {
        Format::Text => print(&crate::scenario::describe(&plan)),
        Format::Json => print(&pretty(&plan)),
    }
}
