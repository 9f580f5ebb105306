//! Experiments 4 and 10: queues whose every quantile is known, and Little's law.

use super::experiment;
use crate::calibrate::CalibrateError;
use crate::calibrate::certificate::{ClaimLine, Experiment, FigureUnit, HostNoise, Pauses};
use crate::calibrate::context::{ExperimentContext, TrialResult, at, control, ms, scatter, unsteady, with_floor};
use crate::calibrate::keep_awake::KeepAwake;
use crate::calibrate::truth::{self, ExactQueue, QUANTILES};
use crate::record::Status;
use crate::units::{Nanos, SECOND};

/// Mean service time.
const SERVICE: Nanos = 500_000;
/// A quantile is judged with so many messages above it, as in every report.
const ENOUGH: f64 = 10.0;

/// Runs Poisson arrivals through a server with this law; the second workload is the control.
fn run(
    context: &ExperimentContext<'_>,
    law: &str,
    exact: &ExactQueue,
    length: Nanos,
) -> Result<TrialResult, CalibrateError> {
    let rate = exact.rho * SECOND as f64 / SERVICE as f64;
    let text = format!(
        "name = \"queue\"\nquestion = \"Is the time in a queue what theory says?\"\n\
         [[workload]]\nname = \"hit\"\npattern = \"fan-out\"\nconsumers = 1\nload = {{ rate = \"{rate}/s\", arrivals = \"poisson\" }}\n\
         [[workload]]\nname = \"control\"\npattern = \"fan-out\"\nconsumers = 1\nload.rate = \"101/s\"\n\
         [faults]\nsubjects = \"mb.*.0.*\"\nservice = {{ {law} = \"{}\" }}\n\
         [run]\nwarmup = \"0s\"\nduration = \"{}\"\ntrials = 1\npercentiles = [0.25, 0.5, 0.75, 0.9, 0.99, 0.999]\n",
        ms(SERVICE),
        ms(length)
    );
    context.one("queue", text)
}

/// M/D/1 and M/M/1 against theory and against their own log; Little's law.
pub fn queues(context: &ExperimentContext<'_>) -> Result<Vec<Experiment>, CalibrateError> {
    let (mut lines, mut host_noise, mut little) = (Vec::new(), HostNoise::default(), Vec::new());
    // A p99.9 needs 10,000 messages; more of them where chance is larger.
    let mut plan = vec![
        ("M/D/1", "fixed", truth::MD1_HALF, context.pick(9 * SECOND / 5, 15 * SECOND)),
        ("M/M/1", "exponential", truth::mm1_half(), context.pick(9 * SECOND / 5, 12 * SECOND)),
    ];
    if context.pick(false, true) {
        plan.push(("M/D/1", "fixed", truth::MD1_EIGHTY, 15 * SECOND));
    }
    let _awake = KeepAwake::keep();
    for (name, law, exact, length) in plan {
        let ran = run(context, law, &exact, length)?;
        // Lateness of the server excuses nothing: its log is what is expected.
        let host = HostNoise { late: Pauses::default(), ..ran.host_noise().with_noise_of(&ran, 1) };
        host_noise = host_noise.worse(ran.host_noise().with_noise_of(&ran, 1));
        lines.extend(judge(name, &exact, &seen(&ran), &host));
        little.extend(littles_law(name, &exact, &ran));
    }
    let claim = "With Poisson arrivals and a known service time the time in the broker has an exact distribution. Log: from the arrivals and service \
                 times that the broker's log has (Lindley), where chance plays no part. Theory: the exact table, within 3 sigma of the run's length, and what the log says that the host added.";
    let law = "Messages in the broker (from its log) = rate x time in it (from the histogram), within 5 % and three standard errors of the control, at most 10 %.";
    Ok(vec![
        experiment(4, "queues", claim, lines, Some(host_noise)),
        experiment(10, "Little's law", law, little, Some(host_noise)),
    ])
}

/// A message in the log, ns: when it was due and arrived, how long its service was told to be and
/// really was.
#[derive(Debug, Clone, Copy)]
struct ServedEntry {
    due: Nanos,
    arrived: Nanos,
    told: Nanos,
    real: Nanos,
}

/// What a trial with a queue has shown.
struct QueueResult {
    sent: u64,
    served: Vec<ServedEntry>,
    /// Length of the measured phase.
    seconds: f64,
    /// Response, ns, at [`QUANTILES`], and its mean.
    quantiles: [Option<f64>; 4],
    mean: f64,
    /// Median and mean of the response of the control, ns, and how much its median scatters, with
    /// and without a bound.
    control: f64,
    control_mean: f64,
    scatter: f64,
    unsteady: f64,
}

