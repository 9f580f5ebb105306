//! A second method: another tool, or a bare client, that finds one figure by itself. Whoever shares
//! no code with a measurement shares no fault with it either.

use std::collections::BTreeSet;

use super::file::{ClaimsFile, SecondTable};
use super::result::{ClaimWord, SecondResult};
use super::rule::{RuleError, signed};
use crate::plan::gate::Comparator;
use crate::plan::metric::Unit;
use crate::plan::problem::{Problem, Problems, suggest};
use crate::units::{Rate, Span};

/// A command that finds a figure, as the file of claims has it.
#[derive(Debug, Clone, PartialEq)]
pub struct SecondMethod {
    pub name: String,
    /// What it is, in words.
    pub by: String,
    /// Program and arguments; run in the folder of the file.
    pub command: Vec<String>,
    /// How long it may take.
    pub within: Span,
    pub full_only: bool,
}

/// What a second method has said, or why it has said nothing.
pub type SecondFound = Result<String, String>;

/// What its figure must be for the claim to hold.
#[derive(Debug, Clone, PartialEq)]
pub struct SecondRule {
    /// As typed.
    pub that: String,
    /// The method.
    pub method: String,
    comparator: Comparator,
    limit: f64,
    unit: Unit,
}

/// A figure with its unit: a time, a rate, a number.
fn figure(typed: &str) -> Option<(f64, Unit)> {
    let typed = typed.trim();
    let span = typed.parse::<Span>().ok().map(|s| (s.0 as f64, Unit::Nanos));
    let rate = || typed.parse::<Rate>().ok().map(|r| (r.0, Unit::Rate));
    let plain = || typed.parse::<f64>().ok().filter(|v| v.is_finite()).map(|v| (v, Unit::Count));
    plain().or(span).or_else(rate)
}

impl SecondRule {
    /// Reads `nats-latency < 100us`.
    ///
    /// # Errors
    /// What is wrong with it, and what to write instead.
    pub fn read(that: &str) -> Result<Self, RuleError> {
        let form = || Some("write the name of a method, a sign and a value: \"nats-latency < 100us\"".to_owned());
        let Some((method, comparator, limit)) = signed(that) else {
            return Err((format!("`{}` compares nothing", that.escape_debug()), form()));
        };
        let Some((limit, unit)) = figure(limit) else {
            let words = format!("`{}` is no time, rate or number", limit.trim().escape_debug());
            return Err((words, form()));
        };
        Ok(Self { that: that.trim().into(), method: method.trim().into(), comparator, limit, unit })
    }

    /// Whether what the method has found is what must be found.
    pub fn held(&self, by: &str, found: Option<&SecondFound>) -> SecondResult {
        let said = match found {
            None => Err("not run".to_owned()),
            Some(found) => found.clone(),
        };
        let value = said.and_then(|said| match figure(&said).filter(|(_, unit)| *unit == self.unit) {
            None => Err(format!("it said `{}`, which does not fit the rule", said.escape_debug())),
            Some((value, _)) => Ok((said, value)),
        });
        let keeps = value.as_ref().ok().map(|(_, value)| self.comparator.holds(*value, self.limit));
        SecondResult {
            that: self.that.clone(),
            by: by.into(),
            keeps,
            agrees: None,
            missing: value.as_ref().err().cloned(),
            said: value.ok().map(|(said, _)| said),
        }
    }
}

/// What the rules of one claim, all of which must hold, mean for its verdict. A claim of which one
/// part fails is refuted, whatever the other parts do: these then say nothing of the verdict. Where
/// one is missing and the others keep theirs, nobody knows.
pub(super) fn together(mut all: Vec<SecondResult>, verdict: ClaimWord) -> Vec<SecondResult> {
    let fails = all.iter().any(|s| s.keeps == Some(false));
    let known = all.iter().all(|s| s.keeps.is_some());
    for one in &mut all {
        one.agrees = one.keeps.and_then(|keeps| match verdict {
            ClaimWord::Supported => Some(keeps),
            ClaimWord::Refuted if fails => (!keeps).then_some(true),
            ClaimWord::Refuted => known.then_some(false),
            _ => None,
        });
    }
    all
}

