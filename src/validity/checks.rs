//! The checks of what was observed of one workload and of the host around it (stats.md A5): V1 to
//! V6, V9, V11, V12, V15. Each is a pure function.

use super::noise::{self, Sends};
use super::outcome::{check, grade};
use super::steadiness::{self, BlockFlow};
use crate::record::{Check, Status};

/// What the checks look at, for one workload and the host around it.
#[derive(Debug, Clone, Default)]
pub struct CheckInput {
    /// Messages due and messages handed over in the measured phase; `None` where the system decides
    /// the rate.
    pub scheduled: Option<u64>,
    /// Of those, handed over within it.
    pub sent: u64,
    /// Length of the measured phase, seconds.
    pub seconds: f64,
    /// Whether the load has a schedule, and measuring began: only then can the system fall behind.
    pub paced: bool,
    /// What was due and came, block by block; `None` where it cannot be seen.
    pub flow: Option<BlockFlow>,
    /// When the first messages were sent, where the load has a constant rate.
    pub sends: Option<Sends>,
    /// p99.9 of lag and of response, ns; the p99 where p99.9 has too few samples.
    pub lag_tail: Option<u64>,
    /// See `lag_tail`; `None` inside is +infinity.
    pub response_tail: Option<Option<u64>>,
    /// Sends that found the client's buffer full.
    pub backpressure: u64,
    /// Deliveries owed, lost (client and broker together), duplicated, corrupted.
    pub expected: u64,
    pub lost: u64,
    /// Whether some were still arriving when the drain ended.
    pub arriving: bool,
    /// On their way when the user gave the trial up: neither delivered nor lost.
    pub in_flight: u64,
    /// Of the lost, surely dropped by the client.
    pub client_dropped: u64,
    /// Dropped by the client in the whole trial, the warm-up included.
    pub dropped: u64,
    pub corrupted: u64,
    /// Acknowledgements and deliveries of messages that are not of this trial.
    pub foreign: u64,
    /// Sum over all messages of received - intended, from the stamps at both ends, ns; `None` when
    /// messages are missing.
    pub sojourn_from_stamps: Option<f64>,
    /// The same from the histogram: mean x count, ns.
    pub sojourn_from_histogram: f64,
    /// Largest share of wall time that a generator thread computed, and that it waited for a core.
    pub busiest: f64,
    pub waiting: f64,
    /// Whether the pacer spins, so that a busy thread is by design.
    pub spinning: bool,
    /// Whether the load is as much as the generator can give, so that a busy thread says who is the
    /// limit.
    pub unthrottled: bool,
    /// Samples beyond the histogram's range.
    pub clipped: u64,
    /// Negative latencies.
    pub negative: u64,
    /// Whether messages go from one clock to another, so that a short time may come out below zero.
    pub two_clocks: bool,
    /// The longest pause that the hiccup meter saw, the longest lag and the longest response, ns.
    pub longest: Option<(u64, u64, u64)>,
    /// The kernel's clock source.
    pub clocksource: String,
}

/// What is missing is at least so many seconds of the schedule before V1 warns, and before it is
/// INVALID: in a short trial the last few messages would be 1 % of it.
const SHORT: (f64, f64) = (0.002, 0.02);

/// A pause of the generator that no scheduler on a fit host makes, ns.
const HELD: u64 = 50_000_000;

/// Whose doing the losses are, as far as that is known; nothing where nothing is lost.
fn dropped_by(o: &CheckInput) -> String {
    match (o.lost, o.dropped, o.client_dropped) {
        (0, ..) => String::new(),
        (_, 0, _) => ", none of them dropped by the client library".into(),
        (lost, _, by_client) if lost == by_client => ", all of them dropped by the client library".into(),
        (_, dropped, by_client) => format!(
            ", at least {by_client} of them dropped by the client library, which dropped {dropped} in the whole trial; where the others \
             were lost is not known"
        ),
    }
}

