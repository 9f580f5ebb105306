//! A comparison as bytes: text, Markdown, HTML, JUnit XML and CSV. Pure functions; JSON is the
//! comparison itself.
//!
//! The sentence stands first, then what differs besides performance, then the figures. Text and
//! Markdown print the same tables and notes, built here.

mod checks;
pub mod html;
pub mod markdown;
pub mod text;

use crate::compare::{Comparison, ComparisonRow, Difference, Effect, TrialDoubt, Verdict, needed_brief};
use crate::report::words::answer::Remark;
use crate::report::words::view::{CellGrade, TextTable};
use crate::units::{plural, three_digits};

/// A median, in the unit of its metric.
fn shown(row: &ComparisonRow, value: Option<f64>) -> String {
    match (row.kind, value) {
        (Some(unit), Some(value)) => unit.show(value),
        _ => "-".into(),
    }
}

fn number(value: f64) -> String {
    match value {
        v if v.is_infinite() => "inf".into(),
        v if v.abs() >= 10.0 => three_digits(v),
        v => format!("{v:.3}"),
    }
}

fn interval(e: &Effect, show: impl Fn(f64) -> String) -> String {
    let range = e.ci95.map_or_else(String::new, |(l, h)| format!(" [{}, {}]", show(l), show(h)));
    format!("{}{range}", show(e.value))
}

/// The ratio with its interval, or the difference where there is no ratio.
fn effect(row: &ComparisonRow) -> String {
    match (&row.ratio, &row.shift, row.kind) {
        (Some(ratio), _, _) => interval(ratio, number),
        (None, Some(shift), Some(unit)) => interval(shift, |v| {
            let sign = if v > 0.0 {
                "+"
            } else if v < 0.0 {
                "-"
            } else {
                ""
            };
            format!("{sign}{}", unit.show(v.abs()))
        }),
        _ => "-".into(),
    }
}

fn p_cell(row: &ComparisonRow) -> String {
    row.p_adjusted.map_or_else(|| "-".into(), |p| if p < 0.001 { "<0.001".into() } else { format!("{p:.3}") })
}

/// Rows that say something: a count that is zero on both sides is left to CSV and JSON.
fn is_notable(row: &ComparisonRow) -> bool {
    let zero = |m: Option<f64>| m == Some(0.0);
    row.primary
        || !matches!(row.verdict, Verdict::Equivalent | Verdict::Same)
        || !zero(row.a.median)
        || !zero(row.b.median)
}

/// One table for each pair and load point. `keep` chooses the rows.
fn tables(c: &Comparison, keep: impl Fn(&ComparisonRow) -> bool) -> Vec<TextTable> {
    let mut list: Vec<(String, TextTable)> = Vec::new();
    for row in c.rows.iter().filter(|r| keep(r)) {
        let caption = format!("{}: {} against {}", row.scenario, row.b.label, row.a.label);
        let at = list.iter().position(|(k, _)| *k == caption).unwrap_or_else(|| {
            let heads = ["metric", ">baseline", ">candidate", ">ratio [95 % CI]", ">p", ">effect", ">runs", "verdict"];
            list.push((caption.clone(), TextTable::new(&caption, &heads)));
            list.len() - 1
        });
        let table = &mut list[at].1;
        table.rows.push(vec![
            format!("{}{}", row.metric, if row.primary { " *" } else { "" }),
            shown(row, row.a.median),
            shown(row, row.b.median),
            effect(row),
            p_cell(row),
            row.cliffs_delta.map_or_else(|| "-".into(), |d| format!("{d:+.2}")),
            format!("{}+{}", row.a.n, row.b.n),
            format!(
                "{} {}{}",
                row.verdict.sign(),
                row.word(),
                needed_brief(row).map_or_else(String::new, |text| format!(" ({text})"))
            ),
        ]);
        table.grade(7, CellGrade::Compared(row.verdict));
    }
    list.into_iter().map(|(_, table)| table).collect()
}

/// Whether a difference is a setting that only one side has at all, as two products have many, and
/// no promise.
fn one_sided(d: &Difference) -> bool {
    d.one_sided && !d.promise
}

/// What differs besides performance: what both sides state; and what only one of them has.
fn differences(c: &Comparison) -> [Option<TextTable>; 2] {
    let of = |caption: &str, keep: &dyn Fn(&Difference) -> bool| {
        let mut table = TextTable::new(caption, &["setting", "baseline", "candidate", "may explain a difference"]);
        for d in c.differences.iter().filter(|d| keep(d)) {
            let mark = if d.confounds { "yes" } else { "" };
            table.rows.push(vec![d.what.clone(), d.baseline.clone(), d.candidate.clone(), mark.into()]);
        }
        (!table.rows.is_empty()).then_some(table)
    };
    [of("What else differs", &|d| !one_sided(d)), of("Settings that only one side states", &one_sided)]
}

