//! A run reads the certificate of its host, and is refused, warned or annotated by it.

use super::{record, run, words};
use msgbench::calibrate::certificate::{Certificate, ClaimLine, Experiment, SCHEMA, Thoroughness};
use msgbench::record::Floor;

const SCENARIO: &str = "name = \"trust\"\nquestion = \"Is the rate trusted?\"\n[[system]]\ndriver = \"reference\"\n\
    [[workload]]\npattern = \"fan-out\"\nconsumers = 1\nload.rate = \"1k/s\"\n\
    [run]\nwarmup = \"0s\"\nduration = \"2s\"\ntrials = 1\n";

/// A certificate of this very host and build that trusts so many messages a second and has a floor
/// of half a second.
fn certificate(limit: f64) -> String {
    let line = ClaimLine::exact("messages sent of those due", 1, 1);
    let floor = Floor {
        through: "null driver".into(),
        rate: 1e3,
        p50_ns: Some(500_000_000),
        p99_ns: Some(500_000_000),
        p999_ns: None,
        kept: true,
    };
    let experiment = Experiment {
        number: 2,
        name: "floor".into(),
        claim: String::new(),
        lines: vec![line],
        host: String::new(),
        seconds: 1.0,
    };
    let all = Certificate {
        schema: SCHEMA.into(),
        version: env!("CARGO_PKG_VERSION").into(),
        profile: if cfg!(debug_assertions) { "debug" } else { "release" }.into(),
        form: Thoroughness::Full,
        started_at: "2026-01-02T03:04:05Z".into(),
        seconds: 1.0,
        host: msgbench::host::machine::read(),
        max_trustworthy_rate: limit,
        floor: vec![floor],
        experiments: vec![experiment],
    };
    serde_json::to_string(&all).unwrap()
}

#[test]
fn a_rate_above_what_the_host_is_trusted_with_is_refused_unless_forced() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("certificate.json"), certificate(500.0)).unwrap();
    let refused = run(dir.path(), SCENARIO, &["--format", "record"]);
    assert_eq!(refused.status.code(), Some(2), "{}", words(&refused));
    assert!(words(&refused).contains("schedules 1k/s") && words(&refused).contains("--force"), "{}", words(&refused));
    assert!(!dir.path().join("results").exists(), "nothing was measured");
    let forced = run(dir.path(), SCENARIO, &["--format", "record", "--force"]);
    let record = record(&forced);
    let check = record["trials"][0]["validity"].as_array().unwrap().iter().find(|c| c["id"] == "V16").unwrap().clone();
    assert_eq!(check["status"], "WARN", "{check}");
    assert!(check["message"].as_str().unwrap().contains("--force"), "{check}");
}

#[test]
fn a_run_cites_the_certificate_and_marks_what_is_near_the_floor() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("certificate.json"), certificate(1e6)).unwrap();
    let output = run(dir.path(), SCENARIO, &["--format", "text"]);
    let folder = std::fs::read_dir(dir.path().join("results/trust")).unwrap().next().unwrap().unwrap().path();
    let summary = std::fs::read_to_string(folder.join("report.md")).unwrap();
    assert!(summary.contains("This host was calibrated on 2026-01-02T03:04:05Z"), "{summary}\n{}", words(&output));
    assert!(summary.contains("highest trustworthy rate 1M/s") && summary.contains("p50 500ms"), "{summary}");
    assert!(summary.contains("Near the floor") && summary.contains("reference: e2e p50"), "{summary}");
    for file in ["report.md", "report.html", "run.json"] {
        let text = std::fs::read_to_string(folder.join(file)).unwrap();
        assert!(text.contains("2026-01-02T03:04:05Z"), "{file}");
    }
}

#[test]
fn a_certificate_of_another_host_binds_nobody_and_a_broken_one_is_said() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("certificate.json");
    std::fs::write(&file, certificate(500.0).replacen("\"kernel\":\"", "\"kernel\":\"not-", 1)).unwrap();
    let other = record(&run(dir.path(), SCENARIO, &["--format", "record", "--duration", "200ms"]));
    assert!(other["calibration"].is_null(), "{}", other["calibration"]);
    std::fs::write(&file, "no certificate").unwrap();
    let broken = run(dir.path(), SCENARIO, &["--format", "record", "--duration", "200ms"]);
    assert!(words(&broken).contains("is not cited") && record(&broken)["trials"][0].is_object(), "{}", words(&broken));
}
