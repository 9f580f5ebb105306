//! One append-only log: appending, syncing, and what readers may see.
//!
//! Lock order: `append` before `view`. `append` is held over a write to the page cache, `view` never over a system call.

mod commit;
mod roll;
mod view;

use std::fs::{File, OpenOptions};
use std::io::IoSlice;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use super::bell::{Bell, Bells};
use super::error::LogError;
use super::format::{Format, View};
use super::options::{Options, Settings, SyncPolicy};
use super::producers::{Producers, Sequence};
use super::recover::{self, Recovered};
use super::segment::{Segment, lock, stem};
use super::sync::{Syncer, Task};

pub use commit::Ticket;
use roll::Spare;
pub(super) use view::{End, Inner};

/// Syncs of a partition after which it is worth a segment of zeros.
const BUSY: u32 = 16;

/// What all partitions of a log share.
pub(super) struct Shared {
    pub(super) options: Options,
    pub(super) format: Arc<dyn Format>,
    /// There is none under [`SyncPolicy::Never`].
    pub(super) syncer: Option<Syncer>,
    /// Syncs done, and syncs and writes that failed.
    pub(super) syncs: AtomicU64,
    pub(super) failures: AtomicU64,
}

/// A partition of a topic.
pub struct Partition {
    pub(super) dir: PathBuf,
    pub(super) shared: Arc<Shared>,
    pub(super) settings: Mutex<Arc<Settings>>,
    pub(super) append: Mutex<Appender>,
    pub(super) view: Mutex<Inner>,
    /// Offset below which everything is synced.
    synced: AtomicU64,
    /// Bytes written and not synced.
    unsynced: AtomicU64,
    /// Counts the failures of syncs: a ticket of an earlier one is void.
    generation: AtomicU64,
    pub(super) deleted: AtomicBool,
    /// Where compaction has been up to.
    pub(super) compacted: AtomicU64,
    /// The next offset when it was opened: as long as it is that, there is nothing to sync.
    opened_at: u64,
}

pub(super) struct Appender {
    segment: Arc<Segment>,
    file: Arc<File>,
    position: u64,
    pub(super) next: u64,
    opened: Instant,
    producers: Producers,
    /// Length of zeros the segment was made with.
    prewritten: u64,
    spare: Spare,
}

/// What an append has come to.
pub struct Appended {
    /// Offset of the first record.
    pub base: u64,
    /// First offset kept.
    pub start: u64,
    /// Whether the batch had been stored before.
    pub duplicate: bool,
    /// When there is one, the sync policy does not yet cover the records.
    pub ticket: Option<Ticket>,
}

impl Partition {
    /// Opens or makes the partition in `dir`.
    pub(super) fn open(
        dir: &Path,
        shared: Arc<Shared>,
        settings: Arc<Settings>,
    ) -> Result<(Arc<Self>, Recovered), LogError> {
        std::fs::create_dir_all(dir).map_err(LogError::io("make", dir))?;
        let trusting = shared.options.sync == SyncPolicy::Never;
        let found = recover::segments(dir, &*shared.format, shared.options.max_producers, trusting)?;
        let report = found.report;
        let mut segments = found.segments;
        let fresh = segments.back().is_none_or(|last| last.is_sealed());
        if fresh {
            let base = segments.back().map_or(found.start, |last| last.next());
            let file = create(&dir.join(format!("{}.seg", stem(base))))?;
            segments.push_back(Arc::new(Segment::create(dir, base, file)));
        }
        let Some(segment) = segments.back().cloned() else { return Err(LogError::Deleted) };
        let (position, next) = (segment.end(), segment.next());
        let end = End { base: segment.base, position, offset: next };
        let start = found.start.max(segments.front().map_or(0, |s| s.base)).min(next);
        let appender = Appender {
            file: segment.file()?,
            segment,
            position,
            next,
            opened: Instant::now(),
            producers: found.producers,
            prewritten: 0,
            spare: Spare::None,
        };
        let inner = Inner::new(segments, start, end, fresh);
        let partition = Arc::new(Self {
            dir: dir.to_owned(),
            shared,
            settings: Mutex::new(settings),
            append: Mutex::new(appender),
            view: Mutex::new(inner),
            synced: next.into(),
            unsynced: 0.into(),
            generation: 0.into(),
            deleted: false.into(),
            compacted: 0.into(),
            opened_at: next,
        });
        Ok((partition, report))
    }

    pub(super) fn is_deleted(&self) -> bool {
        self.deleted.load(Ordering::Acquire)
    }

    /// First offset kept, and the offset after the last that readers may see.
    pub fn bounds(&self) -> (u64, u64) {
        let view = lock(&self.view);
        (view.start, view.visible.offset)
    }

    /// Has `bell` rung when there is more to read than up to `offset`; `false` when there is already.
    pub fn await_more(&self, offset: u64, bell: &Arc<Bell>) -> bool {
        let mut view = lock(&self.view);
        let nothing = view.visible.offset <= offset && !self.is_deleted();
        if nothing {
            view.readers.add(bell);
        }
        nothing
    }

