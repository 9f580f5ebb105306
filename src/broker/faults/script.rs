//! Which faults hit which message, decided from its number and the seed alone: no clock, no I/O.
//!
//! Each kind of fault draws from a random stream of its own, so that adding one fault does not move
//! the hits of another.

use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng};
use rand_distr::{Distribution, Exp1};

use crate::faults::{DurationLaw, Faults, HitRule, Stall};
use crate::units::Nanos;

/// The faults that hit one message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct FaultDecision {
    /// It is worked on for so long.
    pub service: Nanos,
    /// It is delivered so much later.
    pub delay: Nanos,
    /// It is not delivered; then nothing below applies.
    pub drop: bool,
    /// It is delivered twice.
    pub duplicate: bool,
    /// It changes places with the next.
    pub swap: bool,
    /// A bit of it is turned over.
    pub corrupt: bool,
}

/// Decides for one message after another.
#[derive(Debug)]
pub struct FaultScript {
    number: u64,
    service: Option<DurationSampler>,
    delay: Option<DurationSampler>,
    drop: Option<HitSampler>,
    duplicate: Option<HitSampler>,
    swap: Option<HitSampler>,
    corrupt: Option<HitSampler>,
}

#[derive(Debug)]
struct DurationSampler(DurationLaw, StdRng);

impl DurationSampler {
    fn next(&mut self) -> Nanos {
        match self.0 {
            DurationLaw::Fixed(span) => span.0,
            DurationLaw::Exponential(mean) => {
                let unit: f64 = Exp1.sample(&mut self.1);
                (unit * mean.0 as f64).round() as Nanos
            }
            DurationLaw::Mixture(m) => {
                if self.1.random_bool(m.share) {
                    m.long.0
                } else {
                    m.short.0
                }
            }
        }
    }
}

#[derive(Debug)]
struct HitSampler(HitRule, StdRng);

impl HitSampler {
    fn hit(&mut self, number: u64) -> bool {
        match self.0 {
            HitRule::Every(n) => number.is_multiple_of(n),
            HitRule::Probability(p) => self.1.random_bool(p),
        }
    }
}

/// The random stream of one kind of fault.
fn stream(seed: u64, kind: u64) -> StdRng {
    StdRng::seed_from_u64(seed ^ kind.wrapping_mul(0x9E37_79B9_7F4A_7C15))
}

impl FaultScript {
    /// The script of these faults.
    pub fn new(f: &Faults) -> Self {
        Self::after(f, 0)
    }

    /// The script of these faults for messages after so many.
    pub fn after(f: &Faults, number: u64) -> Self {
        let draw = |law: Option<DurationLaw>, kind| law.map(|law| DurationSampler(law, stream(f.seed, kind)));
        let hits = |pick: Option<HitRule>, kind| pick.map(|pick| HitSampler(pick, stream(f.seed, kind)));
        Self {
            number,
            service: draw(f.service, 1),
            delay: draw(f.delay, 2),
            drop: hits(f.drop, 3),
            duplicate: hits(f.duplicate, 4),
            swap: hits(f.swap, 5),
            corrupt: hits(f.corrupt, 6),
        }
    }

    /// How many messages there have been.
    pub fn number(&self) -> u64 {
        self.number
    }

    /// The number and the fate of the next message.
    pub fn next(&mut self) -> (u64, FaultDecision) {
        self.number += 1;
        let n = self.number;
        let draw = |draw: &mut Option<DurationSampler>| draw.as_mut().map_or(0, DurationSampler::next);
        // Every stream moves on at every message, whatever the others say.
        let hit = |hits: &mut Option<HitSampler>| hits.as_mut().is_some_and(|h| h.hit(n));
        let decision = FaultDecision {
            service: draw(&mut self.service),
            delay: draw(&mut self.delay),
            drop: hit(&mut self.drop),
            duplicate: hit(&mut self.duplicate),
            swap: hit(&mut self.swap),
            corrupt: hit(&mut self.corrupt),
        };
        (n, decision)
    }
}

/// Decides for one delivery after another.
#[derive(Debug)]
pub struct DeliveryScript {
    number: u64,
    drop: Option<HitSampler>,
    duplicate: Option<HitSampler>,
    swap: Option<HitSampler>,
    corrupt: Option<HitSampler>,
}

impl DeliveryScript {
    /// For deliveries after so many.
    pub fn after(f: &Faults, number: u64) -> Self {
        let d = f.delivery.unwrap_or_default();
        let hits = |pick: Option<HitRule>, kind| pick.map(|pick| HitSampler(pick, stream(f.seed, kind)));
        Self {
            number,
            drop: hits(d.drop, 8),
            duplicate: hits(d.duplicate, 9),
            swap: hits(d.swap, 10),
            corrupt: hits(d.corrupt, 11),
        }
    }

