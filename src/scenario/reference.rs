//! The reference of scenarios, `docs/scenario.md`, from the schema: every key with its meaning, its
//! default, an example, and the patterns and systems that have it.
//!
//! Which have it is not written down: each example is put into a scenario of every pattern and
//! system, and those that are accepted are named.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::Path;

use serde_json::Value;

use super::{Overrides, parse, schema};
use crate::plan::SystemTypes;

/// An example of each key; a key within a table has that of the table.
const EXAMPLES: &[(&str, &str)] = &[
    ("name", "name = \"orders\""),
    ("question", "question = \"How late are orders?\""),
    ("system", "[[system]]"),
    ("system.name", "name = \"nats-2.11\""),
    ("system.driver", "driver = \"TYPE\""),
    ("system.url", "url = \"nats://127.0.0.1:4222\""),
    ("system.require", "require = true"),
    ("system.cpus", "cpus = 1"),
    ("system.options", "options = { max-payload = \"8MiB\" }"),
    ("workload", "[[workload]]"),
    ("workload.name", "name = \"orders\""),
    ("workload.pattern", "pattern = \"fan-out\""),
    ("workload.producers", "producers = 2"),
    ("workload.consumers", "consumers = 3"),
    ("workload.channels", "channels = 12"),
    ("workload.load", "[workload.load]"),
    ("workload.load.mode", "load.mode = \"unthrottled\""),
    ("workload.load.arrivals", "load = { rate = \"1k/s\", arrivals = \"poisson\" }"),
    ("workload.load.rate", "load.rate = \"10k/s\""),
    ("workload.load.rate-per-producer", "load.rate-per-producer = \"1/40s\""),
    (
        "workload.load.burst",
        "load = { rate = \"3k/s\", burst = { every = \"10s\", length = \"1s\", rate = \"10k/s\" } }",
    ),
    ("workload.load.burst.on", "load = { rate = \"3k/s\", burst = { on = \"1s\", off = \"9s\" } }"),
    ("workload.load.burst.off", "load = { rate = \"3k/s\", burst = { on = \"1s\", off = \"9s\" } }"),
    ("workload.load.ramp", "load.ramp = { from = \"1k/s\", to = \"9k/s\", over = \"20s\" }"),
    ("workload.load.steps", "load.steps = [{ rate = \"1k/s\", for = \"9s\" }, { rate = \"5k/s\", for = \"9s\" }]"),
    ("workload.load.outstanding", "load = { mode = \"closed\", outstanding = 8 }"),
    ("workload.load.window", "load = { mode = \"unthrottled\", window = 10000 }"),
    ("workload.load.think", "load = { mode = \"closed\", think = \"1ms\" }"),
    ("workload.payload", "[workload.payload]"),
    ("workload.payload.size", "payload.size = \"1KiB\""),
    ("workload.payload.content", "payload.content = \"text\""),
    ("workload.payload.file", "payload.file = \"data/orders.jsonl\""),
    ("workload.delivery", "[workload.delivery]"),
    ("workload.delivery.durable", "delivery.durable = true"),
    ("workload.delivery.backlog", "delivery.backlog = 100000"),
    ("workload.delivery.replay-after", "delivery.replay-after = \"5s\""),
    ("workload.delivery.keys", "delivery.keys = { zipf = { n = 10000, exponent = 1.0 } }"),
    ("workload.delivery.reject-every", "delivery = { durable = true, reject-every = 100 }"),
    ("workload.delivery.dead-every", "delivery = { durable = true, dead-every = 1000 }"),
    ("workload.delivery.max-deliver", "delivery = { durable = true, dead-every = 1000, max-deliver = 5 }"),
    ("workload.delivery.history", "delivery.history = 10"),
    ("workload.delivery.keep", "delivery = { durable = true, keep = { age = \"10s\" } }"),
    ("workload.delivery.keep.age", "delivery = { durable = true, keep = { age = \"10s\" } }"),
    ("workload.delivery.keep.bytes", "delivery = { durable = true, keep = { bytes = \"64MiB\" } }"),
    ("workload.delivery.keep.messages", "delivery = { durable = true, keep = { messages = 10000 } }"),
    (
        "workload.delivery.keep.per-key",
        "delivery = { durable = true, keys = { uniform = 100 }, keep = { per-key = 1 } }",
    ),
    ("workload.delivery.keep.within", "delivery = { durable = true, keep = { age = \"10s\", within = \"30s\" } }"),
    ("workload.delivery.slow", "delivery.slow = { consumers = 1, think = \"2ms\" }"),
    ("workload.target", "target = { subject = \"orders.create\" }"),
    ("workload.target.bucket", "target = { bucket = \"orders\" }"),
    ("workload.target.topic", "target = { topic = \"orders\", reply-topic = \"orders-answers\" }"),
    ("workload.target.reply-topic", "target = { topic = \"orders\", reply-topic = \"orders-answers\" }"),
    (
        "workload.target.correlation-header",
        "target = { topic = \"orders\", reply-topic = \"orders-answers\", correlation-header = \"kafka_correlationId\" }",
    ),
    ("workload.at", "at = \"node-1\""),
    ("workload.at.producers", "at = { producers = \"node-1\", consumers = \"node-1\" }"),
    ("workload.at.consumers", "at = { producers = \"node-1\", consumers = [\"node-1\"] }"),
    ("workload.idle-connections", "idle-connections = 1000"),
    ("workload.intruders", "intruders = 2"),
    ("workload.agents", "agents = { publish = \"zone=a\", consume = \"zone=b\" }"),
    ("agents", "[agents]"),
    ("agents.count", "count = 4"),
    ("agents.control", "control = \"nats://control:4222\""),
    ("agents.may-lose", "may-lose = 1"),
    ("agents.publish", "publish = \"zone=a\""),
    ("agents.consume", "consume = \"zone=b\""),
    ("agents.labels", "labels = { \"zone=a\" = 3, \"zone=b\" = 1 }"),
    ("outage", "[outage]"),
    ("outage.deadline", "deadline = \"200ms\""),
    ("outage.reconnect", "reconnect = \"fast\""),
    ("event", "[[event]]"),
    ("event.at", "at = \"5s\""),
    ("event.action", "action = \"pause\""),
    ("event.node", "node = \"leader\""),
    ("event.workload", "workload = \"orders\""),
    ("event.every", "every = \"30s\""),
    ("event.count", "count = 20"),
    ("event.within", "within = \"5s\""),
    ("event.for", "for = \"5s\""),
    ("event.consumer", "consumer = 1"),
    ("event.qdisc", "qdisc = \"netem delay 10ms loss 1%\""),
    ("faults", "[faults]"),
    ("run", "[run]"),
    ("run.warmup", "warmup = \"2s\""),
    ("run.duration", "duration = \"30s\""),
    ("run.drain", "drain = \"5s\""),
    ("run.connect", "connect = \"10s\""),
    ("run.interval", "interval = \"100ms\""),
    ("run.trials", "trials = 6"),
    ("run.seed", "seed = 42"),
    ("run.percentiles", "percentiles = [0.5, 0.9, 0.99, 0.999]"),
    ("run.pacing", "pacing = \"spin\""),
    ("run.threads", "threads = { publish = 2, consume = 2 }"),
    ("run.may-break", "may-break = true"),
    ("sweep", "\"workload.load.rate\" = [\"1k/s\", \"10k/s\"]"),
    ("gate", "[gate]"),
    ("gate.max-change", "max-change = \"5%\""),
    ("gate.max-change-of", "max-change-of = { \"e2e.p99\" = \"10%\" }"),
    ("gate.primary", "primary = [\"e2e.p50\", \"e2e.p99\"]"),
    ("gate.looks", "looks = [6, 12]"),
    ("expect", "[[expect]]"),
    ("expect.that", "that = \"e2e.p99 < 5ms\""),
    ("expect.system", "system = \"nats-2.11\""),
    ("search", "[search]"),
    ("search.limits", "limits = [\"e2e.p99 < 20ms\", \"ledger.lost == 0\"]"),
    ("search.parameter", "parameter = \"workload.consumers\""),
    ("search.values", "values = [1, 2, 4, 8]"),
    ("search.width", "width = \"5%\""),
    ("search.min", "min = \"100/s\""),
    ("search.max", "max = \"1M/s\""),
    ("search.need", "need = \"100k/s\""),
    ("search.searches", "searches = 5"),
];

