//! The publish loop: walks the schedule of one producer.
//!
//! A late message is sent at once with its own intended time; none is skipped, none is re-timed.
//! The loop allocates nothing for a message, takes no lock, and reads the clock once for each
//! message that is not waited for.

use std::cell::RefCell;
use std::rc::Rc;

use crate::driver::{Confirmation, DriverError, Outgoing, Producer};
use crate::load::keys::KeyChooser;
use crate::load::message::{Envelope, Template};
use crate::load::pacer::Pacer;
use crate::load::schedule::Schedule;
use crate::measure::recorder::{LatencyKind, Recorder};
use crate::units::{Nanos, now};

use super::send_state::ConfirmContext;
pub use super::send_state::{GAPS, SendState, Sent, send_state};
use super::shared::Shared;

/// A full window is looked at again after so long.
pub(super) const WINDOW_POLL: Nanos = 20_000;
/// The shared counters are a batch behind at most.
pub(super) const BATCH: u64 = 256;

/// When the next message is due.
#[derive(Debug)]
pub enum Pace {
    /// By the schedule.
    Open(Schedule),
    /// At once, or as soon as fewer than so many deliveries are still to come.
    Unthrottled {
        /// Deliveries; 0 is without limit.
        window: u64,
        /// Deliveries of one message.
        copies: u64,
    },
    /// When fewer than `outstanding` are unanswered, after a pause.
    Closed {
        /// Messages in flight.
        outstanding: u64,
        /// The pause.
        think: Nanos,
        /// A message is given up as lost, and is in flight no more, when one that was sent so much
        /// later is answered, or when nothing is answered for so long. A broker that is slow gives
        /// up nothing.
        patience: Nanos,
    },
}

/// One producer with all it needs.
pub struct Publisher<'a, P> {
    /// The driver's side.
    pub producer: P,
    /// Its number in the workload.
    pub index: u32,
    /// Index of its workload.
    pub workload: usize,
    /// Which key a message has.
    pub keys: Option<KeyChooser>,
    /// Whether it is answered, and not only acknowledged.
    pub reply: bool,
    /// Names the trial.
    pub run: u32,
    /// Channels in turn.
    pub channels: u32,
    /// Messages in turn.
    pub templates: Vec<Template>,
    /// Whether the client keeps them, and stamps are written where they stand.
    pub kept: bool,
    /// Waits.
    pub pacer: Pacer,
    /// When.
    pub pace: Pace,
    /// Shared with the other threads.
    pub shared: &'a Shared,
    /// Fills histograms.
    pub recorder: Rc<RefCell<Recorder>>,
    /// Start of the measured phase, and length of an interval.
    pub origin: Nanos,
    pub interval: Nanos,
    /// What it has received so far.
    pub send_state: SendState,
    /// What is taken from instants of this clock to have those that stand in messages.
    pub shift: i64,
    /// No wait in the loop is longer, so that a stop is noticed.
    pub longest: Nanos,
    /// No wait lasts beyond it; see [`Publisher::slice`].
    pub look: Nanos,
}

