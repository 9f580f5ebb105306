//! The pages of claims, beside their results.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::claims::{ClaimSet, Form, Outcomes, sentence};
use crate::cli::{Failure, pretty, review};
use crate::record::{Record, store};
use crate::report::export;
use crate::report::pages::claims::{self, ClaimEvidence, ClaimsPage};

use super::kept::KeptRuns;

/// Writes the page, the Markdown file, JUnit XML and the verdicts as JSON; gives the page.
pub(super) fn write(
    set: &ClaimSet,
    outcomes: &Outcomes,
    records: &BTreeMap<String, Record>,
    runs: &KeptRuns,
    form: Form,
) -> Result<PathBuf, Failure> {
    let folder = &runs.folder;
    std::fs::create_dir_all(folder)
        .map_err(|e| Failure::unwritten(format!("cannot create {}: {e}", folder.display())))?;
    let suffix = if form == Form::Quick { "-quick" } else { "" };
    let page = folder.join(format!("claims{suffix}.html"));
    let evidence = set
        .measures
        .iter()
        .filter(|m| outcomes.claims.iter().any(|c| c.measures.contains(&m.name)))
        .map(|m| ClaimEvidence {
            measure: &m.name,
            tier: sentence::tested_on(m),
            command: m.command(form),
            link: linked(&page, runs.result(m, form)),
            record: records.get(&m.name),
        })
        .collect();
    let all = ClaimsPage { outcomes, evidence };
    let store = store::Store { dir: folder.clone() };
    let junit = export::claims::junit(outcomes).map_err(Failure::internal)?;
    for (kind, text) in
        [("html", claims::page(&all)), ("md", claims::markdown(&all)), ("xml", junit), ("json", pretty(outcomes))]
    {
        store.write_file(&format!("claims{suffix}.{kind}"), text.as_bytes()).map_err(Failure::unwritten)?;
    }
    Ok(page)
}

/// The report of a result, relative to the page.
fn linked(page: &Path, result: Option<PathBuf>) -> Option<String> {
    let result = result?;
    review::link(page, &result.canonicalize().unwrap_or(result))
}