const PATTERNS: [&str; 9] =
    ["fan-out", "fan-in", "m-to-n", "queue-group", "request-reply", "stream", "replay", "key-value", "connect"];

/// A key as the reference shows it.
struct Key {
    path: String,
    meaning: String,
    default: String,
}

/// The reference as Markdown.
pub fn reference(types: &SystemTypes) -> String {
    let schema = schema(types);
    let mut out = String::from("# Scenarios\n");
    for paragraph in [
        "Every key of a scenario file. Generated by `msgbench schema scenario --format markdown`; a test holds that it \
         is current. Examples that answer a question each are in [cookbook.md](cookbook.md).",
        "A duration is a number and a unit (`250us`, `1.5s`, `2m`), a size as well (`128B`, `1KiB`), a rate is messages \
         per second (`500/s`, `20k/s`, `600/m`, `1/40s`; a bare number is per second). `${NAME}` in a text is the value \
         of an environment variable.",
        "`rate` is of all producers of a workload together; `rate-per-producer` is of each.",
        "The last column says which patterns and systems accept the key.",
    ] {
        let _ = write!(out, "\n{}\n", wrapped(paragraph));
    }
    let parts: [(&str, &str, &str); 15] = [
        ("", "The file", "Before the first table."),
        ("system", "`[[system]]`", "What is measured; several are put to the same load."),
        ("workload", "`[[workload]]`", "A stream of messages; several are driven at once."),
        ("workload.load", "`[workload.load]`", "When messages are due. Write it as `load.rate = ...` or as a table."),
        ("workload.payload", "`[workload.payload]`", "What is in a message."),
        ("workload.delivery", "`[workload.delivery]`", "What is asked of the system beyond passing messages on."),
        ("run", "`[run]`", "How long, how often and how."),
        ("sweep", "`[sweep]`", "Settings of `workload` or `run` to vary: a path, and a list of values."),
        ("gate", "`[gate]`", "When a change against a baseline is a regression."),
        ("expect", "`[[expect]]`", "Absolute limits."),
        ("search", "`[search]`", "The highest load that keeps limits is searched; see [capacity.md](capacity.md)."),
        ("event", "`[[event]]`", "What is done to the processes of launched systems, to the network, or to consumers."),
        ("outage", "`[outage]`", "How outages are measured, where something is done to a system."),
        ("agents", "`[agents]`", "The load is run by agents, on this host or on others; see [hosts.md](hosts.md)."),
        ("faults", "`[faults]`", "How the launched reference broker misbehaves; see [failures.md](failures.md)."),
    ];
    let tables: Vec<&str> = parts.iter().map(|(path, ..)| *path).collect();
    for (path, title, about) in parts {
        // Writing to a String cannot fail.
        let _ = write!(
            out,
            "\n## {title}\n\n{about}\n\n| key | meaning | default | example | patterns; systems |\n|---|---|---|---|---|\n"
        );
        let table = at(&schema, path);
        if path == "sweep" {
            row(
                &mut out,
                types,
                "sweep",
                &Key { path: "sweep".into(), meaning: about.into(), default: "nothing".into() },
            );
        }
        for key in keys(&schema, table, path, &tables) {
            row(&mut out, types, path, &key);
        }
    }
    options(&mut out, types);
    out
}

