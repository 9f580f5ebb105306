//! Claims of every kind with their verdicts, for the tests.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::{ClaimFindings, ClaimSet, Form, Outcomes, ScenarioText, judge_all, read};
use crate::compare::sample::{A, B, record};
use crate::record::Record;

/// A file with a claim for each verdict; `more` rules are tested beside them.
pub(crate) fn set(more: usize) -> ClaimSet {
    let limit = |n| format!("\"e2e.p99 of reference < {}us\"", 2000 + n);
    let rules = (0..more.max(1)).map(limit).collect::<Vec<_>>().join(", ");
    of_text(&text(&rules))
}

/// The file, with these rules in its last claim.
pub(crate) fn text(rules: &str) -> String {
    format!(
        r#"
name = "two"
title = "Two <systems>"
source = "a page"
[[measure]]
name = "fan"
scenario = "fan"
tier = "page-cache"
copies = 3
[[measure]]
name = "gone"
scenario = "fan"
tier = "none"
[[claim]]
id = 1
says = "below a millisecond"
place = "First part, line 3"
hypothesis = "p99 is below 1 ms."
measure = "fan"
holds = ["e2e.p99 of reference < 1ms"]
checked-by = "a bare client: 0.8 ms"
[[claim]]
id = 2
says = "nats is faster"
place = "First part, line 4"
measure = "fan"
holds = ["e2e.p99 of nats < e2e.p99 of reference"]
[[claim]]
id = 3
says = "fast & <lossless>"
place = "Second part, line 9"
measure = "fan"
[[claim.condition]]
when = "at the median"
holds = ["e2e.p50 of reference < 1ms", "ledger.lost of reference == 0"]
[[claim.condition]]
when = "for all"
holds = ["e2e.max of reference < 1ms"]
[[claim]]
id = 4
says = "never run"
place = "Second part, line 10"
measure = "gone"
holds = ["ledger.lost of nats == 0"]
[[claim]]
id = 5
says = "a million"
place = "Second part, line 11"
measure = "fan"
holds = ["throughput.delivered of nats > 1M/s"]
cannot-refute = "Two processors are shared"
[[claim]]
id = 6
says = "it was so"
place = "Second part, line 12"
fact = "OUTDATED"
why = "It changed in 2025."
read-at = "https://example.org/a"
[[claim]]
id = 7
says = "many at once"
place = "Second part, line 13"
measure = "fan"
holds = [{rules}]
"#
    )
}

/// A file that looks at these measurements.
pub(crate) fn of_text(text: &str) -> ClaimSet {
    let scenario = "name = \"fan\"\nquestion = \"?\"\n[[system]]\ndriver = \"reference\"\n[[system]]\ndriver = \"nats\"\n\
                    [[workload]]\npattern = \"fan-out\"\nload.rate = \"1k/s\"\n";
    let lookup =
        |name: &str| Ok(ScenarioText { argument: name.into(), path: PathBuf::from(name), text: scenario.into() });
    let types = crate::engine::Register::built_in().types();
    read(Path::new("two.toml"), text, &lookup, &types).unwrap_or_else(|all| panic!("{all:?}"))
}

/// What was measured of it.
pub(crate) fn records() -> BTreeMap<String, Record> {
    BTreeMap::from([("fan".to_owned(), record(&A, &B))])
}

/// Its verdicts.
pub(crate) fn outcomes(more: usize, form: Form) -> Outcomes {
    let missing = BTreeMap::from([("gone".to_owned(), "`gone` was not run yet".to_owned())]);
    let evidence = ClaimFindings { records: records(), missing, ..ClaimFindings::default() };
    judge_all(&set(more), &[], form, &evidence)
}
