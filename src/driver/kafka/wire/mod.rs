//! A producer in Kafka's own protocol, without librdkafka.
//!
//! # Background
//! librdkafka hands each message from the thread of the load to threads of its own and back: about
//! half a microsecond of CPU a message. A bare client that sends a batch made once shows that the
//! broker takes more than librdkafka gives (docs/performance.md). With `producers = "wire"` a user
//! can saturate such a broker, and see what the library costs, as with `client = "wire"` of NATS.
//! # Design
//! Messages are written where they go out from, into the batch of their partition, on the thread of
//! the load. A batch that is full, or has waited for `linger`, goes with those of other partitions
//! of the same leader into one request; a few requests are under way at a time, as with Kafka's own
//! client. Nothing is allocated for a message.
//! # Scope
//! No TLS and no SASL but PLAIN; no compression, keys, idempotence, transactions, requests. Nothing
//! is sent again: what a broker refuses is counted as refused, a lost connection ends the trial.

mod batch;

use std::collections::VecDeque;
use std::task::Poll;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use kafka_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use kafka_protocol::messages::{ProduceRequest, ProduceResponse, TopicName};

use self::batch::{OpenBatch, RECORD, SealedBatch};
use super::share::{BrokerAccess, BrokerConnection, words_of};
use crate::driver::{Confirmation, DriverError, Incident, Incidents, Outgoing, Producer};
use crate::units::{Nanos, now};

/// Version of the request: Kafka 4 and the reference broker speak it.
const PRODUCE: i16 = 9;
/// Requests to a broker that are under way at most, as with Kafka's own client.
pub(super) const IN_FLIGHT: usize = 5;
/// Bytes of a request from which on nothing is added; at least one batch goes.
const REQUEST: usize = 1 << 20;
/// Messages that are not acknowledged yet, and bytes: above either the client is full. librdkafka
/// takes as many messages.
pub(super) const MOST: usize = 100_000;
const MOST_BYTES: usize = 64 << 20;

/// How messages are gathered and acknowledged.
#[derive(Debug, Clone, Copy)]
pub(super) struct BatchRules {
    /// 1 or -1, as in the protocol: without acknowledgements nobody asks when a batch is due.
    pub(super) acks: i16,
    /// How long a batch that is not full waits for more.
    pub(super) linger: Nanos,
    /// Bytes of a batch.
    pub(super) size: usize,
}

/// One partition.
#[derive(Debug, Default)]
struct PartitionLane {
    /// Which of the brokers leads it.
    broker: usize,
    open: OpenBatch,
    sealed: VecDeque<SealedBatch>,
}

/// A connection to a broker that leads partitions.
#[derive(Debug)]
struct LeaderLink {
    connection: BrokerConnection,
    /// What each request that is under way has, by partition.
    under_way: VecDeque<Vec<(usize, Vec<u64>)>>,
    /// Partitions with sealed batches, in the order in which they were sealed.
    ready: VecDeque<usize>,
}

/// See the module.
#[derive(Debug)]
pub struct ProtocolProducer {
    access: BrokerAccess,
    topic: TopicName,
    rules: BatchRules,
    lanes: Vec<PartitionLane>,
    brokers: Vec<LeaderLink>,
    /// Messages, and bytes of sealed batches, that are not acknowledged.
    pending: usize,
    bytes: usize,
    /// Partitions whose batch is open, in the order in which they were begun.
    begun: VecDeque<usize>,
    /// What became of batches since it was last asked: their messages, whether they were taken, and
    /// when the answer arrived.
    reports: Vec<(Vec<u64>, bool, Nanos)>,
    noted: Option<i16>,
    incidents: Incidents,
}

impl ProtocolProducer {
    /// Of a topic whose partitions are led by these brokers, by partition.
    pub(super) fn new(
        access: BrokerAccess,
        topic: TopicName,
        rules: BatchRules,
        (connections, leaders): (Vec<BrokerConnection>, Vec<usize>),
        incidents: &Incidents,
    ) -> Self {
        let link = |connection| LeaderLink { connection, under_way: VecDeque::new(), ready: VecDeque::new() };
        let lane = |broker| PartitionLane { broker, ..PartitionLane::default() };
        Self {
            access,
            topic,
            rules,
            lanes: leaders.into_iter().map(lane).collect(),
            brokers: connections.into_iter().map(link).collect(),
            pending: 0,
            bytes: 0,
            begun: VecDeque::new(),
            reports: Vec::new(),
            noted: None,
            incidents: incidents.clone(),
        }
    }

    /// Completes the batch of a partition.
    fn seal(&mut self, lane: usize) {
        let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let it = &mut self.lanes[lane];
        let sealed = it.open.seal(i64::try_from(since_epoch.as_millis()).unwrap_or(i64::MAX));
        self.bytes += sealed.bytes.len();
        it.sealed.push_back(sealed);
        self.brokers[it.broker].ready.push_back(lane);
        self.begun.retain(|begun| *begun != lane);
    }

    /// Completes what has waited for so long that it goes at this instant.
    fn seal_due(&mut self, at: Nanos) {
        while let Some(lane) = self.begun.front().copied() {
            if self.lanes[lane].open.begun + self.rules.linger > at {
                break;
            }
            self.seal(lane);
        }
    }

    /// Sends what may be sent, and takes what was answered; whether anything was.
    fn step(&mut self) -> Result<bool, DriverError> {
        let mut answered = false;
        for broker in 0..self.brokers.len() {
            while self.brokers[broker].under_way.len() < IN_FLIGHT && !self.brokers[broker].ready.is_empty() {
                self.request(broker)?;
            }
            self.brokers[broker].connection.write()?;
            while let Some(frame) = self.brokers[broker].connection.read()? {
                let answer = self.access.decode::<ProduceRequest>(frame, PRODUCE)?;
                self.settle(broker, &answer)?;
                answered = true;
            }
        }
        Ok(answered)
    }