fn seen(ran: &TrialResult) -> QueueResult {
    let hit = ran.latency(0, "e2e");
    let served = ran.events("service").filter_map(|e| {
        Some(ServedEntry { due: e.intended()?, arrived: e.arrived, told: e.ns.saturating_sub(e.late), real: e.ns })
    });
    QueueResult {
        sent: ran.workload(0).ledger.sent,
        served: served.collect(),
        seconds: ran.trial.measured_ns as f64 / SECOND as f64,
        quantiles: QUANTILES.map(|p| at(&hit, p)),
        mean: hit.mean_ns,
        control: control(ran, 1),
        control_mean: ran.latency(1, "e2e").mean_ns,
        scatter: scatter(ran, 1),
        unsteady: unsteady(ran, 1),
    }
}

fn judge(name: &str, exact: &ExactQueue, seen: &QueueResult, host: &HostNoise) -> Vec<ClaimLine> {
    let (n, name) = (seen.served.len() as f64, format!("{name} rho {}", exact.rho));
    let mut lines =
        vec![ClaimLine::exact(format!("{name}: messages served of those sent"), seen.sent, seen.served.len() as u64)];
    lines.push(service(&name, seen));
    // As it was; and as it would have been on a host that takes nothing away: arrived when due,
    // served for as long as told.
    let real = truth::lindley(seen.served.iter().map(|s| (s.due, s.arrived, s.real)));
    let ideal = truth::lindley(seen.served.iter().map(|s| (s.due, s.due, s.told)));
    // The way from the broker to the consumer, which the log does not see: that of the control,
    // less the way there.
    let mut there: Vec<Nanos> = seen.served.iter().map(|s| s.arrived.saturating_sub(s.due)).collect();
    there.sort_unstable();
    let back = (seen.control - truth::rank(&there, 0.5).unwrap_or(0) as f64).max(0.0);
    for (i, p) in QUANTILES.into_iter().enumerate().filter(|(_, p)| n * (1.0 - p) >= ENOUGH - 1e-6) {
        let (label, measured) = (crate::report::words::view::quantile_name(p), seen.quantiles[i]);
        let Some((real, ideal)) = truth::rank(&real, p).zip(truth::rank(&ideal, p)) else { continue };
        let (real, ideal) = (real as f64, ideal as f64);
        let theory = exact.quantiles[i] * SERVICE as f64;
        let sigma = 3.0 * exact.sigma[i] * (1e6 / n).sqrt() * theory;
        let expected = theory + (real - ideal) + back;
        let what = format!("{name}: {label}, theory");
        let line = ClaimLine::latency(what, expected, measured, sigma + seen.scatter, p, host);
        lines.push(line.by_control(seen.unsteady));
        let what = format!("{name}: {label}, log");
        let line = ClaimLine::latency(what, real + back, measured, 0.02 * real + seen.scatter, p, host);
        lines.push(line.by_control(seen.unsteady));
    }
    let mean = |all: &[Nanos]| all.iter().map(|v| *v as f64).sum::<f64>() / n.max(1.0);
    let told: Vec<Nanos> = seen.served.iter().map(|s| s.told).collect();
    let pk = truth::pollaczek_khinchine(n / seen.seconds, &told);
    let sigma = 3.0 * exact.mean_sigma * (1e6 / n).sqrt() * pk;
    let expected = pk + (mean(&real) - mean(&ideal)) + (seen.control_mean - mean(&there)).max(0.0);
    let what = format!("{name}: mean, Pollaczek-Khinchine");
    let line = ClaimLine::latency(what, expected, Some(seen.mean), sigma + seen.scatter, 0.5, host);
    lines.push(line.by_control((seen.control_mean - seen.control).max(seen.unsteady)));
    lines
}

/// Whether the server worked for as long as it was told: the median of what it took beyond, which
/// rare pauses do not move.
fn service(name: &str, seen: &QueueResult) -> ClaimLine {
    let mut late: Vec<Nanos> = seen.served.iter().map(|s| s.real.saturating_sub(s.told)).collect();
    late.sort_unstable();
    let what = format!("{name}: service beyond what was told, median");
    let median = truth::rank(&late, 0.5).map(|v| v as f64);
    ClaimLine::judged(what, 0.0, median, 0.01 * SERVICE as f64, FigureUnit::Ns)
}

