use proptest::prelude::*;

use super::*;

const LIMITS: FrameLimits = FrameLimits { max_control_line: 4096, max_payload: 1 << 20, headers: true };

/// What a stream says, in a form that does not borrow from it.
fn read_all(mut bytes: &[u8], limits: &FrameLimits) -> (Vec<String>, Result<usize, ProtocolViolation>) {
    let mut ops = Vec::new();
    loop {
        match next(bytes, limits) {
            Ok(ParseStep::Done(op, used)) => {
                assert!(used > 0 && used <= bytes.len(), "an operation takes bytes that are there");
                ops.push(format!("{op:?}"));
                bytes = &bytes[used..];
            }
            Ok(ParseStep::Need(n)) => {
                assert!(n > bytes.len(), "what is needed is more than what is there");
                return (ops, Ok(n));
            }
            Err(violation) => return (ops, Err(violation)),
        }
    }
}

/// The same, with the stream arriving in pieces and the unused rest kept, as a connection does.
fn read_pieces(stream: &[u8], pieces: &[usize], limits: &FrameLimits) -> (Vec<String>, Result<(), ProtocolViolation>) {
    let mut ops = Vec::new();
    let (mut buf, mut from) = (Vec::new(), 0);
    for piece in pieces.iter().copied().chain([stream.len()]) {
        let to = stream.len().min(from + piece.max(1));
        buf.extend_from_slice(&stream[from..to]);
        from = to;
        let mut at = 0;
        loop {
            match next(&buf[at..], limits) {
                Ok(ParseStep::Done(op, used)) => {
                    ops.push(format!("{op:?}"));
                    at += used;
                }
                Ok(ParseStep::Need(n)) => {
                    assert!(
                        n <= limits.max_control_line + limits.max_payload + 64,
                        "one frame of the largest size is all that is ever needed"
                    );
                    break;
                }
                Err(violation) => return (ops, Err(violation)),
            }
        }
        buf.drain(..at);
    }
    (ops, Ok(()))
}

fn one(bytes: &[u8]) -> Result<String, ProtocolViolation> {
    match next(bytes, &LIMITS)? {
        ParseStep::Done(op, used) => {
            assert_eq!(used, bytes.len(), "the whole of it");
            Ok(format!("{op:?}"))
        }
        ParseStep::Need(n) => Ok(format!("need {n}")),
    }
}

#[test]
fn every_verb_in_any_case_with_any_white_space() {
    let publish = |bytes: &'static [u8]| match next(bytes, &LIMITS) {
        Ok(ParseStep::Done(Op::Publish(p), _)) => p,
        other => panic!("{other:?}"),
    };
    let p = publish(b"PUB a 2\r\nhi\r\n");
    assert_eq!((p.subject, p.reply, p.total_text, p.payload), (&b"a"[..], &b""[..], &b"2"[..], &b"hi"[..]));
    assert_eq!(p.tail, Some(&b"2\r\nhi\r\n"[..]));
    let p = publish(b"pub\ta \t r  002 \n\0\n\r\n");
    assert_eq!((p.subject, p.reply, p.total_text, p.payload), (&b"a"[..], &b"r"[..], &b"002"[..], &b"\0\n"[..]));
    assert_eq!(p.tail, None, "it must be written anew");
    let p = publish(b"hPuB a r 12 14\r\nNATS/1.0\r\n\r\nhi\r\n");
    assert_eq!((p.header_text, p.total_text, p.header_len), (&b"12"[..], &b"14"[..], 12));
    assert_eq!(p.tail, Some(&b"12 14\r\nNATS/1.0\r\n\r\nhi\r\n"[..]));
    let p = publish(b"HPUB a 12  14\r\nNATS/1.0\r\n\r\nhi\r\n");
    assert_eq!(p.tail, None);
    let p = publish(b"HPUB a 0 2\r\nhi\r\n");
    assert_eq!((p.header_len, p.tail), (0, Some(&b"2\r\nhi\r\n"[..])));
    assert_eq!(one(b"SUB a 1\r\n"), Ok("Subscribe { subject: [97], queue: None, sid: [49] }".into()));
    assert_eq!(one(b"sub a q 1\n"), Ok("Subscribe { subject: [97], queue: Some([113]), sid: [49] }".into()));
    assert_eq!(one(b"UNSUB 1\r\n"), Ok("Unsubscribe { sid: [49], max: None }".into()));
    assert_eq!(one(b"unsub 1 7\r\n"), Ok("Unsubscribe { sid: [49], max: Some(7) }".into()));
    assert_eq!(one(b"unsub 1 x\r\n"), Ok("Unsubscribe { sid: [49], max: None }".into()));
    assert_eq!(one(b"CONNECT{}\r\n"), Ok("Connect([123, 125])".into()));
    for (line, op) in [("PING\n", "Ping"), ("ping whatever\r\n", "Ping"), ("PONG\r\n", "Pong"), ("+OK\r\n", "Ok")] {
        assert_eq!(one(line.as_bytes()), Ok(op.into()), "{line}");
    }
}

