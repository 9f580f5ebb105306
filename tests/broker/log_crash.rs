//! What is left of a log whose broker is killed under load, and whose disk is full.
//!
//! `MSGBENCH_KILLS` says how often each sync policy is killed; ten without it.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use crate::log_support::{Client, batch_of, produce};
use crate::process::Process;
use kafka_protocol::messages::ProduceResponse;

fn start(dir: &Path, sync: &str) -> Process {
    // Small segments, so that crashes fall into every moment of a segment's life.
    let args = ["--kafka", "127.0.0.1:0", "--format", "json", "--segment-size", "64KiB", "--sync", sync, "--data"];
    crate::process::start(&[&args[..], &[dir.to_str().unwrap()]].concat())
}

/// Sends numbered records, 16 requests ahead of their answers, until the broker is gone. Returns
/// the highest number sent, and the numbers acknowledged with their offsets.
fn load(address: SocketAddr, partition: i32, producer: usize, first: u64) -> (u64, Vec<(u64, i64)>) {
    let mut acked = Vec::new();
    // It may be gone before this has begun.
    let Ok(mut client) = Client::try_connect(address) else { return (first, acked) };
    let mut under_way = std::collections::VecDeque::new();
    let mut next = first;
    loop {
        let records: Vec<(String, String)> = (0..3)
            .map(|n| (producer.to_string(), format!("{}:{}", next + n, "x".repeat(next as usize % 200))))
            .collect();
        let borrowed: Vec<(&str, &str)> = records.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
        if client.send(&produce("t", partition, batch_of(&borrowed), -1), 9).is_err() {
            return (next + 2, acked);
        }
        under_way.push_back(next);
        next += 3;
        if under_way.len() >= 16 {
            let Ok((_, answer)) = client.receive::<ProduceResponse>(9) else { return (next, acked) };
            let part = &answer.responses[0].partition_responses[0];
            assert_eq!(part.error_code, 0);
            let number = under_way.pop_front().unwrap();
            acked.extend((0..3).map(|n| (number + n, part.base_offset + n as i64)));
        }
    }
}

#[test]
fn nothing_acknowledged_is_missing_after_kill_9() {
    let rounds: u64 = std::env::var("MSGBENCH_KILLS").ok().map_or(10, |n| n.parse().unwrap());
    for sync in ["never", "5ms", "64KiB", "group"] {
        let dir = tempfile::tempdir().unwrap();
        let mut acked: HashMap<(i32, usize), HashMap<u64, i64>> = HashMap::new();
        let mut sent = [0u64; 3];
        let mut total = 0;
        for round in 0..=rounds {
            let began = Instant::now();
            let mut broker = start(dir.path(), sync);
            assert!(began.elapsed() < Duration::from_secs(60), "recovery takes its time");
            let address = broker.kafka();
            assert_eq!(broker.json()["policy"]["recovered_kept_aside_bytes"], 0, "{}", broker.ready);
            let mut client = Client::connect(address);
            if round == 0 {
                client.create("t", 2, &[]);
            }
            total = check(&mut client, &acked, sync, round);
            if round == rounds {
                break;
            }
            let loads: Vec<_> = [(0, 0), (0, 1), (1, 2)]
                .into_iter()
                .map(|(partition, producer)| {
                    let first = sent[producer];
                    (partition, producer, std::thread::spawn(move || load(address, partition, producer, first)))
                })
                .collect();
            std::thread::sleep(Duration::from_millis(20 + round * 37 % 80));
            broker.child.kill().unwrap();
            broker.child.wait().unwrap();
            for (partition, producer, thread) in loads {
                let (last, new) = thread.join().unwrap();
                sent[producer] = last + 1;
                acked.entry((partition, producer)).or_default().extend(new);
            }
        }
        let promised: usize = acked.values().map(HashMap::len).sum();
        println!("{sync}: {rounds} kills, {promised} records acknowledged, {total} found");
        assert!(promised as u64 > rounds * 20, "{sync}: {promised}");
    }
}

