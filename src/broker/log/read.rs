//! Reading: from an offset or a time to bytes in a file.

use std::fs::File;
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::FileExt as _;
use std::sync::Arc;

use super::error::LogError;
use super::format::BatchHeader;
use super::partition::{Inner, Partition};
use super::position::End;
use super::segment::{Segment, lock, read_some};
use super::transactions::AbortedTransaction;

/// How far apart the bytes are that tell whether a range is in memory: what the kernel reads ahead
/// at a time.
const PROBE: u64 = 128 << 10;

/// Bytes of a segment: whole batches from the start, the last possibly cut short by the limit asked
/// for.
#[derive(Debug, Clone)]
pub struct SegmentSlice {
    /// The segment's file.
    pub file: Arc<File>,
    /// Where the first batch starts.
    pub position: u64,
    /// How many bytes.
    pub len: usize,
}

impl SegmentSlice {
    /// Whether the range seems to be in memory: as far as a byte here and there can tell. What
    /// cannot be told is taken to be.
    pub fn is_cached(&self) -> bool {
        let last = (self.len as u64).saturating_sub(1);
        (0..last).step_by(PROBE as usize).chain([last]).all(|at| self.probe(at))
    }

    fn probe(&self, at: u64) -> bool {
        let mut byte = 0u8;
        let part = libc::iovec { iov_base: (&raw mut byte).cast(), iov_len: 1 };
        let Ok(position) = libc::off_t::try_from(self.position + at) else { return true };
        // SAFETY: `part` describes one writable byte, and the file is open.
        let read = unsafe { libc::preadv2(self.file.as_raw_fd(), &part, 1, position, libc::RWF_NOWAIT) };
        read >= 0 || std::io::Error::last_os_error().kind() != std::io::ErrorKind::WouldBlock
    }

    /// Reads the range and forgets it, so that it is in memory for a while.
    ///
    /// # Errors
    /// As the operating system says.
    pub fn load(&self) -> std::io::Result<()> {
        let mut piece = vec![0; (PROBE as usize).min(self.len)];
        for at in (0..self.len).step_by(piece.len().max(1)) {
            let step = piece.len().min(self.len - at);
            self.file.read_exact_at(&mut piece[..step], self.position + at as u64)?;
        }
        Ok(())
    }

    /// Reads the bytes into `out`, which must be as long.
    ///
    /// # Errors
    /// As the operating system says.
    pub fn read(&self, out: &mut [u8]) -> std::io::Result<()> {
        self.file.read_exact_at(out, self.position)
    }
}

/// What a reader wants to see of transactions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReadIsolation {
    /// Everything, also of open and aborted ones.
    Uncommitted,
    /// What is decided; records of aborted ones are among it, and named.
    Committed,
}

/// What is decided, and which of it does not count.
#[derive(Debug, Default)]
pub struct StableRead {
    pub slice: Option<SegmentSlice>,
    /// The aborted transactions with records in the range, and possibly some beyond it.
    pub aborted: Vec<AbortedTransaction>,
}

impl StableRead {
    /// What is read whatever becomes of it.
    pub fn all(slice: Option<SegmentSlice>) -> Self {
        Self { slice, aborted: Vec::new() }
    }
}

/// A segment readers may see, and up to which byte, of a log that ends for them at `end`.
fn seen(inner: &Inner, at: usize, end: End) -> Option<(Arc<Segment>, u64)> {
    let segment = inner.segments.get(at)?;
    let limit = match segment.base.cmp(&end.base) {
        std::cmp::Ordering::Less => segment.end(),
        std::cmp::Ordering::Equal => end.position,
        std::cmp::Ordering::Greater => return None,
    };
    Some((Arc::clone(segment), limit))
}

fn end_for(inner: &Inner, isolation: ReadIsolation) -> End {
    match isolation {
        ReadIsolation::Uncommitted => inner.visible,
        ReadIsolation::Committed => inner.stable(),
    }
}

impl Partition {
    /// At most `max` bytes from the batch that holds `offset` on. `None` when nothing is there to
    /// be read yet. When the first batch is longer than `max` it is there whole if `whole` is set;
    /// otherwise it is cut like any other.
    ///
    /// # Errors
    /// When the offset is out of range, or the file cannot be read.
    pub fn read(&self, offset: u64, max: usize, whole: bool) -> Result<Option<SegmentSlice>, LogError> {
        Ok(self.find(offset, max, whole, ReadIsolation::Uncommitted)?.map(|(slice, _)| slice))
    }

    /// The same of what is decided.
    ///
    /// # Errors
    /// When the offset is out of range, or the file cannot be read.
    pub fn read_committed(&self, offset: u64, max: usize, whole: bool) -> Result<StableRead, LogError> {
        let Some((slice, segment)) = self.find(offset, max, whole, ReadIsolation::Committed)? else {
            return Ok(StableRead::default());
        };
        self.judged(offset, slice, &segment)
    }

