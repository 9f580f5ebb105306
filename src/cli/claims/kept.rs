//! The runs that are there already, and whether they still answer what is asked.

use std::collections::BTreeMap;
use std::io::Read;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::claims::{Form, Measure};
use crate::cli::run::profile;
use crate::engine::Register;
use crate::host::machine;
use crate::plan::{BringUp, Content};
use crate::record::{Completion, Record, Skipped, store};
use crate::system::Availability;
use crate::units::hex;

/// What a run depends on: what it is called, and what it was.
type Circumstances = BTreeMap<String, String>;

/// What stands beside the results of a measurement.
#[derive(Debug, Serialize, Deserialize)]
struct KeptRun {
    /// Of the folder of the measurement.
    result: PathBuf,
    /// A change of any of these makes it another run.
    circumstances: Circumstances,
    /// Systems that were left out, and why: they could not be launched.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    skipped: Vec<Skipped>,
}

/// The folder of a file of claims.
#[derive(Debug)]
pub(super) struct KeptRuns {
    pub(super) folder: PathBuf,
    /// Drivers and what can be launched for them.
    available: BTreeMap<String, Availability>,
    host: String,
    /// Version, profile, and what tells this build from another of the same version.
    build: String,
}

/// The SHA-256 of this program, shortened: of two builds of one version each has its own, also
/// where neither is a state of the repository.
fn build() -> String {
    let hash = || -> std::io::Result<String> {
        // The running program, also where another one stands in its place by now.
        let (mut hash, mut file) = (Sha256::new(), std::fs::File::open(THIS_PROGRAM)?);
        let mut piece = vec![0; 1 << 20];
        loop {
            match file.read(&mut piece)? {
                0 => break,
                n => hash.update(&piece[..n]),
            }
        }
        Ok(hex(&hash.finalize())[..16].to_owned())
    };
    // A program that cannot be read is not known to be the same.
    let hash = hash().unwrap_or_else(|e| format!("unreadable: {e}"));
    format!("{} ({}, sha256 {hash})", env!("CARGO_PKG_VERSION"), profile())
}

impl KeptRuns {
    pub(super) fn new(out: &Path, name: &str, register: &Register) -> Self {
        let host = machine::read();
        let host = format!("{}, {} CPUs, kernel {}", host.cpu, host.cpus, host.kernel);
        let available = register.available().into_iter().map(|(name, a)| (name.to_owned(), a)).collect();
        Self { folder: out.join(name), available, host, build: build() }
    }

    /// Where a measurement is kept: both forms side by side.
    pub(super) fn place(&self, measure: &Measure, form: Form) -> PathBuf {
        self.of_form(form).join(&measure.name)
    }

    /// Where all of a form is kept.
    pub(super) fn of_form(&self, form: Form) -> PathBuf {
        self.folder.join(if form == Form::Quick { "quick" } else { "full" })
    }

    /// The host, and what can be launched on it.
    pub(super) fn around(&self) -> Circumstances {
        let version = |a: &Availability| match a {
            Availability::Found { version, .. } => version.clone(),
            Availability::Missing { .. } => "not here".into(),
        };
        let all = self.available.iter().map(|(name, a)| (format!("the version of {name}"), version(a)));
        all.chain([("the host".to_owned(), self.host.clone())]).collect()
    }

    /// What a run of a measurement depends on, as it is now.
    fn circumstances(&self, measure: &Measure, form: Form) -> Circumstances {
        let scenario = measure.scenario(form);
        let mut all = Circumstances::from([
            (SCENARIO.to_owned(), scenario.sha256.clone()),
            (SETTINGS.to_owned(), measure.options(form).join(" ")),
            ("the host".to_owned(), self.host.clone()),
            ("this build of msgbench".to_owned(), self.build.clone()),
        ]);
        for system in &scenario.plan.systems {
            let version = match self.available.get(&system.driver) {
                Some(Availability::Found { version, .. }) => version.clone(),
                _ => "not here".into(),
            };
            all.insert(format!("the version of {}", system.driver), version);
        }
        for workload in scenario.plan.cases.iter().flat_map(|c| &c.workloads) {
            if let Content::File { path, sha256, .. } = &workload.payload.content {
                let name = Path::new(path).file_name().unwrap_or_default().to_string_lossy();
                all.insert(format!("the messages in {name}"), sha256.clone());
            }
        }
        all
    }

