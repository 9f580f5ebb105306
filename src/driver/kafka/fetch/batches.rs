//! Record batches (format 2) read where they are: no copy and no allocation for a message.
//!
//! Source: the description of record batches,
//! <https://kafka.apache.org/documentation/#recordbatch>.

use std::collections::BTreeSet;

use bytes::Bytes;

use super::super::share::decompressed;
use crate::units::Nanos;

/// Bytes of a batch before its records.
const HEAD: usize = 61;
/// Bytes of base offset and length, which the length does not count.
const BEFORE: usize = 12;
/// From where on the checksum covers it.
const COVERED: usize = 21;
/// Bits of the attributes: compression, part of a transaction, marker of a transaction.
const CODEC: i64 = 0x07;
const TRANSACTIONAL: i64 = 0x10;
const CONTROL: i64 = 0x20;
/// The type of a marker by which a transaction is aborted.
const ABORT: [u8; 2] = [0, 0];

/// What the head of a batch says.
#[derive(Debug, Clone, Copy)]
struct BatchHead {
    /// Bytes of the whole batch.
    size: usize,
    base: i64,
    /// Offset of its last record, also where that was compacted away.
    last: i64,
    attributes: i64,
    producer: i64,
    count: i64,
}

impl BatchHead {
    /// The head of the first batch; `None` where not all of the batch is there.
    fn of(bytes: &[u8]) -> Result<Option<Self>, String> {
        if bytes.len() < HEAD {
            return Ok(None);
        }
        let field = |at: usize, n: usize| bytes[at..at + n].iter().fold(0u64, |v, b| v << 8 | u64::from(*b)) as i64;
        if bytes[16] != 2 {
            return Err(format!("a record batch has format {}, which is not read", bytes[16]));
        }
        let size = field(8, 4) as usize + BEFORE;
        let (base, delta, count) = (field(0, 8), field(23, 4), field(57, 4));
        if size < HEAD || base < 0 || delta > i64::from(i32::MAX) || count > i64::from(i32::MAX) {
            return Err("the head of a record batch cannot be read".into());
        }
        // No offset that can be counted on from overflows.
        let last = base.checked_add(delta).filter(|last| *last < i64::MAX - i64::from(i32::MAX));
        let last = last.ok_or("a record batch has an offset that cannot be")?;
        let head = Self { size, base, last, attributes: field(21, 2), producer: field(43, 8), count };
        Ok((size <= bytes.len()).then_some(head))
    }
}

/// The offset behind the last batch of which everything is there; `None` where there is none.
pub(super) fn next_offset(mut bytes: &[u8]) -> Result<Option<i64>, String> {
    let mut next = None;
    while let Some(head) = BatchHead::of(bytes)? {
        next = Some(head.last + 1);
        bytes = &bytes[head.size..];
    }
    Ok(next)
}

/// What a fetch brought of a partition, as far as it has not been given.
#[derive(Debug, Default)]
pub(super) struct FetchedRecords {
    pub(super) partition: i32,
    /// When the read returned that brought it.
    pub(super) at: Nanos,
    /// Offset of the next message to be given: what stands before it in its batch is not.
    pub(super) next: i64,
    /// From the next batch on.
    batches: Bytes,
    /// Aborted transactions that begin later: first offset and producer, the first one last.
    aborted: Vec<(i64, i64)>,
    /// Producers in whose aborted transaction the next batch may be.
    aborting: BTreeSet<i64>,
    /// Records of the batch that is open, where the next one begins, and how many are left.
    body: Bytes,
    here: usize,
    left: i64,
    base: i64,
    /// Offset behind the batch that is open.
    end: i64,
}

impl FetchedRecords {
    /// `aborted` has first offset and producer of each transaction that is not to be read.
    pub(super) fn new(partition: i32, at: Nanos, next: i64, batches: Bytes, mut aborted: Vec<(i64, i64)>) -> Self {
        aborted.sort_unstable_by(|a, b| b.cmp(a));
        Self { partition, at, next, batches, aborted, ..Self::default() }
    }