fn row(out: &mut String, types: &SystemTypes, table: &str, key: &Key) {
    let name = key.path.strip_prefix(table).map_or(key.path.as_str(), |rest| rest.trim_start_matches('.'));
    let name = if name.is_empty() { "path" } else { name };
    let example = example(&key.path)
        .map_or(String::new(), |e| format!("`{}`", e.replace('|', "\\|").replace("TYPE", usual(types))));
    let scope = scope(&key.path, types);
    let _ = writeln!(out, "| `{name}` | {} | {} | {example} | {scope} |", key.meaning, key.default);
}

/// A type that a scenario without systems is put to, and that is a server of its own.
fn usual(types: &SystemTypes) -> &'static str {
    types.0.iter().find(|t| t.by_default && !t.faults).map_or("", |t| t.name)
}

/// Prose of at most 100 columns.
fn wrapped(text: &str) -> String {
    let (mut out, mut column) = (String::new(), 0);
    for word in text.split_whitespace() {
        let length = word.chars().count();
        if column > 0 {
            let fits = column + 1 + length <= 100;
            out.push(if fits { ' ' } else { '\n' });
            column = if fits { column + 1 } else { 0 };
        }
        out.push_str(word);
        column += length;
    }
    out
}

/// The example of a key, or of the table that it stands in.
fn example(path: &str) -> Option<&'static str> {
    let of = |path: &str| EXAMPLES.iter().find(|(key, _)| *key == path).map(|(_, example)| *example);
    of(path).or_else(|| path.rsplit_once('.').and_then(|(table, _)| of(table).filter(|e| !e.starts_with('['))))
}

