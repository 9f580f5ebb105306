//! What all connections of one broker share.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use tokio::sync::watch;
use tokio_rustls::TlsAcceptor;

use super::certificate::Names;
use super::config::Config;
use super::counters::Counters;
use super::faults::Detour;
use super::index::Index;
use super::info::Info;
use super::outlet::{Outlet, Rules};
use crate::units::{Nanos, now};

/// Where the broker stands in its life.
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
pub(super) struct Hub {
    pub config: Config,
    pub counters: Arc<Counters>,
    pub rules: Arc<Rules>,
    pub index: Index,
    pub info: Info,
    pub acceptor: Option<TlsAcceptor>,
    /// Where messages go that are to be hit by faults.
    pub detour: Option<Detour>,
    pub phase: watch::Sender<Phase>,
    /// Readers that have not come to the end of their input.
    pub readers: watch::Sender<usize>,
    connections: Mutex<HashMap<u64, Arc<Member>>>,
    places: AtomicUsize,
    next_id: AtomicU64,
}

/// One of the `max_connections`, given back when dropped.
pub(super) struct Place(Arc<Hub>);

impl Drop for Place {
    fn drop(&mut self) {
        self.0.places.fetch_sub(1, Ordering::AcqRel);
    }
}

/// One connection, as the hub knows it.
pub(super) struct Member {
    pub outlet: Arc<Outlet>,
    pub client_ip: String,
    pub port: u16,
    pub nonce: String,
    /// When it was accepted.
    pub start: Nanos,
    pub tls: Option<Secured>,
    /// Which user it is.
    pub user: OnceLock<String>,
    description: Mutex<Description>,
}

/// What is known of a connection's encryption.
#[derive(Debug)]
pub(super) struct Secured {
    pub version: &'static str,
    pub cipher: String,
    /// The names in the client's certificate, if it has shown one.
    pub certificate: Option<Names>,
}

/// What a client says of itself.
#[derive(Debug, Clone, Default)]
pub(super) struct Description {
    pub name: String,
    pub lang: String,
    pub version: String,
}

impl Member {
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
        let Description { name: old_name, lang: old_lang, version: old_version } = &mut *known;
        for (old, new) in [(old_name, name), (old_lang, lang), (old_version, version)] {
            if let Some(new) = new {
                *old = new;
            }
        }
    }

    pub(super) fn description(&self) -> Description {
        self.description.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Hub {
    pub(super) fn new(
        config: Config,
        rules: Arc<Rules>,
        info: Info,
        acceptor: Option<TlsAcceptor>,
        detour: Option<Detour>,
    ) -> Self {
        Self {
            config,
            counters: Arc::clone(&rules.counters),
            rules,
            index: Index::default(),
            info,
            acceptor,
            detour,
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

    fn connections(&self) -> MutexGuard<'_, HashMap<u64, Arc<Member>>> {
        self.connections.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a place for a connection, or `None` when `max_connections` are taken. A handshake takes one too.
    pub(super) fn place(self: &Arc<Self>) -> Option<Place> {
        let before = self.places.fetch_add(1, Ordering::AcqRel);
        let place = Place(Arc::clone(self));
        (before < self.config.max_connections).then_some(place)
    }

    pub(super) fn enter(&self, member: Arc<Member>) {
        let mut connections = self.connections();
        connections.insert(member.outlet.id, member);
        self.counters.open.store(connections.len() as u64, Ordering::Relaxed);
    }

    pub(super) fn leave(&self, id: u64) {
        let mut connections = self.connections();
        connections.remove(&id);
        self.counters.open.store(connections.len() as u64, Ordering::Relaxed);
    }

    pub(super) fn members(&self) -> Vec<Arc<Member>> {
        self.connections().values().cloned().collect()
    }
}
