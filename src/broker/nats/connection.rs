//! One connection from accept to close: greeting, handshake, and the loop that reads a batch and
//! routes it.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use tokio::io::{AsyncReadExt, AsyncWriteExt, ReadHalf};
use tokio::net::TcpStream;
use tokio::net::tcp::OwnedReadHalf;
use tokio::sync::watch;
use tokio::time::{Instant, timeout};
use tokio_rustls::server::TlsStream;

use super::config::{Auth, SlowConsumer};
use super::connection_table::ConnectionEntry;
use super::counters::Counters;
use super::faults::FaultPath;
use super::hub::{AdmissionPermit, NatsHub, Phase};
use super::info;
use super::outlet::Outlet;
use super::session::{CloseReason, Session};
use super::writer::{self, LINGER, WriteTarget};
use crate::broker::shared::tls::{self, Secured};
use crate::units::now;

/// The read buffer a connection starts with, and the one it grows to when it has much to say.
const SMALL_BUFFER: usize = 4 * 1024;
const LARGE_BUFFER: usize = 256 * 1024;
/// What a TLS handshake begins with.
const HANDSHAKE: u8 = 0x16;
/// After so many full batches in a row a reader lets the other tasks of its thread have a turn.
const TURN: u32 = 8;
/// How long one batch may be held back altogether when a target fills up under the disconnect
/// policy.
const STALL_BUDGET: Duration = Duration::from_millis(10);

/// Where the reader reads.
enum ReadSource {
    Plain(OwnedReadHalf),
    Tls { stream: ReadHalf<TlsStream<TcpStream>>, outlet: Arc<Outlet>, phase: watch::Receiver<Phase> },
}

impl ReadSource {
    async fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        match self {
            // The socket is shut down to end this wait.
            Self::Plain(socket) => socket.read(buf).await,
            Self::Tls { stream, outlet, phase } => tokio::select! {
                result = stream.read(buf) => result,
                () = outlet.closed() => Ok(0),
                _ = phase.wait_for(|phase| *phase >= Phase::Draining) => Ok(0),
            },
        }
    }
}

/// Turns a client away that finds no place.
pub(super) async fn refuse(hub: Arc<NatsHub>, mut socket: TcpStream, peer: SocketAddr) {
    let mut words = hub.info.line(hub.next_id(), peer.ip().to_canonical().to_string(), "", false);
    words.extend_from_slice(b"-ERR 'maximum connections exceeded'\r\n");
    let _ = timeout(LINGER, async {
        socket.write_all(&words).await?;
        socket.shutdown().await?;
        // What the client says meanwhile is read, so that the close does not take the words back.
        let mut sink = vec![0u8; 1024];
        while socket.read(&mut sink).await? > 0 {}
        io::Result::Ok(())
    })
    .await;
}

/// Serves one client to the end.
pub(super) async fn serve(hub: Arc<NatsHub>, socket: TcpStream, peer: SocketAddr, place: AdmissionPermit) {
    let secured = hub.acceptor.is_some();
    serve_connection(hub, socket, peer, place, secured).await;
}

/// Serves a client whose encryption, if any, has been taken off already.
pub(super) async fn serve_inner(hub: Arc<NatsHub>, socket: TcpStream, peer: SocketAddr, place: AdmissionPermit) {
    serve_connection(hub, socket, peer, place, false).await;
}

