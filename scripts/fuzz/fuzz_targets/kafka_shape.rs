//! The measuring of Kafka requests against any bytes, and the decoder behind it.
//!
//!     cargo +nightly fuzz run --fuzz-dir scripts/fuzz kafka_shape -- -max_total_time=60 -rss_limit_mb=512
//!
//! The measure is taken in by path, so that only it is built. Checked: no panic; what it lets
//! through is decoded without a panic and within the memory limit, whatever lengths it claims; both
//! agree on where the request ends.
#![no_main]

use kafka_protocol::messages::*;
use kafka_protocol::protocol::Decodable;
use libfuzzer_sys::fuzz_target;

#[path = "../../../src/broker/kafka/shape.rs"]
mod shape;

/// The newest version served of each key, as `api.rs` has it: the shapes describe no later one.
const NEWEST: [(i16, i16); 36] = [
    (0, 11), (1, 12), (2, 10), (3, 12), (8, 8), (9, 8), (10, 4), (11, 9), (12, 4), (13, 5), (14, 5), (15, 5), (16, 4), (17, 1),
    (18, 3), (19, 7), (20, 6), (21, 2), (22, 4), (23, 4), (32, 4), (33, 2), (35, 4), (36, 2), (37, 3), (42, 2), (43, 2),
    (44, 1), (46, 0), (47, 0), (60, 1), (75, 0), (34, 2), (45, 1), (55, 2), (68, 1),
];

macro_rules! decode {
    ($key:expr, $bytes:expr, $version:expr, $($name:ident => $request:ident),* $(,)?) => {
        match $key {
            $(ApiKey::$name => $request::decode($bytes, $version).is_ok(),)*
            _ => false,
        }
    };
}

fuzz_target!(|data: &[u8]| {
    let Some(([key, version], body)) = data.split_first_chunk::<2>() else { return };
    let (key, newest) = NEWEST[usize::from(*key) % NEWEST.len()];
    let version = i16::from(*version) % (newest + 1);
    let _ = shape::skip_tags(body);
    let Ok(used) = shape::check(key, version, body) else { return };
    assert!(used <= body.len());
    let Ok(key) = ApiKey::try_from(key) else { return };
    let mut bytes = bytes::Bytes::copy_from_slice(&body[..used]);
    let decoded = decode!(key, &mut bytes, version,
        Produce => ProduceRequest, Fetch => FetchRequest, ListOffsets => ListOffsetsRequest, Metadata => MetadataRequest,
        OffsetCommit => OffsetCommitRequest, OffsetFetch => OffsetFetchRequest, FindCoordinator => FindCoordinatorRequest,
        JoinGroup => JoinGroupRequest, Heartbeat => HeartbeatRequest, LeaveGroup => LeaveGroupRequest,
        SyncGroup => SyncGroupRequest, DescribeGroups => DescribeGroupsRequest, ListGroups => ListGroupsRequest,
        SaslHandshake => SaslHandshakeRequest, ApiVersions => ApiVersionsRequest, CreateTopics => CreateTopicsRequest,
        DeleteTopics => DeleteTopicsRequest, DeleteRecords => DeleteRecordsRequest, InitProducerId => InitProducerIdRequest,
        OffsetForLeaderEpoch => OffsetForLeaderEpochRequest, DescribeConfigs => DescribeConfigsRequest,
        AlterConfigs => AlterConfigsRequest, SaslAuthenticate => SaslAuthenticateRequest,
        CreatePartitions => CreatePartitionsRequest, DeleteGroups => DeleteGroupsRequest,
        IncrementalAlterConfigs => IncrementalAlterConfigsRequest, OffsetDelete => OffsetDeleteRequest,
        DescribeCluster => DescribeClusterRequest, DescribeLogDirs => DescribeLogDirsRequest,
        ElectLeaders => ElectLeadersRequest, ListPartitionReassignments => ListPartitionReassignmentsRequest,
        DescribeTopicPartitions => DescribeTopicPartitionsRequest, AlterReplicaLogDirs => AlterReplicaLogDirsRequest,
        AlterPartitionReassignments => AlterPartitionReassignmentsRequest, DescribeQuorum => DescribeQuorumRequest,
        ConsumerGroupHeartbeat => ConsumerGroupHeartbeatRequest,
    );
    // A version the crate does not know, or text that is no UTF-8, is refused by the decoder alone.
    if decoded {
        assert!(bytes.is_empty(), "{key:?} {version}: {} bytes left", bytes.len());
    }
});
