//! What may be compared with what.

use std::collections::BTreeSet;

use super::NamedRecord;
use super::capacity::{self, SearchedCase};
use super::copies::copies;
use super::differences::{facts, settings, whole};
use super::foreign;
use super::model::{ComparedRecord, Design, Difference, ExcludedTrial, Question, RefusedCase, TrialDoubt};
use super::side::{CaseSide, Fault, host_line};
use super::workloads::{self, WorkloadChange};
use crate::plan::Case;
use crate::plan::search::SearchPlan;
use crate::record::{Host, Outcome, Record, SCHEMA, Status, Trial};

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

/// Why a trial is not compared.
fn fault(trial: &Trial) -> Option<Fault> {
    let of = |reason: String, short: String| Some(Fault { reason, short, checks: Vec::new() });
    match &trial.outcome {
        Outcome::Failed { phase, error } => {
            return of(format!("failed in {phase}: {error}"), format!("failed in {phase}"));
        }
        Outcome::Partial => return of("interrupted".into(), "interrupted".into()),
        Outcome::Complete => {}
    }
    let invalid = || trial.validity.iter().filter(|c| c.status == Status::Invalid);
    let words: Vec<String> = invalid().map(|c| format!("{} {}: {}", c.id, c.name, c.observed)).collect();
    let reason = format!("INVALID: {}", words.join("; "));
    let short = reason.trim_end_matches('.').to_owned();
    let checks: Vec<String> = invalid().map(|c| c.id.clone()).collect();
    (!checks.is_empty()).then_some(Fault { reason, short, checks })
}

fn side<'a>(label: String, of: NamedRecord<'a>, case: &'a Case, excluded: &mut Vec<ExcludedTrial>) -> CaseSide<'a> {
    let mut side = CaseSide {
        label,
        case,
        record: of.record,
        trials: Vec::new(),
        capacities: None,
        excluded: 0,
        why_excluded: None,
    };
    for trial in of.record.trials.iter().filter(|t| t.case == case.id) {
        match fault(trial) {
            None => side.trials.push(trial),
            Some(fault) => {
                side.excluded += 1;
                side.why_excluded.get_or_insert_with(|| fault.clone());
                let entry = ExcludedTrial {
                    of: of.label.into(),
                    case: case.id.clone(),
                    round: trial.round,
                    reason: fault.reason,
                    checks: fault.checks,
                };
                if !excluded.contains(&entry) {
                    excluded.push(entry);
                }
            }
        }
    }
    side.trials.sort_by_key(|t| t.round);
    side
}

/// What is doubtful about the trials of another tool.
fn doubts(of: NamedRecord<'_>, case: &Case, list: &mut Vec<TrialDoubt>) {
    for trial in of.record.trials.iter().filter(|t| t.case == case.id && foreign::is_foreign(of.record)) {
        for check in trial.validity.iter().filter(|c| c.status != Status::Ok) {
            // Why a run does not count must stand beside the others that do, in formats that list
            // no excluded trials too.
            let text = match check.status {
                Status::Invalid => format!("{}; {}", check.observed, check.message),
                _ => check.observed.clone(),
            };
            let new = TrialDoubt {
                of: of.label.into(),
                case: case.id.clone(),
                trials: 1,
                invalid: check.status == Status::Invalid,
                text,
            };
            match list.iter_mut().find(|d| (&d.of, &d.case, &d.text) == (&new.of, &new.case, &new.text)) {
                Some(known) => known.trials += 1,
                None => list.push(new),
            }
        }
    }
}

fn system_of<'a>(record: &'a Record, case: &Case) -> &'a str {
    record.plan.systems.get(case.system).map_or("?", |s| s.name.as_str())
}

