//! The sides that are compared, and what is wrong with the records as a whole.

use super::NamedRecord;
use super::foreign;
use super::model::{ComparedRecord, Design, Difference, ExcludedTrial, Question, RefusedCase, TrialDoubt};
use super::side::{CaseSide, host_line};
use super::workloads::{self, WorkloadChange};
use crate::plan::Case;
use crate::record::{Record, SCHEMA};

/// Why two records are not comparable at all.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotComparable {
    /// Another major version of the schema.
    #[error(
        "`{label}` has schema `{found}`, this program compares `{SCHEMA}`: compare it with the version that wrote it, or measure again"
    )]
    Schema {
        label: String,
        /// Its schema.
        found: String,
    },
    /// Measured on different machines.
    #[error(
        "the results come from different machines ({0}): measure both on one, or say --across-hosts to compare the machines with the systems"
    )]
    Host(String),
    /// A debug build against a release build.
    #[error(
        "`{0}` was measured by a debug build of msgbench and the other by a release build: measure both with `cargo build --release`"
    )]
    Profile(String),
    /// No case is common to both.
    #[error("the results have no case in common: baseline has {baseline}; candidate has {candidate}")]
    Nothing {
        /// Cases of the baseline.
        baseline: String,
        /// Cases of the candidate.
        candidate: String,
    },
    /// A system that is not there.
    #[error("there is no system `{asked}` in the result; it has {known}")]
    System {
        /// The name asked for.
        asked: String,
        /// The names there are.
        known: String,
    },
    /// Whatever both have is driven with another workload.
    #[error("the workload is not the same: {}", workloads::words(.0))]
    Workload(Vec<WorkloadChange>),
    /// One system alone.
    #[error("the result has only the system {0}: give a second result to compare it with")]
    OneSystem(String),
}

/// What is tolerated.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct CompareOptions {
    /// Results of different machines may be compared.
    pub across_hosts: bool,
    /// A gate was asked for: also where systems are compared with each other, the verdict decides
    /// the exit code.
    pub gated: bool,
}

/// Two cases that are comparable.
#[derive(Debug)]
pub(super) struct CasePair<'a> {
    pub scenario: String,
    pub a: CaseSide<'a>,
    pub b: CaseSide<'a>,
    /// Whether a round of one side is a round of the other.
    pub shared_rounds: bool,
    pub interleaved: bool,
}

/// Everything there is to compare.
#[derive(Debug)]
pub(super) struct Pairing<'a> {
    pub scenario: String,
    pub question: Question,
    pub baseline: ComparedRecord,
    pub candidate: ComparedRecord,
    pub design: Design,
    pub gated: bool,
    /// Trials of the candidate that stand in the baseline as well.
    pub copies: usize,
    pub differences: Vec<Difference>,
    pub refused: Vec<RefusedCase>,
    pub excluded: Vec<ExcludedTrial>,
    pub doubts: Vec<TrialDoubt>,
    pub pairs: Vec<CasePair<'a>>,
}

fn source(of: NamedRecord<'_>) -> ComparedRecord {
    let r = of.record;
    ComparedRecord {
        label: of.label.into(),
        started_at: r.started_at.clone(),
        tool: if foreign::is_foreign(r) {
            r.tool.version.clone()
        } else {
            format!("msgbench {} ({})", r.tool.version, r.tool.profile)
        },
        foreign: foreign::is_foreign(r),
        scenario_sha256: r.scenario.sha256.clone(),
        host: host_line(&r.host),
        seed: r.plan.seed,
        command: r.tool.command.clone(),
    }
}

pub(super) fn system_of<'a>(record: &'a Record, case: &Case) -> &'a str {
    record.plan.systems.get(case.system).map_or("?", |s| s.name.as_str())
}

/// What is judged in a case: its system, or the service that was driven through it.
pub(super) fn driven(record: &Record, case: &Case) -> String {
    let system = system_of(record, case);
    match case.workloads.iter().find_map(|w| w.target.as_ref()) {
        Some(target) if record.plan.systems.len() == 1 => target.to_string(),
        Some(target) => format!("{target} through {system}"),
        None => system.to_owned(),
    }
}

pub(super) fn point_name(scenario: &str, case: &Case) -> String {
    let point: Vec<String> =
        case.point.iter().map(|(k, v)| format!("{}={v}", k.rsplit('.').next().unwrap_or(k))).collect();
    if point.is_empty() { scenario.into() } else { format!("{scenario} {}", point.join(" ")) }
}

/// Whether the starts of both sides alternate: at least half as many changes of side as the smaller
/// side has trials.
pub(super) fn alternate(a: &CaseSide<'_>, b: &CaseSide<'_>) -> bool {
    let mut starts: Vec<(&str, u32, bool)> = a.trials.iter().map(|t| (t.started_at.as_str(), t.round, false)).collect();
    starts.extend(b.trials.iter().map(|t| (t.started_at.as_str(), t.round, true)));
    // Round breaks ties of stamps that have whole seconds only.
    starts.sort();
    let changes = starts.windows(2).filter(|w| w[0].2 != w[1].2).count();
    changes >= 2 && 2 * changes >= a.trials.len().min(b.trials.len())
}

pub(super) fn design(pairs: &[CasePair<'_>]) -> Design {
    let interleaved = !pairs.is_empty() && pairs.iter().all(|c| c.interleaved);
    let foreign = pairs.iter().any(|c| [&c.a, &c.b].iter().any(|s| foreign::is_foreign(s.record)));
    let words = if foreign {
        "When, where and in which order another tool made its runs is not known: a drift of the machine, or another machine, looks like a difference."
    } else if interleaved {
        "The runs of both sides alternate, so that a drift of the machine hits both."
    } else {
        "The runs of one side were made before those of the other: a drift of the machine between them looks like a difference. Interleave them to be sure."
    };
    Design { interleaved, words: words.into() }
}

impl<'a> Pairing<'a> {
    /// That of two records, before anything is paired.
    pub fn of(a: NamedRecord<'a>, b: NamedRecord<'a>, question: Question) -> Self {
        Self {
            scenario: b.record.plan.name.clone(),
            question,
            baseline: source(a),
            candidate: source(b),
            design: Design { interleaved: false, words: String::new() },
            gated: false,
            copies: 0,
            differences: Vec::new(),
            refused: Vec::new(),
            excluded: Vec::new(),
            doubts: Vec::new(),
            pairs: Vec::new(),
        }
    }

    /// Notes what is different, each once.
    pub fn differ(&mut self, found: impl IntoIterator<Item = Difference>) {
        for d in found {
            if !self.differences.contains(&d) {
                self.differences.push(d);
            }
        }
    }
}
