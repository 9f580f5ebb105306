//! Text and options to a plan: applies the edits, multiplies out the sweep, and lays every mistake
//! at the door of the line or the option that made it.

use std::collections::{BTreeMap, HashSet};
use std::path::Path;

use toml::{Table, Value};

use super::Overrides;
use super::builder::{Builder, read, system};
use super::diagnose::{Diagnosis, in_order};
use super::edit::{self};
use super::environment;
use super::events;
use super::faults;
use super::file::ScenarioFile;
use super::gate;
use super::known::{KnownNames, Searched};
use super::load::Payloads;
use super::outage;
use super::sweep::{self, SweepPoint, id, plain};
use super::{agents, places, quick, resolve, reword, search, shape, suits};
use crate::plan::problem::Problems;
use crate::plan::{Case, Plan, SystemSpec, SystemTypes, divide};

const MAX_CASES: usize = 1_000;

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

/// The systems as they are at a point of the sweep; none where no setting of one is swept.
fn changed(
    at: &ScenarioFile,
    systems: &[SystemSpec],
    point: &SweepPoint,
    types: &SystemTypes,
    problems: &mut Problems,
) -> Vec<SystemSpec> {
    if !point.iter().any(|(path, ..)| path[0] == "system") {
        return Vec::new();
    }
    let mut own = Problems::default();
    let mut changed = resolve::systems(at, types, &mut own);
    faults::apply_to_systems(at, &mut changed, types, &mut own);
    // What is wrong with no setting of the sweep was told of the systems as they are written.
    let swept = |p: &str| point.iter().any(|(path, ..)| p.starts_with(&path[..2].join(".")));
    own.0.into_iter().filter(|p| swept(&p.path)).for_each(|p| problems.add(p));
    if changed.len() == systems.len() { changed } else { Vec::new() }
}

impl Builder<'_> {
    /// The cross product of the swept values; one empty point when nothing is swept.
    fn points(&self, sweep: &BTreeMap<String, Vec<Value>>) -> Result<Vec<SweepPoint>, Diagnosis> {
        let mut points: Vec<SweepPoint> = vec![Vec::new()];
        for (key, values) in sweep {
            let bad = |message: String, hint: Option<String>| self.in_sweep(key, None, message, hint);
            let path = edit::normalise(&self.document, key).map_err(|(m, h)| bad(m, h))?;
            let fixed = ["trials", "seed", "percentiles", "may-break"];
            let of_case = match path[0].as_str() {
                "workload" => path.len() > 2,
                "system" => path.len() > 2 && matches!(path[2].as_str(), "cpus" | "options"),
                "run" => path.get(1).is_some_and(|k| !fixed.contains(&k.as_str())),
                _ => false,
            };
            if !of_case {
                let hint = "sweep settings of `workload` or `run`, except trials, seed and percentiles, or `cpus` and `options` of a system";
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
        let mut events = events::events(&file, &systems, self.types, overrides.quick, &mut problems);
        let outage = outage::outage(&file, &mut problems);
        let percentiles = resolve::check_whole(&file, &mut problems);
        let agents = agents::agents(&file, &mut problems);
        self.keep_all(problems, &none);
        let mut cases = self.cases(&file, &systems, overrides.quick);
        let mut problems = Problems::default();
        events::members(&events, &mut cases, &mut problems);
        events::of_workloads(&mut events, &cases, &mut problems);
        suits::check(&systems, &cases, self.types, &mut problems);
        let known = KnownNames {
            types: self.types,
            systems: &systems,
            left_out: &self.left_out,
            cases: &cases,
            events: !events.is_empty(),
            percentiles: &percentiles,
            search: file.search.as_ref().map_or(Searched::Nothing, search::searched),
            // Where a part could not be read, nobody knows what is measured.
            by_pattern: self.doubtful.is_empty(),
        };
        let gate = file.gate.as_ref().map(|g| gate::gate(g, known, &mut problems));
        let expect = gate::expectations(&file.expect, known, &mut problems);
        let search = file.search.as_ref();
        let search = search.and_then(|s| search::resolve(s, &self.document, known, &mut problems));
        let mut plan = Plan {
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
            outage,
            agents,
        };
        problems.take(divide(&mut plan));
        self.keep_all(problems, &none);
        Some(plan)
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
            let changed = changed(&at, systems, &point, self.types, &mut problems);
            for (index, system) in systems.iter().enumerate() {
                places::misplaced(changed.get(index).unwrap_or(system), &workloads, self.types, &mut problems);
            }
            self.keep_all(problems, &point);
            for (index, system) in systems.iter().enumerate() {
                let Some(own) = sweep::of_system(index, &point) else { continue };
                cases.push(Case {
                    id: id(&system.name, &own, &mut ids),
                    system: index,
                    changed: changed.get(index).filter(|c| *c != system).cloned(),
                    point: own.iter().map(|(path, _, value, _)| (sweep::path(path), plain(value))).collect(),
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
