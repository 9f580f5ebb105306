//! The router: a single node that speaks the NATS client protocol to ordinary clients.
//!
//! **Scope.** No cluster, no accounts, and of JetStream what `jetstream` says: who needs more
//! points the same scenario at NATS. It knows nothing of benchmarks.
//!
//! **Design.** One reader task per connection parses in place ([`parse`]), routes through what it
//! remembers of the subscription index (`router`, `index`), gathers a whole read batch per target
//! and hands it to the kernel itself (`outlet`); a second task, the writer, wakes only when a
//! socket is full or a timer is due. Rejected: a writer task per message or per flush (a wake-up
//! each), a lock per message, one thread for everything (no second core).
//!
//! **Invariants.** Everything is bounded: connections, subscriptions, control lines, payloads, what
//! waits for a connection, the time to show credentials. Messages of one connection arrive in order
//! on every subscription, and a PONG follows everything the connection had published before its
//! PING.
//!
//! **Seams.** Faults leave the fast path in `Session::publish` (`faults`, only where some are
//! configured). A second protocol gets its own session over the same hub, outlet and writer task.

mod auth;
mod config;
mod connection;
mod connection_table;
mod counters;
mod faults;
mod frames;
mod hub;
mod index;
mod info;
mod jetstream;
mod listen;
mod monitor;
mod outlet;
pub mod parse;
mod pool;
mod router;
mod server;
mod session;
mod stages;
mod subject;
mod sync;
mod traffic;
pub mod users;
mod websocket;
mod writer;

pub use config::{Auth, Config, LameDuck, SlowConsumer, StreamStorage};
pub use counters::{Counters, Totals};
pub use info::PROTOCOL_VERSION;
pub use server::Broker;
pub use users::{Credential, Permissions, Subjects, User};
