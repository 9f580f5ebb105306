//! The router on the wire, byte by byte: the points a conforming server must keep (numbered as in
//! `docs/conformance.md`).

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::Ordering;
use std::thread;
use std::time::{Duration, Instant};

use crate::router_support::{Running, start};
use msgbench::broker::{Auth, Config, LameDuck, Shutdown, SlowConsumer, User};

const PATIENCE: Duration = Duration::from_secs(60);
/// Long enough for an answer that must not come to have come.
const SILENCE: Duration = Duration::from_millis(80);
const QUIET: &str =
    "CONNECT {\"verbose\":false,\"pedantic\":false,\"headers\":true,\"no_responders\":true,\"protocol\":1}\r\n";

/// A bare connection.
struct Wire {
    stream: TcpStream,
    info: serde_json::Value,
}

impl Wire {
    fn open(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).unwrap();
        stream.set_nodelay(true).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut wire = Self { stream, info: serde_json::Value::Null };
        let line = wire.line();
        wire.info = serde_json::from_str(line.strip_prefix("INFO ").expect("INFO comes first")).unwrap();
        wire
    }

    /// A connection that has said CONNECT and is not verbose.
    fn quiet(address: SocketAddr) -> Self {
        let mut wire = Self::open(address);
        wire.say(QUIET);
        wire.sync();
        wire
    }

    fn say(&mut self, bytes: impl AsRef<[u8]>) {
        self.stream.write_all(bytes.as_ref()).unwrap();
    }

    fn line(&mut self) -> String {
        let mut line = Vec::new();
        while !line.ends_with(b"\n") {
            let mut byte = [0];
            self.stream.read_exact(&mut byte).unwrap();
            line.push(byte[0]);
        }
        String::from_utf8(line).unwrap()
    }

    /// The next bytes must be these.
    #[track_caller]
    fn hear(&mut self, expected: impl AsRef<[u8]>) {
        let expected = expected.as_ref();
        let mut heard = vec![0; expected.len()];
        let mut at = 0;
        while at < heard.len() {
            match self.stream.read(&mut heard[at..]) {
                Ok(n) if n > 0 => at += n,
                other => panic!("{other:?} after {:?}", String::from_utf8_lossy(&heard[..at])),
            }
            assert_eq!(
                String::from_utf8_lossy(&heard[..at]),
                String::from_utf8_lossy(&expected[..at]),
                "expected {:?}",
                String::from_utf8_lossy(expected)
            );
        }
    }

    /// Everything said so far has been served, and nothing but the PONG comes of it.
    #[track_caller]
    fn sync(&mut self) {
        self.say("PING\r\n");
        self.hear("PONG\r\n");
    }

    /// Nothing comes.
    #[track_caller]
    fn silent(&mut self) {
        self.stream.set_read_timeout(Some(SILENCE)).unwrap();
        let mut buf = [0; 256];
        match self.stream.read(&mut buf) {
            Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
            other => panic!("{other:?}: {:?}", String::from_utf8_lossy(&buf)),
        }
        self.stream.set_read_timeout(Some(PATIENCE)).unwrap();
    }

    /// The server has closed, and says nothing more.
    #[track_caller]
    fn closed(&mut self) {
        let mut rest = Vec::new();
        match self.stream.read_to_end(&mut rest) {
            Ok(0) => {}
            other => panic!("{other:?}: {:?}", String::from_utf8_lossy(&rest)),
        }
    }
}

fn plain() -> Running {
    start(Config::default())
}

/// On a fresh quiet connection: say this, hear that, and a PONG behind it.
#[track_caller]
fn quiet(say: &str, hear: &str) {
    let broker = plain();
    let mut wire = Wire::open(broker.address);
    wire.say(format!("{QUIET}{say}PING\r\n"));
    wire.hear(format!("{hear}PONG\r\n"));
    wire.silent();
}

/// On a fresh quiet connection: say this, hear that, and be closed.
#[track_caller]
fn fatal(say: &[u8], hear: &str) {
    let broker = plain();
    let mut wire = Wire::open(broker.address);
    wire.say([QUIET.as_bytes(), say].concat());
    wire.hear(hear);
    wire.closed();
}

#[test]
fn p01_info_comes_at_once_with_what_clients_look_for() {
    let broker = plain();
    let one = Wire::open(broker.address).info;
    let two = Wire::open(broker.address).info;
    assert_eq!(one["proto"], 1);
    assert_eq!(one["headers"], true);
    assert_eq!(one["max_payload"], 1 << 20);
    assert_eq!(one["host"], "127.0.0.1");
    assert_eq!(one["port"], broker.address.port());
    assert_eq!(one["client_ip"], "127.0.0.1");
    assert!(one["version"].as_str().unwrap().starts_with("2.15."));
    assert!(one["server_id"].as_str().is_some_and(|id| id.len() == 56 && id.starts_with('N')));
    assert_eq!(one["server_id"], two["server_id"]);
    assert_ne!(one["client_id"], two["client_id"]);
    for absent in ["auth_required", "tls_required", "nonce", "ldm", "jetstream"] {
        assert!(one.get(absent).is_none(), "{absent}");
    }
}

