//! What a file of claims means: its scenarios resolved, its rules read.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use super::file::{FactWord, Tier};
use super::rule::Rule;
use super::second::{SecondMethod, SecondRule};
use super::share::RateShare;
use crate::record::Record;
use crate::scenario::{Overrides, Scenario};

/// How often a search is made, as scenarios call it.
pub(super) const SEARCHES: &str = "search.searches";

/// How much is run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// Enough for verdicts that hold for all claims together.
    Full,
    /// As short as verdicts allow; they hold for each claim by itself.
    Quick,
}

/// A scenario as the name in a file leads to it.
#[derive(Debug, Clone)]
pub struct ScenarioText {
    /// What `msgbench run` is given for it.
    pub argument: String,
    pub path: PathBuf,
    pub text: String,
}

/// A file of claims, ready to be run and judged.
#[derive(Debug, Clone)]
pub struct ClaimSet {
    pub name: String,
    pub title: String,
    pub source: Option<String>,
    /// The file, and the SHA-256 of its text.
    pub path: PathBuf,
    pub sha256: String,
    pub measures: Vec<Measure>,
    pub seconds: Vec<SecondMethod>,
    pub claims: Vec<Claim>,
}

/// What is run.
#[derive(Debug, Clone)]
pub struct Measure {
    pub name: String,
    /// What `msgbench run` is given.
    pub argument: String,
    pub systems: Vec<String>,
    pub set: Vec<(String, String)>,
    pub quick: Vec<(String, String)>,
    pub tier: Tier,
    pub copies: u32,
    pub rate: Option<RateShare>,
    pub full_only: bool,
    /// Rounds in the full and in the quick form, where the file does not say.
    pub rounds: (Option<u32>, Option<u32>),
    /// The scenario in both forms.
    pub full: Scenario,
    pub short: Scenario,
}

/// A statement.
#[derive(Debug, Clone)]
pub struct Claim {
    pub id: u32,
    pub says: String,
    pub place: String,
    pub hypothesis: Option<String>,
    pub body: ClaimBody,
    /// What is held to results; of a fact, to be shown beside it.
    pub conditions: Vec<Condition>,
    pub every: bool,
    pub cannot_refute: Option<String>,
    pub checked_by: Option<String>,
    pub second: Vec<SecondRule>,
    pub note: Option<String>,
}

/// What kind of statement it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ClaimBody {
    Measured,
    Read { word: FactWord, why: String, at: Option<String> },
    NotTestable { why: String },
}

/// Rules that must hold together.
#[derive(Debug, Clone)]
pub struct Condition {
    /// The circumstance; of a claim that has none, nothing.
    pub when: Option<String>,
    /// Each operand names its measurement.
    pub rules: Vec<Rule>,
    /// Whether it is shown and decides nothing.
    pub beside: bool,
}

impl Condition {
    /// The measurements that it looks at.
    pub fn measures(&self) -> impl Iterator<Item = &str> {
        self.rules.iter().flat_map(Rule::operands).filter_map(|o| o.measure.as_deref())
    }
}

impl SecondMethod {
    /// Whether a form has it.
    pub fn is_in(&self, form: Form) -> bool {
        form == Form::Full || !self.full_only
    }
}

impl Measure {
    /// Whether a form has it.
    pub fn is_in(&self, form: Form) -> bool {
        form == Form::Full || !self.full_only
    }

    /// The measurement that its rate is a share of.
    pub fn base(&self) -> Option<&str> {
        self.rate.as_ref()?.of.measure.as_deref()
    }

    /// The scenario in a form.
    pub fn scenario(&self, form: Form) -> &Scenario {
        match form {
            Form::Full => &self.full,
            Form::Quick => &self.short,
        }
    }

    /// Rounds, where the file does not say them; a search has none.
    fn trials(&self, form: Form) -> Option<u32> {
        let rounds = if form == Form::Quick { self.rounds.1 } else { self.rounds.0 };
        rounds.filter(|_| self.full.plan.search.is_none())
    }

