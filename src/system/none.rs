//! No system at all: the null driver takes and returns messages within msgbench itself.

use super::{Availability, CreateRequest, Provider, Running, System, SystemError, reference};
use crate::plan::{SystemSpec, SystemType};

/// `driver = "null"`.
#[derive(Debug, Clone, Copy)]
pub struct NullType;

impl Provider for NullType {
    fn describe(&self) -> SystemType {
        SystemType {
            lacks: |w| (w.topology.reply || w.delivery.backlog > 0).then_some("the null driver delivers nothing"),
            external: false,
            processes: false,
            ..SystemType::new("null", "Takes and returns every message at once, in process: the floor of the harness.")
        }
    }
    fn availability(&self) -> Availability {
        reference::itself(None)
    }
    fn create(&self, _: &SystemSpec, _: CreateRequest<'_>) -> Result<Box<dyn System>, SystemError> {
        Ok(Box::new(NoSystem))
    }
}

/// Nothing to start, nothing to watch.
#[derive(Debug, Default)]
pub struct NoSystem;

impl System for NoSystem {
    fn start(&mut self) -> Result<Running, SystemError> {
        Ok(Running { url: "null:".to_owned(), ..Running::default() })
    }
}
