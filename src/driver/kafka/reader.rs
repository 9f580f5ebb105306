//! Reads with one client, a batch at a time: one call to librdkafka takes every message that is
//! here.

use std::ffi::{CStr, c_int};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rdkafka::bindings as rd;
use rdkafka::types::RDKafkaRespErr as Code;

use super::native::{ClientKind, EventQueue, NativeClient, QueueSignal, taken, words};
use super::partitions::Partitions;
use crate::driver::DriverError;
use crate::units::{Nanos, now};

/// Most messages of one batch: enough that the call costs nothing for each.
const BATCH: usize = 1024;

/// Bound on a member saying that it leaves; a static one never does.
const UNSAID: Duration = Duration::from_secs(1);

#[derive(Debug)]
pub(super) struct ReceivedMessage(*mut rd::rd_kafka_message_t);

// SAFETY: the message is ours alone; librdkafka counts its references atomically.
unsafe impl Send for ReceivedMessage {}

impl ReceivedMessage {
    pub(super) fn payload(&self) -> &[u8] {
        // SAFETY: the message is valid until dropped, and its payload with it; a message without
        // one is empty.
        unsafe {
            let m = &*self.0;
            if m.payload.is_null() { &[] } else { std::slice::from_raw_parts(m.payload.cast(), m.len) }
        }
    }
    pub(super) fn key(&self) -> Option<&[u8]> {
        // SAFETY: as above.
        unsafe {
            let m = &*self.0;
            (!m.key.is_null()).then(|| std::slice::from_raw_parts(m.key.cast(), m.key_len))
        }
    }
    pub(super) fn partition(&self) -> i32 {
        // SAFETY: as above.
        unsafe { (*self.0).partition }
    }
    pub(super) fn offset(&self) -> i64 {
        // SAFETY: as above.
        unsafe { (*self.0).offset }
    }
    /// The last header of this name.
    pub(super) fn header(&self, name: &CStr) -> Option<&[u8]> {
        let none = Code::RD_KAFKA_RESP_ERR_NO_ERROR;
        let mut all = std::ptr::null_mut();
        // SAFETY: the message is valid; the list of headers belongs to it.
        if unsafe { rd::rd_kafka_message_headers(self.0, &mut all) } != none {
            return None;
        }
        let (mut value, mut length) = (std::ptr::null(), 0);
        // SAFETY: list and name are valid; the value belongs to the message, which outlives the
        // slice.
        if unsafe { rd::rd_kafka_header_get_last(all, name.as_ptr(), &mut value, &mut length) } != none {
            return None;
        }
        // SAFETY: as above; a header without a value is empty.
        Some(if value.is_null() { &[] } else { unsafe { std::slice::from_raw_parts(value.cast(), length) } })
    }
    fn error(&self) -> Code {
        // SAFETY: as above.
        unsafe { (*self.0).err }
    }
}

impl Drop for ReceivedMessage {
    fn drop(&mut self) {
        // SAFETY: the message is ours and destroyed once.
        unsafe { rd::rd_kafka_message_destroy(self.0) };
    }
}

/// A consuming client and the rest of its last batch.
#[derive(Debug)]
pub(super) struct BatchReader {
    batch: Vec<*mut rd::rd_kafka_message_t>,
    next: usize,
    /// When librdkafka gave the batch.
    at: Nanos,
    queue: EventQueue,
    client: Arc<NativeClient>,
}

// SAFETY: the messages are ours alone, whichever thread we are on.
unsafe impl Send for BatchReader {}

impl BatchReader {
    pub(super) fn new(client: Arc<NativeClient>) -> Self {
        Self { batch: Vec::with_capacity(BATCH), next: 0, at: 0, queue: client.queue(ClientKind::Consumer), client }
    }

    pub(super) fn attach(&self, signal: &QueueSignal) {
        signal.attach(&self.queue);
    }

    pub(super) fn client(&self) -> &Arc<NativeClient> {
        &self.client
    }

    /// Reads these partitions from these offsets on, without a group.
    pub(super) fn assign(&self, partitions: &Partitions) -> Result<(), DriverError> {
        // SAFETY: client and list are valid; the list is copied.
        self.expect(unsafe { rd::rd_kafka_assign(self.client.raw(), partitions.raw()) })
    }

    /// Joins the group of its settings.
    pub(super) fn subscribe(&self, topic: &str) -> Result<(), DriverError> {
        // SAFETY: as above.
        self.expect(unsafe { rd::rd_kafka_subscribe(self.client.raw(), Partitions::topic(topic).raw()) })
    }

    fn expect(&self, code: Code) -> Result<(), DriverError> {
        if code == Code::RD_KAFKA_RESP_ERR_NO_ERROR { Ok(()) } else { Err(self.lost(words(code))) }
    }

