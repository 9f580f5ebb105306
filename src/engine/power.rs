//! Losses of power, for systems that msgbench launched: whether they can be had here.

use std::path::Path;

use crate::plan::{Action, Plan};
use crate::system::power::{PowerSupply, separate};

/// Moves the calling thread, and all that it starts from now on, into a mount namespace of its own
/// if the plan has a loss of power; and tries a store that can lose its power, in a folder of its
/// own in `within`.
///
/// # Errors
/// In words, with a remedy: the kernel or its administrator does not allow it. Must be called while
/// the process has one thread.
pub fn enter(plan: &Plan, within: &Path) -> Result<(), String> {
    if !plan.events.iter().any(|e| e.action == Action::Power) {
        return Ok(());
    }
    let tried = separate().map_err(|e| format!("a mount namespace cannot be made: {e}")).and_then(|()| {
        let mut supply = PowerSupply::default();
        supply.want()?;
        let at = within.join(format!("msgbench-power-{}", std::process::id()));
        let put = supply.put_at(&[at.clone()]).and_then(|()| supply.cut(0).map(drop));
        drop(supply);
        for left in [at.clone(), at.with_extension("kept")] {
            // It is in the folder for temporary files.
            let _ = std::fs::remove_dir_all(left);
        }
        put
    });
    tried.map_err(|words| {
        format!(
            "not testable here: a loss of power needs a file system of msgbench's own, and {words}; run as root where there is /dev/fuse (modprobe fuse), or allow user namespaces"
        )
    })
}
