//! Record batches of Kafka (format 2) as they are gathered: records are written where they go out
//! from, the head of the batch when it is full.
//!
//! Source: the description of record batches,
//! <https://kafka.apache.org/documentation/#recordbatch>.

use bytes::Bytes;

use crate::units::Nanos;

/// Bytes of a batch before its records.
const HEAD: usize = 61;
/// From where on the checksum covers it.
const COVERED: usize = 21;
/// Bytes of a record beside its value, at most: two lengths, attributes, two deltas, no key, no
/// headers.
pub(super) const RECORD: usize = 20;
/// Nobody: no idempotent producer.
const NOBODY: i64 = -1;

/// The batch of a partition that is being gathered.
#[derive(Debug, Default)]
pub(super) struct OpenBatch {
    bytes: Vec<u8>,
    tokens: Vec<u64>,
    /// When its first message was added.
    pub(super) begun: Nanos,
}

/// A batch that is complete.
#[derive(Debug)]
pub(super) struct SealedBatch {
    pub(super) bytes: Bytes,
    pub(super) tokens: Vec<u64>,
}

impl OpenBatch {
    pub(super) fn is_empty(&self) -> bool {
        self.tokens.is_empty()
    }

    /// Bytes that it has.
    pub(super) fn size(&self) -> usize {
        self.bytes.len()
    }

    /// Adds a message without key and headers, with the time stamp of the batch.
    #[inline]
    pub(super) fn push(&mut self, value: &[u8], token: u64) {
        if self.bytes.is_empty() {
            self.bytes.resize(HEAD, 0);
        }
        let (mut delta, mut length) = ([0; 10], [0; 10]);
        let delta = varint(self.tokens.len() as i64, &mut delta);
        let length = varint(value.len() as i64, &mut length);
        // Attributes, delta of the time stamp, absent key, no headers: a byte each.
        let size = 4 + delta.len() + length.len() + value.len();
        self.bytes.extend_from_slice(varint(size as i64, &mut [0; 10]));
        self.bytes.extend_from_slice(&[0, 0]);
        self.bytes.extend_from_slice(delta);
        // A length of -1.
        self.bytes.push(1);
        self.bytes.extend_from_slice(length);
        self.bytes.extend_from_slice(value);
        self.bytes.push(0);
        self.tokens.push(token);
    }

    /// Completes the batch; `at` is its time stamp, milliseconds since the epoch. The next one has
    /// the same room.
    pub(super) fn seal(&mut self, at: i64) -> SealedBatch {
        let room = (self.bytes.capacity(), self.tokens.capacity());
        let mut bytes = std::mem::replace(&mut self.bytes, Vec::with_capacity(room.0));
        let tokens = std::mem::replace(&mut self.tokens, Vec::with_capacity(room.1));
        let count = tokens.len() as i32;
        let length = (bytes.len() - 12) as i32;
        let mut head = Vec::with_capacity(HEAD);
        head.extend_from_slice(&0i64.to_be_bytes());
        head.extend_from_slice(&length.to_be_bytes());
        // Leader epoch, format, and room for the checksum.
        head.extend_from_slice(&(-1i32).to_be_bytes());
        head.push(2);
        head.extend_from_slice(&[0; 4]);
        // Attributes: not compressed, time stamps of creation.
        head.extend_from_slice(&0i16.to_be_bytes());
        head.extend_from_slice(&(count - 1).to_be_bytes());
        head.extend_from_slice(&at.to_be_bytes());
        head.extend_from_slice(&at.to_be_bytes());
        head.extend_from_slice(&NOBODY.to_be_bytes());
        head.extend_from_slice(&(-1i16).to_be_bytes());
        head.extend_from_slice(&(-1i32).to_be_bytes());
        head.extend_from_slice(&count.to_be_bytes());
        bytes[..HEAD].copy_from_slice(&head);
        let crc = crc32c::crc32c(&bytes[COVERED..]);
        bytes[COVERED - 4..COVERED].copy_from_slice(&crc.to_be_bytes());
        SealedBatch { bytes: Bytes::from(bytes), tokens }
    }
}

/// A number as Kafka's records have it: zigzag, seven bits a byte, the lowest first.
#[inline]
fn varint(n: i64, room: &mut [u8; 10]) -> &[u8] {
    let mut n = ((n << 1) ^ (n >> 63)) as u64;
    let mut at = 0;
    while n >= 0x80 {
        room[at] = n as u8 | 0x80;
        n >>= 7;
        at += 1;
    }
    room[at] = n as u8;
    &room[..=at]
}

#[cfg(test)]
mod tests {
    use kafka_protocol::records::RecordBatchDecoder;
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        /// Another implementation of the format reads what was written.
        #[test]
        fn a_batch_is_what_was_added(
            batches in prop::collection::vec(prop::collection::vec(prop::collection::vec(any::<u8>(), 0..300), 1..200), 1..3),
            at in 0i64..4_000_000_000_000,
        ) {
            let mut open = OpenBatch::default();
            for values in batches {
                for (token, value) in values.iter().enumerate() {
                    let before = open.size();
                    open.push(value, 7 + token as u64);
                    let head = if before == 0 { HEAD } else { 0 };
                    prop_assert!(open.size() - before <= head + RECORD + value.len());
                }
                let sealed = open.seal(at);
                prop_assert!(open.is_empty());
                prop_assert_eq!(sealed.tokens, (7..7 + values.len() as u64).collect::<Vec<_>>());
                let read = RecordBatchDecoder::decode(&mut sealed.bytes.clone()).unwrap();
                prop_assert!(read.records.iter().all(|r| r.timestamp == at && r.producer_id == -1 && r.key.is_none()));
                let read: Vec<Vec<u8>> = read.records.iter().map(|r| r.value.clone().unwrap_or_default().to_vec()).collect();
                prop_assert_eq!(read, values);
            }
        }
        #[test]
        fn numbers_have_their_length(n: i64) {
            let mut room = [0; 10];
            let bytes = varint(n, &mut room);
            let read = bytes.iter().rev().fold(0u64, |n, byte| n << 7 | u64::from(byte & 0x7F));
            prop_assert_eq!((read >> 1) as i64 ^ -((read & 1) as i64), n);
        }
    }
}
