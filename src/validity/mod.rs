//! Whether a trial may be believed: the checks V1 to V17 (stats.md A5), from what was observed while it ran
//! ([`checks`]), from its intervals once it is over ([`within`]), and from the calibration of the host ([`trust`]).

pub mod checks;
pub mod coincidence;
pub mod episodes;
pub mod noise;
pub mod steadiness;
pub mod trust;
pub mod within;
