//! The connection to one broker, over which the partitions that it leads are fetched from.
//!
//! One request is under way at a time: a broker answers those of a connection one after the other.
//! The next one leaves when the answer to the last is here, before its messages are given; so the
//! broker works on one while the other is read.

use std::collections::{BTreeMap, VecDeque};
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use bytes::Bytes;
use kafka_protocol::messages::fetch_request::{FetchPartition, FetchTopic};
use kafka_protocol::messages::fetch_response::PartitionData;
use kafka_protocol::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use kafka_protocol::messages::{ApiKey, FetchRequest, ListOffsetsRequest};
use kafka_protocol::protocol::Message;
use tokio::task::JoinHandle;

use super::super::share::{BrokerAccess, BrokerConnection, hello, words_of};
use super::FetchSource;
use super::batches::{FetchedRecords, next_offset};
use crate::driver::{DriverError, Incident, Incidents};
use crate::units::{Nanos, now};

/// Versions of the other requests.
const API_VERSIONS: i16 = 3;
const LIST_OFFSETS: i16 = 7;
/// From this version on a fetch names topics by their identifier.
const BY_ID: i16 = 13;
/// No session: each fetch names all partitions.
const SESSIONLESS: i32 = -1;
/// The beginning of a partition, asked for as a time.
const BEGINNING: i64 = -2;
/// Error codes: the offset is not there; the leader is to be looked up; what may pass.
const OUT_OF_RANGE: i16 = 1;
const MOVED: [i16; 8] = [3, 5, 6, 9, 74, 76, 100, 103];
const PASSING: [i16; 3] = [-1, 56, 78];

/// One partition, and how far it was read.
#[derive(Debug)]
pub(super) struct ReadLane {
    /// Offset of the next message to be fetched, and to be given.
    pub(super) fetch: i64,
    pub(super) given: i64,
    /// Since when nothing but errors came.
    failing: Option<Instant>,
}

impl ReadLane {
    pub(super) fn new(from: i64) -> Self {
        Self { fetch: from, given: from, failing: None }
    }
}

/// The partitions of a consumer.
pub(super) type ReadLanes = BTreeMap<i32, ReadLane>;

#[derive(Debug)]
#[allow(clippy::large_enum_variant, reason = "one for each leader, open nearly always")]
enum FetchLinkState {
    Closed,
    Connecting(JoinHandle<Result<(BrokerConnection, i16), DriverError>>),
    /// With the version of the fetches.
    Open(BrokerConnection, i16),
}

/// What was asked and is not answered.
#[derive(Debug, Clone, Copy)]
enum FetchQuestion {
    Messages,
    Beginnings,
}

#[derive(Debug)]
pub(super) struct FetchLink {
    pub(super) address: String,
    state: FetchLinkState,
    /// What is fetched here. A partition that brought messages goes behind the others: where an
    /// answer is full, the first ones fill it.
    pub(super) partitions: VecDeque<i32>,
    /// Partitions whose beginning is to be asked for.
    lapsed: Vec<i32>,
    under_way: Option<FetchQuestion>,
    /// Since when it waits for the broker.
    since: Nanos,
    pub(super) fetched: VecDeque<FetchedRecords>,
    later: Option<Instant>,
    failing: Option<Instant>,
    /// Why the latest attempt to connect failed.
    refusal: Option<DriverError>,
    /// Whether a partition may be led by another broker.
    pub(super) moved: bool,
}

/// Connects, and finds out which version of a fetch both sides have.
async fn open(address: String, access: BrokerAccess) -> Result<(BrokerConnection, i16), DriverError> {
    let mut connection = BrokerConnection::open(&address, &access).await?;
    let answer = connection.call(&hello(), API_VERSIONS).await?;
    let known = answer.api_keys.iter().find(|k| k.api_key == ApiKey::Fetch as i16);
    let (least, most) = known.map_or((0, 0), |k| (k.min_version, k.max_version));
    let own = FetchRequest::VERSIONS;
    let version = most.min(own.max);
    if version < least.max(own.min) {
        let words = format!("the broker has versions {least} to {most}, msgbench {} to {}", own.min, own.max);
        return Err(access.refused("agree on a version of fetches", words, "use consumers = \"group\""));
    }
    Ok((connection, version))
}

