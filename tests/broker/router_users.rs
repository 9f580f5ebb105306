//! Who may do what at the router: compared, word for word, with a real nats-server that is told the
//! same.

use std::io::{Read, Write};
use std::sync::Arc;

use msgbench::broker::{Auth, Config, Credential, Permissions, Subjects, TlsFiles, User};

use crate::real::{Bare, Real};
use crate::router_support::start;

const USERS: &str = r#"
[[user]]
name = "ann"
password = "pw"
publish = { allow = ["orders.>", "_INBOX.>"], deny = ["orders.secret"] }
subscribe = { allow = ["orders.*", "work crew", "_INBOX.>"], deny = ["orders.private"] }

[[user]]
name = "bob"
password = "pw"
publish = { deny = ["closed.>"] }
subscribe = { deny = ["orders.private", "queue q"] }

[[user]]
name = "root"
password = "pw"
"#;

const CONFIG: &str = r#"
authorization { users = [
  { user: ann, password: pw, permissions: {
    publish: { allow: ["orders.>", "_INBOX.>"], deny: ["orders.secret"] }
    subscribe: { allow: ["orders.*", "work crew", "_INBOX.>"], deny: ["orders.private"] } } }
  { user: bob, password: pw, permissions: {
    publish: { deny: ["closed.>"] }, subscribe: { deny: ["orders.private", "queue q"] } } }
  { user: root, password: pw }
] }
"#;

fn users(text: &str) -> Auth {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), text).unwrap();
    Auth::Users(msgbench::broker::users::read(file.path()).unwrap())
}

fn connect(user: &str, verbose: bool) -> String {
    format!(
        "CONNECT {{\"verbose\":{verbose},\"pedantic\":false,\"headers\":true,\"no_responders\":true,\"protocol\":1,\
         \"user\":\"{user}\",\"pass\":\"pw\"}}\r\n"
    )
}

/// What is said, and what nats-server 2.15.2 answers; compared with one where there is one.
const EXCHANGES: [(&str, bool, &str, &str); 16] = [
    ("ann", false, "PUB other 2\r\nhi\r\n", "-ERR 'Permissions Violation for Publish to \"other\"'\r\n"),
    (
        "ann",
        false,
        "PUB orders.secret 2\r\nhi\r\n",
        "-ERR 'Permissions Violation for Publish to \"orders.secret\"'\r\n",
    ),
    ("ann", false, "SUB orders.* 1\r\nPUB orders.new 2\r\nhi\r\n", "MSG orders.new 1 2\r\nhi\r\n"),
    (
        "ann",
        false,
        "SUB orders.private 1\r\n",
        "-ERR 'Permissions Violation for Subscription to \"orders.private\"'\r\n",
    ),
    ("ann", false, "SUB work 1\r\n", "-ERR 'Permissions Violation for Subscription to \"work\"'\r\n"),
    ("ann", false, "SUB work crew 1\r\n", ""),
    (
        "ann",
        false,
        "SUB work others 1\r\n",
        "-ERR 'Permissions Violation for Subscription to \"work\" using queue \"others\"'\r\n",
    ),
    // What is denied does not come through a wider subscription either, and then nobody is there to
    // answer.
    ("ann", false, "SUB orders.* 1\r\nPUB orders.private 2\r\nhi\r\n", ""),
    (
        "ann",
        false,
        "SUB _INBOX.* 2\r\nSUB orders.* 1\r\nPUB orders.private _INBOX.x 2\r\nhi\r\n",
        "HMSG _INBOX.x 2 46 46\r\nNATS/1.0 503\r\nNats-Subject: orders.private\r\n\r\n\r\n",
    ),
    // Refused, a message is not acknowledged.
    ("ann", true, "PUB other 2\r\nhi\r\n", "-ERR 'Permissions Violation for Publish to \"other\"'\r\n"),
    ("ann", true, "SUB other 1\r\n", "-ERR 'Permissions Violation for Subscription to \"other\"'\r\n"),
    (
        "bob",
        false,
        "SUB queue q 1\r\n",
        "-ERR 'Permissions Violation for Subscription to \"queue\" using queue \"q\"'\r\n",
    ),
    ("bob", false, "SUB queue 1\r\nSUB queue r 2\r\n", ""),
    ("bob", false, "PUB closed.x 2\r\nhi\r\n", "-ERR 'Permissions Violation for Publish to \"closed.x\"'\r\n"),
    ("bob", false, "SUB > 1\r\nPUB a\"b 2\r\nhi\r\n", "MSG a\"b 1 2\r\nhi\r\n"),
    ("ann", false, "PUB a\"\\b 2\r\nhi\r\n", "-ERR 'Permissions Violation for Publish to \"a\\\"\\\\b\"'\r\n"),
];

