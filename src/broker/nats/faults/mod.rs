//! Faults: a programmable truth, to check whether a measurement of the broker is right.
//!
//! **Why.** A stall, a service time or a loss that was injected is known to the message; what a
//! measuring tool says of it can be held against that. **Scope.** Stalls, service times, delays, a
//! rate cap, drops, duplicates, swaps, corruption, of messages and of single deliveries;
//! connections that are cut, left half-open, not read or refused; a slow subscriber; for the
//! router. They can be changed while it runs (`control`). Deterministic by seed, every event logged
//! with its real time.
//!
//! **Design.** Only a broker that was given faults has a [`FaultPath`]; a message whose subject
//! matches leaves the fast path in the session, is copied into a [`OwnedMessage`] and passes one
//! server thread (`server`), in the order of arrival. Which faults hit it is decided by `script`
//! from its number and the seed. Rejected: faults inside the routing of each connection, which
//! could keep neither one queue nor one order.
//!
//! **Invariants.** Without faults nothing is different but one test of an `Option` for each message
//! and of a flag for each read and each commit. What waits is bounded: above [`MAX_WAITING`] bytes
//! the publishers' connections are not read. Messages that are not hit keep their order among
//! themselves.
//!
//! **Limits.** Under faults a PONG says that what was published before has arrived, not that it is
//! delivered; a connection with `echo: false` gets its own hit messages if it subscribes to them.

mod control;
mod deliveries;
mod output;
mod server;
#[cfg(test)]
mod tests;

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use tokio::sync::oneshot;

use super::connection_table::ConnectionTable;
use super::index::SubscriptionIndex;
use super::outlet::{Outlet, OutletLimits};
use super::parse::Publish;
use super::router::Router;
use crate::broker::faults::{FaultOptions, Journal, MAX_WAITING, OwnedMessage};
use crate::broker::shared::error::BrokerError;
use crate::faults::{Faults, pattern};
use crate::units::{Nanos, now};

pub(super) use control::{control, listen};
use output::FaultOutput;
use server::MessageFaultServer;

/// An owned copy of a message.
fn owned(publisher: u64, m: &Publish<'_>) -> OwnedMessage {
    OwnedMessage::new(publisher, [m.subject, m.reply, m.header_text, m.total_text, m.payload], m.header_len)
}

/// The message of an owned copy.
fn message(owned: &OwnedMessage) -> Publish<'_> {
    let [subject, reply, header_text, total_text, payload] = owned.parts();
    Publish { subject, reply, header_text, total_text, header_len: owned.header_len, payload, tail: None }
}

enum MessageJob {
    Message(OwnedMessage),
    /// Other faults from now on.
    Change(Box<Faults>),
    /// A connection was turned away then.
    Refused(Nanos, SocketAddr),
    Stop,
}

/// What is in force, and what it hits.
struct ActiveFaults {
    faults: Faults,
    /// The pattern of subjects; none matches everything.
    pattern: Option<Box<[u8]>>,
}

impl ActiveFaults {
    fn of(faults: &Faults) -> Self {
        let pattern = faults.subjects.as_deref().filter(|p| *p != ">").map(|p| p.as_bytes().into());
        Self { faults: faults.clone(), pattern }
    }
}

/// The path of the messages that faults hit: past the router, through one server thread.
pub(super) struct FaultPath {
    shape: RwLock<ActiveFaults>,
    /// When the first matching message arrived, or the faults were changed; 0 before.
    begun: AtomicU64,
    into: Sender<MessageJob>,
    waiting: Arc<AtomicUsize>,
    stop: Arc<AtomicBool>,
    /// What the server is made of, until it is started.
    idle: Mutex<Option<(Receiver<MessageJob>, Journal)>>,
}

impl FaultPath {
    /// The fault path of a broker with faults; `None` for one without.
    pub(super) fn new(m: &FaultOptions) -> Result<Option<Self>, BrokerError> {
        if !m.faults.any() && m.control.is_none() {
            return Ok(None);
        }
        m.faults.check()?;
        let journal = Journal::create(m.log.as_deref())
            .map_err(|source| BrokerError::System { what: "make the log of faults", source })?;
        let (into, queue) = channel();
        Ok(Some(Self {
            shape: RwLock::new(ActiveFaults::of(&m.faults)),
            begun: AtomicU64::new(0),
            into,
            waiting: Arc::default(),
            stop: Arc::default(),
            idle: Mutex::new(Some((queue, journal))),
        }))
    }