#[test]
fn p02_before_connect_everything_works_and_is_verbose() {
    let broker = plain();
    let mut wire = Wire::open(broker.address);
    wire.say("PING\r\nSUB a 1\r\nPUB a 2\r\nhi\r\n");
    wire.hear("PONG\r\n+OK\r\n+OK\r\nMSG a 1 2\r\nhi\r\n");
    wire.silent();
}

#[test]
fn p03_verbose_acknowledges_everything_but_ping() {
    let broker = plain();
    let mut wire = Wire::open(broker.address);
    for (say, hear) in [
        ("CONNECT {\"verbose\":true}\r\n", "+OK\r\n"),
        ("PING\r\n", "PONG\r\n"),
        ("SUB a 1\r\n", "+OK\r\n"),
        ("PUB a 2\r\nhi\r\n", "+OK\r\nMSG a 1 2\r\nhi\r\n"),
        ("UNSUB 1\r\n", "+OK\r\n"),
        ("PONG\r\n", ""),
    ] {
        wire.say(say);
        wire.hear(hear);
    }
    wire.silent();
}

#[test]
fn p04_verbs_in_any_case_white_space_and_bare_line_feeds() {
    quiet("sub a 1\r\npub a 2\r\nhi\r\n", "MSG a 1 2\r\nhi\r\n");
    quiet("SUB\ta \t 1\r\nPUB  a   2\r\nhi\r\n", "MSG a 1 2\r\nhi\r\n");
    quiet("SUB a 1\nPUB a 2\nhi\r\nPING\n", "MSG a 1 2\r\nhi\r\nPONG\r\n");
    fatal(b"\r\nPING\r\n", "-ERR 'Unknown Protocol Operation'\r\n");
}

#[test]
fn p05_unknown_operations_and_broken_payloads() {
    for say in
        [&b"FOO\r\n"[..], b"PUB\r\n", b"PUB a 2\r\nhello\r\nPING\r\n", b"PUB a 2\r\nhiPING\r\nPING\r\n", b"FO", b"PUBX"]
    {
        fatal(say, "-ERR 'Unknown Protocol Operation'\r\n");
    }
}

#[test]
fn p06_bad_arguments_close_without_a_word() {
    for say in [
        "PUB a\r\n",
        "PUB a b c 2\r\nhi\r\n",
        "PUB a -1\r\n\r\n",
        "PUB a xx\r\n\r\n",
        "SUB a\r\n",
        "SUB a b c d\r\n",
        "CONNECT {x}\r\n",
        "CONNECT {\"verbose\":1}\r\n",
        "UNSUB 1 2 3\r\n",
        "-ERR 'no'\r\n",
    ] {
        fatal(say.as_bytes(), "");
    }
}

#[test]
fn p07_size_digits_are_echoed_as_they_came() {
    quiet("SUB a 1\r\nPUB a 002\r\nhi\r\n", "MSG a 1 002\r\nhi\r\n");
    quiet("SUB a 1\r\nPUB a 002\nhi\r\n", "MSG a 1 002\r\nhi\r\n");
}

#[test]
fn p08_payloads_from_nothing_to_the_limit_and_one_more() {
    quiet("SUB a 1\r\nPUB a 0\r\n\r\n", "MSG a 1 0\r\n\r\n");
    let broker = start(Config { max_payload: 100_000, ..Config::default() });
    let mut wire = Wire::quiet(broker.address);
    let payload = vec![b'x'; 100_000];
    let message = [b"PUB a 100000\r\n", &payload[..], b"\r\n"].concat();
    wire.say("SUB a 1\r\n");
    wire.say(&message);
    wire.hear([b"MSG a 1 100000\r\n", &payload[..], b"\r\n"].concat());
    // The size is refused before the body comes.
    wire.say("PUB a 100001\r\n");
    wire.hear("-ERR 'Maximum Payload Violation'\r\n");
    wire.closed();
}

#[test]
fn p09_control_lines_have_a_limit() {
    let long = "a".repeat(4080);
    quiet(&format!("SUB {long} 1\r\nPUB {long} 1\r\nx\r\n"), &format!("MSG {long} 1 1\r\nx\r\n"));
    let longer = "a".repeat(5000);
    for say in [format!("PUB {longer} 2\r\nhi\r\n"), format!("SUB {longer}"), format!("CONNECT {longer}")] {
        fatal(say.as_bytes(), "-ERR 'maximum control line exceeded'\r\n");
    }
}

#[test]
fn p10_subscription_subjects_are_checked() {
    for bad in ["foo.", ".foo", "foo..bar", "foo.>.bar"] {
        quiet(&format!("SUB {bad} 1\r\n"), "-ERR 'Invalid Subject'\r\n");
    }
    for good in [">", "*", "foo.*", "f*o", "foo>", "foo.bar*", "foo.\x7f", "\u{e9}"] {
        quiet(&format!("SUB {good} 1\r\n"), "");
    }
    // Inside a token the letters stand for themselves.
    quiet("SUB f*o 1\r\nPUB foo 1\r\nx\r\nPUB f*o 1\r\ny\r\n", "MSG f*o 1 1\r\ny\r\n");
}

#[test]
fn p11_publish_subjects_are_checked_for_the_pedantic_only() {
    for subject in ["foo..bar", "foo.*", "foo.>", "foo."] {
        quiet(&format!("PUB {subject} 2\r\nhi\r\n"), "");
        let broker = plain();
        let mut wire = Wire::open(broker.address);
        wire.say(format!("CONNECT {{\"verbose\":false,\"pedantic\":true}}\r\nPUB {subject} 2\r\nhi\r\nPING\r\n"));
        wire.hear("-ERR 'Invalid Publish Subject'\r\nPONG\r\n");
    }
}

