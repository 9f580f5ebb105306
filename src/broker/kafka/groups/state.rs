//! One consumer group of the classic protocol, as a state machine: no clock, no socket, no lock.
//!
//! Every call is given the time and returns answers for whoever waits (`W` is how a waiter is known). A group is empty, then
//! members join until all have (preparing), then the leader's assignment is waited for (completing), then it is stable until somebody
//! joins, leaves, or is not heard of for its session timeout.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::super::code;

/// An answer to somebody who waits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Answer {
    Join(Joined),
    Sync(Synced),
}

/// The answer to a join.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Joined {
    pub(crate) code: i16,
    pub(crate) generation: i32,
    pub(crate) protocol_type: Option<String>,
    pub(crate) protocol: Option<String>,
    pub(crate) leader: String,
    pub(crate) member: String,
    /// For the leader: every member, its instance, its metadata.
    pub(crate) members: Vec<(String, Option<String>, Bytes)>,
    /// Whether the leader is to leave the assignment as it is.
    pub(crate) skip: bool,
}

/// The answer to a sync.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Synced {
    pub(crate) code: i16,
    pub(crate) protocol_type: Option<String>,
    pub(crate) protocol: Option<String>,
    pub(crate) assignment: Bytes,
}

impl Joined {
    pub(crate) fn refused(code: i16, member: impl Into<String>) -> Self {
        Self {
            code,
            generation: -1,
            protocol_type: None,
            protocol: None,
            leader: String::new(),
            member: member.into(),
            members: Vec::new(),
            skip: false,
        }
    }
}

impl Synced {
    pub(crate) fn refused(code: i16) -> Self {
        Self { code, protocol_type: None, protocol: None, assignment: Bytes::new() }
    }
}

/// What a member asks when it joins.
#[derive(Debug, Clone)]
pub(crate) struct Join {
    pub(crate) member: String,
    pub(crate) instance: Option<String>,
    pub(crate) client: String,
    pub(crate) host: String,
    pub(crate) session: Duration,
    pub(crate) rebalance: Duration,
    pub(crate) protocol_type: String,
    /// Names of assignment protocols, best first, and the member's metadata for each.
    pub(crate) protocols: Vec<(String, Bytes)>,
    /// Whether a member without id must come again with the one it is given.
    pub(crate) needs_id: bool,
    /// Whether the client knows what `skip` means.
    pub(crate) knows_skip: bool,
}

/// Who asks, and of which generation it believes to be.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Who<'a> {
    pub(crate) member: &'a str,
    pub(crate) instance: Option<&'a str>,
    pub(crate) generation: i32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum State {
    Empty,
    Preparing,
    Completing,
    Stable,
}

