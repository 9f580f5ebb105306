//! Sends to one topic. The token of a message is librdkafka's opaque, and comes back with its
//! delivery report.

use std::ffi::{CString, c_int, c_void};
use std::sync::Arc;

use rdkafka::bindings as rd;
use rdkafka::types::RDKafkaRespErr as Code;

use super::native::{ClientKind, EventQueue, NativeClient, QueueSignal, words};
use super::partitions::UNASSIGNED;
use super::reader::BatchReader;
use super::service::{Correlation, RecordHeader};
use super::wire::ProtocolProducer;
use crate::driver::{Confirmation, DriverError, Incident, Incidents, Outgoing, Producer};
use crate::units::{Nanos, now};

/// Where nobody asks for confirmations, delivery reports are looked at after so many messages.
const LOOK_EVERY: u32 = 64;

/// A topic as a producer addresses it.
#[derive(Debug)]
pub(super) struct TopicHandle {
    raw: *mut rd::rd_kafka_topic_t,
    // The handle must go before its client.
    client: Arc<NativeClient>,
}

// SAFETY: librdkafka's topic handles may be used from any thread.
unsafe impl Send for TopicHandle {}

impl TopicHandle {
    pub(super) fn new(client: &Arc<NativeClient>, name: &str) -> Result<Self, DriverError> {
        let refused = |words: String| DriverError::Refused { words: format!("topic {name}: {words}") };
        let text = CString::new(name).map_err(|e| refused(e.to_string()))?;
        // SAFETY: client and name are valid; no topic configuration is passed.
        let raw = unsafe { rd::rd_kafka_topic_new(client.raw(), text.as_ptr(), std::ptr::null_mut()) };
        if raw.is_null() {
            return Err(refused(words(last_error())));
        }
        Ok(Self { raw, client: client.clone() })
    }

    /// Hands a copy of one message to the client.
    #[inline]
    pub(super) fn produce(&self, partition: i32, key: Option<&[u8]>, payload: &[u8], token: u64) -> Result<(), Code> {
        let (key, length) = key.map_or((std::ptr::null(), 0), |k| (k.as_ptr(), k.len()));
        // SAFETY: librdkafka copies key and payload before it returns; the opaque is a number,
        // never followed.
        let failed = unsafe {
            rd::rd_kafka_produce(
                self.raw,
                partition,
                rd::RD_KAFKA_MSG_F_COPY,
                payload.as_ptr().cast_mut().cast(),
                payload.len(),
                key.cast(),
                length,
                token as *mut c_void,
            )
        };
        if failed == 0 { Ok(()) } else { Err(last_error()) }
    }

    /// The same for a message with a header and without a key, whose partition librdkafka chooses.
    fn produce_with(&self, (name, value): RecordHeader<'_>, payload: &[u8], token: u64) -> Result<(), Code> {
        use rd::rd_kafka_vtype_t as V;
        // SAFETY: each tag is followed by what its documentation says, in C's types; librdkafka
        // copies payload, name and value before it returns; the opaque is a number, never followed.
        let code = unsafe {
            rd::rd_kafka_producev(
                self.client.raw(),
                V::RD_KAFKA_VTYPE_RKT as c_int,
                self.raw,
                V::RD_KAFKA_VTYPE_MSGFLAGS as c_int,
                rd::RD_KAFKA_MSG_F_COPY as c_int,
                V::RD_KAFKA_VTYPE_VALUE as c_int,
                payload.as_ptr(),
                payload.len(),
                V::RD_KAFKA_VTYPE_OPAQUE as c_int,
                token as *mut c_void,
                V::RD_KAFKA_VTYPE_HEADER as c_int,
                name.as_ptr(),
                value.as_ptr(),
                value.len(),
                V::RD_KAFKA_VTYPE_END as c_int,
            )
        };
        if code == Code::RD_KAFKA_RESP_ERR_NO_ERROR { Ok(()) } else { Err(code) }
    }
}

impl Drop for TopicHandle {
    fn drop(&mut self) {
        // SAFETY: the handle is ours, and its client is still there.
        unsafe { rd::rd_kafka_topic_destroy(self.raw) };
    }
}

fn last_error() -> Code {
    // SAFETY: reads librdkafka's error of this thread.
    unsafe { rd::rd_kafka_last_error() }
}

