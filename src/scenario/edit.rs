//! Changes to a scenario before it is resolved: `--set`, and the points of a sweep.
//!
//! A path names a value by keys joined with `.`. An element of an array is named by its index or
//! its `name`; the index may be left out where the array has one element.

use toml::{Table, Value};

use crate::plan::problem::suggest;

/// A change and the words that asked for it.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Edit {
    /// As given on the command line: `--set run.trials=5`.
    pub label: String,
    /// The path with all indices.
    pub path: Vec<String>,
}

/// What is wrong with a path: message and hint.
pub(super) type PathError = (String, Option<String>);

/// The value of a `--set`: TOML where it reads as TOML, otherwise the text itself (`20k/s` needs no
/// quotes).
pub(super) fn read_value(text: &str) -> Value {
    let parsed = toml::from_str::<Table>(&format!("v = {text}")).ok();
    match parsed {
        Some(mut table) if table.len() == 1 => table.remove("v").unwrap_or_else(|| Value::String(text.to_string())),
        _ => Value::String(text.to_string()),
    }
}

/// Completes a path with the indices that it leaves out or gives as names.
pub(super) fn normalise(document: &Table, path: &str) -> Result<Vec<String>, PathError> {
    let mut segments = path.split('.').map(str::trim);
    let first = segments.next().unwrap_or_default();
    if first.is_empty() {
        return Err(("the path is empty".into(), Some("write it like `workload.load.rate`".into())));
    }
    let mut out = vec![first.to_string()];
    let mut here = document.get(first);
    for segment in segments {
        if segment.is_empty() {
            return Err((format!("the path `{path}` has an empty part"), None));
        }
        if let Some(Value::Array(items)) = here {
            let (index, taken) = element(items, segment, &out.join("."))?;
            out.push(index.to_string());
            here = items.get(index);
            if taken {
                continue;
            }
        }
        out.push(segment.to_string());
        here = match here {
            Some(Value::Table(table)) => table.get(segment),
            _ => None,
        };
    }
    Ok(out)
}

/// The element that a segment means, and whether the segment was used up by naming it.
fn element(items: &[Value], segment: &str, at: &str) -> Result<(usize, bool), PathError> {
    if let Ok(index) = segment.parse::<usize>() {
        let many = items.len();
        return if index < many {
            Ok((index, true))
        } else {
            Err((format!("`{at}` has no element {index}"), Some(format!("it has {many}, counted from 0"))))
        };
    }
    let only = items.len() == 1;
    let named = |v: &Value| ["name", "driver", "pattern"].iter().find_map(|k| v.get(k)?.as_str().map(String::from));
    let names: Vec<String> = items.iter().filter_map(named).collect();
    // With one element its own keys win over its name.
    let is_key = only && items[0].get(segment).is_some();
    match items.iter().position(|v| named(v).as_deref() == Some(segment)) {
        Some(index) if !is_key => Ok((index, true)),
        _ if only => Ok((0, false)),
        _ => {
            let valid: Vec<&str> = names.iter().map(String::as_str).collect();
            Err((format!("`{at}` has no element called `{segment}`"), suggest(segment, &valid)))
        }
    }
}

/// Puts a value at a normalised path, making the tables in between.
pub(super) fn put(document: &mut Table, path: &[String], value: Value) -> Result<(), PathError> {
    let Some((last, parents)) = path.split_last() else { return Err(("the path is empty".into(), None)) };
    let not_table = |at: &str| (format!("`{at}` is not a table, so nothing can be set within it"), None);
    let mut table = document;
    let mut rest = parents.iter().peekable();
    while let Some(segment) = rest.next() {
        let mut here = table.entry(segment.clone()).or_insert_with(|| Value::Table(Table::new()));
        while let Value::Array(items) = here {
            let index = rest.next().unwrap_or(last);
            here = match index.parse::<usize>().ok().and_then(|i| items.get_mut(i)) {
                Some(item) if !std::ptr::eq(index, last) => item,
                Some(item) => {
                    *item = value;
                    return Ok(());
                }
                None => return Err((format!("`{segment}` has no element {index}"), None)),
            };
        }
        table = here.as_table_mut().ok_or_else(|| not_table(segment))?;
    }
    table.insert(last.clone(), value);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn document() -> Table {
        toml::from_str(
            "[[workload]]\nname='w'\npattern='fan-out'\n[[system]]\ndriver='nats'\n[[system]]\ndriver='null'",
        )
        .unwrap()
    }

    #[test]
    fn paths_may_leave_out_or_name_the_element() {
        for path in ["workload.load.rate", "workload.0.load.rate", "workload.w.load.rate"] {
            assert_eq!(normalise(&document(), path).unwrap().join("."), "workload.0.load.rate");
        }
        assert_eq!(normalise(&document(), "system.null.url").unwrap().join("."), "system.1.url");
        assert!(normalise(&document(), "system.url").is_err());
        assert!(normalise(&document(), "system.2.url").is_err());
        assert!(normalise(&document(), "run..x").is_err());
    }

    #[test]
    fn values_go_where_the_path_says() {
        let mut doc = document();
        let path = normalise(&doc, "workload.load.rate").unwrap();
        put(&mut doc, &path, read_value("20k/s")).unwrap();
        assert_eq!(doc["workload"][0]["load"]["rate"].as_str(), Some("20k/s"));
        let path = normalise(&doc, "run.trials").unwrap();
        put(&mut doc, &path, read_value("5")).unwrap();
        assert_eq!(doc["run"]["trials"].as_integer(), Some(5));
        assert!(put(&mut doc, &["run".into(), "trials".into(), "x".into()], read_value("5")).is_err());
    }
}
