//! The demand curve: the highest rate that a system holds at each value of a setting that is swept
//! around a search, and the smallest value that holds what is needed.

use std::cmp::Ordering;

use crate::plan::search::{Ending, Parameter, RATE, SearchPlan};
use crate::record::{Record, SearchResult};
use crate::report::words::capacity;
use crate::units::{Bytes, Rate};

/// What a system holds over one setting.
#[derive(Debug, Clone, PartialEq)]
pub struct DemandCurve<'a> {
    pub system: &'a str,
    /// Index of the system.
    pub series: usize,
    /// The setting by its path: `system.cpus`.
    pub path: &'a str,
    /// The other settings of its load points: `size=1KiB`; empty where there are none.
    pub rest: String,
    /// By ascending value where all are numbers or sizes, else as they were first tried.
    pub points: Vec<DemandPoint<'a>>,
}

/// What it holds at one value.
#[derive(Debug, Clone, PartialEq)]
pub struct DemandPoint<'a> {
    /// As typed.
    pub value: &'a str,
    /// Messages a second that keep the limits; over several searches the median.
    pub lower: Option<f64>,
    /// The lowest rate that breaks one; over several searches the highest. None where none was
    /// found, or where the generator is the limit.
    pub upper: Option<f64>,
    /// Whether its search came to an end: what one under way has passed once is no promise.
    pub ended: bool,
}

impl DemandCurve<'_> {
    /// The last key of its path: `cpus`.
    pub fn setting(&self) -> &str {
        self.path.rsplit('.').next().unwrap_or(self.path)
    }
}

impl DemandPoint<'_> {
    /// `61.2k to 64k messages a second`, as far as it is known.
    pub fn words(&self) -> String {
        let bare = |v: f64| Rate(v).to_string().trim_end_matches("/s").to_owned();
        let words = match (self.lower, self.upper) {
            (Some(l), Some(u)) => format!("{} to {} messages a second", bare(l), bare(u)),
            (Some(l), None) => format!("at least {} messages a second", bare(l)),
            (None, Some(u)) => format!("less than {} messages a second", bare(u)),
            (None, None) => "a rate that is not known".into(),
        };
        if self.ended { words } else { format!("{words} so far") }
    }
}

/// The settings of a search's load point, without what it varies.
pub fn point_of<'r>(record: &'r Record, result: &SearchResult) -> Vec<&'r (String, String)> {
    let first = result.trials.first().and_then(|t| record.plan.cases.iter().find(|c| c.id == t.case));
    let varied = match record.plan.search.as_ref().map(|s| &s.parameter) {
        Some(Parameter::Listed { path, .. }) => path,
        _ => RATE,
    };
    first.iter().flat_map(|c| &c.point).filter(|(path, _)| path != varied).collect()
}

/// A curve for each system and setting that has two values or more; none of a search over anything
/// but the rate.
pub fn curves(record: &Record) -> Vec<DemandCurve<'_>> {
    let by_rate = |s: &SearchPlan| matches!(s.parameter, Parameter::Rate { .. });
    if !record.plan.search.as_ref().is_some_and(by_rate) {
        return Vec::new();
    }
    let mut list: Vec<DemandCurve<'_>> = Vec::new();
    for result in record.searches.iter().filter(|s| s.number == 1) {
        let Some(system) = record.plan.systems.get(result.system) else { continue };
        let point = point_of(record, result);
        for (path, value) in &point {
            let others = point.iter().filter(|other| other.0 != *path);
            let rest: Vec<String> =
                others.map(|o| format!("{}={}", o.0.rsplit('.').next().unwrap_or(&o.0), o.1)).collect();
            let rest = rest.join(" ");
            let at = at(record, result, value);
            let same = |c: &&mut DemandCurve<'_>| c.series == result.system && c.path == path && c.rest == rest;
            match list.iter_mut().find(same) {
                Some(there) => there.points.push(at),
                None => {
                    list.push(DemandCurve { system: &system.name, series: result.system, path, rest, points: vec![at] })
                }
            }
        }
    }
    list.retain(|c| c.points.len() > 1);
    for curve in &mut list {
        if curve.points.iter().all(|p| number(p).is_some()) {
            curve.points.sort_by(|a, b| number(a).partial_cmp(&number(b)).unwrap_or(Ordering::Equal));
        }
    }
    list
}

/// A number, or a size.
fn number(point: &DemandPoint<'_>) -> Option<f64> {
    let size = || point.value.parse::<Bytes>().ok().map(|b| b.0 as f64);
    point.value.parse().ok().or_else(size)
}

fn at<'r>(record: &Record, result: &SearchResult, value: &'r str) -> DemandPoint<'r> {
    let all = record.searches.iter().filter(|s| s.case == result.case);
    let found: Vec<_> = all.filter(|s| s.bracket.ending == Ending::Found).collect();
    if found.len() > 1 {
        let lower = crate::stats::median(&capacity::found_lower(record, &result.case));
        let upper = found.iter().filter_map(|s| s.bracket.upper).max_by(f64::total_cmp);
        return DemandPoint { value, lower, upper, ended: true };
    }
    // The first one, unless another one knows more.
    let one = found.first().copied().unwrap_or(result);
    let ended = one.bracket.ending.ended() && one.broken.is_none();
    DemandPoint { value, lower: one.bracket.lower, upper: one.bracket.breaks(), ended }
}

