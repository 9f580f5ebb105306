//! Topics of the broker's own, in which it keeps what must survive it: one partition, compacted.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::super::log::{BatchFormat as _, BatchHeader, Log, LogError, Partition, SegmentSlice, TopicSettings};
use super::batch::{self, BatchRecord, RecordBatches};

/// How much is read at a time.
const STRIDE: usize = 4 << 20;

/// The one partition of the topic, which is made if it is not there.
pub(super) fn open(log: &Log, name: &str) -> Result<Arc<Partition>, LogError> {
    let settings = TopicSettings {
        segment_bytes: 8 << 20,
        delete: false,
        compact: true,
        retention_ms: None,
        max_batch: 64 << 20,
        ..TopicSettings::default()
    };
    let labels = BTreeMap::from([("cleanup.policy".to_owned(), "compact".to_owned())]);
    let topic = match log.topic(name) {
        // Its settings were not synced when the power went.
        Some(topic) if topic.labels().is_empty() => {
            topic.change(settings, labels)?;
            topic
        }
        Some(topic) => topic,
        None => log.create(name, 1, settings, labels)?,
    };
    topic.partition(0).ok_or_else(|| LogError::Unknown(name.to_owned()))
}

/// Calls `each` with every record there is, and the batch it is in.
pub(super) fn read(
    partition: &Partition,
    name: &str,
    mut each: impl FnMut(&BatchHeader, BatchRecord<'_>),
) -> Result<(), LogError> {
    let (mut at, end) = partition.bounds();
    while at < end {
        let Some(slice) = partition.read(at, STRIDE, true)? else { break };
        let mut bytes = vec![0; slice.len];
        SegmentSlice::read(&slice, &mut bytes).map_err(|source| LogError::Io {
            what: "read",
            path: name.into(),
            source,
        })?;
        let before = at;
        let mut rest = &bytes[..];
        while let Ok(view) = RecordBatches.view(rest)
            && view.len <= rest.len()
        {
            for record in batch::records(&rest[..view.len]).into_iter().flatten().flatten() {
                each(&view, record);
            }
            at = view.next();
            rest = &rest[view.len..];
        }
        if at == before {
            break;
        }
    }
    Ok(())
}

/// Fields of the records of such topics, as Kafka writes them.
pub(super) fn put_text(out: &mut Vec<u8>, text: &str) {
    let length = u16::try_from(text.len()).unwrap_or(0);
    out.extend_from_slice(&length.to_be_bytes());
    out.extend_from_slice(&text.as_bytes()[..usize::from(length)]);
}

pub(super) fn take<const N: usize>(bytes: &mut &[u8]) -> Option<[u8; N]> {
    let (head, rest) = bytes.split_first_chunk::<N>()?;
    *bytes = rest;
    Some(*head)
}

pub(super) fn take_text(bytes: &mut &[u8]) -> Option<String> {
    let length = usize::from(u16::from_be_bytes(take(bytes)?));
    let text = std::str::from_utf8(bytes.get(..length)?).ok()?.to_owned();
    *bytes = &bytes[length..];
    Some(text)
}
