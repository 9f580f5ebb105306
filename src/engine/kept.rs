//! What a system has kept of a workload, held against what it was to keep.
//!
//! # Design
//! When the load is over, all that is stored is read from the first message on, by a reader of its
//! own. Each message names its producer and number, and says when it was sent: so it is known of
//! each acknowledged message whether it had to be there, and of each that is there whether it
//! should be gone. What has to be there and is not is missing, at once and for good. What should be
//! gone has time (`keep.within`): it is read again until the system has kept the limit.
//!
//! Systems remove whole files (segments), and clean all but the one that they write. So beyond the
//! limit there may be one segment, or what that one replaces as well, where only the newest values
//! of a key are kept.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::driver::{Consumer, Disposition, Driver, DriverError, Incoming, Keeping, MessageSink};
use crate::load::keys::KeyChooser;
use crate::load::message::open;
use crate::measure::ledger::{OrderTracker, SequenceSet};
use crate::plan::{Case, Keep, Workload};
use crate::record::Kept;
use crate::units::{Nanos, SECOND, now};

use super::lost::{LostSpan, lost_spans};
use super::produce::Sent;
use super::raw::RawTrial;
use super::worker::key_chooser;

/// All is read when nothing has come for so long: after everything that has to be there was seen;
/// where nothing has to be there; where something that has to be there has not come.
const COMPLETE: Duration = Duration::from_millis(100);
const EMPTY: Duration = Duration::from_secs(2);
const MISSING: Duration = Duration::from_secs(5);
/// Messages that are read at most: of an envelope each.
const MOST: u64 = 50_000_000;
/// Pause before it is read again.
const AGAIN: Duration = Duration::from_millis(100);

/// A message that was read.
#[derive(Debug, Clone, Copy)]
struct ReadMessage {
    producer: u32,
    sequence: u64,
    sent: Nanos,
    bytes: u64,
}

/// All that was read, in order.
#[derive(Debug, Default)]
struct Reading {
    run: u32,
    messages: Vec<ReadMessage>,
    corrupted: u64,
    begun: Nanos,
    ended: Nanos,
}

impl MessageSink for Reading {
    fn take(&mut self, message: Incoming<'_>) -> Disposition {
        match open(message.payload, self.run) {
            Ok(e) => self.messages.push(ReadMessage {
                producer: e.producer,
                sequence: e.sequence,
                sent: e.sent,
                bytes: message.payload.len() as u64,
            }),
            Err(_) => self.corrupted += 1,
        }
        Disposition::Accept
    }

    fn dead_letter(&mut self, _: Incoming<'_>) {}
}

/// What is known of a workload when its load is over.
struct StoredWorkload<'a> {
    workload: &'a Workload,
    keep: Keep,
    keeping: Keeping,
    keys: Option<KeyChooser>,
    /// By number of the producer.
    sent: Vec<(u32, &'a Sent)>,
}

impl StoredWorkload<'_> {
    /// Which lane a message is in: messages of one lane keep their order.
    fn lane(&self, producer: u32, sequence: u64) -> (u32, u64) {
        match &self.keys {
            Some(keys) => (producer, keys.of(producer, sequence)),
            None => (producer, sequence % u64::from(self.workload.topology.channels)),
        }
    }

    /// Acknowledged messages that have to be there for whoever has read to the end at this instant,
    /// as far as that follows from the limit and not from what is there.
    fn owed(&self, until: Nanos) -> BTreeMap<u32, SequenceSet> {
        let mut all = BTreeMap::new();
        for (producer, sent) in &self.sent {
            let end = sent.acks.end();
            let acked = |from: u64| (from..end).filter(|n| sent.acks.contains(*n));
            let mut owed = SequenceSet::default();
            let mut owe = |n: u64| {
                owed.insert(n);
            };
            if let Some(age) = self.keep.age {
                let from = sent.times.iter().find(|(_, at)| at + age.0 > until).map_or(end, |(n, _)| *n);
                acked(from).for_each(&mut owe);
            } else if let (Some(values), Some(keys)) = (self.keep.per_key, &self.keys) {
                let mut counts = vec![0; keys.count() as usize];
                for n in (0..end).rev().filter(|n| sent.acks.contains(*n)) {
                    let count = &mut counts[keys.of(*producer, n) as usize];
                    if *count < values {
                        *count += 1;
                        owe(n);
                    }
                }
            } else if self.keep.bytes.is_none() && self.keep.messages.is_none() {
                acked(0).for_each(&mut owe);
            } else {
                // At least the newest; of the others the sum decides.
                acked(end.saturating_sub(1)).for_each(&mut owe);
            }
            all.insert(*producer, owed);
        }
        all
    }

