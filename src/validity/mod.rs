//! Whether a trial may be believed: the checks V1 to V20 (stats.md A5), and how well each
//! percentile is known.
//!
//! [`judge`] makes all of them, from what was observed while the trial ran ([`CheckInput`]), from
//! its intervals, and from the calibration of the host. The engine calls it for each trial, so that
//! whoever runs a plan gets judged trials.

mod checks;
mod coincidence;
mod episodes;
mod noise;
mod outcome;
mod steadiness;
mod together;
mod trust;
mod vote;
mod within;

pub use checks::CheckInput;
pub use noise::Sends;
pub use steadiness::BlockFlow;
pub use trust::excess;
pub use vote::{LimitsHeld, VoteCast, vote};

use crate::plan::Case;
use crate::record::{Calibration, Interval, TaggedInterval, Trial};

/// What is known of a trial beside its record.
#[derive(Debug, Clone, Copy)]
pub struct Evidence<'a> {
    /// What was observed of each workload, in the plan's order.
    pub observed: &'a [CheckInput],
    /// Its lines of `intervals.csv`.
    pub intervals: &'a [Interval],
    /// Its interval log.
    pub log: &'a [TaggedInterval],
    /// The newest calibration of this host by this build.
    pub calibration: Option<&'a Calibration>,
}

/// Fills in the interval of each percentile and its doubts, and makes every check that can be made.
///
/// Of a case with several workloads the checks of what was observed name theirs; those of the
/// intervals are there once, the gravest.
pub fn judge(trial: &mut Trial, case: &Case, evidence: &Evidence<'_>) {
    let several = case.workloads.len() > 1;
    for (workload, observed) in case.workloads.iter().zip(evidence.observed) {
        trial.validity.extend(checks::of(observed).into_iter().map(|mut check| {
            if several {
                check.name = format!("{} ({})", check.name, workload.name);
            }
            check
        }));
    }
    within::judge(trial, case, evidence.intervals, evidence.log);
    together::judge(trial, case);
    if let Some(calibration) = evidence.calibration {
        trust::judge(trial, case, calibration);
    }
}
