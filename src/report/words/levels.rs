//! What a history says of the levels of its metrics.

use crate::compare::history::{ChangeState, MetricSeries};

pub fn percent(share: f64) -> String {
    format!("{:+.1} %", share * 100.0)
}

/// What changed, as (word, sentence).
pub fn changes(list: &[MetricSeries]) -> Vec<(&'static str, String)> {
    let mut words: Vec<(&'static str, String)> = Vec::new();
    // What nothing judges comes first: once for each reason, with the metrics that it holds for.
    let mut silent: Vec<(String, Vec<String>)> = Vec::new();
    for s in list {
        let Some(why) = &s.unjudged else { continue };
        let key = format!("{} {}: {why}", s.scenario, s.case);
        match silent.iter_mut().find(|(k, _)| *k == key) {
            Some((_, metrics)) => metrics.push(s.metric.to_string()),
            None => silent.push((key, vec![s.metric.to_string()])),
        }
    }
    words.extend(silent.into_iter().map(|(why, metrics)| ("NOT JUDGED", format!("{why} ({})", metrics.join(", ")))));
    for s in list {
        let unit = s.metric.quantity.unit();
        for c in &s.changes {
            let state = if c.state == ChangeState::Confirmed { "CONFIRMED" } else { "SUSPECT" };
            let commit = c.commit.as_ref().map_or_else(String::new, |k| format!(", {k}"));
            let text = format!(
                "{} {} is {} {} since {}{commit}: {} instead of {} (p {})",
                s.case,
                s.metric,
                percent(c.change),
                if c.worse { "worse" } else { "better" },
                c.at,
                unit.show(c.after),
                unit.show(c.before),
                // Its many digits say nothing more.
                if c.p < 1e-4 { "below 0.0001".to_string() } else { format!("{:.4}", c.p) }
            );
            words.push((state, text));
        }
        if let Some(t) = s.trend {
            words.push(("TREND", format!("{} {} drifts by {} with each result", s.case, s.metric, percent(t))));
        }
        if let Some(note) = s.note.as_ref().filter(|_| s.values.len() > 9) {
            words.push(("note", format!("{} {}: {note}", s.case, s.metric)));
        }
    }
    words
}
