//! Experiment 2: what the harness itself costs, and how fast it can go.

use super::experiment;
use crate::calibrate::CalibrateError;
use crate::calibrate::bench::{Bench, Ran, ms};
use crate::calibrate::certificate::{Experiment, Floor, Line, Unit, Unrest};
use crate::record::Status;
use crate::units::{Nanos, SECOND};

/// Rates that are tried, until one is not kept.
const RATES: [f64; 6] = [1e3, 1e4, 5e4, 1e5, 3e5, 1e6];
/// A generator whose median message is later than this does not keep its schedule.
const LATE: Nanos = 100_000;

fn scenario(driver: &str, rate: f64, length: Nanos) -> String {
    format!(
        "name = \"floor\"\nquestion = \"How late is the harness itself?\"\n[[system]]\ndriver = \"{driver}\"\nrequire = true\n\
         [[workload]]\npattern = \"fan-out\"\nconsumers = 1\nload.rate = \"{rate}/s\"\npayload.size = \"128B\"\n\
         [run]\nwarmup = \"100ms\"\nduration = \"{}\"\ntrials = 1\ndrain = \"1s\"\n",
        ms(length)
    )
}

fn point(through: &str, rate: f64, ran: &Ran, kind: &str) -> Floor {
    let l = ran.latency(0, kind);
    let value = |q| l.at(q).filter(|p| p.printable).and_then(|p| p.value_ns);
    let offered = ran.trial.validity.iter().find(|c| c.id == "V1").is_some_and(|c| c.status == Status::Ok);
    let median = ran.latency(0, "lag").at(0.5).and_then(|p| p.value_ns);
    Floor {
        through: through.into(),
        rate,
        p50_ns: value(0.5),
        p99_ns: value(0.99),
        p999_ns: value(0.999),
        kept: offered && median.is_some_and(|m| m < LATE),
    }
}

/// The floor per rate, the highest rate that is kept, and the experiment.
pub fn floor(bench: &Bench<'_>, say: &(dyn Fn(&str) + Sync)) -> Result<(Vec<Floor>, f64, Experiment), CalibrateError> {
    say("the floor of this host");
    let length = bench.pick(300_000_000, 5 * SECOND);
    let (mut points, mut highest, mut unrest) = (Vec::new(), 0.0f64, Unrest::default());
    let (mut lines, mut missed) = (Vec::new(), 0);
    for rate in RATES {
        let ran = bench.one("floor", scenario("null", rate, length))?;
        unrest = unrest.worse(ran.unrest());
        let point = point("null driver", rate, &ran, "ack");
        let kept = point.kept;
        if rate <= 1e4 {
            let ledger = &ran.workload(0).ledger;
            lines.push(Line::exact(format!("messages sent of those due at {rate}/s"), ledger.scheduled, ledger.sent));
            let median = point.p50_ns.map(|v| v as f64);
            let what = format!("median lateness at {rate}/s");
            lines.push(Line::judged(what, 0.0, median, LATE as f64, Unit::Ns, Some(&ran.unrest().usual())));
        }
        points.push(point);
        if kept {
            highest = rate;
            missed = 0;
        } else {
            missed += 1;
        }
        // One miss may be a pause of the host.
        if missed == 2 {
            break;
        }
    }
    let ran = bench.one("floor", scenario("reference", 1e3, length.max(SECOND / 2)))?;
    points.push(point("reference broker", 1e3, &ran, "e2e"));
    let claim = "With no broker in the way the generator keeps its schedule; what it is late by is the floor of every figure from here.";
    Ok((points, highest, experiment(2, "floor", claim, lines, Some(unrest))))
}
