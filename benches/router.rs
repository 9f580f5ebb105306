//! The reference broker against a real nats-server, in one interleaved run, driven by a bare
//! protocol writer and reader so that no client library is the limit.
//!
//! `cargo bench --bench router` prints one Markdown table per kind of load. The real server is
//! `MSGBENCH_NATS_SERVER` or `nats-server` on PATH. `MSGBENCH_BENCH_REPEATS` (5) and
//! `MSGBENCH_BENCH_SECONDS` (1) say how much is measured; an argument such as `"1 to 4, 128"` picks
//! the loads whose name contains it. Every message carries a sequence number; a reader that misses
//! one, or gets one out of order, ends the run. CPU is the broker process's own, from the
//! scheduler's accounts of its threads, so that the load on the same cores does not count.

use std::error::Error;
use std::fmt::Write as _;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

type Outcome<T> = Result<T, Box<dyn Error + Send + Sync>>;

const CONNECT: &[u8] =
    b"CONNECT {\"verbose\":false,\"pedantic\":false,\"headers\":true,\"no_responders\":true,\"protocol\":1}\r\n";
const PING: &[u8] = b"PING\r\n";
/// The writer stays at most this many bytes ahead of the slowest reader, so that no server sees a
/// slow consumer.
const WINDOW: u64 = 4 << 20;
const PATIENCE: Duration = Duration::from_secs(20);

struct Server {
    child: Child,
    address: SocketAddr,
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended by itself, which the run has then reported.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Reference,
    Nats,
}

fn start(kind: Kind) -> Outcome<Server> {
    let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
    let mut command = match kind {
        Kind::Reference => {
            let mut command = Command::new(env!("CARGO_BIN_EXE_msgbench"));
            command.args(["broker", "--listen", &format!("127.0.0.1:{port}")]);
            command
        }
        Kind::Nats => {
            let mut command = Command::new(nats_server());
            command.args(["-a", "127.0.0.1", "-p", &port.to_string()]);
            command
        }
    };
    let child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn()?;
    let server = Server { child, address: SocketAddr::from(([127, 0, 0, 1], port)) };
    let end = Instant::now() + PATIENCE;
    while TcpStream::connect(server.address).is_err() {
        if Instant::now() > end {
            return Err("the server does not listen".into());
        }
        thread::sleep(Duration::from_millis(10));
    }
    Ok(server)
}

fn nats_server() -> String {
    std::env::var("MSGBENCH_NATS_SERVER").unwrap_or_else(|_| "nats-server".into())
}

/// CPU time of every thread of a process, in nanoseconds.
fn cpu(pid: u32) -> Outcome<u64> {
    let mut sum = 0;
    for task in fs::read_dir(format!("/proc/{pid}/task"))? {
        // A thread may end between the listing and the reading.
        if let Ok(text) = fs::read_to_string(task?.path().join("schedstat")) {
            sum += text.split(' ').next().unwrap_or("0").parse::<u64>()?;
        }
    }
    Ok(sum)
}

/// A connection after its handshake, with nothing left to read.
fn connect(address: SocketAddr, hello: &[u8]) -> Outcome<TcpStream> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.write_all(&[CONNECT, hello, b"PING\r\n"].concat())?;
    let mut reader = BufReader::new(stream.try_clone()?);
    let mut line = String::new();
    while line != "PONG\r\n" {
        line.clear();
        if reader.read_line(&mut line)? == 0 || line.starts_with("-ERR") {
            return Err(format!("the server said {line:?} to CONNECT").into());
        }
    }
    Ok(stream)
}

/// What one case measured on one server.
struct Flow {
    per_second: f64,
    cpu_ns: f64,
}

impl Flow {
    fn per_cpu_second(&self) -> f64 {
        1e9 / self.cpu_ns
    }
}

