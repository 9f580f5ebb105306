//! Text and options to a plan: applies the edits, multiplies out the sweep, and lays every mistake
//! at the door of the line or the option that made it.

use std::collections::{BTreeMap, HashSet};
use std::path::Path;

use toml::{Table, Value};

use super::diagnose::{Diagnosis, MistakePlace, locate, reword};
use super::edit::{self, Edit};
use super::environment;
use super::faults;
use super::file::{LoadMode, ScenarioFile};
use super::gate;
use super::known::KnownNames;
use super::load::Payloads;
use super::resolve;
use super::{OptionEdit, Overrides};
use crate::plan::problem::{Problem, segments, suggest};
use crate::plan::{Case, Plan, SystemTypes};
use crate::units::Span;

const MAX_CASES: usize = 1_000;
/// What `--quick` allows for warm-up and load of all trials, without the starts of servers.
const QUICK: Span = Span::secs(10);

/// The swept settings of one load point: normalised path, path and value as typed, place within the
/// sweep.
type SweepPoint = Vec<(Vec<String>, String, Value, String)>;

struct Builder<'a> {
    path: &'a Path,
    text: &'a str,
    document: Table,
    edits: Vec<Edit>,
    applied: Vec<(String, String)>,
    /// Systems of the file that `--system` leaves out.
    left_out: Vec<String>,
    types: &'a SystemTypes,
}

