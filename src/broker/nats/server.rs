//! Listening, accepting, and the three ways to end.

use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use rand::RngExt as _;
use tokio::net::TcpListener;
use tokio::time::{Instant, sleep, timeout};

use super::config::{Config, StreamStorage};
use super::connection;
use super::counters::Counters;
use super::faults;
use super::faults::FaultPath;
use super::hub::{NatsHub, Phase};
use super::info::ServerInfo;
use super::jetstream::JetStream;
use super::outlet::OutletLimits;
use super::pool::BufferPool;
use super::{auth, listen, monitor, websocket};
use crate::broker::log::LogOptions;
use crate::broker::shared::error::BrokerError;
use crate::broker::shared::{Shutdown, tls};

/// A bound broker. [`run`](Self::run) serves until it is told to end.
pub struct Broker {
    hub: Arc<NatsHub>,
    listeners: Vec<TcpListener>,
    addresses: Vec<SocketAddr>,
    /// Where the monitoring pages are served.
    monitor: Option<(TcpListener, SocketAddr)>,
    websocket: Option<(TcpListener, SocketAddr)>,
    /// Where faults are changed while it runs.
    control: Option<(TcpListener, SocketAddr)>,
    /// Streams, where they are served.
    jetstream: Option<JetStream>,
}

impl Broker {
    /// Listens. Clients may connect from now on; they are answered once [`run`](Self::run) is
    /// awaited.
    ///
    /// # Errors
    /// When a setting is out of range, a TLS file is unusable, an NKey does not decode, or the
    /// address is taken.
    pub async fn bind(config: Config) -> Result<Self, BrokerError> {
        check(&config)?;
        auth::check(&config)?;
        let fault_path = FaultPath::new(&config.fault_options)?.map(Arc::new);
        let jetstream = match &config.jetstream {
            Some(storage) => Some(open_streams(storage).await?),
            None => None,
        };
        let acceptor = config.tls.as_ref().map(tls::acceptor).transpose()?;
        let (mut listeners, mut addresses) = (Vec::new(), Vec::new());
        for address in std::iter::once(&config.listen).chain(&config.listen_too) {
            let (listener, bound) =
                listen::on(*address).map_err(|source| BrokerError::Listen { address: *address, source })?;
            listeners.push(listener);
            addresses.push(bound);
        }
        let further = |address: Option<SocketAddr>, what, option| {
            let serve =
                |address| listen::on(address).map_err(|source| BrokerError::Serve { what, option, address, source });
            address.map(serve).transpose()
        };
        let monitor = further(config.monitor, "the monitoring pages", "--monitor")?;
        let websocket = further(config.websocket, "WebSocket clients", "--websocket")?;
        let control = match config.fault_options.control {
            Some(address) => Some(faults::listen(address).await?),
            None => None,
        };
        let rules = Arc::new(OutletLimits {
            max_pending: config.max_pending,
            policy: config.slow_consumer,
            counters: Arc::default(),
            pool: BufferPool::default(),
            watched: monitor.is_some(),
        });
        let info = ServerInfo::new(&config, server_id(), addresses[0]);
        let hub = Arc::new(NatsHub::new(config, rules, info, acceptor, fault_path));
        Ok(Self { hub, listeners, addresses, monitor, websocket, control, jetstream })
    }

    /// The address listened on, with the port that port 0 became.
    pub fn local_addr(&self) -> SocketAddr {
        self.addresses[0]
    }

