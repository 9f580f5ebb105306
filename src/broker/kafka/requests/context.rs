//! What every request works on.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;

use kafka_protocol::protocol::{Encodable, HeaderVersion, StrBytes};

use super::super::hub::KafkaHub;
use super::super::reply::{Reply, respond, text};
use super::pending::Pending;
use crate::broker::log::WakeSignal;

/// Why a connection is to be closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::broker::kafka) enum RequestViolation {
    /// The bytes are not a request this broker serves.
    Malformed,
    /// The client must authenticate first, or has failed to.
    Unauthenticated,
    /// The request cannot be answered: acks=0 has no other way to say that something went wrong.
    Failed,
}

/// One request on its way: who has sent it and how it is to be answered.
pub(super) struct RequestContext<'a> {
    pub(super) hub: &'a Arc<KafkaHub>,
    pub(super) wake_signal: &'a Arc<WakeSignal>,
    pub(super) local: SocketAddr,
    pub(super) peer: SocketAddr,
    pub(super) client: &'a str,
    pub(super) correlation: i32,
    pub(super) version: i16,
}

impl RequestContext<'_> {
    /// The host that this client is to connect to: the one advertised, or the one under which it
    /// has reached the broker.
    pub(super) fn host(&self) -> StrBytes {
        match &self.hub.config.advertise {
            Some(advertised) => text(advertised.host.as_str()),
            None => text(self.local.ip().to_canonical().to_string()),
        }
    }

    pub(super) fn port(&self) -> i32 {
        let advertised = self.hub.config.advertise.as_ref().and_then(|advertised| advertised.port);
        i32::from(advertised.unwrap_or_else(|| self.local.port()))
    }

    /// An answer that is ready.
    pub(super) fn ready<T: Encodable + HeaderVersion>(&self, body: &T) -> Pending {
        Pending::Ready(Some(self.reply(body)))
    }

    /// The same, to be sent when something else is known.
    pub(super) fn reply<T: Encodable + HeaderVersion>(&self, body: &T) -> Reply {
        respond(self.correlation, self.version, body)
    }
}

/// Each once: who names the same thing again is answered once, or a short request would have a long
/// answer many times over.
pub(super) fn once<T, K: Ord>(mut items: Vec<T>, key: impl Fn(&T) -> K) -> Vec<T> {
    let mut seen = BTreeSet::new();
    items.retain(|item| seen.insert(key(item)));
    items
}
