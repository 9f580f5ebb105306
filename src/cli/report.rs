//! `msgbench report`: renders a result again.

use std::path::PathBuf;

use crate::record::store::{self, Store};
use crate::report::charts::series::RunSeries;
use crate::units::say;

use super::export::Export;
use super::results::{self, QuickResults, ResultsArgs};
use super::{Exit, Failure, OutputFormat, page, pretty, print};

/// Arguments of `report`.
#[derive(Debug, clap::Args)]
pub struct ReportArgs {
    /// A result folder, or its run.json; or latest, previous, or the name of a scenario, for its
    /// newest result
    result: PathBuf,
    #[command(flatten)]
    results: ResultsArgs,
    /// Folder to write the report into [default: the result folder]
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// What to print: the summary for people, or the record for scripts
    #[arg(long, value_enum, default_value_t)]
    format: OutputFormat,
    /// Print the figures for another program, and write nothing
    #[arg(long, value_enum, value_name = "PROGRAM", conflicts_with = "format")]
    export: Option<Export>,
    /// Open the report
    #[arg(long, conflicts_with = "export")]
    open: bool,
    /// Print every percentile, every check that did not hold, and all remarks
    #[arg(long)]
    why: bool,
}

pub(super) fn run(args: &ReportArgs, color: bool) -> Result<Exit, Failure> {
    let result = results::find(&args.result, &args.results.dir, QuickResults::Taken)?;
    let loaded = store::load(&result).map_err(Failure::usage)?;
    if let Some(export) = args.export {
        return super::export::run(&result, &loaded.record, export);
    }
    let folder = match &args.out {
        Some(out) => out.clone(),
        None if result.is_dir() => result.clone(),
        None => result.parent().map(PathBuf::from).unwrap_or_default(),
    };
    std::fs::create_dir_all(&folder)
        .map_err(|e| Failure::unwritten(format!("cannot create {}: {e}", folder.display())))?;
    let store = Store { dir: folder.clone() };
    // The logs are beside run.json, wherever the report goes.
    let from = if result.is_dir() { Some(result.as_path()) } else { result.parent() };
    let read = |name: &str| std::fs::read(from?.join(name)).ok();
    let series = RunSeries { intervals: &loaded.intervals, read: &read };
    let source = from.map(|f| f.join("run.json").display().to_string()).unwrap_or_default();
    for (name, bytes) in crate::report::files(&loaded.record, &series, &source).map_err(Failure::internal)? {
        store.write_file(&name, &bytes).map_err(Failure::unwritten)?;
    }
    let page = folder.join("report.html");
    match args.format {
        OutputFormat::Json => print(&pretty(&loaded.record)),
        OutputFormat::Text => {
            let style = super::text_style(color, args.why);
            let summary = crate::report::pages::text::summary(&loaded.record, style);
            print(&format!("{summary}\nreport: {}", page::link(&page)))
        }
    }?;
    if args.open {
        page::open(&page).unwrap_or_else(|words| say(format_args!("msgbench: {words}")));
    }
    Ok(Exit::Passed)
}
