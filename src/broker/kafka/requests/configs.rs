//! Settings shown and changed, those of topics and those of the broker.

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

use super::super::code;
use super::super::reply::text;
use super::context::{RequestContext, once};
use super::pending::Pending;
use super::topic_settings::{ConfigKind, ConfigLabels, LEAST_REPLICAS, is_hint, set, shown};
use crate::broker::log::{SyncPolicy, TopicSettings};

/// Kinds of resources.
const ON_TOPIC: i8 = 2;
const ON_BROKER: i8 = 4;

/// Where a value comes from, in the protocol's numbers.
#[derive(Debug, Clone, Copy)]
pub(super) enum ConfigSource {
    Topic = 1,
    /// Set for all brokers of the cluster.
    Cluster = 3,
    Broker = 4,
    Default = 5,
}

/// What the broker as a whole is set to, under names of its own where Kafka has none.
fn of_broker(call: &RequestContext<'_>) -> Vec<(&'static str, String, ConfigKind)> {
    let config = &call.hub.config;
    let sync = match call.hub.log.sync_policy() {
        SyncPolicy::Never => "never".to_owned(),
        SyncPolicy::Interval(every) => format!("every {} ms", every.as_millis()),
        SyncPolicy::Bytes(bytes) => format!("every {bytes} B"),
        SyncPolicy::Group => "group".to_owned(),
    };
    let host = call.host();
    let host = if host.contains(':') { format!("[{host}]") } else { host.to_string() };
    let advertised = format!("PLAINTEXT://{host}:{}", call.port());
    vec![
        ("advertised.listeners", advertised, ConfigKind::Text),
        ("broker.id", config.node.to_string(), ConfigKind::Int),
        ("msgbench.sync", sync, ConfigKind::Text),
        ("num.partitions", config.partitions.to_string(), ConfigKind::Int),
        ("auto.create.topics.enable", config.auto_create.to_string(), ConfigKind::Boolean),
        ("max.connections", config.max_connections.to_string(), ConfigKind::Int),
        ("message.max.bytes", call.hub.log.defaults().max_batch.to_string(), ConfigKind::Int),
        ("socket.request.max.bytes", config.max_request.to_string(), ConfigKind::Int),
        ("group.min.session.timeout.ms", config.sessions.start().to_string(), ConfigKind::Int),
        ("group.max.session.timeout.ms", config.sessions.end().to_string(), ConfigKind::Int),
        ("default.replication.factor", "1".to_owned(), ConfigKind::Int),
        (LEAST_REPLICAS, "1".to_owned(), ConfigKind::Int),
    ]
}

