//! Whether a trial of a search keeps the limits: pass, fail, undecided, or no vote at all.
//!
//! A trial that the host or the generator spoiled says nothing of the system. So a limit of latency
//! counts as broken only where the system broke it: its time from the send breaks it as well, or
//! sends met back-pressure, or its backlog grew. A percentile is held to its limit by the messages
//! beyond it (`stats::limit`), with the over-dispersion of the trial.

use super::checks::CheckInput;
use super::{BlockFlow, Evidence};
use crate::plan::Case;
use crate::plan::gate::{Comparator, Expectation};
use crate::plan::metric::{Quantity, Statistic};
use crate::plan::search::Vote;
use crate::record::value::value;
use crate::record::{Outcome, Status, TaggedInterval, Trial};
use crate::stats::limit::{proves, refutes};

/// What a trial of a search is held to.
#[derive(Debug, Clone, Copy)]
pub struct LimitsHeld<'a> {
    pub limits: &'a [Expectation],
    /// At which a percentile proves that it keeps its limit, or breaks it.
    pub confidence: f64,
}

/// How a trial of a search ended.
#[derive(Debug, Clone, PartialEq)]
pub struct VoteCast {
    pub vote: Vote,
    /// The limits that were broken.
    pub broken: Vec<usize>,
    /// Why it is no pass, in words; empty for a pass.
    pub why: String,
}

impl VoteCast {
    fn of(vote: Vote, why: impl Into<String>) -> Self {
        Self { vote, broken: Vec::new(), why: why.into() }
    }
}

/// Below this share of what was due the offered rate was not reached (V1).
const OFFERED: f64 = 0.99;
/// Above this share of the time a thread of the generator has nothing to spare (V6).
const BUSY: f64 = 0.95;

/// Casts the vote of a judged trial.
pub fn vote(trial: &Trial, case: &Case, evidence: &Evidence<'_>, held: LimitsHeld<'_>) -> VoteCast {
    if let Outcome::Failed { error, .. } = &trial.outcome {
        return VoteCast::of(Vote::Fail, format!("the system failed: {error}"));
    }
    let invalid = |id: &str| trial.validity.iter().find(|c| c.id == id && c.status == Status::Invalid);
    // The clock, the books, the host: nothing that was measured is to be believed.
    if let Some(check) = ["V5", "V12", "V13", "V15"].into_iter().find_map(invalid) {
        return VoteCast::of(Vote::Spoiled, format!("{} ({}): {}", check.name, check.id, check.observed));
    }
    let seen = evidence.observed;
    if let Some(o) = seen.iter().find(|o| o.corrupted > 0 || (o.lost > 0 && o.dropped > 0)) {
        let dropped = o.client_dropped.max(o.dropped);
        return VoteCast::of(
            Vote::Spoiled,
            format!("the client library dropped {dropped} messages: raise its buffer (`subscription-capacity`)"),
        );
    }
    let pressed = seen.iter().any(|o| o.backpressure > 0);
    let busy = seen.iter().any(|o| o.busiest > BUSY && !o.spinning);
    let spoiled_by_threads = |words: String| {
        VoteCast::of(Vote::Spoiled, format!("{words}; but a thread of the generator was busy all the time"))
    };
    let short = |o: &CheckInput| o.scheduled.is_some_and(|n| n > 0 && (o.sent as f64) < OFFERED * n as f64);
    if let Some(o) = seen.iter().find(|o| short(o)) {
        let share = 100.0 * o.sent as f64 / o.scheduled.unwrap_or(1) as f64;
        return match () {
            () if !pressed => {
                VoteCast::of(Vote::Spoiled, format!("the generator sent only {share:.1} % of what was due"))
            }
            () if busy => spoiled_by_threads(format!("only {share:.1} % of what was due was sent")),
            () => VoteCast::of(Vote::Fail, format!("the system took only {share:.1} % of what was offered")),
        };
    }
    if let Some(check) = invalid("V3") {
        // Where most of the backlog was not even sent, it is the generator's.
        let unsent = seen.iter().any(|o| o.flow.as_ref().is_some_and(BlockFlow::mostly_unsent));
        let grew = format!("the backlog grew: {}", check.observed);
        return match () {
            () if unsent && !pressed => VoteCast::of(Vote::Spoiled, "a backlog grew that had not been sent"),
            () if busy => spoiled_by_threads(grew),
            () => VoteCast::of(Vote::Fail, grew),
        };
    }
    held_to(trial, case, evidence, held, Generator { pressed, busy })
}

