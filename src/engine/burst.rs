//! Publishing as fast as the client takes it.
//!
//! # Design
//! Nothing is due at an instant of its own, so messages that are handed over without a wait share
//! one reading of the clock, taken before the first of them, and one entry in the books. So no
//! message is said to have been handed over later than it was; earlier by what a burst takes, a
//! microsecond or so. A message that had to be waited for ends the burst.

use std::future::poll_fn;
use std::pin::pin;

use crate::driver::{DriverError, Producer};
use crate::units::{Nanos, now};

use super::produce::{BATCH, Publisher, WINDOW_POLL};
use super::send_state::Burst;

/// Messages of a burst at most, and bytes.
const BURST: u64 = 16;
const BYTES: u64 = 16 * 1024;
/// The client's own tasks get their turn after so many messages: often where confirmations come,
/// which are stamped when they are taken; else after so many that a client which writes in that
/// turn has something to write.
const TURN: u64 = 512;
const CONFIRMED_TURN: u64 = 64;

/// Waits for `work`, and says whether it had to.
async fn waited<T>(work: impl Future<Output = T>) -> (T, bool) {
    let (mut work, mut waited) = (pin!(work), false);
    let done = poll_fn(|cx| {
        let polled = work.as_mut().poll(cx);
        waited |= polled.is_pending();
        polled
    });
    let done = done.await;
    (done, waited)
}

impl<P: Producer> Publisher<'_, P> {
    /// Drives an unthrottled load; at most `window` deliveries are still to come, `copies` of each
    /// message, where it is not 0.
    pub(super) async fn unthrottled(&mut self, window: u64, copies: u64) -> Result<(), DriverError> {
        let turn = if self.producer.confirms() { CONFIRMED_TURN } else { TURN };
        let turn = turn.min(if window > 0 { window } else { turn });
        let largest = self.send_state.sent.sizes.iter().max().map_or(1, |size| u64::from(*size).max(1));
        let most = (BYTES / largest).clamp(1, BURST.min(turn));
        let mut since = 0;
        loop {
            if since >= turn {
                since = 0;
                tokio::task::yield_now().await;
                self.poll_confirmations().await?;
                self.send_state.share(&self.shared.counters[self.workload]);
                while window > 0 && self.shared.on_the_way(self.workload, copies) >= window && !self.over() {
                    self.producer.flush().await?;
                    self.wait_or_confirmation(now() + WINDOW_POLL).await?;
                }
            }
            if self.send_state.stamps.full() {
                self.make_room().await?;
            }
            let at = now();
            if at >= self.shared.end() || self.shared.stopped() {
                return Ok(());
            }
            since += self.burst(at, most).await?;
        }
    }

    /// Hands over messages that are due at this instant; returns how many.
    async fn burst(&mut self, at: Nanos, most: u64) -> Result<u64, DriverError> {
        let first = self.send_state.sequence;
        if self.kept {
            return self.burst_kept(at, most).await;
        }
        let mut burst = Burst { first, sent: 0, range: (u64::MAX, first) };
        for _ in 0..most {
            let sequence = self.send_state.sequence;
            let (sent, waited) = waited(self.hand_over(at, at)).await;
            if sent? {
                burst.sent += 1;
                burst.range = (burst.range.0.min(sequence), sequence + 1);
            }
            if waited {
                break;
            }
        }
        self.book(burst, at);
        Ok(self.send_state.sequence - first)
    }

    /// The same where the client keeps the messages: only the client as a whole is waited for.
    async fn burst_kept(&mut self, at: Nanos, most: u64) -> Result<u64, DriverError> {
        let first = self.send_state.sequence;
        let full = (0..most).any(|_| self.hand_over_kept(at, at));
        let end = self.send_state.sequence;
        self.book(Burst { first, sent: end - first, range: (first, end) }, at);
        if full {
            self.producer.flush().await?;
        }
        Ok(end - first)
    }

    fn book(&mut self, burst: Burst, at: Nanos) {
        self.send_state.burst(burst, at, self.origin, self.interval);
        self.send_state.unshared.0 += burst.sent;
        if self.send_state.unshared.0 >= BATCH {
            self.send_state.share(&self.shared.counters[self.workload]);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::send_state::{SendState, send_state};
    use super::*;
    use crate::units::SECOND;

    const ORIGIN: Nanos = SECOND;
    const BLOCK: Nanos = SECOND / 10;

    /// What is booked.
    fn accounts(it: &SendState) -> impl PartialEq + std::fmt::Debug + use<> {
        let s = &it.sent;
        let blocks = (s.scheduled_by_interval.clone(), s.sent_by_interval.clone());
        (s.scheduled, s.sent, s.range, s.base, s.intended_sum, s.first.clone(), blocks)
    }

    proptest! {
        #[test]
        fn a_burst_is_booked_as_each_of_its_messages(
            bursts in prop::collection::vec((0u64..3 * SECOND, prop::collection::vec(any::<bool>(), 1..20)), 0..80),
        ) {
            let fresh = || {
                let mut it = send_state(2 * SECOND, BLOCK, vec![128], false);
                it.sent.range = (u64::MAX, 0);
                it
            };
            let (mut together, mut each) = (fresh(), fresh());
            let mut bursts = bursts;
            bursts.sort();
            for (at, accepted) in bursts {
                let first = together.sequence;
                let mut burst = Burst { first, sent: 0, range: (u64::MAX, first) };
                for taken in accepted {
                    let sequence = each.sequence;
                    each.due(at, ORIGIN, BLOCK);
                    each.sequence += 1;
                    together.sequence += 1;
                    if taken {
                        each.handed_over(sequence, (at, at), ORIGIN, BLOCK, Nanos::MAX);
                        burst.sent += 1;
                        burst.range = (burst.range.0.min(sequence), sequence + 1);
                    }
                }
                together.burst(burst, at, ORIGIN, BLOCK);
                prop_assert_eq!(accounts(&together), accounts(&each));
            }
        }
    }

    #[tokio::test]
    async fn who_had_to_wait_is_known() {
        assert_eq!(waited(std::future::ready(1)).await, (1, false));
        assert_eq!(waited(tokio::task::yield_now()).await, ((), true));
    }
}
