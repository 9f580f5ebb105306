//! Whether two results hold the same trials: a result beside itself, or a copy of it under another
//! name, is one set of runs and not two. The figures are shown; there is no verdict on them,
//! whatever the policy.

use std::collections::BTreeSet;

use sha2::{Digest, Sha256};

use super::model::{ComparisonRow, Overall, Verdict};
use crate::record::{Record, Trial};

/// What was measured, without what a copy may have under another name: round, case, files.
fn content(trial: &Trial) -> [u8; 32] {
    let measured =
        (&trial.started_at, trial.seed, trial.measured_ns, trial.drained_ns, &trial.workloads, &trial.generator);
    Sha256::digest(serde_json::to_vec(&measured).unwrap_or_default()).into()
}

/// How many trials of `b` stand in `a` as well.
pub(super) fn copies(a: &Record, b: &Record) -> usize {
    let there: BTreeSet<[u8; 32]> = a.trials.iter().map(content).collect();
    b.trials.iter().filter(|t| there.contains(&content(t))).count()
}

/// What is the matter, as a sentence without its full stop.
pub(super) fn words(baseline: &str, candidate: &str, n: usize) -> String {
    let trials = if n == 1 { "one trial".to_string() } else { format!("{n} trials") };
    format!(
        "`{candidate}` and `{baseline}` have {trials} in common: one is a copy of the other, or the same result; the same runs \
         count once; measure again"
    )
}

/// Takes the verdict of a row back.
pub(super) fn invalidate(row: &mut ComparisonRow, words: &str) {
    (row.verdict, row.gate) = (Verdict::Invalid, Verdict::Invalid);
    row.reason = words.into();
    (row.runs_needed, row.runs_needed_seen) = (None, None);
    row.sentence = format!("{} and {} cannot be compared at {}: {words}", row.a.label, row.b.label, row.metric);
}

/// A comparison with a copy is INVALID, exit code 4.
pub(super) fn fail(overall: &mut Overall, words: &str) {
    overall.verdict = Verdict::Invalid;
    overall.exit_code = super::overall::INVALID;
    overall.sentence = format!("{}{}.", words[..1].to_uppercase(), &words[1..]);
    overall.reasons = vec![format!("INVALID: {words}")];
}
