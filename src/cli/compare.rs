//! `msgbench compare`: two results, or the systems within one; a verdict, and an exit code for a CI
//! job.

use std::path::{Path, PathBuf};

use clap::ValueEnum;

use crate::compare::foreign::{self, LogUnit};
use crate::compare::{self, CompareOptions, Comparison, NamedRecord, NotComparable, PoolError};
use crate::engine::Register;
use crate::plan::gate::{Expectation, Gate};
use crate::record::{Loaded, Record, StoreError, store};
use crate::report::charts::Foot;
use crate::report::charts::series::RunSeries;
use crate::report::export;
use crate::report::pages::comparison as render;
use crate::scenario::gate;

use super::results::{self, QuickResults, ResultsArgs};
use super::unlike::{self, Placed};
use super::{Exit, Failure, pretty, print};

/// Arguments of `compare`.
#[derive(Debug, clap::Args)]
pub struct CompareArgs {
    /// The result to compare with: a folder, or its run.json; or a folder that holds several
    /// results of one scenario, whose trials are taken together; or a result of the OpenMessaging
    /// Benchmark or an HdrHistogram log. Also `latest`, `previous` (the one before it of the same
    /// scenario) or the name of a scenario, for its newest result
    baseline: PathBuf,
    /// The result to compare; without it, the systems within the first are compared with each other
    candidate: Option<PathBuf>,
    #[command(flatten)]
    results: ResultsArgs,
    /// Within one result: compare each system with this one
    #[arg(long, value_name = "SYSTEM", conflicts_with = "candidate")]
    against: Option<String>,
    /// A file with [gate] and [[expect]] tables, instead of those of the scenario; with it the
    /// verdict decides the exit code also where a system is compared with another one (--against;
    /// there a [gate] of the scenario does so, too)
    #[arg(long, value_name = "FILE")]
    gate: Option<PathBuf>,
    /// Compare results of different machines, which compares the machines too
    #[arg(long)]
    across_hosts: bool,
    /// What the values of an HdrHistogram log of another tool count [default: what the log says,
    /// else ns]
    #[arg(long, value_enum, value_name = "UNIT")]
    log_unit: Option<LogUnit>,
    /// Report only: exit with 0 whatever the verdict
    #[arg(long)]
    exit_zero: bool,
    /// Write to this file instead of the terminal
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Write the report as one HTML page into this file as well
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
    /// Write every chart into this folder, as SVG and as PNG of 1600 pixels
    #[arg(long, alias = "png", value_name = "DIR")]
    charts: Option<PathBuf>,
    /// What to print
    #[arg(long, value_enum, default_value_t)]
    format: CompareFormat,
}

/// The formats of a comparison.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
enum CompareFormat {
    /// For people
    #[default]
    Text,
    /// A summary, then everything, for scripts
    Json,
    /// For a pull request or a GitHub step summary
    Markdown,
    /// Test results for a CI server
    Junit,
    /// Annotations for a GitHub job
    Github,
    /// One line for each metric, for a spreadsheet
    Csv,
}

