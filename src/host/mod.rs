//! The machine that a run takes place on ([`machine`]) and its audit ([`doctor`]).

pub mod doctor;
pub mod machine;
mod ticks;
