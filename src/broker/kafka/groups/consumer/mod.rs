//! One consumer group of the new protocol (KIP-848), as a state machine: no clock, no socket, no
//! lock.
//!
//! A member tells in its heartbeats what it wants and what it has; the answers tell it what it may
//! have. The broker decides who is to have what (the target) whenever members, their wishes or
//! topics change, and leads each member there on its own: first it gives up what it is not to have
//! any more, and once it has said so, it gets what nobody else has any more.

pub(crate) mod assign;

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use super::super::code;
use assign::{Assignment, PartitionId, ServerAssignor};

/// A topic's id and how many partitions it has, by name.
pub(crate) type TopicCatalog = BTreeMap<String, ([u8; 16], u32)>;

/// Epochs with a meaning of their own.
const JOIN: i32 = 0;
const LEAVE: i32 = -1;
/// A static member that is to come back.
const LEAVE_FOR_NOW: i32 = -2;

/// What a member says; what is not there is as it was.
#[derive(Debug, Clone, Default)]
pub(crate) struct Beat {
    pub(crate) member: String,
    pub(crate) epoch: i32,
    pub(crate) instance: Option<String>,
    pub(crate) client: String,
    pub(crate) host: String,
    pub(crate) rebalance: Option<Duration>,
    pub(crate) names: Option<BTreeSet<String>>,
    pub(crate) assignor: Option<ServerAssignor>,
    pub(crate) owned: Option<BTreeSet<PartitionId>>,
}

/// What a member is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct BeatReply {
    pub(crate) epoch: i32,
    /// What it may have, if it has to be told.
    pub(crate) assignment: Option<BTreeSet<PartitionId>>,
}