#[test]
fn p12_a_sid_names_one_subscription_and_overlaps_each_get_a_copy() {
    quiet("SUB a 1\r\nSUB a 1\r\nPUB a 2\r\nhi\r\n", "MSG a 1 2\r\nhi\r\n");
    quiet("SUB a 1\r\nSUB b 1\r\nPUB a 2\r\nhi\r\nPUB b 2\r\nho\r\n", "MSG a 1 2\r\nhi\r\n");
    let broker = plain();
    let mut wire = Wire::quiet(broker.address);
    wire.say("SUB a.* 1\r\nSUB a.> 2\r\nSUB a.b 3\r\nPUB a.b 2\r\nhi\r\n");
    let mut sids: Vec<String> = (0..3)
        .map(|_| {
            let line = wire.line();
            wire.hear("hi\r\n");
            line
        })
        .collect();
    sids.sort();
    assert_eq!(sids, ["MSG a.b 1 2\r\n", "MSG a.b 2 2\r\n", "MSG a.b 3 2\r\n"]);
    wire.sync();
    wire.silent();
}

#[test]
fn p13_one_member_of_each_group_and_every_plain_subscription() {
    let broker = plain();
    let mut wire = Wire::quiet(broker.address);
    wire.say("SUB a q 1\r\nSUB a.> q 9\r\nSUB a q 2\r\nSUB a r 3\r\nSUB a 4\r\n");
    let mut counts = [0; 5];
    for _ in 0..200 {
        wire.say("PUB a 1\r\nx\r\n");
        let mut sids = Vec::new();
        for _ in 0..3 {
            let line = wire.line();
            wire.hear("x\r\n");
            let sid: usize = line.split(' ').nth(2).unwrap().parse().unwrap();
            counts[sid] += 1;
            sids.push(sid);
        }
        sids.sort_unstable();
        assert_eq!(sids[1..], [3, 4], "{sids:?}");
    }
    assert_eq!((counts[3], counts[4]), (200, 200));
    assert!(counts[1] > 50 && counts[2] > 50, "both members take their share: {counts:?}");
    wire.sync();
}

#[test]
fn p14_unsubscribe_counts_what_has_been_delivered() {
    let publish = "PUB a 1\r\nx\r\n";
    let message = "MSG a 1 1\r\nx\r\n";
    quiet("UNSUB 99\r\n", "");
    quiet(&format!("SUB a 1\r\nUNSUB 1\r\n{publish}"), "");
    quiet(&format!("SUB a 1\r\nUNSUB 1 2\r\n{}", publish.repeat(4)), &message.repeat(2));
    quiet(&format!("SUB a 1\r\n{}UNSUB 1 2\r\n{publish}", publish.repeat(3)), &message.repeat(3));
    quiet(&format!("SUB a 1\r\n{publish}UNSUB 1 2\r\n{}", publish.repeat(3)), &message.repeat(2));
    quiet(&format!("SUB a 1\r\nUNSUB 1 0\r\n{publish}"), "");
    // Once it has ended the sid is free again, and in a group the others take over.
    quiet(&format!("SUB a 1\r\nUNSUB 1 1\r\n{publish}{publish}SUB a 1\r\n{publish}"), &message.repeat(2));
    quiet("SUB a q 1\r\nSUB a q 2\r\nUNSUB 1\r\nPUB a 1\r\nx\r\n", "MSG a 2 1\r\nx\r\n");
}

#[test]
fn p14_a_limit_holds_for_publishers_elsewhere() {
    let broker = plain();
    let mut subscriber = Wire::quiet(broker.address);
    let mut publisher = Wire::quiet(broker.address);
    subscriber.say("SUB a 1\r\n");
    subscriber.sync();
    publisher.say("PUB a 1\r\nx\r\n".repeat(300));
    publisher.sync();
    subscriber.hear("MSG a 1 1\r\nx\r\n".repeat(300));
    subscriber.say("UNSUB 1 305\r\n");
    subscriber.sync();
    publisher.say("PUB a 1\r\ny\r\n".repeat(300));
    publisher.sync();
    subscriber.hear("MSG a 1 1\r\ny\r\n".repeat(5));
    subscriber.silent();
    assert_eq!(broker.counters.totals().subscriptions, 0);
}

#[test]
fn p15_echo_and_protocol() {
    let broker = plain();
    let mut wire = Wire::open(broker.address);
    wire.say("CONNECT {\"verbose\":false,\"echo\":false,\"protocol\":1}\r\nSUB a 1\r\n");
    wire.sync();
    wire.say("PUB a 1\r\nx\r\n".repeat(3));
    wire.sync();
    let mut other = Wire::quiet(broker.address);
    other.say("PUB a 1\r\ny\r\n");
    wire.hear("MSG a 1 1\r\ny\r\n");
    fatal(b"CONNECT {\"verbose\":false,\"protocol\":2}\r\nPING\r\n", "-ERR 'invalid client protocol'\r\n");
    fatal(b"CONNECT {\"verbose\":false,\"protocol\":-1}\r\nPING\r\n", "-ERR 'invalid client protocol'\r\n");
}

