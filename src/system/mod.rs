//! Systems: how what is measured comes up, is watched and goes away.
//!
//! A [`System`] is one server or cluster for the length of one trial: launched fresh on free ports in a temporary folder,
//! or already running at a URL. It knows nothing of clients or load; the engine passes its URL to a driver and its
//! process ids to the resource meter. Whatever it started is gone when it is dropped, also when msgbench itself is
//! killed (each child is told by the kernel when its parent dies).

#[cfg(feature = "kafka")]
mod bridge;
mod external;
#[cfg(feature = "kafka")]
mod kafka;
mod nats;
mod none;
mod process;
pub mod reference;
pub mod scratch;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::scenario::options::{self as schema, Options, keys};
use crate::scenario::plan::{BringUp, DriverKind, SystemSpec};

/// Names the program that is started as the reference broker instead of the running one: a test binary is no broker.
const PROGRAM_VARIABLE: &str = "MSGBENCH_BIN";

/// Names the nats-server to start.
const NATS_VARIABLE: &str = "MSGBENCH_NATS_SERVER";

/// What a system needs to come up.
#[derive(Debug, Clone)]
pub struct Context {
    /// A folder of its own, removed by the caller after the trial.
    pub dir: PathBuf,
    /// Bound on coming up and on going away.
    pub timeout: Duration,
}

/// A system that is up.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Running {
    /// Where clients connect to.
    pub url: String,
    /// Its processes on this host; empty when it runs elsewhere.
    pub pids: Vec<u32>,
    /// Settings it was started with, or that were read back, that bear on guarantees or speed.
    pub settings: BTreeMap<String, String>,
    /// Options that its clients need besides those of the scenario: certificates and credentials made for the trial.
    pub client: serde_json::Map<String, serde_json::Value>,
}

/// A system under measurement. What is not said of one is that of a system that msgbench does not run.
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

    /// Kills one of its processes, unless it has ended already, and starts it again on the same port and with the same files.
    /// Does not wait until it answers. Returns the new process id.
    ///
    /// # Errors
    /// When it is not a process of ours, or could not be started.
    fn restart(&mut self, node: usize) -> Result<u32, String> {
        Err(format!("node {node} is no process that msgbench has started"))
    }

    /// Stops it and waits until it is gone; kills it when it does not go within the bound. Does nothing twice.
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
        /// The program.
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

/// The system that `spec` asks for, not yet started.
///
/// # Errors
/// When it is to be launched and its program is not here.
pub fn create(spec: &SystemSpec, context: Context) -> Result<Box<dyn System>, SystemError> {
    if spec.driver == DriverKind::Null {
        return Ok(Box::new(none::NoSystem));
    }
    let wrong = |words: String| SystemError::Option { system: spec.name.clone(), words };
    #[cfg(feature = "kafka")]
    if spec.driver == DriverKind::Bridge {
        return Ok(Box::new(bridge::Pair::new(spec, &context)?));
    }
    #[cfg(feature = "kafka")]
    if let (DriverKind::Kafka, BringUp::External { url }) = (spec.driver, &spec.bring_up) {
        if spec.options.contains_key("broker") {
            return Err(wrong("option `broker` is for brokers that msgbench starts, and this system has a url".into()));
        }
        return Ok(Box::new(kafka::External::new(&spec.name, url, context.timeout)));
    }
    if let (BringUp::External { url }, false) = (&spec.bring_up, spec.driver == DriverKind::Kafka) {
        let nats = matches!(spec.driver, DriverKind::Nats | DriverKind::Jetstream);
        let vain = if nats { nats::options::Launch::written(&spec.options) } else { Vec::new() };
        if let Some(option) = vain.first() {
            return Err(wrong(format!(
                "option `{option}` is for a server that msgbench starts, and this one has a url"
            )));
        }
        let monitor = spec.options.get("monitor").and_then(|v| v.as_str());
        return Ok(Box::new(external::External::new(&spec.name, url, monitor, context.timeout)));
    }
    let program = match availability(spec.driver) {
        Availability::Found { program, .. } => program,
        Availability::Missing { reason, remedy } => {
            return Err(SystemError::Unavailable { system: spec.name.clone(), reason, remedy });
        }
    };
    Ok(match spec.driver {
        DriverKind::Nats | DriverKind::Jetstream => {
            let launch = nats::options::Launch::from_options(&spec.options).map_err(wrong)?;
            Box::new(nats::Nats::new(&spec.name, program, launch, spec.driver == DriverKind::Jetstream, context))
        }
        #[cfg(feature = "kafka")]
        DriverKind::Kafka => {
            let options = kafka::BrokerOptions::read(&spec.options).map_err(wrong)?;
            Box::new(kafka::Kafka::new(&spec.name, program, options, context))
        }
        // Never found by `availability`.
        #[cfg(not(feature = "kafka"))]
        DriverKind::Kafka => Box::new(none::NoSystem),
        // Made above, from its two parts.
        DriverKind::Bridge => Box::new(none::NoSystem),
        DriverKind::Reference => Box::new(reference::Reference::new(&spec.name, program, &spec.options, context)),
        DriverKind::Null => Box::new(none::NoSystem),
    })
}

/// The systems that one of this kind is made of, with the options of each; none where it is one itself.
///
/// # Errors
/// The option that does not fit, and what is allowed.
pub fn parts(kind: DriverKind, options: &Options) -> Result<Vec<(DriverKind, Options)>, String> {
    // Without Kafka there is no bridge, and `create` says so.
    #[cfg(not(feature = "kafka"))]
    let _ = options;
    match kind {
        #[cfg(feature = "kafka")]
        DriverKind::Bridge => bridge::parts(options).map(Vec::from),
        _ => Ok(Vec::new()),
    }
}

