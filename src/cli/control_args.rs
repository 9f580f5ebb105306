//! The arguments that say where the control server of agents is.

use std::path::PathBuf;
use std::time::Duration;

use crate::agents::{ControlServer, Fleet, FleetError, FleetOptions};
use crate::engine::{Interrupt, Register};
use crate::scenario::{OptionEdit, Scenario};
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
    /// Let so many agents run the load (`msgbench agent`, `msgbench agents`); 0: none, though the
    /// scenario asks for them
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(0..=10_000))]
    agents: Option<u32>,
    /// Where agents are met: a server that speaks the NATS protocol, and not one that is measured
    #[arg(long, value_name = "URL")]
    control: Option<String>,
    /// How long agents are waited for
    #[arg(long = "agents-wait", value_name = "TIME", default_value = "60s")]
    wait: Span,
    #[command(flatten)]
    at: ControlArgs,
}

impl AgentsOfRun {
    /// What they change in a scenario.
    pub(super) fn edits(&self) -> Vec<OptionEdit> {
        let quoted = |url: &String| toml::Value::String(url.clone()).to_string();
        let count = self.agents.map(|n| ("--agents", "agents.count", n.to_string()));
        // Without the URL: a password may stand in it.
        let control = self.control.as_ref().map(|url| ("--control", "agents.control", quoted(url)));
        let edit = |(option, path, value): (&str, &str, String)| OptionEdit {
            option: if path.ends_with("count") { format!("{option} {value}") } else { option.to_owned() },
            path: path.to_owned(),
            value,
        };
        count.into_iter().chain(control).map(edit).collect()
    }

    /// Whether agents can run the load of a scenario that asks for them.
    pub(super) fn check(&self, scenario: &Scenario, register: &Register) -> Result<(), Failure> {
        let Some(agents) = &scenario.plan.agents else { return Ok(()) };
        if agents.control.is_none() {
            let hint = "write `control = \"nats://host:4222\"`, or give --control nats://host:4222";
            let said = scenario.about(&["agents"], "nothing says where the agents are met".into(), Some(hint.into()));
            return Err(Failure::usage(said));
        }
        can_be_divided(scenario, register)
    }

    /// The agents that are asked for; none where none are.
    pub(super) fn gather(&self, scenario: &Scenario, interrupt: &Interrupt) -> Result<Option<Fleet>, Failure> {
        let Some(agents) = &scenario.plan.agents else { return Ok(None) };
        let (agents, url) = (agents.clone(), agents.control.as_deref().unwrap_or_default());
        let (control, fleet) = (self.at.server(url), self.at.fleet.clone());
        let wait = Duration::from_nanos(self.wait.0);
        let options = FleetOptions { control, fleet, agents, wait };
        Fleet::gather(&options, &scenario.plan, interrupt).map(Some).map_err(|e| match e {
            FleetError::Interrupted => Failure::new(Exit::Interrupted, e),
            FleetError::Thread(_) => Failure::internal(e),
            FleetError::Control(_) | FleetError::TooFew(_) => Failure::usage(e),
        })
    }
}

/// Whether each system of a scenario that asks for agents can be driven by them.
pub(super) fn can_be_divided(scenario: &Scenario, register: &Register) -> Result<(), Failure> {
    if scenario.plan.agents.is_none() {
        return Ok(());
    }
    register.joins(&scenario.plan).map_err(|(system, words)| {
        let hint = "leave the system out, or run it without agents: --agents 0";
        Failure::usage(scenario.about_system(system, "driver", words, Some(hint.into())))
    })
}
