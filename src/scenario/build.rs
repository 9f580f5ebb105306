//! Text and options to a plan: applies the edits, multiplies out the sweep, and lays every mistake
//! at the door of the line or the option that made it.

use std::collections::{BTreeMap, HashSet};
use std::path::Path;

use toml::{Table, Value};

use super::OptionEdit;
use super::Overrides;
use super::diagnose::{Diagnosis, MistakePlace, in_order, locate};
use super::edit::{self, Edit};
use super::environment;
use super::faults;
use super::file::{LoadMode, ScenarioFile, WorkloadTable};
use super::gate;
use super::known::KnownNames;
use super::load::Payloads;
use super::sweep::{SweepPoint, id, plain};
use super::{quick, resolve, reword, search, shape, suits};
use crate::plan::problem::{Problems, segments, suggest};
use crate::plan::{Case, Plan, SystemSpec, SystemTypes};

const MAX_CASES: usize = 1_000;

struct Builder<'a> {
    path: &'a Path,
    text: &'a str,
    document: Table,
    edits: Vec<Edit>,
    applied: Vec<(String, String)>,
    /// Systems of the file that `--system` leaves out.
    left_out: Vec<String>,
    /// Where each system stands in the file; an option of the command line where it does not.
    origins: Vec<Result<usize, String>>,
    types: &'a SystemTypes,
    mistakes: Vec<Diagnosis>,
    /// What was taken out of the file, or made up, because it could not be read.
    doubtful: Vec<Vec<String>>,
}

/// A scenario without mistakes.
pub(super) struct Built {
    pub plan: Plan,
    /// The overrides as they were applied.
    pub applied: Vec<(String, String)>,
    /// Where each system stands in the file; an option of the command line where it does not.
    pub origins: Vec<Result<usize, String>>,
}

/// The plan; or every mistake, in the order of the file.
pub(super) fn plan(
    path: &Path,
    text: &str,
    overrides: &Overrides,
    types: &SystemTypes,
) -> Result<Built, Vec<Diagnosis>> {
    let expanded = environment::expand(path, text, &environment::variable).map_err(|d| vec![d])?;
    let read = shape::read::<ScenarioFile>(path, text, &expanded).map_err(|d| vec![d])?;
    let mut document = read.document;
    if !document.contains_key("system") {
        // Only some can have injected faults.
        let faults = document.contains_key("faults");
        let chosen = types.0.iter().filter(|t| t.by_default && (t.faults || !faults));
        let all = chosen.map(|t| system(t.name, false)).collect();
        document.insert("system".into(), Value::Array(all));
    }
    let systems = document.get("system").and_then(Value::as_array).map_or(0, Vec::len);
    let mut b = Builder {
        path,
        text,
        document,
        edits: Vec::new(),
        applied: Vec::new(),
        left_out: Vec::new(),
        origins: (0..systems).map(Ok).collect(),
        types,
        mistakes: read.mistakes,
        doubtful: read.doubtful,
    };
    b.apply(overrides);
    let plan = b.finish(overrides);
    match plan {
        Some(plan) if b.mistakes.is_empty() => Ok(Built { plan, applied: b.applied, origins: b.origins }),
        _ => {
            let secrets = secrets(&b.document, types);
            b.mistakes.iter_mut().for_each(|m| m.mask(&secrets));
            Err(in_order(b.mistakes))
        }
    }
}

/// What stands in the systems of a document and must not be shown.
fn secrets(document: &Table, types: &SystemTypes) -> Vec<String> {
    let systems = document.get("system").and_then(Value::as_array).into_iter().flatten();
    let of = |system: &Value| {
        let text = |key: &str| system.get(key).and_then(Value::as_str);
        let options = system.get("options").and_then(|o| serde_json::to_value(o).ok());
        let options = options.as_ref().and_then(|o| o.as_object().cloned()).unwrap_or_default();
        types.secrets(text("driver").unwrap_or_default(), &options, text("url"))
    };
    systems.flat_map(of).filter(|s| !s.is_empty()).collect()
}

fn system(driver: &str, require: bool) -> Value {
    let mut table = Table::new();
    table.insert("driver".into(), Value::String(driver.into()));
    table.insert("require".into(), Value::Boolean(require));
    Value::Table(table)
}

