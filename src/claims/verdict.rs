//! One word for each claim, from its rules and conditions, after all tests of the report were
//! corrected together.

use std::collections::BTreeMap;

use super::judge::{self, RuleFinding, RuleResult};
use super::result::{ClaimResult, ClaimWord, ConditionResult, Outcomes, SCHEMA};
use super::sentence;
use super::set::{Claim, ClaimBody, ClaimSet, Form};
use crate::record::Record;
use crate::stats::multiple;

/// Probability of a false verdict among all tests of a report.
const ALPHA: f64 = 0.05;

/// Judges the claims that are asked for, all of them where none is; `records` has the result of
/// each measurement that there is, `missing` why there is none of another.
pub fn judge(
    set: &ClaimSet,
    only: &[u32],
    form: Form,
    records: &BTreeMap<String, Record>,
    missing: &BTreeMap<String, String>,
) -> Outcomes {
    let chosen: Vec<&Claim> = set.claims.iter().filter(|c| only.is_empty() || only.contains(&c.id)).collect();
    let mut found: Vec<Vec<Vec<RuleResult>>> = Vec::new();
    for claim in &chosen {
        let of = |rule| {
            let mut result = judge::held(rule, records);
            let gone = rule.operands().into_iter().filter_map(|o| o.measure.as_ref()).find_map(|m| missing.get(m));
            if let (Some(why), RuleFinding::Open) = (gone, result.finding) {
                result.open_because = Some(why.clone());
            }
            result
        };
        found.push(claim.conditions.iter().map(|c| c.rules.iter().map(of).collect()).collect());
    }
    let tests = correct(&mut found, form);
    let claims = chosen.iter().zip(found).map(|(claim, rules)| result(set, claim, rules)).collect();
    Outcomes {
        schema: SCHEMA,
        name: set.name.clone(),
        title: set.title.clone(),
        source: set.source.clone(),
        sha256: set.sha256.clone(),
        quick: form == Form::Quick,
        tests,
        claims,
    }
}

/// Corrects the p-values of all rules together; what is then no longer certain is open. In the
/// quick form the corrected values are shown, and do not decide: there are too few rounds for them.
fn correct(found: &mut [Vec<Vec<RuleResult>>], form: Form) -> usize {
    let p: Vec<f64> = found.iter().flatten().flatten().filter_map(|r| r.p).collect();
    let adjusted = multiple::holm(&p);
    let tested = found.iter_mut().flatten().flatten().filter(|r| r.p.is_some());
    for (rule, p) in tested.zip(adjusted) {
        rule.p_adjusted = Some(p);
        if form == Form::Full && p >= ALPHA && rule.finding != RuleFinding::Open {
            rule.finding = RuleFinding::Open;
            rule.open_because = Some(sentence::not_together(p));
        }
    }
    p.len()
}

/// What several findings come to, all of which must hold.
fn together(rules: &[RuleResult]) -> RuleFinding {
    let any = |f: RuleFinding| rules.iter().any(|r| r.finding == f);
    match () {
        () if any(RuleFinding::Fails) => RuleFinding::Fails,
        () if any(RuleFinding::Open) || rules.is_empty() => RuleFinding::Open,
        () => RuleFinding::Holds,
    }
}

fn result(set: &ClaimSet, claim: &Claim, rules: Vec<Vec<RuleResult>>) -> ClaimResult {
    let conditions: Vec<ConditionResult> = claim
        .conditions
        .iter()
        .zip(rules)
        .map(|(c, rules)| ConditionResult { when: c.when.clone(), finding: together(&rules), rules })
        .collect();
    let verdict = match &claim.body {
        ClaimBody::Read { word, .. } => ClaimWord::Read(*word),
        ClaimBody::NotTestable { .. } => ClaimWord::NotTestable,
        ClaimBody::Measured => match measured(&conditions, claim.every) {
            ClaimWord::Refuted if claim.cannot_refute.is_some() => ClaimWord::NotTestable,
            other => other,
        },
    };
    let used = claim.measures();
    let measures = set.measures.iter().filter(|m| used.contains(m.name.as_str()));
    let mut tiers: Vec<String> = Vec::new();
    for m in measures.clone() {
        let tier = sentence::tier(m.tier, m.copies);
        if !tiers.contains(&tier) {
            tiers.push(tier);
        }
    }
    ClaimResult {
        id: claim.id,
        says: claim.says.clone(),
        place: claim.place.clone(),
        hypothesis: claim.hypothesis.clone(),
        reason: sentence::reason(claim, verdict, &conditions),
        verdict,
        conditions,
        measures: measures.map(|m| m.name.clone()).collect(),
        tiers,
        read_at: match &claim.body {
            ClaimBody::Read { at, .. } => at.clone(),
            _ => None,
        },
        checked_by: claim.checked_by.clone(),
        note: claim.note.clone(),
    }
}

