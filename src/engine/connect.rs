//! A producer whose messages are clients that come and go: each connects, subscribes, publishes the
//! message, receives it, and is gone.
//!
//! # Background
//! Users of mobile and serverless clients ask how many of them a broker takes in a second, and how
//! long each waits. Tools that connect one after another slow down with the broker and do not show
//! it (coordinated omission).
//! # Design
//! A client is begun when its message is due, whatever became of those before. Its message is
//! answered when it was received: so the ledger, the latency from the due instant, and all checks
//! are those of requests. The steps between are recorded beside. A client that fails has lost its
//! message, which counts as refused beside, and the first words of the server are noted.
//!
//! All clients of a producer are polled where the producer is, so that no message crosses a thread.
//! More than [`MOST`] at once are not begun: what is due then waits, and shows as lag.
//! # Rejected
//! A task for each client: their steps would be stamped when the runtime finds time for them, and
//! not before what is due next is begun.

use std::task::Poll;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::future::LocalBoxFuture;
use futures_util::stream::FuturesUnordered;
use hdrhistogram::Histogram;

use crate::driver::{
    ClientSlot, Confirmation, ConnectAttempt, ConnectSteps, Driver, DriverError, Incident, Outgoing, Producer,
};
use crate::measure::recorder::{LIMIT, histogram};
use crate::units::{Nanos, Span, now};

use super::shared::Shared;

/// Clients of one producer at a time: each has a socket, and a process has 20,000 or so of them.
const MOST: usize = 4096;

/// What a client came to.
struct Attempt {
    token: u64,
    begun: Nanos,
    end: Result<ConnectSteps, DriverError>,
}

/// Begins a client for each message.
pub struct ConnectProducer<'a, D> {
    driver: &'a D,
    slot: ClientSlot,
    shared: &'a Shared,
    /// Bound on a client.
    bound: Duration,
    under_way: FuturesUnordered<LocalBoxFuture<'a, Attempt>>,
    /// Ended while another was waited for.
    ended: Vec<Attempt>,
    /// Connecting, subscribing, and the way of the message.
    steps: [Histogram<u64>; 3],
    failed: bool,
}

impl<'a, D: Driver> ConnectProducer<'a, D> {
    pub fn new(driver: &'a D, slot: ClientSlot, shared: &'a Shared, bound: Span) -> Self {
        let steps = [histogram(), histogram(), histogram()];
        let (under_way, ended) = (FuturesUnordered::new(), Vec::new());
        Self { driver, slot, shared, bound: bound.duration(), under_way, ended, steps, failed: false }
    }

    /// Says what a client came to.
    fn tell(&mut self, attempt: Attempt, sink: &mut impl FnMut(Confirmation<'_>)) {
        let Attempt { token, begun, end } = attempt;
        match end {
            Ok(steps) => {
                if begun >= self.shared.origin() && begun < self.shared.end() {
                    let ConnectSteps { connected, subscribed, received, .. } = steps;
                    let spans = [(begun, connected), (connected, subscribed), (subscribed, received)];
                    for (histogram, (from, to)) in self.steps.iter_mut().zip(spans) {
                        histogram.saturating_record(to.saturating_sub(from).min(LIMIT));
                    }
                }
                sink(Confirmation::Answered { message: &steps.message, at: steps.received });
            }
            Err(error) => {
                if !self.failed {
                    self.failed = true;
                    self.driver.incidents().note(Incident::Refused, format!("a client failed: {error}"));
                }
                sink(Confirmation::Failed { token });
            }
        }
    }
}

impl<D: Driver> Producer for ConnectProducer<'_, D> {
    fn steps(&self) -> Vec<(&'static str, Histogram<u64>)> {
        ["connected", "subscribed", "first-message"].into_iter().zip(self.steps.clone()).collect()
    }

    fn confirms(&self) -> bool {
        true
    }

    async fn send(&mut self, message: Outgoing<'_>) -> Result<(), DriverError> {
        while self.under_way.len() >= MOST {
            self.driver.incidents().backpressure();
            self.ended.extend(self.under_way.next().await);
        }
        let (driver, bound, payload) = (self.driver, self.bound, message.payload.to_vec());
        let (token, ClientSlot { workload, index, .. }) = (message.token, self.slot);
        self.under_way.push(Box::pin(async move {
            let begun = now();
            let attempt = ConnectAttempt { workload, producer: index, number: token, payload: &payload };
            let late = |_| DriverError::Timeout {
                action: "connect, subscribe and receive a message".into(),
                url: "the system".into(),
                seconds: bound.as_secs_f64(),
            };
            let end = tokio::time::timeout(bound, driver.connect_once(attempt)).await;
            Attempt { token, begun, end: end.map_err(late).and_then(|end| end) }
        }));
        // The new one connects at once; what is due next may be due already.
        if let Poll::Ready(Some(attempt)) = futures_util::poll!(self.under_way.next()) {
            self.ended.push(attempt);
        }
        Ok(())
    }

    async fn flush(&mut self) -> Result<(), DriverError> {
        Ok(())
    }

    async fn confirmed(&mut self, sink: &mut impl FnMut(Confirmation<'_>)) -> Result<(), DriverError> {
        if self.ended.is_empty() {
            match self.under_way.next().await {
                Some(attempt) => self.ended.push(attempt),
                None => return std::future::pending().await,
            }
        }
        while let Some(attempt) = self.ended.pop() {
            self.tell(attempt, sink);
        }
        Ok(())
    }

    async fn close(self) -> Result<(), DriverError> {
        Ok(())
    }
}
