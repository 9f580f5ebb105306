//! What is done for a share group before it has members and after it has none: whether the cluster
//! has share groups, settings, where it starts.

use std::collections::BTreeMap;

use base64::Engine as _;
use kafka_protocol::messages::alter_share_group_offsets_request::{
    AlterShareGroupOffsetsRequestPartition, AlterShareGroupOffsetsRequestTopic,
};
use kafka_protocol::messages::describe_configs_request::DescribeConfigsResource;
use kafka_protocol::messages::incremental_alter_configs_request::{AlterConfigsResource, AlterableConfig};
use kafka_protocol::messages::{
    AlterShareGroupOffsetsRequest, ApiKey, DescribeConfigsRequest, GroupId, IncrementalAlterConfigsRequest,
    MetadataRequest, TopicName,
};
use kafka_protocol::protocol::StrBytes;
use rand::RngExt;
use std::time::{Duration, Instant};

use super::connection::{BrokerAccess, BrokerConnection, hello, words_of};
use super::member::ShareIdentity;
use super::options::ShareOptions;
use crate::driver::DriverError;
use crate::plan::Workload;

/// The broker's setting for the names of these topics.
const DEAD_PREFIX: &str = "errors.deadletterqueue.topic.name.prefix";
/// The protocol's number of a broker among the resources that have settings.
const BROKER: i8 = 4;
/// The protocol's number of a group among the resources that have settings.
const GROUP: i8 = 32;
/// The protocol's numbers of what is done with a setting.
const SET: i8 = 0;
const REMOVE: i8 = 1;
/// Settings that concern dead letters.
const DEAD_TOPIC: &str = "errors.deadletterqueue.topic.name";
const DEAD_COPY: &str = "errors.deadletterqueue.copy.record.enable";
/// The level of the feature `share.version` from which a broker writes dead letters.
const DEAD_LETTERS: i16 = 2;
/// Pause after an answer that may be another the next time.
const RETRY: Duration = Duration::from_millis(50);
/// Error codes: the coordinator is not there yet, or no longer.
const PASSING: [i16; 3] = [14, 15, 16];
/// What is answered of a group that has members.
const NON_EMPTY_GROUP: i16 = 68;
/// What to do about a cluster without share groups.
const REMEDY: &str = "share groups are there since Kafka 4.2 (feature share.version); use consumers = \"group\"";

/// Administration of the share groups of a trial.
#[derive(Debug)]
pub(in crate::driver::kafka) struct ShareAdmin {
    access: BrokerAccess,
    servers: Vec<String>,
    /// The level of the cluster's feature `share.version`.
    level: i16,
    /// What the names of dead-letter topics begin with.
    prefix: String,
    /// Groups whose settings were changed, with the names of the settings.
    changed: BTreeMap<String, Vec<String>>,
}

/// A group as it is set up.
pub(in crate::driver::kafka) struct ShareGroupSpec<'a> {
    pub(in crate::driver::kafka) name: &'a str,
    pub(in crate::driver::kafka) workload: &'a Workload,
    pub(in crate::driver::kafka) isolation: &'a str,
    /// The topic of its dead letters.
    pub(in crate::driver::kafka) dead: Option<&'a str>,
}

/// What the names of dead-letter topics must begin with: the broker archives a message that it may
/// not write there, and says nothing of it. The default where the broker does not tell.
async fn prefix(connection: &mut BrokerConnection) -> Result<String, DriverError> {
    let brokers = connection.call(&MetadataRequest::default().with_topics(Some(Vec::new())), 12).await?;
    let node = brokers.brokers.first().map_or(0, |b| b.node_id.0);
    let resource = DescribeConfigsResource::default()
        .with_resource_type(BROKER)
        .with_resource_name(text(&node.to_string()))
        .with_configuration_keys(Some(vec![StrBytes::from_static_str(DEAD_PREFIX)]));
    let request = DescribeConfigsRequest::default().with_resources(vec![resource]);
    let answer = connection.call(&request, 4).await?;
    let mut configs = answer.results.into_iter().flat_map(|r| r.configs);
    let found = configs.find(|c| c.name.as_str() == DEAD_PREFIX).and_then(|c| c.value);
    Ok(found.map_or_else(|| "dlq.".into(), |value| value.to_string()))
}

