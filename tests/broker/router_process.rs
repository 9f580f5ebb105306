//! `msgbench broker` as a process: its ready line, its signals, its closing line.

use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;
use std::process::Command;
use std::time::Duration;

use crate::process::Process;

const PATIENCE: Duration = Duration::from_secs(60);

fn start(args: &[&str]) -> Process {
    crate::process::start(&[&["--listen", "127.0.0.1:0"], args].concat())
}

fn connect(process: &Process) -> BufReader<TcpStream> {
    let port = process.ready.split("127.0.0.1:").nth(1).unwrap();
    let digits = port.find(|c: char| !c.is_ascii_digit()).unwrap();
    let stream = TcpStream::connect(("127.0.0.1", port[..digits].parse().unwrap())).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut wire = BufReader::new(stream);
    wire.get_mut().write_all(b"CONNECT {\"verbose\":false,\"protocol\":1}\r\nPING\r\n").unwrap();
    assert!(line(&mut wire).starts_with("INFO "));
    assert_eq!(line(&mut wire), "PONG\r\n");
    wire
}

fn line(wire: &mut BufReader<TcpStream>) -> String {
    let mut line = String::new();
    wire.read_line(&mut line).unwrap();
    line
}

#[test]
fn it_says_when_it_is_ready_and_what_it_counted() {
    let process = start(&[]);
    let pid = process.child.id();
    assert!(process.ready.starts_with("msgbench broker ready: nats://127.0.0.1:"), "{}", process.ready);
    assert!(process.ready.ends_with(&format!(" (pid {pid})\n")), "{}", process.ready);
    let mut wire = connect(&process);
    wire.get_mut().write_all(b"SUB a 1\r\nPUB a 2\r\nhi\r\nPING\r\n").unwrap();
    assert_eq!((line(&mut wire).as_str(), line(&mut wire).as_str()), ("MSG a 1 2\r\n", "hi\r\n"));
    process.signal(libc::SIGTERM);
    assert_eq!(line(&mut wire), "PONG\r\n");
    assert!(line(&mut wire).contains("\"ldm\":true"), "the drain is announced");
    assert_eq!(line(&mut wire), "", "and the connection closed");
    let closing = process.ended();
    assert!(closing.starts_with("msgbench broker closed: 1 connections, 1 messages in ("), "{closing}");
    assert!(closing.ends_with("0 dropped, 0 slow consumers\n"), "{closing}");
}

#[test]
fn json_lines_carry_the_settings_in_force_and_the_counters() {
    let folder = tempfile::tempdir().unwrap();
    let port_file = folder.path().join("port");
    let process = start(&[
        "--format",
        "json",
        "--max-pending",
        "2MiB",
        "--slow-consumer",
        "drop-newest",
        "--workers",
        "1",
        "--port-file",
        port_file.to_str().unwrap(),
    ]);
    let ready = process.json();
    assert_eq!(ready["event"], "ready");
    assert_eq!(ready["pid"], process.child.id());
    assert_eq!(ready["version"], env!("CARGO_PKG_VERSION"));
    let policy = &ready["policy"];
    assert_eq!(policy["max_pending"], 2 << 20);
    assert_eq!(policy["slow_consumer"], "drop-newest");
    assert_eq!(policy["workers"], 1);
    assert_eq!(policy["auth"], "none");
    let port = std::fs::read_to_string(port_file).unwrap();
    assert!(ready["url"].as_str().unwrap().ends_with(&format!(":{}", port.trim())));
    process.signal(libc::SIGINT);
    let closed: serde_json::Value = serde_json::from_str(&process.ended()).unwrap();
    assert_eq!(closed["event"], "closed");
    assert_eq!(closed["counters"]["connections"], 0);
}

#[test]
fn lame_duck_mode_lets_clients_go_and_a_further_signal_ends_it_at_once() {
    let process = start(&["--lame-duck-grace", "60s"]);
    let mut wire = connect(&process);
    process.signal(libc::SIGUSR2);
    assert!(line(&mut wire).contains("\"ldm\":true"));
    wire.get_mut().write_all(b"PING\r\n").unwrap();
    assert_eq!(line(&mut wire), "PONG\r\n", "still served");
    process.signal(libc::SIGTERM);
    assert_eq!(line(&mut wire), "");
    process.ended();
}

#[test]
fn what_cannot_be_served_is_refused_with_a_remedy() {
    let holder = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = holder.local_addr().unwrap().to_string();
    for (args, expected) in [
        (vec!["--listen", &taken], "choose another --listen address"),
        (vec!["--listen", "127.0.0.1:0", "--nkey", "UABC"], "not a public user NKey"),
        (vec!["--listen", "127.0.0.1:0", "--tls-cert", "nowhere.pem", "--tls-key", "nowhere.key"], "nowhere.pem"),
        (vec!["--listen", "127.0.0.1:0", "--max-payload", "1GiB"], "at most 64 MiB"),
        (vec!["--listen", "127.0.0.1:0", "--user", "ann"], "--pass"),
    ] {
        let output = Command::new(env!("CARGO_BIN_EXE_msgbench")).arg("broker").args(&args).output().unwrap();
        let text = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success() && text.contains(expected), "{args:?}: {text}");
    }
}
