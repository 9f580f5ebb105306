//! Letting old segments go.

use std::sync::Arc;

use super::disk::write_whole;
use super::error::LogError;
use super::partition::Partition;
use super::segment::{Segment, lock};

impl Partition {
    /// Removes the segments that the topic's settings no longer keep; `now` in milliseconds since
    /// the Unix epoch.
    pub(super) fn retain(&self, now: i64) -> Result<usize, LogError> {
        let settings = Arc::clone(&lock(&self.settings));
        if !settings.delete {
            return Ok(0);
        }
        let old = |segment: &Segment| {
            let newest = segment.max_timestamp();
            settings.retention_ms.is_some_and(|ms| newest >= 0 && now.saturating_sub(newest) > ms as i64)
        };
        // The segment being written goes by age only; a new one takes its place first.
        {
            let mut appender = lock(&self.append);
            let active = lock(&self.view).segments.back().cloned();
            if active.is_some_and(|segment| segment.end() > 0 && old(&segment)) {
                self.roll(&mut appender)?;
            }
        }
        let mut gone = Vec::new();
        let start = {
            let mut inner = lock(&self.view);
            let mut bytes: u64 = inner.segments.iter().map(|s| s.end()).sum();
            while inner.segments.len() > 1 {
                let Some(first) = inner.segments.front() else { break };
                // What readers may not yet see, nobody has been told is stored.
                if first.next() > inner.visible.offset || first.base >= inner.visible.base {
                    break;
                }
                let records = inner.visible.offset.saturating_sub(first.next());
                let enough = settings.retention_bytes.is_some_and(|limit| bytes - first.end() >= limit)
                    || settings.retention_records.is_some_and(|limit| records >= limit);
                let trimmed = first.next() <= inner.start;
                if !(old(first) || enough || trimmed) {
                    break;
                }
                bytes -= first.end();
                inner.start = inner.start.max(first.next());
                gone.extend(inner.segments.pop_front());
            }
            let start = inner.start;
            inner.transactions.trim(start);
            start
        };
        lock(&self.append).trim(start);
        for segment in &gone {
            segment.remove()?;
        }
        Ok(gone.len())
    }

    /// Forgets the records before `offset`; their segments go at the next occasion. Returns the
    /// first offset kept.
    ///
    /// # Errors
    /// When the offset is beyond what readers may see, or it cannot be noted.
    pub fn trim(&self, offset: u64) -> Result<u64, LogError> {
        let start = {
            let mut inner = lock(&self.view);
            if offset > inner.visible.offset {
                return Err(LogError::OutOfRange { offset, start: inner.start, end: inner.visible.offset });
            }
            inner.start = inner.start.max(offset);
            inner.start
        };
        let disk = self.shared.options.lasting();
        write_whole(disk, &self.dir.join("start"), start.to_string().as_bytes())?;
        self.sync_names()?;
        Ok(start)
    }
}
