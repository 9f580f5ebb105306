//! The engine as a whole, with batches of a kind that no protocol knows.

mod failing;
mod keeping;
mod power;
mod recovery;

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::*;

/// Base 8, length 4, magic 1, checksum 4 (of what follows), count 4, time 8, producer 8, epoch 2,
/// sequence 4, then a body: for compaction, `key` or `key=value` of the one record. The magic says
/// whether it is a part of a transaction, or its end.
struct PlainFormat;

const HEADER: usize = 43;

fn number<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    bytes[at..at + N].try_into().unwrap()
}

impl BatchFormat for PlainFormat {
    fn header_len(&self) -> usize {
        HEADER
    }
    fn stamp_len(&self) -> usize {
        8
    }
    fn view(&self, bytes: &[u8]) -> Result<BatchHeader, Malformed> {
        if bytes.len() < HEADER || !(7..=10).contains(&bytes[12]) {
            return Err(Malformed("no header"));
        }
        let len = u32::from_le_bytes(number(bytes, 8)) as usize;
        let count = u32::from_le_bytes(number(bytes, 17));
        if len < HEADER || count == 0 {
            return Err(Malformed("impossible"));
        }
        let id = i64::from_le_bytes(number(bytes, 29));
        let producer = (id >= 0).then(|| ProducerStamp {
            id,
            epoch: i16::from_le_bytes(number(bytes, 37)),
            sequence: i32::from_le_bytes(number(bytes, 39)),
        });
        let step = match bytes[12] {
            8 => Some(TransactionStep::Part),
            9 => Some(TransactionStep::Commit),
            10 => Some(TransactionStep::Abort),
            _ => None,
        };
        let transaction = step.map(|step| TransactionStamp { producer: id, epoch: 0, step });
        let producer = producer.filter(|_| transaction.is_none());
        let max_timestamp = i64::from_le_bytes(number(bytes, 21));
        Ok(BatchHeader { len, base: u64::from_le_bytes(number(bytes, 0)), count, max_timestamp, producer, transaction })
    }
    fn intact(&self, batch: &[u8]) -> bool {
        crc32c::crc32c(&batch[17..]) == u32::from_le_bytes(number(batch, 13))
    }
    fn stamp(&self, stamp: &mut [u8], base: u64) {
        stamp.copy_from_slice(&base.to_le_bytes());
    }
    fn keys(&self, batch: &[u8], each: &mut EachRecord<'_>) -> Option<()> {
        let mut parts = batch[HEADER..].splitn(2, |b| *b == b'=');
        let key = parts.next();
        each(u64::from_le_bytes(number(batch, 0)), key, parts.next().is_none());
        Some(())
    }
    fn retain(&self, batch: &[u8], keep: &mut dyn FnMut(u64) -> bool) -> Option<Vec<u8>> {
        keep(u64::from_le_bytes(number(batch, 0))).then(|| batch.to_vec())
    }
}

fn batch_of(count: u32, time: i64, producer: Option<(i64, i16, i32)>, body: &[u8]) -> Vec<u8> {
    let mut out = vec![0; 8];
    out.extend_from_slice(&((HEADER + body.len()) as u32).to_le_bytes());
    out.extend_from_slice(&[7, 0, 0, 0, 0]);
    out.extend_from_slice(&count.to_le_bytes());
    out.extend_from_slice(&time.to_le_bytes());
    let (id, epoch, sequence) = producer.unwrap_or((-1, 0, 0));
    out.extend_from_slice(&id.to_le_bytes());
    out.extend_from_slice(&epoch.to_le_bytes());
    out.extend_from_slice(&sequence.to_le_bytes());
    out.extend_from_slice(body);
    let sum = crc32c::crc32c(&out[17..]);
    out[13..17].copy_from_slice(&sum.to_le_bytes());
    out
}

fn batch(body: &[u8]) -> Vec<u8> {
    batch_of(1, 1000, None, body)
}

/// A part of the transaction of a producer, or its end.
fn step_of(producer: i64, step: TransactionStep, body: &[u8]) -> Vec<u8> {
    let mut out = batch_of(1, 1000, Some((producer, 0, 0)), body);
    out[12] = match step {
        TransactionStep::Part => 8,
        TransactionStep::Commit => 9,
        TransactionStep::Abort => 10,
    };
    out
}

fn options(dir: &Path, sync: SyncPolicy) -> LogOptions {
    let mut options = LogOptions::new(dir);
    options.sync = sync;
    options.defaults.segment_bytes = 4096;
    options.defaults.retention_ms = None;
    options.housekeeping = Duration::from_secs(3600);
    options
}

fn open(options: LogOptions) -> (Arc<Log>, Recovered) {
    Log::open(options, Arc::new(PlainFormat)).unwrap()
}

fn topic(log: &Log, partitions: u32) -> Arc<Topic> {
    log.topic("t").unwrap_or_else(|| log.create("t", partitions, log.defaults().clone(), Default::default()).unwrap())
}

/// Every batch that readers may see: its offset and its body, read in pieces of at most `max`
/// bytes.
fn all(partition: &Partition, max: usize) -> Vec<(u64, Vec<u8>)> {
    let (mut at, end) = partition.bounds();
    let mut found = Vec::new();
    while at < end {
        let Some(slice) = partition.read(at, max, true).unwrap() else { break };
        let mut bytes = vec![0; slice.len];
        slice.read(&mut bytes).unwrap();
        let mut rest = &bytes[..];
        while let Ok(view) = PlainFormat.view(rest)
            && view.len <= rest.len()
        {
            assert!(PlainFormat.intact(&rest[..view.len]));
            if view.base >= at {
                found.push((view.base, rest[HEADER..view.len].to_vec()));
            }
            at = at.max(view.next());
            rest = &rest[view.len..];
        }
    }
    found
}

fn wait(what: &str, mut come_true: impl FnMut() -> bool) {
    let end = Instant::now() + Duration::from_secs(10);
    while !come_true() {
        assert!(Instant::now() < end, "{what}");
        std::thread::sleep(Duration::from_millis(1));
    }
}

fn kept(appended: Appended) -> bool {
    let wake_signal = WakeSignal::new();
    let mut kept = Some(true);
    if let Some(ticket) = appended.ticket {
        wait("the ticket is decided", || {
            kept = ticket.poll(&wake_signal);
            kept.is_some()
        });
    }
    kept.unwrap()
}
