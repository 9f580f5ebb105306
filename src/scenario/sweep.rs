//! The points of a sweep, and the names of the cases that they make.

use std::collections::HashSet;

use toml::Value;

/// The swept settings of one load point: normalised path, path and value as typed, place within the
/// sweep.
pub(super) type SweepPoint = Vec<(Vec<String>, String, Value, String)>;

/// A value as a person would say it: strings without quotes.
pub(super) fn plain(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), String::from)
}

/// `nats-rate-20k`: fit for a file name, and told apart by a number where two points read the same.
pub(super) fn id(system: &str, point: &SweepPoint, ids: &mut HashSet<String>) -> String {
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
