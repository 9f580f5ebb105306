//! In place of the router's `sync.rs`: loom's locks and atomics, and a wake-up and a socket made of
//! them.

use std::collections::VecDeque;
use std::io::{self, ErrorKind};
use std::net::Shutdown;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

pub use loom::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize};
pub use loom::sync::{Mutex, MutexGuard, RwLock};

#[derive(Debug, Default)]
struct Wakes {
    permit: bool,
    round: u64,
    waiting: Vec<Waker>,
}

/// tokio's `Notify`: a permit for one, and a call to all who wait already.
#[derive(Debug)]
pub struct Notify(Mutex<Wakes>);

impl Notify {
    pub fn new() -> Self {
        Self(Mutex::new(Wakes::default()))
    }

    fn wake(&self, change: impl FnOnce(&mut Wakes)) {
        let mut wakes = self.0.lock().expect("a model does not panic while it holds it");
        change(&mut wakes);
        let waiting = std::mem::take(&mut wakes.waiting);
        drop(wakes);
        waiting.into_iter().for_each(Waker::wake);
    }

    pub fn notify_one(&self) {
        self.wake(|wakes| wakes.permit = true);
    }

    pub fn notify_waiters(&self) {
        self.wake(|wakes| wakes.round += 1);
    }

    /// Who has called this gets the calls to all from now on.
    pub fn notified(&self) -> Notified<'_> {
        let round = self.0.lock().expect("a model does not panic while it holds it").round;
        Notified { of: self, round }
    }
}

#[derive(Debug)]
pub struct Notified<'a> {
    of: &'a Notify,
    round: u64,
}

impl Notified<'_> {
    /// Already so from its making.
    pub fn enable(self: Pin<&mut Self>) -> bool {
        false
    }
}

impl Future for Notified<'_> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let mut wakes = self.of.0.lock().expect("a model does not panic while it holds it");
        if wakes.round != self.round || std::mem::take(&mut wakes.permit) {
            return Poll::Ready(());
        }
        wakes.waiting.push(context.waker().clone());
        Poll::Pending
    }
}

/// A bound that never runs out: what waits for ever is a fault, and loom says so.
pub async fn timeout<F: Future>(_: Duration, what: F) -> Result<F::Output, ()> {
    Ok(what.await)
}

/// A socket that takes as many bytes at each try as `takes` says, then none until it is written to
/// with [`take`](Self::take).
#[derive(Debug)]
pub struct Socket {
    state: Mutex<(VecDeque<usize>, Vec<u8>)>,
    writing: AtomicBool,
}

impl Socket {
    pub fn new(takes: &[usize]) -> Self {
        Self { state: Mutex::new((takes.iter().copied().collect(), Vec::new())), writing: AtomicBool::new(false) }
    }

    /// Fails where somebody else is writing now.
    fn alone<T>(&self, write: impl FnOnce(&mut VecDeque<usize>, &mut Vec<u8>) -> T) -> T {
        let ordering = std::sync::atomic::Ordering::SeqCst;
        assert!(!self.writing.swap(true, ordering), "two write at the same time");
        let mut state = self.state.lock().expect("a model does not panic while it holds it");
        let (takes, taken) = &mut *state;
        let result = write(takes, taken);
        drop(state);
        self.writing.store(false, ordering);
        result
    }

    pub fn try_write(&self, bytes: &[u8]) -> io::Result<usize> {
        self.alone(|takes, taken| match takes.pop_front().unwrap_or(0).min(bytes.len()) {
            0 => Err(ErrorKind::WouldBlock.into()),
            n => {
                taken.extend_from_slice(&bytes[..n]);
                Ok(n)
            }
        })
    }

    /// What the kernel takes once it has room again: everything.
    pub fn take(&self, bytes: &[u8]) -> usize {
        self.alone(|_, taken| taken.extend_from_slice(bytes));
        bytes.len()
    }

    /// Closes the writing side; everything it has taken until then.
    pub fn end(&self) -> Vec<u8> {
        self.alone(|_, taken| taken.clone())
    }

    /// Everything it has taken.
    pub fn taken(&self) -> Vec<u8> {
        self.state.lock().expect("a model does not panic while it holds it").1.clone()
    }
}

/// The second round of a committer is its last.
pub const COMMIT_ROUNDS: usize = 2;

pub fn shut(_: &Socket, _: Shutdown) {}
