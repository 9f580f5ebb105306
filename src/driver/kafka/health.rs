//! Errors that a client reports about its connections, and which of them end a trial.
//!
//! librdkafka reconnects without end. What can only fail again (credentials, certificates, a fatal
//! error) ends a trial at once; brokers that are all gone end it when they stay away longer than
//! the bound on a connection.

use std::ffi::c_int;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use rdkafka::types::RDKafkaRespErr as Code;

use crate::driver::{DriverError, Incident, Incidents};

#[derive(Debug)]
pub(super) struct ConnectionHealth {
    url: String,
    patience: Duration,
    incidents: Incidents,
    any: AtomicBool,
    state: Mutex<HealthState>,
}

#[derive(Debug, Default)]
struct HealthState {
    fatal: Option<String>,
    last: Option<String>,
    down_since: Option<Instant>,
}

impl ConnectionHealth {
    /// `patience` bounds how long all brokers may be away.
    pub(super) fn new(url: &str, patience: Duration, incidents: &Incidents) -> Self {
        Self {
            url: url.into(),
            patience,
            incidents: incidents.clone(),
            any: AtomicBool::new(false),
            state: Mutex::default(),
        }
    }

    /// Notes an error of the client as a whole.
    pub(super) fn note_error(&self, code: c_int, reason: String) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let is = |which: Code| code == which as c_int;
        if is(Code::RD_KAFKA_RESP_ERR__ALL_BROKERS_DOWN) {
            state.down_since.get_or_insert_with(Instant::now);
            self.incidents.note(Incident::Disconnected, reason);
        } else {
            let fatal = [
                Code::RD_KAFKA_RESP_ERR__AUTHENTICATION,
                Code::RD_KAFKA_RESP_ERR__SSL,
                Code::RD_KAFKA_RESP_ERR__FATAL,
                Code::RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED,
                Code::RD_KAFKA_RESP_ERR_GROUP_AUTHORIZATION_FAILED,
                Code::RD_KAFKA_RESP_ERR_CLUSTER_AUTHORIZATION_FAILED,
            ];
            if fatal.into_iter().any(is) {
                state.fatal.get_or_insert_with(|| reason.clone());
            }
            if is(Code::RD_KAFKA_RESP_ERR__TRANSPORT) {
                self.incidents.disconnected(reason.clone());
            } else {
                self.incidents.note(Incident::Client, reason.clone());
            }
            state.last = Some(reason);
        }
        self.any.store(true, Ordering::Release);
    }

    /// Something came through: whatever was down is back.
    #[inline]
    pub(super) fn note_recovery(&self) {
        if self.any.load(Ordering::Acquire) {
            let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
            state.down_since = None;
            self.any.store(state.fatal.is_some(), Ordering::Release);
        }
    }

    /// Whether there is no use in going on.
    #[inline]
    pub(super) fn check(&self) -> Result<(), DriverError> {
        if !self.any.load(Ordering::Acquire) {
            return Ok(());
        }
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let lost = |words: String| Err(DriverError::Lost { url: self.url.clone(), words });
        if let Some(fatal) = &state.fatal {
            return lost(fatal.clone());
        }
        match state.down_since {
            Some(since) if since.elapsed() > self.patience => {
                let last = state.last.as_deref().unwrap_or("no broker answers");
                lost(format!("all brokers are away for more than {} s: {last}", self.patience.as_secs_f64()))
            }
            _ => Ok(()),
        }
    }

    /// The latest error, for one that says less.
    pub(super) fn last(&self) -> Option<String> {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.fatal.clone().or_else(|| state.last.clone())
    }

    /// Whether an error was reported that can only come again.
    pub(super) fn is_fatal(&self) -> bool {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).fatal.is_some()
    }

    /// Whether no broker is there now.
    pub(super) fn down(&self) -> bool {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).down_since.is_some()
    }

    pub(super) fn url(&self) -> &str {
        &self.url
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn health(patience: Duration) -> ConnectionHealth {
        ConnectionHealth::new("kafka://here", patience, &Incidents::default())
    }

    #[test]
    fn wrong_credentials_end_it_at_once() {
        let t = health(Duration::from_secs(60));
        assert_eq!(t.check(), Ok(()));
        t.note_error(Code::RD_KAFKA_RESP_ERR__AUTHENTICATION as c_int, "wrong password".into());
        t.note_recovery();
        assert_eq!(t.check().unwrap_err().to_string(), "connection to kafka://here lost: wrong password");
        assert!(t.is_fatal());
    }

    #[test]
    fn brokers_that_are_away_are_waited_for_up_to_the_bound() {
        let t = health(Duration::from_secs(1));
        t.note_error(Code::RD_KAFKA_RESP_ERR__TRANSPORT as c_int, "Connection refused".into());
        t.note_error(Code::RD_KAFKA_RESP_ERR__ALL_BROKERS_DOWN as c_int, "1/1 brokers are down".into());
        assert_eq!(t.check(), Ok(()));
        std::thread::sleep(Duration::from_millis(1100));
        let told = t.check().unwrap_err().to_string();
        assert!(told.contains("all brokers are away for more than 1 s: Connection refused"), "{told}");
        t.note_recovery();
        assert_eq!(t.check(), Ok(()));
        assert!(!t.is_fatal());
    }
}
