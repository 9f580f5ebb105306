//! JetStream on the reference broker: streams on the log, and consumers that ask for messages.
//!
//! **Scope.** As far as the `jetstream` driver needs it: streams with `limits` (of messages) or
//! `workqueue`, identifiers of messages, pull consumers with every kind of acknowledgement,
//! redelivery and its limit. What is not served is refused in words: push consumers, mirrors,
//! sources, key-value, limits of bytes and age, batches, replicas.
//!
//! **Design.** One task has everything, without locks: it is a connection of the router without a
//! socket, whose subscriptions are those of the streams and of the protocol's own subjects. What
//! the router hands over is read in the form that clients get. A stream is a topic of one partition
//! in a log of its own; its number in the stream is the offset and one. What a stream and its
//! consumers are is written down with the topic; where consumers are, now and then ([`NOTE`]):
//! after a crash of the process messages acknowledged since come again.

mod api;
mod consumer;
mod deliver;
mod frames;
mod stored;
mod stream;

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};

use super::config::SlowConsumer;
use super::hub::{NatsHub, Phase};
use super::index::Subscription;
use super::outlet::{Outlet, OutletLimits, WriterTask};
use super::parse::Publish;
use super::pool::BufferPool;
use super::router::Router;
use crate::broker::log::{Log, LogError, LogOptions, SyncTicket, WakeSignal};
use crate::broker::shared::log_error;
use crate::units::{Nanos, calendar, now};
use consumer::AckWord;
use frames::RoutedMessage;
pub(super) use stored::StoredFormat;
use stream::{Published, Stream};

/// How often it is written down where streams begin and where consumers are.
const NOTE: Duration = Duration::from_millis(250);

/// Code, number of the error, and words, as nats-server has them.
pub(super) type ApiError = (u16, u32, String);
const BAD_REQUEST: ApiError = (400, 10003, String::new());
const INVALID_STREAM: u32 = 10052;

/// The names of its subscriptions; those of streams begin with `S`.
const API: &[u8] = b"A";
const ACKS: &[u8] = b"K";

/// What is told once a sync is over.
struct WaitingAck {
    ticket: SyncTicket,
    reply: Vec<u8>,
    answer: Vec<u8>,
}

/// Everything there is of JetStream.
pub(super) struct JetStream {
    log: Arc<Log>,
    streams: BTreeMap<String, Stream>,
    /// Subscriptions of the streams, by stream.
    subscriptions: BTreeMap<String, Vec<Arc<Subscription>>>,
    waiting: VecDeque<WaitingAck>,
    wake: Arc<WakeSignal>,
}

/// The connection that it is for the router.
struct RouterLink {
    hub: Arc<NatsHub>,
    outlet: Arc<Outlet>,
    router: Router,
}

fn wall() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_nanos() as i64)
}

/// A time in nanoseconds since the Unix epoch, as the protocol writes it.
fn stamp(time: i64) -> String {
    let time = u64::try_from(time).unwrap_or(0);
    let seconds = calendar::rfc3339(UNIX_EPOCH + Duration::from_secs(time / 1_000_000_000));
    format!("{}.{:09}Z", seconds.trim_end_matches('Z'), time % 1_000_000_000)
}

impl JetStream {
    /// Opens the streams that are there.
    pub(super) fn open(options: LogOptions) -> Result<Self, LogError> {
        let log = Log::open(options, Arc::new(StoredFormat))?.0;
        let mut streams = BTreeMap::new();
        for topic in log.topics() {
            let Some(stream) = Stream::open(Arc::clone(&topic), wall())? else { continue };
            if stream.config["storage"] == "memory" {
                // What was to be kept in memory is gone with the process that had it.
                log.delete(topic.name())?;
            } else {
                streams.insert(stream.name.clone(), stream);
            }
        }
        let subscriptions = BTreeMap::new();
        Ok(Self { log, streams, subscriptions, waiting: VecDeque::new(), wake: WakeSignal::new() })
    }

