//! Results over time: one line for each case of each result, and where the level of a metric
//! changed.
//!
//! The unit is again the run: a point is the median over the valid trials of one result. Only like
//! is set beside like: a change of the machine or of what is driven starts a new series. Levels are
//! compared on the logarithm, so that a change is a ratio. History raises alerts about trends; a
//! pull request is judged by interleaved runs, not by history. Invariant: what the latest result
//! holds and nothing judges is said, with the setting that opened a new series.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::{capacity, observe};
use crate::plan::metric::{Metric, Quantity};
use crate::plan::search::SearchPlan;
use crate::record::{Outcome, Record, Status};
use crate::stats::change::{self, CONFIRMED_AT};
use crate::stats::quantile::{PercentileUse, may};
use crate::stats::{median, series};

/// The schema of a line.
pub const SCHEMA: &str = "msgbench.history/1";
/// The level at which a trend within the present segment is told.
const TREND_P: f64 = 0.01;

/// One case of one result: a line of the history file.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct HistoryEntry {
    /// Always `msgbench.history/1`.
    pub schema: String,
    /// When the result was started, UTC.
    pub at: String,
    /// What was measured, as the caller names it: a commit, a version.
    pub commit: Option<String>,
    /// Name of the scenario.
    pub scenario: String,
    /// `Case::id`.
    pub case: String,
    /// SHA-256 of what is driven and of the machine: where it changes, a new series starts.
    pub series: String,
    /// The machine in a line.
    pub host: String,
    /// What makes the series: setting to value, so that one that changed can be named. Lines of
    /// older versions have none.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub settings: BTreeMap<String, String>,
    /// Valid trials; 0 where there are trials and none is valid.
    pub runs: usize,
    /// Median over the valid trials of each metric that may be gated on; of a search the median of
    /// its capacities.
    pub metrics: BTreeMap<String, f64>,
    /// Of a metric that is known as an interval: from the lowest to the highest that its searches
    /// found.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub intervals: BTreeMap<String, (f64, f64)>,
}

/// The lines of a result. A case without a valid trial has one without metrics: that it could not
/// be judged is a result too.
pub fn entries(record: &Record, commit: Option<&str>) -> Vec<HistoryEntry> {
    if let Some(search) = capacity::by_rate(record) {
        return of_searches(record, search, commit);
    }
    let mut list = Vec::new();
    for case in &record.plan.cases {
        let usable = |t: &&crate::record::Trial| {
            t.case == case.id && t.outcome == Outcome::Complete && t.validity_status() != Status::Invalid
        };
        if !record.trials.iter().any(|t| t.case == case.id) {
            continue;
        }
        let trials: Vec<_> = record.trials.iter().filter(usable).collect();
        let mut metrics = BTreeMap::new();
        for (index, workload) in trials.first().iter().flat_map(|t| &t.workloads).enumerate() {
            for metric in observe::metrics(workload, case.workloads.len() > 1, &record.plan.percentiles) {
                let found: Vec<_> = trials.iter().filter_map(|t| observe::value(t, index, &metric.quantity)).collect();
                let thin = found.iter().filter_map(|o| o.exceedances).any(|k| may(k) < PercentileUse::Gate);
                let values: Vec<f64> = found.iter().map(|o| o.value).collect();
                if let Some(value) = median(&values).filter(|v| v.is_finite() && !thin) {
                    metrics.insert(metric.to_string(), value);
                }
            }
        }
        let host = machine(record);
        let (series, settings) = driven(record, case, &host);
        list.push(HistoryEntry {
            schema: SCHEMA.into(),
            at: record.started_at.clone(),
            commit: commit.map(String::from),
            scenario: record.plan.name.clone(),
            case: case.id.clone(),
            series,
            host,
            settings,
            runs: trials.len(),
            metrics,
            intervals: BTreeMap::new(),
        });
    }
    list
}

