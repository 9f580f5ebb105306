//! What brokers keep is what they were told to, and one that keeps less, or more, fails the run.

use std::process::Command;

use serde_json::Value;

use super::{PROGRAM, balanced, needs, try_run};

/// The types of systems that are here.
fn there() -> Vec<&'static str> {
    ["reference", "jetstream", "kafka"].into_iter().filter(|kind| needs::system(kind).is_some()).collect()
}

/// Runs a scenario on a system that is to keep this much.
///
/// A busy machine may begin to read when everything is older than its age, and the run says that
/// nothing had to be there. Then load and age are four times as long.
fn kept(scenario: &str, system: &str, keep: &str) -> Value {
    let mut seconds = 1;
    loop {
        let keep_it = format!("workload.delivery.keep={}", keep.replace("AGE", &format!("{seconds}s")));
        let duration = format!("{seconds}s");
        let args = ["--system", system, "--set", "sweep={}", "--set", &keep_it, "--duration", &duration];
        match try_run(scenario, &args) {
            Ok(record) => return record,
            Err(said) if keep.contains("AGE") && seconds < 64 => {
                assert!(said.contains("no acknowledged message had to be there when it was read"), "{said}");
                seconds *= 4;
            }
            Err(said) => panic!("{said}"),
        }
    }
}

#[test]
fn what_is_kept_is_what_was_promised() {
    for system in there() {
        for (scenario, keep) in [
            ("retention", "{}"),
            ("retention", "{ bytes = \"1MiB\" }"),
            ("retention", "{ age = \"AGE\" }"),
            ("compaction", "{ per-key = 1 }"),
        ] {
            if system == "kafka" && keep == "{}" {
                continue;
            }
            for (system, workloads) in balanced(&kept(scenario, system, keep)) {
                let (kept, ledger) = (&workloads[0]["kept"], &workloads[0]["ledger"]);
                let count = |key: &str| kept[key].as_u64().unwrap();
                assert_eq!((kept["holds"].as_bool(), count("missing")), (Some(true), 0), "{system}: {keep}: {kept}");
                assert!(count("owed") > 0, "{system}: {keep}: {kept}");
                assert_eq!(count("duplicated"), 0, "{system}: {keep}: {kept}");
                if system.starts_with("jetstream") {
                    assert_eq!(count("beyond"), 0, "{keep}: {kept}");
                }
                match keep {
                    "{}" => assert!(count("owed") >= ledger["acked"].as_u64().unwrap(), "{system}: {kept}"),
                    "{ per-key = 1 }" => assert_eq!(count("owed"), 200, "{system}: {kept}"),
                    _ => {}
                }
            }
        }
    }
}

/// Runs a scenario whose system has options of its own; its exit code, and what was kept.
fn told(system: &str, workload: &str, faults: &str) -> (Option<i32>, Value) {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("kept.toml");
    let text = format!(
        "name = \"kept\"\nquestion = \"does it show?\"\n[[system]]\n{system}\n[[workload]]\npattern = \"stream\"\n\
         consumers = 0\nload.rate = \"2k/s\"\npayload.size = \"1KiB\"\n{workload}\n{faults}\n\
         [run]\nwarmup = \"0s\"\nduration = \"2s\"\nconnect = \"180s\"\ntrials = 1\n"
    );
    std::fs::write(&file, text).unwrap();
    let output = Command::new(PROGRAM)
        .args(["run", file.to_str().unwrap(), "--format", "record", "--out", dir.path().to_str().unwrap()])
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    let record: Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|e| panic!("{e}: {said}"));
    let workload = &record["trials"][0]["workloads"][0];
    assert!(!workload["kept"].is_null(), "{said}: {}", record["trials"][0]["outcome"]);
    let broken: Vec<&Value> = workload["promises"].as_array().unwrap().iter().filter(|p| p["kept"] == false).collect();
    assert!(broken.iter().any(|p| p["promised"].as_str().unwrap().starts_with("keeps ")), "{broken:?}");
    (output.status.code(), workload["kept"].clone())
}

/// A store that keeps less than was promised has lost messages.
#[test]
fn who_keeps_less_than_promised_fails_the_run() {
    const ALL: &str = "delivery.keep = { age = \"60s\" }";
    const KEYS: &str = "delivery = { keys = { uniform = 50 }, keep = { per-key = 1 } }";
    let reference = "driver = \"reference\"\noptions = { housekeeping = \"100ms\", kafka = { topic = \
                     { \"segment.bytes\" = 65536, \"retention.ms\" = 200 } } }";
    let cleaned = "driver = \"reference\"\noptions = { housekeeping = \"100ms\", kafka = { topic = \
                   { \"segment.bytes\" = 65536, \"cleanup.policy\" = \"delete\", \"retention.bytes\" = 1 } } }";
    let jetstream = "driver = \"jetstream\"\noptions = { max-bytes = \"64KiB\" }";
    let kafka = "driver = \"kafka\"\noptions = { topic = { \"segment.bytes\" = 1048576, \"retention.ms\" = 200 }, \
                 broker = { properties = { \"log.retention.check.interval.ms\" = 200, \
                 \"log.initial.task.delay.ms\" = 100 } } }";
    let all = [
        ("reference", reference, ALL),
        ("reference", cleaned, KEYS),
        ("jetstream", jetstream, ALL),
        ("kafka", kafka, ALL),
    ];
    for (kind, system, workload) in all {
        if needs::system(kind).is_none() {
            continue;
        }
        let (code, kept) = told(system, workload, "");
        assert_eq!(code, Some(6), "{kind}: {kept}");
        assert!(kept["missing"].as_u64().unwrap() > 0, "{kind}: {kept}");
    }
}

/// A store that loses a few, among them the last value of a key, is told apart from one that does
/// not.
#[test]
fn a_lost_last_value_is_missing() {
    let system = "driver = \"reference\"\noptions = { housekeeping = \"100ms\", kafka = { topic = \
                  { \"segment.bytes\" = 65536 } } }";
    let workload = "delivery = { keys = { uniform = 50 }, keep = { per-key = 1 } }";
    let (code, kept) = told(system, workload, "[faults]\ndrop = { every = 3 }");
    assert!(code.is_some_and(|code| code != 0), "{kept}");
    let missing = kept["missing"].as_u64().unwrap();
    assert!((1..50).contains(&missing), "{kept}");
}

/// One that removes nothing keeps more than was promised.
#[test]
fn who_removes_nothing_fails_the_run() {
    let system = "driver = \"reference\"\noptions = { housekeeping = \"10m\", kafka = { topic = \
                  { \"segment.bytes\" = 65536 } } }";
    let (code, kept) = told(system, "delivery.keep = { bytes = \"256KiB\", within = \"1s\" }", "");
    assert_eq!((code, kept["missing"].as_u64()), (Some(6), Some(0)), "{kept}");
    assert!(kept["beyond_bytes"].as_u64().unwrap() > 65536 && kept["settled_s"].is_null(), "{kept}");
}
