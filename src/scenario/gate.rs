//! What a result must satisfy: `[gate]` says when a change counts as a regression, `[[expect]]` sets absolute limits.
//!
//! Both may stand in the scenario or in a file of their own (`--gate FILE`). As elsewhere there is a typed form, which
//! refuses unknown keys, and a resolved one, which is part of the plan and so of every record.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;
use std::str::FromStr;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::diagnose::{Diagnosis, Place, Problem, ScenarioError, locate, reword, suggest};
use super::metric::{Metric, quantile_name};
use crate::units::ParseError;

/// A share, written `5%` or `0.05`.
#[derive(Debug, Clone, Copy, PartialEq, PartialOrd)]
pub struct Share(pub f64);

impl FromStr for Share {
    type Err = ParseError;
    fn from_str(text: &str) -> Result<Self, ParseError> {
        let trimmed = text.trim();
        let (number, scale) = trimmed.strip_suffix('%').map_or((trimmed, 1.0), |n| (n.trim(), 100.0));
        match number.parse::<f64>() {
            Ok(n) if n.is_finite() && n >= 0.0 => Ok(Self(n / scale)),
            _ => Err(ParseError(format!("`{text}` is not a share: write it like \"5%\""))),
        }
    }
}

impl fmt::Display for Share {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = format!("{:.4}", self.0 * 100.0);
        write!(f, "{}%", text.trim_end_matches('0').trim_end_matches('.'))
    }
}

impl Serialize for Share {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.serialize_f64(self.0)
    }
}

impl<'de> Deserialize<'de> for Share {
    // By hand, because an untagged enum would forget where in the file the mistake is.
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        struct Either;
        impl serde::de::Visitor<'_> for Either {
            type Value = Share;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a share such as \"5%\" or 0.05")
            }
            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Share, E> {
                text.parse().map_err(E::custom)
            }
            fn visit_f64<E: serde::de::Error>(self, value: f64) -> Result<Share, E> {
                value.to_string().parse().map_err(E::custom)
            }
            fn visit_i64<E: serde::de::Error>(self, value: i64) -> Result<Share, E> {
                value.to_string().parse().map_err(E::custom)
            }
            fn visit_u64<E: serde::de::Error>(self, value: u64) -> Result<Share, E> {
                value.to_string().parse().map_err(E::custom)
            }
        }
        d.deserialize_any(Either)
    }
}

impl JsonSchema for Share {
    fn schema_name() -> Cow<'static, str> {
        "Share".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": ["string", "number"], "description": "A share, such as \"5%\" or 0.05." })
    }
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

/// `[gate]` as typed.
#[derive(Debug, Clone, PartialEq, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct GateTable {
    /// The largest change that is of no practical importance. Default: 5%.
    pub max_change: Option<Share>,
    /// The same for single metrics: name to share.
    pub max_change_of: BTreeMap<String, Share>,
    /// Probability of a false alarm in any primary metric. Default: 0.01.
    pub alpha: Option<f64>,
    /// The metrics that decide, at most five. Default: p50 and p99 of each response latency, throughput.delivered.
    pub primary: Vec<String>,
    /// Valid runs a side below which nothing is decided. Default: 4.
    pub min_runs: Option<u32>,
    /// Two looks at most: runs at the first and at the second, which is twice as many. Default: one look at all runs.
    pub looks: Option<Vec<u32>>,
    /// A regression must exceed the largest change with its whole interval. Default: false.
    pub strict: bool,
    /// Decide by the sign-flip test over rounds instead of by the Mann-Whitney test. Default: false.
    pub paired: bool,
    /// When a primary metric is inconclusive. Default: warn.
    pub on_inconclusive: Option<Policy>,
    /// When a primary metric cannot be compared. Default: fail.
    pub on_invalid: Option<Policy>,
}

/// `[[expect]]` as typed.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct ExpectTable {
    /// Metric, comparison, value: "e2e.p99 < 5ms", "ledger.lost == 0", "throughput.delivered >= 20k/s".
    pub that: String,
    /// Only for this system. Default: for each.
    pub system: Option<String>,
    /// When the runs disagree. Default: fail.
    pub on_inconclusive: Option<Policy>,
}

/// A gate file: both tables by themselves.
#[derive(Debug, Clone, PartialEq, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct GateFile {
    /// When a change counts as a regression.
    pub gate: GateTable,
    /// Absolute limits.
    pub expect: Vec<ExpectTable>,
}

/// When a change counts as a regression.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Gate {
    /// The largest change that is of no practical importance.
    pub max_change: Share,
    /// The same for single metrics.
    pub max_change_of: BTreeMap<String, Share>,
    /// Probability of a false alarm in any primary metric.
    pub alpha: f64,
    /// The metrics that decide; empty for p50 and p99 of each response latency and `throughput.delivered`.
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
    /// The largest change of a metric that is of no practical importance.
    pub fn max_change(&self, metric: &Metric) -> f64 {
        let bare = metric.quantity.to_string();
        let named = self.max_change_of.get(&metric.to_string()).or_else(|| self.max_change_of.get(&bare));
        named.unwrap_or(&self.max_change).0
    }
}

