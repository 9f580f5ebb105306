//! As much of HTTP/1.1 as a dashboard, a browser or curl needs to read a page.

use std::fmt::Write as _;
use std::io;
use std::time::{Duration, SystemTime};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::words;

/// The longest head of a request, in bytes.
const MAX_HEAD: usize = 8 * 1024;
/// How long a request may take to arrive, the next one of a connection included.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long a page may take to be read.
const WRITE_PATIENCE: Duration = Duration::from_secs(10);
/// Requests of one connection.
const MAX_REQUESTS: usize = 1000;

/// A request for a page.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct HttpRequest {
    pub path: String,
    query: Vec<(String, String)>,
    /// Only the head of the answer is wanted.
    head: bool,
    /// The connection ends with this request.
    last: bool,
}

impl HttpRequest {
    /// The value of an option of the query; the first one counts.
    pub(super) fn option(&self, name: &str) -> Option<&str> {
        self.query.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// Reads the head of a request. The error is the status that answers it.
    fn read(head: &[u8]) -> Result<Self, u16> {
        let text = std::str::from_utf8(head).map_err(|_| 400u16)?;
        let mut lines = text.split('\n').map(|line| line.trim_end_matches('\r'));
        let mut words = lines.next().unwrap_or_default().split(' ');
        let (method, target, version) = (words.next(), words.next(), words.next());
        let (Some(target), Some(version), None) = (target.filter(|t| t.starts_with('/')), version, words.next()) else {
            return Err(400);
        };
        let minor = version.strip_prefix("HTTP/1.").ok_or(505u16)?;
        let head = match method {
            Some("GET") => false,
            Some("HEAD") => true,
            _ => return Err(405),
        };
        let mut last = minor == "0";
        for (name, value) in lines.filter_map(|line| line.split_once(':')) {
            let value = value.trim();
            match name.to_ascii_lowercase().as_str() {
                "connection" => last |= value.eq_ignore_ascii_case("close"),
                // A body is not read, so nothing may follow it.
                "content-length" => last |= value != "0",
                "transfer-encoding" => last = true,
                _ => {}
            }
        }
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let pairs = query.split('&').filter(|pair| !pair.is_empty());
        let query = pairs.map(|pair| pair.split_once('=').unwrap_or((pair, ""))).map(|(k, v)| (decoded(k), decoded(v)));
        Ok(Self { path: decoded(path), query: query.collect(), head, last })
    }
}

/// `%41` and `+` as what they stand for; what does not decode stays as it is.
fn decoded(text: &str) -> String {
    let mut out = Vec::with_capacity(text.len());
    let mut bytes = text.as_bytes();
    while let Some((&first, rest)) = bytes.split_first() {
        let hex = rest.get(..2).and_then(|two| std::str::from_utf8(two).ok());
        let byte = hex.filter(|_| first == b'%').and_then(|two| u8::from_str_radix(two, 16).ok());
        bytes = if byte.is_some() { &rest[2..] } else { rest };
        out.push(byte.unwrap_or(if first == b'+' { b' ' } else { first }));
    }
    String::from_utf8_lossy(&out).into_owned()
}

/// What a request is answered with.
pub(super) struct HttpReply {
    status: u16,
    kind: &'static str,
    body: String,
}

impl HttpReply {
    pub(super) fn text(status: u16, words: &str) -> Self {
        Self { status, kind: "text/plain; charset=utf-8", body: words.to_owned() }
    }

    pub(super) fn html(page: &str) -> Self {
        Self { status: 200, kind: "text/html; charset=utf-8", body: page.to_owned() }
    }

    /// JSON, or a call of a function with it, for pages that load it as a script.
    pub(super) fn json(status: u16, json: String, callback: Option<&str>) -> Self {
        let named =
            |name: &&str| !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || "_.$".contains(c));
        match callback.filter(named) {
            None => Self { status, kind: "application/json", body: json },
            Some(name) => Self { status, kind: "application/javascript", body: format!("{name}({json})") },
        }
    }

