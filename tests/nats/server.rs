//! A real nats-server for the tests.

use std::time::Duration;

use msgbench::engine::Register;
use msgbench::plan::{BringUp, SystemSpec};
use msgbench::system::{Running, System, SystemContext};
use serde_json::Value;

use crate::needs;

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

impl Server {
    /// Launches it as `driver` would have it; `None` where there is no nats-server, and the test is
    /// skipped.
    pub fn launch(driver: &str, options: Value) -> Option<Self> {
        needs::nats_server()?;
        let dir = tempfile::tempdir().unwrap();
        let name = driver.to_owned();
        let spec = SystemSpec {
            name,
            driver: driver.to_owned(),
            bring_up: BringUp::Launch,
            require: true,
            cpus: None,
            options: options.as_object().unwrap().clone(),
        };
        let context = SystemContext { dir: dir.path().to_owned(), timeout: Duration::from_secs(30), cpus: None };
        let mut system = Register::built_in().create(&spec, context).unwrap();
        let running = system.start().unwrap();
        Some(Self { running, system, _dir: dir })
    }
}
