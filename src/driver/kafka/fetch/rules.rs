//! How messages are fetched and offsets committed.

use std::time::Duration;

use super::super::choices::CommitMode;

/// The settings that are kept, under the names and with the values that librdkafka has for them.
#[derive(Debug, Clone)]
pub(in crate::driver::kafka) struct FetchRules {
    /// The broker waits for so many bytes, but not longer than so many milliseconds.
    pub(super) min_bytes: i32,
    pub(super) max_wait: i32,
    /// The most that one answer brings, and of one partition.
    pub(super) max_bytes: i32,
    pub(super) partition_bytes: i32,
    /// Whether messages of open and aborted transactions are left out.
    pub(super) committed: bool,
    /// Whether the checksums of batches are verified.
    pub(super) checks: bool,
    pub(super) commit: CommitMode,
    /// From one automatic commit to the next.
    pub(super) interval: Duration,
    /// Pause after something that failed and may pass.
    pub(super) retry: Duration,
}

impl FetchRules {
    /// The names of the settings of librdkafka that are kept.
    pub(in crate::driver::kafka) const SETTINGS: [&'static str; 7] = [
        "isolation.level",
        "fetch.wait.max.ms",
        "fetch.min.bytes",
        "fetch.max.bytes",
        "fetch.message.max.bytes",
        "check.crcs",
        "auto.commit.interval.ms",
    ];

    /// As a client of librdkafka with the same options says them.
    ///
    /// # Errors
    /// The setting that cannot be had.
    pub(in crate::driver::kafka) fn of(
        setting: impl Fn(&str) -> Option<String>,
        commit: CommitMode,
        retry: Duration,
    ) -> Result<Self, String> {
        let text = |key: &str| setting(key).ok_or_else(|| format!("{key} is not known"));
        let number = |key: &str| {
            let value = text(key)?;
            value.parse::<i32>().map_err(|_| format!("{key} = {value} is no number that a fetch can have"))
        };
        Ok(Self {
            min_bytes: number("fetch.min.bytes")?,
            max_wait: number("fetch.wait.max.ms")?,
            max_bytes: number("fetch.max.bytes")?,
            partition_bytes: number("fetch.message.max.bytes")?,
            committed: text("isolation.level")? == "read_committed",
            checks: text("check.crcs")? == "true",
            commit,
            interval: Duration::from_millis(number("auto.commit.interval.ms")?.max(0).unsigned_abs().into()),
            retry,
        })
    }
}
