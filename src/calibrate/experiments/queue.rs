//! Experiments 4 and 10: queues whose every quantile is known, and Little's law.

use super::experiment;
use crate::calibrate::CalibrateError;
use crate::calibrate::bench::{Bench, Ran, at, control, ms, with_floor};
use crate::calibrate::certificate::{Experiment, Line, Unit, Unrest};
use crate::calibrate::truth::{self, Exact, QUANTILES};
use crate::record::Status;
use crate::units::{Nanos, SECOND};

/// Mean service time.
const SERVICE: Nanos = 500_000;
/// A quantile is judged with so many messages above it, as in every report.
const ENOUGH: f64 = 10.0;

/// Above this real load a queue of our lengths has no mean to speak of.
const STEADY: f64 = 0.95;

/// Runs Poisson arrivals through a server with this law; the second workload is the control.
fn run(bench: &Bench<'_>, law: &str, exact: &Exact, length: Nanos) -> Result<Ran, CalibrateError> {
    let rate = exact.rho * SECOND as f64 / SERVICE as f64;
    let text = format!(
        "name = \"queue\"\nquestion = \"Is the time in a queue what theory says?\"\n\
         [[workload]]\nname = \"hit\"\npattern = \"fan-out\"\nconsumers = 1\nload = {{ rate = \"{rate}/s\", arrivals = \"poisson\" }}\n\
         [[workload]]\nname = \"control\"\npattern = \"fan-out\"\nconsumers = 1\nload.rate = \"101/s\"\n\
         [faults]\nsubjects = \"mb.*.0.*\"\nservice = {{ {law} = \"{}\" }}\n\
         [run]\nwarmup = \"0s\"\nduration = \"{}\"\ntrials = 1\npercentiles = [0.5, 0.9, 0.99, 0.999]\n",
        ms(SERVICE),
        ms(length)
    );
    bench.one("queue", text)
}

/// M/D/1 and M/M/1 against theory and against their own log; Little's law.
pub fn queues(bench: &Bench<'_>) -> Result<Vec<Experiment>, CalibrateError> {
    let length = bench.pick(9 * SECOND / 5, 22 * SECOND);
    let (mut lines, mut unrest, mut little) = (Vec::new(), Unrest::default(), Vec::new());
    let mut plan = vec![("M/D/1", "fixed", truth::MD1_HALF), ("M/M/1", "exponential", truth::mm1_half())];
    if bench.pick(false, true) {
        plan.push(("M/D/1", "fixed", truth::MD1_EIGHTY));
    }
    for (name, law, exact) in plan {
        let ran = run(bench, law, &exact, length)?;
        unrest = unrest.worse(ran.unrest().beside(&ran, 1));
        judge(name, &exact, &ran, &mut lines);
        little.extend(littles_law(name, &exact, &ran));
    }
    let claim = "With Poisson arrivals and a known service time the time in the broker has an exact distribution. Theory: within 3 sigma \
                 of the run's length. Log: the same from the real service times of the log (Lindley), where chance plays no part.";
    let law = "Messages in the broker (from its log) = rate x time in it (from the histogram), within 5 % and three standard errors of the control, at most 10 %.";
    Ok(vec![
        experiment(4, "queues", claim, lines, Some(unrest)),
        experiment(10, "Little's law", law, little, Some(unrest)),
    ])
}

/// (due, arrived, real service time) of each message.
fn served(ran: &Ran) -> Vec<(Nanos, Nanos, Nanos)> {
    ran.events("service").filter_map(|e| Some((e.intended()?, e.arrived, e.ns))).collect()
}

/// The same as it would have been on a host that takes nothing away: arrived when due, served for as long as told.
fn undisturbed(ran: &Ran) -> Vec<(Nanos, Nanos, Nanos)> {
    let told = |e: &truth::Injected| Some((e.intended()?, e.intended()?, e.ns.saturating_sub(e.late)));
    ran.events("service").filter_map(told).collect()
}

