//! Where a scenario comes from: a file, standard input, the built-in ones, or the options alone.

use std::io::IsTerminal;
use std::path::{Path, PathBuf};

use crate::plan::SystemTypes;
use crate::scenario::{self, OptionEdit, Scenario};

use super::scenario_args::ScenarioArgs;
use super::{Failure, adhoc, shipped};

/// The text of a scenario, and how mistakes in it name the place.
#[derive(Debug)]
pub(super) struct NamedText {
    pub(super) path: PathBuf,
    pub(super) text: String,
}

/// What stands for standard input.
pub(super) const STDIN: &str = "-";

/// Reads, overrides and validates what the arguments say; `more` is changed besides.
pub(super) fn load(args: &ScenarioArgs, more: &[OptionEdit], types: &SystemTypes) -> Result<Scenario, Failure> {
    let Some(name) = &args.scenario else {
        return adhoc::load(args, more, types);
    };
    let NamedText { path, text } = read(name)?;
    let mut overrides = args.overrides()?;
    overrides.options.extend_from_slice(more);
    args.parse(&path, text, &overrides, types)
}

/// Reads what the argument names. A file wins over a built-in scenario of that name.
pub(super) fn read(name: &Path) -> Result<NamedText, Failure> {
    if name.as_os_str() == STDIN {
        return stdin();
    }
    let built_in = name.to_str().and_then(shipped::find);
    match built_in {
        Some(found) if !name.exists() || name.is_dir() => built(found),
        _ => file(name),
    }
}

fn stdin() -> Result<NamedText, Failure> {
    if std::io::stdin().is_terminal() {
        return Err(Failure::usage(
            "standard input is a terminal: pipe a scenario into `-`, such as msgbench run - < my.toml",
        ));
    }
    let path = PathBuf::from("(standard input)");
    let text = scenario::text(Path::new("/dev/stdin")).map_err(|e| match e {
        scenario::ScenarioError::Read { source, .. } => {
            Failure::usage(format!("cannot read a scenario from standard input: {source}"))
        }
        other => Failure::usage(other),
    })?;
    Ok(NamedText { path, text })
}

fn built(found: shipped::ShippedScenario) -> Result<NamedText, Failure> {
    if let Some((data, _)) = found.data().next() {
        let name = found.name;
        return Err(Failure::usage(format!(
            "the built-in scenario `{name}` reads its messages from {data}, which must be a file: write both with \
             `msgbench scenarios show {name} --out .`, and name {name}.toml"
        )));
    }
    Ok(NamedText { path: PathBuf::from(format!("(built-in) {}", found.name)), text: found.text.into() })
}

fn file(name: &Path) -> Result<NamedText, Failure> {
    let shown = name.display();
    let text = scenario::text(name).map_err(|e| match name.exists() {
        true => Failure::usage(e),
        false => {
            let stem = name.file_stem().and_then(|s| s.to_str()).unwrap_or_default();
            let hint = match shipped::find(stem) {
                Some(_) => format!("`{stem}` is built in: name it without folder and .toml"),
                None => shipped::hint(stem),
            };
            Failure::usage(format!("there is no file {shown}, nor a built-in scenario called so; {hint}"))
        }
    })?;
    Ok(NamedText { path: name.to_path_buf(), text })
}
