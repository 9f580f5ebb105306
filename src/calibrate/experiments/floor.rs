//! Experiment 2: what the harness itself costs, and how fast it can go.
//!
//! The highest trustworthy rate is the last of rising rates at which the null driver keeps its
//! schedule: at least 99.9 % is sent (V1), the median of lag is below 100 us and its p99 below 1
//! ms. Rates above one that is not kept are not tried.

use super::experiment;
use crate::calibrate::CalibrateError;
use crate::calibrate::certificate::{ClaimLine, Experiment, HostNoise, Pauses};
use crate::calibrate::context::{ExperimentContext, TrialResult, at, ms};
use crate::record::{Floor, Status};
use crate::units::{Nanos, SECOND};

/// Rates that are tried, until one is not kept.
const RATES: [f64; 6] = [1e3, 1e4, 5e4, 1e5, 3e5, 1e6];
/// A generator whose median message is later than this does not keep its schedule.
const LATE: Nanos = 100_000;
/// Nor does one of whose messages more than one in a hundred is later than this: a p99 would show
/// it.
const LATE_TAIL: Nanos = 1_000_000;
/// Times that a rate is tried again in all, in the quick and in the full form, because one miss may
/// be a pause of the host: pauses only make it look worse.
const AGAIN: (u32, u32) = (2, 4);

fn scenario(driver: &str, rate: f64, length: Nanos) -> String {
    format!(
        "name = \"floor\"\nquestion = \"How late is the harness itself?\"\n[[system]]\ndriver = \"{driver}\"\nrequire = true\n\
         [[workload]]\npattern = \"fan-out\"\nconsumers = 1\nload.rate = \"{rate}/s\"\npayload.size = \"128B\"\n\
         [run]\nwarmup = \"100ms\"\nduration = \"{}\"\ntrials = 1\ndrain = \"1s\"\n",
        ms(length)
    )
}

fn of(through: &str, rate: f64, ran: &TrialResult, kind: &str) -> Floor {
    let l = ran.latency(0, kind);
    let value = |q| l.at(q).filter(|p| p.printable).and_then(|p| p.value_ns);
    let offered = ran.trial.validity.iter().find(|c| c.id == "V1").is_some_and(|c| c.status == Status::Ok);
    let lag = ran.latency(0, "lag");
    let below = |q, bound| lag.at(q).and_then(|p| p.value_ns).is_some_and(|ns| ns < bound);
    Floor {
        through: through.into(),
        rate,
        p50_ns: value(0.5),
        p99_ns: value(0.99),
        p999_ns: value(0.999),
        kept: offered && below(0.5, LATE) && below(0.99, LATE_TAIL),
    }
}

/// What must hold at rates that any host should keep.
fn lateness(rate: f64, ran: &TrialResult) -> Vec<ClaimLine> {
    let (ledger, lag) = (&ran.workload(0).ledger, ran.latency(0, "lag"));
    // Its lag is what is judged here and excuses nothing.
    let host = HostNoise { lag: Pauses::default(), ..ran.host_noise() };
    let late = |name: &str, q, bound: Nanos| {
        let what = format!("{name} of lateness at {rate}/s");
        ClaimLine::latency(what, 0.0, at(&lag, q), bound as f64, q, &host)
    };
    vec![
        ClaimLine::exact(format!("messages sent of those due at {rate}/s"), ledger.scheduled, ledger.sent),
        late("median", 0.5, LATE),
        late("p99", 0.99, LATE_TAIL),
    ]
}

/// The floor per rate, the highest rate that is kept, and the experiment.
pub fn floor(
    context: &ExperimentContext<'_>,
    say: &(dyn Fn(&str) + Sync),
) -> Result<(Vec<Floor>, f64, Experiment), CalibrateError> {
    say("the floor of this host");
    // A p99.9 needs 10,000 messages: where they come fast, in a shorter time.
    let length = |rate: f64| match rate < 50e3 {
        true => context.pick(300_000_000, 2 * SECOND),
        false => context.pick(200_000_000, SECOND),
    };
    let (mut points, mut highest, mut host_noise) = (Vec::new(), 0.0f64, HostNoise::default());
    let (mut lines, mut again) = (Vec::new(), context.pick(AGAIN.0, AGAIN.1));
    for rate in RATES {
        // A p99 needs a thousand messages.
        let length = length(rate).max((1_100.0 / rate * SECOND as f64) as Nanos);
        let mut ran = context.one("floor", scenario("null", rate, length))?;
        let mut point = of("null driver", rate, &ran, "ack");
        while !point.kept && again > 0 {
            again -= 1;
            let next = context.one("floor", scenario("null", rate, length))?;
            let other = of("null driver", rate, &next, "ack");
            if other.kept || other.p99_ns < point.p99_ns {
                (ran, point) = (next, other);
            }
        }
        host_noise = host_noise.worse(ran.host_noise());
        if rate <= 1e4 {
            lines.extend(lateness(rate, &ran));
        }
        let kept = point.kept;
        points.push(point);
        if !kept {
            break;
        }
        highest = rate;
    }
    let ran = context.one("floor", scenario("reference", 1e3, context.pick(SECOND / 2, 2 * SECOND)))?;
    points.push(of("reference broker", 1e3, &ran, "e2e"));
    let claim = "With no broker in the way the generator keeps its schedule; what it is late by is the floor of every figure from here.";
    Ok((points, highest, experiment(2, "floor", claim, lines, Some(host_noise))))
}
