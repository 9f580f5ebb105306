//! What a search for the highest load has found, in words.

use crate::plan::gate::{Comparator, Expectation};
use crate::plan::metric::{Quantity, Statistic};
use crate::plan::search::{Ending, Parameter, Purpose, SearchPlan, Vote};
use crate::record::{RESPONSES, Record, SearchResult, SearchTrial};
use crate::report::words::view::TextTable;
use crate::units::{plural, time_words};

const NOTHING_LOST: &str = "nothing lost";

/// `99 of 100`, `999 of 1,000`.
pub fn share(quantile: f64) -> String {
    match (quantile * 1e5).round() / 1e3 {
        s if (s * 10.0).fract() != 0.0 => format!("{} of 10,000", (s * 100.0).round()),
        s if s.fract() != 0.0 => format!("{} of 1,000", (s * 10.0).round()),
        s => format!("{s} of 100"),
    }
}

/// `99 of 100 within 20 ms`, `nothing lost`, or the limit as typed.
fn limit(limit: &Expectation) -> String {
    let at_most = matches!(limit.comparator, Comparator::Less | Comparator::AtMost);
    match &limit.metric.quantity {
        Quantity::Latency(kind, Statistic::Quantile(q)) if at_most && RESPONSES.contains(&kind.as_str()) => {
            let of = share(*q);
            let answered = match kind.as_str() {
                "rtt" => " answered",
                "ack" => " confirmed",
                _ => "",
            };
            format!("{of}{answered} within {}", time_words(limit.limit as u64))
        }
        Quantity::Ledger(field) if field == "lost" && at_most_zero(limit) => NOTHING_LOST.into(),
        _ => limit.that.clone(),
    }
}

fn at_most_zero(limit: &Expectation) -> bool {
    limit.limit == 0.0 && matches!(limit.comparator, Comparator::Equal | Comparator::AtMost)
}

/// All limits of a search: `99 of 100 within 20 ms and nothing lost`.
pub fn limits(search: &SearchPlan) -> String {
    let all: Vec<String> = search.limits.iter().map(limit).collect();
    all.join(" and ")
}

/// The system of a search; where it was searched at several load points, the case.
pub fn name<'r>(record: &'r Record, result: &'r SearchResult) -> &'r str {
    let of_system = record.searches.iter().filter(|s| s.system == result.system && s.number == result.number).count();
    match record.plan.systems.get(result.system) {
        Some(system) if of_system == 1 => &system.name,
        _ => &result.case,
    }
}

/// What is varied, in the plural: `messages/s`, or the setting.
fn of_what(search: &SearchPlan) -> String {
    match &search.parameter {
        Parameter::Rate { .. } => String::new(),
        Parameter::Listed { path, .. } => {
            format!("{} = ", path.rsplit('.').next().unwrap_or(path))
        }
    }
}

/// `holds 99 of 100 within 20 ms`, `loses nothing`.
fn holds(search: &SearchPlan) -> String {
    match &search.limits[..] {
        [only] if limit(only) == NOTHING_LOST => "loses nothing".into(),
        _ => format!("holds {}", limits(search)),
    }
}

/// `up to 61.2k to 64k messages a second`: the two ends of an answer.
fn up_to(search: &SearchPlan, lower: f64, upper: f64) -> String {
    let bare = |load: f64| search.shown(load).trim_end_matches("/s").to_owned();
    match &search.parameter {
        Parameter::Rate { .. } => format!("up to {} to {} messages a second", bare(lower), bare(upper)),
        Parameter::Listed { .. } => {
            format!("up to {}{} ({} is too much)", of_what(search), bare(lower), bare(upper))
        }
    }
}

/// What one search has found: `nats holds 99 of 100 within 20 ms up to 61.2k to 64k messages a
/// second`.
pub fn found(record: &Record, search: &SearchPlan, result: &SearchResult) -> String {
    let (name, what) = (name(record, result), holds(search));
    said(search, result, name, &what)
}

/// `nats holds up to ...`, where the limits are said beside it.
fn found_alone(record: &Record, search: &SearchPlan, result: &SearchResult) -> String {
    said(search, result, name(record, result), "holds")
}

