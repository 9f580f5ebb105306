//! The words of a fault: what may be typed in a scenario, a faults file or a flag of
//! `msgbench broker`, and its checks.
//!
//! What the reference broker does with them is in [`crate::broker`]. They stand apart so that a
//! scenario can be read without the broker.

mod config;
pub mod pattern;
mod read;

pub use config::{
    DeliveryFaults, Disconnect, DurationLaw, Faults, FaultsError, HitRule, Mixture, Peer, RateCap, Stall, StopReading,
    Window,
};
