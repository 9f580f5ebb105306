//! The transaction coordinator: transactional ids, what each has open, and how it ends everywhere.
//!
//! **Meaning.** A transaction is the records of one producer in some partitions, and offsets of
//! groups, all of which count or none does. Readers who ask for it see only what is decided, and
//! are told what was aborted; the log keeps both.
//!
//! **Design.** (1) A transactional id is a state machine ([`state`]); every change is a record of a
//! compacted topic ([`store`]) before it is answered, as the sync policy says. (2) The end is
//! decided by one such record (`Prepare`); only when that is synced, where the policy syncs first,
//! a batch that says how it ended goes into every partition, and then a record that all of it is
//! done. A start after a crash goes on with what was decided. (3) Without a wait for a sync all of
//! this is done in the request; otherwise by the one task that also aborts what has taken too long.
//! (4) A producer is fenced by its epoch: the coordinator and every partition refuse an older one.
//! (5) What a partition has open and no id knows (a loss of power under a policy that may lose) is
//! aborted at the start, or readers would wait for ever.
//!
//! **Rejected.** Markers written by the partitions themselves (who reads one partition could see a
//! commit that another does not have); a state file (its records would need a sync of their own).

pub(super) mod state;
mod store;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use kafka_protocol::messages::EndTxnResponse;

use super::super::log::{Log, LogError, SyncTicket, TransactionStamp, WakeSignal};
use super::batch::end_of_transaction;
use super::code;
use super::groups::{Coordinator, wall};
use super::names::OFFSETS_TOPIC;
use super::reply::{ReplySlot, respond};
use crate::broker::shared::log_error;
use state::{PartitionName, ProducerIdentity, Renewal, Transaction};
use store::TransactionStore;

/// Transactional ids at most; those unused for longest are forgotten first.
const MAX_IDS: usize = 10_000;
/// Partitions of one transaction at most.
const MAX_PARTITIONS: usize = 10_000;
/// How long the task sleeps at most: so late it aborts what has taken too long, and tries again
/// what could not be written.
const IDLE: Duration = Duration::from_secs(1);

/// Who waits for the end of a transaction.
pub(super) struct EndWaiter {
    pub(super) slot: Arc<ReplySlot>,
    pub(super) correlation: i32,
    pub(super) version: i16,
}

impl EndWaiter {
    fn answer(self, error: i16) {
        let response = EndTxnResponse::default().with_error_code(error);
        self.slot.fill(respond(self.correlation, self.version, &response));
    }
}

struct Entry {
    current: Transaction,
    /// Its decided end, to be written everywhere once this is synced; and what it was before.
    deciding: Option<(SyncTicket, Transaction)>,
    waiting: Option<EndWaiter>,
}

impl Entry {
    fn of(current: Transaction) -> Self {
        Self { current, deciding: None, waiting: None }
    }
}

type Ids = HashMap<String, Entry>;

/// What has become of a wish to end a transaction.
pub(super) enum EndOutcome {
    Done,
    /// The waiter will be told.
    Waits,
}

/// All transactional ids of this broker.
pub(super) struct TransactionCoordinator {
    log: Arc<Log>,
    groups: Arc<Coordinator>,
    store: TransactionStore,
    ids: Mutex<Ids>,
    changed: Arc<WakeSignal>,
}

impl TransactionCoordinator {
    /// Reads what is known, goes on with what was decided, and aborts what nobody knows.
    pub(super) fn open(log: Arc<Log>, groups: Arc<Coordinator>) -> Result<Arc<Self>, LogError> {
        let (store, known) = TransactionStore::open(&log)?;
        let ids = known.into_iter().map(|(id, current)| (id, Entry::of(current))).collect();
        let coordinator = Self { log, groups, store, ids: Mutex::new(ids), changed: WakeSignal::new() };
        coordinator.abort_unknown();
        let mut ids = coordinator.ids();
        for (id, entry) in ids.iter_mut().filter(|(_, entry)| entry.current.state.ends().is_some()) {
            coordinator.complete(id, entry);
        }
        drop(ids);
        Ok(Arc::new(coordinator))
    }

