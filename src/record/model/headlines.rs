//! Which latency heads a workload.
//!
//! Of those that a workload has the first heads it. But a time from one agent to another has the
//! error of two clocks, which no number of messages makes smaller: where that is more than a
//! twentieth of the median, the next heads it that needs no second clock.

use std::collections::{BTreeMap, BTreeSet};

use super::{LatencySummary, Record, Status, WorkloadResult};

/// The latencies from the intended time, in the order in which they head a workload.
pub const RESPONSES: [&str; 4] = ["e2e", SAME_AGENT, "rtt", "ack"];
/// Of messages whose sender and receiver are one agent.
pub const SAME_AGENT: &str = "e2e.same-agent";
/// The same from sending: all there is where messages have no intended time.
const SERVICES: [&str; 3] = ["e2e.service", "rtt.service", "ack.service"];
/// A latency whose clocks may be wrong by more than this share of its median heads nothing, unless
/// there is no other.
pub const CLOCK_SHARE: f64 = 0.05;

/// The latency that heads a workload, with its name: its response, or, without intended times, the
/// service latency.
pub fn headline(all: &BTreeMap<String, LatencySummary>) -> Option<(&'static str, &LatencySummary)> {
    response(all).or_else(|| first_of(all, &SERVICES, &|_, l| l.clocks_blur()))
}

impl WorkloadResult {
    /// The response latency that heads the workload, with its name; `None` where messages have no
    /// intended time.
    pub fn response(&self) -> Option<(&'static str, &LatencySummary)> {
        response(&self.latency)
    }

    /// See [`headline`].
    pub fn headline(&self) -> Option<(&'static str, &LatencySummary)> {
        headline(&self.latency)
    }
}

fn response(all: &BTreeMap<String, LatencySummary>) -> Option<(&'static str, &LatencySummary)> {
    first_of(all, &RESPONSES, &|_, l| l.clocks_blur())
}

/// The first that was measured and is not in doubt; where all are, the first.
fn first_of<'a>(
    all: &'a BTreeMap<String, LatencySummary>,
    names: &[&'static str],
    doubtful: &dyn Fn(&str, &LatencySummary) -> bool,
) -> Option<(&'static str, &'a LatencySummary)> {
    let measured = |l: &&LatencySummary| l.count + l.lost > 0;
    let there = || names.iter().filter_map(|name| Some((*name, all.get(*name).filter(measured)?)));
    there().find(|(name, l)| !doubtful(name, l)).or_else(|| there().next())
}

impl LatencySummary {
    /// Whether its clocks may be wrong by more than [`CLOCK_SHARE`] of its median.
    pub fn clocks_blur(&self) -> bool {
        let median = || self.at(0.5).or(self.percentiles.first())?.value_ns;
        match self.clocks.map(|doubt| doubt.bound_ns) {
            None => false,
            Some(None) => true,
            Some(Some(bound)) => median().is_some_and(|median| bound as f64 > CLOCK_SHARE * median as f64),
        }
    }
}

/// Which latency heads each workload of some records: the same one in all their cases and trials.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Headlines {
    /// By workload, the latencies whose clocks are too wrong in a trial that counts.
    blurred: Vec<BTreeSet<String>>,
}

impl Headlines {
    pub fn of<'a>(records: impl IntoIterator<Item = &'a Record>) -> Self {
        let mut all = Self::default();
        let trials = records.into_iter().flat_map(|r| &r.trials);
        // In a trial that does not count a clock may have stepped.
        for trial in trials.filter(|t| !t.agents.is_empty() && t.validity_status() != Status::Invalid) {
            for (index, workload) in trial.workloads.iter().enumerate() {
                let blurred = workload.latency.iter().filter(|(_, l)| l.clocks_blur()).map(|(kind, _)| kind.clone());
                all.blurred.resize_with(all.blurred.len().max(index + 1), BTreeSet::new);
                all.blurred[index].extend(blurred);
            }
        }
        all
    }

    /// The latency that heads the workload with this index, with its name.
    pub fn latency<'a>(
        &self,
        index: usize,
        workload: &'a WorkloadResult,
    ) -> Option<(&'static str, &'a LatencySummary)> {
        let doubtful = |name: &str, _: &LatencySummary| self.blurs(index, name);
        first_of(&workload.latency, &RESPONSES, &doubtful).or_else(|| first_of(&workload.latency, &SERVICES, &doubtful))
    }

    /// Whether the clocks of a latency are too wrong for it to head anything.
    pub fn blurs(&self, index: usize, kind: &str) -> bool {
        self.blurred.get(index).is_some_and(|kinds| kinds.contains(kind))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::{AgentResult, ClockDoubt, sample};

    /// A trial whose delivery time has this doubt, and which also has two figures without any.
    fn with(bound_ns: Option<u64>) -> Record {
        let mut record = sample::record();
        record.trials.truncate(2);
        for trial in &mut record.trials {
            trial.validity.clear();
            trial.agents = vec![AgentResult::default()];
            let latency = &mut trial.workloads[0].latency;
            let e2e = latency["e2e"].clone();
            latency.insert(SAME_AGENT.into(), e2e.clone());
            latency.insert("ack".into(), e2e);
        }
        doubt(&mut record, 1, bound_ns);
        record
    }

    fn doubt(record: &mut Record, trial: usize, bound_ns: Option<u64>) {
        let latency = &mut record.trials[trial].workloads[0].latency;
        latency.get_mut("e2e").unwrap().clocks = Some(ClockDoubt { bound_ns });
    }

    fn median(record: &Record) -> u64 {
        record.trials[1].workloads[0].latency["e2e"].at(0.5).unwrap().value_ns.unwrap()
    }

    #[test]
    fn a_time_that_clocks_blur_heads_no_trial() {
        let heads = |record: &Record| {
            let heads = Headlines::of([record]);
            [0, 1].map(|i| heads.latency(0, &record.trials[i].workloads[0]).unwrap().0)
        };
        let twentieth = median(&with(None)) / 20;
        assert_eq!(heads(&with(Some(twentieth - 1))), ["e2e"; 2]);
        assert_eq!(heads(&with(Some(twentieth + 1))), [SAME_AGENT; 2], "in one trial is enough");
        assert_eq!(heads(&with(None)), [SAME_AGENT; 2], "what is not known may be anything");
        let mut record = with(Some(twentieth + 1));
        record.trials.iter_mut().for_each(|t| drop(t.workloads[0].latency.remove(SAME_AGENT)));
        assert_eq!(heads(&record), ["ack"; 2]);
        record.trials.iter_mut().for_each(|t| drop(t.workloads[0].latency.remove("ack")));
        assert_eq!(heads(&record), ["e2e"; 2], "there is nothing else");
    }

    #[test]
    fn a_trial_that_does_not_count_decides_nothing() {
        let mut record = with(None);
        record.trials[1].validity.push(crate::record::Check {
            id: "V20".into(),
            name: String::new(),
            status: Status::Invalid,
            observed: String::new(),
            threshold: String::new(),
            message: String::new(),
        });
        assert_eq!(Headlines::of([&record]), Headlines { blurred: vec![BTreeSet::new()] });
    }
}
