//! What can go wrong with a log.

use std::io;
use std::path::PathBuf;

/// Why a log could not be opened, written or read.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// The operating system refused something.
    #[error("cannot {what} {}: {source}", path.display())]
    Io {
        /// What was attempted.
        what: &'static str,
        /// With which file.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
    /// A file of the log is not what it should be.
    #[error("{} is damaged: {reason}; restore it from a copy, or remove the topic's directory to start it anew", path.display())]
    Damaged {
        /// Which file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// Another process has the directory.
    #[error("{} is in use by another broker; end it, or choose another data directory", .0.display())]
    InUse(PathBuf),
    /// The offset is below the first or above the last.
    #[error("offset {offset} is outside of {start}..={end}")]
    OutOfRange {
        /// The offset asked for.
        offset: u64,
        /// First offset kept.
        start: u64,
        /// The offset the next record will get, as far as readers may see.
        end: u64,
    },
    /// A batch is malformed.
    #[error("the batch is malformed: {0}")]
    Malformed(&'static str),
    /// A batch is larger than the topic allows.
    #[error("a batch of {size} B is larger than the {limit} B the topic allows")]
    TooLarge {
        /// Its size in bytes.
        size: usize,
        /// The limit in bytes.
        limit: usize,
    },
    /// A producer has left a gap, or gone back further than is remembered.
    #[error("producer {producer} sent sequence {got} where {expected} was due")]
    OutOfSequence {
        /// The producer's id.
        producer: i64,
        /// First sequence number of the batch.
        got: i32,
        /// The one that was due.
        expected: i32,
    },
    /// A newer instance of the producer exists.
    #[error("producer {producer} uses epoch {got}, {current} is current")]
    Fenced {
        /// The producer's id.
        producer: i64,
        /// The epoch of the batch.
        got: i16,
        /// The newest epoch.
        current: i16,
    },
    /// A batch does not go with the transaction of its producer.
    #[error("producer {producer}: {reason}")]
    Transaction {
        /// The producer's id.
        producer: i64,
        reason: &'static str,
    },
    /// The topic has been deleted.
    #[error("the topic has been deleted")]
    Deleted,
    /// There is a topic of that name.
    #[error("topic {0} exists")]
    Exists(String),
    /// There is no topic of that name.
    #[error("there is no topic {0}")]
    Unknown(String),
    /// A bound of the broker is reached.
    #[error("{what} would exceed the limit of {limit}")]
    Limit {
        /// What would.
        what: &'static str,
        limit: usize,
    },
}

impl LogError {
    pub(super) fn io(what: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::Io { what, path, source }
    }
}
