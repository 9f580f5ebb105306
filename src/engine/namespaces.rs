//! What a run moves into before it starts a thread: namespaces of its own, for what it does to the
//! network and to files.

use super::{network, power};
use crate::plan::Plan;

/// Moves the calling thread, and all that it starts from now on, into what the plan's faults need.
///
/// # Errors
/// In words, with a remedy, where that cannot be had here. Must be called while the process has one
/// thread.
pub fn enter(plan: &Plan) -> Result<(), String> {
    network::enter(plan)?;
    power::enter(plan, &std::env::temp_dir())
}
