use super::*;
use proptest::prelude::*;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

/// Searches a system that passes a trial at a load with this probability.
fn searched(ladder: Ladder, seed: u64, passes: impl Fn(f64) -> f64, spoils: impl Fn(f64) -> bool) -> Search {
    let mut random = StdRng::seed_from_u64(seed);
    let mut search = Search::new(ladder, SearchRules::default());
    while let Some(probe) = search.next() {
        let vote = match spoils(probe.load) {
            true => Vote::Spoiled,
            false if random.random_bool(passes(probe.load)) => Vote::Pass,
            false => Vote::Fail,
        };
        search.count(vote);
        assert!(search.trials <= 100);
    }
    search
}

fn ladder() -> Ladder {
    Ladder::rates(1e3, 1e6, 1e3, 0.05)
}

fn holds(search: &Search, truth: f64) -> bool {
    let b = search.bracket();
    b.ending == Ending::Found && b.lower.is_some_and(|l| l <= truth) && b.upper.is_some_and(|u| truth < u)
}

/// From a message in ten seconds to ten million a second.
#[test]
fn every_load_of_a_ladder_is_shown_by_three_digits() {
    for load in Ladder::rates(0.1, 1e7, 1.0, 0.05).loads {
        let shown = load.to_string();
        let digits = shown.replace('.', "");
        assert!(digits.trim_matches('0').len() <= 3, "{shown}");
    }
}

/// Rounded to three digits it would be 1,230.
#[test]
fn no_load_is_below_the_least_that_was_asked_for() {
    for (min, max) in [(1234.0, 9e4), (1236.0, 9e4), (99.96, 151.0)] {
        let loads = Ladder::rates(min, max, min, 0.05).loads;
        assert_eq!((loads[0], loads[loads.len() - 1]), (min, max));
        assert!(loads.windows(2).all(|w| w[0] < w[1]), "{loads:?}");
    }
}

#[test]
fn neighbours_of_the_ladder_are_within_the_width() {
    for (min, max, width) in [(100.0, 1e7, 0.05), (1e3, 1e6, 0.01), (7.0, 9e4, 0.2)] {
        let ladder = Ladder::rates(min, max, min, width);
        assert!(ladder.loads.windows(2).all(|w| w[0] < w[1]), "{:?}", ladder.loads);
        // A load has three digits: below 100 a step of one is more than the width.
        let wide = ladder.loads.windows(2).filter(|w| w[0] > 200.0 && w[1] / w[0] > 1.0 + width + 0.006).count();
        assert_eq!(wide, 0, "{width}");
    }
}

proptest! {
    #[test]
    fn a_clear_limit_is_found_wherever_it_is(truth in 1_010.0f64..990e3, start in 1e3f64..1e6) {
        let ladder = Ladder::rates(1e3, 1e6, start, 0.05);
        let search = searched(ladder, 1, |load| f64::from(u8::from(load <= truth)), |_| false);
        let b = search.bracket();
        prop_assert!(holds(&search, truth), "{truth}: {b:?}");
        prop_assert!(b.upper.unwrap() / b.lower.unwrap() <= 1.056);
        prop_assert!(search.trials <= 40, "{} trials", search.trials);
    }

    #[test]
    fn listed_loads_are_searched_like_rates(count in 2usize..40, truth in 0usize..40, start in 0usize..40) {
        let (truth, start) = (truth.min(count - 1), start.min(count - 1));
        let search = searched(Ladder::listed(count, start), 1, |l| f64::from(u8::from(l <= truth as f64)), |_| false);
        let b = search.bracket();
        let upper = (truth + 1 < count).then_some(truth as f64 + 1.0);
        prop_assert_eq!((b.lower, b.upper), (Some(truth as f64), upper));
    }

    #[test]
    fn the_same_votes_lead_to_the_same_load(seed in any::<u64>()) {
        let passes = |load: f64| 1.0 / (1.0 + (load / 50e3).powi(8));
        let (one, two) = (searched(ladder(), seed, passes, |_| false), searched(ladder(), seed, passes, |_| false));
        prop_assert_eq!(one.bracket(), two.bracket());
        prop_assert_eq!(one.tallies(), two.tallies());
    }

    #[test]
    fn a_search_ends_whatever_the_votes_are(votes in prop::collection::vec(0u8..4, 1..120), start in 1e3f64..1e6) {
        let mut search = Search::new(Ladder::rates(1e3, 1e6, start, 0.05), SearchRules::default());
        for v in votes.iter().cycle().take(101) {
            let Some(probe) = search.next() else { break };
            prop_assert!((1e3..=1e6).contains(&probe.load) && probe.stretch <= LONGEST);
            search.count([Vote::Pass, Vote::Fail, Vote::Undecided, Vote::Spoiled][usize::from(*v)]);
            let b = search.bracket();
            prop_assert!(b.lower.zip(b.upper).is_none_or(|(l, u)| l < u), "{b:?}");
        }
        prop_assert!(search.done());
        let b = search.bracket();
        match b.ending {
            Ending::Found => prop_assert!(b.lower.is_some() && b.breaks().is_some(), "{b:?}"),
            Ending::AboveMax => prop_assert_eq!((b.lower, b.upper), (Some(1e6), None)),
            Ending::BelowMin => prop_assert_eq!((b.lower, b.upper), (None, Some(1e3))),
            Ending::GeneratorLimited => prop_assert_eq!(b.breaks(), None),
            Ending::Undecided => prop_assert!(b.lower.is_none() || b.upper.is_none(), "{b:?}"),
            Ending::OutOfTrials => prop_assert_eq!(search.trials, 100),
            Ending::Unfinished => prop_assert!(false, "it is over"),
        }
    }
}

