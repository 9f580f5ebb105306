//! One result for other programs: OpenMetrics for Prometheus, github-action-benchmark, Bencher.
//! Pure functions.
//!
//! Values are medians over the valid trials; a case without one is left out, because none of the
//! formats can say INVALID. Percentiles with fewer than 10 samples above them are left out too.

use std::collections::BTreeMap;
use std::fmt::Write;

use hdrhistogram::Histogram;
use serde_json::{Map, Value, json};

use crate::record::{Headlines, LatencySummary, Record, Trial, WorkloadResult};
use crate::report::words::view::{quantile_name, trials, usable, widest_clocks};
use crate::stats::{median, shift::median_interval};

/// A distribution of response latencies for [`openmetrics`].
#[derive(Debug, Clone)]
pub struct Distribution {
    /// `Case::id`.
    pub case: String,
    /// `Workload::name`.
    pub workload: String,
    /// Latencies in nanoseconds of all valid trials.
    pub histogram: Histogram<u64>,
}

/// Upper bounds of the buckets in nanoseconds: 1, 2.5 and 5 times each power of ten from 1 us to 10
/// s.
fn bounds() -> Vec<u64> {
    let steps = |power: u32| [10u64, 25, 50].map(|m| m * 10u64.pow(power) / 10);
    (3..=9).flat_map(steps).chain([10_000_000_000]).collect()
}

/// A float as OpenMetrics writes it: `0.001`, `1.0`.
fn canonical(value: f64) -> String {
    let text = format!("{value}");
    if text.contains(['.', 'e', 'i', 'N']) { text } else { format!("{text}.0") }
}

/// A label value: backslash, quote and line feed escaped.
fn label(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

struct BencherSeries<'a> {
    case: &'a str,
    system: &'a str,
    workload: &'a str,
    trials: Vec<&'a Trial>,
    index: usize,
    heads: Headlines,
}

impl BencherSeries<'_> {
    fn labels(&self, record: &Record) -> String {
        format!(
            "scenario=\"{}\",system=\"{}\",case=\"{}\",workload=\"{}\"",
            label(&record.plan.name),
            label(self.system),
            label(self.case),
            label(self.workload)
        )
    }
    fn latencies(&self) -> Vec<&LatencySummary> {
        let all = self.trials.iter();
        all.filter_map(|t| self.heads.latency(self.index, t.workloads.get(self.index)?)).map(|(_, l)| l).collect()
    }
    /// (median, 95 % interval) of a quantile in nanoseconds; infinite where messages were lost.
    fn quantile(&self, q: f64) -> Option<(f64, Option<(f64, f64)>)> {
        let all = self.latencies();
        let found: Vec<_> = all.iter().filter_map(|l| l.at(q)).collect();
        if found.is_empty() || found.iter().any(|p| !p.firm()) {
            return None;
        }
        let values: Vec<f64> = found.iter().map(|p| p.value_ns.map_or(f64::INFINITY, |v| v as f64)).collect();
        let (value, interval) = (median(&values)?, median_interval(&values, 0.95));
        let Some(doubt) = widest_clocks(all) else { return Some((value, interval)) };
        // What two clocks leave open is in the interval, also in that of one run.
        let bound = doubt.bound_ns.map_or(f64::INFINITY, |ns| ns as f64);
        let (low, high) = interval.unwrap_or((value, value));
        Some((value, Some(((low - bound).max(0.0), high + bound))))
    }
    fn delivered(&self) -> Option<(f64, Option<(f64, f64)>)> {
        let values: Vec<f64> =
            self.trials.iter().filter_map(|t| Some(t.workloads.get(self.index)?.throughput.delivered)).collect();
        Some((median(&values)?, median_interval(&values, 0.95)))
    }
    fn name(&self, record: &Record) -> String {
        let streams = record.plan.cases.iter().find(|c| c.id == self.case).map_or(1, |c| c.workloads.len());
        let tail = if streams > 1 { format!("/{}", self.workload) } else { String::new() };
        format!("{}/{}{tail}", record.plan.name, self.case)
    }
}

