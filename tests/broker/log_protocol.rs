//! The Kafka face, request by request: every version served, every bound, hostile bytes.

use std::io::{Read, Write};
use std::net::Shutdown as Half;
use std::sync::OnceLock;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use crate::log_support::*;
use bytes::BytesMut;
use kafka_protocol::messages::*;
use kafka_protocol::protocol::{Decodable, Encodable, HeaderVersion, Request};
use msgbench::broker::kafka::{KafkaConfig, shape};
use msgbench::broker::log::SyncPolicy;
use proptest::prelude::*;
use tempfile::TempDir;

fn broker(change: impl FnOnce(&mut KafkaConfig)) -> (TempDir, Running) {
    let dir = tempfile::tempdir().unwrap();
    let mut config = KafkaConfig::new(dir.path());
    change(&mut config);
    let running = start(config);
    (dir, running)
}

/// Calls every version that is announced and understood, and checks that the answer decodes.
fn every_version<R>(client: &mut Client, versions: &[(i16, i16, i16)], request: impl Fn(i16) -> R)
where
    R: Request + HeaderVersion + Clone,
    R::Response: Decodable + HeaderVersion,
{
    let (_, min, max) = versions.iter().find(|(key, ..)| *key == R::KEY).expect("it is announced");
    for version in (*min).max(R::VERSIONS.min)..=*max {
        client.call(&request(version), version);
    }
}

