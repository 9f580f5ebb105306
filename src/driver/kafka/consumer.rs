//! Receives from one topic, as a member of a group or from partitions dealt out by msgbench;
//! commits, and answers.

use std::time::Duration;

use rdkafka::bindings as rd;

use super::fetch::ProtocolConsumer;
use super::native::{EventQueue, QueueSignal, words};
use super::options::CommitMode;
use super::producer::TopicWriter;
use super::reader::{BatchReader, ReceivedMessage};
use super::retry::Retries;
use super::share::ShareConsumer;
use crate::driver::{Consumer, Disposition, DriverError, Incident, Incidents, Incoming, MessageSink};
use crate::load::message::open;
use crate::units::Nanos;

/// Bound on leaving a group when a consumer is dropped.
const LEAVE: Duration = Duration::from_secs(3);

/// The reply side of a responder.
#[derive(Debug)]
pub(super) struct ReplyWriter {
    pub(super) writer: TopicWriter,
    pub(super) run: u32,
    pub(super) requesters: u32,
    /// A message that the sink has seen and whose answer the client had no room for.
    pub(super) owed: Option<ReceivedMessage>,
}

/// A consumer, in whichever way it comes by its messages.
#[derive(Debug)]
pub enum KafkaConsumer {
    /// From partitions of its own.
    Partitions(Box<PartitionConsumer>),
    /// From partitions that it shares with others.
    Shared(Box<ShareConsumer>),
    /// From all partitions, without librdkafka.
    Wire(Box<ProtocolConsumer>),
}

impl Consumer for KafkaConsumer {
    async fn receive(&mut self, sink: &mut impl MessageSink, limit: usize) -> Result<(), DriverError> {
        match self {
            Self::Partitions(consumer) => consumer.receive(sink, limit).await,
            Self::Shared(consumer) => consumer.receive(sink, limit).await,
            Self::Wire(consumer) => consumer.receive(sink, limit).await,
        }
    }

    fn settle(&mut self, messages: usize) -> Result<(), DriverError> {
        match self {
            // Offsets are committed, whatever is on hold.
            Self::Partitions(_) | Self::Wire(_) => {}
            Self::Shared(consumer) => consumer.settle(messages),
        }
        Ok(())
    }

    fn abandon(self) {
        match self {
            Self::Partitions(mut consumer) => consumer.grouped = false,
            Self::Shared(mut consumer) => consumer.silence(),
            Self::Wire(mut consumer) => consumer.silence(),
        }
    }
}

/// Reads partitions that nobody else of its group reads, through librdkafka.
#[derive(Debug)]
pub struct PartitionConsumer {
    pub(super) reader: BatchReader,
    pub(super) answers: Option<ReplyWriter>,
    /// Where messages are rejected.
    pub(super) retries: Option<Retries>,
    pub(super) commit: CommitMode,
    /// Where the broker's replies to commits arrive.
    pub(super) commits: EventQueue,
    pub(super) committing: u32,
    pub(super) grouped: bool,
    pub(super) incidents: Incidents,
    // Last: queues are silenced before the eventfd they ring is closed.
    pub(super) signal: QueueSignal,
}

impl PartitionConsumer {
    /// Takes the replies to commits that are here.
    fn committed(&mut self) {
        while let Some(event) = self.commits.event(0) {
            self.committing = self.committing.saturating_sub(1);
            if let Err((code, text)) = event.error()
                && code != rdkafka::types::RDKafkaRespErr::RD_KAFKA_RESP_ERR__NO_OFFSET
            {
                self.incidents.note(Incident::Unacknowledged, format!("a commit failed: {text}"));
            }
        }
    }

