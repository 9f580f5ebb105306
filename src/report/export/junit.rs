//! A comparison as JUnit XML, in the dialect that Jenkins, GitLab and GitHub actions read: one
//! suite for each scenario and load point, one case for each metric that decides and each limit.

use crate::compare::{Comparison, ComparisonRow, ExpectResult, ExpectVerdict, Verdict};
use crate::plan::gate::Policy;

/// The value of each run under a limit, in the unit of its metric.
fn limited(e: &ExpectResult) -> String {
    let unit = e.metric.quantity.unit().name();
    format!("runs ({unit}): {}", e.values.iter().map(f64::to_string).collect::<Vec<_>>().join(" "))
}

enum TestStatus {
    Pass,
    Failure(&'static str),
    Error(&'static str),
    Skipped,
}

struct TestCase {
    suite: String,
    name: String,
    message: String,
    text: String,
    mark: TestStatus,
}

/// REGRESSED and UNMET are failures, INVALID is an error, INCONCLUSIVE is skipped, or a failure
/// where the policy says so.
pub fn page(c: &Comparison) -> String {
    let rows = c.rows.iter().filter(|r| r.primary).map(|r| of_row(c, r));
    let limits = c.expectations.iter().map(|e| TestCase {
        suite: c.scenario.clone(),
        name: format!("{} {}", e.case, e.that),
        message: e.sentence.clone(),
        text: limited(e),
        mark: match e.verdict {
            ExpectVerdict::Met => TestStatus::Pass,
            ExpectVerdict::Unmet => TestStatus::Failure("UNMET"),
            ExpectVerdict::Invalid => TestStatus::Error("INVALID"),
            ExpectVerdict::Inconclusive | ExpectVerdict::NotJudged => open(e.on_inconclusive),
        },
    });
    let cases: Vec<TestCase> = rows.chain(limits).collect();
    let mut suites: Vec<&str> = Vec::new();
    for case in &cases {
        if !suites.contains(&case.suite.as_str()) {
            suites.push(&case.suite);
        }
    }
    let mut out = String::from("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n");
    out.push_str(&format!("<testsuites name=\"msgbench\" {} time=\"0\">\n", counts(&cases.iter().collect::<Vec<_>>())));
    // JUnit knows no time zone.
    let stamp = c.candidate.started_at.trim_end_matches('Z').split('.').next().unwrap_or_default();
    for (id, suite) in suites.iter().enumerate() {
        let of: Vec<&TestCase> = cases.iter().filter(|k| k.suite == *suite).collect();
        out.push_str(&format!(
            "  <testsuite name=\"{}\" {} time=\"0\" timestamp=\"{}\" hostname=\"localhost\" id=\"{id}\" package=\"msgbench\">\n",
            escape(suite),
            counts(&of),
            escape(stamp)
        ));
        out.push_str(&format!(
            "    <properties><property name=\"msgbench.schema\" value=\"{}\"/><property name=\"seed\" value=\"{}\"/>{}</properties>\n",
            escape(&c.schema),
            c.candidate.seed,
            c.doubts.iter().map(|d| format!("<property name=\"doubt\" value=\"{}\"/>", escape(&crate::report::pages::comparison::doubt(d)))).collect::<String>()
        ));
        for case in of {
            let open = format!(
                "    <testcase classname=\"msgbench.{}\" name=\"{}\" time=\"0\"",
                escape(suite),
                escape(&case.name)
            );
            let (message, text) = (escape(&case.message), escape(&case.text));
            out.push_str(&match case.mark {
                TestStatus::Pass => format!("{open}/>\n"),
                TestStatus::Skipped => format!("{open}><skipped message=\"{message}\"/></testcase>\n"),
                TestStatus::Failure(kind) => {
                    format!(
                        "{open}>\n      <failure type=\"{kind}\" message=\"{message}\">{text}</failure></testcase>\n"
                    )
                }
                TestStatus::Error(kind) => {
                    format!("{open}>\n      <error type=\"{kind}\" message=\"{message}\">{text}</error></testcase>\n")
                }
            });
        }
        out.push_str("  </testsuite>\n");
    }
    out.push_str("</testsuites>\n");
    out
}

fn open(policy: Policy) -> TestStatus {
    if policy == Policy::Fail { TestStatus::Failure("INCONCLUSIVE") } else { TestStatus::Skipped }
}

fn of_row(c: &Comparison, row: &ComparisonRow) -> TestCase {
    let values = |v: &[f64]| v.iter().map(f64::to_string).collect::<Vec<_>>().join(" ");
    TestCase {
        suite: row.scenario.clone(),
        name: format!("{} {} against {}", row.metric, row.b.label, row.a.label),
        message: format!("{}: {}", row.word(), row.sentence),
        text: format!(
            "{}\n{}\n{} ({}): {}\n{} ({}): {}",
            row.sentence,
            row.reason,
            row.a.label,
            row.unit,
            values(&row.a.values),
            row.b.label,
            row.unit,
            values(&row.b.values)
        ),
        mark: match row.gate {
            Verdict::Invalid if c.gate.on_invalid == Policy::Fail => TestStatus::Error("INVALID"),
            Verdict::Invalid => TestStatus::Skipped,
            Verdict::Regressed if c.gated => TestStatus::Failure(row.word()),
            Verdict::Inconclusive if c.gated => open(c.gate.on_inconclusive),
            Verdict::Inconclusive => TestStatus::Skipped,
            _ => TestStatus::Pass,
        },
    }
}

fn counts(cases: &[&TestCase]) -> String {
    let count = |f: fn(&TestStatus) -> bool| cases.iter().filter(|k| f(&k.mark)).count();
    format!(
        "tests=\"{}\" failures=\"{}\" errors=\"{}\" skipped=\"{}\"",
        cases.len(),
        count(|m| matches!(m, TestStatus::Failure(_))),
        count(|m| matches!(m, TestStatus::Error(_))),
        count(|m| matches!(m, TestStatus::Skipped))
    )
}

/// XML 1.0 text: markup escaped, characters that XML does not know replaced.
fn escape(text: &str) -> String {
    text.chars().fold(String::with_capacity(text.len()), |mut out, ch| {
        match ch {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\n' | '\t' => out.push(ch),
            c if c.is_control() || matches!(c, '\u{fffe}' | '\u{ffff}') => out.push('\u{fffd}'),
            c => out.push(c),
        }
        out
    })
}
