//! Faults: a programmable truth, so that whoever measures a broker can find out whether the measurement is right.
//!
//! **Why.** A stall, a service time or a loss that was injected is known to the message; what a measuring tool says of it
//! can be held against that. **Scope.** Stalls, service times, delays, a rate cap, drops, duplicates, swaps,
//! corruption, of messages and of single deliveries; connections that are cut, left half-open, not read or refused; a slow
//! subscriber; for the router. They can be changed while it runs (`control`). Deterministic by seed, every event logged with its real time.
//!
//! **Design.** Only a broker that was given faults has a [`Detour`]; a message whose subject matches leaves the fast path
//! in the session, is copied into a [`Parcel`] and passes one server thread (`server`), in the order of arrival. What
//! befalls it is decided by `script` from its number and the seed. Rejected: faults inside the routing of each connection, which could keep neither one
//! queue nor one order.
//!
//! **Invariants.** Without faults nothing is different but one test of an `Option` for each message and of a flag for each read and each commit. What waits is bounded: above
//! [`MAX_WAITING`] bytes the publishers' connections are not read. Messages that are not hit keep their order among themselves.
//!
//! **Limits.** Under faults a PONG says that what was published before has arrived, not that it is delivered; a
//! connection with `echo: false` gets its own hit messages if it subscribes to them.

mod config;
mod control;
mod deliveries;
mod journal;
mod read;
mod script;
mod server;
mod stored;
#[cfg(test)]
mod tests;
mod wait;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use tokio::sync::oneshot;

use super::error::BrokerError;
use super::hub::Hub;
use super::parse::Publish;
use crate::units::{Nanos, now};

pub use config::{
    DeliveryFaults, Disconnect, Faults, FaultsError, Law, Mixture, Peer, Pick, RateCap, Stall, StopReading, Window,
};
pub(super) use control::{control, listen};
pub(super) use stored::{Errand, Line, Settled};

/// Bytes that may wait for the fault server.
const MAX_WAITING: usize = 256 << 20;

/// Faults, and where they are logged.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Misbehaviour {
    /// What befalls messages.
    pub faults: Faults,
    /// A file that gets a line for each event.
    pub log: Option<PathBuf>,
    /// A loopback address on which faults can be changed while the broker runs; none by default.
    pub control: Option<SocketAddr>,
}

/// A message that has left the fast path.
#[derive(Debug, Clone)]
struct Parcel {
    publisher: u64,
    arrived: Nanos,
    /// Subject, reply, header length and total length as text, payload: one after another.
    bytes: Vec<u8>,
    /// Where the first four of them end.
    ends: [usize; 4],
    header_len: usize,
}

impl Parcel {
    fn new(publisher: u64, m: &Publish<'_>) -> Self {
        let parts = [m.subject, m.reply, m.header_text, m.total_text, m.payload];
        let mut bytes = Vec::with_capacity(parts.iter().map(|p| p.len()).sum());
        let mut ends = [0; 4];
        for (i, part) in parts.iter().enumerate() {
            bytes.extend_from_slice(part);
            if let Some(end) = ends.get_mut(i) {
                *end = bytes.len();
            }
        }
        Self { publisher, arrived: now(), bytes, ends, header_len: m.header_len }
    }

    fn message(&self) -> Publish<'_> {
        let [subject, reply, header, total] = self.ends;
        Publish {
            subject: &self.bytes[..subject],
            reply: &self.bytes[subject..reply],
            header_text: &self.bytes[reply..header],
            total_text: &self.bytes[header..total],
            header_len: self.header_len,
            payload: &self.bytes[total..],
            tail: None,
        }
    }

    /// Turns a bit of the last payload byte over; `false` when there is no payload behind the headers.
    fn corrupt(&mut self) -> bool {
        let body = self.bytes.len() > self.ends[3] + self.header_len;
        if let Some(last) = self.bytes.last_mut().filter(|_| body) {
            *last ^= 1;
        }
        body
    }

    fn weight(&self) -> usize {
        self.bytes.len() + size_of::<Self>()
    }
}

enum Item {
    Message(Parcel),
    /// Other faults from now on.
    Change(Box<Faults>),
    /// A connection was turned away then.
    Refused(Nanos, SocketAddr),
    Stop,
}

/// What is in force, and what it hits.
struct Shape {
    faults: Faults,
    /// The pattern of subjects; none matches everything.
    pattern: Option<Box<[u8]>>,
}

