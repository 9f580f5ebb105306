//! No test: the count of tests that were skipped in this run. Cargo runs it after all other test
//! binaries, because they go by name, and shows what it prints, because it is not captured.

#[path = "common/needs.rs"]
mod needs;

use std::io::ErrorKind;
use std::process::ExitCode;

fn main() -> ExitCode {
    // There are no tests to list.
    if std::env::args().any(|arg| arg == "--list") {
        return ExitCode::SUCCESS;
    }
    let file = needs::file();
    let lines = match std::fs::read_to_string(&file) {
        Ok(lines) => lines,
        Err(error) if error.kind() == ErrorKind::NotFound => String::new(),
        Err(error) => {
            eprintln!("what was skipped cannot be read: {}: {error}", file.display());
            return ExitCode::FAILURE;
        }
    };
    println!("\n{}\n", needs::summary(&lines));
    forget(&file);
    ExitCode::SUCCESS
}

/// Removes the file of this run, and those of runs that are over.
fn forget(own: &std::path::Path) {
    for entry in std::fs::read_dir(needs::folder()).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let name = name.to_string_lossy();
        let run = name.split_once('-').and_then(|(pid, start)| Some((pid.parse().ok()?, start.parse().ok()?)));
        let over = run.is_none_or(|(pid, start): (u32, u64)| needs::started(pid) != Some(start));
        if over || entry.path() == own {
            // Another run may have done so.
            let _ = std::fs::remove_file(entry.path());
        }
    }
}