/// All checks that apply to the workload.
pub(super) fn of(o: &CheckInput) -> Vec<Check> {
    // Of a load that never was there is nothing to say.
    let scheduled = o.scheduled.filter(|n| *n > 0);
    let of_schedule = scheduled.map(|n| [Some(offered(o, n)), lag(o)]);
    let applicable = [
        accounted_for(o),
        balanced(o),
        Some(generator_cpu(o)),
        Some(range(o)),
        held_still(o),
        Some(clock(o)),
        o.paced.then(|| steadiness::keeps_up(o.flow.as_ref())),
        o.sends.as_ref().and_then(noise::arrival_process),
    ];
    of_schedule.into_iter().flatten().chain(applicable).flatten().collect()
}

/// V1: whether what was due was sent.
fn offered(o: &CheckInput, scheduled: u64) -> Check {
    let missing = 1.0 - o.sent as f64 / scheduled as f64;
    check(
        "V1",
        "offered rate achieved",
        grade(missing, (SHORT.0 / o.seconds).max(0.001), (SHORT.1 / o.seconds).max(0.01)),
        format!("{:.2} % of {scheduled} sent within the measured phase", 100.0 * (1.0 - missing)),
        "WARN below 99.9 % (or 2 ms of the schedule), INVALID below 99 % (or 20 ms of it)",
        if o.backpressure > 0 {
            "what was scheduled was not sent in time, and sends met back-pressure: the client or the system took no more; lower the rate"
        } else {
            "the generator did not send what was scheduled in time; lower the rate or give it more threads"
        },
    )
}

/// V2: how much of the tail is the generator's own lateness.
fn lag(o: &CheckInput) -> Option<Check> {
    let (lag, response) = o.lag_tail.zip(o.response_tail)?;
    let share = response.map_or(0.0, |r| lag as f64 / r.max(1) as f64);
    Some(check(
        "V2",
        "schedule lag",
        // An INVALID needs the null driver's lag on this host beside it. Lag under back-pressure is
        // the system's doing.
        grade(share, 0.05, 0.20).min(Status::Warn),
        format!(
            "tail of lag is {:.0} % of the tail of response, {} sends met back-pressure",
            100.0 * share,
            o.backpressure
        ),
        "WARN above 5 %",
        "part of the tail is the generator's own lateness: see lag beside response; compare with the null driver at this rate",
    ))
}

/// V4: whether each message owed came, whole, and only those.
fn accounted_for(o: &CheckInput) -> Option<Check> {
    if o.expected + o.foreign == 0 {
        return None;
    }
    let status = match (o.corrupted, o.lost, o.dropped) {
        (0, 0, _) if o.in_flight > 0 => Status::Warn,
        (0, 0, _) => Status::Ok,
        (0, _, 0) => Status::Warn,
        _ => Status::Invalid,
    };
    let status = if o.foreign > 0 { status.max(Status::Warn) } else { status };
    let open = match o.in_flight {
        0 if o.arriving && o.lost > 0 => {
            "; messages were still arriving when the drain ended: raise run.drain".to_owned()
        }
        0 => String::new(),
        n => format!("; {n} were on their way when the trial was given up, and are in no percentile"),
    };
    let (lost, owed, corrupted, foreign) = (o.lost, o.expected, o.corrupted, o.foreign);
    Some(check(
        "V4",
        "messages accounted for",
        status,
        format!("{lost} of {owed} lost{}, {corrupted} corrupted, {foreign} foreign{open}", dropped_by(o)),
        "WARN when lost under an at-most-once promise or when a message or acknowledgement is not of this trial, INVALID when the client dropped or bytes changed",
        "lost messages count as +infinity; what the client library drops is the generator's doing: lower the rate or raise its \
         buffer (`subscription-capacity`)",
    ))
}

/// V5: whether stamps and histogram hold the same time in flight (Little's law).
fn balanced(o: &CheckInput) -> Option<Check> {
    let stamps = o.sojourn_from_stamps?;
    let off = (stamps - o.sojourn_from_histogram).abs() / stamps.abs().max(1.0);
    Some(check(
        "V5",
        "Little's law",
        grade(off, 0.05, 0.05),
        format!("in-flight time from stamps and from the histogram differ by {:.3} %", 100.0 * off),
        "INVALID above 5 %",
        "the books do not balance: this is a defect of msgbench, please report it",
    ))
}

