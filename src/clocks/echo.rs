//! Exchanges of readings by UDP: a small server that answers with two readings of its clock, and a
//! client that asks.
//!
//! # Design
//! One datagram of 64 bytes for a question, one for its answer; nothing is sent again, and what is
//! lost is only one exchange less. The answer is no longer than the question, so that nobody can
//! make it send more than he sends himself. Readings are taken right before a datagram is handed to
//! the kernel and right after it is taken from it: what a process waits for the processor is then
//! part of the delay, which widens the interval and never makes it wrong.
//!
//! A token keeps runs apart that use the same address. It is no proof of who asks.
//! # Rejected
//! The connection that carries commands: its messages go by a server, whose delay is added to both
//! ways, and they wait behind each other. Stamps of the kernel (SO_TIMESTAMPNS): they are of the
//! clock of the day.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use super::{Exchange, LocalClock};
use crate::units::{Nanos, Span, now};

/// Bytes of a datagram.
const LENGTH: usize = 64;
const MAGIC: [u8; 4] = *b"mbck";
const VERSION: u8 = 1;
const QUESTION: u8 = 0;
const ANSWER: u8 = 1;
/// How often a server looks whether it is to end.
const LOOK: Duration = Duration::from_millis(200);
/// The shortest wait that a socket can be given.
const SHORTEST: Duration = Duration::from_micros(1);

/// What a datagram says. Fields that are not known yet are zero.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Datagram {
    answer: bool,
    token: u64,
    /// The number of the question.
    number: u64,
    t1: Nanos,
    t2: Nanos,
    t3: Nanos,
}

impl Datagram {
    fn bytes(&self) -> [u8; LENGTH] {
        let mut bytes = [0; LENGTH];
        bytes[..4].copy_from_slice(&MAGIC);
        bytes[4] = VERSION;
        bytes[5] = if self.answer { ANSWER } else { QUESTION };
        for (i, field) in [self.token, self.number, self.t1, self.t2, self.t3].into_iter().enumerate() {
            bytes[8 + 8 * i..16 + 8 * i].copy_from_slice(&field.to_le_bytes());
        }
        bytes
    }

    /// `None` for what is not one of ours.
    fn read(bytes: &[u8]) -> Option<Self> {
        if bytes.len() != LENGTH || bytes[..4] != MAGIC || bytes[4] != VERSION || bytes[5] > ANSWER {
            return None;
        }
        let field = |i: usize| {
            let mut field = [0; 8];
            field.copy_from_slice(&bytes[8 + 8 * i..16 + 8 * i]);
            u64::from_le_bytes(field)
        };
        let answer = bytes[5] == ANSWER;
        Some(Self { answer, token: field(0), number: field(1), t1: field(2), t2: field(3), t3: field(4) })
    }
}

