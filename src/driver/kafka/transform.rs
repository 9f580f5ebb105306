//! Stream processing in a client: consume, transform, produce.
//!
//! The transformer copies each message of the input topic to the same partition of the output
//! topic. It is a thread of its own, because librdkafka's transactional calls block, and the only
//! reader of its input, so that no rebalance can fence it.
//!
//! Exactly once, the way Kafka means it, is output and input offsets in one transaction. A batch
//! whose transaction must be aborted is still in memory and is tried again; what the aborted one
//! wrote is never read. A producer that is to die in a transaction does so when the broker has the
//! batch and nothing is committed. Another one with its `transactional.id` takes its place, which
//! makes the broker abort what the dead one left, unless it has done so before, because the
//! transaction took too long; and it tries the batch again. That is what a new process would read,
//! because nothing behind the batch was committed. Without transactions each
//! message goes on as soon as it is here, and how far it has read is committed now and then, when
//! the broker has everything before.

use std::collections::BTreeMap;
use std::ffi::c_int;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rdkafka::bindings as rd;
use rdkafka::types::RDKafkaRespErr as Code;
use tokio::runtime::Runtime;

use super::native::{ClientKind, EventQueue, NativeClient, QueueSignal, taken, words};
use super::partitions::Partitions;
use super::producer::TopicHandle;
use super::reader::{BatchReader, ReceivedMessage};
use crate::driver::{DriverError, Incident, Incidents};

/// A transaction that fails so often in a row will not succeed.
const ATTEMPTS: u32 = 5;
/// Waits of the thread are cut into such pieces, so that a stop is noticed, in milliseconds.
const SLICE_MS: c_int = 20;
/// How often it is committed without transactions how far the input is read, as librdkafka does by
/// default.
const COMMIT: Duration = Duration::from_secs(5);

/// What is noted when it gives up.
const STOPPED: &str = "the transformer has stopped: nothing reaches the output topic";

/// While nobody takes the place of a dead producer, it is looked so often whether its transaction
/// is over.
const LOOK: Duration = Duration::from_millis(50);
/// The end of a partition, as a time of Kafka's.
const END: i64 = -1;

/// That the producer is to die in its next transaction, and for how long nobody takes its place.
type DeathRequest = Arc<Mutex<Option<Duration>>>;

/// What became of a transaction that did not fail.
enum TransactionEnd {
    Committed,
    /// Its producer died in it; for so long nobody takes its place.
    Died(Duration),
}

/// Makes a client in the place of one that died.
pub(super) type Successor = Box<dyn Fn() -> Result<Arc<NativeClient>, String> + Send>;

/// What the transformer works with.
pub(super) struct TransformParts {
    /// Reads the input topic from these offsets on.
    pub(super) reader: Arc<NativeClient>,
    pub(super) start: Partitions,
    pub(super) input: String,
    pub(super) output: String,
    pub(super) writer: Arc<NativeClient>,
    /// Whether the settings of the writer have a `transactional.id`.
    pub(super) transactional: bool,
    /// Whether the reader is told of the end of what is committed.
    pub(super) committed: bool,
    /// Makes another client with the settings of the writer.
    pub(super) successor: Successor,
    /// Messages of one transaction at most, and how long a smaller one is waited for.
    pub(super) size: usize,
    pub(super) interval: Duration,
    /// Bound on one transactional call.
    pub(super) timeout: Duration,
    pub(super) incidents: Incidents,
}

/// A running transformer; dropping it stops it.
#[derive(Debug)]
pub(super) struct Transformer {
    stop: Arc<AtomicBool>,
    /// Asks its producer to die in a transaction; none where it has none.
    kill: Option<DeathRequest>,
    thread: Option<JoinHandle<()>>,
}