fn judge(name: &str, exact: &Exact, ran: &Ran, lines: &mut Vec<Line>) {
    let (hit, mut unrest) = (ran.latency(0, "e2e"), ran.unrest().beside(ran, 1));
    let (base, spread) = control(ran, 1);
    let served = served(ran);
    let (n, name) = (served.len() as f64, format!("{name} rho {}", exact.rho));
    lines.push(Line::exact(
        format!("{name}: messages served of those sent"),
        ran.workload(0).ledger.sent,
        served.len() as u64,
    ));
    let (real, ideal) = (truth::lindley(&served), truth::lindley(&undisturbed(ran)));
    let service: Vec<Nanos> = served.iter().map(|(_, _, s)| *s).collect();
    let mean = service.iter().map(|s| *s as f64).sum::<f64>() / n.max(1.0);
    lines.push(Line::latency(
        format!("{name}: real mean service time"),
        SERVICE as f64,
        Some(mean),
        bound(name.contains("M/M"), n),
        &unrest,
    ));
    // Where the server really took what it was told, rare pauses have not made the queue another one.
    if (mean - SERVICE as f64).abs() <= bound(name.contains("M/M"), n) {
        unrest = unrest.usual();
    }
    for (i, p) in QUANTILES.into_iter().enumerate().filter(|(_, p)| n * (1.0 - p) >= ENOUGH - 1e-6) {
        let label = crate::report::view::quantile_name(p);
        let theory = exact.quantiles[i] * SERVICE as f64;
        let sigma = 3.0 * exact.sigma[i] * (1e6 / n).sqrt() * theory;
        let measured = at(&hit, p);
        let tolerance = with_floor(sigma, spread);
        let what = format!("{name}: {label}, theory");
        // What the server's own log says that the host added to this very quantile.
        let added = truth::rank(&real, p).zip(truth::rank(&ideal, p)).map_or(0.0, |(r, i)| r.abs_diff(i) as f64);
        let explained = measured.is_some_and(|m| (m - theory - base).abs() <= tolerance + 2.0 * added);
        lines.push(Line::latency(what, theory + base, measured, tolerance, &unrest).excused(explained));
        if let Some(real) = truth::rank(&real, p) {
            let real = real as f64;
            // The way from the broker back to the consumer is what the log does not see.
            let tolerance = with_floor(0.02 * real, spread) + base;
            lines.push(Line::latency(format!("{name}: {label}, log"), real, measured, tolerance, &unrest));
        }
    }
    let per_second = n / (ran.trial.measured_ns as f64 / SECOND as f64);
    if per_second * mean / SECOND as f64 >= STEADY {
        // The line of the real service time has said already that the host took the server away.
        return;
    }
    let pk = truth::pollaczek_khinchine(per_second, &service);
    let sigma = 3.0 * exact.sigma[0] * (1e6 / n).sqrt() * pk;
    let what = format!("{name}: mean, Pollaczek-Khinchine");
    lines.push(Line::latency(what, pk + base, Some(hit.mean_ns), with_floor(sigma, spread), &unrest));
}

/// What the mean of so many service times may be off by: lateness of the server, and chance where they are random.
fn bound(random: bool, n: f64) -> f64 {
    let chance = if random { 3.0 / n.max(1.0).sqrt() } else { 0.0 };
    SERVICE as f64 * (0.01 + chance)
}

fn littles_law(name: &str, exact: &Exact, ran: &Ran) -> Vec<Line> {
    let (hit, way) = (ran.latency(0, "e2e.service"), ran.latency(1, "e2e.service"));
    let seconds = ran.trial.measured_ns as f64;
    // The log's own view: each message is in the broker from its arrival until its service is over.
    let inside: f64 = ran.events("service").map(|e| e.at.saturating_sub(e.arrived) as f64).sum();
    let (in_system, n) = (inside / seconds, hit.count as f64);
    // Time from the hand-over until the receipt, less what messages take on the way that the faults do not hit.
    let from_histogram = n / seconds * (hit.mean_ns - way.mean_ns);
    let name = format!("{name} rho {}", exact.rho);
    // How well the mean of the way is known: three standard errors of the control's, in messages.
    let error = ran.samples.get("control/e2e.service").map_or(0.0, |h| h.stdev() / (h.len().max(1) as f64).sqrt());
    let books = ran.trial.validity.iter().filter(|c| c.id == "V5" && c.status != Status::Ok).count() as u64;
    vec![
        Line::judged(
            format!("{name}: messages in the broker"),
            in_system,
            Some(from_histogram),
            with_floor(0.05 * in_system, 3.0 * n / seconds * error),
            Unit::Number,
            None,
        ),
        Line::exact(format!("{name}: books that do not balance (V5)"), 0, books),
    ]
}