/// What is judged in a case: its system, or the service that was driven through it.
fn driven(record: &Record, case: &Case) -> String {
    let system = system_of(record, case);
    match case.workloads.iter().find_map(|w| w.target.as_ref()) {
        Some(target) if record.plan.systems.len() == 1 => target.to_string(),
        Some(target) => format!("{target} through {system}"),
        None => system.to_owned(),
    }
}

fn point_name(scenario: &str, case: &Case) -> String {
    let point: Vec<String> =
        case.point.iter().map(|(k, v)| format!("{}={v}", k.rsplit('.').next().unwrap_or(k))).collect();
    if point.is_empty() { scenario.into() } else { format!("{scenario} {}", point.join(" ")) }
}

/// Whether the starts of both sides alternate: at least half as many changes of side as the smaller
/// side has trials.
fn alternate(a: &CaseSide<'_>, b: &CaseSide<'_>) -> bool {
    let mut starts: Vec<(&str, u32, bool)> = a.trials.iter().map(|t| (t.started_at.as_str(), t.round, false)).collect();
    starts.extend(b.trials.iter().map(|t| (t.started_at.as_str(), t.round, true)));
    // Round breaks ties of stamps that have whole seconds only.
    starts.sort();
    let changes = starts.windows(2).filter(|w| w[0].2 != w[1].2).count();
    changes >= 2 && 2 * changes >= a.trials.len().min(b.trials.len())
}

