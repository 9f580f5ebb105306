//! Which checks the runs of a comparison passed, and what was left out for it.

use maud::{Markup, html};

use super::notes_of_all;
use crate::compare::Comparison;
use crate::record::{Status, Trial};
use crate::report::pages::page::{definitions, details, notes as note_list, table};
use crate::report::words::groups::{ChartGroup, ChartSide};
use crate::report::words::view::{CellGrade, TextTable, check_number, status_word};

/// One line for each check that did not hold everywhere, one column for each side; then what was
/// left out.
pub(super) fn validity(c: &Comparison, groups: &[ChartGroup<'_>]) -> Markup {
    let sides: Vec<(&str, &ChartSide<'_>)> =
        groups.iter().flat_map(|g| g.sides.iter().map(move |s| (g.name.as_str(), s))).collect();
    let mut names: Vec<(&str, &str, &str)> = Vec::new();
    for check in sides.iter().flat_map(|(_, s)| s.all()).flat_map(|t| &t.validity) {
        if names.iter().all(|n| n.0 != check.id) {
            names.push((&check.id, &check.name, &check.threshold));
        }
    }
    names.sort_by_key(|n| check_number(n.0));
    let mut heads = vec!["case".to_string(), ">runs".into(), ">valid".into()];
    heads.extend(names.iter().map(|n| n.0.to_string()));
    let heads: Vec<&str> = heads.iter().map(String::as_str).collect();
    let mut panel = TextTable::new("Checks: the worst over the runs of each case, and in how many of them", &heads);
    let several = groups.len() > 1;
    for (group, side) in &sides {
        let all = side.all();
        let name = if several { format!("{group}: {}", side.label) } else { side.label.to_string() };
        let mut row = vec![name, all.len().to_string(), side.valid().count().to_string()];
        row.extend(names.iter().map(|n| light(&all, n.0).0));
        panel.rows.push(row);
        for (column, n) in names.iter().enumerate() {
            panel.grade(3 + column, light(&all, n.0).1);
        }
    }
    let meaning: Vec<(String, String)> =
        names.iter().map(|(id, name, accepted)| (format!("{id} {name}"), format!("accepted: {accepted}"))).collect();
    let mut found =
        TextTable::new("What was found, run by run", &["check", "status", "case", ">round", "observed", "meaning"]);
    for (group, side) in &sides {
        for trial in side.all() {
            for k in trial.validity.iter().filter(|k| k.status != Status::Ok) {
                found.rows.push(vec![
                    format!("{} {}", k.id, k.name),
                    status_word(k.status).into(),
                    if several { format!("{group}: {}", side.label) } else { side.label.to_string() },
                    trial.round.to_string(),
                    k.observed.clone(),
                    k.message.clone(),
                ]);
                found.grade(1, CellGrade::from(k.status));
            }
        }
    }
    let left_out: Vec<_> = notes_of_all(c).into_iter().filter(|n| is_left_out(n.0)).collect();
    html! {
        (note_list(left_out.iter().map(|(w, t)| (*w, t.as_str()))))
        (table(&panel))
        (details("What the checks mean", &definitions(&meaning)))
        @if found.rows.is_empty() {
            p { "Every check of every run is OK." }
        } @else {
            (details(&format!("{} checks did not hold, run by run", found.rows.len()), &table(&found)))
        }
    }
}

/// Whether a note is about what was not compared.
pub(super) fn is_left_out(word: &str) -> bool {
    matches!(word, "EXCLUDED" | "REFUSED")
}

/// The worst status of a check over runs, how many have it, and how that stands.
fn light(all: &[&Trial], id: &str) -> (String, Option<CellGrade>) {
    let found: Vec<Status> = all.iter().flat_map(|t| &t.validity).filter(|k| k.id == id).map(|k| k.status).collect();
    let Some(worst) = found.iter().max().copied() else { return ("-".into(), None) };
    let hit = found.iter().filter(|s| **s == worst).count();
    let share = if worst == Status::Ok { String::new() } else { format!(" {hit}/{}", all.len()) };
    (format!("{}{share}", status_word(worst)), Some(worst.into()))
}
