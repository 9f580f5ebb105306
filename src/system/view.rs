//! What a cluster says of its own nodes while it runs: who has which role, and whether all is well
//! again.

use std::time::Instant;

use crate::plan::ClusterRole;

/// Who can be asked about the nodes of a system. Asked from a thread of its own, because an answer
/// may be long in coming.
pub trait ClusterView: Send + Sync {
    /// The nodes that have this role now, in the order of [`Running::pids`]; `stored` is the name
    /// of the stream or topic that a leader and its followers are of. All nodes that answer are
    /// asked, each time anew.
    ///
    /// [`Running::pids`]: super::Running::pids
    ///
    /// # Errors
    /// Why nobody is known to have it at the moment: an election goes on, or too few answer.
    fn nodes(&self, role: ClusterRole, stored: Option<&str>, deadline: Instant) -> Result<Vec<u32>, String>;

    /// Asks the cluster that another node leads a topic, where its clients cannot ask for that.
    ///
    /// # Errors
    /// What it says, or that it is not asked in this way.
    fn transfer(&self, _stored: &str, _deadline: Instant) -> Result<(), String> {
        Err("its leader does not hand over when it is asked".into())
    }

    /// Whether every node answers and knows the others, and every replica of all that is stored is
    /// up to date.
    ///
    /// # Errors
    /// What is missing.
    fn settled(&self, deadline: Instant) -> Result<(), String>;
}