fn design(pairs: &[CasePair<'_>]) -> Design {
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

fn checked(of: NamedRecord<'_>) -> Result<(), NotComparable> {
    // Within a major version fields are only added.
    if of.record.schema != SCHEMA {
        return Err(NotComparable::Schema { label: of.label.into(), found: of.record.schema.clone() });
    }
    Ok(())
}

/// Why a case cannot be compared with its twin, if it cannot.
fn refused(ra: &Record, rb: &Record, (case, twin): (&Case, &Case), workload: &[WorkloadChange]) -> Option<RefusedCase> {
    let skipped = |r: &Record, case: &Case| {
        let name = system_of(r, case);
        r.skipped.iter().find(|s| s.system == name).map(|s| s.reason.clone())
    };
    // Missing on one side only is a fault of that side, and so an INVALID row.
    let (reason, missing) = if let (Some(reason), Some(_)) = (skipped(ra, case), skipped(rb, twin)) {
        (format!("measured in neither result: {reason}"), false)
    } else if !workload.is_empty() {
        (format!("the workload is not the same: {}", workloads::words(workload)), true)
    } else {
        return None;
    };
    Some(RefusedCase { case: case.id.clone(), reason, missing })
}

/// Whether two results come from machines and builds that can be compared.
fn like(a: NamedRecord<'_>, b: NamedRecord<'_>, options: CompareOptions) -> Result<(), NotComparable> {
    let (ra, rb) = (a.record, b.record);
    let machine = |h: &Host| (h.cpu.clone(), h.cpus, h.memory_bytes >> 28, h.virtualised);
    if machine(&ra.host) != machine(&rb.host) && !options.across_hosts {
        return Err(NotComparable::Host(format!("{}; {}", host_line(&ra.host), host_line(&rb.host))));
    }
    if ra.tool.profile != rb.tool.profile && [ra, rb].iter().any(|r| r.tool.profile == "debug") {
        let debug = if ra.tool.profile == "debug" { a.label } else { b.label };
        return Err(NotComparable::Profile(debug.into()));
    }
    Ok(())
}

/// The names, where one system is compared with another one, each measured by itself.
fn other_system(a: &Record, b: &Record) -> Option<(String, String)> {
    let single = |r: &Record| (r.plan.systems.len() == 1).then(|| r.plan.systems[0].name.clone());
    single(a).zip(single(b)).filter(|(x, y)| x != y)
}

pub(super) fn records<'a>(
    a: NamedRecord<'a>,
    b: NamedRecord<'a>,
    options: CompareOptions,
) -> Result<Pairing<'a>, NotComparable> {
    checked(a)?;
    checked(b)?;
    like(a, b, options)?;
    let (ra, rb) = (a.record, b.record);
    let renamed = other_system(ra, rb);
    let question = if renamed.is_some() { Question::Systems } else { Question::Change };
    let mut pairing = Pairing {
        scenario: rb.plan.name.clone(),
        question,
        baseline: source(a),
        candidate: source(b),
        design: Design { interleaved: false, words: String::new() },
        gated: question == Question::Change || options.gated,
        copies: copies(ra, rb),
        differences: whole(ra, rb),
        refused: Vec::new(),
        excluded: Vec::new(),
        doubts: Vec::new(),
        pairs: Vec::new(),
    };
    if let (Some(x), Some(y)) = (capacity::by_rate(ra), capacity::by_rate(rb)) {
        return searches(pairing, (a, x), (b, y), renamed);
    }
    let (mut matched, mut changes) = (BTreeSet::new(), Vec::new());
    for case in &ra.plan.cases {
        let name = system_of(ra, case);
        let twin =
            rb.plan.cases.iter().find(|c| c.point == case.point && (system_of(rb, c) == name || renamed.is_some()));
        let Some(twin) = twin else {
            pairing.refused.push(RefusedCase {
                case: case.id.clone(),
                reason: format!("only in {}", a.label),
                missing: true,
            });
            continue;
        };
        matched.insert(twin.id.clone());
        let (workload, other) = settings(case, twin);
        let workload = workloads::changes(&workload);
        if let Some(refused) = refused(ra, rb, (case, twin), &workload) {
            pairing.refused.push(refused);
            changes.extend(workload);
            continue;
        }
        let (la, lb) = match &renamed {
            Some((x, y)) => (x.clone(), y.clone()),
            None => (format!("{} ({})", driven(ra, case), a.label), format!("{} ({})", driven(ra, case), b.label)),
        };
        let sa = side(la, a, case, &mut pairing.excluded);
        let sb = side(lb, b, twin, &mut pairing.excluded);
        doubts(a, case, &mut pairing.doubts);
        doubts(b, twin, &mut pairing.doubts);
        let prefix = if ra.plan.systems.len() > 1 { format!("{name}: ") } else { String::new() };
        for d in facts(&prefix, &sa, &sb).into_iter().chain(other) {
            if !pairing.differences.contains(&d) {
                pairing.differences.push(d);
            }
        }
        // The files of another tool do not say when they were made.
        let interleaved = ![ra, rb].iter().any(|r| foreign::is_foreign(r)) && alternate(&sa, &sb);
        let scenario = point_name(&rb.plan.name, twin);
        pairing.pairs.push(CasePair { scenario, a: sa, b: sb, shared_rounds: interleaved, interleaved });
    }
    let only =
        |case: &Case| RefusedCase { case: case.id.clone(), reason: format!("only in {}", b.label), missing: false };
    pairing.refused.extend(rb.plan.cases.iter().filter(|c| !matched.contains(&c.id)).map(only));
    if matched.is_empty() {
        let ids = |r: &Record| r.plan.cases.iter().map(|c| format!("`{}`", c.id)).collect::<Vec<_>>().join(", ");
        return Err(NotComparable::Nothing { baseline: ids(ra), candidate: ids(rb) });
    }
    if pairing.pairs.is_empty() && !changes.is_empty() {
        return Err(NotComparable::Workload(workloads::each_once(changes)));
    }
    pairing.design = design(&pairing.pairs);
    Ok(pairing)
}

/// The limits of a search, in words.
fn limits(search: &SearchPlan) -> String {
    search.limits.iter().map(|l| format!("`{}`", l.that)).collect::<Vec<_>>().join(", ")
}

