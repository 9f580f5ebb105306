//! The records in what a fetch brings: Kafka's record batches (magic 2), one after another.

use std::io::{self, Read};

use bytes::Bytes;

/// Length of a batch's header; its records follow.
const HEADER: usize = 61;
/// Length of base offset and length, which the length does not count.
const BEFORE: usize = 12;
/// Bytes that a batch is decompressed to at most.
const MAX_LEN: u64 = 128 << 20;
/// How the blocks of snappy-java start; what does not start so is one block without a length.
const SNAPPY_JAVA: &[u8] = b"\x82SNAPPY\0";
/// Length of that start, with its two versions.
const SNAPPY_JAVA_HEADER: usize = 16;
/// What snappy makes of one byte at most is 22; a block that claims more is none.
const SNAPPY_RATIO: usize = 32;

/// Calls `each` with offset and value of every record; a record without a value has an empty one.
///
/// # Errors
/// What cannot be read, in words. Records before it were given.
pub(in crate::driver::kafka) fn each_record(
    mut batches: Bytes,
    mut each: impl FnMut(i64, Bytes),
) -> Result<(), String> {
    // The broker may cut off the last batch of all.
    while batches.len() >= HEADER {
        let field = |at: usize, n: usize| batches[at..at + n].iter().fold(0i64, |v, b| v << 8 | i64::from(*b));
        let (base, length, magic) = (field(0, 8), field(8, 4) as usize + BEFORE, batches[16]);
        if magic != 2 {
            return Err(format!("a record batch has format {magic}, which is not read"));
        }
        if length < HEADER {
            return Err("a record batch is shorter than its header".into());
        }
        if length > batches.len() {
            break;
        }
        let (attributes, count) = (field(21, 2), field(57, 4));
        let batch = batches.split_to(length);
        // Markers of transactions are not delivered to anybody.
        if attributes & 0x20 != 0 {
            continue;
        }
        let mut body = batch.slice(HEADER..);
        if attributes & 7 != 0 {
            body = decompressed(attributes & 7, &body)
                .map_err(|e| format!("a record batch cannot be decompressed: {e}"))?;
        }
        for _ in 0..count {
            let (delta, value) = record(&mut body).ok_or("a record cannot be read")?;
            each(base + delta, value);
        }
    }
    Ok(())
}

/// Offset within the batch, and value, of the next record.
fn record(body: &mut Bytes) -> Option<(i64, Bytes)> {
    let length = usize::try_from(varint(body)?).ok().filter(|n| *n <= body.len())?;
    let mut record = body.split_to(length);
    // Its attributes mean nothing.
    record = (!record.is_empty()).then(|| record.slice(1..))?;
    varint(&mut record)?;
    let delta = varint(&mut record)?;
    field(&mut record)?;
    Some((delta, field(&mut record)?))
}

fn field(record: &mut Bytes) -> Option<Bytes> {
    let length = varint(record)?;
    if length < 0 {
        return Some(Bytes::new());
    }
    let length = usize::try_from(length).ok().filter(|n| *n <= record.len())?;
    Some(record.split_to(length))
}

fn varint(bytes: &mut Bytes) -> Option<i64> {
    let mut value = 0u64;
    for (i, byte) in bytes.iter().enumerate().take(10) {
        value |= u64::from(byte & 0x7f) << (7 * i);
        if byte & 0x80 == 0 {
            let _ = bytes.split_to(i + 1);
            return Some((value >> 1) as i64 ^ -((value & 1) as i64));
        }
    }
    None
}

/// The records of a batch that was compressed with this codec, by its number in the attributes.
pub(in crate::driver::kafka) fn decompressed(codec: i64, body: &[u8]) -> io::Result<Bytes> {
    let mut plain = Vec::new();
    let decoder: Box<dyn Read + '_> = match codec {
        1 => Box::new(flate2::read::MultiGzDecoder::new(body)),
        2 => return snappy(body).map(Bytes::from),
        3 => Box::new(lz4_flex::frame::FrameDecoder::new(body)),
        4 => {
            let decoder = ruzstd::decoding::StreamingDecoder::new_with_max_window_size(body, MAX_LEN);
            Box::new(decoder.map_err(|e| io::Error::other(e.to_string()))?)
        }
        other => return Err(io::Error::other(format!("there is no compression {other}"))),
    };
    decoder.take(MAX_LEN + 1).read_to_end(&mut plain)?;
    if plain.len() as u64 > MAX_LEN {
        return Err(io::Error::other(format!("it is longer than {MAX_LEN} bytes")));
    }
    Ok(plain.into())
}

