use kafka_protocol::indexmap::IndexMap;
use kafka_protocol::records::{Compression, Record, RecordBatchEncoder, RecordEncodeOptions, TimestampType};
use proptest::prelude::*;

use super::*;

const PLAIN: i64 = -1;

/// What a record has beside its value.
#[derive(Debug, Clone, Copy, Default)]
struct Marks {
    producer: i64,
    transactional: bool,
    control: bool,
}

/// A batch as another implementation of the format writes it; a snappy one is made of it.
fn batch(base: i64, marks: Marks, key: Option<&[u8]>, values: &[Vec<u8>], snappy: bool) -> Vec<u8> {
    let record = |(i, value): (usize, &Vec<u8>)| Record {
        transactional: marks.transactional,
        control: marks.control,
        delete_horizon: false,
        partition_leader_epoch: 3,
        producer_id: marks.producer,
        producer_epoch: 0,
        timestamp_type: TimestampType::Creation,
        offset: base + i as i64,
        sequence: i as i32,
        timestamp: 1_700_000_000_000 + i as i64,
        key: key.map(Bytes::copy_from_slice),
        value: Some(Bytes::from(value.clone())),
        headers: IndexMap::new(),
    };
    let records: Vec<Record> = values.iter().enumerate().map(record).collect();
    let mut out = bytes::BytesMut::new();
    let plain = RecordEncodeOptions { version: 2, compression: Compression::None };
    RecordBatchEncoder::encode(&mut out, &records, &plain).unwrap();
    let mut out = out.to_vec();
    assert_eq!(out[..8], base.to_be_bytes(), "all records are in one batch");
    if snappy {
        let body = snap::raw::Encoder::new().compress_vec(&out[HEAD..]).unwrap();
        out.truncate(HEAD);
        out.extend(body);
        let length = (out.len() - BEFORE) as u32;
        out[8..12].copy_from_slice(&length.to_be_bytes());
        out[22] |= 2;
        seal(&mut out);
    }
    out
}

fn seal(batch: &mut [u8]) {
    let crc = crc32c::crc32c(&batch[COVERED..]);
    batch[COVERED - 4..COVERED].copy_from_slice(&crc.to_be_bytes());
}

fn plain(base: i64, values: &[Vec<u8>]) -> Vec<u8> {
    batch(base, Marks { producer: PLAIN, ..Marks::default() }, None, values, false)
}

/// Messages, the offset behind them, and the one behind the answer.
type ReadAnswer = (Vec<Vec<u8>>, i64, Option<i64>);

/// Everything that is given, `limit` messages at a time, and the offset behind it.
fn read(bytes: Vec<u8>, from: i64, aborted: &[(i64, i64)], limit: usize) -> Result<ReadAnswer, String> {
    let next = next_offset(&bytes)?;
    let mut records = FetchedRecords::new(0, 1, from, bytes.into(), aborted.to_vec());
    let mut all = Vec::new();
    loop {
        let taken = records.give(limit, true, |value| all.push(value.to_vec()))?;
        assert!(taken <= limit);
        if taken < limit {
            return Ok((all, records.next, next));
        }
    }
}

