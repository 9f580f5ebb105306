//! Apache Kafka, launched fresh in KRaft mode from Kafka's own distribution: one broker, or several
//! on this machine.
//!
//! Each broker is a controller, too, and is started as `java kafka.KafkaSystem` without a shell in
//! between, so that its process id is the Java virtual machine's. Brokers talk to each other over a
//! plain listener of their own; TLS and SASL are for the clients' listener. KRaft wants every port
//! beforehand; where one is taken meanwhile, the whole cluster is started anew on others.

mod acls;
mod ask;
mod external;
mod home;
mod options;
mod security;
mod streams;
mod tokens;
mod view;

use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer as _};

use external::ExternalKafka;
use home::{VARIABLE, availability};
use options::BrokerOptions;

use self::options::{Ports, file_of};
use self::security::Security;
use self::streams::{Compilation, StreamsProcess};
use self::view::KafkaView;
use super::networks::{NodeLink, NodeNetworks};
use super::power::{PowerLoss, PowerSupply};
use super::process::{Child, Held, Output, exception, tail};
use super::settings::of_properties;
use super::{Availability, ClusterView, CreateRequest, Provider, Running, System, SystemContext, SystemError};
use crate::plan::address::KAFKA;
use crate::plan::options::OptionSet;
use crate::plan::{BringUp, ClusterRole, ServiceTarget, SystemSpec, SystemType};

/// Kafka's log to standard output: the same file that the script puts beside what it fetched.
const LOGGING: &str = include_str!("../../../scripts/kafka/log4j2.properties");
/// Where it is written.
const LOGGING_FILE: &str = "log4j2.properties";
/// What Kafka's own start script gives the Java virtual machine.
const JAVA: [&str; 7] = [
    "-server",
    "-XX:+UseG1GC",
    "-XX:MaxGCPauseMillis=20",
    "-XX:InitiatingHeapOccupancyPercent=35",
    "-XX:+ExplicitGCInvokesConcurrent",
    "-XX:-UsePerfData",
    "-Djava.awt.headless=true",
];
/// Starts when a port turns out to be taken.
const ATTEMPTS: u32 = 3;
/// Pause between two looks whether it answers.
const POLL: Duration = Duration::from_millis(25);
/// Bound on one such look.
const PROBE: Duration = Duration::from_millis(250);
/// Lines of a log that an error carries.
const TAIL_LINES: usize = 12;
/// What it holds is thrown away: after so long it is killed.
const STOP: Duration = Duration::from_secs(3);

/// What to do where clients need OpenSSL, and this build is without.
const OPENSSL: &str = "build it with `--features kafka-tls` (needs OpenSSL's headers: apt-get install libssl-dev \
                       pkg-config) or with `--features kafka-tls-vendored` (needs perl, and minutes)";

/// `driver = "kafka"`.
#[derive(Debug, Clone, Copy)]
pub struct KafkaType;

