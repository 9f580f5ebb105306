//! From what was measured to the outcome of a check.

use crate::record::{Check, Status};

/// WARN above `warn`, INVALID above `invalid`.
pub(super) fn grade(value: f64, warn: f64, invalid: f64) -> Status {
    match value {
        v if v > invalid => Status::Invalid,
        v if v > warn => Status::Warn,
        _ => Status::Ok,
    }
}

/// A check; `message` says what it means where it is not OK.
pub(super) fn check(id: &str, name: &str, status: Status, observed: String, threshold: &str, message: &str) -> Check {
    let message = if status == Status::Ok { String::new() } else { message.into() };
    Check { id: id.into(), name: name.into(), status, observed, threshold: threshold.into(), message }
}
