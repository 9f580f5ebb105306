//! `msgbench agents`: starts agents, or prints what starts them.

mod manifest;
mod ssh;

use crate::agents;
use crate::engine::Interrupt;
use crate::plan::AgentLabel;

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
    Local(LocalArgs),
    /// Start an agent on each of these hosts by your own ssh, and keep them until they end
    Ssh(ssh::SshArgs),
    /// Print objects of Kubernetes that start agents: an Indexed Job, and its secret
    Manifest(manifest::ManifestArgs),
}

/// Arguments of `agents local`.
#[derive(Debug, clap::Args)]
struct LocalArgs {
    /// How many
    #[arg(value_parser = clap::value_parser!(u32).range(1..=10_000))]
    agents: u32,
    /// Where agents are met: a server that speaks the NATS protocol, and not one that is measured
    #[arg(long, value_name = "URL")]
    control: String,
    #[command(flatten)]
    at: ControlArgs,
    /// What each agent says of itself, for placement: zone=a. May be given several times
    #[arg(long = "label", value_name = "KEY=VALUE")]
    labels: Vec<AgentLabel>,
}

/// What agents of other hosts are told.
#[derive(Debug, clap::Args)]
struct LaunchArgs {
    /// The control server as the agents see it; not the system under test
    #[arg(long, value_name = "URL")]
    control: String,
    /// Agents and runs of the same name hear of each other [default: default]
    #[arg(long, value_name = "NAME")]
    fleet: Option<String>,
    /// What each agent says of itself, for placement: zone=a. May be given several times
    #[arg(long = "label", value_name = "KEY=VALUE")]
    labels: Vec<AgentLabel>,
}

pub(super) fn run(args: &AgentsArgs) -> Result<Exit, Failure> {
    match &args.place {
        AgentsPlace::Local(args) => local(args),
        AgentsPlace::Ssh(args) => ssh::run(args),
        AgentsPlace::Manifest(args) => manifest::run(args),
    }
}

fn local(args: &LocalArgs) -> Result<Exit, Failure> {
    let interrupt = Interrupt::default();
    listen(&interrupt)?;
    let program = std::env::current_exe().map_err(Failure::internal)?;
    let mut arguments = args.at.arguments(&args.control);
    arguments.extend(args.labels.iter().flat_map(|label| ["--label".to_owned(), label.to_string()]));
    agents::local(&program, args.agents, &arguments, &interrupt).map_err(Failure::system)?;
    Ok(if interrupt.count() > 0 { Exit::Interrupted } else { Exit::Passed })
}
