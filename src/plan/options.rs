//! The options of a system, typed: each driver and each launcher reads those it documents out of
//! one map.
//!
//! The plan keeps options as written, because what they may be depends on the driver. Here the keys
//! of a type are taken out of the map and read; a value that does not fit is named with what is
//! allowed. A key that nobody knows is found by [`unknown`], given the keys of all who read the
//! map.

use schemars::JsonSchema;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};

use super::Workload;
use super::problem::suggest;
pub use super::secrets::{joined, secrets, sensitive, shape};

/// The options of a system as written.
pub type SystemOptions = Map<String, Value>;

/// The options that one reader takes out of the map: a client, or the launcher of a server.
///
/// It is known before anything is started, so that options are checked, shown to editors and
/// searched for secrets without a system at hand.
#[derive(Debug, Clone, Copy)]
pub struct OptionSet {
    table: Option<&'static str>,
    shape: fn() -> Value,
    check: fn(&SystemOptions) -> Result<(), String>,
    suits: fn(&SystemOptions, &[Workload]) -> Result<(), String>,
}

/// An option that does not fit, or that nobody reads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OptionError {
    /// Which option, and what is wrong with it.
    pub words: String,
    /// What to write.
    pub hint: Option<String>,
}

impl From<String> for OptionError {
    fn from(words: String) -> Self {
        Self { words, hint: None }
    }
}

impl std::fmt::Display for OptionError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.hint {
            None => f.write_str(&self.words),
            Some(hint) => write!(f, "{}; {hint}", self.words),
        }
    }
}

impl OptionSet {
    /// The fields of `T`. `check` says which option does not fit, and what is allowed.
    ///
    /// A field that takes text says by `#[schemars(extend("secret" = "..."))]` what of it is a
    /// secret; the words are those of [`super::secrets`].
    pub const fn of<T: JsonSchema>(check: fn(&SystemOptions) -> Result<(), String>) -> Self {
        Self { table: None, shape: shape::<T>, check, suits: |_, _| Ok(()) }
    }

    /// The same, where `suits` says which option stands against what workloads ask for.
    pub const fn suiting(mut self, suits: fn(&SystemOptions, &[Workload]) -> Result<(), String>) -> Self {
        self.suits = suits;
        self
    }

    /// The same, where they stand in a table of their own.
    pub const fn within(mut self, table: &'static str) -> Self {
        self.table = Some(table);
        self
    }

    /// The schema of what it takes of the map, without references.
    pub fn shape(&self) -> Value {
        match self.table {
            Some(table) => json!({ "type": "object", "properties": { table: (self.shape)() } }),
            None => (self.shape)(),
        }
    }

    /// The names that it takes of the map.
    pub fn names(&self) -> Vec<String> {
        names(&self.shape())
    }

    /// The table that they stand in, and their names there.
    pub fn in_table(&self) -> (Option<&'static str>, Vec<String>) {
        (self.table, names(&(self.shape)()))
    }

    /// Checks what is written. Of a table, all must be among `known`: its readers may be several.
    ///
    /// # Errors
    /// The option that does not fit, and what is allowed.
    pub fn check(&self, options: &SystemOptions, known: &[String]) -> Result<(), OptionError> {
        let Some(table) = self.table else { return Ok((self.check)(options)?) };
        let own = match options.get(table) {
            None => return Ok((self.check)(&SystemOptions::new())?),
            Some(Value::Object(own)) => own,
            Some(_) => return Err(format!("option `{table}`: a table of options is expected").into()),
        };
        let inside = |e: OptionError| OptionError { words: format!("`{table}`: {}", e.words), ..e };
        if let Some(unknown) = unknown_option(own, &format!("the table `{table}`"), known) {
            return Err(inside(unknown));
        }
        (self.check)(own).map_err(|words| inside(words.into()))
    }