/// The plan, and the overrides as they were applied.
pub(super) fn plan(
    path: &Path,
    text: &str,
    overrides: &Overrides,
    types: &SystemTypes,
) -> Result<(Plan, Vec<(String, String)>), Diagnosis> {
    let expanded = environment::expand(path, text, &environment::variable)?;
    let at_span = |e: &toml::de::Error| {
        let (message, hint) = reword(e);
        Diagnosis { place: MistakePlace::of(path, text, expanded.original(e.span().unwrap_or(0..0))), message, hint }
    };
    toml::from_str::<ScenarioFile>(&expanded.text).map_err(|e| at_span(&e))?;
    let mut document: Table = toml::from_str(&expanded.text).map_err(|e| at_span(&e))?;
    if !document.contains_key("system") {
        // Only some can have injected faults.
        let faults = document.contains_key("faults");
        let chosen = types.0.iter().filter(|t| t.by_default && (t.faults || !faults));
        let all = chosen.map(|t| system(t.name, false)).collect();
        document.insert("system".into(), Value::Array(all));
    }
    let mut b = Builder { path, text, document, edits: Vec::new(), applied: Vec::new(), left_out: Vec::new(), types };
    b.apply(overrides)?;
    let plan = b.finish(overrides)?;
    Ok((plan, b.applied))
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
    fn apply(&mut self, o: &Overrides) -> Result<(), Diagnosis> {
        for (path, value) in &o.set {
            self.set(format!("--set {path}={value}"), path, edit::read_value(value), value)?;
        }
        for OptionEdit { option, path, value } in &o.options {
            self.set(option.clone(), path, edit::read_value(value), value)?;
        }
        if let Some(trials) = o.trials {
            self.set(format!("--trials {trials}"), "run.trials", Value::Integer(trials.into()), &trials.to_string())?;
        }
        if let Some(duration) = o.duration {
            let text = duration.to_string();
            self.set(format!("--duration {text}"), "run.duration", Value::String(text.clone()), &text)?;
        }
        if let Some(rate) = o.rate {
            let text = rate.to_string();
            let label = format!("--rate {text}");
            let file = self.file(&label)?;
            if !file.workload.iter().any(|w| w.load.mode == LoadMode::Open) {
                return Err(Diagnosis {
                    place: MistakePlace::Option(label),
                    message: "no workload of the scenario has a rate".into(),
                    hint: Some("remove it, or set `load.mode = \"open\"`".into()),
                });
            }
            for i in file.workload.iter().enumerate().filter(|(_, w)| w.load.mode == LoadMode::Open).map(|(i, _)| i) {
                if let Some(Value::Table(load)) =
                    self.document.get_mut("workload").and_then(|w| w.get_mut(i)?.get_mut("load"))
                {
                    load.remove("ramp");
                    load.remove("steps");
                }
                let path = format!("workload.{i}.load.rate");
                self.set(label.clone(), &path, Value::String(text.clone()), &text)?;
            }
        }
        self.keep(&o.systems)?;
        if o.quick {
            self.applied.push(("quick".into(), "true".into()));
        }
        Ok(())
    }

    /// Applies one edit and reads the document again, so that what goes wrong is this edit's doing.
    fn set(&mut self, label: String, path: &str, mut value: Value, text: &str) -> Result<(), Diagnosis> {
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
            let (message, hint) = reword(&e);
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
        for name in names {
            let found = written.iter().find(|v| name_of(v).as_deref() == Some(name.as_str()));
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
            }
            self.applied.push(("system".into(), name.clone()));
        }
        self.left_out = written.iter().filter_map(name_of).filter(|n| !names.contains(n)).collect();
        self.document.insert("system".into(), Value::Array(kept));
        Ok(())
    }

    /// Where a mistake of meaning was made: an option, the sweep, or the file.
    fn locate_problem(&self, problem: Problem, point: &SweepPoint) -> Diagnosis {
        let wanted = segments(&problem.path);
        let concerns = |path: &[String]| path.starts_with(&wanted) || wanted.starts_with(path);
        let place = if let Some(edit) = self.edits.iter().rev().find(|e| concerns(&e.path)) {
            MistakePlace::Option(edit.label.clone())
        } else if let Some((_, key, _, index)) = point.iter().find(|(path, ..)| concerns(path)) {
            MistakePlace::of(self.path, self.text, locate(self.text, &["sweep".into(), key.clone(), index.clone()]))
        } else {
            MistakePlace::of(self.path, self.text, locate(self.text, &wanted))
        };
        Diagnosis { place, message: problem.message, hint: problem.hint }
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
                let (message, hint) = reword(&e);
                bad(message, hint)
            })?);
        }
        match file {
            Some(file) => Ok(file),
            None => self.file("scenario"),
        }
    }

    fn finish(&self, overrides: &Overrides) -> Result<Plan, Diagnosis> {
        let none = SweepPoint::new();
        let mut file = self.file("scenario")?;
        if overrides.quick {
            self.apply_quick(&mut file);
        }
        let mut systems = resolve::systems(&file, self.types).map_err(|p| self.locate_problem(p, &none))?;
        faults::apply_to_systems(&file, &mut systems, self.types).map_err(|p| self.locate_problem(p, &none))?;
        let events = faults::events(&file, &systems, self.types).map_err(|p| self.locate_problem(p, &none))?;
        let percentiles = resolve::check_whole(&file).map_err(|p| self.locate_problem(p, &none))?;
        let folder = self.path.parent().unwrap_or(Path::new(""));
        let mut known = Payloads::new();
        let mut cases = Vec::new();
        let mut ids = HashSet::new();
        for point in self.points(&file.sweep)? {
            let mut at = self.at_point(&point)?;
            if overrides.quick {
                self.apply_quick(&mut at);
            }
            let blame = |p| self.locate_problem(p, &point);
            let phases = resolve::phases(&at.run).map_err(blame)?;
            let threads = resolve::threads(&at.run).map_err(blame)?;
            let workloads = resolve::workloads(&at, folder, &mut known).map_err(blame)?;
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
        let known = KnownNames {
            types: self.types,
            systems: &systems,
            left_out: &self.left_out,
            cases: &cases,
            percentiles: &percentiles,
            by_pattern: true,
        };
        let blame = |p| self.locate_problem(p, &none);
        let gate = file.gate.as_ref().map(|g| gate::gate(g, known)).transpose().map_err(blame)?;
        let expect = gate::expectations(&file.expect, known).map_err(blame)?;
        Ok(Plan {
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

    /// One short trial of the ends of each sweep; ramps, steps and long bursts shrink in
    /// proportion, so that all of them is still seen. Load takes no longer than [`QUICK`] over all
    /// cases.
    fn apply_quick(&self, file: &mut ScenarioFile) {
        let explicit = |key: &str| self.edits.iter().any(|e| e.path == ["run", key]);
        for values in file.sweep.values_mut().filter(|v| v.len() > 2) {
            values.drain(1..values.len() - 1);
        }
        let cases = file.system.len().max(1) * file.sweep.values().map(Vec::len).product::<usize>().max(1);
        let share = QUICK.0 / cases as u64;
        let run = &mut file.run;
        let before = run.duration;
        if !explicit("trials") {
            run.trials = 1;
        }
        if !explicit("duration") {
            run.duration = run.duration.min(Span::secs(2)).min(Span(share / 8 * 5).max(Span::millis(300)));
        }
        if !explicit("warmup") {
            run.warmup = run.warmup.min(Span::millis(500)).min(Span(share / 8));
        }
        if !explicit("drain") {
            // A bound and no length: it ends when everything is accounted for, which a cold Kafka
            // takes seconds for.
            run.drain = run.drain.min(Span::secs(4));
        }
        let factor = if before.0 == 0 { 1.0 } else { run.duration.0 as f64 / before.0 as f64 };
        let after = run.duration;
        let shorten = |span: &mut Span| {
            // Zero stays zero, to be refused as such.
            span.0 = ((span.0 as f64 * factor).round() as u64).max(span.0.min(1));
        };
        for event in &mut file.event {
            shorten(&mut event.at);
        }
        if let Some(at) = file.faults.as_mut().and_then(|f| f.stall.as_mut()?.at.as_mut()) {
            shorten(at);
        }
        for w in &mut file.workload {
            if let Some(backlog) = &mut w.delivery.backlog {
                *backlog = (*backlog).min(20_000);
            }
            if let Some(after) = &mut w.delivery.replay_after {
                shorten(after);
            }
            let load = &mut w.load;
            if let Some(ramp) = &mut load.ramp {
                shorten(&mut ramp.over);
            }
            for step in load.steps.iter_mut().flatten() {
                shorten(&mut step.span);
            }
            if let Some(burst) = load.burst.as_mut().filter(|b| b.on.0 + b.off.0 > after.0) {
                shorten(&mut burst.on);
                shorten(&mut burst.off);
            }
        }
    }
}

/// A value as a person would say it: strings without quotes.
fn plain(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), String::from)
}

/// `nats-rate-20k`: fit for a file name, and told apart by a number where two points read the same.
fn id(system: &str, point: &SweepPoint, ids: &mut HashSet<String>) -> String {
    let mut id = system.to_string();
    for (path, _, value, _) in point {
        let value = plain(value);
        let value = value.strip_suffix("/s").unwrap_or(&value);
        let fit = |c: char| if c.is_ascii_alphanumeric() || c == '.' || c == '_' { c } else { '-' };
        let value: String = value.chars().map(fit).take(40).collect();
        let key: String = path.last().map_or("", String::as_str).chars().map(fit).take(40).collect();
        id.push_str(&format!("-{key}-{}", value.trim_matches('-')));
    }
    let mut unique = id.clone();
    let mut number = 2;
    while !ids.insert(unique.clone()) {
        unique = format!("{id}-{number}");
        number += 1;
    }
    unique
}