fn littles_law(name: &str, exact: &ExactQueue, ran: &TrialResult) -> Vec<ClaimLine> {
    let (hit, way) = (ran.latency(0, "e2e.service"), ran.latency(1, "e2e.service"));
    let seconds = ran.trial.measured_ns as f64;
    // The log's own view: each message is in the broker from its arrival until its service is over.
    let inside: f64 = ran.events("service").map(|e| e.at.saturating_sub(e.arrived) as f64).sum();
    let (in_system, n) = (inside / seconds, hit.count as f64);
    // Time from the hand-over until the receipt, less what messages take on the way that the faults
    // do not hit.
    let from_histogram = n / seconds * (hit.mean_ns - way.mean_ns);
    let name = format!("{name} rho {}", exact.rho);
    // How well the mean of the way is known: three standard errors of the control's, in messages.
    let error = ran.samples.get("control/e2e.service").map_or(0.0, |h| h.stdev() / (h.len().max(1) as f64).sqrt());
    let accounting = ran.trial.validity.iter().filter(|c| c.id == "V5" && c.status != Status::Ok).count() as u64;
    vec![
        ClaimLine::judged(
            format!("{name}: messages in the broker"),
            in_system,
            Some(from_histogram),
            with_floor(0.05 * in_system, 3.0 * n / seconds * error),
            FigureUnit::Number,
        ),
        ClaimLine::exact(format!("{name}: books that do not balance (V5)"), 0, accounting),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::calibrate::certificate::ClaimVerdict;

    /// A queue of M/D/1 at 0.5 on an ordinary virtual machine: the generator pauses for 5 ms in
    /// each second, the server for 3 ms, and the way there and back takes 60 us each. `response` is
    /// what is recorded of (due, sent, received).
    fn verdicts(response: impl Fn(Nanos, Nanos, Nanos) -> Option<Nanos>) -> Vec<(String, ClaimVerdict)> {
        // The minimal standard generator (Park and Miller 1988).
        let mut x = 1u64;
        let mut unit = || {
            x = x * 48_271 % 2_147_483_647;
            x as f64 / 2_147_483_647.0
        };
        let (mut due, mut free, mut paused) = (0, 0, 0);
        let (mut served, mut seen) = (Vec::new(), Vec::new());
        while due < 15 * SECOND {
            due += (-unit().ln() * 1e6) as Nanos;
            // In the first 5 ms of each second nothing is sent.
            let sent = if due % SECOND < 5_000_000 { due - due % SECOND + 5_000_000 } else { due } + 3_000;
            let arrived = sent + 60_000;
            let pause = if arrived / SECOND > paused { 3_000_000 } else { 0 };
            paused = arrived / SECOND;
            let real = SERVICE + 200 + pause;
            served.push(ServedEntry { due, arrived, told: SERVICE, real });
            free = arrived.max(free) + real;
            let received = free + 55_000 + (10_000.0 * unit()) as Nanos;
            seen.extend(response(due, sent, received));
        }
        seen.sort_unstable();
        let mean = seen.iter().map(|v| *v as f64).sum::<f64>() / seen.len() as f64;
        let seen = QueueResult {
            sent: served.len() as u64,
            served,
            seconds: 15.0,
            quantiles: QUANTILES.map(|p| truth::rank(&seen, p).map(|v| v as f64)),
            mean,
            control: 123_000.0,
            control_mean: 135_000.0,
            scatter: 5_000.0,
            unsteady: 5_000.0,
        };
        let pauses = Pauses { p90: 80_000, p99: 300_000, p999: 4_000_000, max: 9_000_000 };
        let host = HostNoise { hiccup: pauses, lag: pauses, steal: 1.3, ..HostNoise::default() };
        let lines = judge("M/D/1", &truth::MD1_HALF, &seen, &host);
        lines.into_iter().map(|l| (l.what, l.verdict)).collect()
    }

    fn failed(found: &[(String, ClaimVerdict)]) -> Vec<&str> {
        found.iter().filter(|(_, v)| *v == ClaimVerdict::Fail).map(|(what, _)| what.as_str()).collect()
    }

    #[test]
    fn what_the_host_adds_to_the_queue_is_not_charged_to_the_measurement() {
        let right = verdicts(|due, _, received| Some(received - due));
        assert_eq!(right.len(), 11, "{right:?}");
        assert!(right.iter().all(|(_, v)| *v == ClaimVerdict::Pass), "{right:?}");
    }

    #[test]
    fn wrong_measurements_fail_however_the_host_paused() {
        let handed_over = verdicts(|_, sent, received| Some(received - sent));
        assert!(
            failed(&handed_over).contains(&"M/D/1 rho 0.5: p99.9, log"),
            "timed from the hand-over: {handed_over:?}"
        );
        let dropped = verdicts(|due, _, received| Some(received - due).filter(|ns| *ns < 3_000_000));
        assert!(failed(&dropped).contains(&"M/D/1 rho 0.5: p99, log"), "late samples left out: {dropped:?}");
        let omitted = verdicts(|_, _, received| Some(SERVICE + 100_000 + received % 7));
        assert!(failed(&omitted).len() >= 4, "the wait left out: {omitted:?}");
        let shorter = verdicts(|due, _, received| Some((received - due) * 97 / 100));
        assert!(!failed(&shorter).is_empty(), "3 % too short: {shorter:?}");
        let longer = verdicts(|due, _, received| Some(2 * (received - due)));
        assert!(failed(&longer).contains(&"M/D/1 rho 0.5: p50, log"), "twice as long: {longer:?}");
    }
}
