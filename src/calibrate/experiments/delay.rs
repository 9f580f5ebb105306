//! Experiments 5 and 6: delays that are added by the broker.

use hdrhistogram::Histogram;

use super::experiment;
use crate::calibrate::CalibrateError;
use crate::calibrate::certificate::{ClaimLine, Experiment, FigureUnit, HostNoise, Pauses};
use crate::calibrate::context::{ExperimentContext, TrialResult, at, control, ms, scatter, unsteady};
use crate::calibrate::keep_awake::KeepAwake;
use crate::calibrate::truth;
use crate::measure::recorder::histogram;
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
pub fn constant(context: &ExperimentContext<'_>) -> Result<Vec<Experiment>, CalibrateError> {
    let (mut lines, mut all) = (Vec::new(), HostNoise::default());
    let _awake = KeepAwake::keep();
    for delay in [100_000u64, 1_000_000, 10_000_000] {
        // No delay is near a multiple of the gap: the next message must not arrive while one is let
        // go.
        let text = scenario(
            "delay",
            ["450/s", "457/s"],
            &format!("{{ fixed = \"{}\" }}", ms(delay)),
            context.pick(4 * SECOND / 5, 4 * SECOND),
        );
        let ran = context.one("constant delay", text)?;
        let host_noise = ran.host_noise().with_noise_of(&ran, 1);
        all = all.worse(host_noise);
        let (hit, base) = (ran.latency(0, "e2e"), control(&ran, 1));
        let mut real: Vec<Nanos> = ran.events("delay").map(|e| e.ns).collect();
        real.sort_unstable();
        let tolerance = 5_000.0 + 0.01 * delay as f64;
        let measured = at(&hit, 0.5).map(|v| v - base);
        let name = ms(delay);
        let logged = real.get(real.len() / 2).map(|v| *v as f64);
        let what = format!("{name}: median of the broker's log");
        lines.push(ClaimLine::latency(what, delay as f64, logged, tolerance, 0.5, &host_noise));
        let what = format!("{name}: median response less control");
        lines.push(ClaimLine::difference(what, delay as f64, measured, tolerance + scatter(&ran, 1), &host_noise));
    }
    let claim = "A constant delay in the broker is the difference between messages that have it and those of the same trial that have it not, \
                 to 5 us + 1 % + half the interquartile range of the control. The cores are kept awake, because waking one costs more after a longer wait.";
    Ok(vec![experiment(6, "constant delay", claim, lines, Some(all))])
}

/// Probability of the long delay, and both delays.
const SHARE: f64 = 0.05;
const SHORT: Nanos = 300_000;
const LONG: Nanos = 4_000_000;

/// Two delays: the step in the percentiles stands where the rare one begins.
pub fn mixture(context: &ExperimentContext<'_>) -> Result<Vec<Experiment>, CalibrateError> {
    let delay = format!("{{ mixture = {{ short = \"{}\", long = \"{}\", share = {SHARE} }} }}", ms(SHORT), ms(LONG));
    // Messages are further apart than the long delay, so that none waits for another.
    let text = scenario("mixture", ["240/s", "97/s"], &delay, context.pick(2 * SECOND, 12 * SECOND));
    let awake = KeepAwake::keep();
    let ran = context.one("mixture", text)?;
    drop(awake);
    let host_noise = ran.host_noise().with_noise_of(&ran, 1);
    // Lateness of the server is in the log, and excuses nothing.
    let host = HostNoise { late: Pauses::default(), ..host_noise };
    let lines = judge(&seen(&ran), &host);
    let claim = "Of two delays with probabilities 95 % and 5 % the percentiles show the one up to p95 and the other above: the number of \
                 samples above the step is the number of messages that the log says left the broker so late.";
    Ok(vec![experiment(5, "two-point mixture", claim, lines, Some(host_noise))])
}

/// A message in the log, ns: from when it was due until it arrived at the broker, and until it left
/// it; and the delay that it was told.
#[derive(Debug, Clone, Copy)]
struct DelayedEntry {
    there: Nanos,
    left: Nanos,
    told: Nanos,
}

/// What a trial with two delays has shown.
struct DelayResult {
    /// Of the measured phase.
    log: Vec<DelayedEntry>,
    /// Response, ns, at p50, p90 and p99.
    quantiles: [Option<f64>; 3],
    /// Samples of response above the step.
    above: u64,
    /// Median of the response of the control, ns, how much it scatters, with and without a bound,
    /// and all of it.
    control: f64,
    scatter: f64,
    unsteady: f64,
    way: Histogram<u64>,
}