/// How the generator fared.
#[derive(Clone, Copy)]
struct Generator {
    /// Sends met back-pressure.
    pressed: bool,
    /// A thread of it had nothing to spare.
    busy: bool,
}

/// The limits of a trial that kept up.
fn held_to(
    trial: &Trial,
    case: &Case,
    evidence: &Evidence<'_>,
    held: LimitsHeld<'_>,
    generator: Generator,
) -> VoteCast {
    let mut broken = Vec::new();
    let (mut open, mut words) = (Vec::new(), Vec::new());
    let mut own = true;
    for (i, limit) in held.limits.iter().enumerate() {
        let of = case.workloads.iter().enumerate();
        let asked = of.filter(|(_, w)| limit.metric.workload.as_ref().is_none_or(|name| *name == w.name));
        for (index, _) in asked {
            match state(trial, case, index, evidence.log, limit, held.confidence) {
                State::Kept => {}
                State::Open => open.push(limit.that.clone()),
                State::Broken(found) => {
                    words.push(format!("`{}` is broken: {found}", limit.that));
                    broken.push(i);
                    own &= !generator.pressed && of_generator(trial, case, index, evidence.log, limit, held.confidence);
                }
            }
        }
    }
    broken.dedup();
    match () {
        () if broken.is_empty() && open.is_empty() => VoteCast::of(Vote::Pass, ""),
        () if broken.is_empty() => {
            VoteCast::of(Vote::Undecided, format!("neither kept nor broken for sure: {}", open.join(", ")))
        }
        () if own => VoteCast::of(
            Vote::Spoiled,
            format!("{}; from the send on it is kept, so the generator was late", words.join(", ")),
        ),
        () if generator.busy => VoteCast::of(
            Vote::Spoiled,
            format!("{}; but a thread of the generator was busy all the time", words.join(", ")),
        ),
        () => VoteCast { vote: Vote::Fail, broken, why: words.join(", ") },
    }
}

enum State {
    Kept,
    Broken(String),
    Open,
}

/// How a trial stands to a limit.
fn state(
    trial: &Trial,
    case: &Case,
    workload: usize,
    log: &[TaggedInterval],
    limit: &Expectation,
    confidence: f64,
) -> State {
    let Some(found) = value(trial, workload, &limit.metric.quantity) else { return State::Open };
    let shown = limit.metric.quantity.unit().show(found.value);
    let plain = match limit.comparator.holds(found.value, limit.limit) {
        true => State::Kept,
        false => State::Broken(shown.clone()),
    };
    let at_most = matches!(limit.comparator, Comparator::Less | Comparator::AtMost);
    let Quantity::Latency(kind, Statistic::Quantile(q)) = &limit.metric.quantity else { return plain };
    if !at_most {
        return plain;
    }
    let Some((total, over)) = beyond(trial, case, workload, log, kind, limit.limit) else { return plain };
    let phi = trial.workloads.get(workload).and_then(|w| w.latency.get(kind)?.at(*q)?.phi).unwrap_or(1.0);
    match () {
        () if proves(total, over, *q, confidence, phi) => State::Kept,
        () if refutes(total, over, *q, confidence, phi) => State::Broken(shown),
        () => State::Open,
    }
}

