//! A pull consumer of JetStream that keeps the server busy and does nothing else.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Instant;

use super::{Outcome, barrier, block, connect, cpu};

/// Messages of a pull; two pulls are open at a time.
const PULL: u64 = 500;
const STREAM: &str = "bare";
const INBOX: &str = "_bare.in";

/// What has been read and not yet used.
struct Input {
    stream: TcpStream,
    bytes: Vec<u8>,
    from: usize,
    to: usize,
}

/// A message: its reply subject and its payload, as places in the input.
struct Message {
    reply: (usize, usize),
    payload: (usize, usize),
    headers: bool,
}

impl Input {
    fn fill(&mut self) -> Outcome<()> {
        if self.from > 0 {
            self.bytes.copy_within(self.from..self.to, 0);
            (self.from, self.to) = (0, self.to - self.from);
        }
        if self.to == self.bytes.len() {
            self.bytes.resize(2 * self.to, 0);
        }
        match self.stream.read(&mut self.bytes[self.to..])? {
            0 => Err("the server closed the connection".into()),
            n => {
                self.to += n;
                Ok(())
            }
        }
    }

    /// The next message, if it is here as a whole.
    fn next(&mut self) -> Outcome<Option<Message>> {
        loop {
            let here = &self.bytes[self.from..self.to];
            let Some(end) = here.iter().position(|b| *b == b'\n') else { return Ok(None) };
            let line = std::str::from_utf8(&here[..end])?.trim_end();
            let after = self.from + end + 1;
            if line.starts_with("-ERR") {
                return Err(format!("the server says {line}").into());
            }
            if !line.starts_with("MSG") && !line.starts_with("HMSG") {
                self.from = after;
                continue;
            }
            let fields: Vec<&str> = line.split(' ').collect();
            let total: usize = fields[fields.len() - 1].parse()?;
            let headers = fields[0] == "HMSG";
            let mut reply = (0, 0);
            if fields.len() == if headers { 6 } else { 5 } {
                let at = self.from + fields[..3].iter().map(|f| f.len() + 1).sum::<usize>();
                reply = (at, at + fields[3].len());
            }
            if self.to < after + total + 2 {
                return Ok(None);
            }
            self.from = after + total + 2;
            return Ok(Some(Message { reply, payload: (after, after + total), headers }));
        }
    }

    /// Sends a request and returns the answer.
    fn request(&mut self, subject: &str, body: &str) -> Outcome<String> {
        write!(self.stream, "PUB {subject} {INBOX} {}\r\n{body}\r\n", body.len())?;
        loop {
            match self.next()? {
                Some(message) => {
                    let answer = String::from_utf8_lossy(&self.bytes[message.payload.0..message.payload.1]);
                    // How a pull ended that was still open.
                    if message.headers && !answer.starts_with("NATS/1.0 503") {
                        continue;
                    }
                    if answer.contains("\"error\"") || message.headers {
                        return Err(format!("{subject}: {answer}").into());
                    }
                    return Ok(answer.into_owned());
                }
                None => self.fill()?,
            }
        }
    }
}

/// Stores `messages` of `size` bytes and reads them; how many, in what time, with what CPU time.
pub fn pull(address: &str, size: usize, messages: u64, ack: &str) -> Outcome<(u64, f64, f64)> {
    let stream = connect(address, format!("SUB {INBOX} 1\r\n").as_bytes())?;
    let mut input = Input { stream, bytes: vec![0; 1 << 18], from: 0, to: 0 };
    // It may not be there.
    let _ = input.request(&format!("$JS.API.STREAM.DELETE.{STREAM}"), "");
    let config = format!("{{\"name\":\"{STREAM}\",\"subjects\":[\"bare.js\"],\"storage\":\"file\"}}");
    input.request(&format!("$JS.API.STREAM.CREATE.{STREAM}"), &config)?;
    let mut writer = connect(address, b"")?;
    let (block, each) = block("bare.js", size);
    let blocks = messages.div_ceil(each);
    for n in 0..blocks {
        writer.write_all(&block)?;
        // Messages without a reply subject are dropped when the server is too far behind.
        if n % 16 == 0 {
            barrier(&mut writer)?;
        }
    }
    barrier(&mut writer)?;
    // What the server has dropped does not come: when no more is stored for a second, that is all.
    let (mut stored, mut same) = (0, 0);
    while stored < blocks * each && (stored == 0 || same < 20) {
        std::thread::sleep(std::time::Duration::from_millis(50));
        let info = input.request(&format!("$JS.API.STREAM.INFO.{STREAM}"), "")?;
        let now = info.split("\"messages\":").nth(1).and_then(|t| t.split(',').next()?.parse::<u64>().ok());
        let now = now.ok_or_else(|| format!("no number of messages in {info}"))?;
        same = if now == stored { same + 1 } else { 0 };
        stored = now;
    }
    let config = format!(
        "{{\"stream_name\":\"{STREAM}\",\"config\":{{\"durable_name\":\"c\",\"ack_policy\":\"{ack}\",\"max_ack_pending\":{}}}}}",
        4 * PULL
    );
    input.request(&format!("$JS.API.CONSUMER.DURABLE.CREATE.{STREAM}.c"), &config)?;
    let body = format!("{{\"batch\":{PULL},\"expires\":10000000000}}");
    let ask = format!("PUB $JS.API.CONSUMER.MSG.NEXT.{STREAM}.c {INBOX} {}\r\n{body}\r\n", body.len());
    let (before, begun) = (cpu(), Instant::now());
    input.stream.write_all(ask.repeat(2).as_bytes())?;
    let (mut read, mut out) = (0, Vec::new());
    while read < stored {
        let Some(message) = input.next()? else {
            if !out.is_empty() {
                input.stream.write_all(&out)?;
                out.clear();
            }
            input.fill()?;
            continue;
        };
        if message.headers {
            // A pull has ended before it was served: another takes its place.
            out.extend_from_slice(ask.as_bytes());
            continue;
        }
        read += 1;
        let last = read % PULL == 0 || read == stored;
        if ack == "explicit" || (ack == "all" && last) {
            out.extend_from_slice(b"PUB ");
            out.extend_from_slice(&input.bytes[message.reply.0..message.reply.1]);
            out.extend_from_slice(b" 4\r\n+ACK\r\n");
        }
        if read % PULL == 0 {
            out.extend_from_slice(ask.as_bytes());
        }
    }
    input.stream.write_all(&out)?;
    barrier(&mut input.stream)?;
    let took = (read, begun.elapsed().as_secs_f64(), cpu() - before);
    input.request(&format!("$JS.API.STREAM.DELETE.{STREAM}"), "")?;
    Ok(took)
}
