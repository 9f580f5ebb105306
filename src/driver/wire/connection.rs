//! One connection: its two buffers, the handshake, and the frames that the server sends.

use std::io::ErrorKind;
use std::time::Duration;

use tokio::net::TcpStream;

use super::frames::{FULL, FrameRing};
use crate::driver::nats::link::without_secrets;
use crate::driver::nats::options::ConnectionOptions;
use crate::driver::{DriverError, Incident, Incidents, Target};
use crate::plan::address::NATS;
use crate::plan::{Address, Server};
use crate::units::{Nanos, now};

/// Read at a time, and at least what the largest message needs.
const ROOM: usize = 256 * 1024;

/// What the server says when a client connects.
#[derive(Debug, serde::Deserialize)]
#[serde(default)]
pub(super) struct InfoLine {
    pub(super) version: String,
    pub(super) server_name: String,
    pub(super) go: String,
    pub(super) max_payload: u64,
    pub(super) proto: u8,
    tls_required: bool,
}

impl Default for InfoLine {
    fn default() -> Self {
        let none = String::new;
        Self { version: none(), server_name: none(), go: none(), max_payload: 1 << 20, proto: 0, tls_required: false }
    }
}

#[derive(Debug)]
pub(super) struct WireConnection {
    stream: TcpStream,
    pub(super) out: Vec<u8>,
    /// Of `out`, already written; kept here because a write may be given up in its middle and taken
    /// up again.
    written: usize,
    /// What has been read and not yet used is `input[from..to]`.
    pub(super) input: Vec<u8>,
    from: usize,
    to: usize,
    /// When the latest read returned: what is complete by it arrived then.
    pub(super) at: Nanos,
    url: String,
    timeout: Duration,
    incidents: Incidents,
    /// The control line of the latest message, to its end, the bytes behind it, and where its reply
    /// subject stands in it: the next one often begins alike.
    latest: (Vec<u8>, usize, (usize, usize)),
}

/// What the server sent.
pub(super) enum ServerFrame {
    /// A message: where its parts stand in the input.
    Message { payload: (usize, usize), reply: (usize, usize), no_responders: bool },
    /// Something that is dealt with.
    Other,
    /// The answer to a PING.
    Pong,
    /// More must be read; so many bytes must fit.
    Need(usize),
}

/// Connects to the first server that answers.
async fn connect(servers: &[Server]) -> std::io::Result<TcpStream> {
    let mut last = std::io::Error::from(ErrorKind::NotFound);
    for server in servers {
        match TcpStream::connect((server.host.as_str(), server.port)).await {
            Ok(stream) => return Ok(stream),
            Err(error) => last = error,
        }
    }
    Err(last)
}

impl WireConnection {
    pub(super) async fn open(
        target: &Target,
        incidents: &Incidents,
        name: &str,
    ) -> Result<(Self, InfoLine), DriverError> {
        let url = without_secrets(&target.url);
        let failed = |words: String| DriverError::Connect {
            url: url.clone(),
            words,
            remedy: "check that the server runs there, and the credentials in `system.options`".into(),
        };
        let options = ConnectionOptions::of(target).map_err(failed)?;
        let servers = Address::read(&NATS, &target.url).map_err(|e| failed(e.to_string()))?.servers;
        let connecting = tokio::time::timeout(target.timeout, connect(&servers)).await;
        let stream = connecting
            .map_err(|_| failed(format!("no answer within {} s", target.timeout.as_secs_f64())))?
            .and_then(|stream| stream.set_nodelay(true).map(|()| stream))
            .map_err(|e| failed(e.to_string()))?;
        let mut pipe = Self {
            stream,
            out: Vec::with_capacity(2 * FULL),
            written: 0,
            input: vec![0; ROOM],
            from: 0,
            to: 0,
            at: 0,
            url: url.clone(),
            timeout: target.timeout,
            incidents: incidents.clone(),
            latest: (Vec::new(), 0, (0, 0)),
        };
        let info = tokio::time::timeout(target.timeout, pipe.hello())
            .await
            .map_err(|_| failed("the server does not greet as a NATS server does".into()))??;
        if info.tls_required {
            return Err(failed("the server demands TLS, which `client = \"wire\"` does not speak".into()));
        }
        let connect = serde_json::json!({
            "verbose": false, "pedantic": false, "lang": "rust", "version": env!("CARGO_PKG_VERSION"), "protocol": 1,
            "name": name, "headers": true, "no_responders": true,
            "user": options.user, "pass": options.password, "auth_token": options.token,
        });
        pipe.out.extend(format!("CONNECT {connect}\r\n").bytes());
        pipe.barrier().await.map_err(|e| match e {
            DriverError::Lost { words, .. } => failed(words),
            other => other,
        })?;
        incidents.connected();
        Ok((pipe, info))
    }

