//! The one module of the Kafka face that the log's target needs, under the name it has in the
//! project.

#[path = "../../../src/broker/kafka/batch.rs"]
pub mod batch;
