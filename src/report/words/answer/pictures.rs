//! The two bar pictures of an answer: described here once, drawn by the page and as files.

use super::side::{AnswerSide, Measured, RunFigure};
use super::{Answer, one_in};
use crate::record::SAME_AGENT;

/// A bar for each system that has the figure.
#[derive(Debug, Clone, PartialEq)]
pub struct AnswerPicture<'a> {
    /// `typical` or `tail`.
    pub name: &'static str,
    pub title: String,
    pub bars: Vec<AnswerBar<'a>>,
    /// The end of the scale, which begins at 0; finite.
    pub largest: f64,
    /// The scale, and what the thin lines are.
    pub key: String,
}

/// One system of a picture.
#[derive(Debug, Clone, PartialEq)]
pub struct AnswerBar<'a> {
    pub system: &'a str,
    /// Its colour.
    pub series: usize,
    pub figure: &'a RunFigure,
}

impl RunFigure {
    fn rate_words(value: f64) -> String {
        format!("{}/s", crate::units::count(value))
    }
    /// Its interval, or the range of its runs, where a line can show it.
    pub fn line(&self) -> Option<(f64, f64)> {
        self.range.filter(|(low, high)| high > low && high.is_finite())
    }
}

impl Answer<'_> {
    /// What is typical and what 1 in 100 exceeds; of a load without a schedule the rate alone. A
    /// picture without a bar is left out.
    pub fn pictures(&self) -> Vec<AnswerPicture<'_>> {
        let kind = self.sides.iter().find(|s| s.typical.is_some()).map_or("e2e", |s| s.kind);
        let rate = self.sides.iter().any(|s| s.typical.as_ref().is_some_and(|f| f.measured == Measured::Rate));
        let connects = self.sides.iter().any(|s| s.plan().connects());
        let (noun, verb) = match kind {
            _ if connects => ("client", "gets its first message in"),
            k if k.starts_with("rtt") => ("request", "is answered in"),
            k if k.starts_with("ack") => ("message", "is confirmed in"),
            SAME_AGENT => ("message from an agent to itself", "takes"),
            _ => ("message", "takes"),
        };
        let taken = self.sides.iter().any(AnswerSide::only_sends);
        let typical = match rate {
            true if taken => "Messages taken from the producers a second".into(),
            true => "Messages delivered a second".into(),
            false => format!("A typical {noun} {verb}"),
        };
        let nouns = if kind == SAME_AGENT { "messages from an agent to itself".into() } else { format!("{noun}s") };
        let tail = format!("{} {nouns} takes longer than", one_in(self.tail));
        if self.sides.iter().any(|s| s.capacity.is_some()) {
            let held =
                picture("capacity", "Highest rate that keeps the limits".into(), self.bars(|s| s.capacity.as_ref()));
            let held = held.map(|p| AnswerPicture {
                key: format!(
                    "Bars from 0 to {}; thin line: up to the lowest rate that breaks a limit{}",
                    RunFigure::rate_words(p.largest),
                    if self.one_trial { "; one trial decides each" } else { "" }
                ),
                ..p
            });
            let tail = format!("At that rate {} {noun}s takes longer than", one_in(self.tail));
            let tail = picture("tail", tail, self.bars(|s| s.tail.as_ref().filter(|_| s.capacity.is_some())));
            return held.into_iter().chain(tail).collect();
        }
        let all = [
            picture("typical", typical, self.bars(|s| s.typical.as_ref())),
            picture("tail", tail, self.bars(|s| s.tail.as_ref())),
        ];
        all.into_iter().flatten().collect()
    }

    fn bars<'s>(&'s self, of: impl Fn(&'s AnswerSide<'_>) -> Option<&'s RunFigure>) -> Vec<AnswerBar<'s>> {
        let bar = |side: &'s AnswerSide<'_>| {
            Some(AnswerBar { system: side.name(), series: side.case.system, figure: of(side)? })
        };
        self.sides.iter().filter_map(bar).collect()
    }
}

fn picture<'a>(name: &'static str, title: String, bars: Vec<AnswerBar<'a>>) -> Option<AnswerPicture<'a>> {
    let first = bars.first()?.figure;
    let ends = bars.iter().flat_map(|b| [Some(b.figure.value), b.figure.line().map(|l| l.1)]).flatten();
    let largest = ends.filter(|v| v.is_finite()).fold(0.0, f64::max);
    let lines = |interval: bool| bars.iter().any(|b| b.figure.line().is_some() && b.figure.interval == interval);
    let key = match (lines(true), lines(false)) {
        (true, false) => "; thin line: where the value lies with 95 % certainty",
        (false, true) => "; thin line: from the smallest to the largest run",
        (true, true) => {
            "; thin line: where the value lies with 95 % certainty, of fewer than 6 runs from the smallest to the largest"
        }
        (false, false) => "",
    };
    let clocks = if bars.iter().any(|b| b.figure.clocks.is_some()) { ", and what clocks may be wrong by" } else { "" };
    let key = if bars.iter().all(|b| b.figure.clocks.is_some() && !b.figure.interval && b.figure.one_run) {
        "; thin line: where the value lies, as far as the clocks of the agents tell".to_owned()
    } else {
        format!("{key}{clocks}")
    };
    let key = format!("Bars from 0 to {}{key}", first.show(largest));
    Some(AnswerPicture { name, title, bars, largest, key })
}
