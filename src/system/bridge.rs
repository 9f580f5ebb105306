//! Two systems at once, for the bridge between them.

use std::path::PathBuf;

use serde_json::Value;

use super::power::PowerLoss;
use super::{CreateRequest, Provider, Running, System, SystemContext, SystemError};
use crate::plan::options::{SystemOptions, unknown};
use crate::plan::{BringUp, SystemSpec, SystemType};

/// The option that chooses the system which is published to.
const FROM: &str = "from";

/// `driver = "bridge"`: one system that is published to, another that is read from, and a
/// forwarder.
#[derive(Debug, Clone, Copy)]
pub struct BridgeType {
    /// The types that can be published to; the first where the scenario does not say.
    pub from: &'static [&'static str],
    /// The type that is read from.
    pub to: &'static str,
}

impl Provider for BridgeType {
    fn describe(&self) -> SystemType {
        SystemType {
            lacks: |w| match &w.delivery {
                _ if w.topology.reply => Some("a bridge brings no answers back"),
                d if d.backlog > 0 => Some("a backlog would have to cross the bridge first"),
                d if d.reject_every > 0 || d.dead_every > 0 => Some("no redelivery of single messages"),
                _ => None,
            },
            ..SystemType::new(
                "bridge",
                "One system that is published to, another that is read from, and a forwarder between them.",
            )
        }
    }

    fn parts(&self, options: &SystemOptions) -> Result<Vec<(String, SystemOptions)>, String> {
        let first = match options.get(FROM) {
            None => self.from[0],
            Some(word) => *self
                .from
                .iter()
                .find(|name| word.as_str() == Some(name))
                .ok_or_else(|| format!("option `{FROM}`: there are {}", self.from.join(", ")))?,
        };
        let part = |name: &str| match options.get(name) {
            None => Ok((name.to_owned(), SystemOptions::new())),
            Some(Value::Object(own)) => Ok((name.to_owned(), own.clone())),
            Some(_) => Err(format!("option `{name}`: the table of that system's options is expected")),
        };
        let known = [FROM, first, self.to].map(str::to_owned);
        match unknown(options, "a bridge", &known) {
            Some(words) => Err(words),
            None => Ok(vec![part(first)?, part(self.to)?]),
        }
    }

    fn create(&self, spec: &SystemSpec, order: CreateRequest<'_>) -> Result<Box<dyn System>, SystemError> {
        let wrong = |words: String| SystemError::Option { system: spec.name.clone(), words };
        let mut parts = Vec::new();
        for (index, (name, options)) in self.parts(&spec.options).map_err(wrong)?.into_iter().enumerate() {
            let bring_up = match &spec.bring_up {
                BringUp::Launch => BringUp::Launch,
                BringUp::External { url } => {
                    let url = url.split_whitespace().nth(index).ok_or_else(|| {
                        wrong("the bridge needs two addresses: url = \"nats://host:4222 kafka://host:9092\"".into())
                    })?;
                    BringUp::External { url: url.to_owned() }
                }
            };
            let dir = order.context.dir.join(&name);
            std::fs::create_dir_all(&dir).map_err(|e| wrong(format!("cannot make {}: {e}", dir.display())))?;
            let part = SystemSpec {
                name: format!("{} ({name})", spec.name),
                driver: name.clone(),
                bring_up,
                require: spec.require,
                cpus: None,
                options,
            };
            let context = SystemContext { dir, timeout: order.context.timeout, cpus: order.context.cpus.clone() };
            parts.push((name, order.providers.create(&part, context)?));
        }
        Ok(Box::new(BridgeSystem { parts, sizes: Vec::new() }))
    }
}

/// Both systems of a bridge.
struct BridgeSystem {
    parts: Vec<(String, Box<dyn System>)>,
    /// Processes of each part.
    sizes: Vec<usize>,
}

impl BridgeSystem {
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

impl System for BridgeSystem {
    fn start(&mut self) -> Result<Running, SystemError> {
        let mut both = Running::default();
        let mut launched = serde_json::Map::new();
        let mut urls = Vec::new();
        for (name, part) in &mut self.parts {
            let running = part.start()?;
            self.sizes.push(running.pids.len());
            urls.push(running.url);
            both.pids.extend(running.pids);
            both.application = both.application.or(running.application);
            both.settings.extend(running.settings.into_iter().map(|(k, v)| (format!("{name}: {k}"), v)));
            launched.insert(name.clone(), running.client.into());
        }
        let names: Vec<&str> = self.parts.iter().map(|(name, _)| name.as_str()).collect();
        both.client.insert("parts".to_owned(), names.into());
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
    fn on_power(&mut self) -> Result<(), String> {
        self.parts.iter_mut().try_for_each(|(_, part)| part.on_power())
    }
    fn power(&mut self, node: usize) -> Result<(u32, PowerLoss), String> {
        let (part, node) = self.part(node).ok_or_else(|| format!("there is no node {node}"))?;
        part.power(node)
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
