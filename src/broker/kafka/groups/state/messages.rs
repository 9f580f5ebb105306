//! What a group is asked, and what it answers.

use std::time::Duration;

use bytes::Bytes;

/// An answer to somebody who waits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum GroupReply {
    Join(JoinReply),
    Sync(SyncReply),
}

/// The answer to a join.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct JoinReply {
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
pub(crate) struct SyncReply {
    pub(crate) code: i16,
    pub(crate) protocol_type: Option<String>,
    pub(crate) protocol: Option<String>,
    pub(crate) assignment: Bytes,
}

impl JoinReply {
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

impl SyncReply {
    pub(crate) fn refused(code: i16) -> Self {
        Self { code, protocol_type: None, protocol: None, assignment: Bytes::new() }
    }
}

/// The fields of a join request.
#[derive(Debug, Clone)]
pub(crate) struct JoinRequest {
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

/// The member that asks, and the generation it states.
#[derive(Debug, Clone, Copy)]
pub(crate) struct MemberIdentity<'a> {
    pub(crate) member: &'a str,
    pub(crate) instance: Option<&'a str>,
    pub(crate) generation: i32,
}
