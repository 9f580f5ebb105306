//! The rules of the house (DESIGN section 4): which folder may see which, no circles, sizes.
//!
//! Rules hold for code outside `#[cfg(test)]`; tests may look further. What is not yet so is listed
//! by name with its reason, and an entry that is no longer needed fails the test.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails here")]

mod imports;
mod names;
#[path = "../common/needs.rs"]
mod needs;
mod pipeline;
mod skips;
mod statements;
mod systems;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use imports::{Import, Tree};

/// What a folder may import of ours; a folder that is not here may import nothing of ours.
const MAY: [(&str, &[&str]); 25] = [
    ("units", &[]),
    ("stats", &[]),
    ("clocks", &["units", "stats"]),
    ("launch", &["plan", "units"]),
    ("load", &["units"]),
    ("faults", &["units"]),
    ("plan", &["units", "faults", "stats"]),
    ("broker", &["units", "faults"]),
    ("record", &["plan", "units"]),
    ("scenario", &["plan", "units", "faults"]),
    ("measure", &["record", "plan", "units", "stats"]),
    ("host", &["clocks", "record", "units"]),
    ("validity", &["record", "plan", "stats", "units", "measure"]),
    ("driver", &["plan", "load", "units"]),
    ("system", &["plan", "units"]),
    (
        "engine",
        &["driver", "system", "load", "measure", "validity", "host", "record", "plan", "units", "stats", "faults"],
    ),
    // What agents and coordinator say to each other; how a part of a trial is run the engine knows.
    ("agents", &["engine", "clocks", "host", "record", "plan", "units"]),
    // Results of other tools are judged by the same rules as our own.
    ("compare", &["record", "plan", "stats", "units", "measure", "validity"]),
    // A file of claims names scenarios, and is read with the same words for mistakes.
    ("claims", &["scenario", "compare", "record", "plan", "stats", "units"]),
    ("report", &["record", "compare", "claims", "plan", "stats", "units"]),
    (
        "calibrate",
        &[
            "engine", "scenario", "plan", "measure", "validity", "host", "record", "report", "compare", "stats",
            "units", "faults", "clocks",
        ],
    ),
    (
        "cli",
        &[
            "agents",
            "engine",
            "scenario",
            "plan",
            "record",
            "report",
            "compare",
            "claims",
            "calibrate",
            "host",
            "system",
            "broker",
            "units",
            "faults",
            "measure",
            "clocks",
            "launch",
        ],
    ),
    ("main", &["cli"]),
    ("lib", &[]),
    ("allocations", &[]),
];

fn folder(module: &[String]) -> &str {
    module.first().map_or("lib", String::as_str)
}

/// Imports that a rule forbids, as `file:line: from sees to`.
fn broken_arrows(tree: &Tree) -> Vec<String> {
    let may: BTreeMap<&str, &[&str]> = MAY.into_iter().collect();
    let folders: BTreeSet<&str> = tree.sources.iter().map(|s| folder(&s.module)).collect();
    let mut broken = Vec::new();
    for import in tree.imports.iter().filter(|i| !i.test) {
        let from = if import.place.0 == Path::new("src/main.rs") { "main" } else { folder(&import.from) };
        let to = folder(&import.to);
        if from == to || from == "lib" || !folders.contains(to) && to != "*" && to != "self" {
            continue;
        }
        if to == "*" || to == "self" || !may.get(from).is_some_and(|allowed| allowed.contains(&to)) {
            broken.push(format!("{}:{}: {from} sees {to}", import.place.0.display(), import.place.1));
        }
    }
    broken
}

