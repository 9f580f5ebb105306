//! Faults of the log: a batch that is hit passes one server before it is appended.

mod batch;
mod stored;

pub(super) use batch::{Decided, Decision, QueuedBatch};
pub(super) use stored::BatchFaultQueue;