    /// The result of a measurement, where everything it depends on is as it was.
    ///
    /// # Errors
    /// Why it must be run.
    pub(super) fn unchanged(&self, measure: &Measure, form: Form) -> Result<Record, String> {
        if self.interrupted(measure, form).is_some() {
            return Err(INTERRUPTED.into());
        }
        let kept = self.whole(measure, form).ok_or_else(|| match self.noted(BEGUN, measure, form) {
            Some(_) => INTERRUPTED,
            None => "not run yet",
        })?;
        let asked = |name: &String| measure.systems.is_empty() || measure.systems.contains(name);
        let mut all = measure.scenario(form).plan.systems.iter().filter(|s| asked(&s.name));
        if let Some(elsewhere) = all.find(|s| matches!(s.bring_up, BringUp::External { .. })) {
            return Err(format!("{} is not launched here, and may be another by now", elsewhere.name));
        }
        let now = self.circumstances(measure, form);
        let changed: Vec<&str> = now
            .iter()
            .filter(|(what, value)| kept.circumstances.get(*what) != Some(value))
            .map(|(what, _)| what.as_str())
            .collect();
        if !changed.is_empty() {
            return Err(format!("{} changed", changed.join(" and ")));
        }
        self.record(measure, form, &kept)
    }

    /// The result of a run that was interrupted, where everything it depends on is as it was: what
    /// can be gone on with.
    pub(super) fn interrupted(&self, measure: &Measure, form: Form) -> Option<PathBuf> {
        let now = self.circumstances(measure, form);
        // Earlier builds noted one that was cut where now only a whole one is noted.
        let all = [BEGUN, KEPT].into_iter().filter_map(|name| self.noted(name, measure, form));
        let same = all.filter(|noted| noted.circumstances == now);
        let mut results = same.map(|noted| self.place(measure, form).join(noted.result));
        results.find(|result| store::record(result).is_ok_and(|record| can_go_on(&record)))
    }

    /// The newest result of a measurement, whatever has changed since.
    ///
    /// # Errors
    /// Why there is none.
    pub(super) fn newest(&self, measure: &Measure, form: Form) -> Result<Record, String> {
        let kept = self.whole(measure, form).ok_or_else(|| match self.noted(BEGUN, measure, form) {
            Some(_) => INTERRUPTED.to_owned(),
            None => format!("`{}` was not run yet", measure.name),
        })?;
        self.record(measure, form, &kept)
    }

