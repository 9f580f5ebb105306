//! What one trial measured: books, distributions, resources, checks.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::outage::FaultEffect;
use crate::plan::facts::Incident;
use crate::plan::{Action, Role};
use crate::units::Nanos;

/// What one workload came to.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct WorkloadResult {
    /// `Workload::name`.
    pub name: String,
    /// The books of the measured phase.
    pub ledger: Ledger,
    /// Rates over the measured phase.
    pub throughput: Throughput,
    /// One summary for each kind of latency: `e2e`, `e2e.service`, `rtt`, `rtt.service`, `ack`,
    /// `ack.service`, `lag`.
    ///
    /// With slow consumers also `e2e.slow`; of agents whose clocks differ `e2e.same-agent`, of the
    /// messages whose sender and receiver are one agent; with a backlog `ack.before-replay`,
    /// `ack.during-replay`, `ack.after-replay` and the same of `e2e`.
    pub latency: BTreeMap<String, LatencySummary>,
    /// What the system promised of these messages, and whether it kept it.
    #[serde(default)]
    pub promises: Vec<Promise>,
    /// The books of each group of consumers, where groups are there for different things.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub groups: Vec<GroupResult>,
    /// How the backlog was read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replay: Option<Replay>,
    /// What was kept of its messages, where the scenario says what is to be.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kept: Option<Kept>,
    /// What it did to the members of the first group that consumers came, left and died.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub membership: Vec<MembershipChange>,
    /// What each fault of the trial did to it; absent where nothing was done to the system.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub outages: Vec<FaultEffect>,
    /// Who tried to get in, and what came of it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub intrusions: Vec<IntrusionResult>,
}

/// A consumer came, left or died, and what that did to the members of its group until the next
/// event of a consumer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct MembershipChange {
    /// When, seconds since the measured phase began.
    pub at_s: f64,
    pub action: Action,
    /// Which member it was.
    pub consumer: u32,
    /// How long the call took that made it come or leave, seconds; null when it was not made.
    pub took_s: Option<f64>,
    /// The members that received something afterwards.
    pub members: Vec<MemberEffect>,
}

/// What one member of a group noted after an event.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct MemberEffect {
    /// Which member.
    pub consumer: u32,
    /// From the event to its first message, seconds.
    pub first_s: Option<f64>,
    /// The longest time between two of its messages of which the second came after the event, as
    /// far as it lies in the measured phase, seconds.
    pub silence_s: Option<f64>,
    /// Messages that came more than 100 ms after they were due.
    pub late: u64,
    /// How late the latest of them was, seconds.
    pub latest_s: Option<f64>,
}

impl WorkloadResult {
    /// Messages that were owed and never arrived; where nobody receives and all is read back, those
    /// that were not there.
    pub fn lost(&self) -> u64 {
        match &self.kept {
            Some(kept) if self.ledger.expected == 0 => kept.missing,
            _ => self.ledger.lost,
        }
    }

    /// Whether nobody receives what is sent and nobody confirms it: what became of it is not known.
    pub fn only_sends(&self) -> bool {
        self.throughput.received.is_none()
            && self.throughput.delivered == 0.0
            && (self.ledger.expected, self.ledger.acked) == (0, 0)
            && self.kept.is_none()
    }

    /// The rate that heads it: what was delivered, or, where that is nobody's to know, sent.
    pub fn rate(&self) -> f64 {
        if self.only_sends() { self.throughput.sent } else { self.throughput.delivered }
    }
}

/// What came of the tries of one kind of intruder.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct IntrusionResult {
    /// What he lacks.
    pub who: String,
    /// Tries that were decided.
    pub tries: u64,
    /// Of these, taken by the system. What only arrived is in the ledger alone.
    pub let_in: u64,
    /// What the system said, or what was observed, the first time.
    pub said: String,
}

/// A promise of the system's configuration, held against the ledger.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Promise {
    /// What was promised, as read back: `at least once`, `exactly once`,
    /// `order per producer and subject`, ...
    pub promised: String,
    /// Whether the ledger bears it out.
    pub kept: bool,
    /// What the ledger shows.
    pub observed: String,
}

