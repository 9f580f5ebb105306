//! What a scenario may ask of share groups.

use schemars::JsonSchema;
use serde::Deserialize;

use crate::plan::Workload;
use crate::units::Span;

/// Records of one fetch: Kafka's own client takes so many.
const BATCH: u32 = 500;
/// The most that may be asked for at once; a broker lets 2000 of a partition be locked.
const MAX_BATCH: u32 = 100_000;

/// The table `share` of the options: how consumers with `consumers = "share"` fetch and
/// acknowledge.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub(in crate::driver::kafka) struct ShareOptions {
    /// How long a message that was fetched is locked for its consumer; afterwards others get it.
    /// Default: the broker's, 30 seconds.
    pub(super) lock_duration: Option<Span>,
    /// Messages of one fetch, and of one acknowledgement; a fetch takes whole batches of the
    /// producer. Default: 500.
    pub(super) batch: u32,
    /// How long the broker waits with its answer while it has nothing. Default: 500 ms.
    pub(super) fetch_wait: Span,
    /// What becomes of a message that the workload rejects. Default: "release".
    pub(super) rejected: RejectedMessages,
}

impl Default for ShareOptions {
    fn default() -> Self {
        Self { lock_duration: None, batch: BATCH, fetch_wait: Span::millis(500), rejected: RejectedMessages::Release }
    }
}

/// What becomes of a message that the workload rejects.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub(in crate::driver::kafka) enum RejectedMessages {
    /// It is released: it comes again, until it has been delivered so often as the group allows.
    Release,
    /// It is rejected: it is a dead letter at once.
    Reject,
}

impl ShareOptions {
    /// Checks the numbers.
    pub(in crate::driver::kafka) fn check(&self) -> Result<(), String> {
        if !(1..=MAX_BATCH).contains(&self.batch) {
            return Err(format!("option `share`: batch: {} is not between 1 and {MAX_BATCH}", self.batch));
        }
        if self.lock_duration.is_some_and(|l| l.0 < 1_000_000) {
            return Err("option `share`: lock-duration: the broker counts milliseconds; write at least \"1ms\"".into());
        }
        Ok(())
    }

    /// What a group is told: name and value of each setting.
    pub(super) fn group_settings(&self, w: &Workload, isolation: &str) -> Vec<(String, String)> {
        let mut all = vec![
            // Where it starts is set before it has members; this is for partitions that nobody has
            // fetched from.
            ("share.auto.offset.reset".into(), "earliest".into()),
            ("share.isolation.level".into(), isolation.into()),
        ];
        if let Some(lock) = self.lock_duration {
            all.push(("share.record.lock.duration.ms".into(), (lock.0 / 1_000_000).to_string()));
        }
        if w.delivery.max_deliver > 0 {
            all.push(("share.delivery.count.limit".into(), w.delivery.max_deliver.to_string()));
        }
        all
    }
}
