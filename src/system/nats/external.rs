//! A NATS server that is already running at a URL: reached, asked what it is, and left alone.
//!
//! Its processes are not ours to watch or stop, even when they are on this host; hence no process
//! ids and no logs. It also holds the one thing a NATS server says unasked, its INFO line, which
//! launched servers are probed by as well.

use std::collections::BTreeMap;
use std::io::{self, BufRead, BufReader, Read};
use std::net::{TcpStream, ToSocketAddrs};
use std::time::{Duration, Instant};

use super::monitor;
use crate::plan::address::NATS;
use crate::plan::{Address, SystemSpec};
use crate::system::settings::plain;
use crate::system::{Running, System, SystemError};

/// Longest INFO line that is read, in bytes; a large cluster lists its servers in it.
const INFO_BOUND: u64 = 64 * 1024;

/// The fields of a NATS server's INFO that bear on guarantees or speed, under the names they have
/// there.
const INFO_SETTINGS: [&str; 7] =
    ["version", "server_name", "max_payload", "headers", "jetstream", "tls_required", "auth_required"];

/// What is lacking for a service that is asked in a topic.
pub(in crate::system) const NO_TOPICS: &str =
    "its services have a subject, target = { subject = \"...\" }, and no topics";

/// A NATS-speaking server that somebody else runs.
#[derive(Debug)]
pub struct ExternalNats {
    name: String,
    url: String,
    monitor: Option<String>,
    timeout: Duration,
}

impl ExternalNats {
    /// `name` as in the plan; `timeout` bounds the whole of reaching it. Settings are read back
    /// from the monitoring port at `monitor`, `http://host:port` or `host:port`.
    pub fn new(name: &str, url: &str, monitor: Option<&str>, timeout: Duration) -> Self {
        let monitor = monitor.map(|m| m.trim_start_matches("http://").trim_end_matches('/').to_owned());
        Self { name: name.to_owned(), url: url.to_owned(), monitor, timeout }
    }
}

impl ExternalNats {
    /// The one at `url`, with the option `monitor` of `spec`.
    pub(in crate::system) fn of(spec: &SystemSpec, url: &str, timeout: Duration) -> Self {
        Self::new(&spec.name, url, spec.options.get("monitor").and_then(|v| v.as_str()), timeout)
    }
}

impl System for ExternalNats {
    fn start(&mut self) -> Result<Running, SystemError> {
        let unavailable = |reason: String| SystemError::Unavailable {
            system: self.name.clone(),
            reason,
            remedy: "start it, or correct its url in the scenario".to_owned(),
        };
        // A client may be given several servers of a cluster; one that answers is enough.
        let mut refusals = Vec::new();
        // The schemes of the reference broker and of JetStream are among those of NATS, and `check`
        // has judged them.
        let address = Address::read(&NATS, &self.url).map_err(|e| unavailable(e.to_string()))?;
        for server in &address.servers {
            match info(&server.host, server.port, self.timeout) {
                Ok(info) => {
                    let mut settings = settings(&info);
                    if let Some(monitor) = &self.monitor {
                        let varz = monitor::ask(monitor, "/varz", self.timeout).map_err(|error| {
                            let reason = format!("its monitoring port {monitor} does not answer: {error}");
                            let remedy = "correct or remove the option `monitor`".to_owned();
                            SystemError::Unavailable { system: self.name.clone(), reason, remedy }
                        })?;
                        settings.extend(monitor::settings(&varz));
                    }
                    return Ok(Running { url: self.url.clone(), settings, ..Running::default() });
                }
                Err(error) => refusals.push(format!("{}://{server}: {error}", if server.tls { "tls" } else { "nats" })),
            }
        }
        Err(unavailable(refusals.join("; ")))
    }
}

/// The INFO that a NATS server sends to whoever connects.
///
/// # Errors
/// When nothing answers within `timeout`, or what answers does not speak the NATS protocol.
pub(super) fn info(host: &str, port: u16, timeout: Duration) -> io::Result<serde_json::Value> {
    let deadline = Instant::now() + timeout;
    let left = || deadline.saturating_duration_since(Instant::now()).max(Duration::from_millis(1));
    let mut last = io::Error::new(io::ErrorKind::NotFound, "the host has no address");
    for target in (host, port).to_socket_addrs()? {
        let stream = match TcpStream::connect_timeout(&target, left()) {
            Ok(stream) => stream,
            Err(error) => {
                last = error;
                continue;
            }
        };
        return read_info(stream, left);
    }
    Err(last)
}

fn read_info(stream: TcpStream, left: impl Fn() -> Duration) -> io::Result<serde_json::Value> {
    stream.set_read_timeout(Some(left()))?;
    let mut line = Vec::new();
    BufReader::new(stream.take(INFO_BOUND)).read_until(b'\n', &mut line).map_err(|error| match error.kind() {
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => {
            io::Error::new(io::ErrorKind::TimedOut, "connected, but no INFO line came: not a NATS server?")
        }
        _ => error,
    })?;
    let text = String::from_utf8_lossy(&line);
    let not_nats = || {
        let start: String = text.chars().take(60).collect();
        io::Error::new(io::ErrorKind::InvalidData, format!("expected a NATS INFO line, got {start:?}"))
    };
    let json = text.strip_prefix("INFO ").ok_or_else(not_nats)?;
    serde_json::from_str(json.trim()).map_err(|_| not_nats())
}

/// The entries of INFO worth recording.
pub(super) fn settings(info: &serde_json::Value) -> BTreeMap<String, String> {
    INFO_SETTINGS.iter().filter_map(|&key| Some((key.to_owned(), plain(info.get(key)?)))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use std::net::TcpListener;

    const LONG: Duration = Duration::from_secs(60);

    /// A server that says one thing to its first client and closes.
    fn says(words: &'static str) -> u16 {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        std::thread::spawn(move || listener.accept().unwrap().0.write_all(words.as_bytes()).unwrap());
        port
    }

    #[test]
    fn a_server_that_answers_is_read_and_left_alone() {
        let port = says("INFO {\"version\":\"9.9\",\"max_payload\":1024,\"client_id\":4}\r\n");
        let mut system = ExternalNats::new("mine", &format!("nats://127.0.0.1:{port}"), None, LONG);
        let running = system.start().unwrap();
        assert!(running.pids.is_empty());
        assert_eq!(running.settings["version"], "9.9");
        assert_eq!(running.settings["max_payload"], "1024");
        assert!(!running.settings.contains_key("client_id"));
    }

    #[test]
    fn another_protocol_silence_and_nobody_are_told_apart() {
        let other = says("220 mail.example ESMTP\r\n");
        let within = |url: String, bound| ExternalNats::new("mine", &url, None, bound).start().unwrap_err().to_string();
        let words = |url: String| within(url, LONG);
        assert!(words(format!("nats://127.0.0.1:{other}")).contains("expected a NATS INFO line, got \"220 mail"));
        let silent = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("nats://me:secret@{}", silent.local_addr().unwrap());
        let told = within(url, Duration::from_millis(300));
        assert!(told.contains("no INFO line came"), "{told}");
        assert!(!told.contains("secret"), "{told}");
        // No free port is ever this low, so that no other test can listen there.
        assert!(words("nats://127.0.0.1:1".to_owned()).contains("refused"));
    }
}
