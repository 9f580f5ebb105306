//! Records as pages people read: text, Markdown, HTML and charts. Pure functions from a record to
//! bytes.
//!
//! The terminal, the Markdown file and the HTML page print the same tables and the same notes, so
//! that no format says more, or less, than another about what may be believed. `view` and `notes`
//! decide what is said; `text`, `markdown` and `html` only how it looks; `chart` decides which
//! lines there are, `plot` draws them.

pub mod charts;
pub mod export;
pub mod pages;
pub mod words;

use crate::record::Record;
use crate::report::charts::series::RunSeries;

/// Why a report could not be made.
#[derive(Debug, thiserror::Error)]
pub enum ReportError {
    /// A chart failed.
    #[error(transparent)]
    Chart(#[from] crate::report::charts::plot::ChartError),
}

/// All files of a report with their paths relative to the folder of the run: `report.html`,
/// `report.md`, `charts/*`.
///
/// # Errors
/// When a chart cannot be drawn.
pub fn files(record: &Record, series: &RunSeries<'_>) -> Result<Vec<(String, Vec<u8>)>, ReportError> {
    let plots = crate::report::charts::chart::plots(record, series.intervals);
    let mut list = Vec::new();
    let mut charts = Vec::new();
    for plot in &plots {
        let path = format!("charts/{}.svg", plot.name);
        list.push((path.clone(), plot.svg()?.into_bytes()));
        list.push((format!("charts/{}.png", plot.name), plot.png()?));
        charts.push((plot.title.clone(), path));
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
    list.push(("report.html".into(), crate::report::pages::result::page(record, &plots, series, &raw).into_bytes()));
    list.push(("report.md".into(), crate::report::pages::markdown::page(record, &charts).into_bytes()));
    Ok(list)
}

/// Text as it must stand in HTML and XML, in elements and in attributes. Control characters that
/// XML forbids are dropped.
pub fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            '\n' | '\t' => out.push(c),
            c if c.is_control() => {}
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::charts::{chart, heat};
    use super::pages::text;
    use super::*;
    use crate::record::sample;

    #[test]
    fn a_report_needs_nothing_else_and_escapes_everything() {
        let (intervals, log) = (sample::intervals(), heat::tests::log());
        // The log of one trial is there, that of the other one is not.
        let read = |name: &str| (name == "nats-1.hlog").then(|| log.clone());
        let list = files(&sample::record(), &RunSeries { intervals: &intervals, read: &read }).unwrap();
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
        assert!(page.matches("<svg role").count() == 10);
        assert!(page.contains("delivers &lt;1 kB&gt; sooner &amp; loses nothing") && !page.contains("<back>"));
        assert!(page.contains("scope=\"row\"") && page.contains("scope=\"col\""));
        assert!(page.contains("class=\"h0\"") && page.contains("25 messages that never arrived are in no cell"));
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
                assert!(pixels.chunks(3).filter(|p| *p == [0, 114, 178]).count() > 500, "{path}");
            }
        }
    }

    /// Elements are closed in order, and the lines of the chart have points.
    #[test]
    fn charts_are_well_formed() {
        let plots = chart::plots(&sample::record(), &sample::intervals());
        assert_eq!(plots.len(), 5);
        for plot in plots {
            let svg = plot.svg().unwrap();
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
            let longest = svg
                .split("<polyline")
                .filter_map(|p| p.split_once("points=\""))
                .map(|p| p.1.split('"').next().unwrap().len());
            assert!(longest.max().unwrap() > 100, "{}", plot.name);
        }
    }

    #[test]
    fn an_empty_run_has_a_report_too() {
        let mut record = sample::record();
        record.trials.clear();
        let list = files(&record, &RunSeries { intervals: &[], read: &|_| None }).unwrap();
        assert_eq!(list.len(), 2);
        let interrupted = crate::record::Completion::Interrupted;
        record.completion = interrupted;
        assert!(text::summary(&record, text::TextStyle::default()).contains("Nothing was measured"));
    }
}
