//! The tables below the summary: intervals of percentiles, other latencies, replays, groups,
//! promises.

use super::view::{
    CellGrade, ShownLatency, TextTable, label, median_trial, or_dash, quantile_name, quantiles, sign, trials, usable,
    widest_clocks, with_clocks,
};
use crate::record::{Headlines, Percentile, Record};
use crate::units::{count, latency, three_digits};

/// A percentile of one run with its 95 % interval: `451us [440us..462us]`; `~` where the interval
/// is not to be relied on, `..` open above where it reaches beyond the largest sample.
fn with_interval(p: Option<&Percentile>) -> String {
    let value = ShownLatency::of(p);
    let doubt = if p.is_some_and(|p| p.printable && p.doubt.is_some()) { "?" } else { "" };
    match (value, p.and_then(|p| Some((p.ci95_ns?, p.reliable)))) {
        (ShownLatency::Finite(_), Some(((low, high), reliable))) => {
            let high = high.map_or_else(String::new, latency);
            let sure = if reliable == Some(false) { "~" } else { "" };
            format!("{value}{doubt} {sure}[{}..{high}]", latency(low))
        }
        _ => format!("{value}{doubt}"),
    }
}

/// The percentiles of the median trial of each case with their intervals; empty where the record
/// has none.
pub fn intervals_table(record: &Record) -> TextTable {
    let quantiles = quantiles(record);
    let names: Vec<String> = quantiles.iter().map(|q| format!(">{}", quantile_name(*q))).collect();
    let (heads, mut doubts) = (Headlines::of([record]), Vec::new());
    let mut columns = vec!["case", ">round", "of"];
    columns.extend(names.iter().map(String::as_str));
    let mut table = TextTable::new(
        "Percentiles of the median trial, with the 95 % interval within that run (~: its blocks are too few or too short to rely on)",
        &columns,
    );
    for case in &record.plan.cases {
        for (index, workload) in case.workloads.iter().enumerate() {
            let Some(trial) = median_trial(record, &case.id, index) else { continue };
            let found = trial.workloads.get(index).and_then(|w| heads.latency(index, w));
            let Some((kind, summary)) = found else { continue };
            if summary.percentiles.iter().all(|p| p.ci95_ns.is_none()) {
                continue;
            }
            let mut row = vec![label(case, workload), trial.round.to_string(), kind.to_string()];
            row.extend(quantiles.iter().map(|q| with_interval(summary.at(*q))));
            table.rows.push(row);
            doubts.push(summary.clocks);
        }
    }
    with_clocks(&mut table, 3, &doubts);
    if doubts.iter().any(Option::is_some) {
        table.caption.push_str("; what the clocks of two agents may be wrong by is in it");
    }
    table
}

/// Latencies beside the headline: acknowledgements, slow consumers, around a replay; empty where
/// there are none.
pub fn other_latencies_table(record: &Record) -> TextTable {
    let quantiles = quantiles(record);
    let names: Vec<String> = quantiles.iter().map(|q| format!(">{}", quantile_name(*q))).collect();
    let (heads, mut doubts) = (Headlines::of([record]), Vec::new());
    let mut columns = vec!["case", "of"];
    columns.extend(names.iter().map(String::as_str));
    columns.extend([">max", ">lost"]);
    let mut table = TextTable::new("Other latencies, median over the valid trials", &columns);
    for case in &record.plan.cases {
        let used: Vec<_> = trials(record, &case.id).filter(|t| usable(t)).collect();
        for (index, workload) in case.workloads.iter().enumerate() {
            let results: Vec<_> = used.iter().filter_map(|t| t.workloads.get(index)).collect();
            let found = results.first().and_then(|r| heads.latency(index, r));
            let Some(headline) = found.map(|(kind, _)| kind) else { continue };
            let mut kinds: Vec<&String> = results.iter().flat_map(|r| r.latency.keys()).collect();
            kinds.sort_unstable();
            kinds.dedup();
            for kind in kinds {
                if kind == headline || kind == "lag" || kind.ends_with(".service") {
                    continue;
                }
                let all: Vec<_> = results.iter().filter_map(|r| r.latency.get(kind)).collect();
                let mut row = vec![label(case, workload), kind.clone()];
                row.extend(
                    quantiles
                        .iter()
                        .map(|q| (ShownLatency::median(all.iter().map(|l| ShownLatency::of(l.at(*q))).collect()), q))
                        .map(|(value, q)| format!("{value}{}", sign(all.iter().copied(), *q))),
                );
                let max = all.iter().map(|l| l.max_ns.map_or(ShownLatency::Infinite, ShownLatency::Finite)).collect();
                row.push(ShownLatency::median(max).to_string());
                row.push(all.iter().map(|l| l.lost).sum::<u64>().to_string());
                table.rows.push(row);
                doubts.push(widest_clocks(all));
            }
        }
    }
    with_clocks(&mut table, 2, &doubts);
    table
}

