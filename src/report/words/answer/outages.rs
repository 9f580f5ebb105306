//! What faults did to the systems: by system and kind of fault, over all faults of all runs that
//! count.

use super::side::RunFigure;
use crate::plan::{Action, ClusterRole, Keys, OutageField, OutageSpec};
use crate::record::{FaultEffect, FaultRecord, Record, Trial, WorkloadResult, outage::of_fault};
use crate::report::words::view::{TextTable, label, trials, usable};
use crate::units::{count, digits, plural, three_digits, time_words};

/// Faults that are the same thing done to the same part of a system.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FaultKind {
    pub action: Action,
    pub role: Option<ClusterRole>,
    /// Where no role was named: to which nodes, or to which consumer.
    pub nodes: Vec<u32>,
    pub consumer: Option<u32>,
}

impl FaultKind {
    pub fn of(fault: &FaultRecord) -> Self {
        let nodes = if fault.role.is_some() { Vec::new() } else { fault.nodes.clone() };
        Self { action: fault.action, role: fault.role, nodes, consumer: fault.consumer }
    }

    /// What happened, as a clause: `the leader is killed`.
    pub fn clause(&self) -> String {
        let (whom, are) = self.whom();
        match self.action {
            Action::Pause if are == "are" => format!("{whom} stand still"),
            Action::Pause => format!("{whom} stands still"),
            Action::Kill | Action::ConsumerKill => format!("{whom} {are} killed"),
            Action::Terminate => format!("{whom} {are} asked to end"),
            Action::Restart => format!("{whom} {are} killed and started again"),
            Action::Power if are == "are" => format!("{whom} lose their power"),
            Action::Power => format!("{whom} loses its power"),
            Action::Cut => format!("{whom} {are} cut off"),
            Action::Shape if self.role.is_some() || !self.nodes.is_empty() => {
                format!("the network of {whom} is slowed down")
            }
            Action::Shape => format!("{whom} {are} slowed down"),
            Action::Transfer => format!("{whom} hands over"),
            Action::RollingRestart => "one node after the other is restarted".into(),
            Action::ProducerKill => "a producer dies in a transaction".into(),
            Action::ConsumerJoin => format!("{whom} comes"),
            Action::ConsumerLeave => format!("{whom} leaves"),
            other => format!("{whom} had `{}`", other.name()),
        }
    }

    fn whom(&self) -> (String, &'static str) {
        match (self.consumer, self.role, &self.nodes[..]) {
            (Some(consumer), ..) => (format!("consumer {consumer}"), "is"),
            (_, Some(ClusterRole::All), _) => ("all nodes".into(), "are"),
            (_, Some(role), _) => (format!("the {}", role.name()), "is"),
            (_, _, []) => ("the network".into(), "is"),
            (_, _, [node]) => (format!("node {node}"), "is"),
            (_, _, many) => {
                let all: Vec<String> = many.iter().map(u32::to_string).collect();
                (format!("nodes {}", all.join(", ")), "are")
            }
        }
    }
}

/// One kind of fault and what it did to a workload of a case.
#[derive(Debug, Clone)]
pub struct FaultGroup<'a> {
    /// The case, with its workload where it has several.
    pub label: String,
    /// Which of all cases and workloads it is, in their order.
    pub place: usize,
    /// Whether its lanes are keys, and no channels.
    pub keyed: bool,
    pub kind: FaultKind,
    /// Every fault with its trial and what it did.
    pub faults: Vec<(&'a Trial, &'a FaultRecord, &'a FaultEffect)>,
}

impl<'a> FaultGroup<'a> {
    /// The groups of a workload of a case, in the order in which they came.
    pub fn of(record: &'a Record, case: &str, index: usize) -> Vec<Self> {
        let mut all: Vec<Self> = Vec::new();
        let Some(plan) = record.plan.cases.iter().find(|c| c.id == case) else { return all };
        let Some(workload) = plan.workloads.get(index) else { return all };
        let before = record.plan.cases.iter().take_while(|c| c.id != case);
        let place = before.map(|c| c.workloads.len()).sum::<usize>() + index;
        for trial in trials(record, &plan.id).filter(|t| usable(t)) {
            let effects = trial.workloads.get(index).map_or(&[][..], |w: &WorkloadResult| &w.outages);
            for effect in effects {
                let Some(fault) = trial.faults.get(effect.fault as usize) else { continue };
                let kind = FaultKind::of(fault);
                match all.iter_mut().find(|group| group.kind == kind) {
                    Some(group) => group.faults.push((trial, fault, effect)),
                    None => {
                        let faults = vec![(trial, fault, effect)];
                        let keyed = workload.delivery.keys != Keys::None;
                        all.push(Self { label: label(plan, workload), place, keyed, kind, faults });
                    }
                }
            }
        }
        all
    }

