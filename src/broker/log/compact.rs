//! Compaction: of the records with one key, closed segments keep the newest.
//!
//! Two passes. The first notes the newest offset of every key over all closed segments; the second
//! writes each segment that has something to lose anew beside it, and gives it the old one's name.
//! Offsets stay. A batch that cannot be looked into stays whole.

use std::collections::HashMap;
use std::fs::File;
use std::io::{BufWriter, Write as _};
use std::os::unix::fs::FileExt as _;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use foldhash::fast::RandomState;

use super::disk::write_whole;
use super::error::LogError;
use super::format::{BatchFormat, BatchHeader, TransactionStep};
use super::index::SegmentIndex;
use super::partition::{BatchDecision, Partition};
use super::segment::{Segment, lock};

/// Keys noted at most; beyond that the oldest segments are compacted against the keys noted so far
/// only.
const MAX_KEYS: usize = 4_000_000;

type NewestOffsets = HashMap<Box<[u8]>, u64, RandomState>;

impl Partition {
    /// Compacts the closed segments; `now` in milliseconds since the Unix epoch. Returns the bytes
    /// won.
    pub(super) fn compact(&self, now: i64) -> Result<u64, LogError> {
        let settings = Arc::clone(&lock(&self.settings));
        if !settings.compact {
            return Ok(0);
        }
        let after = i64::try_from(settings.compact_after_ms).unwrap_or(i64::MAX);
        let closed: Vec<Arc<Segment>> = {
            let inner = lock(&self.view);
            // Which records of an open transaction count is not known yet.
            let stable = inner.stable();
            let decided = |s: &&Arc<Segment>| s.is_sealed() && s.base < stable.base && s.next() <= stable.offset;
            let ripe = |s: &&Arc<Segment>| after == 0 || now.saturating_sub(s.max_timestamp()) >= after;
            inner.segments.iter().filter(decided).take_while(ripe).cloned().collect()
        };
        // Only another closed segment gives compaction something to do.
        let upto = closed.last().map_or(0, |last| last.next());
        if self.compacted.swap(upto, Ordering::Relaxed) == upto {
            return Ok(0);
        }
        let format = &*self.shared.format;
        let mut newest = NewestOffsets::default();
        // From the newest on, so that a bound on keys leaves the records of the oldest.
        for segment in closed.iter().rev() {
            each_batch(format, segment, |view, bytes| {
                if self.decision(view) != BatchDecision::Counts {
                    return Ok(());
                }
                let _ = format.keys(bytes, &mut |offset, key, _| {
                    let Some(key) = key else { return };
                    if let Some(last) = newest.get_mut(key) {
                        *last = offset.max(*last);
                    } else if newest.len() < MAX_KEYS {
                        newest.insert(key.into(), offset);
                    }
                });
                Ok(())
            })?;
        }
        let mut won = 0;
        for segment in closed {
            let expired = now.saturating_sub(segment.max_timestamp()) > settings.tombstone_ms as i64;
            won += self.compact_one(&segment, &newest, expired)?;
        }
        Ok(won)
    }

    fn compact_one(&self, segment: &Arc<Segment>, newest: &NewestOffsets, expired: bool) -> Result<u64, LogError> {
        let format = &*self.shared.format;
        let path = segment.path().with_extension("seg.tmp");
        let file = File::options().read(true).write(true).create(true).truncate(true).open(&path);
        let mut out = BufWriter::new(file.map_err(LogError::io("make", &path))?);
        let mut index = SegmentIndex::new(segment.base);
        let mut position = 0;
        each_batch(format, segment, |view, bytes| {
            let mut gone = Vec::new();
            let mut all = 0;
            let decision = self.decision(view);
            // Who reads needs the end of an aborted transaction as long as its records are there;
            // that of a committed one says nothing once all of it is decided.
            let says_nothing = view.transaction.is_some_and(|stamp| stamp.step == TransactionStep::Commit);
            if decision == BatchDecision::Ends && says_nothing && expired {
                return Ok(());
            }
            let looked = if decision != BatchDecision::Counts {
                None
            } else {
                format.keys(bytes, &mut |offset, key, empty| {
                    all += 1;
                    let newer = key.is_some_and(|key| newest.get(key).is_some_and(|last| *last > offset));
                    if newer || (empty && expired) {
                        gone.push(offset);
                    }
                })
            };
            let rewritten = match looked {
                Some(()) if gone.len() == all => return Ok(()),
                Some(()) if !gone.is_empty() => format.retain(bytes, &mut |o| gone.binary_search(&o).is_err()),
                _ => None,
            };
            let bytes = rewritten.as_deref().unwrap_or(bytes);
            out.write_all(bytes).map_err(LogError::io("write", &path))?;
            index.add(&BatchHeader { len: bytes.len(), ..*view }, position);
            position += bytes.len() as u64;
            Ok(())
        })?;
        let before = segment.end();
        if position == before {
            return std::fs::remove_file(&path).map_err(LogError::io("remove", &path)).map(|()| 0);
        }
        let file = out.into_inner().map_err(|error| LogError::io("write", &path)(error.into_error()))?;
        self.shared.options.disk.sync(&file).map_err(LogError::io("sync", &path))?;
        let max = index.max_timestamp;
        let next = segment.next();
        segment.pin()?;
        // Without the index, a crash in between leaves a segment that is walked.
        let _ = std::fs::remove_file(segment.index_path());
        std::fs::rename(&path, segment.path()).map_err(LogError::io("rename to", segment.path()))?;
        // Only the index tells what went from the end of it.
        write_whole(Some(&*self.shared.options.disk), &segment.index_path(), &index.encode(position, next))?;
        self.sync_names()?;
        let replacement = Arc::new(Segment::sealed(&self.dir, segment.base, position, next, max));
        let mut inner = lock(&self.view);
        if let Some(place) = inner.segments.iter_mut().find(|s| Arc::ptr_eq(s, segment)) {
            *place = replacement;
        }
        inner.forget_recent(segment.base);
        Ok(before - position)
    }
}

/// Reads a closed segment batch by batch.
fn each_batch(
    format: &dyn BatchFormat,
    segment: &Segment,
    mut each: impl FnMut(&BatchHeader, &[u8]) -> Result<(), LogError>,
) -> Result<(), LogError> {
    let file = segment.file()?;
    let mut bytes = Vec::new();
    let mut position = 0;
    while let Some((at, view)) = segment.walk(format, position, segment.end(), |_| true)? {
        bytes.resize(view.len, 0);
        file.read_exact_at(&mut bytes, at).map_err(LogError::io("read", segment.path()))?;
        // Which end of a transaction it is, is known of the whole alone.
        each(&format.view(&bytes).unwrap_or(view), &bytes)?;
        position = at + view.len as u64;
    }
    Ok(())
}
