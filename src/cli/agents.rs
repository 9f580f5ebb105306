//! `msgbench agents`: starts agents, or prints what starts them.

mod manifest;
mod ssh;

use crate::launch::AgentLabel;

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
    /// Start an agent on each of these hosts by your own ssh, and keep them until they end
    Ssh(ssh::SshArgs),
    /// Print objects of Kubernetes that start agents: an Indexed Job, and its secret
    Manifest(manifest::ManifestArgs),
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
        AgentsPlace::Ssh(args) => ssh::run(args),
        AgentsPlace::Manifest(args) => manifest::run(args),
    }
}
