//! One file per command.

pub mod broker;
