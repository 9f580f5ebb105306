//! `msgbench history`: results over time in one file; trends, and where a level changed.

use std::io::Write;
use std::path::PathBuf;

use crate::compare::history::{self, ChangeState, HistoryEntry, MetricSeries};
use crate::plan::gate::Share;
use crate::plan::metric::{Metric, Quantity, Statistic};
use crate::record::store;
use crate::report::charts::{self, Foot};
use crate::units::say;

use super::results::{self, QuickResults, ResultsArgs};
use super::{Exit, Failure, OutputFormat, pretty, print};

/// Arguments of `history`.
#[derive(Debug, clap::Args)]
pub struct HistoryArgs {
    /// The history file: one JSON object a line; it is made when a result is added
    file: PathBuf,
    /// Append this result first (a folder, its run.json, latest, previous, or the name of a
    /// scenario), or all results in this folder but those of --quick; may be given several times
    #[arg(long = "add", value_name = "RESULT")]
    add: Vec<PathBuf>,
    #[command(flatten)]
    results: ResultsArgs,
    /// What the added results measured, such as a commit
    #[arg(long, value_name = "NAME", requires = "add")]
    commit: Option<String>,
    /// Only these metrics [default: p50 and p99 of every latency,
    /// throughput.delivered, capacity]
    #[arg(long = "metric", value_name = "METRIC")]
    metrics: Vec<Metric>,
    /// The largest change that is of no practical importance
    #[arg(long, value_name = "SHARE", default_value = "5%")]
    max_change: Share,
    /// Draw a chart for each metric into this folder
    #[arg(long, value_name = "DIR")]
    charts: Option<PathBuf>,
    /// Write one HTML page with the table and all charts into this file
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
    /// Exit with 3 when the last level of a metric is confirmed to be worse than the one before,
    /// and with 5 when nothing judges the latest result: a changed setting began a new series, or
    /// no trial of it is valid
    #[arg(long)]
    gate: bool,
    /// With --gate: what the exit code says of a latest result that nothing judges
    #[arg(long, value_enum, value_name = "POLICY", default_value_t, requires = "gate")]
    on_unjudged: Unjudged,
    /// What to print
    #[arg(long, value_enum, default_value_t)]
    format: OutputFormat,
}

/// What the exit code says of a result that nothing judges.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
enum Unjudged {
    /// Nothing: it is said, and the exit code is 0
    Warn,
    /// Exit with 5
    #[default]
    Fail,
}

pub(super) fn run(args: &HistoryArgs, color: bool) -> Result<Exit, Failure> {
    if !(args.max_change.0 > 0.0 && args.max_change.0 <= 10.0) {
        return Err(Failure::usage(format!("--max-change: {} is not above 0% and up to 1000%", args.max_change)));
    }
    let mut entries = read(args)?;
    for path in &added(args)? {
        let record = store::record(path).map_err(Failure::usage)?;
        let mut new = history::entries(&record, args.commit.as_deref());
        if new.iter().all(|e| e.runs == 0) && !args.gate {
            return Err(Failure::new(
                Exit::Invalid,
                format!("{} has no valid trial: nothing is added", path.display()),
            ));
        }
        // A result that is there already is not counted twice.
        let all = new.len();
        new.retain(|n| !entries.iter().any(|e| (&e.at, &e.case, &e.series) == (&n.at, &n.case, &n.series)));
        if new.len() < all {
            let what = if new.is_empty() { "it" } else { "a part of it" };
            say(format_args!("msgbench: {} is not added: {what} stands in the history already", path.display()));
        }
        append(args, &new)?;
        entries.extend(new);
    }
    let list: Vec<MetricSeries> = history::judge(&entries, &args.metrics, args.max_change.0)
        .into_iter()
        .filter(|s| !args.metrics.is_empty() || usual(&s.metric))
        .collect();
    for metric in &args.metrics {
        if !list.iter().any(|s| s.metric == *metric) {
            let mut known: Vec<String> = entries.iter().flat_map(|e| e.metrics.keys().cloned()).collect();
            known.sort_unstable();
            known.dedup();
            return Err(Failure::usage(format!(
                "no result in {} has the metric `{metric}`; there are {}",
                args.file.display(),
                known.join(", ")
            )));
        }
    }
    if list.is_empty() && args.gate {
        return Err(Failure::usage(format!("{} has no result to judge; add one with --add", args.file.display())));
    }
    if let Some(dir) = &args.charts {
        let date = list.iter().flat_map(|s| s.at.last()).max().cloned().unwrap_or_default();
        let source = args.file.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
        let foot = Foot { date, source, ..Foot::default() };
        super::write_charts(dir, &charts::history::charts(&list), &foot)?;
    }
    if let Some(path) = &args.html {
        std::fs::write(path, crate::report::pages::history::html(&list))
            .map_err(|e| Failure::unwritten(format!("cannot write {}: {e}", path.display())))?;
    }
    match args.format {
        OutputFormat::Json => print(&pretty(&list))?,
        OutputFormat::Text => print(&crate::report::pages::history::page(&list, super::text_style(color, false)))?,
    };
    // A regression does not end because a setting changed: not before the new series is judged.
    let worse = |s: &MetricSeries| {
        history::stands(&list, s) && s.changes.last().is_some_and(|c| c.worse && c.state == ChangeState::Confirmed)
    };
    let open = args.on_unjudged == Unjudged::Fail && list.iter().any(|s| s.unjudged.is_some());
    Ok(match () {
        () if args.gate && list.iter().any(worse) => Exit::Regressed,
        () if args.gate && open => Exit::Inconclusive,
        () => Exit::Passed,
    })
}