/// Of a search one line for each system and load point: the loads that were tried on the way are no
/// results.
fn of_searches(record: &Record, search: &SearchPlan, commit: Option<&str>) -> Vec<HistoryEntry> {
    let host = machine(record);
    let line = |of: &capacity::SearchedCase<'_>| {
        let found = of.found();
        let name = Quantity::Capacity.to_string();
        let ends = found.iter().fold((f64::INFINITY, 0.0f64), |(l, h), c| (l.min(c.lower), h.max(c.upper)));
        let (mut metrics, mut intervals) = (BTreeMap::new(), BTreeMap::new());
        if let Some(middle) = median(&found.iter().map(|c| c.lower).collect::<Vec<_>>()) {
            metrics.insert(name.clone(), middle);
            intervals.insert(name, ends);
        }
        let (driven, mut settings) = driven(record, &capacity::without_rate(of.case), &host);
        // Another promise has another capacity.
        let held = serde_json::json!({ "search": {
            "limits": search.limits.iter().map(|l| &l.that).collect::<Vec<_>>(),
            "width": search.width.0,
        }});
        self::name("", &held, &mut settings);
        HistoryEntry {
            schema: SCHEMA.into(),
            at: record.started_at.clone(),
            commit: commit.map(String::from),
            scenario: record.plan.name.clone(),
            case: of.results[0].case.clone(),
            series: digest(&format!("{driven} {held}")),
            host: host.clone(),
            settings,
            runs: found.len(),
            metrics,
            intervals,
        }
    };
    capacity::searched(record).iter().map(line).collect()
}

/// The machine in a line.
fn machine(record: &Record) -> String {
    let h = &record.host;
    format!("{}, {} CPUs, {} GiB", h.cpu, h.cpus, (h.memory_bytes as f64 / f64::from(1 << 30)).round())
}

/// The fingerprint of what is driven and of the machine, and the same by setting.
fn driven(record: &Record, case: &crate::plan::Case, host: &str) -> (String, BTreeMap<String, String>) {
    let mut case = case.clone();
    // The name of a case and its place in the file do not change what is driven.
    case.id.clear();
    let changed = case.changed.take();
    let system = changed.as_ref().or(record.plan.systems.get(case.system));
    let cpus = system.and_then(|s| s.cpus);
    let system = system.map(|s| (&s.name, &s.driver, &s.bring_up, &s.options));
    case.system = 0;
    let mut text = serde_json::to_string(&(&case, &system, host, &record.tool.profile)).unwrap_or_default();
    // Where nothing is bound the fingerprint is that of the lines of before.
    text.extend(cpus.map(|c| format!(" cpus {c}")));
    let mut settings = BTreeMap::new();
    let system = system.map(|(name, driver, up, options)| {
        serde_json::json!({ "name": name, "driver": driver, "bring-up": up, "options": options, "cpus": cpus })
    });
    let all = serde_json::json!({ "system": system, "machine": host, "build profile": record.tool.profile });
    name("", &serde_json::to_value(&case).unwrap_or_default(), &mut settings);
    name("", &all, &mut settings);
    (digest(&text), settings)
}

fn digest(text: &str) -> String {
    Sha256::digest(text.as_bytes()).iter().take(8).map(|b| format!("{b:02x}")).collect()
}

/// Settings by their path. A long list, such as the messages of a file, is one setting, known by
/// its digest.
fn name(path: &str, value: &serde_json::Value, into: &mut BTreeMap<String, String>) {
    use serde_json::Value;
    const LONGEST: usize = 200;
    let join = |key: &str| if path.is_empty() { key.to_string() } else { format!("{path}.{key}") };
    match value {
        Value::Object(map) => map.iter().for_each(|(k, v)| name(&join(k), v, into)),
        Value::Array(list) if list.len() <= 8 => {
            list.iter().enumerate().for_each(|(i, v)| name(&join(&i.to_string()), v, into));
        }
        Value::Null => {}
        other => {
            let text = other.as_str().map_or_else(|| other.to_string(), str::to_string);
            let text = if text.len() > LONGEST { format!("digest {}", digest(&text)) } else { text };
            into.insert(path.into(), text);
        }
    }
}

