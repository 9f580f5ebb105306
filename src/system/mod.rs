//! Systems: how what is measured comes up, is watched and goes away.
//!
//! A [`System`] is one server or cluster for the length of one trial: launched fresh on free ports
//! in a temporary folder, or already running at a URL. It knows nothing of clients or load; the
//! engine passes its URL to a driver and its process ids to the resource meter. Whatever it started
//! is gone when it is dropped, also when msgbench itself is killed (each child is told by the
//! kernel when its parent dies).

pub mod bridge;
mod certificates;
pub mod cpus;
mod delay;
#[cfg(feature = "kafka")]
pub mod kafka;
pub mod nats;
mod networks;
pub mod none;
mod own_program;
pub mod power;
mod process;
pub mod redis;
pub mod reference;
pub mod register;
pub mod scratch;
mod settings;
mod view;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

pub use cpus::CpuLimit;
pub use networks::{NodeLink, NodeNetworks};
pub use register::{Absent, CreateRequest, Provider, Providers};
pub use view::ClusterView;

use crate::plan::facts::{Durability, Stated};
use crate::plan::{Intruder, SystemSpec};
use crate::units::Nanos;
use power::PowerLoss;

/// What a system needs to come up.
#[derive(Debug, Clone)]
pub struct SystemContext {
    /// A folder of its own, removed by the caller after the trial.
    pub dir: PathBuf,
    /// Bound on coming up and on going away.
    pub timeout: Duration,
    /// What bounds the processor time of all its processes together.
    pub cpus: Option<Arc<CpuLimit>>,
}

/// A system that is up.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Running {
    /// Where clients connect to.
    pub url: String,
    /// The address of each of its servers that clients can be told to connect to, by name; empty
    /// where they cannot be told.
    pub places: BTreeMap<String, String>,
    /// Its processes on this host; empty when it runs elsewhere.
    pub pids: Vec<u32>,
    /// How long it took from the start of these until they took clients; whoever starts it says so.
    pub start: Option<Nanos>,
    /// How many settings stand in the file that its first server was started with, read back.
    pub written: Option<u32>,
    /// The process of a stream processor that runs beside it, where there is one: it is counted by
    /// itself.
    pub application: Option<u32>,
    /// What it is and which version, where that is known better from here than by its clients.
    pub version: Option<String>,
    /// Where it keeps messages, where that is known better from here than by its clients.
    pub durability: Option<Stated<Durability>>,
    /// Settings it was started with, or that were read back, that bear on guarantees or speed.
    pub settings: BTreeMap<String, String>,
    /// Options that its clients need besides those of the scenario: certificates and credentials
    /// made for the trial.
    pub client: serde_json::Map<String, serde_json::Value>,
    /// Who it must not let in: with credentials made for the trial that give no right to it.
    pub intruders: Vec<Intruder>,
}

/// A system under measurement. What is not said of one is that of a system that msgbench does not
/// run.
pub trait System: Send {
    /// Starts it, waits until it answers, and reads back what it is.
    ///
    /// # Errors
    /// When it does not answer within the bound; the error holds the last lines of its log.
    fn start(&mut self) -> Result<Running, SystemError>;

    /// The way it ended, if a process of it has ended by itself.
    fn ended(&mut self) -> Option<String> {
        None
    }

    /// The way one of its processes ended, in the order of [`Running::pids`], if it has ended.
    fn node_ended(&mut self, _node: usize) -> Option<String> {
        self.ended()
    }

    /// Kills one of its processes, unless it has ended already, and starts it again on the same
    /// port and with the same files. Does not wait until it answers. Returns the new process id.
    ///
    /// # Errors
    /// When it is not a process of ours, or could not be started.
    fn restart(&mut self, node: usize) -> Result<u32, String> {
        Err(format!("node {node} is no process that msgbench has started"))
    }

    /// Is told, before it starts, that each of its nodes is to have a network of its own.
    ///
    /// # Errors
    /// When its nodes cannot have one.
    fn isolate(&mut self) -> Result<(), String> {
        Err("its nodes have no network of their own".into())
    }

    /// Cuts one of its nodes off from the others and from its clients, shapes what goes between
    /// them, or makes it as it was.
    ///
    /// # Errors
    /// When the node has no network of its own, or the kernel refuses.
    fn link(&mut self, _node: usize, _link: NodeLink<'_>) -> Result<(), String> {
        Err("its nodes have no network of their own".into())
    }

    /// Before it is started: puts the files of each of its processes where they can lose their
    /// power.
    ///
    /// # Errors
    /// In words, when they cannot.
    fn on_power(&mut self) -> Result<(), String> {
        Err("its files cannot lose their power".to_owned())
    }

    /// Kills one of its processes, unless it has ended already, takes away what its files had not
    /// synced, and starts it again, as [`restart`](Self::restart) does.
    ///
    /// # Errors
    /// The same, and where the files cannot lose their power.
    fn power(&mut self, node: usize) -> Result<(u32, PowerLoss), String> {
        Err(format!("the files of node {node} cannot lose their power"))
    }

