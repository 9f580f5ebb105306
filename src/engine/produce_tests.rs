use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::mpsc::channel;

use proptest::prelude::*;

use super::*;
use crate::driver::Confirmation;
use crate::units::SECOND;

/// One step of a test: what the broker does to the producer.
#[derive(Debug, Clone)]
enum TestStep {
    /// So many messages are handed over.
    Send(u16),
    /// Messages of one lane are acknowledged, in order; a lane is a partition.
    Lane(u8, u16),
    /// One of the open messages is acknowledged.
    Ack(u16),
    /// One of the open messages is refused.
    Fail(u16),
    /// One of the acknowledged messages is acknowledged again.
    Again(u16),
    /// One of the acknowledged messages is refused after all.
    FailAgain(u16),
    /// A message that was never sent is acknowledged, or refused.
    Foreign(u64, bool),
}

const LANES: u64 = 3;

fn acts() -> impl Strategy<Value = Vec<TestStep>> {
    let act = prop_oneof![
        4 => (1u16..2500).prop_map(TestStep::Send),
        5 => (0..LANES as u8, 1u16..2500).prop_map(|(lane, n)| TestStep::Lane(lane, n)),
        2 => any::<u16>().prop_map(TestStep::Ack),
        2 => any::<u16>().prop_map(TestStep::Fail),
        1 => any::<u16>().prop_map(TestStep::Again),
        1 => any::<u16>().prop_map(TestStep::FailAgain),
        1 => (prop_oneof![0u64..10, Just(1 << 20), Just(u64::MAX - (1 << 40))], any::<bool>())
            .prop_map(|(beyond, acked)| TestStep::Foreign(beyond, acked)),
    ];
    prop::collection::vec(act, 1..80)
}

const ORIGIN: Nanos = 1000;

/// A message of each microsecond.
fn due(sequence: u64) -> Nanos {
    ORIGIN + 1000 * sequence
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]
    /// Partitions that lag, refusals and confirmations that come twice, in any order and number,
    /// beyond the size of the ring: every acknowledgement finds the stamps of its message.
    #[test]
    fn every_acknowledgement_is_measured_in_any_order(acts in acts()) {
        let mut send_state = SendState::default();
        let (out, shipped) = channel();
        let mut recorder = Recorder::new(0, ORIGIN, SECOND, out);
        let frame = ConfirmContext { run: 1, reply: false, open_loop: true, origin: ORIGIN, interval: SECOND, end: Nanos::MAX, shift: 0 };
        let mut open: HashMap<u64, Nanos> = HashMap::new();
        let mut acked: Vec<u64> = Vec::new();
        let (mut next, mut refused, mut duplicated, mut foreign, mut clock) = (0u64, 0, 0, 0, ORIGIN);
        let mut latencies: BTreeMap<Nanos, u64> = BTreeMap::new();
        for act in acts {
            let mut sorted: Vec<u64> = open.keys().copied().collect();
            sorted.sort_unstable();
            let any = |of: &[u64], k: u16| of.get(usize::from(k) % of.len().max(1)).copied();
            let mut confirmations: Vec<(u64, bool)> = Vec::new();
            match act {
                TestStep::Send(n) => for _ in 0..n {
                    send_state.stamp(next, due(next), due(next) + 7);
                    send_state.sequence += 1;
                    open.insert(next, due(next));
                    clock = clock.max(due(next) + 7);
                    next += 1;
                },
                TestStep::Lane(lane, n) => {
                    let lane = sorted.iter().filter(|s| **s % LANES == u64::from(lane));
                    confirmations.extend(lane.take(n.into()).map(|s| (*s, true)));
                }
                TestStep::Ack(k) => confirmations.extend(any(&sorted, k).map(|s| (s, true))),
                TestStep::Fail(k) => confirmations.extend(any(&sorted, k).map(|s| (s, false))),
                TestStep::Again(k) => confirmations.extend(any(&acked, k).map(|s| (s, true))),
                TestStep::FailAgain(k) => confirmations.extend(any(&acked, k).map(|s| (s, false))),
                TestStep::Foreign(beyond, true) => confirmations.push((next + beyond, true)),
                TestStep::Foreign(beyond, false) => confirmations.push((next + beyond, false)),
            }
            for (token, good) in confirmations {
                clock += 5;
                match (open.remove(&token), good) {
                    (Some(intended), true) => {
                        acked.push(token);
                        *latencies.entry(clock - intended).or_default() += 1;
                    }
                    (Some(_), false) => refused += 1,
                    (None, _) if token >= next => foreign += 1,
                    (None, _) => duplicated += 1,
                }
                let c = if good { Confirmation::Acked { token, at: clock } } else { Confirmation::Failed { token } };
                send_state.confirm(c, &mut recorder, frame);
            }
            prop_assert_eq!(send_state.outstanding(), open.len() as u64);
        }
        let sent = &send_state.sent;
        let counted = (sent.acked, sent.refused, sent.duplicated, sent.foreign);
        prop_assert_eq!(counted, (acked.len() as u64, refused, duplicated, foreign));
        let numbers: HashSet<u64> = acked.iter().copied().collect();
        prop_assert!((0..next).all(|n| (sent.acks.count(n, n + 1) == 1) == numbers.contains(&n)));
        recorder.finish();
        let mut measured = crate::measure::recorder::histogram();
        let mut expected = crate::measure::recorder::histogram();
        let of_acks = shipped.into_iter().filter(|s| s.kind == LatencyKind::Ack);
        of_acks.flat_map(|s| s.samples.by_interval()).for_each(|(_, h)| measured.add(&h).unwrap());
        latencies.iter().for_each(|(value, n)| expected.record_n(*value, *n).unwrap());
        prop_assert_eq!(measured, expected);
    }
}

