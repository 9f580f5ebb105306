//! When message k is due: pure, decided beforehand, independent of the system under test.
//!
//! A rate over time integrates to N(t), the messages due until t. Constant arrivals place message k
//! at N^-1(k); a Poisson process of the same rate places it at N^-1(E1 + ... + Ek) with unit
//! exponentials E (time-change theorem). Producers share a workload: constant arrivals are dealt
//! out in turn, Poisson processes are split into independent ones of 1/P of the rate, whose
//! superposition is the process asked for.

use rand::SeedableRng;
use rand::rngs::StdRng;
use rand_distr::{Distribution, Exp1};

use crate::units::{Nanos, SECOND};

/// A piece of the rate over time: linear from `from` to `to` messages per second.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct RatePiece {
    /// Length.
    pub span: Nanos,
    /// Rate at its start.
    pub from: f64,
    /// Rate at its end.
    pub to: f64,
}

impl RatePiece {
    fn seconds(&self) -> f64 {
        self.span as f64 / SECOND as f64
    }
    fn messages(&self) -> f64 {
        (self.from + self.to) / 2.0 * self.seconds()
    }
    /// Seconds into the piece until `n` messages are due: the root of slope/2 t^2 + from t = n, in
    /// the form that stays exact for a vanishing slope.
    fn when(&self, n: f64) -> f64 {
        let slope = if self.span == 0 { 0.0 } else { (self.to - self.from) / self.seconds() };
        let root = (self.from * self.from + 2.0 * slope * n).max(0.0).sqrt();
        2.0 * n / (self.from + root)
    }
}

/// Who takes which messages of a workload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ScheduleShare {
    /// This producer, from 0.
    pub index: u32,
    /// All producers of the workload.
    pub of: u32,
}

/// How messages are placed along the profile.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ArrivalProcess {
    /// Evenly.
    Constant,
    /// At random, from this seed.
    Poisson(u64),
}

/// The instants at which one producer's messages are due, as offsets from the start of the
/// schedule; never ends.
#[derive(Debug)]
pub struct Schedule {
    pieces: Vec<RatePiece>,
    repeat: bool,
    /// Current piece, its start in nanoseconds, and the messages due before it.
    at: usize,
    start: Nanos,
    before: f64,
    next: NextArrival,
}

#[derive(Debug)]
enum NextArrival {
    Constant { k: u64, step: u64 },
    Poisson { sum: f64, scale: f64, random: Box<StdRng> },
}

impl Schedule {
    /// The share of one producer. `pieces` has at least one piece of a rate above zero.
    pub fn new(pieces: Vec<RatePiece>, repeat: bool, process: &ArrivalProcess, share: ScheduleShare) -> Self {
        let next = match process {
            ArrivalProcess::Constant => NextArrival::Constant { k: u64::from(share.index), step: u64::from(share.of) },
            ArrivalProcess::Poisson(seed) => NextArrival::Poisson {
                sum: 0.0,
                scale: f64::from(share.of),
                random: Box::new(StdRng::seed_from_u64(
                    seed ^ u64::from(share.index).wrapping_add(1).wrapping_mul(0x9E37_79B9_7F4A_7C15),
                )),
            },
        };
        Self { pieces, repeat, at: 0, start: 0, before: 0.0, next }
    }

    /// The inverse of the integrated rate, for rising `n`.
    fn when(&mut self, n: f64) -> Nanos {
        loop {
            let piece = self.pieces[self.at];
            let last = !self.repeat && self.at + 1 == self.pieces.len();
            let due = piece.messages();
            if n - self.before < due {
                return self.start + (piece.when(n - self.before) * SECOND as f64).round() as Nanos;
            }
            if last {
                // The last rate holds without end.
                let beyond = (n - self.before - due) / piece.to.max(f64::MIN_POSITIVE);
                return (self.start + piece.span).saturating_add((beyond * SECOND as f64).round() as Nanos);
            }
            self.before += due;
            self.start += piece.span;
            self.at = (self.at + 1) % self.pieces.len();
        }
    }
}