/// How many settings are left to the page and to JSON.
fn left_out(one_sided: Option<&TextTable>) -> Option<String> {
    let n = one_sided?.rows.len();
    Some(format!("{n} further settings are stated by one side only: see --html or --format json."))
}

/// What must be known before the verdict is quoted, the gravest first.
fn remarks(c: &Comparison) -> Vec<Remark> {
    let mut list: Vec<Remark> = Vec::new();
    let mut add = |title: &str, text: String| list.push(Remark { title: title.into(), text });
    let told = |d: &Difference| format!("{} is {} and {}", d.what, d.baseline, d.candidate);
    let promises: Vec<String> = c.differences.iter().filter(|d| d.promise).map(told).collect();
    if !promises.is_empty() {
        add("Not like for like:", format!("{}.", promises.join("; ")));
    }
    let settings = c.differences.iter().filter(|d| d.confounds && !d.promise && !one_sided(d) && d.what != "client");
    let settings: Vec<String> = settings.map(told).collect();
    if !settings.is_empty() {
        let more = settings.len().saturating_sub(3);
        let more = if more > 0 { format!("; and {more} more below") } else { String::new() };
        let first: Vec<String> = settings.into_iter().take(3).collect();
        add("Other settings differ:", format!("{}{more}.", first.join("; ")));
    }
    if !c.design.interleaved {
        add("The order of runs:", c.design.words.clone());
    }
    for tool in foreign_tools(c) {
        add(
            "Measured by another tool",
            format!("({tool}): times count from sending; losses, machine and guarantees are not known."),
        );
    }
    for d in &c.doubts {
        add("Doubtful:", format!("{}.", doubt(d)));
    }
    for r in &c.refused {
        add(&format!("{} is not compared:", r.case), format!("{}.", r.reason.trim_end_matches('.')));
    }
    if !c.excluded.is_empty() {
        add(&format!("{} left out:", plural(c.excluded.len() as u64, "trial")), "each with its reason below.".into());
    }
    list
}

fn foreign_tools(c: &Comparison) -> Vec<&str> {
    let mut tools: Vec<&str> =
        [&c.baseline, &c.candidate].into_iter().filter(|s| s.foreign).map(|s| s.tool.as_str()).collect();
    tools.dedup();
    tools
}

/// A doubt in words, without a full stop.
pub(in crate::report) fn doubt(d: &TrialDoubt) -> String {
    let runs = if d.trials > 1 { format!(" ({} runs)", d.trials) } else { String::new() };
    format!("{}{runs}: {}", d.of, d.text)
}

/// What must be known to read the tables, as (word, sentence), where settings that only one side
/// states are left out.
fn notes(c: &Comparison) -> Vec<(&'static str, String)> {
    let left_out = left_out(differences(c)[1].as_ref()).map(|text| ("note", text));
    left_out.into_iter().chain(notes_of_all(c)).collect()
}

/// The same where nothing is left out.
fn notes_of_all(c: &Comparison) -> Vec<(&'static str, String)> {
    let mut list = Vec::new();
    if !c.gated {
        list.push((
            "note",
            "Systems are compared with each other: no gate was asked for (--gate FILE), so the verdict changes no exit code."
                .into(),
        ));
    }
    if !c.design.interleaved {
        list.push(("WARN", c.design.words.clone()));
    }
    for tool in foreign_tools(c) {
        list.push((
            "WARN",
            format!("Measured by another tool ({tool}): service latencies, from the moment of sending; validity, losses, machine and guarantees are not known."),
        ));
    }
    for d in &c.doubts {
        list.push(("WARN", format!("{}.", doubt(d))));
    }
    for r in &c.refused {
        list.push(("REFUSED", format!("{} is not compared: {}.", r.case, r.reason.trim_end_matches('.'))));
    }
    for e in &c.excluded {
        list.push((
            "EXCLUDED",
            format!("{}, {}, round {}: {}.", e.of, e.case, e.round, e.reason.trim_end_matches('.')),
        ));
    }
    for e in &c.expectations {
        list.push((e.verdict.word(), format!("{}: {}.", e.case, e.sentence)));
    }
    let mut said = std::collections::BTreeSet::new();
    let open = [Verdict::Inconclusive, Verdict::NotDecided, Verdict::Invalid];
    for row in c.rows.iter().filter(|r| r.primary && open.contains(&r.verdict)) {
        if said.insert(&row.reason) {
            list.push((row.word(), format!("{} and others like it: {}.", row.metric, row.reason)));
        }
    }
    let g = &c.gate;
    let looks = g.looks.map_or_else(String::new, |(a, b)| format!(", looked at {a} and at {b} runs at most"));
    list.push((
        "note",
        format!(
            "* decides (Holm's correction at alpha {}, changes up to {} do not matter{looks}). Medians over runs; ratio: Hodges-Lehmann with exact interval; p: exact Mann-Whitney, corrected; effect: Cliff's delta.",
            g.alpha, g.max_change
        ),
    ));
    list
}

