//! The files of the pipeline name what is there: the parts of `.ci/run`, the test binaries of
//! `.config/nextest.toml`, the folders that `Dockerfile` builds from.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(file: &str) -> String {
    std::fs::read_to_string(root().join(file)).unwrap_or_else(|e| panic!("{file}: {e}"))
}

fn words<'a>(list: &'a str, separator: &str) -> BTreeSet<&'a str> {
    list.split(separator).map(str::trim).filter(|word| !word.is_empty()).collect()
}

/// What stands between two texts, at the first place where both are found in one line.
fn between<'a>(text: &'a str, before: &str, after: &str) -> &'a str {
    let found = text.lines().find_map(|line| line.split_once(before)?.1.split_once(after));
    found.unwrap_or_else(|| panic!("no line with {before:?} and {after:?}")).0
}

/// Each list of the parts, by where it stands.
fn parts<'a>(script: &'a str, workflow: &'a str) -> BTreeMap<&'static str, BTreeSet<&'a str>> {
    let functions = script.lines().filter_map(|line| line.split_once("() {")).map(|(name, _)| name);
    let head = script.lines().skip(1).take_while(|line| line.starts_with('#'));
    let described = head.filter_map(|line| line.strip_prefix("# ")?.split_once("  ")).map(|(name, _)| name);
    BTreeMap::from([
        ("functions", functions.collect()),
        ("described", described.filter(|name| !name.is_empty()).collect()),
        (
            "accepted",
            words(between(script, "    tests |", ") \"$part\"").trim(), "|").into_iter().chain(["tests"]).collect(),
        ),
        ("usage", words(between(script, "usage: .ci/run [", "]"), "|")),
        ("ci.yml", words(between(workflow, "part: [", "]"), ",")),
    ])
}

#[test]
fn every_part_runs_in_the_pipeline() {
    let (script, workflow) = (read(".ci/run"), read(".github/workflows/ci.yml"));
    let parts = parts(&script, &workflow);
    for (place, found) in &parts {
        assert_eq!(found, &parts["functions"], "{place} against the functions of .ci/run");
    }
    assert!(parts["functions"].contains("tests"));
}

/// The test binaries of `tests/`, with their sources.
fn binaries() -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    for entry in std::fs::read_dir(root().join("tests")).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_stem().unwrap().to_string_lossy().into_owned();
        let sources: Vec<PathBuf> = if path.join("main.rs").exists() {
            let files = std::fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path());
            files.filter(|file| file.extension().is_some_and(|e| e == "rs")).collect()
        } else if path.extension().is_some_and(|e| e == "rs") {
            vec![path]
        } else {
            continue;
        };
        found.insert(name, sources.iter().map(|file| std::fs::read_to_string(file).unwrap()).collect());
    }
    found
}

/// The binaries that nextest's configuration names, by group.
fn groups(config: &str) -> BTreeMap<String, BTreeSet<String>> {
    let config: toml::Table = config.parse().unwrap();
    let mut found: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for entry in config["profile"]["default"]["overrides"].as_array().unwrap() {
        let names = entry["filter"].as_str().unwrap().split("binary(").skip(1);
        let names = names.map(|rest| rest.split(')').next().unwrap_or(rest).to_owned());
        let group = entry["test-group"].as_str().unwrap();
        assert!(config["test-groups"].get(group).is_some(), "no group {group}");
        found.entry(group.to_owned()).or_default().extend(names);
    }
    found
}

#[test]
fn nextest_names_binaries_that_exist() {
    let (binaries, groups) = (binaries(), groups(&read(".config/nextest.toml")));
    let named: BTreeSet<_> = groups.values().flatten().collect();
    let gone: Vec<_> = named.into_iter().filter(|name| !binaries.contains_key(*name)).collect();
    assert!(gone.is_empty(), ".config/nextest.toml names test binaries that do not exist: {gone:?}");
}

/// Those of which more tests run at a time than there are processors, by scripts/test-threads.sh.
#[test]
fn binaries_that_wait_exist() {
    let (binaries, script) = (binaries(), read("scripts/test-threads.sh"));
    let named =
        script.lines().filter_map(|line| line.split_once("-*) threads=")).flat_map(|(all, _)| words(all, "-* |"));
    let named: BTreeSet<_> = named.collect();
    let gone: Vec<_> = named.iter().filter(|name| !binaries.contains_key(**name)).collect();
    assert!(named.len() > 1 && gone.is_empty(), "scripts/test-threads.sh names {gone:?} of {named:?}");
    assert!(read("scripts/test.sh").contains("scripts/test-threads.sh"), "nobody uses it");
}

/// Binaries that start a real server and yet run their tests side by side, with the reason.
const SIDE_BY_SIDE: [(&str, &str); 1] = [("broker", "a single nats-server that has next to nothing to do")];

#[test]
fn binaries_with_real_servers_run_one_test_at_a_time() {
    let groups = groups(&read(".config/nextest.toml"));
    // This binary only speaks of servers.
    let asks = |source: &str| {
        ["needs::system(", "needs::nats_server(", "needs::since("].iter().any(|call| source.contains(call))
    };
    let asking = binaries().into_iter().filter(|(name, source)| name != "house" && asks(source));
    let asking: BTreeSet<_> = asking.map(|(name, _)| name).collect();
    assert!(asking.contains("nats") && asking.contains("redis"), "{asking:?}");
    assert!(SIDE_BY_SIDE.iter().all(|(name, _)| asking.contains(*name)), "SIDE_BY_SIDE names one that asks for none");
    let missing: Vec<_> = asking.difference(&groups["servers"]).collect();
    let missing: Vec<_> = missing.into_iter().filter(|name| SIDE_BY_SIDE.iter().all(|(one, _)| one != name)).collect();
    assert!(missing.is_empty(), "not in the group `servers` of .config/nextest.toml: {missing:?}");
}

