//! Making and deleting topics and partitions.

use std::collections::BTreeMap;
use std::sync::PoisonError;

use kafka_protocol::messages::create_partitions_request::CreatePartitionsTopic;
use kafka_protocol::messages::create_partitions_response::CreatePartitionsTopicResult;
use kafka_protocol::messages::create_topics_request::CreatableTopic;
use kafka_protocol::messages::create_topics_response::{CreatableTopicConfigs, CreatableTopicResult};
use kafka_protocol::messages::delete_topics_response::DeletableTopicResult;
use kafka_protocol::messages::{
    CreatePartitionsRequest, CreatePartitionsResponse, CreateTopicsRequest, CreateTopicsResponse, DeleteTopicsRequest,
    DeleteTopicsResponse, TopicName,
};
use uuid::Uuid;

use super::super::code;
use super::super::reply::text;
use super::configs;
use super::context::RequestContext;
use super::pending::Pending;
use super::topic_settings;
use crate::broker::log::Topic;

type AdminRefusal = (i16, String);

fn refuse<T>(code: i16, words: impl Into<String>) -> Result<T, AdminRefusal> {
    Err((code, words.into()))
}

/// Makes topics, each on its own.
pub(super) fn create_topics(call: &RequestContext<'_>, request: CreateTopicsRequest) -> Pending {
    let mut names: Vec<TopicName> = request.topics.iter().map(|topic| topic.name.clone()).collect();
    names.sort();
    let twice: Vec<TopicName> = names.windows(2).filter(|w| w[0] == w[1]).map(|w| w[0].clone()).collect();
    let results = request.topics.into_iter().map(|topic| {
        let name = topic.name.clone();
        let made = if twice.contains(&name) {
            refuse(code::INVALID_REQUEST, "the topic is named more than once")
        } else {
            create_topic(call, topic, request.validate_only)
        };
        let result = CreatableTopicResult::default().with_name(name);
        match made {
            Ok((count, id, labels)) => {
                let config = |(name, value): (String, String)| {
                    CreatableTopicConfigs::default()
                        .with_name(text(name))
                        .with_value(Some(text(value)))
                        .with_config_source(configs::ConfigSource::Topic as i8)
                };
                let shown = (call.version >= 5).then(|| labels.into_iter().map(config).collect());
                result
                    .with_topic_id(id)
                    .with_error_message(None)
                    .with_num_partitions(count as i32)
                    .with_replication_factor(1)
                    .with_configs(shown.or(Some(Vec::new())))
            }
            Err((code, words)) => result
                .with_error_code(code)
                .with_error_message(Some(text(words)))
                .with_num_partitions(-1)
                .with_replication_factor(-1),
        }
    });
    let results = results.collect();
    call.ready(&CreateTopicsResponse::default().with_topics(results))
}

fn create_topic(
    call: &RequestContext<'_>,
    wanted: CreatableTopic,
    validate_only: bool,
) -> Result<(u32, Uuid, BTreeMap<String, String>), AdminRefusal> {
    let (log, config, node) = (&call.hub.log, &call.hub.config, call.hub.config.node);
    let name = wanted.name.as_str();
    let legal = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-');
    if name.is_empty() || name.len() > 249 || matches!(name, "." | "..") || !name.bytes().all(legal) {
        return refuse(code::INVALID_TOPIC, "a name is 1 to 249 letters, digits, dots, hyphens or underscores");
    }
    if name.starts_with("__") {
        return refuse(code::INVALID_TOPIC, "names that start with two underscores are the broker's own");
    }
    if log.topic(name).is_some() {
        return refuse(code::TOPIC_ALREADY_EXISTS, format!("Topic '{name}' already exists."));
    }
    let _making = call.hub.making.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(other) = call.hub.colliding(name) {
        let words = format!("Topic '{name}' collides with existing topic: {}", other.name());
        return refuse(code::INVALID_TOPIC, words);
    }
    let count = if wanted.assignments.is_empty() {
        match wanted.num_partitions {
            -1 => config.partitions,
            n => match u32::try_from(n) {
                Ok(n) if n > 0 => n,
                _ => return refuse(code::INVALID_PARTITIONS, "a topic has at least one partition"),
            },
        }
    } else {
        if wanted.num_partitions != -1 || wanted.replication_factor != -1 {
            return refuse(code::INVALID_REQUEST, "with assignments, partitions and replication factor must be -1");
        }
        let mut indexes: Vec<i32> = wanted.assignments.iter().map(|a| a.partition_index).collect();
        indexes.sort_unstable();
        let dense = indexes.iter().enumerate().all(|(n, index)| *index == n as i32);
        if !dense || wanted.assignments.iter().any(|a| a.broker_ids != [node]) {
            return refuse(code::INVALID_REPLICA_ASSIGNMENT, format!("the only broker is {node}"));
        }
        indexes.len() as u32
    };
    if !matches!(wanted.replication_factor, -1 | 1) {
        return refuse(code::INVALID_REPLICATION_FACTOR, "there is one broker, so the replication factor is 1");
    }
    let mut settings = log.defaults().clone();
    let mut labels = BTreeMap::new();
    for config in &wanted.configs {
        let value = config.value.as_deref();
        let Some(value) = value else {
            return refuse(code::INVALID_CONFIG, format!("{} has no value", config.name.as_str()));
        };
        topic_settings::set(&mut settings, &mut labels, &config.name, value)
            .map_err(|words| (code::INVALID_CONFIG, words))?;
    }
    if validate_only {
        if count as usize > config.log.max_partitions {
            return refuse(code::POLICY_VIOLATION, "there would be too many partitions");
        }
        return Ok((count, Uuid::nil(), labels));
    }
    match log.create(name, count, settings, labels.clone()) {
        Ok(topic) => Ok((count, Uuid::from_bytes(topic.id()), labels)),
        Err(error) => refuse(code::of(&error), error.to_string()),
    }
}

