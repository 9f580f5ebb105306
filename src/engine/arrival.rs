//! Which instants each client of a plan gives to messages that came together.

use std::path::Path;

use crate::driver::Target;
use crate::plan::Plan;
use crate::system::SystemContext;

pub use super::batch_arrival::{ArrivalResult, ArrivalTrials};
use super::register::Register;

/// Tries every system of a plan, each of them a reference broker of its own.
///
/// # Errors
/// What failed, in words.
pub fn stamps(
    plan: &Plan,
    register: &Register,
    scratch: &Path,
    trials: ArrivalTrials<'_>,
) -> Result<Vec<ArrivalResult>, String> {
    let mut all = Vec::new();
    for case in &plan.cases {
        let choice = register.choose(plan.spec(case), &case.workloads)?;
        let spec = choice.spec;
        let dir = scratch.join(format!("arrival-{}", spec.name));
        std::fs::create_dir_all(&dir).map_err(|e| format!("cannot make a folder for the server: {e}"))?;
        let timeout = case.phases.connect.duration();
        let mut system =
            register.create(&spec, SystemContext { dir, timeout, cpus: None }).map_err(|e| e.to_string())?;
        let running = system.start().map_err(|e| e.to_string())?;
        let mut options = running.client;
        options.extend(choice.options);
        let target = Target { url: running.url, timeout, run: 0x0a22, options, ..Target::default() };
        let seen = (choice.client.arrivals)(target, &case.workloads, trials);
        system.stop().map_err(|e| e.to_string())?;
        let seen = seen.map_err(|e| format!("{}: {e}", spec.name))?;
        all.extend(seen.into_iter().map(|s| ArrivalResult { system: spec.name.clone(), ..s }));
    }
    Ok(all)
}
