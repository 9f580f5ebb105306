//! The document of a scenario as the command line edits it, with every mistake laid at the door of
//! the line or the option that made it.

use std::collections::HashSet;
use std::path::Path;

use toml::{Table, Value};

use super::OptionEdit;
use super::Overrides;
use super::diagnose::{Diagnosis, MistakePlace, locate};
use super::edit::{self, Edit};
use super::environment;
use super::file::{LoadMode, ScenarioFile, WorkloadTable};
use super::reword;
use super::sweep::SweepPoint;
use crate::plan::SystemTypes;
use crate::plan::problem::{Problems, segments, suggest};

/// The text of a scenario, and what the command line makes of it.
pub(super) struct Builder<'a> {
    pub path: &'a Path,
    pub text: &'a str,
    pub document: Table,
    pub edits: Vec<Edit>,
    pub applied: Vec<(String, String)>,
    /// Systems of the file that `--system` leaves out.
    pub left_out: Vec<String>,
    /// Where each system stands in the file; an option of the command line where it does not.
    pub origins: Vec<Result<usize, String>>,
    pub types: &'a SystemTypes,
    pub mistakes: Vec<Diagnosis>,
    /// What was taken out of the file, or made up, because it could not be read.
    pub doubtful: Vec<Vec<String>>,
}

pub(super) fn system(driver: &str, require: bool) -> Value {
    let mut table = Table::new();
    table.insert("driver".into(), Value::String(driver.into()));
    table.insert("require".into(), Value::Boolean(require));
    Value::Table(table)
}

pub(super) fn read(document: &Table) -> Result<ScenarioFile, toml::de::Error> {
    Value::Table(document.clone()).try_into()
}

