//! Redis Streams, with the commands and values of the client library `redis`.
//!
//! # Background
//! The asynchronous connection of the library is a task behind a channel: a channel hop and a
//! oneshot for each request, a vector of values for each answer, and the instant at which all of it
//! has been parsed as the only one that a caller can see. An arrival is to be stamped when the read
//! returns that brought it. So connections are our own (`connection`), one buffer each way; the
//! library writes the commands, and reads the answers of administration.
//! # Design
//! A channel of a workload is one stream. Producers append with XADD, and write what is due in one
//! write; each answer is an acknowledgement. A group of consumers is a consumer group: its members
//! read with XREADGROUP and accept with XACK, all messages of a batch at once. Redis has no "not
//! acknowledged": what is rejected stays pending until a member claims it (XAUTOCLAIM) after
//! `claim-after`. It has no dead letters either: the last rejection is appended to a stream of its
//! own and accepted, by this client, as users of Redis do it.
//! # Promise
//! At least once. Each stream keeps its order, but a message that is claimed comes later, and the
//! members of a group take turns. A connection that is lost is an incident, and another takes its
//! place within the bound of the target.

mod connection;
mod consume;
mod produce;
mod reply;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use redis::{Value, cmd};
use schemars::JsonSchema;
use serde::Deserialize;

use connection::{RedisConnection, RedisEndpoint};
pub use consume::RedisConsumer;
pub use produce::RedisProducer;

use super::{
    Acknowledgement, ClientSlot, Delivery, Driver, DriverError, Durability, Facts, Guarantees, Incidents, Order, Start,
    Stated, Target,
};
use crate::plan::Workload;
use crate::plan::options::{OptionSet, SystemOptions, read};
use crate::units::Span;

/// What speaks to the server.
const CLIENT: &str = concat!("msgbench ", env!("CARGO_PKG_VERSION"), ", commands of redis 1.8");
/// The field of an entry that holds the message.
const FIELD: &str = "m";
/// What is read back, because promises or speed hang on it.
const SETTINGS: [&str; 6] = ["appendonly", "appendfsync", "save", "maxmemory", "maxmemory-policy", "io-threads"];

/// The options of the client, in `system.options`.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct RedisOptions {
    /// Messages of a producer that may be unacknowledged. Default: 4096.
    pub in_flight: usize,
    /// Messages of one XREADGROUP. Default: 512.
    pub batch: usize,
    /// Entries that a stream keeps, about: XADD MAXLEN ~. Default: all.
    pub max_length: Option<u64>,
    /// How long a message is pending before a member of its group claims it. Default: 500ms where
    /// the workload rejects messages, otherwise never.
    pub claim_after: Option<Span>,
}

impl Default for RedisOptions {
    fn default() -> Self {
        Self { in_flight: 4096, batch: 512, max_length: None, claim_after: None }
    }
}

impl RedisOptions {
    fn from_options(options: &SystemOptions) -> Result<Self, String> {
        let it: Self = read(options)?;
        for (name, value) in [("in-flight", it.in_flight), ("batch", it.batch)] {
            if !(1..=100_000).contains(&value) {
                return Err(format!("option `{name}`: {value} is not between 1 and 100000"));
            }
        }
        if it.max_length == Some(0) {
            return Err("option `max-length`: a stream that keeps nothing delivers nothing".to_owned());
        }
        if it.claim_after.is_some_and(|span| span < Span::millis(1)) {
            return Err("option `claim-after`: must be at least 1ms".to_owned());
        }
        Ok(it)
    }

    fn check(options: &SystemOptions) -> Result<(), String> {
        Self::from_options(options).map(drop)
    }

    /// How long a message of this workload is pending before it is claimed.
    fn claim(&self, w: &Workload) -> Option<Duration> {
        let rejects = w.delivery.reject_every > 0 || w.delivery.dead_every > 0;
        self.claim_after.or(rejects.then_some(Span::millis(500))).map(Span::duration)
    }
}

/// Redis Streams, for one trial.
pub struct RedisDriver {
    endpoint: Arc<RedisEndpoint>,
    run: u32,
    options: RedisOptions,
    workloads: Vec<Workload>,
    facts: Facts,
    incidents: Incidents,
    /// Another process takes away what there is.
    joins: bool,
}