/// The folders in a circle, if there is one, among the children of `parent`.
fn circle(tree: &Tree, parent: &[String]) -> Option<Vec<String>> {
    let depth = parent.len();
    let child = |module: &[String]| (module.starts_with(parent) && module.len() > depth).then(|| module[depth].clone());
    let modules: BTreeSet<String> = tree.sources.iter().filter_map(|s| child(&s.module)).collect();
    let mut edges: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    let outside = |i: &&Import| !i.test;
    for import in tree.imports.iter().filter(outside) {
        if let (Some(from), Some(to)) = (child(&import.from), child(&import.to))
            && from != to
            && modules.contains(&to)
        {
            edges.entry(from).or_default().insert(to);
        }
    }
    // Depth first: a module that is met again while it is still open closes a circle.
    fn visit(
        at: &str,
        edges: &BTreeMap<String, BTreeSet<String>>,
        open: &mut Vec<String>,
        done: &mut BTreeSet<String>,
    ) -> Option<Vec<String>> {
        if let Some(from) = open.iter().position(|m| m == at) {
            return Some([&open[from..], &[at.to_string()]].concat());
        }
        if done.contains(at) {
            return None;
        }
        open.push(at.into());
        let found = edges.get(at).into_iter().flatten().find_map(|next| visit(next, edges, open, done));
        open.pop();
        done.insert(at.into());
        found
    }
    let mut done = BTreeSet::new();
    modules.iter().find_map(|m| visit(m, &edges, &mut Vec::new(), &mut done))
}

fn house() -> Tree {
    Tree::read(Path::new(env!("CARGO_MANIFEST_DIR")))
}

/// What was found beyond what is excused, and excuses that nothing needs any more.
fn unexcused(found: &BTreeSet<String>, excused: &[(&str, &str)]) -> Vec<String> {
    let known: BTreeSet<String> = excused.iter().map(|(what, _)| (*what).to_string()).collect();
    let new = found.difference(&known).cloned();
    new.chain(known.difference(found).map(|gone| format!("{gone} is excused and need not be"))).collect()
}

#[test]
fn folders_see_only_what_they_may() {
    let broken: Vec<String> = broken_arrows(&house());
    assert!(broken.is_empty(), "{}", broken.join("\n"));
}

#[test]
fn no_folders_see_each_other_in_a_circle() {
    let tree = house();
    let parents: BTreeSet<&[String]> =
        tree.sources.iter().flat_map(|s| (0..s.module.len()).map(|n| &s.module[..n])).collect();
    let found: BTreeSet<String> =
        parents.into_iter().filter(|p| circle(&tree, p).is_some()).map(|p| p.join("/")).collect();
    assert!(found.is_empty(), "a circle within: {found:?}");
}

#[test]
fn what_reads_records_knows_no_tokio() {
    let tree = house();
    let places = ["record", "compare", "report", "stats", "validity", "plan", "clocks", "launch"];
    for source in tree.sources.iter().filter(|s| places.contains(&folder(&s.module))) {
        assert!(!source.crates.contains("tokio"), "{} uses tokio", source.path.display());
    }
}

#[test]
fn nothing_stands_loose_in_the_root_of_the_broker() {
    let root = Path::new("src/broker");
    let tree = house();
    let loose: Vec<_> = tree.sources.iter().filter(|s| s.path.parent() == Some(root)).map(|s| &s.path).collect();
    assert_eq!(loose, [&root.join("mod.rs")]);
}

/// What a trial run leaves behind is not to be committed with the rest.
#[test]
fn no_stray_file_stands_in_the_root() {
    let known = [
        ".dockerignore",
        ".gitignore",
        "ARCHITECTURE.md",
        "CHANGELOG.md",
        "CONTRIBUTING.md",
        "Cargo.lock",
        "Cargo.toml",
        "Dockerfile",
        "LICENSE-MIT",
        "README.md",
        "SECURITY.md",
        "clippy.toml",
        "deny.toml",
        "justfile",
        "rustfmt.toml",
        // Of a work tree of git.
        ".git",
    ];
    let entries = std::fs::read_dir(".").unwrap().map(Result::unwrap).filter(|e| e.file_type().unwrap().is_file());
    let names = entries.map(|entry| entry.file_name().into_string().unwrap());
    let stray: Vec<String> = names.filter(|name| !known.contains(&name.as_str())).collect();
    assert!(stray.is_empty(), "in the root of the repository: {stray:?}");
}

