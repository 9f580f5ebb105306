//! A broker of this process that speaks Kafka's protocol, and a client that says exactly what a
//! test wants said.

// Each test file uses its own part.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use kafka_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use kafka_protocol::messages::*;
use kafka_protocol::protocol::{Decodable, Encodable, HeaderVersion, Request, StrBytes};
use msgbench::broker::Shutdown;
use msgbench::broker::kafka::{KafkaBroker, KafkaConfig, KafkaCounters, batch};
use msgbench::broker::log::{BatchFormat, Log};

/// What may be seen of a broker.
pub struct Seen {
    pub address: SocketAddr,
    pub counters: Arc<KafkaCounters>,
    pub log: Arc<Log>,
}

pub type Running = crate::running::Running<Seen>;

/// Starts a broker on a free loopback port.
pub fn start(config: KafkaConfig) -> Running {
    crate::running::run(move |ready, stopped| async move {
        let listen = "127.0.0.1:0".parse().unwrap();
        let broker = KafkaBroker::bind(KafkaConfig { listen, ..config }).await?;
        let seen = Seen { address: broker.local_addr(), counters: broker.counters(), log: broker.log() };
        assert!(ready.send(seen).is_ok());
        broker.run(async { stopped.await.unwrap_or(Shutdown::Now) }).await
    })
}

/// A client of one connection.
pub struct Client {
    pub stream: TcpStream,
    correlation: i32,
}

pub fn text(text: impl Into<String>) -> StrBytes {
    StrBytes::from_string(text.into())
}

pub fn topic_name(name: &str) -> TopicName {
    TopicName(text(name))
}

/// The bytes of a request, with header and length.
pub fn frame<R: Request + HeaderVersion>(request: &R, version: i16, correlation: i32) -> BytesMut {
    let mut out = BytesMut::new();
    out.put_i32(0);
    let header = RequestHeader::default()
        .with_request_api_key(R::KEY)
        .with_request_api_version(version)
        .with_correlation_id(correlation)
        .with_client_id(Some(StrBytes::from_static_str("test")));
    header.encode(&mut out, R::header_version(version)).unwrap();
    request.encode(&mut out, version).unwrap();
    let length = out.len() as i32 - 4;
    out[..4].copy_from_slice(&length.to_be_bytes());
    out
}

impl Client {
    pub fn connect(address: SocketAddr) -> Self {
        Self::try_connect(address).unwrap()
    }

