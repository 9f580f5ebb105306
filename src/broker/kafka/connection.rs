//! One connection: read, carry out, answer in order.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tokio::net::TcpStream;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, sleep_until, timeout};

use super::super::log::WakeSignal;
use super::blocking::run_blocking;
use super::counters::add;
use super::faults::BatchFaultQueue;
use super::hub::{ConnectionPermit, KafkaHub};
use super::reply::Reply;
use super::requests::{self, Pending, RequestViolation, SaslSession};
use super::transport::Transport;

/// Responses that may wait in one connection's queue; beyond that it is not read.
const MAX_QUEUE: usize = 1024;
/// Bytes of ready responses that may wait in the queue; likewise.
const MAX_HELD: usize = 16 << 20;
/// Bytes of ready responses that leave in one write, roughly.
const MAX_WRITE: usize = 1 << 20;
/// Room for what is read at a time: at first and at rest, and at most.
const READ: usize = 16 << 10;
const READ_MOST: usize = 256 << 10;
/// Longer requests take their share of the common budget.
const SHORT: usize = 64 << 10;

/// An append that takes longer has waited for the disk: the kernel holds up who writes more than it
/// can write out.
const THROTTLED: Duration = Duration::from_millis(5);
/// The key of produce requests.
const PRODUCE: i16 = 0;
/// How soon to look again whether the fault server has room.
const CROWDED: Duration = Duration::from_millis(10);

/// What is to be read next.
enum NextRead {
    /// The start of a frame, or the rest of a short one.
    Some,
    /// The rest of a frame so long.
    Long(usize),
    /// Nothing: whole frames are there, and no room for their answers.
    Nothing,
}

/// Serves a connection until either side ends it.
pub(super) async fn serve(hub: Arc<KafkaHub>, socket: TcpStream, peer: SocketAddr, place: ConnectionPermit) {
    let _place = place;
    let mut closing = hub.closing.subscribe();
    let local = match (socket.set_nodelay(true), socket.local_addr()) {
        (Ok(()), Ok(local)) => local,
        // It has gone again.
        _ => return,
    };
    let wire = match &hub.acceptor {
        None => Transport::Plain(socket),
        Some(acceptor) => match timeout(hub.config.auth_timeout, acceptor.accept(socket)).await {
            Ok(Ok(stream)) => Transport::Tls(Box::new(stream)),
            _ => return add(&hub.counters.tls_failures, 1),
        },
    };
    let now = Instant::now();
    let login = SaslSession::new(&hub.config.users, now + hub.config.auth_timeout);
    let mut connection = Connection {
        wake_signal: WakeSignal::new(),
        peer,
        local,
        login,
        queue: VecDeque::new(),
        held: 0,
        staged: 0,
        buffer: BytesMut::new(),
        share: None,
        active: now,
        room: READ,
        writing: false,
        wire,
        hub,
    };
    tokio::select! {
        end = connection.run() => match end {
            ConnectionEnd::Violation => add(&connection.hub.counters.protocol_errors, 1),
            ConnectionEnd::Refused => add(&connection.hub.counters.auth_failures, 1),
            ConnectionEnd::Gone => {}
        },
        () = async { drop(closing.wait_for(|closing| *closing).await) } => connection.finish().await,
    }
}

enum ConnectionEnd {
    Gone,
    Violation,
    Refused,
}

impl From<std::io::Error> for ConnectionEnd {
    fn from(_: std::io::Error) -> Self {
        Self::Gone
    }
}

impl From<RequestViolation> for ConnectionEnd {
    fn from(violation: RequestViolation) -> Self {
        match violation {
            RequestViolation::Malformed => Self::Violation,
            RequestViolation::Unauthenticated => Self::Refused,
            RequestViolation::Failed => Self::Gone,
        }
    }
}