    fn ids(&self) -> MutexGuard<'_, Ids> {
        self.ids.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Aborts what partitions have open and no id knows of.
    fn abort_unknown(&self) {
        let ids = self.ids();
        for topic in self.log.topics() {
            for index in 0..topic.count() as i32 {
                let Some(partition) = topic.partition(index) else { continue };
                let name: PartitionName = (topic.name().to_string(), index);
                for (id, epoch) in partition.open_transactions() {
                    let known = ids.values().any(|entry| {
                        let is_open = entry.current.deadline().is_some() || entry.current.state.ends().is_some();
                        entry.current.producer.id == id && is_open && entry.current.partitions.contains(&name)
                    });
                    if !known {
                        self.write_end(&name, ProducerIdentity { id, epoch }, false);
                    }
                }
            }
        }
    }

    /// Writes the end of a transaction into one partition; `false` when it is to be tried again.
    fn write_end(&self, (topic, index): &PartitionName, producer: ProducerIdentity, commit: bool) -> bool {
        let now = wall();
        let batch = end_of_transaction(producer.id, producer.epoch, commit, now);
        let result = if topic == OFFSETS_TOPIC {
            self.groups.offsets.end(producer.id, commit, &batch)
        } else {
            match self.log.topic(topic).and_then(|topic| topic.partition(*index)) {
                Some(partition) => partition.append(&batch).map(|_| ()),
                None => return true,
            }
        };
        match result {
            // A newer epoch has ended it already.
            Ok(()) | Err(LogError::Deleted | LogError::Fenced { .. }) => true,
            Err(error) => {
                log_error(&error);
                false
            }
        }
    }

    /// Writes the decided end everywhere. What could not be written stays to be tried again.
    fn complete(&self, id: &str, entry: &mut Entry) {
        let Some(commit) = entry.current.state.ends() else { return };
        let producer = entry.current.producer;
        entry.current.partitions.retain(|name| !self.write_end(name, producer, commit));
        if entry.current.partitions.is_empty() {
            let now = wall();
            entry.current = entry.current.completed(now);
            // Lost, it would be written once more: that changes nothing.
            if let Err(error) = self.store.save(id, Some(&entry.current), now) {
                log_error(&error);
            }
        }
    }

    /// Decides the end of a transaction, and writes it everywhere unless the decision must be
    /// synced first.
    fn decide(&self, id: &str, entry: &mut Entry, decided: Transaction, now: i64) -> Result<EndOutcome, LogError> {
        let ticket = self.store.save(id, Some(&decided), now)?;
        let before = std::mem::replace(&mut entry.current, decided);
        match ticket {
            None => {
                self.complete(id, entry);
                Ok(EndOutcome::Done)
            }
            Some(ticket) => {
                entry.deciding = Some((ticket, before));
                self.changed.wake();
                Ok(EndOutcome::Waits)
            }
        }
    }

    /// Gives a producer its id and epoch; the end of what it had open comes first.
    pub(super) fn init(
        &self,
        id: &str,
        timeout_ms: i32,
        known: Option<ProducerIdentity>,
    ) -> Result<(ProducerIdentity, Option<SyncTicket>), i16> {
        let now = wall();
        let failed = |error: LogError| {
            log_error(&error);
            code::COORDINATOR_NOT_AVAILABLE
        };
        let producer = || self.log.producer_id().map(|id| ProducerIdentity { id, epoch: 0 }).map_err(failed);
        let mut ids = self.ids();
        if !ids.contains_key(id) {
            self.make_room(&mut ids, now)?;
        }
        let next = match ids.get_mut(id) {
            None => Transaction::new(producer()?, timeout_ms, now),
            Some(entry) => {
                let mut renewal = entry.current.renewal(known)?;
                if renewal == Renewal::Abort {
                    let fenced = entry.current.fenced(now);
                    let outcome = self.decide(id, entry, fenced, now).map_err(failed)?;
                    // Where that takes a moment, the client comes again; what it knows of itself is
                    // then out of date.
                    if known.is_some() || matches!(outcome, EndOutcome::Waits) {
                        return Err(code::CONCURRENT_TRANSACTIONS);
                    }
                    renewal = entry.current.renewal(known)?;
                }
                match renewal {
                    Renewal::Producer => Transaction::new(producer()?, timeout_ms, now),
                    _ => entry.current.renewed(known, timeout_ms, now),
                }
            }
        };
        let ticket = self.store.save(id, Some(&next), now).map_err(failed)?;
        let identity = next.producer;
        ids.insert(id.to_owned(), Entry::of(next));
        Ok((identity, ticket))
    }