impl Iterator for Schedule {
    type Item = Nanos;
    fn next(&mut self) -> Option<Nanos> {
        let n = match &mut self.next {
            NextArrival::Constant { k, step } => {
                let n = *k as f64;
                *k += *step;
                n
            }
            NextArrival::Poisson { sum, scale, random } => {
                let gap: f64 = Exp1.sample(random);
                *sum += gap * *scale;
                *sum
            }
        };
        Some(self.when(n))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const ALL: ScheduleShare = ScheduleShare { index: 0, of: 1 };

    fn constant(rate: f64) -> Vec<RatePiece> {
        vec![RatePiece { span: SECOND, from: rate, to: rate }]
    }

    #[test]
    fn constant_arrivals_are_exact_and_do_not_drift() {
        let mut s = Schedule::new(constant(3.0), false, &ArrivalProcess::Constant, ALL);
        let first: Vec<_> = s.by_ref().take(4).collect();
        assert_eq!(first, [0, 333_333_333, 666_666_667, SECOND]);
        assert_eq!(s.nth(3_000_000 - 5), Some(1_000_000 * SECOND - 333_333_333));
    }

    #[test]
    fn a_ramp_places_messages_by_its_integral() {
        // 0 to 100/s over 10 s: N(t) = 5 t^2, so message 125 is due at 5 s.
        let ramp = vec![RatePiece { span: 10 * SECOND, from: 0.0, to: 100.0 }];
        let mut s = Schedule::new(ramp, false, &ArrivalProcess::Constant, ALL);
        assert_eq!(s.nth(125), Some(5 * SECOND));
        assert_eq!(s.nth(499 - 126), Some((10.0f64 * (499.0f64 / 500.0).sqrt() * 1e9).round() as u64));
        assert_eq!(s.nth(100), Some(11 * SECOND));
    }

    #[test]
    fn bursts_are_silent_between() {
        let pieces = vec![
            RatePiece { span: SECOND / 10, from: 1000.0, to: 1000.0 },
            RatePiece { span: 9 * SECOND / 10, from: 0.0, to: 0.0 },
        ];
        let s = Schedule::new(pieces, true, &ArrivalProcess::Constant, ALL);
        let due: Vec<_> = s.take(300).collect();
        assert!(due.iter().all(|t| t % SECOND < SECOND / 10));
        assert_eq!(due[200] / SECOND, 2);
    }

    #[test]
    fn poisson_has_the_rate_and_the_variance_of_its_law() {
        let s = Schedule::new(constant(1000.0), false, &ArrivalProcess::Poisson(7), ALL);
        let mut counts = [0f64; 200];
        for t in s.take_while(|t| *t < 20 * SECOND) {
            counts[(t / (SECOND / 10)) as usize] += 1.0;
        }
        let mean = counts.iter().sum::<f64>() / 200.0;
        let variance = counts.iter().map(|c| (c - mean).powi(2)).sum::<f64>() / 199.0;
        assert!((mean - 100.0).abs() < 3.0, "mean {mean}");
        // Index of dispersion of a Poisson process is 1; chi-square bounds for 200 windows at 1e-4.
        assert!((0.65..1.45).contains(&(variance / mean)), "dispersion {}", variance / mean);
    }

    proptest! {
        #[test]
        fn shares_of_a_constant_schedule_are_the_whole(of in 1u32..6, rate in 1.0f64..1e6) {
            let mut dealt: Vec<_> = (0..of)
                .flat_map(|index| Schedule::new(constant(rate), false, &ArrivalProcess::Constant, ScheduleShare { index, of }).take(50))
                .collect();
            dealt.sort_unstable();
            let whole: Vec<_> = Schedule::new(constant(rate), false, &ArrivalProcess::Constant, ALL).take(50 * of as usize).collect();
            prop_assert_eq!(dealt, whole);
        }
        #[test]
        fn instants_never_go_back(seed: u64, from in 1.0f64..1e5, to in 1.0f64..1e5, repeat: bool) {
            let pieces = vec![RatePiece { span: SECOND / 3, from, to }, RatePiece { span: SECOND / 7, from: to, to: from }];
            let due: Vec<_> = Schedule::new(pieces, repeat, &ArrivalProcess::Poisson(seed), ALL).take(500).collect();
            prop_assert!(due.windows(2).all(|w| w[0] <= w[1]));
        }
    }
}
