//! A member of a share group: says to the coordinator that it is there, and is told which
//! partitions it reads and who leads them.
//!
//! It is a task of its own with a connection of its own: a fetch that waits at the broker holds up
//! everything behind it on its connection.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use kafka_protocol::messages::metadata_request::MetadataRequestTopic;
use kafka_protocol::messages::{
    FindCoordinatorRequest, GroupId, MetadataRequest, ShareGroupHeartbeatRequest, ShareGroupHeartbeatResponse,
    TopicName,
};
use kafka_protocol::protocol::StrBytes;
use tokio::sync::{Notify, watch};
use uuid::Uuid;

use super::connection::{BrokerAccess, BrokerConnection, words_of};
use crate::driver::{DriverError, Incident, Incidents};

/// From one heartbeat to the next while nothing is assigned yet.
const JOINING: Duration = Duration::from_millis(50);
/// Pause after something that failed and may pass.
const RETRY: Duration = Duration::from_millis(100);
/// Versions of the requests; every broker with share groups has them.
const HEARTBEAT: i16 = 1;
const FIND_COORDINATOR: i16 = 4;
const METADATA: i16 = 12;
/// The epoch of one that joins, and of one that leaves.
const JOINS: i32 = 0;
const LEAVES: i32 = -1;
/// Error codes: the coordinator is not there yet, or no longer; the member is not known.
const PASSING: [i16; 3] = [14, 15, 16];
const UNKNOWN: [i16; 2] = [25, 110];

/// Who a member is, and where its group is.
#[derive(Debug)]
pub(in crate::driver::kafka) struct ShareIdentity {
    pub(super) access: BrokerAccess,
    /// Brokers to begin with, `host:port`.
    pub(super) servers: Vec<String>,
    pub(super) group: String,
    pub(super) member: String,
    pub(super) topic: String,
    pub(super) topic_id: Uuid,
}

/// Partitions of a member, and the address of the leader of each.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct ShareLayout {
    pub(super) partitions: BTreeMap<i32, String>,
    /// Why there will be no more of it.
    pub(super) failed: Option<String>,
}

/// A member while it is one.
#[derive(Debug)]
pub(super) struct ShareMember {
    pub(super) identity: Arc<ShareIdentity>,
    pub(super) layout: watch::Receiver<ShareLayout>,
    refresh: Arc<Notify>,
    task: tokio::task::AbortHandle,
}

