//! What a record costs on its way from the socket to the file: bytes, and nothing of its own.

use std::time::Duration;

use bytes::{BufMut as _, BytesMut};
use kafka_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use kafka_protocol::messages::{ProduceRequest, RequestHeader, TopicName};
use kafka_protocol::protocol::{Encodable as _, StrBytes};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::{KafkaBroker, KafkaConfig, batch};
use crate::allocations::count;
use crate::broker::Shutdown;

const BYTES: usize = 16 << 10;

/// A produce request of the same length, whatever the number of records in it.
fn frame(records: usize) -> Vec<u8> {
    let room = BYTES / records - 10;
    let value = vec![b'v'; room];
    let all: Vec<(&[u8], Option<&[u8]>)> = (0..records).map(|_| (&b""[..], Some(&value[..]))).collect();
    let batch = batch::encode(&all, 1000);
    let part = PartitionProduceData::default().with_records(Some(batch.into()));
    let topic = TopicProduceData::default()
        .with_name(TopicName(StrBytes::from_static_str("t")))
        .with_partition_data(vec![part]);
    let request = ProduceRequest::default().with_acks(-1).with_timeout_ms(1000).with_topic_data(vec![topic]);
    let mut out = BytesMut::new();
    out.put_i32(0);
    RequestHeader::default().with_request_api_version(9).encode(&mut out, 2).unwrap();
    request.encode(&mut out, 9).unwrap();
    let length = out.len() as u32 - 4;
    out[..4].copy_from_slice(&length.to_be_bytes());
    out.to_vec()
}

/// The fewest allocations that a request and its answer have taken in this thread, which does both
/// sides' work.
async fn cost(socket: &mut TcpStream, frame: &[u8]) -> u64 {
    let mut answer = [0; 1024];
    let mut least = u64::MAX;
    for _ in 0..30 {
        let before = count();
        socket.write_all(frame).await.unwrap();
        socket.read_exact(&mut answer[..4]).await.unwrap();
        let length = u32::from_be_bytes([answer[0], answer[1], answer[2], answer[3]]) as usize;
        socket.read_exact(&mut answer[..length]).await.unwrap();
        least = least.min(count() - before);
    }
    least
}

#[test]
fn a_record_costs_no_allocation() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let dir = tempfile::tempdir().unwrap();
    runtime.block_on(async {
        let config = KafkaConfig { listen: "127.0.0.1:0".parse().unwrap(), ..KafkaConfig::new(dir.path()) };
        let broker = KafkaBroker::bind(config).await.unwrap();
        let log = broker.log();
        log.create("t", 1, log.defaults().clone(), Default::default()).unwrap();
        let mut socket = TcpStream::connect(broker.local_addr()).await.unwrap();
        let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
        let serving = tokio::spawn(broker.run(async {
            let _ = stopped.await;
            Shutdown::Now
        }));
        let one = cost(&mut socket, &frame(1)).await;
        let many = cost(&mut socket, &frame(1000)).await;
        assert_eq!(one, many, "allocations of a request with one record, and with a thousand");
        println!("{one} allocations for a request, with one record or with 1000");
        assert!(one < 40, "{one} allocations for a request");
        let end = log.topic("t").unwrap().partition(0).unwrap().bounds().1;
        assert_eq!(end, 30 * 1001);
        drop((stop, socket));
        tokio::time::timeout(Duration::from_secs(10), serving).await.unwrap().unwrap().unwrap();
    });
}