    /// All addresses listened on.
    pub fn local_addrs(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// Where the monitoring pages are served.
    pub fn monitor_addr(&self) -> Option<SocketAddr> {
        self.monitor.as_ref().map(|(_, address)| *address)
    }

    /// Where the control connection of the faults listens.
    pub fn control_addr(&self) -> Option<SocketAddr> {
        self.control.as_ref().map(|(_, address)| *address)
    }

    /// Where WebSocket clients are served.
    pub fn websocket_addr(&self) -> Option<SocketAddr> {
        self.websocket.as_ref().map(|(_, address)| *address)
    }

    /// The running totals.
    pub fn counters(&self) -> Arc<Counters> {
        Arc::clone(&self.hub.counters)
    }

    /// The settings in force.
    pub fn config(&self) -> &Config {
        &self.hub.config
    }

    /// Serves on the current tokio runtime until `shutdown` resolves and says how to end; returns
    /// when every connection is closed.
    ///
    /// # Errors
    /// When the operating system refuses to accept for a reason that will not pass.
    pub async fn run(self, shutdown: impl Future<Output = Shutdown>) -> Result<(), BrokerError> {
        let Self { hub, listeners, monitor, websocket, control, jetstream, .. } = self;
        // Connections are tasks of their own; this ends them even if this future is dropped.
        let closing = CloseOnDrop(Arc::clone(&hub));
        tokio::pin!(shutdown);
        let start = |fault_path: &Arc<FaultPath>| fault_path.start(&hub.index, &hub.rules, &hub.connections);
        let misbehaving = hub.fault_path.as_ref().map(start).transpose()?;
        // Ends when it is dropped, with this future.
        let mut controlled = tokio::task::JoinSet::new();
        if let (Some((listener, _)), Some(fault_path)) = (control, &hub.fault_path) {
            controlled.spawn(faults::control(Arc::clone(fault_path), listener));
        }
        if let Some((listener, address)) = monitor {
            controlled.spawn(monitor::serve(Arc::clone(&hub), listener, address));
        }
        if let Some((listener, _)) = websocket {
            controlled.spawn(websocket::serve(Arc::clone(&hub), listener));
        }
        let streams = jetstream.map(|streams| tokio::spawn(streams.serve(Arc::clone(&hub))));
        let how = loop {
            tokio::select! {
                how = &mut shutdown => break how,
                accepted = listen::accept(&listeners) => match accepted {
                    // Dropped, the socket is closed without a word.
                    Ok((_, peer)) if hub.fault_path.as_ref().is_some_and(|fault_path| fault_path.refuses(peer)) => {
                        Counters::add(&hub.counters.refused, 1);
                    }
                    Ok((socket, peer)) => {
                        Counters::add(&hub.counters.connections, 1);
                        match hub.place() {
                            Some(place) => {
                                tokio::spawn(connection::serve(Arc::clone(&hub), socket, peer, place));
                            }
                            None => {
                                Counters::add(&hub.counters.refused, 1);
                                tokio::spawn(connection::refuse(Arc::clone(&hub), socket, peer));
                            }
                        }
                    }
                    // Out of descriptors, or a client that has gone again: both pass.
                    Err(_) => sleep(Duration::from_millis(10)).await,
                },
            }
        };
        drop(listeners);
        match how {
            Shutdown::Now => {}
            Shutdown::Drain => drain(&hub).await,
            Shutdown::LameDuck => lame_duck(&hub).await,
        }
        drop(closing);
        if let Some(end) = misbehaving {
            // Its log is whole then.
            let _ = timeout(Duration::from_secs(1), end).await;
        }
        if let Some(streams) = streams {
            // What it has taken is written down then.
            let _ = timeout(Duration::from_secs(10), streams).await;
        }
        // The readers see their sockets close; the bound is for a runtime that is itself being
        // stopped.
        let _ = timeout(Duration::from_secs(1), hub.readers.subscribe().wait_for(|n| *n == 0)).await;
        Ok(())
    }
}

struct CloseOnDrop(Arc<NatsHub>);

impl Drop for CloseOnDrop {
    fn drop(&mut self) {
        self.0.phase.send_replace(Phase::Closing);
        if let Some(fault_path) = &self.0.fault_path {
            fault_path.stop();
        }
        for member in self.0.connections.members() {
            member.outlet.close();
        }
    }
}

/// Tells every client that understands it that this server is about to go.
fn announce(hub: &NatsHub) {
    for member in hub.connections.members() {
        if member.outlet.announces.load(std::sync::atomic::Ordering::Acquire) {
            let line = hub.info.line(member.outlet.id, member.client_ip.clone(), &member.nonce, true);
            member.outlet.send(&line);
        }
    }
}

/// Routes what has arrived, hands over what is buffered, at most `drain_timeout` in all.
async fn drain(hub: &NatsHub) {
    let end = Instant::now() + hub.config.drain_timeout;
    announce(hub);
    hub.phase.send_replace(Phase::Draining);
    for member in hub.connections.members() {
        member.outlet.stop_reading();
    }
    let left = || end.saturating_duration_since(Instant::now());
    let mut readers = hub.readers.subscribe();
    // Out of time, the rest is closed as it is.
    let _ = timeout(left(), readers.wait_for(|n| *n == 0)).await;
    while hub.fault_path.as_ref().is_some_and(|fault_path| !fault_path.is_empty()) && !left().is_zero() {
        sleep(Duration::from_millis(1)).await;
    }
    for member in hub.connections.members() {
        member.outlet.flushed(left()).await;
    }
}

/// Announces the end, leaves the clients `grace` to go by themselves, then lets the rest go one by
/// one.
async fn lame_duck(hub: &NatsHub) {
    hub.phase.send_replace(Phase::LameDuck);
    announce(hub);
    let grace = Instant::now() + hub.config.lame_duck.grace;
    while Instant::now() < grace && !hub.connections.members().is_empty() {
        sleep(Duration::from_millis(50).min(grace.saturating_duration_since(Instant::now()))).await;
    }
    let members = hub.connections.members();
    let Ok(count) = u32::try_from(members.len()) else { return };
    if count == 0 {
        return;
    }
    let pause = hub.config.lame_duck.spread / count;
    for member in members {
        member.outlet.flushed(Duration::from_millis(100)).await;
        member.outlet.close();
        sleep(pause).await;
    }
}

/// Opens the streams that are kept there.
async fn open_streams(storage: &StreamStorage) -> Result<JetStream, BrokerError> {
    let mut options = LogOptions::new(&storage.dir);
    options.sync = storage.sync;
    options.defaults.retention_ms = None;
    let opened = tokio::task::spawn_blocking(|| JetStream::open(options)).await;
    let failed = |words: String| BrokerError::System { what: "open the streams", source: std::io::Error::other(words) };
    opened.map_err(|error| failed(error.to_string()))?.map_err(|error| failed(error.to_string()))
}

fn check(config: &Config) -> Result<(), BrokerError> {
    let setting = |setting, value: String, remedy| Err(BrokerError::Setting { setting, value, remedy });
    if config.max_payload > 64 << 20 {
        return setting("max_payload", config.max_payload.to_string(), "it may be at most 64 MiB");
    }
    if !(64..=1 << 20).contains(&config.max_control_line) {
        return setting("max_control_line", config.max_control_line.to_string(), "it may be 64 B to 1 MiB");
    }
    if config.max_pending < 1024 {
        return setting("max_pending", config.max_pending.to_string(), "it must be at least 1 KiB");
    }
    if config.max_connections == 0 {
        return setting("max_connections", "0".into(), "allow at least one");
    }
    if config.tls_optional && config.tls.as_ref().is_none_or(|tls| tls.first) {
        return setting("tls_optional", "on".into(), "it needs a certificate, and INFO before the handshake");
    }
    for (name, value) in [
        ("ping_interval", config.ping_interval),
        ("auth_timeout", config.auth_timeout),
        ("tls_timeout", config.tls_timeout),
        ("write_deadline", config.write_deadline),
    ] {
        if value.is_zero() {
            return setting(name, "0".into(), "it must be longer than nothing");
        }
    }
    Ok(())
}

/// A server id of the usual form: N and 55 letters and digits.
fn server_id() -> String {
    let mut rng = rand::rng();
    let letters = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";
    let tail = (0..55).map(|_| char::from(letters[rng.random_range(0..letters.len())]));
    std::iter::once('N').chain(tail).collect()
}
