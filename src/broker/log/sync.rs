//! The threads that make what was appended survive a loss of power.
//!
//! A partition is in the queue at most once. A thread takes it, syncs what is written by then, and
//! wakes all who wait for it; whoever appended meanwhile has put it in the queue again and shares
//! the next sync. That is group commit: the slower the disk, the more share one sync.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::JoinHandle;

use super::error::LogError;
use super::segment::lock;

/// What the threads work on: a partition.
pub(super) trait SyncTarget: Send + Sync + 'static {
    /// Makes what is written survive.
    fn sync(self: &Arc<Self>);
    /// Makes a segment full of zeros, to be written over.
    fn prewrite(self: &Arc<Self>);
}

/// What the threads do.
pub(super) enum DiskTask<P> {
    Sync(Arc<P>),
    Prewrite(Arc<P>),
}

struct SyncState<P> {
    queue: VecDeque<DiskTask<P>>,
    closed: bool,
}

struct SyncShared<P> {
    state: Mutex<SyncState<P>>,
    work: Condvar,
}

/// The queue and its threads.
pub(super) struct Syncer<P> {
    shared: Arc<SyncShared<P>>,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

impl<P: SyncTarget> Syncer<P> {
    /// Starts so many threads, two at least.
    pub(super) fn start(threads: usize) -> Result<Self, LogError> {
        let state = SyncState { queue: VecDeque::new(), closed: false };
        let shared = Arc::new(SyncShared { state: Mutex::new(state), work: Condvar::new() });
        let start = |n: usize| {
            let shared = Arc::clone(&shared);
            let builder = std::thread::Builder::new().name(format!("log-sync-{n}"));
            // The first only syncs, so that no sync has to wait behind the writing of zeros.
            builder.spawn(move || work(&shared, n > 0)).map_err(LogError::io("start a thread for", "the log"))
        };
        let threads = (0..threads.max(2)).map(start).collect::<Result<Vec<_>, _>>()?;
        Ok(Self { shared, threads: Mutex::new(threads) })
    }

    pub(super) fn ask(&self, task: DiskTask<P>) {
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

fn work<P: SyncTarget>(shared: &SyncShared<P>, prewrites: bool) {
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

impl<P> SyncState<P> {
    /// The oldest sync, or else the oldest prewrite if that is wanted.
    fn next(&mut self, prewrites: bool) -> Option<DiskTask<P>> {
        let at = self.queue.iter().position(|task| matches!(task, DiskTask::Sync(_)));
        self.queue.remove(at.or(prewrites.then_some(0))?)
    }
}
