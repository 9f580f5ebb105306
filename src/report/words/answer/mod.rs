//! The answer of a run: what an architect reads first, and what may be wrong with it.
//!
//! Background: who opens a report wants to know which system to take and why to be careful, before
//! any table. Scope: pure; a record in, sentences, figures and remarks out. The page, the Markdown
//! file and the terminal print this one value, in this order: headline, losses, confidence, two
//! figures for each system, a table of facts, remarks with the gravest first. Design: the systems
//! are those of one load point (the hardest that most of them kept up with) and one workload; every
//! claim that one is faster is that of [`crate::compare`], by its interval. Systems are ranked by
//! the median, because a few pauses of the host decide a tail. Rejected: one sentence for each
//! system and check, which is what nobody read.

mod confidence;
mod facts;
mod headline;
mod losses;
pub mod outages;
mod pictures;
mod remarks;
mod side;
mod standing;

pub use confidence::{Confidence, ConfidenceLevel};
pub use pictures::{AnswerBar, AnswerPicture};
pub use remarks::Remark;
pub use side::{AnswerSide, Measured, RunFigure, without_schedule};
pub use standing::Standing;

use crate::compare::{self, CompareOptions, Comparison, ComparisonRow, ExpectVerdict, NamedRecord};
use crate::plan::Case;
use crate::plan::metric::{Quantity, Statistic};
use crate::plan::search::SearchPlan;
use crate::record::{Gravest, Headlines, RESPONSES, Record, Status, Trial};
use crate::report::words::view::{TextTable, quantile_name, usable};
use crate::report::words::{capacity, demand};
use crate::units::{digits, plural};

/// What a run answers.
#[derive(Debug)]
pub struct Answer<'a> {
    /// `OK`, or the gravest thing there is to say: `FAILED`, `BROKEN`, `INVALID` where no trial
    /// counts, `INTERRUPTED`, `INCOMPLETE` where no trial of one case counts, `UNMET`.
    pub word: &'static str,
    /// The answer in one sentence.
    pub headline: String,
    /// What became of the messages, and whether that was promised.
    pub losses: String,
    pub confidence: Confidence,
    /// The load point that it is about, where there are several: `rate = 20k/s, one of 5 load
    /// points`.
    pub point: Option<String>,
    /// The systems at that point, in the order of the scenario.
    pub sides: Vec<AnswerSide<'a>>,
    /// How each of them stands beside the others.
    pub standings: Vec<Standing>,
    /// The quantile of the second figure.
    pub tail: f64,
    /// Whether it is of a search in which one trial decides each load.
    pub one_trial: bool,
    /// A row for each question, a column for each system.
    pub facts: TextTable,
    /// What must be known before the answer is quoted, the gravest first.
    pub remarks: Vec<Remark>,
    /// Systems without an answer, each in one sentence.
    pub failures: Vec<SystemFailure>,
    /// The limits of the scenario: word and sentence of each, the gravest first.
    pub limits: Vec<(&'static str, String)>,
}

/// The check of keeping up.
const OVERLOAD: &str = "V3";

/// Why a system has no answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SystemFailure {
    pub system: String,
    /// Whole, with the name of the system.
    pub sentence: String,
}

/// What the parts of an answer are made of.
struct AnswerContext<'a> {
    record: &'a Record,
    sides: &'a [AnswerSide<'a>],
    comparison: Option<&'a Comparison>,
    tail: f64,
}

impl<'a> AnswerContext<'a> {
    /// The row that compares two systems in what heads the answer: the median, or the rate.
    fn row(&self, x: &AnswerSide<'_>, y: &AnswerSide<'_>) -> Option<&'a ComparisonRow> {
        let metric = match x.typical.as_ref()?.measured {
            Measured::Time => format!("{}.p50", x.kind),
            Measured::Rate if x.only_sends() => "throughput.sent".into(),
            Measured::Rate => "throughput.delivered".into(),
        };
        let workload = &x.plan().name;
        self.comparison?.rows.iter().find(|r| {
            let pair = [&r.a.case, &r.b.case];
            pair.contains(&&x.case.id)
                && pair.contains(&&y.case.id)
                && r.metric.workload.as_ref().is_none_or(|w| w == workload)
                && r.metric.quantity.to_string() == metric
        })
    }
}

