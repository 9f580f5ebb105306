//! The outbound side of one connection: one coalesced buffer, one owner of the socket's writing
//! side at a time.
//!
//! Publishers gather what they have for a connection during one read batch and [`Outlet::commit`]
//! it with one short lock. The first publisher that finds the socket free writes its bytes itself,
//! without the lock; others leave theirs in the buffer, and that writer takes them along. Only when
//! the kernel takes no more does the connection's writer task ([`super::writer`]) take over. So an
//! idle request costs no wake-up beyond the peer's own, and a fan-out costs one system call per
//! target and batch.
//!
//! Invariant: bytes leave in the order of the commits; `pending` is what has been committed and not
//! yet given to the kernel, and no policy but `Block` (by one batch per publisher) lets it pass
//! `max_pending`.

use std::io::ErrorKind;
use std::net::Shutdown;
use std::pin::pin;
use std::sync::atomic::Ordering;
use std::sync::{Arc, OnceLock, PoisonError};
use std::time::Duration;

use super::config::SlowConsumer;
use super::counters::Counters;
use super::frames;
use super::pool::BufferPool;
use super::sync::{
    AtomicBool, AtomicU64, AtomicUsize, COMMIT_ROUNDS, Mutex, MutexGuard, Notify, Socket, shut, timeout,
};
use super::traffic::{Traffic, TrafficVolume};
use super::users::Permissions;
use crate::units::now;

/// Who may write to the socket now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum SocketOwner {
    Nobody,
    /// A task in [`Outlet::commit`].
    Committer,
    /// The connection's writer task.
    ConnectionWriter,
    /// Nobody any more: the writer task has been told to close the writing side.
    Ended,
}

#[derive(Debug)]
struct OutletState {
    /// The socket, for writing directly; absent with TLS, where only the writer task writes, and
    /// after the close.
    socket: Option<Arc<Socket>>,
    writer: SocketOwner,
    /// What the writer task is writing now, from `front_at`.
    front: Vec<u8>,
    front_at: usize,
    /// What was committed after it.
    back: Vec<u8>,
    closed: bool,
    /// Set when the writing side is to be closed once everything is written.
    finishing: bool,
    /// The sids of subscriptions that ended by their own count, for the connection to forget.
    expired: Vec<Arc<[u8]>>,
}

/// Limits and counters that all outlets of one broker share.
#[derive(Debug)]
pub(super) struct OutletLimits {
    pub max_pending: usize,
    pub policy: SlowConsumer,
    pub counters: Arc<Counters>,
    pub pool: BufferPool,
    /// Whether somebody may look at the connections one by one.
    pub watched: bool,
}

impl OutletLimits {
    /// Above this a publisher is held back: 75 % of the limit.
    pub(super) fn high_water(&self) -> usize {
        self.max_pending / 4 * 3
    }
}

/// The outbound side of one connection.
#[derive(Debug)]
pub(super) struct Outlet {
    pub id: u64,
    rules: Arc<OutletLimits>,
    state: Mutex<OutletState>,
    pending: AtomicUsize,
    /// Whether the client takes headers; they are stripped otherwise.
    pub headers: AtomicBool,
    /// Whether the client has shown credentials, if any are needed.
    pub admitted: AtomicBool,
    /// Whether the client understands an INFO that comes later.
    pub announces: AtomicBool,
    /// What the client may do, if its user has permissions.
    pub permissions: OnceLock<Arc<Permissions>>,
    /// What it has received and sent.
    pub traffic: Traffic,
    /// Whether anything has been received since the writer task last checked.
    pub received_since_check: AtomicBool,
    /// A fault: nothing is read from the connection before this instant.
    pub read_paused_until: AtomicU64,
    /// A fault: what is sent is discarded.
    pub discards_writes: AtomicBool,
    /// Whether `expired` may hold something.
    has_expired: AtomicBool,
    /// Wakes the writer task.
    pub wake_writer: Notify,
    /// Wakes those who wait for the buffer to empty, or for the end.
    room: Notify,
}

