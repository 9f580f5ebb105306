//! When the events of a scenario are due: each as often as it says, by chance where it says so.

use std::collections::VecDeque;

use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};

use crate::plan::PlannedEvent;
use crate::units::{Nanos, Span};

/// Chance of the events is not that of arrivals or contents, which have the trial's seed, too.
const STREAM: u64 = 0xe7e7_0f16;

/// One time at which an event is due.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Occurrence {
    /// Which of the plan's events it is, from 0.
    pub event: u32,
    /// Which time of it, from 1.
    pub number: u32,
    /// Since the measured phase began.
    pub due: Nanos,
}

/// All times of the events that are done to the system or the network, in order. The same seed
/// gives the same times.
pub fn occurrences(events: &[PlannedEvent], seed: u64) -> VecDeque<Occurrence> {
    let mut random = StdRng::seed_from_u64(seed ^ STREAM);
    let mut all = Vec::new();
    for (event, e) in (0..).zip(events).filter(|(_, e)| !e.action.of_consumer()) {
        for number in 1..=e.count() {
            let before = e.repeat.map_or(0, |r| r.every.0.saturating_mul(u64::from(number - 1)));
            let chance = e.within.map_or(0, |Span(within)| random.random_range(0..=within));
            all.push(Occurrence { event, number, due: e.at.0.saturating_add(before).saturating_add(chance) });
        }
    }
    all.sort_by_key(|o| o.due);
    all.into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::{Action, Repeat};

    fn repeated(within: Span) -> PlannedEvent {
        PlannedEvent {
            repeat: Some(Repeat { every: Span::secs(30), count: 200 }),
            within: Some(within),
            ..PlannedEvent::once(Span::secs(10), Action::Kill)
        }
    }

    #[test]
    fn each_time_is_in_its_window_and_another_seed_gives_others() {
        let events = [PlannedEvent::once(Span::secs(1), Action::ConsumerKill), repeated(Span::secs(5))];
        let all = occurrences(&events, 7);
        assert_eq!(all.len(), 200);
        let chance: Vec<Nanos> = (0..).zip(&all).map(|(k, o)| o.due - (10 + 30 * k) * 1_000_000_000).collect();
        assert!(chance.iter().all(|c| *c <= 5_000_000_000), "{chance:?}");
        // Of 200 uniform ones, each fifth has about 40.
        for fifth in 0..5 {
            let count = chance.iter().filter(|c| **c / 1_000_000_000 == fifth).count();
            assert!((15..=80).contains(&count), "{fifth}: {count}");
        }
        assert!(all.iter().all(|o| o.event == 1) && all[199].number == 200);
        assert_eq!(occurrences(&events, 7), all);
        assert_ne!(occurrences(&events, 8), all);
    }

    #[test]
    fn several_events_are_in_order_of_time() {
        let late = PlannedEvent::once(Span::secs(50), Action::Restart);
        let all = occurrences(&[repeated(Span(0)), late], 1);
        let first: Vec<_> = all.iter().take(4).map(|o| (o.event, o.number)).collect();
        assert_eq!(first, [(0, 1), (0, 2), (1, 1), (0, 3)]);
    }
}