fn text(words: &str) -> StrBytes {
    StrBytes::from_string(words.to_owned())
}

impl ShareAdmin {
    /// Asks a broker whether there are share groups.
    pub(in crate::driver::kafka) async fn connect(
        access: BrokerAccess,
        servers: Vec<String>,
    ) -> Result<Self, DriverError> {
        let mut connection = ShareIdentity::any(&access, &servers).await?;
        let answer = connection.call(&hello(), 3).await?;
        let has = |key: ApiKey| {
            answer.api_keys.iter().any(|a| a.api_key == key as i16 && (a.min_version..=a.max_version).contains(&1))
        };
        let level = answer.finalized_features.iter().find(|f| f.name.as_str() == "share.version");
        let level = level.map_or(0, |f| f.max_version_level);
        if level < 1 || !has(ApiKey::ShareFetch) || !has(ApiKey::ShareGroupHeartbeat) || !has(ApiKey::ShareAcknowledge)
        {
            let words = format!("the cluster has no share groups: its feature share.version is {level}");
            return Err(access.refused("use share groups", words, REMEDY));
        }
        let prefix = prefix(&mut connection).await?;
        Ok(Self { access, servers, level, prefix, changed: BTreeMap::new() })
    }

    /// The topic of a group's dead letters; `None` where the broker writes none.
    pub(in crate::driver::kafka) fn dead_topic(&self, group: &str) -> Option<String> {
        (self.level >= DEAD_LETTERS).then(|| format!("{}{group}", self.prefix))
    }

    /// Sets what a group is told, and reads back what holds of it.
    pub(in crate::driver::kafka) async fn configure(
        &mut self,
        group: &ShareGroupSpec<'_>,
        options: &ShareOptions,
    ) -> Result<BTreeMap<String, String>, DriverError> {
        let mut settings = options.group_settings(group.workload, group.isolation);
        if let Some(topic) = group.dead {
            settings.push((DEAD_TOPIC.into(), topic.into()));
            settings.push((DEAD_COPY.into(), "true".into()));
        }
        self.changed.insert(group.name.into(), settings.iter().map(|(key, _)| key.clone()).collect());
        let mut connection = ShareIdentity::any(&self.access, &self.servers).await?;
        let all: Vec<(String, i8, Option<String>)> =
            settings.iter().map(|(key, value)| (key.clone(), SET, Some(value.clone()))).collect();
        self.alter(&mut connection, group.name, &all).await?;
        // A broker answers before it has heard from the controller of what it has passed on to it.
        let until = Instant::now() + self.access.timeout;
        loop {
            let found = self.describe(&mut connection, group.name).await?;
            let holds = settings.iter().all(|(key, value)| found.get(key).is_none_or(|there| there == value));
            if holds || Instant::now() >= until {
                return Ok(found);
            }
            tokio::time::sleep(RETRY).await;
        }
    }

    async fn alter(
        &self,
        connection: &mut BrokerConnection,
        group: &str,
        settings: &[(String, i8, Option<String>)],
    ) -> Result<(), DriverError> {
        let one = |(name, operation, value): &(String, i8, Option<String>)| {
            AlterableConfig::default()
                .with_name(text(name))
                .with_config_operation(*operation)
                .with_value(value.as_deref().map(text))
        };
        let resource = AlterConfigsResource::default()
            .with_resource_type(GROUP)
            .with_resource_name(text(group))
            .with_configs(settings.iter().map(one).collect());
        let request = IncrementalAlterConfigsRequest::default().with_resources(vec![resource]);
        let answer = connection.call(&request, 1).await?;
        match answer.responses.iter().find(|r| r.error_code != 0) {
            None => Ok(()),
            Some(refused) => {
                let action = format!("set up the share group {group}");
                let words = words_of(refused.error_code, refused.error_message.as_ref());
                let remedy = "change `share` or `delivery.max-deliver`, or the broker's bounds (group.share.min..., \
                              group.share.max...)";
                Err(self.access.refused(&action, words, remedy))
            }
        }
    }

