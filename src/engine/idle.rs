//! Connections that are open all the while and carry nothing.
//!
//! They are there before the warm-up begins. One that is lost is an incident: a broker that closes
//! idle connections does not pay for them.

use std::sync::mpsc::Sender;

use futures_util::stream::{FuturesUnordered, StreamExt};

use crate::driver::{ClientSlot, Driver, DriverError, Incident};
use crate::units::now;

use super::raw::ThreadReport;
use super::shared::Shared;

/// So many are opened at a time.
const AT_ONCE: usize = 32;

/// Opens a connection for each slot, says that they are there, and keeps them until the trial is
/// over; reports those that were lost.
pub async fn idle_all<D: Driver>(
    driver: &D,
    slots: &[ClientSlot],
    shared: &Shared,
    ready: impl FnOnce(),
    done: &Sender<ThreadReport>,
) -> Result<(), DriverError> {
    let mut stopping = std::pin::pin!(shared.stopping());
    stopping.as_mut().enable();
    let mut kept = FuturesUnordered::new();
    let mut opening = futures_util::stream::iter(slots.iter().map(|slot| driver.idle(*slot))).buffer_unordered(AT_ONCE);
    while let Some(opened) = opening.next().await {
        kept.push(opened?);
        if shared.stopped() {
            return Ok(());
        }
    }
    ready();
    let (mut lost, mut first) = (0, String::new());
    while !shared.stopped() {
        // What keeps a connection must run for it to answer the server.
        tokio::select! {
            () = &mut stopping => {}
            Some(error) = kept.next() => {
                if lost == 0 {
                    first = error.to_string();
                }
                lost += 1;
            }
        }
    }
    if lost > 0 {
        let words = format!("{lost} of {} idle connections were lost: {first}", slots.len());
        let _ = done.send(ThreadReport::Event { at: now(), kind: Incident::Disconnected, words });
    }
    Ok(())
}
