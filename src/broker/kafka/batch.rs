//! Kafka's record batch (magic 2), as far as a broker must look into it.
//!
//! Layout (KIP-98): base offset 8, length 4 (of what follows), leader epoch 4, magic 1, CRC-32C 4
//! (of what follows), attributes 2, last offset delta 4, base timestamp 8, newest timestamp 8,
//! producer id 8, epoch 2, sequence 4, count 4, records. Everything the broker writes lies before
//! the CRC.

use super::super::log::{
    BatchFormat, BatchHeader, EachRecord, Malformed, ProducerStamp, TransactionStamp, TransactionStep,
};

/// Length of a batch's header.
pub const HEADER: usize = 61;
/// Length of what comes before the checksum.
const STAMP: usize = 16;
const CRC: usize = 17;
const ATTRIBUTES: usize = 21;

/// Bits of the attributes.
const COMPRESSION: i16 = 0x07;
/// All records are of the batch's newest time, that of its append.
const APPEND_TIME: i16 = 0x08;
const TRANSACTIONAL: i16 = 0x10;
const CONTROL: i16 = 0x20;

/// Where a control batch says how the transaction ends, in the key of its one record.
const END_OF_TRANSACTION: usize = 68;
const ABORT: [u8; 2] = [0, 0];
const COMMIT: [u8; 2] = [0, 1];

/// [`BatchFormat`] of Kafka's record batches.
#[derive(Debug, Clone, Copy, Default)]
pub struct RecordBatches;

fn field<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    let mut field = [0; N];
    if let Some(there) = bytes.get(at..at + N) {
        field.copy_from_slice(there);
    }
    field
}

fn i32_at(bytes: &[u8], at: usize) -> i32 {
    i32::from_be_bytes(field(bytes, at))
}

fn i64_at(bytes: &[u8], at: usize) -> i64 {
    i64::from_be_bytes(field(bytes, at))
}

fn attributes(batch: &[u8]) -> i16 {
    i16::from_be_bytes(field(batch, ATTRIBUTES))
}

/// Whether the records of a batch are compressed.
pub fn is_compressed(batch: &[u8]) -> bool {
    codec(batch) != 0
}

/// How the records of a batch are compressed, in the protocol's numbers.
pub fn codec(batch: &[u8]) -> i16 {
    attributes(batch) & COMPRESSION
}

/// The time the records' own count from, in milliseconds since the Unix epoch.
pub fn first_timestamp(batch: &[u8]) -> i64 {
    i64_at(batch, 27)
}

/// The newest time of a record, if it is that of all, set by who has appended them.
pub fn append_time(batch: &[u8]) -> Option<i64> {
    (attributes(batch) & APPEND_TIME != 0).then(|| i64_at(batch, 35))
}

/// Whether a batch is a part of a transaction.
pub fn is_transactional(batch: &[u8]) -> bool {
    attributes(batch) & TRANSACTIONAL != 0
}

/// How many records a batch says it has.
pub fn count(batch: &[u8]) -> i32 {
    i32_at(batch, 57)
}

/// Whether a producer may send such a batch at all: no control batch, one of a transaction only
/// with its producer's number, as many records as offsets.
pub fn refusal(batch: &[u8]) -> Option<&'static str> {
    if attributes(batch) & CONTROL != 0 {
        return Some("a client may not write control records");
    }
    if is_transactional(batch) && (i64_at(batch, 43) < 0 || i32_at(batch, 53) < 0) {
        return Some("a batch of a transaction has a producer id and a sequence number");
    }
    if count(batch) != i32_at(batch, 23).wrapping_add(1) {
        return Some("the count of records is not that of their offsets");
    }
    None
}

impl BatchFormat for RecordBatches {
    fn header_len(&self) -> usize {
        HEADER
    }

    fn stamp_len(&self) -> usize {
        STAMP
    }

