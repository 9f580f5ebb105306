//! What the Kafka face can be told.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use super::super::faults::FaultOptions;
use super::super::log::LogOptions;
use crate::broker::shared::TlsFiles;

/// Everything a [`KafkaBroker`](super::KafkaBroker) is bound with.
#[derive(Clone)]
pub struct KafkaConfig {
    /// Where to listen; port 0 takes a free one.
    pub listen: SocketAddr,
    /// What clients are told instead of the address they have connected to, where a proxy or
    /// another host is in between.
    pub advertise: Option<Advertised>,
    /// The broker's id.
    pub node: i32,
    /// The log: its directory, sync policy, segments, retention.
    pub log: LogOptions,
    /// Encryption, if any; `first` means nothing here.
    pub tls: Option<TlsFiles>,
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
    /// Session timeouts a member of a group may ask for, in milliseconds.
    pub sessions: RangeInclusive<i32>,
    /// How often members of the new group protocol are to say something, and after how long a
    /// silence they are out.
    pub consumer_heartbeat: Duration,
    pub consumer_session: Duration,
    /// Consumer groups, and members of one, at most.
    pub max_groups: usize,
    /// Members of a group at most.
    pub max_members: usize,
    /// What it is to do wrong.
    pub fault_options: FaultOptions,
}

impl KafkaConfig {
    /// The defaults over a log in that directory.
    pub fn new(dir: impl Into<PathBuf>) -> Self {
        Self {
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 9092)),
            advertise: None,
            node: 1,
            log: LogOptions::new(dir),
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
            sessions: 6_000..=1_800_000,
            consumer_heartbeat: Duration::from_secs(5),
            consumer_session: Duration::from_secs(45),
            max_groups: 10_000,
            max_members: 1_000,
            fault_options: FaultOptions::default(),
        }
    }
}

/// An address that clients are told to connect to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Advertised {
    /// A name or an address; an IPv6 address without brackets.
    pub host: String,
    /// Its port; `None` is the port listened on.
    pub port: Option<u16>,
}

impl FromStr for Advertised {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = |reason: &str| Err(format!("`{text}` {reason}: write HOST, HOST:PORT or [IPV6]:PORT"));
        let (host, port) = match text.strip_prefix('[') {
            Some(rest) => match rest.split_once(']') {
                Some((host, "")) => (host, None),
                Some((host, after)) => match after.strip_prefix(':') {
                    Some(port) => (host, Some(port)),
                    None => return wrong("has something other than a port after the bracket"),
                },
                None => return wrong("has an open bracket"),
            },
            None if text.parse::<Ipv6Addr>().is_ok() => (text, None),
            None => match text.split_once(':') {
                Some((host, port)) => (host, Some(port)),
                None => (text, None),
            },
        };
        let address = host.parse::<IpAddr>().ok();
        if text.starts_with('[') && !matches!(address, Some(IpAddr::V6(_))) {
            return wrong("has no IPv6 address in its brackets");
        }
        if address.is_some_and(|address| address.is_unspecified()) {
            return wrong("names no host a client can connect to");
        }
        let legal = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_');
        if address.is_none() && (!(1..=253).contains(&host.len()) || !host.bytes().all(legal)) {
            return wrong("has no valid name of a host");
        }
        let port = match port.map(str::parse::<u16>) {
            None => None,
            Some(Ok(port)) if port > 0 => Some(port),
            Some(_) => return wrong("has no port from 1 to 65535"),
        };
        Ok(Self { host: host.to_owned(), port })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_advertised_address_is_read_or_refused_with_the_reason() {
        for (text, host, port) in [
            ("kafka.example", "kafka.example", None),
            ("kafka.example:9093", "kafka.example", Some(9093)),
            ("10.0.0.1:1", "10.0.0.1", Some(1)),
            ("[::1]:65535", "::1", Some(65535)),
            ("[fe80::1]", "fe80::1", None),
            ("fe80::1", "fe80::1", None),
        ] {
            assert_eq!(text.parse(), Ok(Advertised { host: host.into(), port }), "{text}");
        }
        for (text, reason) in [
            ("", "no valid name of a host"),
            (":9092", "no valid name of a host"),
            ("a b:9092", "no valid name of a host"),
            ("kafka://a:9092", "no port from 1 to 65535"),
            ("a:0", "no port from 1 to 65535"),
            ("a:65536", "no port from 1 to 65535"),
            ("a:", "no port from 1 to 65535"),
            ("0.0.0.0:9092", "no host a client can connect to"),
            ("[::]:9092", "no host a client can connect to"),
            ("[::1", "an open bracket"),
            ("[::1]9092", "other than a port"),
            ("[a]:9092", "no IPv6 address"),
        ] {
            let words = text.parse::<Advertised>().unwrap_err();
            assert!(words.contains(reason) && words.contains("write HOST"), "{text}: {words}");
        }
    }
}