/// What a system has kept of a workload when its load was over, held against what it was to keep.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Kept {
    /// What was promised, in words.
    pub promise: String,
    /// Whether it was kept.
    pub holds: bool,
    /// Acknowledged messages that had to be there when they were first read.
    pub owed: u64,
    /// Of these, not there. Of those that are read again later, too.
    pub missing: u64,
    /// Messages that were there when they were first read.
    pub read: u64,
    /// Messages that were there at the end and should have been gone.
    pub beyond: u64,
    /// Their bytes as stored, at least.
    pub beyond_bytes: u64,
    /// Messages that were read after a later one of the same producer and channel, or key.
    pub reordered: u64,
    /// Messages that were there more than once.
    pub duplicated: u64,
    /// Messages that could not be read.
    pub corrupted: u64,
    /// How long after the end of the load what should be gone was gone, but for what may be there
    /// beyond the limit; null when it was not within its time.
    pub settled_s: Option<f64>,
}

impl Kept {
    /// Whether all that was wrong is that messages were not there.
    pub fn only_missing(&self) -> bool {
        self.missing > 0 && self.reordered == 0 && self.corrupted == 0
    }

    /// The same as a promise.
    pub fn as_promise(&self) -> Promise {
        let Self { owed, missing, read, beyond, beyond_bytes, .. } = self;
        let mut observed =
            format!("{read} read, {missing} of {owed} missing, {beyond} more than promised ({beyond_bytes} B)");
        for (count, what) in [(self.reordered, "out of order"), (self.corrupted, "damaged")] {
            if count > 0 {
                observed += &format!(", {count} {what}");
            }
        }
        Promise { promised: self.promise.clone(), kept: self.holds, observed }
    }
}

/// The books of one group of consumers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct GroupResult {
    /// Its number, from 0.
    pub group: u32,
    /// What its consumers are there for.
    pub role: Role,
    /// Deliveries owed.
    pub expected: u64,
    /// Deliveries made.
    pub delivered: u64,
    /// Deliveries owed and not made.
    pub lost: u64,
}

/// How a backlog was read while publishing went on.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Replay {
    /// Messages that were stored beforehand.
    pub backlog: u64,
    /// Of those, read.
    pub delivered: u64,
    /// When reading began, seconds since the measured phase began.
    pub begun_s: f64,
    /// From the request for the first message until its arrival, seconds.
    pub first_s: Option<f64>,
    /// From the request until a message arrived within 100 ms of its publication, seconds; null
    /// when it never did.
    pub catch_up_s: Option<f64>,
    /// Messages read per second, backlog and new ones, until then (or until the end of the
    /// backlog).
    pub rate: Option<f64>,
}

/// The books of the measured phase: messages whose intended time lies in it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Ledger {
    /// Due by the schedule.
    pub scheduled: u64,
    /// Handed to the client, whenever that was.
    pub sent: u64,
    /// Of the sent, those that were handed over only after the measured phase had ended: they are
    /// in no rate.
    #[serde(default)]
    pub sent_late: u64,
    /// Refused by the client or the broker, with an error.
    pub refused: u64,
    /// Confirmed by the broker, where it confirms.
    pub acked: u64,
    /// Requests that nobody was there to answer, as the broker said.
    #[serde(default)]
    pub unanswered: u64,
    /// Deliveries owed: `sent` x groups.
    pub expected: u64,
    /// Deliveries made, each message once per group.
    pub delivered: u64,
    /// Deliveries owed and never made: `expected` - `delivered` - `dead_lettered` - `superseded` -
    /// `in_flight`.
    pub lost: u64,
    /// Deliveries owed that were on their way when the user gave the trial up: neither made nor
    /// lost.
    #[serde(default)]
    pub in_flight: u64,
    /// Of the lost, those of messages that the broker had confirmed.
    #[serde(default)]
    pub acked_lost: u64,
    /// Of the lost, those that the client library must have dropped (its own slow-consumer policy):
    /// no more than is certain.
    pub client_dropped: u64,
    /// Deliveries of a message that the group had before.
    pub duplicated: u64,
    /// Deliveries after one of a later message of the same producer and channel (or key), to the
    /// same consumer.
    pub reordered: u64,
    /// Deliveries that a consumer rejected, as the scenario asks.
    #[serde(default)]
    pub rejected: u64,
    /// Messages that came again after a rejection, and were taken.
    #[serde(default)]
    pub redelivered: u64,
    /// Messages that went down the dead-letter path, each once for each group.
    #[serde(default)]
    pub dead_lettered: u64,
    /// Updates of a key-value store that a watcher did not get because so many later values of the
    /// same key came first that the store may have replaced them.
    #[serde(default)]
    pub superseded: u64,
    /// Messages whose checksum did not hold.
    pub corrupted: u64,
    /// Messages of another run, or of none.
    pub foreign: u64,
    /// Tries of intruders that were decided.
    #[serde(default)]
    pub intrusions: u64,
    /// Of these, refused, or without any effect.
    #[serde(default)]
    pub intrusions_refused: u64,
    /// Of these, successful: the system took a message or a subscription, or a message arrived.
    #[serde(default)]
    pub let_in: u64,
}

