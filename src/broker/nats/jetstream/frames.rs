//! The messages that the router hands over, in the form that clients get them.

use memchr::memchr;

/// A message for one subscription.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct RoutedMessage<'a> {
    pub subject: &'a [u8],
    /// The subscription's name.
    pub sid: &'a [u8],
    /// Empty when there is none.
    pub reply: &'a [u8],
    pub header_len: usize,
    /// Headers and body.
    pub content: &'a [u8],
}

/// The frame at the front of `bytes`, and its length; no message where the frame is another one.
/// `None` where no whole frame is there.
pub(super) fn next(bytes: &[u8]) -> Option<(Option<RoutedMessage<'_>>, usize)> {
    let line = memchr(b'\n', bytes)?;
    let mut words = bytes[..line].trim_ascii_end().split(|b| *b == b' ');
    let with_headers = match words.next()? {
        b"MSG" => false,
        b"HMSG" => true,
        _ => return Some((None, line + 1)),
    };
    let words: Vec<&[u8]> = words.collect();
    let sizes = if with_headers { 2 } else { 1 };
    let number = |word: &[u8]| std::str::from_utf8(word).ok()?.parse::<usize>().ok();
    let total = number(words.last()?)?;
    let header_len = if with_headers { number(words.get(words.len().checked_sub(2)?)?)? } else { 0 };
    let content = bytes.get(line + 1..line + 1 + total)?;
    let end = line + 1 + total + 2;
    if end > bytes.len() || header_len > total {
        return None;
    }
    let (subject, sid) = (*words.first()?, *words.get(1)?);
    let reply = if words.len() == 3 + sizes { words[2] } else { b"" };
    Some((Some(RoutedMessage { subject, sid, reply, header_len, content }), end))
}

/// The value of a header, of a block as it is sent.
pub(super) fn header<'a>(block: &'a [u8], name: &str) -> Option<&'a [u8]> {
    let mut lines = block.split(|b| *b == b'\n').skip(1);
    lines.find_map(|line| {
        let (key, value) = line.split_at(memchr(b':', line)?);
        key.eq_ignore_ascii_case(name.as_bytes()).then(|| value[1..].trim_ascii())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_told_apart() {
        let bytes = b"MSG a.b S 5\r\nhello\r\nPING\r\nHMSG a S r 12 14\r\nNATS/1.0\r\n\r\nhi\r\n";
        let (first, n) = next(bytes).unwrap();
        let first = first.unwrap();
        assert_eq!(
            (first.subject, first.sid, first.reply, first.content),
            (&b"a.b"[..], &b"S"[..], &b""[..], &b"hello"[..])
        );
        let (second, m) = next(&bytes[n..]).unwrap();
        assert_eq!((second, m), (None, 6));
        let (third, l) = next(&bytes[n + m..]).unwrap();
        let third = third.unwrap();
        assert_eq!((third.reply, third.header_len, &third.content[12..]), (&b"r"[..], 12, &b"hi"[..]));
        assert_eq!(n + m + l, bytes.len());
        assert_eq!(next(&bytes[..n - 1]), None);
    }

    #[test]
    fn a_header_is_found_by_its_name() {
        let block = b"NATS/1.0\r\nOther: x\r\nNats-Msg-Id:  7 \r\n\r\n";
        assert_eq!(header(block, "nats-msg-id"), Some(&b"7"[..]));
        assert_eq!(header(block, "Nats"), None);
    }
}