fn above(h: &Histogram<u64>, threshold: Nanos) -> u64 {
    h.iter_recorded().filter(|v| v.value_iterated_to() > threshold).map(|v| v.count_at_value()).sum()
}

fn seen(ran: &TrialResult) -> DelayResult {
    let all = ran.events("delay").filter_map(|e| {
        let due = e.intended()?;
        let told = e.ns.saturating_sub(e.late);
        Some(DelayedEntry { there: e.arrived.saturating_sub(due), left: e.at.saturating_sub(due), told })
    });
    let all: Vec<DelayedEntry> = all.collect();
    // Of the measured phase: its messages are the last of the log.
    let log = all[all.len().saturating_sub(ran.workload(0).ledger.sent as usize)..].to_vec();
    let (hit, base) = (ran.latency(0, "e2e"), control(ran, 1));
    DelayResult {
        log,
        quantiles: [0.5, 0.9, 0.99].map(|p| at(&hit, p)),
        above: ran.samples.get("hit/e2e").map_or(0, |h| above(h, LONG)),
        control: base,
        scatter: scatter(ran, 1),
        unsteady: unsteady(ran, 1),
        way: ran.samples.get("control/e2e").cloned().unwrap_or_else(histogram),
    }
}

fn judge(seen: &DelayResult, host: &HostNoise) -> Vec<ClaimLine> {
    let sorted = |of: fn(&DelayedEntry) -> Nanos| {
        let mut all: Vec<Nanos> = seen.log.iter().map(of).collect();
        all.sort_unstable();
        all
    };
    let (there, left) = (sorted(|d| d.there), sorted(|d| d.left));
    // The way from the broker to the consumer, which the log does not see: that of the control,
    // less the way there.
    let there = truth::rank(&there, 0.5).unwrap_or(0) as f64;
    let back = (seen.control - there).max(0.0);
    let median = seen.quantiles[0].map(|v| v - seen.control);
    let tolerance = |ns: f64| 5_000.0 + 0.01 * ns;
    let nominal = tolerance(SHORT as f64) + seen.scatter;
    let mut lines = vec![ClaimLine::difference("p50 less control", SHORT as f64, median, nominal, host)];
    let loud = scattered(&left, &seen.way, there);
    for ((p, name), measured) in [(0.5, "p50"), (0.9, "p90"), (0.99, "p99")].into_iter().zip(seen.quantiles) {
        // The truth lies between a way back that never scatters and one that has all the scatter of
        // the control, a part of which is of the way there.
        let least = truth::rank(&left, p).map_or(0.0, |v| v as f64) + back;
        let most = truth::rank(&loud, p).map_or(0.0, |v| v as f64).max(least);
        // What lies between them counts up to a tolerance on either side, so that a loud control
        // does not make every result right.
        let tolerance = tolerance(least) + seen.scatter;
        let half = ((most - least) / 2.0).min(tolerance);
        let line = ClaimLine::latency(format!("{name}, log"), least + half, measured, tolerance + half, p, host);
        lines.push(line.by_control(seen.unsteady));
    }
    lines.extend(step(seen, back as Nanos));
    lines
}

/// All sums of a time in the broker and a way back that scatters as much as the control, ns,
/// sorted: its quantiles at every half per cent.
fn scattered(left: &[Nanos], way: &Histogram<u64>, there: f64) -> Vec<Nanos> {
    let ways: Vec<Nanos> =
        (0..200).map(|i| way.value_at_quantile((f64::from(i) + 0.5) / 200.0).saturating_sub(there as Nanos)).collect();
    let mut all: Vec<Nanos> = left.iter().flat_map(|l| ways.iter().map(move |w| l + w)).collect();
    all.sort_unstable();
    all
}

