//! The transaction coordinator: transactional ids, what each has open, and how it ends everywhere.
//!
//! **Meaning.** A transaction is the records of one producer in some partitions, and offsets of
//! groups, all of which count or none does. Readers who ask for it see only what is decided, and
//! are told what was aborted; the log keeps both.
//!
//! **Design.** (1) A transactional id is a state machine ([`state`]); every change is a record of a
//! compacted topic ([`store`]) before it is answered, as the sync policy says. (2) The end is
//! decided by one such record (`Prepare`); only when that is synced, where the policy syncs first,
//! a batch that says how it ended goes into every partition; and only when these are synced, too, a
//! record that all of it is done. A start after a crash goes on with what was decided. (3) Without
//! a wait for a sync all of this is done in the request; otherwise by the one task that also aborts
//! what has taken too long.
//! (4) A producer is fenced by its epoch: the coordinator and every partition refuse an older one.
//! A client that knows KIP-890 is given its next epoch with each end.
//! (5) What a partition has open and no id knows (a loss of power under a policy that may lose) is
//! aborted at the start, or readers would wait for ever.
//!
//! **Rejected.** Markers written by the partitions themselves (who reads one partition could see a
//! commit that another does not have); a state file (its records would need a sync of their own).

pub(super) mod state;
mod store;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use kafka_protocol::messages::{EndTxnResponse, ProducerId};

use super::super::log::{Log, LogError, Partition, SyncTicket, TransactionStamp, WakeSignal};
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

/// From this version of EndTxn on the producer gets its next epoch with each end.
const EPOCH_AT_END: i16 = 5;

/// Who waits for the end of a transaction.
pub(super) struct EndWaiter {
    pub(super) slot: Arc<ReplySlot>,
    pub(super) correlation: i32,
    pub(super) version: i16,
}

/// The answer to a wish to end a transaction: an error, or who the producer is from then on, which
/// the versions before 5 do not tell.
pub(super) fn end_response(result: Result<ProducerIdentity, i16>) -> EndTxnResponse {
    let (error, producer) = match result {
        Ok(producer) => (code::NONE, producer),
        Err(error) => (error, ProducerIdentity { id: -1, epoch: -1 }),
    };
    EndTxnResponse::default()
        .with_error_code(error)
        .with_producer_id(ProducerId(producer.id))
        .with_producer_epoch(producer.epoch)
}

impl EndWaiter {
    /// Whether the client takes a new epoch from each end (KIP-890).
    fn takes_epochs(&self) -> bool {
        self.version >= EPOCH_AT_END
    }

    fn answer(self, result: Result<ProducerIdentity, i16>) {
        self.slot.fill(respond(self.correlation, self.version, &end_response(result)));
    }
}

struct Entry {
    current: Transaction,
    /// The sync of the latest record of it, where one was waited for.
    saved: Option<SyncTicket>,
    /// Its decided end, to be written everywhere once this is synced; and what it was before.
    deciding: Option<(SyncTicket, Transaction)>,
    /// Where its end is written and not synced yet.
    ending: EndTickets,
    waiting: Option<EndWaiter>,
}

impl Entry {
    fn of(current: Transaction, saved: Option<SyncTicket>) -> Self {
        Self { current, saved, deciding: None, ending: EndTickets::new(), waiting: None }
    }

    /// Tells who waits for the end that it is decided.
    fn answer(&mut self) {
        let following = self.current.following();
        if let Some(waiter) = self.waiting.take() {
            waiter.answer(Ok(following));
        }
    }
}

type Ids = HashMap<String, Entry>;
type EndTickets = BTreeMap<PartitionName, SyncTicket>;

/// An open transaction that no id knows of.
struct UnknownTransaction {
    name: PartitionName,
    producer: ProducerIdentity,
    ending: EndTickets,
}

/// What has become of the end of a transaction in one partition.
#[derive(Clone, Copy, PartialEq, Eq)]
enum PartitionEnd {
    /// It is there for good.
    Done,
    /// It is written, and not synced yet.
    Waits,
    /// It is to be tried again.
    Failed,
}

/// What has become of a wish to end a transaction.
pub(super) enum EndOutcome {
    /// Who the producer is from then on.
    Done(ProducerIdentity),
    /// The waiter will be told.
    Waits,
}

