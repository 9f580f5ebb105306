//! Fetch: what is wanted, from the words of the protocol.

use std::time::Duration;

use kafka_protocol::messages::FetchRequest;
use tokio::time::Instant;

use super::super::code;
use super::context::RequestContext;
use super::fetch_wait::{FetchWait, FetchedRange, PartitionFetch, end, head};
use super::pending::Pending;

/// Longest wait for records, whatever the client allows.
const MAX_WAIT: Duration = Duration::from_secs(300);

/// Looks for what the request wants.
pub(super) fn fetch(call: &RequestContext<'_>, request: FetchRequest) -> Pending {
    if request.session_id != 0 {
        // Sessions are never given out.
        let reply = head(call.correlation, call.version, code::FETCH_SESSION_ID_NOT_FOUND, 0);
        return Pending::Ready(Some(end(reply, call.version, Vec::new())));
    }
    let committed = request.isolation_level == 1;
    let size = |bytes: i32| usize::try_from(bytes).unwrap_or(0);
    let topics = request.topics.into_iter().map(|wanted| {
        let topic = call.hub.log.topic(&wanted.topic);
        let parts = wanted.partitions.into_iter().map(|part| PartitionFetch {
            index: part.partition,
            offset: part.fetch_offset,
            max: size(part.partition_max_bytes),
            epoch: part.current_leader_epoch,
            partition: topic.as_ref().and_then(|topic| topic.partition(part.partition)),
            committed,
            found: FetchedRange::default(),
        });
        let parts = parts.collect();
        (wanted.topic, parts)
    });
    let wait = Duration::from_millis(u64::try_from(request.max_wait_ms).unwrap_or(0)).min(MAX_WAIT);
    Pending::Fetch(FetchWait {
        correlation: call.correlation,
        version: call.version,
        deadline: Instant::now() + wait,
        min: size(request.min_bytes),
        max: size(request.max_bytes).min(call.hub.config.max_fetch),
        topics: topics.collect(),
    })
}
