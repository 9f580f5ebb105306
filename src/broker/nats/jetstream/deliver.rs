//! From streams to those who have asked for messages.

use std::sync::Arc;

use serde_json::json;

use super::consumer::{AckPolicy, NextDelivery, PullRequest};
use super::stream::Stream;
use super::{JetStream, RouterLink, stamp, wall};
use crate::broker::nats::index::Subscription;
use crate::broker::nats::parse::Publish;
use crate::broker::nats::router::Router;
use crate::broker::shared::log_error;
use crate::units::{Nanos, now};

/// Messages of one consumer in one turn, delivered or looked at: others have theirs, too.
const TURN: usize = 4096;

/// A status message: its headers.
fn status(code: u16, words: &str, more: &str) -> Vec<u8> {
    format!("NATS/1.0 {code} {words}\r\n{more}\r\n").into_bytes()
}

/// The end of a pull that was not filled.
pub(super) fn ended(pull: &PullRequest) -> Vec<u8> {
    let bytes = pull.left_bytes.unwrap_or(0);
    let left = pull.left;
    status(408, "Request Timeout", &format!("Nats-Pending-Messages: {left}\r\nNats-Pending-Bytes: {bytes}\r\n"))
}

impl JetStream {
    /// Ends pulls, lets messages come again, says that the server is there.
    pub(super) fn tick(&mut self, link: &mut RouterLink) {
        let now = now();
        for stream in self.streams.values_mut() {
            for (consumer, _) in stream.consumers.values_mut() {
                for pull in consumer.tick(now) {
                    link.send(&pull.reply, &ended(&pull), b"");
                }
                let (number, sequence) = consumer.delivered();
                for reply in consumer.beats(now) {
                    let more = format!("Nats-Last-Consumer: {number}\r\nNats-Last-Stream: {sequence}\r\n");
                    link.send(&reply, &status(100, "Idle Heartbeat", &more), b"");
                }
            }
        }
    }

    /// Gives messages to everybody who waits for some.
    pub(super) fn deliver(&mut self, link: &mut RouterLink) {
        let mut more = false;
        for stream in self.streams.values_mut() {
            let names: Vec<String> = stream.consumers.keys().cloned().collect();
            for name in names {
                more |= serve(stream, &name, link, &self.wake);
            }
        }
        if more {
            self.wake.wake();
        }
    }

    /// A pull of a consumer.
    pub(super) fn pull(&mut self, link: &mut RouterLink, (stream, name): (&str, &str), reply: &[u8], body: &[u8]) {
        let Some(stream) = self.streams.get_mut(stream) else { return };
        let pending = |stream: &Stream| {
            let Some((consumer, _)) = stream.consumers.get(name) else { return 0 };
            stream.count_from(consumer.next()) + consumer.due_again() as u64
        };
        let available = pending(stream);
        let Some((consumer, _)) = stream.consumers.get_mut(name) else {
            return link.send(reply, &status(503, "", ""), b"");
        };
        let text = std::str::from_utf8(body).unwrap_or_default().trim();
        let asked = match text.parse::<u64>() {
            Ok(batch) => json!({ "batch": batch }),
            Err(_) if text.is_empty() => json!({}),
            Err(_) => match serde_json::from_str(text) {
                Ok(asked) => asked,
                Err(_) => return link.send(reply, &status(400, "Bad Request - it is no JSON", ""), b""),
            },
        };
        let number = |key: &str| asked[key].as_u64().filter(|number| *number > 0);
        let (at, no_wait) = (now(), asked["no_wait"] == true);
        let left = number("batch").unwrap_or(1);
        let expires = number("expires").map(|expires| at.saturating_add(expires));
        if no_wait && available == 0 && expires.is_none() {
            return link.send(reply, &status(404, "No Messages", ""), b"");
        }
        let heartbeat = number("idle_heartbeat").map(|every| (every, at + every));
        let no_wait = no_wait && expires.is_none();
        let pull =
            PullRequest { reply: reply.to_vec(), no_wait, left, left_bytes: number("max_bytes"), expires, heartbeat };
        if !consumer.wait(pull) {
            link.send(reply, &status(409, "Exceeded MaxWaiting", ""), b"");
        }
    }

    /// Tells everybody who waits on a consumer that it is gone.
    pub(super) fn dismiss(link: &mut RouterLink, waiting: impl IntoIterator<Item = PullRequest>) {
        for pull in waiting {
            link.send(&pull.reply, &status(409, "Consumer Deleted", ""), b"");
        }
    }
}

/// Who of those that wait is there: the subscription that gets the next message. Those whose inbox
/// is gone wait no more.
fn taker(waiting: &mut std::collections::VecDeque<PullRequest>, router: &mut Router) -> Option<Arc<Subscription>> {
    let mut targets = Vec::new();
    while let Some(pull) = waiting.front() {
        router.targets(&pull.reply, &mut targets);
        if let Some(target) = targets.pop() {
            return Some(target);
        }
        waiting.pop_front();
    }
    None
}