    pub fn try_connect(address: SocketAddr) -> std::io::Result<Self> {
        let stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(Duration::from_secs(60)))?;
        Ok(Self { stream, correlation: 0 })
    }

    /// Sends a request; its answer is to be [`receive`](Self::receive)d.
    pub fn send<R: Request + HeaderVersion>(&mut self, request: &R, version: i16) -> std::io::Result<i32> {
        self.correlation += 1;
        self.stream.write_all(&frame(request, version, self.correlation))?;
        Ok(self.correlation)
    }

    /// One answer: its bytes without length.
    pub fn answer(&mut self) -> std::io::Result<Bytes> {
        let mut length = [0; 4];
        self.stream.read_exact(&mut length)?;
        let mut body = vec![0; u32::from_be_bytes(length) as usize];
        self.stream.read_exact(&mut body)?;
        Ok(body.into())
    }

    /// The answer to a request of that kind, and to which.
    pub fn receive<A: Decodable + HeaderVersion>(&mut self, version: i16) -> std::io::Result<(i32, A)> {
        let mut body = self.answer()?;
        let header = ResponseHeader::decode(&mut body, A::header_version(version)).unwrap();
        let answer = A::decode(&mut body, version).unwrap();
        assert_eq!(body.remaining(), 0, "the answer ends where it should");
        Ok((header.correlation_id, answer))
    }

    pub fn call<R>(&mut self, request: &R, version: i16) -> R::Response
    where
        R: Request + HeaderVersion,
        R::Response: Decodable + HeaderVersion,
    {
        let asked = self.send(request, version).unwrap();
        let (answered, answer) = self.receive(version).unwrap();
        assert_eq!(asked, answered);
        answer
    }

    pub fn create(&mut self, name: &str, partitions: i32, configs: &[(&str, &str)]) {
        let configs = configs.iter().map(|(name, value)| {
            create_topics_request::CreatableTopicConfig::default().with_name(text(*name)).with_value(Some(text(*value)))
        });
        let topic = create_topics_request::CreatableTopic::default()
            .with_name(topic_name(name))
            .with_num_partitions(partitions)
            .with_replication_factor(1)
            .with_configs(configs.collect());
        let made = self.call(&CreateTopicsRequest::default().with_topics(vec![topic]), 5);
        assert_eq!(made.topics[0].error_code, 0, "{:?}", made.topics[0].error_message);
    }

    /// Produces a batch and returns error and offset.
    pub fn produce(&mut self, topic: &str, partition: i32, batch: Vec<u8>) -> (i16, i64) {
        let answer = self.call(&produce(topic, partition, batch, -1), 9);
        let part = &answer.responses[0].partition_responses[0];
        (part.error_code, part.base_offset)
    }

    /// Commits an offset for a group without members, and returns the error.
    pub fn commit(&mut self, group: &str, topic: &str, partition: i32, offset: i64) -> i16 {
        let part = offset_commit_request::OffsetCommitRequestPartition::default()
            .with_partition_index(partition)
            .with_committed_offset(offset);
        let topic = offset_commit_request::OffsetCommitRequestTopic::default()
            .with_name(topic_name(topic))
            .with_partitions(vec![part]);
        let request = OffsetCommitRequest::default()
            .with_group_id(GroupId(text(group)))
            .with_generation_id_or_member_epoch(-1)
            .with_topics(vec![topic]);
        self.call(&request, 8).topics[0].partitions[0].error_code
    }

    /// What a group has committed; -1 when nothing.
    pub fn committed(&mut self, group: &str, topic: &str, partition: i32) -> i64 {
        let topic = offset_fetch_request::OffsetFetchRequestTopic::default()
            .with_name(topic_name(topic))
            .with_partition_indexes(vec![partition]);
        let request = OffsetFetchRequest::default().with_group_id(GroupId(text(group))).with_topics(Some(vec![topic]));
        self.call(&request, 7).topics[0].partitions[0].committed_offset
    }

    /// Fetches once: error, end of the log, and the bytes.
    pub fn fetch(&mut self, topic: &str, partition: i32, offset: i64, wait: i32) -> (i16, i64, Bytes) {
        let answer = self.call(&fetch(topic, partition, offset, wait, 8 << 20), 11);
        let part = &answer.responses[0].partitions[0];
        (part.error_code, part.high_watermark, part.records.clone().unwrap_or_default())
    }

    /// Every record of a partition from an offset on: its offset, key and value.
    pub fn read_all(&mut self, topic: &str, partition: i32, from: i64) -> Vec<(i64, Vec<u8>, Vec<u8>)> {
        let mut found = Vec::new();
        let mut at = from;
        loop {
            let (code, end, bytes) = self.fetch(topic, partition, at, 0);
            assert_eq!(code, 0);
            let mut rest = &bytes[..];
            while let Ok(view) = batch::RecordBatches.view(rest)
                && view.len <= rest.len()
            {
                assert!(batch::RecordBatches.intact(&rest[..view.len]));
                for record in batch::records(&rest[..view.len]).unwrap() {
                    let record = record.unwrap();
                    let offset = view.base as i64 + i64::from(record.offset);
                    if offset >= at {
                        found.push((
                            offset,
                            record.key.unwrap_or_default().to_vec(),
                            record.value.unwrap_or_default().to_vec(),
                        ));
                    }
                }
                at = at.max(view.next() as i64);
                rest = &rest[view.len..];
            }
            if at >= end || bytes.is_empty() {
                return found;
            }
        }
    }
}

pub fn produce(topic: &str, partition: i32, batch: Vec<u8>, acks: i16) -> ProduceRequest {
    let part = PartitionProduceData::default().with_index(partition).with_records(Some(batch.into()));
    let data = TopicProduceData::default().with_name(topic_name(topic)).with_partition_data(vec![part]);
    ProduceRequest::default().with_acks(acks).with_timeout_ms(10_000).with_topic_data(vec![data])
}

pub fn fetch(topic: &str, partition: i32, offset: i64, wait: i32, max: i32) -> FetchRequest {
    let part = fetch_request::FetchPartition::default()
        .with_partition(partition)
        .with_fetch_offset(offset)
        .with_partition_max_bytes(max);
    let topic = fetch_request::FetchTopic::default().with_topic(topic_name(topic)).with_partitions(vec![part]);
    FetchRequest::default().with_max_wait_ms(wait).with_min_bytes(1).with_max_bytes(50 << 20).with_topics(vec![topic])
}

/// A batch of records without compression, of this moment: older ones would be retention's.
pub fn batch_of(records: &[(&str, &str)]) -> Vec<u8> {
    let bytes: Vec<(&[u8], Option<&[u8]>)> = records.iter().map(|(k, v)| (k.as_bytes(), Some(v.as_bytes()))).collect();
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    batch::encode(&bytes, now.as_millis() as i64)
}

/// The same from a numbered producer.
pub fn numbered(records: &[(&str, &str)], producer: i64, epoch: i16, sequence: i32) -> Vec<u8> {
    let mut batch = batch_of(records);
    batch[43..51].copy_from_slice(&producer.to_be_bytes());
    batch[51..53].copy_from_slice(&epoch.to_be_bytes());
    batch[53..57].copy_from_slice(&sequence.to_be_bytes());
    let sum = crc32c::crc32c(&batch[21..]);
    batch[17..21].copy_from_slice(&sum.to_be_bytes());
    batch
}
