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

/// What a point is to one system: a setting of another one is not its own. `None` where it would be
/// the same as at the first value of that setting.
pub(super) fn of_system(index: usize, point: &SweepPoint) -> Option<SweepPoint> {
    let number = index.to_string();
    let other = |path: &[String]| path[0] == "system" && path.get(1) != Some(&number);
    if point.iter().any(|(path, _, _, value)| other(path) && value != "0") {
        return None;
    }
    Some(point.iter().filter(|(path, ..)| !other(path)).cloned().collect())
}

/// A setting as a load point has it: one of a system without its number, so that systems that are
/// swept alike are at the same point.
pub(super) fn path(path: &[String]) -> String {
    let all: Vec<&str> =
        path.iter().enumerate().filter(|(i, _)| *i != 1 || path[0] != "system").map(|p| p.1.as_str()).collect();
    all.join(".")
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
