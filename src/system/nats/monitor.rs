//! A server's own account of itself, from its monitoring port (`/varz`, `/jsz`).
//!
//! It is the only place where nats-server tells how often it syncs: JetStream acknowledges a
//! message before it is on disk, so what an acknowledgement is worth depends on `sync_interval`.

use std::collections::BTreeMap;
use std::io::{self, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::time::Duration;

use serde_json::Value;

use crate::system::settings::plain;

/// Largest answer that is read, in bytes.
const BOUND: u64 = 4 << 20;

/// What `path` of the monitoring port at `address` says, as JSON.
///
/// # Errors
/// When nothing answers within `timeout`, or something other than JSON with status 200.
pub fn ask(address: &str, path: &str, timeout: Duration) -> io::Result<Value> {
    let target = address
        .to_socket_addrs()?
        .next()
        .ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, "the host has no address"))?;
    let mut stream = TcpStream::connect_timeout(&target, timeout)?;
    stream.set_read_timeout(Some(timeout))?;
    stream.set_write_timeout(Some(timeout))?;
    // HTTP/1.0: the answer ends with the connection, and is never cut into chunks.
    stream.write_all(format!("GET {path} HTTP/1.0\r\nHost: {address}\r\n\r\n").as_bytes())?;
    let mut answer = Vec::new();
    // What the kernel says of a read that was too long in coming tells nobody what it was.
    let late = |e: io::Error| match e.kind() {
        io::ErrorKind::WouldBlock => io::Error::new(io::ErrorKind::TimedOut, format!("no answer within {timeout:?}")),
        _ => e,
    };
    stream.take(BOUND).read_to_end(&mut answer).map_err(late)?;
    let text = String::from_utf8_lossy(&answer);
    let odd = |what: &str| io::Error::new(io::ErrorKind::InvalidData, format!("{address}{path}: {what}"));
    let (head, body) = text.split_once("\r\n\r\n").ok_or_else(|| odd("no HTTP answer"))?;
    let status = head.lines().next().unwrap_or_default();
    if status.split_whitespace().nth(1) != Some("200") {
        return Err(odd(status));
    }
    serde_json::from_str(body).map_err(|e| odd(&e.to_string()))
}

/// What `/varz` says that bears on guarantees.
pub fn settings(varz: &Value) -> BTreeMap<String, String> {
    let mut all = BTreeMap::new();
    for key in ["max_pending", "gomaxprocs"] {
        if let Some(value) = varz.get(key) {
            all.insert(key.to_owned(), plain(value));
        }
    }
    let config = &varz["jetstream"]["config"];
    if !config.is_object() {
        return all;
    }
    for key in ["max_memory", "max_storage"] {
        if let Some(bytes) = config[key].as_i64() {
            all.insert(format!("jetstream_{key}"), format!("{bytes} B"));
        }
    }
    let version = varz["version"].as_str().unwrap_or("this version");
    let interval = match (config["sync_always"].as_bool(), config["sync_interval"].as_u64()) {
        (Some(true), _) => "always: a message is synced before it is acknowledged".to_owned(),
        (_, Some(nanos)) => {
            format!("{}: a message is acknowledged before it is synced", crate::units::Span(nanos))
        }
        _ => format!("not told by nats-server {version}: a message is acknowledged before it is synced"),
    };
    all.insert("sync_interval".to_owned(), interval);
    all
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;
    use std::net::TcpListener;

    const BOUND: Duration = Duration::from_secs(60);

    fn says(words: &'static str) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut request = [0; 64];
            let read = stream.read(&mut request).unwrap();
            assert!(request[..read].starts_with(b"GET /varz"));
            stream.write_all(words.as_bytes()).unwrap();
        });
        address
    }

    #[test]
    fn an_answer_is_read_and_others_are_refused() {
        let ok = says("HTTP/1.0 200 OK\r\nContent-Type: application/json\r\n\r\n{\"version\":\"2.10.27\"}");
        assert_eq!(ask(&ok, "/varz", BOUND).unwrap(), json!({ "version": "2.10.27" }));
        let gone = says("HTTP/1.0 404 Not Found\r\n\r\nno");
        assert!(ask(&gone, "/varz", BOUND).unwrap_err().to_string().contains("404 Not Found"));
        let other = says("hello");
        assert!(ask(&other, "/varz", BOUND).unwrap_err().to_string().contains("no HTTP answer"));
        let silent = TcpListener::bind("127.0.0.1:0").unwrap();
        let told = ask(&silent.local_addr().unwrap().to_string(), "/varz", Duration::from_millis(50)).unwrap_err();
        assert_eq!(told.to_string(), "no answer within 50ms");
    }

    #[test]
    fn when_a_message_is_synced_is_said_for_every_version() {
        let of = |config: Value| {
            settings(&json!({ "version": "2.9.10", "max_pending": 7, "jetstream": { "config": config } }))
        };
        assert_eq!(
            of(json!({ "sync_interval": 120_000_000_000_u64 }))["sync_interval"],
            "120s: a message is acknowledged before it is synced"
        );
        assert!(of(json!({ "sync_always": true, "sync_interval": 1 }))["sync_interval"].starts_with("always"));
        assert!(of(json!({ "max_memory": 5 }))["sync_interval"].starts_with("not told by nats-server 2.9.10"));
        assert_eq!(of(json!({ "max_memory": 5 }))["jetstream_max_memory"], "5 B");
        assert!(!settings(&json!({ "jetstream": {} })).contains_key("sync_interval"));
    }
}
