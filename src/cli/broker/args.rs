//! The options of `msgbench broker`.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use clap::{Args, ValueEnum};

use super::kafka;
use crate::broker::{
    Auth, BrokerError, Config, FaultOptions, LameDuck, SlowConsumer, StreamStorage, TlsFiles, User, users,
};
use crate::faults::Faults;
use crate::units::{Bytes, Span};

/// Serve NATS or Kafka clients with the built-in reference broker.
///
/// A single-node router that speaks the NATS client protocol: publish/subscribe with `*` and `>`,
/// queue groups, request/reply, headers. Any NATS client can use it. With --kafka, a single-node
/// log that speaks Kafka's protocol: topics, partitions, consumer groups, replay. Any Kafka client
/// can use it.
///
/// One line on standard output says that it is ready and where; another, at the end, what it has
/// counted. SIGTERM, SIGINT or SIGHUP drains (what has been received is routed and handed over) and
/// ends; a second one ends at once. SIGUSR2 starts lame duck mode: clients are told to leave, and
/// the rest is closed bit by bit.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  msgbench broker\n  msgbench broker --listen 127.0.0.1:0 --format json\n  \
    msgbench broker --user ann --pass secret --slow-consumer drop-newest --max-pending 1MiB")]
pub struct BrokerArgs {
    /// Address and port for NATS clients [default: 127.0.0.1:4222, unless --kafka is given]; port 0
    /// takes a free one, and the ready line says which. `[::]` takes IPv4 clients as well. May be
    /// repeated.
    #[arg(long, value_name = "ADDRESS:PORT")]
    pub listen: Vec<SocketAddr>,

    /// Address and port for the monitoring pages of nats-server (/varz, /connz, /subsz, /healthz),
    /// or a port of this machine alone; everybody who can reach it can read who is connected.
    #[arg(short = 'm', long, value_name = "ADDRESS:PORT", value_parser = monitor)]
    pub monitor: Option<SocketAddr>,

    /// Address and port for WebSocket clients, encrypted with --tls-cert if that is given.
    #[arg(long, value_name = "ADDRESS:PORT")]
    pub websocket: Option<SocketAddr>,

    /// Name of the server, as clients see it.
    #[arg(long, value_name = "NAME", default_value = "msgbench")]
    pub name: String,

    /// User who may connect; needs --pass.
    #[arg(long, value_name = "USER", requires = "pass", conflicts_with = "token")]
    pub user: Option<String>,

    /// Password of --user.
    #[arg(long, value_name = "PASSWORD", requires = "user")]
    pub pass: Option<String>,

    /// Public NKey (U...) of a user who may connect by signing the server's nonce; may be repeated.
    #[arg(long, value_name = "PUBLIC-KEY", conflicts_with = "token")]
    pub nkey: Vec<String>,

    /// TOML file of users (names and passwords, NKeys, names in certificates) and what each may
    /// publish and subscribe to (docs/broker.md).
    #[arg(long, value_name = "FILE", conflicts_with = "token")]
    pub users: Option<PathBuf>,

    /// Token that clients must present.
    #[arg(long, value_name = "TOKEN")]
    pub token: Option<String>,

    /// How long a client may take to authenticate.
    #[arg(long, value_name = "DURATION", default_value = "2s")]
    pub auth_timeout: Span,

    /// How long a client may take to complete a TLS handshake; with --kafka, --auth-timeout says
    /// it.
    #[arg(long, value_name = "DURATION", default_value = "2s")]
    pub tls_timeout: Span,

    /// Certificate chain (PEM); turns TLS on.
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    pub tls_cert: Option<PathBuf>,

    /// Private key of --tls-cert (PEM).
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    pub tls_key: Option<PathBuf>,

    /// Authorities (PEM); clients must then present a certificate signed by one of them.
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    pub tls_ca: Option<PathBuf>,

    /// Expect the TLS handshake before INFO is sent, not after it.
    #[arg(long, requires = "tls_cert")]
    pub tls_first: bool,

