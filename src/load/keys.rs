//! Which key a message has: a pure function of producer and sequence number, so that a consumer
//! knows it too and can check the order within a key without being told.

use std::sync::Arc;

/// Chooses keys `0..n`.
#[derive(Debug, Clone)]
pub struct KeyChooser {
    n: u64,
    seed: u64,
    choice: KeyChoice,
}

#[derive(Debug, Clone)]
enum KeyChoice {
    Turn,
    Uniform,
    /// Cumulative weights, ending in 1.
    Weighted(Arc<[f64]>),
}

impl KeyChooser {
    /// `n` keys in turn.
    pub fn round_robin(n: u32) -> Self {
        Self { n: u64::from(n), seed: 0, choice: KeyChoice::Turn }
    }
    /// `n` keys, each equally likely.
    pub fn uniform(n: u32, seed: u64) -> Self {
        Self { n: u64::from(n), seed, choice: KeyChoice::Uniform }
    }
    /// `n` keys, key k of 1..=n with a weight of 1 / k^exponent (Zipf's law), by inversion of the
    /// cumulative weights.
    pub fn zipf(n: u32, exponent: f64, seed: u64) -> Self {
        let mut sum = 0.0;
        let mut cumulative: Vec<f64> = Vec::with_capacity(n as usize);
        for k in 1..=n {
            sum += f64::from(k).powf(-exponent);
            cumulative.push(sum);
        }
        cumulative.iter_mut().for_each(|c| *c /= sum);
        Self { n: u64::from(n), seed, choice: KeyChoice::Weighted(cumulative.into()) }
    }
    /// How many keys there are.
    pub fn count(&self) -> u64 {
        self.n
    }
    /// The key of a message.
    #[inline]
    pub fn of(&self, producer: u32, sequence: u64) -> u64 {
        let random = || splitmix(self.seed ^ splitmix(u64::from(producer) << 40 ^ sequence));
        match &self.choice {
            KeyChoice::Turn => sequence % self.n,
            KeyChoice::Uniform => ((u128::from(random()) * u128::from(self.n)) >> 64) as u64,
            KeyChoice::Weighted(cumulative) => {
                let u = (random() >> 11) as f64 / (1u64 << 53) as f64;
                (cumulative.partition_point(|c| *c <= u) as u64).min(self.n - 1)
            }
        }
    }
}

/// Steele, Lea, Flood 2014, "Fast splittable pseudorandom number generators": the finaliser of
/// SplitMix64.
fn splitmix(x: u64) -> u64 {
    let x = x.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let x = (x ^ x >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let x = (x ^ x >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ x >> 31
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shares(keys: &KeyChooser, messages: u64) -> Vec<f64> {
        let mut counts = vec![0u64; keys.count() as usize];
        (0..messages).for_each(|s| counts[keys.of(3, s) as usize] += 1);
        counts.iter().map(|c| *c as f64 / messages as f64).collect()
    }

    #[test]
    fn keys_come_as_often_as_they_weigh() {
        assert_eq!(shares(&KeyChooser::round_robin(4), 4000), [0.25; 4]);
        for share in shares(&KeyChooser::uniform(5, 9), 100_000) {
            // Five standard deviations of a binomial share.
            assert!((share - 0.2).abs() < 5.0 * (0.2f64 * 0.8 / 1e5).sqrt(), "{share}");
        }
        let harmonic = 1.0 + 1.0 / 2.0 + 1.0 / 3.0;
        for (k, share) in shares(&KeyChooser::zipf(3, 1.0, 9), 100_000).into_iter().enumerate() {
            let expected = 1.0 / (k as f64 + 1.0) / harmonic;
            assert!((share - expected).abs() < 5.0 * (expected * (1.0 - expected) / 1e5).sqrt(), "{k}: {share}");
        }
    }

    #[test]
    fn both_ends_agree_and_producers_differ() {
        let (a, b) = (KeyChooser::uniform(1000, 7), KeyChooser::uniform(1000, 7));
        assert!((0..100).all(|s| a.of(1, s) == b.of(1, s)));
        assert!((0..100).any(|s| a.of(1, s) != a.of(2, s)));
    }
}
