//! All rows in one word, one sentence and one exit code.

use super::model::{ComparisonRow, ExpectResult, ExpectVerdict, Overall, Question, RefusedCase, Verdict};
use crate::plan::gate::{Gate, Policy};

/// Exit codes of DESIGN section 7.
const REGRESSED: u8 = 3;
pub(super) const INVALID: u8 = 4;
const INCONCLUSIVE: u8 = 5;

pub(super) fn overall(
    rows: &[ComparisonRow],
    refused: &[RefusedCase],
    gate: &Gate,
    question: Question,
    gated: bool,
) -> Overall {
    let primary: Vec<&ComparisonRow> = rows.iter().filter(|r| r.primary).collect();
    let of = |v: Verdict| primary.iter().filter(|r| r.gate == v).copied().collect::<Vec<_>>();
    let (invalid, regressed, open) = (of(Verdict::Invalid), of(Verdict::Regressed), of(Verdict::Inconclusive));
    // Each question has its own words, also for what a gate makes of it.
    let said = |r: &&ComparisonRow| format!("{} {}: {}", r.word(), r.scenario, r.sentence);
    let mut reasons: Vec<String> = Vec::new();
    let mut exit_code = 0;
    // The gravest last, so that it stays: 4 before 3 before 5.
    if !open.is_empty() && gate.on_inconclusive == Policy::Fail {
        exit_code = INCONCLUSIVE;
        reasons.extend(open.iter().map(said));
    }
    if !regressed.is_empty() {
        exit_code = REGRESSED;
        reasons.extend(regressed.iter().map(said));
    }
    let missing: Vec<&RefusedCase> = refused.iter().filter(|r| primary.is_empty() || (gated && r.missing)).collect();
    // One system of several that has no valid run is a row of the answer; nothing at all is none.
    let nothing = invalid.len() == primary.len();
    let broken = if question == Question::Systems && !gated { nothing } else { !invalid.is_empty() || nothing };
    if (broken || !missing.is_empty()) && gate.on_invalid == Policy::Fail {
        exit_code = INVALID;
        reasons.extend(invalid.iter().map(|r| format!("INVALID {}: {}", r.scenario, r.sentence)));
        reasons.extend(missing.iter().map(|r| format!("{} is not compared: {}", r.case, r.reason)));
    }
    // Without a gate nothing is better or worse than it should be: only validity can fail.
    if !gated && exit_code != INVALID {
        exit_code = 0;
        reasons.clear();
    }
    let mut verdict = match question {
        Question::Change => primary.iter().map(|r| r.verdict).max().unwrap_or(Verdict::Invalid),
        Question::Systems => of_systems(&primary),
    };
    let mut sentence = headline(&primary, question);
    if let Some(first) = missing.first().filter(|_| exit_code == INVALID && verdict < Verdict::Invalid) {
        verdict = Verdict::Invalid;
        // The word and the sentence that stand side by side must be about the same thing.
        sentence = format!("{} is not compared: {}. {sentence}", first.case, first.reason.trim_end_matches('.'));
    }
    Overall { verdict, exit_code, sentence, reasons }
}

/// All pairs of systems in one word.
fn of_systems(primary: &[&ComparisonRow]) -> Verdict {
    let any = |of: &[Verdict]| primary.iter().any(|r| of.contains(&r.verdict));
    match () {
        () if any(&[Verdict::Faster, Verdict::Slower]) => Verdict::Different,
        () if any(&[Verdict::NotDecided]) => Verdict::NotDecided,
        () if any(&[Verdict::Same]) => Verdict::Same,
        () => Verdict::Invalid,
    }
}

/// The sentence of the gravest primary row; of one system and its past latency at p99 before the
/// others, as that is what people ask for; of systems the median, which the fewest runs decide.
fn headline(primary: &[&ComparisonRow], question: Question) -> String {
    let wanted = if question == Question::Change { 0.99 } else { 0.5 };
    let point = |r: &ComparisonRow| r.metric.quantity.quantile().is_some_and(|q| (q - wanted).abs() < 1e-9);
    let size = |r: &ComparisonRow| r.cliffs_delta.map_or(0, |d| (d.abs() * 100.0) as i64);
    let ratio = |r: &ComparisonRow| r.ratio.map_or(0.0, |e| e.value.max(1.0 / e.value));
    let first = match question {
        Question::Change => primary.iter().max_by_key(|r| (r.verdict, point(r), size(r))),
        Question::Systems => primary.iter().max_by(|x, y| {
            let valid = |r: &ComparisonRow| (r.verdict != Verdict::Invalid, point(r));
            valid(x).cmp(&valid(y)).then(ratio(x).total_cmp(&ratio(y)))
        }),
    };
    let Some(first) = first else {
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
            overall.verdict = Verdict::Unmet;
            // The word and the sentence that stand side by side must be about the same thing.
            overall.sentence = format!("A limit is not kept by {}: {}. {}", r.case, r.sentence, overall.sentence);
        }
    }
}

fn reasons_push(overall: &mut Overall, r: &ExpectResult) {
    overall.reasons.push(format!("{} {}: {}", r.verdict.word(), r.case, r.sentence));
}