/// Answers until it is dropped.
#[derive(Debug)]
pub struct EchoServer {
    address: SocketAddr,
    end: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl EchoServer {
    /// Listens at an address, and answers those who know the token with readings of this clock.
    ///
    /// # Errors
    /// When the kernel gives no socket or thread.
    pub fn start(address: SocketAddr, token: u64, clock: LocalClock) -> io::Result<Self> {
        let socket = UdpSocket::bind(address)?;
        socket.set_read_timeout(Some(LOOK))?;
        let address = socket.local_addr()?;
        let end = Arc::new(AtomicBool::new(false));
        let ended = end.clone();
        let serve = move || {
            while !ended.load(Ordering::Relaxed) {
                answer(&socket, token, clock);
            }
        };
        let thread = std::thread::Builder::new().name("echo".into()).spawn(serve)?;
        Ok(Self { address, end, thread: Some(thread) })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for EchoServer {
    fn drop(&mut self) {
        self.end.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // It has nothing to tell.
            let _ = thread.join();
        }
    }
}

/// Answers one question, if one comes.
fn answer(socket: &UdpSocket, token: u64, clock: LocalClock) {
    let mut bytes = [0; LENGTH + 1];
    // A wait that was in vain, or the news that somebody who asked is gone.
    let Ok((length, from)) = socket.recv_from(&mut bytes) else { return };
    let t2 = clock.read();
    let Some(question) = Datagram::read(&bytes[..length]).filter(|d| !d.answer && d.token == token) else { return };
    let answer = Datagram { answer: true, t2, t3: clock.read(), ..question };
    // What cannot be sent is a lost answer.
    let _ = socket.send_to(&answer.bytes(), from);
}

/// What came of asking for a while.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct EchoSample {
    pub exchanges: Vec<Exchange>,
    /// Questions that were sent; some have no answer.
    pub asked: u64,
}

/// Asks one server.
#[derive(Debug)]
pub struct EchoClient {
    socket: UdpSocket,
    token: u64,
    clock: LocalClock,
    asked: u64,
}

impl EchoClient {
    /// Makes a socket that knows its server; nothing is sent yet.
    ///
    /// # Errors
    /// When the kernel gives no socket, or has no way to the address.
    pub fn connect(server: SocketAddr, token: u64, clock: LocalClock) -> io::Result<Self> {
        let any: SocketAddr = match server {
            SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
            SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
        };
        let socket = UdpSocket::bind(any)?;
        socket.connect(server)?;
        Ok(Self { socket, token, clock, asked: 0 })
    }

    /// Asks at this interval for so long, or until it is told to stop, and waits for the last
    /// answers as long as `patience`. An answer counts whenever it comes.
    ///
    /// # Errors
    /// When the kernel refuses to send or to wait. A server that is not there is no error: there
    /// are no exchanges then.
    pub fn ask(&mut self, interval: Span, length: Span, patience: Span, stop: &AtomicBool) -> io::Result<EchoSample> {
        let mut sample = EchoSample::default();
        let begin = now();
        let end = begin + length.0;
        let mut due = begin;
        while due < end && !stop.load(Ordering::Relaxed) {
            self.send()?;
            sample.asked += 1;
            due += interval.0.max(1);
            self.receive_until(due.min(end), &mut sample)?;
        }
        let last = now() + patience.0;
        while (sample.exchanges.len() as u64) < sample.asked && now() < last && !stop.load(Ordering::Relaxed) {
            self.receive(Span(last.saturating_sub(now())), &mut sample)?;
        }
        Ok(sample)
    }

    /// Asks once; `None` where no answer comes within `patience`.
    ///
    /// # Errors
    /// As of [`ask`](Self::ask).
    pub fn exchange(&mut self, patience: Span) -> io::Result<Option<Exchange>> {
        let sample = self.ask(Span(1), Span(1), patience, &AtomicBool::new(false))?;
        Ok(sample.exchanges.first().copied())
    }

    fn send(&mut self) -> io::Result<()> {
        let number = self.asked;
        self.asked += 1;
        let question = Datagram { token: self.token, number, t1: self.clock.read(), ..Datagram::default() };
        match self.socket.send(&question.bytes()) {
            Err(e) if !passing(&e) => Err(e),
            // What is not sent has no answer.
            _ => Ok(()),
        }
    }

    fn receive_until(&self, at: Nanos, sample: &mut EchoSample) -> io::Result<()> {
        loop {
            let left = at.saturating_sub(now());
            if left == 0 {
                return Ok(());
            }
            self.receive(Span(left), sample)?;
        }
    }