    pub(super) fn lost(&self, words: String) -> DriverError {
        DriverError::Lost { url: self.client.health().url().to_owned(), words }
    }

    /// Takes a batch unless there is something left of the last; false when nothing is here.
    pub(super) fn fill(&mut self) -> Result<bool, DriverError> {
        self.wait(0)
    }

    /// The same, but blocks the thread for up to so long while there is nothing.
    pub(super) fn wait(&mut self, milliseconds: c_int) -> Result<bool, DriverError> {
        // Until there are messages or the queue is empty: it rings only when it is empty before.
        while self.next == self.batch.len() {
            self.batch.clear();
            self.next = 0;
            // SAFETY: the buffer has room for BATCH pointers; as many as are returned were written.
            unsafe {
                let (queue, room) = (self.queue.raw(), self.batch.as_mut_ptr());
                let got = rd::rd_kafka_consume_batch_queue(queue, milliseconds, room, BATCH);
                self.batch.set_len(usize::try_from(got).unwrap_or(0));
            }
            if self.batch.is_empty() {
                self.client.health().check()?;
                return Ok(false);
            }
            self.at = now();
            self.client.health().note_recovery();
            self.drop_errors()?;
        }
        Ok(true)
    }

    /// Takes errors of a partition out of the batch, where they come in the place of a message.
    fn drop_errors(&mut self) -> Result<(), DriverError> {
        let mut failed = None;
        self.batch.retain(|&raw| {
            // SAFETY: the message was just given to us.
            let code = unsafe { (*raw).err };
            if code == Code::RD_KAFKA_RESP_ERR_NO_ERROR {
                return true;
            }
            let message = ReceivedMessage(raw);
            if message.error() != Code::RD_KAFKA_RESP_ERR__PARTITION_EOF {
                // SAFETY: the text belongs to the message, which is still here.
                let text = unsafe { CStr::from_ptr(rd::rd_kafka_message_errstr(raw)) };
                failed.get_or_insert_with(|| text.to_string_lossy().into_owned());
            }
            false
        });
        failed.map_or(Ok(()), |words| Err(self.lost(words)))
    }

    /// When the messages of the batch arrived: when the call that gave them returned.
    #[inline]
    pub(super) fn at(&self) -> Nanos {
        self.at
    }

    /// The next message of the batch.
    #[inline]
    pub(super) fn next(&mut self) -> Option<ReceivedMessage> {
        let raw = *self.batch.get(self.next)?;
        self.next += 1;
        Some(ReceivedMessage(raw))
    }

    /// What is assigned to it now.
    pub(super) fn assigned(client: &NativeClient) -> usize {
        let mut list = std::ptr::null_mut();
        // SAFETY: the client is valid; the list returned is ours.
        let code = unsafe { rd::rd_kafka_assignment(client.raw(), &mut list) };
        let list = Partitions::from_raw(list);
        if code == Code::RD_KAFKA_RESP_ERR_NO_ERROR { list.len() } else { 0 }
    }

    /// Whether it is a member of its group.
    pub(super) fn joined(client: &NativeClient) -> bool {
        // SAFETY: the client is valid; the text, where there is one, is ours to free.
        unsafe {
            let id = rd::rd_kafka_memberid(client.raw());
            if id.is_null() {
                return false;
            }
            let there = *id != 0;
            rd::rd_kafka_mem_free(client.raw(), id.cast());
            there
        }
    }

    /// Leaves the group in order, within the bound.
    pub(super) fn leave(&mut self, bound: Duration) {
        self.drop_batch();
        if self.client.health().down() {
            // Nobody is there to be told.
            return;
        }
        let deadline = Instant::now() + bound;
        // Without this, a member of a cooperative group closes and does not say that it leaves
        // (librdkafka 2.12), and the others wait for the end of its session. SAFETY: the client is
        // valid.
        unsafe { rd::rd_kafka_unsubscribe(self.client.raw()) };
        let unsaid = Instant::now() + UNSAID.min(bound);
        while (Self::assigned(&self.client) > 0 || Self::joined(&self.client)) && Instant::now() < unsaid {
            drop(self.queue.event(1));
        }
        // SAFETY: client and queue are valid; an error means that it is closed already, and is
        // taken.
        let closing = taken(unsafe { rd::rd_kafka_consumer_close_queue(self.client.raw(), self.queue.raw()) });
        // SAFETY: as above.
        while closing.is_ok()
            && unsafe { rd::rd_kafka_consumer_closed(self.client.raw()) } == 0
            && Instant::now() < deadline
        {
            drop(self.queue.event(1));
        }
    }

    fn drop_batch(&mut self) {
        while let Some(message) = self.next() {
            drop(message);
        }
    }
}

impl Drop for BatchReader {
    fn drop(&mut self) {
        self.drop_batch();
    }
}
