//! A member and a broker that answers as a test says.

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use kafka_protocol::messages::share_fetch_response::{AcquiredRecords, PartitionData, ShareFetchableTopicResponse};
use kafka_protocol::messages::{RequestHeader, ResponseHeader, ShareFetchRequest, ShareFetchResponse};
use kafka_protocol::protocol::{Decodable as _, Encodable as _};
use tokio::sync::watch;
use uuid::Uuid;

use super::connection::BrokerAccess;
use super::records::tests::batch;
use super::*;
use crate::driver::MessageSink;

const LONG: Duration = Duration::from_secs(20);
const VERSION: i16 = 1;

/// A broker that answers the fetches of all its connections by their number, from 0, or not at all.
/// Its address, and the fetches.
fn broker(
    answer: impl Fn(usize) -> Option<ShareFetchResponse> + Send + 'static,
) -> (String, Receiver<ShareFetchRequest>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let (tell, told) = channel();
    std::thread::spawn(move || {
        let mut fetches = 0;
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            while let Some((correlation, fetch)) = request(&mut stream) {
                if tell.send(fetch).is_err() {
                    return;
                }
                fetches += 1;
                if let Some(answer) = answer(fetches - 1) {
                    respond(&mut stream, correlation, &answer);
                }
            }
        }
    });
    (address, told)
}

/// The next fetch of a connection; none at its end.
fn request(stream: &mut TcpStream) -> Option<(i32, ShareFetchRequest)> {
    let mut length = [0; 4];
    stream.read_exact(&mut length).ok()?;
    let mut frame = vec![0; u32::from_be_bytes(length) as usize];
    stream.read_exact(&mut frame).ok()?;
    let mut frame = Bytes::from(frame);
    let header = RequestHeader::decode(&mut frame, 2).unwrap();
    Some((header.correlation_id, ShareFetchRequest::decode(&mut frame, VERSION).unwrap()))
}

fn respond(stream: &mut TcpStream, correlation: i32, answer: &ShareFetchResponse) {
    let mut out = BytesMut::from(&[0; 4][..]);
    ResponseHeader::default().with_correlation_id(correlation).encode(&mut out, 1).unwrap();
    answer.encode(&mut out, VERSION).unwrap();
    let length = out.len() as u32 - 4;
    out[..4].copy_from_slice(&length.to_be_bytes());
    // A client that has gone needs no answer.
    let _ = stream.write_all(&out);
}

/// Two messages of partition 0, delivered for the nth time.
fn two(delivery: i16) -> ShareFetchResponse {
    let acquired = AcquiredRecords::default().with_first_offset(0).with_last_offset(1).with_delivery_count(delivery);
    let part = PartitionData::default()
        .with_records(Some(batch(0, 0, &[b"a".to_vec(), b"b".to_vec()]).into()))
        .with_acquired_records(vec![acquired]);
    let topic = ShareFetchableTopicResponse::default().with_topic_id(Uuid::from_u128(7)).with_partitions(vec![part]);
    ShareFetchResponse::default().with_responses(vec![topic])
}

fn lost_session() -> ShareFetchResponse {
    ShareFetchResponse::default().with_error_code(122)
}

struct MemberBench {
    runtime: tokio::runtime::Runtime,
    consumer: ShareConsumer,
    layout: watch::Sender<ShareLayout>,
}

/// A member that reads partition 0 of the broker.
fn member(address: &str, timeout: Duration) -> MemberBench {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let access = BrokerAccess { url: address.into(), timeout, login: None };
    let identity = ShareIdentity {
        access,
        servers: Vec::new(),
        group: "g".into(),
        member: "m".into(),
        topic: "t".into(),
        topic_id: Uuid::from_u128(7),
    };
    let partitions = BTreeMap::from([(0, address.to_owned())]);
    let (layout, told) = watch::channel(ShareLayout { partitions, failed: None });
    let consumer = runtime.block_on(async {
        let mut member = ShareMember::told(identity, told);
        member.layout.mark_changed();
        ShareConsumer {
            member,
            sessions: Vec::new(),
            begun: 0,
            options: ShareOptions::default(),
            limit: 5,
            dead: None,
            counts_dead: false,
            held: VecDeque::new(),
            incidents: Incidents::default(),
            silent: true,
        }
    });
    MemberBench { runtime, consumer, layout }
}

/// Holds everything.
struct Holder(usize);

