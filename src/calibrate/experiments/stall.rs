//! Experiment 3: a broker that stands still, and what a closed loop makes of it.

use super::experiment;
use crate::calibrate::CalibrateError;
use crate::calibrate::certificate::{ClaimLine, Experiment, HostNoise};
use crate::calibrate::context::{ExperimentContext, at, ms};
use crate::calibrate::truth;
use crate::units::SECOND;

/// A stall of 100 ms at 1000 messages a second, against the closed formula; beside it a closed loop
/// on the same broker.
pub fn stall(context: &ExperimentContext<'_>) -> Result<Vec<Experiment>, CalibrateError> {
    let run = context.pick(5 * SECOND / 2, 10 * SECOND);
    // At the default of 10 s the p99 would lie on the knee of the formula, where nothing can be
    // told.
    let length = if run > 5 * SECOND { 200_000_000 } else { 100_000_000 };
    let text = format!(
        "name = \"stall\"\nquestion = \"Is a stall of the broker in the percentiles?\"\n\
         [[workload]]\nname = \"open\"\npattern = \"fan-out\"\nconsumers = 1\nload.rate = \"1k/s\"\n\
         [[workload]]\nname = \"closed\"\npattern = \"request-reply\"\nload = {{ mode = \"closed\", think = \"1ms\" }}\n\
         [faults]\nstall = {{ at = \"{}\", for = \"{}\" }}\n\
         [run]\nwarmup = \"0s\"\nduration = \"{}\"\ninterval = \"100ms\"\ntrials = 1\npercentiles = [0.5, 0.99, 0.995, 0.999, 0.9999]\n",
        ms(run / 2),
        ms(length),
        ms(run)
    );
    let ran = context.one("stall", text)?;
    let (open, closed) = (ran.latency(0, "e2e"), ran.latency(1, "rtt.service"));
    // What is due during the stall leaves the broker at its end: no pause at another time reaches
    // these quantiles.
    let middle = run as f64 / 2.0 / SECOND as f64;
    let near = ran.noise_between(middle - 0.1, middle + length as f64 / SECOND as f64 + 0.3);
    let seen = StallResult {
        base: at(&open, 0.5).unwrap_or(0.0),
        told: length as f64,
        logged: ran.events("stall").next().map(|e| e.ns as f64),
        run: run as f64,
        quantiles: NAMES.map(|(p, _)| at(&open, p)),
        max: open.max_ns.map(|v| v as f64),
        closed_p99: at(&closed, 0.99),
        closed_slow: ran.samples.get("closed/rtt.service").map_or(0, |h| {
            let slow = h.iter_recorded().filter(|v| v.value_iterated_to() > length / 2);
            slow.map(|v| v.count_at_value()).sum()
        }),
    };
    let lines = judge(&seen, &near, &ran.host_noise());
    let claim = "A stall of length S in a run of length T is in the percentiles as S - T (1 - p), to 2 %. The control is a closed loop \
                 on the same broker, which must show the wrong answer: one late sample, and a p99 as if nothing had happened.";
    Ok(vec![experiment(3, "stall", claim, lines, Some(ran.host_noise()))])
}

/// The quantiles at which a stall is judged.
const NAMES: [(f64, &str); 4] = [(0.99, "p99"), (0.995, "p99.5"), (0.999, "p99.9"), (0.9999, "p99.99")];

/// What a trial with a stall has shown, ns.
struct StallResult {
    /// Response without a stall.
    base: f64,
    /// How long the stall was to be, and was by the broker's log.
    told: f64,
    logged: Option<f64>,
    /// Length of the measured phase.
    run: f64,
    /// Response at [`NAMES`], and the longest.
    quantiles: [Option<f64>; 4],
    max: Option<f64>,
    /// The closed loop: its p99, and how many of its samples are longer than half the stall.
    closed_p99: Option<f64>,
    closed_slow: u64,
}

