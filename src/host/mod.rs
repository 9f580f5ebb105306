//! The machine that a run takes place on ([`machine`]), its audit ([`doctor`]), and
//! what it says of its clock ([`clock`]).

pub mod clock;
pub mod doctor;
pub mod files;
pub mod machine;
mod ticks;