#[test]
fn permissions_are_kept_and_refused_in_the_words_of_nats_server() {
    let broker = start(Config { auth: users(USERS), ..Config::default() });
    let real = Real::start(CONFIG);
    for (user, verbose, say, expected) in EXCHANGES {
        let ask = |address| {
            let mut wire = Bare::open(address);
            wire.ask(&connect(user, verbose));
            wire.ask(say)
        };
        assert_eq!(ask(broker.address), expected, "{user}: {say}");
        if let Some(real) = &real {
            assert_eq!(ask(real.address), expected, "nats-server, {user}: {say}");
        }
    }
    // nats-server 2.15.2 takes `>` for one more token here, and so lets more through than
    // `orders.*` allows.
    let mut wire = Bare::open(broker.address);
    wire.ask(&connect("ann", false));
    assert_eq!(wire.ask("SUB orders.> 1\r\n"), "-ERR 'Permissions Violation for Subscription to \"orders.>\"'\r\n");
    let refused = 1 + EXCHANGES.iter().filter(|(_, _, _, answer)| answer.contains("Violation")).count() as u64;
    assert_eq!(broker.counters.totals().violations, refused);
}

#[test]
fn what_is_denied_to_one_reaches_the_others() {
    let broker = start(Config { auth: users(USERS), ..Config::default() });
    let open = |user: &str| {
        let mut wire = Bare::open(broker.address);
        assert_eq!(wire.ask(&connect(user, false)), "");
        wire
    };
    let (mut ann, mut root, mut publisher) = (open("ann"), open("root"), open("root"));
    assert_eq!(ann.ask("SUB orders.* 1\r\n"), "");
    assert_eq!(root.ask("SUB orders.* 1\r\n"), "");
    // Often enough that the route is remembered and the messages run.
    let say = "PUB orders.private 2\r\nhi\r\n".repeat(100) + "PUB orders.new 2\r\nho\r\n";
    assert_eq!(publisher.ask(&say), "");
    assert_eq!(ann.ask(""), "MSG orders.new 1 2\r\nho\r\n");
    let expected = "MSG orders.private 1 2\r\nhi\r\n".repeat(100) + "MSG orders.new 1 2\r\nho\r\n";
    assert_eq!(root.ask(""), expected);
}

#[test]
fn whoever_presents_nothing_is_the_anonymous_user() {
    let text = format!("anonymous = \"ann\"\n{USERS}");
    let broker = start(Config { auth: users(&text), ..Config::default() });
    let real = Real::start(&format!("no_auth_user: ann\n{CONFIG}"));
    for address in [Some(broker.address), real.as_ref().map(|r| r.address)].into_iter().flatten() {
        let mut wire = Bare::open(address);
        assert_eq!(wire.info.get("auth_required"), None);
        assert_eq!(wire.ask("CONNECT {\"verbose\":false}\r\n"), "");
        assert!(wire.ask("PUB other 2\r\nhi\r\n").starts_with("-ERR 'Permissions Violation"));
        let mut wire = Bare::open(address);
        let answer = wire.ask("CONNECT {\"verbose\":false,\"user\":\"ann\",\"pass\":\"wrong\"}\r\n");
        assert_eq!(answer, "-ERR 'Authorization Violation'\r\nclosed");
    }
}

