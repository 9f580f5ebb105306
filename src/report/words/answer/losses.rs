//! What became of the messages, and whether that was promised.

use super::AnswerContext;
use super::side::AnswerSide;
use crate::plan::facts::Delivery;
use crate::record::Ledger;
use crate::units::digits;

/// `Neither lost a message (48,043 of 48,043 arrived).`, `nats lost 733,188 of 5,460,288 (at most
/// once: allowed).`
pub(super) fn losses(context: &AnswerContext<'_>) -> String {
    let told: Vec<&AnswerSide<'_>> = context.sides.iter().filter(|s| s.complete().next().is_some()).collect();
    if told.is_empty() {
        return "No trial ran to its end: what became of the messages is not known.".into();
    }
    if told.iter().all(|s| s.only_sends()) {
        return "Nobody receives them and nobody confirms them: what became of the messages is not known.".into();
    }
    if told.iter().any(|s| s.plan().target.is_some()) {
        return told.iter().map(|s| answered(s)).collect::<Vec<_>>().join(" ");
    }
    let ended = context.record.plan.events.iter().any(|e| e.action.ends());
    let mut sentences: Vec<String> = told.iter().filter(|_| ended).filter_map(|s| stored(s)).collect();
    // What was read back says it where nobody has received anything.
    let told: Vec<&AnswerSide<'_>> =
        told.into_iter().filter(|s| !ended || s.plan().delivery.keep.is_none() || s.ledger().expected > 0).collect();
    let (whole, lossy): (Vec<&AnswerSide<'_>>, Vec<&AnswerSide<'_>>) = told.iter().partition(|s| clean(&s.ledger()));
    sentences.extend(lossy.iter().map(|s| lost(s)));
    if !whole.is_empty() {
        sentences.push(nothing_lost(&whole, lossy.is_empty()));
    }
    if told.is_empty() {
        return sentences.join(" ");
    }
    if lossy.is_empty() && whole.iter().all(|s| promise(s) == Some(false)) {
        sentences.push(match whole.len() {
            1 => "It promises nothing of a message that does not arrive (at most once).".into(),
            2 => "Neither promises to keep a message (at most once).".into(),
            _ => "None of them promises to keep a message (at most once).".into(),
        });
    } else if whole.len() + lossy.len() > 1 && told.iter().all(|s| promise(s) == Some(true)) {
        let all = if told.len() == 2 { "Both promise" } else { "All promise" };
        sentences.push(format!("{all} to keep a message once it is acknowledged."));
    }
    sentences.join(" ")
}

/// Of a server that was ended: `kafka lost 597 of 1,653 messages that it had acknowledged (not
/// certain: in a file that is synced later).`, `kafka-synced has all 1,653 messages that it had
/// acknowledged.`
fn stored(side: &AnswerSide<'_>) -> Option<String> {
    side.plan().delivery.keep?;
    let all: Vec<_> = side.complete().map(|w| w.kept.as_ref()).collect();
    let name = side.name();
    if all.contains(&None) {
        return Some(format!("What {name} had stored could not be read in every trial."));
    }
    let (owed, missing) = all.iter().flatten().fold((0, 0), |(owed, missing), k| (owed + k.owed, missing + k.missing));
    let messages = format!("{} messages that it had acknowledged", digits(owed));
    if missing == 0 {
        return Some(format!("{name} has all {messages}."));
    }
    let count = if missing == owed { "all ".to_owned() } else { format!("{} of ", digits(missing)) };
    let verdict = match (kept(side), side.facts()) {
        (false, _) => " (a promise is broken)".to_owned(),
        (true, Some(facts)) => format!(" (after a loss of power: {})", super::facts::power(facts)),
        (true, None) => String::new(),
    };
    Some(format!("{name} lost {count}{messages}{verdict}."))
}