    /// The settings of a group that concern it as a share group.
    async fn describe(
        &self,
        connection: &mut BrokerConnection,
        group: &str,
    ) -> Result<BTreeMap<String, String>, DriverError> {
        let resource = DescribeConfigsResource::default().with_resource_type(GROUP).with_resource_name(text(group));
        let request = DescribeConfigsRequest::default().with_resources(vec![resource]);
        let answer = connection.call(&request, 4).await?;
        let Some(found) = answer.results.into_iter().next() else { return Ok(BTreeMap::new()) };
        if found.error_code != 0 {
            let words = words_of(found.error_code, found.error_message.as_ref());
            let action = format!("read the settings of the share group {group}");
            return Err(self.access.refused(&action, words, "check the user's right to describe settings"));
        }
        let own = |key: &str| key.starts_with("share.") || key == DEAD_TOPIC;
        let all = found.configs.into_iter().filter(|c| own(&c.name));
        Ok(all.filter_map(|c| Some((c.name.to_string(), c.value?.to_string()))).collect())
    }

    /// Sets where a group starts to read a topic, in each partition. It has no members yet; or, if
    /// it is `shared`, those of other processes, one of which has set the same before.
    pub(in crate::driver::kafka) async fn position(
        &self,
        group: &str,
        topic: &str,
        offsets: &[(i32, i64)],
        shared: bool,
    ) -> Result<(), DriverError> {
        let one = |(partition, offset): &(i32, i64)| {
            AlterShareGroupOffsetsRequestPartition::default()
                .with_partition_index(*partition)
                .with_start_offset(*offset)
        };
        let topic = AlterShareGroupOffsetsRequestTopic::default()
            .with_topic_name(TopicName(text(topic)))
            .with_partitions(offsets.iter().map(one).collect());
        let request =
            AlterShareGroupOffsetsRequest::default().with_group_id(GroupId(text(group))).with_topics(vec![topic]);
        let deadline = Instant::now() + self.access.timeout;
        loop {
            let (code, words) = match self.alter_offsets(group, &request).await {
                Ok((0, _)) => return Ok(()),
                Ok((NON_EMPTY_GROUP, _)) if shared => return Ok(()),
                Ok(refused) => refused,
                // The coordinator is yet to be found.
                Err(DriverError::Lost { words, .. }) => (PASSING[0], words),
                Err(error) => return Err(error),
            };
            if !PASSING.contains(&code) || Instant::now() >= deadline {
                let action = format!("set where the share group {group} starts");
                return Err(self.access.refused(&action, words, "check the user's right to this group"));
            }
            tokio::time::sleep(RETRY).await;
        }
    }

    /// The first error code of the answer, in words.
    async fn alter_offsets(
        &self,
        group: &str,
        request: &AlterShareGroupOffsetsRequest,
    ) -> Result<(i16, String), DriverError> {
        let mut coordinator = ShareIdentity::coordinator(&self.access, &self.servers, group).await?;
        let answer = coordinator.call(request, 0).await?;
        let partitions = answer.responses.iter().flat_map(|t| &t.partitions);
        let whole = (answer.error_code, answer.error_message.as_ref());
        let mut all = std::iter::once(whole).chain(partitions.map(|p| (p.error_code, p.error_message.as_ref())));
        let first = all.find(|(code, _)| *code != 0);
        Ok(first.map_or((0, String::new()), |(code, message)| (code, words_of(code, message))))
    }

    /// A new member of a group that reads this topic.
    pub(in crate::driver::kafka) async fn identity(
        &self,
        group: &str,
        topic: &str,
    ) -> Result<ShareIdentity, DriverError> {
        let mut connection = ShareIdentity::any(&self.access, &self.servers).await?;
        let (topic_id, _) = ShareIdentity::topic(&mut connection, &self.access, topic).await?;
        let bytes: [u8; 16] = rand::rng().random();
        Ok(ShareIdentity {
            access: self.access.clone(),
            servers: self.servers.clone(),
            group: group.to_owned(),
            member: base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(bytes),
            topic: topic.to_owned(),
            topic_id,
        })
    }

    /// Takes back the settings of all groups; those that are gone have none.
    pub(in crate::driver::kafka) async fn forget(&self) -> Result<(), DriverError> {
        let mut connection = ShareIdentity::any(&self.access, &self.servers).await?;
        for (group, settings) in &self.changed {
            let all: Vec<(String, i8, Option<String>)> =
                settings.iter().map(|key| (key.clone(), REMOVE, None)).collect();
            self.alter(&mut connection, group, &all).await?;
        }
        Ok(())
    }
}