/// Messages of a latency in the measured phase, and those beyond a limit; the lost are beyond it.
fn beyond(
    trial: &Trial,
    case: &Case,
    workload: usize,
    log: &[TaggedInterval],
    kind: &str,
    limit: f64,
) -> Option<(u64, u64)> {
    let name = &case.workloads.get(workload)?.name;
    let tag = if case.workloads.len() > 1 { format!("{name}/{kind}") } else { kind.to_owned() };
    let summary = trial.workloads.get(workload)?.latency.get(kind)?;
    let (mut total, mut over) = (summary.lost, summary.lost);
    for block in log.iter().filter(|i| i.tag == tag && i.start_s > -1e-9) {
        let h = block.histogram.open();
        total += h.len();
        over += h.len() - h.count_between(0, limit.max(0.0) as u64);
    }
    (total > 0).then_some((total, over))
}

/// Whether a limit of the response is kept from the send on, so that what breaks it is the
/// generator's lateness.
fn of_generator(
    trial: &Trial,
    case: &Case,
    workload: usize,
    log: &[TaggedInterval],
    limit: &Expectation,
    confidence: f64,
) -> bool {
    let Quantity::Latency(kind, statistic) = &limit.metric.quantity else { return false };
    if kind.contains('.') {
        return false;
    }
    let mut twin = limit.clone();
    twin.metric.quantity = Quantity::Latency(format!("{kind}.service"), *statistic);
    matches!(state(trial, case, workload, log, &twin, confidence), State::Kept)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::measure::summary::summarise;
    use crate::plan::gate::Policy;
    use crate::plan::search::{Ladder, Search, SearchRules};
    use crate::record::{Check, Packed, sample};
    use hdrhistogram::Histogram;
    use proptest::prelude::*;
    use rand::rngs::StdRng;
    use rand::{RngExt, SeedableRng};
    use std::collections::BTreeMap;
    use std::sync::OnceLock;

    /// A trial of 20 blocks of 500 messages, exponential with this mean in microseconds; from the
    /// send on it is `service` of that.
    fn trial(mean: f64, service: f64, lost: u64) -> (Trial, Vec<TaggedInterval>) {
        let record = sample::record();
        let mut trial = record.trials[1].clone();
        trial.validity.clear();
        trial.hiccup = summarise(&Histogram::new(3).unwrap(), 0, 0, 0, &[0.99]);
        let mut log = Vec::new();
        let mut latency = BTreeMap::new();
        let mut seed = 1u64;
        for (tag, scale) in [("e2e", mean), ("e2e.service", mean * service)] {
            let mut all = Histogram::<u64>::new(3).unwrap();
            for b in 0..20u64 {
                let mut h = Histogram::<u64>::new(3).unwrap();
                for _ in 0..500 {
                    seed = seed * 48271 % 2_147_483_647;
                    h.record((-scale * 1e3 * (seed as f64 / 2_147_483_647.0).ln()) as u64 + 1).unwrap();
                }
                all.add(&h).unwrap();
                log.push(TaggedInterval {
                    tag: tag.into(),
                    start_s: b as f64,
                    length_s: 1.0,
                    histogram: Packed::of(&h),
                });
            }
            latency.insert(tag.to_owned(), summarise(&all, lost, 0, 0, &[0.5, 0.99]));
        }
        trial.workloads[0].latency = latency;
        trial.workloads[0].ledger.lost = lost;
        (trial, log)
    }

    fn p99_below(micros: f64) -> Vec<Expectation> {
        let limit = Expectation {
            that: format!("e2e.p99 < {micros}us"),
            metric: "e2e.p99".parse().unwrap(),
            comparator: Comparator::Less,
            limit: micros * 1e3,
            system: None,
            on_inconclusive: Policy::Fail,
        };
        vec![limit]
    }

    fn cast(trial: &Trial, log: &[TaggedInterval], observed: CheckInput, limits: &[Expectation]) -> VoteCast {
        let case = case();
        let evidence = Evidence { observed: &[observed], intervals: &[], log, calibration: None };
        vote(trial, case, &evidence, LimitsHeld { limits, confidence: 0.95 })
    }

    /// Made once: the sample is large.
    fn case() -> &'static Case {
        static CASE: OnceLock<Case> = OnceLock::new();
        CASE.get_or_init(|| sample::record().plan.cases[0].clone())
    }

    fn good() -> CheckInput {
        CheckInput { scheduled: Some(10_000), sent: 10_000, seconds: 20.0, expected: 10_000, ..CheckInput::default() }
    }

    fn check(id: &str) -> Check {
        let mut check = sample::record().trials[1].validity[0].clone();
        (check.id, check.status) = (id.into(), Status::Invalid);
        check
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        /// 10,000 exponential messages prove a limit 20 % above their p99, and refute one 20 %
        /// below; nearer they may prove neither, and never the contrary.
        #[test]
        fn a_percentile_is_held_to_its_limit(ratio in 0.5f64..2.0) {
            static TRIAL: OnceLock<(Trial, Vec<TaggedInterval>)> = OnceLock::new();
            let (trial, log) = TRIAL.get_or_init(|| trial(1_000.0, 1.0, 0));
            let found = cast(trial, log, good(), &p99_below(1_000.0 * 100f64.ln() * ratio)).vote;
            match ratio {
                r if r > 1.2 => prop_assert_eq!(found, Vote::Pass),
                r if r < 0.8 => prop_assert_eq!(found, Vote::Fail),
                r if r > 1.05 => prop_assert_ne!(found, Vote::Fail),
                r if r < 0.95 => prop_assert_ne!(found, Vote::Pass),
                _ => {}
            }
        }
    }

    #[test]
    fn what_is_lost_is_late() {
        let (of_all, log) = trial(100.0, 1.0, 0);
        assert_eq!(cast(&of_all, &log, good(), &p99_below(10_000.0)).vote, Vote::Pass);
        let (holed, log) = trial(100.0, 1.0, 300);
        let found = cast(&holed, &log, good(), &p99_below(10_000.0));
        assert_eq!((found.vote, found.broken), (Vote::Fail, vec![0]), "{}", found.why);
    }

    #[test]
    fn what_the_generator_or_the_host_did_is_no_vote() {
        let (late, log) = trial(1_000.0, 0.1, 0);
        let limits = p99_below(1_000.0);
        let found = cast(&late, &log, good(), &limits);
        assert_eq!(found.vote, Vote::Spoiled, "{}", found.why);
        let pressed = CheckInput { backpressure: 9, ..good() };
        assert_eq!(cast(&late, &log, pressed, &limits).vote, Vote::Fail, "the system held the sends up");
        let unsent = CheckInput { sent: 9_000, ..good() };
        assert_eq!(cast(&late, &log, unsent.clone(), &limits).vote, Vote::Spoiled);
        let held = CheckInput { backpressure: 1, ..unsent };
        assert_eq!(cast(&late, &log, held.clone(), &limits).vote, Vote::Fail);
        // It was held up by its own thread: the client's buffer is full because nothing empties it.
        assert_eq!(cast(&late, &log, CheckInput { busiest: 0.99, ..held }, &limits).vote, Vote::Spoiled);
        let (slow, log) = trial(1_000.0, 1.0, 0);
        assert_eq!(cast(&slow, &log, good(), &limits).vote, Vote::Fail);
        assert_eq!(cast(&slow, &log, CheckInput { busiest: 0.99, ..good() }, &limits).vote, Vote::Spoiled);
        let dropped = CheckInput { lost: 5, dropped: 5, client_dropped: 5, ..good() };
        assert_eq!(cast(&slow, &log, dropped, &limits).vote, Vote::Spoiled);
        for id in ["V5", "V12", "V13", "V15"] {
            let mut trial = slow.clone();
            trial.validity.push(check(id));
            assert_eq!(cast(&trial, &log, good(), &limits).vote, Vote::Spoiled, "{id}");
        }
    }

    #[test]
    fn a_growing_backlog_fails_whatever_the_limit() {
        let (mut trial, log) = trial(10.0, 1.0, 0);
        trial.validity.push(check("V3"));
        let limits = p99_below(1e6);
        assert_eq!(cast(&trial, &log, good(), &limits).vote, Vote::Fail);
        // A hundred of them are not done at the end: whose they are is told by most of them.
        for (unsent, vote) in [(10, Vote::Fail), (60, Vote::Spoiled)] {
            let flow = BlockFlow { owed: vec![500, 500], done: vec![500, 400], unsent, ..Default::default() };
            let held = CheckInput { flow: Some(flow), ..good() };
            assert_eq!(cast(&trial, &log, held, &limits).vote, vote, "{unsent}");
        }
        let starved = CheckInput { busiest: 0.99, ..good() };
        assert_eq!(cast(&trial, &log, starved.clone(), &limits).vote, Vote::Spoiled);
        let spinning = CheckInput { spinning: true, ..starved };
        assert_eq!(cast(&trial, &log, spinning, &limits).vote, Vote::Fail);
        trial.outcome = Outcome::Failed { phase: "measure".into(), error: "it ended".into() };
        let found = cast(&trial, &log, good(), &limits);
        assert!(found.vote == Vote::Fail && found.why.contains("it ended"), "{}", found.why);
    }

    /// A trial of so many seconds at a queue with random arrivals and service times (M/M/1), from
    /// Lindley's recursion: each message waits for the rest of the one before it.
    fn queue(rate: f64, served: f64, seconds: f64, random: &mut StdRng) -> (Trial, Vec<TaggedInterval>) {
        static BLANK: OnceLock<Trial> = OnceLock::new();
        let mut trial = BLANK.get_or_init(|| trial(1.0, 1.0, 0).0).clone();
        let mut exponential = |rate: f64| -(1.0 - random.random::<f64>()).ln() / rate;
        // It is as a queue is after long: begun empty, with a warm-up that is not recorded.
        let (mut now, mut free, warm) = (0.0, 0.0f64, 5.0);
        let mut blocks = vec![Histogram::<u64>::new(3).unwrap(); 20];
        while now < warm + seconds {
            now += exponential(rate);
            free = free.max(now) + exponential(served);
            let block = ((now - warm) / seconds * 20.0).floor();
            if (0.0..20.0).contains(&block) {
                blocks[block as usize].record(((free - now) * 1e9) as u64 + 1).unwrap();
            }
        }
        let mut all = Histogram::<u64>::new(3).unwrap();
        let mut log = Vec::new();
        for (b, h) in blocks.iter().enumerate() {
            all.add(h).unwrap();
            let length_s = seconds / 20.0;
            let start_s = b as f64 * length_s;
            log.push(TaggedInterval { tag: "e2e".into(), start_s, length_s, histogram: Packed::of(h) });
        }
        let summary = summarise(&all, 0, 0, 0, &[0.5, 0.99]);
        trial.workloads[0].latency = BTreeMap::from([("e2e".to_owned(), summary)]);
        super::super::within::judge(&mut trial, case(), &[], &log);
        trial.validity.clear();
        (trial, log)
    }

    /// p99 of the time in an M/M/1 queue is ln(100) / (mu - lambda): the highest load that keeps a
    /// limit x is mu - ln(100) / x. The answer holds it, or is below it by no more than what cannot
    /// be proved in trials of that length.
    #[test]
    fn the_highest_load_of_a_queue_is_found() {
        let (served, limit) = (2_000.0, 10e-3);
        let truth = served - 100f64.ln() / limit;
        let limits = p99_below(limit * 1e6);
        for seed in 0..2 {
            let mut random = StdRng::seed_from_u64(seed);
            let mut search = Search::new(Ladder::rates(100.0, 1e4, 500.0, 0.05), SearchRules::default());
            while let Some(probe) = search.next() {
                let seconds = 10.0 * f64::from(probe.stretch);
                let cast = match probe.load < served {
                    true => {
                        let (trial, log) = queue(probe.load, served, seconds, &mut random);
                        cast(&trial, &log, good(), &limits).vote
                    }
                    false => Vote::Fail,
                };
                search.count(cast);
            }
            let b = search.bracket();
            let (lower, upper) = (b.lower.unwrap(), b.upper.unwrap());
            assert!(lower <= truth && lower > 0.85 * truth && upper < 1.1 * truth, "{b:?} of {truth}");
        }
    }
}
