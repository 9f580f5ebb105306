//! Acknowledgements that come out of order: a nats-server behind a proxy that holds back every
//! third of them, as a stream whose replica lags would. All of them come; all of them must be
//! measured.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::json;

use super::server::Server;
use super::{record, run, words};

const HELD: Duration = Duration::from_millis(500);

/// Passes everything on, and holds back every third message of the server whose subject begins with
/// `mark`.
fn proxy(server: SocketAddr, mark: &'static str) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    // It ends with the test's process.
    thread::spawn(move || {
        for client in listener.incoming() {
            let (Ok(client), Ok(server)) = (client, TcpStream::connect(server)) else { return };
            client.set_nodelay(true).unwrap();
            server.set_nodelay(true).unwrap();
            let (mut from, mut to) = (client.try_clone().unwrap(), server.try_clone().unwrap());
            thread::spawn(move || {
                let _ = std::io::copy(&mut from, &mut to);
                let _ = to.shutdown(std::net::Shutdown::Write);
            });
            thread::spawn(move || back(server, client, mark));
        }
    });
    address
}

fn back(from: TcpStream, to: TcpStream, mark: &str) {
    let to = Arc::new(Mutex::new(to));
    let late = Arc::clone(&to);
    let (held, due) = channel::<(Instant, Vec<u8>)>();
    thread::spawn(move || {
        for (at, frame) in due {
            thread::sleep(at.saturating_duration_since(Instant::now()));
            if late.lock().unwrap().write_all(&frame).is_err() {
                return;
            }
        }
    });
    let mut from = BufReader::with_capacity(64 * 1024, from);
    let (mut frame, mut acks) = (Vec::new(), 0u64);
    loop {
        frame.clear();
        if from.read_until(b'\n', &mut frame).unwrap_or(0) == 0 {
            let _ = to.lock().unwrap().shutdown(std::net::Shutdown::Both);
            return;
        }
        let line = String::from_utf8_lossy(&frame).into_owned();
        let mut fields = line.split_whitespace();
        let kind = fields.next().unwrap_or_default();
        let subject = fields.next().unwrap_or_default();
        if kind == "MSG" || kind == "HMSG" {
            let size: usize = fields.next_back().unwrap().parse().unwrap();
            let head = frame.len();
            frame.resize(head + size + 2, 0);
            from.read_exact(&mut frame[head..]).unwrap();
        }
        if kind == "MSG" && subject.starts_with(mark) {
            acks += 1;
            if acks.is_multiple_of(3) {
                held.send((Instant::now() + HELD, frame.clone())).unwrap();
                continue;
            }
        }
        if to.lock().unwrap().write_all(&frame).is_err() {
            return;
        }
    }
}

#[test]
fn acknowledgements_out_of_order_are_all_measured() {
    let Some(server) = Server::launch("jetstream", json!({})) else { return };
    let target: SocketAddr = server.running.url.trim_start_matches("nats://").parse().unwrap();
    let address = proxy(target, "mba.");
    let dir = tempfile::tempdir().unwrap();
    let text = format!(
        "name = \"late\"\nquestion = \"Is every acknowledgement measured?\"\n\
         [[system]]\ndriver = \"jetstream\"\nurl = \"nats://{address}\"\n\
         [[workload]]\npattern = \"stream\"\nload.rate = \"5k/s\"\n\
         [run]\nwarmup = \"0s\"\nduration = \"4s\"\ntrials = 1\npercentiles = [0.5, 0.9, 0.99]\n"
    );
    let output = run(dir.path(), &text, &["--format", "record"]);
    let trial = record(&output)["trials"][0].clone();
    assert_eq!(trial["outcome"]["status"], "complete", "{} {}", trial["outcome"], words(&output));
    let workload = &trial["workloads"][0];
    let count = |key: &str| workload["ledger"][key].as_u64().unwrap();
    let totals = (count("sent"), count("acked"), count("foreign"), count("duplicated"), count("lost"));
    assert_eq!(totals, (20_000, 20_000, 0, 0, 0), "{}", workload["ledger"]);
    let ack = &workload["latency"]["ack"];
    assert_eq!((ack["count"].as_u64(), ack["lost"].as_u64()), (Some(20_000), Some(0)), "{ack}");
    for (p, late) in [(0.5, false), (0.9, true), (0.99, true)] {
        let all = ack["percentiles"].as_array().unwrap();
        let one = all.iter().find(|q| q["quantile"].as_f64() == Some(p)).unwrap();
        let value = one["value_ns"].as_f64().unwrap_or(f64::INFINITY);
        assert!(value.is_finite() && (value >= HELD.as_nanos() as f64) == late, "p{p}: {value}");
    }
}
