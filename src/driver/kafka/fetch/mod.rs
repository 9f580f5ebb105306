//! A consumer in Kafka's own protocol, without librdkafka.
//!
//! # Background
//! librdkafka's consumer copies each message out of its batch and hands it from a thread of its own
//! to the thread of the load; a bare client takes four times as much from the same broker
//! (docs/performance.md). With `consumers = "wire"` the broker is the limit, or msgbench's books.
//! # Design
//! One connection to each broker that leads partitions of the consumer (`link`), driven by
//! `receive` alone: nothing is read or decoded anywhere else, and no message crosses a thread or a
//! channel. An answer is read into one buffer, its batches are walked for the next offset, the next
//! fetch leaves, and then the messages are given where they are, slices of the buffer (`batches`).
//! An arrival is stamped when the read returns that completes the answer. Sizes and waits of a
//! fetch are what librdkafka would have with the same options (`rules`). A leader that changes is
//! looked up by a task; what was fetched before is still given, each message once.
//! # Scope
//! Groups of one member, which reads all partitions without the group protocol, and whose offsets
//! are committed as tools do it (`commits`). No TLS and no SASL but PLAIN; no answers to requests
//! and no rejected messages. Fetches have no session: each names its partitions.

mod batches;
mod commits;
mod link;
mod rules;

use std::collections::{BTreeMap, VecDeque};
use std::future::Future;
use std::pin::Pin;
use std::task::Poll;
use std::time::{Duration, Instant};

use kafka_protocol::messages::TopicName;
use tokio::task::JoinHandle;
use uuid::Uuid;

use self::commits::OffsetCommitter;
use self::link::{FetchLink, ReadLane, ReadLanes};
pub(super) use self::rules::FetchRules;
use super::share::{BrokerAccess, ShareIdentity};
use crate::driver::{DriverError, Incidents, Incoming, MessageSink};

/// Bound on the last commit.
const LAST: Duration = Duration::from_secs(2);

pub(super) type OffsetByPartition = BTreeMap<i32, i64>;

type LeaderSearch = JoinHandle<Result<(Uuid, BTreeMap<i32, String>), DriverError>>;

/// What is read, and how.
#[derive(Debug, Clone)]
pub(super) struct FetchSource {
    pub(super) access: BrokerAccess,
    /// Brokers to begin with, `host:port`.
    pub(super) servers: Vec<String>,
    pub(super) group: String,
    pub(super) topic: TopicName,
    pub(super) topic_id: Uuid,
    pub(super) rules: FetchRules,
}

/// See the module.
#[derive(Debug)]
pub struct ProtocolConsumer {
    source: FetchSource,
    lanes: ReadLanes,
    /// One for each leader. The first one is asked first: they take turns.
    links: VecDeque<FetchLink>,
    committer: OffsetCommitter,
    search: Option<LeaderSearch>,
    /// When the leaders are looked up again, and since when that is needed.
    look: Option<Instant>,
    unled: Option<Instant>,
    incidents: Incidents,
}

impl ProtocolConsumer {
    /// Reads partitions from these offsets on, or from where its group has committed when it is
    /// `again` there. Connected when it returns.
    pub(super) async fn open(
        mut source: FetchSource,
        mut from: OffsetByPartition,
        again: bool,
        incidents: &Incidents,
    ) -> Result<Self, DriverError> {
        if again {
            from.extend(commits::committed(&source).await?);
        }
        let (topic_id, leaders) = leaders(source.clone()).await?;
        source.topic_id = topic_id;
        let committer = OffsetCommitter::new(&source.rules, from.clone());
        let mut it = Self {
            source,
            lanes: from.into_iter().map(|(partition, offset)| (partition, ReadLane::new(offset))).collect(),
            links: VecDeque::new(),
            committer,
            search: None,
            look: None,
            unled: None,
            incidents: incidents.clone(),
        };
        it.spread(&leaders);
        for link in &mut it.links {
            link.connect(&it.source).await?;
        }
        Ok(it)
    }

    /// Has each partition fetched from its leader; whether every one has one.
    fn spread(&mut self, leaders: &BTreeMap<i32, String>) -> bool {
        for link in &mut self.links {
            link.partitions.retain(|p| leaders.get(p) == Some(&link.address));
        }
        let mut all = true;
        for partition in self.lanes.keys().copied() {
            let Some(address) = leaders.get(&partition) else {
                all = false;
                continue;
            };
            let link = match self.links.iter().position(|link| link.address == *address) {
                Some(known) => &mut self.links[known],
                None => {
                    self.links.push_front(FetchLink::new(address));
                    &mut self.links[0]
                }
            };
            if !link.partitions.contains(&partition) {
                link.partitions.push_back(partition);
            }
        }
        self.links.retain(|link| !link.over());
        all
    }

    /// Follows partitions that are led by another broker.
    fn follow(&mut self) {
        let mut moved = false;
        for link in &mut self.links {
            moved |= std::mem::take(&mut link.moved);
        }
        if moved && self.look.is_none() && self.search.is_none() {
            self.look = Some(Instant::now() + self.source.rules.retry);
            self.unled.get_or_insert_with(Instant::now);
        }
        if self.search.is_none() && self.look.is_some_and(|at| at <= Instant::now()) {
            self.look = None;
            let mut source = self.source.clone();
            // Any broker may know it; those that lead something are likely to be there.
            source.servers.extend(self.links.iter().map(|link| link.address.clone()));
            self.search = Some(tokio::spawn(leaders(source)));
        }
    }

