//! Experiment 8: a broker that passes no more than so many messages a second.

use super::experiment;
use crate::calibrate::CalibrateError;
use crate::calibrate::bench::{Bench, at, ms};
use crate::calibrate::certificate::{Experiment, Line, Unit};
use crate::units::SECOND;

/// Twice the capped rate is offered: half of what is sent piles up.
pub fn cap(bench: &Bench<'_>) -> Result<Vec<Experiment>, CalibrateError> {
    let run = bench.pick(SECOND, 7 * SECOND);
    let (cap, offered) = (2_000.0, 4_000.0);
    let text = format!(
        "name = \"cap\"\nquestion = \"Is a rate cap recovered?\"\n\
         [[workload]]\npattern = \"fan-out\"\nconsumers = 1\nload.rate = \"{offered}/s\"\npayload.size = \"64B\"\n\
         [faults]\nrate-cap = {{ rate = \"{cap}/s\" }}\n\
         [run]\nwarmup = \"0s\"\nduration = \"{}\"\ntrials = 1\ndrain = \"30s\"\npercentiles = [0.1, 0.5, 0.9, 0.99]\n",
        ms(run)
    );
    let ran = bench.one("rate cap", text)?;
    let unrest = ran.unrest();
    let (w, l) = (ran.workload(0), ran.latency(0, "e2e"));
    let seconds = run as f64 / SECOND as f64;
    let backlog = w.ledger.sent as f64 - w.throughput.delivered * seconds;
    let judged = |what: &str, exact: f64, measured, tolerance, unit| {
        let line = Line::judged(what.into(), exact, Some(measured), tolerance, unit);
        // A pause at the end of the load holds up what would have been delivered meanwhile: then the rate is lower, the backlog
        // larger, never the other way round.
        let (missing, sign) = if unit == Unit::PerSecond { (seconds / cap, -1.0) } else { (1.0 / cap, 1.0) };
        let error = sign * line.error().unwrap_or(0.0);
        let host = error > 0.0 && unrest.explains((error - tolerance) * missing * 1e9, 1.0);
        line.excused(host)
    };
    let mut lines = vec![
        judged("delivered rate", cap, w.throughput.delivered, 0.01 * cap, Unit::PerSecond),
        judged(
            "backlog at the end of the load",
            (offered - cap) * seconds,
            backlog,
            0.01 * offered * seconds,
            Unit::Count,
        ),
        Line::exact("lost", 0, w.ledger.lost),
    ];
    for (p, name) in [(0.5, "p50"), (0.9, "p90"), (0.99, "p99")] {
        // A message due at t is delivered at t x offered / cap.
        let exact = p * run as f64 * (offered / cap - 1.0);
        lines.push(Line::latency(format!("{name} of response"), exact, at(&l, p), 0.01 * exact, p, &unrest));
    }
    let claim = "A broker that passes r messages a second is measured as r, to 1 %; what is offered beyond piles up, and response grows as computed.";
    Ok(vec![experiment(8, "rate cap", claim, lines, Some(unrest))])
}
