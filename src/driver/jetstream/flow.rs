//! How messages are made to come: by asking for them, by letting the server send, or by following
//! it and seeing the gaps.

use async_nats::{HeaderMap, Message, StatusCode, Subject};
use bytes::Bytes;
use futures_util::FutureExt;
use serde_json::Value;
use std::future::Future;
use std::time::{Duration, Instant};
use tokio::sync::watch;

use super::api::{self, ConsumerName, ConsumerRequest};
use super::domain::ApiRoot;
use super::options::{ConsumeMode, JetstreamOptions};
use super::priority::PullPriority;
use super::stream::WorkloadStream;
use crate::driver::nats::link::NatsLink;
use crate::driver::nats::outbox::Outbox;
use crate::driver::{DriverError, Incident, Start};
use crate::units::{Nanos, now};

/// A pull ends after so long, if it is not filled.
const EXPIRES: Duration = Duration::from_secs(30);
/// Status of a pull that named a pin which holds no more.
const WRONG_PIN: u16 = 423;
/// Pause before asking again where nobody answered: a cluster may be choosing another leader.
const PAUSE: Duration = Duration::from_millis(100);

#[derive(Debug)]
pub struct ConsumeFlow {
    kind: FlowKind,
    /// When a message or a status last arrived.
    heard: Instant,
    /// Nothing is asked for before.
    hold: Instant,
    /// The server says at least so often that it is there.
    heartbeat: Duration,
    /// A wait for a message ended, and nothing had been heard for two heartbeats.
    silent: bool,
    /// Says when the connection is there again.
    again: watch::Receiver<u64>,
    /// It is: who had been asked over the old one does not answer any more.
    renewed: bool,
}

#[derive(Debug)]
enum FlowKind {
    Pull(Pull),
    Push {
        /// Whether the server says that it is there.
        beats: bool,
    },
    Ordered(Box<OrderedConsumer>),
}

#[derive(Debug)]
struct Pull {
    next: Subject,
    reply: Subject,
    batch: u32,
    /// More is asked for when no more than this is outstanding.
    refill_at: u32,
    outstanding: u32,
    expires: Duration,
    heartbeat: Duration,
    priority: Option<PullPriority>,
}

/// A consumer that is made again, from the message after the last one, whenever one is missing.
#[derive(Debug)]
struct OrderedConsumer {
    stream: String,
    api: ApiRoot,
    base: String,
    inbox: String,
    /// The same for each generation: the server wants a subscription to this very subject, no
    /// wildcard.
    deliver: String,
    options: JetstreamOptions,
    filter: Option<Value>,
    generation: u64,
    /// Sequence in the stream and of the consumer of the last message.
    last: (u64, u64),
    /// A request to make it that is not answered yet.
    making: Option<Instant>,
}

/// What the reply subject of a delivered message says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DeliveryInfo<'a> {
    /// Name of the consumer.
    pub consumer: &'a str,
    /// 1 at the first delivery.
    pub attempt: u32,
    /// Its number in the stream.
    pub stream_sequence: u64,
    /// Which delivery of the consumer it is.
    pub consumer_sequence: u64,
}

impl<'a> DeliveryInfo<'a> {
    /// Reads `$JS.ACK.[domain.account.]stream.consumer.delivered.sseq.cseq.time.pending[.token]`.
    pub fn read(reply: &'a str) -> Option<Self> {
        let rest = reply.strip_prefix("$JS.ACK.")?;
        let long = rest.bytes().filter(|b| *b == b'.').count() >= 8;
        let mut tokens = rest.split('.').skip(if long { 3 } else { 1 });
        let consumer = tokens.next()?;
        let mut number = || tokens.next()?.parse().ok();
        Some(Self {
            consumer,
            attempt: u32::try_from(number()?).unwrap_or(u32::MAX),
            stream_sequence: number()?,
            consumer_sequence: number()?,
        })
    }
}