    /// How many there have been.
    pub fn number(&self) -> u64 {
        self.number
    }

    /// The number and the fate of the next delivery.
    pub fn next(&mut self) -> (u64, FaultDecision) {
        self.number += 1;
        let n = self.number;
        let hit = |hits: &mut Option<HitSampler>| hits.as_mut().is_some_and(|h| h.hit(n));
        let decision = FaultDecision {
            drop: hit(&mut self.drop),
            duplicate: hit(&mut self.duplicate),
            swap: hit(&mut self.swap),
            corrupt: hit(&mut self.corrupt),
            ..FaultDecision::default()
        };
        (n, decision)
    }
}

/// The stalls as instants, from the first matching message on, one after another.
#[derive(Debug)]
pub struct StallSchedule {
    stall: Option<Stall>,
    random: StdRng,
    /// The next that is not over yet, or the present one.
    next: Option<(Nanos, Nanos)>,
}

/// A stall that held up a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StallHit {
    /// When it began.
    pub begin: Nanos,
    /// When it was over.
    pub over: Nanos,
    /// How long it held the message up.
    pub held: Nanos,
}

impl StallSchedule {
    /// The stalls of these faults, of which the first is not yet placed.
    pub fn new(f: &Faults) -> Self {
        Self { stall: f.stall, random: stream(f.seed, 7), next: None }
    }

    /// Places the first stall: the first matching message arrived now.
    pub fn begin(&mut self, at: Nanos) {
        let Some(stall) = self.stall else { return };
        let gap = stall.at.or(stall.every).map_or_else(|| self.gap(&stall), |span| span.0);
        self.next = Some((at + gap, at + gap + stall.length.0));
    }

    fn gap(&mut self, stall: &Stall) -> Nanos {
        let unit: f64 = Exp1.sample(&mut self.random);
        (unit * stall.mean_gap.map_or(0, |mean| mean.0) as f64).round() as Nanos
    }

    /// Does `work` that may begin at `from`; returns when it is done, and the stalls that held it
    /// up. What is being worked on when a stall begins goes on when it ends.
    pub fn pass(&mut self, from: Nanos, work: Nanos) -> (Nanos, Vec<StallHit>) {
        let mut end = from + work;
        let mut met = Vec::new();
        while let Some((begin, over)) = self.next.filter(|(begin, _)| *begin <= end) {
            if over > from {
                let held = over - begin.max(from);
                end += held;
                met.push(StallHit { begin, over, held });
            }
            self.next = self.stall.and_then(|stall| {
                let gap = match (stall.every, stall.mean_gap) {
                    (Some(every), _) => every.0 - stall.length.0,
                    (None, Some(_)) => self.gap(&stall),
                    (None, None) => return None,
                };
                Some((over + gap, over + gap + stall.length.0))
            });
        }
        (end, met)
    }
}

/// A token bucket that tells when the next token is there: the generic cell rate algorithm (ITU-T
/// I.371, annex A), in its virtual scheduling form.
#[derive(Debug)]
pub struct TokenBucket {
    gap: f64,
    tolerance: f64,
    /// Theoretical arrival time of the next token, relative to the first message.
    next: f64,
    origin: Option<Nanos>,
}

impl TokenBucket {
    /// A full bucket.
    pub fn new(rate: f64, burst: u32) -> Self {
        let gap = 1e9 / rate;
        Self { gap, tolerance: gap * f64::from(burst - 1), next: 0.0, origin: None }
    }

