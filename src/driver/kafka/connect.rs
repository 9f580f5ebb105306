//! A client that comes and goes at Kafka: it learns where the leader of a partition is, where the
//! partition ends, appends a message and reads from there until it has found it.
//!
//! # Design
//! In Kafka's own protocol (`share::connection`): a client of librdkafka is three threads and more,
//! and what starting those costs is no property of the broker. Clients take the partitions in turn.
//! Others append to the same partition meanwhile; a client reads past their messages, as any that
//! has a partition does.
//! # Scope
//! No TLS and no SASL but PLAIN. No consumer group: what a join costs, the scenario `rebalance`
//! shows.

use std::ops::Range;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use kafka_protocol::indexmap::IndexMap;
use kafka_protocol::messages::api_versions_response::FinalizedFeatureKey;
use kafka_protocol::messages::fetch_request::{FetchPartition, FetchTopic};
use kafka_protocol::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use kafka_protocol::messages::metadata_request::MetadataRequestTopic;
use kafka_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use kafka_protocol::messages::{
    BrokerId, FetchRequest, ListOffsetsRequest, MetadataRequest, ProduceRequest, TopicName,
};
use kafka_protocol::protocol::StrBytes;
use kafka_protocol::records::{Compression, Record, RecordBatchEncoder, RecordEncodeOptions, TimestampType};

use super::KafkaDriver;
use super::consumer::KafkaConsumer;
use super::fetch::{FetchRules, FetchSource, ProtocolConsumer};
use super::producer::KafkaProducer;
use super::share::{BrokerAccess, BrokerConnection, each_record, hello, words_of};
use super::wire::ProtocolProducer;
use crate::driver::{ClientSlot, ConnectAttempt, ConnectSteps, DriverError, IdleConnection, Start};
use crate::units::now;

/// Versions of the requests that Kafka speaks from 4.0 on, topics by name.
const API_VERSIONS: i16 = 3;
const METADATA: i16 = 12;
const LIST_OFFSETS: i16 = 7;
const PRODUCE: i16 = 9;
const FETCH: i16 = 12;
/// Bound on a question whose answer is only shown.
const SOON: Duration = Duration::from_secs(2);
/// The end of a partition, asked for as a time.
const END: i64 = -1;
/// Longest wait of a fetch, and most bytes that it brings.
const WAIT_MS: i32 = 500;
const MOST_BYTES: i32 = 8 << 20;

fn text(words: &str) -> StrBytes {
    StrBytes::from_string(words.to_owned())
}

/// Says what an error code means.
fn check(access: &BrokerAccess, action: &str, code: i16) -> Result<(), DriverError> {
    match code {
        0 => Ok(()),
        code => Err(access.refused(action, words_of(code, None), "see the broker's log")),
    }
}

/// One client, from its connection to its message.
pub(super) async fn connect_once(
    driver: &KafkaDriver,
    attempt: ConnectAttempt<'_>,
) -> Result<ConnectSteps, DriverError> {
    let (access, servers) = driver.broker_access()?;
    let topic = TopicName(text(&driver.topic(attempt.workload)));
    let partitions = driver.topics[attempt.workload].partitions.max(1);
    let partition = (attempt.number % partitions as u64) as i32;
    let mut connection = leader(&access, &servers, &topic, partition).await?;
    let connected = now();
    let offset = end(&mut connection, &access, &topic, partition).await?;
    let subscribed = now();
    let acks = driver.options.acks.number();
    append(&mut connection, &access, (&topic, partition), acks, attempt.payload).await?;
    let (received, message) = find(&mut connection, &access, (&topic, partition, offset), attempt.payload).await?;
    Ok(ConnectSteps { connected, subscribed, received, message: message.to_vec() })
}

/// The levels of the protocol's features that the cluster has agreed on (KIP-584), as
/// `metadata.version 29`; why they are not known where they cannot be asked for.
pub(super) async fn features(driver: &KafkaDriver) -> String {
    let asked = async {
        let (mut access, servers) = driver.broker_access()?;
        // It is answered before a login; a broker that wants TLS may say nothing at all.
        (access.login, access.timeout) = (None, access.timeout.min(SOON));
        let first = servers.first().ok_or_else(|| access.lost("there is no address of a broker"))?;
        let mut connection = BrokerConnection::open(first, &access).await?;
        connection.call(&hello(), API_VERSIONS).await
    };
    match asked.await {
        Err(error) => format!("unknown: {error}"),
        Ok(answer) => {
            let level = |f: &FinalizedFeatureKey| format!("{} {}", f.name, f.max_version_level);
            let mut all: Vec<String> = answer.finalized_features.iter().map(level).collect();
            all.sort();
            if all.is_empty() { "no versioned features".into() } else { all.join(", ") }
        }
    }
}

