//! Prints the map of the source tree: every folder with its lines of code and the folders that it
//! sees, and the modules that see each other in a circle. `cargo run --example house_map [FOLDER]`.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

#[allow(dead_code, clippy::unwrap_used, reason = "the house test uses the rest, and ends where it cannot read")]
#[path = "../tests/house/imports.rs"]
mod imports;

use imports::Tree;

/// The child of `parent` that a module is or is in.
fn child(module: &[String], parent: &[String]) -> Option<String> {
    (module.starts_with(parent) && module.len() > parent.len()).then(|| module[parent.len()].clone())
}

/// Modules that `from` leads to, itself only where a circle leads back.
fn reached<'a>(from: &'a str, sees: &'a BTreeMap<String, BTreeSet<String>>) -> BTreeSet<&'a str> {
    let mut open = vec![from];
    let mut done = BTreeSet::new();
    while let Some(at) = open.pop() {
        for next in sees.get(at).into_iter().flatten() {
            if done.insert(next.as_str()) {
                open.push(next);
            }
        }
    }
    done
}

fn main() {
    let tree = Tree::read(Path::new(env!("CARGO_MANIFEST_DIR")));
    let folder = std::env::args().nth(1).unwrap_or_default();
    let parent: Vec<String> = folder.split('/').filter(|p| !p.is_empty()).map(str::to_owned).collect();
    let mut lines: BTreeMap<String, (usize, usize)> = BTreeMap::new();
    for source in tree.sources.iter().filter(|s| !s.test) {
        if let Some(name) = child(&source.module, &parent) {
            let entry = lines.entry(name).or_default();
            *entry = (entry.0 + 1, entry.1 + source.code_lines);
        }
    }
    let mut sees: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    let mut places: BTreeMap<(String, String), Vec<String>> = BTreeMap::new();
    for import in tree.imports.iter().filter(|i| !i.test) {
        if let (Some(from), Some(to)) = (child(&import.from, &parent), child(&import.to, &parent))
            && from != to
            && lines.contains_key(&to)
        {
            let place = format!("{}:{} {}", import.place.0.display(), import.place.1, import.to.join("::"));
            places.entry((from.clone(), to.clone())).or_default().push(place);
            sees.entry(from).or_default().insert(to);
        }
    }
    for (name, (files, code)) in &lines {
        let to = sees.get(name).into_iter().flatten().cloned().collect::<Vec<_>>().join(" ");
        println!("{name:<14} {files:>4} files {code:>6} lines of code  -> {to}");
    }
    for ((from, to), places) in &places {
        if reached(to, &sees).contains(from.as_str()) {
            println!("circle: {from} -> {to}: {}", places.join(", "));
        }
    }
}
