//! The small table below the pictures: losses, power, cost.

use super::AnswerContext;
use super::side::AnswerSide;
use crate::plan::facts::{Delivery, Durability};
use crate::record::SystemFacts;
use crate::report::words::view::{TextTable, median_f64};
use crate::units::{count, digits};

/// A row for each question, a column for each system.
pub(super) fn table(context: &AnswerContext<'_>) -> TextTable {
    let mut heads = vec![String::new()];
    heads.extend(context.sides.iter().map(|s| format!(">{}", s.name())));
    let heads: Vec<&str> = heads.iter().map(String::as_str).collect();
    let mut table = TextTable::new("What else decides", &heads);
    let mut add = |question: &str, cell: &dyn Fn(&AnswerSide<'_>) -> Option<String>| {
        let cells: Vec<Option<String>> = context.sides.iter().map(cell).collect();
        // A row that nobody can answer answers nothing.
        if cells.iter().any(Option::is_some) {
            let mut row = vec![question.to_owned()];
            row.extend(cells.into_iter().map(|c| c.unwrap_or_else(|| "not measured".into())));
            table.rows.push(row);
        }
    };
    add("Lost / twice / out of order", &|s| {
        s.complete().next().filter(|_| !s.only_sends())?;
        let l = s.ledger();
        Some(format!("{} / {} / {}", digits(s.lost()), digits(l.duplicated), digits(l.reordered)))
    });
    add("Survives a power cut", &|s| Some(power(s.facts()?)));
    add("Version", &|s| Some(s.facts()?.version.clone()).filter(|v| !v.is_empty()));
    add("Broker CPU for 1,000 messages/s", &|s| {
        let cpu = s.used.iter().filter_map(|t| t.broker.as_ref()?.cpu_us_per_msg).collect();
        median_f64(cpu).map(|us| format!("{} of a core", cores(us / 1e3)))
    });
    add("Broker memory", &|s| {
        let memory = s.used.iter().filter_map(|t| Some(t.broker.as_ref()?.rss_peak_bytes as f64)).collect();
        median_f64(memory).filter(|b| *b > 0.0).map(mebibytes)
    });
    let delivered = |s: &AnswerSide<'_>| {
        let rates = s.used.iter().filter_map(|t| Some(t.workloads.get(s.workload)?.rate())).collect();
        median_f64(rates)
    };
    // Where all deliver what is offered, the row says nothing.
    let all: Vec<f64> = context.sides.iter().filter_map(delivered).collect();
    if all.iter().any(|v| (v / all[0] - 1.0).abs() > 0.01) {
        let taken = context.sides.iter().any(|s| s.only_sends());
        add(if taken { "Taken a second" } else { "Delivered a second" }, &|s| delivered(s).map(count));
    }
    if context.record.plan.search.is_none() {
        add("Highest rate that it kept up with", &|s| highest(context, s));
    }
    table
}

/// `0.019`, `0.49`, `1.9`.
fn cores(value: f64) -> String {
    match value {
        v if v >= 0.1 => format!("{v:.2}"),
        v if v >= 0.001 => format!("{v:.3}"),
        _ => "less than 0.001".into(),
    }
}

fn mebibytes(bytes: f64) -> String {
    let mib = bytes / f64::from(1 << 20);
    if mib >= 1024.0 { format!("{:.1} GiB", mib / 1024.0) } else { format!("{mib:.0} MiB") }
}

/// Of load points that differ in their rate, the highest with a valid trial.
fn highest(context: &AnswerContext<'_>, side: &AnswerSide<'_>) -> Option<String> {
    let plan = &context.record.plan;
    let swept = |c: &crate::plan::Case| c.point.iter().find(|(key, _)| key.ends_with("rate")).map(|(_, v)| v.clone());
    let of: Vec<_> = plan.cases.iter().filter(|c| c.system == side.case.system).collect();
    let points: Vec<(&str, String)> = of.iter().filter_map(|c| Some((c.id.as_str(), swept(c)?))).collect();
    if points.len() < 2 {
        return None;
    }
    let kept_up = |id: &str| context.record.trials.iter().any(|t| t.case == id && super::usable(t));
    let last = points.iter().rposition(|(id, _)| kept_up(id))?;
    let more = if last + 1 == points.len() { " (the highest tried)" } else { "" };
    Some(format!("{}{more}", points[last].1))
}

/// Whether what was acknowledged is there after the power was gone.
pub(super) fn power(facts: &SystemFacts) -> String {
    match facts.promised.durability {
        Durability::SyncedFirst => "yes: synced before it counts".into(),
        Durability::Synced => "all but the newest: synced now and then".into(),
        Durability::File => "not certain: in a file that is synced later".into(),
        Durability::Memory => "no: in memory".into(),
        Durability::None => "no: it keeps no message".into(),
        // Records of before levels were kept have the words of the system.
        Durability::Unstated => facts.guarantees.get("durability").map_or_else(
            || "not known".into(),
            |words| format!("not said; it states: {}", words.split([':', ',']).next().unwrap_or(words)),
        ),
    }
}

/// How often a message arrives, in the field's words; empty where it is not known.
pub(super) fn delivery_words(facts: &SystemFacts) -> String {
    match facts.promised.delivery {
        Delivery::AtMostOnce => "at most once".into(),
        Delivery::AtLeastOnce => "at least once".into(),
        Delivery::ExactlyOnce => "exactly once".into(),
        Delivery::Unpromised => "nothing promised".into(),
        // Records of before levels were kept have the words of the system, the level first.
        Delivery::Nothing | Delivery::Unstated => {
            let words = facts.guarantees.get("delivery").map_or("", String::as_str);
            words.split([':', ',']).next().unwrap_or_default().to_owned()
        }
    }
}