    /// One request with what is ready for a broker, of each partition the oldest batch.
    fn request(&mut self, broker: usize) -> Result<(), DriverError> {
        let link = &mut self.brokers[broker];
        let (mut data, mut messages, mut size, mut later) = (Vec::new(), Vec::new(), 0, VecDeque::new());
        while let Some(lane) = link.ready.pop_front() {
            let again = messages.iter().any(|(taken, _)| *taken == lane);
            let next = self.lanes[lane].sealed.front().map_or(0, |batch| batch.bytes.len());
            if again || (size > 0 && size + next > REQUEST) {
                later.push_back(lane);
                continue;
            }
            if let Some(batch) = self.lanes[lane].sealed.pop_front() {
                size += batch.bytes.len();
                data.push(PartitionProduceData::default().with_index(lane as i32).with_records(Some(batch.bytes)));
                messages.push((lane, batch.tokens));
            }
        }
        link.ready = later;
        self.bytes -= size;
        let data = TopicProduceData::default().with_name(self.topic.clone()).with_partition_data(data);
        let request = ProduceRequest::default()
            .with_acks(self.rules.acks)
            .with_timeout_ms(i32::try_from(self.access.timeout.as_millis()).unwrap_or(i32::MAX))
            .with_topic_data(vec![data]);
        link.connection.enqueue(&request, PRODUCE)?;
        link.under_way.push_back(messages);
        Ok(())
    }

    /// Takes the answer to the oldest request to a broker.
    fn settle(&mut self, broker: usize, answer: &ProduceResponse) -> Result<(), DriverError> {
        let link = &mut self.brokers[broker];
        let at = link.connection.at;
        let Some(messages) = link.under_way.pop_front() else {
            return Err(self.access.lost("the broker answered what was not asked"));
        };
        for (lane, tokens) in messages {
            let found = answer.responses.iter().flat_map(|t| &t.partition_responses).find(|p| p.index == lane as i32);
            let Some(found) = found else {
                return Err(self.access.lost(format!("the broker says nothing of partition {lane}")));
            };
            if found.error_code != 0 && self.noted != Some(found.error_code) {
                self.noted = Some(found.error_code);
                let words = words_of(found.error_code, found.error_message.as_ref());
                self.incidents.note(Incident::Refused, format!("messages were not delivered: {words}"));
            }
            self.pending -= tokens.len();
            self.reports.push((tokens, found.error_code == 0, at));
        }
        Ok(())
    }

    /// Waits until something can be read or written, or a batch has waited long enough.
    async fn ready(&self) {
        let any = std::future::poll_fn(|cx| {
            let ready = self.brokers.iter().filter(|b| b.connection.poll_ready(cx).is_ready()).count();
            if ready > 0 { Poll::Ready(()) } else { Poll::Pending }
        });
        // With requests enough under way a batch that is due waits for an answer.
        let Some(lane) = self.begun.front() else { return any.await };
        let due = self.lanes[*lane].open.begun + self.rules.linger;
        let _ = tokio::time::timeout(Duration::from_nanos(due.saturating_sub(now())), any).await;
    }

    fn full(&self) -> bool {
        self.pending >= MOST || self.bytes >= MOST_BYTES
    }
}

impl Producer for ProtocolProducer {
    fn confirms(&self) -> bool {
        true
    }

    async fn send(&mut self, message: Outgoing<'_>) -> Result<(), DriverError> {
        let lane = message.channel as usize;
        let Some(it) = self.lanes.get_mut(lane) else {
            return Err(DriverError::Refused { words: format!("there is no partition {lane}") });
        };
        let mut sealed = false;
        if !it.open.is_empty() && it.open.size() + RECORD + message.payload.len() > self.rules.size {
            self.seal(lane);
            sealed = true;
        }
        let it = &mut self.lanes[lane];
        if it.open.is_empty() {
            it.open.begun = now();
            self.begun.push_back(lane);
        }
        it.open.push(message.payload, message.token);
        self.pending += 1;
        if sealed {
            self.step()?;
        }
        if self.full() {
            self.incidents.backpressure();
            while self.full() {
                self.seal_due(now());
                if !self.step()? {
                    self.ready().await;
                }
            }
        }
        Ok(())
    }

    async fn flush(&mut self) -> Result<(), DriverError> {
        // How long a batch is held back is `linger`: a setting under measurement.
        self.seal_due(now());
        self.step().map(|_| ())
    }

    async fn confirmed(&mut self, sink: &mut impl FnMut(Confirmation<'_>)) -> Result<(), DriverError> {
        loop {
            self.seal_due(now());
            self.step()?;
            let any = !self.reports.is_empty();
            for (tokens, taken, at) in self.reports.drain(..) {
                for token in tokens {
                    sink(if taken { Confirmation::Acked { token, at } } else { Confirmation::Failed { token } });
                }
            }
            if any {
                return Ok(());
            }
            self.ready().await;
        }
    }

    async fn close(mut self) -> Result<(), DriverError> {
        while let Some(lane) = self.begun.front().copied() {
            self.seal(lane);
        }
        loop {
            self.step()?;
            let waits = |b: &LeaderLink| !b.under_way.is_empty() || !b.ready.is_empty() || !b.connection.is_written();
            if !self.brokers.iter().any(waits) {
                return Ok(());
            }
            self.ready().await;
        }
    }
}
