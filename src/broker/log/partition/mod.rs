//! One append-only log: appending, syncing, and what readers may see.
//!
//! Lock order: `append` before `view`. `append` is held over a write to the page cache, `view`
//! never over a system call.

mod append;
mod commit;
mod roll;
mod view;

use std::fs::{File, OpenOptions};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use super::disk::make_folder;
use super::error::LogError;
use super::format::{BatchFormat, BatchHeader, TransactionStep};
use super::options::{LogOptions, TopicSettings};
use super::position::End;
use super::producers::ProducerStates;
use super::recover::{self, Recovered, RecoveryRules};
use super::segment::{Segment, lock, stem};
use super::sync::{DiskTask, SyncTarget, Syncer};
use super::wake::WakeSignal;

pub use append::Appended;
pub use commit::SyncTicket;
use roll::SpareSegment;
pub(super) use view::Inner;

/// What all partitions of a log share.
pub(super) struct LogContext {
    pub(super) options: LogOptions,
    pub(super) format: Arc<dyn BatchFormat>,
    /// There is none under [`SyncPolicy::Never`].
    pub(super) syncer: Option<Syncer<Partition>>,
    /// Which start of the system this is.
    pub(super) boot: Option<String>,
    /// Syncs done, and syncs and writes that failed.
    pub(super) syncs: AtomicU64,
    pub(super) failures: AtomicU64,
}

impl LogContext {
    /// By what a directory is read, with gaps in offsets or without.
    fn rules(&self, compacted: bool) -> RecoveryRules<'_> {
        RecoveryRules { options: &self.options, format: &*self.format, boot: self.boot.as_deref(), compacted }
    }
}

/// A partition of a topic.
pub struct Partition {
    pub(super) dir: PathBuf,
    pub(super) shared: Arc<LogContext>,
    pub(super) settings: Mutex<Arc<TopicSettings>>,
    pub(super) append: Mutex<Appender>,
    pub(super) view: Mutex<Inner>,
    /// Offset below which everything is synced.
    synced: AtomicU64,
    /// Bytes written and not synced.
    unsynced: AtomicU64,
    /// Counts the failures of syncs: a ticket of an earlier one is void.
    generation: AtomicU64,
    pub(super) deleted: AtomicBool,
    /// The segment below which everything has been noted to be synced, so that recovery need not
    /// read it.
    marked: AtomicU64,
    /// Notes of the newest segment written so far, which says whose turn it is.
    notes: AtomicUsize,
    /// Where compaction has been up to.
    pub(super) compacted: AtomicU64,
    /// The next offset when it was opened: as long as it is that, there is nothing to sync.
    opened_at: u64,
}

/// What a transaction makes of a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BatchDecision {
    /// It counts: its transaction is committed, or it is of none.
    Counts,
    /// Its transaction is not decided.
    Open,
    /// Its transaction was aborted.
    Aborted,
    /// It has no records, and says how a transaction has ended.
    Ends,
}

pub(super) struct Appender {
    segment: Arc<Segment>,
    file: Arc<File>,
    position: u64,
    pub(super) next: u64,
    opened: Instant,
    producers: ProducerStates,
    /// Length of zeros the segment was made with.
    prewritten: u64,
    spare: SpareSegment,
    /// Up to which byte the segment's state has been noted.
    noted: u64,
}

impl Appender {
    /// Forgets what is of no use to who reads from `start` on.
    pub(super) fn trim(&mut self, start: u64) {
        self.producers.transactions.trim(start);
    }
}

impl Partition {
    /// Opens or makes the partition in `dir`.
    pub(super) fn open(
        dir: &Path,
        shared: Arc<LogContext>,
        settings: Arc<TopicSettings>,
    ) -> Result<(Arc<Self>, Recovered), LogError> {
        make_folder(shared.options.lasting(), dir)?;
        let found = recover::segments(dir, shared.rules(settings.compact))?;
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
        let transactions = found.producers.transactions.clone();
        let appender = Appender {
            file: segment.file()?,
            segment,
            position,
            next,
            opened: Instant::now(),
            producers: found.producers,
            prewritten: 0,
            spare: SpareSegment::None,
            noted: if fresh { 0 } else { found.noted },
        };
        let inner = Inner::new(segments, start, end, fresh, transactions);
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
            marked: end.base.into(),
            notes: found.notes.into(),
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

    /// The offset that the next record gets, whether readers may see those before it or not.
    pub fn next_offset(&self) -> u64 {
        lock(&self.view).written.offset
    }

    /// The offset before which all transactions are decided, of what readers may see.
    pub fn stable_end(&self) -> u64 {
        let view = lock(&self.view);
        view.stable().offset.max(view.start)
    }

    /// The producers with an open transaction, and their epochs.
    pub fn open_transactions(&self) -> Vec<(i64, i16)> {
        lock(&self.view).transactions.open()
    }

    /// What has become of a batch that readers may see.
    pub fn decision(&self, batch: &BatchHeader) -> BatchDecision {
        let Some(stamp) = batch.transaction else { return BatchDecision::Counts };
        let view = lock(&self.view);
        if stamp.step != TransactionStep::Part {
            return BatchDecision::Ends;
        }
        match view.transactions.open_since(stamp.producer) {
            Some(since) if since <= batch.base => BatchDecision::Open,
            _ if view.transactions.is_aborted(batch) => BatchDecision::Aborted,
            _ => BatchDecision::Counts,
        }
    }

    /// Has `wake_signal` rung when there is more to read than up to `offset`; `false` when there is
    /// already.
    pub fn await_more(&self, offset: u64, wake_signal: &Arc<WakeSignal>) -> bool {
        let mut view = lock(&self.view);
        let nothing = view.visible.offset <= offset && !self.is_deleted();
        if nothing {
            view.readers.add(wake_signal);
        }
        nothing
    }

    fn ask(&self, task: DiskTask<Self>) {
        if let Some(syncer) = &self.shared.syncer {
            syncer.ask(task);
        }
    }

    /// Wakes everybody, as the topic has been deleted.
    pub(super) fn mark_deleted(&self) {
        self.deleted.store(true, Ordering::Release);
        let (readers, waiters) = {
            let mut inner = lock(&self.view);
            (inner.readers.take(), inner.waiters.take())
        };
        readers.wake();
        waiters.wake();
    }
}

impl SyncTarget for Partition {
    fn sync(self: &Arc<Self>) {
        self.sync_written();
    }

    fn prewrite(self: &Arc<Self>) {
        self.make_spare();
    }
}

fn create(path: &Path) -> Result<File, LogError> {
    let open = OpenOptions::new().read(true).write(true).create(true).truncate(true).open(path);
    open.map_err(LogError::io("make", path))
}
