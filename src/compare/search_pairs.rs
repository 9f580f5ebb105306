//! Pairs searches for the capacity as `pair` pairs trials: a search is a value.

use std::collections::BTreeSet;

use super::NamedRecord;
use super::capacity::{self, SearchedCase};
use super::differences::{facts, settings};
use super::model::RefusedCase;
use super::pairing::{CasePair, NotComparable, Pairing, alternate, design, driven, point_name, system_of};
use super::side::CaseSide;
use super::workloads;
use crate::plan::search::SearchPlan;
use crate::record::Record;

/// The limits of a search, in words.
fn limits(search: &SearchPlan) -> String {
    search.limits.iter().map(|l| format!("`{}`", l.that)).collect::<Vec<_>>().join(", ")
}

/// Pairs the searches of two records: the same systems, at the same load points but for the rate.
pub(super) fn of_records<'a>(
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
        pairing.differ(other);
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
pub(super) fn of_systems<'a>(
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
    pairing.differ(facts(prefix, &a, &b));
    let interleaved = alternate(&a, &b);
    pairing.pairs.push(CasePair { scenario, a, b, shared_rounds, interleaved });
}
