//! A consumer of a stream, as a state machine: what is delivered, to whom, and when it comes again.
//! No clock, no log, no connection.

use std::collections::{BTreeMap, VecDeque};

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::faults::pattern;
use crate::units::Nanos;

/// Pulls that may wait at once.
const MAX_WAITING: usize = 512;

/// What acknowledgements mean.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum AckPolicy {
    /// None is wanted.
    None,
    /// One stands for all messages before it.
    All,
    Explicit,
}

/// What a consumer is told; the fields of the protocol that are served.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct ConsumerConfig {
    #[serde(default)]
    pub name: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub durable_name: String,
    #[serde(default = "all")]
    pub deliver_policy: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub opt_start_seq: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub opt_start_time: Option<String>,
    #[serde(default = "none")]
    pub ack_policy: AckPolicy,
    /// Nanoseconds.
    #[serde(default)]
    pub ack_wait: Nanos,
    /// -1 is without limit.
    #[serde(default)]
    pub max_deliver: i64,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub backoff: Vec<Nanos>,
    #[serde(default)]
    pub max_ack_pending: i64,
    #[serde(default)]
    pub max_waiting: i64,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub filter_subject: String,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub filter_subjects: Vec<String>,
    #[serde(default = "instant")]
    pub replay_policy: String,
    #[serde(default)]
    pub num_replicas: u32,
    #[serde(flatten)]
    pub others: BTreeMap<String, Value>,
}

fn all() -> String {
    "all".to_owned()
}

fn none() -> AckPolicy {
    AckPolicy::None
}

fn instant() -> String {
    "instant".to_owned()
}

impl ConsumerConfig {
    /// Fills in what was left out, as a server does.
    pub fn complete(mut self) -> Self {
        if self.name.is_empty() {
            self.name.clone_from(&self.durable_name);
        }
        if self.ack_wait == 0 && self.ack_policy != AckPolicy::None {
            self.ack_wait = self.backoff.first().copied().unwrap_or(30_000_000_000);
        }
        if self.max_deliver <= 0 {
            self.max_deliver = -1;
        }
        if self.max_ack_pending == 0 && self.ack_policy != AckPolicy::None {
            self.max_ack_pending = 1000;
        }
        if self.max_waiting == 0 {
            self.max_waiting = MAX_WAITING as i64;
        }
        self
    }

    /// Whether it reads messages of this subject.
    pub fn wants(&self, subject: &[u8]) -> bool {
        let one = Some(&self.filter_subject).filter(|filter| !filter.is_empty());
        let mut filters = one.into_iter().chain(&self.filter_subjects).peekable();
        filters.peek().is_none() || filters.any(|filter| pattern::matches(filter.as_bytes(), subject))
    }

    /// Whether it has a filter.
    pub fn filters(&self) -> bool {
        !self.filter_subject.is_empty() || !self.filter_subjects.is_empty()
    }

    /// What of it is not served; nothing where all is.
    pub fn refusal(&self) -> Option<&'static str> {
        let said = |key: &str| match self.others.get(key) {
            None | Some(Value::Null | Value::Bool(false)) => false,
            // A time that is none is written so.
            Some(Value::String(text)) => !text.is_empty() && !text.starts_with("0001-01-01"),
            Some(Value::Array(all)) => !all.is_empty(),
            Some(Value::Number(number)) => number.as_i64() != Some(0),
            Some(_) => true,
        };
        if said("deliver_subject") {
            return Some("consumers that are pushed to are not served by the reference broker: use a pull consumer");
        }
        if ["flow_control", "idle_heartbeat", "rate_limit_bps", "headers_only", "pause_until", "priority_groups"]
            .into_iter()
            .any(said)
        {
            return Some("an option of the consumer is not served by the reference broker");
        }
        (self.replay_policy != "instant").then_some("the replay policy `original` is not served")
    }
}