    /// Takes one answer, if one comes in time.
    fn receive(&self, patience: Span, sample: &mut EchoSample) -> io::Result<()> {
        self.socket.set_read_timeout(Some(patience.duration().max(SHORTEST)))?;
        let mut bytes = [0; LENGTH + 1];
        let length = match self.socket.recv(&mut bytes) {
            Ok(length) => length,
            Err(e) if passing(&e) => return Ok(()),
            Err(e) => return Err(e),
        };
        let t4 = self.clock.read();
        let ours = |d: &Datagram| d.answer && d.token == self.token && d.number < self.asked && d.t1 <= t4;
        if let Some(Datagram { t1, t2, t3, .. }) = Datagram::read(&bytes[..length]).filter(ours) {
            sample.exchanges.push(Exchange { t1, t2, t3, t4 });
        }
        Ok(())
    }
}

/// Errors after which asking goes on: a wait in vain, a signal, a host or port that is not there at
/// the moment, a queue that is full.
fn passing(error: &io::Error) -> bool {
    use io::ErrorKind as K;
    let kinds = [
        K::WouldBlock,
        K::TimedOut,
        K::Interrupted,
        K::ConnectionRefused,
        K::HostUnreachable,
        K::NetworkUnreachable,
        K::NetworkDown,
    ];
    kinds.contains(&error.kind()) || error.raw_os_error() == Some(libc::ENOBUFS)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clocks::{ClockLimits, ClockRelation};

    const LOOPBACK: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 0);
    const PATIENCE: Span = Span::secs(30);

    #[test]
    fn a_datagram_is_read_as_it_was_written() {
        let all = Datagram { answer: true, token: 1, number: 2, t1: 3, t2: u64::MAX, t3: 5 };
        assert_eq!(Datagram::read(&all.bytes()), Some(all));
        for broken in 0..6 {
            let mut bytes = all.bytes();
            bytes[broken] ^= 0x40;
            assert_eq!(Datagram::read(&bytes), None, "{broken}");
        }
        assert_eq!(Datagram::read(&all.bytes()[..63]), None);
        assert_eq!(Datagram::read(&[0; 65]), None);
    }

    /// The clock of the server is 5 minutes ahead and 100 ppm fast.
    #[test]
    fn a_known_offset_is_inside_the_bound() {
        let clock = LocalClock::wrong_by(300_000_000_000, 100e-6, now());
        let server = EchoServer::start(LOOPBACK, 7, clock).unwrap();
        let mut client = EchoClient::connect(server.address(), 7, LocalClock::MACHINE).unwrap();
        let sample = client.ask(Span::millis(2), Span::millis(400), PATIENCE, &AtomicBool::new(false)).unwrap();
        assert!(sample.asked >= 50 && sample.exchanges.len() as u64 == sample.asked, "{sample:?}");
        let relation = ClockRelation::of(&sample.exchanges, ClockLimits::default()).unwrap();
        let (from, to) = relation.span();
        for at in [from, from + (to - from) / 2, to] {
            assert!(relation.offset_at(at).contains(clock.ahead(at)), "{:?}", relation.offset_at(at));
        }
    }

    #[test]
    fn another_token_has_no_answer_and_neither_has_nobody() {
        let server = EchoServer::start(LOOPBACK, 7, LocalClock::MACHINE).unwrap();
        let mut other = EchoClient::connect(server.address(), 8, LocalClock::MACHINE).unwrap();
        assert_eq!(other.exchange(Span::millis(50)).unwrap(), None);
        let mut right = EchoClient::connect(server.address(), 7, LocalClock::MACHINE).unwrap();
        let exchange = right.exchange(PATIENCE).unwrap().unwrap();
        assert!(exchange.t1 <= exchange.t2 && exchange.t2 <= exchange.t3 && exchange.t3 <= exchange.t4);
        let address = server.address();
        drop(server);
        let mut gone = EchoClient::connect(address, 7, LocalClock::MACHINE).unwrap();
        let sample = gone.ask(Span::millis(5), Span::millis(30), Span::millis(5), &AtomicBool::new(false)).unwrap();
        assert!(sample.asked >= 1 && sample.exchanges.is_empty(), "{sample:?}");
    }

    #[test]
    fn whoever_asks_can_be_stopped() {
        let server = EchoServer::start(LOOPBACK, 7, LocalClock::MACHINE).unwrap();
        let mut client = EchoClient::connect(server.address(), 7, LocalClock::MACHINE).unwrap();
        let stop = AtomicBool::new(true);
        let sample = client.ask(Span::millis(1), Span::secs(3600), PATIENCE, &stop).unwrap();
        assert_eq!(sample, EchoSample::default());
    }
}