/// The writer task's next piece of work.
pub(super) enum WriterTask {
    /// Write this from the given place, then ask again.
    Write(Vec<u8>, usize),
    /// Everything is written, and the writing side is to be closed.
    Finish,
    /// Nothing to write.
    Idle,
    /// The connection is closed.
    Closed,
}

impl Outlet {
    /// An outlet that writes to `socket` directly, or only through its writer task when there is
    /// none.
    pub(super) fn new(id: u64, rules: Arc<OutletLimits>, socket: Option<Arc<Socket>>) -> Self {
        Self {
            id,
            rules,
            state: Mutex::new(OutletState {
                socket,
                writer: SocketOwner::Nobody,
                front: Vec::new(),
                front_at: 0,
                back: Vec::new(),
                closed: false,
                finishing: false,
                expired: Vec::new(),
            }),
            pending: AtomicUsize::new(0),
            headers: AtomicBool::new(false),
            admitted: AtomicBool::new(false),
            announces: AtomicBool::new(false),
            permissions: OnceLock::new(),
            traffic: Traffic::default(),
            received_since_check: AtomicBool::new(false),
            read_paused_until: AtomicU64::new(0),
            discards_writes: AtomicBool::new(false),
            has_expired: AtomicBool::new(false),
            wake_writer: Notify::new(),
            room: Notify::new(),
        }
    }

    /// Whether the client may be sent messages on this subject, whatever it has subscribed to.
    pub(super) fn may_have(&self, subject: &[u8]) -> bool {
        self.permissions.get().is_none_or(|permissions| !permissions.withholds(subject))
    }

    fn state(&self) -> MutexGuard<'_, OutletState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Bytes committed and not yet given to the kernel.
    pub(super) fn pending(&self) -> usize {
        self.pending.load(Ordering::Acquire)
    }

    pub(super) fn is_closed(&self) -> bool {
        self.state().closed
    }

    /// Sends a few bytes of the server's own.
    pub(super) fn send(&self, bytes: &[u8]) {
        let mut stage = bytes.to_vec();
        self.commit(&mut stage, TrafficVolume::default());
    }

    /// Takes over what a publisher gathered (`load` is the MSG and HMSG frames in it) and writes as
    /// much as the kernel takes. Leaves `stage` empty. Returns whether the publisher should be held
    /// back.
    pub(super) fn commit(&self, stage: &mut Vec<u8>, load: TrafficVolume) -> bool {
        let mut state = self.state();
        if state.closed || state.writer == SocketOwner::Ended || self.discards_writes.load(Ordering::Relaxed) {
            stage.clear();
            return false;
        }
        Counters::add(&self.rules.counters.messages_out, load.messages);
        Counters::add(&self.rules.counters.payload_out, load.payload);
        self.traffic.sent.add(load);
        if self.rules.watched && load.messages > 0 {
            self.traffic.active.store(now(), Ordering::Relaxed);
        }
        let Some(socket) = state.socket.clone().filter(|_| state.writer == SocketOwner::Nobody) else {
            self.queue(&mut state, stage);
            if state.writer == SocketOwner::Nobody && !state.closed {
                self.hand_to_writer_task(&mut state);
            }
            return self.pending() > self.rules.high_water();
        };
        state.writer = SocketOwner::Committer;
        drop(state);
        let mut written = 0u64;
        let mut at = 0;
        // A committer works for others too, but not without end: after a few rounds the writer task
        // goes on.
        for round in 0.. {
            while at < stage.len() {
                match socket.try_write(&stage[at..]) {
                    Ok(n) => {
                        at += n;
                        written += n as u64;
                    }
                    Err(e) if e.kind() == ErrorKind::Interrupted => {}
                    Err(e) if e.kind() == ErrorKind::WouldBlock => break,
                    Err(_) => {
                        Counters::add(&self.rules.counters.bytes_out, written);
                        stage.clear();
                        self.close();
                        return false;
                    }
                }
            }
            let mut state = self.state();
            if round > 0 {
                // These bytes were counted as pending when somebody queued them.
                self.pending.fetch_sub(at.min(stage.len()), Ordering::AcqRel);
            }
            if state.closed {
                stage.clear();
                break;
            }
            if at < stage.len() {
                if round == 0 {
                    self.pending.fetch_add(stage.len() - at, Ordering::AcqRel);
                }
                state.front = std::mem::take(stage);
                state.front_at = at;
                self.hand_to_writer_task(&mut state);
                let queued = state.back.len();
                self.enforce(&mut state, queued);
                break;
            }
            stage.clear();
            at = 0;
            if state.back.is_empty() {
                self.give_back(&mut state, round > 0);
                break;
            }
            if round + 1 == COMMIT_ROUNDS {
                self.hand_to_writer_task(&mut state);
                break;
            }
            std::mem::swap(&mut state.back, stage);
        }
        Counters::add(&self.rules.counters.bytes_out, written);
        self.pending() > self.rules.high_water()
    }