    /// Serves until the broker ends.
    pub(super) async fn serve(mut self, hub: Arc<NatsHub>) {
        let rules = OutletLimits {
            max_pending: hub.config.max_pending,
            // Publishers wait for it; it never falls so far behind that it would be closed.
            policy: SlowConsumer::Block,
            counters: Arc::clone(&hub.counters),
            pool: BufferPool::default(),
            watched: false,
        };
        let outlet = Arc::new(Outlet::new(hub.next_id(), Arc::new(rules), None));
        outlet.headers.store(true, Ordering::Release);
        outlet.admitted.store(true, Ordering::Release);
        let router = Router::new(Arc::clone(&hub.index), Arc::clone(&hub.rules), Arc::clone(&outlet));
        let mut link = RouterLink { hub: Arc::clone(&hub), outlet: Arc::clone(&outlet), router };
        link.subscribe("$JS.API.>", API);
        link.subscribe("$JS.ACK.>", ACKS);
        let names: Vec<String> = self.streams.keys().cloned().collect();
        names.iter().for_each(|name| self.listen(&mut link, name));
        let mut phase = hub.phase.subscribe();
        let mut note = tokio::time::interval(NOTE);
        note.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            let left = Duration::from_nanos(self.due().saturating_sub(now()));
            tokio::select! {
                () = outlet.wake_writer.notified() => {}
                () = self.wake.woken() => {}
                () = tokio::time::sleep(left) => {}
                _ = note.tick() => self.note(),
                _ = phase.wait_for(|phase| *phase == Phase::Closing) => break,
            }
            self.turn(&mut link);
        }
        self.note();
        self.log.clean();
        if let Err(error) = self.log.close() {
            log_error(&error);
        }
    }

    /// Takes what is here, and does what is due.
    fn turn(&mut self, link: &mut RouterLink) {
        let mut spent = None;
        while let WriterTask::Write(buffer, at) = link.outlet.work(spent.take()) {
            let mut rest = &buffer[at..];
            while let Some((message, length)) = frames::next(rest) {
                if let Some(message) = message {
                    self.take(link, &message);
                }
                rest = &rest[length..];
            }
            link.outlet.wrote(buffer.len() - at);
            self.deliver(link);
            link.router.end_batch();
            spent = Some(buffer);
        }
        self.settle(link);
        self.tick(link);
        self.deliver(link);
        link.router.end_batch();
        // Clients that are slow are up to their own bounds.
        drop(link.router.take_pressed());
    }

    fn take(&mut self, link: &mut RouterLink, message: &RoutedMessage<'_>) {
        match message.sid {
            API => self.request(link, message),
            ACKS => self.acknowledged(link, message),
            _ => self.published(link, message),
        }
    }

    /// A message for a stream.
    fn published(&mut self, link: &mut RouterLink, message: &RoutedMessage<'_>) {
        let name = std::str::from_utf8(message.sid.get(1..).unwrap_or_default()).unwrap_or_default();
        let Some(stream) = self.streams.get_mut(name) else { return };
        let published = stream.publish(message.subject, message.header_len, message.content, wall());
        if message.reply.is_empty() {
            return;
        }
        let (answer, ticket) = match published {
            Published::Stored { sequence, ticket } => {
                (format!("{{\"stream\":\"{name}\",\"seq\":{sequence}}}").into_bytes(), ticket)
            }
            Published::Duplicate(sequence) => {
                (format!("{{\"stream\":\"{name}\",\"seq\":{sequence},\"duplicate\":true}}").into_bytes(), None)
            }
            Published::Refused(error) => {
                let answer = json!({ "error": api::error_body(&error), "stream": name, "seq": 0 });
                (answer.to_string().into_bytes(), None)
            }
        };
        match ticket {
            None => link.send(message.reply, b"", &answer),
            Some(ticket) => self.waiting.push_back(WaitingAck { ticket, reply: message.reply.to_vec(), answer }),
        }
    }

    /// Tells publishers whose messages are synced.
    fn settle(&mut self, link: &mut RouterLink) {
        while let Some(first) = self.waiting.front() {
            let Some(kept) = first.ticket.poll(&self.wake) else { return };
            let Some(WaitingAck { reply, answer, .. }) = self.waiting.pop_front() else { return };
            let failed = || {
                let error = (503, 10077, "the message could not be synced".to_owned());
                json!({ "error": api::error_body(&error) }).to_string().into_bytes()
            };
            link.send(&reply, b"", &if kept { answer } else { failed() });
        }
    }

    /// Something is said of a delivered message.
    fn acknowledged(&mut self, link: &mut RouterLink, message: &RoutedMessage<'_>) {
        // $JS.ACK.stream.consumer.delivered.sequence...
        let subject = std::str::from_utf8(message.subject).unwrap_or_default();
        let mut tokens = subject.split('.').skip(2);
        let (Some(stream), Some(consumer), Some(_), Some(sequence)) =
            (tokens.next(), tokens.next(), tokens.next(), tokens.next())
        else {
            return;
        };
        let (Some(stream), Ok(sequence)) = (self.streams.get_mut(stream), sequence.parse::<u64>()) else { return };
        let Some(what) = AckWord::read(&message.content[message.header_len..]) else { return };
        let Some((consumer, _)) = stream.consumers.get_mut(consumer) else { return };
        let done = consumer.acknowledge(sequence, what, now());
        if stream.is_queue() {
            done.into_iter().for_each(|sequence| stream.remove(sequence));
        }
        if !message.reply.is_empty() {
            link.send(message.reply, b"", b"");
        }
    }

    /// Subscribes to what a stream takes.
    fn listen(&mut self, link: &mut RouterLink, name: &str) {
        self.unlisten(link, name);
        let Some(stream) = self.streams.get(name) else { return };
        let sid = format!("S{name}");
        let all = stream.subjects.iter().map(|subject| link.subscribe(subject, sid.as_bytes()));
        self.subscriptions.insert(name.to_owned(), all.collect());
    }

    fn unlisten(&mut self, link: &mut RouterLink, name: &str) {
        for subscription in self.subscriptions.remove(name).into_iter().flatten() {
            link.hub.index.remove(&subscription);
        }
    }

    fn note(&mut self) {
        for stream in self.streams.values_mut() {
            if let Err(error) = stream.note() {
                log_error(&error);
            }
        }
    }

    fn due(&self) -> Nanos {
        let consumers = self.streams.values().flat_map(|stream| stream.consumers.values());
        consumers.map(|(consumer, _)| consumer.due()).min().unwrap_or(Nanos::MAX).min(now() + 1_000_000_000)
    }
}

impl RouterLink {
    fn subscribe(&mut self, subject: &str, sid: &[u8]) -> Arc<Subscription> {
        let subscription = Arc::new(Subscription {
            outlet: Arc::clone(&self.outlet),
            subject: subject.as_bytes().into(),
            queue: None,
            sid: sid.into(),
            delivered: AtomicU64::new(0),
            max: AtomicU64::new(0),
            ended: AtomicBool::new(false),
        });
        self.hub.index.insert(&subscription);
        subscription
    }

    /// Publishes a message of its own; headers as a block, or none.
    fn send(&mut self, subject: &[u8], headers: &[u8], body: &[u8]) {
        let content = [headers, body].concat();
        let (header_text, total_text) = (headers.len().to_string(), content.len().to_string());
        let message = Publish {
            subject,
            reply: b"",
            header_text: header_text.as_bytes(),
            total_text: total_text.as_bytes(),
            header_len: headers.len(),
            payload: &content,
            tail: None,
        };
        self.router.publish(&message, false);
    }

    fn answer(&mut self, reply: &[u8], answer: &Value) {
        if !reply.is_empty() {
            self.send(reply, b"", answer.to_string().as_bytes());
        }
    }
}
