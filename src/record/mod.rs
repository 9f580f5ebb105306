//! What a run leaves behind: `run.json`, `intervals.csv` and one `.hlog` for each trial.
//!
//! The record is plain data, versioned, written to a temporary name and renamed after every trial,
//! so that a crash costs one trial. `run.json` alone answers what was done and what came out; the
//! `.hlog` files hold every sample as HDR histograms (one per interval and kind), from which other
//! figures can be computed.

mod calibration;
mod folder;
pub mod hlog;
mod model;
pub mod outage;
mod packed;
#[cfg(test)]
pub(crate) mod sample;
mod secrets;
pub mod store;
pub mod value;

pub use crate::units::calendar::{RunClock, rfc3339};
pub use calibration::{Calibration, Floor, NEAR};
pub use folder::Folder;
pub use model::*;
pub use packed::{HistogramStore, Packed};
pub use secrets::Secrets;
pub use store::{Loaded, Store, StoreError, TaggedInterval};
