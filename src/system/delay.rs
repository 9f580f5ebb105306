//! Links with a delay between servers on one host: a port in front of each server's own, where
//! every block is handed on so much later, in order.
//!
//! # Design
//! Who connects to such a port is connected to the server behind it. Each block is stamped when it
//! is read and written when its delay is over, in both directions, so that a round trip is later by
//! twice the delay. One thread waits for all sockets and for the next block that is due (ppoll(2),
//! nanoseconds; the kernel's timer slack is taken away). It needs no rights and no network
//! namespace.
//! # What it is not
//! A network: TCP runs from end to end of each half with the round trip of the loopback. Nothing is
//! lost, no window has to grow, and connections are opened at once. Loss cannot be made so: what is
//! taken out of a stream of bytes is a broken stream. A namespace with `netem` does it
//! (`action = "shape"`), where the kernel has that.
//! # Invariant
//! A direction holds at most [`BOUND`] bytes; then it is not read, and the sender waits as for a
//! full window.

use std::collections::VecDeque;
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::net::UnixStream;
use std::thread::JoinHandle;
use std::time::Duration;

use crate::units::{Nanos, SECOND, Span, now};

/// Bytes that one direction of one connection may hold.
const BOUND: usize = 32 << 20;
/// Bytes that are read at once.
const BLOCK: usize = 64 * 1024;
/// Blocks that are read of one connection before the others have their turn.
const TURN: usize = 8;
/// A server that does not take a connection yet is asked again after this.
const RETRY: Nanos = 10_000_000;
/// So long it is asked; then who connected is turned away, as by the server itself.
const PATIENCE: Nanos = 2 * SECOND;
/// Bound on one connection over the loopback.
const CONNECT: Duration = Duration::from_millis(200);

/// A server's port, and the delay of each direction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DelayedPort {
    pub to: u16,
    pub delay: Span,
}

/// Ports with a delay, served until this is dropped.
#[derive(Debug)]
pub struct DelayLines {
    /// Closed to end the thread.
    wake: Option<UnixStream>,
    thread: Option<JoinHandle<()>>,
}

impl DelayLines {
    /// Opens a port for each of `ports`, in their order.
    ///
    /// # Errors
    /// When the kernel gives no port, socket or thread.
    pub fn start(ports: &[DelayedPort]) -> io::Result<(Self, Vec<u16>)> {
        let (wake, woken) = UnixStream::pair()?;
        let mut lines = Vec::new();
        let mut opened = Vec::new();
        for port in ports {
            let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
            listener.set_nonblocking(true)?;
            opened.push(listener.local_addr()?.port());
            lines.push(Line { listener, to: port.to, delay: port.delay.0 });
        }
        let switch = Switch { woken, lines, waiting: Vec::new(), pipes: Vec::new(), buffer: vec![0; BLOCK] };
        let thread = std::thread::Builder::new().name("links".into()).spawn(move || switch.run())?;
        Ok((Self { wake: Some(wake), thread: Some(thread) }, opened))
    }
}

impl Drop for DelayLines {
    fn drop(&mut self) {
        drop(self.wake.take());
        if let Some(thread) = self.thread.take() {
            // It ends at once, and has nothing to tell.
            let _ = thread.join();
        }
    }
}

struct Line {
    listener: TcpListener,
    to: u16,
    delay: Nanos,
}

/// Who connected and is not yet connected further.
struct Waiting {
    stream: TcpStream,
    line: usize,
    next: Nanos,
    until: Nanos,
}

/// One direction of a connection.
#[derive(Default)]
struct Direction {
    /// Blocks, and when each is due.
    blocks: VecDeque<(Nanos, Vec<u8>)>,
    /// Bytes of the first block that are written.
    written: usize,
    held: usize,
    /// When the end of what is read is due to be passed on.
    end: Option<Nanos>,
    /// The other side takes nothing at the moment.
    full: bool,
    closed: bool,
}

impl Direction {
    fn reads(&self) -> bool {
        self.end.is_none() && !self.closed && self.held < BOUND
    }

    /// The other side takes nothing any more. What it has sent before is on its way all the same.
    fn give_up(&mut self) {
        (self.blocks, self.written, self.held) = (VecDeque::new(), 0, 0);
        self.closed = true;
    }

