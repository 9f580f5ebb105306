//! The settings of topics under Kafka's names: which there are, what they mean to the log, how they are shown and changed.
//!
//! A name that promises something the broker does not do is refused, unless the value is what the broker does anyway.

use std::collections::BTreeMap;

use kafka_protocol::messages::alter_configs_response::AlterConfigsResourceResponse;
use kafka_protocol::messages::describe_configs_response::{
    DescribeConfigsResourceResult, DescribeConfigsResult, DescribeConfigsSynonym,
};
use kafka_protocol::messages::incremental_alter_configs_response::AlterConfigsResourceResponse as SomeResponse;
use kafka_protocol::messages::{
    AlterConfigsRequest, AlterConfigsResponse, DescribeConfigsRequest, DescribeConfigsResponse,
    IncrementalAlterConfigsRequest, IncrementalAlterConfigsResponse,
};
use kafka_protocol::protocol::StrBytes;

use super::super::log::{Settings, SyncPolicy};
use super::code;
use super::hub::{Call, once, text};
use super::pending::Pending;

/// Kinds of resources.
const ON_TOPIC: i8 = 2;
const ON_BROKER: i8 = 4;

/// Where a value comes from, in the protocol's numbers.
#[derive(Debug, Clone, Copy)]
pub(super) enum Source {
    Topic = 1,
    Broker = 4,
    Default = 5,
}

/// What kind of value it is, in the protocol's numbers.
#[derive(Debug, Clone, Copy)]
enum Kind {
    Boolean = 1,
    Text = 2,
    Int = 3,
    Long = 5,
    List = 7,
}

type Labels = BTreeMap<String, String>;

/// Names whose one value says what the broker does anyway.
const FIXED: [(&str, &str); 5] = [
    ("compression.type", "producer"),
    ("message.timestamp.type", "CreateTime"),
    ("min.insync.replicas", "1"),
    ("unclean.leader.election.enable", "false"),
    ("preallocate", "false"),
];

fn limit(value: &str) -> Result<Option<u64>, String> {
    match value.trim().parse::<i64>() {
        Ok(-1) => Ok(None),
        Ok(n) if n >= 0 => Ok(Some(n as u64)),
        _ => Err(format!("`{value}` is not a number of at least -1")),
    }
}

fn number(value: &str, least: u64, most: u64) -> Result<u64, String> {
    let wrong = || format!("`{value}` is not a number from {least} to {most}");
    value.trim().parse().ok().filter(|n| (least..=most).contains(n)).ok_or_else(wrong)
}

/// Takes over one value.
///
/// # Errors
/// In words for the client, when the name is not known or the value is not possible.
pub(super) fn set(settings: &mut Settings, labels: &mut Labels, name: &str, value: &str) -> Result<(), String> {
    let said = |words: String| format!("{name}: {words}");
    match name {
        "cleanup.policy" => {
            let parts: Vec<&str> = value.split(',').map(str::trim).collect();
            if parts.iter().any(|part| !matches!(*part, "delete" | "compact")) {
                return Err(said(format!("`{value}` is not delete, compact, or both")));
            }
            settings.delete = parts.contains(&"delete");
            settings.compact = parts.contains(&"compact");
        }
        "retention.ms" => settings.retention_ms = limit(value).map_err(said)?,
        "retention.bytes" => settings.retention_bytes = limit(value).map_err(said)?,
        "retention.records" => settings.retention_records = limit(value).map_err(said)?,
        "segment.bytes" => settings.segment_bytes = number(value, 1 << 10, 1 << 30).map_err(said)?,
        "segment.ms" => settings.segment_ms = Some(number(value, 1, i64::MAX as u64).map_err(said)?),
        "delete.retention.ms" => settings.tombstone_ms = number(value, 0, i64::MAX as u64).map_err(said)?,
        "max.message.bytes" => settings.max_batch = number(value, 61, 1 << 30).map_err(said)? as usize,
        _ => match FIXED.iter().find(|(fixed, _)| *fixed == name) {
            Some((_, only)) if *only == value => {}
            Some((_, only)) => return Err(said(format!("this broker has only `{only}`"))),
            None => return Err(format!("Unknown topic config name: {name}")),
        },
    }
    labels.insert(name.to_owned(), value.to_owned());
    Ok(())
}

