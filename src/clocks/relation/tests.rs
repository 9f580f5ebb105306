//! Known truth, and every truth that proptest thinks of.

use proptest::prelude::*;

use super::*;
use crate::clocks::LocalClock;
use crate::units::SECOND;

const BEGIN: Nanos = 1_000 * SECOND;
const LIMITS: ClockLimits = ClockLimits { drift: 1e-3, grain: 1 };

/// One exchange: begun so long after the first, with these delays there, at the other and back.
#[derive(Debug, Clone, Copy)]
struct Delays {
    at: Nanos,
    out: Nanos,
    stay: Nanos,
    back: Nanos,
}

fn exchange(clock: LocalClock, d: Delays) -> Exchange {
    let t1 = BEGIN + d.at;
    let (arrived, left) = (t1 + d.out, t1 + d.out + d.stay);
    Exchange { t1, t2: clock.at(arrived), t3: clock.at(left), t4: left + d.back }
}

fn every(interval: Nanos, n: u64, out: Nanos, back: Nanos) -> Vec<Delays> {
    (0..n).map(|k| Delays { at: k * interval, out, stay: 5_000, back }).collect()
}

fn of(clock: LocalClock, all: &[Delays]) -> Result<ClockRelation, ClockError> {
    let all: Vec<Exchange> = all.iter().map(|d| exchange(clock, *d)).collect();
    ClockRelation::of(&all, LIMITS)
}

/// 1 ms there, 9 ms back: NTP's own estimate is wrong by 4 ms, and the interval is as wide as the
/// round trip, with the truth at one tenth of it.
#[test]
fn constant_delays_leave_the_round_trip_open() {
    let clock = LocalClock::wrong_by(-123_456_789, 0.0, BEGIN);
    let relation = of(clock, &every(SECOND / 10, 100, 1_000_000, 9_000_000)).unwrap();
    let offset = relation.offset_at(BEGIN + 5 * SECOND);
    assert!(offset.contains(-123_456_789), "{offset:?}");
    assert!((offset.high + 123_456_789 - 1_000_000).abs() < 100, "{offset:?}");
    assert!((offset.low + 123_456_789 + 9_000_000).abs() < 100, "{offset:?}");
    assert!(offset.bound() <= 5_000_100, "{offset:?}");
    let drift = relation.drift();
    assert!(drift.contains(0.0) && drift.high - drift.low < 5e-3, "{drift:?}");
}

/// Delays that are short once in each direction: the bound is that of the short ones together,
/// which no single exchange has.
#[test]
fn the_best_of_each_direction_count_together() {
    let mut all = every(SECOND / 100, 400, 3_000_000, 3_000_000);
    for (out, back) in [(0, 1), (200, 201), (399, 398)] {
        all[out].out = 50_000;
        all[back].back = 40_000;
    }
    let clock = LocalClock::wrong_by(77_000_000_000, 20e-6, BEGIN);
    let relation = of(clock, &all).unwrap();
    let offset = relation.offset_at(BEGIN + 2 * SECOND);
    assert!(offset.contains(clock.ahead(BEGIN + 2 * SECOND)), "{offset:?}");
    // The best single exchange has 3,050,000 ns of round trip.
    assert!(offset.bound() < 60_000, "{offset:?}");
    let drift = relation.drift();
    assert!(drift.contains(20e-6) && drift.high - drift.low < 60e-6, "{drift:?}");
}

#[test]
fn one_exchange_has_half_its_round_trip() {
    let clock = LocalClock::wrong_by(5, 0.0, BEGIN);
    let d = Delays { at: 0, out: 700_000, stay: 10_000, back: 300_000 };
    let relation = of(clock, &[d]).unwrap();
    let offset = relation.offset_at(BEGIN);
    assert!(offset.contains(5), "{offset:?}");
    // What the drift may do in the time of the exchange comes to it: 1,000 ppm of 1 ms.
    assert!(offset.bound() <= 500_000 + 1_100, "{offset:?}");
    assert_eq!(exchange(clock, d).round_trip(), 1_000_000);
    assert_eq!(ClockRelation::of(&[], LIMITS), Err(ClockError::NoExchange));
}

