//! One word for each claim, from its rules and conditions, after all tests of the report were
//! corrected together.

use std::collections::BTreeMap;

use super::judge::{self, RuleFinding, RuleResult};
use super::result::{ClaimResult, ClaimWord, ConditionResult, Outcomes, SCHEMA, SecondResult};
use super::rule::Rule;
use super::second::{self, SecondFound, SecondRule};
use super::sentence;
use super::set::{Claim, ClaimBody, ClaimSet, Condition, Form, Measure};
use crate::record::Record;
use crate::stats::multiple;
use crate::units::Span;

/// Probability of a false verdict among all tests of a report.
const ALPHA: f64 = 0.05;
/// Why the quick form has nothing of something.
const ONLY_FULL: &str = "only in the full form";

/// What claims are held to.
#[derive(Debug, Clone, Default)]
pub struct ClaimFindings {
    /// The result of each measurement that there is.
    pub records: BTreeMap<String, Record>,
    /// Why there is none of another.
    pub missing: BTreeMap<String, String>,
    /// What each second method has said, or why it has not.
    pub second: BTreeMap<String, SecondFound>,
}

/// Judges the claims that are asked for, all of them where none is.
pub fn judge(set: &ClaimSet, only: &[u32], form: Form, evidence: &ClaimFindings) -> Outcomes {
    let ClaimFindings { records, missing, second } = evidence;
    let chosen: Vec<&Claim> = set.claims.iter().filter(|c| only.is_empty() || only.contains(&c.id)).collect();
    let mut found: Vec<Vec<Vec<RuleResult>>> = Vec::new();
    for claim in &chosen {
        let of = |rule: &Rule| {
            let left_out = |name: &str| set.measure(name).is_some_and(|m| !m.is_in(form));
            if rule.operands().into_iter().filter_map(|o| o.measure.as_deref()).any(left_out) {
                return RuleResult::open(rule, ONLY_FULL.into());
            }
            let mut result = judge::held(rule, records);
            let gone = rule.operands().into_iter().filter_map(|o| o.measure.as_ref()).find_map(|m| missing.get(m));
            if let (Some(why), RuleFinding::Open) = (gone, result.finding) {
                result.open_because = Some(why.clone());
            }
            // Nothing else that leaves it open is mended by more of the same.
            if let Some(why) = result.open_because.as_ref().filter(|_| result.within && gone.is_none()) {
                result.open_because = Some(format!("{why}; {}", would_decide(set, rule, form)));
            }
            result
        };
        found.push(claim.conditions.iter().map(|c| c.rules.iter().map(of).collect()).collect());
    }
    let tests = correct(set, &chosen, &mut found, form);
    let claims = chosen.iter().zip(found).map(|(claim, rules)| result(set, claim, rules, form, second)).collect();
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

/// What would decide a rule that was measured and is open.
fn would_decide(set: &ClaimSet, rule: &Rule, form: Form) -> String {
    let measures: Vec<&Measure> =
        rule.operands().into_iter().filter_map(|o| set.measure(o.measure.as_deref()?)).collect();
    let of = |m: &Measure, form: Form| {
        let plan = &m.scenario(form).plan;
        let longest = plan.cases.iter().map(|c| c.phases.measure).max().unwrap_or(Span::secs(0));
        (plan.trials, longest)
    };
    let more = measures.iter().filter(|m| form == Form::Quick && m.full.plan.search.is_none()).find_map(|m| {
        let ((full, long), (here, short)) = (of(m, Form::Full), of(m, Form::Quick));
        (full > here || long > short)
            .then(|| format!("the full form makes {full} rounds of {long}, here {here} of {short}"))
    });
    let searched = measures.iter().any(|m| m.full.plan.search.is_some());
    let narrow =
        if searched { "more searches of a smaller width would narrow it" } else { "more rounds would narrow it" };
    more.unwrap_or_else(|| narrow.into())
}

/// Why a rule that its own interval decides is open among all others.
fn not_together(raw: Option<f64>, adjusted: f64) -> String {
    // However often all values are the same, the test of them says nothing.
    match raw.is_some_and(|p| p >= 1.0) {
        true => "its own interval would decide, but the values of both are too much alike for a test (p is 1)".into(),
        false => sentence::not_together(adjusted),
    }
}

/// Corrects the p-values of all rules together; what is then no longer certain is open. In the
/// quick form the corrected values are shown, and do not decide: there are too few rounds for them.
///
/// The family is that of the file: a rule that two claims have is one test, and one without a
/// result is a test that decides nothing.
fn correct(set: &ClaimSet, chosen: &[&Claim], found: &mut [Vec<Vec<RuleResult>>], form: Form) -> usize {
    let mut family: BTreeMap<String, f64> = set.tests().into_iter().map(|rule| (rule, 1.0)).collect();
    let names = || chosen.iter().flat_map(|c| &c.conditions).flat_map(|c| &c.rules).map(Rule::identity);
    let measured = found.iter().flatten().flatten().map(|r| r.p);
    family.extend(names().zip(measured).filter_map(|(name, p)| Some((name, p?))));
    let p: Vec<f64> = family.values().copied().collect();
    let adjusted: BTreeMap<&String, f64> = family.keys().zip(multiple::holm(&p)).collect();
    for (name, rule) in names().zip(found.iter_mut().flatten().flatten()).filter(|(_, r)| r.p.is_some()) {
        let Some(p) = adjusted.get(&name).copied() else { continue };
        rule.p_adjusted = Some(p);
        if form == Form::Full && p >= ALPHA && rule.finding != RuleFinding::Open {
            rule.finding = RuleFinding::Open;
            rule.open_because = Some(not_together(rule.p, p));
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

fn result(
    set: &ClaimSet,
    claim: &Claim,
    rules: Vec<Vec<RuleResult>>,
    form: Form,
    second: &BTreeMap<String, SecondFound>,
) -> ClaimResult {
    let in_form = |c: &Condition| c.measures().filter_map(|name| set.measure(name)).all(|m| m.is_in(form));
    let condition = |(c, rules): (&Condition, Vec<RuleResult>)| {
        let (finding, beside) = (together(&rules), c.beside || !in_form(c));
        ConditionResult { when: c.when.clone(), finding, rules, beside }
    };
    let conditions: Vec<ConditionResult> = claim.conditions.iter().zip(rules).map(condition).collect();
    let verdict = match &claim.body {
        ClaimBody::Read { word, .. } => ClaimWord::Read(*word),
        ClaimBody::NotTestable { .. } => ClaimWord::NotTestable,
        ClaimBody::Measured => match measured(&conditions, claim.every) {
            // What fails here may hold elsewhere.
            ClaimWord::Refuted | ClaimWord::Depends if claim.cannot_refute.is_some() => ClaimWord::NotTestable,
            other => other,
        },
    };
    let used = claim.measures();
    let measures = set.measures.iter().filter(|m| used.contains(m.name.as_str()) && m.is_in(form));
    let mut tiers: Vec<String> = Vec::new();
    for m in measures.clone() {
        let tier = sentence::tested_on(m);
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
        second: second_methods(set, claim, verdict, form, second),
        note: claim.note.clone(),
    }
}

/// What second methods found, and what that means together for the verdict.
fn second_methods(
    set: &ClaimSet,
    claim: &Claim,
    verdict: ClaimWord,
    form: Form,
    second: &BTreeMap<String, SecondFound>,
) -> Vec<SecondResult> {
    let held = |rule: &SecondRule| {
        let method = set.seconds.iter().find(|s| s.name == rule.method);
        let left_out = Err(ONLY_FULL.to_owned());
        let found = second.get(&rule.method).or(method.filter(|m| !m.is_in(form)).map(|_| &left_out));
        rule.held(method.map_or("", |s| &s.by), found)
    };
    second::together(claim.second.iter().map(held).collect(), verdict)
}

/// The word for what conditions come to.
fn measured(conditions: &[ConditionResult], every: bool) -> ClaimWord {
    let any = |f: RuleFinding| conditions.iter().any(|c| !c.beside && c.finding == f);
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
        findings.iter().map(|f| ConditionResult { when: None, finding: *f, rules: Vec::new(), beside: false }).collect()
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

    fn judged(text: &str, only: &[u32], form: Form) -> Outcomes {
        use super::super::sample::{of_text, records};
        super::judge(&of_text(text), only, form, &ClaimFindings { records: records(), ..ClaimFindings::default() })
    }

    /// A text with this in place of the last claim.
    fn last(claim: &str) -> String {
        let text = super::super::sample::text("\"e2e.p99 of reference < 2ms\"");
        let (head, _) = text.rsplit_once("[[claim]]").unwrap();
        format!("{head}[[claim]]\nid = 7\nsays = \"x\"\nplace = \"y\"\nmeasure = \"fan\"\n{claim}")
    }

    /// The family is that of the file: fewer claims asked for, or a rule said twice, change no
    /// p-value.
    #[test]
    fn the_family_is_that_of_the_file() {
        let rule = "\"e2e.p99 of reference < 2ms\"";
        let text = super::super::sample::text(rule);
        let p = |o: &Outcomes| o.claims.last().unwrap().conditions[0].rules[0].p_adjusted.unwrap();
        let (all, one) = (judged(&text, &[], Form::Full), judged(&text, &[7], Form::Full));
        assert_eq!((all.tests, one.tests), (6, 6));
        let raw = one.claims[0].conditions[0].rules[0].p.unwrap();
        assert!((p(&one) - 6.0 * raw).abs() < 1e-12, "{} {raw}", p(&one));
        let twice = judged(&super::super::sample::text(&format!("{rule}, {rule}")), &[], Form::Full);
        assert_eq!((twice.tests, p(&twice)), (6, p(&all)));
    }

    /// What stands beside a claim is shown and decides nothing; so is what a form leaves out.
    #[test]
    fn what_is_beside_a_claim_decides_nothing() {
        let (slow, fast) = ("[\"e2e.p99 of reference < 1us\"]", "[\"e2e.p99 of nats < 1ms\"]");
        let of = |beside: &str, measure: &str| {
            let of = |when: &str, holds: &str, more: &str| {
                format!("[[claim.condition]]\nwhen = \"{when}\"\nholds = {holds}\n{more}\n")
            };
            let text = last(&format!("{}{}", of("slow", slow, ""), of("fast", fast, beside)));
            text.replacen("copies = 3", &format!("copies = 3\n{measure}"), 1)
        };
        let verdict = |text: &str, form| judged(text, &[7], form).claims[0].verdict;
        assert_eq!(verdict(&of("", ""), Form::Full), ClaimWord::Depends);
        assert_eq!(verdict(&of("beside = true", ""), Form::Full), ClaimWord::Refuted);
        let outcomes = judged(&of("beside = true", ""), &[7], Form::Full);
        assert!(outcomes.claims[0].reason.contains("fast (decides nothing): e2e.p99 of nats"), "{outcomes:?}");
        let left_out = of("", "full-only = true");
        assert_eq!(verdict(&left_out, Form::Full), ClaimWord::Depends);
        let quick = judged(&left_out, &[7], Form::Quick);
        assert_eq!(quick.claims[0].verdict, ClaimWord::Undecided);
        assert!(quick.claims[0].reason.contains("only in the full form"), "{quick:?}");
    }

    /// A second method of the full form alone is not missed in the quick one.
    #[test]
    fn a_second_method_may_be_left_out_of_the_quick_form() {
        let claim = last("second = [\"probe < 5ms\"]\nholds = [\"e2e.p99 of reference < 1us\"]");
        let text = claim + "\n[[second]]\nname = \"probe\"\nby = \"a probe\"\ncommand = [\"true\"]\nfull-only = true\n";
        let missing = |form| judged(&text, &[7], form).claims[0].second[0].missing.clone().unwrap();
        assert_eq!((missing(Form::Quick), missing(Form::Full)), ("only in the full form".into(), "not run".into()));
        let set = super::super::sample::of_text(&text);
        assert!(!set.seconds[0].is_in(Form::Quick) && set.seconds[0].is_in(Form::Full));
    }

    /// What is open says what would decide it.
    #[test]
    fn what_is_open_says_what_would_decide() {
        let claim = last("holds = [\"e2e.p99 of reference < 808us\"]");
        let quick = "copies = 3\nset = { \"run.trials\" = 12, \"run.duration\" = \"10s\" }\n\
                     quick = { \"run.trials\" = 6, \"run.duration\" = \"2s\" }";
        let text = claim.replacen("copies = 3", quick, 1);
        let why = |form| judged(&text, &[7], form).claims[0].reason.clone();
        let words = why(Form::Quick);
        assert!(
            words.contains("the interval holds the limit; the full form makes 12 rounds of 10s, here 6 of 2s"),
            "{words}"
        );
        let words = why(Form::Full);
        assert!(words.contains("the interval holds the limit; more rounds would narrow it"), "{words}");
    }

    /// Only what lies within the interval would be known by more rounds.
    #[test]
    fn no_rounds_are_promised_where_none_would_decide() {
        use super::super::sample::{of_text, records};
        let set = of_text(&last("holds = [\"e2e.p99 of reference < 1ms\"]"));
        let with = |edit: &dyn Fn(&mut crate::record::Trial)| {
            let mut records = records();
            records.get_mut("fan").unwrap().trials.iter_mut().for_each(edit);
            let all = super::judge(&set, &[7], Form::Full, &ClaimFindings { records, ..ClaimFindings::default() });
            (all.claims[0].verdict, all.claims[0].reason.clone())
        };
        let (verdict, thin) = with(&|t| {
            let latency = t.workloads[0].latency.values_mut();
            latency.flat_map(|l| &mut l.percentiles).for_each(|p| (p.exceedances, p.effective) = (5.0, Some(5.0)));
        });
        assert_eq!(verdict, ClaimWord::Undecided);
        assert!(thin.contains("fewer than 30 samples") && !thin.contains("more rounds"), "{thin}");
        let (verdict, picked) = with(&|t| {
            if t.round > 4 {
                t.outcome = crate::record::Outcome::Failed { phase: "measure".into(), error: "it died".into() };
            }
        });
        assert_eq!(verdict, ClaimWord::Undecided);
        assert!(!picked.contains("would narrow"), "{picked}");
    }

    /// Values that are all the same stay so in more rounds.
    #[test]
    fn a_test_of_ties_promises_no_rounds() {
        assert!(not_together(Some(1.0), 1.0).contains("too much alike for a test"));
        assert!(not_together(Some(0.04), 1.0).contains("more rounds would decide"));
    }

    /// A claim of which one part fails is refuted, whatever the other parts do.
    #[test]
    fn second_methods_are_taken_together() {
        let claim = |rule: &str| last(&format!("second = [\"one < 5ms\", \"two < 5ms\"]\nholds = [\"{rule}\"]"));
        let methods = |name: &str| format!("\n[[second]]\nname = \"{name}\"\nby = \"{name}\"\ncommand = [\"true\"]\n");
        let agree = |rule: &str, said: [&str; 2]| {
            let set = super::super::sample::of_text(&(claim(rule) + &methods("one") + &methods("two")));
            let answer = |s: &str| if s.is_empty() { Err("gone".to_owned()) } else { Ok(s.to_owned()) };
            let second = ["one", "two"].into_iter().zip(said).map(|(n, s)| (n.to_owned(), answer(s))).collect();
            let records = super::super::sample::records();
            let all =
                super::judge(&set, &[7], Form::Full, &ClaimFindings { records, second, ..ClaimFindings::default() });
            all.claims[0].second.iter().map(|s| s.agrees).collect::<Vec<_>>()
        };
        let (refuted, supported) = ("e2e.p99 of reference < 1us", "e2e.p99 of reference < 1ms");
        assert_eq!(agree(refuted, ["1ms", "9ms"]), [None, Some(true)], "one of two fails, as it must");
        assert_eq!(agree(refuted, ["9ms", "9ms"]), [Some(true), Some(true)]);
        assert_eq!(agree(refuted, ["1ms", "1ms"]), [Some(false), Some(false)]);
        assert_eq!(agree(refuted, ["1ms", ""]), [None, None], "the other one may fail");
        assert_eq!(agree(supported, ["1ms", "9ms"]), [Some(true), Some(false)]);
        assert_eq!(agree(supported, ["1ms", "1ms"]), [Some(true), Some(true)]);
    }

    /// Where a machine cannot refute a claim, a condition that fails refutes no part of it either.
    #[test]
    fn a_machine_that_cannot_refute_makes_nothing_depend() {
        let condition = |rule: &str| format!("[[claim.condition]]\nwhen = \"{rule}\"\nholds = [\"{rule}\"]\n");
        let both = format!("{}{}", condition("e2e.p99 of nats < 1us"), condition("e2e.p99 of nats < 1ms"));
        let verdict = |text: &str| judged(text, &[7], Form::Full).claims[0].verdict;
        assert_eq!(verdict(&last(&both)), ClaimWord::Depends);
        assert_eq!(verdict(&last(&format!("cannot-refute = \"it is small\"\n{both}"))), ClaimWord::NotTestable);
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