/// Every setting of a topic with its value and kind.
fn shown(settings: &Settings) -> Vec<(&'static str, String, Kind)> {
    let limit = |value: Option<u64>| value.map_or_else(|| "-1".to_owned(), |n| n.to_string());
    let policy = match (settings.compact, settings.delete) {
        (true, true) => "compact,delete",
        (true, false) => "compact",
        _ => "delete",
    };
    let mut all = vec![
        ("cleanup.policy", policy.to_owned(), Kind::List),
        ("retention.ms", limit(settings.retention_ms), Kind::Long),
        ("retention.bytes", limit(settings.retention_bytes), Kind::Long),
        ("retention.records", limit(settings.retention_records), Kind::Long),
        ("segment.bytes", settings.segment_bytes.to_string(), Kind::Int),
        ("segment.ms", settings.segment_ms.unwrap_or(i64::MAX as u64).to_string(), Kind::Long),
        ("delete.retention.ms", settings.tombstone_ms.to_string(), Kind::Long),
        ("max.message.bytes", settings.max_batch.to_string(), Kind::Int),
    ];
    all.extend(FIXED.iter().map(|(name, value)| (*name, (*value).to_owned(), Kind::Text)));
    all
}

/// What the broker as a whole is set to, under names of its own where Kafka has none.
fn of_broker(call: &Call<'_>) -> Vec<(&'static str, String, Kind)> {
    let config = &call.hub.config;
    let sync = match call.hub.log.sync_policy() {
        SyncPolicy::Never => "never".to_owned(),
        SyncPolicy::Interval(every) => format!("every {} ms", every.as_millis()),
        SyncPolicy::Bytes(bytes) => format!("every {bytes} B"),
        SyncPolicy::Group => "group".to_owned(),
    };
    vec![
        ("advertised.listeners", format!("PLAINTEXT://{}", call.local), Kind::Text),
        ("broker.id", config.node.to_string(), Kind::Int),
        ("msgbench.sync", sync, Kind::Text),
        ("num.partitions", config.partitions.to_string(), Kind::Int),
        ("auto.create.topics.enable", config.auto_create.to_string(), Kind::Boolean),
        ("max.connections", config.max_connections.to_string(), Kind::Int),
        ("socket.request.max.bytes", config.max_request.to_string(), Kind::Int),
        ("default.replication.factor", "1".to_owned(), Kind::Int),
    ]
}

/// Shows settings.
pub(super) fn describe(call: &Call<'_>, request: DescribeConfigsRequest) -> Pending {
    let resources = once(request.resources, |resource| (resource.resource_type, resource.resource_name.clone()));
    let results = resources.into_iter().map(|resource| {
        let wanted =
            |name: &str| resource.configuration_keys.as_ref().is_none_or(|keys| keys.iter().any(|k| &**k == name));
        let result = DescribeConfigsResult::default()
            .with_resource_type(resource.resource_type)
            .with_resource_name(resource.resource_name.clone());
        let found = match resource.resource_type {
            ON_TOPIC => call.hub.log.topic(&resource.resource_name).map(|t| (shown(&t.settings()), t.labels(), false)),
            ON_BROKER
                if resource.resource_name.parse() == Ok(call.hub.config.node) || resource.resource_name.is_empty() =>
            {
                Some((of_broker(call), Labels::new(), true))
            }
            _ => None,
        };
        match found {
            Some((all, labels, broker)) => {
                let configs = all.into_iter().filter(|(name, ..)| wanted(name)).map(|(name, value, kind)| {
                    let source = match (broker, labels.contains_key(name)) {
                        (true, _) => Source::Broker,
                        (false, true) => Source::Topic,
                        (false, false) => Source::Default,
                    };
                    let synonym = DescribeConfigsSynonym::default()
                        .with_name(StrBytes::from_static_str(name))
                        .with_value(Some(text(value.clone())))
                        .with_source(source as i8);
                    DescribeConfigsResourceResult::default()
                        .with_name(StrBytes::from_static_str(name))
                        .with_value(Some(text(value)))
                        .with_read_only(broker)
                        .with_config_source(source as i8)
                        .with_config_type(kind as i8)
                        .with_synonyms(if request.include_synonyms { vec![synonym] } else { Vec::new() })
                });
                result.with_configs(configs.collect()).with_error_message(None)
            }
            None if resource.resource_type == ON_TOPIC => result
                .with_error_code(code::UNKNOWN_TOPIC_OR_PARTITION)
                .with_error_message(Some(text("there is no such topic"))),
            None => result.with_error_code(code::INVALID_REQUEST).with_error_message(Some(text(format!(
                "there are settings of topics, and of broker {}",
                call.hub.config.node
            )))),
        }
    });
    let results = results.collect();
    call.ready(&DescribeConfigsResponse::default().with_results(results))
}

