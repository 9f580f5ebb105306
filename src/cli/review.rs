//! `msgbench review`: several scenarios' results on one page, for an architecture review.

use std::path::{Component, Path, PathBuf};

use crate::record::store;
use crate::report::pages::review::{self, Reviewed};

use super::{Exit, Failure, print};

/// Arguments of `review`.
#[derive(Debug, clap::Args)]
pub struct ReviewArgs {
    /// Results, each of another workload: a folder, or its run.json
    #[arg(required = true, value_name = "RESULT")]
    results: Vec<PathBuf>,
    /// Folder that gets review.html and review.md
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Write the page into this file
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
    /// Write the Markdown file into this file
    #[arg(long, value_name = "FILE")]
    markdown: Option<PathBuf>,
}

pub(super) fn run(args: &ReviewArgs, color: bool) -> Result<Exit, Failure> {
    let mut loaded = Vec::new();
    let mut seen: Vec<PathBuf> = Vec::new();
    for path in &args.results {
        let result = store::load(path).map_err(Failure::usage)?;
        let folder = if path.is_dir() { path.as_path() } else { path.parent().unwrap_or(Path::new("")) };
        let folder = std::path::absolute(folder).unwrap_or_else(|_| folder.to_path_buf());
        let folder = folder.canonicalize().unwrap_or(folder);
        if seen.contains(&folder) {
            return Err(Failure::usage(format!("{} is given twice; give each result once", path.display())));
        }
        seen.push(folder);
        loaded.push(result.record);
    }
    if let Some(dir) = &args.out {
        std::fs::create_dir_all(dir)
            .map_err(|e| Failure::unwritten(format!("cannot create {}: {e}", dir.display())))?;
    }
    let beside = |name: &str| args.out.as_ref().map(|dir| dir.join(name));
    let all = |file: &Path| -> Vec<Reviewed<'_>> {
        let pairs = loaded.iter().zip(&seen);
        pairs.map(|(record, folder)| Reviewed { record, link: link(file, folder) }).collect()
    };
    let write = |file: &Path, text: String| {
        std::fs::write(file, text).map_err(|e| Failure::unwritten(format!("cannot write {}: {e}", file.display())))
    };
    let pages: Vec<PathBuf> = args.html.clone().into_iter().chain(beside("review.html")).collect();
    for file in &pages {
        write(file, review::page(&all(file)))?;
    }
    for file in args.markdown.clone().into_iter().chain(beside("review.md")) {
        write(&file, review::markdown(&all(&file)))?;
    }
    let mut text = review::text(&all(Path::new("")), super::text_style(color, false));
    for file in &pages {
        text.push_str(&format!("\nreview: {}", file.display()));
    }
    print(&text)
}

/// The report of a result, relative to a page; `None` where it is not there.
pub(super) fn link(page: &Path, folder: &Path) -> Option<String> {
    let report = folder.join("report.html");
    if !report.is_file() {
        return None;
    }
    let from = std::path::absolute(page).ok()?;
    let from = from.parent()?.canonicalize().ok()?;
    let parts =
        |p: &Path| p.components().filter(|c| *c != Component::CurDir).map(|c| c.as_os_str().to_owned()).collect();
    let (from, to): (Vec<_>, Vec<_>) = (parts(&from), parts(&report));
    let common = from.iter().zip(&to).take_while(|(a, b)| a == b).count();
    let mut steps: Vec<String> = vec!["..".into(); from.len() - common];
    steps.extend(to[common..].iter().map(|c| percent_encoded(&c.to_string_lossy())));
    Some(steps.join("/"))
}

/// A part of a path as it must stand in an address.
fn percent_encoded(part: &str) -> String {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"-_.~".contains(&b);
    part.bytes().map(|b| if plain(b) { (b as char).to_string() } else { format!("%{b:02X}") }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_leads_from_the_page_to_the_report() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().canonicalize().unwrap();
        let folder = root.join("results/fan out/1");
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::create_dir_all(root.join("pages")).unwrap();
        let page = root.join("pages/review.html");
        assert_eq!(link(&page, &folder), None, "there is no report");
        std::fs::write(folder.join("report.html"), "").unwrap();
        assert_eq!(link(&page, &folder).as_deref(), Some("../results/fan%20out/1/report.html"));
        assert_eq!(link(&folder.join("review.html"), &folder).as_deref(), Some("report.html"));
    }
}
