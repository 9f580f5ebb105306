//! One transactional id, as a state machine: no clock, no log, no lock.

use std::collections::BTreeSet;

use super::super::code;

/// Where a transaction is, in Kafka's numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TransactionState {
    Empty = 0,
    Ongoing = 1,
    PrepareCommit = 2,
    PrepareAbort = 3,
    CompleteCommit = 4,
    CompleteAbort = 5,
}

impl TransactionState {
    pub(super) fn of(number: u8) -> Option<Self> {
        use TransactionState::*;
        [Empty, Ongoing, PrepareCommit, PrepareAbort, CompleteCommit, CompleteAbort].get(usize::from(number)).copied()
    }

    /// Whether its end is decided and not yet written everywhere; the end is a commit or not.
    pub(super) fn ends(self) -> Option<bool> {
        match self {
            Self::PrepareCommit => Some(true),
            Self::PrepareAbort => Some(false),
            _ => None,
        }
    }
}

/// A topic and a partition.
pub(crate) type PartitionName = (String, i32);

/// A producer's id and epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ProducerIdentity {
    pub(crate) id: i64,
    pub(crate) epoch: i16,
}

/// What is known of a transactional id.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Transaction {
    pub(crate) producer: ProducerIdentity,
    /// The epoch before the last renewal by its own producer; -1 if there was none.
    pub(crate) last_epoch: i16,
    /// The producer id that follows when the end is written everywhere, where that end has used up
    /// the epochs; and the one before this one. -1 is none.
    pub(crate) successor: i64,
    pub(crate) previous: i64,
    pub(crate) timeout_ms: i32,
    pub(crate) state: TransactionState,
    /// Those with records of the transaction, or whose end is still to be written.
    pub(crate) partitions: BTreeSet<PartitionName>,
    /// When the transaction began; -1 when there is none. In milliseconds since the Unix epoch, as
    /// `updated`.
    pub(crate) started: i64,
    pub(crate) updated: i64,
}

/// What an id that begins, or begins again, is to be given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Renewal {
    /// A new epoch, or the one it has if it asks again.
    Epoch,
    /// Another producer id, as the epochs are used up.
    Producer,
    /// Its open transaction is to be aborted first.
    Abort,
}

impl Transaction {
    pub(crate) fn new(producer: ProducerIdentity, timeout_ms: i32, now: i64) -> Self {
        Self {
            producer,
            last_epoch: -1,
            successor: -1,
            previous: -1,
            timeout_ms,
            state: TransactionState::Empty,
            partitions: BTreeSet::new(),
            started: -1,
            updated: now,
        }
    }

    /// What becomes of an id whose producer begins, and says who it has been before, if it knows.
    pub(crate) fn renewal(&self, known: Option<ProducerIdentity>) -> Result<Renewal, i16> {
        if known.is_some_and(|known| known.id != self.producer.id) {
            return Err(code::PRODUCER_FENCED);
        }
        match self.state {
            TransactionState::PrepareCommit | TransactionState::PrepareAbort => Err(code::CONCURRENT_TRANSACTIONS),
            TransactionState::Ongoing => Ok(Renewal::Abort),
            _ => match known {
                Some(known) if known.epoch != self.producer.epoch && known.epoch != self.last_epoch => {
                    Err(code::PRODUCER_FENCED)
                }
                // It asks again for what it has been given.
                Some(known) if known.epoch != self.producer.epoch => Ok(Renewal::Epoch),
                _ if self.producer.epoch >= i16::MAX - 1 => Ok(Renewal::Producer),
                _ => Ok(Renewal::Epoch),
            },
        }
    }

    /// The same id with its next epoch; asked again by who has been given it, with that one.
    pub(crate) fn renewed(&self, known: Option<ProducerIdentity>, timeout_ms: i32, now: i64) -> Self {
        let mut next = Self { timeout_ms, ..Self::new(self.producer, timeout_ms, now) };
        match known {
            Some(known) if known.epoch != self.producer.epoch => next.last_epoch = self.last_epoch,
            Some(_) => {
                next.last_epoch = self.producer.epoch;
                next.producer.epoch += 1;
            }
            None => next.producer.epoch += 1,
        }
        next
    }