/// Snappy as Java writes it, in blocks, or as librdkafka does, in one.
fn snappy(body: &[u8]) -> io::Result<Vec<u8>> {
    let block = |compressed: &[u8]| {
        let claimed = snap::raw::decompress_len(compressed).map_err(io::Error::other)?;
        if claimed > compressed.len().saturating_mul(SNAPPY_RATIO) || claimed as u64 > MAX_LEN {
            return Err(io::Error::other("a block claims to be longer than it can be"));
        }
        snap::raw::Decoder::new().decompress_vec(compressed).map_err(io::Error::other)
    };
    if !body.starts_with(SNAPPY_JAVA) {
        return block(body);
    }
    let mut plain = Vec::new();
    let mut rest = body.get(SNAPPY_JAVA_HEADER..).unwrap_or_default();
    while let Some((length, after)) = rest.split_first_chunk::<4>() {
        let length = u32::from_be_bytes(*length) as usize;
        let compressed = after.get(..length).ok_or_else(|| io::Error::other("a block is cut off"))?;
        plain.extend(block(compressed)?);
        if plain.len() as u64 > MAX_LEN {
            return Err(io::Error::other(format!("it is longer than {MAX_LEN} bytes")));
        }
        rest = &after[length..];
    }
    Ok(plain)
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A batch as a producer writes it, its checksum left out: readers of a share group have it
    /// from a broker that has checked it.
    pub fn batch(base: i64, codec: u8, values: &[Vec<u8>]) -> Vec<u8> {
        let mut body = Vec::new();
        for (delta, value) in values.iter().enumerate() {
            let mut one = vec![0];
            for number in [0, delta as i64, -1, value.len() as i64] {
                put(&mut one, number);
            }
            one.extend_from_slice(value);
            put(&mut one, 0);
            put(&mut body, one.len() as i64);
            body.extend(one);
        }
        if codec == 2 {
            body = snap::raw::Encoder::new().compress_vec(&body).unwrap();
        }
        let mut all = base.to_be_bytes().to_vec();
        all.extend(((HEADER - BEFORE + body.len()) as u32).to_be_bytes());
        all.extend([0, 0, 0, 0, 2, 0, 0, 0, 0, 0, codec]);
        all.resize(57, 0);
        all.extend((values.len() as u32).to_be_bytes());
        all.extend(body);
        all
    }

    fn put(out: &mut Vec<u8>, value: i64) {
        let mut value = ((value << 1) ^ (value >> 63)) as u64;
        while value >= 0x80 {
            out.push(value as u8 | 0x80);
            value >>= 7;
        }
        out.push(value as u8);
    }

    fn read(bytes: Vec<u8>) -> Result<Vec<(i64, Bytes)>, String> {
        let mut all = Vec::new();
        each_record(bytes.into(), |offset, value| all.push((offset, value))).map(|()| all)
    }

    proptest! {
        #[test]
        fn every_record_comes_with_its_offset(
            values in prop::collection::vec(prop::collection::vec(prop::collection::vec(any::<u8>(), 0..300), 1..20), 0..5),
            codec in prop::sample::select(vec![0u8, 2]), cut in 1usize..60
        ) {
            let (mut bytes, mut expected, mut next) = (Vec::new(), Vec::new(), 1_000i64);
            for values in &values {
                bytes.extend(batch(next, codec, values));
                expected.extend(values.iter().enumerate().map(|(i, v)| (next + i as i64, Bytes::from(v.clone()))));
                next += values.len() as i64 + 3;
            }
            // What is cut off at the end is passed over.
            let whole = bytes.len();
            bytes.extend(batch(next, codec, &[vec![1; 200]]));
            bytes.truncate(whole + cut);
            prop_assert_eq!(read(bytes).unwrap(), expected);
        }

        #[test]
        fn no_bytes_panic(mut bytes: Vec<u8>, magic: bool) {
            if magic && bytes.len() > 16 {
                bytes[16] = 2;
                bytes[8..12].copy_from_slice(&[0; 4]);
            }
            let _ = read(bytes);
        }
    }

    #[test]
    fn markers_of_transactions_are_passed_over() {
        let mut marker = batch(5, 0, &[b"x".to_vec()]);
        marker[22] |= 0x20;
        marker.extend(batch(6, 0, &[b"y".to_vec()]));
        assert_eq!(read(marker).unwrap(), [(6, Bytes::from_static(b"y"))]);
    }
}
