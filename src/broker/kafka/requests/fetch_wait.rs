//! Fetch requests that may have to wait: ranges of segments, as they are.
//!
//! The response is written by hand, since its records are file ranges and not bytes in memory.

use std::sync::Arc;

use bytes::{BufMut as _, BytesMut};
use tokio::time::Instant;

use super::super::blocking::run_blocking;
use super::super::code;
use super::super::fetch_sessions::{FetchSessions, PartitionStatus, SessionRole, WantedPartition};
use super::super::names::LEADER_EPOCH;
use super::super::reply::{Reply, finish};
use crate::broker::log::{AbortedTransaction, Partition, SegmentSlice, StableRead, WakeSignal};

/// Ranges shorter than this are read into the response, longer ones sent from the file.
const SEND_FILE: usize = 32 << 10;
/// The first version with compact lengths and tagged fields.
const FLEXIBLE: i16 = 12;

/// A fetch request that may have to wait.
pub(in crate::broker::kafka) struct FetchWait {
    pub(super) correlation: i32,
    pub(super) version: i16,
    pub(super) deadline: Instant,
    pub(super) min: usize,
    pub(super) max: usize,
    pub(super) parts: Vec<PartitionFetch>,
    /// What it is to its session.
    pub(super) role: SessionRole,
    pub(super) sessions: Arc<FetchSessions>,
}

pub(super) struct PartitionFetch {
    pub(super) wanted: WantedPartition,
    pub(super) partition: Option<Arc<Partition>>,
    /// Whether only what is decided is wanted.
    pub(super) committed: bool,
    /// What the last look found.
    pub(super) found: FetchedRange,
}

#[derive(Default)]
pub(super) struct FetchedRange {
    code: i16,
    start: i64,
    end: i64,
    stable: i64,
    slice: Option<SegmentSlice>,
    aborted: Vec<AbortedTransaction>,
}

impl FetchedRange {
    fn nothing(code: i16) -> Self {
        Self { code, start: -1, end: -1, stable: -1, ..Self::default() }
    }
}

impl PartitionFetch {
    fn look(&self, left: usize, first: bool) -> FetchedRange {
        let Some(partition) = &self.partition else {
            return FetchedRange::nothing(code::UNKNOWN_TOPIC_OR_PARTITION);
        };
        let (start, end) = partition.bounds();
        let stable = partition.stable_end() as i64;
        let found = FetchedRange { start: start as i64, end: end as i64, stable, ..FetchedRange::default() };
        if self.wanted.leader_epoch > LEADER_EPOCH {
            return FetchedRange::nothing(code::UNKNOWN_LEADER_EPOCH);
        }
        let Ok(offset) = u64::try_from(self.wanted.offset) else {
            return FetchedRange::nothing(code::OFFSET_OUT_OF_RANGE);
        };
        let max = size(self.wanted.max).min(left);
        let read = match self.committed {
            true => partition.read_committed(offset, max, first),
            false => partition.read(offset, max, first).map(StableRead::all),
        };
        match read {
            Ok(StableRead { slice, aborted }) => FetchedRange { slice, aborted, ..found },
            Err(error) => FetchedRange::nothing(code::of(&error)),
        }
    }

    fn status(&self) -> PartitionStatus {
        let FetchedRange { code, start, end, slice, .. } = &self.found;
        PartitionStatus { code: *code, has_records: slice.is_some(), end: *end, start: *start }
    }
}

impl FetchWait {
    /// The answer once there is enough, something is wrong, or the time is over.
    pub(super) fn poll(&mut self, wake_signal: &Arc<WakeSignal>) -> Option<Reply> {
        loop {
            let (mut total, mut wrong) = (0, false);
            for part in &mut self.parts {
                part.found = part.look(self.max.saturating_sub(total), total == 0);
                wrong |= part.found.code != code::NONE;
                total += part.found.slice.as_ref().map_or(0, |slice| slice.len);
            }
            if wrong || total >= self.min || Instant::now() >= self.deadline {
                return Some(self.reply());
            }
            let unchanged = self.parts.iter().all(|part| {
                let end = u64::try_from(part.found.end).unwrap_or(0);
                part.partition.as_ref().is_none_or(|partition| partition.await_more(end, wake_signal))
            });
            if unchanged {
                return None;
            }
        }
    }

