//! Appending: batches are looked at, written, and made known.
//!
//! Batches that come together for one partition are written by one call and made known at once: who
//! sends each record in a batch of its own, many ahead of their answers, pays for the system calls
//! once a read, not once a record.

use std::io::{self, IoSlice};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::super::error::LogError;
use super::super::format::BatchHeader;
use super::super::options::{SyncPolicy, TopicSettings};
use super::super::position::End;
use super::super::producers::SequenceCheck;
use super::super::segment::lock;
use super::super::sync::DiskTask;
use super::super::wake::WakeSignals;
use super::{Appender, Partition, SyncTicket};

/// Syncs of a partition after which it is worth a segment of zeros.
const BUSY: u32 = 16;
/// Bytes of the longest stamp.
const STAMP: usize = 32;

/// What an append has come to.
pub struct Appended {
    /// Offset of the first record.
    pub base: u64,
    /// First offset kept.
    pub start: u64,
    /// Whether the batch had been stored before.
    pub duplicate: bool,
    /// When there is one, the sync policy does not yet cover the records.
    pub ticket: Option<SyncTicket>,
}

/// A batch that is as it should be.
struct CheckedBatch<'a> {
    bytes: &'a [u8],
    view: BatchHeader,
    admitted: Option<u64>,
}

/// Whether nothing has to be known of who sent a batch.
fn is_anonymous(batch: &BatchHeader) -> bool {
    batch.producer.is_none() && batch.transaction.is_none()
}

type AppendResult = Result<Appended, LogError>;

impl Partition {
    /// Appends one batch, whose bytes are written as they are except for the stamp.
    ///
    /// # Errors
    /// When the batch is malformed, damaged, too large or out of sequence, or cannot be written.
    /// Nothing of it is then kept.
    pub fn append(self: &Arc<Self>, batch: &[u8]) -> AppendResult {
        // As many outcomes as batches.
        self.append_all(&[batch]).pop().unwrap_or(Err(LogError::Deleted))
    }

    /// Appends batches one after another; there is an outcome for each, as [`append`](Self::append)
    /// gives it.
    pub fn append_all(self: &Arc<Self>, batches: &[&[u8]]) -> Vec<AppendResult> {
        let batches: Vec<_> = batches.iter().map(|batch| (*batch, None)).collect();
        self.append_admitted(&batches)
    }

    /// The same with what [`next_offset`](Self::next_offset) was when each batch was admitted to
    /// the transaction of its producer: it is refused when that has ended since.
    pub fn append_admitted(self: &Arc<Self>, batches: &[(&[u8], Option<u64>)]) -> Vec<AppendResult> {
        let settings = Arc::clone(&lock(&self.settings));
        let mut outcomes = Vec::with_capacity(batches.len());
        // Checksums are compared before anybody has to wait for this.
        let checked: Vec<_> = batches.iter().map(|(batch, admitted)| self.check(batch, *admitted, &settings)).collect();
        let mut checked = checked.into_iter().peekable();
        let mut appender = lock(&self.append);
        while let Some(first) = checked.next() {
            let mut run = match first {
                Ok(first) => vec![first],
                Err(error) => {
                    outcomes.push(Err(error));
                    continue;
                }
            };
            let admitted = run[0].admitted;
            if let Some(outcome) = self.begin(&mut appender, &settings, &mut run[0].view, admitted) {
                outcomes.push(outcome);
                continue;
            }
            let mut after = appender.position + run[0].view.len as u64;
            let mut next = run[0].view.next();
            // Of a numbered batch it must be known whether it is stored before the next is looked
            // at.
            while is_anonymous(&run[0].view)
                && let Some(Ok(follower)) = checked.peek_mut()
                && is_anonymous(&follower.view)
                && !self.is_roll_due(&appender, after, &settings, &BatchHeader { base: next, ..follower.view })
            {
                follower.view.base = next;
                after += follower.view.len as u64;
                next = follower.view.next();
                run.extend(checked.next().and_then(Result::ok));
            }
            match self.write(&mut appender, &run, after) {
                Ok(()) => self.publish(&mut appender, &run, &mut outcomes),
                Err(source) => outcomes.extend(run.iter().map(|_| {
                    let source = source.raw_os_error().map_or(source.kind().into(), io::Error::from_raw_os_error);
                    Err(LogError::Io { what: "write", path: appender.segment.path().to_owned(), source })
                })),
            }
        }
        outcomes
    }

