//! A host that nobody disturbs, for tests that need trials that count.
//!
//! A machine of a CI gives its processors to others, and a trial whose time was stolen is INVALID.
//! What msgbench reads of /proc then stands still.

use std::process::Command;

use tempfile::TempDir;

/// Lets `command` read a /proc in which nothing is stolen, throttled or dropped; the folder must
/// live as long as the command.
pub fn calm(command: &mut Command) -> TempDir {
    let root = tempfile::tempdir().expect("a temporary folder");
    std::fs::create_dir(root.path().join("proc")).expect("an empty folder");
    std::fs::write(root.path().join("proc/stat"), "cpu  10 0 10 60 0 0 0 0 0 0\n").expect("an empty file");
    command.env("MSGBENCH_HOST_ROOT", root.path());
    root
}