/// The answer of a run; `None` where nothing was measured.
pub fn of(record: &Record) -> Option<Answer<'_>> {
    if record.trials.is_empty() {
        return None;
    }
    let search = record.plan.search.as_ref();
    let (cases, point) = if search.is_some() { cases_that_hold(record) } else { cases_of_the_point(record) };
    let tail = search.and_then(|s| limit_quantile(record, s)).unwrap_or_else(|| tail(record, &cases));
    let sides: Vec<AnswerSide<'_>> =
        cases.iter().filter_map(|c| AnswerSide::of(record, c, 0, tail)).filter(|s| !s.all.is_empty()).collect();
    let gate = record.plan.gate.clone().unwrap_or_default();
    let named = NamedRecord { label: &record.plan.name, record };
    // Of a search each system is shown at a load of its own: such figures are not compared.
    let comparison = search.is_none().then(|| compare::systems(named, None, &gate, CompareOptions::default()).ok());
    let comparison = comparison.flatten();
    let context = AnswerContext { record, sides: &sides, comparison: comparison.as_ref(), tail };
    let limits = limits(record);
    let valid = record.trials.iter().any(usable);
    let word = match record.gravest() {
        Some(Gravest::Failed) => "FAILED",
        Some(Gravest::Broken) => "BROKEN",
        _ if !valid && sides.iter().any(|s| s.partial) => "INTERRUPTED",
        _ if !valid => "INVALID",
        Some(Gravest::Invalid) => "INCOMPLETE",
        _ if limits.iter().any(|(word, _)| *word == ExpectVerdict::Unmet.word()) => "UNMET",
        _ => "OK",
    };
    let met: Vec<(&str, &str, usize)> = sides.iter().map(|s| (s.name(), s.case.id.as_str(), s.workload)).collect();
    let met = outages::sentences(record, &met).join(" ");
    let mut headline = search.map_or_else(|| headline::headline(&context), |s| searched(record, s));
    let mut losses = losses::losses(&context);
    if !met.is_empty() {
        // What faults did is what such a scenario asks.
        losses = format!("{headline} {losses}");
        headline = met;
    }
    Some(Answer {
        word,
        headline,
        losses,
        confidence: search.map_or_else(|| confidence::confidence(&context), |s| confidence::of_search(record, s)),
        facts: facts::table(&context),
        remarks: remarks::remarks(&context),
        standings: standing::standings(&context),
        failures: if search.is_some() { Vec::new() } else { failures(record, &sides) },
        limits,
        one_trial: search.is_some_and(|s| record.quick() || s.lead < 2),
        point,
        tail,
        sides,
    })
}

impl Answer<'_> {
    /// Messages of all complete trials of a side that never arrived; `None` where none is complete.
    pub fn lost(side: &AnswerSide<'_>) -> Option<u64> {
        side.complete().next().map(|_| side.lost())
    }

    /// The sentence on a system without an answer.
    pub fn failure_of(&self, system: &str) -> Option<&str> {
        self.failures.iter().find(|f| f.system == system).map(|f| f.sentence.as_str())
    }

    /// The figures and the facts in one table: a row for each question, a column for each system.
    pub fn table(&self) -> TextTable {
        let mut table = TextTable { caption: String::new(), ..self.facts.clone() };
        let rate = self.sides.iter().any(|s| s.typical.as_ref().is_some_and(|f| f.measured == Measured::Rate));
        let row = |name: &str, of: &dyn Fn(&AnswerSide<'_>) -> Option<String>| {
            let mut row = vec![name.to_owned()];
            row.extend(self.sides.iter().map(|s| of(s).unwrap_or_else(|| "–".into())));
            row
        };
        let mut first = Vec::new();
        if self.sides.iter().any(|s| s.loads.0.is_some() || s.loads.1.is_some()) {
            first.push(row("Keeps the limits at", &|s| s.loads.0.clone()));
            first.push(row("Breaks one at", &|s| s.loads.1.clone()));
        }
        if !rate {
            first.push(row("Typical (p50)", &|s| s.typical.as_ref().map(RunFigure::words)));
            first.push(row(&of_hundred(self.tail), &|s| s.tail.as_ref().map(RunFigure::words)));
        }
        table.rows.splice(0..0, first);
        table
    }
}

