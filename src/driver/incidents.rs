//! What happens to the connections of a trial: written by client callbacks, read by the engine.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use crate::plan::facts::Incident;
use crate::units::{Nanos, now};

/// More events than this are counted but not kept: a flapping connection must not fill the memory.
const KEPT: usize = 200;

/// When something happened, what kind of thing it was, and what it was in words.
pub type Noted = (Nanos, Incident, String);

/// Counters and a bounded log of incidents, shared by all connections of one trial.
#[derive(Debug, Clone, Default)]
pub struct Incidents(Arc<IncidentLog>);

#[derive(Debug, Default)]
struct IncidentLog {
    /// By workload.
    client_dropped: Mutex<BTreeMap<usize, u64>>,
    disconnects: AtomicU64,
    connects: AtomicU64,
    backpressure: AtomicU64,
    log: Mutex<Vec<Noted>>,
}

impl Incidents {
    /// Notes something worth showing on a timeline.
    pub fn note(&self, kind: Incident, text: impl Into<String>) {
        let mut log = self.0.log.lock().unwrap_or_else(PoisonError::into_inner);
        if log.len() < KEPT {
            log.push((now(), kind, text.into()));
        }
    }
    /// The client library dropped so many messages of a workload that had arrived. Told once by
    /// each connection, when it ends.
    pub fn client_dropped(&self, workload: usize, messages: u64) {
        let mut all = self.0.client_dropped.lock().unwrap_or_else(PoisonError::into_inner);
        *all.entry(workload).or_default() += messages;
    }
    /// A connection was lost.
    pub fn disconnected(&self, text: impl Into<String>) {
        self.0.disconnects.fetch_add(1, Ordering::Relaxed);
        self.note(Incident::Disconnected, text);
    }
    /// A connection came about.
    pub fn connected(&self) {
        self.0.connects.fetch_add(1, Ordering::Relaxed);
    }
    /// A send had to wait because the client's buffer was full.
    pub fn backpressure(&self) {
        self.0.backpressure.fetch_add(1, Ordering::Relaxed);
    }
    /// Messages of a workload that the client library dropped, by the connections that have ended.
    pub fn client_dropped_of(&self, workload: usize) -> u64 {
        let all = self.0.client_dropped.lock().unwrap_or_else(PoisonError::into_inner);
        all.get(&workload).copied().unwrap_or(0)
    }
    /// Sends that had to wait so far.
    pub fn backpressure_total(&self) -> u64 {
        self.0.backpressure.load(Ordering::Relaxed)
    }
    /// Connections lost so far.
    pub fn disconnects_total(&self) -> u64 {
        self.0.disconnects.load(Ordering::Relaxed)
    }
    /// Takes what was noted since the last call.
    pub fn take_log(&self) -> Vec<Noted> {
        std::mem::take(&mut *self.0.log.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