#[test]
fn every_announced_version_is_answered_in_its_form() {
    let (_dir, broker) = broker(|_| {});
    let mut client = Client::connect(broker.address);
    client.create("t", 2, &[]);
    let announced = client.call(&ApiVersionsRequest::default(), 0);
    let versions: Vec<(i16, i16, i16)> =
        announced.api_keys.iter().map(|api| (api.api_key, api.min_version, api.max_version)).collect();
    assert!(versions.contains(&(0, 0, 12)), "Produce from 0, or librdkafka stops compressing");
    let name = || topic_name("t");
    let group = || GroupId(text("g"));
    every_version(&mut client, &versions, |_| ApiVersionsRequest::default());
    every_version(&mut client, &versions, |_| produce("t", 0, batch_of(&[("k", "v")]), 1));
    every_version(&mut client, &versions, |_| produce("missing", 0, batch_of(&[("k", "v")]), -1));
    every_version(&mut client, &versions, |_| fetch("t", 0, 0, 0, 1 << 20));
    every_version(&mut client, &versions, |_| fetch("t", 7, 0, 0, 1 << 20));
    every_version(&mut client, &versions, |_| {
        let part = list_offsets_request::ListOffsetsPartition::default().with_timestamp(-1);
        let topic = list_offsets_request::ListOffsetsTopic::default().with_name(name()).with_partitions(vec![part]);
        ListOffsetsRequest::default().with_topics(vec![topic])
    });
    every_version(&mut client, &versions, |_| {
        let one = |name: &str| metadata_request::MetadataRequestTopic::default().with_name(Some(topic_name(name)));
        MetadataRequest::default().with_topics(Some(vec![one("t"), one("made-by-asking"), one("not a name")]))
    });
    every_version(&mut client, &versions, |version| {
        let one = CreateTopicsRequest::default();
        let topic = create_topics_request::CreatableTopic::default()
            .with_name(topic_name(&format!("v{version}")))
            .with_num_partitions(1)
            .with_replication_factor(1);
        one.with_topics(vec![topic.clone(), topic.with_name(topic_name("t")).with_replication_factor(3)])
    });
    every_version(&mut client, &versions, |version| {
        let topics = DeleteTopicsRequest::default();
        let named = topic_name(&format!("v{}", version + 1));
        if version < 6 {
            return topics.with_topic_names(vec![named, topic_name("missing")]);
        }
        let state = delete_topics_request::DeleteTopicState::default();
        topics.with_topics(vec![state.clone().with_name(Some(named)), state.with_name(None)])
    });
    every_version(&mut client, &versions, |version| {
        let topic = create_partitions_request::CreatePartitionsTopic::default()
            .with_name(name())
            .with_count(i32::from(version) + 3);
        CreatePartitionsRequest::default().with_topics(vec![topic])
    });
    every_version(&mut client, &versions, |_| {
        let resource = |kind, name: &str| {
            describe_configs_request::DescribeConfigsResource::default()
                .with_resource_type(kind)
                .with_resource_name(text(name))
                .with_configuration_keys(None)
        };
        let all = vec![resource(2, "t"), resource(4, "1"), resource(2, "missing"), resource(9, "")];
        DescribeConfigsRequest::default().with_resources(all)
    });
    every_version(&mut client, &versions, |_| {
        let part = delete_records_request::DeleteRecordsPartition::default().with_offset(1);
        let topic = delete_records_request::DeleteRecordsTopic::default().with_name(name()).with_partitions(vec![part]);
        DeleteRecordsRequest::default().with_topics(vec![topic])
    });
    every_version(&mut client, &versions, |_| {
        let part = offset_for_leader_epoch_request::OffsetForLeaderPartition::default();
        let topic = offset_for_leader_epoch_request::OffsetForLeaderTopic::default().with_topic(name());
        OffsetForLeaderEpochRequest::default().with_topics(vec![topic.with_partitions(vec![part])])
    });
    every_version(&mut client, &versions, |_| InitProducerIdRequest::default().with_transactional_id(None));
    every_version(&mut client, &versions, |_| DescribeClusterRequest::default());
    every_version(&mut client, &versions, |_| {
        DescribeTopicPartitionsRequest::default().with_response_partition_limit(1)
    });
    every_version(&mut client, &versions, |_| DescribeLogDirsRequest::default().with_topics(None));
    every_version(&mut client, &versions, |_| {
        let topic = alter_replica_log_dirs_request::AlterReplicaLogDirTopic::default()
            .with_name(name())
            .with_partitions(vec![0, 7]);
        let dir = alter_replica_log_dirs_request::AlterReplicaLogDir::default().with_topics(vec![topic]);
        AlterReplicaLogDirsRequest::default().with_dirs(vec![dir])
    });
    every_version(&mut client, &versions, |_| {
        let parts = [0, 7].map(|index| {
            alter_partition_reassignments_request::ReassignablePartition::default()
                .with_partition_index(index)
                .with_replicas(Some(vec![BrokerId(1), BrokerId(2)]))
        });
        let topic = alter_partition_reassignments_request::ReassignableTopic::default()
            .with_name(name())
            .with_partitions(parts.to_vec());
        AlterPartitionReassignmentsRequest::default().with_topics(vec![topic])
    });
    every_version(&mut client, &versions, |_| {
        let topic = describe_quorum_request::TopicData::default()
            .with_topic_name(topic_name("__cluster_metadata"))
            .with_partitions(vec![describe_quorum_request::PartitionData::default()]);
        DescribeQuorumRequest::default().with_topics(vec![topic])
    });
    every_version(&mut client, &versions, |_| {
        let topic = elect_leaders_request::TopicPartitions::default().with_topic(name()).with_partitions(vec![0, 99]);
        ElectLeadersRequest::default().with_topic_partitions(Some(vec![topic]))
    });
    every_version(&mut client, &versions, |_| ListPartitionReassignmentsRequest::default().with_topics(None));
    every_version(&mut client, &versions, |_| {
        let config = |name: &str| {
            incremental_alter_configs_request::AlterableConfig::default()
                .with_name(text(name))
                .with_value(Some(text("1000")))
        };
        let resource = incremental_alter_configs_request::AlterConfigsResource::default()
            .with_resource_type(2)
            .with_resource_name(text("t"));
        let all = vec![
            resource.clone().with_configs(vec![config("retention.bytes")]),
            resource.with_configs(vec![config("x")]),
        ];
        IncrementalAlterConfigsRequest::default().with_resources(all)
    });
    every_version(&mut client, &versions, |_| {
        let resource =
            alter_configs_request::AlterConfigsResource::default().with_resource_type(2).with_resource_name(text("t"));
        AlterConfigsRequest::default().with_resources(vec![resource])
    });
    every_version(&mut client, &versions, |version| {
        let keys = if version >= 4 { vec![text("g"), text("h")] } else { Vec::new() };
        let key = if version >= 4 { text("") } else { text("g") };
        FindCoordinatorRequest::default().with_key(key).with_coordinator_keys(keys)
    });
    every_version(&mut client, &versions, |version| {
        let protocol = join_group_request::JoinGroupRequestProtocol::default().with_name(text("range"));
        JoinGroupRequest::default()
            .with_group_id(GroupId(text(format!("g{version}"))))
            .with_session_timeout_ms(10_000)
            .with_rebalance_timeout_ms(if version >= 1 { 10_000 } else { -1 })
            .with_protocol_type(text("consumer"))
            .with_protocols(vec![protocol])
    });
    every_version(&mut client, &versions, |_| {
        SyncGroupRequest::default().with_group_id(group()).with_member_id(text("m"))
    });
    every_version(&mut client, &versions, |_| {
        HeartbeatRequest::default().with_group_id(group()).with_member_id(text("m"))
    });
    every_version(&mut client, &versions, |version| {
        let request = LeaveGroupRequest::default().with_group_id(group());
        let member = leave_group_request::MemberIdentity::default().with_member_id(text("m"));
        if version < 3 { request.with_member_id(text("m")) } else { request.with_members(vec![member]) }
    });
    every_version(&mut client, &versions, |_| {
        let part = offset_commit_request::OffsetCommitRequestPartition::default().with_committed_offset(3);
        let topic = offset_commit_request::OffsetCommitRequestTopic::default().with_name(name());
        OffsetCommitRequest::default()
            .with_group_id(group())
            .with_generation_id_or_member_epoch(-1)
            .with_topics(vec![topic.with_partitions(vec![part.clone(), part.with_partition_index(99)])])
    });
    every_version(&mut client, &versions, |version| {
        let request = OffsetFetchRequest::default();
        if version < 8 {
            let topic = offset_fetch_request::OffsetFetchRequestTopic::default().with_name(name());
            return request.with_group_id(group()).with_topics(Some(vec![topic.with_partition_indexes(vec![0, 5])]));
        }
        let topic = offset_fetch_request::OffsetFetchRequestTopics::default().with_name(name());
        let one = offset_fetch_request::OffsetFetchRequestGroup::default()
            .with_group_id(group())
            .with_topics(Some(vec![topic.with_partition_indexes(vec![0, 5])]));
        request.with_groups(vec![one])
    });
    every_version(&mut client, &versions, |_| {
        DescribeGroupsRequest::default().with_groups(vec![group(), GroupId(text("g2"))])
    });
    every_version(&mut client, &versions, |_| ListGroupsRequest::default());
    every_version(&mut client, &versions, |_| {
        DeleteGroupsRequest::default().with_groups_names(vec![group(), GroupId(text("x"))])
    });
    every_version(&mut client, &versions, |_| OffsetDeleteRequest::default().with_group_id(group()));
    every_version(&mut client, &versions, |_| {
        ConsumerGroupHeartbeatRequest::default().with_group_id(group()).with_member_id(text("m"))
    });
    every_version(&mut client, &versions, |_| {
        ConsumerGroupDescribeRequest::default().with_group_ids(vec![group(), GroupId(text("x"))])
    });
    let id = || TransactionalId(text("id"));
    every_version(&mut client, &versions, |_| {
        let topic = add_partitions_to_txn_request::AddPartitionsToTxnTopic::default().with_name(name());
        AddPartitionsToTxnRequest::default()
            .with_v3_and_below_transactional_id(id())
            .with_v3_and_below_topics(vec![topic.with_partitions(vec![0, 99])])
    });
    every_version(&mut client, &versions, |_| {
        AddOffsetsToTxnRequest::default().with_transactional_id(id()).with_group_id(group())
    });
    every_version(&mut client, &versions, |_| {
        let part = txn_offset_commit_request::TxnOffsetCommitRequestPartition::default();
        let topic = txn_offset_commit_request::TxnOffsetCommitRequestTopic::default().with_name(name());
        TxnOffsetCommitRequest::default()
            .with_transactional_id(id())
            .with_group_id(group())
            .with_topics(vec![topic.with_partitions(vec![part.clone(), part.with_partition_index(99)])])
    });
    every_version(&mut client, &versions, |_| EndTxnRequest::default().with_transactional_id(id()));
    every_version(&mut client, &versions, |_| SaslHandshakeRequest::default().with_mechanism(text("PLAIN")));
    every_version(&mut client, &versions, |_| SaslAuthenticateRequest::default());
    assert_eq!(broker.counters.totals().protocol_errors, 0);
    // 41 requests were called above: none that is announced was left out.
    assert_eq!(versions.len(), 41);
}

