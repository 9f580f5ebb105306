//! What a scenario does to a system, to the network or to a consumer while it is measured.

use std::fmt;

use schemars::JsonSchema;
use serde::de::{Deserializer, Error, IntoDeserializer as _, Visitor};
use serde::{Deserialize, Serialize};

use crate::units::Span;

/// Something that is done to a process of a launched system, to the network, or to a consumer; once
/// or again and again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PlannedEvent {
    /// When, since the measured phase began.
    pub at: Span,
    pub action: Action,
    /// To which of its processes.
    pub node: NodeChoice,
    /// With an action of the network: it is about the network of that node alone.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub alone: bool,
    /// The workload whose stream or topic a role is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub workload: Option<String>,
    /// To which member of the first group of each workload, from 0, where it is about one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub consumer: Option<u32>,
    /// How the network is shaped, in the words of tc(8).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub qdisc: Option<String>,
    /// How it comes again, where it does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub repeat: Option<Repeat>,
    /// Each time is later by a random part of this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub within: Option<Span>,
    /// So long after it began it is undone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lasts: Option<Span>,
}

/// An event that comes again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Repeat {
    /// From one time to the next, before chance.
    pub every: Span,
    /// How often in all.
    pub count: u32,
}

/// Which nodes of a system an event is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(untagged)]
pub enum NodeChoice {
    /// Counted from 0.
    Number(u32),
    /// Those that have this role when the event fires.
    Role(ClusterRole),
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
    /// What leads the stream, or partition 0 of the topic, of a workload hands over to another
    /// node, as before maintenance.
    Transfer,
    /// Each node in turn is asked to end (SIGTERM) and started again when it has; the next one when
    /// the cluster has settled.
    RollingRestart,
    /// It is killed, its files lose what was not synced, and it is started again on the same port
    /// with what is left.
    Power,
    /// The network between all processes of the trial is gone; connections are not closed.
    Cut,
    /// The network is shaped by a queueing discipline of the kernel: delay, loss, rate.
    Shape,
    /// The network is there again, and as it was.
    Mend,
    /// Each producer that has transactions dies in the middle of one, and another one takes its
    /// place.
    ProducerKill,
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
            Self::Transfer => "transfer",
            Self::RollingRestart => "rolling-restart",
            Self::Power => "power",
            Self::Cut => "cut",
            Self::Shape => "shape",
            Self::Mend => "mend",
            Self::ProducerKill => "producer-kill",
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
        !self.of_network() && !self.of_consumer() && self != Self::ProducerKill
    }
    /// Whether the process that was there is gone afterwards.
    pub fn ends(self) -> bool {
        matches!(self, Self::Kill | Self::Terminate | Self::Restart | Self::Power | Self::RollingRestart)
    }
    /// Whether a node that it was done to is started again at once, where it is not said when.
    pub fn starts_again(self) -> bool {
        matches!(self, Self::Restart | Self::Power)
    }
    /// Whether it is over by itself.
    pub fn passes(self) -> bool {
        self.starts_again() || matches!(self, Self::Transfer | Self::RollingRestart | Self::ProducerKill)
    }
    /// What undoes it after a while; `None` where nothing does.
    pub fn undone_by(self) -> Option<Self> {
        match self {
            Self::Pause => Some(Self::Resume),
            Self::Kill | Self::Terminate | Self::Power => Some(Self::Restart),
            Self::Cut | Self::Shape => Some(Self::Mend),
            _ => None,
        }
    }
}

impl ClusterRole {
    /// The name in a scenario.
    pub fn name(self) -> &'static str {
        match self {
            Self::Leader => "leader",
            Self::Follower => "follower",
            Self::Controller => "controller",
            Self::MetaLeader => "meta-leader",
            Self::All => "all",
        }
    }
    /// Whether it is about the stream or topic of a workload.
    pub fn of_workload(self) -> bool {
        matches!(self, Self::Leader | Self::Follower)
    }
}

impl<'de> Deserialize<'de> for NodeChoice {
    // By hand, because an untagged enum would forget where in the file the mistake is.
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        struct ChoiceVisitor;
        impl Visitor<'_> for ChoiceVisitor {
            type Value = NodeChoice;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("the number of a node, or a role such as \"leader\"")
            }
            fn visit_str<E: Error>(self, word: &str) -> Result<NodeChoice, E> {
                ClusterRole::deserialize(word.into_deserializer()).map(NodeChoice::Role)
            }
            fn visit_i64<E: Error>(self, number: i64) -> Result<NodeChoice, E> {
                u32::deserialize(number.into_deserializer()).map(NodeChoice::Number)
            }
            fn visit_u64<E: Error>(self, number: u64) -> Result<NodeChoice, E> {
                u32::deserialize(number.into_deserializer()).map(NodeChoice::Number)
            }
        }
        d.deserialize_any(ChoiceVisitor)
    }
}

