//! What a launched Kafka is told: the table `broker` of the system's options, and the properties
//! that follow from it.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::path::Path;

use schemars::JsonSchema;
use serde::Deserialize;

use crate::plan::options::SystemOptions;
use crate::system::settings::plain;
use crate::units::{Bytes, Span};

/// The table of a system's options that a launched broker reads.
pub(super) const TABLE: &str = "broker";

/// Kafka keeps at most so many replicas of its own topics when it is left alone.
const OWN_REPLICAS: u32 = 3;
/// More brokers than this on one machine measure the machine.
const MAX_NODES: u32 = 9;

#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct BrokerOptions {
    /// Brokers, each a KRaft controller, too.
    pub(super) nodes: u32,
    /// Java heap of each.
    pub(super) heap: Bytes,
    /// Further arguments of the Java virtual machine.
    #[schemars(extend("secret" = "text"))]
    pub(super) java_options: Vec<String>,
    /// Sync a partition's log after so many messages.
    flush_messages: Option<u64>,
    /// Sync a partition's log after so long.
    flush_interval: Option<Span>,
    /// Bound on coming up; `run.connect` where that is longer.
    pub(super) start_timeout: Span,
    /// Whether clients speak TLS, to a certificate made for the trial; with "mutual" they show one,
    /// too.
    #[schemars(extend("secret" = "none"))]
    pub(super) tls: BrokerTls,
    /// The SASL mechanism that clients log in with.
    pub(super) sasl: Option<Mechanism>,
    /// Whether access lists say who may do what (StandardAuthorizer).
    pub(super) acls: bool,
    /// Any property of Kafka's; wins over all others.
    #[schemars(extend("secret" = "entries"))]
    pub(super) properties: BTreeMap<String, serde_json::Value>,
}

impl Default for BrokerOptions {
    fn default() -> Self {
        Self {
            nodes: 1,
            heap: Bytes(1 << 30),
            java_options: Vec::new(),
            flush_messages: None,
            flush_interval: None,
            start_timeout: Span::secs(60),
            tls: BrokerTls::None,
            sasl: None,
            acls: false,
            properties: BTreeMap::new(),
        }
    }
}

/// Which side of a TLS connection shows a certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, JsonSchema)]
#[serde(try_from = "TlsWord")]
pub(super) enum BrokerTls {
    #[default]
    None,
    Server,
    Mutual,
}

/// As it is written.
#[derive(Deserialize, JsonSchema)]
#[serde(untagged)]
enum TlsWord {
    Flag(bool),
    Word(String),
}

impl TryFrom<TlsWord> for BrokerTls {
    type Error = String;
    fn try_from(word: TlsWord) -> Result<Self, String> {
        match word {
            TlsWord::Flag(false) => Ok(Self::None),
            TlsWord::Flag(true) => Ok(Self::Server),
            TlsWord::Word(word) => match word.as_str() {
                "none" => Ok(Self::None),
                "server" => Ok(Self::Server),
                "mutual" => Ok(Self::Mutual),
                other => Err(format!("`tls` is \"none\", \"server\" or \"mutual\", not {other:?}")),
            },
        }
    }
}

/// A SASL mechanism of the broker.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
pub(super) enum Mechanism {
    #[serde(rename = "PLAIN")]
    Plain,
    #[serde(rename = "SCRAM-SHA-256")]
    Scram256,
    #[serde(rename = "SCRAM-SHA-512")]
    Scram512,
    /// Tokens that an issuer made for the trial has signed.
    #[serde(rename = "OAUTHBEARER")]
    OauthBearer,
}

impl Mechanism {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Plain => "PLAIN",
            Self::Scram256 => "SCRAM-SHA-256",
            Self::Scram512 => "SCRAM-SHA-512",
            Self::OauthBearer => "OAUTHBEARER",
        }
    }
    /// Whether its passwords are in the metadata of the cluster.
    pub(super) fn is_scram(self) -> bool {
        matches!(self, Self::Scram256 | Self::Scram512)
    }
}

/// Where one broker listens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Ports {
    pub(super) host: Ipv4Addr,
    pub(super) client: u16,
    pub(super) broker: u16,
    pub(super) controller: u16,
}

impl Ports {
    /// Where the other brokers connect.
    pub(super) fn between_brokers(self) -> SocketAddrV4 {
        SocketAddrV4::new(self.host, self.broker)
    }
}

impl BrokerOptions {
    /// The options of a system, checked.
    pub fn read(options: &serde_json::Map<String, serde_json::Value>) -> Result<Self, String> {
        match options.get(TABLE) {
            None => Ok(Self::default()),
            Some(table) => Self::of(table.clone()).map_err(|words| format!("`{TABLE}`: {words}")),
        }
    }

