//! Connections that are open all the while and carry nothing.
//!
//! They are there before the warm-up begins. One that is lost is an incident: a broker that closes
//! idle connections does not pay for them.

use futures_util::stream::{FuturesUnordered, StreamExt};

use crate::driver::{ClientSlot, Driver, DriverError, Incident};
use crate::units::now;

use super::raw::ThreadReport;
use super::shared::Shared;

/// So many are opened at a time.
const AT_ONCE: usize = 32;
/// A stop is noticed at least so often.
const TICK: std::time::Duration = std::time::Duration::from_millis(20);

/// Opens a connection for each slot, says that they are there, and keeps them until the trial is
/// over; what the first that was lost was lost by, and how many were.
pub async fn idle_all<D: Driver>(
    driver: &D,
    slots: &[ClientSlot],
    shared: &Shared,
    ready: impl FnOnce(),
) -> Result<Option<String>, DriverError> {
    let kept = FuturesUnordered::new();
    let mut opening = futures_util::stream::iter(slots.iter().map(|slot| driver.idle(*slot))).buffer_unordered(AT_ONCE);
    while let Some(opened) = opening.next().await {
        kept.push(opened?);
        if shared.stopped() {
            return Ok(None);
        }
    }
    ready();
    let (mut kept, mut lost) = (kept, Vec::new());
    while !shared.stopped() {
        // What keeps a connection must run for it to answer the server.
        if let Ok(Some(error)) = tokio::time::timeout(TICK, kept.next()).await {
            lost.push(error.to_string());
        }
        if kept.is_empty() {
            tokio::time::sleep(TICK).await;
        }
    }
    Ok(lost.first().map(|first| format!("{} of {} idle connections were lost: {first}", lost.len(), slots.len())))
}

/// The report of lost connections.
pub fn lost_report(words: String) -> ThreadReport {
    ThreadReport::Event { at: now(), kind: Incident::Disconnected, words }
}
