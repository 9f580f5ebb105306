//! Answers of the server (RESP2), found where they stand in the input: nothing is copied for a
//! message.

use std::ops::Range;

/// Longest line of an answer, in bytes: sizes, numbers and errors.
const LINE_BOUND: usize = 64 * 1024;
/// Largest value that a server sends, in bytes: its `proto-max-bulk-len`.
const VALUE_BOUND: i64 = 512 * 1024 * 1024;

/// One element of an answer. Text is a place in the input.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum ReplyToken {
    Text(Range<usize>),
    /// The server's words for what it did not do.
    Error(Range<usize>),
    Int(i64),
    Null,
    /// So many elements follow.
    Array(usize),
}

/// What the server wrote is no answer of Redis.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct MalformedReply(pub String);

fn malformed(line: &[u8]) -> MalformedReply {
    let start = String::from_utf8_lossy(&line[..line.len().min(60)]).into_owned();
    MalformedReply(format!("the server wrote {start:?}, which is no answer of Redis"))
}

/// The element that begins `at`, and where the next one begins; `None` while it is not whole.
///
/// # Errors
/// When no element can begin like this.
#[inline]
pub(super) fn token(input: &[u8], at: usize) -> Result<Option<(ReplyToken, usize)>, MalformedReply> {
    let rest = input.get(at..).unwrap_or_default();
    let Some(end) = memchr::memchr(b'\n', &rest[..rest.len().min(LINE_BOUND)]) else {
        return if rest.len() < LINE_BOUND { Ok(None) } else { Err(malformed(rest)) };
    };
    let [kind, text @ .., b'\r'] = &rest[..end] else { return Err(malformed(&rest[..end])) };
    let number = || std::str::from_utf8(text).ok().and_then(|t| t.parse::<i64>().ok());
    let (place, after) = (at + 1..at + end - 1, at + end + 1);
    let token = match (kind, number()) {
        (b'+', _) => ReplyToken::Text(place),
        (b'-', _) => ReplyToken::Error(place),
        (b':', Some(n)) => ReplyToken::Int(n),
        (b'$' | b'*', Some(-1)) => ReplyToken::Null,
        (b'*', Some(n @ 0..=VALUE_BOUND)) => ReplyToken::Array(n as usize),
        (b'$', Some(n @ 0..=VALUE_BOUND)) => {
            let to = after + n as usize;
            return match input.get(to..to + 2) {
                None => Ok(None),
                Some(b"\r\n") => Ok(Some((ReplyToken::Text(after..to), to + 2))),
                Some(_) => Err(malformed(&rest[..end])),
            };
        }
        _ => return Err(malformed(&rest[..end])),
    };
    Ok(Some((token, after)))
}

/// How far the answer that begins the input has been looked through: a long one comes in several
/// reads, and is not looked through again from its start.
#[derive(Debug, Default)]
pub(super) struct ReplyScan {
    next: usize,
    /// Elements that are still to come.
    open: usize,
}

impl ReplyScan {
    /// Where the answer ends, when all of it is here.
    ///
    /// # Errors
    /// When it is no answer.
    pub(super) fn end(&mut self, input: &[u8]) -> Result<Option<usize>, MalformedReply> {
        if self.next == 0 {
            self.open = 1;
        }
        while self.open > 0 {
            let Some((token, next)) = token(input, self.next)? else { return Ok(None) };
            self.next = next;
            self.open -= 1;
            if let ReplyToken::Array(n) = token {
                self.open += n;
            }
        }
        Ok(Some(self.next))
    }
}

/// Walks through an answer that is whole. `None` is another shape than was expected.
#[derive(Debug)]
pub(super) struct ReplyWalk<'a> {
    pub(super) input: &'a [u8],
    pub(super) at: usize,
}

