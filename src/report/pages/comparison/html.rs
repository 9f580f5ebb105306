//! A comparison as a page of its own: the sentence first, then what else differs, what may be
//! believed, the figures, and what limits the claim (stats.md B2).

use std::collections::BTreeMap;

use maud::{Markup, html};

use super::checks::{is_left_out, validity};
use super::{differences, is_notable, notes_of_all, remarks, tables};
use crate::compare::foreign::is_foreign;
use crate::compare::{ComparedRecord, Comparison, NamedRecord, PROMISES, Question, percent};
use crate::plan::metric::Quantity;
use crate::record::{Headlines, Outcome, Record, Trial};
use crate::report::charts::comparison::{self as charts, COSTS, cost};
use crate::report::charts::heat_chart::READING;
use crate::report::charts::series::RunSeries;
use crate::report::charts::{Chart, figures as drawings, sides};
use crate::report::pages::answer::before_you_quote;
use crate::report::pages::page::{definitions, details, figures, notes as note_list, section, shell, table};
use crate::report::words::groups::{ChartGroup, ChartSide, groups};
use crate::report::words::view::{self, ShownLatency, TextTable, or_dash, quantile_name, quantiles, usable};
use crate::report::words::{method, threats};
use crate::units::{count, three_digits};

/// Load points that are drawn; the tables hold all of them.
const DRAWN: usize = 12;

/// The page. `records` are the baseline and, where it is another one, the candidate; `command` made
/// this comparison. `series` belong to `records`, one each; without them there are no charts over
/// time.
pub fn page(c: &Comparison, records: &[NamedRecord<'_>], series: &[RunSeries<'_>], command: &str) -> String {
    let groups = groups(c, records);
    let series_of = |side: &ChartSide<'_>| {
        let at = records.iter().position(|n| std::ptr::eq(n.record, side.record))?;
        series.get(at).copied()
    };
    let drawn = &groups[..groups.len().min(DRAWN)];
    let latency = html! {
        @if groups.len() > DRAWN {
            p { "Charts are of the first " (DRAWN) " of " (groups.len()) " load points; tables are of all." }
        }
        @for g in drawn { (figures(&drawings(charts::percentiles(g).iter().chain(&charts::dots(g, &is_latency))))) }
    };
    let rates = |g| [charts::dots(g, &|q| !is_latency(q)), sides::deliveries(g, &series_of)].concat();
    let rates: Vec<Chart> = drawn.iter().flat_map(rates).collect();
    let bars: Vec<Chart> = drawn.iter().filter_map(charts::costs).collect();
    let behind = html! {
        (details_of(&sides::maps(drawn, &series_of)))
        (behind(c, records, &groups, command))
    };
    let body = html! {
        (verdict(c, records))
        (section("How large the differences are", &comparison(c)))
        (before_you_quote(&remarks(c), &[]))
        (section("How long messages take", &latency))
        (section("Rates and cost", &figures(&drawings(rates.iter().chain(&bars)))))
        (section("Behind it", &behind))
    };
    shell(&format!("{}: {}", c.scenario, c.overall.verdict.word()), &body)
}

/// All that is folded but the heat maps.
fn behind(c: &Comparison, records: &[NamedRecord<'_>], groups: &[ChartGroup<'_>], command: &str) -> Markup {
    let of: Vec<&Record> = records.iter().map(|n| n.record).collect();
    let figures = html! { (table(&latencies(groups))) (table(&throughput(groups))) (table(&resources(groups))) };
    let how = html! {
        (definitions(&how(c, records)))
        h3 { "What these figures do not say" }
        (definitions(&threats::of(&of)))
    };
    html! {
        (details("Every percentile, rate and cost", &figures))
        (further(c))
        (what_differs(c))
        (details("Which runs count, and which checks did not hold", &validity(c, groups)))
        (details("What the systems promise, and how they are set", &guarantees(groups)))
        (details("How it was compared and measured", &how))
        (details("Data, and how to compare it again", &raw(c, groups, command)))
    }
}

