//! Making what is appended survive a loss of power, and what becomes of it when that fails.

use std::fs::OpenOptions;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::super::checkpoint::Checkpoint;
use super::super::disk::write_whole;
use super::super::error::LogError;
use super::super::options::SyncPolicy;
use super::super::position::End;
use super::super::recover;
use super::super::segment::{Segment, lock, stem};
use super::super::sync::DiskTask;
use super::super::wake::{WakeSignal, WakeSignals};
use super::{Appender, Partition};
use crate::broker::shared::log_error;

/// A promise that records will be synced.
#[derive(Clone)]
pub struct SyncTicket {
    partition: Arc<Partition>,
    offset: u64,
    generation: u64,
}

impl SyncTicket {
    /// Whether the promise is kept; `wake_signal` is rung when it is worth asking again.
    /// `Some(false)` when syncing has failed: the records are not to be relied on.
    pub fn poll(&self, wake_signal: &Arc<WakeSignal>) -> Option<bool> {
        self.state().or_else(|| {
            lock(&self.partition.view).waiters.add(wake_signal);
            // It may have become true before the signal was added.
            self.state()
        })
    }

    /// The same without a wish to be told.
    pub fn state(&self) -> Option<bool> {
        let partition = &self.partition;
        if partition.generation.load(Ordering::Acquire) != self.generation || partition.is_deleted() {
            return Some(false);
        }
        (partition.synced.load(Ordering::Acquire) >= self.offset).then_some(true)
    }
}

impl Partition {
    pub(super) fn ticket(self: &Arc<Self>, offset: u64) -> SyncTicket {
        let generation = self.generation.load(Ordering::Acquire);
        SyncTicket { partition: Arc::clone(self), offset, generation }
    }

    /// Whether something waits to be synced, and is not yet in the queue; it is then to be put
    /// there.
    pub(in super::super) fn mark_dirty(&self) -> bool {
        let mut inner = lock(&self.view);
        !inner.dirty.is_empty() && inner.enqueue()
    }

    /// Syncs all that is written by now, and tells who waits for it; asks for another sync if more
    /// is to be synced by then.
    pub(super) fn sync_written(self: &Arc<Self>) {
        lock(&self.view).again = false;
        self.sync_once();
        let mut inner = lock(&self.view);
        inner.queued = std::mem::take(&mut inner.again);
        let again = inner.queued;
        drop(inner);
        if again {
            self.ask(DiskTask::Sync(Arc::clone(self)));
        }
    }

    fn sync_once(&self) {
        let (dirty, written, new_segment, bytes, note) = {
            let mut inner = lock(&self.view);
            let new_segment = std::mem::take(&mut inner.new_segment);
            let bytes = self.unsynced.load(Ordering::Acquire);
            (std::mem::take(&mut inner.dirty), inner.written, new_segment, bytes, inner.note.take())
        };
        let sync = |segment: &Arc<Segment>| {
            let file = segment.file()?;
            self.shared.options.disk.sync(&file).map_err(LogError::io("sync", segment.path()))
        };
        let mut result = dirty.iter().try_for_each(sync);
        if new_segment && result.is_ok() {
            // A file survives when its directory does.
            result = self.sync_names();
        }
        self.shared.syncs.fetch_add(1, Ordering::Relaxed);
        let group = self.shared.options.sync == SyncPolicy::Group;
        if result.is_ok() && self.marked.swap(written.base, Ordering::AcqRel) != written.base {
            // If it cannot be written, or does not survive, recovery reads more than it had to.
            let _ = write_whole(None, &self.dir.join(recover::SYNCED), written.base.to_string().as_bytes());
        }
        if let Err(error) = result
            && !self.is_deleted()
        {
            self.shared.failures.fetch_add(1, Ordering::Relaxed);
            log_error(&error);
            return self.give_up(dirty, written, group);
        }
        // Of an older segment nothing need be known beyond its index.
        if let Some(note) = note.filter(|note| note.base == written.base) {
            self.write_note(&note);
        }
        self.unsynced.fetch_sub(bytes, Ordering::AcqRel);
        let mut inner = lock(&self.view);
        inner.syncs = inner.syncs.saturating_add(1);
        let mut readers = WakeSignals::default();
        if group {
            inner.visible = written;
            inner.transactions.shown(written);
            readers = inner.readers.take();
        }
        self.synced.store(written.offset, Ordering::Release);
        let waiters = inner.waiters.take();
        drop(inner);
        waiters.wake();
        readers.wake();
    }

