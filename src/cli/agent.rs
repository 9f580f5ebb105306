//! `msgbench agent`: runs a part of the load that a coordinator divides.

use std::path::PathBuf;

use crate::agents::{AgentOptions, serve};
use crate::engine::{Interrupt, Register};
use crate::plan::AgentLabel;
use crate::units::say;

use super::control_args::ControlArgs;
use super::interrupt::listen;
use super::{Exit, Failure};

/// Arguments of `agent`.
#[derive(Debug, clap::Args)]
pub struct AgentArgs {
    /// Where agents are met: a server that speaks the NATS protocol, and not one that is measured
    #[arg(long, value_name = "URL")]
    control: String,
    #[command(flatten)]
    at: ControlArgs,
    /// Name in reports [default: agent- and the number of the process]
    #[arg(long, value_name = "NAME", value_parser = agent_name)]
    name: Option<String>,
    /// What it is labelled with, such as zone=a; may be given several times
    #[arg(long = "label", value_name = "KEY=VALUE")]
    labels: Vec<AgentLabel>,
    /// Folder in which a result lies until the coordinator has it [default: of temporary files]
    #[arg(long, value_name = "DIR")]
    spool: Option<PathBuf>,
    /// End when the first run that it is part of has ended
    #[arg(long)]
    once: bool,
}

/// A name that can be a part of the name of a file.
fn agent_name(text: &str) -> Result<String, String> {
    let fits = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    let good = !text.is_empty() && !text.starts_with('.') && text.chars().all(fits);
    if good { Ok(text.into()) } else { Err("write letters, digits, -, _ and .".into()) }
}

pub(super) fn run(args: &AgentArgs) -> Result<Exit, Failure> {
    let interrupt = Interrupt::default();
    listen(&interrupt)?;
    let options = AgentOptions {
        control: args.at.server(&args.control),
        fleet: args.at.fleet.clone(),
        name: args.name.clone(),
        labels: args.labels.iter().cloned().map(|AgentLabel { key, value }| (key, value)).collect(),
        spool: args.spool.clone(),
        once: args.once,
    };
    let tell = |words: &str| say(format_args!("msgbench: {words}"));
    serve(&options, Register::built_in(), &interrupt, &tell).map_err(Failure::usage)?;
    Ok(if interrupt.count() > 0 { Exit::Interrupted } else { Exit::Passed })
}