#[test]
fn drivers_do_not_know_each_other() {
    let tree = house();
    let drivers: BTreeSet<String> = tree
        .sources
        .iter()
        .filter(|s| s.module.len() > 1 && s.module[0] == "driver")
        .map(|s| s.module[1].clone())
        .collect();
    let shared = ["error", "incidents"];
    for import in tree.imports.iter().filter(|i| !i.test && i.to.len() > 1 && i.to[0] == "driver") {
        if import.from.len() < 2 || import.from[0] != "driver" {
            continue;
        }
        let (from, to) = (&import.from[1], &import.to[1]);
        let allowed = from == to || !drivers.contains(to) || shared.contains(&to.as_str());
        // A bridge is two systems; JetStream and the bare protocol are NATS with the same
        // connection.
        let family = from == "bridge" || to == "nats";
        assert!(allowed || family, "{}:{}: driver {from} sees driver {to}", import.place.0.display(), import.place.1);
    }
}

/// Files of more than 400 lines of code, with the reason.
const LONG_FILES: [(&str, &str); 0] = [];

#[test]
fn files_are_short() {
    let tree = house();
    let long = tree.sources.iter().filter(|s| s.code_lines > 400).map(|s| s.path.display().to_string()).collect();
    let found = unexcused(&long, &LONG_FILES);
    assert!(found.is_empty(), "more than 400 lines of code: {}", found.join(", "));
}

/// Functions of more than 80 lines, with the reason.
const LONG_FUNCTIONS: [(&str, &str); 2] = [
    ("src/broker/kafka/shape.rs shape", "a table with one entry for each request"),
    ("src/broker/nats/parse.rs publish", "one pass over the line, in the hottest loop of the router"),
];

#[test]
fn functions_are_short() {
    let tree = house();
    let long = tree.functions.iter().filter(|f| f.lines > 80 && !f.test);
    let long = long.map(|f| format!("{} {}", f.place.0.display(), f.name)).collect();
    let found = unexcused(&long, &LONG_FUNCTIONS);
    assert!(found.is_empty(), "more than 80 lines: {}", found.join(", "));
}

/// What only looks like judging by a sentence of ours, with the reason.
const READS: [(&str, &str); 10] = [
    ("src/compare/foreign/json.rs text.rfind", "the file of another tool"),
    ("src/compare/foreign/json.rs words.split", "the words of the JSON reader, which have the line"),
    ("src/compare/sentence.rs text.strip_suffix", "a number that is being written"),
    ("src/measure/process.rs text.split_whitespace", "the kernel's table of a process"),
    ("src/record/hlog/mod.rs text.parse", "a line of an interval log"),
    ("src/record/hlog/mod.rs text.starts_with", "a line of an interval log"),
    ("src/record/hlog/mod.rs text.strip_prefix", "a line of an interval log"),
    ("src/record/secrets.rs text.starts_with", "any text of a record, searched for secrets"),
    ("src/report/charts/rows.rs text.split_whitespace", "a text that is broken into lines"),
    ("src/report/pages/comparison/html.rs said.contains", "a list of what was shown"),
];

/// Where sentences are made and shown, and where text of others is read: users' files, servers' and
/// kernels' words.
const TEXT: [&str; 10] =
    ["report/words", "cli", "scenario", "plan", "faults", "units", "broker", "driver", "system", "host"];

#[test]
fn nothing_judges_by_what_a_sentence_says() {
    let tree = house();
    let judged = tree.sources.iter().filter(|s| !TEXT.iter().any(|t| s.path.starts_with(Path::new("src").join(t))));
    let found: BTreeSet<String> =
        judged.flat_map(statements::judged).map(|(file, _, asked)| format!("{} {asked}", file.display())).collect();
    let found = unexcused(&found, &READS);
    assert!(found.is_empty(), "judges by a sentence:\n{}", found.join("\n"));
}

/// A tree of these files.
fn made_of(files: &[(&str, &str)]) -> Tree {
    let all = [
        ("src/lib.rs", "pub mod engine;\npub mod stats;\npub mod units;"),
        ("src/engine/mod.rs", ""),
        ("src/units/mod.rs", ""),
    ];
    Tree::of(all.iter().chain(files).map(|(path, text)| (PathBuf::from(path), (*text).to_string())).collect())
}

