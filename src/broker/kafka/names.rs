//! What is the same in every broker of this kind.

/// The cluster's id.
pub(super) const CLUSTER: &str = "msgbench";
/// The topic that committed offsets are kept in.
pub(super) const OFFSETS_TOPIC: &str = "__consumer_offsets";
/// The topic that the states of transactional ids are kept in.
pub(super) const TRANSACTIONS_TOPIC: &str = "__transaction_state";
/// The number of times leadership has changed: never.
pub(super) const LEADER_EPOCH: i32 = 0;
/// "Not asked for", where authorized operations are reported.
pub(super) const NO_OPERATIONS: i32 = i32::MIN;
