//! Which requests are served, in which versions.

use bytes::BytesMut;
use kafka_protocol::messages::api_versions_response::{ApiVersion, FinalizedFeatureKey, SupportedFeatureKey};
use kafka_protocol::messages::{ApiKey, ApiVersionsResponse};

use super::code;
use super::reply::{Reply, respond_as, text};

/// A request that is served: its key, the versions announced, and the first one really understood.
pub(super) struct SupportedRequest {
    pub(super) key: ApiKey,
    pub(super) announced: i16,
    pub(super) from: i16,
    pub(super) to: i16,
}

const fn served(key: ApiKey, from: i16, to: i16) -> SupportedRequest {
    SupportedRequest { key, announced: from, from, to }
}

/// All that is served. Produce is announced from version 0, since librdkafka takes a later start
/// for a broker that knows no compression (KAFKA-18659); nobody sends versions 0 to 2 any more.
/// Fetch and Produce stop before the version that names topics by id, AddPartitionsToTxn before
/// those that brokers send each other.
pub(super) const SERVED: &[SupportedRequest] = &[
    SupportedRequest { key: ApiKey::Produce, announced: 0, from: 3, to: 12 },
    served(ApiKey::Fetch, 4, 12),
    served(ApiKey::ListOffsets, 1, 10),
    served(ApiKey::Metadata, 0, 12),
    served(ApiKey::OffsetCommit, 2, 9),
    served(ApiKey::OffsetFetch, 1, 9),
    served(ApiKey::FindCoordinator, 0, 4),
    served(ApiKey::JoinGroup, 0, 9),
    served(ApiKey::Heartbeat, 0, 4),
    served(ApiKey::LeaveGroup, 0, 5),
    served(ApiKey::SyncGroup, 0, 5),
    served(ApiKey::DescribeGroups, 0, 5),
    served(ApiKey::ListGroups, 0, 4),
    served(ApiKey::SaslHandshake, 0, 1),
    served(ApiKey::ApiVersions, 0, 3),
    served(ApiKey::CreateTopics, 2, 7),
    served(ApiKey::DeleteTopics, 1, 6),
    served(ApiKey::DeleteRecords, 0, 2),
    served(ApiKey::InitProducerId, 0, 5),
    served(ApiKey::AddPartitionsToTxn, 0, 3),
    served(ApiKey::AddOffsetsToTxn, 0, 4),
    served(ApiKey::EndTxn, 0, 5),
    served(ApiKey::TxnOffsetCommit, 0, 5),
    served(ApiKey::OffsetForLeaderEpoch, 2, 4),
    served(ApiKey::DescribeConfigs, 1, 4),
    served(ApiKey::AlterConfigs, 0, 2),
    served(ApiKey::SaslAuthenticate, 0, 2),
    served(ApiKey::CreatePartitions, 0, 3),
    served(ApiKey::DeleteGroups, 0, 2),
    served(ApiKey::IncrementalAlterConfigs, 0, 1),
    served(ApiKey::OffsetDelete, 0, 0),
    served(ApiKey::DescribeCluster, 0, 1),
    served(ApiKey::AlterReplicaLogDirs, 1, 2),
    served(ApiKey::DescribeLogDirs, 1, 4),
    served(ApiKey::ElectLeaders, 0, 2),
    served(ApiKey::AlterPartitionReassignments, 0, 1),
    served(ApiKey::ListPartitionReassignments, 0, 0),
    served(ApiKey::DescribeQuorum, 0, 2),
    // librdkafka takes no broker for one of the new protocol that has not version 1.
    served(ApiKey::ConsumerGroupHeartbeat, 0, 1),
    served(ApiKey::ConsumerGroupDescribe, 0, 1),
    served(ApiKey::DescribeTopicPartitions, 0, 0),
];

/// The first version of the answer that has features.
const FEATURES_FROM: i16 = 3;
/// The feature by which a client knows that it need not add partitions to its transaction, and gets
/// a new epoch with each end (KIP-890); and its level.
const TRANSACTIONS: (&str, i16) = ("transaction.version", 2);

fn with_features(body: ApiVersionsResponse) -> ApiVersionsResponse {
    let (name, level) = TRANSACTIONS;
    let supported = SupportedFeatureKey::default().with_name(text(name)).with_max_version(level);
    let finalized = FinalizedFeatureKey::default()
        .with_name(text(name))
        .with_min_version_level(level)
        .with_max_version_level(level);
    body.with_supported_features(vec![supported])
        .with_finalized_features_epoch(0)
        .with_finalized_features(vec![finalized])
}

/// The entry of a key.
pub(super) fn find(key: i16) -> Option<&'static SupportedRequest> {
    SERVED.iter().find(|served| served.key as i16 == key)
}

/// The answer to ApiVersions; in version 0 with the protocol's error when the version asked for is
/// not known.
pub(super) fn versions(correlation: i32, version: i16) -> Reply {
    let known = find(ApiKey::ApiVersions as i16).is_some_and(|s| (s.from..=s.to).contains(&version));
    let (version, error) = if known { (version, code::NONE) } else { (0, code::UNSUPPORTED_VERSION) };
    let entry = |s: &SupportedRequest| {
        ApiVersion::default().with_api_key(s.key as i16).with_min_version(s.announced).with_max_version(s.to)
    };
    let mut body =
        ApiVersionsResponse::default().with_error_code(error).with_api_keys(SERVED.iter().map(entry).collect());
    if version >= FEATURES_FROM {
        body = with_features(body);
    }
    // Its header never has tagged fields: who asks does not know yet what the broker understands.
    respond_as(correlation, version, 0, &body, BytesMut::new())
}