#[test]
fn a_version_not_known_gets_the_protocols_answer() {
    let (_dir, broker) = broker(|_| {});
    let mut client = Client::connect(broker.address);
    // ApiVersions 4: answered in version 0, with the error and all that is announced.
    client.send(&ApiVersionsRequest::default(), 4).unwrap();
    let (_, answer) = client.receive::<ApiVersionsResponse>(0).unwrap();
    assert_eq!((answer.error_code, answer.api_keys.is_empty()), (35, false));
    // Anything else ends the connection.
    client.send(&fetch("t", 0, 0, 0, 100), 16).unwrap();
    assert!(client.answer().is_err());
    assert_eq!(broker.counters.totals().protocol_errors, 1);
}

#[test]
fn produce_means_what_acks_says() {
    let (_dir, broker) = broker(|_| {});
    let mut client = Client::connect(broker.address);
    client.create("t", 1, &[("max.message.bytes", "500")]);
    // acks=0 has no answer: the next one is that of the next request.
    client.send(&produce("t", 0, batch_of(&[("a", "1")]), 0), 9).unwrap();
    assert_eq!(client.produce("t", 0, batch_of(&[("b", "2"), ("c", "3")])), (0, 1));
    let code = |client: &mut Client, request: ProduceRequest| {
        client.call(&request, 9).responses[0].partition_responses[0].error_code
    };
    assert_eq!(code(&mut client, produce("t", 0, batch_of(&[("a", "1")]), 2)), 21);
    assert_eq!(code(&mut client, produce("t", 1, batch_of(&[("a", "1")]), 1)), 3);
    assert_eq!(code(&mut client, produce("__consumer_offsets", 0, batch_of(&[("a", "1")]), 1)), 3);
    assert_eq!(client.produce("t", 0, batch_of(&[("a", &"x".repeat(500))])).0, 10);
    let good = batch_of(&[("a", "1")]);
    let mut flipped = good.clone();
    *flipped.last_mut().unwrap() ^= 1;
    assert_eq!(client.produce("t", 0, flipped).0, 2);
    let mut old = good.clone();
    old[16] = 1;
    assert_eq!(client.produce("t", 0, old).0, 43);
    assert_eq!(client.produce("t", 0, [good.clone(), good.clone()].concat()).0, 87);
    assert_eq!(client.produce("t", 0, good[..40].to_vec()).0, 2);
    let all = client.read_all("t", 0, 0);
    assert_eq!(all.iter().map(|r| r.2.as_slice()).collect::<Vec<_>>(), [b"1", b"2", b"3"]);
    // With acks=0 a failure can only be said by closing.
    client.send(&produce("t", 9, good, 0), 9).unwrap();
    assert!(client.answer().is_err());
}

#[test]
fn a_retried_batch_is_stored_once_and_a_gap_is_refused() {
    let (_dir, broker) = broker(|_| {});
    let mut client = Client::connect(broker.address);
    client.create("t", 1, &[]);
    let id = client.call(&InitProducerIdRequest::default().with_transactional_id(None), 4).producer_id.0;
    let other = client.call(&InitProducerIdRequest::default().with_transactional_id(None), 4).producer_id.0;
    assert_ne!(id, other);
    let batch = |n: i32| numbered(&[("k", &n.to_string()), ("k", "more")], id, 0, n * 2);
    for n in 0..7 {
        assert_eq!(client.produce("t", 0, batch(n)), (0, i64::from(n) * 2));
    }
    // A connection that drops, and the retry on another.
    let mut client = Client::connect(broker.address);
    for n in 2..7 {
        assert_eq!(client.produce("t", 0, batch(n)), (0, i64::from(n) * 2));
    }
    assert_eq!(client.produce("t", 0, batch(8)).0, 45);
    assert_eq!(client.produce("t", 0, numbered(&[("k", "v")], other, 0, 5)), (0, 14));
    assert_eq!(client.produce("t", 0, numbered(&[("k", "v")], id, 1, 0)), (0, 15));
    assert_eq!(client.produce("t", 0, batch(7)).0, 47);
    assert_eq!(client.read_all("t", 0, 0).len(), 16);
    assert_eq!(broker.counters.totals().duplicates, 5);
}

