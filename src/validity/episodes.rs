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
    let in_one = |i: usize| slow[i] || beside(i, i + 1) || (i > 0 && beside(i, i - 1));
    let mut episodes: Vec<std::ops::Range<usize>> = Vec::new();
    for i in (0..blocks.len()).filter(|i| in_one(*i)) {
        match episodes.last_mut().filter(|e| e.end == i) {
            Some(episode) => episode.end = i + 1,
            None => episodes.push(i..i + 1),
        }
    }
    let all: u64 = blocks.iter().map(|b| b.above).sum();
    let of_them: u64 = episodes.iter().flat_map(|e| &blocks[e.clone()]).map(|b| b.above).sum();
    let mut doubt = TailDoubt {
        episodes: episodes.len() as u32,
        share: of_them as f64 / all.max(1) as f64,
        ..TailDoubt::default()
    };
    for episode in &episodes {
        for b in &blocks[episode.clone()] {
            if b.longest > doubt.longest_ns {
                (doubt.longest_ns, doubt.at_s) = (b.longest, b.start_s);
                // While nothing moves, every message that is due waits for the end, and nobody
                // else. The end of it may be in the next block, where none is above the
                // percentile.
                let around = episode.start.saturating_sub(1)..(episode.end + 1).min(blocks.len());
                let late: u64 = blocks[around].iter().map(|b| b.late).sum();
                let due = rate(blocks) * doubt.longest_ns as f64 / 1e9;
                doubt.stall = doubt.longest_ns >= 10 * typical && (0.5 * due..=2.0 * due).contains(&(late as f64));
            }
        }
    }
    doubt
}

/// The usual number of samples a second.
fn rate(blocks: &[TailInterval]) -> f64 {
    let mut rates: Vec<f64> = blocks.iter().map(|b| b.count as f64 / b.length_s.max(1e-9)).collect();
    rates.sort_unstable_by(f64::total_cmp);
    rates.get(rates.len() / 2).copied().unwrap_or(0.0)
}
