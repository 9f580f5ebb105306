//! What one member fetches from one broker: a share session, on a connection of its own.
//!
//! One request is under way at a time, as the protocol wants it. The acknowledgements of a batch
//! leave with the fetch of the next one, or by themselves while messages of the batch are still
//! here. A session that is lost begins anew; what was locked in it comes again, to any member.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use bytes::Bytes;
use kafka_protocol::messages::share_fetch_request::{FetchPartition, FetchTopic, ForgottenTopic};
use kafka_protocol::messages::share_fetch_response::PartitionData;
use kafka_protocol::messages::{GroupId, ShareAcknowledgeRequest, ShareFetchRequest};
use kafka_protocol::protocol::StrBytes;
use tokio::task::JoinHandle;

use super::acks::{ShareAck, ShareAcks};
use super::connection::{BrokerConnection, words_of};
use super::member::ShareIdentity;
use super::options::ShareOptions;
use super::records::each_record;
use super::requests::{acknowledgement, fetch_partition};
use crate::driver::{DriverError, Incident, Incidents};
use crate::units::Nanos;

/// Version of both requests.
const SHARE: i16 = 1;
/// Bytes of one fetch: Kafka's own client asks for so many.
const MAX_BYTES: i32 = 50 << 20;
/// The epoch of a session's first request, and of its last.
const OPENS: i32 = 0;
const CLOSES: i32 = -1;
/// Pause after something that failed and may pass.
const RETRY: Duration = Duration::from_millis(100);
/// Error codes: the session is not known, has another epoch, or there are too many.
const SESSION: [i16; 3] = [122, 123, 133];
/// Error codes of a partition whose leader is to be looked up.
const MOVED: [i16; 5] = [3, 6, 74, 76, 100];

/// A message that was fetched and is locked for this member.
#[derive(Debug)]
pub(super) struct ShareRecord {
    pub(super) partition: i32,
    pub(super) offset: i64,
    /// 1 at its first delivery.
    pub(super) attempt: u32,
    pub(super) payload: Bytes,
}

#[derive(Debug)]
enum ShareLink {
    Closed,
    Connecting(JoinHandle<Result<BrokerConnection, DriverError>>),
    Open(BrokerConnection),
}

/// The request that is under way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ShareRequest {
    Fetch,
    Acknowledge,
}

/// A session of a member, and how often it has begun.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct SessionId {
    pub(super) serial: u64,
    begun: u64,
}

#[derive(Debug)]
pub(super) struct ShareSession {
    pub(super) address: String,
    /// Which of the member's sessions it is, and how often it has begun: what was locked in an
    /// earlier one is not locked any more.
    pub(super) id: SessionId,
    link: ShareLink,
    epoch: i32,
    /// Partitions that are to be fetched from, and those that the session has.
    wanted: BTreeSet<i32>,
    known: BTreeSet<i32>,
    waiting: Option<ShareRequest>,
    /// When the answer to it is given up.
    overdue: Option<Instant>,
    pub(super) acks: ShareAcks,
    /// What was fetched and not yet given to the sink, and when it arrived.
    pub(super) batch: VecDeque<ShareRecord>,
    pub(super) at: Nanos,
    /// Messages whose last delivery was rejected: not acknowledged yet, on their way, archived.
    pub(super) dying: Vec<ShareRecord>,
    dying_sent: Vec<ShareRecord>,
    pub(super) dead: Vec<ShareRecord>,
    /// No request before this instant.
    later: Option<Instant>,
    failing: Option<Instant>,
    /// Why the latest attempt to connect failed.
    refusal: Option<DriverError>,
    /// A partition is led by another broker.
    pub(super) moved: bool,
}

impl ShareSession {
    /// A session with the broker at `address`; no other of the member has this serial number.
    pub(super) fn new(address: &str, serial: u64) -> Self {
        Self {
            address: address.to_owned(),
            id: SessionId { serial, begun: 0 },
            link: ShareLink::Closed,
            epoch: OPENS,
            wanted: BTreeSet::new(),
            known: BTreeSet::new(),
            waiting: None,
            overdue: None,
            acks: ShareAcks::default(),
            batch: VecDeque::new(),
            at: 0,
            dying: Vec::new(),
            dying_sent: Vec::new(),
            dead: Vec::new(),
            later: None,
            failing: None,
            refusal: None,
            moved: false,
        }
    }

