//! Clients that are no producers and no consumers: who comes and goes, who says nothing, who has no
//! right to be there.

use super::DriverError;
use crate::units::Nanos;

/// Keeps a connection, and ends when it is lost.
pub type IdleConnection = futures_util::future::LocalBoxFuture<'static, DriverError>;

/// A client that comes and goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ConnectAttempt<'a> {
    /// Index of its workload in the case.
    pub workload: usize,
    /// The producer that counts it, and its number there: together its own.
    pub producer: u32,
    pub number: u64,
    /// The message that it publishes and receives.
    pub payload: &'a [u8],
}

/// When each step of such a client was done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConnectSteps {
    /// The server had accepted the connection and its login.
    pub connected: Nanos,
    /// The server had confirmed that it routes to the client.
    pub subscribed: Nanos,
    /// The message was read.
    pub received: Nanos,
    /// What was read.
    pub message: Vec<u8>,
}

/// What an intruder tries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Intrusion<'a> {
    /// The number of the try, from 0: of several ways to connect without rights, they take turns.
    pub number: u64,
    pub way: IntrusionWay,
    /// The message that it tries to publish; it says who wrote it.
    pub payload: &'a [u8],
}

/// What an intruder wants to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IntrusionWay {
    Publish,
    Subscribe,
}

/// What came of a try.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IntrusionOutcome {
    /// What the intruder lacks.
    pub who: String,
    /// Whether the system took his message or his subscription.
    pub let_in: bool,
    /// The system's own words, or what was observed.
    pub words: String,
}
