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
use crate::record::{Completion, Record, store};
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
        let (mut hash, mut file) = (Sha256::new(), std::fs::File::open(std::env::current_exe()?)?);
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
            ("the scenario".to_owned(), scenario.sha256.clone()),
            ("the settings".to_owned(), measure.options(form).join(" ")),
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
        all
    }

    /// The result of a measurement, where everything it depends on is as it was.
    ///
    /// # Errors
    /// Why it must be run.
    pub(super) fn unchanged(&self, measure: &Measure, form: Form) -> Result<Record, String> {
        let kept = self.read(measure, form).ok_or("not run yet")?;
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
        let kept = self.read(measure, form)?;
        let result = self.place(measure, form).join(&kept.result);
        let same = kept.circumstances == self.circumstances(measure, form);
        let cut = store::record(&result).is_ok_and(|r| r.completion != Completion::Complete);
        (same && cut).then_some(result)
    }

    /// The newest result of a measurement, whatever has changed since.
    ///
    /// # Errors
    /// Why there is none.
    pub(super) fn newest(&self, measure: &Measure, form: Form) -> Result<Record, String> {
        let kept = self.read(measure, form).ok_or_else(|| format!("`{}` was not run yet", measure.name))?;
        self.record(measure, form, &kept)
    }

    fn read(&self, measure: &Measure, form: Form) -> Option<KeptRun> {
        let bytes = std::fs::read(self.place(measure, form).join(KEPT)).ok()?;
        serde_json::from_slice(&bytes).ok()
    }

    fn record(&self, measure: &Measure, form: Form, kept: &KeptRun) -> Result<Record, String> {
        let record = store::record(&self.place(measure, form).join(&kept.result)).map_err(|e| e.to_string())?;
        match record.completion {
            Completion::Complete => Ok(record),
            _ => Err("it was interrupted".into()),
        }
    }

    /// The folder of the result of a measurement.
    pub(super) fn result(&self, measure: &Measure, form: Form) -> Option<PathBuf> {
        Some(self.place(measure, form).join(self.read(measure, form)?.result))
    }

    /// Notes that a measurement has a result.
    ///
    /// # Errors
    /// When it cannot be written.
    pub(super) fn keep(&self, measure: &Measure, form: Form, result: &Path) -> Result<(), String> {
        let place = self.place(measure, form);
        let result = result.strip_prefix(&place).unwrap_or(result).to_path_buf();
        let kept = KeptRun { result, circumstances: self.circumstances(measure, form) };
        let text = serde_json::to_vec_pretty(&kept).map_err(|e| e.to_string())?;
        let store = store::Store { dir: place };
        store.write_file(KEPT, &text).map_err(|e| e.to_string())
    }
}

/// The file beside the results of a measurement.
const KEPT: &str = "kept.json";
