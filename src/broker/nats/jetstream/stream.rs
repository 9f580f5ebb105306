//! A stream: its limits, what it has, and who reads it.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::Arc;

use serde_json::{Value, json};

use super::consumer::{ConsumerConfig, PullConsumer};
use super::frames::header;
use super::stored::{MessageReader, encode};
use super::{ApiError, BAD_REQUEST, INVALID_STREAM, stamp};
use crate::broker::log::{Log, LogError, Partition, SyncTicket, Topic};
use crate::faults::pattern;

/// How long a message is known by its identifier, where nothing is said, in nanoseconds.
const DUPLICATE_WINDOW: i64 = 120_000_000_000;
/// Identifiers that are remembered at most.
const MAX_IDENTIFIERS: usize = 1_000_000;
/// The labels of its topic that say what the stream and its consumers are, and where these are.
const STREAM: &str = "jetstream";
const CONSUMER: &str = "consumer/";
const POSITION: &str = "position/";

pub(super) struct Stream {
    pub name: String,
    /// What was asked for, completed.
    pub config: Value,
    pub subjects: Vec<String>,
    /// When it was made, in nanoseconds since the Unix epoch.
    pub created: i64,
    topic: Arc<Topic>,
    pub partition: Arc<Partition>,
    /// The number of the first message.
    first: u64,
    /// The number of the last message, whether readers may see it or not.
    last: u64,
    /// Messages after the first one that are gone.
    gone: BTreeSet<u64>,
    /// By the identifier of a message: its number, and its time.
    identifiers: HashMap<Box<[u8]>, (u64, i64)>,
    /// The same, the oldest first, with their times.
    remembered: VecDeque<(i64, Box<[u8]>)>,
    pub consumers: BTreeMap<String, (PullConsumer, MessageReader)>,
    pub lookups: MessageReader,
    /// Whether the first message has changed since that was last noted.
    trimmed: bool,
}

/// What has become of a published message.
pub(super) enum Published {
    Stored { sequence: u64, ticket: Option<SyncTicket> },
    Duplicate(u64),
    Refused(ApiError),
}

/// Completes and checks the configuration of a stream.
pub(super) fn complete(name: &str, mut config: Value) -> Result<Value, ApiError> {
    let invalid = |words: String| Err((500, INVALID_STREAM, words));
    let Some(fields) = config.as_object_mut() else { return Err(BAD_REQUEST) };
    if fields.get("name").and_then(Value::as_str).unwrap_or(name) != name {
        return Err((400, 10056, "stream name in subject does not match request".into()));
    }
    fields.insert("name".into(), name.into());
    for key in ["mirror", "sources", "republish", "subject_transform"] {
        if fields.get(key).is_some_and(|value| !value.is_null() && *value != json!([])) {
            return invalid(format!("`{key}` is not served by the reference broker: use a nats-server"));
        }
    }
    // Clients ask for it as a matter of course, and look whether they have it.
    fields.insert("allow_direct".into(), false.into());
    for key in ["allow_rollup_hdrs", "allow_msg_ttl", "allow_atomic", "allow_batched", "sealed", "no_ack"] {
        if fields.get(key) == Some(&Value::Bool(true)) {
            return invalid(format!("`{key}` is not served by the reference broker: use a nats-server"));
        }
    }
    for (key, unlimited) in [
        ("max_consumers", -1),
        ("max_msgs", -1),
        ("max_bytes", -1),
        ("max_age", 0),
        ("max_msgs_per_subject", -1),
        ("max_msg_size", -1),
    ] {
        let value = fields.entry(key).or_insert(unlimited.into()).as_i64().unwrap_or(0);
        let value = if value <= 0 { unlimited } else { value };
        fields.insert(key.into(), value.into());
        if value > 0 && matches!(key, "max_bytes" | "max_age" | "max_msgs_per_subject") {
            return invalid(format!("`{key}` is not served by the reference broker, `max_msgs` is"));
        }
    }
    if fields.get("num_replicas").and_then(Value::as_i64).unwrap_or(1) > 1 {
        return Err((500, 10074, "replicas > 1 not supported in non-clustered mode".into()));
    }
    for (key, usual) in [
        ("retention", json!("limits")),
        ("storage", json!("file")),
        ("discard", json!("old")),
        ("num_replicas", json!(1)),
        ("subjects", json!([name])),
        ("compression", json!("none")),
    ] {
        match fields.get(key) {
            None | Some(Value::Null) => drop(fields.insert(key.into(), usual)),
            Some(Value::Number(n)) if n.as_i64() == Some(0) => drop(fields.insert(key.into(), usual)),
            Some(_) => {}
        }
    }
    if fields["retention"] == "interest" {
        return invalid(
            "retention `interest` is not served by the reference broker, `limits` and `workqueue` are".into(),
        );
    }
    if fields.get("duplicate_window").and_then(Value::as_i64).unwrap_or(0) <= 0 {
        fields.insert("duplicate_window".into(), DUPLICATE_WINDOW.into());
    }
    let subjects = subjects(&config);
    if subjects.is_empty() || subjects.iter().any(|subject| !pattern::valid(subject.as_bytes())) {
        return invalid("subjects are to be subjects, with or without wildcards".into());
    }
    if let Some((a, b)) = pairs(&subjects).find(|(a, b)| overlap(a, b)) {
        return invalid(format!("its subjects {a} and {b} overlap"));
    }
    Ok(config)
}