impl MessageSink for Holder {
    fn take(&mut self, _: Incoming<'_>) -> Disposition {
        self.0 += 1;
        Disposition::Hold
    }
    fn dead_letter(&mut self, _: Incoming<'_>) {}
}

impl MemberBench {
    /// Receives until `enough` messages came, or for a moment.
    fn receive(&mut self, holder: &mut Holder, enough: usize) {
        let end = Instant::now() + LONG;
        while holder.0 < enough {
            assert!(Instant::now() < end, "{} of {enough} messages", holder.0);
            let receive = self.consumer.receive(holder, usize::MAX);
            let slice = self.runtime.block_on(async { tokio::time::timeout(Duration::from_millis(20), receive).await });
            if let Ok(done) = slice {
                done.unwrap();
            }
        }
    }

    /// Receives until the broker has had a fetch more; the fetch.
    fn fetch(&mut self, holder: &mut Holder, fetches: &Receiver<ShareFetchRequest>) -> ShareFetchRequest {
        let end = Instant::now() + LONG;
        loop {
            if let Ok(fetch) = fetches.try_recv() {
                return fetch;
            }
            assert!(Instant::now() < end, "there is no fetch");
            let receive = self.consumer.receive(holder, usize::MAX);
            let slice = self.runtime.block_on(async { tokio::time::timeout(Duration::from_millis(20), receive).await });
            if let Ok(done) = slice {
                done.unwrap();
            }
        }
    }
}

/// The offsets that a fetch says something of.
fn said(fetch: &ShareFetchRequest) -> Vec<i64> {
    let parts = fetch.topics.iter().flat_map(|topic| &topic.partitions);
    let runs = parts.flat_map(|part| &part.acknowledgement_batches);
    runs.flat_map(|run| run.first_offset..=run.last_offset).collect()
}

#[test]
fn what_was_held_in_a_lost_session_is_not_accepted_in_the_next() {
    let (address, fetches) = broker(|n| match n {
        0 => Some(two(1)),
        1 => Some(lost_session()),
        2 => Some(two(2)),
        // A moment later: the next request would follow at once.
        _ => None,
    });
    let mut bench = member(&address, LONG);
    let mut holder = Holder(0);
    bench.receive(&mut holder, 4);
    // The two of the lost session: the broker has given them out anew, and is told nothing.
    bench.consumer.settle(2);
    assert!(bench.consumer.sessions.iter().all(|session| session.acks.is_empty()));
    for epoch in [0, 1, 0] {
        let fetch = bench.fetch(&mut holder, &fetches);
        assert_eq!((fetch.share_session_epoch, said(&fetch)), (epoch, Vec::new()));
    }
    // Those of the present one.
    bench.consumer.settle(2);
    let acks: usize = bench.consumer.sessions.iter().map(|session| session.acks.count()).sum();
    assert_eq!(acks, 2);
}

/// A member that is to read a partition no more may still have messages of it, which go to others
/// when its session ends.
#[test]
fn what_is_held_of_a_partition_that_was_taken_away_can_still_be_accepted() {
    let (address, fetches) = broker(|n| {
        // One fetch follows the other.
        std::thread::sleep(Duration::from_millis(5));
        Some(if n == 0 { two(1) } else { ShareFetchResponse::default() })
    });
    let mut bench = member(&address, LONG);
    let mut holder = Holder(0);
    bench.receive(&mut holder, 2);
    bench.layout.send(ShareLayout::default()).unwrap();
    while bench.fetch(&mut holder, &fetches).forgotten_topics_data.is_empty() {}
    let slice = Duration::from_millis(200);
    let receive = bench.consumer.receive(&mut holder, usize::MAX);
    assert!(bench.runtime.block_on(async { tokio::time::timeout(slice, receive).await }).is_err());
    bench.consumer.settle(2);
    let acks: usize = bench.consumer.sessions.iter().map(|session| session.acks.count()).sum();
    assert_eq!(acks, 2);
}

#[test]
fn an_answer_that_never_comes_is_given_up() {
    let (address, fetches) = broker(|n| (n > 0).then(|| two(1)));
    let mut bench = member(&address, Duration::from_millis(300));
    let mut holder = Holder(0);
    assert_eq!(bench.fetch(&mut holder, &fetches).share_session_epoch, 0);
    bench.receive(&mut holder, 2);
    assert_eq!(fetches.recv_timeout(LONG).unwrap().share_session_epoch, 0, "the session began anew");
}
