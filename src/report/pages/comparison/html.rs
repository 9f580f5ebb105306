//! A comparison as a page of its own: the sentence first, then what else differs, what may be
//! believed, the figures, and what limits the claim (stats.md B2).

use std::collections::BTreeMap;

use super::checks::{is_left_out, validity};
use super::{differences, is_notable, notes_of_all, remarks, tables};
use crate::compare::foreign::is_foreign;
use crate::compare::{ComparedRecord, Comparison, NamedRecord, PROMISES, Question, percent};
use crate::plan::metric::Quantity;
use crate::record::{Outcome, Record, Trial};
use crate::report::charts::comparison::{self as charts, COSTS, cost};
use crate::report::charts::heat_chart::READING;
use crate::report::charts::series::RunSeries;
use crate::report::charts::{Chart, figures as drawings, sides};
use crate::report::escape;
use crate::report::pages::answer::before_you_quote;
use crate::report::pages::page::{definitions, details, figures, notes as note_list, section, shell, table, words};
use crate::report::words::groups::{ChartGroup, ChartSide, groups};
use crate::report::words::view::{ShownLatency, TextTable, or_dash, quantile_name, quantiles, response, usable};
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
    let mut out = verdict(c, records);
    section(&mut out, "How large the differences are", &comparison(c));
    out.push_str(&before_you_quote(&remarks(c), &[]));
    let drawn = &groups[..groups.len().min(DRAWN)];
    let left = if groups.len() > DRAWN {
        format!("<p>Charts are of the first {DRAWN} of {} load points; tables are of all.</p>\n", groups.len())
    } else {
        String::new()
    };
    let latency: String = drawn
        .iter()
        .map(|g| figures(&drawings(charts::percentiles(g).iter().chain(&charts::dots(g, &is_latency)))))
        .collect();
    let maps = details_of(&sides::maps(drawn, &series_of));
    section(&mut out, "How long messages take", &format!("{left}{latency}"));
    let rates = |g| [charts::dots(g, &|q| !is_latency(q)), sides::deliveries(g, &series_of)].concat();
    let rates: Vec<Chart> = drawn.iter().flat_map(rates).collect();
    let bars: Vec<Chart> = drawn.iter().filter_map(charts::costs).collect();
    section(&mut out, "Rates and cost", &figures(&drawings(rates.iter().chain(&bars))));
    let mut behind = maps;
    behind.push_str(&details(
        "Every percentile, rate and cost",
        &(table(&latencies(&groups)) + &table(&throughput(&groups)) + &table(&resources(&groups))),
    ));
    behind.push_str(&further(c));
    behind.push_str(&what_differs(c));
    behind.push_str(&details("Which runs count, and which checks did not hold", &validity(c, &groups)));
    behind.push_str(&details("What the systems promise, and how they are set", &guarantees(&groups)));
    let of: Vec<&Record> = records.iter().map(|n| n.record).collect();
    let how = definitions(&how(c, records))
        + &format!("<h3>What these figures do not say</h3>\n{}", definitions(&threats::of(&of)));
    behind.push_str(&details("How it was compared and measured", &how));
    behind.push_str(&details("Data, and how to compare it again", &raw(c, &groups, command)));
    section(&mut out, "Behind it", &behind);
    let explained = words(&out);
    out.push_str(&explained);
    shell(&format!("{}: {}", c.scenario, c.overall.verdict.word()), &out)
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
fn details_of((maps, without): &(Vec<Chart>, Vec<String>)) -> String {
    let mut body = String::new();
    if !maps.is_empty() {
        body = format!("<p>{READING}</p>\n{}", figures(&drawings(maps)));
    }
    if !without.is_empty() {
        let list = without.join(", ");
        body.push_str(&format!(
            "<p>No heat map of {}: the interval log of the run is not beside its run.json.</p>\n",
            escape(&list)
        ));
    }
    if body.is_empty() { body } else { details("Latency over time: a heat map of the median run of each", &body) }
}

fn is_latency(q: &Quantity) -> bool {
    matches!(q, Quantity::Latency(..))
}

