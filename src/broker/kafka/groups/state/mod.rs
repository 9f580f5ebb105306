//! One consumer group of the classic protocol, as a state machine: no clock, no socket, no lock.
//!
//! Every call is given the time and returns answers for the waiting requests (`W` identifies a
//! waiter). A group is empty, then members join until all have (preparing), then the leader's
//! assignment is waited for (completing), then it is stable until somebody joins, leaves, or is not
//! heard of for its session timeout.

mod joining;
mod messages;
mod rebalance;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::super::code;
pub(crate) use messages::{GroupReply, JoinReply, JoinRequest, MemberIdentity, SyncReply};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum GroupState {
    Empty,
    Preparing,
    Completing,
    Stable,
}

impl GroupState {
    /// Its name in the protocol.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Empty => "Empty",
            Self::Preparing => "PreparingRebalance",
            Self::Completing => "CompletingRebalance",
            Self::Stable => "Stable",
        }
    }
}

pub(crate) struct GroupMember<W> {
    pub(crate) instance: Option<String>,
    pub(crate) client: String,
    pub(crate) host: String,
    session: Duration,
    rebalance: Duration,
    pub(crate) protocols: Vec<(String, Bytes)>,
    pub(crate) assignment: Bytes,
    expires: Instant,
    joining: Option<W>,
    syncing: Option<W>,
}

pub(crate) struct Group<W> {
    pub(crate) state: GroupState,
    generation: i32,
    pub(crate) protocol_type: Option<String>,
    pub(crate) protocol: Option<String>,
    leader: Option<String>,
    pub(crate) members: BTreeMap<String, GroupMember<W>>,
    /// Ids given out and not yet come back, and until when.
    promised: BTreeMap<String, Instant>,
    /// When a rebalance goes on without those who have not come.
    deadline: Option<Instant>,
    /// Whether the deadline is the first rebalance's delay, which all wait for.
    delaying: bool,
    delay: Duration,
    max_members: usize,
    pub(crate) rebalances: u64,
}

type GroupReplies<W> = Vec<(W, GroupReply)>;

impl<W> Group<W> {
    pub(crate) fn new(delay: Duration, max_members: usize) -> Self {
        Self {
            state: GroupState::Empty,
            generation: 0,
            protocol_type: None,
            protocol: None,
            leader: None,
            members: BTreeMap::new(),
            promised: BTreeMap::new(),
            deadline: None,
            delaying: false,
            delay,
            max_members,
            rebalances: 0,
        }
    }

    /// Whether nothing of it is worth keeping.
    pub(crate) fn is_idle(&self) -> bool {
        self.members.is_empty() && self.promised.is_empty()
    }

    fn holder(&self, instance: Option<&str>) -> Option<String> {
        let instance = instance?;
        self.members.iter().find(|(_, m)| m.instance.as_deref() == Some(instance)).map(|(id, _)| id.clone())
    }

    /// Whether `who` is a member of this generation.
    pub(crate) fn check(&self, who: MemberIdentity<'_>) -> Result<(), i16> {
        if let Some(holder) = self.holder(who.instance)
            && holder != who.member
        {
            return Err(code::FENCED_INSTANCE_ID);
        }
        if !self.members.contains_key(who.member) {
            return Err(code::UNKNOWN_MEMBER_ID);
        }
        if who.generation == self.generation { Ok(()) } else { Err(code::ILLEGAL_GENERATION) }
    }

    /// Takes a heartbeat.
    pub(crate) fn heartbeat(&mut self, who: MemberIdentity<'_>, now: Instant) -> i16 {
        if self.promised.contains_key(who.member) {
            return code::UNKNOWN_MEMBER_ID;
        }
        if let Err(code) = self.check(who) {
            return code;
        }
        if let Some(member) = self.members.get_mut(who.member) {
            member.expires = now + member.session;
        }
        if self.state == GroupState::Preparing { code::REBALANCE_IN_PROGRESS } else { code::NONE }
    }

    /// Whether `who` may commit offsets. Who is no member may do so while the group is empty.
    pub(crate) fn may_commit(&mut self, who: MemberIdentity<'_>, now: Instant) -> Result<(), i16> {
        if who.generation < 0 && self.members.is_empty() {
            return Ok(());
        }
        if who.generation < 0 && who.member.is_empty() {
            return Err(code::UNKNOWN_MEMBER_ID);
        }
        self.check(who)?;
        if let Some(member) = self.members.get_mut(who.member) {
            member.expires = now + member.session;
        }
        if self.state == GroupState::Completing { Err(code::REBALANCE_IN_PROGRESS) } else { Ok(()) }
    }

    /// Lets a member go, by id or by instance.
    pub(crate) fn leave(
        &mut self,
        member: &str,
        instance: Option<&str>,
        now: Instant,
        out: &mut GroupReplies<W>,
    ) -> i16 {
        let id = match self.holder(instance) {
            Some(holder) if member.is_empty() || holder == member => holder,
            Some(_) => return code::FENCED_INSTANCE_ID,
            None if instance.is_some() => return code::UNKNOWN_MEMBER_ID,
            None => member.to_owned(),
        };
        if self.promised.remove(&id).is_some() {
            self.complete_if_all(out, now);
            return code::NONE;
        }
        if !self.members.contains_key(&id) {
            return code::UNKNOWN_MEMBER_ID;
        }
        self.remove(&id, now, out);
        code::NONE
    }

    fn remove(&mut self, id: &str, now: Instant, out: &mut GroupReplies<W>) {
        let Some(member) = self.members.remove(id) else { return };
        let joined = member.joining.map(|w| (w, GroupReply::Join(JoinReply::refused(code::UNKNOWN_MEMBER_ID, id))));
        let synced = member.syncing.map(|w| (w, GroupReply::Sync(SyncReply::refused(code::UNKNOWN_MEMBER_ID))));
        out.extend(joined.into_iter().chain(synced));
        if self.leader.as_deref() == Some(id) {
            self.leader = None;
        }
        if self.state != GroupState::Preparing {
            self.prepare(now, out);
        }
        if self.members.is_empty() && self.promised.is_empty() {
            self.complete(now, out);
        } else {
            self.complete_if_all(out, now);
        }
    }

    /// When [`tick`](Self::tick) has something to do.
    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        let sessions = self.members.values().filter(|m| m.joining.is_none() && m.syncing.is_none()).map(|m| m.expires);
        sessions.chain(self.promised.values().copied()).chain(self.deadline).min()
    }

    /// Does what is due: removes members whose session timed out, ends waits whose deadline passed.
    pub(crate) fn tick(&mut self, now: Instant, out: &mut GroupReplies<W>) {
        self.promised.retain(|_, until| *until > now);
        let silent = |m: &GroupMember<W>| m.joining.is_none() && m.syncing.is_none() && m.expires <= now;
        let gone: Vec<String> = self.members.iter().filter(|(_, m)| silent(m)).map(|(id, _)| id.clone()).collect();
        gone.iter().for_each(|id| self.remove(id, now, out));
        if self.deadline.is_some_and(|deadline| deadline <= now) {
            match self.state {
                GroupState::Preparing => {
                    self.delaying = false;
                    self.complete(now, out);
                }
                // The leader, or others, have not synced in time: the group starts over without
                // them.
                GroupState::Completing => {
                    let late: Vec<String> =
                        self.members.iter().filter(|(_, m)| m.syncing.is_none()).map(|(id, _)| id.clone()).collect();
                    late.iter().for_each(|id| self.remove(id, now, out));
                }
                GroupState::Empty | GroupState::Stable => self.deadline = None,
            }
        }
        self.complete_if_all(out, now);
    }
}
