//! The report of one result as a page of its own: the answer first, then the charts, then, folded,
//! all that stands behind them.

use maud::{Markup, html};

use super::answer::{before_you_quote, first};
use super::details;
use super::page::{definitions, details as folded, figures, note, notes as note_list, section, shell, table};
use crate::record::Record;
use crate::report::charts::figures as drawn;
use crate::report::charts::run::RunCharts;
use crate::report::pages::over_time;
use crate::report::words::answer;
use crate::report::words::notes::{NoteTopic, ReaderNote, notes};
use crate::report::words::view::TextTable;
use crate::report::words::{agents, capacity, method, tables, threats, view};
use crate::units::plural;

/// The page; `files` are (what it is, path relative to the page) of the raw data.
pub fn page(record: &Record, charts: &RunCharts, files: &[(String, String)]) -> String {
    let summary = view::summary_table(record);
    let notes = notes(record, &summary);
    let answer = answer::of(record);
    let more: Vec<Markup> = of_topic(&notes, NoteTopic::Other).map(|n| note(n.word, &n.text)).collect();
    // Of a search the percentiles of every load that was tried would hide the one picture that
    // matters.
    let percentiles = charts.percentiles.iter().filter(|_| record.plan.search.is_none());
    let general = drawn(percentiles.chain(&charts.load));
    let timed = over_time::figures(charts);
    let faults = answer::outages::table(record);
    let body = html! {
        header { p.question { (lead(record)) } }
        @match &answer {
            Some(answer) => (first(answer)),
            None => h1 { (record.plan.name) ": nothing was measured." },
        }
        (before_you_quote(answer.as_ref().map_or(&[], |a| &a.remarks), &more))
        @if !faults.rows.is_empty() {
            (section("What the faults did", &html! { (figures(&drawn(&charts.outages))) (table(&faults)) }))
        }
        @if !general.0.is_empty() { (section("How long messages take", &figures(&general))) }
        @if !timed.0.is_empty() { (section("Over time", &timed)) }
        (section("Behind it", &behind(record, &summary, &notes, files)))
    };
    shell(&record.plan.name, &body)
}

/// All that is folded.
fn behind(record: &Record, summary: &TextTable, notes: &[ReaderNote], files: &[(String, String)]) -> Markup {
    let signs = note_list(of_topic(notes, NoteTopic::Sign).map(|n| (n.word, n.text.as_str())));
    let how = html! {
        (definitions(&method::method(record)))
        h3 { "The machine" }
        (definitions(&method::host(record)))
        h3 { "What these figures do not say" }
        (definitions(&threats::of(&[record])))
        (folded("Scenario as typed", &html! { pre { (record.scenario.text) } }))
    };
    html! {
        @if let Some(search) = &record.plan.search {
            (folded("Every load that was tried", &html! { (table(&capacity::table(record, search))) }))
        }
        (folded("Every percentile", &html! { (table(summary)) (signs) (further(record)) }))
        (folded(&format!("Every trial ({})", record.trials.len()), &trials(record)))
        (checks(record))
        (settings(record))
        (folded("How it was measured", &how))
        (folded("Files, and how to measure it again", &raw(record, files)))
    }
}

fn of_topic(notes: &[ReaderNote], topic: NoteTopic) -> impl Iterator<Item = &ReaderNote> {
    notes.iter().filter(move |n| n.topic == topic)
}

/// `fanout: Which broker ...? 1 producer to 4 consumers ... 28 Nov 2026`.
fn lead(record: &Record) -> String {
    let of = if record.plan.search.is_some() { method::described_without_load } else { method::describe };
    let mut workloads: Vec<String> = record.plan.cases.iter().flat_map(|c| &c.workloads).map(of).collect();
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

/// Tables of what not every scenario has.
fn further(record: &Record) -> Markup {
    let all = [
        tables::intervals_table(record),
        tables::other_latencies_table(record),
        tables::replay_table(record),
        tables::groups_table(record),
        agents::table(record),
    ];
    html! {
        @for t in all.iter().filter(|t| !t.rows.is_empty()) { (table(t)) }
    }
}

fn trials(record: &Record) -> Markup {
    let promises = tables::promises_table(record);
    let intruders = tables::intruders_table(record);
    let events: Vec<_> = record.trials.iter().flat_map(|t| t.events.iter().map(move |e| (t, e))).collect();
    html! {
        (table(&details::trials_table(record)))
        (table(&details::ledger_table(record)))
        @if !promises.rows.is_empty() { (table(&promises)) }
        @if !intruders.rows.is_empty() { (table(&intruders)) }
        (table(&details::resources_table(record)))
        @if !events.is_empty() {
            h3 { "Events" }
            ul {
                @for (t, e) in &events {
                    li { (t.case) ", round " (t.round) ", at " (format_args!("{:.3}", e.at_s)) " s: " (e.text) }
                }
            }
        }
    }
}

/// Checks that did not hold, and in one line those that did.
fn checks(record: &Record) -> Markup {
    let (open, held) = details::checks(record);
    let heading = match open.rows.len() {
        0 => "Checks: all held".to_string(),
        1 => "1 kind of check did not hold".to_string(),
        n => format!("{n} kinds of checks did not hold"),
    };
    let body = html! {
        @if !open.rows.is_empty() { (table(&open)) }
        @if !held.is_empty() { p { "Held in every trial: " (held) "." } }
    };
    folded(&heading, &body)
}

/// Settings in which the systems differ, then those that they share.
fn settings(record: &Record) -> Markup {
    let all = tables::guarantees_table(record);
    let (differ, same): (Vec<Vec<String>>, Vec<Vec<String>>) =
        all.rows.iter().cloned().partition(|row| row[1..].windows(2).any(|w| w[0] != w[1]));
    let several = all.head.len() > 2;
    let list = |heading: &str, caption: &str, rows: Vec<Vec<String>>| {
        let heading = format!("{heading} ({})", rows.len());
        folded(&heading, &table(&TextTable { caption: caption.into(), rows, ..all.clone() }))
    };
    let shared = if several { "Settings that are the same" } else { "What the system promises and how it is set" };
    html! {
        @if several && !differ.is_empty() {
            (list("Settings that differ", "What the systems state, where it is not the same", differ))
        }
        @if !same.is_empty() { (list(shared, "As read back from the systems", same)) }
    }
}

fn raw(record: &Record, files: &[(String, String)]) -> Markup {
    html! {
        p { "To measure it again:" }
        pre { (record.tool.command.join(" ")) }
        ul {
            @for (what, path) in files { li { a href=(path) { (path) } ": " (what) } }
        }
    }
}