impl Provider for KafkaType {
    fn describe(&self) -> SystemType {
        SystemType {
            lacks: |w| match &w.target {
                _ if w.delivery.keep.is_some_and(|keep| keep.messages.is_some()) => {
                    Some("no limit by a number of messages")
                }
                _ if w.delivery.keep.and_then(|keep| keep.per_key).is_some_and(|values| values > 1) => {
                    Some("compaction keeps one value of each key")
                }
                Some(ServiceTarget::Subject { .. }) => Some(
                    "its services have topics, target = { topic = \"...\", reply-topic = \"...\" }, and no subject",
                ),
                _ => None,
            },
            connects: true,
            intruders: true,
            keeps: true,
            isolates: true,
            power: true,
            roles: &[ClusterRole::Leader, ClusterRole::Follower, ClusterRole::Controller],
            protocol: Some(KAFKA),
            options: vec![OptionSet::of::<BrokerOptions>(BrokerOptions::check).within(options::TABLE)],
            launched_words: &[streams::WANTED],
            ..SystemType::new("kafka", "Apache Kafka, or what speaks its protocol.")
        }
    }
    fn availability(&self) -> Availability {
        availability(std::env::var_os(VARIABLE))
    }
    fn create(&self, spec: &SystemSpec, order: CreateRequest<'_>) -> Result<Box<dyn System>, SystemError> {
        let CreateRequest { program, context, .. } = order;
        if let BringUp::External { url } = &spec.bring_up {
            let written = spec.options.contains_key(options::TABLE).then(|| options::TABLE.to_owned());
            super::in_vain(spec, "broker", written)?;
            super::in_vain(spec, "server", streams::wanted(&spec.options).then(|| "transform".to_owned()))?;
            return Ok(Box::new(ExternalKafka::new(&spec.name, url, context.timeout)));
        }
        let wrong = |words: String| SystemError::Option { system: spec.name.clone(), words };
        let options = BrokerOptions::read(&spec.options).map_err(wrong)?;
        if let Some(what) = options.needs_openssl().filter(|_| !cfg!(feature = "kafka-tls")) {
            return Err(SystemError::Unavailable {
                system: spec.name.clone(),
                reason: format!("this msgbench has no {what} for Kafka"),
                remedy: OPENSSL.to_owned(),
            });
        }
        let streams = streams::wanted(&spec.options);
        if let Some((reason, remedy)) = streams.then(|| streams::missing(&program)).flatten() {
            return Err(SystemError::Unavailable { system: spec.name.clone(), reason, remedy: remedy.to_owned() });
        }
        Ok(Box::new(KafkaSystem { streams, ..KafkaSystem::new(&spec.name, program, options, context) }))
    }
}

/// A Kafka of our own.
pub struct KafkaSystem {
    name: String,
    home: PathBuf,
    options: BrokerOptions,
    context: SystemContext,
    brokers: Vec<Child>,
    logs: Vec<PathBuf>,
    /// Where the brokers listen, once they are up.
    ports: Vec<Ports>,
    /// Whether each node is to have a network of its own, and those.
    isolated: bool,
    networks: Option<NodeNetworks>,
    /// Arguments of Java that the way of logging in needs.
    java_security: Vec<String>,
    /// Whether an application of Kafka Streams runs beside it, and the application.
    streams: bool,
    application: Option<StreamsProcess>,
    power: PowerSupply,
}

impl KafkaSystem {
    /// `name` and `options` as in the plan, `home` from `availability`.
    pub fn new(name: &str, home: PathBuf, options: BrokerOptions, context: SystemContext) -> Self {
        let (name, brokers, logs, ports) = (name.to_owned(), Vec::new(), Vec::new(), Vec::new());
        let (java_security, streams, application) = (Vec::new(), false, None);
        let (isolated, networks, power) = (false, None, PowerSupply::default());
        Self {
            name,
            home,
            options,
            context,
            brokers,
            logs,
            ports,
            isolated,
            networks,
            java_security,
            streams,
            application,
            power,
        }
    }

    fn failed(&self, words: String, log: Option<&Path>) -> SystemError {
        let shown = |log: &Path| exception(log).map_or_else(|| tail(log, TAIL_LINES), |line| format!("\n  {line}"));
        let log = log.map(shown).unwrap_or_default();
        SystemError::Start { system: self.name.clone(), words, log }
    }

    fn java(&self, logging: &Path) -> Command {
        let mut command = Command::new(home::java());
        command.arg(format!("-Dlog4j2.configurationFile={}", logging.display()));
        command.arg("-cp").arg(self.home.join("libs/*"));
        command
    }

