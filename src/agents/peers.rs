//! What agents find of each other's clocks, held against what the coordinator finds of each.
//!
//! # Design
//! An agent asks the clocks of a few others in the same way as the coordinator does: a request by
//! the control server, which each agent answers with two readings. No port is opened. Between two
//! agents and the coordinator there are then three ways whose delays have nothing to do with each
//! other; round such a loop the offsets add up to nothing, or a bound does not hold. And where two
//! agents are nearer to each other than to the coordinator, their own bound is the smaller one.
//! # Rejected
//! Datagrams from agent to agent (`clocks::echo`): their bound is smaller, because no server is on
//! the way, but each agent would need a port that the others can reach, which firewalls and pods
//! forbid. All pairs: with a thousand agents half a million.

use crate::clocks::{ClockError, ClockLimits, ClockTimeline, Exchange, OffsetInterval, loop_open_by};
use crate::record::PeerClock;
use crate::units::{Nanos, SECOND};

use super::chosen::{ChosenAgent, WINDOW};

/// So many others an agent asks; up to nine agents that is all pairs.
const ASKED: usize = 4;
/// Loops are looked at so often, and no more than so many times, in a trial.
const EVERY: Nanos = SECOND;
const LOOKS: u64 = 100;

/// Whom the agent with this number asks: the next ones by number that have another clock.
pub fn asked_by(number: usize, all: &[ChosenAgent]) -> Vec<String> {
    let n = all.len();
    let next = (1..=ASKED.min(n / 2)).map(|step| &all[(number + step) % n]);
    next.filter(|other| other.hello.clock != all[number].hello.clock).map(|other| other.hello.id.clone()).collect()
}

/// A clock as the coordinator knows it; `None` is its own.
struct KnownClock(Option<ClockTimeline>);

impl KnownClock {
    fn at(&self, here: Nanos) -> OffsetInterval {
        self.0.as_ref().map_or(OffsetInterval::exactly(0), |t| t.offset_at(here))
    }
}

/// What each agent found of the clocks of others, from the start of load until now.
pub fn compared(all: &[ChosenAgent], now: Nanos) -> Vec<Vec<PeerClock>> {
    let known = |a: &ChosenAgent| match a.here {
        true => Some(KnownClock(None)),
        false => a.timeline().ok().map(|t| KnownClock(Some(t))),
    };
    let clocks: Vec<Option<KnownClock>> = all.iter().map(known).collect();
    let number = |id: &str| all.iter().position(|a| a.hello.id == id);
    let of = |(a, agent): (usize, &ChosenAgent)| {
        let found = agent.peers.iter().filter_map(|(id, exchanges)| {
            let b = number(id)?;
            let span = (agent.started.unwrap_or(now), now);
            let shift = all[b].shift.wrapping_sub(agent.shift);
            Some(PeerClock {
                with: all[b].share.index,
                ..one(exchanges, (clocks[a].as_ref(), clocks[b].as_ref()), span, shift)
            })
        });
        found.collect::<Vec<_>>()
    };
    all.iter().enumerate().map(of).collect()
}

