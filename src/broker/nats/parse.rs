//! The NATS client protocol, read in place.
//!
//! [`next`] looks at the bytes received so far and yields one operation that borrows from them, or
//! says how many bytes it needs. It keeps no state: a stream split anywhere parses the same,
//! because a split frame is simply looked at again. The rules and the error texts are those of
//! nats-server 2.10 and later, observed on the wire.
//!
//! Invariant: the parser never asks for more than one control line plus one payload of
//! `max_payload`, and it refuses what is too long as soon as the declared size or the line length
//! shows it, before the rest has arrived.

/// The limits a frame is held to.
#[derive(Debug, Clone, Copy)]
pub struct FrameLimits {
    /// Largest argument of a control line, in bytes.
    pub max_control_line: usize,
    /// Largest payload (headers included), in bytes.
    pub max_payload: usize,
    /// Whether this connection may send HPUB.
    pub headers: bool,
}

/// Why a stream cannot be read on. Every one of them ends the connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProtocolViolation {
    /// The verb, or the end of a payload, is not what the protocol says.
    UnknownOperation,
    /// The declared payload is larger than `max_payload`.
    MaxPayload,
    /// The control line is longer than `max_control_line`.
    ControlLine,
    /// The arguments do not parse; the real server closes without a word.
    Arguments,
}

impl ProtocolViolation {
    /// The text of the `-ERR` the real server sends, if it sends one.
    pub fn text(self) -> Option<&'static str> {
        match self {
            Self::UnknownOperation => Some("Unknown Protocol Operation"),
            Self::MaxPayload => Some("Maximum Payload Violation"),
            Self::ControlLine => Some("maximum control line exceeded"),
            Self::Arguments => None,
        }
    }
}

/// A PUB or HPUB with its payload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Publish<'a> {
    /// The subject, as sent.
    pub subject: &'a [u8],
    /// The reply subject; empty when there is none.
    pub reply: &'a [u8],
    /// The digits of the header length, as sent; empty for PUB.
    pub header_text: &'a [u8],
    /// The digits of the total length, as sent.
    pub total_text: &'a [u8],
    /// How many bytes of `payload` are headers.
    pub header_len: usize,
    /// Headers and body, without the closing CRLF.
    pub payload: &'a [u8],
    /// `<sizes>\r\n<payload>\r\n` as one run of bytes, when the sender wrote it in the canonical
    /// form: what a MSG or HMSG ends with, ready to be copied once.
    pub tail: Option<&'a [u8]>,
}

