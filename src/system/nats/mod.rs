//! A nats-server, or several that are joined, launched fresh on free ports of 127.0.0.1.
//!
//! # Invariant
//! What answers is ours: each server is given a name of our making and must say that name back, so
//! that a stranger who answers on the port is never measured in its place. A cluster is up when the
//! servers are connected each to each, and, with JetStream, when its leader says that all others
//! follow.
//! # Design
//! Settings go through a configuration file in the trial's folder, where the store is, too. What
//! the servers then tell of themselves (INFO, `/varz`) is read back. A free port may be taken by
//! somebody else before the server binds it, and on a busy host two of three servers may found
//! JetStream's metadata group before they know the third, which is then never let in (seen with
//! 2.10.27). In both cases all are stopped and started again on other ports with empty stores.

mod config;
pub(super) mod external;
mod jwt;
mod layout;
mod monitor;
mod options;
mod program;
mod ready;
mod secrets;
mod types;
mod view;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::delay::DelayLines;
use super::networks::{NodeLink, NodeNetworks};
use super::power::{PowerLoss, PowerSupply};
use super::process::{Child, Held, Output, tail};
use super::settings::{of_blocks, plain};
use super::{ClusterView, Running, System, SystemContext, SystemError};
use crate::plan::facts::{Durability, Stated};
use external::{info, settings};
use layout::{ServerNode, lay_out};
use options::LaunchOptions;
use secrets::NatsCredentials;
pub use types::{JetstreamType, NatsType};
use view::NatsView;

/// Starts when a port turns out to be taken, or a cluster does not come together.
const ATTEMPTS: u32 = 3;

/// Pause between two looks whether it answers.
const POLL: Duration = Duration::from_millis(10);

/// Bound on one look: a stranger that accepts and says nothing must not hide that our server has
/// ended.
const PROBE: Duration = Duration::from_secs(1);

/// A cluster must agree for so long on end: its servers connect to each other from both sides,
/// close what is double, and take each other for gone meanwhile.
const STEADY: Duration = Duration::from_secs(1);

/// Servers that answer and have not agreed for so long never will; where they do, it takes a second
/// or two.
const ESTRANGED: Duration = Duration::from_secs(5);

/// Ways over a link that its two servers take to know each other, and JetStream to have a leader.
const ROUND_TRIPS: u32 = 40;

/// Lines of the log that an error carries.
const TAIL_LINES: usize = 10;

/// nats-server of our own.
#[derive(Debug)]
pub struct NatsSystem {
    name: String,
    program: PathBuf,
    launch: LaunchOptions,
    jetstream: bool,
    context: SystemContext,
    nodes: Vec<ServerNode>,
    /// The links that have a delay.
    links: Option<DelayLines>,
    children: Vec<Child>,
    /// Whether each node is to have a network of its own, and those.
    isolated: bool,
    networks: Option<NodeNetworks>,
    power: PowerSupply,
}

/// How one start went.
enum StartAttempt {
    Up(Box<Running>),
    /// It is worth another try, because of this.
    Again(String),
}

impl NatsSystem {
    /// `name` as in the plan, `program` from `availability`. `jetstream` is what the driver
    /// needs; the option of that name overrules it.
    pub fn new(name: &str, program: PathBuf, launch: LaunchOptions, jetstream: bool, context: SystemContext) -> Self {
        let jetstream = launch.jetstream.unwrap_or(jetstream);
        Self {
            name: name.to_owned(),
            program,
            launch,
            jetstream,
            context,
            nodes: Vec::new(),
            links: None,
            children: Vec::new(),
            isolated: false,
            networks: None,
            power: PowerSupply::default(),
        }
    }

    fn failed(&self, words: String) -> SystemError {
        let log = self.nodes.iter().map(|node| tail(&node.log(), TAIL_LINES)).collect();
        SystemError::Start { system: self.name.clone(), words, log }
    }

