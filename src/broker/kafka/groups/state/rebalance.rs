//! A rebalance: all join again, a protocol is elected, the leader's assignment is given to
//! everybody.

use std::collections::BTreeMap;
use std::time::Instant;

use bytes::Bytes;

use super::super::super::code;
use super::{Group, GroupMember, GroupReplies, GroupReply, GroupState, JoinReply, MemberIdentity, SyncReply};

impl<W> Group<W> {
    pub(super) fn prepare(&mut self, now: Instant, out: &mut GroupReplies<W>) {
        for member in self.members.values_mut() {
            member.assignment = Bytes::new();
            if let Some(waiter) = member.syncing.take() {
                member.expires = now + member.session;
                out.push((waiter, GroupReply::Sync(SyncReply::refused(code::REBALANCE_IN_PROGRESS))));
            }
        }
        self.delaying = self.state == GroupState::Empty && !self.delay.is_zero();
        let longest = self.members.values().map(|m| m.rebalance).max().unwrap_or_default();
        self.deadline = Some(now + if self.delaying { self.delay } else { longest });
        self.state = GroupState::Preparing;
    }

    pub(super) fn complete_if_all(&mut self, out: &mut GroupReplies<W>, now: Instant) {
        let all = self.members.values().all(|m| m.joining.is_some()) && self.promised.is_empty();
        if self.state == GroupState::Preparing && all && !self.delaying {
            self.complete(now, out);
        }
    }

    /// Ends the preparing: members that did not join are removed, unless they are static.
    pub(super) fn complete(&mut self, now: Instant, out: &mut GroupReplies<W>) {
        self.members.retain(|_, m| m.joining.is_some() || m.instance.is_some());
        self.deadline = None;
        self.delaying = false;
        self.generation = self.generation.wrapping_add(1).max(1);
        self.rebalances += 1;
        if self.members.is_empty() {
            self.state = GroupState::Empty;
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
        self.state = GroupState::Completing;
        let longest = self.members.values().map(|m| m.rebalance).max().unwrap_or_default();
        self.deadline = Some(now + longest);
        let ids: Vec<String> = self.members.keys().cloned().collect();
        for id in ids {
            let answer = self.joined(&id, false);
            if let Some(member) = self.members.get_mut(&id) {
                member.expires = now + member.session;
                if let Some(waiter) = member.joining.take() {
                    out.push((waiter, GroupReply::Join(answer)));
                }
            }
        }
    }

    /// The protocol that all know and most like best.
    pub(super) fn elect(&self) -> Option<String> {
        let known = |name: &str| self.members.values().all(|m| m.protocols.iter().any(|(n, _)| n == name));
        let mut votes: BTreeMap<&str, usize> = BTreeMap::new();
        for member in self.members.values() {
            if let Some((name, _)) = member.protocols.iter().find(|(name, _)| known(name)) {
                *votes.entry(name).or_default() += 1;
            }
        }
        votes.into_iter().max_by_key(|(_, count)| *count).map(|(name, _)| name.to_owned())
    }

    pub(super) fn joined(&self, id: &str, skip: bool) -> JoinReply {
        let leader = self.leader.clone().unwrap_or_default();
        let metadata = |m: &GroupMember<W>| {
            let chosen = m.protocols.iter().find(|(name, _)| Some(name) == self.protocol.as_ref());
            chosen.map(|(_, metadata)| metadata.clone()).unwrap_or_default()
        };
        let members = if leader == id {
            self.members.iter().map(|(id, m)| (id.clone(), m.instance.clone(), metadata(m))).collect()
        } else {
            Vec::new()
        };
        JoinReply {
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

    /// Takes a sync, with the assignments if it is the leader's.
    pub(crate) fn sync(
        &mut self,
        who: MemberIdentity<'_>,
        protocol: (Option<&str>, Option<&str>),
        assignments: Vec<(String, Bytes)>,
        waiter: W,
        now: Instant,
        out: &mut GroupReplies<W>,
    ) {
        let differs = |said: Option<&str>, is: &Option<String>| said.is_some() && said != is.as_deref();
        let refusal = match (self.check(who), self.state) {
            (Err(code), _) => Some(code),
            _ if differs(protocol.0, &self.protocol_type) || differs(protocol.1, &self.protocol) => {
                Some(code::INCONSISTENT_GROUP_PROTOCOL)
            }
            (Ok(()), GroupState::Empty) => Some(code::UNKNOWN_MEMBER_ID),
            (Ok(()), GroupState::Preparing) => Some(code::REBALANCE_IN_PROGRESS),
            _ => None,
        };
        if let Some(code) = refusal {
            return out.push((waiter, GroupReply::Sync(SyncReply::refused(code))));
        }
        let Some(member) = self.members.get_mut(who.member) else { return };
        member.expires = now + member.session;
        let earlier = member.syncing.replace(waiter);
        out.extend(earlier.map(|waiter| (waiter, GroupReply::Sync(SyncReply::refused(code::REBALANCE_IN_PROGRESS)))));
        if self.state == GroupState::Completing && self.leader.as_deref() == Some(who.member) {
            for (id, assignment) in assignments {
                if let Some(member) = self.members.get_mut(&id) {
                    member.assignment = assignment;
                }
            }
            self.state = GroupState::Stable;
            self.deadline = None;
        }
        if self.state == GroupState::Stable {
            let (protocol_type, protocol) = (&self.protocol_type, &self.protocol);
            for member in self.members.values_mut() {
                let Some(waiter) = member.syncing.take() else { continue };
                member.expires = now + member.session;
                let synced = SyncReply {
                    code: code::NONE,
                    protocol_type: protocol_type.clone(),
                    protocol: protocol.clone(),
                    assignment: member.assignment.clone(),
                };
                out.push((waiter, GroupReply::Sync(synced)));
            }
        }
    }
}
