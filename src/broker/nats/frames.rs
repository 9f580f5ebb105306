//! Walking over frames the broker has written itself: needed only to drop whole messages out of a
//! full buffer.

use super::traffic::TrafficVolume;

/// How many bytes of the server's own answers may wait above the limit after dropping.
pub(super) const LARGEST_ANSWERS: usize = 64 * 1024;

/// The length of the frame at the front of `bytes`, and the size of its payload if it is a MSG or
/// HMSG. The frame may be cut short at the end.
fn frame(bytes: &[u8]) -> (usize, Option<usize>) {
    let line = memchr::memchr(b'\n', bytes).map_or(bytes.len(), |at| at + 1);
    let message = bytes.starts_with(b"MSG ") || bytes.starts_with(b"HMSG ");
    if !message {
        return (line, None);
    }
    let total = bytes[..line]
        .trim_ascii_end()
        .rsplit(|b| *b == b' ')
        .next()
        .and_then(|digits| std::str::from_utf8(digits).ok())
        .and_then(|digits| digits.parse::<usize>().ok())
        .unwrap_or(0);
    ((line + total + 2).min(bytes.len()), Some(total))
}

/// Drops whole messages that would make `buf` longer than `limit`, looking from the frame that
/// starts at `boundary`. A frame begun before `begun` (it may be half written) and the server's own
/// frames stay. Returns what went.
pub(super) fn keep(buf: &mut Vec<u8>, boundary: usize, begun: usize, limit: usize) -> TrafficVolume {
    let (mut read, mut write, mut dropped) = (boundary, boundary, TrafficVolume::default());
    while read < buf.len() {
        let (len, message) = frame(&buf[read..]);
        if let Some(payload) = message.filter(|_| read >= begun && write + len > limit) {
            dropped += TrafficVolume { messages: 1, payload: payload as u64 };
        } else {
            buf.copy_within(read..read + len, write);
            write += len;
        }
        read += len;
    }
    buf.truncate(write);
    dropped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_messages_go_and_answers_stay() {
        let mut buf = b"MSG a 1 2\r\nhi\r\nPONG\r\nMSG a 1 3\r\nxyz\r\n+OK\r\nHMSG a 1 r 2 4\r\nabcd\r\n".to_vec();
        let dropped = keep(&mut buf, 0, 0, 20);
        assert_eq!(dropped, TrafficVolume { messages: 2, payload: 7 });
        assert_eq!(buf, b"MSG a 1 2\r\nhi\r\nPONG\r\n+OK\r\n");
    }

    #[test]
    fn a_frame_half_written_is_kept_whole() {
        let mut buf = b"MSG a 1 2\r\nhi\r\nMSG a 1 2\r\nho\r\nMSG a 1 2\r\nha\r\n".to_vec();
        let dropped = keep(&mut buf, 0, 20, 20);
        assert_eq!(dropped, TrafficVolume { messages: 1, payload: 2 });
        assert_eq!(buf, b"MSG a 1 2\r\nhi\r\nMSG a 1 2\r\nho\r\n");
    }

    #[test]
    fn nothing_is_dropped_when_there_is_room() {
        let whole = b"MSG a 1 2\r\n\r\n\r\nMSG b 1 0\r\n\r\n".to_vec();
        let mut buf = whole.clone();
        assert_eq!(keep(&mut buf, 0, 0, 1000), TrafficVolume::default());
        assert_eq!(buf, whole);
    }
}
