//! Experiment 3: a broker that stands still, and what a closed loop makes of it.

use super::experiment;
use crate::calibrate::CalibrateError;
use crate::calibrate::bench::{Bench, at, ms};
use crate::calibrate::certificate::{Experiment, Line, Unit};
use crate::calibrate::truth;
use crate::units::SECOND;

/// A stall of 100 ms at 1000 messages a second, against the closed formula; beside it a closed loop on the same broker.
pub fn stall(bench: &Bench<'_>) -> Result<Vec<Experiment>, CalibrateError> {
    let run = bench.pick(3 * SECOND, 10 * SECOND);
    // At the default of 10 s the p99 would lie on the knee of the formula, where nothing can be told.
    let length = if run > 5 * SECOND { 200_000_000 } else { 100_000_000 };
    let text = format!(
        "name = \"stall\"\nquestion = \"Is a stall of the broker in the percentiles?\"\n\
         [[workload]]\nname = \"open\"\npattern = \"fan-out\"\nconsumers = 1\nload.rate = \"1k/s\"\n\
         [[workload]]\nname = \"closed\"\npattern = \"request-reply\"\nload = {{ mode = \"closed\", think = \"1ms\" }}\n\
         [faults]\nstall = {{ at = \"{}\", for = \"{}\" }}\n\
         [run]\nwarmup = \"0s\"\nduration = \"{}\"\ntrials = 1\npercentiles = [0.5, 0.99, 0.995, 0.999, 0.9999]\n",
        ms(run / 2),
        ms(length),
        ms(run)
    );
    let ran = bench.one("stall", text)?;
    let unrest = ran.unrest();
    let open = ran.latency(0, "e2e");
    let base = at(&open, 0.5).unwrap_or(0.0);
    let mut lines = vec![Line::latency(
        "length of the stall, as the broker measured it",
        length as f64,
        ran.events("stall").next().map(|e| e.ns as f64),
        0.01 * length as f64,
        &unrest,
    )];
    let names = [(0.99, "p99"), (0.995, "p99.5"), (0.999, "p99.9"), (0.9999, "p99.99")];
    for (p, name) in names {
        let exact = truth::stalled(base, length as f64, run as f64, 0.0, p);
        lines.push(Line::latency(format!("{name} of response"), exact, at(&open, p), 0.02 * exact, &unrest));
    }
    let exact = base + length as f64;
    lines.push(Line::latency("max of response", exact, open.max_ns.map(|v| v as f64), 0.02 * exact, &unrest));
    lines.extend(control(&ran, length as f64, run as f64));
    let claim = "A stall of length S in a run of length T is in the percentiles as S - T (1 - p), to 2 %. The control is a closed loop \
                 on the same broker, which must show the wrong answer: one late sample, and a p99 as if nothing had happened.";
    Ok(vec![experiment(3, "stall", claim, lines, Some(unrest))])
}

/// A closed loop has seen the stall once, and its p99 says nothing of it.
fn control(ran: &crate::calibrate::bench::Ran, length: f64, run: f64) -> Vec<Line> {
    let closed = ran.latency(1, "rtt.service");
    let slow = ran.samples.get("closed/rtt.service").map_or(0, |h| {
        h.iter_recorded().filter(|v| v.value_iterated_to() as f64 > length / 2.0).map(|v| v.count_at_value()).sum()
    });
    let truth = truth::stalled(0.0, length, run, 0.0, 0.99);
    vec![
        // A pause of the host of that length makes another one.
        Line::exact("control: samples above half the stall", 1, slow).excused(ran.unrest().explains(length / 2.0)),
        // Anything up to half of the truth is the wrong answer that is looked for.
        Line::judged(
            format!("control: p99 of the closed loop (true: {:.0} ms)", truth / 1e6),
            0.0,
            at(&closed, 0.99),
            truth / 2.0,
            Unit::Ns,
            Some(&ran.unrest()),
        ),
    ]
}
