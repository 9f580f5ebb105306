//! Publishing in batches.
//!
//! # Design
//! *Atomic* (ADR-50, server 2.12): messages carry the identifier of their batch and their number in
//! it; the last one says so, and then all of them are in the stream, or none. *Fast* (server 2.14):
//! the same in the reply subject, without headers; each message is stored as it comes, and one
//! acknowledgement stands for many. async-nats has neither. A batch ends when it is full, or when
//! it has been open for so long: with a marker that is no message ("end of batch"). What a batch
//! holds is acknowledged when the server says so of the batch, or of a part of a fast one.

use std::collections::VecDeque;
use std::fmt::Write;
use std::time::{Duration, Instant};

use async_nats::{HeaderMap, Message, Subject};
use serde_json::Value;

use super::answer::{Arrived, refusal};
use crate::driver::Incident;
use crate::driver::nats::link::NatsLink;
use crate::units::Nanos;

const ID: &str = "Nats-Batch-Id";
const SEQUENCE: &str = "Nats-Batch-Sequence";
const COMMIT: &str = "Nats-Batch-Commit";
/// Of a fast batch: messages that one acknowledgement is asked for, and how many of these may be
/// open; the values of the project's own client.
const FLOW: u64 = 100;
const OUTSTANDING: u64 = 2;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BatchKind {
    Atomic,
    Fast,
}

/// The batches of one producer.
#[derive(Debug)]
pub struct BatchWriter {
    kind: BatchKind,
    /// Messages of a batch.
    size: usize,
    linger: Duration,
    /// What the identifiers of its batches begin with; no other producer of the stream has it.
    base: String,
    /// The number of the latest batch.
    number: u64,
    /// Not confirmed yet, the oldest first; only the last may be open.
    batches: VecDeque<Batch>,
    /// Messages for which the server sends one acknowledgement.
    flow: u64,
    /// Where the last message went: the end of a batch goes there, too.
    subject: Option<Subject>,
}

#[derive(Debug)]
struct Batch {
    number: u64,
    /// Of its messages that are not confirmed yet.
    tokens: VecDeque<u64>,
    /// How many were sent, and how many of them are confirmed.
    sent: u64,
    confirmed: u64,
    since: Instant,
    open: bool,
}

/// How a message of a batch is sent.
#[derive(Debug)]
pub struct BatchFrame {
    pub reply: Option<Subject>,
    pub headers: Option<HeaderMap>,
}

impl BatchWriter {
    /// The batches of producer `index`, of `size` messages at most, open for `linger` at most.
    pub fn new(kind: BatchKind, size: u32, linger: Duration, index: u32) -> Self {
        let base = format!("i{index}b");
        let (batches, flow) = (VecDeque::new(), FLOW);
        Self { kind, size: size as usize, linger, base, number: 0, batches, flow, subject: None }
    }

    fn open(&self) -> Option<&Batch> {
        self.batches.back().filter(|batch| batch.open)
    }

    /// When the open batch is to end, where there is one.
    pub fn due(&self) -> Option<Instant> {
        self.open().map(|batch| batch.since + self.linger)
    }

    /// Whether the server has so much of a fast batch to acknowledge that no more is to be sent.
    pub fn stalled(&self) -> bool {
        let waiting = self.open().map_or(0, |batch| batch.sent - batch.confirmed);
        self.kind == BatchKind::Fast && waiting >= self.flow.max(1) * OUTSTANDING
    }

    /// Adds a message to the open batch, or to a new one. `prefix` is what replies begin with.
    pub fn add(&mut self, token: u64, subject: &Subject, prefix: &[u8], headers: Option<HeaderMap>) -> BatchFrame {
        if self.open().is_none() {
            self.number += 1;
            let (number, since) = (self.number, Instant::now());
            let tokens = VecDeque::with_capacity(self.size.min(1024));
            self.batches.push_back(Batch { number, tokens, sent: 0, confirmed: 0, since, open: true });
        }
        self.subject = Some(subject.clone());
        let size = self.size as u64;
        let Some(batch) = self.batches.back_mut() else { return BatchFrame { reply: None, headers } };
        batch.sent += 1;
        batch.tokens.push_back(token);
        batch.open = batch.sent < size;
        let (sequence, last) = (batch.sent, !batch.open);
        self.frame(sequence, if last { Some("1") } else { None }, prefix, headers)
    }

    /// The end of the open batch, and where it goes: [`BatchWriter::ended`] says that it was sent.
    pub fn end(&self, prefix: &[u8]) -> Option<(Subject, BatchFrame)> {
        let batch = self.open()?;
        Some((self.subject.clone()?, self.frame(batch.sent + 1, Some("eob"), prefix, None)))
    }

    /// The end of the open batch was sent.
    pub fn ended(&mut self) {
        if let Some(batch) = self.batches.back_mut() {
            batch.open = false;
        }
    }