    async fn hello(&mut self) -> Result<InfoLine, DriverError> {
        loop {
            let line = &self.input[self.from..self.to];
            if let Some(end) = memchr::memchr(b'\n', line) {
                let json = line[..end].strip_prefix(b"INFO ").unwrap_or_default();
                let info =
                    serde_json::from_slice(json).map_err(|e| self.lost(format!("the greeting cannot be read: {e}")));
                self.from += end + 1;
                return info;
            }
            self.fill(1).await?;
        }
    }

    fn lost(&self, words: impl Into<String>) -> DriverError {
        DriverError::Lost { url: self.url.clone(), words: words.into() }
    }

    /// Writes what is gathered, and waits until the server has dealt with all of it.
    pub(super) async fn barrier(&mut self) -> Result<(), DriverError> {
        self.out.extend_from_slice(b"PING\r\n");
        let timeout = self.timeout;
        let exchange = async {
            self.write().await?;
            loop {
                match self.next()? {
                    ServerFrame::Pong => return Ok(()),
                    ServerFrame::Need(n) => self.fill(n).await?,
                    ServerFrame::Message { .. } | ServerFrame::Other => {}
                }
            }
        };
        tokio::time::timeout(timeout, exchange).await.unwrap_or_else(|_| {
            Err(DriverError::Timeout {
                action: "wait for the server's answer".into(),
                url: self.url.clone(),
                seconds: timeout.as_secs_f64(),
            })
        })
    }

    pub(super) async fn subscribe(&mut self, subject: &[u8], group: Option<&str>) -> Result<(), DriverError> {
        self.out.extend_from_slice(b"SUB ");
        self.out.extend_from_slice(subject);
        self.out.push(b' ');
        if let Some(group) = group {
            self.out.extend(group.bytes());
            self.out.push(b' ');
        }
        self.out.extend_from_slice(b"1\r\n");
        self.barrier().await
    }

    /// Gives back the room that a connection without messages does not need.
    pub(super) fn shrink(&mut self) {
        if self.from == self.to {
            (self.from, self.to) = (0, 0);
            self.input = vec![0; 512];
            self.out = Vec::new();
        }
    }

    /// Writes everything that is gathered; counts when the socket does not take it at once.
    pub(super) async fn write(&mut self) -> Result<(), DriverError> {
        let pushed = push(&self.stream, &self.incidents, &self.out, &mut self.written).await;
        pushed.map_err(|e| self.unwritten(&e))?;
        self.out.clear();
        self.written = 0;
        Ok(())
    }

    /// Writes the frames that were taken, and what is gathered behind them; before them where some
    /// of that is out already.
    pub(super) async fn write_frames(&mut self, ring: &mut FrameRing) -> Result<(), DriverError> {
        if self.written > 0 {
            self.write().await?;
        }
        let (taken, written) = ring.pending();
        let pushed = push(&self.stream, &self.incidents, taken, written).await;
        pushed.map_err(|e| self.unwritten(&e))?;
        if self.out.is_empty() { Ok(()) } else { self.write().await }
    }