/// What differs between two series, in words; at most four settings are named.
fn changed(from: &HistoryEntry, to: &HistoryEntry) -> String {
    let keys: std::collections::BTreeSet<&String> = from.settings.keys().chain(to.settings.keys()).collect();
    let differs: Vec<&String> = keys.into_iter().filter(|k| from.settings.get(*k) != to.settings.get(*k)).collect();
    if from.settings.is_empty() || differs.is_empty() {
        return match from.host == to.host {
            false => format!("machine is {} instead of {}", to.host, from.host),
            true => "a setting changed, and the older lines do not say which".into(),
        };
    }
    let say = |e: &HistoryEntry, k: &String| e.settings.get(k).cloned().unwrap_or_else(|| "(not set)".into());
    let list: Vec<String> =
        differs.iter().take(4).map(|k| format!("{k} is {} instead of {}", say(to, k), say(from, k))).collect();
    let more = if differs.len() > 4 { format!(" and {} more", differs.len() - 4) } else { String::new() };
    format!("{}{more}", list.join(", "))
}

/// Reads the lines of a history file.
///
/// # Errors
/// (line from 1, what is wrong with it).
pub fn parse(text: &str) -> Result<Vec<HistoryEntry>, (usize, String)> {
    let lines = text.lines().enumerate().filter(|(_, l)| !l.trim().is_empty());
    lines
        .map(|(i, line)| {
            let entry: HistoryEntry = serde_json::from_str(line).map_err(|e| (i + 1, e.to_string()))?;
            if entry.schema == SCHEMA {
                Ok(entry)
            } else {
                Err((i + 1, format!("schema `{}` is not `{SCHEMA}`", entry.schema)))
            }
        })
        .collect()
}

/// Whether a change is certain enough to act upon.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "UPPERCASE")]
pub enum ChangeState {
    /// At least three results stand after it.
    Confirmed,
    /// Fewer do: it may be one bad result.
    Suspect,
}

#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct LevelChange {
    /// First result of the new level, from 0.
    pub index: usize,
    /// When it was measured.
    pub at: String,
    pub commit: Option<String>,
    /// Geometric mean before, in the unit of the metric.
    pub before: f64,
    /// Geometric mean after.
    pub after: f64,
    /// after / before - 1.
    pub change: f64,
    /// Whether it is for the worse.
    pub worse: bool,
    /// p-value.
    pub p: f64,
    /// Confirmed or suspect.
    pub state: ChangeState,
}

#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct MetricSeries {
    pub scenario: String,
    pub case: String,
    /// Machine.
    pub host: String,
    /// Fingerprint.
    pub series: String,
    pub metric: Metric,
    /// Start of each result.
    pub at: Vec<String>,
    /// What each result measured, as the caller named it.
    pub commits: Vec<Option<String>>,
    /// Value of each result.
    pub values: Vec<f64>,
    /// The interval of each, where the metric is known as one.
    pub intervals: Vec<Option<(f64, f64)>>,
    /// Where the level changed.
    pub changes: Vec<LevelChange>,
    /// Change for each result within the present level, as a share; where it is certain that there
    /// is one.
    pub trend: Option<f64>,
    /// Why the judgement is stricter or absent.
    pub note: Option<String>,
    /// Why nothing judges the latest result of it; absent where it is judged, and in a series that
    /// another one follows.
    pub unjudged: Option<String>,
    /// What changed, where this series follows another one of the same case: the settings with both
    /// values.
    pub opened: Option<String>,
}

