//! A comparison as annotations of a GitHub job: workflow commands on standard output.
//!
//! GitHub shows at most ten errors and ten warnings of a step, so there is one for each kind of
//! outcome, and it says how many more there are. Source of the escapes: `actions/toolkit`, workflow
//! commands.

use crate::compare::{Comparison, ComparisonRow, ExpectVerdict, Question, Verdict};

/// Text after `::`.
fn data(text: &str) -> String {
    text.replace('%', "%25").replace('\r', "%0D").replace('\n', "%0A")
}

/// A value before it.
fn property(text: &str) -> String {
    data(text).replace(':', "%3A").replace(',', "%2C")
}

fn command(out: &mut String, level: &str, title: &str, sentences: &[&str]) {
    let Some(first) = sentences.first() else { return };
    let more = if sentences.len() > 1 { format!(" (and {} more)", sentences.len() - 1) } else { String::new() };
    let title = property(&format!("msgbench: {title}"));
    out.push_str(&format!("::{level} title={title}::{}\n", data(&format!("{first}{more}"))));
}

/// The annotations. What fails the job is an error; what must be known beside it, among others a
/// host that was disturbed, is a warning; a job that passes has one notice.
pub fn page(c: &Comparison) -> String {
    let mut out = String::new();
    let of = |v: Verdict| {
        // Of systems side by side nothing is wrong unless a gate says so.
        let said = |r: &&ComparisonRow| r.primary && r.gate == v && (c.gated || v == Verdict::Invalid);
        let rows = c.rows.iter().filter(said);
        rows.map(|r| r.sentence.as_str()).collect::<Vec<_>>()
    };
    let limits = |v: ExpectVerdict| {
        c.expectations.iter().filter(|e| e.verdict == v).map(|e| e.sentence.as_str()).collect::<Vec<_>>()
    };
    let fails = |code: u8| if c.overall.exit_code == code { "error" } else { "warning" };
    let (worse, open_word) = match c.question {
        Question::Change => ("REGRESSED", "INCONCLUSIVE"),
        Question::Systems => ("SLOWER", "NOT DECIDED"),
    };
    command(&mut out, "error", worse, &of(Verdict::Regressed));
    command(&mut out, "error", "UNMET", &limits(ExpectVerdict::Unmet));
    let refused = c.refused.iter().filter(|r| c.gated && r.missing);
    let refused: Vec<String> = refused.map(|r| format!("{} is not compared: {}", r.case, r.reason)).collect();
    let refused: Vec<&str> = refused.iter().map(String::as_str).collect();
    let invalid = [of(Verdict::Invalid), limits(ExpectVerdict::Invalid), refused].concat();
    command(&mut out, fails(4), "INVALID", &invalid);
    let open =
        [of(Verdict::Inconclusive), limits(ExpectVerdict::Inconclusive), limits(ExpectVerdict::NotJudged)].concat();
    command(&mut out, fails(5), open_word, &open);
    // What keeps a run from counting must not stand behind what is merely doubtful: only the first
    // is shown.
    for (invalid, title) in [(true, "another tool, does not count"), (false, "another tool")] {
        let doubts: Vec<String> =
            c.doubts.iter().filter(|d| d.invalid == invalid).map(crate::report::pages::comparison::doubt).collect();
        command(&mut out, "warning", title, &doubts.iter().map(String::as_str).collect::<Vec<_>>());
    }
    // The checks of the host, not of the system: V6 generator, V13 noise, V15 held still.
    let host: Vec<String> = c
        .excluded
        .iter()
        .filter(|e| e.checks.iter().any(|id| ["V6", "V13", "V15"].contains(&id.as_str())))
        .map(|e| {
            format!("a run was left out because the machine was disturbed: {}, round {}: {}", e.case, e.round, e.reason)
        })
        .collect();
    command(&mut out, "warning", "the host, not the code", &host.iter().map(String::as_str).collect::<Vec<_>>());
    if c.overall.exit_code == 0 {
        command(&mut out, "notice", c.overall.verdict.word(), &[&c.overall.sentence]);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_line_for_each_kind_and_no_character_that_ends_it() {
        let mut c = crate::report::pages::comparison::tests::failing();
        c.excluded.push(crate::compare::ExcludedTrial {
            of: "pull".into(),
            case: "nats".into(),
            round: 3,
            reason: "INVALID: V13 host noise: 100% stolen,\nall of it".into(),
            checks: vec!["V13".into()],
        });
        insta::assert_snapshot!("github", page(&c));
        assert_eq!(property("a: b, 1%"), "a%3A b%2C 1%25");
    }
}