/// An answer; `what` is the verb, with the limits or without.
fn said(search: &SearchPlan, result: &SearchResult, name: &str, what: &str) -> String {
    if let Some(error) = &result.broken {
        return format!("{name} failed: {error}");
    }
    let at = |load: f64| format!("{}{}", of_what(search), search.shown(load));
    let shown = |load: Option<f64>| load.map(at).unwrap_or_default();
    let bracket = result.bracket;
    // What older results call an end of the ladder may have stayed undecided there.
    let least = tried(result, f64::min).unwrap_or(f64::INFINITY);
    let most = tried(result, f64::max).unwrap_or(0.0);
    match (bracket.ending, bracket.lower) {
        (Ending::Found, _) => {
            let (lower, upper) = (bracket.lower.unwrap_or_default(), bracket.upper.unwrap_or_default());
            format!("{name} {what} {}", up_to(search, lower, upper))
        }
        (Ending::AboveMax | Ending::Undecided, Some(load)) if load < most => format!(
            "{name} {what} up to {} at least; at {}, the most that was tried, it stayed undecided",
            at(load),
            at(most)
        ),
        (Ending::AboveMax, _) | (Ending::Undecided, Some(_)) => {
            format!("{name} {what} even at {}, the most that was tried", shown(bracket.lower))
        }
        (Ending::BelowMin | Ending::Undecided, _) => match bracket.upper {
            Some(load) if load > least => format!(
                "{name} breaks a limit at {}; at {}, the least that was tried, it stayed undecided",
                at(load),
                at(least)
            ),
            Some(_) => format!("{name} breaks a limit even at {}, the least that was tried", shown(bracket.upper)),
            None => format!("{name} {what} at no load for sure of those that were tried"),
        },
        (Ending::GeneratorLimited, Some(load)) => format!(
            "{name} {what} up to {} at least; above that the generator is the limit, so nothing is known of {name}",
            at(load)
        ),
        (Ending::GeneratorLimited, None) => {
            format!("of {name} nothing is known: the generator, or this host, is the limit at every load")
        }
        (Ending::OutOfTrials | Ending::Unfinished, _) => {
            let n = plural(result.trials.len() as u64, "trial");
            let n = if bracket.ending == Ending::Unfinished { format!("{n} of an unfinished search") } else { n };
            match (bracket.lower, bracket.upper) {
                (Some(l), Some(u)) => format!("{name} {what} {}, as far as {n} tell", up_to(search, l, u)),
                (Some(l), None) => format!("{name} {what} up to {} at least, as far as {n} tell", at(l)),
                (None, Some(u)) => format!("{name} breaks a limit at {}, as far as {n} tell", at(u)),
                (None, None) => format!("of {name} nothing is known after {n}"),
            }
        }
    }
}

/// The lowest, or the highest, load that was tried.
fn tried(result: &SearchResult, of: fn(f64, f64) -> f64) -> Option<f64> {
    result.trials.iter().filter(|t| t.purpose != Purpose::WarmUp).map(|t| t.load).reduce(of)
}

/// The searches of the first number: one for each system and load point.
fn first(record: &Record) -> impl Iterator<Item = &SearchResult> {
    record.searches.iter().filter(|s| s.number == 1)
}

/// The answer: `nats holds 99 of 100 within 20 ms up to 61.2k to 64k messages a second`; of several
/// systems the limits stand first.
pub fn headline(record: &Record, search: &SearchPlan) -> String {
    let all: Vec<&SearchResult> = first(record).collect();
    match &all[..] {
        [] => "No search was made.".into(),
        [one] => format!("{}.", across(record, search, one)),
        _ => {
            let each: Vec<String> = all.iter().map(|s| across_alone(record, search, s)).collect();
            format!("{}: {}.", capitalised(&limits(search)), each.join("; "))
        }
    }
}

pub fn capitalised(text: &str) -> String {
    let mut chars = text.chars();
    chars.next().map_or_else(String::new, |c| c.to_uppercase().chain(chars).collect())
}

/// What all searches of a case have found: of several the median, and from where to where they
/// lie.
pub fn across(record: &Record, search: &SearchPlan, one: &SearchResult) -> String {
    let holds = holds(search);
    several(record, search, one, &holds).unwrap_or_else(|| found(record, search, one))
}

fn across_alone(record: &Record, search: &SearchPlan, one: &SearchResult) -> String {
    several(record, search, one, "holds").unwrap_or_else(|| found_alone(record, search, one))
}

