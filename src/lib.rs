//! msgbench drives one scenario against several messaging systems with an open-loop,
//! coordinated-omission-free load generator, accounts for every message, and renders a report that
//! an engineer can believe.
//!
//! ```text
//! scenario file -> Plan -> (engine: system + driver + schedule -> recorder) -> Record on disk -> compare -> report
//! ```
//!
//! [`scenario`] turns a TOML file into a validated [`plan::Plan`]. For each trial
//! [`engine`] brings a [`system`] up, opens its [`driver`], walks the [`load`] schedule, and
//! [`measure`] fills histograms and the ledger; the outcome is folded once into a
//! [`record::Record`], which [`record`] writes. [`compare`] reads records; [`report`] turns them
//! into bytes. Nothing flows back. [`broker`] is the built-in reference broker, usable alone.
//! [`units`] and [`stats`] are the ground everything stands on.
//!
//! The words (intended, sent, response, service, lag, ledger, trial, round) are those of the
//! glossary in `docs/measurement.md`.

// They panic when nobody can read them; `units::say` does not.
#![warn(clippy::print_stderr, clippy::print_stdout)]

pub mod agents;
#[cfg(test)]
mod allocations;
pub mod broker;
pub mod calibrate;
pub mod claims;
pub mod cli;
pub mod clocks;
pub mod compare;
pub mod driver;
pub mod engine;
pub mod faults;
pub mod host;
pub mod launch;
pub mod load;
pub mod measure;
pub mod plan;
pub mod record;
pub mod report;
pub mod scenario;
pub mod stats;
pub mod system;
pub mod units;
pub mod validity;

// The tests beside the code need the same servers as those in `tests/`, and share their file.
#[cfg(test)]
extern crate self as msgbench;
#[cfg(test)]
#[path = "../tests/common/needs.rs"]
mod needs;
