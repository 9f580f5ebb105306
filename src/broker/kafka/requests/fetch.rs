//! Fetch: what is wanted, from the words of the protocol.

use std::sync::Arc;
use std::time::Duration;

use kafka_protocol::messages::{FetchRequest, TopicName};
use tokio::time::Instant;

use super::super::fetch_sessions::WantedPartition;
use super::context::RequestContext;
use super::fetch_wait::{FetchWait, FetchedRange, PartitionFetch, refused, size};
use super::pending::Pending;
use crate::broker::log::Topic;

/// Longest wait for records, whatever the client allows.
const MAX_WAIT: Duration = Duration::from_secs(300);

/// Looks for what the request, or its session, wants.
pub(super) fn fetch(call: &RequestContext<'_>, request: FetchRequest) -> Pending {
    let wanted = request.topics.into_iter().flat_map(|topic| {
        let name = topic.topic;
        topic.partitions.into_iter().map(move |part| WantedPartition {
            topic: name.clone(),
            index: part.partition,
            offset: part.fetch_offset,
            max: part.partition_max_bytes,
            leader_epoch: part.current_leader_epoch,
        })
    });
    let wanted = wanted.collect();
    let forgotten = request.forgotten_topics_data.into_iter().flat_map(|topic| {
        let name = topic.topic;
        topic.partitions.into_iter().map(move |index| (name.clone(), index))
    });
    let session = (request.session_id, request.session_epoch);
    let taken = call.hub.fetch_sessions.take(session, wanted, &forgotten.collect(), std::time::Instant::now());
    let (role, wanted) = match taken {
        Ok(taken) => taken,
        Err(error) => return Pending::Ready(Some(refused(call.correlation, call.version, error))),
    };
    let committed = request.isolation_level == 1;
    let mut last: Option<(TopicName, Option<Arc<Topic>>)> = None;
    let parts = wanted.into_iter().map(|wanted| {
        // Partitions of one topic mostly follow each other.
        if last.as_ref().is_none_or(|(name, _)| *name != wanted.topic) {
            last = Some((wanted.topic.clone(), call.hub.log.topic(&wanted.topic)));
        }
        let topic = last.as_ref().and_then(|(_, topic)| topic.as_ref());
        let partition = topic.and_then(|topic| topic.partition(wanted.index));
        PartitionFetch { wanted, partition, committed, found: FetchedRange::default() }
    });
    let wait = Duration::from_millis(u64::try_from(request.max_wait_ms).unwrap_or(0)).min(MAX_WAIT);
    Pending::Fetch(FetchWait {
        correlation: call.correlation,
        version: call.version,
        deadline: Instant::now() + wait,
        min: size(request.min_bytes),
        max: size(request.max_bytes).min(call.hub.config.max_fetch),
        parts: parts.collect(),
        role,
        sessions: Arc::clone(&call.hub.fetch_sessions),
    })
}