    /// Notes the state of the newest segment when enough has been added to it.
    pub(super) fn note_if_due(&self, appender: &mut Appender) {
        if appender.position.saturating_sub(appender.noted) < self.shared.options.checkpoint_bytes {
            return;
        }
        appender.noted = appender.position;
        let never = self.shared.options.sync == SyncPolicy::Never;
        let boot = self.shared.boot.as_deref();
        match appender.segment.note(&appender.producers, boot.filter(|_| never)) {
            Ok(note) if !never => lock(&self.view).note = Some(note),
            Ok(note) if boot.is_some() => self.write_note(&note),
            // Recovery reads more than it had to.
            _ => {}
        }
    }

    fn write_note(&self, note: &Checkpoint) {
        let turn = self.notes.fetch_add(1, Ordering::Relaxed);
        // The same.
        let _ = note.write(&self.dir, turn);
    }

    /// After a failed sync the kernel may have dropped what it could not write. Under group commit
    /// nobody has seen any of it: the log goes back to what is synced. Otherwise it has been
    /// served, so it stays, and the log goes on in a new segment.
    fn give_up(&self, dirty: Vec<Arc<Segment>>, written: End, group: bool) {
        let mut appender = lock(&self.append);
        self.generation.fetch_add(1, Ordering::AcqRel);
        self.unsynced.store(0, Ordering::Release);
        if group {
            if let Err(error) = self.back_to_synced(&mut appender) {
                log_error(&error);
            }
        } else if let Err(error) = self.roll(&mut appender) {
            // The segment stays in use; the next sync says whether the disk has come back.
            log_error(&error);
            lock(&self.view).dirty.extend(dirty);
        } else {
            self.synced.store(written.offset, Ordering::Release);
        }
        let waiters = lock(&self.view).waiters.take();
        waiters.wake();
    }

    fn back_to_synced(&self, appender: &mut Appender) -> Result<(), LogError> {
        let keep = lock(&self.view).visible;
        let gone: Vec<_> = {
            let mut inner = lock(&self.view);
            inner.dirty.clear();
            inner.note = None;
            inner.forget_all();
            let count = inner.segments.iter().filter(|s| s.base <= keep.base).count();
            inner.segments.drain(count..).collect()
        };
        for segment in gone {
            segment.remove()?;
        }
        // Who has them back after a loss of power finds that they do not follow.
        let _ = self.sync_names();
        let path = self.dir.join(format!("{}.seg", stem(keep.base)));
        let file = OpenOptions::new().read(true).write(true).open(&path).map_err(LogError::io("open", &path))?;
        file.set_len(keep.position).map_err(LogError::io("shorten", &path))?;
        let found = recover::newest(&self.dir, keep.base, file, self.shared.rules(false), None)?;
        let segment = Arc::new(found.segment);
        appender.file = segment.file()?;
        appender.position = segment.end();
        appender.next = segment.next();
        appender.noted = appender.noted.min(appender.position);
        let transactions = found.producers.transactions.clone();
        appender.producers = found.producers;
        appender.prewritten = 0;
        appender.segment = Arc::clone(&segment);
        let mut inner = lock(&self.view);
        inner.segments.pop_back();
        inner.segments.push_back(segment);
        inner.written = End { base: keep.base, position: appender.position, offset: appender.next };
        inner.visible = inner.written;
        inner.transactions = transactions;
        Ok(())
    }

    /// Syncs the names of its files, if anything is to be synced at all.
    pub(in super::super) fn sync_names(&self) -> Result<(), LogError> {
        let disk = self.shared.options.lasting();
        disk.map_or(Ok(()), |disk| disk.sync_names(&self.dir)).map_err(LogError::io("sync", &self.dir))
    }

    /// Syncs and closes: what is in the files is all there is, and the next start needs no search.
    pub(in super::super) fn close(self: &Arc<Self>) -> Result<(), LogError> {
        if lock(&self.append).next == self.opened_at {
            return Ok(());
        }
        self.sync_written();
        let appender = lock(&self.append);
        let path = appender.segment.path();
        appender.file.set_len(appender.position).map_err(LogError::io("shorten", path))?;
        self.shared.options.disk.sync(&appender.file).map_err(LogError::io("sync", path))?;
        if self.shared.options.sync != SyncPolicy::Never {
            write_whole(None, &self.dir.join(recover::SYNCED), appender.segment.base.to_string().as_bytes())?;
        }
        self.write_note(&appender.segment.note(&appender.producers, None)?);
        match std::fs::remove_file(self.spare()) {
            Err(source) if source.kind() != std::io::ErrorKind::NotFound => {
                Err(LogError::Io { what: "remove", path: self.spare(), source })
            }
            _ => Ok(()),
        }
    }
}
