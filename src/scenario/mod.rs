//! From a TOML file to a validated plan.
//!
//! [`mod@file`] is what may be typed, [`crate::plan`] what it means; `resolve` leads from one to
//! the other. The text is first read as it stands, so that mistakes in it are shown where they are;
//! what cannot be read is taken out, so that all mistakes are found at once.
//! Then the options of the command line are put into the document one by one, so that a mistake
//! names the option that made it. Then the sweep is multiplied out and each point is resolved by
//! itself. Rejected: merging options after resolution, which would need a second set of checks.

use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use crate::units::{Rate, Span};

mod agents;
mod bounds;
mod bucket;
mod build;
mod builder;
mod connect;
pub mod diagnose;
mod edit;
mod environment;
mod events;
mod faults;
pub mod file;
pub mod gate;
mod keep;
mod known;
mod load;
mod outage;
mod places;
mod quick;
mod read;
mod reference;
mod resolve;
mod reword;
mod search;
#[cfg(test)]
mod search_tests;
mod service;
mod shape;
mod suits;
pub mod summary;
mod sweep;
#[cfg(test)]
mod tests;
mod typed;

use crate::plan::{Plan, SystemTypes};
use build::Built;
pub use diagnose::{Diagnosis, MistakePlace, ScenarioError};
pub use file::schema;
pub use reference::reference;
pub use suits::{Unsuited, unsuited};
pub use summary::describe;
pub use typed::{located, measured, typed};

/// A scenario as read and as resolved.
#[derive(Debug, Clone, PartialEq)]
pub struct Scenario {
    /// The file it was read from.
    pub source_path: PathBuf,
    /// Its text, before overrides.
    pub text: String,
    /// SHA-256 of the text, in hexadecimal.
    pub sha256: String,
    /// `--set path=value` and its short forms as (path, value), in the order they were applied.
    pub overrides: Vec<(String, String)>,
    /// What it means.
    pub plan: Plan,
    /// Where each system of the plan stands in the file: its number there, or the option of the
    /// command line that names it.
    origins: Vec<Result<usize, String>>,
}

impl Scenario {
    /// What is said of a key, or of the innermost table around it.
    pub fn about(&self, path: &[&str], message: String, hint: Option<String>) -> Diagnosis {
        let path: Vec<String> = path.iter().map(|key| (*key).to_owned()).collect();
        let place = MistakePlace::of(&self.source_path, &self.text, diagnose::locate(&self.text, &path));
        Diagnosis { place, message, hint }
    }

    /// What is said of a system of the plan, at a key of it.
    pub fn about_system(&self, system: usize, key: &str, message: String, hint: Option<String>) -> Diagnosis {
        let place = match self.origins.get(system) {
            Some(Err(option)) => MistakePlace::Option(option.clone()),
            Some(Ok(i)) => {
                let path = ["system".into(), i.to_string(), key.into()];
                MistakePlace::of(&self.source_path, &self.text, diagnose::locate(&self.text, &path))
            }
            None => MistakePlace::of(&self.source_path, &self.text, 0..0),
        };
        Diagnosis { place, message, hint }
    }
}

/// An option of the command line that changes one key.
#[derive(Debug, Clone, PartialEq)]
pub struct OptionEdit {
    /// As given, for messages: `--size 1KiB`.
    pub option: String,
    /// The key: `workload.payload.size`.
    pub path: String,
    pub value: String,
}

/// What the command line changes in a scenario.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Overrides {
    /// `--set path=value`, in order.
    pub set: Vec<(String, String)>,
    /// Options that are short for a `--set`, in order.
    pub options: Vec<OptionEdit>,
    /// `--system`: only these, and they are required. A driver that the file does not mention is
    /// added.
    pub systems: Vec<String>,
    pub trials: Option<u32>,
    pub duration: Option<Span>,
    /// `--rate`: the rate of every open workload; replaces ramps, steps and a sweep over it.
    pub rate: Option<Rate>,
    /// `--quick`: one short trial. What is given explicitly wins.
    pub quick: bool,
}

/// Reads and resolves a scenario for these types of systems: those of the register that will run
/// it.
///
/// # Errors
/// [`ScenarioError::Read`] when the file cannot be read, [`ScenarioError::Wrong`] with place and
/// hint for every mistake.
pub fn load(path: &Path, overrides: &Overrides, types: &SystemTypes) -> Result<Scenario, ScenarioError> {
    parse(path, text(path)?, overrides, types)
}

/// The text of a scenario file.
///
/// # Errors
/// [`ScenarioError::Read`].
pub fn text(path: &Path) -> Result<String, ScenarioError> {
    read::text(path).map_err(|source| ScenarioError::Read { path: path.to_path_buf(), source })
}

/// A scenario with other values, as text. Variables in values stay as they are typed; comments are
/// lost.
///
/// # Errors
/// What is wrong with the text or with a path. The result may still be refused by [`parse`].
pub fn edited(text: &str, edits: &[(String, String)]) -> Result<String, String> {
    let mut document: toml::Table = toml::from_str(text).map_err(|e| e.to_string())?;
    for (path, value) in edits {
        let segments = edit::normalise(&document, path).map_err(|(words, _)| words)?;
        edit::put(&mut document, &segments, edit::read_value(value)).map_err(|(words, _)| words)?;
    }
    toml::to_string(&document).map_err(|e| e.to_string())
}

/// Line and column of the value at a path, or of the innermost table around it; `None` where the
/// text has neither, or is no TOML.
pub fn position(text: &str, path: &[String]) -> Option<(usize, usize)> {
    let span = diagnose::locate(text, path);
    match MistakePlace::of(Path::new(""), text, span.clone()) {
        MistakePlace::Source { line, column, .. } if !span.is_empty() => Some((line, column)),
        _ => None,
    }
}

/// As [`load`], for a text in hand; `path` is named in mistakes, and payload files are relative to
/// its folder.
///
/// # Errors
/// As [`load`].
pub fn parse(path: &Path, text: String, overrides: &Overrides, types: &SystemTypes) -> Result<Scenario, ScenarioError> {
    let Built { plan, applied, origins } = build::plan(path, &text, overrides, types).map_err(ScenarioError::Wrong)?;
    let sha256 = crate::units::hex(&Sha256::digest(text.as_bytes()));
    Ok(Scenario { source_path: path.to_path_buf(), text, sha256, overrides: applied, plan, origins })
}