/// The subjects of a configuration.
pub(super) fn subjects(config: &Value) -> Vec<String> {
    let all = config["subjects"].as_array().into_iter().flatten();
    all.filter_map(|subject| subject.as_str().map(str::to_owned)).collect()
}

fn pairs(all: &[String]) -> impl Iterator<Item = (&String, &String)> {
    all.iter().enumerate().flat_map(|(n, a)| all[n + 1..].iter().map(move |b| (a, b)))
}

/// Whether some subject is matched by both patterns.
pub(super) fn overlap(a: &str, b: &str) -> bool {
    let (mut a, mut b) = (a.split('.'), b.split('.'));
    loop {
        match (a.next(), b.next()) {
            (None, None) => return true,
            (Some(">"), Some(_)) | (Some(_), Some(">")) => return true,
            (Some(x), Some(y)) if x == y || x == "*" || y == "*" => {}
            _ => return false,
        }
    }
}

impl Stream {
    /// Makes the topic of a stream.
    pub fn create(log: &Log, name: &str, config: Value, now: i64) -> Result<Self, LogError> {
        let labels = BTreeMap::from([(STREAM.to_owned(), json!({ "config": config, "created": now }).to_string())]);
        let mut settings = log.defaults().clone();
        // What goes is up to the stream.
        (settings.delete, settings.retention_ms, settings.max_batch) = (true, None, 128 << 20);
        let topic = log.create(name, 1, settings, labels)?;
        Self::open(topic, now)?.ok_or(LogError::Deleted)
    }

    /// The stream of a topic, with its consumers; `None` where the topic is that of none.
    pub fn open(topic: Arc<Topic>, now: i64) -> Result<Option<Self>, LogError> {
        let labels = topic.labels();
        let Some(partition) = topic.partition(0) else { return Ok(None) };
        let known = |key: &str| labels.get(key).and_then(|text| serde_json::from_str::<Value>(text).ok());
        let Some(said) = known(STREAM) else { return Ok(None) };
        let (start, end) = partition.bounds();
        let mut it = Self {
            name: topic.name().to_string(),
            subjects: subjects(&said["config"]),
            config: said["config"].clone(),
            created: said["created"].as_i64().unwrap_or(0),
            topic: Arc::clone(&topic),
            partition,
            first: start + 1,
            last: end,
            gone: BTreeSet::new(),
            identifiers: HashMap::new(),
            remembered: VecDeque::new(),
            consumers: BTreeMap::new(),
            lookups: MessageReader::default(),
            trimmed: false,
        };
        for (key, name) in labels.keys().filter_map(|key| Some((key, key.strip_prefix(CONSUMER)?))) {
            let Some(said) = known(key) else { continue };
            let Ok(config) = serde_json::from_value::<ConsumerConfig>(said["config"].clone()) else { continue };
            let mut consumer = PullConsumer::new(config, said["created"].as_i64().unwrap_or(0), it.first);
            if let Some(position) = labels.get(&format!("{POSITION}{name}")) {
                consumer.restore(position);
            }
            it.consumers.insert(name.to_owned(), (consumer, MessageReader::default()));
        }
        it.recall(now)?;
        it.enforce();
        Ok(Some(it))
    }

