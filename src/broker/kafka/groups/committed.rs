//! Committed offsets: in memory, and in the log, in the records Kafka itself uses for them.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::super::super::log::{BatchDecision, Log, LogError, Partition, SyncTicket};
use super::super::batch;
use super::super::internal::{self, put_text, take, take_text};
use super::super::names::OFFSETS_TOPIC;
use crate::broker::shared::log_error;

/// Offsets of one group at most.
const MAX_OFFSETS: usize = 100_000;

/// A committed offset.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Committed {
    pub(crate) offset: i64,
    pub(crate) epoch: i32,
    pub(crate) metadata: String,
}

/// A topic and a partition.
pub(crate) type PartitionKey = (String, i32);
type CommittedGroups = HashMap<String, BTreeMap<PartitionKey, StoredOffset>>;

/// A committed offset, and where in the log it is: of two the later record counts, also where it is
/// a part of a transaction that ends later.
struct StoredOffset {
    at: u64,
    committed: Committed,
}

/// What an open transaction is about to commit; nothing where a later record has deleted it.
struct PendingOffset {
    group: String,
    place: PartitionKey,
    stored: Option<StoredOffset>,
}

#[derive(Default)]
struct Offsets {
    groups: CommittedGroups,
    /// What open transactions are about to commit, by producer.
    pending: HashMap<i64, Vec<PendingOffset>>,
}

impl Offsets {
    fn put(&mut self, group: &str, place: PartitionKey, stored: StoredOffset) {
        let places = self.groups.entry(group.to_owned()).or_default();
        if places.get(&place).is_none_or(|there| there.at <= stored.at) {
            places.insert(place, stored);
        }
    }

    fn delete(&mut self, group: &str, place: &PartitionKey) {
        if let Some(places) = self.groups.get_mut(group) {
            places.remove(place);
        }
        let pending = self.pending.values_mut().flatten();
        for offset in pending.filter(|offset| offset.group == group && offset.place == *place) {
            offset.stored = None;
        }
    }

    fn change(&mut self, group: &str, place: PartitionKey, committed: Option<Committed>, at: u64) {
        match committed {
            Some(committed) => self.put(group, place, StoredOffset { at, committed }),
            None => self.delete(group, &place),
        }
    }

    /// Whether there is room for more offsets of a group.
    fn room_for(
        &mut self,
        group: &str,
        changes: &[(PartitionKey, Option<Committed>)],
        max_groups: usize,
    ) -> Result<(), LogError> {
        let groups = &mut self.groups;
        if groups.len() >= max_groups && !groups.contains_key(group) {
            groups.retain(|_, places| !places.is_empty());
        }
        if groups.len() >= max_groups && !groups.contains_key(group) {
            return Err(LogError::Limit { what: "the number of groups with offsets", limit: max_groups });
        }
        let have = groups.get(group).map_or(0, BTreeMap::len);
        if have + changes.len() > MAX_OFFSETS + changes.iter().filter(|(_, c)| c.is_none()).count() {
            return Err(LogError::Limit { what: "the number of the group's offsets", limit: MAX_OFFSETS });
        }
        Ok(())
    }
}

pub(crate) struct OffsetStore {
    partition: Arc<Partition>,
    known: Mutex<Offsets>,
    max_groups: usize,
}

impl OffsetStore {
    /// Opens the topic they are in, or makes it, and reads it.
    pub(crate) fn open(log: &Log, max_groups: usize) -> Result<Self, LogError> {
        let partition = internal::open(log, OFFSETS_TOPIC)?;
        let mut known = Offsets::default();
        internal::read(&partition, OFFSETS_TOPIC, |batch, record| {
            let Some((group, place)) = record.key.and_then(read_key) else { return };
            let (committed, at) = (record.value.and_then(read_value), batch.base);
            match (partition.decision(batch), batch.transaction) {
                (BatchDecision::Open, Some(stamp)) => {
                    let pending = known.pending.entry(stamp.producer).or_default();
                    pending.extend(committed.map(|committed| PendingOffset {
                        group,
                        place,
                        stored: Some(StoredOffset { at, committed }),
                    }));
                }
                (BatchDecision::Counts, _) => known.change(&group, place, committed, at),
                _ => {}
            }
        })?;
        known.groups.retain(|_, places| !places.is_empty());
        Ok(Self { partition, known: Mutex::new(known), max_groups })
    }