struct Connection {
    hub: Arc<KafkaHub>,
    wire: Transport,
    wake_signal: Arc<WakeSignal>,
    peer: SocketAddr,
    local: SocketAddr,
    login: SaslSession,
    queue: VecDeque<Pending>,
    /// Bytes of the ready responses in it.
    held: usize,
    /// How many requests at the end of the queue have brought what is not appended yet.
    staged: usize,
    buffer: BytesMut,
    /// The share of the budget that the frame being read has.
    share: Option<OwnedSemaphorePermit>,
    active: Instant,
    /// Room for the next read.
    room: usize,
    /// Whether a write is under way; cut short, nothing can follow it.
    writing: bool,
}

impl Connection {
    async fn run(&mut self) -> ConnectionEnd {
        loop {
            match self.step().await {
                Ok(()) => {}
                Err(ConnectionEnd::Refused) => {
                    // The refusal itself is still to be read by the client.
                    self.finish().await;
                    return ConnectionEnd::Refused;
                }
                Err(end) => return end,
            }
        }
    }

    async fn step(&mut self) -> Result<(), ConnectionEnd> {
        let carried_out = self.carry_out();
        append_staged(&self.hub, &mut self.queue, &mut self.staged);
        self.answer().await?;
        let want = carried_out?;
        if matches!(want, NextRead::Nothing) && self.has_room() {
            // There is room again, and what is there already announces itself no more.
            return Ok(());
        }
        let idle = self.active + self.hub.config.idle_timeout;
        let front = self.queue.front().and_then(Pending::deadline);
        // Who waits for an answer is not idle.
        let due = front.unwrap_or(idle);
        let login = (!self.login.is_done()).then_some(self.login.deadline);
        let wake = login.map_or(due, |login| login.min(due));
        let is_full = self.hub.faults.as_ref().is_some_and(BatchFaultQueue::is_full);
        let wake = if is_full { wake.min(Instant::now() + CROWDED) } else { wake };
        let reads = self.has_room() && !is_full;
        let waits_for_share = match want {
            NextRead::Long(length) if self.share.is_none() => Some(length),
            _ => None,
        };
        if reads && waits_for_share.is_none() {
            self.make_room(&want);
        }
        let spare = self.buffer.capacity() - self.buffer.len();
        let Self { wire, buffer, wake_signal, hub, room, .. } = self;
        tokio::select! {
            read = wire.read(buffer), if reads && waits_for_share.is_none() => {
                match read? {
                    0 => return Err(ConnectionEnd::Gone),
                    n => {
                        add(&hub.counters.bytes_in, n as u64);
                        // Who sends more than there is room for gets more room; who does not, less.
                        *room = if n == spare { (*room * 2).min(READ_MOST) } else { (*room / 2).max(n).clamp(READ, READ_MOST) };
                    }
                }
                self.active = Instant::now();
            }
            share = share_of(&hub.memory, waits_for_share.unwrap_or(0)), if reads && waits_for_share.is_some() => {
                self.share = share;
            }
            () = wake_signal.woken(), if front.is_some() => {}
            () = sleep_until(wake) => {
                let now = Instant::now();
                if login.is_some_and(|login| now >= login) || (now >= idle && front.is_none()) {
                    return Err(ConnectionEnd::Gone);
                }
            }
        }
        Ok(())
    }

    /// Room in the buffer, and no more than is worth it: what a frame claims is reserved bit by bit
    /// as it comes.
    fn make_room(&mut self, want: &NextRead) {
        let room = match want {
            NextRead::Some | NextRead::Nothing => self.room,
            NextRead::Long(length) => (length - self.buffer.len()).min(self.buffer.len().max(1 << 20)),
        };
        if self.buffer.capacity() - self.buffer.len() < room / 4 || matches!(want, NextRead::Long(_)) {
            self.buffer.reserve(room);
        }
    }

    fn has_room(&self) -> bool {
        self.queue.len() < MAX_QUEUE && self.held < MAX_HELD
    }