    fn of(table: serde_json::Value) -> Result<Self, String> {
        let read: Self = serde_json::from_value(table).map_err(|e| e.to_string())?;
        if !(1..=MAX_NODES).contains(&read.nodes) {
            return Err(format!("option `nodes`: {} is not between 1 and {MAX_NODES}", read.nodes));
        }
        if read.acls && read.sasl.is_none() && read.tls != BrokerTls::Mutual {
            return Err("option `acls`: nobody says who he is; add `sasl`, or tls = \"mutual\"".into());
        }
        Ok(read)
    }

    /// What of it clients have with OpenSSL alone.
    pub(super) fn needs_openssl(&self) -> Option<&'static str> {
        let mechanism = self.sasl.filter(|mechanism| *mechanism != Mechanism::Plain);
        if self.tls != BrokerTls::None { Some("TLS") } else { mechanism.map(Mechanism::name) }
    }

    /// Checks the options of the table.
    pub(super) fn check(table: &SystemOptions) -> Result<(), String> {
        Self::of(table.clone().into()).map(drop)
    }

    /// The properties of broker `node` (from 1), as Kafka reads them; `security` is what the
    /// listener of clients needs.
    pub(super) fn properties(
        &self,
        node: usize,
        all: &[Ports],
        data: &Path,
        security: &BTreeMap<String, String>,
    ) -> BTreeMap<String, String> {
        let here = all[node - 1];
        let own = self.nodes.min(OWN_REPLICAS);
        let enough = if own >= 3 { 2 } else { 1 };
        let voters: Vec<String> =
            all.iter().enumerate().map(|(i, p)| format!("{}@{}:{}", i + 1, p.host, p.controller)).collect();
        let client = match (self.tls != BrokerTls::None, self.sasl.is_some()) {
            (false, false) => "PLAINTEXT",
            (true, false) => "SSL",
            (false, true) => "SASL_PLAINTEXT",
            (true, true) => "SASL_SSL",
        };
        let host = here.host;
        let clients = format!("CLIENT://{host}:{},BROKER://{host}:{}", here.client, here.broker);
        let mut p = BTreeMap::new();
        let mut set = |key: &str, value: String| drop(p.insert(key.to_owned(), value));
        set("process.roles", "broker,controller".into());
        set("node.id", node.to_string());
        set("listeners", format!("{clients},CONTROLLER://{host}:{}", here.controller));
        set("advertised.listeners", clients);
        set("listener.security.protocol.map", format!("CLIENT:{client},BROKER:PLAINTEXT,CONTROLLER:PLAINTEXT"));
        set("inter.broker.listener.name", "BROKER".into());
        set("controller.listener.names", "CONTROLLER".into());
        set("controller.quorum.voters", voters.join(","));
        set("log.dirs", data.display().to_string());
        set("auto.create.topics.enable", "false".into());
        set("default.replication.factor", own.to_string());
        set("min.insync.replicas", enough.to_string());
        // Kafka's own topics: as safe as the nodes allow, and small, because a trial has a few
        // groups and not thousands.
        for topic in ["offsets.topic", "transaction.state.log", "share.coordinator.state.topic"] {
            set(&format!("{topic}.replication.factor"), own.to_string());
            set(&format!("{topic}.num.partitions"), "4".into());
        }
        set("transaction.state.log.min.isr", enough.to_string());
        set("share.coordinator.state.topic.min.isr", enough.to_string());
        group_bounds().into_iter().for_each(|(key, value)| set(&key, value.to_string()));
        // A group must not wait three seconds for members that will not come.
        set("group.initial.rebalance.delay.ms", "0".into());
        if let Some(n) = self.flush_messages {
            set("log.flush.interval.messages", n.to_string());
        }
        if let Some(span) = self.flush_interval {
            let ms = (span.0 / 1_000_000).max(1);
            set("log.flush.interval.ms", ms.to_string());
            set("log.flush.scheduler.interval.ms", ms.to_string());
        }
        p.extend(security.iter().map(|(key, value)| (key.clone(), value.clone())));
        p.extend(self.properties.iter().map(|(key, value)| (key.clone(), plain(value))));
        p
    }

    /// What bears on guarantees or speed, for the record.
    pub(super) fn settings(&self) -> BTreeMap<String, String> {
        let mut all = BTreeMap::from([
            ("launched nodes".to_owned(), self.nodes.to_string()),
            ("java heap".to_owned(), self.heap.to_string()),
        ]);
        if !self.java_options.is_empty() {
            all.insert("java options".into(), self.java_options.join(" "));
        }
        if self.tls != BrokerTls::None {
            all.insert("broker certificate".into(), "made for the trial".into());
        }
        if self.tls == BrokerTls::Mutual {
            all.insert("client certificates".into(), "required".into());
        }
        if self.acls {
            all.insert("acls".into(), "StandardAuthorizer; clients have rights to names of theirs".into());
        }
        if let Some(mechanism) = self.sasl {
            all.insert("sasl".into(), mechanism.name().into());
        }
        let flush = [
            ("broker log.flush.interval.messages", self.flush_messages.map(|n| n.to_string())),
            ("broker log.flush.interval.ms", self.flush_interval.map(|s| (s.0 / 1_000_000).max(1).to_string())),
        ];
        all.extend(flush.into_iter().filter_map(|(key, value)| Some((key.to_owned(), value?))));
        let properties = self.properties.iter();
        all.extend(properties.map(|(key, value)| (format!("broker {key}"), plain(value))));
        all
    }
}