#[test]
fn p16_no_responders() {
    // 24 bytes of status and name, "nobody", and three ends of a line.
    let status = |inbox: &str, sid: &str| {
        format!("HMSG {inbox} {sid} 38 38\r\nNATS/1.0 503\r\nNats-Subject: nobody\r\n\r\n\r\n")
    };
    quiet("SUB in 1\r\nPUB nobody in 2\r\nhi\r\n", &status("in", "1"));
    quiet("SUB in.* 7\r\nPUB nobody in.x 2\r\nhi\r\n", &status("in.x", "7"));
    quiet("PUB nobody in 2\r\nhi\r\n", "");
    quiet("SUB in 1\r\nSUB somebody 2\r\nPUB somebody in 2\r\nhi\r\n", "MSG somebody 2 in 2\r\nhi\r\n");
    quiet(
        "CONNECT {\"verbose\":false,\"headers\":true,\"no_responders\":false}\r\nSUB in 1\r\nPUB nobody in 2\r\nhi\r\n",
        "",
    );
    fatal(
        b"CONNECT {\"verbose\":false,\"headers\":false,\"no_responders\":true}\r\nPING\r\n",
        "-ERR 'no responders requires headers support'\r\n",
    );
}

#[test]
fn p17_headers_pass_through_and_are_stripped_for_those_who_do_not_take_them() {
    let head = "NATS/1.0\r\nBar: Baz\r\n\r\n";
    quiet(&format!("SUB a 1\r\nHPUB a 22 24\r\n{head}hi\r\n"), &format!("HMSG a 1 22 24\r\n{head}hi\r\n"));
    quiet(&format!("SUB a 1\r\nHPUB a r 022 0024\r\n{head}hi\r\n"), &format!("HMSG a 1 r 022 0024\r\n{head}hi\r\n"));
    quiet(&format!("SUB a 1\r\nHPUB a r  22   24 \n{head}hi\r\n"), &format!("HMSG a 1 r 22 24\r\n{head}hi\r\n"));
    let odd = head.replace("NATS", "XATS");
    quiet(&format!("SUB a 1\r\nHPUB a 22 24\r\n{odd}hi\r\n"), &format!("HMSG a 1 22 24\r\n{odd}hi\r\n"));
    quiet("SUB a 1\r\nHPUB a 0 2\r\nhi\r\n", "MSG a 1 2\r\nhi\r\n");
    fatal(format!("HPUB a 30 24\r\n{head}hi\r\n").as_bytes(), "");
    fatal(
        format!(
            "CONNECT {{\"headers\":false,\"no_responders\":false,\"verbose\":false}}\r\nHPUB a 22 24\r\n{head}hi\r\n"
        )
        .as_bytes(),
        "",
    );
    let broker = plain();
    let mut old = Wire::open(broker.address);
    old.say("CONNECT {\"verbose\":false,\"headers\":false}\r\nSUB a 1\r\n");
    old.sync();
    let mut new = Wire::quiet(broker.address);
    new.say(format!("HPUB a 22 24\r\n{head}hi\r\nHPUB a r 22 22\r\n{head}\r\n"));
    old.hear("MSG a 1 2\r\nhi\r\nMSG a 1 r 0\r\n\r\n");
}

#[test]
fn p18_only_some_errors_close() {
    quiet(
        "SUB a..b 1\r\nCONNECT {\"verbose\":false,\"pedantic\":true}\r\nPUB a.* 0\r\n\r\n",
        "-ERR 'Invalid Subject'\r\n-ERR 'Invalid Publish Subject'\r\n",
    );
    let broker = start(Config { max_subscriptions: 2, ..Config::default() });
    let mut wire = Wire::quiet(broker.address);
    wire.say("SUB a 1\r\nSUB b 2\r\nSUB c 3\r\n");
    wire.hear("-ERR 'maximum subscriptions exceeded'\r\n");
    wire.say("UNSUB 1\r\nSUB c 3\r\n");
    wire.sync();
}

#[test]
fn p18_connections_are_counted() {
    let broker = start(Config { max_connections: 2, ..Config::default() });
    let mut first = Wire::quiet(broker.address);
    let _second = Wire::quiet(broker.address);
    let mut third = Wire::open(broker.address);
    third.hear("-ERR 'maximum connections exceeded'\r\n");
    third.closed();
    first.sync();
    drop(first);
    let end = Instant::now() + PATIENCE;
    loop {
        let mut again = Wire::open(broker.address);
        again.say(format!("{QUIET}PING\r\n"));
        let line = again.line();
        if line == "PONG\r\n" {
            break;
        }
        assert!(Instant::now() < end, "a place that is left is given to the next: {line}");
    }
    assert!(broker.counters.totals().refused >= 1);
}

#[test]
fn p18_the_silent_are_asked_and_then_closed_as_stale() {
    let broker = start(Config { ping_interval: Duration::from_millis(100), ping_max: 2, ..Config::default() });
    let mut wire = Wire::open(broker.address);
    wire.hear("PING\r\n");
    // Whoever answers stays, for longer than it takes to be given up.
    for _ in 0..4 {
        wire.say("PONG\r\n");
        wire.hear("PING\r\n");
    }
    wire.hear("PING\r\n-ERR 'Stale Connection'\r\n");
    wire.closed();
    assert_eq!(broker.counters.totals().stale, 1);
}