    /// Takes what a search for leaders has found.
    fn found(&mut self, found: Result<(Uuid, BTreeMap<i32, String>), DriverError>) -> Result<(), DriverError> {
        let error = match found {
            Ok((_, leaders)) if self.spread(&leaders) => {
                self.unled = None;
                return Ok(());
            }
            Ok(_) => self.source.access.lost("a partition has no leader"),
            Err(error) => error,
        };
        let since = *self.unled.get_or_insert_with(Instant::now);
        if since.elapsed() > self.source.access.timeout {
            return Err(error);
        }
        self.look = Some(Instant::now() + self.source.rules.retry);
        Ok(())
    }

    /// Gives what was fetched to the sink, up to the limit; how many messages it was.
    fn give(&mut self, sink: &mut impl MessageSink, limit: usize) -> Result<usize, DriverError> {
        let Self { source, lanes, links, incidents, .. } = self;
        let mut given = 0;
        for link in links.iter_mut() {
            link.progress(source, lanes, incidents)?;
            while given < limit
                && let Some(records) = link.fetched.front_mut()
            {
                let (at, room) = (records.at, limit - given);
                let taken = records.give(room, source.rules.checks, |payload| {
                    // Offsets are committed, whatever the sink says.
                    let _ = sink.take(Incoming { payload, at, attempt: 0 });
                });
                let partition = records.partition;
                let taken = taken.map_err(|words| source.access.lost(format!("partition {partition}: {words}")))?;
                given += taken;
                if let Some(lane) = lanes.get_mut(&partition) {
                    lane.given = records.next;
                }
                if taken < room {
                    link.fetched.pop_front();
                }
            }
            if given >= limit {
                break;
            }
        }
        if given > 0 {
            links.rotate_left(1);
        }
        Ok(given)
    }

    fn given(&self) -> OffsetByPartition {
        self.lanes.iter().map(|(partition, lane)| (*partition, lane.given)).collect()
    }

    /// Begins a commit where one is due.
    fn commit_due(&mut self, batch: bool) {
        let Self { committer, source, lanes, .. } = self;
        committer.look(source, &source.rules, batch, || lanes.iter().map(|(p, lane)| (*p, lane.given)).collect());
    }

    /// Waits until something may have happened.
    async fn wait(&mut self) -> Result<(), DriverError> {
        let Self { source, links, committer, search, look, incidents, .. } = self;
        let due = links.iter().filter_map(|link| link.due(source)).chain(*look).chain(committer.due()).min();
        let timer = async {
            match due {
                Some(due) => tokio::time::sleep_until(due.into()).await,
                None => std::future::pending().await,
            }
        };
        let mut found = None;
        let ready = std::future::poll_fn(|cx| {
            let mut ready = committer.poll(cx, incidents).is_ready();
            if let Some(task) = search
                && let Poll::Ready(done) = Pin::new(task).poll(cx)
            {
                *search = None;
                found = Some(done);
                ready = true;
            }
            for link in links.iter_mut() {
                ready |= link.poll_ready(cx).is_ready();
            }
            if ready { Poll::Ready(()) } else { Poll::Pending }
        });
        tokio::select! {
            () = ready => {}
            () = timer => {}
        }
        match found {
            Some(Ok(found)) => self.found(found),
            // Its runtime ends.
            Some(Err(_)) | None => Ok(()),
        }
    }

    pub(super) async fn receive(&mut self, sink: &mut impl MessageSink, limit: usize) -> Result<(), DriverError> {
        if self.committer.is_under_way() || self.search.is_some() || self.links.iter().any(FetchLink::is_connecting) {
            // A task has its turn, also where messages are always here.
            tokio::task::yield_now().await;
            let Self { committer, incidents, .. } = self;
            std::future::poll_fn(|cx| {
                let _ = committer.poll(cx, incidents);
                Poll::Ready(())
            })
            .await;
        }
        loop {
            self.commit_due(false);
            self.follow();
            if !self.committer.waits() && self.give(sink, limit)? > 0 {
                self.commit_due(true);
                // Cut short, it is waited for by the next call.
                while self.committer.waits() {
                    self.wait().await?;
                }
                return Ok(());
            }
            self.wait().await?;
        }
    }

    /// Says nothing at its end.
    pub(super) fn silence(&mut self) {
        self.committer.silence();
    }
}

/// The identifier of the topic, and where its partitions are led.
async fn leaders(source: FetchSource) -> Result<(Uuid, BTreeMap<i32, String>), DriverError> {
    let mut connection = ShareIdentity::any(&source.access, &source.servers).await?;
    ShareIdentity::topic(&mut connection, &source.access, source.topic.0.as_str()).await
}

impl Drop for ProtocolConsumer {
    fn drop(&mut self) {
        let Some(offsets) = self.committer.unsaid(self.given()) else { return };
        let source = self.source.clone();
        // The runtime of this thread may not run again: the last commit is made on another.
        let ending = std::thread::spawn(move || {
            let Ok(runtime) = tokio::runtime::Builder::new_current_thread().enable_all().build() else { return };
            // Late is as good as never: nobody waits for it.
            let _ =
                runtime.block_on(async { tokio::time::timeout(LAST, commits::commit(&source, None, offsets)).await });
        });
        let _ = ending.join();
    }
}