pub(super) fn run(args: &CompareArgs) -> Result<Exit, Failure> {
    let (path_a, path_b) = meant(args)?;
    let baseline = load(&path_a, args.log_unit)?;
    let candidate = path_b.as_deref().map(|path| load(path, args.log_unit)).transpose()?;
    let logs = || std::iter::once(&baseline).chain(&candidate).any(|l| foreign::is_log(&l.record));
    if args.log_unit.is_some() && !logs() {
        return Err(Failure::usage("--log-unit: neither result is an HdrHistogram interval log of another tool"));
    }
    let subject = &candidate.as_ref().unwrap_or(&baseline).record;
    let (gate, expect) = rules(args.gate.as_deref(), subject)?;
    let labels = labels(&path_a, path_b.as_deref());
    let mut named = vec![NamedRecord { label: &labels.0, record: &baseline.record }];
    named.extend(candidate.as_ref().map(|loaded| NamedRecord { label: &labels.1, record: &loaded.record }));
    // Without a baseline none of two systems is worse than it should be. A scenario with a gate
    // whose systems are two builds asks for one by naming it.
    let baseline_named = args.candidate.is_some() || args.against.is_some();
    let asked = args.gate.is_some() || args.against.is_some() && subject.plan.gate.is_some();
    let gated = baseline_named && asked;
    let options = CompareOptions { across_hosts: args.across_hosts, gated };
    let compared = match named[..] {
        [a, b] => compare::records(a, b, &gate, options),
        _ => compare::systems(named[0], args.against.as_deref(), &gate, options),
    };
    let unlike = |error| match (error, &candidate) {
        (NotComparable::Workload(changes), Some(other)) => {
            let of = |path, record| Placed { path, record };
            let b = of(path_b.as_deref().unwrap_or(&path_a), &other.record);
            unlike::workloads(&changes, &of(&path_a, &baseline.record), &b, &args.results.dir)
        }
        (error, _) => Failure::usage(error),
    };
    let comparison = compared.map_err(unlike)?.with_expectations(compare::expectations(subject, &expect));
    let text = output(&comparison, args.format)?;
    let write = |path: &Path, text: String| {
        std::fs::write(path, text).map_err(|e| Failure::unwritten(format!("cannot write {}: {e}", path.display())))
    };
    let read = |path: &str| std::fs::read(path).ok();
    let all = std::iter::once(&baseline).chain(&candidate);
    let series: Vec<RunSeries<'_>> = all.map(|l| RunSeries { intervals: &l.intervals, read: &read }).collect();
    if let Some(path) = &args.html {
        let command = std::env::args().collect::<Vec<_>>().join(" ");
        write(path, render::html::page(&comparison, &named, &series, &command))?;
    }
    if let Some(dir) = &args.charts {
        super::write_charts(dir, &render::html::drawn(&comparison, &named, &series), &Foot::of(subject, &labels.1))?;
    }
    match &args.out {
        Some(path) => write(path, text)?,
        None => {
            print(&text)?;
        }
    }
    Ok(if args.exit_zero { Exit::Passed } else { Exit::of_code(comparison.overall.exit_code) })
}

/// The two results. Of `latest` and `previous` the older one is the baseline, in whatever order
/// they are named.
fn meant(args: &CompareArgs) -> Result<(PathBuf, Option<PathBuf>), Failure> {
    let find = |path: &PathBuf| results::find(path, &args.results.dir, QuickResults::LeftOut);
    let (a, b) = (find(&args.baseline)?, args.candidate.as_ref().map(find).transpose()?);
    let word = |given: &Path, word: &str| given == Path::new(word) && !given.exists();
    let newest_first = word(&args.baseline, "latest") && args.candidate.as_deref().is_some_and(|c| word(c, "previous"));
    let (a, b) = match b {
        Some(b) if newest_first => (b, Some(a)),
        b => (a, b),
    };
    let named = |given: &Path, found: &Path| given != found;
    if named(&args.baseline, &a) || args.candidate.as_deref().zip(b.as_deref()).is_some_and(|(g, f)| named(g, f)) {
        let what = match &b {
            Some(b) => format!("baseline {}, candidate {}", a.display(), b.display()),
            None => format!("the systems in {}", a.display()),
        };
        crate::units::say(format_args!("msgbench: compared: {what}"));
    }
    Ok((a, b))
}

/// A result, or all results in a folder taken together, without those of `--quick`.
fn load(path: &Path, unit: Option<LogUnit>) -> Result<Loaded, Failure> {
    if !path.is_dir() || path.join("run.json").exists() {
        return one(path, unit);
    }
    let mut found = results_in(path)?;
    found = results::without_quick(found, path)?;
    let records = found.iter().map(|path| one(path, unit)).collect::<Result<Vec<_>, _>>()?;
    compare::pool(records).map_err(|error| match error {
        PoolError::Different { what: "workload", .. } => unlike::folder(&error.to_string(), path, &found),
        error => Failure::usage(format!("{}: {error}", path.display())),
    })
}

