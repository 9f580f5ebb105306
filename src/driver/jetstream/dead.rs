//! The dead-letter path: what becomes of a message that was delivered as often as it may be.
//!
//! JetStream has no such path of its own. It tells in an advisory that a message has used up its
//! deliveries, leaves it in the stream and goes on. Applications do what is done here: fetch the
//! message by its number, publish it on a stream for dead letters, and be done with it when that
//! stream has acknowledged it. The number is its identifier there, so that a second attempt does
//! not store it twice.

use std::collections::BTreeMap;
use std::time::Instant;

use async_nats::{HeaderMap, Message, Subject};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use serde_json::Value;

use super::domain::ApiRoot;
use crate::driver::nats::link::NatsLink;
use crate::driver::nats::outbox::Outbox;
use crate::driver::{DriverError, Incident, Incoming, MessageSink};
use crate::units::Nanos;

#[derive(Debug)]
pub struct DeadLetters {
    /// The stream that the messages come from.
    pub stream: String,
    /// What is asked there begins with it.
    pub api: ApiRoot,
    /// Where dead letters are published.
    pub subject: Subject,
    /// The delivery at which the consumer itself terminates a message that it rejects, where it
    /// does.
    pub terminate: Option<u32>,
    /// Whether the message is to be removed from its stream, because nobody else will.
    pub remove: bool,
    /// Under way, by their number in the stream.
    pub open: BTreeMap<u64, OpenDeadLetter>,
}

/// A dead letter on its way.
#[derive(Debug)]
pub struct OpenDeadLetter {
    attempts: u32,
    since: Instant,
    payload: Option<Bytes>,
    /// Where the server is told that the message is terminated.
    reply: Option<Subject>,
}

impl DeadLetters {
    /// An advisory says that a message has used up its deliveries.
    pub fn advised(
        &mut self,
        advisory: &Message,
        inbox: &str,
        link: &NatsLink,
        out: &mut Outbox,
    ) -> Result<(), DriverError> {
        let said: Value = serde_json::from_slice(&advisory.payload).unwrap_or_default();
        let Some(sequence) = said["stream_seq"].as_u64() else {
            link.incidents.note(Incident::DeadLetter, "an advisory names no message");
            return Ok(());
        };
        let attempts = said["deliveries"].as_u64().and_then(|n| u32::try_from(n).ok()).unwrap_or(0);
        self.open.insert(sequence, OpenDeadLetter { attempts, since: Instant::now(), payload: None, reply: None });
        self.fetch(sequence, inbox, link, out)
    }

    /// Whether a message that is rejected at this delivery is to be terminated.
    pub fn ends(&self, attempt: u32) -> bool {
        self.terminate.is_some_and(|last| attempt >= last)
    }

    /// A message is rejected at its last delivery: it is a dead letter before it is terminated.
    pub fn rejected(
        &mut self,
        (sequence, attempts): (u64, u32),
        (payload, reply): (Bytes, Subject),
        inbox: &str,
        link: &NatsLink,
        out: &mut Outbox,
    ) -> Result<(), DriverError> {
        let (since, reply) = (Instant::now(), Some(reply));
        self.open.insert(sequence, OpenDeadLetter { attempts, since, payload: Some(payload.clone()), reply });
        self.publish(sequence, attempts, payload, inbox, link, out)
    }

    fn publish(
        &self,
        sequence: u64,
        attempts: u32,
        payload: Bytes,
        inbox: &str,
        link: &NatsLink,
        out: &mut Outbox,
    ) -> Result<(), DriverError> {
        let mut headers = HeaderMap::new();
        headers.insert("Nats-Msg-Id", format!("{}.{sequence}", self.subject));
        headers.insert("Msgbench-Deliveries", attempts.to_string());
        let reply = Subject::from(format!("{inbox}d.{sequence}"));
        out.offer_with(link, self.subject.clone(), Some(reply), Some(headers), payload)
    }

    fn fetch(&self, sequence: u64, inbox: &str, link: &NatsLink, out: &mut Outbox) -> Result<(), DriverError> {
        let verb = Subject::from(self.api.subject(&format!("STREAM.MSG.GET.{}", self.stream)));
        let reply = Subject::from(format!("{inbox}g.{sequence}"));
        out.offer(link, verb, Some(reply), format!("{{\"seq\":{sequence}}}").into())
    }

    /// The message itself has come.
    pub fn fetched(
        &mut self,
        sequence: u64,
        answer: &Message,
        inbox: &str,
        link: &NatsLink,
        out: &mut Outbox,
    ) -> Result<(), DriverError> {
        let Some(open) = self.open.get_mut(&sequence) else { return Ok(()) };
        let said: Value = serde_json::from_slice(&answer.payload).unwrap_or_default();
        if let Some((words, _)) = super::api::error_of(&said) {
            link.incidents.note(Incident::DeadLetter, format!("dead letter {sequence} cannot be fetched: {words}"));
            self.open.remove(&sequence);
            return Ok(());
        }
        let Some(data) = said["message"]["data"].as_str().and_then(|text| STANDARD.decode(text).ok()) else {
            // No answer of the stream, or one without the message: upkeep asks again.
            return Ok(());
        };
        let payload = Bytes::from(data);
        open.payload = Some(payload.clone());
        let attempts = open.attempts;
        self.publish(sequence, attempts, payload, inbox, link, out)
    }

    /// The stream of dead letters has answered; the answer arrived `at`.
    pub fn stored(
        &mut self,
        sequence: u64,
        (answer, at): (&Message, Nanos),
        inbox: &str,
        sink: &mut impl MessageSink,
        link: &NatsLink,
        out: &mut Outbox,
    ) -> Result<(), DriverError> {
        if answer.status.is_some() {
            return Ok(());
        }
        let said: Value = serde_json::from_slice(&answer.payload).unwrap_or_default();
        let Some(open) = self.open.remove(&sequence) else { return Ok(()) };
        if let Some((words, _)) = super::api::error_of(&said) {
            link.incidents.note(Incident::DeadLetter, format!("dead letter {sequence} was refused: {words}"));
            return Ok(());
        }
        let Some(payload) = open.payload else { return Ok(()) };
        if let Some(reply) = open.reply {
            out.offer(link, reply, None, Bytes::from_static(b"+TERM"))?;
        }
        sink.dead_letter(Incoming { payload: &payload, at, attempt: open.attempts });
        if self.remove {
            let verb = Subject::from(self.api.subject(&format!("STREAM.MSG.DELETE.{}", self.stream)));
            let ignored = Subject::from(format!("{inbox}x"));
            out.offer(link, verb, Some(ignored), format!("{{\"seq\":{sequence}}}").into())?;
        }
        Ok(())
    }

    /// Begins again with what got no answer within the bound of the link.
    pub fn upkeep(&mut self, inbox: &str, link: &NatsLink, out: &mut Outbox) -> Result<(), DriverError> {
        let late = |open: &OpenDeadLetter| open.since.elapsed() > link.timeout;
        let again: Vec<u64> = self.open.iter().filter(|(_, open)| late(open)).map(|(s, _)| *s).collect();
        for sequence in again {
            if let Some(open) = self.open.get_mut(&sequence) {
                open.since = Instant::now();
            }
            self.fetch(sequence, inbox, link, out)?;
        }
        Ok(())
    }
}
