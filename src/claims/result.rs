//! Claims with their verdicts, as they are written beside the pages.

use serde::{Deserialize, Serialize};

use super::file::FactWord;
use super::judge::{RuleFinding, RuleResult};

/// The schema of what is written beside the pages.
pub const SCHEMA: &str = "msgbench.claims/1";

/// What is said of a claim.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ClaimWord {
    /// The interval of each rule lies wholly on the side of the claim.
    Supported,
    /// That of one lies wholly on the other side.
    Refuted,
    /// It holds under some of the stated conditions and fails under others.
    Depends,
    /// What was measured does not decide.
    Undecided,
    /// This host, kernel or program cannot put it to the test.
    NotTestable,
    /// A matter of reading.
    Read(FactWord),
}

impl ClaimWord {
    /// In a report.
    pub fn word(self) -> &'static str {
        match self {
            Self::Supported => "SUPPORTED",
            Self::Refuted => "REFUTED",
            Self::Depends => "DEPENDS",
            Self::Undecided => "UNDECIDED",
            Self::NotTestable => "NOT TESTABLE HERE",
            Self::Read(word) => word.word(),
        }
    }
}

/// The rules of a condition, held to the records.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ConditionResult {
    /// Nothing of a claim without conditions.
    pub when: Option<String>,
    pub finding: RuleFinding,
    pub rules: Vec<RuleResult>,
    /// Whether it is shown and decides nothing: something beside the claim, or not in this form.
    pub beside: bool,
}

/// What a second method found, and what that means for the verdict.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct SecondResult {
    pub that: String,
    /// What the method is.
    pub by: String,
    /// What it found, as it said it.
    pub said: Option<String>,
    /// Whether that is what must be found for the claim to hold.
    pub keeps: Option<bool>,
    /// Whether that agrees with the verdict, where the verdict says yes or no.
    pub agrees: Option<bool>,
    /// Why it found nothing.
    pub missing: Option<String>,
}

impl SecondResult {
    /// In a sentence.
    pub fn words(&self) -> String {
        let found = match (&self.said, &self.missing) {
            (Some(said), _) => format!("found {said}"),
            (None, why) => format!("found nothing: {}", why.as_deref().unwrap_or_default()),
        };
        let means = match (self.agrees, self.keeps) {
            (Some(true), _) => "; it agrees",
            (Some(false), _) => "; it DOES NOT AGREE",
            // The verdict says neither yes nor no.
            (None, Some(true)) => "; it speaks for the claim",
            (None, Some(false)) => "; it speaks against the claim",
            (None, None) => "",
        };
        format!("{} {found} ({}){means}", self.by, self.that)
    }
}

/// A claim with its verdict.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ClaimResult {
    pub id: u32,
    pub says: String,
    pub place: String,
    pub hypothesis: Option<String>,
    pub verdict: ClaimWord,
    /// Why, in a sentence or two.
    pub reason: String,
    pub conditions: Vec<ConditionResult>,
    /// The measurements, in the order of the file.
    pub measures: Vec<String>,
    /// Where an acknowledged message was, and how many copies of it there were: each that occurs.
    pub tiers: Vec<String>,
    pub read_at: Option<String>,
    pub checked_by: Option<String>,
    /// What second methods found.
    pub second: Vec<SecondResult>,
    pub note: Option<String>,
}

impl ClaimResult {
    /// Whether it is refuted by one method alone, and none other is named: a mistake of that method
    /// would be a mistake about what somebody says.
    pub fn by_one_method(&self) -> bool {
        self.verdict == ClaimWord::Refuted && self.second.is_empty() && self.checked_by.is_none()
    }
}

/// All claims with their verdicts.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Outcomes {
    /// Always `msgbench.claims/1`.
    pub schema: &'static str,
    pub name: String,
    pub title: String,
    pub source: Option<String>,
    /// SHA-256 of the file of claims.
    pub sha256: String,
    /// Whether it was the short form: then each verdict holds by itself, and not all together.
    pub quick: bool,
    /// Tests that were corrected together.
    pub tests: usize,
    pub claims: Vec<ClaimResult>,
}

impl Outcomes {
    /// How many claims have a verdict.
    pub fn count(&self, of: impl Fn(ClaimWord) -> bool) -> usize {
        self.claims.iter().filter(|c| of(c.verdict)).count()
    }
}
