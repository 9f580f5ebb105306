//! Which fault an outage belongs to, where the load pauses, and slots of any length: with outages
//! that are known.

use proptest::prelude::*;

use super::tests::{LaneAbsence, MS, ORIGIN, Scene, by_message, close, scene};
use super::*;
use crate::units::{Nanos, SECOND};

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// Two faults of one moment, as two nodes that are killed at once: both have the outage.
    #[test]
    fn faults_of_one_moment_share_an_outage(scene in scene(), apart in prop::collection::vec(0u64..50, 1..3)) {
        let at = apart.iter().scan(scene.lanes[0][0].from, |at, ms| { *at += ms * MS; Some(*at) });
        let faults: Vec<Nanos> = std::iter::once(scene.lanes[0][0].from).chain(at).collect();
        let found = scene.found(SECOND, &faults);
        let longest = scene.lanes.iter().map(|away| away[0].to - away[0].from).max().unwrap();
        for side in &found {
            let worst = side.worst();
            prop_assert!(worst.flatten().is_some_and(|worst| close(worst, longest)), "{worst:?} for {longest}");
            prop_assert!(!side.unsettled && side.lanes.iter().all(|lane| lane.run.is_some()));
        }
    }

    /// A deadline that is longer than faults are apart: an outage is of the one that met its first
    /// messages on their way. Where they had been for longer than messages are, it is of the one
    /// before.
    #[test]
    fn an_outage_is_of_the_fault_that_began_it(
        between in 2_000u64..8_000, share in 0.1f64..0.9, length in 6_000u64..9_000, of_second in any::<bool>(),
    ) {
        let (first, second) = (9 * SECOND, 9 * SECOND + between * MS);
        let from = if of_second { second } else { first + (share * between as f64 * 0.6) as u64 * MS };
        let away = LaneAbsence { from, to: second + length * MS };
        let scene = Scene {
            lanes: vec![vec![away]], gap: 3 * MS, usual: 4 * MS, lose: 0, measure: 40 * SECOND, bursts: None,
        };
        let found = scene.found(5 * SECOND, &[first, second]);
        let runs: Vec<Option<Nanos>> = found.iter().map(|side| side.worst().flatten()).collect();
        let (own, other) = if of_second { (runs[1], runs[0]) } else { (runs[0], runs[1]) };
        prop_assert!(own.is_some_and(|run| close(run, away.to - away.from)) && other.is_none(), "{runs:?}");
        prop_assert_eq!((found[0].unsettled, found[1].unsettled), (false, !of_second));
    }

    /// A load that comes in bursts, and an outage that ends in the pause after one: it is over when
    /// all that was due is done, not when the next burst begins.
    #[test]
    fn an_outage_is_over_in_a_pause(
        on in 400u64..1_000, off in 3_000u64..6_000, before in 100u64..700, after in 300u64..4_000, gap in 1u64..9,
    ) {
        // A slot has 2 ms: no burst begins within one.
        let (on, off) = (2 * on, 2 * off);
        let bursts = Some((on * MS, off * MS));
        // In the third burst; the lane is back in the pause after it.
        let end = 3 * on + 2 * off;
        let away = LaneAbsence { from: (end - before) * MS, to: (end + after) * MS };
        let measure = 5 * (on + off) * MS;
        let scene = Scene { lanes: vec![vec![away]], gap: gap * MS, usual: 4 * MS, lose: 0, measure, bursts };
        // The second fault comes when nothing is due, and nothing is until the third.
        let faults = [away.from, (end + after + 500) * MS, (end + off) * MS];
        let found = scene.found(200 * MS, &faults);
        let run = found[0].lanes[0].run.unwrap();
        prop_assert!(close(run.length().unwrap(), away.to - away.from), "{run:?} for {away:?}");
        let known = by_message(&scene.messages(), 0, 200 * MS, (ORIGIN, Nanos::MAX)).unwrap();
        prop_assert!(close(run.from, known.from) && close(run.to.unwrap(), known.to.unwrap()), "{run:?} for {known:?}");
        prop_assert!(found[1].lanes.is_empty() && found[2].lanes[0].awaited && found[2].worst().is_none());
    }

    /// What was on its way when the fault came is its doing, though nothing was due afterwards.
    #[test]
    fn what_was_on_its_way_in_a_pause_is_the_faults(length in 300u64..5_000) {
        // The last message of the burst is due 150 us before a slot ends, and takes 200 us.
        let away = LaneAbsence { from: 3 * SECOND + 10_000, to: 3 * SECOND + length * MS };
        let (gap, bursts) = (2 * MS - 100, Some((SECOND, SECOND)));
        let scene = Scene { lanes: vec![vec![away]], gap, usual: 1, lose: 0, measure: 3_010 * MS, bursts };
        let found = &scene.found(200 * MS, &[away.from])[0];
        let run = found.lanes[0].run.unwrap();
        prop_assert!(close(run.length().unwrap(), length * MS), "{run:?}");
        prop_assert_eq!((found.lanes[0].awaited, found.lanes[0].first), (false, None));
    }

    /// Slots of any length find the run that messages have, or say that one up to so long may be
    /// hidden.
    #[test]
    fn long_slots_find_an_outage_or_say_that_one_may_be_hidden(
        width in prop::sample::select(vec![2u64, 10, 20, 100, 500, 1_000, 2_000, 4_000]),
        from in 3_000u64..9_000, length in 1_020u64..4_000, gap in 2u64..12,
    ) {
        let away = LaneAbsence { from: from * MS, to: (from + length) * MS };
        let measure = 20 * SECOND;
        let scene = Scene { lanes: vec![vec![away]], gap: gap * MS, usual: 4 * MS, lose: 0, measure, bursts: None };
        let grid = SlotGrid { width: width * MS, slots: (measure / (width * MS)) as usize, ..SlotGrid::new(ORIGIN, measure, 1, 1, SECOND) };
        let found = &scene.found_in(&scene.log_in(grid), &[away.from])[0];
        let known = by_message(&scene.messages(), 0, SECOND, (ORIGIN, Nanos::MAX)).unwrap().length().unwrap();
        let (lane, hidden) = (&found.lanes[0], found.hidden);
        prop_assert!(lane.late > 0);
        match lane.run {
            Some(run) => prop_assert!(close(run.length().unwrap(), known) && hidden.is_none(), "{run:?} for {known}"),
            None => prop_assert!(hidden.is_some_and(|hidden| hidden >= known), "{hidden:?} for {known}"),
        }
        prop_assert!(width > 10 || lane.run.is_some());
    }

    /// Whatever the load and the phase: the slots are few, and an offset within one has 32 bits.
    #[test]
    fn each_instant_of_any_grid_has_its_place(
        lanes in 1u64..20_000, groups in 1u64..400, seconds in 1u64..200_000, share in 0.0f64..1.0,
    ) {
        let grid = SlotGrid::new(ORIGIN, seconds * SECOND, lanes, groups, SECOND);
        prop_assert!(grid.slots * grid.lanes * (grid.groups + 1) <= 2 << 20);
        prop_assert!(grid.slots as u64 * grid.width >= seconds * SECOND && grid.width <= u32::MAX.into());
        // Of a rare lane each message is in its slot to the nanosecond.
        let due = ORIGIN + (share * (seconds * SECOND) as f64) as Nanos;
        let small = SlotGrid { lanes: 1, groups: 1, ..grid };
        let mut log = OutageLog::new(small);
        log.due(0, due);
        let cell = log.due_of(0)[small.slot(due)];
        prop_assert_eq!(small.start(small.slot(due)) + Nanos::from(cell.first), due);
    }
}