impl FetchLink {
    pub(super) fn new(address: &str) -> Self {
        Self {
            address: address.to_owned(),
            state: FetchLinkState::Closed,
            partitions: VecDeque::new(),
            lapsed: Vec::new(),
            under_way: None,
            since: 0,
            fetched: VecDeque::new(),
            later: None,
            failing: None,
            refusal: None,
            moved: false,
        }
    }

    /// Connects now, and waits for it.
    pub(super) async fn connect(&mut self, source: &FetchSource) -> Result<(), DriverError> {
        let (connection, version) = open(self.address.clone(), source.access.clone()).await?;
        self.state = FetchLinkState::Open(connection, version);
        Ok(())
    }

    /// Whether it has nothing to fetch and to give any more.
    pub(super) fn over(&self) -> bool {
        self.partitions.is_empty() && self.fetched.is_empty()
    }

    pub(super) fn is_connecting(&self) -> bool {
        matches!(self.state, FetchLinkState::Connecting(_))
    }

    /// How long it waits for the broker at most: a fetch may take its time.
    fn patience(source: &FetchSource) -> Duration {
        source.access.timeout + Duration::from_millis(source.rules.max_wait.max(0).unsigned_abs().into())
    }

    /// When it has something to do by itself.
    pub(super) fn due(&self, source: &FetchSource) -> Option<Instant> {
        let waits = self.under_way.is_some() && self.fetched.is_empty();
        let overdue = waits.then(|| {
            let left = (self.since + Self::patience(source).as_nanos() as Nanos).saturating_sub(now());
            Instant::now() + Duration::from_nanos(left)
        });
        self.later.into_iter().chain(overdue).min()
    }

    /// Does what can be done without waiting: connects, reads what is here, sends the next request.
    pub(super) fn progress(
        &mut self,
        source: &FetchSource,
        lanes: &mut ReadLanes,
        incidents: &Incidents,
    ) -> Result<(), DriverError> {
        if self.later.is_some_and(|at| at > Instant::now()) {
            return Ok(());
        }
        self.later = None;
        let done = match self.refusal.take() {
            Some(error) => Err(error),
            None => self.exchange(source, lanes, incidents),
        };
        match done {
            Err(error @ (DriverError::Lost { .. } | DriverError::Connect { .. } | DriverError::Timeout { .. })) => {
                self.lose(source, incidents, error)
            }
            done => done,
        }
    }

    fn exchange(
        &mut self,
        source: &FetchSource,
        lanes: &mut ReadLanes,
        incidents: &Incidents,
    ) -> Result<(), DriverError> {
        if matches!(self.state, FetchLinkState::Closed) && !self.partitions.is_empty() {
            let (address, access) = (self.address.clone(), source.access.clone());
            self.state = FetchLinkState::Connecting(tokio::spawn(open(address, access)));
        }
        // What was fetched is given first: memory has one answer, and the socket another one.
        while self.fetched.is_empty() {
            let FetchLinkState::Open(connection, _) = &mut self.state else { return Ok(()) };
            connection.write()?;
            let Some(frame) = connection.read()? else {
                self.since = self.since.max(connection.at);
                break;
            };
            (self.failing, self.since) = (None, connection.at);
            let at = connection.at;
            self.answered(frame, at, source, lanes, incidents)?;
            self.send(source, lanes)?;
        }
        self.in_time(source)?;
        self.send(source, lanes)
    }