async fn serve_connection(
    hub: Arc<NatsHub>,
    socket: TcpStream,
    peer: SocketAddr,
    place: AdmissionPermit,
    secured: bool,
) {
    // Without it every small answer would wait for the previous one's acknowledgement.
    let _ = socket.set_nodelay(true);
    let nonce = if info::wants_nonce(&hub.config.auth) {
        URL_SAFE_NO_PAD.encode(rand::random::<[u8; 11]>())
    } else {
        String::new()
    };
    let id = hub.next_id();
    let client_ip = peer.ip().to_canonical().to_string();
    let greeting = hub.info.line(id, client_ip, &nonce, *hub.phase.borrow() != Phase::Serving);
    let opened = match secured {
        false => Some((plain(&hub, socket, id, &greeting), None)),
        true => secure(&hub, socket, id, &greeting).await,
    };
    let Some(((source, sink, outlet), secured)) = opened else { return };
    outlet.admitted.store(matches!(hub.config.auth, Auth::None), Ordering::Release);
    let member = Arc::new(ConnectionEntry::new(Arc::clone(&outlet), peer, nonce, secured));
    hub.connections.enter(Arc::clone(&member));
    hub.readers.send_modify(|n| *n += 1);
    tokio::spawn(writer::keep(Arc::clone(&hub), Arc::clone(&outlet), sink));
    let mut session = Session::new(Arc::clone(&hub), member);
    // Shutdown may have begun between the accept and the entry; it would have missed this
    // connection.
    if *hub.phase.borrow() >= Phase::Draining {
        outlet.stop_reading();
    }
    let mut reader = ConnectionReader { hub: Arc::clone(&hub), source, outlet: Arc::clone(&outlet) };
    let end = reader.run(&mut session).await;
    hub.readers.send_modify(|n| *n -= 1);
    reader.part(end).await;
    session.leave();
    outlet.close();
    hub.connections.leave(id);
    drop(place);
}

/// Both directions of an open connection.
type ConnectionStream = (ReadSource, WriteTarget, Arc<Outlet>);

fn plain(hub: &Arc<NatsHub>, socket: TcpStream, id: u64, greeting: &[u8]) -> ConnectionStream {
    let (reading, writing) = socket.into_split();
    let writing = Arc::new(writing);
    let outlet = Arc::new(Outlet::new(id, Arc::clone(&hub.rules), Some(Arc::clone(&writing))));
    outlet.send(greeting);
    (ReadSource::Plain(reading), WriteTarget::Plain(writing), outlet)
}

/// INFO in the clear (unless the handshake comes first), then the handshake, within the time
/// allowed.
async fn secure(
    hub: &Arc<NatsHub>,
    mut socket: TcpStream,
    id: u64,
    greeting: &[u8],
) -> Option<(ConnectionStream, Option<Secured>)> {
    let acceptor = hub.acceptor.as_ref()?;
    let first = hub.config.tls.as_ref().is_some_and(|tls| tls.first);
    if hub.config.tls_optional {
        socket.write_all(greeting).await.ok()?;
        let mut byte = [0];
        // A client that sends nothing for so long is taken for one that does not encrypt, as
        // nats-server has it.
        let begun = timeout(hub.config.tls_timeout, socket.peek(&mut byte)).await;
        if !begun.is_ok_and(|read| read.is_ok_and(|n| n > 0 && byte[0] == HANDSHAKE)) {
            return Some((plain(hub, socket, id, b""), None));
        }
    }
    let stream = timeout(hub.config.tls_timeout, async {
        if !first && !hub.config.tls_optional {
            socket.write_all(greeting).await?;
        }
        acceptor.accept(socket).await
    })
    .await
    .ok()?
    .inspect_err(|_| Counters::add(&hub.counters.tls_failures, 1))
    .ok()?;
    let secured = tls::seen(stream.get_ref().1);
    let (reading, writing) = tokio::io::split(stream);
    let outlet = Arc::new(Outlet::new(id, Arc::clone(&hub.rules), None));
    if first {
        outlet.send(greeting);
    }
    let phase = hub.phase.subscribe();
    let source = ReadSource::Tls { stream: reading, outlet: Arc::clone(&outlet), phase };
    Some(((source, WriteTarget::Tls(Box::new(writing)), outlet), Some(secured)))
}

struct ConnectionReader {
    hub: Arc<NatsHub>,
    source: ReadSource,
    outlet: Arc<Outlet>,
}