/// Checks the options of a launched system of this kind and gives the names of all there are.
///
/// # Errors
/// The option that does not fit, and what is allowed.
pub fn options(kind: DriverKind, options: &Options) -> Result<Vec<String>, String> {
    Ok(match kind {
        DriverKind::Nats | DriverKind::Jetstream => {
            nats::options::Launch::from_options(options)?;
            keys::<nats::options::Launch>()
        }
        DriverKind::Reference => reference::options(),
        #[cfg(feature = "kafka")]
        DriverKind::Kafka => {
            kafka::BrokerOptions::read(options)?;
            vec!["broker".to_owned()]
        }
        #[cfg(not(feature = "kafka"))]
        DriverKind::Kafka => Vec::new(),
        DriverKind::Bridge | DriverKind::Null => Vec::new(),
    })
}

/// The schema of the options of a launched system of this kind; see [`crate::driver::shape`].
pub fn shape(kind: DriverKind) -> serde_json::Value {
    match kind {
        DriverKind::Nats | DriverKind::Jetstream => schema::shape::<nats::options::Launch>(),
        #[cfg(feature = "kafka")]
        DriverKind::Kafka => {
            serde_json::json!({ "properties": { "broker": schema::shape::<kafka::BrokerOptions>() } })
        }
        #[cfg(not(feature = "kafka"))]
        DriverKind::Kafka => schema::joined([]),
        DriverKind::Reference | DriverKind::Bridge | DriverKind::Null => schema::joined([]),
    }
}

/// The secrets that stand in the options of a launched system of this kind.
pub fn secrets(kind: DriverKind, options: &Options) -> Vec<String> {
    schema::secrets(&shape(kind), options)
}

/// Whether a system of this kind can be launched here, and what would make it so.
pub fn availability(kind: DriverKind) -> Availability {
    match kind {
        DriverKind::Nats | DriverKind::Jetstream => {
            nats::availability(std::env::var_os(NATS_VARIABLE), std::env::var_os("PATH"))
        }
        #[cfg(feature = "kafka")]
        DriverKind::Kafka => kafka::availability(std::env::var_os(kafka::VARIABLE)),
        #[cfg(not(feature = "kafka"))]
        DriverKind::Kafka => Availability::Missing {
            reason: "this msgbench was built without Kafka".to_owned(),
            remedy: "build it with the cargo feature `kafka`, which is on by default".to_owned(),
        },
        // As far as its parts are: they say so themselves when they are made.
        DriverKind::Bridge => match availability(DriverKind::Nats) {
            Availability::Found { .. } => availability(DriverKind::Kafka),
            missing @ Availability::Missing { .. } => missing,
        },
        DriverKind::Reference => itself(std::env::var_os(PROGRAM_VARIABLE).as_deref().map(Path::new)),
        DriverKind::Null => itself(None),
    }
}

fn itself(explicit: Option<&Path>) -> Availability {
    match reference::program(explicit) {
        Ok(program) => Availability::Found { program, version: env!("CARGO_PKG_VERSION").to_owned() },
        Err(error) => Availability::Missing {
            reason: format!("the msgbench program cannot be found: {error}"),
            remedy: format!("set {PROGRAM_VARIABLE} to the path of msgbench, or unset it"),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(driver: DriverKind, bring_up: BringUp) -> SystemSpec {
        SystemSpec { name: "it".to_owned(), driver, bring_up, require: false, options: serde_json::Map::new() }
    }

    fn context() -> Context {
        Context { dir: std::env::temp_dir(), timeout: Duration::from_millis(200) }
    }

    #[test]
    fn null_has_no_process() {
        let mut system = create(&spec(DriverKind::Null, BringUp::Launch), context()).unwrap();
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
        let error = create(&spec(DriverKind::Nats, bring_up), context()).unwrap().start().unwrap_err();
        let SystemError::Unavailable { system, reason, remedy } = error else { panic!("{error}") };
        assert_eq!(system, "it");
        assert!(reason.contains("refused"), "{reason}");
        assert!(remedy.contains("url in the scenario"), "{remedy}");
    }

    #[test]
    fn options_of_a_launched_server_are_refused_beside_a_url() {
        let bring_up = BringUp::External { url: "nats://127.0.0.1:1".to_owned() };
        let mut spec = spec(DriverKind::Jetstream, bring_up);
        spec.options.insert("nodes".to_owned(), 3.into());
        let words = create(&spec, context()).err().unwrap().to_string();
        assert_eq!(words, "it: option `nodes` is for a server that msgbench starts, and this one has a url");
    }

    /// The drivers' error for a message that is too large names this option.
    #[test]
    fn whatever_speaks_nats_and_is_launched_has_a_largest_payload() {
        for kind in [DriverKind::Nats, DriverKind::Jetstream, DriverKind::Reference] {
            assert!(options(kind, &Options::new()).unwrap().iter().any(|name| name == "max-payload"), "{kind:?}");
        }
    }

    #[test]
    fn availability_names_the_program_or_the_remedy() {
        assert!(matches!(itself(None), Availability::Found { program, .. } if program.is_absolute()));
        let Availability::Missing { remedy, .. } = itself(Some(Path::new("/no/such/msgbench"))) else {
            panic!("found what is not there");
        };
        assert!(remedy.contains("MSGBENCH_BIN"));
    }
}
