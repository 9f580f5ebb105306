//! How whoever waits is woken.

use std::sync::Arc;

use tokio::sync::Notify;

/// What one task waits on, for any number of reasons at once: it is rung, the task looks at everything it waits for.
///
/// A ring that finds nobody waiting is kept, once, so a condition that becomes true between looking and waiting is not missed.
#[derive(Debug, Default)]
pub struct Bell(Notify);

impl Bell {
    /// A bell that has not been rung.
    pub fn new() -> Arc<Self> {
        Arc::default()
    }

    /// Wakes the task that waits, or the next that will.
    pub fn ring(&self) {
        self.0.notify_one();
    }

    /// Waits for a ring.
    pub async fn rung(&self) {
        self.0.notified().await;
    }
}

/// The bells to be rung when something happens once.
#[derive(Debug, Default)]
pub(super) struct Bells(Vec<Arc<Bell>>);

impl Bells {
    /// Has `bell` rung at the next occasion. Asking twice is asking once.
    pub(super) fn add(&mut self, bell: &Arc<Bell>) {
        if !self.0.iter().any(|b| Arc::ptr_eq(b, bell)) {
            // A bell that only this list holds belongs to a connection that has gone.
            if self.0.len() >= 64 && self.0.len().is_power_of_two() {
                self.0.retain(|b| Arc::strong_count(b) > 1);
            }
            self.0.push(Arc::clone(bell));
        }
    }

    pub(super) fn take(&mut self) -> Self {
        std::mem::take(self)
    }

    pub(super) fn ring(self) {
        for bell in self.0 {
            bell.ring();
        }
    }
}