/// V6: whether the generator had the cores that it needed.
fn generator_cpu(o: &CheckInput) -> Check {
    let busy = match grade(o.busiest, 0.80, 0.95) {
        _ if o.spinning => Status::Ok,
        // The generator is the limit: its ceiling, and so at least the system's.
        busy if o.unthrottled => busy.min(Status::Warn),
        busy => busy,
    };
    check(
        "V6",
        "generator CPU",
        busy.max(grade(o.waiting, 0.005, 0.02).min(Status::Warn)),
        format!("busiest thread {:.0} %, waited for a core {:.2} % of the time", 100.0 * o.busiest, 100.0 * o.waiting),
        "WARN above 80 % busy or 0.5 % waiting, INVALID above 95 % busy",
        "the generator competes for cores: its own lateness is in the figures; use more threads, more cores, a lower \
         rate, or the client that costs least (`client = \"wire\"` of NATS, `producers = \"wire\"` of Kafka)",
    )
}

/// V11: whether every sample was within the histogram's range.
fn range(o: &CheckInput) -> Check {
    check(
        "V11",
        "histogram range",
        if o.clipped > 0 { Status::Warn } else { Status::Ok },
        format!("{} samples above 1 h", o.clipped),
        "none",
        "latencies above 1 h were recorded as 1 h",
    )
}

/// V15: whether the whole generator stood still. A pause of it is seen by its hiccup meter and by
/// its lag alike; lag alone may be back-pressure.
fn held_still(o: &CheckInput) -> Option<Check> {
    let (pause, lag, response) = o.longest?;
    let held = pause >= HELD && 2 * lag >= pause && 5 * lag >= response;
    let millis = |ns: u64| ns as f64 / 1e6;
    Some(check(
        "V15",
        "generator held still",
        if held { Status::Invalid } else { Status::Ok },
        format!(
            "longest pause of the generator's process {:.2} ms, longest lag {:.2} ms, longest response {:.2} ms",
            millis(pause),
            millis(lag),
            millis(response)
        ),
        "INVALID when a pause of 50 ms or more is in the lag, and that lag is a fifth of the longest response or more",
        "the host, or somebody, held the generator still: the tail is its own and not the system's",
    ))
}

