//! Records inside compressed batches, and what is said of the ones refused: the same to a Kafka and
//! to this broker.

use std::io::Write;
use std::net::SocketAddr;
use std::ops::ControlFlow;

use crate::log_rules::{Answers, lines, make, newest, now, settled, so_by_kafka};
use crate::log_support::*;
use kafka_protocol::messages::produce_response::BatchIndexAndErrorMessage;
use msgbench::broker::kafka::batch::{self, RecordBatches};
use msgbench::broker::kafka::{KafkaConfig, compressed};
use msgbench::broker::log::BatchFormat as _;

/// What the records are compressed with: a name, and the protocol's number.
pub const CODECS: [(&str, u8); 6] =
    [("none", 0), ("gzip", 1), ("snappy", 2), ("snappy-java", 2), ("lz4", 3), ("zstd", 4)];

fn varint(out: &mut Vec<u8>, value: i64) {
    let mut value = ((value << 1) ^ (value >> 63)) as u64;
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// Records: whether there is a key, and the time.
fn records(of: &[(bool, i64)]) -> Vec<u8> {
    let mut out = Vec::new();
    for (n, (keyed, time)) in of.iter().enumerate() {
        let mut record = vec![0];
        varint(&mut record, time - of[0].1);
        varint(&mut record, n as i64);
        varint(&mut record, if *keyed { 1 } else { -1 });
        record.extend_from_slice(if *keyed { b"k" } else { b"" });
        varint(&mut record, 5);
        record.extend_from_slice(b"value");
        varint(&mut record, 0);
        varint(&mut out, record.len() as i64);
        out.extend_from_slice(&record);
    }
    out
}

fn compress(records: &[u8], codec: &str) -> Vec<u8> {
    match codec {
        "gzip" => {
            let mut out = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
            out.write_all(records).unwrap();
            out.finish().unwrap()
        }
        "snappy" => snap::raw::Encoder::new().compress_vec(records).unwrap(),
        "snappy-java" => {
            let mut out = b"\x82SNAPPY\0\0\0\0\x01\0\0\0\x01".to_vec();
            for block in records.chunks(20) {
                let block = snap::raw::Encoder::new().compress_vec(block).unwrap();
                out.extend_from_slice(&(block.len() as u32).to_be_bytes());
                out.extend_from_slice(&block);
            }
            out
        }
        "lz4" => {
            let mut out = lz4_flex::frame::FrameEncoder::new(Vec::new());
            out.write_all(records).unwrap();
            out.finish().unwrap()
        }
        "zstd" => ruzstd::encoding::compress_to_vec(records, ruzstd::encoding::CompressionLevel::Fastest),
        _ => records.to_vec(),
    }
}

/// A batch of these records that says it has `count`.
fn batch_with(of: &[(bool, i64)], count: usize, codec: (&str, u8), body: &[u8]) -> Vec<u8> {
    let mut out = batch::encode(&[(b"k", None)], of[0].1)[..batch::HEADER].to_vec();
    out.extend_from_slice(body);
    let newest = of.iter().map(|(_, time)| *time).max().unwrap();
    let len = out.len() as i32 - 12;
    out[8..12].copy_from_slice(&len.to_be_bytes());
    out[22] |= codec.1;
    out[23..27].copy_from_slice(&(count as i32 - 1).to_be_bytes());
    out[35..43].copy_from_slice(&newest.to_be_bytes());
    out[57..61].copy_from_slice(&(count as i32).to_be_bytes());
    let sum = crc32c::crc32c(&out[21..]);
    out[17..21].copy_from_slice(&sum.to_be_bytes());
    out
}

pub fn batch_of(of: &[(bool, i64)], codec: (&str, u8)) -> Vec<u8> {
    batch_with(of, of.len(), codec, &compress(&records(of), codec.0))
}

/// Error, offset, and the records that are named with words of their own; then there are words for
/// all together, too.
pub fn produced(client: &mut Client, topic: &str, batch: Vec<u8>) -> String {
    let answer = client.call(&produce(topic, 0, batch, -1), 9);
    let part = &answer.responses[0].partition_responses[0];
    let named: Vec<i32> = part.record_errors.iter().map(|error| error.batch_index).collect();
    let has_words = |error: &BatchIndexAndErrorMessage| error.batch_index_error_message.is_some();
    assert!(part.record_errors.iter().all(has_words) && (named.is_empty() || part.error_message.is_some()));
    format!("{} at {}, {named:?}", part.error_code, part.base_offset)
}

fn answers(address: SocketAddr) -> Answers {
    let mut client = Client::connect(address);
    let client = &mut client;
    let mut all = Answers::new();
    for codec in CODECS {
        let (kept, plain) = (format!("kept.{}", codec.0), format!("plain.{}", codec.0));
        make(client, &[&kept], &[("cleanup.policy", "compact")], false);
        make(client, &[&plain], &[], false);
        settled(client, &kept);
        settled(client, &plain);
        let mut note = |what: &str, answer: String| all.push((format!("{}: {what}", codec.0), answer));
        let (t, hours) = (now(), 3_600_000);
        for (what, of) in [
            ("keys", &[(true, t), (true, t), (true, t)][..]),
            ("a record without key", &[(true, t), (false, t), (true, t)]),
            ("five without", &[(false, t), (false, t), (false, t), (false, t), (true, t), (false, t)]),
            ("two ahead", &[(true, t), (true, t + 2 * hours), (true, t), (true, t + 3 * hours)]),
            ("one without key, one ahead", &[(false, t), (true, t + 2 * hours)]),
            ("one both", &[(true, t), (false, t + 2 * hours)]),
        ] {
            note(what, produced(client, &kept, batch_of(of, codec)));
        }
        let ahead = [(false, t), (true, t + 2 * hours), (false, t), (true, t + 2 * hours)];
        note("two ahead, not compacted", produced(client, &plain, batch_of(&ahead, codec)));
        let three = [(true, t), (true, t), (true, t)];
        let body = compress(&records(&three), codec.0);
        note("one more than it says", produced(client, &kept, batch_with(&three, 2, codec, &body)));
        note("one less than it says", produced(client, &kept, batch_with(&three, 4, codec, &body)));
        note("bytes of nothing", produced(client, &kept, batch_with(&three, 3, codec, &[7; 40])));

        let old = t - 100 * hours;
        for (what, of) in [
            ("the newest is the second", &[(true, old), (true, old + 5), (true, old + 3)][..]),
            ("an older batch after it", &[(true, old + 1), (true, old + 2)]),
            ("as new, later", &[(true, old + 5), (true, old + 5)]),
            ("newer, the last", &[(true, old), (false, old), (true, old + 9)]),
        ] {
            note(what, produced(client, &plain, batch_of(of, codec)));
            let (offset, time) = newest(client, &plain);
            note("the newest time", format!("{offset}, {} ms", time - old));
        }
    }
    for kind in ["producer", "uncompressed", "gzip", "snappy", "lz4", "zstd"] {
        let topic = format!("to.{kind}");
        make(client, &[&topic], &[("compression.type", kind)], false);
        settled(client, &topic);
        for codec in CODECS {
            // Of several blocks.
            let of: Vec<_> = (0..5000).map(|n| (true, now() + n % 7)).collect();
            // A Kafka's broker may learn of its topics after it has shown them.
            let mut tries = (0..200).map(|_| client.produce(&topic, 0, batch_of(&of, codec)));
            let Some((0, base)) = tries.find(|(code, _)| !matches!(code, 3 | 5 | 6)) else {
                panic!("{kind} {codec:?}")
            };
            let fetched = (0..20).map(|_| client.fetch(&topic, 0, base, 1000));
            let bytes =
                fetched.map(|(code, _, bytes)| (code, bytes)).find(|(code, bytes)| *code != 0 || !bytes.is_empty());
            let (code, bytes) = bytes.unwrap();
            assert_eq!(code, 0, "{kind} {codec:?}");
            let view = RecordBatches.view(&bytes).unwrap();
            let bytes = &bytes[..view.len];
            assert!(RecordBatches.intact(bytes));
            let mut seen = 0;
            let read = compressed::walk(bytes, |record| {
                seen += i32::from(record.keyed && record.index as u32 == record.offset);
                ControlFlow::Continue(())
            });
            let answer = format!("{seen} records of codec {}, {read:?}", batch::codec(bytes));
            all.push((format!("compression.type {kind}, sent with {}", codec.0), answer));
        }
    }
    all
}

/// The answers of Kafka 4.4.0, a line each.
const KAFKA: &str = include_str!("log_compressed.txt");

#[test]
fn compressed_records_are_judged_as_by_kafka() {
    let dir = tempfile::tempdir().unwrap();
    let broker = start(KafkaConfig::new(dir.path()));
    let ours = lines(&answers(broker.address));
    // What cannot be read at all is an error of the server in a Kafka.
    let kafka = KAFKA.lines().map(|line| line.replace("nothing: -1 at", "nothing: 87 at"));
    let different: Vec<_> = ours.iter().zip(kafka).filter(|(ours, kafka)| *ours != kafka).collect();
    assert!(different.is_empty(), "{different:#?}");
    assert_eq!(ours.len(), KAFKA.lines().count());
}

#[test]
fn compressed_records_are_judged_so_by_kafka() {
    so_by_kafka(KAFKA, answers);
}
