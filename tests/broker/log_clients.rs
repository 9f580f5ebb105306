//! The log in the words of ordinary clients: kcat, confluent-kafka, kafka-python, aiokafka.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use crate::log_support::start;
use crate::needs;
use msgbench::broker::kafka::KafkaConfig;
use msgbench::broker::log::SyncPolicy;

/// Runs a script, which bounds every check of its own, against a broker.
fn run(script: &str, module: &str, package: &str, checks: usize, sync: SyncPolicy) {
    let Some(python) = needs::python(module, package) else { return };
    let dir = tempfile::tempdir().unwrap();
    let mut config = KafkaConfig::new(dir.path());
    config.log.sync = sync;
    // Partitions change hands within a few heartbeats.
    config.consumer_heartbeat = Duration::from_millis(300);
    let broker = start(config);
    let proxy = dropping(broker.address);
    let path = format!("{}/tests/python/{script}", env!("CARGO_MANIFEST_DIR"));
    let output = Command::new(python).args([path, broker.address.to_string(), proxy.to_string()]).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{text}{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(text.lines().last(), Some(format!("ok {checks}").as_str()), "{text}");
    assert_eq!(broker.counters.totals().protocol_errors, 0);
}

/// Passes connections on, and cuts each after so many bytes: more each time, so that work gets
/// done.
fn dropping(broker: SocketAddr) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        let port = broker.port();
        for (n, client) in listener.incoming().flatten().enumerate() {
            let Ok(server) = TcpStream::connect(broker) else { return };
            let allowance = 20_000 + 7_000 * n;
            let (from, to) = (client.try_clone().unwrap(), server.try_clone().unwrap());
            thread::spawn(move || pump(from, to, allowance, None));
            thread::spawn(move || pump(server, client, usize::MAX, Some((port, address.port()))));
        }
    });
    address
}

/// Copies bytes. Where the broker tells its port, the proxy's is put in its place, or the client
/// would go past it.
fn pump(mut from: TcpStream, mut to: TcpStream, allowance: usize, ports: Option<(u16, u16)>) {
    let mut left = allowance;
    let mut buffer = vec![0; 64 << 10];
    while let Ok(n @ 1..) = from.read(&mut buffer) {
        if let Some((old, new)) = ports {
            let told = [&b"127.0.0.1"[..], &u32::from(old).to_be_bytes()].concat();
            let put = [&b"127.0.0.1"[..], &u32::from(new).to_be_bytes()].concat();
            let at = buffer[..n].windows(told.len()).position(|window| window == told);
            if let Some(at) = at {
                buffer[at..at + put.len()].copy_from_slice(&put);
            }
        }
        // Cut in the middle of whatever it is.
        let n = n.min(left);
        left -= n;
        if to.write_all(&buffer[..n]).is_err() || left == 0 {
            break;
        }
    }
    let _ = from.shutdown(Shutdown::Both);
    let _ = to.shutdown(Shutdown::Both);
}

#[test]
fn confluent_kafka_is_served() {
    run("kafka_confluent.py", "confluent_kafka", "confluent-kafka", 12, SyncPolicy::Never);
}

#[test]
fn aiokafka_is_served() {
    run("kafka_aiokafka.py", "aiokafka", "aiokafka", 3, SyncPolicy::Group);
}

#[test]
fn kafka_python_is_served() {
    run("kafka_python.py", "kafka.admin", "kafka-python", 3, SyncPolicy::Interval(Duration::from_millis(20)));
}

/// Runs kcat with those arguments and that input; its output.
fn kcat(address: SocketAddr, args: &[&str], input: &str) -> String {
    let mut child = Command::new("kcat")
        .args(["-b", &address.to_string()])
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn kcat_is_served() {
    if !needs::kcat() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let mut config = KafkaConfig::new(dir.path());
    config.users = vec![("ann".into(), "secret".into())];
    let broker = start(config);
    let login = ["-X", "security.protocol=SASL_PLAINTEXT", "-X", "sasl.mechanism=PLAIN", "-X", "sasl.username=ann"];
    let call = |args: &[&str], input: &str| {
        kcat(broker.address, &[&login[..], &["-X", "sasl.password=secret"], args].concat(), input)
    };
    let lines: String = (0..5000).map(|n| format!("key{}:{n}\n", n % 7)).collect();
    for codec in ["none", "gzip", "snappy", "lz4", "zstd"] {
        call(&["-P", "-t", codec, "-K", ":", "-z", codec, "-X", "enable.idempotence=true"], &lines);
        let read = call(&["-C", "-t", codec, "-K", ":", "-o", "beginning", "-e", "-q"], "");
        assert!(read == lines, "{codec}");
    }
    assert_eq!(call(&["-C", "-t", "none", "-o", "4990", "-c", "2", "-q"], ""), "4990\n4991\n");
    assert_eq!(call(&["-Q", "-t", "none:0:-1"], ""), "none [0] offset 5000\n");
    let group = ["-X", "auto.offset.reset=earliest", "-q", "-c"];
    let first = call(&[&["-G", "g"], &group[..], &["10", "none"]].concat(), "");
    assert_eq!(first.lines().last(), Some("9"));
    assert!(call(&["-L"], "").contains("topic \"zstd\" with 1 partitions"));
    let wrong = Command::new("kcat")
        .args(["-b", &broker.address.to_string(), "-L", "-m", "3", "-X", "sasl.password=wrong"])
        .args(login)
        .output()
        .unwrap();
    assert!(!wrong.status.success() && broker.counters.totals().auth_failures > 0);
}