#[test]
fn p19_passwords_and_tokens() {
    let users = Auth::Users(vec![User::password("ann", "s3cret")]);
    let broker = start(Config { auth: users, ..Config::default() });
    let mut wire = Wire::open(broker.address);
    assert_eq!(wire.info["auth_required"], true);
    wire.say("CONNECT {\"verbose\":false,\"user\":\"ann\",\"pass\":\"s3cret\"}\r\n");
    wire.sync();
    for say in [
        "CONNECT {\"user\":\"ann\",\"pass\":\"wrong\"}\r\n",
        "CONNECT {}\r\n",
        "PING\r\n",
        "SUB > 1\r\n",
        "PUB a 1000000\r\n",
    ] {
        let mut wire = Wire::open(broker.address);
        wire.say(say);
        wire.hear("-ERR 'Authorization Violation'\r\n");
        wire.closed();
    }
    let broker = start(Config { auth: Auth::Token("t0ken".into()), ..Config::default() });
    let mut wire = Wire::open(broker.address);
    wire.say("CONNECT {\"verbose\":false,\"auth_token\":\"t0ken\"}\r\n");
    wire.sync();
    let mut wire = Wire::open(broker.address);
    wire.say("CONNECT {\"auth_token\":\"other\"}\r\n");
    wire.hear("-ERR 'Authorization Violation'\r\n");
    wire.closed();
}

#[test]
fn p19_an_nkey_user_signs_the_nonce() {
    use base64::Engine as _;
    let pair = nkeys::KeyPair::new_user();
    let auth = Auth::Users(vec![User::nkey(pair.public_key())]);
    let broker = start(Config { auth, ..Config::default() });
    let mut wire = Wire::open(broker.address);
    let nonce = wire.info["nonce"].as_str().unwrap().to_owned();
    let sign = |nonce: &str| {
        let signature = pair.sign(nonce.as_bytes()).unwrap();
        base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(signature)
    };
    let connect = |signature: String| {
        format!("CONNECT {{\"verbose\":false,\"nkey\":\"{}\",\"sig\":\"{signature}\"}}\r\n", pair.public_key())
    };
    wire.say(connect(sign(&nonce)));
    wire.sync();
    let mut other = Wire::open(broker.address);
    assert_ne!(other.info["nonce"], nonce);
    other.say(connect(sign(&nonce)));
    other.hear("-ERR 'Authorization Violation'\r\n");
    other.closed();
}

#[test]
fn p19_credentials_must_come_in_time() {
    let auth = Auth::Token("t".into());
    let broker = start(Config { auth, auth_timeout: Duration::from_millis(150), ..Config::default() });
    let mut wire = Wire::open(broker.address);
    wire.hear("-ERR 'Authentication Timeout'\r\n");
    wire.closed();
    // One that trickles a CONNECT for ever is no better.
    let mut wire = Wire::open(broker.address);
    wire.say("CONNECT {\"auth_token\"");
    wire.hear("-ERR 'Authentication Timeout'\r\n");
    wire.closed();
}

#[test]
fn p21_lame_duck_announces_then_lets_go() {
    let lame_duck = LameDuck { grace: Duration::from_secs(2), spread: Duration::from_secs(2) };
    let mut broker = start(Config { lame_duck, ..Config::default() });
    let mut wires: Vec<Wire> = (0..4).map(|_| Wire::quiet(broker.address)).collect();
    let address = broker.address;
    let begin = Instant::now();
    broker.ask(Shutdown::LameDuck);
    for wire in &mut wires {
        let info: serde_json::Value = serde_json::from_str(wire.line().strip_prefix("INFO ").unwrap()).unwrap();
        assert_eq!(info["ldm"], true);
    }
    // Still served in the time of grace, but nobody new.
    wires[0].sync();
    assert!(TcpStream::connect(address).is_err(), "nobody is let in any more");
    let mut times: Vec<Duration> = wires
        .into_iter()
        .map(|mut wire| {
            thread::spawn(move || {
                wire.closed();
                begin.elapsed()
            })
        })
        .collect::<Vec<_>>()
        .into_iter()
        .map(|thread| thread.join().unwrap())
        .collect();
    times.sort();
    assert!(times[0] >= Duration::from_secs(2), "{times:?}");
    assert!(times[3] - times[0] >= Duration::from_millis(200), "spread out: {times:?}");
    broker.ended();
}

#[test]
fn a_drain_loses_nothing_that_was_received() {
    let mut broker = plain();
    let mut subscriber = Wire::quiet(broker.address);
    let mut publisher = Wire::quiet(broker.address);
    subscriber.say("SUB a 1\r\n");
    subscriber.sync();
    publisher.say("PUB a 100\r\n".to_owned() + &"x".repeat(100) + "\r\n");
    publisher.say(("PUB a 100\r\n".to_owned() + &"x".repeat(100) + "\r\n").repeat(20_000));
    broker.ask(Shutdown::Drain);
    let mut all = Vec::new();
    subscriber.stream.read_to_end(&mut all).unwrap();
    broker.ended();
    let message = "MSG a 1 100\r\n".to_owned() + &"x".repeat(100) + "\r\n";
    let text = String::from_utf8(all).unwrap();
    let messages = text.matches("MSG a 1 100\r\n").count();
    assert!(messages > 0);
    // The announcement comes in between; the rest is whole messages, none cut short.
    let (before, after) = text.split_once("INFO ").expect("the end is announced");
    let after = after.split_once("\r\n").unwrap().1;
    assert_eq!(format!("{before}{after}"), message.repeat(messages));
}

