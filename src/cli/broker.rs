//! `msgbench broker`: the reference broker alone, for ordinary clients.

mod kafka;

use std::io::Write as _;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use clap::{Args, ValueEnum};
use serde_json::json;
use tokio::signal::unix::{SignalKind, signal};

use crate::broker::kafka::{KafkaBroker, KafkaCounters};
use crate::broker::{
    Auth, Broker, BrokerError, Config, Counters, Faults, LameDuck, Misbehaviour, Shutdown, SlowConsumer, Tls, User,
};
use crate::system::scratch::Scratch;
use crate::units::{Bytes, Span};

/// Serve NATS or Kafka clients with the built-in reference broker.
///
/// A single-node router that speaks the NATS client protocol: publish/subscribe with `*` and `>`, queue groups,
/// request/reply, headers. Any NATS client can use it. With --kafka, a single-node log that speaks Kafka's protocol: topics,
/// partitions, consumer groups, replay. Any Kafka client can use it.
///
/// One line on standard output says that it is ready and where; another, at the end, what it has counted.
/// SIGTERM, SIGINT or SIGHUP drains (what has been received is routed and handed over) and ends; a second one ends at once.
/// SIGUSR2 starts lame duck mode: clients are told to leave, and the rest is closed bit by bit.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  msgbench broker\n  msgbench broker --listen 127.0.0.1:0 --format json\n  \
    msgbench broker --user ann --pass secret --slow-consumer drop-newest --max-pending 1MiB")]
pub struct BrokerArgs {
    /// Address and port for NATS clients [default: 127.0.0.1:4222, unless --kafka is given]; port 0 takes a free one, and the
    /// ready line says which.
    #[arg(long, value_name = "ADDRESS:PORT")]
    pub listen: Option<SocketAddr>,

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

    /// Token that clients must present.
    #[arg(long, value_name = "TOKEN")]
    pub token: Option<String>,

    /// How long a client may take to authenticate, or to complete a TLS handshake.
    #[arg(long, value_name = "DURATION", default_value = "2s")]
    pub auth_timeout: Span,

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

    /// Largest payload accepted, headers included.
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
    #[arg(long, value_enum, default_value_t = Policy::Disconnect)]
    pub slow_consumer: Policy,

    /// How long a client may take no byte of what waits for it before it is closed as a slow consumer.
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

    /// Threads that serve; the default is one per core, at most four.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=256))]
    pub workers: Option<u16>,

    /// File to write the port number to once clients may connect; it appears whole or not at all.
    #[arg(long, value_name = "FILE")]
    pub port_file: Option<PathBuf>,

    /// A fault to have, such as drop=every:7, stall=at:2s,for:100ms, service=exponential:500us, delay=fixed:1ms,
    /// rate-cap=rate:5k/s, swap=probability:0.01, seed=3, subjects=orders.>; may be repeated (docs/calibration.md). With --kafka
    /// faults befall the batches of the log (docs/log.md).
    #[arg(long, value_name = "NAME=ITEM:VALUE,...")]
    pub fault: Vec<String>,

    /// File with faults: the keys of the table `faults`, as TOML or JSON. What --fault says wins.
    #[arg(long, value_name = "FILE")]
    pub faults: Option<PathBuf>,

    /// File that gets a line of JSON for each injected event; it is made anew.
    #[arg(long, value_name = "FILE")]
    pub fault_log: Option<PathBuf>,

    /// Loopback address on which faults can be changed while the broker runs: lines `set NAME=ITEM:VALUE,...`, `clear`, `show`; port 0
    /// takes a free one, and the ready line says which (docs/calibration.md).
    #[arg(long, value_name = "ADDRESS:PORT")]
    pub fault_control: Option<SocketAddr>,

    /// How the ready line and the closing line are written.
    #[arg(long, value_enum, default_value_t = Format::Text)]
    pub format: Format,

    /// The log half.
    #[command(flatten)]
    pub log: kafka::KafkaArgs,
}

/// The slow-consumer policy, as typed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Policy {
    /// Close the slow client, as nats-server does.
    Disconnect,
    /// Drop the newest messages for it and count them.
    DropNewest,
    /// Let its publishers wait.
    Block,
}

