//! `msgbench report`: renders a result again.

use std::path::PathBuf;

use crate::record::store::{self, Store};
use crate::report::charts::series::RunSeries;

use super::export::Export;
use super::{Exit, Failure, OutputFormat, pretty, print};

/// Arguments of `report`.
#[derive(Debug, clap::Args)]
pub struct ReportArgs {
    /// A result folder, or its run.json
    result: PathBuf,
    /// Folder to write the report into [default: the result folder]
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// What to print: the summary for people, or the record for scripts
    #[arg(long, value_enum, default_value_t)]
    format: OutputFormat,
    /// Print the figures for another program, and write nothing
    #[arg(long, value_enum, value_name = "PROGRAM", conflicts_with = "format")]
    export: Option<Export>,
}

pub(super) fn run(args: &ReportArgs) -> Result<Exit, Failure> {
    let loaded = store::load(&args.result).map_err(Failure::usage)?;
    if let Some(export) = args.export {
        return super::export::run(&args.result, &loaded.record, export);
    }
    let folder = match &args.out {
        Some(out) => out.clone(),
        None if args.result.is_dir() => args.result.clone(),
        None => args.result.parent().map(PathBuf::from).unwrap_or_default(),
    };
    std::fs::create_dir_all(&folder)
        .map_err(|e| Failure::unwritten(format!("cannot create {}: {e}", folder.display())))?;
    let store = Store { dir: folder.clone() };
    // The logs are beside run.json, wherever the report goes.
    let from = if args.result.is_dir() { Some(args.result.as_path()) } else { args.result.parent() };
    let read = |name: &str| std::fs::read(from?.join(name)).ok();
    let series = RunSeries { intervals: &loaded.intervals, read: &read };
    let source = from.map(|f| f.join("run.json").display().to_string()).unwrap_or_default();
    for (name, bytes) in crate::report::files(&loaded.record, &series, &source).map_err(Failure::internal)? {
        store.write_file(&name, &bytes).map_err(Failure::unwritten)?;
    }
    match args.format {
        OutputFormat::Json => print(&pretty(&loaded.record)),
        OutputFormat::Text => {
            let summary = crate::report::pages::text::summary(&loaded.record, super::text_style(false));
            print(&format!("{summary}\nreport: {}", folder.join("report.html").display()))
        }
    }
}
