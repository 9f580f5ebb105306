//! What a run cites of the calibration of its host.
//!
//! A certificate is long; a reader of a result needs to know when this host was last calibrated,
//! what came of it, what the harness itself costs here, and up to which rate it is to be trusted.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::Host;
use crate::units::{Nanos, Rate};

/// A latency below so many times the floor is as much the harness's as the system's (stats.md C1).
pub const NEAR: u64 = 3;

/// Of the newest certificate of this host.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Calibration {
    /// When it began, UTC, RFC 3339.
    pub started_at: String,
    /// `quick` or `full`.
    pub form: String,
    /// `PASS`, `DISTURBED` or `FAIL`.
    pub verdict: String,
    /// Version and build profile of the msgbench that was calibrated.
    pub version: String,
    pub profile: String,
    /// The highest rate at which the generator alone kept its schedule here, messages per second.
    pub max_trustworthy_rate: f64,
    /// Whether the floor and that rate could be established; otherwise nothing is refused for them.
    pub floor_holds: bool,
    /// What the harness itself costs, by rate, ascending.
    pub floor: Vec<Floor>,
}

/// What the harness itself costs at a rate: a latency below three times this says little.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Floor {
    /// `null driver`, or `reference broker` without faults.
    pub through: String,
    /// Messages per second.
    pub rate: f64,
    /// Response latency, ns.
    pub p50_ns: Option<Nanos>,
    /// See above.
    pub p99_ns: Option<Nanos>,
    /// See above.
    pub p999_ns: Option<Nanos>,
    /// Whether the schedule was kept.
    pub kept: bool,
}

impl Floor {
    /// The floor at a quantile, ns: that of the highest known quantile which is not above it, so
    /// that it is never too high.
    pub fn at(&self, quantile: f64) -> Option<Nanos> {
        let known = [(0.999, self.p999_ns), (0.99, self.p99_ns), (0.5, self.p50_ns)];
        known.into_iter().find(|(q, ns)| *q <= quantile + 1e-9 && ns.is_some()).and_then(|(_, ns)| ns)
    }
}

impl Calibration {
    /// The floor of the null driver at the lowest tried rate that is not below this one, or at the
    /// highest that was tried.
    pub fn floor_at(&self, rate: f64) -> Option<&Floor> {
        let mut null = self.floor.iter().filter(|f| f.through == "null driver");
        let last = null.clone().next_back();
        null.find(|f| f.rate >= rate).or(last)
    }

    pub fn sentence(&self) -> String {
        let mut text = format!(
            "This host was calibrated on {} (msgbench {}, {} form, {}); highest trustworthy rate {}",
            self.started_at,
            self.version,
            self.form,
            self.verdict,
            Rate(self.max_trustworthy_rate)
        );
        if let Some(floor) = self.floor_at(1e4) {
            let ns = |v: Option<Nanos>| v.map_or("not known".into(), crate::units::latency);
            text += &format!(
                "; floor of the harness at {}: p50 {}, p99 {}, p99.9 {}",
                Rate(floor.rate),
                ns(floor.p50_ns),
                ns(floor.p99_ns),
                ns(floor.p999_ns)
            );
        }
        text + "."
    }
}

impl Host {
    /// Names the host as far as a calibration depends on it: processor, number of usable CPUs,
    /// kernel, clock source, hypervisor and governor. A certificate of another fingerprint is not
    /// of this host.
    pub fn fingerprint(&self) -> String {
        let Self { kernel, cpu, cpus, clocksource, virtualised, governor, .. } = self;
        let text = format!("{cpu}\n{cpus}\n{kernel}\n{clocksource}\n{virtualised}\n{governor:?}");
        Sha256::digest(text.as_bytes()).iter().take(8).map(|b| format!("{b:02x}")).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn floor(rate: f64, p999_ns: Option<Nanos>) -> Floor {
        Floor { through: "null driver".into(), rate, p50_ns: Some(500), p99_ns: Some(2_000), p999_ns, kept: true }
    }

    fn calibration() -> Calibration {
        Calibration {
            started_at: "2026-01-02T03:04:05Z".into(),
            form: "full".into(),
            verdict: "PASS".into(),
            version: "0.1.0".into(),
            profile: "release".into(),
            max_trustworthy_rate: 1e5,
            floor_holds: true,
            floor: vec![
                floor(1e3, None),
                floor(1e5, Some(9_000)),
                Floor { through: "reference broker".into(), ..floor(1e3, None) },
            ],
        }
    }

    #[test]
    fn a_floor_is_never_taken_from_a_higher_quantile() {
        let thin = floor(1e3, None);
        assert_eq!(
            [0.1, 0.5, 0.9, 0.99, 0.9999].map(|q| thin.at(q)),
            [None, Some(500), Some(500), Some(2_000), Some(2_000)]
        );
        assert_eq!(floor(1e5, Some(9_000)).at(0.9999), Some(9_000));
    }

    #[test]
    fn the_floor_of_a_rate_is_that_of_the_next_one_tried() {
        let c = calibration();
        assert_eq!([10.0, 1e3, 2e3, 1e7].map(|rate| c.floor_at(rate).map(|f| f.rate)), [1e3, 1e3, 1e5, 1e5].map(Some));
        insta::assert_snapshot!(c.sentence(), @"This host was calibrated on 2026-01-02T03:04:05Z (msgbench 0.1.0, full form, PASS); highest trustworthy rate 100k/s; floor of the harness at 100k/s: p50 500ns, p99 2.00us, p99.9 9.00us.");
    }

    #[test]
    fn another_kernel_is_another_host_and_another_load_is_not() {
        let host = Host { kernel: "6.1".into(), cpus: 2, ..Host::default() };
        let busy = Host { load_average: 3.0, clock_read_ns: 9.0, ..host.clone() };
        let newer = Host { kernel: "6.2".into(), ..host.clone() };
        assert_eq!(host.fingerprint(), busy.fingerprint());
        assert_ne!(host.fingerprint(), newer.fingerprint());
        assert_eq!(host.fingerprint().len(), 16);
    }
}
