//! What the servers of both protocols share: errors, TLS, how they end.

pub(super) mod certificate;
mod config;
pub(super) mod error;
pub(super) mod tls;

pub use config::{Shutdown, TlsFiles};

/// What an operator should know and no client can be told.
pub(super) fn log_error(words: impl std::fmt::Display) {
    crate::units::say(format_args!("msgbench broker: {words}"));
}
