//! `msgbench agents`: starts agents.

use crate::agents;
use crate::engine::Interrupt;

use super::control_args::ControlArgs;
use super::interrupt::listen;
use super::{Exit, Failure};

/// Arguments of `agents`.
#[derive(Debug, clap::Args)]
pub struct AgentsArgs {
    #[command(subcommand)]
    place: AgentsPlace,
}

/// Where agents are started.
#[derive(Debug, clap::Subcommand)]
enum AgentsPlace {
    /// As processes of this host; they end with this command
    Local {
        /// How many
        #[arg(value_parser = clap::value_parser!(u32).range(1..=10_000))]
        agents: u32,
        /// Where agents are met: a server that speaks the NATS protocol, and not one that is
        /// measured
        #[arg(long, value_name = "URL")]
        control: String,
        #[command(flatten)]
        at: ControlArgs,
    },
}

pub(super) fn run(args: &AgentsArgs) -> Result<Exit, Failure> {
    match &args.place {
        AgentsPlace::Local { agents, control, at } => {
            let interrupt = Interrupt::default();
            listen(&interrupt)?;
            let program = std::env::current_exe().map_err(Failure::internal)?;
            agents::local(&program, *agents, &at.arguments(control), &interrupt).map_err(Failure::system)?;
            Ok(if interrupt.count() > 0 { Exit::Interrupted } else { Exit::Passed })
        }
    }
}
