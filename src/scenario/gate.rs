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

use super::diagnose::{Diagnosis, KEPT_DOT, Place, Problem, ScenarioError, locate, reword, segments};
use super::environment;
use super::known::{Known, Of};
use super::metric::Metric;
use super::plan::Plan;
use crate::units::ParseError;

/// A share, written `5%` or `0.05`. A bare number from 1 on is refused where a person writes it: `5` is meant as `5%`.
#[derive(Debug, Clone, Copy, PartialEq, PartialOrd)]
pub struct Share(pub f64);

impl FromStr for Share {
    type Err = ParseError;
    fn from_str(text: &str) -> Result<Self, ParseError> {
        let trimmed = text.trim();
        let (number, scale) = trimmed.strip_suffix('%').map_or((trimmed, 1.0), |n| (n.trim(), 100.0));
        match number.parse::<f64>() {
            Ok(n) if scale == 1.0 && n.is_finite() && n >= 1.0 => {
                Err(ParseError(format!("`{trimmed}` would be {}: write \"{trimmed}%\"", Self(n))))
            }
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

/// A share as a record has it, where a bare number may be above 1: it was checked when it was typed.
#[derive(Deserialize)]
#[serde(untagged)]
enum Kept {
    Number(f64),
    Typed(Share),
}

impl From<Kept> for Share {
    fn from(kept: Kept) -> Self {
        match kept {
            Kept::Number(share) => Self(share),
            Kept::Typed(share) => share,
        }
    }
}

fn kept<'de, D: Deserializer<'de>>(d: D) -> Result<Share, D::Error> {
    Kept::deserialize(d).map(Share::from)
}

fn kept_each<'de, D: Deserializer<'de>>(d: D) -> Result<BTreeMap<String, Share>, D::Error> {
    Ok(BTreeMap::<String, Kept>::deserialize(d)?.into_iter().map(|(name, share)| (name, share.into())).collect())
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
    #[serde(deserialize_with = "kept")]
    pub max_change: Share,
    /// The same for single metrics.
    #[serde(deserialize_with = "kept_each")]
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
    /// The largest change of a metric of a workload that is of no practical importance. The name of the workload may be
    /// written even where it is the only one.
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

fn metric(path: &str, text: &str, known: Known<'_>, system: Option<&str>, of: Of) -> Result<Metric, Problem> {
    let metric: Metric = text.parse().map_err(|e: ParseError| Problem::new(path, e.0))?;
    known.metric(path, &metric, system, of)?;
    Ok(metric)
}

/// Resolves `[gate]` for a plan.
pub(super) fn gate(table: &GateTable, known: Known<'_>) -> Result<Gate, Problem> {
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
    let primary = table
        .primary
        .iter()
        .enumerate()
        .map(|(i, m)| metric(&at(i), m, known, None, Of::Each))
        .collect::<Result<_, _>>()?;
    // Under the name that the metric prints, whatever spelling of the percentile was typed.
    let mut max_change_of = BTreeMap::new();
    for (name, share) in &table.max_change_of {
        let metric = metric(&of_metric(name), name, known, None, Of::Any)?;
        if max_change_of.insert(metric.to_string(), *share).is_some() {
            return Err(Problem::new(of_metric(name), format!("`{metric}` has two largest changes")).hint("remove one"));
        }
    }
    let changes = table.max_change.iter().map(|s| ("gate.max-change".to_string(), s));
    let each = table.max_change_of.iter().map(|(name, s)| (of_metric(name), s));
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
        max_change_of,
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

/// The key of a largest change; the name of the metric has dots of its own.
fn of_metric(name: &str) -> String {
    format!("gate.max-change-of.{}", name.replace('.', KEPT_DOT))
}

/// Resolves the `[[expect]]` tables.
pub(super) fn expectations(tables: &[ExpectTable], known: Known<'_>) -> Result<Vec<Expectation>, Problem> {
    tables.iter().enumerate().map(|(i, t)| expectation(i, t, known)).collect()
}

fn expectation(i: usize, table: &ExpectTable, known: Known<'_>) -> Result<Expectation, Problem> {
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
    if let Some(system) = &table.system {
        known.system(format!("expect.{i}.system"), system)?;
    }
    let metric = metric(&path, left, known, table.system.as_deref(), Of::Each)?;
    let limit = metric.quantity.read(right.trim()).map_err(|e| Problem::new(&path, e.0))?;
    Ok(Expectation {
        that: table.that.trim().to_string(),
        metric,
        comparator,
        limit,
        system: table.system.clone(),
        on_inconclusive: table.on_inconclusive.unwrap_or(Policy::Fail),
    })
}

/// Reads a gate file for the results of a plan. `by_pattern` is whether the plan says what is measured: that of another
/// tool's result does not.
///
/// # Errors
/// [`ScenarioError::Read`] when it cannot be read, [`ScenarioError::Wrong`] with place and hint for every mistake; a name
/// that nothing in the plan answers to is one.
pub fn load(path: &Path, plan: &Plan, by_pattern: bool) -> Result<(Gate, Vec<Expectation>), ScenarioError> {
    let text = super::read::text(path).map_err(|source| ScenarioError::Read { path: path.to_path_buf(), source })?;
    parse(path, &text, plan, by_pattern).map_err(|d| ScenarioError::Wrong(Box::new(d)))
}

/// As [`load`], for a text in hand.
///
/// # Errors
/// The first mistake, where it stands.
pub fn parse(path: &Path, text: &str, plan: &Plan, by_pattern: bool) -> Result<(Gate, Vec<Expectation>), Diagnosis> {
    let expanded = environment::expand(path, text, &environment::variable)?;
    let file: GateFile = toml::from_str(&expanded.text).map_err(|e| {
        let (message, hint) = reword(&e);
        Diagnosis { place: Place::of(path, text, expanded.original(e.span().unwrap_or(0..0))), message, hint }
    })?;
    let blame = |p: Problem| {
        let segments: Vec<String> = segments(&p.path);
        Diagnosis { place: Place::of(path, text, locate(text, &segments)), message: p.message, hint: p.hint }
    };
    let known = Known::of(plan, by_pattern);
    Ok((gate(&file.gate, known).map_err(blame)?, expectations(&file.expect, known).map_err(blame)?))
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

    /// What the file is used with: streams to nats, percentiles as they are by default.
    fn plan() -> Plan {
        let text = "name = \"t\"\nquestion = \"?\"\n[[system]]\ndriver = \"nats\"\n[[system]]\ndriver = \"jetstream\"\n\
                    [[workload]]\nname = \"orders\"\npattern = \"fan-out\"\nload.rate = \"1k/s\"\n";
        let scenario = crate::scenario::parse(Path::new("t.toml"), text.into(), &crate::scenario::Overrides::default());
        scenario.unwrap().plan
    }

    fn read(text: &str) -> Result<(Gate, Vec<Expectation>), Diagnosis> {
        parse(Path::new("gate.toml"), text, &plan(), true)
    }

    #[test]
    fn a_gate_file_is_read() {
        let (gate, expect) = read(GOOD).unwrap();
        assert_eq!((gate.max_change, gate.looks, gate.primary.len()), (Share(0.05), Some((6, 12)), 2));
        assert_eq!(gate.max_change(&gate.primary[1], "orders"), 0.1);
        assert_eq!(gate.max_change(&gate.primary[0], "orders"), 0.05);
        assert_eq!(
            (expect[0].limit, expect[0].comparator, expect[0].on_inconclusive),
            (5e6, Comparator::Less, Policy::Fail)
        );
        assert_eq!((expect[1].system.as_deref(), expect[1].on_inconclusive), (Some("nats"), Policy::Warn));
        assert_eq!(read("").unwrap(), (Gate::default(), Vec::new()));
        assert_eq!(Share(0.125).to_string(), "12.5%");
    }

    #[test]
    fn variables_of_the_environment_are_put_in() {
        let major = std::env::var("CARGO_PKG_VERSION_MAJOR").unwrap();
        let text = GOOD.replacen("lost == 0", "lost == ${CARGO_PKG_VERSION_MAJOR}", 1);
        assert_eq!(read(&text).unwrap().1[1].limit, major.parse::<f64>().unwrap());
        let said = read(&GOOD.replacen("\"5%\"", "\"${NOT_SET_ANYWHERE}%\"", 1)).unwrap_err().to_string();
        assert!(said.starts_with("gate.toml:2:15: the environment variable `NOT_SET_ANYWHERE` is not set"), "{said}");
        // What is wrong with the value is shown where the variable stands.
        let said = read(&GOOD.replacen("\"5%\"", "\"${CARGO_PKG_NAME}%\"", 1)).unwrap_err().to_string();
        assert!(said.starts_with("gate.toml:2:14: "), "{said}");
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

    /// A bare number above 1 is meant as per cent; every ratio that is typed, in every spelling.
    #[test]
    fn a_ratio_typed_as_a_bare_number_is_refused() {
        for typed in ["5", "5.0", "1", "1.5", "\"5\"", "\"1.0\"", "500"] {
            for table in ["[gate]\nmax-change = ", "[gate.max-change-of]\n\"e2e.p99\" = "] {
                let said = read(&format!("{table}{typed}\n")).unwrap_err().to_string();
                assert!(said.contains("write \"") && said.contains("%\""), "{table}{typed}: {said}");
            }
            assert!(typed.trim_matches('"').parse::<Share>().is_err(), "{typed} on the command line");
        }
        let twice = read("[gate]\nmax-change = \"200%\"\n").unwrap().0;
        assert_eq!(twice.max_change, Share(2.0));
        let kept = serde_json::to_string(&twice).unwrap();
        assert_eq!(serde_json::from_str::<Gate>(&kept).unwrap(), twice, "a record is read back: {kept}");
    }

    /// Every selector that a gate file has, misspelt by one letter at every place: none is taken for an empty check.
    #[test]
    fn no_misspelt_selector_is_dropped() {
        let valid = |name: &str, text: &str| read(&text.replace("NAME", name)).is_ok();
        let tables = [
            ("nats", "[[expect]]\nthat = \"e2e.p99 < 5ms\"\nsystem = \"NAME\"\n"),
            ("orders.e2e.p99", "[[expect]]\nthat = \"NAME < 5ms\"\n"),
            ("orders.e2e.p99", "[gate]\nprimary = [\"NAME\"]\n"),
            ("orders.e2e.p99", "[gate.max-change-of]\n\"NAME\" = \"10%\"\n"),
            ("e2e.service.p50", "[gate]\nprimary = [\"e2e.p99\", \"NAME\"]\n"),
            ("ledger.lost", "[[expect]]\nthat = \"NAME == 0\"\n"),
        ];
        let mut tried = 0;
        for (name, text) in tables {
            assert!(valid(name, text), "{name}");
            for at in 0..name.len() {
                for with in ["", "q", "7", "qq"] {
                    let wrong = format!("{}{with}{}", &name[..at], &name[at + 1..]);
                    if wrong == name || ["e2e.p9", "orders.e2e.p9"].contains(&wrong.as_str()) {
                        continue;
                    }
                    tried += 1;
                    assert!(!valid(&wrong, text), "{wrong} passes in {text}");
                }
            }
        }
        assert!(tried > 250, "{tried}");
        // The place is shown, also of a name with dots.
        let said = read("[gate.max-change-of]\n\"orderz.e2e.p99\" = \"10%\"\n").unwrap_err().to_string();
        assert!(said.starts_with("gate.toml:2:") && said.contains("did you mean `orders`"), "{said}");
    }

    /// Spellings of one metric are one metric: a largest change that nothing looks up would be dropped.
    #[test]
    fn a_largest_change_is_found_under_every_spelling() {
        for name in ["e2e.p99", " e2e.p99", "e2e.p99.0", "orders.e2e.p99", "orders.e2e.p99.00"] {
            let (gate, _) = read(&format!("[gate.max-change-of]\n\"{name}\" = \"20%\"\n")).unwrap();
            let metric: Metric = "e2e.p99".parse().unwrap();
            assert_eq!(gate.max_change(&metric, "orders"), 0.2, "{name}");
        }
    }

    /// What a pattern or a driver never has can neither be kept nor broken.
    #[test]
    fn a_metric_that_is_never_measured_is_refused() {
        for (metric, why) in [
            ("rtt.p99", "fan-out has no answers"),
            ("ack.p99", "nats acknowledges nothing"),
            ("e2e.slow.p99", "no consumer is slow"),
            ("e2e.before-replay.p99", "reads no backlog"),
            ("lag.service.p99", "no uncorrected twin"),
        ] {
            for text in
                [format!("[[expect]]\nthat = \"{metric} < 5ms\"\n"), format!("[gate]\nprimary = [\"{metric}\"]\n")]
            {
                let said = read(&text).unwrap_err().to_string();
                assert!(said.contains(why) && said.contains("hint: "), "{said}");
            }
        }
        for that in ["replay.rate > 1/s", "ledger.dead_lettered == 0", "ledger.acked_lost == 0"] {
            let said = read(&format!("[[expect]]\nthat = \"{that}\"\n")).unwrap_err().to_string();
            assert!(said.contains("is never measured at nats"), "{said}");
        }
        assert!(read("[[expect]]\nthat = \"ledger.acked_lost == 0\"\nsystem = \"jetstream\"\n").is_ok());
    }
}