    fn known(&self) -> MutexGuard<'_, Offsets> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes offsets, or that there are none any more.
    pub(crate) fn commit(
        &self,
        group: &str,
        changes: Vec<(PartitionKey, Option<Committed>)>,
        now: i64,
    ) -> Result<Option<SyncTicket>, LogError> {
        if changes.is_empty() {
            return Ok(None);
        }
        let mut known = self.known();
        known.room_for(group, &changes, self.max_groups)?;
        let appended = self.partition.append(&encode(group, &changes, now))?;
        known.groups.entry(group.to_owned()).or_default();
        for (place, committed) in changes {
            known.change(group, place, committed, appended.base);
        }
        Ok(appended.ticket)
    }

    /// The offset of the next record, by which it is known whether a transaction has ended since.
    pub(crate) fn next_record(&self) -> u64 {
        self.partition.next_offset()
    }

    /// Notes offsets that count once the producer's transaction is committed. `admitted` is what
    /// [`next_record`](Self::next_record) was when it was seen to be open.
    pub(crate) fn commit_within(
        &self,
        group: &str,
        changes: Vec<(PartitionKey, Committed)>,
        (producer, epoch, admitted): (i64, i16, u64),
        now: i64,
    ) -> Result<Option<SyncTicket>, LogError> {
        if changes.is_empty() {
            return Ok(None);
        }
        let mut known = self.known();
        let changes: Vec<_> = changes.into_iter().map(|(place, committed)| (place, Some(committed))).collect();
        known.room_for(group, &changes, self.max_groups)?;
        let pending = known.pending.get(&producer).map_or(0, Vec::len);
        if pending + changes.len() > MAX_OFFSETS {
            return Err(LogError::Limit { what: "the number of the transaction's offsets", limit: MAX_OFFSETS });
        }
        let batch = batch::of_transaction(encode(group, &changes, now), producer, epoch);
        let outcome = self.partition.append_admitted(&[(&batch, Some(admitted))]).pop();
        let appended = outcome.unwrap_or(Err(LogError::Deleted))?;
        let pending = known.pending.entry(producer).or_default();
        pending.extend(changes.into_iter().filter_map(|(place, committed)| {
            let stored = Some(StoredOffset { at: appended.base, committed: committed? });
            Some(PendingOffset { group: group.to_owned(), place, stored })
        }));
        Ok(appended.ticket)
    }

    /// Ends the producer's transaction here, with the batch that says so.
    pub(crate) fn end(&self, producer: i64, commit: bool, batch: &[u8]) -> Result<Option<SyncTicket>, LogError> {
        let mut known = self.known();
        let appended = self.partition.append(batch)?;
        for PendingOffset { group, place, stored } in known.pending.remove(&producer).unwrap_or_default() {
            if let Some(stored) = stored.filter(|_| commit) {
                known.put(&group, place, stored);
            }
        }
        Ok(appended.ticket)
    }

    /// Whether an open transaction is about to change what is committed at a place.
    pub(crate) fn is_pending(&self, group: &str, place: &PartitionKey) -> bool {
        let known = self.known();
        known.pending.values().flatten().any(|offset| offset.group == group && offset.place == *place)
    }

    /// What is committed at a place.
    pub(crate) fn get(&self, group: &str, place: &PartitionKey) -> Option<Committed> {
        self.known().groups.get(group)?.get(place).map(|stored| stored.committed.clone())
    }

    /// Everything a group has committed.
    pub(crate) fn all(&self, group: &str) -> BTreeMap<PartitionKey, Committed> {
        let known = self.known();
        let places = known.groups.get(group).into_iter().flatten();
        places.map(|(place, stored)| (place.clone(), stored.committed.clone())).collect()
    }

    /// Whether a group has committed anything since it was last deleted. One whose offsets are all
    /// deleted stays known until it is deleted itself, room is needed, or the broker starts again,
    /// as Kafka keeps it until its next look for such groups.
    pub(crate) fn knows(&self, group: &str) -> bool {
        self.known().groups.contains_key(group)
    }

    /// Forgets a group without offsets.
    pub(crate) fn forget(&self, group: &str) {
        let groups = &mut self.known().groups;
        if groups.get(group).is_some_and(BTreeMap::is_empty) {
            groups.remove(group);
        }
    }