/// How backlogs were read, one row for each trial; empty where there is none.
pub fn replay_table(record: &Record) -> TextTable {
    let heads =
        ["case", ">round", ">backlog", ">read", ">begun at", ">first message after", ">caught up after", ">read/s"];
    let mut table = TextTable::new("Reading the backlog while publishing goes on", &heads);
    for t in &record.trials {
        for r in t.workloads.iter().filter_map(|w| w.replay.as_ref()) {
            let seconds = |s: Option<f64>| or_dash(s, |s| format!("{} s", three_digits(s)));
            table.rows.push(vec![
                t.case.clone(),
                t.round.to_string(),
                r.backlog.to_string(),
                r.delivered.to_string(),
                seconds(Some(r.begun_s)),
                seconds(r.first_s),
                seconds(r.catch_up_s),
                or_dash(r.rate, count),
            ]);
        }
    }
    table
}

/// The books of groups that are there for different things; empty where all are alike.
pub fn groups_table(record: &Record) -> TextTable {
    let heads = ["case", ">round", ">group", "role", ">expected", ">delivered", ">lost"];
    let mut table = TextTable::new("Groups of consumers", &heads);
    for t in &record.trials {
        for (w, g) in t.workloads.iter().flat_map(|w| w.groups.iter().map(move |g| (w, g))) {
            let name = if t.workloads.len() > 1 { format!("{} / {}", t.case, w.name) } else { t.case.clone() };
            let mut row = vec![name, t.round.to_string(), g.group.to_string(), g.role.name().into()];
            row.extend([g.expected, g.delivered, g.lost].map(|n| n.to_string()));
            table.rows.push(row);
        }
    }
    table
}

/// What was promised and what came of it, one row for each promise of a case.
pub fn promises_table(record: &Record) -> TextTable {
    let heads = ["case", "promise", "", ">rounds", "observed"];
    let mut table = TextTable::new("Promises, held against the ledger", &heads);
    for case in &record.plan.cases {
        for (index, workload) in case.workloads.iter().enumerate() {
            let results: Vec<_> = trials(record, &case.id).filter_map(|t| t.workloads.get(index)).collect();
            let mut promised: Vec<&str> =
                results.iter().flat_map(|r| r.promises.iter().map(|p| p.promised.as_str())).collect();
            promised.sort_unstable();
            promised.dedup();
            for promise in promised {
                let all: Vec<_> =
                    results.iter().flat_map(|r| r.promises.iter().filter(|p| p.promised == promise)).collect();
                let kept = all.iter().all(|p| p.kept);
                let worst = all.iter().find(|p| p.kept == kept).map_or("", |p| p.observed.as_str());
                table.rows.push(vec![
                    label(case, workload),
                    promise.into(),
                    if kept { "kept" } else { "BROKEN" }.into(),
                    all.len().to_string(),
                    worst.into(),
                ]);
                table.grade(2, (!kept).then_some(CellGrade::Broken));
            }
        }
    }
    table
}

/// Who tried to get in, and what came of it, one row for each of a trial.
pub fn intruders_table(record: &Record) -> TextTable {
    let heads = ["case", ">round", "intruder", ">tries", ">let in", "said"];
    let mut table = TextTable::new("Intruders: who tried to publish and to subscribe without the right to", &heads);
    for t in &record.trials {
        for w in &t.workloads {
            let name = if t.workloads.len() > 1 { format!("{} / {}", t.case, w.name) } else { t.case.clone() };
            for i in &w.intrusions {
                let counts = (i.tries.to_string(), i.let_in.to_string());
                let row = vec![name.clone(), t.round.to_string(), i.who.clone(), counts.0, counts.1, i.said.clone()];
                table.rows.push(row);
                table.grade(4, (i.let_in > 0).then_some(CellGrade::Broken));
            }
        }
    }
    table
}

/// The systems as they were found, one column for each.
pub fn guarantees_table(record: &Record) -> TextTable {
    let found: Vec<_> = record
        .plan
        .cases
        .iter()
        .filter_map(|c| Some((record.plan.systems.get(c.system)?, &trials(record, &c.id).last()?.system)))
        .fold(Vec::<(&str, _)>::new(), |mut seen, (spec, facts)| {
            if seen.iter().all(|(name, _)| *name != spec.name) {
                seen.push((&spec.name, facts));
            }
            seen
        });
    let mut heads = vec!["guarantee"];
    heads.extend(found.iter().map(|(name, _)| *name));
    let mut table = TextTable::new("Systems and what they promise, as read back", &heads);
    let mut add = |name: &str, cell: &dyn Fn(&crate::record::SystemFacts) -> String| {
        let mut row = vec![name.to_string()];
        row.extend(found.iter().map(|(_, facts)| cell(facts)));
        table.rows.push(row);
    };
    add("version", &|f| f.version.clone());
    add("client", &|f| f.client.clone());
    add("reached at", &|f| f.url.clone());
    let mut keys: Vec<&String> = found.iter().flat_map(|(_, f)| f.guarantees.keys()).collect();
    keys.sort();
    keys.dedup();
    for key in keys {
        let (name, nanos) = key.strip_suffix("_ns").map_or((key.as_str(), false), |name| (name, true));
        let shown = |value: &String| match value.parse() {
            Ok(ns) if nanos => latency(ns),
            _ => value.clone(),
        };
        add(name, &|f| f.guarantees.get(key).map_or_else(|| "–".into(), shown));
    }
    table
}
