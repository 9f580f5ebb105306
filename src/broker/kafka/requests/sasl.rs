//! SASL PLAIN (RFC 4616), in its own requests or in frames without header as version 0 of the
//! handshake has it.

use bytes::{Bytes, BytesMut};
use kafka_protocol::messages::{
    ApiKey, SaslAuthenticateRequest, SaslAuthenticateResponse, SaslHandshakeRequest, SaslHandshakeResponse,
};
use kafka_protocol::protocol::StrBytes;
use tokio::time::Instant;

use super::super::code;
use super::super::reply::{Reply, text};
use super::context::{RequestContext, RequestViolation};
use super::pending::Pending;

const MECHANISM: &str = "PLAIN";

/// How far a connection has come in showing who it is.
pub(in crate::broker::kafka) struct SaslSession {
    users: Vec<(String, String)>,
    state: SaslState,
    pub(in crate::broker::kafka) deadline: Instant,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum SaslState {
    /// A handshake must come.
    New,
    /// Credentials must come, in a request of their own.
    Shaken,
    /// Credentials must come, in a bare frame.
    ShakenRaw,
    /// Everything is allowed.
    Done,
    /// Nothing is allowed any more.
    Failed,
}

impl SaslSession {
    pub(in crate::broker::kafka) fn new(users: &[(String, String)], deadline: Instant) -> Self {
        let state = if users.is_empty() { SaslState::Done } else { SaslState::New };
        Self { users: users.to_vec(), state, deadline }
    }

    pub(in crate::broker::kafka) fn is_done(&self) -> bool {
        self.state == SaslState::Done
    }

    /// Whether such a request may be carried out now.
    pub(super) fn gate(&self, key: ApiKey) -> Result<(), RequestViolation> {
        let always = matches!(key, ApiKey::ApiVersions | ApiKey::SaslHandshake | ApiKey::SaslAuthenticate);
        match self.state {
            SaslState::Done => Ok(()),
            SaslState::Failed => Err(RequestViolation::Unauthenticated),
            _ if always => Ok(()),
            _ => Err(RequestViolation::Unauthenticated),
        }
    }

    /// Takes a frame that is bare credentials, if that is what must come.
    pub(super) fn raw(&mut self, frame: &Bytes) -> Result<Option<Reply>, RequestViolation> {
        match self.state {
            SaslState::ShakenRaw if self.accept(frame) => {
                self.state = SaslState::Done;
                Ok(Some(Reply::plain(BytesMut::from(&[0u8; 4][..]))))
            }
            SaslState::ShakenRaw => Err(RequestViolation::Unauthenticated),
            _ => Ok(None),
        }
    }

    /// Whether `[authzid] NUL user NUL password` names a user.
    fn accept(&self, credentials: &[u8]) -> bool {
        let mut parts = credentials.split(|b| *b == 0);
        let (Some(acting), Some(user), Some(password), None) = (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return false;
        };
        let acts_as_itself = acting.is_empty() || acting == user;
        // Every user is compared in full, so that the time taken does not tell which part was
        // right.
        let matches =
            |(name, secret): &(String, String)| same(name.as_bytes(), user) & same(secret.as_bytes(), password);
        let known = self.users.iter().fold(false, |known, entry| known | matches(entry));
        acts_as_itself && known
    }
}

fn same(a: &[u8], b: &[u8]) -> bool {
    a.len() == b.len() && a.iter().zip(b).fold(0, |different, (x, y)| different | (x ^ y)) == 0
}

/// Takes the choice of a mechanism.
pub(super) fn handshake(call: &RequestContext<'_>, login: &mut SaslSession, request: &SaslHandshakeRequest) -> Pending {
    let error = if login.users.is_empty() || !matches!(login.state, SaslState::New | SaslState::Shaken) {
        code::ILLEGAL_SASL_STATE
    } else if &*request.mechanism != MECHANISM {
        code::UNSUPPORTED_SASL_MECHANISM
    } else {
        login.state = if call.version == 0 { SaslState::ShakenRaw } else { SaslState::Shaken };
        code::NONE
    };
    let mechanisms = vec![StrBytes::from_static_str(MECHANISM)];
    call.ready(&SaslHandshakeResponse::default().with_error_code(error).with_mechanisms(mechanisms))
}

/// Takes credentials; after a refusal the connection is closed with the next request, or by the
/// client.
pub(super) fn authenticate(
    call: &RequestContext<'_>,
    login: &mut SaslSession,
    request: &SaslAuthenticateRequest,
) -> Pending {
    let (error, words) = match login.state {
        SaslState::Shaken if login.accept(&request.auth_bytes) => {
            login.state = SaslState::Done;
            (code::NONE, None)
        }
        SaslState::Shaken => {
            login.state = SaslState::Failed;
            super::super::counters::add(&call.hub.counters.auth_failures, 1);
            (code::SASL_AUTHENTICATION_FAILED, Some(text("Authentication failed: Invalid username or password")))
        }
        _ => (code::ILLEGAL_SASL_STATE, Some(text("SaslAuthenticate follows SaslHandshake"))),
    };
    call.ready(&SaslAuthenticateResponse::default().with_error_code(error).with_error_message(words))
}
