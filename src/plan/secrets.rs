//! Which parts of a system's options are secret: each option says so itself, by the word `secret`
//! in its schema.
//!
//! `value`: it is one. `file`: the path of a file; a secret where the text of a key was written
//! instead. `entries`: a table of settings of the system; those with the name of a secret are.
//! `text`: what is assigned within it to such a name, and the credentials of addresses. `variable`:
//! the environment variable that holds it. `none`: it is not.

use schemars::JsonSchema;
use schemars::generate::SchemaSettings;
use serde_json::{Map, Value, json};

/// The shape of the seed of an NKey.
const SEED: (&str, usize) = ("SU", 58);

/// The schema of options of type `T`, without references.
pub fn shape<T: JsonSchema>() -> Value {
    let inline = SchemaSettings::default().with(|s| s.inline_subschemas = true);
    inline.into_generator().into_root_schema_for::<T>().to_value()
}

/// One schema for options that several types read out of one map; of an option that several have,
/// the first.
pub fn joined(shapes: impl IntoIterator<Item = Value>) -> Value {
    let mut all = Map::new();
    for mut shape in shapes {
        if let Some(Value::Object(own)) = shape.get_mut("properties").map(Value::take) {
            for (name, option) in own {
                match all.get_mut(&name) {
                    None => drop(all.insert(name, option)),
                    Some(there) => add_fields(there, option),
                }
            }
        }
    }
    json!({ "type": "object", "properties": all })
}

/// Adds the fields of a table that several read.
fn add_fields(table: &mut Value, mut more: Value) {
    let more = more.get_mut("properties").map(Value::take);
    if let (Some(Value::Object(fields)), Some(Value::Object(more))) = (table.get_mut("properties"), more) {
        for (name, field) in more {
            fields.entry(name).or_insert(field);
        }
    }
}

/// The secrets that stand in options of this schema.
pub fn secrets(shape: &Value, options: &Map<String, Value>) -> Vec<String> {
    let mut found = Vec::new();
    walk(shape, &Value::Object(options.clone()), &mut found);
    found.retain(|s| !s.is_empty());
    found
}

fn walk(node: &Value, value: &Value, found: &mut Vec<String>) {
    match node.get("secret").and_then(Value::as_str) {
        Some("value") => return scalars(value, &mut |text| found.push(text)),
        Some("file") => {
            return scalars(value, &mut |text| {
                let seed = text.starts_with(SEED.0) && text.len() == SEED.1;
                if seed || text.contains("-----BEGIN") {
                    found.push(text);
                }
            });
        }
        Some("variable") => return scalars(value, &mut |name| found.extend(std::env::var(name))),
        Some("entries") => {
            for (key, value) in value.as_object().into_iter().flatten() {
                scalars(value, &mut |text| if sensitive(key) { found.push(text) } else { assigned(&text, found) });
            }
            return;
        }
        Some("text") => return scalars(value, &mut |text| assigned(&text, found)),
        _ => {}
    }
    for key in ["anyOf", "oneOf", "allOf"] {
        for branch in node.get(key).and_then(Value::as_array).into_iter().flatten() {
            walk(branch, value, found);
        }
    }
    for (key, value) in value.as_object().into_iter().flatten() {
        if let Some(node) = node.get("properties").and_then(|p| p.get(key)) {
            walk(node, value, found);
        }
    }
}

fn scalars(value: &Value, found: &mut impl FnMut(String)) {
    match value {
        Value::String(text) => found(text.clone()),
        Value::Number(number) => found(number.to_string()),
        Value::Array(all) => all.iter().for_each(|v| scalars(v, found)),
        Value::Object(all) => all.values().for_each(|v| scalars(v, found)),
        Value::Bool(_) | Value::Null => {}
    }
}

/// Whether a setting of this name holds a secret: those that librdkafka and Kafka mark so, and what
/// is called like them.
pub fn sensitive(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    let harmless = [
        ".ms",
        ".location",
        ".file",
        ".mechanism",
        ".mechanisms",
        ".type",
        ".class",
        ".url",
        ".method",
        ".algorithm",
        ".size",
        ".name",
    ];
    let words = [
        "password",
        "passwd",
        "passphrase",
        "secret",
        "token",
        "credential",
        "jaas",
        "oauthbearer.config",
        "key.pem",
        "ssl.keystore.key",
        "ssl_key",
        "private",
        "nkey",
        "seed",
        "apikey",
        "api.key",
    ];
    name == "pass" || (words.iter().any(|w| name.contains(w)) && !harmless.iter().any(|end| name.ends_with(end)))
}

/// A line of a scenario as it is shown: stars in the place of each character of a secret.
pub fn masked(line: &str) -> String {
    let mut found = Vec::new();
    assigned_by(&['='], line, &mut found);
    found.retain(|s| !s.is_empty() && !s.contains("${"));
    found.sort_by_key(|s| std::cmp::Reverse(s.len()));
    found.iter().fold(line.to_owned(), |line, s| line.replace(s.as_str(), &"*".repeat(s.chars().count())))
}

/// What a text of settings assigns to names of secrets, and the credentials of the addresses in it.
fn assigned(text: &str, found: &mut Vec<String>) {
    assigned_by(&[':', '=', ' '], text, found);
}

fn assigned_by(signs: &[char], text: &str, found: &mut Vec<String>) {
    for (at, sign) in text.match_indices(signs) {
        let before = text[..at].trim_end().trim_end_matches(['"', '\'']);
        let of_name = |c: char| c.is_alphanumeric() || matches!(c, '.' | '_' | '-');
        let from = before.char_indices().rev().take_while(|(_, c)| of_name(*c)).last().map_or(before.len(), |(i, _)| i);
        let name = before[from..].trim_start_matches("-D");
        let rest = text[at + sign.len()..].trim_start();
        if name.starts_with("user_") || sensitive(name) {
            let value = match rest.chars().next() {
                Some(quote @ ('"' | '\'')) => rest[1..].split(quote).next().unwrap_or_default(),
                _ => rest.split([' ', '\t', '\n', ',', ';', '}', ']']).next().unwrap_or_default(),
            };
            if !value.is_empty() && !matches!(value, "{" | "[" | ":" | "=") {
                found.push(value.to_owned());
            }
        }
    }
    for (at, sign) in text.match_indices("://") {
        let rest = &text[at + sign.len()..];
        let place = rest.split([' ', '\t', '\n', '"', '\'', ']']).next().unwrap_or_default();
        if let Some((who, _)) = place.rsplit_once('@') {
            found.push(who.split_once(':').map_or(who, |(_, password)| password).to_owned());
        }
    }
}