/// V12: whether stamps can be trusted.
fn clock(o: &CheckInput) -> Check {
    let fast = matches!(o.clocksource.as_str(), "tsc" | "arch_sys_counter" | "kvm-clock" | "");
    let status = match (o.negative, fast) {
        // It is within the bound of the clocks (V20).
        (1.., _) if o.two_clocks => Status::Warn,
        (1.., _) => Status::Invalid,
        (0, true) => Status::Ok,
        (0, false) => Status::Warn,
    };
    check(
        "V12",
        "clock",
        status,
        format!("{} negative latencies, clock source {}", o.negative, o.clocksource),
        "INVALID when any latency is negative, WARN where it is from one agent's clock to another's, or on a slow clock source",
        "stamps cannot be trusted on this clock",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(o: &CheckInput, id: &str) -> Option<Status> {
        of(o).into_iter().find(|c| c.id == id).map(|c| c.status)
    }
    fn good() -> CheckInput {
        CheckInput {
            scheduled: Some(10_000),
            sent: 10_000,
            seconds: 10.0,
            lag_tail: Some(1),
            response_tail: Some(Some(100)),
            expected: 40_000,
            sojourn_from_stamps: Some(1e9),
            sojourn_from_histogram: 1.0005e9,
            busiest: 0.5,
            longest: Some((2_000_000, 1_000_000, 3_000_000)),
            clocksource: "tsc".into(),
            ..CheckInput::default()
        }
    }

    #[test]
    fn a_good_trial_is_ok_in_every_check() {
        let checks = of(&good());
        assert_eq!(checks.len(), 8);
        assert!(checks.iter().all(|c| c.status == Status::Ok && c.message.is_empty()), "{checks:?}");
    }

    #[test]
    fn each_check_falls_at_its_threshold() {
        let with = |f: &dyn Fn(&mut CheckInput), id: &str| {
            let mut o = good();
            f(&mut o);
            status(&o, id).unwrap()
        };
        assert_eq!(with(&|o| o.sent = 9_950, "V1"), Status::Warn);
        assert_eq!(with(&|o| o.sent = 9_800, "V1"), Status::Invalid);
        // In half a second a hundredth is 5 ms of the schedule.
        assert_eq!(with(&|o| (o.sent, o.seconds) = (9_800, 0.5), "V1"), Status::Warn);
        assert_eq!(with(&|o| (o.sent, o.seconds) = (9_500, 0.5), "V1"), Status::Invalid);
        assert_eq!(with(&|o| o.lag_tail = Some(6), "V2"), Status::Warn);
        assert_eq!(with(&|o| o.lost = 1, "V4"), Status::Warn);
        assert_eq!(with(&|o| (o.lost, o.dropped) = (1, 1), "V4"), Status::Invalid);
        assert_eq!(with(&|o| o.corrupted = 1, "V4"), Status::Invalid);
        assert_eq!(with(&|o| o.foreign = 1, "V4"), Status::Warn);
        assert_eq!(with(&|o| (o.expected, o.foreign) = (0, 1), "V4"), Status::Warn);
        assert_eq!(with(&|o| o.sojourn_from_histogram = 1.1e9, "V5"), Status::Invalid);
        assert_eq!(with(&|o| o.busiest = 0.9, "V6"), Status::Warn);
        assert_eq!(with(&|o| o.busiest = 0.99, "V6"), Status::Invalid);
        assert_eq!(with(&|o| (o.busiest, o.spinning) = (1.0, true), "V6"), Status::Ok);
        assert_eq!(with(&|o| o.clipped = 1, "V11"), Status::Warn);
        let ms = 1_000_000;
        assert_eq!(with(&|o| o.longest = Some((300 * ms, 299 * ms, 299 * ms)), "V15"), Status::Invalid);
        assert_eq!(with(&|o| o.longest = Some((300 * ms, ms, 300 * ms)), "V15"), Status::Ok);
        assert_eq!(with(&|o| o.longest = Some((300 * ms, 200 * ms, 9_000 * ms)), "V15"), Status::Ok);
        assert_eq!(with(&|o| o.negative = 1, "V12"), Status::Invalid);
        assert_eq!(with(&|o| (o.negative, o.two_clocks) = (1, true), "V12"), Status::Warn);
        assert_eq!(with(&|o| o.clocksource = "hpet".into(), "V12"), Status::Warn);
    }

    #[test]
    fn losses_are_the_clients_only_as_far_as_that_is_known() {
        let said = |lost, dropped, client_dropped| {
            let checks = of(&CheckInput { lost, dropped, client_dropped, ..good() });
            let v4 = checks.into_iter().find(|c| c.id == "V4").unwrap();
            (v4.status, v4.observed)
        };
        let (status, words) = said(377_408, 400_000, 377_408);
        assert_eq!(words, "377408 of 40000 lost, all of them dropped by the client library, 0 corrupted, 0 foreign");
        assert_eq!(status, Status::Invalid);
        let (status, words) = said(100, 70, 40);
        assert_eq!(
            words,
            "100 of 40000 lost, at least 40 of them dropped by the client library, which dropped 70 in the whole trial; \
             where the others were lost is not known, 0 corrupted, 0 foreign"
        );
        assert_eq!(status, Status::Invalid);
        let (status, words) = said(7, 0, 0);
        assert_eq!(words, "7 of 40000 lost, none of them dropped by the client library, 0 corrupted, 0 foreign");
        assert_eq!(status, Status::Warn);
        assert_eq!(said(0, 5, 0), (Status::Ok, "0 of 40000 lost, 0 corrupted, 0 foreign".into()));
    }

    #[test]
    fn a_check_that_does_not_apply_is_absent() {
        let o = CheckInput { scheduled: None, sojourn_from_stamps: None, expected: 0, ..good() };
        assert_eq!(status(&o, "V1").or(status(&o, "V2")).or(status(&o, "V4")).or(status(&o, "V5")), None);
    }
}
