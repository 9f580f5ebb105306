//! What a trial needs at the broker: its topics, and the transformers between them.

use std::collections::BTreeMap;
use std::time::Duration;

use super::KafkaDriver;
use super::choices::Isolation;
use super::connect;
use super::fetch::FetchRules;
use super::health::ConnectionHealth;
use super::native::{ClientKind, NativeClient};
use super::options::{PartitionAssignment, Transform, without_credentials};
use super::partitions::Partitions;
use super::retry;
use super::streams::StreamsHop;
use super::transform::{Successor, TransformParts, Transformer};
use crate::driver::DriverError;
use crate::plan::{ReconnectPace, ServiceTarget, Workload};

/// Pause after something that failed and may pass, of clients of msgbench's own; and where clients
/// are to try again soon.
const RETRY: Duration = Duration::from_millis(100);
const FAST_RETRY: Duration = Duration::from_millis(10);

impl KafkaDriver {
    /// Creates the topics and reads back what there is.
    pub(super) async fn set_up(&mut self) -> Result<(), DriverError> {
        for workload in 0..self.workloads.len() {
            let w = self.workloads[workload].clone();
            let name = self.topic(workload);
            if self.options.existing_topic.is_none() && w.target.is_none() {
                let settings = self.options.topic_settings(&w);
                self.create(&name, w.topology.channels as i32, &settings).await?;
            }
            let found = self.admin.topic(&name).await?;
            self.admissible(&name, &w, &found)?;
            let partitions = found.partitions;
            self.topics.push(found);
            if self.options.transform().is_some() && !self.target.joins() {
                self.transform(workload, partitions).await?;
            }
            if self.options.consumers == PartitionAssignment::Share {
                self.share_groups(workload, &w).await?;
            } else {
                self.retry_groups(workload, &w).await?;
            }
            if let Some(ServiceTarget::Topic { reply_topic, .. }) = &w.target {
                let partitions = self.admin.topic(reply_topic).await?.partitions;
                self.answered.insert(workload, partitions);
            } else if w.topology.reply && !w.connects() {
                let name = self.reply_topic(workload);
                self.create(&name, w.topology.producers as i32, &self.options.topic_settings(&w)).await?;
                self.admin.topic(&name).await?;
            }
        }
        self.fetches = self.fetches()?;
        self.facts = self.read_back()?;
        self.facts.settings.insert("protocol".into(), connect::features(self).await);
        Ok(())
    }

    /// How consumers of msgbench's own fetch: as librdkafka would with the same options.
    fn fetches(&self) -> Result<Option<FetchRules>, DriverError> {
        if self.options.consumers != PartitionAssignment::Wire {
            return Ok(None);
        }
        let client = self.client(ClientKind::Consumer, 0, &[("group.id", "mb-read-back".into())])?;
        let retry = match self.target.reconnect {
            ReconnectPace::Usual => RETRY,
            ReconnectPace::Fast => FAST_RETRY,
        };
        let rules = FetchRules::of(|key| client.setting(key), self.options.commit, retry);
        rules.map(Some).map_err(|words| DriverError::Admin {
            action: "use `system.options`".into(),
            url: without_credentials(&self.target.url),
            words,
            remedy: "correct `raw`, or use consumers = \"group\"".into(),
        })
    }

    /// The topics that the groups of a workload try again from, where messages are rejected.
    async fn retry_groups(&mut self, workload: usize, w: &Workload) -> Result<(), DriverError> {
        for group in 0..if retry::wanted(w) { w.topology.groups } else { 0 } {
            let (again, dead) = self.retry_topics(workload, group);
            let settings = self.options.topic_settings(w);
            for (name, partitions) in [(again, retry::levels(w) * w.topology.members), (dead, 1)] {
                self.create(&name, partitions as i32, &settings).await?;
                self.admin.topic(&name).await?;
            }
        }
        Ok(())
    }

    pub(super) fn transform_group(&self, workload: usize) -> String {
        format!("{}-transform", self.topic(workload))
    }

    /// Copies what is published to the topic that consumers read, in transactions where it must
    /// come out exactly once.
    async fn transform(&mut self, workload: usize, partitions: i32) -> Result<(), DriverError> {
        let (input, output) = (self.topic(workload), self.source(workload));
        let settings = self.options.topic_settings(&self.workloads[workload]);
        self.create(&output, partitions, &settings).await?;
        self.admin.topic(&output).await?;
        let group = self.transform_group(workload);
        if self.options.transform() == Some(Transform::Streams) {
            let settings =
                self.options.streams(&self.target, &self.workloads[workload], (&group, &input, &output), partitions)?;
            self.streams.push(StreamsHop::start(&self.target, &settings, &self.incidents).await?);
            return Ok(());
        }
        let transactional = self.options.exactly_once.is_some();
        let id = transactional.then(|| ("transactional.id", group.clone()));
        let alone = [("group.id", group.clone()), ("enable.auto.commit", "false".into())];
        let parts = TransformParts {
            reader: self.client(ClientKind::Consumer, workload, &alone)?,
            start: Partitions::of(&input, (0..partitions).map(|p| (p, 0))),
            writer: self.client(ClientKind::Producer, workload, id.as_slice())?,
            transactional,
            committed: self.options.isolation == Isolation::ReadCommitted,
            successor: self.successor(workload, id.as_slice())?,
            input,
            output,
            size: self.options.transaction_size as usize,
            interval: self.options.transaction_interval.duration(),
            timeout: self.target.timeout,
            incidents: self.incidents.clone(),
        };
        self.transformers.push(Transformer::start(parts, &without_credentials(&self.target.url))?);
        Ok(())
    }

    /// What makes another writer with the same settings.
    fn successor(&self, workload: usize, more: &[(&str, String)]) -> Result<Successor, DriverError> {
        let mut settings = self.options.settings(ClientKind::Producer, &self.target, &self.workloads[workload])?;
        settings.extend(more.iter().map(|(key, value)| ((*key).to_owned(), value.clone())));
        let (url, timeout) = (without_credentials(&self.target.url), self.target.timeout);
        let incidents = self.incidents.clone();
        Ok(Box::new(move || {
            NativeClient::new(ClientKind::Producer, &settings, ConnectionHealth::new(&url, timeout, &incidents))
        }))
    }

    pub(super) async fn create(
        &mut self,
        name: &str,
        partitions: i32,
        settings: &BTreeMap<String, String>,
    ) -> Result<(), DriverError> {
        if self.target.joins() {
            return Ok(());
        }
        self.admin.create(name, partitions, self.options.replicas, settings).await?;
        self.created.push(name.to_owned());
        Ok(())
    }
}
