//! Where something stands in a log.

use serde::{Deserialize, Serialize};

/// A position in the log: a segment, a byte in it, and the offset that starts there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct End {
    pub(super) base: u64,
    pub(super) position: u64,
    pub(super) offset: u64,
}