/// A message that was delivered and not yet acknowledged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
struct PendingDelivery {
    /// Which delivery of the consumer it was last.
    sequence: u64,
    count: u32,
    /// When it comes again; none while it stands in the queue of those that do.
    #[serde(skip)]
    due: Option<Nanos>,
}

/// Somebody who has asked for messages.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct PullRequest {
    pub reply: Vec<u8>,
    /// Whether it ends when nothing is there.
    pub no_wait: bool,
    pub left: u64,
    pub left_bytes: Option<u64>,
    pub expires: Option<Nanos>,
    /// How often it is told that the server is there, and when next.
    pub heartbeat: Option<(Nanos, Nanos)>,
}

/// What is to be delivered next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum NextDelivery {
    /// A message that was delivered before.
    Again(u64),
    /// The first one that is wanted from this number on.
    New(u64),
    /// One that has used up its deliveries, and how many it had.
    UsedUp(u64, u32),
    Nothing,
}

/// What a delivery is called in its reply subject.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct DeliveryNumbers {
    pub count: u32,
    pub sequence: u64,
}

/// What somebody says of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum AckWord {
    Done,
    /// It comes again, after so long.
    Again(Nanos),
    /// It is being worked on.
    Progress,
    /// It never comes again.
    Terminated,
}

impl AckWord {
    /// Reads what is published on a reply subject; `None` where it says nothing.
    pub fn read(body: &[u8]) -> Option<Self> {
        let word = body.split(|b| *b == b' ').next().unwrap_or_default();
        match word {
            b"" | b"+ACK" | b"+OK" | b"+NXT" => Some(Self::Done),
            b"-NAK" => {
                let said: Value = serde_json::from_slice(&body[word.len()..]).unwrap_or_default();
                Some(Self::Again(said["delay"].as_u64().unwrap_or(0)))
            }
            b"+WPI" => Some(Self::Progress),
            b"+TERM" => Some(Self::Terminated),
            _ => None,
        }
    }
}

/// What is kept of a consumer over a restart.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
struct ConsumerPosition {
    next: u64,
    delivered: (u64, u64),
    pending: BTreeMap<u64, PendingDelivery>,
}

#[derive(Debug)]
pub(super) struct PullConsumer {
    pub config: ConsumerConfig,
    /// When it was made, in nanoseconds since the Unix epoch.
    pub created: i64,
    position: ConsumerPosition,
    /// Messages that come again, the earliest first.
    again: VecDeque<u64>,
    pub waiting: VecDeque<PullRequest>,
    /// No message comes again, no pull ends and no heartbeat is due before this instant.
    quiet_until: Nanos,
    /// Whether anything of the position has changed since it was last noted.
    pub changed: bool,
}

impl PullConsumer {
    /// One that reads from message `next` on.
    pub fn new(config: ConsumerConfig, created: i64, next: u64) -> Self {
        let delivered = (0, next.saturating_sub(1));
        let position = ConsumerPosition { next, delivered, pending: BTreeMap::new() };
        Self {
            config,
            created,
            position,
            again: VecDeque::new(),
            waiting: VecDeque::new(),
            quiet_until: 0,
            changed: true,
        }
    }

    /// Puts it where it was; everything not acknowledged comes again.
    pub fn restore(&mut self, position: &str) {
        let Ok(position) = serde_json::from_str::<ConsumerPosition>(position) else { return };
        self.again = position.pending.keys().copied().collect();
        self.position = position;
        self.changed = false;
    }

    /// What [`restore`](Self::restore) reads.
    pub fn noted(&self) -> String {
        serde_json::to_string(&self.position).unwrap_or_default()
    }

    /// The number of the message that is looked at next.
    pub fn next(&self) -> u64 {
        self.position.next
    }

    /// Goes on behind a message that is not there, or not wanted.
    pub fn pass(&mut self, sequence: u64) {
        self.position.next = self.position.next.max(sequence + 1);
    }