    fn check<'a>(
        &self,
        bytes: &'a [u8],
        admitted: Option<u64>,
        settings: &TopicSettings,
    ) -> Result<CheckedBatch<'a>, LogError> {
        let format = &*self.shared.format;
        let view = format.view(bytes).map_err(|malformed| LogError::Malformed(malformed.0))?;
        if view.len != bytes.len() {
            return Err(LogError::Malformed("its length is not that of one batch"));
        }
        if view.len > settings.max_batch {
            return Err(LogError::TooLarge { size: view.len, limit: settings.max_batch });
        }
        if !format.intact(bytes) {
            return Err(LogError::Malformed("its checksum is wrong"));
        }
        Ok(CheckedBatch { bytes, view, admitted })
    }

    /// Gives a batch its offset, in a segment that takes it; an outcome if it is not to be written.
    fn begin(
        self: &Arc<Self>,
        appender: &mut Appender,
        settings: &TopicSettings,
        view: &mut BatchHeader,
        admitted: Option<u64>,
    ) -> Option<AppendResult> {
        if self.is_deleted() {
            return Some(Err(LogError::Deleted));
        }
        match appender.producers.check(view) {
            Ok(SequenceCheck::Duplicate { base }) => {
                let stored = base + u64::from(view.count);
                let waits = self.shared.options.sync == SyncPolicy::Group;
                let ticket = waits.then(|| self.ticket(stored));
                return Some(Ok(Appended { base, start: self.bounds().0, duplicate: true, ticket }));
            }
            Ok(SequenceCheck::Due) => {}
            Err(error) => return Some(Err(error)),
        }
        if let Some(admitted) = admitted
            && let Err(error) = appender.producers.check_admitted(view, admitted)
        {
            return Some(Err(error));
        }
        view.base = appender.next;
        if self.is_roll_due(appender, appender.position, settings, view)
            && let Err(error) = self.roll(appender)
        {
            return Some(Err(error));
        }
        None
    }

    /// Writes batches that have their offsets, up to position `after`, or leaves nothing of them.
    fn write(&self, appender: &mut Appender, run: &[CheckedBatch<'_>], after: u64) -> io::Result<()> {
        let format = &*self.shared.format;
        let stamp_len = format.stamp_len();
        let mut stamps = vec![[0; STAMP]; run.len()];
        let mut parts = Vec::with_capacity(2 * run.len());
        for (stamp, batch) in stamps.iter_mut().zip(run) {
            let (stamped, rest) = batch.bytes.split_at(stamp_len);
            stamp[..stamp_len].copy_from_slice(stamped);
            format.stamp(&mut stamp[..stamp_len], batch.view.base);
            parts.extend([IoSlice::new(&stamp[..stamp_len]), IoSlice::new(rest)]);
        }
        let position = appender.position;
        if let Err(error) = self.shared.options.disk.write(&appender.file, &mut parts, position) {
            self.shared.failures.fetch_add(1, Ordering::Relaxed);
            self.undo(appender, position, after - position);
            return Err(error);
        }
        Ok(())
    }

    /// Makes what is written known: to readers, to the sync threads.
    fn publish(self: &Arc<Self>, appender: &mut Appender, run: &[CheckedBatch<'_>], outcomes: &mut Vec<AppendResult>) {
        let base = appender.segment.base;
        let began = appender.position;
        for batch in run {
            appender.segment.added(&batch.view, appender.position);
            let at = End { base, position: appender.position, offset: batch.view.base };
            appender.producers.stored(&batch.view, at, self.shared.options.max_producers);
            appender.position += batch.view.len as u64;
            appender.next = batch.view.next();
        }
        let bytes = appender.position - began;
        let policy = self.shared.options.sync;
        let unsynced = match policy {
            SyncPolicy::Never => 0,
            _ => self.unsynced.fetch_add(bytes, Ordering::AcqRel) + bytes,
        };
        let due = match policy {
            SyncPolicy::Never | SyncPolicy::Interval(_) => false,
            SyncPolicy::Bytes(limit) => unsynced >= limit,
            SyncPolicy::Group => true,
        };
        let mut inner = lock(&self.view);
        inner.written = End { base, position: appender.position, offset: appender.next };
        let mut position = began;
        for batch in run {
            let at = End { base, position, offset: batch.view.base };
            inner.remember(at);
            inner.transactions.stored(&batch.view, at);
            position += batch.view.len as u64;
        }
        let mut readers = WakeSignals::default();
        if policy != SyncPolicy::Group {
            inner.visible = inner.written;
            let shown = inner.visible;
            inner.transactions.shown(shown);
            readers = inner.readers.take();
        }
        if policy != SyncPolicy::Never && !inner.dirty.last().is_some_and(|last| Arc::ptr_eq(last, &appender.segment)) {
            inner.dirty.push(Arc::clone(&appender.segment));
        }
        let ask = due && inner.enqueue();
        let busy = inner.syncs >= BUSY;
        let start = inner.start;
        drop(inner);
        self.note_if_due(appender);
        self.ask_for_spare(appender, busy);
        readers.wake();
        if ask {
            self.ask(DiskTask::Sync(Arc::clone(self)));
        }
        outcomes.extend(run.iter().map(|CheckedBatch { view, .. }| {
            let ticket = due.then(|| self.ticket(view.next()));
            Ok(Appended { base: view.base, start, duplicate: false, ticket })
        }));
    }

    /// Leaves nothing behind of what was not written whole.
    fn undo(&self, appender: &Appender, position: u64, len: u64) {
        // What cannot be undone is found and cut by recovery, and overwritten by the next append.
        if appender.prewritten > position {
            let zeros = vec![0; len.min(appender.prewritten - position) as usize];
            let _ = std::os::unix::fs::FileExt::write_all_at(&*appender.file, &zeros, position);
        }
        let _ = appender.file.set_len(position.max(appender.prewritten));
    }
}
