//! What may be compared with what.

use std::collections::BTreeSet;

use super::NamedRecord;
use super::capacity;
use super::copies::copies;
use super::differences::{facts, settings, whole};
use super::foreign;
use super::model::{ExcludedTrial, Question, RefusedCase, TrialDoubt};
use super::pairing::{CasePair, CompareOptions, NotComparable, Pairing};
use super::pairing::{alternate, design, driven, point_name, system_of};
use super::search_pairs;
use super::side::{CaseSide, Fault, host_line};
use super::workloads::{self, WorkloadChange};
use crate::plan::Case;
use crate::record::{Host, Outcome, Record, SCHEMA, Status, Trial};

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

pub(super) fn side<'a>(
    label: String,
    of: NamedRecord<'a>,
    case: &'a Case,
    excluded: &mut Vec<ExcludedTrial>,
) -> CaseSide<'a> {
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
        gated: question == Question::Change || options.gated,
        copies: copies(ra, rb),
        differences: whole(ra, rb),
        ..Pairing::of(a, b, question)
    };
    if let (Some(x), Some(y)) = (capacity::by_rate(ra), capacity::by_rate(rb)) {
        return search_pairs::of_records(pairing, (a, x), (b, y), renamed);
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
        pairing.differ(facts(&prefix, &sa, &sb).into_iter().chain(other));
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
        gated: options.gated,
        refused: r
            .skipped
            .iter()
            .map(|s| RefusedCase {
                case: s.system.clone(),
                reason: format!("not measured: {}", s.reason),
                missing: against == Some(s.system.as_str()),
            })
            .collect(),
        ..Pairing::of(of, of, Question::Systems)
    };
    if capacity::by_rate(r).is_some() {
        return search_pairs::of_systems(pairing, of, against);
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
            pairing.differ(facts(&format!("{nx} and {ny}: "), &a, &b));
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
