//! What a broker can be told. Every default is nats-server's unless its docstring says otherwise.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use serde::Serialize;

use super::users::User;
use crate::broker::faults::FaultOptions;
use crate::broker::log::SyncPolicy;
use crate::broker::shared::TlsFiles;

/// Everything a [`Broker`](super::Broker) is bound with.
#[derive(Debug, Clone)]
pub struct Config {
    /// Where to listen; port 0 takes a free one. Loopback unless told otherwise. `[::]` takes IPv4
    /// clients as well.
    pub listen: SocketAddr,
    /// Further addresses to listen on.
    pub listen_too: Vec<SocketAddr>,
    /// Where the monitoring pages are served, if they are.
    pub monitor: Option<SocketAddr>,
    /// Where WebSocket clients are served, if they are; encrypted if the others are.
    pub websocket: Option<SocketAddr>,
    /// The name in INFO.
    pub server_name: String,
    /// Largest payload, headers included, in bytes. At most 64 MiB.
    pub max_payload: usize,
    /// Longest argument of a control line, in bytes.
    pub max_control_line: usize,
    /// Bytes that may wait for one connection before the slow-consumer policy applies.
    pub max_pending: usize,
    /// Connections open at once.
    pub max_connections: usize,
    /// Subscriptions per connection; the real server has no limit by default, this broker bounds
    /// everything.
    pub max_subscriptions: usize,
    /// After how long a silence the client is sent a PING.
    pub ping_interval: Duration,
    /// PINGs that may go unanswered before the connection is closed as stale.
    pub ping_max: u32,
    /// Who may connect.
    pub auth: Auth,
    /// How long a client may take to send valid credentials.
    pub auth_timeout: Duration,
    /// How long a client may take to complete a TLS handshake.
    pub tls_timeout: Duration,
    /// Encryption, if any.
    pub tls: Option<TlsFiles>,
    /// Whether clients may stay without encryption where there is one.
    pub tls_optional: bool,
    /// What happens to a connection that reads more slowly than it is sent to.
    pub slow_consumer: SlowConsumer,
    /// How long one write may make no progress before the connection counts as a slow consumer.
    pub write_deadline: Duration,
    /// How lame duck mode lets its clients go.
    pub lame_duck: LameDuck,
    /// How long a drain may take to hand over what is buffered.
    pub drain_timeout: Duration,
    /// How it misbehaves on purpose; the default is not at all.
    pub fault_options: FaultOptions,
    /// Where streams of JetStream are kept, if they are served.
    pub jetstream: Option<StreamStorage>,
}

/// Where streams are kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StreamStorage {
    /// Made if it is not there.
    pub dir: PathBuf,
    /// When messages are made to survive a loss of power.
    pub sync: SyncPolicy,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 4222)),
            listen_too: Vec::new(),
            monitor: None,
            websocket: None,
            server_name: "msgbench".to_owned(),
            max_payload: 1 << 20,
            max_control_line: 4096,
            max_pending: 64 << 20,
            max_connections: 65_536,
            max_subscriptions: 100_000,
            ping_interval: Duration::from_secs(120),
            ping_max: 2,
            auth: Auth::None,
            auth_timeout: Duration::from_secs(2),
            tls_timeout: Duration::from_secs(2),
            tls: None,
            tls_optional: false,
            slow_consumer: SlowConsumer::Disconnect,
            write_deadline: Duration::from_secs(10),
            lame_duck: LameDuck::default(),
            drain_timeout: Duration::from_secs(5),
            fault_options: FaultOptions::default(),
            jetstream: None,
        }
    }
}

/// Who may connect.
#[derive(Debug, Clone, Default)]
pub enum Auth {
    /// Everybody.
    #[default]
    None,
    /// Clients that present this token.
    Token(String),
    /// Any of these users.
    Users(Vec<User>),
}

/// What happens to messages for a connection whose outbound buffer has reached `max_pending`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum SlowConsumer {
    /// The connection is closed, as nats-server does; its publishers are held back for up to 10 ms
    /// a batch above 75 %.
    #[default]
    Disconnect,
    /// The newest messages are dropped and counted; the connection stays.
    DropNewest,
    /// Publishers wait until the buffer is below 75 %; the connection is closed only if it reads
    /// nothing for `write_deadline`.
    Block,
}

/// How lame duck mode lets its clients go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LameDuck {
    /// How long clients may leave by themselves after the announcement.
    pub grace: Duration,
    /// Over how long the remaining ones are then closed, evenly spread.
    pub spread: Duration,
}

impl Default for LameDuck {
    fn default() -> Self {
        Self { grace: Duration::from_secs(10), spread: Duration::from_secs(110) }
    }
}
