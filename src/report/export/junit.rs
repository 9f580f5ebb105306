//! A comparison as JUnit XML, in the dialect that Jenkins, GitLab and GitHub actions read: one
//! suite for each scenario and load point, one case for each metric that decides and each limit.

use std::time::Duration;

use quick_junit::{NonSuccessKind, Report, TestCase, TestCaseStatus, TestSuite};

use crate::compare::{Comparison, ComparisonRow, ExpectResult, ExpectVerdict, Verdict};
use crate::plan::gate::Policy;
use crate::plan::metric::Quantity;
use crate::report::pages::comparison::doubt;

/// REGRESSED and UNMET are failures, INVALID is an error, INCONCLUSIVE is skipped, or a failure
/// where the policy says so.
///
/// # Errors
/// When the XML cannot be written.
pub fn page(c: &Comparison) -> Result<String, String> {
    let rows = c.rows.iter().filter(|r| r.primary).map(|r| of_row(c, r));
    let limits = c.expectations.iter().map(|e| of_limit(c, e));
    let mut suites: Vec<TestSuite> = Vec::new();
    for (scenario, case) in rows.chain(limits) {
        let at = suites.iter().position(|s| s.name == scenario).unwrap_or_else(|| {
            suites.push(suite(c, &scenario, suites.len()));
            suites.len() - 1
        });
        suites[at].add_test_case(case);
    }
    let mut report = Report::new("msgbench");
    report.set_time(Duration::ZERO).add_test_suites(suites);
    report.to_string().map_err(|e| e.to_string())
}

/// A suite without its cases.
fn suite(c: &Comparison, scenario: &str, id: usize) -> TestSuite {
    let mut suite = TestSuite::new(scenario);
    suite.set_time(Duration::ZERO);
    // JUnit knows no time zone, and its schema demands the others.
    let stamp = c.candidate.started_at.trim_end_matches('Z').split('.').next().unwrap_or_default();
    let id = id.to_string();
    for (name, value) in [("timestamp", stamp), ("hostname", "localhost"), ("id", &id), ("package", "msgbench")] {
        suite.extra.insert(name.into(), value.into());
    }
    suite.add_property(("msgbench.schema", c.schema.as_str()));
    suite.add_property(("seed", c.candidate.seed.to_string().as_str()));
    for d in &c.doubts {
        suite.add_property(("doubt", printable(&doubt(d)).as_str()));
    }
    suite
}

/// The name of its suite and a case.
fn case(scenario: &str, name: &str, mut status: TestCaseStatus, message: &str, text: &str) -> (String, TestCase) {
    status.set_message(printable(message));
    if matches!(status, TestCaseStatus::NonSuccess { .. }) {
        status.set_description(printable(text));
    }
    let scenario = printable(scenario);
    let mut case = TestCase::new(printable(name), status);
    case.set_classname(format!("msgbench.{scenario}")).set_time(Duration::ZERO);
    (scenario, case)
}

/// JUnit has no words for our verdicts: they are the type of a failure or an error.
pub(super) fn failed(kind: NonSuccessKind, word: &str) -> TestCaseStatus {
    let mut status = TestCaseStatus::non_success(kind);
    status.set_type(word);
    status
}

fn open(policy: Policy) -> TestCaseStatus {
    match policy {
        Policy::Fail => failed(NonSuccessKind::Failure, "INCONCLUSIVE"),
        _ => TestCaseStatus::skipped(),
    }
}

fn values(of: &[f64]) -> String {
    of.iter().map(f64::to_string).collect::<Vec<_>>().join(" ")
}

fn of_limit(c: &Comparison, e: &ExpectResult) -> (String, TestCase) {
    let status = match e.verdict {
        ExpectVerdict::Met => TestCaseStatus::success(),
        ExpectVerdict::Unmet => failed(NonSuccessKind::Failure, "UNMET"),
        ExpectVerdict::Invalid => failed(NonSuccessKind::Error, "INVALID"),
        ExpectVerdict::Inconclusive | ExpectVerdict::NotJudged => open(e.on_inconclusive),
    };
    let of = if e.metric.quantity == Quantity::Capacity { "lower ends of the searches" } else { "runs" };
    let found = if e.values.is_empty() { "none".into() } else { values(&e.values) };
    let runs = format!("{of} ({}): {found}", e.metric.quantity.unit().name());
    case(&c.scenario, &format!("{} {}", e.case, e.that), status, &e.sentence, &runs)
}

fn of_row(c: &Comparison, row: &ComparisonRow) -> (String, TestCase) {
    let (a, b, unit) = (&row.a, &row.b, &row.unit);
    let status = match row.gate {
        Verdict::Invalid if c.gate.on_invalid == Policy::Fail => failed(NonSuccessKind::Error, "INVALID"),
        Verdict::Invalid => TestCaseStatus::skipped(),
        Verdict::Regressed if c.gated => failed(NonSuccessKind::Failure, row.word()),
        Verdict::Inconclusive if c.gated => open(c.gate.on_inconclusive),
        Verdict::Inconclusive => TestCaseStatus::skipped(),
        _ => TestCaseStatus::success(),
    };
    let sides = [a, b].map(|side| format!("{} ({unit}): {}", side.label, values(&side.values)));
    case(
        &row.scenario,
        &format!("{} {} against {}", row.metric, b.label, a.label),
        status,
        &format!("{}: {}", row.word(), row.sentence),
        &format!("{}\n{}\n{}", row.sentence, row.reason, sides.join("\n")),
    )
}

/// Text in which each character that XML does not know is replaced: the crate would drop it, and
/// after an escape what follows.
pub(super) fn printable(text: &str) -> String {
    let unknown = |c: char| c != '\n' && (c.is_control() || matches!(c, '\u{fffe}' | '\u{ffff}'));
    text.replace(unknown, "\u{fffd}")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]

        /// Nothing that a server says makes the file unreadable, or is lost with what follows it.
        #[test]
        fn any_text_is_read_back(text in any::<String>()) {
            let mut c = crate::report::pages::comparison::tests::failing();
            c.expectations.iter_mut().for_each(|e| e.sentence.clone_from(&text));
            let xml = page(&c).unwrap();
            let unknown = |c: char| c != '\n' && (c.is_control() || matches!(c, '\u{fffe}' | '\u{ffff}'));
            prop_assert!(!xml.contains(unknown), "{xml}");
            // The crate reads no time without a zone, and JUnit's schema has none.
            let zoned = xml.replace("timestamp=\"2026-11-23T11:50:00\"", "timestamp=\"2026-11-23T11:50:00Z\"");
            let read = Report::deserialize_from_str(&zoned).unwrap();
            let cases = read.test_suites.iter().flat_map(|s| &s.test_cases);
            let messages: Vec<&str> = cases
                .filter_map(|k| match &k.status {
                    TestCaseStatus::NonSuccess { message, .. } | TestCaseStatus::Skipped { message, .. } => {
                        message.as_deref()
                    }
                    TestCaseStatus::Success { .. } => None,
                })
                .collect();
            let open = c.expectations.iter().filter(|e| e.verdict != ExpectVerdict::Met).count();
            let said = messages.iter().filter(|m| m.replace('\n', " ") == printable(&text).replace('\n', " "));
            prop_assert!(said.count() >= open, "{xml}");
        }
    }
}
