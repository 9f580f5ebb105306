//! The wait for an acknowledgement at a rate that both brokers keep up with: records are due by the
//! clock, whatever has become of those before.

use std::sync::mpsc::channel;
use std::time::Duration;

use msgbench::units::now;
use serde_json::json;

use crate::Outcome;
use crate::figures::{Figure, quantile, repeats, short};
use crate::systems::{Up, up};
use crate::wire::{Client, batch, produce};

const SIZE: usize = 128;
/// Records per second.
const RATE: u64 = 20_000;
/// Requests on their way at once: the default of Kafka's own producer.
const IN_FLIGHT: usize = 5;
/// How long a record may wait for others that go with it, in microseconds.
const LINGERS: [u64; 3] = [0, 1_000, 5_000];
const SPAN: Duration = Duration::from_secs(4);
/// Of a broker's first load; a Java virtual machine compiles what it runs often.
const WARM_UP: Duration = Duration::from_secs(10);
/// Records in a request at most, as 16 KiB allow.
const MOST: usize = 118;

/// What one trial has shown, times in nanoseconds.
struct Trial {
    /// Of every record, from the moment it was due to its acknowledgement.
    due: Vec<u64>,
    /// Of every request, from its sending to its acknowledgement.
    sent: Vec<u64>,
    /// CPU seconds of the broker.
    cpu: f64,
    /// By how much the last record was sent late, beyond the linger.
    behind: u64,
}

/// A request on its way: its first record, how many, and when it was sent.
struct Sent {
    first: u64,
    count: u64,
    at: u64,
}

/// Sends the records that are due, the first of them at the latest `linger` microseconds after
/// that, and waits for every acknowledgement.
fn trial(system: &Up, topic: &str, linger: u64, span: Duration) -> Outcome<Trial> {
    let mut frames = (1..=MOST).map(|n| produce(topic, 0, batch(n, SIZE))).collect::<Outcome<Vec<_>>>()?;
    let records = RATE * span.as_millis() as u64 / 1_000;
    let gap = 1_000_000_000 / RATE;
    let mut client = Client::connect(system.address)?;
    let mut sender = client.sender()?;
    let (free, places) = channel();
    (0..IN_FLIGHT).try_for_each(|_| free.send(()))?;
    let (sent, on_their_way) = channel();
    let cpu = system.cpu()?;
    let begin = now() + 10_000_000;
    let (mut due, mut took) = (Vec::with_capacity(records as usize), Vec::new());
    let behind = std::thread::scope(|scope| -> Outcome<u64> {
        let sending = scope.spawn(move || -> Outcome<u64> {
            let (mut next, mut behind) = (0, 0);
            while next < records {
                let go = begin + next * gap + linger * 1_000;
                std::thread::sleep(Duration::from_nanos(go.saturating_sub(now())));
                places.recv()?;
                // What has become due while there was no place goes along.
                let at = now();
                behind = at.saturating_sub(go);
                let count =
                    (at.saturating_sub(begin) / gap + 1).min(records).saturating_sub(next).clamp(1, MOST as u64);
                sent.send(Sent { first: next, count, at })?;
                sender.send(&mut frames[count as usize - 1])?;
                next += count;
            }
            Ok(behind)
        });
        let mut done = 0;
        while done < records {
            client.acknowledged()?;
            let at = now();
            let request: Sent = on_their_way.recv()?;
            took.push(at - request.at);
            due.extend((request.first..request.first + request.count).map(|n| at - (begin + n * gap)));
            done += request.count;
            // Who sends has ended when everything is on its way.
            let _ = free.send(());
        }
        sending.join().map_err(|_| "the sender has panicked")?
    })?;
    Ok(Trial { due, sent: took, cpu: system.cpu()? - cpu, behind })
}

#[derive(Default)]
struct Row {
    p50: Figure,
    p99: Figure,
    answer: Figure,
    cpu: Figure,
    behind: Figure,
}

pub fn run() -> Outcome<()> {
    let ours = up("reference", "reference", json!({ "log": true, "sync": "never" }))?;
    let kafka = up("kafka", "kafka", json!({}))?;
    let systems: Vec<Up> = ours.into_iter().chain(kafka).collect();
    for system in &systems {
        Client::connect(system.address)?.create("ack", 1, &[])?;
        trial(system, "ack", LINGERS[1], WARM_UP)?;
    }
    let mut rows: Vec<Row> = LINGERS.iter().flat_map(|_| &systems).map(|_| Row::default()).collect();
    for round in 0..repeats() {
        for n in 0..rows.len() {
            // Who goes first changes from round to round.
            let at = (n + round) % rows.len();
            let mut trial = trial(&systems[at % systems.len()], "ack", LINGERS[at / systems.len()], SPAN)?;
            let row = &mut rows[at];
            row.p50.add(quantile(&mut trial.due, 0.5) / 1e3);
            row.p99.add(quantile(&mut trial.due, 0.99) / 1e3);
            row.answer.add(quantile(&mut trial.sent, 0.99) / 1e3);
            row.cpu.add(trial.cpu * 1e6 / trial.due.len() as f64);
            row.behind.add(trial.behind as f64 / 1e6);
        }
    }
    println!(
        "\n| {RATE} records/s of {SIZE} B, acks=all, open loop | due to ack, p50 us | p99 us | p99 against kafka | request to ack, p99 us | CPU us a record | behind at the end, ms |"
    );
    println!("|---|---:|---:|---:|---:|---:|---:|");
    for (n, row) in rows.iter().enumerate() {
        let (linger, system) = (n / systems.len(), n % systems.len());
        let other = rows[linger * systems.len()..][..systems.len()].last().map_or(f64::NAN, |last| last.p99.median());
        let against =
            if system + 1 < systems.len() { format!("{:.2}", row.p99.median() / other) } else { String::new() };
        println!(
            "| {}, linger {} ms | {} | {} | {against} | {} | {} | {} |",
            systems[system].name,
            LINGERS[linger] as f64 / 1e3,
            row.p50.shown(),
            row.p99.shown(),
            row.answer.shown(),
            row.cpu.shown(),
            short(row.behind.median()),
        );
    }
    Ok(())
}
