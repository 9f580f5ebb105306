//! From one segment to the next, and the segments of zeros that make syncs cheap.

use std::fs::OpenOptions;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use super::super::disk;
use super::super::error::LogError;
use super::super::format::BatchHeader;
use super::super::options::{SyncPolicy, TopicSettings};
use super::super::position::End;
use super::super::segment::{Segment, lock, stem};
use super::super::sync::DiskTask;
use super::{Appender, Partition, create};

/// Length of a segment of zeros at most.
const PREWRITE: u64 = 64 << 20;

#[derive(Debug, PartialEq, Eq)]
pub(super) enum SpareSegment {
    None,
    Asked,
    Ready(u64),
}

impl Partition {
    /// Whether a batch that would be written at `position` belongs in another segment, because this
    /// one is full or old, or one full of zeros is ready.
    pub(super) fn is_roll_due(
        &self,
        appender: &Appender,
        position: u64,
        settings: &TopicSettings,
        batch: &BatchHeader,
    ) -> bool {
        let after = position + batch.len as u64;
        let full = after > settings.segment_bytes.min(u64::from(u32::MAX));
        let within = settings.compact_within_ms.filter(|_| settings.compact);
        let longest = settings.segment_ms.into_iter().chain(within).min();
        let old = longest.is_some_and(|ms| appender.opened.elapsed().as_millis() >= u128::from(ms));
        let many = batch.next() - appender.segment.base > u64::from(u32::MAX);
        let zeros = matches!(appender.spare, SpareSegment::Ready(_)) && after > appender.prewritten;
        position > 0 && (full || old || many || zeros)
    }

    /// Closes the segment and goes on in a new one.
    pub(in super::super) fn roll(&self, appender: &mut Appender) -> Result<(), LogError> {
        appender.segment.seal()?;
        let base = appender.next;
        if !appender.producers.is_empty() {
            let text = serde_json::to_vec(&appender.producers).unwrap_or_default();
            // Synced before the segment is there: who has sent what, and what was aborted, must be
            // known as long as its records are.
            let beside = self.dir.join(format!("{}.producers", stem(base)));
            disk::write_whole(self.shared.options.lasting(), &beside, &text)?;
        }
        let path = self.dir.join(format!("{}.seg", stem(base)));
        let prewritten = match appender.spare {
            SpareSegment::Ready(len) if std::fs::rename(self.spare(), &path).is_ok() => len,
            _ => 0,
        };
        let file = if prewritten > 0 {
            OpenOptions::new().read(true).write(true).open(&path).map_err(LogError::io("open", &path))?
        } else {
            create(&path)?
        };
        if matches!(appender.spare, SpareSegment::Ready(_)) {
            appender.spare = SpareSegment::None;
        }
        let segment = Arc::new(Segment::create(&self.dir, base, file));
        let sealed = Arc::clone(&appender.segment);
        appender.file = segment.file()?;
        appender.position = 0;
        appender.noted = 0;
        appender.opened = Instant::now();
        appender.prewritten = prewritten;
        appender.segment = Arc::clone(&segment);
        let mut inner = lock(&self.view);
        // Its length has changed, though all its records may be synced.
        if self.shared.options.sync != SyncPolicy::Never && !inner.dirty.iter().any(|dirty| Arc::ptr_eq(dirty, &sealed))
        {
            inner.dirty.push(sealed);
        }
        inner.segments.push_back(segment);
        inner.new_segment = true;
        inner.written = End { base, position: 0, offset: base };
        if inner.visible.offset == base {
            inner.visible = inner.written;
        }
        Ok(())
    }

    pub(super) fn spare(&self) -> PathBuf {
        self.dir.join("spare")
    }

    pub(super) fn ask_for_spare(self: &Arc<Self>, appender: &mut Appender, busy: bool) {
        let used_up = appender.position >= appender.prewritten / 2;
        if busy && used_up && self.shared.options.prewrite && appender.spare == SpareSegment::None {
            appender.spare = SpareSegment::Asked;
            self.ask(DiskTask::Prewrite(Arc::clone(self)));
        }
    }

    /// Writes a segment of zeros, to be used at the next occasion.
    pub(super) fn make_spare(&self) {
        let len = lock(&self.settings).segment_bytes.min(PREWRITE);
        let path = self.spare();
        let made = create(&path)
            .and_then(|file| disk::fill(&*self.shared.options.disk, &file, len).map_err(LogError::io("fill", &path)));
        let mut appender = lock(&self.append);
        appender.spare = match made {
            Ok(()) if !self.is_deleted() => SpareSegment::Ready(len),
            // A disk too full for zeros may still have room for records.
            _ => {
                let _ = std::fs::remove_file(&path);
                SpareSegment::Asked
            }
        };
    }
}
