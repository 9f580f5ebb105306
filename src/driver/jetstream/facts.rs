//! What is promised of messages, as streams and options say it.

use std::collections::BTreeMap;

use serde_json::Value;

use super::api::limit;
use super::options::{JetstreamOptions, PublishMode};
use crate::driver::{Acknowledgement, Durability, Stated};

/// Where the stream keeps messages, and its settings. How often nats-server syncs files is a
/// setting of its own.
pub fn stream_facts(c: &Value) -> (Stated<Durability>, BTreeMap<String, String>) {
    let word = |key: &str| c[key].as_str().unwrap_or("unknown").to_owned();
    let replicas = c["num_replicas"].to_string();
    let copies = if replicas == "1" { "1 server".into() } else { format!("{replicas} servers") };
    let level = match c["storage"].as_str() {
        Some("file") => Durability::File,
        Some("memory") => Durability::Memory,
        _ => Durability::Unstated,
    };
    let settings = BTreeMap::from([
        ("storage".into(), word("storage")),
        ("replicas".into(), replicas),
        ("retention".into(), word("retention")),
        ("discard".into(), word("discard")),
        ("max_messages".into(), limit(&c["max_msgs"], false)),
        ("max_bytes".into(), limit(&c["max_bytes"], false)),
        ("max_messages_per_subject".into(), limit(&c["max_msgs_per_subject"], false)),
        ("max_age".into(), limit(&c["max_age"], true)),
        ("duplicate_window".into(), limit(&c["duplicate_window"], true)),
    ]);
    (Stated::new(level, format!("{} of {copies}", word("storage"))), settings)
}

/// Who has a message that is acknowledged, and how both sides acknowledge.
pub fn acknowledgement(options: &JetstreamOptions) -> Stated<Acknowledgement> {
    let publish = match options.publish {
        PublishMode::Async => format!("publish async, at most {} in flight", options.in_flight()),
        PublishMode::Sync => "publish sync".into(),
        PublishMode::FireAndForget => "publish without".into(),
        PublishMode::AtomicBatch => format!("publish atomic batches of {}", options.publish_batch),
        PublishMode::FastBatch => format!("publish fast batches of {}", options.publish_batch),
    };
    let level = match options.publish {
        PublishMode::FireAndForget => Acknowledgement::None,
        // A stream of several replicas acknowledges what a majority has.
        _ if options.replicas > 1 => Acknowledgement::Replicas,
        _ => Acknowledgement::Leader,
    };
    Stated::new(level, format!("{publish}; consume {}", format!("{:?}", options.ack()).to_lowercase()))
}