/// A connection that carries nothing.
pub(super) async fn idle(driver: &KafkaDriver, slot: ClientSlot) -> Result<IdleConnection, DriverError> {
    let (access, servers) = driver.broker_access()?;
    let topic = TopicName(text(&driver.topic(slot.workload)));
    let partitions = driver.topics[slot.workload].partitions.max(1);
    let mut connection = leader(&access, &servers, &topic, (slot.index % partitions as u32) as i32).await?;
    Ok(Box::pin(async move { connection.closed().await }))
}

/// A producer without librdkafka, connected to the leaders of its partitions.
pub(super) async fn producer(driver: &KafkaDriver, slot: ClientSlot) -> Result<KafkaProducer, DriverError> {
    let (access, servers) = driver.broker_access()?;
    let topic = TopicName(text(&driver.topic(slot.workload)));
    let channels = driver.workloads[slot.workload].topology.channels as i32;
    let leaders = leaders(&access, &servers, &topic, channels).await?;
    let rules = driver.options.batch_rules();
    let producer = ProtocolProducer::new(access, topic, rules, leaders, &driver.incidents);
    Ok(KafkaProducer::Wire(Box::new(producer)))
}

/// A consumer without librdkafka, connected to the leaders of all partitions.
pub(super) async fn consumer(
    driver: &KafkaDriver,
    rules: &FetchRules,
    slot: ClientSlot,
    start: Start,
) -> Result<KafkaConsumer, DriverError> {
    let (access, servers) = driver.broker_access()?;
    let from = driver.place(slot, start)?;
    let source = FetchSource {
        access,
        servers,
        group: driver.group(slot),
        topic: TopicName(text(&driver.source(slot.workload))),
        topic_id: uuid::Uuid::nil(),
        rules: rules.clone(),
    };
    let first = from.first.into_iter().collect();
    let consumer = ProtocolConsumer::open(source, first, from.again, &driver.incidents).await?;
    Ok(KafkaConsumer::Wire(Box::new(consumer)))
}

/// A connection to the leader of a partition, found as a client finds it.
async fn leader(
    access: &BrokerAccess,
    servers: &[String],
    topic: &TopicName,
    partition: i32,
) -> Result<BrokerConnection, DriverError> {
    let (connection, first, mut leaders) = layout(access, servers, topic, partition..partition + 1).await?;
    let address = leaders.swap_remove(0);
    if address == first { Ok(connection) } else { BrokerConnection::open(&address, access).await }
}

/// A connection to each broker that leads one of the first partitions of a topic, and for each
/// partition which of them does.
async fn leaders(
    access: &BrokerAccess,
    servers: &[String],
    topic: &TopicName,
    partitions: i32,
) -> Result<(Vec<BrokerConnection>, Vec<usize>), DriverError> {
    let (_, _, leaders) = layout(access, servers, topic, 0..partitions).await?;
    let (mut connections, mut addresses, mut of) = (Vec::new(), Vec::new(), Vec::new());
    for address in leaders {
        let known = addresses.iter().position(|a| *a == address);
        if known.is_none() {
            connections.push(BrokerConnection::open(&address, access).await?);
            addresses.push(address);
        }
        of.push(known.unwrap_or(addresses.len() - 1));
    }
    Ok((connections, of))
}

/// Where each of these partitions is led; and the connection by which it was asked, with its
/// address.
async fn layout<'a>(
    access: &BrokerAccess,
    servers: &'a [String],
    topic: &TopicName,
    partitions: Range<i32>,
) -> Result<(BrokerConnection, &'a str, Vec<String>), DriverError> {
    let first = servers.first().ok_or_else(|| access.lost("there is no address of a broker"))?;
    let mut connection = BrokerConnection::open(first, access).await?;
    check(access, "agree on versions", connection.call(&hello(), API_VERSIONS).await?.error_code)?;
    let asked = MetadataRequestTopic::default().with_name(Some(topic.clone()));
    let request = MetadataRequest::default().with_topics(Some(vec![asked])).with_allow_auto_topic_creation(false);
    let answer = connection.call(&request, METADATA).await?;
    let mut leaders = Vec::new();
    for partition in partitions {
        let found = answer.topics.iter().flat_map(|t| &t.partitions).find(|p| p.partition_index == partition);
        let leader = found.ok_or_else(|| access.lost(format!("the topic has no partition {partition}")))?;
        check(access, "find the leader of a partition", leader.error_code)?;
        let broker = answer.brokers.iter().find(|b| b.node_id == leader.leader_id);
        let broker = broker.ok_or_else(|| access.lost(format!("partition {partition} has no leader")))?;
        leaders.push(format!("{}:{}", broker.host, broker.port));
    }
    Ok((connection, first, leaders))
}