    /// One start on one set of ports; `Ok(None)` when a port was taken.
    fn attempt(&mut self, options: &BrokerOptions, deadline: Instant) -> Result<Option<Running>, SystemError> {
        self.power.clear();
        let io = |what: &str, e: std::io::Error| self.failed(format!("cannot {what}: {e}"), None);
        let names = NodeNetworks::server_names(self.networks.as_ref().map(|_| options.nodes as usize));
        let security = Security::make(options, &self.context.dir, &names).map_err(|words| self.failed(words, None))?;
        let held = Held::new(3 * options.nodes as usize).map_err(|e| io("find free ports", e))?;
        let free = held.ports().map_err(|e| io("find free ports", e))?;
        let host = |node| self.networks.as_ref().map_or(Ipv4Addr::LOCALHOST, |_| NodeNetworks::address(node));
        let of = |(node, p): (usize, &[u16])| Ports { host: host(node), client: p[0], broker: p[1], controller: p[2] };
        let ports: Vec<Ports> = free.chunks_exact(3).enumerate().map(of).collect();
        let logging = self.context.dir.join(LOGGING_FILE);
        std::fs::write(&logging, LOGGING).map_err(|e| io("write the settings of its log", e))?;
        let mut nodes = Vec::new();
        for node in 1..=ports.len() {
            let dir = self.context.dir.join(format!("broker-{node}"));
            // Left over from an attempt whose port was taken.
            let _ = std::fs::remove_dir_all(&dir);
            std::fs::create_dir_all(&dir).map_err(|e| io("make a folder", e))?;
            let properties = options.properties(node, &ports, &dir.join("data"), &security.properties);
            std::fs::write(dir.join("server.properties"), file_of(&properties))
                .map_err(|e| io("write properties", e))?;
            nodes.push(dir);
        }
        let places: Vec<PathBuf> = nodes.iter().map(|dir| dir.join("data")).collect();
        self.power.put_at(&places).map_err(|words| self.failed(words, None))?;
        self.logs = nodes.iter().map(|dir| dir.join("kafka.log")).collect();
        self.format(&nodes, &logging, &security, deadline)?;
        drop(held);
        for node in 0..nodes.len() {
            let child = self.spawn(node, &security.java).map_err(|words| self.failed(words, None))?;
            self.brokers.push(child);
        }
        let mut seen = "it has not been asked".to_owned();
        let probe = prober(&ports).map_err(|words| self.failed(words, None))?;
        while Instant::now() < deadline {
            if let Some((node, end)) = self.first_ended() {
                let log = self.logs[node].clone();
                self.brokers.clear();
                if String::from_utf8_lossy(&std::fs::read(&log).unwrap_or_default()).contains("Address already in use")
                {
                    return Ok(None);
                }
                return Err(self.failed(format!("broker {} {end}", node + 1), Some(&log)));
            }
            match probe.fetch_metadata(None, PROBE) {
                Ok(found) if found.brokers().len() == nodes.len() => {
                    if let Some(principal) = &security.principal {
                        acls::grant(&ports, principal, deadline).map_err(|words| self.failed(words, None))?;
                    }
                    self.java_security = security.java.clone();
                    self.ports.clone_from(&ports);
                    return Ok(Some(self.running(options, &ports, &security)));
                }
                Ok(found) => seen = format!("{} of {} brokers are there", found.brokers().len(), nodes.len()),
                Err(e) => seen = e.to_string(),
            }
            std::thread::sleep(POLL);
        }
        self.brokers.clear();
        let words = format!("not ready within its bound (`broker.start-timeout`): {seen}");
        Err(self.failed(words, self.logs.first().map(PathBuf::as_path)))
    }

    /// Starts a broker whose properties are written and whose storage is formatted.
    fn spawn(&self, node: usize, security: &[String]) -> Result<Child, String> {
        let mut command = self.java(&self.context.dir.join(LOGGING_FILE));
        let heap = self.options.heap.0;
        command.args([format!("-Xms{heap}"), format!("-Xmx{heap}")]).args(JAVA);
        command.args(security).args(&self.options.java_options);
        let log = &self.logs[node];
        if let Some(networks) = &self.networks {
            networks.put_on(node, &mut command);
        }
        command.arg("kafka.Kafka").arg(log.with_file_name("server.properties"));
        Child::spawn(command, log, Output::Log, self.context.cpus.as_deref())
            .map_err(|e| format!("{} could not be started: {e}", home::java().display()))
    }

