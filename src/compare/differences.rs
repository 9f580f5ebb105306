//! What is different besides performance: settings of the workload, of the systems, and of the
//! machine.

use std::collections::{BTreeMap, BTreeSet};

use super::model::Difference;
use super::side::{CaseSide, host_line};
use super::workloads::ABSENT;
use crate::plan::Case;
use crate::record::Record;

/// Settings that bear on whether a message arrives, in order, and survives, or that change what is
/// measured altogether.
pub const PROMISES: [&str; 6] = ["acknowledgement", "delivery", "durability", "order", "tls", "faults"];

/// Compares the settings of two cases: (differences of the workload, other differences).
pub(super) fn settings(a: &Case, b: &Case) -> (Vec<Difference>, Vec<Difference>) {
    let (x, y) = (flat(a), flat(b));
    let between = |keep: &dyn Fn(&str) -> bool, confounds: bool| {
        let keys: BTreeSet<&String> = x.keys().chain(y.keys()).collect();
        let absent = || ABSENT.to_string();
        keys.into_iter()
            .filter(|k| keep(k) && x.get(*k) != y.get(*k))
            .map(|k| Difference {
                what: k.clone(),
                baseline: x.get(k).cloned().unwrap_or_else(absent),
                candidate: y.get(k).cloned().unwrap_or_else(absent),
                confounds,
                one_sided: false,
                promise: false,
            })
            .collect::<Vec<_>>()
    };
    (
        between(&|k| k.starts_with("workloads"), true),
        between(&|k| ["phases", "pacing", "threads"].iter().any(|p| k.starts_with(p)), true),
    )
}

/// Every setting of a case by its path.
pub(super) fn flat(case: &Case) -> BTreeMap<String, String> {
    let mut out = BTreeMap::new();
    if let Ok(value) = serde_json::to_value(case) {
        flatten("", &value, &mut out);
    }
    out
}

fn flatten(path: &str, value: &serde_json::Value, out: &mut BTreeMap<String, String>) {
    use serde_json::Value;
    let join = |key: &str| if path.is_empty() { key.to_string() } else { format!("{path}.{key}") };
    match value {
        Value::Object(map) => map.iter().for_each(|(k, v)| flatten(&join(k), v, out)),
        Value::Array(list) => list.iter().enumerate().for_each(|(i, v)| flatten(&join(&i.to_string()), v, out)),
        Value::String(text) => {
            out.insert(path.into(), text.clone());
        }
        other => {
            out.insert(path.into(), other.to_string());
        }
    }
}

/// Version, client and guarantees of two systems as they were found.
pub(super) fn facts(prefix: &str, a: &CaseSide<'_>, b: &CaseSide<'_>) -> Vec<Difference> {
    let all = |s: &CaseSide<'_>| {
        let mut out = BTreeMap::new();
        if let Some(found) = s.trials.first().map(|t| &t.system) {
            out.insert("version".to_string(), found.version.clone());
            out.insert("client".to_string(), found.client.clone());
            out.extend(found.guarantees.clone());
        }
        if let Some(spec) = s.case.changed.as_ref().or(s.record.plan.systems.get(s.case.system)) {
            for (k, v) in &spec.options {
                out.insert(format!("option {k}"), v.to_string());
            }
        }
        out
    };
    let (x, y) = (all(a), all(b));
    let keys: BTreeSet<&String> = x.keys().chain(y.keys()).collect();
    let says = |m: &BTreeMap<String, String>, k: &str| m.get(k).cloned().unwrap_or_else(|| "(not said)".into());
    keys.into_iter()
        .filter(|k| x.get(*k) != y.get(*k))
        .map(|k| Difference {
            what: format!("{prefix}{k}"),
            baseline: says(&x, k),
            candidate: says(&y, k),
            confounds: !matches!(k.as_str(), "version" | "url"),
            one_sided: !(x.contains_key(k) && y.contains_key(k)),
            promise: PROMISES.contains(&k.as_str()),
        })
        .collect()
}

/// What differs between two records as a whole.
pub(super) fn whole(a: &Record, b: &Record) -> Vec<Difference> {
    let mut list = Vec::new();
    let mut add = |what: &str, x: String, y: String, confounds: bool| {
        if x != y {
            let (one_sided, promise) = (false, false);
            list.push(Difference { what: what.into(), baseline: x, candidate: y, confounds, one_sided, promise });
        }
    };
    add("machine", host_line(&a.host), host_line(&b.host), true);
    add("clock source", a.host.clocksource.clone(), b.host.clocksource.clone(), true);
    add("governor", format!("{:?}", a.host.governor), format!("{:?}", b.host.governor), true);
    add("msgbench", a.tool.version.clone(), b.tool.version.clone(), true);
    add("build profile", a.tool.profile.clone(), b.tool.profile.clone(), true);
    add("scenario SHA-256", short(&a.scenario.sha256), short(&b.scenario.sha256), false);
    add("overrides", format!("{:?}", a.scenario.overrides), format!("{:?}", b.scenario.overrides), false);
    add("trials planned", a.plan.trials.to_string(), b.plan.trials.to_string(), false);
    list
}

fn short(sha: &str) -> String {
    sha.chars().take(12).collect()
}