impl ConsumeFlow {
    /// The flow of a consumer whose inbox begins with `inbox`, a dot at the end, and that is pushed
    /// to at `deliver`. It is number `index` of those that share it, if others do.
    pub fn new(
        name: &ConsumerName,
        inbox: &str,
        deliver: &str,
        stream: &WorkloadStream,
        (index, shared): (u32, bool),
        again: watch::Receiver<u64>,
    ) -> Self {
        let options = &stream.options;
        let priority = PullPriority::of(options, index);
        let expires = priority.as_ref().map_or(EXPIRES, |p| p.expires(EXPIRES));
        // The server wants at least two in the time of a pull.
        let heartbeat = options.heartbeat().duration().min(expires / 2);
        let kind = match options.consumer() {
            ConsumeMode::Pull | ConsumeMode::Fetch => FlowKind::Pull(Pull {
                next: Subject::from(stream.api.subject(&name.verb("CONSUMER.MSG.NEXT"))),
                reply: Subject::from(format!("{inbox}p")),
                batch: options.batch,
                refill_at: if options.consumer() == ConsumeMode::Pull { options.batch / 2 } else { 0 },
                outstanding: 0,
                expires,
                heartbeat,
                priority,
            }),
            ConsumeMode::Push => FlowKind::Push { beats: !shared },
            ConsumeMode::Ordered => FlowKind::Ordered(Box::new(OrderedConsumer {
                stream: name.stream.clone(),
                api: stream.api.clone(),
                base: name.consumer.clone(),
                inbox: inbox.to_owned(),
                deliver: deliver.to_owned(),
                options: options.clone(),
                filter: stream.filter(),
                generation: 0,
                last: (0, 0),
                making: None,
            })),
        };
        Self { kind, heard: Instant::now(), hold: Instant::now(), heartbeat, silent: false, again, renewed: false }
    }

    /// The first consumer of an ordered flow.
    pub fn ordered(&self) -> Option<ConsumerName> {
        match &self.kind {
            FlowKind::Ordered(o) => Some(o.name()),
            _ => None,
        }
    }

    /// The server has made the first consumer of an ordered flow: where it begins is where the next
    /// one begins if this one is lost before anything came.
    pub fn begun(&mut self, made: &Value) {
        if let (FlowKind::Ordered(ordered), Some(last)) = (&mut self.kind, made["delivered"]["stream_seq"].as_u64()) {
            ordered.last.0 = last;
        }
    }

    /// Something came from the server.
    pub fn note_message(&mut self) {
        self.heard = Instant::now();
    }

    /// What comes next, and when it came; `None` when [`ConsumeFlow::upkeep`] may have something to
    /// do first. The instant is taken before anything else is: what is waited for beside it is
    /// given up afterwards.
    #[inline]
    pub async fn wait<T>(&mut self, next: impl Future<Output = T>) -> Option<(T, Nanos)> {
        let due = tokio::time::Instant::from_std(self.due());
        tokio::select! {
            biased;
            came = next.map(|came| (came, now())) => Some(came),
            // The link that says so lives as long as the consumer.
            Ok(()) = self.again.changed() => {
                self.renewed = true;
                None
            }
            () = tokio::time::sleep_until(due) => {
                // While a consumer does other things nothing is heard either; only a wait says that
                // nothing was there.
                self.silent = self.heard.elapsed() > 2 * self.heartbeat;
                None
            }
        }
    }

    /// When [`ConsumeFlow::upkeep`] has something to do at the latest.
    fn due(&self) -> Instant {
        match &self.kind {
            FlowKind::Pull(pull) if pull.outstanding <= pull.refill_at => self.hold.max(Instant::now() + PAUSE / 10),
            _ => self.heard + 2 * self.heartbeat + PAUSE,
        }
    }

    /// Asks for more where there is room, and again where nothing was heard for too long.
    pub fn upkeep(&mut self, link: &NatsLink, out: &mut Outbox) -> Result<(), DriverError> {
        let now = Instant::now();
        let silent = std::mem::take(&mut self.silent);
        let renewed = std::mem::take(&mut self.renewed);
        if renewed {
            self.heard = now;
        }
        if silent {
            self.heard = now;
            let next = match self.kind {
                FlowKind::Push { beats: false } => None,
                FlowKind::Push { .. } => Some(""),
                FlowKind::Pull(_) | FlowKind::Ordered(_) => Some(": asked again"),
            };
            if let Some(next) = next {
                let wait = (2 * self.heartbeat).as_secs_f64();
                link.incidents.note(Incident::Client, format!("no heartbeat of a consumer within {wait} s{next}"));
            }
        }
        match &mut self.kind {
            FlowKind::Push { .. } => Ok(()),
            FlowKind::Pull(pull) => {
                // As async-nats does: the server may have dropped what was asked for.
                if silent || renewed {
                    pull.outstanding = 0;
                }
                if now < self.hold { Ok(()) } else { pull.refill(link, out) }
            }
            FlowKind::Ordered(ordered) => {
                let unanswered = ordered.making.is_some_and(|at| now.duration_since(at) > link.timeout);
                if silent || unanswered { ordered.make(link, out) } else { Ok(()) }
            }
        }
    }