    /// Formats the storage of all brokers, side by side.
    fn format(
        &mut self,
        nodes: &[PathBuf],
        logging: &Path,
        security: &Security,
        deadline: Instant,
    ) -> Result<(), SystemError> {
        let cluster = security::cluster_id();
        let mut children = Vec::new();
        for dir in nodes {
            let mut command = self.java(logging);
            // A short life: compiling well and collecting in parallel would only cost.
            command.args(["-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-XX:-UsePerfData"]);
            command
                .args(["kafka.tools.StorageTool", "format", "-t", &cluster, "-c"])
                .arg(dir.join("server.properties"));
            for credential in &security.scram {
                command.args(["--add-scram", credential]);
            }
            let log = dir.join("format.log");
            let child = Child::spawn(command, &log, Output::Log, None)
                .map_err(|e| self.failed(format!("{} could not be started: {e}", home::java().display()), None))?;
            children.push((child, log));
        }
        for (child, log) in &mut children {
            let left = deadline.saturating_duration_since(Instant::now());
            match child.wait(left) {
                Some(status) if status.success() => {}
                status => {
                    let end = status.and_then(|_| child.ended()).unwrap_or_else(|| "did not end in time".into());
                    // The whole of it is kept with the results; the error shows the exception.
                    self.logs = vec![log.clone()];
                    return Err(self.failed(format!("formatting its storage {end}"), Some(log)));
                }
            }
        }
        Ok(())
    }

    fn running(&self, options: &BrokerOptions, ports: &[Ports], security: &Security) -> Running {
        let mut settings = options.settings();
        let version = home::version(&self.home).map(|v| format!("Apache Kafka {v}"));
        if self.networks.is_some() {
            settings.insert("network".into(), NodeNetworks::WORDS.into());
        }
        settings.insert("version".into(), version.clone().unwrap_or_else(|| "Apache Kafka".into()));
        let file = self.context.dir.join("broker-1").join("server.properties");
        let brokers: Vec<String> = ports.iter().map(|p| format!("{}:{}", p.host, p.client)).collect();
        Running {
            url: format!("kafka://{}", brokers.join(",")),
            pids: self.brokers.iter().map(Child::pid).collect(),
            version,
            settings,
            written: std::fs::read_to_string(file).ok().map(|text| of_properties(&text)),
            client: security.client.clone(),
            intruders: security.intruders.clone(),
            ..Running::default()
        }
    }

    fn application_failed(&self, words: String) -> SystemError {
        self.failed(format!("the application of Kafka Streams: {words}"), Some(&streams::log(&self.context.dir)))
    }

    /// Starts the application of Kafka Streams beside brokers that are up.
    fn start_application(
        &mut self,
        compiled: Compilation,
        running: &mut Running,
        deadline: Instant,
    ) -> Result<(), SystemError> {
        self.logs.push(streams::log(&self.context.dir));
        let started = compiled.start(&self.context.dir.join(LOGGING_FILE), deadline, self.context.cpus.as_deref());
        let application = started.map_err(|words| self.application_failed(words))?;
        running.application = Some(application.child.pid());
        running.client.insert(streams::PORT.to_owned(), application.port.into());
        self.application = Some(application);
        Ok(())
    }

    fn first_ended(&mut self) -> Option<(usize, String)> {
        self.brokers.iter_mut().enumerate().find_map(|(node, child)| Some((node, child.ended()?)))
    }
}

/// A client that asks which brokers there are, over the listener between brokers.
fn prober(ports: &[Ports]) -> Result<BaseConsumer, String> {
    let brokers: Vec<String> = ports.iter().map(|p| p.between_brokers().to_string()).collect();
    ClientConfig::new()
        .set("bootstrap.servers", brokers.join(","))
        .set("reconnect.backoff.max.ms", "100")
        .create()
        .map_err(|e| e.to_string())
}