    /// Whether what the workloads ask for can be had with these options.
    ///
    /// # Errors
    /// The option that stands against it.
    pub fn suits(&self, options: &SystemOptions, workloads: &[Workload]) -> Result<(), OptionError> {
        let none = SystemOptions::new();
        let own = self.table.map_or(Some(options), |table| options.get(table).and_then(Value::as_object));
        Ok((self.suits)(own.unwrap_or(&none), workloads)?)
    }
}

/// Every option that `check` refuses, one after the other, by the keys that lead to it: the one
/// without which the mistake would not be there.
pub fn misfits(
    options: &SystemOptions,
    check: impl Fn(&SystemOptions) -> Result<(), OptionError>,
) -> Vec<(Vec<String>, OptionError)> {
    let (mut left, mut found) = (options.clone(), Vec::new());
    while let Err(error) = check(&left) {
        let path = blamed(&left, &error, &check);
        let over = path.is_empty();
        remove(&mut left, &path);
        found.push((path, error));
        if over {
            break;
        }
    }
    found
}

/// The keys of the innermost option without which this error would not be there.
fn blamed(
    options: &SystemOptions,
    error: &OptionError,
    check: &dyn Fn(&SystemOptions) -> Result<(), OptionError>,
) -> Vec<String> {
    let without = |key: &str| {
        let mut left = options.clone();
        left.remove(key);
        check(&left)
    };
    let alone = |key: &str| {
        let it = options.get_key_value(key).map(|(k, v)| (k.clone(), v.clone()));
        check(&it.into_iter().collect()).as_ref() == Err(error)
    };
    let changes: Vec<&String> = options.keys().filter(|key| without(key).as_ref() != Err(error)).collect();
    // The removal of another option may bring up another mistake, which hides this one.
    let key = changes.iter().find(|key| alone(key)).or_else(|| changes.iter().rev().find(|key| without(key).is_ok()));
    let Some(&key) = key.or(changes.first()) else { return Vec::new() };
    let mut path = vec![key.clone()];
    if let Some(Value::Object(table)) = options.get(key) {
        let within = |inner: &SystemOptions| {
            let mut outer = options.clone();
            outer.insert(key.clone(), Value::Object(inner.clone()));
            check(&outer)
        };
        path.extend(blamed(table, error, &within));
    }
    path
}

fn remove(options: &mut SystemOptions, path: &[String]) {
    match path {
        [] => {}
        [key] => drop(options.remove(key)),
        [key, rest @ ..] => {
            if let Some(Value::Object(table)) = options.get_mut(key) {
                remove(table, rest);
            }
        }
    }
}

/// A path as typed: `~/` at its beginning is the home folder.
pub fn home(path: &str) -> String {
    match (path.strip_prefix("~/"), std::env::var("HOME")) {
        (Some(rest), Ok(home)) => format!("{}/{rest}", home.trim_end_matches('/')),
        _ => path.to_owned(),
    }
}

fn names(schema: &Value) -> Vec<String> {
    let names = schema.get("properties").and_then(Value::as_object);
    let mut keys: Vec<String> = names.into_iter().flat_map(|p| p.keys().cloned()).collect();
    keys.sort();
    keys
}

/// The names of the options that `T` reads, in alphabetical order.
pub fn keys<T: JsonSchema>() -> Vec<String> {
    names(&shape::<T>())
}

/// Reads the options of `T` and leaves all others alone. Every field of `T` must have a default.
///
/// # Errors
/// The option whose value does not fit, and what is allowed.
pub fn read<T: JsonSchema + DeserializeOwned>(options: &SystemOptions) -> Result<T, String> {
    let keys = keys::<T>();
    let own: SystemOptions =
        options.iter().filter(|(key, _)| keys.contains(key)).map(|(k, v)| (k.clone(), v.clone())).collect();
    serde_json::from_value(Value::Object(own.clone())).map_err(|whole| {
        // One by one, because an error does not say which option it concerns.
        let alone = |(key, value): (&String, &Value)| {
            let one = SystemOptions::from_iter([(key.clone(), value.clone())]);
            serde_json::from_value::<T>(Value::Object(one)).err().map(|e| format!("option `{key}`: {e}"))
        };
        own.iter().find_map(alone).unwrap_or_else(|| format!("options: {whole}"))
    })
}

