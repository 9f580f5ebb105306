//! What a fault did to a workload.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::units::Nanos;

/// What one fault did to a workload: to what was due, or came, from the fault until the next one,
/// or until the load ended.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct FaultEffect {
    /// Which of the trial's `faults`, from 0.
    pub fault: u32,
    /// From when messages were due until they were acknowledged; null where nothing is.
    pub write: Option<OutageResult>,
    /// From when messages were due until they were delivered, or answered; null where nothing is.
    pub read: Option<OutageResult>,
    /// From the fault until a bare client, which tries every 10 ms, found the system ready: the one
    /// server answered, or a node of the cluster led the stream or first partition of the first
    /// workload. Null where it was never seen away, or not ready again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ready_s: Option<f64>,
    /// Messages that were acknowledged and never delivered, as far as they are the fault's: sent
    /// before it and after the one before, or before all was as it was.
    pub lost_acked: u64,
    /// How much time, by when messages were sent, has such messages, seconds.
    pub lost_acked_s: f64,
    /// Deliveries of a message that the consumer had before, and after a later message.
    pub duplicated: u64,
    pub reordered: u64,
    /// Messages for which the client was given an error.
    pub refused: u64,
    /// Connections that the client lost, all workloads together, as far as they are noted.
    pub disconnects: u64,
    /// CPU seconds of the system beyond what it used before, from the fault until all replicas were
    /// up to date (until the latency was as before, where that is not known); null where neither
    /// was seen.
    pub catch_up_cpu_s: Option<f64>,
    /// The same of bytes that went to a disk.
    #[serde(default)]
    pub catch_up_bytes: Option<u64>,
}

/// What a fault did to the writes, or to the deliveries, of a workload.
///
/// A lane is a partition or subject: the channel of a message, or its key where messages have keys.
/// For deliveries each group of consumers has lanes of its own.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct OutageResult {
    /// The longest outage of a lane, seconds: from when the first message was due that was not done
    /// within the deadline until the first one afterwards was that was. 0 where all were in time;
    /// null where it was not over when the load ended. Where nothing is due for a while, an outage
    /// is over when all that was due before is done.
    pub longest_s: Option<f64>,
    /// Messages were late between others that were not, in one of the slots of due time, which are
    /// long in a long phase with many lanes: an outage up to so long, seconds, may not be seen. A
    /// shorter `longest_s` is then in no metric.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hidden_s: Option<f64>,
    /// At least so long, where it was not over.
    pub at_least_s: f64,
    /// The sum over all lanes; null where one was not over.
    pub sum_s: Option<f64>,
    /// From the fault until each lane had done a message that was due after it, seconds: the last
    /// lane. Null where one never did, or where it is `idle`.
    pub first_s: Option<f64>,
    /// Whether nothing was due after the fault.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub idle: bool,
    /// Whether enough was due before to know how latency is where all is well.
    pub judged: bool,
    /// From the fault until the p99 of what was due in the next 5 s (or until the next fault) was
    /// at most half more than the highest p99 of a second before the fault; null where it was not,
    /// or where it is not `judged`.
    pub recovery_s: Option<f64>,
    /// Lanes in which something was due, or on its way, and of these with an outage.
    pub lanes: u32,
    pub hit: u32,
    /// Messages due, and of these not done within the deadline.
    pub due: u64,
    pub late: u64,
    /// The most messages that were due and not done, without those that never were.
    pub backlog: u64,
    /// From then until there were no more than before the fault, seconds; null where that was not
    /// before the next fault, or the end.
    pub drain_s: Option<f64>,
    /// Whether an outage of before was still going on when the fault came: then what is here is not
    /// the fault's alone, and is in no metric.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub unsettled: bool,
    /// The latency around the fault, by when messages were due.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub around: Vec<LatencyAround>,
    /// Each lane with an outage.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub by_lane: Vec<LaneResult>,
}

/// The latency of what was due in a short time around a fault.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct LatencyAround {
    /// When that time begins, seconds since the fault.
    pub s: f64,
    /// The p99, to an eighth; null where more than 1 % was never done.
    pub p99_ns: Option<Nanos>,
}

/// The outage of one lane.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct LaneResult {
    /// The group of consumers, for deliveries, and the lane within it, from 0.
    pub group: u32,
    pub lane: u32,
    /// When it began, seconds since the measured phase began.
    pub from_s: f64,
    /// How long it lasted, seconds; null where it was not over.
    pub outage_s: Option<f64>,
}