/// Rates over the measured phase, in messages per second.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Throughput {
    /// Scheduled by the plan; absent where the system decides (unthrottled, closed loop).
    pub offered: Option<f64>,
    /// Handed to the client within the measured phase.
    pub sent: f64,
    /// Received for the first time within the measured phase, by all groups of consumers (answers,
    /// where there are requesters; acknowledgements, where nobody receives). A record without
    /// `received` counts duplicates here, too.
    pub delivered: f64,
    /// The same in payload bytes per second.
    pub delivered_bytes: f64,
    /// Everything received within the measured phase, duplicates included; null where nobody
    /// receives.
    #[serde(default)]
    pub received: Option<f64>,
    /// The same in payload bytes per second.
    #[serde(default)]
    pub received_bytes: Option<f64>,
}

/// A distribution of latencies, in nanoseconds. Lost messages count as +infinity.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct LatencySummary {
    /// Samples recorded.
    pub count: u64,
    /// Samples that are +infinity: messages that never arrived.
    pub lost: u64,
    /// Samples above the range of the histogram, recorded as its upper end.
    pub clipped: u64,
    /// Samples below zero: the clock, or the books, are wrong.
    pub negative: u64,
    /// The smallest.
    pub min_ns: Nanos,
    /// The largest; null when messages were lost.
    pub max_ns: Option<Nanos>,
    /// The arithmetic mean of what arrived.
    pub mean_ns: f64,
    /// The quantiles of the plan.
    pub percentiles: Vec<Percentile>,
    /// The percentile curve: points of rising quantile up to the last sample, for the chart.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub curve: Vec<(f64, Nanos)>,
    /// By how much each sample may be wrong because sender and receiver have different clocks;
    /// absent where both ends are read off one clock.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub clocks: Option<ClockDoubt>,
}

/// By how much a time from one clock to another may be wrong, up or down.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ClockDoubt {
    /// Nanoseconds, of the two agents whose clocks are known least; null where one is not known.
    pub bound_ns: Option<Nanos>,
}

impl LatencySummary {
    /// The value at a quantile of the plan: `None` when it was not computed, `Some(None)` when it
    /// is infinite.
    pub fn at(&self, quantile: f64) -> Option<&Percentile> {
        self.percentiles.iter().find(|p| (p.quantile - quantile).abs() < 1e-9)
    }
}

/// One quantile of a distribution.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Percentile {
    /// In (0, 1).
    pub quantile: f64,
    /// Its value; null is +infinity.
    pub value_ns: Option<Nanos>,
    /// Samples expected above it, n x (1 - quantile).
    pub exceedances: f64,
    /// Whether enough samples stand behind it to be shown: at least 10 above it.
    pub printable: bool,
    /// 95 % interval of this run's value, allowing for correlation between messages; null above is
    /// beyond the largest. Where sender and receiver have different clocks, it is wider by their
    /// bound on both sides (`clocks` of the latency).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ci95_ns: Option<(Nanos, Option<Nanos>)>,
    /// Over-dispersion: by how much correlation inflates the variance; n / phi messages would know
    /// as much.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub phi: Option<f64>,
    /// What the harness itself shows at this quantile and rate on this host, ns, where the value is
    /// below three times that: it is as much the harness's as the system's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub near_floor_ns: Option<Nanos>,
    /// Effective samples expected above it, exceedances / phi.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub effective: Option<f64>,
    /// Whether blocks are many and long enough for the interval to be believed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reliable: Option<bool>,
    /// What the value hangs on, where fewer than 10 effective samples are above it because slow
    /// messages came together: it is that of this run, and says little of the next one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub doubt: Option<TailDoubt>,
}

impl Percentile {
    /// Whether it may be shown, and nothing has to be said with it.
    pub fn firm(&self) -> bool {
        self.printable && self.doubt.is_none()
    }
}

impl TailDoubt {
    /// Of more episodes than these it is no event any more that decides.
    const EVENTS: u32 = 3;

    /// Whether few episodes are most of the samples above the percentile.
    pub fn decides(&self) -> bool {
        (1..=Self::EVENTS).contains(&self.episodes) && self.share >= 0.5
    }
}

