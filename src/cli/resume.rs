//! Goes on with a run or a search that was interrupted: what it had is taken into the new results,
//! so that these are whole.

use std::path::Path;

use crate::record::{Completion, Folder, Interval, Loaded, Outcome, Record, store};

use super::Failure;

/// Reads the results of an interrupted run or search; `now` is what is to be run.
pub(super) fn load(place: &Path, now: &Record) -> Result<Loaded, Failure> {
    let before = store::load(place).map_err(Failure::usage)?;
    let refused = |why: &str| {
        Err(Failure::usage(format!(
            "--resume {}: {why}; give the arguments that it was begun with, or begin anew",
            place.display()
        )))
    };
    let (was, is) = (&before.record, now);
    match () {
        () if is.plan.search.is_some() && was.searches.is_empty() => refused("no search was begun there"),
        () if is.plan.search.is_none() && was.completion == Completion::Complete => refused("that run is complete"),
        () if was.plan.search != is.plan.search => refused("it searched for something else"),
        () if was.plan.systems != is.plan.systems => refused("its systems were others"),
        () if was.scenario.text != is.scenario.text || was.scenario.overrides != is.scenario.overrides => {
            refused("the scenario was another")
        }
        () if was.tool.version != is.tool.version || was.tool.profile != is.tool.profile => {
            refused("another build of msgbench made it")
        }
        () if (&was.host.cpu, was.host.cpus) != (&is.host.cpu, is.host.cpus) => refused("it ran on another machine"),
        () => Ok(before),
    }
}

/// The trials that a run need not make again, by round and case; a search knows by itself.
pub(super) fn done(before: &Loaded) -> Vec<(u32, String)> {
    let whole = before.record.trials.iter().filter(|t| t.outcome != Outcome::Partial);
    whole.map(|t| (t.round, t.case.clone())).collect()
}

/// Takes over what there is: trials, load points and files. Gives the intervals.
pub(super) fn into(now: &mut Record, before: Loaded, place: Option<&Path>, folder: &mut Folder) -> Vec<Interval> {
    let Loaded { record, intervals } = before;
    let dir = place.map(|p| if p.is_dir() { p } else { p.parent().unwrap_or(p) });
    for trial in &record.trials {
        for name in [&trial.hlog, &trial.server_log].into_iter().flatten() {
            // A file that is gone is missed by whoever looks for it; the record alone goes on.
            if let Some(bytes) = dir.and_then(|d| std::fs::read(d.join(name)).ok()) {
                folder.add(name, bytes);
            }
        }
    }
    now.plan.cases = record.plan.cases;
    now.started_at = record.started_at;
    // What is skipped is found again.
    now.order = record.order;
    (now.trials, now.searches) = (record.trials, record.searches);
    // A trial that was cut is made again, under the same number.
    let cut: Vec<(u32, String)> =
        now.trials.iter().filter(|t| t.outcome == Outcome::Partial).map(|t| (t.round, t.case.clone())).collect();
    now.trials.retain(|t| t.outcome != Outcome::Partial);
    now.order.retain(|o| !cut.contains(o));
    intervals.into_iter().filter(|i| !cut.iter().any(|(round, case)| i.round == *round && i.case == *case)).collect()
}
