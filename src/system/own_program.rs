//! Where msgbench itself is, to be started as a broker or as what serves a broker's files.

use std::io;
use std::path::{Path, PathBuf};

/// Names the program that is started instead of the running one: a test binary is no broker.
pub(super) const PROGRAM_VARIABLE: &str = "MSGBENCH_BIN";

/// This program, or the one at `explicit`, by an absolute path.
pub(super) fn own_program(explicit: Option<&Path>) -> io::Result<PathBuf> {
    match explicit {
        Some(path) => path.canonicalize(),
        None => std::env::current_exe(),
    }
}
