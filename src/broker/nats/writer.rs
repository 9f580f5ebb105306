//! The writer task of a connection: it writes what the kernel would not take at once, sends PINGs,
//! and ends a connection that shows no credentials in time, answers no PING, or takes no bytes.

use std::future::poll_fn;
use std::io;
use std::net::Shutdown;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::io::{AsyncWrite, AsyncWriteExt, WriteHalf};
use tokio::net::TcpStream;
use tokio::net::tcp::OwnedWriteHalf;
use tokio::time::{Instant, sleep_until, timeout};
use tokio_rustls::server::TlsStream;

use super::config::SlowConsumer;
use super::counters::Counters;
use super::hub::NatsHub;
use super::outlet::{Outlet, WriterTask};
use super::sync::shut;

/// Where the writer task writes.
pub(super) enum WriteTarget {
    /// A socket shared with the committers.
    Plain(Arc<OwnedWriteHalf>),
    /// A TLS session, which only the writer task may write to.
    Tls(Box<WriteHalf<TlsStream<TcpStream>>>),
}

impl WriteTarget {
    /// Writes some bytes, waiting until at least one is taken.
    async fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Plain(socket) => loop {
                socket.writable().await?;
                match socket.try_write(bytes) {
                    Err(e) if e.kind() == io::ErrorKind::WouldBlock => {}
                    result => return result,
                }
            },
            Self::Tls(stream) => {
                let n = poll_fn(|cx| Pin::new(&mut **stream).poll_write(cx, bytes)).await?;
                if n == bytes.len() {
                    stream.flush().await?;
                }
                Ok(n)
            }
        }
    }

    async fn shutdown(&mut self) {
        // The peer may be gone already, which is what a shutdown is for.
        match self {
            Self::Plain(socket) => shut(socket, Shutdown::Write),
            Self::Tls(stream) => {
                let _ = timeout(Duration::from_secs(1), stream.shutdown()).await;
            }
        }
    }
}

/// Serves the writing side of one connection until it is closed.
pub(super) async fn keep(hub: Arc<NatsHub>, outlet: Arc<Outlet>, mut sink: WriteTarget) {
    let config = &hub.config;
    let mut unanswered = 0;
    let mut next = Instant::now()
        + if outlet.admitted.load(Ordering::Acquire) { config.ping_interval } else { config.auth_timeout };
    loop {
        tokio::select! {
            biased;
            () = outlet.wake_writer.notified() => {}
            () = sleep_until(next) => {
                next = Instant::now() + config.ping_interval;
                if !outlet.admitted.load(Ordering::Acquire) {
                    Counters::add(&hub.counters.auth_failures, 1);
                    outlet.send(b"-ERR 'Authentication Timeout'\r\n");
                    outlet.finish();
                } else if outlet.received_since_check.swap(false, Ordering::AcqRel) {
                    unanswered = 0;
                } else if unanswered >= config.ping_max {
                    Counters::add(&hub.counters.stale, 1);
                    outlet.send(b"-ERR 'Stale Connection'\r\n");
                    outlet.finish();
                } else {
                    unanswered += 1;
                    outlet.traffic.asked();
                    outlet.send(b"PING\r\n");
                }
            }
        }
        match drain(&hub, &outlet, &mut sink).await {
            WriterTask::Finish => {
                sink.shutdown().await;
                // The reader sees the end of the input, or is told by the close when the peer does
                // not close its side.
                outlet.finished(LINGER).await;
                outlet.close();
                return;
            }
            WriterTask::Closed => return,
            WriterTask::Idle | WriterTask::Write(..) => {}
        }
    }
}

/// How long a connection that the server ends may take to read the last bytes.
pub(super) const LINGER: Duration = Duration::from_millis(500);

/// Writes until nothing waits.
async fn drain(hub: &NatsHub, outlet: &Outlet, sink: &mut WriteTarget) -> WriterTask {
    // A connection that may lose messages is not closed for being slow, only for being as good as
    // dead.
    let patience = match hub.config.slow_consumer {
        SlowConsumer::DropNewest => hub.config.ping_interval * (hub.config.ping_max + 1),
        SlowConsumer::Disconnect | SlowConsumer::Block => hub.config.write_deadline,
    };
    let mut spent = None;
    loop {
        let (buffer, mut at) = match outlet.work(spent.take()) {
            WriterTask::Write(buffer, at) => (buffer, at),
            other => return other,
        };
        while at < buffer.len() {
            match timeout(patience, sink.write(&buffer[at..])).await {
                Ok(Ok(n)) if n > 0 => {
                    at += n;
                    outlet.wrote(n);
                }
                Ok(_) => {
                    outlet.close();
                    return WriterTask::Closed;
                }
                Err(_) => {
                    Counters::add(&hub.counters.slow_consumers, 1);
                    outlet.close();
                    return WriterTask::Closed;
                }
            }
        }
        spent = Some(buffer);
    }
}