    /// Lays the servers out on ports that are held until the first of them is to start.
    fn choose_ports(&mut self) -> Result<Held, SystemError> {
        let laid = lay_out(&self.launch, &self.context.dir);
        let (nodes, held, links) = laid.map_err(|error| self.failed(format!("no free port: {error}")))?;
        (self.nodes, self.links) = (nodes, links);
        if self.isolated {
            self.isolate_nodes()?;
        }
        Ok(held)
    }

    /// Gives each node a network of its own, and its address there.
    fn isolate_nodes(&mut self) -> Result<(), SystemError> {
        if self.links.is_some() {
            return Err(self.failed("links with a delay are on the loopback: no node can be cut off alone".into()));
        }
        if self.networks.is_none() {
            let made = NodeNetworks::make(self.nodes.len()).map_err(|words| self.failed(words))?;
            self.networks = Some(made);
        }
        for (index, node) in self.nodes.iter_mut().enumerate() {
            node.host = NodeNetworks::address(index);
        }
        Ok(())
    }

    /// One start on free ports.
    fn attempt(&mut self, deadline: Instant) -> Result<StartAttempt, SystemError> {
        self.power.clear();
        let held = self.choose_ports()?;
        let broken = |what: &str, error: std::io::Error| self.failed(format!("cannot {what}: {error}"));
        let names = NodeNetworks::server_names(self.networks.as_ref().map(|_| self.nodes.len()));
        let secrets = NatsCredentials::make(&self.context.dir, &self.launch, &names)
            .map_err(|e| broken("make credentials", e))?;
        for node in &self.nodes {
            let text = config::render(node, &self.nodes, &self.launch, self.jetstream, &secrets);
            // A log of an earlier attempt would be taken for this one's, and its store knows other
            // servers.
            let _ = std::fs::remove_dir_all(node.store());
            let fresh = std::fs::create_dir_all(&node.dir)
                .and_then(|()| std::fs::write(node.config(), text))
                .and_then(|()| std::fs::write(node.log(), ""));
            fresh.map_err(|e| broken("write its configuration", e))?;
        }
        if self.jetstream {
            let places: Vec<PathBuf> = self.nodes.iter().map(ServerNode::store).collect();
            self.power.put_at(&places).map_err(|words| self.failed(words))?;
        }
        drop(held);
        for index in 0..self.nodes.len() {
            let child = self.spawn(index).map_err(|words| self.failed(words))?;
            self.children.push(child);
        }
        match self.await_ready(deadline) {
            Ok(Ok(infos)) => Ok(StartAttempt::Up(Box::new(self.running(&infos, secrets)))),
            Ok(Err(why)) => {
                self.children.clear();
                Ok(StartAttempt::Again(why))
            }
            Err(error) => {
                self.children.clear();
                Err(error)
            }
        }
    }

    fn spawn(&self, index: usize) -> Result<Child, String> {
        let node = &self.nodes[index];
        let mut command = Command::new(&self.program);
        if let Some(networks) = &self.networks {
            networks.put_on(index, &mut command);
        }
        command.arg("-c").arg(node.config()).arg("-l").arg(node.log());
        Child::spawn(command, &node.log(), Output::Log, self.context.cpus.as_deref())
            .map_err(|error| format!("{} could not be started: {error}", self.program.display()))
    }