#[test]
fn instants_are_told_from_either_side() {
    let clock = LocalClock::wrong_by(-400 * SECOND as i64, 100e-6, BEGIN);
    let relation = of(clock, &every(SECOND / 50, 200, 100_000, 250_000)).unwrap();
    let here = BEGIN + 3 * SECOND;
    let there = clock.at(here);
    let (from, to) = relation.there_at(here);
    assert!(from <= there && there <= to && to - from < 360_000, "{from} {there} {to}");
    let (from, to) = relation.here_at(there);
    assert!(from <= here && here <= to && to - from < 360_000, "{from} {here} {to}");
}

#[test]
fn a_step_is_found_with_its_instant() {
    let before = LocalClock::wrong_by(1_000_000, 10e-6, BEGIN);
    let after = LocalClock::wrong_by(4_000_000, 10e-6, BEGIN);
    let all = every(SECOND / 20, 400, 400_000, 600_000);
    let at = 12 * SECOND + 20_000_000;
    let exchanges: Vec<Exchange> = all.iter().map(|d| exchange(if d.at < at { before } else { after }, *d)).collect();
    let Err(ClockError::Stepped(step)) = ClockRelation::of(&exchanges, LIMITS) else { panic!("no step was found") };
    assert!(step.after <= BEGIN + at && BEGIN + at <= step.before, "{step:?}");
    assert!(step.before - step.after < 3 * SECOND, "{step:?}");
    // The line may lean by up to the round trip to meet the step.
    assert!(step.at_least > 500_000 && step.at_least <= 3_000_000, "{step:?}");
    assert!(step.to_string().starts_with("a clock stepped by "), "{step}");
}

/// An exchange whose answer was stamped more after its question than the whole took here.
#[test]
fn an_exchange_that_contradicts_itself_is_a_step() {
    let broken = Exchange { t1: BEGIN, t2: BEGIN + 10, t3: BEGIN + 9_000_000, t4: BEGIN + 50_000 };
    assert!(broken.round_trip() < 0);
    assert!(matches!(ClockRelation::of(&[broken], LIMITS), Err(ClockError::Stepped(_))));
}

prop_compose! {
    /// Delays from microseconds to seconds, as often short as long, and each way for itself.
    fn delays()(n in 2usize..80)(
        gaps in prop::collection::vec(1_000_000u64..200_000_000, n),
        out in prop::collection::vec(3f64..9.0, n),
        back in prop::collection::vec(3f64..9.0, n),
        stay in prop::collection::vec(0u64..2_000_000, n),
    ) -> Vec<Delays> {
        let mut at = 0;
        (0..gaps.len()).map(|k| {
            at += gaps[k];
            Delays { at, out: 10f64.powf(out[k]) as u64, stay: stay[k], back: 10f64.powf(back[k]) as u64 }
        }).collect()
    }
}

