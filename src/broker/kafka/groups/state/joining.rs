//! Joining a group: who is let in, under which id, and what that means to the others.

use std::time::Instant;

use bytes::Bytes;

use super::super::super::code;
use super::{Group, GroupMember, GroupReplies, GroupReply, GroupState, JoinReply, JoinRequest, SyncReply};

/// Why a join is refused, and under which id it is to come again.
type JoinRefusal = (i16, String);

impl<W> Group<W> {
    /// Takes a join. `new_id` is used if the member has none.
    pub(crate) fn join(
        &mut self,
        join: JoinRequest,
        waiter: W,
        new_id: String,
        now: Instant,
        out: &mut GroupReplies<W>,
    ) {
        match self.admit(&join, new_id, now, out) {
            Err((code, member)) => out.push((waiter, GroupReply::Join(JoinReply::refused(code, member)))),
            Ok(None) => out.push((waiter, GroupReply::Join(JoinReply::refused(code::UNKNOWN_MEMBER_ID, join.member)))),
            Ok(Some((id, anew))) => self.join_known(&id, join, anew, waiter, now, out),
        }
    }

    /// Finds or makes the member; says under which id, and whether it is new or has changed.
    pub(super) fn admit(
        &mut self,
        join: &JoinRequest,
        new_id: String,
        now: Instant,
        out: &mut GroupReplies<W>,
    ) -> Result<Option<(String, bool)>, JoinRefusal> {
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

    pub(super) fn add(&mut self, id: &str, join: &JoinRequest, now: Instant) {
        if self.members.is_empty() {
            self.protocol_type = Some(join.protocol_type.clone());
        }
        let member = GroupMember {
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
    pub(super) fn replace(
        &mut self,
        old: &str,
        join: &JoinRequest,
        id: String,
        now: Instant,
        out: &mut GroupReplies<W>,
    ) -> (String, bool) {
        let Some(mut member) = self.members.remove(old) else { return (id, true) };
        if let Some(waiter) = member.joining.take() {
            out.push((waiter, GroupReply::Join(JoinReply::refused(code::FENCED_INSTANCE_ID, old))));
        }
        if let Some(waiter) = member.syncing.take() {
            out.push((waiter, GroupReply::Sync(SyncReply::refused(code::FENCED_INSTANCE_ID))));
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

    pub(super) fn join_known(
        &mut self,
        id: &str,
        join: JoinRequest,
        new: bool,
        waiter: W,
        now: Instant,
        out: &mut GroupReplies<W>,
    ) {
        let returned = join.instance.is_some() && join.member.is_empty() && !new;
        let Some(member) = self.members.get_mut(id) else { return };
        let changed = new || member.protocols != join.protocols;
        member.protocols = join.protocols;
        member.session = join.session;
        member.rebalance = join.rebalance;
        member.expires = now + join.session;
        let leads = self.leader.as_deref() == Some(id);
        match self.state {
            GroupState::Completing if !changed => return out.push((waiter, GroupReply::Join(self.joined(id, false)))),
            // A static member that comes back gets the group as it is. A leader that does not know
            // how to leave the assignment alone is told of another leader: the id it had before.
            GroupState::Stable if returned => {
                let mut joined = self.joined(id, leads && join.knows_skip);
                if leads && !join.knows_skip {
                    joined.leader = format!("{id}-before");
                    joined.members.clear();
                }
                return out.push((waiter, GroupReply::Join(joined)));
            }
            GroupState::Stable if !changed && !leads => {
                return out.push((waiter, GroupReply::Join(self.joined(id, false))));
            }
            GroupState::Preparing => {}
            _ => self.prepare(now, out),
        }
        if let Some(member) = self.members.get_mut(id)
            && let Some(earlier) = member.joining.replace(waiter)
        {
            // A request that waits on another connection would never be answered.
            out.push((earlier, GroupReply::Join(JoinReply::refused(code::REBALANCE_IN_PROGRESS, id))));
        }
        self.complete_if_all(out, now);
    }
}
