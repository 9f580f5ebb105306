//! The threads that make what was appended survive a loss of power.
//!
//! A partition is in the queue at most once. A thread takes it, syncs what is written by then, and
//! wakes all who wait for it; whoever appended meanwhile has put it in the queue again and shares
//! the next sync. That is group commit: the slower the disk, the more share one sync.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::JoinHandle;

use super::error::LogError;
use super::partition::Partition;
use super::segment::lock;

/// What the threads do.
pub(super) enum DiskTask {
    /// Sync a partition.
    Sync(Arc<Partition>),
    /// Make a segment full of zeros for it.
    Prewrite(Arc<Partition>),
}

#[derive(Default)]
struct SyncState {
    queue: VecDeque<DiskTask>,
    closed: bool,
}

#[derive(Default)]
struct SyncShared {
    state: Mutex<SyncState>,
    work: Condvar,
}

/// The queue and its threads.
pub(super) struct Syncer {
    shared: Arc<SyncShared>,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

impl Syncer {
    /// Starts so many threads, two at least.
    pub(super) fn start(threads: usize) -> Result<Self, LogError> {
        let shared = Arc::new(SyncShared::default());
        let start = |n: usize| {
            let shared = Arc::clone(&shared);
            let builder = std::thread::Builder::new().name(format!("log-sync-{n}"));
            // The first only syncs, so that no sync has to wait behind the writing of zeros.
            builder.spawn(move || work(&shared, n > 0)).map_err(LogError::io("start a thread for", "the log"))
        };
        let threads = (0..threads.max(2)).map(start).collect::<Result<Vec<_>, _>>()?;
        Ok(Self { shared, threads: Mutex::new(threads) })
    }

    pub(super) fn ask(&self, task: DiskTask) {
        lock(&self.shared.state).queue.push_back(task);
        self.shared.work.notify_one();
    }

    /// Ends the threads once the queue is empty.
    pub(super) fn close(&self) {
        lock(&self.shared.state).closed = true;
        self.shared.work.notify_all();
        for thread in lock(&self.threads).drain(..) {
            // A thread that has panicked has said so on standard error.
            let _ = thread.join();
        }
    }
}

fn work(shared: &SyncShared, prewrites: bool) {
    loop {
        let mut state = lock(&shared.state);
        let task = loop {
            if let Some(task) = state.next(prewrites) {
                break task;
            }
            if state.closed {
                return;
            }
            state = shared.work.wait(state).unwrap_or_else(PoisonError::into_inner);
        };
        drop(state);
        match task {
            DiskTask::Sync(partition) => partition.sync(),
            DiskTask::Prewrite(partition) => partition.prewrite(),
        }
    }
}

impl SyncState {
    /// The oldest sync, or else the oldest prewrite if that is wanted.
    fn next(&mut self, prewrites: bool) -> Option<DiskTask> {
        let at = self.queue.iter().position(|task| matches!(task, DiskTask::Sync(_)));
        self.queue.remove(at.or(prewrites.then_some(0))?)
    }
}
