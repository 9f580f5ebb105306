//! The reference broker: the smallest honest implementation of what the article compares, usable alone.
//!
//! **Why.** A benchmark that only measures other people's brokers cannot tell the broker's share of a latency from its own.
//! This one is fast enough not to be in the way, simple enough to be understood, and behaves as its protocol says.
//!
//! **Scope.** The router half: a single node that speaks the NATS client protocol to ordinary clients. No cluster, no
//! JetStream, no accounts: who needs those points the same scenario at NATS. It knows nothing of benchmarks.
//!
//! **Design.** One reader task per connection parses in place ([`parse`]), routes through what it remembers of the
//! subscription index (`router`, `index`), gathers a whole read batch per target and hands it to the kernel itself (`outlet`);
//! a second task, the keeper, wakes only when a socket is full or a timer is due. Rejected: a writer task per
//! message or per flush (a wake-up each), a lock per message, one thread for everything (no second core).
//!
//! **Invariants.** Everything is bounded: connections, subscriptions, control lines, payloads, what waits for a
//! connection, the time to show credentials. Messages of one connection arrive in order on every subscription, and a
//! PONG follows everything the connection had published before its PING.
//!
//! **Seams.** Faults leave the fast path in `Session::publish` (`faults`, only where some are configured). A second protocol gets its own session over the same hub, outlet and keeper.

mod auth;
mod certificate;
mod config;
mod connection;
mod counters;
mod error;
mod faults;
mod frames;
mod hub;
mod index;
mod info;
pub mod kafka;
mod keeper;
mod listen;
pub mod log;
mod monitor;
mod outlet;
pub mod parse;
mod pool;
mod router;
mod server;
mod session;
mod stages;
mod subject;
mod tls;
mod traffic;
pub mod users;
mod websocket;

/// What an operator should know and no client can be told.
fn complain(words: impl std::fmt::Display) {
    crate::units::say(format_args!("msgbench broker: {words}"));
}

pub use config::{Auth, Config, LameDuck, Shutdown, SlowConsumer, Tls};
pub use counters::{Counters, Totals};
pub use error::BrokerError;
pub use faults::{
    DeliveryFaults, Disconnect, Faults, FaultsError, Law, Misbehaviour, Mixture, Peer, Pick, RateCap, Stall,
    StopReading, Window,
};
pub use info::PROTOCOL_VERSION;
pub use server::Broker;
pub use users::{Credential, Permissions, Subjects, User};
