//! A calibration as a user runs it: all its experiments come to an end.

use std::collections::BTreeMap;
use std::process::Command;

use msgbench::calibrate::certificate::{Certificate, ClaimVerdict};

/// Verdicts of times are those of a test machine and are not judged here; counts are exact
/// everywhere, and so are the bounds of clocks.
#[test]
fn a_quick_calibration_comes_to_its_end_with_every_experiment() {
    let dir = tempfile::tempdir().unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_msgbench"))
        .args(["calibrate", "--quick", "--format", "json", "--out"])
        .arg(dir.path())
        .env("MSGBENCH_CERTIFICATE", "")
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    // 4: some line did not hold, or could not be judged.
    assert!([Some(0), Some(4)].contains(&output.status.code()), "{:?}: {said}", output.status);
    let certificate: Certificate = serde_json::from_slice(&output.stdout).unwrap();
    let verdicts: BTreeMap<u32, ClaimVerdict> = certificate
        .experiments
        .iter()
        .map(|e| (e.number, e.lines.iter().map(|l| l.verdict).max().unwrap_or(ClaimVerdict::Fail)))
        .collect();
    // The comparisons (12) and the search (14) are of the full form.
    let numbers: Vec<u32> = verdicts.keys().copied().collect();
    assert_eq!(numbers, [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 13, 15, 16], "{said}");
    for exact in [11, 16] {
        assert_eq!(verdicts[&exact], ClaimVerdict::Pass, "experiment {exact}: {:?}", certificate.experiments);
    }
}