/// A value in words.
fn text(value: &Value) -> String {
    match value {
        Value::BulkString(bytes) => String::from_utf8_lossy(bytes).into_owned(),
        Value::SimpleString(text) => text.clone(),
        Value::Int(n) => n.to_string(),
        _ => String::new(),
    }
}

impl RedisDriver {
    /// The stream of a channel.
    fn key(&self, workload: usize, channel: u32) -> String {
        format!("mb:{:08x}:{workload}:{channel}", self.run)
    }

    /// The stream of the dead letters of a workload.
    fn dead(&self, workload: usize) -> String {
        format!("mb:{:08x}:{workload}:dead", self.run)
    }

    fn keys(&self, workload: usize) -> Vec<String> {
        (0..self.workloads[workload].topology.channels).map(|channel| self.key(workload, channel)).collect()
    }
}

/// What the server is, and what it promises.
async fn describe(connection: &mut RedisConnection) -> Result<Facts, DriverError> {
    let info = connection.ask("ask for the version", cmd("INFO").arg("server")).await?;
    let info = text(&info);
    let version = info.lines().find_map(|line| line.strip_prefix("redis_version:")).unwrap_or("unknown").trim();
    let mut settings = BTreeMap::new();
    for name in SETTINGS {
        // A user who may not ask makes the durability unknown, which is said.
        if let Ok(Value::Array(pair)) = connection.ask("read the settings", cmd("CONFIG").arg("GET").arg(name)).await
            && let [_, value] = &pair[..]
        {
            settings.insert(name.to_owned(), text(value));
        }
    }
    let guarantees = Guarantees {
        delivery: Stated::new(Delivery::AtLeastOnce, "at least once"),
        order: Stated::new(Order::Stream, "per stream, but for redelivery"),
        acknowledgement: Stated::new(Acknowledgement::Leader, "XADD is answered; consume XACK"),
        durability: durability(&settings),
    };
    settings.insert("tls".to_owned(), "off".to_owned());
    Ok(Facts { version: format!("Redis {version}"), client: CLIENT.into(), guarantees, settings, ..Facts::default() })
}

/// Where an acknowledged message is, by the server's settings.
fn durability(settings: &BTreeMap<String, String>) -> Stated<Durability> {
    let of = |name: &str| settings.get(name).map(String::as_str);
    match (of("appendonly"), of("appendfsync"), of("save")) {
        (Some("yes"), Some("always"), _) => {
            Stated::new(Durability::SyncedFirst, "append-only file, synced before it is acknowledged")
        }
        (Some("yes"), Some("everysec"), _) => Stated::new(Durability::Synced, "append-only file, synced every second"),
        (Some("yes"), ..) => {
            Stated::new(Durability::File, "append-only file in the page cache: the kernel writes when it likes")
        }
        (Some(_), _, None | Some("")) => Stated::new(Durability::Memory, "memory"),
        (Some(_), _, Some(save)) => Stated::new(Durability::Memory, format!("memory, with snapshots ({save})")),
        (None, ..) => Stated::new(Durability::Unstated, "unknown: the server does not tell its settings"),
    }
}

/// The identifier that a group begins behind: entries are numbered by milliseconds of time.
fn after(start: Start) -> Result<String, DriverError> {
    match start {
        Start::Tail => Ok("$".to_owned()),
        Start::First | Start::Time(0..1_000_000) => Ok("0".to_owned()),
        Start::Time(ns) => Ok(format!("{}-{}", ns / 1_000_000 - 1, u64::MAX)),
        Start::Offset(_) => {
            let words = "a stream of Redis numbers its entries by time: start with the first one, or at a time";
            Err(DriverError::Option { words: words.into() })
        }
    }
}

impl Driver for RedisDriver {
    type Producer = RedisProducer;
    type Consumer = RedisConsumer;
    const STORES: bool = true;

