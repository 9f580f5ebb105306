//! Buffers that go round: a connection holds one only while it has something to send.

use std::sync::{Mutex, PoisonError};

/// A bounded stack of empty buffers, shared by all connections of a broker.
#[derive(Debug, Default)]
pub(super) struct BufferPool(Mutex<Vec<Vec<u8>>>);

/// Buffers kept at most.
const KEPT: usize = 256;
/// Larger buffers are given back to the allocator.
const LARGEST: usize = 512 * 1024;

impl BufferPool {
    /// An empty buffer, with capacity if one was at hand.
    pub(super) fn take(&self) -> Vec<u8> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).pop().unwrap_or_default()
    }

    /// Keeps the buffer for the next taker, unless it is too large or there are enough.
    pub(super) fn give(&self, mut buffer: Vec<u8>) {
        if buffer.capacity() == 0 || buffer.capacity() > LARGEST {
            return;
        }
        buffer.clear();
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.len() < KEPT {
            kept.push(buffer);
        }
    }
}
