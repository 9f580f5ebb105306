//! Records as pages people read: text, Markdown, HTML and charts. Pure functions from a record to
//! bytes.
//!
//! The terminal, the Markdown file and the HTML page print the same tables and the same notes, so
//! that no format says more, or less, than another about what may be believed. `words` decides what
//! is said, `pages` only how it looks; `charts` says what is drawn, and draws it.

pub mod charts;
pub mod export;
pub mod pages;
pub mod words;

use crate::record::Record;
use crate::report::charts::run::RunCharts;
use crate::report::charts::series::RunSeries;
use crate::report::charts::{Foot, png, svg};

/// Why a report could not be made.
#[derive(Debug, thiserror::Error)]
pub enum ReportError {
    /// A chart failed.
    #[error(transparent)]
    Chart(#[from] crate::report::charts::ChartError),
}

/// All files of a report with their paths relative to the folder of the run: `report.html`,
/// `report.md`, `charts/*`. `source` is the path of the record, which the charts name.
///
/// # Errors
/// When a chart cannot be drawn.
pub fn files(record: &Record, series: &RunSeries<'_>, source: &str) -> Result<Vec<(String, Vec<u8>)>, ReportError> {
    let drawn = RunCharts::of(record, series);
    let foot = Foot::of(record, source);
    let mut list = Vec::new();
    let mut charts = Vec::new();
    for chart in drawn.all() {
        let path = format!("charts/{}.svg", chart.name);
        list.push((path.clone(), svg(chart, &foot).into_bytes()));
        list.push((format!("charts/{}.png", chart.name), png(chart, &foot)?));
        charts.push((chart.title.clone(), path));
    }
    let mut raw = vec![
        ("everything about the run, as JSON".to_string(), "run.json".to_string()),
        ("what its fields mean".to_string(), "run.schema.json".to_string()),
    ];
    if !series.intervals.is_empty() {
        raw.push(("the time series".to_string(), "intervals.csv".to_string()));
    }
    for t in &record.trials {
        let of = format!("{}, round {}", t.case, t.round);
        raw.extend(t.hlog.iter().map(|f| (format!("every sample of {of}, as HdrHistogram interval log"), f.clone())));
        raw.extend(t.server_log.iter().map(|f| (format!("server log of {of}"), f.clone())));
    }
    list.push(("report.html".into(), crate::report::pages::result::page(record, &drawn, &raw).into_bytes()));
    list.push(("report.md".into(), crate::report::pages::markdown::page(record, &charts).into_bytes()));
    Ok(list)
}

/// A page or drawing without the characters that XML forbids: no reader of SVG takes them, and no
/// browser shows them.
pub(crate) fn printable(mut page: String) -> String {
    let known = |c: char| matches!(c, '\n' | '\t') || !(c.is_control() || matches!(c, '\u{fffe}' | '\u{ffff}'));
    page.retain(known);
    page
}

#[cfg(test)]
mod tests {
    use super::charts::heat;
    use super::pages::text;
    use super::*;
    use crate::record::sample;

    #[test]
    fn a_report_needs_nothing_else_and_escapes_everything() {
        let (intervals, log) = (sample::intervals(), heat::tests::log());
        // The log of one trial is there, that of the other one is not.
        let read = |name: &str| (name == "nats-1.hlog").then(|| log.clone());
        let list =
            files(&sample::record(), &RunSeries { intervals: &intervals, read: &read }, "results/sample/1/run.json")
                .unwrap();
        if let Some(dir) = std::env::var_os("MSGBENCH_SAMPLE_REPORT") {
            for (path, bytes) in &list {
                let path = std::path::Path::new(&dir).join(path);
                std::fs::create_dir_all(path.parent().unwrap()).unwrap();
                std::fs::write(path, bytes).unwrap();
            }
        }
        let text = |name: &str| {
            let (_, bytes) = list.iter().find(|(path, _)| path == name).unwrap();
            String::from_utf8(bytes.clone()).unwrap()
        };
        let page = text("report.html");
        assert!(!page.contains("http://") && !page.contains("https://"));
        // For both widths; the files are the charts of the page.
        let files = list.iter().filter(|(path, _)| path.ends_with(".png")).count();
        assert_eq!((page.matches("role=\"img\"").count(), files), (10, 7));
        assert!(page.contains("delivers &lt;1 kB&gt; sooner &amp; loses nothing") && !page.contains("<back>"));
        assert!(page.contains("scope=\"row\"") && page.contains("scope=\"col\""));
        assert!(page.contains("class=\"f h0\"") && page.contains("25 messages that never arrived are in no cell"));
        // In the caption, and for those who cannot see either drawing.
        assert_eq!(page.matches("its interval log is not beside run.json").count(), 3);
        assert!(page.find("<h1>").unwrap() < page.find("<h2").unwrap(), "the answer stands first");
        let folded = page.find("<details").unwrap();
        assert!(page.find("Before you quote this").unwrap() < folded && page.find("class=\"cards\"").unwrap() < folded);
        assert!(text("report.md").contains("charts/percentiles.svg"));
        for (path, bytes) in &list {
            if path.ends_with(".png") {
                let mut reader = png::Decoder::new(bytes.as_slice()).read_info().unwrap();
                let mut pixels = vec![0; reader.output_buffer_size()];
                reader.next_frame(&mut pixels).unwrap();
                // Those of a series have a colour.
                let spread = |p: &&[u8]| p.iter().max().unwrap() - p.iter().min().unwrap() > 60;
                assert!(pixels.chunks(3).filter(spread).count() > 500, "{path}");
                assert_eq!(reader.info().width, 1600, "{path}");
            }
        }
    }

    /// Elements are closed in order, there is something to see, and no drawing has colours of its
    /// own.
    #[test]
    fn charts_are_well_formed() {
        let intervals = sample::intervals();
        let record = sample::record();
        let charts = RunCharts::of(&record, &RunSeries { intervals: &intervals, read: &|_| None });
        assert_eq!(charts.all().count(), 7);
        for chart in charts.all() {
            let svg = svg(chart, &Foot::of(&record, "a/b/c/d/run.json"));
            assert!(svg.contains("fan-out · ") && svg.contains("· c/d/run.json</text>"), "{svg}");
            let mut open = Vec::new();
            for tag in svg.split('<').skip(1) {
                let (tag, _) = tag.split_once('>').unwrap();
                match tag.strip_prefix('/') {
                    Some(name) => assert_eq!(open.pop(), Some(name)),
                    None if tag.ends_with('/') || tag.starts_with(['?', '!']) => {}
                    None => open.push(tag.split_whitespace().next().unwrap()),
                }
            }
            assert!(open.is_empty(), "{open:?}");
            assert!(svg.matches(" class=\"m ").count() > 1, "{}", chart.name);
            assert!(!svg.split_once("</style>").unwrap().1.contains(['#']), "{}", chart.name);
        }
    }

    #[test]
    fn an_empty_run_has_a_report_too() {
        let mut record = sample::record();
        record.trials.clear();
        let list = files(&record, &RunSeries { intervals: &[], read: &|_| None }, "run.json").unwrap();
        assert_eq!(list.len(), 2);
        let interrupted = crate::record::Completion::Interrupted;
        record.completion = interrupted;
        assert!(text::summary(&record, text::TextStyle::default()).contains("Nothing was measured"));
    }
}
