//! The highest load that keeps a limit: which load to try next, from how the trials so far ended.
//!
//! Background: near its limit a system passes some trials and fails others, so one trial for each
//! load gives a limit that the next search does not find again (RFC 2544). Design, after RFC 9971
//! (MLRsearch) and MLPerf's FindPeakPerformance: a first trial that does not count, doubling until
//! a load fails twice, bisection where a load must lead by two trials, and then the two loads that
//! are left are tried again by turns, with votes that start from nothing, until one verdict leads
//! by three. Leading by k is Wald's sequential test of p against 1 - p: it errs with probability
//! 1 / (1 + (p/(1-p))^k), 1.5 % at p = 0.8 and k = 3. The loads are steps of a ladder whose
//! neighbours differ by at most the width of the answer, so that votes for a load add up and the
//! search ends at two neighbours. Rejected: a fit of a curve (PLRsearch), which needs a model of
//! how a system fails; one vote for each load, which is wrong in two of three searches at p = 0.7.
//!
//! It is a pure state machine: the same votes in the same order lead to the same load, so that a
//! search can be taken up again from its record.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// How a trial ended, as the search counts it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Vote {
    /// The limits were kept, and that is proved.
    Pass,
    /// One was broken, and that is proved; or the system did not keep up.
    Fail,
    /// Neither is proved.
    Undecided,
    /// The host or the generator spoiled the trial: it says nothing of the system.
    Spoiled,
}

/// Votes for one load.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Tally {
    pub passed: u32,
    pub failed: u32,
    pub undecided: u32,
}

impl Tally {
    fn add(&mut self, vote: Vote) {
        match vote {
            Vote::Pass => self.passed += 1,
            Vote::Fail => self.failed += 1,
            Vote::Undecided => self.undecided += 1,
            Vote::Spoiled => {}
        }
    }
    fn all(self) -> u32 {
        self.passed + self.failed + self.undecided
    }
    /// The verdict, once it leads by so many; at the cap nothing more is expected.
    fn verdict(self, pass_lead: u32, fail_lead: u32, cap: u32) -> Verdict {
        if self.passed >= self.failed + pass_lead {
            Verdict::Keeps
        } else if self.failed >= self.passed + fail_lead {
            Verdict::Breaks
        } else if self.all() >= cap {
            Verdict::Between
        } else {
            Verdict::Open
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    Keeps,
    Breaks,
    /// The most votes are cast, and none leads.
    Between,
    Open,
}

/// The loads that may be tried, ascending, neighbours at most the width apart.
#[derive(Debug, Clone, PartialEq)]
pub struct Ladder {
    loads: Vec<f64>,
    /// Steps that double the load, at least one.
    doubling: usize,
    start: usize,
}

/// Digits of a load that is shown.
fn rounded(load: f64) -> f64 {
    let scale = 10f64.powf(load.log10().floor() - 2.0);
    (load / scale).round() * scale
}

impl Ladder {
    /// Loads from `min` to `max` of which neighbours differ by at most `width` (0.05 is 5 %), each
    /// with three significant digits; a power of two of steps doubles the load, so that bisection
    /// comes out even. `start` is the load that is tried first.
    pub fn rates(min: f64, max: f64, start: f64, width: f64) -> Self {
        let wanted = std::f64::consts::LN_2 / (1.0 + width).ln();
        let doubling = (wanted.ceil() as usize).next_power_of_two();
        let mut loads: Vec<f64> = Vec::new();
        let mut k = 0;
        loop {
            let load = rounded(min * 2f64.powf(k as f64 / doubling as f64));
            if load >= max {
                break;
            }
            if loads.last().is_none_or(|last| load > *last) {
                loads.push(load);
            }
            k += 1;
        }
        loads.push(max);
        Self::of(loads, doubling, start)
    }

    /// So many loads that the user has listed, ascending: the load of a step is its number from 0.
    pub fn listed(count: usize, start: usize) -> Self {
        Self::of((0..count).map(|n| n as f64).collect(), 1, start as f64)
    }

    fn of(loads: Vec<f64>, doubling: usize, start: f64) -> Self {
        let start = loads.iter().rposition(|l| *l <= start).unwrap_or(0);
        Self { loads, doubling, start }
    }

    /// The step of twice the load, or of half of it; of listed loads the next.
    fn doubled(&self, from: usize, up: bool) -> usize {
        let last = self.loads.len() - 1;
        if up { (from + self.doubling).min(last) } else { from.saturating_sub(self.doubling) }
    }
}

/// How sure a search is to be.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SearchRules {
    /// Trials by which a verdict leads at the two loads that are left.
    pub lead: u32,
    /// Votes for a load after which it is said to lie between.
    pub most_votes: u32,
    /// Trials after which the search ends with what it knows.
    pub most_trials: u32,
}

impl Default for SearchRules {
    fn default() -> Self {
        Self { lead: 3, most_votes: 11, most_trials: 100 }
    }
}

/// Lead that ends a step of the bisection; at most so many votes are cast for it.
const COARSE: (u32, u32) = (2, 5);
/// Spoiled trials in a row at one load after which the generator is the limit.
const SPOILED_IN_A_ROW: u32 = 3;
/// The longest trial, in lengths of the first.
const LONGEST: u32 = 4;

/// What a trial is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Purpose {
    /// It warms the host up and does not count.
    WarmUp,
    /// Doubling, or halving, until the limit lies between two loads.
    Climb,
    /// Between two loads.
    Bisect,
    /// One of the two loads that are left.
    Confirm,
}

