//! The types of systems that can be measured: what each is, and how one comes up.
//!
//! A type of system has two files: one here, which says what scenarios may ask of it and brings it
//! up ([`Provider`]), and one in `driver`, which puts load on it. `engine::Register` joins them in
//! one line; nothing else names a type of system.

use std::path::PathBuf;
use std::sync::Arc;

use crate::plan::options::SystemOptions;
use crate::plan::{BringUp, SystemSpec, SystemType};

use super::{Availability, System, SystemContext, SystemError};

/// One type of system: what it is, whether it is here, and how one comes up.
pub trait Provider: Send + Sync {
    /// What scenarios may ask of it, and the options of what is launched.
    fn describe(&self) -> SystemType;

    /// Whether one can be launched here, and what would make it so. May start the server's program
    /// to ask for its version. Not asked of a type that is made of [`parts`](Provider::parts).
    fn availability(&self) -> Availability {
        Availability::Found { program: PathBuf::new(), version: String::new() }
    }

    /// The systems that one of this type is made of, by name, with the options of each; none where
    /// it is one itself. Each is brought up and checked as its own type says.
    ///
    /// # Errors
    /// The option that does not fit, and what is allowed.
    fn parts(&self, _options: &SystemOptions) -> Result<Vec<(String, SystemOptions)>, String> {
        Ok(Vec::new())
    }

    /// The system that `spec` asks for, not yet started. `program` is what [`availability`] found,
    /// or empty where the system is already running.
    ///
    /// [`availability`]: Provider::availability
    ///
    /// # Errors
    /// An option that does not fit, or a part that is not here.
    fn create(&self, spec: &SystemSpec, order: CreateRequest<'_>) -> Result<Box<dyn System>, SystemError>;
}

/// With what a system is made.
pub struct CreateRequest<'a> {
    /// What [`Provider::availability`] found; empty where nothing is launched.
    pub program: PathBuf,
    /// Where it may keep files, and how long it may take.
    pub context: SystemContext,
    /// All types, for a system that is made of others.
    pub providers: &'a Providers,
}

/// All types there are.
#[derive(Clone, Default)]
pub struct Providers(Vec<Arc<dyn Provider>>);

impl std::fmt::Debug for Providers {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.0.iter().map(|p| p.describe().name)).finish()
    }
}

impl Providers {
    /// Adds a type; one of the same name is replaced.
    pub fn add(&mut self, provider: impl Provider + 'static) {
        let name = provider.describe().name;
        match self.0.iter_mut().find(|p| p.describe().name == name) {
            Some(old) => *old = Arc::new(provider),
            None => self.0.push(Arc::new(provider)),
        }
    }

    /// All of them, in the order in which they were added.
    pub fn all(&self) -> impl Iterator<Item = &Arc<dyn Provider>> {
        self.0.iter()
    }

    /// The type of this name.
    pub fn get(&self, name: &str) -> Option<&dyn Provider> {
        self.all().map(AsRef::as_ref).find(|p| p.describe().name == name)
    }

    /// Whether a system of this type can be launched here: where it is made of others, whether all
    /// of those can that it has without being asked.
    pub fn availability(&self, name: &str) -> Availability {
        let Some(provider) = self.get(name) else {
            return Availability::Missing { reason: unknown(name), remedy: OTHER_BUILD.to_owned() };
        };
        let parts = provider.parts(&SystemOptions::new()).unwrap_or_default();
        let mut found: Option<(PathBuf, String)> = None;
        for (part, _) in &parts {
            match self.availability(part) {
                Availability::Found { program, version } => {
                    found = Some(match found {
                        None => (program, format!("{part} {version}")),
                        Some((first, versions)) => (first, format!("{versions}, {part} {version}")),
                    });
                }
                missing @ Availability::Missing { .. } => return missing,
            }
        }
        match found {
            Some((program, version)) => Availability::Found { program, version },
            None => provider.availability(),
        }
    }

    /// The system that `spec` asks for, not yet started.
    ///
    /// # Errors
    /// When there is no such type, its program is not here, or an option does not fit.
    pub fn create(&self, spec: &SystemSpec, context: SystemContext) -> Result<Box<dyn System>, SystemError> {
        let unavailable = |reason, remedy| SystemError::Unavailable { system: spec.name.clone(), reason, remedy };
        let Some(provider) = self.get(&spec.driver) else {
            return Err(unavailable(unknown(&spec.driver), OTHER_BUILD.to_owned()));
        };
        let parts =
            provider.parts(&spec.options).map_err(|words| SystemError::Option { system: spec.name.clone(), words })?;
        // The parts say themselves what is missing.
        let launched = spec.bring_up == BringUp::Launch && parts.is_empty();
        let program = match if launched { Some(provider.availability()) } else { None } {
            None => PathBuf::new(),
            Some(Availability::Found { program, .. }) => program,
            Some(Availability::Missing { reason, remedy }) => return Err(unavailable(reason, remedy)),
        };
        provider.create(spec, CreateRequest { program, context, providers: self })
    }
}

/// What to do where a plan names a type that this build does not have.
const OTHER_BUILD: &str = "use the program that the plan was made with";

fn unknown(name: &str) -> String {
    format!("this msgbench has no driver `{name}`")
}

/// A type that this build does not have. It keeps its name, so that a scenario with it is
/// understood and its system skipped with the reason.
pub struct Absent {
    pub name: &'static str,
    /// Why it is not here.
    pub reason: &'static str,
    /// What would make it available.
    pub remedy: &'static str,
}

impl Provider for Absent {
    fn describe(&self) -> SystemType {
        SystemType::new(self.name, self.reason)
    }
    fn availability(&self) -> Availability {
        Availability::Missing { reason: self.reason.to_owned(), remedy: self.remedy.to_owned() }
    }
    fn create(&self, spec: &SystemSpec, _: CreateRequest<'_>) -> Result<Box<dyn System>, SystemError> {
        Err(SystemError::Unavailable {
            system: spec.name.clone(),
            reason: self.reason.to_owned(),
            remedy: self.remedy.to_owned(),
        })
    }
}