    /// Let clients stay without encryption if they want none.
    #[arg(long, requires = "tls_cert", conflicts_with = "tls_first")]
    pub tls_optional: bool,

    /// Largest payload accepted, headers included. With --kafka also the largest message of a topic
    /// that says nothing else (`max.message.bytes`).
    #[arg(long, value_name = "SIZE", default_value = "1MiB")]
    pub max_payload: Bytes,

    /// Longest control line accepted.
    #[arg(long, value_name = "SIZE", default_value = "4KiB")]
    pub max_control_line: Bytes,

    /// Bytes that may wait for one client before --slow-consumer applies.
    #[arg(long, value_name = "SIZE", default_value = "64MiB")]
    pub max_pending: Bytes,

    /// Clients connected at once.
    #[arg(long, value_name = "N", default_value_t = 65_536)]
    pub max_connections: usize,

    /// Subscriptions of one client.
    #[arg(long, value_name = "N", default_value_t = 100_000)]
    pub max_subscriptions: usize,

    /// What happens to a client that reads more slowly than it is sent to.
    #[arg(long, value_enum, default_value_t = SlowPolicyArg::Disconnect)]
    pub slow_consumer: SlowPolicyArg,

    /// How long a client may take no byte of what waits for it before it is closed as a slow
    /// consumer.
    #[arg(long, value_name = "DURATION", default_value = "10s")]
    pub write_deadline: Span,

    /// After how long a silence a client is sent a PING.
    #[arg(long, value_name = "DURATION", default_value = "2m")]
    pub ping_interval: Span,

    /// PINGs that may go unanswered before a client is closed as stale.
    #[arg(long, value_name = "N", default_value_t = 2)]
    pub ping_max: u32,

    /// In lame duck mode: how long clients may leave by themselves.
    #[arg(long, value_name = "DURATION", default_value = "10s")]
    pub lame_duck_grace: Span,

    /// In lame duck mode: over how long the remaining clients are then closed.
    #[arg(long, value_name = "DURATION", default_value = "110s")]
    pub lame_duck_spread: Span,

    /// How long the drain at the end may take.
    #[arg(long, value_name = "DURATION", default_value = "5s")]
    pub drain_timeout: Span,

    /// Serve streams of JetStream too, as far as docs/broker.md says, and keep them in this
    /// directory.
    #[arg(long, value_name = "DIR")]
    pub jetstream: Option<PathBuf>,

    /// When messages of streams are made to survive a loss of power, as --sync says it of the log.
    #[arg(long, value_name = "POLICY", default_value = "never", requires = "jetstream")]
    pub jetstream_sync: kafka::SyncArg,

    /// Threads that serve; the default is one per core, at most four.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=256))]
    pub workers: Option<u16>,

    /// File to write the port number to once clients may connect; it appears whole or not at all.
    #[arg(long, value_name = "FILE")]
    pub port_file: Option<PathBuf>,

    /// A fault to have, such as drop=every:7, stall=at:2s,for:100ms, service=exponential:500us,
    /// delay=fixed:1ms, rate-cap=rate:5k/s, swap=probability:0.01, seed=3, subjects=orders.>; may
    /// be repeated (docs/calibration.md). With --kafka faults hit the batches of the log
    /// (docs/log.md).
    #[arg(long, value_name = "NAME=ITEM:VALUE,...")]
    pub fault: Vec<String>,

    /// File with faults: the keys of the table `faults`, as TOML or JSON. What --fault says wins.
    #[arg(long, value_name = "FILE")]
    pub faults: Option<PathBuf>,

    /// File that gets a line of JSON for each injected event; it is made anew.
    #[arg(long, value_name = "FILE")]
    pub fault_log: Option<PathBuf>,

    /// Loopback address on which faults can be changed while the broker runs: lines
    /// `set NAME=ITEM:VALUE,...`, `clear`, `show`; port 0 takes a free one, and the ready line says
    /// which (docs/calibration.md).
    #[arg(long, value_name = "ADDRESS:PORT")]
    pub fault_control: Option<SocketAddr>,

