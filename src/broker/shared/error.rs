//! What can go wrong before or while a broker serves.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;

use crate::faults::FaultsError;

/// Why a broker could not be started or could not go on.
#[derive(Debug, thiserror::Error)]
pub enum BrokerError {
    /// The address cannot be listened on.
    #[error("cannot listen on {address}: {source}; choose another --listen address, or port 0 for a free one")]
    Listen {
        /// The address asked for.
        address: SocketAddr,
        /// What the operating system said.
        source: io::Error,
    },
    /// A further address cannot be listened on.
    #[error("cannot serve {what} on {address}: {source}; choose another {option} address, or port 0 for a free one")]
    Serve {
        /// What is served there.
        what: &'static str,
        /// The option that says where.
        option: &'static str,
        /// The address asked for.
        address: SocketAddr,
        /// What the operating system said.
        source: io::Error,
    },
    /// A file TLS needs cannot be read.
    #[error("cannot read {what} {}: {reason}; it must be a PEM file", path.display())]
    TlsFile {
        /// Which file.
        what: &'static str,
        path: PathBuf,
        /// What the reader said.
        reason: String,
    },
    /// The certificates do not fit together.
    #[error("the TLS configuration is not usable: {0}; check that the key belongs to the certificate")]
    Tls(String),
    /// A public NKey does not decode.
    #[error("`{key}` is not a public user NKey: {reason}; it starts with U and has 56 letters and digits")]
    Nkey {
        /// The text given.
        key: String,
        /// What the decoder said.
        reason: String,
    },
    /// A setting is out of its range.
    #[error("{setting} is {value}; {remedy}")]
    Setting {
        /// Which setting.
        setting: &'static str,
        /// What it was.
        value: String,
        /// What it may be.
        remedy: &'static str,
    },
    /// The file of users cannot be used.
    #[error("cannot use the users of {at}: {reason}")]
    Users {
        /// The file, and line and column where they are known.
        at: String,
        /// What is wrong, and what may be done.
        reason: String,
    },
    /// The faults asked for make no sense.
    #[error(transparent)]
    Faults(#[from] FaultsError),
    /// The operating system refused something the broker cannot do without.
    #[error("cannot {what}: {source}")]
    System {
        /// What was attempted.
        what: &'static str,
        /// What the operating system said.
        source: io::Error,
    },
}
