//! A response on its way out.

use std::sync::{Arc, Mutex, PoisonError};

use bytes::{BufMut as _, BytesMut};
use kafka_protocol::protocol::{Encodable, HeaderVersion, StrBytes};

use super::super::log::{SegmentSlice, WakeSignal};
use crate::broker::shared::log_error;

/// Bytes of one or more responses, and the file ranges that go between them.
#[derive(Debug, Default)]
pub(super) struct Reply {
    pub(super) bytes: BytesMut,
    /// Each with the number of bytes that go before it.
    pub(super) files: Vec<(usize, SegmentSlice)>,
    /// Whether the connection is to be closed behind it.
    pub(super) hangs_up: bool,
}

impl Reply {
    /// A response without file ranges.
    pub(super) fn plain(bytes: BytesMut) -> Self {
        Self { bytes, ..Self::default() }
    }

    /// Adds another response behind this one.
    pub(super) fn append(&mut self, other: Self) {
        self.hangs_up |= other.hangs_up;
        if self.bytes.is_empty() && self.files.is_empty() {
            let hangs_up = self.hangs_up;
            *self = Self { hangs_up, ..other };
            return;
        }
        let before = self.bytes.len();
        self.files.extend(other.files.into_iter().map(|(at, slice)| (before + at, slice)));
        self.bytes.extend_from_slice(&other.bytes);
    }

    /// How many bytes it is.
    pub(super) fn len(&self) -> usize {
        self.bytes.len() + self.files.iter().map(|(_, slice)| slice.len).sum::<usize>()
    }
}

/// Where the coordinator puts the answer to a request that has to wait.
pub(super) struct ReplySlot {
    reply: Mutex<Option<Reply>>,
    wake_signal: Arc<WakeSignal>,
}

impl ReplySlot {
    pub(super) fn new(wake_signal: &Arc<WakeSignal>) -> Arc<Self> {
        Arc::new(Self { reply: Mutex::default(), wake_signal: Arc::clone(wake_signal) })
    }

    /// Puts the answer there and wakes the connection.
    pub(super) fn fill(&self, reply: Reply) {
        *self.reply.lock().unwrap_or_else(PoisonError::into_inner) = Some(reply);
        self.wake_signal.wake();
    }

    pub(super) fn take(&self) -> Option<Reply> {
        self.reply.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

/// Encodes a response with its header and length.
pub(super) fn respond<T: Encodable + HeaderVersion>(correlation: i32, version: i16, body: &T) -> Reply {
    respond_as(correlation, version, T::header_version(version), body, BytesMut::new())
}

/// The same with a given version of the header, into a buffer given.
pub(super) fn respond_as<T: Encodable>(
    correlation: i32,
    version: i16,
    header: i16,
    body: &T,
    mut out: BytesMut,
) -> Reply {
    out.put_i32(0);
    out.put_i32(correlation);
    if header > 0 {
        out.put_u8(0);
    }
    if let Err(error) = body.encode(&mut out, version) {
        // Every body is built of what its version can say; the test of all versions would show an
        // exception.
        let what = std::any::type_name::<T>();
        log_error(format_args!("{what} version {version} cannot be encoded: {error}"));
        debug_assert!(false, "{what} version {version} cannot be encoded: {error}");
    }
    finish(&mut out, 0);
    Reply::plain(out)
}

/// Writes the length of a frame that begins with the buffer and goes on for `more` bytes beyond it.
pub(super) fn finish(out: &mut BytesMut, more: usize) {
    let length = u32::try_from(out.len() + more - 4).unwrap_or(u32::MAX);
    out[..4].copy_from_slice(&length.to_be_bytes());
}

/// A text in the crate's type.
pub(super) fn text(text: impl Into<String>) -> StrBytes {
    StrBytes::from_string(text.into())
}
