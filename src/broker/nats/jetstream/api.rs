//! The requests on `$JS.API`, and their answers in JSON.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use super::consumer::{AckPolicy, ConsumerConfig, PullConsumer};
use super::frames::RoutedMessage;
use super::stored::MessageReader;
use super::stream::{Stream, complete, overlap, subjects};
use super::{ApiError, BAD_REQUEST, JetStream, RouterLink, stamp, wall};
use crate::broker::log::LogError;

/// What the type of an answer begins with.
const TYPE: &str = "io.nats.jetstream.api.v1.";
const NO_STREAM: (u16, u32, &str) = (404, 10059, "stream not found");
const NO_CONSUMER: (u16, u32, &str) = (404, 10014, "consumer not found");
const NO_MESSAGE: (u16, u32, &str) = (404, 10037, "no message found");

type ApiResult = Result<Value, ApiError>;

fn error((code, number, words): (u16, u32, &str)) -> ApiError {
    (code, number, words.to_owned())
}

/// An error as answers have it.
pub(super) fn error_body((code, number, words): &ApiError) -> Value {
    let words = if words.is_empty() { "bad request" } else { words };
    json!({ "code": code, "err_code": number, "description": words })
}

fn failed(error: &LogError) -> ApiError {
    (500, 10049, error.to_string())
}

fn read(body: &[u8]) -> Result<Value, ApiError> {
    if body.trim_ascii().is_empty() {
        return Ok(json!({}));
    }
    serde_json::from_slice(body).map_err(|_| BAD_REQUEST)
}

impl JetStream {
    /// Carries out a request and answers it.
    pub(super) fn request(&mut self, link: &mut RouterLink, message: &RoutedMessage<'_>) {
        let subject = std::str::from_utf8(message.subject).unwrap_or_default();
        let verb = subject.strip_prefix("$JS.API.").unwrap_or_default();
        let body = &message.content[message.header_len..];
        if let Some((stream, consumer)) = verb.strip_prefix("CONSUMER.MSG.NEXT.").and_then(|rest| rest.split_once('.'))
        {
            return self.pull(link, (stream, consumer), message.reply, body);
        }
        let (kind, result) = self.carry_out(link, verb, body);
        let mut answer = match result {
            Ok(answer) => answer,
            Err(error) => json!({ "error": error_body(&error) }),
        };
        answer["type"] = format!("{TYPE}{kind}_response").into();
        link.answer(message.reply, &answer);
    }

    fn carry_out(&mut self, link: &mut RouterLink, verb: &str, body: &[u8]) -> (&'static str, ApiResult) {
        let words: Vec<&str> = verb.split('.').collect();
        match words[..] {
            ["INFO"] => ("account_info", Ok(self.account())),
            ["STREAM", "CREATE", name] => ("stream_create", self.create_stream(link, name, body)),
            ["STREAM", "UPDATE", name] => ("stream_update", self.update_stream(link, name, body)),
            ["STREAM", "INFO", name] => ("stream_info", self.stream(name).map(stream_info)),
            ["STREAM", "DELETE", name] => ("stream_delete", self.delete_stream(link, name)),
            ["STREAM", "PURGE", name] => ("stream_purge", self.purge(name, body)),
            ["STREAM", "NAMES"] => ("stream_names", self.stream_names(body)),
            ["STREAM", "LIST"] => ("stream_list", Ok(self.stream_list())),
            ["STREAM", "MSG", "GET", name] => ("stream_msg_get", self.message(name, body)),
            ["STREAM", "MSG", "DELETE", name] => ("stream_msg_delete", self.delete_message(name, body)),
            ["CONSUMER", "CREATE", stream] => ("consumer_create", self.create_consumer(stream, None, body)),
            ["CONSUMER", "CREATE", stream, name, ..] | ["CONSUMER", "DURABLE", "CREATE", stream, name] => {
                ("consumer_create", self.create_consumer(stream, Some(name), body))
            }
            ["CONSUMER", "INFO", stream, name] => ("consumer_info", self.consumer_info(stream, name)),
            ["CONSUMER", "DELETE", stream, name] => ("consumer_delete", self.delete_consumer(link, stream, name)),
            ["CONSUMER", "NAMES", stream] => ("consumer_names", self.consumers(stream, false)),
            ["CONSUMER", "LIST", stream] => ("consumer_list", self.consumers(stream, true)),
            _ => {
                let words = format!("{verb} is not served by the reference broker");
                ("unknown", Err((501, 10025, words)))
            }
        }
    }