impl Transformer {
    /// Starts it; on return a transactional producer of it is known to the coordinator.
    pub(super) fn start(parts: TransformParts, url: &str) -> Result<Self, DriverError> {
        let transactional = parts.transactional;
        let failed = |words: String| DriverError::Admin {
            action: format!("start the {}transformer", if transactional { "transactional " } else { "" }),
            url: url.to_owned(),
            words,
            remedy: match transactional {
                true => {
                    "check transaction.state.log.replication.factor of the broker, and the user's right to transactions"
                }
                false => "see the server log of the trial",
            }
            .into(),
        };
        let stop = Arc::new(AtomicBool::new(false));
        let (ready_in, ready) = mpsc::sync_channel(1);
        let (seen, kill) = (stop.clone(), DeathRequest::default());
        let asked = kill.clone();
        let work = move || match TransformLoop::new(parts, asked) {
            Ok(mut work) => {
                // The receiver waits for it.
                let _ = ready_in.send(Ok(()));
                work.run(&seen);
            }
            Err(words) => drop(ready_in.send(Err(words))),
        };
        let thread = std::thread::Builder::new().name("kafka-transform".into()).spawn(work);
        let thread = thread.map_err(|e| failed(e.to_string()))?;
        let started = Self { stop, kill: transactional.then_some(kill), thread: Some(thread) };
        match ready.recv() {
            Ok(Ok(())) => Ok(started),
            Ok(Err(words)) => Err(failed(words)),
            Err(_) => Err(failed("its thread ended".into())),
        }
    }

    /// Lets its producer die in the next transaction, and another one come so long after; false
    /// where it has none.
    pub(super) fn kill(&self, away: Duration) -> bool {
        if let Some(kill) = &self.kill {
            *kill.lock().unwrap_or_else(PoisonError::into_inner) = Some(away);
        }
        self.kill.is_some()
    }
}

impl Drop for Transformer {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Release);
        if let Some(thread) = self.thread.take() {
            // A panic of the thread was printed; nothing else is to be done about it.
            let _ = thread.join();
        }
    }
}

struct TransformLoop {
    // Handles before their clients, and queues before what they ring, see `native`.
    reader: BatchReader,
    topic: TopicHandle,
    reports: EventQueue,
    parts: TransformParts,
    kill: DeathRequest,
    /// Which transaction it is; its messages carry the number.
    attempt: u64,
    /// Rings when there is something to read or to collect; without transactions.
    waiting: Option<(QueueSignal, Runtime)>,
}

/// Messages that were handed to the writer and not reported yet, and the first failure.
#[derive(Default)]
struct Outstanding {
    messages: usize,
    /// Those before the offsets that are to be committed; without transactions.
    earlier: usize,
    failed: Option<String>,
}

impl TransformLoop {
    fn new(parts: TransformParts, kill: DeathRequest) -> Result<Self, String> {
        let timeout = milliseconds(parts.timeout);
        if parts.transactional {
            // SAFETY: the client is valid; the call is bounded, its error is taken.
            taken(unsafe { rd::rd_kafka_init_transactions(parts.writer.raw(), timeout) })?;
        }
        let topic = TopicHandle::new(&parts.writer, &parts.output).map_err(|e| e.to_string())?;
        let reader = BatchReader::new(parts.reader.clone());
        reader.assign(&parts.start).map_err(|e| e.to_string())?;
        let reports = parts.writer.queue(ClientKind::Producer);
        let mut waiting = None;
        if !parts.transactional {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            let runtime = runtime.map_err(|e| format!("no runtime: {e}"))?;
            let inside = runtime.enter();
            let signal = QueueSignal::new().map_err(|e| format!("no eventfd: {e}"))?;
            drop(inside);
            reader.attach(&signal);
            signal.attach(&reports);
            waiting = Some((signal, runtime));
        }
        Ok(Self { reader, topic, reports, parts, kill, attempt: 0, waiting })
    }

    fn run(&mut self, stop: &AtomicBool) {
        if self.parts.transactional {
            return self.run_transactions(stop);
        }
        if let Err(words) = self.forward(stop) {
            self.parts.incidents.note(Incident::Client, format!("a message was not copied: {words}"));
            self.parts.incidents.note(Incident::Client, STOPPED);
        }
    }

