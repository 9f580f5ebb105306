//! One record at a time, from the writer to the reader: over the log, over the router.

use std::net::SocketAddr;
use std::sync::mpsc::channel;
use std::time::Duration;

use msgbench::units::now;
use serde_json::json;

use crate::Outcome;
use crate::figures::{Figure, quantile, repeats};
use crate::nats::Nats;
use crate::systems::up;
use crate::wire::{Client, Reader, batch, produce};

const SIZE: usize = 128;
const COUNT: usize = 2000;
/// Long enough that a record is read before the next is sent.
const GAP: Duration = Duration::from_millis(1);

/// Calls `send` once a millisecond; sleeps in between, as any client would.
fn paced(mut send: impl FnMut() -> Outcome<()>) -> Outcome<()> {
    let began = now();
    for n in 0..COUNT as u64 {
        let due = began + n * GAP.as_nanos() as u64;
        std::thread::sleep(Duration::from_nanos(due.saturating_sub(now())));
        send()?;
    }
    Ok(())
}

/// Nanoseconds from the send of a produce request with one record to the record at the reader.
fn log(address: SocketAddr, topic: &str) -> Outcome<Vec<u64>> {
    Client::connect(address)?.create(topic, 1, &[])?;
    let mut reader = Reader::open(address, topic, 1)?;
    // The record of the topic's making.
    reader.ask()?;
    reader.take(|_| {})?;
    let (sent, times) = channel();
    std::thread::scope(|scope| {
        let reading = scope.spawn(move || -> Outcome<Vec<u64>> {
            let mut waits = Vec::new();
            while waits.len() < COUNT {
                reader.ask()?;
                let mut came = 0;
                reader.take(|_| came += 1)?;
                let at = now();
                for _ in 0..came {
                    waits.push(at - times.recv()?);
                }
            }
            Ok(waits)
        });
        let mut client = Client::connect(address)?;
        let mut frame = produce(topic, 0, batch(1, SIZE))?;
        paced(|| {
            sent.send(now())?;
            client.send(&mut frame)?;
            client.acknowledged().map(drop)
        })?;
        reading.join().map_err(|_| "the reader has panicked")?
    })
}

/// Nanoseconds from the publish to the message at the subscriber.
fn router(address: SocketAddr) -> Outcome<Vec<u64>> {
    let mut subscriber = Nats::connect(address)?;
    subscriber.send(b"SUB e2e 1\r\nPING\r\n")?;
    let (sent, times) = channel();
    std::thread::scope(|scope| {
        let reading = scope.spawn(move || -> Outcome<Vec<u64>> {
            let mut waits = Vec::new();
            while waits.len() < COUNT {
                subscriber.message()?;
                waits.push(now() - times.recv()?);
            }
            Ok(waits)
        });
        // The subscription is in force once its connection has been served; it has had a moment.
        std::thread::sleep(Duration::from_millis(50));
        let mut publisher = Nats::connect(address)?;
        let message = [&b"PUB e2e 128\r\n"[..], &[b'v'; SIZE], b"\r\n"].concat();
        paced(|| {
            sent.send(now())?;
            publisher.send(&message)
        })?;
        reading.join().map_err(|_| "the reader has panicked")?
    })
}

pub fn run() -> Outcome<()> {
    let log_half = up("reference", "reference", json!({ "log": true, "sync": "never" }))?;
    let group = up("reference, synced", "reference", json!({ "log": true, "sync": "group" }))?;
    let kafka = up("kafka", "kafka", json!({}))?;
    let routing = up("router", "reference", json!({}))?.ok_or("there is no reference broker")?;
    let logs: Vec<_> = [log_half, group, kafka].into_iter().flatten().collect();
    let mut figures: Vec<(&str, Figure, Figure)> = std::iter::once("router")
        .chain(logs.iter().map(|l| l.name))
        .map(|n| (n, Figure::default(), Figure::default()))
        .collect();
    for up in &logs {
        log(up.address, "warm")?;
    }
    for round in 0..repeats() {
        for n in 0..figures.len() {
            let at = (n + round) % figures.len();
            let mut waits = match at {
                0 => router(routing.address)?,
                _ => log(logs[at - 1].address, &format!("r{round}"))?,
            };
            figures[at].1.add(quantile(&mut waits, 0.5) / 1e3);
            figures[at].2.add(quantile(&mut waits, 0.99) / 1e3);
        }
    }
    let base = figures[0].1.median();
    println!(
        "\n| one record of {SIZE} B at a time, 1,000/s | p50 us | p99 us | p50 against the router |\n|---|---:|---:|---:|"
    );
    for (name, p50, p99) in &figures {
        println!("| {name} | {} | {} | {:.2}x |", p50.shown(), p99.shown(), p50.median() / base);
    }
    Ok(())
}
