//! A way for datagrams with delays of its own in each direction, in front of a server: what a
//! network does to exchanges of readings, made in this process.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, OnceLock};
use std::thread::JoinHandle;
use std::time::Duration;

use super::unit;
use crate::units::{Nanos, Span, now};

/// How often a direction looks whether it is to end.
const LOOK: Duration = Duration::from_millis(50);
/// Bytes of the longest datagram.
const LONGEST: usize = 2048;

/// How long datagrams of a direction take: at least so long, and up to so much more by chance.
#[derive(Debug, Clone, Copy)]
pub struct DelayRange {
    pub least: Span,
    pub more: Span,
    pub seed: u64,
}

impl DelayRange {
    /// Of the n-th datagram. Cubed, so that most are near the least.
    fn of(&self, n: u64) -> Nanos {
        self.least.0 + (self.more.0 as f64 * unit(self.seed + 1_000 * (n + 1)).powi(3)) as Nanos
    }
}

/// What is handed on, and when.
type DueDatagram = (Nanos, Vec<u8>);

/// A port whose datagrams reach the server later, and its answers whoever asked last; until it is
/// dropped. Datagrams of a direction may pass each other only by their delays: none is sent before
/// one that came earlier.
pub struct UdpLine {
    address: SocketAddr,
    end: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl UdpLine {
    /// Opens one, with the delays on the way to the server and back.
    pub fn start(server: SocketAddr, delays: [DelayRange; 2]) -> io::Result<Self> {
        let front = Arc::new(UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?);
        let behind = Arc::new(UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?);
        behind.connect(server)?;
        let address = front.local_addr()?;
        for socket in [&front, &behind] {
            socket.set_read_timeout(Some(LOOK))?;
        }
        let end = Arc::new(AtomicBool::new(false));
        // Who asked: there is one client.
        let client = Arc::new(OnceLock::new());
        let mut line = Self { address, end, threads: Vec::new() };
        let (to_server, from_server) = (behind.clone(), behind);
        let (to_client, from_client) = (front.clone(), front);
        let asked = client.clone();
        line.direction(
            from_client,
            delays[0],
            move |bytes| to_server.send(bytes),
            move |from| {
                asked.get_or_init(|| from);
            },
        );
        line.direction(
            from_server,
            delays[1],
            move |bytes| client.get().map_or(Ok(0), |client: &SocketAddr| to_client.send_to(bytes, *client)),
            |_| {},
        );
        Ok(line)
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Two threads: one that takes datagrams as they come, one that hands each on when it is due.
    fn direction(
        &mut self,
        from: Arc<UdpSocket>,
        delay: DelayRange,
        send: impl Fn(&[u8]) -> io::Result<usize> + Send + 'static,
        seen: impl Fn(SocketAddr) + Send + 'static,
    ) {
        let (due, is_due) = channel();
        let end = self.end.clone();
        self.threads.push(std::thread::spawn(move || receive(&from, &end, delay, &due, seen)));
        self.threads.push(std::thread::spawn(move || hand_on(&is_due, send)));
    }
}

fn receive(
    from: &UdpSocket,
    end: &AtomicBool,
    delay: DelayRange,
    due: &Sender<DueDatagram>,
    seen: impl Fn(SocketAddr),
) {
    let (mut bytes, mut n, mut last) = ([0; LONGEST], 0, 0);
    while !end.load(Ordering::Relaxed) {
        // A wait in vain, or a server that is gone.
        let Ok((length, sender)) = from.recv_from(&mut bytes) else { continue };
        seen(sender);
        last = last.max(now() + delay.of(n));
        n += 1;
        // Who hands on ends after this.
        let _ = due.send((last, bytes[..length].to_vec()));
    }
}

fn hand_on(is_due: &Receiver<DueDatagram>, send: impl Fn(&[u8]) -> io::Result<usize>) {
    while let Ok((at, bytes)) = is_due.recv() {
        while let left @ 1.. = at.saturating_sub(now()) {
            std::thread::sleep(Duration::from_nanos(left));
        }
        // What cannot be sent is lost, as on a network.
        let _ = send(&bytes);
    }
}

impl Drop for UdpLine {
    fn drop(&mut self) {
        self.end.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            // It has nothing to tell.
            let _ = thread.join();
        }
    }
}
