//! JSON values as YAML for people: blocks, and every string as JSON has it, in double quotes.
//!
//! Written by hand, because this is all that is needed: the values are ours, so only their strings
//! can hold anything, and a string of JSON is a string of YAML 1.2 (section 10.2). Of the crates,
//! serde_yaml is given up by its author.

use serde_json::Value;

/// One document, each line indented by `depth` steps.
fn lines(value: &Value, depth: usize, out: &mut String) {
    let indent = "  ".repeat(depth);
    match value {
        Value::Object(fields) => {
            for (key, value) in fields {
                *out += &format!("{indent}{}:", key_text(key));
                below(value, depth + 1, out);
            }
        }
        Value::Array(items) => {
            for item in items {
                let mut text = String::new();
                if scalar(item) {
                    *out += &format!("{indent}- {item}\n");
                } else {
                    lines(item, depth + 1, &mut text);
                    // The dash takes the place of the first step.
                    *out += &format!("{indent}- {}", &text[2 * (depth + 1)..]);
                }
            }
        }
        _ => *out += &format!("{indent}{value}\n"),
    }
}

/// What stands behind a key.
fn below(value: &Value, depth: usize, out: &mut String) {
    if scalar(value) {
        *out += &format!(" {value}\n");
    } else {
        out.push('\n');
        lines(value, depth, out);
    }
}

/// Whether it stands on one line; empty lists and objects do, as in JSON.
fn scalar(value: &Value) -> bool {
    match value {
        Value::Object(fields) => fields.is_empty(),
        Value::Array(items) => items.is_empty(),
        _ => true,
    }
}

/// A key without quotes where it can only be a string, for readers of YAML 1.1 too.
fn key_text(key: &str) -> String {
    let first = key.chars().next().is_some_and(|c| c.is_ascii_alphabetic());
    let rest = key.chars().all(|c| c.is_ascii_alphanumeric() || "-_./".contains(c));
    let small = key.to_lowercase();
    let word = serde_json::from_str::<Value>(&small).is_ok() || ["yes", "no", "on", "off", "y", "n"].contains(&&*small);
    if first && rest && !word { key.to_owned() } else { Value::from(key).to_string() }
}

/// The documents of a file, each behind its mark.
pub(super) fn documents(values: &[Value]) -> String {
    let mut out = String::new();
    for value in values {
        out += "---\n";
        lines(value, 0, &mut out);
    }
    out
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn values_are_blocks_and_strings_are_quoted() {
        let value = json!({
            "kind": "Job", "a/b.c": "x: \"y\"\n# z", "n": 3, "yes": true, "True": 1, "9": null, "none": [], "empty": {},
            "list": ["no", {"k": "v", "deep": [{"x": 1, "y": [2]}, 7]}],
        });
        let text = documents(&[value, json!({"kind": "Secret"})]);
        let expected = concat!(
            "---\n\"9\": null\n\"True\": 1\na/b.c: \"x: \\\"y\\\"\\n# z\"\nempty: {}\nkind: \"Job\"\nlist:\n  - \"no\"\n",
            "  - deep:\n      - x: 1\n        \"y\":\n          - 2\n      - 7\n    k: \"v\"\n",
            "\"n\": 3\nnone: []\n\"yes\": true\n---\nkind: \"Secret\"\n",
        );
        assert_eq!(text, expected);
    }
}