/// How lines for the caller are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

impl BrokerArgs {
    fn workers(&self) -> usize {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        self.workers.map_or(cores.min(4), usize::from)
    }

    fn misbehaviour(&self) -> Result<Misbehaviour, BrokerError> {
        let faults = self.faults.as_deref().map(Faults::read).transpose()?.unwrap_or_default();
        Ok(Misbehaviour {
            faults: faults.with_flags(&self.fault)?,
            log: self.fault_log.clone(),
            control: self.fault_control,
        })
    }

    fn config(&self) -> Config {
        let mut users: Vec<User> = self.nkey.iter().cloned().map(User::Nkey).collect();
        if let (Some(name), Some(password)) = (&self.user, &self.pass) {
            users.push(User::Password { name: name.clone(), password: password.clone() });
        }
        let auth = match &self.token {
            Some(token) => Auth::Token(token.clone()),
            None if users.is_empty() => Auth::None,
            None => Auth::Users(users),
        };
        let tls = self.tls_cert.as_ref().zip(self.tls_key.as_ref()).map(|(cert, key)| Tls {
            cert: cert.clone(),
            key: key.clone(),
            client_ca: self.tls_ca.clone(),
            first: self.tls_first,
        });
        let size = |bytes: Bytes| usize::try_from(bytes.0).unwrap_or(usize::MAX);
        Config {
            listen: self.listen.unwrap_or_else(|| Config::default().listen),
            server_name: self.name.clone(),
            max_payload: size(self.max_payload),
            max_control_line: size(self.max_control_line),
            max_pending: size(self.max_pending),
            max_connections: self.max_connections,
            max_subscriptions: self.max_subscriptions,
            ping_interval: self.ping_interval.duration(),
            ping_max: self.ping_max,
            auth,
            auth_timeout: self.auth_timeout.duration(),
            tls,
            slow_consumer: match self.slow_consumer {
                Policy::Disconnect => SlowConsumer::Disconnect,
                Policy::DropNewest => SlowConsumer::DropNewest,
                Policy::Block => SlowConsumer::Block,
            },
            write_deadline: self.write_deadline.duration(),
            lame_duck: LameDuck { grace: self.lame_duck_grace.duration(), spread: self.lame_duck_spread.duration() },
            drain_timeout: self.drain_timeout.duration(),
            misbehaviour: Misbehaviour::default(),
        }
    }
}

/// Serves until a signal ends it.
///
/// # Errors
/// When the broker cannot be bound or the operating system refuses what it needs.
pub fn run(args: BrokerArgs) -> Result<(), BrokerError> {
    let workers = args.workers();
    let files = raise_file_limit();
    let system = |what| move |source| BrokerError::System { what, source };
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(workers)
        .enable_all()
        .build()
        .map_err(system("start the worker threads"))?;
    let served = runtime.block_on(serve(&args, workers, files))?;
    // Tasks of connections cut short by a second signal hold nothing that would have to be waited for.
    runtime.shutdown_background();
    say(&closing_line(args.format, &served)).map_err(system("write to standard output"))
}

/// Raises the limit of open files to what the system allows, as every connection is one. Returns the limit in force.
fn raise_file_limit() -> u64 {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: `limit` is a valid, writable rlimit.
    if unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit) } != 0 {
        return 0;
    }
    let raised = libc::rlimit { rlim_cur: limit.rlim_max, rlim_max: limit.rlim_max };
    // SAFETY: `raised` is a valid rlimit that asks for no more than the hard limit.
    if unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raised) } == 0 { raised.rlim_cur } else { limit.rlim_cur }
}

/// The halves that are served.
struct Halves {
    router: Option<Broker>,
    log: Option<KafkaBroker>,
    /// Removed when it is dropped.
    _scratch: Option<Scratch>,
}

/// What has been counted, half by half.
struct Served {
    router: Option<Arc<Counters>>,
    log: Option<Arc<KafkaCounters>>,
}

