//! What a NATS server takes and gives when the client does nothing but move bytes: the ceiling that
//! a load generator can come near to.
//!
//! ```text
//! cargo run --release --example bare_nats -- write  127.0.0.1:4222 SIZE SECONDS
//! cargo run --release --example bare_nats -- stream 127.0.0.1:4222 SIZE SECONDS
//! cargo run --release --example bare_nats -- pull   127.0.0.1:4222 SIZE MESSAGES explicit|all|none
//! ```
//!
//! `write` sends one block of whole messages again and again and reads nothing. `stream` has a
//! reader beside it that counts bytes; the writer stays 50,000 messages ahead of it at most. `pull`
//! reads a JetStream stream of so many messages, stored in a file, in pulls of 500, and sends the
//! acknowledgements of a pull in one piece. Nothing is stamped, checked or accounted for. Each
//! prints messages a second and microseconds of its own CPU time for each message.

mod pull;

use std::error::Error;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

pub type Outcome<T> = Result<T, Box<dyn Error + Send + Sync>>;

/// A write, and what is read at a time.
const BLOCK: usize = 64 * 1024;
const ROOM: usize = 256 * 1024;
/// Messages that the writer of `stream` is ahead at most.
const WINDOW: u64 = 50_000;
const PATIENCE: Duration = Duration::from_secs(20);

/// CPU time of this process in seconds.
fn cpu() -> f64 {
    // SAFETY: all zeros is a valid rusage, and the call fills it.
    let usage = unsafe {
        let mut usage: libc::rusage = std::mem::zeroed();
        libc::getrusage(libc::RUSAGE_SELF, &mut usage);
        usage
    };
    let seconds = |t: libc::timeval| t.tv_sec as f64 + t.tv_usec as f64 / 1e6;
    seconds(usage.ru_utime) + seconds(usage.ru_stime)
}

/// A connection after its handshake, with nothing left to read.
pub fn connect(address: &str, hello: &[u8]) -> Outcome<TcpStream> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let connect = b"CONNECT {\"verbose\":false,\"pedantic\":false,\"headers\":true,\"no_responders\":true}\r\n";
    stream.write_all(&[connect, hello, b"PING\r\n"].concat())?;
    let mut reader = BufReader::new(stream.try_clone()?);
    let mut line = String::new();
    while line != "PONG\r\n" {
        line.clear();
        if reader.read_line(&mut line)? == 0 || line.starts_with("-ERR") {
            return Err(format!("the server at {address} said {line:?} to CONNECT").into());
        }
    }
    Ok(stream)
}

/// Returns when the server has dealt with everything that was sent.
pub fn barrier(stream: &mut TcpStream) -> Outcome<()> {
    stream.write_all(b"PING\r\n")?;
    let mut seen = Vec::new();
    let mut room = [0; 4096];
    while !seen.windows(6).any(|w| w == b"PONG\r\n") {
        match stream.read(&mut room)? {
            0 => return Err("the server closed the connection".into()),
            n => seen.extend_from_slice(&room[..n]),
        }
    }
    Ok(())
}

/// Whole messages, and how many.
pub fn block(subject: &str, size: usize) -> (Vec<u8>, u64) {
    let message = [format!("PUB {subject} {size}\r\n").as_bytes(), &vec![b'x'; size], b"\r\n"].concat();
    let each = (BLOCK / message.len()).max(1);
    (message.repeat(each), each as u64)
}

/// Writes for so long; messages and seconds, until the server has dealt with all of them.
fn write(address: &str, size: usize, length: Duration) -> Outcome<(u64, f64)> {
    let mut stream = connect(address, b"")?;
    let (block, each) = block("bare.write", size);
    let (mut sent, begun) = (0, Instant::now());
    while begun.elapsed() < length {
        stream.write_all(&block)?;
        sent += each;
    }
    barrier(&mut stream)?;
    Ok((sent, begun.elapsed().as_secs_f64()))
}

/// Counts messages by their bytes; each has as many as the first.
fn count(mut stream: TcpStream, size: usize, counted: &AtomicU64, done: &AtomicBool) -> Outcome<()> {
    stream.set_read_timeout(Some(Duration::from_millis(100)))?;
    let frame = (format!("MSG bare.stream 1 {size}\r\n").len() + size + 2) as u64;
    let (mut room, mut bytes) = (vec![0; ROOM], 0);
    while !done.load(Ordering::Relaxed) {
        match stream.read(&mut room) {
            Ok(0) => return Err("the server closed the connection of the reader".into()),
            // What the server asks after an idle client is some bytes in seconds.
            Ok(n) => bytes += n as u64,
            Err(e) if e.kind() == std::io::ErrorKind::WouldBlock => {}
            Err(e) => return Err(e.into()),
        }
        counted.store(bytes / frame, Ordering::Release);
    }
    Ok(())
}

/// Writes and reads for so long.
fn stream(address: &str, size: usize, length: Duration) -> Outcome<(u64, f64)> {
    let reader = connect(address, b"SUB bare.stream 1\r\n")?;
    let mut writer = connect(address, b"")?;
    let (block, each) = block("bare.stream", size);
    let (counted, done) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
    let (count_in, done_in) = (Arc::clone(&counted), Arc::clone(&done));
    let reading = std::thread::spawn(move || count(reader, size, &count_in, &done_in));
    let (mut sent, begun) = (0, Instant::now());
    while begun.elapsed() < length && !reading.is_finished() {
        if sent - counted.load(Ordering::Acquire) > WINDOW {
            std::thread::sleep(Duration::from_micros(20));
            continue;
        }
        writer.write_all(&block)?;
        sent += each;
    }
    let (read, took) = (counted.load(Ordering::Acquire), begun.elapsed().as_secs_f64());
    done.store(true, Ordering::Relaxed);
    reading.join().map_err(|_| "the reader panicked")??;
    Ok((read, took))
}

fn main() -> Outcome<()> {
    let usage =
        "bare_nats write|stream ADDRESS SIZE SECONDS, or bare_nats pull ADDRESS SIZE MESSAGES explicit|all|none";
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [what, address, size, amount, rest @ ..] = arguments.as_slice() else { return Err(usage.into()) };
    let size = size.parse()?;
    let (messages, seconds, spent) = match (what.as_str(), rest) {
        ("pull", [ack]) => pull::pull(address, size, amount.parse()?, ack)?,
        ("write" | "stream", []) => {
            let length = Duration::from_secs_f64(amount.parse()?);
            let before = cpu();
            let run = if what == "write" { write } else { stream };
            let (messages, seconds) = run(address, size, length)?;
            (messages, seconds, cpu() - before)
        }
        _ => return Err(usage.into()),
    };
    println!("{:.0} messages/s, {:.4} us CPU for each", messages as f64 / seconds, spent / messages as f64 * 1e6);
    Ok(())
}
