//! What a result must satisfy: `[gate]` says when a change counts as a regression, `[[expect]]`
//! sets absolute limits.
//!
//! Both may stand in the scenario or in a file of their own (`--gate FILE`). As elsewhere there is
//! a typed form, which refuses unknown keys, and a resolved one, which is part of the plan and so
//! of every record.

use std::collections::BTreeMap;
use std::path::Path;

use schemars::JsonSchema;
use serde::Deserialize;

use super::diagnose::{Diagnosis, MistakePlace, ScenarioError, locate};
use super::environment;
use super::known::{CaseScope, KnownNames};
use super::shape::{self, ReadText};
use crate::plan::gate::{Comparator, Expectation, Gate, Policy, Share};
use crate::plan::metric::Metric;
use crate::plan::problem::{KEPT_DOT, Problem, Problems, segments};
use crate::plan::{Plan, SystemTypes};
use crate::units::ParseError;

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
    /// The metrics that decide, at most five. Default: p50 and p99 of each response latency,
    /// throughput.delivered.
    pub primary: Vec<String>,
    /// Valid runs a side below which nothing is decided. Default: 4.
    pub min_runs: Option<u32>,
    /// Two looks at most: runs at the first and at the second, which is twice as many. Default: one
    /// look at all runs.
    pub looks: Option<Vec<u32>>,
    /// A regression must exceed the largest change with its whole interval. Default: false.
    pub strict: bool,
    /// Decide by the sign-flip test over rounds instead of by the Mann-Whitney test. Default:
    /// false.
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
    /// Metric, comparison, value: "e2e.p99 < 5ms", "ledger.lost == 0", "throughput.delivered >=
    /// 20k/s".
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

fn metric(
    path: &str,
    text: &str,
    known: KnownNames<'_>,
    system: Option<&str>,
    of: CaseScope,
) -> Result<Metric, Problem> {
    let metric: Metric = text.parse().map_err(|e: ParseError| Problem::new(path, e.0))?;
    known.metric(path, &metric, system, of)?;
    Ok(metric)
}

/// Resolves `[gate]` for a plan.
pub(super) fn gate(table: &GateTable, known: KnownNames<'_>, problems: &mut Problems) -> Gate {
    let default = Gate::default();
    let alpha = table.alpha.unwrap_or(default.alpha);
    if !(alpha > 0.0 && alpha <= 0.2) {
        problems.add(
            Problem::new("gate.alpha", format!("{alpha} is not between 0 and 0.2")).hint("usual are 0.01 and 0.05"),
        );
    }
    if table.primary.len() > 5 {
        problems.add(
            Problem::new("gate.primary", format!("{} metrics are more than five", table.primary.len()))
                .hint("every further metric makes each one harder to decide: keep those that matter"),
        );
    }
    let at = |i: usize| format!("gate.primary.{i}");
    let each = table.primary.iter().enumerate();
    let primary = each.filter_map(|(i, m)| problems.take(metric(&at(i), m, known, None, CaseScope::Each))).collect();
    let max_change_of = changes_of(table, known, problems);
    let min_runs = table.min_runs.unwrap_or(default.min_runs);
    if min_runs < 2 {
        problems.add(Problem::new("gate.min-runs", "one run says nothing about the next").hint("write 4 or more"));
    }
    let looks = match table.looks.as_deref() {
        None => None,
        Some([first, second]) if *first >= 4 && *second == 2 * first => Some((*first, *second)),
        Some(_) => {
            problems.add(
                Problem::new("gate.looks", "two looks are taken, the second at twice the runs of the first")
                    .hint("write [6, 12]"),
            );
            None
        }
    };
    Gate {
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
    }
}

/// The largest changes of single metrics, under the names that the metrics print, whatever spelling
/// of the percentile was typed.
fn changes_of(table: &GateTable, known: KnownNames<'_>, problems: &mut Problems) -> BTreeMap<String, Share> {
    let mut out = BTreeMap::new();
    for (name, share) in &table.max_change_of {
        let Some(metric) = problems.take(metric(&of_metric(name), name, known, None, CaseScope::Any)) else { continue };
        if out.insert(metric.to_string(), *share).is_some() {
            problems
                .add(Problem::new(of_metric(name), format!("`{metric}` has two largest changes")).hint("remove one"));
        }
    }
    let changes = table.max_change.iter().map(|s| ("gate.max-change".to_string(), s));
    let each = table.max_change_of.iter().map(|(name, s)| (of_metric(name), s));
    for (path, share) in changes.chain(each) {
        if !(share.0 > 0.0 && share.0 <= 10.0) {
            problems.add(Problem::new(path, format!("{share} is not a change above 0% and up to 1000%")));
        }
    }
    out
}

/// The key of a largest change; the name of the metric has dots of its own.
fn of_metric(name: &str) -> String {
    format!("gate.max-change-of.{}", name.replace('.', KEPT_DOT))
}