    /// Streams and groups are made by whoever comes first.
    fn joins(_: &Workload) -> Result<(), &'static str> {
        Ok(())
    }

    fn options() -> Vec<OptionSet> {
        vec![OptionSet::of::<RedisOptions>(RedisOptions::check)]
    }

    async fn prepare(target: Target, workloads: &[Workload]) -> Result<Self, DriverError> {
        let options = RedisOptions::from_options(&target.options).map_err(|words| DriverError::Option { words })?;
        let (endpoint, incidents) = (RedisEndpoint::of(&target)?, Incidents::default());
        let mut connection = RedisConnection::open(&endpoint, &incidents, "msgbench-admin").await?;
        let facts = describe(&mut connection).await?;
        let (workloads, joins) = (workloads.to_vec(), target.joins());
        Ok(Self { endpoint, run: target.run, options, workloads, facts, incidents, joins })
    }
    fn facts(&self) -> &Facts {
        &self.facts
    }
    fn incidents(&self) -> &Incidents {
        &self.incidents
    }

    async fn producer(&self, slot: ClientSlot) -> Result<RedisProducer, DriverError> {
        let connection = RedisConnection::open(&self.endpoint, &self.incidents, "msgbench-producer").await?;
        let limits = (self.options.in_flight, self.options.max_length);
        Ok(RedisProducer::new(connection, self.keys(slot.workload), limits))
    }

    async fn consumer(&self, slot: ClientSlot, start: Start) -> Result<RedisConsumer, DriverError> {
        let after = after(start)?;
        let mut connection = RedisConnection::open(&self.endpoint, &self.incidents, "msgbench-consumer").await?;
        let keys = self.keys(slot.workload);
        let group = format!("g{}", slot.group);
        for key in &keys {
            let made = connection.ask("make a consumer group", &consume::group(key, &group, &after)).await;
            match made {
                // Another member of the group was first.
                Err(DriverError::Admin { words, .. }) if words.contains("BUSYGROUP") => {}
                other => drop(other?),
            }
        }
        let w = &self.workloads[slot.workload];
        let source = consume::GroupSource {
            keys,
            dead: self.dead(slot.workload),
            group,
            member: format!("c{}", slot.index),
            batch: self.options.batch,
            claim: self.options.claim(w),
            max_deliver: w.delivery.max_deliver,
        };
        Ok(RedisConsumer::new(connection, source))
    }

    async fn cleanup(self) -> Result<(), DriverError> {
        if self.joins {
            return Ok(());
        }
        let mut connection = RedisConnection::open(&self.endpoint, &self.incidents, "msgbench-admin").await?;
        for workload in 0..self.workloads.len() {
            let mut command = cmd("DEL");
            command.arg(self.keys(workload)).arg(self.dead(workload));
            connection.ask("remove the streams", &command).await?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn durability_follows_from_what_the_server_says() {
        let of = |pairs: &[(&str, &str)]| {
            let stated = durability(&pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect());
            (stated.level, stated.words)
        };
        let on = ("appendonly", "yes");
        assert_eq!(of(&[on, ("appendfsync", "always")]).0, Durability::SyncedFirst);
        assert_eq!(of(&[on, ("appendfsync", "everysec")]).0, Durability::Synced);
        assert_eq!(of(&[on, ("appendfsync", "no")]).0, Durability::File);
        let memory = of(&[("appendonly", "no"), ("appendfsync", "always"), ("save", "")]);
        assert_eq!(memory, (Durability::Memory, "memory".to_owned()));
        let (level, words) = of(&[("appendonly", "no"), ("save", "60 1000")]);
        assert!(level == Durability::Memory && words.contains("snapshots (60 1000)"), "{words}");
        assert_eq!(of(&[]).0, Durability::Unstated);
    }

    #[test]
    fn options_are_checked() {
        let check = |value: serde_json::Value| RedisOptions::check(value.as_object().unwrap());
        assert_eq!(check(json!({ "batch": 10, "claim-after": "1s", "appendonly": true })), Ok(()));
        assert!(check(json!({ "batch": 0 })).unwrap_err().contains("`batch`: 0 is not between"));
        assert!(check(json!({ "claim-after": "0s" })).unwrap_err().contains("at least 1ms"));
        assert!(check(json!({ "max-length": 0 })).unwrap_err().contains("keeps nothing"));
    }

    #[test]
    fn a_group_begins_before_the_first_entry_of_its_instant() {
        assert_eq!(after(Start::Tail).unwrap(), "$");
        assert_eq!(after(Start::First).unwrap(), "0");
        assert_eq!(after(Start::Time(1_700_000_000_123_999_999)).unwrap(), "1700000000122-18446744073709551615");
        assert_eq!(after(Start::Time(5)).unwrap(), "0");
        assert!(after(Start::Offset(7)).unwrap_err().to_string().contains("numbers its entries by time"));
    }
}