    /// Forgets messages before `first`, which are gone.
    pub fn trim(&mut self, first: u64) {
        self.position.next = self.position.next.max(first);
        self.position.pending = self.position.pending.split_off(&first);
    }

    /// What is to be delivered next.
    pub fn choose(&mut self) -> NextDelivery {
        while let Some(sequence) = self.again.front().copied() {
            let Some(delivery) = self.position.pending.get(&sequence) else {
                self.again.pop_front();
                continue;
            };
            let limit = u32::try_from(self.config.max_deliver).unwrap_or(u32::MAX);
            if delivery.count >= limit {
                let count = delivery.count;
                self.again.pop_front();
                self.position.pending.remove(&sequence);
                self.changed = true;
                return NextDelivery::UsedUp(sequence, count);
            }
            return NextDelivery::Again(sequence);
        }
        let limit = usize::try_from(self.config.max_ack_pending).unwrap_or(usize::MAX);
        match self.config.ack_policy != AckPolicy::None && self.position.pending.len() >= limit {
            true => NextDelivery::Nothing,
            false => NextDelivery::New(self.position.next),
        }
    }

    /// Notes that a message is delivered now.
    pub fn deliver(&mut self, sequence: u64, now: Nanos) -> DeliveryNumbers {
        self.changed = true;
        let number = self.position.delivered.0 + 1;
        self.position.delivered = (number, self.position.delivered.1.max(sequence));
        if self.again.front() == Some(&sequence) {
            self.again.pop_front();
        } else {
            self.pass(sequence);
        }
        if self.config.ack_policy == AckPolicy::None {
            return DeliveryNumbers { count: 1, sequence: number };
        }
        let delivery =
            self.position.pending.entry(sequence).or_insert(PendingDelivery { sequence: 0, count: 0, due: None });
        delivery.count += 1;
        delivery.sequence = number;
        let nth = (delivery.count as usize - 1).min(self.config.backoff.len().saturating_sub(1));
        let wait = self.config.backoff.get(nth).copied().unwrap_or(self.config.ack_wait);
        let due = now.saturating_add(wait);
        delivery.due = Some(due);
        self.quiet_until = self.quiet_until.min(due);
        DeliveryNumbers { count: delivery.count, sequence: number }
    }

    /// Takes what is said of a message. Returns the messages that are done with.
    pub fn acknowledge(&mut self, sequence: u64, what: AckWord, now: Nanos) -> Vec<u64> {
        let pending = &mut self.position.pending;
        let Some(delivery) = pending.get_mut(&sequence) else { return Vec::new() };
        self.changed = true;
        let wait = match what {
            AckWord::Done if self.config.ack_policy == AckPolicy::All => {
                let rest = pending.split_off(&(sequence + 1));
                return std::mem::replace(pending, rest).into_keys().collect();
            }
            AckWord::Done | AckWord::Terminated => {
                pending.remove(&sequence);
                return vec![sequence];
            }
            AckWord::Progress => self.config.ack_wait,
            AckWord::Again(delay) => delay,
        };
        // One that stands in the queue comes again anyway.
        if delivery.due.is_some() {
            let due = now.saturating_add(wait);
            delivery.due = Some(due);
            self.quiet_until = self.quiet_until.min(due);
        }
        Vec::new()
    }

    /// Does what is due by now: messages come again, pulls end. Those that have ended.
    pub fn tick(&mut self, now: Nanos) -> Vec<PullRequest> {
        if now < self.quiet_until {
            return Vec::new();
        }
        let mut due: Vec<(Nanos, u64)> = Vec::new();
        let mut next = Nanos::MAX;
        for (sequence, delivery) in &mut self.position.pending {
            match delivery.due {
                Some(at) if at <= now => {
                    delivery.due = None;
                    due.push((at, *sequence));
                }
                Some(at) => next = next.min(at),
                None => {}
            }
        }
        due.sort_unstable();
        self.again.extend(due.into_iter().map(|(_, sequence)| sequence));
        let over = |pull: &PullRequest| pull.expires.is_some_and(|at| at <= now);
        let (ended, waiting): (Vec<PullRequest>, Vec<PullRequest>) =
            std::mem::take(&mut self.waiting).into_iter().partition(over);
        self.waiting = waiting.into();
        let waits =
            self.waiting.iter().flat_map(|pull| pull.expires.into_iter().chain(pull.heartbeat.map(|(_, at)| at)));
        self.quiet_until = waits.min().unwrap_or(Nanos::MAX).min(next);
        ended
    }