    /// Whether the answer that is waited for may still come.
    fn in_time(&self, source: &FetchSource) -> Result<(), DriverError> {
        let waits = self.under_way.is_some() && self.fetched.is_empty();
        if !waits || now() < self.since + Self::patience(source).as_nanos() as Nanos {
            return Ok(());
        }
        Err(DriverError::Timeout {
            action: "wait for the broker's answer to a fetch".into(),
            url: source.access.url.clone(),
            seconds: Self::patience(source).as_secs_f64(),
        })
    }

    /// Sends the next request, where none is under way.
    fn send(&mut self, source: &FetchSource, lanes: &ReadLanes) -> Result<(), DriverError> {
        if self.under_way.is_some() || self.later.is_some() || self.partitions.is_empty() {
            return Ok(());
        }
        let FetchLinkState::Open(connection, version) = &mut self.state else { return Ok(()) };
        if self.lapsed.is_empty() {
            let rules = &source.rules;
            let partition = |(partition, lane): (i32, &ReadLane)| {
                FetchPartition::default()
                    .with_partition(partition)
                    .with_fetch_offset(lane.fetch)
                    .with_partition_max_bytes(rules.partition_bytes)
            };
            let own = self.partitions.iter().filter_map(|p| Some((*p, lanes.get(p)?))).map(partition).collect();
            let topic = FetchTopic::default().with_partitions(own);
            let topic = match *version >= BY_ID {
                true => topic.with_topic_id(source.topic_id),
                false => topic.with_topic(source.topic.clone()),
            };
            let request = FetchRequest::default()
                .with_max_wait_ms(rules.max_wait)
                .with_min_bytes(rules.min_bytes)
                .with_max_bytes(rules.max_bytes)
                .with_isolation_level(i8::from(rules.committed))
                .with_session_epoch(SESSIONLESS)
                .with_topics(vec![topic]);
            connection.enqueue(&request, *version)?;
            self.under_way = Some(FetchQuestion::Messages);
        } else {
            let partition = |p: i32| ListOffsetsPartition::default().with_partition_index(p).with_timestamp(BEGINNING);
            let topic = ListOffsetsTopic::default()
                .with_name(source.topic.clone())
                .with_partitions(self.lapsed.drain(..).map(partition).collect());
            let request = ListOffsetsRequest::default().with_replica_id((-1).into()).with_topics(vec![topic]);
            connection.enqueue(&request, LIST_OFFSETS)?;
            self.under_way = Some(FetchQuestion::Beginnings);
        }
        self.since = now();
        connection.write()
    }

    /// Takes the answer to the request that was under way.
    fn answered(
        &mut self,
        frame: Bytes,
        at: Nanos,
        source: &FetchSource,
        lanes: &mut ReadLanes,
        incidents: &Incidents,
    ) -> Result<(), DriverError> {
        let FetchLinkState::Open(_, version) = self.state else { return Ok(()) };
        match self.under_way.take() {
            Some(FetchQuestion::Messages) => {
                let answer = source.access.decode::<FetchRequest>(frame, version)?;
                if answer.error_code != 0 {
                    return Err(source.access.lost(format!("a fetch failed: {}", words_of(answer.error_code, None))));
                }
                for found in answer.responses.into_iter().flat_map(|t| t.partitions) {
                    // One that is read elsewhere by now is fetched there.
                    if self.partitions.contains(&found.partition_index)
                        && let Some(lane) = lanes.get_mut(&found.partition_index)
                    {
                        self.took(found, at, lane, source, incidents)?;
                    }
                }
                Ok(())
            }
            Some(FetchQuestion::Beginnings) => {
                let answer = source.access.decode::<ListOffsetsRequest>(frame, LIST_OFFSETS)?;
                for found in answer.topics.iter().flat_map(|t| &t.partitions) {
                    let partition = found.partition_index;
                    let Some(lane) = lanes.get_mut(&partition) else { continue };
                    if found.error_code == 0 {
                        let words = format!("partition {partition} is read from {} on", found.offset);
                        incidents.note(Incident::Server, format!("{words}: {} is not there", lane.fetch));
                        (lane.fetch, lane.given) = (found.offset, found.offset);
                    } else {
                        self.failed(partition, found.error_code, lane, source, incidents)?;
                    }
                }
                Ok(())
            }
            None => Err(source.access.lost("the broker answered what was not asked")),
        }
    }