/// Where an image is built, what the manifest and the sources name must be there.
#[test]
fn the_image_has_what_its_build_reads() {
    let dockerfile = read("Dockerfile");
    let copied: Vec<&str> = dockerfile
        .lines()
        .filter_map(|line| line.strip_prefix("COPY ").filter(|rest| !rest.starts_with("--from")))
        .flat_map(|line| line.split_whitespace().rev().skip(1))
        .collect();
    for path in &copied {
        assert!(root().join(path).exists(), "Dockerfile copies {path}, which does not exist");
    }
    let manifest: toml::Table = read("Cargo.toml").parse().unwrap();
    let mut needed: BTreeSet<String> = BTreeSet::from(["Cargo.toml".into(), "Cargo.lock".into()]);
    // Cargo refuses a manifest with a target whose file is missing, whatever is built.
    for (kind, folder) in [("bench", "benches"), ("test", "tests"), ("example", "examples"), ("bin", "src")] {
        for target in manifest.get(kind).and_then(|targets| targets.as_array()).into_iter().flatten() {
            let name = target["name"].as_str().unwrap();
            let path = target.get("path").and_then(|path| path.as_str().map(str::to_owned));
            needed.insert(path.unwrap_or_else(|| format!("{folder}/{name}.rs")));
        }
    }
    outside(&root().join("src"), &mut needed);
    assert!(needed.contains("scripts/kafka/log4j2.properties"), "{needed:?}");
    let missing: Vec<_> =
        needed.iter().filter(|path| !copied.iter().any(|copy| Path::new(path).starts_with(copy))).collect();
    assert!(missing.is_empty(), "Dockerfile does not copy {missing:?}");
}

/// Files beside `src` that the sources take in by `include_str!` and its like with a relative path.
fn outside(folder: &Path, needed: &mut BTreeSet<String>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            outside(&path, needed);
            continue;
        }
        if path.extension().is_none_or(|e| e != "rs") {
            continue;
        }
        let source = std::fs::read_to_string(&path).unwrap();
        for rest in source.split("include_").skip(1) {
            let Some((_, rest)) = rest.split_once("!(\"../") else { continue };
            let Some((name, _)) = rest.split_once('"') else { continue };
            let file = path.parent().unwrap().join("..").join(name).canonicalize();
            let Ok(file) = file else { continue };
            if let Ok(inside) = file.strip_prefix(root().canonicalize().unwrap())
                && !inside.starts_with("src")
            {
                needed.insert(inside.to_string_lossy().into_owned());
            }
        }
    }
}

/// The sources below a file that another crate takes in by its path.
fn taken_in(file: &Path) -> Vec<PathBuf> {
    if file.file_name().is_none_or(|name| name != "mod.rs") {
        return vec![file.to_path_buf()];
    }
    let mut found = Vec::new();
    let mut folders = vec![file.parent().unwrap().to_path_buf()];
    while let Some(folder) = folders.pop() {
        for path in std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
            match path.is_dir() {
                true => folders.push(path),
                false if path.extension().is_some_and(|e| e == "rs") => found.push(path),
                false => {}
            }
        }
    }
    found
}

/// What sources import from a place of the crate: the names after it, also in braces.
fn imported(text: &str, place: &str) -> BTreeSet<String> {
    let uses = text.split("use ").skip(1).filter_map(|rest| rest.split_once(';')).map(|(path, _)| path);
    let names = uses.filter_map(|path| path.strip_prefix(place)).flat_map(|rest| {
        let rest = rest.trim_start_matches('{').trim_end_matches('}');
        rest.split(',').map(|name| name.trim().to_owned()).collect::<Vec<_>>()
    });
    names.filter(|name| !name.is_empty()).collect()
}

/// A fuzz target that takes sources in by path stands in for what these import: a name that is
/// changed in the crate is changed there. Building them needs a nightly compiler, so a pull request
/// would not tell.
#[test]
fn fuzz_targets_stand_in_for_what_they_take_in() {
    let mut held = 0;
    for entry in std::fs::read_dir(root().join("scripts/fuzz/fuzz_targets")).unwrap() {
        let target = entry.unwrap().path();
        let text = std::fs::read_to_string(&target).unwrap();
        let paths = text.split("#[path = \"").skip(1).filter_map(|rest| rest.split('"').next());
        for taken in paths.filter(|path| path.contains("/src/")).map(|path| target.parent().unwrap().join(path)) {
            for source in taken_in(&taken) {
                let all = imported(&std::fs::read_to_string(&source).unwrap(), "crate::broker::shared::");
                for name in all {
                    held += 1;
                    let defined = [format!("fn {name}("), format!("struct {name} "), format!("mod {name} ")];
                    assert!(
                        defined.iter().any(|d| text.contains(d)),
                        "{} needs broker::shared::{name}, which {} does not define",
                        source.display(),
                        target.display()
                    );
                }
            }
        }
    }
    assert!(held > 1, "nothing was looked at");
}
