//! The value of a metric of outages in one trial.

use super::{FaultEffect, OutageResult, Trial, WorkloadResult};
use crate::plan::{OfFaults, OutageField, OutageMetric};
use crate::units::SECOND;

/// Nanoseconds; +infinity of what was not over.
fn nanos(seconds: Option<f64>) -> f64 {
    seconds.map_or(f64::INFINITY, |s| s * SECOND as f64)
}

/// The value of one fault; `None` where it was not measured, or is not the fault's alone.
pub fn of_fault(trial: &Trial, effect: &FaultEffect, field: OutageField) -> Option<f64> {
    let settled = |side: &Option<OutageResult>| side.clone().filter(|side| !side.unsettled);
    let (write, read) = (settled(&effect.write), settled(&effect.read));
    let sides = || [&write, &read].into_iter().flatten();
    // What has no side of its own is of both, as far as they are measured.
    let largest = |of: &dyn Fn(&OutageResult) -> Option<f64>| sides().filter_map(of).reduce(f64::max);
    let share = |part: f64, all: f64| if all > 0.0 { Some(part / all) } else { None };
    match field {
        OutageField::Write => write.map(|side| nanos(side.longest_s)),
        OutageField::WriteSum => write.map(|side| nanos(side.sum_s)),
        OutageField::Read => read.map(|side| nanos(side.longest_s)),
        OutageField::ReadSum => read.map(|side| nanos(side.sum_s)),
        OutageField::FirstAck => write.map(|side| nanos(side.first_s)),
        OutageField::FirstDelivery => read.map(|side| nanos(side.first_s)),
        OutageField::Recovery => largest(&|side| side.judged.then(|| nanos(side.recovery_s))),
        OutageField::LateShare => largest(&|side| share(side.late as f64, side.due as f64)),
        OutageField::Blast => largest(&|side| share(side.hit.into(), side.lanes.into())),
        OutageField::Backlog => largest(&|side| Some(side.backlog as f64)),
        OutageField::Drain => largest(&|side| Some(nanos(side.drain_s))),
        OutageField::Redundancy => {
            let fault = trial.faults.get(effect.fault as usize)?;
            fault.settled_ns.map(|at| at.saturating_sub(fault.at_ns) as f64)
        }
        OutageField::Client => {
            let first = write.or(read)?.first_s?;
            Some(nanos(Some((first - effect.ready_s?).max(0.0))))
        }
        OutageField::CatchUpCpu => effect.catch_up_cpu_s,
        OutageField::CatchUpBytes => effect.catch_up_bytes.map(|bytes| bytes as f64),
        OutageField::LostAcked => Some(effect.lost_acked as f64),
        OutageField::LostAckedSpan => Some(nanos(Some(effect.lost_acked_s))),
        OutageField::Duplicated => Some(effect.duplicated as f64),
        OutageField::Reordered => Some(effect.reordered as f64),
        OutageField::Refused => Some(effect.refused as f64),
        OutageField::Disconnects => Some(effect.disconnects as f64),
    }
}

/// The value of a trial; `None` where no fault of it has one.
pub(super) fn value(trial: &Trial, workload: &WorkloadResult, metric: OutageMetric) -> Option<f64> {
    let of = |effect: &FaultEffect| of_fault(trial, effect, metric.field);
    let mut all: Vec<f64> = workload.outages.iter().filter_map(of).collect();
    all.sort_by(f64::total_cmp);
    match metric.of {
        OfFaults::Worst => all.last().copied(),
        OfFaults::Typical if all.is_empty() => None,
        OfFaults::Typical if metric.field.adds_up() => Some(all.iter().sum()),
        OfFaults::Typical => {
            let (low, high) = (all[(all.len() - 1) / 2], all[all.len() / 2]);
            Some(if low.is_infinite() || high.is_infinite() { high } else { low.midpoint(high) })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::sample;

    fn effect(longest_s: Option<f64>, lost_acked: u64, unsettled: bool) -> FaultEffect {
        let write = OutageResult { longest_s, unsettled, due: 10, late: 5, ..OutageResult::default() };
        FaultEffect { write: Some(write), lost_acked, ..FaultEffect::default() }
    }

    #[test]
    fn faults_make_one_value_of_a_trial() {
        let of = |effects: &[FaultEffect], metric: &str| {
            let mut trial = sample::record().trials[0].clone();
            trial.workloads[0].outages = effects.to_vec();
            value(&trial, &trial.workloads[0], OutageMetric::read(metric).unwrap())
        };
        let some = [effect(Some(4.0), 1, false), effect(Some(1.0), 2, false), effect(Some(2.5), 4, false)];
        assert_eq!((of(&some, "write"), of(&some, "write.max")), (Some(2.5e9), Some(4e9)));
        assert_eq!((of(&some, "lost_acked"), of(&some, "lost_acked.max")), (Some(7.0), Some(4.0)));
        assert_eq!((of(&some, "late_share"), of(&some, "read"), of(&some, "redundancy")), (Some(0.5), None, None));
        // What is not over is longer than all others.
        let open = [effect(None, 0, false), effect(Some(1.0), 0, false), effect(Some(2.0), 0, false)];
        assert_eq!((of(&open, "write"), of(&open, "write.max")), (Some(2e9), Some(f64::INFINITY)));
        assert_eq!(of(&open[..2], "write"), Some(f64::INFINITY));
        // What is not the fault's alone is in no metric.
        assert_eq!(of(&[effect(Some(9.0), 0, true), effect(Some(1.0), 0, false)], "write.max"), Some(1e9));
        assert_eq!(of(&[], "write"), None);
    }
}
