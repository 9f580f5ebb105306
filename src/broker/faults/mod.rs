//! What both protocols share of faults: the script that decides what happens to which message, the
//! parcel that carries it, the journal that logs every event, and waiting for an absolute instant.
//!
//! What is done with a message is the protocol's: [`super::nats`] has single deliveries and
//! connections, the Kafka half has batches on their way into the log.

mod journal;
mod owned_message;
mod script;
pub(super) mod wait;

use std::net::SocketAddr;
use std::path::PathBuf;

use crate::faults::Faults;

pub(super) use journal::{DeliveryTarget, Journal, StageTimes};
pub(super) use owned_message::OwnedMessage;
pub(super) use script::{DeliveryScript, FaultDecision, FaultScript, StallHit, StallSchedule, TokenBucket};

/// Bytes that may wait for the fault server.
pub(super) const MAX_WAITING: usize = 256 << 20;

/// Faults, and where they are logged.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct FaultOptions {
    /// What is done to messages.
    pub faults: Faults,
    /// A file that gets a line for each event.
    pub log: Option<PathBuf>,
    /// A loopback address on which faults can be changed while the broker runs; none by default.
    pub control: Option<SocketAddr>,
}
