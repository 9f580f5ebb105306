//! One append-only log: appending, syncing, and what readers may see.
//!
//! Lock order: `append` before `view`. `append` is held over a write to the page cache, `view` never over a system call.

use std::collections::VecDeque;
use std::fs::{File, OpenOptions};
use std::io::IoSlice;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use super::bell::{Bell, Bells};
use super::disk;
use super::error::LogError;
use super::format::{Format, View};
use super::options::{Options, Settings, SyncPolicy};
use super::producers::{Producers, Sequence};
use super::recover::{self, Recovered};
use super::segment::{Segment, lock, stem, write_whole};
use super::sync::{Syncer, Task};
use crate::broker::complain;

/// Syncs of a partition after which it is worth a segment of zeros.
const BUSY: u32 = 16;
/// Length of a segment of zeros at most.
const PREWRITE: u64 = 64 << 20;
/// Starts of batches remembered, so that who reads at the end needs no search.
const RECENT: usize = 16;

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

#[derive(Debug, PartialEq, Eq)]
enum Spare {
    None,
    Asked,
    Ready(u64),
}

/// A position in the log: a segment, a byte in it, and the offset that starts there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct End {
    pub(super) base: u64,
    pub(super) position: u64,
    pub(super) offset: u64,
}

pub(super) struct Inner {
    pub(super) segments: VecDeque<Arc<Segment>>,
    /// First offset kept.
    pub(super) start: u64,
    written: End,
    /// How far readers may see.
    pub(super) visible: End,
    /// Segments with bytes not synced.
    dirty: Vec<Arc<Segment>>,
    /// Whether a sync waits in the queue or is under way: of a partition there is one at a time, since what is synced must
    /// grow from the start of the log.
    queued: bool,
    /// Whether another is to follow it.
    again: bool,
    new_segment: bool,
    syncs: u32,
    readers: Bells,
    waiters: Bells,
    recent: VecDeque<End>,
}

impl Inner {
    /// Notes that a sync is wanted; `true` when it is to be put in the queue.
    fn enqueue(&mut self) -> bool {
        self.again |= self.queued;
        !std::mem::replace(&mut self.queued, true)
    }

    /// Forgets positions in a segment that has been written anew.
    pub(super) fn forget_recent(&mut self, base: u64) {
        self.recent.retain(|end| end.base != base);
    }

    /// The start of the batch that begins with `offset`, if it is one of the newest.
    pub(super) fn recent(&self, offset: u64) -> Option<End> {
        self.recent.iter().rev().find(|end| end.offset == offset).copied()
    }
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

/// A promise that records will be synced.
pub struct Ticket {
    partition: Arc<Partition>,
    offset: u64,
    generation: u64,
}

impl Ticket {
    /// Whether the promise is kept; `bell` is rung when it is worth asking again. `Some(false)` when syncing has failed: the
    /// records are not to be relied on.
    pub fn poll(&self, bell: &Arc<Bell>) -> Option<bool> {
        self.state().or_else(|| {
            lock(&self.partition.view).waiters.add(bell);
            // It may have come true before the bell was hung up.
            self.state()
        })
    }

    fn state(&self) -> Option<bool> {
        let partition = &self.partition;
        if partition.generation.load(Ordering::Acquire) != self.generation || partition.is_deleted() {
            return Some(false);
        }
        (partition.synced.load(Ordering::Acquire) >= self.offset).then_some(true)
    }
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
        let inner = Inner {
            segments,
            start,
            written: end,
            visible: end,
            dirty: Vec::new(),
            queued: false,
            again: false,
            new_segment: fresh,
            syncs: 0,
            readers: Bells::default(),
            waiters: Bells::default(),
            recent: VecDeque::with_capacity(RECENT),
        };
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
        if inner.recent.len() == RECENT {
            inner.recent.pop_front();
        }
        inner.recent.push_back(End { base, position, offset: batch.base });
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

