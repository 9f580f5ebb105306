//! Searches for the highest load that keeps limits: a trial of each in turn, in random order, each
//! on a fresh system, so that what drifts on the host falls on all searches alike. Which load is
//! next is [`Search`]'s matter, whether a trial kept the limits that of `validity::vote`.

use std::collections::BTreeMap;
use std::io;

use rand::rngs::StdRng;
use rand::seq::SliceRandom;

use crate::plan::search::{Parameter, Search, SearchPlan, Vote, at_rate, stretched};
use crate::plan::{Case, Plan};
use crate::record::{Outcome, SearchResult, SearchTrial};

use super::execute::{PREPARE, RunContext, in_folder};
use super::sink::{RunError, SearchProgress};

/// A search under way.
struct Active<'a> {
    base: &'a Case,
    /// Where values are listed: the case of each.
    listed: Vec<&'a Case>,
    search: Search,
    result: SearchResult,
}

impl Active<'_> {
    fn over(&self) -> bool {
        self.search.done() || self.result.broken.is_some()
    }

    fn case_at(&self, load: f64, stretch: u32) -> Case {
        let case = match self.listed.get(load as usize) {
            Some(case) if !self.listed.is_empty() => (*case).clone(),
            _ => at_rate(self.base, load),
        };
        stretched(&case, stretch)
    }
}

/// The searches of a plan: one for each case, or for each group of cases that differ in the listed
/// setting only.
fn all<'a>(wanted: &SearchPlan, cases: &[&'a Case]) -> Vec<Active<'a>> {
    let mut groups: Vec<(String, Vec<&'a Case>)> = Vec::new();
    for case in cases {
        let rest = match &wanted.parameter {
            Parameter::Rate { .. } => case.id.clone(),
            Parameter::Listed { path, .. } => {
                let rest: Vec<_> = case.point.iter().filter(|(p, _)| p != path).collect();
                format!("{} {rest:?}", case.system)
            }
        };
        match groups.iter_mut().find(|(name, _)| *name == rest) {
            Some((_, of)) => of.push(case),
            None => groups.push((rest, vec![case])),
        }
    }
    let mut list = Vec::new();
    for number in 1..=wanted.searches {
        for (_, of) in &groups {
            let base = of[0];
            let listed = if matches!(wanted.parameter, Parameter::Listed { .. }) { of.clone() } else { Vec::new() };
            let search = Search::new(wanted.ladder(), wanted.rules());
            let result = SearchResult {
                case: base.id.clone(),
                system: base.system,
                number,
                bracket: search.bracket(),
                trials: Vec::new(),
                votes: Vec::new(),
                broken: None,
            };
            list.push(Active { base, listed, search, result });
        }
    }
    list
}

/// Brings a search to where one that was interrupted had come, by its votes.
fn take_up(active: &mut Active<'_>, before: &SearchResult, rounds: &mut BTreeMap<String, u32>) {
    for trial in &before.trials {
        active.search.count(trial.vote);
        let last = rounds.entry(trial.case.clone()).or_insert(0);
        *last = (*last).max(trial.round);
    }
    active.result = SearchResult { broken: None, ..before.clone() };
}

/// Makes all searches of a plan, one number after the other.
pub(super) fn run(
    plan: &Plan,
    wanted: &SearchPlan,
    cases: &[&Case],
    around: &RunContext<'_>,
    random: &mut StdRng,
) -> Result<(), RunError> {
    let mut active = all(wanted, cases);
    let mut rounds: BTreeMap<String, u32> = BTreeMap::new();
    let mut made = 0;
    for a in &mut active {
        let same = |b: &&SearchResult| b.case == a.result.case && b.number == a.result.number;
        if let Some(before) = around.conditions.taken_up.iter().find(same) {
            take_up(a, before, &mut rounds);
            made += before.trials.len();
        }
    }
    for number in 1..=wanted.searches {
        loop {
            let open = |a: &Active<'_>| a.result.number == number && !a.over();
            let mut order: Vec<usize> = (0..active.len()).filter(|i| open(&active[*i])).collect();
            if order.is_empty() {
                break;
            }
            order.shuffle(random);
            for i in order {
                if around.conditions.interrupt.count() > 0 {
                    return Ok(());
                }
                made += 1;
                let left: u32 = active.iter().filter(|a| !a.over()).map(|a| a.search.left()).sum();
                if !one(plan, &mut active[i], &mut rounds, (made, left), around)? {
                    continue;
                }
                let left = active.iter().filter(|a| !a.over()).map(|a| a.search.left()).sum();
                let progress = SearchProgress { result: &active[i].result, left };
                around.sink.search(&progress).map_err(write_error)?;
            }
        }
    }
    Ok(())
}

fn write_error(source: io::Error) -> RunError {
    RunError::Io { action: "write the result", source }
}

/// Makes the next trial of a search, and says whether it was counted.
fn one(
    plan: &Plan,
    active: &mut Active<'_>,
    rounds: &mut BTreeMap<String, u32>,
    (made, left): (usize, u32),
    around: &RunContext<'_>,
) -> Result<bool, RunError> {
    let Some(probe) = active.search.next() else { return Ok(false) };
    let case = active.case_at(probe.load, probe.stretch);
    let round = rounds.entry(case.id.clone()).or_insert(0);
    *round += 1;
    around.sink.begin(&case, *round, made, made + (left as usize).saturating_sub(1));
    let files = in_folder(plan, &case, *round, made, around)?;
    let cast = files.vote.clone();
    let outcome = files.trial.outcome.clone();
    around.sink.trial(files).map_err(write_error)?;
    match outcome {
        // A trial that was cut says nothing, and is made again when the search goes on.
        Outcome::Partial => return Ok(false),
        Outcome::Failed { phase, error } if phase == PREPARE => active.result.broken = Some(error),
        _ => {}
    }
    let Some(cast) = cast else { return Ok(false) };
    let vote = if active.result.broken.is_some() { Vote::Spoiled } else { cast.vote };
    active.search.count(vote);
    active.result.trials.push(SearchTrial {
        case: case.id,
        round: *round,
        load: probe.load,
        purpose: probe.purpose,
        vote,
        broken: cast.broken,
        why: cast.why,
    });
    active.result.bracket = active.search.bracket();
    active.result.votes = active.search.tallies();
    Ok(true)
}
