//! SASL PLAIN (RFC 4616), in its own requests or in frames without header as version 0 of the handshake has it.

use bytes::{Bytes, BytesMut};
use kafka_protocol::messages::{
    ApiKey, SaslAuthenticateRequest, SaslAuthenticateResponse, SaslHandshakeRequest, SaslHandshakeResponse,
};
use kafka_protocol::protocol::StrBytes;
use tokio::time::Instant;

use super::code;
use super::hub::{Call, text};
use super::pending::Pending;
use super::reply::Reply;
use super::request::Violation;

const MECHANISM: &str = "PLAIN";

/// How far a connection has come in showing who it is.
pub(super) struct Login {
    users: Vec<(String, String)>,
    state: State,
    pub(super) deadline: Instant,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
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

impl Login {
    pub(super) fn new(users: &[(String, String)], deadline: Instant) -> Self {
        let state = if users.is_empty() { State::Done } else { State::New };
        Self { users: users.to_vec(), state, deadline }
    }

    pub(super) fn is_done(&self) -> bool {
        self.state == State::Done
    }

    /// Whether such a request may be carried out now.
    pub(super) fn gate(&self, key: ApiKey) -> Result<(), Violation> {
        let always = matches!(key, ApiKey::ApiVersions | ApiKey::SaslHandshake | ApiKey::SaslAuthenticate);
        match self.state {
            State::Done => Ok(()),
            State::Failed => Err(Violation::Unauthenticated),
            _ if always => Ok(()),
            _ => Err(Violation::Unauthenticated),
        }
    }

    /// Takes a frame that is bare credentials, if that is what must come.
    pub(super) fn raw(&mut self, frame: &Bytes) -> Result<Option<Reply>, Violation> {
        match self.state {
            State::ShakenRaw if self.accept(frame) => {
                self.state = State::Done;
                Ok(Some(Reply::plain(BytesMut::from(&[0u8; 4][..]))))
            }
            State::ShakenRaw => Err(Violation::Unauthenticated),
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
        // Every user is compared in full, so that the time taken does not tell which part was right.
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
pub(super) fn handshake(call: &Call<'_>, login: &mut Login, request: &SaslHandshakeRequest) -> Pending {
    let error = if login.users.is_empty() || !matches!(login.state, State::New | State::Shaken) {
        code::ILLEGAL_SASL_STATE
    } else if &*request.mechanism != MECHANISM {
        code::UNSUPPORTED_SASL_MECHANISM
    } else {
        login.state = if call.version == 0 { State::ShakenRaw } else { State::Shaken };
        code::NONE
    };
    let mechanisms = vec![StrBytes::from_static_str(MECHANISM)];
    call.ready(&SaslHandshakeResponse::default().with_error_code(error).with_mechanisms(mechanisms))
}

/// Takes credentials; after a refusal the connection is closed with the next request, or by the client.
pub(super) fn authenticate(call: &Call<'_>, login: &mut Login, request: &SaslAuthenticateRequest) -> Pending {
    let (error, words) = match login.state {
        State::Shaken if login.accept(&request.auth_bytes) => {
            login.state = State::Done;
            (code::NONE, None)
        }
        State::Shaken => {
            login.state = State::Failed;
            super::counters::add(&call.hub.counters.auth_failures, 1);
            (code::SASL_AUTHENTICATION_FAILED, Some(text("Authentication failed: Invalid username or password")))
        }
        _ => (code::ILLEGAL_SASL_STATE, Some(text("SaslAuthenticate follows SaslHandshake"))),
    };
    call.ready(&SaslAuthenticateResponse::default().with_error_code(error).with_error_message(words))
}