    /// All groups of a result.
    pub fn all(record: &'a Record) -> Vec<Self> {
        let of = |case: &'a crate::plan::Case| {
            (0..case.workloads.len()).flat_map(move |index| Self::of(record, &case.id, index))
        };
        record.plan.cases.iter().flat_map(of).collect()
    }

    /// The values of a field, one for each fault that has one.
    pub fn values(&self, field: OutageField) -> Vec<f64> {
        self.faults.iter().filter_map(|(trial, _, effect)| of_fault(trial, effect, field)).collect()
    }

    /// The median over the faults, with its interval.
    pub fn figure(&self, field: OutageField) -> Option<RunFigure> {
        RunFigure::of_times(&self.values(field))
    }

    /// `5.1 s (4.4 to 6.9)`; `0` where there was no outage, `never` where it was not over.
    fn cell(&self, field: OutageField) -> String {
        let Some(figure) = self.figure(field) else { return "-".into() };
        with_range(&figure)
    }

    /// `0 (at most 15 % of faults)`, `3,412 in 2 of 20`.
    fn lost(&self) -> String {
        let values = self.values(OutageField::LostAcked);
        let (hit, n) = (values.iter().filter(|v| **v > 0.0).count(), values.len());
        match (hit, bound(n)) {
            _ if !self.faults.iter().any(|(_, _, e)| e.write.is_some()) => "-".into(),
            (0, Some(most)) => format!("0 (in at most {} % of faults)", three_digits(100.0 * most)),
            (0, None) => "0".into(),
            _ => format!("{} in {hit} of {n}", digits(values.iter().sum::<f64>() as u64)),
        }
    }

    /// Faults whose outage was not over when the load ended, and faults that came before all was
    /// well again.
    pub fn open(&self) -> (usize, usize) {
        let sides = |e: &FaultEffect| [e.write.clone(), e.read.clone()].into_iter().flatten().collect::<Vec<_>>();
        let count = |of: &dyn Fn(&crate::record::OutageResult) -> bool| {
            self.faults.iter().filter(|(_, _, e)| sides(e).iter().any(of)).count()
        };
        (count(&|side| side.longest_s.is_none() && !side.unsettled), count(&|side| side.unsettled))
    }
}

/// The share of faults that lose something, at most, where none of `n` did: 95 % sure.
///
/// Source: Hanley and Lippman-Hand, "If nothing goes wrong, is everything all right?" (JAMA 1983):
/// 3 / n. Of fewer than 4 it says nothing.
pub fn bound(n: usize) -> Option<f64> {
    (n > 3).then(|| 3.0 / n as f64)
}

/// `5.1 s (4.4 to 6.9 s)`.
fn with_range(figure: &RunFigure) -> String {
    if figure.value == 0.0 && figure.range.is_none_or(|(_, high)| high == 0.0) {
        return "none".into();
    }
    match figure.range {
        Some((low, high)) if shown(figure, low) != shown(figure, high) => {
            let (low, high) = (shown(figure, low), shown(figure, high));
            // `4.4 to 6.9 s`
            let same = low.rsplit_once(' ').filter(|(_, unit)| high.ends_with(&format!(" {unit}")));
            format!("{} ({} to {high})", shown(figure, figure.value), same.map_or(low.as_str(), |(low, _)| low))
        }
        _ => shown(figure, figure.value),
    }
}

fn shown(figure: &RunFigure, value: f64) -> String {
    if value == 0.0 { "none".into() } else { figure.show(value) }
}

/// A row for each system and kind of fault.
pub fn table(record: &Record) -> TextTable {
    let deadline = record.plan.outage.deadline;
    let caption = format!(
        "What faults did: the median over the faults, with its 95 % interval (of fewer than 6 the range). An outage is a run of messages that were not done within {} of when they were due, in the worst partition or subject",
        time_words(deadline.0)
    );
    let heads = [
        "case",
        "after",
        ">faults",
        ">no writes for",
        ">no deliveries for",
        ">first write after",
        ">of that the client",
        ">latency as before after",
        ">late",
        ">lanes hit",
        ">acknowledged and lost",
        ">all replicas after",
    ];
    let mut table = TextTable::new(&caption, &heads);
    for group in FaultGroup::all(record) {
        let share = |field| {
            let values = group.values(field);
            crate::stats::median(&values).map_or_else(|| "-".into(), |v| format!("{} %", three_digits(100.0 * v)))
        };
        table.rows.push(vec![
            group.label.clone(),
            group.kind.clause(),
            count(group.faults.len() as f64),
            group.cell(OutageField::Write),
            group.cell(OutageField::Read),
            group.cell(OutageField::FirstAck),
            group.cell(OutageField::Client),
            group.cell(OutageField::Recovery),
            share(OutageField::LateShare),
            share(OutageField::Blast),
            group.lost(),
            group.cell(OutageField::Redundancy),
        ]);
    }
    // What no system can say has no column.
    let said = |column: usize| table.rows.iter().any(|row| row[column] != "-");
    let keep: Vec<bool> = (0..table.head.len()).map(said).collect();
    let kept = |cells: &[String]| cells.iter().zip(&keep).filter(|(_, k)| **k).map(|(c, _)| c.clone()).collect();
    let right = table.right.iter().zip(&keep).filter(|(_, k)| **k).map(|(r, _)| *r).collect();
    if table.rows.is_empty() {
        return table;
    }
    TextTable { head: kept(&table.head), right, rows: table.rows.iter().map(|row| kept(row)).collect(), ..table }
}