fn read(document: &Table) -> Result<ScenarioFile, toml::de::Error> {
    Value::Table(document.clone()).try_into()
}

impl Builder<'_> {
    fn apply(&mut self, o: &Overrides) {
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
    fn set_rates(&mut self, text: &str) -> Result<(), Diagnosis> {
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
    fn set(&mut self, label: String, path: &str, value: Value, text: &str) {
        let before = self.document.clone();
        if let Err(mistake) = self.try_set(label, path, value, text) {
            self.document = before;
            self.mistakes.push(mistake);
        }
    }

    /// Applies one edit and reads the document again, so that what goes wrong is this edit's doing.
    fn try_set(&mut self, label: String, path: &str, mut value: Value, text: &str) -> Result<(), Diagnosis> {
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

    fn file(&self, label: &str) -> Result<ScenarioFile, Diagnosis> {
        read(&self.document).map_err(|e| {
            let (message, hint) = reword::plain(e.message());
            Diagnosis { place: MistakePlace::Option(label.to_string()), message, hint }
        })
    }

    /// Keeps the named systems only, and makes them required.
    fn keep(&mut self, names: &[String]) -> Result<(), Diagnosis> {
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
    fn keep_all(&mut self, problems: Problems, point: &SweepPoint) {
        for problem in problems.0 {
            let wanted = segments(&problem.path);
            let follows = |d: &Vec<String>| d.starts_with(&wanted) || wanted.starts_with(d);
            if !self.doubtful.iter().any(follows) {
                let place = self.place(&wanted, point);
                let mistake = Diagnosis { place, message: problem.message, hint: problem.hint };
                // What is wrong with a swept key is wrong with each of its values.
                if point.is_empty() || !self.mistakes.iter().any(|m| m.repeats(&mistake)) {
                    self.mistakes.push(mistake);
                }
            }
        }
    }

    fn place(&self, wanted: &[String], point: &SweepPoint) -> MistakePlace {
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

    fn in_sweep(&self, key: &str, index: Option<usize>, message: String, hint: Option<String>) -> Diagnosis {
        let mut path = vec!["sweep".to_string(), key.to_string()];
        path.extend(index.map(|i| i.to_string()));
        let edited = self.edits.iter().rev().find(|e| e.path.starts_with(&["sweep".to_string()]));
        let place = match edited {
            Some(edit) => MistakePlace::Option(edit.label.clone()),
            None => MistakePlace::of(self.path, self.text, locate(self.text, &path)),
        };
        Diagnosis { place, message, hint }
    }

    /// The cross product of the swept values; one empty point when nothing is swept.
    fn points(&self, sweep: &BTreeMap<String, Vec<Value>>) -> Result<Vec<SweepPoint>, Diagnosis> {
        let mut points: Vec<SweepPoint> = vec![Vec::new()];
        for (key, values) in sweep {
            let bad = |message: String, hint: Option<String>| self.in_sweep(key, None, message, hint);
            let path = edit::normalise(&self.document, key).map_err(|(m, h)| bad(m, h))?;
            let fixed = ["trials", "seed", "percentiles", "may-break"];
            let of_case = match path[0].as_str() {
                "workload" => path.len() > 2,
                "run" => path.get(1).is_some_and(|k| !fixed.contains(&k.as_str())),
                _ => false,
            };
            if !of_case {
                let hint = "sweep settings of `workload` or `run`, except trials, seed and percentiles";
                return Err(bad(format!("`{key}` cannot be swept"), Some(hint.into())));
            }
            if values.is_empty() {
                return Err(bad(format!("`{key}` has no value to sweep"), None));
            }
            if points.len() * values.len() > MAX_CASES {
                return Err(bad(format!("the sweep makes more than {MAX_CASES} cases"), None));
            }
            let extend = |point: &SweepPoint| {
                let with = |(i, v): (usize, &Value)| {
                    let mut point = point.clone();
                    point.push((path.clone(), key.clone(), v.clone(), i.to_string()));
                    point
                };
                values.iter().enumerate().map(with).collect::<Vec<_>>()
            };
            points = points.iter().flat_map(extend).collect();
        }
        Ok(points)
    }

    fn at_point(&self, point: &SweepPoint) -> Result<ScenarioFile, Diagnosis> {
        let mut document = self.document.clone();
        let mut file = None;
        for (path, key, value, index) in point {
            let bad = |message, hint| self.in_sweep(key, index.parse().ok(), message, hint);
            edit::put(&mut document, path, value.clone()).map_err(|(m, h)| bad(m, h))?;
            file = Some(read(&document).map_err(|e| {
                let (message, hint) = reword::plain(e.message());
                bad(message, hint)
            })?);
        }
        match file {
            Some(file) => Ok(file),
            None => self.file("scenario"),
        }
    }

    /// The file as it is to be read, at one point of the sweep; nothing where that is a mistake.
    fn read_at(&mut self, point: &SweepPoint, quick: bool) -> Option<ScenarioFile> {
        match self.at_point(point) {
            Ok(mut file) => {
                if quick {
                    quick::apply(&mut file, &self.edits);
                }
                Some(file)
            }
            Err(mistake) => {
                // Every point of a sweep has it.
                if !self.mistakes.iter().any(|m| (&m.message, &m.hint) == (&mistake.message, &mistake.hint)) {
                    self.mistakes.push(mistake);
                }
                None
            }
        }
    }

    fn finish(&mut self, overrides: &Overrides) -> Option<Plan> {
        let none = SweepPoint::new();
        let file = self.read_at(&none, overrides.quick)?;
        let mut problems = Problems::default();
        let mut systems = resolve::systems(&file, self.types, &mut problems);
        faults::apply_to_systems(&file, &mut systems, self.types, &mut problems);
        let events = faults::events(&file, &systems, self.types, &mut problems);
        let percentiles = resolve::check_whole(&file, &mut problems);
        self.keep_all(problems, &none);
        let mut cases = self.cases(&file, &systems, overrides.quick);
        let mut problems = Problems::default();
        faults::members(&events, &mut cases, &mut problems);
        suits::check(&systems, &cases, self.types, &mut problems);
        let known = KnownNames {
            types: self.types,
            systems: &systems,
            left_out: &self.left_out,
            cases: &cases,
            percentiles: &percentiles,
            // Where a part could not be read, nobody knows what is measured.
            by_pattern: self.doubtful.is_empty(),
        };
        let gate = file.gate.as_ref().map(|g| gate::gate(g, known, &mut problems));
        let expect = gate::expectations(&file.expect, known, &mut problems);
        let search = file.search.as_ref();
        let search = search.and_then(|s| search::resolve(s, &self.document, known, &mut problems));
        self.keep_all(problems, &none);
        Some(Plan {
            search,
            gate,
            expect,
            name: file.name,
            question: file.question,
            systems,
            cases,
            trials: file.run.trials,
            seed: file.run.seed,
            percentiles,
            may_break: file.run.may_break,
            events,
        })
    }

    /// Every system at every point of the sweep.
    fn cases(&mut self, file: &ScenarioFile, systems: &[SystemSpec], quick: bool) -> Vec<Case> {
        let folder = self.path.parent().unwrap_or(Path::new(""));
        let mut known = Payloads::new();
        let (mut cases, mut ids) = (Vec::new(), HashSet::new());
        let mut sweep = file.sweep.clone();
        sweep.extend(file.search.as_ref().and_then(search::swept));
        let points = self.points(&sweep).unwrap_or_else(|mistake| {
            self.mistakes.push(mistake);
            vec![SweepPoint::new()]
        });
        for point in points {
            let Some(at) = self.read_at(&point, quick) else { continue };
            let mut problems = Problems::default();
            let phases = resolve::phases(&at, &mut problems);
            let threads = resolve::threads(&at.run, &mut problems);
            let workloads = resolve::workloads(&at, folder, &mut known, &mut problems);
            self.keep_all(problems, &point);
            for (index, system) in systems.iter().enumerate() {
                cases.push(Case {
                    id: id(&system.name, &point, &mut ids),
                    system: index,
                    point: point.iter().map(|(path, _, value, _)| (path.join("."), plain(value))).collect(),
                    workloads: workloads.clone(),
                    phases,
                    pacing: at.run.pacing,
                    threads,
                });
            }
        }
        cases
    }
}