/// All charts of the page, for files of their own.
pub fn drawn(c: &Comparison, records: &[NamedRecord<'_>], series: &[RunSeries<'_>]) -> Vec<Chart> {
    let groups = groups(c, records);
    let series_of = |side: &ChartSide<'_>| {
        let at = records.iter().position(|n| std::ptr::eq(n.record, side.record))?;
        series.get(at).copied()
    };
    let mut list: Vec<Chart> = charts::forest(c).into_iter().collect();
    for group in &groups[..groups.len().min(DRAWN)] {
        list.extend(charts::percentiles(group));
        list.extend(charts::dots(group, &|_| true));
        list.extend(sides::deliveries(group, &series_of));
        list.extend(charts::costs(group));
    }
    list.extend(sides::maps(&groups[..groups.len().min(DRAWN)], &series_of).0);
    list
}

/// Heat maps, folded: a reader who has seen the curves may ask when it was slow.
fn details_of((maps, without): &(Vec<Chart>, Vec<String>)) -> Markup {
    let body = html! {
        @if !maps.is_empty() { p { (READING) } (figures(&drawings(maps))) }
        @if !without.is_empty() {
            p { "No heat map of " (without.join(", ")) ": the interval log of the run is not beside its run.json." }
        }
    };
    html! {
        @if !body.0.is_empty() { (details("Latency over time: a heat map of the median run of each", &body)) }
    }
}

fn is_latency(q: &Quantity) -> bool {
    matches!(q, Quantity::Latency(..))
}