impl State {
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

pub(crate) struct Member<W> {
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

/// A group.
pub(crate) struct Group<W> {
    pub(crate) state: State,
    generation: i32,
    pub(crate) protocol_type: Option<String>,
    pub(crate) protocol: Option<String>,
    leader: Option<String>,
    pub(crate) members: BTreeMap<String, Member<W>>,
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

type Out<W> = Vec<(W, Answer)>;
/// Why a join is refused, and under which id it is to come again.
type Refused = (i16, String);

impl<W> Group<W> {
    pub(crate) fn new(delay: Duration, max_members: usize) -> Self {
        Self {
            state: State::Empty,
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

    /// Takes a join. `new_id` is used if the member has none.
    pub(crate) fn join(&mut self, join: Join, waiter: W, new_id: String, now: Instant, out: &mut Out<W>) {
        match self.admit(&join, new_id, now, out) {
            Err((code, member)) => out.push((waiter, Answer::Join(Joined::refused(code, member)))),
            Ok(None) => out.push((waiter, Answer::Join(Joined::refused(code::UNKNOWN_MEMBER_ID, join.member)))),
            Ok(Some((id, anew))) => self.join_known(&id, join, anew, waiter, now, out),
        }
    }

    /// Finds or makes the member; says under which id, and whether it is new or has changed.
    fn admit(
        &mut self,
        join: &Join,
        new_id: String,
        now: Instant,
        out: &mut Out<W>,
    ) -> Result<Option<(String, bool)>, Refused> {
        let refuse = |code| Err((code, join.member.clone()));
        let other_type = self.protocol_type.as_ref().is_some_and(|kind| *kind != join.protocol_type);
        let common = |group: &Self| {
            let others = || group.members.iter().filter(|(id, _)| **id != join.member);
            let all_have = |name: &str| others().all(|(_, m)| m.protocols.iter().any(|(n, _)| n == name));
            join.protocols.iter().any(|(name, _)| all_have(name))
        };
        if join.protocols.is_empty() || (!self.members.is_empty() && (other_type || !common(self))) {
            return refuse(code::INCONSISTENT_GROUP_PROTOCOL);
        }
        let full = self.members.len() + self.promised.len() >= self.max_members;
        let holder = self.holder(join.instance.as_deref());
        if join.member.is_empty() {
            return match holder {
                Some(old) => Ok(Some(self.replace(&old, join, new_id, now, out))),
                None if full => refuse(code::GROUP_MAX_SIZE_REACHED),
                None if join.instance.is_none() && join.needs_id => {
                    self.promised.insert(new_id.clone(), now + join.session);
                    Err((code::MEMBER_ID_REQUIRED, new_id))
                }
                None => {
                    self.add(&new_id, join, now);
                    Ok(Some((new_id, true)))
                }
            };
        }
        if holder.is_some_and(|holder| holder != join.member) {
            return refuse(code::FENCED_INSTANCE_ID);
        }
        if self.promised.remove(&join.member).is_some() {
            self.add(&join.member, join, now);
            return Ok(Some((join.member.clone(), true)));
        }
        Ok(self.members.contains_key(&join.member).then(|| (join.member.clone(), false)))
    }

    fn holder(&self, instance: Option<&str>) -> Option<String> {
        let instance = instance?;
        self.members.iter().find(|(_, m)| m.instance.as_deref() == Some(instance)).map(|(id, _)| id.clone())
    }

    fn add(&mut self, id: &str, join: &Join, now: Instant) {
        if self.members.is_empty() {
            self.protocol_type = Some(join.protocol_type.clone());
        }
        let member = Member {
            instance: join.instance.clone(),
            client: join.client.clone(),
            host: join.host.clone(),
            session: join.session,
            rebalance: join.rebalance,
            protocols: join.protocols.clone(),
            assignment: Bytes::new(),
            expires: now + join.session,
            joining: None,
            syncing: None,
        };
        self.members.insert(id.to_owned(), member);
    }

    /// A static member that has started again takes its place under a new id; the old id is fenced.
    fn replace(&mut self, old: &str, join: &Join, id: String, now: Instant, out: &mut Out<W>) -> (String, bool) {
        let Some(mut member) = self.members.remove(old) else { return (id, true) };
        if let Some(waiter) = member.joining.take() {
            out.push((waiter, Answer::Join(Joined::refused(code::FENCED_INSTANCE_ID, old))));
        }
        if let Some(waiter) = member.syncing.take() {
            out.push((waiter, Answer::Sync(Synced::refused(code::FENCED_INSTANCE_ID))));
        }
        if self.leader.as_deref() == Some(old) {
            self.leader = Some(id.clone());
        }
        member.protocols.clone_from(&join.protocols);
        member.session = join.session;
        member.rebalance = join.rebalance;
        member.expires = now + join.session;
        member.client.clone_from(&join.client);
        member.host.clone_from(&join.host);
        self.members.insert(id.clone(), member);
        // As long as the same protocol is elected its assignment still holds.
        let changed = self.elect() != self.protocol;
        (id, changed)
    }

    fn join_known(&mut self, id: &str, join: Join, new: bool, waiter: W, now: Instant, out: &mut Out<W>) {
        let returned = join.instance.is_some() && join.member.is_empty() && !new;
        let Some(member) = self.members.get_mut(id) else { return };
        let changed = new || member.protocols != join.protocols;
        member.protocols = join.protocols;
        member.session = join.session;
        member.rebalance = join.rebalance;
        member.expires = now + join.session;
        let leads = self.leader.as_deref() == Some(id);
        match self.state {
            State::Completing if !changed => return out.push((waiter, Answer::Join(self.joined(id, false)))),
            // A static member that comes back gets the group as it is. A leader that does not know how to leave the assignment
            // alone is told of another leader: the id it had before.
            State::Stable if returned => {
                let mut joined = self.joined(id, leads && join.knows_skip);
                if leads && !join.knows_skip {
                    joined.leader = format!("{id}-before");
                    joined.members.clear();
                }
                return out.push((waiter, Answer::Join(joined)));
            }
            State::Stable if !changed && !leads => return out.push((waiter, Answer::Join(self.joined(id, false)))),
            State::Preparing => {}
            _ => self.prepare(now, out),
        }
        if let Some(member) = self.members.get_mut(id)
            && let Some(earlier) = member.joining.replace(waiter)
        {
            // Whoever asked before on another connection will not be answered otherwise.
            out.push((earlier, Answer::Join(Joined::refused(code::REBALANCE_IN_PROGRESS, id))));
        }
        self.complete_if_all(out, now);
    }

    fn prepare(&mut self, now: Instant, out: &mut Out<W>) {
        for member in self.members.values_mut() {
            member.assignment = Bytes::new();
            if let Some(waiter) = member.syncing.take() {
                member.expires = now + member.session;
                out.push((waiter, Answer::Sync(Synced::refused(code::REBALANCE_IN_PROGRESS))));
            }
        }
        self.delaying = self.state == State::Empty && !self.delay.is_zero();
        let longest = self.members.values().map(|m| m.rebalance).max().unwrap_or_default();
        self.deadline = Some(now + if self.delaying { self.delay } else { longest });
        self.state = State::Preparing;
    }

    fn complete_if_all(&mut self, out: &mut Out<W>, now: Instant) {
        let all = self.members.values().all(|m| m.joining.is_some()) && self.promised.is_empty();
        if self.state == State::Preparing && all && !self.delaying {
            self.complete(now, out);
        }
    }

    /// Ends the preparing: whoever has not come is out, unless it is static.
    fn complete(&mut self, now: Instant, out: &mut Out<W>) {
        self.members.retain(|_, m| m.joining.is_some() || m.instance.is_some());
        self.deadline = None;
        self.delaying = false;
        self.generation = self.generation.wrapping_add(1).max(1);
        self.rebalances += 1;
        if self.members.is_empty() {
            self.state = State::Empty;
            self.protocol = None;
            self.leader = None;
            return;
        }
        let leads = |id: &String| self.members.get(id).is_some_and(|m| m.joining.is_some());
        if !self.leader.as_ref().is_some_and(leads) {
            let first = self.members.iter().find(|(_, m)| m.joining.is_some()).or(self.members.iter().next());
            self.leader = first.map(|(id, _)| id.clone());
        }
        self.protocol = self.elect();
        self.state = State::Completing;
        let longest = self.members.values().map(|m| m.rebalance).max().unwrap_or_default();
        self.deadline = Some(now + longest);
        let ids: Vec<String> = self.members.keys().cloned().collect();
        for id in ids {
            let answer = self.joined(&id, false);
            if let Some(member) = self.members.get_mut(&id) {
                member.expires = now + member.session;
                if let Some(waiter) = member.joining.take() {
                    out.push((waiter, Answer::Join(answer)));
                }
            }
        }
    }

    /// The protocol that all know and most like best.
    fn elect(&self) -> Option<String> {
        let known = |name: &str| self.members.values().all(|m| m.protocols.iter().any(|(n, _)| n == name));
        let mut votes: BTreeMap<&str, usize> = BTreeMap::new();
        for member in self.members.values() {
            if let Some((name, _)) = member.protocols.iter().find(|(name, _)| known(name)) {
                *votes.entry(name).or_default() += 1;
            }
        }
        votes.into_iter().max_by_key(|(_, count)| *count).map(|(name, _)| name.to_owned())
    }

    fn joined(&self, id: &str, skip: bool) -> Joined {
        let leader = self.leader.clone().unwrap_or_default();
        let metadata = |m: &Member<W>| {
            let chosen = m.protocols.iter().find(|(name, _)| Some(name) == self.protocol.as_ref());
            chosen.map(|(_, metadata)| metadata.clone()).unwrap_or_default()
        };
        let members = if leader == id {
            self.members.iter().map(|(id, m)| (id.clone(), m.instance.clone(), metadata(m))).collect()
        } else {
            Vec::new()
        };
        Joined {
            code: code::NONE,
            generation: self.generation,
            protocol_type: self.protocol_type.clone(),
            protocol: self.protocol.clone(),
            leader,
            member: id.to_owned(),
            members,
            skip,
        }
    }

    /// Whether `who` is a member of this generation.
    pub(crate) fn check(&self, who: Who<'_>) -> Result<(), i16> {
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

    /// Takes a sync, with the assignments if it is the leader's.
    pub(crate) fn sync(
        &mut self,
        who: Who<'_>,
        protocol: (Option<&str>, Option<&str>),
        assignments: Vec<(String, Bytes)>,
        waiter: W,
        now: Instant,
        out: &mut Out<W>,
    ) {
        let differs = |said: Option<&str>, is: &Option<String>| said.is_some() && said != is.as_deref();
        let refusal = match (self.check(who), self.state) {
            (Err(code), _) => Some(code),
            _ if differs(protocol.0, &self.protocol_type) || differs(protocol.1, &self.protocol) => {
                Some(code::INCONSISTENT_GROUP_PROTOCOL)
            }
            (Ok(()), State::Empty) => Some(code::UNKNOWN_MEMBER_ID),
            (Ok(()), State::Preparing) => Some(code::REBALANCE_IN_PROGRESS),
            _ => None,
        };
        if let Some(code) = refusal {
            return out.push((waiter, Answer::Sync(Synced::refused(code))));
        }
        let Some(member) = self.members.get_mut(who.member) else { return };
        member.expires = now + member.session;
        let earlier = member.syncing.replace(waiter);
        out.extend(earlier.map(|waiter| (waiter, Answer::Sync(Synced::refused(code::REBALANCE_IN_PROGRESS)))));
        if self.state == State::Completing && self.leader.as_deref() == Some(who.member) {
            for (id, assignment) in assignments {
                if let Some(member) = self.members.get_mut(&id) {
                    member.assignment = assignment;
                }
            }
            self.state = State::Stable;
            self.deadline = None;
        }
        if self.state == State::Stable {
            let (protocol_type, protocol) = (&self.protocol_type, &self.protocol);
            for member in self.members.values_mut() {
                let Some(waiter) = member.syncing.take() else { continue };
                member.expires = now + member.session;
                let synced = Synced {
                    code: code::NONE,
                    protocol_type: protocol_type.clone(),
                    protocol: protocol.clone(),
                    assignment: member.assignment.clone(),
                };
                out.push((waiter, Answer::Sync(synced)));
            }
        }
    }

    /// Takes a sign of life.
    pub(crate) fn heartbeat(&mut self, who: Who<'_>, now: Instant) -> i16 {
        if self.promised.contains_key(who.member) {
            return code::UNKNOWN_MEMBER_ID;
        }
        if let Err(code) = self.check(who) {
            return code;
        }
        if let Some(member) = self.members.get_mut(who.member) {
            member.expires = now + member.session;
        }
        if self.state == State::Preparing { code::REBALANCE_IN_PROGRESS } else { code::NONE }
    }

    /// Whether `who` may commit offsets. Who is no member may do so while the group is empty.
    pub(crate) fn may_commit(&mut self, who: Who<'_>, now: Instant) -> Result<(), i16> {
        if who.generation < 0 && who.member.is_empty() {
            return if self.members.is_empty() { Ok(()) } else { Err(code::UNKNOWN_MEMBER_ID) };
        }
        self.check(who)?;
        if let Some(member) = self.members.get_mut(who.member) {
            member.expires = now + member.session;
        }
        if self.state == State::Completing { Err(code::REBALANCE_IN_PROGRESS) } else { Ok(()) }
    }

    /// Lets a member go, by id or by instance.
    pub(crate) fn leave(&mut self, member: &str, instance: Option<&str>, now: Instant, out: &mut Out<W>) -> i16 {
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

    fn remove(&mut self, id: &str, now: Instant, out: &mut Out<W>) {
        let Some(member) = self.members.remove(id) else { return };
        let joined = member.joining.map(|w| (w, Answer::Join(Joined::refused(code::UNKNOWN_MEMBER_ID, id))));
        let synced = member.syncing.map(|w| (w, Answer::Sync(Synced::refused(code::UNKNOWN_MEMBER_ID))));
        out.extend(joined.into_iter().chain(synced));
        if self.leader.as_deref() == Some(id) {
            self.leader = None;
        }
        if self.state != State::Preparing {
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

    /// Does what is due: lets go who has not been heard of, ends what has waited long enough.
    pub(crate) fn tick(&mut self, now: Instant, out: &mut Out<W>) {
        self.promised.retain(|_, until| *until > now);
        let silent = |m: &Member<W>| m.joining.is_none() && m.syncing.is_none() && m.expires <= now;
        let gone: Vec<String> = self.members.iter().filter(|(_, m)| silent(m)).map(|(id, _)| id.clone()).collect();
        gone.iter().for_each(|id| self.remove(id, now, out));
        if self.deadline.is_some_and(|deadline| deadline <= now) {
            match self.state {
                State::Preparing => {
                    self.delaying = false;
                    self.complete(now, out);
                }
                // The leader, or others, have not synced in time: the group starts over without them.
                State::Completing => {
                    let late: Vec<String> =
                        self.members.iter().filter(|(_, m)| m.syncing.is_none()).map(|(id, _)| id.clone()).collect();
                    late.iter().for_each(|id| self.remove(id, now, out));
                }
                State::Empty | State::Stable => self.deadline = None,
            }
        }
        self.complete_if_all(out, now);
    }
}