    /// Carries out every request that is there whole and whose answer has room.
    fn carry_out(&mut self) -> Result<NextRead, ConnectionEnd> {
        while self.has_room() {
            let Some(length) = self.buffer.first_chunk::<4>() else { return Ok(NextRead::Some) };
            let length = usize::try_from(i32::from_be_bytes(*length)).map_err(|_| ConnectionEnd::Violation)?;
            if length > self.hub.config.max_request {
                return Err(ConnectionEnd::Violation);
            }
            let whole = length + 4;
            if self.buffer.len() < whole {
                return Ok(if whole > SHORT { NextRead::Long(whole) } else { NextRead::Some });
            }
            let frame: Bytes = self.buffer.split_to(whole).freeze().slice(4..);
            let origin = requests::RequestOrigin {
                hub: &self.hub,
                wake_signal: &self.wake_signal,
                local: self.local,
                peer: self.peer,
            };
            let produces = frame.first_chunk::<2>() == Some(&PRODUCE.to_be_bytes());
            if !produces {
                // Whatever else is asked for must find what was sent before.
                append_staged(&self.hub, &mut self.queue, &mut self.staged);
            }
            let pending = requests::carry_out(&origin, &mut self.login, frame)?;
            self.share = None;
            add(&self.hub.counters.requests, 1);
            self.staged += usize::from(produces && pending.is_some());
            self.held += pending.as_ref().map_or(0, Pending::ready_len);
            self.queue.extend(pending);
        }
        Ok(NextRead::Nothing)
    }

    /// Sends every response that is ready and has none before it that is not.
    async fn answer(&mut self) -> Result<(), ConnectionEnd> {
        loop {
            let mut out = Reply::default();
            while let Some(front) = self.queue.front_mut()
                && out.len() < MAX_WRITE
                && !out.hangs_up
            {
                let held = front.ready_len();
                let Some(reply) = front.poll(&self.wake_signal) else { break };
                self.held -= held;
                out.append(reply);
                self.queue.pop_front();
            }
            let length = out.len();
            if length == 0 && !out.hangs_up {
                return Ok(());
            }
            self.writing = true;
            match timeout(self.hub.config.write_deadline, self.wire.write(&out)).await {
                Ok(written) => written?,
                Err(_) => return Err(ConnectionEnd::Gone),
            }
            self.writing = false;
            if out.hangs_up {
                return Err(ConnectionEnd::Gone);
            }
            add(&self.hub.counters.bytes_out, length as u64);
            self.active = Instant::now();
        }
    }

    /// Waits a moment for what has been carried out to be ready, sends it, and ends.
    async fn finish(&mut self) {
        if self.writing {
            return;
        }
        let end = Instant::now() + Duration::from_secs(1);
        while self.answer().await.is_ok() && self.queue.front().is_some_and(Pending::is_brief) && Instant::now() < end {
            let _ = timeout(Duration::from_millis(100), self.wake_signal.woken()).await;
        }
    }
}

/// Appends what the last `staged` requests of the queue have brought.
fn append_staged(hub: &KafkaHub, queue: &mut VecDeque<Pending>, staged: &mut usize) {
    if *staged == 0 {
        return;
    }
    let from = queue.len() - std::mem::take(staged);
    let requests = queue.range_mut(from..).filter_map(|pending| match pending {
        Pending::Produce(wait) => Some(wait),
        _ => None,
    });
    let began = Instant::now();
    let append = || requests::append_staged(&hub.counters, requests);
    if hub.throttled.load(Ordering::Relaxed) {
        run_blocking(append);
    } else {
        append();
    }
    hub.throttled.store(began.elapsed() > THROTTLED, Ordering::Relaxed);
}

async fn share_of(memory: &Arc<Semaphore>, length: usize) -> Option<OwnedSemaphorePermit> {
    let share = u32::try_from(length >> 10).unwrap_or(u32::MAX);
    // The semaphore is never closed.
    Arc::clone(memory).acquire_many_owned(share).await.ok()
}