impl Shape {
    fn of(faults: &Faults) -> Self {
        let pattern = faults.subjects.as_deref().filter(|p| *p != ">").map(|p| p.as_bytes().into());
        Self { faults: faults.clone(), pattern }
    }
}

/// The way that hit messages take.
pub(super) struct Detour {
    shape: RwLock<Shape>,
    /// When the first matching message arrived, or the faults were changed; 0 before.
    begun: AtomicU64,
    into: Sender<Item>,
    waiting: Arc<AtomicUsize>,
    stop: Arc<AtomicBool>,
    /// What the server is made of, until it is started.
    idle: Mutex<Option<(Receiver<Item>, journal::Journal)>>,
}

impl Detour {
    /// The detour of a broker that misbehaves; `None` for one that does not.
    pub(super) fn new(m: &Misbehaviour) -> Result<Option<Self>, BrokerError> {
        if !m.faults.any() && m.control.is_none() {
            return Ok(None);
        }
        m.faults.check()?;
        let journal = journal::Journal::create(m.log.as_deref())
            .map_err(|source| BrokerError::System { what: "make the log of faults", source })?;
        let (into, queue) = channel();
        Ok(Some(Self {
            shape: RwLock::new(Shape::of(&m.faults)),
            begun: AtomicU64::new(0),
            into,
            waiting: Arc::default(),
            stop: Arc::default(),
            idle: Mutex::new(Some((queue, journal))),
        }))
    }

    /// Starts the server; the receiver hears when it has ended.
    pub(super) fn start(&self, hub: &Arc<Hub>) -> Result<oneshot::Receiver<()>, BrokerError> {
        let (ended, end) = oneshot::channel();
        let idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some((queue, journal)) = idle {
            let (waiting, stop) = (Arc::clone(&self.waiting), Arc::clone(&self.stop));
            let server = server::Server::new(Arc::clone(hub), self.faults(), queue, waiting, stop, journal);
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
        shape.pattern.as_deref().is_none_or(|pattern| matches(pattern, subject))
    }

    /// What is in force.
    pub(super) fn faults(&self) -> Faults {
        self.shape.read().unwrap_or_else(PoisonError::into_inner).faults.clone()
    }

    /// Puts other faults, which have been checked, in force.
    pub(super) fn change(&self, faults: &Faults) {
        let mut shape = self.shape.write().unwrap_or_else(PoisonError::into_inner);
        *shape = Shape::of(faults);
        self.begun.store(now(), Ordering::Release);
        // In the order of the changes; after the end of the server nobody is left to hit.
        let _ = self.into.send(Item::Change(Box::new(faults.clone())));
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
            let _ = self.into.send(Item::Refused(at, peer));
        }
        refused
    }

    /// Takes a message of this connection.
    pub(super) fn send(&self, publisher: u64, message: &Publish<'_>) {
        let parcel = Parcel::new(publisher, message);
        self.waiting.fetch_add(parcel.weight(), Ordering::AcqRel);
        if self.begun.load(Ordering::Relaxed) == 0 {
            // Only the first one sets it.
            let _ = self.begun.compare_exchange(0, parcel.arrived, Ordering::AcqRel, Ordering::Relaxed);
        }
        // After the end of the server nobody is left to deliver to.
        let _ = self.into.send(Item::Message(parcel));
    }

    /// Whether so much waits that publishers are not to be read.
    pub(super) fn crowded(&self) -> bool {
        self.waiting.load(Ordering::Acquire) > MAX_WAITING && !self.stop.load(Ordering::Acquire)
    }

    /// Whether every message has been delivered, or dropped.
    pub(super) fn is_empty(&self) -> bool {
        self.waiting.load(Ordering::Acquire) == 0
    }

    /// Ends the server; what waits is lost.
    pub(super) fn stop(&self) {
        self.stop.store(true, Ordering::Release);
        let _ = self.into.send(Item::Stop);
    }
}

/// Whether a pattern with `*` and `>` matches a subject.
fn matches(pattern: &[u8], subject: &[u8]) -> bool {
    let mut tokens = subject.split(|b| *b == b'.');
    for wanted in pattern.split(|b| *b == b'.') {
        match (wanted, tokens.next()) {
            (b">", Some(_)) => return true,
            (_, None) => return false,
            (b"*", Some(_)) => {}
            (wanted, Some(token)) if wanted != token => return false,
            _ => {}
        }
    }
    tokens.next().is_none()
}
