//! No system at all: the null driver takes and returns messages within msgbench itself.

use super::{Running, System, SystemError};

/// Nothing to start, nothing to watch.
#[derive(Debug, Default)]
pub struct NoSystem;

impl System for NoSystem {
    fn start(&mut self) -> Result<Running, SystemError> {
        Ok(Running { url: "null:".to_owned(), ..Running::default() })
    }
}
