//! The experiments, numbered as in docs/calibration.md.

mod arrival;
mod capacity;
pub mod clock;
mod compare;
mod counts;
mod delay;
pub mod floor;
mod generator;
mod offset;
mod outage;
mod queue;
mod rate;
mod recorder;
mod stall;

use super::CalibrateError;
use super::certificate::{ClaimLine, Experiment, HostNoise};
use super::context::ExperimentContext;

type RunExperiment = fn(&ExperimentContext<'_>) -> Result<Vec<Experiment>, CalibrateError>;

/// What is run after clock and floor, with what is said meanwhile.
pub const ALL: [(&str, RunExperiment); 13] = [
    ("a stalled broker, and the same as a closed loop sees it", stall::stall),
    ("queues with known service times, and Little's law", queue::queues),
    ("two delays, one of them rare", delay::mixture),
    ("constant delays", delay::constant),
    ("drops, duplicates, swaps, corruption", counts::counts),
    ("a rate cap", rate::cap),
    ("a generator that stalls", generator::stall),
    ("the recorder against sorting", recorder::recorder),
    ("messages that come together", arrival::arrival),
    ("comparisons of the broker with itself, and with a slower one", compare::comparisons),
    ("searches for a known limit", capacity::search),
    ("a broker that stands still for known times", outage::outage),
    ("a hundred clocks with known offsets", offset::offset),
];

fn experiment(
    number: u32,
    name: &str,
    claim: &str,
    lines: Vec<ClaimLine>,
    host_noise: Option<HostNoise>,
) -> Experiment {
    Experiment {
        number,
        name: name.into(),
        claim: claim.into(),
        lines,
        host: host_noise.map(|u| u.words()).unwrap_or_default(),
        seconds: 0.0,
    }
}
