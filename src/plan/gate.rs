//! What a result must satisfy: when a change counts as a regression, and absolute limits.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize};

use super::metric::Metric;
pub use super::share::Share;

/// A share as a record has it, where a bare number may be above 1: it was checked when it was
/// typed.
#[derive(Deserialize)]
#[serde(untagged)]
enum RecordedShare {
    Number(f64),
    Typed(Share),
}

impl From<RecordedShare> for Share {
    fn from(kept: RecordedShare) -> Self {
        match kept {
            RecordedShare::Number(share) => Self(share),
            RecordedShare::Typed(share) => share,
        }
    }
}

fn kept<'de, D: Deserializer<'de>>(d: D) -> Result<Share, D::Error> {
    RecordedShare::deserialize(d).map(Share::from)
}

fn kept_each<'de, D: Deserializer<'de>>(d: D) -> Result<BTreeMap<String, Share>, D::Error> {
    Ok(BTreeMap::<String, RecordedShare>::deserialize(d)?
        .into_iter()
        .map(|(name, share)| (name, share.into()))
        .collect())
}

/// What an outcome that is not a verdict leads to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Policy {
    /// Nothing.
    Pass,
    /// It is said, the exit code is 0.
    Warn,
    /// The exit code says it.
    Fail,
}

/// When a change counts as a regression.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Gate {
    /// The largest change that is of no practical importance.
    #[serde(deserialize_with = "kept")]
    pub max_change: Share,
    /// The same for single metrics.
    #[serde(deserialize_with = "kept_each")]
    pub max_change_of: BTreeMap<String, Share>,
    /// Probability of a false alarm in any primary metric.
    pub alpha: f64,
    /// The metrics that decide; empty for p50 and p99 of each response latency and
    /// `throughput.delivered`.
    pub primary: Vec<Metric>,
    /// Valid runs a side below which nothing is decided.
    pub min_runs: u32,
    /// Runs at the first and at the second look.
    pub looks: Option<(u32, u32)>,
    /// A regression must exceed the largest change with its whole interval.
    pub strict: bool,
    /// Decide by the sign-flip test over rounds.
    pub paired: bool,
    /// When a primary metric is inconclusive.
    pub on_inconclusive: Policy,
    /// When a primary metric cannot be compared.
    pub on_invalid: Policy,
}

impl Default for Gate {
    fn default() -> Self {
        Self {
            max_change: Share(0.05),
            max_change_of: BTreeMap::new(),
            alpha: 0.01,
            primary: Vec::new(),
            min_runs: 4,
            looks: None,
            strict: false,
            paired: false,
            on_inconclusive: Policy::Warn,
            on_invalid: Policy::Fail,
        }
    }
}

impl Gate {
    /// The largest change of a metric of a workload that is of no practical importance. The name of
    /// the workload may be written even where it is the only one.
    pub fn max_change(&self, metric: &Metric, workload: &str) -> f64 {
        let bare = metric.quantity.to_string();
        let named = self.max_change_of.get(&format!("{workload}.{bare}")).or_else(|| self.max_change_of.get(&bare));
        named.unwrap_or(&self.max_change).0
    }
}

/// How a value is compared with its limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Comparator {
    /// Less than.
    #[serde(rename = "<")]
    Less,
    #[serde(rename = "<=")]
    AtMost,
    /// Greater than.
    #[serde(rename = ">")]
    Greater,
    #[serde(rename = ">=")]
    AtLeast,
    #[serde(rename = "==")]
    Equal,
}

impl Comparator {
    /// Whether the value satisfies the limit.
    pub fn holds(self, value: f64, limit: f64) -> bool {
        match self {
            Self::Less => value < limit,
            Self::AtMost => value <= limit,
            Self::Greater => value > limit,
            Self::AtLeast => value >= limit,
            Self::Equal => value == limit,
        }
    }
}

/// An absolute limit.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Expectation {
    /// As typed.
    pub that: String,
    /// What is limited.
    pub metric: Metric,
    pub comparator: Comparator,
    /// The limit, in the unit of the metric.
    pub limit: f64,
    /// Only for this system.
    pub system: Option<String>,
    /// When the runs disagree.
    pub on_inconclusive: Policy,
}
