//! `msgbench report --export`: one result in the format of another program.

use std::path::{Path, PathBuf};

use clap::ValueEnum;

use crate::record::{Headlines, Record, hlog};
use crate::report::export::result as export;
use crate::report::export::result::Distribution;
use crate::report::words::view::usable;

use super::{Exit, Failure, pretty, print};

/// The formats of other programs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Export {
    /// OpenMetrics 1.0, for Prometheus
    Openmetrics,
    /// github-action-benchmark, tool customSmallerIsBetter: latencies
    BenchmarkSmaller,
    /// github-action-benchmark, tool customBiggerIsBetter: throughput
    BenchmarkBigger,
    /// Bencher Metric Format
    Bencher,
}

pub(super) fn run(result: &Path, record: &Record, format: Export) -> Result<Exit, Failure> {
    let folder =
        if result.is_dir() { result.to_path_buf() } else { result.parent().map(PathBuf::from).unwrap_or_default() };
    if !record.trials.iter().any(usable) {
        let words = format!("{} has no valid trial: there is nothing to export", result.display());
        return Err(Failure::new(Exit::Invalid, words));
    }
    let text = match format {
        Export::Openmetrics => export::openmetrics(record, &distributions(&folder, record)?),
        Export::BenchmarkSmaller => pretty(&export::benchmark_action(record, true)),
        Export::BenchmarkBigger => pretty(&export::benchmark_action(record, false)),
        Export::Bencher => pretty(&export::bencher(record)),
    };
    print(&text)
}

/// The response latencies of each case and workload, over all valid trials, from the interval logs.
fn distributions(folder: &Path, record: &Record) -> Result<Vec<Distribution>, Failure> {
    let (mut list, heads): (Vec<Distribution>, _) = (Vec::new(), Headlines::of([record]));
    for trial in record.trials.iter().filter(|t| usable(t)) {
        // The name comes from a file: it must stay within the folder.
        let Some(name) = trial.hlog.as_deref().filter(|n| !n.contains(['/', '\\'])) else { continue };
        let path = folder.join(name);
        let bytes = std::fs::read(&path).map_err(|e| Failure::usage(format!("cannot read {}: {e}", path.display())))?;
        let log = hlog::read(&bytes).map_err(|e| Failure::usage(format!("{}: {e}", path.display())))?;
        for (index, workload) in trial.workloads.iter().enumerate() {
            let Some((kind, _)) = heads.latency(index, workload) else { continue };
            let tag = if trial.workloads.len() > 1 { format!("{}/{kind}", workload.name) } else { kind.to_string() };
            let Some(histogram) = hlog::merged(&log, &tag) else { continue };
            match list.iter_mut().find(|d| d.case == trial.case && d.workload == workload.name) {
                Some(d) => {
                    d.histogram.add(&histogram).map_err(|e| Failure::internal(format!("{}: {e}", path.display())))?
                }
                None => {
                    list.push(Distribution { case: trial.case.clone(), workload: workload.name.clone(), histogram })
                }
            }
        }
    }
    Ok(list)
}