/// The cases of the load point that heads the answer: of those that most systems have a valid trial
/// of, the last where rates are swept, as it is the hardest, else the first.
fn cases_of_the_point(record: &Record) -> (Vec<&Case>, Option<String>) {
    let mut points: Vec<&Vec<(String, String)>> = record.plan.cases.iter().map(|c| &c.point).collect();
    points.dedup();
    let mut distinct: Vec<&Vec<(String, String)>> = Vec::new();
    for p in points {
        if !distinct.contains(&p) {
            distinct.push(p);
        }
    }
    let of = |p: &Vec<(String, String)>| record.plan.cases.iter().filter(|c| c.point == *p).collect::<Vec<_>>();
    let counts = |p: &Vec<(String, String)>| {
        of(p).iter().filter(|c| record.trials.iter().any(|t| t.case == c.id && usable(t))).count()
    };
    let rates = distinct.iter().any(|p| p.iter().any(|(key, _)| key.ends_with("rate")));
    let most = distinct.iter().map(|p| counts(p)).max().unwrap_or(0);
    let mut candidates = distinct.iter().filter(|p| counts(p) == most);
    let Some(chosen) = (if rates { candidates.next_back() } else { candidates.next() }) else {
        return (Vec::new(), None);
    };
    let words = (distinct.len() > 1).then(|| {
        let values: Vec<String> =
            chosen.iter().map(|(k, v)| format!("{} = {v}", k.rsplit('.').next().unwrap_or(k))).collect();
        format!("{}, one of {}", values.join(", "), plural(distinct.len() as u64, "load point"))
    });
    (of(chosen), words)
}

/// Of a search: the case of each system at the highest load that keeps the limits.
fn cases_that_hold(record: &Record) -> (Vec<&Case>, Option<String>) {
    let first = record.searches.iter().filter(|s| s.number == 1);
    let held = first.filter_map(|s| {
        let at = s.bracket.lower.and_then(|load| s.trials.iter().find(|t| t.load == load)).or(s.trials.last())?;
        record.plan.cases.iter().find(|c| c.id == at.case)
    });
    (held.collect(), Some("the highest load of each system that keeps the limits, where one was found".into()))
}

/// The answer of a search: what is needed, where that was asked, then what each system holds.
fn searched(record: &Record, search: &SearchPlan) -> String {
    let needs = search.need.map(|need| demand::needs(record, need)).unwrap_or_default();
    let needs: String = needs.iter().map(|n| format!("{n}. ")).collect();
    let held = demand::headline(record, search).unwrap_or_else(|| capacity::headline(record, search));
    format!("{needs}{held}")
}

/// The quantile that the search holds the response to, so that the figure beside the rate is the
/// one that the limit is of.
fn limit_quantile(record: &Record, search: &SearchPlan) -> Option<f64> {
    search
        .limits
        .iter()
        .find_map(|l| match &l.metric.quantity {
            Quantity::Latency(kind, Statistic::Quantile(q)) if RESPONSES.contains(&kind.as_str()) => Some(*q),
            _ => None,
        })
        .filter(|q| record.plan.percentiles.iter().any(|p| (p - q).abs() < 1e-9))
}