    fn stream(&mut self, name: &str) -> Result<&mut Stream, ApiError> {
        self.streams.get_mut(name).ok_or(error(NO_STREAM))
    }

    fn account(&self) -> Value {
        let consumers: usize = self.streams.values().map(|stream| stream.consumers.len()).sum();
        json!({
            "memory": 0, "storage": 0, "streams": self.streams.len(), "consumers": consumers,
            "limits": { "max_memory": -1, "max_storage": -1, "max_streams": -1, "max_consumers": -1 },
            "api": { "total": 0, "errors": 0 },
        })
    }

    fn create_stream(&mut self, link: &mut RouterLink, name: &str, body: &[u8]) -> ApiResult {
        let config = complete(name, read(body)?)?;
        if let Some(stream) = self.streams.get_mut(name) {
            if stream.config == config {
                return Ok(stream_info(stream));
            }
            return Err((400, 10058, "stream name already in use with a different configuration".into()));
        }
        self.free(name, &subjects(&config))?;
        let stream = Stream::create(&self.log, name, config, wall()).map_err(|error| failed(&error))?;
        self.streams.insert(name.to_owned(), stream);
        self.listen(link, name);
        let mut answer = stream_info(self.stream(name)?);
        answer["did_create"] = true.into();
        Ok(answer)
    }

    /// Whether no other stream has these subjects.
    fn free(&self, name: &str, subjects: &[String]) -> Result<(), ApiError> {
        let mut others = self.streams.values().filter(|stream| stream.name != name);
        match others.any(|stream| subjects.iter().any(|a| stream.subjects.iter().any(|b| overlap(a, b)))) {
            true => Err((400, 10065, "subjects overlap with an existing stream".into())),
            false => Ok(()),
        }
    }

    fn update_stream(&mut self, link: &mut RouterLink, name: &str, body: &[u8]) -> ApiResult {
        self.stream(name)?;
        let config = complete(name, read(body)?)?;
        self.free(name, &subjects(&config))?;
        let stream = self.stream(name)?;
        for fixed in ["retention", "storage"] {
            if stream.config[fixed] != config[fixed] {
                return Err((500, 10052, format!("stream configuration update can not change {fixed}")));
            }
        }
        stream.subjects = subjects(&config);
        stream.config = config;
        stream.save().map_err(|error| failed(&error))?;
        let answer = stream_info(stream);
        self.listen(link, name);
        Ok(answer)
    }

    fn delete_stream(&mut self, link: &mut RouterLink, name: &str) -> ApiResult {
        let consumers = std::mem::take(&mut self.stream(name)?.consumers);
        self.unlisten(link, name);
        self.streams.remove(name);
        Self::dismiss(link, consumers.into_values().flat_map(|(consumer, _)| consumer.waiting));
        self.log.delete(name).map_err(|error| failed(&error))?;
        Ok(json!({ "success": true }))
    }

    fn purge(&mut self, name: &str, body: &[u8]) -> ApiResult {
        let asked = read(body)?;
        let stream = self.stream(name)?;
        if asked["filter"].as_str().is_some_and(|filter| !filter.is_empty()) {
            return Err((500, 10025, "a purge of some subjects is not served by the reference broker".into()));
        }
        let end = stream.last() + 1;
        let until = match (asked["seq"].as_u64().filter(|n| *n > 0), asked["keep"].as_u64().filter(|n| *n > 0)) {
            (Some(sequence), _) => sequence.min(end),
            (None, Some(keep)) => end.saturating_sub(keep).max(1),
            (None, None) => end,
        };
        Ok(json!({ "success": true, "purged": stream.purge(until) }))
    }

    fn stream_names(&self, body: &[u8]) -> ApiResult {
        let asked = read(body)?;
        let subject = asked["subject"].as_str().filter(|subject| !subject.is_empty());
        let wanted =
            |stream: &&Stream| subject.is_none_or(|subject| stream.subjects.iter().any(|of| overlap(of, subject)));
        let names: Vec<&str> = self.streams.values().filter(wanted).map(|stream| stream.name.as_str()).collect();
        Ok(json!({ "total": names.len(), "offset": 0, "limit": 1024, "streams": names }))
    }

    fn stream_list(&mut self) -> Value {
        let all: Vec<Value> = self.streams.values_mut().map(stream_info).collect();
        json!({ "total": all.len(), "offset": 0, "limit": 256, "streams": all })
    }

