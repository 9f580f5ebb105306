//! A message or batch that has left the fast path of its protocol.

use crate::units::{Nanos, now};

/// Its bytes, copied, and when it arrived.
#[derive(Debug, Clone)]
pub(in crate::broker) struct OwnedMessage {
    /// The connection that published it.
    pub publisher: u64,
    pub arrived: Nanos,
    /// Subject, reply, header length and total length as text, payload: one after another.
    bytes: Vec<u8>,
    /// Where the first four of them end.
    ends: [usize; 4],
    /// Bytes of the payload that are headers.
    pub header_len: usize,
}

impl OwnedMessage {
    /// Of subject, reply, header length and total length as text, and payload.
    pub fn new(publisher: u64, parts: [&[u8]; 5], header_len: usize) -> Self {
        let mut bytes = Vec::with_capacity(parts.iter().map(|p| p.len()).sum());
        let mut ends = [0; 4];
        for (i, part) in parts.iter().enumerate() {
            bytes.extend_from_slice(part);
            if let Some(end) = ends.get_mut(i) {
                *end = bytes.len();
            }
        }
        Self { publisher, arrived: now(), bytes, ends, header_len }
    }

    /// The parts it was made of.
    pub fn parts(&self) -> [&[u8]; 5] {
        let [subject, reply, header, total] = self.ends;
        let b = &self.bytes;
        [&b[..subject], &b[subject..reply], &b[reply..header], &b[header..total], &b[total..]]
    }

    pub fn subject(&self) -> &[u8] {
        self.parts()[0]
    }

    pub fn payload(&self) -> &[u8] {
        self.parts()[4]
    }

    /// Flips a bit of the last payload byte; `false` when there is no payload behind the headers.
    pub fn corrupt(&mut self) -> bool {
        let body = self.bytes.len() > self.ends[3] + self.header_len;
        if let Some(last) = self.bytes.last_mut().filter(|_| body) {
            *last ^= 1;
        }
        body
    }

    /// Bytes of memory that it holds while it waits.
    pub fn memory_bytes(&self) -> usize {
        self.bytes.len() + size_of::<Self>()
    }
}