/// A producing client: its topic, and the delivery reports that wait to be taken.
#[derive(Debug)]
pub(super) struct TopicWriter {
    topic: TopicHandle,
    queue: EventQueue,
    client: Arc<NativeClient>,
    incidents: Incidents,
    /// Token, result and instant of what was reported since it was last taken.
    pub(super) reports: Vec<(u64, Code, Nanos)>,
    noted: Option<Code>,
}

impl TopicWriter {
    pub(super) fn new(client: Arc<NativeClient>, topic: &str, incidents: &Incidents) -> Result<Self, DriverError> {
        Ok(Self {
            topic: TopicHandle::new(&client, topic)?,
            queue: client.queue(ClientKind::Producer),
            client,
            incidents: incidents.clone(),
            reports: Vec::with_capacity(1024),
            noted: None,
        })
    }

    pub(super) fn attach(&self, signal: &QueueSignal) {
        signal.attach(&self.queue);
    }

    /// Takes every delivery report that is here.
    pub(super) fn collect(&mut self) {
        while let Some(event) = self.queue.event(0) {
            if event.kind() != rd::RD_KAFKA_EVENT_DR {
                if let Err((code, text)) = event.error() {
                    self.client.health().note_error(code as i32, text);
                }
                continue;
            }
            let at = now();
            event.deliveries(|token, code| {
                if code == Code::RD_KAFKA_RESP_ERR_NO_ERROR {
                    self.client.health().note_recovery();
                } else if self.noted != Some(code) {
                    self.noted = Some(code);
                    self.incidents.note(Incident::Refused, format!("messages were not delivered: {}", words(code)));
                }
                self.reports.push((token, code, at));
            });
        }
    }

    /// Hands over one message; while the client is full, waits for delivery reports to make room.
    pub(super) async fn write(
        &mut self,
        signal: &QueueSignal,
        (partition, key): (i32, Option<&[u8]>),
        payload: &[u8],
        token: u64,
    ) -> Result<(), DriverError> {
        self.accepted(signal, |topic| topic.produce(partition, key, payload, token)).await
    }

    /// The same for a message with a header, to a partition of librdkafka's choice.
    pub(super) async fn write_with(
        &mut self,
        signal: &QueueSignal,
        header: RecordHeader<'_>,
        payload: &[u8],
        token: u64,
    ) -> Result<(), DriverError> {
        self.accepted(signal, |topic| topic.produce_with(header, payload, token)).await
    }

    /// Hands one message to the client, which may refuse it.
    pub(super) fn hand_over(&self, partition: i32, payload: &[u8]) -> Result<(), Code> {
        self.topic.produce(partition, None, payload, 0)
    }

    async fn accepted(
        &mut self,
        signal: &QueueSignal,
        produce: impl Fn(&TopicHandle) -> Result<(), Code>,
    ) -> Result<(), DriverError> {
        let mut counted = false;
        loop {
            let code = match produce(&self.topic) {
                Ok(()) => return Ok(()),
                Err(code) => code,
            };
            match code {
                Code::RD_KAFKA_RESP_ERR__QUEUE_FULL => {}
                Code::RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE
                | Code::RD_KAFKA_RESP_ERR__UNKNOWN_PARTITION
                | Code::RD_KAFKA_RESP_ERR__UNKNOWN_TOPIC => return Err(DriverError::Refused { words: words(code) }),
                other => {
                    self.client.health().check()?;
                    return Err(self.lost(words(other)));
                }
            }
            if !counted {
                self.incidents.backpressure();
                counted = true;
            }
            let before = self.reports.len();
            self.collect();
            if self.reports.len() == before {
                self.client.health().check()?;
                signal.wait().await.map_err(|e| self.lost(e.to_string()))?;
            }
        }
    }

    pub(super) fn lost(&self, words: String) -> DriverError {
        DriverError::Lost { url: self.client.health().url().to_owned(), words }
    }

    pub(super) fn check(&self) -> Result<(), DriverError> {
        self.client.health().check()
    }

    /// Waits until every message handed over was delivered or given up.
    pub(super) async fn drained(&mut self, signal: &QueueSignal) -> Result<(), DriverError> {
        loop {
            self.collect();
            // SAFETY: the client is valid.
            if unsafe { rd::rd_kafka_outq_len(self.client.raw()) } == 0 {
                return Ok(());
            }
            self.check()?;
            signal.wait().await.map_err(|e| self.lost(e.to_string()))?;
        }
    }
}

