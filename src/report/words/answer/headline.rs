//! The answer in one sentence.

use super::AnswerContext;
use super::side::{AnswerSide, Measured};
use crate::compare::{ComparisonRow, Verdict};
use crate::record::SAME_AGENT;
use crate::units::three_digits;

/// With more than so many systems between the second and the last, these are counted and not named.
const MOST_BETWEEN: usize = 2;

/// `nats delivers a message in 145 µs, jetstream in 0.49 ms, 3.4 times slower.`
pub(super) fn headline(context: &AnswerContext<'_>) -> String {
    let mut sides: Vec<&AnswerSide<'_>> = context.sides.iter().filter(|s| s.typical.is_some()).collect();
    // Better first; an infinite time is the worst.
    sides.sort_by(|x, y| {
        let value = |s: &AnswerSide<'_>| s.typical.as_ref().map_or(f64::INFINITY, |f| f.value);
        match x.typical.as_ref().map(|f| f.measured) {
            Some(Measured::Rate) => value(y).total_cmp(&value(x)),
            _ => value(x).total_cmp(&value(y)),
        }
    });
    let Some((first, rest)) = sides.split_first() else { return nothing(context) };
    let mut text = first_words(first);
    if rest.is_empty() {
        text.push_str(&tail_words(first, context.tail));
        return text + ".";
    }
    // The first of the slower ones says than which; the others are read the same way.
    let mut said = rest.len() == 1;
    let each: Vec<String> = rest
        .iter()
        .map(|s| {
            let words = other_words(context, first, s, rest.len() == 1);
            if said || !words.ends_with(" slower") && !words.ends_with(" less") {
                return words;
            }
            said = true;
            let through = if first.plan().service().is_some() { "through " } else { "" };
            format!("{words} than {through}{}", first.name())
        })
        .collect();
    let between = each.len().saturating_sub(2);
    match each.split_last() {
        // Who wants all of them has the bars beneath.
        Some((last, _)) if between > MOST_BETWEEN => {
            text.push_str(&format!(", {}, {between} others in between, and {last}", each[0]));
        }
        Some((last, [])) => text.push_str(&format!(", {last}")),
        Some((last, before)) => text.push_str(&format!(", {}, and {last}", before.join(", "))),
        None => {}
    }
    text + "."
}

/// Whether anything is wrong with all of it.
fn nothing(context: &AnswerContext<'_>) -> String {
    let because = super::invalid_because(context.sides.iter().flat_map(|s| s.all.iter().copied()));
    if context.sides.iter().all(|s| s.failure().is_some()) {
        return match context.sides {
            [one] => format!("{} failed: nothing was measured.", one.name()),
            _ => "All systems failed: nothing was measured.".into(),
        };
    }
    match because.is_empty() {
        true => "No trial counts: there is no answer.".into(),
        false => format!("No trial counts: {}.", because.join(", ")),
    }
}

fn first_words(side: &AnswerSide<'_>) -> String {
    let Some(figure) = &side.typical else { return String::new() };
    let name = side.name();
    if let (Some(target), Measured::Time) = (side.plan().service(), figure.measured) {
        let service = format!("The service at {target}");
        return match figure.value.is_infinite() {
            true => format!("{service} leaves most requests through {name} without answer"),
            false => format!("{service} answers a request through {name} in {}", figure.words()),
        };
    }
    match (figure.measured, side.kind) {
        (Measured::Rate, _) if side.only_sends() => format!("{name} takes {}", figure.words()),
        (Measured::Rate, _) => format!("{name} delivers {}", figure.words()),
        (_, _) if figure.value.is_infinite() => format!("{name} {}", most_never(side)),
        _ if side.plan().connects() => format!("{name} gives a new client its first message in {}", figure.words()),
        (_, kind) if kind.starts_with("rtt") => format!("{name} answers a request in {}", figure.words()),
        (_, kind) if kind.starts_with("ack") => format!("{name} confirms a message in {}", figure.words()),
        (_, SAME_AGENT) => format!("{name} delivers a message from an agent to itself in {}", figure.words()),
        _ => format!("{name} delivers a message in {}", figure.words()),
    }
}

