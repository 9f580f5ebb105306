//! What all connections of one broker share.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use tokio::sync::watch;
use tokio_rustls::TlsAcceptor;

use super::config::Config;
use super::counters::Counters;
use super::faults::FaultPath;
use super::index::SubscriptionIndex;
use super::info::ServerInfo;
use super::outlet::{Outlet, OutletLimits};
use crate::broker::shared::tls::Secured;
use crate::units::{Nanos, now};

/// The phase of the broker between start and end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Phase {
    /// Clients are served.
    Serving,
    /// The end is announced; clients are still served.
    LameDuck,
    /// Input is read to its end and routed; nobody is closed yet.
    Draining,
    /// Every connection closes.
    Closing,
}

/// What all connections share.
pub(super) struct NatsHub {
    pub config: Config,
    pub counters: Arc<Counters>,
    pub rules: Arc<OutletLimits>,
    pub index: SubscriptionIndex,
    pub info: ServerInfo,
    pub acceptor: Option<TlsAcceptor>,
    /// Where messages go that are to be hit by faults.
    pub fault_path: Option<FaultPath>,
    pub phase: watch::Sender<Phase>,
    /// Readers that have not come to the end of their input.
    pub readers: watch::Sender<usize>,
    connections: Mutex<HashMap<u64, Arc<ConnectionEntry>>>,
    places: AtomicUsize,
    next_id: AtomicU64,
}

/// One of the `max_connections`, given back when dropped.
pub(super) struct AdmissionPermit(Arc<NatsHub>);

impl Drop for AdmissionPermit {
    fn drop(&mut self) {
        self.0.places.fetch_sub(1, Ordering::AcqRel);
    }
}

/// One connection, as the hub knows it.
pub(super) struct ConnectionEntry {
    pub outlet: Arc<Outlet>,
    pub client_ip: String,
    pub port: u16,
    pub nonce: String,
    /// When it was accepted.
    pub start: Nanos,
    pub tls: Option<Secured>,
    /// Which user it is.
    pub user: OnceLock<String>,
    description: Mutex<ClientDescription>,
}

/// What a client says of itself.
#[derive(Debug, Clone, Default)]
pub(super) struct ClientDescription {
    pub name: String,
    pub lang: String,
    pub version: String,
}

impl ConnectionEntry {
    pub(super) fn new(outlet: Arc<Outlet>, peer: SocketAddr, nonce: String, tls: Option<Secured>) -> Self {
        Self {
            outlet,
            client_ip: peer.ip().to_canonical().to_string(),
            port: peer.port(),
            nonce,
            start: now(),
            tls,
            user: OnceLock::new(),
            description: Mutex::default(),
        }
    }

    /// Keeps what a client says of itself; what it leaves out stays as it was said before.
    pub(super) fn describe(&self, name: Option<String>, lang: Option<String>, version: Option<String>) {
        let mut known = self.description.lock().unwrap_or_else(PoisonError::into_inner);
        let ClientDescription { name: old_name, lang: old_lang, version: old_version } = &mut *known;
        for (old, new) in [(old_name, name), (old_lang, lang), (old_version, version)] {
            if let Some(new) = new {
                *old = new;
            }
        }
    }

    pub(super) fn description(&self) -> ClientDescription {
        self.description.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl NatsHub {
    pub(super) fn new(
        config: Config,
        rules: Arc<OutletLimits>,
        info: ServerInfo,
        acceptor: Option<TlsAcceptor>,
        fault_path: Option<FaultPath>,
    ) -> Self {
        Self {
            config,
            counters: Arc::clone(&rules.counters),
            rules,
            index: SubscriptionIndex::default(),
            info,
            acceptor,
            fault_path,
            phase: watch::Sender::new(Phase::Serving),
            readers: watch::Sender::new(0),
            connections: Mutex::new(HashMap::new()),
            places: AtomicUsize::new(0),
            next_id: AtomicU64::new(1),
        }
    }

    pub(super) fn next_id(&self) -> u64 {
        self.next_id.fetch_add(1, Ordering::Relaxed)
    }

    fn connections(&self) -> MutexGuard<'_, HashMap<u64, Arc<ConnectionEntry>>> {
        self.connections.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a place for a connection, or `None` when `max_connections` are taken. A handshake
    /// takes one too.
    pub(super) fn place(self: &Arc<Self>) -> Option<AdmissionPermit> {
        let before = self.places.fetch_add(1, Ordering::AcqRel);
        let place = AdmissionPermit(Arc::clone(self));
        (before < self.config.max_connections).then_some(place)
    }

    pub(super) fn enter(&self, member: Arc<ConnectionEntry>) {
        let mut connections = self.connections();
        connections.insert(member.outlet.id, member);
        self.counters.open.store(connections.len() as u64, Ordering::Relaxed);
    }

    pub(super) fn leave(&self, id: u64) {
        let mut connections = self.connections();
        connections.remove(&id);
        self.counters.open.store(connections.len() as u64, Ordering::Relaxed);
    }

    pub(super) fn members(&self) -> Vec<Arc<ConnectionEntry>> {
        self.connections().values().cloned().collect()
    }
}