/// A producer, by whichever client.
#[derive(Debug)]
pub enum KafkaProducer {
    /// By librdkafka.
    Library(Box<LibraryProducer>),
    /// By msgbench itself.
    Wire(Box<ProtocolProducer>),
}

impl Producer for KafkaProducer {
    fn confirms(&self) -> bool {
        match self {
            Self::Library(producer) => producer.confirms(),
            Self::Wire(producer) => producer.confirms(),
        }
    }

    #[inline]
    async fn send(&mut self, message: Outgoing<'_>) -> Result<(), DriverError> {
        match self {
            Self::Library(producer) => producer.send(message).await,
            Self::Wire(producer) => producer.send(message).await,
        }
    }

    async fn flush(&mut self) -> Result<(), DriverError> {
        match self {
            Self::Library(producer) => producer.flush().await,
            Self::Wire(producer) => producer.flush().await,
        }
    }

    async fn confirmed(&mut self, sink: &mut impl FnMut(Confirmation<'_>)) -> Result<(), DriverError> {
        match self {
            Self::Library(producer) => producer.confirmed(sink).await,
            Self::Wire(producer) => producer.confirmed(sink).await,
        }
    }

    async fn close(self) -> Result<(), DriverError> {
        match self {
            Self::Library(producer) => producer.close().await,
            Self::Wire(producer) => producer.close().await,
        }
    }
}

/// Publishes with a client of its own; a requester also reads its partition of the reply topic.
#[derive(Debug)]
pub struct LibraryProducer {
    pub(super) writer: TopicWriter,
    pub(super) replies: Option<BatchReader>,
    /// Where a service of others answers.
    pub(super) service: Option<Correlation>,
    /// Whether delivery reports are passed on.
    pub(super) acknowledged: bool,
    pub(super) unlooked: u32,
    // Last: queues are silenced before the eventfd they ring is closed.
    pub(super) signal: QueueSignal,
}

impl Producer for LibraryProducer {
    fn confirms(&self) -> bool {
        self.acknowledged || self.replies.is_some()
    }

    async fn send(&mut self, message: Outgoing<'_>) -> Result<(), DriverError> {
        if !self.acknowledged {
            self.unlooked += 1;
            if self.unlooked == LOOK_EVERY {
                self.unlooked = 0;
                self.writer.collect();
                if self.replies.is_none() {
                    self.writer.reports.clear();
                    self.writer.check()?;
                }
            }
        }
        if let Some(service) = &mut self.service {
            let header = service.header(message.token);
            return self.writer.write_with(&self.signal, header, message.payload, message.token).await;
        }
        let key = message.key.map(u64::to_be_bytes);
        // With a key the partitioner decides; without, messages go to the partition of their
        // channel.
        let partition = if key.is_some() { UNASSIGNED } else { message.channel as i32 };
        let address = (partition, key.as_ref().map(<[u8; 8]>::as_slice));
        self.writer.write(&self.signal, address, message.payload, message.token).await
    }

    async fn flush(&mut self) -> Result<(), DriverError> {
        // How long a batch is held back is librdkafka's linger: a setting under measurement, not to
        // be undone here.
        Ok(())
    }

    async fn confirmed(&mut self, sink: &mut impl FnMut(Confirmation<'_>)) -> Result<(), DriverError> {
        if !self.confirms() {
            return std::future::pending().await;
        }
        loop {
            self.writer.collect();
            let mut any = false;
            let answered = self.replies.is_some();
            for (token, code, at) in self.writer.reports.drain(..) {
                if code != Code::RD_KAFKA_RESP_ERR_NO_ERROR {
                    any = true;
                    sink(Confirmation::Failed { token });
                } else if !answered {
                    any = true;
                    sink(Confirmation::Acked { token, at });
                }
            }
            if let Some(replies) = &mut self.replies {
                while replies.fill()? {
                    let at = replies.at();
                    while let Some(message) = replies.next() {
                        let Some(service) = &self.service else {
                            any = true;
                            sink(Confirmation::Answered { message: message.payload(), at });
                            continue;
                        };
                        if let Some(token) = service.token(&message) {
                            any = true;
                            sink(Confirmation::Served { token, bytes: message.payload().len() as u64, at });
                        }
                    }
                }
            }
            if any {
                return Ok(());
            }
            self.writer.check()?;
            self.signal.wait().await.map_err(|e| self.writer.lost(e.to_string()))?;
        }
    }

    async fn close(mut self) -> Result<(), DriverError> {
        self.writer.drained(&self.signal).await
    }
}