    /// Waits until all answer and agree; the INFO of each. Or why another try is worth it.
    fn await_ready(&mut self, deadline: Instant) -> Result<Result<Vec<Value>, String>, SystemError> {
        let mut seen = "it has not been asked".to_owned();
        let mut infos = Vec::new();
        let (mut agreed, mut apart) = (None, None);
        while Instant::now() < deadline {
            if let Some(how) = self.ended() {
                let taken = self.nodes.iter().any(|node| port_was_taken(&node.log()));
                let why = "a port was taken by somebody else".to_owned();
                return if taken { Ok(Err(why)) } else { Err(self.failed(how)) };
            }
            let left = PROBE.min(deadline.saturating_duration_since(Instant::now()));
            match self.nodes.get(infos.len()) {
                Some(node) => match info(&node.host.to_string(), node.port, left) {
                    Ok(info) if info.get("server_name").map(plain).as_deref() == Some(node.name.as_str()) => {
                        infos.push(info);
                        continue;
                    }
                    Ok(_) => seen = format!("another server answers on port {}", node.port),
                    Err(error) => seen = error.to_string(),
                },
                None => match ready::agreed(&self.nodes, &self.launch, self.jetstream, left) {
                    Ok(()) => {
                        let since = *agreed.get_or_insert_with(Instant::now);
                        if self.nodes.len() == 1 || since.elapsed() >= STEADY {
                            return Ok(Ok(infos));
                        }
                    }
                    Err(words) => {
                        seen = words;
                        agreed = None;
                        let since = *apart.get_or_insert_with(Instant::now);
                        if since.elapsed() > self.estranged() {
                            return Ok(Err(seen));
                        }
                    }
                },
            }
            std::thread::sleep(POLL);
        }
        Err(self.failed(format!("no answer within {:?}: {seen}", self.context.timeout)))
    }

    /// How long servers that answer are given to agree.
    fn estranged(&self) -> Duration {
        // Over gateways JetStream elects its leader anew when the clusters have found each other.
        let usual = if self.launch.clusters > 1 { 4 * ESTRANGED } else { ESTRANGED };
        usual + self.launch.longest_link() * ROUND_TRIPS
    }

    fn running(&self, infos: &[Value], secrets: NatsCredentials) -> Running {
        let NatsCredentials { mut client, intruders, .. } = secrets;
        let mut settings = infos.first().map(settings).unwrap_or_default();
        if let Ok(varz) = monitor::ask(&self.nodes[0].monitor_address(), "/varz", PROBE) {
            settings.extend(monitor::settings(&varz));
        }
        // The name was made up for this start and says nothing about the server.
        settings.remove("server_name");
        settings.insert("nodes".to_owned(), self.nodes.len().to_string());
        settings.extend(layout::settings(&self.launch).into_iter().map(|(name, value)| (name.to_owned(), value)));
        if self.nodes.len() > 1 {
            settings.insert("server_versions".to_owned(), versions(&self.nodes, infos));
        }
        for (index, raw) in self.launch.config.iter().enumerate() {
            settings.insert(format!("config.{}", index + 1), raw.clone());
        }
        if self.launch.permissions {
            settings.insert("permissions".to_owned(), "by subject: those that clients of a trial use".to_owned());
        }
        if self.jetstream && self.launch.leaf_nodes > 0 {
            // Of the driver, where the scenario does not name another.
            client.insert("domain".to_owned(), config::HUB_DOMAIN.into());
        }
        if self.jetstream {
            settings.insert("store_filesystem".to_owned(), filesystem(&self.nodes[0].store()));
        }
        if self.networks.is_some() {
            settings.insert("network".to_owned(), NodeNetworks::WORDS.to_owned());
        }
        let urls: Vec<String> = self.nodes.iter().filter(|n| n.is_member()).map(ServerNode::url).collect();
        let places = self.nodes.iter().map(|node| (node.place.clone(), node.url())).collect();
        let pids = self.children.iter().map(Child::pid).collect();
        let always = self.jetstream && settings.get("sync_interval").is_some_and(|s| s.starts_with("always"));
        let durability =
            always.then(|| Stated::new(Durability::SyncedFirst, "file, synced before a message is acknowledged"));
        let written = std::fs::read_to_string(self.nodes[0].config()).ok().map(|text| of_blocks(&text));
        let url = urls.join(",");
        Running { url, places, pids, durability, settings, written, client, intruders, ..Running::default() }
    }
}