/// `near` is what the host did around the stall, `all` in the whole trial.
fn judge(seen: &StallResult, near: &HostNoise, all: &HostNoise) -> Vec<ClaimLine> {
    let &StallResult { base, told, run, .. } = seen;
    // The stall as it was: what the host made of it is not the measurement's.
    let stall = seen.logged.unwrap_or(told);
    let mut lines = vec![ClaimLine::latency(
        "length of the stall, as the broker measured it",
        told,
        seen.logged,
        0.01 * told,
        1.0,
        all,
    )];
    for ((p, name), measured) in NAMES.into_iter().zip(seen.quantiles) {
        let exact = truth::stalled(base, stall, run, 0.0, p);
        lines.push(ClaimLine::latency(format!("{name} of response"), exact, measured, 0.02 * exact, p, near));
    }
    let exact = base + stall;
    lines.push(ClaimLine::latency("max of response", exact, seen.max, 0.02 * exact, 1.0, near));
    let truth = truth::stalled(0.0, stall, run, 0.0, 0.99);
    let slow = ClaimLine::exact("control: samples above half the stall", 1, seen.closed_slow);
    // A pause of the host of that length makes another one, but none makes it disappear.
    lines.push(slow.excused(seen.closed_slow > 1 && all.explains(stall / 2.0, 1.0)));
    // Anything up to half of the truth is the wrong answer that is looked for.
    let what = format!("control: p99 of the closed loop (true: {:.0} ms)", truth / 1e6);
    lines.push(ClaimLine::latency(what, 0.0, seen.closed_p99, truth / 2.0, 0.99, all));
    lines
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::calibrate::certificate::{ClaimVerdict, Pauses};

    /// An ordinary virtual machine: in the whole trial a pause of 9 ms, around the stall one of 400
    /// us.
    fn ordinary() -> (HostNoise, HostNoise) {
        let pauses = Pauses { p90: 80_000, p99: 300_000, p999: 4_000_000, max: 9_000_000 };
        let near = Pauses { p90: 400_000, p99: 400_000, p999: 400_000, max: 400_000 };
        (
            HostNoise { hiccup: near, ..HostNoise::default() },
            HostNoise { hiccup: pauses, steal: 1.3, ..HostNoise::default() },
        )
    }

    /// Messages every millisecond for 10 s through a stall of 200 ms, each timed by `response` from
    /// (due, sent, received); the generator is late by 100 us.
    fn verdicts(response: impl Fn(f64, f64, f64) -> Option<f64>) -> Vec<(String, ClaimVerdict)> {
        let (told, run, base) = (200e6, 10e9, 200e3);
        let mut all: Vec<f64> = (0..10_000)
            .filter_map(|k| {
                let due = f64::from(k) * 1e6;
                let sent = due + 100e3;
                let leaves = if (5e9..5e9 + told).contains(&due) { 5e9 + told } else { due };
                response(due, sent, leaves + base)
            })
            .collect();
        all.sort_by(f64::total_cmp);
        let quantile = |p: f64| all.get((p * all.len() as f64).ceil() as usize - 1).copied();
        let seen = StallResult {
            base: quantile(0.5).unwrap(),
            told,
            logged: Some(told),
            run,
            quantiles: NAMES.map(|(p, _)| quantile(p)),
            max: all.last().copied(),
            closed_p99: Some(2e6),
            closed_slow: 1,
        };
        let (near, whole) = ordinary();
        judge(&seen, &near, &whole).into_iter().map(|l| (l.what, l.verdict)).collect()
    }

    fn failed(found: &[(String, ClaimVerdict)]) -> Vec<&str> {
        found.iter().filter(|(_, v)| *v == ClaimVerdict::Fail).map(|(what, _)| what.as_str()).collect()
    }

    #[test]
    fn a_right_measurement_passes_and_wrong_ones_fail_on_an_ordinary_host() {
        let right = verdicts(|due, _, received| Some(received - due));
        assert!(right.iter().all(|(_, v)| *v == ClaimVerdict::Pass), "{right:?}");
        let longer = verdicts(|due, _, received| Some(1.03 * (received - due)));
        assert_eq!(failed(&longer).len(), 5, "every quantile 3 % too long: {longer:?}");
        let shorter = verdicts(|due, _, received| Some(0.97 * (received - due)));
        assert_eq!(failed(&shorter).len(), 5, "every quantile 3 % too short: {shorter:?}");
        let dropped = verdicts(|due, _, received| Some(received - due).filter(|r| *r < 150e6));
        assert!(failed(&dropped).contains(&"p99.9 of response"), "late samples left out: {dropped:?}");
        let omitted = verdicts(|due, _, received| Some(if due == 5e9 { received - due } else { 300e3 }));
        assert!(failed(&omitted).len() >= 4, "one sample for the stall, as a closed loop has: {omitted:?}");
    }

    #[test]
    fn only_a_pause_beside_the_stall_excuses() {
        let (near, whole) = ordinary();
        let loud = HostNoise { hiccup: whole.hiccup, ..near };
        let seen = StallResult {
            base: 0.0,
            told: 200e6,
            logged: Some(200e6),
            run: 10e9,
            quantiles: [Some(103e6), Some(153e6), Some(196e6), Some(204e6)],
            max: Some(205e6),
            closed_p99: Some(2e6),
            closed_slow: 2,
        };
        let worst = |near: &HostNoise| judge(&seen, near, &whole).iter().take(6).map(|l| l.verdict).max();
        assert_eq!(worst(&near), Some(ClaimVerdict::Fail));
        assert_eq!(worst(&loud), Some(ClaimVerdict::Disturbed));
        let all = judge(&seen, &loud, &whole);
        assert_eq!(all[6].verdict, ClaimVerdict::Fail, "9 ms are not half of the stall: {:?}", all[6]);
    }
}