/// How many of 200 searches hold the truth, and the most trials that one took.
fn of_200(passes: impl Fn(f64) -> f64 + Copy, truth: f64) -> (u32, u32) {
    let all: Vec<Search> = (0..200).map(|seed| searched(ladder(), seed, passes, |_| false)).collect();
    (all.iter().map(|s| u32::from(holds(s, truth))).sum(), all.iter().map(|s| s.trials).max().unwrap())
}

#[test]
fn trials_that_fail_by_chance_do_not_drag_the_answer() {
    let (held, most) = of_200(|load| if load <= 52e3 { 0.8 } else { 0.0 }, 52e3);
    assert!(held >= 190, "{held} of 200 hold the limit, at most {most} trials");
    let (held, _) = of_200(|load| if load <= 52e3 { 1.0 } else { 0.2 }, 52e3);
    assert!(held >= 190, "{held} of 200");
}

#[test]
fn a_load_that_fails_most_trials_is_not_kept() {
    // It keeps 20k/s always, and up to 52k/s in one trial of five.
    let passes = |load: f64| {
        if load <= 20e3 {
            1.0
        } else if load <= 52e3 {
            0.2
        } else {
            0.0
        }
    };
    let (held, _) = of_200(passes, 20e3);
    assert!(held >= 190, "{held} of 200");
}

#[test]
fn a_gentle_slope_is_answered_near_its_middle() {
    let passes = |load: f64| 1.0 / (1.0 + (load / 52e3).powi(30));
    for seed in 0..100 {
        let b = searched(ladder(), seed, passes, |_| false).bracket();
        let (lower, upper) = (b.lower.unwrap(), b.upper.unwrap());
        assert!(lower > 52e3 * 0.85 && upper < 52e3 * 1.18 && upper / lower < 1.35, "{b:?}");
    }
}

#[test]
fn the_ends_of_the_ladder_are_said() {
    let always = searched(ladder(), 1, |_| 1.0, |_| false).bracket();
    assert_eq!((always.lower, always.upper, always.ending), (Some(1e6), None, Ending::AboveMax));
    let never = searched(ladder(), 1, |_| 0.0, |_| false).bracket();
    assert_eq!((never.lower, never.upper, never.ending), (None, Some(1e3), Ending::BelowMin));
}

#[test]
fn where_the_generator_is_the_limit_no_capacity_is_said() {
    for seed in 0..50 {
        let b = searched(ladder(), seed, |_| 0.95, |load| load > 30e3).bracket();
        assert_eq!(b.ending, Ending::GeneratorLimited, "{b:?}");
        assert!(b.lower.unwrap() <= 30e3 && b.lower.unwrap() > 28e3 && b.upper.unwrap() > 30e3, "{b:?}");
        // A limit of the system below that is found as usual.
        let found = searched(ladder(), seed, |l| f64::from(u8::from(l <= 12e3)), |load| load > 30e3);
        assert!(holds(&found, 12e3), "{:?}", found.bracket());
    }
    let none = searched(ladder(), 1, |_| 1.0, |_| true).bracket();
    assert_eq!((none.lower, none.ending), (None, Ending::GeneratorLimited));
}

#[test]
fn what_is_undecided_is_tried_longer_and_then_not_kept() {
    let mut search = Search::new(ladder(), SearchRules::default());
    search.count(Vote::Pass);
    let mut lengths = Vec::new();
    for _ in 0..4 {
        lengths.push(search.next().unwrap().stretch);
        search.count(Vote::Undecided);
    }
    assert_eq!(lengths, [1, 2, 4, 4]);
}

/// An end of what may be tried that passes every other trial is neither kept nor broken.
#[test]
fn an_end_that_stays_undecided_is_no_answer() {
    let searched = |keeps: fn(f64) -> Option<bool>| {
        let mut search = Search::new(Ladder::listed(5, 0), SearchRules::default());
        let mut turn = false;
        while let Some(probe) = search.next() {
            let at_the_end = keeps(probe.load).unwrap_or_else(|| {
                turn = !turn;
                turn
            });
            search.count(if at_the_end { Vote::Pass } else { Vote::Fail });
        }
        search.bracket()
    };
    let highest = searched(|load| (load < 4.0).then_some(true));
    assert_eq!((highest.lower, highest.upper, highest.ending), (Some(3.0), None, Ending::Undecided));
    let lowest = searched(|load| (load > 0.0).then_some(false));
    assert_eq!((lowest.lower, lowest.upper, lowest.ending), (None, Some(1.0), Ending::Undecided));
}

#[test]
fn what_the_generator_cannot_offer_breaks_nothing() {
    let limited = searched(ladder(), 1, |_| 1.0, |load| load > 30e3).bracket();
    assert_eq!((limited.upper.is_some(), limited.breaks()), (true, None), "{limited:?}");
    // The same in a search that is under way.
    let mut search = Search::new(ladder(), SearchRules::default());
    while search.ceiling.is_none() {
        let probe = search.next().unwrap();
        search.count(if probe.load > 30e3 { Vote::Spoiled } else { Vote::Pass });
    }
    let open = search.bracket();
    assert_eq!((open.breaks(), open.ending), (None, Ending::Unfinished));
}