#[test]
fn what_the_real_server_refuses_is_refused_for_the_same_reason() {
    use ProtocolViolation::{Arguments, ControlLine, MaxPayload, UnknownOperation};
    for (bytes, violation) in [
        (&b"\r\n"[..], UnknownOperation),
        (b"F", UnknownOperation),
        (b"FOO\r\n", UnknownOperation),
        (b"PUBX", UnknownOperation),
        (b"PUB\r\n", UnknownOperation),
        (b"SUB\r\n", UnknownOperation),
        (b"PX", UnknownOperation),
        (b"CONNEKT", UnknownOperation),
        (b"PUB a 2\r\nhello\r\n", UnknownOperation),
        (b"PUB a 2\r\nhix", UnknownOperation),
        (b"PUB a\r\n", Arguments),
        (b"PUB \r\n", Arguments),
        (b"PUB a b c 2\r\n", Arguments),
        (b"PUB a b c d e 2\r\n", Arguments),
        (b"PUB a -1\r\n", Arguments),
        (b"PUB a xx\r\n", Arguments),
        (b"PUB a 0000000002\r\n", Arguments),
        (b"PUB a 99999999999999999999\r\n", Arguments),
        (b"PUB a 1048577\r\n", MaxPayload),
        (b"HPUB a 30 24\r\n", Arguments),
        (b"HPUB a 2\r\n", Arguments),
        (b"HPUB a r x 12 24\r\n", Arguments),
        (b"SUB a\r\n", Arguments),
        (b"SUB a b c d\r\n", Arguments),
        (b"UNSUB 1 2 3\r\n", Arguments),
        (b"UNSUB \r\n", Arguments),
    ] {
        assert_eq!(one(bytes), Err(violation), "{:?}", String::from_utf8_lossy(bytes));
    }
    assert_eq!(next(b"HPUB a 0 2\r\nhi\r\n", &FrameLimits { headers: false, ..LIMITS }), Err(Arguments));
    for verb in ["PUB ", "SUB ", "HPUB ", "UNSUB ", "CONNECT ", "PING"] {
        let mut line = verb.as_bytes().to_vec();
        line.resize(verb.len() + 4096 + 8, b'x');
        assert_eq!(one(&line), Err(ControlLine), "{verb} without an end");
        line.extend_from_slice(b" 2\r\nhi\r\n");
        assert_eq!(one(&line), Err(ControlLine), "{verb} with an end");
    }
    let long = [b"SUB ".to_vec(), vec![b'a'; 4090], b" 1\r\n".to_vec()].concat();
    assert!(one(&long).is_ok());
}

/// Found by the fuzzer: a line with too many fields that is also too long was refused for one
/// reason or the other, depending on where it was split.
#[test]
fn a_line_too_long_is_too_long_however_many_fields_it_has() {
    let limits = FrameLimits { max_control_line: 128, ..LIMITS };
    let line = [b"PUB a b c d e ".to_vec(), vec![b'x'; 140]].concat();
    for cut in 0..line.len() {
        assert_eq!(read_pieces(&line, &[cut], &limits).1, Err(ProtocolViolation::ControlLine), "cut at {cut}");
    }
    assert_eq!(next(b"PUB a b c d e\r\n", &limits), Err(ProtocolViolation::Arguments));
}