    /// The end of a committer; `for_others` when it has also written what others had queued.
    fn give_back(&self, state: &mut OutletState, for_others: bool) {
        state.writer = SocketOwner::Nobody;
        if for_others {
            self.room.notify_waiters();
        }
        if state.finishing {
            // The writer task was woken for it in vain while this one had the socket.
            self.wake_writer.notify_one();
        }
    }

    fn hand_to_writer_task(&self, state: &mut OutletState) {
        state.writer = SocketOwner::ConnectionWriter;
        self.wake_writer.notify_one();
    }

    /// Puts `stage` behind what waits already.
    fn queue(&self, state: &mut OutletState, stage: &mut Vec<u8>) {
        self.pending.fetch_add(stage.len(), Ordering::AcqRel);
        let queued = state.back.len();
        if queued == 0 {
            std::mem::swap(&mut state.back, stage);
        } else {
            state.back.extend_from_slice(stage);
        }
        stage.clear();
        self.enforce(state, queued);
    }

    /// Applies the slow-consumer policy when too much waits; what lies in `back` from `queued` on
    /// is the newest.
    fn enforce(&self, state: &mut OutletState, queued: usize) {
        let limit = self.rules.max_pending;
        if self.pending() <= limit {
            return;
        }
        match self.rules.policy {
            SlowConsumer::Block => {}
            SlowConsumer::Disconnect => {
                Counters::add(&self.rules.counters.slow_consumers, 1);
                self.close_locked(state);
            }
            SlowConsumer::DropNewest => {
                let mut dropped = TrafficVolume::default();
                let ahead = self.pending().saturating_sub(state.back.len());
                dropped += self.trim(&mut state.back, queued, queued, limit.saturating_sub(ahead));
                let (at, len) = (state.front_at, state.front.len());
                if len.saturating_sub(at) > limit {
                    dropped += self.trim(&mut state.front, 0, at, at + limit);
                }
                Counters::add(&self.rules.counters.dropped, dropped.messages);
                Counters::sub(&self.rules.counters.messages_out, dropped.messages);
                Counters::sub(&self.rules.counters.payload_out, dropped.payload);
                self.traffic.sent.sub(dropped);
                // Only the server's own answers are left over the limit: a client that asks and
                // never reads.
                if self.pending() > limit + frames::LARGEST_ANSWERS {
                    Counters::add(&self.rules.counters.slow_consumers, 1);
                    self.close_locked(state);
                }
            }
        }
    }

    fn trim(&self, buf: &mut Vec<u8>, boundary: usize, begun: usize, limit: usize) -> TrafficVolume {
        let before = buf.len();
        let dropped = frames::keep(buf, boundary, begun, limit);
        self.pending.fetch_sub(before - buf.len(), Ordering::AcqRel);
        dropped
    }

    /// Gives the writer task its next work; `spent` is the buffer it has just written.
    pub(super) fn work(&self, spent: Option<Vec<u8>>) -> WriterTask {
        let mut state = self.state();
        if let Some(spent) = spent {
            self.rules.pool.give(spent);
        }
        if state.closed {
            return WriterTask::Closed;
        }
        if state.writer != SocketOwner::ConnectionWriter {
            return self.idle(&mut state);
        }
        if state.front_at < state.front.len() {
            let at = std::mem::take(&mut state.front_at);
            return WriterTask::Write(std::mem::take(&mut state.front), at);
        }
        if !state.back.is_empty() {
            return WriterTask::Write(std::mem::take(&mut state.back), 0);
        }
        state.writer = SocketOwner::Nobody;
        self.room.notify_waiters();
        self.idle(&mut state)
    }