impl System for KafkaSystem {
    fn start(&mut self) -> Result<Running, SystemError> {
        if !self.brokers.is_empty() {
            return Err(self.failed("it was started already".to_owned(), None));
        }
        let options = self.options.clone();
        if self.isolated {
            self.networks = Some(NodeNetworks::make(options.nodes as usize).map_err(|words| self.failed(words, None))?);
        }
        let deadline = Instant::now() + self.context.timeout.max(options.start_timeout.duration());
        let compiled = self.streams.then(|| Compilation::begin(&self.home, &self.context.dir)).transpose();
        let compiled = compiled.map_err(|words| self.application_failed(words))?;
        for _ in 0..ATTEMPTS {
            if let Some(mut running) = self.attempt(&options, deadline)? {
                if let Some(compiled) = compiled {
                    self.start_application(compiled, &mut running, deadline)?;
                }
                return Ok(running);
            }
        }
        Err(self.failed(format!("a port was taken by somebody else {ATTEMPTS} times"), None))
    }

    fn ended(&mut self) -> Option<String> {
        if let Some(how) = self.application.as_mut().and_then(|application| application.child.ended()) {
            return Some(format!("the application of Kafka Streams {how}"));
        }
        let all = self.brokers.len();
        let (node, end) = self.first_ended()?;
        Some(if all == 1 { end } else { format!("broker {} {end}", node + 1) })
    }

    fn node_ended(&mut self, node: usize) -> Option<String> {
        self.brokers.get_mut(node)?.ended()
    }

    fn restart(&mut self, node: usize) -> Result<u32, String> {
        let child = self.brokers.get_mut(node).ok_or_else(|| format!("there is no node {node}"))?;
        child.kill()?;
        self.brokers[node] = self.spawn(node, &self.java_security)?;
        Ok(self.brokers[node].pid())
    }

    fn isolate(&mut self) -> Result<(), String> {
        self.isolated = true;
        Ok(())
    }

    fn link(&mut self, node: usize, link: NodeLink<'_>) -> Result<(), String> {
        self.networks.as_ref().ok_or("its nodes share a network")?.set(node, link)
    }

    fn on_power(&mut self) -> Result<(), String> {
        self.power.want()
    }

    fn power(&mut self, node: usize) -> Result<(u32, PowerLoss), String> {
        self.brokers.get_mut(node).ok_or_else(|| format!("there is no node {node}"))?.kill()?;
        let loss = self.power.cut(node)?;
        Ok((self.restart(node)?, loss))
    }

    fn view(&self) -> Option<Arc<dyn ClusterView>> {
        Some(Arc::new(KafkaView { ports: self.ports.clone() }))
    }

    fn stop(&mut self) -> Result<(), SystemError> {
        let mut brokers = std::mem::take(&mut self.brokers);
        brokers.extend(self.application.take().map(|application| application.child));
        // All at once: a controller that has lost the others waits for them.
        let results: Vec<Result<(), String>> = std::thread::scope(|scope| {
            let stopping: Vec<_> = brokers.iter_mut().map(|child| scope.spawn(|| child.stop(STOP))).collect();
            stopping.into_iter().map(|thread| thread.join().unwrap_or_else(|_| Err("panicked".into()))).collect()
        });
        let failures: Vec<String> = results.into_iter().filter_map(Result::err).collect();
        if failures.is_empty() {
            return Ok(());
        }
        Err(SystemError::Stop { system: self.name.clone(), words: failures.join("; ") })
    }

    fn logs(&self) -> Vec<PathBuf> {
        self.logs.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_that_is_no_kafka_is_refused_with_javas_words() {
        if crate::needs::system("kafka").is_none() {
            return;
        }
        let dir = tempfile::tempdir().unwrap();
        let context = SystemContext { dir: dir.path().to_owned(), timeout: Duration::from_secs(20), cpus: None };
        let mut kafka = KafkaSystem::new("kafka", PathBuf::from("/no/kafka"), BrokerOptions::default(), context);
        let told = kafka.start().unwrap_err().to_string();
        assert!(
            told.contains("formatting its storage exited with code 1")
                && told.contains("ClassNotFoundException: kafka.tools.StorageTool"),
            "{told}"
        );
        assert_eq!(told.lines().count(), 2, "{told}");
        assert!(kafka.logs()[0].ends_with("format.log"));
    }
}
