//! The loop of an intruder: somebody without rights who tries all the while to publish to a
//! workload and to subscribe to it.
//!
//! # Design
//! Whether a try succeeded is judged from both sides. The driver says whether the system took it;
//! and each message carries an envelope of its own, so that a consumer that gets one knows,
//! whatever the intruder was told. A try that came to no decision counts as none.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::driver::{ClientSlot, Driver, Intrusion, IntrusionOutcome, IntrusionWay};
use crate::load::message::{Envelope, Template};
use crate::record::IntrusionResult;
use crate::units::{Nanos, now};

use super::shared::Shared;

/// Producers of these numbers and above are intruders.
pub const INTRUDERS: u32 = u32::MAX - 0xffff;

/// Between two tries of one intruder: each may be a TLS handshake, and the cost of many is another
/// question.
const PAUSE: Duration = Duration::from_millis(50);
/// A stop is noticed at least so often.
const TICK: Duration = Duration::from_millis(20);

/// What an intruder came to.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Intruded {
    /// By who tried.
    pub by: BTreeMap<String, IntrusionResult>,
    /// Tries that the system took, by intruder and number.
    pub let_in: BTreeSet<(u32, u64)>,
    /// All that were decided.
    pub decided: BTreeSet<(u32, u64)>,
    /// Why the latest try was not decided.
    pub failed: Option<String>,
}

impl Intruded {
    fn note(&mut self, key: (u32, u64), outcome: IntrusionOutcome) {
        self.decided.insert(key);
        if outcome.let_in {
            self.let_in.insert(key);
        }
        let IntrusionOutcome { who, let_in, words } = outcome;
        let entry = self.by.entry(who.clone()).or_insert_with(|| IntrusionResult { who, ..IntrusionResult::default() });
        entry.tries += 1;
        entry.let_in += u64::from(let_in);
        // What let one in says more than what kept others out.
        if entry.said.is_empty() || (let_in && entry.let_in == 1) {
            entry.said = words;
        }
    }
}

/// Lets all intruders of a thread try: the workload of each, and what it came to.
pub async fn intrude_all<D: Driver>(
    driver: &D,
    slots: &[ClientSlot],
    run: u32,
    shared: &Shared,
) -> Vec<(usize, Intruded)> {
    if shared.started().await.is_none() {
        return Vec::new();
    }
    let one = |slot: &ClientSlot| {
        let ClientSlot { workload, index, .. } = *slot;
        async move { (workload, intrude(driver, workload, index, run, shared).await) }
    };
    futures_util::future::join_all(slots.iter().map(one)).await
}

/// Tries until the measured phase is over.
async fn intrude<D: Driver>(driver: &D, workload: usize, index: u32, run: u32, shared: &Shared) -> Intruded {
    let mut intruded = Intruded::default();
    let mut message = Template::new(b"intruder");
    let producer = INTRUDERS + index;
    let over = |at: Nanos| shared.stopped() || at >= shared.end();
    let wait_over = || async {
        while !over(now()) {
            tokio::time::sleep(TICK).await;
        }
    };
    for number in 0_u64.. {
        let at = now();
        if over(at) {
            break;
        }
        let payload = message.stamp(&Envelope { run, producer, sequence: number, intended: at, sent: at });
        let way = if number.is_multiple_of(2) { IntrusionWay::Publish } else { IntrusionWay::Subscribe };
        tokio::select! {
            biased;
            done = driver.intrude(workload, Intrusion { number, way, payload }) => match done {
                Ok(outcome) => intruded.note((producer, number), outcome),
                Err(error) => intruded.failed = Some(error.to_string()),
            },
            () = wait_over() => break,
        }
        tokio::time::sleep(PAUSE).await;
    }
    intruded
}
