//! Goes on with a run or a search that was interrupted: what it had is taken into the new results,
//! so that these are whole.

use std::path::Path;

use crate::record::{Completion, Folder, Interval, Loaded, Outcome, Record, Trial, store};

use super::Failure;
use super::run_writer::fault_log;

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
    let Loaded { mut record, intervals } = before;
    let again = again(&record);
    let again = |round: u32, case: &str| again.iter().any(|(r, c)| *r == round && c == case);
    record.trials.retain(|t| !again(t.round, &t.case));
    // What is skipped is found again.
    record.order.retain(|(round, case)| !again(*round, case));
    let dir = place.map(|p| if p.is_dir() { p } else { p.parent().unwrap_or(p) });
    for trial in &record.trials {
        let faults = Some(fault_log(&trial.case, trial.round));
        for name in [&trial.hlog, &trial.server_log, &faults].into_iter().flatten() {
            // A file that is gone is missed by whoever looks for it; the record alone goes on.
            if let Some(bytes) = dir.and_then(|d| std::fs::read(d.join(name)).ok()) {
                folder.add(name, bytes);
            }
        }
    }
    now.plan.cases = record.plan.cases;
    now.started_at = record.started_at;
    now.order = record.order;
    (now.trials, now.searches) = (record.trials, record.searches);
    intervals.into_iter().filter(|i| !again(i.round, &i.case)).collect()
}

/// The trials that are made again, under the same number: those that were cut, and one that a
/// search had not counted yet when its process was killed.
fn again(record: &Record) -> Vec<(u32, String)> {
    let counted = |t: &Trial| {
        let mut all = record.searches.iter().flat_map(|s| &s.trials);
        record.plan.search.is_none() || all.any(|s| s.round == t.round && s.case == t.case)
    };
    let all = record.trials.iter().filter(|t| t.outcome == Outcome::Partial || !counted(t));
    all.map(|t| (t.round, t.case.clone())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::search::{Bracket, Ending, Purpose, SearchPlan, Vote};
    use crate::record::{SearchResult, SearchTrial, sample};

    /// The search is written after its trial: a kill between both leaves a trial that no search
    /// has counted, and that is made again under its number.
    #[test]
    fn a_trial_that_no_search_counted_is_made_again_once() {
        let (record, intervals) = (sample::record(), sample::intervals());
        let root = tempfile::tempdir().unwrap();
        let mut folder = Folder::new(root.path(), "t").unwrap();
        let (first, last) = (&record.trials[0], &record.trials[record.trials.len() - 1]);
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join(fault_log(&first.case, first.round)), b"faults").unwrap();
        let search = |of: &Record| {
            let mut of = of.clone();
            of.plan.search = Some(search_plan());
            of.searches = vec![counted(&of.trials[..of.trials.len() - 1])];
            of
        };
        let before = Loaded { record: search(&record), intervals: intervals.clone() };
        let mut now = search(&record);
        let kept = into(&mut now, before, Some(dir.path()), &mut folder);
        let is_last = |round: u32, case: &str| round == last.round && case == last.case;
        assert_eq!(now.trials.len(), record.trials.len() - 1);
        assert!(!now.trials.iter().any(|t| is_last(t.round, &t.case)), "{:?}", now.order);
        assert!(!now.order.iter().any(|(round, case)| is_last(*round, case)), "{:?}", now.order);
        assert!(intervals.iter().any(|i| is_last(i.round, &i.case)) && !kept.iter().any(|i| is_last(i.round, &i.case)));
        // What the kept ones left behind comes with them.
        let faults = folder.read(&fault_log(&first.case, first.round));
        assert_eq!(faults.as_deref(), Some(&b"faults"[..]));
    }

    fn search_plan() -> SearchPlan {
        let text = "name = \"t\"\nquestion = \"?\"\n[[system]]\ndriver = \"reference\"\n[[workload]]\npattern = \"fan-out\"\n\
                    load.rate = \"1k/s\"\n[search]\nlimits = [\"e2e.p99 < 1s\"]\n";
        let types = crate::engine::Register::built_in().types();
        let overrides = crate::scenario::Overrides::default();
        let scenario = crate::scenario::parse(Path::new("t.toml"), text.into(), &overrides, &types).unwrap();
        scenario.plan.search.unwrap()
    }

    fn counted(trials: &[Trial]) -> SearchResult {
        let trial = |t: &Trial| SearchTrial {
            case: t.case.clone(),
            round: t.round,
            load: 1.0,
            purpose: Purpose::Climb,
            vote: Vote::Pass,
            broken: Vec::new(),
            why: String::new(),
        };
        let trials = trials.iter().map(trial).collect();
        SearchResult {
            case: "t".into(),
            system: 0,
            number: 1,
            bracket: Bracket { lower: None, upper: None, ending: Ending::Found },
            trials,
            votes: Vec::new(),
            broken: None,
        }
    }
}