/// The answer where one setting is swept: `99 of 100 within 20 ms: nats holds 61.2k to 64k messages
/// a second at cpus = 0.5, 120k to 126k at 1`. None where several are, or none is.
pub fn headline(record: &Record, search: &SearchPlan) -> Option<String> {
    let all = curves(record);
    if all.is_empty() || all.iter().any(|c| !c.rest.is_empty()) {
        return None;
    }
    let unit = " messages a second";
    let one = |c: &DemandCurve<'_>| {
        let each = c.points.iter().enumerate().map(|(i, p)| match i {
            0 => format!("{} at {} = {}", p.words(), c.setting(), p.value),
            _ => format!("{} at {}", p.words().replacen(unit, "", 1), p.value),
        });
        format!("{} holds {}", c.system, each.collect::<Vec<_>>().join(", "))
    };
    let each: Vec<String> = all.iter().map(one).collect();
    Some(format!("{}: {}.", capacity::capitalised(&capacity::limits(search)), each.join("; ")))
}

/// What is needed of each setting for a rate: `nats needs cpus = 2 for 100k/s, where it holds 120k
/// to 126k messages a second; at 1 it holds 61.2k to 64k messages a second`.
pub fn needs(record: &Record, need: Rate) -> Vec<String> {
    curves(record).iter().map(|c| need_of(c, need)).collect()
}

fn need_of(curve: &DemandCurve<'_>, need: Rate) -> String {
    let DemandCurve { system, points, rest, .. } = curve;
    let setting = curve.setting();
    let with = if rest.is_empty() { String::new() } else { format!(" ({rest})") };
    let holds = |p: &DemandPoint<'_>| p.ended && p.lower.is_some_and(|l| l >= need.0);
    // The need lies within what the search found, or above what it could try, or it did not end.
    let open = |p: &&DemandPoint<'_>| !holds(p) && (!p.ended || p.upper.is_none_or(|u| u > need.0));
    let Some(first) = points.iter().position(holds) else {
        let most = points
            .iter()
            .filter(|p| p.lower.is_some())
            .max_by(|a, b| a.lower.unwrap_or_default().total_cmp(&b.lower.unwrap_or_default()));
        let best = most.map_or_else(String::new, |p| format!("; the most is {}, at {}", p.words(), p.value));
        let value = |p: &DemandPoint<'_>| format!("{}{}", p.value, if p.ended { "" } else { " (search not ended)" });
        let open: Vec<String> = points.iter().filter(open).map(value).collect();
        let open = match open.is_empty() {
            true => String::new(),
            false => format!("; at {} it is not decided", open.join(", ")),
        };
        return format!("{system}{with} holds {need} for sure at no {setting} that was tried{best}{open}");
    };
    let found = &points[first];
    let mut out = format!("{system}{with} needs {setting} = {} for {need}", found.value);
    let before: Vec<String> = match points[..first].last() {
        None => vec![format!("the smallest that was tried, which holds {}", found.words())],
        Some(less) if open(&less) => vec![
            format!("where it holds {}", found.words()),
            format!(
                "whether {} is enough is not decided ({}{})",
                less.value,
                less.words(),
                if less.ended { "" } else { "; the search has not ended" }
            ),
        ],
        Some(less) => {
            vec![format!("where it holds {}", found.words()), format!("at {} it holds {}", less.value, less.words())]
        }
    };
    out.push_str(&format!(", {}", before.join("; ")));
    out
}

#[cfg(test)]
pub(in crate::report) mod tests {
    use super::*;
    use crate::plan::gate::Share;
    use crate::plan::search::{Bracket, Purpose, Search, Vote};
    use crate::record::{SearchTrial, sample};

    /// Searches of one system over values of `system.cpus`; the system holds so many messages a
    /// second at each, and a trial fails above that.
    pub(in crate::report) fn swept(holds: &[(&str, f64)], need: Option<f64>) -> Record {
        let mut record = sample::record();
        let plan = SearchPlan {
            limits: Vec::new(),
            parameter: Parameter::Rate { min: Rate(100.0), max: Rate(10e6), start: Rate(1e3) },
            width: Share(0.05),
            confidence: 0.95,
            lead: 3,
            most_trials: 100,
            searches: 1,
            need: need.map(Rate),
        };
        let base = record.plan.cases[0].clone();
        (record.plan.cases, record.trials) = (Vec::new(), Vec::new());
        record.plan.systems.truncate(1);
        for (value, most) in holds {
            let mut search = Search::new(plan.ladder(), plan.rules());
            let mut trials = Vec::new();
            while let Some(probe) = search.next() {
                let vote = if probe.load <= *most { Vote::Pass } else { Vote::Fail };
                search.count(vote);
                let mut case = base.clone();
                case.id = format!("reference-cpus-{value}-{}", probe.load);
                case.point = vec![("system.cpus".into(), (*value).into()), (RATE.into(), Rate(probe.load).to_string())];
                trials.push(SearchTrial {
                    case: case.id.clone(),
                    round: 1,
                    load: probe.load,
                    purpose: Purpose::Climb,
                    vote,
                    broken: Vec::new(),
                    why: String::new(),
                });
                if !record.plan.cases.iter().any(|c| c.id == case.id) {
                    record.plan.cases.push(case);
                }
            }
            record.searches.push(SearchResult {
                case: format!("reference-cpus-{value}"),
                system: 0,
                number: 1,
                bracket: search.bracket(),
                trials,
                votes: search.tallies(),
                broken: None,
            });
        }
        record.plan.search = Some(plan);
        record
    }