/// Where a partition ends.
async fn end(
    connection: &mut BrokerConnection,
    access: &BrokerAccess,
    topic: &TopicName,
    partition: i32,
) -> Result<i64, DriverError> {
    let asked = ListOffsetsPartition::default().with_partition_index(partition).with_timestamp(END);
    let asked = ListOffsetsTopic::default().with_name(topic.clone()).with_partitions(vec![asked]);
    let request = ListOffsetsRequest::default().with_replica_id(BrokerId(-1)).with_topics(vec![asked]);
    let answer = connection.call(&request, LIST_OFFSETS).await?;
    let found = answer.topics.iter().flat_map(|t| &t.partitions).next();
    let found = found.ok_or_else(|| access.lost("the broker does not say where the partition ends"))?;
    check(access, "ask for the end of a partition", found.error_code)?;
    Ok(found.offset)
}

/// Appends one message.
async fn append(
    connection: &mut BrokerConnection,
    access: &BrokerAccess,
    (topic, partition): (&TopicName, i32),
    acks: i16,
    payload: &[u8],
) -> Result<(), DriverError> {
    let since_epoch = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    let record = Record {
        transactional: false,
        control: false,
        delete_horizon: false,
        partition_leader_epoch: -1,
        producer_id: -1,
        producer_epoch: -1,
        timestamp_type: TimestampType::Creation,
        offset: 0,
        sequence: -1,
        timestamp: i64::try_from(since_epoch.as_millis()).unwrap_or(i64::MAX),
        key: None,
        value: Some(Bytes::copy_from_slice(payload)),
        headers: IndexMap::new(),
    };
    let mut batch = BytesMut::new();
    let plain = RecordEncodeOptions { version: 2, compression: Compression::None };
    RecordBatchEncoder::encode(&mut batch, [&record], &plain)
        .map_err(|e| access.lost(format!("a message cannot be written: {e}")))?;
    let data = PartitionProduceData::default().with_index(partition).with_records(Some(batch.freeze()));
    let data = TopicProduceData::default().with_name(topic.clone()).with_partition_data(vec![data]);
    let timeout_ms = i32::try_from(access.timeout.as_millis()).unwrap_or(i32::MAX);
    let request = ProduceRequest::default().with_acks(acks).with_timeout_ms(timeout_ms).with_topic_data(vec![data]);
    if acks == 0 {
        connection.enqueue(&request, PRODUCE)?;
        return connection.write();
    }
    let answer = connection.call(&request, PRODUCE).await?;
    let found = answer.responses.iter().flat_map(|t| &t.partition_responses).next();
    check(access, "append a message", found.map_or(-1, |p| p.error_code))
}

/// Reads from an offset on until the message is there.
async fn find(
    connection: &mut BrokerConnection,
    access: &BrokerAccess,
    (topic, partition, mut offset): (&TopicName, i32, i64),
    payload: &[u8],
) -> Result<(u64, Bytes), DriverError> {
    loop {
        let asked = FetchPartition::default()
            .with_partition(partition)
            .with_fetch_offset(offset)
            .with_partition_max_bytes(MOST_BYTES);
        let asked = FetchTopic::default().with_topic(topic.clone()).with_partitions(vec![asked]);
        let request = FetchRequest::default()
            .with_replica_id(BrokerId(-1))
            .with_max_wait_ms(WAIT_MS)
            .with_min_bytes(1)
            .with_max_bytes(MOST_BYTES)
            .with_session_epoch(-1)
            .with_topics(vec![asked]);
        let answer = connection.call(&request, FETCH).await?;
        let at = connection.at;
        let Some(found) = answer.responses.into_iter().flat_map(|t| t.partitions).next() else {
            return Err(access.lost("the broker answers a fetch without its partition"));
        };
        check(access, "read a partition", found.error_code)?;
        let mut own = None;
        let read = each_record(found.records.unwrap_or_default(), |number, value| {
            offset = offset.max(number + 1);
            if own.is_none() && value == payload {
                own = Some(value);
            }
        });
        read.map_err(|words| access.lost(words))?;
        if let Some(own) = own {
            return Ok((at, own));
        }
    }
}