    /// A range of what is decided, with the aborted transactions in it.
    pub(super) fn judged(&self, offset: u64, slice: SegmentSlice, segment: &Segment) -> Result<StableRead, LogError> {
        let until = segment.offset_from(slice.position + slice.len as u64)?.unwrap_or(segment.next());
        let inner = lock(&self.view);
        // What was let go meanwhile is in the range still, and which of it does not count is
        // forgotten.
        if offset < inner.start {
            return Err(LogError::OutOfRange { offset, start: inner.start, end: inner.visible.offset });
        }
        let aborted = inner.transactions.aborted(offset, until);
        Ok(StableRead { slice: Some(slice), aborted })
    }

    pub(super) fn find(
        &self,
        offset: u64,
        max: usize,
        whole: bool,
        isolation: ReadIsolation,
    ) -> Result<Option<(SegmentSlice, Arc<Segment>)>, LogError> {
        let inner = lock(&self.view);
        if self.is_deleted() {
            return Err(LogError::Deleted);
        }
        if offset < inner.start || offset > inner.visible.offset {
            return Err(LogError::OutOfRange { offset, start: inner.start, end: inner.visible.offset });
        }
        let end = end_for(&inner, isolation);
        if offset >= end.offset || max == 0 && !whole {
            return Ok(None);
        }
        let mut at = inner.segments.partition_point(|s| s.base <= offset).saturating_sub(1);
        let mut known = inner.recent(offset);
        let mut found = seen(&inner, at, end);
        drop(inner);
        while let Some((segment, limit)) = found {
            let place = match known.take() {
                Some(end) if end.base == segment.base => Some(end.position),
                _ => segment.locate(&*self.shared.format, offset, limit)?.map(|(position, _)| position),
            };
            if let Some(position) = place {
                return Ok(Some((self.slice(&segment, position, limit, max, whole)?, segment)));
            }
            // Compaction leaves gaps at the end of a segment.
            at += 1;
            let inner = lock(&self.view);
            at = at.max(inner.segments.partition_point(|s| s.base <= segment.base));
            found = seen(&inner, at, end);
        }
        Ok(None)
    }

    fn slice(
        &self,
        segment: &Segment,
        position: u64,
        limit: u64,
        max: usize,
        whole: bool,
    ) -> Result<SegmentSlice, LogError> {
        let there = usize::try_from(limit - position).unwrap_or(usize::MAX);
        let mut len = there.min(max);
        let file = segment.file()?;
        if whole && len < there {
            let mut header = vec![0; self.shared.format.header_len()];
            let held = read_some(&file, &mut header, position).map_err(LogError::io("read", segment.path()))?;
            let damaged = |m: super::Malformed| LogError::Damaged {
                path: segment.path().to_owned(),
                reason: format!("at byte {position}: {}", m.0),
            };
            let view = self.shared.format.view(&header[..held]).map_err(damaged)?;
            len = len.max(view.len.min(there));
        }
        Ok(SegmentSlice { file, position, len })
    }

    /// The first batch with a record of at least `timestamp`, in milliseconds since the Unix epoch:
    /// its header and its bytes.
    ///
    /// # Errors
    /// When a file cannot be read.
    pub fn find_time(
        &self,
        timestamp: i64,
        isolation: ReadIsolation,
    ) -> Result<Option<(BatchHeader, Vec<u8>)>, LogError> {
        let (segments, start) = {
            let inner = lock(&self.view);
            let end = end_for(&inner, isolation);
            let seen: Vec<_> = (0..inner.segments.len()).map_while(|at| seen(&inner, at, end)).collect();
            (seen, inner.start)
        };
        for (segment, limit) in segments {
            if segment.max_timestamp() < timestamp || segment.next() <= start {
                continue;
            }
            let Some((position, view)) = segment.locate_time(&*self.shared.format, timestamp, limit)? else { continue };
            let mut bytes = vec![0; view.len];
            let slice = SegmentSlice { file: segment.file()?, position, len: view.len };
            slice.read(&mut bytes).map_err(LogError::io("read", segment.path()))?;
            return Ok(Some((view, bytes)));
        }
        Ok(None)
    }

    /// The newest time of a record, in milliseconds since the Unix epoch, that readers may see.
    pub fn max_timestamp(&self) -> Option<i64> {
        let inner = lock(&self.view);
        let seen = (0..inner.segments.len()).map_while(|at| seen(&inner, at, inner.visible));
        seen.map(|(segment, _)| segment.max_timestamp()).max().filter(|t| *t >= 0)
    }

    /// Bytes that readers may see.
    pub fn size(&self) -> u64 {
        let inner = lock(&self.view);
        (0..inner.segments.len()).map_while(|at| seen(&inner, at, inner.visible)).map(|(_, limit)| limit).sum()
    }
}