/// The next trial.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Probe {
    pub load: f64,
    pub purpose: Purpose,
    /// How many times as long as usual it is: what was undecided is tried longer.
    pub stretch: u32,
}

/// Why a search ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Ending {
    /// The limit lies between the two loads.
    Found,
    /// The highest load that may be tried keeps the limits.
    AboveMax,
    /// The lowest load that may be tried breaks one.
    BelowMin,
    /// Above the lower load the generator, or the host, is the limit: nothing is known of the
    /// system there.
    GeneratorLimited,
    /// The most trials were made.
    OutOfTrials,
}

/// Where the limit is.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Bracket {
    /// The highest load that keeps the limits.
    pub lower: Option<f64>,
    /// The lowest load above it that does not.
    pub upper: Option<f64>,
    pub ending: Ending,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Phase {
    WarmUp,
    /// Towards the limit; `stride` is in steps of the ladder, 0 for doublings.
    Climb {
        at: usize,
        stride: usize,
        up: bool,
    },
    Bisect,
    Confirm,
    Done(Ending),
}

/// A search under way.
#[derive(Debug, Clone)]
pub struct Search {
    ladder: Ladder,
    rules: SearchRules,
    phase: Phase,
    /// Known to keep, or to break, with a coarse lead or better.
    low: Option<usize>,
    high: Option<usize>,
    /// The lowest step that the generator cannot offer.
    ceiling: Option<usize>,
    /// Votes of climb and bisection, and of the confirmation: the first chose the loads and so are
    /// no evidence for them.
    coarse: BTreeMap<usize, Tally>,
    fine: BTreeMap<usize, Tally>,
    stretch: BTreeMap<usize, u32>,
    spoiled: u32,
    trials: u32,
    /// Which of the two loads is tried next.
    turn: bool,
}

impl Search {
    pub fn new(ladder: Ladder, rules: SearchRules) -> Self {
        Self {
            ladder,
            rules,
            phase: Phase::WarmUp,
            low: None,
            high: None,
            ceiling: None,
            coarse: BTreeMap::new(),
            fine: BTreeMap::new(),
            stretch: BTreeMap::new(),
            spoiled: 0,
            trials: 0,
            turn: false,
        }
    }

    fn last(&self) -> usize {
        self.ladder.loads.len() - 1
    }

    /// The highest step that the generator may be asked for.
    fn top(&self) -> usize {
        self.ceiling.map_or(self.last(), |c| c.saturating_sub(1))
    }

    /// The step of the next trial; `None` when the search is over.
    fn step(&self) -> Option<(usize, Purpose)> {
        match self.phase {
            Phase::Done(_) => None,
            Phase::WarmUp => Some((self.ladder.start, Purpose::WarmUp)),
            Phase::Climb { at, .. } => Some((at, Purpose::Climb)),
            Phase::Bisect => {
                let (low, high) = (self.low?, self.high?);
                Some((low + (high - low) / 2, Purpose::Bisect))
            }
            Phase::Confirm => self.unconfirmed().map(|step| (step, Purpose::Confirm)),
        }
    }

