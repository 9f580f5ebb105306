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

mod ladder;
#[cfg(test)]
mod tests;
mod votes;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

pub use ladder::Ladder;
use votes::Lead;
pub use votes::{Tally, Vote};

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
    /// At the highest load that may be tried, or the lowest, no verdict led: the limit lies beyond
    /// the load that is left, and where is not known.
    Undecided,
    /// The most trials were made.
    OutOfTrials,
    /// It was interrupted, or the system came up no more.
    Unfinished,
}

impl Ending {
    /// Whether both loads are borne out by the votes of their own, and no more was to be tried.
    pub fn ended(self) -> bool {
        !matches!(self, Self::OutOfTrials | Self::Unfinished)
    }
}

/// Where the limit is.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Bracket {
    /// The highest load that keeps the limits.
    pub lower: Option<f64>,
    /// The lowest load above it that does not; where the generator is the limit, what it cannot
    /// offer.
    pub upper: Option<f64>,
    pub ending: Ending,
}

impl Bracket {
    /// The lowest load that is known to break a limit: what the generator cannot offer breaks none.
    pub fn breaks(self) -> Option<f64> {
        self.upper.filter(|_| self.ending != Ending::GeneratorLimited)
    }
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Stage {
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
    phase: Stage,
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
            phase: Stage::WarmUp,
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
            Stage::Done(_) => None,
            Stage::WarmUp => Some((self.ladder.start, Purpose::WarmUp)),
            Stage::Climb { at, .. } => Some((at, Purpose::Climb)),
            Stage::Bisect => {
                let (low, high) = (self.low?, self.high?);
                Some((low + (high - low) / 2, Purpose::Bisect))
            }
            Stage::Confirm => self.unconfirmed().map(|step| (step, Purpose::Confirm)),
        }
    }

    /// Which of the two loads still needs votes: by turns, while both do.
    fn unconfirmed(&self) -> Option<usize> {
        let open = |step: &usize| self.confirmed(*step) == Lead::Open;
        let low = self.low.filter(open);
        // The generator's limit cannot be confirmed by trials that do not count.
        let high = self.high.filter(|h| self.ceiling != Some(*h)).filter(open);
        match (low, high) {
            (Some(l), Some(h)) => Some(if self.turn { h } else { l }),
            (l, h) => l.or(h),
        }
    }

    fn confirmed(&self, step: usize) -> Lead {
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
            self.phase = Stage::Climb { at: self.ladder.start, stride: 0, up: true };
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
        while self.phase == Stage::Confirm && self.unconfirmed().is_none() {
            self.confirm();
        }
        if self.trials >= self.rules.most_trials && !matches!(self.phase, Stage::Done(_)) {
            self.phase = Stage::Done(Ending::OutOfTrials);
        }
    }

    /// The generator does not get there: the limit is sought below.
    fn cannot_offer(&mut self, step: usize) {
        self.ceiling = Some(self.ceiling.map_or(step, |c| c.min(step)));
        if self.low.is_some_and(|low| low >= step) {
            self.low = None;
        }
        if step == 0 {
            self.phase = Stage::Done(Ending::GeneratorLimited);
            return;
        }
        self.high = Some(step);
        self.narrow(step);
    }

    fn proceed(&mut self, step: usize) {
        let coarse = self.coarse.get(&step).copied().unwrap_or_default();
        match self.phase {
            Stage::Climb { stride, up, .. } => {
                // A load that passes once is passed by; one that fails is tried again, so that bad
                // luck at a low load does not end the climb. What cannot be proved is not kept.
                match coarse.verdict(if up { 1 } else { 2 }, 2, COARSE.1) {
                    Lead::Open => {}
                    Lead::Keeps => {
                        self.low = Some(self.low.map_or(step, |l| l.max(step)));
                        self.climb_on(step, stride, up, true);
                    }
                    Lead::Breaks | Lead::Between => {
                        self.high = Some(self.high.map_or(step, |h| h.min(step)));
                        self.climb_on(step, stride, up, false);
                    }
                }
            }
            Stage::Bisect => match coarse.verdict(COARSE.0, COARSE.0, COARSE.1) {
                Lead::Open => {}
                Lead::Keeps => {
                    self.low = Some(step);
                    self.narrow(step);
                }
                Lead::Breaks | Lead::Between => {
                    self.high = Some(step);
                    self.narrow(step);
                }
            },
            Stage::Confirm => self.confirm(),
            Stage::WarmUp | Stage::Done(_) => {}
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
            self.phase = Stage::Confirm;
            return;
        }
        let next = match stride {
            0 if kept => self.ladder.doubled(step, true).min(top),
            0 => self.ladder.doubled(step, false),
            n if kept => (step + n).min(top),
            n => step.saturating_sub(n),
        };
        // Where the first load fails the way is down.
        self.phase = Stage::Climb { at: next, stride: 2 * stride, up: up && kept };
    }

    /// Both ends are known, or only the upper one.
    fn narrow(&mut self, step: usize) {
        self.phase = match (self.low, self.high) {
            (Some(low), Some(high)) if high - low > 1 => Stage::Bisect,
            (Some(_), Some(_)) => Stage::Confirm,
            (None, Some(_)) if step > 0 => Stage::Climb { at: self.ladder.doubled(step, false), stride: 0, up: false },
            _ => Stage::Confirm,
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
                Lead::Breaks => return self.lower_end_fell(low),
                // It cannot be told from the limit: the answer is wider.
                Lead::Between if low > 0 => {
                    self.low = Some(low - 1);
                    return;
                }
                Lead::Between => {
                    self.low = None;
                }
                Lead::Keeps | Lead::Open => {}
            }
        }
        if let Some(high) = self.high.filter(|h| self.ceiling != Some(*h)) {
            match self.confirmed(high) {
                Lead::Keeps => return self.upper_end_held(high),
                Lead::Between if high < self.last() => {
                    self.high = Some(high + 1);
                    if self.ceiling.is_none_or(|c| high + 1 < c) {
                        return;
                    }
                    self.high = self.ceiling;
                }
                Lead::Between => self.high = None,
                Lead::Breaks | Lead::Open => {}
            }
        }
        if self.unconfirmed().is_none() {
            self.phase = Stage::Done(match (self.low, self.high) {
                (Some(_), Some(high)) if self.ceiling == Some(high) => Ending::GeneratorLimited,
                (Some(_), Some(_)) => Ending::Found,
                (Some(low), None) if low == self.last() => Ending::AboveMax,
                (None, Some(0)) => Ending::BelowMin,
                _ => Ending::Undecided,
            });
        }
    }

    /// The lower load breaks the limit after all: down from it, by growing steps.
    fn lower_end_fell(&mut self, low: usize) {
        (self.high, self.low) = (Some(low), None);
        self.coarse.retain(|step, _| *step > low);
        self.phase = match low {
            0 => Stage::Confirm,
            _ => Stage::Climb { at: low - 1, stride: 2, up: false },
        };
    }

    /// The upper load keeps the limit after all: up from it, by growing steps.
    fn upper_end_held(&mut self, high: usize) {
        self.coarse.retain(|step, _| *step < high);
        self.low = Some(high);
        if high >= self.top() {
            self.high = self.ceiling;
            self.phase = Stage::Confirm;
        } else {
            self.high = None;
            self.phase = Stage::Climb { at: high + 1, stride: 2, up: true };
        }
    }

    /// Where the limit is, as far as it is known.
    pub fn bracket(&self) -> Bracket {
        let load = |step: Option<usize>| step.map(|s| self.ladder.loads[s]);
        let ending = match self.phase {
            Stage::Done(ending) => ending,
            _ => Ending::Unfinished,
        };
        // On the way, and without a load that is kept, a ceiling is no end of an answer.
        let high = self.high.filter(|h| ending == Ending::GeneratorLimited || self.ceiling != Some(*h));
        Bracket { lower: load(self.low), upper: load(high), ending }
    }

    /// Whether it is over.
    pub fn done(&self) -> bool {
        matches!(self.phase, Stage::Done(_))
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
            Stage::Done(_) => 0,
            Stage::Confirm => {
                let cast: u32 = [self.low, self.high]
                    .into_iter()
                    .flatten()
                    .filter_map(|s| self.fine.get(&s))
                    .map(|t| t.all())
                    .sum();
                confirm.saturating_sub(cast).max(1)
            }
            Stage::Bisect => span + confirm,
            Stage::WarmUp | Stage::Climb { .. } => {
                let at = if let Stage::Climb { at, .. } = self.phase { at } else { self.ladder.start };
                // Half of the way to the end of the ladder.
                let doublings = (self.last() - at) / self.ladder.doubling.max(1) / 2 + 1;
                doublings as u32 + span + confirm
            }
        }
    }
}