    /// In what the newest result was made otherwise than the file of claims and its scenarios have
    /// it now. Another build or host may render it.
    pub(super) fn otherwise(&self, measure: &Measure, form: Form) -> Vec<&'static str> {
        let Some(kept) = self.whole(measure, form) else { return Vec::new() };
        let now = self.circumstances(measure, form);
        // A rate that is not known now says nothing of the one that was.
        let unknown = measure.rate.as_ref().is_some_and(|rate| rate.found.is_none());
        let other = |what: &&str| kept.circumstances.get(*what).is_some_and(|was| now.get(*what) != Some(was));
        [SCENARIO, SETTINGS].into_iter().filter(|what| !(unknown && *what == SETTINGS)).filter(other).collect()
    }

    /// What is noted of the newest result.
    fn whole(&self, measure: &Measure, form: Form) -> Option<KeptRun> {
        self.noted(KEPT, measure, form)
    }

    fn noted(&self, name: &str, measure: &Measure, form: Form) -> Option<KeptRun> {
        let bytes = std::fs::read(self.place(measure, form).join(name)).ok()?;
        serde_json::from_slice(&bytes).ok()
    }

    fn record(&self, measure: &Measure, form: Form, kept: &KeptRun) -> Result<Record, String> {
        let mut record = store::record(&self.place(measure, form).join(&kept.result)).map_err(|e| e.to_string())?;
        record.skipped.extend(kept.skipped.clone());
        match record.completion {
            Completion::Complete => Ok(record),
            _ => Err(INTERRUPTED.into()),
        }
    }

    /// The folder of the result of a measurement; of one that has none, that of what was begun.
    pub(super) fn result(&self, measure: &Measure, form: Form) -> Option<PathBuf> {
        let noted = self.whole(measure, form).or_else(|| self.noted(BEGUN, measure, form))?;
        Some(self.place(measure, form).join(noted.result))
    }

    /// Notes that a measurement has a result, which leaves these systems out. One that was cut is
    /// noted apart: until it was gone on with, the whole one before it answers.
    ///
    /// # Errors
    /// When it cannot be written, or is that of another scenario than the file of claims was read
    /// with.
    pub(super) fn keep(
        &self,
        measure: &Measure,
        form: Form,
        (result, record): (&Path, &Record),
        skipped: &[Skipped],
    ) -> Result<(), String> {
        let place = self.place(measure, form);
        let result = result.strip_prefix(&place).unwrap_or(result).to_path_buf();
        let mut circumstances = self.circumstances(measure, form);
        // The run has read the scenario by itself.
        let read = circumstances.insert(SCENARIO.to_owned(), record.scenario.sha256.clone());
        let kept = KeptRun { result, circumstances, skipped: skipped.to_vec() };
        let text = serde_json::to_vec_pretty(&kept).map_err(|e| e.to_string())?;
        let whole = record.completion == Completion::Complete;
        let store = store::Store { dir: place.clone() };
        store.write_file(if whole { KEPT } else { BEGUN }, &text).map_err(|e| e.to_string())?;
        if whole {
            // Mostly none is there; one that stays has another circumstance, or is gone on with.
            let _ = std::fs::remove_file(place.join(BEGUN));
        }
        match read.is_some_and(|read| read != record.scenario.sha256) {
            true => Err("its scenario was changed meanwhile: give the same command again".into()),
            false => Ok(()),
        }
    }
}

/// Whether `run --resume` takes it up: a search that was cut in its first trial has counted none.
fn can_go_on(record: &Record) -> bool {
    let begun = record.plan.search.is_none() || !record.searches.is_empty();
    record.completion != Completion::Complete && begun
}