    fn unwritten(&self, error: &std::io::Error) -> DriverError {
        self.lost(self.server_error(error.to_string()))
    }

    /// What the server said before it closed, where it said something.
    fn server_error(&self, otherwise: String) -> String {
        let mut buffer = [0; 512];
        let read = self.stream.try_read(&mut buffer).unwrap_or(0);
        let said = String::from_utf8_lossy(&buffer[..read]).into_owned();
        said.lines().find_map(|l| l.strip_prefix("-ERR ")).map_or(otherwise, |w| w.trim_matches('\'').to_owned())
    }

    /// Reads more; room is made for at least `need` bytes beyond what is here.
    pub(super) async fn fill(&mut self, need: usize) -> Result<(), DriverError> {
        loop {
            self.stream.readable().await.map_err(|e| self.lost(e.to_string()))?;
            if self.take(need)? {
                return Ok(());
            }
        }
    }

    /// Reads what is there; false when there is nothing.
    pub(super) fn take(&mut self, need: usize) -> Result<bool, DriverError> {
        if self.from == self.to {
            (self.from, self.to) = (0, 0);
        } else if self.input.len() - self.to < need.max(ROOM / 4) {
            self.input.copy_within(self.from..self.to, 0);
            (self.from, self.to) = (0, self.to - self.from);
        }
        if self.input.len() - self.to < need {
            self.input.resize(self.to + need, 0);
        }
        match self.stream.try_read(&mut self.input[self.to..]) {
            Ok(0) => Err(self.lost("the server closed the connection")),
            Ok(n) => {
                self.at = now();
                self.to += n;
                Ok(true)
            }
            Err(e) if e.kind() == ErrorKind::WouldBlock => Ok(false),
            Err(e) => Err(self.lost(e.to_string())),
        }
    }

    /// Takes the next frame off the input.
    #[inline]
    pub(super) fn next(&mut self) -> Result<ServerFrame, DriverError> {
        let input = &self.input[self.from..self.to];
        let (same, total, reply) = &self.latest;
        if !same.is_empty() && input.starts_with(same) {
            let (after, total) = (self.from + same.len(), *total);
            if self.to < after + total + 2 {
                return Ok(ServerFrame::Need(after + total + 2 - self.to));
            }
            let reply = (self.from + reply.0, self.from + reply.1);
            self.from = after + total + 2;
            return Ok(ServerFrame::Message { payload: (after, after + total), reply, no_responders: false });
        }
        let Some(end) = memchr::memchr(b'\n', input) else { return Ok(ServerFrame::Need(1)) };
        let line = &input[..end];
        let after = self.from + end + 1;
        match line.first() {
            Some(b'M' | b'H') => {
                let headers = line[0] == b'H';
                let malformed = || self.lost(format!("the server wrote {:?}", String::from_utf8_lossy(line)));
                let fields = LineFields::of(line).ok_or_else(malformed)?;
                let (head, total) = fields.sizes(headers).ok_or_else(malformed)?;
                if head > total {
                    return Err(malformed());
                }
                if self.to < after + total + 2 {
                    return Ok(ServerFrame::Need(after + total + 2 - self.to));
                }
                let no_responders = headers && self.input[after..after + head].starts_with(b"NATS/1.0 503");
                let place = fields.reply(headers).unwrap_or((0, 0));
                let reply = (self.from + place.0, self.from + place.1);
                let payload = (after + head, after + total);
                if !headers {
                    self.latest.0.clear();
                    self.latest.0.extend_from_slice(&self.input[self.from..after]);
                    (self.latest.1, self.latest.2) = (total, place);
                }
                self.from = after + total + 2;
                return Ok(ServerFrame::Message { payload, reply, no_responders });
            }
            Some(b'-') => {
                let words =
                    String::from_utf8_lossy(line).trim().trim_start_matches("-ERR ").trim_matches('\'').to_owned();
                self.incidents.note(Incident::Server, format!("the server says: {words}"));
                self.from = after;
                return Err(self.lost(words));
            }
            Some(b'P') if line.starts_with(b"PING") => {
                self.out.extend_from_slice(b"PONG\r\n");
                self.from = after;
            }
            Some(b'P') => {
                self.from = after;
                return Ok(ServerFrame::Pong);
            }
            _ => self.from = after,
        }
        Ok(ServerFrame::Other)
    }
}

