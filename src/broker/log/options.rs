//! What a log can be told.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::disk::{Disk, SystemDisk};

/// When appended batches are made to survive a loss of power. A crash of the process alone loses
/// nothing under any policy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SyncPolicy {
    /// The operating system writes when it likes. Acknowledged at once.
    Never,
    /// Every so long. Acknowledged at once; at most the interval and the duration of one sync may
    /// be lost.
    Interval(Duration),
    /// Before more than so many bytes of a partition are acknowledged and not synced.
    Bytes(u64),
    /// Before every acknowledgement; all who wait share one sync. Readers see only what is synced.
    Group,
}

/// Everything a [`Log`](super::Log) is opened with.
#[derive(Clone)]
pub struct LogOptions {
    /// Its directory; made if it is not there.
    pub dir: PathBuf,
    /// When to sync.
    pub sync: SyncPolicy,
    /// What holds for topics that say nothing else.
    pub defaults: TopicSettings,
    /// Partitions in all, and so the segments that are open for writing.
    pub max_partitions: usize,
    /// Producers remembered per partition; the one unseen for longest is forgotten first.
    pub max_producers: usize,
    /// How often retention and compaction look at each partition, and files unused are closed.
    pub housekeeping: Duration,
    /// Whether busy partitions get segments written full of zeros beforehand. Never under
    /// [`SyncPolicy::Never`].
    pub prewrite: bool,
    /// The state of a partition's newest segment is noted every so many bytes: about as many are
    /// read at a start after a crash.
    pub checkpoint_bytes: u64,
    pub sync_threads: usize,
    /// How files are written and synced.
    pub disk: Arc<dyn Disk>,
}

impl LogOptions {
    /// The defaults for a directory: never sync, segments of 256 MiB, kept for a week.
    pub fn new(dir: impl Into<PathBuf>) -> Self {
        Self {
            dir: dir.into(),
            sync: SyncPolicy::Never,
            defaults: TopicSettings::default(),
            max_partitions: 4096,
            max_producers: 4096,
            housekeeping: Duration::from_secs(5),
            prewrite: true,
            checkpoint_bytes: 32 << 20,
            sync_threads: 2,
            disk: Arc::new(SystemDisk),
        }
    }
}

impl LogOptions {
    /// The disk where what is changed besides records must survive a loss of power before anybody
    /// is told of it; none where nothing is promised.
    pub(super) fn lasting(&self) -> Option<&dyn Disk> {
        (self.sync != SyncPolicy::Never).then_some(&*self.disk)
    }
}

/// What can be set per topic.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TopicSettings {
    /// A segment is closed when a batch would make it longer than this, in bytes.
    pub segment_bytes: u64,
    /// A segment is closed when it is older than this, in milliseconds, and a batch comes.
    pub segment_ms: Option<u64>,
    /// Segments whose newest record is older than this, in milliseconds, go.
    pub retention_ms: Option<u64>,
    /// The oldest segments go while what remains is at least this long, in bytes.
    pub retention_bytes: Option<u64>,
    /// The oldest segments go while what remains has at least so many records.
    pub retention_records: Option<u64>,
    /// Whether retention applies.
    pub delete: bool,
    /// Whether only the newest record of each key is kept in closed segments.
    pub compact: bool,
    /// For how long compaction keeps a record without value, in milliseconds.
    pub tombstone_ms: u64,
    /// Largest batch in bytes.
    pub max_batch: usize,
    /// How far the time of a record may be ahead of the broker's clock, in milliseconds; who
    /// appends looks at it.
    #[serde(default = "an_hour")]
    pub timestamp_after_ms: u64,
    /// How old the time of a record may be, in milliseconds; who appends looks at it.
    #[serde(default)]
    pub timestamp_before_ms: Option<u64>,
    /// Whether records get the time of their append; who appends sees to it.
    #[serde(default)]
    pub append_time: bool,
    /// How old the newest record of a segment must be before it is compacted, in milliseconds.
    #[serde(default)]
    pub compact_after_ms: u64,
    /// A segment of a compacted topic is closed when it is older than this, in milliseconds, and a
    /// batch comes.
    #[serde(default)]
    pub compact_within_ms: Option<u64>,
    /// What batches are compressed with, in the numbers of their format; as they come, if nothing
    /// is said. Who appends looks at it.
    #[serde(default)]
    pub codec: Option<u8>,
}

/// What logs of earlier versions have.
fn an_hour() -> u64 {
    3_600_000
}

impl Default for TopicSettings {
    fn default() -> Self {
        Self {
            segment_bytes: 256 << 20,
            segment_ms: None,
            retention_ms: Some(7 * 24 * 3600 * 1000),
            retention_bytes: None,
            retention_records: None,
            delete: true,
            compact: false,
            tombstone_ms: 24 * 3600 * 1000,
            max_batch: 1_048_588,
            timestamp_after_ms: an_hour(),
            timestamp_before_ms: None,
            append_time: false,
            compact_after_ms: 0,
            compact_within_ms: None,
            codec: None,
        }
    }
}
