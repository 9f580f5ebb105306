//! Experiment 8: a broker that passes no more than so many messages a second.

use super::experiment;
use crate::calibrate::CalibrateError;
use crate::calibrate::certificate::{ClaimLine, Experiment, FigureUnit, HostNoise};
use crate::calibrate::context::{ExperimentContext, at, ms};
use crate::units::SECOND;

/// Twice the capped rate is offered: half of what is sent piles up.
pub fn cap(context: &ExperimentContext<'_>) -> Result<Vec<Experiment>, CalibrateError> {
    let run = context.pick(SECOND, 7 * SECOND);
    let (cap, offered) = (2_000.0, 4_000.0);
    let text = format!(
        "name = \"cap\"\nquestion = \"Is a rate cap recovered?\"\n\
         [[workload]]\npattern = \"fan-out\"\nconsumers = 1\nload.rate = \"{offered}/s\"\npayload.size = \"64B\"\n\
         [faults]\nrate-cap = {{ rate = \"{cap}/s\" }}\n\
         [run]\nwarmup = \"0s\"\nduration = \"{}\"\ntrials = 1\ndrain = \"30s\"\npercentiles = [0.1, 0.5, 0.9, 0.99]\n",
        ms(run)
    );
    let ran = context.one("rate cap", text)?;
    let host_noise = ran.host_noise();
    let (w, l) = (ran.workload(0), ran.latency(0, "e2e"));
    let seen = RateResult {
        cap,
        offered,
        seconds: run as f64 / SECOND as f64,
        delivered: w.throughput.delivered,
        sent: w.ledger.sent as f64,
        lost: w.ledger.lost,
        quantiles: NAMES.map(|(p, _)| at(&l, p)),
    };
    let lines = judge(&seen, &host_noise);
    let claim = "A broker that passes r messages a second is measured as r, to 1 %; what is offered beyond piles up, and response grows as computed.";
    Ok(vec![experiment(8, "rate cap", claim, lines, Some(host_noise))])
}

/// The quantiles at which a cap is judged.
const NAMES: [(f64, &str); 3] = [(0.5, "p50"), (0.9, "p90"), (0.99, "p99")];

/// What a trial with a cap has shown.
struct RateResult {
    /// Messages per second: what the broker passes, and what it is given.
    cap: f64,
    offered: f64,
    /// Length of the measured phase.
    seconds: f64,
    /// Messages per second within it, and in all.
    delivered: f64,
    sent: f64,
    lost: u64,
    /// Response, ns, at [`NAMES`].
    quantiles: [Option<f64>; 3],
}

fn judge(seen: &RateResult, host_noise: &HostNoise) -> Vec<ClaimLine> {
    let &RateResult { cap, offered, seconds, delivered, .. } = seen;
    let judged = |what: &str, exact: f64, measured, tolerance, unit| {
        let line = ClaimLine::judged(what.into(), exact, Some(measured), tolerance, unit);
        // A pause at the end of the load holds up what would have been delivered meanwhile: then
        // the rate is lower, the backlog larger, never the other way round.
        let (missing, sign) = if unit == FigureUnit::PerSecond { (seconds / cap, -1.0) } else { (1.0 / cap, 1.0) };
        let error = sign * line.error().unwrap_or(0.0);
        let host = error > 0.0 && host_noise.explains((error - tolerance) * missing * 1e9, 1.0);
        line.excused(host)
    };
    let backlog = seen.sent - delivered * seconds;
    let piled = (offered - cap) * seconds;
    let mut lines = vec![
        judged("delivered rate", cap, delivered, 0.01 * cap, FigureUnit::PerSecond),
        judged("backlog at the end of the load", piled, backlog, 0.01 * offered * seconds, FigureUnit::Count),
        ClaimLine::exact("lost", 0, seen.lost),
    ];
    for ((p, name), measured) in NAMES.into_iter().zip(seen.quantiles) {
        // A message due at t is delivered at t x offered / cap.
        let exact = p * seconds * 1e9 * (offered / cap - 1.0);
        lines.push(ClaimLine::latency(format!("{name} of response"), exact, measured, 0.01 * exact, p, host_noise));
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::calibrate::certificate::{ClaimVerdict, Pauses};

    #[test]
    fn three_per_cent_are_a_defect_and_no_pause() {
        let pauses = Pauses { p90: 80_000, p99: 300_000, p999: 4_000_000, max: 9_000_000 };
        let ordinary = HostNoise { hiccup: pauses, lag: pauses, steal: 1.3, ..HostNoise::default() };
        let verdicts = |scale: f64, delivered: f64| {
            let quantiles = NAMES.map(|(p, _)| Some(scale * p * 7e9));
            let seen = RateResult { cap: 2e3, offered: 4e3, seconds: 7.0, delivered, sent: 28e3, lost: 0, quantiles };
            judge(&seen, &ordinary).into_iter().map(|l| l.verdict).collect::<Vec<_>>()
        };
        use ClaimVerdict::{Fail, Pass};
        assert_eq!(verdicts(1.0, 2e3), [Pass; 6]);
        assert_eq!(verdicts(1.03, 2e3), [Pass, Pass, Pass, Fail, Fail, Fail]);
        assert_eq!(verdicts(0.97, 2e3), [Pass, Pass, Pass, Fail, Fail, Fail]);
        assert_eq!(verdicts(1.0, 1.94e3)[0], Fail, "3 % of 7 s are no pause of 9 ms");
        assert_eq!(verdicts(1.0, 2.021e3)[0], Fail, "no pause makes more of them");
    }
}
