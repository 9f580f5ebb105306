//! What the server answers to a message of a producer.

use async_nats::{Message, StatusCode};

use super::api;
use crate::units::Nanos;

/// An acknowledgement, or an answer with a value.
#[derive(Debug, Clone, Copy)]
pub struct Arrived {
    pub token: u64,
    pub at: Nanos,
    /// Whether the stream took the message, or has the key.
    pub good: bool,
    pub bytes: u64,
}

/// Why a message was not taken, in the server's words.
pub fn refusal(message: &Message) -> String {
    if message.status == Some(StatusCode::NO_RESPONDERS) {
        return "no stream has this subject".into();
    }
    if let Some(status) = message.status {
        return format!("{} {}", status.as_u16(), message.description.as_deref().unwrap_or_default());
    }
    let answer = serde_json::from_slice(&message.payload).unwrap_or_default();
    api::error_of(&answer).map_or_else(|| "without a reason".into(), |(words, _)| words)
}
