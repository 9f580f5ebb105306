//! A bare Kafka client: bytes made beforehand, answers checked.

use std::io::{BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::{BufMut, Bytes, BytesMut};
use kafka_protocol::messages::*;
use kafka_protocol::protocol::{Decodable, Encodable, HeaderVersion, Request, StrBytes};
use msgbench::broker::kafka::batch::{self, RecordBatches};
use msgbench::broker::log::BatchFormat as _;

use crate::Outcome;

/// Bound on every answer.
const PATIENCE: Duration = Duration::from_secs(30);
const PRODUCE: i16 = 9;
const FETCH: i16 = 11;

/// The bytes of a request; its correlation id is put in later.
fn frame<R: Request + HeaderVersion>(request: &R, version: i16) -> Outcome<Vec<u8>> {
    let mut out = BytesMut::new();
    out.put_i32(0);
    let header = RequestHeader::default()
        .with_request_api_key(R::KEY)
        .with_request_api_version(version)
        .with_client_id(Some(StrBytes::from_static_str("compare")));
    header.encode(&mut out, R::header_version(version))?;
    request.encode(&mut out, version)?;
    let length = i32::try_from(out.len())? - 4;
    out[..4].copy_from_slice(&length.to_be_bytes());
    Ok(out.to_vec())
}

fn topic_name(name: &str) -> TopicName {
    TopicName(StrBytes::from_string(name.to_owned()))
}

/// A batch of `count` records with values of that size, of this moment.
pub fn batch(count: usize, size: usize) -> Vec<u8> {
    let value = vec![b'v'; size];
    let records: Vec<(&[u8], Option<&[u8]>)> = (0..count).map(|_| (&b""[..], Some(value.as_slice()))).collect();
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as i64);
    batch::encode(&records, now)
}

/// The bytes of a produce request with one batch, acks=all.
pub fn produce(topic: &str, partition: i32, batch: Vec<u8>) -> Outcome<Vec<u8>> {
    let part = produce_request::PartitionProduceData::default().with_index(partition).with_records(Some(batch.into()));
    let data =
        produce_request::TopicProduceData::default().with_name(topic_name(topic)).with_partition_data(vec![part]);
    frame(&ProduceRequest::default().with_acks(-1).with_timeout_ms(30_000).with_topic_data(vec![data]), PRODUCE)
}

pub struct Client {
    stream: BufReader<TcpStream>,
    correlation: i32,
}

impl Client {
    pub fn connect(address: SocketAddr) -> Outcome<Self> {
        let stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        Ok(Self { stream: BufReader::with_capacity(64 << 10, stream), correlation: 0 })
    }

    /// Sends a request whose bytes are there already.
    pub fn send(&mut self, frame: &mut [u8]) -> Outcome<()> {
        self.correlation += 1;
        frame[8..12].copy_from_slice(&self.correlation.to_be_bytes());
        Ok(self.stream.get_mut().write_all(frame)?)
    }

    /// Sends so many copies of a request at once.
    pub fn send_all(&mut self, frame: &[u8], count: usize) -> Outcome<()> {
        let mut bytes = Vec::with_capacity(frame.len() * count);
        for _ in 0..count {
            self.correlation += 1;
            let at = bytes.len();
            bytes.extend_from_slice(frame);
            bytes[at + 8..at + 12].copy_from_slice(&self.correlation.to_be_bytes());
        }
        Ok(self.stream.get_mut().write_all(&bytes)?)
    }

    /// The sending half, for a thread of its own.
    pub fn sender(&self) -> Outcome<Sender> {
        Ok(Sender { stream: self.stream.get_ref().try_clone()?, correlation: self.correlation })
    }

    /// Whether another answer has been received whole.
    pub fn has_answer(&self) -> bool {
        let there = self.stream.buffer();
        there.first_chunk::<4>().is_some_and(|length| there.len() - 4 >= u32::from_be_bytes(*length) as usize)
    }

    fn answer(&mut self) -> Outcome<Bytes> {
        let mut length = [0; 4];
        self.stream.read_exact(&mut length)?;
        let mut body = vec![0; u32::from_be_bytes(length) as usize];
        self.stream.read_exact(&mut body)?;
        Ok(body.into())
    }

    fn receive<A: Decodable + HeaderVersion>(&mut self, version: i16) -> Outcome<A> {
        let mut body = self.answer()?;
        ResponseHeader::decode(&mut body, A::header_version(version))?;
        Ok(A::decode(&mut body, version)?)
    }

    fn call<R>(&mut self, request: &R, version: i16) -> Outcome<R::Response>
    where
        R: Request + HeaderVersion,
        R::Response: Decodable + HeaderVersion,
    {
        self.send(&mut frame(request, version)?)?;
        self.receive(version)
    }

