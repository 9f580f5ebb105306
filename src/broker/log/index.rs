//! From an offset or a time to a position in a segment, roughly.

use super::format::BatchHeader;

/// Bytes between two entries at least.
const INTERVAL: u64 = 16 << 10;

/// Where a batch starts, and the newest time before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct IndexEntry {
    /// Offset relative to the segment's first.
    offset: u32,
    position: u32,
    /// Newest time of all batches before this one.
    before: i64,
}

/// The sparse index of one segment, and its totals.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct SegmentIndex {
    base: u64,
    entries: Vec<IndexEntry>,
    last_indexed: u64,
    /// Newest time of a record; -1 when there is none.
    pub(super) max_timestamp: i64,
}

impl SegmentIndex {
    pub(super) fn new(base: u64) -> Self {
        Self { base, entries: Vec::new(), last_indexed: 0, max_timestamp: -1 }
    }

    /// Notes a batch that was appended at `position`.
    pub(super) fn add(&mut self, view: &BatchHeader, position: u64) {
        if position >= self.last_indexed + INTERVAL {
            let offset = u32::try_from(view.base.saturating_sub(self.base));
            if let (Ok(offset), Ok(at)) = (offset, u32::try_from(position)) {
                self.entries.push(IndexEntry { offset, position: at, before: self.max_timestamp });
                self.last_indexed = position;
            }
        }
        self.max_timestamp = self.max_timestamp.max(view.max_timestamp);
    }

    /// A position at or before the batch that holds `offset`.
    pub(super) fn position(&self, offset: u64) -> u64 {
        let relative = offset.saturating_sub(self.base);
        let after = self.entries.partition_point(|e| u64::from(e.offset) <= relative);
        after.checked_sub(1).map_or(0, |at| u64::from(self.entries[at].position))
    }

    /// The offset of the first batch known to start at `position` or after it.
    pub(super) fn offset_from(&self, position: u64) -> Option<u64> {
        let at = self.entries.partition_point(|e| u64::from(e.position) < position);
        self.entries.get(at).map(|e| self.base + u64::from(e.offset))
    }

    /// A position at or before the first batch with a time of at least `timestamp`.
    pub(super) fn position_of_time(&self, timestamp: i64) -> u64 {
        let after = self.entries.partition_point(|e| e.before < timestamp);
        after.checked_sub(1).map_or(0, |at| u64::from(self.entries[at].position))
    }

    /// The file beside a sealed segment: magic, totals, entries, checksum; little-endian.
    pub(super) fn encode(&self, end: u64, next: u64) -> Vec<u8> {
        let mut out = Vec::with_capacity(44 + self.entries.len() * 16);
        out.extend_from_slice(MAGIC);
        out.extend_from_slice(&end.to_le_bytes());
        out.extend_from_slice(&next.to_le_bytes());
        out.extend_from_slice(&self.max_timestamp.to_le_bytes());
        for entry in &self.entries {
            out.extend_from_slice(&entry.offset.to_le_bytes());
            out.extend_from_slice(&entry.position.to_le_bytes());
            out.extend_from_slice(&entry.before.to_le_bytes());
        }
        let sum = crc32c::crc32c(&out);
        out.extend_from_slice(&sum.to_le_bytes());
        out
    }

    /// Reads what [`encode`](Self::encode) wrote: the index, the segment's length and its next
    /// offset. `None` when it is damaged.
    pub(super) fn decode(base: u64, bytes: &[u8]) -> Option<(Self, u64, u64)> {
        let (body, sum) = bytes.split_last_chunk::<4>()?;
        if crc32c::crc32c(body) != u32::from_le_bytes(*sum) {
            return None;
        }
        let rest = body.strip_prefix(MAGIC)?;
        let (end, rest) = rest.split_first_chunk::<8>()?;
        let (next, rest) = rest.split_first_chunk::<8>()?;
        let (max, rest) = rest.split_first_chunk::<8>()?;
        if rest.len() % 16 != 0 {
            return None;
        }
        let mut entries = Vec::with_capacity(rest.len() / 16);
        for entry in rest.chunks_exact(16) {
            entries.push(IndexEntry {
                offset: u32::from_le_bytes(entry[..4].try_into().ok()?),
                position: u32::from_le_bytes(entry[4..8].try_into().ok()?),
                before: i64::from_le_bytes(entry[8..].try_into().ok()?),
            });
        }
        let last_indexed = entries.last().map_or(0, |e| u64::from(e.position));
        let index = Self { base, entries, last_indexed, max_timestamp: i64::from_le_bytes(*max) };
        Some((index, u64::from_le_bytes(*end), u64::from_le_bytes(*next)))
    }
}

const MAGIC: &[u8] = b"mbindex1";

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn view(base: u64, count: u32, max_timestamp: i64) -> BatchHeader {
        BatchHeader { len: 100, base, count, max_timestamp, producer: None, transaction: None }
    }

    proptest! {
        #[test]
        fn a_position_is_never_after_what_is_looked_for(
            batches in proptest::collection::vec((1u32..50, 61u64..40_000, 0i64..1000), 1..200)
        ) {
            let mut index = SegmentIndex::new(1000);
            let (mut base, mut position) = (1000, 0);
            let mut placed = Vec::new();
            for (count, len, time) in batches {
                index.add(&view(base, count, time), position);
                placed.push((base, base + u64::from(count), position, time));
                base += u64::from(count);
                position += len;
            }
            for &(first, next, at, time) in &placed {
                for offset in [first, next - 1] {
                    prop_assert!(index.position(offset) <= at);
                    prop_assert!(at - index.position(offset) < INTERVAL + 40_000);
                }
                prop_assert!(index.offset_from(at).is_none_or(|offset| offset >= first));
                let earliest = placed.iter().find(|p| p.3 >= time).unwrap().2;
                prop_assert!(index.position_of_time(time) <= earliest);
            }
            let bytes = index.encode(position, base);
            prop_assert_eq!(SegmentIndex::decode(1000, &bytes), Some((index, position, base)));
        }

        #[test]
        fn a_damaged_file_is_refused(mut bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            prop_assert_eq!(SegmentIndex::decode(0, &bytes), None);
            let whole = SegmentIndex::new(0).encode(0, 0);
            bytes.splice(0..0, whole);
            if bytes.len() > 36 {
                prop_assert_eq!(SegmentIndex::decode(0, &bytes), None);
            }
        }
    }
}