    /// Each round of a search is a search of its own, of which the short form makes one.
    fn searches(&self, form: Form) -> Option<(String, String)> {
        let rounds = self.rounds.0.filter(|_| form == Form::Full && self.full.plan.search.is_some());
        rounds.map(|n| (SEARCHES.to_owned(), n.to_string()))
    }

    /// The options of `msgbench run` that make it.
    pub fn options(&self, form: Form) -> Vec<String> {
        let mut list: Vec<String> = self.systems.iter().flat_map(|s| ["--system".into(), s.clone()]).collect();
        let quick = if form == Form::Quick { &self.quick[..] } else { &[] };
        let rate = self.rate.as_ref().and_then(RateShare::setting);
        for (key, value) in self.set.iter().chain(quick).chain(&rate) {
            list.extend(["--set".into(), format!("{key}={value}")]);
        }
        list.extend(self.searches(form).iter().flat_map(|(key, n)| ["--set".into(), format!("{key}={n}")]));
        list.extend(self.trials(form).iter().flat_map(|n| ["--trials".into(), n.to_string()]));
        list.extend((form == Form::Quick).then(|| "--quick".into()));
        list
    }

    /// The command that repeats it.
    pub fn command(&self, form: Form) -> String {
        let quoted = |word: String| match word.chars().all(|c| c.is_ascii_alphanumeric() || "-_./=%".contains(c)) {
            true => word,
            false => format!("'{}'", word.replace('\'', "'\\''")),
        };
        let words = ["msgbench".to_owned(), "run".into(), self.argument.clone()].into_iter().chain(self.options(form));
        words.map(quoted).collect::<Vec<_>>().join(" ")
    }

    /// The same for the reader of scenarios.
    pub fn overrides(&self, form: Form) -> Overrides {
        let quick = form == Form::Quick;
        let more = if quick { self.quick.clone() } else { Vec::new() };
        Overrides {
            set: self.set.iter().cloned().chain(more).chain(self.searches(form)).collect(),
            systems: self.systems.clone(),
            trials: self.trials(form),
            quick,
            ..Overrides::default()
        }
    }
}

impl Claim {
    /// The measurements that it looks at.
    pub fn measures(&self) -> BTreeSet<&str> {
        self.conditions.iter().flat_map(Condition::measures).collect()
    }
}

impl ClaimSet {
    /// The measurement of a name.
    pub fn measure(&self, name: &str) -> Option<&Measure> {
        self.measures.iter().find(|m| m.name == name)
    }

    /// Finds the rates that are a share of what was measured; gives why another has none.
    pub fn settle(&mut self, records: &BTreeMap<String, Record>) -> BTreeMap<String, String> {
        let mut missing = BTreeMap::new();
        for measure in &mut self.measures {
            let Some(rate) = &mut measure.rate else { continue };
            match rate.find(records) {
                Ok(found) => rate.found = Some(found),
                Err(why) => drop(missing.insert(measure.name.clone(), format!("its rate is not known: {why}"))),
            }
        }
        missing
    }

    /// The tests of all rules, each once: the family that is corrected together. It is that of the
    /// file, whatever of it is measured and judged, so that no verdict hangs on how much is there.
    pub fn tests(&self) -> BTreeSet<String> {
        let rules = self.claims.iter().flat_map(|c| &c.conditions).flat_map(|c| &c.rules);
        rules.filter(|r| !r.by_counterexample()).map(Rule::identity).collect()
    }

    /// The claims that look at a measurement, or at one whose rate is a share of it.
    pub fn claims_of(&self, measure: &str) -> Vec<u32> {
        let shares = self.measures.iter().filter(|m| m.base() == Some(measure)).map(|m| m.name.as_str());
        let all: BTreeSet<&str> = shares.chain([measure]).collect();
        self.claims.iter().filter(|c| !c.measures().is_disjoint(&all)).map(|c| c.id).collect()
    }
}