/// The results to add, those of a folder in the order in which they were made.
fn added(args: &HistoryArgs) -> Result<Vec<PathBuf>, Failure> {
    let mut all = Vec::new();
    for given in &args.add {
        let path = results::find(given, &args.results.dir, QuickResults::LeftOut)?;
        if !path.is_dir() || path.join("run.json").exists() {
            all.push(path);
            continue;
        }
        let mut found = results::without_quick(super::compare::results_in(&path)?, &path)?;
        if found.is_empty() {
            return Err(Failure::usage(format!("there is no result in {}", path.display())));
        }
        // The names of their folders are times.
        found.sort_by(|a, b| a.file_name().cmp(&b.file_name()));
        all.extend(found);
    }
    Ok(all)
}

fn usual(metric: &Metric) -> bool {
    let usual = |q: f64| [0.5, 0.99].iter().any(|u| (u - q).abs() < 1e-9);
    match &metric.quantity {
        Quantity::Latency(kind, Statistic::Quantile(q)) => usual(*q) && !kind.ends_with(".service"),
        Quantity::Hiccup(Statistic::Quantile(q)) => usual(*q),
        Quantity::Throughput(field) => field == "delivered",
        Quantity::Capacity => true,
        _ => false,
    }
}

fn read(args: &HistoryArgs) -> Result<Vec<HistoryEntry>, Failure> {
    let path = &args.file;
    let text = match std::fs::read_to_string(path) {
        Ok(text) => text,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound && !args.add.is_empty() => String::new(),
        Err(e) => {
            return Err(Failure::usage(format!("cannot read {}: {e}; add a first result with --add", path.display())));
        }
    };
    history::parse(&text).map_err(|(line, problem)| Failure::usage(format!("{}:{line}: {problem}", path.display())))
}

/// Appends whole lines in one write, and syncs.
fn append(args: &HistoryArgs, new: &[HistoryEntry]) -> Result<(), Failure> {
    let mut lines = String::new();
    for entry in new {
        lines.push_str(&serde_json::to_string(entry).map_err(Failure::internal)?);
        lines.push('\n');
    }
    let mut file = std::fs::OpenOptions::new().create(true).append(true).open(&args.file);
    let written = file
        .as_mut()
        .map_err(|e| e.to_string())
        .and_then(|f| f.write_all(lines.as_bytes()).and_then(|()| f.sync_all()).map_err(|e| e.to_string()));
    written.map_err(|e| Failure::unwritten(format!("cannot write {}: {e}", args.file.display())))
}
