//! The log behind Kafka's protocol.
//!
//! **Why.** With ordinary Kafka clients on a broker of one node and few lines, what the protocol
//! costs can be told from what Kafka's own broker costs: one client, two brokers.
//!
//! **Scope.** Produce, fetch, offsets by time, topics and partitions, consumer groups (both
//! protocols, static members), committed offsets, idempotent producers, transactions, SASL PLAIN,
//! TLS. No replicas, no quotas, no access lists; what is not there is refused in the protocol's own
//! words. The log itself ([`super::log`]) knows nothing of Kafka.
//!
//! **Invariants.** Responses leave in the order of their requests. A frame is measured ([`shape`])
//! before anything is allocated for what it claims. Record bytes are written from the receive
//! buffer to the page cache and sent from there; they are looked into only where a rule asks for it
//! ([`compressed`]).
//!
//! **Design.** (1) One task per connection does everything; no request changes threads. (2)
//! Requests are carried out as they arrive, also while earlier ones still wait, so that pipelined
//! produce requests share a sync. (3) What waits is a small state in the connection's queue, asked
//! again when the connection's one wake signal is sent: no boxed future, no channel per request.
//! (4) Responses that are ready leave in one write. (5) Record ranges of 32 KiB or more leave by
//! `sendfile`, shorter ones are read into that one write. (6) A frame longer than 64 KiB takes its
//! share of a budget common to all connections before memory is reserved for it. (7) The group
//! coordinator is a state machine without clock or sockets; one task wakes at its next deadline.
//!
//! **Rejected.** A request queue with handler threads, as Kafka has (two wake-ups per request).

mod api;
pub mod batch;
mod blocking;
mod code;
pub mod compressed;
mod config;
mod connection;
#[cfg(test)]
mod cost_tests;
mod counters;
mod faults;
mod fetch_sessions;
mod groups;
mod hub;
mod internal;
mod names;
mod reply;
mod requests;
mod server;
pub mod shape;
mod store;
mod transactions;
mod transport;
mod validity;

pub use config::{Advertised, KafkaConfig};
pub use counters::{KafkaCounters, KafkaTotals};
pub use server::KafkaBroker;