/// A connection that asks for its own messages back, or does not, and for word of nobody listening.
fn requester(echo: bool) -> String {
    format!("CONNECT {{\"verbose\":false,\"headers\":true,\"no_responders\":true,\"echo\":{echo},\"protocol\":1}}\r\n")
}

#[test]
fn own_interest_counts_for_a_requester_that_takes_its_own_messages_alone() {
    let status = |subject: &str| {
        let length = 32 + subject.len();
        format!("HMSG in 1 {length} {length}\r\nNATS/1.0 503\r\nNats-Subject: {subject}\r\n\r\n\r\n")
    };
    let heard = |subject: &str, sid: u32| format!("MSG {subject} {sid} in 2\r\nhi\r\n");
    let ask = |subject: &str| format!("PUB {subject} in 2\r\nhi\r\n");
    // A subject for each, as the subscriptions of a connection that ends stay a moment longer.
    let exchanges = [
        (false, "SUB in 1\r\nSUB asked.1 2\r\n".to_owned() + &ask("asked.1"), status("asked.1")),
        (false, "SUB in 1\r\nSUB asked.2 q 2\r\n".to_owned() + &ask("asked.2"), status("asked.2")),
        (false, "SUB in 1\r\nSUB *.3 2\r\n".to_owned() + &ask("asked.3"), status("asked.3")),
        // A remembered route answers the same.
        (false, "SUB in 1\r\nSUB asked.4 2\r\n".to_owned() + &ask("asked.4").repeat(5), status("asked.4").repeat(5)),
        // The inbox itself is no responder either, whatever it is subscribed as.
        (false, "SUB in 1\r\n".to_owned() + &ask("in"), status("in")),
        (false, "SUB > 1\r\n".to_owned() + &ask("asked.5"), status("asked.5")),
        // A member of a queue group is not told.
        (false, "SUB in q 1\r\n".to_owned() + &ask("asked.6"), String::new()),
        (true, "SUB in 1\r\nSUB asked.7 2\r\n".to_owned() + &ask("asked.7"), heard("asked.7", 2)),
        (true, "SUB in 1\r\nSUB asked.8 q 2\r\n".to_owned() + &ask("asked.8").repeat(3), heard("asked.8", 2).repeat(3)),
        (true, "SUB > 1\r\n".to_owned() + &ask("asked.9"), heard("asked.9", 1)),
        // Interest that has had all it asked for is none.
        (
            true,
            "SUB in 1\r\nSUB asked.10 2\r\nUNSUB 2 2\r\n".to_owned() + &ask("asked.10").repeat(4),
            heard("asked.10", 2).repeat(2) + &status("asked.10").repeat(2),
        ),
    ];
    let broker = start(Config::default());
    // The detour that faults need answers the same.
    let faults = msgbench::faults::Faults::default().with_flags(&["service=fixed:1us".to_owned()]).unwrap();
    let fault_options = msgbench::broker::FaultOptions { faults, ..Default::default() };
    let faulty = start(Config { fault_options, ..Config::default() });
    let real = Real::start("");
    let addresses =
        [(Some(broker.address), true), (Some(faulty.address), false), (real.as_ref().map(|r| r.address), true)];
    for (address, all) in addresses {
        let Some(address) = address else { continue };
        // What takes the detour comes later than the PONG, and its interest ends later.
        for (echo, say, expected) in exchanges.iter().filter(|(echo, ..)| all || !echo) {
            let mut wire = Bare::open(address);
            assert_eq!(wire.ask(&requester(*echo)), "");
            assert_eq!(&wire.ask(say), expected, "{address}: {say}");
        }
    }
}