async fn bind(args: &BrokerArgs) -> Result<Halves, BrokerError> {
    let mut config = Config { misbehaviour: args.misbehaviour()?, ..args.config() };
    let mut scratch = None;
    let log = match args.log.kafka {
        None => None,
        Some(listen) => {
            let dir = match &args.log.data {
                Some(dir) => dir.clone(),
                None => {
                    let what = "store the log; name a folder with --data";
                    let made = Scratch::new().map_err(|source| BrokerError::System { what, source })?;
                    scratch.insert(made).path().to_owned()
                }
            };
            let mut kafka = args.log.config(listen, dir);
            kafka.tls = config.tls.clone();
            kafka.users = args.user.clone().zip(args.pass.clone()).into_iter().collect();
            kafka.auth_timeout = config.auth_timeout;
            kafka.max_connections = config.max_connections;
            // Where messages are stored, that is where they are hit; the router beside it does as it should.
            kafka.misbehaviour.faults = std::mem::take(&mut config.misbehaviour.faults);
            kafka.misbehaviour.log = config.misbehaviour.log.take();
            Some(KafkaBroker::bind(kafka).await?)
        }
    };
    let router = match (args.listen, &log) {
        (None, Some(_)) if config.misbehaviour.control.is_some() => {
            let value = config.misbehaviour.control.map(|address| address.to_string()).unwrap_or_default();
            let remedy = "only the router's faults can be changed while it runs: give it an address with --listen";
            return Err(BrokerError::Setting { setting: "the control address of the faults", value, remedy });
        }
        (None, Some(_)) => None,
        _ => Some(Broker::bind(config).await?),
    };
    Ok(Halves { router, log, _scratch: scratch })
}

async fn serve(args: &BrokerArgs, workers: usize, files: u64) -> Result<Served, BrokerError> {
    let system = |what| move |source| BrokerError::System { what, source };
    // Handlers first: a signal that comes right after the ready line must find them.
    let install = |kind| signal(kind).map_err(system("listen for signals"));
    let mut term = install(SignalKind::terminate())?;
    let mut int = install(SignalKind::interrupt())?;
    let mut hup = (!super::interrupt::hangup_is_ignored()).then(|| install(SignalKind::hangup())).transpose()?;
    let heard = hup.is_some();
    let mut usr2 = install(SignalKind::user_defined2())?;
    let halves = bind(args).await?;
    let served = Served {
        router: halves.router.as_ref().map(Broker::counters),
        log: halves.log.as_ref().map(KafkaBroker::counters),
    };
    let address = halves.router.as_ref().map(Broker::local_addr).or(halves.log.as_ref().map(KafkaBroker::local_addr));
    if let (Some(path), Some(address)) = (&args.port_file, address) {
        write_port(path, address.port()).map_err(system("write the port file"))?;
    }
    say(&ready_line(args, &halves, workers, files)).map_err(system("write to standard output"))?;
    let (again, mut repeated) = tokio::sync::mpsc::channel(1);
    let (end, ended) = tokio::sync::watch::channel(None);
    tokio::spawn(async move {
        let how = tokio::select! {
            _ = term.recv() => Shutdown::Drain,
            _ = int.recv() => Shutdown::Drain,
            _ = async { hup.as_mut()?.recv().await }, if heard => Shutdown::Drain,
            _ = usr2.recv() => Shutdown::LameDuck,
        };
        end.send_replace(Some(how));
        tokio::select! {
            _ = term.recv() => {}
            _ = int.recv() => {}
            _ = async { hup.as_mut()?.recv().await }, if heard => {}
        }
        // The receiver is gone when the broker has ended by itself meanwhile.
        let _ = again.send(()).await;
    });
    let shutdown = || {
        let mut ended = ended.clone();
        async move { ended.wait_for(Option::is_some).await.ok().and_then(|how| *how).unwrap_or(Shutdown::Drain) }
    };
    let router = async {
        match halves.router {
            Some(broker) => broker.run(shutdown()).await,
            None => Ok(()),
        }
    };
    let log = async {
        match halves.log {
            Some(broker) => broker.run(shutdown()).await,
            None => Ok(()),
        }
    };
    tokio::select! {
        result = async { tokio::try_join!(router, log) } => drop(result?),
        _ = repeated.recv() => {}
    }
    Ok(served)
}