    fn view(&self, bytes: &[u8]) -> Result<BatchHeader, Malformed> {
        if bytes.len() < HEADER {
            return Err(Malformed("it is shorter than a header"));
        }
        if bytes[16] != 2 {
            return Err(Malformed("its magic is not 2"));
        }
        let len = usize::try_from(i32_at(bytes, 8)).map_err(|_| Malformed("its length is negative"))?;
        let last = u32::try_from(i32_at(bytes, 23)).map_err(|_| Malformed("its last offset is negative"))?;
        let base = u64::try_from(i64_at(bytes, 0)).map_err(|_| Malformed("its offset is negative"))?;
        if len + 12 < HEADER || base > (i64::MAX as u64) - (1 << 32) {
            return Err(Malformed("its length or offset cannot be"));
        }
        let id = i64_at(bytes, 43);
        let sequence = i32_at(bytes, 53);
        let epoch = i16::from_be_bytes(field(bytes, 51));
        let producer = (id >= 0 && sequence >= 0 && epoch >= 0).then_some(ProducerStamp { id, epoch, sequence });
        let attributes = attributes(bytes);
        let step = match (attributes & CONTROL, bytes.get(END_OF_TRANSACTION..END_OF_TRANSACTION + 2)) {
            (0, _) => TransactionStep::Part,
            (_, Some(end)) if end == COMMIT => TransactionStep::Commit,
            _ => TransactionStep::Abort,
        };
        let is_stamped = attributes & TRANSACTIONAL != 0 && id >= 0 && epoch >= 0;
        let transaction = is_stamped.then_some(TransactionStamp { producer: id, epoch, step });
        let max_timestamp = i64_at(bytes, 35).max(-1);
        Ok(BatchHeader { len: len + 12, base, count: last + 1, max_timestamp, producer, transaction })
    }

    fn intact(&self, batch: &[u8]) -> bool {
        batch.len() >= HEADER && crc32c::crc32c(&batch[ATTRIBUTES..]) == u32::from_be_bytes(field(batch, CRC))
    }

    fn stamp(&self, stamp: &mut [u8], base: u64) {
        stamp[..8].copy_from_slice(&base.to_be_bytes());
        // The one leader there is has epoch 0.
        stamp[12..16].fill(0);
    }

    fn keys(&self, batch: &[u8], each: &mut EachRecord<'_>) -> Option<()> {
        if attributes(batch) & CONTROL != 0 {
            return None;
        }
        let base = u64::try_from(i64_at(batch, 0)).ok()?;
        for record in records(batch)? {
            let record = record?;
            each(base + u64::from(record.offset), record.key, record.value.is_none());
        }
        Some(())
    }

    fn retain(&self, batch: &[u8], keep: &mut dyn FnMut(u64) -> bool) -> Option<Vec<u8>> {
        let base = u64::try_from(i64_at(batch, 0)).ok()?;
        let mut out = batch[..HEADER].to_vec();
        let mut count = 0i32;
        for record in records(batch)? {
            let record = record?;
            if keep(base + u64::from(record.offset)) {
                out.extend_from_slice(record.bytes);
                count += 1;
            }
        }
        let len = i32::try_from(out.len() - 12).ok()?;
        out[8..12].copy_from_slice(&len.to_be_bytes());
        out[57..61].copy_from_slice(&count.to_be_bytes());
        seal(&mut out);
        Some(out)
    }
}

/// Says in the header that the records, as they now are, are compressed so.
pub fn recode(batch: &mut [u8], codec: u8) {
    let attributes = (attributes(batch) & !COMPRESSION) | i16::from(codec);
    batch[ATTRIBUTES..ATTRIBUTES + 2].copy_from_slice(&attributes.to_be_bytes());
    let len = (batch.len() - 12) as i32;
    batch[8..12].copy_from_slice(&len.to_be_bytes());
    seal(batch);
}

/// The batch with the time of its append as that of all its records.
pub fn stamped(batch: &[u8], now: i64) -> Vec<u8> {
    let mut out = batch.to_vec();
    let attributes = attributes(batch) | APPEND_TIME;
    out[ATTRIBUTES..ATTRIBUTES + 2].copy_from_slice(&attributes.to_be_bytes());
    out[35..43].copy_from_slice(&now.to_be_bytes());
    seal(&mut out);
    out
}

fn seal(batch: &mut [u8]) {
    let sum = crc32c::crc32c(&batch[ATTRIBUTES..]);
    batch[CRC..ATTRIBUTES].copy_from_slice(&sum.to_be_bytes());
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BatchRecord<'a> {
    /// Offset relative to the batch's.
    pub offset: u32,
    /// Time in milliseconds since the Unix epoch.
    pub timestamp: i64,
    pub key: Option<&'a [u8]>,
    pub value: Option<&'a [u8]>,
    bytes: &'a [u8],
}