#[test]
fn no_acknowledged_commit_is_missing_after_kill_9() {
    for sync in ["never", "5ms", "64KiB", "group"] {
        let dir = tempfile::tempdir().unwrap();
        let mut committed = -1;
        for round in 0..5 {
            let mut broker = start(dir.path(), sync);
            let mut client = Client::connect(broker.kafka());
            if round == 0 {
                client.create("t", 1, &[]);
            }
            assert_eq!(client.committed("g", "t", 0), committed, "{sync} round {round}");
            // Enough to fill segments of the offsets' own topic by and by, and to be killed between
            // any two.
            for _ in 0..200 + round * 17 {
                committed += 1;
                assert_eq!(client.commit("g", "t", 0, committed), 0);
            }
            broker.child.kill().unwrap();
            broker.child.wait().unwrap();
        }
    }
}

/// Every acknowledged record is at its offset; offsets are dense; of each producer no record comes
/// twice or out of order.
fn check(client: &mut Client, acked: &HashMap<(i32, usize), HashMap<u64, i64>>, sync: &str, round: u64) -> usize {
    let mut total = 0;
    for partition in 0..2 {
        let found = client.read_all("t", partition, 0);
        total += found.len();
        let mut last: HashMap<usize, u64> = HashMap::new();
        let mut places: HashMap<(usize, u64), i64> = HashMap::new();
        for (n, (offset, key, value)) in found.iter().enumerate() {
            assert_eq!(*offset, n as i64, "{sync} round {round}: offsets are dense");
            let producer: usize = String::from_utf8_lossy(key).parse().unwrap();
            let number: u64 = String::from_utf8_lossy(value).split(':').next().unwrap().parse().unwrap();
            if let Some(before) = last.insert(producer, number) {
                assert!(number > before, "{sync} round {round}: {number} after {before}");
            }
            places.insert((producer, number), *offset);
        }
        for ((_, producer), numbers) in acked.iter().filter(|((p, _), _)| *p == partition) {
            for (number, offset) in numbers {
                assert_eq!(
                    places.get(&(*producer, *number)),
                    Some(offset),
                    "{sync} round {round}: {producer}/{number}"
                );
            }
        }
    }
    total
}

/// A limit on the size of files stands in for a disk that is full: a write beyond it fails in the
/// same way.
#[test]
fn a_full_disk_is_the_protocols_error_and_the_log_recovers() {
    let dir = tempfile::tempdir().unwrap();
    // What it says goes to a file that is at the limit too: lost words may not cost a client its
    // connection.
    let words = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(words.path(), vec![b'.'; 1 << 20]).unwrap();
    let run = |limit: &str| {
        let mut command = Command::new("/bin/sh");
        let script = format!("trap '' XFSZ; ulimit -f {limit}; exec \"$0\" \"$@\"");
        command
            .args(["-c", &script, env!("CARGO_BIN_EXE_msgbench")])
            .args(["broker", "--kafka", "127.0.0.1:0", "--format", "json", "--sync", "group", "--data"])
            .arg(dir.path())
            .stderr(std::fs::File::options().append(true).open(&words).unwrap());
        crate::process::ready(command)
    };
    // In blocks of 512 or 1024 bytes, as the shell has it.
    let broker = run("64");
    let mut client = Client::connect(broker.kafka());
    client.create("t", 1, &[]);
    let value = "v".repeat(3000);
    let mut stored = 0;
    let error = loop {
        let (code, offset) = client.produce("t", 0, batch_of(&[("k", &value)]));
        if code != 0 {
            break code;
        }
        assert_eq!(offset, stored);
        stored += 1;
        assert!(stored < 100);
    };
    assert_eq!(error, 56, "KAFKA_STORAGE_ERROR");
    // What is there is still served, and what still fits is taken.
    assert_eq!(client.read_all("t", 0, 0).len() as i64, stored);
    assert_eq!(client.produce("t", 0, batch_of(&[("k", &value)])).0, 56);
    drop(broker);
    let broker = run("unlimited");
    let mut client = Client::connect(broker.kafka());
    assert_eq!(client.read_all("t", 0, 0).len() as i64, stored);
    assert_eq!(client.produce("t", 0, batch_of(&[("k", &value)])), (0, stored));
    assert_eq!(client.read_all("t", 0, 0).len() as i64, stored + 1);
}
