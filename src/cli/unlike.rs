//! What `compare` answers where the results were not driven alike: what differs and where it was
//! written, which other results were, and which command answers what may have been meant.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::compare::{self, WorkloadChange};
use crate::record::Record;
use crate::scenario;

use super::results::PastResult;
use super::{Failure, results};

/// Settings that are named; further ones are counted.
const NAMED: usize = 4;
/// Folders that are named.
const FOLDERS: usize = 6;

/// A result and where it is.
pub(super) struct Placed<'a> {
    pub path: &'a Path,
    pub record: &'a Record,
}

/// The answer for two results of different workloads; others are looked for in `dir` and beside
/// them.
pub(super) fn workloads(changes: &[WorkloadChange], a: &Placed<'_>, b: &Placed<'_>, dir: &Path) -> Failure {
    let (pa, pb) = (a.path.display(), b.path.display());
    let mut text = format!("{pa} and {pb} do not have the same workload: a difference would be that of the workloads");
    for change in changes.iter().take(NAMED) {
        let at = |of: &Placed<'_>| place(of.record, change).map_or_else(String::new, |place| format!(" ({place})"));
        let (x, y) = (at(a), at(b));
        let (of, what) = match (change.key.as_str(), change.workload) {
            ("", n) => (String::new(), format!("workload {}", n + 1)),
            (key, 0) => (String::new(), key.to_owned()),
            (key, n) => (format!("of workload {}, ", n + 1), key.to_owned()),
        };
        text.push_str(&format!("\n  {of}{what} is {}{x} and {}{y}", change.baseline, change.candidate));
    }
    match changes.len().saturating_sub(NAMED) {
        0 => {}
        1 => text.push_str("\n  and 1 more setting"),
        n => text.push_str(&format!("\n  and {n} more settings")),
    }
    text.push_str(&hints(a, b, dir));
    Failure::usage(text)
}

/// What may have been meant, each with its command.
fn hints(a: &Placed<'_>, b: &Placed<'_>, dir: &Path) -> String {
    let (pa, pb) = (quoted(a.path), quoted(b.path));
    let mut lines = Vec::new();
    let past = past(&[a, b], dir);
    for of in [b, a] {
        let alike = past.iter().find(|r| {
            let quick = |record: &Record| record.quick();
            r.record.as_ref().is_ok_and(|x| quick(x) == quick(of.record) && compare::comparable(x, of.record))
        });
        if let Some(PastResult { path, record: Ok(record) }) = alike {
            let (mut pair, p) = ([quoted(path), quoted(of.path)], of.path.display());
            if record.started_at > of.record.started_at {
                pair.reverse();
            }
            lines.push(format!("with the workload of {p}: `msgbench compare {} {}`", pair[0], pair[1]));
        }
    }
    if lines.is_empty() {
        let (p, path) = (b.path.display(), &b.record.scenario.path);
        lines.push(match Path::new(path).is_file() {
            true => format!("no other result has the workload of {p}: measure it again with `msgbench run {path}`"),
            false => format!("no other result has the workload of {p}: measure it again with its scenario, {path}"),
        });
    }
    lines.push(format!("both workloads on one page: `msgbench review {pa} {pb}`"));
    let several = [b, a].into_iter().find(|p| p.record.plan.systems.len() > 1);
    if let Some(of) = several {
        let path = quoted(of.path);
        let name = &of.record.plan.systems[0].name;
        lines.push(format!(
            "the systems within one: `msgbench compare {path}`, or `msgbench compare {path} --against {name}`"
        ));
    }
    lines.iter().map(|line| format!("\nhint: {line}")).collect()
}

/// A path as a shell takes it.
fn quoted(path: &Path) -> String {
    let text = path.display().to_string();
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-+=:,@%".contains(c);
    if text.chars().all(plain) { text } else { format!("'{}'", text.replace('\'', "'\\''")) }
}

/// Other results, newest first: those in `dir` and beside the two.
fn past(not: &[&Placed<'_>], dir: &Path) -> Vec<PastResult> {
    let folder = |path: &Path| {
        let file = path.file_name().is_some_and(|name| name == "run.json");
        if file { path.parent().unwrap_or(path).to_path_buf() } else { path.to_path_buf() }
    };
    let canonical = |path: &Path| path.canonicalize().unwrap_or_else(|_| path.to_path_buf());
    let own: Vec<PathBuf> = not.iter().map(|p| canonical(&folder(p.path))).collect();
    let beside = not.iter().filter_map(|p| Some(folder(p.path).parent()?.to_path_buf()));
    let mut seen: Vec<PathBuf> = own.clone();
    let mut found = Vec::new();
    for place in std::iter::once(dir.to_path_buf()).chain(beside) {
        let place = if place.as_os_str().is_empty() { PathBuf::from(".") } else { place };
        if !place.is_dir() {
            continue;
        }
        for result in results::all(&place).unwrap_or_default() {
            let at = canonical(&result.path);
            // A folder of several results that are taken together has its own below it.
            let mine = own.iter().any(|path| at.starts_with(path));
            let measured = result.record.as_ref().is_ok_and(|r| !r.trials.is_empty());
            if measured && !mine && !seen.contains(&at) {
                seen.push(at);
                found.push(result);
            }
        }
    }
    found
}

/// Where a setting was written: `orders.toml:9:13`, or what the command line said.
fn place(record: &Record, change: &WorkloadChange) -> Option<String> {
    let source = &record.scenario;
    if !change.key.is_empty() {
        let of = |path: &&(String, String)| path.0.ends_with(&format!(".{}", change.key));
        if let Some((path, value)) = source.overrides.iter().rev().find(of) {
            return Some(format!("{}={value} on the command line", path.replacen(".0.", ".", 1)));
        }
    }
    let mut path = vec!["workload".to_string(), change.workload.to_string()];
    path.extend(change.key.split('.').filter(|part| !part.is_empty()).map(String::from));
    let (line, column) = scenario::position(&source.text, &path)?;
    if path.len() > 2 && scenario::position(&source.text, &path[..2]) == Some((line, column)) {
        return Some("the default".into());
    }
    Some(format!("{}:{line}:{column}", source.path))
}

/// The answer where a folder holds results of several workloads: the folders that hold one each.
pub(super) fn folder(words: &str, folder: &Path, results: &[PathBuf]) -> Failure {
    let mut groups: BTreeMap<&Path, usize> = BTreeMap::new();
    for parent in results.iter().filter_map(|path| path.parent()) {
        *groups.entry(parent).or_default() += 1;
    }
    let mut text = format!("{}: {words}", folder.display());
    if groups.len() > 1 {
        let count = |n: &usize| if *n == 1 { "1 result".to_string() } else { format!("{n} results") };
        let list = groups.iter().take(FOLDERS);
        let list: Vec<String> = list.map(|(path, n)| format!("{} ({})", path.display(), count(n))).collect();
        text.push_str(&format!("\nhint: name one of its folders: {}", list.join(", ")));
    }
    let mut pages: Vec<&PathBuf> = Vec::new();
    for path in results {
        if groups.len() < 2 || !pages.iter().any(|p| p.parent() == path.parent()) {
            pages.push(path);
        }
    }
    let pages: Vec<String> = pages.iter().take(FOLDERS).map(|path| quoted(path)).collect();
    text.push_str(&format!("\nhint: several workloads on one page: `msgbench review {}`", pages.join(" ")));
    Failure::usage(text)
}
