//! Options with a secret in one place each, made from the schemas in which the options declare what they hold.

use msgbench::scenario::options::sensitive;
use msgbench::scenario::plan::DriverKind;
use serde_json::{Map, Value, json};

/// The password of the broker of these tests.
pub const RIGHT: &str = "Pl4nted5ecretQz";
/// The variable that holds it.
pub const VARIABLE: &str = "MSGBENCH_PLANTED_SECRET";
/// What stands where the right password would mean nothing.
pub const OTHERS: [&str; 4] = ["SUPL4NTED5ECRET", "Pem4lso5ecret", "Url4lso5ecret", "Text4lso5ecret"];
/// Names of settings that are secret, of librdkafka and of Kafka.
const NAMES: [&str; 6] = [
    "sasl.password",
    "ssl.key.password",
    "ssl.key.pem",
    "ssl.keystore.password",
    "sasl.oauthbearer.client.secret",
    "sasl.jaas.config",
];

/// One option with a secret in it.
#[derive(Debug, Clone)]
pub struct Planted {
    /// Where it stands, and what it was declared to be.
    pub place: String,
    pub options: Map<String, Value>,
}

/// `value` at `path` within `table`.
pub fn put(table: &mut Map<String, Value>, path: &[String], value: Value) {
    match path {
        [] => {}
        [last] => drop(table.insert(last.clone(), value)),
        [first, rest @ ..] => {
            let inner = table.entry(first.clone()).or_insert_with(|| json!({}));
            put(inner.as_object_mut().unwrap(), rest, value);
        }
    }
}

/// What is planted in a place that is declared to be `how`: names for the table of settings, and values.
fn values(how: &str, list: bool) -> Vec<(String, Value)> {
    let one = |value: Value| vec![(String::new(), value)];
    match how {
        "none" => Vec::new(),
        "value" => one(RIGHT.into()),
        "variable" => one(VARIABLE.into()),
        "file" => {
            let seed: String = format!("{}{:A<58}", OTHERS[0], "").chars().take(58).collect();
            let pem = format!("-----BEGIN PRIVATE KEY-----\n{}\n-----END PRIVATE KEY-----\n", OTHERS[1]);
            vec![(" seed".into(), seed.into()), (" pem".into(), pem.into())]
        }
        "entries" => {
            let named = |name: &&str| (format!(".{name}"), json!({ *name: RIGHT }));
            let address = (".client.rack".into(), json!({ "client.rack": format!("http://u:{}@h", OTHERS[2]) }));
            NAMES.iter().map(named).chain([address]).collect()
        }
        "text" if list => {
            let text = |sign: &str| format!("{sign}x.password={} nats://u:{}@h", OTHERS[3], OTHERS[2]);
            vec![(" comment".into(), json!([text("# ")])), (" define".into(), json!([text("-D")]))]
        }
        "text" => one(format!("http://u:{}@h:1", OTHERS[2]).into()),
        other => panic!("`{other}` is no declaration"),
    }
}

fn walk(node: &Value, path: &[String], beside: &[(Vec<String>, Value)], found: &mut Vec<Planted>) {
    if let Some(how) = node.get("secret").and_then(Value::as_str) {
        let list = node.get("type").is_some_and(|t| t == "array");
        for (name, value) in values(how, list) {
            let mut options = Map::new();
            beside.iter().for_each(|(path, value)| put(&mut options, path, value.clone()));
            put(&mut options, path, value);
            found.push(Planted { place: format!("{}{name} ({how})", path.join(".")), options });
        }
        return;
    }
    for branch in ["anyOf", "oneOf"].iter().filter_map(|key| node.get(key)?.as_array()).flatten() {
        walk(branch, path, beside, found);
    }
    let at = |key: &str| [path, &[key.to_owned()]].concat();
    let required: Vec<&str> =
        node.get("required").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str).collect();
    for (key, child) in node.get("properties").and_then(Value::as_object).into_iter().flatten() {
        let needed = required.iter().filter(|r| **r != key).map(|r| (at(r), "me".into()));
        let beside: Vec<_> = beside.iter().cloned().chain(needed).collect();
        walk(child, &at(key), &beside, found);
    }
}

/// A secret in every option that is declared to hold one, each by itself.
pub fn planted(shape: &Value) -> Vec<Planted> {
    let mut found = Vec::new();
    walk(shape, &[], &[], &mut found);
    found
}

/// Of a bridge those of its parts, each under the name of the part.
pub fn of_bridge(shape: impl Fn(DriverKind) -> Value) -> Vec<Planted> {
    let mut all = Vec::new();
    for (from, kind) in [
        (DriverKind::Nats, DriverKind::Nats),
        (DriverKind::Jetstream, DriverKind::Jetstream),
        (DriverKind::Reference, DriverKind::Reference),
        (DriverKind::Reference, DriverKind::Kafka),
    ] {
        for mut it in planted(&shape(kind)) {
            it.place = format!("{}.{}", kind.name(), it.place);
            it.options = Map::from_iter([
                ("from".to_owned(), from.name().into()),
                (kind.name().to_owned(), Value::Object(it.options)),
            ]);
            all.push(it);
        }
    }
    all
}

/// The options that take text of any kind and do not say whether it is secret, or that are called like a secret and say
/// that they are none.
pub fn undeclared(node: &Value, path: &str, found: &mut Vec<String>) {
    if let Some(how) = node.get("secret") {
        if how == "none" && sensitive(path.rsplit('.').next().unwrap_or_default()) {
            found.push(path.to_owned());
        }
        return;
    }
    let is = |name: &str| {
        node.get("type").is_some_and(|t| t == name || t.as_array().is_some_and(|a| a.contains(&name.into())))
    };
    let closed = ["enum", "const", "pattern"].iter().any(|key| node.get(key).is_some());
    if (is("string") && !closed) || node.get("additionalProperties").is_some_and(|a| a != false) {
        found.push(path.to_owned());
    }
    for branch in ["anyOf", "oneOf"].iter().filter_map(|key| node.get(key)?.as_array()).flatten() {
        undeclared(branch, path, found);
    }
    if let Some(items) = node.get("items") {
        undeclared(items, path, found);
    }
    for (key, child) in node.get("properties").and_then(Value::as_object).into_iter().flatten() {
        undeclared(child, &format!("{path}.{key}"), found);
    }
}
