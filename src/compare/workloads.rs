//! What differs between two workloads, in the words of a scenario.

use super::model::Difference;

/// A setting of a workload that is not the same in two results.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WorkloadChange {
    /// Which workload of the scenario, from 0.
    pub workload: usize,
    /// Its key below `workload`: `producers`, `payload.size`. Empty where one side lacks the
    /// workload.
    pub key: String,
    /// Of the baseline.
    pub baseline: String,
    /// Of the candidate.
    pub candidate: String,
}

/// The key of a scenario that a setting of a plan comes from.
fn key(setting: &str) -> String {
    match setting {
        "topology.groups" | "topology.members" => "consumers".into(),
        "topology.reply" => "pattern".into(),
        "load.profile.segments.0.from" | "load.profile.segments.0.to" => "load.rate".into(),
        s if s.starts_with("load.profile") => "load".into(),
        s if s.starts_with("topology.") => s.trim_start_matches("topology.").into(),
        s => s.split('.').take(2).collect::<Vec<_>>().join("."),
    }
}

/// The settings of workloads among the differences, each key once.
pub(super) fn changes(differences: &[Difference]) -> Vec<WorkloadChange> {
    let mut list: Vec<WorkloadChange> = Vec::new();
    let differs = |workload: usize, setting: &str| {
        let what = format!("workloads.{workload}.{setting}");
        differences.iter().find(|d| d.what == what)
    };
    for d in differences {
        let parts = d.what.strip_prefix("workloads.").and_then(|rest| rest.split_once('.'));
        let Some((Ok(workload), setting)) = parts.map(|(index, rest)| (index.parse::<usize>(), rest)) else {
            continue;
        };
        // Every workload has a name: one without is not there.
        let missing = differs(workload, "name").filter(|n| [&n.baseline, &n.candidate].contains(&&ABSENT.into()));
        let mode = differs(workload, "load.mode").filter(|_| setting.starts_with("load."));
        let shaped = setting.starts_with("load.profile") && differences.iter().any(|x| shape(&x.what, workload));
        let (key, of) = match (missing, mode) {
            (Some(name), _) => (String::new(), (name.baseline.as_str(), name.candidate.as_str())),
            (None, Some(mode)) => ("load.mode".into(), (mode.baseline.as_str(), mode.candidate.as_str())),
            (None, None) if shaped => ("load".into(), ("of one shape", "of another")),
            (None, None) => (key(setting), (d.baseline.as_str(), d.candidate.as_str())),
        };
        if !list.iter().any(|c| (c.workload, &c.key) == (workload, &key)) {
            list.push(WorkloadChange { workload, key, baseline: of.0.into(), candidate: of.1.into() });
        }
    }
    list
}

/// What stands for a setting that one side does not have.
pub(super) const ABSENT: &str = "(absent)";

/// Whether it is a setting of a profile that is more than one rate.
fn shape(what: &str, workload: usize) -> bool {
    let profile = what.strip_prefix(&format!("workloads.{workload}.load.profile."));
    profile.is_some_and(|rest| !["segments.0.from", "segments.0.to"].contains(&rest))
}

/// The same setting of several cases once; a swept one has several values.
pub(super) fn each_once(changes: Vec<WorkloadChange>) -> Vec<WorkloadChange> {
    let mut list: Vec<WorkloadChange> = Vec::new();
    for change in changes {
        if !list.contains(&change) {
            list.push(change);
        }
    }
    list
}

/// All of them: `producers is 1 and 7, load.rate is 1k/s and 9k/s`.
pub(super) fn words(changes: &[WorkloadChange]) -> String {
    changes.iter().map(WorkloadChange::to_string).collect::<Vec<_>>().join(", ")
}

impl std::fmt::Display for WorkloadChange {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { workload, key, baseline, candidate } = self;
        if key.is_empty() {
            return write!(f, "workload {} is {baseline} and {candidate}", workload + 1);
        }
        if *workload > 0 {
            write!(f, "of workload {}, ", workload + 1)?;
        }
        write!(f, "{key} is {baseline} and {candidate}")
    }
}