/// The sentences of the first screen, one for each kind of fault that these cases and workloads
/// have met.
pub(super) fn sentences(record: &Record, of: &[(&str, &str, usize)]) -> Vec<String> {
    let groups: Vec<(&str, FaultGroup<'_>)> = of
        .iter()
        .flat_map(|(name, case, index)| FaultGroup::of(record, case, *index).into_iter().map(|group| (*name, group)))
        .filter(|(_, group)| !group.kind.action.of_consumer())
        .collect();
    let mut kinds: Vec<&FaultKind> = Vec::new();
    for (_, group) in &groups {
        if !kinds.contains(&&group.kind) {
            kinds.push(&group.kind);
        }
    }
    let sentence = |kind: &&FaultKind| {
        let of: Vec<&(&str, FaultGroup<'_>)> = groups.iter().filter(|(_, group)| group.kind == **kind).collect();
        sentence(kind, &of, &record.plan.outage)
    };
    kinds.iter().filter_map(sentence).collect()
}

/// `After the leader is killed, jetstream takes 5.1 s (4.4 to 6.9 s) to accept writes again, kafka
/// 9.2 s (9 to 9.4 s) (the median of 20 faults each, nats-server 2.15.2; kafka 4.4.0).`
fn sentence(kind: &FaultKind, of: &[&(&str, FaultGroup<'_>)], spec: &OutageSpec) -> Option<String> {
    let figures = |field| of.iter().filter_map(move |(_, group)| group.figure(field));
    let stops = |field| figures(field).any(|figure| figure.value > 0.0);
    // A transaction whose producer has died holds up readers alone.
    let writes = figures(OutageField::Write).next().is_some();
    let writes = writes && (stops(OutageField::Write) || !stops(OutageField::Read));
    let (field, again) =
        if writes { (OutageField::Write, "to accept writes again") } else { (OutageField::Read, "to deliver again") };
    let mut parts: Vec<String> = Vec::new();
    for (name, group) in of {
        let Some(figure) = group.figure(field) else { continue };
        parts.push(match figure.value {
            0.0 => format!("{name} has no outage of more than {}", time_words(spec.deadline.0)),
            v if v.is_infinite() => format!("{name} is not back before the load ends"),
            _ if parts.iter().any(|p: &String| p.ends_with(again)) => format!("{name} {}", with_range(&figure)),
            _ => format!("{name} takes {} {again}", with_range(&figure)),
        });
    }
    if parts.is_empty() {
        return None;
    }
    let mut counts: Vec<usize> = of.iter().map(|(_, group)| group.values(field).len()).collect();
    counts.dedup();
    let faults = match &counts[..] {
        [1] => "one fault".to_owned(),
        [n] => format!("the median of {}", plural(*n as u64, "fault")),
        many => format!("the median of {} faults", many.iter().map(usize::to_string).collect::<Vec<_>>().join(" and ")),
    };
    let mut versions: Vec<&str> =
        of.iter().filter_map(|(_, g)| Some(g.faults.first()?.0.system.version.as_str())).collect();
    versions.retain(|v| !v.is_empty());
    versions.dedup();
    let versions = if versions.is_empty() { String::new() } else { format!(", {}", versions.join("; ")) };
    let each = if of.len() > 1 { " each" } else { "" };
    Some(format!("After {}, {} ({faults}{each}{versions}).", kind.clause(), parts.join(", ")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::{OutageResult, sample};

    /// Kills of the leader that took so many seconds each; none is not over.
    pub(super) fn killed(lengths: &[(&str, &[Option<f64>])]) -> Record {
        let mut record = sample::record();
        record.trials.retain(|t| t.validity.iter().all(|c| c.status != crate::record::Status::Invalid));
        for trial in &mut record.trials {
            let Some((_, lengths)) = lengths.iter().find(|(case, _)| *case == trial.case) else { continue };
            for (i, longest_s) in lengths.iter().enumerate() {
                let at = (i as u64 + 1) * 20_000_000_000;
                trial.faults.push(FaultRecord {
                    event: 0,
                    occurrence: i as u32 + 1,
                    action: Action::Kill,
                    nodes: vec![i as u32 % 3],
                    role: Some(ClusterRole::Leader),
                    consumer: None,
                    due_ns: at,
                    at_ns: at,
                    undone_ns: None,
                    settled_ns: Some(at + 15_000_000_000),
                });
                let write = OutageResult {
                    longest_s: *longest_s,
                    first_s: *longest_s,
                    judged: true,
                    recovery_s: longest_s.map(|s| s + 1.0),
                    lanes: 3,
                    hit: 1,
                    due: 100,
                    late: 20,
                    ..OutageResult::default()
                };
                trial.workloads[0].outages.push(FaultEffect {
                    fault: i as u32,
                    write: Some(write),
                    lost_acked: 0,
                    ..FaultEffect::default()
                });
            }
        }
        record
    }

    #[test]
    fn each_kind_of_fault_is_a_clause() {
        let clause =
            |action, role, nodes: &[u32]| FaultKind { action, role, nodes: nodes.to_vec(), consumer: None }.clause();
        let leader = Some(ClusterRole::Leader);
        assert_eq!(clause(Action::Transfer, leader, &[]), "the leader hands over");
        assert_eq!(
            clause(Action::RollingRestart, Some(ClusterRole::All), &[]),
            "one node after the other is restarted"
        );
        assert_eq!(clause(Action::Power, leader, &[]), "the leader loses its power");
        assert_eq!(clause(Action::Power, Some(ClusterRole::All), &[]), "all nodes lose their power");
        assert_eq!(clause(Action::Cut, leader, &[]), "the leader is cut off");
        assert_eq!(clause(Action::Cut, None, &[]), "the network is cut off");
        assert_eq!(clause(Action::Shape, None, &[2]), "the network of node 2 is slowed down");
        assert_eq!(clause(Action::Shape, None, &[]), "the network is slowed down");
        assert_eq!(clause(Action::ProducerKill, None, &[]), "a producer dies in a transaction");
    }

    /// Readers alone may be held up: then the sentence is about them.
    #[test]
    fn an_outage_of_readers_alone_is_told() {
        let mut record = killed(&[("nats", &[Some(8.0), Some(9.0)])]);
        for effect in record.trials.iter_mut().flat_map(|t| &mut t.workloads[0].outages) {
            effect.read = effect.write.clone();
            effect.write = Some(OutageResult { longest_s: Some(0.0), hit: 0, late: 0, ..OutageResult::default() });
        }
        let said = sentences(&record, &[("nats", "nats", 0)]).join("\n");
        assert!(said.contains("nats takes") && said.contains("to deliver again"), "{said}");
    }

    #[test]
    fn what_faults_did_is_one_sentence() {
        let seconds = [4.4, 4.9, 5.0, 5.1, 5.2, 6.0, 6.9].map(Some);
        let said = |lengths: &[(&str, &[Option<f64>])]| {
            let record = killed(lengths);
            sentences(&record, &[("reference", "reference", 0), ("nats", "nats", 0)]).join("\n")
        };
        let all = [
            said(&[("nats", &seconds[..])]),
            said(&[("reference", &[Some(0.0), Some(0.0)]), ("nats", &[Some(3.0), None, None])]),
            said(&[("reference", &[Some(1.5)]), ("nats", &[Some(9.2)])]),
            said(&[]),
        ];
        insta::assert_snapshot!(all.join("\n"));
    }

    #[test]
    fn what_faults_did_is_a_table() {
        let seconds = [4.4, 4.9, 5.0, 5.1, 5.2, 6.0, 6.9].map(Some);
        let mut record = killed(&[("nats", &seconds[..]), ("reference", &[Some(0.0), Some(0.0), None])]);
        let table = table(&record);
        insta::assert_debug_snapshot!((table.head, table.rows));
        let open: Vec<_> = FaultGroup::all(&record).iter().map(FaultGroup::open).collect();
        assert_eq!(open, [(1, 0), (0, 0)]);
        // What is lost is counted, and by how many faults.
        record.trials[0].workloads[0].outages[2].lost_acked = 3412;
        let of = record.trials[0].case.clone();
        assert!(FaultGroup::of(&record, &of, 0)[0].lost().starts_with("3,412 in 1 of "));
        assert_eq!((bound(20), bound(3)), (Some(0.15), None));
    }
}