fn several(record: &Record, search: &SearchPlan, one: &SearchResult, what: &str) -> Option<String> {
    let lower = found_lower(record, &one.case);
    let all: Vec<&SearchResult> = record.searches.iter().filter(|s| s.case == one.case).collect();
    if all.len() < 2 {
        return None;
    }
    let name = name(record, one);
    if lower.len() < 2 {
        // None has a median: one of them speaks, the one that found it where there is one.
        let speaks = all.iter().find(|s| is_found(s)).copied().unwrap_or(one);
        let others = otherwise(all.iter().filter(|s| s.number != speaks.number).copied());
        let said = said(search, speaks, name, what);
        return Some(format!("{said} (search {} of {}; the others: {others})", speaks.number, all.len()));
    }
    let ends = lower.iter().fold((f64::INFINITY, 0.0f64), |(l, h), v| (l.min(*v), h.max(*v)));
    let middle = search.shown(crate::stats::median(&lower)?);
    let (least, most) = (search.shown(ends.0), search.shown(ends.1));
    let of = of_what(search);
    let (n, rest) = match (lower.len(), all.len() - lower.len()) {
        (n, 0) => (n.to_string(), String::new()),
        (n, rest) => {
            let how = otherwise(all.iter().filter(|s| !is_found(s)).copied());
            (format!("{n} of {}", all.len()), format!("; {rest} ended otherwise: {how}"))
        }
    };
    Some(format!("{name} {what} up to {of}{middle} (median of {n} searches, {least} to {most}{rest})"))
}

fn is_found(result: &SearchResult) -> bool {
    result.bracket.ending == Ending::Found
}

/// How searches ended: `2 out of trials, 1 stopped by the generator`.
fn otherwise<'r>(of: impl Iterator<Item = &'r SearchResult>) -> String {
    let mut list: Vec<(&str, usize)> = Vec::new();
    for result in of {
        let how = match result.bracket.ending {
            _ if result.broken.is_some() => "broken off as the system failed",
            Ending::Found => "ended at two loads",
            Ending::AboveMax => "kept the limits at every load",
            Ending::BelowMin => "broke one at every load",
            Ending::GeneratorLimited => "stopped by the generator",
            Ending::Undecided => "undecided at an end",
            Ending::OutOfTrials => "out of trials",
            Ending::Unfinished => "not finished",
        };
        match list.iter_mut().find(|(known, _)| *known == how) {
            Some((_, n)) => *n += 1,
            None => list.push((how, 1)),
        }
    }
    list.iter().map(|(how, n)| format!("{n} {how}")).collect::<Vec<_>>().join(", ")
}

/// The loads that the searches of a case have found to keep the limits.
pub fn found_lower(record: &Record, case: &str) -> Vec<f64> {
    let of = record.searches.iter().filter(|s| s.case == case && is_found(s));
    of.filter_map(|s| s.bracket.lower).collect()
}

/// What stands beside the answer: trials, what binds, what was passed above it, what did not count.
pub fn remarks(record: &Record, search: &SearchPlan) -> Vec<String> {
    let mut out = Vec::new();
    for result in first(record) {
        let name = name(record, result);
        let mut parts = Vec::new();
        let breaks = result.bracket.breaks();
        if let Some((upper, binding)) = breaks.and_then(|u| Some((search.shown(u), result.binding()?))) {
            let what = match binding.and_then(|i| search.limits.get(i)) {
                Some(limit) => format!("`{}` is what breaks at {upper}", limit.that),
                None => format!("at {upper} it does not keep up"),
            };
            parts.push(match load_at(record, result) {
                Some(cpu) => format!("{what}; the broker then uses {cpu}"),
                None => what,
            });
        }
        let inversions = breaks.map_or_else(Vec::new, |_| result.inversions());
        let inversions: Vec<String> = inversions.into_iter().map(|l| search.shown(l)).collect();
        if !inversions.is_empty() {
            parts.push(format!("it passed trials at {} as well: the limit is not one load", inversions.join(", ")));
        }
        let spoiled = result.spoiled();
        if spoiled > 0 {
            parts.push(format!("{} did not count, as host or generator spoiled them", plural(spoiled as u64, "trial")));
        }
        let n = plural(result.trials.len() as u64, "trial");
        parts.insert(0, n);
        out.push(format!("{name}: {}.", parts.join("; ")));
    }
    out
}