fn verdict(c: &Comparison, records: &[NamedRecord<'_>]) -> Markup {
    let word = c.overall.verdict.word();
    let all = c.sentences();
    html! {
        header { p.question { (c.scenario) ": " (records.last().map_or("", |n| n.record.plan.question.as_str())) } }
        section aria-label="Verdict" class={ "answer verdict " (word) } {
            h1 {
                // Of several systems each sentence is one of the answer; the word adds nothing.
                @if c.question == Question::Change { b.word { (c.overall.verdict.sign()) " " (word) } " " }
                (all.first().unwrap_or(&c.overall.sentence))
            }
            @for sentence in all.iter().skip(1) { p.sub { (sentence) } }
            @if !c.overall.reasons.is_empty() {
                p { "Exit code " (c.overall.exit_code) ":" }
                ul { @for reason in &c.overall.reasons { li { (reason) } } }
            }
        }
    }
}

/// The ratio chart and the table of what decides.
fn comparison(c: &Comparison) -> Markup {
    html! { (drawings(&charts::forest(c))) (table(&matrix(c))) }
}

/// Metrics that decide nothing, and the notes on all.
fn further(c: &Comparison) -> Markup {
    let list: Vec<_> = notes_of_all(c).into_iter().filter(|n| !is_left_out(n.0)).collect();
    let rest = tables(c, |r| !r.primary && is_notable(r));
    let rows: usize = rest.iter().map(|t| t.rows.len()).sum();
    let body = html! {
        (note_list(list.iter().map(|(w, t)| (*w, t.as_str()))))
        @for t in &rest { (table(t)) }
    };
    details(&format!("{rows} further metrics, which decide nothing, and notes"), &body)
}

/// Settings that differ, those first that both sides state.
fn what_differs(c: &Comparison) -> Markup {
    let headings = ["What else differs", "Settings that only one side states"];
    html! {
        @for (words, t) in headings.iter().zip(differences(c)) {
            @if let Some(t) = t { (details(&format!("{words} ({})", t.rows.len()), &table(&t))) }
        }
    }
}

/// Every metric that decides, in one table.
fn matrix(c: &Comparison) -> TextTable {
    let mut out: Option<TextTable> = None;
    for t in tables(c, |r| r.primary) {
        let into = out.get_or_insert_with(|| {
            let caption = "Metrics that decide: medians over runs, ratio of candidate to baseline";
            TextTable {
                caption: caption.into(),
                head: [vec!["compared".into()], t.head.clone()].concat(),
                right: [vec![false], t.right.clone()].concat(),
                rows: Vec::new(),
                grades: BTreeMap::new(),
            }
        });
        let above = into.rows.len();
        into.grades.extend(t.grades.into_iter().map(|((row, column), grade)| ((above + row, column + 1), grade)));
        into.rows.extend(t.rows.into_iter().map(|r| [vec![t.caption.clone()], r].concat()));
    }
    out.unwrap_or_else(|| TextTable::new("There is nothing that could be compared", &["compared"]))
}

/// The name of a row: the load point where there are several, and the side.
fn row_name(groups: &[ChartGroup<'_>], group: &ChartGroup<'_>, side: &ChartSide<'_>, workload: &str) -> String {
    let point = if groups.len() > 1 { format!("{}: ", group.name) } else { String::new() };
    let workload = if side.case.workloads.len() > 1 { format!(" / {workload}") } else { String::new() };
    format!("{point}{}{workload}", side.label)
}

/// Calls `row` for each side and workload with its name, valid trials and index.
fn each(groups: &[ChartGroup<'_>], mut row: impl FnMut(String, &ChartSide<'_>, Vec<&Trial>, usize)) {
    for group in groups {
        for side in &group.sides {
            for (index, workload) in side.case.workloads.iter().enumerate() {
                row(row_name(groups, group, side, &workload.name), side, side.valid().collect(), index);
            }
        }
    }
}

fn latencies(groups: &[ChartGroup<'_>]) -> TextTable {
    let quantiles = groups.first().and_then(|g| g.sides.first()).map(|s| quantiles(s.record)).unwrap_or_default();
    let names: Vec<String> = quantiles.iter().map(|q| format!(">{}", quantile_name(*q))).collect();
    let mut heads = vec!["case", "of"];
    heads.extend(names.iter().map(String::as_str));
    heads.extend([">max", ">service p99", ">lag p99"]);
    let mut out = TextTable::new(
        "Latency, medians over the valid runs: from the intended time, or, where it ends in .service, from sending",
        &heads,
    );
    let records = groups.iter().flat_map(|g| &g.sides).map(|s| s.record);
    let (chosen, mut doubts) = (Headlines::of(records), Vec::new());
    each(groups, |name, _, trials, index| {
        let results: Vec<_> = trials.iter().filter_map(|t| t.workloads.get(index)).collect();
        let all: Vec<_> = results.iter().filter_map(|r| chosen.latency(index, r)).collect();
        let kind = all.first().map_or("-", |(kind, _)| kind);
        let of = |kind: &str, q: f64| {
            ShownLatency::median(
                results.iter().filter_map(|r| r.latency.get(kind)).map(|l| ShownLatency::of(l.at(q))).collect(),
            )
            .to_string()
        };
        let mut row = vec![name, kind.to_string()];
        row.extend(quantiles.iter().map(|q| of(kind, *q)));
        let max = all.iter().map(|(_, l)| l.max_ns.map_or(ShownLatency::Infinite, ShownLatency::Finite)).collect();
        row.push(ShownLatency::median(max).to_string());
        row.push(of(&format!("{kind}.service"), 0.99));
        row.push(of("lag", 0.99));
        out.rows.push(row);
        doubts.push(view::widest_clocks(all.iter().map(|(_, l)| *l)));
    });
    view::with_clocks(&mut out, 2, &doubts);
    out
}

fn middle(values: impl Iterator<Item = f64>) -> Option<f64> {
    crate::stats::median(&values.collect::<Vec<_>>())
}

fn throughput(groups: &[ChartGroup<'_>]) -> TextTable {
    let heads = [
        "case",
        ">offered/s",
        ">sent/s",
        ">delivered/s",
        ">payload MB/s",
        ">lost",
        ">duplicated",
        ">reordered",
        ">corrupted",
    ];
    let mut out = TextTable::new("Rates: medians over the valid runs. Messages: totals of all of them", &heads);
    each(groups, |name, side, trials, index| {
        let of: Vec<_> = trials.iter().filter_map(|t| t.workloads.get(index)).collect();
        let total = |f: fn(&crate::record::Ledger) -> u64| match is_foreign(side.record) {
            true => "not known".to_string(),
            false => of.iter().map(|w| f(&w.ledger)).sum::<u64>().to_string(),
        };
        out.rows.push(vec![
            name,
            or_dash(middle(of.iter().filter_map(|w| w.throughput.offered)), count),
            or_dash(middle(of.iter().map(|w| w.throughput.sent)), count),
            or_dash(middle(of.iter().map(|w| w.throughput.delivered)), count),
            or_dash(middle(of.iter().map(|w| w.throughput.delivered_bytes / 1e6)), three_digits),
            total(|l| l.lost),
            total(|l| l.duplicated),
            total(|l| l.reordered),
            total(|l| l.corrupted),
        ]);
    });
    out
}

fn resources(groups: &[ChartGroup<'_>]) -> TextTable {
    let mut heads = vec!["case".to_string()];
    heads.extend(COSTS.iter().map(|(name, unit, _)| format!(">{name}, {unit}")));
    heads.extend([">longest pause of the host, us".to_string()]);
    let heads: Vec<&str> = heads.iter().map(String::as_str).collect();
    let mut out = TextTable::new("What it cost: medians over the valid runs", &heads);
    for group in groups {
        for side in &group.sides {
            let mut row =
                vec![if groups.len() > 1 { format!("{}: {}", group.name, side.label) } else { side.label.to_string() }];
            row.extend(COSTS.iter().map(|(_, _, of)| or_dash(cost(side, *of), three_digits)));
            let pause = side.valid().filter_map(|t| t.hiccup.max_ns).map(|ns| ns as f64 / 1e3);
            row.push(or_dash(middle(pause), three_digits));
            out.rows.push(row);
        }
    }
    out
}

/// Version, client and promises, one column for each side, as they were read back in the last run;
/// other settings folded.
fn guarantees(groups: &[ChartGroup<'_>]) -> Markup {
    let mut found: Vec<(&str, &crate::record::SystemFacts)> = Vec::new();
    for side in groups.iter().flat_map(|g| &g.sides) {
        let facts = side.all().last().map(|t| &t.system);
        if let Some(facts) = facts.filter(|_| found.iter().all(|f| f.0 != side.label)) {
            found.push((side.label, facts));
        }
    }
    let build = |caption: &str, rows: Vec<(&str, Vec<String>)>| {
        let mut heads = vec!["guarantee"];
        heads.extend(found.iter().map(|f| f.0));
        let mut out = TextTable::new(caption, &heads);
        for (name, cells) in rows {
            let differs = cells.windows(2).any(|w| w[0] != w[1]);
            out.rows.push([vec![format!("{}{name}", if differs { "≠ " } else { "" })], cells].concat());
        }
        out
    };
    let mut keys: Vec<&String> = found.iter().flat_map(|f| f.1.guarantees.keys()).collect();
    keys.sort();
    keys.dedup();
    let says = |key: &str| -> Vec<String> {
        found.iter().map(|f| f.1.guarantees.get(key).cloned().unwrap_or_else(|| "–".into())).collect()
    };
    let (promises, settings): (Vec<&String>, Vec<&String>) =
        keys.into_iter().partition(|k| PROMISES.contains(&k.as_str()));
    let mut rows = vec![
        ("version", found.iter().map(|f| f.1.version.clone()).collect()),
        ("client", found.iter().map(|f| f.1.client.clone()).collect()),
    ];
    rows.extend(promises.iter().map(|k| (k.as_str(), says(k))));
    let first = build("Systems and what they promise, as read back; ≠ where they are not the same", rows);
    let rest = build("Settings, as read back", settings.iter().map(|k| (k.as_str(), says(k))).collect());
    html! {
        (table(&first))
        (details(&format!("{} further settings", rest.rows.len()), &table(&rest)))
    }
}

fn how(c: &Comparison, records: &[NamedRecord<'_>]) -> Vec<(String, String)> {
    let mut list: Vec<(String, String)> = Vec::new();
    let mut add = |term: &str, text: String| list.push((term.into(), text));
    let g = &c.gate;
    add("Design", c.design.words.clone());
    add(
        "Unit",
        "The run, on a fresh system where msgbench launches it. Messages of one run depend on each other: they are never compared with those of another.".into(),
    );
    add("Ratio", "Hodges-Lehmann estimate on logarithms of the runs' values, with its exact interval.".into());
    let test = if g.paired { "exact sign-flip test over rounds" } else { "exact Mann-Whitney test" };
    add(
        "Significance",
        format!(
            "{test}, two-sided, at alpha {}; corrected by Holm over all metrics that decide, by Benjamini-Hochberg over the others.",
            g.alpha
        ),
    );
    let special: Vec<String> = g.max_change_of.iter().map(|(m, s)| format!("{} for {m}", percent(s.0))).collect();
    let special = if special.is_empty() { String::new() } else { format!(", {}", special.join(", ")) };
    add("Threshold", format!("{}{special}; smaller changes do not matter.", percent(g.max_change.0)));
    if let Some((first, second)) = g.looks {
        add(
            "Looks",
            format!("two at most, at {first} and {second} runs, at Pocock's levels; further runs change nothing."),
        );
    }
    add(
        "Effect",
        "Cliff's delta: how much more often a run of the candidate is above one of the baseline than below it; from -1 to +1.".into(),
    );
    for n in records {
        let of = |term: &str| if records.len() > 1 { format!("{term} ({})", n.label) } else { term.to_string() };
        for (term, text) in method::method(n.record) {
            if !matches!(term.as_str(), "Order" | "Command") {
                add(&of(&term), text);
            }
        }
        for (term, text) in method::host(n.record) {
            add(&of(&term), text);
        }
    }
    // What both have in common is said once.
    let mut merged: Vec<(String, String)> = Vec::new();
    for (term, text) in list {
        let plain = term.split(" (").next().unwrap_or_default().to_string();
        match merged.iter_mut().find(|(t, x)| *x == text && t.split(" (").next() == Some(&plain)) {
            Some(there) => there.0 = plain,
            None => merged.push((term, text)),
        }
    }
    merged
}

fn raw(c: &Comparison, groups: &[ChartGroup<'_>], command: &str) -> Markup {
    let sources = [Some(&c.baseline), (c.candidate != c.baseline).then_some(&c.candidate)];
    let told = |s: &ComparedRecord| {
        let (at, command) = (&s.started_at, s.command.join(" "));
        let text = format!("{at}, scenario SHA-256 {}, seed {}, {}", s.scenario_sha256, s.seed, s.tool);
        (s.label.clone(), format!("{text}. Measured by: {command}"))
    };
    let sources: Vec<(String, String)> = sources.into_iter().flatten().map(told).collect();
    let failed: Vec<String> = groups
        .iter()
        .flat_map(|g| &g.sides)
        .flat_map(|s| s.all())
        .filter(|t| !usable(t))
        .filter_map(|t| match &t.outcome {
            Outcome::Failed { phase, error } => Some(format!("{}, round {}: {phase}: {error}", t.case, t.round)),
            _ => None,
        })
        .collect();
    html! {
        p { "This comparison was made by" }
        pre { (command) }
        p { "of" }
        (definitions(&sources))
        p { (FOLDERS) }
        (details("The value of each run", &table(&values(groups))))
        (note_list(failed.iter().map(|f| ("FAILED", f.as_str()))))
    }
}

/// What the folder of a result holds.
const FOLDERS: &str = "The folder of each result holds run.json (everything about it, with run.schema.json), intervals.csv (the time series) and an HdrHistogram interval log (.hlog) with every sample of each run.";

/// The values behind the metrics that decide, each said once.
fn values(groups: &[ChartGroup<'_>]) -> TextTable {
    let mut values =
        TextTable::new("The value of each valid run, in the order of rounds", &["metric", "case", "values"]);
    for group in groups {
        let mut said: Vec<(String, &str)> = Vec::new();
        for row in group.rows.iter().filter(|r| r.primary) {
            for s in [&row.a, &row.b] {
                let key = (row.metric.to_string(), s.label.as_str());
                if said.contains(&key) {
                    continue;
                }
                let show = |v: &f64| row.kind.map_or_else(|| v.to_string(), |u| u.show(*v));
                let point = if groups.len() > 1 { format!("{}: ", group.name) } else { String::new() };
                values.rows.push(vec![
                    format!("{point}{}", row.metric),
                    s.label.clone(),
                    s.values.iter().map(show).collect::<Vec<_>>().join(", "),
                ]);
                said.push(key);
            }
        }
    }
    values
}
