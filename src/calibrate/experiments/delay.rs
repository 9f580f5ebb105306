//! Experiments 5 and 6: delays that are added by the broker.

use super::experiment;
use crate::calibrate::CalibrateError;
use crate::calibrate::awake::Awake;
use crate::calibrate::bench::{Bench, Ran, at, control, ms, scatter, with_floor};
use crate::calibrate::certificate::{Experiment, Line, Unit, Unrest};
use crate::units::{Nanos, SECOND};

fn scenario(name: &str, rates: [&str; 2], delay: &str, length: Nanos) -> String {
    format!(
        "name = \"{name}\"\nquestion = \"Is a delay that is added what is measured?\"\n\
         [[workload]]\nname = \"hit\"\npattern = \"fan-out\"\nconsumers = 1\nload.rate = \"{}\"\n\
         [[workload]]\nname = \"control\"\npattern = \"fan-out\"\nconsumers = 1\nload.rate = \"{}\"\n\
         [faults]\nsubjects = \"mb.*.0.*\"\ndelay = {delay}\n\
         [run]\nwarmup = \"200ms\"\nduration = \"{}\"\ntrials = 1\npercentiles = [0.25, 0.5, 0.75, 0.9, 0.94, 0.96, 0.99]\n",
        rates[0],
        rates[1],
        ms(length)
    )
}

/// Constant delays, as the difference to messages of the same trial that are not delayed.
pub fn constant(bench: &Bench<'_>) -> Result<Vec<Experiment>, CalibrateError> {
    let (mut lines, mut all) = (Vec::new(), Unrest::default());
    let _awake = Awake::keep();
    for delay in [100_000u64, 1_000_000, 10_000_000] {
        // No delay is near a multiple of the gap: the next message must not arrive while one is let go.
        let text = scenario(
            "delay",
            ["450/s", "457/s"],
            &format!("{{ fixed = \"{}\" }}", ms(delay)),
            bench.pick(4 * SECOND / 5, 5 * SECOND),
        );
        let ran = bench.one("constant delay", text)?;
        let unrest = ran.unrest().beside(&ran, 1);
        all = all.worse(unrest);
        let unrest = unrest.usual();
        let (hit, (base, _)) = (ran.latency(0, "e2e"), control(&ran, 1));
        let mut real: Vec<Nanos> = ran.events("delay").map(|e| e.ns).collect();
        real.sort_unstable();
        let tolerance = 5_000.0 + 0.01 * delay as f64;
        let measured = at(&hit, 0.5).map(|v| v - base);
        let name = ms(delay);
        let logged = real.get(real.len() / 2).map(|v| *v as f64);
        lines.push(Line::latency(
            format!("{name}: median of the broker's log"),
            delay as f64,
            logged,
            tolerance,
            &unrest,
        ));
        let what = format!("{name}: median response less control");
        lines.push(Line::latency(what, delay as f64, measured, tolerance + scatter(&ran, 1), &unrest));
    }
    let claim = "A constant delay in the broker is the difference between messages that have it and those of the same trial that have it not, \
                 to 5 us + 1 % + half the interquartile range of the control. The cores are kept awake, because waking one costs more after a longer wait.";
    Ok(vec![experiment(6, "constant delay", claim, lines, Some(all))])
}

/// Probability of the long delay, and both delays.
const SHARE: f64 = 0.05;
const SHORT: Nanos = 300_000;
const LONG: Nanos = 2_500_000;

/// Two delays: the step in the percentiles stands where the rare one begins.
pub fn mixture(bench: &Bench<'_>) -> Result<Vec<Experiment>, CalibrateError> {
    let delay = format!("{{ mixture = {{ short = \"{}\", long = \"{}\", share = {SHARE} }} }}", ms(SHORT), ms(LONG));
    // Messages are further apart than the long delay, so that none waits for another.
    let text = scenario("mixture", ["320/s", "97/s"], &delay, bench.pick(2 * SECOND, 15 * SECOND));
    let awake = Awake::keep();
    let ran = bench.one("mixture", text)?;
    drop(awake);
    let unrest = ran.unrest().beside(&ran, 1);
    let (base, spread) = control(&ran, 1);
    let hit = ran.latency(0, "e2e");
    let mut lines = Vec::new();
    for (p, name, delay) in [(0.5, "p50", SHORT), (0.9, "p90", SHORT), (0.99, "p99", LONG)] {
        let tolerance = match p {
            0.5 => 5_000.0 + 0.01 * delay as f64 + scatter(&ran, 1),
            _ => with_floor(5_000.0 + 0.05 * delay as f64, spread),
        };
        let what = format!("{name} less control");
        let unrest = if p > 0.95 { unrest } else { unrest.usual() };
        lines.push(Line::latency(what, delay as f64, at(&hit, p).map(|v| v - base), tolerance, &unrest));
    }
    lines.extend(step(&ran));
    let claim = "Of two delays with probabilities 95 % and 5 % the percentiles show the one up to p95 and the other above: the number of \
                 samples above the step is the number of long delays in the log.";
    Ok(vec![experiment(5, "two-point mixture", claim, lines, Some(unrest))])
}

/// How many messages were hit by the long delay, by chance, by the log and by the histogram.
fn step(ran: &Ran) -> Vec<Line> {
    let threshold = (SHORT + LONG) / 2;
    // Of the measured phase: its messages are the last of the log.
    let sent = ran.workload(0).ledger.sent;
    let all: Vec<_> = ran.events("delay").collect();
    let measured = &all[all.len().saturating_sub(sent as usize)..];
    let logged = measured.iter().filter(|e| e.ns > threshold).count() as u64;
    let told = measured.iter().filter(|e| e.ns - e.late > threshold).count() as f64;
    let seen = ran.samples.get("hit/e2e").map_or(0, |h| {
        h.iter_recorded().filter(|v| v.value_iterated_to() > threshold).map(|v| v.count_at_value()).sum()
    });
    let (n, p) = (sent as f64, SHARE);
    let unrest = ran.unrest().beside(ran, 1);
    // A pause that lifts a short delay over the step, of anything on the way.
    let longest = unrest.hiccup_max.max(unrest.lag_max).max(unrest.late_max).max(unrest.way_max);
    let pauses =
        Unrest { hiccup_max: if longest > threshold - SHORT { Nanos::MAX / 8 } else { 0 }, ..Unrest::default() };
    vec![
        Line::judged(
            "long delays that the seed gave".into(),
            n * p,
            Some(told),
            4.0 * (n * p * (1.0 - p)).sqrt(),
            Unit::Count,
            None,
        ),
        Line::judged(
            "samples above the step".into(),
            logged as f64,
            Some(seen as f64),
            0.0,
            Unit::Count,
            Some(&pauses),
        ),
    ]
}
