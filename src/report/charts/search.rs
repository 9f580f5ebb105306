//! A search for the highest load: latency over the load of its trials, the limit, and the two loads
//! that enclose the answer. Each trial is a mark, whose shape is its vote.

use super::axis::{Axis, AxisScale};
use super::chart::{Chart, Plot, Shape, Weight, through};
use super::latency::log_axis;
use crate::plan::gate::{Comparator, Expectation};
use crate::plan::metric::{Quantity, Statistic, Unit};
use crate::plan::search::{Parameter, Purpose, SearchPlan, Vote};
use crate::record::value::value;
use crate::record::{Headlines, Record, SearchResult, SearchTrial, Trial};
use crate::report::words::capacity as words;
use crate::stats::median;

/// Above this ratio of the highest load to the answer the horizontal axis is logarithmic: the
/// answer would be a hair otherwise.
const FAR: f64 = 12.0;
/// Series of the line through the medians; those of votes are in [`look`].
const MIDDLE: usize = 2;

/// Series, and with it the shape, of a vote; and what the legend says of it.
fn look(vote: Vote) -> (usize, &'static str) {
    match vote {
        Vote::Pass => (0, "kept the limits"),
        Vote::Fail => (1, "broke a limit, or did not keep up"),
        Vote::Undecided => (3, "neither is proved"),
        Vote::Spoiled => (5, "no vote: spoiled by host or generator"),
    }
}
const VOTES: [Vote; 4] = [Vote::Pass, Vote::Fail, Vote::Undecided, Vote::Spoiled];

/// A chart for each system and load point that was searched.
pub fn charts(record: &Record) -> Vec<Chart> {
    let Some(search) = &record.plan.search else { return Vec::new() };
    let mut seen = std::collections::BTreeSet::new();
    let cases = record.searches.iter().map(|s| s.case.as_str()).filter(|c| seen.insert(*c));
    cases.filter_map(|case| chart(record, search, case)).collect()
}

/// The first limit that is a percentile of a latency.
fn latency_limit(search: &SearchPlan) -> Option<&Expectation> {
    let at_most = |e: &&Expectation| matches!(e.comparator, Comparator::Less | Comparator::AtMost);
    let percentile = |e: &&Expectation| matches!(e.metric.quantity, Quantity::Latency(_, Statistic::Quantile(_)));
    search.limits.iter().filter(at_most).find(percentile)
}

/// What is drawn: the percentile of the limit, else p99 of the response; of several workloads the
/// worst.
fn height(record: &Record, search: &SearchPlan, trial: &Trial) -> Option<f64> {
    let limit = latency_limit(search);
    let case = record.plan.cases.iter().find(|c| c.id == trial.case)?;
    let of = |(index, w): (usize, &crate::plan::Workload)| {
        let asked = limit.and_then(|l| l.metric.workload.as_ref());
        if asked.is_some_and(|name| *name != w.name) {
            return None;
        }
        let kind = Headlines::of([record]).latency(index, trial.workloads.get(index)?)?.0;
        let p99 = || Quantity::Latency(kind.into(), Statistic::Quantile(0.99));
        let quantity = limit.map_or_else(p99, |l| l.metric.quantity.clone());
        value(trial, index, &quantity).map(|o| o.value)
    };
    case.workloads.iter().enumerate().filter_map(of).filter(|v| *v > 0.0).max_by(f64::total_cmp)
}

/// One mark.
struct TrialMark<'a> {
    trial: &'a SearchTrial,
    /// Search and trial, from 1.
    number: (u32, usize),
    height: f64,
}