#[test]
fn p22_order_is_kept_and_a_pong_is_a_barrier() {
    let broker = plain();
    let mut subscriber = Wire::quiet(broker.address);
    subscriber.say("SUB a 1\r\nSUB b.* 2\r\n");
    subscriber.sync();
    let mut publisher = Wire::quiet(broker.address);
    let mut expected = String::new();
    for n in 0..20_000 {
        let (subject, sid) = if n % 7 == 0 { ("b.x", 2) } else { ("a", 1) };
        let body = format!("{n:06}");
        publisher.say(format!("PUB {subject} 6\r\n{body}\r\n"));
        expected += &format!("MSG {subject} {sid} 6\r\n{body}\r\n");
    }
    publisher.sync();
    subscriber.hear(expected);
    // What was acknowledged to one connection is known to every other.
    let mut late = Wire::quiet(broker.address);
    for n in 0..200 {
        late.say(format!("SUB c.{n} {n}\r\n"));
        late.sync();
        publisher.say(format!("PUB c.{n} 1\r\nx\r\n"));
        late.hear(format!("MSG c.{n} {n} 1\r\nx\r\n"));
    }
}

#[test]
fn a_publish_may_be_split_anywhere() {
    let broker = plain();
    let head = "NATS/1.0\r\nBar: Baz\r\n\r\n";
    let stream =
        format!("SUB a q 1\r\nPUB a r 5\r\nhello\r\nHPUB a 22 24\r\n{head}hi\r\nUNSUB 1 3\r\nPUB a 0\r\n\r\nPING\r\n");
    let answer = format!("MSG a 1 r 5\r\nhello\r\nHMSG a 1 22 24\r\n{head}hi\r\nMSG a 1 0\r\n\r\nPONG\r\n");
    for cut in 1..stream.len() {
        let mut wire = Wire::quiet(broker.address);
        wire.say(&stream[..cut]);
        // Long enough to be read as a piece of its own.
        thread::sleep(Duration::from_millis(2));
        wire.say(&stream[cut..]);
        wire.hear(&answer);
    }
    let mut wire = Wire::quiet(broker.address);
    for byte in stream.as_bytes() {
        wire.say([*byte]);
    }
    wire.hear(&answer);
}

#[test]
fn pipelined_operations_are_served_in_order() {
    quiet(
        "SUB a 1\r\nPUB a 1\r\n1\r\nPING\r\nPUB a 1\r\n2\r\nUNSUB 1\r\nPUB a 1\r\n3\r\nSUB a 2\r\nPUB a 1\r\n4\r\n",
        "MSG a 1 1\r\n1\r\nPONG\r\nMSG a 1 1\r\n2\r\nMSG a 2 1\r\n4\r\n",
    );
}

#[test]
fn a_run_of_messages_of_every_size_arrives_whole() {
    let broker = plain();
    let mut subscribers: Vec<Wire> = (0..3)
        .map(|_| {
            let mut wire = Wire::quiet(broker.address);
            wire.say("SUB a.> 1\r\n");
            wire.sync();
            wire
        })
        .collect();
    let mut sent = Vec::new();
    let mut expected = Vec::new();
    for n in 0..400usize {
        let size = n * n % 70_000;
        let body = vec![b'a' + (n % 26) as u8; size];
        sent.extend_from_slice(&[format!("PUB a.b {size}\r\n").as_bytes(), &body, b"\r\n"].concat());
        expected.extend_from_slice(&[format!("MSG a.b 1 {size}\r\n").as_bytes(), &body, b"\r\n"].concat());
    }
    let mut publisher = Wire::quiet(broker.address);
    let writer = thread::spawn(move || {
        publisher.say(&sent);
        publisher.sync();
    });
    for wire in &mut subscribers {
        let mut heard = vec![0; expected.len()];
        wire.stream.read_exact(&mut heard).unwrap();
        assert!(heard == expected, "every byte in its place");
        wire.silent();
    }
    writer.join().unwrap();
    assert_eq!(broker.counters.totals().messages_in, 400);
    assert_eq!(broker.counters.totals().messages_out, 1200);
}

/// A subscriber that does not read, and a publisher that is sending `count` numbered messages of
/// 1,000 bytes.
fn overwhelm(policy: SlowConsumer, count: usize) -> (Running, Wire, Wire) {
    let broker = start(Config {
        slow_consumer: policy,
        max_pending: 256 * 1024,
        write_deadline: Duration::from_secs(8),
        ..Config::default()
    });
    let mut subscriber = Wire::quiet(broker.address);
    subscriber.say("SUB a 1\r\n");
    subscriber.sync();
    let publisher = Wire::quiet(broker.address);
    let mut batch = String::new();
    for n in 0..count {
        batch += &format!("PUB a 1000\r\n{n:0>1000}\r\n");
    }
    let mut copy = Wire { stream: publisher.stream.try_clone().unwrap(), info: serde_json::Value::Null };
    thread::spawn(move || copy.say(batch));
    (broker, subscriber, publisher)
}

/// More than loopback sockets buffer.
const FLOOD: usize = 30_000;

