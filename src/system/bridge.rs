//! Two systems at once, for the bridge between them.

use std::path::PathBuf;

use serde_json::Value;

use super::{Context, Running, System, SystemError, create};
use crate::plan::options::{Options, unknown};
use crate::plan::{BringUp, DriverKind, SystemSpec};

/// See the module.
pub(super) struct Pair {
    parts: Vec<(&'static str, Box<dyn System>)>,
    /// Processes of each part.
    sizes: Vec<usize>,
}

/// The two systems of a bridge and the options of each: the one that is published to, and Kafka.
///
/// # Errors
/// The option that does not fit, and what is allowed.
pub(super) fn parts(options: &Options) -> Result<[(DriverKind, Options); 2], String> {
    let first = match options.get("from").map_or(Some("nats"), |v| v.as_str()) {
        Some("nats") => DriverKind::Nats,
        Some("jetstream") => DriverKind::Jetstream,
        Some("reference") => DriverKind::Reference,
        _ => return Err("option `from`: there are nats, jetstream and reference".into()),
    };
    let part = |kind: DriverKind| match options.get(kind.name()) {
        None => Ok((kind, Options::new())),
        Some(Value::Object(own)) => Ok((kind, own.clone())),
        Some(_) => Err(format!("option `{}`: the table of that system's options is expected", kind.name())),
    };
    let known = ["from", first.name(), "kafka"].map(str::to_owned);
    match unknown(options, "a bridge", &known) {
        Some(words) => Err(words),
        None => Ok([part(first)?, part(DriverKind::Kafka)?]),
    }
}

impl Pair {
    pub(super) fn new(spec: &SystemSpec, context: &Context) -> Result<Self, SystemError> {
        let wrong = |words: String| SystemError::Option { system: spec.name.clone(), words };
        let mut parts = Vec::new();
        for (index, (kind, options)) in self::parts(&spec.options).map_err(wrong)?.into_iter().enumerate() {
            let bring_up = match &spec.bring_up {
                BringUp::Launch => BringUp::Launch,
                BringUp::External { url } => {
                    let url = url.split_whitespace().nth(index).ok_or_else(|| {
                        wrong("the bridge needs two addresses: url = \"nats://host:4222 kafka://host:9092\"".into())
                    })?;
                    BringUp::External { url: url.to_owned() }
                }
            };
            let dir = context.dir.join(kind.name());
            std::fs::create_dir_all(&dir).map_err(|e| wrong(format!("cannot make {}: {e}", dir.display())))?;
            let part = SystemSpec {
                name: format!("{} ({})", spec.name, kind.name()),
                driver: kind,
                bring_up,
                require: spec.require,
                options,
            };
            parts.push((kind.name(), create(&part, Context { dir, timeout: context.timeout })?));
        }
        Ok(Self { parts, sizes: Vec::new() })
    }
}

impl Pair {
    /// The part that a process belongs to, and its number there.
    fn part(&mut self, mut node: usize) -> Option<(&mut Box<dyn System>, usize)> {
        for ((_, part), size) in self.parts.iter_mut().zip(&self.sizes) {
            if node < *size {
                return Some((part, node));
            }
            node -= size;
        }
        None
    }
}

impl System for Pair {
    fn start(&mut self) -> Result<Running, SystemError> {
        let mut both = Running::default();
        let mut launched = serde_json::Map::new();
        let mut urls = Vec::new();
        for (name, part) in &mut self.parts {
            let running = part.start()?;
            self.sizes.push(running.pids.len());
            urls.push(running.url);
            both.pids.extend(running.pids);
            both.settings.extend(running.settings.into_iter().map(|(k, v)| (format!("{name}: {k}"), v)));
            launched.insert((*name).to_owned(), running.client.into());
        }
        both.url = urls.join(" ");
        both.client.insert("launched".to_owned(), launched.into());
        Ok(both)
    }
    fn ended(&mut self) -> Option<String> {
        self.parts.iter_mut().find_map(|(name, part)| Some(format!("{name}: {}", part.ended()?)))
    }
    fn node_ended(&mut self, node: usize) -> Option<String> {
        self.part(node).and_then(|(part, node)| part.node_ended(node))
    }
    fn restart(&mut self, node: usize) -> Result<u32, String> {
        let (part, node) = self.part(node).ok_or_else(|| format!("there is no node {node}"))?;
        part.restart(node)
    }
    fn stop(&mut self) -> Result<(), SystemError> {
        // Both are stopped, whatever the first one says.
        let results: Vec<_> = self.parts.iter_mut().map(|(_, part)| part.stop()).collect();
        results.into_iter().collect()
    }
    fn logs(&self) -> Vec<PathBuf> {
        self.parts.iter().flat_map(|(_, part)| part.logs()).collect()
    }
}
