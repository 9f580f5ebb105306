//! What a search for the highest load has found, in words.

use crate::plan::gate::{Comparator, Expectation};
use crate::plan::metric::{Quantity, Statistic};
use crate::plan::search::{Ending, Parameter, Purpose, SearchPlan, Vote};
use crate::record::{RESPONSES, Record, SearchResult, SearchTrial};
use crate::report::words::view::TextTable;
use crate::units::{plural, time_words};

/// `99 of 100 within 20 ms`, `nothing lost`, or the limit as typed.
fn limit(limit: &Expectation) -> String {
    let at_most = matches!(limit.comparator, Comparator::Less | Comparator::AtMost);
    match &limit.metric.quantity {
        Quantity::Latency(kind, Statistic::Quantile(q)) if at_most && RESPONSES.contains(&kind.as_str()) => {
            let share = (q * 1e5).round() / 1e3;
            let of = match share {
                s if (s * 10.0).fract() != 0.0 => format!("{} of 10,000", (s * 100.0).round()),
                s if s.fract() != 0.0 => format!("{} of 1,000", (s * 10.0).round()),
                s => format!("{s} of 100"),
            };
            let answered = match kind.as_str() {
                "rtt" => " answered",
                "ack" => " confirmed",
                _ => "",
            };
            format!("{of}{answered} within {}", time_words(limit.limit as u64))
        }
        Quantity::Ledger(field) if field == "lost" && at_most_zero(limit) => "nothing lost".into(),
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

fn name<'r>(record: &'r Record, result: &'r SearchResult) -> &'r str {
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

/// What one search has found: `nats holds 61.2k/s (64k/s is too much)`.
fn found(record: &Record, search: &SearchPlan, result: &SearchResult) -> String {
    let name = name(record, result);
    if let Some(error) = &result.broken {
        return format!("{name} failed: {error}");
    }
    let at = |load: f64| format!("{}{}", of_what(search), search.shown(load));
    let shown = |load: Option<f64>| load.map(at).unwrap_or_default();
    let bracket = result.bracket;
    match (bracket.ending, bracket.lower) {
        (Ending::Found, _) => {
            format!("{name} holds {} ({} is too much)", shown(bracket.lower), shown(bracket.upper))
        }
        (Ending::AboveMax, _) => format!("{name} holds even {}, the most that was tried", shown(bracket.lower)),
        (Ending::BelowMin, _) => match bracket.upper {
            Some(_) => format!("{name} does not hold even {}, the least that was tried", shown(bracket.upper)),
            None => format!("{name} holds no load for sure of those that were tried"),
        },
        (Ending::GeneratorLimited, Some(load)) => format!(
            "{name} holds at least {}; above that the generator is the limit, so nothing is known of {name}",
            at(load)
        ),
        (Ending::GeneratorLimited, None) => {
            format!("of {name} nothing is known: the generator, or this host, is the limit at every load")
        }
        (Ending::OutOfTrials, _) => {
            let n = plural(result.trials.len() as u64, "trial");
            match (bracket.lower, bracket.upper) {
                (Some(l), Some(u)) => {
                    format!("{name} holds {} ({} is too much), as far as {n} tell", at(l), at(u))
                }
                (Some(l), None) => format!("{name} holds at least {}, as far as {n} tell", at(l)),
                (None, Some(u)) => format!("{name} does not hold {}, as far as {n} tell", at(u)),
                (None, None) => format!("of {name} nothing is known after {n}"),
            }
        }
    }
}

/// The searches of the first number: one for each system and load point.
fn first(record: &Record) -> impl Iterator<Item = &SearchResult> {
    record.searches.iter().filter(|s| s.number == 1)
}

/// The answer: `99 of 100 within 20 ms: nats holds 61.2k/s (64k/s is too much); kafka ...`.
pub fn headline(record: &Record, search: &SearchPlan) -> String {
    let each: Vec<String> = first(record).map(|s| across(record, search, s)).collect();
    if each.is_empty() {
        return "No search was made.".into();
    }
    format!("{}: {}.", limits(search), each.join("; "))
}

/// What all searches of a case have found: the first, with the range of the others.
fn across(record: &Record, search: &SearchPlan, one: &SearchResult) -> String {
    let all: Vec<&SearchResult> =
        record.searches.iter().filter(|s| s.case == one.case && s.bracket.ending == Ending::Found).collect();
    let lower: Vec<f64> = all.iter().filter_map(|s| s.bracket.lower).collect();
    if all.len() < 2 {
        return found(record, search, one);
    }
    let ends = |values: &[f64]| {
        let least = values.iter().copied().fold(f64::INFINITY, f64::min);
        (search.shown(least), search.shown(values.iter().copied().fold(0.0, f64::max)))
    };
    let (least, most) = ends(&lower);
    let middle = crate::stats::median(&lower).map(|m| search.shown(m)).unwrap_or_default();
    let n = all.len();
    format!("{} holds {}{middle} (median of {n} searches, {least} to {most})", name(record, one), of_what(search))
}

/// What stands beside the answer: trials, what binds, what was passed above it, what did not count.
pub fn remarks(record: &Record, search: &SearchPlan) -> Vec<String> {
    let mut out = Vec::new();
    for result in first(record) {
        let name = name(record, result);
        let mut parts = Vec::new();
        if let Some(binding) = result.binding() {
            let upper = result.bracket.upper.map(|u| search.shown(u)).unwrap_or_default();
            let what = match binding.and_then(|i| search.limits.get(i)) {
                Some(limit) => format!("`{}` is what breaks at {upper}", limit.that),
                None => format!("at {upper} it does not keep up"),
            };
            parts.push(match load_at(record, result) {
                Some(cpu) => format!("{what}; the broker then uses {cpu}"),
                None => what,
            });
        }
        let inversions: Vec<String> = result.inversions().into_iter().map(|l| search.shown(l)).collect();
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
    let upper = result.bracket.upper?;
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
    let bracket = match (result.bracket.lower, result.bracket.upper) {
        (Some(l), Some(u)) => format!("; the limit is between {} and {}", search.shown(l), search.shown(u)),
        (Some(l), None) => format!("; the limit is above {}", search.shown(l)),
        (None, Some(u)) => format!("; the limit is below {}", search.shown(u)),
        (None, None) => String::new(),
    };
    format!("{} at {load}: {figures}: {what}{bracket}", result.case)
}

/// The two loads that enclose the limit, for each side of an answer: `holds`, `does not hold`.
pub fn loads(record: &Record, search: &SearchPlan, case: &str) -> (Option<String>, Option<String>) {
    let of = record.searches.iter().find(|s| s.trials.iter().any(|t| t.case == case));
    let shown = |load: Option<f64>| load.map(|l| search.shown(l));
    of.map_or((None, None), |s| (shown(s.bracket.lower), shown(s.bracket.upper)))
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
