//! The options of a system, typed: each driver and each launcher reads those it documents out of one map.
//!
//! The plan keeps options as written, because what they may be depends on the driver. Here the keys of a type are taken
//! out of the map and read; a value that does not fit is named with what is allowed. A key that nobody knows is
//! found by [`unknown`], given the keys of all who read the map.

use schemars::JsonSchema;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use super::diagnose::suggest;
pub use super::secrets::{joined, secrets, sensitive, shape};

/// The options of a system as written.
pub type Options = Map<String, Value>;

/// A path as typed: `~/` at its beginning is the home folder.
pub fn home(path: &str) -> String {
    match (path.strip_prefix("~/"), std::env::var("HOME")) {
        (Some(rest), Ok(home)) => format!("{}/{rest}", home.trim_end_matches('/')),
        _ => path.to_owned(),
    }
}

/// The names of the options that `T` reads, in alphabetical order.
pub fn keys<T: JsonSchema>() -> Vec<String> {
    let schema = schemars::schema_for!(T);
    let names = schema.get("properties").and_then(Value::as_object);
    let mut keys: Vec<String> = names.into_iter().flat_map(|p| p.keys().cloned()).collect();
    keys.sort();
    keys
}

/// Reads the options of `T` and leaves all others alone. Every field of `T` must have a default.
///
/// # Errors
/// The option whose value does not fit, and what is allowed.
pub fn read<T: JsonSchema + DeserializeOwned>(options: &Options) -> Result<T, String> {
    let keys = keys::<T>();
    let own: Options =
        options.iter().filter(|(key, _)| keys.contains(key)).map(|(k, v)| (k.clone(), v.clone())).collect();
    serde_json::from_value(Value::Object(own.clone())).map_err(|whole| {
        // One by one, because an error does not say which option it concerns.
        let alone = |(key, value): (&String, &Value)| {
            let one = Options::from_iter([(key.clone(), value.clone())]);
            serde_json::from_value::<T>(Value::Object(one)).err().map(|e| format!("option `{key}`: {e}"))
        };
        own.iter().find_map(alone).unwrap_or_else(|| format!("options: {whole}"))
    })
}

/// What to say of the first option that is none of `known`, if there is one.
pub fn unknown(options: &Options, system: &str, known: &[String]) -> Option<String> {
    let wrong = options.keys().find(|key| !known.contains(key))?;
    let mut names: Vec<&str> = known.iter().map(String::as_str).collect();
    names.sort_unstable();
    let near = suggest(wrong, &names).filter(|s| s.starts_with("did you mean"));
    let near = near.map_or(String::new(), |s| format!(" {s}"));
    Some(format!("option `{wrong}`: {system} has no such option;{near} there are: {}", names.join(", ")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::units::Bytes;
    use serde::Deserialize;
    use serde_json::json;

    #[derive(Debug, Default, PartialEq, Deserialize, JsonSchema)]
    #[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
    struct Some {
        store_size: Option<Bytes>,
        kind: Kind,
    }

    #[derive(Debug, Default, PartialEq, Deserialize, JsonSchema)]
    #[serde(rename_all = "kebab-case")]
    enum Kind {
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

    fn map(value: Value) -> Options {
        value.as_object().unwrap().clone()
    }

    #[test]
    fn own_options_are_read_and_others_left_alone() {
        let read: Some = read(&map(json!({ "kind": "memory", "store-size": "1KiB", "other": 3 }))).unwrap();
        assert_eq!(read, Some { store_size: Option::Some(Bytes(1024)), kind: Kind::Memory });
        assert_eq!(keys::<Some>(), ["kind", "store-size"]);
    }

    #[test]
    fn a_value_that_does_not_fit_is_named_with_what_is_allowed() {
        let words = read::<Some>(&map(json!({ "store-size": "1KiB", "kind": "disk" }))).unwrap_err();
        assert_eq!(words, "option `kind`: unknown variant `disk`, expected `file` or `memory`");
        let words = read::<Some>(&map(json!({ "store-size": "much" }))).unwrap_err();
        assert!(words.starts_with("option `store-size`: "), "{words}");
    }

    #[test]
    fn a_key_that_nobody_knows_is_named_with_those_there_are() {
        let known = keys::<Some>();
        let words = unknown(&map(json!({ "kind": 1, "stor-size": 2 })), "jetstream", &known).unwrap();
        assert_eq!(
            words,
            "option `stor-size`: jetstream has no such option; did you mean `store-size`? there are: kind, store-size"
        );
        assert_eq!(unknown(&map(json!({ "kind": 1 })), "jetstream", &known), None);
    }
}