/// What a system does of which most messages have no time.
fn most_never(side: &AnswerSide<'_>) -> &'static str {
    if side.kind.starts_with("ack") { "leaves most messages unconfirmed" } else { "loses most messages" }
}

/// `; 99 of 100 arrive within 0.82 ms`.
fn tail_words(side: &AnswerSide<'_>, quantile: f64) -> String {
    let Some(tail) = &side.tail else { return String::new() };
    let share = format!("{:.0} of 100", quantile * 100.0);
    if tail.value.is_infinite() {
        let never = if side.kind.starts_with("ack") { "are never confirmed" } else { "never arrive" };
        return format!("; more than {} {never}", super::one_in(quantile));
    }
    let verb = match side.kind {
        _ if side.plan().connects() => "get theirs",
        kind if kind.starts_with("rtt") => "come back",
        kind if kind.starts_with("ack") => "are confirmed",
        _ => "arrive",
    };
    let doubt = if tail.doubtful { ", which a few slow spells decide" } else { "" };
    format!("; {share} {verb} within {}{}{doubt}", tail.show(tail.value), tail.clock_words())
}

/// `kafka in 4.1 ms, 28 times slower (24.7 to 31.1)`.
fn other_words(context: &AnswerContext<'_>, first: &AnswerSide<'_>, side: &AnswerSide<'_>, alone: bool) -> String {
    let (Some(best), Some(figure)) = (&first.typical, &side.typical) else { return String::new() };
    let service = side.plan().service().is_some();
    let name = if service { format!("through {}", side.name()) } else { side.name().to_owned() };
    let value = match figure.measured {
        Measured::Rate => figure.words(),
        Measured::Time if figure.value.is_infinite() && service => return format!("{name} most have no answer"),
        Measured::Time if figure.value.is_infinite() => return format!("{name} {}", most_never(side)),
        Measured::Time => format!("in {}", figure.words()),
    };
    let row = context.row(first, side);
    match row.map(|r| (r.verdict, r)) {
        Some((Verdict::Faster | Verdict::Slower, row)) => match times(row, figure.measured, alone) {
            Some(words) => format!("{name} {value}, {words}"),
            None => format!("{name} {value}"),
        },
        Some((Verdict::Same, _)) => format!("{name} {value}, the same"),
        // With so few runs that no interval can be had, ranges that do not touch tell enough; the
        // confidence says the rest.
        Some((Verdict::NotDecided, _)) if apart(best.range, figure.range) => format!("{name} {value}"),
        Some((Verdict::NotDecided, _)) => format!("{name} {value} (not decided which is better)"),
        _ => format!("{name} {value}"),
    }
}

pub(super) fn apart(x: Option<(f64, f64)>, y: Option<(f64, f64)>) -> bool {
    x.zip(y).is_some_and(|(x, y)| x.1 < y.0 || y.1 < x.0)
}

/// `28 times slower (24.7 to 31.1)`, `12 % slower`.
fn times(row: &ComparisonRow, measured: Measured, interval: bool) -> Option<String> {
    let ratio = row.ratio?;
    let turn = |v: f64| if ratio.value >= 1.0 { v } else { 1.0 / v };
    let value = turn(ratio.value);
    if !value.is_finite() {
        return None;
    }
    let word = if measured == Measured::Rate { "less" } else { "slower" };
    let around =
        ratio.ci95.filter(|_| interval).map(|(l, h)| if ratio.value >= 1.0 { (l, h) } else { (turn(h), turn(l)) });
    Some(if value >= 2.0 {
        let around = around.map_or_else(String::new, |(l, h)| format!(" ({} to {})", three_digits(l), three_digits(h)));
        let times = if value < 9.95 { format!("{value:.1}") } else { format!("{value:.0}") };
        format!("{times} times {word}{around}")
    } else {
        // A rate that is 1.25 times less is 20 % less.
        let share = |v: f64| if measured == Measured::Rate { 1.0 - 1.0 / v } else { v - 1.0 };
        let percent = |v: f64| format!("{:.0}", share(v) * 100.0);
        let around = around.map_or_else(String::new, |(l, h)| format!(" ({} to {} %)", percent(l), percent(h)));
        format!("{} % {word}{around}", percent(value))
    })
}
