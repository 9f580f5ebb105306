//! What the fault server delivers with, and where it notes what it has done.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::broker::faults::{Journal, OwnedMessage};
use crate::broker::nats::index::Subscription;
use crate::broker::nats::router::Router;

/// Messages passed on together at most.
const BATCH: u32 = 64;

pub(super) struct FaultOutput {
    pub(super) router: Router,
    pub(super) journal: Journal,
    /// Bytes of the messages that have not left.
    pub(super) waiting: Arc<AtomicUsize>,
    /// Messages that the router has and that are not committed.
    pub(super) staged: u32,
}

impl FaultOutput {
    /// Delivers a message to everybody.
    pub(super) fn publish(&mut self, owned: &OwnedMessage, copies: u32) {
        let message = super::message(owned);
        for _ in 0..copies {
            self.router.publish(&message, true);
            self.staged += 1;
        }
    }

    /// Delivers a message to one subscription.
    pub(super) fn send(&mut self, sub: &Arc<Subscription>, owned: &OwnedMessage, copies: u32) {
        for _ in 0..copies {
            self.router.deliver(sub, &super::message(owned));
            self.staged += 1;
        }
    }

    /// What waits counts among what publishers are held back for.
    pub(super) fn keep(&self, owned: &OwnedMessage) {
        self.waiting.fetch_add(owned.memory_bytes(), Ordering::AcqRel);
    }

    /// A message has left the server for good.
    pub(super) fn settled(&self, owned: &OwnedMessage) {
        self.waiting.fetch_sub(owned.memory_bytes(), Ordering::AcqRel);
    }

    pub(super) fn commit_if_full(&mut self) {
        if self.staged >= BATCH {
            self.commit();
        }
    }

    pub(super) fn commit(&mut self) {
        if self.staged > 0 {
            self.staged = 0;
            self.router.end_batch();
            // Publishers are held back by the queue; a subscriber that is too slow is the policy's
            // business.
            drop(self.router.take_pressed());
        }
    }
}
