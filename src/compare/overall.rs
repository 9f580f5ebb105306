//! All rows in one word, one sentence and one exit code.

use super::model::{ComparisonRow, ExpectResult, ExpectVerdict, Overall, RefusedCase, Verdict};
use crate::plan::gate::{Gate, Policy};

/// Exit codes of DESIGN section 7.
const REGRESSED: u8 = 3;
pub(super) const INVALID: u8 = 4;
const INCONCLUSIVE: u8 = 5;

pub(super) fn overall(rows: &[ComparisonRow], refused: &[RefusedCase], gate: &Gate, gated: bool) -> Overall {
    let primary: Vec<&ComparisonRow> = rows.iter().filter(|r| r.primary).collect();
    let of = |v: Verdict| primary.iter().filter(|r| r.verdict == v).copied().collect::<Vec<_>>();
    let (invalid, regressed, open) = (of(Verdict::Invalid), of(Verdict::Regressed), of(Verdict::Inconclusive));
    let mut reasons: Vec<String> = Vec::new();
    let mut exit_code = 0;
    // The gravest last, so that it stays: 4 before 3 before 5.
    if !open.is_empty() && gate.on_inconclusive == Policy::Fail {
        exit_code = INCONCLUSIVE;
        reasons.extend(open.iter().map(|r| format!("INCONCLUSIVE {}: {}", r.scenario, r.sentence)));
    }
    if !regressed.is_empty() {
        exit_code = REGRESSED;
        reasons.extend(regressed.iter().map(|r| format!("REGRESSED {}: {}", r.scenario, r.sentence)));
    }
    let missing: Vec<&RefusedCase> = refused.iter().filter(|r| primary.is_empty() || (gated && r.missing)).collect();
    if (!invalid.is_empty() || primary.is_empty() || !missing.is_empty()) && gate.on_invalid == Policy::Fail {
        exit_code = INVALID;
        reasons.extend(invalid.iter().map(|r| format!("INVALID {}: {}", r.scenario, r.sentence)));
        reasons.extend(missing.iter().map(|r| format!("{} is not compared: {}", r.case, r.reason)));
    }
    // Without a baseline nothing is better or worse than it should be: only validity can fail.
    if !gated && exit_code != INVALID {
        exit_code = 0;
        reasons.clear();
    }
    let mut verdict = primary.iter().map(|r| r.verdict).max().unwrap_or(Verdict::Invalid);
    let mut sentence = headline(&primary, gated);
    if let Some(first) = missing.first().filter(|_| exit_code == INVALID && verdict < Verdict::Invalid) {
        verdict = Verdict::Invalid;
        // The word and the sentence that stand side by side must be about the same thing.
        sentence = format!("{} is not compared: {}. {sentence}", first.case, first.reason.trim_end_matches('.'));
    }
    Overall { verdict, exit_code, sentence, reasons }
}

/// The sentence of the gravest primary row; latency at p99 before the others, as that is what
/// people ask for.
fn headline(primary: &[&ComparisonRow], gated: bool) -> String {
    let tail = |r: &&&ComparisonRow| r.metric.quantity.quantile().is_some_and(|q| (q - 0.99).abs() < 1e-9);
    let rank = |r: &&&ComparisonRow| {
        (if gated { Some(r.verdict) } else { None }, tail(r), r.cliffs_delta.map_or(0, |d| (d.abs() * 100.0) as i64))
    };
    let Some(first) = primary.iter().max_by_key(rank) else {
        return "There is nothing that could be compared.".into();
    };
    let mut text = first.sentence.clone();
    if !text.ends_with('.') {
        text.push('.');
    }
    text
}

/// Adds the limits to the overall outcome.
pub(super) fn with_expectations(overall: &mut Overall, results: &[ExpectResult]) {
    let rank = |code: u8| match code {
        INVALID => 3,
        REGRESSED => 2,
        INCONCLUSIVE => 1,
        _ => 0,
    };
    for r in results {
        let code = r.exit_code();
        if code != 0 {
            reasons_push(overall, r);
            if rank(code) > rank(overall.exit_code) {
                overall.exit_code = code;
            }
        }
        if r.verdict == ExpectVerdict::Unmet && overall.verdict < Verdict::Regressed {
            overall.verdict = Verdict::Regressed;
            // The word and the sentence that stand side by side must be about the same thing.
            overall.sentence = format!("A limit is not kept by {}: {}. {}", r.case, r.sentence, overall.sentence);
        }
    }
}

fn reasons_push(overall: &mut Overall, r: &ExpectResult) {
    overall.reasons.push(format!("{} {}: {}", r.verdict.word(), r.case, r.sentence));
}