    /// The groups that have committed anything.
    pub(crate) fn names(&self) -> Vec<String> {
        self.known().groups.keys().cloned().collect()
    }

    pub(crate) fn forget_topic(&self, topic: &str, now: i64) {
        for group in self.names() {
            let gone = self.all(&group).into_keys().filter(|(t, _)| t == topic).map(|place| (place, None)).collect();
            if let Err(error) = self.commit(&group, gone, now) {
                log_error(&error);
            }
        }
    }
}

fn encode(group: &str, changes: &[(PartitionKey, Option<Committed>)], now: i64) -> Vec<u8> {
    let records: Vec<(Vec<u8>, Option<Vec<u8>>)> = changes
        .iter()
        .map(|(place, committed)| (write_key(group, place), committed.as_ref().map(|c| write_value(c, now))))
        .collect();
    let borrowed: Vec<(&[u8], Option<&[u8]>)> =
        records.iter().map(|(key, value)| (key.as_slice(), value.as_deref())).collect();
    batch::encode(&borrowed, now)
}

fn write_key(group: &str, (topic, partition): &PartitionKey) -> Vec<u8> {
    let mut out = vec![0, 1];
    put_text(&mut out, group);
    put_text(&mut out, topic);
    out.extend_from_slice(&partition.to_be_bytes());
    out
}

fn write_value(committed: &Committed, now: i64) -> Vec<u8> {
    let mut out = vec![0, 3];
    out.extend_from_slice(&committed.offset.to_be_bytes());
    out.extend_from_slice(&committed.epoch.to_be_bytes());
    put_text(&mut out, &committed.metadata);
    out.extend_from_slice(&now.to_be_bytes());
    out
}

fn read_key(mut key: &[u8]) -> Option<(String, PartitionKey)> {
    let version = u16::from_be_bytes(take(&mut key)?);
    let group = take_text(&mut key)?;
    let topic = take_text(&mut key)?;
    let partition = i32::from_be_bytes(take(&mut key)?);
    (version <= 1).then_some((group, (topic, partition)))
}

fn read_value(mut value: &[u8]) -> Option<Committed> {
    let version = u16::from_be_bytes(take(&mut value)?);
    let offset = i64::from_be_bytes(take(&mut value)?);
    let epoch = i32::from_be_bytes(take(&mut value)?);
    let metadata = take_text(&mut value)?;
    (version == 3).then_some(Committed { offset, epoch, metadata })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::broker::log::LogOptions;
    use proptest::prelude::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        /// Whatever is committed, deleted and left open in whichever order: what the broker knows
        /// is what it would read back.
        #[test]
        fn what_is_known_is_what_would_be_read_back(
            steps in proptest::collection::vec((0u8..5, 0i64..3, 0i32..2), 1..40),
        ) {
            let dir = tempfile::tempdir().unwrap();
            let log = Log::open(LogOptions::new(dir.path()), Arc::new(batch::RecordBatches)).unwrap().0;
            let offsets = OffsetStore::open(&log, 10).unwrap();
            let places = [("t".to_owned(), 0), ("t".to_owned(), 1)];
            for (n, (kind, producer, index)) in steps.into_iter().enumerate() {
                let place = ("t".to_owned(), index);
                let committed = Committed { offset: n as i64, epoch: 0, metadata: String::new() };
                match kind {
                    0 => drop(offsets.commit("g", vec![(place, Some(committed))], 0).unwrap()),
                    1 => drop(offsets.commit("g", vec![(place, None)], 0).unwrap()),
                    2 => {
                        let who = (producer, 0, offsets.next_record());
                        drop(offsets.commit_within("g", vec![(place, committed)], who, 0).unwrap());
                    }
                    commit => {
                        let end = batch::end_of_transaction(producer, 0, commit == 3, 0);
                        drop(offsets.end(producer, commit == 3, &end).unwrap());
                    }
                }
                let again = OffsetStore::open(&log, 10).unwrap();
                prop_assert_eq!(offsets.all("g"), again.all("g"));
                for place in &places {
                    prop_assert_eq!(offsets.is_pending("g", place), again.is_pending("g", place));
                }
            }
        }
    }
}