fn eventually(what: &str, done: impl Fn() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !done() {
        assert!(Instant::now() < end, "{what}");
        thread::sleep(Duration::from_millis(5));
    }
}

/// The numbers of the whole messages that arrive until the end or until the last one.
fn numbers(subscriber: &mut Wire, last: usize) -> Vec<usize> {
    let frame = "MSG a 1 1000\r\n".len() + 1002;
    let mut found = Vec::new();
    let mut message = vec![0; frame];
    while found.last() != Some(&last) && subscriber.stream.read_exact(&mut message).is_ok() {
        assert!(message.starts_with(b"MSG a 1 1000\r\n") && message.ends_with(b"\r\n"), "frames stay whole");
        found.push(std::str::from_utf8(&message[14..1014]).unwrap().parse().unwrap());
    }
    found
}

#[test]
fn p23_disconnect_closes_the_slow_and_not_the_fast() {
    let (broker, mut subscriber, mut publisher) = overwhelm(SlowConsumer::Disconnect, FLOOD);
    eventually("the slow consumer is closed", || broker.counters.slow_consumers.load(Ordering::Relaxed) == 1);
    let got = numbers(&mut subscriber, FLOOD - 1);
    assert!(got.len() < FLOOD && got.iter().copied().eq(0..got.len()), "a prefix, in order");
    eventually("the publisher is served to the end", || {
        broker.counters.messages_in.load(Ordering::Relaxed) == FLOOD as u64
    });
    publisher.sync();
    assert!(broker.counters.stalls.load(Ordering::Relaxed) > 0, "it was held back above the high-water mark");
}

#[test]
fn p23_drop_newest_keeps_the_connection_and_counts() {
    let (broker, mut subscriber, mut publisher) = overwhelm(SlowConsumer::DropNewest, FLOOD);
    eventually("everything is taken from the publisher", || {
        broker.counters.messages_in.load(Ordering::Relaxed) == FLOOD as u64
    });
    publisher.sync();
    let dropped = broker.counters.dropped.load(Ordering::Relaxed) as usize;
    assert!(dropped > 0);
    let last = format!("PUB a 1000\r\n{:0>1000}\r\n", FLOOD);
    let reader = thread::spawn(move || numbers(&mut subscriber, FLOOD));
    // Once there is room again, new messages come through.
    let end = Instant::now() + PATIENCE;
    while !reader.is_finished() {
        assert!(Instant::now() < end);
        publisher.say(&last);
        thread::sleep(Duration::from_millis(10));
    }
    let got = reader.join().unwrap();
    assert!(got.windows(2).all(|pair| pair[0] < pair[1]), "in order, each once");
    assert!(got.len() + dropped > FLOOD, "every message is delivered or counted: {} + {dropped}", got.len());
    assert_eq!(got.iter().filter(|n| **n < FLOOD).count() + dropped.min(FLOOD), FLOOD);
    assert_eq!(broker.counters.slow_consumers.load(Ordering::Relaxed), 0);
}

#[test]
fn p23_block_loses_nothing() {
    let (broker, mut subscriber, mut publisher) = overwhelm(SlowConsumer::Block, FLOOD);
    eventually("the publisher is held back", || broker.counters.stalls.load(Ordering::Relaxed) > 0);
    thread::sleep(Duration::from_millis(100));
    assert!(broker.counters.messages_in.load(Ordering::Relaxed) < FLOOD as u64, "and waits");
    let got = numbers(&mut subscriber, FLOOD - 1);
    assert!(got.into_iter().eq(0..FLOOD));
    eventually("everything is in", || broker.counters.messages_in.load(Ordering::Relaxed) == FLOOD as u64);
    publisher.sync();
    assert_eq!(broker.counters.totals().dropped, 0);
}

#[test]
fn p23_block_gives_up_a_consumer_that_reads_nothing_for_the_write_deadline() {
    let broker = start(Config {
        slow_consumer: SlowConsumer::Block,
        max_pending: 64 * 1024,
        write_deadline: Duration::from_millis(300),
        ..Config::default()
    });
    let mut subscriber = Wire::quiet(broker.address);
    subscriber.say("SUB a 1\r\n");
    subscriber.sync();
    let mut publisher = Wire::quiet(broker.address);
    publisher.say(("PUB a 1000\r\n".to_owned() + &"x".repeat(1000) + "\r\n").repeat(FLOOD));
    publisher.sync();
    assert_eq!(broker.counters.totals().slow_consumers, 1);
}

#[test]
fn a_client_that_asks_and_never_reads_is_given_up() {
    let broker = start(Config { slow_consumer: SlowConsumer::DropNewest, max_pending: 64 * 1024, ..Config::default() });
    let mut wire = Wire::quiet(broker.address);
    wire.stream.set_write_timeout(Some(PATIENCE)).unwrap();
    let pings = "PING\r\n".repeat(100_000);
    let end = Instant::now() + PATIENCE;
    while wire.stream.write_all(pings.as_bytes()).is_ok() {
        assert!(Instant::now() < end, "its answers must not pile up without end");
    }
    assert_eq!(broker.counters.totals().slow_consumers, 1);
}

#[test]
fn what_a_connection_leaves_behind_is_taken_away() {
    let broker = plain();
    for _ in 0..20 {
        let mut wire = Wire::quiet(broker.address);
        wire.say("SUB a.* 1\r\nSUB b q 2\r\nSUB c 3\r\nUNSUB 3 5\r\n");
        wire.sync();
    }
    eventually("connections and subscriptions are gone", || {
        let totals = broker.counters.totals();
        totals.open == 0 && totals.subscriptions == 0
    });
    assert_eq!(broker.counters.totals().connections, 20);
}

