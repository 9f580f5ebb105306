//! A message in the log: one batch with time, subject, headers and body.

use std::sync::Arc;

use crate::broker::log::{BatchFormat, BatchHeader, EachRecord, LogError, Malformed, Partition};

/// Base 8, length 4, magic 1, checksum 4 (of what follows), time 8, length of the subject 2, of the
/// headers 4; then subject, headers and body. Numbers are big-endian.
const HEADER: usize = 31;
const MAGIC: u8 = 1;
const SUMMED: usize = 17;
/// Bytes that are read at a time.
const CHUNK: usize = 256 << 10;

/// How messages of streams are kept in a log.
#[derive(Debug)]
pub(in crate::broker::nats) struct StoredFormat;

fn number<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    let mut out = [0; N];
    if let Some(there) = bytes.get(at..at + N) {
        out.copy_from_slice(there);
    }
    out
}

/// A stored message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct StoredMessage<'a> {
    /// Its number in the stream, from 1.
    pub sequence: u64,
    /// When it was stored, in nanoseconds since the Unix epoch.
    pub time: i64,
    pub subject: &'a [u8],
    pub headers: &'a [u8],
    pub body: &'a [u8],
}

/// The bytes of a message; `content` is headers and body.
pub(super) fn encode(subject: &[u8], header_len: usize, content: &[u8], time: i64) -> Vec<u8> {
    let length = HEADER + subject.len() + content.len();
    let mut out = Vec::with_capacity(length);
    out.extend_from_slice(&[0; 8]);
    out.extend_from_slice(&(length as u32).to_be_bytes());
    out.push(MAGIC);
    out.extend_from_slice(&[0; 4]);
    out.extend_from_slice(&time.to_be_bytes());
    out.extend_from_slice(&(subject.len() as u16).to_be_bytes());
    out.extend_from_slice(&(header_len as u32).to_be_bytes());
    out.extend_from_slice(subject);
    out.extend_from_slice(content);
    let sum = crc32c::crc32c(&out[SUMMED..]);
    out[13..SUMMED].copy_from_slice(&sum.to_be_bytes());
    out
}

fn decode(bytes: &[u8]) -> Option<StoredMessage<'_>> {
    let subject = usize::from(u16::from_be_bytes(number(bytes, 25)));
    let headers = u32::from_be_bytes(number(bytes, 27)) as usize;
    let (subject, rest) = bytes.get(HEADER..)?.split_at_checked(subject)?;
    let (headers, body) = rest.split_at_checked(headers)?;
    let sequence = u64::from_be_bytes(number(bytes, 0)) + 1;
    Some(StoredMessage { sequence, time: i64::from_be_bytes(number(bytes, 17)), subject, headers, body })
}

impl BatchFormat for StoredFormat {
    fn header_len(&self) -> usize {
        HEADER
    }
    fn stamp_len(&self) -> usize {
        8
    }
    fn view(&self, bytes: &[u8]) -> Result<BatchHeader, Malformed> {
        if bytes.len() < HEADER || bytes[12] != MAGIC {
            return Err(Malformed("it is no stored message"));
        }
        let len = u32::from_be_bytes(number(bytes, 8)) as usize;
        let base = u64::from_be_bytes(number(bytes, 0));
        if len < HEADER || base > i64::MAX as u64 {
            return Err(Malformed("its length or offset cannot be"));
        }
        let max_timestamp = i64::from_be_bytes(number(bytes, 17)) / 1_000_000;
        Ok(BatchHeader { len, base, count: 1, max_timestamp, producer: None, transaction: None })
    }
    fn intact(&self, batch: &[u8]) -> bool {
        batch.len() >= HEADER && crc32c::crc32c(&batch[SUMMED..]) == u32::from_be_bytes(number(batch, 13))
    }
    fn stamp(&self, stamp: &mut [u8], base: u64) {
        stamp[..8].copy_from_slice(&base.to_be_bytes());
    }
    fn keys(&self, _: &[u8], _: &mut EachRecord<'_>) -> Option<()> {
        None
    }
    fn retain(&self, _: &[u8], _: &mut dyn FnMut(u64) -> bool) -> Option<Vec<u8>> {
        None
    }
}

/// Reads messages one after another, many with one call of the system.
#[derive(Debug, Default)]
pub(super) struct MessageReader {
    bytes: Vec<u8>,
    at: usize,
    /// The message at `at`.
    sequence: u64,
}

impl MessageReader {
    /// The message of this number, if it is there.
    pub fn get(&mut self, partition: &Arc<Partition>, sequence: u64) -> Result<Option<StoredMessage<'_>>, LogError> {
        if self.sequence != sequence || self.whole().is_none() {
            let slice = match partition.read(sequence - 1, CHUNK, true) {
                Ok(Some(slice)) => slice,
                Ok(None) | Err(LogError::OutOfRange { .. }) => return Ok(None),
                Err(error) => return Err(error),
            };
            self.bytes.resize(slice.len, 0);
            let read = |source| LogError::Io { what: "read", path: "a stream".into(), source };
            slice.read(&mut self.bytes).map_err(read)?;
            (self.at, self.sequence) = (0, sequence);
        }
        let Some(length) = self.whole() else { return Ok(None) };
        let begin = self.at;
        self.at += length;
        self.sequence += 1;
        Ok(self.bytes.get(begin..begin + length).and_then(decode).filter(|message| message.sequence == sequence))
    }

    /// Length of the message at `at`, if all of it is here.
    fn whole(&self) -> Option<usize> {
        let rest = self.bytes.get(self.at..)?;
        StoredFormat.view(rest).ok().map(|view| view.len).filter(|length| *length <= rest.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn what_is_encoded_is_read_back(
            subject in "[a-z.]{1,30}", headers in proptest::collection::vec(any::<u8>(), 0..50),
            body in proptest::collection::vec(any::<u8>(), 0..200), time in 0i64..i64::MAX,
        ) {
            let content = [&headers[..], &body].concat();
            let mut bytes = encode(subject.as_bytes(), headers.len(), &content, time);
            StoredFormat.stamp(&mut bytes[..8], 41);
            prop_assert!(StoredFormat.intact(&bytes));
            let expected = StoredMessage { sequence: 42, time, subject: subject.as_bytes(), headers: &headers, body: &body };
            prop_assert_eq!(decode(&bytes), Some(expected));
            prop_assert_eq!(StoredFormat.view(&bytes).unwrap().len, bytes.len());
        }

        #[test]
        fn any_bytes_are_read_without_panic(mut bytes in proptest::collection::vec(any::<u8>(), 0..100), magic: bool) {
            if magic && bytes.len() > 12 {
                bytes[12] = MAGIC;
            }
            let _ = (StoredFormat.view(&bytes), StoredFormat.intact(&bytes), decode(&bytes));
        }
    }
}
