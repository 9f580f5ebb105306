//! Redelivery of single messages, as applications of Kafka do it: topics to try again from, and a
//! topic of dead letters.
//!
//! # Background
//! A consumer group has one committed offset for each partition, so that Kafka cannot give a single
//! message again. Applications write what they rejected to a retry topic, read that beside the
//! first one, and give up into a dead-letter topic.
//! # Design
//! Each group has one retry topic and one dead-letter topic. A member writes what it rejects to
//! partitions of the retry topic that it alone reads, one for each number of deliveries: the
//! partition tells how often a message was delivered, and nothing is added to it. A message is kept
//! until the broker has acknowledged its copy, and written again where the broker refused it.
//! # Scope
//! Retries are read at once: there is no back-off. Messages that come again come later than those
//! that were published after them.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use rdkafka::types::RDKafkaRespErr as Code;

use super::native::{NativeClient, QueueSignal};
use super::producer::TopicWriter;
use super::reader::{BatchReader, ReceivedMessage};
use crate::driver::{DriverError, Incidents, Incoming, MessageSink};
use crate::plan::Workload;
use crate::units::Nanos;

/// Partitions that each member of a group needs to try again from: one for each delivery after the
/// first.
pub(super) fn levels(w: &Workload) -> u32 {
    // Without a limit nothing is rejected more than once.
    w.delivery.max_deliver.max(2) - 1
}

/// Whether consumers of a workload reject messages.
pub(super) fn wanted(w: &Workload) -> bool {
    w.delivery.reject_every > 0 || w.delivery.dead_every > 0
}

/// A rejected message, until its copy is stored.
#[derive(Debug)]
struct OpenRetry {
    message: ReceivedMessage,
    /// How often it was delivered.
    attempt: u32,
}

/// Redelivery for one member of a group.
#[derive(Debug)]
pub(super) struct Retries {
    // First: a client that is destroyed waits for each of its messages, also for those of the
    // reader that are still open where a trial ends before they are settled.
    open: BTreeMap<u64, OpenRetry>,
    /// Of those, not yet handed to the client.
    unwritten: VecDeque<u64>,
    reader: BatchReader,
    again: TopicWriter,
    dead: TopicWriter,
    /// Which member of how many.
    place: (u32, u32),
    /// A message is delivered so often at most; 0 is without limit.
    limit: u32,
    levels: u32,
    token: u64,
}

impl Retries {
    /// `reader` and the topics are those of the group; the client writes to both topics.
    pub(super) fn new(
        reader: BatchReader,
        client: &Arc<NativeClient>,
        (again, dead): (&str, &str),
        place: (u32, u32),
        w: &Workload,
        incidents: &Incidents,
    ) -> Result<Self, DriverError> {
        Ok(Self {
            reader,
            again: TopicWriter::new(client.clone(), again, incidents)?,
            dead: TopicWriter::new(client.clone(), dead, incidents)?,
            place,
            limit: w.delivery.max_deliver,
            levels: levels(w),
            open: BTreeMap::new(),
            unwritten: VecDeque::new(),
            token: 0,
        })
    }

    pub(super) fn attach(&self, signal: &QueueSignal) {
        self.reader.attach(signal);
        self.again.attach(signal);
    }

    /// Whether there is something to be tried again.
    pub(super) fn fill(&mut self) -> Result<bool, DriverError> {
        self.reader.fill()
    }

    /// The next message to be tried again, when it arrived, and which delivery this is.
    pub(super) fn next(&mut self) -> Option<(ReceivedMessage, Nanos, u32)> {
        let message = self.reader.next()?;
        let level = message.partition() as u32 / self.place.1;
        Some((message, self.reader.at(), level + 2))
    }

    /// Takes over a message whose delivery of this number was rejected; [`write`](Self::write)
    /// sends it.
    pub(super) fn reject(&mut self, message: ReceivedMessage, attempt: u32) {
        self.open.insert(self.token, OpenRetry { message, attempt });
        self.unwritten.push_back(self.token);
        self.token += 1;
    }

    /// Hands what was rejected to the client. What is cut short is taken up by the next call.
    pub(super) async fn write(&mut self, signal: &QueueSignal) -> Result<(), DriverError> {
        while let Some(&token) = self.unwritten.front() {
            if let Some(OpenRetry { message, attempt }) = self.open.get(&token) {
                let dead = self.limit > 0 && *attempt >= self.limit;
                let level = (*attempt).clamp(1, self.levels) - 1;
                let (writer, partition) =
                    if dead { (&mut self.dead, 0) } else { (&mut self.again, level * self.place.1 + self.place.0) };
                writer.write(signal, (partition as i32, message.key()), message.payload(), token).await?;
            }
            self.unwritten.pop_front();
        }
        Ok(())
    }

    /// Takes what the broker says of the copies; dead letters that it has stored go to the sink.
    pub(super) fn settle(&mut self, sink: &mut impl MessageSink) -> Result<(), DriverError> {
        self.again.collect();
        let reports = self.again.reports.drain(..).chain(self.dead.reports.drain(..));
        for (token, code, at) in reports {
            if code != Code::RD_KAFKA_RESP_ERR_NO_ERROR {
                self.unwritten.push_back(token);
                continue;
            }
            let Some(OpenRetry { message, attempt }) = self.open.remove(&token) else { continue };
            if self.limit > 0 && attempt >= self.limit {
                sink.dead_letter(Incoming { payload: message.payload(), at, attempt });
            }
        }
        self.again.check()
    }

    /// Whether every rejected message is stored elsewhere, so that its offset may be committed.
    pub(super) fn settled(&self) -> bool {
        self.open.is_empty()
    }
}