/// The records of a batch that is not compressed; an item is `None`, and the last, when a record
/// cannot be read.
pub fn records(batch: &[u8]) -> Option<impl Iterator<Item = Option<BatchRecord<'_>>>> {
    if batch.len() < HEADER || is_compressed(batch) {
        return None;
    }
    let (first, all) = (first_timestamp(batch), append_time(batch));
    let mut left = count(batch);
    let mut rest = &batch[HEADER..];
    Some(std::iter::from_fn(move || {
        if left <= 0 {
            return None;
        }
        let mut record = record(&mut rest, first);
        if let (Some(record), Some(all)) = (&mut record, all) {
            record.timestamp = all;
        }
        left = if record.is_some() { left - 1 } else { 0 };
        Some(record)
    }))
}

fn record<'a>(rest: &mut &'a [u8], first: i64) -> Option<BatchRecord<'a>> {
    let whole = *rest;
    let len = usize::try_from(varint(rest)?).ok()?;
    let mut body = rest.get(..len)?;
    *rest = &rest[len..];
    let bytes = &whole[..whole.len() - rest.len()];
    body = body.get(1..)?;
    let timestamp = first.wrapping_add(varint(&mut body)?);
    let offset = u32::try_from(varint(&mut body)?).ok()?;
    let key = field_of(&mut body)?;
    let value = field_of(&mut body)?;
    Some(BatchRecord { offset, timestamp, key, value, bytes })
}

#[allow(clippy::option_option, reason = "unreadable, absent and present are three things")]
fn field_of<'a>(body: &mut &'a [u8]) -> Option<Option<&'a [u8]>> {
    let Ok(len) = usize::try_from(varint(body)?) else { return Some(None) };
    let field = body.get(..len)?;
    *body = &body[len..];
    Some(Some(field))
}

fn varint(bytes: &mut &[u8]) -> Option<i64> {
    let mut value = 0u64;
    for shift in (0..70).step_by(7) {
        let (byte, rest) = bytes.split_first()?;
        *bytes = rest;
        value |= u64::from(byte & 0x7f).checked_shl(shift)?;
        if byte & 0x80 == 0 {
            return Some((value >> 1) as i64 ^ -((value & 1) as i64));
        }
    }
    None
}