    /// Remembers the identifiers of messages that may still come again.
    fn recall(&mut self, now: i64) -> Result<(), LogError> {
        let since = (now - self.window()) / 1_000_000;
        let found = self.partition.find_time(since, crate::broker::log::ReadIsolation::Uncommitted)?;
        let Some((view, _)) = found else { return Ok(()) };
        for sequence in view.base + 1..=self.last {
            let Some(message) = self.lookups.get(&self.partition, sequence)? else { break };
            if let Some(id) = header(message.headers, "Nats-Msg-Id") {
                let (id, time) = (Box::from(id), message.time);
                self.remember(id, sequence, time);
            }
        }
        Ok(())
    }

    fn window(&self) -> i64 {
        self.config["duplicate_window"].as_i64().unwrap_or(DUPLICATE_WINDOW)
    }

    fn remember(&mut self, id: Box<[u8]>, sequence: u64, time: i64) {
        self.remembered.push_back((time, id.clone()));
        self.identifiers.insert(id, (sequence, time));
        let oldest = time - self.window();
        while self.remembered.front().is_some_and(|(at, _)| *at < oldest) || self.remembered.len() > MAX_IDENTIFIERS {
            let Some((at, id)) = self.remembered.pop_front() else { break };
            if self.identifiers.get(&id).is_some_and(|(_, time)| *time == at) {
                self.identifiers.remove(&id);
            }
        }
    }

    /// Stores a published message.
    pub fn publish(&mut self, subject: &[u8], header_len: usize, content: &[u8], now: i64) -> Published {
        let headers = &content[..header_len];
        let id = header(headers, "Nats-Msg-Id").map(Box::<[u8]>::from);
        let oldest = now - self.window();
        let known = id.as_ref().and_then(|id| self.identifiers.get(id)).filter(|(_, time)| *time >= oldest);
        if let Some((sequence, _)) = known {
            return Published::Duplicate(*sequence);
        }
        if memchr::memmem::find(headers, b"Nats-Expected-").is_some()
            || memchr::memmem::find(headers, b"Nats-TTL").is_some()
        {
            let words = "conditions and lifetimes of messages are not served by the reference broker";
            return Published::Refused((400, 10003, words.into()));
        }
        let limit = |key: &str| self.config[key].as_u64();
        if limit("max_msg_size").is_some_and(|limit| content.len() as u64 > limit) {
            return Published::Refused((400, 10054, "message size exceeds maximum allowed".into()));
        }
        if self.config["discard"] == "new" && limit("max_msgs").is_some_and(|limit| self.count() >= limit) {
            return Published::Refused((503, 10077, "maximum messages exceeded".into()));
        }
        match self.partition.append(&encode(subject, header_len, content, now)) {
            Ok(appended) => {
                let sequence = appended.base + 1;
                self.last = sequence;
                if let Some(id) = id {
                    self.remember(id, sequence, now);
                }
                self.enforce();
                Published::Stored { sequence, ticket: appended.ticket }
            }
            Err(error) => Published::Refused((503, 10077, error.to_string())),
        }
    }

    /// How many messages it has.
    pub fn count(&self) -> u64 {
        (self.last + 1).saturating_sub(self.first) - self.gone.len() as u64
    }

    /// Messages from this number on that readers may see.
    pub fn count_from(&self, sequence: u64) -> u64 {
        let gone = self.gone.range(sequence..).count() as u64;
        (self.partition.bounds().1 + 1).saturating_sub(sequence.max(self.first)).saturating_sub(gone)
    }

    pub fn first(&self) -> u64 {
        self.first
    }

    pub fn last(&self) -> u64 {
        self.last
    }

    /// Whether a message of this number is there.
    pub fn has(&self, sequence: u64) -> bool {
        (self.first..=self.last).contains(&sequence) && !self.gone.contains(&sequence)
    }

    /// Lets the oldest messages go that are too many.
    fn enforce(&mut self) {
        while self.config["max_msgs"].as_u64().is_some_and(|limit| self.count() > limit) {
            self.remove(self.first);
        }
    }

