//! Loops of three clocks: offsets round a loop add up to nothing, or a bound does not hold.
//!
//! theta_ab + theta_bc + theta_ca = 0 at one instant, whatever the clocks show. The delays of the
//! three ways have nothing to do with each other, so a loop that does not close finds what no
//! single one can: a clock that is not even, readings that are wrong (Geng et al., NSDI 2018, who
//! correct by it; here it is a check).

use super::interval::OffsetInterval;
use crate::units::Nanos;

/// By how much three intervals fail to agree, ns; 0 where they do: the offset of b as seen from a,
/// of c from b, and of a from c, all at one instant.
pub fn loop_open_by(ab: OffsetInterval, bc: OffsetInterval, ca: OffsetInterval) -> Nanos {
    let sum = ab.plus(bc).plus(ca);
    if sum.contains(0) { 0 } else { sum.low.unsigned_abs().min(sum.high.unsigned_abs()) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// An interval with the truth in it.
    fn around(truth: i64, (below, above): (i64, i64)) -> OffsetInterval {
        OffsetInterval { low: truth - below, high: truth + above }
    }

    proptest! {
        /// Three intervals that have the truth in them agree, and one that is wrong by more than
        /// all of them leave open is found, with no more than its error.
        #[test]
        fn true_intervals_close_and_a_lie_does_not(
            a in -10i64.pow(15)..10i64.pow(15), b in -10i64.pow(15)..10i64.pow(15), c in -10i64.pow(15)..10i64.pow(15),
            rooms in prop::array::uniform3((0i64..50_000_000, 0i64..50_000_000)),
            beyond in 1i64..1_000_000_000, up: bool,
        ) {
            let (ab, bc, ca) = (around(b - a, rooms[0]), around(c - b, rooms[1]), around(a - c, rooms[2]));
            prop_assert_eq!(loop_open_by(ab, bc, ca), 0);
            let room: i64 = rooms.iter().map(|r| if up { r.0 } else { r.1 }).sum();
            let lie = if up { room + beyond } else { -(room + beyond) };
            let wrong = OffsetInterval { low: bc.low + lie, high: bc.high + lie };
            prop_assert_eq!(loop_open_by(ab, wrong, ca), beyond as u64);
        }
    }
}
