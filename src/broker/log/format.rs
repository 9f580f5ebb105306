//! What the engine needs to know of a batch, and all it knows.

/// Tells the engine about batches of one kind.
///
/// A batch is contiguous bytes: a header of [`header_len`](Self::header_len) bytes, the first
/// [`stamp_len`](Self::stamp_len) of which are rewritten with the offset given to it, then
/// anything. The stamp is outside of the batch's own checksum.
pub trait BatchFormat: Send + Sync + 'static {
    /// Bytes that [`view`](Self::view) needs.
    fn header_len(&self) -> usize;

    /// Bytes at the start that [`stamp`](Self::stamp) rewrites; at most 32.
    fn stamp_len(&self) -> usize;

    /// Reads a header; `bytes` may be longer.
    ///
    /// # Errors
    /// When the bytes are too few or cannot be a header.
    fn view(&self, bytes: &[u8]) -> Result<BatchHeader, Malformed>;

    /// Whether a whole batch agrees with its checksum.
    fn intact(&self, batch: &[u8]) -> bool;

    /// Writes the offset of the first record into the first [`stamp_len`](Self::stamp_len) bytes.
    fn stamp(&self, stamp: &mut [u8], base: u64);

    /// Calls `each` with the offset and the key of every record; a record without value is `true`
    /// as the third argument. `None` when the batch cannot be looked into, as when it is
    /// compressed: it is then kept whole.
    fn keys(&self, batch: &[u8], each: &mut EachRecord<'_>) -> Option<()>;

    /// The batch with only the records `keep` wants; their offsets, and the range of offsets of the
    /// batch, stay. `None` when it cannot be rewritten.
    fn retain(&self, batch: &[u8], keep: &mut dyn FnMut(u64) -> bool) -> Option<Vec<u8>>;
}

/// Takes a record's offset, its key, and whether it has no value.
pub type EachRecord<'a> = dyn FnMut(u64, Option<&[u8]>, bool) + 'a;

/// What a header says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BatchHeader {
    /// Length of the whole batch in bytes; at least the header's.
    pub len: usize,
    /// Offset of the first record; meaningless before it has been stamped.
    pub base: u64,
    /// How many offsets the batch takes; at least one.
    pub count: u32,
    /// Newest time of a record, in milliseconds since the Unix epoch; negative when it has none.
    pub max_timestamp: i64,
    /// Who sent it, if it is numbered.
    pub producer: Option<ProducerStamp>,
    /// The transaction it is a part of, or the end of.
    pub transaction: Option<TransactionStamp>,
}

impl BatchHeader {
    /// The offset after the last.
    pub fn next(&self) -> u64 {
        self.base + u64::from(self.count)
    }
}

/// The numbering of a producer that sends each batch once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProducerStamp {
    /// Which producer.
    pub id: i64,
    /// Its epoch: raised whenever the producer starts again.
    pub epoch: i16,
    /// Number of the first record of the batch, per producer and partition.
    pub sequence: i32,
}

/// What a batch is to its producer's transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TransactionStamp {
    /// Which producer.
    pub producer: i64,
    /// Its epoch.
    pub epoch: i16,
    /// What it is to the transaction.
    pub step: TransactionStep,
}

/// A part of a transaction, or its end. Which end it is may be known only where the whole batch is
/// looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TransactionStep {
    /// Records that count once the transaction is committed.
    Part,
    /// All of it counts.
    Commit,
    /// None of it counts.
    Abort,
}

/// Why bytes are not a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Malformed(pub &'static str);
