//! Administration: requests in JSON on `$JS.API`, and what goes wrong there in words.
//!
//! The configurations are built and read as JSON rather than through a client's types: what the
//! server answers is recorded as it stands, with fields that a client does not know yet.

use bytes::Bytes;
use serde_json::{Value, json};

use super::domain::ApiRoot;
use super::options::{AckMode, ConsumeMode, JetstreamOptions};
use crate::driver::nats::link::NatsLink;
use crate::driver::{DriverError, Start};
use crate::units::Span;

/// Makes the request `verb` under `root` and gives the answer.
///
/// # Errors
/// [`DriverError::Admin`] with the server's words and a remedy, [`DriverError::Timeout`].
pub async fn call(
    link: &NatsLink,
    root: &ApiRoot,
    action: &str,
    verb: &str,
    body: &Value,
) -> Result<Value, DriverError> {
    let payload = if body.is_null() { Bytes::new() } else { Bytes::from(body.to_string()) };
    let asked = link.within(action, link.client.request(root.subject(verb), payload)).await?;
    let answer = match asked {
        Ok(answer) => answer,
        Err(error) => {
            link.check()?;
            let words = error.to_string();
            if words.contains("no responders") {
                let (words, remedy) = root.nobody();
                return Err(link.refused(action, words, remedy));
            }
            return Err(link.refused(action, words, "check that JetStream has a leader"));
        }
    };
    let answer: Value = serde_json::from_slice(&answer.payload)
        .map_err(|e| link.refused(action, format!("the answer is not JSON: {e}"), "use a NATS server from 2.9 on"))?;
    match error_of(&answer) {
        Some((words, code)) => Err(link.refused(action, words, remedy(code))),
        None => Ok(answer),
    }
}

/// The words and code of an answer that is an error.
pub fn error_of(answer: &Value) -> Option<(String, u64)> {
    let error = answer.get("error")?;
    let code = error["err_code"].as_u64().unwrap_or(0);
    let words = error["description"].as_str().unwrap_or("an error without a description");
    Some((format!("{words} (error {code})"), code))
}

/// Whether an error says that there is no such stream.
pub fn not_found(error: &DriverError) -> bool {
    matches!(error, DriverError::Admin { words, .. } if words.ends_with("(error 10059)"))
}

/// Of an error that says that there is no such stream: that it is gone.
pub fn gone(error: DriverError, stream: &str) -> DriverError {
    let not_found = not_found(&error);
    match error {
        DriverError::Admin { url, words, .. } if not_found => {
            DriverError::Gone { what: format!("the stream {stream}"), url, words }
        }
        other => other,
    }
}

/// What to do, by the server's error codes (nats-server `server/errors.json`).
fn remedy(code: u64) -> &'static str {
    match code {
        10039 | 10076 => "switch JetStream on for the server and the account of the user",
        10074 => "use `replicas = 1`, or a cluster (option `nodes` where it is launched)",
        10005 => "use no more `replicas` than the cluster has servers",
        10023 | 10028 | 10047 => "raise `max-memory` or `max-file` of the server, or give the stream lower limits",
        10026 => "give the stream fewer consumers, or raise `max-consumers` of the account",
        10008 => "wait until the cluster has a leader",
        10058 | 10065 => "another stream has this name or these subjects: remove it",
        _ => "see the options of the jetstream driver in docs/nats.md",
    }
}

/// The configuration of a stream.
pub fn stream(name: &str, subject: &str, options: &JetstreamOptions) -> Value {
    json!({
        "name": name,
        "subjects": [subject],
        "storage": options.storage,
        "num_replicas": options.replicas,
        "retention": options.retention,
        "discard": options.discard,
        "max_msgs": options.max_messages.map_or(-1, |n| i64::try_from(n).unwrap_or(i64::MAX)),
        "max_bytes": options.max_bytes.map_or(-1, |b| i64::try_from(b.0).unwrap_or(i64::MAX)),
        "max_age": options.max_age.map_or(0, |s| s.0),
        "max_consumers": -1,
        "max_msg_size": -1,
        "duplicate_window": options.duplicate_window.map_or(0, |s| s.0),
    })
}

/// Which consumer of which stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConsumerName {
    pub stream: String,
    pub consumer: String,
}

impl ConsumerName {
    /// `verb` and where it applies: `CONSUMER.INFO` becomes `CONSUMER.INFO.stream.consumer`.
    pub fn verb(&self, verb: &str) -> String {
        format!("{verb}.{}.{}", self.stream, self.consumer)
    }
}

/// The request that makes a consumer: its verb is [`ConsumerName::verb`] of `CONSUMER.CREATE`.
#[derive(Debug, Clone, Copy)]
pub struct ConsumerRequest<'a> {
    pub name: &'a ConsumerName,
    pub options: &'a JetstreamOptions,
    /// 0 is without limit.
    pub max_deliver: u32,
    pub start: Start,
    /// Where a push consumer sends to, and the group that shares it.
    pub deliver: Option<(&'a str, Option<&'a str>)>,
    /// The field that says which subjects it reads; all of its stream where absent.
    pub filter: Option<&'a Value>,
}

impl<'a> ConsumerRequest<'a> {
    /// A consumer that is not pushed to and delivers as often as it takes.
    pub fn new(name: &'a ConsumerName, options: &'a JetstreamOptions, start: Start) -> Self {
        Self { name, options, max_deliver: 0, start, deliver: None, filter: None }
    }

