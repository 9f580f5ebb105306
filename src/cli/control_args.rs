//! The arguments that say where the control server of agents is.

use std::path::PathBuf;
use std::time::Duration;

use crate::agents::{ControlServer, Fleet, FleetError, FleetOptions};
use crate::engine::{Interrupt, Register};
use crate::plan::{Plan, divide};
use crate::units::Span;

use super::{Exit, Failure};

/// Where the control server is, and how it is reached.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct ControlArgs {
    /// Agents and runs of the same name hear of each other
    #[arg(long, value_name = "NAME", default_value = "default", value_parser = fleet_name)]
    pub(super) fleet: String,
    /// File with the seed of an NKey for the control server
    #[arg(long = "control-key", alias = "key", value_name = "FILE")]
    key: Option<PathBuf>,
    /// File with the certificate of who has signed that of the control server; the connection is
    /// then by TLS
    #[arg(long = "control-ca", value_name = "FILE")]
    ca: Option<PathBuf>,
}

/// A name that can be a part of a subject.
fn fleet_name(text: &str) -> Result<String, String> {
    let fits = !text.is_empty() && text.chars().all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '_');
    if fits { Ok(text.into()) } else { Err("write letters, digits, - and _".into()) }
}

impl ControlArgs {
    /// The control server at this address.
    pub(super) fn server(&self, url: &str) -> ControlServer {
        ControlServer { url: url.into(), key: self.key.clone(), ca: self.ca.clone() }
    }

    /// The same as arguments of an agent.
    pub(super) fn arguments(&self, url: &str) -> Vec<String> {
        let mut all = vec!["--control".to_owned(), url.to_owned(), "--fleet".to_owned(), self.fleet.clone()];
        let files = [("--control-key", &self.key), ("--control-ca", &self.ca)];
        let named = files.into_iter().filter_map(|(name, file)| Some((name, file.as_ref()?)));
        all.extend(named.flat_map(|(name, file)| [name.to_owned(), file.to_string_lossy().into_owned()]));
        all
    }
}

/// Whether agents run the load of a scenario.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct AgentsOfRun {
    /// Let so many agents run the load (`msgbench agent`, `msgbench agents`)
    #[arg(long, value_name = "N", requires = "control", value_parser = clap::value_parser!(u32).range(1..=10_000))]
    agents: Option<u32>,
    /// Where agents are met: a server that speaks the NATS protocol, and not one that is measured
    #[arg(long, value_name = "URL", requires = "agents")]
    control: Option<String>,
    /// How long agents are waited for
    #[arg(long = "agents-wait", value_name = "TIME", default_value = "60s")]
    wait: Span,
    #[command(flatten)]
    at: ControlArgs,
}

impl AgentsOfRun {
    /// Whether there are to be any.
    pub(super) fn asked(&self) -> bool {
        self.agents.is_some()
    }

    /// Divides a plan over the agents that are asked for.
    pub(super) fn divide(&self, plan: &mut Plan, register: &Register) -> Result<(), Failure> {
        let Some(agents) = self.agents else { return Ok(()) };
        divide(plan, agents).map_err(Failure::usage)?;
        register.joins(plan).map_err(Failure::usage)
    }

    /// The agents that are asked for; none where none are.
    pub(super) fn gather(&self, plan: &Plan, interrupt: &Interrupt) -> Result<Option<Fleet>, Failure> {
        let (Some(agents), Some(url)) = (self.agents, &self.control) else { return Ok(None) };
        let (control, fleet) = (self.at.server(url), self.at.fleet.clone());
        let wait = Duration::from_nanos(self.wait.0);
        let options = FleetOptions { control, fleet, agents, wait };
        Fleet::gather(&options, plan, interrupt).map(Some).map_err(|e| match e {
            FleetError::Interrupted => Failure::new(Exit::Interrupted, e),
            FleetError::Thread(_) => Failure::internal(e),
            FleetError::Control(_) | FleetError::TooFew(_) => Failure::usage(e),
        })
    }
}
