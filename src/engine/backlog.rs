//! Stores the backlog of a workload before the measured phase, as fast as the system takes it.

use crate::driver::{Confirmation, DriverError, Outgoing, Producer};
use crate::load::keys::KeyChooser;
use crate::load::message::{Envelope, Template};
use crate::units::{Nanos, now};

use super::shared::{Shared, WorkloadCounters};

/// Confirmations are looked at after so many messages.
const BATCH: u64 = 256;

/// What is stored.
pub struct Backlog<'a> {
    /// Names the trial.
    pub run: u32,
    /// The number of its producer, one above those that publish later.
    pub producer: u32,
    /// How many messages.
    pub messages: u64,
    /// Channels in turn.
    pub channels: u32,
    /// Which key a message has.
    pub keys: Option<KeyChooser>,
    /// Messages in turn.
    pub templates: Vec<Template>,
    /// The system has failed when it takes nothing for so long.
    pub patience: Nanos,
    /// Tells the end of the drain how much there is to read.
    pub shared: &'a Shared,
    /// Index of the workload.
    pub workload: usize,
}

impl Backlog<'_> {
    /// Sends everything and waits until all of it is confirmed, where the system confirms.
    ///
    /// # Errors
    /// When a message is refused, or the system takes nothing more.
    pub async fn store<P: Producer>(mut self, mut producer: P) -> Result<(), DriverError> {
        let (mut confirmed, mut refused) = (0u64, 0u64);
        let mut sequence = 0;
        let patience = self.patience;
        while sequence < self.messages && !self.shared.stopped() {
            let at = now();
            let envelope = Envelope { run: self.run, producer: self.producer, sequence, intended: at, sent: at };
            let template = (sequence % self.templates.len() as u64) as usize;
            let out = Outgoing {
                channel: (sequence % u64::from(self.channels)) as u32,
                key: self.keys.as_ref().map(|keys| keys.of(self.producer, sequence)),
                payload: self.templates[template].stamp(&envelope),
                token: sequence,
            };
            bounded(patience, producer.send(out)).await?;
            sequence += 1;
            if sequence.is_multiple_of(BATCH) {
                tokio::task::yield_now().await;
                if producer.confirms() {
                    let mut sink = |c: Confirmation<'_>| count(c, &mut confirmed, &mut refused);
                    tokio::select! {
                        biased;
                        done = producer.confirmed(&mut sink) => done?,
                        () = std::future::ready(()) => {}
                    }
                }
            }
        }
        bounded(patience, producer.flush()).await?;
        while producer.confirms() && confirmed + refused < sequence && !self.shared.stopped() {
            let mut sink = |c: Confirmation<'_>| count(c, &mut confirmed, &mut refused);
            bounded(patience, producer.confirmed(&mut sink)).await?;
        }
        bounded(patience, producer.close()).await?;
        if refused > 0 {
            return Err(DriverError::Refused { words: format!("{refused} of {sequence} messages of the backlog") });
        }
        WorkloadCounters::add(&self.shared.counters[self.workload].stored, &mut sequence);
        Ok(())
    }
}

async fn bounded(patience: Nanos, work: impl Future<Output = Result<(), DriverError>>) -> Result<(), DriverError> {
    tokio::time::timeout(std::time::Duration::from_nanos(patience), work).await.unwrap_or_else(|_| {
        Err(DriverError::Timeout {
            action: "store the backlog".into(),
            url: "the system".into(),
            seconds: patience as f64 / 1e9,
        })
    })
}

fn count(c: Confirmation<'_>, confirmed: &mut u64, refused: &mut u64) {
    match c {
        Confirmation::Failed { .. } | Confirmation::Unanswered => *refused += 1,
        Confirmation::Acked { .. } | Confirmation::Answered { .. } | Confirmation::Served { .. } => *confirmed += 1,
    }
}
