//! When messages are due, and what is in them.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::units::{Bytes, Rate, SECOND, Span};

/// When messages are due.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", tag = "mode")]
pub enum Load {
    /// On an absolute schedule, whatever the system does.
    Open {
        /// The process that places messages along the profile.
        arrivals: Arrivals,
        /// The rate over time, of all producers of the workload together.
        profile: Profile,
    },
    /// As fast as the client takes them. Latencies have no intended time and are service latencies.
    Unthrottled {
        /// Messages that may be on their way, sent and not yet received by all; 0 is without limit.
        /// An at-most-once system without a limit throws away what its consumers cannot take.
        #[serde(default)]
        window: u64,
    },
    /// Each producer keeps so many messages outstanding. Omits what a stall delays, by
    /// construction; labelled so.
    Closed {
        /// Messages in flight for each producer.
        outstanding: u32,
        /// Pause between an answer and the next message.
        think: Span,
    },
}

impl Load {
    /// Messages scheduled within a span, or None where the system decides.
    pub fn messages(&self, span: Span) -> Option<f64> {
        match self {
            Self::Open { profile, .. } => Some(profile.messages(span)),
            Self::Unthrottled { .. } | Self::Closed { .. } => None,
        }
    }
}

/// The process that places messages in time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Arrivals {
    /// Evenly spaced (D/...): gap = 1 / rate.
    Constant,
    /// A Poisson process (M/...): independent exponential gaps of mean 1 / rate.
    Poisson,
}

/// The rate over time: linear pieces one after another.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Profile {
    /// The pieces, in order; never empty.
    pub segments: Vec<ProfileSegment>,
    /// Whether the pieces start again when they end; otherwise the last rate holds.
    pub repeat: bool,
}

/// A piece of a profile: the rate moves linearly from `from` to `to` during `span`.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ProfileSegment {
    /// How long it lasts.
    pub span: Span,
    /// Rate at its start.
    pub from: Rate,
    /// Rate at its end.
    pub to: Rate,
}

impl ProfileSegment {
    /// Messages in the first `seconds` of the piece: the integral of a linear rate.
    pub fn messages(&self, seconds: f64) -> f64 {
        let slope = (self.to.0 - self.from.0) / self.span.as_secs_f64().max(f64::MIN_POSITIVE);
        let slope = if self.span.0 == 0 { 0.0 } else { slope };
        self.from.0 * seconds + slope * seconds * seconds / 2.0
    }
}

impl Profile {
    /// A constant rate without end.
    pub fn constant(rate: Rate) -> Self {
        Self { segments: vec![ProfileSegment { span: Span(SECOND), from: rate, to: rate }], repeat: false }
    }

    /// Messages scheduled from 0 until `span`.
    pub fn messages(&self, span: Span) -> f64 {
        let cycle: u64 = self.segments.iter().map(|s| s.span.0).sum();
        let per_cycle: f64 = self.segments.iter().map(|s| s.messages(s.span.as_secs_f64())).sum();
        let (mut total, mut left) = (0.0, span.0);
        if self.repeat && cycle > 0 {
            total += (left / cycle) as f64 * per_cycle;
            left %= cycle;
        }
        for s in &self.segments {
            let part = left.min(s.span.0);
            total += s.messages(Span(part).as_secs_f64());
            left -= part;
        }
        let last = self.segments.last().map_or(0.0, |s| s.to.0);
        total + last * Span(left).as_secs_f64()
    }

    /// The highest rate of the profile.
    pub fn peak(&self) -> Rate {
        Rate(self.segments.iter().flat_map(|s| [s.from.0, s.to.0]).fold(0.0, f64::max))
    }
}

/// What is in a message. Every message begins with the 44-byte envelope of `load::message`; the
/// rest is the body.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Payload {
    /// Bytes on the wire of one message, envelope included. For a file, the lines decide and this
    /// is their summary.
    pub size: PayloadSize,
    /// What the body consists of.
    pub content: Content,
}

/// The distribution of message sizes, envelope included.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum PayloadSize {
    /// Always so many bytes.
    Fixed(Bytes),
    /// Uniform between both, inclusive.
    Uniform {
        /// The smallest.
        min: Bytes,
        /// The largest.
        max: Bytes,
    },
    /// Log-normal, cut off at `max`: most messages near the median, few that are large.
    LogNormal {
        /// Half of the messages are smaller.
        median: Bytes,
        /// 99 % of the messages are smaller.
        p99: Bytes,
        /// None is larger.
        max: Bytes,
    },
}

impl PayloadSize {
    /// Every size changed in the same way.
    pub fn map(self, change: impl Fn(u64) -> u64) -> Self {
        let change = |size: Bytes| Bytes(change(size.0));
        match self {
            Self::Fixed(size) => Self::Fixed(change(size)),
            Self::Uniform { min, max } => Self::Uniform { min: change(min), max: change(max) },
            Self::LogNormal { median, p99, max } => {
                Self::LogNormal { median: change(median), p99: change(p99), max: change(max) }
            }
        }
    }
    /// The largest size that may occur.
    pub fn largest(&self) -> Bytes {
        match *self {
            Self::Fixed(size) => size,
            Self::Uniform { max, .. } | Self::LogNormal { max, .. } => max,
        }
    }
    /// The smallest size that may occur.
    pub fn smallest(&self) -> Bytes {
        match *self {
            Self::Fixed(size) => size,
            Self::Uniform { min, .. } => min,
            Self::LogNormal { .. } => Bytes(0),
        }
    }
}

/// What the body of a message consists of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Content {
    /// Bytes that no compressor makes smaller.
    Random,
    /// English-like words, about 3:1 under common compressors.
    Text,
    /// Zero bytes.
    Zero,
    /// Real messages: the lines of a file, or the files of a directory, in turn.
    File {
        /// Path as resolved against the scenario's folder.
        path: String,
        /// SHA-256 of all messages in order, so that a result names its input.
        sha256: String,
        /// How many messages it holds.
        messages: u64,
    },
}