fn verdict(c: &Comparison, records: &[NamedRecord<'_>]) -> String {
    let word = c.overall.verdict.word();
    let question = records.last().map_or("", |n| n.record.plan.question.as_str());
    let reasons: String = c.overall.reasons.iter().map(|r| format!("<li>{}</li>\n", escape(r))).collect();
    let reasons = if reasons.is_empty() {
        String::new()
    } else {
        format!("<p>Exit code {}:</p>\n<ul>\n{reasons}</ul>\n", c.overall.exit_code)
    };
    // Of several systems each sentence is one of the answer; the word says nothing more.
    let word_first = match c.question {
        Question::Change => format!("<b class=\"word\">{} {word}</b> ", c.overall.verdict.sign()),
        Question::Systems => String::new(),
    };
    let all = c.sentences();
    let rest: String = all.iter().skip(1).map(|s| format!("<p class=\"sub\">{}</p>\n", escape(s))).collect();
    format!(
        "<header>\n<p class=\"question\">{}: {}</p>\n</header>\n<section aria-label=\"Verdict\" class=\"answer verdict {word}\">\n<h1>{word_first}{}</h1>\n{rest}{reasons}</section>\n",
        escape(&c.scenario),
        escape(question),
        escape(all.first().map_or(c.overall.sentence.as_str(), String::as_str)),
    )
}

/// The ratio chart and the table of what decides.
fn comparison(c: &Comparison) -> String {
    drawings(&charts::forest(c)) + &table(&matrix(c))
}

/// Metrics that decide nothing, and the notes on all.
fn further(c: &Comparison) -> String {
    let list: Vec<_> = notes_of_all(c).into_iter().filter(|n| !is_left_out(n.0)).collect();
    let mut body = note_list(list.iter().map(|(w, t)| (*w, t.as_str())));
    let rest = tables(c, |r| !r.primary && is_notable(r));
    body.extend(rest.iter().map(table));
    let rows: usize = rest.iter().map(|t| t.rows.len()).sum();
    details(&format!("{rows} further metrics, which decide nothing, and notes"), &body)
}

/// Settings that differ, those first that both sides state.
fn what_differs(c: &Comparison) -> String {
    let [both, single] = differences(c);
    let of = |words: &str, t: TextTable| details(&format!("{words} ({})", t.rows.len()), &table(&t));
    both.map_or_else(String::new, |t| of("What else differs", t))
        + &single.map_or_else(String::new, |t| of("Settings that only one side states", t))
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
    each(groups, |name, _, trials, index| {
        let results: Vec<_> = trials.iter().filter_map(|t| t.workloads.get(index)).collect();
        let all: Vec<_> = results.iter().filter_map(|r| response(r)).collect();
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
    });
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
fn guarantees(groups: &[ChartGroup<'_>]) -> String {
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
    table(&first) + &details(&format!("{} further settings", rest.rows.len()), &table(&rest))
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

fn raw(c: &Comparison, groups: &[ChartGroup<'_>], command: &str) -> String {
    let mut body = format!("<p>This comparison was made by</p>\n<pre>{}</pre>\n", escape(command));
    let mut sources: Vec<&ComparedRecord> = vec![&c.baseline];
    if c.candidate != c.baseline {
        sources.push(&c.candidate);
    }
    let list: Vec<(String, String)> = sources
        .iter()
        .map(|s| {
            let text = format!(
                "{}, scenario SHA-256 {}, seed {}, {}. Measured by: {}",
                s.started_at,
                s.scenario_sha256,
                s.seed,
                s.tool,
                s.command.join(" ")
            );
            (s.label.clone(), text)
        })
        .collect();
    body.push_str(&format!("<p>of</p>\n{}", definitions(&list)));
    body.push_str(
        "<p>The folder of each result holds run.json (everything about it, with run.schema.json), intervals.csv (the time series) and an HdrHistogram interval log (.hlog) with every sample of each run.</p>\n",
    );
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
    body.push_str(&details("The value of each run", &table(&values)));
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
    if !failed.is_empty() {
        body.push_str(&note_list(failed.iter().map(|f| ("FAILED", f.as_str()))));
    }
    body
}