/// The version that each server says it is, servers of one version together.
fn versions(nodes: &[ServerNode], infos: &[Value]) -> String {
    let mut by_version: BTreeMap<String, Vec<&str>> = BTreeMap::new();
    for (node, info) in nodes.iter().zip(infos) {
        let version = info.get("version").map_or_else(|| "unknown".to_owned(), plain);
        by_version.entry(version).or_default().push(&node.place);
    }
    let each = by_version.into_iter().map(|(version, places)| format!("{version}: {}", places.join(", ")));
    each.collect::<Vec<_>>().join("; ")
}

/// The kind of file system that holds `dir`: syncing means little on one that is memory.
fn filesystem(dir: &Path) -> String {
    let mounts = std::fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    let fields = mounts.lines().filter_map(|line| {
        let mut words = line.split_whitespace();
        let (_, place, kind) = (words.next()?, words.next()?, words.next()?);
        dir.starts_with(place).then_some((place.len(), kind))
    });
    // The longest mount point that leads there; of equal ones the last hides the others.
    fields.max_by_key(|(length, _)| *length).map_or("unknown", |(_, kind)| kind).to_owned()
}

/// Whether a log says that an address was in use.
fn port_was_taken(log: &Path) -> bool {
    String::from_utf8_lossy(&std::fs::read(log).unwrap_or_default()).contains("address already in use")
}

impl System for NatsSystem {
    fn start(&mut self) -> Result<Running, SystemError> {
        if !self.children.is_empty() {
            return Err(self.failed("it was started already".to_owned()));
        }
        let deadline = Instant::now() + self.context.timeout;
        let mut last = String::new();
        for _ in 0..ATTEMPTS {
            match self.attempt(deadline)? {
                StartAttempt::Up(running) => return Ok(*running),
                StartAttempt::Again(why) => last = why,
            }
        }
        Err(self.failed(format!("{last}, {ATTEMPTS} times")))
    }

    fn ended(&mut self) -> Option<String> {
        let several = self.children.len() > 1;
        let ends = self.children.iter_mut().enumerate();
        ends.filter_map(|(i, child)| Some((i, child.ended()?))).next().map(|(i, how)| {
            match self.nodes.get(i).filter(|_| several) {
                Some(node) => format!("server {}: {how}", node.place),
                None => how,
            }
        })
    }

    fn node_ended(&mut self, node: usize) -> Option<String> {
        self.children.get_mut(node)?.ended()
    }

    fn restart(&mut self, node: usize) -> Result<u32, String> {
        let child = self.children.get_mut(node).ok_or_else(|| format!("there is no node {node}"))?;
        child.kill()?;
        self.children[node] = self.spawn(node)?;
        Ok(self.children[node].pid())
    }

    fn isolate(&mut self) -> Result<(), String> {
        self.isolated = true;
        Ok(())
    }

    fn link(&mut self, node: usize, link: NodeLink<'_>) -> Result<(), String> {
        self.networks.as_ref().ok_or("its nodes share a network")?.set(node, link)
    }

    fn view(&self) -> Option<Arc<dyn ClusterView>> {
        let (nodes, launch) = (self.nodes.clone(), self.launch.clone());
        Some(Arc::new(NatsView { nodes, launch, jetstream: self.jetstream }))
    }

    fn on_power(&mut self) -> Result<(), String> {
        self.power.want()
    }

    fn power(&mut self, node: usize) -> Result<(u32, PowerLoss), String> {
        self.children.get_mut(node).ok_or_else(|| format!("there is no node {node}"))?.kill()?;
        let loss = self.power.cut(node)?;
        Ok((self.restart(node)?, loss))
    }

    fn stop(&mut self) -> Result<(), SystemError> {
        let mut left = Vec::new();
        for mut child in std::mem::take(&mut self.children) {
            if let Err(words) = child.stop(self.context.timeout) {
                left.push(words);
            }
        }
        self.links = None;
        if left.is_empty() {
            return Ok(());
        }
        Err(SystemError::Stop { system: self.name.clone(), words: left.join("; ") })
    }

    fn logs(&self) -> Vec<PathBuf> {
        self.nodes.iter().map(ServerNode::log).collect()
    }
}

#[cfg(test)]
mod tests;
