//! Share groups (KIP-932): consumers that take messages of the same partitions in turn and say of
//! each what became of it.
//!
//! # Background
//! librdkafka has no share groups. This is a client in Kafka's own protocol for that alone, in the
//! spirit of the bare NATS client of `wire`; producers, topics and everything else stay
//! librdkafka's.
//! # Design
//! A member is a task with heartbeats (`member`), and a share session for each broker that leads
//! partitions of it (`session`). Sessions are driven by `receive` alone: nothing is read, decoded
//! or acknowledged anywhere else, and no message crosses a thread or a channel. Each fetch carries
//! the acknowledgements of what the one before it brought. Records are slices of the response.
//!
//! Where a group starts is set before it has members, as with consumer groups. A message that was
//! delivered as often as the group allows is archived by the broker; since Kafka 4.4 it also writes
//! it to a dead-letter topic of the group (KIP-1191), which the first member of the group reads.
//! Before, a message counts as a dead letter when the broker has taken its last rejection.
//! # Scope
//! No TLS and no SASL but PLAIN; no answers to requests.

mod acks;
mod admin;
mod connection;
mod member;
mod options;
mod records;
mod requests;
mod session;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet, VecDeque};

pub(super) use admin::{ShareAdmin, ShareGroupSpec};
pub(super) use connection::{BrokerAccess, BrokerConnection, hello, words_of};
pub(super) use member::ShareIdentity;
pub(super) use options::ShareOptions;
pub(super) use records::{decompressed, each_record};

use self::acks::ShareAck;
use self::member::{ShareLayout, ShareMember};
use self::options::RejectedMessages;
use self::session::{SessionId, ShareRecord, ShareSession};
use super::native::QueueSignal;
use super::reader::BatchReader;
use crate::driver::{Disposition, DriverError, Incidents, Incoming, MessageSink};

/// Bound on a member saying that it leaves.
const LEAVE: std::time::Duration = std::time::Duration::from_secs(2);

/// A member of a share group.
#[derive(Debug)]
pub struct ShareConsumer {
    member: ShareMember,
    /// One for each broker that leads partitions of it; and how many there have been.
    sessions: Vec<ShareSession>,
    begun: u64,
    options: ShareOptions,
    /// A message is archived after so many deliveries.
    limit: u32,
    /// Reads the dead-letter topic of the group.
    dead: Option<(BatchReader, QueueSignal)>,
    /// Whether dead letters are those that this member has rejected for the last time.
    counts_dead: bool,
    /// Given, and not to be acknowledged before the taker says so.
    held: VecDeque<HeldMessage>,
    incidents: Incidents,
    /// Whether nothing is said at the end.
    silent: bool,
}

/// A message that is on hold: the session it is locked in, its partition and offset.
type HeldMessage = (SessionId, i32, i64);

/// What the members of a group have in common.
pub(super) struct ShareParts {
    pub(super) options: ShareOptions,
    pub(super) limit: u32,
    pub(super) dead: Option<(BatchReader, QueueSignal)>,
    pub(super) counts_dead: bool,
    pub(super) incidents: Incidents,
}

impl ShareConsumer {
    /// Joins a group and waits until something is assigned.
    pub(super) async fn join(identity: ShareIdentity, parts: ShareParts) -> Result<Self, DriverError> {
        let mut member = ShareMember::join(identity, &parts.incidents);
        member.assigned().await?;
        // What it was told so far is news to it.
        member.layout.mark_changed();
        let ShareParts { options, limit, dead, counts_dead, incidents } = parts;
        let (sessions, held) = (Vec::new(), VecDeque::new());
        Ok(Self { member, sessions, begun: 0, options, limit, dead, counts_dead, held, incidents, silent: false })
    }

    /// Takes what has changed of the assignment.
    fn follow(&mut self) -> Result<(), DriverError> {
        // The task that tells it may have ended.
        let ended = self.member.layout.has_changed().is_err();
        if ended || self.member.layout.has_changed().unwrap_or(true) {
            let layout = self.member.layout.borrow_and_update().clone();
            let ShareLayout { partitions, failed } = layout;
            if let Some(words) = failed.or_else(|| ended.then(|| "its heartbeats ended".into())) {
                return Err(self.member.identity.access.lost(words));
            }
            let mut by_address: BTreeMap<String, BTreeSet<i32>> = BTreeMap::new();
            for (partition, address) in partitions {
                by_address.entry(address).or_default().insert(partition);
            }
            for session in &mut self.sessions {
                session.want(by_address.remove(&session.address).unwrap_or_default());
            }
            for (address, wanted) in by_address {
                self.begun += 1;
                let mut session = ShareSession::new(&address, self.begun);
                session.want(wanted);
                self.sessions.push(session);
            }
        }
        // What is on hold is locked as long as its session lasts.
        let held = &self.held;
        self.sessions.retain(|session| !session.over() || held.iter().any(|(id, ..)| *id == session.id));
        Ok(())
    }