    fn bytes(&self, head: bool, last: bool) -> Vec<u8> {
        let reason = match self.status {
            200 => "OK",
            400 => "Bad Request",
            404 => "Not Found",
            405 => "Method Not Allowed",
            431 => "Request Header Fields Too Large",
            503 => "Service Unavailable",
            505 => "HTTP Version Not Supported",
            _ => "Error",
        };
        let date = words::date(SystemTime::now());
        let mut out = format!("HTTP/1.1 {} {reason}\r\nContent-Type: {}\r\n", self.status, self.kind);
        if self.kind == "application/json" {
            out.push_str("Access-Control-Allow-Origin: *\r\n");
        }
        if self.status == 405 {
            out.push_str("Allow: GET, HEAD\r\n");
        }
        // Writing to a string does not fail.
        let _ = write!(out, "Date: {date}\r\nContent-Length: {}\r\n", self.body.len());
        out.push_str(if last { "Connection: close\r\n\r\n" } else { "\r\n" });
        if !head {
            out.push_str(&self.body);
        }
        out.into_bytes()
    }
}

/// Answers the requests of one connection, one after another.
pub(super) async fn serve_connection(mut socket: TcpStream, answer: impl Fn(&HttpRequest) -> HttpReply) {
    let mut unread = Vec::new();
    for n in 1..=MAX_REQUESTS {
        let request = match timeout(PATIENCE, head(&mut socket, &mut unread)).await {
            Ok(Ok(Some(head))) => HttpRequest::read(&head),
            Ok(Ok(None)) => Err(431),
            // Gone, or silent for too long.
            Ok(Err(_)) | Err(_) => return,
        };
        let (bytes, last) = match &request {
            Ok(request) => {
                let last = request.last || n == MAX_REQUESTS;
                (answer(request).bytes(request.head, last), last)
            }
            Err(status) => {
                let words = "this server answers GET and HEAD of HTTP/1.1 for its monitoring pages\n";
                (HttpReply::text(*status, words).bytes(false, true), true)
            }
        };
        let written = timeout(WRITE_PATIENCE, socket.write_all(&bytes)).await;
        if last || !matches!(written, Ok(Ok(()))) {
            break;
        }
    }
    // What is left unread would turn the close into a reset, which takes the answer back.
    let _ = socket.shutdown().await;
    let mut rest = [0; 1024];
    let _ =
        timeout(Duration::from_millis(200), async { while socket.read(&mut rest).await.is_ok_and(|n| n > 0) {} }).await;
}

/// The next head; `None` when it is too long.
async fn head(socket: &mut TcpStream, unread: &mut Vec<u8>) -> io::Result<Option<Vec<u8>>> {
    loop {
        let end = |mark: &[u8]| memchr::memmem::find(unread, mark).map(|at| at + mark.len());
        if let Some(end) = [end(b"\r\n\r\n"), end(b"\n\n")].into_iter().flatten().min() {
            let rest = unread.split_off(end);
            return Ok(Some(std::mem::replace(unread, rest)));
        }
        if unread.len() >= MAX_HEAD {
            return Ok(None);
        }
        let room = (MAX_HEAD - unread.len()) as u64;
        if (&mut *socket).take(room).read_buf(unread).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_read() {
        let request = HttpRequest::read(b"GET /connz?subs=1&sort=by%20x&subs=2&a HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
        assert_eq!(request.path, "/connz");
        assert_eq!((request.option("subs"), request.option("sort")), (Some("1"), Some("by x")));
        assert_eq!((request.option("a"), request.option("b")), (Some(""), None));
        assert!(!request.head && !request.last);
        assert!(HttpRequest::read(b"HEAD / HTTP/1.0\n\n").unwrap().last);
        assert!(HttpRequest::read(b"GET / HTTP/1.1\r\nconnection: Close\r\n\r\n").unwrap().last);
        assert!(HttpRequest::read(b"GET / HTTP/1.1\r\nContent-Length: 3\r\n\r\n").unwrap().last);
        for (bad, status) in [
            (&b"POST / HTTP/1.1\r\n\r\n"[..], 405),
            (b"GET x HTTP/1.1\r\n\r\n", 400),
            (b"GET / HTTP/2\r\n\r\n", 505),
            (b"\x16\x03\x01\xff\n\n", 400),
            (b"\r\n\r\n", 400),
        ] {
            assert_eq!(HttpRequest::read(bad), Err(status), "{}", String::from_utf8_lossy(bad));
        }
        assert_eq!(decoded("%41+%zz%"), "A %zz%");
    }
}