impl ConnectionReader {
    /// Reads and routes until the input ends or must not be read on. `None` is the end of the
    /// input.
    async fn run(&mut self, session: &mut Session) -> Option<CloseReason> {
        let mut buf = vec![0u8; SMALL_BUFFER];
        let mut filled = 0;
        let mut small_reads = 0u32;
        let mut full_reads = 0u32;
        loop {
            let n = match self.source.read(&mut buf[filled..]).await {
                Ok(0) | Err(_) => return None,
                Ok(n) => n,
            };
            if self.outlet.read_paused_until.load(Ordering::Relaxed) > 0 && !self.wait_while_paused().await {
                return None;
            }
            self.outlet.received_since_check.store(true, Ordering::Relaxed);
            Counters::add(&self.hub.counters.bytes_in, n as u64);
            filled += n;
            let full = filled == buf.len();
            let (used, need) = match session.batch(&buf[..filled]) {
                Ok(progress) => progress,
                Err(reason) => return Some(reason),
            };
            let pressed = session.router.take_pressed();
            if !pressed.is_empty() {
                self.hold_back(pressed).await;
            }
            while self.hub.fault_path.as_deref().is_some_and(FaultPath::is_full) && !self.outlet.is_closed() {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            buf.copy_within(used..filled, 0);
            filled -= used;
            small_reads = if n < SMALL_BUFFER / 2 { small_reads + 1 } else { 0 };
            let wanted = if full {
                (buf.len() * 2).min(LARGE_BUFFER).max(buf.len())
            } else if small_reads > 64 {
                SMALL_BUFFER
            } else {
                buf.len()
            };
            // One frame must fit whole; its size is bounded by the limits of the parser.
            let wanted = if need > LARGE_BUFFER { need.max(wanted) } else { wanted.max(need) };
            if wanted != buf.len() && wanted > filled {
                resize(&mut buf, filled, wanted);
            }
            full_reads = if full { full_reads + 1 } else { 0 };
            if full_reads >= TURN {
                full_reads = 0;
                tokio::task::yield_now().await;
            }
        }
    }

    /// Waits until a fault allows this connection to be read; `false` when it was closed meanwhile.
    #[cold]
    async fn wait_while_paused(&self) -> bool {
        while self.outlet.read_paused_until.load(Ordering::Relaxed) > now() {
            if self.outlet.is_closed() {
                return false;
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        true
    }

    /// Holds the publisher back while its targets are above the high-water mark, as the policy has
    /// it.
    async fn hold_back(&self, pressed: Vec<Arc<Outlet>>) {
        let limit = match self.hub.config.slow_consumer {
            SlowConsumer::DropNewest => return,
            SlowConsumer::Disconnect => STALL_BUDGET,
            // The writer task closes a target that makes no progress, so this ends.
            SlowConsumer::Block => Duration::MAX,
        };
        Counters::add(&self.hub.counters.stalls, 1);
        let start = Instant::now();
        for outlet in pressed {
            let left = if outlet.is_waited_for() { Duration::MAX } else { limit.saturating_sub(start.elapsed()) };
            if !left.is_zero() {
                outlet.room(left).await;
            }
        }
    }

    /// The last words, read by the client before the connection goes.
    async fn part(&mut self, end: Option<CloseReason>) {
        let draining = *self.hub.phase.borrow() >= Phase::Draining;
        match end {
            None if draining => {
                // Others may still have messages for this client; the shutdown says when they do
                // not.
                let mut phase = self.hub.phase.subscribe();
                tokio::select! {
                    _ = phase.wait_for(|phase| *phase == Phase::Closing) => {}
                    () = self.outlet.closed() => {}
                }
                return;
            }
            None => {
                self.outlet.flushed(LINGER).await;
                return;
            }
            Some(CloseReason(text)) => {
                if let Some(text) = text {
                    self.outlet.send(format!("-ERR '{text}'\r\n").as_bytes());
                }
                Counters::add(&self.hub.counters.protocol_errors, 1);
                self.outlet.finish();
            }
        }
        // Bytes left unread would make the close a reset, which takes the last words back.
        let mut rest = vec![0u8; SMALL_BUFFER];
        let _ = timeout(LINGER, async { while self.source.read(&mut rest).await.is_ok_and(|n| n > 0) {} }).await;
    }
}

fn resize(buf: &mut Vec<u8>, filled: usize, size: usize) {
    let mut fresh = vec![0u8; size];
    fresh[..filled].copy_from_slice(&buf[..filled]);
    *buf = fresh;
}