    fn check(&self, producer: ProducerIdentity) -> Result<(), i16> {
        if producer.id != self.producer.id {
            return Err(code::INVALID_PRODUCER_ID_MAPPING);
        }
        if producer.epoch != self.producer.epoch { Err(code::PRODUCER_FENCED) } else { Ok(()) }
    }

    /// The transaction with more partitions; `None` when it has them all.
    pub(crate) fn with(
        &self,
        producer: ProducerIdentity,
        partitions: &[PartitionName],
        now: i64,
    ) -> Result<Option<Self>, i16> {
        self.check(producer)?;
        if self.state.ends().is_some() {
            return Err(code::CONCURRENT_TRANSACTIONS);
        }
        let ongoing = self.state == TransactionState::Ongoing;
        if ongoing && partitions.iter().all(|partition| self.partitions.contains(partition)) {
            return Ok(None);
        }
        let mut next = Self { state: TransactionState::Ongoing, updated: now, ..self.clone() };
        if !ongoing {
            next.previous = -1;
            next.partitions.clear();
            next.started = now;
        }
        next.partitions.extend(partitions.iter().cloned());
        Ok(Some(next))
    }

    /// The transaction with its end decided; `None` when it has ended so already.
    pub(crate) fn ending(&self, producer: ProducerIdentity, commit: bool, now: i64) -> Result<Option<Self>, i16> {
        self.check(producer)?;
        match (self.state, commit) {
            (TransactionState::Ongoing, _) => Ok(Some(self.decided(commit, now))),
            (TransactionState::CompleteCommit, true) | (TransactionState::CompleteAbort, false) => Ok(None),
            (TransactionState::PrepareCommit, true) | (TransactionState::PrepareAbort, false) => {
                Err(code::CONCURRENT_TRANSACTIONS)
            }
            _ => Err(code::INVALID_TXN_STATE),
        }
    }

    /// The same where each end gives the producer its next epoch (KIP-890): what comes late of a
    /// transaction is then of an older epoch than its end. Who has not heard of an end asks again
    /// with the epoch before; with the present one he ends what he has just begun, which may be
    /// nothing.
    pub(crate) fn ending_anew(&self, producer: ProducerIdentity, commit: bool, now: i64) -> Result<Option<Self>, i16> {
        use TransactionState::*;
        let last = i16::MAX - 1;
        let renamed = producer == ProducerIdentity { id: self.previous, epoch: last } && self.producer.epoch == 0;
        if producer.id != self.producer.id && !renamed {
            return Err(code::INVALID_PRODUCER_ID_MAPPING);
        }
        let again = renamed || producer.epoch.checked_add(1) == Some(self.producer.epoch);
        let valid = match self.state {
            Empty | Ongoing => producer.epoch == self.producer.epoch,
            PrepareCommit | PrepareAbort => again,
            CompleteCommit | CompleteAbort => again || producer.epoch == self.producer.epoch,
        };
        if !valid {
            return Err(code::PRODUCER_FENCED);
        }
        let bumped = |it: &Self| {
            let mut next = it.decided(commit, now);
            next.last_epoch = it.producer.epoch;
            next.producer.epoch = it.producer.epoch.saturating_add(1);
            next
        };
        match (self.state, commit) {
            (Ongoing, _) => Ok(Some(bumped(self))),
            (PrepareCommit, true) | (PrepareAbort, false) => Err(code::CONCURRENT_TRANSACTIONS),
            (CompleteCommit, true) | (CompleteAbort, false) if again => Ok(None),
            (Empty | CompleteCommit | CompleteAbort, false) if !again => Ok(Some(bumped(self))),
            _ => Err(code::INVALID_TXN_STATE),
        }
    }

