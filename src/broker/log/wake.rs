//! Wakes tasks that wait for something in the log.

use std::sync::Arc;

use tokio::sync::Notify;

/// Wakes one task that may wait for several conditions at once; the task then checks all of them.
///
/// A wake-up without a waiter is kept, once, so that a condition that becomes true between check
/// and wait is not missed.
#[derive(Debug, Default)]
pub struct WakeSignal(Notify);

impl WakeSignal {
    /// A signal that is not set.
    pub fn new() -> Arc<Self> {
        Arc::default()
    }

    /// Wakes the task that waits, or the next that will.
    pub fn wake(&self) {
        self.0.notify_one();
    }

    /// Waits for a wake-up.
    pub async fn woken(&self) {
        self.0.notified().await;
    }
}

/// The signals to send when a condition becomes true, once.
#[derive(Debug, Default)]
pub(super) struct WakeSignals(Vec<Arc<WakeSignal>>);

impl WakeSignals {
    /// Adds a signal to be sent at the next occasion. Adding it twice is adding it once.
    pub(super) fn add(&mut self, wake_signal: &Arc<WakeSignal>) {
        if !self.0.iter().any(|b| Arc::ptr_eq(b, wake_signal)) {
            // A signal that only this list holds belongs to a closed connection.
            if self.0.len() >= 64 && self.0.len().is_power_of_two() {
                self.0.retain(|b| Arc::strong_count(b) > 1);
            }
            self.0.push(Arc::clone(wake_signal));
        }
    }

    pub(super) fn take(&mut self) -> Self {
        std::mem::take(self)
    }

    pub(super) fn wake(self) {
        for wake_signal in self.0 {
            wake_signal.wake();
        }
    }
}
