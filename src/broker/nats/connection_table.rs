//! The connections of one broker.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use super::counters::Counters;
use super::outlet::Outlet;
use crate::broker::shared::tls::Secured;
use crate::units::{Nanos, now};

/// One connection, as the broker knows it.
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

/// The connections that are served, by their ids.
pub(super) struct ConnectionTable {
    connections: Mutex<HashMap<u64, Arc<ConnectionEntry>>>,
    counters: Arc<Counters>,
}

impl ConnectionTable {
    pub(super) fn new(counters: Arc<Counters>) -> Self {
        Self { connections: Mutex::default(), counters }
    }

    fn connections(&self) -> MutexGuard<'_, HashMap<u64, Arc<ConnectionEntry>>> {
        self.connections.lock().unwrap_or_else(PoisonError::into_inner)
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
