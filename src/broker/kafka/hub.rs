//! What all connections share.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::{Semaphore, watch};
use tokio_rustls::TlsAcceptor;

use super::super::log::{Log, Partition, Topic};
use super::blocking::run_blocking;
use super::config::KafkaConfig;
use super::counters::KafkaCounters;
use super::faults::BatchFaultQueue;
use super::faults::QueuedBatch;
use super::fetch_sessions::FetchSessions;
use super::groups::Coordinator;
use super::transactions::TransactionCoordinator;

pub(super) struct KafkaHub {
    pub(super) config: KafkaConfig,
    pub(super) log: Arc<Log>,
    pub(super) counters: Arc<KafkaCounters>,
    pub(super) groups: Arc<Coordinator>,
    pub(super) transactions: Arc<TransactionCoordinator>,
    pub(super) fetch_sessions: Arc<FetchSessions>,
    /// Budget of long requests, in KiB.
    pub(super) memory: Arc<Semaphore>,
    pub(super) acceptor: Option<TlsAcceptor>,
    pub(super) closing: watch::Sender<bool>,
    pub(super) readers: watch::Sender<usize>,
    /// The way that batches take where there are faults.
    pub(super) faults: Option<BatchFaultQueue<QueuedBatch>>,
    /// Serialises the making of topics: whether names collide is looked up before.
    pub(super) making: Mutex<()>,
    /// Whether the last append had to wait for the disk.
    pub(super) throttled: AtomicBool,
    open: AtomicUsize,
}

/// The right to be one of `max_connections`.
pub(super) struct ConnectionPermit(Arc<KafkaHub>);

impl Drop for ConnectionPermit {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Ordering::AcqRel);
        self.0.counters.open.fetch_sub(1, Ordering::Relaxed);
        self.0.readers.send_modify(|n| *n -= 1);
    }
}

impl KafkaHub {
    pub(super) fn new(
        config: KafkaConfig,
        log: Arc<Log>,
        groups: Arc<Coordinator>,
        transactions: Arc<TransactionCoordinator>,
        counters: Arc<KafkaCounters>,
        acceptor: Option<TlsAcceptor>,
        faults: Option<BatchFaultQueue<QueuedBatch>>,
    ) -> Self {
        let memory = Arc::new(Semaphore::new((config.max_inflight >> 10).max(1)));
        let (closing, readers) = (watch::Sender::new(false), watch::Sender::new(0));
        Self {
            config,
            log,
            counters,
            groups,
            transactions,
            fetch_sessions: Arc::default(),
            memory,
            acceptor,
            closing,
            readers,
            faults,
            making: Mutex::default(),
            throttled: AtomicBool::new(false),
            open: AtomicUsize::new(0),
        }
    }

    /// A place for one more connection, if there is one.
    pub(super) fn place(self: &Arc<Self>) -> Option<ConnectionPermit> {
        let limit = self.config.max_connections;
        self.open.fetch_update(Ordering::AcqRel, Ordering::Acquire, |n| (n < limit).then_some(n + 1)).ok()?;
        self.counters.open.fetch_add(1, Ordering::Relaxed);
        self.readers.send_modify(|n| *n += 1);
        Some(ConnectionPermit(Arc::clone(self)))
    }

    /// The topic of that name; made if that is allowed and it is not there.
    pub(super) fn topic_or_new(&self, name: &str, create: bool) -> Option<Arc<Topic>> {
        self.log.topic(name).or_else(|| {
            let wanted = create && self.config.auto_create && !name.starts_with("__");
            let settings = self.log.defaults().clone();
            // Somebody else may have made it meanwhile.
            let make = || {
                run_blocking(|| {
                    let _making = self.making.lock().unwrap_or_else(PoisonError::into_inner);
                    if self.colliding(name).is_some() {
                        return None;
                    }
                    self.log.create(name, self.config.partitions, settings, Default::default()).ok()
                })
            };
            if wanted { make().or_else(|| self.log.topic(name)) } else { None }
        })
    }

    /// Another topic whose name is the same when dots count as underscores, as they do in the names
    /// of Kafka's metrics.
    pub(super) fn colliding(&self, name: &str) -> Option<Arc<Topic>> {
        let plain = |name: &str| name.replace('.', "_");
        if !name.contains(['.', '_']) {
            return None;
        }
        self.log.topics().into_iter().find(|topic| &**topic.name() != name && plain(topic.name()) == plain(name))
    }

    pub(super) fn partition(&self, topic: &str, index: i32) -> Option<Arc<Partition>> {
        self.log.topic(topic)?.partition(index)
    }
}