/// A scenario with this line in its workload.
fn scenario(driver: &str, pattern: &str, line: &str) -> String {
    let load = if line.starts_with("load") { "" } else { "load.rate = \"1k/s\"\n" };
    // A service is reached at a server that is already running.
    let url = match line {
        l if !l.starts_with("target") || l.contains("bucket") => "",
        l if l.contains("topic") => "url = \"kafka://127.0.0.1:9092\"\n",
        _ => "url = \"nats://127.0.0.1:4222\"\n",
    };
    // A bucket is that of another workload.
    let more = match line.contains("bucket") {
        true => "[[workload]]\nname = \"orders\"\npattern = \"key-value\"\nload.rate = \"1k/s\"\n",
        false => "",
    };
    let agents = if line.starts_with("agents") { "[agents]\ncount = 2\n" } else { "" };
    let pattern = if line.starts_with("pattern") { String::new() } else { format!("pattern = \"{pattern}\"\n") };
    format!(
        "name = \"t\"\nquestion = \"?\"\n[[system]]\ndriver = \"{driver}\"\n{url}[[workload]]\n{pattern}{load}{line}\n{more}{agents}[run]\nduration = \"400s\"\n"
    )
}

/// The patterns and systems that accept a key of a workload.
fn scope(path: &str, types: &SystemTypes) -> String {
    let is_leaf = |e: &&str| !e.starts_with('[');
    let Some(line) = example(path).filter(is_leaf).filter(|_| path.starts_with("workload.")) else {
        return String::new();
    };
    let line = if path.ends_with(".file") { "payload.size = \"1KiB\"" } else { line };
    let accepted = |driver: &str, pattern: &str, line: &str| {
        parse(Path::new("t.toml"), scenario(driver, pattern, line), &Overrides::default(), types).is_ok()
    };
    let all: Vec<&str> = types.0.iter().filter(|t| t.present).map(|t| t.name).collect();
    let (mut patterns, mut systems, mut usual) = (Vec::new(), Vec::new(), Vec::new());
    for pattern in PATTERNS {
        for driver in &all {
            if accepted(driver, pattern, "") && !usual.contains(driver) {
                usual.push(*driver);
            }
            if accepted(driver, pattern, line) {
                if !patterns.contains(&pattern) {
                    patterns.push(pattern);
                }
                if !systems.contains(driver) {
                    systems.push(*driver);
                }
            }
        }
    }
    let some = |found: &[&str], of: usize| if found.len() == of { "all".into() } else { found.join(", ") };
    format!("{}; {}", some(&patterns, PATTERNS.len()), some(&systems, usual.len()))
}

/// The schema of a table by its path.
fn at<'a>(schema: &'a Value, path: &str) -> &'a Value {
    let step = |here: &'a Value, key: &str| {
        resolved(schema, resolved(schema, here).get("properties").and_then(|p| p.get(key)).unwrap_or(&Value::Null))
    };
    path.split('.').filter(|k| !k.is_empty()).fold(schema, step)
}

/// A schema without reference, list and option around it.
fn resolved<'a>(root: &'a Value, schema: &'a Value) -> &'a Value {
    let target = schema.get("$ref").and_then(Value::as_str).and_then(|r| root.pointer(r.trim_start_matches('#')));
    if let Some(target) = target {
        return resolved(root, target);
    }
    let all = |key: &str| schema.get(key).and_then(Value::as_array).into_iter().flatten();
    let inner =
        all("anyOf").find(|s| s.get("$ref").is_some()).or(schema.get("items").filter(|i| i.get("$ref").is_some()));
    inner.map_or(schema, |inner| resolved(root, inner))
}

/// The keys of a table, those of tables within it too unless they have a part of their own.
fn keys(root: &Value, table: &Value, path: &str, parts: &[&str]) -> Vec<Key> {
    let required: Vec<&str> =
        table.get("required").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str).collect();
    let mut out = Vec::new();
    for (name, schema) in table.get("properties").and_then(Value::as_object).into_iter().flatten() {
        let full = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
        let target = resolved(root, schema);
        let described = [schema, target].iter().find_map(|s| s.get("description")?.as_str()).unwrap_or_default();
        let described = described.replace('\n', " ");
        let (mut meaning, mut default) = match described.split_once(" Default: ") {
            Some((meaning, default)) => (meaning.to_owned(), default.trim_end_matches('.').to_owned()),
            None => (described, String::new()),
        };
        if default.is_empty() {
            default = match required.contains(&name.as_str()) {
                true => "required".into(),
                false => known_default(&full).into(),
            };
        }
        let words = values(target);
        if !words.is_empty() {
            let _ = write!(meaning, " One of: {}.", words.join(", "));
        }
        let flat = |text: &str| text.replace('\n', " ").replace('|', "\\|");
        out.push(Key { path: full.clone(), meaning: flat(&meaning), default: flat(&default) });
        if !parts.contains(&full.as_str()) && full != "system.options" {
            out.extend(keys(root, target, &full, parts));
        }
    }
    out
}