impl ReplyWalk<'_> {
    pub(super) fn next(&mut self) -> Option<ReplyToken> {
        let (token, next) = token(self.input, self.at).ok()??;
        self.at = next;
        Some(token)
    }

    /// The number of elements that follow; none where the server has nothing to tell.
    pub(super) fn array(&mut self) -> Option<usize> {
        match self.next()? {
            ReplyToken::Array(n) => Some(n),
            ReplyToken::Null => Some(0),
            _ => None,
        }
    }

    pub(super) fn text(&mut self) -> Option<Range<usize>> {
        match self.next()? {
            ReplyToken::Text(place) => Some(place),
            _ => None,
        }
    }

    pub(super) fn int(&mut self) -> Option<i64> {
        match self.next()? {
            ReplyToken::Int(n) => Some(n),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use redis::Value;

    /// As the server writes it.
    fn write(value: &Value, out: &mut Vec<u8>) {
        match value {
            Value::Nil => out.extend(b"$-1\r\n"),
            Value::Int(n) => out.extend(format!(":{n}\r\n").bytes()),
            Value::SimpleString(text) => out.extend(format!("+{text}\r\n").bytes()),
            Value::BulkString(bytes) => {
                out.extend(format!("${}\r\n", bytes.len()).bytes());
                out.extend(bytes);
                out.extend(b"\r\n");
            }
            Value::Array(all) => {
                out.extend(format!("*{}\r\n", all.len()).bytes());
                all.iter().for_each(|value| write(value, out));
            }
            _ => unreachable!("not made here"),
        }
    }

    /// As it is read here.
    fn read(walk: &mut ReplyWalk<'_>) -> Value {
        match walk.next().unwrap() {
            ReplyToken::Null => Value::Nil,
            ReplyToken::Int(n) => Value::Int(n),
            ReplyToken::Text(place) => Value::BulkString(walk.input[place].to_vec()),
            ReplyToken::Array(n) => Value::Array((0..n).map(|_| read(walk)).collect()),
            ReplyToken::Error(_) => unreachable!("not made here"),
        }
    }

    fn values() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Nil),
            any::<i64>().prop_map(Value::Int),
            proptest::collection::vec(any::<u8>(), 0..40).prop_map(Value::BulkString),
        ];
        leaf.prop_recursive(4, 40, 6, |inner| proptest::collection::vec(inner, 0..6).prop_map(Value::Array))
    }

    proptest! {
        /// Wherever the reads cut it, an answer ends where it ends, and says what the client
        /// library reads in it.
        #[test]
        fn an_answer_is_read_as_the_library_reads_it(value in values(), cuts in proptest::collection::vec(0usize..400, 0..5)) {
            let mut bytes = Vec::new();
            write(&value, &mut bytes);
            let whole = bytes.len();
            bytes.extend(b":7\r\n");
            let mut scan = ReplyScan::default();
            let mut cuts = cuts;
            cuts.sort_unstable();
            for cut in cuts {
                let end = scan.end(&bytes[..cut.min(bytes.len())]).unwrap();
                prop_assert_eq!(end, (cut >= whole).then_some(whole));
            }
            prop_assert_eq!(scan.end(&bytes).unwrap(), Some(whole));
            let mut walk = ReplyWalk { input: &bytes, at: 0 };
            prop_assert_eq!(&read(&mut walk), &value);
            prop_assert_eq!(walk.at, whole);
            prop_assert_eq!(redis::parse_redis_value(&bytes[..whole]).unwrap(), value);
        }

        /// No input makes it panic.
        #[test]
        fn no_input_panics(bytes: Vec<u8>, begin in "[-+:$*][-0-9]{0,20}\r\n") {
            let _ = ReplyScan::default().end(&bytes);
            let _ = ReplyScan::default().end(&[begin.as_bytes(), &bytes[..]].concat());
        }
    }

    #[test]
    fn what_is_no_answer_is_said_and_not_waited_for() {
        for bad in [&b"HTTP/1.1 400\r\n"[..], b":x\r\n", b"$-2\r\n", b"$3\r\nabcd\r\n", b"+OK\n", &[b'+'; LINE_BOUND]] {
            assert!(ReplyScan::default().end(bad).is_err(), "{}", String::from_utf8_lossy(bad));
        }
    }
}
