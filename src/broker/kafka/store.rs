//! Appending a batch, and why one is refused.

use std::sync::Arc;

use bytes::Bytes;

use super::super::log::{Appended, BatchFormat as _, LogError, Partition};
use super::batch::RecordBatches;
use super::code;
use super::counters::{KafkaCounters, add};
use crate::broker::shared::log_error;

/// An error of the protocol, and words for it.
#[derive(Debug, Default)]
pub(super) struct ProduceRefusal {
    pub(super) code: i16,
    pub(super) words: Option<String>,
    /// The records it is about, by their place in the batch, with words for each.
    pub(super) records: Vec<(i32, String)>,
}

impl ProduceRefusal {
    pub(super) fn new(code: i16, words: impl Into<String>) -> Self {
        Self { code, words: Some(words.into()), records: Vec::new() }
    }

    pub(super) fn bare(code: i16) -> Self {
        Self { code, ..Self::default() }
    }
}

/// Counts a refusal.
pub(super) fn refuse<T>(counters: &KafkaCounters, refusal: ProduceRefusal) -> Result<T, ProduceRefusal> {
    add(&counters.rejected, 1);
    Err(refusal)
}

/// A batch to be appended.
pub(super) struct StagedBatch {
    pub(super) partition: Arc<Partition>,
    pub(super) records: Bytes,
    /// For a part of a transaction: what [`Partition::next_offset`] was when it was admitted.
    pub(super) admitted: Option<u64>,
}

/// Appends a batch and counts it.
pub(super) fn store(counters: &KafkaCounters, batch: &StagedBatch) -> Result<Appended, ProduceRefusal> {
    let StagedBatch { partition, records, admitted } = batch;
    let outcome = partition.append_admitted(&[(records, *admitted)]).pop();
    counted(counters, records, outcome.unwrap_or(Err(LogError::Deleted)))
}

/// Counts what an append has come to, and puts a failure into the protocol's words.
pub(super) fn counted(
    counters: &KafkaCounters,
    records: &[u8],
    result: Result<Appended, LogError>,
) -> Result<Appended, ProduceRefusal> {
    match result {
        Ok(appended) if appended.duplicate => {
            add(&counters.duplicates, 1);
            Ok(appended)
        }
        Ok(appended) => {
            add(&counters.batches_in, 1);
            add(&counters.records_in, RecordBatches.view(records).map_or(0, |view| u64::from(view.count)));
            Ok(appended)
        }
        Err(error) => {
            if matches!(error, LogError::Io { .. }) {
                log_error(&error);
            }
            refuse(counters, ProduceRefusal::new(code::of(&error), error.to_string()))
        }
    }
}