/// A broker on this thread that a test tells what to do.
#[derive(Default)]
struct FakeBroker {
    /// Tokens of messages that are not answered yet.
    held: std::collections::VecDeque<u64>,
    /// Nothing is answered before this instant.
    silent_until: Nanos,
    /// Confirmations come without a pause, of message 0 again and again where nothing else is
    /// there.
    restless: bool,
    /// The first message is never answered.
    forgets: bool,
    /// Answers come one after another, so far apart.
    slow: Nanos,
    /// Messages in flight that will be answered, at most; once the silence is over, or 50 were
    /// sent.
    most: u64,
    recovered: bool,
    turns: u64,
    sent: Vec<(u64, Nanos)>,
}

impl Producer for FakeBroker {
    fn confirms(&self) -> bool {
        true
    }
    async fn send(&mut self, out: Outgoing<'_>) -> Result<(), DriverError> {
        self.sent.push((out.token, now()));
        if !self.forgets || out.token > 0 {
            self.held.push_back(out.token);
        }
        if self.recovered || (self.silent_until == 0 && out.token > 50) {
            self.most = self.most.max(self.held.len() as u64);
        }
        Ok(())
    }
    async fn flush(&mut self) -> Result<(), DriverError> {
        Ok(())
    }
    async fn confirmed(&mut self, sink: &mut impl FnMut(Confirmation<'_>)) -> Result<(), DriverError> {
        self.turns += 1;
        if self.restless && self.turns > 20_000_000 {
            return Err(DriverError::Lost { url: "double".into(), words: "nothing but confirmations".into() });
        }
        if self.slow > 0 {
            tokio::time::sleep(std::time::Duration::from_nanos(self.slow)).await;
        } else if !self.restless {
            // Not here yet, as over any network.
            tokio::task::yield_now().await;
        }
        let at = now();
        if at < self.silent_until || (self.held.is_empty() && !self.restless) {
            return std::future::pending().await;
        }
        if self.silent_until > 0 && !self.recovered {
            // All that was held back, at once: too late.
            self.held.drain(..).for_each(|token| sink(Confirmation::Acked { token, at }));
            self.recovered = true;
        }
        let token = self.held.pop_front().or((self.restless && !self.sent.is_empty()).then_some(0));
        if let Some(token) = token {
            sink(Confirmation::Acked { token, at });
        }
        Ok(())
    }
    async fn close(self) -> Result<(), DriverError> {
        Ok(())
    }
}

/// Publishes to a double for so long.
fn publish(producer: FakeBroker, pace: Pace, length: Nanos) -> (Result<(), DriverError>, Sent, FakeBroker, u64) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let _inside = runtime.enter();
    let shared = Shared::new(1);
    let origin = now();
    shared.go(origin, origin, origin + length);
    let (out, _samples) = channel();
    let mut publisher = Publisher {
        producer,
        index: 0,
        workload: 0,
        keys: None,
        reply: false,
        run: 1,
        channels: 1,
        templates: vec![Template::new(&[7; 84])],
        kept: false,
        pacer: Pacer::sleeping().unwrap(),
        pace,
        shared: &shared,
        recorder: Rc::new(RefCell::new(Recorder::new(0, origin, SECOND, out))),
        origin,
        interval: SECOND,
        send_state: send_state(length, SECOND, vec![128], false),
        shift: 0,
        longest: SECOND / 20,
        look: 0,
    };
    let result = runtime.block_on(async {
        // What is never answered ends with the trial.
        tokio::select! {
            biased;
            done = publisher.run(origin) => done,
            () = tokio::time::sleep(std::time::Duration::from_nanos(length + SECOND / 5)) => Ok(()),
        }
    });
    let times = publisher.pacer.times();
    (result, publisher.send_state.sent, publisher.producer, times)
}