/// Second methods. One that no claim asks is of no use, and one that a claim asks must be there.
pub(super) fn methods(file: &ClaimsFile, problems: &mut Problems) -> Vec<SecondMethod> {
    let names: Vec<&str> = file.second.iter().map(|s| s.name.as_str()).collect();
    let mut asked = BTreeSet::new();
    for (i, claim) in file.claim.iter().enumerate() {
        for (k, text) in claim.second.iter().enumerate() {
            let Ok(rule) = SecondRule::read(text) else {
                // What is wrong with it is told where it stands; it asks whom it names.
                asked.extend(names_in(text).filter(|word| names.contains(word)).map(str::to_owned));
                continue;
            };
            if !names.contains(&rule.method.as_str()) {
                let words = format!("there is no second method `{}`", rule.method.escape_debug());
                let problem = Problem::new(format!("claim.{i}.second.{k}"), words);
                problems.add(Problem { hint: suggest(&rule.method, &names), ..problem });
            }
            asked.insert(rule.method);
        }
    }
    for (i, table) in file.second.iter().enumerate() {
        let at = |key: &str| format!("second.{i}.{key}");
        if !asked.contains(&table.name) {
            problems.add(Problem::new(at("name"), format!("no claim asks `{}`", table.name.escape_debug())));
        }
        if names[..i].contains(&table.name.as_str()) {
            let words = format!("there are two methods `{}`", table.name.escape_debug());
            problems.add(Problem::new(at("name"), words));
        }
        if table.command.is_empty() {
            problems.add(Problem::new(at("command"), "it names no program"));
        }
    }
    let method = |s: &SecondTable| SecondMethod {
        name: s.name.clone(),
        by: s.by.clone(),
        command: s.command.clone(),
        within: s.within.unwrap_or(Span::secs(60)),
        full_only: s.full_only,
    };
    file.second.iter().map(method).collect()
}

/// What may be a name in a rule as typed.
fn names_in(typed: &str) -> impl Iterator<Item = &str> {
    typed.split(|c: char| !(c.is_ascii_alphanumeric() || "-_".contains(c)))
}

/// Reads the rules of second methods.
pub(super) fn rules(path: &str, texts: &[String], problems: &mut Problems) -> Vec<SecondRule> {
    let read = |(k, text): (usize, &String)| {
        SecondRule::read(text)
            .map_err(|(message, hint)| Problem { hint, ..Problem::new(format!("{path}.{k}"), message) })
    };
    texts.iter().enumerate().map(read).filter_map(|found| problems.take(found)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_method_agrees_or_does_not() {
        let rule = SecondRule::read("probe < 100us").unwrap();
        let alone = |verdict, found: Option<SecondFound>| {
            together(vec![rule.held("a probe", found.as_ref())], verdict).remove(0)
        };
        let held = |verdict, said: &str| alone(verdict, Some(Ok(said.into())));
        let agrees = |verdict, said: &str| held(verdict, said).agrees;
        assert_eq!(agrees(ClaimWord::Supported, "92us"), Some(true));
        assert_eq!(agrees(ClaimWord::Supported, "0.2ms"), Some(false));
        assert_eq!(agrees(ClaimWord::Refuted, "200us"), Some(true));
        assert_eq!(agrees(ClaimWord::Refuted, "92us"), Some(false));
        assert_eq!(agrees(ClaimWord::Undecided, "92us"), None);
        let words = |found: Option<SecondFound>| alone(ClaimWord::Supported, found).words();
        insta::assert_snapshot!(
            [
                words(Some(Ok("92us".into()))),
                words(Some(Ok("1ms".into()))),
                words(Some(Ok("92".into()))),
                words(Some(Ok("many".into()))),
                words(Some(Err("nats is not here".into()))),
                words(None),
                held(ClaimWord::Refuted, "200us").words(),
                held(ClaimWord::Refuted, "92us").words(),
                held(ClaimWord::Depends, "92us").words(),
                held(ClaimWord::NotTestable, "200us").words(),
            ]
            .join("\n")
        );
        assert!(SecondRule::read("probe 100us").is_err() && SecondRule::read("probe < soon").is_err());
    }
}