    fn frame(&self, sequence: u64, end: Option<&str>, prefix: &[u8], headers: Option<HeaderMap>) -> BatchFrame {
        let id = format!("{}{}", self.base, self.number);
        let mut reply = String::from_utf8_lossy(prefix).into_owned() + &id;
        if self.kind == BatchKind::Fast {
            let operation = match (end, sequence) {
                (Some("eob"), _) => 3,
                (Some(_), _) => 2,
                (None, 1) => 0,
                (None, _) => 1,
            };
            // Writing to a String cannot fail.
            let _ = write!(reply, ".{FLOW}.fail.{sequence}.{operation}.$FI");
            return BatchFrame { reply: Some(reply.into()), headers };
        }
        let mut all = headers.unwrap_or_default();
        all.insert(ID, id);
        all.insert(SEQUENCE, sequence.to_string());
        if let Some(end) = end {
            all.insert(COMMIT, end);
        }
        // The first message is answered, too: so it is known at once that a batch is refused.
        let reply = (end.is_some() || sequence == 1).then(|| reply.into());
        BatchFrame { reply, headers: Some(all) }
    }

    /// Takes an answer to batch `id` that came `at`, and adds what it says of messages.
    pub fn read(&mut self, id: &str, (message, at): (&Message, Nanos), link: &NatsLink, out: &mut Vec<Arrived>) {
        let number = id.split('.').next().and_then(|id| id.strip_prefix(&*self.base)).and_then(|n| n.parse().ok());
        let Some(place) = self.batches.iter().position(|batch| Some(batch.number) == number) else { return };
        if message.status.is_none() && message.payload.is_empty() {
            // The first message of an atomic batch was taken.
            return;
        }
        let said: Value = serde_json::from_slice(&message.payload).unwrap_or_default();
        let count = |key: &str| said[key].as_u64().unwrap_or(0);
        match said["type"].as_str() {
            Some("ack") => {
                self.flow = count("msgs").max(1);
                self.confirm(place, count("seq"), at, out);
            }
            Some(kind) => {
                let words = super::api::error_of(&said).map_or_else(|| said.to_string(), |(words, _)| words);
                link.incidents.note(Incident::Refused, format!("a batch has met {kind}: {words}"));
            }
            None => {
                let stored = if said["error"].is_null() && message.status.is_none() { count("count") } else { 0 };
                self.confirm(place, stored, at, out);
                let Some(batch) = self.batches.remove(place) else { return };
                if !batch.tokens.is_empty() {
                    let n = batch.tokens.len();
                    let words = format!("{n} messages of a batch were refused: {}", refusal(message));
                    link.incidents.note(Incident::Refused, words);
                }
                out.extend(batch.tokens.into_iter().map(|token| Arrived { token, at, good: false, bytes: 0 }));
            }
        }
    }

    /// The first `messages` of a batch are in the stream.
    fn confirm(&mut self, place: usize, messages: u64, at: Nanos, out: &mut Vec<Arrived>) {
        let Some(batch) = self.batches.get_mut(place) else { return };
        while batch.confirmed < messages
            && let Some(token) = batch.tokens.pop_front()
        {
            batch.confirmed += 1;
            out.push(Arrived { token, at, good: true, bytes: 0 });
        }
    }

    /// What is not confirmed yet will not be waited for.
    pub fn give_up(&mut self) {
        self.batches.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(subject: Option<Subject>) -> String {
        subject.map_or_else(String::new, |s| s.to_string())
    }

    #[test]
    fn fast_batches_say_all_in_the_reply() {
        let mut fast = BatchWriter::new(BatchKind::Fast, 3, Duration::from_millis(5), 7);
        let replies: Vec<String> =
            (0..4).map(|token| text(fast.add(token, &"s".into(), b"inbox.", None).reply)).collect();
        let expected = ["1.100.fail.1.0", "1.100.fail.2.1", "1.100.fail.3.2", "2.100.fail.1.0"];
        assert_eq!(replies, expected.map(|part| format!("inbox.i7b{part}.$FI")));
        let (subject, frame) = fast.end(b"inbox.").unwrap();
        assert_eq!((subject.as_str(), text(frame.reply)), ("s", "inbox.i7b2.100.fail.2.3.$FI".to_owned()));
        fast.ended();
        assert!(fast.end(b"inbox.").is_none() && fast.due().is_none(), "none is open");
    }

    #[test]
    fn atomic_batches_say_all_in_headers() {
        let mut atomic = BatchWriter::new(BatchKind::Atomic, 3, Duration::from_millis(5), 0);
        let of = |frame: BatchFrame| {
            let headers = frame.headers.unwrap();
            let value = |name: &str| headers.get(name).map(|v| v.as_str().to_owned()).unwrap_or_default();
            (value(ID), value(SEQUENCE), value(COMMIT), text(frame.reply))
        };
        let found: Vec<_> = (0..3).map(|token| of(atomic.add(token, &"s".into(), b"p.", None))).collect();
        let expected = [("1", "", "p.i0b1"), ("2", "", ""), ("3", "1", "p.i0b1")];
        let expected = expected.map(|(n, commit, reply)| ("i0b1".into(), n.into(), commit.into(), reply.into()));
        assert_eq!(found, expected);
        atomic.add(3, &"s".into(), b"p.", None);
        let (_, end) = atomic.end(b"p.").unwrap();
        assert_eq!(of(end), ("i0b2".into(), "2".into(), "eob".into(), "p.i0b2".into()));
    }
}