/// One operation of a client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Op<'a> {
    /// PUB or HPUB.
    Publish(Publish<'a>),
    /// SUB.
    Subscribe {
        /// The subject, possibly with wildcards.
        subject: &'a [u8],
        /// The queue group, if any.
        queue: Option<&'a [u8]>,
        /// The client's name for the subscription.
        sid: &'a [u8],
    },
    /// UNSUB.
    Unsubscribe {
        /// The client's name for the subscription.
        sid: &'a [u8],
        /// After how many deliveries; `None` is at once.
        max: Option<u64>,
    },
    /// CONNECT with its JSON.
    Connect(&'a [u8]),
    Ping,
    Pong,
    /// INFO from a client: read and ignored.
    Info(&'a [u8]),
    /// +OK from a client: ignored.
    Ok,
    /// -ERR from a client: it ends the connection.
    Err(&'a [u8]),
}

/// What [`next`] found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ParseStep<'a> {
    /// A whole operation and how many bytes it took.
    Done(Op<'a>, usize),
    /// The frame is not complete: at least this many bytes are needed, counted from its first byte.
    Need(usize),
}

#[derive(Clone, Copy)]
enum Verb {
    Pub,
    Hpub,
    Sub,
    Unsub,
    Connect,
    Ping,
    Pong,
    Info,
    Ok,
    Err,
}

/// Recognises `PUB <subject> <size>\r\n<payload>\r\n` for a subject known beforehand: what a stream
/// of messages mostly consists of. Returns the tail (see [`Publish::tail`]), how many bytes of it
/// are payload, and how many bytes the frame took. Whatever is not exactly that, or not yet
/// complete, is `None` and left to [`next`].
#[inline]
pub fn again<'a>(buf: &'a [u8], subject: &[u8], limits: &FrameLimits) -> Option<(&'a [u8], usize, usize)> {
    let rest = buf.strip_prefix(b"PUB ")?.strip_prefix(subject)?.strip_prefix(b" ")?;
    let mut size = 0;
    let mut digits = 0;
    loop {
        let digit = rest.get(digits)?.wrapping_sub(b'0');
        if digit > 9 {
            break;
        }
        size = size * 10 + usize::from(digit);
        digits += 1;
        if digits > 9 {
            return None;
        }
    }
    let end = digits + size + 4;
    let tail = rest.get(..end)?;
    let framed = digits > 0 && tail[digits..].starts_with(b"\r\n") && tail.ends_with(b"\r\n");
    let line = subject.len() + 1 + digits;
    (framed && size <= limits.max_payload && line <= limits.max_control_line)
        .then(|| (tail, size, buf.len() - rest.len() + end))
}

/// The bytes of payload in a tail without headers (see [`Publish::tail`]).
pub fn payload_of(tail: &[u8]) -> usize {
    let digits = tail.iter().take_while(|b| b.is_ascii_digit()).count();
    tail.len().saturating_sub(digits + 4)
}

/// Reads the next operation from the front of `buf`.
///
/// # Errors
/// A [`ProtocolViolation`] when the bytes cannot be the beginning of any acceptable frame.
#[inline]
pub fn next<'a>(buf: &'a [u8], limits: &FrameLimits) -> Result<ParseStep<'a>, ProtocolViolation> {
    // The common case first: everything else costs a few branches more.
    if buf.starts_with(b"PUB ") {
        return publish(buf, 4, false, limits);
    }
    let Some(&first) = buf.first() else { return Ok(ParseStep::Need(1)) };
    let (name, verb): (&[u8], Verb) = match first.to_ascii_uppercase() {
        b'H' => (b"HPUB", Verb::Hpub),
        b'S' => (b"SUB", Verb::Sub),
        b'U' => (b"UNSUB", Verb::Unsub),
        b'C' => (b"CONNECT", Verb::Connect),
        b'I' => (b"INFO", Verb::Info),
        b'+' => (b"+OK", Verb::Ok),
        b'-' => (b"-ERR", Verb::Err),
        b'P' => match buf.get(1).map(u8::to_ascii_uppercase) {
            None => return Ok(ParseStep::Need(2)),
            Some(b'U') => (b"PUB", Verb::Pub),
            Some(b'I') => (b"PING", Verb::Ping),
            Some(b'O') => (b"PONG", Verb::Pong),
            Some(_) => return Err(ProtocolViolation::UnknownOperation),
        },
        _ => return Err(ProtocolViolation::UnknownOperation),
    };
    let seen = buf.len().min(name.len());
    if !buf[..seen].eq_ignore_ascii_case(&name[..seen]) {
        return Err(ProtocolViolation::UnknownOperation);
    }
    if seen < name.len() {
        return Ok(ParseStep::Need(seen + 1));
    }
    let at = name.len();
    // These verbs must be followed by white space; for the others the rest of the line is the
    // argument or is ignored.
    if matches!(verb, Verb::Pub | Verb::Hpub | Verb::Sub | Verb::Unsub | Verb::Info | Verb::Err) {
        match buf.get(at) {
            None => return Ok(ParseStep::Need(at + 1)),
            Some(b' ' | b'\t') => {}
            Some(_) => return Err(ProtocolViolation::UnknownOperation),
        }
    }
    match verb {
        Verb::Pub => return publish(buf, at + 1, false, limits),
        Verb::Hpub if !limits.headers => return Err(ProtocolViolation::Arguments),
        Verb::Hpub => return publish(buf, at + 1, true, limits),
        _ => {}
    }
    let Some((arg, used)) = line(buf, at, limits)? else { return Ok(ParseStep::Need(buf.len() + 1)) };
    let op = match verb {
        Verb::Sub => match fields(arg) {
            ([subject, sid, ..], 2) => Op::Subscribe { subject, queue: None, sid },
            ([subject, queue, sid, _], 3) => Op::Subscribe { subject, queue: Some(queue), sid },
            _ => return Err(ProtocolViolation::Arguments),
        },
        Verb::Unsub => match fields(arg) {
            ([sid, ..], 1) => Op::Unsubscribe { sid, max: None },
            ([sid, max, ..], 2) => Op::Unsubscribe { sid, max: size(max).map(|n| n as u64) },
            _ => return Err(ProtocolViolation::Arguments),
        },
        Verb::Connect => Op::Connect(arg),
        Verb::Ping => Op::Ping,
        Verb::Pong => Op::Pong,
        Verb::Info => Op::Info(arg),
        Verb::Ok => Op::Ok,
        Verb::Err => Op::Err(arg),
        Verb::Pub | Verb::Hpub => return Err(ProtocolViolation::UnknownOperation),
    };
    Ok(ParseStep::Done(op, used))
}

/// The rest of the control line from `at`, without its line end and leading white space, and where
/// the next frame starts.
fn line<'a>(buf: &'a [u8], at: usize, limits: &FrameLimits) -> Result<Option<(&'a [u8], usize)>, ProtocolViolation> {
    let window = buf.len().min(at + limits.max_control_line + 2);
    let Some(end) = memchr::memchr(b'\n', &buf[at..window]) else {
        return if buf.len() >= at + limits.max_control_line + 2 {
            Err(ProtocolViolation::ControlLine)
        } else {
            Ok(None)
        };
    };
    let arg = &buf[at..at + end];
    let arg = arg.strip_suffix(b"\r").unwrap_or(arg).trim_ascii_start();
    if arg.len() > limits.max_control_line {
        return Err(ProtocolViolation::ControlLine);
    }
    Ok(Some((arg, at + end + 1)))
}