impl<P: Producer> Publisher<'_, P> {
    /// Drives the load that begins at `start` until the end of the measured phase, then waits for
    /// what is outstanding.
    pub async fn run(&mut self, start: Nanos) -> Result<(), DriverError> {
        self.send_state.sent.range = (u64::MAX, 0);
        self.send_state.sent.acknowledged = self.producer.confirms() && !self.reply;
        self.wait(start).await?;
        self.send_state.sent.late_start = now().saturating_sub(start);
        loop {
            let due = match &mut self.pace {
                Pace::Open(schedule) => match schedule.next().map(|offset| start + offset) {
                    Some(due) if due < self.shared.end() => Some(due),
                    _ => break,
                },
                Pace::Unthrottled { window, copies } => {
                    let (window, copies) = (*window, *copies);
                    self.unthrottled(window, copies).await?;
                    break;
                }
                Pace::Closed { outstanding, think, patience } => {
                    let (outstanding, think, patience) = (*outstanding, *think, *patience);
                    self.wait_for_answers(outstanding, patience).await?;
                    if think > 0 {
                        self.wait(now() + think).await?;
                    }
                    None
                }
            };
            let mut at = now();
            if let Some(due) = due {
                self.due(due);
                if at < due {
                    self.producer.flush().await?;
                    self.wait(due).await?;
                    at = now();
                } else if self.send_state.sequence.is_multiple_of(64) {
                    // Late: the client's own tasks run on this thread and must get their turn.
                    tokio::task::yield_now().await;
                    self.poll_confirmations().await?;
                    at = now();
                }
            } else if at >= self.shared.end() {
                break;
            } else {
                self.send_state.due(at, self.origin, self.interval);
            }
            if self.send_state.stamps.full() {
                self.make_room().await?;
                at = now();
            }
            if self.shared.stopped() {
                break;
            }
            self.send(due.unwrap_or(at), at).await?;
        }
        self.end().await
    }

    /// Waits until stamps can be kept of more messages, or forgets the oldest.
    #[cold]
    pub(super) async fn make_room(&mut self) -> Result<(), DriverError> {
        while self.send_state.stamps.full() && !self.over() {
            if self.reply || matches!(self.pace, Pace::Closed { .. }) {
                self.send_state.stamps.forget();
                break;
            }
            // The stamps of what is not acknowledged must be kept: wait, and let it show as lag.
            let slice = self.slice();
            self.wait_or_confirmation(slice).await?;
        }
        Ok(())
    }

    /// Waits for what is outstanding.
    async fn end(&mut self) -> Result<(), DriverError> {
        self.producer.flush().await?;
        let mut told = u64::MAX;
        while self.send_state.outstanding() > 0 && !self.shared.stopped() {
            let slice = self.slice();
            self.wait_or_confirmation(slice).await?;
            let settled = self.send_state.stamps.settled();
            if self.shared.asked() && settled != told {
                told = settled;
                self.tell();
            }
        }
        self.send_state.share(&self.shared.counters[self.workload]);
        self.tell();
        Ok(())
    }

    /// Says which messages were acknowledged, so that the end of the drain knows what is owed.
    fn tell(&self) {
        if self.shared.disturbed && !self.reply {
            self.shared.counters[self.workload].distinct.owe(self.index, &self.send_state.sent.acks);
        }
    }

    /// Counts what the schedule still holds when the loop was cut off while the client took nothing
    /// more.
    pub fn count_unsent(&mut self, start: Nanos) {
        if let Pace::Open(schedule) = &mut self.pace {
            for due in schedule.map(|offset| start + offset).take_while(|due| *due < self.shared.end()) {
                self.send_state.due(due, self.origin, self.interval);
                self.send_state.note_due(due, &mut self.recorder.borrow_mut());
            }
        }
    }

    /// A message is due by the schedule.
    #[inline]
    fn due(&mut self, due: Nanos) {
        self.send_state.due(due, self.origin, self.interval);
        if self.send_state.lanes.is_some() {
            self.send_state.note_due(due, &mut self.recorder.borrow_mut());
        }
    }

    /// Waits until fewer than `outstanding` are in flight.
    async fn wait_for_answers(&mut self, outstanding: u64, patience: Nanos) -> Result<(), DriverError> {
        let (mut seen, mut since) = (self.send_state.stamps.settled(), now());
        while self.send_state.outstanding() >= outstanding && !self.over() {
            let slice = self.slice();
            self.wait_or_confirmation(slice).await?;
            let settled = self.send_state.stamps.settled();
            if settled != seen {
                (seen, since) = (settled, now());
                self.send_state.stamps.give_up(self.send_state.latest.saturating_sub(patience));
            } else if now() - since > patience {
                self.send_state.stamps.give_up(Nanos::MAX);
            }
        }
        Ok(())
    }

    pub(super) fn over(&self) -> bool {
        self.shared.stopped() || now() >= self.shared.end()
    }

    /// The envelope of the next message, whose stamps are kept where it is confirmed.
    #[inline]
    fn envelope(&mut self, intended: Nanos, at: Nanos) -> Envelope {
        let sequence = self.send_state.sequence;
        self.send_state.sequence += 1;
        if self.producer.confirms() {
            self.send_state.stamp(sequence, intended, at);
        }
        Envelope { run: self.run, producer: self.index, sequence, intended, sent: at }.shifted(-self.shift)
    }

    /// Stamps the next message where the client keeps it and hands it over; true where the client
    /// must be flushed before the next one.
    #[inline]
    pub(super) fn hand_over_kept(&mut self, intended: Nanos, at: Nanos) -> bool {
        let envelope = self.envelope(intended, at);
        if let Some(head) = self.producer.kept().first_chunk_mut() {
            envelope.write(head);
        }
        self.producer.send_kept()
    }

    /// Stamps the next message and hands it over; false where it was refused.
    #[inline]
    pub(super) async fn hand_over(&mut self, intended: Nanos, at: Nanos) -> Result<bool, DriverError> {
        if self.kept {
            return if self.hand_over_kept(intended, at) {
                self.producer.flush().await.map(|()| true)
            } else {
                Ok(true)
            };
        }
        let envelope = self.envelope(intended, at);
        let sequence = envelope.sequence;
        let key = self.keys.as_ref().map(|keys| keys.of(self.index, sequence));
        let template = (sequence % self.templates.len() as u64) as usize;
        let channel = (sequence % u64::from(self.channels)) as u32;
        let payload = self.templates[template].stamp(&envelope);
        match self.producer.send(Outgoing { channel, key, payload, token: sequence }).await {
            Ok(()) => Ok(true),
            Err(DriverError::Refused { .. }) => {
                self.send_state.sent.refused += u64::from(intended >= self.origin);
                self.send_state.stamps.take(sequence);
                Ok(false)
            }
            Err(other) => Err(other),
        }
    }

    #[inline]
    async fn send(&mut self, intended: Nanos, at: Nanos) -> Result<(), DriverError> {
        let sequence = self.send_state.sequence;
        if !self.hand_over(intended, at).await? {
            return Ok(());
        }
        self.send_state.unshared.0 += 1;
        if self.send_state.unshared.0 >= BATCH {
            self.send_state.share(&self.shared.counters[self.workload]);
        }
        self.send_state.handed_over(sequence, (intended, at), self.origin, self.interval, self.shared.end());
        if intended >= self.origin && matches!(self.pace, Pace::Open(_)) {
            self.recorder.borrow_mut().record(LatencyKind::Lag, intended, intended, at);
        }
        Ok(())
    }

    async fn wait(&mut self, until: Nanos) -> Result<(), DriverError> {
        loop {
            let slice = until.min(self.slice());
            self.wait_or_confirmation(slice).await?;
            // Confirmations may come without a pause: they do not hold up what is due.
            if now() >= until || self.shared.stopped() {
                return Ok(());
            }
        }
    }

    /// Until when a wait may last, so that a stop is noticed. The same instant for many waits, so
    /// that the timer is set once for all of them.
    fn slice(&mut self) -> Nanos {
        let at = now();
        if at >= self.look {
            self.look = at + self.longest;
        }
        self.look
    }

    /// Waits until `slice` or for confirmations, whichever comes first.
    pub(super) async fn wait_or_confirmation(&mut self, slice: Nanos) -> Result<(), DriverError> {
        self.send_state.share(&self.shared.counters[self.workload]);
        let timer = |e: std::io::Error| DriverError::Lost { url: "timer".into(), words: e.to_string() };
        if !self.producer.confirms() {
            return self.pacer.until(slice).await.map_err(timer);
        }
        let frame = ConfirmContext {
            run: self.run,
            reply: self.reply,
            open_loop: matches!(self.pace, Pace::Open(_)),
            origin: self.origin,
            interval: self.interval,
            end: self.shared.end(),
            shift: self.shift,
        };
        let (send_state, recorder) = (&mut self.send_state, &self.recorder);
        let mut sink = |c: Confirmation<'_>| send_state.confirm(c, &mut recorder.borrow_mut(), frame);
        // Confirmations first: their stamps are from when they are taken. The waiting code reads
        // the clock after each turn.
        tokio::select! {
            biased;
            done = self.producer.confirmed(&mut sink) => done,
            done = self.pacer.until(slice) => done.map_err(timer),
        }
    }

    pub(super) async fn poll_confirmations(&mut self) -> Result<(), DriverError> {
        if self.producer.confirms() {
            self.wait_or_confirmation(0).await?;
        }
        Ok(())
    }
}

#[cfg(test)]
#[path = "produce_tests.rs"]
mod tests;
