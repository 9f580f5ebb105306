//! Batches as producers compress them, spoilt ones, and ones that are much longer than they look.

use std::io::Write;

use proptest::prelude::*;

use super::super::batch::encode;
use super::*;

/// How the records are compressed: the protocol's number, and whether snappy writes blocks as Java
/// does.
const CODECS: [(u8, bool); 6] = [(0, false), (1, false), (2, false), (2, true), (3, false), (4, false)];

fn compress(records: &[u8], (codec, blocks): (u8, bool)) -> Vec<u8> {
    match codec {
        1 => {
            let mut out = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
            out.write_all(records).unwrap();
            out.finish().unwrap()
        }
        2 if blocks => {
            let mut out = b"\x82SNAPPY\0\0\0\0\x01\0\0\0\x01".to_vec();
            for block in records.chunks(100) {
                let block = snap::raw::Encoder::new().compress_vec(block).unwrap();
                out.extend_from_slice(&(block.len() as u32).to_be_bytes());
                out.extend_from_slice(&block);
            }
            out
        }
        2 => snap::raw::Encoder::new().compress_vec(records).unwrap(),
        3 => {
            let mut out = lz4_flex::frame::FrameEncoder::new(Vec::new());
            out.write_all(records).unwrap();
            out.finish().unwrap()
        }
        4 => ruzstd::encoding::compress_to_vec(records, ruzstd::encoding::CompressionLevel::Fastest),
        _ => records.to_vec(),
    }
}

/// The batch, compressed.
fn packed(batch: &[u8], codec: (u8, bool)) -> Vec<u8> {
    let mut out = batch[..HEADER].to_vec();
    out[22] |= codec.0;
    out.extend_from_slice(&compress(&batch[HEADER..], codec));
    out
}

fn all(batch: &[u8]) -> Result<Vec<RecordSummary>, Unreadable> {
    let mut seen = Vec::new();
    walk(batch, |record| {
        seen.push(record);
        ControlFlow::Continue(())
    })
    .map(|()| seen)
}

proptest! {
    #[test]
    fn records_are_seen_however_they_are_compressed(
        values in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..300), 1..40),
        codec in proptest::sample::select(&CODECS[..]),
    ) {
        let borrowed: Vec<(&[u8], Option<&[u8]>)> = values.iter().map(|v| (&b"key"[..], Some(&v[..]))).collect();
        let batch = encode(&borrowed, 1234);
        let expected: Vec<RecordSummary> = (0..values.len())
            .map(|n| RecordSummary { index: n as i32, offset: n as u32, timestamp: 1234, keyed: true })
            .collect();
        prop_assert_eq!(all(&packed(&batch, codec)), Ok(expected.clone()));
        // One record fewer or more than the batch says.
        for count in [values.len() as i32 - 1, values.len() as i32 + 1] {
            let mut wrong = packed(&batch, codec);
            wrong[57..61].copy_from_slice(&count.to_be_bytes());
            prop_assert_eq!(all(&wrong), Err(Unreadable::Malformed));
        }
    }

    #[test]
    fn spoilt_bytes_are_read_without_panic_or_end(
        values in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..300), 1..20),
        codec in proptest::sample::select(&CODECS[..]),
        corrupted_copy in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
        cut in any::<prop::sample::Index>(),
    ) {
        let borrowed: Vec<(&[u8], Option<&[u8]>)> = values.iter().map(|v| (&b"key"[..], Some(&v[..]))).collect();
        let mut batch = packed(&encode(&borrowed, 1234), codec);
        let _ = all(&batch[..cut.index(batch.len())]);
        let len = batch.len() - HEADER;
        for (at, with) in corrupted_copy {
            batch[HEADER + at.index(len)] ^= with;
        }
        let _ = all(&batch);
    }

    #[test]
    fn any_bytes_are_read_without_panic(
        bytes in proptest::collection::vec(any::<u8>(), 0..400),
        codec in 0u8..8,
    ) {
        let mut batch = encode(&[(b"k", None)], 1)[..HEADER].to_vec();
        batch[22] |= codec;
        batch.extend_from_slice(&bytes);
        let _ = all(&batch);
    }
}

#[test]
fn what_is_longer_than_allowed_is_left_alone() {
    // One record of so many zeros.
    let zeros = MAX_LEN as usize + 1000;
    let mut record = Vec::new();
    let mut len = (zeros as u64 + 7) << 1;
    while len >= 0x80 {
        record.push(len as u8 | 0x80);
        len >>= 7;
    }
    record.push(len as u8);
    record.resize(record.len() + zeros + 7, 0);
    let mut batch = encode(&[(b"k", None)], 1)[..HEADER].to_vec();
    batch.extend_from_slice(&record);
    for codec in CODECS.into_iter().filter(|(codec, _)| *codec > 0) {
        let packed = packed(&batch, codec);
        assert!(packed.len() < 20 << 20, "{codec:?}: {}", packed.len());
        assert_eq!(all(&packed), Err(Unreadable::TooLong), "{codec:?}");
    }
    // A block that claims more than its bytes can be is not given the memory.
    let mut claims = batch[..HEADER].to_vec();
    claims[22] |= 2;
    claims.extend_from_slice(&[0xff, 0xff, 0xff, 0x3f, 0, 0]);
    assert_eq!(all(&claims), Err(Unreadable::Malformed));
}
