//! What one connection has received and sent, for the monitoring pages. Added to once per batch,
//! never per message.

use std::ops::AddAssign;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::units::now;

/// Messages and their payloads, headers included, in bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct TrafficVolume {
    pub messages: u64,
    pub payload: u64,
}

impl AddAssign for TrafficVolume {
    fn add_assign(&mut self, other: Self) {
        self.messages += other.messages;
        self.payload += other.payload;
    }
}

/// A running total of loads.
#[derive(Debug, Default)]
pub(super) struct TrafficTotal {
    messages: AtomicU64,
    payload: AtomicU64,
}

impl TrafficTotal {
    pub(super) fn add(&self, load: TrafficVolume) {
        if load.messages > 0 {
            self.messages.fetch_add(load.messages, Ordering::Relaxed);
            self.payload.fetch_add(load.payload, Ordering::Relaxed);
        }
    }

    pub(super) fn sub(&self, load: TrafficVolume) {
        self.messages.fetch_sub(load.messages, Ordering::Relaxed);
        self.payload.fetch_sub(load.payload, Ordering::Relaxed);
    }

    pub(super) fn load(&self) -> TrafficVolume {
        TrafficVolume { messages: self.messages.load(Ordering::Relaxed), payload: self.payload.load(Ordering::Relaxed) }
    }
}

/// One connection's totals.
#[derive(Debug, Default)]
pub(super) struct Traffic {
    /// Published by the client.
    pub received: TrafficTotal,
    /// Queued for or written to the client.
    pub sent: TrafficTotal,
    /// Subscriptions in force.
    pub subscriptions: AtomicU64,
    /// When a message last came or went, by `units::now`; kept only where it can be seen.
    pub active: AtomicU64,
    /// When the last PING was sent, by `units::now`; 0 once it is answered.
    pub pinged: AtomicU64,
    /// How long the last PONG took, in nanoseconds; 0 before the first.
    pub rtt: AtomicU64,
}

impl Traffic {
    /// A PING is sent.
    pub(super) fn asked(&self) {
        self.pinged.store(now(), Ordering::Relaxed);
    }

    /// A PONG has come.
    pub(super) fn answered(&self) {
        let asked = self.pinged.swap(0, Ordering::Relaxed);
        if asked > 0 {
            self.rtt.store(now().saturating_sub(asked).max(1), Ordering::Relaxed);
        }
    }
}