/// Defaults that no comment says, because the code does.
fn known_default(path: &str) -> &'static str {
    let all: BTreeMap<&str, &str> = BTreeMap::from([
        ("run.warmup", "2s"),
        ("run.duration", "30s"),
        ("run.drain", "5s"),
        ("run.connect", "10s"),
        ("run.trials", "3"),
        ("run.seed", "42"),
        ("run.percentiles", "0.5, 0.9, 0.99, 0.999"),
        ("run.pacing", "auto"),
        ("run.threads.publish", "1"),
        ("run.threads.consume", "1"),
        ("workload.delivery.keys", "none"),
        ("system.require", "false"),
        ("event.node", "0"),
    ]);
    all.get(path).copied().unwrap_or("none")
}

/// The words that a key takes, where there are but a few.
fn values(schema: &Value) -> Vec<String> {
    let each = schema.get("oneOf").and_then(Value::as_array).into_iter().flatten();
    let word = |s: &Value| s.get("const").and_then(Value::as_str).map(|w| format!("`{w}`"));
    let mut words: Vec<String> = each.filter_map(word).collect();
    let list = schema.get("enum").and_then(Value::as_array).into_iter().flatten();
    words.extend(list.filter_map(Value::as_str).map(|w| format!("`{w}`")));
    words
}

/// The options of each type of system.
fn options(out: &mut String, types: &SystemTypes) {
    for of_type in types.0.iter().filter(|t| t.present) {
        let schema = of_type.schema();
        let Some(properties) = schema.get("properties").and_then(Value::as_object).filter(|p| !p.is_empty()) else {
            continue;
        };
        let _ = write!(
            out,
            "\n## `options` of `driver = \"{}\"`\n\n{}\n\n| option | meaning |\n|---|---|\n",
            of_type.name,
            wrapped(of_type.about)
        );
        for (name, schema) in properties {
            let meaning = schema.get("description").and_then(Value::as_str).unwrap_or_default();
            let mut meaning = meaning.replace('\n', " ").replace('|', "\\|");
            let words = values(schema);
            if !words.is_empty() {
                let _ = write!(meaning, " One of: {}.", words.join(", "));
            }
            let _ = writeln!(out, "| `{name}` | {} |", meaning.trim());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn types() -> SystemTypes {
        crate::engine::Register::built_in().types()
    }

    #[test]
    #[cfg(feature = "kafka")]
    fn the_reference_is_current() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/scenario.md");
        let kept = std::fs::read_to_string(path).unwrap_or_default();
        assert!(
            kept == reference(&types()),
            "write it anew: msgbench schema scenario --format markdown > docs/scenario.md"
        );
    }

    /// Every example is of a key that there is, and every key of the file, a system, a workload and
    /// a run has one.
    #[test]
    fn every_key_has_an_example_and_every_example_a_key() {
        let schema = schema(&types());
        let mut paths = Vec::new();
        for part in ["", "workload.load", "workload.payload", "workload.delivery"] {
            paths.extend(
                keys(&schema, at(&schema, part), part, &["faults", "gate", "expect", "search"])
                    .into_iter()
                    .map(|k| k.path),
            );
        }
        assert!(paths.len() > 60, "{paths:?}");
        for path in &paths {
            assert!(example(path).is_some(), "{path} has no example");
        }
        for (path, _) in EXAMPLES {
            let known = paths.iter().any(|p| p == path)
                || ["gate.", "expect.", "search."].iter().any(|part| path.starts_with(part));
            assert!(known, "{path} is no key");
        }
    }

    /// Every example of a workload is accepted somewhere.
    #[test]
    fn every_example_of_a_workload_is_accepted() {
        let types = types();
        for (path, _) in EXAMPLES.iter().filter(|(path, e)| path.starts_with("workload.") && !e.starts_with('[')) {
            let scope = scope(path, &types);
            assert!(!scope.starts_with(';') && !scope.ends_with("; "), "{path}: {scope}");
        }
        assert_eq!(scope("workload.delivery.backlog", &types).split(';').next(), Some("replay"));
        assert!(!scope("workload.delivery.durable", &types).contains("nats"));
    }
}