#[test]
fn a_second_connect_changes_the_options() {
    quiet("CONNECT {\"verbose\":true}\r\nSUB a 1\r\nCONNECT {\"verbose\":false}\r\nSUB b 2\r\n", "+OK\r\n+OK\r\n");
}

#[test]
fn many_publishers_many_subscribers_nothing_lost_nothing_swapped() {
    const PUBLISHERS: usize = 4;
    const EACH: usize = 20_000;
    // A small limit, so that every way out is taken: direct, queued behind another, and through the
    // keeper.
    let broker = start(Config { slow_consumer: SlowConsumer::Block, max_pending: 64 * 1024, ..Config::default() });
    let address = broker.address;
    let readers: Vec<_> = (0..3)
        .map(|reader| {
            let mut wire = Wire::quiet(address);
            wire.say("SUB m.* 1\r\n");
            wire.sync();
            thread::spawn(move || {
                let mut next = [0; PUBLISHERS];
                let mut message = vec![0; "MSG m.0 1 60\r\n".len() + 62];
                for n in 0..PUBLISHERS * EACH {
                    wire.stream.read_exact(&mut message).unwrap();
                    let text = std::str::from_utf8(&message).unwrap();
                    let from: usize = text[6..7].parse().unwrap();
                    assert_eq!(text, format!("MSG m.{from} 1 60\r\n{:060}\r\n", next[from]));
                    next[from] += 1;
                    if reader == 0 && n % 1000 == 0 {
                        thread::sleep(Duration::from_millis(1));
                    }
                }
                wire.silent();
            })
        })
        .collect();
    let writers: Vec<_> = (0..PUBLISHERS)
        .map(|publisher| {
            thread::spawn(move || {
                let mut wire = Wire::quiet(address);
                let mut batch = String::new();
                for n in 0..EACH {
                    batch += &format!("PUB m.{publisher} 60\r\n{n:060}\r\n");
                    if n % 97 == 0 {
                        wire.say(std::mem::take(&mut batch));
                    }
                }
                wire.say(batch);
                wire.sync();
            })
        })
        .collect();
    for thread in writers.into_iter().chain(readers) {
        thread.join().unwrap();
    }
    let totals = broker.counters.totals();
    assert_eq!((totals.messages_in, totals.messages_out), ((PUBLISHERS * EACH) as u64, (3 * PUBLISHERS * EACH) as u64));
    assert_eq!((totals.dropped, totals.slow_consumers), (0, 0));
}

#[test]
fn subscriptions_come_and_go_under_load() {
    let broker = plain();
    let address = broker.address;
    let mut steady = Wire::quiet(address);
    steady.say("SUB a 1\r\n");
    steady.sync();
    let churn = thread::spawn(move || {
        for n in 0..300 {
            let mut wire = Wire::quiet(address);
            wire.say(format!("SUB a q {n}\r\nSUB a.{n} 1\r\nSUB > 7\r\nUNSUB {n} 2\r\n"));
            wire.say("PING\r\n");
            let mut byte = [0];
            wire.stream.read_exact(&mut byte).unwrap();
        }
    });
    let mut publisher = Wire::quiet(address);
    let mut count = 0;
    while !churn.is_finished() || count < 20_000 {
        let batch: String = (count..count + 100).map(|n| format!("PUB a 8\r\n{n:08}\r\n")).collect();
        publisher.say(batch);
        publisher.sync();
        let expected: String = (count..count + 100).map(|n| format!("MSG a 1 8\r\n{n:08}\r\n")).collect();
        steady.hear(expected);
        count += 100;
    }
    churn.join().unwrap();
    eventually("what came has gone", || broker.counters.totals().subscriptions == 1);
}

#[test]
fn hostile_connections_do_not_disturb_the_others() {
    let broker = plain();
    let mut good = Wire::quiet(broker.address);
    good.say("SUB a 1\r\n");
    good.sync();
    let mut state = 1u64;
    let mut random = move |below: u64| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) % below
    };
    let seeds = [
        "PUB b 5\r\nhello\r\n",
        "SUB b.> 1\r\n",
        "HPUB b 12 14\r\nNATS/1.0\r\n\r\nhi\r\n",
        "CONNECT {\"echo\":false}\r\n",
        "UNSUB 1 1\r\n",
        "PING\r\n",
    ];
    for _ in 0..300 {
        let mut noise: Vec<u8> = (0..20).flat_map(|_| seeds[random(6) as usize].bytes().collect::<Vec<_>>()).collect();
        for _ in 0..random(4) {
            let at = random(noise.len() as u64) as usize;
            noise[at] = random(256) as u8;
        }
        let mut bad = Wire::open(broker.address);
        // It may be closed while it still talks.
        let _ = bad.stream.write_all(&noise);
    }
    good.say("PUB a 2\r\nhi\r\n");
    good.hear("MSG a 1 2\r\nhi\r\n");
    eventually("every bad connection is gone", || broker.counters.totals().open == 1);
    assert!(broker.counters.totals().protocol_errors > 50);
    assert_eq!(broker.counters.totals().subscriptions, 1);
}
