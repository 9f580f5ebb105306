//! A file of claims as typed.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Deserialize;

use crate::plan::gate::Share;
use crate::units::Span;

/// A file of claims: what somebody says of messaging systems, and how each of it is put to the
/// test.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct ClaimsFile {
    /// Short name, fit for a file name; the folder of the results is called so.
    pub name: String,
    /// What stands at the head of the page.
    pub title: String,
    /// Who says it, and where.
    pub source: Option<String>,
    /// What is run. Several claims may look at one measurement.
    #[serde(default)]
    pub measure: Vec<MeasureTable>,
    /// Other tools and clients that find single figures by themselves.
    #[serde(default)]
    pub second: Vec<SecondTable>,
    /// What is said, in the order in which it is said.
    pub claim: Vec<ClaimTable>,
}

/// `[[measure]]`: a scenario with its settings.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct MeasureTable {
    /// Its name, by which claims refer to it.
    pub name: String,
    /// The name of a built-in scenario, or a file, relative to this one.
    pub scenario: String,
    /// Only these systems of it. Default: all of them.
    #[serde(default)]
    pub systems: Vec<String>,
    /// Keys of the scenario that are different, as with `--set`: { "run.duration" = "20s" }.
    #[serde(default)]
    #[schemars(with = "BTreeMap<String, serde_json::Value>")]
    pub set: BTreeMap<String, toml::Value>,
    /// The same for the quick form alone, on top of `set`.
    #[serde(default)]
    #[schemars(with = "BTreeMap<String, serde_json::Value>")]
    pub quick: BTreeMap<String, toml::Value>,
    /// Where an acknowledged message is: like is compared with like.
    pub tier: Tier,
    /// How many servers have it. Default: 1.
    pub copies: Option<u32>,
    /// Its rate as a share of what a system can do, as another measurement of this file has found
    /// it: { share = "30%", of = "throughput.delivered of kafka in rates" }. It takes the place of
    /// `workload.load.rate`.
    pub rate: Option<RateTable>,
    /// Whether it is left out of the quick form, where it takes too long. Conditions that look at
    /// it are then not part of the verdict. Default: false.
    #[serde(default)]
    pub full_only: bool,
}

/// `rate` of a measurement: a share of what another one has found.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct RateTable {
    /// How much of it: "30%".
    pub share: Share,
    /// A rate of a system, and the measurement: "throughput.delivered of kafka in rates".
    pub of: String,
}

/// `[[second]]`: a command that finds one figure without msgbench, and prints it as its last line:
/// `92us`, `800k/s`, `0`. Exit code 77: what it needs is not here, as the line says.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct SecondTable {
    /// Its name, by which claims refer to it.
    pub name: String,
    /// What it is, in words.
    pub by: String,
    /// Program and arguments, run in the folder of this file.
    pub command: Vec<String>,
    /// How long it may take. Default: "60s".
    pub within: Option<Span>,
    /// Whether the quick form leaves it out. Default: false.
    #[serde(default)]
    pub full_only: bool,
}

/// Where a message is when it is acknowledged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Deserialize, serde::Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Tier {
    /// Nowhere: nothing is stored.
    None,
    /// In memory of the server.
    Memory,
    /// In the page cache of the server's kernel: it survives the process, not the power.
    PageCache,
    /// On the disk, synced before the acknowledgement.
    Synced,
    /// It differs between the systems of the measurement, each of which says so by its name.
    Various,
}

impl Tier {
    /// In a table.
    pub fn word(self) -> &'static str {
        match self {
            Self::None => "not stored",
            Self::Memory => "memory",
            Self::PageCache => "page cache",
            Self::Synced => "synced",
            Self::Various => "by system",
        }
    }
}

/// `[[claim]]`: one statement.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct ClaimTable {
    /// Its number, for `--only` and links; each once, rising.
    pub id: u32,
    /// The statement, quoted in a few words.
    pub says: String,
    /// Where it stands.
    pub place: String,
    /// What would have to be seen for it to be true, in words.
    pub hypothesis: Option<String>,
    /// The measurement that its rules look at, unless they name another.
    pub measure: Option<String>,
    /// What must hold, all of it: "e2e.p99 of nats < 1ms", "e2e.p50 of jetstream < 1.5 * e2e.p50 of
    /// kafka".
    #[serde(default)]
    pub holds: Vec<String>,
    /// Circumstances that it is tested under, each by itself.
    #[serde(default)]
    pub condition: Vec<ConditionTable>,
    /// Whether it is refuted as soon as it fails under one of them, because it says `always` or
    /// `all`. Default: false; then it depends.
    #[serde(default)]
    pub every: bool,
    /// Why a measurement here cannot refute it, such as a limit of the host: what would be REFUTED
    /// is NOT TESTABLE HERE.
    pub cannot_refute: Option<String>,
    /// Why it is not put to the test here at all.
    pub not_testable: Option<String>,
    /// What it is where it is a matter of reading and not of measuring.
    pub fact: Option<FactWord>,
    /// Why it is that.
    pub why: Option<String>,
    /// Where that can be read.
    pub read_at: Option<String>,
    /// What second methods must find for it to hold: "nats-latency < 100us". It says whether they
    /// agree with the verdict, and changes none.
    #[serde(default)]
    pub second: Vec<String>,
    /// The second method that the result was checked with, and what it found.
    pub checked_by: Option<String>,
    /// What a reader should know besides.
    pub note: Option<String>,
}

/// `[[claim.condition]]`: the claim under one circumstance.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct ConditionTable {
    /// The circumstance, in a few words.
    pub when: String,
    /// As in the claim. Default: that of the claim.
    pub measure: Option<String>,
    /// As in the claim.
    pub holds: Vec<String>,
    /// Whether it is no circumstance of the claim, but something to be seen beside it, such as what
    /// the machine can do: it is shown, and decides nothing. Default: false.
    #[serde(default)]
    pub beside: bool,
}

/// What a statement is that nobody needs to measure.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, serde::Serialize, JsonSchema)]
pub enum FactWord {
    /// It is so, as can be read.
    #[serde(rename = "FACT")]
    Fact,
    /// It is not so, as can be read; or it is a statement of another kind than it seems.
    #[serde(rename = "NOT A FACT")]
    NotAFact,
    /// It was so.
    #[serde(rename = "OUTDATED")]
    Outdated,
    /// The same text says the opposite elsewhere.
    #[serde(rename = "CONTRADICTS ITSELF")]
    ContradictsItself,
    /// A judgement, which no measurement can support or refute.
    #[serde(rename = "OPINION")]
    Opinion,
}

impl FactWord {
    /// In a report.
    pub fn word(self) -> &'static str {
        match self {
            Self::Fact => "FACT",
            Self::NotAFact => "NOT A FACT",
            Self::Outdated => "OUTDATED",
            Self::ContradictsItself => "CONTRADICTS ITSELF",
            Self::Opinion => "OPINION",
        }
    }
}