/// Deletes topics, by name or by id.
pub(super) fn delete_topics(call: &RequestContext<'_>, request: DeleteTopicsRequest) -> Pending {
    let log = &call.hub.log;
    let by_name = request.topic_names.into_iter().map(|name| (Some(name), Uuid::nil()));
    let by_state = request.topics.into_iter().map(|state| (state.name, state.topic_id));
    let results = by_name.chain(by_state).map(|(name, id)| {
        let known = match &name {
            Some(name) => log.topic(name),
            None => log.topics().into_iter().find(|topic| topic.id() == *id.as_bytes()),
        };
        let missing = if name.is_some() { code::UNKNOWN_TOPIC_OR_PARTITION } else { code::UNKNOWN_TOPIC_ID };
        let shown = known.as_ref().map(|topic| TopicName(text(&**topic.name()))).or(name);
        let id = known.as_ref().map_or(id, |topic| Uuid::from_bytes(topic.id()));
        let error = known.map_or(missing, |topic| delete(call, &topic));
        let words = match error {
            code::NONE => None,
            code::UNKNOWN_TOPIC_OR_PARTITION => Some("This server does not host this topic-partition."),
            code::UNKNOWN_TOPIC_ID => Some("This server does not host this topic ID."),
            code::INVALID_TOPIC => Some("names that start with two underscores are the broker's own"),
            _ => Some("the topic's files could not be removed"),
        };
        let name = if call.version < 6 { Some(shown.unwrap_or_default()) } else { shown };
        DeletableTopicResult::default()
            .with_name(name)
            .with_topic_id(id)
            .with_error_code(error)
            .with_error_message(words.filter(|_| call.version >= 5).map(text))
    });
    let results = results.collect();
    call.ready(&DeleteTopicsResponse::default().with_responses(results))
}

fn delete(call: &RequestContext<'_>, topic: &Topic) -> i16 {
    if topic.name().starts_with("__") {
        return code::INVALID_TOPIC;
    }
    match call.hub.log.delete(topic.name()) {
        Ok(()) => {
            call.hub.groups.forget_topic(topic.name());
            code::NONE
        }
        Err(error) => code::of(&error),
    }
}

/// Gives topics more partitions.
pub(super) fn create_partitions(call: &RequestContext<'_>, request: CreatePartitionsRequest) -> Pending {
    let results = request.topics.into_iter().map(|topic| {
        let result = CreatePartitionsTopicResult::default().with_name(topic.name.clone());
        match grow(call, &topic, request.validate_only) {
            Ok(()) => result.with_error_message(None),
            Err((code, words)) => result.with_error_code(code).with_error_message(Some(text(words))),
        }
    });
    let results = results.collect();
    call.ready(&CreatePartitionsResponse::default().with_results(results))
}

fn grow(call: &RequestContext<'_>, wanted: &CreatePartitionsTopic, validate_only: bool) -> Result<(), AdminRefusal> {
    let Some(topic) = call.hub.log.topic(&wanted.name).filter(|_| !wanted.name.starts_with("__")) else {
        return refuse(code::UNKNOWN_TOPIC_OR_PARTITION, "there is no such topic");
    };
    let have = topic.count();
    let count = match u32::try_from(wanted.count) {
        Ok(count) if count as usize > have => count,
        _ => return refuse(code::INVALID_PARTITIONS, format!("Topic currently has {have} partitions.")),
    };
    let node = call.hub.config.node;
    if let Some(assignments) = &wanted.assignments {
        let right = assignments.len() == count as usize - have && assignments.iter().all(|a| a.broker_ids == [node]);
        if !right {
            return refuse(code::INVALID_REPLICA_ASSIGNMENT, format!("the only broker is {node}"));
        }
    }
    if validate_only {
        return Ok(());
    }
    call.hub.log.grow(&topic, count).map_err(|error| (code::of(&error), error.to_string()))
}
