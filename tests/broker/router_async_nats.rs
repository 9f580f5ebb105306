//! The router in the words of the async-nats client.

use std::time::Duration;

use crate::router_support::{Running, start};
use async_nats::{Client, ConnectOptions, Event, HeaderMap, RequestErrorKind};
use futures_util::StreamExt as _;
use msgbench::broker::{Auth, Config, LameDuck, Shutdown, TlsFiles, User};
use tokio::time::timeout;

const PATIENCE: Duration = Duration::from_secs(60);

/// The future's result within a bound.
async fn soon<T>(future: impl Future<Output = T>) -> T {
    timeout(PATIENCE, future).await.expect("in time")
}

fn url(broker: &Running) -> String {
    format!("nats://{}", broker.address)
}

async fn client(broker: &Running) -> Client {
    soon(async_nats::connect(url(broker))).await.unwrap()
}

/// Waits until the server has served everything the client has sent. The client's own `flush` only
/// hands it to the socket; an answer, be it that nobody listens, comes after everything before the
/// request.
async fn settled(client: &Client) {
    let error = soon(client.request("nobody.listens.here", "".into())).await.unwrap_err();
    assert_eq!(error.kind(), RequestErrorKind::NoResponders);
}

#[tokio::test]
async fn publish_and_subscribe_with_wildcards() {
    let broker = start(Config::default());
    let (publisher, subscriber) = (client(&broker).await, client(&broker).await);
    let mut star = subscriber.subscribe("orders.*.new").await.unwrap();
    let mut tail = subscriber.subscribe("orders.>").await.unwrap();
    settled(&subscriber).await;
    for n in 0..1000 {
        publisher.publish(format!("orders.{n}.new"), n.to_string().into()).await.unwrap();
    }
    publisher.publish("orders.end", "".into()).await.unwrap();
    publisher.flush().await.unwrap();
    for n in 0..1000 {
        let (one, two) = (soon(star.next()).await.unwrap(), soon(tail.next()).await.unwrap());
        assert_eq!(one.subject.as_str(), format!("orders.{n}.new"));
        assert_eq!(one.payload, n.to_string());
        assert_eq!(two.payload, one.payload);
    }
    assert_eq!(soon(tail.next()).await.unwrap().subject.as_str(), "orders.end");
}

