//! The monitoring pages, their fields compared with those of a real nats-server.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::process;
use crate::real::{Bare, Real, get};

/// The kinds of values by the path of their keys; elements of a list are one.
fn shape(value: &Value, path: &str, into: &mut BTreeMap<String, &'static str>) {
    let kind = match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(_) => "number",
        Value::String(_) => "text",
        Value::Array(items) => {
            items.iter().for_each(|item| shape(item, &format!("{path}[]"), into));
            "list"
        }
        Value::Object(fields) => {
            fields.iter().for_each(|(key, item)| shape(item, &format!("{path}.{key}"), into));
            "object"
        }
    };
    into.insert(path.to_owned(), kind);
}

fn page(address: SocketAddr, target: &str) -> Value {
    let (status, body) = get(address, target);
    assert_eq!(status, 200, "{target}: {body}");
    serde_json::from_str(&body).unwrap_or_else(|e| panic!("{target}: {e}: {body}"))
}

fn broker() -> (process::Process, SocketAddr, SocketAddr) {
    let process = process::start(&["--listen", "127.0.0.1:0", "--monitor", "127.0.0.1:0", "--format", "json"]);
    let ready = process.json();
    let at = |text: &Value| text.as_str().unwrap().rsplit_once('/').unwrap().1.parse().unwrap();
    let (address, monitor) = (at(&ready["url"]), at(&ready["policy"]["monitor"]));
    (process, address, monitor)
}

/// A client whose traffic is known: two messages of 2 B and 3 B in, three out.
fn client(address: SocketAddr) -> Bare {
    let mut wire = Bare::open(address);
    let connect = "CONNECT {\"verbose\":false,\"lang\":\"test\",\"version\":\"1.2\",\"name\":\"me\"}\r\n";
    wire.ask(&format!("{connect}SUB a 1\r\nSUB a q 2\r\nUNSUB 2 5\r\n"));
    wire.ask("PUB a 2\r\nhi\r\nPUB a 3\r\nabc\r\n");
    wire
}