#[cfg(test)]
pub(crate) mod tests {
    use crate::compare::sample::{A, B, again, record};
    use crate::compare::{self, CompareOptions, Comparison, NamedRecord};
    use crate::plan::gate::{Comparator, Expectation, Gate, Policy, Share};
    use crate::record::{Outcome, Status};

    /// A regression, a limit that is broken, an invalid trial, a changed setting.
    pub(crate) fn failing() -> Comparison {
        let (a, mut b) = (record(&A, &A), again(record(&A, &B)));
        b.trials.iter_mut().filter(|t| t.case == "nats").for_each(|t| t.system.version = "nats <1.3> & more".into());
        if let Some(t) = b.trials.iter_mut().find(|t| t.case == "reference") {
            t.outcome = Outcome::Failed { phase: "measure".into(), error: "connection \u{1} reset".into() };
        }
        assert!(b.trials.iter().all(|t| t.validity_status() != Status::Invalid));
        let gate = Gate { max_change: Share(0.03), ..Gate::default() };
        let expect = Expectation {
            that: "e2e.p99 < 820us".into(),
            metric: "e2e.p99".parse().unwrap(),
            comparator: Comparator::Less,
            limit: 820e3,
            system: None,
            on_inconclusive: Policy::Warn,
        };
        let (a, b) = (NamedRecord { label: "main", record: &a }, NamedRecord { label: "pull", record: &b });
        let results = compare::expectations(b.record, &[expect]);
        compare::records(a, b, &gate, CompareOptions::default()).unwrap().with_expectations(results)
    }

    #[test]
    fn every_format_says_the_same() {
        let c = failing();
        assert_eq!(c.overall.exit_code, 3);
        insta::assert_snapshot!("text", super::text::page(&c));
        insta::assert_snapshot!("markdown", super::markdown::page(&c));
        insta::assert_snapshot!("junit", crate::report::export::junit::page(&c).unwrap());
        insta::assert_snapshot!("csv", crate::report::export::csv::page(&c).unwrap());
        let json = serde_json::to_value(&c).unwrap();
        assert_eq!(
            (json["schema"].as_str(), json["overall"]["exit_code"].as_u64()),
            (Some("msgbench.compare/1"), Some(3))
        );
        assert_eq!(json["rows"].as_array().unwrap().len(), c.rows.len());
    }

    #[test]
    fn the_xml_is_well_formed() {
        let xml = crate::report::export::junit::page(&failing()).unwrap();
        let mut open = Vec::new();
        for tag in xml.split('<').skip(1) {
            let (tag, _) = tag.split_once('>').unwrap();
            match tag.strip_prefix('/') {
                Some(name) => assert_eq!(open.pop(), Some(name)),
                None if tag.ends_with('/') || tag.starts_with('?') => {}
                None => open.push(tag.split_whitespace().next().unwrap()),
            }
        }
        assert!(open.is_empty() && !xml.contains('\u{1}'));
        assert!(xml.contains("tests=\"8\" skipped=\"1\" failures=\"3\" errors=\"0\""), "{}", &xml[..200]);
    }

    #[test]
    fn markdown_stays_within_the_limit_of_a_step_summary() {
        let mut c = failing();
        let rows = c.rows.clone();
        for i in 0..400 {
            c.rows.extend(rows.iter().cloned().map(|mut r| {
                r.scenario = format!("another {i}");
                r
            }));
        }
        let page = super::markdown::page(&c);
        assert!(page.len() <= super::markdown::BUDGET && page.len() > 10_000, "{}", page.len());
        assert!(page.contains("left out") && page.starts_with("## ▲ REGRESSED"));
    }
}
