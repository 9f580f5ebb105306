//! Arrivals, dependence, the host and errors: V9, V10, V13 and V14 of stats.md A5.

use super::outcome::{check, grade};
use crate::plan::facts::Incident;
use crate::record::{Check, Event, Finding, Grade, LatencySummary, Status, TailDoubt, Trial, WorkloadResult};
use crate::stats::arrivals;
use crate::units::latency;

fn response(workload: &WorkloadResult) -> Option<&LatencySummary> {
    workload.response().map(|(_, l)| l)
}

fn percent(quantile: f64) -> String {
    crate::plan::metric::quantile_name(quantile)
}

/// When the first messages of a load of constant rate were sent; the record does not have this.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Sends {
    /// Gaps between sends, ns, at most 1000.
    pub gaps: Vec<f64>,
    /// Messages sent in windows of equal length.
    pub counts: Vec<f64>,
    /// The mean gap of the schedule, ns.
    pub expected: f64,
    /// Whether the schedule is a Poisson process; otherwise all gaps are alike.
    pub poisson: bool,
}

/// V9, the arrival process: for Poisson arrivals Anderson and Darling's A^2 of the gaps against its
/// 1 % point, and the index of dispersion of the counts; for constant ones how far 99 % of the gaps
/// are from that of the schedule.
pub(super) fn arrival_process(sends: &Sends) -> Option<Check> {
    let Sends { gaps, counts, expected, poisson } = sends;
    let expected = *expected;
    if gaps.len() < 20 || expected.is_nan() || expected <= 0.0 {
        return None;
    }
    if !*poisson {
        // The largest of a thousand gaps is off on any machine: what matters is whether many are.
        let mut off: Vec<f64> = gaps.iter().map(|g| (g - expected).abs() / expected).collect();
        off.sort_unstable_by(f64::total_cmp);
        let usual = off[(0.99 * off.len() as f64).ceil() as usize - 1];
        return Some(check(
            "V9",
            "arrival process",
            if usual > 1.0 { Status::Warn } else { Status::Ok },
            format!(
                "99 % of gaps are within {:.0} % of the schedule's, the largest is off by {:.0} %",
                100.0 * usual,
                100.0 * arrivals::largest_deviation(gaps, expected) / expected
            ),
            "WARN when 1 % of gaps deviate by more than a gap: messages that catch up with each other",
            "the generator was late: the system saw bursts that the scenario does not ask for",
        ));
    }
    let a2 = arrivals::anderson_darling_exponential(&gaps[..gaps.len().min(1000)]);
    let (low, high) = arrivals::dispersion_bounds(counts.len().max(2));
    let index = arrivals::index_of_dispersion(counts);
    let enough = counts.len() >= 20;
    let even = !enough || (low..=high).contains(&index);
    Some(check(
        "V9",
        "arrival process",
        if a2 > 1.957 || !even { Status::Warn } else { Status::Ok },
        match enough {
            true => format!("A^2 of gaps {a2:.2}, index of dispersion {index:.2}"),
            false => format!("A^2 of gaps {a2:.2}, too few intervals for the index of dispersion"),
        },
        &format!("WARN above 1.957, or outside {low:.2} to {high:.2}"),
        "the gaps are not those of a Poisson process: a coarse timer or a late generator shapes the load",
    ))
}

/// V10, dependence: the over-dispersion of exceedances of the response latency. WARN where it
/// leaves fewer than 10 effective samples above a percentile that has more by number: that
/// percentile is shown with its doubt.
pub(super) fn dependence(workload: &WorkloadResult) -> Option<Check> {
    let known: Vec<_> =
        response(workload)?.percentiles.iter().filter_map(|p| Some((p, p.phi?, p.effective?, p.reliable?))).collect();
    let worst = known.iter().map(|(_, phi, ..)| *phi).fold(f64::NAN, f64::max);
    if known.is_empty() {
        return None;
    }
    let thin: Vec<String> = known
        .iter()
        .filter(|(p, ..)| p.doubt.is_some())
        .map(|(p, _, k, _)| format!("{} ({k:.1})", percent(p.quantile)))
        .collect();
    let event = known.iter().rev().filter_map(|(p, ..)| p.doubt).find(TailDoubt::decides);
    let observed = match thin.is_empty() {
        true => format!("over-dispersion up to {worst:.1}"),
        false => format!(
            "over-dispersion up to {worst:.1}; too few effective samples above {}{}",
            thin.join(", "),
            event.map_or_else(String::new, |e| format!(": most are of {e}"))
        ),
    };
    Some(check(
        "V10",
        "dependence of samples",
        if thin.is_empty() { Status::Ok } else { Status::Warn },
        observed,
        "WARN where fewer than 10 effective samples are above a percentile that has more by number",
        "slow messages come together, so they count as few: the value is that of this run; measure longer to know that of the next",
    ))
}