/// `All 48,043 requests through nats were answered once.`, `Of 200 requests through nats 8 had no
/// answer and 16 answers came twice: ...`
fn answered(side: &AnswerSide<'_>) -> String {
    let (l, name) = (side.ledger(), side.name());
    let mut parts = Vec::new();
    if l.lost > 0 {
        parts.push(format!("{} had no answer", digits(l.lost)));
    }
    if l.duplicated > 0 {
        parts.push(format!("{} answers came twice", digits(l.duplicated)));
    }
    let waiting = match l.in_flight {
        0 => String::new(),
        n => format!(" {} were on their way when it ended.", digits(n)),
    };
    let told = match parts.is_empty() {
        true => format!("All {} requests through {name} were answered once.", digits(l.expected)),
        false => format!(
            "Of {} requests through {name} {}: the doing of the service or of {name}, it is not known which.",
            digits(l.expected),
            parts.join(" and ")
        ),
    };
    told + &waiting
}

/// Whether a message that was acknowledged may not get lost; `None` where that is not known.
fn promise(side: &AnswerSide<'_>) -> Option<bool> {
    match side.facts()?.promised.delivery {
        Delivery::AtLeastOnce | Delivery::ExactlyOnce => Some(true),
        Delivery::AtMostOnce | Delivery::Unpromised => Some(false),
        Delivery::Unstated | Delivery::Nothing => None,
    }
}

fn clean(l: &Ledger) -> bool {
    l.lost == 0 && l.duplicated == 0 && l.reordered == 0 && l.corrupted == 0
}

/// Whether every promise that was judged was kept in all trials.
fn kept(side: &AnswerSide<'_>) -> bool {
    side.complete().flat_map(|w| &w.promises).all(|p| p.kept)
}

/// `nats lost 733,188 of 5,460,288 (at most once: allowed).`
fn lost(side: &AnswerSide<'_>) -> String {
    let l = side.ledger();
    let mut parts = Vec::new();
    if l.lost > 0 {
        let dropped = match l.client_dropped {
            0 => String::new(),
            n if n == l.lost => ", dropped by its client library".into(),
            n => format!(", {} of them dropped by its client library", digits(n)),
        };
        parts.push(format!("lost {} of {}{dropped}", digits(l.lost), digits(l.expected)));
    }
    if l.duplicated > 0 {
        parts.push(format!("delivered {} twice", digits(l.duplicated)));
    }
    if l.reordered > 0 {
        parts.push(format!("delivered {} out of order", digits(l.reordered)));
    }
    if l.corrupted > 0 {
        parts.push(format!("changed {}", digits(l.corrupted)));
    }
    let level = side.facts().map(super::facts::delivery_words).filter(|w| !w.is_empty());
    let verdict = match (kept(side), level) {
        (true, Some(level)) => format!(" ({level}: allowed)"),
        (true, None) => String::new(),
        (false, level) => {
            let level = level.map_or_else(String::new, |l| format!("{l}: "));
            format!(" ({level}a promise is broken)")
        }
    };
    format!("{} {}{verdict}.", side.name(), parts.join(", "))
}

/// `Neither lost a message (48,043 of 48,043 arrived).`
fn nothing_lost(whole: &[&AnswerSide<'_>], all: bool) -> String {
    let total = |f: fn(&Ledger) -> u64| whole.iter().map(|s| f(&s.ledger())).sum::<u64>();
    let expected = total(|l| l.expected);
    let count = match expected {
        0 => format!("{} of {} were acknowledged", digits(total(|l| l.acked)), digits(total(|l| l.sent))),
        n => format!("{} of {} arrived", digits(total(|l| l.delivered)), digits(n)),
    };
    let count = if whole.len() > 1 { format!("together {count}") } else { count };
    let names: Vec<&str> = whole.iter().map(|s| s.name()).collect();
    let subject = match (all, &names[..]) {
        (true, [_, _]) => "Neither lost a message".to_string(),
        (true, [_, _, ..]) => "None lost a message".to_string(),
        (_, [one]) => format!("{one} lost no message"),
        (_, names) => format!("{} lost no message", names.join(" and ")),
    };
    let in_flight = total(|l| l.in_flight);
    let waiting =
        if in_flight > 0 { format!("; {} were on their way when it ended", digits(in_flight)) } else { String::new() };
    let newer = match total(|l| l.superseded) {
        0 => String::new(),
        n => format!("; {} were superseded by later values of their keys", digits(n)),
    };
    format!("{subject} ({count}{newer}{waiting}).")
}