/// CPU of the broker at the load that breaks a limit, in cores.
fn load_at(record: &Record, result: &SearchResult) -> Option<String> {
    let upper = result.bracket.breaks()?;
    let at: Vec<f64> = result
        .trials
        .iter()
        .filter(|t| t.load == upper)
        .filter_map(|t| {
            let trial = record.trials.iter().find(|x| x.case == t.case && x.round == t.round)?;
            let seconds = trial.measured_ns as f64 / 1e9;
            Some(trial.broker.as_ref()?.cpu_seconds / seconds.max(1e-9))
        })
        .collect();
    let cores = crate::stats::median(&at)?;
    Some(format!("{:.2} of {} cores", cores, record.host.cpus))
}

/// What a trial came to, for the progress: `nats at 32k/s: p99 3.1 ms, lost 0: keeps the limits;
/// the limit is above 32k/s`. `figures` are those of the trial.
pub fn step(result: &SearchResult, last: &SearchTrial, search: &SearchPlan, figures: &str) -> String {
    let load = search.shown(last.load);
    let what = match (last.purpose, last.vote) {
        (Purpose::WarmUp, _) => "a warm-up, which does not count".into(),
        (_, Vote::Pass) => "keeps the limits".into(),
        (_, Vote::Fail) => last.why.clone(),
        (_, Vote::Undecided) => format!("{}: tried again, longer", last.why),
        (_, Vote::Spoiled) => format!("does not count: {}", last.why),
    };
    let bracket = match (result.bracket.lower, result.bracket.breaks()) {
        (Some(l), Some(u)) => format!("; the limit is between {} and {}", search.shown(l), search.shown(u)),
        (Some(l), None) => format!("; the limit is above {}", search.shown(l)),
        (None, Some(u)) => format!("; the limit is below {}", search.shown(u)),
        (None, None) => String::new(),
    };
    format!("{} at {load}: {figures}: {what}{bracket}", result.case)
}

/// The first search that tried a case.
pub fn search_of<'r>(record: &'r Record, case: &str) -> Option<&'r SearchResult> {
    record.searches.iter().find(|s| s.trials.iter().any(|t| t.case == case))
}

/// The two loads that enclose the limit, for each side of an answer: `holds`, `does not hold`.
pub fn loads(record: &Record, search: &SearchPlan, case: &str) -> (Option<String>, Option<String>) {
    let of = search_of(record, case);
    let shown = |load: Option<f64>| load.map(|l| search.shown(l));
    of.map_or((None, None), |s| (shown(s.bracket.lower), shown(s.bracket.breaks())))
}

/// What was varied, and how the answer was come by.
pub fn method(search: &SearchPlan) -> String {
    let what = match &search.parameter {
        Parameter::Rate { min, max, .. } => format!("The rate, from {min} to {max}"),
        Parameter::Listed { path, values } => format!("{path}, over {}", values.join(", ")),
    };
    format!(
        "{what}, was doubled and then bisected until two loads at most {} apart were left; these were tried again by turns, each time on a \
         fresh system, until passes or failures led by {}. A trial passes when each limit is kept with {:.0} % confidence and no backlog \
         grows ({}).",
        search.width,
        plural(u64::from(search.lead), "trial"),
        100.0 * search.confidence,
        search.limits.iter().map(|l| format!("`{}`", l.that)).collect::<Vec<_>>().join(", ")
    )
}

