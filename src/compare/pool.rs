//! Several results of one scenario as one: what a job leaves behind that runs A and B in turn, one
//! round at a time.

use super::copies::copies;
use crate::record::{Completion, Loaded, Record};

/// Why results cannot be taken together.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PoolError {
    /// There is none.
    #[error("there is no result in it: name a result folder, or a folder that holds results of one scenario")]
    Empty,
    /// A result is there twice.
    #[error(
        "the result of {at} stands in it twice, perhaps as a copy under another name: the same runs are no further ones; keep one of them"
    )]
    Twice {
        /// Start of the result; the name of the file for one of another tool.
        at: String,
    },
    /// Something other than seed and number of trials is not the same.
    #[error(
        "the results do not belong together: the one of {at} has another {what} than the first; keep one scenario to a folder"
    )]
    Different {
        /// Start of the one that differs.
        at: String,
        /// What differs.
        what: &'static str,
    },
}

/// The trials of all results as the rounds of one, in the order in which they were made.
///
/// # Errors
/// When the plan, the machine or the program is not the same.
pub fn pool(mut results: Vec<Loaded>) -> Result<Loaded, PoolError> {
    results.sort_by(|a, b| a.record.started_at.cmp(&b.record.started_at));
    let mut rest = results.into_iter();
    let mut all = rest.next().ok_or(PoolError::Empty)?;
    for next in rest {
        let host = |r: &Record| (r.host.cpu.clone(), r.host.cpus, r.host.kernel.clone());
        let (there, here) = (&all.record, &next.record);
        let what = match () {
            () if here.plan.cases != there.plan.cases => "workload",
            () if here.plan.systems != there.plan.systems => "list of systems",
            () if host(here) != host(there) => "machine",
            () if copies(there, here) > 0 => {
                let at = &here.started_at;
                let at = if at.is_empty() { here.scenario.path.clone() } else { at.clone() };
                return Err(PoolError::Twice { at });
            }
            () if here.tool.profile != there.tool.profile || here.tool.version != there.tool.version => "msgbench",
            () => {
                add(&mut all, next);
                continue;
            }
        };
        return Err(PoolError::Different { at: next.record.started_at, what });
    }
    Ok(all)
}

fn add(to: &mut Loaded, next: Loaded) {
    let all = &mut to.record;
    let last = all.trials.iter().map(|t| t.round).max().unwrap_or(0);
    to.intervals.extend(next.intervals.into_iter().map(|mut i| {
        i.round += last;
        i
    }));
    let next = next.record;
    all.trials.extend(next.trials.into_iter().map(|mut t| {
        t.round += last;
        t
    }));
    all.order.extend(next.order.into_iter().map(|(round, case)| (round + last, case)));
    all.plan.trials += next.plan.trials;
    all.ended_at = next.ended_at;
    if next.completion != Completion::Complete {
        all.completion = next.completion;
    }
    // Skipped in one of them is not skipped: the others have it.
    all.skipped.retain(|s| next.skipped.iter().any(|n| n.system == s.system));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compare::sample::{A, B, record};

    fn single(i: usize) -> Loaded {
        let mut r = record(&A[i..=i], &B[i..=i]);
        r.started_at = format!("2026-11-23T11:{i:02}:00Z");
        r.trials.iter_mut().for_each(|t| t.started_at.clone_from(&r.started_at));
        let intervals = crate::record::sample::intervals().into_iter().filter(|i| i.round == 1).collect();
        Loaded { record: r, intervals }
    }

    #[test]
    fn ten_results_of_one_round_are_one_of_ten() {
        let pooled = pool((0..10).rev().map(single).collect()).unwrap();
        let whole = record(&A, &B);
        let values = |r: &Record| {
            let of = r.trials.iter().filter(|t| t.case == "nats");
            let mut list: Vec<_> =
                of.map(|t| (t.round, t.workloads[0].latency["e2e"].at(0.99).unwrap().value_ns)).collect();
            list.sort_unstable();
            list
        };
        assert_eq!(values(&pooled.record), values(&whole));
        assert_eq!((pooled.record.plan.trials, pooled.record.order.len()), (10, 20));
        let rounds: std::collections::BTreeSet<u32> = pooled.intervals.iter().map(|i| i.round).collect();
        assert_eq!((rounds.len(), pooled.intervals.len()), (10, 10 * single(0).intervals.len()));
    }

    #[test]
    fn what_does_not_belong_together_is_refused() {
        let mut other = single(1);
        other.record.plan.cases[0].workloads[0].topology.producers = 9;
        let error = pool(vec![single(0), other]).unwrap_err();
        assert_eq!(error, PoolError::Different { at: "2026-11-23T11:01:00Z".into(), what: "workload" });
        let mut other = single(1);
        other.record.host.cpu = "Another".into();
        assert!(pool(vec![single(0), other]).unwrap_err().to_string().contains("another machine"));
        assert_eq!(pool(Vec::new()), Err(PoolError::Empty));
    }
}
