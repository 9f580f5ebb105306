//! The Kafka driver against a real Kafka: one broker for all tests that can share it.

#![cfg(feature = "kafka")]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails here")]

mod delivery;
mod failures;
mod fetching;
mod groups;
mod intruders;
mod launched;
#[path = "../common/needs.rs"]
mod needs;
mod reference_log;
#[cfg(feature = "kafka-tls")]
mod secure;
mod service;
mod share;
mod streams;
mod support;
mod transactions;
mod wire;
