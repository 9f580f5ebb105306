//! What can go wrong between a driver and its system.

/// An error of a client library or a server: what failed, where, its own words, and what to do.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum DriverError {
    /// No connection came about.
    #[error("cannot connect to {url}: {words}; {remedy}")]
    Connect {
        url: String,
        /// The client's or server's words.
        words: String,
        /// What to do.
        remedy: String,
    },
    /// The connection ended for good.
    #[error("connection to {url} lost: {words}")]
    Lost {
        url: String,
        /// The client's or server's words.
        words: String,
    },
    /// One message was refused; the connection goes on.
    #[error("message refused: {words}")]
    Refused {
        /// The client's or server's words.
        words: String,
    },
    /// Something that must be set up, read back or removed was not.
    #[error("cannot {action} at {url}: {words}; {remedy}")]
    Admin {
        /// What was tried.
        action: String,
        url: String,
        /// The server's words.
        words: String,
        /// What to do.
        remedy: String,
    },
    /// What messages were stored in is not there any more.
    #[error("{what} is not there any more at {url}: {words}")]
    Gone {
        /// The stream or topic.
        what: String,
        url: String,
        /// The server's words.
        words: String,
    },
    /// An option of the system does not fit.
    #[error("{words}")]
    Option {
        /// Which option, and what is allowed.
        words: String,
    },
    /// A wait ran into its bound.
    #[error("{action} at {url} did not finish within {seconds} s")]
    Timeout {
        /// What was tried.
        action: String,
        url: String,
        /// The bound.
        seconds: f64,
    },
}
