//! What the calibration of this host says of a trial: V16, and which percentiles are near the
//! harness's own floor.
//!
//! The rate of a case is the sum of the peaks of its open-loop workloads, because one generator
//! drives them all. Closed and unthrottled loads have no rate of ours: the system decides how fast
//! they are.

use crate::plan::{Case, Load};
use crate::record::{Calibration, Check, NEAR, RESPONSES, Status, Trial};
use crate::units::Rate;

use super::outcome::check;

/// Above this share of the highest trustworthy rate the schedule is kept, but with little to spare
/// (stats.md C1).
const COMFORTABLE: f64 = 0.7;

/// The rate that the schedule of a case asks of the generator, messages per second; `None` where no
/// workload has one.
fn scheduled(case: &Case) -> Option<f64> {
    let peaks = case.workloads.iter().filter_map(|w| match &w.load {
        Load::Open { profile, .. } => Some(profile.peak().0),
        Load::Unthrottled { .. } | Load::Closed { .. } => None,
    });
    peaks.reduce(|a, b| a + b)
}

/// The first case whose schedule asks for more than this host is to be trusted with, in words;
/// nothing where the calibration could not establish such a rate.
pub fn excess(cases: &[Case], calibration: &Calibration) -> Option<String> {
    let limit = calibration.max_trustworthy_rate;
    let over = |case: &&Case| calibration.floor_holds && scheduled(case).is_some_and(|rate| rate > limit);
    let case = cases.iter().find(over)?;
    let rate = Rate(scheduled(case).unwrap_or(0.0));
    let (id, limit, when) = (&case.id, Rate(limit), &calibration.started_at);
    Some(format!(
        "case `{id}` schedules {rate}, and on this host the generator alone keeps its schedule up to {limit} (calibrated on {when}): \
         what would be measured is the generator; lower the rate, or run with --force to have it measured with a warning"
    ))
}

/// V16 and the marks of percentiles near the floor, into a trial of this case.
pub(super) fn judge(trial: &mut Trial, case: &Case, calibration: &Calibration) {
    let Some(rate) = scheduled(case) else { return };
    if calibration.floor_holds {
        trial.validity.push(rate_check(rate, calibration));
    }
    let Some(floor) = calibration.floor_at(rate) else { return };
    for workload in &mut trial.workloads {
        for kind in RESPONSES {
            let Some(latency) = workload.latency.get_mut(kind) else { continue };
            for p in &mut latency.percentiles {
                let own = floor.at(p.quantile);
                p.near_floor_ns = own.filter(|own| p.value_ns.is_some_and(|value| value < NEAR * own));
            }
        }
    }
}

fn rate_check(rate: f64, calibration: &Calibration) -> Check {
    let limit = calibration.max_trustworthy_rate;
    let message = if rate > limit {
        "run with --force: the generator alone does not keep such a schedule on this host"
    } else {
        "the generator has little to spare at this rate on this host: part of the tail may be its own"
    };
    check(
        "V16",
        "rate this host is trusted with",
        if rate > COMFORTABLE * limit { Status::Warn } else { Status::Ok },
        format!("{} scheduled, {} trusted (calibrated on {})", Rate(rate), Rate(limit), calibration.started_at),
        "WARN above 70 % of the highest trustworthy rate; above all of it a run is refused unless forced",
        message,
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::Floor;
    use crate::record::sample;

    /// The sample's rate is 1000/s.
    fn calibration(limit: f64, p50: u64, p999: u64) -> Calibration {
        let floor = Floor {
            through: "null driver".into(),
            rate: 1e3,
            p50_ns: Some(p50),
            p99_ns: Some(p999 / 2),
            p999_ns: Some(p999),
            kept: true,
        };
        Calibration {
            started_at: "2026-01-02T03:04:05Z".into(),
            form: "full".into(),
            verdict: "PASS".into(),
            version: "0.1.0".into(),
            profile: "release".into(),
            max_trustworthy_rate: limit,
            floor_holds: true,
            floor: vec![floor],
        }
    }

    fn judged(c: &Calibration) -> Trial {
        let record = sample::record();
        let mut trial = record.trials[1].clone();
        judge(&mut trial, &record.plan.cases[0], c);
        trial
    }

    #[test]
    fn a_rate_is_trusted_warned_of_or_refused() {
        let cases = sample::record().plan.cases;
        let status = |limit| {
            let found = judged(&calibration(limit, 1, 1));
            found.validity.iter().find(|c| c.id == "V16").map(|c| c.status)
        };
        assert_eq!([2e3, 1.2e3, 0.5e3].map(status), [Status::Ok, Status::Warn, Status::Warn].map(Some));
        assert_eq!(excess(&cases, &calibration(1e3, 1, 1)), None);
        let words = excess(&cases, &calibration(999.0, 1, 1)).unwrap();
        assert!(words.contains("`reference` schedules 1k/s") && words.contains("up to 999/s"), "{words}");
        let unknown = Calibration { floor_holds: false, ..calibration(1.0, 1, 1) };
        assert_eq!(excess(&cases, &unknown), None, "a rate that could not be established binds nobody");
        assert!(judged(&unknown).validity.iter().all(|c| c.id != "V16"));
    }

    #[test]
    fn percentiles_below_three_floors_are_marked() {
        // The sample: 60 us and an exponential of mean 20 us above it.
        let near = |c: &Calibration| {
            let trial = judged(c);
            let marked = |kind: &str| -> Vec<f64> {
                let all = &trial.workloads[0].latency[kind].percentiles;
                all.iter().filter(|p| p.near_floor_ns.is_some()).map(|p| p.quantile).collect()
            };
            assert!(marked("lag").is_empty(), "lag is the harness by definition");
            marked("e2e")
        };
        assert!(near(&calibration(1e6, 20_000, 30_000)).is_empty());
        assert_eq!(near(&calibration(1e6, 25_000, 30_000)), [0.5]);
        assert_eq!(near(&calibration(1e6, 1_000, 200_000)), [0.99, 0.999, 0.9999]);
    }
}