/// The highest of p99 and p90 that every valid run knows.
fn tail(record: &Record, cases: &[&Case]) -> f64 {
    let trials: Vec<&Trial> =
        record.trials.iter().filter(|t| usable(t) && cases.iter().any(|c| c.id == t.case)).collect();
    let heads = Headlines::of([record]);
    let known = |q: f64| {
        let of = |t: &&Trial| {
            let headline = t.workloads.first().and_then(|w| heads.latency(0, w));
            headline.is_none_or(|(_, l)| l.at(q).is_some_and(|p| p.printable))
        };
        trials.iter().all(of)
    };
    if !known(0.99) && known(0.9) { 0.9 } else { 0.99 }
}

/// `1 in 100`, `1 in 10`, `1 in 1,000`.
pub fn one_in(quantile: f64) -> String {
    format!("1 in {}", digits((1.0 / (1.0 - quantile)).round() as u64))
}

/// `99 of 100 within` beside `p99`.
pub fn of_hundred(quantile: f64) -> String {
    format!("{} within ({})", capacity::share(quantile), quantile_name(quantile))
}

fn limits(record: &Record) -> Vec<(&'static str, String)> {
    let mut limits = compare::expectations(record, &record.plan.expect);
    let rank = |v: ExpectVerdict| match v {
        ExpectVerdict::Unmet => 0,
        ExpectVerdict::Invalid => 1,
        ExpectVerdict::Inconclusive => 2,
        ExpectVerdict::NotJudged => 3,
        ExpectVerdict::Met => 4,
    };
    limits.sort_by_key(|l| rank(l.verdict));
    limits.into_iter().map(|l| (l.verdict.word(), format!("{}: {}.", l.case, l.sentence))).collect()
}

/// Systems that were skipped, failed, or have no trial that counts: one sentence each, with the
/// reason.
fn failures(record: &Record, sides: &[AnswerSide<'_>]) -> Vec<SystemFailure> {
    let mut list: Vec<SystemFailure> = Vec::new();
    let mut add = |system: &str, sentence: String| list.push(SystemFailure { system: system.into(), sentence });
    for side in sides.iter().filter(|s| s.used.is_empty() || s.partial) {
        let name = side.name();
        if side.partial {
            add(
                name,
                format!("{name} was interrupted: these figures are of a part of a trial, and count for no comparison."),
            );
            continue;
        }
        if let Some((phase, error)) = side.failure() {
            add(name, format!("{name} failed in {phase}: {}.", error.trim_end_matches('.')));
            continue;
        }
        let overload = side.all.iter().flat_map(|t| &t.validity);
        if let Some(check) = overload.clone().find(|c| c.id == OVERLOAD && c.status == Status::Invalid) {
            add(name, format!("{name} was overloaded, no trial counts: {}.", check.observed.trim_end_matches('.')));
            continue;
        }
        let reasons = invalid_because(side.all.iter().copied());
        add(
            name,
            match reasons.is_empty() {
                true => format!("{name} has no trial that counts."),
                false => format!("{name} has no trial that counts: {}.", reasons.join(", ")),
            },
        );
    }
    for s in &record.skipped {
        let (reason, remedy) = (s.reason.trim_end_matches('.'), s.remedy.trim_end_matches('.'));
        add(&s.system, format!("{} was not measured: {reason}. To have it measured: {remedy}.", s.system));
    }
    list
}

/// Why trials are invalid, in plain words, the commonest check first.
fn invalid_because<'t>(trials: impl Iterator<Item = &'t Trial>) -> Vec<String> {
    let mut counts: Vec<(String, usize)> = Vec::new();
    for check in trials.flat_map(|t| &t.validity).filter(|c| c.status == Status::Invalid) {
        let words = super::checks::plain(check);
        match counts.iter_mut().find(|(known, _)| known == words) {
            Some((_, n)) => *n += 1,
            None => counts.push((words.to_owned(), 1)),
        }
    }
    counts.sort_by_key(|(_, n)| std::cmp::Reverse(*n));
    counts.into_iter().map(|(words, _)| words).collect()
}

#[cfg(test)]
mod tests;
