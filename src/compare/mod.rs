//! Is the difference real, and does it matter? Two records, or the systems within one, to a
//! [`Comparison`].
//!
//! Background: two runs of the same program differ. A percentile of one run against that of
//! another, or two intervals from within runs that do not overlap, show only that. Scope: pure;
//! records in, a comparison out. Invariant: the unit of replication is the trial; INVALID, partial
//! and failed trials are listed and never compared; nothing is dropped silently. Design: `pair` and
//! `search_pairs` find what is comparable and say what is not; `observe` takes the value of each
//! metric from each valid trial; `judge` tests one metric (Hodges-Lehmann ratio with exact
//! interval, exact Mann-Whitney test, Cliff's delta); the p-values of all primary metrics are
//! corrected together (Holm), the others among themselves (Benjamini-Hochberg), and only then does
//! `verdict` give one; `sentence` says it in words; `expect` holds absolute limits. Rejected:
//! comparing merged histograms (destroys the variance between runs), Welch's test as the judge
//! (runs are rarely normal), bootstrap (random verdicts).

mod asked;
mod capacity;
mod clocks;
mod copies;
mod differences;
mod expect;
pub mod foreign;
pub mod history;
mod judge;
mod model;
mod observe;
mod overall;
mod pair;
mod pairing;
mod pool;
#[cfg(test)]
pub(crate) mod sample;
mod search_pairs;
mod sentence;
mod side;
#[cfg(test)]
mod tests;
mod verdict;
mod workloads;

pub use asked::{AskedValue, OneSide, TwoSides, of_one, of_two};
pub use differences::PROMISES;
pub use expect::expectations;
pub use model::*;
pub use pairing::{CompareOptions, NotComparable};
pub use pool::{PoolError, pool};
pub use sentence::{latency_words, needed, needed_brief, percent};
pub use workloads::WorkloadChange;

use crate::plan::gate::Gate;
use crate::plan::metric::Metric;
use crate::record::Record;

/// A record and what it is called in the comparison.
#[derive(Debug, Clone, Copy)]
pub struct NamedRecord<'a> {
    /// Its name, such as the folder it was read from.
    pub label: &'a str,
    pub record: &'a Record,
}

/// Compares a candidate with a baseline: the same systems at the same load points.
///
/// # Errors
/// When the two records as a whole are not comparable; what is wrong with single cases is in
/// `Comparison::refused`.
pub fn records(
    baseline: NamedRecord<'_>,
    candidate: NamedRecord<'_>,
    gate: &Gate,
    options: CompareOptions,
) -> Result<Comparison, NotComparable> {
    let pairing = pair::records(baseline, candidate, options)?;
    Ok(assemble(pairing, gate))
}

/// Whether two records have a case in common that is driven alike.
pub fn comparable(a: &Record, b: &Record) -> bool {
    let named = |record| NamedRecord { label: "", record };
    pair::records(named(a), named(b), CompareOptions::default()).is_ok_and(|p| !p.pairs.is_empty() && p.copies == 0)
}

/// Compares the systems within one record: every pair, or each with the one called `against`.
///
/// # Errors
/// When there are no two systems to compare, or none is called `against`.
pub fn systems(
    record: NamedRecord<'_>,
    against: Option<&str>,
    gate: &Gate,
    options: CompareOptions,
) -> Result<Comparison, NotComparable> {
    let pairing = pair::systems(record, against, options)?;
    Ok(assemble(pairing, gate))
}

/// The metrics that were to decide and that no workload of any contest answers to.
fn unmatched(rows: &[ComparisonRow], pairs: &[pairing::CasePair<'_>], gate: &Gate) -> Vec<RefusedCase> {
    let decided = |m: &Metric| {
        let names = |w: &String| pairs.iter().any(|c| c.a.case.workloads.iter().any(|x| x.name == *w));
        m.workload.as_ref().is_none_or(names) && rows.iter().any(|r| r.primary && r.metric.quantity == m.quantity)
    };
    let of = |m: &Metric| RefusedCase {
        case: format!("gate.primary `{m}`"),
        reason: "nothing that was compared has it".into(),
        missing: true,
    };
    gate.primary.iter().filter(|m| !decided(m)).map(of).collect()
}

impl Comparison {
    /// The verdict in sentences, the most important first: of one system and its past one; of
    /// systems one for each pair, at the median.
    pub fn sentences(&self) -> Vec<String> {
        let mut list = vec![self.overall.sentence.clone()];
        if self.question == Question::Systems {
            let median =
                |r: &&ComparisonRow| r.primary && r.metric.quantity.quantile().is_some_and(|q| (q - 0.5).abs() < 1e-9);
            let all = self.rows.iter().filter(median).map(|r| format!("{}.", r.sentence.trim_end_matches('.')));
            list.extend(all.filter(|s| *s != self.overall.sentence).take(5));
        }
        list
    }
}

fn assemble(pairing: pairing::Pairing<'_>, gate: &Gate) -> Comparison {
    let mut drafts = Vec::new();
    for pair in &pairing.pairs {
        drafts.extend(judge::drafts(pair, gate));
    }
    let mut rows = judge::verdicts(drafts, gate, pairing.question);
    let same =
        (pairing.copies > 0).then(|| copies::words(&pairing.baseline.label, &pairing.candidate.label, pairing.copies));
    if let Some(words) = &same {
        rows.iter_mut().for_each(|row| copies::invalidate(row, words));
    }
    let mut refused = pairing.refused;
    refused.extend(unmatched(&rows, &pairing.pairs, gate));
    let mut overall = overall::overall(&rows, &refused, gate, pairing.question, pairing.gated);
    if let Some(words) = &same {
        copies::fail(&mut overall, words);
    }
    Comparison {
        schema: SCHEMA.into(),
        scenario: pairing.scenario,
        tool: env!("CARGO_PKG_VERSION").into(),
        baseline: pairing.baseline,
        candidate: pairing.candidate,
        question: pairing.question,
        design: pairing.design,
        gate: gate.clone(),
        gated: pairing.gated,
        differences: pairing.differences,
        refused,
        excluded: pairing.excluded,
        doubts: pairing.doubts,
        rows,
        expectations: Vec::new(),
        overall,
    }
}
