//! The nats and jetstream drivers against a real nats-server.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails here")]

mod core;
mod drops;
mod intruders;
mod jetstream;
#[path = "../common/needs.rs"]
mod needs;
mod server;
mod service;
mod support;
mod topology;
