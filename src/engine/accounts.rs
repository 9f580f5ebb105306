//! What an agent brings home of a trial, and how it is written.
//!
//! # Design
//! Nothing is summarised before it is put together. Books of producers and consumers are put side
//! by side, as those of the threads of one process are; histograms are added; then the trial is
//! folded once. So a figure of many agents is the same function of the same data as that of one.

use serde::{Deserialize, Serialize};

use crate::driver::Noted;
use crate::load::keys::KeyChooser;
use crate::measure::hiccup::HiccupInterval;
use crate::measure::outage::OutageLog;
use crate::measure::process::Usage;
use crate::measure::recorder::LatencyKind;
use crate::plan::{AgentShare, Case, Workload};
use crate::record::{AgentResult, AgentState, FaultRecord, Finding, Packed};
use crate::units::Nanos;

use super::consume::Received;
use super::intrude::Intruded;
use super::one_way::OneWayEnds;
use super::produce::Sent;
use super::raw::RawTrial;

/// What an agent measured. Instants are those of its own clock.
#[derive(Debug, Serialize, Deserialize)]
pub struct AgentAccounts {
    failed: Option<(String, String)>,
    interrupted: bool,
    sent: Vec<Vec<(u32, Sent)>>,
    received: Vec<Vec<(u32, Received)>>,
    samples: Vec<((usize, LatencyKind, u64), Packed)>,
    hops: Vec<((usize, String), Packed)>,
    hiccups: Vec<(u64, Packed)>,
    clipped: Vec<u64>,
    negative: Vec<u64>,
    busiest: f64,
    waiting: f64,
    spun: bool,
    generator: Usage,
    disturbance: Vec<Finding>,
    log: Vec<Noted>,
    client_dropped: Vec<u64>,
    backpressure: u64,
    outages: Vec<Option<OutageLog>>,
    /// What was done to its consumers.
    faults: Vec<FaultRecord>,
    intruded: Vec<Vec<Intruded>>,
}

impl AgentAccounts {
    /// Of a part of a trial that is over.
    pub(super) fn of(raw: RawTrial, hiccups: Vec<HiccupInterval>, (disturbance, spun): (Vec<Finding>, bool)) -> Self {
        Self {
            failed: raw.failed.map(|(phase, error)| (phase.to_owned(), error)),
            interrupted: raw.interrupted,
            sent: raw.sent,
            received: raw.received,
            samples: raw.samples.into_all().into_iter().collect(),
            hops: raw.hops.iter().map(|(key, h)| (key.clone(), Packed::of(h))).collect(),
            hiccups,
            clipped: raw.clipped,
            negative: raw.negative,
            busiest: raw.busiest,
            waiting: raw.waiting,
            spun,
            generator: raw.generator,
            disturbance,
            log: raw.log,
            client_dropped: raw.client_dropped,
            backpressure: raw.backpressure,
            outages: raw.outages,
            faults: raw.faults,
            intruded: raw.intruded,
        }
    }

    /// How and in which phase it failed.
    pub fn failure(&self) -> Option<(&str, &str)> {
        self.failed.as_ref().map(|(phase, error)| (phase.as_str(), error.as_str()))
    }

    /// Whether it is of this case: what comes from another process is not trusted.
    pub fn fits(&self, case: &Case) -> bool {
        let n = case.workloads.len();
        let lists = [self.sent.len(), self.received.len(), self.clipped.len(), self.negative.len()];
        let more = [self.outages.len(), self.intruded.len(), self.client_dropped.len()];
        let producers = |w: usize| case.workloads[w].topology.producers;
        lists.iter().chain(&more).all(|l| *l == n)
            && self.outages.iter().flatten().all(OutageLog::sound)
            && self.samples.iter().all(|((w, ..), _)| *w < n)
            && self.hops.iter().all(|((w, _), _)| *w < n)
            && (0..n).all(|w| self.sent[w].iter().all(|(p, _)| *p < producers(w)))
            && (0..n).all(|w| self.received[w].iter().all(|(_, r)| r.fits(&case.workloads[w])))
    }

    /// In which workloads it sent, and in which it received.
    pub(super) fn ends(&self) -> OneWayEnds {
        OneWayEnds {
            sends: self.sent.iter().map(|all| !all.is_empty()).collect(),
            receives: self.received.iter().map(|all| !all.is_empty()).collect(),
        }
    }

    /// Fills in what the record says of the agent.
    pub(super) fn describe(&self, agent: &mut AgentResult) {
        let all = || self.sent.iter().flatten().map(|(_, s)| s);
        agent.scheduled = all().map(|s| s.scheduled).sum();
        agent.sent = all().map(|s| s.sent).sum();
        agent.acked = all().map(|s| s.acked).sum();
        let arrived = self.received.iter().flatten().map(|(_, r)| r.in_time.0);
        agent.received = arrived.sum::<u64>() + all().map(|s| s.answered).sum::<u64>();
        agent.late_start_ns = all().map(|s| s.late_start).min();
        (agent.busiest, agent.waiting) = (self.busiest, self.waiting);
        agent.pause_ns = Packed::sum(self.hiccups.iter().map(|(_, h)| h)).map(|all| all.max());
        agent.lag_p99_ns = self.p99(&[LatencyKind::Lag]);
        agent.response_p99_ns = self.p99(&[LatencyKind::Response]).or_else(|| self.p99(&[LatencyKind::Ack]));
        if let Some((phase, error)) = self.failed.clone() {
            agent.state = AgentState::Failed { phase, error };
        }
    }