/// How a value is compared with its limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Comparator {
    /// Less than.
    #[serde(rename = "<")]
    Less,
    /// At most.
    #[serde(rename = "<=")]
    AtMost,
    /// Greater than.
    #[serde(rename = ">")]
    Greater,
    /// At least.
    #[serde(rename = ">=")]
    AtLeast,
    /// Equal.
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
    /// How.
    pub comparator: Comparator,
    /// The limit, in the unit of the metric.
    pub limit: f64,
    /// Only for this system.
    pub system: Option<String>,
    /// When the runs disagree.
    pub on_inconclusive: Policy,
}

/// What the names in the tables may refer to.
#[derive(Debug, Clone, Copy)]
pub(super) struct Known<'a> {
    /// Absent where the command line chooses the systems: an expectation of another one then waits for its turn.
    pub systems: Option<&'a [&'a str]>,
    pub workloads: &'a [&'a str],
    pub percentiles: &'a [f64],
}

fn metric(path: &str, text: &str, known: Option<Known<'_>>) -> Result<Metric, Problem> {
    let metric: Metric = text.parse().map_err(|e: ParseError| Problem::new(path, e.0))?;
    let Some(known) = known else { return Ok(metric) };
    if let Some(workload) = metric.workload.as_deref().filter(|w| !known.workloads.contains(w)) {
        let problem = Problem::new(path, format!("there is no workload `{workload}`"));
        return Err(match suggest(workload, known.workloads) {
            Some(hint) => problem.hint(hint),
            None => problem,
        });
    }
    match metric.quantity.quantile() {
        Some(q) if !known.percentiles.iter().any(|p| (p - q).abs() < 1e-9) => {
            Err(Problem::new(path, format!("{} is not among the percentiles of the run", quantile_name(q)))
                .hint(format!("add {q} to run.percentiles")))
        }
        _ => Ok(metric),
    }
}

/// Resolves `[gate]`; `known` is absent for a gate file, which may be used with any scenario.
pub(super) fn gate(table: &GateTable, known: Option<Known<'_>>) -> Result<Gate, Problem> {
    let default = Gate::default();
    let alpha = table.alpha.unwrap_or(default.alpha);
    if !(alpha > 0.0 && alpha <= 0.2) {
        return Err(
            Problem::new("gate.alpha", format!("{alpha} is not between 0 and 0.2")).hint("usual are 0.01 and 0.05")
        );
    }
    if table.primary.len() > 5 {
        return Err(Problem::new("gate.primary", format!("{} metrics are more than five", table.primary.len()))
            .hint("every further metric makes each one harder to decide: keep those that matter"));
    }
    let at = |i: usize| format!("gate.primary.{i}");
    let primary = table.primary.iter().enumerate().map(|(i, m)| metric(&at(i), m, known)).collect::<Result<_, _>>()?;
    for name in table.max_change_of.keys() {
        metric(&format!("gate.max-change-of.{name}"), name, None)?;
    }
    let changes = table.max_change.iter().map(|s| ("gate.max-change".to_string(), s));
    let each = table.max_change_of.iter().map(|(name, s)| (format!("gate.max-change-of.{name}"), s));
    for (path, share) in changes.chain(each) {
        if !(share.0 > 0.0 && share.0 <= 10.0) {
            return Err(Problem::new(path, format!("{share} is not a change above 0% and up to 1000%")));
        }
    }
    let looks = match table.looks.as_deref() {
        None => None,
        Some([first, second]) if *first >= 4 && *second == 2 * first => Some((*first, *second)),
        Some(_) => {
            return Err(Problem::new("gate.looks", "two looks are taken, the second at twice the runs of the first")
                .hint("write [6, 12]"));
        }
    };
    let min_runs = table.min_runs.unwrap_or(default.min_runs);
    if min_runs < 2 {
        return Err(Problem::new("gate.min-runs", "one run says nothing about the next").hint("write 4 or more"));
    }
    Ok(Gate {
        max_change: table.max_change.unwrap_or(default.max_change),
        max_change_of: table.max_change_of.clone(),
        alpha,
        primary,
        min_runs,
        looks,
        strict: table.strict,
        paired: table.paired,
        on_inconclusive: table.on_inconclusive.unwrap_or(default.on_inconclusive),
        on_invalid: table.on_invalid.unwrap_or(default.on_invalid),
    })
}

/// Resolves the `[[expect]]` tables.
pub(super) fn expectations(tables: &[ExpectTable], known: Option<Known<'_>>) -> Result<Vec<Expectation>, Problem> {
    tables.iter().enumerate().map(|(i, t)| expectation(i, t, known)).collect()
}