    /// Which of the two loads still needs votes: by turns, while both do.
    fn unconfirmed(&self) -> Option<usize> {
        let open = |step: &usize| self.confirmed(*step) == Verdict::Open;
        let low = self.low.filter(open);
        // The generator's limit cannot be confirmed by trials that do not count.
        let high = self.high.filter(|h| self.ceiling != Some(*h)).filter(open);
        match (low, high) {
            (Some(l), Some(h)) => Some(if self.turn { h } else { l }),
            (l, h) => l.or(h),
        }
    }

    fn confirmed(&self, step: usize) -> Verdict {
        let tally = self.fine.get(&step).copied().unwrap_or_default();
        tally.verdict(self.rules.lead, self.rules.lead, self.rules.most_votes)
    }

    /// The next trial; `None` when the search is over.
    pub fn next(&self) -> Option<Probe> {
        let (step, purpose) = self.step()?;
        let stretch = self.stretch.get(&step).copied().unwrap_or(1);
        Some(Probe { load: self.ladder.loads[step], purpose, stretch })
    }

    /// Counts the trial that [`Search::next`] asked for.
    pub fn count(&mut self, vote: Vote) {
        let Some((step, purpose)) = self.step() else { return };
        self.trials += 1;
        if purpose == Purpose::WarmUp {
            self.phase = Phase::Climb { at: self.ladder.start, stride: 0, up: true };
            return;
        }
        if vote == Vote::Spoiled {
            self.spoiled += 1;
            if self.spoiled >= SPOILED_IN_A_ROW {
                self.spoiled = 0;
                self.cannot_offer(step);
            }
        } else {
            self.spoiled = 0;
            let stretch = self.stretch.entry(step).or_insert(1);
            if vote == Vote::Undecided && *stretch < LONGEST {
                // It is tried again, longer; it is no vote yet.
                *stretch *= 2;
            } else {
                let tallies = if purpose == Purpose::Confirm { &mut self.fine } else { &mut self.coarse };
                tallies.entry(step).or_default().add(vote);
                self.turn = !self.turn;
                self.proceed(step);
            }
        }
        // Where both ends have their votes already, nothing is left to ask for.
        while self.phase == Phase::Confirm && self.unconfirmed().is_none() {
            self.confirm();
        }
        if self.trials >= self.rules.most_trials && !matches!(self.phase, Phase::Done(_)) {
            self.phase = Phase::Done(Ending::OutOfTrials);
        }
    }

    /// The generator does not get there: the limit is sought below.
    fn cannot_offer(&mut self, step: usize) {
        self.ceiling = Some(self.ceiling.map_or(step, |c| c.min(step)));
        if self.low.is_some_and(|low| low >= step) {
            self.low = None;
        }
        if step == 0 {
            self.phase = Phase::Done(Ending::GeneratorLimited);
            return;
        }
        self.high = Some(step);
        self.narrow(step);
    }

    fn proceed(&mut self, step: usize) {
        let coarse = self.coarse.get(&step).copied().unwrap_or_default();
        match self.phase {
            Phase::Climb { stride, up, .. } => {
                // A load that passes once is passed by; one that fails is tried again, so that bad
                // luck at a low load does not end the climb. What cannot be proved is not kept.
                match coarse.verdict(if up { 1 } else { 2 }, 2, COARSE.1) {
                    Verdict::Open => {}
                    Verdict::Keeps => {
                        self.low = Some(self.low.map_or(step, |l| l.max(step)));
                        self.climb_on(step, stride, up, true);
                    }
                    Verdict::Breaks | Verdict::Between => {
                        self.high = Some(self.high.map_or(step, |h| h.min(step)));
                        self.climb_on(step, stride, up, false);
                    }
                }
            }
            Phase::Bisect => match coarse.verdict(COARSE.0, COARSE.0, COARSE.1) {
                Verdict::Open => {}
                Verdict::Keeps => {
                    self.low = Some(step);
                    self.narrow(step);
                }
                Verdict::Breaks | Verdict::Between => {
                    self.high = Some(step);
                    self.narrow(step);
                }
            },
            Phase::Confirm => self.confirm(),
            Phase::WarmUp | Phase::Done(_) => {}
        }
    }

