//! Experiment: how many agents does one control server bear, and one coordinator?
//!
//!     cargo build --release --example control_scale
//!     target/release/examples/control_scale [--agents 1000] [--reports 1] [--seconds 20]
//!         [--result 100KiB]
//!
//! Starts a nats-server (`MSGBENCH_NATS_SERVER`, or the one on the path) and as many connections to
//! it as there are agents. Each says what an agent says: a report of its counts so many times a
//! second, and, when all have reported for so long, its result in pieces with a checksum, each
//! asked for until it is answered. One thread is the coordinator: it reads every report and puts
//! the results together. Printed: messages and bytes, processor time of the server, of the
//! coordinator and of each agent, how late reports come, how long it takes until all results are
//! there.
//!
//! The messages are those of src/agents, with as many bytes; nothing is measured by these agents.
//! Results are random bytes, as what is compressed already.

#![allow(clippy::unwrap_used, reason = "an experiment that cannot go on fails here")]

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use async_nats::{Client, ConnectOptions};
use bytes::Bytes;
use futures_util::StreamExt as _;
use msgbench::units::{Bytes as Size, Nanos, SECOND, now};
use rand::RngExt as _;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

/// Bytes of a piece.
const PIECE: usize = 256 * 1024;
const REPORT: &str = "msgbench.scale.run.r.report";
const PIECES: &str = "msgbench.scale.run.r.piece";
const ALIVE: &str = "msgbench.scale.run.r.alive";
/// Tells all to bring their results.
const BRING: &str = "msgbench.scale.run.r.bring";
/// Connections that are opened at a time.
const AT_ONCE: usize = 50;
/// No experiment takes longer.
const BOUND: Duration = Duration::from_secs(600);

/// A report as an agent writes it, with one workload.
#[derive(Debug, Serialize, Deserialize)]
struct Report {
    id: String,
    trial: u64,
    stage: Option<String>,
    progress: Progress,
    /// Not in that of an agent: when it was sent, for its delay.
    at: Nanos,
}

#[derive(Debug, Serialize, Deserialize)]
struct Progress {
    counts: Vec<BTreeMap<String, u64>>,
    draining: bool,
    sent_all: bool,
    failed: Option<(String, String)>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Header {
    id: String,
    trial: u64,
    kind: String,
    number: u32,
    of: u32,
    sha256: String,
}

struct Asked {
    agents: usize,
    reports: f64,
    seconds: u64,
    result: usize,
}

fn asked() -> Asked {
    let mut it = Asked { agents: 1000, reports: 1.0, seconds: 20, result: 100 * 1024 };
    let mut args = std::env::args().skip(1);
    while let Some(name) = args.next() {
        let value = args.next().unwrap();
        match name.as_str() {
            "--agents" => it.agents = value.parse().unwrap(),
            "--reports" => it.reports = value.parse().unwrap(),
            "--seconds" => it.seconds = value.parse().unwrap(),
            "--result" => it.result = value.parse::<Size>().unwrap().0 as usize,
            other => panic!("there is no option {other}"),
        }
    }
    it
}

/// A nats-server on a free port of the loopback, gone when it is dropped.
struct Server {
    child: Child,
    url: String,
    _dir: tempfile::TempDir,
}

impl Server {
    fn start() -> Self {
        let program = std::env::var_os("MSGBENCH_NATS_SERVER").map_or_else(|| "nats-server".into(), PathBuf::from);
        let dir = tempfile::tempdir().unwrap();
        let mut command = Command::new(program);
        command.args(["-a", "127.0.0.1", "-p", "-1", "--ports_file_dir"]).arg(dir.path());
        let child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let ports = || {
            let file = std::fs::read_dir(dir.path()).unwrap().flatten().find(|e| e.path().extension().is_some())?;
            let text = std::fs::read_to_string(file.path()).ok()?;
            let ports: serde_json::Value = serde_json::from_str(&text).ok()?;
            Some(ports["nats"][0].as_str()?.to_owned())
        };
        let until = Instant::now() + Duration::from_secs(30);
        let url = loop {
            if let Some(url) = ports() {
                break url;
            }
            assert!(Instant::now() < until, "nats-server does not come up");
            std::thread::sleep(Duration::from_millis(20));
        };
        Self { child, url, _dir: dir }
    }

    /// Processor seconds, and bytes in memory.
    fn used(&self) -> (f64, u64) {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.child.id())).unwrap();
        let fields: Vec<&str> = stat.rsplit_once(')').unwrap().1.split_whitespace().collect();
        let ticks: u64 = fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap();
        // SAFETY: sysconf only reads.
        let (per_second, page) = unsafe { (libc::sysconf(libc::_SC_CLK_TCK), libc::sysconf(libc::_SC_PAGESIZE)) };
        (ticks as f64 / per_second as f64, fields[21].parse::<u64>().unwrap() * page as u64)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Processor seconds of the calling thread, or of the whole process.
fn processor(who: libc::c_int) -> f64 {
    // SAFETY: rusage is plain data for which all zeros is valid, and it is writable for the call.
    let usage = unsafe {
        let mut usage: libc::rusage = std::mem::zeroed();
        assert_eq!(libc::getrusage(who, &mut usage), 0);
        usage
    };
    let seconds = |t: libc::timeval| t.tv_sec as f64 + t.tv_usec as f64 / 1e6;
    seconds(usage.ru_utime) + seconds(usage.ru_stime)
}

fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|b| format!("{b:02x}")).collect()
}

