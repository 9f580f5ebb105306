//! What all connections of one broker share.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use tokio::sync::watch;
use tokio_rustls::TlsAcceptor;

use super::config::Config;
use super::connection_table::ConnectionTable;
use super::counters::Counters;
use super::faults::FaultPath;
use super::index::SubscriptionIndex;
use super::info::ServerInfo;
use super::outlet::OutletLimits;

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
    pub index: Arc<SubscriptionIndex>,
    pub info: ServerInfo,
    pub acceptor: Option<TlsAcceptor>,
    /// Where messages go that are to be hit by faults.
    pub fault_path: Option<Arc<FaultPath>>,
    pub phase: watch::Sender<Phase>,
    /// Readers that have not come to the end of their input.
    pub readers: watch::Sender<usize>,
    pub connections: Arc<ConnectionTable>,
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

impl NatsHub {
    pub(super) fn new(
        config: Config,
        rules: Arc<OutletLimits>,
        info: ServerInfo,
        acceptor: Option<TlsAcceptor>,
        fault_path: Option<Arc<FaultPath>>,
    ) -> Self {
        Self {
            config,
            counters: Arc::clone(&rules.counters),
            connections: Arc::new(ConnectionTable::new(Arc::clone(&rules.counters))),
            rules,
            index: Arc::default(),
            info,
            acceptor,
            fault_path,
            phase: watch::Sender::new(Phase::Serving),
            readers: watch::Sender::new(0),
            places: AtomicUsize::new(0),
            next_id: AtomicU64::new(1),
        }
    }

    pub(super) fn next_id(&self) -> u64 {
        self.next_id.fetch_add(1, Ordering::Relaxed)
    }

    /// Takes a place for a connection, or `None` when `max_connections` are taken. A handshake
    /// takes one too.
    pub(super) fn place(self: &Arc<Self>) -> Option<AdmissionPermit> {
        let before = self.places.fetch_add(1, Ordering::AcqRel);
        let place = AdmissionPermit(Arc::clone(self));
        (before < self.config.max_connections).then_some(place)
    }
}