    /// Takes what a fetch says of a partition.
    fn took(
        &mut self,
        found: PartitionData,
        at: Nanos,
        lane: &mut ReadLane,
        source: &FetchSource,
        incidents: &Incidents,
    ) -> Result<(), DriverError> {
        let partition = found.partition_index;
        if found.error_code != 0 {
            return self.failed(partition, found.error_code, lane, source, incidents);
        }
        lane.failing = None;
        let records = found.records.unwrap_or_default();
        let next =
            next_offset(&records).map_err(|words| source.access.lost(format!("partition {partition}: {words}")))?;
        // A batch that is cut off comes with the next fetch.
        let Some(next) = next.filter(|next| *next > lane.fetch) else { return Ok(()) };
        let aborted = found.aborted_transactions.unwrap_or_default();
        let aborted = aborted.into_iter().filter(|_| source.rules.committed);
        let aborted = aborted.map(|a| (a.first_offset, a.producer_id.0)).collect();
        self.fetched.push_back(FetchedRecords::new(partition, at, lane.fetch, records, aborted));
        lane.fetch = next;
        self.partitions.retain(|p| *p != partition);
        self.partitions.push_back(partition);
        Ok(())
    }

    /// A partition cannot be read.
    fn failed(
        &mut self,
        partition: i32,
        code: i16,
        lane: &mut ReadLane,
        source: &FetchSource,
        incidents: &Incidents,
    ) -> Result<(), DriverError> {
        let words = format!("partition {partition} cannot be read: {}", words_of(code, None));
        if code == OUT_OF_RANGE {
            self.lapsed.push(partition);
            return Ok(());
        }
        if !MOVED.contains(&code) && !PASSING.contains(&code) {
            return Err(source.access.refused(
                "fetch messages",
                words,
                "check the user's rights, and the broker's log",
            ));
        }
        if lane.failing.is_none() {
            incidents.note(Incident::Server, words.clone());
        }
        let since = *lane.failing.get_or_insert_with(Instant::now);
        if since.elapsed() > source.access.timeout {
            return Err(source.access.refused("fetch messages", words, "see the broker's log"));
        }
        self.moved |= MOVED.contains(&code);
        self.later = Some(Instant::now() + source.rules.retry);
        Ok(())
    }

    /// The connection is gone: another is tried until the bound is over.
    fn lose(&mut self, source: &FetchSource, incidents: &Incidents, error: DriverError) -> Result<(), DriverError> {
        if matches!(self.state, FetchLinkState::Open(..)) {
            incidents.disconnected(error.to_string());
        }
        (self.state, self.under_way, self.moved) = (FetchLinkState::Closed, None, true);
        let since = *self.failing.get_or_insert_with(Instant::now);
        if since.elapsed() > source.access.timeout {
            return Err(error);
        }
        self.later = Some(Instant::now() + source.rules.retry);
        Ok(())
    }

    /// Ready when `progress` has something to do.
    pub(super) fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.later.is_some_and(|at| at > Instant::now()) {
            // Its timer is waited for.
            return Poll::Pending;
        }
        match &mut self.state {
            FetchLinkState::Closed => Poll::Pending,
            FetchLinkState::Open(connection, _) => connection.poll_ready(cx),
            FetchLinkState::Connecting(task) => {
                self.state = match ready!(Pin::new(task).poll(cx)) {
                    Ok(Ok((connection, version))) => FetchLinkState::Open(connection, version),
                    Ok(Err(error)) => {
                        self.refusal = Some(error);
                        FetchLinkState::Closed
                    }
                    // Its runtime ends.
                    Err(_) => FetchLinkState::Closed,
                };
                Poll::Ready(())
            }
        }
    }
}