    /// The request in JSON.
    pub fn body(&self) -> Value {
        let Self { name, options, max_deliver, .. } = *self;
        let ack = match options.ack() {
            AckMode::None => "none",
            AckMode::All => "all",
            AckMode::Explicit | AckMode::Double => "explicit",
        };
        let mut config = json!({ "name": name.consumer, "ack_policy": ack, "replay_policy": "instant" });
        let mut set = |key: &str, value: Value| config[key] = value;
        if options.consumer() == ConsumeMode::Ordered {
            // As ADR-17 of the NATS project wants it: gone with its connection, never stored, never
            // repeated.
            set("mem_storage", true.into());
            set("num_replicas", 1.into());
            set("max_deliver", 1.into());
            set("inactive_threshold", 300_000_000_000_u64.into());
        } else {
            set("durable_name", name.consumer.clone().into());
            set("max_deliver", if max_deliver == 0 { json!(-1) } else { json!(max_deliver) });
            if let Some(wait) = options.ack_wait {
                set("ack_wait", wait.0.into());
            }
            if let Some(pending) = options.max_ack_pending {
                set("max_ack_pending", pending.into());
            }
            // The server wants more deliveries than waits; without a limit the waits go with each
            // rejection alone.
            if !options.backoff.is_empty() && max_deliver > 0 {
                set("backoff", options.backoff.iter().map(|s| s.0).collect());
            }
        }
        for (key, value) in self.filter.and_then(Value::as_object).into_iter().flatten() {
            set(key, value.clone());
        }
        options.set_priority(&mut set);
        self.start(&mut set);
        self.delivery(&mut set);
        json!({ "stream_name": name.stream, "config": config })
    }

    fn start(&self, set: &mut impl FnMut(&str, Value)) {
        match self.start {
            Start::Tail => set("deliver_policy", "new".into()),
            Start::First => set("deliver_policy", "all".into()),
            Start::Offset(sequence) => {
                set("deliver_policy", "by_start_sequence".into());
                // The first message of a stream has the number 1.
                set("opt_start_seq", sequence.max(1).into());
            }
            Start::Time(nanos) => {
                set("deliver_policy", "by_start_time".into());
                set("opt_start_time", rfc3339(nanos).into());
            }
        }
    }

    fn delivery(&self, set: &mut impl FnMut(&str, Value)) {
        let Some((subject, group)) = self.deliver else { return };
        set("deliver_subject", subject.into());
        if let Some(limit) = self.options.rate_limit {
            // In bits of a second.
            set("rate_limit_bps", limit.0.saturating_mul(8).into());
        }
        match group {
            Some(group) => set("deliver_group", group.into()),
            // A group has neither: the server would not know whose turn it is to answer.
            None => {
                set("flow_control", self.options.flow_control.unwrap_or(true).into());
                set("idle_heartbeat", self.options.heartbeat().0.into());
            }
        }
    }
}

/// RFC 3339 in UTC, to the nanosecond.
pub fn rfc3339(nanos: u64) -> String {
    let at = std::time::UNIX_EPOCH + std::time::Duration::from_secs(nanos / 1_000_000_000);
    let seconds = crate::units::calendar::rfc3339(at);
    format!("{}.{:09}Z", seconds.trim_end_matches('Z'), nanos % 1_000_000_000)
}

/// A field of a configuration as people write it; `unlimited` for what the server writes as -1
/// or 0.
pub fn limit(value: &Value, as_span: bool) -> String {
    match value.as_i64() {
        None | Some(i64::MIN..=0) => "unlimited".into(),
        Some(n) if as_span => Span(n.unsigned_abs()).to_string(),
        Some(n) => n.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name() -> ConsumerName {
        ConsumerName { stream: "S".into(), consumer: "g0".into() }
    }

    #[test]
    fn a_plain_consumer_leaves_to_the_server_what_is_not_asked_for() {
        let made = ConsumerRequest::new(&name(), &JetstreamOptions::default(), Start::Tail).body();
        assert_eq!(
            made,
            json!({ "stream_name": "S", "config": {
                "name": "g0", "durable_name": "g0", "ack_policy": "explicit", "replay_policy": "instant",
                "max_deliver": -1, "deliver_policy": "new" } })
        );
        assert_eq!(name().verb("CONSUMER.INFO"), "CONSUMER.INFO.S.g0");
    }

    #[test]
    fn starts_are_put_in_the_servers_words() {
        let (name, options) = (name(), JetstreamOptions::default());
        let at = |start| {
            let deliver = Some(("to", None));
            ConsumerRequest { max_deliver: 3, deliver, ..ConsumerRequest::new(&name, &options, start) }.body()["config"]
                .clone()
        };
        assert_eq!(at(Start::First)["deliver_policy"], "all");
        assert_eq!(at(Start::Offset(0))["opt_start_seq"], 1);
        assert_eq!(at(Start::Time(1_000_000_000_000_000_007))["opt_start_time"], "2001-09-09T01:46:40.000000007Z");
        assert_eq!(at(Start::Tail)["idle_heartbeat"], 5_000_000_000_u64);
        assert_eq!(at(Start::Tail)["max_deliver"], 3);
    }

    #[test]
    fn errors_are_told_from_answers() {
        let error = json!({ "error": { "code": 500, "err_code": 10074, "description": "replicas > 1 not supported" } });
        let (words, code) = error_of(&error).unwrap();
        assert_eq!(words, "replicas > 1 not supported (error 10074)");
        assert!(remedy(code).contains("nodes"));
        assert_eq!(error_of(&json!({ "success": true })), None);
    }

    #[test]
    fn limits_are_said_in_words() {
        assert_eq!(limit(&json!(-1), false), "unlimited");
        assert_eq!(limit(&json!(0), true), "unlimited");
        assert_eq!(limit(&json!(1_500_000_000), true), "1.5s");
        assert_eq!(limit(&json!(7), false), "7");
    }
}