fn write_port(path: &std::path::Path, port: u16) -> std::io::Result<()> {
    let mut name = path.as_os_str().to_owned();
    name.push(".tmp");
    std::fs::write(&name, format!("{port}\n"))?;
    std::fs::rename(&name, path)
}

fn say(line: &str) -> std::io::Result<()> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{line}")?;
    out.flush()
}

fn ready_line(args: &BrokerArgs, halves: &Halves, workers: usize, files: u64) -> String {
    let config = args.config();
    let scheme = if config.tls.is_some() { "tls" } else { "nats" };
    let router = halves.router.as_ref().map(|broker| format!("{scheme}://{}", broker.local_addr()));
    let log = halves.log.as_ref().map(|broker| format!("kafka://{}", broker.local_addr()));
    let pid = std::process::id();
    if args.format == Format::Text {
        let urls: Vec<String> = router.into_iter().chain(log).collect();
        return format!("msgbench broker ready: {} (pid {pid})", urls.join(" "));
    }
    let url = router.or(log);
    let auth = match &config.auth {
        Auth::None => "none",
        Auth::Token(_) => "token",
        Auth::Users(_) => "users",
    };
    let mut policy = json!({
        "max_payload": config.max_payload,
        "max_control_line": config.max_control_line,
        "max_pending": config.max_pending,
        "max_connections": config.max_connections,
        "max_subscriptions": config.max_subscriptions,
        "slow_consumer": config.slow_consumer,
        "write_deadline_ns": nanos(config.write_deadline),
        "ping_interval_ns": nanos(config.ping_interval),
        "ping_max": config.ping_max,
        "auth": auth,
        "auth_timeout_ns": nanos(config.auth_timeout),
        "tls": config.tls.is_some(),
        "tls_verify": config.tls.as_ref().is_some_and(|tls| tls.client_ca.is_some()),
        "workers": workers,
        "open_files": files,
        "storage": "none",
    });
    let of_router = halves.router.as_ref().map(|b| &b.config().misbehaviour.faults);
    let of_log = halves.log.as_ref().map(|b| &b.config().misbehaviour.faults);
    if let Some(faults) = of_router.into_iter().chain(of_log).find(|faults| faults.any()) {
        policy["faults"] = faults.to_string().into();
    }
    if let Some(address) = halves.router.as_ref().and_then(Broker::control_addr) {
        policy["fault_control"] = address.to_string().into();
    }
    if let (Some(policy), Some(broker)) = (policy.as_object_mut(), &halves.log) {
        policy.extend(args.log.policy(broker));
    }
    json!({"event": "ready", "url": url, "pid": pid, "version": env!("CARGO_PKG_VERSION"), "policy": policy})
        .to_string()
}

fn nanos(span: std::time::Duration) -> u64 {
    u64::try_from(span.as_nanos()).unwrap_or(u64::MAX)
}

fn closing_line(format: Format, served: &Served) -> String {
    let router = served.router.as_ref().map(|counters| counters.totals());
    let log = served.log.as_ref().map(|counters| counters.totals());
    if format == Format::Json {
        let mut line = json!({"event": "closed"});
        line["counters"] = json!(router);
        if log.is_some() {
            line["kafka"] = json!(log);
        }
        return line.to_string();
    }
    let router = router.map(|totals| {
        format!(
            "{} connections, {} messages in ({} B), {} messages out ({} B), {} dropped, {} slow consumers",
            totals.connections,
            totals.messages_in,
            totals.bytes_in,
            totals.messages_out,
            totals.bytes_out,
            totals.dropped,
            totals.slow_consumers
        )
    });
    let log = log.map(|totals| {
        format!(
            "kafka: {} connections, {} requests, {} records in ({} B), {} B out",
            totals.connections, totals.requests, totals.records_in, totals.bytes_in, totals.bytes_out
        )
    });
    let parts: Vec<String> = router.into_iter().chain(log).collect();
    format!("msgbench broker closed: {}", parts.join("; "))
}
