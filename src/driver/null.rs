//! The null driver: takes and confirms every message at once, in process. What it measures is the
//! harness itself.

use super::{
    ClientSlot, Confirmation, Consumer, Delivery, Driver, DriverError, Facts, Guarantees, Incidents, MessageSink,
    Outgoing, Producer, Start, Stated, Target,
};
use crate::plan::Workload;
use crate::units::{Nanos, now};

#[derive(Debug)]
pub struct NullDriver {
    facts: Facts,
    incidents: Incidents,
}

impl Driver for NullDriver {
    type Producer = NullProducer;
    type Consumer = NullConsumer;
    const DELIVERS: bool = false;

    fn joins(_: &Workload) -> Result<(), &'static str> {
        Ok(())
    }

    async fn prepare(_: Target, _: &[Workload]) -> Result<Self, DriverError> {
        let delivery = Stated::new(Delivery::Nothing, "none: messages are confirmed and dropped");
        let facts = Facts {
            version: env!("CARGO_PKG_VERSION").into(),
            client: "in process".into(),
            guarantees: Guarantees { delivery, ..Guarantees::default() },
            ..Facts::default()
        };
        Ok(Self { facts, incidents: Incidents::default() })
    }
    fn facts(&self) -> &Facts {
        &self.facts
    }
    fn incidents(&self) -> &Incidents {
        &self.incidents
    }
    async fn producer(&self, _: ClientSlot) -> Result<NullProducer, DriverError> {
        Ok(NullProducer { confirmed: Vec::with_capacity(64) })
    }
    async fn consumer(&self, _: ClientSlot, _: Start) -> Result<NullConsumer, DriverError> {
        Ok(NullConsumer)
    }
    async fn cleanup(self) -> Result<(), DriverError> {
        Ok(())
    }
}

/// Confirms what it is given.
#[derive(Debug)]
pub struct NullProducer {
    confirmed: Vec<(u64, Nanos)>,
}

impl Producer for NullProducer {
    fn confirms(&self) -> bool {
        true
    }
    async fn send(&mut self, message: Outgoing<'_>) -> Result<(), DriverError> {
        self.confirmed.push((message.token, now()));
        Ok(())
    }
    async fn flush(&mut self) -> Result<(), DriverError> {
        Ok(())
    }
    async fn confirmed(&mut self, sink: &mut impl FnMut(Confirmation<'_>)) -> Result<(), DriverError> {
        if self.confirmed.is_empty() {
            std::future::pending::<()>().await;
        }
        for (token, at) in self.confirmed.drain(..) {
            sink(Confirmation::Acked { token, at });
        }
        Ok(())
    }
    async fn close(self) -> Result<(), DriverError> {
        Ok(())
    }
}

/// Never receives.
#[derive(Debug)]
pub struct NullConsumer;

impl Consumer for NullConsumer {
    async fn receive(&mut self, _: &mut impl MessageSink, _: usize) -> Result<(), DriverError> {
        std::future::pending().await
    }
}
