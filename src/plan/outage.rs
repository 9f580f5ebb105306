//! How outages are measured, and what is asked of them.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::units::Span;

/// How outages are measured.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct OutageSpec {
    /// A message that is acknowledged, or delivered, at most so long after it was due is in time.
    pub deadline: Span,
    /// How soon clients connect again.
    #[serde(default)]
    pub reconnect: ReconnectPace,
}

/// How soon a client that has lost its connection, or whose request has failed, tries again.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum ReconnectPace {
    /// As its library does unless it is told otherwise.
    #[default]
    Usual,
    /// Every 10 ms, through every client alike; a server that says nothing for 2 s is given up.
    Fast,
}

impl Default for OutageSpec {
    fn default() -> Self {
        Self { deadline: Span::secs(1), reconnect: ReconnectPace::Usual }
    }
}

impl OutageSpec {
    /// Whether it is as where the scenario says nothing.
    pub fn is_usual(&self) -> bool {
        *self == Self::default()
    }
}

/// What is measured of the faults of a trial.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OutageField {
    /// The longest run of due messages that were not acknowledged in time, of the worst lane, and
    /// the sum over all lanes.
    Write,
    WriteSum,
    /// The same of deliveries.
    Read,
    ReadSum,
    /// From the fault until every lane has acknowledged a message that was due after it.
    FirstAck,
    /// The same of deliveries.
    FirstDelivery,
    /// From the fault until the p99 was in its band from before.
    Recovery,
    /// The share of due messages that were not done in time.
    LateShare,
    /// The share of lanes with an outage.
    Blast,
    /// The most messages that were due and not done, and the time until they were gone.
    Backlog,
    Drain,
    /// From the fault until all nodes and replicas were there again.
    Redundancy,
    /// From when a bare client found the system ready until every lane had done a message that was
    /// due after the fault: what the client adds.
    Client,
    /// CPU seconds, and bytes to disks, beyond what was used before.
    CatchUpCpu,
    CatchUpBytes,
    /// Messages that were acknowledged and never delivered; and how much time has such messages.
    LostAcked,
    LostAckedSpan,
    Duplicated,
    Reordered,
    /// Messages for which the client was given an error, and connections that were lost.
    Refused,
    Disconnects,
}

impl OutageField {
    /// All of them.
    pub const ALL: [Self; 21] = [
        Self::Write,
        Self::WriteSum,
        Self::Read,
        Self::ReadSum,
        Self::FirstAck,
        Self::FirstDelivery,
        Self::Recovery,
        Self::LateShare,
        Self::Blast,
        Self::Backlog,
        Self::Drain,
        Self::Redundancy,
        Self::Client,
        Self::CatchUpCpu,
        Self::CatchUpBytes,
        Self::LostAcked,
        Self::LostAckedSpan,
        Self::Duplicated,
        Self::Reordered,
        Self::Refused,
        Self::Disconnects,
    ];

    /// Its name behind `outage.`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Write => "write",
            Self::WriteSum => "write_sum",
            Self::Read => "read",
            Self::ReadSum => "read_sum",
            Self::FirstAck => "first_ack",
            Self::FirstDelivery => "first_delivery",
            Self::Recovery => "recovery",
            Self::LateShare => "late_share",
            Self::Blast => "blast",
            Self::Backlog => "backlog",
            Self::Drain => "drain",
            Self::Redundancy => "redundancy",
            Self::Client => "client",
            Self::CatchUpCpu => "catch_up_cpu_s",
            Self::CatchUpBytes => "catch_up_bytes",
            Self::LostAcked => "lost_acked",
            Self::LostAckedSpan => "lost_acked_span",
            Self::Duplicated => "duplicated",
            Self::Reordered => "reordered",
            Self::Refused => "refused",
            Self::Disconnects => "disconnects",
        }
    }

    /// Whether faults of one moment have the same of it: it is counted in the window of each.
    pub fn shared(self) -> bool {
        matches!(self, Self::Duplicated | Self::Reordered | Self::Refused | Self::Disconnects)
    }

    /// Whether its value of a trial is the sum over the faults; otherwise it is their median.
    pub fn adds_up(self) -> bool {
        matches!(
            self,
            Self::LostAcked
                | Self::LostAckedSpan
                | Self::Duplicated
                | Self::Reordered
                | Self::Refused
                | Self::Disconnects
        )
    }
}

/// Of which of the faults of a trial the value is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OfFaults {
    /// The median; the sum of what adds up.
    Typical,
    /// The worst.
    Worst,
}

/// A metric of outages: `write`, or `write.max` for the worst of the faults of a trial.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OutageMetric {
    pub field: OutageField,
    pub of: OfFaults,
}

impl OutageMetric {
    /// From what stands behind `outage.`.
    pub fn read(text: &str) -> Option<Self> {
        let (name, of) = match text.strip_suffix(".max") {
            Some(name) => (name, OfFaults::Worst),
            None => (text, OfFaults::Typical),
        };
        OutageField::ALL.into_iter().find(|field| field.name() == name).map(|field| Self { field, of })
    }
}

impl fmt::Display for OutageMetric {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let suffix = if self.of == OfFaults::Worst { ".max" } else { "" };
        write!(f, "{}{suffix}", self.field.name())
    }
}
