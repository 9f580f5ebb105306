//! The bar pictures of an answer as charts, for files of their own.

use super::axis::Axis;
use super::chart::{Block, Body, Chart, Row, RowKind, Rows};
use crate::record::Record;
use crate::report::words::answer::{self, AnswerBar, AnswerPicture};

/// A block of bars whose axis begins at zero and holds all values and intervals.
pub fn from_zero(heading: String, rows: Vec<Row>) -> Block {
    let ends = rows.iter().flat_map(|r| [Some(r.value), r.interval.map(|i| i.1)]).flatten();
    let most = ends.filter(|v| v.is_finite()).fold(0.0, f64::max);
    Block { heading, axis: Axis::linear("", most), rows }
}

/// The pictures of a result's answer.
pub fn pictures(record: &Record) -> Vec<Chart> {
    answer::of(record).map_or_else(Vec::new, |answer| answer.pictures().into_iter().map(chart).collect())
}

fn chart(picture: AnswerPicture<'_>) -> Chart {
    let row = |b: &AnswerBar<'_>| {
        let (figure, interval) = (b.figure, b.figure.line());
        let range = interval
            .map_or_else(String::new, |(low, high)| format!(" ({} to {})", figure.show(low), figure.show(high)));
        Row {
            series: b.series,
            label: b.system.to_owned(),
            value: figure.value,
            interval,
            text: figure.words(),
            grade: None,
            zone: None,
            says: format!("{}: {}{range}", b.system, figure.words()),
        }
    };
    let rows = picture.bars.iter().map(row).collect();
    let body = Body::Rows(Rows { kind: RowKind::Bars, blocks: vec![from_zero(String::new(), rows)] });
    Chart::new(&format!("bars-{}", picture.name), picture.title, format!("{}.", picture.key), body)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::sample;

    /// The files show the figures of the page: the same load point, quantile and words.
    #[test]
    fn the_files_show_what_the_page_shows() {
        let record = sample::record();
        let all = pictures(&record);
        assert_eq!(all.iter().map(|c| c.name.as_str()).collect::<Vec<_>>(), ["bars-typical", "bars-tail"]);
        let answer = answer::of(&record).unwrap();
        for (chart, picture) in all.iter().zip(answer.pictures()) {
            let Body::Rows(rows) = &chart.body else { panic!("bars") };
            let drawn: Vec<_> = rows.blocks[0].rows.iter().map(|r| (r.label.as_str(), r.text.clone())).collect();
            let told: Vec<_> = picture.bars.iter().map(|b| (b.system, b.figure.words())).collect();
            assert_eq!((drawn, &chart.title), (told, &picture.title));
        }
    }
}