impl NodeChoice {
    /// The role, where it is chosen by one.
    pub fn role(self) -> Option<ClusterRole> {
        match self {
            Self::Number(_) => None,
            Self::Role(role) => Some(role),
        }
    }
}

impl PlannedEvent {
    /// Done once, to the first node or to a consumer.
    pub fn once(at: Span, action: Action) -> Self {
        Self {
            at,
            action,
            node: NodeChoice::Number(0),
            alone: false,
            workload: None,
            consumer: None,
            qdisc: None,
            repeat: None,
            within: None,
            lasts: None,
        }
    }

    /// How often it is done.
    pub fn count(&self) -> u32 {
        self.repeat.map_or(1, |r| r.count)
    }

    /// From the start of the measured phase until the last repetition is undone, as far as is
    /// known beforehand.
    pub fn end(&self) -> Span {
        let repeats = self.repeat.map_or(0, |r| r.every.0.saturating_mul(u64::from(r.count.saturating_sub(1))));
        let spans = [repeats, self.within.map_or(0, |s| s.0), self.lasts.map_or(0, |s| s.0)];
        Span(spans.into_iter().fold(self.at.0, u64::saturating_add))
    }

    /// What it is done to.
    pub fn whom(&self) -> String {
        match (self.consumer, self.node) {
            (Some(consumer), _) => format!("consumer {consumer}"),
            (None, _) if self.action.of_network() && !self.alone => "the network".into(),
            (None, _) if self.action == Action::ProducerKill => "each producer with transactions".into(),
            (None, _) if self.action == Action::RollingRestart => "each node in turn".into(),
            (None, NodeChoice::Number(node)) => format!("node {node}"),
            (None, NodeChoice::Role(ClusterRole::All)) => "all nodes".into(),
            (None, NodeChoice::Role(role)) => match &self.workload {
                Some(workload) if role.of_workload() => format!("the {} of {workload}", role.name()),
                _ => format!("the {}", role.name()),
            },
        }
    }

    /// When, in words: `at 5s`, `at 10s to 15s, every 30s, 20 times, each for 5s`.
    pub fn when(&self) -> String {
        let mut words = match self.within {
            Some(within) => format!("at {} to {}", self.at, Span(self.at.0.saturating_add(within.0))),
            None => format!("at {}", self.at),
        };
        let again = self.repeat.filter(|r| r.count > 1);
        if let Some(repeat) = again {
            words += &format!(", every {}, {} times", repeat.every, repeat.count);
        }
        if let Some(lasts) = self.lasts {
            words += &format!(", {}for {lasts}", if again.is_some() { "each " } else { "" });
        }
        words
    }
}

/// Whether any of these is done to the system, or to what it was sent: then requests are sent
/// again, and what was acknowledged may come late.
pub fn disturb(events: &[PlannedEvent]) -> bool {
    events.iter().any(|e| !e.action.of_consumer())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_of_before_roles_is_read_as_it_was() {
        let old = r#"{"at":"1s","action":"kill","node":2}"#;
        let read: PlannedEvent = serde_json::from_str(old).unwrap();
        assert_eq!(
            read,
            PlannedEvent { node: NodeChoice::Number(2), ..PlannedEvent::once(Span::secs(1), Action::Kill) }
        );
        assert_eq!((read.whom(), read.when()), ("node 2".into(), "at 1s".into()));
    }

    #[test]
    fn an_event_says_whom_and_when_in_words() {
        let event = PlannedEvent {
            node: NodeChoice::Role(ClusterRole::Leader),
            workload: Some("orders".into()),
            repeat: Some(Repeat { every: Span::secs(30), count: 20 }),
            within: Some(Span::secs(5)),
            lasts: Some(Span::secs(3)),
            ..PlannedEvent::once(Span::secs(10), Action::Kill)
        };
        assert_eq!(event.whom(), "the leader of orders");
        assert_eq!(event.when(), "at 10s to 15s, every 30s, 20 times, each for 3s");
        assert_eq!(event.end(), Span::secs(10 + 19 * 30 + 5 + 3));
        assert_eq!(serde_json::from_value::<PlannedEvent>(serde_json::to_value(&event).unwrap()).unwrap(), event);
    }
}
