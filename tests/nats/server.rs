//! A real nats-server for the tests. They skip, and say so, where there is none.

use std::time::Duration;

use msgbench::engine::Register;
use msgbench::plan::{BringUp, SystemSpec};
use msgbench::system::{Availability, Running, System, SystemContext};
use serde_json::Value;

/// A launched nats-server, stopped when it is dropped.
pub struct Server {
    pub running: Running,
    system: Box<dyn System>,
    _dir: tempfile::TempDir,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.system.stop().unwrap();
    }
}

/// The version of the nats-server that is here; `None`, said aloud, when there is none and skipping
/// is allowed.
pub fn version() -> Option<String> {
    match Register::built_in().availability("nats") {
        Availability::Found { version, .. } => Some(version),
        Availability::Missing { reason, remedy } => {
            let forced = std::env::var_os("MSGBENCH_NO_SKIP").is_some_and(|value| value == "1");
            assert!(!forced, "MSGBENCH_NO_SKIP=1, but {reason}; {remedy}");
            eprintln!("SKIPPED: {reason}; {remedy}");
            None
        }
    }
}

impl Server {
    /// Launches it as `driver` would have it; `None` when there is no nats-server here.
    pub fn launch(driver: &str, options: Value) -> Option<Self> {
        version()?;
        let dir = tempfile::tempdir().unwrap();
        let name = driver.to_owned();
        let spec = SystemSpec {
            name,
            driver: driver.to_owned(),
            bring_up: BringUp::Launch,
            require: true,
            options: options.as_object().unwrap().clone(),
        };
        let context = SystemContext { dir: dir.path().to_owned(), timeout: Duration::from_secs(30) };
        let mut system = Register::built_in().create(&spec, context).unwrap();
        let running = system.start().unwrap();
        Some(Self { running, system, _dir: dir })
    }
}
