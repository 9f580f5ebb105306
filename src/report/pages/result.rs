//! The report of one result as a page of its own: the answer first, then the charts, then, folded,
//! all that stands behind them.

use super::answer::{before_you_quote, first};
use super::details;
use super::page::{definitions, details as folded, figures, section, shell, table, words};
use crate::record::Record;
use crate::report::charts::figures as drawn;
use crate::report::charts::run::RunCharts;
use crate::report::escape;
use crate::report::pages::over_time;
use crate::report::words::answer;
use crate::report::words::notes::{NoteTopic, ReaderNote, notes};
use crate::report::words::view::TextTable;
use crate::report::words::{method, tables, threats, view};
use crate::units::plural;

/// The page; `files` are (what it is, path relative to the page) of the raw data.
pub fn page(record: &Record, charts: &RunCharts, files: &[(String, String)]) -> String {
    let summary = view::summary_table(record);
    let notes = notes(record, &summary);
    let answer = answer::of(record);
    let mut out = format!("<header>\n<p class=\"question\">{}</p>\n</header>\n", escape(&lead(record)));
    match &answer {
        Some(answer) => out.push_str(&first(answer)),
        None => out.push_str(&format!("<h1>{}: nothing was measured.</h1>\n", escape(&record.plan.name))),
    }
    let more: Vec<String> = notes.iter().filter(|n| n.topic == NoteTopic::Other).map(item).collect();
    out.push_str(&before_you_quote(answer.as_ref().map_or(&[], |a| &a.remarks), &more));
    let general = drawn(charts.percentiles.iter().chain(&charts.load));
    if !general.is_empty() {
        section(&mut out, "How long messages take", &figures(&general));
    }
    let timed = over_time::figures(charts);
    if !timed.is_empty() {
        section(&mut out, "Over time", &timed);
    }
    let mut behind = String::new();
    let signs: String = notes.iter().filter(|n| n.topic == NoteTopic::Sign).map(item).collect();
    let signs = if signs.is_empty() { signs } else { format!("<ul class=\"notes\">\n{signs}</ul>\n") };
    behind.push_str(&folded("Every percentile", &(table(&summary) + &signs + &further(record))));
    behind.push_str(&folded(&format!("Every trial ({})", record.trials.len()), &trials(record)));
    behind.push_str(&checks(record));
    behind.push_str(&settings(record));
    let scenario = folded("Scenario as typed", &format!("<pre>{}</pre>\n", escape(&record.scenario.text)));
    let how = definitions(&method::method(record))
        + &format!("<h3>The machine</h3>\n{}", definitions(&method::host(record)))
        + &format!("<h3>What these figures do not say</h3>\n{}", definitions(&threats::of(&[record])))
        + &scenario;
    behind.push_str(&folded("How it was measured", &how));
    behind.push_str(&folded("Files, and how to measure it again", &raw(record, files)));
    section(&mut out, "Behind it", &behind);
    let explained = words(&out);
    out.push_str(&explained);
    shell(&record.plan.name, &out)
}

/// `fanout: Which broker ...? 1 producer to 4 consumers ... 28 Nov 2026`.
fn lead(record: &Record) -> String {
    let mut workloads: Vec<String> =
        record.plan.cases.iter().flat_map(|c| &c.workloads).map(method::describe).collect();
    workloads.dedup();
    let load = match &workloads[..] {
        [] => String::new(),
        [one] => format!(" · {one}"),
        [one, ..] if record.plan.cases.first().is_some_and(|c| c.workloads.len() > 1) => {
            format!(" · {one}, and {}", plural(workloads.len() as u64 - 1, "more workload"))
        }
        [one, ..] => format!(" · {one}, and {}", plural(workloads.len() as u64 - 1, "more load point")),
    };
    let day: String = record.started_at.chars().take(10).collect();
    format!("{}: {}{load} · {day}", record.plan.name, record.plan.question)
}

fn item(note: &ReaderNote) -> String {
    format!("<li class=\"{0}\"><b>{0}</b> {1}</li>\n", note.word, escape(&note.text))
}

/// Tables of what not every scenario has.
fn further(record: &Record) -> String {
    [
        tables::intervals_table(record),
        tables::other_latencies_table(record),
        tables::replay_table(record),
        tables::groups_table(record),
    ]
    .iter()
    .filter(|t| !t.rows.is_empty())
    .map(table)
    .collect()
}

fn trials(record: &Record) -> String {
    let promises = tables::promises_table(record);
    let promises = if promises.rows.is_empty() { String::new() } else { table(&promises) };
    table(&details::trials_table(record))
        + &table(&details::ledger_table(record))
        + &promises
        + &table(&details::resources_table(record))
        + &events(record)
}

/// Checks that did not hold, and in one line those that did.
fn checks(record: &Record) -> String {
    let (open, held) = details::checks(record);
    let heading = match open.rows.len() {
        0 => "Checks: all held".to_string(),
        1 => "1 kind of check did not hold".to_string(),
        n => format!("{n} kinds of checks did not hold"),
    };
    let list = if open.rows.is_empty() { String::new() } else { table(&open) };
    let held =
        if held.is_empty() { String::new() } else { format!("<p>Held in every trial: {}.</p>\n", escape(&held)) };
    folded(&heading, &(list + &held))
}

/// Settings in which the systems differ, then those that they share.
fn settings(record: &Record) -> String {
    let all = tables::guarantees_table(record);
    let (differ, same): (Vec<Vec<String>>, Vec<Vec<String>>) =
        all.rows.iter().cloned().partition(|row| row[1..].windows(2).any(|w| w[0] != w[1]));
    let of = |caption: &str, rows: Vec<Vec<String>>| TextTable { caption: caption.into(), rows, ..all.clone() };
    let mut html = String::new();
    let several = all.head.len() > 2;
    if several && !differ.is_empty() {
        let heading = format!("Settings that differ ({})", differ.len());
        html.push_str(&folded(&heading, &table(&of("What the systems state, where it is not the same", differ))));
    }
    if !same.is_empty() {
        let heading = if several { "Settings that are the same" } else { "What the system promises and how it is set" };
        html.push_str(&folded(
            &format!("{heading} ({})", same.len()),
            &table(&of("As read back from the systems", same)),
        ));
    }
    html
}

fn raw(record: &Record, files: &[(String, String)]) -> String {
    let links: String = files
        .iter()
        .map(|(what, path)| format!("<li><a href=\"{0}\">{0}</a>: {1}</li>\n", escape(path), escape(what)))
        .collect();
    format!("<p>To measure it again:</p>\n<pre>{}</pre>\n<ul>\n{links}</ul>\n", escape(&record.tool.command.join(" ")))
}

fn events(record: &Record) -> String {
    let items: String = record
        .trials
        .iter()
        .flat_map(|t| t.events.iter().map(move |e| (t, e)))
        .map(|(t, e)| {
            format!("<li>{}, round {}, at {:.3} s: {}</li>\n", escape(&t.case), t.round, e.at_s, escape(&e.text))
        })
        .collect();
    if items.is_empty() { items } else { format!("<h3>Events</h3>\n<ul>\n{items}</ul>\n") }
}