#[test]
fn a_forbidden_import_is_seen_in_every_spelling() {
    for text in [
        "use crate::engine::run;",
        "use crate::{units::now, engine::run};",
        "use crate::{engine::{self, run as go}, units};",
        "use super::engine;",
        "use super::{units, engine};",
        "use crate as house; fn f() { house::engine::run() }",
        "use crate::*;",
        "use super::*;",
        "fn f() { crate::engine::run() }",
        "fn f() { super::engine::run::<u8>() }",
        "fn f() { println!(\"{}\", crate::engine::run()) }",
        "mod inner { use super::super::engine::run; }",
        "mod inner { fn f() { crate :: engine :: run() } }",
        "pub(crate) use crate::engine::run as quick;",
        "type T = Vec<crate::engine::Run>;",
        "impl From<crate::engine::E> for u8 { fn from(_: crate::engine::E) -> u8 { 0 } }",
        "#[derive(Clone)] struct S { r: Option<crate::engine::R> }",
    ] {
        let broken = broken_arrows(&made_of(&[("src/stats/mod.rs", text)]));
        assert!(!broken.is_empty(), "not seen: {text}");
    }
    for text in [
        "#[cfg(test)] mod tests { use crate::engine::run; }",
        "#[cfg(test)] use crate::engine::run;",
        "// use crate::engine::run;",
        "const S: &str = \"crate::engine::run\";",
        "mod engine {} use self::engine::*;",
    ] {
        let broken = broken_arrows(&made_of(&[("src/stats/mod.rs", text)]));
        assert!(broken.is_empty(), "{text}: {broken:?}");
    }
}

#[test]
fn a_circle_is_found_wherever_it_closes() {
    let tree = made_of(&[
        ("src/stats/mod.rs", "use crate::units::now;"),
        ("src/units/mod.rs", "fn f() { crate::engine::run() }"),
        ("src/engine/mod.rs", "use super::{units, stats::mean};"),
    ]);
    let mut found = circle(&tree, &[]).unwrap();
    found.pop();
    found.sort();
    assert_eq!(found, ["engine", "stats", "units"]);
}

#[test]
fn lines_of_code_leave_out_tests_comments_and_blanks() {
    let text = "//! Doc.\n\nfn a() {\n    // Why.\n    b();\n}\n#[cfg(test)]\nmod tests {\n    fn c() {}\n}\n";
    let tree = made_of(&[("src/stats/mod.rs", text)]);
    let source = tree.sources.iter().find(|s| s.path == Path::new("src/stats/mod.rs")).unwrap();
    assert_eq!(source.code_lines, 3);
    assert_eq!(
        tree.functions.iter().filter(|f| !f.test).map(|f| (f.name.as_str(), f.lines)).collect::<Vec<_>>(),
        [("a", 4)]
    );
}

#[test]
fn judging_by_a_sentence_is_seen() {
    let judged = |text: &str| {
        let tree = made_of(&[("src/stats/mod.rs", text)]);
        tree.sources.iter().flat_map(statements::judged).count()
    };
    for text in [
        "fn f() { if promise.starts_with(\"at most once\") {} }",
        "fn f() { let said = |e: &&Event| e.text.contains(\"refused\") || e.text.contains(\"not delivered\"); }",
        "fn f() { x.filter(|e| ids.iter().any(|id| e.reason.contains(id))) }",
        "fn f() { all.iter().find(|f| f.item == \"stolen time\") }",
        "fn f() { f.observed.split_whitespace().next()?.parse().ok() }",
        "fn f() { groups.filter(|g| g.role != \"slow\") }",
        "fn f() { match why.starts_with(\"failed in\") { true => 1, false => 2 } }",
        "fn f() { facts.guarantees.get(\"delivery\").is_some_and(|d| d.len() > 1 && delivery.as_str() == \"x\") }",
        "fn f() { matches!(check.message.as_str(), \"OVERLOADED\" | \"\") }",
        "fn f() { p.promised.as_deref().is_some_and(|promised| promised.ends_with(\"once\")) }",
    ] {
        assert!(judged(text) > 0, "not seen: {text}");
    }
    for text in [
        "#[cfg(test)] mod tests { fn f() { e.text.contains(\"refused\"); } }",
        "#[test] fn f() { e.text.contains(\"refused\"); }",
        "fn f() { if !text.ends_with('.') { text.push('.') } }",
        "fn f() { error.trim_end_matches(['.', '!']) }",
        "fn f() { level == Delivery::AtMostOnce }",
        "fn f() { kinds.contains(&kind) }",
    ] {
        assert_eq!(judged(text), 0, "{text}");
    }
}
