//! A real nats-server to compare with, and bare exchanges with either server.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

const PATIENCE: Duration = Duration::from_secs(60);

/// A running nats-server; killed when dropped.
pub struct Real {
    child: Child,
    pub address: SocketAddr,
    pub monitor: SocketAddr,
    _dir: tempfile::TempDir,
}

impl Drop for Real {
    fn drop(&mut self) {
        // It has mostly not ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Real {
    /// Starts it with a configuration; `None` where there is none, and the test is skipped.
    pub fn start(config: &str) -> Option<Self> {
        let (program, _) = crate::needs::nats_server()?;
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("server.conf");
        std::fs::write(&file, config).unwrap();
        let mut command = Command::new(program);
        command
            .args(["-a", "127.0.0.1", "-p", "-1", "-m", "-1", "-c"])
            .arg(&file)
            .arg("--ports_file_dir")
            .arg(dir.path());
        let child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let ports = dir.path().join(format!("nats-server_{}.ports", child.id()));
        let end = Instant::now() + PATIENCE;
        let said = loop {
            let text = std::fs::read_to_string(&ports).unwrap_or_default();
            match serde_json::from_str::<serde_json::Value>(&text) {
                Ok(said) => break said,
                Err(_) => assert!(Instant::now() < end, "nats-server says where it listens"),
            }
            std::thread::sleep(Duration::from_millis(10));
        };
        let at = |key: &str| said[key][0].as_str().unwrap().rsplit_once('/').unwrap().1.parse().unwrap();
        Some(Self { address: at("nats"), monitor: at("monitoring"), child, _dir: dir })
    }
}

/// A bare connection that has read INFO.
pub struct Bare {
    wire: BufReader<TcpStream>,
    pub info: serde_json::Value,
}

impl Bare {
    pub fn open(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut wire = BufReader::new(stream);
        let mut line = String::new();
        wire.read_line(&mut line).unwrap();
        let info = serde_json::from_str(line.strip_prefix("INFO ").expect("INFO comes first")).unwrap();
        Self { wire, info }
    }

    /// Says something, and returns what comes until it has been dealt with: up to the PONG, without
    /// it. A PING of the server is left out. When the server closes the connection, `closed`
    /// follows.
    pub fn ask(&mut self, words: &str) -> String {
        let mut heard = String::new();
        let said = self.wire.get_mut().write_all(format!("{words}PING\r\n").as_bytes());
        while said.is_ok() {
            let mut line = String::new();
            match self.wire.read_line(&mut line) {
                Ok(n) if n > 0 => {}
                _ => break,
            }
            match line.as_str() {
                "PONG\r\n" => return heard,
                "PING\r\n" => {}
                // A new INFO after CONNECT tells what has been told.
                line if line.starts_with("INFO ") => {}
                line => heard.push_str(line),
            }
        }
        heard + "closed"
    }
}

/// Asks for a page; status and body. With HTTP/1.0 it comes in one piece.
pub fn get(address: SocketAddr, target: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    write!(stream, "GET {target} HTTP/1.0\r\nHost: here\r\n\r\n").unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    let (head, body) = text.split_once("\r\n\r\n").unwrap();
    (head.split(' ').nth(1).unwrap().parse().unwrap(), body.to_owned())
}