    /// When it has something to write; none while the other side takes nothing.
    fn due(&self) -> Option<Nanos> {
        match self.blocks.front() {
            _ if self.full || self.closed => None,
            Some((due, _)) => Some(*due),
            None => self.end,
        }
    }

    /// Reads a few blocks; what is left is read in the next turn, so that one connection does not
    /// hold up the others.
    fn read(&mut self, from: &mut TcpStream, delay: Nanos, buffer: &mut [u8]) {
        for _ in 0..TURN {
            if !self.reads() {
                return;
            }
            let read = from.read(buffer);
            let due = now() + delay;
            match read {
                Ok(n) if n > 0 => {
                    self.held += n;
                    self.blocks.push_back((due, buffer[..n].to_vec()));
                }
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => return,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                // The end, or a connection that was broken off: the other side is told in its turn.
                Ok(_) | Err(_) => self.end = Some(due),
            }
        }
    }

    /// Writes what is due; an error where the other side is gone.
    fn write(&mut self, to: &mut TcpStream, at: Nanos) -> io::Result<()> {
        while let Some((due, block)) = self.blocks.front()
            && *due <= at
        {
            match to.write(&block[self.written..]) {
                Ok(n) => self.written += n,
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => {
                    self.full = true;
                    return Ok(());
                }
                Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
                Err(e) => return Err(e),
            }
            if self.written == block.len() {
                self.held -= block.len();
                self.written = 0;
                self.blocks.pop_front();
            }
        }
        if self.blocks.is_empty() && !self.closed && self.end.is_some_and(|end| end <= at) {
            self.closed = true;
            // A side that is gone needs not be told.
            let _ = to.shutdown(Shutdown::Write);
        }
        Ok(())
    }
}

/// A connection to a delayed port, and the one behind it.
struct Pipe {
    ends: [TcpStream; 2],
    /// From the first end to the second, and back.
    ways: [Direction; 2],
    delay: Nanos,
}

impl Pipe {
    /// What poll(2) is to wait for at an end.
    fn events(&self, end: usize) -> libc::c_short {
        let read = if self.ways[end].reads() { libc::POLLIN } else { 0 };
        let write = if self.ways[1 - end].full { libc::POLLOUT } else { 0 };
        read | write
    }

    fn serve(&mut self, ready: [libc::c_short; 2], at: Nanos, buffer: &mut [u8]) {
        for (end, ready) in ready.into_iter().enumerate() {
            if ready & (libc::POLLOUT | libc::POLLERR | libc::POLLHUP) != 0 {
                self.ways[1 - end].full = false;
            }
            if ready & !libc::POLLOUT != 0 {
                self.ways[end].read(&mut self.ends[end], self.delay, buffer);
            }
        }
        for way in 0..2 {
            if self.ways[way].write(&mut self.ends[1 - way], at).is_err() {
                self.ways[way].give_up();
            }
        }
    }

    fn over(&self) -> bool {
        self.ways.iter().all(|way| way.closed)
    }
}

/// All connections, served by one thread.
struct Switch {
    woken: UnixStream,
    lines: Vec<Line>,
    waiting: Vec<Waiting>,
    pipes: Vec<Pipe>,
    buffer: Vec<u8>,
}

impl Switch {
    fn run(mut self) {
        // SAFETY: PR_SET_TIMERSLACK takes one integer and concerns the calling thread only.
        unsafe { libc::prctl(libc::PR_SET_TIMERSLACK, 1 as libc::c_ulong) };
        loop {
            let Some(ready) = self.wait() else { return };
            if ready[0] != 0 {
                return;
            }
            let at = now();
            let first_end = 1 + self.lines.len();
            for (pipe, ends) in self.pipes.iter_mut().zip(ready[first_end..].chunks_exact(2)) {
                pipe.serve([ends[0], ends[1]], at, &mut self.buffer);
            }
            self.pipes.retain(|pipe| !pipe.over());
            self.accept(at);
            self.connect(at);
        }
    }