/// One change: a name, and its new value or none for the default.
type Change = (StrBytes, Option<StrBytes>);

fn change(
    call: &Call<'_>,
    kind: i8,
    name: &str,
    changes: &[Change],
    anew: bool,
    validate_only: bool,
) -> Result<(), (i16, String)> {
    if kind != ON_TOPIC {
        return Err((code::INVALID_REQUEST, "only the settings of topics can be changed".to_owned()));
    }
    let Some(topic) = call.hub.log.topic(name).filter(|_| !name.starts_with("__")) else {
        return Err((code::UNKNOWN_TOPIC_OR_PARTITION, "there is no such topic".to_owned()));
    };
    let mut wanted = if anew { Labels::new() } else { topic.labels() };
    for (name, value) in changes {
        match value {
            Some(value) => wanted.insert(name.to_string(), value.to_string()),
            None => wanted.remove(&**name),
        };
    }
    let mut settings = call.hub.log.defaults().clone();
    let mut labels = Labels::new();
    for (name, value) in &wanted {
        set(&mut settings, &mut labels, name, value).map_err(|words| (code::INVALID_CONFIG, words))?;
    }
    if validate_only {
        return Ok(());
    }
    topic.change(settings, labels).map_err(|error| (code::of(&error), error.to_string()))
}

fn told(result: Result<(), (i16, String)>) -> (i16, Option<StrBytes>) {
    match result {
        Ok(()) => (code::NONE, None),
        Err((code, words)) => (code, Some(text(words))),
    }
}

/// Replaces all settings of topics.
pub(super) fn alter(call: &Call<'_>, request: AlterConfigsRequest) -> Pending {
    let responses = request.resources.into_iter().map(|resource| {
        let changes: Vec<Change> = resource.configs.into_iter().map(|config| (config.name, config.value)).collect();
        let result =
            change(call, resource.resource_type, &resource.resource_name, &changes, true, request.validate_only);
        let (code, words) = told(result);
        AlterConfigsResourceResponse::default()
            .with_error_code(code)
            .with_error_message(words)
            .with_resource_type(resource.resource_type)
            .with_resource_name(resource.resource_name)
    });
    let responses = responses.collect();
    call.ready(&AlterConfigsResponse::default().with_responses(responses))
}

/// Sets or unsets some settings of topics. Adding to a list is not known.
pub(super) fn alter_some(call: &Call<'_>, request: IncrementalAlterConfigsRequest) -> Pending {
    let responses = request.resources.into_iter().map(|resource| {
        let plain = resource.configs.iter().all(|config| matches!(config.config_operation, 0 | 1));
        let changes: Vec<Change> = resource
            .configs
            .into_iter()
            .map(|config| (config.name, config.value.filter(|_| config.config_operation == 0)))
            .collect();
        let result = if plain {
            change(call, resource.resource_type, &resource.resource_name, &changes, false, request.validate_only)
        } else {
            Err((code::INVALID_CONFIG, "values can be set or unset, not added to".to_owned()))
        };
        let (code, words) = told(result);
        SomeResponse::default()
            .with_error_code(code)
            .with_error_message(words)
            .with_resource_type(resource.resource_type)
            .with_resource_name(resource.resource_name)
    });
    let responses = responses.collect();
    call.ready(&IncrementalAlterConfigsResponse::default().with_responses(responses))
}