/// Delivers what a consumer has for those who wait; whether it was stopped before it was done.
fn serve(stream: &mut Stream, name: &str, link: &mut RouterLink, wake: &Arc<crate::broker::log::WakeSignal>) -> bool {
    let mut waited_for = stream.partition.bounds().1;
    for _ in 0..TURN {
        let Some((consumer, _)) = stream.consumers.get_mut(name) else { return false };
        if consumer.waiting.is_empty() {
            return false;
        }
        let sequence = match consumer.choose() {
            NextDelivery::Nothing => {
                consumer.leave().iter().for_each(|pull| link.send(&pull.reply, &status(404, "No Messages", ""), b""));
                return false;
            }
            NextDelivery::UsedUp(sequence, count) => {
                used_up(stream, name, (sequence, count), link);
                continue;
            }
            NextDelivery::Again(sequence) => sequence,
            NextDelivery::New(sequence) => {
                let end = stream.partition.bounds().1;
                if sequence > end {
                    consumer
                        .leave()
                        .iter()
                        .for_each(|pull| link.send(&pull.reply, &status(404, "No Messages", ""), b""));
                    // What comes later wakes it.
                    if end == waited_for && stream.partition.await_more(end, wake) {
                        return false;
                    }
                    waited_for = stream.partition.bounds().1;
                    continue;
                }
                sequence
            }
        };
        if !step(stream, name, sequence, link) {
            return false;
        }
    }
    true
}

/// Delivers one message, or passes over it; `false` when nobody is there to take it.
fn step(stream: &mut Stream, name: &str, sequence: u64, link: &mut RouterLink) -> bool {
    let (there, first) = (stream.has(sequence), stream.first());
    let (remaining, is_queue) = (stream.count_from(sequence + 1), stream.is_queue());
    let Some((consumer, reader)) = stream.consumers.get_mut(name) else { return false };
    if !there {
        consumer.trim(first);
        consumer.acknowledge(sequence, super::AckWord::Done, 0);
        consumer.pass(sequence.min(consumer.next()));
        return true;
    }
    let message = match reader.get(&stream.partition, sequence) {
        Ok(Some(message)) => message,
        Ok(None) => return false,
        Err(error) => {
            log_error(&error);
            return false;
        }
    };
    if consumer.config.filters() && !consumer.config.wants(message.subject) {
        consumer.pass(sequence);
        return true;
    }
    let Some(target) = taker(&mut consumer.waiting, &mut link.router) else { return false };
    let at: Nanos = now();
    let numbers = consumer.deliver(sequence, at);
    let (time, count, number) = (message.time, numbers.count, numbers.sequence);
    let reply = format!("$JS.ACK.{}.{name}.{count}.{sequence}.{number}.{time}.{remaining}", stream.name);
    let payload = [message.headers, message.body].concat();
    let (header_text, total_text) = (message.headers.len().to_string(), payload.len().to_string());
    let publish = Publish {
        subject: message.subject,
        reply: reply.as_bytes(),
        header_text: header_text.as_bytes(),
        total_text: total_text.as_bytes(),
        header_len: message.headers.len(),
        payload: &payload,
        tail: None,
    };
    link.router.deliver(&target, &publish);
    // In turn: who has been served waits behind the others.
    if let Some(mut pull) = consumer.waiting.pop_front() {
        pull.left -= 1;
        pull.heartbeat = pull.heartbeat.map(|(every, _)| (every, at + every));
        let length = payload.len() as u64;
        pull.left_bytes = pull.left_bytes.map(|left| left.saturating_sub(length));
        match pull.left_bytes {
            Some(0) if pull.left > 0 => {
                link.send(&pull.reply, &status(409, "Message Size Exceeds MaxBytes", ""), b"");
            }
            _ if pull.left > 0 => consumer.waiting.push_back(pull),
            _ => {}
        }
    }
    if is_queue && consumer.config.ack_policy == AckPolicy::None {
        stream.remove(sequence);
    }
    true
}

/// Says that a message has used up its deliveries.
fn used_up(stream: &Stream, name: &str, (sequence, count): (u64, u32), link: &mut RouterLink) {
    let subject = format!("$JS.EVENT.ADVISORY.CONSUMER.MAX_DELIVERIES.{}.{name}", stream.name);
    let said = json!({
        "type": "io.nats.jetstream.advisory.v1.max_deliver",
        "id": format!("{}.{name}.{sequence}", stream.name),
        "timestamp": stamp(wall()),
        "stream": stream.name,
        "consumer": name,
        "stream_seq": sequence,
        "deliveries": count,
    });
    link.send(subject.as_bytes(), b"", said.to_string().as_bytes());
}