    fn message(&mut self, name: &str, body: &[u8]) -> ApiResult {
        let asked = read(body)?;
        let stream = self.stream(name)?;
        let sequence = match (asked["seq"].as_u64().filter(|n| *n > 0), asked["last_by_subj"].as_str()) {
            (Some(sequence), _) => sequence,
            (None, Some(subject)) => last_of(stream, subject)?.ok_or(error(NO_MESSAGE))?,
            (None, None) => return Err(BAD_REQUEST),
        };
        if !stream.has(sequence) {
            return Err(error(NO_MESSAGE));
        }
        let found = stream.lookups.get(&stream.partition, sequence).map_err(|error| failed(&error))?;
        let message = found.ok_or(error(NO_MESSAGE))?;
        let mut said = json!({
            "subject": String::from_utf8_lossy(message.subject),
            "seq": sequence,
            "time": stamp(message.time),
        });
        for (key, bytes) in [("hdrs", message.headers), ("data", message.body)] {
            if !bytes.is_empty() {
                said[key] = STANDARD.encode(bytes).into();
            }
        }
        Ok(json!({ "message": said }))
    }

    fn delete_message(&mut self, name: &str, body: &[u8]) -> ApiResult {
        let sequence = read(body)?["seq"].as_u64().unwrap_or(0);
        let stream = self.stream(name)?;
        if !stream.has(sequence) {
            return Err((400, 10043, format!("sequence {sequence} not found")));
        }
        stream.remove(sequence);
        Ok(json!({ "success": true }))
    }

    fn create_consumer(&mut self, stream: &str, name: Option<&str>, body: &[u8]) -> ApiResult {
        let asked = read(body)?;
        if asked["stream_name"].as_str().is_some_and(|name| name != stream) {
            return Err((400, 10056, "stream name in subject does not match request".into()));
        }
        let stream = self.stream(stream)?;
        let mut config: ConsumerConfig = serde_json::from_value(asked["config"].clone()).map_err(|_| BAD_REQUEST)?;
        if let Some(words) = config.refusal() {
            return Err((400, 10025, words.to_owned()));
        }
        if let Some(name) = name {
            name.clone_into(&mut config.name);
        }
        let mut config = config.complete();
        if config.name.is_empty() {
            config.name = format!("c{:016x}", rand::random::<u64>());
        }
        if config.name.contains(['.', '*', '>', ' ']) {
            return Err((400, 10117, "consumer name contains illegal characters".into()));
        }
        let name = config.name.clone();
        let action = asked["action"].as_str().unwrap_or_default();
        if let Some((known, _)) = stream.consumers.get_mut(&name) {
            if action == "create" && known.config != config {
                return Err((400, 10148, "consumer already exists".into()));
            }
            known.config = config;
        } else {
            if action == "update" {
                return Err((400, 10149, "consumer does not exist".into()));
            }
            if stream.is_queue() {
                fits_queue(stream, &config)?;
            }
            let next = start(stream, &config)?;
            let consumer = PullConsumer::new(config, wall(), next);
            stream.consumers.insert(name.clone(), (consumer, MessageReader::default()));
        }
        stream.save().map_err(|error| failed(&error))?;
        consumer_info(stream, &name)
    }

    fn consumer_info(&mut self, stream: &str, name: &str) -> ApiResult {
        consumer_info(self.stream(stream)?, name)
    }

    fn delete_consumer(&mut self, link: &mut RouterLink, stream: &str, name: &str) -> ApiResult {
        let stream = self.stream(stream)?;
        let (consumer, _) = stream.consumers.remove(name).ok_or(error(NO_CONSUMER))?;
        stream.save().map_err(|error| failed(&error))?;
        Self::dismiss(link, consumer.waiting);
        Ok(json!({ "success": true }))
    }

    fn consumers(&mut self, stream: &str, whole: bool) -> ApiResult {
        let stream = self.stream(stream)?;
        let names: Vec<String> = stream.consumers.keys().cloned().collect();
        let all = match whole {
            true => names.iter().map(|name| consumer_info(stream, name)).collect::<Result<Vec<Value>, ApiError>>()?,
            false => names.into_iter().map(Value::from).collect(),
        };
        Ok(json!({ "total": all.len(), "offset": 0, "limit": 1024, "consumers": all }))
    }
}

/// The last message of a subject that may have wildcards.
fn last_of(stream: &mut Stream, subject: &str) -> Result<Option<u64>, ApiError> {
    for sequence in (stream.first()..=stream.last()).rev() {
        if !stream.has(sequence) {
            continue;
        }
        let found = stream.lookups.get(&stream.partition, sequence).map_err(|error| failed(&error))?;
        if found.is_some_and(|message| crate::faults::pattern::matches(subject.as_bytes(), message.subject)) {
            return Ok(Some(sequence));
        }
    }
    Ok(None)
}

