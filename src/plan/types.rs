//! Types of systems: what a scenario may ask of each.
//!
//! A plan knows a type by its name only. Which types there are, the register of systems says
//! (`engine::Register`); it hands them to whoever checks a scenario.

use serde_json::{Map, Value, json};

use super::Workload;
use super::options::{OptionSet, Options, unknown};
use super::problem::suggest;

/// One type of system, as scenarios see it.
#[derive(Debug, Clone)]
pub struct SystemType {
    /// The word for it in a scenario: `driver = "..."`.
    pub name: &'static str,
    /// What it is, in one sentence; shown by editors.
    pub about: &'static str,
    /// What the workload asks for and systems of this type do not have.
    pub lacks: fn(&Workload) -> Option<&'static str>,
    /// Whether a system that is already running can be measured, at a `url`.
    pub external: bool,
    /// Whether a launched one is made of processes: they can be observed, paused, killed.
    pub processes: bool,
    /// Whether messages come back to consumers. The register takes this from the driver.
    pub delivers: bool,
    /// Whether a message that is not stored is acknowledged.
    pub acks_unstored: bool,
    /// Whether a launched one takes `[faults]`.
    pub faults: bool,
    /// Whether it is measured where a scenario names no system.
    pub by_default: bool,
    /// The options there are, of the launched system and of its clients.
    pub options: Vec<OptionSet>,
}

impl SystemType {
    /// A type that has everything, takes no faults and has no options; change what is different.
    pub const fn new(name: &'static str, about: &'static str) -> Self {
        Self {
            name,
            about,
            lacks: |_| None,
            external: true,
            processes: true,
            delivers: true,
            acks_unstored: true,
            faults: false,
            by_default: false,
            options: Vec::new(),
        }
    }

    /// Checks options against all that there are.
    ///
    /// # Errors
    /// The option that does not fit, or that nobody reads, and what is allowed.
    pub fn check(&self, options: &Options) -> Result<(), String> {
        for set in &self.options {
            set.check(options)?;
        }
        let known: Vec<String> = self.options.iter().flat_map(OptionSet::names).collect();
        unknown(options, self.name, &known).map_or(Ok(()), Err)
    }

    /// The secrets that stand in options.
    pub fn secrets(&self, options: &Options) -> Vec<String> {
        self.options.iter().flat_map(|set| set.secrets(options)).collect()
    }

    /// The JSON schema of its options; what it refers to is added to `definitions`.
    pub fn schema(&self, definitions: &mut Map<String, Value>) -> Value {
        let mut properties = Map::new();
        for (i, set) in self.options.iter().enumerate() {
            // Two sets may call different things by one name.
            let prefix = format!("{}.{i}.", self.name);
            let (own, more) = set.properties();
            properties.extend(own.into_iter().map(|(key, value)| (key, prefixed(value, &prefix))));
            definitions.extend(more.into_iter().map(|(key, v)| (format!("{prefix}{key}"), prefixed(v, &prefix))));
        }
        // One that declares nothing reads its options by itself.
        json!({ "type": "object", "properties": properties, "additionalProperties": self.options.is_empty() })
    }
}

/// A schema whose references lead to definitions with `prefix`.
fn prefixed(value: Value, prefix: &str) -> Value {
    match value {
        Value::Object(all) => {
            let one = |(key, value): (String, Value)| match value.as_str().and_then(|v| v.strip_prefix("#/$defs/")) {
                Some(name) if key == "$ref" => (key, format!("#/$defs/{prefix}{name}").into()),
                _ => (key, prefixed(value, prefix)),
            };
            all.into_iter().map(one).collect::<Map<_, _>>().into()
        }
        Value::Array(all) => all.into_iter().map(|v| prefixed(v, prefix)).collect(),
        other => other,
    }
}

/// All types there are, in the order in which they are shown.
#[derive(Debug, Clone, Default)]
pub struct SystemTypes(pub Vec<SystemType>);

impl SystemTypes {
    /// The type of this name. Records may name types that this build does not have.
    pub fn get(&self, name: &str) -> Option<&SystemType> {
        self.0.iter().find(|t| t.name == name)
    }

    /// All names.
    pub fn names(&self) -> Vec<&'static str> {
        self.0.iter().map(|t| t.name).collect()
    }

    /// What the workload asks for and systems of this type do not have.
    pub fn lacks(&self, name: &str, w: &Workload) -> Option<&'static str> {
        self.get(name).and_then(|t| (t.lacks)(w))
    }

    /// What to write instead of a name that there is not: the nearest one, and all.
    pub fn hint(&self, wrong: &str) -> String {
        let names = self.names();
        let near = suggest(wrong, &names).filter(|s| s.starts_with("did you mean"));
        let all = format!("there are: {}", names.join(", "));
        near.map_or(all.clone(), |near| format!("{near} {all}"))
    }
}