    /// Whether the end that is decided has used up the epochs of the producer id.
    pub(crate) fn is_used_up(&self) -> bool {
        self.producer.epoch == i16::MAX
    }

    /// Who the producer is once the end is written everywhere.
    pub(crate) fn following(&self) -> ProducerIdentity {
        if self.successor >= 0 { ProducerIdentity { id: self.successor, epoch: 0 } } else { self.producer }
    }

    fn decided(&self, commit: bool, now: i64) -> Self {
        let state = if commit { TransactionState::PrepareCommit } else { TransactionState::PrepareAbort };
        Self { state, updated: now, ..self.clone() }
    }

    /// The open transaction to be aborted by the broker: its producer is fenced, but may begin anew
    /// if it says who it was.
    pub(crate) fn fenced(&self, now: i64) -> Self {
        let mut next = self.decided(false, now);
        next.last_epoch = self.producer.epoch;
        next.producer.epoch = next.producer.epoch.saturating_add(1);
        next
    }

    /// The transaction once its end is written everywhere.
    pub(crate) fn completed(&self, now: i64) -> Self {
        let state = match self.state {
            TransactionState::PrepareCommit => TransactionState::CompleteCommit,
            _ => TransactionState::CompleteAbort,
        };
        let next = Self { state, partitions: BTreeSet::new(), started: -1, updated: now, ..self.clone() };
        if self.successor < 0 {
            return next;
        }
        Self { producer: self.following(), last_epoch: -1, previous: self.producer.id, successor: -1, ..next }
    }

    /// When the broker aborts it, in milliseconds since the Unix epoch.
    pub(crate) fn deadline(&self) -> Option<i64> {
        let timeout = i64::from(self.timeout_ms);
        (self.state == TransactionState::Ongoing).then(|| self.started.saturating_add(timeout))
    }

    /// Whether its producer may write to a partition now.
    pub(crate) fn admits(&self, producer: ProducerIdentity, topic: &str, index: i32) -> Result<(), i16> {
        self.check(producer).map_err(|error| match error {
            code::PRODUCER_FENCED => code::INVALID_PRODUCER_EPOCH,
            error => error,
        })?;
        let has = |(name, of): &PartitionName| name == topic && *of == index;
        match self.state {
            TransactionState::Ongoing if self.partitions.iter().any(has) => Ok(()),
            _ => Err(code::INVALID_TXN_STATE),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// Only who has the present epoch, or the one before, begins anew as the same producer,
        /// also where the epochs are used up.
        #[test]
        fn an_older_epoch_never_begins_anew(
            epoch in prop_oneof![0i16..5, i16::MAX - 4..i16::MAX], has_last: bool, known in 0i16..=i16::MAX, near in 0i16..4,
        ) {
            let producer = ProducerIdentity { id: 7, epoch };
            let mut transaction = Transaction::new(producer, 1000, 0);
            transaction.last_epoch = if has_last { epoch - 1 } else { -1 };
            for epoch in [known, epoch.saturating_sub(near)] {
                let known = ProducerIdentity { epoch, ..producer };
                let fenced = epoch != producer.epoch && epoch != transaction.last_epoch;
                prop_assert_eq!(transaction.renewal(Some(known)) == Err(code::PRODUCER_FENCED), fenced);
            }
            // Who has been given the last epoch and has not heard of it is given it again.
            if has_last && epoch > 0 {
                let before = ProducerIdentity { epoch: epoch - 1, ..producer };
                prop_assert_eq!(transaction.renewal(Some(before)), Ok(Renewal::Epoch));
                prop_assert_eq!(transaction.renewed(Some(before), 1000, 1).producer, producer);
            }
            let used_up = epoch >= i16::MAX - 1;
            let expected = if used_up { Renewal::Producer } else { Renewal::Epoch };
            prop_assert_eq!(transaction.renewal(Some(producer)), Ok(expected));
            prop_assert_eq!(transaction.renewal(None), Ok(expected));
        }
    }
}
