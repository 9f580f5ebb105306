//! What a percentile hangs on where the samples above it came together: the stalls, or slow spells,
//! that most of them are of.

use crate::record::TailDoubt;
use crate::stats::quantile::MIN_BLOCKS;
use crate::units::Nanos;

/// One interval of a trial, as one percentile sees it.
#[derive(Debug, Clone, Copy)]
pub struct TailInterval {
    /// Start and length, seconds.
    pub start_s: f64,
    pub length_s: f64,
    /// Samples.
    pub count: u64,
    /// Of those, above the percentile.
    pub above: u64,
    /// Of those, more than three times as long as the median of the trial.
    pub late: u64,
    pub longest: Nanos,
}

/// The episodes of a percentile: runs of blocks that have clearly more samples above it than their
/// share, with what of them reaches into the block before or after. `typical` is the median latency
/// of the trial.
pub fn of(blocks: &[TailInterval], quantile: f64, typical: Nanos) -> TailDoubt {
    // Ten samples of one stall may be in two blocks. Of many blocks one has more than its share by
    // chance.
    let width = if blocks.len() < MIN_BLOCKS { 2.5 } else { 4.0 };
    let slow: Vec<bool> = blocks
        .iter()
        .map(|b| {
            let expected = b.count as f64 * (1.0 - quantile);
            b.above as f64 > expected + width * expected.sqrt() + 1.0
        })
        .collect();
    let beside = |i: usize, j: usize| {
        slow.get(j).is_some_and(|slow| *slow) && blocks[j].above > 0 && 2 * blocks[i].longest >= blocks[j].longest
    };
    let all: u64 = blocks.iter().map(|b| b.above).sum();
    let (mut doubt, mut of_them, mut late, mut here, mut longest_in) = (TailDoubt::default(), 0, 0, false, 0);
    for (i, b) in blocks.iter().enumerate() {
        let was = std::mem::replace(&mut here, slow[i] || beside(i, i + 1) || (i > 0 && beside(i, i - 1)));
        if !here {
            continue;
        }
        if !was {
            doubt.episodes += 1;
            late = 0;
        }
        of_them += b.above;
        late += b.late;
        if b.longest > doubt.longest_ns {
            (doubt.longest_ns, doubt.at_s, longest_in) = (b.longest, b.start_s, doubt.episodes);
        }
        // While nothing moves, every message that is due waits for the end, and nobody else.
        if longest_in == doubt.episodes {
            let due = rate(blocks) * doubt.longest_ns as f64 / 1e9;
            doubt.stall = doubt.longest_ns >= 10 * typical && (0.5 * due..=2.0 * due).contains(&(late as f64));
        }
    }
    doubt.share = of_them as f64 / all.max(1) as f64;
    doubt
}

/// The usual number of samples a second.
fn rate(blocks: &[TailInterval]) -> f64 {
    let mut rates: Vec<f64> = blocks.iter().map(|b| b.count as f64 / b.length_s.max(1e-9)).collect();
    rates.sort_unstable_by(f64::total_cmp);
    rates.get(rates.len() / 2).copied().unwrap_or(0.0)
}
