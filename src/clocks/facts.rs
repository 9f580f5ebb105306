//! What a machine says of its own clock: by chrony, by the kernel, by devices of PTP. Facts as they
//! are told, and the error that follows from them.
//!
//! They are of the clock of the day. No latency is taken from it: between hosts the offset is
//! measured, with a bound. The facts say how far the times of day in files of several hosts can be
//! trusted.

use serde::{Deserialize, Serialize};

use crate::units::Nanos;

/// What `chronyc -c tracking` says.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ChronyTracking {
    /// Name or address of the source; empty where it has none.
    pub reference: String,
    pub stratum: u32,
    /// How far the clock is from the time that chrony estimates, ns, whichever way.
    pub system_offset_ns: Nanos,
    pub root_delay_ns: Nanos,
    pub root_dispersion_ns: Nanos,
    /// By how much the clock would be wrong if it were not corrected, parts per million.
    pub frequency_ppm: f64,
    pub synchronised: bool,
}

impl ChronyTracking {
    /// The most by which the clock is wrong: |system time offset| + root dispersion + half of the
    /// root delay (chronyc(1), `tracking`, root dispersion).
    pub fn error_ns(&self) -> Nanos {
        self.system_offset_ns + self.root_dispersion_ns + self.root_delay_ns / 2
    }
}

/// What the kernel says (adjtimex(2)).
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct KernelClock {
    /// Something has told it that the clock is right, and not too long ago.
    pub synchronised: bool,
    /// The most by which the clock is wrong; grows by 500 ppm until it is told again.
    pub max_error_ns: Nanos,
    pub estimated_error_ns: Nanos,
    /// By how much its rate is corrected, parts per million.
    pub frequency_ppm: f64,
}

/// A hardware clock that PTP can set or be read from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PtpDevice {
    /// `ptp0`.
    pub device: String,
    /// What its driver calls it; empty where that is not told.
    pub clock: String,
}

/// Who says how wrong the clock is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ClockAuthority {
    Chrony,
    Kernel,
}

/// All that a machine says of its clock.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct ClockFacts {
    pub chrony: Option<ChronyTracking>,
    pub kernel: Option<KernelClock>,
    #[serde(default)]
    pub ptp: Vec<PtpDevice>,
}

impl ClockFacts {
    /// The most by which the clock of the day is wrong, ns, and who says so; `None` where nobody
    /// does, or it is not synchronised.
    pub fn error(&self) -> Option<(Nanos, ClockAuthority)> {
        let chrony = self.chrony.as_ref().filter(|c| c.synchronised).map(|c| (c.error_ns(), ClockAuthority::Chrony));
        let kernel = self.kernel.filter(|k| k.synchronised).map(|k| (k.max_error_ns, ClockAuthority::Kernel));
        chrony.or(kernel)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_disciplines_the_clock_is_asked_first_and_only_if_it_does() {
        let kernel = |synchronised| KernelClock {
            synchronised,
            max_error_ns: 7_000_000,
            estimated_error_ns: 1_000,
            frequency_ppm: 0.0,
        };
        let chrony = |synchronised| ChronyTracking {
            reference: "time.example.org".into(),
            stratum: 3,
            system_offset_ns: 12_500,
            root_delay_ns: 4_000_000,
            root_dispersion_ns: 300_000,
            frequency_ppm: -12.345,
            synchronised,
        };
        let facts = |by_chrony, by_kernel| {
            ClockFacts { chrony: Some(chrony(by_chrony)), kernel: Some(kernel(by_kernel)), ptp: Vec::new() }.error()
        };
        assert_eq!(facts(true, true), Some((2_312_500, ClockAuthority::Chrony)));
        assert_eq!(facts(false, true), Some((7_000_000, ClockAuthority::Kernel)));
        assert_eq!(facts(false, false), None);
        assert_eq!(ClockFacts::default().error(), None);
    }
}
