//! What consumers that came, left and died did to the members of their group, in sentences.

use std::collections::BTreeMap;

use crate::record::{MemberEffect, MembershipChange, Record};
use crate::units::{count, time_words};

/// One sentence for each case, workload and event: of several trials the worst of each member.
pub(super) fn changes(record: &Record) -> Vec<String> {
    let mut all: BTreeMap<(&str, &str, usize), Vec<&MembershipChange>> = BTreeMap::new();
    for trial in &record.trials {
        for workload in &trial.workloads {
            for (i, change) in workload.membership.iter().enumerate() {
                all.entry((&trial.case, &workload.name, i)).or_default().push(change);
            }
        }
    }
    let several = record.plan.cases.iter().any(|c| c.workloads.len() > 1);
    let sentence = |((case, workload, _), trials): ((&str, &str, usize), Vec<&MembershipChange>)| {
        let whom = if several { format!("{case}, {workload}") } else { case.to_owned() };
        let change = trials[0];
        let (what, consumer) = (change.action.name(), change.consumer);
        let members = worst(&trials);
        let longest = members.iter().filter_map(|m| m.silence_s).fold(0.0, f64::max);
        let late: u64 = members.iter().map(|m| m.late).sum();
        let each: Vec<String> = members.iter().map(by_member).collect();
        let each = if each.is_empty() { "no member received anything".to_owned() } else { each.join("; ") };
        format!(
            "{whom}: after {what} {consumer} at {} s the longest silence of a member was {}, and {} messages came more \
             than 100 ms late ({each}).",
            change.at_s,
            time(longest),
            count(late as f64),
        )
    };
    all.into_iter().map(sentence).collect()
}

/// The worst of each member over the trials.
fn worst(trials: &[&MembershipChange]) -> Vec<MemberEffect> {
    let mut members: BTreeMap<u32, MemberEffect> = BTreeMap::new();
    for effect in trials.iter().flat_map(|t| &t.members) {
        let Some(known) = members.get_mut(&effect.consumer) else {
            members.insert(effect.consumer, effect.clone());
            continue;
        };
        let more = |a: Option<f64>, b: Option<f64>| a.map_or(b, |a| Some(b.map_or(a, |b| a.max(b))));
        known.first_s = more(known.first_s, effect.first_s);
        known.silence_s = more(known.silence_s, effect.silence_s);
        known.latest_s = more(known.latest_s, effect.latest_s);
        known.late = known.late.max(effect.late);
    }
    members.into_values().collect()
}

fn by_member(m: &MemberEffect) -> String {
    let silence = match (m.silence_s, m.first_s) {
        (Some(silence), _) => format!("silent for {}", time(silence)),
        (None, Some(first)) => format!("its first message after {}", time(first)),
        (None, None) => "nothing".into(),
    };
    let late = match m.latest_s {
        Some(latest) => format!(", {} late by up to {}", count(m.late as f64), time(latest)),
        None => String::new(),
    };
    format!("consumer {}: {silence}{late}", m.consumer)
}

fn time(seconds: f64) -> String {
    time_words((seconds.max(0.0) * 1e9).round() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::Action;

    fn effect(consumer: u32, silence_s: Option<f64>, late: u64) -> MemberEffect {
        let latest_s = (late > 0).then_some(2.5);
        MemberEffect { consumer, first_s: Some(0.5), silence_s, late, latest_s }
    }

    #[test]
    fn each_member_is_told_with_its_worst_trial() {
        let mut record = crate::record::sample::record();
        let change = |silence: f64, late: u64| MembershipChange {
            at_s: 3.0,
            action: Action::ConsumerJoin,
            consumer: 1,
            took_s: Some(0.2),
            members: vec![effect(0, Some(silence), late), effect(1, None, 0)],
        };
        assert!(changes(&record).is_empty());
        record.trials.truncate(2);
        for (i, trial) in record.trials.iter_mut().enumerate() {
            trial.case = "k".into();
            trial.workloads.truncate(1);
            trial.workloads[0].membership = vec![change(1.0 + i as f64, 10 * i as u64)];
        }
        let told = changes(&record);
        assert_eq!(
            told,
            [
                "k: after consumer-join 1 at 3 s the longest silence of a member was 2 s, and 10 messages came more than \
              100 ms late (consumer 0: silent for 2 s, 10 late by up to 2.5 s; consumer 1: its first message after 500 ms)."
            ]
        );
    }
}