/// DIR/<time> and DIR/<scenario>/<time>, as `run --out` leaves them; or files of another tool in
/// DIR.
pub(super) fn results_in(path: &Path) -> Result<Vec<PathBuf>, Failure> {
    let mut found = Vec::new();
    let mut open = vec![(path.to_path_buf(), 0)];
    while let Some((folder, depth)) = open.pop() {
        if folder.join("run.json").exists() {
            found.push(folder);
            continue;
        }
        let read = std::fs::read_dir(&folder);
        let read = read.map_err(|e| Failure::usage(format!("cannot read {}: {e}", folder.display())))?;
        let mut entries: Vec<PathBuf> = read.filter_map(Result::ok).map(|e| e.path()).collect();
        entries.sort();
        for entry in entries {
            if entry.is_dir() && depth < 2 {
                open.push((entry, depth + 1));
            } else if depth == 0 && entry.extension().is_some_and(|e| e == "json" || e == "hlog") {
                found.push(entry);
            }
        }
    }
    Ok(found)
}

/// A result folder, its run.json, or a file of another tool. Interval logs are named by their whole
/// path, because results of several folders may be taken together.
fn one(path: &Path, unit: Option<LogUnit>) -> Result<Loaded, Failure> {
    let folder = if path.is_dir() { path } else { path.parent().unwrap_or(Path::new("")) };
    let own = store::load(path).map(|mut loaded| {
        let logs = loaded.record.trials.iter_mut().filter_map(|t| t.hlog.as_mut());
        logs.for_each(|log| *log = folder.join(&log).to_string_lossy().into_owned());
        loaded
    });
    match own {
        Err(StoreError::Format { .. }) if path.is_file() => {
            let bytes =
                std::fs::read(path).map_err(|e| Failure::usage(format!("cannot read {}: {e}", path.display())))?;
            let name = path.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
            let foreign = foreign::read(&name, &bytes, unit);
            let record = foreign.map_err(|e| Failure::usage(format!("cannot read {}: {e}", path.display())))?;
            Ok(Loaded { record, intervals: Vec::new() })
        }
        own => own.map_err(Failure::usage),
    }
}

/// The tables of the gate file, else those of the scenario that was measured.
fn rules(file: Option<&Path>, record: &Record) -> Result<(Gate, Vec<Expectation>), Failure> {
    match file {
        Some(path) => gate::load(path, &record.plan, &Register::built_in().types(), !foreign::is_foreign(record))
            .map_err(Failure::usage),
        None => Ok((record.plan.gate.clone().unwrap_or_default(), record.plan.expect.clone())),
    }
}

/// The names of the folders; with as much of the path as tells them apart.
fn labels(a: &Path, b: Option<&Path>) -> (String, String) {
    let parts = |p: &Path| -> Vec<String> {
        let folder = if p.file_name().is_some_and(|n| n == "run.json") { p.parent().unwrap_or(p) } else { p };
        let absolute = folder.canonicalize().unwrap_or_else(|_| folder.to_path_buf());
        absolute.components().map(|c| c.as_os_str().to_string_lossy().into_owned()).collect()
    };
    let (a, b) = (parts(a), b.map(parts).unwrap_or_default());
    let tail = |p: &[String], n: usize| p[p.len().saturating_sub(n)..].join("/");
    let n = (1..=a.len().max(b.len())).find(|n| tail(&a, *n) != tail(&b, *n)).unwrap_or(1);
    (tail(&a, n), tail(&b, n))
}

fn output(c: &Comparison, format: CompareFormat) -> Result<String, Failure> {
    Ok(match format {
        CompareFormat::Text => render::text::page(c),
        CompareFormat::Json => pretty(&export::summary::of_comparison(c.clone())),
        CompareFormat::Markdown => render::markdown::page(c),
        CompareFormat::Github => export::github::page(c),
        CompareFormat::Junit => export::junit::page(c).map_err(Failure::internal)?,
        CompareFormat::Csv => export::csv::page(c).map_err(Failure::internal)?,
    })
}
