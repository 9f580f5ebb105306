//! Settings of a server, whatever its protocol.

use std::path::PathBuf;

/// The files TLS needs, all PEM.
#[derive(Debug, Clone)]
pub struct TlsFiles {
    /// The server's certificate chain.
    pub cert: PathBuf,
    /// Its private key.
    pub key: PathBuf,
    /// Certificate authorities; when given, clients must present a certificate signed by one of
    /// them.
    pub client_ca: Option<PathBuf>,
    /// Whether the handshake comes before INFO (nats-server's `handshake_first`).
    pub first: bool,
}

/// How a running broker is to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shutdown {
    /// Stop accepting, announce it, route what has been received, hand over what is buffered (at
    /// most `drain_timeout`), then close.
    Drain,
    /// Stop accepting, announce it, wait for `lame_duck.grace`, then close the clients spread over
    /// `lame_duck.spread`.
    LameDuck,
    /// Close everything at once.
    Now,
}