/// All transactional ids of this broker.
pub(super) struct TransactionCoordinator {
    log: Arc<Log>,
    groups: Arc<Coordinator>,
    store: TransactionStore,
    ids: Mutex<Ids>,
    /// What is aborted since no id knows of it.
    unknown: Mutex<Vec<UnknownTransaction>>,
    changed: Arc<WakeSignal>,
}

impl TransactionCoordinator {
    /// Reads what is known, goes on with what was decided, and aborts what nobody knows.
    pub(super) fn open(log: Arc<Log>, groups: Arc<Coordinator>) -> Result<Arc<Self>, LogError> {
        let (store, known) = TransactionStore::open(&log)?;
        let ids = known.into_iter().map(|(id, current)| (id, Entry::of(current, None))).collect();
        let (ids, unknown) = (Mutex::new(ids), Mutex::default());
        let coordinator = Self { log, groups, store, ids, unknown, changed: WakeSignal::new() };
        coordinator.find_unknown();
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

    /// Notes what partitions have open and no id knows of.
    fn find_unknown(&self) {
        let ids = self.ids();
        let mut unknown = self.unknown.lock().unwrap_or_else(PoisonError::into_inner);
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
                        let (name, producer) = (name.clone(), ProducerIdentity { id, epoch });
                        unknown.push(UnknownTransaction { name, producer, ending: EndTickets::new() });
                    }
                }
            }
        }
    }

    /// Aborts what no id knows of. What could not be written stays to be tried again.
    fn abort_unknown(&self) {
        let mut unknown = self.unknown.lock().unwrap_or_else(PoisonError::into_inner);
        unknown.retain_mut(|it| self.end_in(&it.name, it.producer, false, &mut it.ending) != PartitionEnd::Done);
    }

    /// Ends a transaction in one partition: writes the end, or looks whether what was written is
    /// synced. `ending` has the ends that wait for a sync.
    fn end_in(
        &self,
        name: &PartitionName,
        producer: ProducerIdentity,
        commit: bool,
        ending: &mut EndTickets,
    ) -> PartitionEnd {
        let ticket = match ending.remove(name) {
            // It is gone, and is written once more at the next look.
            Some(ticket) if ticket.state() == Some(false) => return PartitionEnd::Failed,
            Some(ticket) => ticket,
            None => match self.write_end(name, producer, commit) {
                Ok(None) => return PartitionEnd::Done,
                Ok(Some(ticket)) => ticket,
                Err(()) => return PartitionEnd::Failed,
            },
        };
        if ticket.poll(&self.changed) == Some(true) {
            return PartitionEnd::Done;
        }
        ending.insert(name.clone(), ticket);
        PartitionEnd::Waits
    }

    /// Writes the end of a transaction into one partition: its sync, where that is waited for; an
    /// error when it is to be tried again.
    fn write_end(
        &self,
        (topic, index): &PartitionName,
        producer: ProducerIdentity,
        commit: bool,
    ) -> Result<Option<SyncTicket>, ()> {
        let now = wall();
        let batch = end_of_transaction(producer.id, producer.epoch, commit, now);
        let result = if topic == OFFSETS_TOPIC {
            self.groups.offsets.end(producer.id, commit, &batch)
        } else {
            match self.log.topic(topic).and_then(|topic| topic.partition(*index)) {
                Some(partition) => partition.append(&batch).map(|appended| appended.ticket),
                None => return Ok(None),
            }
        };
        match result {
            Ok(ticket) => Ok(ticket),
            // A newer epoch has ended it already.
            Err(LogError::Deleted | LogError::Fenced { .. }) => Ok(None),
            Err(error) => {
                log_error(&error);
                Err(())
            }
        }
    }

    /// Writes the decided end everywhere, and notes that all of it is done when it is synced there.
    /// What could not be written stays to be tried again. Who waits is told when all is done, or
    /// when that takes another try: it is decided for good.
    fn complete(&self, id: &str, entry: &mut Entry) {
        let Some(commit) = entry.current.state.ends() else { return };
        let producer = entry.current.producer;
        let (mut failed, ending) = (false, &mut entry.ending);
        entry.current.partitions.retain(|name| {
            let end = self.end_in(name, producer, commit, ending);
            failed |= end == PartitionEnd::Failed;
            end != PartitionEnd::Done
        });
        if entry.current.partitions.is_empty() {
            let now = wall();
            entry.current = entry.current.completed(now);
            // Lost, it would be written once more: that changes nothing.
            if let Err(error) = self.store.save(id, Some(&entry.current), now) {
                log_error(&error);
            }
        } else if !failed {
            return;
        }
        entry.answer();
    }

    /// Decides the end of a transaction, and writes it everywhere unless the decision must be
    /// synced first.
    fn decide(&self, id: &str, entry: &mut Entry, decided: Transaction, now: i64) -> Result<EndOutcome, LogError> {
        let ticket = self.store.save(id, Some(&decided), now)?;
        let before = std::mem::replace(&mut entry.current, decided);
        match ticket {
            None => {
                let following = entry.current.following();
                self.complete(id, entry);
                Ok(EndOutcome::Done(following))
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
        ids.insert(id.to_owned(), Entry::of(next, ticket.clone()));
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
        let next = match (entry.current.with(producer, partitions, now)?, &entry.saved) {
            (Some(next), _) => next,
            (None, None) => return Ok(None),
            // It has them all, and who asks again is not told so before that is synced.
            (None, Some(saved)) if saved.state() != Some(false) => return Ok(Some(saved.clone())),
            // A failed sync has taken the record away.
            (None, Some(_)) => entry.current.clone(),
        };
        if next.partitions.len() > MAX_PARTITIONS {
            return Err(code::POLICY_VIOLATION);
        }
        let ticket = self.store.save(id, Some(&next), now).map_err(|error| {
            log_error(&error);
            code::COORDINATOR_NOT_AVAILABLE
        })?;
        entry.current = next;
        entry.saved.clone_from(&ticket);
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
        let current = &entry.current;
        let ended = match waiter.takes_epochs() {
            true => current.ending_anew(producer, commit, now)?,
            false => current.ending(producer, commit, now)?,
        };
        let Some(mut decided) = ended else { return Ok(EndOutcome::Done(current.following())) };
        let unavailable = |error: LogError| {
            log_error(&error);
            code::COORDINATOR_NOT_AVAILABLE
        };
        if waiter.takes_epochs() && decided.is_used_up() {
            decided.successor = self.log.producer_id().map_err(unavailable)?;
        }
        let outcome = self.decide(id, entry, decided, now).map_err(unavailable)?;
        if matches!(outcome, EndOutcome::Waits) {
            entry.waiting = Some(waiter);
        }
        Ok(outcome)
    }

    /// Whether a batch of a transaction may be written to a partition. Gives the offset that the
    /// next batch there gets: if the transaction ends before this one is written, its end is there
    /// or beyond, and the partition refuses the batch.
    pub(super) fn admits(
        &self,
        id: &str,
        stamp: TransactionStamp,
        (topic, index): (&str, i32),
        partition: &Partition,
    ) -> Result<u64, i16> {
        // Ends are written under the same lock.
        let ids = self.ids();
        let entry = ids.get(id).ok_or(code::INVALID_PRODUCER_ID_MAPPING)?;
        entry.current.admits(ProducerIdentity { id: stamp.producer, epoch: stamp.epoch }, topic, index)?;
        Ok(partition.next_offset())
    }

    /// Whether offsets may be committed within the producer's transaction, as
    /// [`admits`](Self::admits).
    pub(super) fn admits_offsets(&self, id: &str, producer: ProducerIdentity) -> Result<u64, i16> {
        let ids = self.ids();
        ids.get(id).ok_or(code::INVALID_PRODUCER_ID_MAPPING)?.current.admits(producer, OFFSETS_TOPIC, 0)?;
        Ok(self.groups.offsets.next_record())
    }

    /// Goes on with what is synced, and aborts what has taken too long; returns when to look again.
    fn work(&self) -> Duration {
        self.abort_unknown();
        let now = wall();
        let mut next = IDLE;
        for (id, entry) in self.ids().iter_mut() {
            match entry.deciding.take() {
                Some((ticket, before)) => match ticket.poll(&self.changed) {
                    None => entry.deciding = Some((ticket, before)),
                    Some(true) => self.complete(id, entry),
                    Some(false) => {
                        // The decision is lost, and so none: it can be made again.
                        entry.current = before;
                        if let Some(waiter) = entry.waiting.take() {
                            waiter.answer(Err(code::COORDINATOR_NOT_AVAILABLE));
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