prop_compose! {
    /// Offsets up to that of machines that were started a year apart; none shows less than nothing.
    fn clock()(shift in -950_000_000_000i64..31_536_000_000_000_000, drift in -4e-4..4e-4f64) -> LocalClock {
        LocalClock::wrong_by(shift, drift, BEGIN)
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    /// The truth is inside at every instant, and the bound is at most half of the least round trip
    /// at the exchange that had it.
    #[test]
    fn the_truth_is_inside_whatever_the_delays(all in delays(), clock in clock()) {
        let relation = of(clock, &all).unwrap();
        let (from, to) = relation.span();
        for share in 0..=10 {
            let at = from + (to - from) / 10 * share;
            prop_assert!(relation.offset_at(at).contains(clock.ahead(at)), "{:?} at {at}: {}", relation.offset_at(at), clock.ahead(at));
            let (low, high) = relation.there_at(at);
            prop_assert!(low <= clock.at(at) && clock.at(at) <= high);
            let (low, high) = relation.here_at(clock.at(at));
            prop_assert!(low <= at && at <= high, "{low} {at} {high}");
        }
        prop_assert!(relation.offset_over(from, to).contains(clock.ahead(from + (to - from) / 3)));
        let drift = relation.drift();
        prop_assert!(drift.low - 1e-12 <= 4e-4 && drift.high + 1e-12 >= -4e-4);
        let best = all.iter().map(|d| exchange(clock, *d)).min_by_key(Exchange::round_trip).unwrap();
        let at = best.t1 + (best.t4 - best.t1) / 2;
        let half = best.round_trip() as f64 / 2.0;
        // While the exchange lasts, the clocks part by the drift.
        let open = drift.low.abs().max(drift.high.abs()) * (best.t4 - best.t1) as f64 / 2.0 + 4.0;
        prop_assert!(relation.offset_at(at).bound() as f64 <= half + open, "{} > {half} + {open}", relation.offset_at(at).bound());
    }

    /// More exchanges never allow more.
    #[test]
    fn more_exchanges_never_widen_the_interval(all in delays(), clock in clock(), share in 0.0..1.0f64) {
        let part = of(clock, &all[..1 + (share * (all.len() - 1) as f64) as usize]).unwrap();
        let whole = of(clock, &all).unwrap();
        let at = BEGIN + all[0].at;
        let (a, b) = (part.offset_at(at), whole.offset_at(at));
        prop_assert!(a.low - 2 <= b.low && b.high <= a.high + 2, "{a:?} {b:?}");
    }

    /// The set by convex hulls is the set by trying every pair of points.
    #[test]
    fn the_hulls_agree_with_every_pair(all in delays(), clock in clock(), share in 0.0..1.0f64) {
        let exchanges: Vec<Exchange> = all.iter().map(|d| exchange(clock, *d)).collect();
        let relation = ClockRelation::of(&exchanges, LIMITS).unwrap();
        let (from, to) = relation.span();
        let at = from + ((to - from) as f64 * share) as u64;
        let (low, high) = by_pairs(&exchanges, at);
        let offset = relation.offset_at(at);
        prop_assert!((offset.high as f64 - high).abs() < 64.0, "{offset:?} {high}");
        prop_assert!((offset.low as f64 - low).abs() < 64.0, "{offset:?} {low}");
    }

    /// A step that is larger than both clouds are apart is found, and where it was.
    #[test]
    fn a_large_step_is_found(all in delays(), clock in clock(), share in 0.1..0.9f64, by in prop::bool::ANY) {
        prop_assume!(all.len() >= 6);
        let at = (all.last().unwrap().at as f64 * share) as u64;
        let jump = if by { 40 * SECOND as i64 } else { -40 * SECOND as i64 };
        let stepped = |d: &Delays| {
            // Both readings of an exchange are from the same side of the step.
            let mut e = exchange(clock, *d);
            if d.at >= at {
                e.t2 = e.t2.saturating_add_signed(jump);
                e.t3 = e.t3.saturating_add_signed(jump);
            }
            e
        };
        let exchanges: Vec<Exchange> = all.iter().map(stepped).collect();
        prop_assume!(all.iter().any(|d| d.at < at) && all.iter().any(|d| d.at >= at));
        match ClockRelation::of(&exchanges, LIMITS) {
            Err(ClockError::Stepped(step)) => {
                prop_assert!(step.after < BEGIN + at && BEGIN + at <= step.before, "{step:?} {at}");
                prop_assert!(step.at_least <= 40 * SECOND);
            }
            other => prop_assert!(false, "{other:?}"),
        }
    }
}

/// The interval at an instant by brute force: the extreme lines touch a point of each cloud, or two
/// of one, or have the greatest drift.
fn by_pairs(exchanges: &[Exchange], at: Nanos) -> (f64, f64) {
    let x = |t: Nanos| difference(t, at) as f64;
    let base = exchanges[0].offset();
    let above: Vec<(f64, f64)> = exchanges.iter().map(|e| (x(e.t1), (e.most() - base + 1) as f64)).collect();
    let below: Vec<(f64, f64)> = exchanges.iter().map(|e| (x(e.t4), (e.least() - base - 1) as f64)).collect();
    let all: Vec<(f64, f64)> = above.iter().chain(&below).copied().collect();
    let mut lines: Vec<(f64, f64)> = Vec::new();
    for (i, p) in all.iter().enumerate() {
        lines.extend([(*p, LIMITS.drift), (*p, -LIMITS.drift)].map(|((x, y), d)| (y - d * x, d)));
        for q in &all[i + 1..] {
            let d = (q.1 - p.1) / (q.0 - p.0);
            if d.abs() <= LIMITS.drift {
                lines.push((p.1 - d * p.0, d));
            }
        }
    }
    let allowed = |(a, d): &&(f64, f64)| {
        above.iter().all(|(x, y)| a + d * x <= y + 1e-3) && below.iter().all(|(x, y)| a + d * x >= y - 1e-3)
    };
    let offsets: Vec<f64> = lines.iter().filter(allowed).map(|(a, _)| *a).collect();
    let (low, high) = offsets.iter().fold((f64::INFINITY, f64::NEG_INFINITY), |(l, h), a| (l.min(*a), h.max(*a)));
    (base as f64 + low, base as f64 + high)
}