/// How many messages were hit by the long delay by chance; and how many came later than it, by the
/// log and by the histogram.
fn step(seen: &DelayResult, back: Nanos) -> Vec<ClaimLine> {
    let count = |of: &dyn Fn(&&DelayedEntry) -> bool| seen.log.iter().filter(of).count() as u64;
    let (n, p) = (seen.log.len() as f64, SHARE);
    let told = count(&|d| d.told >= LONG) as f64;
    // The threshold is the long delay itself: what had it is above, whatever the host did, and a
    // short one is above only when something held it up for the whole difference. Between these two
    // the way back decides.
    let (certain, likely) = (count(&|d| d.left > LONG), count(&|d| d.left + 2 * back > LONG));
    let expected = seen.above.clamp(certain, likely);
    // Of the others as many can have been held up on the way back as of the control, and by chance
    // some more: none seen among n means a share of less than 3 / n (95 %).
    let base = seen.control as Nanos;
    let others: Vec<Nanos> = seen.log.iter().map(|d| d.left).filter(|left| *left <= LONG).collect();
    let n_control = seen.way.len().max(1) as f64;
    let strays: f64 = others.iter().map(|left| above(&seen.way, base + LONG - left) as f64 / n_control).sum();
    let strays = strays + 3.0 * strays.sqrt() + 3.0 * others.len() as f64 / n_control;
    let what = "samples above the step".to_owned();
    let line =
        ClaimLine::judged(what, expected as f64, Some(seen.above as f64), strays.min(n / 100.0), FigureUnit::Count);
    let more = seen.above > likely;
    let line = line.excused(more && (seen.above - likely) as f64 <= strays);
    vec![
        ClaimLine::judged(
            "long delays that the seed gave".into(),
            n * p,
            Some(told),
            4.0 * (n * p * (1.0 - p)).sqrt(),
            FigureUnit::Count,
        ),
        // One that is certain and is not there has been lost, which no host excuses.
        if seen.above < certain { ClaimLine::exact(line.what, certain, seen.above) } else { line },
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::calibrate::certificate::ClaimVerdict;

    /// 2880 messages of which each twentieth has the long delay; one in 200 is held up by 3 ms on
    /// its way to the broker, and one in 900 by 2 ms on its way back. `response` is what is
    /// recorded of (response, service).
    fn verdicts(response: impl Fn(Nanos, Nanos) -> Option<Nanos>) -> Vec<(String, ClaimVerdict)> {
        let (mut log, mut seen, mut way) = (Vec::new(), Vec::new(), histogram());
        for i in 0..2880u64 {
            let noise = i * 7919 % 20_000;
            let (lag, late) = (if i % 200 == 7 { 3_000_000 } else { 2_000 }, if i % 900 == 11 { 2_000_000 } else { 0 });
            let (there, back) = (lag + 60_000, 50_000 + noise + late);
            let told = if i % 20 == 3 { LONG } else { SHORT };
            log.push(DelayedEntry { there, left: there + told + 100, told });
            let service = 60_000 + told + 100 + back;
            seen.extend(response(service + lag, service));
            if i % 5 == 2 {
                way.record(there + back).unwrap();
            }
        }
        seen.sort_unstable();
        let above = seen.iter().filter(|v| **v > LONG).count() as u64;
        let control = way.value_at_quantile(0.5) as f64;
        let scatter = (way.value_at_quantile(0.75) - way.value_at_quantile(0.25)) as f64 / 2.0;
        let quantiles = [0.5, 0.9, 0.99].map(|p| truth::rank(&seen, p).map(|v| v as f64));
        let seen = DelayResult { log, quantiles, above, control, scatter, unsteady: scatter, way };
        let pauses = Pauses { p90: 80_000, p99: 300_000, p999: 4_000_000, max: 9_000_000 };
        let host = HostNoise { hiccup: pauses, lag: pauses, steal: 1.3, ..HostNoise::default() };
        judge(&seen, &host).into_iter().map(|l| (l.what, l.verdict)).collect()
    }

    fn failed(found: &[(String, ClaimVerdict)]) -> Vec<&str> {
        found.iter().filter(|(_, v)| *v == ClaimVerdict::Fail).map(|(what, _)| what.as_str()).collect()
    }

    #[test]
    fn the_step_is_where_the_log_says_and_late_samples_that_are_missing_are_no_disturbance() {
        let right = verdicts(|response, _| Some(response));
        assert!(right.len() == 6 && right.iter().all(|(_, v)| *v == ClaimVerdict::Pass), "{right:?}");
        let dropped = verdicts(|response, _| Some(response).filter(|ns| *ns < LONG + 100_000));
        assert!(failed(&dropped).contains(&"samples above the step"), "{dropped:?}");
        let shorter = verdicts(|response, _| Some(response * 97 / 100));
        assert!(failed(&shorter).contains(&"samples above the step"), "{shorter:?}");
        let more = verdicts(|response, _| Some(if response % 37 == 1 { response + LONG } else { response }));
        assert!(failed(&more).contains(&"samples above the step"), "{more:?}");
    }
}
