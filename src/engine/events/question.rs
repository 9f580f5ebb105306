//! Questions to a cluster, asked on threads of their own: an answer may be long in coming, and the
//! control thread has other things to do.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, TryRecvError, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::driver::HandOver;
use crate::plan::ClusterRole;
use crate::system::ClusterView;
use crate::units::{Nanos, SECOND, now};

/// Who has a role must be known within so long.
const BOUND: Duration = Duration::from_secs(2);
/// Another node must lead so long after it was asked for.
const HANDED_OVER: Duration = Duration::from_secs(10);
/// Bound on one try of a question: a node that stands still does not answer.
const TRY: Duration = Duration::from_millis(700);
/// Pause between two tries.
const PAUSE: Duration = Duration::from_millis(50);
/// A cluster must say for so long on end that all is well.
const STEADY: Nanos = SECOND;

/// Who has a role, asked when an event is due, and for that event alone.
pub struct RoleQuestion {
    answer: Receiver<Result<Vec<u32>, String>>,
}

impl RoleQuestion {
    /// Asks it.
    pub fn ask(view: Arc<dyn ClusterView>, role: ClusterRole, stored: Option<String>) -> Self {
        let (told, answer) = channel();
        let body = move || {
            let deadline = Instant::now() + BOUND;
            let nodes = loop {
                match view.nodes(role, stored.as_deref(), deadline.min(Instant::now() + TRY)) {
                    Err(_) if Instant::now() + PAUSE < deadline => std::thread::sleep(PAUSE),
                    Err(words) => break Err(format!("{words}; asked for {} s", BOUND.as_secs())),
                    Ok(nodes) => break Ok(nodes),
                }
            };
            // Who does not wait any more needs no answer.
            let _ = told.send(nodes);
        };
        // Without a thread nobody answers, which is told as such.
        drop(std::thread::Builder::new().name("question".into()).spawn(body));
        Self { answer }
    }

    /// The answer, once it is there.
    pub fn answer(&self) -> Option<Result<Vec<u32>, String>> {
        match self.answer.try_recv() {
            Ok(answer) => Some(answer),
            Err(TryRecvError::Empty) => None,
            Err(TryRecvError::Disconnected) => Some(Err("the kernel gave no thread to ask".into())),
        }
    }
}

/// A leader that handed over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Transferred {
    /// When it was asked to, and since when another one leads.
    pub at: Nanos,
    pub done: Nanos,
    pub from: u32,
    pub to: u32,
}

/// The request to a leader that it hands over, until another one leads.
pub struct Transfer {
    answer: Receiver<Result<Transferred, String>>,
}

impl Transfer {
    /// Makes it: who leads is asked first. By the client's own request where there is one.
    pub fn begin(view: Arc<dyn ClusterView>, stored: Option<String>, request: Option<HandOver>) -> Self {
        let (told, answer) = channel();
        let body = move || {
            let _ = told.send(hand_over(&*view, stored.as_deref(), request));
        };
        // Without a thread nobody answers, which is told as such.
        drop(std::thread::Builder::new().name("transfer".into()).spawn(body));
        Self { answer }
    }

    /// What came of it, once it is over.
    pub fn answer(&self) -> Option<Result<Transferred, String>> {
        match self.answer.try_recv() {
            Ok(answer) => Some(answer),
            Err(TryRecvError::Empty) => None,
            Err(TryRecvError::Disconnected) => Some(Err("the thread that asks for it ended".into())),
        }
    }
}

/// The node that leads, asked until the deadline.
fn leader(view: &dyn ClusterView, stored: Option<&str>, deadline: Instant, not: Option<u32>) -> Result<u32, String> {
    loop {
        let told = view.nodes(ClusterRole::Leader, stored, deadline.min(Instant::now() + TRY));
        let told = told.and_then(|nodes| match nodes.first() {
            Some(node) if Some(*node) != not => Ok(*node),
            Some(node) => Err(format!("node {node} leads on")),
            None => Err("nobody leads".into()),
        });
        match told {
            Err(_) if Instant::now() + PAUSE < deadline => std::thread::sleep(PAUSE / 10),
            told => return told,
        }
    }
}

fn hand_over(view: &dyn ClusterView, stored: Option<&str>, request: Option<HandOver>) -> Result<Transferred, String> {
    // Who is to hand over is waited for as long as for the one who takes over.
    let from = leader(view, stored, Instant::now() + HANDED_OVER, None)?;
    let (at, deadline) = (now(), Instant::now() + HANDED_OVER);
    match request {
        None => view.transfer(stored.unwrap_or_default(), deadline)?,
        Some(request) => {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            let runtime = runtime.map_err(|e| format!("no runtime: {e}"))?;
            let bounded = async { tokio::time::timeout(HANDED_OVER, request).await };
            let answered = runtime.block_on(bounded).map_err(|_| format!("no answer in {HANDED_OVER:?}"))?;
            answered.map_err(|e| e.to_string())?;
        }
    }
    let to = leader(view, stored, deadline, Some(from))?;
    Ok(Transferred { at, done: now(), from, to })
}

/// Looks until all is well again after a fault.
pub struct SettleWatch {
    settled: Receiver<Nanos>,
    missing: Arc<Mutex<String>>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl SettleWatch {
    pub fn start(view: Arc<dyn ClusterView>) -> Self {
        let (told, settled) = channel();
        let missing = Arc::new(Mutex::new("it has not been asked".to_owned()));
        let stop = Arc::new(AtomicBool::new(false));
        let (words, stopped) = (Arc::clone(&missing), Arc::clone(&stop));
        let body = move || {
            let mut since = None;
            while !stopped.load(Ordering::Relaxed) {
                match view.settled(Instant::now() + TRY) {
                    Ok(()) => {
                        let at = now();
                        if at - *since.get_or_insert(at) >= STEADY {
                            let _ = told.send(since.unwrap_or(at));
                            return;
                        }
                    }
                    Err(why) => {
                        since = None;
                        *words.lock().unwrap_or_else(PoisonError::into_inner) = why;
                    }
                }
                std::thread::sleep(PAUSE);
            }
        };
        let thread = std::thread::Builder::new().name("settled".into()).spawn(body).ok();
        Self { settled, missing, stop, thread }
    }

    /// Since when all is well, once it was so for a while.
    pub fn settled(&self) -> Option<Nanos> {
        self.settled.try_recv().ok()
    }

    /// What was missing when it was looked for the last time.
    pub fn missing(&self) -> String {
        self.missing.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Drop for SettleWatch {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        // Not waited for: its question is bounded, and it touches nothing of the trial.
        drop(self.thread.take());
    }
}