    /// Appends one batch, whose bytes are written as they are except for the stamp.
    ///
    /// # Errors
    /// When the batch is malformed, damaged, too large or out of sequence, or cannot be written. Nothing of it is then kept.
    pub fn append(self: &Arc<Self>, batch: &[u8]) -> Result<Appended, LogError> {
        let format = &*self.shared.format;
        let view = format.view(batch).map_err(|malformed| LogError::Malformed(malformed.0))?;
        if view.len != batch.len() {
            return Err(LogError::Malformed("its length is not that of one batch"));
        }
        let settings = Arc::clone(&lock(&self.settings));
        if view.len > settings.max_batch {
            return Err(LogError::TooLarge { size: view.len, limit: settings.max_batch });
        }
        if !format.intact(batch) {
            return Err(LogError::Malformed("its checksum is wrong"));
        }
        let mut appender = lock(&self.append);
        if self.is_deleted() {
            return Err(LogError::Deleted);
        }
        if let Sequence::Duplicate { base } = appender.producers.check(&view)? {
            let stored = base + u64::from(view.count);
            drop(appender);
            let waits = self.shared.options.sync == SyncPolicy::Group;
            let ticket = waits.then(|| self.ticket(stored));
            return Ok(Appended { base, start: self.bounds().0, duplicate: true, ticket });
        }
        let view = View { base: appender.next, ..view };
        self.roll_if_due(&mut appender, &settings, &view)?;
        let mut stamp = [0; 32];
        let (stamped, rest) = batch.split_at(format.stamp_len());
        let stamp = &mut stamp[..stamped.len()];
        stamp.copy_from_slice(stamped);
        format.stamp(stamp, view.base);
        let position = appender.position;
        let mut parts = [IoSlice::new(stamp), IoSlice::new(rest)];
        if let Err(source) = self.shared.options.disk.write(&appender.file, &mut parts, position) {
            self.shared.failures.fetch_add(1, Ordering::Relaxed);
            self.undo(&appender, position, view.len as u64);
            return Err(LogError::Io { what: "write", path: appender.segment.path().to_owned(), source });
        }
        appender.segment.added(&view, position);
        appender.producers.stored(&view, self.shared.options.max_producers);
        appender.position += view.len as u64;
        appender.next = view.next();
        Ok(self.publish(&mut appender, &view, position))
    }

    /// Makes an append known: to readers, to the sync threads.
    fn publish(self: &Arc<Self>, appender: &mut Appender, batch: &View, position: u64) -> Appended {
        let policy = self.shared.options.sync;
        let unsynced = match policy {
            SyncPolicy::Never => 0,
            _ => self.unsynced.fetch_add(batch.len as u64, Ordering::AcqRel) + batch.len as u64,
        };
        let due = match policy {
            SyncPolicy::Never | SyncPolicy::Interval(_) => false,
            SyncPolicy::Bytes(limit) => unsynced >= limit,
            SyncPolicy::Group => true,
        };
        let base = appender.segment.base;
        let mut inner = lock(&self.view);
        inner.written = End { base, position: appender.position, offset: appender.next };
        inner.remember(End { base, position, offset: batch.base });
        let mut readers = Bells::default();
        if policy != SyncPolicy::Group {
            inner.visible = inner.written;
            readers = inner.readers.take();
        }
        if policy != SyncPolicy::Never && !inner.dirty.last().is_some_and(|last| Arc::ptr_eq(last, &appender.segment)) {
            inner.dirty.push(Arc::clone(&appender.segment));
        }
        let ask = due && inner.enqueue();
        let busy = inner.syncs >= BUSY;
        let start = inner.start;
        drop(inner);
        self.ask_for_spare(appender, busy);
        readers.ring();
        if ask {
            self.ask(Task::Sync(Arc::clone(self)));
        }
        let ticket = due.then(|| self.ticket(appender.next));
        Appended { base: batch.base, start, duplicate: false, ticket }
    }

    fn ask(&self, task: Task) {
        if let Some(syncer) = &self.shared.syncer {
            syncer.ask(task);
        }
    }
    /// Leaves nothing behind of a batch that was not written whole.
    fn undo(&self, appender: &Appender, position: u64, len: u64) {
        // What cannot be undone is found and cut by recovery, and overwritten by the next append.
        if appender.prewritten > position {
            let zeros = vec![0; len.min(appender.prewritten - position) as usize];
            let _ = std::os::unix::fs::FileExt::write_all_at(&*appender.file, &zeros, position);
        }
        let _ = appender.file.set_len(position.max(appender.prewritten));
    }

    /// Wakes everybody, as the topic has been deleted.
    pub(super) fn mark_deleted(&self) {
        self.deleted.store(true, Ordering::Release);
        let (readers, waiters) = {
            let mut inner = lock(&self.view);
            (inner.readers.take(), inner.waiters.take())
        };
        readers.ring();
        waiters.ring();
    }
}

fn create(path: &Path) -> Result<File, LogError> {
    let open = OpenOptions::new().read(true).write(true).create(true).truncate(true).open(path);
    open.map_err(LogError::io("make", path))
}
