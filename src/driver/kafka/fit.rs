//! Whether the options of a Kafka system go together, and what producers of msgbench's own make of
//! them.

use super::choices::{Acks, CommitMode, Compression, PartitionAssignment, ProducerClient, Transform};
use super::options::KafkaOptions;
use super::retry;
use super::wire::BatchRules;
use crate::plan::Workload;
use crate::units::Span;

/// librdkafka's defaults of linger.ms and batch.size.
const LINGER: Span = Span::millis(5);
const BATCH: usize = 1_000_000;

impl KafkaOptions {
    /// Whether what is written goes with messages that are copied to another topic.
    pub(super) fn fit_for_transforming(&self) -> Result<(), String> {
        let what = match (self.exactly_once, self.transform) {
            (Some(_), _) => "transactions",
            (None, Some(_)) => "option `transform`: messages that are copied",
            (None, None) => return Ok(()),
        };
        if self.existing_topic.is_some() {
            return Err(format!("{what} need topics of their own; remove `existing-topic`"));
        }
        let grouped = matches!(self.consumers, PartitionAssignment::Group | PartitionAssignment::Wire);
        if self.acks != Acks::All || !grouped {
            let option = if self.exactly_once.is_some() { "exactly-once" } else { "transform" };
            return Err(format!(
                "{what} need acks = \"all\" and consumers in groups; remove `acks` and `consumers`, or `{option}`"
            ));
        }
        let none = |v: &serde_json::Value| v.is_null() || *v == false || *v == "none";
        let secured = ["tls", "sasl", "acls"].iter().any(|key| self.broker.get(*key).is_some_and(|v| !none(v)));
        if self.transform == Some(Transform::Streams) && (self.tls.is_some() || self.sasl.is_some() || secured) {
            return Err(
                "option `transform`: the application of Kafka Streams has neither TLS nor SASL; remove `tls`, \
                        `sasl` and `acls`, or use \"client\""
                    .into(),
            );
        }
        Ok(())
    }

    /// Whether what is written goes with share groups, or without them.
    pub(super) fn fit_for_sharing(&self) -> Result<(), String> {
        if self.consumers != PartitionAssignment::Share {
            return match self.share {
                Some(_) => Err("option `share`: it is for consumers = \"share\"; add that, or remove it".into()),
                None => Ok(()),
            };
        }
        self.share().check()?;
        let against = [
            ("assignor", self.assignor.is_some()),
            ("static-members", self.static_members),
            ("commit", self.commit != CommitMode::Auto),
            ("tls", self.tls.is_some()),
            ("sasl", self.sasl.as_ref().is_some_and(|s| !s.is_plain())),
        ];
        match against.iter().find(|(_, written)| *written) {
            Some((option, _)) => Err(format!(
                "option `{option}`: members of share groups do not have it; remove it, or consumers = \"share\""
            )),
            None => Ok(()),
        }
    }

    /// Whether what is written goes with producers of msgbench's own.
    pub(super) fn fit_for_wire(&self) -> Result<(), String> {
        if self.producers != ProducerClient::Wire {
            return Ok(());
        }
        let against = [
            ("acks", self.acks == Acks::None),
            ("idempotence", self.idempotence),
            ("compression", self.compression.is_some_and(|c| c != Compression::None)),
            ("partitioner", self.partitioner.is_some()),
            ("exactly-once", self.exactly_once.is_some()),
            ("tls", self.tls.is_some()),
            ("sasl", self.sasl.as_ref().is_some_and(|s| !s.is_plain())),
        ];
        match against.iter().find(|(_, written)| *written) {
            Some((option, _)) => {
                Err(format!("option `{option}`: producers = \"wire\" do not have that; remove one of the two"))
            }
            None => Ok(()),
        }
    }

    /// Whether what is written goes with consumers of msgbench's own.
    pub(super) fn fit_for_fetching(&self) -> Result<(), String> {
        if self.consumers != PartitionAssignment::Wire {
            return Ok(());
        }
        let against = [
            ("assignor", self.assignor.is_some()),
            ("static-members", self.static_members),
            ("tls", self.tls.is_some()),
            ("sasl", self.sasl.as_ref().is_some_and(|s| !s.is_plain())),
        ];
        match against.iter().find(|(_, written)| *written) {
            Some((option, _)) => {
                Err(format!("option `{option}`: consumers = \"wire\" do not have that; remove one of the two"))
            }
            None => Ok(()),
        }
    }

    /// Whether consumers of msgbench's own do what a workload asks for.
    pub(super) fn suit_fetching(&self, w: &Workload) -> Result<(), String> {
        if self.consumers != PartitionAssignment::Wire {
            return Ok(());
        }
        let members = w.topology.members;
        let what = match () {
            () if w.topology.reply => "responders, and \"wire\" answers nothing".to_owned(),
            () if retry::wanted(w) => "rejected messages, and \"wire\" rejects none".to_owned(),
            () if members > 1 => {
                format!("groups of {members} consumers, and \"wire\" has one in a group, without the group protocol")
            }
            () => return Ok(()),
        };
        Err(format!("option `consumers`: {} has {what}; use \"group\"", w.name))
    }

    /// How producers of msgbench's own gather messages, by the defaults of librdkafka.
    pub(super) fn batch_rules(&self) -> BatchRules {
        BatchRules {
            acks: self.acks.number(),
            linger: self.linger.unwrap_or(LINGER).0,
            size: self.batch_size.map_or(BATCH, |size| usize::try_from(size.0).unwrap_or(usize::MAX)),
        }
    }
}