    /// The newest message of each lane that has to be there: who has seen them has seen all that
    /// has to be there.
    fn ends(&self, owed: &BTreeMap<u32, SequenceSet>) -> BTreeMap<(u32, u64), u64> {
        let mut ends = BTreeMap::new();
        for (producer, set) in owed {
            for n in (0..set.end()).filter(|n| set.contains(*n)) {
                ends.insert(self.lane(*producer, n), n);
            }
        }
        ends
    }

    /// Holds what was read against the limit.
    fn judge(&self, reading: &Reading) -> Kept {
        let mut kept = Kept { read: reading.messages.len() as u64, corrupted: reading.corrupted, ..Kept::default() };
        let mut seen: BTreeMap<u32, SequenceSet> = BTreeMap::new();
        let mut order: BTreeMap<(u32, u64), OrderTracker> = BTreeMap::new();
        let mut first: BTreeMap<u32, u64> = BTreeMap::new();
        for m in &reading.messages {
            if !seen.entry(m.producer).or_default().insert(m.sequence) {
                kept.duplicated += 1;
                continue;
            }
            let lowest = first.entry(m.producer).or_insert(m.sequence);
            *lowest = m.sequence.min(*lowest);
            kept.reordered += u64::from(order.entry(self.lane(m.producer, m.sequence)).or_default().late(m.sequence));
        }
        let none = SequenceSet::default();
        let of = |producer: &u32| seen.get(producer).unwrap_or(&none);
        for (producer, owed) in self.owed(reading.ended) {
            kept.owed += owed.count(0, owed.end());
            kept.missing += owed.count_without(of(&producer), 0, owed.end());
        }
        if self.keep.bytes.is_some() || self.keep.messages.is_some() {
            // The newest are kept: after the first there is no gap, and there are enough of them.
            for (producer, sent) in &self.sent {
                let from = first.get(producer).copied().unwrap_or(u64::MAX).min(sent.acks.end());
                let last = sent.acks.end().saturating_sub(1);
                kept.owed += sent.acks.count(from, last.max(from));
                kept.missing += sent.acks.count_without(of(producer), from, last.max(from));
            }
            let short = self.short(reading, kept.read - kept.duplicated).saturating_sub(kept.missing);
            (kept.owed, kept.missing) = (kept.owed + short, kept.missing + short);
        }
        (kept.beyond, kept.beyond_bytes) = self.beyond(reading);
        kept
    }

    /// How many messages more would have to be there, where so many are.
    fn short(&self, reading: &Reading, there: u64) -> u64 {
        let acked: u64 = self.sent.iter().map(|(_, s)| s.acks.count(0, s.acks.end())).sum();
        let absent = acked.saturating_sub(there);
        let wanted = match (self.keep.messages, self.keep.bytes) {
            (Some(messages), _) => messages.saturating_sub(there),
            (None, Some(bytes)) => {
                let most: u64 = reading.messages.iter().map(|m| m.bytes + self.keeping.overhead.1).sum();
                let sizes = self.sent.iter().flat_map(|(_, s)| &s.sizes);
                let largest = sizes.max().map_or(0, |size| u64::from(*size)) + self.keeping.overhead.1;
                bytes.0.saturating_sub(most) / largest.max(1)
            }
            (None, None) => 0,
        };
        wanted.min(absent)
    }