#[test]
fn a_known_subject_is_recognised_only_in_the_canonical_form() {
    let good = b"PUB a.b 2\r\nhi\r\nPING\r\n";
    assert_eq!(again(good, b"a.b", &LIMITS), Some((&b"2\r\nhi\r\n"[..], 2, 15)));
    for other in [
        &b"PUB a.bc 2\r\nhi\r\n"[..],
        b"PUB a.b r 2\r\nhi\r\n",
        b"pub a.b 2\r\nhi\r\n",
        b"PUB a.b 2 \r\nhi\r\n",
        b"PUB a.b 2\nhi\r\n",
        b"PUB a.b 2\r\nhi\r",
        b"PUB a.b 2\r\nhixx",
        b"PUB a.b \r\n\r\n",
        b"PUB a.b 9999999999\r\n",
        b"PUB a.b",
    ] {
        assert_eq!(again(other, b"a.b", &LIMITS), None, "{:?}", String::from_utf8_lossy(other));
    }
    let small = FrameLimits { max_payload: 1, ..LIMITS };
    assert_eq!(again(good, b"a.b", &small), None);
}

#[test]
fn an_unfinished_frame_says_what_it_needs() {
    assert_eq!(one(b"PUB a 1000\r\n"), Ok("need 1014".into()));
    assert_eq!(one(b""), Ok("need 1".into()));
    let whole = b"PUB a.b reply 5\r\nhello\r\n";
    for cut in 0..whole.len() {
        assert!(matches!(next(&whole[..cut], &LIMITS), Ok(ParseStep::Need(_))), "cut at {cut}");
    }
}

fn token() -> impl Strategy<Value = Vec<u8>> {
    prop::collection::vec(prop::sample::select(b"abcXYZ019_-*>\x01\xff".to_vec()), 1..6)
}

fn name() -> impl Strategy<Value = Vec<u8>> {
    prop::collection::vec(token(), 1..4).prop_map(|tokens| tokens.join(&b'.'))
}

fn gap() -> impl Strategy<Value = Vec<u8>> {
    prop::collection::vec(prop::sample::select(vec![b' ', b'\t']), 1..3)
}

fn line_end() -> impl Strategy<Value = Vec<u8>> {
    prop::sample::select(vec![b"\r\n".to_vec(), b"\n".to_vec()])
}

/// Any valid frame.
fn valid() -> impl Strategy<Value = Vec<u8>> {
    let payload = prop::collection::vec(any::<u8>(), 0..200);
    prop_oneof![
        Just(b"PING\r\n".to_vec()),
        Just(b"pong\n".to_vec()),
        Just(b"+OK\r\n".to_vec()),
        Just(b"CONNECT {\"verbose\":false}\r\n".to_vec()),
        (gap(), name(), gap(), name(), line_end()).prop_map(|(g, subject, h, sid, end)| [
            b"SUB".to_vec(),
            g,
            subject,
            h,
            sid,
            end
        ]
        .concat()),
        (gap(), name(), 0u32..50, line_end()).prop_map(|(g, sid, n, end)| [
            b"UNSUB".to_vec(),
            g,
            sid,
            format!(" {n}").into(),
            end
        ]
        .concat()),
        (gap(), name(), prop::option::of(name()), payload.clone(), line_end()).prop_map(
            |(g, subject, reply, p, end)| {
                let reply = reply.map(|r| [&b" "[..], &r].concat()).unwrap_or_default();
                [b"PUB".to_vec(), g, subject, reply, format!(" {}", p.len()).into(), end, p, b"\r\n".to_vec()].concat()
            }
        ),
        (name(), payload, any::<prop::sample::Index>(), line_end()).prop_map(|(subject, p, cut, end)| {
            let sizes = format!(" {} {}", cut.index(p.len() + 1), p.len());
            [b"HPUB ".to_vec(), subject, sizes.into(), end, p, b"\r\n".to_vec()].concat()
        }),
    ]
}