    /// Takes from the headers of a message what the next pulls must say.
    #[inline]
    pub fn note_headers(&mut self, headers: Option<&HeaderMap>, link: &NatsLink) {
        if let FlowKind::Pull(Pull { priority: Some(priority), .. }) = &mut self.kind
            && priority.pinned(headers)
        {
            link.incidents.note(Incident::Client, "a consumer is pinned: it gets all messages of its group");
        }
    }

    /// Counts a message that came; false when it is not to be taken, because it follows a gap.
    #[inline]
    pub fn arrived(
        &mut self,
        delivery: Option<&DeliveryInfo<'_>>,
        link: &NatsLink,
        out: &mut Outbox,
    ) -> Result<bool, DriverError> {
        match &mut self.kind {
            FlowKind::Push { .. } => Ok(true),
            FlowKind::Pull(pull) => {
                pull.outstanding = pull.outstanding.saturating_sub(1);
                pull.refill(link, out)?;
                Ok(true)
            }
            FlowKind::Ordered(ordered) => match delivery {
                Some(delivery) => ordered.arrived(delivery, link, out),
                None => Ok(false),
            },
        }
    }

    /// Treats a status: a heartbeat, the end of a pull, a question of flow control.
    pub fn status(
        &mut self,
        status: StatusCode,
        message: &Message,
        link: &NatsLink,
        out: &mut Outbox,
    ) -> Result<(), DriverError> {
        let header = |name: &str| message.headers.as_ref().and_then(|h| h.get(name)).map(|v| v.as_str());
        if status == StatusCode::IDLE_HEARTBEAT {
            // With a reply it asks whether the client keeps up; a heartbeat may carry the same
            // question.
            let asked = message.reply.clone().or_else(|| header("Nats-Consumer-Stalled").map(Subject::from));
            if let Some(reply) = asked {
                out.offer(link, reply, None, Bytes::new())?;
            }
            if let (FlowKind::Ordered(ordered), Some(last)) = (&mut self.kind, header("Nats-Last-Consumer")) {
                let last = last.parse::<u64>().unwrap_or(ordered.last.1);
                if last > ordered.last.1 && ordered.making.is_none() {
                    return ordered.make(link, out);
                }
            }
            return Ok(());
        }
        let words = message.description.clone().unwrap_or_default();
        let FlowKind::Pull(pull) = &mut self.kind else { return Ok(()) };
        let fatal = ["Consumer Deleted", "Exceeded", "Bad Request", "push based"];
        if fatal.iter().any(|word| words.contains(word)) {
            let words = format!("{} {words}", status.as_u16());
            return Err(link.refused("read from the stream", words, "see the options of the jetstream driver"));
        }
        if status.as_u16() == WRONG_PIN {
            // One refusal for each pull that named the pin; the first one is answered for all.
            if pull.priority.as_mut().is_some_and(PullPriority::unpinned) {
                link.incidents.note(Incident::Client, "a consumer is not pinned any more: it waits");
                pull.outstanding = 0;
                return pull.refill(link, out);
            }
            return Ok(());
        }
        match header("Nats-Pending-Messages").and_then(|n| n.parse::<u32>().ok()) {
            Some(unfilled) => pull.outstanding = pull.outstanding.saturating_sub(unfilled),
            None => pull.outstanding = 0,
        }
        if status == StatusCode::NO_RESPONDERS || words.contains("Leadership Change") {
            link.incidents.note(Incident::Server, format!("a pull was not served: {} {words}", status.as_u16()));
            self.hold = Instant::now() + PAUSE;
            return Ok(());
        }
        pull.refill(link, out)
    }

