//! The reference broker by its protocols: raw bytes, the clients of others, as a process, under
//! faults, and killed.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails here")]

mod log_clients;
mod log_cluster;
mod log_compressed;
mod log_consumer_groups;
mod log_crash;
mod log_faults;
mod log_fetch_sessions;
mod log_process;
mod log_protocol;
mod log_rules;
mod log_settings;
mod log_support;
mod log_tools;
mod log_transaction_epochs;
mod log_transactions;
#[path = "../common/needs.rs"]
mod needs;
mod process;
mod real;
mod router_async_nats;
mod router_monitor;
mod router_process;
mod router_protocol;
mod router_python;
mod router_streams;
mod router_support;
mod router_users;
mod running;
