//! Experiment 8: a broker that passes no more than so many messages a second.

use super::experiment;
use crate::calibrate::CalibrateError;
use crate::calibrate::bench::{Bench, at, ms};
use crate::calibrate::certificate::{Experiment, Line};
use crate::units::SECOND;

/// Twice the capped rate is offered: half of what is sent piles up.
pub fn cap(bench: &Bench<'_>) -> Result<Vec<Experiment>, CalibrateError> {
    let run = bench.pick(6 * SECOND / 5, 10 * SECOND);
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
    let mut lines = vec![
        Line::rate("delivered rate", cap, w.throughput.delivered, 0.01 * cap, cap, &unrest),
        Line::rate(
            "backlog at the end of the load",
            (offered - cap) * seconds,
            w.ledger.sent as f64 - w.throughput.delivered * seconds,
            0.01 * offered * seconds,
            offered,
            &unrest,
        ),
        Line::exact("lost", 0, w.ledger.lost),
    ];
    for (p, name) in [(0.5, "p50"), (0.9, "p90"), (0.99, "p99")] {
        // A message due at t is delivered at t x offered / cap.
        let exact = p * run as f64 * (offered / cap - 1.0);
        lines.push(Line::latency(format!("{name} of response"), exact, at(&l, p), 0.01 * exact, &unrest));
    }
    let claim = "A broker that passes r messages a second is measured as r, to 1 %; what is offered beyond piles up, and response grows as computed.";
    Ok(vec![experiment(8, "rate cap", claim, lines, Some(unrest))])
}