#[test]
fn fetch_waits_for_records_and_no_longer() {
    let (_dir, broker) = broker(|_| {});
    let mut client = Client::connect(broker.address);
    client.create("t", 2, &[]);
    let began = Instant::now();
    assert_eq!(client.fetch("t", 0, 0, 300), (0, 0, bytes::Bytes::new()));
    assert!(began.elapsed() >= Duration::from_millis(300));
    assert_eq!(client.fetch("t", 0, 1, 5000).0, 1, "out of range is said at once");
    let address = broker.address;
    let producer = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(100));
        Client::connect(address).produce("t", 0, batch_of(&[("k", "v")]))
    });
    let began = Instant::now();
    let (code, end, bytes) = client.fetch("t", 0, 0, 60_000);
    assert!((code, end) == (0, 1) && !bytes.is_empty());
    assert!(began.elapsed() < Duration::from_secs(30), "woken by the append");
    assert_eq!(producer.join().unwrap(), (0, 0));
    // At least a minimum: one batch is too little, so the time runs out; two are enough.
    let one = bytes.len() as i32;
    let patient = fetch("t", 0, 0, 200, 1 << 20).with_min_bytes(one + 1);
    let began = Instant::now();
    client.call(&patient, 11);
    assert!(began.elapsed() >= Duration::from_millis(200));
    client.produce("t", 0, batch_of(&[("k", "v")]));
    let began = Instant::now();
    client.call(&patient.with_max_wait_ms(60_000), 11);
    assert!(began.elapsed() < Duration::from_secs(30));
    // The first batch comes whole, however little is asked for.
    let small = client.call(&fetch("t", 0, 0, 0, 1), 11).responses[0].partitions[0].records.clone().unwrap();
    assert_eq!(small.len() as i32, one);
    // A session that was never given out.
    let answer = client.call(&fetch("t", 0, 0, 0, 100).with_session_id(5).with_session_epoch(1), 11);
    assert_eq!((answer.error_code, answer.responses.len()), (70, 0));
}

#[test]
fn long_ranges_arrive_as_they_were_written() {
    let (_dir, broker) = broker(|config| config.log.defaults.segment_bytes = 1 << 20);
    let mut client = Client::connect(broker.address);
    client.create("t", 1, &[]);
    let value = |n: usize| format!("{n}:{}", "z".repeat(n * 131 % 9000));
    for n in 0..1000 {
        assert_eq!(client.produce("t", 0, batch_of(&[("k", &value(n))])), (0, n as i64));
    }
    for from in [0, 1, 500, 999] {
        let all = client.read_all("t", 0, from);
        assert_eq!(all.len() as i64, 1000 - from);
        assert!(all.iter().all(|(offset, _, v)| *v == value(*offset as usize).into_bytes()));
    }
}

#[test]
fn answers_come_in_the_order_of_their_requests() {
    let (_dir, broker) = broker(|config| config.log.sync = SyncPolicy::Group);
    let mut client = Client::connect(broker.address);
    client.create("t", 1, &[]);
    let mut asked = Vec::new();
    for n in 0..200 {
        asked.push(client.send(&produce("t", 0, batch_of(&[("k", &n.to_string())]), -1), 9).unwrap());
    }
    asked.push(client.send(&fetch("t", 0, 200, 100, 1000), 11).unwrap());
    asked.push(client.send(&ListGroupsRequest::default(), 4).unwrap());
    for (n, correlation) in asked.iter().enumerate() {
        let body = client.answer().unwrap();
        assert_eq!(i32::from_be_bytes(body[..4].try_into().unwrap()), *correlation, "answer {n}");
    }
    let syncs = broker.log.syncs().0;
    assert!(syncs < 200, "{syncs} syncs for 200 requests that were under way together");
}

/// More requests than may wait for their answers come in one piece, and nothing after them that
/// would wake the broker.
#[test]
fn requests_beyond_the_queue_are_answered_too() {
    let (_dir, broker) = broker(|_| {});
    let mut client = Client::connect(broker.address);
    client.create("wide", 500, &[]);
    let wanted = metadata_request::MetadataRequestTopic::default().with_name(Some(topic_name("wide")));
    let short = frame(&ApiVersionsRequest::default(), 0, 7);
    // 16 KiB each: they reach the bound on bytes before that on their number.
    let long = frame(&MetadataRequest::default().with_topics(Some(vec![wanted])), 9, 7);
    for (request, count) in [(short, 3000), (long, 1500)] {
        client.stream.write_all(&request.repeat(count)).unwrap();
        for n in 0..count {
            let answer = client.answer().unwrap_or_else(|error| panic!("answer {n} of {count}: {error}"));
            assert_eq!(i32::from_be_bytes(answer[..4].try_into().unwrap()), 7);
        }
    }
}