    fn reply(&mut self) -> Reply {
        let version = self.version;
        let session = match self.role {
            SessionRole::Alone => 0,
            SessionRole::Begins => {
                let answered = self.parts.iter().map(|part| (part.wanted.clone(), part.status()));
                self.sessions.begin(answered, std::time::Instant::now())
            }
            SessionRole::GoesOn { id, epoch } => {
                let status: Vec<PartitionStatus> = self.parts.iter().map(PartitionFetch::status).collect();
                match self.sessions.status((id, epoch), &status) {
                    Ok(told) => {
                        let mut told = told.into_iter();
                        self.parts.retain(|_| told.next().unwrap_or(true));
                        id
                    }
                    Err(error) => return refused(self.correlation, version, error),
                }
            }
        };
        let topics = || self.parts.chunk_by(|a, b| a.wanted.topic == b.wanted.topic);
        let mut out = head(self.correlation, version, (code::NONE, session), topics().count());
        let mut files = Vec::new();
        for parts in self.parts.chunk_by_mut(|a, b| a.wanted.topic == b.wanted.topic) {
            put_name(&mut out, version, &parts[0].wanted.topic);
            put_count(&mut out, version, parts.len());
            for part in parts {
                put_part(&mut out, &mut files, version, part);
            }
            put_tags(&mut out, version);
        }
        end(out, version, files)
    }
}

/// A number of bytes; what is negative is none.
pub(super) fn size(bytes: i32) -> usize {
    usize::try_from(bytes).unwrap_or(0)
}

/// The answer that is an error as a whole.
pub(super) fn refused(correlation: i32, version: i16, error: i16) -> Reply {
    end(head(correlation, version, (error, 0), 0), version, Vec::new())
}

fn head(correlation: i32, version: i16, (error, session): (i16, i32), topics: usize) -> BytesMut {
    let mut out = BytesMut::with_capacity(256);
    out.put_i32(0);
    out.put_i32(correlation);
    put_tags(&mut out, version);
    out.put_i32(0);
    if version >= 7 {
        out.put_i16(error);
        out.put_i32(session);
    }
    put_count(&mut out, version, topics);
    out
}

fn end(mut out: BytesMut, version: i16, files: Vec<(usize, SegmentSlice)>) -> Reply {
    put_tags(&mut out, version);
    finish(&mut out, files.iter().map(|(_, slice)| slice.len).sum());
    Reply { bytes: out, files, hangs_up: false }
}

fn put_part(out: &mut BytesMut, files: &mut Vec<(usize, SegmentSlice)>, version: i16, part: &mut PartitionFetch) {
    let before = out.len();
    let found = std::mem::take(&mut part.found);
    out.put_i32(part.wanted.index);
    out.put_i16(found.code);
    out.put_i64(found.end);
    out.put_i64(found.stable);
    if version >= 5 {
        out.put_i64(found.start);
    }
    match part.committed {
        true => put_aborted(out, version, &found.aborted),
        // Who reads everything is told nothing.
        false if version >= FLEXIBLE => out.put_u8(0),
        false => out.put_i32(-1),
    }
    if version >= 11 {
        out.put_i32(-1);
    }
    let length = found.slice.as_ref().map_or(0, |slice| slice.len);
    if version >= FLEXIBLE {
        put_varint(out, length + 1);
    } else {
        out.put_u32(u32::try_from(length).unwrap_or(0));
    }
    if let Some(slice) = found.slice {
        if length >= SEND_FILE {
            files.push((out.len(), slice));
        } else {
            let at = out.len();
            out.resize(at + length, 0);
            let read = match slice.is_cached() {
                true => slice.read(&mut out[at..]),
                false => run_blocking(|| slice.read(&mut out[at..])),
            };
            if read.is_err() {
                out.truncate(before);
                part.found = FetchedRange { code: code::KAFKA_STORAGE_ERROR, slice: None, ..found };
                return put_part(out, files, version, part);
            }
        }
    }
    put_tags(out, version);
}

fn put_aborted(out: &mut BytesMut, version: i16, aborted: &[AbortedTransaction]) {
    put_count(out, version, aborted.len());
    for transaction in aborted {
        out.put_i64(transaction.producer);
        out.put_i64(transaction.first as i64);
        put_tags(out, version);
    }
}

fn put_name(out: &mut BytesMut, version: i16, name: &str) {
    if version >= FLEXIBLE {
        put_varint(out, name.len() + 1);
    } else {
        out.put_u16(u16::try_from(name.len()).unwrap_or(0));
    }
    out.put_slice(name.as_bytes());
}

fn put_count(out: &mut BytesMut, version: i16, count: usize) {
    if version >= FLEXIBLE {
        put_varint(out, count + 1);
    } else {
        out.put_u32(u32::try_from(count).unwrap_or(0));
    }
}

fn put_tags(out: &mut BytesMut, version: i16) {
    if version >= FLEXIBLE {
        out.put_u8(0);
    }
}

fn put_varint(out: &mut BytesMut, mut value: usize) {
    while value >= 0x80 {
        out.put_u8(value as u8 | 0x80);
        value >>= 7;
    }
    out.put_u8(value as u8);
}