fn put_varint(out: &mut Vec<u8>, value: i64) {
    let mut value = ((value << 1) ^ (value >> 63)) as u64;
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

fn put_field(out: &mut Vec<u8>, field: Option<&[u8]>) {
    match field {
        Some(field) => {
            put_varint(out, field.len() as i64);
            out.extend_from_slice(field);
        }
        None => put_varint(out, -1),
    }
}

/// The batch with one bit of its last value turned over and its checksum right; `None` when there
/// is no value to be seen.
pub fn corrupted_copy(batch: &[u8]) -> Option<Vec<u8>> {
    let values = records(batch)?.flatten().filter_map(|record| record.value);
    let last = values.filter(|value| !value.is_empty()).last()?;
    let at = last.as_ptr() as usize - batch.as_ptr() as usize + last.len() - 1;
    let mut out = batch.to_vec();
    out[at] ^= 1;
    seal(&mut out);
    Some(out)
}

/// The batch as of nobody in particular: without its producer's numbering. What is a part of a
/// transaction stays that.
pub fn anonymous(batch: &[u8]) -> Vec<u8> {
    let mut out = batch.to_vec();
    let from = if is_transactional(batch) { 53 } else { 43 };
    if let Some(numbering) = out.get_mut(from..57) {
        numbering.fill(0xff);
        seal(&mut out);
    }
    out
}

/// A batch of the broker's own: keys with values, all of one time in milliseconds since the Unix
/// epoch.
pub fn encode(records: &[(&[u8], Option<&[u8]>)], timestamp: i64) -> Vec<u8> {
    let mut out = vec![0; HEADER];
    let mut body = Vec::new();
    for (n, (key, value)) in records.iter().enumerate() {
        body.clear();
        body.push(0);
        put_varint(&mut body, 0);
        put_varint(&mut body, n as i64);
        put_field(&mut body, Some(key));
        put_field(&mut body, *value);
        put_varint(&mut body, 0);
        put_varint(&mut out, body.len() as i64);
        out.extend_from_slice(&body);
    }
    let count = records.len() as i32;
    let len = (out.len() - 12) as i32;
    out[8..12].copy_from_slice(&len.to_be_bytes());
    out[16] = 2;
    out[23..27].copy_from_slice(&(count - 1).to_be_bytes());
    out[27..35].copy_from_slice(&timestamp.to_be_bytes());
    out[35..43].copy_from_slice(&timestamp.to_be_bytes());
    out[43..57].fill(0xff);
    out[57..61].copy_from_slice(&count.to_be_bytes());
    seal(&mut out);
    out
}

/// A batch of [`encode`] as a part of the producer's transaction, without a number of its own.
pub fn of_transaction(mut batch: Vec<u8>, producer: i64, epoch: i16) -> Vec<u8> {
    put_producer(&mut batch, TRANSACTIONAL, producer, epoch);
    batch
}

/// The batch that ends the producer's transaction in one partition.
pub fn end_of_transaction(producer: i64, epoch: i16, commit: bool, now: i64) -> Vec<u8> {
    let end = if commit { COMMIT } else { ABORT };
    // Versions of key and value, and the number of changes of the coordinator: none.
    let mut batch = encode(&[(&[0, 0, end[0], end[1]], Some(&[0; 6]))], now);
    put_producer(&mut batch, TRANSACTIONAL | CONTROL, producer, epoch);
    batch
}

fn put_producer(batch: &mut [u8], attributes: i16, producer: i64, epoch: i16) {
    batch[ATTRIBUTES..ATTRIBUTES + 2].copy_from_slice(&attributes.to_be_bytes());
    batch[43..51].copy_from_slice(&producer.to_be_bytes());
    batch[51..53].copy_from_slice(&epoch.to_be_bytes());
    seal(batch);
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn parts_and_ends_of_transactions_are_known_again() {
        let format = RecordBatches;
        let part = of_transaction(encode(&[(b"k", Some(b"v"))], 5), 7, 3);
        let stamp = |step| Some(TransactionStamp { producer: 7, epoch: 3, step });
        assert_eq!(format.view(&part).unwrap().transaction, stamp(TransactionStep::Part));
        assert_eq!(format.view(&part).unwrap().producer, None);
        assert!(refusal(&part).is_some());
        for (commit, step) in [(true, TransactionStep::Commit), (false, TransactionStep::Abort)] {
            let end = end_of_transaction(7, 3, commit, 5);
            assert!(format.intact(&end) && refusal(&end).is_some());
            assert_eq!(format.view(&end).unwrap().transaction, stamp(step));
            assert_eq!(format.keys(&end, &mut |_, _, _| panic!("it has no keys")), None);
        }
    }

    proptest! {
        #[test]
        fn what_is_encoded_is_read_back_and_can_be_thinned_out(
            records in proptest::collection::vec((proptest::collection::vec(any::<u8>(), 0..20),
                proptest::option::of(proptest::collection::vec(any::<u8>(), 0..200))), 1..30),
            keep in any::<u32>(),
        ) {
            let borrowed: Vec<(&[u8], Option<&[u8]>)> =
                records.iter().map(|(k, v)| (k.as_slice(), v.as_deref())).collect();
            let mut batch = encode(&borrowed, 1234);
            let format = RecordBatches;
            format.stamp(&mut batch[..16], 77);
            let view = format.view(&batch).unwrap();
            prop_assert!(format.intact(&batch));
            prop_assert_eq!((view.len, view.base, view.count, view.max_timestamp, view.producer),
                (batch.len(), 77, records.len() as u32, 1234, None));
            prop_assert_eq!(refusal(&batch), None);
            let wanted = |n: usize| keep >> n & 1 == 1;
            let thin = format.retain(&batch, &mut |offset| wanted((offset - 77) as usize)).unwrap();
            prop_assert!(format.intact(&thin));
            prop_assert_eq!(format.view(&thin).unwrap().next(), view.next());
            let left: Vec<_> = super::records(&thin).unwrap().map(Option::unwrap).collect();
            let expected: Vec<_> = records.iter().enumerate().filter(|(n, _)| wanted(*n)).collect();
            prop_assert_eq!(left.len(), expected.len());
            for (record, (n, (key, value))) in left.iter().zip(expected) {
                prop_assert_eq!(record.offset as usize, n);
                prop_assert_eq!(record.key, Some(key.as_slice()));
                prop_assert_eq!(record.value, value.as_deref());
                prop_assert_eq!(record.timestamp, 1234);
            }
        }

        #[test]
        fn any_bytes_are_read_without_panic(mut bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let format = RecordBatches;
            if bytes.len() > 22 {
                bytes[16] = 2;
                bytes[22] &= !7;
            }
            let _ = format.view(&bytes);
            prop_assert!(!format.intact(&bytes));
            let _ = format.keys(&bytes, &mut |_, _, _| {});
            if bytes.len() >= HEADER {
                let _ = format.retain(&bytes, &mut |_| true);
            }
        }
    }
}