/// V13, the host: pauses as seen by the hiccup meter beside the response latency, at the highest
/// percentile that both may print (above a quarter the tail may be the host's, above a half it is
/// not the system's), and what the kernel counted while the trial ran: stolen time, throttling,
/// swapping, drops. Pauses only warn, because they leave the median untouched; what makes figures
/// wrong makes the trial INVALID.
pub(super) fn host(trial: &Trial) -> Option<Check> {
    let of = trial.workloads.iter().filter_map(response);
    let both = of.flat_map(|l| &l.percentiles).filter(|p| p.printable).filter_map(|p| {
        let pause = trial.hiccup.at(p.quantile)?.value_ns?;
        Some((p.quantile, pause, p.value_ns?))
    });
    let pauses = both.max_by(|a, b| a.0.total_cmp(&b.0));
    let disturbed: Vec<&Finding> = trial.disturbance.iter().filter(|f| f.grade >= Grade::Warn).collect();
    if pauses.is_none() && trial.disturbance.is_empty() {
        return None;
    }
    let mut status = match disturbed.iter().map(|f| f.grade).max() {
        Some(Grade::Bad) => Status::Invalid,
        Some(_) => Status::Warn,
        None => Status::Ok,
    };
    let mut observed: Vec<String> = disturbed.iter().map(|f| format!("{}: {}", f.item, f.observed)).collect();
    if let Some((quantile, pause, response)) = pauses {
        let share = pause as f64 / response.max(1) as f64;
        status = status.max(grade(share, 0.25, 0.5).min(Status::Warn));
        observed.push(format!(
            "{} of pauses is {}, {:.0} % of the response's",
            percent(quantile),
            latency(pause),
            100.0 * share
        ));
    }
    Some(check(
        "V13",
        "host noise",
        status,
        observed.join("; "),
        "WARN when pauses exceed 25 % of the response or the kernel counted a disturbance, INVALID when that makes figures wrong",
        "the host itself paused or was taken away: what is slow may be its doing and not the system's; use a quieter machine",
    ))
}

/// V14, errors: messages refused by the client or the broker, in whose words, and what they do to
/// percentiles: each is infinitely late.
pub(super) fn errors(workload: &WorkloadResult, events: &[Event]) -> Option<Check> {
    let l = &workload.ledger;
    if l.scheduled == 0 {
        return None;
    }
    let share = l.refused as f64 / l.scheduled as f64;
    let infinite: Vec<String> = response(workload)
        .map(|r| r.percentiles.iter().filter(|p| share > 1.0 - p.quantile).map(|p| percent(p.quantile)).collect())
        .unwrap_or_default();
    let observed = format!("{} of {} refused", l.refused, l.scheduled);
    let first = events.iter().find(|e| e.kind == Incident::Refused).filter(|_| l.refused > 0);
    let words = first.map(|e| format!("; {}", e.text)).unwrap_or_default();
    let lasting = if infinite.is_empty() { String::new() } else { format!(": {} infinite", infinite.join(", ")) };
    Some(check(
        "V14",
        "errors",
        if l.refused > 0 { Status::Warn } else { Status::Ok },
        observed + &lasting + &words,
        "WARN when any message was refused",
        "refused messages count as infinitely late",
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::sample;

    #[test]
    fn arrivals_are_held_to_their_process() {
        let mut x = 1u64;
        let uniform: Vec<f64> = (0..1000)
            .map(|_| {
                x = x * 48271 % 2_147_483_647;
                x as f64 / 2_147_483_647.0
            })
            .collect();
        let gaps: Vec<f64> = uniform.iter().map(|u| -u.ln()).collect();
        let arrival_process = |gaps: &[f64], counts: &[f64], expected, poisson| {
            super::arrival_process(&Sends { gaps: gaps.to_vec(), counts: counts.to_vec(), expected, poisson })
        };
        assert_eq!(arrival_process(&gaps, &[], 1.0, true).unwrap().status, Status::Ok);
        // A timer of a tenth of the mean gap is seen.
        let coarse: Vec<f64> = gaps.iter().map(|g| (g / 0.1).ceil() * 0.1).collect();
        assert_eq!(arrival_process(&coarse, &[], 1.0, true).unwrap().status, Status::Warn);
        assert_eq!(arrival_process(&gaps, &[10.0; 100], 1.0, true).unwrap().status, Status::Warn, "too even");
        assert_eq!(arrival_process(&[1.0; 50], &[], 1.0, false).unwrap().status, Status::Ok);
        let late = [[1.0; 30].to_vec(), vec![3.5], [0.1; 20].to_vec()].concat();
        assert_eq!(arrival_process(&late, &[], 1.0, false).unwrap().status, Status::Warn);
        assert!(arrival_process(&[], &[], 1.0, true).is_none());
    }

    #[test]
    fn the_host_and_errors_have_thresholds() {
        let mut trial = sample::record().trials[1].clone();
        // The sample's pauses are as long as its responses.
        assert_eq!(host(&trial).unwrap().status, Status::Warn);
        trial.hiccup.percentiles.iter_mut().for_each(|p| p.value_ns = Some(1_000));
        assert_eq!(host(&trial).unwrap().status, Status::Ok);
        let finding = |grade| Finding {
            item: "stolen time".into(),
            grade,
            observed: "7 % of CPU time".into(),
            why: String::new(),
            remedy: String::new(),
            amount: None,
        };
        trial.disturbance = vec![finding(Grade::Ok), finding(Grade::Warn)];
        assert_eq!(host(&trial).unwrap().status, Status::Warn);
        trial.disturbance.push(finding(Grade::Bad));
        let found = host(&trial).unwrap();
        assert!(found.status == Status::Invalid && found.observed.contains("7 % of CPU time"), "{found:?}");
        assert_eq!(errors(&trial.workloads[0], &trial.events).unwrap().status, Status::Ok);
        trial.workloads[0].ledger.refused = 300;
        let found = errors(&trial.workloads[0], &trial.events).unwrap();
        assert!(found.status == Status::Warn && found.observed.contains("p99, p99.9"), "{found:?}");
        // Whose words they are is known by their kind: a connection that is refused refuses no
        // message.
        let event = |kind, text: &str| Event { at_s: 1.0, kind, text: text.into() };
        let gone = event(Incident::Disconnected, "Connect to ipv4#127.0.0.1:1 failed: Connection refused");
        let refused = event(Incident::Refused, "messages are not to be taken: the disk is full");
        let found = errors(&trial.workloads[0], &[gone, refused]).unwrap();
        assert!(found.observed.ends_with("; messages are not to be taken: the disk is full"), "{found:?}");
    }
}
