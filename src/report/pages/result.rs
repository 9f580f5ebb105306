//! The report of one result as a page of its own: the tables and notes of the terminal, and the
//! charts.

use super::details;
use super::page::{definitions, details as folded, figures, notes as note_list, section, shell, table};
use crate::record::Record;
use crate::report::charts::figures as drawn;
use crate::report::charts::run::RunCharts;
use crate::report::escape;
use crate::report::pages::over_time;
use crate::report::words::notes::{ReaderNote, notes};
use crate::report::words::{method, tables, threats, verdict, view};

/// Limits that stand open below the verdict, and warnings below the summary.
const OPEN: usize = 3;

/// The page; `files` are (what it is, path relative to the page) of the raw data.
pub fn page(record: &Record, charts: &RunCharts, files: &[(String, String)]) -> String {
    let summary = view::summary_table(record);
    let mut out = format!(
        "<header>\n<h1>{}</h1>\n<p class=\"question\">{}</p>\n</header>\n",
        escape(&record.plan.name),
        escape(&record.plan.question)
    );
    if let Some(said) = verdict::of(record) {
        out.push_str(&first(&said));
    }
    let mut workloads: Vec<String> =
        record.plan.cases.iter().flat_map(|c| &c.workloads).map(method::describe).collect();
    workloads.dedup();
    let mut lead: String = workloads.iter().take(3).map(|w| format!("<p>{}</p>\n", escape(w))).collect();
    if workloads.len() > 3 {
        lead.push_str(&format!("<p>and {} more load points</p>\n", workloads.len() - 3));
    }
    let notes = notes(record, &summary);
    let list = first_notes(&notes);
    section(&mut out, "Summary", &format!("{lead}{}{list}", table(&summary)));
    let general = figures(&drawn(&charts.bars)) + &figures(&drawn(charts.load.iter().chain(&charts.percentiles)));
    if !general.is_empty() {
        section(&mut out, "Latency", &general);
    }
    let timed = over_time::figures(charts);
    if !timed.is_empty() {
        section(&mut out, "Over time", &timed);
    }
    let intervals = tables::intervals_table(record);
    if !intervals.rows.is_empty() {
        section(&mut out, "Intervals", &table(&intervals));
    }
    section(&mut out, "Trials", &(table(&details::trials_table(record)) + &events(record)));
    section(&mut out, "Validity", &table(&details::validity_table(record)));
    for (heading, t) in [
        ("Other latencies", tables::other_latencies_table(record)),
        ("Replay", tables::replay_table(record)),
        ("Groups", tables::groups_table(record)),
        ("Promises", tables::promises_table(record)),
    ] {
        if !t.rows.is_empty() {
            section(&mut out, heading, &table(&t));
        }
    }
    section(&mut out, "Ledger", &table(&details::ledger_table(record)));
    section(&mut out, "Guarantees", &table(&tables::guarantees_table(record)));
    section(&mut out, "Resources", &table(&details::resources_table(record)));
    let scenario = folded("Scenario as typed", &format!("<pre>{}</pre>\n", escape(&record.scenario.text)));
    section(&mut out, "Method", &(definitions(&method::method(record)) + &scenario));
    section(&mut out, "Host", &definitions(&method::host(record)));
    section(&mut out, "Threats to validity", &definitions(&threats::of(&[record])));
    let links: String = files
        .iter()
        .map(|(what, path)| format!("<li><a href=\"{0}\">{0}</a>: {1}</li>\n", escape(path), escape(what)))
        .collect();
    let again = format!(
        "<p>To measure it again:</p>\n<pre>{}</pre>\n<ul>\n{links}</ul>\n",
        escape(&record.tool.command.join(" "))
    );
    section(&mut out, "Raw data", &again);
    shell(&record.plan.name, &out)
}

/// What must be known before a figure is believed: what is wrong stands open, of mere warnings the
/// first ones; the others and the plain notes are a click away, so that the charts are not pages
/// below the table that they explain.
fn first_notes(all: &[ReaderNote]) -> String {
    let grave = |n: &&ReaderNote| !matches!(n.word, "WARN" | "note");
    let warnings = || all.iter().filter(|n| n.word == "WARN");
    let pair = |n: &'_ ReaderNote| (n.word, n.text.clone());
    let open: Vec<_> = all.iter().filter(grave).chain(warnings().take(OPEN)).map(pair).collect();
    let rest: Vec<_> = warnings().skip(OPEN).chain(all.iter().filter(|n| n.word == "note")).map(pair).collect();
    let html = |list: &[(&str, String)]| note_list(list.iter().map(|(w, t)| (*w, t.as_str())));
    let further = warnings().count().saturating_sub(OPEN);
    let heading = match further {
        0 => "How to read the table".to_string(),
        1 => "1 further warning, and how to read the table".to_string(),
        n => format!("{n} further warnings, and how to read the table"),
    };
    let rest = if rest.is_empty() { String::new() } else { folded(&heading, &html(&rest)) };
    html(&open) + &rest
}

/// The verdict, before anything else.
fn first(said: &verdict::RunVerdict) -> String {
    let sentences: String = said.sentences.iter().map(|s| format!("<p>{}</p>\n", escape(s))).collect();
    let list = |of: &[(&str, String)]| note_list(of.iter().map(|(w, t)| (*w, t.as_str())));
    let (open, rest) = said.limits.split_at(said.limits.len().min(OPEN));
    let rest = match rest.len() {
        0 => String::new(),
        n => folded(&format!("{n} further limits of the scenario at its load points"), &list(rest)),
    };
    let limits = list(open) + &rest;
    format!(
        "<section aria-label=\"Verdict\" class=\"verdict {0}\">\n<p><b>{0}</b></p>\n{sentences}{limits}</section>\n",
        said.word
    )
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