#[test]
fn interest_of_another_connection_counts() {
    let broker = start(Config::default());
    let real = Real::start("");
    for address in [Some(broker.address), real.as_ref().map(|r| r.address)].into_iter().flatten() {
        let (mut one, mut other) = (Bare::open(address), Bare::open(address));
        one.ask(&(requester(false) + "SUB in 1\r\nSUB a 2\r\n"));
        other.ask(&(requester(false) + "SUB a 3\r\n"));
        assert_eq!(one.ask("PUB a in 2\r\nhi\r\n"), "");
        assert_eq!(other.ask(""), "MSG a 3 in 2\r\nhi\r\n");
        other.ask("UNSUB 3\r\n");
        assert_eq!(one.ask("PUB a in 2\r\nhi\r\n"), "HMSG in 1 33 33\r\nNATS/1.0 503\r\nNats-Subject: a\r\n\r\n\r\n");
    }
}

#[test]
fn a_certificate_makes_a_user() {
    let dir = tempfile::tempdir().unwrap();
    let write = |name: &str, text: String| {
        let path = dir.path().join(name);
        std::fs::write(&path, text).unwrap();
        path
    };
    let mut params = rcgen::CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let key = rcgen::KeyPair::generate().unwrap();
    let ca = params.self_signed(&key).unwrap();
    let issuer = rcgen::Issuer::new(params, key);
    let signed = |name: &str, person: &str| {
        let mut params = rcgen::CertificateParams::new(vec![name.to_owned()]).unwrap();
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(rcgen::DnType::OrganizationName, "Acme");
        params.distinguished_name.push(rcgen::DnType::CommonName, person);
        let key = rcgen::KeyPair::generate().unwrap();
        let cert = params.signed_by(&key, &issuer).unwrap();
        (write(&format!("{person}.pem"), cert.pem()), write(&format!("{person}.key"), key.serialize_pem()))
    };
    let ca = write("ca.pem", ca.pem());
    let (cert, key) = signed("localhost", "server");
    let (ann, eve) = (signed("ann.example", "ann"), signed("eve.example", "eve"));
    let publish = Subjects { allow: Some(vec!["mine".to_owned()]), deny: Vec::new() };
    let permissions = Some(Arc::new(Permissions { publish, ..Permissions::default() }));
    let user = User { permissions, ..Credential::Certificate("CN=ann,O=Acme".to_owned()).into() };
    let tls = Some(TlsFiles { cert, key, client_ca: Some(ca.clone()), first: false });
    let optional = start(Config { tls: tls.clone(), tls_optional: true, ..Config::default() });
    let broker = start(Config { auth: Auth::Users(vec![user]), tls, ..Config::default() });
    // A client that wants no encryption goes without where it may.
    let mut wire = Bare::open(optional.address);
    assert_eq!((&wire.info["tls_available"], wire.info.get("tls_required")), (&true.into(), None));
    assert_eq!(wire.ask("CONNECT {\"verbose\":false}\r\nSUB a 1\r\nPUB a 1\r\nx\r\n"), "MSG a 1 1\r\nx\r\n");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let connect = |address: std::net::SocketAddr, (cert, key): (std::path::PathBuf, std::path::PathBuf)| {
        let address = format!("tls://localhost:{}", address.port());
        let options = async_nats::ConnectOptions::new().add_root_certificates(ca.clone()).require_tls(true);
        options.add_client_certificate(cert, key).connect(address)
    };
    runtime.block_on(async {
        let client = connect(optional.address, ann.clone()).await.unwrap();
        client.flush().await.unwrap();
        let client = connect(broker.address, ann).await.unwrap();
        client.publish("other", "x".into()).await.unwrap();
        client.publish("mine", "x".into()).await.unwrap();
        client.flush().await.unwrap();
        assert!(connect(broker.address, eve).await.is_err(), "a certificate that is no user's is turned away");
    });
    let end = std::time::Instant::now() + std::time::Duration::from_secs(60);
    while broker.counters.totals().violations == 0 {
        assert!(std::time::Instant::now() < end, "the refused message is counted");
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
}

/// A client that speaks in frames: its words in a masked frame each, and the payload of what comes
/// back.
struct Framed(std::net::TcpStream);

impl Framed {
    fn open(address: std::net::SocketAddr) -> Self {
        let mut stream = std::net::TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(std::time::Duration::from_secs(60))).unwrap();
        let head = "GET / HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
                    Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n";
        stream.write_all(head.as_bytes()).unwrap();
        let mut answer = Vec::new();
        while !answer.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            stream.read_exact(&mut byte).unwrap();
            answer.push(byte[0]);
        }
        let answer = String::from_utf8(answer).unwrap();
        assert!(answer.starts_with("HTTP/1.1 101 ") && answer.contains("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="), "{answer}");
        Self(stream)
    }

    fn say(&mut self, kind: u8, words: &[u8]) {
        let mask = [1, 2, 3, 4];
        let mut frame = vec![0x80 | kind, 0xff];
        frame.extend_from_slice(&(words.len() as u64).to_be_bytes());
        if words.len() < 126 {
            frame.truncate(1);
            frame.push(0x80 | words.len() as u8);
        }
        frame.extend_from_slice(&mask);
        frame.extend(words.iter().zip(mask.iter().cycle()).map(|(word, mask)| word ^ mask));
        self.0.write_all(&frame).unwrap();
    }

    fn hear(&mut self) -> (u8, Vec<u8>) {
        let mut head = [0; 2];
        self.0.read_exact(&mut head).unwrap();
        let more = match head[1] {
            126 => 2,
            127 => 8,
            _ => 0,
        };
        let mut size = [0; 8];
        self.0.read_exact(&mut size[8 - more..]).unwrap();
        let len = if more == 0 { u64::from(head[1]) } else { u64::from_be_bytes(size) };
        let mut payload = vec![0; usize::try_from(len).unwrap()];
        self.0.read_exact(&mut payload).unwrap();
        (head[0] & 15, payload)
    }

    /// Everything up to something.
    fn until(&mut self, end: &[u8]) -> Vec<u8> {
        let mut heard = Vec::new();
        while !heard.ends_with(end) {
            heard.extend(self.hear().1);
        }
        heard
    }
}