impl ShareIdentity {
    /// A connection to any broker that answers.
    pub(in crate::driver::kafka) async fn any(
        access: &BrokerAccess,
        servers: &[String],
    ) -> Result<BrokerConnection, DriverError> {
        let mut last = access.lost("there is no address of a broker");
        for server in servers {
            match BrokerConnection::open(server, access).await {
                Ok(connection) => return Ok(connection),
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    /// A connection to the coordinator of a group. One that is not there yet is an error that may
    /// pass.
    pub(in crate::driver::kafka) async fn coordinator(
        access: &BrokerAccess,
        servers: &[String],
        group: &str,
    ) -> Result<BrokerConnection, DriverError> {
        let mut first = Self::any(access, servers).await?;
        let request =
            FindCoordinatorRequest::default().with_coordinator_keys(vec![StrBytes::from_string(group.to_owned())]);
        let answer = first.call(&request, FIND_COORDINATOR).await?;
        let Some(found) = answer.coordinators.first() else {
            return Err(access.lost("the broker does not name the coordinator of the group"));
        };
        if found.error_code != 0 {
            let words = words_of(found.error_code, found.error_message.as_ref());
            return Err(if PASSING.contains(&found.error_code) {
                access.lost(words)
            } else {
                access.refused("find the coordinator of the group", words, "check the user's right to the group")
            });
        }
        BrokerConnection::open(&format!("{}:{}", found.host, found.port), access).await
    }

    /// The identifier of a topic, and the address of the leader of each of its partitions.
    pub(in crate::driver::kafka) async fn topic(
        connection: &mut BrokerConnection,
        access: &BrokerAccess,
        name: &str,
    ) -> Result<(Uuid, BTreeMap<i32, String>), DriverError> {
        let topic = MetadataRequestTopic::default().with_name(Some(TopicName(StrBytes::from_string(name.to_owned()))));
        let request = MetadataRequest::default().with_topics(Some(vec![topic])).with_allow_auto_topic_creation(false);
        let answer = connection.call(&request, METADATA).await?;
        let Some(found) = answer.topics.first() else {
            return Err(access.lost(format!("the broker does not answer for the topic {name}")));
        };
        if found.error_code != 0 {
            return Err(access.lost(format!("topic {name}: {}", words_of(found.error_code, None))));
        }
        let address = |node: i32| {
            let broker = answer.brokers.iter().find(|b| b.node_id.0 == node)?;
            Some(format!("{}:{}", broker.host, broker.port))
        };
        let leaders =
            found.partitions.iter().filter_map(|p| Some((p.partition_index, address(p.leader_id.0)?))).collect();
        Ok((found.topic_id, leaders))
    }

    fn heartbeat(&self, epoch: i32, announce: bool) -> ShareGroupHeartbeatRequest {
        let topics = announce.then(|| vec![TopicName(StrBytes::from_string(self.topic.clone()))]);
        ShareGroupHeartbeatRequest::default()
            .with_group_id(GroupId(StrBytes::from_string(self.group.clone())))
            .with_member_id(StrBytes::from_string(self.member.clone()))
            .with_member_epoch(epoch)
            .with_subscribed_topic_names(topics)
    }

    /// Says to the coordinator that the member is gone.
    pub(super) async fn leave(&self) -> Result<(), DriverError> {
        let mut coordinator = Self::coordinator(&self.access, &self.servers, &self.group).await?;
        coordinator.call(&self.heartbeat(LEAVES, false), HEARTBEAT).await.map(drop)
    }
}

impl ShareMember {
    /// Joins, on the runtime of the calling thread.
    pub(super) fn join(identity: ShareIdentity, incidents: &Incidents) -> Self {
        let identity = Arc::new(identity);
        let (sender, layout) = watch::channel(ShareLayout::default());
        let refresh = Arc::new(Notify::new());
        let heartbeats = Heartbeats {
            identity: identity.clone(),
            coordinator: None,
            epoch: JOINS,
            assigned: Vec::new(),
            stale: false,
            layout: sender,
            refresh: refresh.clone(),
            incidents: incidents.clone(),
        };
        let task = tokio::spawn(heartbeats.run()).abort_handle();
        Self { identity, layout, refresh, task }
    }

    /// One without heartbeats, that is told its partitions by the other end of `layout`.
    #[cfg(test)]
    pub(super) fn told(identity: ShareIdentity, layout: watch::Receiver<ShareLayout>) -> Self {
        let task = tokio::spawn(std::future::pending::<()>()).abort_handle();
        Self { identity: Arc::new(identity), layout, refresh: Arc::default(), task }
    }

    /// Waits until something is assigned.
    pub(super) async fn assigned(&mut self) -> Result<(), DriverError> {
        let identity = self.identity.clone();
        let failed = |words: String| {
            let action = format!("join the share group {}", identity.group);
            identity.access.refused(&action, words, "check the user's right to the group, and the broker's log")
        };
        let wait = async {
            let there = self.layout.wait_for(|l| !l.partitions.is_empty() || l.failed.is_some()).await;
            there.map_or_else(|_| Some("its task ended".to_owned()), |l| l.failed.clone())
        };
        match tokio::time::timeout(identity.access.timeout, wait).await {
            Ok(None) => Ok(()),
            Ok(Some(words)) => Err(failed(words)),
            Err(_) => {
                let words = format!("no partition was assigned within {} s", identity.access.timeout.as_secs_f64());
                Err(failed(words))
            }
        }
    }

    /// Has the leaders looked up anew.
    pub(super) fn look_again(&self) {
        self.refresh.notify_one();
    }
}

impl Drop for ShareMember {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// The task of a member.
struct Heartbeats {
    identity: Arc<ShareIdentity>,
    coordinator: Option<BrokerConnection>,
    epoch: i32,
    assigned: Vec<i32>,
    /// Whether the leaders are to be looked up.
    stale: bool,
    layout: watch::Sender<ShareLayout>,
    refresh: Arc<Notify>,
    incidents: Incidents,
}

impl Heartbeats {
    async fn run(mut self) {
        let mut failing: Option<Instant> = None;
        loop {
            let pause = match self.beat().await {
                Ok(interval) => {
                    failing = None;
                    interval
                }
                Err(error) => {
                    self.coordinator = None;
                    let since = *failing.get_or_insert_with(Instant::now);
                    let fatal = matches!(error, DriverError::Admin { .. });
                    if fatal || since.elapsed() > self.identity.access.timeout {
                        self.layout.send_modify(|l| l.failed = Some(error.to_string()));
                        return;
                    }
                    RETRY
                }
            };
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = self.refresh.notified() => {
                    self.stale = true;
                    // A leader that was just lost has no successor yet.
                    tokio::time::sleep(RETRY).await;
                }
            }
        }
    }

    /// One heartbeat; how long until the next.
    async fn beat(&mut self) -> Result<Duration, DriverError> {
        let identity = self.identity.clone();
        if self.coordinator.is_none() {
            let found = ShareIdentity::coordinator(&identity.access, &identity.servers, &identity.group).await?;
            self.coordinator = Some(found);
        }
        let Some(mut coordinator) = self.coordinator.take() else { return Ok(RETRY) };
        let answer = coordinator.call(&identity.heartbeat(self.epoch, self.epoch == JOINS), HEARTBEAT).await?;
        let code = answer.error_code;
        let words = || words_of(code, answer.error_message.as_ref());
        if UNKNOWN.contains(&code) {
            self.incidents.note(Incident::Client, format!("a member of a share group joins again: {}", words()));
            self.epoch = JOINS;
            self.coordinator = Some(coordinator);
            return Ok(JOINING);
        }
        if PASSING.contains(&code) {
            return Err(identity.access.lost(words()));
        }
        if code != 0 {
            return Err(identity.access.refused("be a member of the share group", words(), "look into its log"));
        }
        self.epoch = answer.member_epoch;
        self.take(&answer);
        if self.stale {
            let (_, leaders) = ShareIdentity::topic(&mut coordinator, &identity.access, &identity.topic).await?;
            let partitions: BTreeMap<i32, String> =
                self.assigned.iter().filter_map(|p| Some((*p, leaders.get(p)?.clone()))).collect();
            self.stale = partitions.len() < self.assigned.len();
            self.layout.send_if_modified(|l| {
                let changed = l.partitions != partitions;
                l.partitions = partitions;
                changed
            });
        }
        self.coordinator = Some(coordinator);
        let interval = Duration::from_millis(answer.heartbeat_interval_ms.max(1) as u64);
        Ok(if self.assigned.is_empty() || self.stale { JOINING } else { interval })
    }

    fn take(&mut self, answer: &ShareGroupHeartbeatResponse) {
        let Some(assignment) = &answer.assignment else { return };
        let topics = assignment.topic_partitions.iter().filter(|t| t.topic_id == self.identity.topic_id);
        let assigned: Vec<i32> = topics.flat_map(|t| t.partitions.iter().copied()).collect();
        if assigned != self.assigned {
            self.assigned = assigned;
            self.stale = true;
        }
    }
}
