//! A histogram as it is kept: compressed, a few KB instead of the 270 KB that a histogram takes while it is filled.
//!
//! A run of an hour has thousands of intervals of several kinds; kept open they would be gigabytes.

use hdrhistogram::Histogram;
use hdrhistogram::serialization::{Deserializer, Serializer, V2Serializer};

/// See the module. The encoding is HdrHistogram's V2.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Packed(Box<[u8]>);

impl Packed {
    /// Compresses a histogram.
    pub fn of(histogram: &Histogram<u64>) -> Self {
        let mut bytes = Vec::new();
        V2Serializer::new()
            .serialize(histogram, &mut bytes)
            .expect("counts of 64 bits fit, and memory takes every byte");
        Self(bytes.into())
    }

    /// The histogram that was compressed.
    pub fn open(&self) -> Histogram<u64> {
        Deserializer::new().deserialize(&mut &self.0[..]).expect("what was packed here can be unpacked")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(16))]
        #[test]
        fn nothing_is_lost_and_it_is_small(values in prop::collection::vec(1u64..3_600_000_000_000, 0..400)) {
            let mut histogram = Histogram::new_with_bounds(1, 3_600_000_000_000, 3).unwrap();
            values.iter().for_each(|v| histogram.record(*v).unwrap());
            let packed = Packed::of(&histogram);
            prop_assert_eq!(packed.open(), histogram);
            prop_assert!(packed.0.len() < 8_000, "{}", packed.0.len());
        }
    }
}