/// A request of some bytes a name, each with an answer of any length, is no lever.
#[test]
fn who_names_the_same_thing_again_is_answered_once() {
    let (_dir, broker) = broker(|config| config.max_groups = 2);
    let mut client = Client::connect(broker.address);
    client.create("wide", 300, &[]);
    let topic = metadata_request::MetadataRequestTopic::default().with_name(Some(topic_name("wide")));
    let answer = client.call(&MetadataRequest::default().with_topics(Some(vec![topic; 1000])), 9);
    assert_eq!(answer.topics.len(), 1);
    let resource = describe_configs_request::DescribeConfigsResource::default()
        .with_resource_type(2)
        .with_resource_name(text("wide"));
    let answer = client.call(&DescribeConfigsRequest::default().with_resources(vec![resource; 1000]), 4);
    assert_eq!(answer.results.len(), 1);
    let topic = describe_log_dirs_request::DescribableLogDirTopic::default()
        .with_topic(topic_name("wide"))
        .with_partitions((0..300).collect());
    let answer = client.call(&DescribeLogDirsRequest::default().with_topics(Some(vec![topic; 100])), 4);
    assert_eq!(answer.results[0].topics.len(), 1);
    let answer = client.call(&DescribeGroupsRequest::default().with_groups(vec![GroupId(text("g")); 1000]), 5);
    assert_eq!(answer.groups.len(), 1);
    let mut commit = |group: &str| client.commit(group, "wide", 0, 5);
    assert_eq!([commit("a"), commit("b"), commit("a")], [0; 3]);
    // Groups that have committed something are bounded like those with members.
    assert_ne!(commit("c"), 0);
    let topic = offset_fetch_request::OffsetFetchRequestTopics::default()
        .with_name(topic_name("wide"))
        .with_partition_indexes(vec![0; 100]);
    let group = offset_fetch_request::OffsetFetchRequestGroup::default()
        .with_group_id(GroupId(text("a")))
        .with_topics(Some(vec![topic; 10]));
    let answer = client.call(&OffsetFetchRequest::default().with_groups(vec![group; 10]), 8);
    assert_eq!((answer.groups.len(), answer.groups[0].topics.len()), (1, 1));
    assert_eq!(answer.groups[0].topics[0].partitions.len(), 1);
    assert_eq!(answer.groups[0].topics[0].partitions[0].committed_offset, 5);
    // What a member says about itself is kept, so it is bounded.
    let protocol = join_group_request::JoinGroupRequestProtocol::default()
        .with_name(text("p"))
        .with_metadata(vec![0; (1 << 20) + 1].into());
    let join = JoinGroupRequest::default()
        .with_group_id(GroupId(text("a")))
        .with_session_timeout_ms(6000)
        .with_protocol_type(text("consumer"))
        .with_protocols(vec![protocol]);
    assert_eq!(client.call(&join, 9).error_code, 42);
}

#[test]
fn offsets_are_found_by_time() {
    let (_dir, broker) = broker(|_| {});
    let mut client = Client::connect(broker.address);
    client.create("t", 1, &[("retention.ms", "-1")]);
    for n in 0..100 {
        let bytes: &[(&[u8], Option<&[u8]>)] = &[(b"k", Some(b"v"))];
        client.produce("t", 0, msgbench::broker::kafka::batch::encode(bytes, 1000 + n * 10));
    }
    let mut at = |timestamp: i64| {
        let part = list_offsets_request::ListOffsetsPartition::default().with_timestamp(timestamp);
        let topic =
            list_offsets_request::ListOffsetsTopic::default().with_name(topic_name("t")).with_partitions(vec![part]);
        let answer = client.call(&ListOffsetsRequest::default().with_topics(vec![topic]), 7);
        let part = &answer.topics[0].partitions[0];
        (part.offset, part.timestamp)
    };
    assert_eq!(at(-2), (0, -1));
    assert_eq!(at(-1), (100, -1));
    assert_eq!(at(0), (0, 1000));
    assert_eq!(at(1501), (51, 1510));
    assert_eq!(at(1990), (99, 1990));
    assert_eq!(at(1991), (-1, -1));
    assert_eq!(at(-3), (99, 1990));
}

#[test]
fn settings_are_taken_shown_changed_and_refused() {
    let (_dir, broker) = broker(|_| {});
    let mut client = Client::connect(broker.address);
    client.create("t", 1, &[("retention.ms", "1234"), ("cleanup.policy", "compact,delete")]);
    let create = |name: &str, value: &str| {
        let config =
            create_topics_request::CreatableTopicConfig::default().with_name(text(name)).with_value(Some(text(value)));
        let topic = create_topics_request::CreatableTopic::default()
            .with_name(topic_name("u"))
            .with_num_partitions(1)
            .with_replication_factor(1)
            .with_configs(vec![config]);
        CreateTopicsRequest::default().with_topics(vec![topic])
    };
    for (name, value) in [
        ("no.such", "1"),
        ("retention.ms", "x"),
        ("cleanup.policy", "burn"),
        ("compression.type", "brotli"),
        ("flush.messages", "1"),
    ] {
        assert_eq!(client.call(&create(name, value), 5).topics[0].error_code, 40, "{name}={value}");
    }
    let show = |client: &mut Client| {
        let resource = describe_configs_request::DescribeConfigsResource::default()
            .with_resource_type(2)
            .with_resource_name(text("t"))
            .with_configuration_keys(Some(vec![text("retention.ms"), text("cleanup.policy")]));
        let answer = client.call(&DescribeConfigsRequest::default().with_resources(vec![resource]), 4);
        let configs = answer.results[0].configs.iter();
        configs.map(|c| (c.name.to_string(), c.value.clone().unwrap().to_string(), c.config_source)).collect::<Vec<_>>()
    };
    let line = |name: &str, value: &str, source| (name.to_owned(), value.to_owned(), source);
    assert_eq!(show(&mut client), [line("cleanup.policy", "compact,delete", 1), line("retention.ms", "1234", 1)]);
    let config = incremental_alter_configs_request::AlterableConfig::default()
        .with_name(text("retention.ms"))
        .with_config_operation(1)
        .with_value(None);
    let resource = incremental_alter_configs_request::AlterConfigsResource::default()
        .with_resource_type(2)
        .with_resource_name(text("t"))
        .with_configs(vec![config]);
    client.call(&IncrementalAlterConfigsRequest::default().with_resources(vec![resource]), 1);
    assert_eq!(show(&mut client)[1], line("retention.ms", "604800000", 5));
}

