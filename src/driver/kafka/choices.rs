//! The words that options choose from.

use schemars::JsonSchema;
use serde::Deserialize;

use super::scalar::Scalar;
use crate::plan::ReconnectPace;

/// What makes a client try again as soon as others do: see [`ReconnectPace::Fast`].
const FAST: [(&str, &str); 7] = [
    ("reconnect.backoff.ms", "10"),
    ("reconnect.backoff.max.ms", "10"),
    ("retry.backoff.ms", "10"),
    ("retry.backoff.max.ms", "10"),
    ("topic.metadata.refresh.fast.interval.ms", "10"),
    ("socket.connection.setup.timeout.ms", "1000"),
    ("socket.timeout.ms", "2000"),
];

/// What a client is told of how soon it tries again.
pub(super) fn pace(pace: ReconnectPace) -> &'static [(&'static str, &'static str)] {
    match pace {
        ReconnectPace::Usual => &[],
        ReconnectPace::Fast => &FAST,
    }
}

/// Who must have a message before it is acknowledged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(try_from = "Scalar")]
pub(super) enum Acks {
    None,
    Leader,
    All,
}

impl TryFrom<Scalar> for Acks {
    type Error = String;
    fn try_from(value: Scalar) -> Result<Self, String> {
        match value.to_string().as_str() {
            "0" => Ok(Self::None),
            "1" => Ok(Self::Leader),
            "all" | "-1" => Ok(Self::All),
            other => Err(format!("it is 0, 1 or \"all\", not {other:?}")),
        }
    }
}

impl Acks {
    /// As requests have it.
    pub(super) fn number(self) -> i16 {
        match self {
            Self::None => 0,
            Self::Leader => 1,
            Self::All => -1,
        }
    }

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::None => "0",
            Self::Leader => "1",
            Self::All => "all",
        }
    }
}

/// What sends messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub(super) enum ProducerClient {
    /// librdkafka.
    Librdkafka,
    /// msgbench itself, in Kafka's protocol: plain connections, no compression, keys, idempotence
    /// or transactions; nothing is sent again, and a lost connection ends the trial.
    Wire,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Compression {
    None,
    Lz4,
    Zstd,
    Gzip,
    Snappy,
}

/// How consumers come by their partitions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub(super) enum PartitionAssignment {
    /// The broker's group protocol deals them out.
    Group,
    /// msgbench does, in turn; nothing is committed unless asked for.
    Assign,
    /// They have none of their own: a share group hands out single messages, each of which is
    /// acknowledged.
    Share,
    /// Each is the only one of its group and reads all partitions, by msgbench itself in Kafka's
    /// protocol: plain connections, no answers, no rejected messages.
    Wire,
}

/// Who deals partitions out to the members of a group.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub(super) enum GroupProtocol {
    /// A member does, and all stop meanwhile.
    Classic,
    /// The broker does (KIP-848), with each member by itself.
    Consumer,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Assignor {
    Range,
    Roundrobin,
    CooperativeSticky,
}

/// When a consumer commits how far it has read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub(super) enum CommitMode {
    /// librdkafka does, every `commit-interval`.
    Auto,
    /// After each batch, and the next batch waits for it.
    Sync,
    /// After each batch, without waiting.
    Async,
    /// Never.
    None,
}

/// Whether messages of unfinished and aborted transactions are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Isolation {
    ReadCommitted,
    ReadUncommitted,
}

impl Isolation {
    pub(super) fn setting(self) -> &'static str {
        match self {
            Self::ReadCommitted => "read_committed",
            Self::ReadUncommitted => "read_uncommitted",
        }
    }
}

/// Who copies messages from the topic that is published to into the one that consumers read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Transform {
    /// A loop of msgbench's own: consume, produce, commit.
    Client,
    /// An application of Kafka Streams, which a launched system starts.
    Streams,
}

/// How exactly-once is reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub(super) enum ExactlyOnce {
    /// Messages go through an input topic, a transformer that copies them within transactions, and
    /// an output topic.
    Transactional,
}