    fn p99(&self, kinds: &[LatencyKind]) -> Option<Nanos> {
        let of_kind = self.samples.iter().filter(|((_, kind, _), _)| kinds.contains(kind));
        let all = Packed::sum(of_kind.map(|(_, h)| h)).filter(|all| !all.is_empty())?;
        Some(all.value_at_quantile(0.99).min(all.max()))
    }

    /// Adds itself to a trial, but for its histograms, which it gives; `shift` is added to an
    /// instant of the trial's clock to have that of the agent's. `keys` of each workload say which
    /// key a message has, where a store may replace values.
    pub(super) fn join(self, raw: &mut RawTrial, shift: i64, keys: &[Option<KeyChooser>]) -> AgentHistograms {
        let here = |at: Nanos| at.wrapping_add_signed(-shift);
        for (all, mut mine) in raw.sent.iter_mut().zip(self.sent) {
            for (_, s) in &mut mine {
                s.first.iter_mut().for_each(|at| *at = here(*at));
                s.times.iter_mut().for_each(|(_, at)| *at = here(*at));
            }
            all.extend(mine);
        }
        for ((all, mut mine), keys) in raw.received.iter_mut().zip(self.received).zip(keys) {
            for (_, r) in &mut mine {
                r.keys.clone_from(keys);
                r.windows.shift(here);
                r.replay.shift(here);
            }
            all.extend(mine);
        }
        for (all, mine) in raw.outages.iter_mut().zip(self.outages) {
            let Some(mine) = mine.map(|log| log.begins_at(raw.origin)) else { continue };
            match all {
                Some(all) if all.grid() == mine.grid() => all.merge(mine),
                Some(_) => {}
                none => *none = Some(mine),
            }
        }
        self.faults.into_iter().for_each(|fault| raw.add_fault(fault));
        raw.intruded.iter_mut().zip(self.intruded).for_each(|(all, mine)| all.extend(mine));
        for ((workload, name), h) in self.hops {
            raw.add_hop(workload, &name, &h.open());
        }
        let add = |all: &mut Vec<u64>, mine: &[u64]| all.iter_mut().zip(mine).for_each(|(a, m)| *a += m);
        add(&mut raw.clipped, &self.clipped);
        add(&mut raw.negative, &self.negative);
        add(&mut raw.client_dropped, &self.client_dropped);
        raw.backpressure += self.backpressure;
        (raw.busiest, raw.waiting) = (raw.busiest.max(self.busiest), raw.waiting.max(self.waiting));
        raw.generator = raw.generator.and(&self.generator);
        raw.agents_spun |= self.spun;
        raw.agent_disturbance.extend(self.disturbance);
        raw.log.extend(self.log.into_iter().map(|(at, kind, words)| (here(at), kind, words)));
        AgentHistograms { samples: self.samples, hiccups: self.hiccups }
    }
}

/// Histograms of agents, which are added when all are there: one sum at a time is open then.
#[derive(Default)]
pub(super) struct AgentHistograms {
    samples: Vec<((usize, LatencyKind, u64), Packed)>,
    hiccups: Vec<HiccupInterval>,
}

impl AgentHistograms {
    pub fn extend(&mut self, more: Self) {
        self.samples.extend(more.samples);
        self.hiccups.extend(more.hiccups);
    }

    pub fn add_to(self, raw: &mut RawTrial) {
        raw.samples.add_all(self.samples);
        raw.agent_hiccups.add_all(self.hiccups);
    }
}

impl Received {
    fn fits(&self, w: &Workload) -> bool {
        // The backlog has a producer of its own.
        let n = w.topology.producers as usize + usize::from(w.delivery.backlog > 0);
        let some = [self.first_arrivals.len(), self.gaps.len()];
        self.seen.len() == n && self.dead.len() == n && some.iter().all(|len| [0, n].contains(len))
    }
}

/// What came back from an agent.
pub struct AgentReturn {
    pub share: AgentShare,
    /// Who it is, and what is known of its clock.
    pub agent: AgentResult,
    /// What is added to an instant of the coordinator's clock to have that of the agent.
    pub shift: i64,
    /// Its accounts; none where it did not deliver them.
    pub accounts: Option<AgentAccounts>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::join::tests::{divided, plan};
    use crate::plan::AgentsPlan;

    #[test]
    fn accounts_of_another_case_do_not_fit() {
        let plan = divided(&plan(2, 1000, "constant"), AgentsPlan::any(2));
        let case = &plan.cases[0];
        let raw = || {
            let mut raw = RawTrial::of(case);
            raw.sent[0].push((1, Sent { scheduled: 7, sent: 7, ..Sent::default() }));
            raw
        };
        let written = |raw: RawTrial| {
            let text = serde_json::to_string(&AgentAccounts::of(raw, Vec::new(), (Vec::new(), false))).unwrap();
            serde_json::from_str::<AgentAccounts>(&text).unwrap()
        };
        assert!(written(raw()).fits(case));
        let mut other = raw();
        other.sent[0].push((2, Sent::default()));
        assert!(!written(other).fits(case), "there are two producers");
        let mut fewer = raw();
        fewer.received[0].push((0, Received::default()));
        assert!(!written(fewer).fits(case), "a consumer has a set for each producer");
    }
}