/// Resolves the `[[expect]]` tables.
pub(super) fn expectations(tables: &[ExpectTable], known: KnownNames<'_>, problems: &mut Problems) -> Vec<Expectation> {
    tables.iter().enumerate().filter_map(|(i, t)| problems.take(expectation(i, t, known))).collect()
}

fn expectation(i: usize, table: &ExpectTable, known: KnownNames<'_>) -> Result<Expectation, Problem> {
    if let Some(system) = &table.system {
        known.system(format!("expect.{i}.system"), system)?;
    }
    let limit = limit(&format!("expect.{i}.that"), &table.that, table.system.as_deref(), known)?;
    Ok(Expectation { on_inconclusive: table.on_inconclusive.unwrap_or(Policy::Fail), ..limit })
}

/// Resolves `metric < value`, written at a path.
pub(super) fn limit(
    path: &str,
    that: &str,
    system: Option<&str>,
    known: KnownNames<'_>,
) -> Result<Expectation, Problem> {
    const COMPARATORS: [(&str, Comparator); 5] = [
        ("<=", Comparator::AtMost),
        (">=", Comparator::AtLeast),
        ("==", Comparator::Equal),
        ("<", Comparator::Less),
        (">", Comparator::Greater),
    ];
    let split = |(sign, c): (&str, Comparator)| that.split_once(sign).map(|(l, r)| (l, c, r));
    let Some((left, comparator, right)) = COMPARATORS.into_iter().find_map(split) else {
        return Err(Problem::new(path, format!("`{}` compares nothing", that.escape_debug()))
            .hint("write a metric, one of < <= > >= ==, and a value: \"e2e.p99 < 5ms\""));
    };
    let metric = metric(path, left, known, system, CaseScope::Each)?;
    let limit = metric.quantity.read(right.trim()).map_err(|e| Problem::new(path, e.0))?;
    Ok(Expectation {
        that: that.trim().to_string(),
        metric,
        comparator,
        limit,
        system: system.map(str::to_owned),
        on_inconclusive: Policy::Fail,
    })
}

/// Reads a gate file for the results of a plan. `by_pattern` is whether the plan says what is
/// measured: that of another tool's result does not.
///
/// # Errors
/// [`ScenarioError::Read`] when it cannot be read, [`ScenarioError::Wrong`] with place and hint for
/// every mistake; a name that nothing in the plan answers to is one.
pub fn load(
    path: &Path,
    plan: &Plan,
    types: &SystemTypes,
    by_pattern: bool,
) -> Result<(Gate, Vec<Expectation>), ScenarioError> {
    let text = super::read::text(path).map_err(|source| ScenarioError::Read { path: path.to_path_buf(), source })?;
    parse(path, &text, plan, types, by_pattern).map_err(ScenarioError::Wrong)
}

/// As [`load`], for a text in hand.
///
/// # Errors
/// Every mistake, where it stands.
pub fn parse(
    path: &Path,
    text: &str,
    plan: &Plan,
    types: &SystemTypes,
    by_pattern: bool,
) -> Result<(Gate, Vec<Expectation>), Vec<Diagnosis>> {
    let expanded = environment::expand(path, text, &environment::variable).map_err(|d| vec![d])?;
    let ReadText { document, mut mistakes, .. } =
        shape::read::<GateFile>(path, text, &expanded).map_err(|d| vec![d])?;
    let file = document.try_into::<GateFile>().unwrap_or_default();
    let known = KnownNames::of(plan, types, by_pattern);
    let mut problems = Problems::default();
    let gate = gate(&file.gate, known, &mut problems);
    let expect = expectations(&file.expect, known, &mut problems);
    mistakes.extend(problems.0.into_iter().map(|p| {
        let segments: Vec<String> = segments(&p.path);
        Diagnosis { place: MistakePlace::of(path, text, locate(text, &segments)), message: p.message, hint: p.hint }
    }));
    if mistakes.is_empty() { Ok((gate, expect)) } else { Err(mistakes) }
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

    fn types() -> SystemTypes {
        crate::engine::Register::built_in().types()
    }

    /// What the file is used with: streams to nats, percentiles as they are by default.
    fn plan() -> Plan {
        let text = "name = \"t\"\nquestion = \"?\"\n[[system]]\ndriver = \"nats\"\n[[system]]\ndriver = \"jetstream\"\n\
                    [[workload]]\nname = \"orders\"\npattern = \"fan-out\"\nload.rate = \"1k/s\"\n";
        let scenario =
            crate::scenario::parse(Path::new("t.toml"), text.into(), &crate::scenario::Overrides::default(), &types());
        scenario.unwrap().plan
    }

    fn read(text: &str) -> Result<(Gate, Vec<Expectation>), Diagnosis> {
        parse(Path::new("gate.toml"), text, &plan(), &types(), true).map_err(|all| all[0].clone())
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

    /// Every selector that a gate file has, misspelt by one letter at every place: none is taken
    /// for an empty check.
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

    /// Spellings of one metric are one metric: a largest change that nothing looks up would be
    /// dropped.
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
