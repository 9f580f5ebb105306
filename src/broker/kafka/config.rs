//! What the Kafka face can be told.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use super::super::faults::Misbehaviour;
use super::super::log::Options;
use crate::broker::shared::Tls;

/// Everything a [`KafkaBroker`](super::KafkaBroker) is bound with.
#[derive(Clone)]
pub struct KafkaConfig {
    /// Where to listen; port 0 takes a free one. Clients are told the address they have connected to.
    pub listen: SocketAddr,
    /// The broker's id.
    pub node: i32,
    /// The log: its directory, sync policy, segments, retention.
    pub log: Options,
    /// Encryption, if any; `first` means nothing here.
    pub tls: Option<Tls>,
    /// Users who may connect by SASL PLAIN, with their passwords; empty lets everybody in without.
    pub users: Vec<(String, String)>,
    /// Connections open at once.
    pub max_connections: usize,
    /// Longest request in bytes.
    pub max_request: usize,
    /// Bytes of requests longer than 64 KiB that may be on their way in, over all connections.
    pub max_inflight: usize,
    /// Longest response to a fetch in bytes, whatever the client asks for.
    pub max_fetch: usize,
    /// How long a client may take to authenticate, or to complete a TLS handshake.
    pub auth_timeout: Duration,
    /// After how long a silence a connection is closed.
    pub idle_timeout: Duration,
    /// How long a client may take no byte of what is sent to it.
    pub write_deadline: Duration,
    /// Whether asking for a topic that does not exist makes it.
    pub auto_create: bool,
    /// Partitions of a topic whose maker leaves the number to the broker.
    pub partitions: u32,
    /// How long the first rebalance of an empty group waits for more members.
    pub initial_rebalance_delay: Duration,
    /// Consumer groups, and members of one, at most.
    pub max_groups: usize,
    /// Members of a group at most.
    pub max_members: usize,
    /// What it is to do wrong.
    pub misbehaviour: Misbehaviour,
}

impl KafkaConfig {
    /// The defaults over a log in that directory.
    pub fn new(dir: impl Into<PathBuf>) -> Self {
        Self {
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 9092)),
            node: 1,
            log: Options::new(dir),
            tls: None,
            users: Vec::new(),
            max_connections: 10_000,
            max_request: 100 << 20,
            max_inflight: 256 << 20,
            max_fetch: 55 << 20,
            auth_timeout: Duration::from_secs(5),
            idle_timeout: Duration::from_secs(600),
            write_deadline: Duration::from_secs(30),
            auto_create: true,
            partitions: 1,
            initial_rebalance_delay: Duration::ZERO,
            max_groups: 10_000,
            max_members: 1_000,
            misbehaviour: Misbehaviour::default(),
        }
    }
}