/// The votes of all searches, by load.
pub fn table(record: &Record, search: &SearchPlan) -> TextTable {
    let caption = "How many trials at each load kept all limits; at the two loads that are left only those of the confirmation count";
    let mut table = TextTable::new(caption, &["system", ">load", ">kept", ">broke", ">undecided", "first that broke"]);
    for result in &record.searches {
        let several = record.searches.iter().any(|s| s.number > 1);
        let name = match several {
            true => format!("{}, search {}", name(record, result), result.number),
            false => name(record, result).to_owned(),
        };
        for (load, tally) in &result.votes {
            let why = result.trials.iter().find(|t| t.load == *load && t.vote == Vote::Fail).map_or("", |t| &t.why);
            table.rows.push(vec![
                name.clone(),
                search.shown(*load),
                tally.passed.to_string(),
                tally.failed.to_string(),
                tally.undecided.to_string(),
                why.to_owned(),
            ]);
        }
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::search::Bracket;
    use crate::report::words::demand::tests::swept;
    use crate::units::Rate;

    /// One system, searched once.
    fn one(bracket: Bracket) -> Record {
        let mut record = swept(&[("1", 50e3)], None);
        record.searches[0].bracket = bracket;
        record
    }

    fn says(record: &Record) -> String {
        headline(record, record.plan.search.as_ref().unwrap())
    }

    /// Where only the generator stopped, nothing on any page is said to break.
    #[test]
    fn what_the_generator_cannot_offer_breaks_no_limit() {
        let shows = |ending| {
            let mut record = swept(&[("1", 50e3)], None);
            record.searches[0].bracket.ending = ending;
            let upper = record.searches[0].bracket.upper.map(|u| Rate(u).to_string()).unwrap();
            let search = record.plan.search.as_ref().unwrap();
            let case = record.searches[0].trials.last().unwrap().case.clone();
            let outcome = crate::report::export::summary::of_run(&record, &[], 0, None);
            let capacity = &outcome.summary.capacity[0];
            assert_eq!(capacity.upper.is_some(), capacity.breaks.is_some());
            let all = [loads(&record, search, &case).1, capacity.breaks.clone(), capacity.binding.clone()];
            let remarks = remarks(&record, search).join(" ");
            all.map(|of| of.is_some()).into_iter().chain([remarks.contains(&upper)]).collect::<Vec<_>>()
        };
        assert_eq!(shows(Ending::Found), [true; 4]);
        assert_eq!(shows(Ending::GeneratorLimited), [false; 4]);
    }

    #[test]
    fn an_end_that_was_tried_and_not_kept_is_named() {
        let mut record = one(Bracket { lower: Some(40e3), upper: None, ending: Ending::Undecided });
        let most = record.searches[0].trials.iter().map(|t| t.load).fold(0.0, f64::max);
        let most = Rate(most);
        let words = format!("up to 40k/s at least; at {most}, the most that was tried, it stayed undecided.");
        // As it was called before.
        for ending in [Ending::Undecided, Ending::AboveMax] {
            record.searches[0].bracket.ending = ending;
            assert!(says(&record).ends_with(&words), "{}", says(&record));
        }
        record.searches[0].bracket.lower = Some(most.0);
        assert!(says(&record).ends_with(&format!("even at {most}, the most that was tried.")), "{}", says(&record));
        let least = record.searches[0].trials.iter().map(|t| t.load).fold(f64::INFINITY, f64::min);
        for ending in [Ending::Undecided, Ending::BelowMin] {
            record.searches[0].bracket = Bracket { lower: None, upper: Some(2.0 * least), ending };
            let words = format!("; at {}, the least that was tried, it stayed undecided.", Rate(least));
            assert!(says(&record).ends_with(&words), "{}", says(&record));
        }
        record.searches[0].bracket = Bracket { lower: Some(40e3), upper: None, ending: Ending::Unfinished };
        assert!(says(&record).contains(" trials of an unfinished search tell"), "{}", says(&record));
    }

    #[test]
    fn a_median_says_how_many_searches_it_is_not_of() {
        let endings = |endings: [Ending; 5]| {
            let mut record = one(Bracket { lower: Some(50e3), upper: Some(52e3), ending: endings[0] });
            let first = record.searches[0].clone();
            for (i, ending) in endings.into_iter().enumerate().skip(1) {
                let mut another = first.clone();
                (another.number, another.bracket.ending) = (i as u32 + 1, ending);
                record.searches.push(another);
            }
            says(&record)
        };
        let all = endings([Ending::Found; 5]);
        assert!(all.ends_with("up to 50k/s (median of 5 searches, 50k/s to 50k/s)."), "{all}");
        let (out, limited) = (Ending::OutOfTrials, Ending::GeneratorLimited);
        let two = endings([Ending::Found, out, Ending::Found, limited, out]);
        let rest = "(median of 2 of 5 searches, 50k/s to 50k/s; 3 ended otherwise: 2 out of trials, 1 stopped by the generator).";
        assert!(two.ends_with(rest), "{two}");
        let one = endings([out, out, Ending::Found, limited, limited]);
        let rest = "up to 50k to 52k messages a second (search 3 of 5; the others: 2 out of trials, 2 stopped by the generator).";
        assert!(one.ends_with(rest), "{one}");
        let none = endings([out; 5]);
        assert!(none.ends_with(" trials tell (search 1 of 5; the others: 4 out of trials)."), "{none}");
    }
}
