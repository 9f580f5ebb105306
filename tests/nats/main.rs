//! The nats and jetstream drivers against a real nats-server.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails here")]

mod batches;
mod connect;
mod core;
mod domains;
mod drops;
mod expiry;
mod flow_control;
mod intruders;
mod jetstream;
mod key_value;
#[path = "../common/needs.rs"]
mod needs;
mod priority;
mod server;
mod service;
mod support;
mod topology;
mod transform;
