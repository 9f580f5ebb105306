//! Subscriptions of async-nats: what is here is taken at once, and what the library dropped is
//! counted.
//!
//! # Background
//! async-nats drops a message when a subscription holds as many as it may. It tells each drop
//! through a queue of events that itself overflows: of 377,408 drops 268,617 were told. But it
//! counts every message that it has read, before it puts it into a subscription or drops it; what
//! was read and neither taken nor is still held was dropped.
//! # Invariant
//! The task that reads the connection runs on the thread of the consumer. While that takes what is
//! here nothing is added: all of it was read before the first was taken, and no stamp is earlier
//! than the read.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use async_nats::{Message, Statistics, Subscriber};
use futures_util::{FutureExt, StreamExt};
use tokio::task::unconstrained;

use super::link::NatsLink;
use crate::driver::Incidents;

/// The messages of one connection: read, taken, dropped.
#[derive(Debug)]
pub struct MessageCount {
    statistics: Arc<Statistics>,
    /// Read before anything was to be taken.
    before: u64,
    taken: u64,
    workload: usize,
    incidents: Incidents,
}

impl MessageCount {
    /// Counts from now on, when all that was read is treated.
    pub fn open(link: &NatsLink, workload: usize) -> Self {
        let statistics = link.client.statistics();
        let before = statistics.in_messages.load(Ordering::Relaxed);
        Self { statistics, before, taken: 0, workload, incidents: link.incidents.clone() }
    }

    /// One message was taken from a subscription of the connection.
    #[inline]
    pub fn count_taken(&mut self) {
        self.taken += 1;
    }

    /// Tells the incidents what was dropped. The subscriptions are all that the connection has.
    pub fn close<'s>(&mut self, subscribers: impl IntoIterator<Item = &'s mut Subscriber>) {
        let read = self.statistics.in_messages.load(Ordering::Relaxed) - self.before;
        for subscriber in subscribers {
            while let Some(Some(_)) = unconstrained(subscriber.next()).now_or_never() {
                self.taken += 1;
            }
        }
        self.incidents.client_dropped(self.workload, read.saturating_sub(self.taken));
    }
}

/// The one subscription of a connection.
#[derive(Debug)]
pub struct Listener {
    subscriber: Subscriber,
    account: MessageCount,
}

impl Listener {
    /// Listens to what `subscriber` gets. `link` has no other subscription.
    pub fn new(link: &NatsLink, subscriber: Subscriber, workload: usize) -> Self {
        Self { subscriber, account: MessageCount::open(link, workload) }
    }

    /// The next message; none when the subscription has ended.
    pub async fn next(&mut self) -> Option<Message> {
        let next = self.subscriber.next().await;
        self.account.taken += u64::from(next.is_some());
        next
    }

    /// The next message if it is here. Takes part in no budget of the runtime, which would have the
    /// rest of a batch wait.
    #[inline]
    pub fn more(&mut self) -> Option<Option<Message>> {
        let more = unconstrained(self.subscriber.next()).now_or_never();
        self.account.taken += u64::from(matches!(more, Some(Some(_))));
        more
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.account.close([&mut self.subscriber]);
    }
}
