//! Verdicts of claims as JUnit XML, for those who make their objectives claims: one case for each.

use std::time::Duration;

use quick_junit::{NonSuccessKind, Report, TestCase, TestCaseStatus, TestSuite};

use super::junit::{failed, printable};
use crate::claims::{ClaimResult, ClaimWord, Outcomes};

/// REFUTED and DEPENDS are failures, UNDECIDED is an error, what was not put to the test is
/// skipped.
///
/// # Errors When the XML cannot be written.
pub fn junit(o: &Outcomes) -> Result<String, String> {
    let mut suite = TestSuite::new(printable(&o.name));
    suite.set_time(Duration::ZERO);
    for (name, value) in [("hostname", "localhost"), ("id", "0"), ("package", "msgbench")] {
        suite.extra.insert(name.into(), value.into());
    }
    suite.add_property(("msgbench.schema", o.schema));
    suite.add_property(("quick", if o.quick { "true" } else { "false" }));
    suite.add_test_cases(o.claims.iter().map(|c| case(o, c)));
    let mut report = Report::new("msgbench");
    report.set_time(Duration::ZERO).add_test_suite(suite);
    report.to_string().map_err(|e| e.to_string())
}

fn case(o: &Outcomes, c: &ClaimResult) -> TestCase {
    let word = c.verdict.word();
    let mut status = match c.verdict {
        ClaimWord::Supported => TestCaseStatus::success(),
        ClaimWord::Refuted | ClaimWord::Depends => failed(NonSuccessKind::Failure, word),
        ClaimWord::Undecided => failed(NonSuccessKind::Error, word),
        ClaimWord::NotTestable | ClaimWord::Read(_) => TestCaseStatus::skipped(),
    };
    status.set_message(printable(&format!("{word}: {}", c.reason)));
    if matches!(status, TestCaseStatus::NonSuccess { .. }) {
        let rules = c.conditions.iter().flat_map(|c| &c.rules);
        let lines: Vec<String> = rules.map(|r| format!("{}: {}", r.that, crate::claims::sentence::figure(r))).collect();
        status.set_description(printable(&lines.join("\n")));
    }
    let mut case = TestCase::new(printable(&format!("{} {}", c.id, c.says)), status);
    case.set_classname(format!("msgbench.{}", printable(&o.name))).set_time(Duration::ZERO);
    case
}