const MILLI: Nanos = 1_000_000;

fn closed(outstanding: u64, think: Nanos, patience: Nanos) -> Pace {
    Pace::Closed { outstanding, think, patience }
}

#[test]
fn late_answers_do_not_widen_a_closed_loop() {
    let double = FakeBroker { silent_until: now() + 150 * MILLI, ..FakeBroker::default() };
    let (result, sent, double, _) = publish(double, closed(4, 0, 40 * MILLI), 400 * MILLI);
    result.unwrap();
    assert!(double.recovered && sent.acked > 50, "{}", sent.acked);
    assert_eq!((double.most, sent.acked, sent.duplicated + sent.foreign), (4, sent.sent, 0));
}

#[test]
fn a_lost_answer_does_not_narrow_a_closed_loop_for_ever() {
    let double = FakeBroker { forgets: true, slow: MILLI, ..FakeBroker::default() };
    let (result, sent, double, _) = publish(double, closed(2, 0, 20 * MILLI), 400 * MILLI);
    result.unwrap();
    assert_eq!((double.most, sent.sent - sent.acked), (2, 1));
}

#[test]
fn a_closed_loop_does_not_give_up_what_a_slow_broker_still_answers() {
    // Each answer takes about 60 ms, more than the patience; but answers keep coming.
    let double = FakeBroker { slow: 2 * MILLI, ..FakeBroker::default() };
    let (result, sent, double, _) = publish(double, closed(30, 0, 25 * MILLI), 400 * MILLI);
    result.unwrap();
    assert_eq!((double.most, sent.sent - sent.acked), (30, 0));
}

#[test]
fn confirmations_without_a_pause_do_not_hold_up_the_schedule() {
    let schedule = || {
        use crate::load::schedule::{ArrivalProcess, RatePiece, ScheduleShare};
        let pieces = vec![RatePiece { span: SECOND, from: 1000.0, to: 1000.0 }];
        Pace::Open(Schedule::new(pieces, false, &ArrivalProcess::Constant, ScheduleShare { index: 0, of: 1 }))
    };
    let (result, sent, double, _) =
        publish(FakeBroker { restless: true, ..FakeBroker::default() }, schedule(), 100 * MILLI);
    result.unwrap();
    assert_eq!((sent.scheduled, sent.sent), (100, 100));
    assert!(double.turns > 1000, "{} turns: the confirmations did pause", double.turns);
}

#[test]
fn the_timer_is_not_set_for_each_wait() {
    let (result, sent, _, times) = publish(FakeBroker::default(), closed(1, 0, SECOND), 200 * MILLI);
    result.unwrap();
    // Slices of 50 ms; not one for each of thousands of messages.
    assert!(sent.sent > 500 && times < 50, "set {times} times for {} messages", sent.sent);
}
