//! Losses of power, for systems that msgbench launched: whether they can be had here, and what they
//! may take.

use std::path::Path;

use crate::driver::{Acknowledgement, Durability, Facts};
use crate::plan::{Action, ClusterRole, NodeChoice, Plan, PlannedEvent};
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
        let put = supply.put_at(std::slice::from_ref(&at)).and_then(|()| supply.cut(0).map(drop));
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

/// Whether messages that were acknowledged may be missing after these events without a broken
/// promise: the power went of a system that acknowledges before it syncs, and there is no other
/// node that has kept its own.
pub fn excuses(events: &[PlannedEvent], facts: &Facts) -> bool {
    let mut cuts = events.iter().filter(|e| e.action == Action::Power);
    let promised = &facts.guarantees;
    let replicas = facts.settings.get("replicas").and_then(|n| n.parse().ok()).unwrap_or(1);
    let replicated = promised.acknowledgement.level == Acknowledgement::Replicas && replicas > 1;
    let taken = |e: &PlannedEvent| !replicated || e.node == NodeChoice::Role(ClusterRole::All);
    promised.durability.level != Durability::SyncedFirst && cuts.any(taken)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::driver::{Guarantees, Stated};
    use crate::units::Span;

    /// Who syncs first is never excused; who has replicas only where all of them lost their power.
    #[test]
    fn what_a_loss_of_power_may_take() {
        let event = |action, node| PlannedEvent { node, ..PlannedEvent::once(Span::secs(1), action) };
        let one = event(Action::Power, NodeChoice::Number(0));
        let all = event(Action::Power, NodeChoice::Role(ClusterRole::All));
        let kill = event(Action::Restart, NodeChoice::Role(ClusterRole::All));
        let of = |durability, acknowledgement, replicas: &str| Facts {
            guarantees: Guarantees {
                durability: Stated::new(durability, ""),
                acknowledgement: Stated::new(acknowledgement, ""),
                ..Guarantees::default()
            },
            settings: [("replicas".to_owned(), replicas.to_owned())].into(),
            ..Facts::default()
        };
        let (file, synced) = (Durability::File, Durability::SyncedFirst);
        let alone = of(file, Acknowledgement::Leader, "1");
        let cluster = of(file, Acknowledgement::Replicas, "3");
        assert!(excuses(std::slice::from_ref(&one), &alone));
        assert!(!excuses(std::slice::from_ref(&kill), &alone), "the kernel has it");
        assert!(!excuses(&[one.clone(), all.clone()], &of(synced, Acknowledgement::Leader, "1")));
        assert!(!excuses(std::slice::from_ref(&one), &cluster));
        assert!(excuses(&[one], &of(file, Acknowledgement::Replicas, "1")), "all of one");
        assert!(excuses(&[kill, all], &cluster));
    }
}
