//! Synced before acknowledged: the rate and the wait with 256 records of 128 B on their way.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use serde_json::json;

use crate::Outcome;
use crate::figures::{Figure, quantile, repeats, short};
use crate::nats::Nats;
use crate::systems::{Up, up};
use crate::wire::{Client, batch, produce};

const OUTSTANDING: usize = 256;
const SIZE: usize = 128;
const SPAN: Duration = Duration::from_secs(2);

/// Records acknowledged per second, and the median wait in milliseconds. `in_one` records go in one
/// request.
fn kafka(address: SocketAddr, topic: &str, in_one: usize) -> Outcome<(f64, f64)> {
    let mut client = Client::connect(address)?;
    let frame = produce(topic, 0, batch(in_one, SIZE))?;
    let mut sent = std::collections::VecDeque::new();
    let mut waits = Vec::new();
    let began = Instant::now();
    while began.elapsed() < SPAN {
        let more = OUTSTANDING / in_one - sent.len();
        sent.extend(std::iter::repeat_n(Instant::now(), more));
        client.send_all(&frame, more)?;
        // What has come is taken at once, as any asynchronous client does.
        loop {
            client.acknowledged()?;
            waits.extend(sent.pop_front().map(|at: Instant| at.elapsed().as_nanos() as u64));
            if !client.has_answer() {
                break;
            }
        }
    }
    let rate = (waits.len() * in_one) as f64 / began.elapsed().as_secs_f64();
    for _ in sent {
        client.acknowledged()?;
    }
    Ok((rate, quantile(&mut waits, 0.5) / 1e6))
}

fn jetstream(address: SocketAddr, stream: &str) -> Outcome<(f64, f64)> {
    let mut nats = Nats::connect(address)?;
    nats.create_stream(stream)?;
    nats.send(b"SUB ack 1\r\n")?;
    let message = [format!("PUB {stream}.x ack {SIZE}\r\n").as_bytes(), &[b'v'; SIZE], b"\r\n"].concat();
    let mut sent = std::collections::VecDeque::new();
    let mut waits = Vec::new();
    let began = Instant::now();
    while began.elapsed() < SPAN {
        let more = OUTSTANDING - sent.len();
        sent.extend(std::iter::repeat_n(Instant::now(), more));
        nats.send(&message.repeat(more))?;
        loop {
            let (_, answer) = nats.message()?;
            if !answer.windows(5).any(|word| word == b"\"seq\"") {
                return Err(String::from_utf8_lossy(answer).into_owned().into());
            }
            waits.extend(sent.pop_front().map(|at: Instant| at.elapsed().as_nanos() as u64));
            if !nats.has_line() {
                break;
            }
        }
    }
    let rate = waits.len() as f64 / began.elapsed().as_secs_f64();
    Ok((rate, quantile(&mut waits, 0.5) / 1e6))
}

struct Row {
    name: &'static str,
    system: usize,
    in_one: usize,
    rate: Figure,
    wait: Figure,
}

pub fn run() -> Outcome<()> {
    let found = [
        up("reference", "reference", json!({ "log": true, "sync": "group" }))?,
        up("kafka", "kafka", json!({ "broker": { "flush-messages": 1 } }))?,
        up("jetstream", "jetstream", json!({ "sync-interval": "always" }))?,
    ];
    let systems: Vec<Up> = found.into_iter().flatten().collect();
    let mut rows = Vec::new();
    for (system, up) in systems.iter().enumerate() {
        let kinds: &[(&'static str, usize)] = match up.name {
            "reference" => &[("reference, sync group", 1), ("the same, 16 records a request", 16)],
            "kafka" => &[("kafka, flush.messages=1", 1), ("the same, 16 records a request", 16)],
            _ => &[("nats-server JetStream, sync_interval always", 1)],
        };
        let row = |&(name, in_one)| Row { name, system, in_one, rate: Figure::default(), wait: Figure::default() };
        rows.extend(kinds.iter().map(row));
        if up.name != "jetstream" {
            let mut admin = Client::connect(up.address)?;
            admin.create("commit", 1, &[])?;
            // Java compiles what it runs often; the reference broker moves to segments of zeros.
            for _ in 0..3 {
                kafka(up.address, "commit", 1)?;
            }
        }
    }
    for round in 0..repeats() {
        for n in 0..rows.len() {
            let at = (n + round) % rows.len();
            let row = &mut rows[at];
            let up = &systems[row.system];
            let (rate, wait) = match up.name {
                "jetstream" => jetstream(up.address, &format!("s{round}"))?,
                _ => kafka(up.address, "commit", row.in_one)?,
            };
            row.rate.add(rate);
            row.wait.add(wait);
        }
    }
    let ours = rows.first().map_or(f64::NAN, |row| row.rate.median());
    println!(
        "\n| synced before acknowledged, {OUTSTANDING} outstanding, {SIZE} B | records/s | p50 ms | reference is |"
    );
    println!("|---|---:|---:|---:|");
    for row in &rows {
        let against = if row.in_one == 1 {
            ours / row.rate.median()
        } else {
            rows.iter().find(|r| r.in_one == row.in_one).map_or(f64::NAN, |r| r.rate.median()) / row.rate.median()
        };
        println!("| {} | {} | {} | {}x |", row.name, row.rate.shown(), row.wait.shown(), short(against));
    }
    Ok(())
}