    /// Fetches from these partitions from now on.
    pub(super) fn want(&mut self, partitions: BTreeSet<i32>) {
        self.wanted = partitions;
    }

    /// Whether it has nothing to fetch, to say and to give any more.
    pub(super) fn over(&self) -> bool {
        let given = self.batch.is_empty() && self.dead.is_empty();
        self.wanted.is_empty() && self.waiting.is_none() && self.acks.is_empty() && given
    }

    /// When it has something to do; `None` when something else wakes it.
    pub(super) fn due(&self) -> Option<Instant> {
        self.later.into_iter().chain(self.overdue).min()
    }

    /// Does what can be done without waiting: connects, sends the next request, reads what is here.
    pub(super) fn progress(
        &mut self,
        identity: &ShareIdentity,
        options: &ShareOptions,
        incidents: &Incidents,
    ) -> Result<(), DriverError> {
        if self.later.is_some_and(|at| at > Instant::now()) {
            return Ok(());
        }
        self.later = None;
        if let Some(error) = self.refusal.take() {
            return self.lose(identity, incidents, error);
        }
        match self.exchange(identity, options, incidents).and_then(|()| self.in_time(identity)) {
            Ok(()) => Ok(()),
            Err(error @ (DriverError::Lost { .. } | DriverError::Connect { .. } | DriverError::Timeout { .. })) => {
                self.lose(identity, incidents, error)
            }
            Err(error) => Err(error),
        }
    }

    /// Whether the answer that is waited for may still come.
    fn in_time(&self, identity: &ShareIdentity) -> Result<(), DriverError> {
        if self.overdue.is_none_or(|at| at > Instant::now()) {
            return Ok(());
        }
        Err(DriverError::Timeout {
            action: "wait for the broker's answer to a fetch".into(),
            url: identity.access.url.clone(),
            seconds: identity.access.timeout.as_secs_f64(),
        })
    }

    fn exchange(
        &mut self,
        identity: &ShareIdentity,
        options: &ShareOptions,
        incidents: &Incidents,
    ) -> Result<(), DriverError> {
        if matches!(self.link, ShareLink::Closed) && !self.wanted.is_empty() {
            let (address, access) = (self.address.clone(), identity.access.clone());
            self.link =
                ShareLink::Connecting(tokio::spawn(async move { BrokerConnection::open(&address, &access).await }));
        }
        loop {
            let ShareLink::Open(connection) = &mut self.link else { return Ok(()) };
            connection.write()?;
            let Some(frame) = connection.read()? else { break };
            let at = connection.at;
            self.failing = None;
            self.answered(frame, at, identity, incidents)?;
        }
        self.send(identity, options)
    }

    /// Takes the answer to the request that was under way.
    fn answered(
        &mut self,
        frame: Bytes,
        at: Nanos,
        identity: &ShareIdentity,
        incidents: &Incidents,
    ) -> Result<(), DriverError> {
        let access = &identity.access;
        self.overdue = None;
        match self.waiting.take() {
            Some(ShareRequest::Fetch) => {
                let answer = access.decode::<ShareFetchRequest>(frame, SHARE)?;
                self.at = at;
                self.epoch_after(answer.error_code, answer.error_message.as_ref(), identity, incidents)?;
                self.fetched(answer.responses.into_iter().flat_map(|t| t.partitions), identity, incidents)
            }
            Some(ShareRequest::Acknowledge) => {
                let answer = access.decode::<ShareAcknowledgeRequest>(frame, SHARE)?;
                self.epoch_after(answer.error_code, answer.error_message.as_ref(), identity, incidents)?;
                let partitions = answer.responses.into_iter().flat_map(|t| t.partitions);
                let all: Vec<(i32, i16, Option<StrBytes>)> =
                    partitions.map(|p| (p.partition_index, p.error_code, p.error_message)).collect();
                self.acknowledged(&all, incidents);
                Ok(())
            }
            None => Err(access.lost("the broker answered what was not asked")),
        }
    }

