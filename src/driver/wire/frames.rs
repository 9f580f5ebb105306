//! The messages of a producer as they go out, one behind the other: kept once, stamped in place,
//! written from where they stand.
//!
//! # Background
//! A message that is copied into a buffer for writing costs the reading of its body beside what the
//! kernel does. Bodies are sent in turn and do not change; only the stamps do.
//! # Invariant
//! A frame is not touched between its [`FrameRing::take`] and the end of the writing of its bytes:
//! when the ring comes to its end, everything is written before it begins again.

/// What is gathered is written at this size.
pub(super) const FULL: usize = 64 * 1024;

/// The same for frames that have no schedule to keep: fewer wake-ups of the server for each
/// message. With a schedule the first message of what is due would wait for the last.
const UNTHROTTLED: usize = 512 * 1024;

/// The rings of all producers of a workload take about so many bytes, unless twice the messages
/// themselves take more.
pub(super) const ALL: usize = 16 << 20;

#[derive(Debug, Default)]
pub(super) struct FrameRing {
    bytes: Vec<u8>,
    /// From and to of the payload of each frame.
    payloads: Vec<(usize, usize)>,
    /// So many bytes are written at a time.
    full: usize,
    /// The frame that is next.
    next: usize,
    /// So many of `bytes` are written, and so many were taken.
    written: usize,
    filled: usize,
}

impl FrameRing {
    /// Frames for these messages in turn, which go to channels in turn; none where the turns of
    /// both together take more than `room` and twice the messages.
    pub(super) fn of(heads: &[Vec<u8>], messages: &[&[u8]], room: usize, unthrottled: bool) -> Option<Self> {
        let frame = |n: usize| (&heads[n % heads.len()], messages[n % messages.len()]);
        let turn = messages.len().checked_mul(heads.len() / greatest_divisor(messages.len(), heads.len()))?;
        // `\r\n` twice and the digits of the size.
        let of = |n: usize| frame(n).0.len() + frame(n).1.len() + 5 + frame(n).1.len().max(1).ilog10() as usize;
        let once: usize = messages.iter().map(|m| m.len()).sum();
        let largest = room.max(2 * once);
        let mut size = 0;
        for n in 0..turn {
            size += of(n);
            if size > largest && n >= messages.len() {
                return None;
            }
        }
        // A short ring would be written in pieces that are short.
        let full = if unthrottled { UNTHROTTLED.min(room).max(FULL) } else { FULL };
        let turns = full.div_ceil(size.max(1));
        let mut ring = Self { bytes: Vec::with_capacity(size * turns), full, ..Self::default() };
        for n in 0..turn * turns {
            let (head, message) = frame(n);
            ring.bytes.extend_from_slice(head);
            append(&mut ring.bytes, message);
            let to = ring.bytes.len() - 2;
            ring.payloads.push((to - message.len(), to));
        }
        Some(ring)
    }

    /// The payload of the next frame, to be stamped.
    #[inline]
    pub(super) fn payload(&mut self) -> &mut [u8] {
        let (from, to) = self.payloads[self.next];
        &mut self.bytes[from..to]
    }

    /// Takes the next frame to what is to be written; true when that is enough for a write, or the
    /// ring is at its end.
    #[inline]
    pub(super) fn take(&mut self) -> bool {
        if self.next == 0 {
            // Everything is written: the ring begins again.
            self.written = 0;
        }
        self.filled = self.payloads[self.next].1 + 2;
        self.next += 1;
        if self.next == self.payloads.len() {
            self.next = 0;
            return true;
        }
        self.filled - self.written >= self.full
    }

    /// What was taken since the ring began, and how much of it is written.
    pub(super) fn pending(&mut self) -> (&[u8], &mut usize) {
        (&self.bytes[..self.filled], &mut self.written)
    }

    /// Whether anything that was taken is not written.
    pub(super) fn is_empty(&self) -> bool {
        self.written == self.filled
    }
}

fn greatest_divisor(a: usize, b: usize) -> usize {
    if b == 0 { a } else { greatest_divisor(b, a % b) }
}