    /// Who can be asked about its nodes while it runs; none where nodes have no roles.
    fn view(&self) -> Option<Arc<dyn ClusterView>> {
        None
    }

    /// Stops it and waits until it is gone; kills it when it does not go within the bound. Does
    /// nothing twice.
    fn stop(&mut self) -> Result<(), SystemError> {
        Ok(())
    }

    /// Files worth keeping when a trial failed: its logs.
    fn logs(&self) -> Vec<PathBuf> {
        Vec::new()
    }

    /// Where it logged the faults that it was told to have; whole once it is stopped.
    fn fault_log(&self) -> Option<PathBuf> {
        None
    }
}

/// Whether a system can be launched here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Availability {
    /// It can.
    Found {
        program: PathBuf,
        /// What it says of its version.
        version: String,
    },
    /// It cannot.
    Missing {
        /// Why.
        reason: String,
        /// What would make it available.
        remedy: String,
    },
}

/// Why a system did not come up, or did not go away.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SystemError {
    /// It is not installed, or cannot be reached.
    #[error("{system} is not available: {reason}; {remedy}")]
    Unavailable {
        /// Name in the plan.
        system: String,
        /// Why.
        reason: String,
        /// What would make it available.
        remedy: String,
    },
    /// An option of it does not fit.
    #[error("{system}: {words}")]
    Option {
        /// Name in the plan.
        system: String,
        /// Which option, and what is allowed.
        words: String,
    },
    /// It was started and did not become ready.
    #[error("{system} did not come up: {words}{log}")]
    Start {
        /// Name in the plan.
        system: String,
        /// What was seen.
        words: String,
        /// The last lines of its log, each on a line of its own, or nothing.
        log: String,
    },
    /// It did not go away.
    #[error("{system} did not stop: {words}")]
    Stop {
        /// Name in the plan.
        system: String,
        /// What was seen.
        words: String,
    },
}

/// What to say of an option that only a launched system has, where there is a url; `written` are
/// those.
fn in_vain(spec: &SystemSpec, what: &str, written: impl IntoIterator<Item = String>) -> Result<(), SystemError> {
    match written.into_iter().next() {
        None => Ok(()),
        Some(option) => Err(SystemError::Option {
            system: spec.name.clone(),
            words: format!("option `{option}` is for a {what} that msgbench starts, and this one has a url"),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    use super::nats::{JetstreamType, NatsType};
    use crate::plan::BringUp;

    fn spec(driver: &str, bring_up: BringUp) -> SystemSpec {
        SystemSpec {
            name: "it".to_owned(),
            driver: driver.to_owned(),
            bring_up,
            require: false,
            cpus: None,
            options: serde_json::Map::new(),
        }
    }

    fn context() -> SystemContext {
        SystemContext { dir: std::env::temp_dir(), timeout: Duration::from_millis(200), cpus: None }
    }

    fn create(spec: &SystemSpec) -> Result<Box<dyn System>, SystemError> {
        let mut providers = Providers::default();
        providers.add(none::NullType);
        providers.add(NatsType);
        providers.add(JetstreamType);
        providers.create(spec, context())
    }

    #[test]
    fn null_has_no_process() {
        let mut system = create(&spec("null", BringUp::Launch)).unwrap();
        let running = system.start().unwrap();
        assert!(running.pids.is_empty());
        assert_eq!(system.ended(), None);
        assert!(system.logs().is_empty());
        system.stop().unwrap();
    }

    #[test]
    fn an_external_url_is_reached_for_and_not_launched() {
        let port = process::Held::new(1).unwrap().ports().unwrap()[0];
        let bring_up = BringUp::External { url: format!("nats://127.0.0.1:{port}") };
        let error = create(&spec("nats", bring_up)).unwrap().start().unwrap_err();
        let SystemError::Unavailable { system, reason, remedy } = error else { panic!("{error}") };
        assert_eq!(system, "it");
        assert!(reason.contains("refused"), "{reason}");
        assert!(remedy.contains("url in the scenario"), "{remedy}");
    }

    #[test]
    fn options_of_a_launched_server_are_refused_beside_a_url() {
        let bring_up = BringUp::External { url: "nats://127.0.0.1:1".to_owned() };
        let mut spec = spec("jetstream", bring_up);
        spec.options.insert("nodes".to_owned(), 3.into());
        let words = create(&spec).err().unwrap().to_string();
        assert_eq!(words, "it: option `nodes` is for a server that msgbench starts, and this one has a url");
    }

    /// The drivers' error for a message that is too large names this option.
    #[test]
    fn whatever_speaks_nats_and_is_launched_has_a_largest_payload() {
        for of_type in [NatsType.describe(), JetstreamType.describe(), reference::ReferenceType.describe()] {
            let names: Vec<String> = of_type.options.iter().flat_map(|set| set.names()).collect();
            assert!(names.iter().any(|name| name == "max-payload"), "{}", of_type.name);
        }
    }

    #[test]
    fn a_type_that_is_not_there_is_named() {
        let words = create(&spec("natz", BringUp::Launch)).err().unwrap().to_string();
        assert!(words.contains("no driver `natz`"), "{words}");
    }
}