    /// Gives what was fetched to the sink, up to the limit; how many messages it was.
    fn give(&mut self, sink: &mut impl MessageSink, limit: usize) -> Result<usize, DriverError> {
        let mut given = 0;
        for session in &mut self.sessions {
            session.progress(&self.member.identity, &self.options, &self.incidents)?;
            while given < limit
                && let Some(record) = session.batch.pop_front()
            {
                given += 1;
                let ShareRecord { partition, offset, attempt, .. } = record;
                let taken = sink.take(Incoming { payload: &record.payload, at: session.at, attempt });
                match taken {
                    Disposition::Accept | Disposition::Answer => session.acks.say(partition, offset, ShareAck::Accept),
                    Disposition::Leave => {}
                    Disposition::Hold => self.held.push_back((session.id, partition, offset)),
                    Disposition::Reject => {
                        let at_once = self.options.rejected == RejectedMessages::Reject;
                        let ack = if at_once { ShareAck::Reject } else { ShareAck::Release };
                        session.acks.say(partition, offset, ack);
                        if self.counts_dead && (at_once || self.limit > 0 && attempt >= self.limit) {
                            session.dying.push(record);
                        }
                    }
                }
            }
            for record in session.dead.drain(..) {
                given += 1;
                sink.dead_letter(Incoming { payload: &record.payload, at: session.at, attempt: record.attempt });
            }
            // What was said leaves at once, with the next fetch.
            session.progress(&self.member.identity, &self.options, &self.incidents)?;
            if std::mem::take(&mut session.moved) {
                self.member.look_again();
            }
        }
        Ok(given)
    }

    /// Gives the dead letters that are here to the sink; how many there were.
    fn give_dead(&mut self, sink: &mut impl MessageSink) -> Result<usize, DriverError> {
        let Some((reader, _)) = &mut self.dead else { return Ok(0) };
        let mut given = 0;
        while reader.fill()? {
            let at = reader.at();
            while let Some(message) = reader.next() {
                given += 1;
                sink.dead_letter(Incoming { payload: message.payload(), at, attempt: self.limit });
            }
        }
        Ok(given)
    }

    /// Waits until something may have happened.
    async fn wait(&mut self) -> Result<(), DriverError> {
        let Self { member, sessions, dead, .. } = self;
        let due = sessions.iter().filter_map(ShareSession::due).min();
        let timer = async {
            match due {
                Some(due) => tokio::time::sleep_until(due.into()).await,
                None => std::future::pending().await,
            }
        };
        let ready =
            std::future::poll_fn(|cx| match sessions.iter_mut().any(|session| session.poll_ready(cx).is_ready()) {
                true => std::task::Poll::Ready(()),
                false => std::task::Poll::Pending,
            });
        let dead = async {
            match dead {
                Some((_, signal)) => signal.wait().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = ready => Ok(()),
            changed = member.layout.changed() => {
                // Left as changed for `follow`, which also sees that there will be no more.
                if changed.is_ok() {
                    member.layout.mark_changed();
                }
                Ok(())
            }
            rung = dead => rung.map_err(|e| member.identity.access.lost(e.to_string())),
            () = timer => Ok(()),
        }
    }

    pub(super) async fn receive(&mut self, sink: &mut impl MessageSink, limit: usize) -> Result<(), DriverError> {
        loop {
            self.follow()?;
            let given = self.give(sink, limit)? + self.give_dead(sink)?;
            if given > 0 {
                return Ok(());
            }
            self.wait().await?;
        }
    }

    /// Says nothing at its end.
    pub(super) fn silence(&mut self) {
        self.silent = true;
    }

    /// Accepts the oldest of the messages that are on hold. What was locked in a session that is
    /// lost comes again, and is accepted then.
    pub(super) fn settle(&mut self, messages: usize) {
        for _ in 0..messages {
            let Some((id, partition, offset)) = self.held.pop_front() else { break };
            if let Some(session) = self.sessions.iter_mut().find(|s| s.id == id) {
                session.acks.say(partition, offset, ShareAck::Accept);
            }
        }
    }
}

impl Drop for ShareConsumer {
    fn drop(&mut self) {
        if self.silent {
            return;
        }
        let (identity, sessions) = (self.member.identity.clone(), std::mem::take(&mut self.sessions));
        // The runtime of this thread may not run again: what is still to be said is said on
        // another.
        let ending = std::thread::spawn(move || {
            let Ok(runtime) = tokio::runtime::Builder::new_current_thread().enable_all().build() else { return };
            let goodbye = async {
                for session in sessions {
                    // A broker that is gone is not told.
                    let _ = session.close(&identity).await;
                }
                let _ = identity.leave().await;
            };
            // Late is as good as never: the session of the member ends by itself.
            let _ = runtime.block_on(async { tokio::time::timeout(LEAVE, goodbye).await });
        });
        let _ = ending.join();
    }
}