fn series(record: &Record) -> Vec<BencherSeries<'_>> {
    let of = |c: &'_ crate::plan::Case| c.workloads.len();
    let (mut list, heads) = (Vec::new(), Headlines::of([record]));
    for case in &record.plan.cases {
        for index in 0..of(case) {
            let trials: Vec<&Trial> = trials(record, &case.id).filter(|t| usable(t)).collect();
            if !trials.is_empty() {
                let system = record.plan.systems.get(case.system).map_or("", |s| s.name.as_str());
                list.push(BencherSeries {
                    case: &case.id,
                    system,
                    workload: &case.workloads[index].name,
                    trials,
                    index,
                    heads: heads.clone(),
                });
            }
        }
    }
    list
}

/// OpenMetrics 1.0 text: histograms of the response latency, exact quantiles as a family of their
/// own (the standard discourages them inside a histogram), throughput and lost messages. Seconds;
/// ends with `# EOF`. Source: OpenMetrics 1.0 specification.
pub fn openmetrics(record: &Record, distributions: &[Distribution]) -> String {
    let all = series(record);
    let mut out = String::new();
    let head = |out: &mut String, name: &str, kind: &str, unit: &str, help: &str| {
        let _ = write!(out, "# TYPE {name} {kind}\n# UNIT {name} {unit}\n# HELP {name} {help}\n");
    };
    if !distributions.is_empty() {
        let name = "msgbench_response_seconds";
        head(&mut out, name, "histogram", "seconds", "Response time from the intended instant of sending.");
        for s in &all {
            let Some(d) = distributions.iter().find(|d| d.case == s.case && d.workload == s.workload) else { continue };
            let labels = s.labels(record);
            for bound in bounds() {
                let below = d.histogram.iter_recorded().take_while(|v| v.value_iterated_to() <= bound);
                let count: u64 = below.map(|v| v.count_since_last_iteration()).sum();
                let _ = writeln!(out, "{name}_bucket{{{labels},le=\"{}\"}} {count}", canonical(bound as f64 / 1e9));
            }
            let total = d.histogram.len();
            let _ = writeln!(out, "{name}_bucket{{{labels},le=\"+Inf\"}} {total}");
            let _ = writeln!(out, "{name}_count{{{labels}}} {total}");
            let _ = writeln!(out, "{name}_sum{{{labels}}} {}", canonical(d.histogram.mean() * total as f64 / 1e9));
        }
    }
    let name = "msgbench_response_quantile_seconds";
    head(
        &mut out,
        name,
        "gauge",
        "seconds",
        "Quantiles of the response time, median over runs with its 95 % interval.",
    );
    for s in &all {
        for q in &record.plan.percentiles {
            let Some((value, interval)) = s.quantile(*q) else { continue };
            let bounds = interval.map(|(l, h)| [("lower", l), ("upper", h)]);
            for (bound, value) in std::iter::once(("estimate", value)).chain(bounds.into_iter().flatten()) {
                let value = if value.is_infinite() { "+Inf".into() } else { canonical(value / 1e9) };
                let _ = writeln!(
                    out,
                    "{name}{{{},quantile=\"{}\",bound=\"{bound}\"}} {value}",
                    s.labels(record),
                    canonical(*q)
                );
            }
        }
    }
    let _ = write!(
        out,
        "# TYPE msgbench_delivered_rate gauge\n# HELP msgbench_delivered_rate Messages delivered per second, median over runs.\n"
    );
    for s in &all {
        if let Some((value, _)) = s.delivered() {
            let _ = writeln!(out, "msgbench_delivered_rate{{{}}} {}", s.labels(record), canonical(value));
        }
    }
    let _ = write!(
        out,
        "# TYPE msgbench_lost_messages gauge\n# UNIT msgbench_lost_messages messages\n# HELP msgbench_lost_messages Deliveries owed and never made, all runs.\n"
    );
    for s in &all {
        let lost: u64 = s.trials.iter().filter_map(|t| t.workloads.get(s.index)).map(WorkloadResult::lost).sum();
        let _ = writeln!(out, "msgbench_lost_messages{{{}}} {lost}", s.labels(record));
    }
    out.push_str("# EOF\n");
    out
}