    /// How the ready line and the closing line are written.
    #[arg(long, value_enum, default_value_t = LineFormat::Text)]
    pub format: LineFormat,

    /// The log half.
    #[command(flatten)]
    pub log: kafka::KafkaArgs,
}

/// The slow-consumer policy, as typed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum SlowPolicyArg {
    /// Close the slow client, as nats-server does.
    Disconnect,
    /// Drop the newest messages for it and count them.
    DropNewest,
    /// Let its publishers wait.
    Block,
}

/// How lines for the caller are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum LineFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

impl BrokerArgs {
    pub(super) fn workers(&self) -> usize {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        self.workers.map_or(cores.min(4), usize::from)
    }

    pub(super) fn fault_options(&self) -> Result<FaultOptions, BrokerError> {
        let faults = self.faults.as_deref().map(Faults::read).transpose()?.unwrap_or_default();
        Ok(FaultOptions {
            faults: faults.with_flags(&self.fault)?,
            log: self.fault_log.clone(),
            control: self.fault_control,
        })
    }

    fn auth(&self) -> Result<Auth, BrokerError> {
        if let Some(token) = &self.token {
            return Ok(Auth::Token(token.clone()));
        }
        let mut all: Vec<User> = self.nkey.iter().map(User::nkey).collect();
        if let (Some(name), Some(password)) = (&self.user, &self.pass) {
            all.push(User::password(name, password));
        }
        if let Some(file) = &self.users {
            all.extend(users::read(file)?);
        }
        Ok(if all.is_empty() { Auth::None } else { Auth::Users(all) })
    }

    pub(super) fn config(&self) -> Result<Config, BrokerError> {
        let tls = self.tls_cert.as_ref().zip(self.tls_key.as_ref()).map(|(cert, key)| TlsFiles {
            cert: cert.clone(),
            key: key.clone(),
            client_ca: self.tls_ca.clone(),
            first: self.tls_first,
        });
        let size = |bytes: Bytes| usize::try_from(bytes.0).unwrap_or(usize::MAX);
        let (listen, listen_too) = match self.listen.split_first() {
            Some((first, rest)) => (*first, rest.to_vec()),
            None => (Config::default().listen, Vec::new()),
        };
        Ok(Config {
            listen,
            listen_too,
            monitor: self.monitor,
            websocket: self.websocket,
            server_name: self.name.clone(),
            max_payload: size(self.max_payload),
            max_control_line: size(self.max_control_line),
            max_pending: size(self.max_pending),
            max_connections: self.max_connections,
            max_subscriptions: self.max_subscriptions,
            ping_interval: self.ping_interval.duration(),
            ping_max: self.ping_max,
            auth: self.auth()?,
            auth_timeout: self.auth_timeout.duration(),
            tls_timeout: self.tls_timeout.duration(),
            tls,
            tls_optional: self.tls_optional,
            slow_consumer: match self.slow_consumer {
                SlowPolicyArg::Disconnect => SlowConsumer::Disconnect,
                SlowPolicyArg::DropNewest => SlowConsumer::DropNewest,
                SlowPolicyArg::Block => SlowConsumer::Block,
            },
            write_deadline: self.write_deadline.duration(),
            lame_duck: LameDuck { grace: self.lame_duck_grace.duration(), spread: self.lame_duck_spread.duration() },
            drain_timeout: self.drain_timeout.duration(),
            fault_options: self.fault_options()?,
            jetstream: self.jetstream.clone().map(|dir| StreamStorage { dir, sync: self.jetstream_sync.0 }),
        })
    }
}

/// An address and a port, or a port of this machine alone.
fn monitor(text: &str) -> Result<SocketAddr, String> {
    match text.parse::<u16>() {
        Ok(port) => Ok(SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), port)),
        Err(_) => text.parse().map_err(|_| "write ADDRESS:PORT, such as 127.0.0.1:8222, or a port".to_owned()),
    }
}
