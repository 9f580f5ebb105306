//! The reference broker: the smallest honest implementation of what the article compares, usable
//! alone.
//!
//! **Why.** A benchmark that only measures other people's brokers cannot tell the broker's share of
//! a latency from its own. This one is fast enough not to be in the way, simple enough to be
//! understood, and behaves as its protocol says.
//!
//! **Parts.** [`nats`] routes messages and keeps none, [`kafka`] speaks Kafka's protocol over
//! [`log`], which stores. `faults` is what both do wrong when they are asked to; `shared` is what
//! both servers need. It knows nothing of benchmarks.

mod faults;
pub mod kafka;
pub mod log;
pub mod nats;
mod shared;

pub use faults::FaultOptions;
pub use nats::users;
pub use nats::{
    Auth, Broker, Config, Counters, Credential, LameDuck, PROTOCOL_VERSION, Permissions, SlowConsumer, StreamStorage,
    Subjects, Totals, User,
};
pub use shared::error::BrokerError;
pub use shared::{Shutdown, TlsFiles};