    /// Treats the answer to the request that made an ordered consumer.
    pub fn made(&mut self, generation: u64, message: &Message, link: &NatsLink) -> Result<(), DriverError> {
        let FlowKind::Ordered(ordered) = &mut self.kind else { return Ok(()) };
        if generation != ordered.generation {
            return Ok(());
        }
        let answer = serde_json::from_slice(&message.payload).unwrap_or_default();
        match api::error_of(&answer) {
            // No leader, no answer: it is asked again after the bound of the link.
            _ if message.status.is_some() => Ok(()),
            Some((words, _)) => Err(link.refused("make an ordered consumer", words, "see the server's log")),
            None => {
                ordered.making = None;
                Ok(())
            }
        }
    }
}

impl Pull {
    #[inline]
    fn refill(&mut self, link: &NatsLink, out: &mut Outbox) -> Result<(), DriverError> {
        if self.outstanding > self.refill_at {
            return Ok(());
        }
        let batch = self.batch - self.outstanding;
        self.outstanding = self.batch;
        let (expires, heartbeat) = (self.expires.as_nanos(), self.heartbeat.as_nanos());
        let priority = self.priority.as_ref().map(PullPriority::fields).unwrap_or_default();
        let request = format!("{{\"batch\":{batch},\"expires\":{expires},\"idle_heartbeat\":{heartbeat}{priority}}}");
        out.offer(link, self.next.clone(), Some(self.reply.clone()), request.into())
    }
}

impl OrderedConsumer {
    fn name(&self) -> ConsumerName {
        ConsumerName { stream: self.stream.clone(), consumer: format!("{}_{}", self.base, self.generation) }
    }

    fn arrived(&mut self, delivery: &DeliveryInfo<'_>, link: &NatsLink, out: &mut Outbox) -> Result<bool, DriverError> {
        let generation = delivery.consumer.rsplit('_').next().and_then(|g| g.parse().ok());
        if generation != Some(self.generation) {
            return Ok(false);
        }
        if delivery.consumer_sequence != self.last.1 + 1 {
            if self.making.is_none() {
                self.make(link, out)?;
            }
            return Ok(false);
        }
        self.last = (delivery.stream_sequence, delivery.consumer_sequence);
        Ok(true)
    }

    /// Removes the consumer and makes another that begins after the last message.
    fn make(&mut self, link: &NatsLink, out: &mut Outbox) -> Result<(), DriverError> {
        let ignored = Subject::from(format!("{}x", self.inbox));
        let remove = self.api.subject(&self.name().verb("CONSUMER.DELETE"));
        out.offer(link, remove.into(), Some(ignored), Bytes::new())?;
        self.generation += 1;
        self.last.1 = 0;
        self.making = Some(Instant::now());
        link.incidents
            .note(Incident::Client, format!("an ordered consumer starts again after message {}", self.last.0));
        let name = self.name();
        let filter = self.filter.as_ref();
        let request = ConsumerRequest {
            deliver: Some((&self.deliver, None)),
            filter,
            ..ConsumerRequest::new(&name, &self.options, Start::Offset(self.last.0 + 1))
        };
        let request = request.body();
        let reply = Subject::from(format!("{}c.{}", self.inbox, self.generation));
        let verb = self.api.subject(&name.verb("CONSUMER.CREATE"));
        out.offer(link, verb.into(), Some(reply), request.to_string().into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reply_subject_tells_which_delivery_it_is() {
        let short = "$JS.ACK.S.g0.2.17.18.1795437899000000000.5";
        let read = DeliveryInfo { consumer: "g0", attempt: 2, stream_sequence: 17, consumer_sequence: 18 };
        assert_eq!(DeliveryInfo::read(short), Some(read));
        assert_eq!(DeliveryInfo::read("$JS.ACK.hub.ACC.S.g0.2.17.18.1795437899000000000.5"), Some(read));
        assert_eq!(DeliveryInfo::read("$JS.ACK.hub.ACC.S.g0.2.17.18.1795437899000000000.5.tok"), Some(read));
        assert_eq!(DeliveryInfo::read("_INBOX.x"), None);
        assert_eq!(DeliveryInfo::read("$JS.ACK.S.g0.two.17.18.1.5"), None);
    }
}
