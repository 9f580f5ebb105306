//! What a fault did to a workload, from the instants at which its messages were due: how long each
//! partition or subject took no writes, or gave no messages; how long until the latency was as
//! before; the backlog.
//!
//! # Design
//! Recording is one step for each message, in memory that is bounded beforehand: see [`slots`]. The
//! rest is computed from the slots when the trial is over, by pure functions.

mod backlog;
#[cfg(test)]
mod faults_tests;
mod ladder;
mod recovery;
mod runs;
mod side;
pub mod slots;
#[cfg(test)]
mod tests;

pub use recovery::TracePoint;
pub use runs::{LaneOutage, OutageRun};
pub use side::{FaultWindow, SideOutage, side_outages};
pub use slots::{Mishap, OutageLog, OutageSide, SlotGrid};