impl Builder<'_> {
    pub fn apply(&mut self, o: &Overrides) {
        for (path, value) in &o.set {
            self.set(format!("--set {path}={value}"), path, edit::read_value(value), value);
        }
        for OptionEdit { option, path, value } in &o.options {
            self.set(option.clone(), path, edit::read_value(value), value);
        }
        if let Some(trials) = o.trials {
            self.set(format!("--trials {trials}"), "run.trials", Value::Integer(trials.into()), &trials.to_string());
        }
        if let Some(duration) = o.duration {
            let text = duration.to_string();
            self.set(format!("--duration {text}"), "run.duration", Value::String(text.clone()), &text);
        }
        if let Some(rate) = o.rate
            && let Err(mistake) = self.set_rates(&rate.to_string())
        {
            self.mistakes.push(mistake);
        }
        if let Err(mistake) = self.keep(&o.systems) {
            self.mistakes.push(mistake);
        }
        if o.quick {
            self.applied.push(("quick".into(), "true".into()));
        }
    }

    /// `--rate`, for every open workload.
    pub fn set_rates(&mut self, text: &str) -> Result<(), Diagnosis> {
        let label = format!("--rate {text}");
        let file = self.file(&label)?;
        let open = |w: &WorkloadTable| w.load.mode == LoadMode::Open;
        if !file.workload.iter().any(open) {
            return Err(Diagnosis {
                place: MistakePlace::Option(label),
                message: "no workload of the scenario has a rate".into(),
                hint: Some("remove it, or set `load.mode = \"open\"`".into()),
            });
        }
        for i in file.workload.iter().enumerate().filter(|(_, w)| open(w)).map(|(i, _)| i) {
            let workload = self.document.get_mut("workload").and_then(|w| w.get_mut(i)?.get_mut("load"));
            if let Some(Value::Table(load)) = workload {
                load.remove("ramp");
                load.remove("steps");
                load.remove("rate-per-producer");
            }
            let path = format!("workload.{i}.load.rate");
            self.set(label.clone(), &path, Value::String(text.into()), text);
        }
        Ok(())
    }

    /// Applies one edit; a mistake of it is kept, and the edit dropped.
    pub fn set(&mut self, label: String, path: &str, value: Value, text: &str) {
        let before = self.document.clone();
        if let Err(mistake) = self.try_set(label, path, value, text) {
            self.document = before;
            self.mistakes.push(mistake);
        }
    }

    /// Applies one edit and reads the document again, so that what goes wrong is this edit's doing.
    pub fn try_set(&mut self, label: String, path: &str, mut value: Value, text: &str) -> Result<(), Diagnosis> {
        let fail = |(message, hint)| Diagnosis { place: MistakePlace::Option(label.clone()), message, hint };
        environment::expand_value(&mut value, &environment::variable).map_err(fail)?;
        let segments = edit::normalise(&self.document, path).map_err(fail)?;
        edit::put(&mut self.document, &segments, value).map_err(fail)?;
        // A value that is set explicitly is no longer varied.
        if segments[0] != "sweep" {
            let document = self.document.clone();
            if let Some(Value::Table(sweep)) = self.document.get_mut("sweep") {
                sweep.retain(|key, _| edit::normalise(&document, key).map_or(true, |p| p != segments));
            }
        }
        self.file(&label)?;
        self.applied.push((segments.join("."), text.to_string()));
        self.edits.push(Edit { label, path: segments });
        Ok(())
    }

    pub fn file(&self, label: &str) -> Result<ScenarioFile, Diagnosis> {
        read(&self.document).map_err(|e| {
            let (message, hint) = reword::plain(e.message());
            Diagnosis { place: MistakePlace::Option(label.to_string()), message, hint }
        })
    }

    /// Keeps the named systems only, and makes them required.
    pub fn keep(&mut self, names: &[String]) -> Result<(), Diagnosis> {
        if names.is_empty() {
            return Ok(());
        }
        let Some(Value::Array(written)) = self.document.get("system") else { return Ok(()) };
        let name_of = |v: &Value| ["name", "driver"].iter().find_map(|k| v.get(k)?.as_str().map(String::from));
        let mut kept: Vec<Value> = Vec::new();
        let mut origins = Vec::new();
        for name in names {
            let place = written.iter().position(|v| name_of(v).as_deref() == Some(name.as_str()));
            let found = place.and_then(|i| written.get(i));
            let known = self.types.get(name);
            let mut chosen = match (found, known) {
                (Some(value), _) => value.clone(),
                (None, Some(driver)) => system(driver.name, true),
                (None, None) => {
                    let mut valid: Vec<String> = written.iter().filter_map(name_of).collect();
                    valid.extend(self.types.names().into_iter().map(String::from));
                    let mut seen = HashSet::new();
                    valid.retain(|v| seen.insert(v.clone()));
                    let valid: Vec<&str> = valid.iter().map(String::as_str).collect();
                    let list = format!("the systems are {}", valid.join(", "));
                    let near = suggest(name, &valid).filter(|s| s.starts_with("did you mean"));
                    return Err(Diagnosis {
                        place: MistakePlace::Option(format!("--system {name}")),
                        message: format!("there is no system called `{name}`"),
                        hint: Some(near.map_or(list.clone(), |n| format!("{n} {list}"))),
                    });
                }
            };
            if let Value::Table(table) = &mut chosen {
                table.insert("require".into(), Value::Boolean(true));
            }
            if !kept.iter().any(|k| name_of(k) == name_of(&chosen)) {
                kept.push(chosen);
                origins.push(place.ok_or_else(|| format!("--system {name}")));
            }
            self.applied.push(("system".into(), name.clone()));
        }
        self.left_out = written.iter().filter_map(name_of).filter(|n| !names.contains(n)).collect();
        self.document.insert("system".into(), Value::Array(kept));
        self.origins = origins;
        Ok(())
    }

    /// Keeps mistakes of meaning, each with the place where it was made: an option, the sweep, or
    /// the file. What follows from a mistake that was told already is none.
    pub fn keep_all(&mut self, problems: Problems, point: &SweepPoint) {
        for problem in problems.0 {
            let wanted = segments(&problem.path);
            if !self.doubted(&wanted) && !problem.beside.iter().any(|path| self.doubted(&segments(path))) {
                let place = self.place(&wanted, point);
                let mistake = Diagnosis { place, message: problem.message, hint: problem.hint };
                // What is wrong with a swept key is wrong with each of its values.
                if point.is_empty() || !self.mistakes.iter().any(|m| m.repeats(&mistake)) {
                    self.mistakes.push(mistake);
                }
            }
        }
    }

    /// Whether a setting is not what was meant, because something of it was told already.
    fn doubted(&self, wanted: &[String]) -> bool {
        // A key that was taken out as misspelt is not missing as well.
        let misspelt = |d: &Vec<String>| {
            let n = d.len().saturating_sub(1);
            let (Some(wrong), Some(key)) = (d.get(n), wanted.get(n)) else { return false };
            d[..n] == wanted[..n] && reword::near(wrong, key) && !self.has(&wanted[..=n])
        };
        self.doubtful.iter().any(|d| d.starts_with(wanted) || wanted.starts_with(d) || misspelt(d))
    }

    /// Whether the scenario has such a key.
    fn has(&self, path: &[String]) -> bool {
        let Some((first, rest)) = path.split_first() else { return false };
        let next = |value: &Value, key: &String| match value {
            Value::Table(table) => table.get(key).cloned(),
            Value::Array(list) => key.parse::<usize>().ok().and_then(|i| list.get(i).cloned()),
            _ => None,
        };
        let found = self.document.get(first).cloned();
        rest.iter().try_fold(found, |at, key| at.as_ref().map(|v| next(v, key))).flatten().is_some()
    }

    pub fn place(&self, wanted: &[String], point: &SweepPoint) -> MistakePlace {
        let concerns = |path: &[String]| path.starts_with(wanted) || wanted.starts_with(path);
        if let Some(edit) = self.edits.iter().rev().find(|e| concerns(&e.path)) {
            return MistakePlace::Option(edit.label.clone());
        }
        if let Some((_, key, _, index)) = point.iter().find(|(path, ..)| concerns(path)) {
            let path = ["sweep".into(), key.clone(), index.clone()];
            return MistakePlace::of(self.path, self.text, locate(self.text, &path));
        }
        let mut path = wanted.to_vec();
        if let [list, index, ..] = path.as_mut_slice()
            && list == "system"
        {
            match index.parse::<usize>().ok().and_then(|i| self.origins.get(i)) {
                Some(Err(option)) => return MistakePlace::Option(option.clone()),
                Some(Ok(i)) => *index = i.to_string(),
                None => {}
            }
        }
        MistakePlace::of(self.path, self.text, locate(self.text, &path))
    }

    pub fn in_sweep(&self, key: &str, index: Option<usize>, message: String, hint: Option<String>) -> Diagnosis {
        let mut path = vec!["sweep".to_string(), key.to_string()];
        path.extend(index.map(|i| i.to_string()));
        let edited = self.edits.iter().rev().find(|e| e.path.starts_with(&["sweep".to_string()]));
        let place = match edited {
            Some(edit) => MistakePlace::Option(edit.label.clone()),
            None => MistakePlace::of(self.path, self.text, locate(self.text, &path)),
        };
        Diagnosis { place, message, hint }
    }
}