/// Sorts the lines into series and judges each; `wanted` chooses the metrics (all where empty).
pub fn judge(entries: &[HistoryEntry], wanted: &[Metric], max_change: f64) -> Vec<MetricSeries> {
    let mut entries: Vec<&HistoryEntry> = entries.iter().collect();
    entries.sort_by(|a, b| a.at.cmp(&b.at));
    let mut groups: Vec<(&HistoryEntry, Vec<&HistoryEntry>)> = Vec::new();
    for entry in entries {
        let same =
            |e: &HistoryEntry| (&e.scenario, &e.case, &e.series) == (&entry.scenario, &entry.case, &entry.series);
        match groups.iter_mut().find(|(first, _)| same(first)) {
            Some((_, list)) => list.push(entry),
            None => groups.push((entry, vec![entry])),
        }
    }
    let mut list = Vec::new();
    let any = "throughput.delivered".to_string();
    let standing: Vec<(bool, Option<String>)> = groups
        .iter()
        .map(|(first, of)| {
            let same_case = |f: &HistoryEntry| (&f.scenario, &f.case) == (&first.scenario, &first.case);
            let others = || groups.iter().filter(|(f, _)| same_case(f) && f.series != first.series);
            let last = |of: &[&HistoryEntry]| of.last().map(|e| e.at.clone());
            let current = others().all(|(_, other)| last(other) <= last(of));
            // The result before the first of this series.
            let before = others().flat_map(|(_, l)| l.iter().rev().find(|e| e.at < first.at));
            (current, before.max_by(|a, b| a.at.cmp(&b.at)).map(|e| changed(e, first)))
        })
        .collect();
    for ((first, of), (current, opened)) in groups.iter().zip(standing) {
        let mut names: std::collections::BTreeSet<&String> = of.iter().flat_map(|e| e.metrics.keys()).collect();
        // A series that has only trials that count for nothing must not vanish.
        if names.is_empty() && current {
            names.insert(&any);
        }
        for name in names {
            let Ok(metric) = name.parse::<Metric>() else { continue };
            if wanted.is_empty() || wanted.contains(&metric) {
                let mut found = one(first, of, metric, name, max_change);
                found.unjudged = if current { unjudged(&found, of, opened.as_deref()) } else { None };
                found.opened.clone_from(&opened);
                list.push(found);
            }
        }
    }
    list
}

/// Whether the last level of a series is the last one that was judged of its case: no series that
/// goes on longer is judged.
pub fn stands(list: &[MetricSeries], s: &MetricSeries) -> bool {
    !continued(list, s, &|o| o.unjudged.is_none())
}

/// Whether no other series of the case goes on longer.
pub fn is_latest(list: &[MetricSeries], s: &MetricSeries) -> bool {
    s.unjudged.is_some() || !continued(list, s, &|_| true)
}

fn continued(list: &[MetricSeries], s: &MetricSeries, by: &dyn Fn(&MetricSeries) -> bool) -> bool {
    let case = |o: &MetricSeries| (&o.scenario, &o.case) == (&s.scenario, &s.case);
    let end = list.iter().filter(|o| case(o) && o.series == s.series).filter_map(|o| o.at.last()).max();
    let longer = |o: &MetricSeries| o.at.last() > end || o.unjudged.is_some();
    list.iter().any(|o| case(o) && o.series != s.series && by(o) && longer(o))
}

/// Why nothing judges the latest result of a series.
fn unjudged(found: &MetricSeries, of: &[&HistoryEntry], opened: Option<&str>) -> Option<String> {
    let last = of.last()?;
    let n = found.values.len();
    if last.runs == 0 && found.metric.quantity == Quantity::Capacity {
        return Some(format!("no search of the result of {} found where its limit is", last.at));
    }
    if last.runs == 0 {
        return Some(format!("the result of {} has no valid trial of it", last.at));
    }
    if found.at.last() != Some(&last.at) {
        return Some(format!("the result of {} does not have it, or too few samples stand behind it", last.at));
    }
    if n < change::MIN_POINTS {
        let first = &of.first()?.at;
        let why = opened.map_or_else(String::new, |what| format!("a new series began at {first}, because {what}: "));
        return Some(format!("{why}{n} of the {} results that a level needs", change::MIN_POINTS));
    }
    found.values.iter().any(|v| *v <= 0.0).then(|| "some values are zero, and levels are ratios".into())
}