async fn connect(url: &str) -> Client {
    ConnectOptions::new().connection_timeout(Duration::from_secs(30)).connect(url).await.unwrap()
}

fn report(id: &str, second: u64) -> Vec<u8> {
    let names = ["sent", "acked", "arrived"];
    let counts = names.map(|name| (name.to_owned(), 1_000_000 + second * 10_000)).into_iter().collect();
    let progress = Progress { counts: vec![counts], draining: false, sent_all: false, failed: None };
    let report = Report { id: id.into(), trial: 1, stage: Some("connected".into()), progress, at: now() };
    serde_json::to_vec(&report).unwrap()
}

/// One agent: reports until it is told to bring its result, and brings it.
async fn agent(url: String, number: usize, reports: f64, result: usize) {
    let client = connect(&url).await;
    let id = format!("{number:08x}{:024x}", number * 7919);
    let mut bring = client.subscribe(BRING).await.unwrap();
    let mut alive = client.subscribe(ALIVE).await.unwrap();
    let interval = Duration::from_secs_f64(1.0 / reports);
    // Agents are not in step.
    let phase = rand::rng().random_range(0.0..1.0);
    tokio::time::sleep(interval.mul_f64(phase)).await;
    let mut ticks = tokio::time::interval(interval);
    let mut second = 0;
    loop {
        tokio::select! {
            _ = ticks.tick() => {
                second += 1;
                client.publish(REPORT, report(&id, second).into()).await.unwrap();
            }
            _ = alive.next() => {}
            _ = bring.next() => break,
        }
    }
    let mut whole = vec![0; result];
    rand::rng().fill(&mut whole[..]);
    let of = result.div_ceil(PIECE).max(1) as u32;
    let sha256 = sha256(&whole);
    for (number, part) in whole.chunks(PIECE).enumerate() {
        let header = Header {
            id: id.clone(),
            trial: 1,
            kind: "accounts".into(),
            number: number as u32,
            of,
            sha256: sha256.clone(),
        };
        let mut payload = serde_json::to_vec(&header).unwrap();
        payload.push(b'\n');
        payload.extend_from_slice(part);
        let payload = Bytes::from(payload);
        while client.request(PIECES, payload.clone()).await.is_err() {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
    client.drain().await.unwrap();
}

/// What the coordinator saw.
#[derive(Debug, Default)]
struct Seen {
    reports: u64,
    report_bytes: u64,
    delays: Vec<Nanos>,
    /// Processor seconds in the phase of reports, and in that of results.
    processor: [f64; 2],
    gather: Duration,
    pieces: u64,
    broken: u64,
}

/// Reads reports for so long after the first of each agent, then has all results brought.
async fn coordinate(url: &str, asked: &Asked, mark: impl Fn()) -> Seen {
    let client = connect(url).await;
    let mut reports = client.subscribe(REPORT).await.unwrap();
    let mut pieces = client.subscribe(PIECES).await.unwrap();
    client.flush().await.unwrap();
    let mut known: BTreeMap<String, u64> = BTreeMap::new();
    while known.len() < asked.agents {
        let message = tokio::time::timeout(BOUND, reports.next()).await.unwrap().unwrap();
        let report: Report = serde_json::from_slice(&message.payload).unwrap();
        *known.entry(report.id).or_default() += 1;
    }
    mark();
    let mut seen = Seen::default();
    let begin = processor(libc::RUSAGE_THREAD);
    let mut alive = tokio::time::interval(Duration::from_secs(1));
    let end = tokio::time::sleep(Duration::from_secs(asked.seconds));
    tokio::pin!(end);
    loop {
        tokio::select! {
            message = reports.next() => {
                let message = message.unwrap();
                let report: Report = serde_json::from_slice(&message.payload).unwrap();
                seen.delays.push(now().saturating_sub(report.at));
                seen.reports += 1;
                seen.report_bytes += message.payload.len() as u64;
                *known.entry(report.id).or_default() += 1;
            }
            _ = alive.tick() => client.publish(ALIVE, "{}".into()).await.unwrap(),
            () = &mut end => break,
        }
    }
    seen.processor[0] = processor(libc::RUSAGE_THREAD) - begin;
    mark();
    let began = Instant::now();
    client.publish(BRING, "".into()).await.unwrap();
    let mut open: BTreeMap<String, BTreeMap<u32, Bytes>> = BTreeMap::new();
    let mut done = 0;
    while done < asked.agents {
        let message = tokio::time::timeout(BOUND, pieces.next()).await.unwrap().unwrap();
        let end = message.payload.iter().position(|b| *b == b'\n').unwrap();
        let header: Header = serde_json::from_slice(&message.payload[..end]).unwrap();
        let parts = open.entry(header.id.clone()).or_default();
        parts.insert(header.number, message.payload.slice(end + 1..));
        if parts.len() == header.of as usize {
            let whole: Vec<u8> = std::mem::take(parts).into_values().flatten().collect();
            seen.broken += u64::from(sha256(&whole) != header.sha256);
            done += 1;
        }
        seen.pieces += 1;
        client.publish(message.reply.unwrap(), r#"{"answer":"yes"}"#.into()).await.unwrap();
    }
    client.flush().await.unwrap();
    seen.gather = began.elapsed();
    seen.processor[1] = processor(libc::RUSAGE_THREAD) - begin - seen.processor[0];
    mark();
    seen
}

fn raise_file_limit() {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: `limit` is a valid rlimit for both calls, and asks for no more than is allowed.
    unsafe {
        assert_eq!(libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit), 0);
        limit.rlim_cur = limit.rlim_max;
        libc::setrlimit(libc::RLIMIT_NOFILE, &limit);
    }
}

fn main() {
    let asked = asked();
    raise_file_limit();
    let server = Server::start();
    let marks = std::sync::Mutex::new(Vec::new());
    let mark = || marks.lock().unwrap().push((Instant::now(), server.used(), processor(libc::RUSAGE_SELF)));
    let seen = std::thread::scope(|scope| {
        let coordinator = scope.spawn(|| {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(coordinate(&server.url, &asked, mark))
        });
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            // The coordinator is there first.
            tokio::time::sleep(Duration::from_millis(500)).await;
            let mut agents = Vec::new();
            for number in 0..asked.agents {
                agents.push(tokio::spawn(agent(server.url.clone(), number, asked.reports, asked.result)));
                if number % AT_ONCE == AT_ONCE - 1 {
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
            }
            for agent in agents {
                agent.await.unwrap();
            }
        });
        coordinator.join().unwrap()
    });
    print(&asked, seen, &marks.into_inner().unwrap());
}

type Mark = (Instant, (f64, u64), f64);

fn print(asked: &Asked, mut seen: Seen, marks: &[Mark]) {
    seen.delays.sort_unstable();
    let delay = |p: f64| {
        let at = ((seen.delays.len() as f64 * p) as usize).min(seen.delays.len().saturating_sub(1));
        seen.delays.get(at).map_or(0.0, |ns| *ns as f64 / 1e6)
    };
    let phase = |i: usize| {
        let (from, to) = (&marks[i], &marks[i + 1]);
        let wall = (to.0 - from.0).as_secs_f64();
        (wall, to.1.0 - from.1.0, to.2 - from.2 - seen.processor[i])
    };
    let n = asked.agents as f64;
    let (wall, server, agents) = phase(0);
    println!("agents {}, {} reports/s each, results of {} B", asked.agents, asked.reports, asked.result);
    println!(
        "reports: {:.0} messages/s, {:.0} B each, {:.2} MB/s; delay p50 {:.2} ms, p99 {:.2} ms, longest {:.1} ms",
        seen.reports as f64 / wall,
        seen.report_bytes as f64 / seen.reports.max(1) as f64,
        seen.report_bytes as f64 / wall / 1e6,
        delay(0.5),
        delay(0.99),
        seen.delays.last().map_or(0.0, |ns| *ns as f64 / 1e6),
    );
    let percent = |seconds: f64| 100.0 * seconds / wall;
    println!(
        "processor: server {:.1} % of a core ({:.1} us a report), coordinator {:.1} % ({:.1} us), each agent {:.4} %",
        percent(server),
        1e6 * server / seen.reports.max(1) as f64,
        percent(seen.processor[0]),
        1e6 * seen.processor[0] / seen.reports.max(1) as f64,
        percent(agents) / n,
    );
    let (wall, server, _) = phase(1);
    let bytes = n * asked.result as f64;
    println!(
        "results: {} pieces, {:.1} MB, all there after {:.2} s ({:.0} MB/s), {} broken; processor: server {server:.2} s, coordinator {:.2} s",
        seen.pieces,
        bytes / 1e6,
        seen.gather.as_secs_f64(),
        bytes / wall / 1e6,
        seen.broken,
        seen.processor[1],
    );
    println!(
        "memory of the server: {:.1} MB ({:.1} kB an agent)",
        marks[1].1.1 as f64 / 1e6,
        marks[1].1.1 as f64 / n / 1e3
    );
    assert!(seen.delays.len() as u64 == seen.reports && wall * SECOND as f64 > 0.0);
}
