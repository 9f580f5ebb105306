//! Faults of the log: a batch that is hit passes one server before it is appended.

mod batch;
mod stored;

pub(super) use batch::{Decided, Decision, Detoured};
pub(super) use stored::Line;
