//! What a scenario did to a system, to the network or to a consumer, as it was done.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::plan::{Action, ClusterRole};
use crate::units::Nanos;

/// Faults that are no further apart than this, one by one, are of one moment: what follows is the
/// doing of each of them.
pub const SAME_MOMENT: Nanos = 50_000_000;

/// A fault of the scenario, or one repetition of it. All instants are nanoseconds since the
/// measured phase began.
///
/// What undoes another one (`resume`, `mend`, `restart` of a node that was killed) is no fault of
/// its own: it is the `undone_ns` of that one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct FaultRecord {
    /// Which entry of the plan's `events` asked for it, from 0.
    pub event: u32,
    /// Which repetition of that entry it is, from 1.
    pub occurrence: u32,
    pub action: Action,
    /// The nodes that it was done to, from 0; none where it was done to a consumer, or to the
    /// network between all.
    pub nodes: Vec<u32>,
    /// Where the scenario named a role instead of a number: which. The nodes had it when the fault
    /// began.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub role: Option<ClusterRole>,
    /// The member of the first group of each workload that it was done to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub consumer: Option<u32>,
    /// When the scenario asks for it, chance included.
    pub due_ns: Nanos,
    /// When it began: later than due where the cluster had not settled from the one before.
    pub at_ns: Nanos,
    /// When it was undone: the node runs again, the network is as it was. Null when it never was,
    /// and for what cannot be undone.
    pub undone_ns: Option<Nanos>,
    /// When all nodes were seen to be there again, with every replica up to date; null when that
    /// was not looked for (it was never undone, or was done to a consumer), or not seen before the
    /// trial was over.
    pub settled_ns: Option<Nanos>,
}