    /// After a step of the climb: on, or to the bisection where the limit is enclosed.
    fn climb_on(&mut self, step: usize, stride: usize, up: bool, kept: bool) {
        if self.low.is_some() && self.high.is_some() {
            return self.narrow(step);
        }
        let top = self.top();
        let at_end = if kept { step >= top } else { step == 0 };
        if at_end {
            if kept {
                self.high = self.ceiling;
            }
            self.phase = Phase::Confirm;
            return;
        }
        let next = match stride {
            0 if kept => self.ladder.doubled(step, true).min(top),
            0 => self.ladder.doubled(step, false),
            n if kept => (step + n).min(top),
            n => step.saturating_sub(n),
        };
        // Where the first load fails the way is down.
        self.phase = Phase::Climb { at: next, stride: 2 * stride, up: up && kept };
    }

    /// Both ends are known, or only the upper one.
    fn narrow(&mut self, step: usize) {
        self.phase = match (self.low, self.high) {
            (Some(low), Some(high)) if high - low > 1 => Phase::Bisect,
            (Some(_), Some(_)) => Phase::Confirm,
            (None, Some(_)) if step > 0 => Phase::Climb { at: self.ladder.doubled(step, false), stride: 0, up: false },
            _ => Phase::Confirm,
        };
        // What was tried before is known.
        if let Some((step, Purpose::Bisect)) = self.step()
            && self.coarse.contains_key(&step)
        {
            self.proceed(step);
        }
    }

    /// The two loads that are left have votes: whether they bear out what is said of them.
    fn confirm(&mut self) {
        if let Some(low) = self.low {
            match self.confirmed(low) {
                Verdict::Breaks => return self.lower_end_fell(low),
                // It cannot be told from the limit: the answer is wider.
                Verdict::Between if low > 0 => {
                    self.low = Some(low - 1);
                    return;
                }
                Verdict::Between => {
                    self.low = None;
                }
                Verdict::Keeps | Verdict::Open => {}
            }
        }
        if let Some(high) = self.high.filter(|h| self.ceiling != Some(*h)) {
            match self.confirmed(high) {
                Verdict::Keeps => return self.upper_end_held(high),
                Verdict::Between if high < self.last() => {
                    self.high = Some(high + 1);
                    if self.ceiling.is_none_or(|c| high + 1 < c) {
                        return;
                    }
                    self.high = self.ceiling;
                }
                Verdict::Between => self.high = None,
                Verdict::Breaks | Verdict::Open => {}
            }
        }
        if self.unconfirmed().is_none() {
            self.phase = Phase::Done(match (self.low, self.high) {
                (_, Some(high)) if self.ceiling == Some(high) => Ending::GeneratorLimited,
                (Some(_), Some(_)) => Ending::Found,
                (Some(_), None) => Ending::AboveMax,
                (None, _) => Ending::BelowMin,
            });
        }
    }

    /// The lower load breaks the limit after all: down from it, by growing steps.
    fn lower_end_fell(&mut self, low: usize) {
        (self.high, self.low) = (Some(low), None);
        self.coarse.retain(|step, _| *step > low);
        self.phase = match low {
            0 => Phase::Confirm,
            _ => Phase::Climb { at: low - 1, stride: 2, up: false },
        };
    }

    /// The upper load keeps the limit after all: up from it, by growing steps.
    fn upper_end_held(&mut self, high: usize) {
        self.coarse.retain(|step, _| *step < high);
        self.low = Some(high);
        if high >= self.top() {
            self.high = self.ceiling;
            self.phase = Phase::Confirm;
        } else {
            self.high = None;
            self.phase = Phase::Climb { at: high + 1, stride: 2, up: true };
        }
    }

    /// Where the limit is, as far as it is known.
    pub fn bracket(&self) -> Bracket {
        let load = |step: Option<usize>| step.map(|s| self.ladder.loads[s]);
        let ending = match self.phase {
            Phase::Done(ending) => ending,
            _ => Ending::OutOfTrials,
        };
        Bracket { lower: load(self.low), upper: load(self.high), ending }
    }

    /// Whether it is over.
    pub fn done(&self) -> bool {
        matches!(self.phase, Phase::Done(_))
    }

    /// Votes for each load, those of the confirmation where it has any.
    pub fn tallies(&self) -> Vec<(f64, Tally)> {
        let mut all = self.coarse.clone();
        all.extend(self.fine.iter().map(|(step, tally)| (*step, *tally)));
        all.into_iter().map(|(step, tally)| (self.ladder.loads[step], tally)).collect()
    }