    fn ticket(self: &Arc<Self>, offset: u64) -> Ticket {
        let generation = self.generation.load(Ordering::Acquire);
        Ticket { partition: Arc::clone(self), offset, generation }
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

    /// Moves on to another segment when this one is full or old, or one full of zeros is ready.
    fn roll_if_due(&self, appender: &mut Appender, settings: &Settings, batch: &View) -> Result<(), LogError> {
        let after = appender.position + batch.len as u64;
        let full = after > settings.segment_bytes.min(u64::from(u32::MAX));
        let old = settings.segment_ms.is_some_and(|ms| appender.opened.elapsed().as_millis() >= u128::from(ms));
        let many = batch.next() - appender.segment.base > u64::from(u32::MAX);
        let zeros = matches!(appender.spare, Spare::Ready(_)) && after > appender.prewritten;
        if appender.position == 0 || !(full || old || many || zeros) {
            return Ok(());
        }
        self.roll(appender)
    }

    /// Closes the segment and goes on in a new one.
    pub(super) fn roll(&self, appender: &mut Appender) -> Result<(), LogError> {
        appender.segment.seal()?;
        let base = appender.next;
        if !appender.producers.is_empty() {
            let text = serde_json::to_vec(&appender.producers).unwrap_or_default();
            write_whole(&self.dir.join(format!("{}.producers", stem(base))), &text)?;
        }
        let path = self.dir.join(format!("{}.seg", stem(base)));
        let prewritten = match appender.spare {
            Spare::Ready(len) if std::fs::rename(self.spare(), &path).is_ok() => len,
            _ => 0,
        };
        let file = if prewritten > 0 {
            OpenOptions::new().read(true).write(true).open(&path).map_err(LogError::io("open", &path))?
        } else {
            create(&path)?
        };
        if matches!(appender.spare, Spare::Ready(_)) {
            appender.spare = Spare::None;
        }
        let segment = Arc::new(Segment::create(&self.dir, base, file));
        appender.file = segment.file()?;
        appender.position = 0;
        appender.opened = Instant::now();
        appender.prewritten = prewritten;
        appender.segment = Arc::clone(&segment);
        let mut inner = lock(&self.view);
        inner.segments.push_back(segment);
        inner.new_segment = true;
        inner.written = End { base, position: 0, offset: base };
        if inner.visible.offset == base {
            inner.visible = inner.written;
        }
        Ok(())
    }

    fn spare(&self) -> PathBuf {
        self.dir.join("spare")
    }

    fn ask_for_spare(self: &Arc<Self>, appender: &mut Appender, busy: bool) {
        let used_up = appender.position >= appender.prewritten / 2;
        if busy && used_up && self.shared.options.prewrite && appender.spare == Spare::None {
            appender.spare = Spare::Asked;
            self.ask(Task::Prewrite(Arc::clone(self)));
        }
    }

    /// Writes a segment of zeros, to be used at the next occasion.
    pub(super) fn prewrite(&self) {
        let len = lock(&self.settings).segment_bytes.min(PREWRITE);
        let path = self.spare();
        let made = create(&path).and_then(|file| disk::fill(&file, len).map_err(LogError::io("fill", &path)));
        let mut appender = lock(&self.append);
        appender.spare = match made {
            Ok(()) if !self.is_deleted() => Spare::Ready(len),
            // A disk too full for zeros may still have room for records.
            _ => {
                let _ = std::fs::remove_file(&path);
                Spare::Asked
            }
        };
    }

    /// Whether something waits to be synced, and is not yet in the queue; it is then to be put there.
    pub(super) fn mark_dirty(&self) -> bool {
        let mut inner = lock(&self.view);
        !inner.dirty.is_empty() && inner.enqueue()
    }

    /// Syncs all that is written by now, and tells who waits for it; asks for another sync if more is to be synced by then.
    pub(super) fn sync(self: &Arc<Self>) {
        lock(&self.view).again = false;
        self.sync_once();
        let mut inner = lock(&self.view);
        inner.queued = std::mem::take(&mut inner.again);
        let again = inner.queued;
        drop(inner);
        if again {
            self.ask(Task::Sync(Arc::clone(self)));
        }
    }

    fn sync_once(&self) {
        let (dirty, written, new_segment, bytes) = {
            let mut inner = lock(&self.view);
            let new_segment = std::mem::take(&mut inner.new_segment);
            (std::mem::take(&mut inner.dirty), inner.written, new_segment, self.unsynced.load(Ordering::Acquire))
        };
        let sync = |segment: &Arc<Segment>| {
            let file = segment.file()?;
            self.shared.options.disk.sync(&file).map_err(LogError::io("sync", segment.path()))
        };
        let mut result = dirty.iter().try_for_each(sync);
        if new_segment && result.is_ok() {
            // A file survives when its directory does.
            let directory = File::open(&self.dir).and_then(|dir| dir.sync_all());
            result = directory.map_err(LogError::io("sync", &self.dir));
        }
        self.shared.syncs.fetch_add(1, Ordering::Relaxed);
        let group = self.shared.options.sync == SyncPolicy::Group;
        if dirty.len() > 1 && result.is_ok() {
            // If it cannot be written, or does not survive, recovery reads more than it had to.
            let _ = write_whole(&self.dir.join(recover::SYNCED), written.base.to_string().as_bytes());
        }
        if let Err(error) = result
            && !self.is_deleted()
        {
            self.shared.failures.fetch_add(1, Ordering::Relaxed);
            complain(&error);
            return self.give_up(dirty, written, group);
        }
        self.unsynced.fetch_sub(bytes, Ordering::AcqRel);
        let mut inner = lock(&self.view);
        inner.syncs = inner.syncs.saturating_add(1);
        let mut readers = Bells::default();
        if group {
            inner.visible = written;
            readers = inner.readers.take();
        }
        self.synced.store(written.offset, Ordering::Release);
        let waiters = inner.waiters.take();
        drop(inner);
        waiters.ring();
        readers.ring();
    }

    /// After a failed sync the kernel may have dropped what it could not write. Under group commit nobody has seen any of it: the
    /// log goes back to what is synced. Otherwise it has been served, so it stays, and the log goes on in a new segment.
    fn give_up(&self, dirty: Vec<Arc<Segment>>, written: End, group: bool) {
        let mut appender = lock(&self.append);
        self.generation.fetch_add(1, Ordering::AcqRel);
        self.unsynced.store(0, Ordering::Release);
        if group {
            if let Err(error) = self.back_to_synced(&mut appender) {
                complain(&error);
            }
        } else if let Err(error) = self.roll(&mut appender) {
            // The segment stays in use; the next sync says whether the disk has come back.
            complain(&error);
            lock(&self.view).dirty.extend(dirty);
        } else {
            self.synced.store(written.offset, Ordering::Release);
        }
        let waiters = lock(&self.view).waiters.take();
        waiters.ring();
    }

    fn back_to_synced(&self, appender: &mut Appender) -> Result<(), LogError> {
        let keep = lock(&self.view).visible;
        let gone: Vec<_> = {
            let mut inner = lock(&self.view);
            inner.dirty.clear();
            inner.recent.clear();
            let count = inner.segments.iter().filter(|s| s.base <= keep.base).count();
            inner.segments.drain(count..).collect()
        };
        for segment in gone {
            segment.remove()?;
        }
        let path = self.dir.join(format!("{}.seg", stem(keep.base)));
        let file = OpenOptions::new().read(true).write(true).open(&path).map_err(LogError::io("open", &path))?;
        file.set_len(keep.position).map_err(LogError::io("shorten", &path))?;
        let limit = self.shared.options.max_producers;
        let found = recover::newest(&self.dir, keep.base, file, &*self.shared.format, limit)?;
        let segment = Arc::new(found.segment);
        appender.file = segment.file()?;
        appender.position = segment.end();
        appender.next = segment.next();
        appender.producers = found.producers;
        appender.prewritten = 0;
        appender.segment = Arc::clone(&segment);
        let mut inner = lock(&self.view);
        inner.segments.pop_back();
        inner.segments.push_back(segment);
        inner.written = End { base: keep.base, position: appender.position, offset: appender.next };
        inner.visible = inner.written;
        Ok(())
    }

    /// Syncs and closes: what is in the files is all there is, and the next start needs no search.
    pub(super) fn close(self: &Arc<Self>) -> Result<(), LogError> {
        if lock(&self.append).next == self.opened_at {
            return Ok(());
        }
        self.sync();
        let appender = lock(&self.append);
        let path = appender.segment.path();
        appender.file.set_len(appender.position).map_err(LogError::io("shorten", path))?;
        appender.file.sync_all().map_err(LogError::io("sync", path))?;
        write_whole(&self.dir.join(recover::SYNCED), appender.segment.base.to_string().as_bytes())?;
        match std::fs::remove_file(self.spare()) {
            Err(source) if source.kind() != std::io::ErrorKind::NotFound => {
                Err(LogError::Io { what: "remove", path: self.spare(), source })
            }
            _ => Ok(()),
        }
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
