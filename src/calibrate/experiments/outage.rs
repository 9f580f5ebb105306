//! Experiment 15: a broker that stands still for known times, and what the metrics of outages make
//! of it.

use super::experiment;
use crate::calibrate::CalibrateError;
use crate::calibrate::certificate::{ClaimLine, Experiment, FigureUnit, HostNoise};
use crate::calibrate::context::{ExperimentContext, TrialResult, ms};
use crate::record::{FaultRecord, OutageResult};
use crate::units::{Nanos, SECOND};

/// A message is in time for so long.
const DEADLINE: Nanos = 100_000_000;
/// Messages a second.
const RATE: u64 = 1_000;
/// How long the broker stands still, one after another.
const LENGTHS: [Nanos; 3] = [400_000_000, 900_000_000, 1_500_000_000];
/// From one to the next: the latency is as before only when it was so for a while.
const APART: Nanos = 6 * SECOND;

/// The launched broker is stopped and let go on, and the instants of both are known.
pub fn outage(context: &ExperimentContext<'_>) -> Result<Vec<Experiment>, CalibrateError> {
    let lengths = context.pick(&LENGTHS[..1], &LENGTHS[..]);
    let event = |(i, length): (usize, &Nanos)| {
        format!(
            "[[event]]\nat = \"{}\"\naction = \"pause\"\nfor = \"{}\"\n",
            ms(3 * SECOND + i as Nanos * APART),
            ms(*length)
        )
    };
    let events: String = lengths.iter().enumerate().map(event).collect();
    let stored =
        "[[workload]]\nname = \"stored\"\npattern = \"stream\"\nconsumers = 1\nchannels = 3\nload.rate = \"1k/s\"\n";
    let stored = if cfg!(feature = "kafka") { stored } else { "" };
    let text = format!(
        "name = \"outage\"\nquestion = \"Is an outage as long as it was?\"\n\
         [[system]]\ndriver = \"reference\"\n\
         [[workload]]\nname = \"core\"\npattern = \"fan-out\"\nconsumers = 2\nchannels = 3\nload.rate = \"1k/s\"\n\
         {stored}{events}[outage]\ndeadline = \"{}\"\n\
         [run]\nwarmup = \"500ms\"\nduration = \"{}\"\ntrials = 1\n",
        ms(DEADLINE),
        ms(3 * SECOND + lengths.len() as Nanos * APART)
    );
    let ran = context.one("outage", text)?;
    let lines = lines_of(&ran);
    let claim = "A broker that stands still from one instant until another takes no writes and gives no messages for as long, to 10 ms and 1 %: \
                 by the run of messages that were late, by the first one that was due after the fault, and by the p99 that is as before.";
    Ok(vec![experiment(15, "outage", claim, lines, Some(ran.host_noise()))])
}

fn lines_of(ran: &TrialResult) -> Vec<ClaimLine> {
    let mut lines = vec![ClaimLine::exact(
        "faults that were made and undone",
        ran.trial.faults.len() as u64,
        ran.trial.faults.iter().filter(|f| f.undone_ns.is_some()).count() as u64,
    )];
    for workload in &ran.trial.workloads {
        for effect in &workload.outages {
            let Some(fault) = ran.trial.faults.get(effect.fault as usize) else { continue };
            let at = fault.at_ns as f64 / SECOND as f64;
            let near = ran.noise_between(at - 0.2, at + 3.0);
            for (side, result) in [("writes", &effect.write), ("deliveries", &effect.read)] {
                let named = format!("{}, fault {}: no {side}", workload.name, effect.fault + 1);
                lines.extend(result.iter().flat_map(|r| judge(&named, fault, r, &near)));
            }
        }
        let lost: u64 = workload.outages.iter().map(|e| e.lost_acked).sum();
        lines.push(ClaimLine::exact(format!("{}: acknowledged and lost", workload.name), 0, lost));
    }
    lines
}

/// What is told of one fault on one side, against its own instants.
fn judge(named: &str, fault: &FaultRecord, result: &OutageResult, near: &HostNoise) -> Vec<ClaimLine> {
    let known = fault.undone_ns.map_or(0.0, |undone| undone.saturating_sub(fault.at_ns) as f64);
    let tolerance = 1e7 + 0.01 * known;
    let nanos = |seconds: Option<f64>| seconds.map(|s| s * SECOND as f64);
    let timed = |what: &str, measured: Option<f64>| {
        ClaimLine::latency(format!("{named}: {what}"), known, nanos(measured), tolerance, 1.0, near)
    };
    let late = (known - DEADLINE as f64).max(0.0) * RATE as f64 / SECOND as f64;
    let copies = f64::from(result.lanes / 3).max(1.0);
    let count = |what: &str, expected: f64, measured: u64| {
        let tolerance = tolerance * RATE as f64 / SECOND as f64 * copies;
        let line = ClaimLine::judged(
            format!("{named}: {what}"),
            expected * copies,
            Some(measured as f64),
            tolerance,
            FigureUnit::Count,
        );
        let added = line.error().map_or(0.0, |e| e / copies / RATE as f64 * SECOND as f64);
        line.excused(added > 0.0 && near.explains(added - 1e7, 1.0))
    };
    vec![
        timed("longest", result.longest_s),
        timed("sum of the partitions, each", result.sum_s.map(|s| s / f64::from(result.lanes.max(1)))),
        timed("first message after", result.first_s),
        timed("p99 as before after", result.recovery_s),
        count("messages late", late, result.late),
        count("backlog", known * RATE as f64 / SECOND as f64, result.backlog),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::calibrate::certificate::{ClaimVerdict, Pauses};
    use crate::plan::Action;

    /// What is told of a pause of 900 ms, where lengths are `factor` of the truth and `early` is
    /// left out at their beginning.
    fn failed(factor: f64, early: f64, late: u64) -> Vec<String> {
        let fault = FaultRecord {
            event: 0,
            occurrence: 1,
            action: Action::Pause,
            nodes: vec![0],
            role: None,
            consumer: None,
            due_ns: 3 * SECOND,
            at_ns: 3 * SECOND,
            undone_ns: Some(3 * SECOND + 900_000_000),
            settled_ns: None,
        };
        let length = Some(factor * 0.9 - early);
        let result = OutageResult {
            longest_s: length,
            sum_s: length.map(|s| 3.0 * s),
            first_s: length,
            recovery_s: length,
            judged: true,
            lanes: 3,
            hit: 3,
            due: 2000,
            late,
            backlog: 900,
            ..OutageResult::default()
        };
        let quiet = Pauses { p90: 80_000, p99: 100_000, p999: 200_000, max: 300_000 };
        let near = HostNoise { hiccup: quiet, ..HostNoise::default() };
        let lines = judge("x", &fault, &result, &near);
        lines.into_iter().filter(|l| l.verdict != ClaimVerdict::Pass).map(|l| l.what).collect()
    }

    #[test]
    fn a_right_outage_passes_and_wrong_ones_fail() {
        assert_eq!(failed(1.0, 0.0, 800), Vec::<String>::new());
        assert_eq!(failed(1.0, 0.005, 803), Vec::<String>::new());
        assert_eq!(failed(1.03, 0.0, 800).len(), 4, "3 % too long");
        // From the first answer that is late to the last: as one who looks at answers alone has it.
        assert_eq!(failed(1.0, 0.1, 800).len(), 4, "without the deadline");
        assert_eq!(failed(1.0, 0.0, 900), ["x: messages late"], "those within the deadline are counted");
    }
}
