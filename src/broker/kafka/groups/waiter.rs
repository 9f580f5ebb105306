//! A request that waits for the other members of its group.

use std::sync::Arc;

use kafka_protocol::messages::join_group_response::JoinGroupResponseMember;
use kafka_protocol::messages::{JoinGroupResponse, SyncGroupResponse};

use super::super::reply::{ReplySlot, respond, text};
use super::state::{GroupReply, JoinReply, SyncReply};
use crate::broker::log::WakeSignal;

/// A connection that waits for a group.
pub(in super::super) struct Waiter {
    slot: Arc<ReplySlot>,
    correlation: i32,
    version: i16,
}

impl Waiter {
    /// One that sends `wake_signal` when its answer is in the slot.
    pub(in super::super) fn new(
        wake_signal: &Arc<WakeSignal>,
        correlation: i32,
        version: i16,
    ) -> (Self, Arc<ReplySlot>) {
        let slot = ReplySlot::new(wake_signal);
        (Self { slot: Arc::clone(&slot), correlation, version }, slot)
    }

    pub(super) fn answer(self, answer: GroupReply) {
        let reply = match answer {
            GroupReply::Join(joined) => respond(self.correlation, self.version, &join_response(joined, self.version)),
            GroupReply::Sync(synced) => respond(self.correlation, self.version, &sync_response(synced)),
        };
        self.slot.fill(reply);
    }
}

pub(in super::super) fn join_response(joined: JoinReply, version: i16) -> JoinGroupResponse {
    let members = joined.members.into_iter().map(|(id, instance, metadata)| {
        JoinGroupResponseMember::default()
            .with_member_id(text(id))
            .with_group_instance_id(instance.filter(|_| version >= 5).map(text))
            .with_metadata(metadata)
    });
    // Versions below 7 cannot say that there is no protocol.
    let protocol = joined.protocol.or((version < 7).then(String::new));
    JoinGroupResponse::default()
        .with_error_code(joined.code)
        .with_generation_id(joined.generation)
        .with_protocol_type(joined.protocol_type.filter(|_| version >= 7).map(text))
        .with_protocol_name(protocol.map(text))
        .with_leader(text(joined.leader))
        .with_member_id(text(joined.member))
        .with_skip_assignment(joined.skip && version >= 9)
        .with_members(members.collect())
}

pub(in super::super) fn sync_response(synced: SyncReply) -> SyncGroupResponse {
    SyncGroupResponse::default()
        .with_error_code(synced.code)
        .with_protocol_type(synced.protocol_type.map(text))
        .with_protocol_name(synced.protocol.map(text))
        .with_assignment(synced.assignment)
}
