//! What a scenario does to a system, to the network or to a consumer while it is measured.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::units::Span;

/// Something that is done to a process of a launched system, to the network, or to a consumer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PlannedEvent {
    /// When, since the measured phase began.
    pub at: Span,
    pub action: Action,
    /// To which of its processes, from 0.
    pub node: u32,
    /// To which member of the first group of each workload, from 0, where it is about one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub consumer: Option<u32>,
    /// How the network is shaped, in the words of tc(8).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub qdisc: Option<String>,
}

/// What can be done to a process, to the network of the trial, or to a consumer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Action {
    /// It stands still (SIGSTOP).
    Pause,
    /// It goes on (SIGCONT).
    Resume,
    /// It is killed (SIGKILL).
    Kill,
    /// It is asked to end (SIGTERM).
    Terminate,
    /// It is killed, unless it has ended already, and started again on the same port and with the
    /// same files.
    Restart,
    /// The network between all processes of the trial is gone; connections are not closed.
    Cut,
    /// The network is shaped by a queueing discipline of the kernel: delay, loss, rate.
    Shape,
    /// The network is there again, and as it was.
    Mend,
    /// A consumer comes. One whose first event this is was not there before.
    ConsumerJoin,
    /// A consumer leaves in order.
    ConsumerLeave,
    /// A consumer ends as one whose process was killed does: nobody is told.
    ConsumerKill,
}

impl Action {
    /// The name in a scenario.
    pub fn name(self) -> &'static str {
        match self {
            Self::Pause => "pause",
            Self::Resume => "resume",
            Self::Kill => "kill",
            Self::Terminate => "terminate",
            Self::Restart => "restart",
            Self::Cut => "cut",
            Self::Shape => "shape",
            Self::Mend => "mend",
            Self::ConsumerJoin => "consumer-join",
            Self::ConsumerLeave => "consumer-leave",
            Self::ConsumerKill => "consumer-kill",
        }
    }
    /// Whether it is done to the network, and to no process.
    pub fn of_network(self) -> bool {
        matches!(self, Self::Cut | Self::Shape | Self::Mend)
    }
    /// Whether it is done to a consumer of msgbench's own.
    pub fn of_consumer(self) -> bool {
        matches!(self, Self::ConsumerJoin | Self::ConsumerLeave | Self::ConsumerKill)
    }
    /// Whether it is done to a process of the system.
    pub fn of_process(self) -> bool {
        !self.of_network() && !self.of_consumer()
    }
    /// Whether the process that was there is gone afterwards.
    pub fn ends(self) -> bool {
        matches!(self, Self::Kill | Self::Terminate | Self::Restart)
    }
}

impl PlannedEvent {
    /// What it is done to.
    pub fn whom(&self) -> String {
        match self.consumer {
            Some(consumer) => format!("consumer {consumer}"),
            None if self.action.of_network() => "the network".into(),
            None => format!("node {}", self.node),
        }
    }
}

/// What a node of a cluster is to the others, as the cluster itself says when it is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum ClusterRole {
    /// It leads the stream, or the first partition, of a workload.
    Leader,
    /// It has a replica of that stream or partition, and does not lead it.
    Follower,
    /// It is the active controller of a Kafka cluster.
    Controller,
    /// It leads the metadata of JetStream.
    MetaLeader,
    /// Every node, whatever it is.
    All,
}