fn plain(client: &mut Client, credentials: &[u8]) -> i16 {
    assert_eq!(client.call(&SaslHandshakeRequest::default().with_mechanism(text("PLAIN")), 1).error_code, 0);
    let request = SaslAuthenticateRequest::default().with_auth_bytes(credentials.to_vec().into());
    client.call(&request, 2).error_code
}

#[test]
fn without_valid_credentials_nothing_is_served() {
    let (_dir, broker) = broker(|config| {
        config.users = vec![("ann".into(), "secret".into())];
        config.auth_timeout = Duration::from_millis(500);
    });
    let mut client = Client::connect(broker.address);
    client.call(&ApiVersionsRequest::default(), 3);
    client.send(&MetadataRequest::default(), 9).unwrap();
    assert!(client.answer().is_err(), "not before authentication");
    for wrong in [&b"\0ann\0wrong"[..], b"\0bob\0secret", b"ann\0secret", b"", b"bob\0ann\0secret", b"\0ann\0secret\0"]
    {
        let mut client = Client::connect(broker.address);
        assert_eq!(plain(&mut client, wrong), 58);
        let _ = client.send(&MetadataRequest::default(), 9);
        assert!(client.answer().is_err());
    }
    let mut client = Client::connect(broker.address);
    let handshake = SaslHandshakeRequest::default().with_mechanism(text("SCRAM-SHA-256"));
    let answer = client.call(&handshake, 1);
    assert_eq!((answer.error_code, answer.mechanisms), (33, vec![text("PLAIN")]));
    assert_eq!(plain(&mut client, b"\0ann\0secret"), 0);
    assert_eq!(client.call(&MetadataRequest::default(), 9).brokers.len(), 1);
    // The first version of the handshake: the credentials come as a frame of their own.
    let mut client = Client::connect(broker.address);
    assert_eq!(client.call(&SaslHandshakeRequest::default().with_mechanism(text("PLAIN")), 0).error_code, 0);
    client.stream.write_all(b"\0\0\0\x0b\0ann\0secret").unwrap();
    assert_eq!(client.answer().unwrap().len(), 0);
    assert_eq!(client.call(&MetadataRequest::default(), 9).brokers.len(), 1);
    // Who says nothing is not waited for.
    let mut client = Client::connect(broker.address);
    let began = Instant::now();
    assert!(client.answer().is_err());
    assert!(began.elapsed() < Duration::from_secs(30), "before the client gives up after a minute");
    assert!(broker.counters.totals().auth_failures >= 6);
}

#[test]
fn bounds_hold_against_hostile_clients() {
    let (_dir, broker) = broker(|config| {
        config.max_connections = 4;
        config.max_request = 1 << 20;
        config.log.max_partitions = 10;
    });
    // A frame longer than allowed.
    let mut client = Client::connect(broker.address);
    client.stream.write_all(&[0x7f, 0xff, 0xff, 0xff, 0, 0]).unwrap();
    assert!(client.answer().is_err());
    // A negative length.
    let mut client = Client::connect(broker.address);
    client.stream.write_all(&[0xff; 8]).unwrap();
    assert!(client.answer().is_err());
    // Too many partitions.
    let mut client = Client::connect(broker.address);
    let topic = create_topics_request::CreatableTopic::default()
        .with_name(topic_name("t"))
        .with_num_partitions(i32::MAX)
        .with_replication_factor(1);
    let answer = client.call(&CreateTopicsRequest::default().with_topics(vec![topic]), 5);
    assert_eq!(answer.topics[0].error_code, 44);
    // Too many connections. Those that were closed above may still be counted when their clients
    // know of it.
    let end = Instant::now() + Duration::from_secs(60);
    while broker.counters.totals().open > 1 {
        assert!(Instant::now() < end, "{:?}", broker.counters.totals());
        std::thread::sleep(Duration::from_millis(5));
    }
    let _others: Vec<Client> = (0..3).map(|_| Client::connect(broker.address)).collect();
    let mut fifth = Client::connect(broker.address);
    let _ = fifth.send(&ApiVersionsRequest::default(), 0);
    assert!(fifth.answer().is_err());
    client.call(&ApiVersionsRequest::default(), 0);
    assert_eq!(broker.counters.totals().refused, 1);
}

#[test]
fn who_is_silent_is_let_go_but_not_who_waits_for_an_answer() {
    let (_dir, broker) = broker(|config| config.idle_timeout = Duration::from_secs(1));
    let mut silent = Client::connect(broker.address);
    let mut waits = Client::connect(broker.address);
    waits.create("t", 1, &[]);
    let began = Instant::now();
    assert_eq!(waits.fetch("t", 0, 0, 3000).0, 0);
    assert!(began.elapsed() >= Duration::from_secs(3));
    assert!(silent.answer().is_err());
    assert!(began.elapsed() < Duration::from_secs(30), "before the client gives up after a minute");
}

