//! The counts of an encoded histogram, read one by one.
//!
//! To add a histogram to another it need not be made: its array has 34,000 places and is 270 KB,
//! and an interval of an agent fills a thousand of them. Only the layout of the house is read here
//! (from 1 ns, 3 significant digits, HdrHistogram's V2 without compression); what has another one
//! is left to the library.

use hdrhistogram::Histogram;

const COOKIE: u32 = 0x1c84_9313;
/// Bytes before the counts: cookie, length of the counts, offset, digits, low, high, ratio.
const HEADER: usize = 40;
/// Places of a bucket at 3 significant digits; the first has twice as many.
const HALF: u64 = 1024;

/// An encoded histogram of the layout of the house.
pub struct EncodedCounts<'a> {
    high: u64,
    payload: &'a [u8],
}

impl<'a> EncodedCounts<'a> {
    /// None where the layout is another one.
    pub fn of(bytes: &'a [u8]) -> Option<Self> {
        let four = |at: usize| Some(u32::from_be_bytes(bytes.get(at..at + 4)?.try_into().ok()?));
        let eight = |at: usize| Some(u64::from_be_bytes(bytes.get(at..at + 8)?.try_into().ok()?));
        let usual = four(0)? == COOKIE && four(8)? == 0 && four(12)? == 3 && eight(16)? == 1;
        let (high, ratio) = (eight(24)?, f64::from_bits(eight(32)?));
        let payload = bytes.get(HEADER..HEADER.checked_add(four(4)? as usize)?)?;
        (usual && ratio == 1.0 && (2..=u64::MAX / 4).contains(&high)).then_some(Self { high, payload })
    }

    /// How many places its histogram has.
    fn places(&self) -> u64 {
        let (mut buckets, mut above) = (1, 2 * HALF);
        while above <= self.high {
            (buckets, above) = (buckets + 1, above << 1);
        }
        (buckets + 1) * HALF
    }

    /// Gives each value that was counted, and how often; false where the encoding is broken.
    pub fn each(&self, mut take: impl FnMut(u64, u64)) -> bool {
        let (mut rest, mut place, places) = (self.payload, 0u64, self.places());
        while !rest.is_empty() {
            let Some(count) = number(&mut rest) else { return false };
            let next = place.checked_add(if count < 0 { count.unsigned_abs() } else { 1 });
            if count > 0 {
                if place >= places {
                    return false;
                }
                take(value(place), count as u64);
            }
            let Some(next) = next else { return false };
            place = next;
        }
        true
    }

    /// Adds it to a histogram; false, and nothing is added, where that has another layout.
    pub fn add_to(&self, all: &mut Histogram<u64>) -> bool {
        let same = (all.low(), all.high(), all.sigfig()) == (1, self.high, 3);
        // The places are those of `all`.
        same && self.each(|value, count| {
            let _ = all.record_n(value, count);
        })
    }
}

/// The least value of a place.
fn value(place: u64) -> u64 {
    match (place / HALF).checked_sub(1) {
        None => place,
        Some(bucket) => (place % HALF + HALF) << bucket,
    }
}

/// The next number: seven bits a byte, the least first, eight in the ninth; its sign is the lowest
/// bit.
fn number(rest: &mut &[u8]) -> Option<i64> {
    let mut n = 0u64;
    for at in 0..9 {
        let (byte, after) = rest.split_first()?;
        *rest = after;
        let more = at < 8 && *byte & 0x80 != 0;
        n |= u64::from(if at < 8 { byte & 0x7f } else { *byte }) << (7 * at);
        if !more {
            break;
        }
    }
    Some((n >> 1) as i64 ^ -((n & 1) as i64))
}

#[cfg(test)]
mod tests {
    use hdrhistogram::serialization::{Deserializer, Serializer, V2Serializer};
    use proptest::prelude::*;

    use super::*;

    fn house() -> Histogram<u64> {
        Histogram::new_with_bounds(1, 3_600_000_000_000, 3).unwrap()
    }

    fn encoded(histogram: &Histogram<u64>) -> Vec<u8> {
        let mut bytes = Vec::new();
        V2Serializer::new().serialize(histogram, &mut bytes).unwrap();
        bytes
    }

    proptest! {
        /// What is added count by count is what the library adds, with its least and its largest.
        #[test]
        fn it_is_the_sum_that_the_library_makes(
            first in prop::collection::vec((0u64..3_600_000_000_000, 1u64..1 << 40), 0..60),
            shift in prop::collection::vec((0u32..42, 1u64..3), 0..60),
            huge in prop_oneof![Just(0u64), 1u64 << 54..(1 << 63) - 1],
        ) {
            let (mut all, mut more) = (house(), house());
            first.iter().for_each(|(v, n)| all.record_n(*v, *n).unwrap());
            shift.iter().for_each(|(v, n)| more.record_n((1u64 << v).min(3_600_000_000_000), *n).unwrap());
            // Its number takes nine bytes.
            if huge > 0 {
                more.record_n(5, huge).unwrap();
            }
            let mut expected = all.clone();
            expected.add(&more).unwrap();
            let bytes = encoded(&more);
            prop_assert!(EncodedCounts::of(&bytes).unwrap().add_to(&mut all));
            prop_assert_eq!(&all, &expected);
            prop_assert_eq!((all.max(), all.min_nz(), all.len()), (expected.max(), expected.min_nz(), expected.len()));
        }

        /// Of any bytes behind the header it takes what the library takes, and no more.
        #[test]
        fn what_the_library_refuses_is_refused(
            payload in prop::collection::vec(prop_oneof![any::<u8>(), 0u8..4, Just(0xff)], 0..40), high in 2u64..1 << 45,
        ) {
            let mut bytes = encoded(&Histogram::<u64>::new_with_bounds(1, high, 3).unwrap());
            bytes.truncate(HEADER);
            bytes[4..8].copy_from_slice(&(payload.len() as u32).to_be_bytes());
            bytes.extend(&payload);
            let mine = EncodedCounts::of(&bytes).is_some_and(|it| it.each(|_, _| ()));
            let library: Result<Histogram<u64>, _> = Deserializer::new().deserialize(&mut &bytes[..]);
            prop_assert_eq!(mine, library.is_ok(), "{:?}", library.err());
        }
    }

    #[test]
    fn other_layouts_are_left_to_the_library() {
        let other = Histogram::<u64>::new_with_bounds(1, 1_000_000, 2).unwrap();
        assert!(EncodedCounts::of(&encoded(&other)).is_none());
        assert!(EncodedCounts::of(&[1, 2, 3]).is_none());
        let small = encoded(&Histogram::<u64>::new_with_bounds(1, 1_000_000, 3).unwrap());
        assert!(!EncodedCounts::of(&small).unwrap().add_to(&mut house()));
    }
}