    /// What is there beyond the limit, and its bytes at least.
    fn beyond(&self, reading: &Reading) -> (u64, u64) {
        let least = |m: &ReadMessage| m.bytes + self.keeping.overhead.0;
        let sum = |all: &[&ReadMessage]| (all.len() as u64, all.iter().map(|m| least(m)).sum());
        let all: Vec<&ReadMessage> = reading.messages.iter().collect();
        if let Some(age) = self.keep.age {
            let old = |m: &&&ReadMessage| m.sent + age.0 < reading.begun;
            return sum(&all.iter().filter(old).copied().collect::<Vec<_>>());
        }
        if let Some(messages) = self.keep.messages {
            return sum(&all[..all.len().saturating_sub(messages as usize)]);
        }
        if let Some(bytes) = self.keep.bytes {
            let mut left = bytes.0;
            // From the newest on, until the limit is used up.
            let fits = all.iter().rev().take_while(|m| {
                let (size, before) = (least(m), left);
                left = left.saturating_sub(size);
                size <= before
            });
            let fits = fits.count();
            return sum(&all[..all.len() - fits]);
        }
        let (Some(values), Some(keys)) = (self.keep.per_key, &self.keys) else { return (0, 0) };
        let mut counts: BTreeMap<u64, u32> = BTreeMap::new();
        let mut replaced = Vec::new();
        for m in all.iter().rev() {
            let key = keys.of(m.producer, m.sequence);
            let count = counts.entry(key).or_default();
            *count += 1;
            if *count > values {
                replaced.push(*m);
            }
        }
        sum(&replaced)
    }

    /// Bytes that may be there beyond the limit.
    fn allowed(&self) -> u64 {
        let replaced = if self.keep.per_key.is_some() { 2 } else { 1 };
        self.keeping.segment * replaced
    }

    /// What has to be there and is not, by when it was sent; where there is no limit.
    fn lost(&self, reading: &Reading) -> Vec<LostSpan> {
        if self.keep.limits() > 0 {
            return Vec::new();
        }
        let mut seen: BTreeMap<u32, SequenceSet> = BTreeMap::new();
        for m in &reading.messages {
            seen.entry(m.producer).or_default().insert(m.sequence);
        }
        let none = SequenceSet::default();
        let of = |(producer, sent): &(u32, &Sent)| {
            lost_spans(sent, seen.get(producer).unwrap_or(&none), (0, sent.acks.end()))
        };
        self.sent.iter().flat_map(of).collect()
    }

    /// Where not even the place is left: all that had to be there at this instant is missing.
    fn nothing(&self, at: Nanos) -> StoredFinding {
        let reading = Reading { begun: at, ended: at, ..Reading::default() };
        let kept = self.judge(&reading);
        let kept = Kept { promise: self.promise(), holds: kept.missing == 0, ..kept };
        StoredFinding { kept: Some(kept), lost: self.lost(&reading), gone: None }
    }

    /// What was promised, in words.
    fn promise(&self) -> String {
        let what = format!("keeps {}", self.keep);
        match self.allowed() {
            _ if self.keep.limits() == 0 => what,
            0 => format!("{what}, and nothing else"),
            allowed => format!("{what}, and at most {} else", crate::units::Bytes(allowed)),
        }
    }
}

/// What was found of a workload.
#[derive(Debug, Default)]
pub struct StoredFinding {
    /// Nothing where it does not say what is to be kept.
    pub kept: Option<Kept>,
    /// Where all of it has to be there: what is not, by when it was sent.
    pub lost: Vec<LostSpan>,
    /// In words, where the stream or topic is not there any more.
    pub gone: Option<String>,
}