    /// Copies what is here as soon as it is, without transactions.
    fn forward(&mut self, stop: &AtomicBool) -> Result<(), String> {
        let (mut next, mut open, mut committed) = (BTreeMap::new(), Outstanding::default(), Instant::now());
        // Offsets whose messages are under way; they are committed when the broker has those.
        let mut due = BTreeMap::new();
        while !stop.load(Ordering::Acquire) {
            if let Err(error) = self.reader.fill() {
                self.parts.incidents.note(Incident::Client, format!("the transformer cannot read: {error}"));
                std::thread::sleep(Duration::from_millis(SLICE_MS as u64));
            }
            let mut copied = 0;
            while let Some(message) = self.reader.next() {
                if !self.produce(&message, &mut open, stop)? {
                    return Ok(());
                }
                next.insert(message.partition(), message.offset() + 1);
                copied += 1;
            }
            let reported = self.collect(&mut open, 0);
            if let Some(words) = open.failed.take() {
                return Err(words);
            }
            self.parts.writer.health().check().map_err(|e| e.to_string())?;
            if due.is_empty() && committed.elapsed() >= COMMIT && !next.is_empty() {
                due = std::mem::take(&mut next);
                open.earlier = std::mem::take(&mut open.messages);
                self.attempt += 1;
            }
            if !due.is_empty() && open.earlier == 0 {
                let offsets = Partitions::of(&self.parts.input, std::mem::take(&mut due));
                // SAFETY: client and list are valid; the list is copied. What could not be
                // committed is with the next commit.
                unsafe { rd::rd_kafka_commit(self.parts.reader.raw(), offsets.raw(), 1) };
                committed = Instant::now();
            }
            if let (0, false, Some((signal, runtime))) = (copied, reported, &self.waiting) {
                // It rings for either queue; the bound is for a stop.
                let bound = Duration::from_millis(SLICE_MS as u64);
                let _ = runtime.block_on(async { tokio::time::timeout(bound, signal.wait()).await });
            }
        }
        Ok(())
    }

    fn run_transactions(&mut self, stop: &AtomicBool) {
        let mut failures = 0;
        let mut batch: Vec<ReceivedMessage> = Vec::with_capacity(self.parts.size);
        while !stop.load(Ordering::Acquire) {
            if batch.is_empty() && !self.gather(&mut batch, stop) {
                continue;
            }
            self.attempt += 1;
            match self.transact(&batch, stop) {
                Ok(TransactionEnd::Committed) => {
                    failures = 0;
                    batch.clear();
                }
                Ok(TransactionEnd::Died(away)) => {
                    if let Err(words) = self.succeed(&batch, away, stop) {
                        let words = format!("no producer takes the place of the one that died: {words}");
                        self.parts.incidents.note(Incident::Client, words);
                        self.parts.incidents.note(Incident::Client, STOPPED);
                        return;
                    }
                }
                Err((words, again)) => {
                    failures += 1;
                    self.parts.incidents.note(Incident::Client, format!("a transaction failed: {words}"));
                    if !again || failures >= ATTEMPTS {
                        // The writer's own clients notice nothing: note it for the timeline, and
                        // stop.
                        self.parts.incidents.note(Incident::Client, STOPPED);
                        return;
                    }
                }
            }
        }
    }

    /// Collects messages until a transaction is full, or has waited long enough; false when there
    /// are none.
    fn gather(&mut self, batch: &mut Vec<ReceivedMessage>, stop: &AtomicBool) -> bool {
        let mut until = None;
        while batch.len() < self.parts.size && !stop.load(Ordering::Acquire) {
            match self.reader.next() {
                Some(message) => {
                    until.get_or_insert_with(|| Instant::now() + self.parts.interval);
                    batch.push(message);
                    continue;
                }
                None if until.is_some_and(|until| Instant::now() >= until) => break,
                None => {}
            }
            let left = until.map_or(Duration::from_millis(SLICE_MS as u64), |u| u - Instant::now());
            if let Err(error) = self.reader.wait(milliseconds(left).min(SLICE_MS)) {
                self.parts.incidents.note(Incident::Client, format!("the transformer cannot read: {error}"));
                std::thread::sleep(Duration::from_millis(SLICE_MS as u64));
            }
        }
        !batch.is_empty()
    }