proptest! {
    /// What another implementation writes comes out again from any offset on, in pieces of any
    /// size; what is cut off at the end is left for the next fetch.
    #[test]
    fn every_record_is_given_once(
        groups in prop::collection::vec(
            (prop::collection::vec(prop::collection::vec(any::<u8>(), 0..200), 1..20), any::<bool>(), prop::option::of(0usize..9)), 1..6),
        skip in 0usize..30, limit in 1usize..40, cut in prop::num::usize::ANY,
    ) {
        let (mut bytes, mut expected, mut next) = (Vec::new(), Vec::new(), 1_000i64);
        for (values, snappy, key) in &groups {
            let key = key.map(|n| vec![7; n]);
            let marks = Marks { producer: PLAIN, ..Marks::default() };
            bytes.extend(batch(next, marks, key.as_deref(), values, *snappy));
            expected.extend(values.iter().enumerate().map(|(i, v)| (next + i as i64, v.clone())));
            next += values.len() as i64;
        }
        let from = 1_000 + skip as i64;
        let expected: Vec<Vec<u8>> = expected.into_iter().filter(|(at, _)| *at >= from).map(|(_, v)| v).collect();
        let tail = plain(next, &[vec![1; 100]]);
        bytes.extend(&tail[..cut % tail.len()]);
        let (all, given, seen) = read(bytes, from, &[], limit).unwrap();
        prop_assert_eq!(all, expected);
        prop_assert_eq!(seen, Some(next));
        prop_assert_eq!(given, next.max(from));
    }

    #[test]
    fn no_bytes_panic(mut bytes: Vec<u8>, valid in any::<bool>(), limit in 1usize..10) {
        if valid && bytes.len() >= HEAD {
            bytes[16] = 2;
            let length = (bytes.len() - BEFORE) as u32;
            bytes[8..12].copy_from_slice(&length.to_be_bytes());
            bytes[0] &= 0x7F;
            bytes[23] &= 0x7F;
            seal(&mut bytes);
        }
        let _ = read(bytes, 0, &[(0, 1)], limit);
    }
}

/// Messages of two producers' transactions, of which one is aborted; then the same producer again,
/// in one that is not.
#[test]
fn markers_and_aborted_transactions_are_passed_over() {
    let part = |base, producer, text: &str| {
        batch(base, Marks { producer, transactional: true, control: false }, None, &[text.as_bytes().to_vec()], false)
    };
    let marker = |base, producer, commit: u8| {
        let marks = Marks { producer, transactional: true, control: true };
        batch(base, marks, Some(&[0, 0, 0, commit]), &[vec![0; 6]], false)
    };
    let mut bytes = plain(0, &[b"before".to_vec()]);
    for (at, more) in [
        part(1, 5, "aborted"),
        part(2, 6, "committed"),
        part(3, 5, "aborted too"),
        marker(4, 5, 0),
        part(5, 5, "of the next transaction"),
        marker(6, 6, 1),
        marker(7, 5, 1),
    ]
    .into_iter()
    .enumerate()
    {
        assert_eq!(more[..8], (at as i64 + 1).to_be_bytes());
        bytes.extend(more);
    }
    let texts = |all: Vec<Vec<u8>>| all.into_iter().map(|v| String::from_utf8(v).unwrap()).collect::<Vec<_>>();
    let (all, given, _) = read(bytes.clone(), 0, &[(1, 5)], 1).unwrap();
    assert_eq!(texts(all), ["before", "committed", "of the next transaction"]);
    assert_eq!(given, 8, "a marker at the end is behind the reader");
    // Uncommitted: the broker names no aborted transactions.
    let (all, ..) = read(bytes, 0, &[], 100).unwrap();
    assert_eq!(texts(all), ["before", "aborted", "committed", "aborted too", "of the next transaction"]);
}

#[test]
fn a_wrong_checksum_is_found_where_it_is_asked_for() {
    let mut bytes = plain(40, &[b"one".to_vec(), b"two".to_vec()]);
    let last = bytes.len() - 2;
    bytes[last] ^= 1;
    let told = read(bytes.clone(), 0, &[], 9).unwrap_err();
    assert_eq!(told, "the checksum of the batch at offset 40 is wrong");
    let mut unchecked = FetchedRecords::new(0, 1, 0, bytes.into(), Vec::new());
    assert_eq!(unchecked.give(9, false, |_| {}), Ok(2));
}

#[test]
fn a_format_of_before_is_named() {
    let mut bytes = plain(0, &[vec![0; 20]]);
    bytes[16] = 1;
    assert_eq!(next_offset(&bytes).unwrap_err(), "a record batch has format 1, which is not read");
}