    /// Forgets the id unused for longest when there are too many.
    fn make_room(&self, ids: &mut Ids, now: i64) -> Result<(), i16> {
        if ids.len() < MAX_IDS {
            return Ok(());
        }
        let at_rest = |entry: &Entry| entry.current.deadline().is_none() && entry.current.state.ends().is_none();
        let oldest = ids.iter().filter(|(_, entry)| at_rest(entry)).min_by_key(|(_, entry)| entry.current.updated);
        let oldest = oldest.map(|(id, _)| id.clone()).ok_or(code::COORDINATOR_NOT_AVAILABLE)?;
        ids.remove(&oldest);
        self.store.save(&oldest, None, now).map(|_| ()).map_err(|error| code::of(&error))
    }

    /// Makes partitions a part of the transaction, which begins if there is none.
    pub(super) fn add(
        &self,
        id: &str,
        producer: ProducerIdentity,
        partitions: &[PartitionName],
    ) -> Result<Option<SyncTicket>, i16> {
        let now = wall();
        let mut ids = self.ids();
        let entry = ids.get_mut(id).ok_or(code::INVALID_PRODUCER_ID_MAPPING)?;
        let Some(next) = entry.current.with(producer, partitions, now)? else { return Ok(None) };
        if next.partitions.len() > MAX_PARTITIONS {
            return Err(code::POLICY_VIOLATION);
        }
        let ticket = self.store.save(id, Some(&next), now).map_err(|error| {
            log_error(&error);
            code::COORDINATOR_NOT_AVAILABLE
        })?;
        entry.current = next;
        Ok(ticket)
    }

    /// Ends the transaction; who has to wait is told through `waiter`.
    pub(super) fn end(
        &self,
        id: &str,
        producer: ProducerIdentity,
        commit: bool,
        waiter: EndWaiter,
    ) -> Result<EndOutcome, i16> {
        let now = wall();
        let mut ids = self.ids();
        let entry = ids.get_mut(id).ok_or(code::INVALID_PRODUCER_ID_MAPPING)?;
        let Some(decided) = entry.current.ending(producer, commit, now)? else { return Ok(EndOutcome::Done) };
        let outcome = self.decide(id, entry, decided, now).map_err(|error| {
            log_error(&error);
            code::COORDINATOR_NOT_AVAILABLE
        })?;
        if matches!(outcome, EndOutcome::Waits) {
            entry.waiting = Some(waiter);
        }
        Ok(outcome)
    }

    /// Whether a batch of a transaction may be written to a partition.
    pub(super) fn admits(&self, id: &str, stamp: TransactionStamp, topic: &str, index: i32) -> Result<(), i16> {
        let ids = self.ids();
        let entry = ids.get(id).ok_or(code::INVALID_PRODUCER_ID_MAPPING)?;
        entry.current.admits(ProducerIdentity { id: stamp.producer, epoch: stamp.epoch }, topic, index)
    }

    /// Whether offsets may be committed within the producer's transaction.
    pub(super) fn admits_offsets(&self, id: &str, producer: ProducerIdentity) -> Result<(), i16> {
        let ids = self.ids();
        ids.get(id).ok_or(code::INVALID_PRODUCER_ID_MAPPING)?.current.admits(producer, OFFSETS_TOPIC, 0)
    }

    /// Goes on with what is synced, and aborts what has taken too long; returns when to look again.
    fn work(&self) -> Duration {
        let now = wall();
        let mut next = IDLE;
        for (id, entry) in self.ids().iter_mut() {
            match entry.deciding.take() {
                Some((ticket, before)) => match ticket.poll(&self.changed) {
                    None => entry.deciding = Some((ticket, before)),
                    Some(synced) => {
                        let error = if synced {
                            self.complete(id, entry);
                            code::NONE
                        } else {
                            // The decision is lost, and so none: it can be made again.
                            entry.current = before;
                            code::COORDINATOR_NOT_AVAILABLE
                        };
                        if let Some(waiter) = entry.waiting.take() {
                            waiter.answer(error);
                        }
                    }
                },
                None if entry.current.state.ends().is_some() => self.complete(id, entry),
                None => {}
            }
            let Some(deadline) = entry.current.deadline() else { continue };
            if deadline > now {
                next = next.min(Duration::from_millis(deadline.abs_diff(now)));
                continue;
            }
            let fenced = entry.current.fenced(now);
            if let Err(error) = self.decide(id, entry, fenced, now) {
                log_error(&error);
            }
        }
        next
    }

    /// Does what is due, until it is dropped.
    pub(super) async fn tick(self: Arc<Self>) {
        loop {
            let next = self.work();
            tokio::select! {
                () = tokio::time::sleep(next) => {}
                () = self.changed.woken() => {}
            }
        }
    }
}
