//! How far a group has read, told to its coordinator.
//!
//! A group of one member needs no group protocol: offsets are committed without a member, as tools
//! do. One commit is under way at a time, in a task of its own with a connection of its own.

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Instant;

use kafka_protocol::messages::offset_commit_request::{OffsetCommitRequestPartition, OffsetCommitRequestTopic};
use kafka_protocol::messages::offset_fetch_request::{OffsetFetchRequestGroup, OffsetFetchRequestTopics};
use kafka_protocol::messages::{GroupId, OffsetCommitRequest, OffsetFetchRequest};
use tokio::task::JoinHandle;

use super::super::choices::CommitMode;
use super::super::share::{BrokerConnection, ShareIdentity, words_of};
use super::{FetchRules, FetchSource, OffsetByPartition};
use crate::driver::{DriverError, Incident, Incidents};

/// Versions of the requests, topics by name; Kafka 4 and the reference broker speak them.
const COMMIT: i16 = 8;
const COMMITTED: i16 = 8;
/// Error codes: the coordinator is loading, not there, another one.
const PASSING: [i16; 3] = [14, 15, 16];

type CommitTask = JoinHandle<(Option<BrokerConnection>, Result<OffsetByPartition, DriverError>)>;

/// Commits the offsets of a group.
#[derive(Debug)]
pub(super) struct OffsetCommitter {
    mode: CommitMode,
    /// When the next automatic commit is due.
    due: Instant,
    connection: Option<BrokerConnection>,
    under_way: Option<CommitTask>,
    /// What the coordinator has.
    committed: OffsetByPartition,
}

impl OffsetCommitter {
    pub(super) fn new(rules: &FetchRules, committed: OffsetByPartition) -> Self {
        let due = Instant::now() + rules.interval;
        Self { mode: rules.commit, due, connection: None, under_way: None, committed }
    }

    /// Nothing is committed any more.
    pub(super) fn silence(&mut self) {
        self.mode = CommitMode::None;
    }

    pub(super) fn is_under_way(&self) -> bool {
        self.under_way.is_some()
    }

    /// Whether what was given is to be committed before more is taken.
    pub(super) fn waits(&self) -> bool {
        self.mode == CommitMode::Sync && self.is_under_way()
    }

    /// When it has something to do by itself.
    pub(super) fn due(&self) -> Option<Instant> {
        (self.mode == CommitMode::Auto && !self.is_under_way()).then_some(self.due)
    }

    /// What the coordinator is still to be told; `None` where that is nothing.
    pub(super) fn unsaid(&self, given: OffsetByPartition) -> Option<OffsetByPartition> {
        let new: OffsetByPartition = given.into_iter().filter(|(p, at)| self.committed.get(p) != Some(at)).collect();
        (self.mode != CommitMode::None && !new.is_empty()).then_some(new)
    }

    /// Begins a commit where one is due: `given` says how far messages were given, after a batch
    /// when `batch` says so.
    pub(super) fn look(
        &mut self,
        source: &FetchSource,
        rules: &FetchRules,
        batch: bool,
        given: impl FnOnce() -> OffsetByPartition,
    ) {
        let due = match self.mode {
            CommitMode::None => false,
            CommitMode::Auto => Instant::now() >= self.due,
            CommitMode::Sync | CommitMode::Async => batch,
        };
        if !due || self.is_under_way() {
            return;
        }
        self.due = Instant::now() + rules.interval;
        if let Some(offsets) = self.unsaid(given()) {
            let (source, connection) = (source.clone(), self.connection.take());
            self.under_way = Some(tokio::spawn(async move { commit(&source, connection, offsets).await }));
        }
    }

    /// Ready when the commit that is under way is over. One that failed is noted.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>, incidents: &Incidents) -> Poll<()> {
        let Some(task) = &mut self.under_way else { return Poll::Pending };
        let done = ready!(Pin::new(task).poll(cx));
        self.under_way = None;
        if let Ok((connection, result)) = done {
            self.connection = connection;
            match result {
                Ok(offsets) => self.committed.extend(offsets),
                Err(error) => incidents.note(Incident::Unacknowledged, format!("a commit failed: {error}")),
            }
        }
        Poll::Ready(())
    }
}

/// Commits offsets; the connection comes back where it can be used again.
pub(super) async fn commit(
    source: &FetchSource,
    connection: Option<BrokerConnection>,
    offsets: OffsetByPartition,
) -> (Option<BrokerConnection>, Result<OffsetByPartition, DriverError>) {
    let found = match connection {
        Some(connection) => Ok(connection),
        None => ShareIdentity::coordinator(&source.access, &source.servers, &source.group).await,
    };
    let mut connection = match found {
        Ok(connection) => connection,
        Err(error) => return (None, Err(error)),
    };
    let partition = |(partition, offset): (&i32, &i64)| {
        OffsetCommitRequestPartition::default().with_partition_index(*partition).with_committed_offset(*offset)
    };
    let topic = OffsetCommitRequestTopic::default()
        .with_name(source.topic.clone())
        .with_partitions(offsets.iter().map(partition).collect());
    let request = OffsetCommitRequest::default()
        .with_group_id(GroupId(source.group.clone().into()))
        .with_generation_id_or_member_epoch(-1)
        .with_topics(vec![topic]);
    let answer = match connection.call(&request, COMMIT).await {
        Ok(answer) => answer,
        Err(error) => return (None, Err(error)),
    };
    let codes = answer.topics.iter().flat_map(|t| &t.partitions).map(|p| p.error_code);
    match codes.into_iter().find(|code| *code != 0) {
        None => (Some(connection), Ok(offsets)),
        // Another coordinator is looked for.
        Some(code) => (None, Err(source.access.lost(words_of(code, None)))),
    }
}

/// What a group has committed, by partition.
pub(super) async fn committed(source: &FetchSource) -> Result<OffsetByPartition, DriverError> {
    let asking = async {
        loop {
            let mut connection = ShareIdentity::coordinator(&source.access, &source.servers, &source.group).await?;
            let group = OffsetFetchRequestGroup::default()
                .with_group_id(GroupId(source.group.clone().into()))
                .with_topics(None::<Vec<OffsetFetchRequestTopics>>);
            let request = OffsetFetchRequest::default().with_groups(vec![group]);
            let answer = connection.call(&request, COMMITTED).await?;
            let Some(group) = answer.groups.into_iter().next() else {
                return Err(source.access.lost("the coordinator does not say what the group has committed"));
            };
            if PASSING.contains(&group.error_code) {
                tokio::time::sleep(source.rules.retry).await;
                continue;
            }
            if group.error_code != 0 {
                let words = words_of(group.error_code, None);
                return Err(source.access.refused("read what a group has committed", words, "check the user's rights"));
            }
            let own = group.topics.into_iter().filter(|t| t.name == source.topic).flat_map(|t| t.partitions);
            return Ok(own.filter(|p| p.committed_offset >= 0).map(|p| (p.partition_index, p.committed_offset)));
        }
    };
    let found = tokio::time::timeout(source.access.timeout, asking).await;
    let late = || source.access.lost("the coordinator of the group did not come about in time");
    Ok(BTreeMap::from_iter(found.map_err(|_| late())??))
}
