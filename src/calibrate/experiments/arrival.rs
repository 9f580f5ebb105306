//! Experiment 13: messages that one read brought arrived together, whatever is done with each of
//! them, through every client.

use std::path::Path;

use super::experiment;
use crate::calibrate::CalibrateError;
use crate::calibrate::certificate::{ClaimLine, Experiment, FigureUnit};
use crate::calibrate::context::ExperimentContext;
use crate::engine::arrival::{ArrivalResult, ArrivalTrials, stamps};
use crate::scenario::{Overrides, parse};
use crate::units::Nanos;

/// Messages of a batch.
const BATCHES: [usize; 3] = [1, 100, 1000];
/// What each message takes, ns.
const WORK: Nanos = 10_000;
/// More than half of what a socket takes in before its reader reads on may need a second read.
const ONE_READ: usize = 500;

/// The clients, by what stands in the scenario.
const CORE: &str = "[[system]]\nname = \"wire\"\ndriver = \"reference\"\noptions = { client = \"wire\" }\n\
     [[system]]\nname = \"async-nats\"\ndriver = \"reference\"\n";
const STORED: &str = "[[system]]\nname = \"librdkafka\"\ndriver = \"reference\"\n";

/// Batches through the bare protocol, async-nats and librdkafka.
pub fn arrival(context: &ExperimentContext<'_>) -> Result<Vec<Experiment>, CalibrateError> {
    let trials = ArrivalTrials { batches: &BATCHES, repeats: context.pick(5, 21), work: WORK };
    let mut seen = Vec::new();
    for (systems, durable) in [(CORE, false), (STORED, true)] {
        if durable && !cfg!(feature = "kafka") {
            continue;
        }
        let text = format!(
            "name = \"arrival\"\nquestion = \"When did it arrive?\"\n{systems}\
             [[workload]]\npattern = \"fan-out\"\nconsumers = 2\nload.rate = \"1/s\"\ndelivery.durable = {durable}\n"
        );
        let plan = parse(Path::new("calibrate.toml"), text, &Overrides::default(), &context.register.types())?.plan;
        let failed = |error| CalibrateError::Trial { experiment: "arrival", phase: "measure".into(), error };
        seen.extend(stamps(&plan, context.register, context.scratch, trials).map_err(failed)?);
    }
    let claim = "Messages that came together have arrived at one instant, whatever the consumer does with each, through every client alike.";
    Ok(vec![experiment(13, "arrival", claim, judge(&seen), None)])
}

/// The value in the middle, the lower one of two.
fn median<T: Copy + Ord>(values: &[T]) -> Option<T> {
    let mut values = values.to_vec();
    values.sort_unstable();
    values.get(values.len().checked_sub(1)? / 2).copied()
}

fn judge(seen: &[ArrivalResult]) -> Vec<ClaimLine> {
    let mut lines = Vec::new();
    for s in seen {
        let what = format!("{}: stamps of a batch of {}", s.system, s.batch);
        let reads = 1.0 + f64::from(u8::from(s.batch > ONE_READ));
        let stamps = median(&s.stamps).map(|n| n as f64);
        lines.push(ClaimLine::judged(what, 1.0, stamps, reads - 1.0, FigureUnit::Count));
    }
    for batch in BATCHES.into_iter().filter(|n| (2..=ONE_READ).contains(n)) {
        let spreads: Vec<f64> =
            seen.iter().filter(|s| s.batch == batch).filter_map(|s| median(&s.spread)).map(|ns| ns as f64).collect();
        let (least, most) = spreads.iter().fold((f64::INFINITY, 0.0f64), |(a, b), s| (a.min(*s), b.max(*s)));
        let work = batch as f64 * WORK as f64;
        let what = format!("batch of {batch}, {} us each: the most spread", WORK / 1000);
        lines.push(ClaimLine::judged(what, 0.0, Some(most), 0.01 * work, FigureUnit::Ns));
        let what = format!("batch of {batch}: largest difference of clients");
        lines.push(ClaimLine::judged(what, 0.0, Some(most - least), 0.01 * work, FigureUnit::Ns));
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::calibrate::certificate::ClaimVerdict;

    /// What a client shows that stamps so many messages at a time.
    fn seen(system: &str, at_a_time: usize) -> impl Iterator<Item = ArrivalResult> {
        BATCHES.into_iter().map(move |batch| {
            let stamps = batch.div_ceil(at_a_time);
            let spread = (stamps - 1) as u64 * at_a_time as u64 * WORK;
            ArrivalResult { system: system.into(), batch, stamps: vec![stamps; 5], spread: vec![spread; 5] }
        })
    }

    fn failed(clients: &[(&str, usize)]) -> Vec<String> {
        let seen: Vec<ArrivalResult> = clients.iter().flat_map(|(name, n)| seen(name, *n)).collect();
        judge(&seen).into_iter().filter(|l| l.verdict == ClaimVerdict::Fail).map(|l| l.what).collect()
    }

    #[test]
    fn one_client_that_stamps_while_messages_are_processed_fails() {
        let all = usize::MAX;
        assert_eq!(failed(&[("wire", all), ("async-nats", all), ("librdkafka", all)]), Vec::<String>::new());
        // A large batch may need a second read, and no more.
        assert_eq!(failed(&[("wire", 900), ("librdkafka", all)]), Vec::<String>::new());
        // As async-nats was stamped until 2026-11: each message, 128 of them in a turn.
        let each = failed(&[("wire", all), ("async-nats", 1), ("librdkafka", all)]);
        assert_eq!(
            each,
            [
                "async-nats: stamps of a batch of 100",
                "async-nats: stamps of a batch of 1000",
                "batch of 100, 10 us each: the most spread",
                "batch of 100: largest difference of clients",
            ]
        );
        assert_eq!(failed(&[("wire", all), ("async-nats", 128)]), ["async-nats: stamps of a batch of 1000"]);
        // All alike, and all wrong.
        assert!(
            failed(&[("wire", 1), ("async-nats", 1)]).contains(&"batch of 100, 10 us each: the most spread".into())
        );
    }
}