/// Whether a consumer fits to those that a work queue has: no message may be another's, too.
fn fits_queue(stream: &Stream, config: &ConsumerConfig) -> Result<(), ApiError> {
    if config.ack_policy != AckPolicy::Explicit {
        return Err((400, 10084, "workqueue stream requires explicit ack".into()));
    }
    if config.deliver_policy != "all" {
        return Err((400, 10101, "consumer must be deliver all on workqueue stream".into()));
    }
    if stream.consumers.is_empty() {
        return Ok(());
    }
    Err((400, 10099, "multiple non-filtered consumers not allowed on workqueue stream".into()))
}

/// The number of the message that a new consumer begins with.
fn start(stream: &mut Stream, config: &ConsumerConfig) -> Result<u64, ApiError> {
    let (first, end) = (stream.first(), stream.last() + 1);
    match config.deliver_policy.as_str() {
        "all" => Ok(first),
        "new" => Ok(end),
        "last" => Ok(end.saturating_sub(1).max(first)),
        "by_start_sequence" => Ok(config.opt_start_seq.unwrap_or(1).max(first)),
        "by_start_time" => {
            let text = config.opt_start_time.as_deref().unwrap_or_default();
            let since = nanos(text).ok_or(BAD_REQUEST)?;
            for sequence in first..end {
                let found = stream.lookups.get(&stream.partition, sequence).map_err(|error| failed(&error))?;
                if found.is_some_and(|message| message.time >= since) {
                    return Ok(sequence);
                }
            }
            Ok(end)
        }
        _ => Err((400, 10025, "this policy of delivery is not served by the reference broker".into())),
    }
}

/// Nanoseconds since the Unix epoch of a time in UTC, as the protocol writes it.
fn nanos(text: &str) -> Option<i64> {
    let text = text.strip_suffix('Z')?;
    let (seconds, fraction) = text.split_once('.').unwrap_or((text, "0"));
    let digits: String = fraction.chars().chain("000000000".chars()).take(9).collect();
    let (date, time) = seconds.split_once('T')?;
    let numbers = |text: &str, by: char| text.split(by).map(|n| n.parse().ok()).collect::<Option<Vec<i64>>>();
    let (date, time) = (numbers(date, '-')?, numbers(time, ':')?);
    let (&[year, month, day], &[hour, minute, second]) = (&date[..], &time[..]) else { return None };
    let plausible = (1..=9999).contains(&year) && (1..=12).contains(&month) && (1..=31).contains(&day);
    if !plausible || ![(hour, 24), (minute, 60), (second, 61)].iter().all(|(n, end)| (0..*end).contains(n)) {
        return None;
    }
    // Days since 1970-03-01 counted in years that begin in March, so that leap days are their last.
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let days = 365 * (year - 1970) + (year / 4 - year / 100 + year / 400) - (1970 / 4 - 1970 / 100 + 1970 / 400);
    let days = days + (153 * month + 2) / 5 + day - 1 + 59;
    let seconds = ((days * 24 + hour) * 60 + minute) * 60 + second;
    seconds.checked_mul(1_000_000_000)?.checked_add(digits.parse().ok()?)
}

fn stream_info(stream: &mut Stream) -> Value {
    let state = stream.state();
    json!({ "config": stream.config, "created": stamp(stream.created), "state": state, "ts": stamp(wall()) })
}

fn consumer_info(stream: &mut Stream, name: &str) -> ApiResult {
    let Some((consumer, _)) = stream.consumers.get(name) else { return Err(error(NO_CONSUMER)) };
    let mut info = consumer.state();
    let pending = stream.count_from(consumer.next());
    for (key, value) in [
        ("stream_name", json!(stream.name)),
        ("name", json!(name)),
        ("created", json!(stamp(consumer.created))),
        ("config", json!(consumer.config)),
        ("num_pending", json!(pending)),
        ("ts", json!(stamp(wall()))),
    ] {
        info[key] = value;
    }
    Ok(info)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn times_are_read_as_they_are_written(time in 0i64..4_000_000_000_000_000_000) {
            prop_assert_eq!(nanos(&stamp(time)), Some(time));
        }

        #[test]
        fn no_text_panics(text in ".{0,40}") {
            let _ = nanos(&format!("{text}Z"));
        }
    }
}
