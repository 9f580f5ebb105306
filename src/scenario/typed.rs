//! Files of other kinds, read as scenarios are: mistakes are shown where they stand, all at once.

use std::path::Path;

use schemars::JsonSchema;
use serde::de::DeserializeOwned;

use super::diagnose::{Diagnosis, MistakePlace, in_order, locate};
use super::environment;
use super::known::{CaseScope, KnownNames};
use super::shape::{self, ReadText};
use crate::plan::metric::Metric;
use crate::plan::problem::{Problem, segments};
use crate::plan::{Plan, SystemTypes};

/// Reads a text as `T`. Environment variables in its strings are put in.
///
/// # Errors
/// Every mistake of form, where it stands.
pub fn typed<T: DeserializeOwned + JsonSchema>(path: &Path, text: &str) -> Result<T, Vec<Diagnosis>> {
    let expanded = environment::expand(path, text, &environment::variable).map_err(|d| vec![d])?;
    let ReadText { document, mistakes, .. } = shape::read::<T>(path, text, &expanded).map_err(|d| vec![d])?;
    if !mistakes.is_empty() {
        return Err(mistakes);
    }
    // What could be read without a mistake reads.
    document.try_into::<T>().map_err(|e| {
        let place = MistakePlace::of(path, text, e.span().unwrap_or(0..0));
        vec![Diagnosis { place, message: e.message().into(), hint: None }]
    })
}

/// Mistakes of meaning, each where its key path stands in the text.
pub fn located(path: &Path, text: &str, problems: Vec<Problem>) -> Vec<Diagnosis> {
    let each = problems.into_iter().map(|p| {
        let place = MistakePlace::of(path, text, locate(text, &segments(&p.path)));
        Diagnosis { place, message: p.message, hint: p.hint }
    });
    in_order(each.collect())
}

/// Whether a plan has a system of this name that the metric is measured at.
///
/// # Errors
/// Why not, at this key path.
pub fn measured(plan: &Plan, types: &SystemTypes, path: &str, metric: &Metric, system: &str) -> Result<(), Problem> {
    let known = KnownNames::of(plan, types, true);
    known.system(path.into(), system)?;
    known.metric(path, metric, Some(system), CaseScope::Each)
}