/// The word for what conditions come to.
fn measured(conditions: &[ConditionResult], every: bool) -> ClaimWord {
    let any = |f: RuleFinding| conditions.iter().any(|c| c.finding == f);
    match (any(RuleFinding::Holds), any(RuleFinding::Fails), any(RuleFinding::Open)) {
        (_, true, _) if every => ClaimWord::Refuted,
        (true, true, _) => ClaimWord::Depends,
        (true, false, false) => ClaimWord::Supported,
        (false, true, false) => ClaimWord::Refuted,
        _ => ClaimWord::Undecided,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn conditions(findings: &[RuleFinding]) -> Vec<ConditionResult> {
        findings.iter().map(|f| ConditionResult { when: None, finding: *f, rules: Vec::new() }).collect()
    }

    #[test]
    fn every_kind_of_claim_gets_its_word() {
        let outcomes = super::super::sample::outcomes(1, Form::Quick);
        let words: Vec<&str> = outcomes.claims.iter().map(|c| c.verdict.word()).collect();
        let expected = ["SUPPORTED", "REFUTED", "DEPENDS", "UNDECIDED", "NOT TESTABLE HERE", "OUTDATED", "SUPPORTED"];
        assert_eq!(words, expected, "{outcomes:#?}");
        assert_eq!(outcomes.claims[3].reason, "`gone` was not run yet");
        assert_eq!(outcomes.claims[0].tiers, ["page cache, 3 copies"]);
        // Six rules with a test, and one that needs none.
        assert_eq!(outcomes.tests, 6);
    }

    /// Ten rounds give a p-value of 2 / 1024 at the least: thirty of them are too many for all to
    /// be certain together, and each by itself is.
    #[test]
    fn many_tests_make_each_less_certain_in_the_full_form() {
        let of = |more, form| super::super::sample::outcomes(more, form);
        let last = |o: &Outcomes| o.claims[6].verdict;
        assert_eq!(last(&of(1, Form::Full)), ClaimWord::Supported);
        assert_eq!(last(&of(30, Form::Quick)), ClaimWord::Supported);
        let full = of(30, Form::Full);
        assert_eq!(last(&full), ClaimWord::Undecided);
        let rule = &full.claims[6].conditions[0].rules[0];
        assert!(rule.p_adjusted.unwrap() >= 0.05 && rule.p.unwrap() < 0.01, "{rule:?}");
        assert!(full.claims[6].reason.contains("corrected for all tests"), "{}", full.claims[6].reason);
        // The difference of two systems is far more certain than a sign.
        assert_eq!(full.claims[1].verdict, ClaimWord::Refuted);
    }

    #[test]
    fn conditions_make_one_word() {
        use RuleFinding::{Fails, Holds, Open};
        let word = |f: &[RuleFinding], every| measured(&conditions(f), every).word();
        assert_eq!(word(&[Holds, Holds], false), "SUPPORTED");
        assert_eq!(word(&[Fails, Fails], false), "REFUTED");
        assert_eq!(word(&[Holds, Fails], false), "DEPENDS");
        assert_eq!(word(&[Holds, Fails, Open], false), "DEPENDS");
        assert_eq!(word(&[Holds, Open], false), "UNDECIDED");
        assert_eq!(word(&[Fails, Open], false), "UNDECIDED");
        assert_eq!(word(&[], false), "UNDECIDED");
        assert_eq!(word(&[Holds, Fails], true), "REFUTED");
        assert_eq!(word(&[Open, Fails], true), "REFUTED");
        assert_eq!(word(&[Holds, Open], true), "UNDECIDED");
    }
}