/// Writes all of `bytes`, of which `written` are written; counts when the socket does not take it
/// at once.
async fn push(stream: &TcpStream, incidents: &Incidents, bytes: &[u8], written: &mut usize) -> std::io::Result<()> {
    while *written < bytes.len() {
        match stream.try_write(&bytes[*written..]) {
            Ok(n) => *written += n,
            Err(e) if e.kind() == ErrorKind::WouldBlock => {
                incidents.backpressure();
                stream.writable().await?;
            }
            Err(e) => return Err(e),
        }
    }
    Ok(())
}

/// The blank-separated fields of a control line, as places in it; at most six.
struct LineFields<'a> {
    line: &'a [u8],
    at: [(usize, usize); 6],
    len: usize,
}

impl<'a> LineFields<'a> {
    fn of(line: &'a [u8]) -> Option<Self> {
        let mut fields = Self { line, at: [(0, 0); 6], len: 0 };
        let mut begin = None;
        for (i, byte) in line.iter().enumerate().chain([(line.len(), &b' ')]) {
            match (byte, begin) {
                (b' ' | b'\r' | b'\t', Some(from)) => {
                    *fields.at.get_mut(fields.len)? = (from, i);
                    fields.len += 1;
                    begin = None;
                }
                (b' ' | b'\r' | b'\t', None) => {}
                (_, None) => begin = Some(i),
                _ => {}
            }
        }
        Some(fields)
    }
    /// Bytes of headers and of everything; `MSG subject sid [reply] size`,
    /// `HMSG subject sid [reply] headers size`.
    fn sizes(&self, headers: bool) -> Option<(usize, usize)> {
        let number = |k: usize| std::str::from_utf8(&self.line[self.at[k].0..self.at[k].1]).ok()?.parse().ok();
        let least = if headers { 5 } else { 4 };
        if self.len < least {
            return None;
        }
        let total = number(self.len - 1)?;
        Some((if headers { number(self.len - 2)? } else { 0 }, total))
    }
    fn reply(&self, headers: bool) -> Option<(usize, usize)> {
        (self.len == if headers { 6 } else { 5 }).then_some(self.at[3])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn fields(line: &[u8], headers: bool) -> Option<(usize, usize, Option<String>)> {
        let fields = LineFields::of(line)?;
        let (head, total) = fields.sizes(headers)?;
        let reply = fields.reply(headers).map(|(a, b)| String::from_utf8_lossy(&line[a..b]).into_owned());
        Some((head, total, reply))
    }

    #[test]
    fn control_lines_are_read() {
        assert_eq!(fields(b"MSG a.b 1 12\r", false), Some((0, 12, None)));
        assert_eq!(fields(b"MSG a.b 1 inbox.7 12\r", false), Some((0, 12, Some("inbox.7".into()))));
        assert_eq!(fields(b"HMSG a.b 1 16 28\r", true), Some((16, 28, None)));
        assert_eq!(fields(b"HMSG a.b 1 r 16 28\r", true), Some((16, 28, Some("r".into()))));
        for bad in [&b"MSG a.b 1\r"[..], b"MSG a b c d e f g", b"MSG a 1 x", b"HMSG a 1 9"] {
            assert_eq!(fields(bad, bad[0] == b'H'), None, "{}", String::from_utf8_lossy(bad));
        }
    }

    proptest! {
        #[test]
        fn no_line_panics(line: Vec<u8>, headers: bool) {
            let _ = fields(&line, headers);
        }
    }
}