proptest! {
    #[test]
    fn any_split_of_a_valid_stream_reads_the_same(
        frames in prop::collection::vec(valid(), 1..12),
        pieces in prop::collection::vec(1usize..40, 0..60),
    ) {
        let stream = frames.concat();
        let (whole, end) = read_all(&stream, &LIMITS);
        prop_assert_eq!(whole.len(), frames.len());
        prop_assert_eq!(end, Ok(1));
        let (split, end) = read_pieces(&stream, &pieces, &LIMITS);
        prop_assert_eq!(split, whole);
        prop_assert_eq!(end, Ok(()));
    }

    #[test]
    fn any_split_of_a_broken_stream_is_refused_the_same(
        frames in prop::collection::vec(valid(), 1..6),
        at in any::<prop::sample::Index>(),
        byte in any::<u8>(),
        pieces in prop::collection::vec(1usize..40, 0..30),
    ) {
        let mut stream = frames.concat();
        let at = at.index(stream.len());
        stream[at] = byte;
        let (whole, end) = read_all(&stream, &LIMITS);
        let (split, split_end) = read_pieces(&stream, &pieces, &LIMITS);
        prop_assert_eq!(split, whole);
        prop_assert_eq!(split_end.err(), end.err());
    }
}

/// A million frames, each a mutation of a valid one or plain noise, the same on every run. None may
/// panic, and none may make a connection keep more than one frame of the largest size.
#[test]
fn a_million_hostile_frames() {
    let limits = FrameLimits { max_control_line: 64, max_payload: 256, headers: true };
    let seeds: [&[u8]; 12] = [
        b"PUB a 2\r\nhi\r\n",
        b"PUB a.b.c _INBOX.x.1 16\r\n0123456789abcdef\r\n",
        b"HPUB a 12 14\r\nNATS/1.0\r\n\r\nhi\r\n",
        b"HPUB a r 12 12\r\nNATS/1.0\r\n\r\n\r\n",
        b"SUB a.*.> q 1\r\n",
        b"SUB > 9\r\n",
        b"UNSUB 1 5\r\n",
        b"CONNECT {\"verbose\":false,\"pedantic\":true}\r\n",
        b"PING\r\n",
        b"PONG\r\n",
        b"+OK\r\n",
        b"-ERR 'x'\r\n",
    ];
    let mut state = 0x9e37_79b9_7f4a_7c15u64;
    let mut random = move |below: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 32) as usize % below
    };
    let (mut refused, mut read, mut waiting) = (0u32, 0u32, 0u32);
    let mut kept: Vec<u8> = Vec::new();
    for _ in 0..1_000_000 {
        let start = kept.len();
        kept.extend_from_slice(seeds[random(seeds.len())]);
        for _ in 0..random(4) {
            let at = start + random(kept.len() - start);
            match random(5) {
                0 => kept[at] = random(256) as u8,
                1 => kept.truncate(at.max(start + 1)),
                2 => kept.insert(at, b" \t\r\n09-\0"[random(8)]),
                3 => kept.insert(at, b'9'),
                _ => {
                    kept.remove(at);
                    if kept.len() == start {
                        kept.push(b'\n');
                    }
                }
            }
        }
        let mut at = 0;
        loop {
            match next(&kept[at..], &limits) {
                Ok(ParseStep::Done(_, used)) => {
                    assert!(used > 0);
                    at += used;
                    read += 1;
                }
                Ok(ParseStep::Need(n)) => {
                    assert!(n > kept.len() - at && n <= 64 + 256 + 32, "{n}");
                    waiting += 1;
                    kept.drain(..at);
                    break;
                }
                Err(_) => {
                    refused += 1;
                    kept.clear();
                    break;
                }
            }
        }
        assert!(kept.len() < 64 + 256 + 32, "an unfinished frame never grows past the limits");
    }
    assert!(refused > 100_000 && read > 100_000 && waiting > 100_000, "{refused} {read} {waiting}");
}
