//! What a driver states of its system, in types: what is promised of messages, and what happened on
//! the way.
//!
//! A level is what the engine judges by. The words beside it are how this system does it, for
//! people alone: nothing reads them back.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How often a message that was taken reaches each group of consumers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Delivery {
    /// Nothing is known of it.
    #[default]
    Unstated,
    /// Nothing is delivered.
    Nothing,
    /// It may be lost, and it may come more than once: nothing is promised.
    Unpromised,
    /// It may be lost and never comes twice.
    AtMostOnce,
    /// An acknowledged one is not lost and may come more than once.
    AtLeastOnce,
    /// An acknowledged one is not lost and never comes twice.
    ExactlyOnce,
}

/// Among which messages of a producer the order is kept.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Order {
    /// Nothing is known of it.
    #[default]
    Unstated,
    /// It is not kept.
    Unpromised,
    /// Among all of them.
    Producer,
    /// Among those to one subscription.
    Subscription,
    /// Among those of one partition.
    Partition,
    /// The same, as long as no request is sent again: several are on their way, and nothing lets
    /// the broker see that one is missing (Kafka's producer without idempotence).
    PartitionUnlessResent,
    /// Among those of one stream, in the order in which it stored them.
    Stream,
}

impl Order {
    /// Whether there is an order that can be broken.
    pub fn promised(self) -> bool {
        !matches!(self, Self::Unstated | Self::Unpromised)
    }
}

/// Who has a message when its producer is told so.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Acknowledgement {
    /// Nothing is known of it.
    #[default]
    Unstated,
    /// Its producer is told nothing.
    None,
    /// The server that took it, or the leader of its partition.
    Leader,
    /// As many replicas as the system wants for one that is safe.
    Replicas,
}

/// Where a message is when it counts as stored.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Durability {
    /// Nothing is known of it.
    #[default]
    Unstated,
    /// Nowhere: it is passed on and forgotten.
    None,
    /// In the memory of the server.
    Memory,
    /// In a file, which the system syncs when it likes, or at times that are not read back.
    File,
    /// In a file that is synced now and then, by time or by count.
    Synced,
    /// In a file that was synced before the message counts.
    SyncedFirst,
}

/// A level, and in words how this system has it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Stated<T> {
    /// What is judged.
    pub level: T,
    /// What is shown; empty where nothing is stated.
    pub words: String,
}

impl<T> Stated<T> {
    /// A level in these words.
    pub fn new(level: T, words: impl Into<String>) -> Self {
        Self { level, words: words.into() }
    }

    /// The words; `not stated` where there are none.
    pub fn shown(&self) -> &str {
        if self.words.is_empty() { "not stated" } else { &self.words }
    }
}

/// What a system promises of the messages it takes, as read back.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Guarantees {
    /// How often each arrives.
    pub delivery: Stated<Delivery>,
    /// In which order they arrive.
    pub order: Stated<Order>,
    /// Who has one that is acknowledged.
    pub acknowledgement: Stated<Acknowledgement>,
    /// Where one is that is stored.
    pub durability: Stated<Durability>,
}

impl Guarantees {
    /// The levels alone.
    pub fn levels(&self) -> Levels {
        Levels {
            delivery: self.delivery.level,
            order: self.order.level,
            acknowledgement: self.acknowledgement.level,
            durability: self.durability.level,
        }
    }

    /// The words by the names that they have in a record; what is not stated is absent.
    pub fn words(&self) -> BTreeMap<String, String> {
        let all = [
            ("delivery", &self.delivery.words),
            ("order", &self.order.words),
            ("acknowledgement", &self.acknowledgement.words),
            ("durability", &self.durability.words),
        ];
        all.into_iter().filter(|(_, w)| !w.is_empty()).map(|(k, w)| (k.into(), w.clone())).collect()
    }
}

/// What a system promises, in levels that another program can compare.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Levels {
    /// How often a message arrives.
    pub delivery: Delivery,
    /// In which order messages arrive.
    pub order: Order,
    /// Who has a message that is acknowledged.
    pub acknowledgement: Acknowledgement,
    /// Where a message is that is stored.
    pub durability: Durability,
}

/// What kind of thing happened during a trial.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Incident {
    /// Something else, or a record of before kinds were kept.
    #[default]
    Other,
    /// The scenario asked for it.
    Planned,
    /// A process of the system ended, and the scenario had not asked for it.
    Ended,
    /// A connection was lost, or did not come about.
    Disconnected,
    /// Messages were refused, by the client or the server.
    Refused,
    /// Acknowledgements or commits did not come, or failed.
    Unacknowledged,
    /// Dead letters could not be followed.
    DeadLetter,
    /// The server reported an error.
    Server,
    /// The client reported one, or had to begin again.
    Client,
}