impl std::fmt::Display for TailDoubt {
    /// `one stall of 1.00s (at 10.0 s)`, `3 slow spells, the longest 2.90ms (at 7.0 s)`.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let kind = if self.stall { "stall" } else { "slow spell" };
        let longest = crate::units::latency(self.longest_ns);
        match self.episodes {
            0 => f.write_str("slow messages that came together"),
            1 => write!(f, "one {kind} of {longest} (at {:.1} s)", self.at_s),
            // Of the others it is not known whether anything moved in them.
            n if self.stall => write!(f, "{n} slow spells, the longest a stall of {longest} (at {:.1} s)", self.at_s),
            n => write!(f, "{n} slow spells, the longest {longest} (at {:.1} s)", self.at_s),
        }
    }
}

/// The stalls, or slow spells, that most of the samples above a percentile are of.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct TailDoubt {
    /// How many: runs of intervals with clearly more samples above the percentile than their share.
    pub episodes: u32,
    /// Their share of the samples above it.
    pub share: f64,
    /// The longest response in them.
    pub longest_ns: Nanos,
    /// Start of the interval that has it, seconds since the measured phase began.
    pub at_s: f64,
    /// Whether that one is a stall, in which nothing moved: all that was due in it came late.
    pub stall: bool,
}

/// CPU, memory and scheduling of a set of processes over the measured phase.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Resources {
    /// User plus system CPU seconds.
    pub cpu_seconds: f64,
    /// CPU microseconds for each message delivered for the first time within the measured phase
    /// (acknowledged, where those are more; sent, where there are neither).
    pub cpu_us_per_msg: Option<f64>,
    /// Largest resident set seen, bytes.
    pub rss_peak_bytes: u64,
    /// Mean of the resident set at the ends of intervals, bytes; absent where it was not sampled.
    #[serde(default)]
    pub rss_mean_bytes: Option<u64>,
    /// Bytes sent to a disk in the measured phase; what stays in the page cache is not in it.
    #[serde(default)]
    pub disk_written_bytes: u64,
    /// Voluntary context switches.
    pub voluntary_switches: u64,
    /// Involuntary context switches.
    pub involuntary_switches: u64,
    /// Threads at the end.
    pub threads: u32,
}

/// One validity check.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Check {
    /// `V1`, `V2`, ... of docs/measurement.md.
    pub id: String,
    /// What it checks, in words.
    pub name: String,
    /// Its result.
    pub status: Status,
    /// What was observed, with unit.
    pub observed: String,
    /// What would have been accepted.
    pub threshold: String,
    /// What it means and what to do, where it is not OK.
    pub message: String,
}

/// The result of a validity check; ordered by gravity.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "UPPERCASE")]
pub enum Status {
    /// Within its threshold.
    Ok,
    /// It could not be made: neither held nor broken. Never to be counted as passed.
    #[serde(rename = "NOT JUDGED")]
    NotJudged,
    /// Worth knowing; the figures may be used with that said.
    Warn,
    /// The figures may not be believed.
    Invalid,
}

/// Something that happened during a trial.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Event {
    /// Seconds since the measured phase began; negative before it.
    pub at_s: f64,
    /// What kind of thing happened; `other` in records of before kinds were kept.
    #[serde(default)]
    pub kind: Incident,
    /// What happened, in words.
    pub text: String,
}

/// One line of `intervals.csv`: one workload during one interval, by intended time for latencies
/// and by wall time for the counts of throughput.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Interval {
    /// `Case::id`.
    pub case: String,
    /// Round, from 1.
    pub round: u32,
    /// `Workload::name`.
    pub workload: String,
    /// Start, seconds since the measured phase began (negative during warm-up).
    pub start_s: f64,
    /// Length in seconds.
    pub length_s: f64,
    /// Messages due by the schedule.
    pub scheduled: u64,
    /// Messages handed to the client.
    pub sent: u64,
    /// Messages received for the first time by their group.
    pub delivered: u64,
    /// Response latency (e2e or rtt) of messages intended in this interval; empty where none
    /// arrived.
    pub p50_ns: Option<Nanos>,
    /// The 99th percentile.
    pub p99_ns: Option<Nanos>,
    /// The 99.9th percentile.
    pub p999_ns: Option<Nanos>,
    /// The largest.
    pub max_ns: Option<Nanos>,
    /// The largest lag.
    pub lag_max_ns: Option<Nanos>,
    /// The largest hiccup of the host.
    pub hiccup_max_ns: Option<Nanos>,
    /// CPU seconds of the broker.
    pub broker_cpu_s: Option<f64>,
    /// Resident set of the broker at the end, bytes.
    pub broker_rss_bytes: Option<u64>,
}