/// Looks at what is kept of every workload that says what is to be; `run` names the trial, and
/// `seed` is that of its keys.
///
/// # Errors
/// When it cannot be read, or when it was no check because nothing had to be there.
pub async fn look_all<D: Driver>(
    driver: &D,
    case: &Case,
    (run, seed): (u32, u64),
    raw: &RawTrial,
) -> Result<Vec<StoredFinding>, DriverError> {
    let mut all = Vec::new();
    for (index, w) in case.workloads.iter().enumerate() {
        let Some(keep) = w.delivery.keep else {
            all.push(StoredFinding::default());
            continue;
        };
        let sent = raw.sent[index].iter().map(|(producer, sent)| (*producer, sent)).collect();
        let keys = key_chooser(w.delivery.keys, seed);
        let stored = StoredWorkload { workload: w, keep, keeping: driver.facts().keeping, keys, sent };
        all.push(match look(driver, index, &stored, run, raw.origin + raw.measured).await {
            // The scenario has ended a server, and this is what came of it.
            Err(error @ DriverError::Gone { .. }) if raw.end_expected => {
                StoredFinding { gone: Some(error.to_string()), ..stored.nothing(now()) }
            }
            looked => looked?,
        });
    }
    Ok(all)
}

/// Reads what is kept of a workload until it is within the limit, or has had its time. Its load
/// ended at `ended`.
async fn look<D: Driver>(
    driver: &D,
    index: usize,
    stored: &StoredWorkload<'_>,
    run: u32,
    ended: Nanos,
) -> Result<StoredFinding, DriverError> {
    let until = now() + stored.keep.within().0 + stored.keep.age.map_or(0, |age| age.0);
    let mut first: Option<Kept> = None;
    loop {
        let reading = read(driver, index, stored, run).await?;
        let found = stored.judge(&reading);
        let late = reading.begun >= until;
        let settled = found.beyond_bytes <= stored.allowed();
        let owed = first.as_ref().map_or(found.owed, |first| first.owed);
        let read = first.as_ref().map_or(found.read, |first| first.read);
        if first.is_none() && found.owed == 0 {
            return Err(DriverError::Admin {
                action: "look at what is kept".into(),
                url: "the system".into(),
                words: "no acknowledged message had to be there when it was read".into(),
                remedy: "raise `delivery.keep.age`, or look why nothing was acknowledged".into(),
            });
        }
        if found.missing > 0 || found.reordered > 0 || found.corrupted > 0 || settled || late {
            let settled_s = settled.then(|| reading.begun.saturating_sub(ended) as f64 / SECOND as f64);
            let holds = found.missing == 0 && found.reordered == 0 && found.corrupted == 0 && settled;
            let promise = stored.promise();
            let lost = stored.lost(&reading);
            let kept = Some(Kept { owed, read, settled_s, holds, promise, ..found });
            return Ok(StoredFinding { kept, lost, gone: None });
        }
        first.get_or_insert(found);
        tokio::time::sleep(AGAIN).await;
    }
}

/// Reads all that is there.
async fn read<D: Driver>(
    driver: &D,
    index: usize,
    stored: &StoredWorkload<'_>,
    run: u32,
) -> Result<Reading, DriverError> {
    let mut reading = Reading { run, begun: now(), ..Reading::default() };
    let mut consumer = driver.reread(index).await?;
    let mut ends = stored.ends(&stored.owed(reading.begun));
    let nothing = ends.is_empty();
    let mut looked = 0;
    loop {
        let patience = match (ends.is_empty(), nothing && looked == 0) {
            (true, false) => COMPLETE,
            (true, true) => EMPTY,
            (false, _) => MISSING,
        };
        match tokio::time::timeout(patience, consumer.receive(&mut reading, usize::MAX)).await {
            Ok(done) => done?,
            Err(_) => break,
        }
        for m in &reading.messages[looked..] {
            let lane = stored.lane(m.producer, m.sequence);
            if ends.get(&lane).is_some_and(|end| *end <= m.sequence) {
                ends.remove(&lane);
            }
        }
        looked = reading.messages.len();
        if reading.messages.len() as u64 > MOST {
            return Err(DriverError::Refused { words: format!("more than {MOST} messages are kept") });
        }
    }
    reading.ended = now();
    Ok(reading)
}

#[cfg(test)]
#[path = "kept_tests.rs"]
mod tests;
