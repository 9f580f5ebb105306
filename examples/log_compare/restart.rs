//! Starting: to the first acknowledged record, and after a crash with much in the log.

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Instant;

use crate::Outcome;
use crate::figures::{Figure, repeats};
use crate::wire::{Client, batch, produce};

struct Broker {
    child: Child,
    address: SocketAddr,
}

impl Drop for Broker {
    fn drop(&mut self) {
        // It is what a crash is.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The program itself, which the examples lie beside.
fn program() -> Outcome<PathBuf> {
    if let Some(named) = std::env::var_os("MSGBENCH_BIN") {
        return Ok(named.into());
    }
    let here = std::env::current_exe()?;
    Ok(here.parent().and_then(Path::parent).ok_or("no folder")?.join("msgbench"))
}

fn broker(data: &Path, sync: &str) -> Outcome<Broker> {
    let mut child = Command::new(program()?)
        .args(["broker", "--kafka", "127.0.0.1:0", "--format", "json", "--sync", sync, "--data"])
        .arg(data)
        .stdout(Stdio::piped())
        .spawn()?;
    let mut line = String::new();
    BufReader::new(child.stdout.take().ok_or("no output")?).read_line(&mut line)?;
    let ready: serde_json::Value = serde_json::from_str(&line)?;
    let address = ready["policy"]["kafka"].as_str().ok_or("no address")?.trim_start_matches("kafka://").parse()?;
    Ok(Broker { child, address })
}

/// Milliseconds from the start of the process to the first acknowledged record of a new topic.
pub fn start() -> Outcome<()> {
    println!("\n| start to first acknowledged record | ms |\n|---|---:|");
    for sync in ["never", "group"] {
        let mut figure = Figure::default();
        for _ in 0..repeats() {
            let dir = tempfile::tempdir()?;
            let began = Instant::now();
            let broker = broker(dir.path(), sync)?;
            // The making of a topic ends with an acknowledged record.
            Client::connect(broker.address)?.create("t", 1, &[])?;
            figure.add(began.elapsed().as_secs_f64() * 1e3);
        }
        println!("| sync {sync} | {} |", figure.shown());
    }
    Ok(())
}

/// Forgets what the system has cached of files, if it may.
fn drop_caches() -> bool {
    // SAFETY: sync takes nothing and returns nothing.
    unsafe { libc::sync() };
    std::fs::write("/proc/sys/vm/drop_caches", "1").is_ok()
}

fn folder_size(dir: &Path) -> Outcome<u64> {
    let mut size = 0;
    for entry in std::fs::read_dir(dir)? {
        let entry = entry?;
        size += if entry.file_type()?.is_dir() { folder_size(&entry.path())? } else { entry.metadata()?.len() };
    }
    Ok(size)
}

/// Seconds from the start of the process to its ready line, after a kill -9 with so much in the
/// log.
pub fn recover() -> Outcome<()> {
    let gib = std::env::var("MSGBENCH_RECOVER_GIB").ok().and_then(|n| n.parse().ok()).unwrap_or(10u64);
    println!("\n| recovery after kill -9 | in the log | cached | s |\n|---|---:|---|---:|");
    for (sync, partitions) in [("never", 1), ("never", 40), ("50ms", 8), ("64MiB", 8), ("group", 8), ("group", 40)] {
        let dir = tempfile::tempdir_in(".")?;
        let first = broker(dir.path(), sync)?;
        let mut client = Client::connect(first.address)?;
        client.create("t", partitions, &[])?;
        let made = (0..partitions).map(|p| produce("t", p, batch(900, 1024)));
        let mut frames = made.collect::<Outcome<Vec<_>>>()?;
        let count = frames.len();
        let requests = ((gib << 30) / frames[0].len() as u64) as usize + 1;
        for n in 0..requests {
            client.send(&mut frames[n % count])?;
            if n >= 4 {
                client.acknowledged()?;
            }
        }
        drop(first);
        let size = folder_size(dir.path())? as f64 / f64::from(1 << 30);
        for cached in [true, false] {
            if !cached && !drop_caches() {
                println!("| sync {sync}, {partitions} partitions | {size:.1} GiB | no | not allowed to drop caches |");
                continue;
            }
            let began = Instant::now();
            let again = broker(dir.path(), sync)?;
            let took = began.elapsed().as_secs_f64();
            let word = if cached { "yes" } else { "no" };
            println!("| sync {sync}, {partitions} partitions | {size:.1} GiB | {word} | {took:.2} |");
            drop(again);
        }
    }
    Ok(())
}