    /// What the writer task does when it has nothing to write.
    fn idle(&self, state: &mut OutletState) -> WriterTask {
        if !state.finishing || state.writer == SocketOwner::Committer {
            return WriterTask::Idle;
        }
        // A publisher that wrote now would write a part of a frame before the end, or nothing.
        state.writer = SocketOwner::Ended;
        WriterTask::Finish
    }

    /// The writer task has given `n` bytes to the kernel.
    pub(super) fn wrote(&self, n: usize) {
        Counters::add(&self.rules.counters.bytes_out, n as u64);
        let before = self.pending.fetch_sub(n, Ordering::AcqRel);
        let high = self.rules.high_water();
        if before > high && before - n <= high {
            self.room.notify_waiters();
        }
    }

    /// Whether publishers wait for it, however long that takes.
    pub(super) fn is_waited_for(&self) -> bool {
        self.rules.policy == SlowConsumer::Block
    }

    /// Waits until a publisher may go on, at most `limit`.
    pub(super) async fn room(&self, limit: Duration) {
        self.wait(limit, |outlet| outlet.pending() <= outlet.rules.high_water()).await;
    }

    /// Waits until everything is with the kernel, at most `limit`.
    pub(super) async fn flushed(&self, limit: Duration) {
        self.wait(limit, |outlet| outlet.pending() == 0).await;
    }

    /// Waits until the connection is closed, at most `limit`.
    pub(super) async fn finished(&self, limit: Duration) {
        self.wait(limit, Self::is_closed).await;
    }

    /// Waits until the connection is closed.
    pub(super) async fn closed(&self) {
        self.wait(Duration::MAX, Self::is_closed).await;
    }

    async fn wait(&self, limit: Duration, done: impl Fn(&Self) -> bool) {
        let waiting = async {
            loop {
                let mut change = pin!(self.room.notified());
                change.as_mut().enable();
                if done(self) || self.is_closed() {
                    return;
                }
                change.await;
            }
        };
        // Running out of time is an answer too: the caller goes on and looks at the state.
        let _ = timeout(limit, waiting).await;
    }

    /// Asks the writer task to close the writing side once everything is written.
    pub(super) fn finish(&self) {
        self.state().finishing = true;
        self.wake_writer.notify_one();
    }

    /// Closes both directions at once; what waits is lost.
    pub(super) fn close(&self) {
        self.close_locked(&mut self.state());
    }

    fn close_locked(&self, state: &mut OutletState) {
        if state.closed {
            return;
        }
        state.closed = true;
        state.front = Vec::new();
        state.back = Vec::new();
        state.front_at = 0;
        state.expired = Vec::new();
        if let Some(socket) = state.socket.take() {
            // Wakes the reader. An error means the peer has closed already.
            shut(&socket, Shutdown::Both);
        }
        self.wake_writer.notify_one();
        self.room.notify_waiters();
    }

    /// Lets the reader come to the end of what has arrived. With TLS the reader watches the phase
    /// instead.
    pub(super) fn stop_reading(&self) {
        if let Some(socket) = &self.state().socket {
            shut(socket, Shutdown::Read);
        }
    }

    /// Notes that the subscription with this sid has ended by its own count.
    pub(super) fn expire(&self, sid: &Arc<[u8]>) {
        let mut state = self.state();
        if state.closed {
            return;
        }
        state.expired.push(Arc::clone(sid));
        // A store would do; loom, which tries this file, takes one beside an exchange for lost.
        self.has_expired.swap(true, Ordering::AcqRel);
    }

    /// The sids noted since the last call.
    pub(super) fn take_expired(&self) -> Vec<Arc<[u8]>> {
        if !self.has_expired.swap(false, Ordering::AcqRel) {
            return Vec::new();
        }
        std::mem::take(&mut self.state().expired)
    }
}
