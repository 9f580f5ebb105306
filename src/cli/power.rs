//! `msgbench power-store`: serves one folder that can lose its power, for the msgbench that has
//! started it.

use std::path::PathBuf;

use clap::ValueEnum;

use super::{Exit, Failure};
use crate::system::power::{NameLoss, serve};

/// Arguments of `power-store`.
#[derive(Debug, clap::Args)]
pub struct PowerArgs {
    /// Folder of the host that keeps what is written
    dir: PathBuf,
    /// Folder at which it is served
    at: PathBuf,
    /// Which names a loss of power takes
    #[arg(long, value_enum)]
    names: NameLoss,
}

impl ValueEnum for NameLoss {
    fn value_variants<'a>() -> &'a [Self] {
        &Self::ALL
    }
    fn to_possible_value(&self) -> Option<clap::builder::PossibleValue> {
        Some(clap::builder::PossibleValue::new(self.name()))
    }
}

pub(super) fn run(args: &PowerArgs) -> Result<Exit, Failure> {
    // Whoever has started it ends it.
    // SAFETY: no handler is installed; the signals are ignored.
    unsafe {
        libc::signal(libc::SIGINT, libc::SIG_IGN);
        libc::signal(libc::SIGTERM, libc::SIG_IGN);
    }
    serve(&args.dir, &args.at, args.names).map(|()| Exit::Passed).map_err(Failure::internal)
}