    /// Gives up to `limit` messages; how many they were. Fewer mean that there are no more.
    ///
    /// # Errors
    /// What cannot be read, in words. Messages before it were given.
    pub(super) fn give(&mut self, limit: usize, checks: bool, mut each: impl FnMut(&[u8])) -> Result<usize, String> {
        let mut given = 0;
        while given < limit {
            if self.left == 0 {
                self.next = self.next.max(self.end);
                if !self.open(checks)? {
                    break;
                }
                continue;
            }
            let Self { body, here, left, base, next, .. } = self;
            while *left > 0 && given < limit {
                let (delta, value) = record(body, here).ok_or("a record cannot be read")?;
                *left -= 1;
                let offset = *base + delta;
                if offset >= *next {
                    *next = offset + 1;
                    given += 1;
                    each(value);
                }
            }
        }
        Ok(given)
    }

    /// Opens the next batch that has messages for readers; false when there is none.
    fn open(&mut self, checks: bool) -> Result<bool, String> {
        while let Some(head) = BatchHead::of(&self.batches)? {
            let batch = self.batches.split_to(head.size);
            if checks {
                let stated = u32::from_be_bytes([batch[17], batch[18], batch[19], batch[20]]);
                let crc = crc32c::crc32c(&batch[COVERED..]);
                if crc != stated {
                    return Err(format!("the checksum of the batch at offset {} is wrong", head.base));
                }
            }
            if !self.readable(&head, &batch) {
                self.next = self.next.max(head.last + 1);
                continue;
            }
            let body = batch.slice(HEAD..);
            self.body = match head.attributes & CODEC {
                0 => body,
                codec => {
                    decompressed(codec, &body).map_err(|e| format!("a record batch cannot be decompressed: {e}"))?
                }
            };
            (self.here, self.left, self.base, self.end) = (0, head.count, head.base, head.last + 1);
            return Ok(true);
        }
        self.body = Bytes::new();
        Ok(false)
    }

    /// Whether a batch is neither a marker nor part of an aborted transaction.
    fn readable(&mut self, head: &BatchHead, batch: &Bytes) -> bool {
        while self.aborted.last().is_some_and(|(first, _)| *first <= head.last) {
            self.aborting.extend(self.aborted.pop().map(|(_, producer)| producer));
        }
        if head.attributes & CONTROL != 0 {
            if marker(&batch[HEAD..]) == Some(ABORT) {
                self.aborting.remove(&head.producer);
            }
            return false;
        }
        head.attributes & TRANSACTIONAL == 0 || !self.aborting.contains(&head.producer)
    }
}

/// What the marker of a transaction says: the second half of its key.
fn marker(body: &[u8]) -> Option<[u8; 2]> {
    let mut at = 0;
    varint(body, &mut at)?;
    at += 1;
    varint(body, &mut at)?;
    varint(body, &mut at)?;
    varint(body, &mut at)?;
    body.get(at + 2..at + 4)?.try_into().ok()
}

/// Offset within its batch, and value, of the record at `at`, which is moved behind it; a record
/// without a value has an empty one.
#[inline]
fn record<'a>(body: &'a [u8], at: &mut usize) -> Option<(i64, &'a [u8])> {
    let length = usize::try_from(varint(body, at)?).ok()?;
    let end = at.checked_add(length).filter(|end| *end <= body.len())?;
    // Its attributes mean nothing.
    let mut here = *at + 1;
    varint(body, &mut here)?;
    let delta = varint(body, &mut here)?;
    let key = varint(body, &mut here)?.max(0);
    here = here.checked_add(usize::try_from(key).ok()?)?;
    let value = usize::try_from(varint(body, &mut here)?.max(0)).ok()?;
    let stop = here.checked_add(value).filter(|stop| *stop <= end)?;
    let value = body.get(here..stop)?;
    *at = end;
    (0..=i64::from(i32::MAX)).contains(&delta).then_some((delta, value))
}

/// A number as Kafka's records have it: zigzag, seven bits a byte, the lowest first.
#[inline]
fn varint(bytes: &[u8], at: &mut usize) -> Option<i64> {
    let (mut value, mut shift) = (0u64, 0);
    loop {
        let byte = *bytes.get(*at)?;
        *at += 1;
        value |= u64::from(byte & 0x7F) << shift;
        if byte < 0x80 {
            return Some((value >> 1) as i64 ^ -((value & 1) as i64));
        }
        shift += 7;
        if shift > 63 {
            return None;
        }
    }
}

#[cfg(test)]
#[path = "batches_tests.rs"]
mod tests;
