//! The arguments that choose a scenario and override it.

use std::path::PathBuf;

use crate::plan::SystemTypes;
use crate::scenario::{Overrides, Scenario};
use crate::units::{Rate, Span};

use super::Failure;

/// Which scenario, and what is different this time.
#[derive(Debug, clap::Args)]
pub struct ScenarioArgs {
    /// The scenario file
    scenario: PathBuf,
    /// Only this system (may be given several times); it must then be available
    #[arg(long = "system", value_name = "NAME")]
    systems: Vec<String>,
    /// Trials of each case
    #[arg(long, value_name = "N")]
    trials: Option<u32>,
    /// Length of the measured phase, such as 10s
    #[arg(long, value_name = "TIME")]
    duration: Option<Span>,
    /// Rate of every open-loop workload, such as 20k/s
    #[arg(long, value_name = "RATE")]
    rate: Option<Rate>,
    /// Override any key of the scenario, such as run.warmup=0s or workload.payload.size=1KiB
    #[arg(long = "set", value_name = "PATH=VALUE", value_parser = assignment)]
    set: Vec<(String, String)>,
    /// One short trial of each case: a smoke test, not a measurement
    #[arg(long)]
    quick: bool,
}

fn assignment(text: &str) -> Result<(String, String), String> {
    let (path, value) = text.split_once('=').ok_or("write PATH=VALUE, such as run.trials=5")?;
    Ok((path.trim().into(), value.trim().into()))
}

impl ScenarioArgs {
    /// Reads, overrides and validates it.
    pub(super) fn load(&self, types: &SystemTypes) -> Result<Scenario, Failure> {
        let overrides = Overrides {
            set: self.set.clone(),
            systems: self.systems.clone(),
            trials: self.trials,
            duration: self.duration,
            rate: self.rate,
            quick: self.quick,
        };
        crate::scenario::load(&self.scenario, &overrides, types).map_err(Failure::usage)
    }
}
