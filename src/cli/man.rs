//! `msgbench man`: the manual pages, for those who package msgbench.

use std::path::PathBuf;

use clap::CommandFactory;

use super::{Cli, Exit, Failure, print};

/// Arguments of `man`.
#[derive(Debug, clap::Args)]
pub struct ManArgs {
    /// Folder that gets msgbench.1 and a page for each command
    dir: PathBuf,
}

pub(super) fn run(args: &ManArgs) -> Result<Exit, Failure> {
    let failed = |e| Failure::unwritten(format!("cannot write the manual pages into {}: {e}", args.dir.display()));
    std::fs::create_dir_all(&args.dir).map_err(failed)?;
    clap_mangen::generate_to(Cli::command(), &args.dir).map_err(failed)?;
    print(&format!("manual pages: {}; read one with man {0}/msgbench.1", args.dir.display()))
}
