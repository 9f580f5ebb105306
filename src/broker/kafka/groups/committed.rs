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
type CommittedGroups = HashMap<String, BTreeMap<PartitionKey, Committed>>;

#[derive(Default)]
struct Offsets {
    groups: CommittedGroups,
    /// What open transactions are about to commit, by producer.
    pending: HashMap<i64, Vec<(String, PartitionKey, Committed)>>,
}

impl Offsets {
    fn put(&mut self, group: &str, place: PartitionKey, committed: Option<Committed>) {
        match committed {
            Some(committed) => {
                self.groups.entry(group.to_owned()).or_default().insert(place, committed);
            }
            None => {
                if let Some(places) = self.groups.get_mut(group) {
                    places.remove(&place);
                }
            }
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
            let committed = record.value.and_then(read_value);
            match (partition.decision(batch), batch.transaction) {
                (BatchDecision::Open, Some(stamp)) => {
                    let pending = known.pending.entry(stamp.producer).or_default();
                    pending.extend(committed.map(|committed| (group, place, committed)));
                }
                (BatchDecision::Counts, _) => known.put(&group, place, committed),
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
            known.put(group, place, committed);
        }
        Ok(appended.ticket)
    }

    /// Notes offsets that count once the producer's transaction is committed.
    pub(crate) fn commit_within(
        &self,
        group: &str,
        changes: Vec<(PartitionKey, Committed)>,
        (producer, epoch): (i64, i16),
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
        let appended = self.partition.append(&batch)?;
        let pending = known.pending.entry(producer).or_default();
        pending
            .extend(changes.into_iter().filter_map(|(place, committed)| Some((group.to_owned(), place, committed?))));
        Ok(appended.ticket)
    }

    /// Ends the producer's transaction here, with the batch that says so.
    pub(crate) fn end(&self, producer: i64, commit: bool, batch: &[u8]) -> Result<(), LogError> {
        let mut known = self.known();
        self.partition.append(batch)?;
        for (group, place, committed) in known.pending.remove(&producer).unwrap_or_default() {
            if commit {
                known.put(&group, place, Some(committed));
            }
        }
        Ok(())
    }

    /// Whether an open transaction is about to change what is committed at a place.
    pub(crate) fn is_pending(&self, group: &str, place: &PartitionKey) -> bool {
        let known = self.known();
        known.pending.values().flatten().any(|(of, at, _)| of == group && at == place)
    }

    /// What is committed at a place.
    pub(crate) fn get(&self, group: &str, place: &PartitionKey) -> Option<Committed> {
        self.known().groups.get(group)?.get(place).cloned()
    }

    /// Everything a group has committed.
    pub(crate) fn all(&self, group: &str) -> BTreeMap<PartitionKey, Committed> {
        self.known().groups.get(group).cloned().unwrap_or_default()
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