#[tokio::test]
async fn queue_groups_share_and_each_message_comes_once() {
    let broker = start(Config::default());
    let publisher = client(&broker).await;
    let mut tasks = Vec::new();
    for _ in 0..3 {
        let client = client(&broker).await;
        let mut member = client.queue_subscribe("work", "crew".into()).await.unwrap();
        settled(&client).await;
        tasks.push(tokio::spawn(async move {
            let mut got = Vec::new();
            while let Some(message) = soon(member.next()).await {
                if message.payload.is_empty() {
                    break;
                }
                got.push(std::str::from_utf8(&message.payload).unwrap().parse::<u32>().unwrap());
                if got.len() == 1 {
                    // Keeps the client alive to the end of the task.
                    client.flush().await.unwrap();
                }
            }
            got
        }));
    }
    for n in 0..3000 {
        publisher.publish("work", n.to_string().into()).await.unwrap();
    }
    publisher.flush().await.unwrap();
    // One empty message ends one member; a member that has ended is no longer chosen.
    while tasks.iter().any(|task| !task.is_finished()) {
        publisher.publish("work", "".into()).await.unwrap();
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let mut all = Vec::new();
    for task in tasks {
        let got = task.await.unwrap();
        assert!(got.len() > 500, "a fair share: {}", got.len());
        assert!(got.windows(2).all(|pair| pair[0] < pair[1]), "in order");
        all.extend(got);
    }
    all.sort_unstable();
    assert!(all.into_iter().eq(0..3000));
}

#[tokio::test]
async fn request_reply_and_no_responders() {
    let broker = start(Config::default());
    let (requester, responder) = (client(&broker).await, client(&broker).await);
    let mut requests = responder.subscribe("echo").await.unwrap();
    settled(&responder).await;
    tokio::spawn(async move {
        while let Some(request) = requests.next().await {
            responder.publish(request.reply.unwrap(), request.payload).await.unwrap();
        }
    });
    for n in 0..500 {
        let answer = soon(requester.request("echo", n.to_string().into())).await.unwrap();
        assert_eq!(answer.payload, n.to_string());
    }
    let error = soon(requester.request("nobody", "".into())).await.unwrap_err();
    assert_eq!(error.kind(), RequestErrorKind::NoResponders);
    // The one before, and the one that settled the responder.
    assert_eq!(broker.counters.totals().no_responders, 2);
}

#[tokio::test]
async fn headers_and_large_payloads() {
    let broker = start(Config::default());
    let (publisher, subscriber) = (client(&broker).await, client(&broker).await);
    let mut inbox = subscriber.subscribe("big").await.unwrap();
    settled(&subscriber).await;
    let mut headers = HeaderMap::new();
    headers.insert("Trace", "a1");
    headers.append("Trace", "b2");
    let payload: Vec<u8> = (0..1_000_000u32).map(|n| (n % 251) as u8).collect();
    for _ in 0..20 {
        publisher.publish_with_headers("big", headers.clone(), payload.clone().into()).await.unwrap();
    }
    publisher.flush().await.unwrap();
    for _ in 0..20 {
        let message = soon(inbox.next()).await.unwrap();
        assert_eq!(message.payload, payload);
        let values: Vec<String> = message.headers.unwrap().get_all("Trace").map(ToString::to_string).collect();
        assert_eq!(values, ["a1", "b2"]);
    }
    let error = publisher.publish("big", vec![0; (1 << 20) + 1].into()).await;
    assert!(error.is_err(), "the client knows the limit from INFO");
}

#[tokio::test]
async fn unsubscribe_after_and_drain() {
    let broker = start(Config::default());
    let (publisher, subscriber) = (client(&broker).await, client(&broker).await);
    let mut some = subscriber.subscribe("some").await.unwrap();
    some.unsubscribe_after(3).await.unwrap();
    let mut rest = subscriber.subscribe("rest").await.unwrap();
    settled(&subscriber).await;
    for _ in 0..10 {
        publisher.publish("some", "x".into()).await.unwrap();
        publisher.publish("rest", "x".into()).await.unwrap();
    }
    publisher.flush().await.unwrap();
    let mut count = 0;
    while soon(some.next()).await.is_some() {
        count += 1;
    }
    assert_eq!(count, 3);
    subscriber.drain().await.unwrap();
    let mut count = 0;
    while soon(rest.next()).await.is_some() {
        count += 1;
    }
    assert_eq!(count, 10, "a drain hands over what has arrived");
}

#[tokio::test]
async fn lame_duck_is_heard_and_the_client_comes_back() {
    let lame_duck = LameDuck { grace: Duration::from_millis(100), spread: Duration::from_millis(100) };
    let mut broker = start(Config { lame_duck, ..Config::default() });
    let second = start(Config::default());
    let (events, mut heard) = tokio::sync::mpsc::unbounded_channel();
    let client = soon(
        ConnectOptions::new()
            .retry_on_initial_connect()
            .ignore_discovered_servers()
            .event_callback(move |event| {
                let events = events.clone();
                async move {
                    // The test may have ended.
                    let _ = events.send(event);
                }
            })
            .connect([url(&broker), url(&second)].map(|u| u.parse::<async_nats::ServerAddr>().unwrap()).to_vec()),
    )
    .await
    .unwrap();
    let mut inbox = client.subscribe("a").await.unwrap();
    settled(&client).await;
    // The client takes its servers in any order, so both are told to go; whichever it is on
    // announces it.
    let on_first = client.server_info().port == broker.address.port();
    if on_first {
        broker.ask(Shutdown::LameDuck);
        let mut lame = false;
        while !lame {
            lame = matches!(soon(heard.recv()).await.unwrap(), Event::LameDuckMode);
        }
        loop {
            if matches!(soon(heard.recv()).await.unwrap(), Event::Connected) {
                break;
            }
        }
        settled(&client).await;
        client.publish("a", "back".into()).await.unwrap();
        assert_eq!(soon(inbox.next()).await.unwrap().payload, "back");
        assert_eq!(client.server_info().port, second.address.port());
    } else {
        reconnects_to(second, broker, client, inbox).await;
    }
}

/// The other order: the client happens to be on the second server, which ends at once.
async fn reconnects_to(first: Running, other: Running, client: Client, mut inbox: async_nats::Subscriber) {
    drop(first);
    let end = tokio::time::Instant::now() + PATIENCE;
    while client.server_info().port != other.address.port() {
        assert!(tokio::time::Instant::now() < end, "the client comes back");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    settled(&client).await;
    client.publish("a", "back".into()).await.unwrap();
    assert_eq!(soon(inbox.next()).await.unwrap().payload, "back");
}

#[tokio::test]
async fn an_nkey_user_and_a_password_user() {
    let pair = nkeys::KeyPair::new_user();
    let auth = Auth::Users(vec![User::nkey(pair.public_key()), User::password("ann", "pw")]);
    let broker = start(Config { auth, ..Config::default() });
    let seed = pair.seed().unwrap();
    for options in [ConnectOptions::with_nkey(seed), ConnectOptions::with_user_and_password("ann".into(), "pw".into())]
    {
        let client = soon(options.connect(url(&broker))).await.unwrap();
        settled(&client).await;
    }
    let wrong = ConnectOptions::with_user_and_password("ann".into(), "no".into());
    assert!(soon(wrong.connect(url(&broker))).await.is_err());
}

/// A certificate authority with one certificate for the server and one for a client, as files.
struct Authority {
    folder: tempfile::TempDir,
}

impl Authority {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut params = rcgen::CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let key = rcgen::KeyPair::generate().unwrap();
        let root = params.self_signed(&key).unwrap();
        std::fs::write(folder.path().join("ca.pem"), root.pem()).unwrap();
        let issuer = rcgen::Issuer::new(params, key);
        for name in ["localhost", "client"] {
            let key = rcgen::KeyPair::generate().unwrap();
            let signed =
                rcgen::CertificateParams::new(vec![name.to_owned()]).unwrap().signed_by(&key, &issuer).unwrap();
            std::fs::write(folder.path().join(format!("{name}.pem")), signed.pem()).unwrap();
            std::fs::write(folder.path().join(format!("{name}.key")), key.serialize_pem()).unwrap();
        }
        Self { folder }
    }

    fn file(&self, name: &str) -> std::path::PathBuf {
        self.folder.path().join(name)
    }

    fn tls(&self, verify: bool, first: bool) -> TlsFiles {
        TlsFiles {
            cert: self.file("localhost.pem"),
            key: self.file("localhost.key"),
            client_ca: verify.then(|| self.file("ca.pem")),
            first,
        }
    }
}

/// Publishes enough through TLS that buffers fill and empty.
async fn exchange(options: ConnectOptions, port: u16) -> Result<(), async_nats::ConnectError> {
    let client = soon(options.connect(format!("tls://localhost:{port}"))).await?;
    let mut inbox = client.subscribe("a").await.unwrap();
    let payload = vec![b'x'; 100_000];
    for _ in 0..50 {
        client.publish("a", payload.clone().into()).await.unwrap();
    }
    for _ in 0..50 {
        assert_eq!(soon(inbox.next()).await.unwrap().payload, payload);
    }
    Ok(())
}

#[tokio::test]
async fn tls_with_and_without_client_certificates() {
    let authority = Authority::new();
    for (verify, first) in [(false, false), (true, false), (true, true)] {
        let mut broker = start(Config { tls: Some(authority.tls(verify, first)), ..Config::default() });
        let port = broker.address.port();
        let trusting = || {
            let options = ConnectOptions::new().add_root_certificates(authority.file("ca.pem")).require_tls(true);
            if first { options.tls_first() } else { options }
        };
        let known = trusting().add_client_certificate(authority.file("client.pem"), authority.file("client.key"));
        exchange(known, port).await.unwrap();
        if verify {
            assert!(exchange(trusting(), port).await.is_err(), "a client without a certificate is turned away");
        } else {
            exchange(trusting(), port).await.unwrap();
        }
        broker.ask(Shutdown::Drain);
        tokio::task::spawn_blocking(move || broker.ended()).await.unwrap();
    }
}

#[tokio::test]
async fn a_tls_broker_is_not_talked_to_in_the_clear() {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let authority = Authority::new();
    let broker = start(Config {
        tls: Some(authority.tls(false, false)),
        auth_timeout: Duration::from_millis(300),
        ..Config::default()
    });
    for say in [&b"CONNECT {}\r\nPING\r\n"[..], b""] {
        let mut stream = tokio::net::TcpStream::connect(broker.address).await.unwrap();
        stream.write_all(say).await.unwrap();
        let mut all = Vec::new();
        // A reset is a close too.
        let _ = soon(stream.read_to_end(&mut all)).await;
        let text = String::from_utf8_lossy(&all);
        assert!(text.starts_with("INFO {") && text.contains("\"tls_required\":true"), "{text}");
        assert!(!text.contains("PONG"), "{text}");
    }
}

#[tokio::test]
async fn files_that_are_not_what_they_should_be_are_named() {
    let authority = Authority::new();
    let missing = TlsFiles { cert: authority.file("none.pem"), ..authority.tls(false, false) };
    let swapped = TlsFiles { key: authority.file("client.key"), ..authority.tls(false, false) };
    let no_certificate = TlsFiles { cert: authority.file("localhost.key"), ..authority.tls(false, false) };
    for (tls, expected) in [(missing, "none.pem"), (swapped, "key"), (no_certificate, "holds no certificate")] {
        let listen = "127.0.0.1:0".parse().unwrap();
        let error = msgbench::broker::Broker::bind(Config { listen, tls: Some(tls), ..Config::default() }).await;
        let text = error.err().expect("it must not start").to_string();
        assert!(text.contains(expected), "{text}");
    }
}
