//! The parser of the NATS client protocol against any bytes, split anywhere.
//!
//!     cargo +nightly fuzz run --fuzz-dir scripts/fuzz parse -- -max_total_time=60
//!
//! The parser is taken in by path, so that only it is built. Checked: no panic; every operation
//! takes bytes that are there; what is needed is bounded by the limits; a stream split in two reads
//! the same; what `again` recognises `next` reads the same.
#![no_main]

use libfuzzer_sys::fuzz_target;

#[path = "../../../src/broker/nats/parse.rs"]
mod parse;

use parse::{FrameLimits, Op, ParseStep, ProtocolViolation};

fn read(stream: &[u8], cut: usize, limits: &FrameLimits) -> (Vec<String>, Option<ProtocolViolation>) {
    let (mut ops, mut buf) = (Vec::new(), Vec::new());
    for piece in [&stream[..cut], &stream[cut..]] {
        buf.extend_from_slice(piece);
        let mut at = 0;
        loop {
            match parse::next(&buf[at..], limits) {
                Ok(ParseStep::Done(op, used)) => {
                    assert!(used > 0 && at + used <= buf.len());
                    if let Op::Publish(message) = op
                        && let Some((tail, payload, length)) = parse::again(&buf[at..], message.subject, limits)
                    {
                        assert_eq!((Some(tail), payload, length), (message.tail, message.payload.len(), used));
                        assert_eq!(parse::payload_of(tail), payload);
                        assert!(message.reply.is_empty() && message.header_len == 0);
                    }
                    ops.push(format!("{op:?}"));
                    at += used;
                }
                Ok(ParseStep::Need(n)) => {
                    assert!(n > buf.len() - at && n <= limits.max_control_line + limits.max_payload + 64);
                    break;
                }
                Err(violation) => {
                    assert!(violation.text().is_none_or(|text| !text.is_empty()));
                    return (ops, Some(violation));
                }
            }
        }
        buf.drain(..at);
    }
    (ops, None)
}

fuzz_target!(|data: &[u8]| {
    let Some((&first, stream)) = data.split_first() else { return };
    let limits = FrameLimits { max_control_line: 128, max_payload: 512, headers: first & 1 == 0 };
    let cut = stream.len() * usize::from(first) / 256;
    assert_eq!(read(stream, cut, &limits), read(stream, 0, &limits));
});
