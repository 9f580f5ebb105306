//! What is in a message: a 44-byte envelope that makes every message accountable, then the body.
//!
//! | bytes | field |
//! |---|---|
//! | 0..4 | magic `MBE1` |
//! | 4..8 | run |
//! | 8..12 | producer |
//! | 12..20 | sequence, from 0 for each producer |
//! | 20..28 | intended, ns on CLOCK_MONOTONIC |
//! | 28..36 | sent, ns on CLOCK_MONOTONIC |
//! | 36..40 | CRC-32C of the body |
//! | 40..44 | CRC-32C of bytes 0..40 |
//!
//! All little-endian. Two checksums, so that stamping costs the same for any size: the body's is
//! computed once.

use super::checksum;
use crate::units::Nanos;

/// Bytes of the envelope.
pub const ENVELOPE: usize = 44;

const MAGIC: [u8; 4] = *b"MBE1";

/// The stamps of one message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Envelope {
    /// Names the trial.
    pub run: u32,
    /// Names the producer within the trial.
    pub producer: u32,
    /// Its number among the producer's messages, from 0.
    pub sequence: u64,
    /// When it was due.
    pub intended: Nanos,
    /// When it was handed to the client.
    pub sent: Nanos,
}

impl Envelope {
    /// The same with its instants in another clock, which is so much ahead.
    #[inline]
    pub fn shifted(self, by: i64) -> Self {
        let (intended, sent) = (self.intended.wrapping_add_signed(by), self.sent.wrapping_add_signed(by));
        Self { intended, sent, ..self }
    }

    /// Stamps the head of a message; its magic and the checksum of its body stand there already.
    #[inline]
    pub fn write(&self, head: &mut [u8; ENVELOPE]) {
        let word = |low: u32, high: u32| u64::from(low) | u64::from(high) << 32;
        let (low, high) = (|n: u64| n as u32, |n: u64| (n >> 32) as u32);
        let body = u32_at(head, 36);
        let words = [
            word(u32::from_le_bytes(MAGIC), self.run),
            word(self.producer, low(self.sequence)),
            word(high(self.sequence), low(self.intended)),
            word(high(self.intended), low(self.sent)),
            word(high(self.sent), body),
        ];
        let crc = checksum::of_words(words);
        head.as_chunks_mut().0.iter_mut().zip(words).for_each(|(to, word)| *to = word.to_le_bytes());
        head[40..].copy_from_slice(&crc.to_le_bytes());
    }
}

#[inline]
fn u32_at(head: &[u8; ENVELOPE], at: usize) -> u32 {
    u32::from_le_bytes([head[at], head[at + 1], head[at + 2], head[at + 3]])
}

/// Why bytes are not a message of this trial.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EnvelopeError {
    /// Not a message of msgbench at all, or of another trial.
    Foreign,
    /// A checksum does not hold.
    Corrupted,
}

/// The bytes of a message whose envelope is stamped anew for each sending.
#[derive(Debug, Clone)]
pub struct Template {
    bytes: Vec<u8>,
    /// Whether there is no envelope: what is sent is the body.
    bare: bool,
}

impl Template {
    /// A message with this body behind its envelope.
    pub fn new(body: &[u8]) -> Self {
        let mut bytes = Vec::with_capacity(ENVELOPE + body.len());
        bytes.extend_from_slice(&MAGIC);
        bytes.resize(ENVELOPE, 0);
        bytes.extend_from_slice(body);
        bytes[36..40].copy_from_slice(&checksum::of_bytes(body).to_le_bytes());
        Self { bytes, bare: false }
    }

    /// The body alone, for who does not know the envelope.
    pub fn bare(mut self) -> Self {
        self.bytes.drain(..ENVELOPE);
        Self { bytes: self.bytes, bare: true }
    }

    /// Stamps the envelope and gives the bytes to send.
    #[inline]
    pub fn stamp(&mut self, e: &Envelope) -> &[u8] {
        if let Some(head) = self.bytes.first_chunk_mut().filter(|_| !self.bare) {
            e.write(head);
        }
        &self.bytes
    }

    /// The bytes with room for the envelope in front, for who stamps them elsewhere; none where
    /// there is no envelope.
    pub fn unstamped(&self) -> Option<&[u8]> {
        (!self.bare).then_some(&self.bytes)
    }

    /// Bytes on the wire.
    #[allow(clippy::len_without_is_empty, reason = "nobody asks: all but a bare one have an envelope")]
    pub fn len(&self) -> usize {
        self.bytes.len()
    }
}

/// Reads and verifies a message of trial `run`.
///
/// # Errors
/// [`EnvelopeError::Foreign`] without magic or of another run, [`EnvelopeError::Corrupted`] when a
/// checksum does not hold.
#[inline]
pub fn open(bytes: &[u8], run: u32) -> Result<Envelope, EnvelopeError> {
    let (head, body) = bytes.split_first_chunk::<ENVELOPE>().ok_or(EnvelopeError::Foreign)?;
    if head[..4] != MAGIC {
        return Err(EnvelopeError::Foreign);
    }
    let u32_at = |at: usize| u32_at(head, at);
    let u64_at = |at: usize| u64::from(u32_at(at)) | u64::from(u32_at(at + 4)) << 32;
    let words = [0, 8, 16, 24, 32].map(u64_at);
    if checksum::of_words(words) != u32_at(40) || checksum::of_bytes(body) != u32_at(36) {
        return Err(EnvelopeError::Corrupted);
    }
    if u32_at(4) != run {
        return Err(EnvelopeError::Foreign);
    }
    Ok(Envelope { run, producer: u32_at(8), sequence: u64_at(12), intended: u64_at(20), sent: u64_at(28) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn opens_what_was_stamped(run: u32, producer: u32, sequence: u64, intended: u64, sent: u64, body: Vec<u8>) {
            let e = Envelope { run, producer, sequence, intended, sent };
            let mut t = Template::new(&body);
            prop_assert_eq!(t.len(), ENVELOPE + body.len());
            prop_assert_eq!(open(t.stamp(&e), run), Ok(e));
            prop_assert_eq!(open(t.stamp(&e), run.wrapping_add(1)), Err(EnvelopeError::Foreign));
        }
        #[test]
        fn a_flipped_bit_is_noticed(body in prop::collection::vec(any::<u8>(), 0..300), bit: usize) {
            let e = Envelope { run: 1, producer: 2, sequence: 3, intended: 4, sent: 5 };
            let mut bytes = Template::new(&body).stamp(&e).to_vec();
            let bit = bit % (bytes.len() * 8);
            bytes[bit / 8] ^= 1 << (bit % 8);
            let flaw = if bit / 8 < 4 { EnvelopeError::Foreign } else { EnvelopeError::Corrupted };
            prop_assert_eq!(open(&bytes, 1), Err(flaw));
        }
        #[test]
        fn never_panics(bytes: Vec<u8>) {
            let _ = open(&bytes, 1);
        }
    }
}