#[test]
fn tls_carries_it_all() {
    let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    let files = tempfile::tempdir().unwrap();
    let (cert, key) = (files.path().join("cert.pem"), files.path().join("key.pem"));
    std::fs::write(&cert, made.cert.pem()).unwrap();
    std::fs::write(&key, made.signing_key.serialize_pem()).unwrap();
    let (_dir, broker) = broker(|config| {
        config.tls = Some(msgbench::broker::TlsFiles { cert, key, client_ca: None, first: false });
    });
    // A client that does not encrypt is let go.
    let mut client = Client::connect(broker.address);
    let _ = client.send(&ApiVersionsRequest::default(), 0);
    assert!(client.answer().is_err());
    let mut roots = tokio_rustls::rustls::RootCertStore::empty();
    roots.add(made.cert.der().clone()).unwrap();
    let provider = std::sync::Arc::new(tokio_rustls::rustls::crypto::ring::default_provider());
    let config = tokio_rustls::rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let name = "localhost".try_into().unwrap();
    let mut session = tokio_rustls::rustls::ClientConnection::new(std::sync::Arc::new(config), name).unwrap();
    let mut stream = std::net::TcpStream::connect(broker.address).unwrap();
    let mut tls = tokio_rustls::rustls::Stream::new(&mut session, &mut stream);
    let mut call = |bytes: &[u8]| {
        tls.write_all(bytes).unwrap();
        let mut length = [0; 4];
        tls.read_exact(&mut length).unwrap();
        let mut body = vec![0; u32::from_be_bytes(length) as usize];
        tls.read_exact(&mut body).unwrap();
        body
    };
    let named = MetadataRequest::default()
        .with_topics(Some(vec![metadata_request::MetadataRequestTopic::default().with_name(Some(topic_name("t")))]));
    call(&frame(&named, 4, 1));
    let big = batch_of(&[("k", &"secret".repeat(100_000))]);
    call(&frame(&produce("t", 0, big.clone(), -1), 9, 2));
    // Long enough to be a file range.
    let body = call(&frame(&fetch("t", 0, 0, 0, 10 << 20), 11, 3));
    let mut body = bytes::Bytes::from(body).slice(4..);
    let answer = FetchResponse::decode(&mut body, 11).unwrap();
    assert_eq!(answer.responses[0].partitions[0].records.clone().unwrap()[16..], big[16..]);
    assert_eq!(broker.counters.totals().tls_failures, 1);
}

/// One broker for all hostile bytes: it must be as well after them as before.
fn victim() -> &'static (TempDir, Running) {
    static VICTIM: OnceLock<(TempDir, Running)> = OnceLock::new();
    VICTIM.get_or_init(|| {
        let (dir, running) = broker(|config| {
            config.log.max_partitions = 64;
            config.max_request = 1 << 20;
        });
        Client::connect(running.address).create("t", 1, &[]);
        (dir, running)
    })
}

/// Requests of many kinds, as bytes without length.
fn specimen() -> impl Strategy<Value = Vec<u8>> {
    fn bytes<R: Request + HeaderVersion>(request: &R, version: i16) -> Vec<u8> {
        frame(request, version, 7)[4..].to_vec()
    }
    let protocol = join_group_request::JoinGroupRequestProtocol::default().with_name(text("p"));
    let join = JoinGroupRequest::default()
        .with_group_id(GroupId(text("g")))
        .with_session_timeout_ms(6000)
        .with_protocol_type(text("consumer"))
        .with_protocols(vec![protocol]);
    let wanted = metadata_request::MetadataRequestTopic::default().with_name(Some(topic_name("t")));
    let topic = create_topics_request::CreatableTopic::default().with_name(topic_name("x")).with_num_partitions(1);
    let part = alter_partition_reassignments_request::ReassignablePartition::default()
        .with_replicas(Some(vec![BrokerId(1), BrokerId(2)]));
    let moved = alter_partition_reassignments_request::ReassignableTopic::default()
        .with_name(topic_name("t"))
        .with_partitions(vec![part]);
    proptest::sample::select(vec![
        bytes(&produce("t", 0, batch_of(&[("k", "v"), ("l", "w")]), -1), 9),
        bytes(&produce("t", 0, batch_of(&[("k", "v")]), 1), 3),
        bytes(&fetch("t", 0, 0, 10, 1000), 12),
        bytes(&fetch("t", 0, 0, 10, 1000), 4),
        bytes(&MetadataRequest::default().with_topics(Some(vec![wanted])), 12),
        bytes(&CreateTopicsRequest::default().with_topics(vec![topic]), 7),
        bytes(&join, 9),
        bytes(&ApiVersionsRequest::default(), 3),
        bytes(&OffsetFetchRequest::default().with_groups(vec![Default::default()]), 8),
        bytes(&DescribeConfigsRequest::default().with_resources(vec![Default::default()]), 4),
        bytes(&AlterReplicaLogDirsRequest::default().with_dirs(vec![Default::default()]), 2),
        bytes(&AlterPartitionReassignmentsRequest::default().with_topics(vec![moved]), 1),
        bytes(&DescribeQuorumRequest::default().with_topics(vec![Default::default()]), 2),
        bytes(&ListOffsetsRequest::default().with_topics(vec![Default::default()]), 10),
    ])
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn hostile_bytes_end_a_connection_at_most(
        mut body in prop_oneof![specimen(), proptest::collection::vec(any::<u8>(), 0..200)],
        changes in proptest::collection::vec((any::<u16>(), any::<u8>()), 0..6),
        cut in proptest::option::of(any::<u16>()),
        lie in proptest::option::of(any::<u32>()),
    ) {
        let (_, broker) = victim();
        for (at, byte) in changes {
            if !body.is_empty() {
                let at = usize::from(at) % body.len();
                body[at] = byte;
            }
        }
        if let Some(cut) = cut {
            body.truncate(usize::from(cut) % (body.len() + 1));
        }
        let length = lie.unwrap_or(body.len() as u32);
        let mut client = Client::connect(broker.address);
        let _ = client.stream.write_all(&[&length.to_be_bytes()[..], &body].concat());
        // Whatever it answers, it ends soon after the client has.
        let _ = client.stream.shutdown(Half::Write);
        let mut rest = Vec::new();
        let _ = client.stream.read_to_end(&mut rest);
        let mut good = Client::connect(broker.address);
        prop_assert_eq!(good.call(&ApiVersionsRequest::default(), 0).error_code, 0);
    }

    /// An array that claims more than there is does not pass, so that nothing is reserved for it.
    #[test]
    fn a_claimed_length_is_not_believed(claim in 1_000u32..0x7fff_ffff, rest in proptest::collection::vec(any::<u8>(), 0..50)) {
        let mut body = claim.to_be_bytes().to_vec();
        body.extend_from_slice(&rest);
        // Metadata 0, DescribeGroups 0, DeleteGroups 0, CreateTopics 2: all start with an array.
        for (key, version) in [(3, 0), (15, 0), (42, 0), (19, 2)] {
            prop_assert!(shape::check(key, version, &body).is_err());
        }
    }

    /// The shape and the decoder of the protocol crate agree on where a request ends, or the shape
    /// is stricter.
    #[test]
    fn what_has_the_shape_is_decoded_to_its_end(mut body in specimen(), changes in proptest::collection::vec((8u16.., any::<u8>()), 0..4)) {
        let (key, version) = (i16::from_be_bytes([body[0], body[1]]), i16::from_be_bytes([body[2], body[3]]));
        let at = 10 + usize::from(u16::from_be_bytes([body[8], body[9]]));
        let api = ApiKey::try_from(key).unwrap();
        let tags = usize::from(api.request_header_version(version) >= 2);
        let mut body = body.split_off(at + tags);
        for (at, byte) in changes {
            if !body.is_empty() {
                let at = usize::from(at) % body.len();
                body[at] = byte;
            }
        }
        // What has not the shape is not shown to the decoder: it would reserve what an array
        // claims, and the process would end.
        if let Ok(used) = shape::check(key, version, &body) {
            let length = body.len();
            let mut bytes = bytes::Bytes::from(body);
            // Text may still be no UTF-8, which the shape does not look at.
            if RequestKind::decode_all(api, &mut bytes, version) {
                prop_assert_eq!(used, length - bytes.len());
            }
        }
    }
}