/// Pairs the searches of two records: the same systems, at the same load points but for the rate.
fn searches<'a>(
    mut pairing: Pairing<'a>,
    (a, x): (NamedRecord<'a>, &SearchPlan),
    (b, y): (NamedRecord<'a>, &SearchPlan),
    renamed: Option<(String, String)>,
) -> Result<Pairing<'a>, NotComparable> {
    let (ra, rb) = (a.record, b.record);
    let name = |s: &SearchedCase<'_>| s.results[0].case.clone();
    let twins = capacity::searched(rb);
    let mut matched = BTreeSet::new();
    for of in capacity::searched(ra) {
        let bare = capacity::without_rate(of.case);
        let same = |t: &&SearchedCase<'_>| {
            capacity::without_rate(t.case).point == bare.point
                && (renamed.is_some() || system_of(rb, t.case) == system_of(ra, of.case))
        };
        let Some(twin) = twins.iter().find(same) else {
            let reason = format!("only in {}", a.label);
            pairing.refused.push(RefusedCase { case: name(&of), reason, missing: true });
            continue;
        };
        matched.insert(name(twin));
        let (workload, other) = settings(&bare, &capacity::without_rate(twin.case));
        let changes = workloads::changes(&workload);
        let reason = match () {
            () if !changes.is_empty() => format!("the workload is not the same: {}", workloads::words(&changes)),
            () if limits(x) != limits(y) => {
                format!("the limits of the search are not the same: {} and {}", limits(x), limits(y))
            }
            () => String::new(),
        };
        if !reason.is_empty() {
            pairing.refused.push(RefusedCase { case: name(&of), reason, missing: true });
            continue;
        }
        let (la, lb) = match &renamed {
            Some((x, y)) => (x.clone(), y.clone()),
            None => {
                let label = |r, c, of: NamedRecord<'_>| format!("{} ({})", driven(r, c), of.label);
                (label(ra, of.case, a), label(rb, twin.case, b))
            }
        };
        let scenario = point_name(&rb.plan.name, &bare);
        let sides =
            (capacity::side(la, a, &of, &mut pairing.excluded), capacity::side(lb, b, twin, &mut pairing.excluded));
        let prefix = if ra.plan.systems.len() > 1 { format!("{}: ", system_of(ra, of.case)) } else { String::new() };
        pair_up(&mut pairing, scenario, sides, &prefix, false);
        for d in other {
            if !pairing.differences.contains(&d) {
                pairing.differences.push(d);
            }
        }
    }
    let only =
        |s: &SearchedCase<'_>| RefusedCase { case: name(s), reason: format!("only in {}", b.label), missing: false };
    pairing.refused.extend(twins.iter().filter(|t| !matched.contains(&name(t))).map(only));
    if matched.is_empty() {
        let ids = |r: &Record| r.searches.iter().map(|s| format!("`{}`", s.case)).collect::<BTreeSet<_>>();
        let list = |r: &Record| ids(r).into_iter().collect::<Vec<_>>().join(", ");
        return Err(NotComparable::Nothing { baseline: list(ra), candidate: list(rb) });
    }
    pairing.design = design(&pairing.pairs);
    Ok(pairing)
}

/// Pairs the searches of the systems of one record.
fn searched_systems<'a>(
    mut pairing: Pairing<'a>,
    of: NamedRecord<'a>,
    against: Option<&str>,
) -> Result<Pairing<'a>, NotComparable> {
    let r = of.record;
    let all = capacity::searched(r);
    for (i, x) in all.iter().enumerate() {
        for (j, y) in all.iter().enumerate() {
            let (nx, ny) = (system_of(r, x.case), system_of(r, y.case));
            let chosen = against.map_or(i < j, |name| nx == name);
            let bare = capacity::without_rate(x.case);
            if !chosen || nx == ny || bare.point != capacity::without_rate(y.case).point {
                continue;
            }
            let sides = (
                capacity::side(nx.into(), of, x, &mut pairing.excluded),
                capacity::side(ny.into(), of, y, &mut pairing.excluded),
            );
            let scenario = point_name(&r.plan.name, &bare);
            pair_up(&mut pairing, scenario, sides, &format!("{nx} and {ny}: "), true);
        }
    }
    if pairing.pairs.is_empty() {
        let names: BTreeSet<&str> = all.iter().map(|s| system_of(r, s.case)).collect();
        return Err(NotComparable::OneSystem(names.into_iter().collect::<Vec<_>>().join(", ")));
    }
    pairing.design = design(&pairing.pairs);
    Ok(pairing)
}