/// The running program, as the kernel knows it.
pub(super) const THIS_PROGRAM: &str = "/proc/self/exe";
/// The file beside the results of a measurement that names the newest whole one.
const KEPT: &str = "kept.json";
/// The same of one that was cut.
const BEGUN: &str = "begun.json";
const INTERRUPTED: &str = "it was interrupted";
/// Of what a run depends on, what the file of claims says.
const SCENARIO: &str = "the scenario";
const SETTINGS: &str = "the settings";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::sample;

    /// A measurement, and a search.
    fn measures() -> Vec<Measure> {
        let text = "name = \"t\"\ntitle = \"t\"\n[[measure]]\nname = \"m\"\nscenario = \"m\"\ntier = \"none\"\n\
                    [[claim]]\nid = 1\nsays = \"s\"\nplace = \"p\"\nmeasure = \"m\"\n\
                    holds = [\"ledger.lost of reference == 0\"]\n";
        let of = |system: &str, search: &str| {
            let scenario = format!(
                "name = \"m\"\nquestion = \"?\"\n[[system]]\n{system}\n[[workload]]\npattern = \"fan-out\"\n\
                 load.rate = \"1k/s\"\n{search}"
            );
            let lookup = |name: &str| {
                let (argument, path) = (name.to_owned(), PathBuf::from(name));
                Ok(crate::claims::ScenarioText { argument, path, text: scenario.clone() })
            };
            let types = Register::built_in().types();
            crate::claims::read(Path::new("t.toml"), text, &lookup, &types).unwrap().measures.remove(0)
        };
        let (here, elsewhere) =
            ("driver = \"reference\"", "name = \"reference\"\ndriver = \"nats\"\nurl = \"nats://127.0.0.1:1\"");
        vec![of(here, ""), of(here, "[search]\nlimits = [\"e2e.p99 < 1s\"]\n"), of(elsewhere, "")]
    }

    struct KeptFolder {
        _dir: tempfile::TempDir,
        runs: KeptRuns,
    }

    impl KeptFolder {
        fn new() -> Self {
            let dir = tempfile::tempdir().unwrap();
            let runs = KeptRuns::new(dir.path(), "t", &Register::built_in());
            Self { _dir: dir, runs }
        }

        /// A result of that name, noted.
        fn add(&self, measure: &Measure, name: &str, completion: Completion) -> PathBuf {
            let dir = self.runs.place(measure, Form::Full).join("m").join(name);
            std::fs::create_dir_all(&dir).unwrap();
            let mut record = sample::record();
            record.plan.search.clone_from(&measure.full.plan.search);
            record.scenario.sha256.clone_from(&measure.full.sha256);
            record.completion = completion;
            store::Store { dir: dir.clone() }.write(&record).unwrap();
            self.runs.keep(measure, Form::Full, (&dir, &record), &[]).unwrap();
            dir
        }
    }

    #[test]
    fn a_search_that_was_cut_in_its_first_trial_is_begun_anew() {
        let (place, all) = (KeptFolder::new(), measures());
        let cut = place.add(&all[0], "cut", Completion::Interrupted);
        assert_eq!(place.runs.interrupted(&all[0], Form::Full), Some(cut));
        place.add(&all[1], "cut", Completion::Interrupted);
        assert_eq!(place.runs.interrupted(&all[1], Form::Full), None, "`run --resume` would refuse it");
    }

    /// Until it was gone on with, the whole one before it answers.
    #[test]
    fn a_result_that_was_cut_does_not_hide_a_whole_one() {
        let (place, measure) = (KeptFolder::new(), &measures()[0]);
        let whole = place.add(measure, "whole", Completion::Complete);
        assert!(place.runs.unchanged(measure, Form::Full).is_ok());
        let cut = place.add(measure, "cut", Completion::Interrupted);
        assert!(place.runs.newest(measure, Form::Full).is_ok());
        assert_eq!(place.runs.result(measure, Form::Full), Some(whole));
        assert_eq!(place.runs.interrupted(measure, Form::Full), Some(cut));
        assert_eq!(place.runs.unchanged(measure, Form::Full).unwrap_err(), INTERRUPTED);
        let next = place.add(measure, "next", Completion::Complete);
        assert_eq!(place.runs.interrupted(measure, Form::Full), None);
        assert!(place.runs.unchanged(measure, Form::Full).is_ok());
        assert_eq!(place.runs.result(measure, Form::Full), Some(next));
    }

    /// Nobody knows here what runs at an address.
    #[test]
    fn what_is_not_launched_here_is_measured_each_time() {
        let (place, measure) = (KeptFolder::new(), &measures()[2]);
        place.add(measure, "whole", Completion::Complete);
        let why = place.runs.unchanged(measure, Form::Full).unwrap_err();
        assert!(why.contains("reference is not launched here"), "{why}");
    }

    /// The build and the host are not of the file; scenario and settings are.
    #[test]
    fn a_result_of_another_scenario_or_other_settings_is_known() {
        let (place, measure) = (KeptFolder::new(), &measures()[0]);
        place.add(measure, "whole", Completion::Complete);
        let runs = KeptRuns { build: "another".into(), host: "another".into(), ..place.runs };
        assert!(runs.otherwise(measure, Form::Full).is_empty());
        let mut other = measure.clone();
        other.set.push(("workload.load.rate".into(), "30k/s".into()));
        assert_eq!(runs.otherwise(&other, Form::Full), [SETTINGS]);
        other.full.sha256 = "0".into();
        assert_eq!(runs.otherwise(&other, Form::Full), [SCENARIO, SETTINGS]);
        // One that is run while its scenario is edited is filed under what it has read.
        let mut record = sample::record();
        record.scenario.sha256 = "0".into();
        let dir = runs.place(measure, Form::Full);
        let why = runs.keep(measure, Form::Full, (&dir.join("m/edited"), &record), &[]).unwrap_err();
        assert!(why.contains("changed meanwhile"), "{why}");
        assert_eq!(runs.otherwise(measure, Form::Full), [SCENARIO]);
    }

    /// What an earlier build has noted is read.
    #[test]
    fn a_note_without_the_newer_fields_is_read() {
        let kept: KeptRun = serde_json::from_str(r#"{"result": "m/1", "circumstances": {"the host": "h"}}"#).unwrap();
        assert!(kept.skipped.is_empty());
    }
}