fn expectation(i: usize, table: &ExpectTable, known: Option<Known<'_>>) -> Result<Expectation, Problem> {
    const COMPARATORS: [(&str, Comparator); 5] = [
        ("<=", Comparator::AtMost),
        (">=", Comparator::AtLeast),
        ("==", Comparator::Equal),
        ("<", Comparator::Less),
        (">", Comparator::Greater),
    ];
    let path = format!("expect.{i}.that");
    let split = |(sign, c): (&str, Comparator)| table.that.split_once(sign).map(|(l, r)| (l, c, r));
    let Some((left, comparator, right)) = COMPARATORS.into_iter().find_map(split) else {
        return Err(Problem::new(path, format!("`{}` compares nothing", table.that.escape_debug()))
            .hint("write a metric, one of < <= > >= ==, and a value: \"e2e.p99 < 5ms\""));
    };
    let metric = metric(&path, left, known)?;
    let limit = metric.quantity.read(right.trim()).map_err(|e| Problem::new(&path, e.0))?;
    if let (Some(system), Some(known)) = (&table.system, known.and_then(|k| k.systems))
        && !known.contains(&system.as_str())
    {
        let problem = Problem::new(format!("expect.{i}.system"), format!("there is no system `{system}`"));
        return Err(match suggest(system, known) {
            Some(hint) => problem.hint(hint),
            None => problem,
        });
    }
    Ok(Expectation {
        that: table.that.trim().to_string(),
        metric,
        comparator,
        limit,
        system: table.system.clone(),
        on_inconclusive: table.on_inconclusive.unwrap_or(Policy::Fail),
    })
}

/// Reads a gate file.
///
/// # Errors
/// [`ScenarioError::Read`] when it cannot be read, [`ScenarioError::Wrong`] with place and hint for every mistake.
pub fn load(path: &Path) -> Result<(Gate, Vec<Expectation>), ScenarioError> {
    let text = super::read::text(path).map_err(|source| ScenarioError::Read { path: path.to_path_buf(), source })?;
    parse(path, &text).map_err(|d| ScenarioError::Wrong(Box::new(d)))
}

/// As [`load`], for a text in hand.
///
/// # Errors
/// The first mistake, where it stands.
pub fn parse(path: &Path, text: &str) -> Result<(Gate, Vec<Expectation>), Diagnosis> {
    let file: GateFile = toml::from_str(text).map_err(|e| {
        let (message, hint) = reword(&e);
        Diagnosis { place: Place::of(path, text, e.span().unwrap_or(0..0)), message, hint }
    })?;
    let blame = |p: Problem| {
        let segments: Vec<String> = p.path.split('.').map(String::from).collect();
        Diagnosis { place: Place::of(path, text, locate(text, &segments)), message: p.message, hint: p.hint }
    };
    Ok((gate(&file.gate, None).map_err(blame)?, expectations(&file.expect, None).map_err(blame)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = r#"[gate]
max-change = "5%"
alpha = 0.01
primary = ["e2e.p50", "e2e.p99"]
looks = [6, 12]
[gate.max-change-of]
"e2e.p99" = 0.1
[[expect]]
that = "e2e.p99 < 5ms"
[[expect]]
that = "ledger.lost == 0"
system = "nats"
on-inconclusive = "warn"
"#;

    fn read(text: &str) -> Result<(Gate, Vec<Expectation>), Diagnosis> {
        parse(Path::new("gate.toml"), text)
    }

    #[test]
    fn a_gate_file_is_read() {
        let (gate, expect) = read(GOOD).unwrap();
        assert_eq!((gate.max_change, gate.looks, gate.primary.len()), (Share(0.05), Some((6, 12)), 2));
        assert_eq!(gate.max_change(&gate.primary[1]), 0.1);
        assert_eq!(gate.max_change(&gate.primary[0]), 0.05);
        assert_eq!(
            (expect[0].limit, expect[0].comparator, expect[0].on_inconclusive),
            (5e6, Comparator::Less, Policy::Fail)
        );
        assert_eq!((expect[1].system.as_deref(), expect[1].on_inconclusive), (Some("nats"), Policy::Warn));
        assert_eq!(read("").unwrap(), (Gate::default(), Vec::new()));
        assert_eq!(Share(0.125).to_string(), "12.5%");
    }

    #[test]
    fn every_mistake_is_shown_where_it_stands() {
        let said = |from: &str, to: &str| {
            assert!(GOOD.contains(from));
            read(&GOOD.replacen(from, to, 1)).unwrap_err().to_string()
        };
        let all = [
            said("max-change =", "max-chnge ="),
            said("\"5%\"", "\"five\""),
            said("alpha = 0.01", "alpha = 3.0"),
            said("[6, 12]", "[6, 7]"),
            said("\"e2e.p50\", ", "\"e2e.p5O\", "),
            said("e2e.p99 < 5ms", "e2e.p99 about 5ms"),
            said("e2e.p99 < 5ms", "e2e.p99 < 5"),
            said("\"warn\"", "\"wran\""),
        ];
        insta::assert_snapshot!(all.join("\n\n"));
    }
}
