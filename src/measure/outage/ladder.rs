//! Counts of latencies in classes, for each short window of due time: enough to follow a p99 from
//! window to window.

use serde::{Deserialize, Serialize};

use crate::units::Nanos;

/// Classes of an octave: a latency is known to a tenth.
const PARTS: u32 = 8;
/// Latencies below are of the first class: 2^14 ns, 16 us.
const LOW: u32 = 14;
/// Octaves above it: up to 2^36 ns, 68 s.
const OCTAVES: u32 = 22;
/// Classes of latencies.
pub(super) const CLASSES: usize = (OCTAVES * PARTS + 1) as usize;

/// The class of a latency; they ascend.
#[inline]
pub(super) fn class(latency: Nanos) -> usize {
    let Some(octave) = (latency >> LOW).checked_ilog2() else { return 0 };
    let part = (latency >> (LOW + octave - PARTS.ilog2())) as u32 & (PARTS - 1);
    ((octave * PARTS + part + 1) as usize).min(CLASSES - 1)
}

/// The upper end of a class.
pub(super) fn upper(class: usize) -> Nanos {
    let Some(above) = class.checked_sub(1) else { return 1 << LOW };
    let (octave, part) = (above as u32 / PARTS, above as u32 % PARTS);
    (Nanos::from(PARTS + part + 1) << (LOW + octave)) / Nanos::from(PARTS)
}

/// See the module.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct LatencyLadder {
    /// By window and class.
    counts: Vec<u16>,
}

impl LatencyLadder {
    pub(super) fn new(windows: usize) -> Self {
        Self { counts: vec![0; windows * CLASSES] }
    }

    #[inline]
    pub(super) fn note(&mut self, window: usize, latency: Nanos) {
        let count = &mut self.counts[window * CLASSES + class(latency)];
        *count = count.saturating_add(1);
    }

    pub(super) fn sound(&self, windows: usize) -> bool {
        self.counts.len() == windows * CLASSES
    }

    pub(super) fn merge(&mut self, other: &Self) {
        self.counts.iter_mut().zip(&other.counts).for_each(|(a, b)| *a = a.saturating_add(*b));
    }

    /// The counts of a window by class.
    pub(super) fn window(&self, window: usize) -> &[u16] {
        &self.counts[window * CLASSES..(window + 1) * CLASSES]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn classes_ascend_and_are_narrow(a in 1u64..100_000_000_000, b in 1u64..100_000_000_000) {
            let (low, high) = (a.min(b), a.max(b));
            prop_assert!(class(low) <= class(high));
            if low < 1 << (LOW + OCTAVES - 1) {
                prop_assert!(upper(class(low)) >= low && class(upper(class(low)) - 1) == class(low), "{low}");
            }
            if low > 1 << LOW && high < 1 << (LOW + OCTAVES) && class(low) == class(high) {
                prop_assert!(high as f64 / low as f64 <= 1.126, "{low} and {high} are of one class");
            }
        }
    }
}