/// An error of the protocol, in words.
pub(crate) type BeatRefusal = (i16, &'static str);

pub(crate) struct ConsumerMember {
    pub(crate) instance: Option<String>,
    pub(crate) client: String,
    pub(crate) host: String,
    pub(crate) epoch: i32,
    previous: i32,
    pub(crate) names: BTreeSet<String>,
    assignor: Option<ServerAssignor>,
    rebalance: Duration,
    pub(crate) assigned: BTreeSet<PartitionId>,
    /// What it is to give up and has not said so.
    revoking: BTreeSet<PartitionId>,
    expires: Instant,
    /// By when it must have given up.
    revoke_by: Option<Instant>,
}

impl ConsumerMember {
    fn new(beat: &Beat, now: Instant) -> Self {
        Self {
            instance: beat.instance.clone(),
            client: beat.client.clone(),
            host: beat.host.clone(),
            epoch: 0,
            previous: -1,
            names: BTreeSet::new(),
            assignor: None,
            rebalance: Duration::ZERO,
            assigned: BTreeSet::new(),
            revoking: BTreeSet::new(),
            expires: now,
            revoke_by: None,
        }
    }

    fn holds(&self, partition: &PartitionId) -> bool {
        self.assigned.contains(partition) || self.revoking.contains(partition)
    }
}

pub(crate) struct ConsumerGroupState {
    pub(crate) epoch: i32,
    /// The epoch of the target.
    pub(crate) target_epoch: i32,
    pub(crate) target: Assignment,
    pub(crate) members: BTreeMap<String, ConsumerMember>,
    /// The topics that the target was made for.
    topics: TopicCatalog,
    session: Duration,
    max_members: usize,
    pub(crate) rebalances: u64,
}

impl ConsumerGroupState {
    pub(crate) fn new(session: Duration, max_members: usize) -> Self {
        Self {
            epoch: 0,
            target_epoch: 0,
            target: Assignment::new(),
            members: BTreeMap::new(),
            topics: TopicCatalog::new(),
            session,
            max_members,
            rebalances: 0,
        }
    }

    /// Its state in the words of the protocol.
    pub(crate) fn state(&self) -> &'static str {
        match () {
            () if self.members.is_empty() => "Empty",
            () if self.epoch > self.target_epoch => "Assigning",
            () if self.members.iter().any(|(id, member)| !self.is_settled(id, member)) => "Reconciling",
            () => "Stable",
        }
    }

    fn is_settled(&self, id: &str, member: &ConsumerMember) -> bool {
        let target = self.target.get(id);
        member.epoch == self.target_epoch && member.revoking.is_empty() && target.is_none_or(|t| *t == member.assigned)
    }

    /// The assignor that most members want.
    pub(crate) fn assignor(&self) -> ServerAssignor {
        let mut votes: BTreeMap<ServerAssignor, usize> = BTreeMap::new();
        for assignor in self.members.values().filter_map(|member| member.assignor) {
            *votes.entry(assignor).or_default() += 1;
        }
        votes.into_iter().max_by_key(|(_, count)| *count).map_or(ServerAssignor::Uniform, |(assignor, _)| assignor)
    }

    /// Takes what a member says, of the topics there are.
    pub(crate) fn beat(&mut self, beat: &Beat, catalog: &TopicCatalog, now: Instant) -> Result<BeatReply, BeatRefusal> {
        match beat.epoch {
            LEAVE => return self.leave(beat, catalog),
            LEAVE_FOR_NOW => return self.leave_for_now(beat, now),
            JOIN => self.join(beat, now)?,
            _ => self.check(beat)?,
        }
        let Some(member) = self.members.get_mut(&beat.member) else {
            return Err((code::UNKNOWN_MEMBER_ID, "the member is not known"));
        };
        member.expires = now + self.session;
        let mut changed = beat.epoch == JOIN;
        if let Some(names) = beat.names.as_ref().filter(|names| **names != member.names) {
            member.names = names.clone();
            changed = true;
        }
        if beat.assignor.is_some() && beat.assignor != member.assignor {
            member.assignor = beat.assignor;
            changed = true;
        }
        member.rebalance = beat.rebalance.unwrap_or(member.rebalance);
        if changed || self.wanted_topics(catalog) != self.topics {
            self.decide(catalog);
        }
        Ok(self.lead(beat, now))
    }

    fn join(&mut self, beat: &Beat, now: Instant) -> Result<(), BeatRefusal> {
        if beat.owned.as_ref().is_some_and(|owned| !owned.is_empty()) {
            return Err((code::INVALID_REQUEST, "TopicPartitions must be empty when (re-)joining."));
        }
        if beat.rebalance.is_none() {
            return Err((code::INVALID_REQUEST, "RebalanceTimeoutMs must be provided in first request."));
        }
        if beat.names.is_none() {
            return Err((code::INVALID_REQUEST, "SubscribedTopicNames must be set in first request."));
        }
        let mut joining = ConsumerMember::new(beat, now);
        if let Some((id, earlier)) = self.of_instance(beat.instance.as_deref())
            && *id != beat.member
        {
            if earlier.epoch != LEAVE_FOR_NOW {
                return Err((code::UNRELEASED_INSTANCE_ID, "the instance id is in use by another member"));
            }
            // It takes the place of the one that was to come back.
            let id = id.clone();
            if let Some(earlier) = self.members.remove(&id) {
                joining.assigned = earlier.assigned;
            }
            if let Some(target) = self.target.remove(&id) {
                self.target.insert(beat.member.clone(), target);
            }
        }
        if let Some(known) = self.members.get_mut(&beat.member) {
            // It begins again, with nothing: what it had is free.
            known.epoch = 0;
            known.assigned.clear();
            known.revoking.clear();
            known.revoke_by = None;
            return Ok(());
        }
        if self.members.len() >= self.max_members {
            return Err((code::GROUP_MAX_SIZE_REACHED, "the group has as many members as it may have"));
        }
        self.members.insert(beat.member.clone(), joining);
        Ok(())
    }

    fn of_instance(&self, instance: Option<&str>) -> Option<(&String, &ConsumerMember)> {
        let instance = instance?;
        self.members.iter().find(|(_, member)| member.instance.as_deref() == Some(instance))
    }

    fn check(&self, beat: &Beat) -> Result<(), BeatRefusal> {
        if let Some((id, _)) = self.of_instance(beat.instance.as_deref())
            && *id != beat.member
        {
            return Err((code::FENCED_INSTANCE_ID, "another member has the instance id"));
        }
        let Some(member) = self.members.get(&beat.member) else {
            return Err((code::UNKNOWN_MEMBER_ID, "the member is not known"));
        };
        // An answer may have been lost: the member then has no more than it was told before.
        let within = |owned: &BTreeSet<PartitionId>| owned.is_subset(&member.assigned);
        let behind = beat.epoch == member.previous && beat.owned.as_ref().is_some_and(within);
        if beat.epoch == member.epoch || behind {
            return Ok(());
        }
        Err((code::FENCED_MEMBER_EPOCH, "the member has another epoch: it must join again"))
    }

    fn leave(&mut self, beat: &Beat, catalog: &TopicCatalog) -> Result<BeatReply, BeatRefusal> {
        if self.remove(&beat.member) {
            self.decide(catalog);
            return Ok(BeatReply { epoch: LEAVE, assignment: None });
        }
        Err((code::UNKNOWN_MEMBER_ID, "the member is not known"))
    }

    fn leave_for_now(&mut self, beat: &Beat, now: Instant) -> Result<BeatReply, BeatRefusal> {
        let session = self.session;
        let Some(member) = self.members.get_mut(&beat.member).filter(|member| member.instance.is_some()) else {
            return Err((code::UNKNOWN_MEMBER_ID, "the static member is not known"));
        };
        member.epoch = LEAVE_FOR_NOW;
        member.assigned.append(&mut member.revoking);
        member.revoke_by = None;
        member.expires = now + session;
        Ok(BeatReply { epoch: LEAVE_FOR_NOW, assignment: None })
    }

    fn remove(&mut self, id: &str) -> bool {
        self.target.remove(id);
        self.members.remove(id).is_some()
    }

    /// The topics that members want and that there are.
    fn wanted_topics(&self, catalog: &TopicCatalog) -> TopicCatalog {
        let names: BTreeSet<&String> = self.members.values().flat_map(|member| &member.names).collect();
        names.into_iter().filter_map(|name| Some((name.clone(), *catalog.get(name)?))).collect()
    }

    /// Decides anew who is to have what.
    fn decide(&mut self, catalog: &TopicCatalog) {
        self.topics = self.wanted_topics(catalog);
        self.epoch += 1;
        self.target_epoch = self.epoch;
        self.rebalances += 1;
        let of =
            |member: &ConsumerMember| member.names.iter().filter_map(|name| Some(self.topics.get(name)?.0)).collect();
        let wanted = self.members.iter().map(|(id, member)| (id.clone(), of(member))).collect();
        let topics = self.topics.values().copied().collect();
        self.target = self.assignor().assign(&wanted, &topics, &self.target);
    }

    /// Leads a member one step towards the target.
    fn lead(&mut self, beat: &Beat, now: Instant) -> BeatReply {
        let target = self.target.get(&beat.member).cloned().unwrap_or_default();
        let others = |partition: &PartitionId| {
            self.members.iter().any(|(id, member)| *id != beat.member && member.holds(partition))
        };
        let free: BTreeSet<PartitionId> = target.iter().filter(|partition| !others(partition)).copied().collect();
        let epoch = self.target_epoch;
        let Some(member) = self.members.get_mut(&beat.member) else {
            return BeatReply { epoch: LEAVE, assignment: None };
        };
        let before = (member.epoch, member.assigned.clone());
        let unwanted: BTreeSet<PartitionId> = member.assigned.difference(&target).copied().collect();
        if !unwanted.is_empty() {
            member.assigned.retain(|partition| target.contains(partition));
            member.revoking.extend(unwanted);
            member.revoke_by = Some(now + member.rebalance);
        }
        // Who joins has nothing, whatever its place had before.
        match &beat.owned {
            Some(owned) => member.revoking.retain(|partition| owned.contains(partition)),
            None if beat.epoch == JOIN => member.revoking.clear(),
            None => {}
        }
        if member.revoking.is_empty() {
            member.revoke_by = None;
            member.assigned.extend(free);
            if member.epoch != epoch {
                member.previous = member.epoch;
                member.epoch = epoch;
            }
        }
        // Who says all of itself is told all.
        let is_told = beat.names.is_some() || before != (member.epoch, member.assigned.clone());
        BeatReply { epoch: member.epoch, assignment: is_told.then(|| member.assigned.clone()) }
    }

    /// Whether `member` of that epoch may commit offsets. Who is no member may do so while the
    /// group is empty.
    pub(crate) fn may_commit(&self, member: &str, epoch: i32) -> Result<(), i16> {
        // A consumer has an id before it joins.
        if epoch < 0 && self.members.is_empty() {
            return Ok(());
        }
        let known = self.members.get(member).ok_or(code::UNKNOWN_MEMBER_ID)?;
        if known.epoch == epoch { Ok(()) } else { Err(code::STALE_MEMBER_EPOCH) }
    }

    /// When [`tick`](Self::tick) has something to do.
    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        self.members.values().flat_map(|member| [Some(member.expires), member.revoke_by]).flatten().min()
    }

    /// Removes members that are not heard of, and those that do not give up in time.
    pub(crate) fn tick(&mut self, catalog: &TopicCatalog, now: Instant) {
        let late = |member: &ConsumerMember| member.expires <= now || member.revoke_by.is_some_and(|by| by <= now);
        let gone: Vec<String> = self.members.iter().filter(|(_, m)| late(m)).map(|(id, _)| id.clone()).collect();
        // Each is removed, also after the first that was there.
        let removed = gone.iter().filter(|id| self.remove(id)).count();
        if removed > 0 {
            self.decide(catalog);
        }
    }
}

#[cfg(test)]
mod tests;