    /// Sends the next request, where one is due and none is under way.
    fn send(&mut self, identity: &ShareIdentity, options: &ShareOptions) -> Result<(), DriverError> {
        if self.waiting.is_some() || self.later.is_some() {
            return Ok(());
        }
        let fetch = self.batch.is_empty() && (!self.wanted.is_empty() || !self.known.is_empty());
        if !fetch && self.acks.is_empty() {
            return Ok(());
        }
        let acks = if self.epoch == OPENS { BTreeMap::new() } else { self.acks.take() };
        self.dying_sent.append(&mut self.dying);
        let group = Some(GroupId(StrBytes::from_string(identity.group.clone())));
        let member = Some(StrBytes::from_string(identity.member.clone()));
        let ShareLink::Open(connection) = &mut self.link else { return Ok(()) };
        if fetch {
            let mut acks = acks;
            let mut partitions: Vec<FetchPartition> = Vec::new();
            let new: Vec<i32> = self.wanted.difference(&self.known).copied().collect();
            for partition in new {
                let runs = acks.remove(&partition).unwrap_or_default();
                partitions.push(fetch_partition(partition, runs));
            }
            partitions.extend(acks.into_iter().map(|(partition, runs)| fetch_partition(partition, runs)));
            let gone: Vec<i32> = self.known.difference(&self.wanted).copied().collect();
            let topic = |partitions: Vec<FetchPartition>| {
                FetchTopic::default().with_topic_id(identity.topic_id).with_partitions(partitions)
            };
            let forgotten = ForgottenTopic::default().with_topic_id(identity.topic_id).with_partitions(gone.clone());
            let batch = options.batch as i32;
            let request = ShareFetchRequest::default()
                .with_group_id(group)
                .with_member_id(member)
                .with_share_session_epoch(self.epoch)
                .with_max_wait_ms((options.fetch_wait.0 / 1_000_000) as i32)
                .with_min_bytes(1)
                .with_max_bytes(MAX_BYTES)
                .with_max_records(batch)
                .with_batch_size(batch)
                .with_topics(if partitions.is_empty() { Vec::new() } else { vec![topic(partitions)] })
                .with_forgotten_topics_data(if gone.is_empty() { Vec::new() } else { vec![forgotten] });
            connection.enqueue(&request, SHARE)?;
            self.known = self.wanted.clone();
            self.waiting = Some(ShareRequest::Fetch);
        } else {
            connection.enqueue(&acknowledgement(identity, self.epoch, acks), SHARE)?;
            self.waiting = Some(ShareRequest::Acknowledge);
        }
        self.overdue = Some(Instant::now() + options.fetch_wait.duration() + identity.access.timeout);
        connection.write()
    }

    /// What the session is after an answer.
    fn epoch_after(
        &mut self,
        code: i16,
        words: Option<&StrBytes>,
        identity: &ShareIdentity,
        incidents: &Incidents,
    ) -> Result<(), DriverError> {
        if code == 0 {
            self.epoch = if self.epoch == i32::MAX { 1 } else { self.epoch + 1 };
            return Ok(());
        }
        let words = words_of(code, words);
        if SESSION.contains(&code) {
            incidents.note(Incident::Client, format!("a share session begins anew: {words}"));
            self.begin_anew(incidents);
            self.later = Some(Instant::now() + RETRY);
            return Ok(());
        }
        Err(identity.access.refused("fetch as a member of a share group", words, "check the user's rights"))
    }

    fn fetched(
        &mut self,
        partitions: impl Iterator<Item = PartitionData>,
        identity: &ShareIdentity,
        incidents: &Incidents,
    ) -> Result<(), DriverError> {
        let mut acknowledged = Vec::new();
        for p in partitions {
            let partition = p.partition_index;
            acknowledged.push((partition, p.acknowledge_error_code, p.acknowledge_error_message.clone()));
            if p.error_code != 0 {
                let words = words_of(p.error_code, p.error_message.as_ref());
                if MOVED.contains(&p.error_code) {
                    self.moved = true;
                    self.known.remove(&partition);
                } else {
                    incidents.note(Incident::Server, format!("a fetch from partition {partition} failed: {words}"));
                }
                self.later = Some(Instant::now() + RETRY);
            }
            self.acquired(p).map_err(|words| identity.access.lost(format!("partition {partition}: {words}")))?;
        }
        self.acknowledged(&acknowledged, incidents);
        Ok(())
    }

