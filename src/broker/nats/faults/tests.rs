//! The parts that need no connection; the rest is in `tests/faults.rs`.

use super::*;
use crate::broker::faults::StageTimes;
use crate::broker::nats::parse;
use crate::broker::nats::parse::{FrameLimits, Op, ParseStep};
use proptest::prelude::*;

fn publish(frame: &[u8]) -> OwnedMessage {
    let limits = FrameLimits { max_control_line: 4096, max_payload: 1 << 20, headers: true };
    match parse::next(frame, &limits).unwrap() {
        ParseStep::Done(Op::Publish(message), _) => owned(7, &message),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_parcel_is_the_message_it_was_made_of() {
    let mut owned = publish(b"HPUB a.b re.ply 14 19\r\nNATS/1.0\r\nA:\r\nhello\r\n");
    let m = message(&owned);
    assert_eq!((m.subject, m.reply, m.header_len), (&b"a.b"[..], &b"re.ply"[..], 14));
    assert_eq!((m.header_text, m.total_text), (&b"14"[..], &b"19"[..]));
    assert_eq!(m.payload, b"NATS/1.0\r\nA:\r\nhello");
    assert!(owned.corrupt());
    assert_eq!(message(&owned).payload, b"NATS/1.0\r\nA:\r\nhelln");
    assert!(!publish(b"PUB a 0\r\n\r\n").corrupt());
    assert!(!publish(b"HPUB a 12 12\r\nNATS/1.0\r\n\r\n\r\n").corrupt(), "headers are left alone");
}

#[test]
fn patterns_match_as_subscriptions_do() {
    for (pattern, subject, matched) in [
        ("mb.*.*.*", "mb.1.0.0", true),
        ("mb.*.*.*", "mb.1.barrier", false),
        ("mb.*.*.*", "mb.1.0.0.0", false),
        ("a.>", "a.b.c", true),
        ("a.>", "a", false),
        ("a", "a", true),
        ("a", "b", false),
        ("*", "a", true),
        ("*", "a.b", false),
    ] {
        assert_eq!(pattern::matches(pattern.as_bytes(), subject.as_bytes()), matched, "{pattern} {subject}");
    }
}

proptest! {
    #[test]
    fn the_log_is_json_whatever_the_message(subject in "[!-~]{1,20}", payload: Vec<u8>) {
        let mut frame = format!("PUB {subject} {}\r\n", payload.len()).into_bytes();
        frame.extend_from_slice(&payload);
        frame.extend_from_slice(b"\r\n");
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        let mut journal = Journal::create(Some(&path)).unwrap();
        journal.note(5, "stall", 1, Some(StageTimes { from: 2, ns: 3, late: 1 }), &publish(&frame));
        journal.flush();
        let line: serde_json::Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
        prop_assert_eq!(line["subject"].as_str().unwrap(), subject);
        let head: String = payload.iter().take(44).map(|b| format!("{b:02x}")).collect();
        prop_assert_eq!(line["head"].as_str().unwrap(), head);
        prop_assert_eq!(line["late"].as_u64(), Some(1));
        prop_assert_eq!((line["at"].as_u64(), line["from"].as_u64(), line["ns"].as_u64()), (Some(5), Some(2), Some(3)));
    }
}