/// Adds two sides of searches, and what is different about them.
fn pair_up<'a>(
    pairing: &mut Pairing<'a>,
    scenario: String,
    (a, b): (CaseSide<'a>, CaseSide<'a>),
    prefix: &str,
    shared_rounds: bool,
) {
    for d in facts(prefix, &a, &b) {
        if !pairing.differences.contains(&d) {
            pairing.differences.push(d);
        }
    }
    let interleaved = alternate(&a, &b);
    pairing.pairs.push(CasePair { scenario, a, b, shared_rounds, interleaved });
}

pub(super) fn systems<'a>(
    of: NamedRecord<'a>,
    against: Option<&str>,
    options: CompareOptions,
) -> Result<Pairing<'a>, NotComparable> {
    checked(of)?;
    let r = of.record;
    let names: Vec<&str> = r.plan.systems.iter().map(|s| s.name.as_str()).collect();
    let known = || names.iter().map(|n| format!("`{n}`")).collect::<Vec<_>>().join(", ");
    if let Some(asked) = against.filter(|n| !names.contains(n)) {
        return Err(NotComparable::System { asked: asked.into(), known: known() });
    }
    if names.len() < 2 {
        return Err(NotComparable::OneSystem(known()));
    }
    let mut pairing = Pairing {
        scenario: r.plan.name.clone(),
        question: Question::Systems,
        baseline: source(of),
        candidate: source(of),
        design: Design { interleaved: true, words: String::new() },
        gated: options.gated,
        copies: 0,
        differences: Vec::new(),
        refused: r
            .skipped
            .iter()
            .map(|s| RefusedCase {
                case: s.system.clone(),
                reason: format!("not measured: {}", s.reason),
                missing: against == Some(s.system.as_str()),
            })
            .collect(),
        excluded: Vec::new(),
        doubts: Vec::new(),
        pairs: Vec::new(),
    };
    if capacity::by_rate(r).is_some() {
        return searched_systems(pairing, of, against);
    }
    let skipped = |c: &Case| r.skipped.iter().any(|s| s.system == system_of(r, c));
    let cases: Vec<&Case> = r.plan.cases.iter().filter(|c| !skipped(c)).collect();
    for (i, x) in cases.iter().enumerate() {
        for (j, y) in cases.iter().enumerate() {
            let chosen = match against {
                Some(name) => system_of(r, x) == name && i != j,
                None => i < j,
            };
            if !chosen || x.point != y.point || x.system == y.system {
                continue;
            }
            let (nx, ny) = (system_of(r, x), system_of(r, y));
            let a = side(nx.into(), of, x, &mut pairing.excluded);
            let b = side(ny.into(), of, y, &mut pairing.excluded);
            for d in facts(&format!("{nx} and {ny}: "), &a, &b) {
                if !pairing.differences.contains(&d) {
                    pairing.differences.push(d);
                }
            }
            let interleaved = alternate(&a, &b);
            let scenario = point_name(&r.plan.name, x);
            pairing.pairs.push(CasePair { scenario, a, b, shared_rounds: true, interleaved });
        }
    }
    if pairing.pairs.is_empty() {
        return Err(NotComparable::OneSystem(
            cases.iter().map(|c| system_of(r, c)).collect::<BTreeSet<_>>().into_iter().collect::<Vec<_>>().join(", "),
        ));
    }
    pairing.design = design(&pairing.pairs);
    Ok(pairing)
}
