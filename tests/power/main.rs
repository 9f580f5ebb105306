//! Losses of power: what a store that loses its power keeps, and what systems on it do.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails here")]

mod log;
#[path = "../common/needs.rs"]
mod needs;
mod scenarios;
mod store;

const PROGRAM: &str = env!("CARGO_BIN_EXE_msgbench");
