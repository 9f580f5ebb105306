//! The rules of the house: which module may see which, read from the `crate::` paths of each folder.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails here")]

use std::collections::BTreeSet;
use std::path::Path;

/// The modules of ours that the files of a folder (or a file) name.
fn seen(place: &str) -> BTreeSet<String> {
    let path = Path::new("src").join(place);
    let mut modules = BTreeSet::new();
    let mut open = vec![path];
    while let Some(path) = open.pop() {
        if path.is_dir() {
            open.extend(std::fs::read_dir(&path).unwrap().map(|e| e.unwrap().path()));
        } else if path.extension().is_some_and(|e| e == "rs") {
            let text = std::fs::read_to_string(&path).unwrap();
            for line in text.lines().filter(|l| !l.trim_start().starts_with("//")) {
                for rest in line.split("crate::").skip(1) {
                    modules.insert(rest.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect());
                }
                if line.contains("tokio::") {
                    modules.insert("tokio".into());
                }
            }
        }
    }
    modules.remove(place.trim_end_matches(".rs"));
    modules
}

#[test]
fn the_ground_floor_imports_nothing_else() {
    for place in ["units.rs", "stats"] {
        assert_eq!(seen(place), BTreeSet::new(), "{place}");
    }
}

#[test]
fn load_and_broker_import_only_units() {
    for place in ["load", "broker"] {
        let mut modules = seen(place);
        modules.remove("tokio");
        modules.remove("units");
        // The counting allocator of the tests.
        modules.remove("allocations");
        assert_eq!(modules, BTreeSet::new(), "{place}");
    }
}

#[test]
fn what_reads_records_knows_no_engine() {
    for place in ["record", "compare", "report", "stats"] {
        let modules = seen(place);
        for forbidden in ["engine", "driver", "system", "broker", "tokio"] {
            assert!(!modules.contains(forbidden), "{place} sees {forbidden}");
        }
    }
}

#[test]
fn only_the_engine_sees_all() {
    let all = ["driver", "system", "load", "measure"];
    assert!(all.iter().all(|m| seen("engine").contains(*m)));
    for place in [
        "scenario",
        "load",
        "driver",
        "system",
        "broker",
        "measure",
        "record",
        "stats",
        "compare",
        "report",
        "cli",
        "calibrate",
    ] {
        let modules = seen(place);
        assert!(!all.iter().all(|m| modules.contains(*m)), "{place} sees what only the engine may");
    }
}

#[test]
fn calibration_drives_the_engine_as_a_user_would() {
    let modules = seen("calibrate");
    assert!(modules.contains("engine") && modules.contains("scenario"));
    for forbidden in ["driver", "load", "system", "broker"] {
        assert!(!modules.contains(forbidden), "calibrate sees {forbidden}");
    }
}
