//! The log engine: topics of partitions, each an append-only log of batches with offsets.
//!
//! **Why.** The second model the article compares is the commit log: records are kept, read by
//! position, read again. This is the part of it that has nothing to do with a protocol, so that
//! more than one protocol can stand on it.
//!
//! **Scope.** One node, one directory. Append, read from an offset or a time, retention by age,
//! size and count, compaction by key, refusal of a producer's duplicates and gaps, transactions
//! (what is decided, what was aborted), recovery. A batch is opaque: a [`BatchFormat`] tells its
//! length, how many records it holds, its newest time and whether it is whole, and writes the
//! offset into it. No Kafka word is known here.
//!
//! **Invariants.** An offset is given once. What a reader has seen stays what it is.
//! [`Appended::ticket`] is fulfilled when the sync policy covers the records, not before. Under
//! [`SyncPolicy::Group`] readers see only what is synced, so a crash takes nothing back. Recovery
//! cuts what follows the last whole batch of the newest segment, and nothing else.
//!
//! **Design.** (1) The caller's thread appends: one `pwritev` from the caller's buffer to the page
//! cache for all that came together, no queue, no copy. (2) Two locks a partition: `append` is held
//! over the write, `view` only to publish or look at a position, so readers never wait for a write.
//! (3) Waiting is a [`WakeSignal`]: one per connection, rung by an append, a sync or anything else
//! the connection waits for; a fetch that waits costs an entry in a list and no poll. (4) A few
//! sync threads serve a queue of dirty partitions: whoever appends while a sync runs shares the
//! next. (5) Under a syncing policy a busy partition moves to segments written full of zeros
//! beforehand, since a sync that does not change the file's size costs half. (6) A sparse index of
//! 16 bytes per 16 KiB finds a position; sealed segments keep file and index open only while in
//! use. (7) Readers get a file and a range, so that a connection may use `sendfile`. (8) The state
//! of the newest segment is noted now and then, so that a start reads only what follows.
//!
//! **Rejected.** A writer thread per partition (a wake-up in every acknowledgement); memory-mapped
//! files (a full disk becomes a signal); an entry header of our own around each batch (a reader's
//! range would no longer be what goes on the wire).

mod checkpoint;
mod compact;
mod disk;
mod error;
mod format;
mod ids;
mod index;
mod options;
mod partition;
mod position;
mod producers;
mod read;
mod recover;
mod retention;
mod segment;
mod store;
mod sync;
#[cfg(test)]
mod tests;
mod topic;
mod transactions;
mod wake;

pub use disk::{Disk, SystemDisk};
pub use error::LogError;
pub use format::{BatchFormat, BatchHeader, EachRecord, Malformed, ProducerStamp, TransactionStamp, TransactionStep};
pub use options::{LogOptions, SyncPolicy, TopicSettings};
pub use partition::{Appended, BatchDecision, Partition, SyncTicket};
pub use producers::SequenceCheck;
pub use read::{ReadIsolation, SegmentSlice, StableRead};
pub use recover::Recovered;
pub use store::Log;
pub use topic::Topic;
pub use transactions::AbortedTransaction;
pub use wake::WakeSignal;