    /// Trials that are still to be expected, roughly: a lead of two takes 2.4 trials where most
    /// trials are alike, one of three 3.7 (p = 0.9).
    pub fn left(&self) -> u32 {
        let confirm = 2 * (self.rules.lead + 1);
        let halvings = |steps: usize| (usize::BITS - steps.leading_zeros()) * 5 / 2;
        let span = match (self.low, self.high) {
            (Some(low), Some(high)) => halvings((high - low).saturating_sub(1)),
            _ => halvings(self.ladder.doubling) + 2,
        };
        match self.phase {
            Phase::Done(_) => 0,
            Phase::Confirm => {
                let cast: u32 = [self.low, self.high]
                    .into_iter()
                    .flatten()
                    .filter_map(|s| self.fine.get(&s))
                    .map(|t| t.all())
                    .sum();
                confirm.saturating_sub(cast).max(1)
            }
            Phase::Bisect => span + confirm,
            Phase::WarmUp | Phase::Climb { .. } => {
                let at = if let Phase::Climb { at, .. } = self.phase { at } else { self.ladder.start };
                // Half of the way to the end of the ladder.
                let doublings = (self.last() - at) / self.ladder.doubling.max(1) / 2 + 1;
                doublings as u32 + span + confirm
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use rand::rngs::StdRng;
    use rand::{RngExt, SeedableRng};

    /// Searches a system that passes a trial at a load with this probability.
    fn searched(ladder: Ladder, seed: u64, passes: impl Fn(f64) -> f64, spoils: impl Fn(f64) -> bool) -> Search {
        let mut random = StdRng::seed_from_u64(seed);
        let mut search = Search::new(ladder, SearchRules::default());
        while let Some(probe) = search.next() {
            let vote = match spoils(probe.load) {
                true => Vote::Spoiled,
                false if random.random_bool(passes(probe.load)) => Vote::Pass,
                false => Vote::Fail,
            };
            search.count(vote);
            assert!(search.trials <= 100);
        }
        search
    }

    fn ladder() -> Ladder {
        Ladder::rates(1e3, 1e6, 1e3, 0.05)
    }

    fn holds(search: &Search, truth: f64) -> bool {
        let b = search.bracket();
        b.ending == Ending::Found && b.lower.is_some_and(|l| l <= truth) && b.upper.is_some_and(|u| truth < u)
    }

    #[test]
    fn neighbours_of_the_ladder_are_within_the_width() {
        for (min, max, width) in [(100.0, 1e7, 0.05), (1e3, 1e6, 0.01), (7.0, 9e4, 0.2)] {
            let ladder = Ladder::rates(min, max, min, width);
            assert!(ladder.loads.windows(2).all(|w| w[0] < w[1]), "{:?}", ladder.loads);
            // A load has three digits: below 100 a step of one is more than the width.
            let wide = ladder.loads.windows(2).filter(|w| w[0] > 200.0 && w[1] / w[0] > 1.0 + width + 0.006).count();
            assert_eq!(wide, 0, "{width}");
        }
    }

    proptest! {
        #[test]
        fn a_clear_limit_is_found_wherever_it_is(truth in 1_010.0f64..990e3, start in 1e3f64..1e6) {
            let ladder = Ladder::rates(1e3, 1e6, start, 0.05);
            let search = searched(ladder, 1, |load| f64::from(u8::from(load <= truth)), |_| false);
            let b = search.bracket();
            prop_assert!(holds(&search, truth), "{truth}: {b:?}");
            prop_assert!(b.upper.unwrap() / b.lower.unwrap() <= 1.056);
            prop_assert!(search.trials <= 40, "{} trials", search.trials);
        }

        #[test]
        fn listed_loads_are_searched_like_rates(count in 2usize..40, truth in 0usize..40, start in 0usize..40) {
            let (truth, start) = (truth.min(count - 1), start.min(count - 1));
            let search = searched(Ladder::listed(count, start), 1, |l| f64::from(u8::from(l <= truth as f64)), |_| false);
            let b = search.bracket();
            let upper = (truth + 1 < count).then_some(truth as f64 + 1.0);
            prop_assert_eq!((b.lower, b.upper), (Some(truth as f64), upper));
        }

        #[test]
        fn the_same_votes_lead_to_the_same_load(seed in any::<u64>()) {
            let passes = |load: f64| 1.0 / (1.0 + (load / 50e3).powi(8));
            let (one, two) = (searched(ladder(), seed, passes, |_| false), searched(ladder(), seed, passes, |_| false));
            prop_assert_eq!(one.bracket(), two.bracket());
            prop_assert_eq!(one.tallies(), two.tallies());
        }

        #[test]
        fn a_search_ends_whatever_the_votes_are(votes in prop::collection::vec(0u8..4, 1..120), start in 1e3f64..1e6) {
            let mut search = Search::new(Ladder::rates(1e3, 1e6, start, 0.05), SearchRules::default());
            for v in votes.iter().cycle().take(101) {
                let Some(probe) = search.next() else { break };
                prop_assert!((1e3..=1e6).contains(&probe.load) && probe.stretch <= LONGEST);
                search.count([Vote::Pass, Vote::Fail, Vote::Undecided, Vote::Spoiled][usize::from(*v)]);
                let b = search.bracket();
                prop_assert!(b.lower.zip(b.upper).is_none_or(|(l, u)| l < u), "{b:?}");
            }
            prop_assert!(search.done());
        }
    }

    /// How many of 200 searches hold the truth, and the most trials that one took.
    fn of_200(passes: impl Fn(f64) -> f64 + Copy, truth: f64) -> (u32, u32) {
        let all: Vec<Search> = (0..200).map(|seed| searched(ladder(), seed, passes, |_| false)).collect();
        (all.iter().map(|s| u32::from(holds(s, truth))).sum(), all.iter().map(|s| s.trials).max().unwrap())
    }

    #[test]
    fn trials_that_fail_by_chance_do_not_drag_the_answer() {
        let (held, most) = of_200(|load| if load <= 52e3 { 0.8 } else { 0.0 }, 52e3);
        assert!(held >= 190, "{held} of 200 hold the limit, at most {most} trials");
        let (held, _) = of_200(|load| if load <= 52e3 { 1.0 } else { 0.2 }, 52e3);
        assert!(held >= 190, "{held} of 200");
    }

    #[test]
    fn a_load_that_fails_most_trials_is_not_kept() {
        // It keeps 20k/s always, and up to 52k/s in one trial of five.
        let passes = |load: f64| {
            if load <= 20e3 {
                1.0
            } else if load <= 52e3 {
                0.2
            } else {
                0.0
            }
        };
        let (held, _) = of_200(passes, 20e3);
        assert!(held >= 190, "{held} of 200");
    }

    #[test]
    fn a_gentle_slope_is_answered_near_its_middle() {
        let passes = |load: f64| 1.0 / (1.0 + (load / 52e3).powi(30));
        for seed in 0..100 {
            let b = searched(ladder(), seed, passes, |_| false).bracket();
            let (lower, upper) = (b.lower.unwrap(), b.upper.unwrap());
            assert!(lower > 52e3 * 0.85 && upper < 52e3 * 1.18 && upper / lower < 1.35, "{b:?}");
        }
    }

    #[test]
    fn the_ends_of_the_ladder_are_said() {
        let always = searched(ladder(), 1, |_| 1.0, |_| false).bracket();
        assert_eq!((always.lower, always.upper, always.ending), (Some(1e6), None, Ending::AboveMax));
        let never = searched(ladder(), 1, |_| 0.0, |_| false).bracket();
        assert_eq!((never.lower, never.upper, never.ending), (None, Some(1e3), Ending::BelowMin));
    }

    #[test]
    fn where_the_generator_is_the_limit_no_capacity_is_said() {
        for seed in 0..50 {
            let b = searched(ladder(), seed, |_| 0.95, |load| load > 30e3).bracket();
            assert_eq!(b.ending, Ending::GeneratorLimited, "{b:?}");
            assert!(b.lower.unwrap() <= 30e3 && b.lower.unwrap() > 28e3 && b.upper.unwrap() > 30e3, "{b:?}");
            // A limit of the system below that is found as usual.
            let found = searched(ladder(), seed, |l| f64::from(u8::from(l <= 12e3)), |load| load > 30e3);
            assert!(holds(&found, 12e3), "{:?}", found.bracket());
        }
        let none = searched(ladder(), 1, |_| 1.0, |_| true).bracket();
        assert_eq!((none.lower, none.ending), (None, Ending::GeneratorLimited));
    }

    #[test]
    fn what_is_undecided_is_tried_longer_and_then_not_kept() {
        let mut search = Search::new(ladder(), SearchRules::default());
        search.count(Vote::Pass);
        let mut lengths = Vec::new();
        for _ in 0..4 {
            lengths.push(search.next().unwrap().stretch);
            search.count(Vote::Undecided);
        }
        assert_eq!(lengths, [1, 2, 4, 4]);
    }
}
