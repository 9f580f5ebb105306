//! What producers of msgbench's own make of the options of a Kafka system, and what they lack.

use super::choices::{Acks, Compression, ProducerClient};
use super::options::KafkaOptions;
use super::wire::BatchRules;
use crate::units::Span;

/// librdkafka's defaults of linger.ms and batch.size.
const LINGER: Span = Span::millis(5);
const BATCH: usize = 1_000_000;

impl KafkaOptions {
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

    /// How producers of msgbench's own gather messages, by the defaults of librdkafka.
    pub(super) fn batch_rules(&self) -> BatchRules {
        BatchRules {
            acks: self.acks.number(),
            linger: self.linger.unwrap_or(LINGER).0,
            size: self.batch_size.map_or(BATCH, |size| usize::try_from(size.0).unwrap_or(usize::MAX)),
        }
    }
}