    /// Takes the records of a partition that are locked for this member. What is locked and has no
    /// record is said to be a gap.
    fn acquired(&mut self, p: PartitionData) -> Result<(), String> {
        if p.acquired_records.is_empty() {
            return Ok(());
        }
        let mut ranges = p.acquired_records;
        ranges.sort_unstable_by_key(|r| r.first_offset);
        let (mut at, mut next) = (0, ranges[0].first_offset);
        let (batch, acks, partition) = (&mut self.batch, &mut self.acks, p.partition_index);
        each_record(p.records.unwrap_or_default(), |offset, payload| {
            while at < ranges.len() && offset > ranges[at].last_offset {
                (next..=ranges[at].last_offset).for_each(|gap| acks.say(partition, gap, ShareAck::Gap));
                at += 1;
                next = ranges.get(at).map_or(next, |r| r.first_offset);
            }
            let Some(range) = ranges.get(at).filter(|r| offset >= r.first_offset) else { return };
            (next..offset).for_each(|gap| acks.say(partition, gap, ShareAck::Gap));
            next = offset + 1;
            let attempt = u32::try_from(range.delivery_count).unwrap_or(0);
            batch.push_back(ShareRecord { partition, offset, attempt, payload });
        })?;
        for range in ranges.iter().skip(at) {
            let from = next.max(range.first_offset);
            (from..=range.last_offset).for_each(|gap| acks.say(partition, gap, ShareAck::Gap));
        }
        Ok(())
    }

    /// What the broker says of the acknowledgements that were sent: partition, error and words.
    fn acknowledged(&mut self, partitions: &[(i32, i16, Option<StrBytes>)], incidents: &Incidents) {
        for record in std::mem::take(&mut self.dying_sent) {
            let refused = partitions.iter().any(|(p, code, _)| *p == record.partition && *code != 0);
            if !refused {
                self.dead.push(record);
            }
        }
        for (partition, code, words) in partitions.iter().filter(|(_, code, _)| *code != 0) {
            let words = words_of(*code, words.as_ref());
            let words = format!("acknowledgements of partition {partition} were refused: {words}");
            incidents.note(Incident::Unacknowledged, words);
        }
    }

    fn begin_anew(&mut self, incidents: &Incidents) {
        let unsaid = self.acks.count();
        if unsaid > 0 {
            let words = format!("{unsaid} acknowledgements were lost with their session; the messages come again");
            incidents.note(Incident::Unacknowledged, words);
        }
        drop(self.acks.take());
        self.epoch = OPENS;
        self.id.begun += 1;
        self.known.clear();
        (self.waiting, self.overdue) = (None, None);
        // Not locked for this member any more.
        self.batch.clear();
        self.dying.clear();
        self.dying_sent.clear();
    }

    /// The connection is gone: another is tried until the bound is over.
    fn lose(&mut self, identity: &ShareIdentity, incidents: &Incidents, error: DriverError) -> Result<(), DriverError> {
        if matches!(self.link, ShareLink::Open(_)) {
            incidents.disconnected(error.to_string());
        }
        self.link = ShareLink::Closed;
        self.begin_anew(incidents);
        self.moved = true;
        let since = *self.failing.get_or_insert_with(Instant::now);
        if since.elapsed() > identity.access.timeout {
            return Err(error);
        }
        self.later = Some(Instant::now() + RETRY);
        Ok(())
    }

    /// Ready when `progress` has something to do.
    pub(super) fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        match &mut self.link {
            ShareLink::Closed => Poll::Pending,
            ShareLink::Open(connection) => connection.poll_ready(cx),
            ShareLink::Connecting(task) => {
                let done = ready!(Pin::new(task).poll(cx));
                self.link = match done {
                    Ok(Ok(connection)) => ShareLink::Open(connection),
                    Ok(Err(error)) => {
                        self.refusal = Some(error);
                        ShareLink::Closed
                    }
                    // Its runtime ends.
                    Err(_) => ShareLink::Closed,
                };
                Poll::Ready(())
            }
        }
    }

    /// Says what is still to be said, and ends the session. It may be called on another runtime.
    pub(super) async fn close(mut self, identity: &ShareIdentity) -> Result<(), DriverError> {
        let ShareLink::Open(connection) = std::mem::replace(&mut self.link, ShareLink::Closed) else { return Ok(()) };
        if self.acks.is_empty() {
            // The broker ends a session with its connection.
            return Ok(());
        }
        let mut connection = connection.moved()?;
        while self.waiting.is_some() {
            connection.write()?;
            match connection.read()? {
                Some(_) => {
                    self.waiting = None;
                    self.epoch += 1;
                }
                None => std::future::poll_fn(|cx| connection.poll_ready(cx)).await,
            }
        }
        connection.call(&acknowledgement(identity, CLOSES, self.acks.take()), SHARE).await.map(drop)
    }
}