    /// Puts another producer in the place of one that died with an open transaction, so long after.
    fn succeed(&mut self, batch: &[ReceivedMessage], away: Duration, stop: &AtomicBool) -> Result<(), String> {
        let died = Instant::now();
        let note = |incidents: &Incidents, words| incidents.note(Incident::Planned, words);
        let words = format!("the producer died in a transaction of {} messages, as the scenario asks", batch.len());
        note(&self.parts.incidents, words);
        let open = self.ends(batch);
        // It asks for nothing before it is told to begin; the old one ends when it is replaced.
        let writer = (self.parts.successor)()?;
        self.topic = TopicHandle::new(&writer, &self.parts.output).map_err(|e| e.to_string())?;
        self.reports = writer.queue(ClientKind::Producer);
        self.parts.writer = writer;
        let mut aborted = !self.parts.committed || open.is_none();
        while died.elapsed() < away && !stop.load(Ordering::Acquire) {
            std::thread::sleep(LOOK.min(away.saturating_sub(died.elapsed())));
            if !aborted && passed(open.as_ref(), self.ends(batch).as_ref()) {
                aborted = true;
                let ms = died.elapsed().as_millis();
                note(&self.parts.incidents, format!("the broker aborted its transaction by itself, {ms} ms after"));
            }
        }
        // SAFETY: the client is valid; the call is bounded, its error is taken.
        taken(unsafe { rd::rd_kafka_init_transactions(self.parts.writer.raw(), milliseconds(self.parts.timeout)) })?;
        let ms = died.elapsed().as_millis();
        note(&self.parts.incidents, format!("another producer took its place, {ms} ms after"));
        Ok(())
    }

    /// Up to where readers are given the partitions of a batch in the output topic, where that is
    /// known.
    fn ends(&self, batch: &[ReceivedMessage]) -> Option<BTreeMap<i32, i64>> {
        let partitions: BTreeMap<i32, i64> = batch.iter().map(|message| (message.partition(), END)).collect();
        let list = Partitions::of(&self.parts.output, partitions);
        let timeout = milliseconds(self.parts.timeout);
        // SAFETY: client and list are valid; the call fills in offsets and is bounded.
        let code = unsafe { rd::rd_kafka_offsets_for_times(self.parts.reader.raw(), list.raw(), timeout) };
        let known = code == Code::RD_KAFKA_RESP_ERR_NO_ERROR && list.error().is_none();
        known.then(|| list.offsets().collect())
    }

    /// One transaction over a batch. An error says whether to try again.
    fn transact(&self, batch: &[ReceivedMessage], stop: &AtomicBool) -> Result<TransactionEnd, (String, bool)> {
        let raw = self.parts.writer.raw();
        let timeout = milliseconds(self.parts.timeout);
        // SAFETY: here and below the client is valid, the calls are bounded, their errors are
        // taken.
        taken(unsafe { rd::rd_kafka_begin_transaction(raw) }).map_err(|words| (words, false))?;
        let done = self.copy(batch, stop).and_then(|()| {
            if let Some(away) = self.kill.lock().unwrap_or_else(PoisonError::into_inner).take() {
                return Ok(TransactionEnd::Died(away));
            }
            let offsets = next_offsets(&self.parts.input, batch);
            // SAFETY: as above; the group's metadata is destroyed after its use.
            unsafe {
                let group = rd::rd_kafka_consumer_group_metadata(self.parts.reader.raw());
                let sent = rd::rd_kafka_send_offsets_to_transaction(raw, offsets.raw(), group, timeout);
                rd::rd_kafka_consumer_group_metadata_destroy(group);
                taken(sent)?;
                taken(rd::rd_kafka_commit_transaction(raw, timeout)).map(|()| TransactionEnd::Committed)
            }
        });
        done.map_err(|words| {
            // SAFETY: as above.
            let aborted = taken(unsafe { rd::rd_kafka_abort_transaction(raw, timeout) });
            match aborted {
                Ok(()) => (words, true),
                Err(abort) => (format!("{words}; and it cannot be aborted: {abort}"), false),
            }
        })
    }