fn one(first: &HistoryEntry, of: &[&HistoryEntry], metric: Metric, name: &str, max_change: f64) -> MetricSeries {
    let points: Vec<(&HistoryEntry, f64)> = of.iter().filter_map(|e| Some((*e, *e.metrics.get(name)?))).collect();
    let values: Vec<f64> = points.iter().map(|p| p.1).collect();
    let mut found = MetricSeries {
        scenario: first.scenario.clone(),
        case: first.case.clone(),
        host: first.host.clone(),
        series: first.series.clone(),
        at: points.iter().map(|p| p.0.at.clone()).collect(),
        commits: points.iter().map(|p| p.0.commit.clone()).collect(),
        values: values.clone(),
        intervals: points.iter().map(|p| p.0.intervals.get(name).copied()).collect(),
        changes: Vec::new(),
        trend: None,
        note: None,
        unjudged: None,
        opened: None,
        metric,
    };
    if values.iter().any(|v| *v <= 0.0) {
        found.note = Some("some values are zero: a ratio has no meaning, so levels are not judged".into());
        return found;
    }
    if values.len() < change::MIN_POINTS {
        found.note = Some(format!("{} results; levels are judged from {} on", values.len(), change::MIN_POINTS));
        return found;
    }
    let logs: Vec<f64> = values.iter().map(|v| v.ln()).collect();
    let (changes, correlated) = change::judged(&logs, (1.0 + max_change).ln());
    if correlated {
        found.note = Some("neighbouring results resemble each other: changes must be ten times as certain".into());
    }
    let lower_is_better = found.metric.quantity.lower_is_better();
    found.changes = changes
        .iter()
        .map(|c| LevelChange {
            index: c.index,
            at: points[c.index].0.at.clone(),
            commit: points[c.index].0.commit.clone(),
            before: c.before.exp(),
            after: c.after.exp(),
            change: (c.after - c.before).exp() - 1.0,
            worse: (c.after > c.before) == lower_is_better,
            p: c.p,
            state: if c.seen >= CONFIRMED_AT { ChangeState::Confirmed } else { ChangeState::Suspect },
        })
        .collect();
    let from = changes.last().map_or(0, |c| c.index);
    let level = &logs[from..];
    if level.len() >= change::MIN_POINTS
        && let Some(trend) = series::trend(level).filter(|t| t.p < TREND_P)
    {
        // A drift that stays within the threshold over the whole level is of no importance.
        let over = trend.slope.abs() * (level.len() - 1) as f64;
        found.trend = (over > (1.0 + max_change).ln()).then(|| trend.slope.exp() - 1.0);
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compare::sample::{A, B, record};

    fn history(values: impl Iterator<Item = f64>) -> Vec<HistoryEntry> {
        let template = entries(&record(&A, &B), Some("abc")).remove(0);
        let make = |(i, v): (usize, f64)| HistoryEntry {
            at: format!("2026-11-{:02}T00:00:00Z", i + 1),
            metrics: BTreeMap::from([("e2e.p99".to_string(), v)]),
            ..template.clone()
        };
        values.enumerate().map(make).collect()
    }
    fn wave(i: usize) -> f64 {
        [0.0, 1.3, -0.7, 0.4, -1.1, 0.9, -0.2, 1.0, -1.4, 0.3][i * 7 % 10]
    }

    #[test]
    fn lines_read_back() {
        let list = entries(&record(&A, &B), Some("abc"));
        assert_eq!(list.len(), 2);
        assert_eq!((list[0].runs, list[0].metrics["e2e.p99"]), (10, 807e3));
        assert!(!list[0].metrics.contains_key("e2e.p99.9"), "20 samples above are too few");
        let text: String = list.iter().map(|e| serde_json::to_string(e).unwrap() + "\n").collect();
        assert_eq!(parse(&text).unwrap(), list);
        assert_eq!(parse("\n{\"schema\":1}\n").unwrap_err().0, 2);
        assert!(parse(&text.replace("history/1", "history/2")).unwrap_err().1.contains("history/2"));
    }

    /// A search is one line with its interval, not a line for each load on its way; another limit
    /// is another series.
    #[test]
    fn a_search_is_one_result_with_its_interval() {
        use crate::compare::capacity::tests::searched_record;
        let of = |record: &Record| entries(record, Some("abc"));
        let record = searched_record(&[1000.0, 1100.0, 1050.0, 1000.0], &[500.0], 0.05);
        let list = of(&record);
        assert_eq!(list.iter().map(|e| e.runs).collect::<Vec<_>>(), [4, 1]);
        assert_eq!(list[0].metrics, BTreeMap::from([("capacity".to_string(), 1025.0)]));
        assert_eq!(list[0].intervals["capacity"], (1000.0, 1100.0 * 1.05));
        let text: String = list.iter().map(|e| serde_json::to_string(e).unwrap() + "\n").collect();
        assert_eq!(parse(&text).unwrap(), list);
        let [first, _] = &judge(&list, &[], 0.05)[..] else { panic!("two series") };
        assert_eq!((first.values[0], first.intervals[0]), (1025.0, Some((1000.0, 1100.0 * 1.05))));
        // The rate that a search found is no setting of it.
        let faster = of(&searched_record(&[2000.0; 4], &[500.0], 0.05));
        assert_eq!(faster[0].series, list[0].series);
        let mut other = record.clone();
        other.plan.search.as_mut().unwrap().width = crate::plan::gate::Share(0.02);
        assert_ne!(of(&other)[0].series, list[0].series);
        // None that ended: it is said so.
        let mut open = record;
        open.searches.iter_mut().for_each(|s| s.bracket.ending = crate::plan::search::Ending::OutOfTrials);
        assert_eq!((of(&open)[0].runs, of(&open)[0].metrics.len()), (0, 0));
    }

    #[test]
    fn a_step_is_suspect_then_confirmed() {
        let step = |n: usize| history((0..n).map(|i| 1e6 * (1.0 + 0.01 * wave(i)) * if i >= 20 { 1.2 } else { 1.0 }));
        let changes = |n: usize| judge(&step(n), &[], 0.05).remove(0).changes;
        assert!(changes(20).is_empty());
        assert_eq!(
            changes(22).iter().map(|c| (c.index, c.state, c.worse)).collect::<Vec<_>>(),
            [(20, ChangeState::Suspect, true)]
        );
        assert!(judge(&step(22), &[], 0.05)[0].unjudged.is_none());
        let after = changes(26);
        assert_eq!((after.len(), after[0].index, after[0].state), (1, 20, ChangeState::Confirmed));
        assert!((after[0].change - 0.2).abs() < 0.02 && after[0].commit.as_deref() == Some("abc"));
        // The same step is of no importance where a quarter is allowed.
        assert!(judge(&step(26), &[], 0.25)[0].changes.is_empty());
    }

    #[test]
    fn a_drift_is_a_trend_and_noise_is_neither() {
        let drift = judge(&history((0..14).map(|i| 1e6 * 1.006f64.powi(i as i32) * (1.0 + 0.001 * wave(i)))), &[], 0.5);
        assert!(drift[0].changes.is_empty() && drift[0].trend.is_none(), "within half nothing matters");
        let steep = judge(&history((0..14).map(|i| 1e6 * 1.03f64.powi(i as i32) * (1.0 + 0.001 * wave(i)))), &[], 0.45);
        assert!(!steep[0].changes.is_empty() || steep[0].trend.is_some_and(|t| (t - 0.03).abs() < 0.005), "{steep:?}");
        let noise = judge(&history((0..40).map(|i| 1e6 * (1.0 + 0.02 * wave(i)))), &[], 0.05);
        assert!(noise[0].changes.is_empty() && noise[0].trend.is_none());
        assert!(judge(&history((0..5).map(|_| 1.0)), &[], 0.05)[0].note.as_ref().unwrap().contains("from 10 on"));
        assert!(judge(&history((0..15).map(|_| 0.0)), &[], 0.05)[0].note.as_ref().unwrap().contains("zero"));
    }

    #[test]
    fn another_machine_or_workload_is_another_series() {
        let one = record(&A, &B);
        let key = |r: &Record| entries(r, None)[0].series.clone();
        let (mut host, mut load, mut named) = (one.clone(), one.clone(), one.clone());
        host.host.cpu = "Another".into();
        load.plan.cases[0].workloads[0].topology.producers = 9;
        named.plan.cases[0].id = "renamed".into();
        named.trials.iter_mut().filter(|t| t.case == "reference").for_each(|t| t.case = "renamed".into());
        assert!(key(&host) != key(&one) && key(&load) != key(&one));
        assert_eq!(key(&named), key(&one));
        let mut all = entries(&one, None);
        all.extend(entries(&host, None));
        let metric = "e2e.p99".parse().unwrap();
        assert_eq!(judge(&all, &[metric], 0.05).len(), 4);
    }

    /// A step by half hides behind a changed setting: the new series has one result, and nothing
    /// judges it.
    #[test]
    fn what_nothing_judges_is_said_and_the_setting_is_named() {
        let metric: Metric = "e2e.p99".parse().unwrap();
        let mut other = record(&A, &B);
        other.plan.cases[0].workloads[0].topology.producers = 9;
        let new = entries(&other, None).remove(0);
        let with = |change: &dyn Fn(&mut HistoryEntry)| {
            let mut all = history((0..20).map(|i| 1e6 * (1.0 + 0.01 * wave(i))));
            let mut last = HistoryEntry { at: "2026-12-01T00:00:00Z".into(), ..all[0].clone() };
            last.metrics = BTreeMap::from([("e2e.p99".to_string(), 1.5e6)]);
            change(&mut last);
            all.push(last);
            judge(&all, std::slice::from_ref(&metric), 0.05).into_iter().filter_map(|s| s.unjudged).collect::<Vec<_>>()
        };
        assert_eq!(with(&|_| ()), [""; 0], "a like result is judged");
        let said = with(&|e| (e.series, e.settings) = (new.series.clone(), new.settings.clone()));
        assert_eq!(said.len(), 1, "the series that ended is not spoken of");
        assert!(said[0].contains("workloads.0.topology.producers is 9 instead of 1"), "{said:?}");
        assert!(said[0].contains("1 of the 10 results"), "{said:?}");
        // Every setting, one at a time.
        let settings = new.settings.clone();
        assert!(settings.len() > 20 && settings.contains_key("machine"), "{settings:?}");
        for key in settings.keys() {
            let said = with(&|e| {
                e.series = format!("another {key}");
                e.settings.insert(key.clone(), "changed".into());
            });
            assert!(said[0].contains(&format!("{key} is changed instead of ")), "{said:?}");
        }
        let said = with(&|e| (e.runs, e.metrics) = (0, BTreeMap::new()));
        assert!(said[0].contains("no valid trial"), "{said:?}");
        let none = HistoryEntry { runs: 0, metrics: BTreeMap::new(), ..new.clone() };
        let alone = judge(&[none], &[], 0.05);
        assert!(alone[0].unjudged.as_ref().unwrap().contains("no valid trial"), "{alone:?}");
        let said = with(&|e| e.metrics = BTreeMap::from([("e2e.p50".to_string(), 1.0)]));
        assert!(said[0].contains("does not have it"), "{said:?}");
        let said = with(&|e| (e.metrics, e.runs) = (BTreeMap::from([("e2e.p99".to_string(), 0.0)]), 1));
        assert!(said[0].contains("zero"), "{said:?}");
        // Lines of an older version name no settings.
        let said = with(&|e| (e.series, e.settings) = ("x".into(), BTreeMap::new()));
        assert!(said[0].contains("a new series began"), "{said:?}");
    }

    #[test]
    fn a_case_without_a_valid_trial_has_a_line() {
        let mut r = record(&A, &B);
        r.trials.iter_mut().filter(|t| t.case == "nats").for_each(|t| t.outcome = Outcome::Partial);
        let list = entries(&r, None);
        assert_eq!((list.len(), list[1].runs, list[1].metrics.len()), (2, 0, 0));
        r.trials.retain(|t| t.case == "reference");
        assert_eq!(entries(&r, None).len(), 1, "what was not run has none");
    }
}