#[test]
fn a_client_may_speak_in_web_socket_frames() {
    let args = ["--listen", "127.0.0.1:0", "--websocket", "127.0.0.1:0", "--format", "json"];
    let process = crate::process::start(&args);
    let at = process.json()["policy"]["websocket"].as_str().unwrap().strip_prefix("ws://").unwrap().parse().unwrap();
    let mut client = Framed::open(at);
    assert!(client.until(b"\r\n").starts_with(b"INFO {"));
    let payload = vec![b'x'; 300_000];
    let mut words = b"CONNECT {\"verbose\":false}\r\nSUB a 1\r\nPUB a 300000\r\n".to_vec();
    words.extend_from_slice(&payload);
    words.extend_from_slice(b"\r\nPING\r\n");
    // Frames end where they like.
    for part in words.chunks(70_000) {
        client.say(2, part);
    }
    let mut expected = b"MSG a 1 300000\r\n".to_vec();
    expected.extend_from_slice(&payload);
    expected.extend_from_slice(b"\r\nPONG\r\n");
    assert!(client.until(b"PONG\r\n") == expected);
    client.say(9, b"are you there");
    assert_eq!(client.hear(), (10, b"are you there".to_vec()));
    client.say(8, &1000u16.to_be_bytes());
    assert_eq!(client.hear().0, 8);
    let mut wrong = std::net::TcpStream::connect(at).unwrap();
    wrong.write_all(b"GET / HTTP/1.1\r\n\r\n").unwrap();
    let mut answer = String::new();
    wrong.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 400 "), "{answer}");
}