/// Asks until the numbers are in: they are added at the end of a batch.
fn until(address: SocketAddr, target: &str, done: impl Fn(&Value) -> bool) -> Value {
    let end = Instant::now() + Duration::from_secs(60);
    loop {
        let value = page(address, target);
        if done(&value) {
            return value;
        }
        assert!(Instant::now() < end, "{target}: {value}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn totals_are_those_of_the_clients() {
    let (_process, address, monitor) = broker();
    let wire = client(address);
    let varz = until(monitor, "/varz", |v| v["out_msgs"] == 4);
    for (key, expected) in
        [("in_msgs", 2), ("in_bytes", 5), ("out_bytes", 10), ("connections", 1), ("subscriptions", 2)]
    {
        assert_eq!(varz[key], expected, "{key}");
    }
    assert_eq!(varz["port"], address.port());
    assert!(varz["mem"].as_u64().unwrap() > 100_000);
    let connz = page(monitor, "/connz?subs=detail");
    let me = &connz["connections"][0];
    let numbers = [("in_msgs", 2), ("in_bytes", 5), ("out_msgs", 4), ("out_bytes", 10), ("subscriptions", 2)];
    for (key, expected) in numbers {
        assert_eq!(me[key], expected, "{key}");
    }
    assert_eq!((&me["name"], &me["lang"], &me["version"]), (&"me".into(), &"test".into(), &"1.2".into()));
    let details = me["subscriptions_list_detail"].as_array().unwrap();
    assert!(details.iter().any(|d| d["qgroup"] == "q" && d["max"] == 5 && d["msgs"] == 2), "{me}");
    assert_eq!(page(monitor, "/connz?state=closed")["num_connections"], 0);
    assert_eq!(page(monitor, "/connz?cid=999")["total"], 0);
    drop(wire);
    until(monitor, "/connz", |v| v["num_connections"] == 0);
    assert_eq!(until(monitor, "/varz", |v| v["subscriptions"] == 0)["total_connections"], 1);
    assert_eq!(page(monitor, "/subsz")["num_removes"], 2);
}

#[test]
fn pages_have_the_fields_of_nats_server() {
    let (_process, address, monitor) = broker();
    let Some(real) = Real::start("") else { return };
    let _clients = (client(address), client(real.address));
    // What is left out where it is empty may be there on one side only; the rest may not.
    let optional: BTreeSet<&str> = [".max_subscriptions", ".system_account", ".connections[].rtt"].into();
    for target in [
        "/varz",
        "/connz",
        "/connz?subs=1",
        "/connz?subs=detail&auth=1",
        "/subsz",
        "/subsz?subs=1",
        "/routez",
        "/healthz",
    ] {
        let known = |address, target: &str| {
            until(address, "/varz", |v| v["out_msgs"].as_u64().unwrap() >= 4);
            let mut found = BTreeMap::new();
            shape(&page(address, target), "", &mut found);
            // Which pages were asked for, and what is new in clusters and JetStream, is each one's
            // own.
            let own = |key: &str| key.starts_with(".http_req_stats.") || key.starts_with(".feature_flags");
            found.retain(|key, _| !optional.contains(key.as_str()) && !own(key));
            found
        };
        assert_eq!(known(monitor, target), known(real.monitor, target), "{target}");
    }
}

#[test]
fn the_pages_take_a_wrong_request_and_a_silent_client_in_their_stride() {
    let (process, _, monitor) = broker();
    assert_eq!(get(monitor, "/nowhere").0, 404);
    assert_eq!(get(monitor, "/connz?limit=x").0, 400);
    assert_eq!(get(monitor, "/connz?sort=colour").0, 400);
    assert_eq!(get(monitor, "/varz?callback=show").1.get(..6), Some("show({"));
    assert!(get(monitor, "/").1.contains("./varz"));
    let answer = |bytes: &[u8]| {
        let mut stream = TcpStream::connect(monitor).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        // A server that has heard enough may have answered before all is said.
        let _ = stream.write_all(bytes);
        let mut text = Vec::new();
        let _ = stream.read_to_end(&mut text);
        String::from_utf8_lossy(&text).into_owned()
    };
    assert!(answer(b"POST /varz HTTP/1.1\r\n\r\n").starts_with("HTTP/1.1 405 "));
    assert!(answer(b"nonsense\r\n\r\n").starts_with("HTTP/1.1 400 "));
    assert!(answer(&[b'x'; 9000]).starts_with("HTTP/1.1 431 "));
    let head = answer(b"HEAD /varz HTTP/1.0\r\n\r\n");
    assert!(head.starts_with("HTTP/1.1 200 ") && head.ends_with("\r\n\r\n"), "{head}");
    let two = answer(b"GET /healthz HTTP/1.1\r\n\r\nGET /healthz HTTP/1.1\r\nConnection: close\r\n\r\n");
    assert_eq!(two.matches("{\"status\":\"ok\"}").count(), 2, "{two}");
    // More silent clients than it serves: they are let go in time, and then there is room again.
    let silent: Vec<TcpStream> = (0..40).map(|_| TcpStream::connect(monitor).unwrap()).collect();
    let end = Instant::now() + Duration::from_secs(60);
    loop {
        let mut stream = TcpStream::connect(monitor).unwrap();
        let mut text = String::new();
        let said = stream.write_all(b"GET /healthz HTTP/1.0\r\n\r\n").and_then(|()| stream.read_to_string(&mut text));
        if said.is_ok() && text.starts_with("HTTP/1.1 200 ") {
            break;
        }
        assert!(Instant::now() < end, "silent clients are let go");
        std::thread::sleep(Duration::from_millis(100));
    }
    drop(silent);
    process.signal(libc::SIGUSR2);
    let end = Instant::now() + Duration::from_secs(60);
    // Nobody is connected, so the end comes at once; until then it says that it is near.
    while let Ok(mut stream) = TcpStream::connect(monitor) {
        let _ = stream.write_all(b"GET /healthz HTTP/1.0\r\n\r\n");
        let mut text = String::new();
        let _ = stream.read_to_string(&mut text);
        assert!(text.is_empty() || text.contains("ok") || text.starts_with("HTTP/1.1 503 "), "{text}");
        assert!(Instant::now() < end, "it ends");
    }
}

#[test]
fn several_addresses_are_listened_on_and_the_wide_one_takes_both_families() {
    let process = process::start(&["--listen", "127.0.0.1:0", "--listen", "[::]:0", "--format", "json"]);
    let ready = process.json();
    let listen = ready["policy"]["listen"].as_array().unwrap();
    let port = |n: usize| -> u16 { listen[n].as_str().unwrap().rsplit_once(':').unwrap().1.parse().unwrap() };
    assert_eq!(listen[0], ready["url"]);
    for address in [format!("127.0.0.1:{}", port(0)), format!("127.0.0.1:{}", port(1)), format!("[::1]:{}", port(1))] {
        let wire = Bare::open(address.parse().unwrap());
        let ip = address.rsplit_once(':').unwrap().0.trim_matches(['[', ']']);
        assert_eq!(wire.info["client_ip"], ip, "an IPv4 client is one through [::] as well");
    }
}