    /// Makes a topic, and waits until its partitions can be written to.
    pub fn create(&mut self, name: &str, partitions: i32, settings: &[(&str, &str)]) -> Outcome<()> {
        let text = |text: &str| StrBytes::from_string(text.to_owned());
        let settings = settings.iter().map(|(key, value)| {
            create_topics_request::CreatableTopicConfig::default().with_name(text(key)).with_value(Some(text(value)))
        });
        let topic = create_topics_request::CreatableTopic::default()
            .with_name(topic_name(name))
            .with_num_partitions(partitions)
            .with_replication_factor(1)
            .with_configs(settings.collect());
        let made = self.call(&CreateTopicsRequest::default().with_topics(vec![topic]).with_timeout_ms(10_000), 5)?;
        if made.topics[0].error_code != 0 {
            return Err(format!("create {name}: error {}", made.topics[0].error_code).into());
        }
        for partition in 0..partitions {
            let mut probe = produce(name, partition, batch(1, 1))?;
            for attempt in 0.. {
                self.send(&mut probe)?;
                match self.acknowledged() {
                    Ok(_) => break,
                    Err(error) if attempt > 100 => return Err(error),
                    Err(_) => std::thread::sleep(Duration::from_millis(20)),
                }
            }
        }
        Ok(())
    }

    /// Deletes a topic, so that its files do not pile up.
    pub fn delete(&mut self, name: &str) -> Outcome<()> {
        let request = DeleteTopicsRequest::default().with_topic_names(vec![topic_name(name)]).with_timeout_ms(10_000);
        let gone = self.call(&request, 4)?;
        match gone.responses[0].error_code {
            0 => Ok(()),
            code => Err(format!("delete {name}: error {code}").into()),
        }
    }

    /// The next acknowledgement: the offset given.
    pub fn acknowledged(&mut self) -> Outcome<i64> {
        let answer: ProduceResponse = self.receive(PRODUCE)?;
        let part = &answer.responses[0].partition_responses[0];
        match part.error_code {
            0 => Ok(part.base_offset),
            code => Err(format!("produce: error {code}").into()),
        }
    }
}

/// The sending half of a connection.
pub struct Sender {
    stream: TcpStream,
    correlation: i32,
}

impl Sender {
    /// Sends a request whose bytes are there already.
    pub fn send(&mut self, frame: &mut [u8]) -> Outcome<()> {
        self.correlation += 1;
        frame[8..12].copy_from_slice(&self.correlation.to_be_bytes());
        Ok(self.stream.write_all(frame)?)
    }
}

/// Reads all partitions of a topic from their beginning on.
pub struct Reader {
    client: Client,
    request: FetchRequest,
    /// The next offset of each partition.
    at: Vec<i64>,
}

impl Reader {
    pub fn open(address: SocketAddr, topic: &str, partitions: i32) -> Outcome<Self> {
        let parts = (0..partitions).map(|index| {
            fetch_request::FetchPartition::default().with_partition(index).with_partition_max_bytes(1 << 20)
        });
        let wanted =
            fetch_request::FetchTopic::default().with_topic(topic_name(topic)).with_partitions(parts.collect());
        let request = FetchRequest::default()
            .with_max_wait_ms(500)
            .with_min_bytes(1)
            .with_max_bytes(50 << 20)
            .with_session_epoch(-1)
            .with_topics(vec![wanted]);
        Ok(Self { client: Client::connect(address)?, request, at: vec![0; partitions as usize] })
    }

    /// Asks for what follows.
    pub fn ask(&mut self) -> Outcome<()> {
        for part in &mut self.request.topics[0].partitions {
            part.fetch_offset = self.at[part.partition as usize];
        }
        let mut bytes = frame(&self.request, FETCH)?;
        self.client.send(&mut bytes)
    }

    /// Takes the answer; gives each whole batch to `each`, and returns how many records there were.
    /// Offsets must follow one another.
    pub fn take(&mut self, mut each: impl FnMut(&[u8])) -> Outcome<u64> {
        let answer: FetchResponse = self.client.receive(FETCH)?;
        let mut count = 0;
        for part in &answer.responses[0].partitions {
            if part.error_code != 0 {
                return Err(format!("fetch: error {}", part.error_code).into());
            }
            let bytes = part.records.clone().unwrap_or_default();
            let mut rest = &bytes[..];
            let at = &mut self.at[part.partition_index as usize];
            while let Ok(view) = RecordBatches.view(rest)
                && view.len <= rest.len()
            {
                if view.base as i64 != *at {
                    return Err(format!("offset {} where {at} was to come", view.base).into());
                }
                each(&rest[..view.len]);
                *at = view.next() as i64;
                count += u64::from(view.count);
                rest = &rest[view.len..];
            }
        }
        Ok(count)
    }
}