fn marks<'a>(record: &'a Record, search: &SearchPlan, of: &[&'a SearchResult]) -> Vec<TrialMark<'a>> {
    let mut out = Vec::new();
    for result in of {
        for (i, trial) in result.trials.iter().enumerate().filter(|t| t.1.purpose != Purpose::WarmUp) {
            let measured = record.trials.iter().find(|t| t.case == trial.case && t.round == trial.round);
            if let Some(height) = measured.and_then(|t| height(record, search, t)) {
                out.push(TrialMark { trial, number: (result.number, i + 1), height });
            }
        }
    }
    out
}

/// Loads on the horizontal axis.
fn across(search: &SearchPlan, marks: &[TrialMark<'_>], of: &[&SearchResult]) -> Axis {
    if let Parameter::Listed { path, values } = &search.parameter {
        let ticks = values.iter().enumerate().map(|(i, v)| (i as f64, v.clone())).collect();
        let end = values.len() as f64 - 0.5;
        return Axis { title: path.clone(), min: -0.5, max: end, ticks, scale: AxisScale::Number };
    }
    let title = "offered load, messages/s";
    let loads = || marks.iter().map(|m| m.trial.load);
    let most = loads().fold(0.0, f64::max);
    let held = of.iter().filter_map(|s| s.bracket.lower.or(s.bracket.upper)).fold(f64::INFINITY, f64::min);
    if held.is_finite() && most > FAR * held {
        return Axis::log_of(title, Unit::Rate, loads());
    }
    Axis::of(title, Unit::Rate, most)
}

/// The two loads of the answer: over several searches from the lowest to the highest.
fn interval(search: &SearchPlan, of: &[&SearchResult]) -> Option<Shape> {
    let known: Vec<_> = of.iter().filter_map(|s| Some((s.bracket.lower?, s.bracket.breaks()?))).collect();
    let limited = || of.iter().filter_map(|s| Some((s.bracket.lower?, s.bracket.upper?))).collect();
    let of: Vec<_> = if known.is_empty() { limited() } else { known.clone() };
    let from = of.iter().map(|b| b.0).min_by(f64::total_cmp)?;
    let to = of.iter().map(|b| b.1).max_by(f64::total_cmp)?;
    let label = match known.is_empty() {
        true => "generator's limit".to_owned(),
        false => format!("{} to {}", search.shown(from), search.shown(to)),
    };
    Some(Shape::Interval { from, to, known: !known.is_empty(), label })
}

fn chart(record: &Record, search: &SearchPlan, case: &str) -> Option<Chart> {
    let of: Vec<&SearchResult> = record.searches.iter().filter(|s| s.case == case).collect();
    let first = of.first()?;
    let name = words::name(record, first);
    let marks = marks(record, search, &of);
    let limit = latency_limit(search);
    let finite = || marks.iter().map(|m| m.height).filter(|v| v.is_finite());
    finite().next()?;
    let x = across(search, &marks, &of);
    let y = log_axis(finite().chain(limit.map(|l| l.limit)));
    let mut shapes: Vec<Shape> = interval(search, &of).into_iter().collect();
    shapes.extend(limit.map(|l| Shape::Limit { at: l.limit, label: format!("limit {}", Unit::Nanos.show(l.limit)) }));
    shapes.push(through(MIDDLE, Weight::Normal, vec![middles(&marks)], "median"));
    for m in &marks {
        let (series, _) = look(m.trial.vote);
        let says = says(name, search, m, of.len() > 1);
        shapes.push(Shape::Mark { series, at: (m.trial.load, m.height), hollow: false, says });
    }
    let what = match limit.map(|l| &l.metric.quantity) {
        Some(quantity) => quantity.to_string(),
        None => "p99 of the response".into(),
    };
    let over = match search.parameter {
        Parameter::Rate { .. } => "offered load".to_owned(),
        Parameter::Listed { ref path, .. } => path.clone(),
    };
    let title = format!("{name}: {what} over {over}, trial by trial");
    let caption = caption(record, search, &of, &marks);
    let chart = Chart::new(&format!("search-{case}"), title, caption, Plot::single(x, y, 330.0, shapes));
    let cast = VOTES.into_iter().filter(|v| marks.iter().any(|m| m.trial.vote == *v)).map(look);
    Some(Chart { marks_only: true, ..chart.with_series(cast.map(|(series, word)| (series, word.to_owned()))) })
}

/// At each load the median of the trials that have a vote.
fn middles(marks: &[TrialMark<'_>]) -> Vec<(f64, f64)> {
    let mut loads: Vec<f64> = marks.iter().filter(|m| m.trial.vote != Vote::Spoiled).map(|m| m.trial.load).collect();
    loads.sort_by(f64::total_cmp);
    loads.dedup();
    let at = |load: f64| {
        let of = marks.iter().filter(|m| m.trial.load == load && m.trial.vote != Vote::Spoiled);
        median(&of.map(|m| m.height).collect::<Vec<_>>()).map(|v| (load, v))
    };
    loads.into_iter().filter_map(at).collect()
}

/// A mark in words.
fn says(name: &str, search: &SearchPlan, m: &TrialMark<'_>, several: bool) -> String {
    let trial =
        if several { format!("search {}, trial {}", m.number.0, m.number.1) } else { format!("trial {}", m.number.1) };
    let why = if m.trial.why.is_empty() { look(m.trial.vote).1 } else { &m.trial.why };
    let height = Unit::Nanos.show(m.height);
    format!("{name} at {}, {trial}: {height}: {why}", search.shown(m.trial.load))
}

fn caption(record: &Record, search: &SearchPlan, of: &[&SearchResult], marks: &[TrialMark<'_>]) -> String {
    let mut out = match of {
        [one] => format!("{}.", words::found(record, search, one)),
        [one, ..] => format!("{}.", words::across(record, search, one)),
        [] => String::new(),
    };
    out.push_str(
        " Each trial is a mark, whose shape is its vote; the line goes through the medians of those with one.",
    );
    match latency_limit(search) {
        Some(limit) => {
            out.push_str(&format!(" The horizontal line is the limit `{}`.", limit.that));
            let others: Vec<String> =
                search.limits.iter().filter(|l| l.that != limit.that).map(|l| format!("`{}`", l.that)).collect();
            if !others.is_empty() {
                out.push_str(&format!(" A trial below it may have broken {}.", others.join(" or ")));
            }
        }
        None => out.push_str(" No limit is one of a percentile, so that none is drawn."),
    }
    match interval(search, of) {
        Some(Shape::Interval { known: true, .. }) if of.iter().any(|s| !s.bracket.ending.ended()) => {
            out.push_str(" The band is as far as the trials tell: not every search ended.");
        }
        Some(Shape::Interval { known: true, .. }) if of.len() > 1 => {
            out.push_str(" The band is from the lowest to the highest answer of the searches.");
        }
        Some(Shape::Interval { known: true, .. }) => {
            out.push_str(" The band is the answer: its left edge keeps the limits, its right edge does not.");
        }
        Some(_) => out.push_str(" In the band the generator, or this host, is the limit."),
        None => {}
    }
    if record.quick() || search.lead < 2 {
        out.push_str(" One trial decides each load, so that the next search may end elsewhere.");
    }
    if marks.iter().any(|m| m.height.is_infinite()) {
        out.push_str(" Marks on the upper edge are infinite: messages were lost.");
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::gate::{Policy, Share};
    use crate::plan::search::{Bracket, Ending};
    use crate::plan::{Arrivals, Load, Profile};
    use crate::record::sample;
    use crate::report::charts::chart::Body;
    use crate::report::charts::{Foot, figures, png, svg};
    use crate::report::words::answer;
    use crate::units::Rate;

    /// The sample as a search of `reference` that ended so, with these trials: load and vote.
    fn searched(trials: &[(f64, Vote)], bracket: Bracket, that: &str, limit: f64) -> Record {
        let mut record = sample::record();
        let case = record.plan.cases[0].clone();
        let measured = record.trials.iter().find(|t| t.case == case.id).unwrap().clone();
        record.plan.systems.truncate(1);
        record.plan.cases.clear();
        record.trials.clear();
        let mut made = Vec::new();
        for (i, (load, vote)) in trials.iter().enumerate() {
            let mut at = case.clone();
            at.id = format!("{}-rate-{load}", case.id);
            at.workloads[0].load = Load::Open { arrivals: Arrivals::Poisson, profile: Profile::constant(Rate(*load)) };
            let round = i as u32 + 1;
            record.trials.push(Trial { case: at.id.clone(), round, ..measured.clone() });
            made.push(SearchTrial {
                case: at.id.clone(),
                round,
                load: *load,
                purpose: if i == 0 { Purpose::WarmUp } else { Purpose::Confirm },
                vote: *vote,
                broken: Vec::new(),
                why: String::new(),
            });
            if !record.plan.cases.iter().any(|c| c.id == at.id) {
                record.plan.cases.push(at);
            }
        }
        record.plan.search = Some(SearchPlan {
            limits: vec![Expectation {
                that: that.into(),
                metric: that.split_whitespace().next().unwrap().parse().unwrap(),
                comparator: Comparator::Less,
                limit,
                system: None,
                on_inconclusive: Policy::Warn,
            }],
            parameter: Parameter::Rate { min: Rate(1.0), max: Rate(1e9), start: Rate(1e3) },
            width: Share(0.05),
            confidence: 0.95,
            lead: 3,
            most_trials: 100,
            searches: 1,
            need: None,
        });
        record.searches = vec![SearchResult {
            case: case.id,
            system: 0,
            number: 1,
            bracket,
            trials: made,
            votes: Vec::new(),
            broken: None,
        }];
        record
    }

    fn found(lower: f64, upper: f64) -> Bracket {
        Bracket { lower: Some(lower), upper: Some(upper), ending: Ending::Found }
    }

    const MIXED: [(f64, Vote); 6] = [
        (1e3, Vote::Fail),
        (1e3, Vote::Pass),
        (2e3, Vote::Fail),
        (1.5e3, Vote::Undecided),
        (1.5e3, Vote::Pass),
        (2e3, Vote::Spoiled),
    ];

    fn shapes(chart: &Chart) -> &[Shape] {
        let Body::Plot(plot) = &chart.body else { panic!("a plot") };
        &plot.panels[0].shapes
    }

    #[test]
    fn each_vote_has_a_shape_that_the_legend_names_and_the_answer_is_a_band() {
        let record = searched(&MIXED, found(1.5e3, 2e3), "e2e.p99 < 20ms", 20e6);
        let [chart] = &charts(&record)[..] else { panic!("one chart") };
        let marks: Vec<usize> = shapes(chart)
            .iter()
            .filter_map(|s| if let Shape::Mark { series, .. } = s { Some(*series) } else { None })
            .collect();
        assert_eq!(marks.len(), MIXED.len() - 1, "the warm-up has no vote");
        for series in &marks {
            assert!(chart.series.iter().any(|(named, _)| named == series), "{series} is in no legend");
        }
        let shapes = shapes(chart);
        let band = Shape::Interval { from: 1.5e3, to: 2e3, known: true, label: "1.5k/s to 2k/s".into() };
        assert_eq!(shapes[0], band);
        assert!(shapes.iter().any(|s| matches!(s, Shape::Limit { at, .. } if *at == 20e6)));
        let said = "reference holds 99 of 100 within 20 ms up to 1.5k to 2k messages a second.";
        assert!(chart.caption.starts_with(said), "{}", chart.caption);
        // On a page and in a file of its own.
        let page = figures([chart]).into_string();
        for word in ["kept the limits", "neither is proved", "no vote", "1.5k/s to 2k/s"] {
            assert!(page.contains(word), "{word}");
        }
        // Votes are marks: their entries have no line beside the shape.
        let legend = page.split("</ul>").next().unwrap();
        assert!(!legend.contains("class=\"l\""), "{legend}");
        assert!(svg(chart, &Foot::default()).contains("broke a limit"));
        assert!(png(chart, &Foot::default()).unwrap().len() > 10_000);
    }

    #[test]
    fn an_answer_far_below_the_first_load_is_still_a_band_and_the_generators_limit_is_named_so() {
        let far = [(1e6, Vote::Pass), (1e6, Vote::Fail), (1e3, Vote::Pass), (1.1e3, Vote::Fail)];
        let record = searched(&far, found(1e3, 1.1e3), "e2e.p99 < 20ms", 20e6);
        let [chart] = &charts(&record)[..] else { panic!("one chart") };
        let Body::Plot(plot) = &chart.body else { panic!("a plot") };
        assert!(plot.x.share(1.1e3) - plot.x.share(1e3) > 0.005, "{:?}", plot.x);
        let open = Bracket { ending: Ending::Unfinished, ..found(1e3, 1.1e3) };
        let caption = charts(&searched(&far, open, "e2e.p99 < 20ms", 20e6)).remove(0).caption;
        assert!(
            caption.contains("not every search ended") && !caption.contains("its right edge does not"),
            "{caption}"
        );
        let limited = Bracket { ending: Ending::GeneratorLimited, ..found(1.5e3, 2e3) };
        let record = searched(&MIXED, limited, "e2e.p99 < 20ms", 20e6);
        let [chart] = &charts(&record)[..] else { panic!("one chart") };
        assert!(
            matches!(&shapes(chart)[0], Shape::Interval { known: false, label, .. } if label.contains("generator"))
        );
        assert!(chart.caption.contains("In the band the generator"), "{}", chart.caption);
        // The thin line of the answer's bar goes up to a load that breaks a limit.
        let range = |record: &Record| answer::of(record)?.sides.iter().find_map(|s| s.capacity.as_ref()?.range);
        assert_eq!(range(&record), Some((1.5e3, 1.5e3)));
        assert_eq!(range(&searched(&MIXED, found(1.5e3, 2e3), "e2e.p99 < 20ms", 20e6)), Some((1.5e3, 2e3)));
    }
}