/// An array for github-action-benchmark: `customSmallerIsBetter` (latencies) or
/// `customBiggerIsBetter` (throughput); one file for each direction. Its schema has no infinity, so
/// a percentile among lost messages is left out. Source: benchmark-action/github-action-benchmark,
/// `extract.ts`.
pub fn benchmark_action(record: &Record, smaller: bool) -> Value {
    let mut list = Vec::new();
    for s in series(record) {
        let extra = format!("n={} runs, {}, msgbench {}", s.trials.len(), record.started_at, record.tool.version);
        let mut add = |name: String, unit: &str, scale: f64, found: (f64, Option<(f64, f64)>)| {
            if !found.0.is_finite() {
                return;
            }
            let mut entry = json!({"name": name, "unit": unit, "value": found.0 / scale, "extra": extra});
            if let Some((l, h)) = found.1.filter(|i| i.1.is_finite()) {
                entry["range"] = json!(format!("{}-{}", l / scale, h / scale));
            }
            list.push(entry);
        };
        if smaller {
            for q in &record.plan.percentiles {
                if let Some(found) = s.quantile(*q) {
                    add(format!("{}/{}", s.name(record), quantile_name(*q)), "us", 1e3, found);
                }
            }
        } else if let Some(found) = s.delivered() {
            add(format!("{}/delivered", s.name(record)), "msg/s", 1.0, found);
        }
    }
    Value::Array(list)
}

/// Bencher Metric Format: `latency` is p99 in nanoseconds, `throughput` in messages per second;
/// every percentile also under a slug of its own, `latency-p99-9-ns`. Source: bencher.dev/bmf.json.
pub fn bencher(record: &Record) -> Value {
    let mut all = Map::new();
    for s in series(record) {
        let mut measures: BTreeMap<String, Value> = BTreeMap::new();
        let metric = |(value, interval): (f64, Option<(f64, f64)>)| {
            let mut metric = json!({ "value": value });
            if let Some((l, h)) = interval.filter(|i| i.1.is_finite()) {
                metric["lower_value"] = json!(l);
                metric["upper_value"] = json!(h);
            }
            metric
        };
        for q in &record.plan.percentiles {
            let Some(found) = s.quantile(*q).filter(|f| f.0.is_finite()) else { continue };
            measures.insert(format!("latency-{}-ns", quantile_name(*q).replace('.', "-")), metric(found));
            if (q - 0.99).abs() < 1e-9 {
                measures.insert("latency".into(), metric(found));
            }
        }
        if let Some(found) = s.delivered() {
            measures.insert("throughput".into(), metric(found));
        }
        all.insert(s.name(record), json!(measures));
    }
    Value::Object(all)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compare::sample::{A, B, record};

    #[test]
    fn other_programs_can_read_it() {
        let r = record(&A, &B);
        let mut histogram = Histogram::new(3).unwrap();
        (1..=1000u64).for_each(|v| histogram.record(v * 1000).unwrap());
        let d = Distribution { case: "nats".into(), workload: "main".into(), histogram };
        let text = openmetrics(&r, &[d]);
        insta::assert_snapshot!("openmetrics", text);
        assert!(text.ends_with("# EOF\n") && !text.contains('\r'));
        insta::assert_snapshot!("benchmark_action", serde_json::to_string_pretty(&benchmark_action(&r, true)).unwrap());
        assert_eq!(benchmark_action(&r, false).as_array().unwrap().len(), 2);
        insta::assert_snapshot!("bencher", serde_json::to_string_pretty(&bencher(&r)).unwrap());
    }

    #[test]
    fn buckets_are_cumulative_and_canonical() {
        let b = bounds();
        assert!(b.windows(2).all(|w| w[0] < w[1]) && b[0] == 1000 && b[b.len() - 1] == 10_000_000_000);
        assert_eq!([0.001, 1.0, 0.0000025].map(canonical), ["0.001", "1.0", "0.0000025"]);
        assert_eq!(label("a\"b\\c\n"), "a\\\"b\\\\c\\n");
    }

    #[test]
    fn what_is_infinite_or_invalid_is_left_out() {
        let mut r = record(&A, &[f64::INFINITY; 10]);
        let names = |r: &Record| {
            benchmark_action(r, true).as_array().unwrap().iter().map(|e| e["name"].to_string()).collect::<Vec<_>>()
        };
        assert!(!names(&r).iter().any(|n| n.contains("nats/p99")) && names(&r).iter().any(|n| n.contains("nats/p50")));
        assert!(openmetrics(&r, &[]).contains("+Inf"));
        r.trials.iter_mut().for_each(|t| t.outcome = crate::record::Outcome::Partial);
        assert!(names(&r).is_empty() && bencher(&r).as_object().unwrap().is_empty());
    }
}
