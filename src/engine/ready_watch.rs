//! The control beside the clients of an outage: when the system itself was ready again. What an
//! outage lasts beyond that is the client's, with its pauses between two tries.
//!
//! # Design
//! A thread for each fault tries all the while. Of a cluster it asks who leads the stream, or the
//! first partition, of the first workload; of a single server it opens a connection and waits for
//! what the protocol says first. It knows no backoff and keeps no connection.

use std::io::{Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use crate::plan::ClusterRole;
use crate::record::{FaultRecord, SAME_MOMENT};
use crate::system::ClusterView;
use crate::units::{Nanos, now};

use super::raw::RawTrial;
use super::setup::TrialSetup;

/// Between two tries, and the bound on one.
const PAUSE: Duration = Duration::from_millis(10);
const TRY: Duration = Duration::from_millis(300);
/// A fault that has taken nothing away within so long takes nothing away.
const PATIENCE: Duration = Duration::from_secs(30);

/// How it is known that a system is ready.
#[derive(Clone)]
pub enum Readiness {
    /// A node leads what is stored under this name.
    Leads(Arc<dyn ClusterView>, String),
    /// A server answers at this address; what is said to it first.
    Answers { address: String, hello: &'static [u8] },
}

impl Readiness {
    /// Of the system of a trial, where something is done to it and outages are noted.
    pub fn of(setup: &TrialSetup<'_>, view: Option<Arc<dyn ClusterView>>, stored: Option<String>) -> Option<Self> {
        let noted = setup.deadline.is_some() && !setup.events.is_empty();
        noted.then(|| Self::at(&setup.running.url, view, stored))?
    }

    /// Of a system at this URL; `None` where it is not known how to ask it.
    fn at(url: &str, view: Option<Arc<dyn ClusterView>>, stored: Option<String>) -> Option<Self> {
        let (scheme, rest) = url.split_once("://")?;
        let address = rest.rsplit('@').next()?.trim_end_matches('/').to_owned();
        match (view, stored) {
            (Some(view), Some(stored)) if address.contains(',') => Some(Self::Leads(view, stored)),
            _ if address.contains(',') => None,
            _ => Some(Self::Answers { address, hello: hello(scheme)? }),
        }
    }

    /// Whether it is ready.
    fn ready(&self) -> bool {
        match self {
            Self::Leads(view, stored) => {
                view.nodes(ClusterRole::Leader, Some(stored.as_str()), Instant::now() + TRY).is_ok()
            }
            Self::Answers { address, hello } => answers(address, hello).is_ok(),
        }
    }
}

/// What is said to a server first; nothing where it speaks first.
fn hello(scheme: &str) -> Option<&'static [u8]> {
    match scheme {
        "nats" | "tls" => Some(b""),
        "redis" => Some(b"PING\r\n"),
        // ApiVersions, version 0: ten bytes, number 1, no client's name.
        "kafka" => Some(&[0, 0, 0, 10, 0, 18, 0, 0, 0, 0, 0, 1, 0xff, 0xff]),
        _ => None,
    }
}

fn answers(address: &str, hello: &[u8]) -> std::io::Result<()> {
    let address = address.to_socket_addrs()?.next().ok_or(std::io::ErrorKind::NotFound)?;
    let mut stream = TcpStream::connect_timeout(&address, TRY)?;
    stream.set_read_timeout(Some(TRY))?;
    stream.write_all(hello)?;
    stream.read_exact(&mut [0])
}

/// Looks, after each fault, when the system is ready again.
pub struct ReadyWatch {
    readiness: Option<Readiness>,
    threads: Vec<ReadyThread>,
}

/// Looks after one fault.
struct ReadyThread {
    /// The event, which time of it, and the nodes: of a rolling restart each node is a fault.
    fault: (u32, u32, Vec<u32>),
    /// When the fault was.
    at: Nanos,
    stop: Arc<AtomicBool>,
    ready: Receiver<Nanos>,
}

impl ReadyWatch {
    pub fn new(readiness: Option<Readiness>) -> Self {
        Self { readiness, threads: Vec::new() }
    }

    /// Begins to look after each fault of the system that is new; those of a moment before it are
    /// over for that. Faults are noted in any order: a transfer when it is done.
    pub fn note(&mut self, faults: &[FaultRecord]) {
        let Some(readiness) = &self.readiness else { return };
        for fault in faults.iter().filter(|f| f.consumer.is_none() && !f.action.of_consumer()) {
            let key = (fault.event, fault.occurrence, fault.nodes.clone());
            if self.threads.iter().any(|t| t.fault == key) {
                continue;
            }
            self.stop(|t| t.at.saturating_add(SAME_MOMENT) < fault.at_ns);
            let stop = Arc::new(AtomicBool::new(false));
            let (told, ready) = channel();
            let (stopped, readiness) = (Arc::clone(&stop), readiness.clone());
            // Who was killed is gone, even if nobody has seen it.
            let gone = fault.action.ends() && matches!(readiness, Readiness::Answers { .. });
            let body = move || {
                if let Some(at) = ready_again(|| readiness.ready(), gone, &stopped) {
                    // Who does not wait any more needs no answer.
                    let _ = told.send(at);
                }
            };
            // Without a thread it is not known.
            drop(std::thread::Builder::new().name("ready".into()).spawn(body));
            self.threads.push(ReadyThread { fault: key, at: fault.at_ns, stop, ready });
        }
    }

    /// When the system was ready again, for each fault.
    pub fn fold(self, raw: &mut RawTrial) {
        raw.ready = self.threads.iter().filter_map(|t| Some((t.at, t.ready.try_recv().ok()?))).collect();
        self.stop(|_| true);
    }

    fn stop(&self, which: impl Fn(&ReadyThread) -> bool) {
        self.threads.iter().filter(|t| which(t)).for_each(|t| t.stop.store(true, Ordering::Relaxed));
    }
}

/// The first instant at which it is ready after it was not; `None` where it was ready all the
/// while, or until it is stopped.
fn ready_again(ready: impl Fn() -> bool, gone: bool, stopped: &AtomicBool) -> Option<Nanos> {
    let (begun, mut gone) = (Instant::now(), gone);
    while !stopped.load(Ordering::Relaxed) && (gone || begun.elapsed() < PATIENCE) {
        match ready() {
            true if gone => return Some(now()),
            true => {}
            false => gone = true,
        }
        std::thread::sleep(PAUSE);
    }
    None
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;
    use std::sync::atomic::AtomicU32;

    use super::*;
    use crate::plan::Action;
    use crate::units::SECOND;

    fn fault(event: u32, at_ns: Nanos, nodes: &[u32]) -> FaultRecord {
        FaultRecord {
            event,
            occurrence: 1,
            action: Action::Kill,
            nodes: nodes.to_vec(),
            role: None,
            consumer: None,
            due_ns: at_ns,
            at_ns,
            undone_ns: None,
            settled_ns: None,
        }
    }

    /// Each fault of the system is looked after once, whatever order they are noted in; only a
    /// later one of the system ends that.
    #[test]
    fn each_fault_is_looked_after_once_and_until_the_next() {
        // Nobody ever answers: all that is begun goes on until it is stopped.
        let readiness = Readiness::Answers { address: "127.0.0.1:1".into(), hello: b"" };
        let mut watch = ReadyWatch::new(Some(readiness));
        let looked = |watch: &ReadyWatch| -> Vec<(Nanos, bool)> {
            watch.threads.iter().map(|t| (t.at, !t.stop.load(Ordering::Relaxed))).collect()
        };
        let mut raw = RawTrial::default();
        raw.add_fault(fault(0, 5 * SECOND, &[0]));
        watch.note(&raw.faults);
        // A consumer dies later, and a leader has handed over before.
        let consumer = FaultRecord { action: Action::ConsumerKill, consumer: Some(1), ..fault(1, 6 * SECOND, &[]) };
        raw.add_fault(consumer);
        raw.add_fault(FaultRecord { action: Action::Transfer, ..fault(2, 4 * SECOND, &[1]) });
        watch.note(&raw.faults);
        assert_eq!(looked(&watch), [(5 * SECOND, true), (4 * SECOND, true)]);
        // Nodes of a rolling restart, and another one at the same moment as the second.
        raw.add_fault(fault(3, 7 * SECOND, &[0]));
        watch.note(&raw.faults);
        raw.add_fault(fault(3, 9 * SECOND, &[1]));
        raw.add_fault(fault(4, 9 * SECOND + 1, &[2]));
        watch.note(&raw.faults);
        watch.note(&raw.faults);
        assert_eq!(
            looked(&watch),
            [5 * SECOND, 4 * SECOND, 7 * SECOND, 9 * SECOND, 9 * SECOND + 1].map(|at| (at, at >= 9 * SECOND))
        );
        watch.fold(&mut raw);
    }

    #[test]
    fn ready_is_who_was_away_and_is_there() {
        let stop = AtomicBool::new(false);
        let script = |answers: &'static [bool]| {
            let at = AtomicU32::new(0);
            move || answers[(at.fetch_add(1, Ordering::Relaxed) as usize).min(answers.len() - 1)]
        };
        let before = now();
        let found = ready_again(script(&[true, true, false, false, false, true]), false, &stop).unwrap();
        assert!(found - before >= 50_000_000, "five pauses: {}", found - before);
        assert!(ready_again(script(&[true]), true, &stop).is_some(), "what was killed is gone");
        stop.store(true, Ordering::Relaxed);
        assert_eq!(ready_again(script(&[false]), false, &stop), None);
    }

    #[test]
    fn a_server_is_ready_when_it_speaks_and_not_when_the_kernel_takes_the_connection() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("kafka://{}", listener.local_addr().unwrap());
        let readiness = Readiness::at(&url, None, None).unwrap();
        assert!(!readiness.ready(), "nobody accepts");
        let serve = move || {
            let mut asked = [0; 14];
            while let Ok((mut stream, _)) = listener.accept() {
                if stream.read_exact(&mut asked).is_ok() && asked[5] == 18 {
                    let _ = stream.write_all(&[0, 0, 0, 2]);
                }
            }
        };
        std::thread::spawn(serve);
        assert!(readiness.ready(), "it answers");
        assert!(Readiness::at("null://", None, None).is_none());
        assert!(Readiness::at("nats://a:1,b:2", None, None).is_none(), "a cluster without roles");
    }
}