    fn commit(&mut self) {
        // SAFETY: client and queue are valid; no list means what was read so far; the reply comes
        // to the queue.
        let code = unsafe {
            rd::rd_kafka_commit_queue(
                self.reader.client().raw(),
                std::ptr::null(),
                self.commits.raw(),
                None,
                std::ptr::null_mut(),
            )
        };
        if code == rdkafka::types::RDKafkaRespErr::RD_KAFKA_RESP_ERR_NO_ERROR {
            self.committing += 1;
        } else {
            self.incidents.note(Incident::Unacknowledged, format!("a commit failed: {}", words(code)));
        }
    }

    /// Waits for the reply to a commit where the next batch must.
    async fn settle(&mut self) -> Result<(), DriverError> {
        self.committed();
        while self.commit == CommitMode::Sync && self.committing > 0 {
            self.reader.client().health().check()?;
            self.signal.wait().await.map_err(|e| self.reader.lost(e.to_string()))?;
            self.committed();
        }
        Ok(())
    }

    /// Answers the message that is owed an answer.
    async fn answer(&mut self) -> Result<(), DriverError> {
        let Some(answers) = &mut self.answers else { return Ok(()) };
        answers.writer.collect();
        answers.writer.reports.clear();
        let Some(message) = &answers.owed else { return Ok(()) };
        // The envelope names the requester, and with it its partition of the reply topic.
        if let Ok(envelope) = open(message.payload(), answers.run)
            && envelope.producer < answers.requesters
        {
            let address = (envelope.producer as i32, message.key());
            answers.writer.write(&self.signal, address, message.payload(), 0).await?;
        }
        answers.owed = None;
        Ok(())
    }
}

impl PartitionConsumer {
    /// Sees to what was rejected, takes a batch; false when nothing is here.
    async fn fill(&mut self, sink: &mut impl MessageSink) -> Result<bool, DriverError> {
        let mut again = false;
        if let Some(retries) = &mut self.retries {
            retries.settle(sink)?;
            retries.write(&self.signal).await?;
            again = retries.fill()?;
        }
        Ok(self.reader.fill()? || again)
    }

    /// The next message, when it arrived, and which delivery of it this is; 0 where nothing is
    /// delivered twice.
    fn next(&mut self) -> Option<(ReceivedMessage, Nanos, u32)> {
        let (reader, attempt) = (&mut self.reader, u32::from(self.retries.is_some()));
        let again = self.retries.as_mut().and_then(Retries::next);
        again.or_else(|| Some((reader.next()?, reader.at(), attempt)))
    }
}

impl PartitionConsumer {
    async fn receive(&mut self, sink: &mut impl MessageSink, limit: usize) -> Result<(), DriverError> {
        self.settle().await?;
        self.answer().await?;
        while !self.fill(sink).await? {
            if let Some(answers) = &mut self.answers {
                answers.writer.collect();
                answers.writer.reports.clear();
                answers.writer.check()?;
            }
            self.signal.wait().await.map_err(|e| self.reader.lost(e.to_string()))?;
            self.committed();
        }
        for _ in 0..limit {
            let Some((message, at, attempt)) = self.next() else { break };
            match sink.take(Incoming { payload: message.payload(), at, attempt }) {
                Disposition::Answer => {
                    if let Some(answers) = &mut self.answers {
                        // Kept, so that a wait for room in the client loses no answer when it is
                        // cut short.
                        answers.owed = Some(message);
                        self.answer().await?;
                    }
                }
                Disposition::Reject => {
                    if let Some(retries) = &mut self.retries {
                        retries.reject(message, attempt);
                    }
                }
                Disposition::Accept | Disposition::Leave | Disposition::Hold => {}
            }
        }
        if let Some(retries) = &mut self.retries {
            retries.write(&self.signal).await?;
        }
        let stored = self.retries.as_ref().is_none_or(Retries::settled);
        if stored && matches!(self.commit, CommitMode::Sync | CommitMode::Async) {
            self.commit();
            self.settle().await?;
        }
        Ok(())
    }
}

impl Drop for PartitionConsumer {
    fn drop(&mut self) {
        if self.grouped {
            self.reader.leave(LEAVE);
        }
    }
}
