//! The service of others that a workload drives, from how it is written.

use super::bucket::bucket;
use super::file::{self, ScenarioFile};
use crate::plan::problem::{Problem, Problems};
use crate::plan::{Pattern, ServiceTarget};

/// How a service is asked: on a subject of NATS, or in a topic of Kafka.
fn asked(at: &str, written: &file::TargetTable, problems: &mut Problems) -> Option<ServiceTarget> {
    let mut refuse = |key: &str, message: &str, hint: &str| {
        let path = if key.is_empty() { at.to_owned() } else { format!("{at}.{key}") };
        problems.add(Problem::new(path, message).hint(hint));
    };
    let file::TargetTable { subject, topic, reply_topic, correlation_header, bucket: _ } = written;
    let beside = [("topic", topic), ("reply-topic", reply_topic), ("correlation-header", correlation_header)];
    let beside = beside.iter().find(|(_, value)| value.is_some()).map(|(key, _)| *key);
    let named = |name: &str| {
        let valid = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
        (1..=249).contains(&name.len()) && name.chars().all(valid) && ![".", ".."].contains(&name)
    };
    match (subject, topic, reply_topic) {
        (Some(_), ..) if beside.is_some() => {
            let hint = "write `subject` alone for NATS, `topic` and `reply-topic` for Kafka";
            refuse(beside.unwrap_or_default(), "a service is asked on a subject or in a topic, not both", hint);
        }
        (Some(subject), ..) => {
            let token = |t: &str| !t.is_empty() && !t.contains(['*', '>']) && !t.contains(char::is_whitespace);
            if subject.split('.').all(token) {
                return Some(ServiceTarget::Subject { subject: subject.clone() });
            }
            let hint = "write it like \"orders.create\": words parted by dots, without wildcards";
            refuse("subject", "nothing can be sent to this subject", hint);
        }
        (None, Some(topic), Some(reply_topic)) => {
            let header = correlation_header.as_deref().unwrap_or("correlation-id");
            let hint = "write letters, digits, `.`, `_` and `-`, at most 249";
            for (key, name) in [("topic", topic), ("reply-topic", reply_topic)] {
                if !named(name) {
                    refuse(key, "Kafka has no topic of this name", hint);
                }
            }
            if topic == reply_topic {
                let hint = "write the topic that the service answers to";
                refuse("reply-topic", "requests would be read as their own answers", hint);
            }
            if header.is_empty() || header.contains('\0') {
                refuse("correlation-header", "no header is called so", "write correlation-header = \"correlation-id\"");
            }
            let (topic, reply_topic, correlation_header) = (topic.clone(), reply_topic.clone(), header.to_owned());
            return Some(ServiceTarget::Topic { topic, reply_topic, correlation_header });
        }
        (None, Some(_), None) => {
            let hint = "write reply-topic = \"...\" beside it";
            refuse("topic", "it is not said which topic the service answers to", hint);
        }
        (None, None, _) => {
            let hint = "write target = { subject = \"orders.create\" } for NATS, or target = { topic = \"orders\", \
                        reply-topic = \"orders-answers\" } for Kafka";
            refuse("", "it is not said where the service is asked", hint);
        }
    }
    None
}

/// The service that is driven, and whether it can be driven so.
pub(super) fn target(
    at: &str,
    w: &file::WorkloadTable,
    written: &file::TargetTable,
    file: &ScenarioFile,
    problems: &mut Problems,
) -> Option<ServiceTarget> {
    let path = format!("{at}.target");
    let target = match &written.bucket {
        Some(name) => bucket(&path, name, written, file, problems),
        None => asked(&path, written, problems),
    };
    let mut refuse = |path: String, message: &str, hint: &str| problems.add(Problem::new(path, message).hint(hint));
    if w.pattern != Pattern::RequestReply {
        let hint = "write pattern = \"request-reply\"";
        refuse(format!("{at}.pattern"), "a service answers requests", hint);
    }
    for (key, written) in [
        ("consumers", w.consumers.is_some()),
        ("channels", w.channels.is_some()),
        ("delivery", w.delivery != file::DeliveryTable::default()),
        ("intruders", w.intruders.is_some()),
    ] {
        if written {
            refuse(format!("{at}.{key}"), &format!("`{key}` has no meaning beside `target`"), "remove it");
        }
    }
    // Its own store is made for each trial.
    let launched = |s: &&file::SystemTable| s.url.is_none() && written.bucket.is_none();
    for (i, system) in file.system.iter().enumerate().filter(|(_, s)| launched(s)) {
        let name = system.name.as_deref().unwrap_or(&system.driver);
        let message = format!("{name} would be started for the trial, and your service is not connected to it");
        refuse(format!("system.{i}"), &message, "write the `url` of the server that your service is connected to");
    }
    target
}