/// Sessions and bounds of the groups that the broker leads itself.
fn group_bounds() -> Vec<(String, u32)> {
    let mut all = vec![
        // What a share group may ask for, not what it has: its lock is 30 s and its limit 5
        // deliveries unless it says otherwise.
        ("group.share.min.record.lock.duration.ms".to_owned(), 1000),
        ("group.share.max.delivery.count.limit".to_owned(), 25),
    ];
    // As long as those of the classic protocol, which msgbench's clients ask for themselves.
    for kind in ["consumer", "share"] {
        let times = [
            ("min.session.timeout", 6000),
            ("session.timeout", 10_000),
            ("min.heartbeat.interval", 1000),
            ("heartbeat.interval", 3000),
        ];
        all.extend(times.map(|(name, ms)| (format!("group.{kind}.{name}.ms"), ms)));
    }
    all
}

/// Properties as a file: a backslash begins an escape there.
pub(super) fn file_of(properties: &BTreeMap<String, String>) -> String {
    let escape = |text: &str| text.replace('\\', "\\\\").replace('\n', "\\n");
    properties.iter().map(|(key, value)| format!("{key}={}\n", escape(value))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ports(n: u16) -> Vec<Ports> {
        (0..n)
            .map(|i| Ports { host: Ipv4Addr::LOCALHOST, client: 100 + i, broker: 200 + i, controller: 300 + i })
            .collect()
    }

    fn read(value: serde_json::Value) -> Result<BrokerOptions, String> {
        BrokerOptions::read(value.as_object().unwrap())
    }

    #[test]
    fn nothing_said_is_one_broker() {
        let options = read(serde_json::json!({ "acks": 1 })).unwrap();
        assert_eq!(options, BrokerOptions::default());
        let p = options.properties(1, &ports(1), Path::new("/d"), &BTreeMap::new());
        assert_eq!(p["controller.quorum.voters"], "1@127.0.0.1:300");
        assert_eq!(p["default.replication.factor"], "1");
        assert_eq!(p["min.insync.replicas"], "1");
        assert_eq!(p["listener.security.protocol.map"], "CLIENT:PLAINTEXT,BROKER:PLAINTEXT,CONTROLLER:PLAINTEXT");
        assert!(!p.contains_key("log.flush.interval.messages"));
    }

    #[test]
    fn three_brokers_replicate_and_properties_win() {
        let options = read(serde_json::json!({ "broker": {
            "nodes": 3, "heap": "256MiB", "flush-messages": 1, "properties": { "num.io.threads": 2, "min.insync.replicas": 1 }
        } }))
        .unwrap();
        let p = options.properties(2, &ports(3), Path::new("/d"), &BTreeMap::new());
        assert_eq!(p["listeners"], "CLIENT://127.0.0.1:101,BROKER://127.0.0.1:201,CONTROLLER://127.0.0.1:301");
        assert_eq!(p["offsets.topic.replication.factor"], "3");
        assert_eq!(p["transaction.state.log.min.isr"], "2");
        assert_eq!(p["min.insync.replicas"], "1");
        assert_eq!(p["log.flush.interval.messages"], "1");
        let settings = options.settings();
        assert_eq!(settings["broker num.io.threads"], "2");
        assert_eq!(settings["java heap"], "256MiB");
    }

    #[test]
    fn mistakes_are_named() {
        assert!(read(serde_json::json!({ "broker": { "node": 3 } })).unwrap_err().contains("unknown field `node`"));
        assert!(read(serde_json::json!({ "broker": { "nodes": 0 } })).unwrap_err().contains("not between 1 and 9"));
        assert!(read(serde_json::json!({ "broker": { "sasl": "GSSAPI" } })).unwrap_err().contains("SCRAM-SHA-256"));
        let told = |broker| read(serde_json::json!({ "broker": broker })).unwrap_err();
        assert!(told(serde_json::json!({ "tls": "both" })).contains("\"mutual\", not \"both\""));
        assert!(told(serde_json::json!({ "acls": true, "tls": true })).contains("nobody says who he is"));
        assert!(read(serde_json::json!({ "broker": { "acls": true, "tls": "mutual" } })).is_ok());
    }

    #[test]
    fn a_file_escapes_what_java_would_read_otherwise() {
        let p = BTreeMap::from([("a".to_owned(), "x\\y\nz".to_owned())]);
        assert_eq!(file_of(&p), "a=x\\\\y\\nz\n");
    }
}