/// One writer, `fan` readers, `size` bytes a message, for `length`.
fn flow(server: &Server, fan: usize, size: usize, length: Duration) -> Outcome<Flow> {
    let head = format!("MSG bench.a 1 {size}\r\n");
    let frame = head.len() + size + 2;
    let expected = Arc::new(AtomicU64::new(u64::MAX));
    let mut seen = Vec::new();
    let mut readers = Vec::new();
    for _ in 0..fan {
        let mut stream = connect(server.address, b"SUB bench.a 1\r\n")?;
        let (expected, received) = (Arc::clone(&expected), Arc::new(AtomicU64::new(0)));
        seen.push(Arc::clone(&received));
        let head = head.clone().into_bytes();
        readers.push(thread::spawn(move || -> Outcome<Instant> {
            let mut buf = vec![0u8; 256 * 1024];
            let (mut filled, mut next) = (0usize, 0u64);
            while next < expected.load(Ordering::Acquire) {
                let n = stream.read(&mut buf[filled..])?;
                if n == 0 {
                    return Err(format!("closed after {next} messages").into());
                }
                filled += n;
                let mut at = 0;
                while filled - at >= frame {
                    // The server asks after idle clients in between.
                    if buf[at..].starts_with(PING) {
                        at += PING.len();
                        continue;
                    }
                    let message = &buf[at..at + frame];
                    if message[..4] != head[..4] || message[head.len()..head.len() + 8] != next.to_le_bytes() {
                        let got = String::from_utf8_lossy(&message[..frame.min(64)]).into_owned();
                        return Err(format!("message {next} is missing or broken: {got:?}").into());
                    }
                    next += 1;
                    at += frame;
                }
                buf.copy_within(at..filled, 0);
                filled -= at;
                received.store(next, Ordering::Release);
            }
            Ok(Instant::now())
        }));
    }
    let mut writer = connect(server.address, b"")?;
    let line = format!("PUB bench.a {size}\r\n");
    let publish = line.len() + size + 2;
    let batch = (64 * 1024 / publish).max(1);
    let mut buf = Vec::with_capacity(batch * publish);
    for _ in 0..batch {
        buf.extend_from_slice(line.as_bytes());
        buf.resize(buf.len() + size, b'x');
        buf.extend_from_slice(b"\r\n");
    }
    let before = cpu(server.child.id())?;
    let begin = Instant::now();
    let mut sent = 0u64;
    while begin.elapsed() < length {
        for frame in buf.chunks_exact_mut(publish) {
            frame[line.len()..line.len() + 8].copy_from_slice(&sent.to_le_bytes());
            sent += 1;
        }
        writer.write_all(&buf)?;
        let stalled = Instant::now();
        while seen.iter().any(|n| (sent - n.load(Ordering::Acquire)) * frame as u64 > WINDOW) {
            if stalled.elapsed() > PATIENCE || readers.iter().any(|reader| reader.is_finished()) {
                break;
            }
            thread::sleep(Duration::from_micros(50));
        }
        if readers.iter().any(|reader| reader.is_finished()) {
            break;
        }
    }
    expected.store(sent, Ordering::Release);
    // A reader that has everything already waits for one more message to look again.
    writer.write_all(b"PING\r\n")?;
    let mut pong = [0u8; 6];
    while pong != *b"PONG\r\n" {
        writer.read_exact(&mut pong)?;
    }
    for (reader, received) in readers.iter().zip(&seen) {
        let end = Instant::now() + PATIENCE;
        while !reader.is_finished() && received.load(Ordering::Acquire) < sent && Instant::now() < end {
            thread::sleep(Duration::from_micros(200));
        }
    }
    let spent = cpu(server.child.id())? - before;
    let took = begin.elapsed();
    // Everything is measured; one message more lets every reader see that it is done.
    buf[line.len()..line.len() + 8].copy_from_slice(&sent.to_le_bytes());
    writer.write_all(&buf[..publish])?;
    writer.write_all(b"PING\r\n")?;
    for reader in readers {
        reader.join().map_err(|_| "a reader panicked")??;
    }
    // The next case must not see that message.
    pong.fill(0);
    while pong != *b"PONG\r\n" {
        writer.read_exact(&mut pong)?;
    }
    let delivered = sent as f64 * fan as f64;
    Ok(Flow { per_second: delivered / took.as_secs_f64(), cpu_ns: spent as f64 / delivered })
}

/// Fills `buf` with one message of exactly its length, leaving out PINGs.
fn read_message(stream: &mut TcpStream, buf: &mut [u8]) -> Outcome<()> {
    let mut filled = 0;
    while filled < buf.len() {
        let n = stream.read(&mut buf[filled..])?;
        if n == 0 {
            return Err("the server closed the connection".into());
        }
        filled += n;
        while filled >= PING.len() && buf.starts_with(PING) {
            buf.copy_within(PING.len()..filled, 0);
            filled -= PING.len();
        }
    }
    if buf.starts_with(b"MSG ") { Ok(()) } else { Err("something other than a message came".into()) }
}

/// Round trips of one requester and one responder, in nanoseconds, ascending.
fn round_trips(server: &Server, count: usize) -> Outcome<Vec<u64>> {
    let mut responder = connect(server.address, b"SUB bench.q 1\r\n")?;
    let body = [b'x'; 128];
    let request = [b"PUB bench.q in.1 128\r\n", &body[..], b"\r\n"].concat();
    let served = b"MSG bench.q 1 in.1 128\r\n".len() + 130;
    let answer = [b"PUB in.1 128\r\n", &body[..], b"\r\n"].concat();
    let answered = b"MSG in.1 7 128\r\n".len() + 130;
    let service = thread::spawn(move || -> Outcome<()> {
        let mut buf = vec![0u8; served];
        for _ in 0..count {
            read_message(&mut responder, &mut buf)?;
            responder.write_all(&answer)?;
        }
        Ok(())
    });
    let mut requester = connect(server.address, b"SUB in.* 7\r\n")?;
    let mut buf = vec![0u8; answered];
    let mut times = Vec::with_capacity(count);
    for _ in 0..count {
        let begin = Instant::now();
        requester.write_all(&request)?;
        read_message(&mut requester, &mut buf)?;
        times.push(u64::try_from(begin.elapsed().as_nanos())?);
    }
    service.join().map_err(|_| "the responder panicked")??;
    times.drain(..count / 10);
    times.sort_unstable();
    Ok(times)
}

fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn setting(name: &str, default: u32) -> Outcome<u32> {
    std::env::var(name).map_or(Ok(default), |text| Ok(text.parse()?))
}

fn main() -> Outcome<()> {
    let repeats = setting("MSGBENCH_BENCH_REPEATS", 5)?.max(1) as usize;
    let length = Duration::from_secs(u64::from(setting("MSGBENCH_BENCH_SECONDS", 1)?.max(1)));
    let version = Command::new(nats_server()).arg("--version").output().map_err(|e| {
        format!("cannot run {}: {e}; install nats-server or set MSGBENCH_NATS_SERVER to its path", nats_server())
    })?;
    let version = String::from_utf8_lossy(&version.stdout).trim().to_owned();
    let filter = std::env::args().skip(1).find(|arg| !arg.starts_with('-')).unwrap_or_default();
    let mut cases = vec![(1, 16), (1, 128), (1, 1024), (4, 16), (4, 128), (4, 1024)];
    cases.retain(|(fan, size)| format!("1 to {fan}, {size} B").contains(&filter));
    let mut flows: Vec<[Vec<Flow>; 2]> = cases.iter().map(|_| [Vec::new(), Vec::new()]).collect();
    let mut trips: [Vec<(f64, f64)>; 2] = [Vec::new(), Vec::new()];
    for round in 0..repeats {
        for (case, &(fan, size)) in cases.iter().enumerate() {
            for turn in 0..2 {
                let which = (turn + round) % 2;
                let server = start([Kind::Reference, Kind::Nats][which])?;
                let name = ["the reference broker", "nats-server"][which];
                let fault = |e| format!("1 to {fan}, {size} B, {name}: {e}");
                flow(&server, fan, size, length / 5).map_err(fault)?;
                flows[case][which].push(flow(&server, fan, size, length).map_err(fault)?);
            }
        }
        for turn in 0..if "request/reply".contains(&filter) { 2 } else { 0 } {
            let which = (turn + round) % 2;
            let server = start([Kind::Reference, Kind::Nats][which])?;
            let times = round_trips(&server, 20_000)?;
            let at = |p: f64| times[(times.len() as f64 * p) as usize] as f64 / 1e3;
            trips[which].push((at(0.5), at(0.99)));
        }
    }
    let mut text = format!("msgbench broker against {version}, {repeats} interleaved rounds, medians\n\n");
    text += "| load | delivered/s, reference | delivered/s, nats-server | CPU ns/message, reference | CPU ns/message, nats-server | per CPU-second, ratio [least to most] |\n";
    text += "|---|---:|---:|---:|---:|---:|\n";
    for ((fan, size), [ours, theirs]) in cases.iter().zip(&flows) {
        let mut ratios: Vec<f64> =
            ours.iter().zip(theirs).map(|(a, b)| a.per_cpu_second() / b.per_cpu_second()).collect();
        let ratio = median(&mut ratios);
        let of = |flows: &[Flow], f: fn(&Flow) -> f64| median(&mut flows.iter().map(f).collect::<Vec<_>>());
        writeln!(
            text,
            "| 1 to {fan}, {size} B | {:.2} M | {:.2} M | {:.1} | {:.1} | {ratio:.2} [{:.2} to {:.2}] |",
            of(ours, |f| f.per_second) / 1e6,
            of(theirs, |f| f.per_second) / 1e6,
            of(ours, |f| f.cpu_ns),
            of(theirs, |f| f.cpu_ns),
            ratios[0],
            ratios[ratios.len() - 1],
        )?;
    }
    if trips[0].is_empty() {
        print!("{text}");
        return Ok(());
    }
    text += "\n| request/reply, 128 B | reference | nats-server | ratio [least to most] |\n|---|---:|---:|---:|\n";
    for (name, pick) in [("p50", (|t| t.0) as fn(&(f64, f64)) -> f64), ("p99", |t| t.1)] {
        let mut ratios: Vec<f64> = trips[0].iter().zip(&trips[1]).map(|(a, b)| pick(a) / pick(b)).collect();
        let ratio = median(&mut ratios);
        let [ours, theirs] = [0, 1].map(|n| median(&mut trips[n].iter().map(pick).collect::<Vec<_>>()));
        let (least, most) = (ratios[0], ratios[ratios.len() - 1]);
        writeln!(text, "| {name} | {ours:.1} us | {theirs:.1} us | {ratio:.2} [{least:.2} to {most:.2}] |")?;
    }
    print!("{text}");
    Ok(())
}
