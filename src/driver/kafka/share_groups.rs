//! Share groups of a trial: each group of consumers is one, with a topic of dead letters where
//! messages are rejected.

use std::collections::{BTreeMap, BTreeSet};

use super::KafkaDriver;
use super::consumer::KafkaConsumer;
use super::options::without_credentials;
use super::partitions::Partitions;
use super::retry;
use super::share::{BrokerAccess, ShareAdmin, ShareConsumer, ShareGroupSpec, ShareParts};
use crate::driver::{ClientSlot, DriverError, Start};
use crate::plan::address::KAFKA;
use crate::plan::{Address, Workload};

/// What share groups need, as set up.
pub(super) struct ShareSetUp {
    admin: ShareAdmin,
    /// Settings of the first group, read back.
    pub(super) settings: BTreeMap<String, String>,
    /// Groups whose start is set.
    placed: tokio::sync::Mutex<BTreeSet<String>>,
}

impl ShareSetUp {
    /// Takes back the settings of the groups.
    pub(super) async fn forget(&self) -> Result<(), DriverError> {
        self.admin.forget().await
    }

    /// Whether rejected messages end in a topic.
    pub(super) fn writes_dead_letters(&self) -> bool {
        self.admin.dead_topic("").is_some()
    }
}

impl KafkaDriver {
    fn share_name(&self, workload: usize, group: u32) -> String {
        self.group(ClientSlot { workload, group, index: 0 })
    }

    /// Sets up the groups of a workload.
    pub(super) async fn share_groups(&mut self, workload: usize, w: &Workload) -> Result<(), DriverError> {
        let mut share = match self.share.take() {
            Some(share) => share,
            None => ShareSetUp {
                admin: self.share_admin().await?,
                settings: BTreeMap::new(),
                placed: tokio::sync::Mutex::default(),
            },
        };
        for group in 0..w.topology.groups {
            let name = self.share_name(workload, group);
            let dead = share.admin.dead_topic(&name).filter(|_| retry::wanted(w));
            if let Some(dead) = &dead {
                let mut settings = self.options.topic_settings(w);
                settings.insert("errors.deadletterqueue.group.enable".into(), "true".into());
                self.create(dead, 1, &settings).await?;
                self.admin.topic(dead).await?;
            }
            let isolation = self.options.isolation.setting();
            let spec = ShareGroupSpec { name: &name, workload: w, isolation, dead: dead.as_deref() };
            let found = share.admin.configure(&spec, &self.options.share()).await?;
            if share.settings.is_empty() {
                share.settings = found;
            }
        }
        self.share = Some(share);
        Ok(())
    }

    /// What a connection in Kafka's own protocol needs, and the addresses of brokers.
    pub(super) fn broker_access(&self) -> Result<(BrokerAccess, Vec<String>), DriverError> {
        let url = without_credentials(&self.target.url);
        let common = self.options.common(&self.target)?;
        let address = Address::read(&KAFKA, &self.target.url).map_err(|e| DriverError::Connect {
            url: url.clone(),
            words: e.words,
            remedy: e.remedy,
        })?;
        let servers = address.brokers().split(',').map(str::to_owned).collect();
        let login = common.get("sasl.username").cloned().zip(common.get("sasl.password").cloned());
        Ok((BrokerAccess { url, timeout: self.target.timeout, login }, servers))
    }

    async fn share_admin(&self) -> Result<ShareAdmin, DriverError> {
        let (access, servers) = self.broker_access()?;
        ShareAdmin::connect(access, servers).await
    }

    /// Opens a member of a share group.
    pub(super) async fn member(
        &self,
        share: &ShareSetUp,
        slot: ClientSlot,
        start: Start,
    ) -> Result<KafkaConsumer, DriverError> {
        let w = &self.workloads[slot.workload];
        let (name, topic) = (self.group(slot), self.source(slot.workload));
        {
            let mut placed = share.placed.lock().await;
            if !placed.contains(&name) {
                let offsets = self.admin.resolve(&topic, self.topics[slot.workload].partitions, start)?;
                share.admin.position(&name, &topic, &offsets, self.target.joins()).await?;
                placed.insert(name.clone());
                self.note_group(slot);
            }
        }
        let mut dead = None;
        if let Some(topic) = share.admin.dead_topic(&name).filter(|_| retry::wanted(w) && slot.index == 0) {
            let settings = [("enable.auto.commit", "false".into())];
            let reader = self.alone(slot.workload, format!("{name}-dead-reader"), &settings)?;
            reader.assign(&Partitions::of(&topic, [(0, 0)]))?;
            let signal = self.signal()?;
            reader.attach(&signal);
            dead = Some((reader, signal));
        }
        let limit = share.settings.get("share.delivery.count.limit").and_then(|v| v.parse().ok());
        let parts = ShareParts {
            options: self.options.share(),
            limit: limit.unwrap_or(w.delivery.max_deliver),
            dead,
            counts_dead: retry::wanted(w) && !share.writes_dead_letters(),
            incidents: self.incidents.clone(),
        };
        let identity = share.admin.identity(&name, &topic).await?;
        Ok(KafkaConsumer::Shared(Box::new(ShareConsumer::join(identity, parts).await?)))
    }
}
