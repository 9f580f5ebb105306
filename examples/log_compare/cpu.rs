//! Records per broker CPU-second: produce with acks=all, the same with a consumer at the tail, and
//! reading back.

use std::net::SocketAddr;
use std::time::Instant;

use serde_json::json;

use crate::Outcome;
use crate::figures::{Figure, repeats, short};
use crate::systems::{Up, up};
use crate::wire::{Client, Reader, batch, produce};

/// Requests of one producer that are on their way: the default of Kafka's own producer.
const IN_FLIGHT: usize = 5;
/// Bytes of a batch, roughly: the same.
const BATCH: usize = 16 << 10;
/// Bytes of values in one trial.
const VOLUME: usize = 256 << 20;
/// Bytes of values of the trial that warms a broker up.
const WARM_UP: usize = 512 << 20;

#[derive(Clone, Copy)]
struct Shape {
    size: usize,
    partitions: i32,
    volume: usize,
}

impl Shape {
    fn batch_count(self) -> usize {
        // A record takes some bytes besides its value.
        (BATCH / (self.size + 10)).max(1)
    }

    fn requests(self) -> usize {
        self.volume / self.size / self.batch_count()
    }

    fn records(self) -> u64 {
        (self.requests() * self.batch_count()) as u64
    }
}

/// Sends every request, five ahead of their answers.
fn write(address: SocketAddr, topic: &str, shape: Shape) -> Outcome<()> {
    let mut client = Client::connect(address)?;
    let made = (0..shape.partitions).map(|p| produce(topic, p, batch(shape.batch_count(), shape.size)));
    let mut frames = made.collect::<Outcome<Vec<_>>>()?;
    let count = frames.len();
    for n in 0..shape.requests() {
        if n >= IN_FLIGHT {
            client.acknowledged()?;
        }
        client.send(&mut frames[n % count])?;
    }
    for _ in 0..IN_FLIGHT.min(shape.requests()) {
        client.acknowledged()?;
    }
    Ok(())
}

/// Reads until all records have come.
fn read(address: SocketAddr, topic: &str, shape: Shape) -> Outcome<()> {
    let mut reader = Reader::open(address, topic, shape.partitions)?;
    // Each partition has a record of its making besides.
    let wanted = shape.records() + shape.partitions as u64;
    let mut have = 0;
    while have < wanted {
        reader.ask()?;
        have += reader.take(|_| {})?;
    }
    Ok(())
}

/// What one trial has cost: CPU and elapsed seconds.
struct Cost {
    cpu: f64,
    elapsed: f64,
}

fn cost(system: &Up, work: impl FnOnce() -> Outcome<()>) -> Outcome<Cost> {
    let (cpu, began) = (system.cpu()?, Instant::now());
    work()?;
    Ok(Cost { elapsed: began.elapsed().as_secs_f64(), cpu: (system.cpu()? - cpu).max(0.01) })
}

/// Produce alone, produce with a tailing consumer, reading back what is there.
fn trial(system: &Up, topic: &str, shape: Shape) -> Outcome<[Cost; 3]> {
    let mut admin = Client::connect(system.address)?;
    let tailed = format!("{topic}-tailed");
    admin.create(topic, shape.partitions, &[])?;
    admin.create(&tailed, shape.partitions, &[])?;
    let address = system.address;
    let alone = cost(system, || write(address, topic, shape))?;
    let tail = cost(system, || {
        std::thread::scope(|scope| {
            let reading = scope.spawn(|| read(address, &tailed, shape));
            write(address, &tailed, shape)?;
            reading.join().map_err(|_| "the reader has panicked")?
        })
    })?;
    let back = cost(system, || read(address, topic, shape))?;
    admin.delete(topic)?;
    admin.delete(&tailed)?;
    Ok([alone, tail, back])
}

