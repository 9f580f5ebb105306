//! Loops of three clocks: offsets round a loop add up to nothing, or a bound does not hold.
//!
//! theta_ab + theta_bc + theta_ca = 0 at one instant, whatever the clocks show. The delays of the
//! three links have nothing to do with each other, so a loop that does not close finds what no
//! single link can: a clock that is not even, stamps that are wrong (Geng et al., NSDI 2018, who
//! correct by it; here it is a check).

use super::interval::OffsetInterval;
use super::relation::ClockRelation;
use crate::units::Nanos;

/// The sum of the offsets round a loop of three clocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LoopSum(pub OffsetInterval);

impl LoopSum {
    /// Whether the three agree: nothing is among the sums that they allow.
    pub fn closes(&self) -> bool {
        self.0.contains(0)
    }

    /// By how much they fail to agree, ns.
    pub fn open_by(&self) -> Nanos {
        if self.closes() { 0 } else { self.0.low.unsigned_abs().min(self.0.high.unsigned_abs()) }
    }
}

/// Of the relations of `b` as seen from `a`, `c` from `b`, and `a` from `c`, at an instant of the
/// clock of `a`. What the other clocks showed at that instant is itself an interval, and each
/// offset is taken over all of it.
pub fn loop_of_three(ab: &ClockRelation, bc: &ClockRelation, ca: &ClockRelation, at_a: Nanos) -> LoopSum {
    let at_b = ab.there_at(at_a);
    let to_c = bc.offset_over(at_b.0, at_b.1);
    let at_c = (at_b.0.saturating_add_signed(to_c.low), at_b.1.saturating_add_signed(to_c.high));
    LoopSum(ab.offset_at(at_a).plus(to_c).plus(ca.offset_over(at_c.0, at_c.1)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clocks::{ClockLimits, Exchange, LocalClock};
    use crate::units::SECOND;

    /// What one clock finds of another with these delays, for a second.
    fn relation(here: LocalClock, there: LocalClock, out: Nanos, back: Nanos) -> ClockRelation {
        let one = |k: Nanos| {
            let at = 50 * SECOND + k * 20_000_000;
            Exchange { t1: here.at(at), t2: there.at(at + out), t3: there.at(at + out), t4: here.at(at + out + back) }
        };
        let all: Vec<Exchange> = (0..50).map(one).collect();
        ClockRelation::of(&all, ClockLimits::default()).unwrap()
    }

    fn clocks() -> [LocalClock; 3] {
        [(0, 0.0), (-3_000_000_000, 40e-6), (900_000_000_000, -25e-6)]
            .map(|(shift, drift)| LocalClock::wrong_by(shift, drift, 50 * SECOND))
    }

    #[test]
    fn three_true_relations_close() {
        let [a, b, c] = clocks();
        let (ab, bc, ca) =
            (relation(a, b, 300_000, 9_000_000), relation(b, c, 20_000, 30_000), relation(c, a, 5_000_000, 1_000));
        for ms in [0, 300, 1000] {
            let sum = loop_of_three(&ab, &bc, &ca, a.at(50 * SECOND + ms * 1_000_000));
            assert!(sum.closes(), "{ms}: {sum:?}");
            assert_eq!(sum.open_by(), 0);
        }
    }

    /// One whose stamps were off by more than all bounds together: only the loop finds it.
    #[test]
    fn a_wrong_relation_leaves_the_loop_open() {
        let [a, b, c] = clocks();
        let lie = LocalClock::wrong_by(900_000_000_000 + 1_000_000, -25e-6, 50 * SECOND);
        let (ab, bc, ca) =
            (relation(a, b, 30_000, 90_000), relation(b, c, 20_000, 30_000), relation(lie, a, 50_000, 10_000));
        let sum = loop_of_three(&ab, &bc, &ca, a.at(50 * SECOND));
        assert!(!sum.closes() && (800_000..1_000_000).contains(&sum.open_by()), "{sum:?}");
    }
}