/// What the exchanges of `a` with `b` say from one instant to another of the coordinator's clock.
/// `shift` is the difference of their offsets that was reckoned with.
fn one(
    exchanges: &[Exchange],
    (a, b): (Option<&KnownClock>, Option<&KnownClock>),
    (from, to): (Nanos, Nanos),
    shift: i64,
) -> PeerClock {
    let mut found = PeerClock { exchanges: exchanges.len() as u32, ..PeerClock::default() };
    let between = match ClockTimeline::of(exchanges, ClockLimits::default(), WINDOW) {
        Ok(between) => between,
        Err(ClockError::Stepped(step)) => return PeerClock { apart_ns: Some(step.at_least), ..found },
        Err(ClockError::NoExchange) => return found,
    };
    let Some(a) = a else { return found };
    // What the clock of `a` showed is itself an interval; the offset is taken over all of it.
    let there = |at: Nanos| {
        let offset = a.at(at);
        (at.saturating_add_signed(offset.low), at.saturating_add_signed(offset.high))
    };
    found.bound_ns = Some(between.offset_over(there(from).0, there(to).1).farthest(shift));
    let Some(b) = b else { return found };
    let step = EVERY.max(to.saturating_sub(from) / LOOKS);
    let looks = (from..to).step_by(step as usize).chain([to]);
    let open = looks.map(|at| {
        let (first, last) = there(at);
        // From the coordinator to `a`, to `b`, and back.
        loop_open_by(a.at(at), between.offset_over(first, last), b.at(at).reversed())
    });
    found.apart_ns = open.max().filter(|by| *by > 0);
    found
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::agents::chosen::tests::agent;
    use crate::clocks::LocalClock;

    const FROM: Nanos = 2 * 10u64.pow(15);

    /// What one clock finds of another with these delays, twenty times a second for three seconds.
    fn readings(here: LocalClock, there: LocalClock, (out, back): (Nanos, Nanos)) -> Vec<Exchange> {
        let one = |k: Nanos| {
            let at = FROM + k * 50_000_000;
            Exchange { t1: here.at(at), t2: there.at(at + out), t3: there.at(at + out), t4: here.at(at + out + back) }
        };
        (0..60).map(one).collect()
    }

    /// Two agents with these clocks and delays; `lie` is added to what the first finds of the
    /// other.
    fn two(clocks: [LocalClock; 2], ways: [(Nanos, Nanos); 3], lie: i64) -> Vec<ChosenAgent> {
        let mut all = [0, 1].map(|i| {
            let mut it = agent();
            it.hello.id = format!("{i}");
            it.hello.clock = format!("clock {i}");
            it.share.index = i as u32;
            readings(LocalClock::MACHINE, clocks[i], ways[i]).into_iter().for_each(|e| it.read_clock(e));
            it
        });
        for e in readings(clocks[0], clocks[1], ways[2]) {
            let moved = |at: Nanos| at.wrapping_add_signed(lie);
            all[0].read_peer("1".into(), Exchange { t2: moved(e.t2), t3: moved(e.t3), ..e });
        }
        let end = FROM + 3 * SECOND;
        for it in &mut all {
            it.start(end, None);
        }
        all.into()
    }

    fn wrong_by(offset: i64, ppm: i64) -> LocalClock {
        LocalClock::wrong_by(offset, ppm as f64 * 1e-6, FROM)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        /// Whatever the delays are, three true relations agree, and the true difference of the two
        /// clocks is within the bound; readings that are wrong by more than all delays are found.
        #[test]
        fn loops_close_where_readings_are_true(
            offsets in prop::array::uniform2(-10i64.pow(14)..10i64.pow(14)), ppm in prop::array::uniform2(-200i64..200),
            ways in prop::array::uniform3((1_000u64..20_000_000, 1_000u64..20_000_000)),
        ) {
            let clocks = [0, 1].map(|i| wrong_by(offsets[i], ppm[i]));
            let now = FROM + 4 * SECOND;
            let all = two(clocks, ways, 0);
            let found = compared(&all, now);
            prop_assert_eq!((found[0].len(), found[1].len()), (1, 0));
            let it = found[0][0];
            prop_assert_eq!((it.with, it.exchanges, it.apart_ns), (1, 60, None));
            let truth = clocks[1].ahead(now) - clocks[0].ahead(now);
            prop_assert!((all[1].shift - all[0].shift).abs_diff(truth) <= it.bound_ns.unwrap(), "{:?}", it);
            let round_trips: u64 = ways.iter().map(|w| w.0 + w.1).sum();
            let lied = compared(&two(clocks, ways, 2 * round_trips as i64 + 5_000_000), now);
            prop_assert!(lied[0][0].apart_ns.is_some_and(|by| by > round_trips), "{:?}", lied);
        }
    }

    #[test]
    fn a_clock_that_stepped_between_two_agents_is_a_contradiction() {
        let mut all = two([wrong_by(5, 0), wrong_by(7, 0)], [(1_000_000, 1_000_000); 3], 0);
        let last = all[0].peers["1"][59];
        let moved = |at: Nanos| at + 50_000_000;
        all[0].read_peer(
            "1".into(),
            Exchange {
                t1: last.t1 + SECOND,
                t2: moved(last.t2) + SECOND,
                t3: moved(last.t3) + SECOND,
                t4: last.t4 + SECOND,
            },
        );
        assert!(compared(&all, FROM + 4 * SECOND)[0][0].apart_ns.is_some());
    }

    #[test]
    fn nine_agents_are_all_pairs_and_those_of_one_clock_ask_nobody() {
        let mut all: Vec<ChosenAgent> = (0..9)
            .map(|i| {
                let mut it = agent();
                (it.hello.id, it.hello.clock) = (format!("{i}"), format!("clock {i}"));
                it
            })
            .collect();
        let pairs = |all: &[ChosenAgent]| {
            let of = |i: usize| {
                asked_by(i, all).into_iter().map(move |id| {
                    let j: usize = id.parse().unwrap();
                    (i.min(j), i.max(j))
                })
            };
            (0..all.len()).flat_map(of).collect::<std::collections::BTreeSet<_>>().len()
        };
        assert_eq!((pairs(&all), pairs(&all[..4]), pairs(&all[..2]), pairs(&all[..1])), (36, 6, 1, 0));
        all.iter_mut().for_each(|a| a.hello.clock = "one".into());
        assert_eq!(pairs(&all), 0);
    }
}