/// Produces to a broker that is there already, for whoever looks at that: `MSGBENCH_LOAD` is its
/// address, `MSGBENCH_LOAD_SIZE` (128) the bytes of a value, `MSGBENCH_LOAD_PARTITIONS` (1) over
/// how many partitions, `MSGBENCH_LOAD_MIB` (256) how much in all.
pub fn load() -> Outcome<()> {
    let number = |name: &str, otherwise| std::env::var(name).ok().and_then(|n| n.parse().ok()).unwrap_or(otherwise);
    let address =
        std::env::var("MSGBENCH_LOAD").map_err(|_| "MSGBENCH_LOAD must be the address of a broker")?.parse()?;
    let shape = Shape {
        size: number("MSGBENCH_LOAD_SIZE", 128),
        partitions: number("MSGBENCH_LOAD_PARTITIONS", 1) as i32,
        volume: number("MSGBENCH_LOAD_MIB", 256) << 20,
    };
    let mut admin = Client::connect(address)?;
    admin.create("load", shape.partitions, &[])?;
    write(address, "load", shape)?;
    admin.delete("load")?;
    println!("{} records in {} requests", shape.records(), shape.requests());
    Ok(())
}

pub fn run(sizes: &[usize]) -> Outcome<()> {
    let ours = up("reference", "reference", json!({ "log": true, "sync": "never" }))?;
    let properties = json!({ "log.segment.delete.delay.ms": "1000" });
    let kafka = up("kafka", "kafka", json!({ "broker": { "properties": properties } }))?;
    let systems: Vec<Up> = ours.into_iter().chain(kafka).collect();
    for system in &systems {
        let fresh = system.rss()?;
        for size in sizes {
            trial(system, &format!("warm-{size}"), Shape { size: *size, partitions: 8, volume: WARM_UP })?;
        }
        println!("{}: {fresh:.0} MiB resident before the warm-up, {:.0} MiB after", system.name, system.rss()?);
    }
    let kinds = ["produce, acks=all", "produce with tailing consumer", "of that, the consumer", "reading back"];
    println!("\n| records per broker CPU-second | reference | kafka | ratio | records/s, reference | kafka |");
    println!("|---|---:|---:|---:|---:|---:|");
    for (size, partitions) in sizes.iter().flat_map(|size| [(*size, 1), (*size, 8)]) {
        let shape = Shape { size, partitions, volume: VOLUME };
        let records = shape.records() as f64;
        let mut figures: Vec<[(Figure, Figure); 4]> = systems.iter().map(|_| Default::default()).collect();
        for round in 0..repeats() {
            for n in 0..systems.len() {
                // Who goes first changes from round to round.
                let n = (n + round) % systems.len();
                let [alone, tail, back] = trial(&systems[n], &format!("t-{size}-{partitions}-{round}"), shape)?;
                let consumer = Cost { cpu: (tail.cpu - alone.cpu).max(0.01), elapsed: tail.elapsed };
                for (figure, cost) in figures[n].iter_mut().zip([alone, tail, consumer, back]) {
                    figure.0.add(records / cost.cpu);
                    figure.1.add(records / cost.elapsed);
                }
            }
        }
        for (kind, name) in kinds.iter().enumerate() {
            let of = |n: usize| figures.get(n).map(|f| &f[kind]);
            let median = |n: usize| of(n).map_or(f64::NAN, |f| f.0.median());
            let cell = |n: usize, rate: bool| {
                of(n).map_or("-".into(), |f| if rate { short(f.1.median()) } else { f.0.shown() })
            };
            let ratio = median(0) / median(1);
            let (a, b, c, d) = (cell(0, false), cell(1, false), cell(0, true), cell(1, true));
            println!("| {size} B, {partitions} partitions: {name} | {a} | {b} | {ratio:.1} | {c} | {d} |");
        }
    }
    for system in &systems {
        println!("{}: {:.0} MiB resident after all of it", system.name, system.rss()?);
    }
    Ok(())
}
