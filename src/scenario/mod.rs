//! From a TOML file to a validated plan.

pub mod plan;
