//! What is known of transactional ids, in the log: the records Kafka itself uses for it.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use super::super::super::log::{Log, LogError, Partition, SyncTicket};
use super::super::internal::{self, put_text, take, take_text};
use super::super::names::TRANSACTIONS_TOPIC;
use super::state::{PartitionName, ProducerIdentity, Transaction, TransactionState};
use crate::broker::kafka::batch;

/// The states of transactional ids, kept in a compacted topic of the broker's own.
pub(super) struct TransactionStore {
    partition: Arc<Partition>,
}

impl TransactionStore {
    /// Opens the topic, or makes it, and reads it.
    pub(super) fn open(log: &Log) -> Result<(Self, HashMap<String, Transaction>), LogError> {
        let partition = internal::open(log, TRANSACTIONS_TOPIC)?;
        let mut known = HashMap::new();
        internal::read(&partition, TRANSACTIONS_TOPIC, |_, record| {
            let Some(id) = record.key.and_then(read_key) else { return };
            match record.value.and_then(read_value) {
                Some(transaction) => known.insert(id, transaction),
                None => known.remove(&id),
            };
        })?;
        Ok((Self { partition }, known))
    }

    /// Notes the state of an id, or that there is none any more.
    pub(super) fn save(
        &self,
        id: &str,
        transaction: Option<&Transaction>,
        now: i64,
    ) -> Result<Option<SyncTicket>, LogError> {
        let value = transaction.map(write_value);
        let batch = batch::encode(&[(&write_key(id), value.as_deref())], now);
        Ok(self.partition.append(&batch)?.ticket)
    }
}

fn write_key(id: &str) -> Vec<u8> {
    let mut out = vec![0, 0];
    put_text(&mut out, id);
    out
}

fn read_key(mut key: &[u8]) -> Option<String> {
    let version = u16::from_be_bytes(take(&mut key)?);
    let id = take_text(&mut key)?;
    (version == 0).then_some(id)
}

fn write_value(transaction: &Transaction) -> Vec<u8> {
    let mut out = vec![0, 0];
    out.extend_from_slice(&transaction.producer.id.to_be_bytes());
    out.extend_from_slice(&transaction.producer.epoch.to_be_bytes());
    out.extend_from_slice(&transaction.timeout_ms.to_be_bytes());
    out.push(transaction.state as u8);
    let mut topics: BTreeMap<&str, Vec<i32>> = BTreeMap::new();
    for (topic, index) in &transaction.partitions {
        topics.entry(topic).or_default().push(*index);
    }
    // An array that is absent where there are none.
    let count = if topics.is_empty() { -1 } else { topics.len() as i32 };
    out.extend_from_slice(&count.to_be_bytes());
    for (topic, indexes) in topics {
        put_text(&mut out, topic);
        out.extend_from_slice(&(indexes.len() as u32).to_be_bytes());
        indexes.iter().for_each(|index| out.extend_from_slice(&index.to_be_bytes()));
    }
    out.extend_from_slice(&transaction.updated.to_be_bytes());
    out.extend_from_slice(&transaction.started.to_be_bytes());
    // What Kafka's first version of the record has not; readers of that version stop before it.
    out.extend_from_slice(&transaction.successor.to_be_bytes());
    out.extend_from_slice(&transaction.previous.to_be_bytes());
    out
}

fn read_value(mut value: &[u8]) -> Option<Transaction> {
    let value = &mut value;
    if u16::from_be_bytes(take(value)?) != 0 {
        return None;
    }
    let producer = ProducerIdentity { id: i64::from_be_bytes(take(value)?), epoch: i16::from_be_bytes(take(value)?) };
    let timeout_ms = i32::from_be_bytes(take(value)?);
    let state = TransactionState::of(u8::from_be_bytes(take(value)?))?;
    let mut transaction = Transaction { state, ..Transaction::new(producer, timeout_ms, -1) };
    for _ in 0..i32::from_be_bytes(take(value)?) {
        let topic = take_text(value)?;
        for _ in 0..i32::from_be_bytes(take(value)?) {
            let partition: PartitionName = (topic.clone(), i32::from_be_bytes(take(value)?));
            transaction.partitions.insert(partition);
        }
    }
    transaction.updated = i64::from_be_bytes(take(value)?);
    transaction.started = i64::from_be_bytes(take(value)?);
    transaction.successor = take(value).map_or(-1, i64::from_be_bytes);
    transaction.previous = take(value).map_or(-1, i64::from_be_bytes);
    Some(transaction)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn what_is_written_is_read_back(
            id in "[a-z]{1,20}", producer in 0i64..i64::MAX, epoch in 0i16..i16::MAX, state in 0u8..6,
            partitions in proptest::collection::btree_set(("[a-c]{1,3}", 0i32..5), 0..10),
            times in (0i64..i64::MAX, -1i64..i64::MAX), ids in (-1i64..i64::MAX, -1i64..i64::MAX),
        ) {
            let state = TransactionState::of(state).unwrap();
            let producer = ProducerIdentity { id: producer, epoch };
            let mut transaction = Transaction { state, partitions, ..Transaction::new(producer, 60_000, times.0) };
            transaction.started = times.1;
            (transaction.successor, transaction.previous) = ids;
            prop_assert_eq!(read_value(&write_value(&transaction)), Some(transaction));
            prop_assert_eq!(read_key(&write_key(&id)), Some(id));
        }

        #[test]
        fn any_bytes_are_read_without_panic(bytes in proptest::collection::vec(any::<u8>(), 0..100)) {
            let _ = read_value(&bytes);
            let _ = read_key(&bytes);
        }
    }
}