/// Appends `<size>\r\n<payload>\r\n`.
#[inline]
pub(super) fn append(out: &mut Vec<u8>, payload: &[u8]) {
    let mut digits = [0; 20];
    let mut at = digits.len();
    let mut n = payload.len();
    loop {
        at -= 1;
        digits[at] = b'0' + (n % 10) as u8;
        n /= 10;
        if n == 0 {
            break;
        }
    }
    out.extend_from_slice(&digits[at..]);
    out.extend_from_slice(b"\r\n");
    out.extend_from_slice(payload);
    out.extend_from_slice(b"\r\n");
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// What a socket does that takes so much at most.
    fn write(ring: &mut FrameRing, out: &mut Vec<u8>, most: usize) {
        let (taken, written) = ring.pending();
        let piece = (taken.len() - *written).min(most);
        out.extend_from_slice(&taken[*written..*written + piece]);
        *written += piece;
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        /// Whatever is taken before a write, and however much of it the socket takes: the server
        /// reads each message once, in order, as it was stamped.
        #[test]
        fn what_is_written_is_each_message_in_turn(
            sizes in prop::collection::vec(8usize..3000, 1..40), channels in 1usize..7,
            steps in prop::collection::vec((1usize..60, 1usize..100_000), 1..60), unthrottled in any::<bool>(),
        ) {
            let messages: Vec<Vec<u8>> = sizes.iter().enumerate().map(|(n, size)| vec![n as u8; *size]).collect();
            let heads: Vec<Vec<u8>> = (0..channels).map(|c| format!("PUB a.{} ", "b".repeat(c)).into_bytes()).collect();
            let all: Vec<&[u8]> = messages.iter().map(Vec::as_slice).collect();
            let mut ring = FrameRing::of(&heads, &all, ALL, unthrottled).unwrap();
            let (mut sent, mut out, mut expected) = (0u64, Vec::new(), Vec::new());
            for (frames, most) in steps {
                let mut full = false;
                for _ in 0..frames {
                    let n = sent as usize;
                    let mut message = messages[n % messages.len()].clone();
                    message[..8].copy_from_slice(&sent.to_le_bytes());
                    expected.extend_from_slice(&heads[n % channels]);
                    append(&mut expected, &message);
                    ring.payload()[..8].copy_from_slice(&sent.to_le_bytes());
                    sent += 1;
                    full = ring.take();
                    while full && !ring.is_empty() {
                        write(&mut ring, &mut out, most);
                    }
                }
                if !full {
                    write(&mut ring, &mut out, most);
                }
            }
            write(&mut ring, &mut out, usize::MAX);
            prop_assert_eq!(out, expected);
        }
    }

    #[test]
    fn a_turn_that_takes_too_much_is_not_kept() {
        let heads = |n: usize| -> Vec<Vec<u8>> { (0..n).map(|c| format!("PUB a.{c} ").into_bytes()).collect() };
        let message = vec![0; 1000];
        let messages = |n: usize| -> Vec<&[u8]> { vec![message.as_slice(); n] };
        assert!(FrameRing::of(&heads(10_000), &messages(1024), ALL, false).is_none());
        assert!(
            FrameRing::of(&heads(7), &messages(1024), ALL, false).is_some_and(|ring| ring.payloads.len() == 7 * 1024)
        );
        assert!(FrameRing::of(&heads(1), &messages(1), 0, true).is_some_and(|ring| ring.bytes.len() >= FULL));
        let large = vec![0; 20 << 20];
        assert!(FrameRing::of(&heads(1), &[&large], 0, false).is_some());
    }
    /// One producer writes more at a time where no message is due at an instant; a thousand have no
    /// room for that.
    #[test]
    fn without_a_schedule_more_is_written_at_a_time() {
        let heads = [b"PUB a ".to_vec()];
        let message = vec![0; 1000];
        let written = |room: usize, unthrottled: bool| {
            let mut ring = FrameRing::of(&heads, &[&message], room, unthrottled).unwrap();
            while !ring.take() {}
            (ring.pending().0.len(), ring.bytes.len())
        };
        let within = |(at_once, kept): (usize, usize), full: usize| {
            assert!((full..full + 2000).contains(&at_once), "{at_once} of {full}");
            assert!(kept < full + 2000, "{kept} of {full}");
        };
        within(written(ALL, true), UNTHROTTLED);
        within(written(ALL, false), FULL);
        within(written(ALL / 1000, true), FULL);
    }
}