    /// The pulls that are told now that the server is there.
    pub fn beats(&mut self, now: Nanos) -> Vec<Vec<u8>> {
        let mut told = Vec::new();
        for pull in &mut self.waiting {
            if let Some((every, next)) = &mut pull.heartbeat
                && *next <= now
            {
                *next = now + *every;
                self.quiet_until = self.quiet_until.min(*next);
                told.push(pull.reply.clone());
            }
        }
        told
    }

    /// When [`tick`](Self::tick) has something to do.
    pub fn due(&self) -> Nanos {
        self.quiet_until
    }

    /// Lets somebody wait for messages; `false` when too many do.
    pub fn wait(&mut self, pull: PullRequest) -> bool {
        if self.waiting.len() >= usize::try_from(self.config.max_waiting).unwrap_or(MAX_WAITING).min(MAX_WAITING) {
            return false;
        }
        let beat = pull.heartbeat.map(|(_, at)| at);
        self.quiet_until = pull.expires.into_iter().chain(beat).fold(self.quiet_until, Nanos::min);
        self.waiting.push_back(pull);
        true
    }

    /// Nothing is there: those that do not wait.
    pub fn leave(&mut self) -> Vec<PullRequest> {
        let (ended, waiting): (Vec<PullRequest>, Vec<PullRequest>) =
            std::mem::take(&mut self.waiting).into_iter().partition(|pull| pull.no_wait);
        self.waiting = waiting.into();
        ended
    }

    /// How many messages come again at once.
    pub fn due_again(&self) -> usize {
        self.again.iter().filter(|sequence| self.position.pending.contains_key(sequence)).count()
    }

    /// Consumer's and stream's number of the last delivery.
    pub fn delivered(&self) -> (u64, u64) {
        self.position.delivered
    }