    /// Takes a message out.
    pub fn remove(&mut self, sequence: u64) {
        if !self.has(sequence) {
            return;
        }
        self.gone.insert(sequence);
        while self.gone.remove(&self.first) {
            self.first += 1;
            self.trimmed = true;
        }
    }

    /// Takes all messages before this number out; how many there were.
    pub fn purge(&mut self, first: u64) -> u64 {
        let before = self.count();
        let first = first.clamp(self.first, self.last + 1);
        self.gone = self.gone.split_off(&first);
        (self.first, self.trimmed) = (first, true);
        while self.gone.remove(&self.first) {
            self.first += 1;
        }
        self.consumers.values_mut().for_each(|(consumer, _)| consumer.trim(first));
        before - self.count()
    }

    /// Whether messages go when they are acknowledged.
    pub fn is_queue(&self) -> bool {
        self.config["retention"] == "workqueue"
    }

    /// Writes down what has changed of where the stream begins and where its consumers are.
    pub fn note(&mut self) -> Result<(), LogError> {
        if std::mem::take(&mut self.trimmed) {
            self.partition.trim((self.first - 1).min(self.partition.bounds().1))?;
        }
        if !self.consumers.values().any(|(consumer, _)| consumer.changed) {
            return Ok(());
        }
        self.save()
    }

    /// Writes down what the stream and its consumers are.
    pub fn save(&mut self) -> Result<(), LogError> {
        let text = json!({ "config": self.config, "created": self.created }).to_string();
        let mut labels = BTreeMap::from([(STREAM.to_owned(), text)]);
        for (name, (consumer, _)) in &mut self.consumers {
            let said = json!({ "config": consumer.config, "created": consumer.created });
            labels.insert(format!("{CONSUMER}{name}"), said.to_string());
            labels.insert(format!("{POSITION}{name}"), consumer.noted());
            consumer.changed = false;
        }
        self.topic.change(self.topic.settings(), labels)
    }

    /// What the stream has.
    pub fn state(&mut self) -> Value {
        let time = |reader: &mut MessageReader, partition: &Arc<Partition>, sequence| {
            let message = reader.get(partition, sequence).ok().flatten();
            message.map_or_else(|| "0001-01-01T00:00:00Z".to_owned(), |message| stamp(message.time))
        };
        let none = self.count() == 0;
        let (first, last) = (self.first, self.last);
        let first_time = if none { stamp(0) } else { time(&mut self.lookups, &self.partition, first) };
        let last_time = if last == 0 { stamp(0) } else { time(&mut self.lookups, &self.partition, last) };
        json!({
            "messages": self.count(), "bytes": if none { 0 } else { self.partition.size() },
            "first_seq": if last == 0 { 0 } else { first }, "first_ts": first_time,
            "last_seq": last, "last_ts": last_time,
            "num_deleted": self.gone.len(), "consumer_count": self.consumers.len(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_overlap_where_a_subject_matches_both() {
        for (a, b, both) in [
            ("a.b", "a.b", true),
            ("a.*", "a.b", true),
            ("a.>", "a.b.c", true),
            ("a.>", "a", false),
            ("a.*", "a.b.c", false),
            ("*.b", "a.*", true),
            (">", "x", true),
            ("a.b", "a.c", false),
        ] {
            assert_eq!((overlap(a, b), overlap(b, a)), (both, both), "{a} {b}");
        }
    }

    #[test]
    fn what_is_not_served_is_refused_in_words() {
        for (config, words) in [
            (json!({ "mirror": { "name": "x" } }), "mirror"),
            (json!({ "max_age": 5 }), "max_age"),
            (json!({ "retention": "interest" }), "interest"),
            (json!({ "allow_atomic": true }), "allow_atomic"),
            (json!({ "num_replicas": 3 }), "replicas"),
            (json!({ "subjects": ["a.*", "a.b"] }), "overlap"),
        ] {
            assert!(complete("S", config).unwrap_err().2.contains(words));
        }
        let plain = complete("S", json!({ "max_msgs": 0, "duplicate_window": 0 })).unwrap();
        assert_eq!((&plain["max_msgs"], &plain["duplicate_window"]), (&json!(-1), &json!(DUPLICATE_WINDOW)));
        assert_eq!(subjects(&plain), ["S"]);
    }
}