/// What to say of the first option that is none of `known`, if there is one.
pub fn unknown(options: &SystemOptions, system: &str, known: &[String]) -> Option<String> {
    unknown_option(options, system, known).map(|e| e.to_string())
}

/// The first option that is none of `known`, if there is one.
pub fn unknown_option(options: &SystemOptions, system: &str, known: &[String]) -> Option<OptionError> {
    let wrong = options.keys().find(|key| !known.contains(key))?;
    if known.is_empty() {
        return Some(OptionError {
            words: format!("option `{wrong}`: {system} has no options"),
            hint: Some("remove it".into()),
        });
    }
    let mut names: Vec<&str> = known.iter().map(String::as_str).collect();
    names.sort_unstable();
    names.dedup();
    let near = suggest(wrong, &names).filter(|s| s.starts_with("did you mean"));
    let all = || format!("there are: `{}`", names.join("`, `"));
    let hint = Some(near.unwrap_or_else(all));
    Some(OptionError { words: format!("option `{wrong}`: {system} has no such option"), hint })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::units::Bytes;
    use serde::Deserialize;
    use serde_json::json;

    #[derive(Debug, Default, PartialEq, Deserialize, JsonSchema)]
    #[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
    struct ExampleOptions {
        store_size: Option<Bytes>,
        kind: ExampleKind,
    }

    #[derive(Debug, Default, PartialEq, Deserialize, JsonSchema)]
    #[serde(rename_all = "kebab-case")]
    enum ExampleKind {
        #[default]
        File,
        Memory,
    }

    #[test]
    fn a_path_may_begin_with_the_home_folder() {
        let folder = std::env::var("HOME").unwrap();
        assert_eq!(home("~/a/b.creds"), format!("{}/a/b.creds", folder.trim_end_matches('/')));
        for path in ["~", "~a/b", "a/~/b", "/a", ""] {
            assert_eq!(home(path), path);
        }
    }

    fn map(value: Value) -> SystemOptions {
        value.as_object().unwrap().clone()
    }

    #[test]
    fn own_options_are_read_and_others_left_alone() {
        let read: ExampleOptions = read(&map(json!({ "kind": "memory", "store-size": "1KiB", "other": 3 }))).unwrap();
        assert_eq!(read, ExampleOptions { store_size: Option::Some(Bytes(1024)), kind: ExampleKind::Memory });
        assert_eq!(keys::<ExampleOptions>(), ["kind", "store-size"]);
    }

    #[test]
    fn a_value_that_does_not_fit_is_named_with_what_is_allowed() {
        let words = read::<ExampleOptions>(&map(json!({ "store-size": "1KiB", "kind": "disk" }))).unwrap_err();
        assert_eq!(words, "option `kind`: unknown variant `disk`, expected `file` or `memory`");
        let words = read::<ExampleOptions>(&map(json!({ "store-size": "much" }))).unwrap_err();
        assert!(words.starts_with("option `store-size`: "), "{words}");
    }

    #[test]
    fn a_key_that_nobody_knows_is_named_with_those_there_are() {
        let known = keys::<ExampleOptions>();
        let words = unknown(&map(json!({ "kind": 1, "stor-size": 2 })), "jetstream", &known).unwrap();
        assert_eq!(words, "option `stor-size`: jetstream has no such option; did you mean `store-size`?");
        let words = unknown(&map(json!({ "speed": 1 })), "jetstream", &known).unwrap();
        assert_eq!(words, "option `speed`: jetstream has no such option; there are: `kind`, `store-size`");
        assert_eq!(unknown(&map(json!({ "kind": 1 })), "jetstream", &known), None);
    }
}