/// Shows settings.
pub(super) fn describe(call: &RequestContext<'_>, request: DescribeConfigsRequest) -> Pending {
    let resources = once(request.resources, |resource| (resource.resource_type, resource.resource_name.clone()));
    let results = resources.into_iter().map(|resource| {
        let wanted =
            |name: &str| resource.configuration_keys.as_ref().is_none_or(|keys| keys.iter().any(|k| &**k == name));
        let result = DescribeConfigsResult::default()
            .with_resource_type(resource.resource_type)
            .with_resource_name(resource.resource_name.clone());
        let every = resource.resource_name.is_empty();
        let found = match resource.resource_type {
            ON_TOPIC => call.hub.log.topic(&resource.resource_name).map(|t| (shown(&t.settings()), t.labels(), false)),
            // Without a name: what is set for all brokers.
            ON_BROKER if every || resource.resource_name.parse() == Ok(call.hub.config.node) => {
                let all = of_broker(call).into_iter().filter(|(name, ..)| !every || *name == LEAST_REPLICAS);
                Some((all.collect(), ConfigLabels::new(), true))
            }
            _ => None,
        };
        match found {
            Some((all, labels, broker)) => {
                let configs = all.into_iter().filter(|(name, ..)| wanted(name)).map(|(name, value, kind)| {
                    let source = match (broker, labels.contains_key(name)) {
                        (false, true) => ConfigSource::Topic,
                        _ if name == LEAST_REPLICAS => ConfigSource::Cluster,
                        (true, _) => ConfigSource::Broker,
                        (false, false) => ConfigSource::Default,
                    };
                    let value = match (kind, labels.get(name)) {
                        // A list is shown in the order it was given in.
                        (ConfigKind::List, Some(given)) => listed("", APPEND, given),
                        (_, Some(given)) if is_hint(name) => given.trim().to_owned(),
                        _ => value,
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

/// What an incremental change does, in the protocol's numbers.
const SET: i8 = 0;
const UNSET: i8 = 1;
const APPEND: i8 = 2;
const SUBTRACT: i8 = 3;

/// One change: a name, what is done, and the value it is done with.
type ConfigChange = (StrBytes, i8, Option<StrBytes>);

/// The list after some values were appended to it or taken from it.
fn listed(old: &str, operation: i8, values: &str) -> String {
    let parts = |list: &str| -> Vec<String> {
        list.split(',').map(str::trim).filter(|part| !part.is_empty()).map(str::to_owned).collect()
    };
    let (mut list, values) = (parts(old), parts(values));
    for value in values {
        let there = list.contains(&value);
        match operation {
            APPEND if !there => list.push(value),
            SUBTRACT => list.retain(|part| *part != value),
            _ => {}
        }
    }
    list.join(",")
}

/// Applies one change to the settings in words.
fn changed(wanted: &mut ConfigLabels, defaults: &TopicSettings, change: &ConfigChange) -> Result<(), (i16, String)> {
    let (name, operation, value) = change;
    let value = match (*operation, value) {
        (UNSET, _) => {
            wanted.remove(&**name);
            return Ok(());
        }
        (SET | APPEND | SUBTRACT, None) => return Err((code::INVALID_REQUEST, format!("{name}: there is no value"))),
        (SET, Some(value)) => value.to_string(),
        (APPEND | SUBTRACT, Some(value)) => {
            let known = shown(defaults).into_iter().find(|(known, ..)| *known == &**name);
            let words = if *operation == APPEND { "APPEND" } else { "SUBTRACT" };
            match known {
                None => return Err((code::INVALID_CONFIG, format!("Unknown topic config name: {name}"))),
                Some((_, default, ConfigKind::List)) => {
                    listed(wanted.get(&**name).map_or(&*default, String::as_str), *operation, value)
                }
                Some(_) => {
                    let said = format!("{words} does not apply to {name}: it is not a list");
                    return Err((code::INVALID_CONFIG, said));
                }
            }
        }
        _ => return Err((code::INVALID_REQUEST, format!("{name}: there is no operation {operation}"))),
    };
    wanted.insert(name.to_string(), value);
    Ok(())
}

fn change(
    call: &RequestContext<'_>,
    kind: i8,
    name: &str,
    changes: &[ConfigChange],
    anew: bool,
    validate_only: bool,
) -> Result<(), (i16, String)> {
    if kind != ON_TOPIC {
        return Err((code::INVALID_REQUEST, "only the settings of topics can be changed".to_owned()));
    }
    let Some(topic) = call.hub.log.topic(name).filter(|_| !name.starts_with("__")) else {
        return Err((code::UNKNOWN_TOPIC_OR_PARTITION, "there is no such topic".to_owned()));
    };
    let mut wanted = if anew { ConfigLabels::new() } else { topic.labels() };
    for change in changes {
        changed(&mut wanted, call.hub.log.defaults(), change)?;
    }
    let mut settings = call.hub.log.defaults().clone();
    let mut labels = ConfigLabels::new();
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
pub(super) fn alter(call: &RequestContext<'_>, request: AlterConfigsRequest) -> Pending {
    let responses = request.resources.into_iter().map(|resource| {
        let operation = |value: &Option<StrBytes>| if value.is_some() { SET } else { UNSET };
        let changes: Vec<ConfigChange> =
            resource.configs.into_iter().map(|c| (c.name, operation(&c.value), c.value)).collect();
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

/// Sets or unsets some settings of topics, or adds to or takes from their lists.
pub(super) fn alter_some(call: &RequestContext<'_>, request: IncrementalAlterConfigsRequest) -> Pending {
    let responses = request.resources.into_iter().map(|resource| {
        let changes: Vec<ConfigChange> =
            resource.configs.into_iter().map(|c| (c.name, c.config_operation, c.value)).collect();
        let result =
            change(call, resource.resource_type, &resource.resource_name, &changes, false, request.validate_only);
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
