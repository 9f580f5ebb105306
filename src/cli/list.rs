//! `msgbench list`: past results, newest first.

use std::path::{Path, PathBuf};

use crate::record::{Completion, Record};
use crate::report::words::answer;

use super::results::{self, PastResult};
use super::{Exit, Failure, OutputFormat, color, pretty, print};

/// Arguments of `list`.
#[derive(Debug, clap::Args)]
pub struct ListArgs {
    /// Folder of the results
    #[arg(long, visible_alias = "results", value_name = "DIR", default_value = "results")]
    out: PathBuf,
    /// How to print them
    #[arg(long, value_enum, default_value_t)]
    format: OutputFormat,
}

/// A line of the list.
#[derive(Debug, serde::Serialize)]
struct ListEntry {
    path: PathBuf,
    started_at: Option<String>,
    scenario: Option<String>,
    systems: Vec<String>,
    /// As the report says it: `OK`, `WARN`, `INVALID`, ...; `RUNNING` where the run goes on or
    /// crashed, `DAMAGED` where nothing can be read.
    verdict: String,
    quick: bool,
    /// What is wrong with a damaged one.
    problem: Option<String>,
}

impl ListEntry {
    fn of(found: PastResult) -> Self {
        match found.record {
            Ok(record) => Self {
                path: found.path,
                verdict: word(&record).into(),
                quick: record.quick(),
                systems: record.plan.systems.iter().map(|s| s.name.clone()).collect(),
                started_at: Some(record.started_at),
                scenario: Some(record.plan.name),
                problem: None,
            },
            Err(problem) => Self {
                path: found.path,
                started_at: None,
                scenario: None,
                systems: Vec::new(),
                verdict: "DAMAGED".into(),
                quick: false,
                problem: Some(problem),
            },
        }
    }

    /// What stands beside the path as it is shown; the scenario where that is not its first folder.
    fn words(&self, shown: &str) -> String {
        let quick = if self.quick { ", quick" } else { "" };
        let systems = self.systems.join(", ");
        let what = match (&self.scenario, &self.problem) {
            (Some(scenario), _) if shown.starts_with(&format!("{scenario}/")) => systems,
            (Some(scenario), _) => format!("{scenario}, {systems}"),
            (None, problem) => problem.clone().unwrap_or_default(),
        };
        format!("{}{quick}: {what}", self.verdict)
    }
}

fn word(record: &Record) -> &'static str {
    match (record.completion, answer::of(record)) {
        (Completion::Running, _) => "RUNNING",
        (_, Some(said)) => said.word,
        (_, None) => "EMPTY",
    }
}

pub(super) fn run(args: &ListArgs) -> Result<Exit, Failure> {
    let entries: Vec<ListEntry> = match args.out.exists() {
        true => results::all(&args.out)?.into_iter().map(ListEntry::of).collect(),
        false => Vec::new(),
    };
    if args.format == OutputFormat::Json {
        return print(&pretty(&entries));
    }
    if entries.is_empty() {
        return print(&format!("no result in {}; msgbench run leaves them there", args.out.display()));
    }
    let width = color::width().unwrap_or(usize::MAX);
    let shown = |path: &Path| path.strip_prefix(&args.out).unwrap_or(path).display().to_string();
    let names: Vec<String> = entries.iter().map(|e| shown(&e.path)).collect();
    let longest = names.iter().map(|n| n.chars().count()).max().unwrap_or(0);
    // Half a line for the path at most: what is said of it is what is looked for.
    let width = if longest * 2 > width { width.min(59) } else { width };
    let lines: String =
        names.iter().zip(&entries).map(|(n, e)| color::beside(n, longest, &e.words(n), width)).collect();
    print(&format!("{lines}\nin {}; name one by its path, latest, previous, or its scenario", args.out.display()))
}