    #[test]
    fn a_curve_has_the_capacity_at_each_value_in_order() {
        let record = swept(&[("2", 200e3), ("0.5", 50e3), ("1", 100e3)], None);
        let [curve] = &curves(&record)[..] else { panic!("one curve") };
        assert_eq!((curve.system, curve.setting()), ("reference", "cpus"));
        let values: Vec<&str> = curve.points.iter().map(|p| p.value).collect();
        assert_eq!(values, ["0.5", "1", "2"]);
        for (point, most) in curve.points.iter().zip([50e3, 100e3, 200e3]) {
            let (lower, upper) = (point.lower.unwrap(), point.upper.unwrap());
            assert!(lower <= most && most < upper && upper <= lower * 1.0501, "{point:?}");
        }
        assert_eq!(curves(&swept(&[("1", 50e3)], None)), [], "one value is no curve");
        let sizes = swept(&[("1KiB", 50e3), ("128B", 90e3)], None);
        assert_eq!(curves(&sizes)[0].points[0].value, "128B");
    }

    #[test]
    fn the_headline_names_each_value_once() {
        let record = swept(&[("1", 100e3), ("2", 200e3)], None);
        let words = headline(&record, record.plan.search.as_ref().unwrap()).unwrap();
        assert_eq!(words.matches("messages a second at cpus = 1, ").count(), 1, "{words}");
        assert!(words.contains(": reference holds ") && words.ends_with(" at 2."), "{words}");
        let one = swept(&[("1", 100e3)], None);
        assert_eq!(headline(&one, one.plan.search.as_ref().unwrap()), None);
    }

    #[test]
    fn the_smallest_value_that_holds_what_is_needed_is_named() {
        let record = swept(&[("0.5", 50e3), ("1", 101e3), ("2", 200e3)], None);
        let said = |need: f64| needs(&record, Rate(need)).join(" ");
        let words = said(90e3);
        assert!(words.starts_with("reference needs cpus = 1 for 90k/s, where it holds "), "{words}");
        assert!(words.contains("; at 0.5 it holds ") && words.ends_with(" messages a second"), "{words}");
        let words = said(10e3);
        assert!(words.contains("cpus = 0.5 for 10k/s, the smallest that was tried"), "{words}");
        let words = said(1e6);
        assert!(words.contains("holds 1M/s for sure at no cpus that was tried; the most is "), "{words}");
        assert!(words.ends_with(", at 2"), "{words}");
    }

    #[test]
    fn what_the_search_left_open_is_not_said_to_be_too_little() {
        let mut record = swept(&[("1", 50e3), ("2", 200e3)], None);
        record.searches[0].bracket = Bracket { lower: Some(50e3), upper: Some(52e3), ending: Ending::GeneratorLimited };
        let words = needs(&record, Rate(90e3)).join(" ");
        assert!(words.contains("cpus = 2 for 90k/s"), "{words}");
        assert!(words.contains("whether 1 is enough is not decided (at least 50k messages a second)"), "{words}");
    }

    /// On the way up a load is passed by after one trial.
    #[test]
    fn what_a_search_that_has_not_ended_has_passed_is_no_promise() {
        for ending in [Ending::OutOfTrials, Ending::Unfinished] {
            let mut record = swept(&[("1", 50e3), ("2", 200e3)], None);
            record.searches[0].bracket = Bracket { lower: Some(128e3), upper: None, ending };
            let words = needs(&record, Rate(100e3)).join(" ");
            assert!(words.starts_with("reference needs cpus = 2 for 100k/s"), "{words}");
            let open =
                "whether 1 is enough is not decided (at least 128k messages a second so far; the search has not ended)";
            assert!(words.contains(open), "{words}");
            let words = needs(&record, Rate(1e6)).join(" ");
            assert!(words.ends_with("; at 1 (search not ended) it is not decided"), "{words}");
            let words = headline(&record, record.plan.search.as_ref().unwrap()).unwrap();
            assert!(words.contains("at least 128k messages a second so far at cpus = 1"), "{words}");
        }
        let mut record = swept(&[("1", 50e3), ("2", 200e3)], None);
        record.searches[0].broken = Some("it fell".into());
        assert!(needs(&record, Rate(10e3)).join(" ").starts_with("reference needs cpus = 2 for 10k/s"));
    }
}
