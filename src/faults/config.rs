//! What faults there may be: one grammar for the flags of `msgbench broker`, a faults file, and the
//! `[faults]` table of a scenario.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::units::{Rate, Span};

/// Faults that the broker is to have. A message that matches no fault is passed on as if there were
/// none.
///
/// Messages are numbered from 1 in the order in which the broker got them, of all publishers
/// together; only those whose subject matches `subjects` count and are hit. With the same seed the
/// same numbers are hit.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct Faults {
    /// Seed of everything random. Default: 0.
    #[serde(skip_serializing_if = "is_zero")]
    pub seed: u64,
    /// The subjects that are hit, with the wildcards of a subscription. Default: all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub subjects: Option<String>,
    /// The broker stands still.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stall: Option<Stall>,
    /// How long each message is worked on, one after another, by one server.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub service: Option<DurationLaw>,
    /// How much later each message is delivered; many wait at once, their order is kept.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub delay: Option<DurationLaw>,
    /// Messages per second that pass at most (a token bucket); the others wait.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rate_cap: Option<RateCap>,
    /// Messages that are not delivered.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub drop: Option<HitRule>,
    /// Messages that are delivered twice.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub duplicate: Option<HitRule>,
    /// Messages that change places with the next one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub swap: Option<HitRule>,
    /// Messages of whose last payload byte one bit is turned over.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub corrupt: Option<HitRule>,
    /// Faults of single deliveries: a message that goes to two subscribers is delivered twice, and
    /// each is hit by itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub delivery: Option<DeliveryFaults>,
    /// The subscriber of longest standing gets no more than so many messages a second; the others
    /// do not wait for it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub slow_subscriber: Option<RateCap>,
    /// A connection that is cut.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub disconnect: Option<Disconnect>,
    /// A connection that stays open while nothing is read from it or written to it any more, as if
    /// the network had swallowed it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub half_open: Option<Disconnect>,
    /// The publisher of a message is not read from for a while: its socket fills up.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stop_reading: Option<StopReading>,
    /// New connections are closed at once for a while.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub refuse: Option<Window>,
}

/// Faults of single deliveries. Deliveries are numbered from 1 in the order in which the broker
/// makes them.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct DeliveryFaults {
    /// Deliveries that are not made.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub drop: Option<HitRule>,
    /// Deliveries that are made twice.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub duplicate: Option<HitRule>,
    /// Deliveries that change places with the next one to the same subscription.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub swap: Option<HitRule>,
    /// Deliveries of whose last payload byte one bit is turned over.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub corrupt: Option<HitRule>,
}

impl DeliveryFaults {
    pub(super) fn picks(&self) -> [(&'static str, Option<HitRule>); 4] {
        [("drop", self.drop), ("duplicate", self.duplicate), ("swap", self.swap), ("corrupt", self.corrupt)]
    }
}

/// A publisher that is not read from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct StopReading {
    /// From this message of it on.
    pub after: u64,
    /// For so long.
    #[serde(rename = "for")]
    pub length: Span,
}

/// A time that counts from the first matching message, or from the change by the control
/// connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Window {
    /// From when on.
    pub at: Span,
    /// For how long.
    #[serde(rename = "for")]
    pub length: Span,
}

fn is_zero(n: &u64) -> bool {
    *n == 0
}

/// When the broker stands still; times count from the arrival of the first matching message.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Stall {
    /// For how long.
    #[serde(rename = "for")]
    pub length: Span,
    /// Once, so long after the first matching message.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at: Option<Span>,
    /// Again and again, from one beginning to the next.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub every: Option<Span>,
    /// At random (a Poisson process), with this mean from the end of one to the beginning of the
    /// next.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mean_gap: Option<Span>,
}

/// A duration, or how durations are distributed.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum DurationLaw {
    /// Always the same.
    Fixed(Span),
    /// Exponential, with this mean.
    Exponential(Span),
    /// Mostly short, sometimes long.
    Mixture(Mixture),
}

/// Mostly short, sometimes long.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Mixture {
    pub short: Span,
    pub long: Span,
    /// Probability of the long one.
    pub share: f64,
}

/// Which messages are hit.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum HitRule {
    /// Every n-th message.
    Every(u64),
    /// Each with this probability.
    Probability(f64),
}

/// A token bucket.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct RateCap {
    /// Tokens per second.
    pub rate: Rate,
    /// Tokens that the bucket holds. Default: 1.
    #[serde(default = "one")]
    pub burst: u32,
}

fn one() -> u32 {
    1
}

/// A connection that is cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Disconnect {
    /// After this message.
    pub after: u64,
    /// Whose.
    pub who: Peer,
}

/// Whose connection is cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Peer {
    /// The one that published the message.
    Publisher,
    /// All that subscribe to its subject.
    Subscribers,
}

/// What is wrong with a description of faults.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}{message}; {hint}", if key.is_empty() { String::new() } else { format!("faults: {key}: ") })]
pub struct FaultsError {
    /// The setting, with dots; empty when there is none.
    pub key: String,
    /// What is wrong.
    pub message: String,
    /// What to write instead.
    pub hint: String,
}