/// Up to four fields of a control line and how many there are in all.
fn fields(arg: &[u8]) -> ([&[u8]; 4], usize) {
    let mut found: [&[u8]; 4] = [b""; 4];
    let mut count = 0;
    for field in arg.split(|b| matches!(b, b' ' | b'\t' | b'\r')).filter(|f| !f.is_empty()) {
        if let Some(slot) = found.get_mut(count) {
            *slot = field;
        }
        count += 1;
    }
    (found, count)
}

/// A size as the real server reads it: one to nine decimal digits.
#[inline]
fn size(text: &[u8]) -> Option<usize> {
    if text.is_empty() || text.len() > 9 {
        return None;
    }
    let mut value = 0usize;
    for &b in text {
        let digit = b.wrapping_sub(b'0');
        if digit > 9 {
            return None;
        }
        value = value * 10 + usize::from(digit);
    }
    Some(value)
}

#[inline]
fn publish<'a>(
    buf: &'a [u8],
    at: usize,
    headers: bool,
    limits: &FrameLimits,
) -> Result<ParseStep<'a>, ProtocolViolation> {
    // One pass over the line finds its end and the bounds of its fields.
    let mut bounds = [(0usize, 0usize); 4];
    let mut count = 0;
    let mut start = usize::MAX;
    let mut i = at;
    let last = at + limits.max_control_line + 2;
    loop {
        let Some(&b) = buf.get(i) else {
            return if i >= last { Err(ProtocolViolation::ControlLine) } else { Ok(ParseStep::Need(i + 1)) };
        };
        if b > b' ' {
            if start == usize::MAX {
                start = i;
            }
        } else if matches!(b, b' ' | b'\t' | b'\r' | b'\n') {
            if start != usize::MAX {
                // Too many fields are an error, but only once the line has shown not to be too
                // long.
                if let Some(slot) = bounds.get_mut(count) {
                    *slot = (start, i);
                }
                count += 1;
                start = usize::MAX;
            }
            if b == b'\n' {
                break;
            }
        } else if start == usize::MAX {
            start = i;
        }
        i += 1;
        if i > last {
            return Err(ProtocolViolation::ControlLine);
        }
    }
    let arg_end = if buf[i - 1] == b'\r' { i - 1 } else { i };
    if arg_end - at > limits.max_control_line {
        return Err(ProtocolViolation::ControlLine);
    }
    let sizes = if headers { 2 } else { 1 };
    if count != 1 + sizes && count != 2 + sizes {
        return Err(ProtocolViolation::Arguments);
    }
    let text = |n: usize| &buf[bounds[n].0..bounds[n].1];
    let total_text = text(count - 1);
    let total = size(total_text).ok_or(ProtocolViolation::Arguments)?;
    let (header_text, header_len): (&[u8], usize) = if headers {
        let text = text(count - 2);
        let len = size(text).ok_or(ProtocolViolation::Arguments)?;
        if len > total {
            return Err(ProtocolViolation::Arguments);
        }
        // Without headers the message is delivered as a plain MSG.
        if len == 0 { (b"", 0) } else { (text, len) }
    } else {
        (b"", 0)
    };
    if total > limits.max_payload {
        return Err(ProtocolViolation::MaxPayload);
    }
    let body = i + 1;
    let end = body + total + 2;
    if buf.len() < end {
        // A wrong end of the payload is reported as soon as it can be seen.
        if buf.len() == end - 1 && buf[end - 2] != b'\r' {
            return Err(ProtocolViolation::UnknownOperation);
        }
        return Ok(ParseStep::Need(end));
    }
    if buf[end - 2] != b'\r' || buf[end - 1] != b'\n' {
        return Err(ProtocolViolation::UnknownOperation);
    }
    let first_size = if header_len > 0 { bounds[count - 2] } else { bounds[count - 1] };
    let last_size = bounds[count - 1];
    let tidy = last_size.1 + 1 == i && buf[last_size.1] == b'\r';
    let single = header_len == 0 || (first_size.1 + 1 == last_size.0 && buf[first_size.1] == b' ');
    let publish = Publish {
        subject: text(0),
        reply: if count == 2 + sizes { text(1) } else { b"" },
        header_text,
        total_text,
        header_len,
        payload: &buf[body..body + total],
        tail: (tidy && single).then(|| &buf[first_size.0..end]),
    };
    Ok(ParseStep::Done(Op::Publish(publish), end))
}

#[cfg(test)]
#[path = "parse_tests.rs"]
mod tests;