    /// Waits until a socket is ready or a block is due; what is ready of the sign to end, the
    /// listeners, and both ends of each connection. `None` when the kernel refuses to wait.
    fn wait(&self) -> Option<Vec<libc::c_short>> {
        let of = |fd: RawFd, events| libc::pollfd { fd: if events == 0 { -1 } else { fd }, events, revents: 0 };
        let mut all = vec![of(self.woken.as_raw_fd(), libc::POLLIN)];
        all.extend(self.lines.iter().map(|line| of(line.listener.as_raw_fd(), libc::POLLIN)));
        for pipe in &self.pipes {
            all.extend((0..2).map(|end| of(pipe.ends[end].as_raw_fd(), pipe.events(end))));
        }
        let due = self.pipes.iter().flat_map(|pipe| pipe.ways.iter().filter_map(Direction::due));
        let next = due.chain(self.waiting.iter().map(|w| w.next)).min();
        let left = next.map(|next| next.saturating_sub(now()));
        let time = left.map(|left| libc::timespec { tv_sec: (left / SECOND) as i64, tv_nsec: (left % SECOND) as i64 });
        let timeout = time.as_ref().map_or(std::ptr::null(), std::ptr::from_ref);
        loop {
            // SAFETY: `all` is valid and writable for its length, `timeout` is null or points to a
            // timespec that lives until the call returns, and no signal mask is given.
            let n = unsafe { libc::ppoll(all.as_mut_ptr(), all.len() as libc::nfds_t, timeout, std::ptr::null()) };
            if n >= 0 {
                return Some(all.iter().map(|p| p.revents).collect());
            }
            if io::Error::last_os_error().kind() != io::ErrorKind::Interrupted {
                return None;
            }
        }
    }

    fn accept(&mut self, at: Nanos) {
        for (line, of) in self.lines.iter().enumerate() {
            while let Ok((stream, _)) = of.listener.accept() {
                self.waiting.push(Waiting { stream, line, next: at, until: at + PATIENCE });
            }
        }
    }

    /// Connects further who waits.
    fn connect(&mut self, at: Nanos) {
        for mut waiting in std::mem::take(&mut self.waiting) {
            if waiting.next > at {
                self.waiting.push(waiting);
                continue;
            }
            let Line { to, delay, .. } = self.lines[waiting.line];
            let address = SocketAddr::from((Ipv4Addr::LOCALHOST, to));
            match TcpStream::connect_timeout(&address, CONNECT) {
                Ok(to) => self.pipes.extend(pipe(waiting.stream, to, delay)),
                Err(_) if at < waiting.until => {
                    waiting.next = at + RETRY;
                    self.waiting.push(waiting);
                }
                // Who connected is turned away.
                Err(_) => {}
            }
        }
    }
}

