//! Past results: which there are, and which one a word means.

use std::path::{Path, PathBuf};

use crate::record::{Record, store};
use crate::units::say;

use super::Failure;

/// Where past results are looked for.
#[derive(Debug, Clone, clap::Args)]
pub struct ResultsArgs {
    /// Folder that `latest`, `previous` and names of scenarios are looked for in
    #[arg(long = "results", value_name = "DIR", default_value = "results")]
    pub(super) dir: PathBuf,
}

/// A folder of a result.
#[derive(Debug)]
pub(super) struct PastResult {
    pub(super) path: PathBuf,
    /// Its record, or why it cannot be read.
    pub(super) record: Result<Record, String>,
}

impl PastResult {
    fn read(path: PathBuf) -> Self {
        let record = store::record(&path).map_err(|e| e.to_string());
        Self { path, record }
    }

    /// The digits of its start, for the order; of a damaged one those of the name of its folder.
    fn order(&self) -> String {
        let name = || self.path.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
        let at = self.record.as_ref().map_or_else(|_| name(), |r| r.started_at.clone());
        at.chars().filter(char::is_ascii_digit).collect()
    }

    fn quick(&self) -> bool {
        self.record.as_ref().is_ok_and(Record::quick)
    }
}

/// Deepest folder of a result: DIR/<scenario>/<time>.
const DEPTH: usize = 2;

/// The folders of results below `dir`, newest first. A folder that has the name of a time and no
/// record is among them.
pub(super) fn all(dir: &Path) -> Result<Vec<PastResult>, Failure> {
    let mut found = Vec::new();
    let mut open = vec![(dir.to_path_buf(), 0)];
    while let Some((folder, depth)) = open.pop() {
        let time = folder.file_name().is_some_and(|n| named_by_time(&n.to_string_lossy()));
        if folder.join("run.json").exists() || (depth > 0 && time) {
            found.push(PastResult::read(folder));
            continue;
        }
        let entries = match std::fs::read_dir(&folder) {
            Ok(entries) => entries,
            Err(e) if depth > 0 => {
                found.push(PastResult { record: Err(format!("cannot read {}: {e}", folder.display())), path: folder });
                continue;
            }
            Err(e) => {
                let words = format!("cannot read {}: {e}; name the folder of the results", folder.display());
                return Err(Failure::usage(words));
            }
        };
        if depth < DEPTH {
            open.extend(entries.flatten().map(|e| e.path()).filter(|p| p.is_dir()).map(|p| (p, depth + 1)));
        }
    }
    // Of one second, `-10` comes after `-2`.
    found.sort_by_cached_key(|r| std::cmp::Reverse((r.order(), r.path.as_os_str().len(), r.path.clone())));
    Ok(found)
}

/// `2026-11-23T11-50-00Z`, with or without a number after it.
fn named_by_time(name: &str) -> bool {
    let shape = |(i, c): (usize, char)| match i {
        4 | 7 | 13 | 16 => c == '-',
        10 => c == 'T',
        19 => c == 'Z',
        _ => c.is_ascii_digit(),
    };
    name.chars().count() >= 20 && name.chars().take(20).enumerate().all(shape)
}

/// Whether results of `--quick` count where a word is resolved.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum QuickResults {
    Taken,
    LeftOut,
}

/// What an argument means: a path, where there is one; else `latest`, `previous`, or the newest
/// result of a scenario.
pub(super) fn find(name: &Path, dir: &Path, quick: QuickResults) -> Result<PathBuf, Failure> {
    if name.exists() {
        return Ok(name.to_path_buf());
    }
    let word = match name.to_str() {
        Some(word) if !word.contains(['/', '\\', '.']) => word,
        _ => return Err(Failure::usage(format!("there is no {}", name.display()))),
    };
    if !dir.is_dir() {
        let words = format!("there is no {word}, and no folder {} to look for results in", dir.display());
        return Err(Failure::usage(words));
    }
    let found = all(dir)?;
    let readable: Vec<(&PastResult, &Record)> =
        found.iter().filter_map(|r| Some((r, r.record.as_ref().ok()?))).filter(|(_, r)| !r.trials.is_empty()).collect();
    let (kept, left): (Vec<_>, Vec<_>) =
        readable.iter().partition(|(_, record)| quick == QuickResults::Taken || !record.quick());
    let of = |name: &str| kept.iter().find(|(_, r)| r.plan.name == name).copied();
    let latest = kept.first().copied();
    let chosen = match word {
        "latest" => latest,
        "previous" => latest.and_then(|(newest, record)| {
            kept.iter().find(|(r, of)| of.plan.name == record.plan.name && r.path != newest.path).copied()
        }),
        name => of(name),
    };
    let concerned: Vec<_> = left.iter().filter(|(_, r)| ["latest", "previous", &r.plan.name].contains(&word)).collect();
    match chosen {
        Some((chosen, _)) => {
            let newer = concerned.iter().filter(|(r, _)| r.order() > chosen.order()).count();
            if newer > 0 {
                say(format_args!("msgbench: {word}: {}", left_out(newer)));
            }
            Ok(chosen.path.clone())
        }
        None => Err(Failure::usage(nothing(word, dir, &readable, concerned.len()))),
    }
}

/// Why a word means no result.
fn nothing(word: &str, dir: &Path, readable: &[(&PastResult, &Record)], quick: usize) -> String {
    let place = dir.display();
    let mut names: Vec<&str> = readable.iter().map(|(_, r)| r.plan.name.as_str()).collect();
    names.sort_unstable();
    names.dedup();
    let what = match word {
        "latest" => format!("there is no result in {place}"),
        "previous" => format!("there is only one result of the newest scenario in {place}"),
        name => match crate::plan::problem::suggest(name, &names) {
            Some(hint) => format!("there is no file {name}, nor a result of a scenario called so in {place}: {hint}"),
            None => format!("there is no file {name}, nor any result in {place}"),
        },
    };
    match quick {
        0 => what,
        n => format!("{what}; {}", left_out(n)),
    }
}

/// `2 quick results left out; name one to have it`.
fn left_out(n: usize) -> String {
    let s = if n == 1 { "" } else { "s" };
    format!("{n} quick result{s} left out; name one to have it")
}

/// The paths without those of `--quick`, which is said; an error where nothing else is there.
pub(super) fn without_quick(results: Vec<PathBuf>, folder: &Path) -> Result<Vec<PathBuf>, Failure> {
    let (quick, kept): (Vec<_>, Vec<_>) =
        results.into_iter().partition(|path| path.is_dir() && PastResult::read(path.clone()).quick());
    if quick.is_empty() {
        return Ok(kept);
    }
    let words = format!("{}: {}", folder.display(), left_out(quick.len()));
    if kept.is_empty() {
        return Err(Failure::usage(format!("{words}, and nothing else is there")));
    }
    say(format_args!("msgbench: {words}"));
    Ok(kept)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_named_by_time_are_known() {
        let name = crate::units::calendar::folder_name(std::time::SystemTime::now());
        assert!(named_by_time(&name) && named_by_time(&format!("{name}-2")), "{name}");
        for other in ["charts", "2026", "2026-11-23", "fanout", "2026-11-23 11-50-00Z"] {
            assert!(!named_by_time(other), "{other}");
        }
    }
}