    /// What the consumer is, for whom asks.
    pub fn state(&self) -> Value {
        let pending = &self.position.pending;
        let (number, sequence) = self.position.delivered;
        let floor = match pending.first_key_value() {
            None => (number, sequence),
            Some((first, _)) => {
                let lowest = pending.values().map(|delivery| delivery.sequence).min().unwrap_or(1);
                (lowest.saturating_sub(1), first - 1)
            }
        };
        let redelivered = pending.values().filter(|delivery| delivery.count > 1).count();
        json!({
            "delivered": { "consumer_seq": number, "stream_seq": sequence },
            "ack_floor": { "consumer_seq": floor.0, "stream_seq": floor.1 },
            "num_ack_pending": pending.len(),
            "num_redelivered": redelivered,
            "num_waiting": self.waiting.len(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const WAIT: Nanos = 1000;

    fn consumer(max_deliver: i64, pending: i64) -> PullConsumer {
        let config = json!({ "durable_name": "c", "ack_policy": "explicit", "ack_wait": WAIT,
            "max_deliver": max_deliver, "max_ack_pending": pending });
        let config: ConsumerConfig = serde_json::from_value(config).unwrap();
        PullConsumer::new(config.complete(), 0, 1)
    }

    #[test]
    fn what_is_not_acknowledged_comes_again_until_its_deliveries_are_used_up() {
        let mut it = consumer(2, 10);
        assert_eq!(it.choose(), NextDelivery::New(1));
        assert_eq!(it.deliver(1, 0), DeliveryNumbers { count: 1, sequence: 1 });
        it.tick(WAIT - 1);
        assert_eq!(it.choose(), NextDelivery::New(2));
        it.tick(WAIT);
        assert_eq!(it.choose(), NextDelivery::Again(1));
        assert_eq!(it.deliver(1, WAIT), DeliveryNumbers { count: 2, sequence: 2 });
        it.tick(2 * WAIT);
        assert_eq!(it.choose(), NextDelivery::UsedUp(1, 2));
        assert_eq!(it.choose(), NextDelivery::New(2));
        assert_eq!(it.acknowledge(1, AckWord::Done, 0), Vec::<u64>::new());
    }

    #[test]
    fn no_more_is_delivered_than_may_be_unacknowledged() {
        let mut it = consumer(-1, 2);
        it.deliver(1, 0);
        it.deliver(2, 0);
        assert_eq!(it.choose(), NextDelivery::Nothing);
        assert_eq!(it.acknowledge(2, AckWord::Terminated, 0), [2]);
        assert_eq!(it.choose(), NextDelivery::New(3));
    }

    #[test]
    fn words_are_read() {
        let read = |body: &str| AckWord::read(body.as_bytes());
        assert_eq!(read(""), Some(AckWord::Done));
        assert_eq!(read("+ACK"), Some(AckWord::Done));
        assert_eq!(read("-NAK"), Some(AckWord::Again(0)));
        assert_eq!(read("-NAK {\"delay\": 5}"), Some(AckWord::Again(5)));
        assert_eq!(read("+WPI"), Some(AckWord::Progress));
        assert_eq!(read("+TERM because"), Some(AckWord::Terminated));
        assert_eq!(read("hello"), None);
    }

    proptest! {
        /// Whatever is said of messages and whenever: each comes until it is done with or used up,
        /// no delivery has a number twice, and a restart forgets nothing that is not done with.
        #[test]
        fn every_message_comes_until_it_is_done_with(
            steps in proptest::collection::vec((0u8..6, 0u64..8, 0u64..1500), 1..80), limit in 1i64..5,
        ) {
            let mut it = consumer(limit, 4);
            let (mut now, mut last) = (0, 0);
            let mut counts: BTreeMap<u64, u32> = BTreeMap::new();
            let mut done: std::collections::BTreeSet<u64> = Default::default();
            for (kind, pick, time) in steps {
                now += time;
                it.tick(now);
                match kind {
                    0 | 1 => match it.choose() {
                        NextDelivery::New(sequence) | NextDelivery::Again(sequence) => {
                            prop_assert!(!done.contains(&sequence), "{sequence} came when it was done with");
                            let numbers = it.deliver(sequence, now);
                            let count = counts.entry(sequence).or_default();
                            *count += 1;
                            prop_assert_eq!((numbers.count, numbers.sequence), (*count, last + 1));
                            prop_assert!(i64::from(*count) <= limit);
                            last += 1;
                        }
                        NextDelivery::UsedUp(sequence, count) => {
                            prop_assert_eq!((counts[&sequence], i64::from(count)), (count, limit));
                            done.insert(sequence);
                        }
                        NextDelivery::Nothing => prop_assert_eq!(counts.len() - done.len(), 4),
                    },
                    2 | 3 => {
                        let what = if kind == 2 { AckWord::Done } else { AckWord::Again(pick * 100) };
                        done.extend(it.acknowledge(pick + 1, what, now));
                    }
                    4 => drop(it.acknowledge(pick + 1, AckWord::Progress, now)),
                    _ => {
                        let mut again = consumer(limit, 4);
                        again.restore(&it.noted());
                        it = again;
                    }
                }
            }
            // In the end all come again that are not done with.
            it.tick(now + 10 * WAIT);
            let open = counts.keys().filter(|sequence| !done.contains(sequence)).count();
            prop_assert_eq!(it.due_again(), open);
        }
    }
}