struct RequestKind;

impl RequestKind {
    fn decode_all(api: ApiKey, bytes: &mut bytes::Bytes, version: i16) -> bool {
        macro_rules! decode {
            ($($key:ident => $request:ident),*) => {
                match api {
                    $(ApiKey::$key => $request::decode(bytes, version).is_ok(),)*
                    _ => panic!("{api:?} is no specimen"),
                }
            };
        }
        decode!(Produce => ProduceRequest, Fetch => FetchRequest, Metadata => MetadataRequest,
            CreateTopics => CreateTopicsRequest, JoinGroup => JoinGroupRequest, ApiVersions => ApiVersionsRequest,
            OffsetFetch => OffsetFetchRequest, DescribeConfigs => DescribeConfigsRequest,
            AlterReplicaLogDirs => AlterReplicaLogDirsRequest, DescribeQuorum => DescribeQuorumRequest,
            AlterPartitionReassignments => AlterPartitionReassignmentsRequest, ListOffsets => ListOffsetsRequest)
    }
}

/// The decoder reads a field it knows by its tag whatever length the tag claims: a claim that is
/// not so is refused, as fuzzing has found it.
#[test]
fn a_known_tag_is_as_long_as_it_says() {
    let mut body = BytesMut::new();
    fetch("t", 0, 0, 10, 1000).with_cluster_id(Some(text("cluster"))).encode(&mut body, 12).unwrap();
    assert_eq!(shape::check(1, 12, &body), Ok(body.len()));
    // The claim stands before the text's own length.
    let claim = body.len() - "cluster".len() - 2;
    assert_eq!(body[claim], 8);
    for wrong in [0, 7, 9, 100] {
        let mut body = body.to_vec();
        body[claim] = wrong;
        body.resize(300, 0);
        assert!(shape::check(1, 12, &body).is_err(), "{wrong}");
    }
}

/// Bytes too few are refused, bytes too many left alone.
#[test]
fn a_request_is_at_least_as_long_as_it_says() {
    let mut body = BytesMut::new();
    fetch("t", 0, 0, 10, 1000).encode(&mut body, 12).unwrap();
    assert_eq!(shape::check(1, 12, &body), Ok(body.len()));
    for cut in 0..body.len() {
        assert!(shape::check(1, 12, &body[..cut]).is_err());
    }
    assert_eq!(shape::check(1, 12, &[&body[..], &[0; 3]].concat()), Ok(body.len()));
    assert!(shape::check(1, 11, &body).is_err());
    let (_, broker) = victim();
    let before = broker.counters.protocol_errors.load(Ordering::Relaxed);
    let send = |change: i32| {
        let mut client = Client::connect(broker.address);
        let mut bytes = frame(&ApiVersionsRequest::default(), 3, 1).to_vec();
        bytes.resize((bytes.len() as i32 + change) as usize, 0);
        let length = bytes.len() as u32 - 4;
        bytes[..4].copy_from_slice(&length.to_be_bytes());
        client.stream.write_all(&bytes).unwrap();
        client.answer().is_ok()
    };
    assert!(send(3));
    assert!(!send(-1));
    assert!(broker.counters.protocol_errors.load(Ordering::Relaxed) > before);
}
