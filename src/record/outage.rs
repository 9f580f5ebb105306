//! The value of a metric of outages in one trial.

use super::{FaultEffect, OutageResult, SAME_MOMENT, Trial, WorkloadResult};
use crate::plan::{OfFaults, OutageField, OutageMetric};
use crate::units::SECOND;

/// Nanoseconds; +infinity of what was not over.
fn nanos(seconds: Option<f64>) -> f64 {
    seconds.map_or(f64::INFINITY, |s| s * SECOND as f64)
}

/// Nanoseconds of the longest outage; `None` where nothing was due, or where a longer one may be
/// hidden.
fn longest(side: &OutageResult) -> Option<f64> {
    let hidden = |longest: f64| side.hidden_s.is_some_and(|hidden| longest < hidden);
    let unseen = side.hit == 0 && side.idle || side.longest_s.is_some_and(hidden);
    (!unseen).then(|| nanos(side.longest_s))
}

/// Nanoseconds of all outages together; `None` where nothing was due, or where one may be hidden.
fn sum(side: &OutageResult) -> Option<f64> {
    let unseen = side.hit == 0 && side.idle || side.hidden_s.is_some();
    (!unseen).then(|| nanos(side.sum_s))
}

/// The sum over the moments of a trial, whose faults share what followed.
fn total(trial: &Trial, effects: &[FaultEffect], of: impl Fn(&FaultEffect) -> Option<f64>) -> Option<f64> {
    let mut moments: Vec<(u64, f64)> = Vec::new();
    for (effect, value) in effects.iter().filter_map(|effect| Some((effect, of(effect)?))) {
        let at = trial.faults.get(effect.fault as usize).map_or(u64::MAX, |fault| fault.at_ns);
        match moments.last_mut() {
            Some((last, most)) if at != u64::MAX && at <= last.saturating_add(SAME_MOMENT) => {
                (*last, *most) = (at, most.max(value));
            }
            _ => moments.push((at, value)),
        }
    }
    (!moments.is_empty()).then(|| moments.iter().map(|(_, value)| value).sum())
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
        OutageField::Write => write.as_ref().and_then(longest),
        OutageField::WriteSum => write.as_ref().and_then(sum),
        OutageField::Read => read.as_ref().and_then(longest),
        OutageField::ReadSum => read.as_ref().and_then(sum),
        OutageField::FirstAck => write.filter(|side| !side.idle).map(|side| nanos(side.first_s)),
        OutageField::FirstDelivery => read.filter(|side| !side.idle).map(|side| nanos(side.first_s)),
        OutageField::Recovery => largest(&|side| (side.judged && !side.idle).then(|| nanos(side.recovery_s))),
        OutageField::LateShare => largest(&|side| share(side.late as f64, side.due as f64)),
        OutageField::Blast => largest(&|side| sum(side).and_then(|_| share(side.hit.into(), side.lanes.into()))),
        OutageField::Backlog => largest(&|side| Some(side.backlog as f64)),
        OutageField::Drain => largest(&|side| Some(nanos(side.drain_s))),
        OutageField::Redundancy => {
            let fault = trial.faults.get(effect.fault as usize)?;
            let seen = fault.settled_ns.map(|at| at.saturating_sub(fault.at_ns) as f64);
            // What is undone is looked after until the trial is over; nobody can be asked about a
            // consumer.
            let looked = fault.undone_ns.is_some() && fault.consumer.is_none() && !fault.action.of_consumer();
            seen.or(looked.then_some(f64::INFINITY))
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
        OfFaults::Typical if metric.field.shared() => total(trial, &workload.outages, of),
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
    use crate::plan::Action;
    use crate::record::{FaultRecord, sample};

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
        // Nothing was due after it: nothing is known of it.
        let change = |of: &dyn Fn(&mut OutageResult)| {
            let mut one = effect(Some(0.0), 0, false);
            of(one.write.as_mut().unwrap());
            [one, effect(Some(1.0), 0, false)]
        };
        let idle = change(&|side| (side.idle, side.judged, side.first_s) = (true, true, None));
        for metric in ["write", "first_ack.max", "recovery.max"] {
            let known = (metric == "write").then_some(1e9);
            assert_eq!(of(&idle[..1], metric), None, "{metric}");
            assert!(known.is_none() || of(&idle, metric) == known, "{metric}");
        }
        // What was on its way was hit.
        let on_its_way = change(&|side| (side.idle, side.hit, side.longest_s) = (true, 1, Some(3.0)));
        assert_eq!((of(&on_its_way, "write.max"), of(&on_its_way[..1], "first_ack")), (Some(3e9), None));
        // A longer outage may be hidden in a long slot.
        let hidden = |longest: f64| change(&move |side| (side.hidden_s, side.longest_s) = (Some(1.5), Some(longest)));
        assert_eq!((of(&hidden(0.0), "write"), of(&hidden(2.0), "write.max")), (Some(1e9), Some(2e9)));
        assert_eq!((of(&hidden(2.0)[..1], "write_sum"), of(&hidden(1.0)[..1], "write")), (None, None));
    }

    /// A trial whose faults came at these instants, with these effects.
    fn trial(faults: &[FaultRecord], of: impl Fn(&mut FaultEffect)) -> Trial {
        let mut trial = sample::record().trials[0].clone();
        trial.faults = faults.to_vec();
        trial.workloads[0].outages = (0..faults.len() as u32)
            .map(|fault| {
                let mut effect = FaultEffect { fault, ..effect(Some(1.0), 0, false) };
                of(&mut effect);
                effect
            })
            .collect();
        trial
    }

    fn fault(at_ns: u64, undone_ns: Option<u64>, settled_ns: Option<u64>) -> FaultRecord {
        FaultRecord {
            event: 0,
            occurrence: 1,
            action: Action::Kill,
            nodes: vec![0],
            role: None,
            consumer: None,
            due_ns: at_ns,
            at_ns,
            undone_ns,
            settled_ns,
        }
    }

    fn read(trial: &Trial, metric: &str) -> Option<f64> {
        value(trial, &trial.workloads[0], OutageMetric::read(metric).unwrap())
    }

    /// Replicas that were never seen to be up to date again are not the ones to be left out.
    #[test]
    fn redundancy_that_was_never_seen_is_infinite() {
        let whole = |s: u64| fault(s * SECOND, Some((s + 5) * SECOND), Some((s + 16) * SECOND));
        let open = fault(200 * SECOND, Some(205 * SECOND), None);
        let five = trial(&[whole(20), whole(60), whole(100), whole(150), open.clone()], |_| {});
        assert_eq!((read(&five, "redundancy.max"), read(&five, "redundancy")), (Some(f64::INFINITY), Some(16e9)));
        // A node that is not started again, and a consumer, are looked after by nobody.
        let consumer = FaultRecord { action: Action::ConsumerKill, consumer: Some(0), nodes: Vec::new(), ..open };
        let others = trial(&[whole(20), fault(60 * SECOND, None, None), consumer], |_| {});
        assert_eq!(read(&others, "redundancy.max"), Some(16e9));
    }

    /// Each fault of a moment has what was counted after it; the trial has it once.
    #[test]
    fn what_faults_of_a_moment_share_is_counted_once() {
        let at = |ms: u64| fault(ms * SECOND / 1000, None, None);
        let three = trial(&[at(1_000), at(1_040), at(1_080), at(3_000)], |effect| {
            (effect.duplicated, effect.refused, effect.lost_acked) = (7, 10 + u64::from(effect.fault), 1);
        });
        assert_eq!((read(&three, "duplicated"), read(&three, "refused")), (Some(14.0), Some(12.0 + 13.0)));
        assert_eq!((read(&three, "lost_acked"), read(&three, "duplicated.max")), (Some(4.0), Some(7.0)));
    }
}
