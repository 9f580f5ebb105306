//! Committed offsets: in memory, and in the log, in the records Kafka itself uses for them.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::super::super::log::{Log, LogError, Partition, SegmentSlice, SyncTicket, TopicSettings};
use super::super::batch;
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

pub(crate) struct OffsetStore {
    partition: Arc<Partition>,
    groups: Mutex<CommittedGroups>,
    max_groups: usize,
}

impl OffsetStore {
    /// Opens the topic they are in, or makes it, and reads it.
    pub(crate) fn open(log: &Log, max_groups: usize) -> Result<Self, LogError> {
        let topic = match log.topic(OFFSETS_TOPIC) {
            Some(topic) => topic,
            None => {
                let settings = TopicSettings {
                    segment_bytes: 8 << 20,
                    delete: false,
                    compact: true,
                    retention_ms: None,
                    max_batch: 64 << 20,
                    ..TopicSettings::default()
                };
                let labels = BTreeMap::from([("cleanup.policy".to_owned(), "compact".to_owned())]);
                log.create(OFFSETS_TOPIC, 1, settings, labels)?
            }
        };
        let partition = topic.partition(0).ok_or_else(|| LogError::Unknown(OFFSETS_TOPIC.to_owned()))?;
        let offsets = Self { partition, groups: Mutex::default(), max_groups };
        offsets.replay()?;
        Ok(offsets)
    }

    fn groups(&self) -> MutexGuard<'_, CommittedGroups> {
        self.groups.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn replay(&self) -> Result<(), LogError> {
        let mut groups = self.groups();
        let (mut at, end) = self.partition.bounds();
        while at < end {
            let Some(slice) = self.partition.read(at, 4 << 20, true)? else { break };
            let mut bytes = vec![0; slice.len];
            SegmentSlice::read(&slice, &mut bytes).map_err(|source| LogError::Io {
                what: "read",
                path: OFFSETS_TOPIC.into(),
                source,
            })?;
            let before = at;
            let mut rest = &bytes[..];
            while let Ok(view) = super::super::super::log::BatchFormat::view(&batch::RecordBatches, rest)
                && view.len <= rest.len()
            {
                let records = batch::records(&rest[..view.len]).into_iter().flatten().flatten();
                for record in records {
                    if let Some((group, place)) = record.key.and_then(read_key) {
                        match record.value.and_then(read_value) {
                            Some(committed) => {
                                groups.entry(group).or_default().insert(place, committed);
                            }
                            None => {
                                if let Some(places) = groups.get_mut(&group) {
                                    places.remove(&place);
                                }
                            }
                        }
                    }
                }
                at = view.next();
                rest = &rest[view.len..];
            }
            if at == before {
                break;
            }
        }
        groups.retain(|_, places| !places.is_empty());
        Ok(())
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
        let mut groups = self.groups();
        if groups.len() >= self.max_groups && !groups.contains_key(group) {
            groups.retain(|_, places| !places.is_empty());
        }
        if groups.len() >= self.max_groups && !groups.contains_key(group) {
            return Err(LogError::Limit { what: "the number of groups with offsets", limit: self.max_groups });
        }
        let have = groups.get(group).map_or(0, BTreeMap::len);
        if have + changes.len() > MAX_OFFSETS + changes.iter().filter(|(_, c)| c.is_none()).count() {
            return Err(LogError::Limit { what: "the number of the group's offsets", limit: MAX_OFFSETS });
        }
        let records: Vec<(Vec<u8>, Option<Vec<u8>>)> = changes
            .iter()
            .map(|(place, committed)| (write_key(group, place), committed.as_ref().map(|c| write_value(c, now))))
            .collect();
        let borrowed: Vec<(&[u8], Option<&[u8]>)> =
            records.iter().map(|(key, value)| (key.as_slice(), value.as_deref())).collect();
        let appended = self.partition.append(&batch::encode(&borrowed, now))?;
        let places = groups.entry(group.to_owned()).or_default();
        for (place, committed) in changes {
            match committed {
                Some(committed) => places.insert(place, committed),
                None => places.remove(&place),
            };
        }
        Ok(appended.ticket)
    }

    /// What is committed at a place.
    pub(crate) fn get(&self, group: &str, place: &PartitionKey) -> Option<Committed> {
        self.groups().get(group)?.get(place).cloned()
    }

    /// Everything a group has committed.
    pub(crate) fn all(&self, group: &str) -> BTreeMap<PartitionKey, Committed> {
        self.groups().get(group).cloned().unwrap_or_default()
    }

    /// Whether a group has committed anything since it was last deleted. One whose offsets are all
    /// deleted stays known until it is deleted itself, room is needed, or the broker starts again,
    /// as Kafka keeps it until its next look for such groups.
    pub(crate) fn knows(&self, group: &str) -> bool {
        self.groups().contains_key(group)
    }

    /// Forgets a group without offsets.
    pub(crate) fn forget(&self, group: &str) {
        let mut groups = self.groups();
        if groups.get(group).is_some_and(BTreeMap::is_empty) {
            groups.remove(group);
        }
    }

    /// The groups that have committed anything.
    pub(crate) fn names(&self) -> Vec<String> {
        self.groups().keys().cloned().collect()
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

fn put_text(out: &mut Vec<u8>, text: &str) {
    let length = u16::try_from(text.len()).unwrap_or(0);
    out.extend_from_slice(&length.to_be_bytes());
    out.extend_from_slice(&text.as_bytes()[..usize::from(length)]);
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

fn take<const N: usize>(bytes: &mut &[u8]) -> Option<[u8; N]> {
    let (head, rest) = bytes.split_first_chunk::<N>()?;
    *bytes = rest;
    Some(*head)
}

fn take_text(bytes: &mut &[u8]) -> Option<String> {
    let length = usize::from(u16::from_be_bytes(take(bytes)?));
    let text = std::str::from_utf8(bytes.get(..length)?).ok()?.to_owned();
    *bytes = &bytes[length..];
    Some(text)
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