    /// Writes the batch and waits until the broker has it: with delivery events, a commit would not
    /// wait by itself.
    fn copy(&self, batch: &[ReceivedMessage], stop: &AtomicBool) -> Result<(), String> {
        let mut open = Outstanding::default();
        for message in batch {
            if !self.produce(message, &mut open, stop)? {
                return Err("it was stopped".into());
            }
        }
        self.acknowledged(&mut open)
    }

    /// Hands a copy of a message to the writer, waiting while that is full; false when it is to
    /// stop.
    fn produce(&self, message: &ReceivedMessage, open: &mut Outstanding, stop: &AtomicBool) -> Result<bool, String> {
        let (partition, key, payload) = (message.partition(), message.key(), message.payload());
        while let Err(code) = self.topic.produce(partition, key, payload, self.attempt) {
            if code != Code::RD_KAFKA_RESP_ERR__QUEUE_FULL {
                return Err(words(code));
            }
            self.collect(open, SLICE_MS);
            if stop.load(Ordering::Acquire) {
                return Ok(false);
            }
        }
        open.messages += 1;
        Ok(true)
    }

    /// Takes an event of the writer, waiting so many milliseconds for one; whether there was one.
    fn collect(&self, open: &mut Outstanding, wait: c_int) -> bool {
        let Some(event) = self.reports.event(wait) else { return false };
        let health = self.parts.writer.health();
        match event.kind() {
            rd::RD_KAFKA_EVENT_DR => event.deliveries(|attempt, code| {
                let of = match self.attempt - attempt {
                    0 => &mut open.messages,
                    1 if open.earlier > 0 => &mut open.earlier,
                    // Those of a transaction that was aborted come late.
                    _ => return,
                };
                *of = of.saturating_sub(1);
                match code {
                    Code::RD_KAFKA_RESP_ERR_NO_ERROR => health.note_recovery(),
                    code => {
                        open.failed.get_or_insert(words(code));
                    }
                }
            }),
            // Of a connection, and of no message: librdkafka tries again.
            _ => drop(event.error().map_err(|(code, text)| health.note_error(code as c_int, text))),
        }
        true
    }

    /// Waits until the broker has all that was handed to the writer.
    fn acknowledged(&self, open: &mut Outstanding) -> Result<(), String> {
        let deadline = Instant::now() + self.parts.timeout;
        while open.messages > 0 {
            self.collect(open, SLICE_MS);
            if Instant::now() >= deadline {
                return Err(format!("{} messages were not acknowledged in time", open.messages));
            }
        }
        open.failed.take().map_or(Ok(()), Err)
    }
}

/// For each partition of a batch, the offset after its last message.
fn next_offsets(topic: &str, batch: &[ReceivedMessage]) -> Partitions {
    let mut last = BTreeMap::new();
    for message in batch {
        last.insert(message.partition(), message.offset() + 1);
    }
    Partitions::of(topic, last)
}

/// Whether every partition goes on beyond where it did before.
fn passed(before: Option<&BTreeMap<i32, i64>>, after: Option<&BTreeMap<i32, i64>>) -> bool {
    let (Some(before), Some(after)) = (before, after) else { return false };
    before.iter().all(|(partition, end)| after.get(partition).is_some_and(|later| later > end))
}

fn milliseconds(span: Duration) -> c_int {
    c_int::try_from(span.as_millis()).unwrap_or(c_int::MAX)
}