    /// Starts the server, which delivers to the subscriptions of `index` and hits the connections
    /// in `connections`; the receiver hears when it has ended.
    pub(super) fn start(
        &self,
        index: &Arc<SubscriptionIndex>,
        rules: &Arc<OutletLimits>,
        connections: &Arc<ConnectionTable>,
    ) -> Result<oneshot::Receiver<()>, BrokerError> {
        let (ended, end) = oneshot::channel();
        let idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some((queue, journal)) = idle {
            let (waiting, stop) = (Arc::clone(&self.waiting), Arc::clone(&self.stop));
            // Connections are numbered from 1: the server's own outlet, which nothing is sent to,
            // is nobody's.
            let own = Arc::new(Outlet::new(0, Arc::clone(rules), None));
            let output = FaultOutput {
                router: Router::new(Arc::clone(index), Arc::clone(rules), own),
                journal,
                waiting,
                staged: 0,
            };
            let (index, connections) = (Arc::clone(index), Arc::clone(connections));
            let server = MessageFaultServer::new(index, connections, self.faults(), queue, stop, output);
            std::thread::Builder::new()
                .name("faults".into())
                .spawn(move || {
                    server.run();
                    // A broker that was dropped does not listen.
                    let _ = ended.send(());
                })
                .map_err(|source| BrokerError::System { what: "start the thread of the faults", source })?;
        }
        Ok(end)
    }

    /// Whether messages with this subject are hit.
    pub(super) fn takes(&self, subject: &[u8]) -> bool {
        let shape = self.shape.read().unwrap_or_else(PoisonError::into_inner);
        shape.pattern.as_deref().is_none_or(|pattern| pattern::matches(pattern, subject))
    }

    /// What is in force.
    pub(super) fn faults(&self) -> Faults {
        self.shape.read().unwrap_or_else(PoisonError::into_inner).faults.clone()
    }

    /// Puts other faults, which have been checked, in force.
    pub(super) fn change(&self, faults: &Faults) {
        let mut shape = self.shape.write().unwrap_or_else(PoisonError::into_inner);
        *shape = ActiveFaults::of(faults);
        self.begun.store(now(), Ordering::Release);
        // In the order of the changes; after the end of the server nobody is left to hit.
        let _ = self.into.send(MessageJob::Change(Box::new(faults.clone())));
    }

    /// Whether a connection that has just come is to be turned away; it is logged.
    pub(super) fn refuses(&self, peer: SocketAddr) -> bool {
        let Some(window) = self.shape.read().unwrap_or_else(PoisonError::into_inner).faults.refuse else {
            return false;
        };
        let (begun, at) = (self.begun.load(Ordering::Acquire), now());
        let from = begun + window.at.0;
        let refused = begun > 0 && (from..from + window.length.0).contains(&at);
        if refused {
            let _ = self.into.send(MessageJob::Refused(at, peer));
        }
        refused
    }

    /// Takes a message of this connection.
    pub(super) fn send(&self, publisher: u64, message: &Publish<'_>) {
        let owned = self::owned(publisher, message);
        self.waiting.fetch_add(owned.memory_bytes(), Ordering::AcqRel);
        if self.begun.load(Ordering::Relaxed) == 0 {
            // Only the first one sets it.
            let _ = self.begun.compare_exchange(0, owned.arrived, Ordering::AcqRel, Ordering::Relaxed);
        }
        // After the end of the server nobody is left to deliver to.
        let _ = self.into.send(MessageJob::Message(owned));
    }

    /// Whether so much waits that publishers are not to be read.
    pub(super) fn is_full(&self) -> bool {
        self.waiting.load(Ordering::Acquire) > MAX_WAITING && !self.stop.load(Ordering::Acquire)
    }

    /// Whether every message has been delivered, or dropped.
    pub(super) fn is_empty(&self) -> bool {
        self.waiting.load(Ordering::Acquire) == 0
    }

    /// Ends the server; what waits is lost.
    pub(super) fn stop(&self) {
        self.stop.store(true, Ordering::Release);
        let _ = self.into.send(MessageJob::Stop);
    }
}