fn pipe(from: TcpStream, to: TcpStream, delay: Nanos) -> io::Result<Pipe> {
    for end in [&from, &to] {
        end.set_nonblocking(true)?;
        end.set_nodelay(true)?;
    }
    Ok(Pipe { ends: [from, to], ways: Default::default(), delay })
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONG: Duration = Duration::from_secs(60);

    /// The two ends of a connection through a line.
    fn through(delay: Span) -> (DelayLines, TcpStream, TcpStream) {
        let server = TcpListener::bind("127.0.0.1:0").unwrap();
        let to = server.local_addr().unwrap().port();
        let (lines, ports) = DelayLines::start(&[DelayedPort { to, delay }]).unwrap();
        let client = TcpStream::connect(("127.0.0.1", ports[0])).unwrap();
        let (server, _) = server.accept().unwrap();
        for end in [&client, &server] {
            end.set_read_timeout(Some(LONG)).unwrap();
            end.set_write_timeout(Some(LONG)).unwrap();
            end.set_nodelay(true).unwrap();
        }
        (lines, client, server)
    }

    #[test]
    fn each_direction_is_later_by_the_delay() {
        for (delay, most) in [(Span::millis(20), 1.5), (Span::millis(2), 5.0)] {
            let (_lines, mut client, mut server) = through(delay);
            let (mut there, mut back) = (Vec::new(), Vec::new());
            for _ in 0..20 {
                let mut byte = [0];
                let sent = now();
                client.write_all(&[1]).unwrap();
                server.read_exact(&mut byte).unwrap();
                let heard = now();
                server.write_all(&[2]).unwrap();
                client.read_exact(&mut byte).unwrap();
                there.push(heard - sent);
                back.push(now() - heard);
            }
            for mut all in [there, back] {
                all.sort_unstable();
                assert!(all[0] >= delay.0, "{all:?}");
                assert!((all[10] as f64) < delay.0 as f64 * most, "{all:?}");
            }
        }
    }

    /// A server that dies while its client goes on sending: what it sent before comes, as late as
    /// ever.
    #[test]
    fn what_a_dead_server_has_sent_is_on_its_way_all_the_same() {
        let delay = Span::millis(500);
        let (_lines, client, mut server) = through(delay);
        let mut sender = client.try_clone().unwrap();
        let stop = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
        let stopped = stop.clone();
        let sending = std::thread::spawn(move || {
            while !stopped.load(std::sync::atomic::Ordering::Relaxed) && sender.write_all(&[1]).is_ok() {
                std::thread::sleep(Duration::from_millis(2));
            }
        });
        let mut byte = [0];
        server.read_exact(&mut byte).unwrap();
        let sent = now();
        server.write_all(b"last").unwrap();
        // What comes for it from now on is refused.
        std::thread::sleep(Duration::from_millis(50));
        drop(server);
        let (mut client, mut got) = (client, Vec::new());
        // The end may be a reset.
        let mut block = [0; 16];
        while let Ok(n) = client.read(&mut block)
            && n > 0
        {
            got.extend_from_slice(&block[..n]);
            assert!(now() - sent >= delay.0);
        }
        assert_eq!(got, b"last");
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
        sending.join().unwrap();
    }

    /// More than a line holds at once passes whole and in order, while the other side is slow, and
    /// the end comes after it.
    #[test]
    fn all_bytes_pass_in_order_and_then_the_end() {
        let (_lines, mut client, mut server) = through(Span::millis(300));
        let all: Vec<u8> = (0..BOUND + 8 * BLOCK + 7).map(|i| (i % 251) as u8).collect();
        let expected = all.clone();
        let writer = std::thread::spawn(move || {
            client.write_all(&all).unwrap();
            client.shutdown(Shutdown::Write).unwrap();
            let mut answer = Vec::new();
            client.read_to_end(&mut answer).unwrap();
            answer
        });
        let mut got = Vec::new();
        server.read_to_end(&mut got).unwrap();
        assert!(got == expected, "{} of {} bytes, or in another order", got.len(), expected.len());
        server.write_all(b"done").unwrap();
        drop(server);
        assert_eq!(writer.join().unwrap(), b"done");
    }

    /// A sender that never pauses: no byte of it is early.
    #[test]
    fn no_block_of_a_long_stream_is_early() {
        const DELAY: Nanos = 5_000_000;
        let (_lines, mut client, mut server) = through(Span(DELAY));
        let writer = std::thread::spawn(move || {
            let block = vec![7; 16 * 1024];
            let write = |_| {
                let at = now();
                client.write_all(&block).unwrap();
                at
            };
            // When each block was begun; it left no earlier.
            (0..4096).map(write).collect::<Vec<Nanos>>()
        });
        let mut block = vec![0; 16 * 1024];
        let read = |_| {
            server.read_exact(&mut block).unwrap();
            now()
        };
        let read: Vec<Nanos> = (0..4096).map(read).collect();
        let written = writer.join().unwrap();
        let least = read.iter().zip(&written).map(|(read, written)| read.saturating_sub(*written)).min().unwrap();
        assert!(least >= DELAY, "a block came {least} ns after it was sent");
    }

    #[test]
    fn who_connects_before_the_server_listens_is_connected_when_it_does() {
        let server = TcpListener::bind("127.0.0.1:0").unwrap();
        let to = server.local_addr().unwrap().port();
        drop(server);
        let (lines, ports) = DelayLines::start(&[DelayedPort { to, delay: Span::millis(1) }]).unwrap();
        let mut client = TcpStream::connect(("127.0.0.1", ports[0])).unwrap();
        client.write_all(b"early").unwrap();
        let server = TcpListener::bind(("127.0.0.1", to)).unwrap();
        let (mut server, _) = server.accept().unwrap();
        let mut got = [0; 5];
        server.read_exact(&mut got).unwrap();
        assert_eq!(&got, b"early");
        // Everything goes with the lines.
        drop(lines);
        client.set_read_timeout(Some(LONG)).unwrap();
        assert_eq!(client.read(&mut got).unwrap_or(0), 0);
        assert!(TcpStream::connect(("127.0.0.1", ports[0])).is_err());
    }
}