    /// When a message that is ready at `at` gets its token.
    pub fn take(&mut self, at: Nanos) -> Nanos {
        let origin = *self.origin.get_or_insert(at);
        let ready = at.saturating_sub(origin) as f64;
        let passes = ready.max(self.next - self.tolerance);
        self.next = self.next.max(passes) + self.gap;
        at.max(origin + passes.round() as Nanos)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::units::{SECOND, Span};
    use proptest::prelude::*;

    fn decisions(f: &Faults, n: usize) -> Vec<FaultDecision> {
        let mut script = FaultScript::new(f);
        (0..n).map(|_| script.next().1).collect()
    }

    fn count(decisions: &[FaultDecision], of: impl Fn(&FaultDecision) -> bool) -> u64 {
        decisions.iter().filter(|f| of(f)).count() as u64
    }

    proptest! {
        #[test]
        fn every_kth_hits_exactly_so_many(n in 0u64..5_000, k in 1u64..200) {
            let f = Faults { drop: Some(HitRule::Every(k)), swap: Some(HitRule::Every(k + 1)), ..Faults::default() };
            let all = decisions(&f, n as usize);
            prop_assert_eq!(count(&all, |f| f.drop), n / k);
            prop_assert_eq!(count(&all, |f| f.swap), n / (k + 1));
        }

        #[test]
        fn the_seed_decides_and_other_faults_do_not(seed: u64, p in 0.01f64..0.99) {
            let one = Faults { seed, drop: Some(HitRule::Probability(p)), ..Faults::default() };
            let many = Faults {
                delay: Some(DurationLaw::Exponential(Span::millis(1))),
                corrupt: Some(HitRule::Probability(p)),
                ..one.clone()
            };
            let drops = |f: &Faults| decisions(f, 500).into_iter().map(|f| f.drop).collect::<Vec<_>>();
            prop_assert_eq!(drops(&one), drops(&one));
            prop_assert_eq!(drops(&one), drops(&many));
            prop_assert_eq!(decisions(&many, 500), decisions(&many, 500));
        }

        #[test]
        fn work_is_never_lost_to_a_stall(
            length in 1u64..1_000, gap in 1u64..1_000, work in prop::collection::vec((0u64..500, 0u64..300), 1..60)
        ) {
            let stall = Stall { length: Span(length), at: None, every: Some(Span(length + gap)), mean_gap: None };
            let mut stalls = StallSchedule::new(&Faults { stall: Some(stall), ..Faults::default() });
            stalls.begin(0);
            // The oracle walks nanosecond by nanosecond.
            let stalled = |t: u64| t >= length + gap && (t - length - gap) % (length + gap) < length;
            let mut from = 0;
            for (idle, work) in work {
                from += idle;
                let (mut t, mut left) = (from, work);
                while left > 0 || stalled(t) {
                    left -= u64::from(!stalled(t));
                    t += 1;
                }
                let (end, _) = stalls.pass(from, work);
                prop_assert_eq!(end, t);
                from = end;
            }
        }

        #[test]
        fn a_bucket_lets_no_more_pass_than_its_rate_and_burst(
            rate in 10.0f64..1e6, burst in 1u32..50, gaps in prop::collection::vec(0u64..200_000_000, 2..200)
        ) {
            let mut bucket = TokenBucket::new(rate, burst);
            let mut at = 5 * SECOND;
            let mut passed = Vec::new();
            for gap in gaps {
                at = bucket.take(at + gap);
                passed.push(at);
            }
            for (i, from) in passed.iter().enumerate() {
                for (j, to) in passed.iter().enumerate().skip(i) {
                    let allowed = f64::from(burst) + (to - from) as f64 / 1e9 * rate;
                    prop_assert!((j - i + 1) as f64 <= allowed + 1e-3, "{} {}", j - i + 1, allowed);
                }
            }
        }
    }

    #[test]
    fn laws_have_their_means() {
        let mean = |law: DurationLaw| {
            let f = Faults { seed: 5, service: Some(law), ..Faults::default() };
            decisions(&f, 100_000).iter().map(|f| f.service as f64).sum::<f64>() / 100_000.0 / law.mean() as f64
        };
        let mixture = crate::faults::Mixture { short: Span::millis(1), long: Span::millis(11), share: 0.1 };
        assert_eq!(mean(DurationLaw::Fixed(Span(777))), 1.0);
        // Five standard errors.
        assert!((mean(DurationLaw::Exponential(Span::millis(1))) - 1.0).abs() < 0.016);
        assert!((mean(DurationLaw::Mixture(mixture)) - 1.0).abs() < 0.024);
    }

    #[test]
    fn one_stall_holds_up_what_comes_during_it_and_nothing_afterwards() {
        let stall = Stall { length: Span(100), at: Some(Span(1_000)), every: None, mean_gap: None };
        let mut stalls = StallSchedule::new(&Faults { stall: Some(stall), ..Faults::default() });
        stalls.begin(500);
        assert_eq!(stalls.pass(500, 0), (500, vec![]));
        assert_eq!(stalls.pass(1_490, 20), (1_610, vec![StallHit { begin: 1_500, over: 1_600, held: 100 }]));
        assert_eq!(stalls.pass(1_610, 7), (1_617, vec![]));
    }

    #[test]
    fn a_full_bucket_passes_its_burst_then_one_at_a_time() {
        let mut bucket = TokenBucket::new(1000.0, 3);
        let passed: Vec<_> = (0..5).map(|_| bucket.take(7) - 7).collect();
        assert_eq!(passed, [0, 0, 0, 1_000_000, 2_000_000]);
    }
}
